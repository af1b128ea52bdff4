use ops_core::HealthReport;
use ops_runbook::demo::plants;
use ops_testkit::Said;

use crate::local::local;

#[tokio::test]
async fn it_finds_what_it_planted() {
    let Some(local) = local().await else { return };
    let said = Said::by(&mut local.ops(&["demo"]));
    assert_eq!((said.code, &*said.stderr), (Some(0), ""), "{said:?}");
    assert!(said.stdout.contains("Found 12 of 12 planted faults."), "{}", said.stdout);
    for plant in plants() {
        assert!(said.stdout.contains(plant.finding().1.unwrap_or_default()), "{}", plant.name());
        assert!(said.stdout.contains(&format!("  {} ", plant.name())), "{}", plant.name());
    }
    for line in said.stdout.lines() {
        // Statements stay whole, whatever their length.
        assert!(line.chars().count() <= 100 || line.contains(';'), "{line}");
    }
}

#[tokio::test]
async fn json_is_the_report_and_nothing_else() {
    let Some(local) = local().await else { return };
    let said = Said::by(&mut local.ops(&["demo", "--output", "json", "--without", "missing-rls"]));
    assert_eq!((said.code, &*said.stderr), (Some(0), ""), "{said:?}");
    let report: HealthReport = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!((&*report.schema, &*report.service), ("ops.health/1", "demo shop"));
    let codes: Vec<_> =
        report.probes.iter().flat_map(|probe| &probe.findings).map(|finding| &*finding.code).collect();
    assert!(codes.contains(&"pg.blocking.root") && !codes.contains(&"pg.rls.disabled"), "{codes:?}");
}

#[tokio::test]
async fn what_starts_no_server() {
    let Some(local) = local().await else { return };
    let list = Said::by(&mut local.ops(&["demo", "--list"]));
    assert_eq!(list.code, Some(0));
    insta::assert_snapshot!("list", list.stdout);

    let unknown = Said::by(&mut local.ops(&["demo", "--without", "missing_rls"]));
    assert_eq!((unknown.code, &*unknown.stdout), (Some(64), ""));
    insta::assert_snapshot!("unknown_plant", unknown.stderr);

    let nowhere = Said::by(local.ops(&["demo"]).env("OPS_PG_BIN", "/nowhere"));
    assert_eq!((nowhere.code, &*nowhere.stdout), (Some(1), ""));
    insta::assert_snapshot!("no_postgres", nowhere.stderr);
}
