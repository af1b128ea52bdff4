//! `ws.subscription`: can a channel be joined over a websocket, and does it answer.

mod channel;
mod wire;

use async_trait::async_trait;
use ops_core::{
    Context, Direction, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy, Result,
    Severity, ThresholdSpec, Unit,
};
use serde_json::json;

use self::channel::{Broken, Visit};
use super::answer;
use super::endpoint::THRESHOLDS;
use crate::http::{HttpProbe, HttpTarget};

pub(crate) static SPEC: ProbeSpec = ProbeSpec {
    name: "ws.subscription",
    group: "http",
    explanation: Explanation {
        why: "A client that lives on a subscription shows nothing new when the channel behind it is closed, and no \
              request fails: the page just stands still.",
        measures: "One websocket on a new connection. With a topic: joins that channel as Phoenix' clients do \
                   (phx_join), waits until it is confirmed, and sends a heartbeat over the same socket; then leaves. \
                   Without one: a ping. The time until the channel is joined, the time of the round trip, the days \
                   until the certificate expires. The serializer is the one that vsn in the URL's query names (1 by \
                   default, or 2), as for Phoenix itself. A handshake that is refused with 401, 403 or 429, and a join \
                   that is refused for the token, are about this check, and unknown.",
        queries: &[
            ("with the configured headers", "GET url, Upgrade: websocket"),
            ("the configured topic and payload", "phx_join"),
            ("on the topic phoenix", "heartbeat"),
            ("the configured topic", "phx_leave"),
        ],
        codes: &[
            ("ws.subscription.unreachable", "nothing answers at the address, or it closes the connection"),
            ("ws.subscription.timeout", "no socket, no confirmation or no heartbeat in time"),
            ("ws.subscription.certificate_expired", "the certificate's time is over: clients refuse it"),
            ("ws.subscription.certificate", "the certificate expires soon"),
            ("ws.subscription.server_error", "it answers the handshake with a status of 500 or above"),
            ("ws.subscription.status", "it answers the handshake with another status than 101"),
            ("ws.subscription.refused", "the channel cannot be joined"),
            ("ws.subscription.closed", "the channel or the socket was closed while it was used"),
            ("ws.subscription.slow", "it answers, and slowly"),
        ],
        versions: "RFC 6455 over HTTP/1.1; Phoenix channels, serializers 1.0.0 and 2.0.0; TLS 1.2 and 1.3",
        cost: "one connection, and one member of the channel for a moment",
        remedy: "Read the log of the service for the time of the check. Where http.endpoint of the same service is ok, \
                 look at what lies between: a proxy that does not pass Upgrade on, or closes idle sockets.",
    },
    thresholds: &[
        ThresholdSpec { meaning: "the time from connecting until the channel is joined", ..THRESHOLDS[0] },
        THRESHOLDS[1],
        ThresholdSpec {
            name: "round_trip",
            meaning: "the time of a heartbeat, there and back",
            unit: Unit::Milliseconds,
            direction: Direction::Above,
            warning: Some(1000.0),
            critical: None,
            source: "1 s is the limit of an uninterrupted flow of thought (Nielsen): news that take longer come late",
        },
    ],
    requires: &[],
};

/// See [`SPEC`].
#[derive(Debug)]
pub(crate) struct Subscription;

#[async_trait]
impl HttpProbe for Subscription {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    async fn probe(&self, cx: &Context, endpoint: &HttpTarget, limits: &Limits) -> Result<ProbeReport> {
        let Some(subscription) = &endpoint.config().subscription else {
            return Ok(ProbeReport::not_applicable("no subscription is configured for this endpoint"));
        };
        let visit = match channel::visit(cx, endpoint, subscription).await {
            Ok(visit) => visit,
            Err(error) => return answer::judge_error(&SPEC, error),
        };
        let address = endpoint.display();
        let certified = |report| match visit.certificate_ends {
            Some(ends) => answer::judge_certificate(&SPEC, report, &address, ends, cx.now(), limits),
            None => report,
        };
        Ok(match &visit.broken {
            None => certified(judge(&visit, &address, limits)),
            Some(Broken::Handshake { status }) => {
                answer::judge_status(&SPEC, certified(ProbeReport::new("")), *status, SWITCHING, &address)
            }
            Some(Broken::Refused { reason }) => refused(certified(ProbeReport::new("")), reason, &address),
            Some(Broken::Closed { how }) => closed(certified(ProbeReport::new("")), how, &address),
        })
    }
}

/// The status of a handshake that succeeds.
const SWITCHING: u16 = 101;

fn judge(visit: &Visit, address: &str, limits: &Limits) -> ProbeReport {
    let joined =
        Measurement::new("latency", visit.joined_ms, Unit::Milliseconds).judged_by(limits.get("latency"));
    let round_trip = Measurement::new("round_trip", visit.round_trip_ms, Unit::Milliseconds)
        .judged_by(limits.get("round_trip"));
    let severity = Severity::of(joined.status()).max(Severity::of(round_trip.status()));
    let summary = format!("joined in {}, a round trip takes {}", joined.format(), round_trip.format());
    let slow = severity.map(|severity| {
        Finding::new(severity, "ws.subscription.slow", summary.clone()).object(address).remedy(
            Remedy::advice(
                "compare with http.endpoint of the same service: is it the service, or the socket?",
            ),
        )
    });
    ProbeReport::new(summary).findings(slow).measure(joined).measure(round_trip)
}

/// Trouble of the channel, unless it is about who asks.
fn refused(report: ProbeReport, reason: &str, address: &str) -> ProbeReport {
    let reason = answer::excerpt(reason);
    let lower = reason.to_lowercase();
    if ["unauthorized", "token", "jwt"].iter().any(|word| lower.contains(word)) {
        let what = format!("whether {address} can be joined: it does not take who asks ({reason})");
        return report.summary(what.clone()).unseen(what, None);
    }
    let message = format!("the channel refuses to be joined: {reason}");
    report.summary(message.clone()).finding(
        Finding::critical("ws.subscription.refused", message)
            .object(address)
            .evidence(json!({ "reason": reason }))
            .remedy(Remedy::advice(
                "does the topic exist, and what does the log of the service say about the join?",
            )),
    )
}

fn closed(report: ProbeReport, how: &str, address: &str) -> ProbeReport {
    let message = answer::excerpt(how);
    report
        .summary(message.clone())
        .finding(Finding::critical("ws.subscription.closed", message).object(address).remedy(Remedy::advice(
        "the process of the channel has ended, or a proxy has cut the socket: the log of the service tells",
    )))
}
