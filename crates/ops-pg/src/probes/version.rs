//! `pg.version`: does this version still get fixes, and has it got the ones there are?

use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, Utc};
use ops_core::{
    Context, Direction, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy, Result,
    Severity, ThresholdSpec, Unit,
};
use serde_json::json;

use crate::probe::{PgProbe, Scope};
use crate::target::PgTarget;

/// When [`BRANCHES`] was last compared with postgresql.org.
const AS_OF: &str = "2026-11-22";

/// A major version: the day of its last release by the versioning policy
/// (<https://www.postgresql.org/support/versioning/>), and its newest minor release as of [`AS_OF`].
struct Branch {
    major: u32,
    last_release: (i32, u32, u32),
    newest_minor: u32,
}

/// Oldest first.
const BRANCHES: &[Branch] = &[
    Branch { major: 12, last_release: (2024, 11, 21), newest_minor: 22 },
    Branch { major: 13, last_release: (2025, 11, 13), newest_minor: 23 },
    Branch { major: 14, last_release: (2026, 11, 12), newest_minor: 25 },
    Branch { major: 15, last_release: (2027, 11, 11), newest_minor: 20 },
    Branch { major: 16, last_release: (2028, 11, 9), newest_minor: 16 },
    Branch { major: 17, last_release: (2029, 11, 8), newest_minor: 12 },
    Branch { major: 18, last_release: (2030, 11, 14), newest_minor: 6 },
];

const DAY: f64 = 86_400.0;

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.version",
    group: "availability",
    explanation: Explanation {
        why: "A major version gets fixes for five years. After its last release a hole in it stays open, and what \
              corrupts data in it goes on doing so. A server that lags behind in minor releases runs with bugs \
              that are fixed and published.",
        measures: "The time until the major version's last release, by the dates of PostgreSQL's versioning policy; \
                   and how many minor releases the server is behind the newest one that this build of ops knows \
                   (as of 2026-11-22). There may be newer ones: the count is the least that is missing. Of a major \
                   version that is newer than the table nothing is known, and so is the answer.",
        queries: &[("what the server is", crate::capabilities::SQL)],
        codes: &[
            ("pg.version.end_of_life", "the major version gets no more fixes, or soon will get none"),
            ("pg.version.old_minor", "minor releases with fixes for this server are out"),
        ],
        versions: "every version",
        cost: "none beyond connecting",
        remedy: "A minor release needs new binaries and a restart, and nothing else: no dump, no pg_upgrade. Read \
                 its notes for what to do after, such as a REINDEX. A major version needs pg_upgrade or logical \
                 replication, and a rehearsal.",
    },
    thresholds: &[
        ThresholdSpec {
            name: "support_left",
            meaning: "time until the last release of this major version",
            unit: Unit::Seconds,
            direction: Direction::Below,
            warning: Some(180.0 * DAY),
            critical: Some(0.0),
            source: "PostgreSQL's versioning policy; half a year is this project's choice, time to rehearse an upgrade",
        },
        ThresholdSpec {
            name: "minors_behind",
            meaning: "minor releases that this server does not have",
            unit: Unit::Count,
            direction: Direction::Above,
            warning: Some(2.0),
            critical: None,
            source: "this project's choice: minor releases come at least every three months, so two are half a year",
        },
    ],
    requires: &[],
};

#[derive(Debug)]
pub(super) struct Version;

#[async_trait]
impl PgProbe for Version {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Cluster
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, limits: &Limits) -> Result<ProbeReport> {
        let capabilities = pg.capabilities(cx).await?;
        let server = Server {
            address: pg.address(),
            version: &capabilities.version,
            major: capabilities.major(),
            minor: capabilities.version_num % 10_000,
        };
        Ok(server.judge(cx.now(), limits))
    }
}

struct Server<'a> {
    address: &'a str,
    version: &'a str,
    major: u32,
    minor: u32,
}

