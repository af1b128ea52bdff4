//! One row a code: what is planted in a calm machine, what the probe must say, about which object.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::Utc;
use ops_core::quantity::DurationText;
use ops_core::{Bounds, Limits, Status, testing};
use ops_host::{HeartbeatConfig, HostConfig, LogConfig, Machine, ProcessConfig, host_registry};

use crate::explains;
use crate::machine::{Fake, append, context, later, line_at, look, look_at, probe_named};

struct Row {
    probe: &'static str,
    expected: Status,
    code: &'static str,
    object: &'static str,
    bounds: &'static [(&'static str, Bounds)],
    plant: fn(&Fake),
}

const fn from(warning: f64) -> Bounds {
    Bounds { warning: Some(warning), critical: None }
}

fn rows() -> Vec<Row> {
    kernel().into_iter().chain(services()).chain(told()).collect()
}

fn row(
    probe: &'static str,
    expected: Status,
    code: &'static str,
    object: &'static str,
    plant: fn(&Fake),
) -> Row {
    Row { probe, expected, code, object, bounds: &[], plant }
}

fn bounded(bounds: &'static [(&'static str, Bounds)], row: Row) -> Row {
    Row { bounds, ..row }
}

fn kernel() -> Vec<Row> {
    use Status::{Critical, Warning};
    vec![
        row("host.cpu", Warning, "host.cpu.busy", "cpu", |fake| {
            fake.edit("proc/stat", "cpu  1000", "cpu  99000")
        }),
        row("host.cpu", Warning, "host.cpu.stolen", "cpu", |fake| {
            fake.edit("proc/stat", "cpu  1000 0 500 8000 100 0 10 0", "cpu  1000 0 500 9000 100 0 10 1000");
        }),
        row("host.memory", Critical, "host.memory.low", "memory", |fake| {
            fake.edit("proc/meminfo", "600000", "60000");
        }),
        row("host.memory", Critical, "host.memory.group_low", "control group", |fake| {
            fake.write("sys/fs/cgroup/app.slice/app.service/memory.current", "1000000\n");
            fake.edit("sys/fs/cgroup/app.slice/app.service/memory.stat", "100000", "10000");
        }),
        row("host.memory", Critical, "host.memory.oom_kill", "memory", |fake| {
            fake.edit("proc/vmstat", "oom_kill 3", "oom_kill 4");
        }),
        row("host.memory", Warning, "host.memory.swap", "swap", |fake| {
            fake.edit("proc/meminfo", "90000 kB", "9000 kB");
        }),
        bounded(
            const { &[("utilisation", from(90.0))] },
            row("host.io", Warning, "host.io.busy", "vda", |fake| {
                fake.edit("proc/diskstats", "0 1000 100", "0 99000000 100")
            }),
        ),
        bounded(
            const { &[("await", from(50.0))] },
            row("host.io", Warning, "host.io.slow", "vda", |fake| {
                fake.edit("proc/diskstats", "100 0 2000 50 100 0", "200 0 2000 50050 100 0");
            }),
        ),
        row("host.network", Warning, "host.network.errors", "eth0", |fake| {
            fake.edit("proc/net/dev", "eth0: 1 1000 0", "eth0: 1 2000 500");
        }),
        bounded(
            const { &[("drops", from(5.0))] },
            row("host.network", Warning, "host.network.drops", "eth0", |fake| {
                fake.edit("proc/net/dev", "eth0: 1 1000 0 0", "eth0: 1 2000 0 500");
            }),
        ),
        bounded(
            const { &[("per_cpu", from(2.0))] },
            row("host.load", Warning, "host.load.high", "load", |fake| {
                fake.edit("proc/loadavg", "0.40", "4.00")
            }),
        ),
        row("host.clock", Warning, "host.clock.unsynchronised", "clock", |fake| {
            fake.edit("clock", "NTPSynchronized=yes", "NTPSynchronized=no");
        }),
        row("host.clock", Critical, "host.clock.skew", "main", |fake| fake.write("server-clock", "-75")),
    ]
}

