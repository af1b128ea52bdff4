//! One row a code: what is planted, what the probe must say, about which object.

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use ops_cache::{RedisOptions, RedisProbe, RedisTarget, registry};
use ops_core::{Bounds, Context, Limits, ProbeResult, ProbeSet, ProbeSetOptions, Secret, Status};
use ops_testkit::{Missing, RedisServer, local_redis_options};

use crate::{cluster, full, plants, replica, silent};

/// What must stay alive while the plant is looked at, and the address to look at where it is another one.
#[derive(Default)]
pub(crate) struct Planted {
    #[expect(dead_code, reason = "held, never read")]
    pub(crate) held: Vec<Box<dyn Any + Send>>,
    pub(crate) address: Option<String>,
    /// What [`Object::Address`] means where it is not that address.
    pub(crate) object: Option<String>,
}

impl Planted {
    pub(crate) fn holding(held: impl Any + Send) -> Self {
        Self { held: vec![Box::new(held)], ..Self::default() }
    }

    pub(crate) fn at(address: impl ToString) -> Self {
        Self { address: Some(address.to_string()), ..Self::default() }
    }
}

pub(crate) type Planting<'a> = Pin<Box<dyn Future<Output = Planted> + 'a>>;

/// What a finding is about.
#[derive(Clone, Copy)]
pub(crate) enum Object {
    Named(&'static str),
    /// The address that was looked at, or another server's that the plant names.
    Address,
}

/// Where a row's plant works.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Anywhere,
    /// It needs the server's process, its start-up settings, or a second server that it can reach.
    Local,
}

pub(crate) struct Row {
    pub(crate) probe: &'static str,
    /// The status with the plant. Without it: ok.
    pub(crate) expected: Status,
    pub(crate) code: &'static str,
    pub(crate) object: Object,
    pub(crate) place: Place,
    /// Bounds that bring the plant within a test's means; for both looks.
    pub(crate) bounds: &'static [(&'static str, Bounds)],
    /// Lines of `redis.conf` that the plant needs.
    pub(crate) settings: &'static [(&'static str, &'static str)],
    /// Commands that make the server healthy for these bounds.
    pub(crate) before: &'static [&'static str],
    pub(crate) plant: for<'a> fn(&'a RedisServer) -> Planting<'a>,
}

/// Codes without a row, and why.
pub(crate) const EXCUSED: [(&str, &str); 13] = [
    ("redis.reachable.gone", "needs a server that freezes midway: see bad_input"),
    ("redis.cluster.node_failed", "needs three nodes: a test of its own"),
    ("redis.cluster.node_silent", "likewise"),
    ("redis.cluster.no_replica", "likewise"),
    ("redis.persistence.aof_failed", "needs a full disk; judged on a recorded INFO in the crate"),
    ("redis.persistence.fsync_delayed", "needs a disk that is too slow; judged on samples in the crate"),
    ("redis.replication.silent", "needs half a minute of silence; judged on a recorded INFO in the crate"),
    ("redis.replication.lag", "needs a replica that follows first: a test of its own"),
    ("redis.replication.too_few", "likewise"),
    ("redis.sentinel.primary_down", "needs a sentinel in place of a server: tests of their own"),
    ("redis.sentinel.no_quorum", "likewise"),
    ("redis.sentinel.too_few_replicas", "likewise"),
    ("redis.sentinel.watches_nothing", "likewise"),
];

impl Row {
    const fn new(
        probe: &'static str,
        expected: Status,
        code: &'static str,
        object: Object,
        plant: for<'a> fn(&'a RedisServer) -> Planting<'a>,
    ) -> Self {
        let (bounds, settings, before) = (&[], &[], &[]);
        Self { probe, expected, code, object, place: Place::Anywhere, bounds, settings, before, plant }
    }

    const fn local(mut self) -> Self {
        self.place = Place::Local;
        self
    }

    const fn with_bounds(mut self, bounds: &'static [(&'static str, Bounds)]) -> Self {
        self.bounds = bounds;
        self
    }

    const fn with_settings(mut self, settings: &'static [(&'static str, &'static str)]) -> Self {
        self.settings = settings;
        self
    }

    const fn with_before(mut self, before: &'static [&'static str]) -> Self {
        self.before = before;
        self
    }
}

