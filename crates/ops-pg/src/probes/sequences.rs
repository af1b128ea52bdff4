//! `pg.sequences`: how much of its range each sequence has used.

use std::collections::HashMap;

use async_trait::async_trait;
use ops_core::{
    Context, Direction, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy, Result,
    Severity, ThresholdSpec, Unit,
};
use serde_json::json;

use super::words::counted;
use crate::capabilities::Capabilities;
use crate::grants;
use crate::probe::{PgProbe, Scope};
use crate::row::Row;
use crate::target::PgTarget;

/// Serves PostgreSQL 14 and later. The function's null stands both for a sequence that was never used and for one
/// that we may not read, so the privilege is asked for by itself. One that is locked (TRUNCATE … RESTART IDENTITY
/// locks those of its table) is not waited for, and an unlogged one cannot be read on a standby. Each is opened to be
/// read, so a statement reads a few hundred of them: those after `{after}`. All locks are read once a statement, and
/// looked up by a hash: `IN` in the select list is never a join, whatever the planner takes their number for.
const SQL: &str = "
WITH locked AS MATERIALIZED (
  SELECT l.relation FROM pg_locks l
   WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock'
     AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))
SELECT c.oid::int8 AS id,
       quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS sequence,
       c.readable, c.locked,
       CASE WHEN c.readable AND NOT c.locked AND (c.relpersistence = 'p' OR NOT pg_is_in_recovery())
            THEN {last_value} END AS last_value,
       s.seqincrement AS increment, s.seqcycle AS cycles, s.seqmin AS minimum, s.seqmax AS maximum
  FROM (SELECT c.oid, c.relname, c.relnamespace, c.relpersistence,
               {readable} AS readable, c.oid IN (SELECT relation FROM locked) AS locked
          FROM (SELECT * FROM pg_class
                 WHERE relkind = 'S' AND relpersistence <> 't' AND oid > {after}::oid ORDER BY oid LIMIT {batch}) c
        OFFSET 0) c
  JOIN pg_sequence s ON s.seqrelid = c.oid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 ORDER BY c.oid";

/// Serves PostgreSQL 14 and later. A bigint sequence may fill an integer column: the narrowest of those that own it or
/// take their default from it counts. All owners come from one pass over pg_depend, which opens no sequence; what is
/// joined to it is found by its number. A join the other way round would leave the planner, where pg_depend was never
/// analysed, to read it once a sequence.
const OWNERS: &str = "
WITH depends AS MATERIALIZED (
  SELECT classid, objid, refobjid, refobjsubid FROM pg_depend
   WHERE refclassid = 'pg_class'::regclass
     AND (   (classid = 'pg_class'::regclass AND objsubid = 0 AND refobjsubid > 0 AND deptype IN ('a', 'i'))
          OR (classid = 'pg_attrdef'::regclass AND refobjsubid = 0))),
fills AS MATERIALIZED (
  SELECT c.oid AS sequence, d.refobjid AS relid, d.refobjsubid::int2 AS attnum
    FROM depends d JOIN pg_class c ON c.oid = d.objid AND c.relkind = 'S'
   WHERE d.classid = 'pg_class'::regclass
   UNION
  SELECT d.refobjid, e.adrelid, e.adnum
    FROM depends d JOIN pg_attrdef e ON e.oid = d.objid
   WHERE d.classid = 'pg_attrdef'::regclass)
SELECT DISTINCT ON (f.sequence) f.sequence::int8 AS id,
       quote_ident(n.nspname) || '.' || quote_ident(t.relname) AS owner_table,
       quote_ident(a.attname) AS owner_column,
       format_type(coalesce(nullif(y.typbasetype, 0), y.oid), NULL) AS owner_type
  FROM fills f
  JOIN pg_attribute a ON a.attrelid = f.relid AND a.attnum = f.attnum
  JOIN pg_type y ON y.oid = a.atttypid
  JOIN pg_class t ON t.oid = a.attrelid
  JOIN pg_namespace n ON n.oid = t.relnamespace
 ORDER BY f.sequence, y.typlen < 0, y.typlen, t.oid";

/// Sequences a statement: some tens of milliseconds, far from its time-out.
const BATCH: usize = 400;

/// `(readable, last_value)` of a role that reads sequences by its own rights.
const OWN_RIGHTS: (&str, &str) =
    ("has_sequence_privilege(c.oid, 'SELECT, USAGE')", "pg_sequence_last_value(c.oid)");

