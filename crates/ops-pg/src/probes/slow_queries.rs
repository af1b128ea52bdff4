//! `pg.slow_queries`: which statements are slow, or take most of the time, now.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use ops_core::window::{Sample, SampleOutcome, Window, WindowKey, observe};
use ops_core::words::count;
use ops_core::{
    Context, Direction, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Requirement,
    Result, Severity, Status, ThresholdSpec, Unit,
};
use serde_json::json;

use crate::capabilities::{Capabilities, Extension};
use crate::probe::{PgProbe, Scope};
use crate::statement::digest;
use crate::target::PgTarget;

/// The counters alone: reading the texts as well loads the whole file of texts. `{time}` is the column by the
/// *extension's* version (1.8 renamed it), `{reset}` when the counters were reset (1.9 and later).
const COUNTERS: &str = "
SELECT s.userid::int8 AS role, s.queryid, sum(s.calls)::float8 AS calls, sum(s.{time})::float8 AS milliseconds,
       {reset} AS epoch
  FROM {schema}.pg_stat_statements(false) s
 WHERE s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND s.queryid IS NOT NULL AND s.calls > 0
 GROUP BY s.userid, s.queryid";

/// The texts of the few statements that are reported.
const TEXTS: &str = "
SELECT DISTINCT ON (s.queryid) s.queryid, left(s.query, 1000) AS query
  FROM {schema}.pg_stat_statements(true) s WHERE s.queryid IN ({ids})";

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.slow_queries",
    group: "queries",
    explanation: Explanation {
        why: "Slow statements are what users feel, and they hold connections and locks while they run.",
        measures: "Per statement of this database, over the window since the last look (or one second, where there \
                   was none): the mean execution time, and the share of all execution time. Never an average since \
                   the server started: that hides what began an hour ago.",
        queries: &[("counters", COUNTERS), ("texts of what is reported", TEXTS)],
        codes: &[
            ("pg.query.slow", "a statement's mean time is over the bound"),
            ("pg.query.dominant", "a statement takes a large share of all execution time"),
        ],
        versions: "PostgreSQL 14 and later, pg_stat_statements of any version",
        cost: "two reads of pg_stat_statements' counters, once more with texts when there is a finding",
        remedy: "EXPLAIN (ANALYZE, BUFFERS) the statement with typical parameters; look for a missing index, a bad \
                 estimate, or a loop in the application that asks one row at a time.",
    },
    thresholds: &[
        ThresholdSpec {
            name: "mean_time",
            meaning: "mean execution time of one statement in the window",
            unit: Unit::Milliseconds,
            direction: Direction::Above,
            warning: Some(500.0),
            critical: None,
            source: "the runbooks' figure for a slow query",
        },
        ThresholdSpec {
            name: "share",
            meaning: "share of all execution time that one statement took in the window",
            unit: Unit::Percent,
            direction: Direction::Above,
            warning: Some(30.0),
            critical: None,
            source: "this project's choice; judged only where the window kept a tenth of a core busy",
        },
        ThresholdSpec {
            name: "calls",
            meaning: "calls in the window below which nothing is judged",
            unit: Unit::Count,
            direction: Direction::Below,
            warning: Some(5.0),
            critical: None,
            source: "this project's choice: a report that runs once a night is slow and no incident. In a window \
                     of under a minute, what is slow and has fewer calls is told without alarm",
        },
    ],
    requires: &[Requirement::Extension("pg_stat_statements"), Requirement::Role("pg_read_all_stats")],
};

/// Execution seconds per second of window below which a share means nothing.
const BUSY: f64 = 0.1;

/// In a window shorter than this, a statement below the floor of calls is told, and does not alarm: a second
/// shows few calls of anything that is slow.
const SHORT: Duration = Duration::from_secs(60);

/// Statements reported at most.
const REPORTED: usize = 10;

#[derive(Debug)]
pub(super) struct SlowQueries;

#[async_trait]
impl PgProbe for SlowQueries {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Database
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, limits: &Limits) -> Result<ProbeReport> {
        let capabilities = pg.capabilities(cx).await?;
        let Some(extension) = capabilities.extension("pg_stat_statements") else {
            return Ok(ProbeReport::unknown("pg_stat_statements is not installed", None));
        };
        if let Some(blind) = blind(capabilities.statements_tracked.as_deref()) {
            return Ok(blind);
        }
        let key = WindowKey { server: pg.identity(cx).await?, probe: SPEC.name.to_owned() };
        let sql = counters_sql(extension);
        let outcome = observe(cx, &key, || sample(cx, pg, &capabilities, &sql)).await?;
        let window = match outcome {
            SampleOutcome::Window(window) => window,
            SampleOutcome::NewBaseline { reason } => {
                return Ok(ProbeReport::unknown(format!("no window yet: {reason}"), None));
            }
        };
        let statements = statements(&window);
        let slow = worst(&statements, &window, limits);
        let texts = texts(cx, pg, extension, &slow).await?;
        Ok(report(&statements, &slow, &texts, &window, limits))
    }
}

