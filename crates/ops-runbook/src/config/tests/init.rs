//! A first file for several environments; each is read again.

use std::path::Path;

use super::super::init;
use super::{Config, GivenSurroundings};

/// The lines that say something.
fn live(around: &GivenSurroundings) -> String {
    let text = init(around);
    if let Err(errors) = Config::read(&text, Path::new("ops.toml"), around) {
        panic!("{errors}\n{text}");
    }
    text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect::<Vec<_>>().join("\n")
}

#[test]
fn what_the_environment_shows_becomes_a_target() {
    let none = GivenSurroundings::default;
    for (around, expected) in [
        (none(), ""),
        (
            none().with_env("DATABASE_URL", "postgres://u:p@h/d").with_env("REDIS_URL", "redis://h"),
            "[postgres.main]\nurl = { env = \"DATABASE_URL\" }\n[redis.cache]\nurl = { env = \"REDIS_URL\" }",
        ),
        (
            none().with_env("DATABASE_URL", "mysql://h/d").with_env("POSTGRES_URL", "postgresql://h/d"),
            "[postgres.main]\nurl = { env = \"POSTGRES_URL\" }",
        ),
        (none().with_env("VALKEY_URL", "rediss://h"), "[redis.cache]\nurl = { env = \"VALKEY_URL\" }"),
        (
            none()
                .with_env("PGHOST", "db")
                .with_env("PGPORT", "5433")
                .with_env("PGUSER", "ops")
                .with_env("PGPASSWORD", "p")
                .with_env("PGDATABASE", "shop"),
            "[postgres.main]\nurl = \"postgres://${PGUSER}:${PGPASSWORD}@${PGHOST}:${PGPORT}/${PGDATABASE}\"",
        ),
        (
            none().with_env("PGHOST", "db").with_env("PGUSER", "ops").with_env("PGPASSWORD", "p@/ss"),
            "[postgres.main]\nurl = \"postgres://${PGUSER}@${PGHOST}\"",
        ),
        (
            none().with_env("PGHOST", "/var/run/postgresql").with_env("PGPORT", "5433"),
            "[postgres.main]\nurl = \"postgres:///?host=${PGHOST}&port=${PGPORT}\"",
        ),
        (
            none()
                .with_file("/var/run/postgresql/.s.PGSQL.5432", "")
                .with_file("/var/run/redis/redis-server.sock", ""),
            "[postgres.main]\nurl = \"postgres:///postgres?host=/var/run/postgresql\"\n\
             [redis.cache]\nurl = \"redis+unix:///var/run/redis/redis-server.sock\"",
        ),
    ] {
        assert_eq!(live(&around), expected);
    }
}

/// The commented examples are right: uncommented, the file has no mistake.
#[test]
fn the_examples_are_sound() {
    let around = GivenSurroundings::default()
        .with_env("DATABASE_URL", "postgres://h/d")
        .with_env("REDIS_URL", "redis://h")
        .with_env("API_AUTHORIZATION", "x");
    let plain = |line: &str| {
        let code = line.strip_prefix("# ").unwrap_or(line);
        let is_code =
            code.starts_with('[') || code.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
        if is_code { code.to_owned() } else { line.to_owned() }
    };
    for environment in [around.clone(), GivenSurroundings::default()] {
        let text = init(&environment).lines().map(plain).collect::<Vec<_>>().join("\n");
        let config =
            Config::read(&text, Path::new("ops.toml"), &around).unwrap_or_else(|e| panic!("{e}\n{text}"));
        assert_eq!((config.postgres.len(), config.redis.len(), config.http.len()), (1, 1, 1), "{text}");
        assert_eq!((config.host.len(), config.metrics.len(), config.thresholds.len()), (1, 1, 1), "{text}");
    }
}

#[test]
fn a_new_file_reads_well() {
    let around = GivenSurroundings::default().with_env("DATABASE_URL", "postgres://u:p@h/d");
    insta::assert_snapshot!(init(&around));
}
