-- The same system on every run, ending now: 100 users, 20,000 events of the last 20 days.

ALTER TABLE engagement_events DISABLE TRIGGER announce;
INSERT INTO engagement_events (id, user_id, event_type, value, "timestamp", client_id)
SELECT md5('event ' || n)::uuid, md5('user ' || n % 100)::uuid,
       (ARRAY['login', 'app_open', 'lesson_started', 'lesson_completed', 'reminder_opened'])[1 + n % 5],
       jsonb_build_object('session', n / 7, 'seconds', n % 600),
       now() - make_interval(mins => n * 1440 / 1000),
       md5('client ' || n)::uuid
  FROM generate_series(1, 20000) n;
ALTER TABLE engagement_events ENABLE TRIGGER announce;

INSERT INTO api_logs (endpoint, status_code, response_time_ms, "timestamp")
SELECT '/rest/v1/engagement_events', CASE WHEN n % 100 = 0 THEN 500 ELSE 200 END, 20 + n % 80,
       now() - make_interval(secs => n * 3)
  FROM generate_series(1, 2000) n;

INSERT INTO error_logs (component, message, "timestamp")
SELECT 'engagement_events', 'timed out', now() - make_interval(hours => n * 5) FROM generate_series(1, 4) n;

INSERT INTO security_audit_log (event_type, user_id, source_ip, "timestamp")
SELECT 'login', md5('user ' || n)::uuid, '10.0.0.1', now() - make_interval(mins => n)
  FROM generate_series(1, 50) n;

INSERT INTO daily_health_metrics
SELECT current_date - days, 4000000 - days * 100000, 1000, 100 FROM generate_series(0, 14) days;

VACUUM (ANALYZE);
