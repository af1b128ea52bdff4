//! `pg.sync_replication`: are there as many synchronous standbys as commits wait for?

use async_trait::async_trait;
use ops_core::{
    Context, Direction, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy,
    Requirement, Result, Severity, ThresholdSpec, Unit,
};
use serde_json::json;

use super::words::counted;
use crate::probe::{PgProbe, Scope};
use crate::target::PgTarget;

/// Serves PostgreSQL 14 and later. A standby that is still catching up counts neither as sync nor as quorum.
const SQL: &str = "
SELECT current_setting('synchronous_standby_names')                                AS names,
       current_setting('synchronous_commit')                                       AS level,
       w.waiting, w.longest,
       r.application_name, r.state, r.sync_state
  FROM (SELECT count(*) AS waiting,
               coalesce(extract(epoch FROM max(clock_timestamp() - query_start)), 0)::float8 AS longest
          FROM pg_stat_activity WHERE wait_event_type = 'IPC' AND wait_event = 'SyncRep') w
  LEFT JOIN pg_stat_replication r ON r.state <> 'backup'
 ORDER BY r.application_name";

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.sync_replication",
    group: "replication",
    explanation: Explanation {
        why: "With synchronous replication every COMMIT waits until enough standbys have confirmed it. When too few \
              are there, commits hang, sessions pile up, and the service stands still while the primary is healthy.",
        measures: "The standbys whose sync_state is sync or quorum, against the number that \
                   synchronous_standby_names asks for; and the sessions that wait for them now. Where \
                   synchronous_commit is off or local by default, only commits that ask for more would wait. A role's \
                   or a database's own synchronous_commit is not looked at. And how long the longest wait has lasted, also while \
                   the standbys are there: counted from the start of the statement that waits.",
        queries: &[("what commits wait for, and the standbys", SQL)],
        codes: &[
            ("pg.sync_replication.too_few", "fewer synchronous standbys than commits wait for"),
            ("pg.sync_replication.hanging", "the standbys are there, and do not confirm: commits hang"),
        ],
        versions: "PostgreSQL 14 and later; primaries only",
        cost: "one read of pg_stat_replication and of pg_stat_activity",
        remedy: "Bring a standby back, or name another one. If that takes longer than the service can stand still, \
                 empty synchronous_standby_names and reload: from then on a failover may lose commits. More \
                 candidates than are needed (`ANY 1 (a, b)`) keep one failure from stopping writes.",
    },
    thresholds: &[ThresholdSpec {
        name: "waited",
        meaning: "how long a commit has waited for its standbys",
        unit: Unit::Seconds,
        direction: Direction::Above,
        warning: Some(5.0),
        critical: Some(60.0),
        source: "critical is wal_sender_timeout's default: after that, the primary gives the standby up; the warning \
                 is this project's choice, a thousand times what a confirmation takes in one data centre",
    }],
    requires: &[Requirement::Role("pg_read_all_stats")],
};

#[derive(Debug)]
pub(super) struct SyncReplication;

