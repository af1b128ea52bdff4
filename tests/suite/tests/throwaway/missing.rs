//! A missing server skips loudly on a laptop and fails in CI.

use ops_testkit::{Missing, or_skip_to};

use super::Parent;
use super::client::Client;

#[test]
fn a_skip_says_what_and_how() {
    let mut said = Vec::new();
    let none =
        or_skip_to::<()>(Err(Missing::new("PostgreSQL 99")), false, &mut |line| said.push(line.to_owned()));
    assert_eq!(none, None);
    assert_eq!(
        said,
        [
            "SKIPPED: throwaway::missing::a_skip_says_what_and_how: PostgreSQL 99; to get it, run scripts/setup test"
        ]
    );
}

#[test]
#[should_panic(expected = "MISSING: PostgreSQL 99; to get it, run scripts/setup test")]
fn a_required_server_fails_the_test() {
    or_skip_to::<()>(Err(Missing::new("PostgreSQL 99")), true, &mut |_| {});
}

#[test]
fn the_environment_decides() {
    let parent = Parent::new();
    let log = parent.path().join("skips");
    let mut client = Client::command("needs redis", parent.path());
    client.env("OPS_REDIS_SERVER", "/nowhere/redis-server").env("OPS_SKIP_LOG", &log);

    let laptop = client.env_remove("OPS_REQUIRE_SERVERS").output().unwrap();
    let stderr = String::from_utf8_lossy(&laptop.stderr).into_owned();
    assert!(laptop.status.success(), "{stderr}");
    assert!(stderr.contains("SKIPPED: ") && stderr.contains("/nowhere/redis-server"), "{stderr}");
    let logged = std::fs::read_to_string(&log).unwrap();
    assert!(logged.starts_with("SKIPPED: ") && logged.lines().count() == 1, "{logged}");

    let ci = client.env("OPS_REQUIRE_SERVERS", "1").output().unwrap();
    let words = String::from_utf8_lossy(&ci.stderr).into_owned() + &String::from_utf8_lossy(&ci.stdout);
    assert!(!ci.status.success(), "{words}");
    assert!(words.contains("MISSING: ") && words.contains("OPS_REDIS_SERVER"), "{words}");
}
