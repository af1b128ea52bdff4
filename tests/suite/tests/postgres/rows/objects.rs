use ops_core::Status;
use ops_pg::{PgConfig, RequiredConfig};

use super::{Row, run};

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row::of("pg.extensions", Status::Warning, "pg.extension.outdated", |db| {
            run(db, "CREATE EXTENSION hstore VERSION '1.4'")
        })
        .about(|_| "hstore".into()),
        Row {
            config: || PgConfig::default().with_required(audited()),
            ..Row::of("pg.event_triggers", Status::Critical, "pg.event_trigger.disabled", |db| {
                run(
                    db,
                    "CREATE FUNCTION audit() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
                     CREATE EVENT TRIGGER audit_ddl ON ddl_command_end EXECUTE FUNCTION audit();
                     ALTER EVENT TRIGGER audit_ddl DISABLE",
                )
            })
            .about(|_| "audit_ddl".into())
        },
        Row {
            config: || PgConfig::default().with_required(scored()),
            ..Row::of("pg.functions", Status::Critical, "pg.function.not_executable", |db| {
                run(
                    db,
                    "CREATE FUNCTION score(int) RETURNS int LANGUAGE sql AS 'SELECT 1';
                     REVOKE ALL ON FUNCTION score(int) FROM PUBLIC",
                )
            })
            .about(|_| "public.score(integer)".into())
        },
        Row::of("pg.matviews", Status::Warning, "pg.matview.unpopulated", |db| {
            run(db, "CREATE MATERIALIZED VIEW totals AS SELECT 1 AS n WITH NO DATA")
        })
        .about(|_| "public.totals".into()),
    ]
}

fn audited() -> RequiredConfig {
    RequiredConfig::default().with_event_triggers(["audit_ddl".to_owned()])
}

fn scored() -> RequiredConfig {
    RequiredConfig::default().with_functions(["public.score(int)".to_owned()]).with_role("pg_read_all_data")
}
