//! `pg.wait_events`: what the sessions at work wait for.

use async_trait::async_trait;
use ops_core::{
    Context, Direction, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy,
    Requirement, Result, Severity, ThresholdSpec, Unit,
};
use serde_json::json;

use super::words::counted;
use crate::grants;
use crate::probe::{PgProbe, Scope};
use crate::target::PgTarget;

/// Serves PostgreSQL 14 and later. Active clients only: everybody else waits by design, for a client or for work.
const SQL: &str = "
SELECT coalesce(a.wait_event_type, 'CPU') AS type, coalesce(a.wait_event, 'running') AS event, count(*) AS sessions
  FROM pg_stat_activity a
 WHERE a.backend_type = 'client backend' AND a.state = 'active'
   AND a.pid <> pg_backend_pid()
   AND (a.application_name ~ '^ops:([0-9a-f]{12}|listen|cancel)$' AND a.usename = current_user) IS NOT TRUE
 GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2";

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.wait_events",
    group: "sessions",
    explanation: Explanation {
        why: "Where a server is slow and its machine is not, its sessions wait for one another or for the disk; \
              which of the two says where to look first.",
        measures: "Client sessions that run a statement at this moment, by the type of event that they wait for; \
                   'CPU' stands for those that wait for none. One look, not a profile: it is shown, and alarms \
                   only where bounds are set.",
        queries: &[("active sessions by wait event", SQL)],
        codes: &[("pg.wait_events.high", "more sessions wait at once than the configured bound allows")],
        versions: "PostgreSQL 14 and later",
        cost: "one read of pg_stat_activity",
        remedy: "By type: Lock, see `ops explain pg.blocking`; IO, a cold cache or a slow disk; LWLock, contention \
                 inside the server (too many sessions at once); Client, the application reads its result slowly.",
    },
    thresholds: &[ThresholdSpec {
        name: "waiting",
        meaning: "active sessions that wait for anything but the CPU",
        unit: Unit::Count,
        direction: Direction::Above,
        warning: None,
        critical: None,
        source: "none: what is usual differs from server to server",
    }],
    requires: &[Requirement::Role("pg_read_all_stats"), grants::ACTIVITY],
};

#[derive(Debug)]
pub(super) struct WaitEvents;

#[async_trait]
impl PgProbe for WaitEvents {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Cluster
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, limits: &Limits) -> Result<ProbeReport> {
        let rows = pg.read(cx, SQL).await?;
        let mut events = Vec::new();
        for row in &rows {
            events.push((
                row.get::<String>("type")?,
                row.get::<String>("event")?,
                row.get::<i64>("sessions")?,
            ));
        }
        Ok(judge(&events, limits))
    }
}

fn judge(events: &[(String, String, i64)], limits: &Limits) -> ProbeReport {
    let active: i64 = events.iter().map(|(.., sessions)| sessions).sum();
    let mut waits = events.iter().filter(|(kind, ..)| kind != "CPU").peekable();
    let top = waits.peek().map(|(kind, event, sessions)| format!("{sessions} for {kind}:{event}"));
    let waiting: i64 = waits.map(|(.., sessions)| sessions).sum();
    let measured = Measurement::new("waiting", waiting as f64, Unit::Count).judged_by(limits.get("waiting"));
    let active = counted(usize::try_from(active).unwrap_or(0), "session", "sessions");
    let summary = match top {
        None => format!("{active} at work, none waiting"),
        Some(top) => format!("{active} at work, {waiting} waiting, most of them {top}"),
    };
    let high = Severity::of(measured.status()).map(|severity| {
        let finding = Finding::new(severity, "pg.wait_events.high", summary.clone())
            .remedy(Remedy::advice("the evidence says what they wait for; look at the type with the most sessions"));
        let row = |(kind, event, sessions): &(String, String, i64)| {
            json!({ "type": kind, "event": event, "sessions": sessions })
        };
        events.iter().map(row).fold(finding, Finding::evidence)
    });
    let mut types = std::collections::BTreeMap::<&str, i64>::new();
    for (kind, _, sessions) in events {
        *types.entry(kind).or_default() += sessions;
    }
    let report = ProbeReport::new(summary).measure(measured).findings(high);
    types.into_iter().fold(report, |report, (kind, sessions)| {
        report.measure(Measurement::new("sessions", sessions as f64, Unit::Count).label("type", kind))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ops_core::{Bounds, Status};

    #[test]
    fn who_uses_the_cpu_waits_for_nothing() {
        let event = |kind: &str, event: &str, n| (kind.to_owned(), event.to_owned(), n);
        let events =
            [event("CPU", "running", 9), event("IO", "DataFileRead", 2), event("Lock", "relation", 1)];
        let defaults = Limits::defaults(&SPEC);
        let report = judge(&events, &defaults);
        assert_eq!((report.status(), report.measured()[0].value), (Status::Ok, 3.0));
        let bounded = defaults.with("waiting", Bounds { warning: Some(3.0), critical: None }).unwrap();
        assert_eq!(judge(&events, &bounded).status(), Status::Warning);
        assert_eq!(judge(&events[..1], &bounded).status(), Status::Ok);
    }
}
