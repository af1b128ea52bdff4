use ops_core::Status;
use ops_pg::{IsolationConfig, PgConfig, TenantConfig};

use super::{Row, run};

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
        .about(|_| "public.invoices".into()),
        Row {
            config: || PgConfig::default().with_isolation([isolation()]),
            ..Row::of("pg.rls_isolation", Status::Critical, "pg.rls_isolation.leak", |db| {
                run(
                    db,
                    "CREATE TABLE notes (tenant int); INSERT INTO notes VALUES (1), (2);
                     ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
                     CREATE POLICY own ON notes USING (tenant = current_setting('app.tenant')::int);
                     CREATE VIEW all_notes AS SELECT * FROM notes; GRANT SELECT ON notes, all_notes TO pg_monitor",
                )
            })
        }
        .about(|_| "public.all_notes".into()),
    ]
}
