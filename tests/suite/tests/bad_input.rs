//! Servers that cannot be looked at: each says what and where, in bounded time, without its secret, and nothing of
//! ours stays behind.

#[path = "bad_input/cache.rs"]
mod cache;
#[path = "bad_input/check.rs"]
mod check;
#[path = "bad_input/cluster.rs"]
mod cluster;
#[path = "bad_input/endpoint.rs"]
mod endpoint;
#[path = "bad_input/postgres.rs"]
mod postgres;
#[path = "bad_input/secure.rs"]
mod secure;
#[expect(dead_code, reason = "host.rs swaps certificates; nothing here does")]
#[path = "host/service.rs"]
mod service;
