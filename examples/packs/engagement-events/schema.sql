-- Events of users in a Supabase-like database: clients are the role authenticated, with the claims of their JWT.
-- The role ops_monitor is the one that `ops grants` makes; a policy of its own lets it count for the metrics.

CREATE EXTENSION IF NOT EXISTS pg_stat_statements;

DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'authenticated') THEN
        CREATE ROLE authenticated NOLOGIN;
    END IF;
END $$;
-- To prove isolation, ops becomes what clients are.
GRANT authenticated TO ops_monitor;

CREATE SCHEMA auth;
GRANT USAGE ON SCHEMA auth TO authenticated;
CREATE FUNCTION auth.uid() RETURNS uuid
LANGUAGE sql STABLE SET search_path = pg_catalog
RETURN (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid;

CREATE TABLE engagement_events (
    id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id     uuid NOT NULL,
    event_type  text NOT NULL,
    value       jsonb NOT NULL DEFAULT '{}',
    "timestamp" timestamptz NOT NULL DEFAULT now(),
    client_id   uuid
);
CREATE INDEX idx_engagement_events_user_timestamp ON engagement_events (user_id, "timestamp" DESC);
CREATE INDEX idx_engagement_events_type ON engagement_events (event_type, "timestamp");
CREATE INDEX idx_engagement_events_timestamp ON engagement_events ("timestamp");
CREATE INDEX idx_engagement_events_value ON engagement_events USING gin (value);

CREATE TABLE security_audit_log (
    id                       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_type               text NOT NULL,
    user_id                  uuid,
    attempted_access_user_id uuid,
    source_ip                inet,
    query_text               text,
    "timestamp"              timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX security_audit_log_timestamp ON security_audit_log ("timestamp");

CREATE TABLE error_logs (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    component   text NOT NULL,
    message     text NOT NULL,
    "timestamp" timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX error_logs_timestamp ON error_logs ("timestamp");

CREATE TABLE api_logs (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    endpoint         text NOT NULL,
    status_code      smallint NOT NULL,
    response_time_ms integer NOT NULL,
    "timestamp"      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX api_logs_timestamp ON api_logs ("timestamp");

CREATE TABLE daily_health_metrics (
    date             date PRIMARY KEY,
    table_size_bytes bigint NOT NULL,
    total_events_24h bigint NOT NULL,
    unique_users_24h bigint NOT NULL
);

ALTER TABLE engagement_events ENABLE ROW LEVEL SECURITY;
CREATE POLICY "Users can view own events" ON engagement_events
    FOR SELECT TO authenticated USING (user_id = auth.uid());
CREATE POLICY "Users can add own events" ON engagement_events
    FOR INSERT TO authenticated WITH CHECK (user_id = auth.uid());
CREATE POLICY "Monitoring counts" ON engagement_events FOR SELECT TO ops_monitor USING (true);
GRANT SELECT, INSERT ON engagement_events TO authenticated;

ALTER TABLE security_audit_log ENABLE ROW LEVEL SECURITY;
CREATE POLICY "Monitoring counts" ON security_audit_log FOR SELECT TO ops_monitor USING (true);
ALTER TABLE error_logs ENABLE ROW LEVEL SECURITY;
CREATE POLICY "Monitoring counts" ON error_logs FOR SELECT TO ops_monitor USING (true);
ALTER TABLE api_logs ENABLE ROW LEVEL SECURITY;
CREATE POLICY "Monitoring counts" ON api_logs FOR SELECT TO ops_monitor USING (true);
ALTER TABLE daily_health_metrics ENABLE ROW LEVEL SECURITY;
CREATE POLICY "Monitoring counts" ON daily_health_metrics FOR SELECT TO ops_monitor USING (true);
GRANT SELECT ON engagement_events, security_audit_log, error_logs, api_logs, daily_health_metrics TO ops_monitor;

-- What a dashboard shows a user: with the reader's own rights.
CREATE VIEW my_events_by_type WITH (security_invoker = true) AS
SELECT user_id, event_type, count(*) AS events FROM engagement_events GROUP BY user_id, event_type;
GRANT SELECT ON my_events_by_type TO authenticated;

CREATE FUNCTION announce_event() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    PERFORM pg_notify('engagement_events', new.id::text);
    RETURN new;
END $$;
CREATE TRIGGER announce AFTER INSERT ON engagement_events FOR EACH ROW EXECUTE FUNCTION announce_event();
