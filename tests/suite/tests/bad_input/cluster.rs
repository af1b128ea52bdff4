//! Clusters of a test's own, which it fills, freezes and kills.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ops_core::{Context, Secret, Status};
use ops_pg::cluster::{Cluster, ClusterOptions};
use ops_pg::{MetricConfig, PgConfig, SqlMetric};
use ops_testkit::{Authority, MAJORS, Missing, eventually, local_options, or_skip};
use serde_json::json;
use sqlx::{Connection, PgConnection};

use crate::check::{BOUND, Checked, DEADLINE, Expected, SENTINEL, pg, pg_target, run, set};

const SOON: Duration = Duration::from_secs(20);

async fn start(options: ClusterOptions) -> Cluster {
    let options = options.with_password(Secret::from(SENTINEL.to_owned()));
    let cluster = Cluster::start(&Context::new(), &options).await.unwrap();
    let mut admin = admin(&cluster).await;
    let sql = format!("CREATE ROLE watcher LOGIN PASSWORD '{SENTINEL}' IN ROLE pg_monitor");
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut admin).await.unwrap();
    cluster
}

/// A cluster of each major version whose binaries are here: a container would not let us at its processes.
async fn each(configure: impl Fn(ClusterOptions) -> ClusterOptions) -> Vec<Cluster> {
    let mut clusters = Vec::new();
    for major in MAJORS {
        if let Ok(options) = local_options(major).await {
            clusters.push(start(configure(options)).await);
        }
    }
    if clusters.is_empty() {
        or_skip::<()>(Err(Missing::new("PostgreSQL of any version on this machine")));
    }
    clusters
}

async fn admin(cluster: &Cluster) -> PgConnection {
    PgConnection::connect(&cluster.url("postgres")).await.unwrap()
}

fn url(cluster: &Cluster) -> String {
    format!("postgres://watcher:{SENTINEL}@{}/postgres", cluster.address().unwrap())
}

/// What the server runs for us.
async fn ours(admin: &mut PgConnection) -> Vec<i32> {
    let sql = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'ops:%'";
    sqlx::query_scalar(sql).fetch_all(admin).await.unwrap()
}

async fn nothing_of_ours(admin: &mut PgConnection) {
    eventually("no backend of ours is left", SOON, async || ours(admin).await.is_empty().then_some(())).await;
}

#[tokio::test]
async fn a_full_server_is_critical_and_not_unknown() {
    let few = |options: ClusterOptions| {
        options.with_setting("max_connections", "5").with_setting("superuser_reserved_connections", "1")
    };
    for cluster in each(few).await {
        let mut held = Vec::new();
        while let Ok(connection) = PgConnection::connect(&url(&cluster)).await {
            held.push(connection);
        }
        assert_eq!(held.len(), 4);
        let checked = pg(&url(&cluster)).await;
        let address = cluster.address().unwrap();
        checked.cannot_look("pg.reachable", &Expected::critical(address, &["53300"]));
        let connections = checked.of("pg.connections");
        assert_eq!(connections.status, Status::Critical, "{connections:#?}");
        assert_eq!(connections.findings[0].code, "pg.connections.exhausted");
        nothing_of_ours(&mut admin(&cluster).await).await;
    }
}

/// The processes of a server, its postmaster first.
fn family(cluster: &Cluster) -> Vec<Pid> {
    let postmaster = cluster.pid().unwrap();
    let children = std::fs::read_to_string(format!("/proc/{postmaster}/task/{postmaster}/children"));
    let children = children.unwrap();
    let pids = children.split_whitespace().map(|pid| pid.parse().unwrap());
    [postmaster].into_iter().chain(pids).map(|pid| Pid::from_raw(pid.cast_signed())).collect()
}

/// Processes that are stopped until this is dropped.
struct Stopped(Vec<Pid>);

impl Stopped {
    fn new(pids: Vec<Pid>) -> Self {
        pids.iter().for_each(|pid| kill(*pid, Signal::SIGSTOP).unwrap());
        Self(pids)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // Some may have ended.
        for pid in &self.0 {
            kill(*pid, Signal::SIGCONT).ok();
        }
    }
}

