//! Sessions and transactions that are judged wrongly elsewhere.

use std::time::Duration;

use ops_core::{Bounds, Context, Finding, Limits, ProbeResult, ProbeSet, Secret, Severity};
use ops_pg::{PgConfig, PgTarget};
use ops_testkit::{TestDb, eventually, on_each_postgres};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::rows::{AbortOnDrop, probe_named, until};

/// With bounds under which everything that has begun is told.
async fn look_closely(db: &TestDb, probe: &str, bound: &str, warning: f64) -> ProbeResult {
    let target = PgTarget::connect_lazily("main", &Secret::from(db.url()), PgConfig::default()).unwrap();
    let probe = probe_named(probe);
    let bounds = Bounds { warning: Some(warning), critical: None };
    let limits = Limits::defaults(probe.spec()).with(bound, bounds).unwrap();
    let mut set = ProbeSet::new("test");
    target.add_to(&mut set, probe, limits);
    set.run(&Context::new().with_window_gap(Duration::from_millis(1500))).await.probes.remove(0)
}

/// What is told of this object: a probe names the oldest alone, and other tests have sessions on this server too.
async fn told(db: &TestDb, probe: &str, bound: &str, warning: f64, object: &str) -> (Finding, ProbeResult) {
    eventually(&format!("{probe} tells of {object}"), Duration::from_secs(60), async || {
        let result = look_closely(db, probe, bound, warning).await;
        let found = result.findings.iter().find(|f| f.object.as_deref() == Some(object)).cloned();
        found.map(|found| (found, result))
    })
    .await
}

/// A session of this name that has run this; and its process id.
async fn session(db: &TestDb, name: &str, sql: &str) -> (PgConnection, i32) {
    let mut connection = db.connect().await.unwrap();
    let pid = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut connection).await.unwrap();
    connection.execute(AssertSqlSafe(format!("SET application_name = '{name}'"))).await.unwrap();
    connection.execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await.unwrap();
    (connection, pid)
}

/// A session at work, until it is dropped.
async fn at_work(db: &TestDb, name: &str, sql: &'static str) -> AbortOnDrop {
    let (mut connection, _) = session(db, name, "SELECT 1").await;
    AbortOnDrop(tokio::spawn(async move {
        // It ends with its database.
        let _ = connection.execute(sql).await;
    }))
}

fn about(result: &ProbeResult, pid: i32) -> Option<&Finding> {
    result.findings.iter().find(|finding| finding.object.as_deref() == Some(&format!("pid {pid}")))
}

on_each_postgres!(an_idle_transaction_is_told_with_what_it_holds, async |db: TestDb| {
    db.execute("CREATE TABLE t (id int)").await;
    let (_writer, writer) = session(&db, "shop-worker", "BEGIN; INSERT INTO t VALUES (1)").await;
    let (_reader, reader) =
        session(&db, "report", "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM t").await;
    let (_nothing, nothing) = session(&db, "careless", "BEGIN; SELECT 1").await;
    let (_aborted, aborted) = {
        let (mut connection, pid) = session(&db, "failed", "BEGIN").await;
        assert!(connection.execute("SELECT 1/0").await.is_err());
        (connection, pid)
    };
    let (_idle, idle) = session(&db, "pool", "SELECT 1").await;
    let result = look_closely(&db, "pg.idle_in_transaction", "idle", 0.0).await;
    let message = |pid| about(&result, pid).unwrap_or_else(|| panic!("{pid}: {result:#?}")).message.clone();
    assert!(message(writer).contains("(shop-worker, postgres, "), "{}", message(writer));
    assert!(message(writer).contains("it has written") && message(writer).contains("1 lock on a relation"));
    assert!(message(reader).contains("holds the horizon of VACUUM"), "{}", message(reader));
    assert!(message(nothing).contains("holds neither"), "{}", message(nothing));
    assert!(message(aborted).contains("holds neither"), "{}", message(aborted));
    assert!(about(&result, idle).is_none(), "{result:#?}");
    let locks = &about(&result, writer).unwrap().evidence[1];
    assert_eq!(locks["relations"][0], "public.t", "{locks}");
});

on_each_postgres!(a_long_dump_or_index_build_is_no_long_query, async |db: TestDb| {
    db.execute(
        "CREATE FUNCTION slow(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 FROM pg_sleep(60)';
         CREATE TABLE t AS SELECT 1 AS id",
    )
    .await;
    let _dump = at_work(&db, "pg_dump", "SELECT 'dump', pg_sleep(60)").await;
    let _build = at_work(&db, "psql", "CREATE INDEX ON t (slow(id))").await;
    let _query = at_work(&db, "psql", "SELECT 'secret', pg_sleep(60)").await;
    until(
        &db,
        "SELECT (SELECT count(*) FROM pg_stat_progress_create_index WHERE datname = current_database()) = 1
            AND (SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND wait_event = 'PgSleep'
                    AND datname = current_database()) = 3",
    )
    .await;
    let result = look_closely(&db, "pg.long_queries", "running", 0.0).await;
    let here = |finding: &&Finding| finding.evidence[0]["database"] == db.name();
    let found: Vec<_> = result.findings.iter().filter(here).collect();
    assert_eq!(found.len(), 1, "{result:#?}");
    assert!(found[0].message.ends_with("SELECT '…', pg_sleep(60)"), "{}", found[0].message);
});

