//! The PostgreSQL servers that the suite runs on.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ops_core::redact::ExposeSecret;
use ops_core::throwaway::{Share, Throwaway, unique, url_part};
use ops_core::{Context, ErrorKind};
use ops_pg::cluster::{Binaries, Cluster, ClusterOptions, SUPERUSER};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use tokio::sync::OnceCell;

use crate::container::{self, Recipe};
use crate::missing::Missing;
use crate::shared::{LINGER, Place};

/// The major versions that the suite runs on.
pub const MAJORS: [u32; 3] = [15, 17, 18];

/// How long a container may take to accept connections.
const START_LIMIT: Duration = Duration::from_secs(60);

/// What a test may rely on, beyond [`ops_pg::cluster`]'s defaults.
const SETTINGS: [(&str, &str); 4] = [
    ("shared_preload_libraries", "pg_stat_statements"),
    ("max_connections", "200"),
    ("max_prepared_transactions", "20"),
    ("wal_level", "logical"),
];

/// A PostgreSQL server shared by all tests of all test processes: make a [`TestDb`](crate::TestDb) on it, and
/// leave what is the cluster's alone (settings, other databases). A test that restarts or breaks its server
/// starts a [`Cluster`] of its own.
#[derive(Debug)]
pub struct PgServer {
    major: u32,
    version: String,
    address: SocketAddr,
    password: String,
    socket_dir: Option<PathBuf>,
    container: Option<String>,
    _hold: Hold,
}

/// What keeps the server alive for as long as this process lives.
#[derive(Debug)]
#[expect(dead_code, reason = "held, never read")]
enum Hold {
    Cluster(Box<Cluster>),
    Container(Throwaway),
    Share(Share),
}

type Slot = Arc<OnceCell<Arc<PgServer>>>;
static SERVERS: Mutex<BTreeMap<(u32, bool), Slot>> = Mutex::new(BTreeMap::new());

impl PgServer {
    /// The server of a major version: from local binaries where there are some, else in a container.
    ///
    /// Binaries are those of `OPS_PG_BIN_<major>`, else of distributions, else of `scripts/setup`.
    ///
    /// # Errors
    /// `Missing` with both reasons.
    pub async fn get(major: u32) -> Result<Arc<Self>, Missing> {
        // Binaries that are here and do not work are an error, not a reason for a container.
        match local_options(major).await {
            Ok(_) => Self::local(major).await,
            Err(no_binaries) => Self::in_container(major).await.map_err(|no_container| {
                Missing::new(format!("{}; {}", no_binaries.what(), no_container.what()))
                    .with_how(format!("run scripts/setup test (with Docker up), or set OPS_PG_BIN_{major}"))
            }),
        }
    }

    /// The server of a major version, from local binaries.
    ///
    /// # Errors
    /// `Missing` with the reason.
    pub async fn local(major: u32) -> Result<Arc<Self>, Missing> {
        once(major, false, Self::find_local(major)).await
    }

    /// The server of a major version, in a container of the image `postgres:<major>`.
    ///
    /// # Errors
    /// `Missing` with the reason.
    pub async fn in_container(major: u32) -> Result<Arc<Self>, Missing> {
        once(major, true, Self::find_container(major)).await
    }

    async fn find_local(major: u32) -> Result<Self, Missing> {
        let options = local_options(major).await?;
        let missing = |why: String| Missing::new(format!("PostgreSQL {major}: {why}"));
        let place = Place::new(&format!("pg-{major}"), (&options.bin_dir, SETTINGS));
        let turn = place.map_err(|e| missing(e.to_string()))?.turn().await;
        let turn = turn.map_err(|e| missing(e.to_string()))?;
        if let Some((state, share)) = turn.join() {
            return Self::from_state(&state, Hold::Share(share)).ok_or_else(|| missing("bad state".into()));
        }
        let cx = Context::new();
        let mut cluster = Cluster::start(&cx, &options).await.map_err(|error| missing(error.report()))?;
        cluster.share(&cx, LINGER).await.map_err(|error| missing(error.report()))?;
        let state = json!({
            "keeper": cluster.dir(),
            "major": major,
            "version": cluster.version(),
            "address": cluster.address(),
            "password": cluster.password().expose_secret(),
            "socket_dir": cluster.dir(),
        });
        turn.publish(&state).map_err(|error| missing(error.to_string()))?;
        Self::from_state(&state, Hold::Cluster(Box::new(cluster))).ok_or_else(|| missing("bad state".into()))
    }

    async fn find_container(major: u32) -> Result<Self, Missing> {
        let missing = |why: String| Missing::new(format!("PostgreSQL {major} in a container: {why}"));
        let place = Place::new(&format!("pg-{major}-container"), SETTINGS);
        let turn = place.map_err(|e| missing(e.to_string()))?.turn().await;
        let turn = turn.map_err(|e| missing(e.to_string()))?;
        if let Some((state, share)) = turn.join() {
            return Self::from_state(&state, Hold::Share(share)).ok_or_else(|| missing("bad state".into()));
        }
        let password = unique() + &unique();
        let mut made = container::start(recipe(major, &password)).await?;
        let address = made.address;
        let version = await_version(address, &password).await.map_err(&missing)?;
        let shared = made.keeper.share(&Context::new(), LINGER).await;
        shared.map_err(|error| missing(error.report()))?;
        let state = json!({
            "keeper": made.keeper.dir(),
            "major": major,
            "version": version,
            "address": address,
            "password": password,
            "container": made.name,
        });
        turn.publish(&state).map_err(|error| missing(error.to_string()))?;
        Self::from_state(&state, Hold::Container(made.keeper)).ok_or_else(|| missing("bad state".into()))
    }

