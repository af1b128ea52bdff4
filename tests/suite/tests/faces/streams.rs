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
