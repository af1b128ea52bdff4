//! What only several servers of one cluster know together.

use std::time::Duration;

use ops_core::{Context, HealthReport, ProbeResult, Status};
use ops_pg::cluster::Cluster;
use ops_testkit::{MAJORS, Missing, Said, eventually, local_options, or_skip};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::local::Local;

const TABLE: &str = "
CREATE TABLE t (a int, b int);
INSERT INTO t SELECT i, i FROM generate_series(1, 1000) i;
CREATE INDEX used_there ON t (a); CREATE INDEX used_nowhere ON t (b);";

/// Every index that was not used alarms at once.
const CONFIG: &str = "
[thresholds.\"pg.index_unused\"]
unused_for = { warning = \"0s\" }
size = { warning = \"0B\" }
";

/// What is said of the primary's indexes where these are the servers, by name and URL.
fn check(nodes: &[(&str, &str)]) -> ProbeResult {
    let directory = tempfile::tempdir().unwrap();
    let targets: String =
        nodes.iter().map(|(name, url)| format!("[postgres.{name}]\nurl = \"{url}\"\n")).collect();
    std::fs::write(directory.path().join("ops.toml"), targets + CONFIG).unwrap();
    let arguments = ["check", "primary", "-o", "json", "--only", "pg.index_unused"];
    let said = Said::by(Local::nothing().ops(&arguments).current_dir(&directory));
    let mut report: HealthReport = serde_json::from_str(&said.stdout).unwrap_or_else(|_| panic!("{said:?}"));
    report.probes.remove(0)
}

fn warned(result: &ProbeResult) -> Vec<&str> {
    let warnings = result.findings.iter().filter(|finding| finding.severity.status() == Status::Warning);
    let mut objects: Vec<_> = warnings.filter_map(|finding| finding.object.as_deref()).collect();
    objects.sort_unstable();
    objects
}

#[tokio::test]
async fn an_index_that_only_a_standby_uses_is_used() {
    let mut found = None;
    for major in MAJORS {
        found = found.or(local_options(major).await.ok());
    }
    let found = found.ok_or_else(|| Missing::new("PostgreSQL of any version on this machine"));
    let Some(options) = or_skip(found) else { return };
    let cx = Context::new();
    let primary = Cluster::start(&cx, &options).await.unwrap();
    let mut writer = PgConnection::connect(&primary.url("postgres")).await.unwrap();
    writer.execute(sqlx::raw_sql(AssertSqlSafe(TABLE))).await.unwrap();
    writer.close().await.unwrap();
    let standby = Cluster::start_standby(&cx, &primary, &options).await.unwrap();
    let (here, there) = (primary.url("postgres"), standby.url("postgres"));
    let both = [("primary", &*here), ("standby", &*there)];

    let before = check(&both);
    assert_eq!(warned(&before), ["public.used_nowhere", "public.used_there"], "{before:#?}");
    assert!(before.findings[0].message.contains("also on standby"), "{before:#?}");

    let read = "SET enable_seqscan = off; SELECT * FROM t WHERE a = 1";
    let after = eventually("the standby's scan to be counted", Duration::from_secs(20), async || {
        let mut reader = PgConnection::connect(&there).await.unwrap();
        reader.execute(sqlx::raw_sql(read)).await.unwrap();
        reader.close().await.unwrap();
        Some(check(&both)).filter(|result| result.findings.len() == 1)
    })
    .await;
    assert_eq!(warned(&after), ["public.used_nowhere"], "{after:#?}");
    assert!(after.unseen.is_empty(), "{after:#?}");

    // One that is attached and not configured, and one that is configured and silent.
    let alone = check(&[("primary", &*here)]);
    assert_eq!((alone.status, warned(&alone).len()), (Status::Ok, 0), "{alone:#?}");
    let dark = check(&[both[0], both[1], ("silent", "postgres://127.0.0.1:1/postgres")]);
    assert_eq!((dark.status, warned(&dark).len()), (Status::Unknown, 0), "{dark:#?}");
    assert!(dark.unseen[0].what.contains("silent"), "{dark:#?}");
    // Another cluster has nothing to do with it.
    let other = Cluster::start(&cx, &options).await.unwrap();
    let apart = check(&[both[0], both[1], ("other", &*other.url("postgres"))]);
    assert_eq!(warned(&apart), ["public.used_nowhere"], "{apart:#?}");

    other.stop().await.unwrap();
    standby.stop().await.unwrap();
    primary.stop().await.unwrap();
}
