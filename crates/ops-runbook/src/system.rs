//! Targets wired to their probes.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::join_all;
use globset::{Glob, GlobSet, GlobSetBuilder};
use ops_cache::RedisTarget;
use ops_core::{
    Context, Error, ErrorKind, HealthProbe, Limits, ProbeReport, ProbeSet, ProbeSetOptions, ProbeSpec,
    Result, Secret,
};
use ops_host::{HostTarget, HttpTarget, ReferenceClock};
use ops_pg::{Databases, MetricConfig, PgConfig, PgTarget, Scope, SinglePrimary, SqlMetric};

use crate::config::Config;

/// Everything that can be checked, before anything is chosen.
#[derive(Debug)]
pub struct System {
    service: String,
    entries: Vec<Entry>,
    /// Servers that have yet to say which databases they have.
    every_database: Vec<PgTarget>,
}

/// One probe on one target.
#[derive(Debug)]
struct Entry {
    target: String,
    database: Option<String>,
    group: &'static str,
    probe: Arc<dyn HealthProbe>,
}

/// Stands for the databases of a server that did not say which it has.
#[derive(Debug)]
struct Unlisted(Error);

#[async_trait]
impl HealthProbe for Unlisted {
    fn name(&self) -> &str {
        "pg.databases"
    }

    async fn probe(&self, _cx: &Context) -> Result<ProbeReport> {
        Err(self.0.clone())
    }
}

/// The clock of a server, for the machine beside it.
#[derive(Debug)]
struct ServerClock(PgTarget);

#[async_trait]
impl ReferenceClock for ServerClock {
    fn name(&self) -> &str {
        self.0.name()
    }

    async fn offset(&self, cx: &Context) -> Result<(f64, f64)> {
        self.0.clock_offset(cx).await
    }
}

/// What of a [`System`] to check.
#[derive(Debug)]
pub struct Selection {
    targets: Vec<String>,
    only: Option<GlobSet>,
}

impl Selection {
    /// These targets (all, where none is named), and probes whose name matches one of the globs (all, where none
    /// is given).
    ///
    /// # Errors
    /// `InvalidInput` for a glob that is none.
    pub fn new(targets: &[String], only: &[String]) -> Result<Self> {
        let mut globs = GlobSetBuilder::new();
        for pattern in only {
            globs.add(Glob::new(pattern).map_err(|error| {
                Error::new(ErrorKind::InvalidInput, "read the glob")
                    .on(pattern)
                    .because(error.kind().to_string())
            })?);
        }
        let globs = globs.build().map_err(|error| {
            Error::new(ErrorKind::InvalidInput, "read the globs").because(error.kind().to_string())
        })?;
        Ok(Self { targets: targets.to_vec(), only: (!only.is_empty()).then_some(globs) })
    }

    fn takes_target(&self, name: &str) -> bool {
        self.targets.is_empty() || self.targets.iter().any(|target| target == name)
    }

    fn takes(&self, entry: &Entry) -> bool {
        self.takes_target(&entry.target)
            && self.only.as_ref().is_none_or(|globs| globs.is_match(entry.probe.name()))
    }
}

impl System {
    /// What a configuration names.
    ///
    /// # Errors
    /// `InvalidInput` for a URL that is none.
    pub fn of_config(config: &Config) -> Result<Self> {
        let mut system =
            Self { service: config.service.clone(), entries: Vec::new(), every_database: Vec::new() };
        let mut clusters = BTreeMap::new();
        for (name, target) in &config.postgres {
            let mut postgres = PgTarget::connect_lazily(name, &target.url, target.config.clone())?;
            if let Some(console) = &target.pgbouncer {
                postgres = postgres.with_pgbouncer(console)?;
            }
            clusters.insert(name.as_str(), postgres);
        }
        for (name, postgres) in &clusters {
            let others = clusters.iter().filter(|(other, _)| *other != name).map(|(_, other)| other.clone());
            let postgres = postgres.with_others(others);
            system.add_postgres(&postgres, |spec| config.limits_for(spec));
            if matches!(postgres.config().databases, Databases::Every(_)) {
                system.every_database.push(postgres);
            }
        }
        if clusters.len() > 1 {
            let spec = &ops_pg::SINGLE_PRIMARY;
            let nodes = config.postgres.keys().filter_map(|name| clusters.get(name.as_str()).cloned());
            system.add("fleet", None, spec.group, SinglePrimary::new(nodes));
        }
        for (name, target) in &config.redis {
            let redis = RedisTarget::connect_lazily(name, &target.url, (&target.config).into())?;
            system.add_redis(&redis, |spec| config.limits_for(spec));
        }
        for (name, target) in &config.http {
            let http = HttpTarget::new(name, target.config.clone(), target.headers.clone())?;
            for probe in ops_host::http_registry() {
                let spec = probe.spec();
                system.add(name, None, spec.group, http.bind(*probe, config.limits_for(spec)));
            }
        }
        for (name, target) in &config.host {
            let clocks = config.postgres.keys().filter_map(|name| clusters.get(name.as_str()));
            let clocks =
                clocks.map(|cluster| Arc::new(ServerClock(cluster.clone())) as Arc<dyn ReferenceClock>);
            let host = HostTarget::new(name, target.clone()).with_clocks(clocks);
            for probe in ops_host::host_registry() {
                let spec = probe.spec();
                system.add(name, None, spec.group, host.bind(*probe, config.limits_for(spec)));
            }
        }
        system.add_metrics(&config.metrics, &clusters);
        Ok(system)
    }

