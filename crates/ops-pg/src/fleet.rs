//! `fleet.single_primary`: of the servers that are copies of one another, does exactly one take writes?

use std::collections::BTreeMap;

use async_trait::async_trait;
use ops_core::{
    Context, Explanation, Finding, HealthProbe, Measurement, ProbeReport, ProbeSpec, Remedy, Result, Unit,
};
use serde_json::json;

use crate::quote;
use crate::target::PgTarget;

const IDENTITY: &str = crate::target::IDENTITY;

/// Serves PostgreSQL 14 and later. What a standby receives from, and how many receive from it. Who may not see the
/// receiver's state gets a row with nothing but its process in it.
const STREAMS: &str = "
SELECT EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming')  AS receives,
       EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status IS NULL)        AS hidden,
       (SELECT count(*) FROM pg_stat_replication)                            AS feeds";

/// What the probe says about itself.
pub static SINGLE_PRIMARY: ProbeSpec = ProbeSpec {
    name: "fleet.single_primary",
    group: "availability",
    explanation: Explanation {
        why: "Two primaries of one cluster both take writes, and what each was given the other never gets: every \
              minute makes the damage larger. With no primary at all, nothing can be written.",
        measures: "Of all configured PostgreSQL targets, those with the same system identifier: how many are not in \
                   recovery. Two targets for one server, told by when it was started, count as one. A server that does \
                   not answer may be a primary too, so the answer is then unknown. So it is where standbys stream from \
                   a server that is not configured: that one may well be their primary.",
        queries: &[
            ("whose copy a server is", IDENTITY),
            ("whether it takes writes", crate::capabilities::SQL),
            ("whom standbys follow, where none does", STREAMS),
        ],
        codes: &[
            ("fleet.single_primary.several", "several servers of one cluster take writes"),
            ("fleet.single_primary.none", "no server of a cluster takes writes"),
        ],
        versions: "PostgreSQL 14 and later",
        cost: "one round trip a server, shared with its other probes; a second one where none takes writes",
        remedy: "Several: stop clients from reaching all but one, then find out what each was given; do not restart \
                 anything first. A copy that was restored for tests has the same identifier and belongs in a \
                 configuration of its own. None: first make sure that the old primary is down and cannot come back by \
                 itself, or there will be two; only then promote the standby that has received most, SELECT \
                 pg_promote().",
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
    /// Where to ask further.
    target: PgTarget,
}

/// Whom the standbys of a cluster without a primary follow.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Following {
    /// Nobody, or one another.
    NobodyElse,
    /// A server that is not configured.
    Another,
    /// We may not see.
    Hidden,
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
                    let (names, address) = (Vec::new(), target.address().to_owned());
                    let node = Node { names, address, primary, target: target.clone() };
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
            if servers.values().any(|node| node.primary) {
                report = report.findings(several(cluster, servers));
            } else if silent.is_empty() {
                report = match following(cx, servers).await? {
                    Following::NobodyElse => report.finding(none(cluster, servers)),
                    Following::Another => report.unseen(
                        format!(
                            "the primary of {}: they stream from a server that is not configured",
                            all(servers)
                        ),
                        Some("name the primary as well, in a [postgres.NAME] of its own".to_owned()),
                    ),
                    Following::Hidden => report.unseen(
                        format!("whether {} stream from a primary that is not configured", all(servers)),
                        servers.values().next().map(|node| {
                            format!("GRANT pg_read_all_stats TO {};", quote::ident(&node.target.role()))
                        }),
                    ),
                };
            }
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

fn several(cluster: &str, servers: &BTreeMap<String, Node>) -> Option<Finding> {
    let primaries: Vec<_> = servers.values().filter(|node| node.primary).collect();
    let finding = (primaries.len() > 1).then(|| {
        let names = names(primaries.iter().copied());
        let message = format!("{} servers of one cluster take writes: {names}", primaries.len());
        Finding::critical("fleet.single_primary.several", message).remedy(Remedy::advice(
            "keep clients away from all but one of them, and restart none, before anything else",
        ))
    })?;
    Some(about(finding, cluster, servers))
}

fn none(cluster: &str, servers: &BTreeMap<String, Node>) -> Finding {
    let message =
        format!("none of {} takes writes, and none of them streams from another server", all(servers));
    let finding = Finding::critical("fleet.single_primary.none", message).remedy(Remedy::advice(
        "first make sure that the old primary is down and cannot come back by itself, or there will be two; only then \
         promote the standby that has received most (pg_last_wal_receive_lsn()), with SELECT pg_promote()",
    ));
    about(finding, cluster, servers)
}

fn about(finding: Finding, cluster: &str, servers: &BTreeMap<String, Node>) -> Finding {
    servers.values().fold(finding.object(format!("cluster {cluster}")), |finding, node| {
        finding.evidence(json!({ "targets": node.names, "address": node.address, "primary": node.primary }))
    })
}

fn all(servers: &BTreeMap<String, Node>) -> String {
    names(servers.values())
}

fn names<'a>(nodes: impl Iterator<Item = &'a Node>) -> String {
    nodes.map(|node| node.names.join(" = ")).collect::<Vec<_>>().join(", ")
}

