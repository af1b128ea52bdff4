-- The same system on every run: deployed and validated two hours ago, 12,000 events.

INSERT INTO deployment.system_status DEFAULT VALUES;
INSERT INTO deployment.migrations VALUES
    ('20241201000000_engagement_events', md5('engagement_events'), now() - interval '2 hours');
INSERT INTO deployment.deployment_log (action, details, "timestamp") VALUES
    ('deploy', 'engagement_events', now() - interval '2 hours'),
    ('validate', 'table, row security, indexes, insert and select', now() - interval '115 minutes');
INSERT INTO deployment.statement_baseline VALUES
    ('events of a user', 1.2, 1.1), ('events by type', 40, 42), ('insert', 0.4, 0.5);

INSERT INTO engagement_events (id, user_id, event_type, value, "timestamp", deleted_at)
SELECT md5('event ' || n)::uuid, md5('user ' || n % 60)::uuid,
       (ARRAY['login', 'app_open', 'lesson_started', 'lesson_completed'])[1 + n % 4],
       jsonb_build_object('session', n / 7), now() - make_interval(mins => n * 2),
       CASE WHEN n % 100 = 0 THEN now() - make_interval(days => n % 29) END
  FROM generate_series(1, 12000) n;

VACUUM (ANALYZE);
