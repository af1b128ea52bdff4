//! What is judged wrongly elsewhere about rights and keys, judged rightly here.

use ops_core::{Severity, Status};
use ops_pg::PgConfig;
use ops_testkit::{Role, TestDb, on_each_postgres};
use sqlx::Executor;

use crate::judgement::{found, look, look_at, pairs};

on_each_postgres!(only_a_path_that_others_can_write_on_is_open, async |db: TestDb| {
    db.execute(
        "CREATE EXTENSION pg_stat_statements; CREATE SCHEMA \"Open, House\"; CREATE SCHEMA closed;
         GRANT CREATE ON SCHEMA \"Open, House\" TO PUBLIC;
         CREATE FUNCTION safe() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path = closed, pg_temp AS 'SELECT 1';
         CREATE FUNCTION empty() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path = '' AS 'SELECT 1';
         CREATE FUNCTION atomic() RETURNS int LANGUAGE sql SECURITY DEFINER BEGIN ATOMIC SELECT 1; END;
         CREATE FUNCTION invoker() RETURNS int LANGUAGE sql AS 'SELECT 1';
         CREATE FUNCTION writable() RETURNS int LANGUAGE sql SECURITY DEFINER
           SET search_path = closed, \"Open, House\" AS 'SELECT 1';
         CREATE PROCEDURE missing() LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';
         CREATE FUNCTION own() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'; REVOKE ALL ON FUNCTION own() FROM PUBLIC",
    )
    .await;
    let result = look(&db, "pg.search_path", PgConfig::default()).await;
    let expected = [
        ("pg.search_path.missing", "public.missing()"),
        ("pg.search_path.missing", "public.own()"),
        ("pg.search_path.writable", "public.writable()"),
    ];
    assert_eq!(found(&result), pairs(&expected), "{result:#?}");
    let own = result.findings.iter().find(|f| f.object.as_deref() == Some("public.own()")).unwrap();
    assert_eq!(own.severity, Severity::Info);
    let missing = result.findings.iter().find(|f| f.object.as_deref() == Some("public.missing()")).unwrap();
    db.execute(missing.remedy.as_ref().unwrap().statement.clone().unwrap()).await;
});

