//! The one error type of ops: what kind, whether a retry is safe, what was tried, on what.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use crate::redact::redact;

/// `std::result::Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, as far as a caller acts on it. [`exit::of_error`](crate::exit::of_error) maps each kind to
/// its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The caller asked for something that makes no sense.
    InvalidInput,
    /// The configuration makes no sense.
    Configuration,
    /// Nothing answers at the address.
    Unreachable,
    /// It took longer than allowed.
    Timeout,
    /// The caller gave up.
    Cancelled,
    /// The server did not accept who we are.
    Unauthenticated,
    /// The server knows who we are, and says no.
    PermissionDenied,
    /// The secure channel could not be made.
    Tls,
    /// It is not there.
    NotFound,
    /// It is there already, or has changed meanwhile.
    Precondition,
    /// Somebody else holds it; later may do.
    Busy,
    /// A limit is reached: connections, memory, disk.
    Exhausted,
    /// The server cannot do this.
    Unsupported,
    /// Data is damaged.
    Corrupt,
    /// Execution was asked for and refused.
    Refused,
    /// The operation failed and was rolled back.
    RolledBack,
    /// The operation failed, and so did its rollback: a human is needed.
    RollbackFailed,
    /// It was done, and the proof failed.
    VerificationFailed,
    /// The server answered with an error of another kind.
    Failed,
    /// A bug in ops.
    Bug,
}

/// Whether trying again is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Trying again cannot help.
    Never,
    /// Trying again is safe, not sooner than `after` where the other side said so.
    Safe {
        /// How long to wait at least.
        after: Option<Duration>,
    },
    /// It may have happened: look before trying again.
    Indeterminate,
}

/// An error. `Display` leaves the source out, so that a chain is printed once; [`Error::report`] prints it.
///
/// ```
/// use ops_core::{Error, ErrorKind};
/// let error = Error::new(ErrorKind::Unreachable, "connect")
///     .on("postgres://app:s3cret@db/shop")
///     .because("connection refused");
/// assert_eq!(error.to_string(), "failed to connect to postgres://app:***@db/shop: connection refused");
/// ```
///
/// Clones share the source: a failed connection is the same cause for every probe that wanted it.
#[derive(Clone, Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(Box<Inner>);

#[derive(Clone, Debug, thiserror::Error)]
#[error("failed to {operation}{}{}", self.place(), self.reason())]
struct Inner {
    kind: ErrorKind,
    retry: Retry,
    operation: Cow<'static, str>,
    target: Option<String>,
    message: Option<String>,
    fix: Option<String>,
    #[source]
    source: Option<Source>,
}

/// A shared cause that `source()` looks through: an `Arc` there would hide the cause's own type from whoever
/// downcasts it.
#[derive(Clone, Debug)]
struct Source(Arc<dyn std::error::Error + Send + Sync>);

impl std::ops::Deref for Source {
    type Target = dyn std::error::Error + Send + Sync;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl Error {
    /// An error in `operation`, a verb phrase that continues "failed to …".
    pub fn new(kind: ErrorKind, operation: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            kind,
            retry: Retry::Never,
            operation: operation.into(),
            target: None,
            message: None,
            fix: None,
            source: None,
        }))
    }

    /// Names the target; a URL loses its password here.
    #[must_use]
    pub fn on(mut self, target: impl AsRef<str>) -> Self {
        self.0.target = Some(redact(target.as_ref()));
        self
    }

    /// Says why, in one line; redacted.
    #[must_use]
    pub fn because(mut self, message: impl AsRef<str>) -> Self {
        self.0.message = Some(redact(message.as_ref()));
        self
    }

    /// The exact statement, setting or command that would help.
    #[must_use]
    pub fn with_fix(mut self, fix: impl Into<String>) -> Self {
        self.0.fix = Some(fix.into());
        self
    }

    /// Says whether a retry is safe; `Never` unless told.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.0.retry = retry;
        self
    }

    /// Keeps the cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(Source(Arc::from(source.into())));
        self
    }

    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether trying again is safe.
    pub fn retry_class(&self) -> Retry {
        self.0.retry
    }

    /// The redacted target, where one is known.
    pub fn target(&self) -> Option<&str> {
        self.0.target.as_deref()
    }

    /// Why, without operation and target.
    pub fn message(&self) -> Option<&str> {
        self.0.message.as_deref()
    }

    /// What would help.
    pub fn fix(&self) -> Option<&str> {
        self.0.fix.as_deref()
    }

    /// The whole chain in one redacted line; a link that the line says already is left out.
    pub fn report(&self) -> String {
        let mut line = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            let text = redact(&cause.to_string());
            if !line.contains(&text) {
                line.push_str(": ");
                line.push_str(&text);
            }
            source = cause.source();
        }
        line
    }
}

impl Inner {
    fn place(&self) -> String {
        let preposition = if self.operation.ends_with("connect") { "to" } else { "on" };
        self.target.as_ref().map(|target| format!(" {preposition} {target}")).unwrap_or_default()
    }

    fn reason(&self) -> String {
        self.message.as_ref().map(|message| format!(": {message}")).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_keeps_its_type() {
        let error = Error::new(ErrorKind::Failed, "read").caused_by(std::io::Error::other("oh"));
        let source = std::error::Error::source(&error);
        assert!(source.is_some_and(|source| source.is::<std::io::Error>()), "{source:?}");
    }
}
