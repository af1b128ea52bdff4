//! The service's own pool, as the service itself finds it.

use std::time::Duration;

use ops_core::{Context, ErrorKind, Result};
use tokio::time::Instant;

use super::{PgTarget, Source};

/// How long it is waited for a connection: no request of the service should wait longer.
const PATIENCE: Duration = Duration::from_millis(2500);

/// A pool, and how it lends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lending {
    /// Connections, idle ones included.
    pub(crate) size: u32,
    pub(crate) idle: u32,
    /// As many as it may have.
    pub(crate) most: u32,
    /// How long it was waited for one.
    pub(crate) waited: Duration,
    /// Whether one came.
    pub(crate) lent: bool,
}

impl PgTarget {
    /// Borrows a connection of the pool that it was made of and gives it back; `None` of a target that connects by
    /// itself. No other read of this target borrows meanwhile.
    ///
    /// # Errors
    /// Where the pool cannot make a connection. One that has none free is no error.
    pub(crate) async fn lending(&self, cx: &Context) -> Result<Option<Lending>> {
        let Source::Pool(pool) = &self.inner.source else { return Ok(None) };
        let _turn = self.session(cx).await?;
        let (size, idle) = (pool.size(), u32::try_from(pool.num_idle()).unwrap_or(u32::MAX));
        let (most, started) = (pool.options().get_max_connections(), Instant::now());
        let acquire = async {
            match tokio::time::timeout(PATIENCE, pool.acquire()).await {
                Ok(Ok(_)) => Ok(true),
                Ok(Err(error)) => Err(self.not_lent(self.located(self.error("borrow a connection", error)))),
                Err(_) if pool.size() >= most => Ok(false),
                Err(_) => Err(self.not_lent(self.error("borrow a connection", sqlx::Error::PoolTimedOut))),
            }
        };
        let lent = match cx.run("borrow a connection", acquire).await {
            Err(error) if error.kind() == ErrorKind::Busy => false,
            lent => lent?,
        };
        Ok(Some(Lending { size, idle: idle.min(size), most, waited: started.elapsed(), lent }))
    }
}
