//! What is judged wrongly elsewhere, judged rightly here.

use ops_core::{Context, Limits, ProbeResult, ProbeSet, Secret, Status};
use ops_pg::{PgConfig, PgTarget, RlsConfig};
use ops_testkit::{Role, TestDb, on_each_postgres};
use sqlx::{Connection, Executor};

use crate::rows::probe_named;

pub(crate) async fn look(db: &TestDb, probe: &str, config: PgConfig) -> ProbeResult {
    look_at(db.url(), probe, config).await
}

pub(crate) async fn look_at(url: String, probe: &str, config: PgConfig) -> ProbeResult {
    let target = PgTarget::connect_lazily("main", &Secret::from(url), config).unwrap();
    let probe = probe_named(probe);
    let mut set = ProbeSet::new("test");
    target.add_to(&mut set, probe, Limits::defaults(probe.spec()));
    set.run(&Context::new()).await.probes.remove(0)
}

/// Code and object of each finding, sorted.
pub(crate) fn found(result: &ProbeResult) -> Vec<(String, String)> {
    let finding = |f: &ops_core::Finding| (f.code.to_string(), f.object.clone().unwrap_or_default());
    let mut found: Vec<_> = result.findings.iter().map(finding).collect();
    found.sort();
    found
}

pub(crate) fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(code, object)| ((*code).to_owned(), (*object).to_owned())).collect()
}

on_each_postgres!(only_true_twins_are_duplicates, async |db: TestDb| {
    db.execute(
        "CREATE TABLE t (a int, b int, c text);
         CREATE INDEX kept ON t (b); CREATE INDEX twin ON t (b);
         CREATE INDEX descending ON t (b DESC); CREATE INDEX partial ON t (b) WHERE a > 0;
         CREATE INDEX wider ON t (b, a); CREATE INDEX covering ON t (b) INCLUDE (a);
         CREATE UNIQUE INDEX immediate ON t (a); ALTER TABLE t ADD CONSTRAINT late UNIQUE (a) DEFERRABLE;
         CREATE TABLE part (a int, b int) PARTITION BY RANGE (a);
         CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (10);
         CREATE INDEX part_kept ON part (b); CREATE INDEX part_twin ON part (b)",
    )
    .await;
    let result = look(&db, "pg.index_duplicate", PgConfig::default()).await;
    let expected = [("pg.index.duplicate", "public.part_twin"), ("pg.index.duplicate", "public.twin")];
    assert_eq!(found(&result), pairs(&expected), "{result:#?}");
    let statement = |object: &str| {
        let finding = result.findings.iter().find(|f| f.object.as_deref() == Some(object)).unwrap();
        finding.remedy.as_ref().unwrap().statement.clone().unwrap()
    };
    for object in ["public.part_twin", "public.twin"] {
        db.execute(statement(object)).await;
    }
});

on_each_postgres!(the_options_of_an_operator_class_make_another_index, async |db: TestDb| {
    db.execute(
        "CREATE TABLE t (a int, v tsvector);
         CREATE INDEX narrow ON t USING gist (v tsvector_ops (siglen = 12));
         CREATE INDEX wide ON t USING gist (v tsvector_ops (siglen = 256));
         CREATE INDEX wide_again ON t USING gist (v tsvector_ops (siglen = 256)); CREATE INDEX plain ON t USING gist (v)",
    )
    .await;
    let result = look(&db, "pg.index_duplicate", PgConfig::default()).await;
    assert_eq!(found(&result), pairs(&[("pg.index.duplicate", "public.wide_again")]), "{result:#?}");
});

