//! A table for what a service records about itself.

use async_trait::async_trait;
use ops_core::telemetry::{Period, PeriodSink, Times};
use ops_core::{Context, Error, ErrorKind, Result, Retry};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgPool;

use crate::error::translate;
use crate::quote::ident;

/// Stores periods in a table of the service's own, a row for each name.
///
/// ```no_run
/// use ops_core::{Context, telemetry::{PeriodSink, Recorder}};
/// use ops_pg::PeriodTable;
///
/// # async fn example(pool: sqlx::PgPool, recorder: Recorder) -> ops_core::Result<()> {
/// let table = PeriodTable::new(pool, "public.app_periods")?;
/// let cx = Context::new();
/// table.create(&cx).await?;
/// table.store(&cx, &recorder.close(cx.now())).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct PeriodTable {
    pool: PgPool,
    /// As SQL names it.
    table: String,
}

/// One row: a count has no times.
const CREATE: &str = "
CREATE TABLE IF NOT EXISTS {table} (
  service text        NOT NULL,
  since   timestamptz NOT NULL,
  until   timestamptz NOT NULL,
  kind    text        NOT NULL CHECK (kind IN ('count', 'time')),
  name    text        NOT NULL,
  count   bigint      NOT NULL,
  mean_ms float8, p50_ms float8, p95_ms float8, p99_ms float8, max_ms float8,
  PRIMARY KEY (service, since, kind, name))";

/// A period that was stored and not acknowledged is given again.
const STORE: &str = "
INSERT INTO {table} (service, since, until, kind, name, count, mean_ms, p50_ms, p95_ms, p99_ms, max_ms)
SELECT $1, $2, $3, * FROM unnest($4::text[], $5::text[], $6::int8[],
                                 $7::float8[], $8::float8[], $9::float8[], $10::float8[], $11::float8[])
    ON CONFLICT DO NOTHING";

impl PeriodTable {
    /// The table `schema.name`, through the service's own pool.
    ///
    /// # Errors
    /// `InvalidInput` for a name without a schema: where it ended up would depend on a search path.
    pub fn new(pool: PgPool, table: &str) -> Result<Self> {
        match table.split_once('.') {
            Some((schema, name)) if !schema.is_empty() && !name.is_empty() => {
                Ok(Self { pool, table: format!("{}.{}", ident(schema), ident(name)) })
            }
            _ => Err(Error::new(ErrorKind::InvalidInput, "name the table of periods")
                .on(table)
                .because("expected schema.table")),
        }
    }

    /// Makes the table, where it is not there.
    ///
    /// # Errors
    /// The server's.
    pub async fn create(&self, cx: &Context) -> Result<()> {
        let sql = CREATE.replace("{table}", &self.table);
        cx.run("create the table of periods", async {
            let done = sqlx::query(AssertSqlSafe(sql)).execute(&self.pool).await;
            done.map(drop).map_err(|error| translate("create the table of periods", &self.table, error))
        })
        .await
    }
}

#[async_trait]
impl PeriodSink for PeriodTable {
    async fn store(&self, cx: &Context, period: &Period) -> Result<()> {
        let counts = period.counts.iter().map(|(name, count)| ("count", name, *count, None));
        let times = period.times.iter().map(|(name, times)| ("time", name, times.count, Some(times)));
        let rows: Vec<_> = counts.chain(times).collect();
        let figure = |of: fn(&Times) -> f64| rows.iter().map(|row| row.3.map(of)).collect::<Vec<_>>();
        let insert = sqlx::query(AssertSqlSafe(STORE.replace("{table}", &self.table)))
            .bind(&period.service)
            .bind(period.since)
            .bind(period.until)
            .bind(rows.iter().map(|row| row.0).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| row.1.as_str()).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| i64::try_from(row.2).unwrap_or(i64::MAX)).collect::<Vec<_>>())
            .bind(figure(|times| times.mean_ms))
            .bind(figure(|times| times.p50_ms))
            .bind(figure(|times| times.p95_ms))
            .bind(figure(|times| times.p99_ms))
            .bind(figure(|times| times.max_ms));
        cx.run("store a period", async {
            let stored = insert.execute(&self.pool).await;
            stored.map(drop).map_err(|error| translate("store a period", &self.table, error))
        })
        .await
        // Storing it once more is safe, whether or not this one arrived.
        .map_err(|error| match error.retry_class() {
            Retry::Indeterminate => error.retry(Retry::Safe { after: None }),
            _ => error,
        })
    }
}
