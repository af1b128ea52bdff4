//! One PostgreSQL database to look at, over one connection, without harm.

mod notify;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ops_core::{Context, Error, ErrorKind, Result, Retry, Secret};
use sqlx::postgres::{PgConnectOptions, PgPool};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;

pub(crate) use self::notify::Notified;
use crate::capabilities::{self, Capabilities};
use crate::config::{Databases, Every, PgConfig};
use crate::error::translate;
use crate::pgbouncer::Console;
use crate::row::Row;
use crate::session::{Link, Ready, Session};
use crate::url::{address_of, parse_url};

/// Opens every read: nothing is written, and nothing is waited for long. The server's time-out comes before a
/// probe's own (5 s), so that a slow statement is known from a frozen server. Constant text, so that
/// `pg_stat_statements` keeps one entry for it.
const OPEN: &str = "BEGIN READ ONLY; SET LOCAL statement_timeout = 4500; SET LOCAL lock_timeout = 100";

/// Before ops's own statements: nothing of the user's `search_path` is called by accident (CVE-2018-1058), and no
/// time goes into compiling catalogue queries.
const OWN: &str = "SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL jit = off";

/// Who the server is, where we may ask for it.
pub(crate) const IDENTITY: &str = "SELECT system_identifier::text AS identity FROM pg_control_system()";

/// Those of RDS, Azure and Cloud SQL let nobody in but the provider.
const EVERY_DATABASE: &str = "
SELECT datname::text AS name FROM pg_database
 WHERE datallowconn AND NOT datistemplate
   AND datname NOT IN ('rdsadmin', 'azure_maintenance', 'azure_sys', 'cloudsqladmin') ORDER BY datname";

/// What a second connection may take to cancel what the first one left running.
const CANCEL_TIME: Duration = Duration::from_millis(800);

/// A database, and the one connection through which all its probes look. Cheap to clone; clones share the
/// connection. Each run makes its own, when first needed. When it cannot be made, or the server stops answering
/// on it, every further probe of that run fails at once with the same cause: a frozen server costs its deadline
/// once.
///
/// ```no_run
/// use ops_core::{Context, ProbeSet, Secret};
/// use ops_pg::{PgConfig, PgTarget};
///
/// # async fn example() -> ops_core::Result<()> {
/// let url = Secret::from("postgres://monitor@db.internal/shop".to_owned());
/// let shop = PgTarget::connect_lazily("shop", &url, PgConfig::default())?;
/// let mut probes = ProbeSet::new("shop");
/// shop.add_all_to(&mut probes);
/// let report = probes.run(&Context::new()).await;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct PgTarget {
    inner: Arc<Inner>,
}

#[derive(Clone)]
struct Inner {
    name: String,
    address: String,
    config: PgConfig,
    source: Source,
    pgbouncer: Option<Console>,
    /// Shared by the targets of one cluster's databases: they take turns on one connection.
    session: Arc<Mutex<Session>>,
}

#[derive(Clone)]
enum Source {
    Options { options: Box<PgConnectOptions>, tag: String },
    Pool(PgPool),
}

impl Inner {
    fn of_options(
        name: String,
        options: PgConnectOptions,
        config: PgConfig,
        session: Arc<Mutex<Session>>,
    ) -> Self {
        // The name under which a second connection finds what the first one left running, also behind a pooler,
        // where process ids are other people's a moment later.
        let tag = format!("ops:{}", &uuid::Uuid::now_v7().simple().to_string()[20..]);
        let options = options
            .application_name(&tag)
            // PgBouncer refuses start-up parameters that it does not know.
            .extra_float_digits(None)
            .statement_cache_capacity(0)
            .disable_statement_logging();
        let address = address_of(&options);
        let source = Source::Options { options: Box::new(options), tag };
        Self { name, address, config, source, pgbouncer: None, session }
    }
}

impl fmt::Debug for PgTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgTarget")
            .field("name", &self.inner.name)
            .field("address", &self.inner.address)
            .finish()
    }
}

