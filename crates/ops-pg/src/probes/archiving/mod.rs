//! `pg.archiving`: does the WAL reach the archive, and soon enough?

mod backlog;
mod judge;

use async_trait::async_trait;
use ops_core::{
    Context, Direction, Explanation, Finding, Limits, ProbeReport, ProbeSpec, Remedy, Result, ThresholdSpec,
    Unit,
};

use self::backlog::{Archiver, READY, SQL, waiting};
use self::judge::{State, judge};
use crate::probe::{PgProbe, Scope};
use crate::provider::Managed;
use crate::target::PgTarget;

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.archiving",
    group: "write-ahead log",
    explanation: Explanation {
        why: "What is not archived cannot be restored: from the first failure on, a point-in-time recovery ends \
              there. The server keeps the WAL until it is archived, so the disk fills as well.",
        measures: "The newest archived segment against the current position: a server that writes nothing archives \
                   nothing, so the age of the last success alone says nothing. Where a finished segment is not \
                   archived yet, or the last try failed, the files that wait are counted, and the age of the oldest \
                   one is what counts. With a recovery point objective (archive.rpo): that archiving is on, that \
                   archive_timeout is within it, and that nothing waits for longer. On a managed service that shows nothing of its archiving, \
                   whether it can restore is unknown.",
        queries: &[("the archiver and the current position", SQL), ("files that wait, where any may", READY)],
        codes: &[
            ("pg.archiving.off", "a recovery point objective is configured, and archiving is off"),
            (
                "pg.archiving.not_configured",
                "archive_mode is on, and there is neither a command nor a library",
            ),
            ("pg.archiving.failing", "the last try failed, and WAL waits"),
            (
                "pg.archiving.late",
                "finished segments wait, and none fails: the archiver hangs or is too slow",
            ),
            ("pg.archiving.rpo_missed", "WAL waits for longer than the recovery point objective"),
            ("pg.archiving.timeout", "archive_timeout does not keep the recovery point objective"),
        ],
        versions: "PostgreSQL 14 and later",
        cost: "one read of pg_stat_archiver; where something waits, a listing of pg_wal/archive_status",
        remedy: "The server's log has the command's own words. Try the command by hand as the server's user: mostly \
                 the target is full, away, or refuses the credentials. Archiving goes on by itself; never remove \
                 .ready files or segments to make it go on.",
    },
    thresholds: &[
        ThresholdSpec {
            name: "waiting",
            meaning: "age of the oldest finished segment that is not archived",
            unit: Unit::Seconds,
            direction: Direction::Above,
            warning: Some(300.0),
            critical: Some(900.0),
            source: "this project's specification: 5 and 15 minutes",
        },
        ThresholdSpec {
            name: "segments",
            meaning: "finished segments that must wait for an archiver that does not fail to be late (warning only)",
            unit: Unit::Count,
            direction: Direction::Above,
            warning: Some(2.0),
            critical: None,
            source: "this project's specification: one is always under way",
        },
    ],
    requires: &[],
};

#[derive(Debug)]
pub(super) struct Archiving;

#[async_trait]
impl PgProbe for Archiving {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Cluster
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, limits: &Limits) -> Result<ProbeReport> {
        let capabilities = pg.capabilities(cx).await?;
        let archiver = Archiver::look(cx, pg).await?;
        let rpo = pg.config().archive.rpo.map(|rpo| rpo.0);
        if capabilities.in_recovery && archiver.mode != "always" {
            return Ok(ProbeReport::not_applicable("this standby leaves archiving to its primary"));
        }
        if let Some(managed) = capabilities.managed().filter(|_| !archiver.shows_archiving()) {
            return Ok(unproven(managed));
        }
        if archiver.mode == "off" {
            return Ok(match rpo {
                None => ProbeReport::not_applicable("archive_mode is off"),
                Some(_) => off(pg.address()),
            });
        }
        if archiver.unconfigured {
            return Ok(not_configured(pg.address()));
        }
        let backlog = match archiver.may_wait() {
            false => None,
            true => match waiting(cx, pg).await? {
                Some(backlog) => Some(backlog),
                None => return Ok(archiver.hidden(&capabilities)),
            },
        };
        let state = State { archiver: &archiver, backlog, rpo, address: pg.address() };
        Ok(judge(&state, limits))
    }
}

/// A managed service keeps what a restore needs in its own way, mostly without the archiver.
fn unproven(managed: &Managed) -> ProbeReport {
    ProbeReport::unknown(
        format!(
            "{} archives in its own way: SQL does not show from when to when it can restore",
            managed.title
        ),
        Some(format!("look at {}, and try a restore", managed.restores)),
    )
}

fn off(address: &str) -> ProbeReport {
    let message = "archive_mode is off, and a recovery point objective is configured: only what the last backup has \
                   can be restored";
    let remedy = Remedy::advice("set archive_mode and archive_command (or archive_library), and restart");
    let finding = Finding::critical("pg.archiving.off", message).object(address).remedy(remedy);
    ProbeReport::new("archiving is off").finding(finding)
}

fn not_configured(address: &str) -> ProbeReport {
    let message = "archive_mode is on, and there is neither an archive_command nor an archive_library: all WAL is kept \
                   and nothing is archived";
    let remedy = Remedy::advice("set archive_command or archive_library and reload, before the disk is full");
    let finding = Finding::critical("pg.archiving.not_configured", message).object(address).remedy(remedy);
    ProbeReport::new("nothing archives the WAL").finding(finding)
}