async fn following(cx: &Context, servers: &BTreeMap<String, Node>) -> Result<Following> {
    let mut streams = Vec::new();
    for node in servers.values() {
        for row in &node.target.read(cx, STREAMS).await? {
            let (receives, hidden) = (row.get("receives")?, row.get("hidden")?);
            streams.push(Streams { receives, hidden, feeds: row.get("feeds")? });
        }
    }
    Ok(whom(&streams))
}

/// What one standby receives, and how many it feeds.
#[derive(Clone, Copy, Debug)]
struct Streams {
    receives: bool,
    hidden: bool,
    feeds: i64,
}

/// A standby that streams follows one of the others, or a server that is not configured: that there is such a server
/// is certain where more receive than the others feed, and where all receive, since somebody is the first.
fn whom(streams: &[Streams]) -> Following {
    if streams.iter().any(|node| node.hidden) {
        return Following::Hidden;
    }
    let receivers = streams.iter().filter(|node| node.receives).count();
    let fed: i64 = streams.iter().map(|node| node.feeds).sum();
    match receivers > 0 && (receivers == streams.len() || receivers as i64 > fed) {
        true => Following::Another,
        false => Following::NobodyElse,
    }
}

#[cfg(test)]
mod tests {
    use ops_core::Secret;

    use super::*;
    use crate::config::PgConfig;

    fn servers(primaries: &[bool]) -> BTreeMap<String, Node> {
        let node = |(n, primary): (usize, &bool)| {
            let name = format!("node{n}");
            let url = Secret::from(format!("postgres://{name}/postgres"));
            let target = PgTarget::connect_lazily(&name, &url, PgConfig::default()).unwrap();
            let address = target.address().to_owned();
            (name.clone(), Node { names: vec![name], address, primary: *primary, target })
        };
        primaries.iter().enumerate().map(node).collect()
    }

    #[test]
    fn exactly_one_takes_writes() {
        for (primaries, code) in
            [(&[true, false, false][..], None), (&[true, true, false], Some("fleet.single_primary.several"))]
        {
            let finding = several("1", &servers(primaries));
            assert_eq!(finding.as_ref().map(|finding| &*finding.code), code, "{primaries:?}");
        }
        let advice = none("1", &servers(&[false, false])).remedy.unwrap().advice.unwrap();
        let (down, promote) = (advice.find("old primary is down"), advice.find("pg_promote"));
        assert!(down.is_some() && down < promote, "{advice}");
    }

    #[test]
    fn standbys_that_stream_follow_somebody() {
        let node = |receives, feeds| Streams { receives, hidden: false, feeds };
        for (why, streams, expected) in [
            ("both stream", vec![node(true, 0), node(true, 0)], Following::Another),
            ("one streams, the other restores", vec![node(true, 0), node(false, 0)], Following::Another),
            ("a cascade from a primary elsewhere", vec![node(true, 1), node(true, 0)], Following::Another),
            ("a cascade whose primary is gone", vec![node(false, 1), node(true, 0)], Following::NobodyElse),
            ("nobody streams", vec![node(false, 0), node(false, 0)], Following::NobodyElse),
            (
                "a receiver that we may not see",
                vec![Streams { hidden: true, ..node(false, 0) }, node(false, 0)],
                Following::Hidden,
            ),
        ] {
            assert_eq!(whom(&streams), expected, "{why}");
        }
    }
}