on_each_postgres!(a_published_table_without_identity_fails, async |db: TestDb| {
    db.execute(
        "CREATE TABLE keyed (id int PRIMARY KEY); CREATE TABLE bare (id int); CREATE TABLE whole (id int);
         ALTER TABLE whole REPLICA IDENTITY FULL; CREATE TABLE logged (id int);
         CREATE TABLE candidate (id int NOT NULL UNIQUE, other int UNIQUE); CREATE TABLE nullable (id int UNIQUE);
         CREATE TABLE parent (id int) PARTITION BY RANGE (id); CREATE TABLE leaf PARTITION OF parent DEFAULT;
         CREATE TABLE sound (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE sound_1 PARTITION OF sound DEFAULT;
         INSERT INTO bare VALUES (1); INSERT INTO parent VALUES (1);
         CREATE PUBLICATION changes FOR TABLE keyed, bare, whole, parent, sound;
         CREATE PUBLICATION inserts FOR TABLE logged WITH (publish = 'insert')",
    )
    .await;
    let result = look(&db, "pg.primary_keys", PgConfig::default()).await;
    let expected = [
        ("pg.primary_key.missing", "public.candidate"),
        ("pg.primary_key.missing", "public.logged"),
        ("pg.primary_key.missing", "public.nullable"),
        ("pg.primary_key.missing", "public.parent"),
        ("pg.primary_key.missing", "public.whole"),
        ("pg.primary_key.no_identity", "public.bare"),
        ("pg.primary_key.no_identity", "public.leaf"),
    ];
    assert_eq!((found(&result), result.status), (pairs(&expected), Status::Critical), "{result:#?}");
    let candidate = result.findings.iter().find(|f| f.object.as_deref() == Some("public.candidate")).unwrap();
    assert_eq!(candidate.severity, Severity::Info);
    let mut connection = db.connect().await.unwrap();
    for (update, fails) in
        [("bare", true), ("parent", true), ("whole", false), ("logged", false), ("sound", false)]
    {
        let outcome = connection.execute(sqlx::AssertSqlSafe(format!("UPDATE {update} SET id = id"))).await;
        assert_eq!(outcome.is_err(), fails, "{update}: {outcome:?}");
    }
});

on_each_postgres!(all_tables_of_a_schema_are_published_with_it, async |db: TestDb| {
    if db.server().major() < 15 {
        return;
    }
    db.execute(
        "CREATE SCHEMA app; CREATE TABLE app.bare (id int); CREATE PUBLICATION p FOR TABLES IN SCHEMA app",
    )
    .await;
    let result = look(&db, "pg.primary_keys", PgConfig::default()).await;
    assert_eq!(found(&result), pairs(&[("pg.primary_key.no_identity", "app.bare")]), "{result:#?}");
});

on_each_postgres!(what_is_everybodys_is_told_once, async |db: TestDb| {
    db.execute(format!(
        "CREATE TABLE secret (id int); CREATE TABLE open (id int); GRANT SELECT, INSERT ON open TO PUBLIC;
         CREATE TABLE by_column (id int, name text); GRANT SELECT (name) ON by_column TO PUBLIC;
         GRANT SELECT ON secret TO {}; CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        db.role(Role::Nobody)
    ))
    .await;
    let result = look(&db, "pg.public_grants", PgConfig::default()).await;
    let expected = [("pg.grant.public_table", "public.by_column"), ("pg.grant.public_table", "public.open")];
    assert_eq!((found(&result), result.status), (pairs(&expected), Status::Ok), "{result:#?}");
});

// PostgREST asks as `anon` and `authenticated`: they are everybody. Another role may well be an administrator's.
on_each_postgres!(whom_a_policy_lets_through_decides_what_it_is_worth, async |db: TestDb| {
    let admin = db.role(Role::Nobody);
    db.execute(format!(
        "DO $$ BEGIN CREATE ROLE anon; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
         CREATE TABLE t (id int); ALTER TABLE t ENABLE ROW LEVEL SECURITY; ALTER TABLE t FORCE ROW LEVEL SECURITY;
         CREATE POLICY all_of_them ON t FOR SELECT USING (true);
         CREATE POLICY visitors ON t FOR INSERT TO anon WITH CHECK (true);
         CREATE POLICY staff ON t FOR UPDATE TO {admin} USING (true)"
    ))
    .await;
    let result = look(&db, "pg.rls", PgConfig::default()).await;
    let said: Vec<_> = result
        .findings
        .iter()
        .map(|f| (&*f.code, f.message.split(' ').nth(1).unwrap(), f.severity))
        .collect();
    let expected = [
        ("pg.rls.always_true", "all_of_them", Severity::Warning),
        ("pg.rls.always_true", "visitors", Severity::Warning),
        ("pg.rls.true_for_some", "staff", Severity::Info),
    ];
    assert_eq!(said, expected, "{result:#?}");
});

on_each_postgres!(what_shows_protected_rows_on_purpose_is_exposed, async |db: TestDb| {
    db.execute(
        "CREATE TABLE notes (id int, owner text); ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
         CREATE POLICY p ON notes USING (owner = current_user);
         CREATE VIEW \"All Notes\" AS SELECT * FROM notes; CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM notes;
         CREATE VIEW forgotten AS SELECT id FROM notes; GRANT SELECT ON \"All Notes\", counted, forgotten TO PUBLIC;
         CREATE FUNCTION stats(day date, n numeric) RETURNS bigint LANGUAGE sql SECURITY DEFINER
           SET search_path = public, pg_temp AS 'SELECT count(*) FROM notes';
         CREATE FUNCTION leak() RETURNS bigint LANGUAGE sql SECURITY DEFINER
           SET search_path = public, pg_temp AS 'SELECT count(*) FROM notes'",
    )
    .await;
    let exposed = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        PgConfig::default().with_rls(ops_pg::RlsConfig::default().with_exposed(names))
    };
    let shown = |result: &ops_core::ProbeResult| -> Vec<(String, String)> {
        let shows = ["pg.rls.view", "pg.rls.function", "pg.rls.missing"];
        found(result).into_iter().filter(|(code, _)| shows.contains(&code.as_str())).collect()
    };
    let none = look(&db, "pg.rls", exposed(&[])).await;
    assert_eq!(shown(&none).len(), 5, "{none:#?}");
    let names =
        ["public.All Notes", "public.counted", "public.stats(date, numeric)", "public.gone", "public.leak"];
    let some = look(&db, "pg.rls", exposed(&names)).await;
    let expected = [
        ("pg.rls.function", "public.leak()"),
        ("pg.rls.missing", "public.gone"),
        ("pg.rls.missing", "public.leak"),
        ("pg.rls.view", "public.forgotten"),
    ];
    assert_eq!(shown(&some), pairs(&expected), "{some:#?}");
});

on_each_postgres!(a_guess_is_told_once_and_what_is_configured_one_by_one, async |db: TestDb| {
    db.execute(
        "CREATE TABLE held (id int); ALTER TABLE held ENABLE ROW LEVEL SECURITY;
         ALTER TABLE held FORCE ROW LEVEL SECURITY; CREATE POLICY own ON held USING (id = 1);
         DO $$ BEGIN FOR i IN 1..32 LOOP EXECUTE format('CREATE TABLE plain_%s (id int)', i); END LOOP; END $$",
    )
    .await;
    let guessed = look(&db, "pg.rls", PgConfig::default()).await;
    let expected = pairs(&[("pg.rls.unlike_others", "public.plain_1")]);
    assert_eq!((found(&guessed), guessed.status), (expected, Status::Warning), "{guessed:#?}");

    let named = ops_pg::RlsConfig::default().with_schemas(["public".to_owned()]);
    let configured = look(&db, "pg.rls", PgConfig::default().with_rls(named)).await;
    assert_eq!((configured.findings.len(), configured.status), (32, Status::Critical), "{configured:#?}");
    for finding in &configured.findings {
        assert_eq!((&*finding.code, finding.severity), ("pg.rls.disabled", Severity::Critical));
        let remedy = finding.remedy.as_ref().unwrap();
        assert!(remedy.statement.is_none() && remedy.advice.as_ref().unwrap().contains("policies first"));
    }
});

