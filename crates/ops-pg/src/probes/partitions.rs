//! `pg.partitions`: partitioned tables that take no rows, or take them in the wrong place.

use async_trait::async_trait;
use ops_core::{
    Context, Direction, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy, Result,
    Severity, ThresholdSpec, Unit,
};
use serde_json::json;

use super::words::counted;
use crate::probe::{PgProbe, Scope};
use crate::row::Row;
use crate::target::PgTarget;

/// Serves PostgreSQL 14 and later. The default partition's rows are the counters', or the last VACUUM's where the
/// counters know nothing of it; of one that is partitioned itself, its leaves'. Trees are walked by `pg_inherits`:
/// `pg_partition_tree` would lock every leaf. A detach that is under way holds SHARE UPDATE EXCLUSIVE on the parent,
/// between its two transactions too.
const SQL: &str = "
WITH RECURSIVE below AS (
  SELECT p.partdefid AS root, p.partdefid AS relid FROM pg_partitioned_table p WHERE p.partdefid <> 0
  UNION ALL
  SELECT b.root, h.inhrelid FROM below b JOIN pg_inherits h ON h.inhparent = b.relid),
filled AS (
  SELECT b.root, sum(CASE WHEN pg_stat_get_tuples_inserted(c.oid) > 0 OR pg_stat_get_vacuum_count(c.oid) > 0
                               OR pg_stat_get_autovacuum_count(c.oid) > 0 OR pg_stat_get_analyze_count(c.oid) > 0
                               OR pg_stat_get_autoanalyze_count(c.oid) > 0
                          THEN pg_stat_get_live_tuples(c.oid) ELSE greatest(c.reltuples, 0) END)::float8 AS rows
    FROM below b JOIN pg_class c ON c.oid = b.relid AND c.relkind = 'r' GROUP BY b.root),
member AS (
  SELECT h.inhparent, count(*) AS partitions,
         string_agg(quote_ident(n.nspname) || '.' || quote_ident(c.relname), ', ') FILTER (WHERE h.inhdetachpending) AS detaching
    FROM pg_inherits h JOIN pg_class c ON c.oid = h.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace
   GROUP BY h.inhparent)
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name, coalesce(m.partitions, 0) AS partitions,
       CASE WHEN NOT EXISTS (
              SELECT FROM pg_locks l WHERE l.locktype = 'relation' AND l.relation = c.oid AND l.granted
                 AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                 AND l.mode IN ('ShareUpdateExclusiveLock', 'AccessExclusiveLock')) THEN m.detaching END AS detaching,
       quote_ident(dn.nspname) || '.' || quote_ident(d.relname) AS default_partition, f.rows AS default_rows
  FROM pg_partitioned_table p
  JOIN pg_class c ON c.oid = p.partrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN member m ON m.inhparent = c.oid
  LEFT JOIN pg_class d ON d.oid = p.partdefid
  LEFT JOIN pg_namespace dn ON dn.oid = d.relnamespace
  LEFT JOIN filled f ON f.root = p.partdefid
 WHERE c.relpersistence <> 't'
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                      AND d.objid = c.oid AND d.objsubid = 0 AND d.deptype = 'e')
 ORDER BY 1";

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.partitions",
    group: "tables",
    explanation: Explanation {
        why: "A row that fits no partition is refused, or lands in the default one. From there it keeps its own \
              partition from being made: ATTACH and CREATE fail while the default holds a row that would fit, and \
              scan it under a lock before they say so.",
        measures: "Parents without partitions, default partitions that hold rows by the server's counters, and \
                   detachments that stopped halfway. Which partition will be needed next is not known here: the \
                   catalogue does not say when the next month's rows come. A default partition that fills is the \
                   first sign that one is missing; without a default, inserts fail.",
        queries: &[("parents, their partitions and defaults", SQL)],
        codes: &[
            ("pg.partition.none", "a partitioned table has no partition: every insert fails"),
            ("pg.partition.default_filled", "a default partition holds rows"),
            ("pg.partition.detaching", "DETACH … CONCURRENTLY stopped halfway"),
        ],
        versions: "PostgreSQL 14 and later",
        cost: "one read of the catalogue, and the counters of default partitions",
        remedy: "Make the missing partitions ahead of time, by a job. Move rows out of the default in one \
                 transaction: detach it, create the partition, insert what belongs there, attach it again.",
    },
    thresholds: &[ThresholdSpec {
        name: "default_rows",
        meaning: "rows in a default partition",
        unit: Unit::Count,
        direction: Direction::Above,
        warning: Some(1.0),
        critical: None,
        source: "PostgreSQL documentation, 'Table Partitioning': a default partition should be empty when partitions \
                 are added",
    }],
    requires: &[],
};

