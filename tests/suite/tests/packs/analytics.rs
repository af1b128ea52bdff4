use super::fault::{Fault, Injected};
use super::stand::Pack;

pub(crate) const PACK: Pack = Pack {
    name: "analytics",
    targets: &["main", "cache", "api", "server"],
    redis: Some(&[
        "SET analytics:overview:1 {} EX 300",
        "SET analytics:overview:2 {} EX 300",
        "SET analytics:priority:1 {} EX 600",
    ]),
    api: &[("/health", r#"{"status": "healthy"}"#)],
    logs: &["app/error.log", "app/access.log", "jobs/daily_aggregation.log", "jobs/cache_warming.log"],
    jobs: &["daily_aggregation", "cache_warming", "refresh_views", "backup"],
    faults,
};

#[tokio::test]
async fn the_pack_finds_its_faults_and_nothing_else() {
    PACK.prove().await;
}

fn faults() -> Vec<Fault> {
    use Injected::{Answer, Beat, Line, Redis, RedisAllTheWhile, Sessions, Sql};
    vec![
        Fault::critical(
            "yesterday-missing",
            [Sql("DELETE FROM daily_analytics WHERE date >= current_date - 2")],
            &[("metric.aggregated_yesterday", "metric.aggregated_yesterday.out_of_bounds")],
        ),
        Fault::warning(
            "yesterday-incomplete",
            [Sql("DELETE FROM daily_analytics WHERE date >= current_date - 2
                   AND user_id IN (SELECT id FROM users ORDER BY id LIMIT 20)")],
            &[("metric.aggregated_yesterday", "metric.aggregated_yesterday.out_of_bounds")],
        ),
        Fault::critical(
            "rate-out-of-range",
            [Sql("UPDATE daily_analytics SET completion_rate = 140 WHERE date = current_date - 1
                   AND user_id = (SELECT min(id::text)::uuid FROM users)")],
            &[("metric.completion_rate_out_of_range", "metric.completion_rate_out_of_range.out_of_bounds")],
        ),
        Fault::warning(
            "never-archived",
            [Sql(
                "INSERT INTO daily_analytics SELECT id, current_date - 900, 1, 1, 100, 50 FROM users LIMIT 1",
            )],
            &[("metric.days_past_retention", "metric.days_past_retention.out_of_bounds")],
        ),
        Fault::warning(
            "mass-deletion",
            [Sql("DELETE FROM tasks WHERE id <= 150")],
            &[("metric.deletions_last_hour", "metric.deletions_last_hour.out_of_bounds")],
        ),
        Fault::warning(
            "users-gone",
            [Sql("UPDATE users SET last_active = now() - interval '3 days' WHERE email > 'user12'")],
            &[("metric.daily_active_users", "metric.daily_active_users.out_of_bounds")],
        ),
        Fault::warning(
            "user-growth",
            [Sql(
                "INSERT INTO users SELECT md5('new ' || n)::uuid, 'new' || n || '@example.com' FROM generate_series(1, 60) n",
            )],
            &[("metric.user_growth", "metric.user_growth.out_of_bounds")],
        ),
        Fault::warning(
            "view-empty",
            [Sql("REFRESH MATERIALIZED VIEW user_monthly_trends WITH NO DATA")],
            &[("pg.matviews", "pg.matview.unpopulated")],
        ),
        Fault::critical(
            "sequence-nearly-full",
            [Sql("SELECT setval('tasks_id_seq', 2100000000)")],
            &[("pg.sequences", "pg.sequence.exhausted")],
        ),
        Fault::warning(
            "index-twice",
            [Sql("CREATE INDEX tasks_of_user ON tasks (user_id)")],
            &[("pg.index_duplicate", "pg.index.duplicate")],
        ),
        Fault::warning(
            "dead-rows",
            [Sql("UPDATE tasks SET title = title || '!' WHERE id % 2 = 0")],
            // One cause, and two things to see of it.
            &[("pg.dead_tuples", "pg.table.dead_rows"), ("pg.vacuum_backlog", "pg.vacuum.overdue")],
        ),
        Fault::critical("sessions-used-up", [Sessions(52)], &[("pg.connections", "pg.connections.high")]),
        Fault::critical(
            "api-unhealthy",
            [Answer { path: "/health", status: 200, body: r#"{"status": "unhealthy"}"# }],
            &[("http.endpoint", "http.endpoint.body")],
        ),
        Fault::critical(
            "api-failing",
            [Answer { path: "/health", status: 500, body: "{}" }],
            &[("http.endpoint", "http.endpoint.server_error")],
        ),
        Fault::warning(
            "keys-without-ttl",
            [Redis("SET analytics:overview:3 {}")],
            &[("redis.no_ttl", "redis.keys.no_ttl")],
        ),
        Fault::warning(
            "cache-nearly-full",
            // In parts: a single value of this size can be a slow command by itself.
            [
                Redis("SETEX filler:1 300 x"),
                Redis("SETRANGE filler:1 3000000 x"),
                Redis("SETEX filler:2 300 x"),
                Redis("SETRANGE filler:2 3000000 x"),
                Redis("SETEX filler:3 300 x"),
                Redis("SETRANGE filler:3 3000000 x"),
                Redis("SETEX filler:4 300 x"),
                Redis("SETRANGE filler:4 3000000 x"),
            ],
            &[("redis.memory", "redis.memory.high")],
        ),
        Fault::critical(
            "cache-misses",
            [RedisAllTheWhile("GET nothing")],
            &[("redis.hit_rate", "redis.cache.hit_rate")],
        ),
        Fault::warning(
            "errors-logged",
            [Line { log: "app/error.log", text: "ERROR TimeoutError in /overview", times: 1 }],
            &[("host.log", "host.log.match")],
        ),
        Fault::warning(
            "rate-limits-met",
            [Line { log: "app/access.log", text: "10.0.0.7 RateLimitExceeded", times: 120 }],
            &[("host.log", "host.log.match")],
        ),
        Fault::warning(
            "job-error",
            [Line { log: "jobs/daily_aggregation.log", text: "ERROR no connection", times: 1 }],
            &[("host.log", "host.log.match")],
        ),
        Fault::critical(
            "job-late",
            [Beat { job: "cache_warming", hours_ago: Some(13) }],
            &[("job.heartbeat", "job.heartbeat.late")],
        ),
        Fault::critical(
            "job-never-ran",
            [Beat { job: "daily_aggregation", hours_ago: None }],
            &[("job.heartbeat", "job.heartbeat.missing")],
        ),
    ]
}
