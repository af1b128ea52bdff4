//! Replicas: without their primary, copying, and behind.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ops_core::{Bounds, Status};
use ops_testkit::{RedisServer, or_skip};

use crate::plants::{ask, connect, run, until};
use crate::rows::{Object, Place, Planted, Row, context};

/// Nothing listens on the port of TCP's own multiplexer.
pub(crate) async fn of_nobody(server: &RedisServer) -> Planted {
    run(server, "REPLICAOF 127.0.0.1 1").await;
    until(server, "master_link_status", |status: String| status == "down").await;
    Planted::default()
}

/// Without its primary it answers nothing, rather than what was true once.
pub(crate) async fn that_serves_nothing_stale(server: &RedisServer) -> Planted {
    run(server, "CONFIG SET replica-serve-stale-data no").await;
    run(server, "REPLICAOF 127.0.0.1 1").await;
    let refused = ask::<()>(server, "PING").await.unwrap_err();
    assert_eq!(refused.code(), Some("MASTERDOWN"), "{refused}");
    Planted::default()
}

async fn other() -> RedisServer {
    RedisServer::start(ops_testkit::local_redis_options()).await.unwrap()
}

/// Makes `replica` copy 20,000 keys from `primary`, 1 ms each.
async fn copy_slowly(primary: &RedisServer, replica: &RedisServer) {
    let fill = "for i = 1, 20000 do redis.call('SET', 'k' .. i, i) end";
    let mut connection = connect(primary).await.unwrap();
    redis::cmd("EVAL").arg(fill).arg(0).exec_async(&mut connection).await.unwrap();
    run(primary, "CONFIG SET repl-diskless-sync yes").await;
    run(primary, "CONFIG SET repl-diskless-sync-delay 0").await;
    run(primary, "CONFIG SET rdb-key-save-delay 1000").await;
    follow(primary, replica).await;
    until(replica, "master_sync_in_progress", |copying: u8| copying == 1).await;
}

async fn follow(primary: &RedisServer, replica: &RedisServer) {
    run(replica, &format!("REPLICAOF 127.0.0.1 {}", primary.address().port())).await;
}

/// The server under test is the replica; its finding is about its primary.
pub(crate) async fn that_copies(server: &RedisServer) -> Planted {
    let primary = other().await;
    copy_slowly(&primary, server).await;
    Planted { object: Some(primary.address().to_string()), ..Planted::holding(primary) }
}

/// The server under test is the primary; its finding is about its replica.
pub(crate) async fn that_is_copied(server: &RedisServer) -> Planted {
    let replica = other().await;
    copy_slowly(server, &replica).await;
    Planted { object: Some(replica.address().to_string()), ..Planted::holding(replica) }
}

#[tokio::test]
async fn a_replica_that_stops_lags_and_one_that_goes_is_missed() {
    let Some(primary) = or_skip(RedisServer::start(ops_testkit::local_redis_options()).await) else { return };
    let replica = other().await;
    follow(&primary, &replica).await;
    until(&primary, "slave0", |line: String| line.contains("state=online")).await;
    let row = |code, object, bounds| Row {
        probe: "redis.replication",
        expected: Status::Critical,
        code,
        object: Object::Named(object),
        place: Place::Local,
        bounds,
        settings: &[],
        before: &[],
        plant: |_| unreachable!(),
    };
    let bounds = const {
        &[
            ("replicas", Bounds { warning: None, critical: Some(0.0) }),
            ("lag", Bounds { warning: Some(3.0), critical: Some(3.0) }),
        ]
    };
    let (cx, url) = (context(), primary.url().to_owned());
    let lag = row("redis.replication.lag", "", bounds);
    let address = replica.address().to_string();
    let result = lag.look(&cx, &url).await;
    assert_eq!((result.status, result.findings.len()), (Status::Ok, 0), "{result:#?}");

    let pid = Pid::from_raw(replica.server().unwrap().pid().unwrap().cast_signed());
    kill(pid, Signal::SIGSTOP).unwrap();
    until(&primary, "slave0", |line: String| {
        line.rsplit_once("lag=").is_some_and(|(_, lag)| lag.parse::<u32>().is_ok_and(|lag| lag >= 3))
    })
    .await;
    let result = lag.look(&cx, &url).await;
    let found: Vec<_> = result.findings.iter().map(|f| (f.code.as_ref(), f.object.as_deref())).collect();
    assert_eq!(found, [("redis.replication.lag", Some(address.as_str()))], "{result:#?}");

    kill(pid, Signal::SIGKILL).unwrap();
    until(&primary, "connected_slaves", |replicas: u32| replicas == 0).await;
    let few = row("redis.replication.too_few", "replicas", bounds);
    let result = few.look(&cx, &url).await;
    assert!(few.shows(&url, &result) && result.status == few.expected, "{result:#?}");
}
