//! What is judged wrongly elsewhere about extensions, triggers, functions and views, judged rightly here.

use std::time::{Duration, Instant};

use ops_core::{Bounds, Context, Limits, ProbeSet, Secret, Status};
use ops_pg::{PgConfig, PgTarget, RequiredConfig};
use ops_testkit::{TestDb, on_each_postgres};
use sqlx::{Connection, Executor};

use crate::judgement::{found, look, pairs};
use crate::rows::probe_named;

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

on_each_postgres!(required_functions_are_found_by_any_spelling_of_their_types, async |db: TestDb| {
    db.execute(
        "CREATE SCHEMA app; CREATE TYPE app.mood AS ENUM ('a'); GRANT USAGE ON SCHEMA app TO PUBLIC;
         CREATE FUNCTION app.f(int, timestamptz) RETURNS int LANGUAGE sql AS 'SELECT 1';
         CREATE FUNCTION app.g() RETURNS int LANGUAGE sql AS 'SELECT 1';
         CREATE FUNCTION app.h(app.mood, text[]) RETURNS int LANGUAGE sql AS 'SELECT 1';
         CREATE PROCEDURE app.p() LANGUAGE sql AS 'SELECT 1';
         CREATE SCHEMA closed; CREATE FUNCTION closed.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    )
    .await;
    let required = RequiredConfig::default()
        .with_functions(names(&[
            "app.f",
            "app.f(int, timestamptz)",
            "app.f(integer,timestamp with time zone)",
            "app.g()",
            "g",
            "app.h(app.mood, text[])",
            "app.p",
            "app.f(int)",
            "app.F",
            "app.g(nonsense)",
            "closed.f",
        ]))
        .with_role("pg_monitor");
    let result = look(&db, "pg.functions", PgConfig::default().with_required(required.clone())).await;
    let expected = [
        ("pg.function.missing", "app.F"),
        ("pg.function.missing", "app.f(int)"),
        ("pg.function.missing", "app.g(nonsense)"),
        ("pg.function.not_executable", "closed.f()"),
    ];
    assert_eq!(found(&result), pairs(&expected), "{result:#?}");
    let nobody = PgConfig::default().with_required(required.with_role("nobody's"));
    let result = look(&db, "pg.functions", nobody).await;
    assert!(found(&result).contains(&("pg.function.no_role".into(), "nobody's".into())), "{result:#?}");
});

on_each_postgres!(what_is_required_and_missing_is_critical, async |db: TestDb| {
    let required = RequiredConfig::default()
        .with_extensions(names(&["citext", "nonesuch"]))
        .with_event_triggers(names(&["audit"]));
    let config = PgConfig::default().with_required(required);
    let result = look(&db, "pg.extensions", config.clone()).await;
    let expected = [("pg.extension.missing", "citext"), ("pg.extension.missing", "nonesuch")];
    assert_eq!((found(&result), result.status), (pairs(&expected), Status::Critical), "{result:#?}");
    let install = result.findings[0].remedy.as_ref().unwrap().statement.clone().unwrap();
    db.execute(install).await;
    let result = look(&db, "pg.extensions", config.clone()).await;
    assert_eq!(found(&result), pairs(&[("pg.extension.missing", "nonesuch")]), "{result:#?}");
    let result = look(&db, "pg.event_triggers", config).await;
    assert_eq!(found(&result), pairs(&[("pg.event_trigger.missing", "audit")]), "{result:#?}");
});

on_each_postgres!(a_trigger_that_fires_for_replicas_only_does_not_fire, async |db: TestDb| {
    db.execute(
        "CREATE FUNCTION audit() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
         CREATE EVENT TRIGGER replica_only ON ddl_command_end EXECUTE FUNCTION audit();
         CREATE EVENT TRIGGER always ON ddl_command_end EXECUTE FUNCTION audit();
         ALTER EVENT TRIGGER replica_only ENABLE REPLICA; ALTER EVENT TRIGGER always ENABLE ALWAYS",
    )
    .await;
    let required = RequiredConfig::default().with_event_triggers(names(&["always", "replica_only"]));
    let result = look(&db, "pg.event_triggers", PgConfig::default().with_required(required)).await;
    assert_eq!(found(&result), pairs(&[("pg.event_trigger.disabled", "replica_only")]), "{result:#?}");
    assert_eq!(result.status, Status::Critical);
    let result = look(&db, "pg.event_triggers", PgConfig::default()).await;
    assert_eq!(result.status, Status::Ok, "shown without alarm: {result:#?}");
});

