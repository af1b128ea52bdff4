//! `pg.collation`: indexes sorted by an order that the machine no longer has.

use async_trait::async_trait;
use ops_core::{
    Context, Direction, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy, Result,
    Severity, ThresholdSpec, Unit,
};
use serde_json::json;

use crate::probe::{PgProbe, Scope};
use crate::row::Row;
use crate::target::PgTarget;

/// Serves PostgreSQL 15 and later; `{database}` is one of the constants below. Only collations that something on
/// disk is sorted by are asked for their version: a machine has hundreds, and asking for one that is gone is an
/// error.
const SQL: &str = "
WITH used AS (
  SELECT s.collation, count(*)::int8 AS indexes,
         (array_agg(s.name ORDER BY s.pages DESC, s.name))[1:20] AS names
    FROM (SELECT DISTINCT unnest(i.indcollation::oid[]) AS collation, c.relpages AS pages,
                 quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name
            FROM pg_index i
            JOIN pg_class c ON c.oid = i.indexrelid AND c.relkind = 'i' AND c.relpersistence <> 't'
            JOIN pg_namespace n ON n.oid = c.relnamespace) s
   GROUP BY s.collation),
kept AS MATERIALIZED (
  SELECT false AS is_database, quote_ident(n.nspname) || '.' || quote_ident(c.collname) AS name,
         c.oid, c.collversion AS recorded, used.indexes, used.names
    FROM used JOIN pg_collation c ON c.oid = used.collation JOIN pg_namespace n ON n.oid = c.collnamespace
   WHERE c.oid <> 'pg_catalog.\"default\"'::regcollation)
SELECT k.is_database, k.name, k.recorded, pg_collation_actual_version(k.oid) AS actual, k.indexes, k.names FROM kept k
 WHERE k.recorded IS DISTINCT FROM pg_collation_actual_version(k.oid){database}
 ORDER BY 1 DESC, 5 DESC";

/// The database's own, on 15 and later.
const DATABASE: &str = "
 UNION ALL
SELECT true, d.datname::text, d.datcollversion, pg_database_collation_actual_version(d.oid),
       coalesce(used.indexes, 0), coalesce(used.names, '{}')
  FROM pg_database d LEFT JOIN used ON used.collation = 'pg_catalog.\"default\"'::regcollation
 WHERE d.datname = current_database()
   AND d.datcollversion IS DISTINCT FROM pg_database_collation_actual_version(d.oid)";

/// On 14, where a database's own has no recorded version: whether anything is sorted by it.
const UNRECORDED: &str = "
 UNION ALL
SELECT true, d.datname::text, NULL, d.datcollate::text, used.indexes, used.names
  FROM pg_database d JOIN used ON used.collation = 'pg_catalog.\"default\"'::regcollation
 WHERE d.datname = current_database() AND d.datcollate !~* '^(C|POSIX)$|^C[.]'";

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.collation",
    group: "availability",
    explanation: Explanation {
        why: "Text in an index is sorted as the operating system's or ICU's library sorted it when it was written. An \
              upgrade of that library, or a standby on another system, may sort otherwise: then lookups miss rows \
              that are there, and unique indexes take duplicates. Nothing fails until somebody notices.",
        measures: "The version that the database (15 and later) and each collation that an index uses were recorded \
                   with, compared with what the library says now; and the indexes sorted by them. Collations that no \
                   index uses are left out: sorting on the fly is right by any version. C and POSIX have no version, and \
                   need none. Where another has none recorded (a database's own in 14), it is unknown.",
        queries: &[
            ("collations that indexes use, by version", SQL),
            ("and the database's own (15 and later)", DATABASE),
            ("and the database's own (14)", UNRECORDED),
        ],
        codes: &[
            ("pg.collation.changed", "a collation has another version than the indexes sorted by it"),
            (
                "pg.collation.database_changed",
                "the database's own collation has another version than it was made with",
            ),
        ],
        versions: "PostgreSQL 14 and later; the database's own version came with 15",
        cost: "one pass over pg_index",
        remedy: "Rebuild the indexes first, then record the new version: ALTER COLLATION … REFRESH VERSION, or ALTER \
                 DATABASE … REFRESH COLLATION VERSION. The other way round silences the warning and keeps the \
                 damage. A unique index that cannot be rebuilt has found duplicates.",
    },
    thresholds: &[ThresholdSpec {
        name: "indexes",
        meaning: "indexes sorted by another version of one collation",
        unit: Unit::Count,
        direction: Direction::Above,
        warning: Some(1.0),
        critical: None,
        source: "PostgreSQL warns of it as well, when the collation is first used in a session",
    }],
    requires: &[],
};

