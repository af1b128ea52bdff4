//! What a PostgreSQL probe is, and how one becomes a [`HealthProbe`].

use std::fmt::Debug;

use async_trait::async_trait;
use ops_core::{Context, Error, ErrorKind, HealthProbe, Limits, ProbeReport, ProbeSet, ProbeSpec, Result};

use crate::capabilities::Missing;
use crate::probes;
use crate::target::PgTarget;

/// Whether a probe looks at the whole cluster or into one database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Once per cluster: the answer is the same from every database.
    Cluster,
    /// Once per configured database.
    Database,
}

/// A probe of a PostgreSQL server: what it says about itself, and how it looks. The requirements of its spec are
/// checked before [`PgProbe::probe`] is called, so that it judges only what it can see.
///
/// # Errors
/// Whatever kept it from seeing; the result is then `Unknown`, unless [`PgProbe::judge_failure`] knows better.
#[async_trait]
pub trait PgProbe: Send + Sync + Debug {
    /// What it says about itself.
    fn spec(&self) -> &'static ProbeSpec;

    /// Whether it looks at the cluster or into a database.
    fn scope(&self) -> Scope;

    /// Looks once.
    async fn probe(&self, cx: &Context, pg: &PgTarget, limits: &Limits) -> Result<ProbeReport>;

    /// What a failure itself says about the server, for the few probes that it answers: a refused connection is
    /// what `pg.reachable` is about.
    fn judge_failure(&self, _error: &Error) -> Option<ProbeReport> {
        None
    }
}

/// Every built-in probe, in the order of the report. Adding one takes its own file, its `mod` line, and its line
/// there.
pub fn registry() -> &'static [&'static dyn PgProbe] {
    probes::ALL
}

/// A probe bound to its target and its thresholds.
#[derive(Clone, Debug)]
pub struct BoundProbe {
    probe: &'static dyn PgProbe,
    target: PgTarget,
    limits: Limits,
}

impl PgTarget {
    /// Binds a probe to this target.
    pub fn bind(&self, probe: &'static dyn PgProbe, limits: Limits) -> BoundProbe {
        BoundProbe { probe, target: self.clone(), limits }
    }

    /// Adds every built-in probe, with its default thresholds.
    pub fn add_all_to(&self, set: &mut ProbeSet) {
        for probe in registry() {
            self.add_to(set, *probe, Limits::defaults(probe.spec()));
        }
    }

    /// Adds one probe.
    pub fn add_to(&self, set: &mut ProbeSet, probe: &'static dyn PgProbe, limits: Limits) {
        let database = match probe.scope() {
            Scope::Cluster => None,
            Scope::Database => self.database(),
        };
        set.add_grouped(self.name(), database, probe.spec().group, self.bind(probe, limits));
    }
}

impl BoundProbe {
    /// What it sees, with steps that are possible where the server is.
    async fn look(&self, cx: &Context) -> Result<ProbeReport> {
        let outcome = self.judge(cx).await;
        let refused = |error: &Error| error.kind() == ErrorKind::PermissionDenied && error.fix().is_none();
        if outcome.as_ref().is_err_and(|error| !refused(error)) {
            return outcome;
        }
        let Some(managed) = self.target.managed(cx).await else { return outcome };
        match outcome {
            Ok(report) => Ok(report.saying_instead(|statement| managed.instead_of(statement))),
            Err(error) => Err(error.with_fix(managed.refused())),
        }
    }

    async fn judge(&self, cx: &Context) -> Result<ProbeReport> {
        let requires = self.probe.spec().requires;
        if !requires.is_empty() {
            match self.target.capabilities(cx).await?.missing(requires) {
                Some(Missing::Unknown { what, fix }) => {
                    return Ok(ProbeReport::unknown(what, Some(fix).filter(|fix| !fix.is_empty())));
                }
                Some(Missing::NotApplicable { reason }) => return Ok(ProbeReport::not_applicable(reason)),
                None => {}
            }
        }
        self.probe.probe(cx, &self.target, &self.limits).await
    }
}

#[async_trait]
impl HealthProbe for BoundProbe {
    fn name(&self) -> &str {
        self.probe.spec().name
    }

    async fn probe(&self, cx: &Context) -> Result<ProbeReport> {
        self.look(cx).await.or_else(|error| self.probe.judge_failure(&error).ok_or(error))
    }
}
