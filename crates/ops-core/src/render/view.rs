//! What a reader wants from a report, whatever the format: what is wrong and what to type, what stayed hidden,
//! what is worth knowing, what is fine.

use std::collections::HashSet;

use serde_json::Value;

use super::text;
use crate::finding::{Finding, Severity};
use crate::health::HealthReport;
use crate::measurement::Measurement;
use crate::result::ProbeResult;
use crate::status::Status;
use crate::threshold::Direction;
use crate::words::count;

/// Findings of one code on one target that are told in full; the rest are counted.
pub(super) const SAME_CODE: usize = 5;

/// What to type next.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Next {
    /// A command or statement, one line or several.
    pub(super) command: Vec<String>,
    /// The same by hand, where a task does it.
    pub(super) by_hand: Option<Vec<String>>,
}

impl Next {
    fn of(finding: &Finding, probe: &str) -> Next {
        let remedy = finding.remedy.as_ref();
        let statement =
            remedy.and_then(|remedy| remedy.statement.as_deref()).map(|statement| typed(statement, probe));
        match (remedy.and_then(|remedy| remedy.task.as_deref().zip(Some(&remedy.args))), statement) {
            (Some((task, args)), by_hand) => Next { command: vec![text::maintain(task, args)], by_hand },
            (None, Some(command)) => Next { command, by_hand: None },
            (None, None) => Next::explain(probe),
        }
    }

    fn explain(probe: &str) -> Next {
        Next { command: vec![format!("ops explain {}", text::line(probe))], by_hand: None }
    }
}

/// A statement as it is to be typed; or, where it cannot be shown as it is, what tells it exactly.
fn typed(statement: &str, probe: &str) -> Vec<String> {
    text::exact(statement).unwrap_or_else(|| vec![format!("ops check --only {} -o json", text::line(probe))])
}

/// One thing that needs attention, or is worth knowing.
#[derive(Clone, Debug)]
pub(super) struct Entry<'a> {
    pub(super) result: &'a ProbeResult,
    pub(super) code: &'a str,
    pub(super) object: Option<String>,
    /// One safe line; may or may not name the object.
    pub(super) message: String,
    pub(super) evidence: &'a [Value],
    pub(super) next: Next,
    pub(super) advice: Option<String>,
}

impl<'a> Entry<'a> {
    fn from_finding(result: &'a ProbeResult, finding: &'a Finding) -> Self {
        let advice = finding.remedy.as_ref().and_then(|remedy| remedy.advice.as_deref());
        Self {
            result,
            code: &finding.code,
            object: finding.object.as_deref().map(text::line),
            message: text::line(&finding.message),
            evidence: &finding.evidence,
            next: Next::of(finding, &result.probe),
            advice: advice.map(text::line),
        }
    }

    /// The message, led by the object where it does not name it.
    pub(super) fn sentence(&self) -> String {
        match &self.object {
            Some(object) if !self.message.contains(object.as_str()) => format!("{object}: {}", self.message),
            Some(_) | None => self.message.clone(),
        }
    }

    pub(super) fn place(&self) -> String {
        place_of(self.result)
    }
}

/// Entries of one severity and code on one target: the first few, and how many more there are.
#[derive(Clone, Debug)]
pub(super) struct Cluster<'a> {
    pub(super) status: Status,
    pub(super) entries: Vec<Entry<'a>>,
    pub(super) more: usize,
}

/// `target` or `target/database`.
pub(super) fn place(target: &str, database: Option<&str>) -> String {
    match database {
        Some(database) => text::line(&format!("{target}/{database}")),
        None => text::line(target),
    }
}

/// The place of a probe's result.
pub(super) fn place_of(result: &ProbeResult) -> String {
    place(&result.target, result.database.as_deref())
}

/// The group of what decides whether the rest means anything.
const AVAILABILITY: &str = "availability";

/// Everything critical, then every warning; in each, what cannot be reached comes first. `cap` entries a cluster.
pub(super) fn problems(report: &HealthReport, cap: usize) -> Vec<Cluster<'_>> {
    let mut clusters = Vec::new();
    for status in [Status::Critical, Status::Warning] {
        let (down, rest): (Vec<_>, Vec<_>) =
            report.probes.iter().partition(|result| result.group == AVAILABILITY);
        for result in down.into_iter().chain(rest) {
            let findings = result.findings.iter().filter(|finding| finding.severity.status() == status);
            for finding in findings {
                add(&mut clusters, status, cap, Entry::from_finding(result, finding));
            }
            if let Some(entry) = over_bounds(result, status) {
                add(&mut clusters, status, cap, entry);
            }
            if status == Status::Warning {
                left_out(&mut clusters, result);
            }
        }
    }
    clusters
}

