//! Health over HTTP, for any framework: what to answer, and with which status.
//!
//! ```
//! use ops_core::endpoint::Endpoint;
//! use ops_core::ProbeSet;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let endpoint = Endpoint::new(ProbeSet::new("shop"));
//! let answer = endpoint.ready().await;
//! assert_eq!((answer.status, answer.content_type), (200, "text/plain; charset=utf-8"));
//! # });
//! ```

use std::sync::{Arc, Mutex, PoisonError};

use crate::context::Context;
use crate::error::ErrorKind;
use crate::health::HealthReport;
use crate::probe_set::ProbeSet;
use crate::render;
use crate::score::REACHABLE;
use crate::status::Status;

/// The group of a service's own probes that its readiness depends on.
pub const READINESS: &str = "readiness";

/// What to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The value of `Content-Type`.
    pub content_type: &'static str,
    /// The body; shared with the other requests that get the same.
    pub body: Arc<str>,
}

/// A [`ProbeSet`] as the answers of a service. Requests that come while an answer is fresh
/// ([`ProbeSetOptions::cache_for`](crate::ProbeSetOptions)) share it, its text included.
#[derive(Debug)]
pub struct Endpoint {
    probes: ProbeSet,
    /// Those of them that readiness depends on.
    needed: ProbeSet,
    /// One for all runs: it keeps what rates are measured against.
    cx: Context,
    rendered: Mutex<Option<Rendered>>,
}

#[derive(Clone, Debug)]
struct Rendered {
    of: Arc<HealthReport>,
    health: Answer,
    report: Answer,
}

impl Endpoint {
    /// The answers of these probes.
    pub fn new(probes: ProbeSet) -> Self {
        let needed = probes.only(is_needed);
        Self { probes, needed, cx: Context::new(), rendered: Mutex::new(None) }
    }

    /// Runs them in this context: with the service's own clock, baselines or history, and until it is cancelled.
    #[must_use]
    pub fn with_context(mut self, cx: Context) -> Self {
        self.cx = cx;
        self
    }

    /// Whether the process is there to answer. Asks nobody: a process that is restarted because its database is down
    /// comes back to the same database.
    pub fn live(&self) -> Answer {
        text(200, "ok\n".into())
    }

    /// Whether requests can be served: 503 while a server cannot be reached (`pg.reachable`, `redis.reachable`, and
    /// their like) or lets nobody in (a wrong password, a certificate that does not match, a database that is not
    /// there), or a probe of the group [`READINESS`] is critical; one line a probe, as Kubernetes writes them. Other
    /// findings, however bad, do not take a service away from its users, and neither does a pool whose connections are
    /// all lent. Only those probes are run, where there is no fresh report of all.
    pub async fn ready(&self) -> Answer {
        let report = match self.probes.fresh() {
            Some(report) => report,
            None => self.needed.cached(&self.cx).await,
        };
        ready(&report)
    }

    /// The whole as `application/health+json`: 503 when critical.
    pub async fn health(&self) -> Answer {
        self.rendered().await.health
    }

    /// The whole as `ops.health/1`: 503 when critical.
    pub async fn report(&self) -> Answer {
        self.rendered().await.report
    }

    async fn rendered(&self) -> Rendered {
        let report = self.probes.cached(&self.cx).await;
        let mut last = self.rendered.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some(rendered) if Arc::ptr_eq(&rendered.of, &report) => rendered.clone(),
            _ => last.insert(Rendered::of(report)).clone(),
        }
    }
}

impl Rendered {
    fn of(report: Arc<HealthReport>) -> Self {
        let status = if report.status == Status::Critical { 503 } else { 200 };
        let answer = |content_type, body: String| Answer { status, content_type, body: body.into() };
        Self {
            health: answer("application/health+json", render::health_json(&report)),
            report: answer("application/json", render::json(&report)),
            of: report,
        }
    }
}

fn is_needed(probe: &str, group: &str) -> bool {
    probe.ends_with(REACHABLE) || group == READINESS
}

/// `[+]pg.reachable main ok`, as the endpoints of Kubernetes' own API server answer.
fn ready(report: &HealthReport) -> Answer {
    let needed = report.probes.iter().filter(|probe| is_needed(&probe.probe, &probe.group));
    let mut body = String::new();
    let mut failed = false;
    for probe in needed {
        let out = probe.status == Status::Critical || probe.failed.is_some_and(lets_nobody_in);
        failed |= out;
        let (sign, how) = match (out, probe.status) {
            (true, _) => ("-", "failed"),
            (false, Status::Unknown) => ("?", "unknown"),
            (false, _) => ("+", "ok"),
        };
        body.push_str(&format!("[{sign}]{} {} {how}\n", probe.probe, probe.target));
    }
    body.push_str(if failed { "readyz check failed\n" } else { "readyz check passed\n" });
    text(if failed { 503 } else { 200 }, body)
}