impl PgTarget {
    /// A target that connects by itself, when first asked. What the URL leaves open, the driver takes from
    /// `PGUSER`, `PGPASSWORD` and their like, and from `.pgpass`, as `psql` does.
    ///
    /// # Errors
    /// `InvalidInput` when the URL is none of PostgreSQL's; the message never repeats it.
    pub fn connect_lazily(name: impl Into<String>, url: &Secret, config: PgConfig) -> Result<Self> {
        let name = name.into();
        let mut options = parse_url(&name, url)?;
        if let Some(file) = &config.root_certificate {
            options = options.ssl_root_cert(file);
        }
        if let Some(database) = config.databases.named().first() {
            options = options.database(database);
        }
        Ok(Self::from_options(name, options, config))
    }

    /// A target that connects by these options, when first asked.
    pub fn from_options(name: impl Into<String>, options: PgConnectOptions, config: PgConfig) -> Self {
        let inner = Inner::of_options(name.into(), options, config, Arc::default());
        Self { inner: Arc::new(inner) }
    }

    /// A target that borrows a connection of the service's own pool for each read, and opens none beside it.
    pub fn from_pool(name: impl Into<String>, pool: PgPool, config: PgConfig) -> Self {
        let address = address_of(&pool.connect_options());
        let (name, source) = (name.into(), Source::Pool(pool));
        Self {
            inner: Arc::new(Inner {
                name,
                address,
                config,
                source,
                pgbouncer: None,
                session: Arc::default(),
            }),
        }
    }

    /// The same server and settings, for another of its databases. The two take turns on one connection: a
    /// cluster is never probed over two at once. A pool knows one database only, so a target made of one stays
    /// as it is.
    #[must_use]
    pub fn for_database(&self, database: &str) -> Self {
        let Source::Options { options, .. } = &self.inner.source else { return self.clone() };
        let options = options.as_ref().clone().database(database);
        let session = Arc::clone(&self.inner.session);
        let mut inner =
            Inner::of_options(self.inner.name.clone(), options, self.inner.config.clone(), session);
        inner.pgbouncer.clone_from(&self.inner.pgbouncer);
        Self { inner: Arc::new(inner) }
    }

    /// The targets of the server's databases that the configuration names, this one first. "all" asks the server:
    /// every database that accepts connections, save templates and those that a provider keeps for itself.
    ///
    /// # Errors
    /// Those of [`PgTarget::read`], where it has to ask.
    pub async fn databases(&self, cx: &Context) -> Result<Vec<Self>> {
        let named = match &self.inner.config.databases {
            Databases::Named(names) => names.get(1..).unwrap_or_default().to_vec(),
            Databases::Every(Every::All) => {
                let own = &self.capabilities(cx).await?.database;
                let rows = self.read(cx, EVERY_DATABASE).await?;
                let names = rows.iter().map(|row| row.get("name")).collect::<Result<Vec<String>>>()?;
                names.into_iter().filter(|name| name != own).collect()
            }
        };
        let others = named.iter().map(|name| self.for_database(name));
        Ok(std::iter::once(self.clone()).chain(others).collect())
    }

    /// Says where the admin console of the PgBouncer in front of it is: the URL of its database `pgbouncer`, with a
    /// user of its `stats_users`. `pg.pgbouncer` asks there.
    ///
    /// # Errors
    /// `InvalidInput` when the URL is none of PostgreSQL's; the message never repeats it.
    pub fn with_pgbouncer(&self, url: &Secret) -> Result<Self> {
        let mut inner = self.inner.as_ref().clone();
        inner.pgbouncer = Some(Console::new(&inner.name, url)?);
        Ok(Self { inner: Arc::new(inner) })
    }

    pub(crate) fn pgbouncer(&self) -> Option<&Console> {
        self.inner.pgbouncer.as_ref()
    }

    /// The target's name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Host, port and database, without user and password.
    pub fn address(&self) -> &str {
        &self.inner.address
    }

    /// The database that it connects to, where one is named.
    pub fn database(&self) -> Option<String> {
        match &self.inner.source {
            Source::Options { options, .. } => options.get_database().map(str::to_owned),
            Source::Pool(pool) => pool.connect_options().get_database().map(str::to_owned),
        }
    }

    /// The role that it logs in as, where the URL or the environment names one.
    pub fn role(&self) -> String {
        match &self.inner.source {
            Source::Options { options, .. } => options.get_username().to_owned(),
            Source::Pool(pool) => pool.connect_options().get_username().to_owned(),
        }
    }

