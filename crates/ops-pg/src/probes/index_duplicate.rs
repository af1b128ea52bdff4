//! `pg.index_duplicate`: indexes that repeat another one.

use async_trait::async_trait;
use ops_core::words::count;
use ops_core::{
    Context, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy, Result, Unit,
};
use serde_json::json;

use super::standby;
use crate::probe::{PgProbe, Scope};
use crate::row::Row;
use crate::target::PgTarget;

/// Serves PostgreSQL 14 and later. Expressions and predicates are compared as node trees less the positions at
/// which they were typed: `pg_get_expr` would open the table, and wait behind an ALTER. Sizes are by `relpages`
/// for the same reason. Twins are found in one sorted pass; only they are compared with each other, and only of them
/// are the options of their operator classes looked up (`gist_trgm_ops (siglen = 256)`), column by column. An index
/// that a constraint, a replica identity or a partitioned parent needs is kept, and so is a unique one against one
/// that is not, and one that enforces something else (NULLS NOT DISTINCT, DEFERRABLE).
const SQL: &str = "
WITH every AS (
  SELECT i.indexrelid, i.indrelid,
         quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name,
         quote_ident(n.nspname) || '.' || quote_ident(t.relname) AS table_name,
         (c.relpages + coalesce((SELECT sum(l.relpages) FROM pg_inherits h JOIN pg_class l ON l.oid = h.inhrelid
                                  WHERE h.inhparent = c.oid), 0))::int8
           * current_setting('block_size')::int8                 AS bytes,
         c.relkind = 'I'                                         AS partitioned,
         i.indisunique, i.indisvalid,
         i.indisprimary OR i.indisreplident OR i.indisexclusion
           OR EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid)
           OR c.relispartition AS needed,
         concat(i.indimmediate, to_jsonb(i)->>'indnullsnotdistinct') AS enforces,
         concat_ws(' | ', c.relam, CASE WHEN a.amname NOT IN ('btree', 'hash') THEN c.reloptions::text END,
                   i.indkey::text, i.indnkeyatts, i.indclass::text, i.indcollation::text, i.indoption::text,
                   regexp_replace(i.indexprs::text, ':(stmt_)?loc(ation)? -?\\d+', '', 'g'),
                   regexp_replace(i.indpred::text,  ':(stmt_)?loc(ation)? -?\\d+', '', 'g')) AS shape
    FROM pg_index i
    JOIN pg_class c ON c.oid = i.indexrelid AND c.relkind IN ('i', 'I')
    JOIN pg_am a ON a.oid = c.relam
    JOIN pg_class t ON t.oid = i.indrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE n.nspname NOT IN ('pg_catalog', 'pg_toast', 'information_schema') AND c.relpersistence <> 't'),
idx AS MATERIALIZED (
  SELECT e.*, coalesce((SELECT string_agg(concat(a.attnum, a.attoptions::text), ' ' ORDER BY a.attnum)
                          FROM pg_attribute a
                         WHERE a.attrelid = e.indexrelid AND a.attoptions IS NOT NULL), '') AS options
    FROM (SELECT *, count(*) OVER (PARTITION BY indrelid, shape) AS alike FROM every) e WHERE alike > 1)
SELECT d.name, d.table_name, d.bytes, d.partitioned, k.name AS kept
  FROM idx d
  JOIN LATERAL (
         SELECT o.* FROM idx o
          WHERE o.indrelid = d.indrelid AND o.indexrelid <> d.indexrelid AND o.shape = d.shape
            AND o.options = d.options AND o.indisvalid
            AND (NOT d.indisunique OR (o.indisunique AND o.enforces = d.enforces))
            AND ( (o.needed, o.indisunique, -o.indexrelid::int8) > (d.needed, d.indisunique, -d.indexrelid::int8) )
          ORDER BY o.needed DESC, o.indisunique DESC, o.indexrelid LIMIT 1) k ON true
 WHERE NOT d.needed AND d.indisvalid
 ORDER BY d.bytes DESC, d.name";

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.index_duplicate",
    group: "indexes",
    explanation: Explanation {
        why: "Every write to the table also writes each copy, every VACUUM reads it, and it takes memory from what \
              is useful. No query is faster for it.",
        measures: "Indexes of one table with the same method, columns, order, operator classes with their options, \
                   collations, expressions and predicate. Of such a pair the one that a constraint or the replica \
                   identity needs stays, else the unique one, else the older.",
        queries: &[("pairs of like indexes, with the one to keep", SQL)],
        codes: &[("pg.index.duplicate", "an index repeats another one and can go")],
        versions: "PostgreSQL 14 and later; not on a standby whose primary is configured too",
        cost: "one pass over pg_index; grows with the number of indexes, not with their size",
        remedy: "Drop the one named, concurrently. Look first for queries with hints or monitoring by that name.",
    },
    thresholds: &[],
    requires: &[],
};

#[derive(Debug)]
pub(super) struct IndexDuplicate;

#[async_trait]
impl PgProbe for IndexDuplicate {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Database
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, _limits: &Limits) -> Result<ProbeReport> {
        let rows = pg.read(cx, SQL).await?;
        let mut bytes = 0;
        let mut findings = Vec::with_capacity(rows.len());
        for row in &rows {
            bytes += row.get::<i64>("bytes")?;
            findings.push(finding(row)?);
        }
        let summary = match rows.len() {
            0 => "no index repeats another".to_owned(),
            n => {
                let repeat = count(n as f64, "index repeats", "indexes repeat");
                format!("{repeat} another one, {}", Unit::Bytes.format(bytes as f64))
            }
        };
        let report = ProbeReport::new(summary)
            .measure(Measurement::new("duplicates", rows.len() as f64, Unit::Count))
            .measure(Measurement::new("size", bytes as f64, Unit::Bytes))
            .findings(findings);
        standby::of_catalogue(cx, pg, report).await
    }
}

fn finding(row: &Row) -> Result<Finding> {
    let (name, kept, table): (String, String, String) =
        (row.get("name")?, row.get("kept")?, row.get("table_name")?);
    let bytes: i64 = row.get("bytes")?;
    let message = format!("{name} ({}) repeats {kept} on {table}", Unit::Bytes.format(bytes as f64));
    Ok(Finding::warning("pg.index.duplicate", message)
        .object(name.clone())
        .evidence(json!({ "index": name, "kept": kept, "table": table, "bytes": bytes }))
        .remedy(match row.get("partitioned")? {
            true => Remedy::statement(format!("DROP INDEX {name};")).because(
                "an index of a partitioned table cannot be dropped concurrently: it locks the table, briefly",
            ),
            false => Remedy::statement(format!("DROP INDEX CONCURRENTLY {name};")),
        }))
}
