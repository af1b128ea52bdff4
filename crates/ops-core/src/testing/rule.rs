//! How a suite says which rule is broken.

use std::fmt::{Debug, Display};
use std::future::Future;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};

/// What stopping may take: `ProbeSet` abandons a probe after about as long.
pub(super) const GRACE: Duration = Duration::from_secs(2);

pub(super) fn broken(rule: &str, detail: impl Display) -> ! {
    panic!("conformance: {rule}: {detail}")
}

pub(super) fn holds(rule: &str, condition: bool, detail: impl Display) {
    if !condition {
        broken(rule, detail);
    }
}

pub(super) fn same<T: PartialEq + Debug>(rule: &str, seen: T, expected: T) {
    if seen != expected {
        broken(rule, format!("expected {expected:?}, saw {seen:?}"));
    }
}

/// The value of a call that has to succeed.
pub(super) fn done<T>(rule: &str, result: Result<T>) -> T {
    result.unwrap_or_else(|error| broken(rule, error.report()))
}

/// A call that has to fail with `kind`.
pub(super) fn fails<T: Debug>(rule: &str, result: Result<T>, kind: ErrorKind) -> Error {
    match result {
        Ok(value) => broken(rule, format!("expected {kind:?}, and it succeeded with {value:?}")),
        Err(error) if error.kind() == kind => error,
        Err(error) => broken(rule, format!("expected {kind:?}, saw {:?}: {}", error.kind(), error.report())),
    }
}

/// A call that has to end in time, however it ends.
pub(super) async fn ends<T>(rule: &str, limit: Duration, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(limit, work).await {
        Ok(value) => value,
        Err(_) => broken(rule, format!("still going after {limit:?}")),
    }
}

/// No text shows a secret. The message says which one, not what it is.
pub(super) fn keeps_secrets(rule: &str, shown: &str, text: &str, secrets: &[&str]) {
    for (index, secret) in secrets.iter().enumerate() {
        holds(rule, !text.contains(secret), format!("{shown} shows secret number {index}"));
    }
}

/// Neither form of an error shows a secret.
pub(super) fn error_keeps_secrets(rule: &str, error: &Error, secrets: &[&str]) {
    keeps_secrets(rule, "an error", &error.report(), secrets);
    keeps_secrets(rule, "an error's Debug", &format!("{error:?}"), secrets);
    keeps_secrets(rule, "an error's fix", error.fix().unwrap_or_default(), secrets);
}

/// `family.subject`, of at least two parts: what thresholds, tickets and dashboards refer to.
pub(super) fn is_stable_name(name: &str) -> bool {
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_lowercase())
            && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-')
    };
    name.contains('.') && name.split('.').all(part)
}

/// The message with which a suite refuses a broken implementation; `None` when it does not.
#[cfg(test)]
pub(super) async fn refusal(suite: impl Future<Output = ()>) -> Option<String> {
    use futures::FutureExt;

    let panic = std::panic::AssertUnwindSafe(suite).catch_unwind().await.err()?;
    Some(panic.downcast_ref::<String>().cloned().unwrap_or_default())
}

/// Asserts that a suite refuses a broken implementation by `rule`.
#[cfg(test)]
pub(super) async fn assert_refused(fault: impl Debug, rule: &str, suite: impl Future<Output = ()>) {
    match refusal(suite).await {
        Some(message) => {
            let expected = format!("conformance: {rule}: ");
            assert!(message.starts_with(&expected), "{fault:?}: expected {expected:?}, saw {message:?}");
        }
        None => panic!("{fault:?} goes unnoticed"),
    }
}
