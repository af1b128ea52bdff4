use super::api::SOCKET;
use super::fault::{Fault, Injected};
use super::stand::Pack;

const EVENTS: &str = "/rest/v1/engagement_events";
const USER: &str = "/auth/v1/user";
const GRAPHQL: &str = "/graphql/v1";

pub(crate) const PACK: Pack = Pack {
    name: "engagement-events",
    targets: &["main", "rest", "auth", "graphql", "realtime"],
    redis: None,
    api: &[
        (EVENTS, r#"[{"id": "1"}]"#),
        (USER, r#"{"aud": "authenticated"}"#),
        (GRAPHQL, r#"{"data": {"engagement_eventsCollection": {"edges": []}}}"#),
        (SOCKET, ""),
    ],
    logs: &[],
    jobs: &[],
    faults: || security().into_iter().chain(service()).chain(data()).collect(),
};

#[tokio::test]
async fn the_pack_finds_its_faults_and_nothing_else() {
    PACK.prove().await;
}

fn security() -> Vec<Fault> {
    use Injected::Sql;
    vec![
        Fault::critical(
            "row-security-off",
            [Sql("ALTER TABLE engagement_events DISABLE ROW LEVEL SECURITY")],
            &[("pg.rls", "pg.rls.policies_off"), ("pg.rls_isolation", "pg.rls_isolation.leak")],
        ),
        Fault::critical(
            "table-forgotten",
            [Sql("CREATE TABLE drafts (id uuid PRIMARY KEY, user_id uuid)")],
            &[("pg.rls", "pg.rls.disabled")],
        ),
        Fault::critical(
            "view-leaks",
            [Sql("CREATE VIEW latest_events AS SELECT user_id, event_type FROM engagement_events;
                  GRANT SELECT ON latest_events TO authenticated")],
            &[("pg.rls", "pg.rls.view"), ("pg.rls_isolation", "pg.rls_isolation.leak")],
        ),
        Fault::critical(
            "policy-too-wide",
            [Sql("CREATE POLICY wide ON engagement_events FOR SELECT TO authenticated
                  USING (user_id IS NOT NULL)")],
            &[("pg.rls_isolation", "pg.rls_isolation.leak")],
        ),
        Fault::critical(
            "claims-not-callable",
            [Sql("REVOKE ALL ON FUNCTION auth.uid() FROM PUBLIC; GRANT EXECUTE ON FUNCTION auth.uid() TO ops_monitor;
                  CREATE OR REPLACE FUNCTION announce_event() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
                  'BEGIN RETURN new; END'")],
            &[("pg.functions", "pg.function.not_executable"), ("pg.search_path", "pg.search_path.missing")],
        ),
        Fault::critical(
            "rows-of-others-asked-for",
            [Sql("INSERT INTO security_audit_log (event_type, source_ip) VALUES ('rls_violation', '10.9.8.7')")],
            &[("metric.rls_violations", "metric.rls_violations.out_of_bounds")],
        ),
    ]
}

fn service() -> Vec<Fault> {
    use Injected::{Answer, Sql};
    vec![
        Fault::critical(
            "rest-failing",
            [Answer { path: EVENTS, status: 503, body: "{}" }],
            &[("http.endpoint", "http.endpoint.server_error")],
        ),
        Fault::critical(
            "auth-says-anonymous",
            [Answer { path: USER, status: 200, body: r#"{"aud": "anon"}"# }],
            &[("http.endpoint", "http.endpoint.body")],
        ),
        Fault::critical(
            "graphql-errors",
            [Answer {
                path: GRAPHQL,
                status: 200,
                body: r#"{"data": null, "errors": [{"message": "timeout"}]}"#,
            }],
            &[("http.graphql", "http.graphql.errors")],
        ),
        Fault::critical(
            "realtime-closed",
            [Answer { path: SOCKET, status: 500, body: "too many connections to the database" }],
            &[("ws.subscription", "ws.subscription.refused")],
        ),
        Fault::critical(
            "api-error-rate",
            [Sql("UPDATE api_logs SET status_code = 502 WHERE id % 10 = 0")],
            &[("metric.api_error_rate", "metric.api_error_rate.out_of_bounds")],
        ),
        Fault::warning(
            "api-slow",
            [Sql("UPDATE api_logs SET response_time_ms = 700 WHERE id % 10 = 0")],
            &[("metric.api_response_p95", "metric.api_response_p95.out_of_bounds")],
        ),
        Fault::warning(
            "errors-by-the-hour",
            [Sql("INSERT INTO error_logs (component, message)
                  SELECT 'engagement_events', 'timed out' FROM generate_series(1, 12)")],
            &[("metric.errors_last_hour", "metric.errors_last_hour.out_of_bounds")],
        ),
        Fault::warning(
            "index-unfinished",
            [Sql(
                "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'idx_engagement_events_type'::regclass",
            )],
            &[("pg.index_invalid", "pg.index.invalid")],
        ),
    ]
}

fn data() -> Vec<Fault> {
    use Injected::Sql;
    vec![
        Fault::warning(
            "event-type-gone",
            [Sql("UPDATE engagement_events SET event_type = 'login' WHERE event_type = 'reminder_opened'
                  AND timestamp > now() - interval '2 days'")],
            &[("metric.events_by_type", "metric.events_by_type.out_of_bounds")],
        ),
        Fault::warning(
            "users-gone",
            [Sql("DELETE FROM engagement_events WHERE timestamp > now() - interval '1 day'
                  AND user_id >= (SELECT percentile_disc(0.3) WITHIN GROUP (ORDER BY user_id)
                                    FROM (SELECT DISTINCT user_id FROM engagement_events) u)")],
            &[
                ("metric.daily_active_users", "metric.daily_active_users.out_of_bounds"),
                ("metric.retention", "metric.retention.out_of_bounds"),
            ],
        ),
        Fault::warning(
            "one-user-floods",
            [
                Sql("INSERT INTO engagement_events (user_id, event_type, value, client_id, timestamp)
                     SELECT md5('user ' || n % 3)::uuid, 'login', jsonb_build_object('session', n),
                            md5(n::text)::uuid, now() - interval '1 hour'
                       FROM generate_series(1, 9500) n"),
                Sql("ANALYZE engagement_events"),
            ],
            &[("metric.events_per_user", "metric.events_per_user.out_of_bounds")],
        ),
        Fault::critical(
            "sent-twice",
            [Sql("INSERT INTO engagement_events (user_id, event_type, value, timestamp, client_id)
                  SELECT user_id, event_type, value, timestamp, client_id FROM engagement_events
                   WHERE timestamp > now() - interval '6 hours'")],
            &[("metric.duplicate_events", "metric.duplicate_events.out_of_bounds")],
        ),
        Fault::warning(
            "fields-missing",
            [Sql("UPDATE engagement_events SET value = value - 'session'
                   WHERE timestamp > now() - interval '1 hour'")],
            &[("metric.missing_fields", "metric.missing_fields.out_of_bounds")],
        ),
        Fault::warning(
            "event-invalid",
            [Sql("INSERT INTO engagement_events (user_id, event_type, value, client_id)
                  VALUES (md5('user 1')::uuid, 'deployment_test', '{\"session\": 1}', gen_random_uuid())")],
            &[("metric.invalid_events", "metric.invalid_events.out_of_bounds")],
        ),
        Fault::warning(
            "hours-empty",
            [Sql("DELETE FROM engagement_events
                   WHERE timestamp BETWEEN now() - interval '10 hours' AND now() - interval '5 hours'")],
            &[("metric.completeness", "metric.completeness.out_of_bounds")],
        ),
        Fault::warning(
            "inserts-flood",
            [
                Sql("DROP INDEX idx_engagement_events_value; ALTER TABLE engagement_events DISABLE TRIGGER announce;
                     INSERT INTO engagement_events (user_id, event_type, value, client_id)
                     SELECT md5('many ' || n)::uuid, 'app_open', '{\"session\": 1}', md5(n::text)::uuid
                       FROM generate_series(1, 160000) n"),
                Sql("VACUUM (ANALYZE) engagement_events"),
            ],
            &[("metric.insert_rate", "metric.insert_rate.out_of_bounds")],
        ),
        Fault::warning(
            "table-grows-fast",
            [Sql("UPDATE daily_health_metrics SET table_size_bytes = 2000000000
                   WHERE date = (SELECT max(date) FROM daily_health_metrics)")],
            &[("metric.table_growth_per_day", "metric.table_growth_per_day.out_of_bounds")],
        ),
        Fault::warning(
            "daily-check-missed",
            [Sql("DELETE FROM daily_health_metrics WHERE date > current_date - 2")],
            &[("metric.days_since_daily_check", "metric.days_since_daily_check.out_of_bounds")],
        ),
    ]
}
