use ops_core::{Bounds, Status};
use ops_testkit::TestDb;
use sqlx::Executor;

use super::{AbortOnDrop, Held, Row, run};

const A_MIB: Bounds = Bounds { warning: Some(1_048_576.0), critical: None };

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row::of("pg.sequences", Status::Critical, "pg.sequence.exhausted", |db| {
            run(db, "CREATE TABLE events (id serial PRIMARY KEY); SELECT setval('events_id_seq', 2130000000)")
        })
        .about(|_| "public.events_id_seq".into()),
        Row::of("pg.index_duplicate", Status::Warning, "pg.index.duplicate", |db| {
            run(db, "CREATE TABLE t (a int); CREATE INDEX t_a ON t (a); CREATE INDEX t_a2 ON t (a)")
        })
        .about(|_| "public.t_a2".into()),
        Row::of("pg.vacuum_backlog", Status::Warning, "pg.vacuum.overdue", |db| Box::pin(overdue_table(db)))
            .about(|_| "public.overdue".into()),
        Row::of("pg.dead_tuples", Status::Warning, "pg.table.dead_rows", |db| {
            run(
                db,
                "CREATE TABLE queue (id int) WITH (autovacuum_enabled = off);
                 INSERT INTO queue SELECT generate_series(1, 20000); DELETE FROM queue WHERE id > 2000",
            )
        })
        .about(|_| "public.queue".into()),
        Row::of("pg.stale_statistics", Status::Warning, "pg.statistics.never", |db| {
            run(
                db,
                "CREATE TABLE loaded (id int) WITH (autovacuum_enabled = off);
                 INSERT INTO loaded SELECT generate_series(1, 20000)",
            )
        })
        .about(|_| "public.loaded".into()),
        Row::of("pg.seq_scans", Status::Ok, "pg.table.seq_scans", |db| Box::pin(scanned_table(db)))
            .about(|_| "public.scanned".into()),
        Row::of("pg.size", Status::Ok, "pg.size.largest", |db| {
            run(
                db,
                "CREATE TABLE largest AS SELECT repeat('x', 1000) AS filler FROM generate_series(1, 16000);
                 ANALYZE largest",
            )
        })
        .about(|_| "public.largest".into()),
        Row::of("pg.partitions", Status::Warning, "pg.partition.default_filled", |db| {
            run(
                db,
                "CREATE TABLE parts (id int) PARTITION BY RANGE (id);
                 CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
                 CREATE TABLE parts_default PARTITION OF parts DEFAULT; INSERT INTO parts VALUES (5), (50)",
            )
        })
        .about(|_| "public.parts_default".into()),
        Row::of("pg.table_bloat", Status::Warning, "pg.table.bloat", |db| Box::pin(bloated_table(db)))
            .about(|_| "public.bloated".into())
            .bounded(&[("wasted", A_MIB)]),
    ]
}

/// With a lock that autovacuum does not wait for.
async fn overdue_table(db: &TestDb) -> Held {
    db.execute("CREATE TABLE overdue (id int)").await;
    let mut locker = db.connect().await.unwrap();
    locker.execute("BEGIN; LOCK TABLE overdue IN SHARE UPDATE EXCLUSIVE MODE").await.unwrap();
    db.execute("INSERT INTO overdue SELECT generate_series(1, 20000); DELETE FROM overdue").await;
    let mut held = Held::new();
    held.push(Box::new(locker));
    held
}

/// 10 MiB that a session reads again and again.
async fn scanned_table(db: &TestDb) -> Held {
    db.execute(
        "CREATE TABLE scanned AS SELECT repeat('x', 1000) AS filler FROM generate_series(1, 10000);
         ANALYZE scanned",
    )
    .await;
    let mut connection = db.connect().await.unwrap();
    let mut held = Held::new();
    held.push(Box::new(AbortOnDrop(tokio::spawn(async move {
        while connection.execute("SELECT count(*) FROM scanned").await.is_ok() {}
    }))));
    held
}

async fn bloated_table(db: &TestDb) -> Held {
    db.execute(
        "CREATE TABLE bloated (id int, filler text) WITH (autovacuum_enabled = off);
         INSERT INTO bloated SELECT g, repeat('x', 100) FROM generate_series(1, 40000) g",
    )
    .await;
    // What the other rows have planted is to be judged too.
    for statement in ["DELETE FROM bloated WHERE id % 10 > 0", "VACUUM (ANALYZE) bloated", "ANALYZE"] {
        db.execute(statement).await;
    }
    Held::new()
}
