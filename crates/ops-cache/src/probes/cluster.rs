//! `redis.cluster`: whether every slot is served, by nodes that see each other.

use async_trait::async_trait;
use ops_core::words::count;
use ops_core::{
    Context, Direction, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy,
    Requirement, Result, Severity, ThresholdSpec, Unit,
};
use serde_json::json;

use super::reply::text;
use crate::info::Info;
use crate::probe::RedisProbe;
use crate::target::RedisTarget;

/// The cluster specification's own number.
const SLOTS: u64 = 16_384;

pub(crate) static SPEC: ProbeSpec = ProbeSpec {
    name: "redis.cluster",
    group: "availability",
    explanation: Explanation {
        why: "A cluster with a slot that nobody serves refuses every command by default \
              (cluster-require-full-coverage), while each of its nodes still answers PING.",
        measures: "What this node sees: the state of the cluster, the slots that are assigned, failing and failed, \
                   and each node's flags. Nodes see each other by their own bus: ask several nodes, as targets of \
                   their own, to notice a split. A server that is no node of a cluster has nothing to say here.",
        queries: &[
            ("cluster_enabled", "INFO"),
            (
                "cluster_state, cluster_slots_assigned, cluster_slots_pfail, cluster_slots_fail",
                "CLUSTER INFO",
            ),
            ("each node's address, flags and slots", "CLUSTER NODES"),
        ],
        codes: &[
            ("redis.cluster.down", "the cluster's state is fail: by default every command is refused"),
            ("redis.cluster.slots", "some slots are assigned to no node: their keys cannot be used"),
            ("redis.cluster.node_failed", "the cluster agrees that a node is gone"),
            ("redis.cluster.node_silent", "this node has not heard from another one for its node timeout"),
            ("redis.cluster.no_replica", "a node with slots has fewer replicas than configured"),
        ],
        versions: "Redis 6.2 and later, Valkey 8 and later",
        cost: "two commands, whose replies grow with the nodes and not with the keys",
        remedy: "redis-cli --cluster check HOST:PORT names what is wrong. A failed node with slots: start it, or \
                 CLUSTER FAILOVER FORCE on its replica, which the other primaries vote on. TAKEOVER asks nobody, and \
                 can leave two nodes with the same slots: only where most primaries are gone for good. Unassigned \
                 slots: redis-cli --cluster fix.",
    },
    thresholds: &[ThresholdSpec {
        name: "replicas",
        meaning: "the replicas of a node with slots, that are not failed",
        unit: Unit::Count,
        direction: Direction::Below,
        warning: None,
        critical: None,
        source: "none by default: a cluster may do without; warning = 0 tells of nodes that nobody can replace",
    }],
    requires: &[
        Requirement::Command("info"),
        Requirement::Command("cluster|info"),
        Requirement::Command("cluster|nodes"),
    ],
};

/// See [`SPEC`].
#[derive(Debug)]
pub(crate) struct Cluster;

#[async_trait]
impl RedisProbe for Cluster {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    async fn probe(&self, cx: &Context, redis: &RedisTarget, limits: &Limits) -> Result<ProbeReport> {
        if redis.info(cx).await?.info.need::<u8>("cluster_enabled")? == 0 {
            return Ok(ProbeReport::not_applicable("it is no node of a cluster"));
        }
        let (state, _) = redis.query(cx, "run CLUSTER INFO", redis::cmd("CLUSTER").arg("INFO")).await?;
        let (nodes, _) = redis.query(cx, "run CLUSTER NODES", redis::cmd("CLUSTER").arg("NODES")).await?;
        let state = Info::parse(&text(&state).unwrap_or_default());
        judge(&state, &parse(&text(&nodes).unwrap_or_default()), limits)
    }
}

/// A line of `CLUSTER NODES`: `id ip:port@bus[,hostname] flags primary ping pong epoch link slot…`.
#[derive(Clone, Debug, PartialEq)]
struct Node {
    id: String,
    address: String,
    flags: Vec<String>,
    primary: String,
    slots: u64,
}

impl Node {
    fn is(&self, flag: &str) -> bool {
        self.flags.iter().any(|own| own == flag)
    }
}

/// What `CLUSTER NODES` tells.
#[derive(Debug, Default)]
struct Nodes {
    nodes: Vec<Node>,
    unreadable: usize,
}

fn parse(lines: &str) -> Nodes {
    let read: Vec<_> = lines.lines().filter(|line| !line.trim().is_empty()).map(parse_line).collect();
    let unreadable = read.iter().filter(|node| node.is_none()).count();
    Nodes { nodes: read.into_iter().flatten().collect(), unreadable }
}

fn parse_line(line: &str) -> Option<Node> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [id, address, flags, primary, _ping, _pong, _epoch, _link, slots @ ..] = fields.as_slice() else {
        return None;
    };
    Some(Node {
        id: (*id).to_owned(),
        address: address.split('@').next().unwrap_or_default().to_owned(),
        flags: flags.split(',').map(str::to_owned).collect(),
        primary: (*primary).to_owned(),
        slots: slots.iter().map(|range| width(range)).sum(),
    })
}

