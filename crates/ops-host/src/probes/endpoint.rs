//! `http.endpoint`: does a URL answer as it should, how fast, and for how long will its certificate do.

use std::error::Error as StdError;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use ops_core::words::count;
use ops_core::{
    Context, Direction, Error, ErrorKind, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec,
    Remedy, Result, Severity, ThresholdSpec, Unit,
};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client};
use serde_json::{Value, json};
use tokio::time::Instant;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::http_error::{self, Expired, OtherOrigin};
use crate::http::{HttpConfig, HttpProbe, HttpTarget};

/// A health answer is short; one that is not is read no further.
const BODY_CAP: usize = 64 * 1024;

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
        queries: &[("GET url", "with the configured headers, accepting JSON")],
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
    thresholds: &[
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
    ],
    requires: &[],
};

/// See [`SPEC`].
#[derive(Debug)]
pub(crate) struct Endpoint;

/// What came back.
struct Answer {
    status: u16,
    body: Vec<u8>,
    cut: bool,
    latency_ms: f64,
    certificate_ends: Option<DateTime<Utc>>,
}

#[async_trait]
impl HttpProbe for Endpoint {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    async fn probe(&self, cx: &Context, endpoint: &HttpTarget, limits: &Limits) -> Result<ProbeReport> {
        let client = client(endpoint).await?;
        let started = Instant::now();
        let outcome = cx.run("read the answer", get(&client, endpoint)).await;
        cx.cost().round_trip(started.elapsed());
        match outcome {
            Ok(answer) => Ok(judge(&answer, endpoint, cx.now(), limits)),
            Err(error) => judge_error(error.on(endpoint.display())),
        }
    }
}

/// A client for one request: a connection kept open would prove nothing about making one, and authorities that
/// were renewed are read anew.
async fn client(endpoint: &HttpTarget) -> Result<Client> {
    let (config, scheme) = (endpoint.config(), endpoint.url().scheme());
    let failed = |why: String| Error::new(ErrorKind::Configuration, "prepare the request").because(why);
    let mut builder = Client::builder()
        .no_proxy()
        .redirect(redirects(config.redirects, !endpoint.headers().is_empty()))
        .tls_info(true)
        .user_agent(concat!("ops/", env!("CARGO_PKG_VERSION")));
    if let Some(path) = &config.root_certificate {
        let unreadable = |why: String| {
            Error::new(ErrorKind::Configuration, "read the root certificate")
                .on(path.display().to_string())
                .because(why)
        };
        let pem = tokio::fs::read(path).await.map_err(|error| unreadable(error.to_string()))?;
        let roots = Certificate::from_pem_bundle(&pem).map_err(|error| unreadable(error.to_string()))?;
        if roots.is_empty() {
            return Err(unreadable("it holds no PEM certificate".into()));
        }
        builder = builder.tls_certs_merge(roots);
    } else if scheme == "http" && config.redirects == 0 {
        // A machine without any authorities can still ask without TLS.
        builder = builder.tls_certs_only([]);
    }
    builder
        .build()
        .map_err(|error| failed(error.source().map_or_else(|| error.to_string(), ToString::to_string)))
}

/// Follows up to `most` redirects. The client drops `Authorization` and `Cookie` where the host changes, and no
/// other header; a configured one may hold a secret under any name, so that none leaves its origin.
fn redirects(most: usize, headers: bool) -> Policy {
    match (most, headers) {
        (0, _) => Policy::none(),
        (most, false) => Policy::limited(most),
        (most, true) => Policy::custom(move |attempt| {
            let leaves =
                attempt.previous().last().is_some_and(|from| from.origin() != attempt.url().origin());
            if leaves {
                let to = attempt.url().origin().ascii_serialization();
                attempt.error(OtherOrigin(to))
            } else {
                Policy::limited(most).redirect(attempt)
            }
        }),
    }
}

