//! `pg.long_queries`: which statements have been running for long.

use async_trait::async_trait;
use ops_core::{
    Context, Direction, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy,
    Requirement, Result, Severity, ThresholdSpec, Unit,
};

use super::session_row::{self, REPORTED, Session, sessions};
use crate::grants;
use crate::probe::{PgProbe, Scope};
use crate::statement::digest;
use crate::target::PgTarget;

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.long_queries",
    group: "sessions",
    explanation: Explanation {
        why: "A statement that runs for minutes where others take milliseconds is a plan gone wrong or a report on \
              the wrong server; it takes a connection, a core and memory, and holds back VACUUM.",
        measures: "How long each client's statement has been running. Autovacuum, walsenders, pg_dump, index \
                   builds, VACUUM, CLUSTER, ANALYZE, COPY and ops itself are left out: they take as long as the \
                   data is large. A statement that waits for a lock counts, and says so; one that waits for an \
                   advisory lock in a transaction that has written nothing is info: so a process stands by for a \
                   leader.",
        queries: &[("sessions with a transaction open", session_row::SQL)],
        codes: &[("pg.query.long", "a statement has been running for long")],
        versions: "PostgreSQL 14 and later",
        cost: "one read of pg_stat_activity",
        remedy: "EXPLAIN the statement (without ANALYZE: that runs it again). Where it waits for a lock, `ops \
                 explain pg.blocking`. statement_timeout per role keeps such statements short by itself.",
    },
    thresholds: &[ThresholdSpec {
        name: "running",
        meaning: "time since the statement began",
        unit: Unit::Seconds,
        direction: Direction::Above,
        warning: Some(300.0),
        critical: Some(600.0),
        source: "the runbooks' own figures: 5 and 10 minutes",
    }],
    requires: &[Requirement::Role("pg_read_all_stats"), grants::ACTIVITY],
};

#[derive(Debug)]
pub(super) struct LongQueries;

#[async_trait]
impl PgProbe for LongQueries {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Cluster
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, limits: &Limits) -> Result<ProbeReport> {
        Ok(judge(sessions(cx, pg).await?, limits))
    }
}

fn judge(sessions: Vec<Session>, limits: &Limits) -> ProbeReport {
    let by_size = |session: &Session| session.maintenance.is_some() || session.is_dump();
    let mut active: Vec<_> = sessions.into_iter().filter(|s| s.state == "active" && !by_size(s)).collect();
    active.sort_by(|a, b| b.query_seconds.total_cmp(&a.query_seconds));
    let longest = active.first().map_or(0.0, |session| session.query_seconds);
    let summary = match active.len() {
        0 => "no statement is running".to_owned(),
        1 => format!("1 statement is running, for {}", Unit::Seconds.format(longest)),
        n => format!("{n} statements are running, the longest for {}", Unit::Seconds.format(longest)),
    };
    ProbeReport::new(summary)
        .measure(Measurement::new("statements", active.len() as f64, Unit::Count))
        .measure(Measurement::new("longest", longest, Unit::Seconds))
        .findings(active.iter().filter_map(|session| finding(session, limits)).take(REPORTED))
}

fn finding(session: &Session, limits: &Limits) -> Option<Finding> {
    let judged = Severity::of(limits.get("running").judge(session.query_seconds))?;
    let severity = if session.stands_by() { Severity::Info } else { judged };
    let waits = match session.waits_for.as_deref() {
        Some(event) if event.starts_with("Lock: ") => format!(", waiting for a lock ({event})"),
        _ => String::new(),
    };
    let message = format!(
        "{} has been running a statement for {}{waits}: {}",
        session.describe(),
        Unit::Seconds.format(session.query_seconds),
        digest(&session.query),
    );
    let remedy = match session.stands_by() {
        true => session.let_it_wait(),
        false => Remedy::statement(format!("SELECT pg_cancel_backend({});", session.pid))
            .because("cancelling undoes what the statement has done so far, and its transaction fails"),
    };
    let finding = Finding::new(severity, "pg.query.long", message);
    Some(finding.object(session.object()).evidence(session.evidence()).remedy(remedy))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ops_core::Status;

    #[test]
    fn what_takes_as_long_as_the_data_is_large_is_left_out() {
        let running =
            |seconds| Session { state: "active".into(), query_seconds: seconds, ..Session::default() };
        let build = Session { maintenance: Some("CREATE INDEX".into()), ..running(9000.0) };
        let dump = Session { application: "pg_dump".into(), ..running(9000.0) };
        let idle = Session { state: "idle in transaction".into(), ..running(9000.0) };
        let stands_by = Session { waits_for: Some("Lock: advisory".into()), ..running(9000.0) };
        let keeps_others = Session { has_written: true, ..stands_by.clone() };
        for (session, expected) in [
            (running(299.0), Status::Ok),
            (running(300.0), Status::Warning),
            (running(600.0), Status::Critical),
            (build, Status::Ok),
            (dump, Status::Ok),
            (idle, Status::Ok),
            (stands_by, Status::Ok),
            (keeps_others, Status::Critical),
        ] {
            let report = judge(vec![session.clone()], &Limits::defaults(&SPEC));
            assert_eq!(report.status(), expected, "{session:?}");
        }
    }
}
