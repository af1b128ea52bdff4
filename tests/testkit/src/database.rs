//! A database of its own for each test.

use std::sync::Arc;

use ops_core::throwaway::unique;
use ops_pg::cluster::SUPERUSER;
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, PgPool};

use crate::missing::or_skip;
use crate::postgres::PgServer;

/// Who looks at a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A superuser.
    Superuser,
    /// A login with `pg_monitor`, and nothing else.
    Monitor,
    /// A login with nothing.
    Nobody,
}

/// All of them, for a matrix.
pub const ROLES: [Role; 3] = [Role::Superuser, Role::Monitor, Role::Nobody];

/// A fresh, empty database, and two roles that only this test knows. Dropped with them at the end of the test,
/// also when it panics; whatever is still connected is thrown out, prepared transactions are rolled back, and
/// subscriptions and replication slots dropped, physical ones by the database's name too.
///
/// Roles, slots and settings are the cluster's: name yours after [`name`](TestDb::name).
#[derive(Debug)]
pub struct TestDb {
    server: Arc<PgServer>,
    name: String,
}

impl TestDb {
    /// A database on the suite's server of this major version; or `None` after a loud line, where there is none.
    ///
    /// # Panics
    /// Where servers are required, and where the server is there and the database can't be made.
    pub async fn on(major: u32) -> Option<Self> {
        let server = or_skip(PgServer::get(major).await)?;
        Some(Self::create(server).await.expect("a test database"))
    }

    /// A database on `server`.
    ///
    /// # Errors
    /// The driver's.
    pub async fn create(server: Arc<PgServer>) -> sqlx::Result<Self> {
        let name = format!("t_{}", unique());
        // First, so that what is made when the next statement fails is dropped.
        let db = Self { server, name };
        let mut admin = PgConnection::connect(&db.server.url_as(SUPERUSER, "postgres")).await?;
        let (monitor, nobody) = (db.role(Role::Monitor), db.role(Role::Nobody));
        let password = db.server.password();
        let roles = format!(
            "CREATE ROLE {monitor} LOGIN PASSWORD '{password}' IN ROLE pg_monitor;
             CREATE ROLE {nobody} LOGIN PASSWORD '{password}'"
        );
        admin.execute(sqlx::raw_sql(AssertSqlSafe(roles))).await?;
        // template1 may be connected to, which forbids copying it; template0 never is.
        let create = format!("CREATE DATABASE {} TEMPLATE template0", db.name);
        admin.execute(sqlx::raw_sql(AssertSqlSafe(create))).await?;
        admin.close().await?;
        Ok(db)
    }

    /// The database's name: lower-case letters, digits and `_`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The server it is on.
    pub fn server(&self) -> &PgServer {
        &self.server
    }

    /// A role's name.
    pub fn role(&self, role: Role) -> String {
        match role {
            Role::Superuser => SUPERUSER.to_owned(),
            Role::Monitor => format!("{}_monitor", self.name),
            Role::Nobody => format!("{}_nobody", self.name),
        }
    }

    /// The superuser's URL: over the socket where there is one.
    pub fn url(&self) -> String {
        self.url_as(Role::Superuser)
    }

    /// A role's URL.
    pub fn url_as(&self, role: Role) -> String {
        self.server.url_as(&self.role(role), &self.name)
    }

    /// The superuser's URL over TCP, with a password.
    pub fn tcp_url(&self) -> String {
        self.url_at(self.server.address(), Role::Superuser)
    }

    /// A role's URL over TCP at another address, such as a proxy's.
    pub fn url_at(&self, address: std::net::SocketAddr, role: Role) -> String {
        self.server.tcp_url_as(address, &self.role(role), &self.name)
    }

    /// A superuser's connection.
    ///
    /// # Errors
    /// The driver's.
    pub async fn connect(&self) -> sqlx::Result<PgConnection> {
        self.connect_as(Role::Superuser).await
    }

    /// A role's connection.
    ///
    /// # Errors
    /// The driver's.
    pub async fn connect_as(&self, role: Role) -> sqlx::Result<PgConnection> {
        PgConnection::connect(&self.url_as(role)).await
    }

    /// A superuser's pool of up to ten connections, which connects when used.
    ///
    /// # Errors
    /// The driver's.
    pub fn pool(&self) -> sqlx::Result<PgPool> {
        PgPoolOptions::new().max_connections(10).connect_lazy(&self.url())
    }

