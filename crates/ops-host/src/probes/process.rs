//! `host.process`: processes that must run.

mod look;

use std::collections::BTreeMap;

use async_trait::async_trait;
use ops_core::window::Window;
use ops_core::{
    Context, Direction, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy, Result,
    Severity, ThresholdSpec, Unit,
};
use serde_json::json;

use self::look::{Files, Group, Main, look};
use super::windowed;
use crate::config::ProcessConfig;
use crate::host::{HostProbe, HostTarget};

/// Ticks per second in what the kernel tells programs (USER_HZ), on every architecture that is in use.
const TICKS: f64 = 100.0;

pub(crate) static SPEC: ProbeSpec = ProbeSpec {
    name: "host.process",
    group: "services",
    explanation: Explanation {
        why: "A process that is gone serves nobody; one that was replaced has lost its caches and connections; one \
              without file descriptors accepts no connection, and its log says something else.",
        measures: "For each of processes, by the name of its program and text in its command line: how many run; the \
                   oldest of them, its age, and whether it was replaced since the last check (or within two samples \
                   1 s apart); its open files, of those allowed; the resident memory of all (what they share is \
                   counted for each). A process that has ended and is not waited for yet (a zombie) runs no more.",
        queries: &[
            ("who runs, since when, and whether it is a zombie", "/proc/PID/stat, /proc/PID/cmdline"),
            ("VmRSS", "/proc/PID/status"),
            ("open files; closed to other users than root and its own", "/proc/PID/fd, /proc/PID/limits"),
        ],
        codes: &[
            ("host.process.missing", "no such process runs"),
            ("host.process.restarted", "the process is another one than before"),
            ("host.process.files", "it has nearly as many files open as it may"),
            ("host.process.memory", "its processes hold more memory than configured"),
        ],
        versions: "Linux; elsewhere unknown",
        cost: "two small files for each process of the machine; a second look where no earlier sample is stored",
        remedy: "The log of the service tells why it ended. Open files: raise LimitNOFILE of its unit, after ls -l \
                 /proc/PID/fd has told what they are.",
    },
    thresholds: &[
        ThresholdSpec {
            name: "files",
            meaning: "open files, of those allowed",
            unit: Unit::Percent,
            direction: Direction::Above,
            warning: Some(80.0),
            critical: Some(90.0),
            source: "as for connections: at the limit a process accepts no more",
        },
        ThresholdSpec {
            name: "memory",
            meaning: "the resident memory of all of its processes",
            unit: Unit::Bytes,
            direction: Direction::Above,
            warning: None,
            critical: None,
            source: "none by default: what is much depends on the process",
        },
    ],
    requires: &[],
};

/// See [`SPEC`].
#[derive(Debug)]
pub(crate) struct Process;

#[async_trait]
impl HostProbe for Process {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    async fn probe(&self, cx: &Context, host: &HostTarget, limits: &Limits) -> Result<ProbeReport> {
        let wanted = &host.config().processes;
        if wanted.is_empty() {
            return Ok(ProbeReport::not_applicable("no processes are configured for this host"));
        }
        let groups = look(cx, host).await?;
        let uptime = host.machine().proc("uptime")?;
        let uptime: f64 =
            uptime.split_whitespace().next().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN);
        let report = judge(wanted, &groups, uptime, limits);
        if groups.iter().all(|group| group.main.is_none()) {
            return Ok(report);
        }
        let take = async || Ok(starts(wanted, &look(cx, host).await?));
        Ok(match windowed::rise(cx, host, SPEC.name, take).await? {
            Ok(window) => judge_restarts(report, wanted, &window),
            Err(_) => report.unseen("restarts: there is nothing to compare with yet", None),
        })
    }
}

fn shown(wanted: &ProcessConfig) -> String {
    match &wanted.command_line {
        Some(text) => format!("{} ({text})", wanted.name),
        None => wanted.name.clone(),
    }
}

/// When each began; 0 for what does not run, so that what comes back differs from what is configured anew.
fn starts(wanted: &[ProcessConfig], groups: &[Group]) -> BTreeMap<String, f64> {
    let start = |group: &Group| group.main.as_ref().map_or(0.0, |main| main.started_ticks);
    wanted.iter().zip(groups).map(|(wanted, group)| (shown(wanted), start(group))).collect()
}

