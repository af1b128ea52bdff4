//! Telling somebody: one notification, one attempt.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::error::Result;
use crate::finding::Severity;
use crate::redact::redact;

/// Why a notification is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum NoticeKind {
    /// Trouble has begun.
    Firing,
    /// Trouble goes on.
    StillFiring,
    /// Trouble is over.
    Resolved,
    /// A proof that the channel works; nothing is wrong.
    Test,
}

impl NoticeKind {
    /// The word used in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            NoticeKind::Firing => "firing",
            NoticeKind::StillFiring => "still_firing",
            NoticeKind::Resolved => "resolved",
            NoticeKind::Test => "test",
        }
    }
}

/// What makes two notifications the same: 64 hexadecimal digits, fit for any header or field.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(transparent)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// One thing to tell.
///
/// Its key follows from thread, kind and time, so that whoever makes it again after a crash makes the same one.
///
/// ```
/// use ops_core::{NoticeKind, Notification, Severity};
/// let at = chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap();
/// let make = |kind| Notification::new("api/error_rate", kind, Severity::Critical, "5.2 % of requests fail", at)
///     .body("since 08:00 UTC")
///     .label("service", "api");
/// assert_eq!(make(NoticeKind::Firing).key, make(NoticeKind::Firing).key);
/// assert_ne!(make(NoticeKind::Firing).key, make(NoticeKind::Resolved).key);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[non_exhaustive]
pub struct Notification {
    /// The same for every attempt to tell this very thing, on every channel.
    pub key: IdempotencyKey,
    /// What ties firing, still firing and resolved together: the alert with its target, or the incident.
    pub thread: String,
    /// Why it is sent.
    pub kind: NoticeKind,
    /// How bad it is.
    pub severity: Severity,
    /// One line, redacted.
    pub title: String,
    /// The rest, redacted; of any length. A notifier cuts it to what its channel takes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub body: String,
    /// When what it tells happened; not when it is sent.
    pub at: DateTime<Utc>,
    /// The labels of the alert.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Where to read on: the runbook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}

impl Notification {
    /// A notification with a title alone.
    pub fn new(
        thread: impl Into<String>,
        kind: NoticeKind,
        severity: Severity,
        title: impl Into<String>,
        at: DateTime<Utc>,
    ) -> Self {
        let thread = thread.into();
        Self {
            key: key_of(&thread, kind, at),
            thread,
            kind,
            severity,
            title: redact(&title.into()),
            body: String::new(),
            at,
            labels: BTreeMap::new(),
            link: None,
        }
    }

    /// Says the rest.
    #[must_use]
    pub fn body(mut self, body: impl Into<String>) -> Self {
        self.body = redact(&body.into());
        self
    }

    /// Adds a label.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), redact(&value.into()));
        self
    }

    /// Says where to read on.
    #[must_use]
    pub fn link(mut self, link: impl Into<String>) -> Self {
        self.link = Some(redact(&link.into()));
        self
    }
}

fn key_of(thread: &str, kind: NoticeKind, at: DateTime<Utc>) -> IdempotencyKey {
    let at = at.to_rfc3339_opts(SecondsFormat::Nanos, true);
    // NUL keeps the parts apart: "ab" + "c" is not "a" + "bc".
    let parts = format!("{thread}\0{}\0{at}", kind.as_str());
    IdempotencyKey(blake3::hash(parts.as_bytes()).to_hex().to_string())
}

/// What became of a notification that its channel took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case", tag = "outcome")]
#[non_exhaustive]
pub enum Delivery {
    /// The channel has it now.
    Accepted {
        /// What the provider calls it, where it says so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        receipt: Option<String>,
    },
    /// The channel had it already, by its key, and tells nobody twice.
    Duplicate,
}

/// Tells somebody, in one attempt.
///
/// Retry, rate limits, ordering and the outbox are outside: a notifier that waits and tries again by itself would
/// hide what happened. It passes the idempotency key on wherever the channel can use it; where it can't, the same
/// notification sent twice is told twice. What is too long for the channel is cut, never an error.
///
/// Cancelled or out of time before the channel answered, the notification may have been told:
/// [`Retry::Indeterminate`](crate::Retry).
///
/// # Errors
/// With a retry class that the outbox acts on: `Safe` when the channel surely did not take it and may later (with
/// the time it asked for), `Never` when it never will, `Indeterminate` when nobody knows. No error, and no
/// `Debug`, shows the channel's secrets; a webhook's URL is one.
///
/// ```
/// use std::sync::Mutex;
/// use ops_core::{Context, Delivery, Notification, Notifier, Result};
///
/// #[derive(Debug, Default)]
/// struct Board(Mutex<Vec<String>>);
///
/// #[async_trait::async_trait]
/// impl Notifier for Board {
///     fn name(&self) -> &str {
///         "board"
///     }
///     async fn notify(&self, _cx: &Context, notification: &Notification) -> Result<Delivery> {
///         self.0.lock().unwrap().push(notification.title.clone());
///         Ok(Delivery::Accepted { receipt: None })
///     }
/// }
/// ```
#[async_trait]
pub trait Notifier: Send + Sync + Debug {
    /// The channel's name, as the configuration calls it.
    fn name(&self) -> &str;

    /// Makes one attempt.
    async fn notify(&self, cx: &Context, notification: &Notification) -> Result<Delivery>;
}

#[async_trait]
impl<N: Notifier + ?Sized> Notifier for Arc<N> {
    fn name(&self) -> &str {
        (**self).name()
    }
    async fn notify(&self, cx: &Context, notification: &Notification) -> Result<Delivery> {
        (**self).notify(cx, notification).await
    }
}

#[async_trait]
impl<N: Notifier + ?Sized> Notifier for Box<N> {
    fn name(&self) -> &str {
        (**self).name()
    }
    async fn notify(&self, cx: &Context, notification: &Notification) -> Result<Delivery> {
        (**self).notify(cx, notification).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_follows_from_what_is_told() {
        let at = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let later = at + chrono::TimeDelta::nanoseconds(1);
        let keys = [
            key_of("a", NoticeKind::Firing, at),
            key_of("b", NoticeKind::Firing, at),
            key_of("a", NoticeKind::Resolved, at),
            key_of("a", NoticeKind::Firing, later),
        ];
        for (index, key) in keys.iter().enumerate() {
            assert!(!keys[..index].contains(key), "{index}");
        }
        // Keys sit in the outbox and at providers: a change here tells everything twice.
        assert!(keys[0].as_str().starts_with("277157674b52"), "{}", keys[0]);
    }

    #[test]
    fn a_notification_carries_no_password() {
        let notification =
            Notification::new("a", NoticeKind::Firing, Severity::Warning, "no answer", Utc::now())
                .body("postgres://app:hunter2@db/shop")
                .label("url", "redis://:hunter2@cache")
                .link("https://ops:hunter2@wiki/runbook");
        assert!(!serde_json::to_string(&notification).unwrap().contains("hunter2"));
    }
}