#[derive(Debug)]
pub(super) struct Collation;

#[async_trait]
impl PgProbe for Collation {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Database
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, limits: &Limits) -> Result<ProbeReport> {
        let database = if pg.capabilities(cx).await?.major() >= 15 { DATABASE } else { UNRECORDED };
        let rows = pg.read(cx, &SQL.replace("{database}", database)).await?;
        let (mut changed, mut untold) = (Vec::new(), Vec::new());
        for row in &rows {
            let sorted = Sorted::read(row)?;
            match row.get("recorded")? {
                Some(recorded) => changed.push(Changed { sorted, recorded, actual: row.get("actual")? }),
                None => untold.push(sorted),
            }
        }
        let indexes: i64 = changed.iter().map(|changed| changed.sorted.indexes).sum();
        let summary = match changed.len() {
            0 => "every index is sorted as its collation sorts now".to_owned(),
            1 => format!("1 collation has changed, {} sorted by it", count(indexes)),
            n => format!("{n} collations have changed, {} sorted by them", count(indexes)),
        };
        let mut report = ProbeReport::new(summary);
        for changed in &changed {
            let measured = Measurement::new("indexes", changed.sorted.indexes as f64, Unit::Count)
                .label("collation", changed.sorted.name.clone())
                .judged_by(limits.get("indexes"));
            report = report.finding(changed.finding(&measured)).measure(measured);
        }
        Ok(untold.iter().fold(report, |report, sorted| {
            let what = sorted.what();
            report.unseen(
                format!("by which version of {what} {} sorted is not recorded", count(sorted.indexes)),
                None,
            )
        }))
    }
}

/// A collation, and what is sorted by it.
struct Sorted {
    is_database: bool,
    name: String,
    indexes: i64,
    names: Vec<String>,
}

struct Changed {
    sorted: Sorted,
    recorded: String,
    /// `None` where the library no longer tells one; PostgreSQL warns of that as well.
    actual: Option<String>,
}

impl Sorted {
    fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            is_database: row.get("is_database")?,
            name: row.get("name")?,
            indexes: row.get("indexes")?,
            names: row.get("names")?,
        })
    }

    fn what(&self) -> String {
        let kind = if self.is_database { "database" } else { "collation" };
        format!("{kind} {}", self.name)
    }
}

impl Changed {
    fn finding(&self, measured: &Measurement) -> Finding {
        let code = match self.sorted.is_database {
            true => "pg.collation.database_changed",
            false => "pg.collation.changed",
        };
        let message = format!(
            "{} was recorded with version {} of its collation, and it is {} now; {} sorted by it",
            self.sorted.what(),
            self.recorded,
            self.actual.as_deref().unwrap_or("none"),
            count(self.sorted.indexes)
        );
        let severity = Severity::of(measured.status()).unwrap_or(Severity::Info);
        let finding = Finding::new(severity, code, message)
            .object(self.sorted.name.clone())
            .remedy(self.sorted.remedy());
        self.sorted.names.iter().fold(finding, |finding, name| finding.evidence(json!({ "index": name })))
    }
}

impl Sorted {
    /// Recording the version is advice and not part of the statement: pasted, it would run after a REINDEX that
    /// failed, too.
    fn remedy(&self) -> Remedy {
        let then = match self.is_database {
            true => "ALTER DATABASE … REFRESH COLLATION VERSION".to_owned(),
            false => format!("ALTER COLLATION {} REFRESH VERSION", self.name),
        };
        let Some(first) = self.names.first() else {
            return Remedy::advice(format!("no index is sorted by it: {then} is all there is to do"));
        };
        let rest = if self.indexes > 1 { ", and the others of the evidence," } else { "" };
        Remedy::statement(format!("REINDEX INDEX CONCURRENTLY {first};"))
            .because(format!("rebuild it{rest} first; only then {then}"))
    }
}

fn count(indexes: i64) -> String {
    match indexes {
        1 => "1 index is".to_owned(),
        n => format!("{n} indexes are"),
    }
}
