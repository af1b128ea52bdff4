//! Containers that end with the process, `kill -9` included.
//!
//! testcontainers removes a container in a destructor, or on a signal it handles; neither survives `kill -9`, and
//! a destructor ends a container that other test processes use. So a container here belongs to a
//! [`Throwaway`] whose "server" is a shell that removes it when told to end.

use std::net::SocketAddr;
use std::time::Duration;

use ops_core::Context;
use ops_core::throwaway::{Throwaway, ThrowawayOptions, unique};
use testcontainers::core::IntoContainerPort;
use testcontainers::runners::AsyncRunner;
use testcontainers::{GenericImage, ImageExt};

use crate::missing::Missing;

/// Waits for a signal, then removes the container. Tried again, since the signal reaches `docker` as well.
const REMOVE: &str = r#"trap 'trap "" TERM; for i in 1 2 3 4 5; do docker rm -f -v "$0" && break; done; exit' TERM; while :; do sleep 60 & wait "$!"; done"#;

const START_LIMIT: Duration = Duration::from_secs(90);

/// What to run.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    pub(crate) image: &'static str,
    pub(crate) tag: String,
    pub(crate) port: u16,
    pub(crate) env: Vec<(&'static str, String)>,
    pub(crate) command: Vec<String>,
}

/// A container and what removes it.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) keeper: Throwaway,
    pub(crate) address: SocketAddr,
    pub(crate) name: String,
}

/// Starts a container; its server may not answer yet.
pub(crate) async fn start(recipe: Recipe) -> Result<Container, Missing> {
    let image = format!("{}:{}", recipe.image, recipe.tag);
    let missing = |why: String| {
        Missing::new(format!("the container {image}: {why}"))
            .with_how("start Docker and run scripts/setup test")
    };
    let name = format!("ops-testkit-{}-{}", recipe.image.replace('/', "-"), unique());
    let cx = Context::new();
    // Kept before it is made: whenever this process dies, somebody knows the name.
    let mut keeper = Throwaway::create(&cx, &keeper_options()).await.expect("a scratch directory");
    keeper.start(&cx, "/bin/sh", ["-c", REMOVE, &name]).await.expect("a shell");

    let mut request = GenericImage::new(recipe.image.to_owned(), recipe.tag)
        .with_exposed_port(recipe.port.tcp())
        .with_container_name(&name)
        .with_startup_timeout(START_LIMIT)
        .with_cmd(recipe.command);
    for (variable, value) in recipe.env {
        request = request.with_env_var(variable, value);
    }
    let container = tokio::time::timeout(START_LIMIT, request.start())
        .await
        .map_err(|_| missing(format!("not started within {START_LIMIT:?}")))?
        .map_err(|error| missing(error.to_string()))?;
    let port = container.get_host_port_ipv4(recipe.port).await.map_err(|error| missing(error.to_string()))?;
    // The keeper removes it; the destructor must not.
    std::mem::forget(container);
    Ok(Container { keeper, address: SocketAddr::from(([127, 0, 0, 1], port)), name })
}

fn keeper_options() -> ThrowawayOptions {
    // Docker's socket is closed to nobody.
    let mut options = ThrowawayOptions::default()
        .with_parent(std::env::temp_dir())
        .with_prefix("ops-container-")
        .with_users(["root"])
        .with_grace(Duration::from_secs(30));
    for name in ["PATH", "HOME", "DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "XDG_RUNTIME_DIR"] {
        if let Some(value) = std::env::var_os(name) {
            options = options.with_env(name, value);
        }
    }
    options
}
