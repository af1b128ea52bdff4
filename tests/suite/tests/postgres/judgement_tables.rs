//! What is judged wrongly elsewhere about tables, judged rightly here.

use std::time::Duration;

use ops_core::{Context, HealthProbe, Limits, Secret, Status};
use ops_pg::cluster::Cluster;
use ops_pg::{PgConfig, PgTarget};
use ops_testkit::{TestDb, eventually, local_options, on_each_postgres, or_skip};
use sqlx::{Connection, Executor, PgConnection};

use crate::judgement::{found, look, pairs};
use crate::rows::probe_named;

// The lock keeps autovacuum from coming round in the middle of the test.
on_each_postgres!(a_backlog_is_by_the_tables_own_thresholds, async |db: TestDb| {
    let mut sql = "
        CREATE TABLE patient (id int) WITH (autovacuum_vacuum_threshold = 1000000, autovacuum_vacuum_insert_threshold = -1);
        CREATE TABLE eager (id int) WITH (autovacuum_vacuum_insert_threshold = 5000, autovacuum_vacuum_insert_scale_factor = 0);
        CREATE TABLE off (id int) WITH (autovacuum_enabled = off);
        CREATE TABLE off_and_small (id int) WITH (autovacuum_enabled = off);
        CREATE TABLE parent (id int) PARTITION BY RANGE (id);
        CREATE TABLE leaf PARTITION OF parent DEFAULT;"
        .to_owned();
    let mut expected = vec![
        ("pg.vacuum.inserts_overdue", "public.eager"),
        ("pg.vacuum.overdue", "public.leaf"),
        ("pg.vacuum.switched_off", "public.off"),
        ("pg.vacuum.switched_off", "public.off_and_small"),
    ];
    if db.server().major() >= 18 {
        sql.push_str(
            "CREATE TABLE capped (id int) WITH (autovacuum_vacuum_max_threshold = 9000, autovacuum_vacuum_threshold = 500000);",
        );
        expected.insert(0, ("pg.vacuum.overdue", "public.capped"));
        expected.sort_unstable();
    }
    db.execute(sql).await;
    let mut locker = db.connect().await.unwrap();
    for table in
        ["patient", "eager", "leaf"].into_iter().chain((db.server().major() >= 18).then_some("capped"))
    {
        let lock = format!("LOCK TABLE {table} IN SHARE UPDATE EXCLUSIVE MODE");
        let open = if table == "patient" { "BEGIN; " } else { "" };
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("{open}{lock}"))).execute(&mut locker).await.unwrap();
        db.execute(format!("INSERT INTO {table} SELECT generate_series(1, 20000)")).await;
    }
    db.execute("INSERT INTO off SELECT generate_series(1, 20000); DELETE FROM off; DELETE FROM patient; DELETE FROM leaf").await;
    if db.server().major() >= 18 {
        db.execute("DELETE FROM capped").await;
    }
    let result = look(&db, "pg.vacuum_backlog", PgConfig::default()).await;
    drop(locker);
    assert_eq!(found(&result), pairs(&expected), "{result:#?}");
});

on_each_postgres!(the_parent_of_partitions_is_never_analysed, async |db: TestDb| {
    db.execute(
        "CREATE TABLE events (id int) PARTITION BY RANGE (id);
         CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (0) TO (100000);
         INSERT INTO events SELECT generate_series(1, 20000);
         CREATE TABLE fresh (id int) PARTITION BY RANGE (id); CREATE TABLE fresh_1 PARTITION OF fresh DEFAULT;
         INSERT INTO fresh SELECT generate_series(1, 20000);
         CREATE TABLE small (id int); INSERT INTO small SELECT generate_series(1, 500)",
    )
    .await;
    db.execute("ANALYZE events_1; ANALYZE fresh").await;
    let result = look(&db, "pg.stale_statistics", PgConfig::default()).await;
    assert_eq!(found(&result), pairs(&[("pg.statistics.parent", "public.events")]), "{result:#?}");
    db.execute("ANALYZE events").await;
    let result = look(&db, "pg.stale_statistics", PgConfig::default()).await;
    assert_eq!(result.status, Status::Ok, "{result:#?}");
    db.execute("INSERT INTO events SELECT generate_series(20001, 60000)").await;
    db.execute("ANALYZE events_1").await;
    let result = look(&db, "pg.stale_statistics", PgConfig::default()).await;
    assert_eq!(found(&result), pairs(&[("pg.statistics.parent", "public.events")]), "{result:#?}");
});

/// What a session wrote counts after its ANALYZE, and autovacuum has not come yet.
#[tokio::test]
async fn what_was_just_analysed_is_autovacuums_to_see_first() {
    let Some(options) = or_skip(local_options(15).await) else { return };
    let cluster = Cluster::start(&Context::new(), &options).await.unwrap();
    let (cx, url) = (Context::new(), cluster.url("postgres"));
    let mut admin = PgConnection::connect(&url).await.unwrap();
    admin
        .execute(
            "CREATE TABLE t (id int) WITH (autovacuum_enabled = off); INSERT INTO t SELECT generate_series(1, 50000);
             ANALYZE t; UPDATE t SET id = id + 1",
        )
        .await
        .unwrap();
    let probe = probe_named("pg.stale_statistics");
    let target = PgTarget::connect_lazily("main", &Secret::from(url), PgConfig::default()).unwrap();
    let bound = target.bind(probe, Limits::defaults(probe.spec()));
    assert_eq!(bound.probe(&cx).await.unwrap().status(), Status::Ok);
    admin.execute("ALTER SYSTEM SET autovacuum_naptime = '1s'").await.unwrap();
    admin.execute("SELECT pg_reload_conf()").await.unwrap();
    let report = eventually("it is judged", Duration::from_secs(20), async || {
        let report = bound.probe(&Context::new()).await.unwrap();
        (report.status() == Status::Warning).then_some(report)
    })
    .await;
    assert_eq!(report.found()[0].code, "pg.statistics.stale");
    drop(admin);
    cluster.stop().await.unwrap();
}

