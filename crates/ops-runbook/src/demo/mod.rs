//! A throwaway PostgreSQL and Redis with real faults in them, to see what a check finds.
//!
//! Both servers live in scratch directories, listen on sockets in there alone, and end with the process that
//! started them, however it ends.

mod plants;
mod shop;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use ops_cache::server::{Server, ServerOptions};
use ops_core::{Context, Error, ErrorKind, HealthReport, Result};
use ops_pg::cluster::{Cluster, ClusterOptions};

pub use plants::{Plant, Site, all as plants};

/// A start takes a few seconds; a slow machine needs several times that, and a longer one hangs.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Which faults to plant, and where to look for the servers' programs.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct DemoOptions {
    /// A `PATH` to search for the servers, besides the places where distributions put them.
    pub path: Option<OsString>,
    /// The directory with PostgreSQL's programs; searched for when left out.
    pub postgres_bin: Option<PathBuf>,
    /// The `redis-server` or `valkey-server` to run; searched for when left out.
    pub redis_program: Option<PathBuf>,
    /// Where to make the scratch directories; `/tmp` by default.
    pub parent: Option<PathBuf>,
    /// The names of plants to leave out.
    pub without: Vec<String>,
}

impl DemoOptions {
    /// Searches `path` for the servers' programs.
    #[must_use]
    pub fn with_path(mut self, path: impl Into<OsString>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// Uses PostgreSQL's programs in `bin`, and no others.
    #[must_use]
    pub fn with_postgres_bin(mut self, bin: impl Into<PathBuf>) -> Self {
        self.postgres_bin = Some(bin.into());
        self
    }

    /// Runs `program` as Redis, and no other.
    #[must_use]
    pub fn with_redis_program(mut self, program: impl Into<PathBuf>) -> Self {
        self.redis_program = Some(program.into());
        self
    }

    /// Makes the scratch directories inside `parent`.
    #[must_use]
    pub fn with_parent(mut self, parent: impl Into<PathBuf>) -> Self {
        self.parent = Some(parent.into());
        self
    }

    /// Leaves plants out.
    #[must_use]
    pub fn without(mut self, plants: impl IntoIterator<Item = String>) -> Self {
        self.without.extend(plants);
        self
    }
}

/// The running demo. Dropping it ends both servers and removes their files; [`stop`](Demo::stop) does so without
/// blocking the thread.
#[derive(Debug)]
pub struct Demo {
    // Fields drop in this order: the sessions that the faults hold open go before their servers.
    site: Site,
    planted: Vec<&'static dyn Plant>,
    postgres: Cluster,
    redis: Server,
}

impl Demo {
    /// Starts both servers, loads the shop, and plants the faults. Takes a few seconds, and at most 60.
    ///
    /// Cancelled, or out of time, it leaves nothing behind.
    ///
    /// # Errors
    /// `InvalidInput` for a plant that does not exist; else those of the servers and of the plants.
    pub async fn start(cx: &Context, options: &DemoOptions) -> Result<Self> {
        let planted = chosen(&options.without)?;
        let cx = &cx.with_deadline(READY_WITHIN);
        // As a server that somebody's data is on: a throwaway one would not sync, which is a fault of its own.
        let mut cluster =
            ClusterOptions::default().with_setting("fsync", "on").with_setting("full_page_writes", "on");
        let mut server = ServerOptions::default();
        if let Some(path) = &options.path {
            (cluster, server) = (cluster.with_path(path), server.with_path(path));
        }
        if let Some(bin) = &options.postgres_bin {
            cluster = cluster.with_bin_dir(bin);
        }
        if let Some(program) = &options.redis_program {
            server = server.with_program(program);
        }
        if let Some(parent) = &options.parent {
            (cluster, server) = (cluster.with_parent(parent), server.with_parent(parent));
        }
        cx.say("starting PostgreSQL and Redis");
        let (postgres, redis) = tokio::try_join!(Cluster::start(cx, &cluster), Server::start(cx, &server))?;
        let site = Site::new(postgres.url("postgres"), postgres.url(shop::DATABASE), redis.url());
        let mut demo = Self { site, planted, postgres, redis };
        cx.run("load the shop", shop::load(&demo.site)).await?;
        if !demo.site.has_statements().await? {
            demo.planted.retain(|plant| {
                let shows = !plant.needs_statements();
                if !shows {
                    cx.say(&format!("leaving out {}: this server has no pg_stat_statements", plant.name()));
                }
                shows
            });
        }
        for plant in &demo.planted {
            cx.say(&format!("planting {}", plant.name()));
            cx.run("plant a fault", plant.plant(&mut demo.site)).await?;
        }
        Ok(demo)
    }

