//! Health endpoints without a framework: an answer has a status, a content type and a body, and any server can send
//! those. This one speaks as much HTTP/1.1 as `curl` and Kubernetes' probes need, over tokio's own sockets.
//!
//! `DATABASE_URL=… cargo run -p ops-examples --bin health-plain`, then `curl localhost:8080/readyz`.

use std::env;
use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ops_core::ProbeSet;
use ops_core::endpoint::{Answer, Endpoint};
use ops_pg::{PgConfig, PgTarget};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What a client may take to ask.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes that the head of a request may have.
const HEAD: u64 = 8192;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let pool =
        sqlx::postgres::PgPoolOptions::new().max_connections(5).connect_lazy(&env::var("DATABASE_URL")?)?;
    let mut probes = ProbeSet::new("shop");
    PgTarget::from_pool("main", pool, PgConfig::default()).add_all_to(&mut probes);
    let endpoint = Arc::new(Endpoint::new(probes));

    let address = env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:8080".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    loop {
        let (client, _) = listener.accept().await?;
        tokio::spawn(serve(client, Arc::clone(&endpoint)));
    }
}

/// One request a connection. A client that goes away has no answer to miss.
async fn serve(mut client: TcpStream, endpoint: Arc<Endpoint>) -> io::Result<()> {
    let line = tokio::time::timeout(PATIENCE, request_line(&mut client)).await??;
    let reply = match line.split(' ').collect::<Vec<_>>()[..] {
        ["GET", "/livez", _] => reply(&endpoint.live()),
        ["GET", "/readyz", _] => reply(&endpoint.ready().await),
        ["GET", "/health", _] => reply(&endpoint.health().await),
        ["GET", "/report", _] => reply(&endpoint.report().await),
        _ => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned(),
    };
    client.write_all(reply.as_bytes()).await?;
    client.shutdown().await
}

/// Reads the head of the request to its end: a socket that is closed with something unread in it takes its answer
/// along.
async fn request_line(client: &mut TcpStream) -> io::Result<String> {
    let mut lines = BufReader::new(client.take(HEAD)).lines();
    let first = lines.next_line().await?.unwrap_or_default();
    while lines.next_line().await?.is_some_and(|line| !line.is_empty()) {}
    Ok(first)
}

fn reply(answer: &Answer) -> String {
    let Answer { status, content_type, body, .. } = answer;
    let phrase = if *status == 200 { "OK" } else { "Service Unavailable" };
    let head = format!("Content-Type: {content_type}\r\nContent-Length: {}\r\nConnection: close", body.len());
    format!("HTTP/1.1 {status} {phrase}\r\n{head}\r\n\r\n{body}")
}
