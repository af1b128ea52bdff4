use ops_core::{Bounds, Status};
use ops_testkit::TestDb;
use sqlx::Executor;

use super::{Held, Row, run};

const NO_FLOOR: Bounds = Bounds { warning: Some(0.0), critical: None };

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row::of("pg.index_invalid", Status::Warning, "pg.index.invalid", |db| Box::pin(failed_build(db)))
            .about(|_| "public.orders_number".into()),
        // Whether it alarms depends on who else is attached to the server: see the probe's own tests.
        Row::of("pg.index_unused", Status::Ok, "pg.index.unused", |db| {
            run(db, "CREATE TABLE visits (id int); CREATE INDEX visits_id ON visits (id)")
        })
        .about(|_| "public.visits_id".into())
        .bounded(&[("size", NO_FLOOR)]),
        Row::of("pg.index_missing_fk", Status::Warning, "pg.index.missing_fk", |db| {
            run(
                db,
                "CREATE TABLE customers (id int PRIMARY KEY); INSERT INTO customers VALUES (1), (2);
                 CREATE TABLE invoices (customer int REFERENCES customers);
                 INSERT INTO invoices SELECT 1 FROM generate_series(1, 12000); DELETE FROM customers WHERE id = 2",
            )
        })
        .about(|_| "public.invoices (customer)".into()),
        Row::of("pg.index_bloat", Status::Warning, "pg.index.bloat", |db| Box::pin(bloated_index(db)))
            .about(|_| "public.thinned_id".into())
            .bounded(&[("wasted", Bounds { warning: Some(1_048_576.0), critical: None })]),
    ]
}

/// A unique index over duplicates.
async fn failed_build(db: &TestDb) -> Held {
    db.execute("CREATE TABLE orders (number int); INSERT INTO orders VALUES (1), (1)").await;
    let mut connection = db.connect().await.unwrap();
    let build = "CREATE UNIQUE INDEX CONCURRENTLY orders_number ON orders (number)";
    assert!(connection.execute(build).await.is_err());
    Held::new()
}

async fn bloated_index(db: &TestDb) -> Held {
    db.execute(
        "CREATE TABLE thinned (id int) WITH (autovacuum_enabled = off); CREATE INDEX thinned_id ON thinned (id);
         INSERT INTO thinned SELECT generate_series(1, 100000)",
    )
    .await;
    for statement in ["DELETE FROM thinned WHERE id % 10 > 0", "VACUUM (ANALYZE) thinned"] {
        db.execute(statement).await;
    }
    Held::new()
}
