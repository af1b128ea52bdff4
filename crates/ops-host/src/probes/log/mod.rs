//! `host.log`: what logs say.

mod files;
mod journal;
mod search;
mod stamp;
mod tail;
mod tally;
mod usual;

use std::time::{Duration, Instant};

use async_trait::async_trait;
use ops_core::quantity::DurationText;
use ops_core::{
    Context, Error, ErrorKind, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy,
    Result, Severity, Threshold, Unit,
};
use serde_json::json;

use self::search::Bounds;
use self::tally::{Patterns, Tally};
use crate::apart::apart;
use crate::config::LogConfig;
use crate::host::{HostProbe, HostTarget};

pub(crate) use self::files::is_glob;
pub(crate) use self::tally::compile;

/// Read of one log in one run: some 500,000 lines, for which a release build takes a quarter of a second of one
/// processor.
const BUDGET: u64 = 64 * 1024 * 1024;
const LONG: &str = "it is longer than what is read of it";
const LATE: &str = "there was no time to read more of it";
const WINDOW: DurationText = DurationText(Duration::from_secs(3600));

pub(crate) static SPEC: ProbeSpec = ProbeSpec {
    name: "host.log",
    group: "logs",
    explanation: Explanation {
        why: "Some trouble is only ever told to a log: a server that panicked and came back, a page that cannot be \
              read. Damage that is noticed today can be restored from last night's backup; in a month it cannot.",
        measures: "For each of logs, how many lines within its window match each pattern, and the most frequent values \
                   of the pattern's first group. A file is read from its end, in pieces, at most 64 MiB, and on in \
                   its rotated files as far as the window reaches; compressed ones are not read, and are named. Where \
                   the server begins a new file each day, file names a pattern (postgresql-*.log), and all files of \
                   such names that were written within the window are read. Lines are dated by the time at their \
                   beginning, as PostgreSQL, syslog or RFC 3339 write it; a line without one belongs to the one \
                   before. A time without an offset from UTC is taken for this machine's, as long as the newest one \
                   agrees with the time when the file was last written.",
        queries: &[
            ("from the end, as far as the window reaches", "FILE, FILE.1, FILE-20260101 …"),
            ("all that were written within the window, the newest first", "postgresql-*.log"),
            ("the journal of a unit", "journalctl --unit=UNIT --since=@TIME --reverse --output=cat"),
        ],
        codes: &[("host.log.match", "lines of a log match a pattern")],
        versions: "Linux and macOS; the journal needs systemd",
        cost: "at most 64 MiB read for each log, and no more than its share of the probe's time",
        remedy: "Read the log around the lines. PANIC: the server restarted; its cause stands before. XX001 and XX002: \
                 data or an index is damaged: take a copy of the data directory before anything else, then \
                 pg_amcheck --heapallindexed tells how far it goes.",
    },
    thresholds: &[],
    requires: &[],
};

/// See [`SPEC`].
#[derive(Debug)]
pub(crate) struct Log;

/// What a log said within its window.
#[derive(Debug, Default)]
struct Said {
    tally: Tally,
    /// Why not all of the window was seen, and what would help.
    unseen: Vec<(String, Option<String>)>,
}

#[async_trait]
impl HostProbe for Log {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    async fn probe(&self, cx: &Context, host: &HostTarget, _limits: &Limits) -> Result<ProbeReport> {
        let logs = &host.config().logs;
        if logs.is_empty() {
            return Ok(ProbeReport::not_applicable("no logs are configured for this host"));
        }
        let mut report = ProbeReport::new(match logs.len() {
            1 => "1 log".to_owned(),
            several => format!("{several} logs"),
        });
        for (i, log) in logs.iter().enumerate() {
            let patterns = match log.patterns.as_slice() {
                [] => usual::patterns(log.journal.is_some())?,
                own => Patterns::compile(own)?,
            };
            let share = share(cx, logs.len() - i);
            report = match read(cx, host, log, patterns.clone(), share).await {
                Ok(said) => judge(report, log, &patterns, &said),
                Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
                Err(error) => {
                    let fix = error.fix().map(str::to_owned);
                    report.unseen(error.report(), fix)
                }
            };
        }
        Ok(report)
    }
}

/// The time for the next of so many logs that are left. A search stops by itself, and tells what it found until then;
/// what is kept back is for that.
fn share(cx: &Context, left: usize) -> Option<Duration> {
    let left = u32::try_from(left.max(1)).unwrap_or(u32::MAX);
    cx.remaining().map(|time| time.mul_f64(0.8) / left)
}

