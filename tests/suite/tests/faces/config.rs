use std::path::Path;

use ops_testkit::Said;
use serde_json::Value;

use crate::local::{Local, complete};
use crate::{healthy, ops};

/// Runs `ops` in a directory.
fn within(local: &Local, dir: &Path, environment: &[(&str, &str)], arguments: &[&str]) -> Said {
    Said::by(local.ops(arguments).current_dir(dir).envs(environment.iter().copied()))
}

#[tokio::test]
async fn from_nothing_to_a_check() {
    let Some(local) = complete().await else { return };
    let demo = healthy(&local).await;
    let dir = tempfile::tempdir().unwrap();
    let environment = [("DATABASE_URL", demo.postgres_url()), ("REDIS_URL", demo.redis_url())];
    let run = |arguments: &[&str]| within(&local, dir.path(), &environment, arguments);

    let init = run(&["init"]);
    assert_eq!((init.code, &*init.stdout), (Some(0), ""), "{init:?}");
    let written = std::fs::read_to_string(dir.path().join("ops.toml")).unwrap();
    assert!(written.contains("url = { env = \"DATABASE_URL\" }"), "{written}");
    assert!(written.contains("url = { env = \"REDIS_URL\" }"), "{written}");

    // How old the server of a machine is, is that machine's.
    let lenient = format!("{written}\n[thresholds.\"pg.version\"]\nminors_behind = 1000\n");
    std::fs::write(dir.path().join("ops.toml"), lenient).unwrap();
    let config = run(&["config", "check"]);
    assert_eq!((config.code, &*config.stderr), (Some(0), ""), "{config:?}");
    assert_eq!(config.stdout, "ops.toml: 2 targets, 0 metrics, no mistakes\n");
    let check = run(&["check"]);
    assert_eq!((check.code, &*check.stderr), (Some(0), ""), "{}", check.stdout);
    assert!(check.stdout.contains("Checked: main, cache"), "{}", check.stdout);

    let schema: Value = serde_json::from_str(&run(&["config", "schema"]).stdout).unwrap();
    jsonschema::meta::validate(&schema).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    let document: Value = toml::from_str(&written).unwrap();
    assert!(document["postgres"]["main"].is_object());
    let errors: Vec<_> = schema.iter_errors(&document).map(|error| error.to_string()).collect();
    assert_eq!(errors, [""; 0]);
    demo.stop().await.unwrap();
}

#[test]
fn init_replaces_nothing_unasked() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ops.toml");
    std::fs::write(&file, "service = \"mine\"\n").unwrap();
    let run = |arguments: &[&str]| within(&Local::nothing(), dir.path(), &[], arguments);

    let refused = run(&["init"]);
    assert_eq!((refused.code, &*refused.stdout), (Some(1), ""));
    assert!(refused.stderr.contains("ops.toml") && refused.stderr.contains("--force"), "{}", refused.stderr);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "service = \"mine\"\n");

    let printed = run(&["init", "-"]);
    assert_eq!((printed.code, &*printed.stderr), (Some(0), ""));
    assert_eq!(run(&["init", "--force"]).code, Some(0));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), printed.stdout);
}

const SIX_MISTAKES: &str = r#"servce = "shop"

[check]
timeout = 30

[postgres.main]
url = { env = "NOT_SET" }
databse = ["shop"]

[redis.cache]
url = "http://ops:hunter2@cache:6379"

[thresholds."pg.conections"]
used = { warning = 70 }
"#;

#[test]
fn six_mistakes_are_reported_at_once() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ops.toml"), SIX_MISTAKES).unwrap();
    let said = within(&Local::nothing(), dir.path(), &[], &["config", "check"]);
    assert_eq!((said.code, &*said.stdout), (Some(78), ""));
    let places: Vec<_> =
        said.stderr.lines().filter_map(|line| line.strip_prefix("ops.toml:")?.split(':').next()).collect();
    assert_eq!(places, ["1", "4", "7", "8", "11", "13"]);
    insta::assert_snapshot!("six_mistakes", said.stderr);
    // The check that needs the file says the same.
    let check = within(&Local::nothing(), dir.path(), &[], &["check"]);
    assert_eq!((check.code, check.stderr), (Some(78), said.stderr));
}

#[test]
fn show_has_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "redis://:hunter3@cache\n").unwrap();
    let text = "service = \"shop\"\n[postgres.main]\nurl = { env = \"DATABASE_URL\" }\n\
                [redis.cache]\nurl = { file = \"secret\" }\n\
                [postgres.other]\nurl = \"postgres://u:${PASSWORD}@host/db\"\n\
                [http.api]\nurl = \"https://host/health?token=hunter5\"\n\
                headers = { authorization = { env = \"TOKEN\" } }\n";
    std::fs::write(dir.path().join("ops.toml"), text).unwrap();
    let environment = [
        ("DATABASE_URL", "postgres://u:hunter2@host/db"),
        ("PASSWORD", "hunter4"),
        ("TOKEN", "Bearer hunter6"),
    ];
    for arguments in [&["config", "show"][..], &["config", "check", "-vv"], &["config", "show", "-vv"]] {
        let said = within(&Local::nothing(), dir.path(), &environment, arguments);
        assert_eq!(said.code, Some(0), "{said:?}");
        assert!(!said.stdout.contains("hunter") && !said.stderr.contains("hunter"), "{said:?}");
    }
    let shown = within(&Local::nothing(), dir.path(), &environment, &["config", "show"]).stdout;
    for source in ["DATABASE_URL", "TOKEN", "service = \"shop\""] {
        assert!(shown.contains(source), "{source}: {shown}");
    }
}

#[test]
fn the_schema_needs_no_configuration() {
    let said = ops(&["config", "schema"]);
    assert_eq!((said.code, &*said.stderr), (Some(0), ""));
    let schema: Value = serde_json::from_str(&said.stdout).unwrap();
    assert!(schema["properties"]["postgres"].is_object());
}
