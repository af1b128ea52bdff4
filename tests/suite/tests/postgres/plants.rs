use std::collections::BTreeSet;

use ops_core::Status;
use ops_pg::registry;
use ops_testkit::{Role, TestDb, on_each_postgres};

use crate::rows::{Row, rows};

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

/// Plants and looks, row by row: not there before, there after, and nothing in it that is not explained.
async fn each_probe_finds_its_plant(db: &TestDb, rows: Vec<Row>) {
    for row in rows {
        if row.is_left_out(db).await {
            continue;
        }
        let before = row.look(db, Role::Superuser, None).await;
        assert!(!row.shows(db, &before), "{} before its plant: {before:#?}", row.probe);
        let held = (row.plant)(db).await;
        let result = row.look(db, Role::Superuser, Some(&held)).await;
        drop(held);
        assert_eq!(result.status, row.expected, "{result:#?}");
        assert!(row.shows(db, &result), "{} does not show {}: {result:#?}", row.probe, row.code);
        let codes = crate::rows::probe_named(row.probe).spec().explanation.codes;
        for finding in &result.findings {
            assert!(codes.iter().any(|(code, _)| *code == finding.code), "{} is not explained", finding.code);
        }
    }
}

/// What a superuser sees is wrong must not look right to anybody else; and what hides it has a name: applying the
/// statement that an Unknown gives, and nothing else, shows what the superuser saw.
async fn no_role_gets_a_false_ok(db: &TestDb, rows: Vec<Row>) {
    for row in rows {
        if row.is_left_out(db).await {
            continue;
        }
        let held = (row.plant)(db).await;
        for role in [Role::Monitor, Role::Nobody] {
            let mut fixes = Vec::new();
            let mut result = row.look(db, role, Some(&held)).await;
            while result.status == Status::Unknown && fixes.len() < 4 {
                let fix = result.unseen[0].fix.clone();
                let fix =
                    fix.unwrap_or_else(|| panic!("{} as {role:?} names no fix: {result:#?}", row.probe));
                assert!(fix.contains("GRANT") || fix.contains("CREATE EXTENSION"), "{fix}");
                row.execute(db, &held, &fix).await;
                fixes.push(fix);
                result = row.look(db, role, Some(&held)).await;
            }
            assert_eq!(result.status, row.expected, "{} as {role:?} after {fixes:?}: {result:#?}", row.probe);
            assert!(row.shows(db, &result), "{} as {role:?} after {fixes:?}: {result:#?}", row.probe);
        }
        drop(held);
    }
}

/// One module a family of rows, each test in a database of its own.
macro_rules! families {
    ($($family:ident),+) => {$(
        mod $family {
            use super::*;

            on_each_postgres!(plants, async |db: TestDb| {
                each_probe_finds_its_plant(&db, crate::rows::$family::rows()).await;
            });

            on_each_postgres!(roles, async |db: TestDb| {
                no_role_gets_a_false_ok(&db, crate::rows::$family::rows()).await;
            });
        }
    )+};
}

families!(availability, replication, wal, sessions, activity, tables, indexes, objects, settings, security);
