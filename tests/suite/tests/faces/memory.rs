//! What `ops check` remembers from one run to the next, and that it works without.

use std::path::Path;

use ops_core::HealthReport;
use ops_testkit::{MAJORS, RedisServer, Said, TestDb};

use crate::local::Local;

/// Look-ups enough for a hit rate to be judged.
const LOOKUPS: usize = 500;

fn config(directory: &Path, text: &str) -> String {
    let path = directory.join("ops.toml");
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// How many look-ups the check saw, where it saw enough of them.
fn lookups(said: &Said) -> Option<f64> {
    let report: HealthReport = serde_json::from_str(&said.stdout).unwrap();
    let probe = report.probes.iter().find(|probe| probe.probe == "redis.hit_rate").unwrap();
    probe.measurements.iter().find(|m| m.name == "lookups").map(|m| m.value)
}

fn check(config: &str, home: &Path) -> Said {
    let mut ops = Local::nothing().ops(&["--config", config, "check", "--output", "json"]);
    Said::by(ops.env("XDG_STATE_HOME", home))
}

#[tokio::test]
async fn a_rate_is_taken_since_the_last_check() {
    let Some(redis) = RedisServer::fresh().await else { return };
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path().join("home");
    let config = config(directory.path(), &format!("[redis.cache]\nurl = {:?}\n", redis.url()));
    let first = check(&config, &home);
    assert_eq!(first.stderr, "", "{first:?}");
    let mut connection = redis.connect().await.unwrap();
    let mut pipe = redis::pipe();
    for _ in 0..LOOKUPS {
        pipe.cmd("GET").arg("nothing");
    }
    let _: Vec<Option<String>> = pipe.query_async(&mut connection).await.unwrap();
    // Two samples of this run alone would not see what happened before it.
    let forgetful = check(&config, &directory.path().join("elsewhere"));
    assert!(lookups(&forgetful).is_none_or(|seen| seen < LOOKUPS as f64), "{forgetful:?}");
    let second = check(&config, &home);
    assert_eq!(lookups(&second), Some(LOOKUPS as f64), "{second:?}");
}

#[tokio::test]
async fn without_a_configuration_nothing_is_written() {
    let Some(redis) = RedisServer::fresh().await else { return };
    let directory = tempfile::tempdir().unwrap();
    let mut ops = Local::nothing().ops(&["check", "--redis", redis.url()]);
    let said = Said::by(ops.current_dir(&directory).env("XDG_STATE_HOME", directory.path()));
    assert_eq!(said.stderr, "");
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
}

#[tokio::test]
async fn a_check_goes_on_without_its_memory_and_says_so() {
    let Some(redis) = RedisServer::fresh().await else { return };
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path(), &format!("[redis.cache]\nurl = {:?}\n", redis.url()));
    let home = directory.path().join("home");
    let remembering = check(&config, &home);
    for home in [Path::new("/dev/null"), Path::new("relative")] {
        let said = check(&config, home);
        assert_eq!(said.code, remembering.code, "{said:?}");
        assert!(said.stderr.contains("the check goes on without what it remembers"), "{said:?}");
    }
    let damaged = directory.path().join("damaged/ops");
    std::fs::create_dir_all(&damaged).unwrap();
    std::fs::write(damaged.join("state.db"), "no database, and long enough to be looked at".repeat(100))
        .unwrap();
    let said = check(&config, damaged.parent().unwrap());
    assert_eq!(said.code, remembering.code, "{said:?}");
    assert!(said.stderr.contains("file is not a database"), "{said:?}");
}

/// A state on the server that it is about would be gone when it is needed.
#[tokio::test]
async fn a_state_on_a_watched_server_is_refused() {
    let Some(db) = TestDb::on(MAJORS[0]).await else { return };
    let directory = tempfile::tempdir().unwrap();
    let text = format!("[postgres.main]\nurl = {0:?}\n[state]\nurl = {0:?}\n", db.url());
    let mut ops = Local::nothing().ops(&[
        "--config",
        &config(directory.path(), &text),
        "check",
        "--only",
        "pg.reachable",
    ]);
    let said = Said::by(&mut ops);
    assert!(said.stderr.contains("[postgres.main] is the same server"), "{said:?}");
    assert_eq!(said.code, Some(0), "the check goes on: {said:?}");
}