on_each_postgres!(a_public_table_may_let_everybody_read, async |db: TestDb| {
    db.execute(
        "CREATE TABLE countries (id int); ALTER TABLE countries ENABLE ROW LEVEL SECURITY;
         CREATE POLICY all_of_them ON countries FOR SELECT USING (true)",
    )
    .await;
    let rls = ops_pg::RlsConfig::default()
        .with_schemas(["public".to_owned()])
        .with_public_tables(["public.countries".to_owned()]);
    let result = look(&db, "pg.rls", PgConfig::default().with_rls(rls)).await;
    let said: Vec<_> = result.findings.iter().map(|f| (&*f.code, f.severity)).collect();
    assert_eq!(said, [("pg.rls.always_true", Severity::Info)], "{result:#?}");
});

on_each_postgres!(the_rights_to_a_materialised_view_are_taken_from_who_has_them, async |db: TestDb| {
    let app = db.role(Role::Nobody);
    db.execute(format!(
        "CREATE TABLE t (id int); ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON t USING (id = 1);
         CREATE MATERIALIZED VIEW kept AS SELECT * FROM t; GRANT SELECT (id) ON kept TO {app}"
    ))
    .await;
    let view = |result: &ops_core::ProbeResult| {
        result.findings.iter().find(|f| f.code == "pg.rls.view").map(|f| f.remedy.clone().unwrap())
    };
    let statement = view(&look(&db, "pg.rls", PgConfig::default()).await).unwrap().statement.unwrap();
    assert_eq!(statement, format!("REVOKE SELECT ON public.kept FROM {app};"));
    db.execute(statement).await;
    assert!(view(&look(&db, "pg.rls", PgConfig::default()).await).is_none());
});

// A search for each table in the body of each function takes longer than any statement may.
on_each_postgres!(many_tables_and_long_functions_are_seen_in_time, async |db: TestDb| {
    db.execute(
        "DO $do$ DECLARE body text; BEGIN
           FOR i IN 1..1000 LOOP
             EXECUTE format('CREATE TABLE held_%s (id int); ALTER TABLE held_%1$s ENABLE ROW LEVEL SECURITY;
                             CREATE POLICY own ON held_%1$s USING (id = 1)', i);
           END LOOP;
           body := repeat(E'  -- a line of words that name no table of this schema, as long as lines are\n', 40);
           FOR i IN 1..200 LOOP
             EXECUTE format('CREATE FUNCTION f_%s() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = public
                               AS %L', i, body || 'SELECT count(*) FROM held_' || i);
           END LOOP;
           CREATE TABLE \"Odd Name\" (id int); ALTER TABLE \"Odd Name\" ENABLE ROW LEVEL SECURITY;
           CREATE POLICY own ON \"Odd Name\" USING (id = 1);
           CREATE FUNCTION odd() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = public
             AS 'SELECT count(*) FROM \"Odd Name\"';
         END $do$",
    )
    .await;
    let result = look(&db, "pg.rls", PgConfig::default()).await;
    assert!(result.unseen.is_empty(), "{:#?}", result.unseen);
    // As many as a document holds; the rest is counted. One is about the tables.
    let others: Vec<_> = result.findings.iter().filter(|f| f.code != "pg.rls.function").collect();
    assert!(others.iter().all(|f| f.code == "pg.rls.not_forced"), "{others:#?}");
    assert_eq!(result.findings.len() + result.findings_left_out, 202);
});

on_each_postgres!(what_was_found_stays_found_when_views_cannot_be_read, async |db: TestDb| {
    db.execute(
        "CREATE TABLE t (id int); ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE TABLE off (id int);
         CREATE POLICY own ON off USING (id = 1); REVOKE SELECT ON pg_rewrite FROM PUBLIC",
    )
    .await;
    let result = look_at(db.url_as(Role::Monitor), "pg.rls", PgConfig::default()).await;
    assert!(result.findings.iter().any(|f| f.code == "pg.rls.policies_off"), "{result:#?}");
    assert_eq!((result.unseen.len(), result.status), (1, Status::Critical), "{result:#?}");
    assert!(result.unseen[0].what.contains("views"), "{result:#?}");
});
