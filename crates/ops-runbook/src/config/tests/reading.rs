//! What sound files come to.

use std::path::Path;
use std::time::Duration;

use ops_core::quantity::DurationText;
use ops_core::redact::ExposeSecret;
use ops_core::{Bounds, Limits};
use ops_host::{HeartbeatConfig, HostConfig, LogConfig, PatternConfig, ProcessConfig};
use proptest::prelude::*;

use super::{Config, EXAMPLE, GivenSurroundings, read, surroundings};
use crate::catalogue;

#[test]
fn the_example_is_read() {
    let config = read(EXAMPLE).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.service, "engagement-events");
    assert_eq!(config.check.timeout, Duration::from_secs(60));
    assert_eq!(config.check.probe_timeout, Duration::from_millis(500));
    let main = &config.postgres["main"];
    assert_eq!(main.url.expose_secret(), "postgres://ops:hunter2@db/shop");
    assert_eq!(
        (main.config.databases.named(), main.config.rls.schemas.as_slice()),
        (&["shop".to_owned()][..], &["public".to_owned()][..])
    );
    let replica = &config.postgres["replica"];
    assert_eq!(replica.url.expose_secret(), "postgres://ops:hunter2@replica/shop");
    assert_eq!(replica.config.root_certificate.as_deref(), Some("/home/ops/ca.pem"));
    assert_eq!(config.redis["cache"].url.expose_secret(), "rediss://cache.internal:6379");
    let api = &config.http["api"];
    assert_eq!(api.config.url, "https://api.internal/health?token=abc");
    assert_eq!(api.config.status, 200);
    assert_eq!(
        (api.headers[0].0.as_str(), api.headers[0].1.expose_secret()),
        ("authorization", "Bearer hunter2")
    );
    the_host_is_read(&config.host["db"]);
    // In SQL `$$` quotes a string.
    assert!(config.metrics[0].sql.ends_with("= $$new$$"));
    assert!(config.remarks.is_empty());
}

fn the_host_is_read(host: &HostConfig) {
    let job = Some(DurationText(Duration::from_secs(3600)));
    let expected = HostConfig::default()
        .with_mounts(["/".into()])
        .with_process(ProcessConfig::new("postgres").with_command_line("17/main"))
        .with_service("postgresql")
        .with_timer("backup.timer")
        .with_log(
            LogConfig::file("/var/log/postgresql.log").with_window(DurationText(Duration::from_secs(7200))),
        )
        .with_heartbeats(HeartbeatConfig::new("/var/lib/ops").with_job(
            "backup",
            DurationText(Duration::from_secs(86_400)),
            job,
        ));
    assert_eq!(host, &expected);
}

#[test]
fn patterns_stand_in_their_own_sections() {
    let text = "[[host.db.logs]]\njournal = \"app\"\n[[host.db.logs.patterns]]\nname = \"timeouts\"\n\
                regex = 'timeout after (\\d+) ms'\ncritical = 10\n";
    let config = read(text).unwrap_or_else(|errors| panic!("{errors}"));
    let pattern = PatternConfig::new("timeouts", "timeout after (\\d+) ms")
        .with_bounds(Bounds { warning: None, critical: Some(10.0) });
    assert_eq!(
        config.host["db"],
        HostConfig::default().with_log(LogConfig::journal("app").with_pattern(pattern))
    );
}

#[test]
fn a_graphql_endpoint_has_a_query() {
    let text = "[http.api]\nurl = \"https://api/graphql\"\ngraphql = \"{ health }\"";
    let config = read(text).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.http["api"].config.graphql.as_deref(), Some("{ health }"));
    let errors = read(&text.replace("{ health }", "mutation { x }")).unwrap_err().to_string();
    assert!(errors.contains("must be a query"), "{errors}");
}

