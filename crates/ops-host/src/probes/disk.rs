//! `host.disk`: how full the file systems of this machine are.

mod ask;

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use ops_core::state::Series;
use ops_core::trend::{self, Trend};
use ops_core::{
    Context, Direction, ErrorKind, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy,
    Result, Severity, ThresholdSpec, Unit, words,
};
use serde_json::json;
use tokio::time::Instant;

use self::ask::{ANSWER_WITHIN, ask, wait};
use crate::host::{HostProbe, HostTarget};
use crate::mounts::{self, Mount, Usage};

const HOUR: f64 = 3600.0;

/// How far back the trend looks: a week has every day's jobs in it.
const TREND: Duration = Duration::from_secs(7 * 24 * 3600);

pub(crate) static SPEC: ProbeSpec = ProbeSpec {
    name: "host.disk",
    group: "host",
    explanation: Explanation {
        why: "A full disk stops a database at once, and the space to repair it is gone too. Inodes run out while \
              bytes are left. A kernel that meets a disk error remounts read-only, and every write fails from then.",
        measures: "For each mount: bytes used, of those used and available, as df computes it (what root keeps to \
                   itself is neither); inodes used; whether it is read-only; and, from the history of the last week \
                   (six hours of it at least, as `ops check` with an ops.toml keeps it), when what is available is \
                   gone, by a slope that outliers do not move and only where it surely falls. Without configured mounts, every device \
                   and network file system, once each; images (squashfs, iso9660), file systems in memory and the \
                   layers of containers are left out. This is the machine ops runs on, and no other.",
        queries: &[
            ("what is mounted, on Linux", "/proc/self/mounts"),
            ("what should be writable", "/etc/fstab"),
            ("the figures; given 2 s, so that a lost NFS server costs no more", "statvfs(mount)"),
        ],
        codes: &[
            ("host.disk.full", "a file system is nearly full"),
            ("host.disk.filling", "as it has filled up of late, a file system is full soon"),
            ("host.disk.inodes", "a file system has nearly no inodes left: no file can be made"),
            ("host.disk.read_only", "a file system is mounted read-only"),
        ],
        versions: "Linux and macOS",
        cost: "one statvfs for each mount, no server",
        remedy: "Find what grows: du -xh --max-depth=2 MOUNT | sort -h | tail. Of a database, remove nothing by hand \
                 in its data directory: look for a replication slot or a failing archive_command first.",
    },
    thresholds: &[
        ThresholdSpec {
            name: "used",
            meaning: "bytes used, of those used and available",
            unit: Unit::Percent,
            direction: Direction::Above,
            warning: Some(80.0),
            critical: Some(90.0),
            source: "the runbooks: clean up above 80 %, critical above 90 %",
        },
        ThresholdSpec {
            name: "inodes",
            meaning: "inodes used, of all",
            unit: Unit::Percent,
            direction: Direction::Above,
            warning: Some(80.0),
            critical: Some(90.0),
            source: "as for bytes: running out has the same effect",
        },
        ThresholdSpec {
            name: "full_in",
            meaning: "time until a file system is full, as it fills up",
            unit: Unit::Seconds,
            direction: Direction::Below,
            warning: Some(24.0 * HOUR),
            critical: Some(4.0 * HOUR),
            source: "node_exporter's mixin, NodeFilesystemSpaceFillingUp: 24 hours, and 4",
        },
    ],
    requires: &[],
};

/// See [`SPEC`].
#[derive(Debug)]
pub(crate) struct Disk;

#[async_trait]
impl HostProbe for Disk {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    async fn probe(&self, cx: &Context, host: &HostTarget, limits: &Limits) -> Result<ProbeReport> {
        let (asked, missing) = selected(host, mounts::list()?);
        if asked.is_empty() && missing.is_empty() {
            return Ok(ProbeReport::unknown("no device and no network file system is mounted here", None));
        }
        let wanted = mounts::wanted_writable();
        let until = Instant::now() + ANSWER_WITHIN;
        let answers: Vec<_> = asked.into_iter().map(|mount| (ask(host, &mount.path), mount)).collect();
        let mut seen = Vec::new();
        let mut report = ProbeReport::new("");
        for (answer, mount) in answers {
            match wait(cx, answer, until, &mount.path).await {
                Ok(usage) => {
                    let trend = match trend::of_series(cx, &available(host, &mount), TREND).await {
                        Ok(trend) => trend,
                        Err(error) => {
                            report = report.unseen(format!("how it fills up: {}", error.report()), None);
                            None
                        }
                    };
                    let must_be_writable = host.config().mounts.is_some() || wanted.contains(&mount.path);
                    seen.push(Seen { must_be_writable, mount, usage, trend });
                }
                Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
                Err(error) => report = report.unseen(error.report(), None),
            }
        }
        for path in missing {
            report = report.unseen(
                format!("{} is configured, and nothing is mounted there", path.display()),
                Some(format!("mount {}", path.display())),
            );
        }
        Ok(judge(report, &seen, limits))
    }
}

