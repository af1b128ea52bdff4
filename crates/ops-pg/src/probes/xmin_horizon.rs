//! `pg.xmin_horizon`: who keeps VACUUM from removing what is dead.

use async_trait::async_trait;
use ops_core::{
    Context, Direction, Error, ErrorKind, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec,
    Remedy, Requirement, Result, Severity, ThresholdSpec, Unit,
};
use serde_json::json;

use super::session_row::REPORTED;
use super::words::counted;
use crate::probe::{PgProbe, Scope};
use crate::row::Row;
use crate::target::PgTarget;

/// Serves PostgreSQL 14 and later. A lazy VACUUM's own snapshot holds nobody back. What a standby feeds back is in
/// its slot where it has one, else in `pg_stat_replication`: never counted twice, and never as a session. `own` is the
/// age of the transaction's own id, where it has one. An owner that was dropped is null.
const SQL: &str = "
SELECT * FROM (
  SELECT 'session' AS kind, a.pid::text AS name, a.pid,
         greatest(age(a.backend_xmin), age(a.backend_xid))::int8 AS age, age(a.backend_xid)::int8 AS own,
         extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS seconds, a.datname::text AS database,
         concat_ws(', ', nullif(a.application_name, ''), a.usename, coalesce(a.state, a.backend_type)) AS about
    FROM pg_stat_activity a
   WHERE (a.backend_xmin IS NOT NULL OR a.backend_xid IS NOT NULL)
     AND a.backend_type <> 'walsender' AND a.pid <> pg_backend_pid()
     AND a.pid NOT IN (SELECT v.pid FROM pg_stat_progress_vacuum v)
  UNION ALL
  SELECT 'prepared', p.gid, NULL, age(p.transaction)::int8, age(p.transaction)::int8, NULL, p.database::text,
         coalesce(p.owner::text, 'of a role that was dropped')
    FROM pg_prepared_xacts p
  UNION ALL
  SELECT 'slot', s.slot_name::text, s.active_pid, age(s.xmin)::int8, NULL, NULL, s.database::text,
         concat_ws(', ', s.slot_type, 'xmin', CASE WHEN s.active THEN 'active' ELSE 'inactive' END)
    FROM pg_replication_slots s WHERE s.xmin IS NOT NULL
  UNION ALL
  SELECT 'catalog slot', s.slot_name::text, s.active_pid, age(s.catalog_xmin)::int8, NULL, NULL, s.database::text,
         concat_ws(', ', s.slot_type, 'catalog_xmin', CASE WHEN s.active THEN 'active' ELSE 'inactive' END)
    FROM pg_replication_slots s WHERE s.catalog_xmin IS NOT NULL
  UNION ALL
  SELECT 'standby', coalesce(nullif(r.application_name, ''), r.pid::text), r.pid, age(r.backend_xmin)::int8, NULL,
         NULL, NULL, concat_ws(', ', host(r.client_addr), r.usename, 'hot_standby_feedback')
    FROM pg_stat_replication r WHERE r.backend_xmin IS NOT NULL) holders
 ORDER BY age DESC, (kind = 'session'), seconds DESC NULLS LAST";

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.xmin_horizon",
    group: "transaction ids",
    explanation: Explanation {
        why: "VACUUM removes only what nobody can see any more. One old snapshot holds it back everywhere: tables \
              grow, index scans read dead rows, freezing stops, and after enough transactions the server refuses \
              writes.",
        measures: "The age, in transactions, of everything that holds the horizon: sessions (their snapshot or \
                   their own id), prepared transactions, replication slots (xmin, and catalog_xmin, which holds \
                   back the system catalogs only), and standbys that feed theirs back. A snapshot is as old as the \
                   oldest transaction that ran when it was taken, so whatever is younger than that transaction shows \
                   the same age: of those, the one whose own id it is holds the horizon, and the others are its \
                   victims. Where nobody has that id any more, it is whoever feeds it back, and the session whose \
                   transaction is the oldest. Each holder over the bound is a finding, the oldest first: ending one \
                   helps only when no older one is left.",
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
        let seen = rows.iter().map(Holder::read).collect::<Result<Vec<_>>>()?;
        Ok(judge(&seen, limits))
    }
}

