//! `pg.blocking`: who waits for a lock, and behind whom.

mod tree;

use std::collections::BTreeMap;

use async_trait::async_trait;
use ops_core::words::count;
use ops_core::{
    Context, Direction, Explanation, Limits, Measurement, ProbeReport, ProbeSpec, Requirement, Result,
    ThresholdSpec, Unit,
};
use serde_json::{Value, json};

use self::tree::trees;
use crate::probe::{PgProbe, Scope};
use crate::row::Row;
use crate::statement::digest;
use crate::target::PgTarget;

/// Serves PostgreSQL 14 and later (`waitstart`). `pg_blocking_pids` is asked for waiting sessions only, since each
/// call holds the lock manager still for a moment; it also names the session one queues behind, which joining
/// `pg_locks` does not. A relation of another database cannot be named from here.
const SQL: &str = "
WITH waiting AS MATERIALIZED (
  SELECT pid, pg_blocking_pids(pid) AS blockers FROM pg_stat_activity WHERE wait_event_type = 'Lock'),
involved AS (
  SELECT pid FROM waiting UNION SELECT unnest(blockers) FROM waiting)
SELECT i.pid, coalesce(w.blockers, '{}')::int4[] AS blockers,
       a.usename::text AS role, a.datname::text AS database, a.application_name AS application,
       a.state, a.backend_type, left(a.query, 1000) AS query,
       extract(epoch FROM clock_timestamp() - a.state_change)::float8 AS state_seconds,
       extract(epoch FROM clock_timestamp() - l.waitstart)::float8    AS waited_seconds,
       l.mode, l.locktype,
       CASE WHEN l.relation IS NULL THEN NULL
            WHEN l.database IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
            THEN l.relation::regclass::text
            ELSE 'relation ' || l.relation || ' of ' || a.datname END AS relation
  FROM involved i
  LEFT JOIN waiting w USING (pid)
  LEFT JOIN pg_stat_activity a USING (pid)
  LEFT JOIN LATERAL (
         SELECT k.mode, k.locktype, k.waitstart, coalesce(k.relation, t.relation) AS relation,
                coalesce(k.database, t.database) AS database
           FROM pg_locks k
           LEFT JOIN pg_locks t ON t.pid = k.pid AND t.locktype = 'tuple' AND t.granted
          WHERE k.pid = i.pid AND NOT k.granted LIMIT 1) l ON true";

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.blocking",
    group: "locks",
    explanation: Explanation {
        why: "A session that waits for an exclusive lock holds up every later one that wants the same table, readers \
              included: one forgotten transaction and one ALTER TABLE stop a service.",
        measures: "The tree of waiting sessions by pg_blocking_pids, from the sessions that wait for a lock up to \
                   the roots, which block others and wait for none. A finding names the root, who waits first, and \
                   how many queue behind. A queue for a relation alarms by its length; one for a row drains, each \
                   in turn, and alarms by how long it takes. Where all wait for advisory locks it is info: so \
                   processes stand by for a leader.",
        queries: &[("waiting sessions and those they wait for", SQL)],
        codes: &[("pg.blocking.root", "a session blocks others and waits for none itself")],
        versions: "PostgreSQL 14 and later",
        cost: "one read of pg_stat_activity, and pg_locks for each session that waits",
        remedy: "End the root: cancel it when it runs a statement, terminate it when it is idle in a transaction. \
                 One that is idle outside a transaction holds a session lock, and may be meant to. Ending those that \
                 wait only makes room for the next. Give DDL a lock_timeout.",
    },
    thresholds: &[
        ThresholdSpec {
            name: "waited",
            meaning: "the longest wait behind one root",
            unit: Unit::Seconds,
            direction: Direction::Above,
            warning: Some(5.0),
            critical: Some(60.0),
            source: "this project's choice; deadlock_timeout, after which PostgreSQL finds a wait worth a log line, \
                     is 1 s",
        },
        ThresholdSpec {
            name: "queued",
            meaning: "sessions that queue for a relation behind the first one to wait, once it has waited for 1 s",
            unit: Unit::Count,
            direction: Direction::Above,
            warning: Some(1.0),
            critical: Some(2.0),
            source: "this project's choice: a queue behind a waiting lock on a relation only grows",
        },
    ],
    requires: &[Requirement::Role("pg_read_all_stats")],
};

#[derive(Debug)]
pub(super) struct Blocking;

