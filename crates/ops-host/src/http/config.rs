//! What a configuration says about an endpoint.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ops_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

/// An endpoint, and what a healthy answer looks like. Headers may hold secrets, and are given beside it.
///
/// ```
/// let config: ops_host::HttpConfig = serde_json::from_str(
///     r#"{"url": "https://api.example.org/health", "json": {"/status": "healthy"}}"#,
/// ).unwrap();
/// assert_eq!(config.status, 200);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct HttpConfig {
    /// The address, `http://` or `https://` (`ws://` or `wss://` with a subscription), without credentials: those belong in headers.
    pub url: String,
    /// The status that a healthy endpoint answers with; 200 by default.
    #[serde(default = "ok")]
    pub status: u16,
    /// JSON pointers (RFC 6901) into the answer, each with the value expected there: `"/status" = "healthy"`.
    /// Values are equal, or they are not: `unhealthy` does not pass for `healthy`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub json: BTreeMap<String, Value>,
    /// A PEM file with certificate authorities to trust besides the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_certificate: Option<PathBuf>,
    /// How many redirects to follow; none by default, so that a redirect to a login page is no success. With
    /// headers configured, only those within the same scheme, host and port: any header may hold a secret.
    #[serde(default)]
    pub redirects: usize,
    /// A GraphQL query to ask by POST, in place of a GET: `{ health }`. Its answer must hold data and no errors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graphql: Option<String>,
    /// Joins a channel over a websocket, in place of a GET; the URL may then be `ws://` or `wss://`, which stand for
    /// `http://` and `https://`.
    #[cfg(feature = "ws")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription: Option<SubscriptionConfig>,
}

/// A channel to join, as Phoenix' clients do.
#[cfg(feature = "ws")]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct SubscriptionConfig {
    /// The channel's topic, such as `room:lobby`. Without one, the socket is opened and pinged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// What to join it with; nothing by default.
    #[serde(default = "nothing", skip_serializing_if = "is_nothing")]
    pub payload: Value,
}

#[cfg(feature = "ws")]
fn nothing() -> Value {
    serde_json::json!({})
}

#[cfg(feature = "ws")]
fn is_nothing(payload: &Value) -> bool {
    *payload == nothing()
}

#[cfg(feature = "ws")]
impl SubscriptionConfig {
    /// A channel by its topic.
    pub fn to(topic: impl Into<String>) -> Self {
        Self { topic: Some(topic.into()), payload: nothing() }
    }

    /// Joins it with this.
    #[must_use]
    pub fn with_payload(mut self, payload: Value) -> Self {
        self.payload = payload;
        self
    }
}

fn ok() -> u16 {
    200
}

impl HttpConfig {
    /// An endpoint that answers 200.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            status: ok(),
            json: BTreeMap::new(),
            root_certificate: None,
            redirects: 0,
            graphql: None,
            #[cfg(feature = "ws")]
            subscription: None,
        }
    }

    /// What no request can be made of, each with the place of what is wrong: a JSON pointer (RFC 6901) into the
    /// configuration.
    pub fn mistakes(&self) -> Vec<(String, Error)> {
        let mut mistakes: Vec<(String, Error)> = Vec::new();
        let mut wrong = |at: &str, mistake: Error| mistakes.push((at.to_owned(), mistake));
        let url = parse_url(&self.url);
        let is_socket = url.as_ref().is_ok_and(|url| is_sockets(url.scheme()));
        let joins = self.joins();
        match url {
            Err(mistake) => wrong("/url", mistake),
            Ok(_) if is_socket && !joins => wrong(
                "/url",
                invalid("a websocket is joined, and there is no subscription")
                    .with_fix("subscription = { topic = \"room:lobby\" }, or subscription = {}"),
            ),
            Ok(_) => {}
        }
        if !(100..=599).contains(&self.status) {
            wrong("/status", invalid(format!("status {} is none of HTTP's", self.status)));
        }
        for pointer in self.json.keys().filter(|pointer| !pointer.is_empty() && !pointer.starts_with('/')) {
            let at = format!("/json/{}", pointer.replace('~', "~0").replace('/', "~1"));
            wrong(
                &at,
                invalid(format!("{pointer:?} is no JSON pointer")).with_fix(format!("\"/{pointer}\"")),
            );
        }
        if let Some(query) = &self.graphql {
            let query = query.trim_start();
            if query.is_empty() || ["mutation", "subscription"].iter().any(|kind| query.starts_with(kind)) {
                let why = "graphql must be a query: a check changes nothing";
                wrong("/graphql", invalid(why).with_fix("graphql = \"{ __typename }\""));
            } else if joins {
                wrong("/graphql", invalid("an endpoint is asked a query, or joined by a subscription"));
            }
        }
        mistakes
    }

    #[cfg(feature = "ws")]
    pub(super) fn joins(&self) -> bool {
        self.subscription.is_some()
    }

    #[cfg(not(feature = "ws"))]
    pub(super) fn joins(&self) -> bool {
        false
    }

    /// Expects another status.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// Expects `value` at `pointer`.
    #[must_use]
    pub fn with_json(mut self, pointer: impl Into<String>, value: impl Into<Value>) -> Self {
        self.json.insert(pointer.into(), value.into());
        self
    }

    /// Trusts the authorities in this PEM file besides the system's.
    #[must_use]
    pub fn with_root_certificate(mut self, path: impl Into<PathBuf>) -> Self {
        self.root_certificate = Some(path.into());
        self
    }

    /// Asks this GraphQL query.
    #[must_use]
    pub fn with_graphql(mut self, query: impl Into<String>) -> Self {
        self.graphql = Some(query.into());
        self
    }

    /// Joins this channel.
    #[cfg(feature = "ws")]
    #[must_use]
    pub fn with_subscription(mut self, subscription: SubscriptionConfig) -> Self {
        self.subscription = Some(subscription);
        self
    }

    /// Follows up to this many redirects.
    #[must_use]
    pub fn with_redirects(mut self, redirects: usize) -> Self {
        self.redirects = redirects;
        self
    }
}

pub(super) fn invalid(why: impl AsRef<str>) -> Error {
    Error::new(ErrorKind::Configuration, "read the HTTP endpoint").because(why)
}

fn is_sockets(scheme: &str) -> bool {
    matches!(scheme, "ws" | "wss")
}

pub(super) fn parse_url(text: &str) -> Result<Url> {
    let url = Url::parse(text.trim()).map_err(|error| invalid(format!("the URL does not parse: {error}")))?;
    let sockets: &[&str] = if cfg!(feature = "ws") { &["ws", "wss"] } else { &[] };
    if !["http", "https"].iter().chain(sockets).any(|scheme| *scheme == url.scheme()) {
        let or = if cfg!(feature = "ws") { ", https://, ws:// or wss://" } else { " or https://" };
        return Err(invalid(format!("{}:// is not http://{or}", url.scheme())));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid("the URL holds credentials; they belong in a header")
            .with_fix("headers = { authorization = { env = \"API_AUTHORIZATION\" } }"));
    }
    Ok(url)
}