impl Server<'_> {
    fn judge(&self, now: DateTime<Utc>, limits: &Limits) -> ProbeReport {
        let Some(branch) = BRANCHES.iter().find(|branch| branch.major == self.major) else {
            return self.outside(limits);
        };
        let end = branch.end();
        let left = (end - now).num_seconds() as f64;
        let left =
            Measurement::new("support_left", left, Unit::Seconds).judged_by(limits.get("support_left"));
        let behind = branch.newest_minor.saturating_sub(self.minor);
        let behind = Measurement::new("minors_behind", f64::from(behind), Unit::Count)
            .judged_by(limits.get("minors_behind"));
        let summary = match self.minor.cmp(&branch.newest_minor) {
            std::cmp::Ordering::Less => {
                format!("PostgreSQL {}, {} or more behind", self.version, minors(behind.value))
            }
            std::cmp::Ordering::Equal => {
                format!("PostgreSQL {}, the newest of its major version as of {AS_OF}", self.version)
            }
            std::cmp::Ordering::Greater => {
                format!("PostgreSQL {}, newer than the newest of {AS_OF}", self.version)
            }
        };
        ProbeReport::new(summary)
            .findings(self.end_of_life(&left, end))
            .findings(self.old_minor(&behind, branch))
            .measure(left)
            .measure(behind)
    }

    fn outside(&self, limits: &Limits) -> ProbeReport {
        if BRANCHES.first().is_some_and(|oldest| self.major < oldest.major) {
            let over = Measurement::new("support_left", f64::NEG_INFINITY, Unit::Seconds)
                .judged_by(limits.get("support_left"));
            let severity = Severity::of(over.status()).unwrap_or(Severity::Info);
            let message = format!("PostgreSQL {} has had no fixes for years", self.version);
            let finding =
                Finding::new(severity, "pg.version.end_of_life", message.clone()).object(self.address);
            return ProbeReport::new(message).finding(finding.remedy(upgrade()));
        }
        let message = format!(
            "PostgreSQL {} is newer than what this build of ops knows (as of {AS_OF}): of its support and of its \
             minor releases nothing is said",
            self.version
        );
        ProbeReport::unknown(message, Some("install a newer release of ops".to_owned()))
    }

    fn end_of_life(&self, left: &Measurement, end: DateTime<Utc>) -> Option<Finding> {
        let severity = Severity::of(left.status())?;
        let day = end.date_naive();
        let message = match left.value > 0.0 {
            true => format!("PostgreSQL {} gets its last fixes on {day}, in {}", self.major, left.format()),
            false => format!("PostgreSQL {} has had its last fixes on {day}", self.major),
        };
        Some(
            Finding::new(severity, "pg.version.end_of_life", message)
                .object(self.address)
                .evidence(json!({ "version": self.version, "last_release": day.to_string() }))
                .remedy(upgrade()),
        )
    }

    fn old_minor(&self, behind: &Measurement, branch: &Branch) -> Option<Finding> {
        let severity = Severity::of(behind.status())?;
        let newest = format!("{}.{}", branch.major, branch.newest_minor);
        let message = format!(
            "PostgreSQL {} lacks the fixes of {}: {newest} was out as of {AS_OF}",
            self.version,
            minors(behind.value)
        );
        Some(
            Finding::new(severity, "pg.version.old_minor", message)
                .object(self.address)
                .evidence(json!({ "version": self.version, "newest_known": newest, "as_of": AS_OF }))
                .remedy(Remedy::advice(format!(
                    "install {newest} or later and restart; read the release notes in between first"
                ))),
        )
    }
}

impl Branch {
    /// The beginning of the day of the last release.
    fn end(&self) -> DateTime<Utc> {
        let (year, month, day) = self.last_release;
        let date = NaiveDate::from_ymd_opt(year, month, day).unwrap_or(NaiveDate::MAX);
        date.and_time(chrono::NaiveTime::MIN).and_utc()
    }
}

fn minors(n: f64) -> String {
    if n == 1.0 { "1 minor release".to_owned() } else { format!("{n} minor releases") }
}

fn upgrade() -> Remedy {
    Remedy::advice("plan an upgrade to a newer major version, and rehearse it on a copy")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ops_core::Status;

    fn judged(version: &str, now: &str) -> (Status, Vec<(String, Severity)>) {
        let (major, minor) = version.split_once('.').unwrap();
        let (major, minor) = (major.parse().unwrap(), minor.parse().unwrap());
        let server = Server { address: "db", version, major, minor };
        let report = server.judge(now.parse().unwrap(), &Limits::defaults(&SPEC));
        let found =
            report.found().iter().map(|f| (f.code.trim_start_matches("pg.version.").to_owned(), f.severity));
        (report.status(), found.collect())
    }

    #[test]
    fn support_and_fixes_are_judged_by_the_table() {
        let newest = |major: u32| {
            let branch = BRANCHES.iter().find(|branch| branch.major == major).unwrap();
            format!("{major}.{}", branch.newest_minor)
        };
        let second = |major: u32| {
            let branch = BRANCHES.iter().find(|branch| branch.major == major).unwrap();
            format!("{major}.{}", branch.newest_minor - 2)
        };
        let newer = format!("{}.1", BRANCHES.last().unwrap().major + 1);
        for (version, now, status, found) in [
            (newest(18), "2026-11-22T00:00:00Z", Status::Ok, None),
            ("18.99".into(), "2026-11-22T00:00:00Z", Status::Ok, None),
            (second(18), "2026-11-22T00:00:00Z", Status::Warning, Some(("old_minor", Severity::Warning))),
            (newest(15), "2027-05-14T00:00:00Z", Status::Ok, None),
            (newest(15), "2027-05-16T00:00:00Z", Status::Warning, Some(("end_of_life", Severity::Warning))),
            (newest(15), "2027-11-11T00:00:00Z", Status::Critical, Some(("end_of_life", Severity::Critical))),
            (
                "9.6".into(),
                "2026-11-22T00:00:00Z",
                Status::Critical,
                Some(("end_of_life", Severity::Critical)),
            ),
            (newer, "2036-11-22T00:00:00Z", Status::Unknown, None),
        ] {
            let expected: Vec<_> =
                found.into_iter().map(|(code, severity)| (code.to_owned(), severity)).collect();
            assert_eq!(judged(&version, now), (status, expected), "{version} on {now}");
        }
    }

    #[test]
    fn the_explanation_says_when_the_table_was_made() {
        assert!(SPEC.explanation.measures.contains(AS_OF));
        assert!(
            BRANCHES
                .iter()
                .all(|branch| branch.end() < NaiveDate::MAX.and_time(chrono::NaiveTime::MIN).and_utc())
        );
    }
}
