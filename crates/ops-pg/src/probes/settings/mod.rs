//! `pg.settings`: settings that lose data, that are not in force, or that do not fit the machine.

mod advice;
mod judge;

use async_trait::async_trait;
use ops_core::{
    Context, Direction, Explanation, Limits, ProbeReport, ProbeSpec, Requirement, Result, ThresholdSpec, Unit,
};

use self::judge::{FileError, Setting, Settings};
use crate::grants;
use crate::probe::{PgProbe, Scope};
use crate::target::PgTarget;

/// Serves PostgreSQL 14 and later. All settings, since any of them may wait for a restart.
const SETTINGS: &str = "
SELECT s.name, s.setting, s.unit, s.source, s.context, s.pending_restart,
       has_table_privilege('pg_file_settings', 'SELECT')
         AND has_function_privilege('pg_show_all_file_settings()', 'EXECUTE') AS files_readable
  FROM pg_settings s
 WHERE s.pending_restart OR s.name IN (
       'fsync', 'full_page_writes', 'autovacuum', 'track_counts', 'zero_damaged_pages', 'ignore_checksum_failure',
       'checkpoint_timeout', 'checkpoint_completion_target', 'shared_buffers', 'work_mem', 'max_connections')";

/// Serves PostgreSQL 14 and later. A setting that waits for a restart is no error, although it is listed as one.
const FILES: &str = "
SELECT f.sourcefile, f.sourceline, f.name, f.error FROM pg_file_settings f
 WHERE f.error IS NOT NULL
   AND NOT EXISTS (SELECT FROM pg_settings s WHERE s.name = f.name AND s.pending_restart)
 ORDER BY f.seqno LIMIT 20";

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.settings",
    group: "settings",
    explanation: Explanation {
        why: "Some settings are safe only for a server that may be lost (fsync), some were switched on for an hour \
              and forgotten (zero_damaged_pages), and one mistake in a file keeps the server from starting again, \
              which is noticed at the next restart, at night.",
        measures: "The settings in force in the database probed: those that risk data or switch off maintenance; \
                   those changed in a file and waiting for a restart; entries of files that have an error; how \
                   checkpoints are spread; and, where `memory_gib` says how much memory the server's machine has, \
                   whether shared_buffers and work_mem fit. Without that nothing is assumed about it. On a managed \
                   service the files are the provider's, and are not looked at; nor is a setting that risks nothing \
                   there: on Neon, whose storage is durable by itself, fsync and full_page_writes.",
        queries: &[("settings", SETTINGS), ("entries of files that have an error", FILES)],
        codes: &[
            ("pg.settings.unsafe", "a setting risks data, or hides that it is damaged"),
            ("pg.settings.maintenance_off", "autovacuum does not run, or does not know where"),
            ("pg.settings.pending_restart", "a change waits for a restart"),
            ("pg.settings.file_error", "an entry of a configuration file is wrong"),
            ("pg.settings.checkpoints", "checkpoints come more often, or at once more, than they need to"),
            ("pg.settings.memory", "shared_buffers or work_mem does not fit the machine"),
        ],
        versions: "PostgreSQL 14 and later",
        cost: "one read of pg_settings; the server reads its configuration files once",
        remedy: "ALTER SYSTEM SET … and SELECT pg_reload_conf(); what waits for a restart needs one. Each finding \
                 says which.",
    },
    thresholds: &[
        ThresholdSpec {
            name: "checkpoint_timeout",
            meaning: "time between checkpoints that come by the clock",
            unit: Unit::Seconds,
            direction: Direction::Below,
            warning: Some(120.0),
            critical: None,
            source: "well under PostgreSQL's default (5 minutes): after each checkpoint the first change of a page \
                     writes all of it to the WAL",
        },
        ThresholdSpec {
            name: "checkpoint_completion_target",
            meaning: "share of the time between checkpoints over which their writes are spread",
            unit: Unit::Ratio,
            direction: Direction::Below,
            warning: Some(0.5),
            critical: None,
            source: "the default before PostgreSQL 14, often kept in old files; since then it is 0.9",
        },
        ThresholdSpec {
            name: "shared_buffers",
            meaning: "shared_buffers, of the machine's memory",
            unit: Unit::Percent,
            direction: Direction::Above,
            warning: Some(40.0),
            critical: Some(75.0),
            source: "PostgreSQL documentation, 'Resource Consumption': 25 % is a reasonable start, and more than \
                     40 % is unlikely to work better",
        },
        ThresholdSpec {
            name: "shared_buffers_unused",
            meaning: "shared_buffers, of the machine's memory",
            unit: Unit::Percent,
            direction: Direction::Below,
            warning: Some(5.0),
            critical: None,
            source: "a fifth of what PostgreSQL's documentation recommends for a dedicated server",
        },
        ThresholdSpec {
            name: "memory",
            meaning: "shared_buffers and one work_mem for each connection, of the machine's memory",
            unit: Unit::Percent,
            direction: Direction::Above,
            warning: Some(100.0),
            critical: None,
            source: "PostgreSQL documentation, 'Resource Consumption': a statement may use work_mem several times",
        },
    ],
    requires: &[Requirement::Role("pg_read_all_settings")],
};

#[derive(Debug)]
pub(super) struct ServerSettings;

#[async_trait]
impl PgProbe for ServerSettings {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Cluster
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, limits: &Limits) -> Result<ProbeReport> {
        let mut settings = Settings::default();
        let mut files_readable = false;
        for row in &pg.read(cx, SETTINGS).await? {
            files_readable = row.get("files_readable")?;
            settings.insert(Setting {
                name: row.get("name")?,
                value: row.get::<Option<String>>("setting")?.unwrap_or_default(),
                unit: row.get::<Option<String>>("unit")?.unwrap_or_default(),
                source: row.get("source")?,
                pending_restart: row.get("pending_restart")?,
            });
        }
        let capabilities = pg.capabilities(cx).await?;
        let managed = capabilities.managed();
        let report = judge::judge(&settings, pg.config().memory_gib, managed, limits);
        if managed.is_some() {
            return Ok(report);
        }
        if !files_readable {
            let role = capabilities.quoted_role();
            let fix = grants::file_errors(&role);
            return Ok(report.unseen("errors in configuration files are hidden from this role", Some(fix)));
        }
        let mut errors = Vec::new();
        for row in &pg.read(cx, FILES).await? {
            errors.push(FileError {
                file: row.get::<Option<String>>("sourcefile")?.unwrap_or_default(),
                line: row.get::<Option<i32>>("sourceline")?.unwrap_or_default(),
                name: row.get("name")?,
                error: row.get("error")?,
            });
        }
        Ok(report.findings(errors.iter().map(FileError::finding)))
    }
}
