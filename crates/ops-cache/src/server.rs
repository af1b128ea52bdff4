//! Throwaway Redis and Valkey servers, gone with the process that wanted them, however it ends (see
//! [`ops_core::throwaway`]).
//!
//! Nothing is persisted unless the settings say so. The server listens on a Unix socket in its own directory,
//! which only its user and root can enter, and on 127.0.0.1 where asked for.

mod options;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ops_core::redact::ExposeSecret;
use ops_core::throwaway::{Throwaway, ThrowawayOptions, url_part};
use ops_core::{Context, Error, ErrorKind, Result, Secret};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::Command;

pub use self::options::ServerOptions;

const POLL: Duration = Duration::from_millis(10);
/// A free port may be taken before the server binds it.
const PORT_ATTEMPTS: usize = 5;
/// Where packages put the program: Debian and Fedora, local builds, Homebrew.
const PLACES: [&str; 3] = ["/usr/bin", "/usr/local/bin", "/opt/homebrew/bin"];

/// A running throwaway server. Dropping it stops the server, removes its files, and waits for both;
/// [`stop`](Server::stop) does so without blocking the thread.
///
/// ```no_run
/// use ops_cache::server::{Server, ServerOptions};
/// use ops_core::Context;
///
/// # async fn example() -> ops_core::Result<()> {
/// let server = Server::start(&Context::new(), &ServerOptions::default()).await?;
/// println!("{} at {}", server.version(), server.url());
/// server.stop().await
/// # }
/// ```
#[derive(Debug)]
pub struct Server {
    scratch: Throwaway,
    program: PathBuf,
    version: String,
    port: Option<u16>,
    tls_port: Option<u16>,
    password: Option<Secret>,
    sentinel: bool,
    ready_within: Duration,
}

impl Server {
    /// Starts a server and waits until it answers.
    ///
    /// Cancelled, or out of time, it leaves nothing behind.
    ///
    /// # Errors
    /// `NotFound` without Redis and Valkey; `Failed` with the end of the log where the server ends by itself;
    /// `Timeout` where it does not answer within the options' or the context's time; `InvalidInput` where the
    /// socket's path would be too long, or a setting has a line break.
    pub async fn start(cx: &Context, options: &ServerOptions) -> Result<Self> {
        let cx = cx.with_deadline(options.ready_within);
        let (program, version) = cx.run("find Redis", find(options)).await?;
        let place = ThrowawayOptions::default()
            .with_parent(&options.parent)
            .with_prefix("ops-redis-")
            .with_users(["redis", "valkey", "nobody"]);
        let scratch = Throwaway::create(&cx, &place).await?;
        let mut server = Self {
            scratch,
            program,
            version,
            port: None,
            tls_port: None,
            password: options.password.clone(),
            sentinel: options.sentinel,
            ready_within: options.ready_within,
        };
        server.first_start(&cx, options).await?;
        Ok(server)
    }

    /// The first start, on ports that are free now; on others if they no longer are.
    async fn first_start(&mut self, cx: &Context, options: &ServerOptions) -> Result<()> {
        let free = |wanted: bool| wanted.then(free_port).transpose();
        let mut attempts = PORT_ATTEMPTS;
        loop {
            attempts -= 1;
            self.port = free(options.tcp)?;
            self.tls_port = free(options.tls.is_some())?;
            self.configure(options)?;
            match self.launch(cx).await {
                Err(error) if attempts > 0 && self.scratch.log_tail(6).contains("bind: Address") => {
                    drop(error)
                }
                other => return other,
            }
        }
    }

