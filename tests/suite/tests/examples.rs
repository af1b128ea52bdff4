//! The examples do what they say: a health endpoint in a service, and a probe from outside.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ops_core::{HealthReport, Status};
use ops_testkit::{Behaviour, MAJORS, Proxy, RedisServer, Role, Said, TestDb, eventually, program};
use reqwest::StatusCode;

/// A database on whichever version is here.
async fn any_db() -> Option<TestDb> {
    for major in MAJORS {
        if let Some(db) = TestDb::on(major).await {
            return Some(db);
        }
    }
    None
}

/// A running example, killed at the end of the test.
struct Service {
    child: Child,
    url: String,
}

impl Service {
    fn start(postgres: &str, redis: &str) -> Self {
        Self::run("health-axum", postgres, redis)
    }

    fn run(name: &str, postgres: &str, redis: &str) -> Self {
        let mut command = Command::new(program(name));
        command
            .env_clear()
            .env("DATABASE_URL", postgres)
            .env("REDIS_URL", redis)
            .env("LISTEN", "127.0.0.1:0");
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ").expect("an address").to_owned();
        Self { child, url }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

struct Answer {
    status: StatusCode,
    kind: String,
    text: String,
}

impl Answer {
    fn report(&self) -> HealthReport {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}

async fn get(url: String) -> Answer {
    let response = reqwest::Client::builder().no_proxy().build().unwrap().get(url).send().await.unwrap();
    let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
    Answer { status: response.status(), kind, text: response.text().await.unwrap() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_health_endpoint() {
    let (Some(db), Some(redis)) = (any_db().await, RedisServer::fresh().await) else { return };
    let proxy = Proxy::to(db.server().address()).await.unwrap();
    let service = Service::start(&db.url_at(proxy.address(), Role::Superuser), redis.url());
    let ready = || get(format!("{}/readyz", service.url));
    let gateway = get(format!("{}/health", service.url)).await;
    let document: serde_json::Value = serde_json::from_str(&gateway.text).unwrap();
    // The suite's servers do not sync, which is critical, and keeps nobody from being served.
    assert_eq!((gateway.status, &document["status"]), (StatusCode::SERVICE_UNAVAILABLE, &"fail".into()));
    assert_eq!((&*gateway.kind, &document["serviceId"]), ("application/health+json", &"shop".into()));
    assert_eq!(document["checks"]["pg.reachable:connect_time"][0]["status"], "pass", "{document:#}");
    let first = get(format!("{}/report", service.url)).await;
    let report = first.report();
    assert_eq!((first.status, &*first.kind), (gateway.status, "application/json"), "{}", first.text);
    assert_eq!((&*report.schema, &*report.service), ("ops.health/1", "shop"));
    for (target, probe) in [("main", "pg.reachable"), ("cache", "redis.reachable")] {
        let found = report.probes.iter().find(|result| result.target == target && result.probe == probe);
        assert_eq!(found.unwrap().status, Status::Ok, "{probe}");
    }
    let live = get(format!("{}/livez", service.url)).await;
    assert_eq!((live.status, &*live.text), (StatusCode::OK, "ok\n"));
    let served = ready().await;
    assert_eq!(served.status, StatusCode::OK);
    assert!(served.text.ends_with("readyz check passed\n"), "{}", served.text);

    // Postgres goes away: no new connection, and none of the old ones. What was seen is believed for a while.
    proxy.set(Behaviour::Refuse).await;
    let down = eventually("the endpoint notices", Duration::from_secs(30), async || {
        Some(ready().await).filter(|answer| answer.status != StatusCode::OK)
    })
    .await;
    assert_eq!(down.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(down.text.contains("[-]pg.reachable main failed"), "{}", down.text);
    let report = get(format!("{}/report", service.url)).await.report();
    assert_eq!((report.status, report.score), (Status::Critical, Some(0)));
    let live = get(format!("{}/livez", service.url)).await;
    assert_eq!((live.status, &*live.text), (StatusCode::OK, "ok\n"));

    proxy.set(Behaviour::Pass).await;
    eventually("it comes back", Duration::from_secs(30), async || {
        (ready().await.status == StatusCode::OK).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_without_a_framework() {
    let Some(db) = any_db().await else { return };
    let proxy = Proxy::to(db.server().address()).await.unwrap();
    let service = Service::run("health-plain", &db.url_at(proxy.address(), Role::Superuser), "");
    let asked = async |path: &str| get(format!("{}{path}", service.url)).await;
    let live = asked("/livez").await;
    assert_eq!(
        (live.status, &*live.kind, &*live.text),
        (StatusCode::OK, "text/plain; charset=utf-8", "ok\n")
    );
    let ready = asked("/readyz").await;
    assert_eq!(
        (ready.status, &*ready.text),
        (StatusCode::OK, "[+]pg.reachable main ok\nreadyz check passed\n")
    );
    let report = asked("/report").await.report();
    let pool = report.probes.iter().find(|result| result.probe == "pg.pool").unwrap();
    assert_eq!(pool.status, Status::Ok, "{pool:#?}");
    assert_eq!(asked("/health").await.kind, "application/health+json");
    let url = format!("{}/elsewhere", service.url);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    assert_eq!(client.get(url).send().await.unwrap().status(), StatusCode::NOT_FOUND);

    proxy.set(Behaviour::Refuse).await;
    eventually("the endpoint notices", Duration::from_secs(30), async || {
        (asked("/readyz").await.status == StatusCode::SERVICE_UNAVAILABLE).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stampede_costs_one_run() {
    let (Some(db), Some(redis)) = (any_db().await, RedisServer::fresh().await) else { return };
    let service = Service::start(&db.tcp_url(), redis.url());
    let requests: Vec<_> = (0..100).map(|_| tokio::spawn(get(format!("{}/report", service.url)))).collect();
    let mut runs = BTreeSet::new();
    for request in requests {
        runs.insert(request.await.unwrap().report().at);
    }
    assert_eq!(runs.len(), 1, "{runs:?}");
}

#[tokio::test]
async fn a_probe_from_outside() {
    let Some(db) = any_db().await else { return };
    let spool = tempfile::tempdir().unwrap();
    for n in 0..5 {
        std::fs::write(spool.path().join(n.to_string()), "").unwrap();
    }
    let run = |spool: &std::path::Path| {
        let mut command = Command::new(program("custom-probe"));
        let said = Said::by(command.env_clear().env("DATABASE_URL", db.url()).env("SPOOL", spool));
        assert_eq!((said.code, &*said.stderr), (Some(0), ""), "{said:?}");
        serde_json::from_str::<HealthReport>(&said.stdout).unwrap()
    };

    let report = run(spool.path());
    let probe = |name: &str| report.probes.iter().find(|result| result.probe == name).unwrap();
    assert_eq!(probe("app.spool").status, Status::Warning);
    assert_eq!(probe("app.spool").findings[0].code, "app.spool.backlog");
    assert_eq!(probe("pg.reachable").status, Status::Ok);

    let unreadable = run("/nowhere".as_ref());
    let spool = unreadable.probes.iter().find(|result| result.probe == "app.spool").unwrap();
    assert_eq!(spool.status, Status::Unknown, "what was not seen is not ok");
}

#[test]
fn a_probe_takes_less_than_forty_lines() {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/custom_probe.rs");
    let lines = std::fs::read_to_string(source).unwrap().lines().count();
    assert!(lines < 40, "{lines}");
}
