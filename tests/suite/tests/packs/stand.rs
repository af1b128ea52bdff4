//! Where a pack runs: a PostgreSQL of the test process, a Redis, an API, and the files of a host.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use chrono::Utc;
use ops_core::{Context, HealthReport, ProbeResult, Severity, Status};
use ops_pg::cluster::{Cluster, ClusterOptions};
use ops_testkit::{Missing, RedisServer, Said, local_redis_options, or_skip, program};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tokio::sync::{Mutex, OnceCell};

use super::api::{Api, TOKEN};
use super::fault::{Fault, Injected};
use super::readme;
use crate::local::{self, Local};

/// As a production server has them where the kit's differ; few enough sessions to use up, and no autovacuum between
/// a fault and its check.
const SETTINGS: [(&str, &str); 7] = [
    ("fsync", "on"),
    ("full_page_writes", "on"),
    ("synchronous_commit", "on"),
    ("shared_preload_libraries", "pg_stat_statements"),
    ("max_connections", "60"),
    ("track_commit_timestamp", "on"),
    ("autovacuum_naptime", "1h"),
];

/// What is the machine's that the tests run on: which release of PostgreSQL it has.
const OF_THIS_MACHINE: [&str; 1] = ["pg.version"];

/// What a pack is made of.
pub(crate) struct Pack {
    pub(crate) name: &'static str,
    /// The targets that this test has; others are the production machine's.
    pub(crate) targets: &'static [&'static str],
    /// The commands that fill its Redis, where it has one.
    pub(crate) redis: Option<&'static [&'static str]>,
    /// What its API answers under each path.
    pub(crate) api: &'static [(&'static str, &'static str)],
    pub(crate) logs: &'static [&'static str],
    pub(crate) jobs: &'static [&'static str],
    pub(crate) faults: fn() -> Vec<Fault>,
}

impl Pack {
    pub(crate) fn dir(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/packs").join(self.name)
    }

    /// Healthy first, then each fault alone.
    pub(crate) async fn prove(&self) {
        readme::agrees(self);
        // Sessions and statements are the whole cluster's: another pack's fault is none of this one's.
        static TURN: Mutex<()> = Mutex::const_new(());
        let _turn = TURN.lock().await;
        let Some(stand) = Stand::of(self).await else { return };
        let calm = stand.check(&[]).await;
        let wrong = alarms(&calm);
        assert!(wrong.is_empty(), "{} is healthy, and its check says: {wrong:#?}", self.name);
        assert_eq!(unknown(&calm), Vec::<&ProbeResult>::new(), "{}", self.name);
        let mut missed = Vec::new();
        for fault in (self.faults)() {
            let report = stand.check(&fault.injected).await;
            let found = alarms_of(&report);
            let worst =
                report.probes.iter().map(|probe| probe.status).find(|status| *status == Status::Critical);
            if found != fault.expected || worst.unwrap_or(Status::Warning) != fault.status {
                let all: Vec<_> = alarms(&report).into_iter().flat_map(|probe| &probe.findings).collect();
                let said: Vec<_> = all.iter().map(|finding| finding.message.as_str()).collect();
                missed.push(format!("{}: {worst:?} with {found:?}: {said:#?}", fault.name));
            }
        }
        assert!(missed.is_empty(), "{}:\n{}", self.name, missed.join("\n"));
    }
}

fn alarms(report: &HealthReport) -> Vec<&ProbeResult> {
    report.probes.iter().filter(|probe| matches!(probe.status, Status::Warning | Status::Critical)).collect()
}

fn unknown(report: &HealthReport) -> Vec<&ProbeResult> {
    report.probes.iter().filter(|probe| probe.status == Status::Unknown).collect()
}

/// Each probe that alarms with each code that it alarms by, once.
fn alarms_of(report: &HealthReport) -> Vec<(&str, &str)> {
    let findings = report
        .probes
        .iter()
        .flat_map(|probe| probe.findings.iter().map(move |finding| (probe.probe.as_str(), finding)));
    let mut found: Vec<_> = findings
        .filter(|(_, finding)| finding.severity != Severity::Info)
        .map(|(probe, finding)| (probe, finding.code.as_ref()))
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// The cluster of this process; its reaper ends it with the process.
async fn cluster(options: &ClusterOptions) -> &'static Cluster {
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    CLUSTER.get_or_init(async || Cluster::start(&Context::new(), options).await.unwrap()).await
}