/// The same of one that `ops grants` let read them all.
const GRANTED: (&str, &str) = ("true", "ops.sequence_last_value(c.oid)");

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.sequences",
    group: "sequences",
    explanation: Explanation {
        why: "A sequence that reaches the end of its column's type fails every insert from then on. Widening the \
              column rewrites the table under an exclusive lock, so this wants weeks of notice.",
        measures: "The last value as a share of the range that the sequence and the type of its column allow; an \
                   integer column filled by a bigint sequence ends at 2,147,483,647. Descending sequences count \
                   downwards, cycling ones are left out.",
        queries: &[("all sequences", SQL), ("the columns that they fill", OWNERS)],
        codes: &[("pg.sequence.exhausted", "a sequence has used most of its range")],
        versions: "PostgreSQL 14 and later",
        cost: "one read of each sequence's single page, 400 in a statement, and one pass over pg_depend",
        remedy: "Move the column to bigint: add a bigint column, fill it in batches, swap; or start a cycle of \
                 unused values if there are any.",
    },
    thresholds: &[ThresholdSpec {
        name: "used",
        meaning: "share of the range that is used",
        unit: Unit::Percent,
        direction: Direction::Above,
        warning: Some(85.0),
        critical: Some(95.0),
        source: "check_postgres' sequence action",
    }],
    requires: &[],
};

#[derive(Debug)]
pub(super) struct Sequences;

#[async_trait]
impl PgProbe for Sequences {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Database
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, limits: &Limits) -> Result<ProbeReport> {
        let capabilities = pg.capabilities(cx).await?;
        let sequences = every(cx, pg, &capabilities).await?;
        Ok(hidden(judge(&sequences, limits), &sequences, &capabilities))
    }
}

/// Every sequence of the database, some hundreds at a time.
async fn every(cx: &Context, pg: &PgTarget, capabilities: &Capabilities) -> Result<Vec<Sequence>> {
    let (readable, last_value) = if capabilities.reads_every_sequence() { GRANTED } else { OWN_RIGHTS };
    let sql = SQL
        .replace("{readable}", readable)
        .replace("{last_value}", last_value)
        .replace("{batch}", &BATCH.to_string());
    let (mut sequences, mut after) = (Vec::new(), 0_i64);
    loop {
        let rows = pg.read(cx, &sql.replace("{after}", &after.to_string())).await?;
        for row in &rows {
            sequences.push(Sequence::read(row)?);
            after = row.get("id")?;
        }
        if rows.len() < BATCH {
            break;
        }
    }
    if sequences.is_empty() {
        return Ok(sequences);
    }
    let mut owners = HashMap::new();
    for row in &pg.read(cx, OWNERS).await? {
        owners.insert(row.get::<i64>("id")?, Owner::read(row)?);
    }
    for sequence in &mut sequences {
        sequence.owner = owners.remove(&sequence.id);
    }
    Ok(sequences)
}

/// Those that can be read.
fn judge(sequences: &[Sequence], limits: &Limits) -> ProbeReport {
    let (mut report, mut most, mut seen) = (ProbeReport::new(""), 0.0_f64, 0);
    for sequence in sequences.iter().filter(|sequence| sequence.readable && !sequence.locked) {
        seen += 1;
        let Some(used) = sequence.used_percent() else { continue };
        most = most.max(used);
        let measured = Measurement::new("used", used, Unit::Percent)
            .label("sequence", sequence.name.clone())
            .judged_by(limits.get("used"));
        if let Some(severity) = Severity::of(measured.status()) {
            report = report.finding(sequence.finding(severity, used)).measure(measured);
        }
    }
    let summary = format!("{}, the fullest at {most:.1} %", counted(seen, "sequence", "sequences"));
    report.measure(Measurement::new("fullest", most, Unit::Percent)).summary(summary)
}

/// Adds those that cannot: locked by somebody, or hidden from the role.
fn hidden(mut report: ProbeReport, sequences: &[Sequence], capabilities: &Capabilities) -> ProbeReport {
    let locked: Vec<_> = sequences.iter().filter(|s| s.readable && s.locked).collect();
    if let Some(first) = locked.first() {
        let what = format!("{} locked, such as {}", are(locked.len()), first.name);
        let fix = "SELECT * FROM pg_locks WHERE mode = 'AccessExclusiveLock';";
        report = report.unseen(what, Some(fix.to_owned()));
    }
    let hidden: Vec<_> = sequences.iter().filter(|sequence| !sequence.readable).collect();
    let Some(first) = hidden.first() else { return report };
    // SELECT on each would do too, and would miss the next one.
    let fix = match capabilities.managed() {
        None => grants::sequence_values(&capabilities.quoted_role()),
        Some(_) => format!(
            "GRANT SELECT ON SEQUENCE {} TO {}; -- by its owner, and so for each",
            first.name,
            capabilities.quoted_role()
        ),
    };
    let what = format!("{} of {} hidden, such as {}", hidden.len(), are(sequences.len()), first.name);
    report.summary(what.clone()).unseen(what, Some(fix))
}

