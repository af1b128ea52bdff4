use std::collections::BTreeSet;

use ops_core::Status;
use ops_pg::registry;
use ops_testkit::{Role, TestDb, on_each_postgres};

use crate::rows::rows;

#[test]
fn every_registered_probe_has_a_row() {
    let registered: BTreeSet<_> = registry().iter().map(|probe| probe.spec().name).collect();
    let rows: BTreeSet<_> = rows().iter().map(|row| row.probe).collect();
    assert_eq!(registered, rows);
}

#[test]
fn every_registered_probe_explains_itself() {
    for probe in registry() {
        let (spec, text) = (probe.spec(), probe.spec().explanation);
        for (what, said) in [
            ("why", text.why),
            ("measures", text.measures),
            ("versions", text.versions),
            ("cost", text.cost),
            ("remedy", text.remedy),
            ("group", spec.group),
        ] {
            assert!(said.len() > 3, "{}: {what}", spec.name);
        }
        assert!(!text.codes.is_empty() && !text.queries.is_empty(), "{}", spec.name);
        assert!(
            spec.thresholds.iter().all(|t| !t.source.is_empty() && !t.meaning.is_empty()),
            "{}",
            spec.name
        );
    }
}

on_each_postgres!(each_probe_finds_its_plant, async |db: TestDb| {
    for row in rows() {
        let before = row.look(&db, Role::Superuser, false).await;
        assert!(!row.shows(&db, &before), "{} before its plant: {before:#?}", row.probe);
        let held = (row.plant)(&db).await;
        let result = row.look(&db, Role::Superuser, true).await;
        drop(held);
        assert_eq!(result.status, row.expected, "{result:#?}");
        assert!(row.shows(&db, &result), "{} does not show {}: {result:#?}", row.probe, row.code);
        assert_ne!(result.status, Status::Ok);
        let codes = crate::rows::probe_named(row.probe).spec().explanation.codes;
        for finding in &result.findings {
            assert!(codes.iter().any(|(code, _)| *code == finding.code), "{} is not explained", finding.code);
        }
    }
});
