//! Every probe keeps the rules of the trait, on a healthy server and on one that is not there.

use ops_core::{Bounds, Limits, Secret, testing};
use ops_pg::{PgConfig, PgTarget, registry};
use ops_testkit::{Role, TestDb, on_each_postgres};

async fn conforms(url: String) {
    let target = PgTarget::connect_lazily("main", &Secret::from(url), PgConfig::default()).unwrap();
    for probe in registry() {
        // Whether a database has traffic enough to judge differs from one look to the next.
        let quiet = Bounds { warning: Some(1e12), critical: None };
        let limits = Limits::defaults(probe.spec());
        let limits = limits.clone().with("blocks", quiet).unwrap_or(limits);
        testing::health_probe(&target.bind(*probe, limits), &["hunter2"]).await;
    }
}

on_each_postgres!(every_probe_keeps_the_rules, async |db: TestDb| {
    db.execute("CREATE EXTENSION pg_stat_statements; CREATE TABLE t (id serial)").await;
    conforms(db.url()).await;
    conforms(db.url_at(([127, 0, 0, 1], 1).into(), Role::Superuser)).await;
    conforms("postgres://ops:hunter2@127.0.0.1:1/shop".to_owned()).await;
});
