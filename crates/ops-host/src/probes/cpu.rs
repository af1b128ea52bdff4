//! `host.cpu`: how busy the processors are.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use ops_core::window::Window;
use ops_core::{
    Context, Direction, Error, ErrorKind, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec,
    Remedy, Result, Severity, Status, ThresholdSpec, Unit,
};
use serde_json::json;

use super::windowed;
use crate::host::{HostProbe, HostTarget};

/// The columns of `/proc/stat` that proc(5) names, in their order. What guests use is counted in `user` already.
const COLUMNS: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];

/// Over less than this, busy processors are a command that somebody runs.
const SHORTEST: Duration = Duration::from_secs(10);

pub(crate) static SPEC: ProbeSpec = ProbeSpec {
    name: "host.cpu",
    group: "host",
    explanation: Explanation {
        why: "Processors that have nothing left make everything slower at once, and a query plan gets the blame. \
              Stolen time is taken by the neighbours of a virtual machine: nothing inside it helps.",
        measures: "The shares of the processors' time since the last check, or over two samples 1 s apart where there \
                   is none: busy (neither idle nor waiting for disks), stolen by the hypervisor, waiting for disks. \
                   Where they are busy over less than 10 s, it is unknown whether they stay so. Waiting for disks is \
                   shown and never judged by itself: it falls when something else computes.",
        queries: &[("the line cpu: ticks by kind since the start of the machine", "/proc/stat")],
        codes: &[
            ("host.cpu.busy", "the processors have little time left"),
            ("host.cpu.stolen", "the hypervisor gives the processors' time to others"),
        ],
        versions: "Linux; elsewhere unknown",
        cost: "one small file; a second one where no earlier sample is stored",
        remedy: "top shows who computes. Of a database, pg.slow_queries names the statements. Stolen time: move the \
                 machine, or buy one that is not shared.",
    },
    thresholds: &[
        ThresholdSpec {
            name: "busy",
            meaning: "the share of time that is neither idle nor waiting for disks",
            unit: Unit::Percent,
            direction: Direction::Above,
            warning: Some(90.0),
            critical: None,
            source: "the runbook analytics-operations alarms above 80 % for 15 minutes, over a shorter window that \
                     is a busy minute; never critical: work is done meanwhile",
        },
        ThresholdSpec {
            name: "steal",
            meaning: "the share of time that the hypervisor gave to others",
            unit: Unit::Percent,
            direction: Direction::Above,
            warning: Some(10.0),
            critical: None,
            source: "awesome-prometheus-alerts, host CPU steal noisy neighbor: 10 %",
        },
        ThresholdSpec {
            name: "iowait",
            meaning: "the share of time spent waiting for disks",
            unit: Unit::Percent,
            direction: Direction::Above,
            warning: None,
            critical: None,
            source: "none by default: proc(5) calls the figure unreliable",
        },
    ],
    requires: &[],
};

/// See [`SPEC`].
#[derive(Debug)]
pub(crate) struct Cpu;

#[async_trait]
impl HostProbe for Cpu {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    async fn probe(&self, cx: &Context, host: &HostTarget, limits: &Limits) -> Result<ProbeReport> {
        let take = async || parse(&host.machine().proc("stat")?);
        Ok(match windowed::rise(cx, host, SPEC.name, take).await? {
            Ok(window) => judge(&window, limits),
            Err(report) => report,
        })
    }
}

fn parse(stat: &str) -> Result<BTreeMap<String, f64>> {
    let unreadable = || {
        Error::new(ErrorKind::Unsupported, "read /proc/stat")
            .because("it has no line cpu as proc(5) describes it")
    };
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu ")).ok_or_else(unreadable)?;
    let ticks: Vec<f64> = line.split_whitespace().map_while(|tick| tick.parse().ok()).collect();
    if ticks.len() < COLUMNS.len() {
        return Err(unreadable());
    }
    Ok(COLUMNS.iter().zip(ticks).map(|(name, tick)| ((*name).to_owned(), tick)).collect())
}

