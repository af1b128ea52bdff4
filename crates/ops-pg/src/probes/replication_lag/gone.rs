//! Who followed this server and does not any more: a standby that is down is seen by nobody but its primary.

use std::collections::BTreeMap;
use std::time::Duration;

use ops_core::window::{Sample, WindowKey};
use ops_core::{Context, Finding, Limits, Remedy, Result, Severity};
use serde_json::json;

use super::super::words::ago;
use super::SPEC;
use super::downstream::Follower;
use crate::target::PgTarget;

/// Serves PostgreSQL 14 and later. After a failover others follow.
pub(super) const TIMELINE: &str = "
SELECT CASE WHEN NOT pg_is_in_recovery() THEN left(pg_walfile_name(pg_current_wal_lsn()), 8) END AS timeline";

/// How long one who is gone is missed: who went on purpose is forgotten after it.
const MISSED: Duration = Duration::from_secs(7 * 24 * 3600);

/// Followers of one name, some of which are not there.
#[derive(Debug, PartialEq)]
pub(super) struct Gone {
    name: String,
    /// How many of them followed, and how many do now.
    followed: f64,
    follow: f64,
    /// Seconds since all of them did.
    for_seconds: f64,
}

/// Compares who follows with who did, and remembers it for the next run, in the state that rates are taken from.
/// Standbys share a name easily (`walreceiver`), so the members of a name are counted.
///
/// # Errors
/// Those of the server and of the state.
pub(super) async fn look(cx: &Context, pg: &PgTarget, followers: &[Follower]) -> Result<Vec<Gone>> {
    let key = WindowKey { server: pg.identity(cx).await?, probe: format!("{} followers", SPEC.name) };
    let rows = pg.read(cx, TIMELINE).await?;
    let timeline = rows.first().map(|row| row.get::<Option<String>>("timeline")).transpose()?.flatten();
    let mut now = Sample { at: cx.now(), epoch: timeline.unwrap_or_default(), counters: BTreeMap::new() };
    let before = cx.baselines().latest(&key).await?.filter(|before| before.epoch == now.epoch);
    let mut follow: BTreeMap<&str, f64> = BTreeMap::new();
    for follower in followers.iter().filter(|follower| follower.stays) {
        *follow.entry(&follower.name).or_default() += 1.0;
    }
    let gone = compare(&mut now, before.as_ref(), &follow);
    cx.baselines().store(&key, &now).await?;
    Ok(gone)
}

/// In a sample stand, under each name, how many followed, and when (in seconds) all of these were last seen.
fn compare(now: &mut Sample, before: Option<&Sample>, follow: &BTreeMap<&str, f64>) -> Vec<Gone> {
    let at = now.at.timestamp() as f64;
    let (count, seen) = (|name: &str| format!("count {name}"), |name: &str| format!("seen {name}"));
    let mut remember = |name: &str, followed: f64, when: f64| {
        now.counters.insert(count(name), followed);
        now.counters.insert(seen(name), when);
    };
    for (name, n) in follow {
        remember(name, *n, at);
    }
    let mut gone = Vec::new();
    for (key, followed) in before.iter().flat_map(|before| &before.counters) {
        let Some(name) = key.strip_prefix("count ") else { continue };
        let last = before.and_then(|before| before.counters.get(&seen(name))).copied().unwrap_or(at);
        let (follow, for_seconds) = (follow.get(name).copied().unwrap_or(0.0), (at - last).max(0.0));
        if follow < *followed && for_seconds <= MISSED.as_secs_f64() {
            remember(name, *followed, last);
            gone.push(Gone { name: name.to_owned(), followed: *followed, follow, for_seconds });
        }
    }
    gone
}

impl Gone {
    pub(super) fn finding(&self, limits: &Limits) -> Finding {
        let Self { name, followed, follow, for_seconds } = self;
        let seen = ago(Some(*for_seconds));
        let message = match *followed > 1.0 {
            true => format!("{follow} of {followed} named {name} follow; all of them did {seen}"),
            false => format!("{name} does not follow any more; it was last seen {seen}"),
        };
        let severity = Severity::of(limits.get("gone").judge(*for_seconds)).unwrap_or(Severity::Info);
        Finding::new(severity, "pg.replication.follower_gone", message)
            .object(name)
            .evidence(json!({
                "follower": name, "followed": followed, "follow": follow, "seconds_since_seen": for_seconds,
            }))
            .remedy(Remedy::advice(
                "look there whether it runs, and at its log for why it does not connect; one that is not to come back is \
                 forgotten after 7 days: drop its slot at once",
            ))
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use ops_core::Status;

    use super::*;

    fn sample(second: i64) -> Sample {
        let at = DateTime::from_timestamp(second, 0).unwrap();
        Sample { at, epoch: String::new(), counters: BTreeMap::new() }
    }

    #[test]
    fn who_followed_is_missed_for_a_week() {
        const DAY: i64 = 86_400;
        let mut last: Option<Sample> = None;
        let mut missed = Vec::new();
        let both: &[(&str, f64)] = &[("a", 1.0), ("walreceiver", 2.0)];
        for (second, follow) in [
            (0, both),
            (60, &[("walreceiver", 1.0)]),
            (600, &[("walreceiver", 1.0)]),
            (660, both),
            (700, &[]),
            (800, &both[..1]),
            (700 + 8 * DAY, &both[..1]),
        ] {
            let mut now = sample(second);
            let gone = compare(&mut now, last.as_ref(), &follow.iter().copied().collect());
            missed.push(gone.iter().map(|gone| (gone.name.clone(), gone.for_seconds)).collect::<Vec<_>>());
            last = Some(now);
        }
        let of = |given: &[(&str, f64)]| {
            given.iter().map(|(name, seconds)| ((*name).to_owned(), *seconds)).collect::<Vec<_>>()
        };
        let expected = [
            of(&[]),
            of(&[("a", 60.0), ("walreceiver", 60.0)]),
            of(&[("a", 600.0), ("walreceiver", 600.0)]),
            of(&[]),
            of(&[("a", 40.0), ("walreceiver", 40.0)]),
            of(&[("walreceiver", 140.0)]),
            of(&[]),
        ];
        assert_eq!(missed, expected);
    }

    #[test]
    fn a_restart_is_let_be() {
        let limits = Limits::defaults(&SPEC);
        for (seconds, expected) in [(10.0, Status::Ok), (300.0, Status::Warning)] {
            let gone = Gone { name: "a".into(), followed: 1.0, follow: 0.0, for_seconds: seconds };
            assert_eq!(gone.finding(&limits).severity.status(), expected);
        }
    }
}
