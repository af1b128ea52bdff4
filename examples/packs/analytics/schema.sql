-- Tasks of users, and what is computed from them once a day.
-- The role ops_monitor is the one that `ops grants` makes; it reads what the metrics of ops.toml ask for.

CREATE EXTENSION IF NOT EXISTS pg_stat_statements;

CREATE TABLE users (
    id          uuid PRIMARY KEY,
    email       text NOT NULL UNIQUE,
    created_at  timestamptz NOT NULL DEFAULT now(),
    last_active timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX users_created ON users (created_at);

CREATE TABLE tasks (
    id           integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id      uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    title        text NOT NULL,
    status       text NOT NULL CHECK (status IN ('todo', 'in_progress', 'done')),
    priority     text NOT NULL CHECK (priority IN ('low', 'medium', 'high')),
    deleted      boolean NOT NULL DEFAULT false,
    created_at   timestamptz NOT NULL DEFAULT now(),
    completed_at timestamptz
);
CREATE INDEX idx_tasks_user_status ON tasks (user_id, status) WHERE NOT deleted;
CREATE INDEX tasks_user ON tasks (user_id);

-- One row a user and day, written by the job daily_aggregation.
CREATE TABLE daily_analytics (
    user_id            uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    date               date NOT NULL,
    tasks_created      integer NOT NULL,
    tasks_completed    integer NOT NULL,
    completion_rate    numeric(6, 2) NOT NULL,
    productivity_score numeric(6, 2),
    PRIMARY KEY (user_id, date)
);
CREATE INDEX daily_analytics_date ON daily_analytics (date);

-- Where days older than two years go.
CREATE TABLE daily_analytics_archive (LIKE daily_analytics INCLUDING ALL);

CREATE TABLE audit_log (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    actor      text NOT NULL,
    action     text NOT NULL,
    table_name text NOT NULL,
    "timestamp" timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX audit_log_timestamp ON audit_log ("timestamp");

CREATE FUNCTION record_deletion() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public AS $$
BEGIN
    INSERT INTO audit_log (actor, action, table_name) VALUES (current_user, tg_op, tg_table_name);
    RETURN old;
END $$;
CREATE TRIGGER tasks_deleted AFTER DELETE ON tasks FOR EACH ROW EXECUTE FUNCTION record_deletion();

CREATE MATERIALIZED VIEW user_task_stats AS
SELECT user_id, count(*) AS tasks, count(*) FILTER (WHERE status = 'done') AS done
  FROM tasks WHERE NOT deleted GROUP BY user_id WITH NO DATA;
CREATE UNIQUE INDEX user_task_stats_key ON user_task_stats (user_id);

CREATE MATERIALIZED VIEW user_priority_distribution AS
SELECT user_id, priority, count(*) AS tasks
  FROM tasks WHERE NOT deleted GROUP BY user_id, priority WITH NO DATA;
CREATE UNIQUE INDEX user_priority_distribution_key ON user_priority_distribution (user_id, priority);

CREATE MATERIALIZED VIEW user_status_distribution AS
SELECT user_id, status, count(*) AS tasks
  FROM tasks WHERE NOT deleted GROUP BY user_id, status WITH NO DATA;
CREATE UNIQUE INDEX user_status_distribution_key ON user_status_distribution (user_id, status);

CREATE MATERIALIZED VIEW user_monthly_trends AS
SELECT user_id, date_trunc('month', date)::date AS month, avg(completion_rate) AS completion_rate
  FROM daily_analytics GROUP BY user_id, date_trunc('month', date) WITH NO DATA;
CREATE UNIQUE INDEX user_monthly_trends_key ON user_monthly_trends (user_id, month);

GRANT SELECT ON users, daily_analytics, audit_log TO ops_monitor;
