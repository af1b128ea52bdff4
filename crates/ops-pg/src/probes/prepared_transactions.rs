//! `pg.prepared_transactions`: which prepared transactions nobody has committed or rolled back.

use async_trait::async_trait;
use ops_core::{
    Context, Direction, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy, Result,
    Severity, ThresholdSpec, Unit,
};
use serde_json::json;

use super::session_row::REPORTED;
use super::words::counted;
use crate::probe::{PgProbe, Scope};
use crate::target::PgTarget;

/// Serves PostgreSQL 14 and later. One row at least, so that the setting is known where there is no transaction. A role
/// can be dropped while a transaction of its is prepared: then it has no name.
const SQL: &str = "
SELECT current_setting('max_prepared_transactions')::int4 AS max, p.gid,
       coalesce(p.owner::text, 'a role that was dropped') AS owner,
       p.database::text AS database, age(p.transaction)::int8 AS xid_age,
       extract(epoch FROM clock_timestamp() - p.prepared)::float8 AS seconds
  FROM (SELECT 1) one LEFT JOIN pg_prepared_xacts p ON true
 ORDER BY p.prepared";

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.prepared_transactions",
    group: "sessions",
    explanation: Explanation {
        why: "A prepared transaction belongs to no session: it survives its client and a restart, keeps its locks, \
              and holds back VACUUM until somebody ends it by name. A coordinator that crashed leaves them behind.",
        measures: "The time since each transaction was prepared, in every database. A standby does not show those \
                   of its primary; with max_prepared_transactions = 0 there can be none.",
        queries: &[("prepared transactions", SQL)],
        codes: &[(
            "pg.prepared_transaction.old",
            "a prepared transaction has waited long for its second phase",
        )],
        versions: "PostgreSQL 14 and later",
        cost: "one read of pg_prepared_xacts",
        remedy: "Ask the transaction's coordinator whether it committed; then, connected to the transaction's \
                 database as its owner or a superuser, COMMIT PREPARED or ROLLBACK PREPARED it. Set \
                 max_prepared_transactions to 0 where nothing uses two-phase commit.",
    },
    thresholds: &[ThresholdSpec {
        name: "age",
        meaning: "time since the transaction was prepared",
        unit: Unit::Seconds,
        direction: Direction::Above,
        warning: Some(300.0),
        critical: Some(3600.0),
        source: "the runbooks' own figures: 5 and 60 minutes",
    }],
    requires: &[],
};

#[derive(Debug)]
pub(super) struct PreparedTransactions;

#[async_trait]
impl PgProbe for PreparedTransactions {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Cluster
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, limits: &Limits) -> Result<ProbeReport> {
        if pg.capabilities(cx).await?.in_recovery {
            return Ok(ProbeReport::not_applicable(
                "a standby shows no prepared transactions; its primary does",
            ));
        }
        let rows = pg.read(cx, SQL).await?;
        if rows.first().map(|row| row.get::<i32>("max")).transpose()? == Some(0) {
            return Ok(ProbeReport::not_applicable("max_prepared_transactions is 0: none can be prepared"));
        }
        let mut prepared = Vec::new();
        for row in &rows {
            if let Some(gid) = row.get::<Option<String>>("gid")? {
                prepared.push(Prepared {
                    gid,
                    owner: row.get("owner")?,
                    database: row.get("database")?,
                    xid_age: row.get("xid_age")?,
                    seconds: row.get("seconds")?,
                });
            }
        }
        Ok(judge(&prepared, limits))
    }
}

struct Prepared {
    gid: String,
    owner: String,
    database: String,
    xid_age: i64,
    seconds: f64,
}

fn judge(prepared: &[Prepared], limits: &Limits) -> ProbeReport {
    let oldest = prepared.first().map_or(0.0, |transaction| transaction.seconds);
    let summary = match prepared.len() {
        0 => "no transaction is prepared".to_owned(),
        n => format!(
            "{} prepared, the oldest {} ago",
            counted(n, "transaction is", "transactions are"),
            Unit::Seconds.format(oldest)
        ),
    };
    ProbeReport::new(summary)
        .measure(Measurement::new("transactions", prepared.len() as f64, Unit::Count))
        .measure(Measurement::new("oldest", oldest, Unit::Seconds))
        .findings(prepared.iter().filter_map(|transaction| transaction.finding(limits)).take(REPORTED))
}

impl Prepared {
    fn finding(&self, limits: &Limits) -> Option<Finding> {
        let severity = Severity::of(limits.get("age").judge(self.seconds))?;
        let message = format!(
            "{} of database {} was prepared {} ago by {} and is still open",
            self.gid,
            self.database,
            Unit::Seconds.format(self.seconds),
            self.owner,
        );
        Some(
            Finding::new(severity, "pg.prepared_transaction.old", message)
                .object(self.gid.clone())
                .evidence(json!({
                    "gid": self.gid, "owner": self.owner, "database": self.database,
                    "seconds": self.seconds, "xid_age": self.xid_age,
                }))
                .remedy(
                    Remedy::statement(
                        "SELECT gid, prepared, owner, database FROM pg_prepared_xacts ORDER BY prepared;",
                    )
                    .because("COMMIT PREPARED or ROLLBACK PREPARED it, as its coordinator decided"),
                ),
        )
    }
}
