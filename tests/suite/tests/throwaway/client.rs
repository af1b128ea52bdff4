//! A client process to kill: this very test binary, asked to run the one ignored test below.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use ops_cache::server::Server;
use ops_core::Context;
use ops_pg::cluster::Cluster;
use ops_testkit::{RedisServer, local_redis_options, or_skip};

use super::any_local;

const ROLE: &str = "OPS_TEST_CLIENT";
const PARENT: &str = "OPS_TEST_PARENT";
const MARK: &str = "client says: ";

/// A running client, killed for good at the end of the test.
pub(super) struct Client {
    child: Child,
    pub(super) said: Vec<String>,
}

impl Client {
    pub(super) fn command(role: &str, parent: &Path) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "throwaway::client::process", "--ignored", "--nocapture"]);
        command.env(ROLE, role).env(PARENT, parent).stdin(Stdio::null());
        command
    }

    /// Starts a client as a terminal would, in a process group of its own.
    pub(super) fn spawn(role: &str, parent: &Path) -> Self {
        use std::os::unix::process::CommandExt;
        let child = Self::command(role, parent).process_group(0).stdout(Stdio::piped()).spawn().unwrap();
        Self { child, said: Vec::new() }
    }

    /// Waits until the client has said what it has to say; `None` where it had to skip.
    pub(super) fn ready(mut self) -> Option<Self> {
        let lines = BufReader::new(self.child.stdout.take().unwrap()).lines();
        for line in lines {
            let line = line.unwrap();
            // Without a capture, libtest's own words stand on the same line.
            match line.split_once(MARK) {
                Some((_, "ready")) => return Some(self),
                Some((_, "skipped")) => return None,
                Some((_, said)) => self.said.push(said.to_owned()),
                None => {}
            }
        }
        panic!("the client ended early, having said {:?}", self.said);
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn kill(&mut self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
        self.child.wait().unwrap();
    }

    /// What Ctrl-C does: the signal goes to everybody in the terminal's foreground.
    pub(super) fn kill_group(&mut self, signal: Signal) {
        killpg(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn say(what: impl std::fmt::Display) {
    println!("{MARK}{what}");
}

#[tokio::test]
#[ignore = "a client process for the tests beside it"]
async fn process() {
    let (Ok(role), Some(parent)) = (std::env::var(ROLE), std::env::var_os(PARENT)) else { return };
    let parent = PathBuf::from(parent);
    let cx = Context::new();
    match role.as_str() {
        "servers" => {
            let Some(options) = any_local().await else { return say("skipped") };
            let cluster = Cluster::start(&cx, &options.with_parent(&parent)).await.unwrap();
            let redis_options = local_redis_options().with_parent(&parent);
            let redis = Server::start(&cx, &redis_options).await.unwrap();
            // A child that outlives this process must not keep the servers alive.
            let bystander =
                Command::new("sleep").arg("60").stdin(Stdio::null()).stdout(Stdio::null()).spawn();
            say(bystander.unwrap().id());
            say(cluster.pid().unwrap());
            say(redis.pid().unwrap());
            say("ready");
            std::thread::sleep(Duration::from_secs(120));
            drop((cluster, redis));
        }
        "shared" => {
            let Some(options) = any_local().await else { return say("skipped") };
            let mut cluster = Cluster::start(&cx, &options.with_parent(&parent)).await.unwrap();
            cluster.share(&cx, Duration::from_secs(1)).await.unwrap();
            say(cluster.dir().display());
            say(cluster.url("postgres"));
            say("ready");
            std::thread::sleep(Duration::from_secs(120));
        }
        "container" => {
            let Some(redis) = or_skip(RedisServer::in_container().await) else { return say("skipped") };
            say(redis.container().unwrap());
            say("ready");
            std::thread::sleep(Duration::from_secs(120));
        }
        "needs redis" => {
            if RedisServer::fresh().await.is_some() {
                say("has it");
            }
        }
        other => panic!("no such role: {other}"),
    }
}
