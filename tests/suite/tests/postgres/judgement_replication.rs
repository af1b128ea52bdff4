//! Standbys, slots and subscriptions.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ops_core::testing::ManualClock;
use ops_core::{Context, Limits, ProbeResult, ProbeSet, Secret, Status};
use ops_pg::cluster::Cluster;
use ops_pg::{PgConfig, PgTarget};
use ops_testkit::{Role, TestDb, eventually, local_options, on_each_postgres, or_skip};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::judgement::{look, look_at};
use crate::rows::{AbortOnDrop, own, probe_named};

async fn seen(cluster: &Cluster, probe: &str) -> (Status, Vec<String>) {
    codes(look_at(cluster.url("postgres"), probe, PgConfig::default()).await)
}

fn codes(result: ProbeResult) -> (Status, Vec<String>) {
    let codes = result.findings.iter().map(|finding| finding.code.to_string()).collect();
    (result.status, codes)
}

fn only(status: Status, code: &str) -> (Status, Vec<String>) {
    (status, vec![code.to_owned()])
}

const LIMIT: Duration = Duration::from_secs(20);

/// Looks until that is what is seen: a standby takes its time.
async fn becomes(cluster: &Cluster, probe: &str, expected: (Status, Vec<String>)) {
    eventually(&format!("{probe} {expected:?}"), LIMIT, async || {
        (seen(cluster, probe).await == expected).then_some(())
    })
    .await;
}

on_each_postgres!(a_standby_is_judged_from_both_sides, async |db: TestDb| {
    let Some(_) = own::options_here(&db).await else { return };
    let own::Pair { primary, standby } = own::pair(&db).await;
    let fine = (Status::Ok, vec![]);
    becomes(&standby, "pg.replication_lag", fine.clone()).await;
    becomes(&primary, "pg.replication_lag", fine.clone()).await;
    // Idle, with the last commit long ago as far as the standby can tell.
    let replayed = "SELECT pg_last_xact_replay_timestamp() IS NULL
                       OR pg_last_xact_replay_timestamp() < clock_timestamp() - interval '1 s'";
    own::until(&standby.url("postgres"), replayed).await;
    assert_eq!(seen(&standby, "pg.replication_lag").await, fine);
    // A role with pg_monitor sees as much as a superuser.
    let url = own::urls(&standby, &db)(Role::Monitor);
    assert_eq!(codes(look_at(url, "pg.replication_lag", PgConfig::default()).await), fine);

    own::execute(&standby.url("postgres"), "SELECT pg_wal_replay_pause()").await;
    becomes(&standby, "pg.replication_lag", only(Status::Warning, "pg.replication.paused")).await;
    own::execute(&standby.url("postgres"), "SELECT pg_wal_replay_resume()").await;
    becomes(&standby, "pg.replication_lag", fine.clone()).await;

    let hidden = own::urls(&standby, &db)(Role::Nobody);
    let read = format!("GRANT pg_read_all_stats TO {}", db.role(Role::Nobody));
    own::execute(&primary.url("postgres"), &read).await;
    // Whether it should stream at all is hidden from this role: not ok.
    eventually("the grant is replayed", LIMIT, async || {
        let result = look_at(hidden.clone(), "pg.replication_lag", PgConfig::default()).await;
        let fix = result.unseen.first().and_then(|unseen| unseen.fix.clone()).unwrap_or_default();
        (result.status == Status::Unknown && fix.contains("pg_read_all_settings")).then_some(())
    })
    .await;

    primary.stop().await.unwrap();
    becomes(&standby, "pg.replication_lag", only(Status::Critical, "pg.replication.no_receiver")).await;
});

