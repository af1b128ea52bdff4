//! A sentinel, and what it watches.

use std::collections::HashMap;

use ops_cache::{RedisOptions, RedisTarget};
use ops_core::{Context, Limits, ProbeResult, ProbeSet, Secret, Status};
use ops_testkit::{RedisServer, eventually, local_redis_options, or_skip};

use crate::explains;
use crate::plants::{SOON, ask, run, until};
use crate::rows::{context, probe_named};
use crate::silent::Stopped;

/// A primary, its replica, and the one sentinel that watches them.
pub(crate) struct Watched {
    primary: RedisServer,
    replica: RedisServer,
    pub(crate) sentinel: RedisServer,
}

impl Watched {
    pub(crate) async fn new() -> Option<Self> {
        let primary = or_skip(RedisServer::start(local_redis_options()).await)?;
        let replica = RedisServer::start(local_redis_options()).await.unwrap();
        let sentinel = RedisServer::start(local_redis_options().with_sentinel()).await.unwrap();
        run(&replica, &format!("REPLICAOF 127.0.0.1 {}", primary.address().port())).await;
        until(&primary, "slave0", |line: String| line.contains("state=online")).await;
        run(&sentinel, &format!("SENTINEL MONITOR shop 127.0.0.1 {} 1", primary.address().port())).await;
        run(&sentinel, "SENTINEL SET shop down-after-milliseconds 300").await;
        let watched = Self { primary, replica, sentinel };
        watched.until("slaves=1").await;
        watched.until("status=ok").await;
        watched.until_replica("a replica that answers", |flags| flags == "slave").await;
        Some(watched)
    }

    /// Waits until the sentinel says this of the one replica's flags.
    async fn until_replica(&self, what: &str, wanted: impl Fn(&str) -> bool) {
        eventually(what, SOON, async || {
            let replicas: Vec<HashMap<String, String>> =
                ask(&self.sentinel, "SENTINEL REPLICAS shop").await.ok()?;
            wanted(replicas.first()?.get("flags")?).then_some(())
        })
        .await;
    }

    /// Waits until the sentinel's own INFO says this of its primary.
    async fn until(&self, wanted: &str) {
        until(&self.sentinel, "master0", |line: String| line.contains(wanted)).await;
    }

    pub(crate) fn target(&self, credentials: &str) -> RedisTarget {
        let url = Secret::from(format!("redis://{credentials}{}", self.sentinel.address()));
        RedisTarget::connect_lazily("watch", &url, RedisOptions::default()).unwrap()
    }

    async fn look_as(&self, credentials: &str) -> ProbeResult {
        let probe = probe_named("redis.sentinel");
        let mut set = ProbeSet::new("test");
        let bound = self.target(credentials).bind(probe, Limits::defaults(probe.spec()));
        set.add_grouped("watch", None, probe.spec().group, bound);
        let result = set.run(&Context::new()).await.probes.remove(0);
        explains::findings_of(probe.spec(), &result);
        result
    }

    async fn finds(&self, status: Status, code: &str, object: &str) {
        let result = self.look_as("").await;
        let found: Vec<_> = result.findings.iter().map(|f| (f.code.as_ref(), f.object.as_deref())).collect();
        assert_eq!((result.status, found), (status, vec![(code, Some(object))]), "{result:#?}");
    }
}

#[tokio::test]
async fn each_fault_of_what_a_sentinel_watches_is_found() {
    let Some(watched) = Watched::new().await else { return };
    let calm = watched.look_as("").await;
    assert_eq!((calm.status, calm.findings.len()), (Status::Ok, 0), "{calm:#?}");

    run(&watched.sentinel, "SENTINEL SET shop quorum 2").await;
    watched.finds(Status::Critical, "redis.sentinel.no_quorum", "shop").await;
    // With a quorum that one sentinel never reaches, nothing fails over: the primary stays down for this one.
    ask::<()>(&watched.primary, "SHUTDOWN NOSAVE").await.ok();
    watched.until("status=sdown").await;
    let result = watched.look_as("").await;
    let mut codes: Vec<_> = result.findings.iter().map(|finding| finding.code.as_ref()).collect();
    codes.sort_unstable();
    assert_eq!(codes, ["redis.sentinel.no_quorum", "redis.sentinel.primary_down"], "{result:#?}");

    run(&watched.sentinel, "SENTINEL REMOVE shop").await;
    watched.finds(Status::Warning, "redis.sentinel.watches_nothing", "sentinel").await;
    // A former replica alone: there is nobody to promote.
    run(&watched.replica, "REPLICAOF NO ONE").await;
    run(
        &watched.sentinel,
        &format!("SENTINEL MONITOR shop 127.0.0.1 {} 1", watched.replica.address().port()),
    )
    .await;
    watched.until("status=ok").await;
    watched.finds(Status::Warning, "redis.sentinel.too_few_replicas", "shop").await;
}

#[tokio::test]
async fn a_replica_that_is_gone_is_nobody_to_promote() {
    let Some(watched) = Watched::new().await else { return };
    let stopped = Stopped::new(watched.replica.server().unwrap().pid().unwrap());
    watched.until_replica("a replica that is down", |flags| flags.contains("s_down")).await;
    // The sentinel goes on counting it.
    watched.until("slaves=1").await;
    watched.finds(Status::Warning, "redis.sentinel.too_few_replicas", "shop").await;
    drop(stopped);
    watched.until_replica("a replica that answers", |flags| flags == "slave").await;
    let calm = watched.look_as("").await;
    assert_eq!((calm.status, calm.findings.len()), (Status::Ok, 0), "{calm:#?}");
}

#[tokio::test]
async fn other_probes_have_nothing_to_say_about_a_sentinel() {
    let Some(watched) = Watched::new().await else { return };
    let mut set = ProbeSet::new("test");
    watched.target("").add_all_to(&mut set);
    let report = set.run(&context()).await;
    for probe in &report.probes {
        let own = ["redis.reachable", "redis.sentinel"].contains(&probe.probe.as_str());
        let expected = if own { Status::Ok } else { Status::NotApplicable };
        assert_eq!(probe.status, expected, "{probe:#?}");
    }
}

#[tokio::test]
async fn what_is_closed_to_a_user_is_unknown_until_it_is_granted() {
    let Some(watched) = Watched::new().await else { return };
    run(&watched.sentinel, "ACL SETUSER watcher on >hunter2 +ping").await;
    let mut fixes = Vec::new();
    let result = eventually("a verdict", SOON, async || {
        let result = watched.look_as("watcher:hunter2@").await;
        let Some(unseen) = result.unseen.first() else { return Some(result) };
        assert_eq!(result.status, Status::Unknown, "{result:#?}");
        let fix = unseen.fix.clone().unwrap_or_else(|| panic!("no fix: {result:#?}"));
        run(&watched.sentinel, &fix).await;
        fixes.push(fix);
        None
    })
    .await;
    assert_eq!(result.status, Status::Ok, "{result:#?}");
    let granted = ["info", "sentinel|masters", "sentinel|replicas", "sentinel|ckquorum"];
    assert_eq!(fixes, granted.map(|command| format!("ACL SETUSER watcher +{command}")));
}