/// Counts what the result itself left out.
fn left_out(clusters: &mut [Cluster<'_>], result: &ProbeResult) {
    let of_result =
        |cluster: &&mut Cluster<'_>| cluster.entries.iter().any(|e| std::ptr::eq(e.result, result));
    if let Some(last) = clusters.iter_mut().rev().find(of_result) {
        last.more += result.findings_left_out;
    }
}

/// What is worth knowing, one entry a code and target.
pub(super) fn infos(report: &HealthReport, cap: usize) -> Vec<Cluster<'_>> {
    let mut clusters = Vec::new();
    for result in &report.probes {
        for finding in result.findings.iter().filter(|finding| finding.severity == Severity::Info) {
            add(&mut clusters, Status::Ok, cap, Entry::from_finding(result, finding));
        }
    }
    clusters
}

fn add<'a>(clusters: &mut Vec<Cluster<'a>>, status: Status, cap: usize, entry: Entry<'a>) {
    let same = clusters.iter_mut().find(|cluster| {
        let first = &cluster.entries[0];
        cluster.status == status && first.code == entry.code && first.result.target == entry.result.target
    });
    match same {
        Some(cluster) if cluster.entries.len() < cap => cluster.entries.push(entry),
        Some(cluster) => cluster.more += 1,
        None => clusters.push(Cluster { status, entries: vec![entry], more: 0 }),
    }
}

/// Judged measurements over their bound that no finding speaks of; or, whatever happens, a status that nothing
/// explains: neither may vanish from a report.
fn over_bounds(result: &ProbeResult, status: Status) -> Option<Entry<'_>> {
    let over: Vec<String> = result
        .measurements
        .iter()
        .filter(|measurement| measurement.status() == status && !told(result, measurement))
        .map(|measurement| judged(measurement, status))
        .collect();
    let explained = !over.is_empty()
        || result.findings.iter().any(|finding| finding.severity.status() == status)
        || result.measurements.iter().any(|measurement| measurement.status() == status);
    if over.is_empty() && (explained || result.status != status) {
        return None;
    }
    let summary = text::line(&result.summary);
    let parts: Vec<String> = [summary, over.join(", ")].into_iter().filter(|part| !part.is_empty()).collect();
    Some(Entry {
        result,
        code: &result.probe,
        object: None,
        message: parts.join(": "),
        evidence: &[],
        next: Next::explain(&result.probe),
        advice: None,
    })
}

/// Whether a finding at least as bad speaks of this measurement: where labels tell several apart, it must name
/// one of the label's values.
fn told(result: &ProbeResult, measurement: &Measurement) -> bool {
    result.findings.iter().any(|finding| {
        let names = |value: &String| {
            finding.message.contains(value) || finding.object.as_deref().is_some_and(|o| o.contains(value))
        };
        finding.severity.status().rank() >= measurement.status().rank()
            && (measurement.labels.is_empty() || measurement.labels.values().any(names))
    })
}

/// `used 92.0 % (critical ≥ 90.0 %)`.
fn judged(measurement: &Measurement, status: Status) -> String {
    let sign = match measurement.direction {
        Direction::Above => '≥',
        Direction::Below => '≤',
    };
    let bound = if status == Status::Critical { measurement.critical } else { measurement.warning };
    let bound =
        bound.map_or_else(String::new, |b| format!(" ({status} {sign} {})", measurement.unit.format(b)));
    format!("{} {}{bound}", text::line(&series(measurement)), measurement.format())
}

/// The name with its labels: `used{mount=/var}`.
fn series(measurement: &Measurement) -> String {
    if measurement.labels.is_empty() {
        return measurement.name.clone().into_owned();
    }
    let labels: Vec<String> =
        measurement.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    format!("{}{{{}}}", measurement.name, labels.join(","))
}

/// Probes on one target that could not tell for one reason.
#[derive(Clone, Debug)]
pub(super) struct Hidden {
    /// `target`, or `target/database` where all share one.
    pub(super) place: String,
    /// The probes, with their database where they differ in it.
    pub(super) probes: Vec<String>,
    /// Why, in one safe line.
    pub(super) cause: String,
    /// What would help, unless it was said before on this target.
    pub(super) fix: Option<Vec<String>>,
}

/// What could not be seen, by cause.
pub(super) fn hidden(report: &HealthReport) -> Vec<Hidden> {
    struct Group<'a> {
        target: &'a str,
        cause: String,
        fix: Option<&'a str>,
        results: Vec<&'a ProbeResult>,
    }
    let mut groups: Vec<Group<'_>> = Vec::new();
    for result in report.probes.iter().filter(|result| result.status != Status::NotApplicable) {
        for (cause, fix) in causes(result) {
            let known = groups
                .iter_mut()
                .find(|group| group.target == result.target && group.cause == cause && group.fix == fix);
            match known {
                Some(group) if group.results.last().is_some_and(|last| std::ptr::eq(*last, result)) => {}
                Some(group) => group.results.push(result),
                None => groups.push(Group { target: &result.target, cause, fix, results: vec![result] }),
            }
        }
    }
    let mut said = HashSet::new();
    let mut shown = Vec::with_capacity(groups.len());
    for group in groups {
        let database = group.results[0].database.as_deref();
        let shared = group.results.iter().all(|result| result.database.as_deref() == database);
        let name = |result: &&ProbeResult| match result.database.as_deref() {
            Some(database) if !shared => text::line(&format!("{} ({database})", result.probe)),
            Some(_) | None => text::line(&result.probe),
        };
        let fix = group.fix.filter(|fix| said.insert((group.target, *fix)));
        shown.push(Hidden {
            place: place(group.target, database.filter(|_| shared)),
            probes: group.results.iter().map(name).collect(),
            cause: group.cause,
            fix: fix.map(|fix| typed(fix, &group.results[0].probe)),
        });
    }
    shown
}

