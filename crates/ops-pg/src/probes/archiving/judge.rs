//! What the archiver's state comes to.

use std::time::Duration;

use ops_core::{Finding, Limits, Measurement, ProbeReport, Remedy, Severity, Unit};
use serde_json::{Value, json};

use super::backlog::{Archiver, Backlog};

pub(super) struct State<'a> {
    pub(super) archiver: &'a Archiver,
    /// `None` where nothing can wait.
    pub(super) backlog: Option<Backlog>,
    pub(super) rpo: Option<Duration>,
    pub(super) address: &'a str,
}

pub(super) fn judge(state: &State<'_>, limits: &Limits) -> ProbeReport {
    let files = state.backlog.as_ref().map_or(0, |backlog| backlog.files);
    let oldest = state.backlog.as_ref().and_then(|backlog| backlog.oldest).unwrap_or(0.0).max(0.0);
    let enough = limits.get("segments").warning.is_none_or(|segments| files as f64 >= segments);
    // One segment that the archiver is at work on is no trouble, however long a quiet server took to fill it.
    let troubled = files > 0 && (state.archiver.failing || enough);
    let waiting = Measurement::new("waiting", if troubled { oldest } else { 0.0 }, Unit::Seconds)
        .judged_by(limits.get("waiting"));
    let summary = match (files, &state.archiver.last_archived_wal) {
        (0, Some(wal)) => format!("{wal} is archived, nothing waits"),
        (0, None) => "nothing waits to be archived".to_owned(),
        (n, _) => format!("{} to be archived, the oldest for {}", wait(n), Unit::Seconds.format(oldest)),
    };
    ProbeReport::new(summary)
        .findings(troubled.then(|| state.trouble(&waiting, files)).flatten())
        .findings(state.rpo_missed(files, oldest))
        .findings(state.timeout())
        .measure(Measurement::new("files", files as f64, Unit::Count))
        .measure(waiting)
}

impl State<'_> {
    fn trouble(&self, waiting: &Measurement, files: i64) -> Option<Finding> {
        let severity = Severity::of(waiting.status());
        if !self.archiver.failing {
            let message = format!("{} to be archived for {}, and none fails", wait(files), waiting.format());
            let advice =
                "the archiver hangs or is too slow: look at what it runs (`ps`, pg_stat_activity's archiver)";
            return Some(
                self.finding(severity?, "pg.archiving.late", message).remedy(Remedy::advice(advice)),
            );
        }
        let wal = self.archiver.last_failed_wal.as_deref().unwrap_or("a segment");
        let message = format!("archiving {wal} failed; {} for {}", wait(files), waiting.format());
        // A single failure is tried again: so far it is only worth a line.
        let severity = severity.unwrap_or(Severity::Info);
        let advice = "the server's log has the command's own words; try it by hand as the server's user";
        Some(self.finding(severity, "pg.archiving.failing", message).remedy(Remedy::advice(advice)))
    }

    fn rpo_missed(&self, files: i64, oldest: f64) -> Option<Finding> {
        let rpo = self.rpo.filter(|rpo| files > 0 && oldest > rpo.as_secs_f64())?;
        let message = format!(
            "WAL has waited for {} to be archived: more than {} of work would be lost with this server",
            Unit::Seconds.format(oldest),
            Unit::Seconds.format(rpo.as_secs_f64())
        );
        Some(
            self.finding(Severity::Critical, "pg.archiving.rpo_missed", message).remedy(Remedy::advice(
                "make archiving work again, or take a backup elsewhere until it does",
            )),
        )
    }

    fn timeout(&self) -> Option<Finding> {
        let rpo = self.rpo?.as_secs_f64();
        let timeout = self.archiver.timeout;
        if timeout > 0.0 && timeout <= rpo {
            return None;
        }
        let is = match timeout {
            0.0 => "off".to_owned(),
            seconds => Unit::Seconds.format(seconds),
        };
        let message = format!(
            "archive_timeout is {is}, and no more than {} of work may be lost: a segment that fills slowly is archived \
             too late",
            Unit::Seconds.format(rpo)
        );
        let seconds = (rpo.floor() as u64).max(1);
        let statement = format!("ALTER SYSTEM SET archive_timeout = '{seconds}s'; SELECT pg_reload_conf();");
        Some(
            self.finding(Severity::Warning, "pg.archiving.timeout", message).remedy(
                Remedy::statement(statement)
                    .because("each switch archives a whole segment, however little is in it"),
            ),
        )
    }

    fn finding(&self, severity: Severity, code: &'static str, message: String) -> Finding {
        Finding::new(severity, code, message).object(self.address).evidence(self.evidence())
    }

    fn evidence(&self) -> Value {
        json!({
            "last_archived_wal": self.archiver.last_archived_wal,
            "last_archived_time": self.archiver.last_archived_time,
            "failed_count": self.archiver.failed_count, "last_failed_wal": self.archiver.last_failed_wal,
            "last_failed_time": self.archiver.last_failed_time,
            "segments_behind": self.archiver.segments_behind(),
            "archive_timeout_seconds": self.archiver.timeout,
        })
    }
}

