//! `pg.index_unused`: indexes that no query has used.

mod elsewhere;
mod sighted;

use async_trait::async_trait;
use ops_core::{
    Context, Direction, Error, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy,
    Result, Severity, ThresholdSpec, Unit,
};
use serde_json::json;

use self::elsewhere::Elsewhere;
use super::words::{ago, counted};
use crate::probe::{PgProbe, Scope};
use crate::row::Row;
use crate::target::PgTarget;

/// How long scans have been counted, and who else may use the indexes. A database that was never reset counts since
/// the server last lost its statistics (which `pg_stat_archiver` tells: after a crash it starts anew), or since the
/// server started where not even that is known.
const WINDOW: &str = "
SELECT extract(epoch FROM now() - coalesce((SELECT stats_reset FROM pg_stat_database WHERE datname = current_database()),
                                           (SELECT stats_reset FROM pg_stat_archiver),
                                           pg_postmaster_start_time()))::float8 AS counted_for,
       (SELECT count(*) FROM pg_stat_replication WHERE state IS DISTINCT FROM 'backup')
         + (SELECT count(*) FROM pg_replication_slots WHERE slot_type = 'physical' AND NOT active) AS standbys";

/// Serves PostgreSQL 14 and later; `{last_scan}` is when it was last used, from 16 on. Left out is what more than
/// speed depends on: unique, exclusion, replica identity and constraints' indexes, and those of partitioned tables,
/// which live and die with their parent's. Commit timestamps, where they are kept, tell how young an index is.
const SQL: &str = "
SELECT i.indexrelid::int8 AS index, quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name,
       quote_ident(n.nspname) || '.' || quote_ident(t.relname) AS table_name,
       (c.relpages * current_setting('block_size')::int8)::int8 AS bytes,
       pg_stat_get_numscans(i.indexrelid)::float8 AS scans,
       extract(epoch FROM now() - {last_scan})::float8 AS last_scan_ago,
       extract(epoch FROM now() - CASE WHEN current_setting('track_commit_timestamp')::bool
                                       THEN pg_xact_commit_timestamp(i.xmin) END)::float8 AS age,
       f.constraint_name AS serves
  FROM pg_index i
  JOIN pg_class c ON c.oid = i.indexrelid AND c.relkind = 'i'
  JOIN pg_class t ON t.oid = i.indrelid AND t.relkind IN ('r', 'm')
  JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN (SELECT conrelid, conkey[1] AS attnum, min(quote_ident(conname)) AS constraint_name
               FROM pg_constraint WHERE contype = 'f' GROUP BY 1, 2) f
         ON f.conrelid = i.indrelid AND f.attnum = i.indkey[0]
 WHERE i.indisvalid AND NOT (i.indisunique OR i.indisprimary OR i.indisexclusion OR i.indisreplident)
   AND NOT c.relispartition AND c.relpersistence <> 't'
   AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
   AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid)
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                      AND d.objid = t.oid AND d.objsubid = 0 AND d.deptype = 'e')
 ORDER BY c.relpages DESC, 1";

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.index_unused",
    group: "indexes",
    explanation: Explanation {
        why: "Every write to the table also writes its indexes, every VACUUM reads them, and they take memory from \
              what is useful. One that no query uses gives nothing back.",
        measures: "Scans of each index since the counters were reset: UNUSED (none), LOW_USAGE (under 100), ACTIVE. \
                   Unique, exclusion, replica identity and constraints' indexes are left out, and those of \
                   partitioned tables. Shown without alarm until the counters are 30 days old: a monthly report \
                   counts too. A standby counts its own scans: those that are configured beside this server are asked, \
                   and what one of them uses is used. While there are others, attached or with a slot, this server's \
                   figures are half the truth and do not alarm; one that is configured and cannot be asked makes the \
                   answer unknown where it would alarm. When an index was made is not in the catalogue, except where \
                   track_commit_timestamp is on, and the counters are often older, as after a restore: what counts is \
                   the time since ops first saw it unused, which `ops check` with an ops.toml remembers. Without \
                   that, its age is unknown, and it does not alarm.",
        queries: &[
            ("how long scans have been counted", WINDOW),
            ("indexes and their scans", SQL),
            ("scans on a standby, where an index may be unused", elsewhere::SQL),
        ],
        codes: &[(
            "pg.index.unused",
            "an index was not used (info until the counters are old enough, or with standbys)",
        )],
        versions: "PostgreSQL 14 and later; the time of the last scan from 16",
        cost: "one pass over pg_index and the counters of indexes, in memory, and one on each standby",
        remedy: "Look at every other standby first, then drop it concurrently, and keep its definition at hand.",
    },
    thresholds: &[
        ThresholdSpec {
            name: "unused_for",
            meaning: "seconds that an index was there and counted, and not used",
            unit: Unit::Seconds,
            direction: Direction::Above,
            warning: Some(2_592_000.0),
            critical: None,
            source: "the specification's window of 30 days: a month's report has run by then",
        },
        ThresholdSpec {
            name: "size",
            meaning: "bytes below which an unused index is not worth a finding",
            unit: Unit::Bytes,
            direction: Direction::Below,
            warning: Some(1_048_576.0),
            critical: None,
            source: "this project's choice",
        },
        ThresholdSpec {
            name: "low_usage",
            meaning: "scans below which an index is counted as LOW_USAGE",
            unit: Unit::Count,
            direction: Direction::Below,
            warning: Some(100.0),
            critical: None,
            source: "the runbooks' own figures",
        },
    ],
    requires: &[],
};

