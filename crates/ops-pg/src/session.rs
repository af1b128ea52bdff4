//! The one connection to a cluster, and what a run has learnt from it.

use std::sync::Arc;
use std::time::Duration;

use ops_core::{Error, ErrorKind, RunId};
use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, Postgres};

use crate::capabilities::Capabilities;
use crate::provider::Provider;

/// The one connection to a cluster, as far as this run got with it.
#[derive(Default)]
pub(crate) struct Session {
    pub(crate) ready: Option<Ready>,
    pub(crate) failures: Vec<Failure>,
    /// Who runs the server, as far as anybody got in.
    pub(crate) provider: Option<Provider>,
    /// Who the server of an address is, as this run learnt it.
    pub(crate) identity: Option<(RunId, String, String)>,
}

pub(crate) struct Ready {
    pub(crate) run: RunId,
    pub(crate) address: String,
    /// The name under which the server knows the connection; empty for a borrowed one.
    pub(crate) tag: String,
    /// `None` while a borrowed connection is back in its pool.
    pub(crate) link: Option<Link>,
    pub(crate) connected_in: Duration,
    pub(crate) capabilities: Arc<Capabilities>,
}

/// What went wrong once in a run and need not be waited for again.
pub(crate) struct Failure {
    pub(crate) run: RunId,
    pub(crate) address: String,
    pub(crate) error: Error,
}

impl Failure {
    /// A database that does not exist says nothing about its siblings; a server that does not answer does.
    pub(crate) fn concerns(&self, run: RunId, address: &str) -> bool {
        let whole_server = matches!(self.error.kind(), ErrorKind::Unreachable | ErrorKind::Timeout);
        self.run == run && (whole_server || self.address == address)
    }
}

/// A connection of our own, or one that a pool lends. Dropped, either is closed: a pool must not get back one in
/// mid-statement or mid-transaction. [`Session::keep`] gives back one that is sound.
pub(crate) enum Link {
    Own(PgConnection),
    Borrowed(Loan),
}

/// A borrowed connection.
pub(crate) struct Loan(Option<PoolConnection<Postgres>>);

impl Drop for Loan {
    fn drop(&mut self) {
        drop(self.0.take().map(PoolConnection::detach));
    }
}

impl Link {
    pub(crate) fn borrowed(connection: PoolConnection<Postgres>) -> Self {
        Link::Borrowed(Loan(Some(connection)))
    }

    pub(crate) fn connection(&mut self) -> &mut PgConnection {
        match self {
            Link::Own(connection) => connection,
            Link::Borrowed(Loan(connection)) => {
                connection.as_mut().expect("a loan holds its connection until it ends")
            }
        }
    }
}

impl Session {
    /// Who the server is, where this run has asked it already.
    pub(crate) fn identity(&self, run: RunId, address: &str) -> Option<String> {
        let known = self.identity.as_ref().filter(|(asked, of, _)| *asked == run && of == address);
        known.map(|(.., identity)| identity.clone())
    }

    /// What already failed in this run and concerns this database.
    pub(crate) fn failure(&self, run: RunId, address: &str) -> Option<&Error> {
        self.failures.iter().find(|failure| failure.concerns(run, address)).map(|failure| &failure.error)
    }

    /// Puts the connection back for the next read of the run; a borrowed one goes back to its pool meanwhile.
    pub(crate) fn keep(&mut self, link: Link, mut ready: Ready) {
        ready.link = match link {
            Link::Own(connection) => Some(Link::Own(connection)),
            Link::Borrowed(mut loan) => {
                drop(loan.0.take());
                None
            }
        };
        self.ready = Some(ready);
    }

    pub(crate) fn fail(&mut self, run: RunId, address: &str, error: &Error) {
        self.failures.retain(|failure| failure.run == run);
        self.failures.push(Failure { run, address: address.to_owned(), error: error.clone() });
    }
}
