//! `host.log`: what logs say.

mod journal;
mod stamp;
mod tail;
mod tally;

use std::path::Path;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use std::time::Duration;

use ops_core::quantity::DurationText;
use ops_core::{
    Context, Error, ErrorKind, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy,
    Result, Severity, Threshold, Unit,
};
use serde_json::json;

use self::tail::Tail;
use self::tally::{Patterns, Tally};
use crate::apart::apart;
use crate::config::{LogConfig, PatternConfig};
use crate::host::{HostProbe, HostTarget};

pub(crate) use self::tally::compile;

/// Read of one log in one run: some 60,000 lines.
const BUDGET: u64 = 8 * 1024 * 1024;
const WINDOW: DurationText = DurationText(Duration::from_secs(3600));

pub(crate) static SPEC: ProbeSpec = ProbeSpec {
    name: "host.log",
    group: "logs",
    explanation: Explanation {
        why: "Some trouble is only ever told to a log: a server that panicked and came back, a page that cannot be \
              read. Damage that is noticed today can be restored from last night's backup; in a month it cannot.",
        measures: "For each of logs, how many lines within its window match each pattern, and the most frequent values \
                   of the pattern's first group. A file is read from its end, in pieces, at most 8 MiB, and on in \
                   its rotated files as far as the window reaches; compressed ones are not read, and are named. Lines \
                   are dated by the time at their beginning, as PostgreSQL, syslog or RFC 3339 write it; a line \
                   without one belongs to the one before. A time without an offset is taken for this machine's.",
        queries: &[
            ("FILE, FILE.1, FILE-20260101 …", "from the end, as far as the window reaches"),
            ("journalctl --unit=UNIT --since=@TIME --reverse --output=cat", "the journal of a unit"),
        ],
        codes: &[("host.log.match", "lines of a log match a pattern")],
        versions: "Linux and macOS; the journal needs systemd",
        cost: "at most 8 MiB read for each log",
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

/// What a PostgreSQL server says when it is damaged: in its own place, and not in the text of a statement, before
/// which stands a colon and a blank.
fn usual() -> Vec<PatternConfig> {
    const OWN: &str = r"^\S(?:[^:]|:[^ ])*\b";
    let severity = format!(r#"{OWN}PANIC:  |,PANIC,|"error_severity":"PANIC""#);
    let state = |code: &str| format!(r#"{OWN}{code}\b|"state_code":"{code}""#);
    [
        ("PANIC", severity),
        ("data corrupted (XX001)", state("XX001")),
        ("index corrupted (XX002)", state("XX002")),
    ]
    .map(|(name, regex)| PatternConfig { critical: Some(1.0), ..PatternConfig::new(name, regex) })
    .into()
}

/// What a log said within its window.
#[derive(Debug, Default)]
struct Said {
    tally: Tally,
    /// Why not all of the window was seen.
    unseen: Vec<String>,
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
        for log in logs {
            let patterns = if log.patterns.is_empty() { usual() } else { log.patterns.clone() };
            let patterns = Patterns::compile(&patterns)?;
            report = match read(cx, host, log, patterns.clone()).await {
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

async fn read(cx: &Context, host: &HostTarget, log: &LogConfig, patterns: Patterns) -> Result<Said> {
    let now = cx.now();
    let since = now - log.window.unwrap_or(WINDOW).0;
    match (&log.file, &log.journal) {
        (Some(path), _) => {
            let path = path.clone();
            apart(cx, "read the log", move || search(&path, &patterns, since, now)).await
        }
        (None, Some(unit)) => journal::search(cx, host, unit, &patterns, since).await,
        (None, None) => Err(Error::new(ErrorKind::Configuration, "read the log")
            .because("it names neither a file nor a journal")),
    }
}

fn search(path: &Path, patterns: &Patterns, since: DateTime<Utc>, now: DateTime<Utc>) -> Result<Said> {
    let failed = |error: std::io::Error| {
        let kind = match error.kind() {
            std::io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            _ => ErrorKind::Failed,
        };
        Error::new(kind, "read the log").on(path.display().to_string()).because(error.to_string())
    };
    let mut tail = Tail::open(path, since.into(), BUDGET).map_err(failed)?;
    let (mut said, mut undated, mut dated) = (Said::default(), Tally::default(), None);
    'log: while let Some(lines) = tail.lines().map_err(failed)? {
        for line in lines {
            let Some(at) = stamp::of_line(&line, now) else {
                undated.add(patterns, &line);
                continue;
            };
            dated = Some(at);
            if at < since {
                break 'log;
            }
            said.tally.merge(std::mem::take(&mut undated));
            said.tally.add(patterns, &line);
        }
    }
    if undated.lines > 0 && dated.is_none() {
        said.unseen.push(format!("{}: its lines do not begin with a time that ops can read", path.display()));
    }
    if let Some(short) = tail.short {
        let from =
            dated.map(|at| format!(", back to {}", at.format("%Y-%m-%d %H:%M:%S UTC"))).unwrap_or_default();
        said.unseen.push(format!("{}: {short}{from}", path.display()));
    }
    // Those that were compressed lie behind what was read, unless that reached the window's end.
    if dated.is_none_or(|at| at >= since) {
        let compressed =
            tail.compressed.iter().map(|file| format!("{} is compressed, and was not read", file.display()));
        said.unseen.extend(compressed);
    }
    Ok(said)
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
    said.unseen.iter().fold(report, |report, what| report.unseen(what.clone(), None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ops_core::Status;

    const LOG: &str = "\
2026-01-05 06:00:00.000 UTC [1] PANIC:  could not locate a valid checkpoint record
2026-01-05 07:30:00.000 UTC [1] XX001 ERROR:  invalid page in block 7 of relation base/5/16384
2026-01-05 07:40:00.000 UTC [1] 00000 LOG:  statement: SELECT 'PANIC:  only text'
\t'XX001, PANIC:  only text'
2026-01-05 07:50:00.000 UTC [1] 42P01 ERROR:  relation \"orders\" does not exist
";

    fn said(text: &str, patterns: &[PatternConfig]) -> (ProbeReport, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("postgresql.log");
        std::fs::write(&path, text).unwrap();
        let now = DateTime::parse_from_rfc3339("2026-01-05T08:00:00Z").unwrap().to_utc();
        let patterns = Patterns::compile(patterns).unwrap();
        let said = search(&path, &patterns, now - WINDOW.0, now).unwrap();
        let report = judge(ProbeReport::new(""), &LogConfig::file(&path), &patterns, &said);
        let messages = report.found().iter().map(|finding| finding.message.clone()).collect();
        (report, messages)
    }

    #[test]
    fn the_window_bounds_what_is_counted() {
        let (report, messages) = said(LOG, &usual());
        // The panic was before, and the text of a statement is none.
        assert_eq!(messages, ["1 line of the last 1h says data corrupted (XX001)"]);
        assert_eq!(report.status(), Status::Critical);
        let (report, messages) =
            said(LOG, &[PatternConfig::new("missing relations", "relation \"(\\w+)\" does not")]);
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
}