    fn configure(&self, options: &ServerOptions) -> Result<()> {
        let mut conf = Conf::default();
        conf.set("dir", &self.scratch.dir().to_string_lossy())?;
        conf.set("unixsocket", &self.socket()?.to_string_lossy())?;
        conf.set("port", &self.port.unwrap_or(0).to_string())?;
        for (name, value) in
            [("unixsocketperm", "700"), ("bind", "127.0.0.1"), ("save", ""), ("appendonly", "no")]
        {
            conf.set(name, value)?;
        }
        if let Some(password) = &options.password {
            conf.set("requirepass", password.expose_secret())?;
        }
        if let (Some((certificate, key)), Some(port)) = (&options.tls, self.tls_port) {
            conf.set("tls-port", &port.to_string())?;
            conf.set("tls-auth-clients", "no")?;
            conf.set("tls-cert-file", &self.replace("server.crt", certificate)?.to_string_lossy())?;
            conf.set("tls-key-file", &self.replace("server.key", key.expose_secret())?.to_string_lossy())?;
        }
        for (name, value) in &options.settings {
            conf.line(name, value)?;
        }
        self.replace("redis.conf", &conf.0).map(drop)
    }

    /// Writes a file anew.
    fn replace(&self, name: &str, contents: &str) -> Result<PathBuf> {
        match std::fs::remove_file(self.scratch.dir().join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                let dir = self.scratch.dir().to_string_lossy();
                Err(Error::new(ErrorKind::Failed, "replace a file").on(dir).caused_by(error))
            }
            _ => self.scratch.write(name, contents),
        }
    }

    async fn launch(&mut self, cx: &Context) -> Result<()> {
        let conf = self.scratch.dir().join("redis.conf");
        let mode = self.sentinel.then(|| PathBuf::from("--sentinel"));
        self.scratch.start(cx, &self.program, std::iter::once(conf).chain(mode)).await?;
        cx.run("start Redis", self.accepts()).await
    }

    async fn accepts(&self) -> Result<()> {
        let socket = self.socket()?;
        while !answers(&socket).await {
            if let Some(status) = self.scratch.exit_status() {
                return Err(self.scratch.died(&self.program.to_string_lossy(), status));
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Stops the server in an orderly way and starts it again with the same settings. Without persistence it
    /// comes back empty.
    ///
    /// # Errors
    /// Those of [`start`](Server::start); the server is down then.
    pub async fn restart(&mut self, cx: &Context) -> Result<()> {
        let cx = cx.with_deadline(self.ready_within);
        self.scratch.stop(&cx, ops_core::throwaway::StopSignal::Term).await?;
        self.launch(&cx).await
    }

    /// The socket's path.
    ///
    /// # Errors
    /// `InvalidInput` where it would be too long.
    pub fn socket(&self) -> Result<PathBuf> {
        self.scratch.socket("redis.sock")
    }

    /// The URL of the socket, with the password if there is one.
    pub fn url(&self) -> String {
        // The path of a URL keeps its slashes.
        let path = url_part(&self.scratch.dir().to_string_lossy()).replace("%2F", "/");
        let password =
            self.password.as_ref().map(|secret| format!("?pass={}", url_part(secret.expose_secret())));
        format!("redis+unix://{path}/redis.sock{}", password.unwrap_or_default())
    }

    /// A URL over TCP, with the password if there is one; `None` unless it listens there.
    pub fn tcp_url(&self) -> Option<String> {
        self.address().map(|address| self.network_url("redis", address))
    }

    /// A URL over TLS, with the password if there is one; `None` unless it speaks TLS.
    pub fn tls_url(&self) -> Option<String> {
        self.tls_address().map(|address| self.network_url("rediss", address))
    }

    fn network_url(&self, scheme: &str, address: SocketAddr) -> String {
        let password = self.password.as_ref().map(|secret| format!(":{}@", url_part(secret.expose_secret())));
        format!("{scheme}://{}{address}", password.unwrap_or_default())
    }

    /// Where it listens on TCP.
    pub fn address(&self) -> Option<SocketAddr> {
        self.port.map(|port| (Ipv4Addr::LOCALHOST, port).into())
    }

    /// Where it speaks TLS.
    pub fn tls_address(&self) -> Option<SocketAddr> {
        self.tls_port.map(|port| (Ipv4Addr::LOCALHOST, port).into())
    }

    /// The server's process id; `None` when it is down.
    pub fn pid(&self) -> Option<u32> {
        self.scratch.pid().filter(|_| self.scratch.exit_status().is_none())
    }

    /// The server's kind and version, such as `Redis 7.0.15`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The directory that holds everything of it.
    pub fn dir(&self) -> &Path {
        self.scratch.dir()
    }

    /// The unprivileged user it runs as, when the client is root.
    pub fn user(&self) -> Option<&str> {
        self.scratch.user()
    }

    /// The last `lines` lines of the server's log.
    pub fn log_tail(&self, lines: usize) -> String {
        self.scratch.log_tail(lines)
    }

    /// Leaves it running after this process; see [`Throwaway::keep`] for what the number returned is.
    pub fn keep(self) -> Result<u32> {
        self.scratch.keep()
    }

    /// Stops the server and removes everything.
    pub async fn stop(self) -> Result<()> {
        self.scratch.close().await
    }
}

#[derive(Default)]
struct Conf(String);

impl Conf {
    /// One word, whatever is in it.
    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
        self.line(name, &format!("\"{escaped}\""))
    }

    fn line(&mut self, name: &str, value: &str) -> Result<()> {
        if name.contains(char::is_whitespace) || value.contains(['\n', '\0']) {
            return Err(Error::new(ErrorKind::InvalidInput, "configure Redis").on(name));
        }
        self.0.push_str(&format!("{name} {value}\n"));
        Ok(())
    }
}

async fn find(options: &ServerOptions) -> Result<(PathBuf, String)> {
    let not_found = || Error::new(ErrorKind::NotFound, "find a Redis server");
    if let Some(program) = &options.program {
        let version = version_of(program).await;
        return version
            .map(|version| (program.clone(), version))
            .map_err(|why| not_found().on(program.to_string_lossy()).because(why));
    }
    let path = options.path.as_deref().map(|path| std::env::split_paths(path).collect::<Vec<_>>());
    let dirs = path.unwrap_or_default().into_iter().chain(PLACES.iter().map(PathBuf::from));
    for program in dirs.flat_map(|dir| ["redis-server", "valkey-server"].map(|name| dir.join(name))) {
        if let Ok(version) = version_of(&program).await {
            return Ok((program, version));
        }
    }
    Err(not_found()
        .because("there is no redis-server or valkey-server on PATH")
        .with_fix("install the package redis-server (Debian), redis or valkey (Fedora, brew)"))
}

async fn version_of(program: &Path) -> Result<String, String> {
    let said =
        Command::new(program).arg("--version").env_clear().output().await.map_err(|e| e.to_string())?;
    let line = String::from_utf8_lossy(&said.stdout).into_owned();
    parse_version(&line).ok_or_else(|| format!("--version says {line:?}"))
}

/// `Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=…`
fn parse_version(line: &str) -> Option<String> {
    let (kind, rest) = line.split_once(" server v=")?;
    Some(format!("{kind} {}", rest.split_whitespace().next()?))
}

/// By hand, since a driver would say `HELLO` first. A server that wants a password is up as well; one that loads
/// its data is not.
async fn answers(socket: &Path) -> bool {
    let ask = async {
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(b"PING\r\n").await?;
        let mut reply = [0; 64];
        let read = stream.read(&mut reply).await?;
        std::io::Result::Ok(reply[..read].starts_with(b"+PONG") || reply[..read].starts_with(b"-NOAUTH"))
    };
    ask.await.unwrap_or(false)
}

fn free_port() -> Result<u16> {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    let fail = |error| Error::new(ErrorKind::Failed, "find a free port").caused_by(error);
    bound.map(|address| address.port()).map_err(|error: std::io::Error| fail(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_say_their_version() {
        let redis = "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=1\n";
        assert_eq!(parse_version(redis).as_deref(), Some("Redis 7.0.15"));
        assert_eq!(parse_version("Valkey server v=8.1.1 sha=0\n").as_deref(), Some("Valkey 8.1.1"));
        assert_eq!(parse_version("postgres (PostgreSQL) 17.2\n"), None);
    }

    #[test]
    fn a_setting_cannot_smuggle_another() {
        let mut conf = Conf::default();
        conf.set("requirepass", r#"a "b" \ c"#).unwrap();
        assert_eq!(conf.0, "requirepass \"a \\\"b\\\" \\\\ c\"\n");
        assert!(conf.line("maxmemory", "1\nsave 1 1").is_err());
    }
}
