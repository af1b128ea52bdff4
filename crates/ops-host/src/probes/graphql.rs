//! `http.graphql`: does a GraphQL endpoint answer a query without errors.

use async_trait::async_trait;
use ops_core::{Context, Explanation, Finding, Limits, ProbeReport, ProbeSpec, Remedy, Result};
use serde_json::{Value, json};

use super::answer::{self, Answer, Ask};
use super::endpoint::THRESHOLDS;
use crate::http::{HttpProbe, HttpTarget};

/// As the GraphQL over HTTP specification asks of clients, which know both kinds of answers.
const ACCEPT: &str = "application/graphql-response+json, application/json;q=0.9";

pub(crate) static SPEC: ProbeSpec = ProbeSpec {
    name: "http.graphql",
    group: "http",
    explanation: Explanation {
        why: "GraphQL answers 200 also when it fails: the errors stand in the body, and a check of the status takes \
              them for success.",
        measures: "One POST of the configured query on a new connection. The answer must hold data and no errors, and \
                   at each JSON pointer the value expected; the status, the time and the certificate are judged as by \
                   http.endpoint. Errors that say who asks is not known (UNAUTHENTICATED, FORBIDDEN) are about this \
                   check, and unknown. An endpoint without a query is looked at by http.endpoint alone.",
        queries: &[("{\"query\": …}, with the configured headers", "POST url")],
        codes: &[
            ("http.graphql.unreachable", "nothing answers at the address, or it closes the connection"),
            ("http.graphql.timeout", "no complete answer in time"),
            ("http.graphql.certificate_expired", "the certificate's time is over: clients refuse it"),
            ("http.graphql.certificate", "the certificate expires soon"),
            ("http.graphql.server_error", "it answers with a status of 500 or above"),
            ("http.graphql.status", "it answers with another status than expected"),
            ("http.graphql.errors", "the answer holds errors"),
            ("http.graphql.body", "the answer does not say what is expected of it"),
            ("http.graphql.slow", "it answers, and slowly"),
        ],
        versions: "GraphQL over HTTP; HTTP/1.1 and HTTP/2, TLS 1.2 and 1.3",
        cost: "one request on a connection of its own, and what the query costs the service",
        remedy: "The path of the first error names the field whose resolver failed; the log of the service tells why.",
    },
    thresholds: THRESHOLDS,
    requires: &[],
};

/// See [`SPEC`].
#[derive(Debug)]
pub(crate) struct Graphql;

#[async_trait]
impl HttpProbe for Graphql {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    async fn probe(&self, cx: &Context, endpoint: &HttpTarget, limits: &Limits) -> Result<ProbeReport> {
        let Some(query) = &endpoint.config().graphql else {
            return Ok(ProbeReport::not_applicable("no GraphQL query is configured for this endpoint"));
        };
        let body = json!({"query": query});
        let answer = match answer::ask(cx, endpoint, Ask::Post { accept: ACCEPT, body: &body }).await {
            Ok(answer) => answer,
            Err(error) => return answer::judge_error(&SPEC, error),
        };
        let report = answer::judge(&SPEC, &answer, endpoint, cx.now(), limits);
        Ok(match answer.status == endpoint.config().status {
            true => judge(report, &answer, endpoint),
            false => report,
        })
    }
}

/// The body of an answer with the right status.
fn judge(report: ProbeReport, answer: &Answer, endpoint: &HttpTarget) -> ProbeReport {
    let address = endpoint.display();
    let body = (!answer.cut).then(|| serde_json::from_slice::<Value>(&answer.body).ok()).flatten();
    let errors = body.as_ref().and_then(|body| body.get("errors")).filter(|errors| !errors.is_null());
    if let Some(errors) = errors {
        return failed(report, errors, &address);
    }
    if body.as_ref().is_some_and(|body| body.get("data").is_none_or(Value::is_null)) {
        let message = "the answer holds no data";
        return report.summary(message).finding(
            Finding::critical("http.graphql.body", message)
                .object(&address)
                .remedy(Remedy::advice("is that the path of the GraphQL endpoint?")),
        );
    }
    let expected = endpoint.config();
    if expected.json.is_empty() && (answer.cut || body.is_none()) {
        // The pointer to the whole: what is no JSON, or too long, is told as for other endpoints.
        let anything = expected.clone().with_json("", Value::Null);
        return answer::judge_body(&SPEC, report, answer, &anything, &address);
    }
    answer::judge_body(&SPEC, report, answer, expected, &address)
}

fn failed(report: ProbeReport, errors: &Value, address: &str) -> ProbeReport {
    let first = errors.get(0).unwrap_or(errors);
    let said = answer::excerpt(first.get("message").and_then(Value::as_str).unwrap_or("without a message"));
    let kind = first.pointer("/extensions/code").and_then(Value::as_str);
    if matches!(kind, Some("UNAUTHENTICATED" | "FORBIDDEN")) {
        let what = format!("whether {address} is healthy: {said}; this check may not ask");
        return report.summary(what.clone()).unseen(what, None);
    }
    let count = errors.as_array().map_or(1, Vec::len);
    let more = match count {
        0 | 1 => String::new(),
        _ => format!(", and {} more", count - 1),
    };
    let message = format!("the answer holds errors: {said}{more}");
    let path = first.get("path").map(|path| answer::excerpt(&path.to_string()));
    report.summary(message.clone()).finding(
        Finding::critical("http.graphql.errors", message)
            .object(address)
            .evidence(json!({"message": said, "path": path, "code": kind, "errors": count}))
            .remedy(Remedy::advice(
                "the path names the field whose resolver failed; the log of the service tells why",
            )),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::HttpConfig;
    use ops_core::Status;

    #[test]
    fn the_body_decides() {
        let config =
            HttpConfig::new("https://api/graphql").with_graphql("{ health }").with_json("/data/health", "ok");
        let endpoint = HttpTarget::new("api", config, Vec::new()).unwrap();
        for (body, status, code) in [
            (r#"{"data": {"health": "ok"}}"#, Status::Ok, None),
            (r#"{"data": {"health": "ok"}, "errors": null}"#, Status::Ok, None),
            (r#"{"data": {"health": "bad"}}"#, Status::Critical, Some("http.graphql.body")),
            (r#"{"data": null}"#, Status::Critical, Some("http.graphql.body")),
            (
                r#"{"data": null, "errors": [{"message": "no"}]}"#,
                Status::Critical,
                Some("http.graphql.errors"),
            ),
            (r#"{"errors": []}"#, Status::Critical, Some("http.graphql.errors")),
            (
                r#"{"errors": [{"message": "who?", "extensions": {"code": "UNAUTHENTICATED"}}]}"#,
                Status::Unknown,
                None,
            ),
            ("<html>", Status::Critical, Some("http.graphql.body")),
        ] {
            let answer = Answer {
                status: 200,
                body: body.into(),
                cut: false,
                latency_ms: 1.0,
                certificate_ends: None,
            };
            let report = judge(ProbeReport::new(""), &answer, &endpoint);
            let found = report.found().first().map(|finding| finding.code.as_ref());
            assert_eq!((report.status(), found), (status, code), "{body}");
        }
    }
}
