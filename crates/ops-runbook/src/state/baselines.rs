//! The last sample of each probe's counters.

use async_trait::async_trait;
use ops_core::Result;
use ops_core::state::{Baselines, Sample, WindowKey};
use sqlx::Row;

use super::{SqlState, from_json, micros, time, to_json};

#[async_trait]
impl Baselines for SqlState {
    async fn latest(&self, key: &WindowKey) -> Result<Option<Sample>> {
        let failed = self.failed("read the last sample");
        let row = sqlx::query("SELECT at, epoch, counters FROM baseline WHERE server = $1 AND probe = $2")
            .bind(&key.server)
            .bind(&key.probe)
            .fetch_optional(&self.pool)
            .await
            .map_err(&failed)?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(Sample {
            at: time(row.try_get(0).map_err(&failed)?)?,
            epoch: row.try_get(1).map_err(&failed)?,
            counters: from_json("counters", row.try_get(2).map_err(&failed)?)?,
        }))
    }

    async fn store(&self, key: &WindowKey, sample: &Sample) -> Result<()> {
        sqlx::query(
            "INSERT INTO baseline (server, probe, at, epoch, counters) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (server, probe) DO UPDATE
             SET at = excluded.at, epoch = excluded.epoch, counters = excluded.counters",
        )
        .bind(&key.server)
        .bind(&key.probe)
        .bind(micros(sample.at))
        .bind(&sample.epoch)
        .bind(to_json(&sample.counters)?)
        .execute(&self.pool)
        .await
        .map_err(self.failed("keep the sample"))?;
        Ok(())
    }
}