// A standby that is down is seen by its primary alone, where it is not configured itself.
on_each_postgres!(a_follower_that_is_gone_is_missed, async |db: TestDb| {
    let Some(_) = own::options_here(&db).await else { return };
    let own::Pair { primary, standby } = own::pair(&db).await;
    let clock = ManualClock::at("2040-01-01T00:00:00Z".parse().unwrap());
    let remembering = Context::new().with_clock(clock.clone());
    let seen = async |cx: &Context| {
        let url = Secret::from(primary.url("postgres"));
        let target = PgTarget::connect_lazily("main", &url, PgConfig::default()).unwrap();
        let (probe, mut set) = (probe_named("pg.replication_lag"), ProbeSet::new("test"));
        target.add_to(&mut set, probe, Limits::defaults(probe.spec()));
        set.run(&cx.new_run()).await.probes.remove(0)
    };
    eventually("it follows", LIMIT, async || {
        (codes(seen(&remembering).await) == (Status::Ok, vec![])).then_some(())
    })
    .await;
    standby.stop().await.unwrap();
    own::until(&primary.url("postgres"), "SELECT count(*) = 0 FROM pg_stat_replication").await;
    clock.advance(Duration::from_secs(60));
    let gone = "pg.replication.follower_gone";
    assert_eq!(codes(seen(&remembering).await), only(Status::Ok, gone));
    clock.advance(Duration::from_secs(300));
    let result = seen(&remembering).await;
    assert_eq!(result.findings[0].object.as_deref(), Some("follower"), "{result:#?}");
    assert_eq!(codes(result), only(Status::Warning, gone));
    let forgetful = seen(&Context::new()).await;
    assert_eq!(
        (forgetful.status, &*forgetful.summary),
        (Status::NotApplicable, "nobody follows this server")
    );
});

/// What the catalogue has is told by the primary, once, and by a standby only where nobody asks its primary.
#[tokio::test]
async fn a_standby_does_not_repeat_its_primary() {
    let Some(options) = or_skip(local_options(15).await) else { return };
    let primary = Cluster::start(&Context::new(), &options).await.unwrap();
    let url = primary.url("postgres");
    let planted = "CREATE TABLE t (a int); CREATE INDEX t_a ON t (a); CREATE INDEX t_a2 ON t (a);
                   CREATE TABLE one (a int PRIMARY KEY); CREATE TABLE many (a int REFERENCES one)";
    own::execute(&url, planted).await;
    let standby = Cluster::start_standby(&Context::new(), &primary, &options).await.unwrap();
    let target = |cluster: &Cluster, name: &str| {
        let url = Secret::from(cluster.url("postgres"));
        PgTarget::connect_lazily(name, &url, PgConfig::default()).unwrap()
    };
    let seen = async |target: &PgTarget, probe: &str| {
        let (probe, mut set) = (probe_named(probe), ProbeSet::new("test"));
        target.add_to(&mut set, probe, Limits::defaults(probe.spec()));
        set.run(&Context::new()).await.probes.remove(0)
    };
    let alone = target(&standby, "standby");
    let beside = alone.with_others([target(&primary, "main")]);
    for probe in ["pg.index_duplicate", "pg.index_invalid", "pg.index_missing_fk", "pg.primary_keys"] {
        let result = seen(&beside, probe).await;
        assert_eq!((result.status, result.findings.len()), (Status::NotApplicable, 0), "{result:#?}");
        assert!(result.summary.ends_with("see main"), "{result:#?}");
    }
    let result = seen(&alone, "pg.index_duplicate").await;
    assert_eq!(result.status, Status::Warning, "{result:#?}");
    let remedy = result.findings[0].remedy.as_ref().unwrap();
    let advice = Some("on its primary: DROP INDEX CONCURRENTLY public.t_a2;");
    assert_eq!((remedy.statement.as_deref(), remedy.advice.as_deref()), (None, advice), "{result:#?}");
    // Another cluster, and one that does not answer, are nobody's primary.
    let dark = PgTarget::connect_lazily(
        "dark",
        &Secret::from("postgres://127.0.0.1:1/postgres".to_owned()),
        PgConfig::default(),
    );
    let result = seen(&alone.with_others([dark.unwrap()]), "pg.primary_keys").await;
    assert_eq!(result.status, Status::Warning, "{result:#?}");
    standby.stop().await.unwrap();
    primary.stop().await.unwrap();
}

on_each_postgres!(commits_hang_for_the_standbys_that_are_missing, async |db: TestDb| {
    let Some(_) = own::options_here(&db).await else { return };
    let own::Pair { primary, standby } = own::pair(&db).await;
    assert_eq!(seen(&primary, "pg.sync_replication").await, (Status::NotApplicable, vec![]));
    assert_eq!(seen(&standby, "pg.sync_replication").await, (Status::NotApplicable, vec![]));
    let wait_for = async |names: &str, level: &str| {
        let url = primary.url("postgres");
        let set = format!(
            "ALTER SYSTEM SET synchronous_standby_names = '{names}';
             ALTER SYSTEM SET synchronous_commit = {level}; SELECT pg_reload_conf()"
        );
        own::execute(&url, &set).await;
    };
    let too_few = |status| only(status, "pg.sync_replication.too_few");
    wait_for("follower", "on").await;
    becomes(&primary, "pg.sync_replication", (Status::Ok, vec![])).await;
    wait_for("ANY 2 (follower, other)", "on").await;
    becomes(&primary, "pg.sync_replication", too_few(Status::Critical)).await;
    wait_for("FIRST 1 (other, follower)", "on").await;
    becomes(&primary, "pg.sync_replication", (Status::Ok, vec![])).await;
    wait_for("other", "local").await;
    becomes(&primary, "pg.sync_replication", too_few(Status::Warning)).await;
});

