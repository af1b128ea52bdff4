//! Who may run something now.

use std::time::Duration;

use async_trait::async_trait;
use ops_core::state::{Lease, Leases};
use ops_core::{Context, Result};
use sqlx::{Any, Row, Transaction};

use super::{Kind, SqlState, micros, time};

const TAKE: &str = "take the lease";
const KEEP: &str = "keep the lease";

impl SqlState {
    /// The time that leases go by. A file is one machine's; a server's clock is the same for all who share it.
    async fn lease_time(&self, cx: &Context, transaction: &mut Transaction<'static, Any>) -> Result<i64> {
        match self.kind {
            Kind::Sqlite => Ok(micros(cx.now())),
            Kind::Postgres => {
                let failed = self.failed(TAKE);
                let row = sqlx::query("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
                    .fetch_one(&mut **transaction)
                    .await
                    .map_err(&failed)?;
                row.try_get(0).map_err(&failed)
            }
        }
    }
}

fn after(now: i64, ttl: Duration) -> i64 {
    now.saturating_add(i64::try_from(ttl.as_micros()).unwrap_or(i64::MAX))
}

#[async_trait]
impl Leases for SqlState {
    async fn acquire(&self, cx: &Context, name: &str, holder: &str, ttl: Duration) -> Result<Lease> {
        let failed = self.failed(TAKE);
        let mut transaction = self.pool.begin_with(self.kind.begin()).await.map_err(&failed)?;
        let now = self.lease_time(cx, &mut transaction).await?;
        let expires = after(now, ttl);
        // The row is locked by whoever inserts or updates first; the other sees what was written.
        let taken = sqlx::query(
            "INSERT INTO lease (name, holder, token, expires) VALUES ($1, $2, 1, $3)
             ON CONFLICT (name) DO UPDATE
             SET holder = excluded.holder, token = lease.token + 1, expires = excluded.expires
             WHERE lease.expires IS NULL OR lease.expires <= $4
             RETURNING token",
        )
        .bind(name)
        .bind(holder)
        .bind(expires)
        .bind(now)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(&failed)?;
        let token = match taken {
            Some(row) => row.try_get::<i64, _>(0).map_err(&failed)?,
            None => {
                let row = sqlx::query("SELECT holder, token, expires FROM lease WHERE name = $1")
                    .bind(name)
                    .fetch_one(&mut *transaction)
                    .await
                    .map_err(&failed)?;
                let held = Lease {
                    name: name.to_owned(),
                    holder: row.try_get(0).map_err(&failed)?,
                    token: row.try_get::<i64, _>(1).map_err(&failed)?.unsigned_abs(),
                    expires: time(row.try_get::<Option<i64>, _>(2).map_err(&failed)?.unwrap_or(now))?,
                };
                return Err(held.is_held());
            }
        };
        transaction.commit().await.map_err(&failed)?;
        Ok(Lease {
            name: name.to_owned(),
            holder: holder.to_owned(),
            token: token.unsigned_abs(),
            expires: time(expires)?,
        })
    }

    async fn renew(&self, cx: &Context, lease: &Lease, ttl: Duration) -> Result<Lease> {
        let failed = self.failed(KEEP);
        let mut transaction = self.pool.begin_with(self.kind.begin()).await.map_err(&failed)?;
        let expires = after(self.lease_time(cx, &mut transaction).await?, ttl);
        let kept = sqlx::query(
            "UPDATE lease SET expires = $3 WHERE name = $1 AND token = $2 AND expires IS NOT NULL",
        )
        .bind(&lease.name)
        .bind(lease.token.cast_signed())
        .bind(expires)
        .execute(&mut *transaction)
        .await
        .map_err(&failed)?;
        if kept.rows_affected() == 0 {
            return Err(lease.is_lost());
        }
        transaction.commit().await.map_err(&failed)?;
        Ok(Lease { expires: time(expires)?, ..lease.clone() })
    }

    async fn release(&self, lease: &Lease) -> Result<()> {
        sqlx::query("UPDATE lease SET expires = NULL WHERE name = $1 AND token = $2")
            .bind(&lease.name)
            .bind(lease.token.cast_signed())
            .execute(&self.pool)
            .await
            .map_err(self.failed("give back the lease"))?;
        Ok(())
    }
}
