//! Who follows this server, as it sees them.

use ops_core::{Context, Finding, Limits, Measurement, ProbeReport, Remedy, Result, Severity, Unit};
use serde_json::json;

use crate::row::Row;
use crate::target::PgTarget;

/// Serves PostgreSQL 14 and later, on primaries and on standbys that have standbys. Base backups come over a
/// walsender too, and follow nothing. pg_receivewal confirms what it has written, and replays nothing. Who has no name
/// cannot be known again, and what copies a subscription's table goes when it is done.
pub(super) const SQL: &str = "
SELECT coalesce(nullif(r.application_name, ''), 'pid ' || r.pid) AS follower, host(r.client_addr) AS address,
       r.application_name <> '' AND r.application_name !~ '^pg_[0-9]+_sync_[0-9]+_[0-9]+$' AS stays,
       r.state, r.sync_state,
       (CASE WHEN pg_is_in_recovery() THEN coalesce(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())
             ELSE pg_current_wal_lsn() END
        - coalesce(r.replay_lsn, r.flush_lsn, r.write_lsn, r.sent_lsn))::float8 AS behind,
       extract(epoch FROM coalesce(r.replay_lag, r.flush_lag, r.write_lag))::float8 AS lag
  FROM pg_stat_replication r
 WHERE r.state <> 'backup'
 ORDER BY behind DESC NULLS FIRST, follower";

pub(super) struct Follower {
    pub(super) name: String,
    /// Whether it can be missed once it is gone.
    pub(super) stays: bool,
    address: Option<String>,
    state: String,
    sync_state: Option<String>,
    /// `None` of one that has not said where it is.
    pub(super) behind: Option<f64>,
    lag: Option<f64>,
}

pub(super) async fn look(cx: &Context, pg: &PgTarget) -> Result<Vec<Follower>> {
    pg.read(cx, SQL).await?.iter().map(Follower::read).collect()
}

impl Follower {
    fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            name: row.get("follower")?,
            stays: row.get("stays")?,
            address: row.get("address")?,
            state: row.get("state")?,
            sync_state: row.get("sync_state")?,
            behind: row.get::<Option<f64>>("behind")?.map(|behind| behind.max(0.0)),
            lag: row.get("lag")?,
        })
    }

    pub(super) fn judge(&self, report: ProbeReport, limits: &Limits) -> ProbeReport {
        let measured = |name: &'static str, value, unit| {
            Measurement::new(name, value, unit)
                .label("follower", self.name.clone())
                .judged_by(limits.get(name))
        };
        let Some(bytes) = self.behind else {
            return report.unseen(format!("{} follows, and has not said where it is", self.name), None);
        };
        let behind = measured("behind", bytes, Unit::Bytes);
        // The time of the last replay stays in the view for a while after there is nothing left to replay.
        let lag = if bytes > 0.0 { self.lag.unwrap_or(0.0) } else { 0.0 };
        let lag = measured("lag", lag, Unit::Seconds);
        let severity = Severity::of(behind.status()).max(Severity::of(lag.status()));
        let finding = severity.map(|severity| {
            let time = if lag.value > 0.0 { format!(", {} of work", lag.format()) } else { String::new() };
            let message = format!("{} is {} behind{time} ({})", self.name, behind.format(), self.state);
            Finding::new(severity, "pg.replication.lag", message)
                .object(self.name.clone())
                .evidence(json!({
                    "follower": self.name, "address": self.address, "state": self.state,
                    "sync_state": self.sync_state, "behind_bytes": self.behind, "lag_seconds": self.lag,
                }))
                .remedy(Remedy::advice(
                    "look there: is replay paused, does a query hold it back, is its disk or the network slow?",
                ))
        });
        report.findings(finding).measure(behind).measure(lag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ops_core::Status;

    #[test]
    fn an_old_time_without_bytes_is_no_lag() {
        for (behind, lag, expected) in [
            (0.0, Some(900.0), Status::Ok),
            (1.0, None, Status::Ok),
            (1000.0, Some(31.0), Status::Warning),
            (1000.0, Some(301.0), Status::Critical),
            // Stuck: the time stands still, the bytes grow.
            (2e9, Some(0.001), Status::Warning),
            (2e10, None, Status::Critical),
        ] {
            let follower = Follower {
                name: "s".into(),
                stays: true,
                address: None,
                state: "streaming".into(),
                sync_state: None,
                behind: Some(behind),
                lag,
            };
            let report = follower.judge(ProbeReport::new(""), &Limits::defaults(&super::super::SPEC));
            assert_eq!(report.status(), expected, "{behind} {lag:?}");
        }
    }
}