async fn get(client: &Client, endpoint: &HttpTarget) -> Result<Answer> {
    let address = endpoint.display();
    let mut request = client.get(endpoint.url().clone()).header("accept", "application/json, */*;q=0.5");
    for (name, value) in endpoint.headers() {
        request = request.header(name, value);
    }
    let started = Instant::now();
    let mut response = request.send().await.map_err(|error| http_error::of_request(error, &address))?;
    let certificate_ends = response
        .extensions()
        .get::<reqwest::tls::TlsInfo>()
        .and_then(|tls| tls.peer_certificate())
        .and_then(certificate_end);
    let (mut body, mut cut) = (Vec::new(), false);
    while let Some(chunk) = response.chunk().await.map_err(|error| http_error::of_request(error, &address))? {
        let room = BODY_CAP - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            cut = true;
            break;
        }
    }
    let latency_ms = started.elapsed().as_secs_f64() * 1000.0;
    Ok(Answer { status: response.status().as_u16(), body, cut, latency_ms, certificate_ends })
}

fn certificate_end(der: &[u8]) -> Option<DateTime<Utc>> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    DateTime::from_timestamp(certificate.validity().not_after.timestamp(), 0)
}

/// What clients meet too is critical; what may be our own configuration stays an error, hence unknown.
fn judge_error(error: Error) -> Result<ProbeReport> {
    let expired = StdError::source(&error).is_some_and(|source| source.is::<Expired>());
    let code = match error.kind() {
        ErrorKind::Unreachable => "http.endpoint.unreachable",
        ErrorKind::Timeout => "http.endpoint.timeout",
        ErrorKind::Tls if expired => "http.endpoint.certificate_expired",
        _ => return Err(error),
    };
    let remedy = if expired {
        Remedy::advice("Renew the certificate, and see why that was not done by itself.")
    } else {
        Remedy::advice(
            "Is the service running, does it listen there, and what does its log say about this minute?",
        )
    };
    let message = error.to_string();
    let mut finding = Finding::critical(code, message.clone()).remedy(remedy);
    if let Some(address) = error.target() {
        finding = finding.object(address);
    }
    Ok(ProbeReport::new(message).finding(finding))
}

fn judge(answer: &Answer, endpoint: &HttpTarget, now: DateTime<Utc>, limits: &Limits) -> ProbeReport {
    let address = endpoint.display();
    let latency =
        Measurement::new("latency", answer.latency_ms, Unit::Milliseconds).judged_by(limits.get("latency"));
    let mut report = ProbeReport::new(format!("{} in {}", answer.status, latency.format()));
    if let Some(severity) = Severity::of(latency.status()) {
        let message = format!("the answer takes {}", latency.format());
        report = report.finding(
            Finding::new(severity, "http.endpoint.slow", message).object(&address).remedy(Remedy::advice(
                "Compare with pg.slow_queries and redis.reachable at the same time: which part waits for which?",
            )),
        );
    }
    report = report.measure(latency);
    if let Some(ends) = answer.certificate_ends {
        report = judge_certificate(report, &address, ends, now, limits);
    }
    let expected = endpoint.config();
    if answer.status != expected.status {
        return judge_status(report, answer.status, expected.status, &address);
    }
    judge_body(report, answer, expected, &address)
}

fn judge_certificate(
    report: ProbeReport,
    address: &str,
    ends: DateTime<Utc>,
    now: DateTime<Utc>,
    limits: &Limits,
) -> ProbeReport {
    let days = (ends - now).num_seconds() as f64 / 86_400.0;
    let left = Measurement::new("certificate_days", days, Unit::Count).judged_by(limits.get("certificate"));
    let finding = Severity::of(left.status()).map(|severity| {
        let in_days = count(days.floor(), "day", "days");
        let message = format!("the certificate expires in {in_days}, on {}", ends.format("%Y-%m-%d"));
        Finding::new(severity, "http.endpoint.certificate", message)
            .object(address)
            .evidence(json!({"not_after": ends}))
            .remedy(Remedy::advice("Renew the certificate, and see why that was not done by itself."))
    });
    report.measure(left).findings(finding)
}

