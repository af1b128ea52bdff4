//! What is judged wrongly elsewhere about indexes, judged rightly here.

use std::time::Duration;

use ops_core::testing::ManualClock;
use ops_core::{Bounds, Context, Finding, Limits, ProbeResult, ProbeSet, Secret, Severity, Status};
use ops_pg::{PgConfig, PgTarget};
use ops_testkit::{Role, TestDb, on_each_postgres};
use sqlx::Executor;

use crate::judgement::{found, look, pairs};
use crate::rows::{AbortOnDrop, probe_named, until};

on_each_postgres!(an_index_that_is_being_built_is_not_invalid, async |db: TestDb| {
    db.execute("CREATE TABLE t (id int); INSERT INTO t VALUES (1)").await;
    let (mut writer, mut builder) = (db.connect().await.unwrap(), db.connect().await.unwrap());
    writer.execute("BEGIN; INSERT INTO t VALUES (2)").await.unwrap();
    let building = AbortOnDrop(tokio::spawn(async move {
        let _ = builder.execute("CREATE INDEX CONCURRENTLY t_id ON t (id)").await;
    }));
    until(&db, "SELECT count(*) = 1 FROM pg_index i WHERE NOT indisvalid AND indrelid = 't'::regclass").await;
    for role in [Role::Superuser, Role::Nobody] {
        let url = Secret::from(db.url_as(role));
        let target = PgTarget::connect_lazily("main", &url, PgConfig::default()).unwrap();
        let (probe, mut set) = (probe_named("pg.index_invalid"), ProbeSet::new("test"));
        target.add_to(&mut set, probe, Limits::defaults(probe.spec()));
        let result = set.run(&Context::new()).await.probes.remove(0);
        assert_eq!(result.status, Status::Ok, "{result:#?}");
        assert!(
            result.findings.is_empty() && result.summary.contains("1 index is being built"),
            "{result:#?}"
        );
    }
    drop((building, writer));
});

on_each_postgres!(an_index_of_a_partitioned_table_says_which_kind_of_invalid_it_is, async |db: TestDb| {
    db.execute(
        "CREATE TABLE p (id int) PARTITION BY RANGE (id); CREATE TABLE p_1 PARTITION OF p DEFAULT;
         CREATE INDEX p_id ON ONLY p (id)",
    )
    .await;
    let result = look(&db, "pg.index_invalid", PgConfig::default()).await;
    assert_eq!(found(&result), pairs(&[("pg.index.incomplete", "public.p_id")]), "{result:#?}");
});

on_each_postgres!(only_an_index_that_finds_every_row_serves_a_foreign_key, async |db: TestDb| {
    db.execute(
        "CREATE TABLE one (a int PRIMARY KEY); CREATE TABLE two (a int, b int, PRIMARY KEY (a, b));
         INSERT INTO one VALUES (1), (2); INSERT INTO two VALUES (1, 1), (2, 2);
         CREATE TABLE swapped (a int, b int, c int, FOREIGN KEY (a, b) REFERENCES two); CREATE INDEX ON swapped (b, a, c);
         CREATE TABLE half (a int, b int, FOREIGN KEY (a, b) REFERENCES two); CREATE INDEX ON half (a);
         CREATE TABLE included (a int, b int, FOREIGN KEY (a, b) REFERENCES two); CREATE INDEX ON included (a) INCLUDE (b);
         CREATE TABLE later (c int, a int REFERENCES one); CREATE INDEX ON later (c, a);
         CREATE TABLE not_null (a int REFERENCES one); CREATE INDEX ON not_null (a) WHERE a IS NOT NULL;
         CREATE TABLE partial (a int REFERENCES one); CREATE INDEX ON partial (a) WHERE a > 1;
         CREATE TABLE other_null (a int REFERENCES one, b int); CREATE INDEX ON other_null (a) WHERE b IS NOT NULL;
         CREATE TABLE hashed (a int REFERENCES one); CREATE INDEX ON hashed USING hash (a);
         CREATE TABLE brin (a int REFERENCES one); CREATE INDEX ON brin USING brin (a);
         CREATE TABLE expression (a int REFERENCES one); CREATE INDEX ON expression ((a + 0));
         CREATE TABLE parted (a int REFERENCES one) PARTITION BY RANGE (a); CREATE TABLE parted_1 PARTITION OF parted DEFAULT;
         CREATE TABLE served (a int REFERENCES one) PARTITION BY RANGE (a); CREATE TABLE served_1 PARTITION OF served DEFAULT;
         CREATE INDEX ON served (a); CREATE TABLE small (a int REFERENCES one)",
    )
    .await;
    for table in
        ["later", "not_null", "partial", "other_null", "hashed", "brin", "expression", "parted", "served"]
    {
        db.execute(format!("INSERT INTO {table} (a) SELECT 1 FROM generate_series(1, 12000)")).await;
    }
    for table in ["swapped", "half", "included"] {
        db.execute(format!("INSERT INTO {table} (a, b) SELECT 1, 1 FROM generate_series(1, 12000)")).await;
    }
    db.execute("DELETE FROM one WHERE a = 2; DELETE FROM two WHERE a = 2").await;
    let result = look(&db, "pg.index_missing_fk", PgConfig::default()).await;
    let expected = [
        "brin (a)",
        "expression (a)",
        "half (a, b)",
        "included (a, b)",
        "later (a)",
        "other_null (a)",
        "parted (a)",
        "partial (a)",
    ];
    let expected: Vec<_> =
        expected.iter().map(|table| ("pg.index.missing_fk".to_owned(), format!("public.{table}"))).collect();
    assert_eq!(found(&result), expected, "{result:#?}");
    assert_eq!(result.status, Status::Warning);
});

