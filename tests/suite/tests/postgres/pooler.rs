//! Behind PgBouncer every probe says what it says without, or why it cannot.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use ops_core::{Context, Limits, ProbeResult, ProbeSet, ProbeSetOptions, Secret, Status};
use ops_pg::{PgConfig, PgTarget};
use ops_testkit::{Behaviour, PgBouncer, Proxy, Role, TestDb, on_each_postgres, or_skip};
use sqlx::postgres::PgConnectOptions;

use crate::rows::probe_named;

async fn check(url: String) -> BTreeMap<String, ProbeResult> {
    let target = PgTarget::connect_lazily("main", &Secret::from(url), PgConfig::default()).unwrap();
    let mut set = ProbeSet::new("test");
    target.add_all_to(&mut set);
    let report = set.run(&Context::new().with_window_gap(Duration::from_millis(300))).await;
    report.probes.into_iter().map(|result| (result.probe.to_string(), result)).collect()
}

on_each_postgres!(transactions_of_a_pooler_are_enough, async |db: TestDb| {
    db.execute(
        "CREATE EXTENSION pg_stat_statements; CREATE TABLE t (id serial PRIMARY KEY, a int);
         CREATE INDEX ON t (a); CREATE INDEX ON t (a)",
    )
    .await;
    for settings in [
        ["pool_mode = transaction", "default_pool_size = 20"],
        ["pool_mode = transaction", "default_pool_size = 1"],
        ["pool_mode = session", "default_pool_size = 20"],
    ] {
        let Some(pooler) = or_skip(PgBouncer::before(&db, &settings).await) else { return };
        for role in [Role::Superuser, Role::Monitor] {
            let direct = check(db.url_as(role)).await;
            let pooled = check(pooler.url(&db, role)).await;
            for (name, direct) in &direct {
                let pooled = &pooled[name];
                let by_mode = name == "pg.notify_latency" && settings[0].contains("transaction");
                let expected = if by_mode { Status::NotApplicable } else { direct.status };
                assert_eq!(pooled.status, expected, "{settings:?} {role:?}: {pooled:#?}\n{direct:#?}");
            }
        }
    }
});

// To an application, one that does not answer is one that is not there.
on_each_postgres!(a_pooler_that_does_not_answer_is_down, async |db: TestDb| {
    let Some(pooler) = or_skip(PgBouncer::before(&db, &["pool_mode = transaction"]).await) else { return };
    let console = PgConnectOptions::from_str(&pooler.console()).unwrap();
    let address = (console.get_host().parse::<IpAddr>().unwrap(), console.get_port()).into();
    let proxy = Proxy::to(address).await.unwrap();
    let asked = async |user: &str| {
        let target = PgTarget::connect_lazily("main", &Secret::from(db.url()), PgConfig::default()).unwrap();
        let console = format!("postgres://{user}@{}/pgbouncer", proxy.address());
        let target = target.with_pgbouncer(&Secret::from(console)).unwrap();
        let options = ProbeSetOptions::default().with_probe_deadline(Duration::from_secs(1));
        let (probe, mut set) = (probe_named("pg.pgbouncer"), ProbeSet::new("test").with_options(options));
        target.add_to(&mut set, probe, Limits::defaults(probe.spec()));
        let mut report = set.run(&Context::new()).await;
        report.probes.remove(0)
    };
    let user = console.get_username();
    let result = asked(user).await;
    assert_eq!(result.status, Status::Ok, "{result:#?}");
    let refused = asked("stranger").await;
    assert_eq!(refused.status, Status::Unknown, "{refused:#?}");
    proxy.set(Behaviour::Stall).await;
    let result = asked(user).await;
    assert_eq!(result.status, Status::Critical, "{result:#?}");
    assert_eq!(result.findings[0].code, "pg.pgbouncer.down", "{result:#?}");
});

// LISTEN on a connection that the pooler lends to the next client would stay there.
on_each_postgres!(nothing_listens_behind_a_pooler, async |db: TestDb| {
    let settings = ["pool_mode = transaction", "default_pool_size = 3"];
    let Some(pooler) = or_skip(PgBouncer::before(&db, &settings).await) else { return };
    let result = check(pooler.url(&db, Role::Superuser)).await.remove("pg.notify_latency").unwrap();
    assert_eq!(result.status, Status::NotApplicable, "{result:#?}");
    assert!(result.summary.contains("a pooler hands out"), "{result:#?}");
    // Each keeps its server connection by an open transaction: these are all three.
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut connection = pooler.connect(&db, Role::Superuser).await.unwrap();
        let channels = "BEGIN; SELECT count(*) FROM pg_listening_channels()";
        let row = sqlx::raw_sql(channels).fetch_one(&mut connection).await.unwrap();
        assert_eq!(sqlx::Row::get::<i64, _>(&row, 0), 0);
        open.push(connection);
    }
});
