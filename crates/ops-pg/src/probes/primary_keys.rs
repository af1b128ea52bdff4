//! `pg.primary_keys`: tables whose rows have no name.

use async_trait::async_trait;
use ops_core::{
    Context, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy, Result, Severity,
    Unit,
};
use serde_json::json;

use super::standby;
use super::words::counted;
use crate::probe::{PgProbe, Scope};
use crate::row::Row;
use crate::target::PgTarget;

/// Serves PostgreSQL 14 and later; `{by_schema}` is whether a publication has all tables of a schema, from 15 on. A
/// partition takes its key from its parent, and is published with it; its replica identity is its own. Publications
/// are read from their own tables: `pg_publication_tables` opens every table that it lists.
const SQL: &str = "
WITH RECURSIVE up AS (
  SELECT c.oid AS relid, c.oid AS ancestor FROM pg_class c WHERE c.relkind IN ('r', 'p')
   AND EXISTS (SELECT FROM pg_publication)
  UNION ALL
  SELECT u.relid, h.inhparent FROM up u
    JOIN pg_class c ON c.oid = u.ancestor AND c.relispartition
    JOIN pg_inherits h ON h.inhrelid = u.ancestor),
published AS MATERIALIZED (
  SELECT DISTINCT u.relid
    FROM up u JOIN pg_class c ON c.oid = u.ancestor
   CROSS JOIN pg_publication p
   WHERE (p.pubupdate OR p.pubdelete)
     AND (p.puballtables OR {by_schema}
          OR EXISTS (SELECT FROM pg_publication_rel r WHERE r.prpubid = p.oid AND r.prrelid = c.oid))),
tables AS (
  SELECT c.oid, quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name, c.relispartition AS partition,
         c.relkind = 'p' AS partitioned, greatest(pg_stat_get_live_tuples(c.oid), c.reltuples, 0)::float8 AS rows,
         EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary) AS has_key,
         EXISTS (SELECT FROM pg_index i
                  WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indimmediate
                    AND i.indpred IS NULL AND i.indexprs IS NULL
                    AND NOT EXISTS (SELECT FROM pg_attribute a
                                     WHERE a.attrelid = c.oid AND a.attnum = ANY (i.indkey[0:i.indnkeyatts - 1])
                                       AND NOT a.attnotnull)) AS has_other_key,
         c.relreplident = 'f'
           OR EXISTS (SELECT FROM pg_index i
                       WHERE i.indrelid = c.oid AND i.indisvalid
                         AND CASE c.relreplident WHEN 'd' THEN i.indisprimary AND i.indimmediate
                                                 WHEN 'i' THEN i.indisreplident ELSE false END) AS has_identity,
         c.relkind = 'r' AND c.relpersistence = 'p' AND p.relid IS NOT NULL AS is_published
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN published p ON p.relid = c.oid
   WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
     AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
     AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                        AND d.objid = c.oid AND d.objsubid = 0 AND d.deptype = 'e'))
SELECT name, partitioned, rows, has_other_key, is_published AND NOT has_identity AS fails
  FROM tables
 WHERE (NOT partition AND NOT has_key) OR (is_published AND NOT has_identity)
 ORDER BY fails DESC, has_other_key, rows DESC, 1";

/// `{by_schema}`, from 15 on.
const BY_SCHEMA: &str =
    "EXISTS (SELECT FROM pg_publication_namespace s WHERE s.pnpubid = p.oid AND s.pnnspid = c.relnamespace)";

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.primary_keys",
    group: "security",
    explanation: Explanation {
        why: "Without a key, a row that was loaded twice stays twice, nobody can name the one to mend, and logical \
              replication cannot either: an UPDATE or DELETE on a published table without a replica identity fails.",
        measures: "Tables without a primary key; partitions by their parent. One with a unique index over columns \
                   that are not null is shown without alarm. Of published tables, partitions each by itself: whether \
                   they have a replica identity, where the publication has updates or deletes.",
        queries: &[("tables without a key or an identity", SQL)],
        codes: &[
            ("pg.primary_key.missing", "a table has no primary key (info where a unique index does)"),
            (
                "pg.primary_key.no_identity",
                "a published table has no replica identity: its updates or deletes fail",
            ),
        ],
        versions: "PostgreSQL 14 and later; not on a standby whose primary is configured too",
        cost: "one pass over pg_class and pg_index",
        remedy: "Add a key: a unique index concurrently, then ADD PRIMARY KEY USING INDEX. REPLICA IDENTITY FULL \
                 helps a published table at once, and makes each change search the subscriber's whole table.",
    },
    thresholds: &[],
    requires: &[],
};

/// Findings at most, what fails first, then the largest tables.
const REPORTED: usize = 20;

#[derive(Debug)]
pub(super) struct PrimaryKeys;

#[async_trait]
impl PgProbe for PrimaryKeys {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Database
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, _limits: &Limits) -> Result<ProbeReport> {
        let major = pg.capabilities(cx).await?.major();
        let rows = pg.read(cx, &SQL.replace("{by_schema}", by_schema(major))).await?;
        let findings = rows.iter().take(REPORTED).map(finding).collect::<Result<Vec<_>>>()?;
        let summary = match rows.len() {
            0 => "every table has a primary key".to_owned(),
            n => format!("{} without a primary key or a replica identity", counted(n, "table", "tables")),
        };
        let report = ProbeReport::new(summary)
            .measure(Measurement::new("without_key", rows.len() as f64, Unit::Count))
            .findings(findings);
        standby::of_catalogue(cx, pg, report).await
    }
}

/// Whether a publication has all tables of a schema, by version.
fn by_schema(major: u32) -> &'static str {
    match major {
        15.. => BY_SCHEMA,
        _ => "false",
    }
}

fn finding(row: &Row) -> Result<Finding> {
    let (name, fails): (String, bool) = (row.get("name")?, row.get("fails")?);
    let (partitioned, other_key): (bool, bool) = (row.get("partitioned")?, row.get("has_other_key")?);
    let rows: f64 = row.get("rows")?;
    let kind = if partitioned { "partitioned table" } else { "table" };
    let finding = match (fails, other_key) {
        (true, _) => Finding::critical(
            "pg.primary_key.no_identity",
            format!("{name} is published and has no replica identity: its updates or deletes fail"),
        )
        .remedy(
            Remedy::statement(format!("ALTER TABLE {name} REPLICA IDENTITY FULL;")).because(
                "until it has a primary key: each change then searches the subscriber's whole table",
            ),
        ),
        (false, _) => {
            let severity = if other_key { Severity::Info } else { Severity::Warning };
            let has = if other_key { "a unique index, and no primary key" } else { "no primary key" };
            let message =
                format!("{kind} {name} (about {}) has {has}", counted(rows as usize, "row", "rows"));
            Finding::new(severity, "pg.primary_key.missing", message).remedy(Remedy::advice(
                "create a unique index concurrently over columns that are not null, then ADD PRIMARY KEY USING INDEX",
            ))
        }
    };
    Ok(finding.object(&name).evidence(json!({ "table": name, "rows": rows, "unique_index": other_key })))
}
