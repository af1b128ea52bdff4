use std::time::Duration;

use ops_core::telemetry::{PeriodSink, Recorder};
use ops_core::{Context, ErrorKind};
use ops_pg::PeriodTable;
use ops_testkit::{TestDb, on_each_postgres};
use sqlx::Row;

on_each_postgres!(a_period_is_stored_once, async |db: TestDb| {
    let (pool, cx) = (db.pool().unwrap(), Context::new());
    assert_eq!(PeriodTable::new(pool.clone(), "periods").unwrap_err().kind(), ErrorKind::InvalidInput);
    let table = PeriodTable::new(pool.clone(), "public.App Periods").unwrap();
    let recorder = Recorder::new("shop", cx.now());
    recorder.count("it's placed", 3);
    recorder.observe("checkout", Duration::from_millis(10));
    let period = recorder.close(cx.now());

    let missing = table.store(&cx, &period).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound, "{}", missing.report());
    for _ in 0..2 {
        table.create(&cx).await.unwrap();
        table.store(&cx, &period).await.unwrap();
    }
    let rows =
        sqlx::query("SELECT kind, name, count, p95_ms FROM \"App Periods\" ORDER BY kind").fetch_all(&pool);
    let rows = rows.await.unwrap();
    let row = |n: usize| (rows[n].get::<String, _>(0), rows[n].get::<String, _>(1), rows[n].get::<i64, _>(2));
    assert_eq!(rows.len(), 2);
    assert_eq!(row(0), ("count".into(), "it's placed".into(), 3));
    assert_eq!(row(1), ("time".into(), "checkout".into(), 1));
    assert_eq!(rows[0].get::<Option<f64>, _>(3), None);
    assert!((rows[1].get::<f64, _>(3) - 10.0).abs() < 0.1);
    pool.close().await;
});