/// Stops or continues the one process of a cluster that this question names.
async fn signal(cluster: &Cluster, pid_of: &str, signal: Signal) {
    let mut connection = PgConnection::connect(&cluster.url("postgres")).await.unwrap();
    let pid: i32 =
        sqlx::query_scalar(AssertSqlSafe(pid_of.to_owned())).fetch_one(&mut connection).await.unwrap();
    kill(Pid::from_raw(pid), signal).unwrap();
}

on_each_postgres!(commits_hang_for_a_standby_that_is_there_and_silent, async |db: TestDb| {
    let Some(_) = own::options_here(&db).await else { return };
    let own::Pair { primary, standby } = own::pair(&db).await;
    let wait = "ALTER SYSTEM SET synchronous_standby_names = 'follower';
                ALTER SYSTEM SET synchronous_commit = on; SELECT pg_reload_conf()";
    own::execute(&primary.url("postgres"), wait).await;
    becomes(&primary, "pg.sync_replication", (Status::Ok, vec![])).await;
    let receiver = "SELECT pid FROM pg_stat_wal_receiver";
    signal(&standby, receiver, Signal::SIGSTOP).await;
    let url = primary.url("postgres");
    let writer = AbortOnDrop(tokio::spawn(async move {
        let mut connection = PgConnection::connect(&url).await.unwrap();
        connection.execute("CREATE TABLE hangs ()").await.unwrap();
    }));
    becomes(&primary, "pg.sync_replication", only(Status::Warning, "pg.sync_replication.hanging")).await;
    signal(&standby, receiver, Signal::SIGCONT).await;
    becomes(&primary, "pg.sync_replication", (Status::Ok, vec![])).await;
    drop(writer);
});

// How long a statement ran before its commit says nothing about the standby.
on_each_postgres!(a_long_statement_that_commits_is_no_hang, async |db: TestDb| {
    let Some(_) = own::options_here(&db).await else { return };
    let own::Pair { primary, standby } = own::pair(&db).await;
    let delay = "ALTER SYSTEM SET recovery_min_apply_delay = '2s'; SELECT pg_reload_conf()";
    own::execute(&standby.url("postgres"), delay).await;
    let wait = "ALTER SYSTEM SET synchronous_standby_names = 'follower';
                ALTER SYSTEM SET synchronous_commit = remote_apply; SELECT pg_reload_conf()";
    own::execute(&primary.url("postgres"), wait).await;
    let url = primary.url("postgres");
    let writer = AbortOnDrop(tokio::spawn(async move {
        let mut connection = PgConnection::connect(&url).await.unwrap();
        connection.execute("CREATE TABLE long AS SELECT 1 FROM pg_sleep(6)").await.unwrap();
    }));
    own::until(
        &primary.url("postgres"),
        "SELECT count(*) = 1 FROM pg_stat_activity
          WHERE wait_event = 'SyncRep' AND query_start < clock_timestamp() - interval '5 s'",
    )
    .await;
    let probe = crate::rows::probe_named("pg.sync_replication");
    let url = ops_core::Secret::from(primary.url("postgres"));
    let target = ops_pg::PgTarget::connect_lazily("main", &url, PgConfig::default()).unwrap();
    let report = probe
        .probe(
            &Context::new().with_window_gap(Duration::from_secs(5)),
            &target,
            &ops_core::Limits::defaults(probe.spec()),
        )
        .await
        .unwrap();
    assert_eq!((report.status(), report.found().len()), (Status::Ok, 0), "{report:#?}");
    drop(writer);
});