fn judge(wanted: &[ProcessConfig], groups: &[Group], uptime: f64, limits: &Limits) -> ProbeReport {
    let mut report = ProbeReport::new("");
    let mut lines = Vec::new();
    for (wanted, group) in wanted.iter().zip(groups) {
        let name = shown(wanted);
        report = report
            .measure(Measurement::new("processes", group.count as f64, Unit::Count).label("process", &name));
        let Some(main) = &group.main else {
            lines.push(format!("{name} does not run"));
            let left = match group.zombies {
                0 => "",
                1 => ": only a zombie is left, whose parent has not asked how it ended",
                _ => ": only zombies are left, whose parents have not asked how they ended",
            };
            report = report.finding(
                Finding::critical("host.process.missing", format!("no process {name} runs{left}"))
                    .object(&name)
                    .evidence(json!({"zombies": group.zombies}))
                    .remedy(
                        Remedy::statement(format!("systemctl status {}", wanted.name))
                            .because("or its log tells why"),
                    ),
            );
            continue;
        };
        let age = Measurement::new("age", uptime - main.started_ticks / TICKS, Unit::Seconds)
            .label("process", &name);
        lines.push(format!("{name} has run for {}", age.format()));
        let memory = Measurement::new("memory", group.resident, Unit::Bytes)
            .judged_by(limits.get("memory"))
            .label("process", &name);
        let large = Severity::of(memory.status()).map(|severity| {
            let message = format!("{name} holds {} in {} processes", memory.format(), group.count);
            Finding::new(severity, "host.process.memory", message)
                .object(&name)
                .evidence(json!({"processes": group.count, "resident": group.resident}))
                .remedy(
                    Remedy::statement("ps -eo rss,pid,args --sort=-rss | head -15")
                        .because("shows which of them"),
                )
        });
        report = judge_files(report.measure(age).measure(memory).findings(large), &name, main, limits);
    }
    report.summary(lines.join("; "))
}

fn judge_files(report: ProbeReport, name: &str, main: &Main, limits: &Limits) -> ProbeReport {
    let untold =
        |report: ProbeReport, why: &str| report.unseen(format!("the open files of {name}: {why}"), None);
    let (open, allowed) = match &main.files {
        Files::Open(open, allowed) => (*open, *allowed),
        Files::Unlimited(open) => {
            let count = Measurement::new("open_files", *open, Unit::Count).label("process", name);
            return report.measure(count);
        }
        Files::Closed => return untold(report, "only root and the user it runs as may see them"),
        Files::Untold(why) => return untold(report, why),
        Files::Unasked => return untold(report, "they were not asked for"),
    };
    let share = Measurement::new("files", open / allowed * 100.0, Unit::Percent)
        .judged_by(limits.get("files"))
        .label("process", name);
    let finding = Severity::of(share.status()).map(|severity| {
        let counts = format!("{} of {}", Unit::Count.format(open), Unit::Count.format(allowed));
        Finding::new(severity, "host.process.files", format!("{name} has {counts} files open"))
            .object(name)
            .evidence(json!({"pid": main.pid, "open": open, "allowed": allowed}))
            .remedy(Remedy::statement(format!("ls -l /proc/{}/fd", main.pid)).because("tells what they are"))
    });
    report.measure(share).findings(finding)
}