    /// The `ops.toml` that describes it.
    pub fn config(&self) -> String {
        format!(
            "service = \"demo shop\"\n\n\
             [postgres.main]\nurl = {:?}\n# Whose rows are whose is told here: without it, a table is only unlike its neighbours.\n\
             rls = {{ schemas = [\"billing\"] }}\n\n\
             [redis.cache]\nurl = {:?}\n\n\
             # This Redis is a cache: a key without a TTL is a mistake.\n\
             [thresholds.\"redis.no_ttl\"]\nwithout_ttl = {{ warning = 10 }}\n\n\
             # A demo is small and young: kilobytes stand for gigabytes, and a minute for a week.\n\
             [thresholds.\"pg.table_bloat\"]\nwasted = \"1MiB\"\n\n\
             [thresholds.\"pg.index_unused\"]\nsize = \"512KiB\"\n\n\
             [thresholds.\"pg.xmin_horizon\"]\nage = 500\n\n\
             # Its server is the one that this machine has.\n\
             [thresholds.\"pg.version\"]\nminors_behind = 1000\n",
            self.postgres_url(),
            self.redis_url(),
        )
    }

    /// The shop's database, as its superuser.
    pub fn postgres_url(&self) -> &str {
        &self.site.shop_url
    }

    /// The cache.
    pub fn redis_url(&self) -> &str {
        &self.site.redis_url
    }

    /// PostgreSQL's version.
    pub fn postgres_version(&self) -> &str {
        self.postgres.version()
    }

    /// What the cache is, with its version: `Redis 7.0.15`.
    pub fn redis_version(&self) -> &str {
        self.redis.version()
    }

    /// The scratch directories.
    pub fn dirs(&self) -> [PathBuf; 2] {
        [self.postgres.dir().to_owned(), self.redis.dir().to_owned()]
    }

    /// The faults that were planted.
    pub fn planted(&self) -> &[&'static dyn Plant] {
        &self.planted
    }

    /// The planted faults that `report` does not show.
    pub fn missed(&self, report: &HealthReport) -> Vec<&'static dyn Plant> {
        let shows = |plant: &dyn Plant| {
            let (code, object) = plant.finding();
            let mut findings = report.probes.iter().flat_map(|probe| &probe.findings);
            findings.any(|finding| {
                finding.code == code && object.is_none_or(|object| finding.object.as_deref() == Some(object))
            })
        };
        self.planted.iter().copied().filter(|plant| !shows(*plant)).collect()
    }

    /// Ends the servers and removes their files.
    ///
    /// # Errors
    /// Those of the servers' own `stop`.
    pub async fn stop(self) -> Result<()> {
        let Self { site, postgres, redis, .. } = self;
        drop(site);
        let (postgres, redis) = tokio::join!(postgres.stop(), redis.stop());
        postgres.and(redis)
    }
}

fn chosen(without: &[String]) -> Result<Vec<&'static dyn Plant>> {
    let names: Vec<_> = plants().iter().map(|plant| plant.name()).collect();
    if let Some(unknown) = without.iter().find(|name| !names.contains(&name.as_str())) {
        return Err(Error::new(ErrorKind::InvalidInput, "leave a fault out")
            .because(format!("there is no fault {unknown:?}; there are: {}", names.join(", "))));
    }
    Ok(plants().iter().copied().filter(|plant| !without.iter().any(|name| name == plant.name())).collect())
}
