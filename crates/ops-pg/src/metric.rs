//! Metrics that a configuration defines by one `SELECT`: with bounds, each is a probe.

use async_trait::async_trait;
use ops_core::{
    Context, Direction, Error, ErrorKind, Finding, HealthProbe, Measurement, ProbeReport, Remedy, Result,
    Severity, Threshold, Unit,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgValueRef;
use sqlx::{Decode, Postgres, TypeInfo as _, ValueRef as _};

use crate::row::Row;
use crate::target::PgTarget;

/// Rows that a metric may return; a metric is a number for each of a few labels, not a table.
const MAX_ROWS: usize = 1000;

/// `[[metric]]`: one `SELECT` whose column `value` is the number; every other column is a label.
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

    fn measure(&self, row: &Row) -> Result<Option<Measurement>> {
        let mut value = None;
        let mut labels = Vec::new();
        for (column, kind, raw) in row.columns() {
            if column == "value" {
                value = Some(raw.map(|raw| number(&raw, &kind)).transpose()?);
            } else {
                labels.push((column, raw.map(|raw| text(&raw)).transpose()?.unwrap_or_default()));
            }
        }
        let Some(value) = value else {
            return Err(self.broken("the statement returns no column named value"));
        };
        let Some(value) = value else { return Ok(None) };
        let measurement = Measurement::new("value", value, self.config.unit).judged_by(self.threshold());
        Ok(Some(labels.into_iter().fold(measurement, |m, (key, value)| m.label(key, value))))
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
        let rows = self.target.read_foreign(cx, &self.config.sql).await?;
        if rows.is_empty() {
            return Ok(ProbeReport::unknown(
                format!("{}: the statement returned no row", self.config.name),
                None,
            ));
        }
        if rows.len() > MAX_ROWS {
            return Err(
                self.broken(&format!("the statement returned {} rows, {MAX_ROWS} at most", rows.len()))
            );
        }
        let mut report = ProbeReport::new("");
        let mut shown = Vec::new();
        for row in &rows {
            match self.measure(row)? {
                Some(measurement) => {
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

fn number(raw: &PgValueRef<'_>, kind: &str) -> Result<f64> {
    let decoded = match kind {
        "INT2" => i16::decode(raw.clone()).map(f64::from),
        "INT4" => i32::decode(raw.clone()).map(f64::from),
        "INT8" => i64::decode(raw.clone()).map(|value| value as f64),
        "FLOAT4" => f32::decode(raw.clone()).map(f64::from),
        "FLOAT8" => f64::decode(raw.clone()),
        other => Err(format!("value is {other}; cast it to float8").into()),
    };
    decoded
        .map_err(|error| Error::new(ErrorKind::Configuration, "read the metric").because(error.to_string()))
}

fn text(raw: &PgValueRef<'_>) -> Result<String> {
    let kind = raw.type_info().name().to_owned();
    match kind.as_str() {
        "INT2" | "INT4" | "INT8" => number(raw, &kind).map(|value| format!("{value}")),
        "BOOL" => {
            <bool as Decode<'_, Postgres>>::decode(raw.clone()).map(|value| value.to_string()).map_err(label)
        }
        "TEXT" | "VARCHAR" | "NAME" | "CHAR" | "UNKNOWN" => {
            <&str as Decode<'_, Postgres>>::decode(raw.clone()).map(str::to_owned).map_err(label)
        }
        other => Err(label(format!("a label is {other}; cast it to text").into())),
    }
}

fn label(error: sqlx::error::BoxDynError) -> Error {
    Error::new(ErrorKind::Configuration, "read the metric").because(error.to_string())
}
