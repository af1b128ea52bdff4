//! When jobs last succeeded.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use ops_core::Result;
use ops_core::state::{Heartbeat, Heartbeats};
use sqlx::Row;

use super::{SqlState, micros, time};

#[async_trait]
impl Heartbeats for SqlState {
    async fn beat(&self, job: &str, at: DateTime<Utc>, succeeded: bool) -> Result<()> {
        let (success, failure) = if succeeded { (Some(micros(at)), None) } else { (None, Some(micros(at))) };
        // A beat changes its own column, and only to a later time.
        sqlx::query(
            "INSERT INTO heartbeat (job, succeeded, failed) VALUES ($1, $2, $3)
             ON CONFLICT (job) DO UPDATE SET
               succeeded = CASE WHEN heartbeat.succeeded IS NULL OR excluded.succeeded > heartbeat.succeeded
                                THEN coalesce(excluded.succeeded, heartbeat.succeeded) ELSE heartbeat.succeeded END,
               failed = CASE WHEN heartbeat.failed IS NULL OR excluded.failed > heartbeat.failed
                             THEN coalesce(excluded.failed, heartbeat.failed) ELSE heartbeat.failed END",
        )
        .bind(job)
        .bind(success)
        .bind(failure)
        .execute(&self.pool)
        .await
        .map_err(self.failed("keep the heartbeat"))?;
        Ok(())
    }

    async fn heartbeat(&self, job: &str) -> Result<Option<Heartbeat>> {
        let failed = self.failed("read the heartbeat");
        let row = sqlx::query("SELECT succeeded, failed FROM heartbeat WHERE job = $1")
            .bind(job)
            .fetch_optional(&self.pool)
            .await
            .map_err(&failed)?;
        let Some(row) = row else { return Ok(None) };
        let at =
            |column: usize| row.try_get::<Option<i64>, _>(column).map_err(&failed)?.map(time).transpose();
        Ok(Some(Heartbeat { job: job.to_owned(), succeeded: at(0)?, failed: at(1)? }))
    }
}
