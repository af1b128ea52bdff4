//! Reports to look at: one with everything in it, one all well, one that saw nothing.

use chrono::{TimeZone, Utc};
use serde_json::json;

use crate::finding::Finding;
use crate::health::{Cost, HealthReport};
use crate::measurement::Measurement;
use crate::remedy::Remedy;
use crate::report::ProbeReport;
use crate::result::ProbeResult;
use crate::threshold::Threshold;
use crate::unit::Unit;

fn result(group: &str, probe: &str, place: &str, report: ProbeReport) -> ProbeResult {
    let (target, database) = match place.split_once('/') {
        Some((target, database)) => (target, Some(database.to_owned())),
        None => (place, None),
    };
    let mut result =
        ProbeResult { database, group: group.to_owned(), took_ms: 3.1, ..ProbeResult::empty(probe, target) };
    result.fill(Ok(report));
    result
}

fn report(service: &str, probes: Vec<ProbeResult>) -> HealthReport {
    let at = Utc.with_ymd_and_hms(2026, 1, 1, 8, 0, 0).unwrap();
    let cost = Cost { round_trips: 41, server_ms: 210.0, wall_ms: 314.2 };
    HealthReport::new(service.to_owned(), at, probes, cost)
}

/// Everything that a report can hold.
pub(super) fn rich() -> HealthReport {
    let mut probes = vec![
        result("availability", "pg.reachable", "main", latency(2.4)),
        result("connections", "pg.connections", "main", connections(23.0)),
        result("locks", "pg.blocking", "main/app", blocking()),
        result("sequences", "pg.sequences", "main/app", sequences()),
        result("indexes", "pg.index_duplicate", "main/app", duplicates()),
        result("indexes", "pg.index_unused", "main/app", unused()),
        result("security", "pg.rls", "main/app", rls()),
        result("replication", "pg.subscriptions", "main/app", ProbeReport::not_applicable("no subscription")),
        result(
            "replication",
            "pg.subscriptions",
            "main/shop",
            ProbeReport::not_applicable("no subscription"),
        ),
        result("replication", "pg.sync_replication", "main", ProbeReport::not_applicable("none is named")),
        result("availability", "redis.reachable", "cache", latency(0.3)),
        result("memory", "redis.memory", "cache", memory()),
        result("host", "host.disk", "db1", disk()),
        result("http", "http.endpoint", "api", endpoint()),
    ];
    for probe in ["pg.index_bloat", "pg.table_bloat"] {
        for place in ["main/app", "main/shop"] {
            let fix = "GRANT SELECT ON ops.column_statistics TO monitor;".to_owned();
            let hidden = ProbeReport::unknown("column statistics are hidden from role monitor", Some(fix));
            probes.push(result("tables", probe, place, hidden));
        }
    }
    for probe in ["pg.replication_lag", "pg.archiving", "pg.wal_size"] {
        let refused = "failed to connect to replica:5432: connection refused (os error 111)";
        probes.push(result("wal", probe, "replica", ProbeReport::unknown(refused, None)));
    }
    report("engagement-events", probes)
}

fn latency(ms: f64) -> ProbeReport {
    let latency = Measurement::new("latency", ms, Unit::Milliseconds);
    ProbeReport::new(format!("answers in {ms} ms"))
        .measure(latency.judged_by(Threshold::above(250.0, 1000.0)))
}

fn connections(used: f64) -> ProbeReport {
    ProbeReport::new("23 of 97 connections used")
        .measure(Measurement::new("used", used, Unit::Percent).judged_by(Threshold::above(80.0, 90.0)))
        .measure(Measurement::new("by_state", 20.0, Unit::Count).label("state", "idle"))
        .measure(Measurement::new("by_state", 3.0, Unit::Count).label("state", "active"))
}

fn blocking() -> ProbeReport {
    let args = json!({"pid": 4711}).as_object().unwrap().clone();
    let message = "pid 4711 (idle in transaction for 4 min, psql) blocks ALTER TABLE public.orders of pid 4720, \
                   which 12 sessions queue behind";
    let root = Finding::critical("pg.blocking.root", message)
        .object("pid 4711")
        .evidence(waits(
            4720,
            4711,
            240,
            "ALTER TABLE public.orders ADD COLUMN note text NOT NULL DEFAULT ''",
        ))
        .evidence(waits(4722, 4720, 233, "SELECT *\n  FROM orders"))
        .evidence(waits(4723, 4720, 231, "SELECT 1 FROM orders"))
        .evidence(waits(4724, 4720, 230, "SELECT 2 FROM orders"))
        .remedy(
            Remedy::statement("SELECT pg_terminate_backend(4711);")
                .task("pg.end-sessions", args)
                .because("Ask whoever runs psql as jana first: the open transaction is rolled back."),
        );
    ProbeReport::new("13 sessions wait").finding(root)
}

fn waits(pid: u32, on: u32, seconds: u32, query: &str) -> serde_json::Value {
    json!({"pid": pid, "query": query, "waited_s": seconds, "waits_for": [on]})
}

