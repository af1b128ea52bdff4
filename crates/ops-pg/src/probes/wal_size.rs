//! `pg.wal_size`: how much WAL there is, against what there should be.

use async_trait::async_trait;
use ops_core::{
    Context, Direction, Error, ErrorKind, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec,
    Remedy, Requirement, Result, Severity, ThresholdSpec, Unit,
};
use serde_json::json;

use crate::probe::{PgProbe, Scope};
use crate::provider::Managed;
use crate::target::PgTarget;

/// Serves PostgreSQL 14 and later. pg_settings has both sizes in megabytes.
const SQL: &str = "
SELECT count(*) AS files, coalesce(sum(size), 0)::int8 AS bytes,
       (SELECT setting::int8 FROM pg_settings WHERE name = 'max_wal_size')  * 1048576 AS max_wal_size,
       (SELECT setting::int8 FROM pg_settings WHERE name = 'wal_keep_size') * 1048576 AS wal_keep_size
  FROM pg_ls_waldir()";

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.wal_size",
    group: "write-ahead log",
    explanation: Explanation {
        why: "When the disk that holds pg_wal is full, the server stops with a PANIC, and does not start again \
              before there is room.",
        measures: "The size of pg_wal, as a multiple of the larger of max_wal_size and wal_keep_size: it may go over \
                   for a while, and stays over where archiving fails or a slot keeps WAL. Where wal.disk is \
                   configured, also as a share of that.",
        queries: &[("the files of pg_wal", SQL)],
        codes: &[("pg.wal.large", "there is much more WAL than the settings ask for")],
        versions: "PostgreSQL 14 and later",
        cost: "one listing of pg_wal, a stat for each file (64 a GB)",
        remedy: "Look at pg.archiving and pg.replication_slots: they name what keeps the WAL. Never delete files from \
                 pg_wal by hand: the server does not start without those that it needs.",
    },
    thresholds: &[
        ThresholdSpec {
            name: "of_expected",
            meaning: "size of pg_wal, in multiples of what the settings ask for",
            unit: Unit::Ratio,
            direction: Direction::Above,
            warning: Some(2.0),
            critical: None,
            source: "this project's choice: max_wal_size is a soft bound, and a checkpoint that is under way lets it \
                     be passed by less",
        },
        ThresholdSpec {
            name: "of_disk",
            meaning: "size of pg_wal, of the disk configured as wal.disk",
            unit: Unit::Percent,
            direction: Direction::Above,
            warning: Some(50.0),
            critical: Some(80.0),
            source: "critical: the runbooks' own figure for a disk; warning: this project's choice, for what is kept \
                     grows with every write",
        },
    ],
    requires: &[Requirement::Role("pg_monitor")],
};

#[derive(Debug)]
pub(super) struct WalSize;

#[async_trait]
impl PgProbe for WalSize {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Cluster
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, limits: &Limits) -> Result<ProbeReport> {
        let managed = pg.capabilities(cx).await?.managed();
        let rows = match (pg.read(cx, SQL).await, managed) {
            (Err(error), Some(managed)) if refused(error.kind()) => return Ok(elsewhere(managed, &error)),
            (read, _) => read?,
        };
        let row = rows.first().ok_or_else(|| Error::new(ErrorKind::Bug, "read the size of the WAL"))?;
        let (files, bytes): (i64, i64) = (row.get("files")?, row.get("bytes")?);
        let (max, keep): (i64, i64) = (row.get("max_wal_size")?, row.get("wal_keep_size")?);
        let expected = max.max(keep).max(1);
        let (size, wanted) = (Unit::Bytes.format(bytes as f64), Unit::Bytes.format(expected as f64));
        let ratio = Measurement::new("of_expected", bytes as f64 / expected as f64, Unit::Ratio)
            .judged_by(limits.get("of_expected"));
        let share = pg.config().wal.disk.map(|disk| {
            let share = 100.0 * bytes as f64 / (disk.0.max(1) as f64);
            Measurement::new("of_disk", share, Unit::Percent).judged_by(limits.get("of_disk"))
        });
        let of = |measured: &Measurement| Severity::of(measured.status());
        let severity = of(&ratio).max(share.as_ref().and_then(of));
        let finding = severity.map(|severity| {
            let part = share.as_ref().map(|share| format!(", {} of its disk", share.format())).unwrap_or_default();
            let message = format!("pg_wal holds {size}{part}; the settings ask for {wanted}");
            Finding::new(severity, "pg.wal.large", message)
                .object(pg.address())
                .evidence(json!({
                    "bytes": bytes, "files": files, "max_wal_size": max, "wal_keep_size": keep,
                }))
                .remedy(Remedy::advice(
                    "pg.archiving and pg.replication_slots tell what keeps it; never delete files from pg_wal by hand",
                ))
        });
        let report = ProbeReport::new(format!("{size} of WAL, the settings ask for up to {wanted}"))
            .findings(finding)
            .measure(Measurement::new("size", bytes as f64, Unit::Bytes))
            .measure(ratio);
        Ok(share.into_iter().fold(report, ProbeReport::measure))
    }
}

fn refused(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::PermissionDenied | ErrorKind::Unsupported | ErrorKind::NotFound)
}

/// What a managed service keeps to itself: the files of its WAL, or that there are none.
fn elsewhere(managed: &Managed, error: &Error) -> ProbeReport {
    match managed.wal {
        Some(metric) => ProbeReport::unknown(
            format!("{} does not show the files of pg_wal: {}", managed.title, error.report()),
            Some(format!("look at {metric}")),
        ),
        None => ProbeReport::not_applicable(format!("{} keeps the WAL outside the server", managed.title)),
    }
}
