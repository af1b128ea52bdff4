//! One file a probe: its `SPEC`, what it reads, and how it judges that.

#[cfg(feature = "disk")]
pub(crate) mod disk;
#[cfg(feature = "http")]
pub(crate) mod endpoint;
#[cfg(feature = "http")]
mod http_error;

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
