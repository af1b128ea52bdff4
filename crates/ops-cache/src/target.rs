//! A server to look at: one connection, one `INFO` a run, one cause when it is out of reach.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use ops_core::{Context, Error, ErrorKind, Limits, ProbeSet, Result, RunId, Secret};
use redis::aio::{ConnectionLike, ConnectionManager, MultiplexedConnection};
use redis::{Cmd, RedisResult, Value};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;

use crate::address::Address;
use crate::config::RedisOptions;
use crate::connect;
use crate::error::{Peer, of_redis};
use crate::info::Info;
use crate::probe::{BoundProbe, RedisProbe, is_sentinel, registry};
use crate::probes::settings::{self, Settings};

/// A Redis or Valkey server. Cheap to clone; clones share the connection.
///
/// One command is in flight at a time, so a check takes no more of the server than one client. A connection that
/// fails stays failed for the run (see [`Context::run_id`]): the other probes of the run get the same cause at
/// once, and the next run tries anew. A connection kept from an earlier run and found cut is made anew once.
///
/// Cancellation drops the connection with the command that was in flight, and leaves nothing behind.
///
/// ```
/// use ops_cache::{RedisOptions, RedisTarget};
/// use ops_core::Secret;
/// let url = Secret::from("redis://:hunter2@cache:6379".to_owned());
/// let target = RedisTarget::connect_lazily("cache", &url, RedisOptions::default()).unwrap();
/// assert_eq!(target.address(), "cache:6379");
/// assert!(!format!("{target:?}").contains("hunter2"));
/// ```
#[derive(Clone, Debug)]
pub struct RedisTarget {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    display: String,
    user: String,
    source: Source,
    session: Mutex<Session>,
}

/// Where connections come from.
#[derive(Debug)]
enum Source {
    Url(Box<Address>, RedisOptions),
    Given,
}

#[derive(Clone)]
enum Link {
    Own(MultiplexedConnection),
    Given(ConnectionManager),
}

/// What the probes of one run share.
#[derive(Default)]
struct Session {
    run: Option<RunId>,
    link: Option<Link>,
    /// Whether the link has answered in this run: an older one may have been cut meanwhile.
    proven: bool,
    failed: Option<Error>,
    /// Asking again would add nothing but entries to the server's ACL LOG.
    info_refused: Option<Error>,
    info: Option<Arc<InfoReading>>,
    settings: Option<Arc<Settings>>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("run", &self.run)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

/// One `INFO`, and when it was read.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct InfoReading {
    /// The reply.
    pub info: Info,
    /// The wall time it was read at.
    pub at: DateTime<Utc>,
    pub(crate) read: Instant,
}

impl RedisTarget {
    /// A target that connects when it is first asked. Only the URL is checked here.
    ///
    /// What probes read concerns the whole server. A database other than 0 in the URL is selected all the same: one
    /// that the server does not have is a mistake in the URL, and every probe says so.
    ///
    /// # Errors
    /// `InvalidInput` when the URL makes no sense, and the message does not repeat it; `Configuration` when a root
    /// certificate is given and the URL asks for no TLS.
    pub fn connect_lazily(name: impl Into<String>, url: &Secret, options: RedisOptions) -> Result<Self> {
        let address = Address::parse(url)?;
        if options.root_certificate.is_some() && !address.is_tls() {
            return Err(Error::new(ErrorKind::Configuration, "read the Redis URL")
                .on(address.to_string())
                .because("a root certificate is given, and the URL asks for no TLS")
                .with_fix("rediss:// in place of redis://"));
        }
        let (display, user) = (address.to_string(), address.user().to_owned());
        Ok(Self::new(name.into(), display, user, Source::Url(Box::new(address), options), Session::default()))
    }

    /// A target on a connection that the service has already. Reconnecting is the manager's business.
    pub fn from_connection(name: impl Into<String>, connection: ConnectionManager) -> Self {
        let name = name.into();
        let session = Session { link: Some(Link::Given(connection)), ..Session::default() };
        Self::new(name.clone(), name, "<user>".to_owned(), Source::Given, session)
    }

