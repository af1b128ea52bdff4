//! What a standby has from its primary, and cannot change: said once, where it can be changed.

use ops_core::{Context, ProbeReport, Result};

use crate::fleet::identified;
use crate::target::PgTarget;

/// What to make of a report about the catalogue: on a primary, itself. On a standby it is not applicable where the
/// primary is among the configured servers, and is asked the same. Where it is not, nobody else would tell: it stays,
/// with what is to be done on the primary. A server that does not answer is nobody's primary.
pub(super) async fn of_catalogue(cx: &Context, pg: &PgTarget, report: ProbeReport) -> Result<ProbeReport> {
    if !pg.capabilities(cx).await?.in_recovery {
        return Ok(report);
    }
    Ok(match primary_of(cx, pg).await {
        Some(name) => ProbeReport::not_applicable(format!("a standby has its primary's: see {name}")),
        None => report.saying_instead(|statement| Some(format!("on its primary: {statement}"))),
    })
}

/// The name of the configured server that this standby is a copy of.
async fn primary_of(cx: &Context, pg: &PgTarget) -> Option<String> {
    if pg.others().is_empty() {
        return None;
    }
    let (own, ..) = identified(cx, pg).await.ok()?;
    for other in pg.others() {
        if matches!(identified(cx, other).await, Ok((cluster, _, true)) if cluster == own) {
            return Some(other.name().to_owned());
        }
    }
    None
}
