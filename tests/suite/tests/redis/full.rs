//! Servers without room: for data, for clients, between the data.

use ops_testkit::RedisServer;
use tokio::net::TcpStream;

use crate::plants::{ask, info, run, until};
use crate::rows::Planted;

/// Over its limit, with a policy that keeps every key.
pub(crate) async fn of_data(server: &RedisServer) -> Planted {
    let used: u64 = info(server, "used_memory").await;
    run(server, &format!("CONFIG SET maxmemory {}", used + 500_000)).await;
    // The limit is looked at before a command, not after it.
    let mut connection = server.connect().await.unwrap();
    let big = vec![b'x'; 2_000_000];
    redis::cmd("SET").arg("big").arg(big).exec_async(&mut connection).await.unwrap();
    let refused = ask::<()>(server, "SET one more").await.unwrap_err();
    assert_eq!(refused.code(), Some("OOM"), "{refused}");
    Planted::default()
}

/// At 85 % of its limit.
pub(crate) async fn nearly(server: &RedisServer) -> Planted {
    let mut connection = server.connect().await.unwrap();
    // Large beside what a connection more or less takes.
    let big = vec![b'x'; 8_000_000];
    redis::cmd("SET").arg("big").arg(big).exec_async(&mut connection).await.unwrap();
    drop(connection);
    let used: u64 = info(server, "used_memory").await;
    run(server, &format!("CONFIG SET maxmemory {}", used * 100 / 85)).await;
    Planted::default()
}

pub(crate) async fn without_limit(server: &RedisServer) -> Planted {
    run(server, "CONFIG SET maxmemory 0").await;
    Planted::default()
}

/// Every connection is taken.
pub(crate) async fn of_clients(server: &RedisServer) -> Planted {
    run(server, "CONFIG SET maxclients 8").await;
    let mut held = Vec::new();
    // Those that are one too many are closed, and do no harm.
    for _ in 0..12 {
        held.push(TcpStream::connect(server.address()).await.unwrap());
    }
    ops_testkit::eventually("a full server", crate::plants::SOON, async || {
        ask::<String>(server, "PING").await.is_err().then_some(())
    })
    .await;
    Planted::holding(held)
}

/// Of ten small values next to each other one stays: every page is needed, and mostly empty.
pub(crate) async fn of_holes(server: &RedisServer) -> Planted {
    const FILL: &str = "local v = string.rep('x', 400)
        for i = ARGV[1], ARGV[1] + 49999 do redis.call('SET', 'k' .. i, v) end";
    const DRAIN: &str = "for i = ARGV[1], ARGV[1] + 49999 do
        if i % 10 ~= 0 then redis.call('DEL', 'k' .. i) end end";
    let mut connection = server.connect().await.unwrap();
    for script in [FILL, DRAIN] {
        for from in (0..600_000).step_by(50_000) {
            redis::cmd("EVAL").arg(script).arg(0).arg(from).exec_async(&mut connection).await.unwrap();
        }
    }
    // Sampled by the server ten times a second.
    until(server, "mem_fragmentation_ratio", |ratio: f64| ratio > 1.6).await;
    Planted::default()
}
