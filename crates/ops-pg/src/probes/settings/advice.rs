//! Checkpoints and memory: what to set when it can be known.

use ops_core::{Finding, Limits, Measurement, Remedy, Severity, Status, Unit};
use serde_json::json;

use super::judge::Settings;

const GIB: f64 = 1024.0 * 1024.0 * 1024.0;

/// How checkpoints are spread.
pub(super) fn checkpoints(settings: &Settings, limits: &Limits) -> Vec<Finding> {
    let judge = |name: &'static str, unit: Unit, why: &str, better: &str| {
        let value = settings.number(name)?;
        let severity = Severity::of(limits.get(name).judge(value))?;
        let message = format!("{name} is {}: {why}", unit.format(value));
        let statement = format!("ALTER SYSTEM SET {name} = {better}; SELECT pg_reload_conf();");
        Some(
            Finding::new(severity, "pg.settings.checkpoints", message)
                .object(name)
                .evidence(json!({ "name": name, "value": value }))
                .remedy(Remedy::statement(statement).because("it takes effect at once, without a restart")),
        )
    };
    [
        judge(
            "checkpoint_timeout",
            Unit::Seconds,
            "checkpoints come often, and after each one the WAL grows by whole pages",
            "'5min'",
        ),
        judge(
            "checkpoint_completion_target",
            Unit::Ratio,
            "a checkpoint writes in a burst and rests for the other half of the time",
            "0.9",
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Shares of the machine's memory: that of shared_buffers, and what it and one work_mem a connection come to.
fn shares(settings: &Settings, memory_gib: f64) -> Option<(f64, f64)> {
    let memory = memory_gib * GIB;
    let buffers = settings.number("shared_buffers")?;
    let work = settings.number("work_mem")? * settings.number("max_connections")?;
    (memory > 0.0).then(|| (100.0 * buffers / memory, 100.0 * (buffers + work) / memory))
}

/// What fits the machine.
pub(super) fn memory(settings: &Settings, memory_gib: f64, limits: &Limits) -> Vec<Finding> {
    let Some((buffers, all)) = shares(settings, memory_gib) else { return Vec::new() };
    let memory = Unit::Bytes.format(memory_gib * GIB);
    let mut findings = Vec::new();
    let of_buffers = [limits.get("shared_buffers"), limits.get("shared_buffers_unused")];
    if let Some(severity) = Severity::of(Status::worst(of_buffers.map(|limit| limit.judge(buffers)))) {
        let message =
            format!("shared_buffers is {buffers:.1} % of the machine's {memory}; 25 % is a usual start");
        findings.push(
            Finding::new(severity, "pg.settings.memory", message)
                .object("shared_buffers")
                .evidence(json!({ "shared_buffers_bytes": settings.number("shared_buffers"), "memory_gib": memory_gib }))
                .remedy(
                    Remedy::statement(format!(
                        "ALTER SYSTEM SET shared_buffers = '{:.0}MB'; -- and restart",
                        memory_gib * 1024.0 / 4.0
                    ))
                    .because("for a machine that runs nothing but this server"),
                ),
        );
    }
    if let Some(severity) = Severity::of(limits.get("memory").judge(all)) {
        let message = format!(
            "shared_buffers and one work_mem for each of max_connections come to {all:.0} % of the machine's {memory}: \
             when all are busy, the kernel ends the server"
        );
        findings.push(
            Finding::new(severity, "pg.settings.memory", message)
                .object("work_mem")
                .evidence(json!({
                    "work_mem_bytes": settings.number("work_mem"), "max_connections": settings.number("max_connections"),
                    "memory_gib": memory_gib,
                }))
                .remedy(Remedy::advice("lower work_mem and give it by role where it is needed, or lower max_connections")),
        );
    }
    findings
}

/// The figures behind the advice; those of memory only where it is known.
pub(super) fn measurements(
    settings: &Settings,
    memory_gib: Option<f64>,
    limits: &Limits,
) -> Vec<Measurement> {
    let plain = [("shared_buffers_bytes", "shared_buffers"), ("work_mem_bytes", "work_mem")];
    let plain = plain.into_iter().filter_map(|(measurement, name)| {
        Some(Measurement::new(measurement, settings.number(name)?, Unit::Bytes))
    });
    let shares =
        memory_gib.and_then(|memory| shares(settings, memory)).into_iter().flat_map(|(buffers, all)| {
            [("shared_buffers", buffers), ("memory", all)]
                .map(|(name, share)| Measurement::new(name, share, Unit::Percent).judged_by(limits.get(name)))
        });
    plain.chain(shares).collect()
}
