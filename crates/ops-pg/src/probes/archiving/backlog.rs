//! What the archiver has done, and what waits for it.

use chrono::{DateTime, Utc};
use ops_core::{Context, Error, ErrorKind, ProbeReport, Result};

use crate::capabilities::Capabilities;
use crate::row::Row;
use crate::target::PgTarget;

/// Serves PostgreSQL 14 and later; archive_library came with 15. The command itself is not read: it may hold a
/// secret.
pub(super) const SQL: &str = "
SELECT current_setting('archive_mode')                                                  AS mode,
       current_setting('archive_command') IN ('', '(disabled)')
         AND coalesce(current_setting('archive_library', true), '') = ''                AS unconfigured,
       (SELECT setting::float8 FROM pg_settings WHERE name = 'archive_timeout')         AS timeout,
       (SELECT setting::int8 FROM pg_settings WHERE name = 'wal_segment_size')          AS segment_size,
       (CASE WHEN pg_is_in_recovery() THEN coalesce(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())
             ELSE pg_current_wal_lsn() END - '0/0'::pg_lsn)::int8                       AS position,
       a.last_archived_wal, a.last_archived_time, a.failed_count, a.last_failed_wal, a.last_failed_time,
       coalesce(a.last_failed_time > a.last_archived_time, a.last_failed_time IS NOT NULL) AS failing
  FROM pg_stat_archiver a";

/// Serves PostgreSQL 14 and later.
pub(super) const READY: &str = "
SELECT count(*) AS files, extract(epoch FROM clock_timestamp() - min(modification))::float8 AS oldest
  FROM pg_ls_archive_statusdir()
 WHERE name LIKE '%.ready'";

pub(super) struct Archiver {
    pub(super) mode: String,
    /// Neither a command nor a library.
    pub(super) unconfigured: bool,
    /// Seconds; 0 is never.
    pub(super) timeout: f64,
    pub(super) segment_size: i64,
    pub(super) position: Option<i64>,
    pub(super) last_archived_wal: Option<String>,
    pub(super) last_archived_time: Option<DateTime<Utc>>,
    pub(super) failed_count: i64,
    pub(super) last_failed_wal: Option<String>,
    pub(super) last_failed_time: Option<DateTime<Utc>>,
    pub(super) failing: bool,
}

/// What waits to be archived.
pub(super) struct Backlog {
    pub(super) files: i64,
    /// The age of the oldest, in seconds.
    pub(super) oldest: Option<f64>,
}

impl Archiver {
    pub(super) async fn look(cx: &Context, pg: &PgTarget) -> Result<Self> {
        let rows = pg.read(cx, SQL).await?;
        let row = rows.first().ok_or_else(|| Error::new(ErrorKind::Bug, "read the archiver"))?;
        Self::read(row)
    }

    fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            mode: row.get("mode")?,
            unconfigured: row.get("unconfigured")?,
            timeout: row.get("timeout")?,
            segment_size: row.get("segment_size")?,
            position: row.get("position")?,
            last_archived_wal: row.get("last_archived_wal")?,
            last_archived_time: row.get("last_archived_time")?,
            failed_count: row.get("failed_count")?,
            last_failed_wal: row.get("last_failed_wal")?,
            last_failed_time: row.get("last_failed_time")?,
            failing: row.get("failing")?,
        })
    }

    /// Finished segments after the one archived last; `None` where that was none (a history file, a backup's label)
    /// or nothing was archived since the statistics were reset.
    pub(super) fn segments_behind(&self) -> Option<i64> {
        let archived = segment_number(self.last_archived_wal.as_deref()?, self.segment_size)?;
        // The one at the current position is still being written.
        Some((self.position? / self.segment_size.max(1) - archived - 1).max(0))
    }

    /// Whether the archiver shows that anything is, or should be, archived by it.
    pub(super) fn shows_archiving(&self) -> bool {
        self.mode != "off" && (self.failing || self.last_archived_wal.is_some())
    }

    /// Whether something may wait, so that looking for it is worth a listing.
    pub(super) fn may_wait(&self) -> bool {
        self.failing || self.segments_behind() != Some(0)
    }

    /// What can be said when the files that wait may not be counted.
    pub(super) fn hidden(&self, capabilities: &Capabilities) -> ProbeReport {
        let why = match (self.failing, self.segments_behind()) {
            (true, _) => "the last try to archive failed".to_owned(),
            (false, Some(1)) => "1 segment is not archived yet".to_owned(),
            (false, Some(n)) => format!("{n} segments are not archived yet"),
            (false, None) => "what was archived last is not known".to_owned(),
        };
        let fix = match capabilities.managed().filter(|_| capabilities.holds("pg_monitor")) {
            Some(managed) => format!("look at {}", managed.restores),
            None => format!("GRANT pg_monitor TO {};", capabilities.quoted_role()),
        };
        ProbeReport::unknown(
            format!("{why}, and role {} may not see since when WAL waits", capabilities.role),
            Some(fix),
        )
    }
}

/// What waits; `None` where we may not look.
pub(super) async fn waiting(cx: &Context, pg: &PgTarget) -> Result<Option<Backlog>> {
    match pg.read(cx, READY).await {
        Ok(rows) => {
            let row = rows.first().ok_or_else(|| Error::new(ErrorKind::Bug, "count what waits"))?;
            Ok(Some(Backlog { files: row.get("files")?, oldest: row.get("oldest")? }))
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(None),
        Err(error) => Err(error),
    }
}

/// The number of a segment, counted from the beginning of all WAL: its name is timeline, and two halves of that.
fn segment_number(name: &str, segment_size: i64) -> Option<i64> {
    let name = name.strip_suffix(".partial").unwrap_or(name);
    if name.len() != 24 || !name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let half = |range: std::ops::Range<usize>| i64::from_str_radix(name.get(range)?, 16).ok();
    Some(half(8..16)? * (0x1_0000_0000 / segment_size.max(1)) + half(16..24)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_counted_across_timelines() {
        const SIZE: i64 = 16 << 20;
        for (name, expected) in [
            ("000000010000000000000003", Some(3)),
            ("000000020000000100000000", Some(256)),
            ("0000000200000001000000FF.partial", Some(511)),
            ("00000002.history", None),
            ("000000010000000000000003.00000028.backup", None),
            ("ä00000010000000000000003", None),
            ("", None),
        ] {
            assert_eq!(segment_number(name, SIZE), expected, "{name}");
        }
        assert_eq!(segment_number("000000010000000100000001", 1 << 30), Some(5));
    }
}
