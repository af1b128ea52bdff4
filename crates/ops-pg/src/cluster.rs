//! Throwaway PostgreSQL clusters: real servers for a demo, a test or a drill, gone with the process that wanted
//! them, however it ends (see [`ops_core::throwaway`]).
//!
//! A cluster is made for speed and not to keep: `fsync`, `synchronous_commit` and `full_page_writes` are off. It
//! listens on a Unix socket in its own directory, which only its user and root can enter, and there trusts
//! whoever comes; TCP, where asked for, wants a password. Encoding UTF8, locale C, time zone UTC.
//! `pg_stat_statements` is preloaded where it is installed.

mod binaries;
mod options;

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ops_core::redact::ExposeSecret;
use ops_core::throwaway::{StopSignal, Throwaway, ThrowawayOptions, unique, url_part};
use ops_core::{Context, Error, ErrorKind, Result, Secret};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

pub use self::binaries::Binaries;
pub use self::options::ClusterOptions;

/// The name of the superuser.
pub const SUPERUSER: &str = "postgres";

/// What a port is in a socket's name, where no TCP port is asked for.
const SOCKET_PORT: u16 = 5432;
const POLL: Duration = Duration::from_millis(15);
/// A free port may be taken before the server binds it.
const PORT_ATTEMPTS: usize = 5;

/// A running throwaway cluster. Dropping it stops the server, with `SIGQUIT` (an immediate shutdown), removes
/// its files, and waits for both; [`stop`](Cluster::stop) does so without blocking the thread.
///
/// ```no_run
/// use ops_core::Context;
/// use ops_pg::cluster::{Cluster, ClusterOptions};
///
/// # async fn example() -> ops_core::Result<()> {
/// let cluster = Cluster::start(&Context::new(), &ClusterOptions::default()).await?;
/// println!("PostgreSQL {} at {}", cluster.version(), cluster.url("postgres"));
/// cluster.stop().await
/// # }
/// ```
#[derive(Debug)]
pub struct Cluster {
    scratch: Throwaway,
    binaries: Binaries,
    port: u16,
    tcp: bool,
    password: Secret,
    ready_within: Duration,
}

impl Cluster {
    /// Makes and starts a cluster, and waits until it accepts connections.
    ///
    /// Cancelled, or out of time, it leaves nothing behind.
    ///
    /// # Errors
    /// `NotFound` without PostgreSQL; `Failed` with the end of the log where `initdb` or the server fails;
    /// `Timeout` with the same where it does not accept within the options' or the context's time;
    /// `InvalidInput` where the socket's path would be too long.
    pub async fn start(cx: &Context, options: &ClusterOptions) -> Result<Self> {
        let cx = cx.with_deadline(options.ready_within);
        let binaries = Binaries::find(&cx, options).await?;
        let mut cluster = Self::prepare(&cx, options, binaries).await?;
        cluster.initialise(&cx, options).await?;
        cluster.configure(options)?;
        cluster.first_start(&cx).await?;
        Ok(cluster)
    }

    /// Makes and starts a streaming standby of `primary`, from a base backup, by the primary's binaries, and waits
    /// until it accepts connections. It has its primary's settings, less what `options` set; the primary knows it
    /// by its `cluster_name`. It follows for as long as both live, and `SELECT pg_promote()` makes it a primary of
    /// its own.
    ///
    /// Cancelled, or out of time, it leaves nothing behind.
    ///
    /// # Errors
    /// Those of [`start`](Cluster::start), with `pg_basebackup` in the place of `initdb`.
    pub async fn start_standby(cx: &Context, primary: &Cluster, options: &ClusterOptions) -> Result<Self> {
        let cx = cx.with_deadline(options.ready_within);
        let mut cluster = Self::prepare(&cx, options, primary.binaries.clone()).await?;
        // A copy's password is its original's.
        cluster.password = primary.password.clone();
        cluster.copy(&cx, primary).await?;
        cluster.configure(options)?;
        cluster.first_start(&cx).await?;
        Ok(cluster)
    }

    /// A scratch directory, without data.
    async fn prepare(cx: &Context, options: &ClusterOptions, binaries: Binaries) -> Result<Self> {
        let place = ThrowawayOptions::default()
            .with_parent(&options.parent)
            .with_prefix("ops-pg-")
            .with_users([SUPERUSER, "nobody"])
            .with_stop(StopSignal::Quit)
            // initdb would else compare the system's time zone with each one it knows.
            .with_env("TZ", "UTC");
        let scratch = Throwaway::create(cx, &place).await?;
        let password = options.password.clone().unwrap_or_else(|| Secret::from(unique() + &unique()));
        Ok(Self {
            scratch,
            binaries,
            port: SOCKET_PORT,
            tcp: options.tcp,
            password,
            ready_within: options.ready_within,
        })
    }

