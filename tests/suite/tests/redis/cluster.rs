//! Nodes of a cluster: without a slot, without each other.

use ops_cache::{RedisOptions, RedisTarget};
use ops_core::{Bounds, Context, Limits, ProbeResult, ProbeSet, Secret, Status};
use ops_testkit::{RedisServer, eventually, local_redis_options, or_skip};

use crate::plants::{SOON, ask, run};
use crate::rows::{Planted, probe_named};
use crate::silent::Stopped;

fn node_options() -> ops_cache::server::ServerOptions {
    local_redis_options().with_setting("cluster-enabled", "yes").with_setting("cluster-node-timeout", "500")
}

/// Waits for a field of `CLUSTER INFO`.
pub(crate) async fn until(server: &RedisServer, field: &str, value: &str) {
    let line = format!("{field}:{value}");
    eventually(&line, SOON, async || {
        let info: String = ask(server, "CLUSTER INFO").await.ok()?;
        info.lines().any(|own| own.trim() == line).then_some(())
    })
    .await;
}

async fn until_nodes(server: &RedisServer, what: &str, wanted: impl Fn(&str) -> bool) {
    eventually(what, SOON, async || {
        let nodes: String = ask(server, "CLUSTER NODES").await.ok()?;
        wanted(&nodes).then_some(())
    })
    .await;
}

async fn meet(server: &RedisServer, other: &RedisServer) {
    run(server, &format!("CLUSTER MEET 127.0.0.1 {}", other.address().port())).await;
}

pub(crate) async fn without_a_slot(server: &RedisServer) -> Planted {
    run(server, "CLUSTER DELSLOTSRANGE 7 7").await;
    until(server, "cluster_state", "fail").await;
    Planted::default()
}

async fn look(server: &RedisServer) -> ProbeResult {
    let probe = probe_named("redis.cluster");
    let one = Bounds { warning: Some(0.0), critical: None };
    let limits = Limits::defaults(probe.spec()).with("replicas", one).unwrap();
    let url = Secret::from(server.url().to_owned());
    let target = RedisTarget::connect_lazily("cache", &url, RedisOptions::default()).unwrap();
    let mut set = ProbeSet::new("test");
    set.add_grouped("cache", None, probe.spec().group, target.bind(probe, limits));
    set.run(&Context::new()).await.probes.remove(0)
}

fn codes(result: &ProbeResult) -> Vec<&str> {
    let mut codes: Vec<_> = result.findings.iter().map(|finding| finding.code.as_ref()).collect();
    codes.sort_unstable();
    codes.dedup();
    codes
}

#[tokio::test]
async fn a_majority_agrees_on_a_failed_node_and_a_minority_sees_silent_ones() {
    let Some(first) = or_skip(RedisServer::start(node_options()).await) else { return };
    let others = [
        RedisServer::start(node_options()).await.unwrap(),
        RedisServer::start(node_options()).await.unwrap(),
    ];
    for (node, slots) in [(&first, "0 5460"), (&others[0], "5461 10922"), (&others[1], "10923 16383")] {
        run(node, &format!("CLUSTER ADDSLOTSRANGE {slots}")).await;
    }
    for other in &others {
        meet(&first, other).await;
    }
    until(&first, "cluster_state", "ok").await;
    let before = look(&first).await;
    assert_eq!(
        (before.status, codes(&before)),
        (Status::Warning, vec!["redis.cluster.no_replica"]),
        "{before:#?}"
    );
    assert_eq!(before.findings.len(), 3);
    a_node_is_judged_like_any_server(&first).await;

    let stopped = Stopped::new(others[0].server().unwrap().pid().unwrap());
    until_nodes(&first, "a failed node", |nodes| nodes.contains(",fail ") || nodes.contains("fail -")).await;
    until(&first, "cluster_state", "fail").await;
    let result = look(&first).await;
    let expected = ["redis.cluster.down", "redis.cluster.no_replica", "redis.cluster.node_failed"];
    assert_eq!((result.status, codes(&result)), (Status::Critical, expected.to_vec()), "{result:#?}");
    drop(stopped);
    until(&first, "cluster_state", "ok").await;

    let stopped = others.each_ref().map(|node| Stopped::new(node.server().unwrap().pid().unwrap()));
    until_nodes(&first, "two silent nodes", |nodes| nodes.matches("fail?").count() == 2).await;
    until(&first, "cluster_state", "fail").await;
    let result = look(&first).await;
    drop(stopped);
    let expected = ["redis.cluster.down", "redis.cluster.no_replica", "redis.cluster.node_silent"];
    assert_eq!((result.status, codes(&result)), (Status::Critical, expected.to_vec()), "{result:#?}");
    let silent = result.findings.iter().filter(|finding| finding.code == "redis.cluster.node_silent");
    let mut objects: Vec<_> = silent.filter_map(|finding| finding.object.clone()).collect();
    let mut addresses: Vec<_> = others.iter().map(|node| node.address().to_string()).collect();
    objects.sort();
    addresses.sort();
    assert_eq!(objects, addresses);
}

/// That it is a node of a cluster hides nothing.
async fn a_node_is_judged_like_any_server(server: &RedisServer) {
    let url = Secret::from(server.url().to_owned());
    let target = RedisTarget::connect_lazily("cache", &url, RedisOptions::default()).unwrap();
    let mut set = ProbeSet::new("test");
    target.add_all_to(&mut set);
    let report = set.run(&crate::rows::context()).await;
    for probe in &report.probes {
        assert_ne!(probe.status, Status::Unknown, "{probe:#?}");
        assert_eq!(probe.status == Status::NotApplicable, probe.probe == "redis.sentinel", "{probe:#?}");
    }
}
