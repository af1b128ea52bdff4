use std::time::Duration;

use ops_core::{Bounds, Status};
use ops_testkit::{PgBouncer, ROLES, Role, TestDb, eventually};
use sqlx::postgres::PgPoolOptions;
use sqlx::{Executor, Row as _};

use super::{AbortOnDrop, Held, Row, blocked_alter, run, until};

/// Whatever has begun at all.
const AT_ONCE: Bounds = Bounds { warning: Some(0.0), critical: None };

const BURN: &str = "DO $$ BEGIN FOR i IN 1..200 LOOP PERFORM txid_current(); COMMIT; END LOOP; END $$";

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row::of("pg.connections", Status::Warning, "pg.connections.high", |db| Box::pin(idle_sessions(db)))
            .bounded(&[("used", Bounds { warning: Some(5.0), critical: None })]),
        Row::of("pg.blocking", Status::Critical, "pg.blocking.root", |db| Box::pin(blocked_alter(db)))
            .about(|_| "public.orders".into()),
        Row::of("pg.wraparound", Status::Warning, "pg.wraparound.age", |db| run(db, BURN))
            .about(|db| db.name().to_owned())
            .bounded(&[("age", Bounds { warning: Some(100.0), critical: None })]),
        Row::of("pg.idle_in_transaction", Status::Warning, "pg.session.idle_in_transaction", |db| {
            Box::pin(held(db, "BEGIN; SELECT txid_current()"))
        })
        .bounded(&[("idle", AT_ONCE)]),
        Row::of("pg.long_transactions", Status::Warning, "pg.transaction.long", |db| {
            Box::pin(held(db, "BEGIN; SELECT txid_current()"))
        })
        .bounded(&[("age", AT_ONCE)]),
        Row::of("pg.long_queries", Status::Warning, "pg.query.long", |db| Box::pin(asleep(db)))
            .bounded(&[("running", AT_ONCE)]),
        Row::of("pg.wait_events", Status::Warning, "pg.wait_events.high", |db| Box::pin(asleep(db)))
            .bounded(&[("waiting", Bounds { warning: Some(1.0), critical: None })]),
        Row::of("pg.prepared_transactions", Status::Warning, "pg.prepared_transaction.old", |db| {
            Box::pin(prepared(db, "forgotten"))
        })
        .about(|db| format!("{}_forgotten", db.name()))
        .bounded(&[("age", AT_ONCE)]),
        Row::of("pg.xmin_horizon", Status::Warning, "pg.xmin_horizon.prepared", |db| {
            Box::pin(async {
                let held = prepared(db, "holder").await;
                db.execute(BURN).await;
                held
            })
        })
        .about(|db| format!("{}_holder", db.name()))
        .bounded(&[("age", Bounds { warning: Some(100.0), critical: None })]),
        Row::of("pg.deadlocks", Status::Warning, "pg.deadlocks.rate", |db| Box::pin(deadlocks(db)))
            .about(|db| db.name().to_owned())
            .bounded(&[("rate", Bounds { warning: None, critical: Some(1e6) })]),
        // Late by this bound: a local one takes milliseconds.
        Row::of("pg.notify_latency", Status::Warning, "pg.notify.slow", |_| Box::pin(async { Held::new() }))
            .bounded(&[("latency", AT_ONCE)]),
        Row::of("pg.pgbouncer", Status::Warning, "pg.pgbouncer.waiting", |db| Box::pin(full_pool(db)))
            .about(|db| format!("{}/postgres", db.name()))
            .needing(PgBouncer::found),
        Row::of("pg.pool", Status::Critical, "pg.pool.slow", |db| Box::pin(lent_out(db))),
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

/// A session that has run this and does nothing more.
async fn held(db: &TestDb, sql: &'static str) -> Held {
    let mut connection = db.connect().await.unwrap();
    connection.execute(sql).await.unwrap();
    let mut held = Held::new();
    held.push(Box::new(connection));
    held
}

async fn asleep(db: &TestDb) -> Held {
    let mut held = Held::new();
    for _ in 0..2 {
        let mut connection = db.connect().await.unwrap();
        held.push(Box::new(AbortOnDrop(tokio::spawn(async move {
            // It ends with its database.
            let _ = connection.execute("SELECT pg_sleep(60)").await;
        }))));
    }
    until(
        db,
        "SELECT count(*) >= 2 FROM pg_stat_activity
          WHERE datname = current_database() AND state = 'active' AND wait_event = 'PgSleep'",
    )
    .await;
    held
}

async fn prepared(db: &TestDb, gid: &str) -> Held {
    db.execute(format!("BEGIN; SELECT txid_current(); PREPARE TRANSACTION '{}_{gid}'", db.name())).await;
    Held::new()
}

/// Two sessions that take two locks in different order, again and again.
async fn deadlocks(db: &TestDb) -> Held {
    let mut held = Held::new();
    for (first, second) in [(1, 2), (2, 1)] {
        let mut connection = db.connect().await.unwrap();
        connection.execute("SET deadlock_timeout = '50ms'").await.unwrap();
        let sql = format!(
            "DO $$ BEGIN PERFORM pg_advisory_xact_lock({first}); PERFORM pg_sleep(0.02);
             PERFORM pg_advisory_xact_lock({second}); END $$"
        );
        held.push(Box::new(AbortOnDrop(tokio::spawn(async move {
            loop {
                // One of the two fails each time: that is what is planted.
                let _ = connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(sql.clone()))).await;
            }
        }))));
    }
    until(db, "SELECT deadlocks >= 2 FROM pg_stat_database WHERE datname = current_database()").await;
    held
}

/// A service's pool for each role, whose one connection is lent.
async fn lent_out(db: &TestDb) -> Held {
    let (mut held, mut pools) = (Held::new(), Vec::new());
    for role in ROLES {
        let pool = PgPoolOptions::new().max_connections(1).connect(&db.url_as(role)).await.unwrap();
        held.push(Box::new(pool.acquire().await.unwrap()));
        pools.push((role, pool));
    }
    held.with_pools(pools)
}

/// A pool of one connection, which a transaction keeps, and a client that has waited for it for over a second.
async fn full_pool(db: &TestDb) -> Held {
    let settings = ["pool_mode = transaction", "default_pool_size = 1"];
    let pooler = PgBouncer::before(db, &settings).await.unwrap();
    let mut keeper = pooler.connect(db, Role::Superuser).await.unwrap();
    keeper.execute("BEGIN").await.unwrap();
    let mut waiting = pooler.connect(db, Role::Superuser).await.unwrap();
    let waits = AbortOnDrop(tokio::spawn(async move {
        // It ends with its pooler.
        let _ = waiting.execute("SELECT 1").await;
    }));
    let mut console = pooler.connect_to_console().await.unwrap();
    eventually("a client has waited for over a second", Duration::from_secs(10), async || {
        let pools = console.fetch_all(sqlx::raw_sql("SHOW POOLS")).await.unwrap();
        pools.iter().any(|pool| pool.get_unchecked::<i32, _>("maxwait") >= 1).then_some(())
    })
    .await;
    let mut held = Held::new().with_console(pooler.console());
    held.push(Box::new((keeper, waits, pooler)));
    held
}