#[test]
fn a_host_that_makes_no_sense_is_refused() {
    for (text, words) in [
        ("[host.db]\nservices = [\"--user\"]", "no name of a systemd unit"),
        ("[host.db]\nlogs = [{ window = \"1h\" }]", "either a file or a journal"),
        (
            "[host.db]\nlogs = [{ file = \"/x\", patterns = [{ name = \"a\", regex = \"(\" }] }]",
            "unclosed group",
        ),
        ("[host.db]\nlogs = [{ file = \"/x\", window = \"1m\" }]", "window"),
        (
            "[host.db]\nheartbeats = { directory = \"/x\", jobs = { \"a/b\" = { every = \"1d\" } } }",
            "job's name",
        ),
    ] {
        let errors = read(text).err().unwrap_or_else(|| panic!("{text} is read")).to_string();
        assert!(errors.contains(words), "{text}: {errors}");
    }
}

#[test]
fn what_a_database_must_have_is_read() {
    let text = "[postgres.main]\nurl = \"postgres:///shop\"\nsuperusers = [\"postgres\"]\n[postgres.main.required]\n\
                extensions = [\"pggit\"]\nevent_triggers = [\"audit\"]\nfunctions = [\"app.score(integer)\"]\nrole = \"app\"";
    let config = read(text).unwrap_or_else(|errors| panic!("{errors}"));
    let main = &config.postgres["main"].config;
    let names = |name: &str| vec![name.to_owned()];
    assert_eq!(main.superusers, names("postgres"));
    assert_eq!(main.required.extensions, names("pggit"));
    assert_eq!(main.required.event_triggers, names("audit"));
    assert_eq!(main.required.functions, names("app.score(integer)"));
    assert_eq!(main.required.role.as_deref(), Some("app"));
}

#[test]
fn thresholds_take_the_place_of_defaults() {
    let config = read(EXAMPLE).unwrap_or_else(|errors| panic!("{errors}"));
    let limits = |name: &str, threshold: &str| {
        let spec = catalogue::all().into_iter().find(|spec| spec.name == name).unwrap();
        let (given, default) =
            (config.limits_for(spec).get(threshold), Limits::defaults(spec).get(threshold));
        ((given.warning, given.critical), (default.warning, default.critical))
    };
    assert_eq!(limits("pg.connections", "used").0, (Some(70.0), Some(85.0)));
    let (given, default) = limits("redis.reachable", "latency");
    assert_eq!(given, (Some(50.0), default.1));
    let (given, default) = limits("redis.memory", "used");
    assert_eq!(given, (Some(60.0), default.1));
    let (given, default) = limits("pg.sequences", "used");
    assert_eq!(given, default);
}

#[test]
fn what_a_postgres_server_has_to_achieve_is_read() {
    let text = "[postgres.main]
url = \"postgres:///shop\"
role = \"standby\"
provider = \"cloudsql\"
archive.rpo = \"15min\"
wal.disk = \"100GiB\"";
    let config = read(text).unwrap_or_else(|errors| panic!("{errors}"));
    let expected = ops_pg::PgConfig::default()
        .with_role(ops_pg::ServerRole::Standby)
        .with_provider(ops_pg::Provider::CloudSql)
        .with_rpo(Duration::from_secs(900))
        .with_wal_disk(100 << 30);
    assert_eq!(config.postgres["main"].config, expected);
    let shown = config.show(&[]);
    for line in [
        "role = \"standby\"\n",
        "provider = \"cloudsql\"\n",
        "archive.rpo = \"15min\"\n",
        "wal.disk = \"100GiB\"\n",
    ] {
        assert!(shown.contains(line), "{line} in {shown}");
    }
    for (wrong, said) in [
        ("role = \"replica\"", "role"),
        ("provider = \"cloudsq\"", "cloudsql"),
        ("archive.rpo = 900", "a duration such as"),
        ("archive.rpo = \"15m\"", "a duration such as"),
        ("wal.disk = 100", "a size such as"),
        ("wal.size = \"1GB\"", "size"),
    ] {
        let errors = read(&format!("[postgres.main]\nurl = \"postgres:///shop\"\n{wrong}")).unwrap_err();
        assert_eq!(errors.mistakes.len(), 1, "{wrong}: {errors}");
        assert!(errors.to_string().contains(said), "{wrong}: {errors}");
    }
}

#[test]
fn an_empty_file_is_the_default() {
    for text in ["", "\n\n", "# nothing\n", "\u{feff}"] {
        let config = read(text).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!((config.service.as_str(), config.check), ("ops", Config::default().check));
        assert!(config.postgres.is_empty() && config.metrics.is_empty());
    }
}

