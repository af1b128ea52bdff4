//! `pg.subscriptions`: logical replication that stands still on the subscriber's side.

use async_trait::async_trait;
use ops_core::{
    Context, Direction, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy, Result,
    Severity, ThresholdSpec, Unit,
};
use serde_json::json;

use super::windowed;
use crate::probe::{PgProbe, Scope};
use crate::row::Row;
use crate::target::PgTarget;

/// Serves PostgreSQL 14 and later; `{leader}` leaves out parallel workers from 16 on. Of pg_subscription only the
/// columns that everybody may read: the connection is not among them.
const SQL: &str = "
SELECT s.subname::text AS subscription, d.datname::text AS database, s.subenabled AS enabled,
       w.pid IS NOT NULL AS running,
       extract(epoch FROM now() - w.last_msg_receipt_time)::float8 AS silent,
       greatest(w.received_lsn - w.latest_end_lsn, 0)::float8     AS unconfirmed
  FROM pg_subscription s
  JOIN pg_database d ON d.oid = s.subdbid
  LEFT JOIN pg_stat_subscription w ON w.subid = s.oid AND w.relid IS NULL AND w.pid IS NOT NULL {leader}
 ORDER BY s.subname, d.datname";

const SINCE_16: &str = "AND w.leader_pid IS NULL";

/// Serves PostgreSQL 15 and later. Two databases may each have a subscription of one name: they count together.
const ERRORS: &str = "
SELECT e.subname::text AS name, sum(e.apply_error_count + e.sync_error_count)::float8 AS value,
       max(max(e.stats_reset)) OVER ()::text AS epoch
  FROM pg_stat_subscription_stats e
 GROUP BY e.subname";

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.subscriptions",
    group: "replication",
    explanation: Explanation {
        why: "A subscription that fails on one row (a missing column, a duplicate key) tries again for ever and \
              applies nothing. The subscriber's data grow old without an error in any client, and the publisher \
              keeps WAL for it until its disk is full.",
        measures: "For each subscription of the cluster: whether it is enabled; whether its apply worker runs, looked \
                   at twice, since a worker restarts now and then; for how long the publisher has been silent (it \
                   sends a keepalive every 30 s); and the errors within the window (15 and later). How far it is \
                   behind is seen on the publisher, by pg.replication_lag and pg.replication_slots.",
        queries: &[
            ("subscriptions and their apply workers", SQL),
            ("16 and later", SINCE_16),
            ("errors (15 and later)", ERRORS),
        ],
        codes: &[
            ("pg.subscription.disabled", "the subscription is disabled"),
            ("pg.subscription.stopped", "the subscription is enabled and no worker applies it"),
            ("pg.subscription.silent", "the publisher has sent nothing for long"),
            ("pg.subscription.errors", "applying or copying failed within the window"),
        ],
        versions: "PostgreSQL 14 and later; errors are counted from 15 on",
        cost: "one read of pg_subscription and of the workers' statistics; two with errors or a stopped worker",
        remedy: "Read the subscriber's log: it names relation and row. Repair the row or the table, or skip the \
                 transaction with ALTER SUBSCRIPTION … SKIP (lsn = …). ALTER SUBSCRIPTION … ENABLE starts it again.",
    },
    thresholds: &[
        ThresholdSpec {
            name: "silent",
            meaning: "time since the publisher's last message",
            unit: Unit::Seconds,
            direction: Direction::Above,
            warning: Some(60.0),
            critical: Some(300.0),
            source: "wal_receiver_timeout's default is 60 s; critical is this project's choice, five times that",
        },
        ThresholdSpec {
            name: "errors",
            meaning: "errors of one subscription within the window",
            unit: Unit::Count,
            direction: Direction::Above,
            warning: Some(1.0),
            critical: None,
            source: "this project's choice: each error ends the worker, and the row comes again",
        },
    ],
    requires: &[],
};

#[derive(Debug)]
pub(super) struct Subscriptions;

#[async_trait]
impl PgProbe for Subscriptions {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Cluster
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, limits: &Limits) -> Result<ProbeReport> {
        let capabilities = pg.capabilities(cx).await?;
        if capabilities.in_recovery {
            return Ok(ProbeReport::not_applicable("a standby applies no subscription"));
        }
        let major = capabilities.major();
        let first = look(cx, pg, major).await?;
        if first.is_empty() {
            return Ok(ProbeReport::not_applicable("there are no subscriptions"));
        }
        let (subscriptions, errors) = self.look_again(cx, pg, major, first).await?;
        let running = subscriptions.iter().filter(|subscription| subscription.running).count();
        let mut report =
            ProbeReport::new(format!("{running} of {} subscriptions apply", subscriptions.len()));
        for subscription in &subscriptions {
            report = subscription.judge(report, limits);
        }
        let Some(errors) = errors else { return Ok(report) };
        match errors {
            Ok(window) => {
                for (name, count) in window.deltas().filter(|(_, count)| *count > 0.0) {
                    report = failing(report, limits, name, count, &windowed::length(&window));
                }
                Ok(report)
            }
            // Without a window nothing is known of errors, and all else is.
            Err(_) => Ok(report.unseen("the errors: there is nothing to compare with yet", None)),
        }
    }
}

