//! A notification sent to ourselves: the one thing that takes a second connection, and more than reading.

use std::time::Duration;

use ops_core::{Context, Error, ErrorKind, Result};
use sqlx::postgres::{PgListener, PgPoolOptions};
use sqlx::{ConnectOptions, Executor, PgConnection, Row as _};
use tokio::time::Instant;

use super::{PgTarget, Source};
use crate::session::Link;

/// Committing it waits for one lock that all who notify share. It writes nothing else, so that it does not wait for
/// a synchronous standby.
const OPEN: &str = "BEGIN READ ONLY; SET LOCAL statement_timeout = 4500; SET LOCAL lock_timeout = 1500";

const BACKEND: &str = "SELECT pg_catalog.pg_backend_pid() AS pid";

/// What a notification may take from its commit to its listener, and a listener to connect.
pub(crate) const PATIENCE: Duration = Duration::from_millis(1500);

/// What became of a notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Notified {
    /// It arrived after this time.
    After(Duration),
    /// It did not arrive, or could not even be sent.
    Lost {
        /// What it waited for.
        why: String,
    },
    /// The question does not arise here.
    Impossible {
        /// What proves it.
        why: &'static str,
    },
}

impl PgTarget {
    /// Listens on a channel of a random name over a second connection, for as long as this takes, and notifies it
    /// over the first. Nobody else probes meanwhile. Nothing is left: the listening connection is closed, or goes
    /// back to its pool having ceased to listen, also when this is dropped midway.
    ///
    /// # Errors
    /// Those of [`PgTarget::read`], and of connecting.
    pub(crate) async fn notify_ourselves(&self, cx: &Context) -> Result<Notified> {
        if let Source::Pool(pool) = &self.inner.source
            && pool.options().get_max_connections() < 2
        {
            return Ok(Notified::Impossible {
                why: "the service's own pool has one connection, and it takes two",
            });
        }
        let mut session = self.session(cx).await?;
        let (mut link, ready) = self.open(cx, &mut session).await?;
        let outcome = match self.listener(cx).await {
            Ok(mut listener) => {
                let outcome = self.between(cx, &mut link, &mut listener).await;
                // Dropped, a listener ceases to listen in a task of its own, which may come after the runtime.
                let _ = tokio::time::timeout(PATIENCE, listener.unlisten_all()).await;
                outcome
            }
            Err(error) => Err(error),
        };
        let settled = outcome.as_ref().map(|_| Vec::new()).map_err(Clone::clone);
        self.settle(cx, &mut session, link, ready, settled).await?;
        outcome
    }

    async fn listener(&self, cx: &Context) -> Result<PgListener> {
        let started = Instant::now();
        let connect = async {
            match &self.inner.source {
                Source::Options { options, .. } => {
                    let options = options.as_ref().clone().application_name("ops:listen");
                    // The driver's listener comes with a pool: this one never has a second connection.
                    let pool = PgPoolOptions::new()
                        .max_connections(1)
                        .acquire_timeout(PATIENCE)
                        .connect_lazy_with(options.clone());
                    match PgListener::connect_with(&pool).await {
                        // A pool tries again where the server is full, and keeps to itself what it was told.
                        Err(sqlx::Error::PoolTimedOut) => match options.connect().await {
                            Ok(_) => Err(sqlx::Error::PoolTimedOut),
                            Err(refusal) => Err(refusal),
                        },
                        listener => listener,
                    }
                }
                Source::Pool(pool) => PgListener::connect_with(pool).await,
            }
            .map_err(|error| self.error("connect to listen", error))
        };
        let listener = cx.run("connect to listen", connect).await;
        cx.cost().round_trip(started.elapsed());
        let mut listener = listener.map_err(|error| self.not_lent(self.located(error)))?;
        listener.eager_reconnect(false);
        Ok(listener)
    }

    async fn between(&self, cx: &Context, link: &mut Link, listener: &mut PgListener) -> Result<Notified> {
        if self.share_a_backend(cx, link.connection(), listener).await? {
            return Ok(Notified::Impossible {
                why: "a pooler hands out its server connections by transaction: LISTEN has no effect behind it",
            });
        }
        let channel = format!("ops_{}", uuid::Uuid::now_v7().simple());
        self.listening(cx, "listen", listener.listen(&channel)).await?;
        let started = Instant::now();
        let sent = self.send(cx, link.connection(), format!("{OPEN}; NOTIFY {channel}; COMMIT")).await;
        match sent {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Busy => {
                let why = "another transaction that notifies does not finish its commit";
                self.send(cx, link.connection(), "ROLLBACK".to_owned()).await?;
                return Ok(Notified::Lost { why: why.to_owned() });
            }
            Err(error) => return Err(error),
        }
        let arrival = tokio::time::timeout(PATIENCE, arrival(listener, &channel));
        match self.listening(cx, "wait for a notification", async { Ok(arrival.await) }).await? {
            Ok(Ok(())) => Ok(Notified::After(started.elapsed())),
            Ok(Err(error)) => Err(self.located(self.error("wait for a notification", error))),
            Err(_) => {
                Ok(Notified::Lost { why: format!("it was sent, and had not arrived after {PATIENCE:?}") })
            }
        }
    }

    /// Whether both connections end in one backend, or one of them in several: no server does that, a pooler by
    /// transaction does. While our transaction is open it cannot lend its backend to the listener.
    async fn share_a_backend(
        &self,
        cx: &Context,
        connection: &mut PgConnection,
        listener: &mut PgListener,
    ) -> Result<bool> {
        let before = self.backend_of(cx, listener).await?;
        let rows = self.send(cx, connection, format!("{}; {BACKEND}", super::reading::OPEN)).await?;
        let ours: i32 = rows.first().map_or(Ok(before), |row| row.get("pid"))?;
        let shared = ours == before || self.backend_of(cx, listener).await? != before;
        self.send(cx, connection, "COMMIT".to_owned()).await?;
        Ok(shared)
    }

    async fn backend_of(&self, cx: &Context, listener: &mut PgListener) -> Result<i32> {
        self.listening(cx, "ask for the backend", async {
            listener.fetch_one(sqlx::raw_sql(BACKEND)).await?.try_get("pid")
        })
        .await
    }

    /// A step of the listener's, counted and bounded like a read.
    async fn listening<T>(
        &self,
        cx: &Context,
        what: &'static str,
        step: impl Future<Output = sqlx::Result<T>>,
    ) -> Result<T> {
        let started = Instant::now();
        let done = cx.run(what, async { step.await.map_err(|error| self.error(what, error)) }).await;
        cx.cost().round_trip(started.elapsed());
        done.map_err(|error: Error| self.located(error))
    }
}

async fn arrival(listener: &mut PgListener, channel: &str) -> sqlx::Result<()> {
    loop {
        match listener.try_recv().await? {
            Some(notification) if notification.channel() == channel => return Ok(()),
            Some(_) => {}
            None => return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
        }
    }
}
