//! What `ops grants` gives is enough to see, and not enough to read.

use std::time::Duration;

use ops_core::{Context, ProbeSet, Secret, Status};
use ops_pg::{PgConfig, PgTarget, grants};
use ops_testkit::{Role, TestDb, on_each_postgres};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};

use crate::judgement::look_at;
use crate::rows::own;

/// Runs the script as `psql` would: in the databases that it names.
async fn apply(db: &TestDb, role: &str) -> sqlx::Result<()> {
    let script = grants(role, &[db.name().to_owned()]);
    let mut connection = db.connect().await.unwrap();
    for part in script.split("\\connect ") {
        let sql = part.strip_prefix(db.name()).unwrap_or(part).to_owned();
        connection.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await?;
    }
    connection.close().await
}

on_each_postgres!(least_privilege_sees_everything_and_reads_nothing, async |db: TestDb| {
    db.execute(
        "CREATE TABLE orders (id serial PRIMARY KEY, secret text); ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
         CREATE POLICY p ON orders USING (secret = 'x');
         INSERT INTO orders (secret) SELECT 'card ' || i FROM generate_series(1, 1000) i; ANALYZE orders",
    )
    .await;
    let role = db.role(Role::Nobody);
    for _ in 0..2 {
        apply(&db, &role).await.unwrap();
    }

    let target =
        PgTarget::connect_lazily("main", &Secret::from(db.url_as(Role::Nobody)), PgConfig::default());
    let mut set = ProbeSet::new("test");
    target.unwrap().add_all_to(&mut set);
    let report = set.run(&Context::new()).await;
    let unseen: Vec<_> = report.probes.iter().filter(|probe| probe.status == Status::Unknown).collect();
    assert!(report.coverage >= 0.95, "{unseen:#?}");
    assert!(unseen.iter().all(|probe| probe.probe != "pg.settings"), "{unseen:#?}");

    let mut reader = db.connect_as(Role::Nobody).await.unwrap();
    for table in ["orders", "pg_statistic", "orders_id_seq"] {
        let refused = reader.execute(AssertSqlSafe(format!("SELECT * FROM {table}"))).await.unwrap_err();
        let refused = refused.into_database_error().unwrap();
        assert_eq!(refused.code().as_deref(), Some("42501"), "{table}");
    }
    let values = reader.fetch_all("SELECT * FROM pg_stats WHERE tablename = 'orders'").await.unwrap();
    assert!(values.is_empty(), "{} rows of statistics", values.len());
    let drawn = reader.execute("SELECT nextval('orders_id_seq')").await.unwrap_err();
    assert_eq!(drawn.into_database_error().unwrap().code().as_deref(), Some("42501"));
    let last = reader.fetch_one("SELECT ops.sequence_last_value('orders_id_seq'::regclass)").await.unwrap();
    assert_eq!(last.get::<i64, _>(0), 1000);
    let segments = reader.fetch_one("SELECT ops.multixact_member_segments()").await.unwrap();
    assert!(segments.get::<i64, _>(0) >= 1);
    let listed = reader.execute("SELECT pg_ls_dir('pg_multixact/members')").await.unwrap_err();
    assert_eq!(listed.into_database_error().unwrap().code().as_deref(), Some("42501"));
    reader.close().await.unwrap();
});

// Only how many there are is counted: files of no content stand for two billion members.
on_each_postgres!(members_of_multixacts_fill_a_space_of_their_own, async |db: TestDb| {
    let Some(options) = own::options_here(&db).await else { return };
    let cluster = own::cluster(&db, &options).await;
    let mut connection = PgConnection::connect(&cluster.url("postgres")).await.unwrap();
    let data: String = sqlx::query_scalar("SELECT current_setting('data_directory')")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    for segment in 1..45_000 {
        std::fs::write(format!("{data}/pg_multixact/members/{segment:04X}"), "").unwrap();
    }
    let urls = own::urls(&cluster, &db);
    let codes = async |role| {
        let result = look_at(urls(role), "pg.wraparound", PgConfig::default()).await;
        let codes: Vec<_> = result.findings.iter().map(|f| f.code.to_string()).collect();
        (result.status, codes)
    };
    let filling = (Status::Warning, vec!["pg.wraparound.members".to_owned()]);
    assert_eq!(codes(Role::Superuser).await, filling);
    // Hidden, and as few multixacts as in any new cluster: no reason to ask for more rights.
    assert_eq!(codes(Role::Nobody).await, (Status::Ok, vec![]));
    let script = grants(&db.role(Role::Nobody), &["postgres".to_owned()]).replace("\\connect postgres\n", "");
    connection.execute(sqlx::raw_sql(AssertSqlSafe(script))).await.unwrap();
    assert_eq!(codes(Role::Nobody).await, filling);
    connection.close().await.unwrap();
});

// A schema of that name may be anybody's: only what a superuser made in it is called.
on_each_postgres!(an_impostor_is_not_called, async |db: TestDb| {
    let (monitor, nobody) = (db.role(Role::Monitor), db.role(Role::Nobody));
    db.execute(format!(
        "CREATE SEQUENCE numbers; CREATE SCHEMA ops AUTHORIZATION {monitor}; GRANT USAGE ON SCHEMA ops TO {nobody};
         SET ROLE {monitor};
         CREATE FUNCTION ops.sequence_last_value(oid) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
           AS $$ BEGIN RAISE 'called'; END $$"
    ))
    .await;
    // One that a superuser owns could be replaced, as long as the schema is somebody else's.
    for change in ["", "ALTER FUNCTION ops.sequence_last_value(oid) OWNER TO CURRENT_USER"] {
        db.execute(change).await;
        let url = Secret::from(db.url_as(Role::Nobody));
        let target = PgTarget::connect_lazily("main", &url, PgConfig::default()).unwrap();
        let mut set = ProbeSet::new("test");
        target.add_all_to(&mut set);
        let report = set.run(&Context::new()).await;
        let sequences = report.probes.iter().find(|probe| probe.probe == "pg.sequences").unwrap();
        assert_eq!(sequences.status, Status::Unknown);
        assert!(sequences.summary.contains("hidden"), "{sequences:#?}");
    }
    let refused = apply(&db, &nobody).await.unwrap_err().to_string();
    assert!(refused.contains("schema ops is not owned by a superuser"), "{refused}");
});

// An extension may be in a schema that is closed, and says no more than "permission denied" then.
on_each_postgres!(a_closed_schema_is_named_and_opened, async |db: TestDb| {
    db.execute("CREATE SCHEMA closed; CREATE EXTENSION pg_stat_statements SCHEMA closed").await;
    let (monitor, role) = (db.role(Role::Monitor), Role::Monitor);
    let look = async || {
        let url = Secret::from(db.url_as(role));
        let target = PgTarget::connect_lazily("main", &url, PgConfig::default()).unwrap();
        let mut set = ProbeSet::new("test");
        target.add_all_to(&mut set);
        let report = set.run(&Context::new().with_window_gap(Duration::from_millis(100))).await;
        report.probes.into_iter().find(|probe| probe.probe == "pg.slow_queries").unwrap()
    };
    let closed = look().await;
    let fix = closed.unseen.first().and_then(|unseen| unseen.fix.clone());
    assert_eq!(fix, Some(format!("GRANT USAGE ON SCHEMA closed TO {monitor};")), "{closed:#?}");
    apply(&db, &monitor).await.unwrap();
    let open = look().await;
    assert_eq!(open.status, Status::Ok, "{open:#?}");
});
