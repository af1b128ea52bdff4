use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ops_core::HealthReport;
use ops_testkit::{Behaviour, MAJORS, Proxy, Role, Said, TestDb, eventually};
use sqlx::{Connection, Executor, PgConnection};

use crate::local::{Local, complete, local};
use crate::{healthy, ops};

#[tokio::test]
async fn a_check_speaks_as_monitoring_plugins_do() {
    let Some(local) = complete().await else { return };
    let demo = healthy(&local).await;
    let (url, redis) = (&*demo.postgres_url().to_owned(), demo.redis_url().to_owned());
    // Without pg.version: how old the server of a machine is, is that machine's.
    let only = ["--only", "redis.*", "--only", "pg.[!v]*"];
    let check = |url: &str| Said::by(local.ops(&["check", "--postgres", url, "--redis", &redis]).args(only));
    let mut shop = PgConnection::connect(url).await.unwrap();

    let ok = check(url);
    assert_eq!((ok.code, &*ok.stderr), (Some(0), ""), "{}", ok.stdout);
    assert!(ok.stdout.contains("OK   score 100/100"), "{}", ok.stdout);

    shop.execute("CREATE ROLE blind LOGIN").await.unwrap();
    let unknown = check(&url.replace("//postgres@", "//blind@"));
    assert_eq!(unknown.code, Some(3), "{}", unknown.stdout);
    assert!(unknown.stdout.contains("GRANT "), "what would help: {}", unknown.stdout);

    shop.execute("CREATE INDEX again ON shop.orders (customer_id)").await.unwrap();
    let warning = check(url);
    assert_eq!(warning.code, Some(1), "{}", warning.stdout);
    assert!(warning.stdout.contains("WARNING   pg.index_duplicate"), "{}", warning.stdout);

    shop.execute("ALTER TABLE billing.invoices DISABLE ROW LEVEL SECURITY").await.unwrap();
    let critical = check(url);
    assert_eq!(critical.code, Some(2), "{}", critical.stdout);
    assert!(critical.stdout.contains("CRITICAL  pg.rls"), "{}", critical.stdout);

    demo.stop().await.unwrap();
    let gone = check(url);
    assert_eq!(gone.code, Some(2), "{}", gone.stdout);
    assert!(gone.stdout.contains("CRITICAL  pg.reachable"), "{}", gone.stdout);
}

#[tokio::test]
async fn a_wrong_password_is_unknown() {
    for major in MAJORS {
        let Some(db) = TestDb::on(major).await else { continue };
        let url = db.tcp_url().replace(db.server().password(), "hunter2");
        let said = ops(&["check", "--postgres", &url]);
        assert_eq!(said.code, Some(3), "{said:?}");
        assert!(said.stdout.contains("password"), "{}", said.stdout);
    }
}

#[test]
fn usage_is_64_and_never_claps_own_2() {
    for mistaken in [
        &[][..],
        &["chekc"],
        &["check", "--bogus"],
        &["check", "--output", "xml"],
        &["check", "--timeout", "soon"],
        &["check", "--postgres", "not a url"],
        &["check", "--redis", "http://cache"],
        &["check", "--redis", "redis://nobody", "--only", "["],
        &["explain", "one", "two"],
        &["explain", "pg.nothing"],
        &["config"],
        &["config", "chekc"],
        &["init", "a", "b"],
        &["demo", "--without"],
        &["demo", "--without", "nothing"],
    ] {
        let said = ops(mistaken);
        assert_eq!((said.code, &*said.stdout), (Some(64), ""), "{mistaken:?}: {said:?}");
        assert!(!said.stderr.is_empty(), "{mistaken:?}");
    }
}

#[test]
fn a_bad_configuration_is_78_and_3_for_nagios() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ops.toml");
    std::fs::write(&path, "[postgres.main]\nurl = 5\n").unwrap();
    let bad = path.to_str().unwrap();
    let missing = "/nowhere/ops.toml";
    for (arguments, code) in [
        (&["check", "--config", bad][..], 78),
        (&["check", "--config", missing], 78),
        (&["check"], 78),
        (&["check", "--config", bad, "--output", "json"], 78),
        (&["check", "--config", bad, "--output", "nagios"], 3),
        (&["check", "--output", "nagios"], 3),
        (&["config", "check", "--config", bad], 78),
        (&["config", "show", "--config", bad], 78),
    ] {
        let said = ops(arguments);
        assert_eq!(said.code, Some(code), "{arguments:?}: {said:?}");
        let nagios = "OPS UNKNOWN: the check could not be made, see stderr\n";
        assert_eq!(said.stdout, if code == 3 { nagios } else { "" }, "{arguments:?}");
        assert!(said.stderr.contains("ops.toml"), "{said:?}");
    }
    insta::assert_snapshot!("no_configuration", ops(&["check"]).stderr);
}

