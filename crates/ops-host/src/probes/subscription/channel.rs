//! A visit to a channel: the handshake, the join, a heartbeat, and away again.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::{SinkExt, StreamExt};
use ops_core::{Context, Error, ErrorKind, Result, Retry};
use reqwest::{Upgraded, Version};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::super::{answer, http_error};
use super::wire::{Message, Push, Serializer};
use crate::http::{HttpTarget, SubscriptionConfig};

/// The members of a full channel come in one message with the join.
const LONGEST: usize = 4 << 20;

/// What taking leave may take: a server that does not answer it loses us all the same.
const GOODBYE: Duration = Duration::from_millis(200);

const JOIN: &str = "1";
const HEARTBEAT: &str = "2";
const LEAVE: &str = "3";

/// What a visit told.
pub(super) struct Visit {
    pub(super) certificate_ends: Option<DateTime<Utc>>,
    pub(super) joined_ms: f64,
    pub(super) round_trip_ms: f64,
    /// Where it ended, when not at its end.
    pub(super) broken: Option<Broken>,
}

/// What kept a visit from its end, once somebody answered.
pub(super) enum Broken {
    Handshake { status: u16 },
    Refused { reason: String },
    Closed { how: String },
}

impl Broken {
    fn closed(how: impl Into<String>) -> Self {
        Self::Closed { how: how.into() }
    }
}

type Step<T> = std::result::Result<T, Broken>;

pub(super) async fn visit(
    cx: &Context,
    endpoint: &HttpTarget,
    subscription: &SubscriptionConfig,
) -> Result<Visit> {
    let started = Instant::now();
    let outcome = cx.run("join the channel", go(endpoint, subscription)).await;
    cx.cost().round_trip(started.elapsed());
    outcome.map_err(|error| error.on(endpoint.display()))
}

async fn go(endpoint: &HttpTarget, subscription: &SubscriptionConfig) -> Result<Visit> {
    let started = Instant::now();
    let mut visit = Visit { certificate_ends: None, joined_ms: 0.0, round_trip_ms: 0.0, broken: None };
    let socket = match open(endpoint, &mut visit).await? {
        Ok(socket) => socket,
        Err(broken) => return Ok(Visit { broken: Some(broken), ..visit }),
    };
    let mut channel = Channel { socket, serializer: Serializer::of(endpoint.url()) };
    let topic = subscription.topic.as_deref();
    visit.broken = channel.stay(topic, &subscription.payload, started, &mut visit).await.err();
    let _ = tokio::time::timeout(GOODBYE, channel.leave(topic)).await;
    Ok(visit)
}

/// Makes a socket of an HTTP connection.
async fn open(endpoint: &HttpTarget, visit: &mut Visit) -> Result<Step<WebSocketStream<Upgraded>>> {
    let (address, key) = (endpoint.display(), generate_key());
    let mut request = answer::client(endpoint)
        .await?
        .get(endpoint.request_url())
        .version(Version::HTTP_11)
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", &key);
    for (name, value) in endpoint.headers() {
        request = request.header(name, value);
    }
    let response = request.send().await.map_err(|error| http_error::of_request(error, &address))?;
    visit.certificate_ends = answer::certificate_of(&response);
    let status = response.status().as_u16();
    if status != super::SWITCHING {
        return Ok(Err(Broken::Handshake { status }));
    }
    let accepted = response.headers().get("sec-websocket-accept").and_then(|value| value.to_str().ok());
    if accepted != Some(derive_accept_key(key.as_bytes()).as_str()) {
        return Ok(Err(Broken::closed(
            "it switches protocols, and not to this websocket (Sec-WebSocket-Accept)",
        )));
    }
    let upgraded = response.upgrade().await.map_err(|error| {
        Error::new(ErrorKind::Unreachable, "open the websocket")
            .because(error.without_url().to_string())
            .retry(Retry::Safe { after: None })
    })?;
    let limits = WebSocketConfig::default().max_message_size(Some(LONGEST)).max_frame_size(Some(LONGEST));
    Ok(Ok(WebSocketStream::from_raw_socket(upgraded, Role::Client, Some(limits)).await))
}

struct Channel {
    socket: WebSocketStream<Upgraded>,
    serializer: Serializer,
}

impl Channel {
    async fn stay(
        &mut self,
        topic: Option<&str>,
        payload: &Value,
        started: Instant,
        visit: &mut Visit,
    ) -> Step<()> {
        if let Some(topic) = topic {
            self.push(Push { topic, event: "phx_join", payload, reference: JOIN, join: Some(JOIN) }).await?;
            self.reply_to(JOIN, topic).await?;
        }
        visit.joined_ms = started.elapsed().as_secs_f64() * 1000.0;
        let sent = Instant::now();
        match topic {
            Some(topic) => {
                let payload = &json!({});
                let beat =
                    Push { topic: "phoenix", event: "heartbeat", payload, reference: HEARTBEAT, join: None };
                self.push(beat).await?;
                self.reply_to(HEARTBEAT, topic).await?;
            }
            None => {
                self.send(Frame::Ping("ops".into())).await?;
                while !matches!(self.next().await?, Frame::Pong(_)) {}
            }
        }
        visit.round_trip_ms = sent.elapsed().as_secs_f64() * 1000.0;
        Ok(())
    }

    /// As a client leaves that is done; nothing of it has to arrive.
    async fn leave(mut self, topic: Option<&str>) {
        if let Some(topic) = topic {
            let leave =
                Push { topic, event: "phx_leave", payload: &json!({}), reference: LEAVE, join: Some(JOIN) };
            let _ = self.push(leave).await;
        }
        let _ = self.socket.close(None).await;
    }

    async fn push(&mut self, push: Push<'_>) -> Step<()> {
        let text = self.serializer.write(&push);
        self.send(Frame::text(text)).await
    }

    async fn send(&mut self, frame: Frame) -> Step<()> {
        self.socket.send(frame).await.map_err(|error| Broken::closed(format!("the socket broke: {error}")))
    }

    async fn next(&mut self) -> Step<Frame> {
        match self.socket.next().await {
            Some(Ok(Frame::Close(frame))) => Err(Broken::closed(match frame {
                Some(frame) => {
                    format!("the server closed the socket: {} {}", u16::from(frame.code), frame.reason)
                }
                None => "the server closed the socket".to_owned(),
            })),
            Some(Ok(frame)) => Ok(frame),
            Some(Err(error)) => Err(Broken::closed(format!("the socket broke: {error}"))),
            None => Err(Broken::closed("the server closed the socket")),
        }
    }

    /// Waits until a push is confirmed. What else arrives on the channel is its members' business.
    async fn reply_to(&mut self, reference: &str, joined: &str) -> Step<()> {
        loop {
            let Frame::Text(text) = self.next().await? else { continue };
            let Some(message) = self.serializer.read(&text) else { continue };
            let Message { topic, event, payload, .. } = &message;
            match event.as_str() {
                "phx_reply" if message.reference.as_deref() == Some(reference) => return confirmed(payload),
                "phx_error" | "phx_close" if topic == joined => {
                    return Err(Broken::closed(format!("the channel ended with {event}")));
                }
                _ => {}
            }
        }
    }
}

fn confirmed(payload: &Value) -> Step<()> {
    if payload.get("status").and_then(Value::as_str) == Some("ok") {
        return Ok(());
    }
    let response = payload.get("response").unwrap_or(payload);
    let reason = match response.get("reason").unwrap_or(response) {
        Value::String(reason) => reason.clone(),
        other => other.to_string(),
    };
    Err(Broken::Refused { reason })
}