const fn from(warning: Option<f64>, critical: Option<f64>) -> Bounds {
    Bounds { warning, critical }
}

const fn warning(name: &'static str, at: f64) -> (&'static str, Bounds) {
    (name, Bounds { warning: Some(at), critical: None })
}

/// `plant!(function)` boxes an async function of the server.
macro_rules! plant {
    ($plant:expr) => {
        |server| Box::pin($plant(server))
    };
}

pub(crate) fn rows() -> Vec<Row> {
    reachable()
        .into_iter()
        .chain(memory())
        .chain(traffic())
        .chain(waiting())
        .chain(durability())
        .chain(clustered())
        .collect()
}

fn reachable() -> Vec<Row> {
    use Object::Address;
    use Status::{Critical, Warning};
    const NAME: &str = "redis.reachable";
    vec![
        // Nothing listens on the port of TCP's own multiplexer.
        Row::new(NAME, Critical, "redis.server.unreachable", Address, |_| {
            Box::pin(async { Planted::at("127.0.0.1:1") })
        }),
        Row::new(NAME, Critical, "redis.server.unreachable", Address, plant!(silent::shut_down)).local(),
        Row::new(NAME, Critical, "redis.server.timeout", Address, plant!(silent::frozen)).local(),
        Row::new(NAME, Critical, "redis.server.loading", Address, plant!(silent::loading))
            .local()
            .with_settings(&[("enable-debug-command", "yes")]),
        Row::new(NAME, Critical, "redis.server.busy", Address, plant!(silent::busy)),
        Row::new(NAME, Critical, "redis.server.busy", Address, plant!(replica::that_serves_nothing_stale)),
        Row::new(NAME, Critical, "redis.server.refuses_writes", Address, plant!(plants::refused_writes)),
        Row::new(NAME, Critical, "redis.server.full", Address, plant!(full::of_clients)),
        Row::new(NAME, Warning, "redis.server.slow", Address, plant!(silent::far_away)),
    ]
}

fn memory() -> Vec<Row> {
    use Object::Named;
    use Status::{Critical, Ok, Warning};
    const NAME: &str = "redis.memory";
    const MAX: Object = Named("maxmemory");
    vec![
        Row::new(NAME, Critical, "redis.memory.full", MAX, plant!(full::of_data)),
        Row::new(NAME, Warning, "redis.memory.high", MAX, plant!(full::nearly)),
        Row::new(NAME, Ok, "redis.memory.no_limit", MAX, plant!(full::without_limit))
            .with_before(&["CONFIG SET maxmemory 1gb"]),
        Row::new(NAME, Warning, "redis.memory.host", MAX, plant!(full::without_limit))
            .with_before(&["CONFIG SET maxmemory 1gb"])
            .with_bounds(const { &[warning("used_of_system", 0.0)] }),
        Row::new(
            "redis.fragmentation",
            Warning,
            "redis.memory.fragmented",
            Named("memory"),
            plant!(full::of_holes),
        ),
    ]
}

