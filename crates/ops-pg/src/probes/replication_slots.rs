//! `pg.replication_slots`: slots that nobody reads from, and the WAL that they keep.

use async_trait::async_trait;
use ops_core::{
    Context, Direction, Error, ErrorKind, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec,
    Remedy, Result, Severity, ThresholdSpec, Unit,
};
use serde_json::{Value, json};

use crate::probe::{PgProbe, Scope};
use crate::row::Row;
use crate::target::PgTarget;

/// Serves PostgreSQL 14 and later; `{since_17}` is one of the two below. A standby has no insert position: what it
/// has replayed stands for it.
const SQL: &str = "
SELECT s.slot_name::text AS slot, s.slot_type, s.database::text AS database, s.active, s.temporary,
       coalesce(s.wal_status, 'reserved') AS wal_status, s.safe_wal_size,
       greatest(coalesce(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END
                         - s.restart_lsn, 0), 0)::int8 AS retained,
       (SELECT setting::int8 FROM pg_settings WHERE name = 'max_slot_wal_keep_size') AS keep_size,
       {since_17}
  FROM pg_replication_slots s
 ORDER BY retained DESC, slot";

/// Serves PostgreSQL 14 and later. Read only where a disk is configured; it wants the rights of pg_monitor.
const WAL: &str = "SELECT coalesce(sum(size), 0)::float8 AS bytes FROM pg_ls_waldir()";

const SINCE_17: &str = "s.synced, s.invalidation_reason,
       extract(epoch FROM now() - s.inactive_since)::float8 AS inactive_for";

const BEFORE_17: &str = "false AS synced, NULL::text AS invalidation_reason, NULL::float8 AS inactive_for";

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.replication_slots",
    group: "replication",
    explanation: Explanation {
        why: "A slot keeps all WAL that its reader has not confirmed, and a logical one keeps dead rows of the \
              catalogues as well. When the reader does not come back, the disk fills, and a full disk stops the \
              primary. With max_slot_wal_keep_size set it is the reader that breaks instead, and has to be made anew.",
        measures: "For each slot: whether somebody reads from it, since when not (from 17 on; before, an unused slot \
                   is reported at once, since the server does not say since when), how much WAL it keeps, and \
                   wal_status: lost means that what it needs is gone, unreserved that it goes at the next \
                   checkpoint. Slots that a standby copies from its primary (17 and later) are unused by their \
                   nature and left out, and so are temporary ones. Where wal.disk is configured, also what it keeps \
                   as a share of what it can take: retained / (retained + free), where free is wal.disk less all \
                   that is in pg_wal. SQL does not show what else lies on that disk: configure less where something \
                   does.",
        queries: &[
            ("all slots", SQL),
            ("17 and later", SINCE_17),
            ("14 to 16", BEFORE_17),
            ("where wal.disk is configured: the WAL that there is", WAL),
        ],
        codes: &[
            ("pg.replication_slot.lost", "the WAL that the slot needs is gone"),
            ("pg.replication_slot.at_risk", "the WAL that the slot needs goes at the next checkpoint"),
            ("pg.replication_slot.inactive", "nobody reads from the slot"),
            ("pg.replication_slot.retains", "the slot keeps much WAL"),
            (
                "pg.replication_slot.unbounded",
                "max_slot_wal_keep_size sets no bound to what a slot keeps (info)",
            ),
        ],
        versions: "PostgreSQL 14 and later",
        cost: "one read of pg_replication_slots; where wal.disk is configured, one listing of pg_wal",
        remedy: "Start what reads from it, or drop it with pg_drop_replication_slot once you know that it will not \
                 come back. max_slot_wal_keep_size bounds what a slot may keep. A lost slot cannot be saved: drop \
                 it and make its standby or subscription anew.",
    },
    thresholds: &[
        ThresholdSpec {
            name: "inactive",
            meaning: "time for which nobody has read from the slot (PostgreSQL 17 and later)",
            unit: Unit::Seconds,
            direction: Direction::Above,
            warning: Some(300.0),
            critical: None,
            source: "this project's choice: longer than a standby's restart",
        },
        ThresholdSpec {
            name: "retained_share",
            meaning: "WAL kept by one slot, of that and what is free on the disk configured as wal.disk",
            unit: Unit::Percent,
            direction: Direction::Above,
            warning: Some(50.0),
            critical: Some(80.0),
            source: "the specification's: at 50 % as much is kept as is still free, at 80 % four times as much",
        },
        ThresholdSpec {
            name: "retained",
            meaning: "WAL kept by one slot",
            unit: Unit::Bytes,
            direction: Direction::Above,
            warning: None,
            critical: None,
            source: "information: what is much depends on the disk",
        },
    ],
    requires: &[],
};

#[derive(Debug)]
pub(super) struct ReplicationSlots;

