//! A Phoenix socket, strict: who does not speak as Phoenix' own clients do is not answered, or cut off.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::Mood;

/// The one channel.
const LOBBY: &str = "room:lobby";
/// What one joins it with.
const TOKEN: &str = "hunter2";

pub(crate) async fn socket(
    State(mood): State<Arc<Mutex<Mood>>>,
    Query(asked): Query<BTreeMap<String, String>>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let now = *mood.lock().unwrap();
    if let Mood::Status(status) = now {
        return StatusCode::from_u16(status).unwrap().into_response();
    }
    let arrays = match asked.get("vsn").map(String::as_str) {
        None | Some("1.0.0") => false,
        Some("2.0.0") => true,
        Some(_) => return StatusCode::FORBIDDEN.into_response(),
    };
    upgrade.on_upgrade(move |socket| talk(socket, now, arrays))
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

async fn talk(mut socket: WebSocket, mood: Mood, arrays: bool) {
    let mut joined = false;
    while let Some(Ok(frame)) = socket.recv().await {
        let Message::Text(text) = frame else { continue };
        let push = Push::read(&text, arrays);
        if let Mood::Slow(by) = mood {
            tokio::time::sleep(by).await;
        }
        let replies = match (push.event.as_str(), push.topic.as_str()) {
            ("heartbeat", "phoenix") => vec![push.reply(arrays, "ok", json!({}))],
            ("phx_join", LOBBY) if mood == Mood::Unhealthy => {
                vec![push.reply(arrays, "error", json!({"reason": "join crashed"}))]
            }
            ("phx_join", LOBBY) if push.payload["token"] != TOKEN => {
                vec![push.reply(arrays, "error", json!({"reason": "unauthorized"}))]
            }
            ("phx_join", LOBBY) => {
                assert_eq!(push.join, push.reference, "a join is its own");
                joined = true;
                // The members come before and after: they are not the answer.
                let members = push.message(arrays, "presence_state", json!({}), &Value::Null);
                let mut replies = vec![members.clone(), push.reply(arrays, "ok", json!({})), members];
                if mood == Mood::Failing {
                    replies.push(push.message(arrays, "phx_error", json!({}), &push.reference));
                }
                replies
            }
            ("phx_join", _) => vec![push.reply(arrays, "error", json!({"reason": "unmatched topic"}))],
            ("phx_leave", LOBBY) if joined => {
                joined = false;
                vec![push.reply(arrays, "ok", json!({}))]
            }
            // As Phoenix: somebody who is not in the channel.
            _ => vec![push.reply(arrays, "error", json!({"reason": "unmatched topic"}))],
        };
        for reply in replies {
            if socket.send(reply).await.is_err() {
                return;
            }
        }
    }
}