/// Every probe, behind a metric that takes its time; `then` is done once the server is at work on it.
async fn disturbed<T>(cluster: &Cluster, then: impl AsyncFnOnce(i32) -> T) -> (Checked, T) {
    let mut admin = admin(cluster).await;
    let target = pg_target(&url(cluster), PgConfig::default());
    let slow: MetricConfig = serde_json::from_value(json!({
        "name": "slow", "target": "main", "sql": "SELECT 1 AS value FROM pg_sleep(4)", "critical": 10.0,
    }))
    .unwrap();
    let mut all = set();
    all.add("main", SqlMetric::new(target.clone(), slow));
    target.add_all_to(&mut all);
    let disturbance = async {
        let asleep = "SELECT pid FROM pg_stat_activity
                       WHERE application_name LIKE 'ops:%' AND wait_event = 'PgSleep'";
        let backend = eventually("a backend at work", SOON, async || {
            sqlx::query_scalar::<_, i32>(asleep).fetch_optional(&mut admin).await.unwrap()
        })
        .await;
        admin.close().await.unwrap();
        then(backend).await
    };
    tokio::join!(run(all, &target), disturbance)
}

#[tokio::test]
async fn a_frozen_server_costs_its_deadline_once() {
    for cluster in each(|options| options).await {
        let address = cluster.address().unwrap();
        let mut watch = admin(&cluster).await;
        // Before anybody is let in.
        let stopped = Stopped::new(family(&cluster)[..1].to_vec());
        let checked = pg(&url(&cluster)).await;
        drop(stopped);
        checked.cannot_look("pg.reachable", &Expected::critical(address, &["no answer within"]));
        assert!(checked.took >= DEADLINE, "{:?}", checked.took);
        nothing_of_ours(&mut watch).await;

        // In the middle of a statement.
        let (checked, stopped) = disturbed(&cluster, async |_| Stopped::new(family(&cluster))).await;
        checked.cannot_look("pg.reachable", &Expected::critical(address, &["no answer within"]));
        drop(stopped);
        nothing_of_ours(&mut watch).await;
    }
}

#[tokio::test]
async fn a_server_that_is_killed_costs_what_was_left() {
    for cluster in each(|options| options).await {
        let address = cluster.address().unwrap();
        // One backend: the server throws everybody out, recovers, and comes back.
        let (checked, ()) = disturbed(&cluster, async |backend| {
            kill(Pid::from_raw(backend), Signal::SIGKILL).unwrap();
        })
        .await;
        checked.in_time().cannot_look("pg.reachable", &Expected::critical(address, &[]));
        let mut watch = eventually("the server is back", SOON, async || {
            PgConnection::connect(&cluster.url("postgres")).await.ok()
        })
        .await;
        nothing_of_ours(&mut watch).await;
        drop(watch);

        // All of it.
        let (checked, ()) = disturbed(&cluster, async |_| {
            for pid in family(&cluster) {
                // A child may have ended with its postmaster.
                kill(pid, Signal::SIGKILL).ok();
            }
        })
        .await;
        checked.in_time().cannot_look("pg.reachable", &Expected::critical(address, &[]));
    }
}

/// Debian's PostgreSQL: the wheel of 18 comes without OpenSSL.
#[tokio::test]
async fn a_certificate_that_is_out_of_order_says_so() {
    let authority = Authority::new();
    let Some(options) = or_skip(local_options(15).await) else { return };
    for (identity, words) in [(&authority.expired, "expired"), (&authority.elsewhere, "not valid for name")] {
        let options = options.clone().with_tls(&identity.certificate, Secret::from(identity.key.clone()));
        let cluster = start(options).await;
        let file = authority.file.path().display();
        let url = format!("{}?sslmode=verify-full&sslrootcert={file}", url(&cluster));
        let expected = Expected::unknown(cluster.address().unwrap(), &[words]);
        let checked = pg(&url).await;
        checked.cannot_look("pg.reachable", &expected);
        assert!(checked.took < BOUND);
        nothing_of_ours(&mut admin(&cluster).await).await;
    }
}
