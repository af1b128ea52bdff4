//! The rules of [`Notifier`].

use std::time::Duration;

use chrono::{TimeDelta, Utc};

use super::rule::{GRACE, done, ends, error_keeps_secrets, fails, holds, keeps_secrets, same};
use crate::context::Context;
use crate::error::{ErrorKind, Result, Retry};
use crate::finding::Severity;
use crate::notifier::{Delivery, NoticeKind, Notification, Notifier};

/// Checks a notifier whose channel takes what it is given: a real one, or a server that answers like it.
///
/// - The name is one word.
/// - Each kind and severity is taken, with and without body, labels and link.
/// - The same notification again is taken: told once more, or known as a duplicate.
/// - What is too long, and what is awkward to quote, is taken.
/// - Cancelled before or while it runs, it ends within 2 s; its error then says `Indeterminate`.
/// - `secrets` (the webhook's URL, keys, passwords) show up neither in an error nor in any `Debug`.
///
/// # Panics
/// When a rule is broken.
pub async fn notifier(notifier: &dyn Notifier, secrets: &[&str]) {
    let name = notifier.name();
    let one_word = !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control());
    holds("a notifier's name is one word", one_word, format!("{name:?}"));
    keeps_secrets("a notifier keeps its secrets", "its Debug", &format!("{notifier:?}"), secrets);

    let cx = Context::new();
    for (index, notification) in ordinary().into_iter().enumerate() {
        let delivery = taken("a notification is taken", notifier, &cx, &notification, secrets).await;
        let rule = "a new notification is no duplicate";
        holds(rule, delivery != Delivery::Duplicate, format!("number {index} is called one"));
        taken("the same notification is taken again", notifier, &cx, &notification, secrets).await;
    }
    for notification in awkward() {
        taken("an awkward notification is taken", notifier, &cx, &notification, secrets).await;
    }
    stopped(notifier, secrets).await;
}

/// Checks a notifier whose channel refuses, or can't be reached: one attempt ends within 2 s in an error of this
/// kind and retry class, which shows no secret. One call is one row of a channel's table of answers.
///
/// # Panics
/// When it succeeds, or fails in another way.
pub async fn failing_notifier(notifier: &dyn Notifier, kind: ErrorKind, retry: Retry, secrets: &[&str]) {
    let notification = make(NoticeKind::Firing, Severity::Critical);
    let cx = Context::new();
    let attempt = notifier.notify(&cx, &notification);
    let result = ends("an attempt that fails ends", GRACE, attempt).await;
    let error = fails("a failure has its kind", result, kind);
    same("a failure has its retry class", error.retry_class(), retry);
    error_keeps_secrets("a notifier keeps its secrets", &error, secrets);
}

/// Notifications of this run: a channel that remembers keys has not seen them before.
fn make(kind: NoticeKind, severity: Severity) -> Notification {
    let thread = format!("conformance/{}", uuid::Uuid::now_v7());
    Notification::new(thread, kind, severity, "5.2 % of requests fail", Utc::now())
}

fn ordinary() -> Vec<Notification> {
    let whole = make(NoticeKind::Firing, Severity::Warning)
        .body("since 08:00 UTC\non 3 of 4 servers")
        .label("service", "api")
        .link("https://wiki.example.org/runbook");
    let mut all = vec![whole];
    for kind in [NoticeKind::Firing, NoticeKind::StillFiring, NoticeKind::Resolved, NoticeKind::Test] {
        for severity in [Severity::Info, Severity::Warning, Severity::Critical] {
            all.push(make(kind, severity));
        }
    }
    // Two of one thread are two, however close together.
    let (thread, at) = (format!("conformance/{}", uuid::Uuid::now_v7()), Utc::now());
    for at in [at, at + TimeDelta::milliseconds(1)] {
        all.push(Notification::new(thread.clone(), NoticeKind::Firing, Severity::Warning, "twice", at));
    }
    all
}

fn awkward() -> Vec<Notification> {
    let quoted =
        "\"quoted\" 'single' \\back </script> *bold* <!channel> {{x}} %s $x `x` & \u{7} \u{1f525} \u{202e}";
    let plain = || make(NoticeKind::Firing, Severity::Critical);
    let titled = |title: &str| Notification {
        title: title.to_owned(),
        ..make(NoticeKind::Firing, Severity::Critical)
    };
    vec![
        plain().body(quoted).label(quoted, quoted),
        titled(quoted),
        titled("two\nlines"),
        titled(""),
        // Four bytes a character: whoever cuts at a byte cuts one in two.
        titled(&"\u{1f525}".repeat(20_000)),
        plain().body("\u{1f525}".repeat(200_000)),
        (0..500).fold(plain(), |n, label| n.label(format!("label_{label}"), "é".repeat(500))),
    ]
}

async fn taken(
    rule: &str,
    notifier: &dyn Notifier,
    cx: &Context,
    notification: &Notification,
    secrets: &[&str],
) -> Delivery {
    let result = notifier.notify(cx, notification).await;
    check_secrets(&result, secrets);
    done(rule, result)
}