impl Subscriptions {
    /// A worker that is not there may be starting: only one that is still missing a window later is.
    async fn look_again(
        &self,
        cx: &Context,
        pg: &PgTarget,
        major: u32,
        first: Vec<Subscription>,
    ) -> Result<(Vec<Subscription>, Option<std::result::Result<ops_core::window::Window, ProbeReport>>)> {
        let stopped = first.iter().any(|subscription| subscription.enabled && !subscription.running);
        let errors = if major >= 15 { Some(windowed::rise(cx, pg, SPEC.name, ERRORS).await?) } else { None };
        if !stopped {
            return Ok((first, errors));
        }
        let gap = async {
            cx.waiting(tokio::time::sleep(cx.window_gap())).await;
            Ok(())
        };
        cx.run("look again for a worker", gap).await?;
        let seen_first = |later: &Subscription| {
            first.iter().any(|earlier| earlier.key() == later.key() && earlier.running)
        };
        let mut second = look(cx, pg, major).await?;
        for later in &mut second {
            later.running = later.running || seen_first(later);
        }
        Ok((second, errors))
    }
}

async fn look(cx: &Context, pg: &PgTarget, major: u32) -> Result<Vec<Subscription>> {
    let leader = if major >= 16 { SINCE_16 } else { "" };
    pg.read(cx, &SQL.replace("{leader}", leader)).await?.iter().map(Subscription::read).collect()
}

struct Subscription {
    name: String,
    database: String,
    enabled: bool,
    running: bool,
    silent: Option<f64>,
    unconfirmed: Option<f64>,
}

impl Subscription {
    fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            name: row.get("subscription")?,
            database: row.get("database")?,
            enabled: row.get("enabled")?,
            running: row.get("running")?,
            silent: row.get("silent")?,
            unconfirmed: row.get("unconfirmed")?,
        })
    }

    /// Names are unique within a database only.
    fn key(&self) -> (&str, &str) {
        (&self.database, &self.name)
    }

    fn judge(&self, mut report: ProbeReport, limits: &Limits) -> ProbeReport {
        if let Some(bytes) = self.unconfirmed {
            let unconfirmed = Measurement::new("unconfirmed", bytes, Unit::Bytes);
            report = report.measure(unconfirmed.label("subscription", self.name.clone()));
        }
        if !self.enabled {
            let message = format!("subscription {} of database {} is disabled", self.name, self.database);
            let finding = self.finding(Severity::Warning, "pg.subscription.disabled", message);
            return report.finding(finding.remedy(Remedy::advice(format!(
                "find out why in the server's log (disable_on_error disables it too), then ALTER SUBSCRIPTION {} \
                 ENABLE in that database; one that is not wanted any more keeps WAL on its publisher until it is \
                 dropped",
                self.name
            ))));
        }
        if !self.running {
            let message =
                format!("no worker applies subscription {} of database {}", self.name, self.database);
            let finding = self.finding(Severity::Critical, "pg.subscription.stopped", message);
            return report.finding(finding.remedy(Remedy::advice(
                "read the server's log for what ends the worker; max_logical_replication_workers may be used up",
            )));
        }
        let Some(silent) = self.silent else { return report };
        let silent = Measurement::new("silent", silent, Unit::Seconds)
            .label("subscription", self.name.clone())
            .judged_by(limits.get("silent"));
        let finding = Severity::of(silent.status()).map(|severity| {
            let message = format!("the publisher of {} has sent nothing for {}", self.name, silent.format());
            self.finding(severity, "pg.subscription.silent", message)
                .remedy(Remedy::advice("look at the publisher, and at the network between"))
        });
        report.findings(finding).measure(silent)
    }

    fn finding(&self, severity: Severity, code: &'static str, message: String) -> Finding {
        Finding::new(severity, code, message).object(self.name.clone()).evidence(json!({
            "subscription": self.name, "database": self.database, "enabled": self.enabled,
            "running": self.running, "silent_seconds": self.silent,
        }))
    }
}

fn failing(report: ProbeReport, limits: &Limits, name: &str, count: f64, window: &str) -> ProbeReport {
    let errors = Measurement::new("errors", count, Unit::Count)
        .label("subscription", name)
        .judged_by(limits.get("errors"));
    let finding = Severity::of(errors.status()).map(|severity| {
        let times = if count == 1.0 { "once".to_owned() } else { format!("{count} times") };
        let message = format!("subscription {name} failed {times} in {window}");
        Finding::new(severity, "pg.subscription.errors", message)
            .object(name)
            .evidence(json!({ "subscription": name, "errors": count, "window": window }))
            .remedy(Remedy::advice("read the subscriber's log: it names the relation and the row"))
    });
    report.findings(finding).measure(errors)
}
