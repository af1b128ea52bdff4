//! However `ops demo` ends, no process and no file of it stays.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use ops_testkit::eventually;

use crate::local::local;
use crate::processes;

/// How long anything may take to go: 10 s of grace, in which initdb may finish, and the rest.
const SOON: Duration = Duration::from_secs(20);
/// Starting may wait for a machine that is busy with other tests.
const STARTED: Duration = Duration::from_secs(60);

/// How far the demo is when the signal comes.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// There is a scratch directory.
    Begun,
    /// initdb writes the cluster.
    Initdb,
    /// PostgreSQL accepts connections.
    Up,
    /// The last fault is planted: somebody waits for a lock.
    Planted,
    /// Everything has been shown, and `--keep` waits for the signal.
    Kept,
}

/// A demo in a directory of its own, killed for good at the end of the test.
struct Demo {
    child: Child,
    parent: tempfile::TempDir,
}

impl Demo {
    async fn start(arguments: &[&str]) -> Option<Self> {
        let parent = tempfile::Builder::new().prefix("it's a ").tempdir_in("/tmp").unwrap();
        fs::set_permissions(parent.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        let mut ops = local().await?.ops(&["demo", "--dir", parent.path().to_str().unwrap()]);
        ops.args(arguments);
        // As a terminal would: in a process group of its own.
        let ops = ops.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Some(Self { child: ops.spawn().unwrap(), parent })
    }

    fn scratch(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.parent.path()).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    fn is_at(&self, moment: Moment) -> bool {
        let has = |file: &str| self.scratch().iter().any(|dir| dir.join(file).exists());
        match moment {
            Moment::Begun => !self.scratch().is_empty(),
            Moment::Initdb => has("data/base"),
            Moment::Up => has("data/postmaster.pid") && has("redis.sock"),
            Moment::Planted => self.titles().iter().any(|title| title.contains("ALTER TABLE waiting")),
            Moment::Kept => has("ops.toml"),
        }
    }

    /// What its servers' processes say of themselves.
    fn titles(&self) -> Vec<String> {
        let servers: Vec<String> = self.servers().iter().map(u32::to_string).collect();
        let said =
            Command::new("ps").args(["-ww", "-o", "args=", "-p", &servers.join(",")]).output().unwrap();
        String::from_utf8_lossy(&said.stdout).lines().map(str::to_owned).collect()
    }

    /// Its servers with their children, and the reapers.
    fn servers(&self) -> Vec<u32> {
        let named = processes::mentioning(self.parent.path());
        let pids = named.iter().filter_map(|line| line.split_whitespace().next()?.parse().ok());
        let own = self.child.id();
        pids.filter(|pid| *pid != own).flat_map(processes::family).filter(|pid| *pid != own).collect()
    }

    fn signal(&self, signal: Signal) {
        // What Ctrl-C does: the signal goes to everybody in the terminal's foreground.
        killpg(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    async fn ended(&mut self) -> ExitStatus {
        let child = &mut self.child;
        eventually("the end of ops", SOON, async || child.try_wait().unwrap()).await
    }

    /// Sees that everything goes that was there.
    async fn is_gone(&self, servers: &[u32]) {
        eventually("no server and no file", SOON, async || {
            let runs = servers.iter().any(|pid| processes::runs(*pid));
            let named = processes::mentioning(self.parent.path());
            (!runs && named.is_empty() && self.scratch().is_empty()).then_some(())
        })
        .await;
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

async fn ends(arguments: &[&str], moment: Moment, signal: Signal) {
    let Some(mut demo) = Demo::start(arguments).await else { return };
    eventually(&format!("{moment:?}"), STARTED, async || demo.is_at(moment).then_some(())).await;
    let servers = demo.servers();
    assert!(!servers.is_empty(), "{moment:?}");
    demo.signal(signal);
    let status = demo.ended().await;
    match (signal, moment) {
        (Signal::SIGKILL, _) => assert_eq!(status.signal(), Some(9)),
        // Somebody who asked for it to be kept ends it this way.
        (_, Moment::Kept) => assert_eq!(status.code(), Some(0)),
        // What a shell expects of a program that the signal ended.
        _ => assert_eq!(status.code(), Some(128 + signal as i32)),
    }
    if signal != Signal::SIGKILL {
        // Whoever gets the prompt back finds nothing.
        assert!(demo.scratch().is_empty(), "{:?}", demo.scratch());
    }
    demo.is_gone(&servers).await;
}

/// One test a moment and signal.
macro_rules! ends {
    ($($signal_name:ident($signal:ident): $($test:ident($moment:ident)),*;)*) => {
        $(mod $signal_name {
            use super::{Moment, Signal, ends};

            $(#[tokio::test]
            async fn $test() {
                ends(&["--keep"], Moment::$moment, Signal::$signal).await;
            })*
        })*
    };
}

ends! {
    interrupted(SIGINT): begun(Begun), initdb(Initdb), up(Up), planted(Planted), kept(Kept);
    terminated(SIGTERM): up(Up), kept(Kept);
    killed(SIGKILL): begun(Begun), initdb(Initdb), up(Up), planted(Planted), kept(Kept);
}

#[tokio::test]
async fn one_that_nobody_keeps_ends_the_same_way() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        ends(&[], Moment::Up, signal).await;
    }
}

#[tokio::test]
async fn asked_twice_it_ends_at_once() {
    let Some(mut demo) = Demo::start(&["--keep"]).await else { return };
    eventually("two servers", STARTED, async || demo.is_at(Moment::Kept).then_some(())).await;
    let servers = demo.servers();
    let stderr = BufReader::new(demo.child.stderr.take().unwrap());
    // A frozen server cannot end: ops waits for it, until asked again.
    let frozen = Frozen::of(&servers);
    demo.signal(Signal::SIGINT);
    let said = stderr.lines().map(Result::unwrap).find(|line| line.starts_with("ops: stopping"));
    assert!(said.is_some());
    demo.signal(Signal::SIGINT);
    assert_eq!(demo.ended().await.code(), Some(130));
    drop(frozen);
    demo.is_gone(&servers).await;
}

/// Stopped processes, which go on at the end of the test.
struct Frozen(Vec<Pid>);

impl Frozen {
    fn of(pids: &[u32]) -> Self {
        let frozen = Self(pids.iter().map(|pid| Pid::from_raw(pid.cast_signed())).collect());
        frozen.send(Signal::SIGSTOP);
        frozen
    }

    fn send(&self, signal: Signal) {
        for pid in &self.0 {
            // One that has ended needs none.
            kill(*pid, signal).ok();
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.send(Signal::SIGCONT);
    }
}
