use ops_core::Status;
use ops_testkit::{Role, TestDb, on_each_postgres};

use crate::rows::rows;

// What a superuser sees is wrong must not look right to anybody else; and what hides it has a name: applying the
// statement that an Unknown gives, and nothing else, shows what the superuser saw.
on_each_postgres!(no_role_gets_a_false_ok, async |db: TestDb| {
    for row in rows() {
        let held = (row.plant)(&db).await;
        for role in [Role::Monitor, Role::Nobody] {
            let mut fixes = Vec::new();
            let mut result = row.look(&db, role, true).await;
            while result.status == Status::Unknown && fixes.len() < 4 {
                let fix = result.unseen[0].fix.clone();
                let fix =
                    fix.unwrap_or_else(|| panic!("{} as {role:?} names no fix: {result:#?}", row.probe));
                assert!(fix.contains("GRANT") || fix.contains("CREATE EXTENSION"), "{fix}");
                db.execute(fix.clone()).await;
                fixes.push(fix);
                result = row.look(&db, role, true).await;
            }
            assert_eq!(result.status, row.expected, "{} as {role:?} after {fixes:?}: {result:#?}", row.probe);
            assert!(row.shows(&db, &result), "{} as {role:?} after {fixes:?}: {result:#?}", row.probe);
        }
        drop(held);
    }
});