fn traffic() -> Vec<Row> {
    use Object::Named;
    use Status::{Critical, Ok, Warning};
    const NO_TTL: &str = "redis.keys.no_ttl";
    const MISSES: &str = "redis.cache.hit_rate";
    const KEYSPACE: Object = Named("keyspace");
    vec![
        Row::new("redis.no_ttl", Ok, NO_TTL, Named("db3"), plant!(plants::keys_without_ttl)),
        Row::new("redis.no_ttl", Warning, NO_TTL, Named("db3"), plant!(plants::keys_without_ttl))
            .with_bounds(const { &[warning("without_ttl", 50.0)] }),
        Row::new("redis.hit_rate", Warning, MISSES, KEYSPACE, plant!(plants::a_few_misses)),
        Row::new("redis.hit_rate", Critical, MISSES, KEYSPACE, plant!(plants::many_misses)),
        Row::new(
            "redis.evictions",
            Warning,
            "redis.cache.evictions",
            Named("keyspace"),
            plant!(plants::evictions),
        ),
        Row::new(
            "redis.clients",
            Warning,
            "redis.clients.high",
            Named("maxclients"),
            plant!(plants::many_clients),
        ),
        Row::new(
            "redis.rejected_connections",
            Warning,
            "redis.connections.rejected",
            Named("maxclients"),
            plant!(plants::rejected_clients),
        ),
    ]
}

fn waiting() -> Vec<Row> {
    use Object::Named;
    use Status::Warning;
    vec![
        Row::new("redis.keys", Warning, "redis.keys.many", Named("db3"), plant!(plants::keys_without_ttl))
            .with_bounds(const { &[warning("keys", 4.0)] }),
        Row::new(
            "redis.keys",
            Status::Critical,
            "redis.keys.few",
            Named("keyspace"),
            plant!(plants::flushed),
        )
        .with_before(&["SET a 1"])
        .with_bounds(const { &[("total", from(None, Some(0.0)))] }),
        Row::new(
            "redis.blocked_clients",
            Warning,
            "redis.clients.blocked",
            Named("blocked_clients"),
            plant!(plants::blocked),
        )
        .with_bounds(const { &[warning("blocked", 1.0)] }),
        Row::new("redis.latency", Warning, "redis.latency.fork", Named("fork"), plant!(plants::forked))
            .with_bounds(const { &[warning("fork", 0.001)] }),
        Row::new(
            "redis.latency",
            Status::Ok,
            "redis.latency.unwatched",
            Named("latency-monitor-threshold"),
            plant!(plants::unwatched),
        )
        .with_before(&["CONFIG SET latency-monitor-threshold 100"]),
        Row::new(
            "redis.latency",
            Status::Ok,
            "redis.latency.unwatched",
            Named("latency-monitor-threshold"),
            plant!(plants::barely_watched),
        )
        .with_before(&["CONFIG SET latency-monitor-threshold 100"]),
        Row::new("redis.latency", Warning, "redis.latency.event", Named("command"), plant!(plants::stalled))
            .with_bounds(const { &[warning("event", 5.0)] }),
        Row::new(
            "redis.latency",
            Warning,
            "redis.latency.event",
            Named("command"),
            plant!(plants::stalled_before),
        )
        .local()
        .with_settings(&[("enable-debug-command", "yes")])
        .with_bounds(const { &[warning("event", 300.0)] }),
        Row::new("redis.slowlog", Warning, "redis.slowlog.slow", Named("EVAL"), plant!(plants::stalled))
            .with_before(&["CONFIG SET slowlog-log-slower-than 5000"])
            .with_bounds(const { &[("slowest", from(Some(5.0), Some(60e3)))] }),
        Row::new(
            "redis.slowlog",
            Warning,
            "redis.slowlog.entries",
            Named("slowlog"),
            plant!(plants::stalled),
        )
        .with_bounds(
            const { &[("entries", from(Some(1.0), None)), ("slowest", from(Some(60e3), Some(60e3)))] },
        ),
    ]
}

fn clustered() -> Vec<Row> {
    use Object::Named;
    use Status::Critical;
    const NAME: &str = "redis.cluster";
    const ALONE: &[(&str, &str)] = &[("cluster-enabled", "yes"), ("cluster-node-timeout", "500")];
    const SERVES: &[&str] = &["CLUSTER ADDSLOTSRANGE 0 16383"];
    let row = |status, code, object, plant| {
        Row::new(NAME, status, code, object, plant).local().with_settings(ALONE).with_before(SERVES)
    };
    vec![
        row(Critical, "redis.cluster.slots", Named("cluster"), plant!(cluster::without_a_slot)),
        row(Critical, "redis.cluster.down", Named("cluster"), plant!(cluster::without_a_slot)),
    ]
}