/// Findings at most, the largest indexes first.
const REPORTED: usize = 20;

#[derive(Debug)]
pub(super) struct IndexUnused;

#[async_trait]
impl PgProbe for IndexUnused {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Database
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, limits: &Limits) -> Result<ProbeReport> {
        let capabilities = pg.capabilities(cx).await?;
        let sql = SQL.replace("{last_scan}", last_scan(capabilities.major()));
        let mut rows = pg.read(cx, &format!("{WINDOW};{sql}")).await?.into_iter();
        let Some(first) = rows.next() else { return Ok(ProbeReport::unknown("no answer", None)) };
        let mut seen = Seen {
            seconds: first.get("counted_for")?,
            standbys: first.get("standbys")?,
            standby: capabilities.in_recovery,
            ..Seen::default()
        };
        let mut indexes = rows.map(|row| Index::read(&row)).collect::<Result<Vec<_>>>()?;
        if !seen.standby && indexes.iter().any(|index| index.is_unused(limits)) {
            seen.add(Elsewhere::look(cx, pg).await, &mut indexes);
            sighted::since(cx, pg, indexes.iter_mut().filter(|index| index.is_unused(limits))).await?;
        }
        Ok(report(&indexes, &seen, limits))
    }
}

/// When an index was last used, by version.
fn last_scan(major: u32) -> &'static str {
    match major {
        16.. => "pg_stat_get_lastscan(i.indexrelid)",
        _ => "NULL::timestamptz",
    }
}

/// What the counters can know.
#[derive(Debug, Default)]
struct Seen {
    /// Since when they count.
    seconds: f64,
    /// Standbys and subscribers that were not asked.
    standbys: i64,
    /// This server is one itself.
    standby: bool,
    /// Standbys whose scans are counted in.
    asked: Vec<String>,
    /// Configured servers that may be standbys, and why they could not be asked.
    silent: Vec<(String, Error)>,
}

impl Seen {
    /// Counts in what the standbys count.
    fn add(&mut self, elsewhere: Elsewhere, indexes: &mut [Index]) {
        for index in indexes {
            index.scans += elsewhere.scans.get(&index.oid).copied().unwrap_or(0.0);
        }
        self.seconds = elsewhere.counted_for.map_or(self.seconds, |least| least.min(self.seconds));
        self.standbys = (self.standbys - i64::try_from(elsewhere.asked.len()).unwrap_or(0)).max(0);
        self.asked = elsewhere.asked;
        self.silent = elsewhere.silent;
    }

