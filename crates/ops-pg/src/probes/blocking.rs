//! `pg.blocking`: who waits for a lock, and behind whom.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use ops_core::words::count;
use ops_core::{
    Context, Direction, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy,
    Requirement, Result, Severity, Status, ThresholdSpec, Unit,
};
use serde_json::{Value, json};

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
                   how many queue behind.",
        queries: &[("waiting sessions and those they wait for", SQL)],
        codes: &[("pg.blocking.root", "a session blocks others and waits for none itself")],
        versions: "PostgreSQL 14 and later",
        cost: "one read of pg_stat_activity, and pg_locks for each session that waits",
        remedy: "End the root: cancel it when it runs a statement, terminate it when it is idle in a transaction. \
                 Ending those that wait only makes room for the next. Give DDL a lock_timeout.",
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
            meaning: "sessions that queue behind the first one to wait, once it has waited for 1 s",
            unit: Unit::Count,
            direction: Direction::Above,
            warning: Some(1.0),
            critical: Some(2.0),
            source: "this project's choice: a queue behind a waiting lock request only grows",
        },
    ],
    requires: &[Requirement::Role("pg_read_all_stats")],
};

/// From here a queue counts: PostgreSQL's `deadlock_timeout`.
const SETTLED_SECONDS: f64 = 1.0;

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

/// A root with all who wait for it, longest wait first.
struct Tree<'a> {
    root: Session,
    waiters: Vec<&'a Session>,
}

/// The trees, the longest wait first. Every waiter is counted under each root that it waits for, however far up.
fn trees(sessions: &BTreeMap<i32, Session>) -> Vec<Tree<'_>> {
    let mut by_root: BTreeMap<i32, Vec<&Session>> = BTreeMap::new();
    for session in sessions.values().filter(|session| session.waits()) {
        for root in roots_of(session.pid, sessions) {
            by_root.entry(root).or_default().push(session);
        }
    }
    let mut trees: Vec<Tree<'_>> = by_root
        .into_iter()
        .map(|(pid, mut waiters)| {
            waiters.sort_by(|a, b| b.waited.unwrap_or(0.0).total_cmp(&a.waited.unwrap_or(0.0)));
            Tree { root: sessions.get(&pid).cloned().unwrap_or_else(|| gone(pid)), waiters }
        })
        .collect();
    trees.sort_by(|a, b| b.longest().total_cmp(&a.longest()));
    trees
}

/// Follows the blockers up to those that wait for none. A cycle has no root: PostgreSQL breaks it by itself.
fn roots_of(pid: i32, sessions: &BTreeMap<i32, Session>) -> BTreeSet<i32> {
    let (mut roots, mut seen, mut todo) = (BTreeSet::new(), BTreeSet::new(), vec![pid]);
    while let Some(pid) = todo.pop() {
        if !seen.insert(pid) {
            continue;
        }
        match sessions.get(&pid).filter(|session| session.waits()) {
            Some(session) => todo.extend(&session.blockers),
            None => {
                roots.insert(pid);
            }
        }
    }
    roots
}

/// A root that ended while we looked, or a prepared transaction (pid 0).
fn gone(pid: i32) -> Session {
    Session {
        pid,
        blockers: Vec::new(),
        role: None,
        database: None,
        application: None,
        state: None,
        query: None,
        state_seconds: None,
        waited: None,
        mode: None,
        locktype: None,
        relation: None,
    }
}

impl Tree<'_> {
    fn longest(&self) -> f64 {
        self.waiters.first().and_then(|session| session.waited).unwrap_or(0.0)
    }

    /// The waiter that blocks the most others, else the one that has waited longest: what the rest queue behind.
    fn head(&self) -> Option<&Session> {
        let behind = |pid: i32| self.waiters.iter().filter(|waiter| waiter.blockers.contains(&pid)).count();
        self.waiters.iter().copied().rev().max_by_key(|waiter| behind(waiter.pid))
    }

    fn finding(&self, limits: &Limits) -> Option<Finding> {
        let head = self.head()?;
        let longest = self.longest();
        let queued = self.waiters.len() - 1;
        let behind_head = self.waiters.iter().any(|waiter| waiter.blockers.contains(&head.pid));
        let queue_status = match behind_head && longest >= SETTLED_SECONDS {
            true => limits.get("queued").judge(queued as f64),
            false => Status::Ok,
        };
        let judged = Severity::of(Status::worst([limits.get("waited").judge(longest), queue_status]))?;
        let severity = judged.min(self.by_design());
        let waited = head.waited.unwrap_or(longest);
        let what = head.query.as_deref().map_or_else(|| "a session".to_owned(), first_words);
        let queue = match queued {
            0 => String::new(),
            n => format!("; {} behind it", count(n as f64, "session queues", "sessions queue")),
        };
        let message = format!(
            "{what} has waited {} behind {}{queue}",
            Unit::Seconds.format(waited),
            self.root.describe()
        );
        let finding = Finding::new(severity, "pg.blocking.root", message)
            .object(head.relation.clone().unwrap_or_else(|| self.root.name()))
            .evidence(self.root.evidence("root"))
            .remedy(self.remedy());
        Some(self.waiters.iter().map(|waiter| waiter.evidence("waits")).fold(finding, Finding::evidence))
    }

    /// The worst that such waits can mean. Who waits for an advisory lock may do so by design (the standby of a
    /// leader); a virtual transaction is what CREATE INDEX CONCURRENTLY waits for, and it blocks nobody.
    fn by_design(&self) -> Severity {
        let all = |kind: &str| self.waiters.iter().all(|waiter| waiter.locktype.as_deref() == Some(kind));
        if all("virtualxid") {
            Severity::Info
        } else if all("advisory") {
            Severity::Warning
        } else {
            Severity::Critical
        }
    }

    fn remedy(&self) -> Remedy {
        let pid = self.root.pid;
        let for_long =
            self.root.state_seconds.map(|s| format!(" for {}", Unit::Seconds.format(s))).unwrap_or_default();
        match self.root.state.as_deref() {
            _ if self.root.is_prepared() => {
                Remedy::statement("SELECT gid, prepared, owner FROM pg_prepared_xacts ORDER BY prepared;")
                    .because("COMMIT PREPARED or ROLLBACK PREPARED the one that its owner forgot")
            }
            Some("active") => Remedy::statement(format!("SELECT pg_cancel_backend({pid});"))
                .because(format!("pid {pid} has run its statement{for_long}; cancelling undoes it")),
            _ => Remedy::statement(format!("SELECT pg_terminate_backend({pid});")).because(format!(
                "pid {pid} has been idle in its transaction{for_long}: ask its owner if you can"
            )),
        }
    }
}

/// The beginning of a statement: enough to know it by, `ALTER TABLE orders`.
fn first_words(query: &str) -> String {
    digest(query).split(' ').take(3).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(pid: i32, blockers: &[i32], waited: f64) -> Session {
        Session {
            blockers: blockers.to_vec(),
            waited: (!blockers.is_empty()).then_some(waited),
            relation: (!blockers.is_empty()).then(|| "public.orders".to_owned()),
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
    fn waits_by_design_alarm_less() {
        for (locktype, expected) in
            [("advisory", Status::Warning), ("virtualxid", Status::Ok), ("relation", Status::Critical)]
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