/// `seen` comes the oldest first; of one age, sessions last, and of those the oldest transaction first.
fn judge(seen: &[Holder], limits: &Limits) -> ProbeReport {
    let holders = holders(seen);
    let oldest = holders.first().map_or(0, |held| held.age);
    let summary = match holders.first() {
        None => "nothing holds the horizon of VACUUM back".to_owned(),
        Some(held) => {
            let (who, back) = (held.holder.describe(), transactions(held.age));
            format!("{who} holds the horizon of VACUUM {back} back")
        }
    };
    ProbeReport::new(summary)
        .measure(Measurement::new("age", oldest as f64, Unit::Count).judged_by(limits.get("age")))
        .measure(Measurement::new("holders", holders.len() as f64, Unit::Count))
        .findings(holders.iter().filter_map(|held| held.finding(limits)).take(REPORTED))
}

/// Who holds the horizon at an age, and how many only show that age because of it.
struct Held<'a> {
    holder: &'a Holder,
    age: i64,
    victims: usize,
}

/// The holders at each age that something shows, the oldest first. Nobody is named twice: who is a victim at one age
/// may be the holder at a younger one, that of its own id.
fn holders(seen: &[Holder]) -> Vec<Held<'_>> {
    let mut holders: Vec<Held<'_>> = Vec::new();
    for group in seen.chunk_by(|a, b| a.age == b.age) {
        let age = group[0].age;
        let owners: Vec<_> = seen.iter().filter(|holder| holder.own == Some(age)).collect();
        let of_age: Vec<_> = if owners.is_empty() {
            let sessions = group.iter().filter(|holder| holder.kind == Kind::Session).take(1);
            group.iter().filter(|holder| holder.kind != Kind::Session).chain(sessions).collect()
        } else {
            owners
        };
        let victims =
            group.iter().filter(|seen| !of_age.iter().any(|named| std::ptr::eq(*named, *seen))).count();
        for holder in of_age {
            if !holders.iter().any(|known| std::ptr::eq(known.holder, holder)) {
                holders.push(Held { holder, age, victims });
            }
        }
    }
    holders
}

fn transactions(age: i64) -> String {
    format!("{} transaction{}", Unit::Count.format(age as f64), if age == 1 { "" } else { "s" })
}

/// What can hold the horizon.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Session,
    Prepared,
    Slot,
    /// A slot, by what it needs of the system catalogs only.
    CatalogSlot,
    Standby,
}

impl Kind {
    fn read(name: &str) -> Result<Self> {
        Ok(match name {
            "session" => Self::Session,
            "prepared" => Self::Prepared,
            "slot" => Self::Slot,
            "catalog slot" => Self::CatalogSlot,
            "standby" => Self::Standby,
            other => {
                return Err(Error::new(ErrorKind::Bug, "read who holds the horizon").because(other));
            }
        })
    }

    fn code(self) -> &'static str {
        match self {
            Self::Session => "pg.xmin_horizon.session",
            Self::Prepared => "pg.xmin_horizon.prepared",
            Self::Slot | Self::CatalogSlot => "pg.xmin_horizon.slot",
            Self::Standby => "pg.xmin_horizon.standby",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Prepared => "prepared transaction",
            Self::Slot | Self::CatalogSlot => "slot",
            Self::Standby => "standby",
        }
    }
}

#[derive(Clone, Debug)]
struct Holder {
    kind: Kind,
    name: String,
    pid: Option<i32>,
    /// Of the oldest that it holds.
    age: i64,
    /// Of its own transaction id.
    own: Option<i64>,
    database: Option<String>,
    about: String,
}

