//! Opening a state, making it on first use, and bringing an older one up to date.

use std::path::Path;
use std::time::Duration;

use ops_core::redact::ExposeSecret;
use ops_core::{Context, Error, ErrorKind, Result, Secret};
use sqlx::any::AnyPoolOptions;
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Row};

use crate::config::Config;

use super::error::translate;
use super::{Kind, SqlState, schema};

/// Every commit reaches the disk before it returns; a reader never waits for a writer.
const SQLITE_SETTINGS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
                               PRAGMA busy_timeout = 5000;";
/// Marks the file as ours in its header, which `file` shows.
const APPLICATION_ID: i64 = 0x6f70_7301;
/// Any number that nobody else uses: two processes that make the same schema take turns.
const SCHEMA_LOCK: i64 = 0x6f70_7300_7374_6174;
const OPEN: &str = "open the state";

impl SqlState {
    /// The state that a configuration names: its URL, or its file (a relative path starts at `directory`), or else
    /// the file at `default`.
    ///
    /// # Errors
    /// `Configuration` where nothing says where it should be; `Refused` for a URL on a server that is watched; and
    /// those of [`SqlState::file`] and [`SqlState::postgres`].
    pub async fn of_config(
        cx: &Context,
        config: &Config,
        directory: &Path,
        default: Option<&Path>,
    ) -> Result<Self> {
        if let Some(url) = &config.state.url {
            let state = Self::postgres(url).await?;
            state.refuse_watched(cx, config).await?;
            return Ok(state);
        }
        let given = config.state.config.file.as_ref().map(|file| directory.join(file));
        let path = given.as_deref().or(default).ok_or_else(|| {
            Error::new(ErrorKind::Configuration, OPEN)
                .because("neither XDG_STATE_HOME nor HOME says where it is")
                .with_fix("[state] file = \"/var/lib/ops/state.db\"")
        })?;
        Self::file(path).await
    }

    /// The state in the file at `path`, made with mode 0600 (and its directory with 0700) when it is not there.
    ///
    /// # Errors
    /// `PermissionDenied` or `Exhausted` when the file can't be made or written, `Corrupt` when it is no state of
    /// ops, `Unsupported` when a newer ops wrote it, `Busy` when another process keeps it locked.
    pub async fn file(path: &Path) -> Result<Self> {
        let place = path.display().to_string();
        private_file(path).map_err(|error| unwritable(&place, &error))?;
        let url =
            url::Url::from_file_path(std::path::absolute(path).map_err(|error| unwritable(&place, &error))?)
                .map_err(|()| {
                    Error::new(ErrorKind::Configuration, OPEN).on(&place).because("it is no file name")
                })?;
        let url = format!("sqlite://{}?mode=rw", url.path());
        Self::open(&url, place, Kind::Sqlite).await
    }

    /// The state in schema `ops` of a PostgreSQL database, made when it is not there.
    ///
    /// # Errors
    /// As for a file; `Unreachable` and `Unauthenticated` beside.
    pub async fn postgres(url: &Secret) -> Result<Self> {
        let place = ops_core::redact::redact(url.expose_secret());
        Self::open(url.expose_secret(), place, Kind::Postgres).await
    }

