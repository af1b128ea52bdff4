use ops_core::Status;
use ops_pg::{IsolationConfig, PgConfig, RlsConfig, TenantConfig};
use ops_testkit::{Role, TestDb};

use super::{Held, Row, run};

/// A role that every cluster has stands in for the clients'.
fn isolation() -> IsolationConfig {
    let tenants = [TenantConfig::new("acme", "1"), TenantConfig::new("globex", "2")];
    IsolationConfig::new("pg_monitor", "app.tenant", "tenant", tenants)
        .with_relations(["public.notes".to_owned()])
}

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row::of("pg.rls", Status::Critical, "pg.rls.disabled", |db| {
            run(
                db,
                "CREATE TABLE accounts (tenant int); ALTER TABLE accounts ENABLE ROW LEVEL SECURITY;
                 CREATE POLICY own ON accounts USING (tenant = 1); CREATE TABLE invoices (tenant int)",
            )
        })
        .about(|_| "public.invoices".into())
        .configured(|| {
            PgConfig::default().with_rls(RlsConfig::default().with_tables(["public.invoices".to_owned()]))
        }),
        Row {
            config: || PgConfig::default().with_isolation([isolation()]),
            ..Row::of("pg.rls_isolation", Status::Critical, "pg.rls_isolation.leak", |db| {
                Box::pin(leaking(db))
            })
        }
        .about(|_| "public.all_notes".into()),
        Row::of("pg.search_path", Status::Warning, "pg.search_path.missing", |db| {
            run(db, "CREATE FUNCTION elevated() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'")
        })
        .about(|_| "public.elevated()".into()),
        Row::of("pg.primary_keys", Status::Warning, "pg.primary_key.missing", |db| {
            run(db, "CREATE TABLE keyless (id int)")
        })
        .about(|_| "public.keyless".into()),
        Row {
            config: || PgConfig::default().with_superusers(["postgres".to_owned()]),
            ..Row::of("pg.roles", Status::Warning, "pg.role.superuser", |db| Box::pin(second_superuser(db)))
                .about(second_superusers_name)
        },
        Row::of("pg.public_grants", Status::Ok, "pg.grant.public_create", |db| {
            run(db, "CREATE SCHEMA open_house; GRANT CREATE ON SCHEMA open_house TO PUBLIC")
        })
        .about(|_| "open_house".into()),
    ]
}

/// A view without row security over a table that has it. A superuser is refused: what it is to see, the monitoring role
/// sees.
async fn leaking(db: &TestDb) -> Held {
    db.execute(
        "CREATE TABLE notes (tenant int); INSERT INTO notes VALUES (1), (2);
         ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
         CREATE POLICY own ON notes USING (tenant = current_setting('app.tenant')::int);
         CREATE VIEW all_notes AS SELECT * FROM notes; GRANT SELECT ON notes, all_notes TO pg_monitor",
    )
    .await;
    let (monitor, nobody) = (db.url_as(Role::Monitor), db.url_as(Role::Nobody));
    Held::new()
        .at(move |role| if role == Role::Nobody { nobody.clone() } else { monitor.clone() })
        .fixed_at(db.url())
}

fn second_superusers_name(db: &TestDb) -> String {
    format!("{}_root", db.name())
}

/// Roles are the whole server's: its name is this database's own. No password lets it in.
async fn second_superuser(db: &TestDb) -> Held {
    db.execute(format!("CREATE ROLE {} SUPERUSER LOGIN", second_superusers_name(db))).await;
    Held::new()
}
