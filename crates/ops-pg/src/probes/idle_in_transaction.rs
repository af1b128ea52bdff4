//! `pg.idle_in_transaction`: which clients left a transaction open and went away.

use std::collections::BTreeMap;

use async_trait::async_trait;
use ops_core::{
    Context, Direction, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy,
    Requirement, Result, Severity, ThresholdSpec, Unit,
};
use serde_json::{Value, json};

use super::session_row::{self, REPORTED, Session, sessions};
use super::words::counted;
use crate::grants;
use crate::probe::{PgProbe, Scope};
use crate::target::PgTarget;

/// Serves PostgreSQL 14 and later. Asked for the sessions of a finding alone: reading `pg_locks` holds the lock
/// manager still for a moment. Names of the database we are connected to; others keep their oid.
const LOCKS: &str = "
SELECT l.pid, l.mode, count(*) AS locks,
       (array_agg(coalesce(quote_ident(n.nspname) || '.' || quote_ident(c.relname), 'relation ' || l.relation)))[1:5]
         AS relations
  FROM pg_locks l
  LEFT JOIN pg_database d ON d.oid = l.database AND d.datname = current_database()
  LEFT JOIN pg_class c ON c.oid = l.relation AND d.oid IS NOT NULL
  LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE l.locktype = 'relation' AND l.granted AND l.pid IN ({pids})
 GROUP BY l.pid, l.mode ORDER BY l.pid, l.mode";

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.idle_in_transaction",
    group: "sessions",
    explanation: Explanation {
        why: "A transaction that its client left open keeps its locks and holds back VACUUM in the whole database: \
              tables bloat, and the next ALTER TABLE queues behind it with everybody who comes after.",
        measures: "Per client session in state 'idle in transaction' (or 'aborted'): how long it has been idle, how \
                   old its transaction is, and what it holds: its own writes, the horizon of VACUUM, locks on \
                   relations. One that holds none of these is a warning at most; the leader of a parallel pg_dump \
                   is idle by design and told without alarm.",
        queries: &[("sessions with a transaction open", session_row::SQL), ("what those found hold", LOCKS)],
        codes: &[("pg.session.idle_in_transaction", "a client left its transaction open")],
        versions: "PostgreSQL 14 and later",
        cost: "one read of pg_stat_activity, and one of pg_locks when there is a finding",
        remedy: "Find out why the application does not end its transaction (a lost exception, a call to somebody \
                 else's service inside of it). idle_in_transaction_session_timeout ends such sessions by itself.",
    },
    thresholds: &[ThresholdSpec {
        name: "idle",
        meaning: "time since the session's last statement, its transaction still open",
        unit: Unit::Seconds,
        direction: Direction::Above,
        warning: Some(300.0),
        critical: Some(1800.0),
        source: "the runbooks' own figures: 5 and 30 minutes",
    }],
    requires: &[Requirement::Role("pg_read_all_stats"), grants::ACTIVITY],
};

#[derive(Debug)]
pub(super) struct IdleInTransaction;

#[async_trait]
impl PgProbe for IdleInTransaction {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Cluster
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, limits: &Limits) -> Result<ProbeReport> {
        let mut idle: Vec<_> = sessions(cx, pg).await?.into_iter().filter(Session::is_idle).collect();
        idle.sort_by(|a, b| b.state_seconds.total_cmp(&a.state_seconds));
        let over =
            |session: &&Session| Severity::of(limits.get("idle").judge(session.state_seconds)).is_some();
        let found: Vec<i32> = idle.iter().filter(over).take(REPORTED).map(|session| session.pid).collect();
        let locks = locks(cx, pg, &found).await?;
        Ok(judge(&idle, &locks, limits))
    }
}

/// Locks on relations by session, as evidence.
type Locks = BTreeMap<i32, Vec<Value>>;

