use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use ops_core::HealthReport;
use ops_testkit::{Missing, RedisServer, Said, local_redis_options, or_skip};
use sqlx::{Connection, Executor, PgConnection};

use crate::local::complete;
use crate::{healthy, ops};

// The script is what an administrator pipes into psql; what it gives is enough for every database.
#[tokio::test]
async fn what_it_prints_lets_a_role_see_every_database() {
    let Some(local) = complete().await else { return };
    let psql = local.postgres_program("psql");
    if or_skip(psql.exists().then_some(()).ok_or_else(|| Missing::new("psql"))).is_none() {
        return;
    }
    let demo = healthy(&local).await;
    let url = demo.postgres_url();
    let mut shop = PgConnection::connect(url).await.unwrap();
    shop.execute("CREATE DATABASE \"Second One\"").await.unwrap();

    let directory = tempfile::tempdir().unwrap();
    let configure = |url: &str| {
        let config = format!("[postgres.main]\nurl = \"{url}\"\ndatabases = \"all\"\n");
        std::fs::write(directory.path().join("ops.toml"), config).unwrap();
    };
    let run = |arguments: &[&str]| Said::by(local.ops(arguments).current_dir(&directory));

    configure(url);
    let script = run(&["grants", "main", "--role", "Watch Dog"]);
    assert_eq!((script.code, &*script.stderr), (Some(0), ""));
    for _ in 0..2 {
        let mut child = Command::new(&psql)
            .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", url])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(script.stdout.as_bytes()).unwrap();
        let done = child.wait_with_output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    configure(&url.replace("//postgres@", "//Watch%20Dog@"));
    let said = run(&["check", "-o", "json"]);
    let report: HealthReport = serde_json::from_str(&said.stdout).unwrap();
    let databases: BTreeSet<_> = report.probes.iter().filter_map(|probe| probe.database.as_deref()).collect();
    assert_eq!(databases, ["Second One", "postgres", "shop"].into());
    let unseen: Vec<_> = report.probes.iter().filter(|probe| !probe.unseen.is_empty()).collect();
    assert!(report.coverage >= 0.95, "{unseen:#?}");
    shop.close().await.unwrap();
    demo.stop().await.unwrap();
}

// A server that holds data and a sentinel refuse each other's commands, and a script with one of them whole.
#[tokio::test]
async fn a_redis_and_a_sentinel_each_take_what_is_printed_for_them() {
    for options in [local_redis_options(), local_redis_options().with_sentinel()] {
        let Some(server) = or_skip(RedisServer::start(options).await) else { return };
        let said = ops(&["grants", "--redis", &format!("redis://{}", server.address()), "--role", "watch"]);
        assert_eq!((said.code, &*said.stderr), (Some(0), ""), "{said:?}");
        let mut connection = server.connect().await.unwrap();
        let commands = said.stdout.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        for command in commands {
            let mut words = command.split(' ');
            let mut command = redis::cmd(words.next().unwrap());
            words.for_each(|word| {
                command.arg(word);
            });
            command.exec_async(&mut connection).await.unwrap();
        }
        let users: Vec<String> = redis::cmd("ACL").arg("USERS").query_async(&mut connection).await.unwrap();
        assert_eq!(users, ["default", "watch"]);
    }
}

#[test]
fn it_needs_a_target_that_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ops.toml");
    std::fs::write(&path, "[postgres.main]\nurl = \"postgres://h/d\"\n").unwrap();
    let said = ops(&["--config", path.to_str().unwrap(), "grants", "mian"]);
    assert_eq!(said.code, Some(64), "{said:?}");
    assert!(said.stderr.contains("\"mian\""), "{said:?}");
}

/// The script goes to an administrator's psql or redis-cli: a line of it that a name made would be run.
#[test]
fn a_name_makes_no_line_of_its_own() {
    let postgres = "postgres://mon@127.0.0.1:1/sh%0AALTER%20ROLE%20evil%20SUPERUSER%3B--op";
    let said = ops(&["grants", "--postgres", postgres]);
    assert!(!said.stdout.lines().any(|line| line.starts_with("ALTER")), "{said:?}");
    for (target, url, role) in [
        ("--postgres", "postgres://mon@127.0.0.1:1/shop", "mon\nALTER ROLE evil SUPERUSER; --"),
        ("--redis", "redis://127.0.0.1:1", "m\nFLUSHALL\n#"),
        ("--redis", "redis://127.0.0.1:1", "m allkeys"),
    ] {
        let said = ops(&["grants", target, url, "--role", role]);
        assert_eq!((said.code, &*said.stdout), (Some(64), ""), "{said:?}");
    }
}
