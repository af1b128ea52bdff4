//! What a Redis probe is, all of them, and how one is bound to its target.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use ops_core::{
    Context, Error, ErrorKind, HealthProbe, Limits, ProbeReport, ProbeSpec, Requirement, Result, Retry,
};

use crate::info::Info;
use crate::probes;
use crate::target::RedisTarget;

/// Looks at one thing on a Redis or Valkey server. The contract is [`HealthProbe`]'s; besides, a probe reads by
/// [`RedisTarget::info`] where it can, so that a run costs one `INFO`, and sends nothing that counts as a hit, a
/// miss or a use of a key.
///
/// ```
/// use ops_cache::{RedisProbe, RedisTarget};
/// use ops_core::{Context, Limits, ProbeReport, ProbeSpec, Result};
///
/// #[derive(Debug)]
/// struct Scripts;
///
/// #[async_trait::async_trait]
/// impl RedisProbe for Scripts {
///     fn spec(&self) -> &'static ProbeSpec {
/// #       ops_cache::registry()[0].spec()
///         // …
///     }
///     async fn probe(&self, cx: &Context, redis: &RedisTarget, _limits: &Limits) -> Result<ProbeReport> {
///         let scripts: u64 = redis.info(cx).await?.info.need("number_of_cached_scripts")?;
///         Ok(ProbeReport::new(format!("{scripts} scripts are cached")))
///     }
/// }
/// ```
#[async_trait]
pub trait RedisProbe: Send + Sync + Debug {
    /// What it is called, why it matters, what it needs.
    fn spec(&self) -> &'static ProbeSpec;

    /// Looks once. What [`ProbeSpec::requires`] names has been checked.
    async fn probe(&self, cx: &Context, redis: &RedisTarget, limits: &Limits) -> Result<ProbeReport>;
}

/// All built-in probes. A new one is its own file in `probes/`, its `mod` line there, and its line here.
pub fn registry() -> &'static [&'static dyn RedisProbe] {
    &[
        &probes::reachable::Reachable,
        &probes::cluster::Cluster,
        &probes::sentinel::Sentinel,
        &probes::memory::Memory,
        &probes::keys::Keys,
        &probes::no_ttl::NoTtl,
        &probes::hit_rate::HitRate,
        &probes::evictions::Evictions,
        &probes::persistence::Persistence,
        &probes::replication::Replication,
        &probes::clients::Clients,
        &probes::blocked_clients::BlockedClients,
        &probes::rejected_connections::RejectedConnections,
        &probes::latency::Latency,
        &probes::slowlog::SlowLog,
        &probes::fragmentation::Fragmentation,
    ]
}

/// A probe with its target and its thresholds: what [`RedisTarget::bind`] makes.
#[derive(Clone, Debug)]
pub struct BoundProbe {
    redis: RedisTarget,
    probe: &'static dyn RedisProbe,
    limits: Limits,
}

impl BoundProbe {
    pub(crate) fn new(redis: RedisTarget, probe: &'static dyn RedisProbe, limits: Limits) -> Self {
        Self { redis, probe, limits }
    }

    /// What the probe says about itself.
    pub fn spec(&self) -> &'static ProbeSpec {
        self.probe.spec()
    }
}

#[async_trait]
impl HealthProbe for BoundProbe {
    fn name(&self) -> &str {
        self.probe.spec().name
    }

    async fn probe(&self, cx: &Context) -> Result<ProbeReport> {
        let spec = self.probe.spec();
        for requirement in spec.requires {
            if let Some(reason) = unmet(cx, &self.redis, requirement).await? {
                return Ok(ProbeReport::not_applicable(reason));
            }
        }
        if spec.requires.contains(&INFO) && spec.name != probes::sentinel::SPEC.name {
            let reading = self.redis.info(cx).await?;
            if is_sentinel(&reading.info) {
                return Ok(ProbeReport::not_applicable("it is a sentinel, and holds no data"));
            }
        }
        self.probe.probe(cx, &self.redis, &self.limits).await
    }
}

const INFO: Requirement = Requirement::Command("info");