    /// The data of a running primary, with what makes this a standby of it.
    async fn copy(&mut self, cx: &Context, primary: &Cluster) -> Result<()> {
        let mut arguments = vec!["--pgdata".into(), self.data_dir().into_os_string()];
        arguments.extend(["--host".into(), primary.dir().as_os_str().to_owned()]);
        arguments.extend(["--port".into(), primary.port.to_string().into()]);
        let fixed = ["--username", SUPERUSER, "--write-recovery-conf", "--checkpoint=fast", "--no-sync"];
        arguments.extend(fixed.map(std::ffi::OsString::from));
        self.scratch.run(cx, self.binaries.program("pg_basebackup"), arguments).await
    }

    async fn initialise(&mut self, cx: &Context, options: &ClusterOptions) -> Result<()> {
        let password = self.scratch.write("password", format!("{}\n", self.password.expose_secret()))?;
        let mut arguments = vec!["--pgdata".into(), self.data_dir().into_os_string(), "--pwfile".into()];
        arguments.push(password.clone().into_os_string());
        // A C locale sorts and starts alike everywhere; initdb's own default is the client's.
        let fixed = ["--auth-local=trust", "--auth-host=scram-sha-256", "--encoding=UTF8", "--no-locale"];
        arguments.extend(fixed.iter().chain(&["--no-sync", "--username"]).map(|word| (*word).into()));
        arguments.push(SUPERUSER.into());
        match options.data_checksums {
            Some(true) => arguments.push("--data-checksums".into()),
            // Before 18 they are off, and there is no word for it.
            Some(false) if self.binaries.major >= 18 => arguments.push("--no-data-checksums".into()),
            Some(false) | None => {}
        }
        self.scratch.run(cx, self.binaries.program("initdb"), arguments).await?;
        std::fs::remove_file(&password).map_err(|error| self.cannot("remove a file").caused_by(error))
    }

    fn configure(&self, options: &ClusterOptions) -> Result<()> {
        let mut conf = String::from("\n# ops\n");
        let dir = self.scratch.dir().to_string_lossy();
        let mut set = |name: &str, value: &str| {
            // Writing to a String does not fail.
            let _ = writeln!(conf, "{name} = '{}'", value.replace('\'', "''"));
        };
        // The list is split at commas outside double quotes.
        set("unix_socket_directories", &format!("\"{dir}\""));
        set("listen_addresses", if self.tcp { "127.0.0.1" } else { "" });
        for (name, value) in [
            ("unix_socket_permissions", "0700"),
            ("fsync", "off"),
            ("synchronous_commit", "off"),
            ("full_page_writes", "off"),
            ("timezone", "UTC"),
            ("log_timezone", "UTC"),
            ("cluster_name", "ops-throwaway"),
        ] {
            set(name, value);
        }
        if self.binaries.has_library("pg_stat_statements") {
            set("shared_preload_libraries", "pg_stat_statements");
        }
        if let Some((certificate, key)) = &options.tls {
            set("ssl", "on");
            let certificate = self.scratch.write("server.crt", certificate)?;
            set("ssl_cert_file", &certificate.to_string_lossy());
            let key = self.scratch.write("server.key", key.expose_secret())?;
            set("ssl_key_file", &key.to_string_lossy());
        }
        for (name, value) in &options.settings {
            if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.'))
                || value.contains('\n')
            {
                return Err(Error::new(ErrorKind::InvalidInput, "configure PostgreSQL").on(name));
            }
            set(name, value);
        }
        let path = self.data_dir().join("postgresql.conf");
        let written = std::fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .and_then(|mut file| std::io::Write::write_all(&mut file, conf.as_bytes()));
        written.map_err(|error| self.cannot("configure PostgreSQL").caused_by(error))
    }

    /// The first start, on a port that is free now; another one if it no longer is.
    async fn first_start(&mut self, cx: &Context) -> Result<()> {
        let mut attempts = if self.tcp { PORT_ATTEMPTS } else { 1 };
        loop {
            if self.tcp {
                self.port = free_port().map_err(|error| self.cannot("find a free port").caused_by(error))?;
            }
            attempts -= 1;
            match self.launch(cx).await {
                Err(error) if attempts > 0 && self.scratch.log_tail(6).contains("could not bind") => {
                    drop(error)
                }
                other => return other,
            }
        }
    }

