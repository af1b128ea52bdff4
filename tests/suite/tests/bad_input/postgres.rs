use ops_core::{Secret, Status};
use ops_pg::{PgConfig, PgTarget};
use ops_testkit::{Behaviour, Proxy, Role, TestDb, eventually, on_each_postgres};

use crate::check::{BOUND, DEAD, Expected, SENTINEL, cuts, pg, refused};
use crate::service::Service;

#[test]
fn a_url_that_is_none_is_told_without_repeating_it() {
    for url in [
        format!("mysql://u:{SENTINEL}@h/d"),
        format!("postgres//u:{SENTINEL}@h/d"),
        format!("postgres://u:{SENTINEL}@h:port/d"),
        format!("postgres://u:{SENTINEL}@h/d?sslmode=perhaps"),
        format!("postgres://u:{SENTINEL}/@[h/d"),
        format!("postgres://u:p@h/d?password={SENTINEL}&sslmode="),
        SENTINEL.to_owned(),
        String::new(),
    ] {
        refused(PgTarget::connect_lazily("main", &Secret::from(url), PgConfig::default()));
    }
}

/// A role of this test's own, with the sentinel for its password.
async fn password(db: &TestDb) {
    db.execute(format!("ALTER ROLE {} PASSWORD '{SENTINEL}'", db.role(Role::Monitor))).await;
}

fn url(db: &TestDb, address: impl ToString, password: &str, rest: &str) -> String {
    format!("postgres://{}:{password}@{}/{rest}", db.role(Role::Monitor), address.to_string())
}

pub(crate) async fn nothing_of_ours(db: &TestDb) {
    let mut watch = db.connect().await.unwrap();
    eventually("no backend of ours is left", BOUND, async || {
        let ours = "SELECT count(*) FROM pg_stat_activity
                     WHERE datname = current_database() AND application_name LIKE 'ops:%'";
        (sqlx::query_scalar::<_, i64>(ours).fetch_one(&mut watch).await.unwrap() == 0).then_some(())
    })
    .await;
}

on_each_postgres!(what_cannot_be_reached_says_what_and_where, async |db: TestDb| {
    password(&db).await;
    let (here, name) = (db.server().address(), db.name());
    let proxy = Proxy::to(here).await.unwrap();
    proxy.set(Behaviour::Stall).await;
    let silent = proxy.address();
    let web = Service::start().await;
    let wrong = format!("{SENTINEL}x");
    for (url, expected) in [
        (url(&db, DEAD, SENTINEL, name), Expected::critical(DEAD, &["connection refused"])),
        (url(&db, "no.such.host.invalid", SENTINEL, name), Expected::critical("no.such.host.invalid", &[])),
        (
            format!("postgres://u:{SENTINEL}@localhost/d?host=/nowhere"),
            Expected::critical("/nowhere", &["no such socket"]),
        ),
        (url(&db, silent, SENTINEL, name), Expected::critical(silent, &["no answer within"])),
        (url(&db, here, &wrong, name), Expected::unknown(here, &["password authentication failed", "28P01"])),
        (
            url(&db, here, SENTINEL, "no_such_database"),
            Expected::unknown(here, &["no_such_database", "does not exist"]),
        ),
        (url(&db, here, SENTINEL, &format!("{name}?sslmode=require")), Expected::unknown(here, &["TLS"])),
        (
            url(&db, here, SENTINEL, &format!("{name}?sslmode=verify-full&sslrootcert=/nowhere.pem")),
            Expected::unknown(here, &[]),
        ),
        (
            url(&db, web.address(), SENTINEL, name),
            Expected::new(Status::Unknown, web.address(), &["PostgreSQL"]),
        ),
    ] {
        pg(&url).await.cannot_look("pg.reachable", &expected);
    }
    nothing_of_ours(&db).await;
});

on_each_postgres!(a_server_that_stops_in_mid_sentence_costs_what_was_left, async |db: TestDb| {
    password(&db).await;
    let proxy = Proxy::to(db.server().address()).await.unwrap();
    let url = url(&db, proxy.address(), SENTINEL, db.name());
    for cut in cuts() {
        proxy.set(cut).await;
        let checked = pg(&url).await;
        checked.cut_short();
        let reachable = checked.of("pg.reachable");
        assert!(matches!(reachable.status, Status::Ok | Status::Critical), "{cut:?}: {reachable:#?}");
    }
    nothing_of_ours(&db).await;
});
