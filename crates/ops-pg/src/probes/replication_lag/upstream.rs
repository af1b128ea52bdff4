//! What a standby receives and replays, as it sees itself.

use std::time::Duration;

use ops_core::{
    Context, Error, ErrorKind, Finding, Limits, Measurement, ProbeReport, Remedy, Result, Severity, Unit,
};
use serde_json::{Value, json};

use super::super::windowed;
use super::SPEC;
use crate::row::Row;
use crate::target::PgTarget;

/// Serves PostgreSQL 14 and later. A setting that we may not see has no row in pg_settings.
pub(super) const SQL: &str = "
SELECT pg_get_wal_replay_pause_state()                                                 AS pause_state,
       pg_last_wal_receive_lsn()::text                                                 AS received,
       (pg_last_wal_receive_lsn() - pg_last_wal_replay_lsn())::float8                  AS behind,
       extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8 AS since_commit,
       (SELECT setting <> '' FROM pg_settings WHERE name = 'primary_conninfo')         AS streams,
       (SELECT setting <> '' FROM pg_settings WHERE name = 'restore_command')          AS restores,
       (SELECT setting::float8 / 1000 FROM pg_settings WHERE name = 'recovery_min_apply_delay') AS delay,
       w.status                                                                        AS receiver,
       extract(epoch FROM clock_timestamp() - w.last_msg_receipt_time)::float8         AS silent
  FROM (SELECT) one LEFT JOIN pg_stat_wal_receiver w ON true";

/// Serves PostgreSQL 14 and later.
pub(super) const CAUGHT_UP: &str = "SELECT pg_last_wal_replay_lsn() >= '{received}'::pg_lsn AS caught_up";

/// What a standby may take to replay what it has just received: a checkpoint's record on an idle primary arrives
/// long after the last commit, and is no lag.
const A_MOMENT: Duration = Duration::from_millis(500);

/// Serves PostgreSQL 14 and later.
pub(super) const CONFLICTS: &str = "
SELECT 'conflicts' AS name, coalesce(sum(conflicts), 0)::float8 AS value, max(stats_reset)::text AS epoch
  FROM pg_stat_database";

pub(super) async fn judge(cx: &Context, pg: &PgTarget, limits: &Limits) -> Result<ProbeReport> {
    let rows = pg.read(cx, SQL).await?;
    let row = rows.first().ok_or_else(|| Error::new(ErrorKind::Bug, "read the state of replay"))?;
    let mut standby = Standby::read(row, pg.address())?;
    if let Some(received) = row.get::<Option<String>>("received")?
        && standby.lag().is_some_and(|lag| Severity::of(limits.get("lag").judge(lag)).is_some())
    {
        let moment = async {
            tokio::time::sleep(A_MOMENT).await;
            Ok(())
        };
        cx.run("give replay a moment", moment).await?;
        let rows = pg.read(cx, &CAUGHT_UP.replace("{received}", &received)).await?;
        if rows.first().map_or(Ok(false), |row| row.get("caught_up"))? {
            standby.behind = Some(0.0);
        }
    }
    let mut report = standby.judge(limits);
    if standby.behind.is_none() {
        report = report
            .unseen("how far it is behind: it restores from an archive, and nobody tells its end", None);
    }
    if standby.streams.is_none() {
        let capabilities = pg.capabilities(cx).await?;
        report = report.unseen(
            format!("role {} may not see whether primary_conninfo is set", capabilities.role),
            Some(format!("GRANT pg_read_all_settings TO {};", capabilities.quoted_role())),
        );
    }
    match windowed::rise(cx, pg, SPEC.name, CONFLICTS).await? {
        Ok(window) => {
            let conflicts = Measurement::new("conflicts", window.per_hour("conflicts"), Unit::PerHour)
                .judged_by(limits.get("conflicts"));
            let count = window.delta("conflicts");
            let finding = (count > 0.0).then(|| {
                let severity = Severity::of(conflicts.status()).unwrap_or(Severity::Info);
                let queries =
                    if count == 1.0 { "1 query was".to_owned() } else { format!("{count} queries were") };
                let message = format!("{queries} cancelled for replay in {}", windowed::length(&window));
                Finding::new(severity, "pg.replication.conflicts", message).object(pg.address()).remedy(
                    Remedy::advice(
                        "see pg_stat_database_conflicts for why; hot_standby_feedback avoids most of them",
                    ),
                )
            });
            Ok(report.findings(finding).measure(conflicts))
        }
        Err(_) => Ok(report.unseen("cancelled queries: there is nothing to compare with yet", None)),
    }
}

