//! A health endpoint in an axum service, from the pool and the connection that the service has anyway.
//!
//! `DATABASE_URL=… REDIS_URL=… cargo run -p ops-examples --bin health-axum`, then `curl localhost:8080/health`.
//! `/live` says that the process runs, and asks nobody; `/health` is 503 when something is critical.

use std::env;
use std::error::Error;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use ops_cache::RedisTarget;
use ops_core::{Context, ProbeSet, Status, render};
use ops_pg::{PgConfig, PgTarget};

/// One context for all runs: it keeps what rates are measured against.
async fn health(State(health): State<Arc<(ProbeSet, Context)>>) -> impl IntoResponse {
    let report = health.0.cached(&health.1).await;
    let code = match report.status {
        Status::Critical => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::OK,
    };
    (code, [(header::CONTENT_TYPE, "application/health+json")], render::json(&report))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let pool =
        sqlx::postgres::PgPoolOptions::new().max_connections(5).connect_lazy(&env::var("DATABASE_URL")?)?;
    let redis = redis::Client::open(env::var("REDIS_URL")?)?.get_connection_manager().await?;

    let mut probes = ProbeSet::new("shop");
    PgTarget::from_pool("main", pool, PgConfig::default()).add_all_to(&mut probes);
    RedisTarget::from_connection("cache", redis).add_all_to(&mut probes);

    let app = Router::new()
        .route("/live", get(|| async { "ok" }))
        .route("/health", get(health))
        .with_state(Arc::new((probes, Context::new())));
    let address = env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:8080".to_owned());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