/// Whether it meets every request of the service alike.
fn lets_nobody_in(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Unauthenticated | ErrorKind::Tls | ErrorKind::NotFound | ErrorKind::Configuration
    )
}

fn text(status: u16, body: String) -> Answer {
    Answer { status, content_type: "text/plain; charset=utf-8", body: body.into() }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;

    use super::*;
    use crate::{Finding, HealthProbe, ProbeReport, Result};

    #[derive(Debug)]
    struct Fixed(&'static str, bool, Arc<AtomicUsize>);

    #[async_trait]
    impl HealthProbe for Fixed {
        fn name(&self) -> &str {
            self.0
        }

        async fn probe(&self, _cx: &Context) -> Result<ProbeReport> {
            self.2.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            let report = ProbeReport::new("looked");
            Ok(if self.1 { report.finding(Finding::critical("x.y.z", "it is bad")) } else { report })
        }
    }

    fn endpoint(critical: &[(&'static str, &'static str, bool)]) -> (Endpoint, Arc<AtomicUsize>) {
        let runs = Arc::new(AtomicUsize::new(0));
        let mut probes = ProbeSet::new("shop");
        for (group, name, bad) in critical {
            probes.add_grouped("main", None, *group, Fixed(name, *bad, Arc::clone(&runs)));
        }
        (Endpoint::new(probes), runs)
    }

    #[tokio::test]
    async fn a_full_sequence_does_not_take_the_service_away() {
        let (endpoint, _) = endpoint(&[
            ("availability", "pg.reachable", false),
            ("availability", "pg.checksums", true),
            ("objects", "pg.sequences", true),
        ]);
        assert_eq!(endpoint.ready().await.status, 200);
        assert_eq!((endpoint.health().await.status, endpoint.report().await.status), (503, 503));
        assert_eq!(endpoint.live().status, 200);
    }

    #[tokio::test]
    async fn a_database_that_is_down_does() {
        let (endpoint, _) = endpoint(&[("availability", "pg.reachable", true)]);
        let ready = endpoint.ready().await;
        assert_eq!((ready.status, &*ready.body), (503, "[-]pg.reachable main failed\nreadyz check failed\n"));
        assert_eq!(endpoint.live().status, 200);
    }

    #[derive(Debug)]
    struct Refused(ErrorKind);

    #[async_trait]
    impl HealthProbe for Refused {
        fn name(&self) -> &str {
            "pg.reachable"
        }

        async fn probe(&self, _cx: &Context) -> Result<ProbeReport> {
            Err(crate::Error::new(self.0, "connect"))
        }
    }

    #[tokio::test]
    async fn a_server_that_lets_nobody_in_does_and_a_pool_that_is_all_lent_does_not() {
        for (kind, status, line) in [
            (ErrorKind::Unauthenticated, 503, "[-]pg.reachable main failed\n"),
            (ErrorKind::Tls, 503, "[-]pg.reachable main failed\n"),
            (ErrorKind::Busy, 200, "[?]pg.reachable main unknown\n"),
        ] {
            let mut probes = ProbeSet::new("shop");
            probes.add_grouped("main", None, "availability", Refused(kind));
            let ready = Endpoint::new(probes).with_context(Context::new()).ready().await;
            assert_eq!(ready.status, status, "{kind:?}");
            assert!(ready.body.starts_with(line), "{}", ready.body);
        }
    }

    #[tokio::test]
    async fn what_a_service_cannot_do_without_is_its_own_to_say() {
        let (endpoint, _) = endpoint(&[("readiness", "app.queue", true)]);
        assert_eq!(endpoint.ready().await.status, 503);
    }

    #[tokio::test]
    async fn readiness_costs_what_it_needs_and_no_more() {
        let (endpoint, runs) =
            endpoint(&[("availability", "pg.reachable", false), ("objects", "pg.sequences", false)]);
        endpoint.ready().await;
        endpoint.ready().await;
        assert_eq!(runs.load(Ordering::SeqCst), 1);
        endpoint.health().await;
        endpoint.ready().await;
        assert_eq!(runs.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn a_stampede_costs_one_run() {
        let (endpoint, runs) = endpoint(&[("availability", "pg.reachable", false)]);
        let answers = futures::future::join_all((0..100).map(|_| endpoint.health())).await;
        assert_eq!(runs.load(Ordering::SeqCst), 1);
        assert!(answers.windows(2).all(|pair| Arc::ptr_eq(&pair[0].body, &pair[1].body)));
    }
}