    /// Runs statements as superuser, on a connection of their own.
    ///
    /// # Panics
    /// With the statement, where one fails.
    #[track_caller]
    pub fn execute(&self, sql: impl Into<String>) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        let sql = sql.into();
        async move {
            let done = async {
                let mut connection = self.connect().await?;
                connection.execute(sqlx::raw_sql(AssertSqlSafe(sql.clone()))).await?;
                connection.close().await
            };
            if let Err(error) = done.await {
                panic!("{caller}: {error}, in: {sql}");
            }
        }
    }

    /// What has to go before the database can.
    async fn release(&self) -> sqlx::Result<()> {
        let mut own = self.connect().await?;
        let prepared: Vec<String> =
            sqlx::query_scalar("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()")
                .fetch_all(&mut own)
                .await?;
        for gid in prepared {
            let rollback = format!("ROLLBACK PREPARED '{}'", gid.replace('\'', "''"));
            own.execute(sqlx::raw_sql(AssertSqlSafe(rollback))).await?;
        }
        let slots = "SELECT pg_terminate_backend(active_pid, 2000) FROM pg_replication_slots
                     WHERE (database = current_database() OR slot_name = current_database()) AND active;
                     SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
                     WHERE database = current_database() OR slot_name = current_database()";
        own.execute(sqlx::raw_sql(slots)).await?;
        let subscriptions: Vec<String> = sqlx::query_scalar(
            "SELECT quote_ident(subname) FROM pg_subscription
              WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())",
        )
        .fetch_all(&mut own)
        .await?;
        for name in subscriptions {
            // Without a slot's name nobody is asked to drop one.
            for change in [
                "ALTER SUBSCRIPTION {} DISABLE",
                "ALTER SUBSCRIPTION {} SET (slot_name = NONE)",
                "DROP SUBSCRIPTION {}",
            ] {
                own.execute(sqlx::raw_sql(AssertSqlSafe(change.replace("{}", &name)))).await?;
            }
        }
        own.close().await
    }

    async fn remove(&self) -> sqlx::Result<()> {
        // A database that could not be made has nothing to release, and dropping it is all the same.
        let released = self.release().await;
        let mut admin = PgConnection::connect(&self.server.url_as(SUPERUSER, "postgres")).await?;
        let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        admin.execute(sqlx::raw_sql(AssertSqlSafe(drop))).await.map_err(|e| released.err().unwrap_or(e))?;
        let roles = format!("DROP ROLE IF EXISTS {}, {}", self.role(Role::Monitor), self.role(Role::Nobody));
        admin.execute(sqlx::raw_sql(AssertSqlSafe(roles))).await?;
        admin.close().await
    }
}

impl Drop for TestDb {
    fn drop(&mut self) {
        // The test's own runtime may be ending, and must not be blocked.
        let removed = std::thread::scope(|scope| {
            let removal = || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.map_err(sqlx::Error::Io)?.block_on(self.remove())
            };
            scope.spawn(removal).join()
        });
        match removed {
            Ok(Ok(())) => {}
            // A second panic would end the process and hide the first.
            _ if std::thread::panicking() => eprintln!("{} is left behind: {removed:?}", self.name),
            _ => panic!("{} is left behind: {removed:?}", self.name),
        }
    }
}

/// Makes a module with one test per major version of the suite, `pg15`, `pg17` and `pg18`, each with a database
/// of its own. A version that is not here is skipped loudly.
///
/// ```
/// ops_testkit::on_each_postgres!(has_no_tables, async |db: ops_testkit::TestDb| {
///     db.execute("SELECT 1").await;
/// });
/// ```
#[macro_export]
macro_rules! on_each_postgres {
    ($(#[$attribute:meta])* $name:ident, $body:expr) => {
        $(#[$attribute])*
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            #[tokio::test]
            async fn pg15() {
                $crate::on_postgres(15, $body).await;
            }

            #[tokio::test]
            async fn pg17() {
                $crate::on_postgres(17, $body).await;
            }

            #[tokio::test]
            async fn pg18() {
                $crate::on_postgres(18, $body).await;
            }
        }
    };
}

/// Runs `body` on a database of this major version; skips loudly where there is none.
pub async fn on_postgres(major: u32, body: impl AsyncFnOnce(TestDb)) {
    if let Some(db) = TestDb::on(major).await {
        body(db).await;
    }
}