    fn new(name: String, display: String, user: String, source: Source, session: Session) -> Self {
        Self { shared: Arc::new(Shared { name, display, user, source, session: Mutex::new(session) }) }
    }

    /// The name that the configuration gives it.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// `host:port`, or the path of a socket; the name for a connection that was given.
    pub fn address(&self) -> &str {
        &self.shared.display
    }

    /// The user that the server's ACL knows us by.
    pub fn user(&self) -> &str {
        &self.shared.user
    }

    /// `redis-cli` with what reaches this server, for a person to type; never a password.
    pub(crate) fn cli(&self) -> String {
        match &self.shared.source {
            Source::Url(address, _) => address.cli(),
            Source::Given => "redis-cli".to_owned(),
        }
    }

    /// Whether it selects a database: each connection begins in number 0.
    pub(crate) fn selects(&self) -> bool {
        matches!(&self.shared.source, Source::Url(address, _) if address.database != 0)
    }

    /// Adds every built-in probe, with its default thresholds.
    pub fn add_all_to(&self, set: &mut ProbeSet) {
        for probe in registry() {
            let spec = probe.spec();
            set.add_grouped(self.name(), None, spec.group, self.bind(*probe, Limits::defaults(spec)));
        }
    }

    /// A probe that looks at this target.
    pub fn bind(&self, probe: &'static dyn RedisProbe, limits: Limits) -> BoundProbe {
        BoundProbe::new(self.clone(), probe, limits)
    }

    /// The `INFO` of this run, read once.
    ///
    /// # Errors
    /// Those of [`RedisTarget::query`].
    pub async fn info(&self, cx: &Context) -> Result<Arc<InfoReading>> {
        self.info_since(cx, None).await
    }

    /// An `INFO` read at `not_before` or later: what a window's second sample needs.
    ///
    /// # Errors
    /// Those of [`RedisTarget::query`].
    pub async fn info_since(&self, cx: &Context, not_before: Option<Instant>) -> Result<Arc<InfoReading>> {
        let mut session = self.session(cx).await?;
        if let Some(reading) = &session.info
            && not_before.is_none_or(|not_before| reading.read >= not_before)
        {
            return Ok(Arc::clone(reading));
        }
        if let Some(refusal) = &session.info_refused {
            return Err(refusal.clone());
        }
        let reply = match self.exchange(cx, &mut session, "run INFO", &redis::cmd("INFO")).await {
            Ok((reply, _)) => reply,
            Err(error) => {
                session.info_refused = (error.kind() == ErrorKind::PermissionDenied).then(|| error.clone());
                return Err(error);
            }
        };
        let text = match reply {
            Value::BulkString(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Value::VerbatimString { text, .. } => text,
            Value::SimpleString(text) => text,
            _ => {
                return Err(Error::new(ErrorKind::Configuration, "run INFO")
                    .on(self.address())
                    .because("what answers there does not speak as Redis does"));
            }
        };
        let reading = Arc::new(InfoReading { info: Info::parse(&text), at: cx.now(), read: Instant::now() });
        session.info = Some(Arc::clone(&reading));
        Ok(reading)
    }

    /// Whether the server is a sentinel, which watches others and holds no data.
    ///
    /// # Errors
    /// Those of [`RedisTarget::query`].
    pub async fn is_sentinel(&self, cx: &Context) -> Result<bool> {
        Ok(is_sentinel(&self.info(cx).await?.info))
    }

    /// What the server is set to log, asked for once a run; that it is hidden is an answer.
    pub(crate) async fn settings(&self, cx: &Context) -> Result<Arc<Settings>> {
        let mut session = self.session(cx).await?;
        if let Some(settings) = &session.settings {
            return Ok(Arc::clone(settings));
        }
        let answer = self.exchange(cx, &mut session, "run CONFIG GET", &settings::get()).await;
        let settings = Arc::new(Settings::of(answer)?);
        session.settings = Some(Arc::clone(&settings));
        Ok(settings)
    }

    /// Sends one command that reads. `operation` is a verb phrase for messages, such as `run PING`. Returns the
    /// reply, and what it took from sending to receiving.
    ///
    /// A command that the user may not run fails alone, as `PermissionDenied` with the `ACL SETUSER` that grants
    /// it. What fails the connection fails the run.
    ///
    /// # Errors
    /// As the crate's table maps them: `Unreachable`, `Timeout`, `Unauthenticated`, `Tls`, `PermissionDenied`,
    /// `Busy` while the server loads, `Exhausted` when it takes no more clients.
    pub async fn query(&self, cx: &Context, operation: &'static str, cmd: &Cmd) -> Result<(Value, Duration)> {
        let mut session = self.session(cx).await?;
        self.exchange(cx, &mut session, operation, cmd).await
    }

    /// Waits for this run's turn at the connection.
    async fn session(&self, cx: &Context) -> Result<MutexGuard<'_, Session>> {
        let turn = async { Ok(cx.waiting(self.shared.session.lock()).await) };
        let mut session = cx.run("wait for a turn", turn).await.map_err(|error| error.on(self.address()))?;
        if session.run != Some(cx.run_id()) {
            let link = session.link.take();
            *session = Session { run: Some(cx.run_id()), link, ..Session::default() };
        }
        match &session.failed {
            Some(cause) => Err(cause.clone()),
            None => Ok(session),
        }
    }

