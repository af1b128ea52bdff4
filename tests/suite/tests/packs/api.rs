//! The API of a pack, on a port of 127.0.0.1: each path with its answer.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::phoenix::{self, Channel, ChannelMood};

/// What clients show; the packs have it from `API_TOKEN`.
pub(crate) const TOKEN: &str = "a-token-of-the-monitoring";

/// Where its websocket is, with one channel: it can be joined while the answer of this path has the status 200, and is
/// otherwise refused for the reason that its body gives.
pub(crate) const SOCKET: &str = "/realtime/v1/websocket";
/// The channel that tells of new events.
pub(crate) const TOPIC: &str = "realtime:public:engagement_events";

type Answers = Arc<Mutex<BTreeMap<&'static str, (u16, &'static str)>>>;

/// It ends with this value.
pub(crate) struct Api {
    address: SocketAddr,
    healthy: &'static [(&'static str, &'static str)],
    answers: Answers,
    task: JoinHandle<()>,
}

impl Api {
    pub(crate) async fn start(healthy: &'static [(&'static str, &'static str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answers = Answers::default();
        let router =
            Router::new().route(SOCKET, any(socket)).fallback(answer).with_state(Arc::clone(&answers));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let api = Self { address, healthy, answers, task };
        api.recover();
        api
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers as at the start.
    pub(crate) fn recover(&self) {
        *self.answers.lock().unwrap() =
            self.healthy.iter().map(|(path, body)| (*path, (200, *body))).collect();
    }

    pub(crate) fn set(&self, path: &'static str, status: u16, body: &'static str) {
        self.answers.lock().unwrap().insert(path, (status, body));
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn socket(
    State(answers): State<Answers>,
    Query(asked): Query<BTreeMap<String, String>>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let mood = match answers.lock().unwrap().get(SOCKET) {
        Some((200, _)) => ChannelMood::Open,
        Some((_, reason)) => ChannelMood::Refusing(reason),
        None => return StatusCode::NOT_FOUND.into_response(),
    };
    if asked.get("apikey").map(String::as_str) != Some(TOKEN) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let channel = Channel { topic: TOPIC, token: Some(("access_token", TOKEN)), mood };
    phoenix::open(upgrade, asked.get("vsn").map(String::as_str), channel)
}

/// Health is everybody's to ask; the rest wants the token.
async fn answer(State(answers): State<Answers>, uri: Uri, headers: HeaderMap) -> Response {
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if uri.path() != "/health" && authorization != Some(&format!("Bearer {TOKEN}")) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let answer = answers.lock().unwrap().get(uri.path()).copied();
    let (status, body) = answer.unwrap_or((404, r#"{"message": "no such path"}"#));
    (StatusCode::from_u16(status).unwrap(), [(header::CONTENT_TYPE, "application/json")], body)
        .into_response()
}
