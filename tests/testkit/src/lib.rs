//! Throwaway real servers, proxies and certificates for tests.
//!
//! ```no_run
//! # async fn example() {
//! use ops_testkit::{Behaviour, Proxy, Role, TestDb};
//!
//! let Some(db) = TestDb::on(18).await else { return };
//! db.execute("CREATE TABLE t (id int)").await;
//! let proxy = Proxy::to(db.server().address()).await.unwrap();
//! proxy.set(Behaviour::Stall).await;
//! let url = db.url_at(proxy.address(), Role::Monitor);
//! # }
//! ```
//!
//! A server that is not on this machine skips a test loudly, and fails it where `OPS_REQUIRE_SERVERS=1`, as in
//! CI: [`or_skip`].

mod container;
mod database;
mod eventually;
mod missing;
mod pgbouncer;
mod postgres;
mod program;
mod proxy;
mod redis;
mod shared;
mod tls;

pub use database::{ROLES, Role, TestDb, on_postgres};
pub use eventually::eventually;
pub use missing::{Missing, or_skip, or_skip_to};
pub use pgbouncer::PgBouncer;
pub use postgres::{MAJORS, PgServer, local_options};
pub use program::{Said, program};
pub use proxy::{Behaviour, End, Proxy};
pub use redis::{RedisServer, local_redis_options};
pub use shared::LINGER;
pub use tls::{Authority, Identity};
