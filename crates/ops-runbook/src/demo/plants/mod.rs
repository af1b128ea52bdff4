//! The faults, one file each.

mod bloated_table;
mod blocked_alter;
mod cold_cache;
mod duplicate_index;
mod exhausted_sequence;
mod invalid_index;
mod missing_fk_index;
mod missing_rls;
mod no_ttl;
mod slow_query;
mod unused_index;
mod xmin_holder;

use std::any::Any;
use std::fmt;
use std::str::FromStr;

use async_trait::async_trait;
use ops_core::{Error, ErrorKind, Result};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use tokio::task::JoinHandle;

/// A fault, and the finding by which a check shows it.
#[async_trait]
pub trait Plant: Send + Sync + fmt::Debug {
    /// Its name, for `--without`.
    fn name(&self) -> &'static str;

    /// What is wrong, in one line.
    fn story(&self) -> &'static str;

    /// The code and the object of the finding that shows it; no object where only the server knows its name.
    fn finding(&self) -> (&'static str, Option<&'static str>);

    /// Whether it shows in `pg_stat_statements` alone, which a server may come without.
    fn needs_statements(&self) -> bool {
        false
    }

    /// Makes it so. Returns once a check can see it.
    async fn plant(&self, site: &mut Site) -> Result<()>;
}

/// All of them, in the order in which they are planted: those that hold transactions open come last, since VACUUM
/// and CREATE INDEX CONCURRENTLY wait for them.
pub fn all() -> &'static [&'static dyn Plant] {
    &[
        &duplicate_index::DuplicateIndex,
        &unused_index::UnusedIndex,
        &invalid_index::InvalidIndex,
        &missing_fk_index::MissingFkIndex,
        &bloated_table::BloatedTable,
        &exhausted_sequence::ExhaustedSequence,
        &missing_rls::MissingRls,
        &no_ttl::NoTtl,
        &cold_cache::ColdCache,
        &slow_query::SlowQuery,
        &xmin_holder::XminHolder,
        &blocked_alter::BlockedAlter,
    ]
}

/// Where faults are planted, and the sessions that they keep open.
pub struct Site {
    pub(super) admin_url: String,
    pub(super) shop_url: String,
    pub(super) redis_url: String,
    held: Vec<Box<dyn Any + Send + Sync>>,
    running: Vec<JoinHandle<()>>,
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Site").field("held", &self.held.len()).field("running", &self.running.len()).finish()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.running.iter().for_each(JoinHandle::abort);
    }
}

impl Site {
    pub(super) fn new(admin_url: String, shop_url: String, redis_url: String) -> Self {
        Self { admin_url, shop_url, redis_url, held: Vec::new(), running: Vec::new() }
    }

    pub(super) async fn connect_admin(&self) -> Result<PgConnection> {
        self.connect_to(&self.admin_url, "ops demo").await
    }

    /// A connection to the shop under the name of some application.
    pub(super) async fn connect(&self, application: &str) -> Result<PgConnection> {
        self.connect_to(&self.shop_url, application).await
    }

    async fn connect_to(&self, url: &str, application: &str) -> Result<PgConnection> {
        let options = PgConnectOptions::from_str(url).map_err(|error| self.postgres_failed(&error))?;
        let options = options.application_name(application).disable_statement_logging();
        options.connect().await.map_err(|error| self.postgres_failed(&error))
    }

    pub(super) async fn execute(&self, connection: &mut PgConnection, sql: &str) -> Result<()> {
        let sql = AssertSqlSafe(sql.to_owned());
        sqlx::raw_sql(sql).execute(connection).await.map(drop).map_err(|error| self.postgres_failed(&error))
    }

    /// Whether the server counts statements.
    pub(super) async fn has_statements(&self) -> Result<bool> {
        let mut connection = self.connect("ops demo").await?;
        let there = "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_stat_statements')";
        let there = sqlx::query_scalar::<_, bool>(there).fetch_one(&mut connection).await;
        there.map_err(|error| self.postgres_failed(&error))
    }

    /// Runs statements on a connection of their own. A session hands over what it counted when it ends: ANALYZE and
    /// VACUUM on the one that wrote the rows would be followed by their count.
    pub(super) async fn apart(&self, sql: &str) -> Result<()> {
        let mut connection = self.connect("ops demo").await?;
        self.execute(&mut connection, sql).await?;
        let pid = sqlx::query_scalar::<_, i32>("SELECT pg_backend_pid()").fetch_one(&mut connection).await;
        let pid = pid.map_err(|error| self.postgres_failed(&error))?;
        connection.close().await.map_err(|error| self.postgres_failed(&error))?;
        // The server lets go of a session in its own time.
        self.until(&format!("SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = {pid})")).await
    }

    /// Keeps a session open, in whatever state it is in.
    fn hold(&mut self, session: impl Any + Send + Sync) {
        self.held.push(Box::new(session));
    }

    /// Goes on with it as long as the demo runs.
    fn keep_up(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        self.running.push(tokio::spawn(work));
    }

    /// Runs a statement that will not end by itself.
    fn run(&mut self, mut connection: PgConnection, sql: &'static str) {
        self.keep_up(async move {
            // It ends with its server, in an error that says nothing.
            let _ = sqlx::raw_sql(sql).execute(&mut connection).await;
        });
    }

    /// Runs a statement again and again.
    fn repeat(&mut self, mut connection: PgConnection, sql: &'static str) {
        self.keep_up(async move { while sqlx::raw_sql(sql).execute(&mut connection).await.is_ok() {} });
    }

    /// Asks until the answer is true.
    async fn until(&self, question: &str) -> Result<()> {
        let mut connection = self.connect("ops demo").await?;
        loop {
            let question = AssertSqlSafe(question.to_owned());
            let answer = sqlx::query_scalar::<_, bool>(question).fetch_one(&mut connection).await;
            if answer.map_err(|error| self.postgres_failed(&error))? {
                return Ok(());
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    pub(super) async fn redis(&self) -> Result<redis::aio::MultiplexedConnection> {
        let client =
            redis::Client::open(self.redis_url.as_str()).map_err(|error| self.redis_failed(&error))?;
        client.get_multiplexed_async_connection().await.map_err(|error| self.redis_failed(&error))
    }

    fn postgres_failed(&self, error: &sqlx::Error) -> Error {
        Error::new(ErrorKind::Failed, "prepare the demo").on("PostgreSQL").because(error.to_string())
    }

    pub(super) fn redis_failed(&self, error: &redis::RedisError) -> Error {
        Error::new(ErrorKind::Failed, "prepare the demo").on("Redis").because(error.to_string())
    }
}