    fn elsewhere(&self) -> Option<String> {
        if let Some((name, _)) = self.silent.first() {
            return Some(format!("{name} may use it, and could not be asked"));
        }
        match (self.standby, usize::try_from(self.standbys).unwrap_or(0)) {
            (true, _) => Some("the primary may use it: its scans are counted there".to_owned()),
            (false, 0) => None,
            (false, n) => Some(format!(
                "{} may use it: scans are counted there",
                counted(n, "standby or subscriber", "standbys or subscribers")
            )),
        }
    }
}

fn report(indexes: &[Index], seen: &Seen, limits: &Limits) -> ProbeReport {
    let usage = |label: &str| indexes.iter().filter(|index| index.usage(limits) == label).count();
    let since = Unit::Seconds.format(seen.seconds);
    let summary = format!(
        "{} of {} not used in {since}",
        usage(UNUSED),
        counted(indexes.len(), "index that could go was", "indexes that could go were")
    );
    let report = [UNUSED, LOW_USAGE, ACTIVE].iter().fold(ProbeReport::new(summary), |report, label| {
        report.measure(Measurement::new("indexes", usage(label) as f64, Unit::Count).label("usage", *label))
    });
    let unused: Vec<_> = indexes.iter().filter(|index| index.is_unused(limits)).collect();
    let alarming = unused.iter().any(|index| index.would_alarm(seen, limits));
    let silent = seen.silent.iter().filter(|_| alarming).map(|(name, error)| {
        (format!("whether {name} uses them: {}", error.report()), error.fix().map(str::to_owned))
    });
    let report = report.findings(unused.iter().take(REPORTED).map(|index| index.finding(seen, limits)));
    silent.fold(report, |report, (what, fix)| report.unseen(what, fix))
}

const UNUSED: &str = "UNUSED";
const LOW_USAGE: &str = "LOW_USAGE";
const ACTIVE: &str = "ACTIVE";

#[derive(Debug)]
struct Index {
    oid: i64,
    name: String,
    table: String,
    bytes: i64,
    scans: f64,
    last_scan_ago: Option<f64>,
    /// Seconds since it was made, where commit timestamps tell.
    age: Option<f64>,
    /// Seconds since it was first seen unused; nothing of one that is seen for the first time.
    known_for: f64,
    /// A foreign key whose first column it starts with.
    serves: Option<String>,
}