    fn from_state(state: &Value, hold: Hold) -> Option<Self> {
        let text = |name: &str| state[name].as_str().map(str::to_owned);
        Some(Self {
            major: u32::try_from(state["major"].as_u64()?).ok()?,
            version: text("version")?,
            address: text("address")?.parse().ok()?,
            password: text("password")?,
            socket_dir: text("socket_dir").map(PathBuf::from),
            container: text("container"),
            _hold: hold,
        })
    }

    /// The major version.
    pub fn major(&self) -> u32 {
        self.major
    }

    /// The version, as the server says it.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Where it listens on TCP: for a [`Proxy`](crate::Proxy).
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The directory of its socket; `None` in a container.
    pub fn socket_dir(&self) -> Option<&Path> {
        self.socket_dir.as_deref()
    }

    /// Its container's name.
    pub fn container(&self) -> Option<&str> {
        self.container.as_deref()
    }

    /// The password of every role that tests make, and of the superuser.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The URL for a role: over the socket where there is one.
    pub fn url_as(&self, role: &str, database: &str) -> String {
        match &self.socket_dir {
            Some(dir) => {
                let host = url_part(&dir.to_string_lossy());
                let port = self.address.port();
                format!("postgres://{}@{host}:{port}/{}", url_part(role), url_part(database))
            }
            None => self.tcp_url_as(self.address, role, database),
        }
    }

    /// The URL for a role over TCP, at its own address or at a proxy's.
    pub fn tcp_url_as(&self, address: SocketAddr, role: &str, database: &str) -> String {
        let password = url_part(&self.password);
        format!("postgres://{}:{password}@{address}/{}", url_part(role), url_part(database))
    }
}

/// A missing server stays missing for a process's life; that is not remembered, and costs little to find again.
async fn once(
    major: u32,
    container: bool,
    start: impl Future<Output = Result<PgServer, Missing>>,
) -> Result<Arc<PgServer>, Missing> {
    let slot = {
        let mut servers = SERVERS.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(servers.entry((major, container)).or_default())
    };
    slot.get_or_try_init(async || start.await.map(Arc::new)).await.cloned()
}

/// How the kit starts a cluster of a major version; add to it for a [`Cluster`] of a test's own.
///
/// # Errors
/// `Missing` where there are no binaries of it.
pub async fn local_options(major: u32) -> Result<ClusterOptions, Missing> {
    let mut options =
        ClusterOptions::default().with_parent(std::env::temp_dir()).with_tcp().with_major(major);
    for (name, value) in SETTINGS {
        options = options.with_setting(name, value);
    }
    let variable = format!("OPS_PG_BIN_{major}");
    if let Some(dir) = std::env::var_os(&variable).filter(|dir| !dir.is_empty()) {
        return Ok(options.with_bin_dir(dir));
    }
    let cx = Context::new();
    let search = options.clone().with_path(search_path());
    match Binaries::find(&cx, &search).await {
        Ok(found) => return Ok(options.with_bin_dir(found.dir)),
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(Missing::new(error.report())),
        Err(_) => {}
    }
    let tools = tools_dir().map(|dir| dir.join(format!("postgres-{major}/bin")));
    match tools.filter(|dir| dir.join("postgres").is_file()) {
        Some(dir) => Ok(options.with_bin_dir(dir)),
        None => Err(Missing::new(format!("PostgreSQL {major}: no binaries here"))),
    }
}

fn search_path() -> OsString {
    std::env::var_os("PATH").unwrap_or_default()
}

/// Where scripts/setup puts what it installs; scripts/lib/env.sh says the same.
fn tools_dir() -> Option<PathBuf> {
    if let Some(dir) = std::env::var_os("OPS_TOOLS") {
        return Some(dir.into());
    }
    if nix::unistd::geteuid().is_root() {
        return Some("/var/cache/ops-tools".into());
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    cache.map(|dir| dir.join("ops-tools"))
}

fn recipe(major: u32, password: &str) -> Recipe {
    let fast = [("fsync", "off"), ("synchronous_commit", "off"), ("full_page_writes", "off")];
    let settings = SETTINGS.iter().chain(&fast);
    let command = settings.flat_map(|(name, value)| ["-c".to_owned(), format!("{name}={value}")]).collect();
    Recipe {
        image: "postgres",
        tag: major.to_string(),
        port: 5432,
        env: vec![("POSTGRES_PASSWORD", password.to_owned())],
        command,
    }
}

/// The server that sets up listens on a socket alone: who answers on TCP is ready.
async fn await_version(address: SocketAddr, password: &str) -> Result<String, String> {
    let url = format!("postgres://{SUPERUSER}:{password}@{address}/postgres");
    let end = Instant::now() + START_LIMIT;
    loop {
        match ask_version(&url).await {
            Ok(version) => return Ok(version),
            Err(error) if Instant::now() > end => return Err(format!("it accepts no connection: {error}")),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn ask_version(url: &str) -> sqlx::Result<String> {
    let mut connection = PgConnection::connect(url).await?;
    let version = sqlx::query_scalar("SHOW server_version").fetch_one(&mut connection).await?;
    connection.close().await?;
    Ok(version)
}
