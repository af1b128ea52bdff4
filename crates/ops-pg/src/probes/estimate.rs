//! From estimates to a report: what both bloat probes do with their relations.

use ops_core::{Context, Finding, Limits, Measurement, ProbeReport, Result, Severity, Unit};

use super::bloat::{Bloat, Relation};
use super::words::counted;
use crate::row::Row;
use crate::target::PgTarget;

/// Findings at most, those that waste most first.
const REPORTED: usize = 20;

/// A relation whose pages can be compared with those that it needs.
pub(super) trait Estimated: Sized {
    /// `large table`, `large tables`: what was judged.
    const JUDGED: [&'static str; 2];
    /// `table is`, `tables are`: what is bloated.
    const BLOATED: [&'static str; 2];

    fn read(row: &Row) -> Result<Self>;

    fn relation(&self) -> &Relation;

    /// The pages that it needs; `None` where a column has no statistics.
    fn needed(&self) -> Option<f64>;

    fn finding(&self, bloat: &Bloat, severity: Severity) -> Finding;

    /// What is not known of these many, of which this is one, and the statement that would tell.
    fn stale(&self, of: usize) -> (String, String);
}

/// Looks by `sql`, whose `{statistics}` stands for where the statistics of columns may be read.
pub(super) async fn look<E: Estimated>(
    cx: &Context,
    pg: &PgTarget,
    sql: &str,
    limits: &Limits,
) -> Result<ProbeReport> {
    let capabilities = pg.capabilities(cx).await?;
    if capabilities.in_recovery {
        return Ok(ProbeReport::not_applicable("a standby is a copy of its primary, bloat and all"));
    }
    let Some(statistics) = capabilities.column_statistics() else {
        return Ok(ProbeReport::unknown("the statistics of columns are hidden", None));
    };
    let rows = pg.read(cx, &sql.replace("{statistics}", statistics)).await?;
    Ok(report(&rows.iter().map(E::read).collect::<Result<Vec<_>>>()?, limits))
}

fn report<E: Estimated>(all: &[E], limits: &Limits) -> ProbeReport {
    let floor = limits.get("wasted").warning.unwrap_or(0.0);
    let (mut bloated, mut stale, mut judged) = (Vec::new(), Vec::new(), 0);
    // A smaller one could be all air, and would not be worth a finding.
    for one in all.iter().filter(|one| one.relation().bytes() >= floor) {
        match one.needed().filter(|_| one.relation().is_fresh()) {
            Some(pages) => {
                judged += 1;
                let bloat = one.relation().bloat(pages);
                bloated.extend(bloat.severity(limits).map(|severity| (one, bloat, severity)));
            }
            None => stale.push(one),
        }
    }
    bloated.sort_by(|a, b| b.1.wasted.total_cmp(&a.1.wasted));
    let wasted: f64 = bloated.iter().map(|(_, bloat, _)| bloat.wasted).sum();
    let summary = match bloated.len() {
        0 => format!("{}, none bloated", counted(judged, E::JUDGED[0], E::JUDGED[1])),
        n => {
            let bloated = counted(n, E::BLOATED[0], E::BLOATED[1]);
            format!("{bloated} bloated, {} of air", Unit::Bytes.format(wasted))
        }
    };
    let report = ProbeReport::new(summary)
        .measure(Measurement::new("judged", judged as f64, Unit::Count))
        .measure(Measurement::new("air", wasted, Unit::Bytes))
        .findings(bloated.iter().take(REPORTED).map(|(one, bloat, severity)| one.finding(bloat, *severity)));
    let Some(first) = stale.first() else { return report };
    let (what, fix) = first.stale(stale.len());
    report.unseen(what, Some(fix))
}
