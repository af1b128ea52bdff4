//! What a request to an endpoint brings back, and what every probe makes of it.

use std::error::Error as StdError;

use chrono::{DateTime, Utc};
use ops_core::words::count;
use ops_core::{
    Context, Error, ErrorKind, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy, Result,
    Severity, Unit,
};
use reqwest::redirect::Policy;
use reqwest::tls::TlsInfo;
use reqwest::{Certificate, Client, Response};
use serde_json::{Value, json};
use tokio::time::Instant;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::http_error::{self, Expired, OtherOrigin};
use crate::http::{HttpConfig, HttpTarget};

/// A health answer is short; one that is not is read no further.
const BODY_CAP: usize = 64 * 1024;

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ask<'a> {
    Get,
    Post { accept: &'static str, body: &'a Value },
}

/// What came back.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
    pub(super) cut: bool,
    pub(super) latency_ms: f64,
    pub(super) certificate_ends: Option<DateTime<Utc>>,
}

/// Asks once, on a new connection.
pub(super) async fn ask(cx: &Context, endpoint: &HttpTarget, ask: Ask<'_>) -> Result<Answer> {
    let client = client(endpoint).await?;
    let started = Instant::now();
    let outcome = cx.run("read the answer", exchange(&client, endpoint, ask)).await;
    cx.cost().round_trip(started.elapsed());
    outcome.map_err(|error| error.on(endpoint.display()))
}

/// The code of a finding: the same troubles have the same names in every probe of endpoints.
fn code_of(spec: &ProbeSpec, trouble: &str) -> String {
    format!("{}.{trouble}", spec.name)
}

/// A client for one request: a connection kept open would prove nothing about making one, and authorities that
/// were renewed are read anew.
pub(super) async fn client(endpoint: &HttpTarget) -> Result<Client> {
    let (config, url) = (endpoint.config(), endpoint.request_url());
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
    } else if url.scheme() == "http" && config.redirects == 0 {
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

async fn exchange(client: &Client, endpoint: &HttpTarget, ask: Ask<'_>) -> Result<Answer> {
    let address = endpoint.display();
    let mut request = match ask {
        Ask::Get => client.get(endpoint.request_url()).header("accept", "application/json, */*;q=0.5"),
        Ask::Post { accept, body } => client.post(endpoint.request_url()).header("accept", accept).json(body),
    };
    for (name, value) in endpoint.headers() {
        request = request.header(name, value);
    }
    let started = Instant::now();
    let mut response = request.send().await.map_err(|error| http_error::of_request(error, &address))?;
    let certificate_ends = certificate_of(&response);
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

/// When the certificate ends that the server showed, where it showed one.
pub(super) fn certificate_of(response: &Response) -> Option<DateTime<Utc>> {
    response.extensions().get::<TlsInfo>()?.peer_certificate().and_then(certificate_end)
}

fn certificate_end(der: &[u8]) -> Option<DateTime<Utc>> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    DateTime::from_timestamp(certificate.validity().not_after.timestamp(), 0)
}

/// What clients meet too is critical; what may be our own configuration stays an error, hence unknown.
pub(super) fn judge_error(spec: &ProbeSpec, error: Error) -> Result<ProbeReport> {
    let expired = StdError::source(&error).is_some_and(|source| source.is::<Expired>());
    let code = match error.kind() {
        ErrorKind::Unreachable => "unreachable",
        ErrorKind::Timeout => "timeout",
        ErrorKind::Tls if expired => "certificate_expired",
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
    let mut finding = Finding::critical(code_of(spec, code), message.clone()).remedy(remedy);
    if let Some(address) = error.target() {
        finding = finding.object(address);
    }
    Ok(ProbeReport::new(message).finding(finding))
}

pub(super) fn judge(
    spec: &ProbeSpec,
    answer: &Answer,
    endpoint: &HttpTarget,
    now: DateTime<Utc>,
    limits: &Limits,
) -> ProbeReport {
    let address = endpoint.display();
    let latency =
        Measurement::new("latency", answer.latency_ms, Unit::Milliseconds).judged_by(limits.get("latency"));
    let mut report = ProbeReport::new(format!("{} in {}", answer.status, latency.format()));
    if let Some(severity) = Severity::of(latency.status()) {
        let message = format!("the answer takes {}", latency.format());
        report = report.finding(
            Finding::new(severity, code_of(spec, "slow"), message).object(&address).remedy(Remedy::advice(
                "Compare with pg.slow_queries and redis.reachable at the same time: which part waits for which?",
            )),
        );
    }
    report = report.measure(latency);
    if let Some(ends) = answer.certificate_ends {
        report = judge_certificate(spec, report, &address, ends, now, limits);
    }
    let expected = endpoint.config();
    if answer.status != expected.status {
        return judge_status(spec, report, answer.status, expected.status, &address);
    }
    report
}

pub(super) fn judge_certificate(
    spec: &ProbeSpec,
    report: ProbeReport,
    address: &str,
    ends: DateTime<Utc>,
    now: DateTime<Utc>,
    limits: &Limits,
) -> ProbeReport {
    let days = (ends - now).num_seconds() as f64 / 86_400.0;
    let left = Measurement::new("certificate_days", days, Unit::Count).judged_by(limits.get("certificate"));
    let finding = Severity::of(left.status()).map(|severity| {
        let message = format!(
            "the certificate expires in {}, on {}",
            count(days.floor(), "day", "days"),
            ends.format("%Y-%m-%d")
        );
        Finding::new(severity, code_of(spec, "certificate"), message)
            .object(address)
            .evidence(json!({"not_after": ends}))
            .remedy(Remedy::advice("Renew the certificate, and see why that was not done by itself."))
    });
    report.measure(left).findings(finding)
}

/// Another status than expected: trouble of the service, unless it is about who asks. Then the service stays
/// unseen, and what the connection told (its time, its certificate) still counts.
pub(super) fn judge_status(
    spec: &ProbeSpec,
    report: ProbeReport,
    status: u16,
    expected: u16,
    address: &str,
) -> ProbeReport {
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
        500.. => ("server_error", "The log of the service tells what failed."),
        300..400 => ("status", "It redirects: give the final URL, or redirects = 1."),
        _ => ("status", "Is the path right, and is this the status a healthy endpoint answers with?"),
    };
    let finding = Finding::critical(code_of(spec, code), message.clone())
        .object(address)
        .evidence(json!({"status": status, "expected": expected}))
        .remedy(Remedy::advice(advice));
    report.summary(message).finding(finding)
}

pub(super) fn judge_body(
    spec: &ProbeSpec,
    report: ProbeReport,
    answer: &Answer,
    expected: &HttpConfig,
    address: &str,
) -> ProbeReport {
    if expected.json.is_empty() {
        return report;
    }
    if answer.cut {
        return report.unseen("the answer is longer than 64 KiB, and was not read to its end", None);
    }
    let wrong = |message: String, evidence: Value| {
        Finding::critical(code_of(spec, "body"), message)
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

pub(super) fn excerpt(text: &str) -> String {
    const LONGEST: usize = 200;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
