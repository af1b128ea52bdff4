//! `host.memory`: what is left, and who was killed for want of it.

mod group;

use std::collections::BTreeMap;

use async_trait::async_trait;
use ops_core::window::Window;
use ops_core::{
    Context, Direction, Error, ErrorKind, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec,
    Remedy, Result, Severity, ThresholdSpec, Unit,
};
use serde_json::json;

use self::group::Group;
use super::windowed;
use crate::host::{HostProbe, HostTarget};

pub(crate) static SPEC: ProbeSpec = ProbeSpec {
    name: "host.memory",
    group: "host",
    explanation: Explanation {
        why: "When memory runs out, the kernel kills the largest process. When that is one of PostgreSQL's, all of its \
              sessions end and it recovers from the log; when it is Redis, the cache is empty afterwards.",
        measures: "MemAvailable, the kernel's own estimate of what can be had without swapping (free memory is always \
                   low: it caches files); swap in use; processes killed for want of memory since the last check, or \
                   over two samples 1 s apart where there is none. And of the control group that ops itself runs \
                   in (inside a container, the container's) and of those around it, where they have a limit, what is \
                   left of the one that is nearest to its own: its inactive file cache counts as left.",
        queries: &[
            ("MemTotal, MemAvailable, SwapTotal, SwapFree", "/proc/meminfo"),
            ("oom_kill: processes killed since the start of the machine", "/proc/vmstat"),
            (
                "the limits of this control group and of those around it, what they use, and how much of that is \
                 inactive_file",
                "/proc/self/cgroup, /sys/fs/cgroup",
            ),
        ],
        codes: &[
            ("host.memory.low", "little memory is available"),
            (
                "host.memory.group_low",
                "this control group, or one around it, has little left of its limit: its processes are killed first",
            ),
            ("host.memory.oom_kill", "the kernel killed a process for want of memory"),
            ("host.memory.swap", "swap is nearly full"),
        ],
        versions: "Linux 4.13 and later; elsewhere unknown",
        cost: "four small files; a second look at one where no earlier sample is stored",
        remedy: "ps -eo rss,comm --sort=-rss shows who holds it. Of PostgreSQL, work_mem times sessions; vm.overcommit_\
                 memory = 2 makes an allocation fail in place of a process.",
    },
    thresholds: &[
        ThresholdSpec {
            name: "available",
            meaning: "the share of memory that can be had without swapping",
            unit: Unit::Percent,
            direction: Direction::Below,
            warning: Some(20.0),
            critical: Some(10.0),
            source: "the runbook analytics-operations: memory above 80 %; awesome-prometheus-alerts, host out of \
                     memory: less than 10 % available",
        },
        ThresholdSpec {
            name: "oom_kills",
            meaning: "processes killed for want of memory within the window",
            unit: Unit::Count,
            direction: Direction::Above,
            warning: None,
            critical: Some(1.0),
            source: "PostgreSQL's documentation, Linux memory overcommit: one killed process restarts the server",
        },
        ThresholdSpec {
            name: "swap",
            meaning: "the share of swap in use",
            unit: Unit::Percent,
            direction: Direction::Above,
            warning: Some(80.0),
            critical: None,
            source: "awesome-prometheus-alerts, host swap is filling up: 80 %",
        },
    ],
    requires: &[],
};

/// See [`SPEC`].
#[derive(Debug)]
pub(crate) struct Memory;

#[async_trait]
impl HostProbe for Memory {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    async fn probe(&self, cx: &Context, host: &HostTarget, limits: &Limits) -> Result<ProbeReport> {
        let machine = host.machine();
        let report = judge(&machine.proc("meminfo")?, limits)?;
        let report = match group::tightest(machine) {
            Ok(group) => judge_group(report, group.as_ref(), limits),
            Err(error) => report.unseen(error.report(), error.fix().map(str::to_owned)),
        };
        let take = async || killed(&machine.proc("vmstat")?);
        Ok(match windowed::rise(cx, host, SPEC.name, take).await {
            Ok(Ok(window)) => judge_kills(report, &window, limits),
            Ok(Err(_)) => {
                report.unseen("kills for want of memory: there is nothing to compare with yet", None)
            }
            // What is available still counts.
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                report.unseen(format!("kills for want of memory: {}", error.report()), None)
            }
            Err(error) => return Err(error),
        })
    }
}

fn killed(vmstat: &str) -> Result<BTreeMap<String, f64>> {
    let count = vmstat.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok());
    let count = count.ok_or_else(|| {
        Error::new(ErrorKind::Unsupported, "read /proc/vmstat").because("the kernel does not count oom_kill")
    })?;
    Ok([("oom_kill".to_owned(), count)].into())
}

