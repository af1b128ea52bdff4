//! A Redis of its own for each test.

use std::net::SocketAddr;
use std::time::Duration;

use ops_cache::server::{Server, ServerOptions};
use ops_core::throwaway::Throwaway;
use ops_core::{Context, ErrorKind};

use crate::container::{self, Recipe};
use crate::missing::{Missing, or_skip};

const START_LIMIT: Duration = Duration::from_secs(30);

/// A fresh, empty Redis or Valkey that ends with the test.
#[derive(Debug)]
pub struct RedisServer {
    url: String,
    address: SocketAddr,
    server: Option<Server>,
    container: Option<String>,
    _keeper: Option<Throwaway>,
}

impl RedisServer {
    /// A server; or `None` after a loud line, where there is none.
    ///
    /// # Panics
    /// Where servers are required.
    pub async fn fresh() -> Option<Self> {
        or_skip(Self::start(local_redis_options()).await)
    }

    /// A server from local binaries, of [`local_redis_options`] and what a test adds to them.
    ///
    /// # Errors
    /// `Missing` where there are none.
    ///
    /// # Panics
    /// Where they are there, and the server does not start.
    pub async fn start(options: ServerOptions) -> Result<Self, Missing> {
        let server = match Server::start(&Context::new(), &options.with_tcp()).await {
            Ok(server) => server,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(Missing::new(error.report())
                    .with_how("run scripts/setup test, or set OPS_REDIS_SERVER to a redis-server"));
            }
            Err(error) => panic!("{}", error.report()),
        };
        let address = server.address().expect("asked for TCP");
        Ok(Self { url: server.url(), address, server: Some(server), container: None, _keeper: None })
    }

    /// A server in a container of the image `redis:8`.
    ///
    /// # Errors
    /// `Missing` with the reason.
    pub async fn in_container() -> Result<Self, Missing> {
        Self::of_image("redis").await
    }

    /// A Valkey in a container of the image `valkey/valkey:8`.
    ///
    /// # Errors
    /// `Missing` with the reason.
    pub async fn valkey_in_container() -> Result<Self, Missing> {
        Self::of_image("valkey/valkey").await
    }

    async fn of_image(image: &'static str) -> Result<Self, Missing> {
        let tag = "8".to_owned();
        let recipe = Recipe { image, tag, port: 6379, env: Vec::new(), command: Vec::new() };
        let made = container::start(recipe).await?;
        let url = format!("redis://{}", made.address);
        await_pong(&url).await.map_err(|why| Missing::new(format!("the container {image}:8: {why}")))?;
        Ok(Self {
            url,
            address: made.address,
            server: None,
            container: Some(made.name),
            _keeper: Some(made.keeper),
        })
    }

    /// Its URL, with the password if it has one: the socket's where there is one.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where it listens on TCP: for a [`Proxy`](crate::Proxy).
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The local server; `None` in a container.
    pub fn server(&self) -> Option<&Server> {
        self.server.as_ref()
    }

    /// Its container's name.
    pub fn container(&self) -> Option<&str> {
        self.container.as_deref()
    }

    /// A connection.
    ///
    /// # Errors
    /// The driver's.
    pub async fn connect(&self) -> redis::RedisResult<redis::aio::MultiplexedConnection> {
        redis::Client::open(self.url.as_str())?.get_multiplexed_async_connection().await
    }
}

/// How the kit starts Redis: the program of `OPS_REDIS_SERVER`, else one on `PATH`.
pub fn local_redis_options() -> ServerOptions {
    let options = ServerOptions::default().with_parent(std::env::temp_dir());
    match std::env::var_os("OPS_REDIS_SERVER").filter(|program| !program.is_empty()) {
        Some(program) => options.with_program(program),
        None => options.with_path(std::env::var_os("PATH").unwrap_or_default()),
    }
}

async fn await_pong(url: &str) -> Result<(), String> {
    let client = redis::Client::open(url).map_err(|error| error.to_string())?;
    let end = tokio::time::Instant::now() + START_LIMIT;
    loop {
        let asked: redis::RedisResult<String> = async {
            let mut connection = client.get_multiplexed_async_connection().await?;
            redis::cmd("PING").query_async(&mut connection).await
        }
        .await;
        match asked {
            Ok(_) => return Ok(()),
            Err(error) if tokio::time::Instant::now() > end => return Err(error.to_string()),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}