async fn locks(cx: &Context, pg: &PgTarget, pids: &[i32]) -> Result<Locks> {
    let mut locks = Locks::new();
    if pids.is_empty() {
        return Ok(locks);
    }
    let pids = pids.iter().map(i32::to_string).collect::<Vec<_>>().join(", ");
    for row in &pg.read(cx, &LOCKS.replace("{pids}", &pids)).await? {
        locks.entry(row.get("pid")?).or_default().push(json!({
            "mode": row.get::<String>("mode")?, "locks": row.get::<i64>("locks")?,
            "relations": row.get::<Vec<String>>("relations")?,
        }));
    }
    Ok(locks)
}

fn judge(idle: &[Session], locks: &Locks, limits: &Limits) -> ProbeReport {
    let longest = idle.first().map_or(0.0, |session| session.state_seconds);
    let summary = match idle.len() {
        0 => "no session is idle in a transaction".to_owned(),
        1 => format!("1 session is idle in a transaction, for {}", Unit::Seconds.format(longest)),
        n => format!(
            "{n} sessions are idle in a transaction, the longest for {}",
            Unit::Seconds.format(longest)
        ),
    };
    let held: Vec<_> =
        idle.iter().filter_map(|session| finding(session, locks, limits)).take(REPORTED).collect();
    ProbeReport::new(summary)
        .measure(Measurement::new("sessions", idle.len() as f64, Unit::Count))
        .measure(Measurement::new("longest_idle", longest, Unit::Seconds))
        .findings(held)
}

fn finding(session: &Session, locks: &Locks, limits: &Limits) -> Option<Finding> {
    let severity = Severity::of(limits.get("idle").judge(session.state_seconds))?;
    let none = Vec::new();
    let locks = locks.get(&session.pid).unwrap_or(&none);
    let harmless = !session.has_written && session.xmin_age.is_none() && locks.is_empty();
    let severity = match () {
        () if session.is_dump() => Severity::Info,
        () if harmless => severity.min(Severity::Warning),
        () => severity,
    };
    let relations: i64 = locks.iter().filter_map(|lock| lock["locks"].as_i64()).sum();
    let locked = match relations {
        0 => String::new(),
        n => format!(
            ", and {}",
            counted(usize::try_from(n).unwrap_or(usize::MAX), "lock on a relation", "locks on relations")
        ),
    };
    let message = format!(
        "{} has been idle in its transaction for {} (open for {}): {}{locked}",
        session.describe(),
        Unit::Seconds.format(session.state_seconds),
        Unit::Seconds.format(session.transaction_seconds),
        session.holds(),
    );
    let finding = Finding::new(severity, "pg.session.idle_in_transaction", message)
        .object(session.object())
        .evidence(session.evidence())
        .remedy(
            Remedy::statement(format!("SELECT pg_terminate_backend({});", session.pid))
                .because("it loses what the transaction has not committed: ask its owner if you can"),
        );
    Some(locks.iter().cloned().fold(finding, Finding::evidence))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ops_core::Status;

    fn idle(seconds: f64) -> Session {
        Session {
            pid: 7,
            state: "idle in transaction".into(),
            state_seconds: seconds,
            transaction_seconds: seconds,
            ..Session::default()
        }
    }

    #[test]
    fn what_it_holds_decides_how_bad_it_is() {
        let writer = Session { has_written: true, ..idle(3600.0) };
        let reader = Session { xmin_age: Some(4), ..idle(3600.0) };
        let dump = Session { application: "pg_dump".into(), ..reader.clone() };
        let locked = Locks::from([(7, vec![json!({"mode": "AccessShareLock", "locks": 2})])]);
        for (session, locks, expected) in [
            (writer, Locks::new(), Status::Critical),
            (reader, Locks::new(), Status::Critical),
            (dump, Locks::new(), Status::Ok),
            (idle(3600.0), locked, Status::Critical),
            (idle(3600.0), Locks::new(), Status::Warning),
            (idle(301.0), Locks::new(), Status::Warning),
            (idle(299.0), Locks::new(), Status::Ok),
        ] {
            let report = judge(std::slice::from_ref(&session), &locks, &Limits::defaults(&SPEC));
            assert_eq!(report.status(), expected, "{session:?} {locks:?}");
        }
    }
}
