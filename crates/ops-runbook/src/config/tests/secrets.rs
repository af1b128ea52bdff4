//! No secret in anything that is printed.

use super::{EXAMPLE, GivenSurroundings, mistakes, read, surroundings};

fn assert_silent(text: &str) {
    let around = surroundings();
    assert!(!format!("{around:?}").contains("hunter2"));
    match read(text) {
        Ok(config) => {
            let shown = format!("{config:?} {config:#?} {}", config.show(&[]));
            assert!(!shown.contains("hunter2"), "{text}\n{shown}");
        }
        Err(errors) => {
            let error = ops_core::Error::from(errors.clone());
            let shown = format!("{errors} {errors:?} {error} {error:?} {}", error.report());
            assert!(!shown.contains("hunter2"), "{text}\n{shown}");
        }
    }
}

/// Every value of the example, and some that are wrong, replaced by one with a password.
#[test]
fn a_secret_in_any_place_stays_there() {
    let secrets = [
        "\"postgres://ops:hunter2@db/shop\"",
        "\"redis://:hunter2@cache\"",
        "\"https://api/health?token=hunter2\"",
        "\"https://u:hunter2@api/health\"",
        "\"hunter2\"",
        "'hunter2'",
        "\"\"\"\nhunter2\n\"\"\"",
        "\"hunter2${UNSET}\"",
        "\"hunter2${\"",
        "\"postgres://ops:hunter2@${HOME}/shop\"",
        "\"postgres://u:hunter2@h:notaport/d\"",
        "\"${PGPASSWORD}\"",
        "\"x${PGPASSWORD}\"",
        "{ env = \"PGPASSWORD\" }",
        "{ file = \"/run/secrets/token\" }",
        "{ env = \"hunter2 x\" }",
        "[\"hunter2\"]",
        "[\"a\", \"${PGPASSWORD}\"]",
        "{ a = \"hunter2\" }",
        // Not TOML.
        "postgres://ops:hunter2@db/shop",
        "\"postgres://ops:hunter2@db/shop",
        "\"hunter2\\q\"",
        "\"a\" hunter2",
        "hunter2",
    ];
    for (index, line) in EXAMPLE.lines().enumerate() {
        let Some((key, _)) = line.split_once(" = ") else { continue };
        // A name, a query or a database is public by its nature: it is shown where it is sound.
        let public = [
            "service",
            "databases",
            "rls",
            "root_certificate",
            "json",
            "mounts",
            "name",
            "target",
            "sql",
            "processes",
            "services",
            "timers",
            "logs",
            "heartbeats",
        ];
        for secret in secrets {
            let mut lines: Vec<_> = EXAMPLE.lines().map(str::to_owned).collect();
            lines[index] = format!("{key} = {secret}");
            let text = lines.join("\n");
            match read(&text) {
                // What a variable holds is a secret also there.
                Ok(config) if public.contains(&key) => {
                    let by_variable = secret.contains("${PGPASSWORD}") || secret.contains("://ops:hunter2@");
                    assert!(!(by_variable && config.show(&[]).contains("hunter2")), "{text}");
                }
                _ => assert_silent(&text),
            }
        }
    }
}

#[test]
fn a_url_in_place_of_a_name_loses_its_password() {
    assert_silent("[postgres.\"postgres://u:hunter2@h/d\"]\nurl = \"postgres:///d\"");
    assert_silent("\"postgres://u:hunter2@h/d\" = 1");
    assert_silent("[thresholds.\"postgres://u:hunter2@h/d\"]\nused = 1");
}

#[test]
fn the_console_of_a_pooler_is_as_secret_as_its_server() {
    for value in [
        "\"postgres://stats:hunter2@pooler:6432/pgbouncer\"",
        "\"hunter2\"",
        "\"postgres://stats:${PGPASSWORD}@pooler/pgbouncer\"",
        "{ env = \"PGPASSWORD\" }",
        "{ file = \"/run/secrets/token\" }",
        "[\"hunter2\"]",
        "hunter2",
    ] {
        assert_silent(&format!("[postgres.main]\nurl = \"postgres:///d\"\npgbouncer = {value}"));
    }
    let text =
        "[postgres.main]\nurl = \"postgres:///d\"\npgbouncer = \"postgres://stats:hunter2@p/pgbouncer\"";
    let config = read(text).unwrap_or_else(|errors| panic!("{errors}"));
    assert!(config.postgres["main"].pgbouncer.is_some());
    assert!(config.show(&[]).contains("pgbouncer = \"***\"  # from the file"), "{}", config.show(&[]));
}

/// The parser takes what follows an open bracket for a part of the header.
#[test]
fn a_header_that_is_not_closed_takes_no_secret_along() {
    assert_silent("[redis.a\nurl = \"redis://:hunter2@cache\"\n[redis.b]\nurk = 1");
    assert_silent("[redis.a url = \"hunter2\"]\nurk = 1");
    assert_silent("[[metric\nsql = \"hunter2\"\n[[metric]]\nurk = 1");
}

#[test]
fn a_line_is_shown_without_its_values() {
    let shown = mistakes(
        "[postgres.main]\nurl = \"postgres:///d\" # hunter2\n\
         rls = { tables = [\"hunter2\"], schema = [\"hunter2\"] }",
    );
    insta::assert_snapshot!(shown, @r"
    ops.toml:3:31: unknown key `schema` in `rls` in [postgres.main]; did you mean `schemas`?
       3 | rls = { tables = […], schema = […] }
         |                       ^^^^^^
    ");
}

#[test]
fn init_repeats_no_value() {
    for name in ["DATABASE_URL", "POSTGRES_URL", "PGHOST", "PGPASSWORD", "PGUSER", "REDIS_URL", "VALKEY_URL"]
    {
        for value in ["hunter2", "postgres://u:hunter2@h/d", "redis://:hunter2@h", "/hunter2", "hunter2 @"] {
            let around = GivenSurroundings::default().with_env("PGHOST", "db").with_env(name, value);
            assert!(!super::super::init(&around).contains("hunter2"), "{name}={value}");
        }
    }
}
