//! The score: 100 less what the findings weigh, with a cap per group, and the coverage beside it.
//!
//! Each warning costs [`WARNING_POINTS`], each critical [`CRITICAL_POINTS`]; a probe costs no more than its worst
//! finding and half of each further one, and a group no more than [`GROUP_CAP`], so that a thousand unused
//! indexes weigh less than one blocked table. What is out of reach makes 0: nothing else matters then. Where most
//! probes could not tell, there is no score. The weights are this project's own; the words are the runbooks': 90 and above excellent, 75 and above good.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::finding::Severity;
use crate::result::ProbeResult;
use crate::status::Status;

/// What a warning costs.
pub const WARNING_POINTS: f64 = 4.0;
/// What a critical finding costs.
pub const CRITICAL_POINTS: f64 = 12.0;
/// What one group can cost at most.
pub const GROUP_CAP: f64 = 25.0;
/// The share of the probes that must have seen something for a score to be told.
pub const ENOUGH: f64 = 0.5;
/// The end of the names of the probes that say whether something can be reached at all.
pub(crate) const REACHABLE: &str = ".reachable";
/// The ends of the codes that say the same of an endpoint, a page or a job's server.
const OUT_OF_REACH: [&str; 2] = [".unreachable", ".timeout"];

/// Points that one group lost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PointsLost {
    /// The group.
    pub group: String,
    /// Points, rounded to whole ones as the score is.
    pub points: u8,
}

/// The word for a score.
pub fn word(score: u8) -> &'static str {
    match score {
        90.. => "excellent",
        75.. => "good",
        50.. => "fair",
        _ => "poor",
    }
}

pub(crate) struct Score {
    pub(crate) points: Option<u8>,
    pub(crate) coverage: f64,
    pub(crate) lost: Vec<PointsLost>,
}

pub(crate) fn score(probes: &[ProbeResult]) -> Score {
    let counted: Vec<_> = probes.iter().filter(|probe| probe.status != Status::NotApplicable).collect();
    let seen = counted.iter().filter(|probe| probe.status != Status::Unknown).count();
    let coverage = if counted.is_empty() { 0.0 } else { seen as f64 / counted.len() as f64 };

    let mut groups: BTreeMap<&str, f64> = BTreeMap::new();
    for probe in &counted {
        *groups.entry(&probe.group).or_default() += weight(probe);
    }
    let mut lost: Vec<PointsLost> = groups
        .into_iter()
        .map(|(group, weight)| PointsLost {
            group: group.to_owned(),
            points: weight.min(GROUP_CAP).round() as u8,
        })
        .filter(|lost| lost.points > 0)
        .collect();
    lost.sort_by(|a, b| b.points.cmp(&a.points).then_with(|| a.group.cmp(&b.group)));

    let down = counted.iter().any(|probe| is_out_of_reach(probe));
    let total: u32 = lost.iter().map(|lost| u32::from(lost.points)).sum();
    let left = if down { 0 } else { 100u32.saturating_sub(total) as u8 };
    Score { points: (down || coverage >= ENOUGH).then_some(left), coverage, lost }
}

/// Whether the probe tells that its server cannot be used at all: that it cannot be reached, or does not answer.
pub(crate) fn is_out_of_reach(probe: &ProbeResult) -> bool {
    probe.status == Status::Critical
        && (probe.probe.ends_with(REACHABLE)
            || probe.findings.iter().any(|finding| {
                finding.severity == Severity::Critical
                    && OUT_OF_REACH.iter().any(|end| finding.code.ends_with(end))
            }))
}

/// The worst in full, each further one by half: ten warnings of one probe are worse than one, not ten times.
fn weight(probe: &ProbeResult) -> f64 {
    let findings = probe.findings.iter().map(|finding| match finding.severity {
        Severity::Info => 0.0,
        Severity::Warning => WARNING_POINTS,
        Severity::Critical => CRITICAL_POINTS,
    });
    let own = match probe.status {
        Status::Warning => WARNING_POINTS,
        Status::Critical => CRITICAL_POINTS,
        Status::Ok | Status::Unknown | Status::NotApplicable => 0.0,
    };
    let mut weights: Vec<f64> = findings.filter(|weight| *weight > 0.0).collect();
    if weights.is_empty() {
        return own;
    }
    weights.sort_by(|a, b| b.total_cmp(a));
    let worst = own.max(weights[0]);
    worst + weights[1..].iter().map(|weight| weight / 2.0).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Finding;

    fn result(group: &str, status: Status, findings: Vec<Finding>) -> ProbeResult {
        ProbeResult { group: group.into(), status, findings, ..ProbeResult::empty("t.probe", "main") }
    }

    fn warnings(count: usize) -> Vec<Finding> {
        (0..count).map(|_| Finding::warning("t.code", "m")).collect()
    }

    #[test]
    fn one_family_cannot_sink_everything() {
        let probes =
            vec![result("indexes", Status::Warning, warnings(1000)), result("locks", Status::Ok, vec![])];
        let score = score(&probes);
        assert_eq!(score.points, Some(75));
        assert_eq!(score.lost, [PointsLost { group: "indexes".into(), points: 25 }]);
    }

    #[test]
    fn what_cannot_be_reached_scores_nothing() {
        let named = |name: &str, code: &'static str| {
            let finding = Finding::critical(code, "m");
            ProbeResult { probe: name.into(), ..result("availability", Status::Critical, vec![finding]) }
        };
        for (probe, points) in [
            (named("pg.reachable", "pg.reachable.down"), 0),
            (named("http.endpoint", "http.endpoint.unreachable"), 0),
            (named("http.endpoint", "http.endpoint.status"), 88),
            (named("pg.version", "pg.version.end_of_life"), 88),
        ] {
            let name = probe.findings[0].code.clone();
            assert_eq!(score(&[probe, result("locks", Status::Ok, vec![])]).points, Some(points), "{name}");
        }
    }

    #[test]
    fn unknown_lowers_the_coverage_and_not_applicable_does_not() {
        let probes = vec![
            result("a", Status::Ok, vec![]),
            result("b", Status::Unknown, vec![]),
            result("c", Status::NotApplicable, vec![]),
        ];
        let score = score(&probes);
        assert_eq!((score.points, score.coverage), (Some(100), 0.5));
    }

    #[test]
    fn nothing_seen_has_no_score() {
        assert_eq!(score(&[result("a", Status::Unknown, vec![])]).points, None);
    }
}
