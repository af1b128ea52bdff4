//! Faults in what is kept, asked for and saved.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use ops_testkit::{RedisServer, eventually};
use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue, InfoDict};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::rows::Planted;

/// How long a server may take to show what was done to it.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A connection with time for a machine that is busy with other tests.
pub(crate) async fn connect(server: &RedisServer) -> redis::RedisResult<MultiplexedConnection> {
    let mut connection = server.connect().await?;
    connection.set_response_timeout(SOON);
    Ok(connection)
}

/// Sends a command, its words separated by blanks.
pub(crate) async fn ask<T: FromRedisValue>(server: &RedisServer, command: &str) -> redis::RedisResult<T> {
    let mut words = command.split_whitespace();
    let mut cmd = redis::cmd(words.next().unwrap());
    words.for_each(|word| {
        cmd.arg(word);
    });
    cmd.query_async(&mut connect(server).await?).await
}

#[track_caller]
pub(crate) fn run(server: &RedisServer, command: &str) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        if let Err(error) = ask::<redis::Value>(server, command).await {
            panic!("{caller}: {command}: {error}");
        }
    }
}

/// A figure of `INFO`, where it is there.
pub(crate) async fn info<T: FromRedisValue>(server: &RedisServer, field: &str) -> Option<T> {
    ask::<InfoDict>(server, "INFO").await.unwrap().get(field)
}

/// What it uses now.
pub(crate) async fn used_memory(server: &RedisServer) -> u64 {
    info(server, "used_memory").await.unwrap()
}

/// Waits until a field of `INFO` is there, and as wanted.
pub(crate) async fn until<T: FromRedisValue>(server: &RedisServer, field: &str, wanted: impl Fn(T) -> bool) {
    eventually(field, SOON, async || wanted(info(server, field).await?).then_some(())).await;
}

pub(crate) async fn keys_without_ttl(server: &RedisServer) -> Planted {
    let mut connection = connect(server).await.unwrap();
    redis::pipe()
        .cmd("SELECT")
        .arg(3)
        .cmd("MSET")
        .arg(&["a", "1", "b", "2", "c", "3"])
        .cmd("SETEX")
        .arg(&["d", "3600", "4"])
        .exec_async(&mut connection)
        .await
        .unwrap();
    Planted::default()
}

/// Of so many look-ups three in ten are hits.
async fn misses(server: &RedisServer, look_ups: usize) -> Planted {
    let mut pipe = redis::pipe();
    pipe.cmd("SET").arg(&["here", "1"]);
    for look_up in 0..look_ups {
        pipe.cmd("GET").arg(if look_up % 10 < 3 { "here" } else { "gone" });
    }
    pipe.exec_async(&mut connect(server).await.unwrap()).await.unwrap();
    Planted::default()
}

pub(crate) async fn a_few_misses(server: &RedisServer) -> Planted {
    misses(server, 200).await
}

pub(crate) async fn many_misses(server: &RedisServer) -> Planted {
    misses(server, 2_000).await
}

pub(crate) async fn evictions(server: &RedisServer) -> Planted {
    run(server, "CONFIG SET maxmemory-policy allkeys-lru").await;
    let used = used_memory(server).await;
    run(server, &format!("CONFIG SET maxmemory {}", used + 1_000_000)).await;
    let mut pipe = redis::pipe();
    for key in 0..5_000 {
        pipe.cmd("SET").arg(key).arg(vec![b'x'; 1000]).ignore();
    }
    pipe.exec_async(&mut connect(server).await.unwrap()).await.unwrap();
    until(server, "evicted_keys", |evicted: u64| evicted > 1_000).await;
    Planted::default()
}

/// 34 of 40, or one or two more.
pub(crate) async fn many_clients(server: &RedisServer) -> Planted {
    let mut held = Vec::new();
    for _ in 0..33 {
        held.push(TcpStream::connect(server.address()).await.unwrap());
    }
    until(server, "connected_clients", |connected: usize| connected > 33).await;
    run(server, "CONFIG SET maxclients 40").await;
    Planted::holding(held)
}

/// Full for a moment, and not any more.
pub(crate) async fn rejected_clients(server: &RedisServer) -> Planted {
    run(server, "CONFIG SET maxclients 10").await;
    let mut held = Vec::new();
    loop {
        let mut client = TcpStream::connect(server.address()).await.unwrap();
        // Only who is rejected is spoken to.
        let mut first = [0; 1];
        match tokio::time::timeout(Duration::from_millis(100), client.read(&mut first)).await {
            Ok(_) => break,
            Err(_) => held.push(client),
        }
    }
    drop(held);
    eventually("room for clients", SOON, async || ask::<String>(server, "PING").await.ok()).await;
    until(server, "connected_clients", |connected: usize| connected < 5).await;
    Planted::default()
}