/// Whether the server is a sentinel. Valkey calls the field by another name.
pub(crate) fn is_sentinel(info: &Info) -> bool {
    ["redis_mode", "server_mode"].iter().any(|field| info.text(field) == Some("sentinel"))
}

/// Why the server proves that the probe does not apply. A missing grant is an error with its fix: `INFO` is tried
/// here, since its reply is shared; any other command's refusal is met, and mapped alike, where it is sent.
async fn unmet(cx: &Context, redis: &RedisTarget, requirement: &Requirement) -> Result<Option<String>> {
    match requirement {
        requirement if *requirement == INFO => {
            let reading = redis.info(cx).await?;
            // A loading server counts what it has read so far: its figures are of no use yet.
            match reading.info.number::<u8>("loading") {
                Some(1) => Err(Error::new(ErrorKind::Busy, "read INFO")
                    .on(redis.address())
                    .because("the server is loading its dataset; what it counts is partial")
                    .retry(Retry::Safe { after: Some(Duration::from_secs(1)) })),
                _ => Ok(None),
            }
        }
        Requirement::ServerVersion(needed) => {
            let reading = redis.info(cx).await?;
            Ok(reading.info.redis_version().filter(|version| version < needed).map(|_| {
                format!("{} is older than {}.{}", reading.info.server(), needed / 10_000, needed / 100 % 100)
            }))
        }
        Requirement::Command(_) => Ok(None),
        // What nothing here can check is unknown, and never taken for met.
        other => Err(Error::new(ErrorKind::Unsupported, "check what the probe requires")
            .on(redis.address())
            .because(format!("{other:?} is nothing that Redis can be asked for"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[tokio::test]
    async fn what_cannot_be_checked_is_unknown() {
        // Nothing listens there: only a command that is met where it is sent passes.
        let url = ops_core::Secret::from("redis://127.0.0.1:1".to_owned());
        let redis = RedisTarget::connect_lazily("cache", &url, crate::RedisOptions::default()).unwrap();
        for (requirement, kind) in [
            (Requirement::Role("monitor"), Some(ErrorKind::Unsupported)),
            (Requirement::Grant { what: "w", statement: "s" }, Some(ErrorKind::Unsupported)),
            (Requirement::Extension("search"), Some(ErrorKind::Unsupported)),
            (Requirement::Command("ping"), None),
        ] {
            let met = unmet(&Context::new(), &redis, &requirement).await;
            assert_eq!(met.err().map(|error| error.kind()), kind, "{requirement:?}");
        }
    }

    #[test]
    fn a_sentinel_is_told_by_either_name_of_its_mode() {
        let valkey = crate::fixtures::VALKEY_8;
        for (reply, sentinel) in [
            (crate::fixtures::REDIS_7.to_owned(), false),
            (crate::fixtures::with(crate::fixtures::REDIS_7, "redis_mode", "sentinel"), true),
            (valkey.to_owned(), false),
            (crate::fixtures::with(valkey, "server_mode", "sentinel"), true),
        ] {
            assert_eq!(is_sentinel(&Info::parse(&reply)), sentinel);
        }
    }

    #[test]
    fn every_probe_explains_itself() {
        let mut names = BTreeSet::new();
        let mut codes = BTreeSet::new();
        for spec in registry().iter().map(|probe| probe.spec()) {
            let text = spec.explanation;
            assert!(spec.name.starts_with("redis.") && names.insert(spec.name), "{}", spec.name);
            for part in [text.why, text.measures, text.versions, text.cost, text.remedy, spec.group] {
                assert!(!part.is_empty(), "{} leaves a part of its explanation out", spec.name);
            }
            assert!(!text.queries.is_empty() && !text.codes.is_empty() && !spec.requires.is_empty());
            for (code, meaning) in text.codes {
                assert_eq!(code.split('.').count(), 3, "{code}");
                assert!(code.starts_with("redis.") && !meaning.is_empty() && codes.insert(*code), "{code}");
            }
            for threshold in spec.thresholds {
                assert!(!threshold.source.is_empty() && !threshold.meaning.is_empty(), "{}", threshold.name);
            }
            let _ = Limits::defaults(spec);
        }
    }
}
