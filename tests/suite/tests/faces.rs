//! `ops` as it is met: what it prints where, and the code that it ends with.

#[path = "faces/codes.rs"]
mod codes;
#[path = "faces/config.rs"]
mod config;
#[path = "faces/explain.rs"]
mod explain;
#[path = "faces/grants.rs"]
mod grants;
#[path = "faces/help.rs"]
mod help;
#[path = "demo/local.rs"]
mod local;
#[path = "faces/managed.rs"]
mod managed;
#[path = "faces/memory.rs"]
mod memory;
#[path = "faces/nodes.rs"]
mod nodes;
#[path = "faces/renderings.rs"]
mod renderings;
#[path = "faces/secrets.rs"]
mod secrets;
#[path = "faces/streams.rs"]
mod streams;

use ops_core::Context;
use ops_runbook::demo::{Demo, plants};
use ops_testkit::Said;

use crate::local::Local;

/// A shop on servers of its own, where nothing is wrong.
async fn healthy(local: &Local) -> Demo {
    let all = plants().iter().map(|plant| plant.name().to_owned());
    Demo::start(&Context::new(), &local.options().without(all)).await.unwrap()
}

/// Runs `ops` in an empty directory, where the servers are not needed.
fn ops(arguments: &[&str]) -> Said {
    let empty = tempfile::tempdir().unwrap();
    Said::by(Local::nothing().ops(arguments).current_dir(&empty))
}
