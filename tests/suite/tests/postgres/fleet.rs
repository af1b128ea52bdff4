//! Of the servers that are copies of one another, exactly one takes writes.

use ops_core::{Context, HealthProbe, ProbeReport, Secret, Status};
use ops_pg::cluster::{Cluster, ClusterOptions};
use ops_pg::{PgConfig, PgTarget, SinglePrimary};
use ops_testkit::{MAJORS, Missing, eventually, local_options, or_skip};
use sqlx::{Connection, PgConnection};

fn target(name: &str, url: &str) -> PgTarget {
    PgTarget::connect_lazily(name, &Secret::from(url.to_owned()), PgConfig::default()).unwrap()
}

async fn look(nodes: &[(&str, String)]) -> ProbeReport {
    let nodes = nodes.iter().map(|(name, url)| target(name, url));
    SinglePrimary::new(nodes).probe(&Context::new()).await.unwrap()
}

/// Any version whose binaries are here.
async fn options() -> Option<ClusterOptions> {
    for major in MAJORS {
        if let Ok(options) = local_options(major).await {
            return Some(options);
        }
    }
    or_skip(Err(Missing::new("PostgreSQL of any version on this machine")))
}

#[tokio::test]
async fn a_promoted_standby_beside_its_primary_is_told() {
    let Some(options) = options().await else { return };
    let cx = Context::new();
    let primary = Cluster::start(&cx, &options).await.unwrap();
    let standby = Cluster::start_standby(&cx, &primary, &options).await.unwrap();
    let url = |cluster: &Cluster| cluster.url("postgres");

    let alone = look(&[("a", url(&primary)), ("a-again", url(&primary))]).await;
    assert_eq!(alone.status(), Status::NotApplicable, "two names for one server: {alone:#?}");

    let nodes = [("a", url(&primary)), ("b", url(&standby)), ("a-again", url(&primary))];
    let pair = look(&nodes).await;
    assert_eq!(pair.status(), Status::Ok, "{pair:#?}");

    let dark = look(&[("b", url(&standby)), ("c", "postgres://127.0.0.1:1/postgres".to_owned())]).await;
    assert_eq!(dark.status(), Status::Unknown, "the silent one may be the primary: {dark:#?}");

    let mut promoted = PgConnection::connect(&url(&standby)).await.unwrap();
    sqlx::query("SELECT pg_promote()").execute(&mut promoted).await.unwrap();
    let two = eventually("two primaries", std::time::Duration::from_secs(20), async || {
        Some(look(&nodes).await).filter(|report| report.status() != Status::Ok)
    })
    .await;
    assert_eq!(two.status(), Status::Critical, "{two:#?}");
    promoted.close().await.unwrap();
}

#[tokio::test]
async fn standbys_alone_are_not_without_a_primary() {
    let Some(options) = options().await else { return };
    let cx = Context::new();
    let primary = Cluster::start(&cx, &options).await.unwrap();
    let mut standbys = Vec::new();
    for _ in 0..2 {
        standbys.push(Cluster::start_standby(&cx, &primary, &options).await.unwrap());
    }
    let nodes = [("b", standbys[0].url("postgres")), ("c", standbys[1].url("postgres"))];
    let apart = eventually("both stream", std::time::Duration::from_secs(20), async || {
        Some(look(&nodes).await).filter(|report| report.status() == Status::Unknown)
    })
    .await;
    assert!(apart.found().is_empty(), "{apart:#?}");

    primary.stop().await.unwrap();
    let none = eventually("none streams", std::time::Duration::from_secs(20), async || {
        Some(look(&nodes).await).filter(|report| report.status() == Status::Critical)
    })
    .await;
    assert_eq!(none.found()[0].code, "fleet.single_primary.none");
    let advice = none.found()[0].remedy.as_ref().unwrap().advice.as_deref().unwrap();
    assert!(advice.starts_with("first make sure that the old primary is down"), "{advice}");
}
