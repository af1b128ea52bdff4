//! `pg.matviews`: do the materialised views hold anything?

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

/// Serves PostgreSQL 14 and later. Every refresh writes the view's row in `pg_class` anew, CONCURRENTLY too, and so
/// do GRANT and ALTER; VACUUM and ANALYZE write it in place. Its commit timestamp, where the server keeps those, is
/// that of the last refresh or of something later. REFRESH … CONCURRENTLY needs a unique index over all rows, by columns alone.
const SQL: &str = "
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name, c.relispopulated AS populated,
       EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
                  AND i.indexprs IS NULL) AS refreshable_concurrently,
       extract(epoch FROM now() - CASE WHEN current_setting('track_commit_timestamp')::bool
                                       THEN pg_xact_commit_timestamp(c.xmin) END)::float8 AS age,
       (c.relpages::int8 * current_setting('block_size')::int8)::int8 AS bytes
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'm'
   AND n.nspname NOT IN ('pg_catalog', 'information_schema')
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                      AND d.objid = c.oid AND d.objsubid = 0 AND d.deptype = 'e')
 ORDER BY 1";

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.matviews",
    group: "objects",
    explanation: Explanation {
        why: "A materialised view without data fails every query on it: restores and WITH NO DATA leave it so until \
              it is refreshed.",
        measures: "Whether each materialised view is populated, and whether it can be refreshed while it is read. How \
                   old its data is at least, where track_commit_timestamp is on: the time since its row in pg_class \
                   was written, by the last refresh, or by a GRANT or ALTER since. Elsewhere no catalogue says, and where a \
                   bound for the age is configured, that is unknown.",
        queries: &[("materialised views", SQL)],
        codes: &[
            ("pg.matview.unpopulated", "a materialised view has no data: queries on it fail"),
            ("pg.matview.stale", "the data of a materialised view is older than the bound"),
            ("pg.matview.blocks_readers", "a materialised view cannot be refreshed while it is read (info)"),
        ],
        versions: "PostgreSQL 14 and later",
        cost: "one read of pg_class",
        remedy: "REFRESH MATERIALIZED VIEW. A unique index over plain columns lets later ones run CONCURRENTLY.",
    },
    thresholds: &[ThresholdSpec {
        name: "age",
        meaning: "time since the last refresh, at least",
        unit: Unit::Seconds,
        direction: Direction::Above,
        warning: None,
        critical: None,
        source: "none by default: each view has its own rhythm",
    }],
    requires: &[],
};

#[derive(Debug)]
pub(super) struct Matviews;

#[async_trait]
impl PgProbe for Matviews {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Database
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, limits: &Limits) -> Result<ProbeReport> {
        let rows = pg.read(cx, SQL).await?;
        if rows.is_empty() {
            return Ok(ProbeReport::not_applicable("there is no materialised view"));
        }
        let views = rows.iter().map(View::read).collect::<Result<Vec<_>>>()?;
        let empty = views.iter().filter(|view| !view.populated).count();
        let named = counted(views.len(), "materialised view", "materialised views");
        let dated = match views.iter().any(|view| view.age.is_some()) {
            true => "",
            false => "; how fresh they are, the catalogue does not say",
        };
        let summary = match empty {
            0 => format!("{named}, all populated{dated}"),
            n => format!("{n} of {named} without data{dated}"),
        };
        let report = ProbeReport::new(summary)
            .measure(Measurement::new("views", views.len() as f64, Unit::Count))
            .measure(Measurement::new("unpopulated", empty as f64, Unit::Count));
        let bound = limits.get("age");
        let undated = views.iter().find(|view| view.populated && view.age.is_none());
        let report = match undated.filter(|_| bound.warning.or(bound.critical).is_some()) {
            Some(view) => report.unseen(
                format!("how old {} is: the server keeps no commit timestamps", view.name),
                Some("ALTER SYSTEM SET track_commit_timestamp = on; -- takes a restart".to_owned()),
            ),
            None => report,
        };
        Ok(views.iter().fold(report, |report, view| {
            let age = view.age.map(|age| {
                Measurement::new("age", age, Unit::Seconds)
                    .label("view", view.name.clone())
                    .judged_by(limits.get("age"))
            });
            let report = report.findings(view.finding(age.as_ref()));
            age.into_iter().fold(report, ProbeReport::measure)
        }))
    }
}

#[derive(Debug)]
struct View {
    name: String,
    populated: bool,
    refreshable_concurrently: bool,
    /// Seconds since its row was written, where commit timestamps tell.
    age: Option<f64>,
    bytes: i64,
}

impl View {
    fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            name: row.get("name")?,
            populated: row.get("populated")?,
            refreshable_concurrently: row.get("refreshable_concurrently")?,
            age: row.get("age")?,
            bytes: row.get("bytes")?,
        })
    }

    fn finding(&self, age: Option<&Measurement>) -> Option<Finding> {
        let Self { name, .. } = self;
        let refresh = match self.refreshable_concurrently && self.populated {
            true => format!("REFRESH MATERIALIZED VIEW CONCURRENTLY {name};"),
            false => format!("REFRESH MATERIALIZED VIEW {name};"),
        };
        let stale = age.and_then(|age| Some((age, Severity::of(age.status())?)));
        let finding = match (self.populated, stale) {
            (false, _) => {
                let message = format!("{name} has no data: every query on it fails");
                Finding::warning("pg.matview.unpopulated", message).remedy(Remedy::statement(refresh))
            }
            (true, Some((age, severity))) => {
                let message = format!("{name} was last refreshed {} ago, or before", age.format());
                Finding::new(severity, "pg.matview.stale", message).remedy(
                    Remedy::statement(refresh).because("and look for the job that should have done it"),
                )
            }
            (true, None) if !self.refreshable_concurrently => Finding::info(
                "pg.matview.blocks_readers",
                format!("{name} has no unique index over plain columns: each refresh locks out its readers"),
            ),
            (true, None) => return None,
        };
        Some(finding.object(name).evidence(json!({
            "view": name, "populated": self.populated, "seconds_since_refresh_at_least": self.age,
            "refreshable_concurrently": self.refreshable_concurrently, "bytes": self.bytes,
        })))
    }
}
