//! `host.process`: processes that must run.

use std::collections::BTreeMap;
use std::path::Path;

use async_trait::async_trait;
use ops_core::window::Window;
use ops_core::{
    Context, Direction, Error, ErrorKind, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec,
    Remedy, Result, Severity, ThresholdSpec, Unit,
};
use serde_json::json;

use super::windowed;
use crate::apart::apart;
use crate::config::ProcessConfig;
use crate::host::{HostProbe, HostTarget};

/// The kernel cuts a program's name to these many bytes.
const NAME_BYTES: usize = 15;
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
                   counted for each).",
        queries: &[
            ("/proc/PID/stat, /proc/PID/cmdline", "who runs, and since when"),
            ("/proc/PID/status", "VmRSS"),
            ("/proc/PID/fd, /proc/PID/limits", "open files; closed to other users than root and its own"),
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

/// The processes that one configured entry means.
#[derive(Clone, Debug, Default, PartialEq)]
struct Group {
    count: usize,
    resident: f64,
    main: Option<Main>,
}

/// The oldest of a group: a server that started the others.
#[derive(Clone, Debug, PartialEq)]
struct Main {
    pid: u32,
    started_ticks: f64,
    files: Option<(f64, f64)>,
}

/// On a thread of its own: to read a command line the kernel waits for the process's memory.
async fn look(cx: &Context, host: &HostTarget) -> Result<Vec<Group>> {
    let (proc, wanted) = (host.machine().proc.clone(), host.config().processes.clone());
    apart(cx, "list the processes", move || {
        let unreadable = |error: std::io::Error| {
            Error::new(ErrorKind::Unsupported, "list the processes")
                .on(proc.display().to_string())
                .because(error.to_string())
        };
        let mut groups = vec![Group::default(); wanted.len()];
        let mut any = false;
        for entry in std::fs::read_dir(&proc).map_err(unreadable)?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            // It may end while it is looked at.
            let Some((name, started)) = stat(&entry.path()) else { continue };
            any = true;
            let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            for (group, _) in groups.iter_mut().zip(&wanted).filter(|(_, wanted)| is(wanted, &name, &command))
            {
                group.count += 1;
                group.resident += resident(&entry.path());
                if group.main.as_ref().is_none_or(|main| started < main.started_ticks) {
                    group.main = Some(Main { pid, started_ticks: started, files: None });
                }
            }
        }
        if !any {
            return Err(unreadable(std::io::Error::other("it shows no processes")));
        }
        for main in groups.iter_mut().filter_map(|group| group.main.as_mut()) {
            main.files = files(&proc.join(main.pid.to_string()));
        }
        Ok(groups)
    })
    .await
}

/// Name and start of a process. The name stands in parentheses, and may hold some itself.
fn stat(dir: &Path) -> Option<(String, f64)> {
    let text = std::fs::read_to_string(dir.join("stat")).ok()?;
    let (head, rest) = text.rsplit_once(") ")?;
    let name = head.split_once('(')?.1.to_owned();
    // The 22nd field, of which the rest begins with the third.
    let started = rest.split_whitespace().nth(19)?.parse().ok()?;
    Some((name, started))
}

fn is(wanted: &ProcessConfig, name: &str, command: &[u8]) -> bool {
    let words = String::from_utf8_lossy(command).replace('\0', " ");
    let program = command.split(|byte| *byte == 0).next().unwrap_or_default();
    let program = String::from_utf8_lossy(program);
    let program = program.rsplit('/').next().unwrap_or_default();
    let cut = wanted.name.as_bytes().get(..NAME_BYTES).unwrap_or(wanted.name.as_bytes());
    let named = program == wanted.name || name.as_bytes() == cut;
    named && wanted.command_line.as_ref().is_none_or(|text| words.contains(text.as_str()))
}

fn resident(dir: &Path) -> f64 {
    let status = std::fs::read_to_string(dir.join("status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok()).unwrap_or(0.0) * 1024.0
}

/// Open files, and how many may be.
fn files(dir: &Path) -> Option<(f64, f64)> {
    let open = std::fs::read_dir(dir.join("fd")).ok()?.count() as f64;
    let limits = std::fs::read_to_string(dir.join("limits")).ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    Some((open, line.split_whitespace().next()?.parse().ok()?))
}

fn shown(wanted: &ProcessConfig) -> String {
    match &wanted.command_line {
        Some(text) => format!("{} ({text})", wanted.name),
        None => wanted.name.clone(),
    }
}

fn starts(wanted: &[ProcessConfig], groups: &[Group]) -> BTreeMap<String, f64> {
    let start =
        |(wanted, group): (&ProcessConfig, &Group)| Some((shown(wanted), group.main.as_ref()?.started_ticks));
    wanted.iter().zip(groups).filter_map(start).collect()
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
            report = report.finding(
                Finding::critical("host.process.missing", format!("no process {name} runs"))
                    .object(&name)
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
    let Some((open, allowed)) = main.files else {
        let what = format!("the open files of {name}: only root and the user it runs as may see them");
        return report.unseen(what, None);
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
    wanted.iter().map(shown).filter(|name| window.delta(name) > 0.0).fold(report, |report, name| {
        let within = Unit::Seconds.format(window.length.as_secs_f64());
        let message = format!("{name} is another process than {within} ago");
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
    use ops_core::{HealthProbe, Status};

    #[test]
    fn a_process_is_told_by_program_and_command_line() {
        let command = b"/usr/lib/postgresql/17/bin/postgres\0-D\0/var/lib/postgresql/17/main\0";
        for (config, name, expected) in [
            (ProcessConfig::new("postgres"), "postgres", true),
            (ProcessConfig::new("postgres").with_command_line("17/main"), "postgres", true),
            (ProcessConfig::new("postgres").with_command_line("15/main"), "postgres", false),
            (ProcessConfig::new("post"), "postgres", false),
            (ProcessConfig::new("systemd-timesyncd"), "systemd-timesyn", true),
        ] {
            assert_eq!(is(&config, name, command), expected, "{config:?}");
        }
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
        let found: Vec<_> = report.found().iter().map(|f| (f.code.as_ref(), f.object.as_deref())).collect();
        assert_eq!(
            (report.status(), found),
            (Status::Critical, vec![("host.process.missing", Some("no-such"))])
        );
        let files = report.measured().iter().find(|measured| measured.name == "files").unwrap();
        assert!(files.value > 0.0 && files.value < 100.0);
    }
}
