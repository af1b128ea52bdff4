//! `host.timer`: whether systemd's timers fire, and what becomes of it.

use async_trait::async_trait;
use chrono::{DateTime, NaiveDateTime, Utc};
use ops_core::{
    Context, Direction, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy, Result,
    Severity, ThresholdSpec, Unit as Of,
};
use serde_json::json;

use super::systemd::{self, Unit};
use crate::host::{HostProbe, HostTarget};

const TIMER: &str = "Id,LoadState,ActiveState,SubState,Unit,LastTriggerUSec,NextElapseUSecRealtime,NextElapseUSecMonotonic,\
     TimersCalendar,TimersMonotonic";
const RUN: &str = "Id,LoadState,ActiveState,SubState,Result,ExecMainStatus,InactiveExitTimestamp";
const DAY: f64 = 86_400.0;

pub(crate) static SPEC: ProbeSpec = ProbeSpec {
    name: "host.timer",
    group: "services",
    explanation: Explanation {
        why: "A backup that a timer starts is missed by nobody until it is needed. A timer that was never enabled, or \
              whose job fails every night, says so only to who asks. A job that hangs is not started again: its timer \
              waits for its end, for ever.",
        measures: "For each timer of timers: whether it is active and will fire again, when it fired last, when it \
                   should fire next and by how much that has passed, how the unit that it starts ended last time, \
                   and how long it has run where it runs. Times that systemd counts from the start of the machine are \
                   not compared; a service that a timer starts once, and that runs from then on, is no job.",
        queries: &[
            (
                "the timers; in UTC",
                "systemctl show --property=Id,LoadState,ActiveState,SubState,Unit,LastTriggerUSec,\
                 NextElapseUSecRealtime,NextElapseUSecMonotonic,TimersCalendar,TimersMonotonic -- TIMER…",
            ),
            (
                "the units that they start",
                "systemctl show --property=Id,LoadState,ActiveState,SubState,Result,ExecMainStatus,\
                 InactiveExitTimestamp -- UNIT…",
            ),
        ],
        codes: &[
            ("host.timer.inactive", "a timer is not active, or will not fire again"),
            ("host.timer.missed", "a timer should have fired, and has not"),
            ("host.timer.failed", "the unit that a timer starts failed when it last ran"),
            ("host.timer.running", "the unit that a timer starts has run for long: its timer waits for it"),
        ],
        versions: "Linux with systemd 235 and later; without systemd unknown",
        cost: "two small programs",
        remedy: "systemctl list-timers --all shows them. Inactive: systemctl enable --now TIMER. Failed: journalctl -u \
                 UNIT tells why. Running: systemctl status UNIT shows what it waits for; TimeoutStartSec= in its unit \
                 (RuntimeMaxSec= where it is no oneshot) ends the next one that hangs.",
    },
    thresholds: &[
        ThresholdSpec {
            name: "late",
            meaning: "by how much the time to fire has passed",
            unit: Of::Seconds,
            direction: Direction::Above,
            warning: Some(300.0),
            critical: Some(3600.0),
            source: "systemd.timer(5): timers fire within a minute of their time (AccuracySec); five of them, and an \
                     hour",
        },
        ThresholdSpec {
            name: "running",
            meaning: "how long the unit that a timer starts has run",
            unit: Of::Seconds,
            direction: Direction::Above,
            warning: Some(DAY),
            critical: None,
            source: "this project's choice: most jobs are daily (as all but a few of Debian's timers are), and one that \
                     runs for a day has missed its next time; systemd.service(5): a oneshot has no time-out of its own",
        },
    ],
    requires: &[],
};

/// See [`SPEC`].
#[derive(Debug)]
pub(crate) struct Timer;

#[async_trait]
impl HostProbe for Timer {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    async fn probe(&self, cx: &Context, host: &HostTarget, limits: &Limits) -> Result<ProbeReport> {
        let names: Vec<String> = host.config().timers.iter().map(|name| full(name)).collect();
        if names.is_empty() {
            return Ok(ProbeReport::not_applicable("no timers are configured for this host"));
        }
        if let Some(report) = systemd::absent(host) {
            return Ok(report);
        }
        let timers = systemd::show(cx, host, TIMER, &names).await?;
        let started = |timer: &Unit| match timer.get("Unit") {
            "" => timer.name.replace(".timer", ".service"),
            unit => unit.to_owned(),
        };
        let units: Vec<String> = timers.iter().map(started).collect();
        let runs = systemd::show(cx, host, RUN, &units).await?;
        Ok(judge(&timers, &runs, cx.now(), limits))
    }
}

fn full(name: &str) -> String {
    if name.ends_with(".timer") { name.to_owned() } else { format!("{name}.timer") }
}

