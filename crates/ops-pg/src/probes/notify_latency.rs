//! `pg.notify_latency`: how long a notification takes from NOTIFY to LISTEN.

use async_trait::async_trait;
use ops_core::{
    Context, Direction, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy, Result,
    Severity, ThresholdSpec, Unit,
};

use crate::probe::{PgProbe, Scope};
use crate::target::{Notified, PgTarget};

/// Serves PostgreSQL 14 and later. How full the one queue of all databases is, which the slowest listener decides.
const QUEUE: &str = "SELECT 100 * pg_notification_queue_usage() AS used";

/// What is sent, on a channel of a random name: the first over a second connection.
const ROUND_TRIP: &str = "
LISTEN ops_…;
NOTIFY ops_…;
UNLISTEN *;";

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.notify_latency",
    group: "latency",
    explanation: Explanation {
        why: "What is built on LISTEN and NOTIFY (job queues, caches, subscriptions) stands still when \
              notifications are late. All transactions that notify commit one after the other; one that hangs \
              there stops all of them, and when the queue is full, NOTIFY fails.",
        measures: "The time from sending NOTIFY on a channel of a random name to its arrival at a second, short \
                   connection that listens there; and how full the queue is. A notification gets a transaction id, \
                   so this writes one commit record; it changes no data. Nobody is listening when it is done. A \
                   standby cannot notify; a pooler that hands out connections by transaction cannot listen.",
        queries: &[("how full the queue is", QUEUE), ("the round trip", ROUND_TRIP)],
        codes: &[
            ("pg.notify.slow", "a notification arrives late"),
            ("pg.notify.lost", "a notification could not be sent, or did not arrive"),
            ("pg.notify.queue", "the queue of notifications fills up: a listener does not read it"),
        ],
        versions: "PostgreSQL 14 and later",
        cost: "a second connection for six short statements, and one transaction id",
        remedy: "A queue that fills up has a listener whose transaction stays open: `ops explain \
                 pg.idle_in_transaction`. Sessions that wait for 'object' locks of database 0 in COMMIT wait for the \
                 one that notifies: see `ops explain pg.blocking`, and look for a synchronous standby that is gone.",
    },
    thresholds: &[
        ThresholdSpec {
            name: "latency",
            meaning: "time from NOTIFY to its arrival",
            unit: Unit::Milliseconds,
            direction: Direction::Above,
            warning: Some(500.0),
            critical: None,
            source: "this project's choice: one host away it takes 1 to 10 ms, across a continent under 300 ms",
        },
        ThresholdSpec {
            name: "queue",
            meaning: "the queue of notifications, of what it can hold",
            unit: Unit::Percent,
            direction: Direction::Above,
            warning: Some(50.0),
            critical: Some(80.0),
            source: "PostgreSQL documentation, NOTIFY: from half full on the server itself warns in its log",
        },
    ],
    requires: &[],
};

#[derive(Debug)]
pub(super) struct NotifyLatency;

#[async_trait]
impl PgProbe for NotifyLatency {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Cluster
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, limits: &Limits) -> Result<ProbeReport> {
        if pg.capabilities(cx).await?.in_recovery {
            return Ok(ProbeReport::not_applicable("a standby can neither NOTIFY nor LISTEN"));
        }
        let rows = pg.read(cx, QUEUE).await?;
        let used = rows.first().map_or(Ok(0.0), |row| row.get::<f64>("used"))?;
        Ok(judge(&pg.notify_ourselves(cx).await?, used, pg.address(), limits))
    }
}

fn judge(notified: &Notified, used: f64, server: &str, limits: &Limits) -> ProbeReport {
    let report = match notified {
        Notified::Impossible { why } => return ProbeReport::not_applicable(*why),
        Notified::Lost { why } => {
            let message = format!("a notification was lost: {why}");
            ProbeReport::new(message.clone()).finding(
                Finding::critical("pg.notify.lost", message).object(server).remedy(
                    Remedy::statement(
                        "SELECT pid, state, wait_event_type, wait_event, xact_start FROM pg_stat_activity \
                         WHERE query ILIKE '%notify%' OR wait_event = 'SyncRep' ORDER BY xact_start;",
                    )
                    .because("the oldest of these holds up the others that notify"),
                ),
            )
        }
        Notified::After(latency) => {
            let latency = Measurement::new("latency", latency.as_secs_f64() * 1000.0, Unit::Milliseconds)
                .judged_by(limits.get("latency"));
            let message = format!("a notification arrived after {}", latency.format());
            let slow = Severity::of(latency.status()).map(|severity| {
                Finding::new(severity, "pg.notify.slow", message.clone()).object(server).remedy(Remedy::advice(
                    "compare with pg.reachable: where connecting is slow too, it is the network or the machine",
                ))
            });
            ProbeReport::new(message).measure(latency).findings(slow)
        }
    };
    let queue = Measurement::new("queue", used, Unit::Percent).judged_by(limits.get("queue"));
    let filling = Severity::of(queue.status()).map(|severity| {
        let message =
            format!("the queue of notifications is {} full: a listener does not read it", queue.format());
        Finding::new(severity, "pg.notify.queue", message).object(server).remedy(
            Remedy::statement(
                "SELECT pid, usename, application_name, xact_start FROM pg_stat_activity \
                 WHERE state LIKE 'idle in transaction%' ORDER BY xact_start;",
            )
            .because("a listener inside a transaction reads nothing; the oldest of these may be the one"),
        )
    });
    report.measure(queue).findings(filling)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ops_core::Status;
    use std::time::Duration;

    #[test]
    fn lost_is_critical_and_late_is_a_warning() {
        let lost = Notified::Lost { why: "it hangs".into() };
        let after = |ms| Notified::After(Duration::from_millis(ms));
        for (notified, used, expected) in [
            (after(3), 0.0, Status::Ok),
            (after(500), 0.0, Status::Warning),
            (after(3), 50.0, Status::Warning),
            (after(3), 80.0, Status::Critical),
            (lost, 0.0, Status::Critical),
            (Notified::Impossible { why: "a pooler" }, 90.0, Status::NotApplicable),
        ] {
            assert_eq!(judge(&notified, used, "db", &Limits::defaults(&SPEC)).status(), expected);
        }
    }
}
