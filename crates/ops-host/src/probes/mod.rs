//! One file a probe: its `SPEC`, what it reads, and how it judges that.

#[cfg(feature = "http")]
mod answer;
#[cfg(feature = "systemd")]
pub(crate) mod clock;
#[cfg(feature = "kernel")]
pub(crate) mod cpu;
#[cfg(feature = "disk")]
pub(crate) mod disk;
#[cfg(feature = "http")]
pub(crate) mod endpoint;
#[cfg(feature = "http")]
pub(crate) mod graphql;
#[cfg(feature = "heartbeat")]
pub(crate) mod heartbeat;
#[cfg(feature = "http")]
mod http_error;
#[cfg(feature = "kernel")]
pub(crate) mod io;
#[cfg(feature = "kernel")]
pub(crate) mod load;
#[cfg(feature = "log")]
pub(crate) mod log;
#[cfg(feature = "kernel")]
pub(crate) mod memory;
#[cfg(feature = "kernel")]
pub(crate) mod network;
#[cfg(feature = "process")]
pub(crate) mod process;
#[cfg(feature = "systemd")]
pub(crate) mod service;
#[cfg(feature = "ws")]
pub(crate) mod subscription;
#[cfg(feature = "systemd")]
mod systemd;
#[cfg(feature = "systemd")]
pub(crate) mod timer;
#[cfg(any(feature = "kernel", feature = "process", feature = "systemd"))]
mod windowed;

#[cfg(all(test, feature = "disk", feature = "http"))]
mod tests {
    #[test]
    fn every_probe_explains_itself() {
        let host = crate::host_registry().iter().map(|probe| probe.spec());
        let http = crate::http_registry().iter().map(|probe| probe.spec());
        for spec in host.chain(http) {
            let text = spec.explanation;
            for part in [text.why, text.measures, text.versions, text.cost, text.remedy, spec.group] {
                assert!(!part.is_empty(), "{} leaves a part of its explanation out", spec.name);
            }
            assert!(!text.queries.is_empty() && !text.codes.is_empty());
            for (code, meaning) in text.codes {
                assert!(code.starts_with(&format!("{}.", spec.name)) && !meaning.is_empty(), "{code}");
            }
            for threshold in spec.thresholds {
                assert!(!threshold.source.is_empty() && !threshold.meaning.is_empty(), "{}", threshold.name);
            }
        }
    }
}
