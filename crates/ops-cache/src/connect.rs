//! Makes a connection: socket, TLS, `AUTH`, `SELECT` of a database other than 0, and nothing more.

use ops_core::redact::ExposeSecret;
use ops_core::{Context, Error, ErrorKind, Result};
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{AsyncConnectionConfig, Client, Cmd, RedisResult, TlsCertificates, Value};
use tokio::time::Instant;

use crate::address::{Address, Credentials};
use crate::config::{RedisOptions, RootCertificate};
use crate::error::{Peer, of_redis};

/// Connects, authenticates and selects the URL's database, within the context's time.
pub(crate) async fn open(
    cx: &Context,
    address: &Address,
    options: &RedisOptions,
) -> Result<MultiplexedConnection> {
    let display = address.to_string();
    let peer = Peer { address: &display, user: address.user() };
    let work = async {
        let client = client(address, options, peer).await?;
        // The context bounds every wait; the driver's own time-outs would only cut it short.
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .map_err(|error| of_redis(error, "connect", peer))
    };
    let started = Instant::now();
    let connected = cx.run("connect", work).await.map_err(|error| {
        // A Redis without TLS takes a client's hello for the start of a long command, and waits for the rest.
        let silent = address.is_tls() && error.kind() == ErrorKind::Timeout;
        // What already names its target, such as a file, keeps it.
        let error = if error.target().is_none() { error.on(&display) } else { error };
        if silent { error.with_fix("use redis:// if the server speaks no TLS at this port") } else { error }
    });
    cx.cost().round_trip(started.elapsed());
    let mut connection = connected?;
    if let Some(credentials) = &address.credentials {
        authenticate(cx, &mut connection, credentials, peer).await?;
    }
    if address.database != 0 {
        select(cx, &mut connection, address.database, peer).await?;
    }
    Ok(connection)
}

async fn authenticate(
    cx: &Context,
    connection: &mut MultiplexedConnection,
    credentials: &Credentials,
    peer: Peer<'_>,
) -> Result<()> {
    let mut auth = redis::cmd("AUTH");
    if let Some(user) = &credentials.user {
        auth.arg(user);
    }
    auth.arg(credentials.password.expose_secret());
    send(cx, connection, &auth, "authenticate", peer)
        .await?
        .map_err(|error| of_redis(error, "authenticate", peer))
}

/// What probes read concerns the whole server; that the database is there is what a client needs first.
async fn select(
    cx: &Context,
    connection: &mut MultiplexedConnection,
    database: i64,
    peer: Peer<'_>,
) -> Result<()> {
    send(cx, connection, redis::cmd("SELECT").arg(database), "select a database", peer)
        .await?
        .map_err(|error| of_redis(error, format!("select database {database}"), peer))
}

/// Sends one command that answers `OK`. The inner error is the driver's or the server's.
async fn send(
    cx: &Context,
    connection: &mut MultiplexedConnection,
    command: &Cmd,
    operation: &'static str,
    peer: Peer<'_>,
) -> Result<RedisResult<()>> {
    let started = Instant::now();
    let sent = cx.run(operation, async { Ok(connection.req_packed_command(command).await) }).await;
    cx.cost().round_trip(started.elapsed());
    Ok(sent.map_err(|error| error.on(peer.address))?.and_then(Value::extract_error).map(drop))
}

async fn client(address: &Address, options: &RedisOptions, peer: Peer<'_>) -> Result<Client> {
    let built = match &options.root_certificate {
        None => Client::open(address.info.clone()),
        Some(root) => {
            let pem = match root {
                RootCertificate::Pem(pem) => pem.clone(),
                RootCertificate::File(path) => tokio::fs::read(path).await.map_err(|error| {
                    Error::new(ErrorKind::Configuration, "read the root certificate")
                        .on(path.display().to_string())
                        .because(error.to_string())
                })?,
            };
            if !pem.windows(10).any(|bytes| bytes == b"-----BEGIN") {
                return Err(Error::new(ErrorKind::Configuration, "read the root certificate")
                    .on(peer.address)
                    .because("it holds no PEM certificate"));
            }
            let certificates = TlsCertificates { client_tls: None, root_cert: Some(pem) };
            Client::build_with_tls(address.info.clone(), certificates)
        }
    };
    built.map_err(|error| of_redis(error, "connect", peer))
}
