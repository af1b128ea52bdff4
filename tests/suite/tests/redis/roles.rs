use ops_core::{ProbeResult, Requirement, Status};
use ops_testkit::{RedisServer, or_skip};

use crate::plants::{ask, run};
use crate::rows::{Row, context, probe_named, rows};

/// What an ACL user may do.
#[derive(Clone, Copy, Debug)]
enum Role {
    Nothing,
    PingOnly,
    /// What the documentation asks for.
    PingAndInfo,
}

impl Role {
    fn rules(self) -> &'static str {
        match self {
            Role::Nothing => "",
            Role::PingOnly => "+ping",
            Role::PingAndInfo => "+ping +info",
        }
    }
}

/// The admin applies a fix. A server in a script without end takes no command at all.
async fn apply(server: &RedisServer, fix: &str) -> Result<(), String> {
    assert!(fix.starts_with("ACL SETUSER watcher +"), "{fix}");
    ask::<String>(server, fix).await.map(drop).map_err(|error| error.to_string())
}

/// Whether the probe says that ping and info are not all.
fn needs_more(row: &Row) -> bool {
    let usual = [Requirement::Command("ping"), Requirement::Command("info")];
    probe_named(row.probe).spec().requires.iter().any(|requirement| !usual.contains(requirement))
}

/// What the default user sees is wrong must not look right to anybody else; and what hides it has a name:
/// applying the fixes that are given, and nothing else, shows what the default user saw.
async fn gets_no_false_ok(row: &Row, server: &RedisServer, role: Role) {
    let cx = context();
    row.prepare(server).await;
    run(server, &format!("ACL SETUSER watcher on >hunter2 {}", role.rules())).await;
    let address = server.address().to_string();
    // The windowed probes' baseline.
    row.look(&cx, &format!("redis://{address}")).await;

    let planted = (row.plant)(server).await;
    let address = planted.address.clone().unwrap_or(address);
    let url = format!("redis://watcher:hunter2@{address}");
    let (mut fixes, mut result) = (Vec::new(), row.look(&cx, &url).await);
    let closed = |result: &ProbeResult| {
        result.status == Status::Unknown || result.unseen.iter().any(|unseen| unseen.fix.is_some())
    };
    while closed(&result) && fixes.len() < 4 {
        let more = needs_more(row);
        assert!(
            more || !matches!(role, Role::PingAndInfo),
            "{} needs more than it says: {result:#?}",
            row.probe
        );
        let fix = result.unseen[0].fix.clone();
        let fix = fix.unwrap_or_else(|| panic!("{} as {role:?} names no fix: {result:#?}", row.probe));
        if let Err(why) = apply(server, &fix).await {
            assert!(row.code == "redis.server.busy" && why.contains("busy"), "{fix}: {why}");
            return;
        }
        fixes.push(fix);
        result = row.look(&cx, &url).await;
    }
    let object = planted.object.clone().unwrap_or(address);
    assert_eq!(result.status, row.expected, "{} as {role:?} after {fixes:?}: {result:#?}", row.code);
    assert!(row.shows(&object, &result), "{} as {role:?} after {fixes:?}: {result:#?}", row.code);
}

async fn each_row_as(role: Role) {
    for row in rows() {
        let Some(server) = or_skip(row.server().await) else { return };
        gets_no_false_ok(&row, &server, role).await;
    }
}

#[tokio::test]
async fn a_user_with_nothing_gets_no_false_ok() {
    each_row_as(Role::Nothing).await;
}

#[tokio::test]
async fn a_user_with_ping_gets_no_false_ok() {
    each_row_as(Role::PingOnly).await;
}

#[tokio::test]
async fn ping_and_info_are_all_that_is_needed() {
    each_row_as(Role::PingAndInfo).await;
}
