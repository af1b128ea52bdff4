//! The rules of [`HealthProbe`].

use std::collections::BTreeSet;
use std::time::Duration;

use super::rule::{GRACE, ends, error_keeps_secrets, holds, is_stable_name, keeps_secrets, same};
use crate::context::Context;
use crate::error::{ErrorKind, Result};
use crate::measurement::Measurement;
use crate::probe::HealthProbe;
use crate::report::ProbeReport;
use crate::unit::Unit;

/// Checks a probe, on a target whose state does not change meanwhile; well or ill, reachable or not.
///
/// - The name is `family.subject` in lowercase, and so are the codes of its findings.
/// - Measurements are told apart by name and labels, and are numbers.
/// - Two runs measure the same things, in the same units; or fail in the same way.
/// - Cancelled before or while it runs, or out of time, it ends within 2 s.
/// - `secrets` (passwords, tokens, keys that the target was given) show up neither in a report, nor in an error or
///   its fix, nor in any `Debug`.
///
/// # Panics
/// When a rule is broken.
pub async fn health_probe(probe: &dyn HealthProbe, secrets: &[&str]) {
    let name = probe.name();
    holds("a probe's name is family.subject", is_stable_name(name), format!("{name:?}"));
    keeps_secrets("a probe keeps its secrets", "its Debug", &format!("{probe:?}"), secrets);

    let cx = Context::new();
    let first = probe.probe(&cx).await;
    let second = probe.probe(&cx).await;
    for result in [&first, &second] {
        check_result(result, secrets);
    }
    same("two runs of a probe agree on their shape", shape(&second), shape(&first));

    for result in stopped(probe).await {
        check_result(&result, secrets);
    }
}

/// What it says when it is stopped, in three ways.
async fn stopped(probe: &dyn HealthProbe) -> [Result<ProbeReport>; 3] {
    let rule = "a probe that is stopped ends";
    let cancelled = Context::new();
    cancelled.cancel();
    let before = ends(rule, GRACE, probe.probe(&cancelled)).await;

    let cx = Context::new();
    let meanwhile = ends(rule, GRACE, async {
        let stop = async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            cx.cancel();
        };
        tokio::join!(probe.probe(&cx), stop).0
    })
    .await;

    let short = Context::new().with_deadline(Duration::from_millis(5));
    let late = ends("a probe that is out of time ends", GRACE, probe.probe(&short)).await;
    [before, meanwhile, late]
}

fn check_result(result: &Result<ProbeReport>, secrets: &[&str]) {
    let rule = "a probe keeps its secrets";
    match result {
        Ok(report) => {
            keeps_secrets(rule, "a report", &format!("{report:?}"), secrets);
            check_report(report);
        }
        Err(error) => error_keeps_secrets(rule, error, secrets),
    }
}

fn check_report(report: &ProbeReport) {
    for finding in report.found() {
        let rule = "a finding's code is family.subject";
        holds(rule, is_stable_name(&finding.code), format!("{:?}", finding.code));
    }
    let mut seen = BTreeSet::new();
    for measurement in report.measured() {
        let Measurement { name, labels, value, .. } = measurement;
        let rule = "measurements are told apart by name and labels";
        holds(rule, seen.insert((name, labels)), format!("{name:?} {labels:?} twice"));
        holds("a measurement is a number", value.is_finite(), format!("{name:?} is {value}"));
    }
}

#[derive(Debug, PartialEq)]
enum Shape<'a> {
    Measures(BTreeSet<(&'a str, &'static str)>),
    NotApplicable,
    Fails(ErrorKind),
}