    async fn launch(&mut self, cx: &Context) -> Result<()> {
        self.scratch.socket(&self.socket_name())?;
        let data = self.data_dir().into_os_string();
        let port = self.port.to_string().into();
        let postgres = self.binaries.program("postgres");
        self.scratch.start(cx, &postgres, ["-D".into(), data, "-p".into(), port]).await?;
        cx.run("start PostgreSQL", self.accepts()).await.map_err(|error| match error.kind() {
            ErrorKind::Timeout => {
                let log = self.scratch.log_tail(6).replace('\n', "; ");
                let why = error.message().unwrap_or_default().to_owned();
                error.because(format!("{why}; its log ends: {log}"))
            }
            _ => error,
        })
    }

    async fn accepts(&self) -> Result<()> {
        let socket = self.scratch.dir().join(self.socket_name());
        while !answers(&socket).await {
            if let Some(status) = self.scratch.exit_status() {
                return Err(self.scratch.died(&self.binaries.program("postgres").to_string_lossy(), status));
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    fn socket_name(&self) -> String {
        format!(".s.PGSQL.{}", self.port)
    }

    fn cannot(&self, operation: &'static str) -> Error {
        Error::new(ErrorKind::Failed, operation).on(self.scratch.dir().to_string_lossy())
    }

    /// Stops the server in an orderly way and starts it again on the same data and port, as settings that need a
    /// restart do.
    ///
    /// # Errors
    /// Those of [`start`](Cluster::start); the server is down then, and its data still there.
    pub async fn restart(&mut self, cx: &Context) -> Result<()> {
        let cx = cx.with_deadline(self.ready_within);
        // SIGINT is PostgreSQL's fast shutdown.
        self.scratch.stop(&cx, StopSignal::Int).await?;
        self.launch(&cx).await
    }

    /// A URL for the superuser over the socket, without a password.
    pub fn url(&self, database: &str) -> String {
        self.url_as(SUPERUSER, database)
    }

    /// A URL for a role over the socket, where every role is trusted.
    pub fn url_as(&self, role: &str, database: &str) -> String {
        let host = url_part(&self.scratch.dir().to_string_lossy());
        format!("postgres://{}@{host}:{}/{}", url_part(role), self.port, url_part(database))
    }

    /// A URL for the superuser over TCP, with its password; `None` unless it listens there.
    pub fn tcp_url(&self, database: &str) -> Option<String> {
        let password = url_part(self.password.expose_secret());
        let address = self.address()?;
        Some(format!("postgres://{SUPERUSER}:{password}@{address}/{}", url_part(database)))
    }

    /// Where it listens on TCP.
    pub fn address(&self) -> Option<SocketAddr> {
        self.tcp.then(|| SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)))
    }

    /// The superuser's password.
    pub fn password(&self) -> &Secret {
        &self.password
    }

    /// The postmaster's process id; `None` when it is down.
    pub fn pid(&self) -> Option<u32> {
        self.scratch.pid().filter(|_| self.scratch.exit_status().is_none())
    }

    /// The server's version, such as `15.14`.
    pub fn version(&self) -> &str {
        &self.binaries.version
    }

    /// The server's major version.
    pub fn major(&self) -> u32 {
        self.binaries.major
    }

    /// Where its programs are.
    pub fn bin_dir(&self) -> &Path {
        &self.binaries.dir
    }

    /// Its data directory. As root, it belongs to [`user`](Cluster::user).
    pub fn data_dir(&self) -> PathBuf {
        self.scratch.dir().join("data")
    }

    /// The directory that holds everything of it, socket and data.
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

    /// Lets other processes use it for as long as they live; see [`Throwaway::share`].
    pub async fn share(&mut self, cx: &Context, linger: Duration) -> Result<()> {
        self.scratch.share(cx, linger).await
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

/// Asks like `pg_isready`: a server that is starting up answers a startup packet with an error, one that accepts
/// with a request for authentication. By hand, since the driver would read `PG*` from the environment.
async fn answers(socket: &Path) -> bool {
    let ask = async {
        let mut stream = UnixStream::connect(socket).await?;
        let parameters = format!("user\0{SUPERUSER}\0database\0postgres\0\0");
        let length = 8 + u32::try_from(parameters.len()).unwrap_or_default();
        let mut packet = length.to_be_bytes().to_vec();
        // Version 3.0 of the protocol.
        packet.extend_from_slice(&196_608_u32.to_be_bytes());
        packet.extend_from_slice(parameters.as_bytes());
        stream.write_all(&packet).await?;
        let kind = stream.read_u8().await?;
        // Terminate: the server need not log a lost connection.
        stream.write_all(&[b'X', 0, 0, 0, 4]).await?;
        std::io::Result::Ok(kind == b'R')
    };
    ask.await.unwrap_or(false)
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
