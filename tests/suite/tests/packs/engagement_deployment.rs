use super::fault::{Fault, Injected};
use super::stand::Pack;

const EVENTS: &str = "/rest/v1/engagement_events";
const GRAPHQL: &str = "/graphql/v1";

pub(crate) const PACK: Pack = Pack {
    name: "engagement-deployment",
    targets: &["main", "rest", "graphql", "server"],
    redis: None,
    api: &[
        (EVENTS, r#"[{"id": "1"}]"#),
        (GRAPHQL, r#"{"data": {"engagement_eventsCollection": {"edges": []}}}"#),
    ],
    logs: &[],
    jobs: &["backup"],
    faults: || migration().into_iter().chain(deployment()).collect(),
};

#[tokio::test]
async fn the_pack_finds_its_faults_and_nothing_else() {
    PACK.prove().await;
}

fn migration() -> Vec<Fault> {
    use Injected::Sql;
    vec![
        Fault::critical(
            "row-security-off",
            [Sql("ALTER TABLE engagement_events DISABLE ROW LEVEL SECURITY")],
            &[
                ("pg.rls", "pg.rls.policies_off"),
                ("pg.rls_isolation", "pg.rls_isolation.leak"),
                ("pg.rls_isolation", "pg.rls_isolation.write"),
            ],
        ),
        Fault::critical(
            "archive-forgotten",
            [Sql("DROP POLICY \"Monitoring counts\" ON engagement_events_archive;
                  ALTER TABLE engagement_events_archive DISABLE ROW LEVEL SECURITY")],
            &[("pg.rls", "pg.rls.disabled")],
        ),
        Fault::critical(
            "insert-open",
            [Sql(
                "CREATE POLICY open ON engagement_events FOR INSERT TO authenticated WITH CHECK (user_id IS NOT NULL)",
            )],
            &[("pg.rls_isolation", "pg.rls_isolation.write")],
        ),
        Fault::critical(
            "table-lost",
            [Sql("DROP TABLE engagement_events_archive")],
            &[("pg.rls", "pg.rls.missing")],
        ),
        Fault::critical(
            "index-lost",
            [Sql("DROP INDEX idx_engagement_events_type")],
            &[("metric.migration_indexes", "metric.migration_indexes.out_of_bounds")],
        ),
        Fault::critical(
            "index-unfinished",
            [Sql(
                "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'idx_engagement_events_value'::regclass",
            )],
            &[
                ("metric.migration_indexes", "metric.migration_indexes.out_of_bounds"),
                ("pg.index_invalid", "pg.index.invalid"),
            ],
        ),
        Fault::critical(
            "function-lost",
            [Sql("DROP FUNCTION delete_user_data(uuid)")],
            &[("pg.functions", "pg.function.missing")],
        ),
        Fault::critical(
            "function-closed",
            [Sql("REVOKE EXECUTE ON FUNCTION archive_old_deleted_events() FROM service_role")],
            &[("pg.functions", "pg.function.not_executable")],
        ),
    ]
}

fn deployment() -> Vec<Fault> {
    use Injected::{Answer, Beat, Sql};
    vec![
        Fault::critical(
            "rows-of-others-asked-for",
            [Sql("INSERT INTO security_audit_log (event_type) VALUES ('rls_violation')")],
            &[("metric.rls_violations", "metric.rls_violations.out_of_bounds")],
        ),
        Fault::critical(
            "statement-slower",
            [Sql("UPDATE deployment.statement_baseline SET after_ms = 1.6 * before_ms
                   WHERE statement = 'events by type'")],
            &[("metric.slower_than_before", "metric.slower_than_before.out_of_bounds")],
        ),
        Fault::critical(
            "rollback-failed",
            [Sql(
                "INSERT INTO deployment.deployment_log (action, details, succeeded) VALUES ('rollback', 'locks', false)",
            )],
            &[("metric.deployment_failed", "metric.deployment_failed.out_of_bounds")],
        ),
        Fault::warning(
            "validation-left-out",
            [Sql("DELETE FROM deployment.deployment_log WHERE action = 'validate'")],
            &[("metric.deployment_unvalidated", "metric.deployment_unvalidated.out_of_bounds")],
        ),
        Fault::warning(
            "maintenance-forgotten",
            [Sql(
                "UPDATE deployment.system_status SET maintenance_mode = true, since = now() - interval '1 hour'",
            )],
            &[("metric.maintenance_mode", "metric.maintenance_mode.out_of_bounds")],
        ),
        Fault::warning(
            "test-left",
            [Sql(
                "INSERT INTO engagement_events (user_id, event_type) VALUES (md5('user 1')::uuid, 'deployment_test')",
            )],
            &[("metric.test_events_left", "metric.test_events_left.out_of_bounds")],
        ),
        Fault::warning(
            "never-archived",
            [Sql(
                "UPDATE engagement_events SET deleted_at = now() - interval '50 days' WHERE deleted_at IS NOT NULL",
            )],
            &[("metric.deleted_not_archived", "metric.deleted_not_archived.out_of_bounds")],
        ),
        Fault::critical(
            "backup-late",
            [Beat { job: "backup", hours_ago: Some(25) }],
            &[("job.heartbeat", "job.heartbeat.late")],
        ),
        Fault::critical(
            "rest-failing",
            [Answer { path: EVENTS, status: 500, body: "{}" }],
            &[("http.endpoint", "http.endpoint.server_error")],
        ),
        Fault::critical(
            "graphql-errors",
            [Answer {
                path: GRAPHQL,
                status: 200,
                body: r#"{"data": null, "errors": [{"message": "no such table"}]}"#,
            }],
            &[("http.graphql", "http.graphql.errors")],
        ),
    ]
}