fn shape(result: &Result<ProbeReport>) -> Shape<'_> {
    let unit = Unit::as_str;
    match result {
        Ok(report) if report.status() == crate::Status::NotApplicable => Shape::NotApplicable,
        Ok(report) => Shape::Measures(report.measured().iter().map(|m| (&*m.name, unit(m.unit))).collect()),
        Err(error) => Shape::Fails(error.kind()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use async_trait::async_trait;

    use super::super::rule::assert_refused;
    use super::*;
    use crate::error::Error;
    use crate::finding::Finding;

    const PASSWORD: &str = "hunter2";

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Fault {
        None,
        Fails,
        BadName,
        BadCode,
        Forgets,
        ChangesUnit,
        Repeats,
        NotANumber,
        IgnoresCancellation,
        IgnoresDeadline,
        ShowsInReport,
        ShowsInError,
        ShowsInFix,
        ShowsInDebug,
    }

    struct Probe {
        fault: Fault,
        runs: AtomicU32,
    }

    impl std::fmt::Debug for Probe {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(if self.fault == Fault::ShowsInDebug { PASSWORD } else { "Probe" })
        }
    }

    #[async_trait]
    impl HealthProbe for Probe {
        fn name(&self) -> &str {
            if self.fault == Fault::BadName { "Queue" } else { "t.queue" }
        }

        async fn probe(&self, cx: &Context) -> Result<ProbeReport> {
            let look = || async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                Ok(())
            };
            match self.fault {
                // Honours the other of the two, so that each rule is seen to fail by itself.
                Fault::IgnoresCancellation if cx.deadline().is_none() => {
                    tokio::time::sleep(Duration::from_secs(10)).await;
                }
                Fault::IgnoresDeadline if cx.deadline().is_some() => {
                    tokio::time::sleep(Duration::from_secs(10)).await;
                }
                _ => cx.run("look", look()).await?,
            }
            let second = self.runs.fetch_add(1, Ordering::Relaxed) == 1;
            let unit = if second && self.fault == Fault::ChangesUnit { Unit::Bytes } else { Unit::Count };
            let waiting = Measurement::new("waiting", 3.0, unit);
            let report = ProbeReport::new("3 jobs wait");
            let failed = || Error::new(ErrorKind::PermissionDenied, "look");
            Ok(match self.fault {
                Fault::Fails => return Err(failed()),
                Fault::ShowsInError => return Err(failed().because(format!("{PASSWORD} is wrong"))),
                Fault::ShowsInFix => return Err(failed().with_fix(format!("log in as {PASSWORD}"))),
                Fault::ShowsInReport => report.unseen(format!("tried {PASSWORD}"), None),
                Fault::Forgets if second => report,
                Fault::Repeats => report.measure(waiting.clone()).measure(waiting),
                Fault::NotANumber => report.measure(Measurement::new("waiting", f64::NAN, unit)),
                Fault::BadCode => report.measure(waiting).finding(Finding::info("Queue is long", "m")),
                _ => report.measure(waiting).finding(Finding::info("t.queue.long", "m")),
            })
        }
    }

    async fn run(fault: Fault) {
        health_probe(&Probe { fault, runs: AtomicU32::new(0) }, &["other", PASSWORD]).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_good_probe_passes_whether_it_can_see_or_not() {
        run(Fault::None).await;
        run(Fault::Fails).await;
    }

    #[tokio::test(start_paused = true)]
    async fn each_broken_probe_is_refused_by_its_rule() {
        for (fault, rule) in [
            (Fault::BadName, "a probe's name is family.subject"),
            (Fault::BadCode, "a finding's code is family.subject"),
            (Fault::Forgets, "two runs of a probe agree on their shape"),
            (Fault::ChangesUnit, "two runs of a probe agree on their shape"),
            (Fault::Repeats, "measurements are told apart by name and labels"),
            (Fault::NotANumber, "a measurement is a number"),
            (Fault::IgnoresCancellation, "a probe that is stopped ends"),
            (Fault::IgnoresDeadline, "a probe that is out of time ends"),
            (Fault::ShowsInReport, "a probe keeps its secrets"),
            (Fault::ShowsInError, "a probe keeps its secrets"),
            (Fault::ShowsInFix, "a probe keeps its secrets"),
            (Fault::ShowsInDebug, "a probe keeps its secrets"),
        ] {
            assert_refused(fault, rule, run(fault)).await;
        }
    }
}