#[test]
fn targets_and_probes_are_chosen_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ops.toml");
    std::fs::write(&path, "[host.here]\n[postgres.main]\nurl = \"postgres://127.0.0.1:1/shop\"\n").unwrap();
    let chosen = |arguments: &[&str]| {
        let said =
            ops(&[&["check", "--output", "json", "--config", path.to_str().unwrap()], arguments].concat());
        let report: HealthReport = serde_json::from_str(&said.stdout).unwrap();
        let mut names: Vec<_> = report.probes.iter().map(|probe| probe.probe.clone()).collect();
        names.sort();
        names
    };
    let host = chosen(&["here"]);
    assert!(host.contains(&"host.disk".to_owned()) && !host.contains(&"pg.reachable".to_owned()), "{host:?}");
    assert_eq!(chosen(&["--only", "*.reachable", "--only", "host.disk"]), ["host.disk", "pg.reachable"]);
    let postgres = chosen(&["--only", "pg.*"]);
    assert!(postgres.len() > 5 && postgres.iter().all(|name| name.starts_with("pg.")), "{postgres:?}");
    assert_eq!(chosen(&["main"]), postgres);

    for (arguments, says) in [
        (&["nowhere"][..], "there is no target \"nowhere\"; there are: "),
        (&["--only", "nothing.*"], "no probe matches --only"),
        (&["here", "--only", "pg.*"], "no probe matches --only"),
    ] {
        let said = ops(&[&["check", "--config", path.to_str().unwrap()], arguments].concat());
        assert_eq!((said.code, &*said.stdout), (Some(64), ""), "{arguments:?}");
        assert!(said.stderr.contains(says), "{}", said.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn time_is_bounded() {
    // Nothing answers in a millisecond, which says nothing about a server that is given no more.
    let Some(local) = local().await else { return };
    let demo = healthy(&local).await;
    for target in [["--postgres", demo.postgres_url()], ["--redis", demo.redis_url()]] {
        let hurried = Said::by(local.ops(&["check", "--timeout", "1ms"]).args(target));
        assert_eq!(hurried.code, Some(3), "{hurried:?}");
        assert!(unwrapped(&hurried).contains("the run's 1 ms ended first"), "{}", hurried.stdout);
    }
    demo.stop().await.unwrap();

    let Some(stalled) = Stalled::start().await else { return };
    let began = Instant::now();
    let said = Said::by(&mut local.ops(&["check", "--postgres", &stalled.url, "--timeout", "1s"]));
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    assert_eq!(said.code, Some(3), "{said:?}");
    assert!(unwrapped(&said).contains("the run's 1.0 s ended first"), "{}", said.stdout);

    // A server that had a probe's whole time, and did not answer.
    let said = Said::by(&mut local.ops(&["check", "--postgres", &stalled.url]));
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(unwrapped(&said).contains("no answer within 5.0 s"), "{}", said.stdout);
}

/// A report as one line: where it breaks hangs on the length of an address.
fn unwrapped(said: &Said) -> String {
    said.stdout.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A server that accepts and never answers.
struct Stalled {
    url: String,
    _proxy: Proxy,
    _db: TestDb,
}

impl Stalled {
    async fn start() -> Option<Self> {
        for major in MAJORS {
            let Some(db) = TestDb::on(major).await else { continue };
            let proxy = Proxy::to(db.server().address()).await.unwrap();
            proxy.set(Behaviour::Stall).await;
            return Some(Self { url: db.url_at(proxy.address(), Role::Monitor), _proxy: proxy, _db: db });
        }
        None
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_check_ends_as_a_shell_expects() {
    let Some(stalled) = Stalled::start().await else { return };
    for (output, signal, code) in [
        ("human", Signal::SIGINT, 130),
        ("json", Signal::SIGTERM, 143),
        // Where no other code means anything.
        ("nagios", Signal::SIGTERM, 3),
    ] {
        let mut command = Local::nothing().ops(&["check", "--postgres", &stalled.url, "--output", output]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let pid = Pid::from_raw(child.id().cast_signed());
        // Before it listens, a signal would end it in the shell's way.
        let listens = format!("/proc/{pid}/task");
        eventually("the thread that listens", Duration::from_secs(10), async || {
            match fs::read_dir(&listens) {
                Ok(threads) => (threads.count() > 1).then_some(()),
                // Elsewhere than on Linux.
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    Some(())
                }
            }
        })
        .await;
        let began = Instant::now();
        kill(pid, signal).unwrap();
        eventually("its end", Duration::from_secs(4), async || child.try_wait().unwrap()).await;
        let said: Said = child.wait_with_output().unwrap().into();
        assert_eq!(said.code, Some(code), "{output}: {said:?} {:?}", began.elapsed());
        assert_eq!(said.stdout.is_empty(), output != "nagios");
        assert!(said.stderr.starts_with("ops: stopping") && said.stderr.contains("interrupted"), "{said:?}");
    }
}
