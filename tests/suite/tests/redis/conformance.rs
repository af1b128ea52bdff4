//! Every probe keeps the rules of the trait, on a healthy server and on one that is not there.

use ops_cache::{RedisOptions, RedisTarget, registry};
use ops_core::{Limits, Secret, testing};
use ops_testkit::RedisServer;

async fn conforms(url: &str) {
    let target =
        RedisTarget::connect_lazily("cache", &Secret::from(url.to_owned()), RedisOptions::default()).unwrap();
    for probe in registry() {
        testing::health_probe(&target.bind(*probe, Limits::defaults(probe.spec())), &["hunter2"]).await;
    }
}

#[tokio::test]
async fn every_probe_keeps_the_rules() {
    let Some(server) = RedisServer::fresh().await else { return };
    conforms(server.url()).await;
    conforms("redis://ops:hunter2@127.0.0.1:1").await;
}
