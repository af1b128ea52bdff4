//! The sessions with a transaction open, for the probes that ask how long.

use ops_core::{Context, Remedy, Result, Unit};
use serde_json::{Value, json};

use crate::row::Row;
use crate::statement::digest;
use crate::target::PgTarget;

/// Serves PostgreSQL 14 and later. Clients only: autovacuum, walsenders and parallel workers are other types of
/// backend. A transaction that failed has no start any more. Our own connection is left out by its process id, those
/// of other runs by their name, which hides nobody who is not the same role: any client may call itself so.
pub(super) const SQL: &str = "
SELECT a.pid, a.usename::text AS role, a.datname::text AS database, a.application_name AS application,
       coalesce(host(a.client_addr), 'local') AS client, a.state,
       nullif(concat_ws(': ', a.wait_event_type, a.wait_event), '') AS waits_for,
       extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, a.state_change))::float8 AS transaction_seconds,
       extract(epoch FROM clock_timestamp() - a.query_start)::float8  AS query_seconds,
       extract(epoch FROM clock_timestamp() - a.state_change)::float8 AS state_seconds,
       a.backend_xid IS NOT NULL AS has_written, age(a.backend_xmin)::int8 AS xmin_age,
       coalesce(i.command, r.command, c.command, CASE WHEN v.pid IS NOT NULL THEN 'VACUUM' END,
                CASE WHEN n.pid IS NOT NULL THEN 'ANALYZE' END) AS maintenance,
       left(a.query, 1000) AS query
  FROM pg_stat_activity a
  LEFT JOIN pg_stat_progress_create_index i ON i.pid = a.pid
  LEFT JOIN pg_stat_progress_vacuum v ON v.pid = a.pid
  LEFT JOIN pg_stat_progress_cluster r ON r.pid = a.pid
  LEFT JOIN pg_stat_progress_analyze n ON n.pid = a.pid
  LEFT JOIN pg_stat_progress_copy c ON c.pid = a.pid
 WHERE a.backend_type = 'client backend'
   AND (a.xact_start IS NOT NULL OR a.state LIKE 'idle in transaction%')
   AND a.pid <> pg_backend_pid()
   AND (a.application_name ~ '^ops:([0-9a-f]{12}|listen|cancel)$' AND a.usename = current_user) IS NOT TRUE
 ORDER BY coalesce(a.xact_start, a.state_change)";

/// Findings that one probe gives at most: a hundred forgotten sessions have one cause.
pub(super) const REPORTED: usize = 10;

/// A client's session with a transaction open.
#[derive(Clone, Debug, Default)]
pub(super) struct Session {
    pub(super) pid: i32,
    pub(super) role: Option<String>,
    pub(super) database: Option<String>,
    pub(super) application: String,
    pub(super) client: String,
    pub(super) state: String,
    pub(super) waits_for: Option<String>,
    pub(super) transaction_seconds: f64,
    pub(super) query_seconds: f64,
    pub(super) state_seconds: f64,
    pub(super) has_written: bool,
    pub(super) xmin_age: Option<i64>,
    /// The command of an index build, a VACUUM, a CLUSTER, an ANALYZE or a COPY, which take as long as the data is
    /// large.
    pub(super) maintenance: Option<String>,
    pub(super) query: String,
}

/// All of them, the oldest transaction first.
pub(super) async fn sessions(cx: &Context, pg: &PgTarget) -> Result<Vec<Session>> {
    pg.read(cx, SQL).await?.iter().map(Session::read).collect()
}

impl Session {
    fn read(row: &Row) -> Result<Self> {
        let seconds = |column| row.get::<Option<f64>>(column).map(|value| value.unwrap_or(0.0));
        Ok(Self {
            pid: row.get("pid")?,
            role: row.get("role")?,
            database: row.get("database")?,
            application: row.get::<Option<String>>("application")?.unwrap_or_default(),
            client: row.get("client")?,
            state: row.get::<Option<String>>("state")?.unwrap_or_default(),
            waits_for: row.get("waits_for")?,
            transaction_seconds: seconds("transaction_seconds")?,
            query_seconds: seconds("query_seconds")?,
            state_seconds: seconds("state_seconds")?,
            has_written: row.get("has_written")?,
            xmin_age: row.get("xmin_age")?,
            maintenance: row.get("maintenance")?,
            query: row.get::<Option<String>>("query")?.unwrap_or_default(),
        })
    }

    /// Whether it waits for its client inside a transaction.
    pub(super) fn is_idle(&self) -> bool {
        self.state.starts_with("idle in transaction")
    }

    /// A dump reads for as long as the database is large, and so do its workers' leader and snapshot.
    pub(super) fn is_dump(&self) -> bool {
        matches!(self.application.as_str(), "pg_dump" | "pg_dumpall")
    }

    /// Whether it waits for an advisory lock and has nothing of its own that others wait for: so a process stands by
    /// for a leader, for days and by design.
    pub(super) fn stands_by(&self) -> bool {
        self.waits_for.as_deref() == Some("Lock: advisory") && !self.has_written
    }

    pub(super) fn object(&self) -> String {
        format!("pid {}", self.pid)
    }

    /// Who it is, as an operator looks for it: `pid 4711 (psql, app, shop)`.
    pub(super) fn describe(&self) -> String {
        let application = Some(self.application.clone()).filter(|name| !name.is_empty());
        let parts = [application, self.role.clone(), self.database.clone()];
        format!("pid {} ({})", self.pid, parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }

    /// What others suffer from while it stays open.
    pub(super) fn holds(&self) -> String {
        match (self.has_written, self.xmin_age) {
            (true, _) => "it has written, and holds its row locks and the horizon of VACUUM".to_owned(),
            (false, Some(age)) => {
                let plural = if age == 1 { "" } else { "s" };
                format!(
                    "it holds the horizon of VACUUM {} transaction{plural} back",
                    Unit::Count.format(age as f64)
                )
            }
            (false, None) => "it holds neither the horizon of VACUUM nor a row lock".to_owned(),
        }
    }

    /// What to do about one that [stands by](Self::stands_by): nothing, unless nobody meant it to.
    pub(super) fn let_it_wait(&self) -> Remedy {
        Remedy::advice(format!(
            "right where pid {} stands by for a leader; SELECT pg_blocking_pids({}) names who holds the lock",
            self.pid, self.pid
        ))
    }

    pub(super) fn evidence(&self) -> Value {
        json!({
            "pid": self.pid, "role": self.role, "database": self.database, "application": self.application,
            "client": self.client, "state": self.state, "waits_for": self.waits_for,
            "transaction_seconds": self.transaction_seconds, "query_seconds": self.query_seconds,
            "state_seconds": self.state_seconds, "has_written": self.has_written, "xmin_age": self.xmin_age,
            "query": digest(&self.query),
        })
    }
}
