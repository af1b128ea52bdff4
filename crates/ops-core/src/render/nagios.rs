//! For Nagios, Icinga and their kin: a status line with performance data, then long output.
//!
//! Format: the Monitoring Plugins development guidelines, performance data and thresholds
//! (<https://www.monitoring-plugins.org/doc/guidelines.html>). Our bounds alarm when reached, a Nagios range
//! when passed; graphs do not show the difference, and the status is ours.

use std::collections::HashMap;

use super::{text, view};
use crate::health::HealthReport;
use crate::measurement::Measurement;
use crate::result::ProbeResult;
use crate::threshold::Direction;
use crate::unit::Unit;
use crate::words::count;

/// Names listed for one cause: Nagios keeps 8 KiB of output, and NRPE less.
const NAMES: usize = 5;

/// Bytes of performance data: half of what Nagios keeps. What has labels, and may be many, is left out first.
const PERFDATA: usize = 4096;

/// For a Nagios-compatible scheduler: `STATUS: text|performance data`, then one line a problem. The exit code
/// is the caller's, from the report's status.
pub fn nagios(report: &HealthReport) -> String {
    let problems = view::problems(report, view::SAME_CODE);
    let hidden = view::hidden(report);
    let mut status = format!(
        "{}: {}, {}, coverage {}, {}",
        view::word(report.status),
        report.service,
        view::score(report),
        text::share(report.coverage),
        view::tally(report).join(", ")
    );
    let mut long = Vec::new();
    for cluster in &problems {
        for entry in &cluster.entries {
            let what = format!("{} {}: {}", entry.result.probe, entry.place(), entry.sentence());
            let next = entry.next.command.join(" ");
            long.push((format!("{} {what}", view::word(cluster.status)), Some(next)));
        }
        if cluster.more > 0 {
            let word = view::word(cluster.status);
            long.push((format!("{word} … and {} more {}", cluster.more, cluster.entries[0].code), None));
        }
    }
    for cause in &hidden {
        let probes = match cause.probes.as_slice() {
            [single] => format!("{single} {}", cause.place),
            several => {
                format!(
                    "{} {} ({})",
                    count(several.len() as f64, "probe", "probes"),
                    cause.place,
                    listed(several)
                )
            }
        };
        let what = format!("UNKNOWN {probes}: {}", cause.cause);
        long.push((what, cause.fix.as_ref().map(|fix| fix.join(" "))));
    }
    if let Some((worst, _)) = long.first() {
        let said = worst.split_once(' ').map_or(worst.as_str(), |(_, rest)| rest);
        status.push_str(&format!("; {said}"));
    }
    let mut out = format!("{}|{}\n", safe(&status), perfdata(report).join(" "));
    for (what, next) in long {
        let next = next.map_or_else(String::new, |next| format!("; next: {next}"));
        out.push_str(&safe(&format!("{what}{next}")));
        out.push('\n');
    }
    out
}

/// The first few names.
fn listed(names: &[String]) -> String {
    let shown = names.len().min(NAMES);
    let rest = if names.len() > shown { ", …" } else { "" };
    format!("{}{rest}", names[..shown].join(", "))
}

/// One line without the sign that starts performance data.
fn safe(text: &str) -> String {
    text::line(text).replace('|', "¦")
}

fn perfdata(report: &HealthReport) -> Vec<String> {
    let mut data = Vec::new();
    if let Some(score) = report.score {
        data.push((true, format!("'score'={score};;;0;100")));
    }
    data.push((true, format!("'coverage'={}%;;;0;100", number(report.coverage * 100.0))));
    data.push((true, format!("'time'={}s;;;0", number(report.cost.wall_ms / 1000.0))));
    let mut labels: HashMap<String, usize> = HashMap::new();
    for result in &report.probes {
        for measurement in &result.measurements {
            let mut label = label(result, measurement);
            let times = labels.entry(label.clone()).or_default();
            *times += 1;
            if *times > 1 {
                label.push_str(&format!("#{times}"));
            }
            data.push((measurement.labels.is_empty(), point(&label, measurement)));
        }
    }
    fitting(data)
}

/// As many as fit, in their order; those without labels count first.
fn fitting(points: Vec<(bool, String)>) -> Vec<String> {
    let mut left = PERFDATA;
    let mut kept = vec![false; points.len()];
    for plain in [true, false] {
        for (index, (is_plain, point)) in points.iter().enumerate() {
            if *is_plain == plain && point.len() < left {
                left -= point.len() + 1;
                kept[index] = true;
            }
        }
    }
    points.into_iter().zip(kept).filter(|(_, kept)| *kept).map(|((_, point), _)| point).collect()
}

/// `target/database.probe.name{key:value}`. A label may hold neither `=` nor a quote.
fn label(result: &ProbeResult, measurement: &Measurement) -> String {
    let mut label = format!("{}.{}.{}", view::place_of(result), result.probe, measurement.name);
    if !measurement.labels.is_empty() {
        let labels: Vec<String> =
            measurement.labels.iter().map(|(key, value)| format!("{key}:{value}")).collect();
        label.push_str(&format!("{{{}}}", labels.join(",")));
    }
    safe(&label).replace('\'', "’").replace('=', ":")
}

fn point(label: &str, measurement: &Measurement) -> String {
    let (uom, scale) = match measurement.unit {
        Unit::Percent => ("%", 1.0),
        Unit::Bytes => ("B", 1.0),
        Unit::Seconds => ("s", 1.0),
        Unit::Milliseconds => ("s", 0.001),
        Unit::Count
        | Unit::PerSecond
        | Unit::PerHour
        | Unit::BytesPerSecond
        | Unit::BytesPerHour
        | Unit::BytesPerDay
        | Unit::Ratio => ("", 1.0),
    };
    // `U` is how a plugin says that a value could not be determined.
    if !measurement.value.is_finite() {
        return format!("'{label}'=U");
    }
    let range = |bound: Option<f64>| match (bound.filter(|b| b.is_finite()), measurement.direction) {
        (None, _) => String::new(),
        (Some(bound), Direction::Below) => format!("{}:", number(bound * scale)),
        (Some(bound), Direction::Above) if bound < 0.0 || measurement.value < 0.0 => {
            format!("~:{}", number(bound * scale))
        }
        (Some(bound), Direction::Above) => number(bound * scale),
    };
    let (min, max) = if measurement.unit == Unit::Percent { ("0", "100") } else { ("", "") };
    let data = format!(
        "'{label}'={}{uom};{};{};{min};{max}",
        number(measurement.value * scale),
        range(measurement.warning),
        range(measurement.critical)
    );
    data.trim_end_matches(';').to_owned()
}

/// Digits, point and minus only, as the guidelines ask.
fn number(value: f64) -> String {
    let text = format!("{value:.6}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}
