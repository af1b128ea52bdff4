use ops_core::{Severity, Status};
use ops_testkit::{Role, TestDb, on_each_postgres};

use crate::rows::{blocked_alter, rows};

on_each_postgres!(the_idle_reader_is_the_root_and_no_innocent_is_named, async |db: TestDb| {
    let row = rows().into_iter().find(|row| row.probe == "pg.blocking").unwrap();
    let held = blocked_alter(&db).await;
    let innocent = db.connect().await.unwrap();
    let result = row.look(&db, Role::Superuser, Some(&held)).await;
    drop((held, innocent));

    assert_eq!(result.status, Status::Critical);
    let ours: Vec<_> =
        result.findings.iter().filter(|f| f.object.as_deref() == Some("public.orders")).collect();
    assert_eq!(ours.len(), 1, "{ours:#?}");
    assert_eq!(ours[0].severity, Severity::Critical);
    let parts: Vec<(&str, &str)> = ours[0]
        .evidence
        .iter()
        .map(|part| (part["part"].as_str().unwrap(), part["query"].as_str().unwrap()))
        .collect();
    assert_eq!(
        parts,
        [
            ("root", "SET application_name = '…'; BEGIN; SELECT count(*) FROM orders"),
            ("waits", "ALTER TABLE orders ADD COLUMN note text"),
            ("waits", "TABLE orders"),
            ("waits", "TABLE orders"),
        ]
    );
    let root = ours[0].evidence[0]["pid"].as_i64().unwrap();
    let statement = ours[0].remedy.as_ref().unwrap().statement.as_deref().unwrap();
    assert_eq!(statement, format!("SELECT pg_terminate_backend({root});"));
});
