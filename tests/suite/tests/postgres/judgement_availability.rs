//! Whether a server is there, what it is, and whether its data can be trusted.

use ops_core::{Context, Status};
use ops_pg::{PgConfig, ServerRole};
use ops_testkit::{TestDb, on_each_postgres};

use crate::judgement::{found, look, look_at, pairs};
use crate::rows::own;

on_each_postgres!(a_collation_that_sorts_nothing_is_no_finding, async |db: TestDb| {
    let kind = if db.server().major() < 17 { "icu, locale = 'en'" } else { "builtin, locale = 'C.UTF-8'" };
    db.execute(format!(
        "CREATE COLLATION unused (provider = {kind}); CREATE TABLE t (a text COLLATE unused);
         UPDATE pg_collation SET collversion = '0' WHERE collname = 'unused'"
    ))
    .await;
    let result = look(&db, "pg.collation", PgConfig::default()).await;
    assert_eq!((result.status, found(&result)), (Status::Ok, vec![]), "{result:#?}");
});

on_each_postgres!(the_databases_own_collation_counts_for_its_indexes, async |db: TestDb| {
    db.execute(format!("UPDATE pg_database SET datcollversion = '0' WHERE datname = '{}'", db.name())).await;
    // The catalogue's own indexes sort by C.
    let result = look(&db, "pg.collation", PgConfig::default()).await;
    let object = db.name().to_owned();
    let expected = pairs(&[("pg.collation.database_changed", &object)]);
    assert_eq!((result.status, found(&result)), (Status::Ok, expected.clone()), "{result:#?}");
    db.execute("CREATE TABLE t (a text, b int); CREATE INDEX t_a ON t (a); CREATE INDEX t_b ON t (b)").await;
    let result = look(&db, "pg.collation", PgConfig::default()).await;
    assert_eq!((result.status, found(&result)), (Status::Warning, expected), "{result:#?}");
    assert_eq!(result.findings[0].evidence, [serde_json::json!({ "index": "public.t_a" })]);
    db.execute(result.findings[0].remedy.clone().unwrap().statement.unwrap()).await;
});

on_each_postgres!(a_role_is_judged_where_one_is_configured, async |db: TestDb| {
    let result = look(&db, "pg.role", PgConfig::default()).await;
    assert_eq!(result.status, Status::NotApplicable);
    let result = look(&db, "pg.role", PgConfig::default().with_role(ServerRole::Primary)).await;
    assert_eq!(result.status, Status::Ok, "{result:#?}");
    let result = look(&db, "pg.role", PgConfig::default().with_role(ServerRole::Standby)).await;
    assert_eq!(result.status, Status::Critical, "{result:#?}");
});

// What a crash looks like must not be what an orderly restart looks like, nor a fresh cluster or standby.
on_each_postgres!(an_orderly_restart_is_no_crash, async |db: TestDb| {
    let Some(options) = own::options_here(&db).await else { return };
    let mut cluster = own::cluster(&db, &options.clone().without_data_checksums()).await;
    let uptime = async |cluster: &ops_pg::cluster::Cluster| {
        let url = cluster.url("postgres");
        let result = look_at(url, "pg.uptime", PgConfig::default()).await;
        let codes: Vec<_> = result.findings.iter().map(|finding| finding.code.to_string()).collect();
        (result.status, codes)
    };
    let fine = (Status::Ok, vec!["pg.uptime.restarted".to_owned()]);
    assert_eq!(uptime(&cluster).await, fine, "first start");
    cluster.restart(&Context::new()).await.unwrap();
    assert_eq!(uptime(&cluster).await, fine, "orderly restart");
    own::cut_the_power(&cluster).await;
    cluster.restart(&Context::new()).await.unwrap();
    let (status, codes) = uptime(&cluster).await;
    assert_eq!((status, codes.contains(&"pg.uptime.unclean".to_owned())), (Status::Ok, true), "{codes:?}");
    let result = look_at(cluster.url("postgres"), "pg.checksums", PgConfig::default()).await;
    let codes: Vec<_> = found(&result).into_iter().map(|(code, _)| code).collect();
    let off = vec!["pg.checksums.off".to_owned()];
    assert_eq!((result.status, codes), (Status::NotApplicable, off), "{result:#?}");
});