    async fn exchange(
        &self,
        cx: &Context,
        session: &mut Session,
        operation: &'static str,
        cmd: &Cmd,
    ) -> Result<(Value, Duration)> {
        let kept = session.link.is_some() && !session.proven;
        let mut outcome = self.attempt(cx, session, operation, cmd).await;
        if kept && matches!(&outcome, Err(error) if error.kind() == ErrorKind::Unreachable) {
            self.drop_link(session);
            outcome = self.attempt(cx, session, operation, cmd).await;
        }
        match &outcome {
            Ok(_) => session.proven = true,
            // The command that was in flight has no reader any more.
            Err(error) if error.kind() == ErrorKind::Cancelled => self.drop_link(session),
            // Without a link, it is the connection that could not be made.
            Err(error) if session.link.is_none() || concerns_the_connection(error.kind()) => {
                self.drop_link(session);
                session.failed = Some(error.clone());
            }
            Err(_) => session.proven = true,
        }
        outcome
    }

    async fn attempt(
        &self,
        cx: &Context,
        session: &mut Session,
        operation: &'static str,
        cmd: &Cmd,
    ) -> Result<(Value, Duration)> {
        let mut link = match &session.link {
            Some(link) => link.clone(),
            None => {
                let Source::Url(address, options) = &self.shared.source else {
                    return Err(Error::new(ErrorKind::Bug, operation).because("a given connection is gone"));
                };
                let link = Link::Own(connect::open(cx, address, options).await?);
                session.link.insert(link).clone()
            }
        };
        let started = Instant::now();
        let sent = cx.run(operation, async { Ok(link.send(cmd).await) }).await;
        let took = started.elapsed();
        cx.cost().round_trip(took);
        let peer = Peer { address: self.address(), user: &self.shared.user };
        let reply = sent
            .map_err(|error| error.on(self.address()))?
            .and_then(Value::extract_error)
            .map_err(|error| of_redis(error, operation, peer))?;
        Ok((reply, took))
    }

    fn drop_link(&self, session: &mut Session) {
        if matches!(self.shared.source, Source::Url(..)) {
            session.link = None;
        }
    }
}

impl Link {
    async fn send(&mut self, cmd: &Cmd) -> RedisResult<Value> {
        match self {
            Link::Own(connection) => connection.req_packed_command(cmd).await,
            Link::Given(connection) => connection.req_packed_command(cmd).await,
        }
    }
}

/// Whether an error would meet every other command too.
fn concerns_the_connection(kind: ErrorKind) -> bool {
    use ErrorKind::{Configuration, Exhausted, Timeout, Tls, Unauthenticated, Unreachable};
    matches!(kind, Configuration | Exhausted | Timeout | Tls | Unauthenticated | Unreachable)
}

#[cfg(test)]
#[path = "target_tests.rs"]
mod tests;
