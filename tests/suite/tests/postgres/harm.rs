//! Looking does no harm: nothing waits for us, nothing of ours stays, nothing is written.

use std::time::{Duration, Instant};

use ops_core::{Context, ErrorKind, ProbeSet, Secret, Status};
use ops_pg::{PgConfig, PgTarget};
use ops_testkit::{TestDb, eventually, on_each_postgres};
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
