//! `pg.role`: is the server what it is configured to be, primary or standby?

use async_trait::async_trait;
use ops_core::{Context, Explanation, Finding, Limits, ProbeReport, ProbeSpec, Remedy, Result};
use serde_json::json;

use crate::config::ServerRole;
use crate::probe::{PgProbe, Scope};
use crate::target::PgTarget;

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.role",
    group: "availability",
    explanation: Explanation {
        why: "After a failover the address of the primary may lead to a server that refuses writes; and a standby \
              that was promoted by mistake takes writes that the others never get. Both look healthy by themselves.",
        measures: "Whether the server is in recovery, compared with `role` of its configuration. A standby that only \
                   replays archived WAL counts as a standby.",
        queries: &[("what the server is", crate::capabilities::SQL)],
        codes: &[("pg.role.unexpected", "a primary where a standby is configured, or the other way round")],
        versions: "PostgreSQL 14 and later",
        cost: "none beyond connecting",
        remedy: "If a failover was meant, let the address or the configuration follow. If not, find out who takes \
                 writes before you touch anything: two primaries must not be merged, the younger one's writes have \
                 to be carried over by hand, and then it is made anew from a base backup or by pg_rewind.",
    },
    thresholds: &[],
    requires: &[],
};

#[derive(Debug)]
pub(super) struct Role;

#[async_trait]
impl PgProbe for Role {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Cluster
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, _limits: &Limits) -> Result<ProbeReport> {
        let Some(wanted) = pg.config().role else {
            return Ok(ProbeReport::not_applicable("no role is configured for this server"));
        };
        let standby = pg.capabilities(cx).await?.in_recovery;
        let is = if standby { ServerRole::Standby } else { ServerRole::Primary };
        if is == wanted {
            return Ok(ProbeReport::new(format!("a {}, as configured", is.as_str())));
        }
        let message = format!("the server is a {}, and should be a {}", is.as_str(), wanted.as_str());
        let advice = match is {
            ServerRole::Primary => {
                "find out whether another server takes writes as well before you change anything here"
            }
            ServerRole::Standby => "find the server that takes writes now, and point clients there",
        };
        let finding = Finding::critical("pg.role.unexpected", message.clone())
            .object(pg.address())
            .evidence(json!({ "is": is.as_str(), "configured": wanted.as_str() }))
            .remedy(Remedy::advice(advice));
        Ok(ProbeReport::new(message).finding(finding))
    }
}
