use super::fault::{Fault, Injected};
use super::stand::Pack;

pub(crate) const PACK: Pack = Pack {
    name: "elaro",
    targets: &["main", "server"],
    redis: None,
    api: &[],
    logs: &[],
    jobs: &["backup"],
    faults: || security().into_iter().chain(care()).chain(data()).collect(),
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
            [Sql("ALTER TABLE study_sessions DISABLE ROW LEVEL SECURITY")],
            &[
                ("pg.rls", "pg.rls.policies_off"),
                ("pg.rls_isolation", "pg.rls_isolation.leak"),
                ("pg.rls_isolation", "pg.rls_isolation.write"),
            ],
        ),
        Fault::critical(
            "insert-open",
            [Sql(
                "CREATE POLICY open ON assignments FOR INSERT TO authenticated WITH CHECK (user_id IS NOT NULL)",
            )],
            &[("pg.rls_isolation", "pg.rls_isolation.write")],
        ),
        Fault::critical(
            "function-leaks",
            [Sql("ALTER FUNCTION agenda() SECURITY DEFINER")],
            &[("pg.rls_isolation", "pg.rls_isolation.leak")],
        ),
        Fault::critical(
            "table-careless",
            [Sql("CREATE TABLE notes (user_id uuid, note text)")],
            &[("pg.primary_keys", "pg.primary_key.missing"), ("pg.rls", "pg.rls.disabled")],
        ),
    ]
}

fn care() -> Vec<Fault> {
    use Injected::{Beat, Sql, SqlAllTheWhile};
    vec![
        Fault::warning(
            "statement-slow",
            [SqlAllTheWhile("SELECT pg_sleep(0.12)"), SqlAllTheWhile("SELECT pg_sleep(0.12)")],
            &[("pg.slow_queries", "pg.query.slow")],
        ),
        Fault::warning(
            "index-twice",
            [Sql("CREATE INDEX due_of_user ON assignments (user_id, due_at)")],
            &[("pg.index_duplicate", "pg.index.duplicate")],
        ),
        Fault::critical(
            "counting-off",
            [Sql(
                "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET track_counts = off', current_database()); END $$",
            )],
            &[("pg.settings", "pg.settings.maintenance_off")],
        ),
        Fault::warning(
            "maintenance-late",
            [Sql(
                "DELETE FROM maintenance_history WHERE task = 'vacuum' AND finished_at > now() - interval '2 days'",
            )],
            &[("metric.maintenance_age", "metric.maintenance_age.out_of_bounds")],
        ),
        Fault::warning(
            "maintenance-fails",
            [Sql("INSERT INTO maintenance_history (task, succeeded) VALUES ('cleanup', false)")],
            &[("metric.maintenance_failed", "metric.maintenance_failed.out_of_bounds")],
        ),
        Fault::critical(
            "backup-late",
            [Beat { job: "backup", hours_ago: Some(30) }],
            &[("job.heartbeat", "job.heartbeat.late")],
        ),
        Fault::warning(
            "events-pile-up",
            [Sql("UPDATE user_events SET processed_at = NULL WHERE id <= 500")],
            &[("metric.events_waiting", "metric.events_waiting.out_of_bounds")],
        ),
        Fault::warning(
            "never-cleaned",
            [Sql("UPDATE user_events SET created_at = created_at - interval '40 days' WHERE id <= 10")],
            &[("metric.events_past_retention", "metric.events_past_retention.out_of_bounds")],
        ),
    ]
}

fn data() -> Vec<Fault> {
    use Injected::Sql;
    vec![
        Fault::critical(
            "reminders-stuck",
            [Sql("UPDATE reminders SET sent_at = NULL")],
            &[("metric.reminders_overdue", "metric.reminders_overdue.out_of_bounds")],
        ),
        Fault::critical(
            "course-of-another",
            [Sql("UPDATE lectures SET course_id = (SELECT max(id) FROM courses) WHERE id = 1")],
            &[("metric.course_of_another", "metric.course_of_another.out_of_bounds")],
        ),
        Fault::warning(
            "lecture-ends-first",
            [Sql("UPDATE lectures SET ends_at = starts_at - interval '1 hour' WHERE id = 1")],
            &[("metric.times_out_of_range", "metric.times_out_of_range.out_of_bounds")],
        ),
        Fault::warning(
            "students-gone",
            [Sql(
                "DELETE FROM study_sessions WHERE started_at > now() - interval '8 days' AND user_id NOT IN
                  (SELECT id FROM users ORDER BY email LIMIT 12)",
            )],
            &[("metric.active_students", "metric.active_students.out_of_bounds")],
        ),
    ]
}
