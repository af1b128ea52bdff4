//! For API gateways: the health check response format for HTTP APIs, `application/health+json`.

use serde_json::{Map, Value, json};

use crate::health::HealthReport;
use crate::measurement::Measurement;
use crate::result::ProbeResult;
use crate::status::Status;

/// A report as draft-inadarei-api-health-check-06 has it: `status` is `pass`, `warn` or `fail`, and `checks` holds a
/// list for each `probe:measurement`, or for the probe alone where it measures nothing. What could not be told is
/// `warn`, never `pass`; a probe that does not apply is left out.
pub fn health_json(report: &HealthReport) -> String {
    let mut checks = Map::new();
    for probe in report.probes.iter().filter(|probe| probe.status != Status::NotApplicable) {
        let time = report.at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
        for (key, check) in of_probe(probe, &time) {
            match checks.entry(key).or_insert_with(|| json!([])) {
                Value::Array(list) => list.push(check),
                _ => unreachable!("every check is a list"),
            }
        }
    }
    let mut document = json!({
        "status": word(report.status), "serviceId": report.service, "checks": checks,
        "description": format!("score {}", report.score.map_or("unknown".to_owned(), |score| score.to_string())),
    });
    if report.status != Status::Ok {
        let worst = report.probes.iter().filter(|probe| probe.status == report.status);
        document["output"] = worst.map(|probe| probe.summary.as_str()).collect::<Vec<_>>().join("; ").into();
    }
    format!("{document}\n")
}

/// The draft has three words.
fn word(status: Status) -> &'static str {
    match status {
        Status::Ok | Status::NotApplicable => "pass",
        Status::Warning | Status::Unknown => "warn",
        Status::Critical => "fail",
    }
}

fn of_probe(probe: &ProbeResult, time: &str) -> Vec<(String, Value)> {
    let component = match &probe.database {
        Some(database) => format!("{}/{database}", probe.target),
        None => probe.target.clone(),
    };
    let check = |measured: Option<&Measurement>| {
        let status = measured.map_or(probe.status, |measured| match probe.status {
            // A measurement is no better than what it is a part of could be seen.
            Status::Unknown => Status::Unknown,
            _ => measured.status(),
        });
        let mut check = json!({ "componentId": component, "status": word(status), "time": time });
        if let Some(measured) = measured {
            check["observedValue"] = measured.value.into();
            check["observedUnit"] = json!(measured.unit);
        }
        if word(status) != "pass" || measured.is_none() {
            check["output"] = probe.summary.clone().into();
        }
        check
    };
    // A finding that no measurement carries is told by the probe's own entry.
    let told = probe.measurements.iter().any(|measured| measured.status() == probe.status);
    let own = (!told).then(|| (probe.probe.clone(), check(None)));
    let measured = probe.measurements.iter().map(|m| (format!("{}:{}", probe.probe, m.name), check(Some(m))));
    own.into_iter().chain(measured).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::fixture;

    #[test]
    fn unknown_never_passes() {
        let report = fixture::rich();
        let document: Value = serde_json::from_str(&health_json(&report)).unwrap();
        assert_eq!(document["status"], "fail");
        let checks = document["checks"].as_object().unwrap();
        for probe in &report.probes {
            let entries: Vec<_> = checks
                .iter()
                .filter(|(key, _)| key.split(':').next() == Some(&*probe.probe))
                .flat_map(|(_, list)| list.as_array().unwrap())
                .collect();
            let worst = ["fail", "warn", "pass"]
                .into_iter()
                .find(|word| entries.iter().any(|e| e["status"] == *word));
            match probe.status {
                Status::NotApplicable => assert_eq!(worst, None, "{}", probe.probe),
                status => assert_eq!(worst, Some(word(status)), "{}", probe.probe),
            }
        }
    }
}
