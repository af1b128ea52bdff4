//! `pg.index_missing_fk`: foreign keys that no index serves.

use async_trait::async_trait;
use ops_core::{
    Context, Direction, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy, Result,
    Severity, ThresholdSpec, Unit,
};
use serde_json::json;

use super::standby;
use super::words::counted;
use crate::probe::{PgProbe, Scope};
use crate::row::Row;
use crate::target::PgTarget;

/// Serves PostgreSQL 14 and later. An index serves a key when its leading columns are the key's, in any order: a
/// B-tree, or a hash of the only column. A partial one does only where its condition is that a column of the key is
/// not null, which `= $1` implies; any other leaves rows out. A key of a partitioned table is judged at its parent,
/// and its rows and deletes are those of its leaves. Rows are the counters' or the last VACUUM's, whichever is more.
const SQL: &str = "
WITH RECURSIVE below AS (
  SELECT k.relid AS root, k.relid FROM (SELECT conrelid AS relid FROM pg_constraint WHERE contype = 'f'
                                        UNION SELECT confrelid FROM pg_constraint WHERE contype = 'f') k
  UNION ALL
  SELECT b.root, h.inhrelid FROM below b JOIN pg_class p ON p.oid = b.relid AND p.relkind = 'p'
    JOIN pg_inherits h ON h.inhparent = b.relid),
figures AS MATERIALIZED (
  SELECT b.root, sum(greatest(pg_stat_get_live_tuples(c.oid), c.reltuples, 0))::float8 AS rows,
         sum(pg_stat_get_tuples_deleted(c.oid))::float8 AS deleted
    FROM below b JOIN pg_class c ON c.oid = b.relid AND c.relkind = 'r' GROUP BY b.root),
serving AS MATERIALIZED (
  SELECT i.indrelid, i.indnkeyatts, i.indkey::int2[] AS indkey, a.amname,
         (regexp_match(i.indpred::text, '^\\{NULLTEST :arg \\{VAR :varno 1 :varattno (\\d+) [^{}]*\\} :nulltesttype 1 [^{}]*\\}$'))[1]::int2
           AS not_null, i.indpred IS NULL AS whole
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
   WHERE i.indisvalid AND i.indisready AND a.amname IN ('btree', 'hash'))
SELECT quote_ident(k.conname) AS constraint_name,
       quote_ident(n.nspname) || '.' || quote_ident(t.relname) AS table_name,
       quote_ident(rn.nspname) || '.' || quote_ident(r.relname) AS referenced,
       (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY x.position)
          FROM unnest(k.conkey) WITH ORDINALITY x (attnum, position)
          JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = x.attnum) AS columns,
       t.relkind = 'p' AS partitioned, coalesce(f.rows, 0) AS rows, coalesce(rf.deleted, 0) AS deleted,
       k.confdeltype IN ('c', 'n', 'd') AS cascades
  FROM pg_constraint k
  JOIN pg_class t ON t.oid = k.conrelid
  JOIN pg_namespace n ON n.oid = t.relnamespace
  JOIN pg_class r ON r.oid = k.confrelid
  JOIN pg_namespace rn ON rn.oid = r.relnamespace
  LEFT JOIN figures f ON f.root = k.conrelid
  LEFT JOIN figures rf ON rf.root = k.confrelid
 WHERE k.contype = 'f' AND k.conparentid = 0 AND t.relpersistence <> 't'
   AND n.nspname NOT IN ('pg_catalog', 'information_schema')
   AND NOT EXISTS (
         SELECT FROM serving s
          WHERE s.indrelid = k.conrelid AND s.indnkeyatts >= cardinality(k.conkey)
            AND (s.whole OR s.not_null = ANY (k.conkey))
            AND (s.amname = 'btree' OR cardinality(k.conkey) = 1)
            AND s.indkey[0:cardinality(k.conkey) - 1] @> k.conkey)
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                      AND d.objid = t.oid AND d.objsubid = 0 AND d.deptype = 'e')
 ORDER BY rows DESC, 1";

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.index_missing_fk",
    group: "indexes",
    explanation: Explanation {
        why: "Deleting a row that others reference makes the server look for them: without an index it reads the \
              whole referencing table, once for each row deleted, while it holds locks. So do updates of the \
              referenced key.",
        measures: "Foreign keys whose columns no valid index of the referencing table starts with, in any order. A \
                   partial index counts only where it leaves out nothing but nulls. A warning where the referencing \
                   table is large and rows of the referenced one have been deleted since the counters were reset; \
                   shown without alarm where nobody deletes.",
        queries: &[("foreign keys without an index", SQL)],
        codes: &[(
            "pg.index.missing_fk",
            "no index serves a foreign key of a large table (info where nothing is deleted)",
        )],
        versions: "PostgreSQL 14 and later; not on a standby whose primary is configured too",
        cost: "one pass over pg_constraint and pg_index",
        remedy: "Create the index concurrently. Its columns may be the first of a wider one that queries want too.",
    },
    thresholds: &[
        ThresholdSpec {
            name: "rows",
            meaning: "rows of the referencing table, where rows of the referenced one are deleted",
            unit: Unit::Count,
            direction: Direction::Above,
            warning: Some(10_000.0),
            critical: None,
            source: "this project's choice: reading fewer takes about a millisecond",
        },
        ThresholdSpec {
            name: "deleted",
            meaning: "deleted rows of the referenced table below which nothing alarms",
            unit: Unit::Count,
            direction: Direction::Below,
            warning: Some(1.0),
            critical: None,
            source: "this project's choice",
        },
    ],
    requires: &[],
};

