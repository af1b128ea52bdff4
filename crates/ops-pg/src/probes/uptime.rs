//! `pg.uptime`: since when the server runs, and whether it crashed since.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use ops_core::{
    Context, Direction, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy,
    Requirement, Result, Severity, ThresholdSpec, Unit,
};
use serde_json::json;

use crate::probe::{PgProbe, Scope};
use crate::target::PgTarget;

/// Serves PostgreSQL 14 and later. When a server process dies, the postmaster stays, ends all others and starts
/// them anew: `pg_postmaster_start_time` does not move, the checkpointer's start does. The first half of the system
/// identifier is the second at which `initdb` ran, and from 15 on `initdb` leaves statistics behind: those of a first
/// start are older than it.
const SQL: &str = "
SELECT pg_postmaster_start_time()                                         AS started_at,
       extract(epoch FROM now() - pg_postmaster_start_time())::float8     AS uptime,
       c.backend_start                                                    AS processes_since,
       extract(epoch FROM now() - c.backend_start)::float8                AS since_crash,
       c.backend_start > pg_postmaster_start_time() + interval '5 s'      AS crashed,
       (SELECT stats_reset FROM pg_stat_archiver)                         AS statistics_since,
       (SELECT a.stats_reset = w.stats_reset
               AND a.stats_reset BETWEEN pg_postmaster_start_time() AND pg_postmaster_start_time() + interval '5 s'
          FROM pg_stat_archiver a, pg_stat_wal w)                         AS statistics_discarded,
       current_setting('server_version_num')::int4 < 150000
         AND pg_postmaster_start_time() - to_timestamp((s.system_identifier >> 32)::float8) < interval '1 min'
                                                                          AS first_start
  FROM pg_control_system() s
  LEFT JOIN pg_stat_activity c ON c.backend_type = 'checkpointer'";

/// A start this young is worth a line.
const RECENT: f64 = 3600.0;

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.uptime",
    group: "availability",
    explanation: Explanation {
        why: "When one server process dies (out of memory, a bug, kill -9), PostgreSQL ends all sessions, recovers \
              and goes on. Clients see it as a minute of errors, nobody calls, and it comes again.",
        measures: "The time since the postmaster started, and since its processes were started anew: a checkpointer \
                   that is over 5 s younger than the postmaster was restarted after a crash. A crash also discards \
                   the cumulative statistics. Where they begin with the server's start and it is not its first one, \
                   the server was not shut down in an orderly way, or was restored or upgraded: SQL does not tell \
                   which, so that is information. Of crashes before the last start nothing is visible.",
        queries: &[("start of the postmaster and of its checkpointer, and of the statistics", SQL)],
        codes: &[
            ("pg.uptime.crashed", "a server process died and all sessions were ended"),
            ("pg.uptime.restarted", "the server was started within the last hour"),
            ("pg.uptime.unclean", "the statistics begin with this start, as after an unclean shutdown"),
        ],
        versions: "PostgreSQL 14 and later",
        cost: "one read of pg_stat_activity and of pg_control",
        remedy: "Read the server's log at that time for \"was terminated by signal\": 9 is mostly the kernel's \
                 out-of-memory killer (`dmesg -T | grep -i oom`), 11 and 6 are bugs in PostgreSQL or an extension.",
    },
    thresholds: &[
        ThresholdSpec {
            name: "since_crash",
            meaning: "time since a server process died",
            unit: Unit::Seconds,
            direction: Direction::Below,
            warning: Some(86_400.0),
            critical: None,
            source: "this project's choice: a daily check sees each crash",
        },
        ThresholdSpec {
            name: "uptime",
            meaning: "time since the server was started",
            unit: Unit::Seconds,
            direction: Direction::Below,
            warning: None,
            critical: None,
            source: "information: a restart is mostly wanted",
        },
    ],
    requires: &[Requirement::Role("pg_read_all_stats")],
};

#[derive(Debug)]
pub(super) struct Uptime;

#[async_trait]
impl PgProbe for Uptime {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Cluster
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, limits: &Limits) -> Result<ProbeReport> {
        let rows = pg.read(cx, SQL).await?;
        let Some(row) = rows.first() else {
            return Ok(ProbeReport::unknown("pg_control_system() gave no row", None));
        };
        let (started_at, uptime): (DateTime<Utc>, f64) = (row.get("started_at")?, row.get("uptime")?);
        let uptime = Measurement::new("uptime", uptime, Unit::Seconds).judged_by(limits.get("uptime"));
        let up = format!("up for {}", uptime.format());
        let Some(since) = row.get::<Option<DateTime<Utc>>>("processes_since")? else {
            // A standby of 14 has none before it reaches consistency, and then nobody can ask.
            return Ok(ProbeReport::unknown(format!("{up}; pg_stat_activity shows no checkpointer"), None));
        };
        let evidence = json!({
            "postmaster_started": started_at, "processes_started": since,
            "statistics_since": row.get::<Option<DateTime<Utc>>>("statistics_since")?,
        });
        let report = ProbeReport::new(up.clone());
        if row.get("crashed")? {
            let crash = Measurement::new("since_crash", row.get("since_crash")?, Unit::Seconds)
                .judged_by(limits.get("since_crash"));
            let message = format!("a server process died {} ago and took all sessions along", crash.format());
            let severity = Severity::of(crash.status()).unwrap_or(Severity::Info);
            let finding = Finding::new(severity, "pg.uptime.crashed", message)
                .object(pg.address())
                .evidence(evidence)
                .remedy(Remedy::advice(
                    "look in the server's log for \"was terminated by signal\"; with signal 9, in dmesg for the \
                     out-of-memory killer",
                ));
            let summary = format!("{up}, with a crash {} ago", crash.format());
            return Ok(report.summary(summary).finding(finding).measure(uptime).measure(crash));
        }
        let discarded = row.get::<Option<bool>>("statistics_discarded")?.unwrap_or(false);
        let unclean = (discarded && !row.get::<bool>("first_start")?).then(|| {
            let message = "the statistics begin with the server's start: it was not shut down in an orderly way, or \
                           it was restored from a backup or upgraded";
            let advice = Remedy::advice("look in the server's log for \"was not properly shut down\"");
            Finding::info("pg.uptime.unclean", message).object(pg.address()).evidence(evidence).remedy(advice)
        });
        Ok(report.findings(restarted(pg, &uptime)).findings(unclean).measure(uptime))
    }
}

/// With bounds of the user's it is theirs to say how bad.
fn restarted(pg: &PgTarget, uptime: &Measurement) -> Option<Finding> {
    let severity = Severity::of(uptime.status()).or((uptime.value < RECENT).then_some(Severity::Info))?;
    let message = format!("the server was started {} ago", uptime.format());
    Some(Finding::new(severity, "pg.uptime.restarted", message).object(pg.address()))
}
