//! For scrapers: OpenMetrics text.
//!
//! Every family is a gauge: also the statuses, which a stateset would fit, since the classic Prometheus parser
//! reads gauges and knows no stateset. Measurements keep the unit they were taken in and name it in a label,
//! since one family cannot declare several.

use std::collections::{BTreeMap, HashSet};

use super::text;
use crate::finding::Severity;
use crate::health::HealthReport;
use crate::measurement::Measurement;
use crate::result::ProbeResult;
use crate::status::Status;
use crate::threshold::Direction;

const STATUSES: [Status; 5] =
    [Status::Ok, Status::Warning, Status::Critical, Status::Unknown, Status::NotApplicable];

/// For a scraper: OpenMetrics 1.0 text, ended by `# EOF`.
///
/// Families: `ops_health_score`, `ops_health_coverage`, `ops_health_status` and `ops_probe_status` (1 on the
/// status that holds, 0 on the others), `ops_measurement` with its bounds `ops_measurement_warning` and
/// `ops_measurement_critical` under the same labels (`direction="below"` where low is bad), `ops_findings`,
/// `ops_probe_took_seconds`, `ops_check_round_trips`, `ops_check_server_seconds`, `ops_check_wall_seconds`.
pub fn openmetrics(report: &HealthReport) -> String {
    let mut text = Exposition { out: String::new(), service: &report.service };
    whole(&mut text, report);
    probes(&mut text, report);
    measurements(&mut text, report);
    findings(&mut text, report);
    text.out.push_str("# EOF\n");
    text.out
}

struct Exposition<'a> {
    out: String,
    service: &'a str,
}

type Labels<'a> = Vec<(String, &'a str)>;

impl Exposition<'_> {
    /// One family, all of it: the format forbids to come back. A repeated label set would make the whole scrape
    /// fail, so only its first sample is written.
    fn family<'a>(
        &mut self,
        name: &str,
        unit: Option<&str>,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'a>, f64)>,
    ) {
        self.out.push_str(&format!("# TYPE {name} gauge\n"));
        if let Some(unit) = unit {
            self.out.push_str(&format!("# UNIT {name} {unit}\n"));
        }
        self.out.push_str(&format!("# HELP {name} {}\n", escape(help)));
        let mut seen = HashSet::new();
        for (labels, value) in samples {
            let mut text = format!("service=\"{}\"", escape(self.service));
            for (key, value) in &labels {
                text.push_str(&format!(",{key}=\"{}\"", escape(value)));
            }
            if seen.insert(text.clone()) {
                self.out.push_str(&format!("{name}{{{text}}} {}\n", number(value)));
            }
        }
    }
}

fn whole(text: &mut Exposition<'_>, report: &HealthReport) {
    if let Some(score) = report.score {
        let help = "0 to 100, from what was seen; absent where nothing was.";
        text.family("ops_health_score", None, help, [(vec![], f64::from(score))]);
    }
    let help = "The share of probes that could tell, 0 to 1.";
    text.family("ops_health_coverage", None, help, [(vec![], report.coverage)]);
    let statuses = STATUSES[..4].iter().map(|s| (vec![status(*s)], flag(*s == report.status)));
    text.family("ops_health_status", None, "1 on the status of the whole, 0 on the others.", statuses);
    let trips = report.cost.round_trips as f64;
    text.family("ops_check_round_trips", None, "Round trips that the check took.", [(vec![], trips)]);
    let (server, wall) = (report.cost.server_ms / 1000.0, report.cost.wall_ms / 1000.0);
    let help = "Time that the check waited for servers, added up.";
    text.family("ops_check_server_seconds", Some("seconds"), help, [(vec![], server)]);
    let help = "Time that the check took.";
    text.family("ops_check_wall_seconds", Some("seconds"), help, [(vec![], wall)]);
}

