//! `pg.index_bloat`: how much of a B-tree's pages its entries do not need.

use async_trait::async_trait;
use ops_core::{
    Context, Direction, Explanation, Finding, Limits, ProbeReport, ProbeSpec, Remedy, Result, Severity,
    ThresholdSpec, Unit,
};
use serde_json::json;

use super::bloat::{Bloat, Column, ITEM_POINTER, PAGE_HEADER, Relation, aligned, any_null, data_width};
use super::estimate::{Estimated, look};
use super::words::counted;
use crate::grants;
use crate::probe::{PgProbe, Scope};
use crate::row::Row;
use crate::target::PgTarget;

/// Serves PostgreSQL 14 and later; `{statistics}` is where the statistics of columns may be read: of a key that is a
/// column those of the table, of an expression the index's own. Entries alike are kept as one where the method can
/// tell that they are (`btequalimage`, support function 4), unless the index has other columns along or was told not to.
const SQL: &str = "
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name,
       quote_ident(n.nspname) || '.' || quote_ident(t.relname) AS table_name,
       c.relpages::float8 AS pages, c.reltuples::float8 AS rows, t.reltuples::float8 AS table_rows,
       current_setting('block_size')::float8 AS block_size,
       coalesce((SELECT option_value::float8 FROM pg_options_to_table(c.reloptions) WHERE option_name = 'fillfactor'), 90)
         AS fillfactor,
       pg_stat_get_mod_since_analyze(t.oid)::float8 AS modified,
       coalesce(pg_stat_get_last_analyze_time(t.oid), pg_stat_get_last_autoanalyze_time(t.oid)) IS NOT NULL AS analysed,
       NOT i.indisunique AND i.indnkeyatts = i.indnatts
         AND coalesce((SELECT option_value::bool FROM pg_options_to_table(c.reloptions)
                        WHERE option_name = 'deduplicate_items'), true)
         AND NOT EXISTS (SELECT FROM unnest(i.indclass::oid[]) k (opclass) JOIN pg_opclass o ON o.oid = k.opclass
                          WHERE NOT EXISTS (SELECT FROM pg_amproc p
                                             WHERE p.amprocfamily = o.opcfamily AND p.amprocnum = 4
                                               AND p.amproclefttype = o.opcintype AND p.amprocrighttype = o.opcintype))
         AND NOT EXISTS (SELECT FROM unnest(i.indcollation::oid[]) k (collation_oid)
                           JOIN pg_collation l ON l.oid = k.collation_oid AND NOT l.collisdeterministic)
         AS deduplicates,
       (SELECT json_agg(json_build_object('length', a.attlen, 'align', a.attalign, 'absent', false,
                                          'width', s.average_width, 'nulls', s.null_fraction,
                                          'distinct', s.distinct_values) ORDER BY a.attnum)::text
          FROM pg_attribute a
          LEFT JOIN {statistics} s
                 ON s.relid = CASE WHEN i.indkey[a.attnum - 1] = 0 THEN i.indexrelid ELSE i.indrelid END
                AND s.attnum = CASE WHEN i.indkey[a.attnum - 1] = 0 THEN a.attnum ELSE i.indkey[a.attnum - 1] END
                AND NOT s.inherited
         WHERE a.attrelid = c.oid AND a.attnum > 0) AS columns
  FROM pg_index i
  JOIN pg_class c ON c.oid = i.indexrelid AND c.relkind = 'i'
  JOIN pg_am m ON m.oid = c.relam AND m.amname = 'btree'
  JOIN pg_class t ON t.oid = i.indrelid AND t.relkind IN ('r', 'm')
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE i.indisvalid AND c.relpersistence <> 't'
   AND c.relpages * current_setting('block_size')::int8 >= 1048576 AND c.reltuples >= 0 AND t.reltuples >= 0
   AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                      AND d.objid = t.oid AND d.objsubid = 0 AND d.deptype = 'e')
 ORDER BY c.relpages DESC LIMIT 1000";

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.index_bloat",
    group: "indexes",
    explanation: Explanation {
        why: "A B-tree gives back a page only when the last entry on it is gone. After large deletes, or under \
              updates that VACUUM does not keep up with, its pages are mostly air, which is cached and read all the same.",
        measures: "The pages that the entries would need, by their keys' mean widths, padding, fillfactor, and \
                   entries alike kept as one, against the pages there are, for the 1000 largest B-trees. An \
                   estimate, within about ten points of pgstatindex: keys in random order settle at 20 to 30 % of \
                   air, which is no bloat. Unknown where the statistics are older than the last large change.",
        queries: &[("large B-trees with the widths of their keys", SQL)],
        codes: &[("pg.index.bloat", "much of an index is air")],
        versions: "PostgreSQL 14 and later; a standby is a copy of its primary, and not asked",
        cost: "one pass over pg_index, and the statistics of the columns of large indexes",
        remedy: "Confirm with pgstatindex, then REINDEX INDEX CONCURRENTLY. It takes the index's size on disk again \
                 while it runs.",
    },
    thresholds: &[
        ThresholdSpec {
            name: "bloat",
            meaning: "share of an index's pages that its entries do not need",
            unit: Unit::Percent,
            direction: Direction::Above,
            warning: Some(50.0),
            critical: None,
            source: "this project's choice: twice the pages that are needed",
        },
        ThresholdSpec {
            name: "wasted",
            meaning: "bytes below which air is not worth a rebuild",
            unit: Unit::Bytes,
            direction: Direction::Below,
            warning: Some(52_428_800.0),
            critical: None,
            source: "this project's choice; check_postgres' bloat action warns at 1 GB",
        },
    ],
    requires: &[grants::COLUMN_STATISTICS],
};