/// Another status than expected: trouble of the service, unless it is about who asks. Then the service stays
/// unseen, and what the connection told (its time, its certificate) still counts.
fn judge_status(report: ProbeReport, status: u16, expected: u16, address: &str) -> ProbeReport {
    let message = format!("it answers {status}, not {expected}");
    let about_us = match status {
        401 | 407 => Some("it does not know who asks"),
        403 => Some("this check may not ask"),
        429 => Some("this check asks too often"),
        _ => None,
    };
    if let Some(why) = about_us {
        let what = format!("whether {address} is healthy: {message}; {why}");
        return report.summary(what.clone()).unseen(what, None);
    }
    let (code, advice) = match status {
        500.. => ("http.endpoint.server_error", "The log of the service tells what failed."),
        300..400 => ("http.endpoint.status", "It redirects: give the final URL, or redirects = 1."),
        _ => (
            "http.endpoint.status",
            "Is the path right, and is this the status a healthy endpoint answers with?",
        ),
    };
    let finding = Finding::critical(code, message.clone())
        .object(address)
        .evidence(json!({"status": status, "expected": expected}))
        .remedy(Remedy::advice(advice));
    report.summary(message).finding(finding)
}

fn judge_body(report: ProbeReport, answer: &Answer, expected: &HttpConfig, address: &str) -> ProbeReport {
    if expected.json.is_empty() {
        return report;
    }
    if answer.cut {
        return report.unseen("the answer is longer than 64 KiB, and was not read to its end", None);
    }
    let wrong = |message: String, evidence: Value| {
        Finding::critical("http.endpoint.body", message)
            .object(address)
            .evidence(evidence)
            .remedy(Remedy::advice("The service itself says that it is not well: its log tells why."))
    };
    let body: Value = match serde_json::from_slice(&answer.body) {
        Ok(body) => body,
        Err(error) => {
            let start = excerpt(&String::from_utf8_lossy(&answer.body));
            let finding = wrong(format!("the answer is not JSON: {error}"), json!({"body": start}));
            return report.summary(format!("{}, and the answer is not JSON", answer.status)).finding(finding);
        }
    };
    let mismatches: Vec<Finding> = expected
        .json
        .iter()
        .filter_map(|(pointer, expected)| {
            let actual = body.pointer(pointer);
            if actual.is_some_and(|actual| equal(actual, expected)) {
                return None;
            }
            let shown = actual.map(|actual| excerpt(&actual.to_string()));
            let message = match &shown {
                Some(shown) => format!("{pointer} is {shown}, not {expected}"),
                None => format!("the answer has no {pointer}; expected {expected}"),
            };
            Some(wrong(message, json!({"pointer": pointer, "expected": expected, "actual": shown})))
        })
        .collect();
    match mismatches.first() {
        Some(first) => report.summary(first.message.clone()).findings(mismatches),
        None => report,
    }
}

/// As JSON values are equal; 1 and 1.0 are the same number.
fn equal(actual: &Value, expected: &Value) -> bool {
    match (actual.as_f64(), expected.as_f64()) {
        (Some(actual), Some(expected)) => actual == expected,
        _ => actual == expected,
    }
}

fn excerpt(text: &str) -> String {
    const LONGEST: usize = 200;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ops_core::Status;

    #[test]
    fn one_day_is_no_days() {
        let now = Utc::now();
        for (hours, begins) in
            [(36, "the certificate expires in 1 day, on "), (50, "the certificate expires in 2 days, ")]
        {
            let ends = now + chrono::Duration::hours(hours);
            let limits = Limits::defaults(&SPEC);
            let report = judge_certificate(ProbeReport::new(""), "https://api", ends, now, &limits);
            assert!(report.found()[0].message.starts_with(begins), "{:?}", report.found());
        }
    }

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
                let report = judge(&answer, &endpoint, now, &Limits::defaults(&SPEC));
                assert_eq!((report.status(), report.found().len()), (expected, findings), "{status} {days}");
            }
        }
    }
}