#[async_trait]
impl PgProbe for Blocking {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Cluster
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, limits: &Limits) -> Result<ProbeReport> {
        let rows = pg.read(cx, SQL).await?;
        let sessions = rows.iter().map(Session::read).collect::<Result<Vec<_>>>()?;
        Ok(judge(sessions, limits))
    }
}

fn judge(sessions: Vec<Session>, limits: &Limits) -> ProbeReport {
    let sessions: BTreeMap<i32, Session> =
        sessions.into_iter().map(|session| (session.pid, session)).collect();
    let waiting = sessions.values().filter(|session| session.waits()).count();
    let longest = sessions.values().filter_map(|session| session.waited).fold(0.0, f64::max);
    let trees = trees(&sessions);
    let summary = match trees.first() {
        None => "nobody waits behind another session".to_owned(),
        Some(_) => format!(
            "{} for locks behind {}",
            count(waiting as f64, "session waits", "sessions wait"),
            count(trees.len() as f64, "root", "roots")
        ),
    };
    ProbeReport::new(summary)
        .measure(Measurement::new("waiting", waiting as f64, Unit::Count))
        .measure(Measurement::new("longest_wait", longest, Unit::Seconds))
        .findings(trees.iter().filter_map(|tree| tree.finding(limits)))
}

#[derive(Clone, Debug)]
struct Session {
    pid: i32,
    blockers: Vec<i32>,
    role: Option<String>,
    database: Option<String>,
    application: Option<String>,
    state: Option<String>,
    query: Option<String>,
    state_seconds: Option<f64>,
    waited: Option<f64>,
    mode: Option<String>,
    locktype: Option<String>,
    relation: Option<String>,
}

impl Session {
    fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            pid: row.get("pid")?,
            blockers: row.get("blockers")?,
            role: row.get("role")?,
            database: row.get("database")?,
            application: row.get("application")?,
            state: row.get("state")?,
            query: row.get("query")?,
            state_seconds: row.get("state_seconds")?,
            waited: row.get("waited_seconds")?,
            mode: row.get("mode")?,
            locktype: row.get("locktype")?,
            relation: row.get("relation")?,
        })
    }

    fn waits(&self) -> bool {
        !self.blockers.is_empty()
    }

    fn name(&self) -> String {
        if self.is_prepared() { "a prepared transaction".to_owned() } else { format!("pid {}", self.pid) }
    }

    /// PostgreSQL reports a prepared transaction as pid 0.
    fn is_prepared(&self) -> bool {
        self.pid == 0
    }

    /// Who it is, as an operator looks for it.
    fn describe(&self) -> String {
        if self.is_prepared() {
            return "a prepared transaction (see pg_prepared_xacts)".to_owned();
        }
        if self.state.is_none() {
            return format!("pid {}, which has ended since", self.pid);
        }
        let mut parts = Vec::new();
        parts.extend(self.state.clone());
        parts.extend(self.application.clone().filter(|name| !name.is_empty()));
        parts.extend(self.role.clone());
        format!("pid {} ({})", self.pid, parts.join(", "))
    }

    fn evidence(&self, part: &str) -> Value {
        json!({
            "part": part, "pid": self.pid, "role": self.role, "database": self.database,
            "application": self.application, "state": self.state, "state_seconds": self.state_seconds,
            "waited_seconds": self.waited, "wants": self.mode, "relation": self.relation,
            "blocked_by": self.blockers, "query": self.query.as_deref().map(digest),
        })
    }
}

#[cfg(test)]
mod tests {
    use ops_core::Status;

    use super::tree::gone;
    use super::*;

    fn session(pid: i32, blockers: &[i32], waited: f64) -> Session {
        Session {
            blockers: blockers.to_vec(),
            waited: (!blockers.is_empty()).then_some(waited),
            relation: (!blockers.is_empty()).then(|| "public.orders".to_owned()),
            locktype: (!blockers.is_empty()).then(|| "relation".to_owned()),
            state: Some("idle in transaction".into()),
            query: Some("SELECT 1".into()),
            ..gone(pid)
        }
    }

    fn roots(report: &ProbeReport) -> Vec<i64> {
        report.found().iter().filter_map(|f| f.evidence[0]["pid"].as_i64()).collect()
    }