fn are(n: usize) -> String {
    counted(n, "sequence is", "sequences are")
}

/// The narrowest column that a sequence fills.
#[derive(Debug)]
struct Owner {
    table: String,
    column: String,
    kind: String,
}

impl Owner {
    fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            table: row.get("owner_table")?,
            column: row.get("owner_column")?,
            kind: row.get("owner_type")?,
        })
    }
}

#[derive(Debug)]
struct Sequence {
    id: i64,
    name: String,
    readable: bool,
    /// Somebody holds or waits for an exclusive lock on it.
    locked: bool,
    last_value: Option<i64>,
    increment: i64,
    cycles: bool,
    minimum: i64,
    maximum: i64,
    owner: Option<Owner>,
}

impl Sequence {
    fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            id: row.get("id")?,
            name: row.get("sequence")?,
            readable: row.get("readable")?,
            locked: row.get("locked")?,
            last_value: row.get("last_value")?,
            increment: row.get("increment")?,
            cycles: row.get("cycles")?,
            minimum: row.get("minimum")?,
            maximum: row.get("maximum")?,
            owner: None,
        })
    }

    /// The bounds that the sequence and the column that it fills allow together.
    fn range(&self) -> (i64, i64) {
        let (low, high) = match self.owner.as_ref().map(|owner| owner.kind.as_str()) {
            Some("smallint") => (i64::from(i16::MIN), i64::from(i16::MAX)),
            Some("integer") => (i64::from(i32::MIN), i64::from(i32::MAX)),
            _ => (i64::MIN, i64::MAX),
        };
        (self.minimum.max(low), self.maximum.min(high))
    }

    /// `None` where running out means nothing: one that was never used, or that cycles.
    fn used_percent(&self) -> Option<f64> {
        let last = self.last_value.filter(|_| !self.cycles)?;
        let (low, high) = self.range();
        // In i128: the span of a bigint sequence does not fit its own type.
        let (low, high, last) = (i128::from(low), i128::from(high), i128::from(last));
        let span = (high - low).max(1);
        let used = if self.increment >= 0 { last - low } else { high - last };
        Some((100.0 * used as f64 / span as f64).max(0.0))
    }

    fn finding(&self, severity: Severity, used: f64) -> Finding {
        let (low, high) = self.range();
        let end = if self.increment >= 0 { high } else { low };
        let (ends_with, remedy) = match &self.owner {
            Some(Owner { table, column, kind }) => (
                format!("the {kind} of {table}.{column}"),
                Remedy::statement(format!("ALTER TABLE {table} ADD COLUMN {column}_new bigint;")).because(
                    "fill it in batches, then swap the columns; ALTER … TYPE bigint rewrites the table \
                              under an exclusive lock",
                ),
            ),
            None => (
                "its own maximum".to_owned(),
                Remedy::advice("raise its MAXVALUE, once everything that stores its values can hold more"),
            ),
        };
        let message = format!("{} has used {used:.1} % of {ends_with}", self.name);
        Finding::new(severity, "pg.sequence.exhausted", message)
            .object(self.name.clone())
            .evidence(json!({
                "sequence": self.name, "last_value": self.last_value, "ends_at": end, "increment": self.increment,
            }))
            .remedy(remedy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(last: Option<i64>, increment: i64, bounds: (i64, i64), kind: Option<&str>) -> Sequence {
        let owner =
            kind.map(|kind| Owner { table: "public.t".into(), column: "id".into(), kind: kind.into() });
        Sequence {
            id: 1,
            name: "public.s".into(),
            readable: true,
            locked: false,
            last_value: last,
            increment,
            cycles: false,
            minimum: bounds.0,
            maximum: bounds.1,
            owner,
        }
    }

    #[test]
    fn the_owning_column_bounds_the_sequence() {
        let wide = (1, i64::MAX);
        for (sequence, expected) in [
            (sequence(Some(2_147_483_647), 1, wide, Some("integer")), 100.0),
            (sequence(Some(32_767), 1, wide, Some("smallint")), 100.0),
            (sequence(Some(2_147_483_647), 1, wide, Some("bigint")), 0.0),
            (sequence(Some(50), 1, (0, 100), None), 50.0),
            (sequence(Some(-75), -1, (-100, 0), None), 75.0),
            (sequence(Some(i64::MAX), 1, (i64::MIN, i64::MAX), None), 100.0),
        ] {
            let used = sequence.used_percent().unwrap();
            assert!((used - expected).abs() < 0.001, "{used} {sequence:?}");
        }
        assert_eq!(sequence(None, 1, wide, None).used_percent(), None);
    }
}