fn judge_restarts(report: ProbeReport, wanted: &[ProcessConfig], window: &Window) -> ProbeReport {
    // One that was not watched then may have run all along.
    let replaced = |name: &String| window.delta(name) > 0.0 && !window.appeared(name);
    wanted.iter().map(shown).filter(replaced).fold(report, |report, name| {
        let within = Unit::Seconds.format(window.length.as_secs_f64());
        let message = format!("{name} is not the process that it was {within} ago");
        let finding = Finding::warning("host.process.restarted", message)
            .object(&name)
            .remedy(Remedy::advice("its log, or that of the kernel (dmesg), tells why the former one ended"));
        report.finding(finding)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::HostConfig;
    use crate::machine::Machine;
    use ops_core::{HealthProbe, Status};

    /// A `/proc` with one process `app` of this state and so many threads.
    fn proc_with(state: &str, threads: u32, limit: &str) -> (tempfile::TempDir, HostTarget) {
        let dir = tempfile::tempdir().unwrap();
        let zeros = "0 ".repeat(13);
        std::fs::create_dir_all(dir.path().join("7/fd")).unwrap();
        let write = |file: &str, text: &str| std::fs::write(dir.path().join(file), text).unwrap();
        write("7/stat", &format!("7 (app) {state} 1 1 1 {zeros}{threads} 0 1000 0 0\n"));
        write("7/limits", &format!("Max open files            {limit}            {limit}     files\n"));
        write("uptime", "5000.00 1.00\n");
        let config = HostConfig::default().with_process(ProcessConfig::new("app"));
        let host = HostTarget::on("here", config, Machine::default().with_proc(dir.path()));
        (dir, host)
    }

    #[tokio::test]
    async fn a_zombie_runs_no_more() {
        for (state, threads, count, zombies) in
            [("S", 1, 1, 0), ("Z", 1, 0, 1), ("X", 0, 0, 1), ("Z", 4, 1, 0)]
        {
            let (_dir, host) = proc_with(state, threads, "1024");
            let groups = look(&Context::new(), &host).await.unwrap();
            assert_eq!((groups[0].count, groups[0].zombies), (count, zombies), "{state} {threads}");
            let report = judge(&host.config().processes, &groups, 5000.0, &Limits::defaults(&SPEC));
            let left =
                report.found().first().map(|finding| finding.message.contains("only a zombie is left"));
            assert_eq!(left, (zombies > 0).then_some(true), "{report:?}");
        }
    }

    #[tokio::test]
    async fn files_without_a_limit_are_seen() {
        for (limit, measured, unseen) in [
            ("1024", Some("files"), None),
            ("unlimited", Some("open_files"), None),
            ("many", None, Some("many")),
        ] {
            let (_dir, host) = proc_with("S", 1, limit);
            let groups = look(&Context::new(), &host).await.unwrap();
            let report = judge(&host.config().processes, &groups, 5000.0, &Limits::defaults(&SPEC));
            let named = |name: &str| report.measured().iter().any(|measured| measured.name == name);
            assert!(measured.is_none_or(named), "{report:?}");
            let expected = if unseen.is_some() { Status::Unknown } else { Status::Ok };
            assert_eq!(report.status(), expected, "{report:?}");
            assert!(unseen.is_none_or(|why| format!("{report:?}").contains(why)), "{report:?}");
        }
    }

    #[tokio::test]
    async fn what_is_configured_between_two_checks_was_not_restarted() {
        let (dir, host) = proc_with("S", 1, "1024");
        let cx = Context::new().with_window_gap(std::time::Duration::from_millis(1));
        let look = async |config: &HostConfig| {
            let host = HostTarget::on("here", config.clone(), host.machine().clone());
            let report = Process.probe(&cx, &host, &Limits::defaults(&SPEC)).await.unwrap();
            report.found().iter().map(|finding| finding.code.to_string()).collect::<Vec<_>>()
        };
        let config = HostConfig::default().with_process(ProcessConfig::new("app"));
        assert_eq!(look(&config).await, [""; 0]);
        std::fs::create_dir(dir.path().join("8")).unwrap();
        let stat = std::fs::read_to_string(dir.path().join("7/stat")).unwrap();
        std::fs::write(dir.path().join("8/stat"), stat.replace("7 (app)", "8 (job)")).unwrap();
        let both = config.with_process(ProcessConfig::new("job"));
        assert_eq!(look(&both).await, [""; 0]);
        // What has gone, and comes back, was.
        std::fs::rename(dir.path().join("8"), dir.path().join("gone")).unwrap();
        assert_eq!(look(&both).await, ["host.process.missing"]);
        std::fs::rename(dir.path().join("gone"), dir.path().join("8")).unwrap();
        assert_eq!(look(&both).await, ["host.process.restarted"]);
    }

    #[tokio::test]
    async fn this_machine_runs_this_test() {
        let own = std::env::current_exe().unwrap();
        let own = own.file_name().unwrap().to_str().unwrap().to_owned();
        let config = HostConfig::default()
            .with_process(ProcessConfig::new(own))
            .with_process(ProcessConfig::new("no-such"));
        let cx = Context::new().with_window_gap(std::time::Duration::from_millis(10));
        let bound = HostTarget::new("here", config).bind(&Process, Limits::defaults(&SPEC));
        let report = bound.probe(&cx).await.unwrap();
        // Other tests run by the same name at the same time, and the oldest of them may end meanwhile.
        let missing = report.found().iter().filter(|finding| finding.code == "host.process.missing");
        let missing: Vec<_> = missing.map(|finding| finding.object.as_deref()).collect();
        assert_eq!((report.status(), missing), (Status::Critical, vec![Some("no-such")]));
        let files = report.measured().iter().find(|measured| measured.name == "files").unwrap();
        assert!(files.value > 0.0 && files.value < 100.0);
    }
}