    #[test]
    fn the_idle_reader_is_the_root_and_the_queue_is_not() {
        let sessions =
            vec![session(1, &[], 0.0), session(2, &[1], 2.0), session(3, &[2], 1.5), session(4, &[2], 1.2)];
        let report = judge(sessions, &Limits::defaults(&SPEC));
        assert_eq!((report.status(), roots(&report)), (Status::Critical, vec![1]));
        assert_eq!(report.found()[0].evidence.len(), 4);
        assert!(report.found()[0].message.ends_with("; 2 sessions queue behind it"), "{:?}", report.found());
    }

    #[test]
    fn a_short_wait_is_no_finding() {
        let report = judge(vec![session(1, &[], 0.0), session(2, &[1], 0.3)], &Limits::defaults(&SPEC));
        assert_eq!(report.status(), Status::Ok);
    }

    #[test]
    fn a_queue_for_a_row_is_as_bad_as_its_wait() {
        let row = |pid: i32, blockers: &[i32], waited: f64, locktype: &str| Session {
            locktype: Some(locktype.to_owned()),
            ..session(pid, blockers, waited)
        };
        let queue = |head: &str, behind: &str, waited: f64| {
            let head = row(2, &[1], waited, head);
            let behind = [3, 4, 5].map(|pid| row(pid, &[2], waited, behind));
            let sessions = [vec![session(1, &[], 0.0), head], behind.to_vec()].concat();
            judge(sessions, &Limits::defaults(&SPEC)).status()
        };
        for (head, behind, waited, expected) in [
            ("transactionid", "tuple", 2.6, Status::Ok),
            ("transactionid", "tuple", 5.0, Status::Warning),
            ("transactionid", "tuple", 60.0, Status::Critical),
            ("relation", "relation", 2.6, Status::Critical),
            // DDL that waits for a row keeps a queue for its table.
            ("transactionid", "relation", 2.6, Status::Critical),
        ] {
            assert_eq!(queue(head, behind, waited), expected, "{head} {behind} {waited}");
        }
    }

    #[test]
    fn the_remedy_follows_the_state_of_the_root() {
        let next = |state: Option<&str>, locktype: &str| {
            let root = Session { state: state.map(str::to_owned), ..session(1, &[], 0.0) };
            let waiter = Session { locktype: Some(locktype.to_owned()), ..session(2, &[1], 3600.0) };
            let report = judge(vec![root, waiter], &Limits::defaults(&SPEC));
            let remedy = report.found()[0].remedy.clone();
            remedy.map(|remedy| (remedy.statement.unwrap_or_default(), remedy.advice.unwrap_or_default()))
        };
        for (state, locktype, statement, why) in [
            (Some("active"), "relation", "SELECT pg_cancel_backend(1);", "has run its statement"),
            (
                Some("idle in transaction"),
                "relation",
                "SELECT pg_terminate_backend(1);",
                "idle in its transaction",
            ),
            (Some("idle"), "relation", "", "holds a session lock"),
            (Some("idle"), "advisory", "", "leader"),
            (Some("idle in transaction"), "advisory", "", "leader"),
        ] {
            let (said, because) = next(state, locktype).unwrap();
            assert_eq!(said, statement, "{state:?} {locktype}");
            assert!(because.contains(why), "{because}");
        }
        assert_eq!(next(None, "relation"), None);
    }

    #[test]
    fn waits_by_design_alarm_less() {
        for (locktype, expected) in
            [("advisory", Status::Ok), ("virtualxid", Status::Ok), ("relation", Status::Critical)]
        {
            let waiter = Session { locktype: Some(locktype.to_owned()), ..session(2, &[1], 3600.0) };
            let report = judge(vec![session(1, &[], 0.0), waiter], &Limits::defaults(&SPEC));
            assert_eq!(report.status(), expected, "{locktype}");
            assert_eq!(roots(&report), [1]);
        }
    }

    #[test]
    fn a_cycle_has_no_root() {
        let report = judge(vec![session(1, &[2], 9.0), session(2, &[1], 9.0)], &Limits::defaults(&SPEC));
        assert!(roots(&report).is_empty());
    }

    #[test]
    fn a_prepared_transaction_can_be_the_root() {
        let report = judge(vec![session(0, &[], 0.0), session(2, &[0], 90.0)], &Limits::defaults(&SPEC));
        assert_eq!((report.status(), roots(&report)), (Status::Critical, vec![0]));
        let elsewhere = Session { relation: None, ..session(2, &[0], 90.0) };
        let report = judge(vec![session(0, &[], 0.0), elsewhere], &Limits::defaults(&SPEC));
        assert_eq!(report.found()[0].object.as_deref(), Some("a prepared transaction"));
    }
}
