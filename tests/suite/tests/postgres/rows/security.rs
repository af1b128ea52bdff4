use ops_core::Status;

use super::{Row, run};

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
    ]
}
