//! Health endpoints in an axum service, from the pool and the connection that the service has anyway.
//!
//! `DATABASE_URL=… REDIS_URL=… cargo run -p ops-examples --bin health-axum`, then `curl localhost:8080/readyz`.
//! `/livez` says that the process runs, and asks nobody; `/readyz` is 503 when a server cannot be reached, and
//! `/health` when anything is critical.

use std::env;
use std::error::Error;
use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use ops_cache::RedisTarget;
use ops_core::ProbeSet;
use ops_core::endpoint::{Answer, Endpoint};
use ops_pg::{PgConfig, PgTarget};

fn response(answer: Answer) -> Response {
    let code = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (code, [(header::CONTENT_TYPE, answer.content_type)], answer.body.to_string()).into_response()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let pool =
        sqlx::postgres::PgPoolOptions::new().max_connections(5).connect_lazy(&env::var("DATABASE_URL")?)?;
    let redis = redis::Client::open(env::var("REDIS_URL")?)?.get_connection_manager().await?;

    let mut probes = ProbeSet::new("shop");
    PgTarget::from_pool("main", pool, PgConfig::default()).add_all_to(&mut probes);
    RedisTarget::from_connection("cache", redis).add_all_to(&mut probes);
    let (live, ready, health, report) = {
        let endpoint = Arc::new(Endpoint::new(probes));
        (endpoint.clone(), endpoint.clone(), endpoint.clone(), endpoint)
    };

    let app = Router::new()
        .route("/livez", get(async move || response(live.live())))
        .route("/readyz", get(async move || response(ready.ready().await)))
        .route("/health", get(async move || response(health.health().await)))
        .route("/report", get(async move || response(report.report().await)));
    let address = env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:8080".to_owned());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
