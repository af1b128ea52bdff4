-- A schema that keeps the history of every DDL statement: tables, an event trigger and functions in schema pggit, as the
-- extension of that name has them. Where the extension itself is installed, leave this file out: ops.toml fits both.

CREATE EXTENSION IF NOT EXISTS pg_stat_statements;
CREATE EXTENSION IF NOT EXISTS pgcrypto;

-- Who changes the schema.
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'migrator') THEN
        CREATE ROLE migrator NOLOGIN;
    END IF;
END $$;

CREATE SCHEMA pggit;
GRANT USAGE ON SCHEMA pggit TO migrator;

CREATE TABLE pggit.objects (
    id          integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    object_type text NOT NULL,
    object_name text NOT NULL,
    version     integer NOT NULL DEFAULT 1,
    is_active   boolean NOT NULL DEFAULT true,
    UNIQUE (object_type, object_name)
);

CREATE TABLE pggit.history (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    object_id   integer REFERENCES pggit.objects,
    change_type text NOT NULL,
    command     text,
    checksum    bytea NOT NULL,
    took_ms     double precision,
    created_by  text NOT NULL DEFAULT session_user,
    created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX history_object ON pggit.history (object_id, created_at);
CREATE INDEX history_created ON pggit.history (created_at);

CREATE FUNCTION pggit.record(type text, name text, tag text) RETURNS void
LANGUAGE sql SET search_path = pggit, public, pg_catalog AS $$
    WITH object AS (
        INSERT INTO objects (object_type, object_name) VALUES (type, name)
        ON CONFLICT (object_type, object_name) DO UPDATE SET version = objects.version + 1
        RETURNING id)
    INSERT INTO history (object_id, change_type, command, checksum, took_ms)
    SELECT id, tag, current_query(), digest(current_query(), 'sha256'),
           1000 * extract(epoch FROM clock_timestamp() - statement_timestamp())
      FROM object;
$$;

CREATE FUNCTION pggit.pggit_track_ddl() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pggit, pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pggit.record(object_type, coalesce(object_identity, schema_name, object_type), command_tag)
       FROM pg_event_trigger_ddl_commands()
      WHERE schema_name IS DISTINCT FROM 'pggit' AND schema_name IS DISTINCT FROM 'pg_temp';
END $$;

CREATE FUNCTION pggit.pggit_track_drop() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pggit, pg_catalog, pg_temp AS $$
BEGIN
    UPDATE objects o SET is_active = false
      FROM pg_event_trigger_dropped_objects() d
     WHERE o.object_type = d.object_type AND o.object_name = d.object_identity;
END $$;

CREATE FUNCTION pggit.health_check() RETURNS TABLE (component text, status text, details text)
LANGUAGE sql STABLE SET search_path = pggit, pg_catalog AS $$
    SELECT 'history', CASE WHEN count(*) > 0 THEN 'healthy' ELSE 'unhealthy' END, count(*) || ' changes in 30 days'
      FROM history WHERE created_at > now() - interval '30 days'
    UNION ALL
    SELECT 'triggers', CASE WHEN count(*) = 2 THEN 'healthy' ELSE 'unhealthy' END, count(*) || ' of 2 enabled'
      FROM pg_event_trigger WHERE evtname IN ('pggit_ddl_trigger', 'pggit_drop_trigger') AND evtenabled <> 'D';
$$;

-- What the history says against what it says it said.
CREATE FUNCTION pggit.validate_data_integrity() RETURNS TABLE (problem text, rows bigint)
LANGUAGE sql STABLE SET search_path = pggit, public, pg_catalog AS $$
    SELECT 'checksum differs', count(*) FROM history WHERE checksum <> digest(command, 'sha256')
    UNION ALL
    SELECT 'no object', count(*) FROM history h WHERE NOT EXISTS (SELECT FROM objects o WHERE o.id = h.object_id)
    UNION ALL
    SELECT 'no history', count(*) FROM objects o WHERE NOT EXISTS (SELECT FROM history h WHERE h.object_id = o.id);
$$;

CREATE EVENT TRIGGER pggit_ddl_trigger ON ddl_command_end EXECUTE FUNCTION pggit.pggit_track_ddl();
CREATE EVENT TRIGGER pggit_drop_trigger ON sql_drop EXECUTE FUNCTION pggit.pggit_track_drop();

GRANT USAGE ON SCHEMA pggit TO ops_monitor;
GRANT SELECT ON ALL TABLES IN SCHEMA pggit TO ops_monitor;
