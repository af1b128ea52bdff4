use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use ops_core::state::{Baselines, Heartbeats, Sample, WindowKey};
use ops_core::{ErrorKind, Retry};
use sqlx::Connection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

use super::*;

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(second, 0).unwrap()
}

async fn raw(path: &std::path::Path, statement: &'static str) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::raw_sql(statement).execute(&mut connection).await.unwrap();
    connection
}

#[tokio::test]
async fn a_file_keeps_the_rules_of_a_state() {
    let directory = tempfile::tempdir().unwrap();
    let state = SqlState::file(&directory.path().join("state.db")).await.unwrap();
    ops_core::testing::state(&state).await;
}

#[tokio::test]
async fn what_was_kept_is_there_when_it_is_opened_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a b%/c?#ü/state.db");
    let key = WindowKey { server: "s".into(), probe: "p".into() };
    let sample = Sample { at: at(5), epoch: "e".into(), counters: [("x".to_owned(), 0.1)].into() };
    SqlState::file(&path).await.unwrap().store(&key, &sample).await.unwrap();
    let again = SqlState::file(&path).await.unwrap();
    assert_eq!(again.latest(&key).await.unwrap(), Some(sample));
}

#[tokio::test]
async fn nobody_else_may_read_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ops/state.db");
    let state = SqlState::file(&path).await.unwrap();
    state.beat("nightly", at(1), true).await.unwrap();
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    let files: Vec<_> =
        std::fs::read_dir(path.parent().unwrap()).unwrap().map(|f| f.unwrap().path()).collect();
    assert!(files.len() > 1, "the write-ahead log is one of them: {files:?}");
    for file in files {
        assert_eq!(mode(&file), 0o600, "{file:?}");
    }
}

#[tokio::test]
async fn every_commit_waits_for_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let state = SqlState::file(&directory.path().join("state.db")).await.unwrap();
    let row = sqlx::query("SELECT synchronous FROM pragma_synchronous").fetch_one(&state.pool).await.unwrap();
    assert_eq!(sqlx::Row::get::<i64, _>(&row, 0), 2, "FULL");
}

#[tokio::test]
async fn a_newer_one_a_foreign_one_and_a_damaged_one_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let refusal = async |name: &str| {
        let error = SqlState::file(&directory.path().join(name)).await.unwrap_err();
        (error.kind(), error.to_string())
    };
    let newer = directory.path().join("newer");
    SqlState::file(&newer).await.unwrap();
    drop(raw(&newer, "PRAGMA user_version = 99").await);
    let (kind, text) = refusal("newer").await;
    assert_eq!(kind, ErrorKind::Unsupported, "{text}");
    assert!(text.contains("version 99"), "{text}");

    drop(raw(&directory.path().join("foreign"), "CREATE TABLE mine (x)").await);
    assert_eq!(refusal("foreign").await.0, ErrorKind::Corrupt);
    std::fs::write(directory.path().join("garbage"), "x".repeat(5000)).unwrap();
    assert_eq!(refusal("garbage").await.0, ErrorKind::Corrupt);
    std::fs::create_dir(directory.path().join("directory")).unwrap();
    let (kind, text) = refusal("directory").await;
    assert_eq!(kind, ErrorKind::Failed, "{text}");
}

#[tokio::test]
async fn a_second_process_waits_and_is_then_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    let state = SqlState::file(&path).await.unwrap();
    let mut other = raw(&path, "BEGIN IMMEDIATE").await;
    let error = state.beat("nightly", at(1), true).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    assert_eq!(error.retry_class(), Retry::Safe { after: None });

    let waiting = tokio::spawn({
        let state = state.clone();
        async move { state.beat("nightly", at(2), true).await }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    sqlx::raw_sql("COMMIT").execute(&mut other).await.unwrap();
    waiting.await.unwrap().unwrap();
}

#[tokio::test]
async fn many_that_open_it_at_once_make_it_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    let opening = (0..8).map(|n| {
        let path = path.clone();
        tokio::spawn(async move {
            let state = SqlState::file(&path).await?;
            state.beat(&format!("job {n}"), at(n), true).await
        })
    });
    for opened in opening.collect::<Vec<_>>() {
        opened.await.unwrap().unwrap();
    }
}