/// As systemd prints a time in UTC: `Mon 2026-01-05 00:00:00 UTC`; nothing for `n/a`.
fn time(text: &str) -> Option<DateTime<Utc>> {
    NaiveDateTime::parse_from_str(text, "%a %Y-%m-%d %H:%M:%S UTC").ok().map(|time| time.and_utc())
}

fn judge(timers: &[Unit], runs: &[Unit], now: DateTime<Utc>, limits: &Limits) -> ProbeReport {
    let mut report = ProbeReport::new("");
    let mut lines = Vec::new();
    for (timer, run) in timers.iter().zip(runs) {
        if !timer.is_loaded() {
            let what = format!("{} is configured, and systemd knows no such timer", timer.name);
            report = report.unseen(what, None);
            continue;
        }
        lines.push(line(timer, now));
        report = judge_timer(report, timer, run, now, limits);
        report = judge_run(report, timer, run, now, limits).findings(failed(timer, run));
    }
    report.summary(match lines.as_slice() {
        [] => "no timer could be seen".to_owned(),
        [one] => one.clone(),
        several => format!("{} timers", several.len()),
    })
}

fn line(timer: &Unit, now: DateTime<Utc>) -> String {
    let ago = time(timer.get("LastTriggerUSec")).map(|last| (now - last).num_seconds() as f64);
    let last =
        ago.map_or("has not fired yet".to_owned(), |ago| format!("fired {} ago", Of::Seconds.format(ago)));
    let next = time(timer.get("NextElapseUSecRealtime"))
        .map(|next| format!(", next on {}", next.format("%Y-%m-%d %H:%M UTC")));
    format!("{} {last}{}", timer.name, next.unwrap_or_default())
}

fn judge_timer(
    report: ProbeReport,
    timer: &Unit,
    run: &Unit,
    now: DateTime<Utc>,
    limits: &Limits,
) -> ProbeReport {
    let name = &timer.name;
    let state = timer.get("ActiveState");
    let evidence = json!({
        "timer": name, "state": state, "last": timer.get("LastTriggerUSec"), "next": timer.get("NextElapseUSecRealtime"),
    });
    let inactive = |message: String, remedy: Remedy| {
        Finding::critical("host.timer.inactive", message)
            .object(name)
            .evidence(evidence.clone())
            .remedy(remedy)
    };
    if state != "active" {
        let message = format!("{name} is {state}: it does not fire");
        return report
            .finding(inactive(message, Remedy::statement(format!("systemctl enable --now {name}"))));
    }
    // While the unit runs, the time for the next one is open.
    if timer.get("SubState") == "elapsed" && !matches!(run.get("ActiveState"), "active" | "activating") {
        let message = format!("{name} has fired for the last time");
        return report.finding(inactive(message, Remedy::statement(format!("systemctl cat {name}"))));
    }
    let last = time(timer.get("LastTriggerUSec")).map(|last| (now - last).num_seconds() as f64);
    let last = last.map(|ago| Measurement::new("since_last", ago, Of::Seconds).label("timer", name));
    let report = last.into_iter().fold(report, ProbeReport::measure);
    let Some(next) = time(timer.get("NextElapseUSecRealtime")) else { return report };
    let passed = ((now - next).num_seconds() as f64).max(0.0);
    let late =
        Measurement::new("late", passed, Of::Seconds).judged_by(limits.get("late")).label("timer", name);
    let finding = Severity::of(late.status()).map(|severity| {
        let message = format!("{name} should have fired {} ago, and has not", late.format());
        Finding::new(severity, "host.timer.missed", message).object(name).evidence(evidence).remedy(
            Remedy::statement(format!("systemctl status {name} {}", run.name)).because("it may still run"),
        )
    });
    report.measure(late).findings(finding)
}

/// How long the unit has run. What a timer starts once may be a service, which is meant to go on.
fn judge_run(
    report: ProbeReport,
    timer: &Unit,
    run: &Unit,
    now: DateTime<Utc>,
    limits: &Limits,
) -> ProbeReport {
    let recurs = !timer.get("TimersCalendar").is_empty() || timer.get("TimersMonotonic").contains("OnUnit");
    let runs = match (run.get("ActiveState"), run.get("SubState")) {
        ("activating", _) => true,
        ("active", "running") => recurs,
        _ => false,
    };
    if !runs {
        return report;
    }
    let since = run.get("InactiveExitTimestamp");
    let Some(began) = time(since) else {
        return report.unseen(format!("since when {} runs: systemd says {since:?}", run.name), None);
    };
    let long = Measurement::new("running", ((now - began).num_seconds() as f64).max(0.0), Of::Seconds)
        .judged_by(limits.get("running"))
        .label("timer", &timer.name);
    let finding = Severity::of(long.status()).map(|severity| {
        let message = format!(
            "{} has run for {}, and {} does not fire before it ends",
            run.name,
            long.format(),
            timer.name
        );
        Finding::new(severity, "host.timer.running", message)
            .object(&timer.name)
            .evidence(json!({"unit": run.name, "state": run.get("ActiveState"), "since": since}))
            .remedy(Remedy::statement(format!("systemctl status {}", run.name)).because(
                "shows what it waits for; TimeoutStartSec= in its unit ends the next one that hangs",
            ))
    });
    report.measure(long).findings(finding)
}

