//! `host.load`: how many want to compute.

use async_trait::async_trait;
use ops_core::{
    Context, Direction, Error, ErrorKind, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec,
    Remedy, Result, Severity, ThresholdSpec, Unit,
};
use serde_json::json;

use crate::host::{HostProbe, HostTarget};

pub(crate) static SPEC: ProbeSpec = ProbeSpec {
    name: "host.load",
    group: "host",
    explanation: Explanation {
        why: "The load tells how many processes compute or wait for a disk. It is the figure that people ask for \
              first, and says little alone: Linux counts those that wait for a dead network file system, too.",
        measures: "The load averages over 1, 5 and 15 minutes, and the one over 5 minutes for each processor. It only \
                   informs unless a threshold is configured: host.cpu and host.io tell what it is made of.",
        queries: &[("the averages", "/proc/loadavg"), ("how many processors are online", "/proc/stat")],
        codes: &[("host.load.high", "the load for each processor is over what is configured")],
        versions: "Linux; elsewhere unknown",
        cost: "two small files",
        remedy: "ps -eo state,pid,comm | grep '^[RD]' shows who computes (R) and who waits for a disk (D).",
    },
    thresholds: &[ThresholdSpec {
        name: "per_cpu",
        meaning: "the load average over 5 minutes, for each processor",
        unit: Unit::Ratio,
        direction: Direction::Above,
        warning: None,
        critical: None,
        source: "none by default: a load of 2 a processor may be a backup, or trouble",
    }],
    requires: &[],
};

/// See [`SPEC`].
#[derive(Debug)]
pub(crate) struct Load;

#[async_trait]
impl HostProbe for Load {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    async fn probe(&self, _cx: &Context, host: &HostTarget, limits: &Limits) -> Result<ProbeReport> {
        let machine = host.machine();
        judge(&machine.proc("loadavg")?, &machine.proc("stat")?, limits)
    }
}

fn judge(loadavg: &str, stat: &str, limits: &Limits) -> Result<ProbeReport> {
    let averages: Vec<f64> =
        loadavg.split_whitespace().map_while(|average| average.parse().ok()).take(3).collect();
    let cpu = |line: &&str| {
        line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let processors = stat.lines().filter(cpu).count();
    let ([one, five, fifteen], 1..) = (averages.as_slice(), processors) else {
        return Err(Error::new(ErrorKind::Unsupported, "read /proc/loadavg")
            .because("it is not as proc(5) describes"));
    };
    let each =
        Measurement::new("per_cpu", five / processors as f64, Unit::Ratio).judged_by(limits.get("per_cpu"));
    let on = if processors == 1 { "1 processor".to_owned() } else { format!("{processors} processors") };
    let summary = format!("load {one:.2}, {five:.2}, {fifteen:.2} on {on}");
    let finding = Severity::of(each.status()).map(|severity| {
        Finding::new(
            severity,
            "host.load.high",
            format!("the load is {} for each processor: {summary}", each.format()),
        )
        .object("load")
        .evidence(json!({"load": averages, "processors": processors}))
        .remedy(
            Remedy::statement("ps -eo state,pid,comm | grep '^[RD]'")
                .because("shows who computes and who waits"),
        )
    });
    let report = ProbeReport::new(summary).measure(each).findings(finding);
    let averages = [("load_1", *one), ("load_5", *five), ("load_15", *fifteen)];
    Ok(averages
        .into_iter()
        .fold(report, |report, (name, average)| report.measure(Measurement::new(name, average, Unit::Ratio))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::STAT;
    use ops_core::{Bounds, Status};

    #[test]
    fn the_load_alarms_only_where_asked() {
        let limits = Limits::defaults(&SPEC);
        let report = judge("12.00 8.00 1.00 3/400 99\n", STAT, &limits).unwrap();
        assert_eq!((report.status(), report.measured()[0].value), (Status::Ok, 4.0));
        let limits = limits.with("per_cpu", Bounds { warning: Some(2.0), critical: None }).unwrap();
        assert_eq!(judge("12.00 8.00 1.00 3/400 99\n", STAT, &limits).unwrap().status(), Status::Warning);
        assert!(judge("", STAT, &limits).is_err() && judge("1 1 1", "", &limits).is_err());
    }
}
