//! The API of a pack, on a port of 127.0.0.1: each path with its answer.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What clients show; the packs have it from `API_TOKEN`.
pub(crate) const TOKEN: &str = "a-token-of-the-monitoring";

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
        let router = Router::new().fallback(answer).with_state(Arc::clone(&answers));
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