/// The slots of a range such as `0-5460` or `7`; a slot that moves, `[7->-id]`, is counted where it stands.
fn width(range: &str) -> u64 {
    let number = |text: &str| text.parse::<u64>().ok();
    match range.split_once('-') {
        Some((first, last)) => number(first).zip(number(last)).map_or(0, |(a, b)| b.saturating_sub(a) + 1),
        None => u64::from(number(range).is_some()),
    }
}

fn judge(state: &Info, told: &Nodes, limits: &Limits) -> Result<ProbeReport> {
    let nodes = told.nodes.as_slice();
    let word = state.need::<String>("cluster_state")?;
    let assigned: u64 = state.need("cluster_slots_assigned")?;
    let (failing, failed) = (state.number("cluster_slots_pfail"), state.number("cluster_slots_fail"));
    let evidence = json!({
        "state": word, "assigned": assigned, "failing": failing, "failed": failed, "nodes": nodes.len(),
    });
    let serving = nodes.iter().filter(|node| node.slots > 0).count();
    let slots = assigned.saturating_sub(failed.unwrap_or(0));
    let hidden = hidden(told, assigned, serving);
    let on = match &hidden {
        Some(_) => "on nodes that it does not show".to_owned(),
        None => format!("on {serving} of {}", count(nodes.len() as f64, "node", "nodes")),
    };
    let mut report =
        ProbeReport::new(format!("the cluster's state is {word}: {slots} of {SLOTS} slots {on}"));
    for (name, value) in [
        ("slots_assigned", Some(assigned)),
        ("slots_failing", failing),
        ("slots_failed", failed),
        ("nodes", Some(nodes.len() as u64)),
    ] {
        report = match value {
            Some(value) => report.measure(Measurement::new(name, value as f64, Unit::Count)),
            None => report.unseen(format!("{name}: CLUSTER INFO does not tell it"), None),
        };
    }
    report = hidden.into_iter().fold(report, |report, what| report.unseen(what, None));
    if word != "ok" {
        let message = format!("the cluster's state is {word}: by default every command is refused");
        report = report.finding(about_slots("redis.cluster.down", message, evidence.clone()));
    }
    if assigned < SLOTS {
        let message = format!("{} of {SLOTS} slots of the cluster are assigned to no node", SLOTS - assigned);
        report = report.finding(about_slots("redis.cluster.slots", message, evidence));
    }
    let report = nodes.iter().filter_map(silent).fold(report, ProbeReport::finding);
    Ok(nodes
        .iter()
        .filter(|node| node.slots > 0)
        .fold(report, |report, node| replicas(report, node, nodes, limits)))
}

/// What the list of nodes leaves out.
fn hidden(told: &Nodes, assigned: u64, serving: usize) -> Option<String> {
    if told.nodes.is_empty() {
        Some("the nodes of the cluster: CLUSTER NODES has no line that can be read".to_owned())
    } else if told.unreadable > 0 {
        let lines = count(told.unreadable as f64, "line", "lines");
        Some(format!("some nodes of the cluster: {lines} of CLUSTER NODES cannot be read"))
    } else if serving == 0 && assigned > 0 {
        Some("which nodes serve the slots: CLUSTER NODES names none".to_owned())
    } else {
        None
    }
}

fn about_slots(code: &'static str, message: String, evidence: serde_json::Value) -> Finding {
    Finding::critical(code, message).object("cluster").evidence(evidence).remedy(
        Remedy::statement("redis-cli --cluster check HOST:PORT")
            .because("names the slots and nodes that are missing"),
    )
}

/// A node that others, or this one, no longer hear of. With slots of its own it takes their keys along.
fn silent(node: &Node) -> Option<Finding> {
    let (code, what) = if node.is("fail") {
        ("redis.cluster.node_failed", "has failed")
    } else if node.is("fail?") {
        ("redis.cluster.node_silent", "does not answer this node")
    } else {
        return None;
    };
    let (severity, role) = match (node.is("fail"), node.slots) {
        (true, 1..) => (Severity::Critical, format!("with {} slots", node.slots)),
        (_, 1..) => (Severity::Warning, format!("with {} slots", node.slots)),
        _ => (Severity::Warning, "without slots".to_owned()),
    };
    let finding = Finding::new(severity, code, format!("node {} {role} {what}", node.address))
        .object(&node.address)
        .evidence(json!({"id": node.id, "flags": node.flags, "slots": node.slots}))
        .remedy(Remedy::advice(
            "Start it, or promote its replica: CLUSTER FAILOVER FORCE, sent to the replica, which the other primaries \
             vote on. TAKEOVER asks nobody, and where the node lives on for others two serve the same slots, and \
             writes are lost: only where most primaries are gone, and nobody can vote.",
        ));
    Some(finding)
}

