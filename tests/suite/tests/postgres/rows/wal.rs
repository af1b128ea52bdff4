use ops_core::{Bounds, Status};
use ops_testkit::TestDb;
use sqlx::Executor;

use super::{AbortOnDrop, Held, Row, own};

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row::of("pg.archiving", Status::Warning, "pg.archiving.failing", |db| Box::pin(failing_archive(db)))
            .with_cluster()
            .bounded(&[("waiting", Bounds { warning: Some(0.0), critical: None })]),
        Row::of("pg.wal_size", Status::Warning, "pg.wal.large", |_| Box::pin(async { Held::new() }))
            .bounded(&[("of_expected", Bounds { warning: Some(0.001), critical: None })]),
        Row::of("pg.checkpoints", Status::Warning, "pg.checkpoints.requested", |db| {
            Box::pin(checkpoint_upon_checkpoint(db))
        }),
    ]
}

/// An archive that takes nothing.
async fn failing_archive(db: &TestDb) -> Held {
    let options = own::options(db).await.with_setting("archive_mode", "on");
    let cluster = own::cluster(db, &options.with_setting("archive_command", "false")).await;
    let url = cluster.url("postgres");
    own::execute(&url, "SELECT pg_switch_wal()").await;
    own::until(&url, "SELECT failed_count > 0 FROM pg_stat_archiver").await;
    own::held(cluster, db)
}

async fn checkpoint_upon_checkpoint(db: &TestDb) -> Held {
    let mut connection = db.connect().await.unwrap();
    let mut held = Held::new();
    held.push(Box::new(AbortOnDrop(tokio::spawn(async move {
        while connection.execute("CHECKPOINT").await.is_ok() {}
    }))));
    held
}
