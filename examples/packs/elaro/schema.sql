-- Students, their courses and what they do for them, in a Supabase-like database; every table has row security, by the
-- claims of the JWT. The role ops_monitor is the one that `ops grants` makes.

CREATE EXTENSION IF NOT EXISTS pg_stat_statements;

DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'authenticated') THEN
        CREATE ROLE authenticated NOLOGIN;
    END IF;
END $$;
GRANT authenticated TO ops_monitor;

CREATE SCHEMA auth;
GRANT USAGE ON SCHEMA auth TO authenticated;
CREATE FUNCTION auth.uid() RETURNS uuid
LANGUAGE sql STABLE SET search_path = pg_catalog
RETURN (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid;

CREATE TABLE users (
    id         uuid PRIMARY KEY,
    email      text NOT NULL UNIQUE,
    full_name  text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE courses (
    id      integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    name    text NOT NULL,
    UNIQUE (user_id, name)
);

CREATE TABLE assignments (
    id           integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id      uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    course_id    integer NOT NULL REFERENCES courses ON DELETE CASCADE,
    title        text NOT NULL,
    due_at       timestamptz NOT NULL,
    submitted_at timestamptz
);
CREATE INDEX assignments_user_due ON assignments (user_id, due_at);
CREATE INDEX assignments_course ON assignments (course_id);

CREATE TABLE lectures (
    id        integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id   uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    course_id integer NOT NULL REFERENCES courses ON DELETE CASCADE,
    starts_at timestamptz NOT NULL,
    ends_at   timestamptz NOT NULL
);
CREATE INDEX lectures_user_starts ON lectures (user_id, starts_at);
CREATE INDEX lectures_course ON lectures (course_id);

CREATE TABLE study_sessions (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id    uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    course_id  integer NOT NULL REFERENCES courses ON DELETE CASCADE,
    started_at timestamptz NOT NULL,
    minutes    integer NOT NULL
);
CREATE INDEX study_sessions_user ON study_sessions (user_id, started_at);
CREATE INDEX study_sessions_course ON study_sessions (course_id);

CREATE TABLE reminders (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id   uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    remind_at timestamptz NOT NULL,
    sent_at   timestamptz
);
CREATE INDEX reminders_user ON reminders (user_id);
CREATE INDEX reminders_unsent ON reminders (remind_at) WHERE sent_at IS NULL;

-- The trail of what happened; rows older than 30 days are removed.
CREATE TABLE user_events (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id      uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    event_type   text NOT NULL,
    event_data   jsonb NOT NULL DEFAULT '{}',
    created_at   timestamptz NOT NULL DEFAULT now(),
    processed_at timestamptz
);
CREATE INDEX user_events_user ON user_events (user_id, created_at);
CREATE INDEX user_events_created ON user_events (created_at);
CREATE INDEX user_events_waiting ON user_events (created_at) WHERE processed_at IS NULL;

CREATE TABLE maintenance_history (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    task        text NOT NULL,
    succeeded   boolean NOT NULL,
    finished_at timestamptz NOT NULL DEFAULT now()
);

-- Every table: its owner's rows to a user, all of them to monitoring.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['courses', 'assignments', 'lectures', 'study_sessions', 'reminders', 'user_events'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY own ON %I TO authenticated USING (user_id = auth.uid())', name);
        EXECUTE format('CREATE POLICY monitoring ON %I FOR SELECT TO ops_monitor USING (true)', name);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO authenticated', name);
        EXECUTE format('GRANT SELECT ON %I TO ops_monitor', name);
    END LOOP;
END $$;

ALTER TABLE users ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON users FOR SELECT TO authenticated USING (id = auth.uid());
CREATE POLICY monitoring ON users FOR SELECT TO ops_monitor USING (true);
GRANT SELECT ON users TO authenticated, ops_monitor;

ALTER TABLE maintenance_history ENABLE ROW LEVEL SECURITY;
CREATE POLICY monitoring ON maintenance_history FOR SELECT TO ops_monitor USING (true);
GRANT SELECT ON maintenance_history TO ops_monitor;

-- The trail writes itself.
CREATE FUNCTION trace() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO public.user_events (user_id, event_type, event_data)
    VALUES (new.user_id, tg_table_name || '.' || lower(tg_op), jsonb_build_object('id', new.id));
    RETURN new;
END $$;
REVOKE ALL ON FUNCTION trace() FROM PUBLIC;
CREATE TRIGGER trace AFTER INSERT OR UPDATE ON assignments FOR EACH ROW EXECUTE FUNCTION trace();
CREATE TRIGGER trace AFTER INSERT ON study_sessions FOR EACH ROW EXECUTE FUNCTION trace();

CREATE FUNCTION cleanup_old_user_events(days integer) RETURNS bigint
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    WITH gone AS (
        DELETE FROM public.user_events WHERE created_at < now() - make_interval(days => days) RETURNING 1)
    SELECT count(*) FROM gone;
$$;
REVOKE ALL ON FUNCTION cleanup_old_user_events(integer) FROM PUBLIC;

-- What the app's first page shows: with the caller's rights.
CREATE FUNCTION agenda() RETURNS TABLE (user_id uuid, title text, due_at timestamptz)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT user_id, title, due_at FROM public.assignments WHERE submitted_at IS NULL;
$$;
