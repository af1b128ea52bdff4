//! Throwaway clusters: what they are made of, and what is said when they can't be made.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::{Duration, Instant};

use ops_core::redact::ExposeSecret;
use ops_core::{Context, ErrorKind, Secret};
use ops_pg::cluster::{Cluster, ClusterOptions};
use ops_testkit::{MAJORS, eventually, local_options};
use sqlx::{Connection, Executor, PgConnection};

use super::{Parent, any_local, processes};

#[tokio::test]
async fn every_version_here_starts_in_a_directory_with_an_odd_name() {
    for major in MAJORS {
        let Ok(options) = local_options(major).await else { continue };
        let parent = Parent::new();
        let began = Instant::now();
        let cluster = Cluster::start(&Context::new(), &options.with_parent(parent.path())).await.unwrap();
        println!("PostgreSQL {} in {:?}", cluster.version(), began.elapsed());
        assert_eq!(cluster.major(), major);
        for url in [cluster.url("postgres"), cluster.tcp_url("postgres").unwrap()] {
            let mut connection = PgConnection::connect(&url).await.unwrap();
            let row: (String, String, String) = sqlx::query_as(
                "SELECT current_setting('server_version_num'), current_setting('fsync'), \
                 current_setting('server_encoding')",
            )
            .fetch_one(&mut connection)
            .await
            .unwrap();
            assert!(row.0.starts_with(&major.to_string()), "{row:?}");
            assert_eq!((row.1.as_str(), row.2.as_str()), ("off", "UTF8"));
            connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements").await.unwrap();
            connection.execute("SELECT count(*) FROM pg_stat_statements").await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_standby_follows_until_it_is_promoted() {
    for major in MAJORS {
        let Ok(options) = local_options(major).await else { continue };
        let parent = Parent::new();
        let (cx, options) = (Context::new(), options.with_parent(parent.path()));
        let primary = Cluster::start(&cx, &options).await.unwrap();
        let options = options.with_setting("cluster_name", "follower");
        let standby = Cluster::start_standby(&cx, &primary, &options).await.unwrap();
        assert_eq!(standby.major(), major);
        assert_ne!(standby.address(), primary.address());
        let mut at_primary = PgConnection::connect(&primary.url("postgres")).await.unwrap();
        at_primary.execute("CREATE TABLE t AS SELECT 7 AS n").await.unwrap();
        // The superuser's password is the primary's.
        let mut at_standby = PgConnection::connect(&standby.tcp_url("postgres").unwrap()).await.unwrap();
        let n = eventually("the table is replayed", Duration::from_secs(20), async || {
            sqlx::query_scalar::<_, i32>("SELECT n FROM t").fetch_one(&mut at_standby).await.ok()
        });
        assert_eq!(n.await, 7);
        let name: String = sqlx::query_scalar("SELECT application_name FROM pg_stat_replication")
            .fetch_one(&mut at_primary)
            .await
            .unwrap();
        assert_eq!(name, "follower");
        primary.stop().await.unwrap();
        let promoted: bool =
            sqlx::query_scalar("SELECT pg_promote()").fetch_one(&mut at_standby).await.unwrap();
        assert!(promoted);
        at_standby.execute("INSERT INTO t VALUES (8)").await.unwrap();
        standby.stop().await.unwrap();
    }
}

#[tokio::test]
async fn checksums_are_as_asked_for() {
    for major in MAJORS {
        let Ok(options) = local_options(major).await else { continue };
        let parent = Parent::new();
        let options = options.with_parent(parent.path());
        for (options, expected) in
            [(options.clone().with_data_checksums(), "on"), (options.without_data_checksums(), "off")]
        {
            let cluster = Cluster::start(&Context::new(), &options).await.unwrap();
            let mut connection = PgConnection::connect(&cluster.url("postgres")).await.unwrap();
            let is: String =
                sqlx::query_scalar("SHOW data_checksums").fetch_one(&mut connection).await.unwrap();
            assert_eq!(is, expected, "{major}");
        }
    }
}

#[tokio::test]
async fn root_does_not_run_it() {
    let parent = Parent::new();
    let Some(options) = any_local().await else { return };
    let cluster = Cluster::start(&Context::new(), &options.with_parent(parent.path())).await.unwrap();
    let dir = std::fs::metadata(cluster.dir()).unwrap();
    assert_eq!(dir.permissions().mode() & 0o777, 0o700);
    let user = processes::user_of(cluster.pid().unwrap());
    assert_eq!(dir.uid(), user);
    assert_ne!(user, 0);
    assert_eq!(cluster.user().is_some(), nix::unistd::geteuid().is_root());
}

#[tokio::test]
async fn a_bad_setting_is_named_with_the_servers_own_words() {
    let parent = Parent::new();
    let Some(options) = any_local().await else { return };
    let options = options.with_parent(parent.path()).with_setting("shared_buffers", "a lot");
    let error = Cluster::start(&Context::new(), &options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Failed);
    assert!(error.report().contains(r#"invalid value for parameter "shared_buffers": "a lot""#), "{error}");
    assert!(parent.is_clean(), "{:?}", parent.entries());
}

#[tokio::test]
async fn a_setting_cannot_smuggle_another() {
    let parent = Parent::new();
    let Some(options) = any_local().await else { return };
    let options = options.with_parent(parent.path());
    for (name, value) in [("fsync = on #", "on"), ("search_path", "a\nfsync = on")] {
        let error = Cluster::start(&Context::new(), &options.clone().with_setting(name, value)).await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    assert!(parent.is_clean());
}

#[tokio::test]
async fn out_of_time_it_leaves_nothing() {
    let parent = Parent::new();
    let Some(options) = any_local().await else { return };
    let options = options.with_parent(parent.path());
    let hurried = options.clone().with_ready_within(Duration::from_millis(200));
    let late = Cluster::start(&Context::new(), &hurried).await;
    assert_eq!(late.unwrap_err().kind(), ErrorKind::Timeout);
    assert!(parent.is_clean());

    let cx = Context::new();
    let cancel = async {
        // Cancelled in the midst of initdb.
        while parent.entries().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        cx.cancel();
    };
    let (cancelled, ()) = tokio::join!(Cluster::start(&cx, &options), cancel);
    assert_eq!(cancelled.unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(parent.is_clean());
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let cx = Context::new();
    let elsewhere = ClusterOptions::default().with_bin_dir("/nowhere/bin");
    let error = Cluster::start(&cx, &elsewhere).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("/nowhere/bin"), "{error}");

    let error = Cluster::start(&cx, &ClusterOptions::default().with_major(3)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("no PostgreSQL 3 server"), "{error}");
    assert!(error.fix().is_some());
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_named() {
    let Some(options) = any_local().await else { return };
    let error = Cluster::start(&Context::new(), &options.with_parent("/nowhere")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Failed);
    assert!(error.to_string().contains("/nowhere"), "{error}");
}

#[tokio::test]
async fn a_socket_path_that_is_too_long_is_refused() {
    let parent = Parent::new();
    let Some(options) = any_local().await else { return };
    let deep = parent.path().join("d".repeat(80));
    std::fs::create_dir(&deep).unwrap();
    std::fs::set_permissions(&deep, std::fs::Permissions::from_mode(0o777)).unwrap();
    let error = Cluster::start(&Context::new(), &options.with_parent(&deep)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert_eq!(std::fs::read_dir(&deep).unwrap().count(), 0);
}

#[tokio::test]
async fn tcp_wants_the_password_and_debug_hides_it() {
    let parent = Parent::new();
    let Some(options) = any_local().await else { return };
    let secret = Secret::from("p@ss/w:rd it's".to_owned());
    let options = options.with_parent(parent.path()).with_password(secret.clone());
    let cluster = Cluster::start(&Context::new(), &options).await.unwrap();
    let url = cluster.tcp_url("postgres").unwrap();
    PgConnection::connect(&url).await.unwrap();
    let wrong = format!("postgres://postgres:wrong@{}/postgres", cluster.address().unwrap());
    let refused = PgConnection::connect(&wrong).await.unwrap_err();
    assert_eq!(refused.as_database_error().and_then(|error| error.code()).as_deref(), Some("28P01"));
    for text in [format!("{cluster:?}"), format!("{options:?}")] {
        assert!(!text.contains(secret.expose_secret()), "{text}");
    }
}

#[tokio::test]
async fn a_restart_keeps_the_data_and_takes_new_settings() {
    let parent = Parent::new();
    let Some(options) = any_local().await else { return };
    let cx = Context::new();
    let mut cluster = Cluster::start(&cx, &options.with_parent(parent.path())).await.unwrap();
    let url = cluster.tcp_url("postgres").unwrap();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    connection.execute("CREATE TABLE kept AS SELECT 7 AS n").await.unwrap();
    connection.execute("ALTER SYSTEM SET max_connections = 33").await.unwrap();
    let before = cluster.pid();

    cluster.restart(&cx).await.unwrap();
    assert_ne!(cluster.pid(), before);
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let row: (i32, String) = sqlx::query_as("SELECT n, current_setting('max_connections') FROM kept")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(row, (7, "33".to_owned()));
}

#[tokio::test]
async fn a_server_that_dies_is_known_to_be_down() {
    let parent = Parent::new();
    let Some(options) = any_local().await else { return };
    let cluster = Cluster::start(&Context::new(), &options.with_parent(parent.path())).await.unwrap();
    let pid = nix::unistd::Pid::from_raw(cluster.pid().unwrap().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGQUIT).unwrap();
    ops_testkit::eventually("it is down", super::SOON, async || cluster.pid().is_none().then_some(())).await;
    cluster.stop().await.unwrap();
    assert!(parent.is_clean());
}
