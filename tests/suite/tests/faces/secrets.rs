//! No face shows a password, however much it is asked to tell.

use ops_testkit::{MAJORS, Proxy, RedisServer, Role, Said, TestDb};

use crate::local::Local;

const WRONG: &str = "hunter2-and-more";
const OUTPUTS: [&str; 5] = ["human", "json", "markdown", "nagios", "openmetrics"];

/// Checks with every output, with all log lines there are, and finds `secrets` nowhere.
fn hides(arguments: &[&str], environment: &[(&str, &str)], secrets: &[&str]) {
    for output in OUTPUTS {
        for format in ["text", "json"] {
            let mut command = Local::nothing().ops(arguments);
            command.args(["-vv", "--output", output, "--log-format", format, "--timeout", "5s"]);
            let said = Said::by(command.envs(environment.iter().copied()).env("OPS_LOG", "trace"));
            for secret in secrets {
                let shown = said.stdout.contains(secret) || said.stderr.contains(secret);
                assert!(!shown, "{secret} in {arguments:?} {output} {format}: {said:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_postgres() {
    for major in MAJORS {
        let Some(db) = TestDb::on(major).await else { continue };
        let right = db.tcp_url();
        let password = db.server().password();
        let wrong = right.replace(password, WRONG);
        let proxy = Proxy::to(db.server().address()).await.unwrap();
        let proxied = db.url_at(proxy.address(), Role::Nobody);
        for url in [&*right, &*wrong, &*proxied] {
            hides(&["check", "--postgres", url], &[], &[password, WRONG]);
        }
        hides(&["check"], &[("OPS_POSTGRES_URL", &wrong)], &[WRONG]);
        break;
    }
}

#[tokio::test]
async fn of_redis() {
    let Some(redis) = RedisServer::fresh().await else { return };
    let url = format!("redis://user:{WRONG}@{}", redis.address());
    hides(&["check", "--redis", &url], &[], &[WRONG]);
    hides(&["check"], &[("OPS_REDIS_URL", &url)], &[WRONG]);
}

#[test]
fn of_what_cannot_be_reached_or_read() {
    for (flag, url) in [
        ("--postgres", format!("postgres://u:{WRONG}@127.0.0.1:1/shop")),
        ("--postgres", format!("postgres://u:{WRONG}@nowhere.invalid/shop?sslmode=require")),
        ("--postgres", format!("postgres://u:{WRONG}@[::1/shop")),
        ("--postgres", format!("postgres://u:{WRONG}@host:port/shop")),
        ("--postgres", format!("postgers://u:{WRONG}@host/shop")),
        ("--postgres", format!("postgres://u@127.0.0.1:1/shop?password={WRONG}")),
        ("--postgres", format!("postgres://u@127.0.0.1:1/shop?sslmode=maybe&password={WRONG}")),
        ("--redis", format!("redis://:{WRONG}@127.0.0.1:1/0")),
        ("--redis", format!("redis://:{WRONG}@[::1/0")),
        ("--redis", format!("reddis://:{WRONG}@host/0")),
    ] {
        hides(&["check", flag, &url], &[], &[WRONG]);
    }
}