on_each_postgres!(row_security_that_is_walked_around_is_found, async |db: TestDb| {
    db.execute(
        "CREATE TABLE t (id int, tenant int); ALTER TABLE t ENABLE ROW LEVEL SECURITY;
         CREATE POLICY own ON t USING (tenant = 1);
         CREATE VIEW direct AS SELECT * FROM t; GRANT SELECT ON direct TO PUBLIC;
         CREATE VIEW hidden AS SELECT * FROM t; CREATE VIEW outer_one AS SELECT * FROM hidden;
         GRANT SELECT ON outer_one TO PUBLIC;
         CREATE VIEW by_column AS SELECT * FROM t; GRANT SELECT (id) ON by_column TO PUBLIC;
         CREATE MATERIALIZED VIEW kept AS SELECT * FROM t; GRANT SELECT ON kept TO PUBLIC;
         CREATE FUNCTION atomic() RETURNS bigint LANGUAGE sql SECURITY DEFINER
           BEGIN ATOMIC SELECT count(*) FROM t; END;
         CREATE TABLE parent (id int, tenant int) PARTITION BY RANGE (id);
         ALTER TABLE parent ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON parent USING (tenant = 1);
         CREATE TABLE child PARTITION OF parent FOR VALUES FROM (0) TO (10)",
    )
    .await;
    let result = look(&db, "pg.rls", PgConfig::default()).await;
    let expected = [
        ("pg.rls.function", "public.atomic()"),
        ("pg.rls.not_forced", "public.parent"),
        ("pg.rls.view", "public.by_column"),
        ("pg.rls.view", "public.direct"),
        ("pg.rls.view", "public.kept"),
        ("pg.rls.view", "public.outer_one"),
    ];
    assert_eq!(found(&result), pairs(&expected), "{result:#?}");
});

on_each_postgres!(a_view_of_the_one_who_asks_is_no_leak, async |db: TestDb| {
    let majors = db.server().major();
    let mut sql = "CREATE TABLE t (id int); ALTER TABLE t ENABLE ROW LEVEL SECURITY;
                   CREATE POLICY own ON t USING (id = 1);
                   CREATE VIEW closed AS SELECT * FROM t;"
        .to_owned();
    if majors >= 15 {
        sql.push_str("CREATE VIEW invoker WITH (security_invoker = t) AS SELECT * FROM t; GRANT SELECT ON invoker TO PUBLIC");
    }
    db.execute(sql).await;
    let result = look(&db, "pg.rls", PgConfig::default()).await;
    assert_eq!(found(&result), pairs(&[("pg.rls.not_forced", "public.t")]), "{result:#?}");
});

on_each_postgres!(a_policy_that_is_true_by_itself_is_found, async |db: TestDb| {
    db.execute(
        "CREATE TABLE t (id int, tenant text); ALTER TABLE t ENABLE ROW LEVEL SECURITY;
         ALTER TABLE t FORCE ROW LEVEL SECURITY;
         CREATE POLICY a ON t FOR SELECT USING (true); CREATE POLICY b ON t FOR UPDATE USING (1 = 1);
         CREATE POLICY c ON t FOR DELETE USING ('x' = 'x'); CREATE POLICY d ON t FOR INSERT WITH CHECK (1 = 2);
         CREATE POLICY e ON t AS RESTRICTIVE USING (tenant = 'x')",
    )
    .await;
    let result = look(&db, "pg.rls", PgConfig::default()).await;
    let policies: Vec<_> = result.findings.iter().map(|f| f.message.split(' ').nth(1).unwrap()).collect();
    assert_eq!(policies, ["a", "b", "c"], "{result:#?}");
});

on_each_postgres!(a_sequence_ends_where_the_narrowest_column_that_it_fills_does, async |db: TestDb| {
    db.execute(
        "CREATE SEQUENCE numbers; CREATE TABLE wide (id bigint DEFAULT nextval('numbers'));
         CREATE TABLE narrow (id smallint DEFAULT nextval('numbers')); SELECT setval('numbers', 32000)",
    )
    .await;
    let result = look(&db, "pg.sequences", PgConfig::default()).await;
    assert_eq!(found(&result), pairs(&[("pg.sequence.exhausted", "public.numbers")]), "{result:#?}");
    assert!(result.findings[0].message.ends_with("smallint of public.narrow.id"), "{result:#?}");
});

