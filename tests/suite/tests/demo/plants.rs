use std::collections::BTreeSet;

use ops_core::{Context, HealthReport, ProbeSetOptions, Severity, Status};
use ops_runbook::config::{Config, GivenSurroundings};
use ops_runbook::demo::{Demo, plants};
use ops_runbook::system::{Selection, System};

use crate::local::local;

/// The code and the object of a finding.
type Shown = BTreeSet<(String, String)>;

/// What alarms in a report: every finding of warning or worse.
fn alarms(report: &HealthReport) -> Shown {
    let findings = report.probes.iter().flat_map(|probe| &probe.findings);
    let bad = findings.filter(|finding| finding.severity >= Severity::Warning);
    bad.map(|finding| (finding.code.to_string(), finding.object.clone().unwrap_or_default())).collect()
}

/// What should alarm, with these plants left out.
fn planted(without: &[&str]) -> Shown {
    let left = plants().iter().filter(|plant| !without.contains(&plant.name()));
    left.map(|plant| plant.finding()).map(|(code, object)| (code.to_owned(), object.to_owned())).collect()
}

async fn report(without: &[&str]) -> Option<HealthReport> {
    let options = local().await?.options().without(without.iter().map(|name| (*name).to_owned()));
    let cx = Context::new();
    let demo = Demo::start(&cx, &options).await.unwrap();
    let config = Config::read(&demo.config(), "ops.toml".as_ref(), &GivenSurroundings::default()).unwrap();
    let system = System::of_config(&config).unwrap();
    let probes = system.probes(&Selection::new(&[], &[]).unwrap(), ProbeSetOptions::default()).unwrap();
    let report = probes.run(&cx).await;
    assert!(demo.missed(&report).is_empty(), "{:?}", demo.missed(&report));
    let dirs = demo.dirs();
    demo.stop().await.unwrap();
    assert!(!dirs.iter().any(|dir| dir.exists()), "{dirs:?}");
    Some(report)
}

#[tokio::test]
async fn everything_planted_shows_and_nothing_else() {
    let Some(report) = report(&[]).await else { return };
    assert_eq!(alarms(&report), planted(&[]), "{report:#?}");
    assert_eq!(plants().len(), 5);
    assert_eq!(report.status, Status::Critical);
}

#[tokio::test]
async fn nothing_planted_is_fine() {
    let names: Vec<_> = plants().iter().map(|plant| plant.name()).collect();
    let Some(report) = report(&names).await else { return };
    assert_eq!(alarms(&report), Shown::new(), "{report:#?}");
    let hidden = report.probes.iter().filter(|probe| probe.status == Status::Unknown);
    // The one probe that needs an extension, which a server may come without.
    assert!(hidden.clone().all(|probe| probe.probe == "pg.slow_queries"), "{report:#?}");
}

/// Leaving out one plant removes its finding, and no other.
async fn leaves_out(name: &str) {
    let Some(report) = report(&[name]).await else { return };
    assert_eq!(alarms(&report), planted(&[name]), "{report:#?}");
    assert_eq!(planted(&[]).len(), planted(&[name]).len() + 1);
}

/// One test a plant, and a test that no plant is without one.
macro_rules! without {
    ($($test:ident: $name:literal,)*) => {
        mod without {
            $(#[tokio::test]
            async fn $test() {
                super::leaves_out($name).await;
            })*

            #[test]
            fn each_plant_has_its_test() {
                let names: Vec<_> = super::plants().iter().map(|plant| plant.name()).collect();
                assert_eq!(names, [$($name),*]);
            }
        }
    };
}

without! {
    duplicate_index: "duplicate-index",
    exhausted_sequence: "exhausted-sequence",
    missing_rls: "missing-rls",
    no_ttl: "keys-without-ttl",
    blocked_alter: "blocked-alter",
}

#[tokio::test]
async fn an_unknown_plant_is_refused_before_anything_starts() {
    let options = ops_runbook::demo::DemoOptions::default().without(["duplicate_index".to_owned()]);
    let error = Demo::start(&Context::new(), &options).await.unwrap_err();
    assert_eq!(error.kind(), ops_core::ErrorKind::InvalidInput);
    assert!(error.report().contains("there are: duplicate-index, "), "{}", error.report());
}
