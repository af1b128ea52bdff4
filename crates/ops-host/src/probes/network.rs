//! `host.network`: packets that were lost or damaged.

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

/// Fewer packets than this tell no share.
const ENOUGH: f64 = 100.0;

pub(crate) static SPEC: ProbeSpec = ProbeSpec {
    name: "host.network",
    group: "host",
    explanation: Explanation {
        why: "A bad cable, a wrong duplex or a full ring buffer lose a few packets in a thousand, and every connection \
              waits for them to be sent again: replication lags, and queries take 200 ms for no reason of their own.",
        measures: "For each interface other than lo, since the last check, or over two samples 1 s apart where there \
                   is none: packets received or sent with errors, and packets dropped, of all. An interface \
                   with fewer than 100 packets is not judged. Kernels count packets of protocols that nobody \
                   listens to as dropped, so drops only inform unless a threshold is configured.",
        queries: &[("packets, errs and drop of each interface", "/proc/net/dev")],
        codes: &[
            ("host.network.errors", "an interface damages packets"),
            ("host.network.drops", "an interface drops more packets than configured"),
        ],
        versions: "Linux; elsewhere unknown",
        cost: "one small file; a second one where no earlier sample is stored",
        remedy: "ip -s -s link show DEV and ethtool -S DEV name the kind of error. Errors: cable, port, driver. Drops: \
                 a larger ring (ethtool -G), or more queues.",
    },
    thresholds: &[
        ThresholdSpec {
            name: "errors",
            meaning: "packets with errors, of all",
            unit: Unit::Percent,
            direction: Direction::Above,
            warning: Some(1.0),
            critical: None,
            source: "awesome-prometheus-alerts, host network receive and transmit errors: 1 %",
        },
        ThresholdSpec {
            name: "drops",
            meaning: "packets dropped, of all",
            unit: Unit::Percent,
            direction: Direction::Above,
            warning: None,
            critical: None,
            source: "none by default: packets that nobody wants count as dropped, too",
        },
    ],
    requires: &[],
};

/// See [`SPEC`].
#[derive(Debug)]
pub(crate) struct Network;

#[async_trait]
impl HostProbe for Network {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    async fn probe(&self, cx: &Context, host: &HostTarget, limits: &Limits) -> Result<ProbeReport> {
        let take = async || Ok(parse(&host.machine().proc("net/dev")?));
        Ok(match windowed::rise(cx, host, SPEC.name, take).await? {
            Ok(window) => judge(&window, limits),
            Err(report) => report,
        })
    }
}

/// `name: bytes packets errs drop fifo frame compressed multicast bytes packets errs drop …`.
fn parse(dev: &str) -> BTreeMap<String, f64> {
    let mut counters = BTreeMap::new();
    for (name, figures) in dev.lines().filter_map(|line| line.split_once(':')) {
        let name = name.trim();
        let figures: Vec<f64> = figures.split_whitespace().map_while(|figure| figure.parse().ok()).collect();
        if name == "lo" || figures.len() < 12 {
            continue;
        }
        for (kind, index) in [("packets", 1), ("errors", 2), ("drops", 3)] {
            counters.insert(format!("{name} {kind}"), figures[index] + figures[index + 8]);
        }
    }
    counters
}

fn judge(window: &Window, limits: &Limits) -> ProbeReport {
    let mut report = ProbeReport::new("");
    let (mut interfaces, mut packets, mut lost) = (0_u32, 0.0, 0.0);
    for name in window.deltas().filter_map(|(name, _)| name.strip_suffix(" packets")) {
        let rise = |kind: &str| window.delta(&format!("{name} {kind}"));
        interfaces += 1;
        packets += rise("packets");
        lost += rise("errors") + rise("drops");
        let all = rise("packets") + rise("errors") + rise("drops");
        for (kind, code) in [("errors", "host.network.errors"), ("drops", "host.network.drops")] {
            let share = Measurement::new(kind, rise(kind) / all.max(1.0) * 100.0, Unit::Percent);
            let share = if all < ENOUGH { share } else { share.judged_by(limits.get(kind)) };
            let share = share.label("interface", name);
            let finding = Severity::of(share.status()).map(|severity| {
                let verb = if kind == "errors" { "were damaged" } else { "were dropped" };
                let message = format!(
                    "{} of {name}'s packets {verb} within {}",
                    share.format(),
                    windowed::length(window)
                );
                Finding::new(severity, code, message)
                    .object(name)
                    .evidence(
                        json!({"packets": rise("packets"), "errors": rise("errors"), "drops": rise("drops")}),
                    )
                    .remedy(
                        Remedy::statement(format!("ip -s -s link show {name}"))
                            .because("names the kind of error"),
                    )
            });
            report = report.measure(share).findings(finding);
        }
    }
    if interfaces == 0 {
        return ProbeReport::unknown("the kernel names no interface other than lo", None);
    }
    let on = if interfaces == 1 { "1 interface".to_owned() } else { format!("{interfaces} interfaces") };
    report.summary(format!(
        "{} packets on {on} in {}, {} of them lost",
        Unit::Count.format(packets),
        windowed::length(window),
        Unit::Count.format(lost)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{NET_DEV, window};
    use ops_core::{Bounds, Status};

    #[test]
    fn a_real_file_is_read_without_lo() {
        let counters = parse(NET_DEV);
        assert!(counters["eth0 packets"] > 10_000.0 && !counters.contains_key("lo packets"));
        assert_eq!(counters["docker0 drops"], 7.0);
    }

    #[test]
    fn errors_are_a_share_of_enough_packets() {
        let limits = Limits::defaults(&SPEC);
        for (rise, status) in [
            ([("eth0 packets", 1000.0), ("eth0 errors", 2.0)], Status::Ok),
            ([("eth0 packets", 1000.0), ("eth0 errors", 20.0)], Status::Warning),
            ([("eth0 packets", 9.0), ("eth0 errors", 5.0)], Status::Ok),
            ([("eth0 packets", 1000.0), ("eth0 drops", 500.0)], Status::Ok),
        ] {
            assert_eq!(judge(&window(60, &rise), &limits).status(), status, "{rise:?}");
        }
        let limits = limits.with("drops", Bounds { warning: Some(5.0), critical: None }).unwrap();
        let report = judge(&window(60, &[("eth0 packets", 1000.0), ("eth0 drops", 500.0)]), &limits);
        assert_eq!(report.found()[0].code, "host.network.drops");
        assert_eq!(judge(&window(60, &[]), &limits).status(), Status::Unknown);
    }
}
