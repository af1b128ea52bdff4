//! `host.service`: whether systemd's units are up.

use std::collections::BTreeMap;

use async_trait::async_trait;
use ops_core::window::Window;
use ops_core::{
    Context, Direction, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy, Result,
    Severity, ThresholdSpec, Unit as Of,
};
use serde_json::json;

use super::systemd::{self, Unit};
use super::windowed;
use crate::host::{HostProbe, HostTarget};

const PROPERTIES: &str = "Id,LoadState,ActiveState,SubState,Result,NRestarts,Type,Wants";
/// Debian's, which runs /bin/true: the servers are the instances that it wants.
const DEBIANS: &str = "postgresql.service";

pub(crate) static SPEC: ProbeSpec = ProbeSpec {
    name: "host.service",
    group: "services",
    explanation: Explanation {
        why: "A unit that failed stays down. One that systemd restarts again and again looks up at every glance, and \
              serves nobody.",
        measures: "For each unit of services: whether it is active, and how often systemd restarted it since the last \
                   check, or over two samples 1 s apart where there is none. Debian's postgresql.service is always \
                   active, whatever becomes of the servers: in its place are judged the clusters that it wants, \
                   postgresql@VERSION-NAME.service.",
        queries: &[(
            "the state of all units at once",
            "systemctl show --property=Id,LoadState,ActiveState,SubState,Result,NRestarts,Type,Wants -- UNIT…",
        )],
        codes: &[
            ("host.service.down", "a unit is not active"),
            ("host.service.starting", "a unit is starting, stopping or reloading"),
            ("host.service.restarted", "systemd restarted a unit"),
        ],
        versions: "Linux with systemd 235 and later; without systemd unknown",
        cost: "one systemctl, which asks systemd once for each unit; a second one where no earlier sample is stored",
        remedy: "journalctl -u UNIT -n 50 tells why it ended. A unit that runs and ends, started by a timer, belongs \
                 into timers.",
    },
    thresholds: &[ThresholdSpec {
        name: "restarts",
        meaning: "how often systemd restarted a unit within the window",
        unit: Of::Count,
        direction: Direction::Above,
        warning: Some(1.0),
        critical: Some(5.0),
        source: "systemd restarts what ended by itself; five within ten seconds are where it gives up \
                 (DefaultStartLimitBurst)",
    }],
    requires: &[],
};

/// See [`SPEC`].
#[derive(Debug)]
pub(crate) struct Service;

#[async_trait]
impl HostProbe for Service {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    async fn probe(&self, cx: &Context, host: &HostTarget, limits: &Limits) -> Result<ProbeReport> {
        let services = &host.config().services;
        if services.is_empty() {
            return Ok(ProbeReport::not_applicable("no services are configured for this host"));
        }
        if let Some(report) = systemd::absent(host) {
            return Ok(report);
        }
        let units = systemd::show(cx, host, PROPERTIES, services).await?;
        let (units, unresolved) = resolve(cx, host, units).await?;
        let mut report = judge(&units);
        for name in unresolved {
            let what = format!(
                "{name} is active whatever becomes of the servers, and wants no postgresql@VERSION-NAME"
            );
            report = report.unseen(what, Some("pg_lsclusters".to_owned()));
        }
        let names: Vec<String> =
            units.iter().filter(|unit| unit.is_loaded()).map(|unit| unit.name.clone()).collect();
        if names.is_empty() {
            return Ok(report);
        }
        let take = async || Ok(restarts(&systemd::show(cx, host, PROPERTIES, &names).await?));
        Ok(match windowed::rise(cx, host, SPEC.name, take).await? {
            Ok(window) => judge_restarts(report, &window, limits),
            Err(_) => report.unseen("restarts: there is nothing to compare with yet", None),
        })
    }
}

fn restarts(units: &[Unit]) -> BTreeMap<String, f64> {
    let count = |unit: &Unit| Some((unit.name.clone(), unit.get("NRestarts").parse().ok()?));
    units.iter().filter_map(count).collect()
}

/// Puts Debian's clusters in the place of the unit that stands for them; and the names for which there are none.
async fn resolve(cx: &Context, host: &HostTarget, units: Vec<Unit>) -> Result<(Vec<Unit>, Vec<String>)> {
    let (stand_ins, mut own): (Vec<Unit>, Vec<Unit>) = units.into_iter().partition(stands_in);
    let mut unresolved = Vec::new();
    for unit in stand_ins {
        let clusters = clusters(&unit);
        if clusters.is_empty() {
            unresolved.push(unit.name);
        } else {
            own.extend(systemd::show(cx, host, PROPERTIES, &clusters).await?);
        }
    }
    Ok((own, unresolved))
}

fn stands_in(unit: &Unit) -> bool {
    unit.name == DEBIANS && unit.get("Type") == "oneshot" && unit.get("SubState") == "exited"
}

fn clusters(unit: &Unit) -> Vec<String> {
    unit.get("Wants")
        .split_whitespace()
        .filter(|name| name.starts_with("postgresql@"))
        .map(str::to_owned)
        .collect()
}

