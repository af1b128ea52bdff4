//! Every built-in probe of every domain, by what it says about itself.

use ops_core::ProbeSpec;

/// All of them, in the order of the report.
pub fn all() -> Vec<&'static ProbeSpec> {
    let postgres = ops_pg::registry().iter().map(|probe| probe.spec());
    let fleet = std::iter::once(&ops_pg::SINGLE_PRIMARY);
    let redis = ops_cache::registry().iter().map(|probe| probe.spec());
    let host = ops_host::host_registry().iter().map(|probe| probe.spec());
    let http = ops_host::http_registry().iter().map(|probe| probe.spec());
    postgres.chain(fleet).chain(redis).chain(host).chain(http).collect()
}

/// The probe of that name, or the one that reports that code.
pub fn find(name: &str) -> Option<&'static ProbeSpec> {
    let specs = all();
    let by_name = specs.iter().find(|spec| spec.name == name);
    let by_code = || specs.iter().find(|spec| spec.explanation.codes.iter().any(|(code, _)| *code == name));
    by_name.or_else(by_code).copied()
}

/// The name or code that looks most like `name`, where one does.
pub fn nearest(name: &str) -> Option<&'static str> {
    let specs = all();
    let names = specs.iter().flat_map(|spec| {
        std::iter::once(spec.name).chain(spec.explanation.codes.iter().map(|(code, _)| *code))
    });
    names
        .map(|candidate| (strsim::jaro_winkler(candidate, name), candidate))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// The groups of these probes, each once, in their order.
pub fn groups(specs: &[&ProbeSpec]) -> Vec<&'static str> {
    let mut groups = Vec::new();
    for spec in specs {
        if !groups.contains(&spec.group) {
            groups.push(spec.group);
        }
    }
    groups
}