#[test]
fn relative_secret_files_stand_beside_the_configuration() {
    let around = GivenSurroundings::default().with_file("/etc/ops/secrets/url", "postgres:///shop\r\n");
    let text = "[postgres.main]\nurl = { file = \"secrets/url\" }";
    let config = Config::read(text, Path::new("/etc/ops/ops.toml"), &around).unwrap();
    assert_eq!(config.postgres["main"].url.expose_secret(), "postgres:///shop");
}

#[test]
fn a_secret_that_everybody_may_read_is_remarked_on() {
    let around = GivenSurroundings::default().with_file_mode("/s", "postgres:///shop", 0o644);
    let text = "[postgres.main]\nurl = { file = \"/s\" }";
    let config = Config::read(text, Path::new("ops.toml"), &around).unwrap();
    let remarks: Vec<_> =
        config.remarks.iter().map(|remark| (remark.line, remark.message.as_str())).collect();
    assert_eq!(remarks, [(2, "`url` in [postgres.main]: everybody on this machine may read /s")]);
}

#[test]
fn dollars_in_passwords_survive() {
    let around = surroundings().with_env("P", "a$$b${HOME}");
    for (text, expected) in [
        ("postgres://u:a$b@h/d", "postgres://u:a$b@h/d"),
        ("postgres://u:a$$b@h/d", "postgres://u:a$b@h/d"),
        // A variable's own value is taken as it is.
        ("postgres://u:${P}@h/d", "postgres://u:a$$b${HOME}@h/d"),
    ] {
        let file = format!("[postgres.main]\nurl = '{text}'");
        let config = Config::read(&file, Path::new("ops.toml"), &around).unwrap();
        assert_eq!(config.postgres["main"].url.expose_secret(), expected);
    }
}

/// Pieces that make text look like a configuration gone wrong, more often than noise does.
fn fragments() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "[",
        "]",
        "[[",
        "]]",
        "{",
        "}",
        "=",
        ".",
        ",",
        "\"",
        "'",
        "\"\"\"",
        "\n",
        "\r\n",
        "#",
        "$",
        "${",
        "$$",
        "~",
        "/",
        "postgres",
        "main",
        "url",
        "env",
        "file",
        "redis",
        "http",
        "headers",
        "json",
        "host",
        "metric",
        "name",
        "target",
        "sql",
        "thresholds",
        "\"pg.connections\"",
        "used",
        "warning",
        "critical",
        "check",
        "timeout",
        "\"5s\"",
        "1",
        "-1e9",
        "inf",
        "nan",
        "0x",
        "1979-05-27",
        "true",
        "ä",
        "\u{0}",
        "\u{feff}",
        " ",
        "\\u",
        "99999999999999999999",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in any::<String>()) {
        if let Err(errors) = read(&text) {
            prop_assert!(!errors.mistakes.is_empty());
            prop_assert!(!errors.to_string().is_empty());
        }
    }

    #[test]
    fn fragments_never_panic(text in fragments()) {
        match read(&text) {
            Ok(config) => prop_assert!(!config.show(&[]).is_empty()),
            Err(errors) => prop_assert!(!errors.mistakes.is_empty()),
        }
    }

    /// With a password in its URLs: wherever it is torn, no message repeats it.
    #[test]
    fn a_damaged_example_never_panics_nor_tells(
        at in 0..EXAMPLE.len(),
        length in 0_usize..30,
        insert in "[\\[\\]{}=\"'.,$\n#a1 ]{0,3}",
    ) {
        let example = EXAMPLE.replace("${PGPASSWORD}", "hunter2").replace("rediss://", "rediss://:hunter2@");
        let at = at.min(example.len());
        let end = (at + length).min(example.len());
        let text = format!("{}{insert}{}", &example[..at], &example[end..]);
        match read(&text) {
            Ok(config) => prop_assert!(!config.show(&[]).contains("hunter2")),
            Err(errors) => prop_assert!(!errors.to_string().contains("hunter2"), "{errors}"),
        }
    }
}
