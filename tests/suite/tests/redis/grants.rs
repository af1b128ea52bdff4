//! What is printed to be granted is what it takes.

use ops_cache::{RedisOptions, RedisTarget, grants, grants_on_sentinel};
use ops_core::{HealthReport, ProbeSet, Secret, Status};
use ops_testkit::{RedisServer, local_redis_options, or_skip};

use crate::cluster;
use crate::plants::run;
use crate::rows::context;
use crate::sentinel::Watched;

async fn check(target: &RedisTarget) -> HealthReport {
    let mut set = ProbeSet::new("test");
    target.add_all_to(&mut set);
    set.run(&context()).await
}

fn unknown(report: &HealthReport) -> Vec<&str> {
    let unknown = report.probes.iter().filter(|result| result.status == Status::Unknown);
    unknown.map(|result| result.probe.as_str()).collect()
}

/// The lines that `redis-cli` would run.
fn commands(script: &str) -> Vec<&str> {
    script.lines().filter(|line| !line.starts_with('#')).collect()
}

#[tokio::test]
async fn a_server_takes_it_and_shows_everything() {
    // A node of a cluster has the most to show.
    let options = local_redis_options().with_setting("cluster-enabled", "yes");
    let Some(server) = or_skip(RedisServer::start(options).await) else { return };
    run(&server, "CLUSTER ADDSLOTSRANGE 0 16383").await;
    cluster::until(&server, "cluster_state", "ok").await;
    run(&server, "ACL SETUSER ops >hunter2").await;
    let url = Secret::from(format!("redis://ops:hunter2@{}", server.address()));
    let target = RedisTarget::connect_lazily("cache", &url, RedisOptions::default()).unwrap();
    let script = grants(&target, "ops");
    for command in commands(&script) {
        run(&server, command).await;
    }
    // Nothing has been slow, and whether somebody would know is not for everybody to see.
    let report = check(&target).await;
    assert_eq!(unknown(&report), ["redis.latency", "redis.slowlog"], "{report:#?}");
    let optional = script.lines().find_map(|line| line.strip_prefix("# ACL")).expect("an optional right");
    let optional = format!("ACL{optional}");
    for result in report.probes.iter().filter(|result| result.status == Status::Unknown) {
        assert_eq!(result.unseen[0].fix.as_ref(), Some(&optional), "{result:#?}");
        assert!(result.unseen[0].what.contains("passwords"), "{result:#?}");
    }
    run(&server, &optional).await;
    let report = check(&target).await;
    assert_eq!((unknown(&report), report.coverage), (vec![], 1.0), "{report:#?}");
}

#[tokio::test]
async fn a_sentinel_takes_its_own_and_shows_everything() {
    let Some(watched) = Watched::new().await else { return };
    run(&watched.sentinel, "ACL SETUSER ops >hunter2").await;
    let target = watched.target("ops:hunter2@");
    let command = grants_on_sentinel("ops");
    assert_eq!(grants(&target, "ops").lines().last(), Some(format!("# {command}").as_str()));
    run(&watched.sentinel, &command).await;
    let report = check(&target).await;
    assert_eq!((unknown(&report), report.coverage), (vec![], 1.0), "{report:#?}");
    assert!(target.is_sentinel(&context()).await.unwrap());
}
