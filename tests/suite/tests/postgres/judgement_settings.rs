//! Settings that are judged wrongly elsewhere, on clusters whose settings a test may change.

use std::time::Duration;

use ops_core::{Context, Limits, ProbeResult, ProbeSet, Secret, Status};
use ops_pg::cluster::Cluster;
use ops_pg::{PgConfig, PgTarget};
use ops_testkit::{Authority, TestDb, eventually, local_options, on_postgres, or_skip};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, PgPool};

use crate::judgement::{found, pairs};
use crate::rows::settings::Reachable;
use crate::rows::{AbortOnDrop, probe_named};

async fn look(url: &str, probe: &str) -> ProbeResult {
    let target =
        PgTarget::connect_lazily("main", &Secret::from(url.to_owned()), PgConfig::default()).unwrap();
    let probe = probe_named(probe);
    let mut set = ProbeSet::new("test");
    target.add_to(&mut set, probe, Limits::defaults(probe.spec()));
    set.run(&Context::new().with_window_gap(Duration::from_millis(200))).await.probes.remove(0)
}

async fn execute(url: &str, sql: &str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    connection.execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await.unwrap();
    connection.close().await.unwrap();
}

/// Reloading takes the server a moment.
async fn eventually_found(url: &str, expected: &[(&str, &str)]) {
    eventually("the settings are read again", Duration::from_secs(10), async || {
        let result = look(url, "pg.settings").await;
        (found(&result) == pairs(expected)).then_some(())
    })
    .await;
}