on_each_postgres!(a_sequence_that_is_locked_hides_only_itself, async |db: TestDb| {
    db.execute(
        "CREATE TABLE seen (id serial); SELECT setval('seen_id_seq', 2147000000); CREATE TABLE truncated (id serial)",
    )
    .await;
    let mut other = db.connect().await.unwrap();
    other.execute("BEGIN; TRUNCATE truncated RESTART IDENTITY").await.unwrap();
    let result = look(&db, "pg.sequences", PgConfig::default()).await;
    other.close().await.unwrap();
    assert_eq!(found(&result), pairs(&[("pg.sequence.exhausted", "public.seen_id_seq")]), "{result:#?}");
    assert!(result.unseen[0].what.contains("public.truncated_id_seq"), "{result:#?}");
});

// SQLSTATE 53300 has three causes. Only two of them concern anybody but ops itself.
on_each_postgres!(a_full_role_is_not_a_full_server, async |db: TestDb| {
    let nobody = db.role(Role::Nobody);
    let probes = ["pg.reachable", "pg.connections"];
    for (limit, expected) in [
        (format!("ROLE {nobody} CONNECTION LIMIT 0"), Status::Unknown),
        (format!("ROLE {nobody} CONNECTION LIMIT -1"), Status::Ok),
        (format!("DATABASE {} CONNECTION LIMIT 0", db.name()), Status::Critical),
    ] {
        db.execute(format!("ALTER {limit}; GRANT pg_read_all_stats TO {nobody}")).await;
        let target =
            PgTarget::connect_lazily("main", &Secret::from(db.url_as(Role::Nobody)), PgConfig::default());
        let (target, mut set) = (target.unwrap(), ProbeSet::new("test"));
        for name in probes {
            let probe = probe_named(name);
            target.add_to(&mut set, probe, Limits::defaults(probe.spec()));
        }
        for result in set.run(&Context::new()).await.probes {
            assert_eq!(result.status, expected, "{limit}: {result:#?}");
        }
    }
});

on_each_postgres!(a_misspelt_schema_is_not_a_protected_one, async |db: TestDb| {
    let config = PgConfig::default().with_rls(RlsConfig::default().with_schemas(["pubic".to_owned()]));
    let result = look(&db, "pg.rls", config).await;
    assert_eq!(result.status, Status::Critical, "{result:#?}");
    assert_eq!(found(&result), pairs(&[("pg.rls.missing", "pubic")]));
});

on_each_postgres!(statistics_that_count_nothing_are_unknown, async |db: TestDb| {
    db.execute("CREATE EXTENSION pg_stat_statements").await;
    for setting in ["pg_stat_statements.track = 'none'", "compute_query_id = 'off'"] {
        db.execute(format!("ALTER DATABASE {} SET {setting}", db.name())).await;
        let result = look(&db, "pg.slow_queries", PgConfig::default()).await;
        assert_eq!(result.status, Status::Unknown, "{setting}: {result:#?}");
        assert!(result.unseen[0].fix.is_some());
        db.execute(format!("ALTER DATABASE {} RESET ALL", db.name())).await;
    }
});

// A batch is parsed as a whole: what its first statement sets, its last one does not know.
on_each_postgres!(a_backslash_is_a_backslash_whatever_the_server_takes_it_for, async |db: TestDb| {
    db.execute(format!("ALTER DATABASE {} SET standard_conforming_strings = off", db.name())).await;
    db.execute(
        "CREATE TABLE t (id int); ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY a ON t USING (1 = 1)",
    )
    .await;
    let result = look(&db, "pg.rls", PgConfig::default()).await;
    assert!(result.findings.iter().any(|finding| finding.code == "pg.rls.always_true"), "{result:#?}");
    let target = PgTarget::connect_lazily("main", &Secret::from(db.url()), PgConfig::default()).unwrap();
    let mut set = ProbeSet::new("test");
    target.add_all_to(&mut set);
    let report = set.run(&Context::new()).await;
    let failed: Vec<_> = report.probes.iter().filter(|probe| probe.summary.contains("failed to")).collect();
    assert!(failed.is_empty(), "{failed:#?}");
});
