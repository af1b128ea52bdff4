//! Who may run something now.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::error::{Error, ErrorKind, Result, Retry};

/// The right to be the only one at something, for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// What of.
    pub name: String,
    /// Who has it: a process, so that a person can find it.
    pub holder: String,
    /// The fencing token. Each lease of a name has a greater one than the last, also after that was released: what
    /// is written under a smaller token comes from somebody who lost it.
    pub token: u64,
    /// Until when, if it is not renewed.
    pub expires: DateTime<Utc>,
}

impl Lease {
    /// What whoever asks for it is told while somebody has it.
    pub fn is_held(&self) -> Error {
        Error::new(ErrorKind::Busy, "take the lease")
            .on(&self.name)
            .because(format!("{} has it until {}", self.holder, self.expires.format("%F %T UTC")))
            .retry(Retry::Safe { after: None })
    }

    /// What whoever had it is told when it is another's.
    pub fn is_lost(&self) -> Error {
        Error::new(ErrorKind::Precondition, "keep the lease")
            .on(&self.name)
            .because("it expired, and somebody else took it")
    }
}

/// Gives leases. Time is the store's own where it is shared between machines, and the context's otherwise.
///
/// # Errors
/// `Busy` when somebody else has it; the message says who and until when. `Precondition` from
/// [`Leases::renew`] when it was lost meanwhile. Those of the store.
#[async_trait]
pub trait Leases: Send + Sync + Debug {
    /// Takes the lease of `name` for `ttl`, when nobody has it or whoever had it let it expire. A holder that asks
    /// again does not get it twice: two runs of one process are two.
    async fn acquire(&self, cx: &Context, name: &str, holder: &str, ttl: Duration) -> Result<Lease>;

    /// Keeps it for `ttl` from now. One that has expired can still be renewed as long as nobody took it.
    async fn renew(&self, cx: &Context, lease: &Lease, ttl: Duration) -> Result<Lease>;

    /// Gives it back. One that was lost already is no error: somebody else's is left alone.
    async fn release(&self, lease: &Lease) -> Result<()>;
}
