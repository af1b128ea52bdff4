use ops_core::{Context, ErrorKind, HealthProbe, ProbeResult, ProbeSet, Secret, Status};
use ops_pg::{MetricConfig, PgConfig, PgTarget, SqlMetric};
use ops_testkit::{TestDb, on_each_postgres};
use serde_json::json;

fn metric(db: &TestDb, sql: &str) -> SqlMetric {
    let target = PgTarget::connect_lazily("main", &Secret::from(db.url()), PgConfig::default()).unwrap();
    let config: MetricConfig = serde_json::from_value(json!({
        "name": "stuck", "target": "main", "sql": sql, "unit": "count", "warning": 2.0, "critical": 10.0,
    }))
    .unwrap();
    SqlMetric::new(target, config)
}

async fn look(db: &TestDb, sql: &str) -> ProbeResult {
    let mut set = ProbeSet::new("test");
    set.add("main", metric(db, sql));
    set.run(&Context::new()).await.probes.remove(0)
}

on_each_postgres!(each_row_is_a_measurement_with_its_labels, async |db: TestDb| {
    db.execute(
        "CREATE TABLE jobs AS SELECT * FROM (VALUES ('mail', 1), ('mail', 2), ('pay', 3)) v (queue, id)",
    )
    .await;
    let result = look(&db, "SELECT queue, count(*) AS value FROM jobs GROUP BY 1 ORDER BY 1").await;
    assert_eq!(result.status, Status::Warning, "{result:#?}");
    let values: Vec<_> = result.measurements.iter().map(|m| (m.labels["queue"].as_str(), m.value)).collect();
    assert_eq!(values, [("mail", 2.0), ("pay", 1.0)]);
    assert_eq!(result.findings[0].object.as_deref(), Some("queue=mail"));
});

on_each_postgres!(what_cannot_be_told_is_unknown, async |db: TestDb| {
    for sql in [
        "SELECT 1 AS value WHERE false",
        "SELECT NULL::int AS value",
        "SELECT 1 AS number",
        "SELECT 'many' AS value",
        "SELECT value FROM generate_series(1, 5000) value",
        "SELECT * FROM no_such_table",
        "not SQL at all",
    ] {
        let result = look(&db, sql).await;
        assert_eq!(result.status, Status::Unknown, "{sql}: {result:#?}");
    }
});

// A scraper keeps one value of a series, and which one would be chance.
on_each_postgres!(two_rows_with_the_same_labels_are_a_mistake, async |db: TestDb| {
    for (sql, named) in [
        ("SELECT 'x' AS k, value FROM generate_series(1, 2) value", "k=x"),
        ("SELECT value FROM generate_series(1, 2) value", "without labels"),
        ("SELECT * FROM (VALUES (NULL, 1), ('', 2)) v (k, value)", "k="),
    ] {
        let error = metric(&db, sql).probe(&Context::new()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration, "{sql}: {error}");
        assert!(error.report().contains(named), "{sql}: {}", error.report());
    }
    let result = look(&db, "SELECT k, 1 AS value FROM generate_series(1, 2) k").await;
    assert_eq!(result.status, Status::Ok, "{result:#?}");
});

on_each_postgres!(a_metric_cannot_write, async |db: TestDb| {
    db.execute("CREATE TABLE t (a int)").await;
    for sql in [
        "INSERT INTO t VALUES (1) RETURNING 1 AS value",
        "SELECT 1 AS value; COMMIT; INSERT INTO t VALUES (1)",
        "COMMIT; INSERT INTO t VALUES (1)",
        "WITH w AS (INSERT INTO t VALUES (1) RETURNING 1 AS value) SELECT value FROM w",
        "COMMIT",
    ] {
        let outcome = metric(&db, sql).probe(&Context::new()).await;
        if let Err(error) = &outcome {
            assert_ne!(error.kind(), ErrorKind::Bug, "{sql}: {error}");
        }
        let status = outcome.map(|report| report.status()).unwrap_or(Status::Unknown);
        assert_eq!(status, Status::Unknown, "{sql}");
    }
    let mut connection = db.connect().await.unwrap();
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM t").fetch_one(&mut connection).await.unwrap();
    assert_eq!(rows, 0);
});
