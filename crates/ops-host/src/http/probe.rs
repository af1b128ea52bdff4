//! What a probe of an endpoint is, and how one is bound.

use std::fmt::Debug;

use async_trait::async_trait;
use ops_core::{Context, HealthProbe, Limits, ProbeReport, ProbeSpec, Result};

use super::target::HttpTarget;
use crate::probes;

/// Looks at one thing about an endpoint. The contract is [`HealthProbe`]'s.
///
/// ```
/// use ops_core::{Context, Limits, ProbeReport, ProbeSpec, Result};
/// use ops_host::{HttpProbe, HttpTarget};
///
/// #[derive(Debug)]
/// struct Named;
///
/// #[async_trait::async_trait]
/// impl HttpProbe for Named {
///     fn spec(&self) -> &'static ProbeSpec {
/// #       ops_host::http_registry()[0].spec()
///         // …
///     }
///     async fn probe(&self, _cx: &Context, endpoint: &HttpTarget, _limits: &Limits) -> Result<ProbeReport> {
///         Ok(ProbeReport::new(format!("{} is configured", endpoint.display())))
///     }
/// }
/// ```
#[async_trait]
pub trait HttpProbe: Send + Sync + Debug {
    /// What it is called, why it matters, what it needs.
    fn spec(&self) -> &'static ProbeSpec;

    /// Looks once.
    async fn probe(&self, cx: &Context, endpoint: &HttpTarget, limits: &Limits) -> Result<ProbeReport>;
}

/// All built-in probes of endpoints. A new one is its own file, its `mod` line, and its line here.
pub fn http_registry() -> &'static [&'static dyn HttpProbe] {
    &[
        &probes::endpoint::Endpoint,
        &probes::graphql::Graphql,
        #[cfg(feature = "ws")]
        &probes::subscription::Subscription,
    ]
}

/// A probe with its endpoint and its thresholds: what [`HttpTarget::bind`] makes.
#[derive(Clone, Debug)]
pub struct BoundHttpProbe {
    endpoint: HttpTarget,
    probe: &'static dyn HttpProbe,
    limits: Limits,
}

impl BoundHttpProbe {
    pub(super) fn new(endpoint: HttpTarget, probe: &'static dyn HttpProbe, limits: Limits) -> Self {
        Self { endpoint, probe, limits }
    }
}

#[async_trait]
impl HealthProbe for BoundHttpProbe {
    fn name(&self) -> &str {
        self.probe.spec().name
    }

    async fn probe(&self, cx: &Context) -> Result<ProbeReport> {
        self.probe.probe(cx, &self.endpoint, &self.limits).await
    }
}
