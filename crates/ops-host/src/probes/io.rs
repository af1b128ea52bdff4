//! `host.io`: how busy the disks are.

use std::collections::BTreeMap;

use async_trait::async_trait;
use ops_core::window::Window;
use ops_core::{
    Context, Direction, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy, Result,
    Severity, ThresholdSpec, Unit,
};
use serde_json::json;

use super::windowed;
use crate::host::{HostProbe, HostTarget};

/// The unit of /proc/diskstats, whatever the disk's own sectors are.
const SECTOR: f64 = 512.0;

pub(crate) static SPEC: ProbeSpec = ProbeSpec {
    name: "host.io",
    group: "host",
    explanation: Explanation {
        why: "A disk that is always busy makes every commit wait for its sync, and every cold read for its turn.",
        measures: "For each disk, since the last check, or over two samples 1 s apart where there is none: the share \
                   of time in which it had something to do, the bytes read and written per second, and the time that \
                   a request took. A busy disk need not be slow: those of today serve many requests at once, so \
                   this only informs unless a threshold is configured. Partitions, loop devices and memory are left \
                   out.",
        queries: &[
            ("requests, sectors and busy milliseconds of each device", "/proc/diskstats"),
            ("which of the devices are whole disks", "/sys/block"),
        ],
        codes: &[
            ("host.io.busy", "a disk is busy for longer than configured"),
            ("host.io.slow", "a disk's requests take longer than configured"),
        ],
        versions: "Linux; elsewhere unknown",
        cost: "one small file; a second one where no earlier sample is stored",
        remedy: "iotop -oPa or pidstat -d 1 show who reads and writes. Of a database: pg.checkpoints, pg.temp_files, \
                 pg.cache_hit.",
    },
    thresholds: &[
        ThresholdSpec {
            name: "utilisation",
            meaning: "the share of time in which a disk had something to do",
            unit: Unit::Percent,
            direction: Direction::Above,
            warning: None,
            critical: None,
            source: "none by default: iostat(1) warns that it tells little of devices that serve requests in parallel",
        },
        ThresholdSpec {
            name: "await",
            meaning: "the mean time of a request, from asking to its end",
            unit: Unit::Milliseconds,
            direction: Direction::Above,
            warning: None,
            critical: None,
            source: "none by default: 1 ms is slow for flash and fast for a network volume",
        },
    ],
    requires: &[],
};

/// See [`SPEC`].
#[derive(Debug)]
pub(crate) struct Io;

#[async_trait]
impl HostProbe for Io {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    async fn probe(&self, cx: &Context, host: &HostTarget, limits: &Limits) -> Result<ProbeReport> {
        let machine = host.machine();
        let whole = |disk: &str| machine.sys.join("block").join(disk).is_dir();
        let take = async || Ok(parse(&machine.proc("diskstats")?, whole));
        Ok(match windowed::rise(cx, host, SPEC.name, take).await? {
            Ok(window) => judge(&window, limits),
            Err(report) => report,
        })
    }
}

/// `major minor name reads merged sectors ms writes merged sectors ms in-flight busy-ms …`.
fn parse(diskstats: &str, whole: impl Fn(&str) -> bool) -> BTreeMap<String, f64> {
    const MEMORY: [&str; 4] = ["loop", "ram", "zram", "sr"];
    let mut counters = BTreeMap::new();
    for line in diskstats.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, _, disk, figures @ ..] = fields.as_slice() else { continue };
        if MEMORY.iter().any(|prefix| disk.starts_with(prefix)) || !whole(disk) {
            continue;
        }
        let figure = |index: usize| figures.get(index)?.parse::<f64>().ok();
        let kinds =
            [("requests", [0, 4]), ("sectors_read", [2, 2]), ("sectors_written", [6, 6]), ("waited", [3, 7])];
        for (kind, [first, second]) in kinds {
            let both = if first == second {
                figure(first)
            } else {
                figure(first).zip(figure(second)).map(|(a, b)| a + b)
            };
            both.into_iter().for_each(|value| {
                counters.insert(format!("{disk} {kind}"), value);
            });
        }
        if let Some(busy) = figure(9) {
            counters.insert(format!("{disk} busy"), busy);
        }
    }
    counters
}

