//! The machine that ops runs on: its configuration, its probes, and how one is bound.

use std::collections::HashSet;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use ops_core::{Context, HealthProbe, Limits, ProbeReport, ProbeSpec, Result};
use serde::{Deserialize, Serialize};

use crate::probes;

/// The machine that ops runs on. What it says about disks holds for this machine only: of a server reached over
/// SQL alone the disk stays unknown.
///
/// ```
/// let config: ops_host::HostConfig = serde_json::from_str(r#"{"mounts": ["/", "/var/lib/postgresql"]}"#).unwrap();
/// assert!(serde_json::from_str::<ops_host::HostConfig>(r#"{"mount": "/"}"#).is_err());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct HostConfig {
    /// The mount points to look at; each must be mounted, and writable. Without it: every mounted device and
    /// network file system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mounts: Option<Vec<PathBuf>>,
}

impl HostConfig {
    /// Names the mount points to look at.
    #[must_use]
    pub fn with_mounts(mut self, mounts: impl IntoIterator<Item = PathBuf>) -> Self {
        self.mounts = Some(mounts.into_iter().collect());
        self
    }
}

/// A machine to look at. Cheap to clone.
#[derive(Clone, Debug)]
pub struct HostTarget {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    config: HostConfig,
    /// Mounts that have not answered an earlier look: asking again would only park another thread.
    silent: Mutex<HashSet<PathBuf>>,
}

impl HostTarget {
    /// This machine, under the name that the configuration gives it.
    pub fn new(name: impl Into<String>, config: HostConfig) -> Self {
        Self { shared: Arc::new(Shared { name: name.into(), config, silent: Mutex::default() }) }
    }

    /// The name that the configuration gives it.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Its configuration.
    pub fn config(&self) -> &HostConfig {
        &self.shared.config
    }

    /// A probe that looks at this machine.
    pub fn bind(&self, probe: &'static dyn HostProbe, limits: Limits) -> BoundHostProbe {
        BoundHostProbe { host: self.clone(), probe, limits }
    }

    /// Notes that `mount` is being asked, until the question is dropped; `None` while an earlier one is open.
    pub(crate) fn ask(&self, mount: &Path) -> Option<Question> {
        let new = self.silent().insert(mount.to_owned());
        new.then(|| Question { host: self.clone(), mount: mount.to_owned() })
    }

    fn silent(&self) -> std::sync::MutexGuard<'_, HashSet<PathBuf>> {
        self.shared.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open question to a mount. Dropping it closes it, also where its thread panics or never starts.
#[derive(Debug)]
pub(crate) struct Question {
    host: HostTarget,
    mount: PathBuf,
}

impl Drop for Question {
    fn drop(&mut self) {
        self.host.silent().remove(&self.mount);
    }
}

/// Looks at one thing on this machine. The contract is [`HealthProbe`]'s.
///
/// ```
/// use ops_core::{Context, Limits, ProbeReport, ProbeSpec, Result};
/// use ops_host::{HostProbe, HostTarget};
///
/// #[derive(Debug)]
/// struct Hostname;
///
/// #[async_trait::async_trait]
/// impl HostProbe for Hostname {
///     fn spec(&self) -> &'static ProbeSpec {
/// #       ops_host::host_registry()[0].spec()
///         // …
///     }
///     async fn probe(&self, _cx: &Context, host: &HostTarget, _limits: &Limits) -> Result<ProbeReport> {
///         Ok(ProbeReport::new(format!("{} is here", host.name())))
///     }
/// }
/// ```
#[async_trait]
pub trait HostProbe: Send + Sync + Debug {
    /// What it is called, why it matters, what it needs.
    fn spec(&self) -> &'static ProbeSpec;

    /// Looks once.
    async fn probe(&self, cx: &Context, host: &HostTarget, limits: &Limits) -> Result<ProbeReport>;
}

/// All built-in probes of the machine. A new one is its own file, its `mod` line, and its line here.
pub fn host_registry() -> &'static [&'static dyn HostProbe] {
    &[&probes::disk::Disk]
}

/// A probe with its machine and its thresholds: what [`HostTarget::bind`] makes.
#[derive(Clone, Debug)]
pub struct BoundHostProbe {
    host: HostTarget,
    probe: &'static dyn HostProbe,
    limits: Limits,
}

#[async_trait]
impl HealthProbe for BoundHostProbe {
    fn name(&self) -> &str {
        self.probe.spec().name
    }

    async fn probe(&self, cx: &Context) -> Result<ProbeReport> {
        self.probe.probe(cx, &self.host, &self.limits).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_closes_the_question() {
        let host = HostTarget::new("here", HostConfig::default());
        let mount = Path::new("/data");
        let question = host.ask(mount).unwrap();
        assert!(host.ask(mount).is_none());
        let reader = std::thread::spawn(move || {
            let _open = question;
            panic!("the reader meets a bug");
        });
        assert!(reader.join().is_err());
        assert!(host.ask(mount).is_some());
    }
}
