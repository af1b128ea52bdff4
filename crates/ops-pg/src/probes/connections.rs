//! `pg.connections`: how many of the connections that clients can have are taken.

use async_trait::async_trait;
use ops_core::{
    Context, Direction, Error, ErrorKind, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec,
    Remedy, Requirement, Result, Severity, ThresholdSpec, Unit,
};
use serde_json::json;

use crate::probe::{PgProbe, Scope};
use crate::target::PgTarget;

/// Serves PostgreSQL 14 and later; `reserved_connections` came with 16.
const SQL: &str = "
SELECT current_setting('max_connections')::int8 AS max,
       current_setting('superuser_reserved_connections')::int8
         + coalesce(current_setting('reserved_connections', true)::int8, 0) AS reserved,
       a.datname::text AS database, a.usename::text AS role,
       coalesce(a.state, 'starting') AS state, count(*) AS sessions
  FROM pg_stat_activity a
 WHERE a.backend_type = 'client backend'
 GROUP BY a.datname, a.usename, a.state
 ORDER BY count(*) DESC";

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.connections",
    group: "sessions",
    explanation: Explanation {
        why: "When the last connection is taken, every new client is refused (SQLSTATE 53300): the service is down \
              while the database looks idle.",
        measures: "Client sessions as a share of max_connections less those reserved for superusers and, from \
                   PostgreSQL 16, for roles with pg_use_reserved_connections; by database, role and state.",
        queries: &[("sessions by database, role and state", SQL)],
        codes: &[
            ("pg.connections.high", "most of the connections are taken"),
            ("pg.connections.exhausted", "the server refused ops itself: none is left"),
        ],
        versions: "PostgreSQL 14 and later",
        cost: "one read of pg_stat_activity",
        remedy: "Find the database and role with the most idle sessions in the evidence, and lower the size of that \
                 pool, or put PgBouncer in between. Raising max_connections needs a restart and memory.",
    },
    thresholds: &[ThresholdSpec {
        name: "used",
        meaning: "connections taken, of those that clients can have",
        unit: Unit::Percent,
        direction: Direction::Above,
        warning: Some(80.0),
        critical: Some(90.0),
        source: "the runbooks' own figures",
    }],
    requires: &[Requirement::Role("pg_read_all_stats")],
};

#[derive(Debug)]
pub(super) struct Connections;

#[async_trait]
impl PgProbe for Connections {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Cluster
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, limits: &Limits) -> Result<ProbeReport> {
        let rows = pg.read(cx, SQL).await?;
        let (mut max, mut reserved, mut taken) = (0, 0, 0);
        let mut idle = 0;
        let mut evidence = Vec::new();
        for row in &rows {
            (max, reserved) = (row.get::<i64>("max")?, row.get::<i64>("reserved")?);
            let (sessions, state) = (row.get::<i64>("sessions")?, row.get::<String>("state")?);
            taken += sessions;
            idle += if state == "idle" { sessions } else { 0 };
            evidence.push(json!({
                "database": row.get::<Option<String>>("database")?, "role": row.get::<Option<String>>("role")?,
                "state": state, "sessions": sessions,
            }));
        }
        let available = (max - reserved).max(1);
        let share = 100.0 * taken as f64 / available as f64;
        let used = Measurement::new("used", share, Unit::Percent).judged_by(limits.get("used"));
        let summary = format!("{taken} of {available} connections taken ({idle} idle)");
        let high = Severity::of(used.status()).map(|severity| {
            let finding = Finding::new(severity, "pg.connections.high", summary.clone())
                .object(pg.address())
                .remedy(Remedy::advice(
                    "the evidence names who holds them; shrink that pool or end idle sessions",
                ));
            evidence.into_iter().fold(finding, Finding::evidence)
        });
        Ok(ProbeReport::new(summary)
            .measure(used)
            .measure(Measurement::new("sessions", taken as f64, Unit::Count))
            .measure(Measurement::new("idle", idle as f64, Unit::Count))
            .findings(high))
    }

    fn judge_failure(&self, error: &Error) -> Option<ProbeReport> {
        if error.kind() != ErrorKind::Exhausted {
            return None;
        }
        let what = error.report();
        let look = Remedy::statement(
            "SELECT pid, usename, datname, state, state_change FROM pg_stat_activity \
             WHERE backend_type = 'client backend' ORDER BY state_change;",
        );
        let finding = Finding::critical("pg.connections.exhausted", what.clone()).remedy(look.because(
            match error.fix() {
                Some(limit) => format!("a superuser still gets in, to look and to {limit}"),
                None => "a superuser still gets in through the reserved connections".to_owned(),
            },
        ));
        Some(ProbeReport::new(what).finding(match error.target() {
            Some(target) => finding.object(target),
            None => finding,
        }))
    }
}