fn sequences() -> ProbeReport {
    let statement = "ALTER TABLE public.orders ALTER COLUMN id TYPE bigint, ALTER COLUMN parent_id TYPE bigint, \
                     ALTER COLUMN replaced_by_order_id TYPE bigint;";
    ProbeReport::new("1 of 14 sequences is nearly exhausted")
        .measure(
            Measurement::new("used", 98.7, Unit::Percent)
                .judged_by(Threshold::above(75.0, 90.0))
                .label("sequence", "public.orders_id_seq"),
        )
        .finding(
            Finding::critical("pg.sequences.exhaustion", "has used 98.7 % of integer, full in about 9 days")
                .object("public.orders_id_seq")
                .remedy(Remedy::statement(statement)),
        )
}

fn duplicates() -> ProbeReport {
    let finding = |name: &str| {
        Finding::warning("pg.index.duplicate", format!("{name} repeats public.t_a")).object(name).remedy(
            Remedy::statement(format!("DROP INDEX CONCURRENTLY {name};"))
                .because("Dropping it frees its space and spares every write its upkeep."),
        )
    };
    ProbeReport::new("302 duplicate indexes").findings((2..304).map(|n| finding(&format!("public.t_a{n}"))))
}

fn unused() -> ProbeReport {
    let finding = |n: u32| {
        Finding::info("pg.index.unused", format!("public.t_{n}_idx has not been read for 12 days"))
            .object(format!("public.t_{n}_idx"))
    };
    ProbeReport::new("3 indexes without reads").findings((0..3).map(finding))
}

/// Names that somebody chose to annoy: a pipe, backticks, a line break, an escape sequence.
fn rls() -> ProbeReport {
    let odd = "public.\"a|b`c\n  CRITICAL  \u{1b}[2J\u{1b}[1;31m*x*_<img>\"";
    ProbeReport::new("1 of 9 tables is open")
        .finding(
            Finding::warning("pg.rls.disabled", format!("row security is off on\n\t{odd} | all fine"))
                .object(odd)
                .remedy(Remedy::statement(format!("ALTER TABLE {odd}\n  ENABLE ROW LEVEL SECURITY;"))),
        )
        .unseen("2 tables of schema private are closed to role monitor", Some("ops grants".to_owned()))
}

fn memory() -> ProbeReport {
    ProbeReport::new("1.7 GiB of 2.0 GiB under noeviction")
        .measure(Measurement::new("used", 84.2, Unit::Percent).judged_by(Threshold::above(80.0, 90.0)))
        .measure(Measurement::new("used_bytes", 1_808_135_680.0, Unit::Bytes))
}

fn disk() -> ProbeReport {
    let free = |mount: &str, percent: f64| {
        Measurement::new("free", percent, Unit::Percent)
            .judged_by(Threshold::below(20.0, 10.0))
            .label("mount", mount)
    };
    ProbeReport::new("2 of 3 file systems run full")
        .measure(free("/", 54.0))
        .measure(free("/var/lib/postgresql", 12.5))
        .measure(free("/srv/it's=a|mount", 4.0))
}

fn endpoint() -> ProbeReport {
    ProbeReport::new("200 in 31 ms")
        .measure(Measurement::new("latency", 31.0, Unit::Milliseconds))
        .measure(
            Measurement::new("certificate", 61.0 * 86_400.0, Unit::Seconds)
                .judged_by(Threshold::below(30.0 * 86_400.0, 7.0 * 86_400.0)),
        )
        .finding(Finding::info("http.redirected", "api.example.org redirects once before it answers"))
}

/// Nothing to do.
pub(super) fn all_ok() -> HealthReport {
    let probes = vec![
        result("availability", "pg.reachable", "main", latency(2.4)),
        result("connections", "pg.connections", "main", connections(23.0)),
        result("locks", "pg.blocking", "main", ProbeReport::new("nobody waits")),
        result("replication", "pg.subscriptions", "main", ProbeReport::not_applicable("no subscription")),
        result("availability", "redis.reachable", "cache", latency(0.3)),
    ];
    report("shop", probes)
}

/// A wrong password: nothing could be told.
pub(super) fn nothing_seen() -> HealthReport {
    let refused = "failed to connect to postgres://monitor:***@main/app: password authentication failed for \
                   user \"monitor\"";
    let probes = ["pg.reachable", "pg.connections", "pg.blocking"].map(|probe| {
        let fix = "check the password of monitor, and the server's pg_hba.conf".to_owned();
        result("availability", probe, "main", ProbeReport::unknown(refused, Some(fix)))
    });
    report("shop", probes.to_vec())
}

/// A server that refuses everybody.
pub(super) fn down() -> HealthReport {
    let refused = "failed to connect to db1:5432: connection refused (os error 111)";
    let down = ProbeReport::new(refused)
        .finding(Finding::critical("pg.reachable.down", refused).remedy(Remedy::advice(
            "Is it running, does it listen on that address, does a firewall refuse?",
        )));
    let mut probes = vec![result("availability", "pg.reachable", "main", down)];
    for n in 0..40 {
        let unknown = ProbeReport::unknown(refused, None);
        probes.push(result("locks", &format!("pg.probe_{n}"), "main", unknown));
    }
    probes.push(result("availability", "redis.reachable", "cache", latency(0.3)));
    report("shop", probes)
}