on_each_postgres!(a_standby_by_archive_alone_is_as_far_behind_as_nobody_knows, async |db: TestDb| {
    let Some(_) = own::options_here(&db).await else { return };
    let own::Pair { primary, mut standby } = own::pair(&db).await;
    becomes(&standby, "pg.replication_lag", (Status::Ok, vec![])).await;
    let alone = "ALTER SYSTEM SET primary_conninfo = ''; ALTER SYSTEM SET restore_command = 'false'";
    for setting in alone.split("; ") {
        own::execute(&standby.url("postgres"), setting).await;
    }
    standby.restart(&Context::new()).await.unwrap();
    let result = look_at(standby.url("postgres"), "pg.replication_lag", PgConfig::default()).await;
    assert_eq!(result.status, Status::Unknown, "{result:#?}");
    assert!(result.unseen[0].what.contains("archive"), "{result:#?}");
    drop(primary);
});

on_each_postgres!(a_slot_that_lost_its_wal_is_lost, async |db: TestDb| {
    let Some(options) = own::options_here(&db).await else { return };
    let options = options.with_setting("max_slot_wal_keep_size", "1MB").with_setting("max_wal_size", "32MB");
    let cluster = own::cluster(&db, &options.with_setting("min_wal_size", "32MB")).await;
    assert_eq!(seen(&cluster, "pg.replication_slots").await, (Status::NotApplicable, vec![]));
    let url = cluster.url("postgres");
    own::execute(&url, "SELECT pg_create_physical_replication_slot('s', true)").await;
    for _ in 0..4 {
        own::execute(&url, "CREATE TABLE t (); DROP TABLE t; SELECT pg_switch_wal()").await;
    }
    own::execute(&url, "CHECKPOINT").await;
    assert_eq!(
        seen(&cluster, "pg.replication_slots").await,
        only(Status::Critical, "pg.replication_slot.lost")
    );
});

// On a disk that is all but full, a little is much.
on_each_postgres!(what_a_slot_keeps_is_judged_by_what_is_free, async |db: TestDb| {
    let Some(options) = own::options_here(&db).await else { return };
    let cluster = own::cluster(&db, &options).await;
    let url = cluster.url("postgres");
    own::execute(&url, "SELECT pg_create_physical_replication_slot('s', true)").await;
    for _ in 0..2 {
        own::execute(&url, "CREATE TABLE t (); DROP TABLE t; SELECT pg_switch_wal()").await;
    }
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let there = "SELECT sum(size)::int8 FROM pg_ls_waldir()";
    let there: i64 = sqlx::query_scalar(there).fetch_one(&mut connection).await.unwrap();
    let look = async |free: i64, role: Role| {
        let config = PgConfig::default().with_wal_disk(u64::try_from(there + free).unwrap());
        look_at(own::urls(&cluster, &db)(role), "pg.replication_slots", config).await
    };
    let retains = |result: &ProbeResult| {
        let finding = result.findings.iter().find(|f| f.code == "pg.replication_slot.retains");
        finding.map(|finding| finding.severity.status())
    };
    const MIB: i64 = 1 << 20;
    // It keeps 32 MiB, of which the last segment was just begun.
    for (free, expected) in
        [(1024 * MIB, None), (20 * MIB, Some(Status::Warning)), (MIB, Some(Status::Critical))]
    {
        let result = look(free, Role::Monitor).await;
        assert_eq!(retains(&result), expected, "{free}: {result:#?}");
    }
    let hidden = look(MIB, Role::Nobody).await;
    let fix = hidden.unseen.first().and_then(|unseen| unseen.fix.clone()).unwrap_or_default();
    assert!(fix.contains("GRANT pg_monitor"), "{hidden:#?}");
});

on_each_postgres!(a_worker_that_dies_again_and_again_does_not_run, async |db: TestDb| {
    let name = db.name();
    db.execute(format!(
        "CREATE SUBSCRIPTION {name} CONNECTION 'host=127.0.0.1 port=1 dbname=nowhere' PUBLICATION none
         WITH (connect = false, enabled = false, slot_name = {name})"
    ))
    .await;
    db.execute(format!("ALTER SUBSCRIPTION {name} ENABLE")).await;
    eventually("it is stopped", LIMIT, async || {
        let result = look(&db, "pg.subscriptions", PgConfig::default()).await;
        let stopped = result.findings.iter().any(|finding| {
            finding.code == "pg.subscription.stopped" && finding.object.as_deref() == Some(name)
        });
        (stopped && result.status == Status::Critical).then_some(())
    })
    .await;
});