/// A mount with its figures.
#[derive(Clone, Debug)]
struct Seen {
    mount: Mount,
    usage: Usage,
    must_be_writable: bool,
    /// Of what is available.
    trend: Option<Trend>,
}

/// What [`judge`] measures as `available` of this mount.
fn available(host: &HostTarget, mount: &Mount) -> Series {
    Series {
        target: host.name().to_owned(),
        database: None,
        probe: SPEC.name.to_owned(),
        measurement: "available".to_owned(),
        labels: [("mount".to_owned(), mount.path.display().to_string())].into(),
        unit: Unit::Bytes,
    }
}

/// The mounts to look at, and the configured paths at which nothing is mounted. Such a path belongs to another
/// file system, and its figures would be those of the wrong disk.
fn selected(host: &HostTarget, mounted: Vec<Mount>) -> (Vec<Mount>, Vec<PathBuf>) {
    let Some(configured) = &host.config().mounts else {
        return (mounts::worth_watching(mounted), Vec::new());
    };
    let mut found = Vec::new();
    let mut missing = Vec::new();
    for path in configured {
        // The last line of a path is the one mounted over the others.
        match mounted.iter().rev().find(|mount| mount.path == *path) {
            Some(mount) => found.push(mount.clone()),
            None => missing.push(path.clone()),
        }
    }
    (found, missing)
}

fn judge(mut report: ProbeReport, seen: &[Seen], limits: &Limits) -> ProbeReport {
    let mut fullest: Option<(f64, &Path)> = None;
    for Seen { mount, usage, must_be_writable, trend } in seen {
        let path = mount.path.display().to_string();
        if let Some(percent) = usage.percent() {
            if fullest.is_none_or(|(most, _)| percent > most) {
                fullest = Some((percent, &mount.path));
            }
            let used = Measurement::new("used", percent, Unit::Percent).judged_by(limits.get("used"));
            let finding = Severity::of(used.status()).map(|severity| full(severity, mount, usage, &used));
            let free =
                Measurement::new("available", usage.available as f64, Unit::Bytes).label("mount", &path);
            report = report.measure(used.label("mount", &path)).measure(free).findings(finding);
            if let Some((per_day, seconds)) = trend.and_then(|trend| full_in(usage, &trend)) {
                let left =
                    Measurement::new("full_in", seconds, Unit::Seconds).judged_by(limits.get("full_in"));
                let finding = Severity::of(left.status())
                    .map(|severity| filling(severity, mount, usage, &left, per_day));
                report = report.measure(left.label("mount", &path)).findings(finding);
            }
        }
        if let Some(percent) = usage.inode_percent() {
            let inodes = Measurement::new("inodes", percent, Unit::Percent).judged_by(limits.get("inodes"));
            let finding = Severity::of(inodes.status()).map(|severity| {
                let message = format!("{} of the inodes of {path} are used", inodes.format());
                Finding::new(severity, "host.disk.inodes", message)
                    .object(&path)
                    .evidence(json!({"inodes": usage.inodes, "free": usage.inodes_free}))
                    .remedy(Remedy::statement(format!(
                        "du -x --inodes --max-depth=2 {path} | sort -n | tail"
                    )))
            });
            report = report.measure(inodes.label("mount", &path)).findings(finding);
        }
        if usage.read_only || mount.read_only {
            report = report.finding(read_only(mount, *must_be_writable));
        }
    }
    report.summary(match (fullest, seen.len()) {
        (Some((percent, path)), count) => {
            let others = if count == 1 { String::new() } else { format!(", the fullest of {count}") };
            format!("{} of {} used{others}", Unit::Percent.format(percent), path.display())
        }
        (None, 0) => "no mount could be read".to_owned(),
        (None, several) => words::count(several as f64, "mount without figures", "mounts without figures"),
    })
}

fn full(severity: Severity, mount: &Mount, usage: &Usage, used: &Measurement) -> Finding {
    let path = mount.path.display().to_string();
    let free = Unit::Bytes.format(usage.available as f64);
    Finding::new(severity, "host.disk.full", format!("{path} is {} full, {free} left", used.format()))
        .evidence(json!({"source": mount.source, "kind": mount.kind, "used": usage.used, "available": usage.available}))
        .remedy(Remedy::statement(format!("du -xh --max-depth=2 {path} | sort -h | tail")).because(
            "Shows what takes the space. Remove nothing by hand in a database's data directory.",
        ))
        .object(path)
}

/// How many bytes a day it loses, and the seconds until none is left; `None` where it may as well not fill up.
fn full_in(usage: &Usage, trend: &Trend) -> Option<(f64, f64)> {
    let (per_day, surely) = (-trend.per_day, -trend.range.1);
    (surely > 0.0).then(|| (per_day, usage.available as f64 / per_day * 24.0 * HOUR))
}

fn filling(severity: Severity, mount: &Mount, usage: &Usage, left: &Measurement, per_day: f64) -> Finding {
    let path = mount.path.display().to_string();
    let (free, rate) = (Unit::Bytes.format(usage.available as f64), Unit::BytesPerDay.format(per_day));
    let message = format!("{path} is full in {}: {free} left, and it takes {rate}", left.format());
    Finding::new(severity, "host.disk.filling", message)
        .evidence(json!({"source": mount.source, "available": usage.available, "bytes_per_day": per_day.round()}))
        .remedy(
            Remedy::statement(format!("find {path} -xdev -type f -mmin -60 -size +100M -exec ls -lh {{}} +"))
                .because("Shows what has grown within the hour. On a database: pg_wal, a slot, temporary files, logs."),
        )
        .object(path)
}

