//! `pg.io`: what the server reads and writes, and whether clients must write for it.

use async_trait::async_trait;
use ops_core::window::Window;
use ops_core::{
    Context, Direction, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy,
    Requirement, Result, Severity, ThresholdSpec, Unit,
};
use serde_json::json;

use super::windowed::{length, rise};
use crate::probe::{PgProbe, Scope};
use crate::target::PgTarget;

/// Serves PostgreSQL 16 and later. Relations only: temporary ones are `pg.temp_files`' cousins, and WAL (an object
/// here from 18) is not data. `{bytes_…}` by version: 18 counts bytes, since one operation may be of many blocks.
const SQL: &str = "
SELECT c.name, c.value, io.epoch
  FROM (SELECT coalesce(sum({bytes_read}), 0)::float8    AS read,
               coalesce(sum({bytes_written}), 0)::float8 AS written,
               coalesce(sum(s.writes) FILTER (WHERE s.context = 'normal'), 0)::float8 AS buffers,
               coalesce(sum(s.writes) FILTER (WHERE s.context = 'normal' AND s.backend_type = 'client backend'), 0)::float8
                 AS buffers_by_clients,
               coalesce(sum(s.fsyncs) FILTER (WHERE s.backend_type = 'client backend'), 0)::float8 AS fsyncs_by_clients,
               max(s.stats_reset)::text AS epoch
          FROM pg_stat_io s WHERE s.object = 'relation') io,
       LATERAL (VALUES ('read', io.read), ('written', io.written), ('buffers', io.buffers),
                       ('buffers_by_clients', io.buffers_by_clients),
                       ('fsyncs_by_clients', io.fsyncs_by_clients)) c (name, value)";

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.io",
    group: "disk I/O",
    explanation: Explanation {
        why: "When the disk is the bottleneck, everything is slow at once. And when clients write dirty buffers \
              themselves, the checkpointer and the background writer do not keep up: each such query waits for a \
              write that is not its own.",
        measures: "Bytes of relations read and written (new blocks included) per second, the share of dirty buffers \
                   that clients wrote themselves, and clients' own fsyncs, from pg_stat_io over the window since \
                   the last look (or one second, where there was none). Reads count what the operating system \
                   caches too. It is shown, and alarms only where bounds are set.",
        queries: &[("reads and writes of the whole server", SQL)],
        codes: &[
            ("pg.io.read", "more is read per second than the configured bound allows"),
            ("pg.io.written", "more is written per second than the configured bound allows"),
            (
                "pg.io.client_writes",
                "clients write more of the dirty buffers than the configured bound allows",
            ),
        ],
        versions: "PostgreSQL 16 and later",
        cost: "one read of pg_stat_io, which has about a hundred rows; two where there is no baseline",
        remedy: "For reads, find the statements behind them (`ops explain pg.slow_queries`). For clients' writes, \
                 raise bgwriter_lru_maxpages and shared_buffers, and spread checkpoints by max_wal_size.",
    },
    thresholds: &[
        ThresholdSpec {
            name: "read",
            meaning: "bytes of relations read, per second",
            unit: Unit::BytesPerSecond,
            direction: Direction::Above,
            warning: None,
            critical: None,
            source: "none: what a disk can do differs by a factor of a hundred",
        },
        ThresholdSpec {
            name: "written",
            meaning: "bytes of relations written, per second",
            unit: Unit::BytesPerSecond,
            direction: Direction::Above,
            warning: None,
            critical: None,
            source: "none: what a disk can do differs by a factor of a hundred",
        },
        ThresholdSpec {
            name: "client_writes",
            meaning: "dirty buffers that clients wrote themselves, of all written outside of bulk operations",
            unit: Unit::Percent,
            direction: Direction::Above,
            warning: None,
            critical: None,
            source: "none: a bulk load without a checkpoint in between makes it high by design",
        },
        ThresholdSpec {
            name: "buffers",
            meaning: "dirty buffers written in the window below which their writers are not judged",
            unit: Unit::Count,
            direction: Direction::Below,
            warning: Some(1000.0),
            critical: None,
            source: "this project's choice: 8 MB of traffic",
        },
    ],
    requires: &[Requirement::ServerVersion(160_000)],
};

#[derive(Debug)]
pub(super) struct Io;

#[async_trait]
impl PgProbe for Io {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Cluster
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, limits: &Limits) -> Result<ProbeReport> {
        let sql = sql(pg.capabilities(cx).await?.major());
        Ok(match rise(cx, pg, SPEC.name, &sql).await? {
            Ok(window) => judge(&window, limits, pg.address()),
            Err(report) => report,
        })
    }
}

fn sql(major: u32) -> String {
    let (read, written) = match major {
        ..18 => ("s.reads * s.op_bytes", "(coalesce(s.writes, 0) + coalesce(s.extends, 0)) * s.op_bytes"),
        18.. => ("s.read_bytes", "coalesce(s.write_bytes, 0) + coalesce(s.extend_bytes, 0)"),
    };
    SQL.replace("{bytes_read}", read).replace("{bytes_written}", written)
}

fn judge(window: &Window, limits: &Limits, server: &str) -> ProbeReport {
    let buffers = window.delta("buffers");
    let share = if buffers > 0.0 { 100.0 * window.delta("buffers_by_clients") / buffers } else { 0.0 };
    let by_clients = Measurement::new("client_writes", share, Unit::Percent);
    let by_clients = match buffers >= limits.get("buffers").warning.unwrap_or(0.0).max(1.0) {
        true => by_clients.judged_by(limits.get("client_writes")),
        false => by_clients,
    };
    let rate = |name: &'static str| {
        Measurement::new(name, window.per_second(name), Unit::BytesPerSecond).judged_by(limits.get(name))
    };
    let (read, written, over) = (rate("read"), rate("written"), length(window));
    let fsyncs =
        Measurement::new("fsyncs_by_clients", window.per_second("fsyncs_by_clients"), Unit::PerSecond);
    let summary = format!("{} read and {} written over {over}", read.format(), written.format());
    let rows = json!({
        "read_bytes": window.delta("read"), "written_bytes": window.delta("written"), "buffers_written": buffers,
        "by_clients": window.delta("buffers_by_clients"), "fsyncs_by_clients": window.delta("fsyncs_by_clients"),
        "window_seconds": window.length.as_secs_f64(),
    });
    let findings = [
        ("pg.io.read", &read, format!("{}/s read from relations over {over}", read.format())),
        ("pg.io.written", &written, format!("{}/s written to relations over {over}", written.format())),
        (
            "pg.io.client_writes",
            &by_clients,
            format!("clients wrote {} of the dirty buffers themselves over {over}", by_clients.format()),
        ),
    ];
    let findings: Vec<_> = findings
        .into_iter()
        .filter_map(|(code, measured, message)| {
            let finding = Finding::new(Severity::of(measured.status())?, code, message);
            Some(finding.object(server).evidence(rows.clone()).remedy(Remedy::advice(
                "find the statements that read or write most, by pg_stat_statements' shared_blks columns",
            )))
        })
        .collect();
    ProbeReport::new(summary)
        .measure(read)
        .measure(written)
        .measure(by_clients)
        .measure(fsyncs)
        .findings(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_follow_the_version() {
        assert!(sql(16).contains("op_bytes") && sql(17).contains("op_bytes"));
        assert!(sql(18).contains("read_bytes") && !sql(18).contains("op_bytes"));
        assert!([16, 17, 18].iter().all(|major| !sql(*major).contains('{')));
    }
}