fn services() -> Vec<Row> {
    use Status::{Critical, Warning};
    vec![
        row("host.process", Critical, "host.process.missing", "app (--port 80)", |fake| {
            std::fs::remove_dir_all(fake.path("proc/100")).unwrap();
            fake.process(101, "other", 10);
        }),
        row("host.process", Warning, "host.process.restarted", "app (--port 80)", |fake| {
            fake.process(100, "app", 400_000)
        }),
        row("host.process", Critical, "host.process.files", "app (--port 80)", |fake| {
            (2..9).for_each(|file| fake.write(&format!("proc/100/fd/{file}"), ""));
        }),
        bounded(
            const { &[("memory", from(3e6))] },
            row("host.process", Warning, "host.process.memory", "app (--port 80)", |fake| {
                fake.process(101, "app", 2000)
            }),
        ),
        row("host.service", Critical, "host.service.down", "app.service", |fake| {
            fake.edit(
                "units/app.service",
                "ActiveState=active\nSubState=running",
                "ActiveState=failed\nSubState=failed",
            );
        }),
        row("host.service", Warning, "host.service.starting", "app.service", |fake| {
            fake.edit(
                "units/app.service",
                "ActiveState=active\nSubState=running",
                "ActiveState=activating\nSubState=start",
            );
        }),
        row("host.service", Warning, "host.service.restarted", "app.service", |fake| {
            fake.edit("units/app.service", "NRestarts=0", "NRestarts=2");
        }),
        row("host.timer", Critical, "host.timer.inactive", "backup.timer", |fake| {
            fake.edit(
                "units/backup.timer",
                "ActiveState=active\nSubState=waiting",
                "ActiveState=inactive\nSubState=dead",
            );
        }),
        row("host.timer", Critical, "host.timer.missed", "backup.timer", |fake| {
            fake.edit("units/backup.timer", "Thu 2098-01-02", "Thu 2025-01-02");
        }),
        row("host.timer", Critical, "host.timer.failed", "backup.timer", |fake| {
            fake.edit("units/backup.service", "Result=success", "Result=exit-code");
        }),
        row("host.timer", Warning, "host.timer.running", "backup.timer", |fake| {
            fake.edit(
                "units/backup.service",
                "ActiveState=inactive\nSubState=dead",
                "ActiveState=activating\nSubState=start",
            );
        }),
    ]
}

fn told() -> Vec<Row> {
    use Status::Critical;
    vec![
        row("host.log", Critical, "host.log.match", "logs/app.log", |fake| {
            append(&fake.path("logs/app.log"), &line_at(Utc::now(), "PANIC:  could not write to file"));
        }),
        row("host.log", Critical, "host.log.match", "journal of app.service", |fake| {
            fake.write(
                "journal/app.service",
                "2026-01-05 08:00:00 UTC [1] XX002 ERROR:  index \"i\" is damaged\n",
            );
        }),
        row("job.heartbeat", Critical, "job.heartbeat.late", "backup", |fake| {
            fake.write("beats/backup", &(Utc::now() - Duration::from_secs(8000)).to_rfc3339());
        }),
        row("job.heartbeat", Critical, "job.heartbeat.missing", "backup", |fake| {
            std::fs::remove_file(fake.path("beats/backup")).unwrap();
        }),
    ]
}

