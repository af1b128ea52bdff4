//! Servers in containers.

use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use ops_testkit::{PgServer, RedisServer, TestDb, eventually, or_skip};
use sqlx::Connection;

use super::Parent;
use super::client::Client;

#[tokio::test]
async fn postgres_in_a_container() {
    let Some(server) = or_skip(PgServer::in_container(17).await) else { return };
    assert!(server.container().is_some());
    assert!(server.version().starts_with("17"), "{}", server.version());
    let db = TestDb::create(server).await.unwrap();
    db.connect().await.unwrap().ping().await.unwrap();
}

#[tokio::test]
async fn redis_in_a_container() {
    let Some(redis) = or_skip(RedisServer::in_container().await) else { return };
    let mut connection = redis.connect().await.unwrap();
    let info: String = redis::cmd("INFO").arg("server").query_async(&mut connection).await.unwrap();
    assert!(info.contains("redis_version:8."), "{info}");
    let name = redis.container().unwrap().to_owned();
    assert!(exists(&name));
    drop(redis);
    assert!(!exists(&name));
}

#[tokio::test]
async fn a_container_ends_with_a_client_that_is_killed() {
    let parent = Parent::new();
    let Some(mut client) = Client::spawn("container", parent.path()).ready() else { return };
    let name = client.said[0].clone();
    assert!(exists(&name));
    client.kill(Signal::SIGKILL);
    eventually("no container", Duration::from_secs(30), async || (!exists(&name)).then_some(())).await;
}

fn exists(name: &str) -> bool {
    Command::new("docker").args(["container", "inspect", name]).output().unwrap().status.success()
}
