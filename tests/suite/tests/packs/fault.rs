//! What is done to a system that was well, and what its pack must say then.

use ops_core::Status;

/// One fault of a pack.
pub(crate) struct Fault {
    /// What the README calls it.
    pub(crate) name: &'static str,
    pub(crate) injected: Vec<Injected>,
    /// Every probe that must alarm, with the code of its finding; no other may.
    pub(crate) expected: &'static [(&'static str, &'static str)],
    pub(crate) status: Status,
}

/// What is done.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Injected {
    /// Run as the superuser, in a copy of the pack's database that is thrown away after.
    Sql(&'static str),
    /// Run again and again, by a session of its own, for as long as the check lasts.
    SqlAllTheWhile(&'static str),
    /// This many sessions.
    Sessions(usize),
    /// One command, as redis-cli takes it.
    Redis(&'static str),
    /// The same, again and again for as long as the check lasts.
    RedisAllTheWhile(&'static str),
    /// What the API answers under a path.
    Answer { path: &'static str, status: u16, body: &'static str },
    /// A line in a log, with the present time before it.
    Line { log: &'static str, text: &'static str, times: usize },
    /// The last success of a job was this many hours ago; without hours, there was none.
    Beat { job: &'static str, hours_ago: Option<u64> },
}

impl Fault {
    /// A critical one.
    pub(crate) fn critical(
        name: &'static str,
        injected: impl Into<Vec<Injected>>,
        expected: &'static [(&'static str, &'static str)],
    ) -> Self {
        Self { name, injected: injected.into(), expected, status: Status::Critical }
    }

    /// One to be warned of.
    pub(crate) fn warning(
        name: &'static str,
        injected: impl Into<Vec<Injected>>,
        expected: &'static [(&'static str, &'static str)],
    ) -> Self {
        Self { status: Status::Warning, ..Self::critical(name, injected, expected) }
    }
}
