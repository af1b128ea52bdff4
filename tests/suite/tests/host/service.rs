//! A small HTTP service, with TLS or without, that is well or not, as told.

mod phoenix;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use ops_testkit::Identity;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use phoenix::{Channel, ChannelMood};

/// How it answers on `/health`, and a query of the same on `/graphql`, and whoever joins `room:lobby` on
/// `/socket/websocket`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// 200, and `{"status": "healthy"}`.
    Healthy,
    /// 200, and `{"status": "unhealthy"}`.
    Unhealthy,
    /// 200, and what GraphQL says of a resolver that failed.
    Failing,
    /// This status.
    Status(u16),
    /// As when healthy, after this long.
    Slow(Duration),
}

/// A service on a port of 127.0.0.1, until it is dropped.
pub(crate) struct Service {
    scheme: &'static str,
    address: SocketAddr,
    mood: Arc<Mutex<Mood>>,
    acceptor: Arc<Mutex<Option<TlsAcceptor>>>,
    task: JoinHandle<()>,
}

impl Service {
    /// A healthy one without TLS.
    pub(crate) async fn start() -> Self {
        Self::serve("http", None).await
    }

    /// A healthy one that shows this certificate.
    pub(crate) async fn start_tls(identity: &Identity) -> Self {
        Self::serve("https", Some(acceptor(identity))).await
    }

    async fn serve(scheme: &'static str, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mood = Arc::new(Mutex::new(Mood::Healthy));
        let acceptor = Arc::new(Mutex::new(tls));
        let router = Router::new()
            .route("/health", get(answer))
            .route("/graphql", post(graphql))
            .route("/socket/websocket", any(socket))
            .with_state(Arc::clone(&mood));
        let secure = Arc::clone(&acceptor);
        let task = tokio::spawn(async move {
            let served = if scheme == "http" {
                axum::serve(listener, router).await
            } else {
                axum::serve(TlsListener { listener, acceptor: secure }, router).await
            };
            served.unwrap();
        });
        Self { scheme, address, mood, acceptor, task }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("{}://{}/health", self.scheme, self.address)
    }

    pub(crate) fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// Shows another certificate from the next connection on.
    pub(crate) fn show(&self, identity: &Identity) {
        *self.acceptor.lock().unwrap() = Some(acceptor(identity));
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Takes one query, asked as the GraphQL over HTTP specification has it, and answers it like [`answer`].
async fn graphql(
    State(mood): State<Arc<Mutex<Mood>>>,
    headers: HeaderMap,
    Json(request): Json<serde_json::Value>,
) -> Response {
    let accepts = headers.get("accept").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if request != serde_json::json!({"query": "{ status }"})
        || !accepts.contains("application/graphql-response+json")
    {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let now = *mood.lock().unwrap();
    match now {
        Mood::Healthy => r#"{"data": {"status": "healthy"}}"#.into_response(),
        Mood::Unhealthy => r#"{"data": {"status": "unhealthy"}}"#.into_response(),
        Mood::Failing => {
            r#"{"data": null, "errors": [{"message": "timeout", "path": ["status"]}]}"#.into_response()
        }
        Mood::Status(status) => StatusCode::from_u16(status).unwrap().into_response(),
        Mood::Slow(by) => {
            tokio::time::sleep(by).await;
            r#"{"data": {"status": "healthy"}}"#.into_response()
        }
    }
}

/// `room:lobby`, for whoever has the token.
async fn socket(
    State(mood): State<Arc<Mutex<Mood>>>,
    Query(asked): Query<BTreeMap<String, String>>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let now = *mood.lock().unwrap();
    let mood = match now {
        Mood::Status(status) => return StatusCode::from_u16(status).unwrap().into_response(),
        Mood::Healthy => ChannelMood::Open,
        Mood::Unhealthy => ChannelMood::Refusing("join crashed"),
        Mood::Failing => ChannelMood::Ending,
        Mood::Slow(by) => ChannelMood::Slow(by),
    };
    let channel = Channel { topic: "room:lobby", token: Some(("token", "hunter2")), mood };
    phoenix::open(upgrade, asked.get("vsn").map(String::as_str), channel)
}

async fn answer(State(mood): State<Arc<Mutex<Mood>>>) -> Response {
    let now = *mood.lock().unwrap();
    match now {
        Mood::Healthy => r#"{"status": "healthy"}"#.into_response(),
        Mood::Unhealthy | Mood::Failing => r#"{"status": "unhealthy"}"#.into_response(),
        Mood::Status(status) => StatusCode::from_u16(status).unwrap().into_response(),
        Mood::Slow(by) => {
            tokio::time::sleep(by).await;
            r#"{"status": "healthy"}"#.into_response()
        }
    }
}

fn acceptor(identity: &Identity) -> TlsAcceptor {
    let chain = vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    // By name: taking the process's default would install one, and hide that a client forgot to name its own.
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// Accepts who gets through the handshake.
struct TlsListener {
    listener: TcpListener,
    acceptor: Arc<Mutex<Option<TlsAcceptor>>>,
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((socket, address)) = self.listener.accept().await else { continue };
            let acceptor = self.acceptor.lock().unwrap().clone();
            let Some(acceptor) = acceptor else { continue };
            if let Ok(stream) = acceptor.accept(socket).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}
