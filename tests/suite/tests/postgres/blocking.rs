use ops_core::{Severity, Status};
use ops_testkit::{Role, TestDb, on_each_postgres};
use sqlx::Executor;

use crate::rows::{AbortOnDrop, blocked_alter, rows, until};

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

// A queue for a row drains, each in its turn.
on_each_postgres!(a_queue_for_a_row_is_no_alarm_at_once, async |db: TestDb| {
    db.execute("CREATE TABLE hot AS SELECT 1 AS id, 0 AS n").await;
    let mut batch = db.connect().await.unwrap();
    batch.execute("BEGIN; UPDATE hot SET n = n + 1").await.unwrap();
    let mut requests = Vec::new();
    for n in 1..=3 {
        let mut request = db.connect().await.unwrap();
        requests.push(AbortOnDrop(tokio::spawn(async move {
            // It ends with its database.
            let _ = request.execute("UPDATE hot SET n = n + 1 WHERE id = 1").await;
        })));
        let here = "datname = current_database() AND wait_event_type = 'Lock'";
        until(&db, &format!("SELECT count(*) = {n} FROM pg_stat_activity WHERE {here}")).await;
    }
    until(
        &db,
        "SELECT count(*) = 3 FROM pg_locks l JOIN pg_stat_activity a USING (pid)
          WHERE NOT granted AND a.datname = current_database() AND waitstart < clock_timestamp() - interval '1.2 s'",
    )
    .await;
    let row = rows().into_iter().find(|row| row.probe == "pg.blocking").unwrap();
    let result = row.look(&db, Role::Superuser, None).await;
    let ours = |f: &&ops_core::Finding| f.evidence[0]["database"] == db.name();
    // A loaded machine may bring the wait itself to its warning of five seconds.
    let alarms = result.findings.iter().filter(ours).filter(|f| f.severity == Severity::Critical).count();
    assert_eq!(alarms, 0, "{result:#?}");
    drop(batch);
});