on_each_postgres!(many_sequences_are_read_a_few_at_a_time, async |db: TestDb| {
    db.execute(
        "DO $$ BEGIN FOR i IN 1..900 LOOP EXECUTE format('CREATE SEQUENCE s%s AS smallint', i); END LOOP; END $$;
         SELECT setval('s1', 32000), setval('s450', 32000), setval('s900', 32000)",
    )
    .await;
    let result = look(&db, "pg.sequences", PgConfig::default()).await;
    let full = ["public.s1", "public.s450", "public.s900"].map(|name| ("pg.sequence.exhausted", name));
    assert_eq!(found(&result), pairs(&full), "{result:#?}");
    assert!(result.summary.starts_with("900 sequences"), "{result:#?}");
});

// The locks of the whole server may not be read once for each of them.
on_each_postgres!(sequences_are_read_in_time_that_grows_as_they_do, async |db: TestDb| {
    // In several transactions: their locks are in shared memory, and so is everybody else's.
    db.execute(
        "DO $$ BEGIN FOR i IN 1..1600 LOOP EXECUTE format('CREATE SEQUENCE s%s', i);
           IF i % 200 = 0 THEN COMMIT; END IF; END LOOP; END $$",
    )
    .await;
    db.execute(
        "CREATE TABLE first (id serial); CREATE TABLE last (id serial, other int DEFAULT nextval('s1600'))",
    )
    .await;
    db.execute("SELECT setval('first_id_seq', 2147000000), setval('s1600', 2147000000)").await;
    let mut locker = db.connect().await.unwrap();
    locker.execute("SELECT pg_advisory_lock(i) FROM generate_series(1, 6000) i").await.unwrap();
    // The best of three: whatever else this machine does slows some of them.
    let mut looks = Vec::new();
    for _ in 0..3 {
        let started = Instant::now();
        let result = look(&db, "pg.sequences", PgConfig::default()).await;
        looks.push((started.elapsed(), result));
    }
    let (took, result) = looks.into_iter().min_by_key(|(took, _)| *took).unwrap();
    locker.close().await.unwrap();
    let full = ["public.first_id_seq", "public.s1600"].map(|name| ("pg.sequence.exhausted", name));
    assert_eq!(found(&result), pairs(&full), "{result:#?}");
    assert!(result.unseen.is_empty() && result.summary.starts_with("1,602 sequences"), "{result:#?}");
    assert!(took < Duration::from_secs(1), "{took:?}");
});

// A bound that cannot be judged is not met.
on_each_postgres!(an_age_that_no_catalogue_tells_is_unknown_once_it_is_bounded, async |db: TestDb| {
    db.execute("CREATE MATERIALIZED VIEW m AS SELECT 1; CREATE UNIQUE INDEX ON m (\"?column?\")").await;
    let target = PgTarget::connect_lazily("main", &Secret::from(db.url()), PgConfig::default()).unwrap();
    let probe = probe_named("pg.matviews");
    let hour = Bounds { warning: Some(3600.0), critical: None };
    let limits = Limits::defaults(probe.spec()).with("age", hour).unwrap();
    let mut set = ProbeSet::new("test");
    target.add_to(&mut set, probe, limits);
    let result = set.run(&Context::new()).await.probes.remove(0);
    let fix = result.unseen.first().and_then(|unseen| unseen.fix.clone()).unwrap_or_default();
    assert_eq!(result.status, Status::Unknown, "{result:#?}");
    assert!(fix.contains("track_commit_timestamp"), "{result:#?}");
    assert_eq!(look(&db, "pg.matviews", PgConfig::default()).await.status, Status::Ok);
});

// What `pg.matviews` dates a refresh by, where the server keeps commit timestamps: the view's row in pg_class.
on_each_postgres!(every_refresh_writes_the_views_row_anew_and_no_vacuum_does, async |db: TestDb| {
    db.execute("CREATE MATERIALIZED VIEW m AS SELECT now() AS at; CREATE UNIQUE INDEX ON m (at)").await;
    let mut connection = db.connect().await.unwrap();
    let mut row_of = async || -> String {
        let xmin = "SELECT xmin::text FROM pg_class WHERE oid = 'm'::regclass";
        sqlx::query_scalar(xmin).fetch_one(&mut connection).await.unwrap()
    };
    let mut last = row_of().await;
    for (statement, moves) in [
        ("REFRESH MATERIALIZED VIEW m", true),
        ("REFRESH MATERIALIZED VIEW CONCURRENTLY m", true),
        ("VACUUM (FREEZE, ANALYZE) m", false),
        ("CREATE INDEX ON m USING hash (at)", false),
        // So the row dates the last refresh or something later: the data is at least that old.
        ("GRANT SELECT ON m TO PUBLIC", true),
    ] {
        db.execute(statement).await;
        let row = row_of().await;
        assert_eq!(row != last, moves, "{statement}");
        last = row;
    }
    connection.close().await.unwrap();
});