/// What a B-tree keeps at the end of each page.
const SPECIAL: f64 = 16.0;

/// The most that entries alike are kept in as one: half the largest tuple, a third of a page.
const LARGEST_POSTING: f64 = 1_352.0;

#[derive(Debug)]
pub(super) struct IndexBloat;

#[async_trait]
impl PgProbe for IndexBloat {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Database
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, limits: &Limits) -> Result<ProbeReport> {
        look::<Index>(cx, pg, SQL, limits).await
    }
}

#[derive(Debug)]
struct Index {
    table: String,
    relation: Relation,
    deduplicates: bool,
}

impl Estimated for Index {
    const JUDGED: [&'static str; 2] = ["large B-tree", "large B-trees"];
    const BLOATED: [&'static str; 2] = ["index is", "indexes are"];

    fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            table: row.get("table_name")?,
            relation: Relation::read(row)?,
            deduplicates: row.get("deduplicates")?,
        })
    }

    fn relation(&self) -> &Relation {
        &self.relation
    }

    /// The pages that its entries would fill; `None` where a key has no statistics.
    fn needed(&self) -> Option<f64> {
        let Relation { columns, rows, block_size, fill, .. } = &self.relation;
        let nulls = any_null(columns);
        let entry = 8.0 + nulls * 8.0 + data_width(columns)?;
        let page = block_size - PAGE_HEADER - SPECIAL;
        let a_row = if self.deduplicates { self.deduplicated(entry) } else { entry + ITEM_POINTER };
        let leaves = (rows * a_row / (page * fill - entry)).ceil().max(1.0);
        let inner = leaves * (entry + ITEM_POINTER) / (page * 0.7);
        Some(1.0 + leaves + inner.ceil())
    }

    fn finding(&self, bloat: &Bloat, severity: Severity) -> Finding {
        finding(self, bloat, severity)
    }

    fn stale(&self, of: usize) -> (String, String) {
        let what = format!(
            "the statistics that {} would be judged by are missing or out of date, such as those of {}",
            counted(of, "large index", "large indexes"),
            self.table
        );
        (what, format!("ANALYZE {};", self.table))
    }
}

impl Index {
    /// The bytes of a row where entries alike share their key.
    fn deduplicated(&self, entry: f64) -> f64 {
        let alike = self.relation.rows / distinct(&self.relation.columns, self.relation.rows);
        let shared = alike.min((LARGEST_POSTING - entry) / 6.0);
        if shared < 2.0 {
            entry + ITEM_POINTER
        } else {
            (aligned(entry + 6.0 * shared) + ITEM_POINTER) / shared
        }
    }
}

/// How many keys differ, as if columns did so independently of each other: rather too many, so that the estimate errs
/// on the side of no bloat.
fn distinct(columns: &[Column], rows: f64) -> f64 {
    let of = |column: &Column| match column.distinct {
        Some(share) if share < 0.0 => -share * rows,
        Some(count) if count > 0.0 => count + f64::from(u8::from(column.nulls() > 0.0)),
        _ => rows,
    };
    columns.iter().map(of).product::<f64>().clamp(1.0, rows.max(1.0))
}

fn finding(index: &Index, bloat: &Bloat, severity: Severity) -> Finding {
    let Relation { name, rows, .. } = &index.relation;
    let message = format!(
        "about {:.0} % of {name} on {} is air: {} of {}",
        bloat.percent,
        index.table,
        Unit::Bytes.format(bloat.wasted),
        Unit::Bytes.format(index.relation.bytes()),
    );
    Finding::new(severity, "pg.index.bloat", message)
        .object(name)
        .evidence(json!({
            "index": name, "table": index.table, "bytes": index.relation.bytes(), "wasted_bytes": bloat.wasted,
            "percent": bloat.percent, "entries": rows, "deduplicates": index.deduplicates,
        }))
        .remedy(
            Remedy::statement(format!("REINDEX INDEX CONCURRENTLY {name};"))
                .because("it takes the index's size on disk again while it runs"),
        )
}
