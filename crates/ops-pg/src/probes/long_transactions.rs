//! `pg.long_transactions`: which transactions have been open for long, idle or not.

use async_trait::async_trait;
use ops_core::{
    Context, Direction, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy,
    Requirement, Result, Severity, ThresholdSpec, Unit,
};

use super::session_row::{self, REPORTED, Session, sessions};
use crate::grants;
use crate::probe::{PgProbe, Scope};
use crate::target::PgTarget;

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.long_transactions",
    group: "sessions",
    explanation: Explanation {
        why: "What a transaction could still see, VACUUM must keep: while one is open for hours, every UPDATE and \
              DELETE leaves rows that nothing can remove, and its own locks stay until it ends.",
        measures: "The age of each client's open transaction, also when it runs one short statement after another \
                   and is never idle for long. Index builds, VACUUM, CLUSTER, ANALYZE, COPY, pg_dump and ops itself \
                   are left out: they take as long as the data is large (`ops explain pg.xmin_horizon` for what \
                   they hold back). One that waits for an advisory lock and has written nothing is info: so a \
                   process stands by for a leader.",
        queries: &[("sessions with a transaction open", session_row::SQL)],
        codes: &[("pg.transaction.long", "a transaction has been open for long")],
        versions: "PostgreSQL 14 and later",
        cost: "one read of pg_stat_activity",
        remedy: "Split the job into transactions of a few minutes, or move long reads to a standby. PostgreSQL 17 \
                 and later end such sessions themselves by transaction_timeout.",
    },
    thresholds: &[ThresholdSpec {
        name: "age",
        meaning: "time since the transaction began",
        unit: Unit::Seconds,
        direction: Direction::Above,
        warning: Some(1800.0),
        critical: Some(7200.0),
        source: "this project's choice: from 30 minutes even a busy batch job is worth a look; 2 hours of dead rows \
                 take a table of queue-like use to many times its size",
    }],
    requires: &[Requirement::Role("pg_read_all_stats"), grants::ACTIVITY],
};

#[derive(Debug)]
pub(super) struct LongTransactions;

#[async_trait]
impl PgProbe for LongTransactions {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Cluster
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, limits: &Limits) -> Result<ProbeReport> {
        Ok(judge(&sessions(cx, pg).await?, limits))
    }
}

fn judge(sessions: &[Session], limits: &Limits) -> ProbeReport {
    let judged = || sessions.iter().filter(|session| session.maintenance.is_none() && !session.is_dump());
    let oldest = judged().map(|session| session.transaction_seconds).fold(0.0, f64::max);
    let summary = match judged().count() {
        0 => "no transaction is open".to_owned(),
        1 => format!("1 transaction is open, for {}", Unit::Seconds.format(oldest)),
        n => format!("{n} transactions are open, the oldest for {}", Unit::Seconds.format(oldest)),
    };
    ProbeReport::new(summary)
        .measure(Measurement::new("transactions", judged().count() as f64, Unit::Count))
        .measure(Measurement::new("oldest", oldest, Unit::Seconds))
        .findings(judged().filter_map(|session| finding(session, limits)).take(REPORTED))
}

fn finding(session: &Session, limits: &Limits) -> Option<Finding> {
    let judged = Severity::of(limits.get("age").judge(session.transaction_seconds))?;
    let severity = if session.stands_by() { Severity::Info } else { judged };
    let message = format!(
        "{} has had its transaction open for {}, {}: {}",
        session.describe(),
        Unit::Seconds.format(session.transaction_seconds),
        match session {
            idle if idle.is_idle() => "idle now",
            waiting if waiting.stands_by() => "waiting for an advisory lock now",
            _ => "at work now",
        },
        session.holds(),
    );
    let loses = "it loses what the transaction has not committed: ask its owner if you can";
    let remedy = match session {
        waiting if waiting.stands_by() => waiting.let_it_wait(),
        // Cancelling does nothing to a session that runs no statement.
        idle if idle.is_idle() => {
            Remedy::statement(format!("SELECT pg_terminate_backend({});", session.pid)).because(loses)
        }
        _ => Remedy::statement(format!("SELECT pg_cancel_backend({});", session.pid)).because(loses),
    };
    let finding = Finding::new(severity, "pg.transaction.long", message);
    Some(finding.object(session.object()).evidence(session.evidence()).remedy(remedy))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ops_core::Status;

    #[test]
    fn a_transaction_that_is_never_idle_for_long_is_found_and_a_build_is_not() {
        let old = Session {
            state: "idle in transaction".into(),
            state_seconds: 0.1,
            transaction_seconds: 10_000.0,
            ..Session::default()
        };
        let build = Session { maintenance: Some("CREATE INDEX".into()), ..old.clone() };
        let dump = Session { application: "pg_dump".into(), ..old.clone() };
        let active = Session { state: "active".into(), ..old.clone() };
        let stands_by = Session { waits_for: Some("Lock: advisory".into()), ..active };
        let keeps_others = Session { has_written: true, ..stands_by.clone() };
        for (session, expected) in [
            (old, Status::Critical),
            (build, Status::Ok),
            (dump, Status::Ok),
            (stands_by, Status::Ok),
            (keeps_others, Status::Critical),
        ] {
            assert_eq!(judge(&[session], &Limits::defaults(&SPEC)).status(), expected);
        }
    }
}
