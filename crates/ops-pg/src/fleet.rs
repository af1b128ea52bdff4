//! `fleet.single_primary`: of the servers that are copies of one another, does exactly one take writes?

use std::collections::BTreeMap;

use async_trait::async_trait;
use ops_core::{
    Context, Explanation, Finding, HealthProbe, Measurement, ProbeReport, ProbeSpec, Remedy, Result, Unit,
};
use serde_json::json;

use crate::target::PgTarget;

const IDENTITY: &str = crate::target::IDENTITY;

/// What the probe says about itself.
pub static SINGLE_PRIMARY: ProbeSpec = ProbeSpec {
    name: "fleet.single_primary",
    group: "availability",
    explanation: Explanation {
        why: "Two primaries of one cluster both take writes, and what each was given the other never gets: every \
              minute makes the damage larger. With no primary at all, nothing can be written.",
        measures: "Of all configured PostgreSQL targets, those with the same system identifier: how many are not in \
                   recovery. Two targets for one server, told by when it was started, count as one. A server that does \
                   not answer may be a primary too, so the answer is then unknown.",
        queries: &[
            ("whose copy a server is", IDENTITY),
            ("whether it takes writes", crate::capabilities::SQL),
        ],
        codes: &[
            ("fleet.single_primary.several", "several servers of one cluster take writes"),
            ("fleet.single_primary.none", "no server of a cluster takes writes"),
        ],
        versions: "PostgreSQL 14 and later",
        cost: "one round trip a server, shared with its other probes",
        remedy: "Several: stop clients from reaching all but one, then find out what each was given; do not restart \
                 anything first. A copy that was restored for tests has the same identifier and belongs in a \
                 configuration of its own. None: promote the standby that has replayed most, SELECT pg_promote().",
    },
    thresholds: &[],
    requires: &[],
};

/// Looks at several servers at once.
#[derive(Debug)]
pub struct SinglePrimary {
    nodes: Vec<PgTarget>,
}

/// A server that answered.
struct Node {
    names: Vec<String>,
    address: String,
    primary: bool,
}

impl SinglePrimary {
    /// Over these targets; with fewer than two there is nothing to compare.
    pub fn new(nodes: impl IntoIterator<Item = PgTarget>) -> Self {
        Self { nodes: nodes.into_iter().collect() }
    }
}

#[async_trait]
impl HealthProbe for SinglePrimary {
    fn name(&self) -> &str {
        SINGLE_PRIMARY.name
    }

    async fn probe(&self, cx: &Context) -> Result<ProbeReport> {
        let mut clusters: BTreeMap<String, BTreeMap<String, Node>> = BTreeMap::new();
        let mut silent = Vec::new();
        let asked = self.nodes.iter().map(|target| identified(cx, target));
        let answers = futures::future::join_all(asked).await;
        for (target, answer) in self.nodes.iter().zip(answers) {
            match answer {
                Ok((cluster, server, primary)) => {
                    let node = Node { names: Vec::new(), address: target.address().to_owned(), primary };
                    let servers = clusters.entry(cluster).or_default();
                    servers.entry(server).or_insert(node).names.push(target.name().to_owned());
                }
                Err(error) => silent.push((target.name(), error)),
            }
        }
        clusters.retain(|_, servers| servers.len() > 1 || !silent.is_empty());
        if clusters.is_empty() && silent.is_empty() {
            return Ok(ProbeReport::not_applicable("no two targets are servers of one cluster"));
        }
        let mut report = ProbeReport::new(summary(&clusters)).measure(Measurement::new(
            "clusters",
            clusters.len() as f64,
            Unit::Count,
        ));
        for (cluster, servers) in &clusters {
            report = report.findings(judge(cluster, servers, silent.is_empty()));
        }
        for (name, error) in silent {
            let what = format!("whether {name} is a primary: {}", error.report());
            report = report.unseen(what, error.fix().map(str::to_owned));
        }
        Ok(report)
    }
}

/// The cluster, the server in it, and whether it takes writes.
pub(crate) async fn identified(cx: &Context, target: &PgTarget) -> Result<(String, String, bool)> {
    let identity = target.system_identifier(cx).await?;
    let capabilities = target.capabilities(cx).await?;
    Ok((identity, capabilities.started_at.to_rfc3339(), !capabilities.in_recovery))
}

fn summary(clusters: &BTreeMap<String, BTreeMap<String, Node>>) -> String {
    let servers: usize = clusters.values().map(BTreeMap::len).sum();
    let primaries = clusters.values().flat_map(BTreeMap::values).filter(|node| node.primary).count();
    format!("{primaries} of {servers} servers take writes")
}

fn judge(cluster: &str, servers: &BTreeMap<String, Node>, all_answered: bool) -> Option<Finding> {
    let primaries: Vec<_> = servers.values().filter(|node| node.primary).collect();
    let names =
        |nodes: &[&Node]| nodes.iter().map(|node| node.names.join(" = ")).collect::<Vec<_>>().join(", ");
    let finding = match primaries.len() {
        1 => return None,
        0 if all_answered => Finding::critical(
            "fleet.single_primary.none",
            format!("none of {} takes writes", names(&servers.values().collect::<Vec<_>>())),
        )
        .remedy(Remedy::advice("promote the standby that has replayed most: SELECT pg_promote();")),
        0 => return None,
        n => Finding::critical(
            "fleet.single_primary.several",
            format!("{n} servers of one cluster take writes: {}", names(&primaries)),
        )
        .remedy(Remedy::advice(
            "keep clients away from all but one of them, and restart none, before anything else",
        )),
    };
    Some(servers.values().fold(finding.object(format!("cluster {cluster}")), |finding, node| {
        finding.evidence(json!({ "targets": node.names, "address": node.address, "primary": node.primary }))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(primaries: &[bool]) -> BTreeMap<String, Node> {
        let node = |(n, primary): (usize, &bool)| {
            let name = format!("node{n}");
            (name.clone(), Node { names: vec![name], address: "h:5432".into(), primary: *primary })
        };
        primaries.iter().enumerate().map(node).collect()
    }

    #[test]
    fn exactly_one_takes_writes() {
        for (primaries, all_answered, code) in [
            (&[true, false, false][..], true, None),
            (&[true, true, false], true, Some("fleet.single_primary.several")),
            (&[true, true], false, Some("fleet.single_primary.several")),
            (&[false, false], true, Some("fleet.single_primary.none")),
            // The one that does not answer may be it.
            (&[false, false], false, None),
        ] {
            let finding = judge("1", &servers(primaries), all_answered);
            assert_eq!(finding.as_ref().map(|finding| &*finding.code), code, "{primaries:?}");
        }
    }
}
