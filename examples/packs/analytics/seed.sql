-- The same system on every run, ending today: 200 users, 20,000 tasks, 60 days of figures.

INSERT INTO users (id, email, created_at, last_active)
SELECT md5('user ' || n)::uuid, 'user' || n || '@example.com',
       now() - make_interval(days => 30 + n), now() - make_interval(mins => n)
  FROM generate_series(1, 200) n;

INSERT INTO tasks (user_id, title, status, priority, deleted, created_at, completed_at)
SELECT md5('user ' || 1 + n % 200)::uuid, 'task ' || n,
       (ARRAY['todo', 'in_progress', 'done'])[1 + n % 3],
       (ARRAY['low', 'medium', 'high'])[1 + n / 3 % 3],
       n % 50 = 0,
       now() - make_interval(hours => n % 1440),
       CASE WHEN n % 3 = 2 THEN now() - make_interval(hours => n % 1440 / 2) END
  FROM generate_series(1, 20000) n;

INSERT INTO daily_analytics
SELECT id, current_date - days, 2 + days % 3, 1 + days % 2,
       round(100.0 * (1 + days % 2) / (2 + days % 3), 2), 50 + days % 40
  FROM users, generate_series(1, 60) days;

INSERT INTO daily_analytics_archive
SELECT id, current_date - 800 - days, 2, 1, 50, 50 FROM users, generate_series(1, 5) days;

REFRESH MATERIALIZED VIEW user_task_stats;
REFRESH MATERIALIZED VIEW user_priority_distribution;
REFRESH MATERIALIZED VIEW user_status_distribution;
REFRESH MATERIALIZED VIEW user_monthly_trends;

VACUUM (ANALYZE);
