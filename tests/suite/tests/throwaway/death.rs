//! However a client ends, its servers end with it.

use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use ops_cache::server::Server;
use ops_core::Context;
use ops_core::throwaway::{StopSignal, Throwaway, ThrowawayOptions};
use ops_pg::cluster::Cluster;
use ops_testkit::{eventually, local_redis_options};

use super::client::Client;
use super::{Parent, SOON, any_local, processes};

/// Kills a client with its servers up, and sees that they go.
async fn dies(kill: impl FnOnce(&mut Client)) {
    let parent = Parent::new();
    let Some(mut client) = Client::spawn("servers", parent.path()).ready() else { return };
    let pids: Vec<u32> = client.said.iter().map(|pid| pid.parse().unwrap()).collect();
    let [bystander, postmaster, redis] = pids[..] else { panic!("{pids:?}") };
    let mut servers = processes::family(postmaster);
    assert!(servers.len() > 3, "a postmaster has children: {servers:?}");
    servers.push(redis);
    assert!(servers.iter().all(|&pid| processes::runs(pid)));

    kill(&mut client);
    eventually("no server and no file", SOON, async || {
        (!servers.iter().any(|&pid| processes::runs(pid)) && parent.is_clean()).then_some(())
    })
    .await;
    Command::new("kill").arg(bystander.to_string()).stderr(std::process::Stdio::null()).status().unwrap();
}

#[tokio::test]
async fn kill_9() {
    dies(|client| client.kill(Signal::SIGKILL)).await;
}

#[tokio::test]
async fn a_terminals_ctrl_c() {
    dies(|client| client.kill_group(Signal::SIGINT)).await;
}

#[tokio::test]
async fn a_closed_terminal() {
    dies(|client| client.kill_group(Signal::SIGHUP)).await;
}

#[tokio::test]
async fn an_abort() {
    dies(|client| client.kill(Signal::SIGABRT)).await;
}

#[tokio::test]
async fn a_panic() {
    let parent = Parent::new();
    let Some(options) = any_local().await else { return };
    let options = options.with_parent(parent.path());
    let panicked = tokio::spawn(async move {
        let cluster = Cluster::start(&Context::new(), &options).await.unwrap();
        assert!(cluster.pid().is_none(), "on purpose");
    });
    assert!(panicked.await.unwrap_err().is_panic());
    assert!(parent.is_clean(), "{:?}", parent.entries());
}

#[tokio::test]
async fn kill_9_while_it_starts() {
    let parent = Parent::new();
    if any_local().await.is_none() {
        return;
    }
    let mut client = Client::spawn("servers", parent.path());
    eventually("initdb at work", SOON, async || {
        let entries = parent.entries();
        let data = parent.path().join(entries.first()?).join("data");
        data.join("base").exists().then_some(())
    })
    .await;
    client.kill(Signal::SIGKILL);
    eventually("no server and no file", SOON, async || parent.is_clean().then_some(())).await;
}

#[tokio::test]
async fn dropping_and_stopping_wait_for_the_end() {
    let parent = Parent::new();
    let Some(options) = any_local().await else { return };
    let cx = Context::new();
    let cluster = Cluster::start(&cx, &options.with_parent(parent.path())).await.unwrap();
    let redis = Server::start(&cx, &local_redis_options().with_parent(parent.path())).await.unwrap();
    let mut pids = processes::family(cluster.pid().unwrap());
    pids.push(redis.pid().unwrap());
    assert_eq!(parent.entries().len(), 2);

    cluster.stop().await.unwrap();
    drop(redis);
    assert!(parent.is_clean(), "{:?} {:?}", parent.entries(), processes::mentioning(parent.path()));
    assert!(!pids.iter().any(|&pid| processes::runs(pid)));
}

#[tokio::test]
async fn a_server_that_will_not_end_is_killed() {
    let parent = Parent::new();
    let options = ThrowawayOptions::default().with_parent(parent.path()).with_grace(Duration::from_secs(1));
    let cx = Context::new();
    let mut scratch = Throwaway::create(&cx, &options).await.unwrap();
    let stubborn = "trap '' TERM; echo up; while :; do sleep 1; done";
    let pid = scratch.start(&cx, "/bin/sh", ["-c", stubborn]).await.unwrap();
    eventually("the server", SOON, async || (scratch.log_tail(1) == "up").then_some(())).await;
    scratch.close().await.unwrap();
    assert!(!processes::runs(pid));
    assert!(parent.entries().is_empty());
}

#[tokio::test]
async fn a_stopped_server_can_be_followed_by_another() {
    let parent = Parent::new();
    let cx = Context::new();
    let options = ThrowawayOptions::default().with_parent(parent.path());
    let mut scratch = Throwaway::create(&cx, &options).await.unwrap();
    let first = scratch.start(&cx, "/bin/sleep", ["60"]).await.unwrap();
    assert!(scratch.start(&cx, "/bin/sleep", ["60"]).await.is_err(), "one at a time");
    let began = Instant::now();
    scratch.stop(&cx, StopSignal::Term).await.unwrap();
    assert!(!processes::runs(first));
    assert_eq!(scratch.exit_status(), Some(128 + 15));

    let second = scratch.start(&cx, "/bin/sleep", ["60"]).await.unwrap();
    assert_ne!(first, second);
    assert_eq!(scratch.exit_status(), None);
    drop(scratch);
    assert!(!processes::runs(second) && parent.is_clean());
    // A reaper that misses an end waits out the grace of ten seconds.
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
async fn kept_servers_outlive_the_client_until_told() {
    let parent = Parent::new();
    let options = ThrowawayOptions::default().with_parent(parent.path());
    let cx = Context::new();
    let mut scratch = Throwaway::create(&cx, &options).await.unwrap();
    let pid = scratch.start(&cx, "/bin/sleep", ["60"]).await.unwrap();
    let keeper = scratch.keep().unwrap();
    // Longer than a reaper needs to notice.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(processes::runs(pid));
    assert!(Command::new("kill").arg(keeper.to_string()).status().unwrap().success());
    eventually("no server and no file", SOON, async || {
        (!processes::runs(pid) && parent.is_clean()).then_some(())
    })
    .await;
}
