//! The health probe, and what a probe says about itself.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;

use crate::context::Context;
use crate::error::Result;
use crate::report::ProbeReport;
use crate::threshold::ThresholdSpec;

/// Looks at one thing and reports.
///
/// **Unhealthy is data**: a server that is down, a disk that is full, a rule that is broken are all `Ok` with
/// findings. `Err` means "could not tell", and becomes [`Status::Unknown`](crate::Status::Unknown), never ok.
///
/// A probe reads only. It honours the deadline and the cancellation of its context (most simply by awaiting
/// through [`Context::run`]) and leaves nothing behind when either strikes. [`ProbeSet`](crate::ProbeSet) runs
/// each probe in a task of its own, so one that hangs or panics costs itself and not the report.
///
/// # Errors
/// Whatever kept the probe from seeing: the kind tells why, and [`Error::fix`](crate::Error::fix) what would help.
///
/// See the [crate documentation](crate) for an example.
#[async_trait]
pub trait HealthProbe: Send + Sync + Debug {
    /// The probe's stable name, `family.subject`, such as `pg.connections`.
    fn name(&self) -> &str;

    /// Looks once.
    async fn probe(&self, cx: &Context) -> Result<ProbeReport>;
}

#[async_trait]
impl<P: HealthProbe + ?Sized> HealthProbe for Arc<P> {
    fn name(&self) -> &str {
        (**self).name()
    }
    async fn probe(&self, cx: &Context) -> Result<ProbeReport> {
        (**self).probe(cx).await
    }
}

#[async_trait]
impl<P: HealthProbe + ?Sized> HealthProbe for Box<P> {
    fn name(&self) -> &str {
        (**self).name()
    }
    async fn probe(&self, cx: &Context) -> Result<ProbeReport> {
        (**self).probe(cx).await
    }
}

/// What a built-in probe declares about itself: enough for `ops explain`, for `ops.toml` to check its
/// thresholds, and for the probe to check that it can see before it judges.
#[derive(Clone, Copy, Debug)]
pub struct ProbeSpec {
    /// The stable name.
    pub name: &'static str,
    /// The family it is scored with: one family cannot sink the whole score.
    pub group: &'static str,
    /// The prose of `ops explain`.
    pub explanation: Explanation,
    /// The thresholds with their defaults.
    pub thresholds: &'static [ThresholdSpec],
    /// What it needs in order to see.
    pub requires: &'static [Requirement],
}

/// The prose of `ops explain PROBE`.
#[derive(Clone, Copy, Debug)]
pub struct Explanation {
    /// Why an operator cares: what breaks, and how soon.
    pub why: &'static str,
    /// What is measured, and how.
    pub measures: &'static str,
    /// What each statement, command or file is asked for, and then the statement, formatted, the command, or the path.
    pub queries: &'static [(&'static str, &'static str)],
    /// The codes of its findings, with what each means.
    pub codes: &'static [(&'static str, &'static str)],
    /// Which server versions it serves.
    pub versions: &'static str,
    /// What a run costs the server.
    pub cost: &'static str,
    /// What to do when it alarms.
    pub remedy: &'static str,
}

/// What a probe needs in order to see. A missing one makes it `Unknown`, with the statement that would grant it;
/// only a version that the server proves makes it `NotApplicable`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Requirement {
    /// Membership in a predefined role, such as `pg_read_all_stats`.
    Role(&'static str),
    /// A privilege given by its own statement; `{role}` stands for the current role.
    Grant {
        /// What is needed, in words.
        what: &'static str,
        /// The statement that gives it.
        statement: &'static str,
    },
    /// An extension in the probed database.
    Extension(&'static str),
    /// A minimal server version, as the server counts it (`160000` for PostgreSQL 16, `70000` for Redis 7).
    ServerVersion(u32),
    /// A command that the user may run, such as `info`.
    Command(&'static str),
}
