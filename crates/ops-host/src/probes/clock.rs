//! `host.clock`: whether the machine knows what time it is.

use async_trait::async_trait;
use ops_core::{
    Context, Direction, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy, Result,
    Severity, ThresholdSpec, Unit,
};
use serde_json::json;

use super::systemd;
use crate::host::{HostProbe, HostTarget};

pub(crate) static SPEC: ProbeSpec = ProbeSpec {
    name: "host.clock",
    group: "host",
    explanation: Explanation {
        why: "A clock that runs away makes tokens expire early, orders rows wrongly, and a recovery to a point in time \
              end at another one. Nobody notices until a certificate is not valid yet.",
        measures: "Whether the kernel takes its clock for synchronised, by whatever daemon (chrony, ntpd, \
                   systemd-timesyncd), as timedatectl tells it. And how far it is from the clock of each \
                   PostgreSQL server that is configured beside it, less half of what the question took. Inside a \
                   container the clock is its host's, and whether it is synchronised stays unknown.",
        queries: &[
            ("NTPSynchronized, and NTP: whether a service is to do it", "timedatectl show"),
            ("of each PostgreSQL server", "SELECT clock_timestamp()"),
        ],
        codes: &[
            ("host.clock.unsynchronised", "the clock is not synchronised with any other"),
            ("host.clock.skew", "the clock and a database server's disagree"),
        ],
        versions: "Linux with systemd 239 and later; elsewhere unknown",
        cost: "one small program, and a round trip to each PostgreSQL server",
        remedy: "timedatectl set-ntp true, where systemd-timesyncd or chrony is installed; chronyc tracking tells why \
                 it does not follow. UDP port 123 must be open to the outside.",
    },
    thresholds: &[ThresholdSpec {
        name: "skew",
        meaning: "how far this machine's clock and a database server's are apart, either way",
        unit: Unit::Seconds,
        direction: Direction::Above,
        warning: Some(1.0),
        critical: Some(60.0),
        source: "this project's choice: NTP holds clocks within milliseconds, so a second is a clock that nobody sets; \
                 a minute is what verifiers of tokens commonly forgive",
    }],
    requires: &[],
};

/// See [`SPEC`].
#[derive(Debug)]
pub(crate) struct Clock;

#[async_trait]
impl HostProbe for Clock {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    async fn probe(&self, cx: &Context, host: &HostTarget, limits: &Limits) -> Result<ProbeReport> {
        let mut report = match systemd::absent(host) {
            Some(report) => report,
            None => {
                let machine = host.machine();
                let asked = ["show", "--property=NTPSynchronized", "--property=NTP"];
                judge(&machine.ask(cx, &machine.timedatectl, &asked).await?)
            }
        };
        for clock in host.clocks() {
            report = match clock.offset(cx).await {
                Ok((ahead, within)) => compared(report, clock.name(), ahead, within, limits),
                Err(error) => {
                    let what = format!("how far the clock is from {}'s: {}", clock.name(), error.report());
                    report.unseen(what, error.fix().map(str::to_owned))
                }
            };
        }
        Ok(report)
    }
}

fn judge(text: &str) -> ProbeReport {
    let told = systemd::properties(text).into_iter().next().unwrap_or_default();
    let service = told.get("NTP").map(String::as_str);
    match told.get("NTPSynchronized").map(String::as_str) {
        Some("yes") => ProbeReport::new("the clock is synchronised"),
        Some("no") => {
            let (why, statement) = match service {
                Some("yes") => ("a service is to synchronise it, and has not", "timedatectl timesync-status"),
                _ => ("no service that timedatectl knows is to synchronise it", "timedatectl set-ntp true"),
            };
            let message = format!("the clock is not synchronised: {why}");
            ProbeReport::new(message.clone()).finding(
                Finding::warning("host.clock.unsynchronised", message)
                    .object("clock")
                    .evidence(json!({"NTP": service, "NTPSynchronized": "no"}))
                    .remedy(Remedy::statement(statement).because("with chrony, chronyc tracking tells why")),
            )
        }
        _ => ProbeReport::unknown("timedatectl does not tell whether the clock is synchronised", None),
    }
}

/// What they are apart at least.
fn compared(report: ProbeReport, other: &str, ahead: f64, within: f64, limits: &Limits) -> ProbeReport {
    let apart = (ahead.abs() - within).max(0.0);
    let skew = Measurement::new("skew", apart, Unit::Seconds).judged_by(limits.get("skew"));
    let finding = Severity::of(skew.status()).map(|severity| {
        let side = if ahead > 0.0 { "ahead of" } else { "behind" };
        let message = format!("the clock of {other} is {} {side} this machine's", skew.format());
        Finding::new(severity, "host.clock.skew", message)
            .object(other)
            .evidence(json!({"ahead_seconds": ahead, "within_seconds": within}))
            .remedy(
                Remedy::statement("timedatectl timesync-status")
                    .because("on both machines: one of the two is wrong; with chrony, chronyc tracking"),
            )
    });
    report.measure(skew.label("server", other)).findings(finding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ops_core::Status;

    #[test]
    fn clocks_that_surely_disagree_are_told() {
        for (ahead, within, status) in [
            (0.9, 0.001, Status::Ok),
            (1.1, 0.01, Status::Warning),
            (-1.1, 0.01, Status::Warning),
            (1.1, 0.2, Status::Ok),
            (-61.0, 0.5, Status::Critical),
        ] {
            let report = compared(ProbeReport::new(""), "main", ahead, within, &Limits::defaults(&SPEC));
            assert_eq!(report.status(), status, "{ahead} {within}");
        }
    }

    #[test]
    fn what_timedatectl_says_is_judged() {
        for (text, status) in [
            ("NTP=yes\nNTPSynchronized=yes\n", Status::Ok),
            // chrony, which timedatectl does not know as its service.
            ("NTP=no\nNTPSynchronized=yes\n", Status::Ok),
            ("NTP=yes\nNTPSynchronized=no\n", Status::Warning),
            ("NTP=no\nNTPSynchronized=no\n", Status::Warning),
            ("", Status::Unknown),
            ("NTP=yes\n", Status::Unknown),
        ] {
            assert_eq!(judge(text).status(), status, "{text:?}");
        }
    }
}
