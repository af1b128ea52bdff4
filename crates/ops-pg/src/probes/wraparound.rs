//! `pg.wraparound`: how far the oldest transaction id and multixact lie back.

use async_trait::async_trait;
use ops_core::{
    Context, Direction, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy, Result,
    Severity, ThresholdSpec, Unit,
};
use serde_json::json;

use crate::probe::{PgProbe, Scope};
use crate::row::Row;
use crate::target::PgTarget;

/// Serves PostgreSQL 14 and later. The databases' ages are kept in shared memory and cost nothing; the oldest
/// relation can only be named in the database that we are connected to. A TOAST table is named by its owner.
const SQL: &str = "
SELECT d.datname::text AS database,
       age(d.datfrozenxid)::int8   AS xid_age,
       mxid_age(d.datminmxid)::int8 AS multixact_age,
       d.datallowconn              AS allows_connections,
       current_setting('autovacuum_freeze_max_age')::int8 AS freeze_max_age,
       current_setting('vacuum_failsafe_age')::int8       AS failsafe_age,
       oldest.relation, oldest.relation_age
  FROM pg_database d
  LEFT JOIN LATERAL (
         SELECT quote_ident(n.nspname) || '.' || quote_ident(coalesce(o.relname, c.relname)) AS relation,
                greatest(age(c.relfrozenxid), mxid_age(c.relminmxid))::int8 AS relation_age
           FROM pg_class c
           LEFT JOIN pg_class o ON o.reltoastrelid = c.oid
           JOIN pg_namespace n ON n.oid = coalesce(o.relnamespace, c.relnamespace)
          WHERE c.relkind IN ('r', 'm', 't') AND d.datname = current_database()
          ORDER BY 2 DESC LIMIT 1) oldest ON true
 ORDER BY greatest(age(d.datfrozenxid), mxid_age(d.datminmxid)) DESC, d.datname";

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.wraparound",
    group: "transaction ids",
    explanation: Explanation {
        why: "A server that runs out of transaction ids refuses every write until a VACUUM that may take days has \
              finished. Ids are 32 bits wide; it stops about 3 million before the oldest one would be reused.",
        measures: "The larger of transaction-id age and multixact age, for every database, those that allow no \
                   connections included, and the oldest relation of the database probed (TOAST included). \
                   Reaching autovacuum_freeze_max_age (200 million) only means that autovacuum sets to work: normal. \
                   How full the space for multixact members is cannot be seen over SQL in these versions \
                   (pg_get_multixact_stats came later; pg_control_checkpoint has where it ends and not where it \
                   begins): members can run out while multixact ages are low, where many transactions share row \
                   locks. Only the server's log tells (\"multixact members\").",
        queries: &[("ages of all databases, and the oldest relation here", SQL)],
        codes: &[("pg.wraparound.age", "a database's oldest id is far back: freezing does not keep up")],
        versions: "PostgreSQL 14 and later",
        cost: "one read of pg_database and one pass over pg_class",
        remedy: "Find what holds the horizon back (an old transaction, a prepared one, a replication slot), end \
                 that, then VACUUM (FREEZE) the named relation. Adding more VACUUM does not help while the horizon \
                 is held.",
    },
    thresholds: &[ThresholdSpec {
        name: "age",
        meaning: "transactions (or multixacts) since the oldest one still kept",
        unit: Unit::Count,
        direction: Direction::Above,
        warning: Some(500_000_000.0),
        critical: Some(1_000_000_000.0),
        source: "2.5 and 5 times autovacuum_freeze_max_age's default; vacuum_failsafe_age is 1.6 billion, the \
                 limit 2.1 billion (PostgreSQL documentation, 'Preventing Transaction ID Wraparound Failures')",
    }],
    requires: &[],
};

/// Where transaction ids come round: 2^31, less the 3 million that PostgreSQL keeps for a superuser's VACUUM.
const USABLE: f64 = 2_147_483_648.0 - 3_000_000.0;

#[derive(Debug)]
pub(super) struct Wraparound;

#[async_trait]
impl PgProbe for Wraparound {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Cluster
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, limits: &Limits) -> Result<ProbeReport> {
        let rows = pg.read(cx, SQL).await?;
        let ages = rows.iter().map(Age::read).collect::<Result<Vec<_>>>()?;
        let oldest = ages.first().map_or(0, |age| age.xids.max(age.multixacts));
        let mut report = ProbeReport::new(format!(
            "oldest id is {} back, {:.1} % of the way to wraparound",
            Unit::Count.format(oldest as f64),
            100.0 * oldest as f64 / USABLE
        ));
        for age in &ages {
            let measured = Measurement::new("age", age.xids.max(age.multixacts) as f64, Unit::Count)
                .label("database", age.database.clone())
                .judged_by(limits.get("age"));
            report = report.findings(age.finding(&measured)).measure(measured);
        }
        Ok(report)
    }
}

struct Age {
    database: String,
    xids: i64,
    multixacts: i64,
    allows_connections: bool,
    freeze_max_age: i64,
    failsafe_age: i64,
    oldest: Option<(String, i64)>,
}

impl Age {
    fn read(row: &Row) -> Result<Self> {
        let relation: Option<String> = row.get("relation")?;
        let relation_age: Option<i64> = row.get("relation_age")?;
        Ok(Self {
            database: row.get("database")?,
            xids: row.get("xid_age")?,
            multixacts: row.get("multixact_age")?,
            allows_connections: row.get("allows_connections")?,
            freeze_max_age: row.get("freeze_max_age")?,
            failsafe_age: row.get("failsafe_age")?,
            oldest: relation.zip(relation_age),
        })
    }

    fn finding(&self, measured: &Measurement) -> Option<Finding> {
        let severity = Severity::of(measured.status())?;
        let kind = if self.xids >= self.multixacts { "transaction id" } else { "multixact" };
        let message = format!(
            "the oldest {kind} of database {} is {} back ({:.1} % of the way to wraparound)",
            self.database,
            measured.format(),
            100.0 * measured.value / USABLE
        );
        let remedy = match &self.oldest {
            Some((relation, _)) => Remedy::statement(format!("VACUUM (FREEZE, VERBOSE) {relation};"))
                .because("first end whatever holds the horizon back: old transactions, prepared ones, slots"),
            None if self.allows_connections => {
                Remedy::statement(format!("vacuumdb --freeze --dbname={}", self.database))
            }
            None => Remedy::advice(
                "autovacuum must freeze it, since it allows no connections: read the server's log",
            ),
        };
        Some(
            Finding::new(severity, "pg.wraparound.age", message)
                .object(self.database.clone())
                .evidence(json!({
                    "database": self.database, "xid_age": self.xids, "multixact_age": self.multixacts,
                    "autovacuum_freeze_max_age": self.freeze_max_age, "vacuum_failsafe_age": self.failsafe_age,
                    "oldest_relation": self.oldest.as_ref().map(|(name, _)| name),
                    "oldest_relation_age": self.oldest.as_ref().map(|(_, age)| age),
                }))
                .remedy(remedy),
        )
    }
}
