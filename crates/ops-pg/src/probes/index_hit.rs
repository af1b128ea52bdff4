//! `pg.index_hit`: which share of the index blocks asked for was in shared buffers.

use async_trait::async_trait;
use ops_core::{
    Context, Direction, Explanation, Limits, ProbeReport, ProbeSpec, Result, ThresholdSpec, Unit,
};

use super::cache_hit::{FLOOR, judge};
use super::windowed::rise;
use crate::probe::{PgProbe, Scope};
use crate::target::PgTarget;

/// Serves PostgreSQL 14 and later. The functions read statistics by oid and open no index. A sum goes down with an
/// index that is dropped, which would look like a reset: which indexes there are is part of what it counts from.
const SQL: &str = "
SELECT c.name, c.value, concat_ws(' ', d.stats_reset, s.indexes) AS epoch
  FROM pg_stat_database d,
       LATERAL (SELECT coalesce(sum(pg_stat_get_blocks_fetched(i.oid)), 0)::float8 AS fetched,
                       coalesce(sum(pg_stat_get_blocks_hit(i.oid)), 0)::float8     AS hit,
                       concat_ws(' ', count(*), sum(i.oid::int8))                  AS indexes
                  FROM pg_class i
                  JOIN pg_namespace n ON n.oid = i.relnamespace
                 WHERE i.relkind = 'i' AND i.relpersistence <> 't'
                   AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')) s,
       LATERAL (VALUES ('hit', s.hit), ('read', s.fetched - s.hit)) c (name, value)
 WHERE d.datname = current_database()";

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.index_hit",
    group: "disk I/O",
    explanation: Explanation {
        why: "Indexes are what every short query reads first: when they no longer stay in memory, each look-up waits \
              for the disk several times.",
        measures: "Blocks of users' indexes found in shared buffers, as a share of those asked for in this \
                   database, over the window since the last look (or one second, where there was none). What the \
                   operating system caches counts as read. It is shown, and alarms only where bounds are set.",
        queries: &[("index blocks found and read", SQL)],
        codes: &[("pg.index_hit.low", "the share is under the configured bound")],
        versions: "PostgreSQL 14 and later",
        cost: "one pass over the statistics of this database's indexes; two where there is no baseline",
        remedy: "Drop what is not used (`ops explain pg.index_duplicate`, pg.index_unused) and REINDEX what is \
                 bloated before adding memory: both make indexes smaller.",
    },
    thresholds: &[
        ThresholdSpec {
            name: "hit",
            meaning: "index blocks found in shared buffers, of those asked for in the window",
            unit: Unit::Percent,
            direction: Direction::Below,
            warning: None,
            critical: None,
            source: "none: it depends on how large the indexes are and what reads them",
        },
        FLOOR,
    ],
    requires: &[],
};

#[derive(Debug)]
pub(super) struct IndexHit;

#[async_trait]
impl PgProbe for IndexHit {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Database
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, limits: &Limits) -> Result<ProbeReport> {
        let window = match rise(cx, pg, SPEC.name, SQL).await? {
            Ok(window) => window,
            Err(report) => return Ok(report),
        };
        let database = pg.capabilities(cx).await?.database.clone();
        Ok(judge(&window, limits, "index blocks", "pg.index_hit.low", &database))
    }
}
