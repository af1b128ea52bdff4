use super::*;
use ops_core::{NoticeKind, Severity, testing};
use serde_json::Value;
use tempfile::TempDir;

fn file() -> (TempDir, FileNotifier) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notifications.jsonl");
    (dir, FileNotifier::new("log", path))
}

fn notice(thread: &str) -> Notification {
    let at = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    Notification::new(thread, NoticeKind::Firing, Severity::Warning, "5 % fail", at).body("two\nlines")
}

fn text(notifier: &FileNotifier) -> String {
    std::fs::read_to_string(&notifier.path).unwrap()
}

/// The threads told, line by line; `None` for what is no notification.
fn told(notifier: &FileNotifier) -> Vec<Option<String>> {
    let thread = |line| serde_json::from_str::<Value>(line).ok()?["thread"].as_str().map(str::to_owned);
    text(notifier).lines().map(thread).collect()
}

async fn tell(notifier: &FileNotifier, thread: &str) -> Delivery {
    notifier.notify(&Context::new(), &notice(thread)).await.unwrap()
}

const NEW: Delivery = Delivery::Accepted { receipt: None };

#[tokio::test]
async fn it_keeps_the_rules_of_a_notifier() {
    testing::notifier(&file().1, &[]).await;
}

#[tokio::test]
async fn a_file_that_cannot_be_written_says_so() {
    let dir = tempfile::tempdir().unwrap();
    for (path, kind, retry) in [
        (dir.path().join("missing/a.jsonl"), ErrorKind::NotFound, Retry::Never),
        (dir.path().to_owned(), ErrorKind::InvalidInput, Retry::Never),
        ("/dev/full".into(), ErrorKind::Exhausted, Retry::Safe { after: None }),
    ] {
        // macOS has no /dev/full.
        if path.starts_with(dir.path()) || path.exists() {
            testing::failing_notifier(&FileNotifier::new("log", path), kind, retry, &[]).await;
        }
    }
}

#[tokio::test]
async fn a_line_holds_the_whole_notification() {
    let (_dir, notifier) = file();
    let clock = testing::ManualClock::at(DateTime::from_timestamp(1_800_000_060, 0).unwrap());
    notifier.notify(&Context::new().with_clock(clock), &notice("api")).await.unwrap();
    let line: Value = serde_json::from_str(&text(&notifier)).unwrap();
    assert_eq!((&line["schema"], &line["written_at"]), (&SCHEMA.into(), &"2027-01-15T08:01:00Z".into()));
    assert_eq!(serde_json::from_value::<Notification>(line).unwrap(), notice("api"));
    assert_eq!(notifier.path.metadata().unwrap().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_key_is_written_once_whoever_wrote_it() {
    let (_dir, first) = file();
    let second = FileNotifier::new("log", &first.path);
    assert_eq!(tell(&first, "a").await, NEW);
    assert_eq!(tell(&second, "a").await, Delivery::Duplicate);
    assert_eq!(tell(&second, "b").await, NEW);
    assert_eq!(tell(&first, "b").await, Delivery::Duplicate);
    assert_eq!(told(&first), [Some("a".into()), Some("b".into())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_at_once_write_each_key_once() {
    let (_dir, notifier) = file();
    let writers: Vec<_> = (0..4)
        .map(|_| {
            let notifier = FileNotifier::new("log", &notifier.path);
            tokio::spawn(async move {
                for n in 0..25 {
                    tell(&notifier, &format!("thread {n}")).await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let mut lines = told(&notifier);
    lines.sort();
    let mut expected: Vec<_> = (0..25).map(|n| Some(format!("thread {n}"))).collect();
    expected.sort();
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn a_line_cut_short_is_left_behind_and_told_again() {
    let (_dir, notifier) = file();
    tell(&notifier, "a").await;
    let whole = text(&notifier);
    std::fs::write(&notifier.path, &whole[..whole.len() / 2]).unwrap();
    assert_eq!(tell(&notifier, "a").await, NEW);
    assert_eq!(told(&notifier), [None, Some("a".into())]);
    // Whole but for its end: nobody was told that it was taken, and nobody can tell that it is whole.
    std::fs::write(&notifier.path, whole.trim_end()).unwrap();
    assert_eq!(tell(&notifier, "b").await, NEW);
    assert_eq!(tell(&notifier, "a").await, Delivery::Duplicate);
    assert_eq!(told(&notifier), [Some("a".into()), Some("b".into())]);
}

#[tokio::test]
async fn a_rotated_file_begins_anew() {
    let (_dir, notifier) = file();
    tell(&notifier, "a").await;
    std::fs::rename(&notifier.path, notifier.path.with_extension("1")).unwrap();
    assert_eq!(tell(&notifier, "a").await, NEW);
    std::fs::write(&notifier.path, "").unwrap();
    assert_eq!(tell(&notifier, "a").await, NEW);
    assert_eq!(told(&notifier), [Some("a".into())]);
}

#[tokio::test]
async fn a_lock_held_elsewhere_is_waited_for_within_the_deadline() {
    let (_dir, notifier) = file();
    let held = File::create(&notifier.path).unwrap();
    held.lock().unwrap();
    let cx = Context::new().with_deadline(Duration::from_millis(50));
    let error = notifier.notify(&cx, &notice("a")).await.unwrap_err();
    assert_eq!((error.kind(), error.retry_class()), (ErrorKind::Timeout, Retry::Indeterminate));
    assert_eq!(text(&notifier), "");
    drop(held);
    assert_eq!(tell(&notifier, "a").await, NEW);
}