#[async_trait]
impl PgProbe for SyncReplication {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Cluster
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, limits: &Limits) -> Result<ProbeReport> {
        if pg.capabilities(cx).await?.in_recovery {
            return Ok(ProbeReport::not_applicable("a standby commits nothing"));
        }
        let rows = pg.read(cx, SQL).await?;
        let Some(first) = rows.first() else {
            return Ok(ProbeReport::unknown("pg_stat_replication gave no row", None));
        };
        let (names, level): (String, String) = (first.get("names")?, first.get("level")?);
        let (waiting, longest): (i64, f64) = (first.get("waiting")?, first.get("longest")?);
        let Some(wanted) = wanted(&names) else {
            return Ok(ProbeReport::not_applicable("synchronous_standby_names is empty"));
        };
        let mut synchronous = 0;
        let mut evidence = vec![json!({ "synchronous_standby_names": names, "synchronous_commit": level })];
        for row in &rows {
            let Some(name) = row.get::<Option<String>>("application_name")? else { continue };
            let sync_state: Option<String> = row.get("sync_state")?;
            synchronous += u64::from(matches!(sync_state.as_deref(), Some("sync" | "quorum")));
            let state: Option<String> = row.get("state")?;
            evidence.push(json!({ "standby": name, "state": state, "sync_state": sync_state }));
        }
        let summary = format!("{synchronous} of {wanted} synchronous standbys are there");
        let report = ProbeReport::new(summary)
            .measure(Measurement::new("synchronous", synchronous as f64, Unit::Count))
            .measure(Measurement::new("wanted", wanted as f64, Unit::Count))
            .measure(Measurement::new("waiting", waiting as f64, Unit::Count));
        let waited = Measurement::new("waited", longest, Unit::Seconds).judged_by(limits.get("waited"));
        let (severity, code, message) = match (synchronous < wanted, Severity::of(waited.status())) {
            (true, _) => {
                let (severity, what) = consequence(&level, waiting);
                let message = format!("{synchronous} of {wanted} synchronous standbys are there: {what}");
                (severity, "pg.sync_replication.too_few", message)
            }
            (false, Some(severity)) => {
                let hang = counted(
                    waiting as usize,
                    "session hangs in its commit",
                    "sessions hang in their commits",
                );
                let message = format!(
                    "{hang}, the longest for {}: the standbys are there, and do not confirm",
                    waited.format()
                );
                (severity, "pg.sync_replication.hanging", message)
            }
            (false, None) => return Ok(report.measure(waited)),
        };
        let report = report.measure(waited);
        let finding = Finding::new(severity, code, message)
            .object(pg.address())
            .remedy(Remedy::advice(
                "bring a standby back; where writes cannot wait for that, empty synchronous_standby_names and reload, \
                 knowing that a failover may lose commits from then on",
            ));
        Ok(report.finding(evidence.into_iter().fold(finding, Finding::evidence)))
    }
}

fn consequence(level: &str, waiting: i64) -> (Severity, String) {
    match (waiting, level) {
        (0, "off" | "local") => {
            let what = format!("synchronous_commit is {level}, so only commits that ask for more would hang");
            (Severity::Warning, what)
        }
        (0, _) => (Severity::Critical, "every commit hangs".to_owned()),
        (1, _) => (Severity::Critical, "1 session hangs in its commit".to_owned()),
        (n, _) => (Severity::Critical, format!("{n} sessions hang in their commits")),
    }
}

/// How many standbys a commit waits for, by the grammar of `synchronous_standby_names`; `None` where it is empty.
fn wanted(names: &str) -> Option<u64> {
    let names = names.trim();
    if names.is_empty() {
        return None;
    }
    let method = |word: &str| {
        let rest = names.get(word.len()..)?;
        names[..word.len()]
            .eq_ignore_ascii_case(word)
            .then_some(rest)
            .filter(|rest| rest.trim_start().starts_with(|c: char| c.is_ascii_digit()))
    };
    let rest = method("FIRST").or_else(|| method("ANY")).unwrap_or(names).trim_start();
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (number, list) = rest.split_at(digits);
    match list.trim_start().starts_with('(') {
        true => number.parse().ok().or(Some(1)),
        false => Some(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_read_as_postgres_reads_it() {
        for (names, expected) in [
            ("", None),
            ("  ", None),
            ("a", Some(1)),
            ("*", Some(1)),
            ("a, b", Some(1)),
            ("2 (a, b, c)", Some(2)),
            ("FIRST 2 (a, b)", Some(2)),
            ("first 3(a)", Some(3)),
            ("ANY 2 (*)", Some(2)),
            ("any1", Some(1)),
            ("\"2\"", Some(1)),
            ("firstborn", Some(1)),
            ("ä", Some(1)),
        ] {
            assert_eq!(wanted(names), expected, "{names}");
        }
    }
}