fn failed(timer: &Unit, run: &Unit) -> Option<Finding> {
    let result = run.get("Result");
    if matches!(result, "success" | "") {
        return None;
    }
    let message = format!("{}, which {} starts, failed when it last ran: {result}", run.name, timer.name);
    let finding = Finding::critical("host.timer.failed", message)
        .object(&timer.name)
        .evidence(json!({"unit": run.name, "result": result, "status": run.get("ExecMainStatus")}))
        .remedy(
            Remedy::statement(format!("journalctl -u {} -n 50 --no-pager", run.name)).because("tells why"),
        );
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ops_core::Status;

    fn timer(state: &str, sub: &str, next: &str) -> Unit {
        let text = format!(
            "LoadState=loaded\nActiveState={state}\nSubState={sub}\nUnit=backup.service\n\
             LastTriggerUSec=Sun 2026-01-04 02:00:00 UTC\nNextElapseUSecRealtime={next}\n"
        );
        Unit::of("backup.timer", &text)
    }

    #[test]
    fn each_fault_has_its_code() {
        let now = time("Sun 2026-01-04 08:00:00 UTC").unwrap();
        let (tomorrow, past) = ("Mon 2026-01-05 02:00:00 UTC", "Sun 2026-01-04 07:50:00 UTC");
        for (timer, result, status, code) in [
            (timer("active", "waiting", tomorrow), "success", Status::Ok, None),
            (timer("active", "waiting", "n/a"), "success", Status::Ok, None),
            (timer("active", "waiting", past), "success", Status::Warning, Some("host.timer.missed")),
            (timer("inactive", "dead", ""), "success", Status::Critical, Some("host.timer.inactive")),
            (timer("active", "elapsed", ""), "success", Status::Critical, Some("host.timer.inactive")),
            (timer("active", "waiting", tomorrow), "exit-code", Status::Critical, Some("host.timer.failed")),
        ] {
            let run = Unit::of("backup.service", &format!("ActiveState=inactive\nResult={result}\n"));
            let report = judge(std::slice::from_ref(&timer), &[run], now, &Limits::defaults(&SPEC));
            let found = report.found().first().map(|finding| finding.code.as_ref());
            assert_eq!((report.status(), found), (status, code), "{timer:?}");
        }
    }

    #[test]
    fn a_job_that_hangs_is_told() {
        let now = time("Sun 2026-01-04 08:00:00 UTC").unwrap();
        let calendar = "TimersCalendar={ OnCalendar=*-*-* 02:00:00 ; next_elapse=n/a }\n";
        let (once, again) = (
            "TimersMonotonic={ OnBootUSec=5min ; next_elapse=5min }\n",
            "TimersMonotonic={ OnBootUSec=5min ; next_elapse=5min }\n\
             TimersMonotonic={ OnUnitActiveUSec=1h ; next_elapse=n/a }\n\
             TimersMonotonic={ OnStartupUSec=5min ; next_elapse=5min }\n",
        );
        let (today, friday) = ("Sun 2026-01-04 02:00:00 UTC", "Fri 2026-01-02 02:00:00 UTC");
        for (fires, state, since, status) in [
            (calendar, ("activating", "start"), today, Status::Ok),
            (calendar, ("activating", "start"), friday, Status::Warning),
            (calendar, ("active", "running"), friday, Status::Warning),
            (again, ("active", "running"), friday, Status::Warning),
            (again, ("activating", "start"), "n/a", Status::Unknown),
            // A service that a timer starts after the boot, and a oneshot that stays active.
            (once, ("active", "running"), friday, Status::Ok),
            (calendar, ("active", "exited"), friday, Status::Ok),
        ] {
            let text = format!(
                "LoadState=loaded\nActiveState=active\nSubState=running\nUnit=backup.service\n\
                 LastTriggerUSec={since}\nNextElapseUSecRealtime=\n{fires}"
            );
            let timer = Unit::of("backup.timer", &text);
            let (active, sub) = state;
            let run = Unit::of(
                "backup.service",
                &format!(
                    "ActiveState={active}\nSubState={sub}\nResult=success\nInactiveExitTimestamp={since}\n"
                ),
            );
            let report = judge(&[timer], &[run], now, &Limits::defaults(&SPEC));
            assert_eq!(report.status(), status, "{fires} {state:?} {since}: {report:?}");
            let found = report.found().first().map(|finding| finding.code.as_ref());
            assert_eq!(found, (status == Status::Warning).then_some("host.timer.running"));
        }
    }
}
