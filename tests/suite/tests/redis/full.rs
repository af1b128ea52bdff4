//! Servers without room: for data, for clients, between the data.

use ops_testkit::RedisServer;
use tokio::net::TcpStream;

use crate::plants::{SOON, ask, connect, run, until, used_memory};
use crate::rows::Planted;

/// Over its limit, with a policy that keeps every key.
pub(crate) async fn of_data(server: &RedisServer) -> Planted {
    // Filled first: what a client sends counts too, before its command is looked at.
    fill(server).await;
    let used = used_memory(server).await;
    run(server, &format!("CONFIG SET maxmemory {}", used * 3 / 4)).await;
    let refused = ask::<()>(server, "SET one more").await.unwrap_err();
    assert_eq!(refused.code(), Some("OOM"), "{refused}");
    Planted::default()
}

/// Large beside what a connection more or less takes.
async fn fill(server: &RedisServer) {
    let mut connection = connect(server).await.unwrap();
    redis::cmd("SET").arg("big").arg(vec![b'x'; 8_000_000]).exec_async(&mut connection).await.unwrap();
}

/// At 85 % of its limit.
pub(crate) async fn nearly(server: &RedisServer) -> Planted {
    fill(server).await;
    let used = used_memory(server).await;
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
    ops_testkit::eventually("a full server", SOON, async || {
        // A place that a closed connection leaves is taken too; one too many is closed, and does no harm.
        held.push(TcpStream::connect(server.address()).await.unwrap());
        ask::<String>(server, "PING").await.is_err().then_some(())
    })
    .await;
    held.push(TcpStream::connect(server.address()).await.unwrap());
    Planted::holding(held)
}

/// Of ten small values next to each other one stays: every page is needed, and mostly empty.
pub(crate) async fn of_holes(server: &RedisServer) -> Planted {
    const FILL: &str = "local v = string.rep('x', 800)
        for i = ARGV[1], ARGV[1] + 49999 do redis.call('SET', 'k' .. i, v) end";
    const DRAIN: &str = "for i = ARGV[1], ARGV[1] + 49999 do
        if i % 10 ~= 0 then redis.call('DEL', 'k' .. i) end end";
    let mut connection = connect(server).await.unwrap();
    for script in [FILL, DRAIN] {
        for from in (0..300_000).step_by(50_000) {
            redis::cmd("EVAL").arg(script).arg(0).arg(from).exec_async(&mut connection).await.unwrap();
        }
    }
    // Sampled by the server ten times a second.
    until(server, "mem_fragmentation_ratio", |ratio: f64| ratio > 1.6).await;
    Planted::default()
}