struct Stand<'p> {
    pack: &'p Pack,
    local: Local,
    cluster: &'static Cluster,
    redis: Option<RedisServer>,
    api: Api,
    /// Of the template that every check's database is a copy of.
    template: String,
}

impl<'p> Stand<'p> {
    async fn of(pack: &'p Pack) -> Option<Self> {
        let local = local::complete().await?;
        let psql = local.postgres_program("psql");
        or_skip(psql.exists().then_some(()).ok_or_else(|| Missing::new("psql")))?;
        let bin = psql.parent().unwrap().to_owned();
        let options = ClusterOptions::default().with_parent(std::env::temp_dir()).with_bin_dir(bin);
        let options = options.with_data_checksums();
        let options =
            SETTINGS.iter().fold(options, |options, (name, value)| options.with_setting(*name, *value));
        let redis = match pack.redis {
            Some(_) => {
                let options = local_redis_options()
                    .with_setting("maxmemory", "16mb")
                    .with_setting("maxmemory-policy", "volatile-lru");
                Some(or_skip(RedisServer::start(options).await)?)
            }
            None => None,
        };
        let api = Api::start(pack.api).await;
        let template = format!("{}_template", pack.name.replace('-', "_"));
        let stand = Self { pack, local, cluster: cluster(&options).await, redis, api, template };
        stand.load().await;
        Some(stand)
    }

    /// The role and its rights by `ops grants`, then the pack's own files.
    async fn load(&self) {
        self.administer(&format!("CREATE DATABASE {}", self.template)).await;
        let files = tempfile::tempdir().unwrap();
        let said = Said::by(&mut self.ops(&["grants", "main"], &self.template, files.path()));
        assert_eq!(said.code, Some(0), "{said:?}");
        let grants = files.path().join("grants.sql");
        std::fs::write(&grants, said.stdout).unwrap();
        for file in [grants, self.pack.dir().join("schema.sql"), self.pack.dir().join("seed.sql")] {
            let started = std::time::Instant::now();
            let mut psql = Command::new(self.local.postgres_program("psql"));
            psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f"]).arg(&file);
            let said = Said::by(psql.env("PGOPTIONS", "-c client_min_messages=warning").arg(self.url()));
            assert_eq!((said.code, &*said.stderr), (Some(0), ""), "{}", file.display());
            assert!(started.elapsed() < Duration::from_secs(5), "{} takes too long", file.display());
        }
    }

    fn url(&self) -> String {
        self.cluster.url(&self.template)
    }

    async fn administer(&self, sql: &str) {
        execute(&self.cluster.url("postgres"), sql).await;
    }

    /// `ops` with the pack's configuration and what that wants from its environment.
    fn ops(&self, arguments: &[&str], database: &str, files: &Path) -> Command {
        let config = self.pack.dir().join("ops.toml");
        let mut ops = Command::new(program("ops"));
        ops.env_clear().arg("--config").arg(config).args(arguments);
        ops.env("DATABASE_URL", self.cluster.url_as("ops_monitor", database))
            .env("API_URL", self.api.url())
            .env("API_TOKEN", TOKEN)
            .env("XDG_STATE_HOME", files.join("state"))
            .env("LOG_DIR", files.join("logs"))
            .env("JOBS_DIR", files.join("jobs"));
        if let Some(redis) = &self.redis {
            ops.env("REDIS_URL", redis.url());
        }
        ops
    }

