//! One real, planted report in five renderings. What differs from run to run is blanked.

use ops_core::Context;
use ops_runbook::demo::{Demo, plants};
use ops_testkit::Said;
use serde_json::Value;

use crate::local::complete;

/// What differs between runs, machines and server versions, as patterns.
const VARIES: &[(&str, &str)] = &[
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?( UTC|Z)", "[time]"),
    (r"/tmp/ops-(pg|redis)-[0-9a-f]+", "[scratch]"),
    (r"PostgreSQL \d+(\.\d+|beta\d+)?( \([^)]*\))?", "PostgreSQL [version]"),
    (r"(pid |terminate_backend\()\d+", "${1}[pid]"),
    (r"\d+(\.\d+)? (µs|ms|s|KiB|MiB|GiB)\b", "[amount]"),
    (r"((?:state|waited)_seconds|bytes) [\d.]+", "$1 [n]"),
    (r"blocked_by \[\d+\]", "blocked_by [pid]"),
    (r"\btime=[\d.]+s", "time=[n]"),
    (r"\d+ round trips", "[n] round trips"),
    (r"\d+(\.\d+)? % of the machine", "[n] % of the machine"),
    (r"oldest id is \d+ back", "oldest id is [n] back"),
    (r"\d+ of \d+ connections taken \(\d+ idle\)", "[n] connections taken"),
    (r"\d+ of 10,000 connections", "[n] connections"),
    (r"\d+ (calls|look-ups)", "[n] $1"),
];

/// Measurements and fields that are what they are: an amount of time or memory, or a count of what others do.
const AMOUNTS: [&str; 28] = [
    "connect_time",
    "latency",
    "longest_wait",
    "age",
    "used",
    "sessions",
    "idle",
    "mean_time",
    "calls",
    "share",
    "size",
    "used_bytes",
    "used_of_system",
    "ratio",
    "resident",
    "connected",
    "unsaved",
    "took_ms",
    "server_ms",
    "wall_ms",
    "round_trips",
    "pid",
    "state_seconds",
    "waited_seconds",
    "bytes",
    "blocked_by",
    "lookups",
    "summary",
];

/// Enough for every part of a report: all there are would make a snapshot that nobody reads.
const SHOWN: [&str; 19] = [
    "pg.reachable",
    "pg.connections",
    "pg.blocking",
    "pg.wraparound",
    "pg.index_duplicate",
    "pg.slow_queries",
    "pg.sequences",
    "pg.rls",
    "pg.rls_isolation",
    "redis.reachable",
    "redis.memory",
    "redis.no_ttl",
    "redis.hit_rate",
    "redis.evictions",
    "redis.persistence",
    "redis.replication",
    "redis.clients",
    "redis.rejected_connections",
    "redis.fragmentation",
];

/// The plants that these show, but for those that show what differs from run to run.
const PLANTED: [&str; 5] =
    ["duplicate-index", "exhausted-sequence", "missing-rls", "keys-without-ttl", "blocked-alter"];

#[tokio::test]
async fn of_a_real_report() {
    let Some(local) = complete().await else { return };
    let others = plants().iter().map(|plant| plant.name()).filter(|name| !PLANTED.contains(name));
    let options = local.options().without(others.map(str::to_owned));
    let demo = Demo::start(&Context::new(), &options).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ops.toml"), demo.config()).unwrap();
    let check = |output: &str| {
        let mut command = local.ops(&["check", "--output", output]);
        let command = command.args(SHOWN.iter().flat_map(|probe| ["--only", probe])).current_dir(&dir);
        let said = Said::by(command);
        assert_eq!((said.code, &*said.stderr), (Some(2), ""), "{}", said.stdout);
        said.stdout
    };
    let mut settings = insta::Settings::clone_current();
    VARIES.iter().for_each(|(pattern, blank)| settings.add_filter(pattern, *blank));
    settings.bind(|| {
        insta::assert_snapshot!("human", unwrapped(&check("human")));
        insta::assert_snapshot!("markdown", check("markdown"));
        insta::assert_snapshot!("nagios", nagios(&check("nagios")));
        insta::assert_snapshot!("openmetrics", openmetrics(&check("openmetrics")));
        let mut report = serde_json::from_str(&check("json")).unwrap();
        blank(&mut report);
        insta::assert_snapshot!("json", format!("{report:#}"));
    });
    demo.stop().await.unwrap();
}

/// A pid of another length wraps lines elsewhere: joins what hangs below the beginning of an entry, but for
/// commands. Layout has its own snapshots, in ops-core.
fn unwrapped(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let words = line.trim_start();
        let hangs = line.len() - words.len() > 8 && !words.starts_with("next:");
        out.push_str(if hangs { " " } else { "\n" });
        out.push_str(if hangs { words } else { line });
    }
    out
}

fn is_amount(name: &str) -> bool {
    AMOUNTS.contains(&name)
}

/// Performance data on lines of their own, amounts without their values.
fn nagios(text: &str) -> String {
    let (words, data) = text.split_once('|').unwrap();
    let (data, rest) = data.split_once('\n').unwrap_or((data, ""));
    let points = data.split(" '").map(|point| {
        let (label, fields) = point.trim_start_matches([' ', '\'']).split_once("'=").unwrap();
        let name = label.split('{').next().unwrap().rsplit('.').next().unwrap();
        match fields.split_once(';') {
            _ if !is_amount(name) => format!("{label}={fields}\n"),
            Some((_, bounds)) => format!("{label}=[n];{bounds}\n"),
            None => format!("{label}=[n]\n"),
        }
    });
    format!("{words}|\n{}{rest}", points.collect::<String>())
}

/// Amounts without their values.
fn openmetrics(text: &str) -> String {
    let blanked = text.lines().map(|line| {
        let name = line.split("name=\"").nth(1).and_then(|rest| rest.split('"').next());
        let amount = line.starts_with("ops_measurement{") && name.is_some_and(is_amount);
        let timing = ["seconds{", "round_trips{", "timestamp"].iter().any(|part| line.contains(part));
        match line.rsplit_once(' ') {
            Some((series, _)) if !line.starts_with('#') && (amount || timing) => format!("{series} [n]\n"),
            _ => format!("{line}\n"),
        }
    });
    blanked.collect()
}

/// Blanks numbers that are amounts, by the key that they stand under or the measurement that they belong to.
fn blank(value: &mut Value) {
    match value {
        Value::Object(map) => {
            let measures = map.get("name").and_then(Value::as_str).is_some_and(is_amount);
            for (key, value) in map {
                if measures && key == "value" || is_amount(key) && !value.is_object() && !value.is_string() {
                    *value = Value::from("[n]");
                } else {
                    blank(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(blank),
        _ => {}
    }
}