/// Certain trouble where the mount is configured, or `/etc/fstab` wants it writable; else something to know.
fn read_only(mount: &Mount, must_be_writable: bool) -> Finding {
    let path = mount.path.display().to_string();
    let severity = if must_be_writable { Severity::Critical } else { Severity::Info };
    Finding::new(severity, "host.disk.read_only", format!("{path} is mounted read-only"))
        .evidence(json!({"source": mount.source, "kind": mount.kind}))
        .remedy(
            Remedy::statement("dmesg | grep -i -E 'remount|I/O error' | tail").because(
                "A kernel that met a disk error says so there. Look before you remount it writable.",
            ),
        )
        .object(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::HostConfig;
    use ops_core::{HealthProbe, Status};

    const CALM: Usage = Usage { used: 10, available: 90, inodes: 100, inodes_free: 90, read_only: false };

    fn seen(usage: Usage, must_be_writable: bool) -> Seen {
        let mount =
            Mount { source: "/dev/sda1".into(), path: "/data".into(), kind: "ext4".into(), read_only: false };
        Seen { mount, usage, must_be_writable, trend: None }
    }

    #[test]
    fn what_surely_fills_up_is_told_in_time() {
        let gone_in = |hours: f64, range: (f64, f64)| {
            let points: Vec<_> = (0..24).map(|hour| (hour_of(hour), -f64::from(hour as i32))).collect();
            let mut trend = Trend::of(&points).unwrap();
            trend.per_day = -90.0 * 24.0 / hours;
            trend.range = (range.0 * trend.per_day.abs(), range.1 * trend.per_day.abs());
            judge(
                ProbeReport::new(""),
                &[Seen { trend: Some(trend), ..seen(CALM, true) }],
                &Limits::defaults(&SPEC),
            )
        };
        for (hours, range, status) in [
            (48.0, (-1.1, -0.9), Status::Ok),
            (20.0, (-1.1, -0.9), Status::Warning),
            (3.0, (-1.1, -0.9), Status::Critical),
            // It may as well stand still.
            (3.0, (-2.0, 0.1), Status::Ok),
        ] {
            let report = gone_in(hours, range);
            assert_eq!(report.status(), status, "{hours} {range:?}: {report:?}");
        }
    }

    fn hour_of(hour: i64) -> chrono::DateTime<chrono::Utc> {
        chrono::DateTime::from_timestamp(1_790_000_000 + hour * 3600, 0).unwrap()
    }

    #[test]
    fn each_fault_has_its_code_and_its_mount() {
        let read_only = Usage { read_only: true, ..CALM };
        for (usage, writable, status, code) in [
            (CALM, true, Status::Ok, None),
            (Usage { used: 80, available: 20, ..CALM }, true, Status::Warning, Some("host.disk.full")),
            (Usage { used: 95, available: 5, ..CALM }, true, Status::Critical, Some("host.disk.full")),
            (Usage { inodes_free: 8, ..CALM }, true, Status::Critical, Some("host.disk.inodes")),
            (read_only, true, Status::Critical, Some("host.disk.read_only")),
            (read_only, false, Status::Ok, Some("host.disk.read_only")),
        ] {
            let report = judge(ProbeReport::new(""), &[seen(usage, writable)], &Limits::defaults(&SPEC));
            let found = report.found().first();
            assert_eq!((report.status(), found.map(|f| f.code.as_ref())), (status, code), "{usage:?}");
            assert!(found.is_none_or(|finding| finding.object.as_deref() == Some("/data")));
        }
    }

    fn bound(mounts: Option<Vec<PathBuf>>) -> impl HealthProbe {
        let config = match mounts {
            Some(mounts) => HostConfig::default().with_mounts(mounts),
            None => HostConfig::default(),
        };
        HostTarget::new("here", config).bind(&Disk, Limits::defaults(&SPEC))
    }

    #[tokio::test]
    async fn a_configured_path_that_is_no_mount_is_unknown() {
        let missing = bound(Some(vec!["/no/such/mount".into()])).probe(&Context::new()).await.unwrap();
        assert_eq!(missing.status(), Status::Unknown);
        // A directory on another disk would show that disk's figures.
        let directory = bound(Some(vec!["/usr/share".into()])).probe(&Context::new()).await.unwrap();
        assert_eq!((directory.status(), directory.measured().len()), (Status::Unknown, 0));
    }

    #[tokio::test]
    async fn this_machine_has_figures() {
        let report = bound(Some(vec!["/".into()])).probe(&Context::new()).await.unwrap();
        let used = report.measured().iter().find(|measured| measured.name == "used").unwrap();
        assert!(used.value > 0.0 && used.value <= 100.0 && used.labels["mount"] == "/");
    }
}
