//! Logs that show nothing because nobody keeps them, or nobody says so.

use ops_cache::{RedisOptions, RedisTarget};
use ops_core::{Limits, ProbeResult, ProbeSet, Secret, Status};
use ops_testkit::{Missing, RedisServer, local_redis_options, or_skip};

use crate::plants::run;
use crate::rows::{context, probe_named};

async fn look(server: &RedisServer, probe: &str) -> ProbeResult {
    let probe = probe_named(probe);
    let url = Secret::from(format!("redis://{}", server.address()));
    let target = RedisTarget::connect_lazily("cache", &url, RedisOptions::default()).unwrap();
    let mut set = ProbeSet::new("test");
    let bound = target.bind(probe, Limits::defaults(probe.spec()));
    set.add_grouped("cache", None, probe.spec().group, bound);
    set.run(&context()).await.probes.remove(0)
}

async fn a_blind_slow_log_is_unknown(server: Result<RedisServer, Missing>) {
    let Some(server) = or_skip(server) else { return };
    let calm = look(&server, "redis.slowlog").await;
    assert_eq!((calm.status, calm.unseen.len()), (Status::Ok, 0), "{calm:#?}");
    for (blinding, fix) in [
        ("CONFIG SET slowlog-log-slower-than 5000000", "CONFIG SET slowlog-log-slower-than 10000"),
        ("CONFIG SET slowlog-log-slower-than -1", "CONFIG SET slowlog-log-slower-than 10000"),
        ("CONFIG SET slowlog-max-len 0", "CONFIG SET slowlog-max-len 128"),
    ] {
        run(&server, blinding).await;
        let blind = look(&server, "redis.slowlog").await;
        assert_eq!(blind.status, Status::Unknown, "{blinding}: {blind:#?}");
        assert_eq!(blind.unseen[0].fix.as_deref(), Some(fix), "{blind:#?}");
        run(&server, fix).await;
        assert_eq!(look(&server, "redis.slowlog").await.status, Status::Ok, "after {fix}");
    }
}

#[tokio::test]
async fn a_slow_log_that_leaves_out_what_is_looked_for_is_unknown() {
    a_blind_slow_log_is_unknown(RedisServer::start(local_redis_options()).await).await;
}

#[tokio::test]
async fn so_it_is_in_valkey_8_in_a_container() {
    a_blind_slow_log_is_unknown(RedisServer::valkey_in_container().await).await;
}

/// As on a managed service: nobody can be given the right to ask.
#[tokio::test]
async fn logs_of_a_server_without_config_are_unknown_and_the_provider_is_named() {
    let options = local_redis_options().with_setting("rename-command", "CONFIG \"\"");
    let Some(server) = or_skip(RedisServer::start(options).await) else { return };
    for probe in ["redis.slowlog", "redis.latency"] {
        let result = look(&server, probe).await;
        assert_eq!(result.status, Status::Unknown, "{result:#?}");
        let unseen = &result.unseen[0];
        assert!(unseen.what.contains("the provider's console") && unseen.fix.is_none(), "{unseen:#?}");
    }
}
