//! Phoenix' messages, as its two serializers write them.

use serde::Serialize;
use serde_json::{Value, json};
use url::Url;

/// How messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Serializer {
    /// Objects: `{"topic", "event", "payload", "ref", "join_ref"}`.
    V1,
    /// Arrays: `[join_ref, ref, topic, event, payload]`.
    V2,
}

/// A message to the server.
#[derive(Clone, Debug)]
pub(super) struct Push<'a> {
    pub(super) topic: &'a str,
    pub(super) event: &'a str,
    pub(super) payload: &'a Value,
    pub(super) reference: &'a str,
    /// The reference of the join that the message belongs to.
    pub(super) join: Option<&'a str>,
}

/// A message of the server's.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Message {
    pub(super) topic: String,
    pub(super) event: String,
    pub(super) payload: Value,
    pub(super) reference: Option<String>,
}

#[derive(Serialize)]
struct Object<'a> {
    topic: &'a str,
    event: &'a str,
    payload: &'a Value,
    #[serde(rename = "ref")]
    reference: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    join_ref: Option<&'a str>,
}

impl Serializer {
    /// The one that the URL asks for.
    pub(super) fn of(url: &Url) -> Self {
        let version = url.query_pairs().find(|(name, _)| name == "vsn");
        match version.is_some_and(|(_, version)| version.starts_with("2.")) {
            true => Self::V2,
            false => Self::V1,
        }
    }

    pub(super) fn write(self, push: &Push<'_>) -> String {
        let Push { topic, event, payload, reference, join: join_ref } = *push;
        match self {
            Self::V1 => json!(Object { topic, event, payload, reference, join_ref }).to_string(),
            Self::V2 => json!([join_ref, reference, topic, event, payload]).to_string(),
        }
    }

    /// `None` of what is no message.
    pub(super) fn read(self, text: &str) -> Option<Message> {
        let value: Value = serde_json::from_str(text).ok()?;
        let (reference, topic, event, payload) = match self {
            Self::V1 => (value.get("ref"), value.get("topic"), value.get("event"), value.get("payload")),
            Self::V2 => (value.get(1), value.get(2), value.get(3), value.get(4)),
        };
        Some(Message {
            topic: topic?.as_str()?.to_owned(),
            event: event?.as_str()?.to_owned(),
            payload: payload.cloned().unwrap_or_default(),
            reference: reference.and_then(Value::as_str).map(str::to_owned),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_serializer_reads_what_phoenix_writes() {
        let expected = Message {
            topic: "room:lobby".into(),
            event: "phx_reply".into(),
            payload: json!({"status": "ok", "response": {}}),
            reference: Some("1".into()),
        };
        for (serializer, text) in [
            (
                Serializer::V1,
                r#"{"topic":"room:lobby","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":"1"}"#,
            ),
            (Serializer::V2, r#"["1","1","room:lobby","phx_reply",{"status":"ok","response":{}}]"#),
        ] {
            assert_eq!(serializer.read(text), Some(expected.clone()), "{text}");
            assert_eq!(serializer.read("[]"), None);
        }
    }

    #[test]
    fn each_serializer_writes_what_phoenix_reads() {
        let payload = json!({});
        let push =
            Push { topic: "phoenix", event: "heartbeat", payload: &payload, reference: "2", join: None };
        assert_eq!(Serializer::V2.write(&push), r#"[null,"2","phoenix","heartbeat",{}]"#);
        let object: Value = serde_json::from_str(&Serializer::V1.write(&push)).unwrap();
        assert_eq!(object, json!({"topic": "phoenix", "event": "heartbeat", "payload": {}, "ref": "2"}));
    }

    #[test]
    fn the_url_decides() {
        for (url, expected) in [
            ("ws://h/socket/websocket", Serializer::V1),
            ("ws://h/socket/websocket?vsn=1.0.0", Serializer::V1),
            ("ws://h/socket/websocket?apikey=k&vsn=2.0.0", Serializer::V2),
        ] {
            assert_eq!(Serializer::of(&Url::parse(url).unwrap()), expected, "{url}");
        }
    }
}
