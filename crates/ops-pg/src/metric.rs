//! Metrics that a configuration defines by one `SELECT`: with bounds, each is a probe.

use std::collections::BTreeSet;

use async_trait::async_trait;
use ops_core::{
    Context, Direction, Error, ErrorKind, Finding, HealthProbe, Measurement, ProbeReport, Remedy, Result,
    Severity, Threshold, Unit,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::row::Row;
use crate::target::PgTarget;

/// Rows that a metric may return; a metric is a number for each of a few labels, not a table.
const MAX_ROWS: usize = 1000;

/// `[[metric]]`: one `SELECT` whose column `value` is the number; every other column is a label, and no two rows have
/// the same ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct MetricConfig {
    /// The metric's name; the probe is called `metric.NAME`.
    pub name: String,
    /// The PostgreSQL target to ask.
    pub target: String,
    /// The database to ask; by default the first of the target's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// One SELECT. It runs read-only, with 5 s for itself and 100 ms for any lock.
    pub sql: String,
    /// The unit of `value`.
    #[serde(default = "count")]
    pub unit: Unit,
    /// From here it is a warning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<f64>,
    /// From here it is critical.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub critical: Option<f64>,
    /// On which side of the bounds trouble lies.
    #[serde(default)]
    pub direction: Direction,
    /// What to do when it alarms, in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

fn count() -> Unit {
    Unit::Count
}

/// The probe made of a [`MetricConfig`].
#[derive(Clone, Debug)]
pub struct SqlMetric {
    probe: String,
    target: PgTarget,
    config: MetricConfig,
}

impl SqlMetric {
    /// The metric on its target.
    pub fn new(target: PgTarget, config: MetricConfig) -> Self {
        Self { probe: format!("metric.{}", config.name), target, config }
    }

    fn threshold(&self) -> Threshold {
        Threshold {
            direction: self.config.direction,
            warning: self.config.warning,
            critical: self.config.critical,
        }
    }

    /// One row as an object: any type comes as a number, a text or null. A statement that is not a SELECT cannot
    /// stand in here, and a thousand rows are enough to know that it is no metric.
    fn sql(&self) -> String {
        let sql = self.config.sql.trim_end().trim_end_matches(';');
        format!("SELECT to_jsonb(m)::text AS row FROM (\n{sql}\n) m LIMIT {}", MAX_ROWS + 1)
    }

    fn measure(&self, row: &Row) -> Result<Option<Measurement>> {
        let row: Map<String, Value> = serde_json::from_str(&row.get::<String>("row")?)
            .map_err(|error| self.broken(&format!("a row is no object: {error}")))?;
        let value = match row.get("value") {
            None => return Err(self.broken("the statement returns no column named value")),
            Some(Value::Null) => return Ok(None),
            Some(value) => value.as_f64().ok_or_else(|| self.broken("value is not a number"))?,
        };
        let measurement = Measurement::new("value", value, self.config.unit).judged_by(self.threshold());
        let labels = row.into_iter().filter(|(column, _)| column != "value");
        Ok(Some(labels.fold(measurement, |measurement, (column, value)| match value {
            Value::String(text) => measurement.label(column, text),
            Value::Null => measurement.label(column, ""),
            other => measurement.label(column, other.to_string()),
        })))
    }

    fn finding(&self, measurement: &Measurement) -> Option<Finding> {
        let severity = Severity::of(measurement.status())?;
        let labels: Vec<_> = measurement.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let object = if labels.is_empty() { self.config.name.clone() } else { labels.join(",") };
        let code = format!("{}.out_of_bounds", self.probe);
        let finding =
            Finding::new(severity, code, format!("{object} is {}", measurement.format())).object(object);
        Some(match &self.config.advice {
            Some(advice) => finding.remedy(Remedy::advice(advice.clone())),
            None => finding,
        })
    }

    /// Whoever keeps series by their labels would keep one of the two.
    fn told_twice(&self, measurement: &Measurement) -> Error {
        let labels: Vec<_> = measurement.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let of = if labels.is_empty() {
            "without labels".to_owned()
        } else {
            format!("with {}", labels.join(","))
        };
        self.broken(&format!("the statement returns several rows {of}; each needs labels of its own"))
            .with_fix("add the column that tells the rows apart, or GROUP BY the labels")
    }

    fn broken(&self, why: &str) -> Error {
        Error::new(ErrorKind::Configuration, "read the metric").on(&self.config.name).because(why)
    }
}

#[async_trait]
impl HealthProbe for SqlMetric {
    fn name(&self) -> &str {
        &self.probe
    }

    async fn probe(&self, cx: &Context) -> Result<ProbeReport> {
        let rows = self.target.read_foreign(cx, &self.sql()).await?;
        if rows.is_empty() {
            return Ok(ProbeReport::unknown(
                format!("{}: the statement returned no row", self.config.name),
                None,
            ));
        }
        if rows.len() > MAX_ROWS {
            return Err(self.broken(&format!("the statement returned more than {MAX_ROWS} rows")));
        }
        let mut report = ProbeReport::new("");
        let (mut shown, mut told) = (Vec::new(), BTreeSet::new());
        for row in &rows {
            match self.measure(row)? {
                Some(measurement) => {
                    if !told.insert(measurement.labels.clone()) {
                        return Err(self.told_twice(&measurement));
                    }
                    shown.push(measurement.format());
                    report = report.findings(self.finding(&measurement)).measure(measurement);
                }
                None => report = report.unseen(format!("{}: value is null", self.config.name), None),
            }
        }
        let more = if shown.len() > 3 { format!(" and {} more", shown.len() - 3) } else { String::new() };
        shown.truncate(3);
        let summary = if shown.is_empty() { "no value".to_owned() } else { shown.join(", ") + &more };
        Ok(report.summary(format!("{}: {summary}", self.config.name)))
    }
}
