use super::fault::{Fault, Injected};
use super::stand::Pack;

pub(crate) const PACK: Pack = Pack {
    name: "pggit",
    targets: &["main", "server"],
    redis: None,
    api: &[],
    logs: &["postgresql.log"],
    jobs: &["weekly_maintenance", "backup"],
    faults: || tracking().into_iter().chain(figures()).collect(),
};

#[tokio::test]
async fn the_pack_finds_its_faults_and_nothing_else() {
    PACK.prove().await;
}

fn tracking() -> Vec<Fault> {
    use Injected::Sql;
    vec![
        Fault::critical(
            "tracking-off",
            [Sql("ALTER EVENT TRIGGER pggit_ddl_trigger DISABLE")],
            &[
                ("metric.pggit_health", "metric.pggit_health.out_of_bounds"),
                ("pg.event_triggers", "pg.event_trigger.disabled"),
            ],
        ),
        Fault::critical(
            "trigger-dropped",
            [Sql("DROP EVENT TRIGGER pggit_drop_trigger")],
            &[
                ("metric.pggit_health", "metric.pggit_health.out_of_bounds"),
                ("pg.event_triggers", "pg.event_trigger.missing"),
            ],
        ),
        Fault::critical(
            "function-closed",
            [Sql("REVOKE ALL ON FUNCTION pggit.pggit_track_ddl() FROM PUBLIC")],
            &[("pg.functions", "pg.function.not_executable")],
        ),
        Fault::critical(
            "function-renamed",
            [Sql("ALTER FUNCTION pggit.pggit_track_ddl() RENAME TO track")],
            &[("pg.functions", "pg.function.missing")],
        ),
        Fault::warning(
            "extension-outdated",
            [Sql("DROP EXTENSION pg_stat_statements; CREATE EXTENSION pg_stat_statements VERSION '1.8'")],
            &[("pg.extensions", "pg.extension.outdated"), ("pg.statements", "pg.statements.outdated")],
        ),
    ]
}

fn figures() -> Vec<Fault> {
    use Injected::{Beat, Line, Sql};
    vec![
        Fault::critical(
            "history-changed",
            [Sql("UPDATE pggit.history SET command = 'SELECT 1' WHERE id = 5000")],
            &[("metric.integrity", "metric.integrity.out_of_bounds")],
        ),
        Fault::warning(
            "storage-high",
            [
                Sql("ALTER TABLE pggit.history ALTER command SET STORAGE EXTERNAL;
                     INSERT INTO pggit.history (object_id, change_type, command, checksum, created_at)
                     SELECT min(id), 'CREATE FUNCTION', repeat('x', 100000000), digest(repeat('x', 100000000), 'sha256'),
                            now() - interval '2 days' FROM pggit.objects"),
            ],
            &[("metric.storage", "metric.storage.out_of_bounds")],
        ),
        Fault::warning(
            "changes-flood",
            [Sql("INSERT INTO pggit.history (object_id, change_type, command, checksum, took_ms)
                  SELECT 1, 'CREATE TABLE', 'x', digest('x', 'sha256'), 5 FROM generate_series(1, 1200)")],
            &[("metric.changes_last_day", "metric.changes_last_day.out_of_bounds")],
        ),
        Fault::warning(
            "never-archived",
            [Sql("UPDATE pggit.history SET created_at = created_at - interval '1 year' WHERE id < 1000")],
            &[("metric.history_past_retention", "metric.history_past_retention.out_of_bounds")],
        ),
        Fault::warning(
            "ddl-slow",
            [Sql("UPDATE pggit.history SET took_ms = 400 WHERE created_at > now() - interval '1 day'")],
            &[("metric.ddl_latency_p95", "metric.ddl_latency_p95.out_of_bounds")],
        ),
        Fault::critical(
            "sequence-nearly-full",
            [Sql("SELECT setval('pggit.objects_id_seq', 2100000000)")],
            &[("pg.sequences", "pg.sequence.exhausted")],
        ),
        Fault::critical(
            "damage-logged",
            [Line {
                log: "postgresql.log",
                text: "[1] XX001 ERROR:  invalid page in block 7 of relation base/5/16391",
                times: 1,
            }],
            &[("host.log", "host.log.match")],
        ),
        Fault::warning(
            "maintenance-late",
            [Beat { job: "weekly_maintenance", hours_ago: Some(180) }],
            &[("job.heartbeat", "job.heartbeat.late")],
        ),
    ]
}