/// Findings at most, the largest tables first.
const REPORTED: usize = 20;

#[derive(Debug)]
pub(super) struct IndexMissingFk;

#[async_trait]
impl PgProbe for IndexMissingFk {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Database
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, limits: &Limits) -> Result<ProbeReport> {
        let rows = pg.read(cx, SQL).await?;
        let keys = rows.iter().map(Key::read).collect::<Result<Vec<_>>>()?;
        let summary = match keys.len() {
            0 => "every foreign key has an index".to_owned(),
            n => format!("{} without an index", counted(n, "foreign key is", "foreign keys are")),
        };
        let mut findings: Vec<_> = keys.iter().filter_map(|key| key.finding(limits)).collect();
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        let report = ProbeReport::new(summary)
            .measure(Measurement::new("without_index", keys.len() as f64, Unit::Count))
            .findings(findings.into_iter().take(REPORTED));
        standby::of_catalogue(cx, pg, report).await
    }
}

#[derive(Debug)]
struct Key {
    constraint: String,
    table: String,
    referenced: String,
    columns: String,
    partitioned: bool,
    rows: f64,
    deleted: f64,
    cascades: bool,
}

impl Key {
    fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            constraint: row.get("constraint_name")?,
            table: row.get("table_name")?,
            referenced: row.get("referenced")?,
            columns: row.get("columns")?,
            partitioned: row.get("partitioned")?,
            rows: row.get("rows")?,
            deleted: row.get("deleted")?,
            cascades: row.get("cascades")?,
        })
    }

    fn finding(&self, limits: &Limits) -> Option<Finding> {
        let large = Severity::of(limits.get("rows").judge(self.rows))?;
        let deletes = self.deleted >= limits.get("deleted").warning.unwrap_or(0.0);
        let severity = if deletes { large } else { Severity::Info };
        let Self { constraint, table, referenced, columns, .. } = self;
        let rows = Unit::Count.format(self.rows);
        let message = match deletes {
            true => format!(
                "no index on {table} ({columns}) serves foreign key {constraint}: every delete from {referenced} \
                 reads its {rows} rows ({} so far)",
                counted(self.deleted as usize, "delete", "deletes"),
            ),
            false => format!(
                "no index on {table} ({columns}) serves foreign key {constraint}: a delete from {referenced} would \
                 read its {rows} rows; there was none so far"
            ),
        };
        let remedy = match self.partitioned {
            true => Remedy::statement(format!("CREATE INDEX ON ONLY {table} ({columns});")).because(
                "then create one on each partition concurrently, and attach them: CREATE INDEX on the parent alone \
                 would block its writers",
            ),
            false => Remedy::statement(format!("CREATE INDEX CONCURRENTLY ON {table} ({columns});")),
        };
        let evidence = json!({
            "constraint": constraint, "table": table, "columns": columns, "referenced": referenced, "rows": self.rows,
            "deleted": self.deleted, "cascades": self.cascades,
        });
        Some(
            Finding::new(severity, "pg.index.missing_fk", message)
                .object(format!("{table} ({columns})"))
                .evidence(evidence)
                .remedy(remedy),
        )
    }
}
