//! What was measured when.

use std::collections::HashMap;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use ops_core::Result;
use ops_core::state::{Bucket, History, Point, Resolution, Retention, Series};
use sqlx::any::AnyRow;
use sqlx::{Any, Row, Transaction};

use super::{SqlState, from_json, micros, time, to_json};

const RECORD: &str = "record what was measured";
const READ: &str = "read what was measured";
const PRUNE: &str = "forget what is old";

impl SqlState {
    /// The number of a series, given it now where it has none.
    async fn series_id(&self, transaction: &mut Transaction<'static, Any>, series: &str) -> Result<i64> {
        // An update that changes nothing: a conflict that does nothing would return no row.
        let row = sqlx::query(
            "INSERT INTO series (id, series) VALUES ((SELECT coalesce(max(id), 0) + 1 FROM series), $1)
             ON CONFLICT (series) DO UPDATE SET series = excluded.series RETURNING id",
        )
        .bind(series)
        .fetch_one(&mut **transaction)
        .await
        .map_err(self.failed(RECORD))?;
        row.try_get(0).map_err(self.failed(RECORD))
    }

    async fn add(
        &self,
        transaction: &mut Transaction<'static, Any>,
        series: i64,
        point: &Point,
    ) -> Result<()> {
        let failed = self.failed(RECORD);
        let added =
            sqlx::query("INSERT INTO point (series, at, value) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING")
                .bind(series)
                .bind(micros(point.at))
                .bind(point.value)
                .execute(&mut **transaction)
                .await
                .map_err(&failed)?;
        if added.rows_affected() == 0 {
            return Ok(());
        }
        sqlx::query(
            "INSERT INTO hour (series, at, count, min, max, mean, last) VALUES ($1, $2, 1, $3, $3, $3, $3)
             ON CONFLICT (series, at) DO UPDATE SET
               count = hour.count + 1,
               min = CASE WHEN excluded.min < hour.min THEN excluded.min ELSE hour.min END,
               max = CASE WHEN excluded.max > hour.max THEN excluded.max ELSE hour.max END,
               mean = hour.mean + (excluded.mean - hour.mean) / (hour.count + 1),
               last = excluded.last",
        )
        .bind(series)
        .bind(micros(Bucket::hour_of(point.at)))
        .bind(point.value)
        .execute(&mut **transaction)
        .await
        .map_err(&failed)?;
        Ok(())
    }
}

#[async_trait]
impl History for SqlState {
    async fn record(&self, points: &[Point]) -> Result<()> {
        if points.is_empty() {
            return Ok(());
        }
        let failed = self.failed(RECORD);
        let mut transaction = self.pool.begin_with(self.kind.begin()).await.map_err(&failed)?;
        let mut ids: HashMap<&Series, i64> = HashMap::new();
        for point in points {
            let id = match ids.get(&point.series) {
                Some(id) => *id,
                None => self.series_id(&mut transaction, &to_json(&point.series)?).await?,
            };
            ids.insert(&point.series, id);
            self.add(&mut transaction, id, point).await?;
        }
        transaction.commit().await.map_err(&failed)
    }

    async fn buckets(
        &self,
        series: &Series,
        resolution: Resolution,
        since: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Result<Vec<Bucket>> {
        let failed = self.failed(READ);
        let query = match resolution {
            Resolution::Raw => {
                "SELECT p.at, CAST(1 AS bigint), p.value, p.value, p.value, p.value
                 FROM point p JOIN series s ON s.id = p.series
                 WHERE s.series = $1 AND p.at >= $2 AND p.at < $3 ORDER BY p.at"
            }
            Resolution::Hourly => {
                "SELECT h.at, h.count, h.min, h.max, h.mean, h.last
                 FROM hour h JOIN series s ON s.id = h.series
                 WHERE s.series = $1 AND h.at >= $2 AND h.at < $3 ORDER BY h.at"
            }
        };
        let rows = sqlx::query(query)
            .bind(to_json(series)?)
            .bind(micros(since))
            .bind(micros(until))
            .fetch_all(&self.pool)
            .await
            .map_err(&failed)?;
        let bucket = |row: &AnyRow| {
            let value = |column: usize| row.try_get::<f64, _>(column).map_err(&failed);
            Ok(Bucket {
                at: time(row.try_get(0).map_err(&failed)?)?,
                count: row.try_get::<i64, _>(1).map_err(&failed)?.unsigned_abs(),
                min: value(2)?,
                max: value(3)?,
                mean: value(4)?,
                last: value(5)?,
            })
        };
        rows.iter().map(bucket).collect()
    }

    async fn series(&self) -> Result<Vec<Series>> {
        let failed = self.failed(READ);
        let rows = sqlx::query("SELECT series FROM series").fetch_all(&self.pool).await.map_err(&failed)?;
        let series = |row: &AnyRow| from_json("a series", row.try_get(0).map_err(&failed)?);
        let mut series = rows.iter().map(series).collect::<Result<Vec<Series>>>()?;
        series.sort();
        Ok(series)
    }

    async fn prune(&self, retention: &Retention, now: DateTime<Utc>) -> Result<()> {
        let failed = self.failed(PRUNE);
        // Longer than time itself keeps everything.
        let before = |kept: std::time::Duration| {
            TimeDelta::from_std(kept)
                .ok()
                .and_then(|kept| now.checked_sub_signed(kept))
                .map_or(i64::MIN, micros)
        };
        let mut transaction = self.pool.begin_with(self.kind.begin()).await.map_err(&failed)?;
        for (statement, limit) in [
            ("DELETE FROM baseline WHERE at < $1", Some(before(retention.raw))),
            ("DELETE FROM point WHERE at < $1", Some(before(retention.raw))),
            ("DELETE FROM hour WHERE at < $1", Some(before(retention.hourly))),
            ("DELETE FROM run WHERE outcome IS NOT NULL AND latest < $1", Some(before(retention.runs))),
            (
                "DELETE FROM series WHERE NOT EXISTS (SELECT 1 FROM hour WHERE hour.series = series.id)
                 AND NOT EXISTS (SELECT 1 FROM point WHERE point.series = series.id)",
                None,
            ),
        ] {
            let query = sqlx::query(statement);
            let query = match limit {
                Some(limit) => query.bind(limit),
                None => query,
            };
            query.execute(&mut *transaction).await.map_err(&failed)?;
        }
        transaction.commit().await.map_err(&failed)
    }
}
