//! A PgBouncer in front of a test's server.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

use ops_core::Context;
use ops_core::throwaway::{StopSignal, Throwaway, ThrowawayOptions};
use ops_pg::cluster::SUPERUSER;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgConnection};

use crate::database::{ROLES, Role, TestDb};
use crate::missing::Missing;

const START_LIMIT: Duration = Duration::from_secs(20);

/// A PgBouncer that lends the connections of a test's server, for as long as it lives. It trusts whoever comes by
/// TCP; its console answers the superuser.
#[derive(Debug)]
pub struct PgBouncer {
    address: SocketAddr,
    _keeper: Throwaway,
}

impl PgBouncer {
    /// Whether there is one to start.
    ///
    /// # Errors
    /// `Missing` where there is none.
    pub fn found() -> Result<(), Missing> {
        program().map(drop)
    }

    /// In front of the server of `db`, for its three roles; `settings` are lines of PgBouncer's own, such as
    /// `pool_mode = transaction`.
    ///
    /// # Errors
    /// `Missing` where there is no PgBouncer.
    ///
    /// # Panics
    /// Where it is there, and does not start.
    pub async fn before(db: &TestDb, settings: &[&str]) -> Result<Self, Missing> {
        let program = program()?;
        let cx = Context::new();
        let place = ThrowawayOptions::default()
            .with_parent(std::env::temp_dir())
            .with_prefix("ops-pgbouncer-")
            .with_users([SUPERUSER, "nobody"])
            .with_stop(StopSignal::Quit);
        let mut keeper =
            Throwaway::create(&cx, &place).await.unwrap_or_else(|error| panic!("{}", error.report()));
        let address = free_address();
        let write = |name: &str, text: String| {
            keeper.write(name, text).unwrap_or_else(|error| panic!("{}", error.report()))
        };
        let users = write("users", users(db));
        let ini = write("pgbouncer.ini", ini(db, address, &users, settings));
        let started = keeper.start(&cx, &program, [ini]).await;
        started.unwrap_or_else(|error| panic!("{}", error.report()));
        let end = Instant::now() + START_LIMIT;
        while TcpStream::connect(address).is_err() {
            let status = keeper.exit_status();
            assert!(status.is_none() && Instant::now() < end, "PgBouncer: {}", keeper.log_tail(10));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(Self { address, _keeper: keeper })
    }

    /// The URL for a role, through it.
    pub fn url(&self, db: &TestDb, role: Role) -> String {
        db.url_at(self.address, role)
    }

    /// A role's connection through it.
    ///
    /// # Errors
    /// The driver's.
    pub async fn connect(&self, db: &TestDb, role: Role) -> sqlx::Result<PgConnection> {
        options(&self.url(db, role)).connect().await
    }

    /// A connection to its console.
    ///
    /// # Errors
    /// The driver's.
    pub async fn connect_to_console(&self) -> sqlx::Result<PgConnection> {
        options(&self.console()).connect().await
    }

    /// The URL of its console.
    pub fn console(&self) -> String {
        format!("postgres://{SUPERUSER}@{}/pgbouncer", self.address)
    }
}

/// Without the start-up parameter of the driver's that PgBouncer does not take.
fn options(url: &str) -> PgConnectOptions {
    let options = PgConnectOptions::from_str(url).expect("a URL of our own");
    options.extra_float_digits(None).statement_cache_capacity(0)
}

/// `OPS_PGBOUNCER`, else the one on `PATH`, else Debian's, which is no user's to run by name.
fn program() -> Result<PathBuf, Missing> {
    if let Some(program) = std::env::var_os("OPS_PGBOUNCER").filter(|program| !program.is_empty()) {
        return Ok(program.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    directories
        .map(|directory| directory.join("pgbouncer"))
        .find(|program| program.is_file())
        .ok_or_else(|| Missing::new("PgBouncer: no binary here"))
}

/// With it PgBouncer logs in to the server as well.
fn users(db: &TestDb) -> String {
    ROLES.iter().fold(String::new(), |mut users, role| {
        // Writing to a String does not fail.
        let _ = writeln!(users, "\"{}\" \"{}\"", db.role(*role), db.server().password());
        users
    })
}

fn ini(db: &TestDb, address: SocketAddr, users: &std::path::Path, settings: &[&str]) -> String {
    let server = db.server().address();
    format!(
        "[databases]\n* = host={} port={}\n[pgbouncer]\nlisten_addr = {}\nlisten_port = {}\nunix_socket_dir =\n\
         auth_type = trust\nauth_file = {}\nadmin_users = {SUPERUSER}\n{}\n",
        server.ip(),
        server.port(),
        address.ip(),
        address.port(),
        users.display(),
        settings.join("\n"),
    )
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("its address")
}
