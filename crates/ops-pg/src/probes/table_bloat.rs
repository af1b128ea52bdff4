//! `pg.table_bloat`: how much of a table's pages its rows do not need.

use async_trait::async_trait;
use ops_core::{
    Context, Direction, Explanation, Finding, Limits, ProbeReport, ProbeSpec, Remedy, Result, Severity,
    ThresholdSpec, Unit,
};
use serde_json::json;

use super::bloat::{Bloat, ITEM_POINTER, PAGE_HEADER, Relation, aligned, any_null, data_width};
use super::estimate::{Estimated, look};
use super::words::counted;
use crate::grants;
use crate::probe::{PgProbe, Scope};
use crate::row::Row;
use crate::target::PgTarget;

/// Serves PostgreSQL 14 and later; `{statistics}` is where the statistics of columns may be read. Pages and rows are
/// those of the last VACUUM or ANALYZE. Tables under 1 MiB have nothing to waste.
const SQL: &str = "
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name,
       c.relpages::float8 AS pages, c.reltuples::float8 AS rows, c.reltuples::float8 AS table_rows,
       current_setting('block_size')::float8 AS block_size,
       coalesce((SELECT option_value::float8 FROM pg_options_to_table(c.reloptions) WHERE option_name = 'fillfactor'), 100)
         AS fillfactor,
       pg_stat_get_mod_since_analyze(c.oid)::float8 AS modified,
       coalesce(pg_stat_get_last_analyze_time(c.oid), pg_stat_get_last_autoanalyze_time(c.oid)) IS NOT NULL AS analysed,
       (SELECT json_agg(json_build_object('length', a.attlen, 'align', a.attalign,
                                          'absent', a.attisdropped OR a.attgenerated = 'v',
                                          'width', s.average_width, 'nulls', s.null_fraction) ORDER BY a.attnum)::text
          FROM pg_attribute a
          LEFT JOIN {statistics} s ON s.relid = a.attrelid AND s.attnum = a.attnum AND NOT s.inherited
         WHERE a.attrelid = c.oid AND a.attnum > 0) AS columns
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_am m ON m.oid = c.relam AND m.amname = 'heap'
 WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't'
   AND c.relpages * current_setting('block_size')::int8 >= 1048576 AND c.reltuples >= 0
   AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0)
   AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                      AND d.objid = c.oid AND d.objsubid = 0 AND d.deptype = 'e')
 ORDER BY c.relpages DESC LIMIT 1000";

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.table_bloat",
    group: "tables",
    explanation: Explanation {
        why: "A bloated table is read, cached and backed up with all its air. VACUUM keeps the space for new rows \
              and does not give it back; where no new rows come, it is lost.",
        measures: "The pages that the rows would need, by their columns' mean widths, padding, null bitmap and \
                   fillfactor, against the pages there are, for the 1000 largest tables. An estimate, within about \
                   ten points of pgstattuple_approx; TOAST is not counted. Unknown where the statistics are older \
                   than the last large change: changes of over a fifth of the rows since the last ANALYZE.",
        queries: &[("large tables with the widths of their columns", SQL)],
        codes: &[("pg.table.bloat", "much of a table is air")],
        versions: "PostgreSQL 14 and later; a standby is a copy of its primary, and not asked",
        cost: "one pass over pg_class, and the statistics of the columns of large tables",
        remedy: "Confirm with pgstattuple_approx. Then find why VACUUM came too late (pg.vacuum_backlog, an old \
                 transaction), and rewrite: pg_repack or pg_squeeze while it is used, VACUUM FULL where it may be \
                 locked for as long as it takes.",
    },
    thresholds: &[
        ThresholdSpec {
            name: "bloat",
            meaning: "share of a table's pages that its rows do not need",
            unit: Unit::Percent,
            direction: Direction::Above,
            warning: Some(50.0),
            critical: None,
            source: "this project's choice: twice the pages that are needed",
        },
        ThresholdSpec {
            name: "wasted",
            meaning: "bytes below which air is not worth a rewrite",
            unit: Unit::Bytes,
            direction: Direction::Below,
            warning: Some(104_857_600.0),
            critical: None,
            source: "this project's choice; check_postgres' bloat action warns at 1 GB",
        },
    ],
    requires: &[grants::COLUMN_STATISTICS],
};

#[derive(Debug)]
pub(super) struct TableBloat;

#[async_trait]
impl PgProbe for TableBloat {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Database
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, limits: &Limits) -> Result<ProbeReport> {
        look::<Table>(cx, pg, SQL, limits).await
    }
}

#[derive(Debug)]
struct Table(Relation);

impl Estimated for Table {
    const JUDGED: [&'static str; 2] = ["large table", "large tables"];
    const BLOATED: [&'static str; 2] = ["table is", "tables are"];

    fn read(row: &Row) -> Result<Self> {
        Relation::read(row).map(Self)
    }

    fn relation(&self) -> &Relation {
        &self.0
    }

    fn needed(&self) -> Option<f64> {
        needed(&self.0)
    }

    fn finding(&self, bloat: &Bloat, severity: Severity) -> Finding {
        finding(&self.0, bloat, severity)
    }

    fn stale(&self, of: usize) -> (String, String) {
        let what = format!(
            "the statistics of {} are missing or out of date, such as those of {}",
            counted(of, "large table", "large tables"),
            self.0.name
        );
        (what, format!("ANALYZE {};", self.0.name))
    }
}

/// The pages that its rows would fill; `None` where a column has no statistics.
fn needed(table: &Relation) -> Option<f64> {
    let bitmap = (table.columns.len() as f64 / 8.0).ceil();
    let nulls = any_null(&table.columns);
    let header = (1.0 - nulls) * aligned(23.0) + nulls * aligned(23.0 + bitmap);
    let tuple = ITEM_POINTER + header + data_width(&table.columns)?;
    let a_page = ((table.block_size - PAGE_HEADER) * table.fill / tuple).floor().max(1.0);
    Some((table.rows / a_page).ceil())
}

fn finding(table: &Relation, bloat: &Bloat, severity: Severity) -> Finding {
    let message = format!(
        "about {:.0} % of {} is air: {} of {}",
        bloat.percent,
        table.name,
        Unit::Bytes.format(bloat.wasted),
        Unit::Bytes.format(table.bytes()),
    );
    Finding::new(severity, "pg.table.bloat", message)
        .object(&table.name)
        .evidence(json!({
            "table": table.name, "bytes": table.bytes(), "wasted_bytes": bloat.wasted, "percent": bloat.percent,
            "rows": table.rows, "fillfactor": 100.0 * table.fill,
        }))
        .remedy(Remedy::advice(
            "confirm with pgstattuple_approx; then rewrite it with pg_repack, or with VACUUM FULL where nobody needs \
             it for as long as that takes",
        ))
}
