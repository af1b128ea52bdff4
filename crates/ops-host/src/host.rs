//! The machine that ops runs on: its configuration, its probes, and how one is bound.

#[cfg(feature = "disk")]
use std::collections::HashSet;
use std::fmt::Debug;
#[cfg(feature = "disk")]
use std::path::{Path, PathBuf};
use std::sync::Arc;
#[cfg(feature = "disk")]
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use ops_core::{Context, HealthProbe, Limits, ProbeReport, ProbeSpec, Result};

use crate::config::HostConfig;
use crate::machine::Machine;
#[cfg(any(
    feature = "disk",
    feature = "kernel",
    feature = "process",
    feature = "systemd",
    feature = "log",
    feature = "heartbeat"
))]
use crate::probes;

/// A machine to look at. Cheap to clone.
#[derive(Clone, Debug)]
pub struct HostTarget {
    shared: Arc<Shared>,
    clocks: Arc<[Arc<dyn ReferenceClock>]>,
}

/// A clock that this machine's should agree with: a database server's, say.
#[async_trait]
pub trait ReferenceClock: Send + Sync + Debug {
    /// What reports call it.
    fn name(&self) -> &str;

    /// How many seconds it is ahead of this machine's, and by how much that may be wrong.
    ///
    /// # Errors
    /// Where it cannot be asked.
    async fn offset(&self, cx: &Context) -> Result<(f64, f64)>;
}

#[derive(Debug)]
struct Shared {
    name: String,
    config: HostConfig,
    machine: Machine,
    #[cfg(feature = "disk")]
    /// Mounts that have not answered an earlier look: asking again would only park another thread.
    silent: Mutex<HashSet<PathBuf>>,
}

impl HostTarget {
    /// This machine, under the name that the configuration gives it.
    pub fn new(name: impl Into<String>, config: HostConfig) -> Self {
        Self::on(name, config, Machine::default())
    }

    /// A machine whose facts are found elsewhere: the host's, seen from within a container.
    pub fn on(name: impl Into<String>, config: HostConfig, machine: Machine) -> Self {
        Self {
            shared: Arc::new(Shared {
                name: name.into(),
                config,
                machine,
                #[cfg(feature = "disk")]
                silent: Mutex::default(),
            }),
            clocks: Arc::default(),
        }
    }

    /// Says which clocks this machine's should agree with.
    #[must_use]
    pub fn with_clocks(mut self, clocks: impl IntoIterator<Item = Arc<dyn ReferenceClock>>) -> Self {
        self.clocks = clocks.into_iter().collect();
        self
    }

    #[cfg(feature = "systemd")]
    pub(crate) fn clocks(&self) -> &[Arc<dyn ReferenceClock>] {
        &self.clocks
    }

    /// The name that the configuration gives it.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Its configuration.
    pub fn config(&self) -> &HostConfig {
        &self.shared.config
    }

    /// Where its facts are found.
    pub fn machine(&self) -> &Machine {
        &self.shared.machine
    }

    /// A probe that looks at this machine.
    pub fn bind(&self, probe: &'static dyn HostProbe, limits: Limits) -> BoundHostProbe {
        BoundHostProbe { host: self.clone(), probe, limits }
    }

    #[cfg(feature = "disk")]
    /// Notes that `mount` is being asked, until the question is dropped; `None` while an earlier one is open.
    pub(crate) fn ask(&self, mount: &Path) -> Option<Question> {
        let new = self.silent().insert(mount.to_owned());
        new.then(|| Question { host: self.clone(), mount: mount.to_owned() })
    }

    #[cfg(feature = "disk")]
    fn silent(&self) -> std::sync::MutexGuard<'_, HashSet<PathBuf>> {
        self.shared.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(feature = "disk")]
/// An open question to a mount. Dropping it closes it, also where its thread panics or never starts.
#[derive(Debug)]
pub(crate) struct Question {
    host: HostTarget,
    mount: PathBuf,
}

#[cfg(feature = "disk")]
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
    &[
        #[cfg(feature = "kernel")]
        &probes::cpu::Cpu,
        #[cfg(feature = "kernel")]
        &probes::memory::Memory,
        #[cfg(feature = "disk")]
        &probes::disk::Disk,
        #[cfg(feature = "kernel")]
        &probes::io::Io,
        #[cfg(feature = "kernel")]
        &probes::network::Network,
        #[cfg(feature = "kernel")]
        &probes::load::Load,
        #[cfg(feature = "systemd")]
        &probes::clock::Clock,
        #[cfg(feature = "process")]
        &probes::process::Process,
        #[cfg(feature = "systemd")]
        &probes::service::Service,
        #[cfg(feature = "systemd")]
        &probes::timer::Timer,
        #[cfg(feature = "log")]
        &probes::log::Log,
        #[cfg(feature = "heartbeat")]
        &probes::heartbeat::Heartbeat,
    ]
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

#[cfg(all(test, feature = "disk"))]
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
