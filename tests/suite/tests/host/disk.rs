use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use chrono::TimeDelta;
use ops_core::state::{History, Point};
use ops_core::{Bounds, Context, Limits, MemoryState, ProbeResult, ProbeSet, Status};
use ops_host::{HostConfig, HostTarget};

use crate::explains;
use crate::machine::probe_named;

struct Row {
    probe: &'static str,
    expected: Status,
    code: &'static str,
    plant: fn(&Path),
}

/// The object of each is the mount.
fn rows() -> Vec<Row> {
    let row = |code, plant| Row { probe: "host.disk", expected: Status::Critical, code, plant };
    vec![
        row("host.disk.full", |mount| std::fs::write(mount.join("big"), vec![0; 980 * 1024]).unwrap()),
        row("host.disk.inodes", |mount| {
            (0..60).for_each(|file| std::fs::write(mount.join(file.to_string()), "").unwrap());
        }),
        row("host.disk.read_only", |mount| {
            let remounted = Command::new("mount").args(["-o", "remount,ro"]).arg(mount).status();
            assert!(remounted.unwrap().success());
        }),
    ]
}

/// A file system of 1 MiB and 64 inodes, unmounted when dropped.
struct Mount(tempfile::TempDir);

impl Mount {
    /// `None`, after a loud line, where this process may not mount.
    fn new() -> Option<Self> {
        let dir = tempfile::Builder::new().prefix("ops-disk-").tempdir().unwrap();
        let options = ["-t", "tmpfs", "-o", "size=1m,nr_inodes=64", "ops-test"];
        let mounted = Command::new("mount").args(options).arg(dir.path()).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(dir)),
            other => {
                eprintln!("SKIPPED: mounting needs root: {other:?}");
                None
            }
        }
    }

    fn path(&self) -> PathBuf {
        // As the table of mounts writes it.
        self.0.path().canonicalize().unwrap()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.0.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "{} stays mounted", self.0.path().display());
    }
}

async fn look(config: HostConfig, bounds: &[(&str, Bounds)]) -> ProbeResult {
    let probe = probe_named("host.disk");
    let limits = bounds
        .iter()
        .fold(Limits::defaults(probe.spec()), |limits, (name, bounds)| limits.with(name, *bounds).unwrap());
    let mut set = ProbeSet::new("test");
    set.add_grouped("here", None, probe.spec().group, HostTarget::new("here", config).bind(probe, limits));
    set.run(&Context::new()).await.probes.remove(0)
}

#[test]
fn every_code_has_a_row() {
    let spec = probe_named("host.disk").spec();
    let codes: BTreeSet<_> = spec.explanation.codes.iter().map(|(code, _)| *code).collect();
    // What takes a history has a test of its own.
    let planted = rows().into_iter().map(|row| row.code).chain(["host.disk.filling"]);
    assert_eq!(codes, planted.collect());
    assert!(rows().iter().all(|row| row.probe == spec.name));
    explains::itself(spec);
}

/// By what was measured within the last day: a file system that loses a twelfth of what it has left each hour.
#[tokio::test]
async fn what_fills_up_is_foretold() {
    let Some(mount) = Mount::new() else { return };
    let probe = probe_named("host.disk");
    let host = HostTarget::new("here", HostConfig::default().with_mounts([mount.path()]));
    let state = Arc::new(MemoryState::default());
    let cx = Context::new().with_history(state.clone());
    let look = async || {
        let mut set = ProbeSet::new("test");
        set.add_grouped("here", None, probe.spec().group, host.bind(probe, Limits::defaults(probe.spec())));
        set.run(&cx).await
    };
    let before = look().await;
    assert_eq!((before.status, before.probes[0].findings.len()), (Status::Ok, 0), "{before:#?}");
    let now =
        Point::of_report(&before).into_iter().find(|point| point.series.measurement == "available").unwrap();
    let points: Vec<_> = (1..24)
        .map(|hours| Point {
            at: now.at - TimeDelta::hours(hours),
            value: now.value * (1.0 + hours as f64 / 12.0),
            series: now.series.clone(),
        })
        .collect();
    state.record(&points).await.unwrap();
    let result = look().await.probes.remove(0);
    let found: Vec<_> = result.findings.iter().map(|f| (f.code.as_ref(), f.object.as_deref())).collect();
    assert_eq!(found, [("host.disk.filling", mount.path().to_str())], "{result:#?}");
    assert!(result.findings[0].message.contains("is full in 12 h"), "{result:#?}");
}

#[tokio::test]
async fn each_probe_finds_its_plant() {
    for row in rows() {
        let Some(mount) = Mount::new() else { return };
        let config = HostConfig::default().with_mounts([mount.path()]);
        let before = look(config.clone(), &[]).await;
        assert_eq!((before.status, before.findings.len()), (Status::Ok, 0), "{before:#?}");

        (row.plant)(&mount.path());
        let result = look(config, &[]).await;
        assert_eq!(result.status, row.expected, "{result:#?}");
        let object = mount.path().display().to_string();
        let found: Vec<_> = result.findings.iter().map(|f| (f.code.as_ref(), f.object.as_deref())).collect();
        assert_eq!(found, [(row.code, Some(object.as_str()))], "{result:#?}");
        explains::findings_of(probe_named("host.disk").spec(), &result);
    }
}

/// On a machine that lets us mount nothing, too.
#[tokio::test]
async fn what_is_mounted_here_is_judged_by_its_bounds() {
    let everything = Bounds { warning: Some(0.0), critical: None };
    let never = Bounds { warning: Some(101.0), critical: Some(101.0) };
    let calm = look(HostConfig::default(), &[("used", never), ("inodes", never)]).await;
    assert!(!calm.measurements.is_empty() && calm.unseen.is_empty(), "{calm:#?}");
    assert!(calm.findings.iter().all(|finding| finding.code == "host.disk.read_only"), "{calm:#?}");

    let bounds = [("used", everything), ("inodes", never)];
    let result = look(HostConfig::default(), &bounds).await;
    let full = |finding: &&ops_core::Finding| finding.code == "host.disk.full" && finding.object.is_some();
    assert!(result.status == Status::Warning && result.findings.iter().any(|f| full(&f)), "{result:#?}");
}

#[tokio::test]
async fn a_configured_mount_that_is_none_is_unknown() {
    let dir = tempfile::tempdir().unwrap();
    // A directory that exists is on another file system, whose figures would be the wrong disk's.
    for path in [dir.path().to_owned(), dir.path().join("nowhere")] {
        let result = look(HostConfig::default().with_mounts([path.clone()]), &[]).await;
        assert_eq!(result.status, Status::Unknown, "{result:#?}");
        let unseen = &result.unseen[0];
        assert!(unseen.what.contains(path.to_str().unwrap()), "{unseen:?}");
        assert_eq!(unseen.fix, Some(format!("mount {}", path.display())));
    }
}

#[tokio::test]
async fn a_missing_mount_hides_nothing_that_is_wrong_elsewhere() {
    let Some(mount) = Mount::new() else { return };
    (rows()[0].plant)(&mount.path());
    let result = look(HostConfig::default().with_mounts([mount.path(), "/nowhere".into()]), &[]).await;
    assert_eq!((result.status, result.unseen.len()), (Status::Critical, 1), "{result:#?}");
}