on_each_postgres!(whoever_holds_the_horizon_is_named, async |db: TestDb| {
    let slot = format!("{}_slot", db.name());
    db.execute(format!("SELECT pg_create_logical_replication_slot('{slot}', 'test_decoding')")).await;
    let (_reader, reader) = session(&db, "report", "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").await;
    let (_released, released) = session(&db, "polite", "BEGIN; SELECT 1").await;
    db.execute("DO $$ BEGIN FOR i IN 1..200 LOOP PERFORM txid_current(); COMMIT; END LOOP; END $$").await;
    // Other tests share the server: while one of them holds the horizon further back, it is named in the reader's place.
    let result = eventually("the reader is named", Duration::from_secs(60), async || {
        let result = look_closely(&db, "pg.xmin_horizon", "age", 100.0).await;
        about(&result, reader).is_some().then_some(result)
    })
    .await;
    let by = |code: &str, object: &str| {
        result.findings.iter().find(|f| f.code == code && f.object.as_deref() == Some(object))
    };
    let slot = by("pg.xmin_horizon.slot", &slot).unwrap_or_else(|| panic!("{result:#?}"));
    assert!(slot.message.contains("of the system catalogs"), "{}", slot.message);
    assert!(by("pg.xmin_horizon.session", &format!("pid {reader}")).is_some(), "{result:#?}");
    assert!(about(&result, released).is_none(), "{result:#?}");
    assert_eq!(slot.severity, Severity::Warning);
});

// VACUUM shows a snapshot of its own, which no other VACUUM waits for.
on_each_postgres!(a_vacuum_holds_nobody_back, async |db: TestDb| {
    db.execute("CREATE TABLE t AS SELECT g AS id FROM generate_series(1, 200000) g; DELETE FROM t").await;
    let (mut vacuum, pid) =
        session(&db, "psql", "SET vacuum_cost_delay = 100; SET vacuum_cost_limit = 1").await;
    let running = AbortOnDrop(tokio::spawn(async move {
        // It ends with its database.
        let _ = vacuum.execute("VACUUM t").await;
    }));
    until(&db, "SELECT count(*) = 1 FROM pg_stat_progress_vacuum WHERE datname = current_database()").await;
    db.execute("DO $$ BEGIN FOR i IN 1..200 LOOP PERFORM txid_current(); COMMIT; END LOOP; END $$").await;
    let horizon = look_closely(&db, "pg.xmin_horizon", "age", 100.0).await;
    assert!(about(&horizon, pid).is_none(), "{horizon:#?}");
    let long = look_closely(&db, "pg.long_transactions", "age", 0.0).await;
    assert!(about(&long, pid).is_none(), "{long:#?}");
    drop(running);
    db.connect().await.unwrap().close().await.unwrap();
});

// A snapshot is as old as the oldest transaction that ran when it was taken: one that was forgotten makes everybody
// look as guilty as it is.
on_each_postgres!(victims_of_a_forgotten_transaction_are_not_named, async |db: TestDb| {
    let gid = format!("{}_forgotten", db.name());
    db.execute(format!("BEGIN; SELECT txid_current(); PREPARE TRANSACTION '{gid}'")).await;
    db.execute("DO $$ BEGIN FOR i IN 1..300 LOOP PERFORM txid_current(); COMMIT; END LOOP; END $$").await;
    let mut readers = Vec::new();
    for _ in 0..12 {
        let sql = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class";
        readers.push(session(&db, "reader", sql).await);
    }
    let (found, result) = told(&db, "pg.xmin_horizon", "age", 100.0, &gid).await;
    for (_, pid) in &readers {
        assert!(about(&result, *pid).is_none(), "{result:#?}");
    }
    assert_eq!(found.code, "pg.xmin_horizon.prepared");
    assert!(found.message.contains("for it"), "{}", found.message);
    db.execute(format!("ROLLBACK PREPARED '{gid}'")).await;
});

on_each_postgres!(a_prepared_transaction_outlives_its_owner, async |db: TestDb| {
    let (gid, owner) = (format!("{}_orphan", db.name()), format!("{}_gone", db.name()));
    db.execute(format!("CREATE ROLE {owner}")).await;
    db.execute(format!("SET ROLE {owner}; BEGIN; SELECT txid_current(); PREPARE TRANSACTION '{gid}'")).await;
    db.execute(format!("DROP ROLE {owner}")).await;
    db.execute("DO $$ BEGIN FOR i IN 1..150 LOOP PERFORM txid_current(); COMMIT; END LOOP; END $$").await;
    for (probe, bound, warning) in
        [("pg.prepared_transactions", "age", 0.0), ("pg.xmin_horizon", "age", 100.0)]
    {
        let (found, _) = told(&db, probe, bound, warning, &gid).await;
        assert!(found.message.contains("a role that was dropped"), "{}", found.message);
    }
    db.execute(format!("ROLLBACK PREPARED '{gid}'")).await;
});