fn probes(text: &mut Exposition<'_>, report: &HealthReport) {
    let statuses = report.probes.iter().flat_map(|result| {
        STATUSES.iter().map(move |s| {
            let mut labels = of(result);
            labels.push(status(*s));
            (labels, flag(*s == result.status))
        })
    });
    text.family("ops_probe_status", None, "1 on the status of the probe, 0 on the others.", statuses);
    let took = report.probes.iter().map(|result| (of(result), result.took_ms / 1000.0));
    let help = "Time from the probe's start to its end, waiting for its turn included.";
    text.family("ops_probe_took_seconds", Some("seconds"), help, took);
}

fn measurements(text: &mut Exposition<'_>, report: &HealthReport) {
    let all: Vec<(&ProbeResult, &Measurement)> = report
        .probes
        .iter()
        .flat_map(|result| result.measurements.iter().map(move |measurement| (result, measurement)))
        .collect();
    let values = all.iter().map(|(result, m)| (series(result, m), m.value));
    text.family("ops_measurement", None, "What was measured, in the unit that its label names.", values);
    let bounds = |bound: fn(&Measurement) -> Option<f64>| {
        all.iter().filter_map(move |(result, m)| Some((series(result, m), bound(m)?))).collect::<Vec<_>>()
    };
    let help = "The bound from which a measurement is a warning.";
    text.family("ops_measurement_warning", None, help, bounds(|m| m.warning));
    let help = "The bound from which a measurement is critical.";
    text.family("ops_measurement_critical", None, help, bounds(|m| m.critical));
}

fn findings(text: &mut Exposition<'_>, report: &HealthReport) {
    type Key<'a> = (&'a str, Severity, &'a str, &'a str);
    let mut counts: BTreeMap<Key<'_>, u32> = BTreeMap::new();
    for result in &report.probes {
        let database = result.database.as_deref().unwrap_or("");
        for finding in &result.findings {
            *counts.entry((&finding.code, finding.severity, &result.target, database)).or_default() += 1;
        }
    }
    let samples = counts.into_iter().map(|((code, severity, target, database), count)| {
        let labels =
            [("target", target), ("database", database), ("code", code), ("severity", severity.as_str())];
        (labels.map(|(key, value)| (key.to_owned(), value)).to_vec(), f64::from(count))
    });
    text.family("ops_findings", None, "Findings by code and severity.", samples);
}

fn of(result: &ProbeResult) -> Labels<'_> {
    vec![
        ("target".to_owned(), &result.target),
        ("database".to_owned(), result.database.as_deref().unwrap_or("")),
        ("probe".to_owned(), &result.probe),
    ]
}

/// A measurement's own labels come last; one whose name is taken is called `exported_…`, as Prometheus does.
fn series<'a>(result: &'a ProbeResult, measurement: &'a Measurement) -> Labels<'a> {
    let mut labels = of(result);
    labels.push(("name".to_owned(), &measurement.name));
    labels.push(("unit".to_owned(), measurement.unit.as_str()));
    if measurement.direction == Direction::Below {
        labels.push(("direction".to_owned(), "below"));
    }
    for (key, value) in &measurement.labels {
        let mut name = label_name(key);
        while name == "service" || name == "direction" || labels.iter().any(|(taken, _)| *taken == name) {
            name.insert_str(0, "exported_");
        }
        labels.push((name, value));
    }
    labels
}

fn status(status: Status) -> (String, &'static str) {
    ("status".to_owned(), status.as_str())
}

fn flag(on: bool) -> f64 {
    if on { 1.0 } else { 0.0 }
}

/// `[a-zA-Z_][a-zA-Z0-9_]*`; two leading underscores are reserved.
fn label_name(key: &str) -> String {
    let name: String = key.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let name = name.trim_start_matches('_');
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        format!("l_{name}")
    } else {
        name.into()
    }
}

/// Label values may hold anything but what would end them, or act on a terminal.
fn escape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            // Somebody may look at it in a terminal.
            _ if text::acts(c) => out.extend(c.escape_unicode()),
            _ => out.push(c),
        }
    }
    out
}

fn number(value: f64) -> String {
    match value {
        _ if value.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        _ => value.to_string(),
    }
}