on_each_postgres!(an_index_that_more_than_speed_depends_on_is_never_unused, async |db: TestDb| {
    db.execute(
        "CREATE EXTENSION btree_gist;
         CREATE TABLE t (id int PRIMARY KEY, a int UNIQUE, b int NOT NULL, c int, d int, EXCLUDE USING gist (c WITH =));
         CREATE UNIQUE INDEX t_b ON t (b); ALTER TABLE t REPLICA IDENTITY USING INDEX t_b;
         CREATE TABLE p (id int, a int) PARTITION BY RANGE (id); CREATE TABLE p_1 PARTITION OF p DEFAULT;
         CREATE INDEX p_a ON p (a); CREATE INDEX t_d ON t (d);
         INSERT INTO t SELECT g, g, g, g, g FROM generate_series(1, 60000) g; INSERT INTO p SELECT g, g FROM generate_series(1, 60000) g;
         ANALYZE",
    )
    .await;
    let result = look(&db, "pg.index_unused", PgConfig::default()).await;
    assert_eq!(found(&result), pairs(&[("pg.index.unused", "public.t_d")]), "{result:#?}");
});

// The counters of a database that was restored, or of an index that is new, are older than it.
on_each_postgres!(an_index_is_unused_since_it_was_first_seen, async |db: TestDb| {
    db.execute(
        "CREATE TABLE t (a int, b int); INSERT INTO t SELECT g, g FROM generate_series(1, 60000) g;
         CREATE INDEX t_a ON t (a); ANALYZE t",
    )
    .await;
    let clock = ManualClock::at("2040-01-01T00:00:00Z".parse().unwrap());
    let cx = Context::new().with_clock(clock.clone());
    let look = async |cx: &Context| {
        let target = PgTarget::connect_lazily("main", &Secret::from(db.url()), PgConfig::default()).unwrap();
        let probe = probe_named("pg.index_unused");
        // The suite's servers are minutes old, and have each other's slots.
        let soon = Bounds { warning: Some(0.5), critical: None };
        let limits = Limits::defaults(probe.spec()).with("unused_for", soon).unwrap();
        let mut set = ProbeSet::new("test");
        target.add_to(&mut set, probe, limits);
        set.run(&cx.new_run()).await.probes.remove(0)
    };
    let ages = |result: &ProbeResult| -> Vec<_> {
        let age = |f: &Finding| (f.object.clone().unwrap(), f.evidence[0]["known_seconds"].as_f64().unwrap());
        result.findings.iter().map(age).collect()
    };
    let first = look(&cx).await;
    assert_eq!((first.status, ages(&first)), (Status::Ok, vec![("public.t_a".into(), 0.0)]), "{first:#?}");
    assert!(first.findings[0].message.contains("for the first time"), "{first:#?}");
    clock.advance(Duration::from_secs(86_400));
    db.execute("CREATE INDEX t_b ON t (b); ANALYZE t").await;
    let second = look(&cx).await;
    let expected = vec![("public.t_a".to_owned(), 86_400.0), ("public.t_b".to_owned(), 0.0)];
    assert_eq!(ages(&second), expected, "{second:#?}");
    let young = second.findings.iter().find(|f| f.object.as_deref() == Some("public.t_b")).unwrap();
    assert_eq!(young.severity, Severity::Info, "{second:#?}");
    // Without what was remembered, nobody knows.
    let forgetful = look(&Context::new()).await;
    assert!(forgetful.findings.iter().all(|f| f.severity == Severity::Info), "{forgetful:#?}");
});

// What REINDEX CONCURRENTLY leaves of a TOAST table's index is as much in the way, and goes by the same statement.
on_each_postgres!(leftovers_of_reindex_go_by_their_remedy, async |db: TestDb| {
    db.execute("CREATE TABLE t (id int PRIMARY KEY, filler text)").await;
    let (mut writer, mut builder) = (db.connect().await.unwrap(), db.connect().await.unwrap());
    writer.execute("BEGIN; INSERT INTO t VALUES (1)").await.unwrap();
    builder.execute("SET statement_timeout = '500ms'").await.unwrap();
    assert!(builder.execute("REINDEX TABLE CONCURRENTLY t").await.is_err());
    writer.execute("COMMIT").await.unwrap();
    let result = look(&db, "pg.index_invalid", PgConfig::default()).await;
    assert_eq!(result.findings.len(), 2, "{result:#?}");
    for finding in &result.findings {
        assert!(finding.object.as_ref().is_some_and(|object| object.ends_with("_ccnew")), "{finding:#?}");
        db.execute(finding.remedy.clone().unwrap().statement.unwrap()).await;
    }
    assert!(look(&db, "pg.index_invalid", PgConfig::default()).await.findings.is_empty());
});
