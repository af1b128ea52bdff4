//! `pg.xmin_horizon`: who keeps VACUUM from removing what is dead.

use async_trait::async_trait;
use ops_core::{
    Context, Direction, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy,
    Requirement, Result, Severity, ThresholdSpec, Unit,
};
use serde_json::json;

use super::session_row::REPORTED;
use crate::probe::{PgProbe, Scope};
use crate::row::Row;
use crate::target::PgTarget;

/// Serves PostgreSQL 14 and later. A lazy VACUUM's own snapshot holds nobody back. What a standby feeds back is in
/// its slot where it has one, else in `pg_stat_replication`: never counted twice, and never as a session.
const SQL: &str = "
SELECT * FROM (
  SELECT 'session' AS kind, a.pid::text AS name, a.pid,
         greatest(age(a.backend_xmin), age(a.backend_xid))::int8 AS age, a.datname::text AS database,
         concat_ws(', ', nullif(a.application_name, ''), a.usename, coalesce(a.state, a.backend_type)) AS about
    FROM pg_stat_activity a
   WHERE (a.backend_xmin IS NOT NULL OR a.backend_xid IS NOT NULL)
     AND a.backend_type <> 'walsender' AND a.pid <> pg_backend_pid()
     AND a.pid NOT IN (SELECT v.pid FROM pg_stat_progress_vacuum v)
  UNION ALL
  SELECT 'prepared transaction', p.gid, NULL, age(p.transaction)::int8, p.database::text, p.owner::text
    FROM pg_prepared_xacts p
  UNION ALL
  SELECT 'slot', s.slot_name::text, s.active_pid, age(s.xmin)::int8, s.database::text,
         concat_ws(', ', s.slot_type, 'xmin', CASE WHEN s.active THEN 'active' ELSE 'inactive' END)
    FROM pg_replication_slots s WHERE s.xmin IS NOT NULL
  UNION ALL
  SELECT 'slot of catalogs', s.slot_name::text, s.active_pid, age(s.catalog_xmin)::int8, s.database::text,
         concat_ws(', ', s.slot_type, 'catalog_xmin', CASE WHEN s.active THEN 'active' ELSE 'inactive' END)
    FROM pg_replication_slots s WHERE s.catalog_xmin IS NOT NULL
  UNION ALL
  SELECT 'standby', coalesce(nullif(r.application_name, ''), r.pid::text), r.pid, age(r.backend_xmin)::int8, NULL,
         concat_ws(', ', host(r.client_addr), r.usename, 'hot_standby_feedback')
    FROM pg_stat_replication r WHERE r.backend_xmin IS NOT NULL) holders
 ORDER BY age DESC LIMIT 50";

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.xmin_horizon",
    group: "transaction ids",
    explanation: Explanation {
        why: "VACUUM removes only what nobody can see any more. One old snapshot holds it back everywhere: tables \
              grow, index scans read dead rows, freezing stops, and after enough transactions the server refuses \
              writes.",
        measures: "The age, in transactions, of everything that holds the horizon: sessions (their snapshot or \
                   their own id), prepared transactions, replication slots (xmin, and catalog_xmin, which holds \
                   back the system catalogs only), and standbys that feed theirs back. Each one over the bound is \
                   a finding, the oldest first: ending one helps only when no older one is left.",
        queries: &[("who holds the horizon", SQL)],
        codes: &[
            ("pg.xmin_horizon.session", "a session holds the horizon back"),
            ("pg.xmin_horizon.prepared", "a prepared transaction holds the horizon back"),
            ("pg.xmin_horizon.slot", "a replication slot holds the horizon back"),
            ("pg.xmin_horizon.standby", "a standby's feedback holds the horizon back"),
        ],
        versions: "PostgreSQL 14 and later",
        cost: "one read each of pg_stat_activity, pg_prepared_xacts, pg_replication_slots and pg_stat_replication",
        remedy: "End the holder that is named first: the session, the prepared transaction, the query on the \
                 standby; drop a slot whose consumer is gone for good. Then VACUUM what grew.",
    },
    thresholds: &[ThresholdSpec {
        name: "age",
        meaning: "transactions since the oldest one that somebody may still look at",
        unit: Unit::Count,
        direction: Direction::Above,
        warning: Some(10_000_000.0),
        critical: Some(100_000_000.0),
        source: "this project's choice: a twentieth and a half of autovacuum_freeze_max_age's default (200 million), \
                 past which autovacuum scans whole tables to freeze what the horizon does not let it freeze",
    }],
    requires: &[Requirement::Role("pg_read_all_stats")],
};

