//! `http.endpoint`: does a URL answer as it should, how fast, and for how long will its certificate do.

use async_trait::async_trait;
use ops_core::{
    Context, Direction, Explanation, Limits, ProbeReport, ProbeSpec, Result, ThresholdSpec, Unit,
};

use super::answer::{self, Ask};
use crate::http::{HttpProbe, HttpTarget};

/// Those of every probe of endpoints.
pub(super) const THRESHOLDS: &[ThresholdSpec] = &[
    ThresholdSpec {
        name: "latency",
        meaning: "the time from connecting to the end of the answer",
        unit: Unit::Milliseconds,
        direction: Direction::Above,
        warning: Some(1000.0),
        critical: Some(5000.0),
        source: "1 s is the limit of an uninterrupted flow of thought (Nielsen, Response Times: The 3 Important \
                     Limits); 5 s is this check's own deadline, and more than a load balancer's health check waits",
    },
    ThresholdSpec {
        name: "certificate",
        meaning: "days until the certificate expires",
        unit: Unit::Count,
        direction: Direction::Below,
        warning: Some(21.0),
        critical: Some(7.0),
        source: "ACME clients renew 30 days before the end: at 21 they have failed for a week; 7 leaves a week \
                     of work to do it by hand",
    },
];

pub(crate) static SPEC: ProbeSpec = ProbeSpec {
    name: "http.endpoint",
    group: "http",
    explanation: Explanation {
        why: "An endpoint is what the users meet: every database may be well behind an interface that is down, slow, \
              or about to present an expired certificate.",
        measures: "One GET on a new connection: the status equals the one expected; at each JSON pointer stands the \
                   value expected, compared as a whole; the time from connecting to the last byte of the body (read \
                   up to 64 KiB); the days until the certificate expires. Redirects are not followed unless \
                   configured, and no proxy is used. Refused, timed out, a wrong answer or an expired certificate is \
                   critical: the clients meet it too. An authority not trusted here, or an answer that is about this \
                   check (401, 403, 407, 429), is unknown.",
        queries: &[("with the configured headers, accepting JSON", "GET url")],
        codes: &[
            ("http.endpoint.unreachable", "nothing answers at the address, or it closes the connection"),
            ("http.endpoint.timeout", "no complete answer in time"),
            ("http.endpoint.certificate_expired", "the certificate's time is over: clients refuse it"),
            ("http.endpoint.certificate", "the certificate expires soon"),
            ("http.endpoint.server_error", "it answers with a status of 500 or above"),
            ("http.endpoint.status", "it answers with another status than expected"),
            ("http.endpoint.body", "the answer does not say what is expected of it"),
            ("http.endpoint.slow", "it answers, and slowly"),
        ],
        versions: "HTTP/1.1 and HTTP/2, TLS 1.2 and 1.3",
        cost: "one request on a connection of its own",
        remedy: "Read the log of the service for the time of the check. A certificate: renew it, and see why that \
                 was not done by itself (certbot renew --dry-run).",
    },
    thresholds: THRESHOLDS,
    requires: &[],
};

/// See [`SPEC`].
#[derive(Debug)]
pub(crate) struct Endpoint;

#[async_trait]
impl HttpProbe for Endpoint {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    async fn probe(&self, cx: &Context, endpoint: &HttpTarget, limits: &Limits) -> Result<ProbeReport> {
        if endpoint.config().graphql.is_some() {
            return Ok(ProbeReport::not_applicable("it speaks GraphQL: http.graphql asks it"));
        }
        if endpoint.is_websocket() {
            return Ok(ProbeReport::not_applicable("it is a websocket: ws.subscription joins it"));
        }
        let answer = match answer::ask(cx, endpoint, Ask::Get).await {
            Ok(answer) => answer,
            // A client that could not be made has told nothing about the service.
            Err(error) => return answer::judge_error(&SPEC, error),
        };
        let report = answer::judge(&SPEC, &answer, endpoint, cx.now(), limits);
        let config = endpoint.config();
        Ok(match answer.status == config.status {
            true => answer::judge_body(&SPEC, report, &answer, config, &endpoint.display()),
            false => report,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::HttpConfig;
    use crate::probes::answer::Answer;
    use chrono::Utc;
    use ops_core::Status;

    #[test]
    fn a_status_about_us_hides_the_service_and_not_its_certificate() {
        let endpoint = HttpTarget::new("api", HttpConfig::new("https://api/health"), Vec::new()).unwrap();
        let now = Utc::now();
        for status in [401, 403, 407, 429] {
            for (days, expected, findings) in [(2, Status::Critical, 1), (90, Status::Unknown, 0)] {
                let answer = Answer {
                    status,
                    body: Vec::new(),
                    cut: false,
                    latency_ms: 1.0,
                    certificate_ends: Some(now + chrono::Duration::days(days)),
                };
                let report = answer::judge(&SPEC, &answer, &endpoint, now, &Limits::defaults(&SPEC));
                assert_eq!((report.status(), report.found().len()), (expected, findings), "{status} {days}");
            }
        }
    }
}
