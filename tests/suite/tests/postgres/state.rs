//! What ops remembers, kept in PostgreSQL.

use ops_core::state::{Heartbeats, Journal, RunFilter};
use ops_core::{ErrorKind, Secret, testing};
use ops_runbook::SqlState;
use ops_testkit::{TestDb, on_each_postgres};

on_each_postgres!(postgres_keeps_the_rules_of_a_state, async |db: TestDb| {
    let url = Secret::from(db.url());
    let state = SqlState::postgres(&url).await.unwrap();
    testing::state(&state).await;

    // Several that open it at once make it once, and see each other's.
    let (one, two) = tokio::join!(SqlState::postgres(&url), SqlState::postgres(&url));
    one.unwrap().beat("nightly", chrono::Utc::now(), true).await.unwrap();
    assert!(two.unwrap().heartbeat("nightly").await.unwrap().is_some());

    db.execute("UPDATE ops.state_version SET version = 99").await;
    let newer = SqlState::postgres(&url).await.unwrap_err();
    assert_eq!(newer.kind(), ErrorKind::Unsupported, "{newer}");
});

on_each_postgres!(a_state_that_loses_its_server_says_so, async |db: TestDb| {
    let state = SqlState::postgres(&Secret::from(db.url())).await.unwrap();
    state.runs(&RunFilter::default()).await.unwrap();
    db.execute("DROP SCHEMA ops CASCADE").await;
    let gone = state.runs(&RunFilter::default()).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::Failed, "{gone}");
    assert!(!gone.report().contains(db.server().password()), "{gone}");
});