/// Everything that can be configured, and is well.
fn calm(fake: &Fake) -> HostConfig {
    append(&fake.path("logs/app.log"), &line_at(Utc::now(), "LOG:  checkpoint complete"));
    fake.write("journal/app.service.last", "started\n");
    fake.write("journal/app.service", "started\n");
    fake.write("beats/backup", &Utc::now().to_rfc3339());
    let (hour, minute) = (DurationText(Duration::from_secs(3600)), DurationText(Duration::from_secs(60)));
    HostConfig::default()
        .with_process(ProcessConfig::new("app").with_command_line("--port 80"))
        .with_service("app")
        .with_timer("backup")
        .with_log(LogConfig::file(fake.path("logs/app.log")))
        .with_log(LogConfig::journal("app.service"))
        .with_heartbeats(HeartbeatConfig::new(fake.path("beats")).with_job("backup", hour, Some(minute)))
}

#[test]
fn every_registered_probe_and_code_has_a_row() {
    // The mounts' rows stand beside them.
    let specs = || host_registry().iter().map(|probe| probe.spec()).filter(|spec| spec.name != "host.disk");
    let registered: BTreeSet<_> = specs().map(|spec| spec.name).collect();
    assert_eq!(registered, rows().iter().map(|row| row.probe).collect());
    let codes: BTreeSet<_> = specs().flat_map(|spec| spec.explanation.codes).map(|(code, _)| *code).collect();
    assert_eq!(codes, rows().iter().map(|row| row.code).collect());
    specs().for_each(explains::itself);
}

#[tokio::test]
async fn each_probe_finds_its_plant() {
    for row in rows() {
        let fake = Fake::new();
        let config = calm(&fake);
        let cx = context();
        let target = fake.target(config);
        let first = look_at(&cx, row.probe, &target, &[]).await;
        // The calm counters stand still, which a processor's never do.
        if row.probe != "host.cpu" {
            assert_eq!((first.status, first.findings.len()), (Status::Ok, 0), "{}: {first:#?}", row.code);
        }
        (row.plant)(&fake);
        let cx = later(&cx, Duration::from_secs(60));
        let result = look_at(&cx, row.probe, &target, row.bounds).await;
        assert_eq!(result.status, row.expected, "{}: {result:#?}", row.code);
        let found: Vec<_> = result.findings.iter().map(|finding| finding.code.as_ref()).collect();
        assert_eq!(found, [row.code], "{result:#?}");
        let object = result.findings[0].object.as_deref().unwrap();
        assert!(object.ends_with(row.object), "{object} is not {}", row.object);
        explains::findings_of(probe_named(row.probe).spec(), &result);
    }
}

#[tokio::test]
async fn every_probe_keeps_the_rules() {
    let fake = Fake::new();
    let config = calm(&fake);
    let mut tasks = tokio::task::JoinSet::new();
    for probe in host_registry() {
        let target = fake.target(config.clone());
        tasks.spawn(async move {
            testing::health_probe(&target.bind(*probe, Limits::defaults(probe.spec())), &[]).await;
        });
    }
    tasks.join_all().await;
}

/// Nothing is taken for well that is not there to be seen.
#[tokio::test]
async fn what_shows_nothing_is_unknown() {
    let empty = tempfile::tempdir().unwrap();
    let nowhere = Machine::default()
        .with_proc(empty.path())
        .with_sys(empty.path())
        .with_run(empty.path())
        .with_journalctl(empty.path().join("journalctl"));
    let config = HostConfig::default()
        .with_process(ProcessConfig::new("app"))
        .with_service("app")
        .with_timer("backup")
        .with_log(LogConfig::file(empty.path().join("app.log")))
        .with_log(LogConfig::journal("app"))
        .with_heartbeats(HeartbeatConfig::new(empty.path().join("beats")).with_job(
            "backup",
            DurationText(Duration::from_secs(1)),
            None,
        ));
    for probe in host_registry().iter().map(|probe| probe.spec().name).filter(|name| *name != "host.disk") {
        let result = look(&context(), probe, config.clone(), nowhere.clone(), &[]).await;
        assert_eq!(result.status, Status::Unknown, "{result:#?}");
    }
}

