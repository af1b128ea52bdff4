use std::collections::BTreeSet;

use ops_core::{Context, Finding, HealthReport, ProbeSetOptions, Severity, Status};
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
    bad.map(|finding| (finding.code.to_string(), object_of(finding))).collect()
}

/// The object of a finding, where it is known before.
fn object_of(finding: &Finding) -> String {
    let known = plants().iter().all(|plant| plant.finding().0 != finding.code || plant.finding().1.is_some());
    finding.object.clone().filter(|_| known).unwrap_or_default()
}

/// What should alarm, with these plants left out. An unused index does not, before a month is over.
fn planted(without: &[&str]) -> Shown {
    let left =
        plants().iter().filter(|plant| !without.contains(&plant.name()) && plant.name() != "unused-index");
    let finding =
        |(code, object): (&str, Option<&str>)| (code.to_owned(), object.unwrap_or_default().to_owned());
    left.map(|plant| finding(plant.finding())).collect()
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
    assert_eq!(plants().len(), 12);
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
    let (code, object) = plants().iter().find(|plant| plant.name() == name).unwrap().finding();
    let mut findings = report.probes.iter().flat_map(|probe| &probe.findings);
    let shown =
        findings.find(|f| f.code == code && object.is_none_or(|object| f.object.as_deref() == Some(object)));
    assert!(shown.is_none(), "{shown:#?}");
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
    unused_index: "unused-index",
    invalid_index: "invalid-index",
    missing_fk_index: "missing-fk-index",
    bloated_table: "bloated-table",
    exhausted_sequence: "exhausted-sequence",
    missing_rls: "missing-rls",
    no_ttl: "keys-without-ttl",
    cold_cache: "cold-cache",
    slow_query: "slow-query",
    xmin_holder: "xmin-holder",
    blocked_alter: "blocked-alter",
}

#[tokio::test]
async fn an_unknown_plant_is_refused_before_anything_starts() {
    let options = ops_runbook::demo::DemoOptions::default().without(["duplicate_index".to_owned()]);
    let error = Demo::start(&Context::new(), &options).await.unwrap_err();
    assert_eq!(error.kind(), ops_core::ErrorKind::InvalidInput);
    assert!(error.report().contains("there are: duplicate-index, "), "{}", error.report());
}
