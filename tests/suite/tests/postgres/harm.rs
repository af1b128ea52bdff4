//! Looking does no harm: nothing waits for us, nothing of ours stays, nothing is written.

use std::time::{Duration, Instant};

use ops_core::{Context, ErrorKind, ProbeSet, Secret, Status};
use ops_pg::{PgConfig, PgTarget};
use ops_testkit::{TestDb, eventually, on_each_postgres};
use serde_json::json;
use sqlx::{Connection, Executor};

fn target(db: &TestDb) -> PgTarget {
    PgTarget::connect_lazily("main", &Secret::from(db.url()), PgConfig::default()).unwrap()
}

on_each_postgres!(a_table_locked_exclusively_stalls_nothing, async |db: TestDb| {
    db.execute(
        "CREATE EXTENSION pg_stat_statements;
         CREATE TABLE t (id serial PRIMARY KEY, a int); CREATE INDEX ON t ((a + 1)); CREATE INDEX ON t ((a + 1));
         ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON t USING (true)",
    )
    .await;
    let mut locker = db.connect().await.unwrap();
    locker.execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let mut set = ProbeSet::new("test");
    target(&db).add_all_to(&mut set);
    let report = set.run(&Context::new()).await;
    locker.close().await.unwrap();
    let unknown: Vec<_> = report.probes.iter().filter(|probe| probe.status == Status::Unknown).collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
});

on_each_postgres!(a_statement_out_of_time_is_stopped_on_the_server_too, async |db: TestDb| {
    let cx = Context::new().with_deadline(Duration::from_millis(300));
    let started = Instant::now();
    let error = target(&db).read(&cx, "SELECT pg_sleep(60)").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    let mut watch = db.connect().await.unwrap();
    eventually("no backend of ours is left", Duration::from_secs(2), async || {
        let ours = "SELECT count(*) FROM pg_stat_activity
                     WHERE datname = current_database() AND application_name LIKE 'ops:%'";
        (sqlx::query_scalar::<_, i64>(ours).fetch_one(&mut watch).await.unwrap() == 0).then_some(())
    })
    .await;
    watch.close().await.unwrap();
});

on_each_postgres!(a_failed_statement_does_not_take_its_siblings_along, async |db: TestDb| {
    let (cx, target) = (Context::new(), target(&db));
    assert_eq!(target.read(&cx, "SELECT 1/0").await.unwrap_err().kind(), ErrorKind::Failed);
    assert_eq!(target.read(&cx, "SELECT nothing").await.unwrap_err().kind(), ErrorKind::NotFound);
    let rows = target.read(&cx, "SELECT 7 AS n").await.unwrap();
    assert_eq!(rows[0].get::<i32>("n").unwrap(), 7);
});

on_each_postgres!(two_databases_of_a_cluster_take_turns_on_one_connection, async |db: TestDb| {
    let (cx, first) = (Context::new(), target(&db));
    let second = first.for_database("postgres");
    let mut most = 0;
    for _ in 0..3 {
        for target in [&first, &second] {
            let rows = target.read(&cx, "SELECT current_database()::text AS name").await.unwrap();
            let name: String = rows[0].get("name").unwrap();
            assert_eq!(name, if std::ptr::eq(target, &first) { db.name() } else { "postgres" });
            let mut watch = db.connect().await.unwrap();
            let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                         AND application_name LIKE 'ops:%'";
            let open: i64 = sqlx::query_scalar(open).fetch_one(&mut watch).await.unwrap();
            most = most.max(open);
            watch.close().await.unwrap();
        }
    }
    assert_eq!(most, 1);
});

on_each_postgres!(a_pool_gets_its_connections_back, async |db: TestDb| {
    let pool = sqlx::postgres::PgPoolOptions::new().max_connections(1).connect(&db.url()).await.unwrap();
    let mut set = ProbeSet::new("test");
    PgTarget::from_pool("main", pool.clone(), PgConfig::default()).add_all_to(&mut set);
    let report = set.run(&Context::new()).await;
    assert_eq!(report.probes[0].status, Status::Ok, "{:#?}", report.probes[0]);
    // The pool takes a connection back in a task of its own.
    eventually("the connection is back", Duration::from_secs(2), async || {
        tokio::task::yield_now().await;
        ((pool.size(), pool.num_idle()) == (1, 1)).then_some(())
    })
    .await;
    pool.close().await;
});

// The one statement that is slow costs itself: its siblings go on, on a new connection.
on_each_postgres!(a_slow_metric_costs_itself, async |db: TestDb| {
    let target = target(&db);
    let metric = |sql: &str| {
        let config = json!({ "name": "slow", "target": "main", "sql": sql });
        ops_pg::SqlMetric::new(target.clone(), serde_json::from_value(config).unwrap())
    };
    let mut set = ProbeSet::new("test");
    set.add("main", metric("SELECT 1 AS value FROM pg_sleep(60)"));
    set.add("main", metric("SELECT 1 AS value"));
    let report = set.run(&Context::new()).await;
    let statuses: Vec<_> = report.probes.iter().map(|probe| probe.status).collect();
    assert_eq!(statuses, [Status::Unknown, Status::Ok], "{:#?}", report.probes);
});

// What a role may not call must not be left behind in the service's own connections.
on_each_postgres!(a_pool_is_sound_after_a_read_that_failed, async |db: TestDb| {
    let pool = sqlx::postgres::PgPoolOptions::new().max_connections(1).connect(&db.url()).await.unwrap();
    let target = PgTarget::from_pool("main", pool.clone(), PgConfig::default());
    let cx = Context::new();
    assert!(target.read(&cx, "SELECT 1/0").await.is_err());
    let short = cx.with_deadline(Duration::from_millis(100));
    assert!(target.read(&short, "SELECT pg_sleep(3)").await.is_err());
    let next_run = cx.new_run();
    let dropped =
        tokio::time::timeout(Duration::from_millis(100), target.read(&next_run, "SELECT pg_sleep(3)"));
    assert!(dropped.await.is_err());
    // Writing proves that no read-only transaction was left open.
    sqlx::raw_sql("CREATE TABLE sound (id int)").execute(&pool).await.unwrap();
    pool.close().await;
});
