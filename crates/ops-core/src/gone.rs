//! A server that answered at first, and then no more.

use crate::error::ErrorKind;
use crate::finding::Finding;
use crate::result::ProbeResult;
use crate::score::REACHABLE;
use crate::status::Status;

/// How many of the target's probes that ended last must have failed for want of an answer: one may have been cut off by
/// somebody who ended its session, or have asked too much. All began together, so that those that took longest ended
/// last.
const LAST: usize = 2;

/// Tells it on the probe that found each such target reachable: whoever reads the report asks that one first. The code
/// is the probe's name with `.gone`.
pub(crate) fn tell(probes: &mut [ProbeResult]) {
    for index in 0..probes.len() {
        let reachable = &probes[index];
        if !reachable.probe.ends_with(REACHABLE) || !matches!(reachable.status, Status::Ok | Status::Warning)
        {
            continue;
        }
        let of_target = probes.iter().filter(|other| {
            other.target == reachable.target && other.status != Status::NotApplicable && *other != reachable
        });
        let mut last: Vec<&ProbeResult> = of_target.collect();
        last.sort_by(|a, b| b.took_ms.total_cmp(&a.took_ms));
        if last.len() < LAST || !last[..LAST].iter().all(|result| was_not_answered(result)) {
            continue;
        }
        let code = format!("{}.gone", reachable.probe);
        let message = format!("it answered at first, and then no more: {}", last[0].summary);
        let reachable = &mut probes[index];
        reachable.status = Status::Critical;
        reachable.summary.clone_from(&message);
        reachable.findings.push(Finding::critical(code, message));
    }
}

fn was_not_answered(result: &ProbeResult) -> bool {
    matches!(result.failed, Some(ErrorKind::Unreachable | ErrorKind::Timeout))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::report::ProbeReport;

    fn results(kinds: &[Option<ErrorKind>]) -> Vec<ProbeResult> {
        let looked = |(index, kind): (usize, &Option<ErrorKind>)| {
            let name = if index == 0 { "pg.reachable" } else { "pg.other" };
            let mut result = ProbeResult::empty(name, "main");
            result.fill(match kind {
                None => Ok(ProbeReport::new("it answers")),
                Some(kind) => Err(Error::new(*kind, "read")),
            });
            result.took_ms = index as f64;
            result
        };
        kinds.iter().enumerate().map(looked).collect()
    }

    #[test]
    fn a_server_that_stops_in_the_middle_is_not_reachable() {
        const OUT: Option<ErrorKind> = Some(ErrorKind::Timeout);
        for (kinds, status) in [
            (&[None, None, OUT, OUT][..], Status::Critical),
            (&[None, None, Some(ErrorKind::Unreachable), OUT], Status::Critical),
            // One statement that was too slow, and one that was cut off.
            (&[None, None, None, OUT], Status::Ok),
            (&[None, OUT, OUT, None], Status::Ok),
            (&[None, None, OUT, Some(ErrorKind::PermissionDenied)], Status::Ok),
            (&[None, OUT], Status::Ok),
        ] {
            let mut probes = results(kinds);
            tell(&mut probes);
            assert_eq!(probes[0].status, status, "{kinds:?}");
            assert_eq!(probes[0].findings.len(), usize::from(status == Status::Critical));
        }
    }
}
