//! A state does not live on a server that it is about: ops must remember when that is down.

use std::time::Duration;

use ops_core::{Context, Error, ErrorKind, Result};
use ops_pg::PgTarget;
use sqlx::Row;

use crate::config::Config;

use super::SqlState;

/// One that does not answer by then is not the server that keeps the state: that one has just answered.
const PATIENCE: Duration = Duration::from_secs(5);

impl SqlState {
    pub(super) async fn refuse_watched(&self, cx: &Context, config: &Config) -> Result<()> {
        let mine: String = sqlx::query("SELECT system_identifier::text FROM pg_control_system()")
            .fetch_one(&self.pool)
            .await
            .and_then(|row| row.try_get(0))
            .map_err(self.failed("tell which server keeps the state"))?;
        for (name, watched) in &config.postgres {
            let target = PgTarget::connect_lazily(name, &watched.url, watched.config.clone())?;
            let answer = target.system_identifier(&cx.with_deadline(PATIENCE)).await;
            if answer.is_ok_and(|identifier| identifier == mine) {
                return Err(Error::new(ErrorKind::Refused, "keep the state")
                    .on(&self.place)
                    .because(format!(
                        "[postgres.{name}] is the same server: ops must remember when that is down"
                    ))
                    .with_fix("another server in [state] url, or [state] file"));
            }
        }
        Ok(())
    }
}
