-- The database of engagement-events as a deployment meets it: a migration that made the table with its archive, policies
-- and functions, and the tables that say what was deployed and whether the service is in maintenance.
-- The role ops_monitor is the one that `ops grants` makes.

CREATE EXTENSION IF NOT EXISTS pg_stat_statements;

DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'authenticated') THEN
        CREATE ROLE authenticated NOLOGIN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'service_role') THEN
        CREATE ROLE service_role NOLOGIN;
    END IF;
END $$;
GRANT authenticated TO ops_monitor;

CREATE SCHEMA auth;
GRANT USAGE ON SCHEMA auth TO authenticated;
CREATE FUNCTION auth.uid() RETURNS uuid
LANGUAGE sql STABLE SET search_path = pg_catalog
RETURN (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid;

-- Nobody's but the deployment's: clients reach schema public alone.
CREATE SCHEMA deployment;
GRANT USAGE ON SCHEMA deployment TO ops_monitor;

CREATE TABLE deployment.migrations (
    version    text PRIMARY KEY,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE deployment.deployment_log (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    action      text NOT NULL CHECK (action IN ('deploy', 'validate', 'rollback')),
    details     text NOT NULL,
    succeeded   boolean NOT NULL DEFAULT true,
    "timestamp" timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE deployment.system_status (
    only_one         boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    maintenance_mode boolean NOT NULL DEFAULT false,
    message          text,
    since            timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE deployment.statement_baseline (
    statement text PRIMARY KEY,
    before_ms double precision NOT NULL,
    after_ms  double precision NOT NULL
);

GRANT SELECT ON ALL TABLES IN SCHEMA deployment TO ops_monitor;

-- 20241201000000_engagement_events
CREATE TABLE engagement_events (
    id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id     uuid NOT NULL,
    event_type  text NOT NULL,
    value       jsonb NOT NULL DEFAULT '{}',
    "timestamp" timestamptz NOT NULL DEFAULT now(),
    deleted_at  timestamptz
);
CREATE INDEX idx_engagement_events_user_timestamp ON engagement_events (user_id, "timestamp" DESC);
CREATE INDEX idx_engagement_events_type ON engagement_events (event_type);
CREATE INDEX idx_engagement_events_value ON engagement_events USING gin (value);
CREATE INDEX idx_engagement_events_deleted ON engagement_events (deleted_at) WHERE deleted_at IS NOT NULL;

CREATE TABLE engagement_events_archive (LIKE engagement_events INCLUDING ALL);

ALTER TABLE engagement_events ENABLE ROW LEVEL SECURITY;
CREATE POLICY "Users can view own events" ON engagement_events
    FOR SELECT TO authenticated USING (user_id = auth.uid());
CREATE POLICY "Users can add own events" ON engagement_events
    FOR INSERT TO authenticated WITH CHECK (user_id = auth.uid());
CREATE POLICY "Monitoring counts" ON engagement_events FOR SELECT TO ops_monitor USING (true);
ALTER TABLE engagement_events_archive ENABLE ROW LEVEL SECURITY;
CREATE POLICY "Monitoring counts" ON engagement_events_archive FOR SELECT TO ops_monitor USING (true);
GRANT SELECT, INSERT ON engagement_events TO authenticated;
GRANT SELECT ON engagement_events, engagement_events_archive TO ops_monitor;

CREATE FUNCTION archive_old_deleted_events() RETURNS bigint
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    WITH moved AS (
        DELETE FROM public.engagement_events WHERE deleted_at < now() - interval '30 days' RETURNING *),
    kept AS (INSERT INTO public.engagement_events_archive SELECT * FROM moved RETURNING 1)
    SELECT count(*) FROM kept;
$$;
CREATE FUNCTION delete_user_data(target uuid) RETURNS bigint
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    WITH gone AS (
        UPDATE public.engagement_events SET deleted_at = now() WHERE user_id = target AND deleted_at IS NULL RETURNING 1)
    SELECT count(*) FROM gone;
$$;
REVOKE ALL ON FUNCTION archive_old_deleted_events(), delete_user_data(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION archive_old_deleted_events(), delete_user_data(uuid), auth.uid() TO service_role;
GRANT USAGE ON SCHEMA auth TO service_role;

CREATE TABLE security_audit_log (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_type  text NOT NULL,
    user_id     uuid,
    "timestamp" timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX security_audit_log_timestamp ON security_audit_log ("timestamp");
ALTER TABLE security_audit_log ENABLE ROW LEVEL SECURITY;
CREATE POLICY "Monitoring counts" ON security_audit_log FOR SELECT TO ops_monitor USING (true);
GRANT SELECT ON security_audit_log TO ops_monitor;