fn judge(units: &[Unit]) -> ProbeReport {
    let mut report = ProbeReport::new("");
    let mut up = 0;
    for unit in units {
        let Unit { name, .. } = unit;
        let (state, sub) = (unit.get("ActiveState"), unit.get("SubState"));
        if !unit.is_loaded() {
            report = report.unseen(format!("{name} is configured, and systemd knows no such unit"), None);
            continue;
        }
        let evidence = json!({
            "unit": name, "state": state, "sub_state": sub, "result": unit.get("Result"), "load": unit.get("LoadState"),
        });
        let log = || {
            Remedy::statement(format!("journalctl -u {name} -n 50 --no-pager")).because("tells why it ended")
        };
        // Between two of its deaths a unit is activating, too.
        let finding = match (state, sub) {
            ("active", _) => None,
            ("activating", "auto-restart" | "auto-restart-queued") => Some(Finding::critical(
                "host.service.down",
                format!("{name} ended ({}), and systemd waits to start it again", unit.get("Result")),
            )),
            ("activating" | "reloading" | "refreshing" | "deactivating" | "maintenance", _) => {
                Some(Finding::warning("host.service.starting", format!("{name} is {state} ({sub})")))
            }
            ("inactive" | "failed", _) => {
                let why = match unit.get("Result") {
                    "success" | "" => String::new(),
                    result => format!(": {result}"),
                };
                Some(Finding::critical("host.service.down", format!("{name} is {state}{why}")))
            }
            _ => {
                report =
                    report.unseen(format!("{name} is in state {state:?}, which ops does not know"), None);
                continue;
            }
        };
        up += usize::from(finding.is_none());
        report =
            report.findings(finding.map(|finding| finding.object(name).evidence(evidence).remedy(log())));
    }
    report.summary(match units.len() {
        1 if up == 1 => format!("{} is active", units[0].name),
        all => format!("{up} of {all} services are active"),
    })
}

fn judge_restarts(report: ProbeReport, window: &Window, limits: &Limits) -> ProbeReport {
    // One that was not watched at the window's beginning counted before it.
    window.deltas().filter(|(name, _)| !window.appeared(name)).fold(report, |report, (name, rise)| {
        let count = Measurement::new("restarts", rise, Of::Count)
            .judged_by(limits.get("restarts"))
            .label("unit", name);
        let finding = Severity::of(count.status()).map(|severity| {
            let times = if rise == 1.0 { "once".to_owned() } else { format!("{} times", count.format()) };
            let over = Of::Seconds.format(window.length.as_secs_f64());
            Finding::new(
                severity,
                "host.service.restarted",
                format!("systemd restarted {name} {times} within {over}"),
            )
            .object(name)
            .evidence(json!({"unit": name, "restarts": rise}))
            .remedy(
                Remedy::statement(format!("journalctl -u {name} -n 50 --no-pager"))
                    .because("tells why it ended"),
            )
        });
        report.measure(count).findings(finding)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ops_core::Status;
    use ops_core::window::{Sample, SampleOutcome};

    fn unit(state: &str, sub: &str, result: &str) -> Unit {
        let text = format!("LoadState=loaded\nActiveState={state}\nSubState={sub}\nResult={result}\n");
        Unit::of("app.service", &text)
    }

    #[test]
    fn each_state_is_judged() {
        for (state, sub, result, status, message) in [
            ("active", "running", "success", Status::Ok, None),
            ("active", "exited", "success", Status::Ok, None),
            ("reloading", "reload", "success", Status::Warning, Some("app.service is reloading (reload)")),
            ("activating", "start", "success", Status::Warning, Some("app.service is activating (start)")),
            (
                "activating",
                "auto-restart",
                "exit-code",
                Status::Critical,
                Some("app.service ended (exit-code), and systemd waits to start it again"),
            ),
            ("failed", "failed", "oom-kill", Status::Critical, Some("app.service is failed: oom-kill")),
            ("inactive", "dead", "success", Status::Critical, Some("app.service is inactive")),
            ("", "", "", Status::Unknown, None),
        ] {
            let report = judge(&[unit(state, sub, result)]);
            let found = report.found().first().map(|finding| finding.message.as_str());
            assert_eq!((report.status(), found), (status, message), "{state} {sub}");
        }
        let missing = Unit::of("nope.service", "LoadState=not-found\nActiveState=inactive\nSubState=dead\n");
        assert_eq!(judge(&[missing]).status(), Status::Unknown);
    }

    #[test]
    fn what_is_configured_between_two_checks_was_not_restarted() {
        let sample = |second: i64, counters: &[(&str, f64)]| Sample {
            at: chrono::DateTime::from_timestamp(second, 0).unwrap(),
            epoch: "boot".into(),
            counters: counters.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect(),
        };
        let (earlier, later) =
            (sample(0, &[("a.service", 3.0)]), sample(60, &[("a.service", 4.0), ("b.service", 9.0)]));
        let SampleOutcome::Window(window) = Window::between(&earlier, &later) else { panic!("a window") };
        let report = judge_restarts(ProbeReport::new(""), &window, &Limits::defaults(&SPEC));
        let found: Vec<_> = report.found().iter().filter_map(|finding| finding.object.as_deref()).collect();
        assert_eq!(found, ["a.service"]);
    }

    #[test]
    fn debians_unit_stands_for_its_clusters() {
        let text = "Id=postgresql.service\nLoadState=loaded\nActiveState=active\nSubState=exited\nType=oneshot\n\
                    Wants=postgresql@15-main.service system.slice postgresql@17-main.service\n";
        let debians = Unit::of("postgresql.service", text);
        assert!(stands_in(&debians));
        assert_eq!(clusters(&debians), ["postgresql@15-main.service", "postgresql@17-main.service"]);
        // Fedora's is the server itself.
        let fedoras = Unit::of(
            "postgresql.service",
            "LoadState=loaded\nActiveState=active\nSubState=running\nType=notify\n",
        );
        assert!(!stands_in(&fedoras));
    }
}