impl Holder {
    fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            kind: Kind::read(&row.get::<String>("kind")?)?,
            name: row.get("name")?,
            pid: row.get("pid")?,
            age: row.get("age")?,
            own: row.get("own")?,
            database: row.get("database")?,
            about: row.get("about")?,
        })
    }

    fn describe(&self) -> String {
        match self.kind {
            Kind::Session => format!("pid {} ({})", self.name, self.about),
            kind => format!("{} {} ({})", kind.title(), self.name, self.about),
        }
    }

    fn remedy(&self) -> Remedy {
        match (self.kind, self.pid) {
            (Kind::Session, Some(pid)) => Remedy::statement(format!("SELECT pg_terminate_backend({pid});"))
                .because("it loses what it has not committed: ask its owner if you can"),
            (Kind::Prepared, _) => Remedy::statement(
                "SELECT gid, prepared, owner, database FROM pg_prepared_xacts ORDER BY prepared;",
            )
            .because("COMMIT PREPARED or ROLLBACK PREPARED it, as its coordinator decided"),
            (Kind::Standby, _) => Remedy::advice(
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

impl Held<'_> {
    fn finding(&self, limits: &Limits) -> Option<Finding> {
        let severity = Severity::of(limits.get("age").judge(self.age as f64))?;
        let holder = self.holder;
        let object = match holder.kind {
            Kind::Session => format!("pid {}", holder.name),
            _ => holder.name.clone(),
        };
        let of = if holder.kind == Kind::CatalogSlot { " of the system catalogs" } else { "" };
        let victims = match self.victims {
            0 => String::new(),
            n => format!("; {} for it", counted(n, "other shows that age", "others show that age")),
        };
        let back = transactions(self.age);
        let message = format!("{} holds the horizon{of} {back} back{victims}", holder.describe());
        Some(
            Finding::new(severity, holder.kind.code(), message)
                .object(object)
                .evidence(json!({
                    "holder": holder.kind.title(), "name": holder.name, "pid": holder.pid, "age": self.age,
                    "own_id_age": holder.own, "database": holder.database, "about": holder.about,
                    "others_of_that_age": self.victims,
                }))
                .remedy(holder.remedy()),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(kind: Kind, name: &str, age: i64, own: Option<i64>) -> Holder {
        let (database, about) = (None, String::new());
        Holder { kind, name: name.to_owned(), pid: None, age, own, database, about }
    }

    #[test]
    fn whose_own_id_it_is_holds_the_horizon() {
        use Kind::{CatalogSlot, Prepared, Session, Slot, Standby};
        for (why, seen, expected) in [
            (
                "snapshots are as old as the prepared transaction",
                vec![
                    holder(Prepared, "p", 300, Some(300)),
                    holder(Standby, "fed", 300, None),
                    holder(Session, "1", 300, None),
                    holder(Session, "2", 300, None),
                    holder(Slot, "s", 200, None),
                ],
                vec![("p", 300, 3), ("s", 200, 0)],
            ),
            (
                "the one that wrote has ended: the oldest snapshot, and what is no session",
                vec![
                    holder(CatalogSlot, "s", 300, None),
                    holder(Session, "oldest", 300, None),
                    holder(Session, "younger", 300, None),
                ],
                vec![("s", 300, 1), ("oldest", 300, 1)],
            ),
            (
                "a writer that is a victim itself is the holder for those that began after it",
                vec![
                    holder(Session, "oldest", 300, None),
                    holder(Session, "writer", 300, Some(200)),
                    holder(Session, "reader", 200, None),
                ],
                vec![("oldest", 300, 1), ("writer", 200, 1)],
            ),
            (
                "a writer that is named for its snapshot is not named again for its id",
                vec![holder(Session, "writer", 300, Some(200)), holder(Session, "reader", 200, None)],
                vec![("writer", 300, 0)],
            ),
        ] {
            let found: Vec<_> = holders(&seen)
                .iter()
                .map(|held| (held.holder.name.clone(), held.age, held.victims))
                .collect();
            let expected: Vec<_> =
                expected.into_iter().map(|(name, age, n)| (name.to_owned(), age, n)).collect();
            assert_eq!(found, expected, "{why}");
        }
    }
}
