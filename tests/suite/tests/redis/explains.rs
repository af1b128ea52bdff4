//! What a registry owes to `ops explain`.

use ops_core::{ProbeResult, ProbeSpec};

/// Every part of the explanation is there, and every threshold says where it comes from.
pub(crate) fn itself(spec: &ProbeSpec) {
    let text = spec.explanation;
    for (what, said) in [
        ("why", text.why),
        ("measures", text.measures),
        ("versions", text.versions),
        ("cost", text.cost),
        ("remedy", text.remedy),
        ("group", spec.group),
    ] {
        assert!(said.len() > 3, "{}: {what}", spec.name);
    }
    assert!(!text.codes.is_empty() && !text.queries.is_empty(), "{}", spec.name);
    for (subject, meaning) in text.codes.iter().chain(text.queries) {
        assert!(!subject.is_empty() && meaning.len() > 3, "{}: {subject}", spec.name);
    }
    for threshold in spec.thresholds {
        assert!(!threshold.source.is_empty() && !threshold.meaning.is_empty(), "{}", threshold.name);
    }
}

/// What was found is explained.
pub(crate) fn findings_of(spec: &ProbeSpec, result: &ProbeResult) {
    for finding in &result.findings {
        let known = spec.explanation.codes.iter().any(|(code, _)| *code == finding.code);
        assert!(known, "{} does not explain {}", spec.name, finding.code);
    }
}
