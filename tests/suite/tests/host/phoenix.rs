//! A Phoenix socket, strict: who does not speak as Phoenix' own clients do is cut off.

use std::time::Duration;

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// The one channel of a socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Channel {
    pub(crate) topic: &'static str,
    /// The key of the payload to join it with, and its value.
    pub(crate) token: Option<(&'static str, &'static str)>,
    pub(crate) mood: ChannelMood,
}

/// How it takes who joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChannelMood {
    /// As it should.
    Open,
    /// After this long, each time.
    Slow(Duration),
    /// Not at all, for this reason.
    Refusing(&'static str),
    /// It does, and ends.
    Ending,
}

/// Opens a socket for the version of the protocol that `vsn` names, 1 where it names none.
pub(crate) fn open(upgrade: WebSocketUpgrade, vsn: Option<&str>, channel: Channel) -> Response {
    let arrays = match vsn {
        None | Some("1.0.0") => false,
        Some("2.0.0") => true,
        Some(_) => return StatusCode::FORBIDDEN.into_response(),
    };
    upgrade.on_upgrade(move |socket| talk(socket, channel, arrays))
}

struct Push {
    join: Value,
    reference: Value,
    topic: String,
    event: String,
    payload: Value,
}

impl Push {
    fn read(text: &str, arrays: bool) -> Self {
        let value: Value = serde_json::from_str(text).expect("JSON");
        let part = |index: usize, key: &str| if arrays { value[index].clone() } else { value[key].clone() };
        let text = |value: Value| value.as_str().expect("a text").to_owned();
        let push = Self {
            join: part(0, "join_ref"),
            reference: part(1, "ref"),
            topic: text(part(2, "topic")),
            event: text(part(3, "event")),
            payload: part(4, "payload"),
        };
        assert!(push.reference.is_string() && push.payload.is_object(), "{value}");
        push
    }

    fn reply(&self, arrays: bool, status: &str, response: Value) -> Message {
        self.message(arrays, "phx_reply", json!({"status": status, "response": response}), &self.reference)
    }

    fn message(&self, arrays: bool, event: &str, payload: Value, reference: &Value) -> Message {
        let (join, topic) = (&self.join, &self.topic);
        let value = match arrays {
            true => json!([join, reference, topic, event, payload]),
            false => json!({"topic": topic, "event": event, "payload": payload, "ref": reference}),
        };
        Message::text(value.to_string())
    }
}

async fn talk(mut socket: WebSocket, channel: Channel, arrays: bool) {
    let mut joined = false;
    while let Some(Ok(frame)) = socket.recv().await {
        let Message::Text(text) = frame else { continue };
        let push = Push::read(&text, arrays);
        if let ChannelMood::Slow(by) = channel.mood {
            tokio::time::sleep(by).await;
        }
        let replies = if push.event == "heartbeat" && push.topic == "phoenix" {
            vec![push.reply(arrays, "ok", json!({}))]
        } else if push.event == "phx_join" && push.topic == channel.topic {
            let replies = channel.join(&push, arrays);
            joined = replies.len() > 1;
            replies
        } else if push.event == "phx_leave" && push.topic == channel.topic && joined {
            joined = false;
            vec![push.reply(arrays, "ok", json!({}))]
        } else {
            vec![push.reply(arrays, "error", json!({"reason": "unmatched topic"}))]
        };
        for reply in replies {
            if socket.send(reply).await.is_err() {
                return;
            }
        }
    }
}

impl Channel {
    fn join(&self, push: &Push, arrays: bool) -> Vec<Message> {
        assert_eq!(push.join, push.reference, "a join is its own");
        let refused = |reason: &str| vec![push.reply(arrays, "error", json!({"reason": reason}))];
        if let ChannelMood::Refusing(reason) = self.mood {
            return refused(reason);
        }
        if self.token.is_some_and(|(key, token)| push.payload[key] != token) {
            return refused("unauthorized");
        }
        // The members come before and after: they are not the answer.
        let members = push.message(arrays, "presence_state", json!({}), &Value::Null);
        let mut replies = vec![members.clone(), push.reply(arrays, "ok", json!({})), members];
        if self.mood == ChannelMood::Ending {
            replies.push(push.message(arrays, "phx_error", json!({}), &push.reference));
        }
        replies
    }
}
