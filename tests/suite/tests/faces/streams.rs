//! The result to stdout, everything else to stderr, whoever listens.

use std::process::Stdio;

use ops_core::HealthReport;
use ops_testkit::Said;
use serde_json::Value;

use crate::healthy;
use crate::local::{Local, local};

#[tokio::test]
async fn stdout_carries_the_result_alone() {
    let Some(local) = local().await else { return };
    let demo = healthy(&local).await;
    let arguments = ["check", "-o", "json", "-vv", "--log-format", "json", "--redis", demo.redis_url()];
    let mut command = local.ops(&arguments);
    // The environment counts as a flag does.
    let said = Said::by(command.env("OPS_POSTGRES_URL", demo.postgres_url()).env("OPS_LOG", "trace"));
    let report: HealthReport = serde_json::from_str(&said.stdout).unwrap();
    for target in ["postgres", "redis"] {
        assert!(report.probes.iter().any(|probe| probe.target == target), "{target}");
    }
    assert!(!said.stderr.is_empty());
    for line in said.stderr.lines() {
        let event: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(event["level"].is_string() && event["target"].is_string(), "{line}");
    }
    demo.stop().await.unwrap();
}

#[test]
fn a_reader_that_has_seen_enough_is_no_bug() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ops.toml"), "[host.here]\n").unwrap();
    for arguments in [
        &["check"][..],
        &["check", "-o", "json"],
        &["explain"],
        &["explain", "-o", "json"],
        &["config", "schema"],
        &["config", "show"],
        &["config", "check"],
        &["demo", "--list"],
        &["init", "-"],
        &["--help"],
        &["--version"],
    ] {
        let mut command = Local::nothing().ops(arguments);
        command.current_dir(&dir).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let said: Said = child.wait_with_output().unwrap().into();
        assert!(!said.stderr.contains("panic"), "{arguments:?}: {}", said.stderr);
        assert!(matches!(said.code, Some(0..=3)), "{arguments:?}: {said:?}");
    }
}

// `watch` gives COLUMNS to what it runs in a pipe.
#[test]
fn a_pipe_is_as_wide_as_columns_says() {
    let said = |columns: Option<&str>| {
        let mut command = Local::nothing().ops(&["explain", "pg.blocking"]);
        if let Some(columns) = columns {
            command.env("COLUMNS", columns);
        }
        Said::by(&mut command).stdout
    };
    // Prose alone: what is to be copied is never broken.
    let prose = |text: &str| text.lines().take(4).map(|line| line.chars().count()).max().unwrap_or(0);
    let usual = said(None);
    assert!((61..=100).contains(&prose(&usual)), "{usual}");
    for (columns, narrowest, widest) in [("60", 40, 60), ("80", 61, 80), ("0", 61, 100), ("wide", 61, 100)] {
        let text = said(Some(columns));
        assert!((narrowest..=widest).contains(&prose(&text)), "{columns}: {text}");
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(&text), words(&usual), "nothing is cut at {columns}");
    }
}