#[tokio::test]
async fn what_is_not_configured_does_not_apply() {
    let asked = ["host.process", "host.service", "host.timer", "host.log", "job.heartbeat"];
    for probe in asked {
        let result = look(&context(), probe, HostConfig::default(), Machine::default(), &[]).await;
        assert_eq!(result.status, Status::NotApplicable, "{result:#?}");
    }
}

/// Debian's postgresql.service is active whatever becomes of the servers.
#[tokio::test]
async fn debians_clusters_are_judged_in_place_of_their_stand_in() {
    let fake = Fake::new();
    let stand_in = "Type=oneshot\nNRestarts=0\nResult=success\nId=postgresql.service\n\
                    Wants=postgresql@17-main.service\nLoadState=loaded\nActiveState=active\nSubState=exited\n";
    fake.write("units/postgresql.service", stand_in);
    fake.write("units/postgresql@17-main.service", "Type=forking\nNRestarts=0\nResult=exit-code\nLoadState=loaded\nActiveState=failed\nSubState=failed\n");
    let config = HostConfig::default().with_service("postgresql");
    let result = look(&context(), "host.service", config.clone(), fake.machine(), &[]).await;
    let found: Vec<_> = result.findings.iter().map(|f| (f.code.as_ref(), f.object.as_deref())).collect();
    assert_eq!(found, [("host.service.down", Some("postgresql@17-main.service"))], "{result:#?}");
    fake.edit("units/postgresql.service", "Wants=postgresql@17-main.service", "Wants=");
    let result = look(&context(), "host.service", config, fake.machine(), &[]).await;
    assert_eq!(result.status, Status::Unknown, "{result:#?}");
}

#[tokio::test]
async fn a_unit_that_systemd_does_not_know_is_unknown() {
    let fake = Fake::new();
    let config = HostConfig::default().with_service("nope").with_timer("nope");
    for probe in ["host.service", "host.timer"] {
        let result = look(&context(), probe, config.clone(), fake.machine(), &[]).await;
        assert_eq!(result.status, Status::Unknown, "{result:#?}");
    }
}

#[tokio::test]
async fn a_journal_that_is_closed_or_silent_is_unknown() {
    let fake = Fake::new();
    let config = HostConfig::default().with_log(LogConfig::journal("app.service"));
    let silent = look(&context(), "host.log", config.clone(), fake.machine(), &[]).await;
    assert!(
        silent.status == Status::Unknown && silent.unseen[0].what.contains("holds nothing"),
        "{silent:#?}"
    );
    fake.write(
        "journal.hint",
        "Hint: You are currently not seeing messages from other users and the system.\n      Users in groups 'adm' …\n",
    );
    let closed = look(&context(), "host.log", config, fake.machine(), &[]).await;
    assert_eq!(closed.status, Status::Unknown, "{closed:#?}");
    assert_eq!(closed.unseen[0].fix.as_deref(), Some("usermod -aG systemd-journal USER"));
}

/// The machine that the suite runs on: whatever its state, it is seen or said to be unseen.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn this_machine_is_seen() {
    let cx = context();
    for probe in ["host.cpu", "host.memory", "host.io", "host.network", "host.load"] {
        let result = look(&cx, probe, HostConfig::default(), Machine::default(), &[]).await;
        assert!(!result.measurements.is_empty() || result.status == Status::Unknown, "{result:#?}");
        assert!(!result.summary.is_empty(), "{result:#?}");
    }
    let load = look(&cx, "host.load", HostConfig::default(), Machine::default(), &[]).await;
    assert_eq!((load.status, load.measurements.len()), (Status::Ok, 4));
    let booted = std::path::Path::new("/run/systemd/system").is_dir();
    let config = HostConfig::default().with_service("dbus").with_timer("logrotate");
    for probe in ["host.service", "host.timer", "host.clock"] {
        let result = look(&cx, probe, config.clone(), Machine::default(), &[]).await;
        assert!(booted || result.status == Status::Unknown, "{result:#?}");
    }
}