fn judge(meminfo: &str, limits: &Limits) -> Result<ProbeReport> {
    let bytes = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line?.trim().trim_end_matches(" kB").parse::<f64>().ok().map(|kilobytes| kilobytes * 1024.0)
    };
    let need = |name: &str| {
        bytes(name).ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, "read /proc/meminfo").because(format!("it has no {name}"))
        })
    };
    let (total, available) = (need("MemTotal")?, need("MemAvailable")?);
    let share = Measurement::new("available", available / total * 100.0, Unit::Percent)
        .judged_by(limits.get("available"));
    let of = format!("{} of {}", Unit::Bytes.format(available), Unit::Bytes.format(total));
    let low = Severity::of(share.status()).map(|severity| {
        Finding::new(
            severity,
            "host.memory.low",
            format!("{of} of memory are available ({})", share.format()),
        )
        .object("memory")
        .evidence(json!({"total": total, "available": available}))
        .remedy(Remedy::statement("ps -eo rss,pid,comm --sort=-rss | head -15").because("shows who holds it"))
    });
    let report = ProbeReport::new(format!("{of} available ({})", share.format()))
        .measure(share)
        .measure(Measurement::new("total", total, Unit::Bytes))
        .findings(low);
    let (Some(swap), Some(free)) = (bytes("SwapTotal").filter(|swap| *swap > 0.0), bytes("SwapFree")) else {
        return Ok(report);
    };
    let used =
        Measurement::new("swap", (swap - free) / swap * 100.0, Unit::Percent).judged_by(limits.get("swap"));
    let filling = Severity::of(used.status()).map(|severity| {
        let message = format!("{} of {} of swap are in use", used.format(), Unit::Bytes.format(swap));
        Finding::new(severity, "host.memory.swap", message)
            .object("swap")
            .evidence(json!({"total": swap, "free": free}))
            .remedy(Remedy::statement("vmstat 1 5").because("si and so tell whether it swaps now"))
    });
    Ok(report.measure(used).findings(filling))
}

fn judge_kills(report: ProbeReport, window: &Window, limits: &Limits) -> ProbeReport {
    let kills = Measurement::new("oom_kills", window.delta("oom_kill"), Unit::Count)
        .judged_by(limits.get("oom_kills"));
    let finding = Severity::of(kills.status()).map(|severity| {
        let who =
            if kills.value == 1.0 { "a process".to_owned() } else { format!("{} processes", kills.format()) };
        let message =
            format!("the kernel killed {who} for want of memory within {}", windowed::length(window));
        Finding::new(severity, "host.memory.oom_kill", message)
            .object("memory")
            .evidence(json!({"oom_kills": kills.value, "seconds": window.length.as_secs_f64()}))
            .remedy(
                Remedy::statement("dmesg -T | grep -i 'killed process' | tail")
                    .because("names who was killed"),
            )
    });
    report.measure(kills).findings(finding)
}

fn judge_group(report: ProbeReport, group: Option<&Group>, limits: &Limits) -> ProbeReport {
    let Some(group @ Group { name, limit, used, droppable }) = group else { return report };
    let (limit, droppable) = (*limit, *droppable);
    let report = report.measure(Measurement::new("group_limit", limit, Unit::Bytes));
    let (Some(used), Some(left)) = (*used, group.left()) else {
        return report.unseen(format!("what control group {name} uses of its limit"), None);
    };
    let share = Measurement::new("group_available", left / limit * 100.0, Unit::Percent)
        .judged_by(limits.get("available"));
    let low = Severity::of(share.status()).map(|severity| {
        let of = format!("{} of {}", Unit::Bytes.format(left), Unit::Bytes.format(limit));
        let message = format!("{of} are left of the limit of control group {name} ({})", share.format());
        Finding::new(severity, "host.memory.group_low", message)
            .object("control group")
            .evidence(json!({"group": name, "limit": limit, "used": used, "inactive_file": droppable}))
            .remedy(Remedy::advice("raise the limit of the container or unit, or find what grows in it"))
    });
    report.measure(Measurement::new("group_used", used, Unit::Bytes)).measure(share).findings(low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{MEMINFO, VMSTAT, window};
    use ops_core::Status;

    #[test]
    fn real_files_are_read() {
        let report = judge(MEMINFO, &Limits::defaults(&SPEC)).unwrap();
        assert_eq!(report.status(), Status::Ok, "{report:?}");
        assert_eq!(killed(VMSTAT).unwrap(), [("oom_kill".to_owned(), 0.0)].into());
        assert_eq!(killed("pgfault 1").unwrap_err().kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn each_fault_has_its_code() {
        let meminfo = |available: u32, free: u32| {
            format!(
                "MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: {available} kB\nSwapTotal: 100 kB\nSwapFree: {free} kB\n"
            )
        };
        for (text, status, code) in [
            (meminfo(500, 100), Status::Ok, None),
            (meminfo(200, 100), Status::Warning, Some("host.memory.low")),
            (meminfo(90, 100), Status::Critical, Some("host.memory.low")),
            (meminfo(500, 10), Status::Warning, Some("host.memory.swap")),
        ] {
            let report = judge(&text, &Limits::defaults(&SPEC)).unwrap();
            let found = report.found().first().map(|finding| finding.code.as_ref());
            assert_eq!((report.status(), found), (status, code), "{text}");
        }
        assert!(judge("MemTotal: 1000 kB\nMemFree: 900 kB\n", &Limits::defaults(&SPEC)).is_err());
        let report =
            judge_kills(ProbeReport::new(""), &window(60, &[("oom_kill", 1.0)]), &Limits::defaults(&SPEC));
        assert_eq!(report.found()[0].message, "the kernel killed a process for want of memory within 60 s");
    }

    #[test]
    fn a_groups_limit_is_judged_without_the_cache_that_can_go() {
        for (used, droppable, status) in [
            (95.0, 0.0, Status::Critical),
            (95.0, 50.0, Status::Ok),
            (85.0, 0.0, Status::Warning),
            (10.0, 0.0, Status::Ok),
        ] {
            let group = Group { name: "/app".to_owned(), limit: 100.0, used: Some(used), droppable };
            let report = judge_group(ProbeReport::new(""), Some(&group), &Limits::defaults(&SPEC));
            assert_eq!(report.status(), status, "{used} {droppable}");
        }
    }
}
