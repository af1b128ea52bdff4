use std::io::{Seek, SeekFrom, Write};

use ops_core::{Context, Status};
use ops_pg::{PgConfig, ServerRole};
use ops_testkit::{Role, TestDb};
use sqlx::{Connection, PgConnection};

use super::{Held, Row, own};

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row::of("pg.reachable", Status::Critical, "pg.reachable.down", |db| Box::pin(nobody_listens(db))),
        Row::of("pg.version", Status::Critical, "pg.version.end_of_life", |_| {
            Box::pin(async { Held::new() })
        })
        .at_times(["2026-11-22T00:00:00Z", "2040-01-01T00:00:00Z"]),
        Row::of("pg.uptime", Status::Warning, "pg.uptime.crashed", |db| Box::pin(crashed(db))).with_cluster(),
        Row::of("pg.role", Status::Critical, "pg.role.unexpected", |db| Box::pin(standby(db)))
            .with_cluster()
            .configured(|| PgConfig::default().with_role(ServerRole::Primary)),
        Row::of("pg.checksums", Status::Critical, "pg.checksums.failed", |db| Box::pin(damaged(db)))
            .with_cluster()
            .about(|_| "postgres".into()),
        Row::of("pg.collation", Status::Warning, "pg.collation.changed", |db| Box::pin(sorted_otherwise(db)))
            .about(|_| "public.odd".into()),
    ]
}

/// On the port of TCP's own multiplexer.
async fn nobody_listens(db: &TestDb) -> Held {
    let url = db.url_at(([127, 0, 0, 1], 1).into(), Role::Superuser);
    Held::new().at(move |_| url.clone())
}

/// A session killed as the kernel would, when the server has run for a while.
async fn crashed(db: &TestDb) -> Held {
    let cluster = own::cluster(db, &own::options(db).await).await;
    let url = cluster.url("postgres");
    own::until(&url, "SELECT clock_timestamp() > pg_postmaster_start_time() + interval '5.5 s'").await;
    own::kill_a_session(&url).await;
    own::held(cluster, db)
}

/// What a failover leaves at the primary's address.
async fn standby(db: &TestDb) -> Held {
    let pair = own::pair(db).await;
    let mut held = Held::new().at(own::urls(&pair.standby, db)).fixed_at(pair.primary.url("postgres"));
    held.push(Box::new(pair));
    held
}

/// An index whose collation was recorded with a version that no library has.
async fn sorted_otherwise(db: &TestDb) -> Held {
    // What a build comes without is the one or the other.
    let kind = if db.server().major() < 17 { "icu, locale = 'en'" } else { "builtin, locale = 'C.UTF-8'" };
    db.execute(format!(
        "CREATE COLLATION odd (provider = {kind}); CREATE TABLE t (a text COLLATE odd);
         CREATE INDEX t_a ON t (a); UPDATE pg_collation SET collversion = '0' WHERE collname = 'odd'"
    ))
    .await;
    Held::new()
}

/// Bytes of a table's page changed on disk, and the page read.
async fn damaged(db: &TestDb) -> Held {
    let mut cluster = own::cluster(db, &own::options(db).await.with_data_checksums()).await;
    let url = cluster.url("postgres");
    own::execute(&url, "CREATE TABLE t AS SELECT 1 AS id; CHECKPOINT").await;
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let path: String =
        sqlx::query_scalar("SELECT pg_relation_filepath('t')").fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    cluster.restart(&Context::new()).await.unwrap();
    let mut file = std::fs::File::options().write(true).open(cluster.data_dir().join(path)).unwrap();
    file.seek(SeekFrom::Start(8100)).unwrap();
    file.write_all(b"not what was written").unwrap();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let read = sqlx::query("SELECT * FROM t").execute(&mut connection).await;
    assert!(read.unwrap_err().to_string().contains("invalid page"));
    connection.close().await.unwrap();
    own::until(&url, "SELECT sum(checksum_failures) > 0 FROM pg_stat_database").await;
    own::held(cluster, db)
}
