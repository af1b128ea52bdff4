//! Estimates of bloat against what pgstattuple counts.

use ops_core::{Bounds, Context, Limits, ProbeResult, ProbeSet, Secret, Status};
use ops_pg::{PgConfig, PgTarget};
use ops_testkit::{TestDb, on_each_postgres};
use sqlx::Row;

use crate::rows::probe_named;

/// Points by which an estimate may be off.
const TOLERANCE: f64 = 10.0;

/// Every relation is told, however little of it is air.
async fn estimates(db: &TestDb, probe: &str) -> ProbeResult {
    let target = PgTarget::connect_lazily("main", &Secret::from(db.url()), PgConfig::default()).unwrap();
    let probe = probe_named(probe);
    let all = Bounds { warning: Some(0.0), critical: None };
    let limits = Limits::defaults(probe.spec()).with("bloat", all).unwrap().with("wasted", all).unwrap();
    let mut set = ProbeSet::new("test");
    target.add_to(&mut set, probe, limits);
    set.run(&Context::new()).await.probes.remove(0)
}

/// Compares with what `truth` counts: a row for each relation, `name` and `percent`.
async fn compare(db: &TestDb, result: &ProbeResult, truth: &str, relations: usize) {
    let mut connection = db.connect().await.unwrap();
    let counted =
        sqlx::query(sqlx::AssertSqlSafe(truth.to_owned())).fetch_all(&mut connection).await.unwrap();
    assert_eq!((counted.len(), result.findings.len()), (relations, relations), "{result:#?}");
    for row in counted {
        let (name, percent): (String, f64) = (row.get("name"), row.get("percent"));
        let finding = result.findings.iter().find(|f| f.object.as_ref() == Some(&name)).unwrap();
        let estimate = finding.evidence[0]["percent"].as_f64().unwrap();
        println!("{name}: {estimate:.1} estimated, {percent:.1} counted");
        assert!(
            (estimate - percent).abs() <= TOLERANCE,
            "{name}: {estimate:.1} estimated, {percent:.1} counted"
        );
    }
}

on_each_postgres!(tables_are_as_bloated_as_they_are_counted, async |db: TestDb| {
    db.execute(
        "CREATE EXTENSION pgstattuple;
         CREATE TABLE narrow AS SELECT g AS a, g::bigint AS b FROM generate_series(1, 100000) g;
         CREATE TABLE padded AS SELECT g AS a, g::bigint AS b, g AS c, g::bigint AS d FROM generate_series(1, 100000) g;
         CREATE TABLE thinned AS SELECT g AS id, repeat('x', 20 + g % 60) AS name, now() AS at,
                CASE WHEN g % 3 = 0 THEN g END AS half FROM generate_series(1, 100000) g;
         CREATE TABLE wide AS SELECT g AS id, repeat('x', 900) AS filler FROM generate_series(1, 10000) g;
         CREATE TABLE nulls AS SELECT g AS id, NULL::int AS a, NULL::text AS b, g % 2 = 0 AS c, 1.5::numeric AS d, NULL::int e,
                NULL::int f, NULL::int g, NULL::int h, NULL::int i FROM generate_series(1, 100000) g;
         CREATE TABLE dropped (id int, gone bigint, name text); ALTER TABLE dropped DROP gone;
         INSERT INTO dropped SELECT g, md5(g::text) FROM generate_series(1, 60000) g;
         CREATE TABLE long_text (name text, id bigint); ALTER TABLE long_text ALTER name SET STORAGE PLAIN;
         INSERT INTO long_text SELECT repeat('x', 150 + g % 100), g FROM generate_series(1, 20000) g",
    )
    .await;
    db.execute("DELETE FROM thinned WHERE id % 10 < 7; DELETE FROM wide WHERE id % 2 = 0").await;
    for table in ["narrow", "padded", "thinned", "wide", "nulls", "dropped", "long_text"] {
        db.execute(format!("VACUUM (ANALYZE) {table}")).await;
    }
    let result = estimates(&db, "pg.table_bloat").await;
    let truth = "SELECT 'public.' || relname AS name, approx_free_percent + dead_tuple_percent AS percent
                   FROM pg_class, pgstattuple_approx(oid) WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'";
    compare(&db, &result, truth, 7).await;
});

on_each_postgres!(indexes_are_as_bloated_as_they_are_counted, async |db: TestDb| {
    db.execute(
        "CREATE EXTENSION pgstattuple;
         CREATE TABLE t AS SELECT g AS id, g % 50 AS few, md5(g::text) AS word, g / 3 AS three,
                CASE WHEN g % 10 = 0 THEN g END AS mostly_null FROM generate_series(1, 200000) g;
         CREATE UNIQUE INDEX fresh ON t (id); CREATE INDEX repeated ON t (few); CREATE INDEX words ON t (word);
         CREATE INDEX thirds ON t (three); CREATE INDEX pairs ON t (few, id); CREATE INDEX covering ON t (few) INCLUDE (id);
         CREATE INDEX expressions ON t (upper(word)); CREATE INDEX packed ON t (id) WITH (fillfactor = 60);
         CREATE INDEX numbers ON t ((few::numeric)); CREATE INDEX nulls ON t (mostly_null);
         CREATE INDEX partial ON t (id) WHERE id > 100000;
         CREATE TABLE thinned AS SELECT g AS id, g % 50 AS few FROM generate_series(1, 200000) g;
         CREATE UNIQUE INDEX thinned_id ON thinned (id); CREATE INDEX thinned_few ON thinned (few);
         CREATE TABLE shuffled (id uuid); CREATE INDEX shuffled_id ON shuffled (id);
         INSERT INTO shuffled SELECT gen_random_uuid() FROM generate_series(1, 100000)",
    )
    .await;
    db.execute("DELETE FROM thinned WHERE id % 10 < 8").await;
    for table in ["t", "thinned", "shuffled"] {
        db.execute(format!("VACUUM (ANALYZE) {table}")).await;
    }
    let result = estimates(&db, "pg.index_bloat").await;
    let truth = "SELECT 'public.' || c.relname AS name,
                        100 * (1 - (1 + s.internal_pages + s.leaf_pages * s.avg_leaf_density / coalesce(
                          (SELECT option_value::float8 FROM pg_options_to_table(c.reloptions)), 90))
                          / (s.index_size / 8192)) AS percent
                   FROM pg_class c, pgstatindex(c.oid) s
                  WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'i'";
    compare(&db, &result, truth, 14).await;
});

on_each_postgres!(a_table_is_not_judged_by_old_statistics, async |db: TestDb| {
    db.execute(
        "CREATE TABLE t AS SELECT g AS id, repeat('x', 50) AS filler FROM generate_series(1, 50000) g",
    )
    .await;
    db.execute("ALTER TABLE t SET (autovacuum_enabled = off); CREATE INDEX t_id ON t (id)").await;
    for (statement, expected) in [
        ("VACUUM t", Status::Unknown),
        ("ANALYZE t", Status::Warning),
        ("UPDATE t SET id = id WHERE id < 20000", Status::Unknown),
        ("ANALYZE t", Status::Warning),
    ] {
        db.execute(statement).await;
        for probe in ["pg.table_bloat", "pg.index_bloat"] {
            let result = estimates(&db, probe).await;
            assert_eq!(result.status, expected, "{statement}: {result:#?}");
        }
    }
});
