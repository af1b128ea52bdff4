//! Runs, entry by entry.

use async_trait::async_trait;
use ops_core::context::RunId;
use ops_core::state::{Entry, Event, Journal, RunFilter, RunSummary};
use ops_core::{Error, ErrorKind, Result};
use sqlx::Row;
use sqlx::any::AnyRow;

use super::{SqlState, from_json, micros, time, to_json};

const WRITE: &str = "write the journal";
const READ: &str = "read the journal";

#[async_trait]
impl Journal for SqlState {
    async fn append(&self, run: RunId, entry: &Entry) -> Result<()> {
        let failed = self.failed(WRITE);
        let id = run.to_string();
        let mut transaction = self.pool.begin_with(self.kind.begin()).await.map_err(&failed)?;
        let next = sqlx::query("SELECT count(*) FROM entry WHERE run = $1")
            .bind(&id)
            .fetch_one(&mut *transaction)
            .await
            .and_then(|row| row.try_get::<i64, _>(0))
            .map_err(&failed)?;
        entry.follows(run, next.unsigned_abs())?;
        if let Event::Started { head, .. } = &entry.event {
            sqlx::query(
                "INSERT INTO run (id, procedure, target, started, latest) VALUES ($1, $2, $3, $4, $4)",
            )
            .bind(&id)
            .bind(&head.procedure)
            .bind(&head.target)
            .bind(micros(entry.at))
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
        }
        // Two that counted the same place meet at the key: one of them fails, as it should.
        sqlx::query("INSERT INTO entry (run, seq, at, event) VALUES ($1, $2, $3, $4)")
            .bind(&id)
            .bind(next)
            .bind(micros(entry.at))
            .bind(to_json(&entry.event)?)
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
        let outcome = match &entry.event {
            Event::Ended { outcome } => Some(to_json(outcome)?),
            _ => None,
        };
        sqlx::query("UPDATE run SET latest = $2, outcome = $3 WHERE id = $1")
            .bind(&id)
            .bind(micros(entry.at))
            .bind(outcome)
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
        transaction.commit().await.map_err(&failed)
    }

    async fn entries(&self, run: RunId) -> Result<Vec<Entry>> {
        let failed = self.failed(READ);
        let rows = sqlx::query("SELECT seq, at, event FROM entry WHERE run = $1 ORDER BY seq")
            .bind(run.to_string())
            .fetch_all(&self.pool)
            .await
            .map_err(&failed)?;
        if rows.is_empty() {
            return Err(Error::new(ErrorKind::NotFound, READ)
                .on(run.to_string())
                .because("there is no such run"));
        }
        let entry = |row: &AnyRow| {
            Ok(Entry {
                seq: row.try_get::<i64, _>(0).map_err(&failed)?.unsigned_abs(),
                at: time(row.try_get(1).map_err(&failed)?)?,
                event: from_json("an event", row.try_get(2).map_err(&failed)?)?,
            })
        };
        rows.iter().map(entry).collect()
    }

    async fn runs(&self, filter: &RunFilter) -> Result<Vec<RunSummary>> {
        let failed = self.failed(READ);
        // Ids are made of the time, so their order is that of the runs. A prefix is compared, not matched: it may
        // hold what would be a pattern.
        let rows = sqlx::query(
            "SELECT id, procedure, target, started, latest, outcome FROM run
             WHERE ($1 IS NULL OR procedure = $1) AND ($2 IS NULL OR substr(id, 1, length($2)) = $2)
             ORDER BY id DESC LIMIT $3",
        )
        .bind(filter.procedure.clone())
        .bind(filter.prefix.clone())
        .bind(filter.limit.map_or(i64::MAX, |limit| i64::try_from(limit).unwrap_or(i64::MAX)))
        .fetch_all(&self.pool)
        .await
        .map_err(&failed)?;
        let summary = |row: &AnyRow| {
            let text = |column: usize| row.try_get::<String, _>(column).map_err(&failed);
            let at = |column: usize| time(row.try_get(column).map_err(&failed)?);
            let outcome = row.try_get::<Option<String>, _>(5).map_err(&failed)?;
            Ok(RunSummary {
                run: text(0)?.parse()?,
                procedure: text(1)?,
                target: text(2)?,
                started: at(3)?,
                latest: at(4)?,
                outcome: outcome.map(|outcome| from_json("an outcome", &outcome)).transpose()?,
            })
        };
        rows.iter().map(summary).collect()
    }
}
