//! Keeps a lease for as long as a run takes.

use std::sync::Arc;
use std::time::Duration;

use crate::context::Context;
use crate::error::Result;
use crate::state::{Lease, Leases, State};

/// A run that stops renewing, because its process died, makes way after this.
const TTL: Duration = Duration::from_secs(30);

/// Holds a lease and renews it in the background. Losing it cancels the context that [`Keeper::take`] returned: what
/// goes on would be done twice.
#[derive(Debug)]
pub(super) struct Keeper {
    lease: Lease,
    state: Arc<dyn State>,
    renewing: tokio::task::JoinHandle<()>,
}

impl Keeper {
    /// Takes the lease of `name`, and a context that ends with it.
    pub(super) async fn take(
        cx: &Context,
        state: &Arc<dyn State>,
        name: &str,
        holder: &str,
    ) -> Result<(Self, Context)> {
        let lease = state.acquire(cx, name, holder, TTL).await?;
        let bound = cx.child();
        let renewing = tokio::spawn(renew(bound.clone(), Arc::clone(state), lease.clone()));
        Ok((Self { lease, state: Arc::clone(state), renewing }, bound))
    }

    pub(super) fn token(&self) -> u64 {
        self.lease.token
    }

    /// Gives it back. One that can't be given back expires.
    pub(super) async fn release(self) {
        self.renewing.abort();
        if let Err(error) = self.state.release(&self.lease).await {
            tracing::warn!("{}", error.report());
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}

async fn renew(cx: Context, state: Arc<dyn State>, lease: Lease) {
    let mut failures = 0;
    loop {
        tokio::time::sleep(TTL / 4).await;
        match Leases::renew(&*state, &cx, &lease, TTL).await {
            Ok(_) => failures = 0,
            // A store that is away for a moment has not given the lease to another; two quarters of its time are
            // left then.
            Err(error) if error.kind() != crate::error::ErrorKind::Precondition && failures < 1 => {
                failures += 1
            }
            Err(_) => return cx.cancel(),
        }
    }
}
