use ops_core::{Bounds, Status};
use ops_testkit::TestDb;

use super::{Held, Row, own};

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row::of("pg.replication_lag", Status::Warning, "pg.replication.lag", |db| Box::pin(left_behind(db)))
            .with_cluster()
            .about(|_| "follower".into())
            .bounded(&[("behind", Bounds { warning: Some(1.0), critical: None })]),
        Row::of("pg.sync_replication", Status::Critical, "pg.sync_replication.too_few", |db| {
            Box::pin(alone(db))
        })
        .with_cluster(),
        Row::of("pg.replication_slots", Status::Warning, "pg.replication_slot.inactive", |db| {
            Box::pin(unused_slot(db))
        })
        .about(|db| db.name().to_owned())
        .bounded(&[("inactive", Bounds { warning: Some(0.0), critical: None })]),
        Row::of("pg.subscriptions", Status::Warning, "pg.subscription.disabled", |db| {
            Box::pin(disabled_subscription(db))
        })
        .about(|db| db.name().to_owned()),
    ]
}

/// A primary whose standby no longer replays. Looked at from here: to a standby that stands still, no GRANT comes.
async fn left_behind(db: &TestDb) -> Held {
    let pair = own::pair(db).await;
    let url = pair.primary.url("postgres");
    own::execute(&pair.standby.url("postgres"), "SELECT pg_wal_replay_pause()").await;
    own::until(&pair.standby.url("postgres"), "SELECT pg_get_wal_replay_pause_state() = 'paused'").await;
    own::execute(&url, "CREATE TABLE t AS SELECT generate_series(1, 1000)").await;
    own::until(&url, "SELECT replay_lsn < pg_current_wal_lsn() FROM pg_stat_replication").await;
    let mut held = Held::new().at(own::urls(&pair.primary, db)).fixed_at(url);
    held.push(Box::new(pair));
    held
}

/// A primary that waits for a standby which is not there.
async fn alone(db: &TestDb) -> Held {
    let options = own::options(db).await.with_setting("synchronous_commit", "on");
    let cluster = own::cluster(db, &options).await;
    let url = cluster.url("postgres");
    own::execute(&url, "ALTER SYSTEM SET synchronous_standby_names = 'follower'; SELECT pg_reload_conf()")
        .await;
    own::until(&url, "SELECT current_setting('synchronous_standby_names') = 'follower'").await;
    own::held(cluster, db)
}

async fn unused_slot(db: &TestDb) -> Held {
    db.execute(format!("SELECT pg_create_physical_replication_slot('{}', true)", db.name())).await;
    Held::new()
}

async fn disabled_subscription(db: &TestDb) -> Held {
    db.execute(format!(
        "CREATE SUBSCRIPTION {} CONNECTION 'dbname=nowhere' PUBLICATION none
         WITH (connect = false, enabled = false, slot_name = NONE)",
        db.name()
    ))
    .await;
    Held::new()
}