/// An extension that counts nothing would look like a server that does nothing.
pub(super) fn blind(tracked: Option<&str>) -> Option<ProbeReport> {
    match tracked {
        Some("none") => Some(ProbeReport::unknown(
            "pg_stat_statements tracks nothing",
            Some("ALTER SYSTEM SET pg_stat_statements.track = 'top'; SELECT pg_reload_conf();".to_owned()),
        )),
        Some("off") => Some(ProbeReport::unknown(
            "compute_query_id is off: pg_stat_statements sees no statement",
            Some("ALTER SYSTEM SET compute_query_id = 'auto'; SELECT pg_reload_conf();".to_owned()),
        )),
        Some(_) => None,
        None => Some(ProbeReport::unknown(
            "pg_stat_statements is installed, and its library is not loaded",
            // ALTER SYSTEM would replace the list, and what else stands in it.
            Some("SHOW shared_preload_libraries; -- add pg_stat_statements to it, and restart".to_owned()),
        )),
    }
}

fn counters_sql(extension: &Extension) -> String {
    let time = if extension.at_least(1, 8) { "total_exec_time" } else { "total_time" };
    let reset = match extension.at_least(1, 9) {
        true => format!("(SELECT stats_reset::text FROM {}.pg_stat_statements_info)", extension.schema),
        false => "NULL::text".to_owned(),
    };
    COUNTERS.replace("{time}", time).replace("{reset}", &reset).replace("{schema}", &extension.schema)
}

async fn sample(cx: &Context, pg: &PgTarget, capabilities: &Capabilities, sql: &str) -> Result<Sample> {
    let rows = pg.read(cx, sql).await?;
    let (at, mut epoch) = (cx.now(), None);
    let mut counters = BTreeMap::new();
    for row in &rows {
        epoch = row.get::<Option<String>>("epoch")?;
        let key = format!("{}:{}", row.get::<i64>("role")?, row.get::<i64>("queryid")?);
        counters.insert(format!("calls {key}"), row.get("calls")?);
        counters.insert(format!("ms {key}"), row.get("milliseconds")?);
    }
    // Statistics survive a restart but not a crash, and an old extension does not say when they were reset: the
    // server's start is part of what the counters count from.
    let epoch = format!("{} {}", capabilities.started_at, epoch.unwrap_or_default());
    Ok(Sample { at, epoch, counters })
}

/// What one statement of one role did in the window.
#[derive(Clone, Debug)]
struct Statement {
    id: i64,
    calls: f64,
    milliseconds: f64,
}

impl Statement {
    fn mean(&self) -> f64 {
        self.milliseconds / self.calls
    }
}

fn statements(window: &Window) -> Vec<Statement> {
    window
        .deltas()
        .filter_map(|(counter, calls)| {
            let key = counter.strip_prefix("calls ").filter(|_| calls > 0.0)?;
            let id = key.split_once(':')?.1.parse().ok()?;
            Some(Statement { id, calls, milliseconds: window.delta(&format!("ms {key}")) })
        })
        .collect()
}

/// Those over a bound, the one that took most time first.
fn worst(
    statements: &[Statement],
    window: &Window,
    limits: &Limits,
) -> Vec<(Statement, Severity, &'static str)> {
    let total: f64 = statements.iter().map(|statement| statement.milliseconds).sum();
    let busy = total / 1000.0 / window.length.as_secs_f64() >= BUSY;
    let floor = limits.get("calls").warning.unwrap_or(0.0);
    let few = |statement: &Statement| statement.calls < floor;
    let mut worst: Vec<_> = statements
        .iter()
        .filter(|statement| !few(statement) || window.length < SHORT)
        .filter_map(|statement| {
            let mean = limits.get("mean_time").judge(statement.mean());
            let share = match busy {
                true => limits.get("share").judge(100.0 * statement.milliseconds / total),
                false => Status::Ok,
            };
            let code = if Severity::of(mean).is_some() { "pg.query.slow" } else { "pg.query.dominant" };
            let severity = Severity::of(Status::worst([mean, share]))?;
            let severity = if few(statement) { Severity::Info } else { severity };
            Some((statement.clone(), severity, code))
        })
        .collect();
    worst.sort_by(|a, b| b.0.milliseconds.total_cmp(&a.0.milliseconds));
    worst.truncate(REPORTED);
    worst
}

