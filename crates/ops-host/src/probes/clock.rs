//! `host.clock`: whether the machine knows what time it is.

use async_trait::async_trait;
use ops_core::{Context, Explanation, Finding, Limits, ProbeReport, ProbeSpec, Remedy, Result};
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
                   systemd-timesyncd), as timedatectl tells it. How far the clock is from a database's is not \
                   measured yet. Inside a container the clock is its host's, and stays unknown.",
        queries: &[("timedatectl show", "NTPSynchronized, and NTP: whether a service is to do it")],
        codes: &[("host.clock.unsynchronised", "the clock is not synchronised with any other")],
        versions: "Linux with systemd 239 and later; elsewhere unknown",
        cost: "one small program",
        remedy: "timedatectl set-ntp true, where systemd-timesyncd or chrony is installed; chronyc tracking tells why \
                 it does not follow. UDP port 123 must be open to the outside.",
    },
    thresholds: &[],
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

    async fn probe(&self, cx: &Context, host: &HostTarget, _limits: &Limits) -> Result<ProbeReport> {
        if let Some(report) = systemd::absent(host) {
            return Ok(report);
        }
        let machine = host.machine();
        let asked = ["show", "--property=NTPSynchronized", "--property=NTP"];
        Ok(judge(&machine.ask(cx, &machine.timedatectl, &asked).await?))
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

#[cfg(test)]
mod tests {
    use super::*;
    use ops_core::Status;

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