struct Standby<'a> {
    address: &'a str,
    pause_state: String,
    /// Null where nothing was ever streamed: WAL comes from the archive.
    behind: Option<f64>,
    since_commit: Option<f64>,
    streams: Option<bool>,
    restores: Option<bool>,
    delay: f64,
    receiver: Option<String>,
    silent: Option<f64>,
}

impl<'a> Standby<'a> {
    fn read(row: &Row, address: &'a str) -> Result<Self> {
        Ok(Self {
            address,
            pause_state: row.get("pause_state")?,
            behind: row.get::<Option<f64>>("behind")?.map(|behind| behind.max(0.0)),
            since_commit: row.get("since_commit")?,
            streams: row.get("streams")?,
            restores: row.get("restores")?,
            delay: row.get::<Option<f64>>("delay")?.unwrap_or(0.0),
            receiver: row.get("receiver")?,
            silent: row.get("silent")?,
        })
    }

    fn judge(&self, limits: &Limits) -> ProbeReport {
        let behind = self
            .behind
            .map(|behind| Measurement::new("behind", behind, Unit::Bytes).judged_by(limits.get("behind")));
        let lag =
            self.lag().map(|lag| Measurement::new("lag", lag, Unit::Seconds).judged_by(limits.get("lag")));
        let silent = self
            .silent
            .filter(|_| self.receiving())
            .map(|silent| Measurement::new("silent", silent, Unit::Seconds).judged_by(limits.get("silent")));
        let summary = match (&behind, self.since_commit) {
            (Some(behind), _) => format!("standby, {} received and not replayed", behind.format()),
            (None, Some(age)) => {
                format!("standby by archive, last commit replayed is {} old", Unit::Seconds.format(age))
            }
            (None, None) => "standby by archive, no commit replayed yet".to_owned(),
        };
        let report = ProbeReport::new(summary)
            .findings(self.no_receiver())
            .findings(self.paused())
            .findings(self.late(behind.as_ref(), lag.as_ref()))
            .findings(silent.as_ref().and_then(|silent| self.silence(silent)));
        [behind, lag, silent].into_iter().flatten().fold(report, ProbeReport::measure)
    }

    /// Received and replayed alike, the last commit may be of last week: the primary is idle.
    fn lag(&self) -> Option<f64> {
        self.behind.map(|behind| match behind > 0.0 {
            true => (self.since_commit.unwrap_or(0.0) - self.delay).max(0.0),
            false => 0.0,
        })
    }

    /// `waiting` is a receiver that has said all it has, and is about to be told where to go on.
    fn receiving(&self) -> bool {
        matches!(self.receiver.as_deref(), Some("streaming" | "waiting"))
    }

    fn no_receiver(&self) -> Option<Finding> {
        if self.streams != Some(true) || self.receiving() {
            return None;
        }
        // With an archive to restore from it may still get on.
        let severity = if self.restores == Some(true) { Severity::Warning } else { Severity::Critical };
        let state = self.receiver.as_deref().map(|state| format!(" (it is {state})")).unwrap_or_default();
        let message = format!("no WAL receiver streams{state}: this standby gets nothing from its primary");
        let advice = "read this server's log: it cannot connect, or the primary no longer has the WAL that it needs, \
                      and then only a new base backup helps";
        Some(self.finding(severity, "pg.replication.no_receiver", message).remedy(Remedy::advice(advice)))
    }