#[async_trait]
impl PgProbe for ReplicationSlots {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Cluster
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, limits: &Limits) -> Result<ProbeReport> {
        let newer = if pg.capabilities(cx).await?.major() >= 17 { SINCE_17 } else { BEFORE_17 };
        let rows = pg.read(cx, &SQL.replace("{since_17}", newer)).await?;
        if rows.is_empty() {
            return Ok(ProbeReport::not_applicable("there are no replication slots"));
        }
        let slots = rows.iter().map(Slot::read).collect::<Result<Vec<_>>>()?;
        let most = slots.iter().map(|slot| slot.retained).max().unwrap_or(0);
        let unused = slots.iter().filter(|slot| slot.unused()).count();
        let slots_are = if slots.len() == 1 { "1 slot".to_owned() } else { format!("{} slots", slots.len()) };
        let mut report = ProbeReport::new(format!(
            "{slots_are}, {unused} unused, the most kept is {}",
            Unit::Bytes.format(most as f64)
        ));
        let free = free(cx, pg).await;
        if let Err(error) = &free {
            let role = pg.capabilities(cx).await?.quoted_role();
            let what = format!("how much of wal.disk is free: {}", error.report());
            report = report.unseen(what, Some(format!("GRANT pg_monitor TO {role};")));
        }
        let free = free.ok().flatten();
        for slot in &slots {
            report = slot.judge(report, limits, free);
        }
        let unbounded = slots.iter().any(|slot| slot.keep_size == Some(-1)).then(|| {
            let message = "a slot may keep WAL until the disk is full: max_slot_wal_keep_size is -1";
            Finding::info("pg.replication_slot.unbounded", message).object("max_slot_wal_keep_size").remedy(
                Remedy::statement("ALTER SYSTEM SET max_slot_wal_keep_size = '…GB'; SELECT pg_reload_conf();")
                    .because("less than is free on the WAL's disk; a reader that falls further behind has to be made anew"),
            )
        });
        Ok(report.measure(Measurement::new("unused", unused as f64, Unit::Count)).findings(unbounded))
    }
}

/// How much WAL the configured disk can still take, in bytes.
async fn free(cx: &Context, pg: &PgTarget) -> Result<Option<f64>> {
    let Some(disk) = pg.config().wal.disk else { return Ok(None) };
    let rows = pg.read(cx, WAL).await?;
    let row = rows.first().ok_or_else(|| Error::new(ErrorKind::Bug, "read the size of the WAL"))?;
    Ok(Some((disk.0 as f64 - row.get::<f64>("bytes")?).max(0.0)))
}

struct Slot {
    name: String,
    kind: String,
    database: Option<String>,
    active: bool,
    temporary: bool,
    wal_status: String,
    safe_wal_size: Option<i64>,
    retained: i64,
    /// Megabytes; -1 is no bound.
    keep_size: Option<i64>,
    synced: bool,
    invalidation_reason: Option<String>,
    inactive_for: Option<f64>,
}