async fn texts(
    cx: &Context,
    pg: &PgTarget,
    extension: &Extension,
    slow: &[(Statement, Severity, &str)],
) -> Result<BTreeMap<i64, String>> {
    if slow.is_empty() {
        return Ok(BTreeMap::new());
    }
    let ids = slow.iter().map(|(statement, ..)| statement.id.to_string()).collect::<Vec<_>>().join(", ");
    let rows = pg.read(cx, &TEXTS.replace("{schema}", &extension.schema).replace("{ids}", &ids)).await?;
    rows.iter().map(|row| Ok((row.get("queryid")?, row.get("query")?))).collect()
}

fn report(
    statements: &[Statement],
    slow: &[(Statement, Severity, &'static str)],
    texts: &BTreeMap<i64, String>,
    window: &Window,
    limits: &Limits,
) -> ProbeReport {
    let calls: f64 = statements.iter().map(|statement| statement.calls).sum();
    let total: f64 = statements.iter().map(|statement| statement.milliseconds).sum();
    let over = Unit::Seconds.format(window.length.as_secs_f64());
    let found = match slow.len() {
        0 => "no slow statement".to_owned(),
        n => count(n as f64, "slow statement", "slow statements"),
    };
    let summary = format!("{found} among {} in {over}", count(calls, "call", "calls"));
    let mean = if calls > 0.0 { total / calls } else { 0.0 };
    let report = ProbeReport::new(summary)
        .measure(Measurement::new("mean_time", mean, Unit::Milliseconds))
        .measure(Measurement::new("calls", calls / window.length.as_secs_f64(), Unit::PerSecond));
    slow.iter().fold(report, |report, (statement, severity, code)| {
        let text = texts
            .get(&statement.id)
            .map_or_else(|| "a statement that is gone".to_owned(), |text| digest(text));
        let share = 100.0 * statement.milliseconds / total;
        let message = format!(
            "mean {} over {} in {over}, {share:.0} % of the time: {text}",
            Unit::Milliseconds.format(statement.mean()),
            count(statement.calls, "call", "calls"),
        );
        report.finding(
            Finding::new(*severity, *code, message).object(format!("query {}", statement.id)).evidence(
                json!({
                    "queryid": statement.id.to_string(), "query": text, "calls": statement.calls,
                    "mean_ms": statement.mean(), "total_ms": statement.milliseconds, "share_percent": share,
                    "window_seconds": window.length.as_secs_f64(),
                    "bounds_ms": limits.get("mean_time").warning,
                }),
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;

    fn window(counters: &[(&str, f64)]) -> Window {
        let at = |second, counters: &[(&str, f64)]| Sample {
            at: DateTime::from_timestamp(second, 0).unwrap(),
            epoch: "e".into(),
            counters: counters.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
        };
        match Window::between(&at(0, &[]), &at(10, counters)) {
            SampleOutcome::Window(window) => window,
            SampleOutcome::NewBaseline { reason } => panic!("{reason}"),
        }
    }

    fn found(counters: &[(&str, f64)]) -> Vec<(i64, &'static str, Severity)> {
        let window = window(counters);
        let statements = statements(&window);
        let worst = worst(&statements, &window, &Limits::defaults(&SPEC));
        worst.into_iter().map(|(statement, severity, code)| (statement.id, code, severity)).collect()
    }

    #[test]
    fn an_extension_that_counts_nothing_is_unknown() {
        assert!(blind(Some("top")).is_none() && blind(Some("all")).is_none());
        for tracked in [Some("none"), Some("off"), None] {
            assert_eq!(blind(tracked).unwrap().status(), Status::Unknown, "{tracked:?}");
        }
    }

    #[test]
    fn slow_and_dominant_statements_are_told_apart() {
        let counters = [
            ("calls 10:1", 10.0),
            ("ms 10:1", 6000.0),
            ("calls 10:2", 9000.0),
            ("ms 10:2", 4000.0),
            ("calls 10:3", 4.0),
            ("ms 10:3", 3600.0),
            ("calls 10:4", 100.0),
            ("ms 10:4", 10.0),
        ];
        assert_eq!(
            found(&counters),
            [(1, "pg.query.slow", Severity::Warning), (3, "pg.query.slow", Severity::Info)]
        );
        let calm = [("calls 10:2", 900.0), ("ms 10:2", 4000.0)];
        assert_eq!(found(&calm), [(2, "pg.query.dominant", Severity::Warning)]);
    }

    #[test]
    fn the_only_statement_of_an_idle_server_is_not_dominant() {
        assert!(found(&[("calls 10:2", 50.0), ("ms 10:2", 40.0)]).is_empty());
    }

    #[test]
    fn columns_follow_the_extension_and_not_the_server() {
        let sql = |version: &str| {
            counters_sql(&Extension { version: version.into(), schema: "ext".into(), usable: true })
        };
        assert!(sql("1.7").contains("total_time") && !sql("1.7").contains("_info"));
        assert!(sql("1.8").contains("total_exec_time") && !sql("1.8").contains("_info"));
        assert!(sql("1.10").contains("ext.pg_stat_statements_info"));
    }
}