    /// What `ops check` says of a copy of the system to which these things are done.
    async fn check(&self, injected: &[Injected]) -> HealthReport {
        let database = format!("{}_copy", self.template);
        self.administer(&format!("CREATE DATABASE {database} TEMPLATE {}", self.template)).await;
        // A copy has the rows, and none of the counters.
        execute(&self.cluster.url(&database), "ANALYZE").await;
        let files = tempfile::tempdir().unwrap();
        self.calm(files.path()).await;
        let mut held = Vec::new();
        let mut busy = Vec::new();
        for injected in injected {
            match *injected {
                Injected::Sql(sql) => execute(&self.cluster.url(&database), sql).await,
                Injected::SqlAllTheWhile(sql) => {
                    let mut session = PgConnection::connect(&self.cluster.url(&database)).await.unwrap();
                    busy.push(tokio::spawn(async move {
                        loop {
                            session.execute(sql).await.unwrap();
                        }
                    }));
                }
                Injected::Sessions(count) => {
                    for _ in 0..count {
                        held.push(PgConnection::connect(&self.cluster.url(&database)).await.unwrap());
                    }
                }
                Injected::Redis(command) => self.redis(command).await,
                Injected::RedisAllTheWhile(command) => busy.push(self.all_the_while(command).await),
                Injected::Answer { path, status, body } => self.api.set(path, status, body),
                Injected::Line { log, text, times } => {
                    let line = format!("{} {text}\n", Utc::now().format("%Y-%m-%d %H:%M:%S UTC"));
                    std::fs::write(files.path().join("logs").join(log), line.repeat(times)).unwrap();
                }
                Injected::Beat { job, hours_ago } => beat(files.path(), job, hours_ago),
            }
        }
        let mut arguments = vec!["check", "-o", "json"];
        for only in ["pg.*", "redis.*", "http.*", "ws.*", "metric.*", "host.log", "job.heartbeat"] {
            arguments.extend(["--only", only]);
        }
        arguments.extend(self.pack.targets);
        let mut ops = self.ops(&arguments, &database, files.path());
        let said = tokio::task::spawn_blocking(move || Said::by(&mut ops)).await.unwrap();
        busy.iter().for_each(tokio::task::JoinHandle::abort);
        for session in held {
            session.close().await.unwrap();
        }
        self.administer(&format!("DROP DATABASE {database} WITH (FORCE)")).await;
        let parsed = serde_json::from_str(&said.stdout);
        let mut report: HealthReport = parsed.unwrap_or_else(|error| panic!("{error}: {said:?}"));
        report.probes.retain(|probe| !OF_THIS_MACHINE.contains(&probe.probe.as_str()));
        report
    }

    /// The system when nothing is wrong.
    async fn calm(&self, files: &Path) {
        self.api.recover();
        if let Some(commands) = self.pack.redis {
            self.redis("FLUSHALL").await;
            for command in commands {
                self.redis(command).await;
            }
        }
        for log in self.pack.logs {
            let path = files.join("logs").join(log);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let now = Utc::now().format("%Y-%m-%d %H:%M:%S UTC");
            std::fs::write(path, format!("{now} INFO started\n")).unwrap();
        }
        std::fs::create_dir_all(files.join("jobs")).unwrap();
        for job in self.pack.jobs {
            beat(files, job, Some(1));
        }
    }

    async fn redis(&self, command: &str) {
        let server = self.redis.as_ref().expect("a pack with a Redis");
        run(&mut server.connect().await.unwrap(), command).await;
    }

    async fn all_the_while(&self, command: &'static str) -> tokio::task::JoinHandle<()> {
        let server = self.redis.as_ref().expect("a pack with a Redis");
        let mut connection = server.connect().await.unwrap();
        tokio::spawn(async move {
            loop {
                run(&mut connection, command).await;
            }
        })
    }
}

async fn run(connection: &mut redis::aio::MultiplexedConnection, command: &str) {
    let mut words = command.split_whitespace();
    let mut sent = redis::cmd(words.next().unwrap());
    words.for_each(|word| {
        sent.arg(word);
    });
    let _: redis::Value =
        sent.query_async(connection).await.unwrap_or_else(|error| panic!("{error}: {command}"));
}

fn beat(files: &Path, job: &str, hours_ago: Option<u64>) {
    let path = files.join("jobs").join(job);
    match hours_ago {
        Some(hours) => {
            std::fs::write(path, (Utc::now() - Duration::from_secs(3600 * hours)).to_rfc3339()).unwrap();
        }
        None => std::fs::remove_file(path).unwrap(),
    }
}

async fn execute(url: &str, sql: &str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let done = connection.execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await;
    done.unwrap_or_else(|error| panic!("{error}, in: {sql}"));
    connection.close().await.unwrap();
}
