//! One PostgreSQL database to look at, over one connection, without harm.

mod certificate;
mod connecting;
mod lending;
mod notify;
mod reading;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ops_core::{Context, Error, ErrorKind, Result, Secret};
use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgPool};
use tokio::sync::{Mutex, MutexGuard};

pub(crate) use self::certificate::{Certificate, LISTENS};
pub(crate) use self::lending::Lending;
pub(crate) use self::notify::Notified;
use crate::capabilities::Capabilities;
use crate::config::{Databases, Every, PgConfig};
use crate::error::translate;
use crate::pgbouncer::Console;
use crate::provider::{self, Managed};
use crate::session::Session;
use crate::url::{address_of, parse_url};

/// Who the server is, where we may ask for it.
pub(crate) const IDENTITY: &str = "SELECT system_identifier::text AS identity FROM pg_control_system()";

/// `{provider}` stands for those that let nobody in but the provider.
const EVERY_DATABASE: &str = "
SELECT datname::text AS name FROM pg_database
 WHERE datallowconn AND NOT datistemplate AND datname NOT IN ({provider}) ORDER BY datname";

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
    /// The other servers that are configured, any of which may be a copy of this one.
    others: Vec<PgTarget>,
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
        Self { name, address, config, source, pgbouncer: None, others: Vec::new(), session }
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
                others: Vec::new(),
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
        inner.others.clone_from(&self.inner.others);
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
                let rows = self.read(cx, &EVERY_DATABASE.replace("{provider}", provider::DATABASES)).await?;
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

    /// Says which other servers are configured: its standbys may be among them, and count what this one does not.
    #[must_use]
    pub fn with_others(&self, others: impl IntoIterator<Item = PgTarget>) -> Self {
        let mut inner = self.inner.as_ref().clone();
        inner.others = others.into_iter().collect();
        Self { inner: Arc::new(inner) }
    }

    pub(crate) fn others(&self) -> &[PgTarget] {
        &self.inner.others
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

    /// What is different on the managed service that this is; `None` also where nobody got in yet to see.
    pub(crate) async fn managed(&self, cx: &Context) -> Option<&'static Managed> {
        self.session(cx).await.ok()?.provider?.managed()
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

    async fn session(&self, cx: &Context) -> Result<MutexGuard<'_, Session>> {
        cx.run("wait for the connection", async { Ok(cx.waiting(self.inner.session.lock()).await) }).await
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