    /// Asks each selected server of which "all" databases are to be checked what they are, and adds them. One that does not
    /// answer keeps the database that its URL names, and a line in the report for those that are not known.
    pub async fn discover(&mut self, cx: &Context, config: &Config, selection: &Selection) {
        let mut asked = std::mem::take(&mut self.every_database);
        asked.retain(|target| selection.takes_target(target.name()));
        let answers = join_all(asked.iter().map(|target| target.databases(cx)));
        for (target, answer) in asked.iter().zip(answers.await) {
            match answer {
                Ok(databases) => {
                    for database in &databases[1..] {
                        self.add_database(database, |spec| config.limits_for(spec));
                    }
                }
                Err(error) => self.add(target.name(), None, "availability", Unlisted(error)),
            }
        }
    }

    /// A PostgreSQL and a Redis given by their URLs alone, with the default thresholds.
    ///
    /// # Errors
    /// `InvalidInput` for a URL that is none.
    pub fn of_urls(postgres: Option<&Secret>, redis: Option<&Secret>) -> Result<Self> {
        let mut system = Self { service: "ops".to_owned(), entries: Vec::new(), every_database: Vec::new() };
        if let Some(url) = postgres {
            let target = PgTarget::connect_lazily("postgres", url, PgConfig::default())?;
            system.add_postgres(&target, Limits::defaults);
        }
        if let Some(url) = redis {
            let target = RedisTarget::connect_lazily("redis", url, ops_cache::RedisOptions::default())?;
            system.add_redis(&target, Limits::defaults);
        }
        Ok(system)
    }

    /// Whether it names nothing to check.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The probes that `selection` takes, as one set.
    ///
    /// # Errors
    /// `InvalidInput` when it names a target that does not exist, or takes nothing.
    pub fn probes(&self, selection: &Selection, options: ProbeSetOptions) -> Result<ProbeSet> {
        let invalid = |why: String| Error::new(ErrorKind::InvalidInput, "choose what to check").because(why);
        for target in &selection.targets {
            if !self.entries.iter().any(|entry| entry.target == *target) {
                let known = self.target_names().join(", ");
                return Err(invalid(format!("there is no target {target:?}; there are: {known}")));
            }
        }
        let mut probes = ProbeSet::new(&self.service).with_options(options);
        for entry in self.entries.iter().filter(|entry| selection.takes(entry)) {
            probes.add_grouped(&entry.target, entry.database.clone(), entry.group, entry.probe.clone());
        }
        if probes.is_empty() {
            return Err(invalid("no probe matches --only".to_owned()).with_fix("ops explain"));
        }
        Ok(probes)
    }

    fn target_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.entries.iter().map(|entry| entry.target.as_str()).collect();
        names.dedup();
        names
    }

    /// Cluster probes once, by way of the first database; the others in every database named.
    fn add_postgres(&mut self, target: &PgTarget, limits: impl Fn(&'static ProbeSpec) -> Limits) {
        for probe in ops_pg::registry() {
            let spec = probe.spec();
            let database = match probe.scope() {
                Scope::Cluster => None,
                Scope::Database => target.database(),
            };
            self.add(target.name(), database, spec.group, target.bind(*probe, limits(spec)));
        }
        for name in target.config().databases.named().iter().skip(1) {
            self.add_database(&target.for_database(name), &limits);
        }
    }

    /// The probes that look into a database, for one more of a server's.
    fn add_database(&mut self, target: &PgTarget, limits: impl Fn(&'static ProbeSpec) -> Limits) {
        for probe in ops_pg::registry().iter().filter(|probe| probe.scope() == Scope::Database) {
            let spec = probe.spec();
            self.add(target.name(), target.database(), spec.group, target.bind(*probe, limits(spec)));
        }
    }

    fn add_redis(&mut self, target: &RedisTarget, limits: impl Fn(&'static ProbeSpec) -> Limits) {
        for probe in ops_cache::registry() {
            let spec = probe.spec();
            self.add(target.name(), None, spec.group, target.bind(*probe, limits(spec)));
        }
    }

    fn add_metrics(&mut self, metrics: &[MetricConfig], clusters: &BTreeMap<&str, PgTarget>) {
        for metric in metrics {
            let Some(cluster) = clusters.get(metric.target.as_str()) else { continue };
            let target =
                metric.database.as_ref().map_or_else(|| cluster.clone(), |name| cluster.for_database(name));
            let database = target.database();
            self.add(&metric.target, database, "metrics", SqlMetric::new(target, metric.clone()));
        }
    }

    fn add(
        &mut self,
        target: &str,
        database: Option<String>,
        group: &'static str,
        probe: impl HealthProbe + 'static,
    ) {
        let entry = Entry { target: target.to_owned(), database, group, probe: Arc::new(probe) };
        // Beside what there is of the same target already: the report follows this order.
        let behind = self.entries.iter().rposition(|other| other.target == entry.target);
        self.entries.insert(behind.map_or(self.entries.len(), |at| at + 1), entry);
    }
}