/// Without save points nothing waits for a snapshot: writes go on after one that failed.
pub(crate) async fn failed_save(server: &RedisServer) -> Planted {
    fail_to_save(server, "").await;
    run(server, "SET b 2").await;
    Planted::default()
}

/// With save points, writes are refused after a snapshot that failed.
pub(crate) async fn refused_writes(server: &RedisServer) -> Planted {
    fail_to_save(server, "3600 1").await;
    let refused = ask::<()>(server, "SET b 2").await.unwrap_err();
    assert_eq!(refused.code(), Some("MISCONF"), "{refused}");
    Planted::default()
}

/// A directory where the snapshot's file should be.
async fn fail_to_save(server: &RedisServer, save_points: &str) {
    let [_, dir]: [String; 2] = ask(server, "CONFIG GET dir").await.unwrap();
    let obstacle = PathBuf::from(dir).join("dump.rdb");
    match server.container() {
        None => std::fs::create_dir(&obstacle).unwrap(),
        Some(name) => {
            let made = Command::new("docker").args(["exec", name, "mkdir"]).arg(&obstacle).status().unwrap();
            assert!(made.success());
        }
    }
    run(server, "SET a 1").await;
    run(server, "BGSAVE").await;
    until(server, "rdb_last_bgsave_status", |status: String| status == "err").await;
    let mut connection = connect(server).await.unwrap();
    redis::cmd("CONFIG").arg(&["SET", "save", save_points]).exec_async(&mut connection).await.unwrap();
}

/// A directory where the rewritten file should be.
pub(crate) async fn failed_rewrite(server: &RedisServer) -> Planted {
    until(server, "aof_rewrite_in_progress", |running: u8| running == 0).await;
    let dir = server.server().unwrap().dir().join("appendonlydir");
    for sequence in 1..10 {
        let file = dir.join(format!("appendonly.aof.{sequence}.base.rdb"));
        if !file.exists() {
            std::fs::create_dir(file).unwrap();
        }
    }
    run(server, "BGREWRITEAOF").await;
    until(server, "aof_last_bgrewrite_status", |status: String| status == "err").await;
    Planted::default()
}

pub(crate) async fn unsaved(server: &RedisServer) -> Planted {
    run(server, "SET a 1").await;
    Planted::default()
}

pub(crate) async fn flushed(server: &RedisServer) -> Planted {
    run(server, "FLUSHALL").await;
    Planted::default()
}

/// A consumer of an empty queue.
pub(crate) async fn blocked(server: &RedisServer) -> Planted {
    let mut client = TcpStream::connect(server.address()).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut client, b"BLPOP queue 0\r\n").await.unwrap();
    until(server, "blocked_clients", |blocked: u64| blocked == 1).await;
    Planted::holding(client)
}

pub(crate) async fn forked(server: &RedisServer) -> Planted {
    run(server, "BGSAVE").await;
    until(server, "latest_fork_usec", |usec: u64| usec > 0).await;
    Planted::default()
}

pub(crate) async fn unwatched(server: &RedisServer) -> Planted {
    run(server, "CONFIG SET latency-monitor-threshold 0").await;
    Planted::default()
}

/// A monitor that would keep what takes five seconds.
pub(crate) async fn barely_watched(server: &RedisServer) -> Planted {
    run(server, "CONFIG SET latency-monitor-threshold 5000").await;
    Planted::default()
}

/// A long pause, and a short one after it. The monitor keeps one a second.
pub(crate) async fn stalled_before(server: &RedisServer) -> Planted {
    run(server, "CONFIG SET latency-monitor-threshold 5").await;
    run(server, "DEBUG SLEEP 0.4").await;
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    run(server, "DEBUG SLEEP 0.01").await;
    Planted::default()
}

/// A script that keeps everybody waiting for some 0.1 s, and a monitor that notices. It counts: a script's own
/// clock stands still.
pub(crate) async fn stalled(server: &RedisServer) -> Planted {
    run(server, "CONFIG SET latency-monitor-threshold 5").await;
    let mut connection = connect(server).await.unwrap();
    let count = "local n = 0; for i = 1, 10000000 do n = n + 1 end";
    redis::cmd("EVAL").arg(count).arg(0).exec_async(&mut connection).await.unwrap();
    Planted::default()
}