fn wait(files: i64) -> String {
    if files == 1 { "1 file waits".to_owned() } else { format!("{files} files wait") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archiver(failing: bool, timeout: f64) -> Archiver {
        Archiver {
            mode: "on".into(),
            unconfigured: false,
            timeout,
            segment_size: 16 << 20,
            position: Some(10 * (16 << 20)),
            last_archived_wal: Some("000000010000000000000006".into()),
            last_archived_time: None,
            failed_count: 1,
            last_failed_wal: None,
            last_failed_time: None,
            failing,
        }
    }

    #[test]
    fn what_waits_counts_and_not_the_age_of_the_last_success() {
        let minutes = |n: u64| Some(Duration::from_secs(60 * n));
        let info = ("failing", Severity::Info);
        for (what, failing, files, oldest, rpo, timeout, expected) in [
            ("idle", false, 0, None, None, 0.0, vec![]),
            ("a burst after an idle night", false, 5, Some(2.0), None, 0.0, vec![]),
            ("one at work", false, 1, Some(7200.0), None, 0.0, vec![]),
            ("hangs", false, 2, Some(301.0), None, 0.0, vec![("late", Severity::Warning)]),
            ("failed once", true, 1, Some(5.0), None, 0.0, vec![info]),
            ("fails", true, 1, Some(301.0), None, 0.0, vec![("failing", Severity::Warning)]),
            ("fails for long", true, 1, Some(901.0), None, 0.0, vec![("failing", Severity::Critical)]),
            ("failed, and what failed is gone", true, 0, None, None, 0.0, vec![]),
            ("no timeout", false, 0, None, minutes(5), 0.0, vec![("timeout", Severity::Warning)]),
            ("timeout", false, 0, None, minutes(5), 300.0, vec![]),
            ("long timeout", false, 0, None, minutes(5), 301.0, vec![("timeout", Severity::Warning)]),
            ("missed", true, 1, Some(61.0), minutes(1), 60.0, vec![info, ("rpo_missed", Severity::Critical)]),
        ] {
            let archiver = archiver(failing, timeout);
            let state =
                State { archiver: &archiver, backlog: Some(Backlog { files, oldest }), rpo, address: "db" };
            let report = judge(&state, &Limits::defaults(&super::super::SPEC));
            let found: Vec<_> = report
                .found()
                .iter()
                .map(|f| (f.code.trim_start_matches("pg.archiving."), f.severity))
                .collect();
            assert_eq!(found, expected, "{what}");
        }
    }

    #[test]
    fn the_segment_being_written_is_not_behind() {
        let mut archiver = archiver(false, 0.0);
        assert_eq!((archiver.segments_behind(), archiver.may_wait()), (Some(3), true));
        archiver.last_archived_wal = Some("000000010000000000000009".into());
        assert_eq!((archiver.segments_behind(), archiver.may_wait()), (Some(0), false));
        archiver.last_archived_wal = Some("00000002.history".into());
        assert_eq!((archiver.segments_behind(), archiver.may_wait()), (None, true));
    }
}
