//! Connecting: once a run, and what a failed connection says.

use std::sync::Arc;
use std::time::Duration;

use ops_core::{Context, Error, ErrorKind, Result, Retry};
use sqlx::{ConnectOptions, Connection};
use tokio::time::Instant;

use super::reading::{OPEN, OWN, gave_up};
use super::{PgTarget, Source};
use crate::capabilities::{self, Capabilities};
use crate::session::{Link, Ready, Session};

/// What a second connection may take to cancel what the first one left running.
const CANCEL_TIME: Duration = Duration::from_millis(800);

impl PgTarget {
    /// Takes the connection out of the session, making it where this run has none. Taken out, a probe that is
    /// dropped midway takes it along, and the next one starts afresh.
    pub(super) async fn open(&self, cx: &Context, session: &mut Session) -> Result<(Link, Ready)> {
        let (run, address) = (cx.run_id(), &self.inner.address);
        if let Some(failure) = session.failure(run, address) {
            return Err(failure.clone());
        }
        let opened = match session.ready.take() {
            Some(mut ready) if ready.run == run && ready.address == *address => match ready.link.take() {
                Some(link) => Ok((link, ready)),
                None => self.connect(cx).await.map(|link| (link, ready)),
            },
            // Another database's connection is closed first. Another run's proves nothing about now, neither
            // that new ones are accepted nor that the role's rights are still the same.
            Some(_) | None => {
                let greeted = self.greet(cx).await;
                if let Ok((_, ready)) = &greeted {
                    session.provider = Some(ready.capabilities.provider);
                }
                greeted
            }
        };
        opened.inspect_err(|error| session.fail(run, address, error))
    }

    pub(super) async fn greet(&self, cx: &Context) -> Result<(Link, Ready)> {
        let started = Instant::now();
        let mut link = self.connect(cx).await?;
        let connected_in = started.elapsed();
        let tag = match &self.inner.source {
            Source::Options { tag, .. } => tag.clone(),
            Source::Pool(_) => String::new(),
        };
        let batch = format!("{OPEN};{OWN};{};COMMIT", capabilities::SQL);
        let sent = self.send(cx, link.connection(), batch).await;
        if sent.as_ref().is_err_and(gave_up) {
            drop(link);
            self.cancel_leftovers(&tag).await;
            return Err(sent.err().unwrap_or_else(|| Error::new(ErrorKind::Bug, "connect")));
        }
        let rows = sent?;
        let row = rows.first().ok_or_else(|| Error::new(ErrorKind::Bug, "read the capabilities"))?;
        let capabilities = Arc::new(Capabilities::read(row, self.inner.config.provider)?);
        let address = self.inner.address.clone();
        Ok((link, Ready { run: cx.run_id(), address, tag, link: None, connected_in, capabilities }))
    }

    pub(super) async fn connect(&self, cx: &Context) -> Result<Link> {
        let started = Instant::now();
        let connect = async {
            match &self.inner.source {
                Source::Options { options, .. } => options.connect().await.map(Link::Own),
                Source::Pool(pool) => pool.acquire().await.map(Link::borrowed),
            }
            .map_err(|error| self.error("connect", error))
        };
        let link = cx.run("connect", connect).await.map_err(|error| self.not_lent(self.located(error)));
        cx.cost().round_trip(started.elapsed());
        link
    }

    /// Cancels what our dropped connection left running: dropping a future does not stop the backend.
    /// Says whether the server answered.
    pub(super) async fn cancel_leftovers(&self, tag: &str) -> bool {
        const CANCEL: &str = "SELECT pg_catalog.pg_cancel_backend(pid) FROM pg_catalog.pg_stat_activity \
                              WHERE application_name = $1 AND usename = current_user \
                              AND pid <> pg_catalog.pg_backend_pid() AND state = 'active'";
        let Source::Options { options, .. } = &self.inner.source else { return false };
        let options = options.as_ref().clone().application_name("ops:cancel");
        let cancel = async {
            let mut connection = options.connect().await?;
            sqlx::query(CANCEL).bind(tag).persistent(false).execute(&mut connection).await?;
            connection.close().await
        };
        match tokio::time::timeout(CANCEL_TIME, cancel).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                let error = self.error("cancel a statement", error);
                tracing::warn!(target = %self.inner.name, "{}", error.report());
                false
            }
            Err(_) => {
                tracing::warn!(target = %self.inner.name, "no answer to a cancel request");
                false
            }
        }
    }

    /// A pool whose connections are all lent says nothing about the server; one that could have made another, and
    /// did not get it, does.
    pub(super) fn not_lent(&self, error: Error) -> Error {
        let Source::Pool(pool) = &self.inner.source else { return error };
        if !matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Busy) {
            return error;
        }
        let (kind, why) = match pool.size() >= pool.options().get_max_connections() {
            true => (ErrorKind::Busy, "the service's own pool had none free in time"),
            false => (ErrorKind::Unreachable, "the service's own pool could not make one in time"),
        };
        Error::new(kind, "borrow a connection")
            .on(self.label())
            .because(why)
            .retry(Retry::Safe { after: None })
    }
}