fn judge(window: &Window, limits: &Limits) -> ProbeReport {
    let all: f64 = COLUMNS.iter().map(|column| window.delta(column)).sum();
    if all <= 0.0 {
        return ProbeReport::unknown("the kernel counted no time between two samples", None);
    }
    let share =
        |columns: &[&str]| columns.iter().map(|column| window.delta(column)).sum::<f64>() / all * 100.0;
    // A busy second is no trouble yet, and nothing to call well.
    let mut too_short = false;
    let mut measured = |name, value| {
        let measured = Measurement::new(name, value, Unit::Percent);
        let judged = measured.clone().judged_by(limits.get(name));
        if window.length >= SHORTEST || judged.status() == Status::Ok {
            return judged;
        }
        too_short = true;
        measured
    };
    let busy = measured("busy", 100.0 - share(&["idle", "iowait", "steal"]));
    let steal = measured("steal", share(&["steal"]));
    let iowait = measured("iowait", share(&["iowait"]));
    let over = windowed::length(window);
    let evidence = json!({
        "user": share(&["user", "nice"]), "system": share(&["system", "irq", "softirq"]), "iowait": iowait.value,
        "steal": steal.value, "idle": share(&["idle"]), "seconds": window.length.as_secs_f64(),
    });
    let computing = Severity::of(busy.status()).map(|severity| {
        let message = format!("the processors were {} busy over {over}", busy.format());
        Finding::new(severity, "host.cpu.busy", message)
            .object("cpu")
            .evidence(evidence.clone())
            .remedy(Remedy::statement("top -b -n 1 -o %CPU | head -20").because("shows who computes"))
    });
    let stolen = Severity::of(steal.status()).map(|severity| {
        let message =
            format!("the hypervisor gave {} of the processors' time to others over {over}", steal.format());
        Finding::new(severity, "host.cpu.stolen", message).object("cpu").evidence(evidence.clone()).remedy(
            Remedy::advice("move the machine to another host, or to a kind whose processors are not shared"),
        )
    });
    let summary = format!(
        "{} busy over {over}, {} waiting for disks, {} stolen",
        busy.format(),
        iowait.format(),
        steal.format()
    );
    let report = ProbeReport::new(summary)
        .measure(busy)
        .measure(steal)
        .measure(iowait)
        .findings(computing)
        .findings(stolen);
    match too_short {
        true => {
            report.unseen(format!("whether the processors stay so busy: {over} is too short to tell"), None)
        }
        false => report,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{STAT, window};

    #[test]
    fn a_real_file_is_read() {
        let ticks = parse(STAT).unwrap();
        assert_eq!((ticks["user"], ticks["idle"], ticks["steal"]), (228_075.0, 204_700.0, 227.0));
        assert!(parse("intr 1 2 3").is_err() && parse("cpu  1 2 3").is_err());
    }

    #[test]
    fn shares_are_of_the_window() {
        for (ticks, status, codes) in [
            ([50.0, 0.0, 10.0, 40.0, 0.0, 0.0, 0.0, 0.0], Status::Ok, vec![]),
            ([80.0, 5.0, 10.0, 5.0, 0.0, 0.0, 0.0, 0.0], Status::Warning, vec!["host.cpu.busy"]),
            ([10.0, 0.0, 0.0, 0.0, 90.0, 0.0, 0.0, 0.0], Status::Ok, vec![]),
            ([40.0, 0.0, 0.0, 40.0, 0.0, 0.0, 0.0, 20.0], Status::Warning, vec!["host.cpu.stolen"]),
        ] {
            let rise: Vec<_> = COLUMNS.iter().copied().zip(ticks).collect();
            let report = judge(&window(60, &rise), &Limits::defaults(&SPEC));
            let found: Vec<_> = report.found().iter().map(|finding| finding.code.as_ref()).collect();
            assert_eq!((report.status(), found), (status, codes), "{ticks:?}");
        }
        for (user, status) in [(20.0, Status::Ok), (99.0, Status::Unknown)] {
            let report =
                judge(&window(1, &[("user", user), ("idle", 100.0 - user)]), &Limits::defaults(&SPEC));
            assert_eq!((report.status(), report.found().len()), (status, 0), "one second, {user} % busy");
        }
        assert_eq!(judge(&window(60, &[]), &Limits::defaults(&SPEC)).status(), Status::Unknown);
    }
}
