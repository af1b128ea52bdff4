//! `pg.sync_replication`: are there as many synchronous standbys as commits wait for?

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use ops_core::{
    Context, Direction, Error, ErrorKind, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec,
    Remedy, Requirement, Result, Severity, ThresholdSpec, Unit,
};
use serde_json::{Value, json};

use super::words::counted;
use crate::probe::{PgProbe, Scope};
use crate::row::Row;
use crate::target::PgTarget;

/// Serves PostgreSQL 14 and later. A standby that is still catching up counts neither as sync nor as quorum. A
/// session that waits is told by its process id and the start of its statement: when its commit began, nothing shows.
const SQL: &str = "
SELECT current_setting('synchronous_standby_names')                                AS names,
       current_setting('synchronous_commit')                                       AS level,
       w.waiting,
       r.pid, r.application_name, r.state, r.sync_state, r.write_lsn::text, r.flush_lsn::text, r.replay_lsn::text
  FROM (SELECT coalesce(json_object_agg(pid || ' ' || query_start,
                                        extract(epoch FROM clock_timestamp() - query_start)), '{}')::text AS waiting
          FROM pg_stat_activity
         WHERE wait_event_type = 'IPC' AND wait_event = 'SyncRep' AND query_start IS NOT NULL) w
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
                   or a database's own synchronous_commit is not looked at. And whether commits hang while the \
                   standbys are there: it looks twice, and a session hangs that waits in the same statement both times, \
                   while fewer standbys than are asked for have confirmed anything in between (by flush_lsn; replay_lsn under \
                   remote_apply, write_lsn under remote_write). How long it has waited is then counted from the start \
                   of its statement, since nothing shows the start of its commit.",
        queries: &[("what commits wait for, and the standbys", SQL)],
        codes: &[
            ("pg.sync_replication.too_few", "fewer synchronous standbys than commits wait for"),
            ("pg.sync_replication.hanging", "the standbys are there, and do not confirm: commits hang"),
        ],
        versions: "PostgreSQL 14 and later; primaries only",
        cost: "one read of pg_stat_replication and of pg_stat_activity; a second one where a statement waits",
        remedy: "Bring a standby back, or name another one. If that takes longer than the service can stand still, \
                 empty synchronous_standby_names and reload, at the cost of durability: what is committed from \
                 then on is lost if the primary is. More candidates than are needed (`ANY 1 (a, b)`) keep one failure from stopping writes.",
    },
    thresholds: &[ThresholdSpec {
        name: "waited",
        meaning: "how long a statement has run whose commit hangs",
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
        let Some(look) = Look::read(&rows)? else {
            return Ok(ProbeReport::unknown("pg_stat_replication gave no row", None));
        };
        let Some(wanted) = wanted(&look.names) else {
            return Ok(ProbeReport::not_applicable("synchronous_standby_names is empty"));
        };
        let limits = limits.get("waited");
        let too_few = look.synchronous() < wanted;
        let long = look.waiting.values().any(|&seconds| Severity::of(limits.judge(seconds)).is_some());
        let hanging = match long && !too_few {
            true => {
                let gap = async {
                    cx.waiting(tokio::time::sleep(cx.window_gap())).await;
                    Ok(())
                };
                cx.run("wait for a second look", gap).await?;
                let again = Look::read(&pg.read(cx, SQL).await?)?;
                again.map(|again| look.still_in(&again, wanted)).unwrap_or_default()
            }
            false => Vec::new(),
        };
        let longest = hanging.iter().copied().fold(0.0, f64::max);
        let waited = Measurement::new("waited", longest, Unit::Seconds).judged_by(limits);
        let severity = Severity::of(waited.status());
        let report =
            ProbeReport::new(format!("{} of {wanted} synchronous standbys are there", look.synchronous()))
                .measure(Measurement::new("synchronous", look.synchronous() as f64, Unit::Count))
                .measure(Measurement::new("wanted", wanted as f64, Unit::Count))
                .measure(Measurement::new("waiting", look.waiting.len() as f64, Unit::Count))
                .measure(waited);
        let finding = match (too_few, severity) {
            (true, _) => look.too_few(wanted),
            (false, Some(severity)) => hangs(severity, hanging.len(), longest, cx.window_gap()),
            (false, None) => return Ok(report),
        };
        Ok(report.finding(look.evidence().into_iter().fold(finding.object(pg.address()), Finding::evidence)))
    }
}

/// What one read shows.
struct Look {
    names: String,
    level: String,
    /// Who waits for a standby, by process and statement, and the statement's age in seconds.
    waiting: BTreeMap<String, f64>,
    standbys: Vec<Standby>,
}

struct Standby {
    /// Of its walsender: another one after it has connected again.
    pid: i32,
    name: String,
    state: Option<String>,
    sync_state: Option<String>,
    /// How far it has confirmed what commits wait for.
    confirmed: Option<String>,
}

impl Standby {
    fn is_synchronous(&self) -> bool {
        matches!(self.sync_state.as_deref(), Some("sync" | "quorum"))
    }
}

