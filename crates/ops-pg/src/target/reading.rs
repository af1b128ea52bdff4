//! Reading: one short transaction, and what becomes of the connection behind it.

use ops_core::{Context, Error, ErrorKind, Result, Retry};
use sqlx::{AssertSqlSafe, PgConnection};
use tokio::time::Instant;

use super::PgTarget;
use crate::row::Row;
use crate::session::{Link, Ready, Session};

/// Opens every read: nothing is written, and nothing is waited for long. The server's time-out comes before a
/// probe's own (5 s), so that a slow statement is known from a frozen server. Constant text, so that
/// `pg_stat_statements` keeps one entry for it.
pub(super) const OPEN: &str =
    "BEGIN READ ONLY; SET LOCAL statement_timeout = 4500; SET LOCAL lock_timeout = 100";

/// Before ops's own statements: nothing of the user's `search_path` is called by accident (CVE-2018-1058), and no
/// time goes into compiling catalogue queries.
pub(super) const OWN: &str = "SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL jit = off";

/// Makes a backslash in ops's own strings a backslash, where the server's default is another.
const CONFORMING: &str = "SET LOCAL standard_conforming_strings = on";

impl PgTarget {
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
        let outcome = match ready.capabilities.conforming_strings {
            true => self.send(cx, link.connection(), format!("{OPEN};{OWN};{sql};COMMIT")).await,
            // A batch is parsed as a whole, before any of it is run.
            false => match self.send(cx, link.connection(), format!("{OPEN};{CONFORMING}")).await {
                Ok(_) => self.send(cx, link.connection(), format!("{OWN};{sql};COMMIT")).await,
                failed => failed,
            },
        };
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
        let outcome =
            self.extended(cx, link.connection(), &format!("{OPEN};{OWN};{CONFORMING}"), sql, names).await;
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

    /// How many seconds the server's clock is ahead of this machine's, and by how much that may be wrong: half of what
    /// the question took.
    ///
    /// # Errors
    /// Those of [`PgTarget::read`].
    pub async fn clock_offset(&self, cx: &Context) -> Result<(f64, f64)> {
        const CLOCK: &str = "SELECT extract(epoch FROM pg_catalog.clock_timestamp())::float8 AS now";
        let mut session = self.session(cx).await?;
        let (mut link, ready) = self.open(cx, &mut session).await?;
        let (asked, started) = (cx.now(), Instant::now());
        let outcome = self.send(cx, link.connection(), CLOCK.to_owned()).await;
        let half = started.elapsed().as_secs_f64() / 2.0;
        let rows = self.settle(cx, &mut session, link, ready, outcome).await?;
        let row = rows.first().ok_or_else(|| Error::new(ErrorKind::Bug, "read the clock"))?;
        let here = asked.timestamp_micros() as f64 / 1e6 + half;
        Ok((row.get::<f64>("now")? - here, half))
    }

    pub(super) async fn extended(
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

    pub(super) async fn send(
        &self,
        cx: &Context,
        connection: &mut PgConnection,
        batch: String,
    ) -> Result<Vec<Row>> {
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
    pub(super) async fn settle(
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
}

/// Whether the error is our own giving up, after which the server may still be at work.
pub(super) fn gave_up(error: &Error) -> bool {
    error.retry_class() == Retry::Indeterminate
}