    fn paused(&self) -> Option<Finding> {
        if self.pause_state == "not paused" {
            return None;
        }
        let behind =
            self.behind.map(|behind| format!(", {} wait", Unit::Bytes.format(behind))).unwrap_or_default();
        let message = format!(
            "replay is {} on this standby{behind}",
            match self.pause_state.as_str() {
                "paused" => "paused",
                _ => "about to be paused",
            }
        );
        Some(self.finding(Severity::Warning, "pg.replication.paused", message).remedy(
            Remedy::statement("SELECT pg_wal_replay_resume();").because(
                "somebody paused it, or max_connections and the like are lower here than on the primary",
            ),
        ))
    }

    fn late(&self, behind: Option<&Measurement>, lag: Option<&Measurement>) -> Option<Finding> {
        let of =
            |measured: Option<&Measurement>| measured.and_then(|measured| Severity::of(measured.status()));
        let severity = of(behind).max(of(lag))?;
        let message = format!(
            "this standby has {} received and not replayed, the last replayed commit is {} late",
            behind.map(Measurement::format).unwrap_or_default(),
            lag.map(Measurement::format).unwrap_or_default()
        );
        Some(self.finding(severity, "pg.replication.behind", message).remedy(Remedy::advice(
            "look for queries here that hold replay back (max_standby_streaming_delay), and at the disk",
        )))
    }

    fn silence(&self, silent: &Measurement) -> Option<Finding> {
        let severity = Severity::of(silent.status())?;
        let message = format!("the primary has sent nothing for {}", silent.format());
        Some(
            self.finding(severity, "pg.replication.silent", message)
                .remedy(Remedy::advice("look at the primary, and at the network between")),
        )
    }

    fn finding(&self, severity: Severity, code: &'static str, message: String) -> Finding {
        Finding::new(severity, code, message).object(self.address).evidence(self.evidence())
    }

    fn evidence(&self) -> Value {
        json!({
            "replay": self.pause_state, "behind_bytes": self.behind, "seconds_since_replayed_commit": self.since_commit,
            "wal_receiver": self.receiver, "seconds_since_message": self.silent, "apply_delay_seconds": self.delay,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn following() -> Standby<'static> {
        Standby {
            address: "db",
            pause_state: "not paused".into(),
            behind: Some(0.0),
            since_commit: Some(86_400.0),
            streams: Some(true),
            restores: Some(false),
            delay: 0.0,
            receiver: Some("streaming".into()),
            silent: Some(1.0),
        }
    }

    #[test]
    fn each_trouble_has_its_finding() {
        let gone = || Standby { receiver: None, silent: None, ..following() };
        for (what, standby, expected) in [
            ("idle primary", following(), vec![]),
            ("stuck replay", Standby { behind: Some(10.0), ..following() }, vec!["behind"]),
            (
                "replayed late on purpose",
                Standby { behind: Some(10.0), delay: 86_400.0, ..following() },
                vec![],
            ),
            ("busy replay", Standby { behind: Some(1e6), since_commit: Some(1.0), ..following() }, vec![]),
            ("flood", Standby { behind: Some(2e9), since_commit: Some(1.0), ..following() }, vec!["behind"]),
            ("no receiver", gone(), vec!["no_receiver"]),
            ("by archive alone", Standby { streams: Some(false), behind: None, ..gone() }, vec![]),
            ("settings hidden", Standby { streams: None, ..gone() }, vec![]),
            ("silent", Standby { silent: Some(61.0), ..following() }, vec!["silent"]),
            ("paused", Standby { pause_state: "paused".into(), ..following() }, vec!["paused"]),
        ] {
            let report = standby.judge(&Limits::defaults(&SPEC));
            let codes: Vec<_> = report
                .found()
                .iter()
                .map(|f| f.code.trim_start_matches("pg.replication.").to_owned())
                .collect();
            assert_eq!(codes, expected, "{what}");
        }
    }
}