// The counters are gone, and the dead rows are not.
on_each_postgres!(a_reset_is_no_vacuum, async |db: TestDb| {
    db.execute(
        "CREATE TABLE t (id int) WITH (autovacuum_enabled = off); INSERT INTO t SELECT generate_series(1, 50000)",
    )
    .await;
    db.execute("VACUUM t").await;
    db.execute("DELETE FROM t WHERE id <= 45000").await;
    db.execute("SELECT pg_stat_reset()").await;
    for probe in ["pg.dead_tuples", "pg.vacuum_backlog", "pg.stale_statistics"] {
        let result = look(&db, probe, PgConfig::default()).await;
        assert_ne!(result.status, Status::Ok, "{result:#?}");
        assert_eq!(result.unseen[0].fix.as_deref(), Some("ANALYZE public.t;"), "{result:#?}");
    }
    db.execute("ANALYZE public.t;").await;
    let result = look(&db, "pg.dead_tuples", PgConfig::default()).await;
    assert_eq!(found(&result), pairs(&[("pg.table.dead_rows", "public.t")]), "{result:#?}");
});

on_each_postgres!(dead_rows_after_a_reset_are_a_share_of_what_the_table_holds, async |db: TestDb| {
    db.execute(
        "CREATE TABLE t (id int) WITH (autovacuum_enabled = off); INSERT INTO t SELECT generate_series(1, 200000);
         ANALYZE t; SELECT pg_stat_reset()",
    )
    .await;
    db.execute("DELETE FROM t WHERE id <= 12000").await;
    let result = look(&db, "pg.dead_tuples", PgConfig::default()).await;
    assert_eq!(result.status, Status::Ok, "{result:#?}");
});

/// A purge is a warning until autovacuum has come round, and what was just vacuumed is in good hands.
#[tokio::test]
async fn what_was_just_vacuumed_is_not_judged() {
    let Some(options) = or_skip(local_options(15).await) else { return };
    let cluster = Cluster::start(&Context::new(), &options).await.unwrap();
    let url = cluster.url("postgres");
    let (mut admin, mut reader) =
        (PgConnection::connect(&url).await.unwrap(), PgConnection::connect(&url).await.unwrap());
    let purge = "CREATE TABLE t (id int) WITH (autovacuum_enabled = off); INSERT INTO t SELECT generate_series(1, 20000)";
    admin.execute(purge).await.unwrap();
    reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM t").await.unwrap();
    admin.execute("DELETE FROM t WHERE id > 100").await.unwrap();
    let status = async || {
        let probe = probe_named("pg.dead_tuples");
        let target =
            PgTarget::connect_lazily("main", &Secret::from(url.clone()), PgConfig::default()).unwrap();
        let report = target.bind(probe, Limits::defaults(probe.spec())).probe(&Context::new()).await.unwrap();
        report.status()
    };
    let becomes = async |expected: Status| {
        eventually("the rows are counted", Duration::from_secs(20), async || {
            (status().await == expected).then_some(())
        })
        .await;
    };
    becomes(Status::Warning).await;
    // The reader still sees them all: VACUUM leaves them, and counts them as dead.
    admin.execute("VACUUM t").await.unwrap();
    becomes(Status::Ok).await;
    admin.execute("ALTER SYSTEM SET autovacuum_naptime = '1s'").await.unwrap();
    admin.execute("SELECT pg_reload_conf()").await.unwrap();
    becomes(Status::Warning).await;
    drop((admin, reader));
    cluster.stop().await.unwrap();
}

on_each_postgres!(an_emptied_default_partition_is_no_finding, async |db: TestDb| {
    db.execute(
        "CREATE TABLE emptied (id int) PARTITION BY RANGE (id); CREATE TABLE emptied_d PARTITION OF emptied DEFAULT;
         INSERT INTO emptied VALUES (1), (2); ANALYZE emptied; DELETE FROM emptied;
         CREATE TABLE deep (id int) PARTITION BY RANGE (id);
         CREATE TABLE deep_d PARTITION OF deep DEFAULT PARTITION BY RANGE (id);
         CREATE TABLE deep_d_1 PARTITION OF deep_d FOR VALUES FROM (0) TO (10); INSERT INTO deep VALUES (1);
         CREATE TABLE bare (id int) PARTITION BY RANGE (id)",
    )
    .await;
    let result = look(&db, "pg.partitions", PgConfig::default()).await;
    let expected = [("pg.partition.default_filled", "public.deep_d"), ("pg.partition.none", "public.bare")];
    assert_eq!(found(&result), pairs(&expected), "{result:#?}");
});