#[derive(Debug)]
pub(super) struct XminHorizon;

#[async_trait]
impl PgProbe for XminHorizon {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Cluster
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, limits: &Limits) -> Result<ProbeReport> {
        let rows = pg.read(cx, SQL).await?;
        let holders = rows.iter().map(Holder::read).collect::<Result<Vec<_>>>()?;
        let oldest = holders.first().map_or(0, |holder| holder.age);
        let summary = match holders.first() {
            None => "nothing holds the horizon of VACUUM back".to_owned(),
            Some(holder) => {
                format!("{} holds the horizon of VACUUM {} back", holder.describe(), transactions(holder.age))
            }
        };
        Ok(ProbeReport::new(summary)
            .measure(Measurement::new("age", oldest as f64, Unit::Count).judged_by(limits.get("age")))
            .measure(Measurement::new("holders", holders.len() as f64, Unit::Count))
            .findings(holders.iter().filter_map(|holder| holder.finding(limits)).take(REPORTED)))
    }
}

fn transactions(age: i64) -> String {
    format!("{} transaction{}", Unit::Count.format(age as f64), if age == 1 { "" } else { "s" })
}

struct Holder {
    kind: String,
    name: String,
    pid: Option<i32>,
    age: i64,
    database: Option<String>,
    about: String,
}

impl Holder {
    fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            kind: row.get("kind")?,
            name: row.get("name")?,
            pid: row.get("pid")?,
            age: row.get("age")?,
            database: row.get("database")?,
            about: row.get("about")?,
        })
    }

    fn describe(&self) -> String {
        match self.kind.as_str() {
            "session" => format!("pid {} ({})", self.name, self.about),
            "slot of catalogs" => format!("slot {} ({})", self.name, self.about),
            kind => format!("{kind} {} ({})", self.name, self.about),
        }
    }

    fn finding(&self, limits: &Limits) -> Option<Finding> {
        let severity = Severity::of(limits.get("age").judge(self.age as f64))?;
        let (code, object) = match self.kind.as_str() {
            "session" => ("pg.xmin_horizon.session", format!("pid {}", self.name)),
            "prepared transaction" => ("pg.xmin_horizon.prepared", self.name.clone()),
            "standby" => ("pg.xmin_horizon.standby", self.name.clone()),
            _ => ("pg.xmin_horizon.slot", self.name.clone()),
        };
        let of = match self.kind.as_str() {
            "slot of catalogs" => " of the system catalogs",
            _ => "",
        };
        let message = format!("{} holds the horizon{of} {} back", self.describe(), transactions(self.age));
        Some(
            Finding::new(severity, code, message)
                .object(object)
                .evidence(json!({
                    "holder": self.kind, "name": self.name, "pid": self.pid, "age": self.age,
                    "database": self.database, "about": self.about,
                }))
                .remedy(self.remedy()),
        )
    }

    fn remedy(&self) -> Remedy {
        match (self.kind.as_str(), self.pid) {
            ("session", Some(pid)) => Remedy::statement(format!("SELECT pg_terminate_backend({pid});"))
                .because("it loses what it has not committed: ask its owner if you can"),
            ("prepared transaction", _) => Remedy::statement(
                "SELECT gid, prepared, owner, database FROM pg_prepared_xacts ORDER BY prepared;",
            )
            .because("COMMIT PREPARED or ROLLBACK PREPARED it, as its coordinator decided"),
            ("standby", _) => Remedy::advice(
                "end the oldest query on that standby, or set hot_standby_feedback = off there, or \
                 max_standby_streaming_delay lower",
            ),
            _ => Remedy::statement(
                "SELECT slot_name, slot_type, active, xmin, catalog_xmin FROM pg_replication_slots;",
            )
            .because("start its consumer; drop the slot only when the consumer is gone for good"),
        }
    }
}
