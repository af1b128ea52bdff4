//! A whole check, and what holds for every one of them.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use ops_cache::{RedisOptions, RedisTarget};
use ops_core::render::{self, Detail, Style};
use ops_core::{
    Context, Error, ErrorKind, HealthReport, ProbeResult, ProbeSet, ProbeSetOptions, Secret, Status,
};
use ops_pg::{PgConfig, PgTarget};
use ops_testkit::{Behaviour, End};

/// In every URL, as the password or a part of it.
pub(crate) const SENTINEL: &str = "hunter2hunter2";

/// What one probe may take here.
pub(crate) const DEADLINE: Duration = Duration::from_secs(2);

/// What a whole check may take on a busy machine: one deadline, the moment to clean up after it, and some more.
/// Far below one deadline a probe.
pub(crate) const BOUND: Duration = Duration::from_secs(7);

/// Nothing listens on the port of TCP's own multiplexer.
pub(crate) const DEAD: &str = "127.0.0.1:1";

/// What is expected of the probe that tells whether the server can be reached.
pub(crate) struct Expected {
    pub(crate) status: Status,
    /// All of them in its summary, the address among them.
    pub(crate) words: Vec<String>,
}

impl Expected {
    pub(crate) fn new(status: Status, address: impl ToString, words: &[&str]) -> Self {
        let words = words.iter().map(|word| (*word).to_owned()).chain([address.to_string()]);
        Self { status, words: words.collect() }
    }

    pub(crate) fn critical(address: impl ToString, words: &[&str]) -> Self {
        Self::new(Status::Critical, address, words)
    }

    pub(crate) fn unknown(address: impl ToString, words: &[&str]) -> Self {
        Self::new(Status::Unknown, address, words)
    }
}

/// A check that was made.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) report: HealthReport,
    pub(crate) took: Duration,
}

/// A set with this file's deadline.
pub(crate) fn set() -> ProbeSet {
    ProbeSet::new("test").with_options(ProbeSetOptions::default().with_probe_deadline(DEADLINE))
}

pub(crate) fn pg_target(url: &str, config: PgConfig) -> PgTarget {
    PgTarget::connect_lazily("main", &Secret::from(url.to_owned()), config).unwrap()
}

/// Every probe of a PostgreSQL.
pub(crate) async fn pg(url: &str) -> Checked {
    let target = pg_target(url, PgConfig::default());
    let mut all = set();
    target.add_all_to(&mut all);
    run(all, &target).await
}

/// Every probe of a Redis.
pub(crate) async fn redis(url: &str, options: RedisOptions) -> Checked {
    let target = RedisTarget::connect_lazily("cache", &Secret::from(url.to_owned()), options).unwrap();
    let mut all = set();
    target.add_all_to(&mut all);
    run(all, &target).await
}

/// Runs a set once. What it says, in whatever form, and what its parts say for debugging, is without the secret.
pub(crate) async fn run(set: ProbeSet, target: &impl Debug) -> Checked {
    let started = Instant::now();
    let report = set.run(&Context::new().with_window_gap(Duration::from_millis(200))).await;
    let checked = Checked { report, took: started.elapsed() };
    for said in spoken(&checked.report).into_iter().chain([format!("{target:?}{set:?}")]) {
        assert!(!said.contains(SENTINEL), "{said}");
    }
    checked
}

fn spoken(report: &HealthReport) -> Vec<String> {
    let style = Style::default().with_width(140).with_detail(Detail::Full);
    vec![
        render::json(report),
        render::human(report, &style),
        render::human(report, &Style::default()),
        render::markdown(report),
        render::nagios(report),
        render::openmetrics(report),
        format!("{report:?}"),
    ]
}

impl Checked {
    pub(crate) fn of(&self, probe: &str) -> &ProbeResult {
        self.report.probes.iter().find(|result| result.probe == probe).expect("a registered probe")
    }

    pub(crate) fn in_time(&self) -> &Self {
        assert!(self.took < BOUND, "{:?}: {:#?}", self.took, self.report);
        self
    }

    /// The probe `reachable` says as expected; the others tell the same cause, and none is ok or at a loss.
    pub(crate) fn cannot_look(&self, reachable: &str, expected: &Expected) {
        self.in_time();
        let first = self.of(reachable);
        assert_eq!(first.status, expected.status, "{first:#?}");
        let said = format!("{} {:?}", first.summary, first.unseen);
        for word in &expected.words {
            assert!(said.contains(word.as_str()), "{word:?} is not in {said}");
        }
        // What nobody configured is not looked at, whatever the server does.
        let unasked = |result: &ProbeResult| {
            let says = |word| result.summary.contains(word);
            result.status == Status::NotApplicable && (says("configured") || says("required"))
        };
        for result in self.report.probes.iter().filter(|result| !unasked(result)) {
            let dark = matches!(result.status, Status::Unknown | Status::Critical);
            assert!(
                dark && ["failed to", "whether"].iter().any(|why| result.summary.contains(why)),
                "{result:#?}"
            );
            assert!(!result.summary.contains("panicked"), "{result:#?}");
        }
        assert_ne!(self.report.status, Status::Ok);
    }

    /// Whatever could be seen before the end came, nothing is made up and nobody panicked.
    pub(crate) fn cut_short(&self) {
        self.in_time();
        for result in &self.report.probes {
            let known = matches!(result.status, Status::Ok | Status::NotApplicable | Status::Warning);
            let told = result.summary.contains("failed to") && !result.summary.contains("panicked");
            assert!(known || told, "{result:#?}");
        }
        let dark = |result: &&ProbeResult| matches!(result.status, Status::Unknown | Status::Critical);
        assert!(self.report.probes.iter().any(|result| dark(&result)), "{:#?}", self.report);
    }
}

/// Ends in mid-stream, early and late, in order and by reset.
pub(crate) fn cuts() -> Vec<Behaviour> {
    let cut = |after| [End::Close, End::Reset].map(|end| Behaviour::Cut { after, end });
    [0, 1, 5, 9, 30, 100, 400, 600, 900].into_iter().flat_map(cut).collect()
}

/// A URL that makes no sense is refused as what it is, without repeating it.
pub(crate) fn refused(made: Result<impl Debug, Error>) {
    let error = made.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Configuration), "{error:?}");
    let said = format!("{error} {error:?} {} {:?}", error.report(), error.fix());
    assert!(!said.contains(SENTINEL), "{said}");
    assert!(error.fix().is_some() && error.message().is_some(), "{said}");
}