async fn read(
    cx: &Context,
    host: &HostTarget,
    log: &LogConfig,
    patterns: Patterns,
    share: Option<Duration>,
) -> Result<Said> {
    let now = cx.now();
    let since = now - log.window.unwrap_or(WINDOW).0;
    let until = share.map(|share| Instant::now() + share);
    let bounds = Bounds { since, now, until, budget: BUDGET };
    // A dead network file system does not look at the time.
    let cx = share.map_or_else(|| cx.clone(), |share| cx.with_deadline(share.mul_f64(1.1)));
    match (&log.file, &log.journal) {
        (Some(path), _) => {
            let file = path.clone();
            let said = apart(&cx, "read the log", move || search::search(&file, &patterns, bounds)).await;
            said.map_err(|error| named(error, &path.display().to_string()))
        }
        (None, Some(unit)) => {
            let said = journal::search(&cx, host, unit, &patterns, bounds).await;
            said.map_err(|error| named(error, &format!("journal of {unit}")))
        }
        (None, None) => Err(Error::new(ErrorKind::Configuration, "read the log")
            .because("it names neither a file nor a journal")),
    }
}

/// An error that came before the log itself was asked does not say which one it is about.
fn named(error: Error, log: &str) -> Error {
    if error.target().is_some() { error } else { error.on(log) }
}