fn causes(result: &ProbeResult) -> Vec<(String, Option<&str>)> {
    let mut causes: Vec<(String, Option<&str>)> =
        result.unseen.iter().map(|unseen| (text::line(&unseen.what), unseen.fix.as_deref())).collect();
    let blank = result.measurements.iter().filter(|measurement| measurement.value.is_nan());
    causes.extend(blank.map(|m| (text::line(&format!("{} could not be measured", series(m))), None)));
    if causes.is_empty() && result.status == Status::Unknown {
        let summary = text::line(&result.summary);
        let cause = if summary.is_empty() { "the probe does not say why".to_owned() } else { summary };
        causes.push((cause, None));
    }
    causes
}

/// A group of probes: how many of those that apply are fine.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Group<'a> {
    pub(super) name: &'a str,
    pub(super) ok: usize,
    pub(super) of: usize,
}

/// The groups in the order of their first probe.
pub(super) fn groups(report: &HealthReport) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for result in report.probes.iter().filter(|result| result.status != Status::NotApplicable) {
        let ok = usize::from(result.status == Status::Ok);
        match groups.iter_mut().find(|group| group.name == result.group) {
            Some(group) => {
                group.ok += ok;
                group.of += 1;
            }
            None => groups.push(Group { name: &result.group, ok, of: 1 }),
        }
    }
    groups
}

/// `2 critical`, `1 unknown`, `9 ok`, `1 not applicable`: probes by status, the worst first.
pub(super) fn tally(report: &HealthReport) -> Vec<String> {
    let statuses = [
        (Status::Critical, "critical"),
        (Status::Warning, "warning"),
        (Status::Unknown, "unknown"),
        (Status::Ok, "ok"),
        (Status::NotApplicable, "not applicable"),
    ];
    let counted = statuses.into_iter().map(|(status, word)| (report.count(status), word));
    let parts: Vec<String> =
        counted.filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
    if parts.is_empty() { vec!["no probe ran".to_owned()] } else { parts }
}

/// The names of the targets, in the order of their first probe.
pub(super) fn targets(report: &HealthReport) -> Vec<&str> {
    let mut seen = HashSet::new();
    report.probes.iter().map(|result| result.target.as_str()).filter(|target| seen.insert(*target)).collect()
}

/// `2026-01-01 08:00:00 UTC`.
pub(super) fn time(report: &HealthReport) -> String {
    report.at.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// Below this share of probes that could tell, a score is a figure and no praise.
const COVERED: f64 = 0.9;
/// From here on its word is praise.
const PRAISE: u8 = 50;

/// `score 62/100 fair`, `score 100/100 of what was seen`, or that it cannot be told.
pub(super) fn score(report: &HealthReport) -> String {
    match report.score {
        Some(score) if report.coverage < COVERED && score >= PRAISE => {
            format!("score {score}/100 of what was seen")
        }
        Some(score) => format!("score {score}/100 {}", crate::score::word(score)),
        None => "score: cannot be told".to_owned(),
    }
}

/// The status as it stands at the head of a report.
pub(super) fn word(status: Status) -> &'static str {
    match status {
        Status::Critical => "CRITICAL",
        Status::Warning => "WARNING",
        Status::Unknown => "UNKNOWN",
        Status::Ok => "OK",
        Status::NotApplicable => "NOT APPLICABLE",
    }
}

/// `41 round trips, 210 ms waiting for servers, 260 ms in all`.
pub(super) fn cost(report: &HealthReport) -> String {
    let trips = usize::try_from(report.cost.round_trips).unwrap_or(usize::MAX);
    let millis = |ms: f64| crate::unit::Unit::Milliseconds.format(ms);
    format!(
        "{}, {} waiting for servers, {} in all",
        count(trips as f64, "round trip", "round trips"),
        millis(report.cost.server_ms),
        millis(report.cost.wall_ms)
    )
}

/// One row of evidence on one line: `pid 4711 · state idle in transaction`.
pub(super) fn evidence(row: &Value) -> String {
    let plain = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let row = match row {
        Value::Object(map) => {
            let mut fields: Vec<String> = map
                .iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| format!("{key} {}", plain(value)))
                .collect();
            // A query or a sentence pushes what is short out of sight.
            fields.sort_by_key(|field| field.split_whitespace().count() > 2);
            fields.join(" · ")
        }
        other => plain(other),
    };
    text::line(&row)
}