#[derive(Debug)]
pub(super) struct Partitions;

#[async_trait]
impl PgProbe for Partitions {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Database
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, limits: &Limits) -> Result<ProbeReport> {
        let rows = pg.read(cx, SQL).await?;
        if rows.is_empty() {
            return Ok(ProbeReport::not_applicable("no table is partitioned"));
        }
        let parents = rows.iter().map(Parent::read).collect::<Result<Vec<_>>>()?;
        let partitions: i64 = parents.iter().map(|parent| parent.partitions).sum();
        let findings: Vec<_> = parents.iter().flat_map(|parent| parent.findings(limits)).collect();
        let summary = format!(
            "{} with {}",
            counted(parents.len(), "partitioned table", "partitioned tables"),
            counted(usize::try_from(partitions).unwrap_or(0), "partition", "partitions")
        );
        Ok(ProbeReport::new(summary)
            .measure(Measurement::new("parents", parents.len() as f64, Unit::Count))
            .measure(Measurement::new("partitions", partitions as f64, Unit::Count))
            .findings(findings))
    }
}

#[derive(Debug)]
struct Parent {
    name: String,
    partitions: i64,
    detaching: Option<String>,
    default: Option<(String, f64)>,
}

impl Parent {
    fn read(row: &Row) -> Result<Self> {
        let (default, rows): (Option<String>, Option<f64>) =
            (row.get("default_partition")?, row.get("default_rows")?);
        Ok(Self {
            name: row.get("name")?,
            partitions: row.get("partitions")?,
            detaching: row.get("detaching")?,
            default: default.map(|name| (name, rows.unwrap_or(0.0))),
        })
    }

    fn findings(&self, limits: &Limits) -> Vec<Finding> {
        let Self { name, .. } = self;
        let mut findings = Vec::new();
        if self.partitions == 0 {
            let message = format!("{name} has no partition: every insert into it fails");
            findings.push(
                Finding::warning("pg.partition.none", message)
                    .object(name)
                    .remedy(Remedy::advice("create its partitions, or drop it if nothing writes to it")),
            );
        }
        if let Some(partitions) = &self.detaching {
            let message = format!(
                "detaching {partitions} from {name} stopped halfway: writers skip it, DDL on {name} fails"
            );
            let first = partitions.split(", ").next().unwrap_or_default();
            findings.push(
                Finding::warning("pg.partition.detaching", message).object(name).remedy(Remedy::statement(
                    format!("ALTER TABLE {name} DETACH PARTITION {first} FINALIZE;"),
                )),
            );
        }
        if let Some((default, rows)) = &self.default
            && let Some(severity) = Severity::of(limits.get("default_rows").judge(*rows))
        {
            let message = format!(
                "default partition {default} of {name} holds {}: a partition is missing",
                counted(*rows as usize, "row", "rows")
            );
            findings.push(
                Finding::new(severity, "pg.partition.default_filled", message)
                    .object(default)
                    .evidence(json!({ "default": default, "parent": name, "rows": rows, "partitions": self.partitions }))
                    .remedy(Remedy::advice(format!(
                        "see which keys are in {default}, then make their partitions: detach it, create, move the \
                         rows, attach it again"
                    ))),
            );
        }
        findings
    }
}
