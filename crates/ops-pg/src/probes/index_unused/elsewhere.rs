//! What the standbys among the configured servers count: each counts its own scans.

use std::collections::{BTreeMap, HashMap};

use ops_core::{Context, Error, Result};

use crate::fleet::identified;
use crate::target::PgTarget;

/// Serves PostgreSQL 14 and later. A standby is a copy of its primary, so the number of an index is the same.
pub(super) const SQL: &str = "
SELECT i.indexrelid::int8 AS index, pg_stat_get_numscans(i.indexrelid)::float8 AS scans,
       extract(epoch FROM now() - coalesce((SELECT stats_reset FROM pg_stat_database WHERE datname = current_database()),
                                           (SELECT stats_reset FROM pg_stat_archiver),
                                           pg_postmaster_start_time()))::float8 AS counted_for
  FROM pg_index i";

/// The standbys of this server that are configured beside it.
#[derive(Debug, Default)]
pub(super) struct Elsewhere {
    /// Scans on all of them together, by index.
    pub(super) scans: HashMap<i64, f64>,
    /// The shortest time that one of them has counted, in seconds.
    pub(super) counted_for: Option<f64>,
    /// Those that were asked.
    pub(super) asked: Vec<String>,
    /// Those of which nobody knows, and why.
    pub(super) silent: Vec<(String, Error)>,
}

impl Elsewhere {
    /// Asks every configured server whether it is a standby of this one, and what it counts.
    pub(super) async fn look(cx: &Context, pg: &PgTarget) -> Self {
        let mut elsewhere = Self::default();
        if pg.others().is_empty() {
            return elsewhere;
        }
        let own = identified(cx, pg).await;
        // Two names for one server are one.
        let mut standbys: BTreeMap<String, &PgTarget> = BTreeMap::new();
        for other in pg.others() {
            match (&own, identified(cx, other).await) {
                (Ok((cluster, ..)), Ok((of, server, false))) if of == *cluster => {
                    standbys.entry(server).or_insert(other);
                }
                // Another cluster, this very server, or one that is no longer a copy.
                (_, Ok((_, _, true))) | (Ok(_), Ok(_)) => {}
                (Err(error), Ok(_)) => elsewhere.silent.push((other.name().to_owned(), error.clone())),
                (_, Err(error)) => elsewhere.silent.push((other.name().to_owned(), error)),
            }
        }
        for standby in standbys.into_values() {
            match elsewhere.add(cx, pg, standby).await {
                Ok(()) => elsewhere.asked.push(standby.name().to_owned()),
                Err(error) => elsewhere.silent.push((standby.name().to_owned(), error)),
            }
        }
        elsewhere
    }

    async fn add(&mut self, cx: &Context, pg: &PgTarget, standby: &PgTarget) -> Result<()> {
        let database = &pg.capabilities(cx).await?.database;
        for row in standby.for_database(database).read(cx, SQL).await? {
            *self.scans.entry(row.get("index")?).or_default() += row.get::<f64>("scans")?;
            let counted: f64 = row.get("counted_for")?;
            self.counted_for = Some(self.counted_for.map_or(counted, |least| least.min(counted)));
        }
        Ok(())
    }
}
