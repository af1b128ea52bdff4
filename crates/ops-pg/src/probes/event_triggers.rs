//! `pg.event_triggers`: do the triggers on DDL fire?

use async_trait::async_trait;
use ops_core::{
    Context, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy, Result, Unit,
};
use serde_json::json;

use super::words::counted;
use crate::probe::{PgProbe, Scope};
use crate::row::Row;
use crate::target::PgTarget;

/// Serves PostgreSQL 14 and later (`event_triggers`, which turns all of them off, came with 17). Triggers of
/// extensions are here too: one may be required.
const SQL: &str = "
SELECT t.evtname::text AS plain_name, quote_ident(t.evtname) AS name, t.evtevent::text AS event,
       t.evtenabled::text AS enabled, coalesce(current_setting('event_triggers', true)::bool, true) AS all_on,
       EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_event_trigger'::regclass
                  AND d.objid = t.oid AND d.deptype = 'e') AS of_extension
  FROM pg_event_trigger t
 ORDER BY 1";

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.event_triggers",
    group: "objects",
    explanation: Explanation {
        why: "Event triggers audit and version the schema. One that was switched off for a migration and forgotten \
              records nothing, and nothing fails.",
        measures: "Whether the event triggers that the configuration requires (required.event_triggers) exist and \
                   fire for ordinary sessions, and which others are switched off.",
        queries: &[("event triggers", SQL)],
        codes: &[
            ("pg.event_trigger.missing", "a required event trigger does not exist"),
            ("pg.event_trigger.disabled", "an event trigger does not fire (info unless it is required)"),
        ],
        versions: "PostgreSQL 14 and later",
        cost: "one read of pg_event_trigger",
        remedy: "ALTER EVENT TRIGGER … ENABLE, and look at what changed meanwhile.",
    },
    thresholds: &[],
    requires: &[],
};

#[derive(Debug)]
pub(super) struct EventTriggers;

#[async_trait]
impl PgProbe for EventTriggers {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Database
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, _limits: &Limits) -> Result<ProbeReport> {
        let required = &pg.config().required.event_triggers;
        let rows = pg.read(cx, SQL).await?;
        let triggers = rows.iter().map(Trigger::read).collect::<Result<Vec<_>>>()?;
        if required.is_empty() && triggers.iter().all(|trigger| trigger.of_extension) {
            return Ok(ProbeReport::not_applicable(
                "there is no event trigger, and none is required (required.event_triggers)",
            ));
        }
        let missing =
            required.iter().filter(|name| triggers.iter().all(|trigger| trigger.plain_name != **name));
        let missing = missing.map(|name| {
            Finding::critical(
                "pg.event_trigger.missing",
                format!("event trigger {name} is required and does not exist"),
            )
            .object(name)
            .remedy(Remedy::advice("create it, and look at what changed meanwhile"))
        });
        let findings: Vec<_> =
            missing.chain(triggers.iter().filter_map(|trigger| trigger.finding(required))).collect();
        let firing = triggers.iter().filter(|trigger| trigger.fires()).count();
        let summary =
            format!("{firing} of {} fire", counted(triggers.len(), "event trigger", "event triggers"));
        Ok(ProbeReport::new(summary)
            .measure(Measurement::new("firing", firing as f64, Unit::Count))
            .findings(findings))
    }
}

#[derive(Debug)]
struct Trigger {
    plain_name: String,
    name: String,
    event: String,
    /// `pg_event_trigger.evtenabled`: `O`, `D`, `R` or `A`.
    enabled: String,
    /// Whether the server fires any.
    all_on: bool,
    of_extension: bool,
}

impl Trigger {
    fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            plain_name: row.get("plain_name")?,
            name: row.get("name")?,
            event: row.get("event")?,
            enabled: row.get("enabled")?,
            all_on: row.get("all_on")?,
            of_extension: row.get("of_extension")?,
        })
    }

    fn fires(&self) -> bool {
        self.all_on && matches!(self.enabled.as_str(), "O" | "A")
    }

    fn finding(&self, required: &[String]) -> Option<Finding> {
        let is_required = required.contains(&self.plain_name);
        if self.fires() || (self.of_extension && !is_required) {
            return None;
        }
        let Self { name, event, .. } = self;
        let why = match (self.all_on, self.enabled.as_str()) {
            (false, _) => "event_triggers is off for the whole server",
            (true, "R") => "it fires only where session_replication_role is replica",
            (true, _) => "it is disabled",
        };
        let message = format!("event trigger {name} (on {event}) does not fire: {why}");
        let remedy = match self.all_on {
            true => Remedy::statement(format!("ALTER EVENT TRIGGER {name} ENABLE;")),
            false => Remedy::statement("ALTER SYSTEM RESET event_triggers; SELECT pg_reload_conf();"),
        };
        let severity = if is_required { ops_core::Severity::Critical } else { ops_core::Severity::Info };
        Some(
            Finding::new(severity, "pg.event_trigger.disabled", message)
                .object(&self.plain_name)
                .evidence(json!({ "event_trigger": name, "event": event, "enabled": self.enabled, "required": is_required }))
                .remedy(remedy),
        )
    }
}
