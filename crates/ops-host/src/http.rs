//! HTTP endpoints: their configuration, their probes, and how one is bound.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use ops_core::{Context, Error, ErrorKind, HealthProbe, Limits, ProbeReport, ProbeSpec, Result, Secret};
use reqwest::header::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use crate::probes;

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
    fn joins(&self) -> bool {
        self.subscription.is_some()
    }

    #[cfg(not(feature = "ws"))]
    fn joins(&self) -> bool {
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

/// An endpoint to look at. Cheap to clone. Prints without its headers.
#[derive(Clone)]
pub struct HttpTarget {
    shared: Arc<Shared>,
}

struct Shared {
    name: String,
    config: HttpConfig,
    url: Url,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Debug for HttpTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpTarget")
            .field("name", &self.name())
            .field("url", &self.display())
            .finish_non_exhaustive()
    }
}

impl HttpTarget {
    /// Checks the configuration; connects to nothing.
    ///
    /// ```
    /// use ops_core::Secret;
    /// use ops_host::{HttpConfig, HttpTarget};
    /// let token = Secret::from("Bearer hunter2".to_owned());
    /// let headers = vec![("authorization".to_owned(), token)];
    /// let api = HttpTarget::new("api", HttpConfig::new("https://api.example.org/health"), headers).unwrap();
    /// assert!(!format!("{api:?}").contains("hunter2"));
    /// ```
    ///
    /// # Errors
    /// `Configuration` for what no request can be made of.
    pub fn new(name: impl Into<String>, config: HttpConfig, headers: Vec<(String, Secret)>) -> Result<Self> {
        let name = name.into();
        if let Some((_, mistake)) = config.mistakes().into_iter().next() {
            return Err(mistake);
        }
        let url = parse_url(&config.url)?;
        let headers = headers.iter().map(|(name, value)| header(name, value)).collect::<Result<_>>()?;
        Ok(Self { shared: Arc::new(Shared { name, config, url, headers }) })
    }

    /// The name that the configuration gives it.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Its configuration.
    pub fn config(&self) -> &HttpConfig {
        &self.shared.config
    }

    /// The address without its query, which may hold a token.
    pub fn display(&self) -> String {
        let mut url = self.shared.url.clone();
        url.set_query(None);
        url.set_fragment(None);
        url.to_string()
    }

    /// A probe that looks at this endpoint.
    pub fn bind(&self, probe: &'static dyn HttpProbe, limits: Limits) -> BoundHttpProbe {
        BoundHttpProbe { endpoint: self.clone(), probe, limits }
    }

    #[cfg(feature = "ws")]
    pub(crate) fn url(&self) -> &Url {
        &self.shared.url
    }

    pub(crate) fn is_websocket(&self) -> bool {
        self.shared.config.joins()
    }

    /// The address of the request: a websocket begins as one.
    pub(crate) fn request_url(&self) -> Url {
        let mut url = self.shared.url.clone();
        let scheme = match url.scheme() {
            "ws" => "http",
            "wss" => "https",
            _ => return url,
        };
        // Both are schemes of the web's: this cannot fail.
        let _ = url.set_scheme(scheme);
        url
    }

    pub(crate) fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.shared.headers
    }
}

fn invalid(why: impl AsRef<str>) -> Error {
    Error::new(ErrorKind::Configuration, "read the HTTP endpoint").because(why)
}

fn is_sockets(scheme: &str) -> bool {
    matches!(scheme, "ws" | "wss")
}

fn parse_url(text: &str) -> Result<Url> {
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

fn header(name: &str, value: &Secret) -> Result<(HeaderName, HeaderValue)> {
    use ops_core::redact::ExposeSecret;
    let parsed = HeaderName::try_from(name).map_err(|_| invalid(format!("{name:?} is no header name")))?;
    let mut value = HeaderValue::try_from(value.expose_secret())
        .map_err(|_| invalid(format!("the value of header {name} has characters that no header may have")))?;
    value.set_sensitive(true);
    Ok((parsed, value))
}

/// Looks at one thing about an endpoint. The contract is [`HealthProbe`]'s.
///
/// ```
/// use ops_core::{Context, Limits, ProbeReport, ProbeSpec, Result};
/// use ops_host::{HttpProbe, HttpTarget};
///
/// #[derive(Debug)]
/// struct Named;
///
/// #[async_trait::async_trait]
/// impl HttpProbe for Named {
///     fn spec(&self) -> &'static ProbeSpec {
/// #       ops_host::http_registry()[0].spec()
///         // …
///     }
///     async fn probe(&self, _cx: &Context, endpoint: &HttpTarget, _limits: &Limits) -> Result<ProbeReport> {
///         Ok(ProbeReport::new(format!("{} is configured", endpoint.display())))
///     }
/// }
/// ```
#[async_trait]
pub trait HttpProbe: Send + Sync + Debug {
    /// What it is called, why it matters, what it needs.
    fn spec(&self) -> &'static ProbeSpec;

    /// Looks once.
    async fn probe(&self, cx: &Context, endpoint: &HttpTarget, limits: &Limits) -> Result<ProbeReport>;
}

/// All built-in probes of endpoints. A new one is its own file, its `mod` line, and its line here.
pub fn http_registry() -> &'static [&'static dyn HttpProbe] {
    &[
        &probes::endpoint::Endpoint,
        &probes::graphql::Graphql,
        #[cfg(feature = "ws")]
        &probes::subscription::Subscription,
    ]
}

/// A probe with its endpoint and its thresholds: what [`HttpTarget::bind`] makes.
#[derive(Clone, Debug)]
pub struct BoundHttpProbe {
    endpoint: HttpTarget,
    probe: &'static dyn HttpProbe,
    limits: Limits,
}

#[async_trait]
impl HealthProbe for BoundHttpProbe {
    fn name(&self) -> &str {
        self.probe.spec().name
    }

    async fn probe(&self, cx: &Context) -> Result<ProbeReport> {
        self.probe.probe(cx, &self.endpoint, &self.limits).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_request_can_be_made_of_is_refused_without_its_secrets() {
        let plain = HttpConfig::new("https://api/health");
        for (config, header, words) in [
            (HttpConfig::new("api/health"), "x-a", "does not parse"),
            (HttpConfig::new("ftp://api"), "x-a", "ftp://"),
            (HttpConfig::new("https://u:hunter2@api"), "x-a", "belong in a header"),
            (plain.clone().with_status(20), "x-a", "status 20"),
            (plain.clone().with_json("status", "ok"), "x-a", "no JSON pointer"),
            (plain.clone().with_graphql("mutation { x }"), "x-a", "must be a query"),
            #[cfg(feature = "ws")]
            (HttpConfig::new("wss://api/socket"), "x-a", "there is no subscription"),
            (plain.clone(), "x a", "no header name"),
        ] {
            let headers = vec![(header.to_owned(), Secret::from("hunter2".to_owned()))];
            let error = HttpTarget::new("api", config, headers).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration);
            assert!(
                error.to_string().contains(words) && !format!("{error:?}").contains("hunter2"),
                "{error}"
            );
        }
        let broken = vec![("x-a".to_owned(), Secret::from("hunter2\n".to_owned()))];
        let error = HttpTarget::new("api", plain, broken).unwrap_err();
        assert!(!format!("{error:?}").contains("hunter2"), "{error}");
    }

    #[test]
    fn the_address_is_shown_without_its_query() {
        let target =
            HttpTarget::new("api", HttpConfig::new("https://api/h?token=hunter2"), Vec::new()).unwrap();
        assert_eq!(target.display(), "https://api/h");
    }
}