async fn stopped(notifier: &dyn Notifier, secrets: &[&str]) {
    let rule = "a notifier that is stopped ends";
    let notification = make(NoticeKind::Test, Severity::Info);
    let cancelled = Context::new();
    cancelled.cancel();
    let before = ends(rule, GRACE, notifier.notify(&cancelled, &notification)).await;

    let cx = Context::new();
    let stop = async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        cx.cancel();
    };
    let meanwhile =
        ends(rule, GRACE, async { tokio::join!(notifier.notify(&cx, &notification), stop).0 }).await;
    for result in [before, meanwhile] {
        check_secrets(&result, secrets);
        if let Err(error) = result {
            same("a notifier that is stopped says Indeterminate", error.retry_class(), Retry::Indeterminate);
        }
    }
}

fn check_secrets(result: &Result<Delivery>, secrets: &[&str]) {
    match result {
        Ok(delivery) => {
            let text = format!("{delivery:?}");
            keeps_secrets("a notifier keeps its secrets", "a delivery", &text, secrets);
        }
        Err(error) => error_keeps_secrets("a notifier keeps its secrets", error, secrets),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Mutex;

    use async_trait::async_trait;

    use super::super::rule::assert_refused;
    use super::*;
    use crate::error::Error;

    const WEBHOOK: &str = "hooks/T0/B0/xyz";

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Fault {
        None,
        BadName,
        RefusesLong,
        CutsAtAByte,
        RefusesResolved,
        RefusesAgain,
        OneAThread,
        IgnoresCancellation,
        WrongRetryClass,
        ShowsInDebug,
        ShowsInError,
        ShowsInReceipt,
    }

    struct Board {
        fault: Fault,
        told: Mutex<HashSet<String>>,
    }

    impl std::fmt::Debug for Board {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(if self.fault == Fault::ShowsInDebug { WEBHOOK } else { "Board" })
        }
    }

    #[async_trait]
    impl Notifier for Board {
        fn name(&self) -> &str {
            if self.fault == Fault::BadName { "the board" } else { "board" }
        }

        async fn notify(&self, cx: &Context, notification: &Notification) -> Result<Delivery> {
            let failed = |why: &str| Error::new(ErrorKind::Failed, "notify").because(why);
            let send = async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                Ok(())
            };
            match self.fault {
                Fault::IgnoresCancellation => tokio::time::sleep(Duration::from_secs(10)).await,
                Fault::WrongRetryClass => {
                    cx.run("notify", send).await.map_err(|error| error.retry(Retry::Never))?;
                }
                _ => cx.run("notify", send).await?,
            }
            let title = &notification.title;
            match self.fault {
                Fault::RefusesLong if title.len() > 150 => return Err(failed("too long")),
                Fault::CutsAtAByte if title.len() > 150 && !title.is_char_boundary(150) => {
                    return Err(failed("not UTF-8"));
                }
                Fault::RefusesResolved if notification.kind == NoticeKind::Resolved => {
                    return Err(failed("unknown kind"));
                }
                Fault::ShowsInError => return Err(failed(&format!("no answer from {WEBHOOK}"))),
                Fault::ShowsInReceipt => {
                    return Ok(Delivery::Accepted { receipt: Some(WEBHOOK.to_owned()) });
                }
                _ => {}
            }
            let key = match self.fault {
                Fault::OneAThread => notification.thread.clone(),
                _ => notification.key.to_string(),
            };
            let new = self.told.lock().unwrap().insert(key);
            match new {
                true => Ok(Delivery::Accepted { receipt: None }),
                false if self.fault == Fault::RefusesAgain => Err(failed("told already")),
                false => Ok(Delivery::Duplicate),
            }
        }
    }

    fn board(fault: Fault) -> Board {
        Board { fault, told: Mutex::default() }
    }

    async fn run(fault: Fault) {
        notifier(&board(fault), &[WEBHOOK]).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_good_notifier_passes() {
        run(Fault::None).await;
    }

    #[tokio::test(start_paused = true)]
    async fn each_broken_notifier_is_refused_by_its_rule() {
        for (fault, rule) in [
            (Fault::BadName, "a notifier's name is one word"),
            (Fault::RefusesLong, "an awkward notification is taken"),
            (Fault::CutsAtAByte, "an awkward notification is taken"),
            (Fault::RefusesResolved, "a notification is taken"),
            (Fault::RefusesAgain, "the same notification is taken again"),
            (Fault::OneAThread, "a new notification is no duplicate"),
            (Fault::IgnoresCancellation, "a notifier that is stopped ends"),
            (Fault::WrongRetryClass, "a notifier that is stopped says Indeterminate"),
            (Fault::ShowsInDebug, "a notifier keeps its secrets"),
            (Fault::ShowsInError, "a notifier keeps its secrets"),
            (Fault::ShowsInReceipt, "a notifier keeps its secrets"),
        ] {
            assert_refused(fault, rule, run(fault)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_checked_for_kind_retry_and_secrets() {
        let check = |fault, kind, retry| async move {
            failing_notifier(&board(fault), kind, retry, &[WEBHOOK]).await;
        };
        let shows = Fault::ShowsInError;
        for (fault, kind, retry, rule) in [
            (Fault::None, ErrorKind::Failed, Retry::Never, "a failure has its kind"),
            (shows, ErrorKind::Timeout, Retry::Never, "a failure has its kind"),
            (shows, ErrorKind::Failed, Retry::Indeterminate, "a failure has its retry class"),
            (shows, ErrorKind::Failed, Retry::Never, "a notifier keeps its secrets"),
            (Fault::IgnoresCancellation, ErrorKind::Failed, Retry::Never, "an attempt that fails ends"),
        ] {
            assert_refused(fault, rule, check(fault, kind, retry)).await;
        }
    }
}
