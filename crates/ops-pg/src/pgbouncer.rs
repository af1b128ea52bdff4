//! PgBouncer's admin console, which speaks the simple protocol only and knows SHOW, not SELECT.

use std::time::Instant;

use ops_core::{Context, Error, ErrorKind, Result, Secret};
use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::{ConnectOptions, Connection, Row as _, ValueRef as _};

use crate::error::translate;
use crate::url::{address_of, parse_url};

/// Where the console of the pooler in front of a server is.
#[derive(Clone)]
pub(crate) struct Console {
    options: Box<PgConnectOptions>,
    pub(crate) address: String,
}

/// A pool: the connections of one user to one database.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pool {
    pub(crate) database: String,
    pub(crate) user: String,
    pub(crate) mode: String,
    pub(crate) clients_active: f64,
    pub(crate) clients_waiting: f64,
    pub(crate) servers_active: f64,
    pub(crate) servers_idle: f64,
    /// How long the first in the queue has waited, in seconds.
    pub(crate) longest_wait: f64,
}

/// What came of asking the console.
pub(crate) enum Asked {
    Pools(Vec<Pool>),
    /// Nobody accepts connections there, or answers in time.
    Down(Error),
}

impl Console {
    pub(crate) fn new(name: &str, url: &Secret) -> Result<Self> {
        let options = parse_url(name, url)?
            .application_name("ops:console")
            .extra_float_digits(None)
            .statement_cache_capacity(0)
            .disable_statement_logging();
        Ok(Self { address: address_of(&options), options: Box::new(options) })
    }

    /// `SHOW POOLS`, over a connection of its own.
    pub(crate) async fn pools(&self, cx: &Context) -> Result<Asked> {
        let started = Instant::now();
        let ask = async {
            let mut connection = self.options.connect().await?;
            let rows = sqlx::raw_sql("SHOW POOLS").fetch_all(&mut connection).await?;
            // It has answered: how it takes the farewell changes nothing.
            let _ = connection.close().await;
            rows.iter().filter(|row| text(row, "database") != "pgbouncer").map(Pool::read).collect()
        };
        let asked = cx.run("ask PgBouncer", async { Ok(ask.await) }).await;
        cx.cost().round_trip(started.elapsed());
        let error = match asked {
            Ok(Ok(pools)) => return Ok(Asked::Pools(pools)),
            Ok(Err(error)) => {
                // An error of PgBouncer's own is an answer, whatever its SQLSTATE.
                let answered = error.as_database_error().is_some();
                let error = translate("ask PgBouncer", &self.address, error);
                if answered { return Err(error) } else { error }
            }
            Err(error) => error.on(&self.address),
        };
        match error.kind() {
            ErrorKind::Unreachable | ErrorKind::Timeout => Ok(Asked::Down(error)),
            _ => Err(error),
        }
    }
}

impl Pool {
    fn read(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            database: text(row, "database").to_owned(),
            user: text(row, "user").to_owned(),
            mode: text(row, "pool_mode").to_owned(),
            clients_active: number(row, "cl_active")?,
            clients_waiting: number(row, "cl_waiting")?,
            servers_active: number(row, "sv_active")?,
            servers_idle: number(row, "sv_idle")?,
            longest_wait: number(row, "maxwait")? + number(row, "maxwait_us")? / 1e6,
        })
    }
}

/// As the console writes it: the types of its columns differ from version to version.
fn text<'r>(row: &'r PgRow, column: &str) -> &'r str {
    row.try_get_raw(column)
        .ok()
        .filter(|value| !value.is_null())
        .and_then(|value| value.as_str().ok())
        .unwrap_or("")
}

fn number(row: &PgRow, column: &str) -> sqlx::Result<f64> {
    text(row, column).parse().map_err(|_| sqlx::Error::ColumnNotFound(column.to_owned()))
}
