use ops_core::{Bounds, Status};
use ops_testkit::TestDb;
use sqlx::Executor;

use super::{AbortOnDrop, Held, Row};

pub(crate) fn rows() -> Vec<Row> {
    const READ: &str = "SELECT count(*) FROM read_often WHERE id > 0";
    vec![
        Row::of("pg.cache_hit", Status::Warning, "pg.cache_hit.low", |db| {
            Box::pin(again_and_again(db, "SET enable_indexscan = off; SET enable_indexonlyscan = off", READ))
        })
        .about(|db| db.name().to_owned())
        .bounded(&[("hit", Bounds { warning: Some(100.0), critical: None })]),
        Row::of("pg.index_hit", Status::Warning, "pg.index_hit.low", |db| {
            Box::pin(again_and_again(db, "SET enable_seqscan = off; SET enable_bitmapscan = off", READ))
        })
        .about(|db| db.name().to_owned())
        .bounded(&[("hit", Bounds { warning: Some(100.0), critical: None })]),
        Row::of("pg.temp_files", Status::Warning, "pg.temp_files.high", |db| {
            Box::pin(again_and_again(
                db,
                "SET work_mem = '64kB'",
                "SELECT count(*) FROM (SELECT g FROM generate_series(1, 50000) g ORDER BY g % 7, g) sorted",
            ))
        })
        .about(|db| db.name().to_owned())
        .bounded(&[("bytes", Bounds { warning: Some(1.0), critical: None })]),
        Row::of("pg.io", Status::Warning, "pg.io.written", |db| {
            Box::pin(again_and_again(
                db,
                "SELECT 1",
                "DROP TABLE IF EXISTS written;
                 CREATE TABLE written AS SELECT repeat('x', 900) FROM generate_series(1, 5000)",
            ))
        })
        .bounded(&[("written", Bounds { warning: Some(1.0), critical: None })])
        .since(16),
    ]
}

/// A session that runs the one statement once and the other until it is dropped.
async fn again_and_again(db: &TestDb, once: &'static str, again: &'static str) -> Held {
    db.execute(
        "CREATE TABLE IF NOT EXISTS read_often (id int PRIMARY KEY);
         INSERT INTO read_often SELECT generate_series(1, 100000) ON CONFLICT DO NOTHING; ANALYZE read_often",
    )
    .await;
    let mut connection = db.connect().await.unwrap();
    connection.execute(once).await.unwrap();
    let mut held = Held::new();
    held.push(Box::new(AbortOnDrop(tokio::spawn(async move {
        while connection.execute(sqlx::raw_sql(again)).await.is_ok() {}
    }))));
    held
}
