//! `pg.index_invalid`: indexes that are written and never read.

use async_trait::async_trait;
use ops_core::{
    Context, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy, Result, Unit,
};
use serde_json::json;

use super::standby;
use super::words::counted;
use crate::probe::{PgProbe, Scope};
use crate::row::Row;
use crate::target::PgTarget;

/// Serves PostgreSQL 14 and later. Whether one is being built right now is told by the lock that its builder holds on
/// the table: pids and locks are for every role to see, the progress view's own columns are not. REINDEX CONCURRENTLY
/// makes all new indexes of a table before it fills the first, so a builder on the table speaks for each of them.
const SQL: &str = "
WITH builder AS MATERIALIZED (
  SELECT DISTINCT l.relation FROM pg_locks l JOIN pg_stat_progress_create_index p ON p.pid = l.pid
   WHERE l.locktype = 'relation' AND l.granted AND l.mode IN ('ShareUpdateExclusiveLock', 'AccessExclusiveLock')
     AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name,
       quote_ident(tn.nspname) || '.' || quote_ident(t.relname) AS table_name,
       i.indisvalid AS valid, i.indisready AS ready, c.relkind = 'I' AS partitioned,
       c.relname ~ '_ccnew[0-9]*$' AS new_one, c.relname ~ '_ccold[0-9]*$' AS old_one,
       i.indisprimary OR EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid) AS backs_constraint,
       b.relation IS NOT NULL AS being_built,
       (c.relpages::int8 * current_setting('block_size')::int8)::int8 AS bytes
  FROM pg_index i
  JOIN pg_class c ON c.oid = i.indexrelid
  JOIN pg_class t ON t.oid = i.indrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_namespace tn ON tn.oid = t.relnamespace
  LEFT JOIN builder b ON b.relation = i.indrelid
 WHERE NOT (i.indisvalid AND i.indisready AND i.indislive) AND c.relpersistence <> 't'
   AND n.nspname NOT IN ('pg_catalog', 'information_schema')
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                      AND d.objid = t.oid AND d.objsubid = 0 AND d.deptype = 'e')
 ORDER BY c.relpages DESC, 1";

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.index_invalid",
    group: "indexes",
    explanation: Explanation {
        why: "An index whose concurrent build failed is not used by any query, and is still written by every change. \
              A unique one enforces nothing for the rows that were there before.",
        measures: "Indexes that are not valid or not ready, the _ccnew and _ccold that REINDEX CONCURRENTLY leaves \
                   behind when it fails, and indexes of partitioned tables that some partition lacks. One that is \
                   being built now is no finding.",
        queries: &[("invalid indexes that nobody is building", SQL)],
        codes: &[
            ("pg.index.invalid", "an index is not valid, and nobody is building it"),
            ("pg.index.incomplete", "an index of a partitioned table is not on all partitions"),
        ],
        versions: "PostgreSQL 14 and later; not on a standby whose primary is configured too",
        cost: "one pass over pg_index, and one over the locks",
        remedy: "Drop a leftover concurrently; REINDEX INDEX CONCURRENTLY one that you want. Of a failed unique \
                 index, look for the duplicates that made it fail first.",
    },
    thresholds: &[],
    requires: &[],
};

#[derive(Debug)]
pub(super) struct IndexInvalid;

#[async_trait]
impl PgProbe for IndexInvalid {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Database
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, _limits: &Limits) -> Result<ProbeReport> {
        let rows = pg.read(cx, SQL).await?;
        let indexes = rows.iter().map(Index::read).collect::<Result<Vec<_>>>()?;
        let (building, left): (Vec<_>, Vec<_>) = indexes.iter().partition(|index| index.being_built);
        let mut summary = match left.len() {
            0 => "every index is valid".to_owned(),
            n => format!("{} not valid", counted(n, "index is", "indexes are")),
        };
        if !building.is_empty() {
            summary
                .push_str(&format!("; {} being built", counted(building.len(), "index is", "indexes are")));
        }
        let report = ProbeReport::new(summary)
            .measure(Measurement::new("invalid", left.len() as f64, Unit::Count))
            .measure(Measurement::new("being_built", building.len() as f64, Unit::Count))
            .findings(left.into_iter().map(Index::finding));
        standby::of_catalogue(cx, pg, report).await
    }
}

#[derive(Debug)]
struct Index {
    name: String,
    table: String,
    valid: bool,
    ready: bool,
    partitioned: bool,
    new_one: bool,
    old_one: bool,
    backs_constraint: bool,
    being_built: bool,
    bytes: i64,
}

impl Index {
    fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            name: row.get("name")?,
            table: row.get("table_name")?,
            valid: row.get("valid")?,
            ready: row.get("ready")?,
            partitioned: row.get("partitioned")?,
            new_one: row.get("new_one")?,
            old_one: row.get("old_one")?,
            backs_constraint: row.get("backs_constraint")?,
            being_built: row.get("being_built")?,
            bytes: row.get("bytes")?,
        })
    }

    fn finding(&self) -> Finding {
        let Self { name, table, .. } = self;
        let (code, message) = match self.partitioned {
            true => (
                "pg.index.incomplete",
                format!(
                    "{name} of partitioned table {table} is not on all of its partitions, and is not used"
                ),
            ),
            false => (
                "pg.index.invalid",
                format!(
                    "{name} ({}) on {table} is {}",
                    Unit::Bytes.format(self.bytes as f64),
                    match (self.new_one, self.old_one) {
                        (true, _) => "left over from REINDEX CONCURRENTLY that failed: no query uses it",
                        (_, true) =>
                            "left over from REINDEX CONCURRENTLY that failed to drop it: no query uses it",
                        _ => "not valid: no query uses it, every write may still pay for it",
                    }
                ),
            ),
        };
        Finding::warning(code, message).object(name).remedy(self.remedy()).evidence(json!({
            "index": name, "table": table, "valid": self.valid, "ready": self.ready, "bytes": self.bytes,
        }))
    }

    fn remedy(&self) -> Remedy {
        let Self { name, .. } = self;
        let leftover = self.new_one || self.old_one;
        match (self.partitioned, leftover, self.backs_constraint) {
            (true, ..) => Remedy::advice(
                "create it on each partition that lacks it, concurrently, and ALTER INDEX … ATTACH PARTITION it",
            ),
            (_, true, false) => Remedy::statement(format!("DROP INDEX CONCURRENTLY {name};")),
            _ => Remedy::statement(format!("REINDEX INDEX CONCURRENTLY {name};")).because(
                "drop it instead where nobody misses it; a unique one fails again until its duplicates are gone",
            ),
        }
    }
}
