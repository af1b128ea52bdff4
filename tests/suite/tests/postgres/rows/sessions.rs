use ops_core::{Bounds, Status};
use ops_testkit::TestDb;
use sqlx::Executor;

use super::{AbortOnDrop, Held, Row, blocked_alter, run};

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row::of("pg.connections", Status::Warning, "pg.connections.high", |db| Box::pin(idle_sessions(db)))
            .bounded(&[("used", Bounds { warning: Some(5.0), critical: None })]),
        Row::of("pg.blocking", Status::Critical, "pg.blocking.root", |db| Box::pin(blocked_alter(db)))
            .about(|_| "public.orders".into()),
        Row::of("pg.wraparound", Status::Warning, "pg.wraparound.age", |db| {
            run(db, "DO $$ BEGIN FOR i IN 1..200 LOOP PERFORM txid_current(); COMMIT; END LOOP; END $$")
        })
        .about(|db| db.name().to_owned())
        .bounded(&[("age", Bounds { warning: Some(100.0), critical: None })]),
        Row::of("pg.slow_queries", Status::Warning, "pg.query.slow", |db| Box::pin(slow_queries(db))),
    ]
}

async fn idle_sessions(db: &TestDb) -> Held {
    let mut held = Held::new();
    for _ in 0..15 {
        held.push(Box::new(db.connect().await.unwrap()));
    }
    held
}

/// Six sessions that run a slow statement again and again.
async fn slow_queries(db: &TestDb) -> Held {
    db.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements").await;
    let mut held = Held::new();
    for _ in 0..6 {
        let mut connection = db.connect().await.unwrap();
        held.push(Box::new(AbortOnDrop(tokio::spawn(async move {
            while connection.execute("SELECT pg_sleep(0.55)").await.is_ok() {}
        }))));
    }
    held
}