impl Look {
    fn read(rows: &[Row]) -> Result<Option<Self>> {
        let Some(first) = rows.first() else { return Ok(None) };
        let level: String = first.get("level")?;
        let waiting = serde_json::from_str(&first.get::<String>("waiting")?).map_err(|error| {
            Error::new(ErrorKind::Bug, "read who waits for a standby").because(error.to_string())
        })?;
        let confirmed = match level.as_str() {
            "remote_apply" => "replay_lsn",
            "remote_write" => "write_lsn",
            _ => "flush_lsn",
        };
        let mut standbys = Vec::new();
        for row in rows {
            if let Some(name) = row.get("application_name")? {
                let (state, sync_state) = (row.get("state")?, row.get("sync_state")?);
                let (pid, confirmed) = (row.get("pid")?, row.get(confirmed)?);
                standbys.push(Standby { pid, name, state, sync_state, confirmed });
            }
        }
        Ok(Some(Self { names: first.get("names")?, level, waiting, standbys }))
    }

    fn synchronous(&self) -> u64 {
        self.standbys.iter().filter(|standby| standby.is_synchronous()).count() as u64
    }

    /// The age of each statement that waits here and in the later look, while fewer standbys than commits wait for have
    /// confirmed anything. Where enough have, commits go on, and the same statement may wait for its next one.
    fn still_in(&self, later: &Self, wanted: u64) -> Vec<f64> {
        let has_confirmed = |standby: &&Standby| {
            let known = self.standbys.iter().find(|known| known.pid == standby.pid);
            standby.is_synchronous() && known.is_some_and(|known| known.confirmed != standby.confirmed)
        };
        if later.standbys.iter().filter(has_confirmed).count() as u64 >= wanted {
            return Vec::new();
        }
        let both = later.waiting.iter().filter(|(who, _)| self.waiting.contains_key(*who));
        both.map(|(_, seconds)| *seconds).collect()
    }

    fn too_few(&self, wanted: u64) -> Finding {
        let (severity, what) = consequence(&self.level, self.waiting.len());
        let message = format!("{} of {wanted} synchronous standbys are there: {what}", self.synchronous());
        let remedy = format!("bring a standby back; where writes cannot wait for that, {AT_A_PRICE}");
        Finding::new(severity, "pg.sync_replication.too_few", message).remedy(Remedy::advice(remedy))
    }

    fn evidence(&self) -> Vec<Value> {
        let settings = json!({ "synchronous_standby_names": self.names, "synchronous_commit": self.level });
        let standbys = self.standbys.iter().map(|standby| {
            json!({
                "standby": standby.name, "state": standby.state, "sync_state": standby.sync_state,
                "confirmed": standby.confirmed,
            })
        });
        std::iter::once(settings).chain(standbys).collect()
    }
}

const AT_A_PRICE: &str = "empty synchronous_standby_names and reload. It costs durability: what is committed from \
                          then on is lost if this server is";

fn hangs(severity: Severity, sessions: usize, longest: f64, gap: Duration) -> Finding {
    let message = format!(
        "{} for {} or more, in a statement that began {} ago: the standbys are there, and confirm nothing",
        counted(sessions, "session hangs in its commit", "sessions hang in their commits"),
        Unit::Seconds.format(gap.as_secs_f64()),
        Unit::Seconds.format(longest),
    );
    let remedy = format!(
        "look what keeps the standby: its disk, the network, a replay that is paused; where writes cannot wait for \
         that, {AT_A_PRICE}"
    );
    Finding::new(severity, "pg.sync_replication.hanging", message).remedy(Remedy::advice(remedy))
}

fn consequence(level: &str, waiting: usize) -> (Severity, String) {
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

    fn look(waiting: &[(&str, f64)], confirmed: [&str; 2]) -> Look {
        let standby = |(pid, confirmed): (i32, &str)| Standby {
            pid,
            name: "follower".into(),
            state: Some("streaming".into()),
            sync_state: Some("sync".into()),
            confirmed: Some(confirmed.to_owned()),
        };
        let waiting = waiting.iter().map(|(who, seconds)| ((*who).to_owned(), *seconds)).collect();
        let standbys = (1..).zip(confirmed).map(standby).collect();
        Look { names: "2 (follower)".into(), level: "on".into(), waiting, standbys }
    }

    #[test]
    fn who_waits_twice_while_too_few_confirm_hangs() {
        let first = look(&[("1 08:00", 64.0), ("2 08:01", 4.0)], ["0/10", "0/10"]);
        let same = [("1 08:00", 65.0), ("3 08:02", 0.5)];
        for (why, later, expected) in [
            ("the same statement", look(&same, ["0/10", "0/10"]), vec![65.0]),
            ("one confirms, and the other does not", look(&same, ["0/20", "0/10"]), vec![65.0]),
            ("commits go on", look(&same, ["0/20", "0/20"]), vec![]),
            ("another statement", look(&[("1 08:02", 0.5)], ["0/10", "0/10"]), vec![]),
            ("nobody waits any more", look(&[], ["0/10", "0/10"]), vec![]),
        ] {
            assert_eq!(first.still_in(&later, 2), expected, "{why}");
        }
    }

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