impl Index {
    fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            oid: row.get("index")?,
            name: row.get("name")?,
            table: row.get("table_name")?,
            bytes: row.get("bytes")?,
            scans: row.get("scans")?,
            last_scan_ago: row.get("last_scan_ago")?,
            age: row.get("age")?,
            known_for: 0.0,
            serves: row.get("serves")?,
        })
    }

    /// Whether nobody uses it, and it is large enough to matter.
    fn is_unused(&self, limits: &Limits) -> bool {
        self.scans == 0.0 && self.bytes as f64 >= limits.get("size").warning.unwrap_or(0.0)
    }

    /// How long it was there and counted, in seconds.
    fn unused_for(&self, seen: &Seen) -> f64 {
        seen.seconds.min(self.at_least())
    }

    /// How old it is at least, in seconds.
    fn at_least(&self) -> f64 {
        self.age.unwrap_or(0.0).max(self.known_for)
    }

    /// Why the counters alone would say too much: they are older than what is known of the index.
    fn may_be_new(&self, seen: &Seen) -> Option<String> {
        (self.at_least() < seen.seconds).then(|| match (self.age, self.known_for) {
            (Some(age), _) => format!("it was made {}", ago(Some(age))),
            (None, 0.0) => "how old it is, nobody knows: it is seen for the first time".to_owned(),
            (None, known) => format!("how old it is, nobody knows: it was first seen {}", ago(Some(known))),
        })
    }

    /// Whether it is worth an alarm, were there nobody else to use it.
    fn would_alarm(&self, seen: &Seen, limits: &Limits) -> bool {
        self.serves.is_none() && Severity::of(limits.get("unused_for").judge(self.unused_for(seen))).is_some()
    }

    fn usage(&self, limits: &Limits) -> &'static str {
        match self.scans {
            0.0 => UNUSED,
            scans if scans < limits.get("low_usage").warning.unwrap_or(0.0) => LOW_USAGE,
            _ => ACTIVE,
        }
    }

    fn finding(&self, seen: &Seen, limits: &Limits) -> Finding {
        let Self { name, table, .. } = self;
        let judged = Severity::of(limits.get("unused_for").judge(self.unused_for(seen)));
        let but = match &self.serves {
            Some(constraint) => Some(format!("deletes of what foreign key {constraint} references need it")),
            None => seen.elsewhere(),
        };
        let severity = judged.filter(|_| but.is_none()).unwrap_or(Severity::Info);
        let but = but.or_else(|| self.may_be_new(seen));
        let mut message = format!(
            "{name} ({}) on {table} was not used in the {} that scans were counted{}",
            Unit::Bytes.format(self.bytes as f64),
            Unit::Seconds.format(seen.seconds),
            match seen.asked.as_slice() {
                [] => String::new(),
                asked => format!(", also on {}", asked.join(", ")),
            },
        );
        if let Some(but) = &but {
            message.push_str(&format!("; {but}"));
        }
        let finding = Finding::new(severity, "pg.index.unused", message).object(name).evidence(json!({
            "index": name, "table": table, "bytes": self.bytes, "scans": self.scans, "usage": self.usage(limits),
            "counted_seconds": seen.seconds, "known_seconds": self.at_least(),
            "seconds_since_last_scan": self.last_scan_ago, "foreign_key": self.serves, "counted_also_on": seen.asked,
        }));
        match severity {
            Severity::Info => finding,
            _ => finding.remedy(
                Remedy::statement(format!("DROP INDEX CONCURRENTLY {name};")).because("keep its definition"),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn severity(seen: (f64, i64, bool), known: (Option<f64>, f64), serves: Option<&str>) -> Severity {
        let index = Index {
            oid: 1,
            name: "public.i".into(),
            table: "public.t".into(),
            bytes: 1 << 30,
            scans: 0.0,
            last_scan_ago: None,
            age: known.0,
            known_for: known.1,
            serves: serves.map(str::to_owned),
        };
        let seen = Seen { seconds: seen.0, standbys: seen.1, standby: seen.2, ..Seen::default() };
        index.finding(&seen, &Limits::defaults(&SPEC)).severity
    }

    #[test]
    fn it_alarms_only_where_the_counters_could_have_known() {
        const DAY: f64 = 86_400.0;
        let long = (None, 40.0 * DAY);
        for (seen, known, serves, expected) in [
            ((29.0 * DAY, 0, false), long, None, Severity::Info),
            ((31.0 * DAY, 0, false), long, None, Severity::Warning),
            ((31.0 * DAY, 1, false), long, None, Severity::Info),
            ((31.0 * DAY, 0, true), long, None, Severity::Info),
            ((31.0 * DAY, 0, false), (None, 0.0), None, Severity::Info),
            ((31.0 * DAY, 0, false), (None, 29.0 * DAY), None, Severity::Info),
            ((31.0 * DAY, 0, false), (Some(DAY), 0.0), None, Severity::Info),
            ((31.0 * DAY, 0, false), (Some(40.0 * DAY), 0.0), None, Severity::Warning),
            ((31.0 * DAY, 0, false), long, Some("t_fk"), Severity::Info),
        ] {
            assert_eq!(severity(seen, known, serves), expected, "{seen:?} {known:?} {serves:?}");
        }
    }
}