    /// Its settings.
    pub fn config(&self) -> &PgConfig {
        &self.inner.config
    }

    /// What the server is and what we may see there; read once a run.
    ///
    /// # Errors
    /// Those of [`PgTarget::read`].
    pub async fn capabilities(&self, cx: &Context) -> Result<Arc<Capabilities>> {
        self.greeting(cx).await.map(|(capabilities, _)| capabilities)
    }

    /// How long it took to connect in this run, log-in included; for a pool, to be handed a connection.
    ///
    /// # Errors
    /// Those of [`PgTarget::read`].
    pub async fn connected_in(&self, cx: &Context) -> Result<Duration> {
        self.greeting(cx).await.map(|(_, connected_in)| connected_in)
    }

    /// Whose counters these are: the system identifier with the address. Primary and standby share the one and
    /// count apart, so the other tells them apart, and stands alone where the identifier is hidden.
    ///
    /// # Errors
    /// Those of [`PgTarget::read`].
    pub(crate) async fn identity(&self, cx: &Context) -> Result<String> {
        let (run, address) = (cx.run_id(), &self.inner.address);
        if let Some(known) = self.session(cx).await?.identity(run, address) {
            return Ok(known);
        }
        let system = match self.read(cx, IDENTITY).await {
            Ok(rows) => rows.first().map(|row| row.get::<String>("identity")).transpose()?,
            Err(error) if error.kind() == ErrorKind::PermissionDenied => None,
            Err(error) => return Err(error),
        };
        let identity = [system.unwrap_or_default(), address.clone()].join(" ");
        self.session(cx).await?.identity = Some((run, address.clone(), identity.clone()));
        Ok(identity)
    }

    async fn greeting(&self, cx: &Context) -> Result<(Arc<Capabilities>, Duration)> {
        let mut session = self.session(cx).await?;
        let (link, ready) = self.open(cx, &mut session).await?;
        let greeting = (Arc::clone(&ready.capabilities), ready.connected_in);
        session.keep(link, ready);
        Ok(greeting)
    }

    /// Runs one or more of ops's own `SELECT`s in one short read-only transaction and one round trip: 4.5 s
    /// for the statement, 100 ms for any lock, nothing but `pg_catalog` in the search path. The text must be ops's
    /// own: it is sent by the simple protocol, which takes several statements.
    ///
    /// Out of time or cancelled, the server's work is cancelled from a second connection, and this one closed; of a
    /// pool's connection, which has no name of ours, the server's own time-out ends the work.
    ///
    /// # Errors
    /// What the server or the network says, by the table in this crate's `error` module.
    pub async fn read(&self, cx: &Context, sql: &str) -> Result<Vec<Row>> {
        let mut session = self.session(cx).await?;
        let (mut link, ready) = self.open(cx, &mut session).await?;
        let outcome = self.send(cx, link.connection(), format!("{OPEN};{OWN};{sql};COMMIT")).await;
        self.settle(cx, &mut session, link, ready, outcome).await
    }

    /// Like [`PgTarget::read`], for a statement from elsewhere (a metric in `ops.toml`): sent by the extended
    /// protocol, so that it is one statement and cannot end the read-only transaction to write behind it. Its
    /// `search_path` is the role's own.
    ///
    /// # Errors
    /// Those of [`PgTarget::read`]; a statement that writes fails with `Refused`.
    pub async fn read_foreign(&self, cx: &Context, sql: &str) -> Result<Vec<Row>> {
        let mut session = self.session(cx).await?;
        let (mut link, ready) = self.open(cx, &mut session).await?;
        let outcome = self.extended(cx, link.connection(), OPEN, sql, &[]).await;
        self.settle(cx, &mut session, link, ready, outcome).await
    }

    /// Like [`PgTarget::read`], for one statement that asks about names from a configuration: `$1`, `$2`, … are
    /// arrays of text. It takes three round trips.
    ///
    /// # Errors
    /// Those of [`PgTarget::read`].
    pub(crate) async fn read_about(&self, cx: &Context, sql: &str, names: &[&[String]]) -> Result<Vec<Row>> {
        let mut session = self.session(cx).await?;
        let (mut link, ready) = self.open(cx, &mut session).await?;
        let outcome = self.extended(cx, link.connection(), &format!("{OPEN};{OWN}"), sql, names).await;
        self.settle(cx, &mut session, link, ready, outcome).await
    }