fn judge(report: ProbeReport, log: &LogConfig, patterns: &Patterns, said: &Said) -> ProbeReport {
    let name = match (&log.file, &log.journal) {
        (Some(path), _) => path.display().to_string(),
        (None, unit) => format!("journal of {}", unit.as_deref().unwrap_or_default()),
    };
    let window = log.window.unwrap_or(WINDOW);
    let mut report =
        report.measure(Measurement::new("lines", said.tally.lines as f64, Unit::Count).label("log", &name));
    for (index, pattern) in patterns.iter().enumerate() {
        // A pattern is there to be told of.
        let warning = pattern.warning.or(pattern.critical.is_none().then_some(1.0));
        let threshold = Threshold { warning, critical: pattern.critical, ..Threshold::above(0.0, 0.0) };
        let count = Measurement::new("matches", said.tally.count(index) as f64, Unit::Count)
            .judged_by(threshold)
            .label("log", &name)
            .label("pattern", &pattern.name);
        let frequent = said.tally.frequent(index);
        let finding = Severity::of(count.status()).map(|severity| {
            let (lines, say) = match count.value {
                1.0 => ("1 line".to_owned(), "says"),
                _ => (format!("{} lines", count.format()), "say"),
            };
            let most = frequent
                .first()
                .map(|(value, times)| format!("; most often {value} ({times})"))
                .unwrap_or_default();
            let message = format!("{lines} of the last {window} {say} {}{most}", pattern.name);
            let finding = Finding::new(severity, "host.log.match", message).object(&name);
            let finding = frequent.iter().fold(finding, |finding, (value, times)| {
                finding.evidence(json!({"pattern": pattern.name, "value": value, "lines": times}))
            });
            finding
                .remedy(Remedy::advice("read the log around those lines: what led there stands before them"))
        });
        report = report.measure(count).findings(finding);
    }
    said.unseen.iter().fold(report, |report, (what, fix)| report.unseen(what.clone(), fix.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PatternConfig;
    use chrono::{DateTime, Local, Utc};
    use ops_core::{HealthProbe, Status};

    const LOG: &str = "\
2026-01-05 06:00:00.000 UTC [1] PANIC:  could not locate a valid checkpoint record
2026-01-05 07:30:00.000 UTC [1] XX001 ERROR:  invalid page in block 7 of relation base/5/16384
2026-01-05 07:40:00.000 UTC [1] 00000 LOG:  statement: SELECT 'PANIC:  only text'
\t'XX001, PANIC:  only text'
2026-01-05 07:50:00.000 UTC [1] 42P01 ERROR:  relation \"orders\" does not exist
";

    struct Dir(tempfile::TempDir);

    impl Dir {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        /// Writes a file, that long ago.
        fn write(&self, name: &str, text: &str, hours_ago: u64) {
            let path = self.0.path().join(name);
            std::fs::write(&path, text).unwrap();
            let file = std::fs::File::options().write(true).open(path).unwrap();
            file.set_modified(std::time::SystemTime::now() - Duration::from_secs(3600 * hours_ago)).unwrap();
        }

        /// What is reported of a file, and what would help.
        fn search(&self, name: &str, patterns: &Patterns, bounds: Bounds) -> (ProbeReport, Vec<String>) {
            let path = self.0.path().join(name);
            let said = search::search(&path, patterns, bounds).unwrap();
            let report = judge(ProbeReport::new(""), &LogConfig::file(&path), patterns, &said);
            (report, said.unseen.into_iter().filter_map(|(_, fix)| fix).collect())
        }
    }

    fn usual() -> Patterns {
        usual::patterns(false).unwrap()
    }

    fn hour_before(now: DateTime<Utc>) -> Bounds {
        Bounds { since: now - WINDOW.0, now, until: None, budget: BUDGET }
    }

    /// At eight o'clock, of what was written since seven.
    fn said(text: &str, patterns: &Patterns) -> (ProbeReport, Vec<String>) {
        let dir = Dir::new();
        dir.write("postgresql.log", text, 0);
        let now = DateTime::parse_from_rfc3339("2026-01-05T08:00:00Z").unwrap().to_utc();
        let (report, _) = dir.search("postgresql.log", patterns, hour_before(now));
        let messages = report.found().iter().map(|finding| finding.message.clone()).collect();
        (report, messages)
    }

    #[test]
    fn the_window_bounds_what_is_counted() {
        let (report, messages) = said(LOG, &usual());
        // The panic was before, and the text of a statement is none.
        assert_eq!(messages, ["1 line of the last 1h says data corrupted (XX001)"]);
        assert_eq!(report.status(), Status::Critical);
        let missing = PatternConfig::new("missing relations", "relation \"(\\w+)\" does not");
        let (report, messages) = said(LOG, &Patterns::compile(&[missing]).unwrap());
        assert_eq!(messages, ["1 line of the last 1h says missing relations; most often orders (1)"]);
        assert_eq!(report.status(), Status::Warning);
    }

    #[test]
    fn a_log_without_times_is_unknown_and_an_empty_one_is_calm() {
        assert_eq!(said("PANIC: no time\n", &usual()).0.status(), Status::Unknown);
        assert_eq!(said("", &usual()).0.status(), Status::Ok);
    }

    #[test]
    fn all_three_formats_of_a_panic_are_known() {
        for line in [
            "2026-01-05 07:50:00 UTC [1] PANIC:  x\n",
            "2026-01-05 07:50:00.1 UTC,,,1,,6.1,1,,2026-01-05 07:00:00 UTC,,0,PANIC,XX000,\"x\",,,\n",
            "{\"timestamp\":\"2026-01-05 07:50:00.1 UTC\",\"pid\":1,\"error_severity\":\"PANIC\",\"message\":\"x\"}\n",
        ] {
            assert_eq!(said(line, &usual()).0.status(), Status::Critical, "{line}");
        }
    }
    use super::search::PAST;

    const PANIC: &str = "2026-01-05 07:30:00 UTC [42] PANIC:  could not write to file\n";
    const CALM: &str = "2026-01-05 07:59:00 UTC [42] LOG:  checkpoint complete\n";

    #[test]
    fn a_line_with_an_old_date_ends_nothing() {
        let old = "2020-01-01 00:00:00 UTC";
        // Of a program that does not indent what users write.
        let forged = format!("{PANIC}{CALM}{}{CALM}", format!("{old} x\n").repeat(PAST - 1));
        assert_eq!(said(&forged, &usual()).0.status(), Status::Critical);
        // What is old for long is old.
        let long = format!("{PANIC}{}{CALM}", format!("{old} [42] LOG:  x\n").repeat(PAST));
        assert_eq!(said(&long, &usual()).0.status(), Status::Ok);
    }

    #[test]
    fn no_statement_ends_the_reading_of_csvlog() {
        let record = |at: &str, severity: &str, text: &str| {
            format!(
                "{at} UTC,\"app\",\"shop\",42,\"[local]\",6.1,1,\"SELECT\",{at} UTC,3/7,0,{severity},00000,\"{text}\",,,,,,,,,\"psql\"\n"
            )
        };
        let (old, new) = ("2020-01-01 00:00:00", "2026-01-05 07:59:00");
        let panic = record("2026-01-05 07:30:00", "PANIC", "x");
        let forged = format!("{old} UTC,,,1,,6.1,1,,{old} UTC,,0,LOG,00000,\"\"x\"\",,\n").repeat(3 * PAST);
        let ends = record(new, "LOG", &format!("SELECT '\n{old} UTC,'")).repeat(3 * PAST);
        let genuine = record(old, "LOG", "x").repeat(3 * PAST);
        for (behind, status) in [
            (record(new, "LOG", &format!("SELECT '\n{forged}'")), Status::Critical),
            (ends, Status::Critical),
            (genuine, Status::Ok),
        ] {
            let dir = Dir::new();
            dir.write("postgresql.csv", &format!("{panic}{behind}"), 0);
            let now = DateTime::parse_from_rfc3339("2026-01-05T08:00:00Z").unwrap().to_utc();
            let (report, _) = dir.search("postgresql.csv", &usual(), hour_before(now));
            assert_eq!(report.status(), status, "{}", &behind[..300]);
        }
    }

    #[test]
    fn a_zone_that_is_named_by_letters_is_this_machines_or_unknown() {
        let now = Utc::now();
        let line = |at: String| format!("{at} XST [42] PANIC:  x\n");
        let local = |by: i64| (now + chrono::TimeDelta::hours(by)).with_timezone(&Local);
        for (by, age, status) in [(0, 0, Status::Critical), (-3, 0, Status::Unknown), (-3, 3, Status::Ok)] {
            let dir = Dir::new();
            dir.write("postgresql.log", &line(local(by).format("%Y-%m-%d %H:%M:%S").to_string()), age);
            let (report, fixes) = dir.search("postgresql.log", &usual(), hour_before(now));
            assert_eq!(report.status(), status, "{by} {age}: {report:?}");
            let expected: &[&str] = if status == Status::Unknown { &["log_timezone = 'UTC'"] } else { &[] };
            assert_eq!(fixes, expected);
        }
    }

    #[test]
    fn a_log_that_is_too_long_is_told_with_the_window_that_was_seen() {
        let dir = Dir::new();
        let long = "x".repeat(80);
        let line = |minute: u32| format!("2026-01-05 07:{minute:02}:00 UTC [42] LOG:  {long}\n");
        dir.write("postgresql.log", &(0..60).map(|minute| line(minute).repeat(200)).collect::<String>(), 0);
        let now = DateTime::parse_from_rfc3339("2026-01-05T08:00:00Z").unwrap().to_utc();
        let (report, fixes) =
            dir.search("postgresql.log", &usual(), Bounds { budget: 1 << 20, ..hour_before(now) });
        assert_eq!((report.status(), fixes), (Status::Unknown, vec!["window = \"46min\"".to_owned()]));
    }

    #[test]
    fn what_was_found_in_time_is_told() {
        let dir = Dir::new();
        dir.write("postgresql.log", &format!("{PANIC}{}", CALM.repeat(3000)), 0);
        let now = DateTime::parse_from_rfc3339("2026-01-05T08:00:00Z").unwrap().to_utc();
        let late = Bounds { until: Some(Instant::now()), ..hour_before(now) };
        let (report, _) = dir.search("postgresql.log", &usual(), late);
        assert!(report.status() == Status::Unknown && format!("{report:?}").contains(LATE), "{report:?}");
    }

    #[tokio::test]
    async fn a_log_that_never_answers_takes_nothing_from_the_others() {
        let dir = Dir::new();
        let panic = format!("{} UTC [42] PANIC:  x\n", Utc::now().format("%Y-%m-%d %H:%M:%S"));
        dir.write("postgresql.log", &panic, 0);
        let path = |name: &str| dir.0.path().join(name);
        // Whoever opens a pipe waits for its other end.
        assert!(std::process::Command::new("mkfifo").arg(path("pipe.log")).status().unwrap().success());
        let config = crate::config::HostConfig::default()
            .with_log(LogConfig::file(path("pipe.log")))
            .with_log(LogConfig::file(path("postgresql.log")));
        let bound = HostTarget::new("here", config).bind(&Log, Limits::defaults(&SPEC));
        let cx = Context::new().with_deadline(Duration::from_secs(1));
        let report = bound.probe(&cx).await.unwrap();
        let pipe = format!("{report:?}").contains("pipe.log: no answer within");
        assert!(report.status() == Status::Critical && pipe, "{report:?}");
    }

    #[test]
    fn a_file_that_the_server_has_left_is_unknown_and_a_pattern_finds_the_next() {
        let dir = Dir::new();
        let now = DateTime::parse_from_rfc3339("2026-01-05T08:00:00Z").unwrap().to_utc();
        dir.write("postgresql-2025-11-01.log", "2025-11-01 08:00:00 UTC [42] LOG:  x\n", 1400);
        dir.write("postgresql-2026-01-05.log", PANIC, 0);
        let (left, fixes) = dir.search("postgresql-2025-11-01.log", &usual(), hour_before(now));
        assert_eq!(left.status(), Status::Unknown, "{left:?}");
        assert_eq!(fixes, [format!("file = \"{}\"", dir.0.path().join("postgresql-*.log").display())]);
        let (found, fixes) = dir.search("postgresql-*.log", &usual(), hour_before(now));
        assert_eq!((found.status(), fixes.len()), (Status::Critical, 0), "{found:?}");
        let missing = dir.0.path().join("postgresql-2025-10-01.log");
        let error = search::search(&missing, &usual(), hour_before(now)).unwrap_err();
        assert!(
            error.kind() == ErrorKind::NotFound && error.fix().is_some_and(|fix| fix.contains('*')),
            "{error}"
        );
        // Two servers' logs, of which one is idle.
        dir.write("postgresql-15-main.log", "2025-11-01 08:00:00 UTC [42] LOG:  x\n", 1400);
        dir.write("postgresql-17-main.log", CALM, 0);
        let (idle, _) = dir.search("postgresql-15-main.log", &usual(), hour_before(now));
        assert_eq!(idle.status(), Status::Ok, "{idle:?}");
    }
}
