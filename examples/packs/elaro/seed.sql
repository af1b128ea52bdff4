-- The same system on every run, ending now: 60 students, 300 courses, and a month of what they did.

INSERT INTO users
SELECT md5('student ' || n)::uuid, 'student' || n || '@example.com', 'Student ' || n, now() - make_interval(days => n)
  FROM generate_series(1, 60) n;

INSERT INTO courses (user_id, name)
SELECT id, 'course ' || n FROM users, generate_series(1, 5) n ORDER BY email, n;

ALTER TABLE assignments DISABLE TRIGGER trace;
ALTER TABLE study_sessions DISABLE TRIGGER trace;

INSERT INTO assignments (user_id, course_id, title, due_at, submitted_at)
SELECT user_id, id, 'assignment ' || n, now() + make_interval(days => n - 10),
       CASE WHEN n < 10 THEN now() - make_interval(days => 10 - n) END
  FROM courses, generate_series(1, 20) n;

INSERT INTO lectures (user_id, course_id, starts_at, ends_at)
SELECT user_id, id, now() + make_interval(days => n), now() + make_interval(days => n, mins => 90)
  FROM courses, generate_series(1, 10) n;

INSERT INTO study_sessions (user_id, course_id, started_at, minutes)
SELECT user_id, id, now() - make_interval(hours => n * 17), 20 + n % 60 FROM courses, generate_series(1, 40) n;

INSERT INTO reminders (user_id, remind_at, sent_at)
SELECT user_id, due_at - interval '1 day', CASE WHEN due_at - interval '1 day' < now() THEN due_at - interval '1 day' END
  FROM assignments;

INSERT INTO user_events (user_id, event_type, event_data, created_at, processed_at)
SELECT user_id, 'study_sessions.insert', jsonb_build_object('id', id), started_at, started_at + interval '5 seconds'
  FROM study_sessions;

ALTER TABLE assignments ENABLE TRIGGER trace;
ALTER TABLE study_sessions ENABLE TRIGGER trace;

INSERT INTO maintenance_history (task, succeeded, finished_at)
SELECT task, true, now() - make_interval(hours => n * 24 - 20)
  FROM unnest(ARRAY['statistics', 'vacuum', 'cleanup']) task, generate_series(1, 7) n;

VACUUM (ANALYZE);