    /// Like [`PgTarget::read`], in a transaction that may write, and is rolled back: to see what would be refused.
    pub(crate) async fn try_and_roll_back(&self, cx: &Context, sql: &str) -> Result<Vec<Row>> {
        let mut session = self.session(cx).await?;
        let (mut link, ready) = self.open(cx, &mut session).await?;
        let open = OPEN.replace("BEGIN READ ONLY", "BEGIN");
        let outcome = self.send(cx, link.connection(), format!("{open};{OWN};{sql};ROLLBACK")).await;
        self.settle(cx, &mut session, link, ready, outcome).await
    }

    async fn session(&self, cx: &Context) -> Result<MutexGuard<'_, Session>> {
        cx.run("wait for the connection", async { Ok(cx.waiting(self.inner.session.lock()).await) }).await
    }

    async fn extended(
        &self,
        cx: &Context,
        connection: &mut PgConnection,
        opening: &str,
        sql: &str,
        parameters: &[&[String]],
    ) -> Result<Vec<Row>> {
        self.send(cx, connection, opening.to_owned()).await?;
        let started = Instant::now();
        let query = sqlx::query(AssertSqlSafe(sql.to_owned())).persistent(false);
        let query = parameters.iter().fold(query, |query, texts| query.bind(texts.to_vec()));
        let query = query.fetch_all(&mut *connection);
        let rows = cx.run("read", async { query.await.map_err(|e| self.error("read", e)) }).await;
        cx.cost().round_trip(started.elapsed());
        let rows = rows.map_err(|error| self.located(error))?;
        self.send(cx, connection, "COMMIT".to_owned()).await?;
        Ok(rows.into_iter().map(Row).collect())
    }

    async fn send(&self, cx: &Context, connection: &mut PgConnection, batch: String) -> Result<Vec<Row>> {
        let started = Instant::now();
        let rows = cx
            .run("read", async {
                sqlx::raw_sql(AssertSqlSafe(batch))
                    .fetch_all(connection)
                    .await
                    .map_err(|e| self.error("read", e))
            })
            .await;
        cx.cost().round_trip(started.elapsed());
        Ok(rows.map_err(|error| self.located(error))?.into_iter().map(Row).collect())
    }

    /// Puts the connection back when it is sound, and remembers why not when it is not.
    async fn settle(
        &self,
        cx: &Context,
        session: &mut Session,
        mut link: Link,
        ready: Ready,
        outcome: Result<Vec<Row>>,
    ) -> Result<Vec<Row>> {
        match &outcome {
            Ok(_) => session.keep(link, ready),
            Err(error) if gave_up(error) => {
                drop(link);
                // A server that answers the cancel request is not frozen: only this statement was slow.
                if !self.cancel_leftovers(&ready.tag).await {
                    session.fail(cx.run_id(), &self.inner.address, error);
                }
            }
            // Cut off: by somebody who ended our session, or with the server. The next probe's connection tells.
            Err(error) if error.kind() == ErrorKind::Unreachable => drop(link),
            // The server refused the statement: end its transaction, and keep the connection if that works.
            Err(_) => {
                if self.send(cx, link.connection(), "ROLLBACK".to_owned()).await.is_ok() {
                    session.keep(link, ready);
                }
            }
        }
        outcome
    }

    /// Takes the connection out of the session, making it where this run has none. Taken out, a probe that is
    /// dropped midway takes it along, and the next one starts afresh.
    async fn open(&self, cx: &Context, session: &mut Session) -> Result<(Link, Ready)> {
        let (run, address) = (cx.run_id(), &self.inner.address);
        if let Some(failure) = session.failure(run, address) {
            return Err(failure.clone());
        }
        let opened = match session.ready.take() {
            Some(mut ready) if ready.run == run && ready.address == *address => match ready.link.take() {
                Some(link) => Ok((link, ready)),
                None => self.connect(cx).await.map(|link| (link, ready)),
            },
            // Another database's connection is closed first. Another run's proves nothing about now, neither
            // that new ones are accepted nor that the role's rights are still the same.
            Some(_) | None => self.greet(cx).await,
        };
        opened.inspect_err(|error| session.fail(run, address, error))
    }

    async fn greet(&self, cx: &Context) -> Result<(Link, Ready)> {
        let started = Instant::now();
        let mut link = self.connect(cx).await?;
        let connected_in = started.elapsed();
        let tag = match &self.inner.source {
            Source::Options { tag, .. } => tag.clone(),
            Source::Pool(_) => String::new(),
        };
        let batch = format!("{OPEN};{OWN};{};COMMIT", capabilities::SQL);
        let sent = self.send(cx, link.connection(), batch).await;
        if sent.as_ref().is_err_and(gave_up) {
            drop(link);
            self.cancel_leftovers(&tag).await;
            return Err(sent.err().unwrap_or_else(|| Error::new(ErrorKind::Bug, "connect")));
        }
        let rows = sent?;
        let row = rows.first().ok_or_else(|| Error::new(ErrorKind::Bug, "read the capabilities"))?;
        let capabilities = Arc::new(Capabilities::read(row)?);
        let address = self.inner.address.clone();
        Ok((link, Ready { run: cx.run_id(), address, tag, link: None, connected_in, capabilities }))
    }

    async fn connect(&self, cx: &Context) -> Result<Link> {
        let started = Instant::now();
        let connect = async {
            match &self.inner.source {
                Source::Options { options, .. } => options.connect().await.map(Link::Own),
                Source::Pool(pool) => pool.acquire().await.map(Link::borrowed),
            }
            .map_err(|error| self.error("connect", error))
        };
        let link = cx.run("connect", connect).await.map_err(|error| self.not_lent(self.located(error)));
        cx.cost().round_trip(started.elapsed());
        link
    }

    /// Cancels what our dropped connection left running: dropping a future does not stop the backend.
    /// Says whether the server answered.
    async fn cancel_leftovers(&self, tag: &str) -> bool {
        const CANCEL: &str = "SELECT pg_catalog.pg_cancel_backend(pid) FROM pg_catalog.pg_stat_activity \
                              WHERE application_name = $1 AND usename = current_user \
                              AND pid <> pg_catalog.pg_backend_pid() AND state = 'active'";
        let Source::Options { options, .. } = &self.inner.source else { return false };
        let options = options.as_ref().clone().application_name("ops:cancel");
        let cancel = async {
            let mut connection = options.connect().await?;
            sqlx::query(CANCEL).bind(tag).persistent(false).execute(&mut connection).await?;
            connection.close().await
        };
        match tokio::time::timeout(CANCEL_TIME, cancel).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                let error = self.error("cancel a statement", error);
                tracing::warn!(target = %self.inner.name, "{}", error.report());
                false
            }
            Err(_) => {
                tracing::warn!(target = %self.inner.name, "no answer to a cancel request");
                false
            }
        }
    }

    /// A pool whose connections are all lent says nothing about the server; one that could have made another, and
    /// did not get it, does.
    fn not_lent(&self, error: Error) -> Error {
        let Source::Pool(pool) = &self.inner.source else { return error };
        if !matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Busy) {
            return error;
        }
        let (kind, why) = match pool.size() >= pool.options().get_max_connections() {
            true => (ErrorKind::Busy, "the service's own pool had none free in time"),
            false => (ErrorKind::Unreachable, "the service's own pool could not make one in time"),
        };
        Error::new(kind, "borrow a connection")
            .on(self.label())
            .because(why)
            .retry(Retry::Safe { after: None })
    }

    fn error(&self, operation: &'static str, error: sqlx::Error) -> Error {
        translate(operation, &self.label(), error)
    }

    fn located(&self, error: Error) -> Error {
        if error.target().is_some() { error } else { error.on(self.label()) }
    }

    fn label(&self) -> String {
        format!("{} ({})", self.inner.name, self.inner.address)
    }
}

/// Whether the error is our own giving up, after which the server may still be at work.
fn gave_up(error: &Error) -> bool {
    error.retry_class() == Retry::Indeterminate
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_password() {
        let url = Secret::from("postgres://u:hunter2@h/d".to_owned());
        let target = PgTarget::connect_lazily("main", &url, PgConfig::default()).unwrap();
        assert!(!format!("{target:?}").contains("hunter2"));
    }
}