on_each_postgres!(what_works_through_a_whole_table_is_left_out, async |db: TestDb| {
    db.execute(
        "CREATE FUNCTION slow(int) RETURNS int LANGUAGE sql IMMUTABLE
           AS 'SELECT $1 FROM pg_sleep(coalesce(current_setting(''test.nap'', true), ''0'')::float)';
         CREATE TABLE rewritten AS SELECT 1 AS id; CREATE INDEX ON rewritten (slow(id));
         CREATE TABLE analysed AS SELECT 1 AS id; CREATE INDEX ON analysed (slow(id))",
    )
    .await;
    let mut held = Vec::new();
    for sql in [
        "VACUUM FULL rewritten",
        "ANALYZE analysed",
        "COPY (SELECT 1 FROM pg_sleep(60)) TO '/dev/null'",
        "SELECT 'plain', pg_sleep(600)",
    ] {
        let (mut connection, pid) = session(&db, "psql", "SET test.nap = 60").await;
        let work = AbortOnDrop(tokio::spawn(async move {
            // It ends with its database.
            let _ = connection.execute(sqlx::raw_sql(sql)).await;
        }));
        held.push((work, pid));
    }
    until(
        &db,
        "SELECT count(*) = 4 FROM pg_stat_activity WHERE state = 'active' AND wait_event = 'PgSleep'
            AND datname = current_database()",
    )
    .await;
    for (probe, bound) in [("pg.long_queries", "running"), ("pg.long_transactions", "age")] {
        let plain = format!("pid {}", held[3].1);
        let (_, result) = told(&db, probe, bound, 0.0, &plain).await;
        for (_, pid) in &held[..3] {
            assert!(about(&result, *pid).is_none(), "{probe}: {result:#?}");
        }
    }
});

// Any client may call itself as it likes.
on_each_postgres!(a_name_like_ours_hides_nobody, async |db: TestDb| {
    let (_kept, pid) = session(&db, "ops:import", "BEGIN; SELECT txid_current()").await;
    told(&db, "pg.long_transactions", "age", 0.0, &format!("pid {pid}")).await;
});

// So elect many services their leader: all but one wait, for as long as it lives.
on_each_postgres!(who_stands_by_for_a_leader_is_no_alarm, async |db: TestDb| {
    let (_leader, leader) = session(&db, "leader", "SELECT pg_advisory_lock(42)").await;
    let _standby = at_work(&db, "standby", "SELECT pg_advisory_lock(42)").await;
    let waits = "SELECT pid FROM pg_stat_activity
                  WHERE datname = current_database() AND wait_event_type = 'Lock' AND wait_event = 'advisory'";
    until(&db, &format!("SELECT count(*) = 1 FROM ({waits}) w")).await;
    let mut connection = db.connect().await.unwrap();
    let standby: i32 = sqlx::query_scalar(waits).fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    for (probe, bound, object) in [
        ("pg.long_queries", "running", format!("pid {standby}")),
        ("pg.long_transactions", "age", format!("pid {standby}")),
        ("pg.blocking", "waited", format!("pid {leader}")),
    ] {
        let (found, _) = told(&db, probe, bound, 0.0, &object).await;
        assert_eq!(found.severity, Severity::Info, "{found:#?}");
        let remedy = found.remedy.as_ref().unwrap();
        assert_eq!(remedy.statement, None, "{found:#?}");
        assert!(remedy.advice.as_ref().unwrap().contains("leader"), "{found:#?}");
    }
});

/// A cluster of its own: what one session hides, it hides from every test.
#[tokio::test]
async fn sessions_that_do_not_say_what_they_do_are_unknown() {
    for major in ops_testkit::MAJORS {
        let Ok(options) = ops_testkit::local_options(major).await else { continue };
        let options = options.with_setting("track_activities", "off");
        let cluster = ops_pg::cluster::Cluster::start(&Context::new(), &options).await.unwrap();
        let mut held = PgConnection::connect(&cluster.url("postgres")).await.unwrap();
        held.execute("BEGIN; SELECT 1").await.unwrap();
        for probe in ["pg.idle_in_transaction", "pg.long_transactions", "pg.long_queries", "pg.wait_events"] {
            let url = Secret::from(cluster.url("postgres"));
            let target = PgTarget::connect_lazily("main", &url, PgConfig::default()).unwrap();
            let (probe, mut set) = (probe_named(probe), ProbeSet::new("test"));
            target.add_to(&mut set, probe, Limits::defaults(probe.spec()));
            let result = set.run(&Context::new()).await.probes.remove(0);
            assert_eq!(result.status, ops_core::Status::Unknown, "{result:#?}");
            assert!(result.unseen[0].what.contains("track_activities"), "{result:#?}");
        }
        held.close().await.unwrap();
        cluster.stop().await.unwrap();
    }
}
