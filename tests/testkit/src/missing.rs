//! A server that is not here: skipped loudly on a laptop, a failure in CI.

use std::fmt;
use std::io::Write;

/// What a test needs and this machine does not have.
#[derive(Clone, Debug)]
pub struct Missing {
    what: String,
    how: String,
}

impl Missing {
    /// `what` is missing, for the reason it holds; `scripts/setup test` gets it.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), how: "run scripts/setup test".into() }
    }

    /// What is missing, and why.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// Another way to get it.
    #[must_use]
    pub fn with_how(mut self, how: impl Into<String>) -> Self {
        self.how = how.into();
        self
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; to get it, {}", self.what, self.how)
    }
}

impl std::error::Error for Missing {}

/// What was found; or `None` after a loud line on stderr, on which the test returns.
///
/// `OPS_REQUIRE_SERVERS=1` makes a missing server a failure. A test runner may hide the stderr of a test that
/// passes: the lines are appended to the file `OPS_SKIP_LOG` names as well, for a script to show at its end.
///
/// # Panics
/// Where servers are required, with what is missing and how to get it.
#[track_caller]
pub fn or_skip<T>(found: Result<T, Missing>) -> Option<T> {
    let required = std::env::var("OPS_REQUIRE_SERVERS").is_ok_and(|value| !matches!(&*value, "" | "0"));
    or_skip_to(found, required, &mut |line| {
        eprintln!("{line}");
        if let Some(path) = std::env::var_os("OPS_SKIP_LOG") {
            let log = std::fs::OpenOptions::new().append(true).create(true).open(path);
            log.and_then(|mut file| writeln!(file, "{line}")).expect("OPS_SKIP_LOG is writable");
        }
    })
}

/// [`or_skip`] without the environment.
///
/// # Panics
/// Where servers are `required`.
#[track_caller]
pub fn or_skip_to<T>(found: Result<T, Missing>, required: bool, say: &mut dyn FnMut(&str)) -> Option<T> {
    match found {
        Ok(found) => Some(found),
        Err(missing) if required => panic!("MISSING: {missing} (OPS_REQUIRE_SERVERS is set)"),
        Err(missing) => {
            let thread = std::thread::current();
            say(&format!("SKIPPED: {}: {missing}", thread.name().unwrap_or("a test")));
            None
        }
    }
}
