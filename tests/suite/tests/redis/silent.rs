//! Servers that do not answer, or not as they should.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ops_testkit::{Behaviour, Proxy, RedisServer, eventually};
use tokio::task::JoinHandle;

use crate::plants::{SOON, ask, connect, run};
use crate::rows::Planted;

/// Ended in order.
pub(crate) async fn shut_down(server: &RedisServer) -> Planted {
    // It answers by closing the connection.
    ask::<()>(server, "SHUTDOWN NOSAVE").await.ok();
    eventually("a port that is closed", SOON, async || {
        tokio::net::TcpStream::connect(server.address()).await.is_err().then_some(())
    })
    .await;
    Planted::default()
}

/// A process that is stopped until this is dropped.
pub(crate) struct Stopped(Pid);

impl Stopped {
    pub(crate) fn new(pid: u32) -> Self {
        let pid = Pid::from_raw(pid.cast_signed());
        kill(pid, Signal::SIGSTOP).unwrap();
        Self(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // It may have been killed meanwhile.
        kill(self.0, Signal::SIGCONT).ok();
    }
}

/// The kernel accepts for it, and nobody answers.
pub(crate) async fn frozen(server: &RedisServer) -> Planted {
    Planted::holding(Stopped::new(server.server().unwrap().pid().unwrap()))
}

/// What a test started, and the command that ends it sooner.
struct Running {
    task: JoinHandle<()>,
    address: SocketAddr,
    end: &'static str,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
        let mut connection = std::net::TcpStream::connect(self.address).unwrap();
        connection.write_all(self.end.as_bytes()).unwrap();
    }
}

/// Starts a command that takes long, and waits until everybody else is refused with `code`.
async fn while_running(server: &RedisServer, command: redis::Cmd, code: &str, end: &'static str) -> Planted {
    let mut connection = connect(server).await.unwrap();
    let task = tokio::spawn(async move {
        // It is ended early, or with its server.
        command.exec_async(&mut connection).await.ok();
    });
    let running = Running { task, address: server.address(), end };
    eventually(code, SOON, async || {
        ask::<String>(server, "PING").await.err().filter(|error| error.code() == Some(code))
    })
    .await;
    Planted::holding(running)
}

/// In a script without end.
pub(crate) async fn busy(server: &RedisServer) -> Planted {
    run(server, "CONFIG SET lua-time-limit 50").await;
    let mut script = redis::cmd("EVAL");
    script.arg("while true do end").arg(0);
    while_running(server, script, "BUSY", "SCRIPT KILL\r\n").await
}

/// Reads its dataset at 1 ms a key, 20 s in all.
pub(crate) async fn loading(server: &RedisServer) -> Planted {
    run(server, "DEBUG POPULATE 20000 k 100").await;
    run(server, "CONFIG SET key-load-delay 1000").await;
    run(server, "CONFIG SET loading-process-events-interval-bytes 1024").await;
    let mut reload = redis::cmd("DEBUG");
    reload.arg("RELOAD");
    while_running(server, reload, "LOADING", "CONFIG SET key-load-delay 0\r\n").await
}

/// Behind a network that takes its time.
pub(crate) async fn far_away(server: &RedisServer) -> Planted {
    let proxy = Proxy::to(server.address()).await.unwrap();
    proxy.set(Behaviour::Delay(Duration::from_millis(70))).await;
    Planted { address: Some(proxy.address().to_string()), ..Planted::holding(proxy) }
}
