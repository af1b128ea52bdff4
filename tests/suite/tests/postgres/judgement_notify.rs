//! A notification sent to ourselves: seen when it hangs, and gone when it is done.

use std::time::Duration;

use ops_core::{Context, HealthProbe, Limits, ProbeResult, ProbeSet, Secret, Status};
use ops_pg::cluster::Cluster;
use ops_pg::{PgConfig, PgTarget};
use ops_testkit::{TestDb, eventually, local_options, on_each_postgres, or_skip};
use sqlx::{Connection, Executor, PgConnection};

use crate::rows::{AbortOnDrop, probe_named};

async fn look(target: &PgTarget, probe: &str) -> ProbeResult {
    let probe = probe_named(probe);
    let mut set = ProbeSet::new("test");
    target.add_to(&mut set, probe, Limits::defaults(probe.spec()));
    set.run(&Context::new().with_window_gap(Duration::from_millis(200))).await.probes.remove(0)
}

fn target(url: String) -> PgTarget {
    PgTarget::connect_lazily("main", &Secret::from(url), PgConfig::default()).unwrap()
}

on_each_postgres!(nobody_listens_when_it_is_done, async |db: TestDb| {
    let result = look(&target(db.url()), "pg.notify_latency").await;
    assert_eq!(result.status, Status::Ok, "{result:#?}");
    let mut watch = db.connect().await.unwrap();
    eventually("the connection that listened is closed", Duration::from_secs(5), async || {
        let ours = "SELECT count(*) FROM pg_stat_activity
                     WHERE datname = current_database() AND application_name LIKE 'ops:%'";
        (sqlx::query_scalar::<_, i64>(ours).fetch_one(&mut watch).await.unwrap() == 0).then_some(())
    })
    .await;
    watch.close().await.unwrap();
});

// Given up at any point, it leaves neither a connection nor a listener.
on_each_postgres!(nobody_listens_when_it_is_given_up, async |db: TestDb| {
    for milliseconds in [2, 5, 10, 15, 20, 30] {
        let (target, probe) = (target(db.url()), probe_named("pg.notify_latency"));
        let bound = target.bind(probe, Limits::defaults(probe.spec()));
        let cx = Context::new();
        let _ = tokio::time::timeout(Duration::from_millis(milliseconds), bound.probe(&cx)).await;
    }
    let mut watch = db.connect().await.unwrap();
    eventually("every connection is closed", Duration::from_secs(5), async || {
        let ours = "SELECT count(*) FROM pg_stat_activity
                     WHERE datname = current_database() AND application_name LIKE 'ops:%'";
        (sqlx::query_scalar::<_, i64>(ours).fetch_one(&mut watch).await.unwrap() == 0).then_some(())
    })
    .await;
    watch.close().await.unwrap();
});

on_each_postgres!(a_pool_gets_back_connections_that_do_not_listen, async |db: TestDb| {
    for (size, expected) in [(2, Status::Ok), (1, Status::NotApplicable)] {
        let pool =
            sqlx::postgres::PgPoolOptions::new().max_connections(size).connect(&db.url()).await.unwrap();
        let borrowed = PgTarget::from_pool("main", pool.clone(), PgConfig::default());
        let result = look(&borrowed, "pg.notify_latency").await;
        assert_eq!(result.status, expected, "{result:#?}");
        eventually("the connections are back", Duration::from_secs(5), async || {
            tokio::task::yield_now().await;
            (pool.num_idle() == pool.size() as usize).then_some(())
        })
        .await;
        let mut back = Vec::new();
        for _ in 0..pool.size() {
            let mut connection = pool.acquire().await.unwrap();
            let channels: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_listening_channels()")
                .fetch_one(&mut *connection)
                .await
                .unwrap();
            assert_eq!(channels, 0);
            back.push(connection);
        }
        drop(back);
        pool.close().await;
    }
});

/// A transaction that notifies commits under a lock that all of its kind share, and keeps it while it waits for a
/// synchronous standby.
#[tokio::test]
async fn a_commit_that_hangs_stops_all_who_notify() {
    let Some(options) = or_skip(local_options(15).await) else { return };
    let cluster = Cluster::start(&Context::new(), &options).await.unwrap();
    let url = cluster.url("postgres");
    let mut admin = PgConnection::connect(&url).await.unwrap();
    admin.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'").await.unwrap();
    admin.execute("SELECT pg_reload_conf()").await.unwrap();
    let sound = look(&target(url.clone()), "pg.notify_latency").await;
    assert_eq!(sound.status, Status::Ok, "{sound:#?}");
    let mut hanging = PgConnection::connect(&url).await.unwrap();
    let hangs = AbortOnDrop(tokio::spawn(async move {
        // It ends with its cluster.
        let _ = hanging
            .execute(sqlx::raw_sql(
                "BEGIN; SET LOCAL synchronous_commit = on; CREATE TABLE t (); NOTIFY shop; COMMIT",
            ))
            .await;
    }));
    eventually("a commit waits for a standby", Duration::from_secs(10), async || {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        (sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut admin).await.unwrap() == 1).then_some(())
    })
    .await;
    let result = look(&target(url), "pg.notify_latency").await;
    assert_eq!(
        (result.status, &*result.findings[0].code),
        (Status::Critical, "pg.notify.lost"),
        "{result:#?}"
    );
    drop((hangs, admin));
    cluster.stop().await.unwrap();
}

/// Listening takes a second connection, and a role may not have one.
#[tokio::test]
async fn a_second_connection_that_is_refused_says_why() {
    let Some(options) = or_skip(local_options(15).await) else { return };
    let cluster = Cluster::start(&Context::new(), &options).await.unwrap();
    let mut admin = PgConnection::connect(&cluster.url("postgres")).await.unwrap();
    admin.execute("CREATE ROLE single LOGIN CONNECTION LIMIT 1").await.unwrap();
    let result = look(&target(cluster.url_as("single", "postgres")), "pg.notify_latency").await;
    assert_eq!(result.status, Status::Unknown, "{result:#?}");
    let unseen = &result.unseen[0];
    assert!(unseen.what.contains("53300"), "{result:#?}");
    assert!(unseen.fix.as_ref().is_some_and(|fix| fix.contains("CONNECTION LIMIT")), "{result:#?}");
    drop(admin);
    cluster.stop().await.unwrap();
}

/// On a standby these can be neither seen nor done, and what can be is judged.
#[tokio::test]
async fn a_standby_is_not_asked_what_only_a_primary_knows() {
    let Some(options) = or_skip(local_options(15).await) else { return };
    let options = options.with_setting("fsync", "on").with_setting("full_page_writes", "on");
    let mut cluster = Cluster::start(&Context::new(), &options).await.unwrap();
    std::fs::write(cluster.data_dir().join("standby.signal"), "").unwrap();
    cluster.restart(&Context::new()).await.unwrap();
    let target = target(cluster.url("postgres"));
    for (probe, expected) in [
        ("pg.notify_latency", Status::NotApplicable),
        ("pg.prepared_transactions", Status::NotApplicable),
        ("pg.xmin_horizon", Status::Ok),
        ("pg.idle_in_transaction", Status::Ok),
        ("pg.long_queries", Status::Ok),
        ("pg.deadlocks", Status::Ok),
        ("pg.cache_hit", Status::Ok),
        ("pg.settings", Status::Ok),
        ("pg.ssl", Status::Ok),
    ] {
        let result = look(&target, probe).await;
        assert_eq!(result.status, expected, "{result:#?}");
    }
    cluster.stop().await.unwrap();
}
