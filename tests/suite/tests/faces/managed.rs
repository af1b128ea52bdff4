//! A service that manages PostgreSQL for its customers: no superuser, and much that is refused.

use std::io::Write;
use std::process::{Command, Stdio};

use ops_core::{Context, HealthReport, ProbeResult, Status};
use ops_pg::cluster::Cluster;
use ops_testkit::{MAJORS, Missing, Said, local_options, or_skip};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::local::Local;

/// What a provider does to a server before a customer gets it: an administrator that is none, and the server's files
/// and control data for nobody. The extension is there, as a provider's own hook would let the administrator make it.
const ARRANGED: &str = "
CREATE ROLE rds_superuser NOLOGIN;
GRANT pg_monitor, pg_signal_backend TO rds_superuser WITH ADMIN OPTION;
CREATE ROLE admin LOGIN CREATEROLE CREATEDB;
GRANT rds_superuser TO admin;
CREATE ROLE owner LOGIN;";

const REFUSED: &str = "
REVOKE ALL ON FUNCTION pg_ls_waldir(), pg_ls_archive_statusdir(), pg_ls_logdir(), pg_ls_tmpdir(),
  pg_stat_file(text), pg_read_file(text), pg_control_system(), pg_control_checkpoint(), pg_control_recovery(),
  pg_control_init() FROM PUBLIC, pg_monitor;
CREATE EXTENSION IF NOT EXISTS pg_stat_statements;
SET ROLE owner;
CREATE TABLE orders (id serial PRIMARY KEY, note text) WITH (autovacuum_enabled = off);
INSERT INTO orders (note) SELECT 'order ' || i FROM generate_series(1, 100) i;";

/// A server arranged so; the administrator's URL of database shop comes with it.
async fn arranged() -> Option<(Cluster, String)> {
    let mut found = None;
    for major in MAJORS {
        found = found.or(local_options(major).await.ok());
    }
    let options = or_skip(found.ok_or_else(|| Missing::new("PostgreSQL of any version on this machine")))?;
    let cluster = Cluster::start(&Context::new(), &options).await.unwrap();
    execute(&cluster.url("postgres"), ARRANGED).await;
    execute(&cluster.url("postgres"), "CREATE DATABASE shop OWNER admin").await;
    execute(&cluster.url("shop"), "GRANT CREATE ON SCHEMA public TO owner").await;
    execute(&cluster.url("shop"), REFUSED).await;
    let url = cluster.url_as("admin", "shop");
    Some((cluster, url))
}

async fn execute(url: &str, sql: &str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    connection.execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await.unwrap();
    connection.close().await.unwrap();
}

/// `ops check` with this configuration of the target, besides its URL.
fn check(url: &str, more: &str) -> HealthReport {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("ops.toml"), format!("[postgres.main]\nurl = \"{url}\"\n{more}\n"))
        .unwrap();
    let said = Said::by(Local::nothing().ops(&["check", "-o", "json"]).current_dir(&directory));
    serde_json::from_str(&said.stdout).unwrap_or_else(|_| panic!("{said:?}"))
}

fn probe<'a>(report: &'a HealthReport, name: &str) -> &'a ProbeResult {
    report.probes.iter().find(|probe| probe.probe == name).unwrap()
}

#[tokio::test]
async fn what_is_refused_is_unknown_with_a_step_that_is_possible() {
    let Some((cluster, url)) = arranged().await else { return };
    let report = check(&url, "");
    let unknown: Vec<_> = report.probes.iter().filter(|probe| probe.status == Status::Unknown).collect();
    for probe in &unknown {
        for unseen in &probe.unseen {
            let fix = unseen.fix.as_deref().unwrap_or("");
            let waits = unseen.what.contains("compare with");
            assert!(waits || !fix.is_empty(), "{} names no step: {unseen:?}", probe.probe);
            let impossible = ["ALTER SYSTEM", "GRANT pg_monitor", "CREATE SCHEMA", "pg_file_settings"];
            assert!(!impossible.iter().any(|step| fix.contains(step)), "{}: {fix}", probe.probe);
        }
    }
    for (name, status, word) in [
        ("pg.archiving", Status::Unknown, "Amazon RDS"),
        ("pg.wal_size", Status::Unknown, "pg_ls_waldir"),
        ("pg.uptime", Status::Unknown, "permission denied"),
        ("pg.table_bloat", Status::Unknown, "hidden"),
        ("pg.sequences", Status::Unknown, "hidden"),
    ] {
        let probe = probe(&report, name);
        assert_eq!(probe.status, status, "{probe:#?}");
        assert!(probe.summary.contains(word), "{probe:#?}");
    }
    let settings = probe(&report, "pg.settings");
    assert!(settings.unseen.is_empty(), "the files are the provider's: {settings:#?}");
    let said = serde_json::to_string(&report).unwrap();
    assert!(!said.contains("ALTER SYSTEM"), "nobody may do that there: {said}");
    let fsync = settings.findings.iter().find(|finding| finding.object.as_deref() == Some("fsync"));
    let remedy = fsync.and_then(|finding| finding.remedy.as_ref()).unwrap();
    assert!(
        remedy.advice.as_deref().unwrap().starts_with("set fsync = on in its DB parameter group"),
        "{remedy:?}"
    );

    // What the fixes say works there.
    execute(&cluster.url_as("owner", "shop"), "GRANT SELECT ON SEQUENCE public.orders_id_seq TO admin").await;
    execute(&cluster.url("shop"), "GRANT pg_read_all_data TO admin").await;
    let report = check(&url, "");
    for name in ["pg.sequences", "pg.table_bloat"] {
        assert_eq!(probe(&report, name).status, Status::Ok, "{:#?}", probe(&report, name));
    }
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn what_is_configured_counts_over_what_is_shown() {
    let Some((cluster, url)) = arranged().await else { return };
    let own = check(&url, "provider = \"self\"");
    assert_eq!(probe(&own, "pg.archiving").status, Status::NotApplicable);
    assert!(serde_json::to_string(&own).unwrap().contains("ALTER SYSTEM SET fsync"));
    let neon = check(&url, "provider = \"neon\"");
    assert_eq!(probe(&neon, "pg.wal_size").status, Status::NotApplicable);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn its_administrator_can_run_the_grants() {
    let Some((cluster, url)) = arranged().await else { return };
    let psql = cluster.bin_dir().join("psql");
    if or_skip(psql.exists().then_some(()).ok_or_else(|| Missing::new("psql"))).is_none() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let said = Said::by(
        Local::nothing().ops(&["grants", "--postgres", &url, "--role", "watcher"]).current_dir(&directory),
    );
    assert_eq!((said.code, &*said.stderr), (Some(0), ""));
    assert!(said.stdout.contains("-- left out, for Amazon RDS"), "{}", said.stdout);
    for _ in 0..2 {
        let mut child = Command::new(&psql)
            .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", &url])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(said.stdout.as_bytes()).unwrap();
        let done = child.wait_with_output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
    let report = check(&cluster.url_as("watcher", "shop"), "");
    for name in ["pg.connections", "pg.ssl", "pg.settings", "pg.long_transactions"] {
        let probe = probe(&report, name);
        assert_ne!(probe.status, Status::Unknown, "{probe:#?}");
    }
    cluster.stop().await.unwrap();
}
