//! A database for each test, which leaves nothing.

use std::panic::AssertUnwindSafe;

use ops_testkit::{ROLES, Role, TestDb, on_each_postgres};
use sqlx::{Connection, PgConnection};

on_each_postgres!(the_server_is_what_tests_rely_on, async |db: TestDb| {
    let mut connection = db.connect().await.unwrap();
    let row: (String, String, String, String) = sqlx::query_as(
        "SELECT current_setting('server_version_num'), current_setting('max_connections'), \
         current_setting('wal_level'), current_setting('shared_preload_libraries')",
    )
    .fetch_one(&mut connection)
    .await
    .unwrap();
    assert!(row.0.starts_with(&db.server().major().to_string()), "{row:?}");
    let expected = ("200".to_owned(), "logical".to_owned(), "pg_stat_statements".to_owned());
    assert_eq!((row.1, row.2, row.3), expected);
    db.execute("CREATE EXTENSION pg_stat_statements").await;
});

on_each_postgres!(the_roles_are_what_they_say, async |db: TestDb| {
    for role in ROLES {
        for url in [db.url_as(role), db.url_at(db.server().address(), role)] {
            let mut connection = PgConnection::connect(&url).await.unwrap();
            let row: (String, bool, bool, String) = sqlx::query_as(
                "SELECT current_user::text, rolsuper, pg_has_role('pg_monitor', 'MEMBER'), \
                 current_database()::text FROM pg_roles WHERE rolname = current_user",
            )
            .fetch_one(&mut connection)
            .await
            .unwrap();
            let superuser = role == Role::Superuser;
            assert_eq!(row, (db.role(role), superuser, role != Role::Nobody, db.name().to_owned()));
        }
    }
});

/// Everything in a cluster that bears the database's name.
async fn traces(witness: &TestDb, name: &str) -> Vec<String> {
    let mut connection = witness.connect().await.unwrap();
    let like = format!("{name}%");
    sqlx::query_scalar(
        "SELECT datname::text FROM pg_database WHERE datname LIKE $1
         UNION ALL SELECT rolname::text FROM pg_roles WHERE rolname LIKE $1
         UNION ALL SELECT slot_name::text FROM pg_replication_slots WHERE slot_name LIKE $1
         UNION ALL SELECT gid FROM pg_prepared_xacts WHERE gid LIKE $1
         UNION ALL SELECT datname::text FROM pg_stat_activity WHERE datname LIKE $1",
    )
    .bind(like)
    .fetch_all(&mut connection)
    .await
    .unwrap()
}

on_each_postgres!(nothing_is_left_of_it, async |witness: TestDb| {
    let Some(db) = TestDb::on(witness.server().major()).await else { return };
    let name = db.name().to_owned();
    let mut connected = db.connect_as(Role::Nobody).await.unwrap();
    db.execute("CREATE TABLE t (id int)").await;
    // Before the transaction, whose end making a slot waits for.
    db.execute(format!("SELECT pg_create_logical_replication_slot('{name}', 'test_decoding')")).await;
    db.execute(format!("BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION '{name}'")).await;
    db.execute(format!("GRANT SELECT ON t TO {}", db.role(Role::Nobody))).await;
    assert_eq!(traces(&witness, &name).await.len(), 6);

    drop(db);
    assert_eq!(traces(&witness, &name).await, Vec::<String>::new());
    assert!(connected.ping().await.is_err(), "thrown out");
});

#[tokio::test]
async fn a_panicking_test_leaves_nothing() {
    let Some(witness) = TestDb::on(15).await else { return };
    let Some(db) = TestDb::on(15).await else { return };
    let name = db.name().to_owned();
    let panicked = std::panic::catch_unwind(AssertUnwindSafe(move || {
        let _held = db;
        panic!("on purpose");
    }));
    assert!(panicked.is_err());
    assert_eq!(traces(&witness, &name).await, Vec::<String>::new());
}