async fn what_waits_is_told_from_what_is_wrong(major: u32) {
    let Some(options) = or_skip(local_options(major).await) else { return };
    let options = options.with_setting("fsync", "on").with_setting("full_page_writes", "on");
    let cluster = Cluster::start(&Context::new(), &options).await.unwrap();
    let url = cluster.url("postgres");
    let sound = look(&url, "pg.settings").await;
    assert_eq!((sound.status, found(&sound)), (Status::Ok, vec![]), "{sound:#?}");

    // Who sees no errors in files must not say that there are none.
    execute(&url, "CREATE ROLE watcher LOGIN IN ROLE pg_monitor").await;
    let watcher = cluster.url_as("watcher", "postgres");
    let blind = look(&watcher, "pg.settings").await;
    assert_eq!(blind.status, Status::Unknown, "{blind:#?}");
    execute(&url, blind.unseen[0].fix.as_deref().unwrap()).await;
    let seeing = look(&watcher, "pg.settings").await;
    assert_eq!(seeing.status, Status::Ok, "{seeing:#?}");

    execute(&url, "ALTER SYSTEM SET max_connections = 150").await;
    execute(&url, "SELECT pg_reload_conf()").await;
    let pending = [("pg.settings.pending_restart", "max_connections")];
    eventually_found(&url, &pending).await;
    eventually_found(&watcher, &pending).await;
    let conf = cluster.data_dir().join("postgresql.conf");
    let text = std::fs::read_to_string(&conf).unwrap();
    std::fs::write(&conf, format!("{text}\nwork_mem = 'plenty'\n")).unwrap();
    // Also before anybody reloads: the next restart would fail.
    let wrong = look(&watcher, "pg.settings").await;
    let both = [("pg.settings.file_error", "work_mem"), pending[0]];
    assert_eq!((wrong.status, found(&wrong)), (Status::Critical, pairs(&both)), "{wrong:#?}");
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn what_waits_is_told_from_what_is_wrong_pg15() {
    what_waits_is_told_from_what_is_wrong(15).await;
}

#[tokio::test]
async fn what_waits_is_told_from_what_is_wrong_pg18() {
    what_waits_is_told_from_what_is_wrong(18).await;
}

// The wheel of PostgreSQL 18 has no OpenSSL.
#[tokio::test]
async fn an_encrypted_session_from_elsewhere_is_in_order() {
    on_postgres(15, async |db: TestDb| {
        let authority = Authority::new();
        let identity = (authority.server.certificate.as_str(), authority.server.key.as_str());
        let reachable = Reachable::start(&db, &[identity]).await;
        let url = |mode: &str| format!("postgres://postgres@{}/postgres?sslmode={mode}", reachable.address);
        let here = reachable.cluster.url("postgres");
        let local = PgConnection::connect(&here).await.unwrap();
        let encrypted = PgConnection::connect(&url("require")).await.unwrap();
        let result = look(&here, "pg.ssl").await;
        assert_eq!((result.status, found(&result)), (Status::Ok, vec![]), "{result:#?}");
        let plain = PgConnection::connect(&url("disable")).await.unwrap();
        let result = look(&here, "pg.ssl").await;
        assert_eq!(found(&result), pairs(&[("pg.ssl.plain", "postgres")]), "{result:#?}");
        drop((local, encrypted, plain));
        reachable.cluster.stop().await.unwrap();
    })
    .await;
}

// The wheel of PostgreSQL 18 has no OpenSSL.
#[tokio::test]
async fn a_certificate_that_ends_is_told_in_time() {
    on_postgres(15, async |db: TestDb| {
        let authority = Authority::new();
        for (identity, days, expected) in [
            (&authority.server, None, (Status::Ok, vec![])),
            (&authority.expired, Some("days ago"), (Status::Critical, pairs(&[("pg.ssl.certificate", "")]))),
        ] {
            let pem = (identity.certificate.as_str(), identity.key.as_str());
            let reachable = Reachable::start(&db, &[pem]).await;
            let url = format!(
                "postgres://postgres@{}/postgres?sslmode=disable",
                reachable.cluster.address().unwrap()
            );
            // Over the Unix socket it is the one that others are shown.
            for url in [url, reachable.cluster.url("postgres")] {
                let result = look(&url, "pg.ssl").await;
                let codes: Vec<_> =
                    found(&result).into_iter().map(|(code, _)| (code, String::new())).collect();
                assert_eq!((result.status, codes), expected, "{result:#?}");
                assert!(
                    result.findings.iter().all(|finding| finding.message.contains(days.unwrap())),
                    "{result:#?}"
                );
                assert!(
                    result.measurements.iter().any(|measured| measured.name == "certificate_days"),
                    "{result:#?}"
                );
            }
            reachable.cluster.stop().await.unwrap();
        }
    })
    .await;
}

// The wheel of PostgreSQL 18 has no OpenSSL.
#[tokio::test]
async fn a_certificate_that_is_not_seen_is_not_in_order() {
    let Some(options) = or_skip(local_options(15).await) else { return };
    let authority = Authority::new();
    let options = options.with_tls(authority.expired.certificate.as_str(), authority.expired.key.clone());
    let here =
        Cluster::start(&Context::new(), &options.clone().with_setting("listen_addresses", "")).await.unwrap();
    let url = here.url("postgres");
    // Over the Unix socket there is no TLS: nobody is shown it.
    let result = look(&url, "pg.ssl").await;
    assert_eq!((result.status, found(&result)), (Status::Ok, vec![]), "{result:#?}");
    let pool = PgPool::connect(&url).await.unwrap();
    let (probe, mut set) = (probe_named("pg.ssl"), ProbeSet::new("test"));
    let target = PgTarget::from_pool("main", pool.clone(), PgConfig::default());
    target.add_to(&mut set, probe, Limits::defaults(probe.spec()));
    let result = set.run(&Context::new()).await.probes.remove(0);
    assert_eq!(result.status, Status::Unknown, "{result:#?}");
    assert!(result.unseen[0].fix.as_ref().is_some_and(|fix| fix.contains("--only pg.ssl")), "{result:#?}");
    pool.close().await;
    here.stop().await.unwrap();
}

/// Statements of a hundred shapes and more, where there is room for a hundred.
async fn what_is_forgotten_again_and_again_is_told(major: u32) {
    let Some(options) = or_skip(local_options(major).await) else { return };
    let options = options.with_setting("pg_stat_statements.max", "100");
    let cluster = Cluster::start(&Context::new(), &options).await.unwrap();
    let url = cluster.url("postgres");
    execute(&url, "CREATE EXTENSION pg_stat_statements").await;
    let calm = look(&url, "pg.statements").await;
    assert_eq!((calm.status, found(&calm)), (Status::Ok, vec![]), "{calm:#?}");
    let mut busy = PgConnection::connect(&url).await.unwrap();
    let shapes = AbortOnDrop(tokio::spawn(async move {
        for columns in (1..400).cycle() {
            let sql = format!("SELECT {}", vec!["1"; columns].join(", "));
            // It ends with its cluster.
            if busy.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.is_err() {
                break;
            }
        }
    }));
    eventually("statements are forgotten", Duration::from_secs(20), async || {
        let result = look(&url, "pg.statements").await;
        result.findings.iter().any(|finding| finding.code == "pg.statements.evicted").then_some(())
    })
    .await;
    drop(shapes);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn what_is_forgotten_again_and_again_is_told_pg15() {
    what_is_forgotten_again_and_again_is_told(15).await;
}

#[tokio::test]
async fn what_is_forgotten_again_and_again_is_told_pg18() {
    what_is_forgotten_again_and_again_is_told(18).await;
}