impl Slot {
    fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            name: row.get("slot")?,
            kind: row.get("slot_type")?,
            database: row.get("database")?,
            active: row.get("active")?,
            temporary: row.get("temporary")?,
            wal_status: row.get("wal_status")?,
            safe_wal_size: row.get("safe_wal_size")?,
            retained: row.get("retained")?,
            keep_size: row.get("keep_size")?,
            synced: row.get("synced")?,
            invalidation_reason: row.get("invalidation_reason")?,
            inactive_for: row.get("inactive_for")?,
        })
    }

    fn unused(&self) -> bool {
        !self.active && !self.temporary && !self.synced
    }

    fn lost(&self) -> bool {
        self.wal_status == "lost" || self.invalidation_reason.is_some()
    }

    /// The share that it keeps of what it can take: in percent, all of it once nothing is free.
    fn share(&self, free: f64) -> f64 {
        let retained = self.retained as f64;
        100.0 * retained / (retained + free).max(1.0)
    }

    fn judge(&self, report: ProbeReport, limits: &Limits, free: Option<f64>) -> ProbeReport {
        let label = |name: &'static str, value: f64, unit| {
            Measurement::new(name, value, unit).label("slot", self.name.clone()).judged_by(limits.get(name))
        };
        let retained = label("retained", self.retained as f64, Unit::Bytes);
        let share = free.map(|free| label("retained_share", self.share(free), Unit::Percent));
        let inactive =
            self.inactive_for.filter(|_| self.unused()).map(|s| label("inactive", s, Unit::Seconds));
        // Before 17 the time is unknown, and an unused slot is taken for one that stays so.
        let severity = match &inactive {
            Some(inactive) => Severity::of(inactive.status()),
            None => limits.get("inactive").warning.is_some().then_some(Severity::Warning),
        };
        let report = match (self.lost(), self.wal_status.as_str()) {
            (true, _) => report.finding(self.gone()),
            (false, "unreserved") => report.finding(self.at_risk()),
            _ => report
                .findings(severity.filter(|_| self.unused()).map(|severity| self.inactive(severity)))
                .findings(self.keeps(&retained, share.as_ref())),
        };
        [Some(retained), share, inactive].into_iter().flatten().fold(report, ProbeReport::measure)
    }

    fn gone(&self) -> Finding {
        let why = self.invalidation_reason.as_deref().unwrap_or("wal_removed");
        let message = format!("slot {} is lost ({why}): what reads from it has to be made anew", self.name);
        self.finding(Severity::Critical, "pg.replication_slot.lost", message).remedy(Remedy::advice(
            "make its standby or subscription anew, then drop the slot; see max_slot_wal_keep_size for why",
        ))
    }

    fn at_risk(&self) -> Finding {
        let message = format!(
            "slot {} keeps {}, more than max_slot_wal_keep_size allows: the next checkpoint removes what it needs",
            self.name,
            Unit::Bytes.format(self.retained as f64)
        );
        self.finding(Severity::Critical, "pg.replication_slot.at_risk", message).remedy(Remedy::advice(
            "let its reader catch up now; if the disk has room, raise max_slot_wal_keep_size and reload",
        ))
    }

    fn inactive(&self, severity: Severity) -> Finding {
        let since =
            self.inactive_for.map(|s| format!(" for {}", Unit::Seconds.format(s))).unwrap_or_default();
        let bound = match self.keep_size {
            Some(megabytes) if megabytes >= 0 => {
                format!(
                    "up to max_slot_wal_keep_size ({})",
                    Unit::Bytes.format(megabytes as f64 * 1_048_576.0)
                )
            }
            _ => "without limit".to_owned(),
        };
        let message = format!(
            "nobody has read from slot {}{since}: it keeps {} of WAL, and more, {bound}",
            self.name,
            Unit::Bytes.format(self.retained as f64)
        );
        self.finding(severity, "pg.replication_slot.inactive", message).remedy(Remedy::advice(format!(
            "start what reads from it; only if that will never come back, drop it: pg_drop_replication_slot('{}')",
            self.name
        )))
    }

    fn keeps(&self, retained: &Measurement, share: Option<&Measurement>) -> Option<Finding> {
        let of = |measured: &Measurement| Severity::of(measured.status());
        let severity = of(retained).max(share.and_then(of))?;
        let part = share.map(|share| format!(", {} of what it can take", share.format())).unwrap_or_default();
        let message = format!("slot {} keeps {} of WAL{part}", self.name, retained.format());
        Some(self.finding(severity, "pg.replication_slot.retains", message).remedy(Remedy::advice(
            "find out why its reader does not keep up: `ops explain pg.replication_lag`",
        )))
    }

    fn finding(&self, severity: Severity, code: &'static str, message: String) -> Finding {
        Finding::new(severity, code, message).object(self.name.clone()).evidence(self.evidence())
    }

    fn evidence(&self) -> Value {
        json!({
            "slot": self.name, "type": self.kind, "database": self.database, "active": self.active,
            "wal_status": self.wal_status, "safe_wal_size": self.safe_wal_size, "retained": self.retained,
            "invalidation_reason": self.invalidation_reason,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot() -> Slot {
        Slot {
            name: "s".into(),
            kind: "physical".into(),
            database: None,
            active: false,
            temporary: false,
            wal_status: "reserved".into(),
            safe_wal_size: None,
            retained: 60 << 30,
            keep_size: Some(-1),
            synced: false,
            invalidation_reason: None,
            inactive_for: Some(3600.0),
        }
    }

    #[test]
    fn each_state_has_its_finding() {
        let reserved = slot;
        for (what, slot, free, expected) in [
            ("read from", Slot { active: true, ..reserved() }, None, vec![]),
            ("unused", reserved(), None, vec!["inactive"]),
            ("just restarted", Slot { inactive_for: Some(10.0), ..reserved() }, None, vec![]),
            ("unused before 17", Slot { inactive_for: None, ..reserved() }, None, vec!["inactive"]),
            ("copied from a primary", Slot { synced: true, ..reserved() }, None, vec![]),
            ("temporary", Slot { temporary: true, ..reserved() }, None, vec![]),
            ("as much and a bit is free", Slot { active: true, ..reserved() }, Some(6.5e10), vec![]),
            ("less is free", Slot { active: true, ..reserved() }, Some(6e10), vec!["retains"]),
            ("nothing is free", Slot { active: true, ..reserved() }, Some(0.0), vec!["retains"]),
            ("nothing kept", Slot { active: true, retained: 0, ..reserved() }, Some(0.0), vec![]),
            ("lost", Slot { wal_status: "lost".into(), ..reserved() }, None, vec!["lost"]),
            (
                "timed out",
                Slot { invalidation_reason: Some("idle_timeout".into()), ..reserved() },
                None,
                vec!["lost"],
            ),
            ("unreserved", Slot { wal_status: "unreserved".into(), ..reserved() }, None, vec!["at_risk"]),
        ] {
            let report = slot.judge(ProbeReport::new(""), &Limits::defaults(&SPEC), free);
            let codes: Vec<_> = report
                .found()
                .iter()
                .map(|f| f.code.trim_start_matches("pg.replication_slot.").to_owned())
                .collect();
            assert_eq!(codes, expected, "{what}");
        }
    }
}