fn durability() -> Vec<Row> {
    use Object::Named;
    use Status::{Critical, Warning};
    const SAVED: Object = Named("snapshot");
    const NAME: &str = "redis.persistence";
    const REPLICATION: &str = "redis.replication";
    vec![
        Row::new(NAME, Warning, "redis.persistence.save_failed", SAVED, plant!(plants::failed_save)),
        Row::new(NAME, Critical, "redis.persistence.save_failed", SAVED, plant!(plants::refused_writes)),
        Row::new(
            NAME,
            Warning,
            "redis.persistence.rewrite_failed",
            Named("append-only file"),
            plant!(plants::failed_rewrite),
        )
        .local()
        .with_settings(&[("appendonly", "yes")]),
        Row::new(NAME, Warning, "redis.persistence.unsaved", SAVED, plant!(plants::unsaved))
            .with_bounds(const { &[warning("unsaved", 0.0)] }),
        Row::new(
            REPLICATION,
            Critical,
            "redis.replication.link_down",
            Named("127.0.0.1:1"),
            plant!(replica::of_nobody),
        ),
        Row::new(
            REPLICATION,
            Warning,
            "redis.replication.syncing",
            Object::Address,
            plant!(replica::that_copies),
        )
        .local(),
        Row::new(
            REPLICATION,
            Warning,
            "redis.replication.replica_offline",
            Object::Address,
            plant!(replica::that_is_copied),
        )
        .local(),
    ]
}

pub(crate) fn probe_named(name: &str) -> &'static dyn RedisProbe {
    *registry().iter().find(|probe| probe.spec().name == name).expect("a registered probe")
}

/// Baselines live as long as the context: the window is the time between two looks, of which a plant takes more
/// than the gap.
pub(crate) fn context() -> Context {
    Context::new().with_window_gap(Duration::from_millis(1))
}

impl Row {
    pub(crate) async fn server(&self) -> Result<RedisServer, Missing> {
        let settings = self.settings.iter();
        let options = settings
            .fold(local_redis_options(), |options, (name, value)| options.with_setting(*name, *value));
        RedisServer::start(options).await
    }

    pub(crate) async fn prepare(&self, server: &RedisServer) {
        for command in self.before {
            plants::run(server, command).await;
        }
        if self.settings.iter().any(|(name, _)| *name == "cluster-enabled") {
            cluster::until(server, "cluster_state", "ok").await;
        }
    }

    /// Runs the row's probe once, over a connection of its own.
    pub(crate) async fn look(&self, cx: &Context, url: &str) -> ProbeResult {
        let url = Secret::from(url.to_owned());
        let target = RedisTarget::connect_lazily("cache", &url, RedisOptions::default()).unwrap();
        let probe = probe_named(self.probe);
        let limits = self.bounds.iter().fold(Limits::defaults(probe.spec()), |limits, (name, bounds)| {
            limits.with(name, *bounds).unwrap()
        });
        let options = ProbeSetOptions::default().with_probe_deadline(Duration::from_secs(2));
        let mut set = ProbeSet::new("test").with_options(options);
        set.add_grouped("cache", None, probe.spec().group, target.bind(probe, limits));
        set.run(cx).await.probes.remove(0)
    }

    /// Whether the result shows the plant.
    pub(crate) fn shows(&self, address: &str, result: &ProbeResult) -> bool {
        let object = match self.object {
            Object::Named(name) => name,
            Object::Address => address,
        };
        result
            .findings
            .iter()
            .any(|finding| finding.code == self.code && finding.object.as_deref() == Some(object))
    }
}