    /// Closes its connections. SQLite then folds its log into the file.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    async fn open(url: &str, place: String, kind: Kind) -> Result<Self> {
        sqlx::any::install_default_drivers();
        let settings = match kind {
            Kind::Sqlite => SQLITE_SETTINGS,
            Kind::Postgres => "SET search_path = ops, pg_catalog; SET application_name = 'ops state'",
        };
        let pool = AnyPoolOptions::new()
            // SQLite has one writer at a time; a second connection would only wait behind the first.
            .max_connections(if kind == Kind::Sqlite { 1 } else { 4 })
            .acquire_timeout(Duration::from_secs(30))
            .after_connect(move |connection, _| {
                Box::pin(async move { sqlx::raw_sql(settings).execute(connection).await.map(drop) })
            })
            .connect_lazy(url)
            .map_err(|error| translate(OPEN, &place, &error))?;
        let state = Self { pool, place, kind };
        state.prepare(url, settings).await?;
        Ok(state)
    }

    /// Looks at what is there, by a connection of its own: the pool would try again, and in the end know no cause.
    async fn prepare(&self, url: &str, settings: &'static str) -> Result<()> {
        let failed = self.failed(OPEN);
        let mut connection = AnyConnection::connect(url).await.map_err(&failed)?;
        sqlx::raw_sql(settings).execute(&mut connection).await.map_err(&failed)?;
        self.migrate(&mut connection).await?;
        connection.close().await.map_err(&failed)
    }

    /// Brings the tables to this version, in one transaction under a lock.
    async fn migrate(&self, connection: &mut AnyConnection) -> Result<()> {
        let failed = self.failed(OPEN);
        let mut transaction = connection.begin_with(self.kind.begin()).await.map_err(&failed)?;
        let version = self.version(&mut transaction).await?;
        let known = schema::VERSIONS.len();
        if version > known {
            return Err(Error::new(ErrorKind::Unsupported, OPEN).on(&self.place).because(format!(
                "it has version {version}, written by a newer ops; this one knows versions up to {known}"
            )));
        }
        if version == known {
            return Ok(());
        }
        for statement in schema::VERSIONS[version..].iter().flat_map(|version| version.iter()) {
            sqlx::raw_sql(*statement).execute(&mut *transaction).await.map_err(&failed)?;
        }
        let done = match self.kind {
            Kind::Sqlite => {
                format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {known}")
            }
            Kind::Postgres => {
                format!("DELETE FROM state_version; INSERT INTO state_version VALUES ({known})")
            }
        };
        sqlx::raw_sql(AssertSqlSafe(done)).execute(&mut *transaction).await.map_err(&failed)?;
        transaction.commit().await.map_err(&failed)
    }

    /// The version of the tables that are there; 0 when there are none.
    async fn version(&self, connection: &mut AnyConnection) -> Result<usize> {
        let failed = self.failed(OPEN);
        let number = async |connection: &mut AnyConnection, query: &'static str| {
            let row = sqlx::query(query).fetch_optional(connection).await.map_err(&failed)?;
            row.map_or(Ok(0), |row| row.try_get::<i64, _>(0)).map_err(&failed)
        };
        let version = match self.kind {
            Kind::Sqlite => {
                let id = number(connection, "SELECT application_id FROM pragma_application_id").await?;
                let tables = number(connection, "SELECT count(*) FROM sqlite_schema").await?;
                if id != APPLICATION_ID && (id != 0 || tables != 0) {
                    return Err(Error::new(ErrorKind::Corrupt, OPEN)
                        .on(&self.place)
                        .because("it is a database of something else than ops"));
                }
                number(connection, "SELECT user_version FROM pragma_user_version").await?
            }
            Kind::Postgres => {
                let ready = format!(
                    "SELECT pg_advisory_xact_lock({SCHEMA_LOCK}); CREATE SCHEMA IF NOT EXISTS ops; \
                     CREATE TABLE IF NOT EXISTS ops.state_version (version bigint NOT NULL)"
                );
                sqlx::raw_sql(AssertSqlSafe(ready)).execute(&mut *connection).await.map_err(&failed)?;
                number(connection, "SELECT version FROM state_version").await?
            }
        };
        usize::try_from(version).map_err(|_| super::corrupt("a version", &version.to_string()))
    }
}

/// Makes the file and its directory for its owner alone. SQLite gives its other files the mode of this one.
fn private_file(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    std::fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    Ok(())
}

fn unwritable(place: &str, error: &std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorKind::Exhausted,
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
            ErrorKind::PermissionDenied
        }
        _ => ErrorKind::Failed,
    };
    Error::new(kind, OPEN).on(place).because(error.to_string())
}