fn judge(window: &Window, limits: &Limits) -> ProbeReport {
    let disks: Vec<&str> = window.deltas().filter_map(|(name, _)| name.strip_suffix(" busy")).collect();
    let mut report = ProbeReport::new("");
    let mut busiest: Option<(f64, &str)> = None;
    for disk in &disks {
        let rise = |kind: &str| window.delta(&format!("{disk} {kind}"));
        let millis = window.length.as_secs_f64() * 1000.0;
        // The kernel rounds up by a tick.
        let share = (rise("busy") / millis * 100.0).min(100.0);
        if busiest.is_none_or(|(most, _)| share > most) {
            busiest = Some((share, disk));
        }
        let used = Measurement::new("utilisation", share, Unit::Percent).judged_by(limits.get("utilisation"));
        let mean = if rise("requests") > 0.0 { rise("waited") / rise("requests") } else { 0.0 };
        let took = Measurement::new("await", mean, Unit::Milliseconds).judged_by(limits.get("await"));
        let bytes = |kind| rise(kind) * SECTOR / window.length.as_secs_f64();
        let (read, written) = (bytes("sectors_read"), bytes("sectors_written"));
        let [read, written] = [("read", read), ("written", written)]
            .map(|(name, value)| Measurement::new(name, value, Unit::BytesPerSecond));
        let evidence = json!({
            "utilisation": share, "await_ms": mean, "read_per_second": read.value,
            "written_per_second": written.value,
        });
        let rates = format!("{} read, {} written", read.format(), written.format());
        for (measured, code, message) in [
            (&used, "host.io.busy", format!("{disk} is busy for {} of the time: {rates}", used.format())),
            (&took, "host.io.slow", format!("a request to {disk} takes {}: {rates}", took.format())),
        ] {
            report = report.findings(Severity::of(measured.status()).map(|severity| {
                Finding::new(severity, code, message)
                    .object(*disk)
                    .evidence(evidence.clone())
                    .remedy(Remedy::statement("pidstat -d 1 5").because("shows who reads and writes"))
            }));
        }
        report = [used, took, read, written]
            .into_iter()
            .fold(report, |report, measured| report.measure(measured.label("disk", *disk)));
    }
    match busiest {
        None => ProbeReport::unknown("the kernel names no disk here", None),
        Some((share, disk)) => {
            let others = if disks.len() == 1 {
                String::new()
            } else {
                format!(", the busiest of {} disks", disks.len())
            };
            report.summary(format!(
                "{disk} busy for {} of {}{others}",
                Unit::Percent.format(share),
                windowed::length(window)
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{DISKSTATS, window};
    use ops_core::{Bounds, Status};

    #[test]
    fn whole_disks_are_counted() {
        let counters = parse(DISKSTATS, |disk| disk != "vda1");
        assert!(counters.keys().all(|name| name.starts_with("vda ")) && counters.len() == 5, "{counters:?}");
        assert!(counters["vda busy"] > 0.0 && counters["vda requests"] > counters["vda busy"] / 1000.0);
    }

    #[test]
    fn disks_alarm_only_where_asked() {
        let rise =
            [("sda busy", 54_000.0), ("sda requests", 100.0), ("sda waited", 5000.0), ("sdb busy", 600.0)];
        let limits = Limits::defaults(&SPEC);
        let report = judge(&window(60, &rise), &limits);
        assert_eq!(report.status(), Status::Ok);
        assert!(
            format!("{report:?}").contains("sda busy for 90.0 % of 60 s, the busiest of 2 disks"),
            "{report:?}"
        );
        let limits = limits.with("await", Bounds { warning: Some(50.0), critical: None }).unwrap();
        let report = judge(&window(60, &rise), &limits);
        let found: Vec<_> = report.found().iter().map(|f| (f.code.as_ref(), f.object.as_deref())).collect();
        assert_eq!(found, [("host.io.slow", Some("sda"))]);
        assert_eq!(judge(&window(60, &[]), &limits).status(), Status::Unknown);
    }
}