fn replicas(report: ProbeReport, node: &Node, nodes: &[Node], limits: &Limits) -> ProbeReport {
    let sound = nodes.iter().filter(|other| other.primary == node.id && !other.is("fail")).count();
    let count = Measurement::new("replicas", sound as f64, Unit::Count)
        .judged_by(limits.get("replicas"))
        .label("node", &node.address);
    let finding = Severity::of(count.status()).map(|severity| {
        let message = match sound {
            0 => format!("nobody can replace node {} with its {} slots", node.address, node.slots),
            1 => format!("node {} has 1 replica", node.address),
            _ => format!("node {} has {sound} replicas", node.address),
        };
        Finding::new(severity, "redis.cluster.no_replica", message)
            .object(&node.address)
            .remedy(Remedy::statement("redis-cli --cluster add-node NEW:PORT HOST:PORT --cluster-replica"))
    });
    report.measure(count).findings(finding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ops_core::{Bounds, Status};

    /// As Redis 7.0 writes it, with a slot that moves.
    const NODES: &str = "\
07c37df 127.0.0.1:30004@31004,host4 slave e7d1eec 0 1426238317239 4 connected
67ed2db 127.0.0.1:30002@31002,host2 master - 0 1426238316232 2 connected 5461-10922
292f8b3 127.0.0.1:30003@31003,host3 master,fail? - 0 1426238318243 3 connected 10923-16383
e7d1eec 127.0.0.1:30001@31001,host1 myself,master - 0 0 1 connected 0-5459 5460 [5460->-67ed2db]
";

    fn state(word: &str, assigned: u64) -> Info {
        Info::parse(&format!(
            "cluster_state:{word}\r\ncluster_slots_assigned:{assigned}\r\ncluster_slots_pfail:0\r\ncluster_slots_fail:0\r\n"
        ))
    }

    #[test]
    fn nodes_are_read_with_their_slots() {
        let told = parse(NODES);
        assert_eq!(told.unreadable, 0);
        let nodes: Vec<_> = told.nodes.into_iter().map(|node| (node.address, node.slots)).collect();
        let expected = [
            ("127.0.0.1:30004", 0),
            ("127.0.0.1:30002", 5462),
            ("127.0.0.1:30003", 5461),
            ("127.0.0.1:30001", 5461),
        ];
        assert_eq!(nodes, expected.map(|(address, slots)| (address.to_owned(), slots)));
    }

    #[test]
    fn each_fault_has_its_code() {
        let calm = NODES.replace(",fail?", "");
        let failed = NODES.replace("fail?", "fail");
        for (word, assigned, nodes, status, codes) in [
            ("ok", SLOTS, calm.as_str(), Status::Ok, vec![]),
            ("ok", SLOTS, NODES, Status::Warning, vec!["redis.cluster.node_silent"]),
            (
                "fail",
                SLOTS,
                &failed,
                Status::Critical,
                vec!["redis.cluster.down", "redis.cluster.node_failed"],
            ),
            ("fail", SLOTS - 1, &calm, Status::Critical, vec!["redis.cluster.down", "redis.cluster.slots"]),
        ] {
            let report = judge(&state(word, assigned), &parse(nodes), &Limits::defaults(&SPEC)).unwrap();
            let found: Vec<_> = report.found().iter().map(|finding| finding.code.as_ref()).collect();
            assert_eq!((report.status(), found), (status, codes), "{word} {assigned}");
        }
    }

    #[test]
    fn nodes_that_are_not_shown_are_not_none() {
        let calm = NODES.replace(",fail?", "");
        let without_slots: String = calm
            .lines()
            .map(|line| line.split(" connected").next().unwrap().to_owned() + " connected\n")
            .collect();
        for nodes in ["", "+OK", "07c37df 127.0.0.1:30004", &without_slots, &(calm.clone() + "07c37df\n")] {
            let report = judge(&state("ok", SLOTS), &parse(nodes), &Limits::defaults(&SPEC)).unwrap();
            assert_eq!(report.status(), Status::Unknown, "{nodes}: {report:?}");
        }
        let untold = Info::parse("cluster_state:ok\ncluster_slots_assigned:16384\n");
        let report = judge(&untold, &parse(&calm), &Limits::defaults(&SPEC)).unwrap();
        assert_eq!(report.status(), Status::Unknown, "{report:?}");
    }

    #[test]
    fn replicas_are_asked_for_where_configured() {
        let limits =
            Limits::defaults(&SPEC).with("replicas", Bounds { warning: Some(0.0), critical: None }).unwrap();
        let report = judge(&state("ok", SLOTS), &parse(&NODES.replace(",fail?", "")), &limits).unwrap();
        let found: Vec<_> = report.found().iter().filter_map(|finding| finding.object.clone()).collect();
        assert_eq!(found, ["127.0.0.1:30002", "127.0.0.1:30003"]);
    }
}
