//! `pg.wraparound`: how far the oldest transaction id and multixact lie back.

use async_trait::async_trait;
use ops_core::{
    Context, Direction, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy, Result,
    Severity, ThresholdSpec, Unit,
};
use serde_json::json;

use crate::grants;
use crate::probe::{PgProbe, Scope};
use crate::row::Row;
use crate::target::PgTarget;

/// Serves PostgreSQL 14 and later. The databases' ages are kept in shared memory and cost nothing; the oldest
/// relation can only be named in the database that we are connected to. A TOAST table is named by its owner. `{segments}`
/// is how the segments of multixact members are counted, or null; each holds 32 pages of four members in 20 bytes (see
/// multixact.c, MULTIXACT_MEMBERS_PER_PAGE): 52,352 with pages of 8 KiB.
const SQL: &str = "
SELECT d.datname::text AS database,
       age(d.datfrozenxid)::int8   AS xid_age,
       mxid_age(d.datminmxid)::int8 AS multixact_age,
       d.datallowconn              AS allows_connections,
       current_setting('autovacuum_freeze_max_age')::int8 AS freeze_max_age,
       current_setting('vacuum_failsafe_age')::int8       AS failsafe_age,
       current_setting('max_connections')::int8 + current_setting('max_prepared_transactions')::int8 AS at_once,
       m.segments * 32 * (current_setting('block_size')::int8 / 20 * 4) AS members,
       oldest.relation, oldest.relation_age
  FROM pg_database d
 CROSS JOIN (SELECT {segments} AS segments) m
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
                   Members of multixacts have a space of their own, of 2^32, and it can run out while multixact \
                   ages are low, where many transactions lock the same rows together. It is counted by its \
                   segments, which takes a superuser or what `ops grants` makes. Where that is hidden: nothing but \
                   subtransactions bounds the members of one multixact for good, but they are transactions that ran \
                   at once, and those that ended are left out whenever one joins (MultiXactIdExpand in \
                   multixact.c). So a multixact has about as many members as max_connections and \
                   max_prepared_transactions allow at most. Where ten times that, for each multixact still kept, \
                   stays below 2^31, members are not the matter, and hidden ones make nothing unknown. From \
                   PostgreSQL 19 they no longer run out (64-bit offsets), and are not looked at.",
        queries: &[("ages of all databases, and the oldest relation here", SQL)],
        codes: &[
            ("pg.wraparound.age", "a database's oldest id is far back: freezing does not keep up"),
            ("pg.wraparound.members", "the space for members of multixacts is filling up"),
        ],
        versions: "PostgreSQL 14 and later",
        cost: "one read of pg_database, one pass over pg_class, and one listing of pg_multixact/members",
        remedy: "Find what holds the horizon back (an old transaction, a prepared one, a replication slot), end \
                 that, then VACUUM (FREEZE) the named relation. Adding more VACUUM does not help while the horizon \
                 is held.",
    },
    thresholds: &[
        ThresholdSpec {
            name: "age",
            meaning: "transactions (or multixacts) since the oldest one still kept",
            unit: Unit::Count,
            direction: Direction::Above,
            warning: Some(500_000_000.0),
            critical: Some(1_000_000_000.0),
            source: "2.5 and 5 times autovacuum_freeze_max_age's default; vacuum_failsafe_age is 1.6 billion, the \
                     limit 2.1 billion (PostgreSQL documentation, 'Preventing Transaction ID Wraparound Failures')",
        },
        ThresholdSpec {
            name: "members",
            meaning: "share of the space for multixact members that is used",
            unit: Unit::Percent,
            direction: Direction::Above,
            warning: Some(50.0),
            critical: Some(75.0),
            source: "multixact.c: from MULTIXACT_MEMBER_SAFE_THRESHOLD, half of the space, autovacuum is forced early, \
                     the more so the fuller it is; at MULTIXACT_MEMBER_DANGER_THRESHOLD, three quarters, it freezes \
                     whatever it can",
        },
    ],
    requires: &[],
};

/// Where transaction ids come round: 2^31, less the 3 million that PostgreSQL keeps for a superuser's VACUUM.
const USABLE: f64 = 2_147_483_648.0 - 3_000_000.0;

/// The space for members of multixacts: their offsets have 32 bits.
const MEMBERS: f64 = 4_294_967_296.0;

/// The first version whose offsets have 64.
const MEMBERS_WITHOUT_END: u32 = 19;

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
        let capabilities = pg.capabilities(cx).await?;
        let segments = capabilities.multixact_member_segments();
        let rows = pg.read(cx, &SQL.replace("{segments}", segments.unwrap_or("NULL::int8"))).await?;
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
        if capabilities.major() >= MEMBERS_WITHOUT_END {
            return Ok(report);
        }
        Ok(match Members::read(&rows, &ages)? {
            Members::Counted(members) => {
                let used = 100.0 * members as f64 / MEMBERS;
                let measured =
                    Measurement::new("members", used, Unit::Percent).judged_by(limits.get("members"));
                report.findings(filling(&measured, pg.address())).measure(measured)
            }
            Members::Few => report,
            Members::Hidden => report.unseen(
                format!(
                    "how full the space for multixact members is: hidden from role {}",
                    capabilities.role
                ),
                match capabilities.managed() {
                    None => Some(grants::multixact_members(&capabilities.quoted_role())),
                    // Nobody there may make a superuser's function.
                    Some(_) => None,
                },
            ),
        })
    }
}

/// What is known of the members of multixacts.
#[derive(Debug, PartialEq)]
enum Members {
    Counted(i64),
    /// Hidden, and too few to matter.
    Few,
    Hidden,
}

impl Members {
    fn read(rows: &[Row], ages: &[Age]) -> Result<Self> {
        let Some(row) = rows.first() else { return Ok(Self::Hidden) };
        if let Some(members) = row.get("members")? {
            return Ok(Self::Counted(members));
        }
        let multixacts = ages.iter().map(|age| age.multixacts).max().unwrap_or(0);
        Ok(Self::hidden(multixacts, row.get("at_once")?))
    }

    /// Ten times what ran at once: some members are subtransactions, and settings were others once.
    fn hidden(multixacts: i64, at_once: i64) -> Self {
        let most = multixacts.saturating_mul(at_once).saturating_mul(10);
        if most < 1 << 31 { Self::Few } else { Self::Hidden }
    }
}

fn filling(measured: &Measurement, address: &str) -> Option<Finding> {
    let severity = Severity::of(measured.status())?;
    let message = format!("the space for members of multixacts is {} full", measured.format());
    let finding = Finding::new(severity, "pg.wraparound.members", message).object(address);
    Some(finding.evidence(json!({ "used_percent": measured.value, "members_at_most": MEMBERS })).remedy(
        Remedy::statement("SELECT datname, mxid_age(datminmxid) FROM pg_database ORDER BY 2 DESC;").because(
            "VACUUM (FREEZE) the tables whose rows many transactions lock together, in the database that is first, \
             once nothing old is open there; only that frees members",
        ),
    ))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_members_matter_once_they_may_be_many() {
        for (multixacts, at_once, expected) in [
            (0, 100, Members::Few),
            (999, 10_000, Members::Few),
            (2_000_000, 100, Members::Few),
            (3_000_000, 100, Members::Hidden),
            (i64::MAX, 100, Members::Hidden),
        ] {
            assert_eq!(Members::hidden(multixacts, at_once), expected, "{multixacts} {at_once}");
        }
    }
}
