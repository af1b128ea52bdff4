use std::net::SocketAddr;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ops_cache::{RedisOptions, RedisTarget, RootCertificate};
use ops_core::{Secret, Status};
use ops_testkit::{Authority, Behaviour, Proxy, RedisServer, eventually, local_redis_options, or_skip};

use crate::check::{Checked, DEAD, DEADLINE, Expected, SENTINEL, cuts, redis as check, refused};
use crate::service::Service;

const SOON: Duration = Duration::from_secs(20);

fn password() -> Secret {
    Secret::from(SENTINEL.to_owned())
}

async fn guarded() -> Option<RedisServer> {
    or_skip(RedisServer::start(local_redis_options().with_password(password())).await)
}

fn url(address: impl ToString) -> String {
    format!("redis://:{SENTINEL}@{}", address.to_string())
}

async fn plain(url: &str) -> Checked {
    check(url, RedisOptions::default()).await
}

/// Only who asks is connected.
async fn nothing_of_ours(server: &RedisServer) {
    let mut connection = server.connect().await.unwrap();
    eventually("no connection of ours is left", SOON, async || {
        let info: redis::InfoDict = redis::cmd("INFO").query_async(&mut connection).await.unwrap();
        (info.get::<u32>("connected_clients").unwrap() == 1).then_some(())
    })
    .await;
}

#[test]
fn a_url_that_is_none_is_told_without_repeating_it() {
    for url in [
        format!("http://u:{SENTINEL}@cache"),
        format!("redis:/u:{SENTINEL}@cache"),
        format!("redis://u:{SENTINEL}@cache:port"),
        format!("redis://u:{SENTINEL}@cache/database"),
        format!("redis://u:{SENTINEL}@"),
        SENTINEL.to_owned(),
        String::new(),
    ] {
        refused(RedisTarget::connect_lazily("cache", &Secret::from(url), RedisOptions::default()));
    }
}

#[tokio::test]
async fn what_cannot_be_reached_says_what_and_where() {
    let Some(server) = guarded().await else { return };
    let Some(open) = or_skip(RedisServer::start(local_redis_options()).await) else { return };
    let here = server.address();
    let proxy = Proxy::to(here).await.unwrap();
    proxy.set(Behaviour::Stall).await;
    let (silent, web) = (proxy.address(), Service::start().await);
    for (url, expected) in [
        (url(DEAD), Expected::critical(DEAD, &["connection refused"])),
        (url("no.such.host.invalid"), Expected::critical("no.such.host.invalid", &[])),
        (
            format!("redis+unix:///nowhere.sock?pass={SENTINEL}"),
            Expected::critical("/nowhere.sock", &["no such socket"]),
        ),
        (url(silent), Expected::critical(silent, &["no answer within"])),
        (
            format!("redis://{here}/?{SENTINEL}"),
            Expected::unknown(here, &["NOAUTH", "password into the URL"]),
        ),
        (format!("redis://:{SENTINEL}x@{here}"), wrong_password(here)),
        (url(open.address()), Expected::unknown(open.address(), &["without any password configured"])),
        (format!("redis://ghost:{SENTINEL}@{here}"), Expected::unknown(here, &["WRONGPASS"])),
        (
            url(here) + "/99",
            Expected::unknown(here, &["select database 99", "DB index is out of range", "setting databases"]),
        ),
        (format!("redis://{here}/3"), Expected::unknown(here, &["NOAUTH", "password into the URL"])),
        (
            url(web.address()),
            Expected::new(Status::Unknown, web.address(), &["does not speak the Redis protocol"]),
        ),
    ] {
        plain(&url).await.cannot_look("redis.reachable", &expected);
    }
    // What it holds back holds a connection open.
    proxy.close().await;
    nothing_of_ours(&server).await;
    nothing_of_ours(&open).await;
}

#[tokio::test]
async fn a_database_that_is_there_is_looked_at_through() {
    let Some(server) = guarded().await else { return };
    for database in ["", "/", "/0", "/15"] {
        let checked = plain(&(url(server.address()) + database)).await;
        let statuses = checked.report.probes.iter().map(|result| result.status);
        assert!(statuses.clone().all(|status| status != Status::Unknown), "{database}: {checked:#?}");
    }
    nothing_of_ours(&server).await;
}

fn wrong_password(address: SocketAddr) -> Expected {
    Expected::unknown(address, &["WRONGPASS", "check the user and the password"])
}

/// A Redis without TLS takes a client's hello for a command, and answers it or waits for more: what it does is
/// chance, that we say what to do about it is not.
#[tokio::test]
async fn tls_where_there_is_none_names_the_scheme_that_works() {
    let Some(server) = guarded().await else { return };
    let checked = plain(&url(server.address()).replace("redis:", "rediss:")).await;
    let reachable = checked.in_time().of("redis.reachable");
    assert!(matches!(reachable.status, Status::Unknown | Status::Critical), "{reachable:#?}");
    let said = serde_json::to_string(reachable).unwrap();
    assert!(said.contains("redis://") && said.contains(&server.address().to_string()), "{said}");
    nothing_of_ours(&server).await;
}

#[tokio::test]
async fn a_certificate_that_is_out_of_order_says_so() {
    let authority = Authority::new();
    let trusting = || {
        let root = RootCertificate::Pem(authority.certificate.clone().into_bytes());
        RedisOptions::default().with_root_certificate(root)
    };
    for (identity, options, words) in [
        (&authority.expired, trusting(), "expired on 2021-01-01"),
        (&authority.elsewhere, trusting(), "for another host name"),
        (&authority.server, RedisOptions::default(), "not trusted here"),
    ] {
        let secure = local_redis_options()
            .with_password(password())
            .with_tls(&identity.certificate, Secret::from(identity.key.clone()));
        let Some(server) = or_skip(RedisServer::start(secure).await) else { return };
        let url = server.server().unwrap().tls_url().unwrap();
        let expected = Expected::unknown(server.server().unwrap().tls_address().unwrap(), &[words]);
        check(&url, options).await.cannot_look("redis.reachable", &expected);
        // Without TLS, at the port that wants it.
        let checked = plain(&url.replace("rediss:", "redis:")).await;
        assert_eq!(checked.in_time().of("redis.reachable").status, Status::Critical, "{checked:#?}");
        let said = serde_json::to_string(&checked.report).unwrap();
        assert!(said.contains("rediss://"), "{said}");
        nothing_of_ours(&server).await;
    }
}

#[tokio::test]
async fn a_server_that_stops_in_mid_sentence_costs_what_was_left() {
    let Some(server) = guarded().await else { return };
    let proxy = Proxy::to(server.address()).await.unwrap();
    for cut in cuts() {
        proxy.set(cut).await;
        let checked = plain(&url(proxy.address())).await;
        checked.cut_short();
        let reachable = checked.of("redis.reachable").status;
        assert!(matches!(reachable, Status::Ok | Status::Critical), "{cut:?}: {checked:#?}");
    }
    nothing_of_ours(&server).await;
}

/// A process that is stopped until this is dropped.
struct Stopped(Pid);

impl Stopped {
    fn new(server: &RedisServer) -> Self {
        let pid = pid(server);
        kill(pid, Signal::SIGSTOP).unwrap();
        Self(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        kill(self.0, Signal::SIGCONT).unwrap();
    }
}

fn pid(server: &RedisServer) -> Pid {
    Pid::from_raw(server.server().unwrap().pid().unwrap().cast_signed())
}

#[tokio::test]
async fn a_frozen_server_costs_its_deadline_once() {
    let Some(server) = guarded().await else { return };
    let stopped = Stopped::new(&server);
    let checked = plain(&url(server.address())).await;
    drop(stopped);
    checked.cannot_look("redis.reachable", &Expected::critical(server.address(), &["no answer within"]));
    assert!(checked.took >= DEADLINE, "{:?}", checked.took);
    nothing_of_ours(&server).await;
}

/// Does something to a server once the check has read it for the first time and waits for a second sample.
async fn disturbed(server: &RedisServer, then: impl FnOnce()) -> Checked {
    let mut watch = server.connect().await.unwrap();
    let disturbance = async {
        eventually("the check has begun", SOON, async || {
            let clients: String = redis::cmd("CLIENT").arg("LIST").query_async(&mut watch).await.unwrap();
            let after = ["info", "latency|latest", "slowlog|get", "config|get"];
            after.iter().any(|command| clients.contains(&format!(" cmd={command} "))).then_some(())
        })
        .await;
        then();
    };
    let address = url(server.address());
    let (checked, ()) = tokio::join!(plain(&address), disturbance);
    checked
}

#[tokio::test]
async fn a_server_that_dies_between_two_samples_costs_what_was_left() {
    let Some(server) = guarded().await else { return };
    let checked = disturbed(&server, || kill(pid(&server), Signal::SIGKILL).unwrap()).await;
    checked.cut_short();
    for probe in ["redis.hit_rate", "redis.evictions", "redis.rejected_connections"] {
        let result = checked.of(probe);
        assert_eq!(result.status, Status::Unknown, "{result:#?}");
        assert!(result.summary.contains(&server.address().to_string()), "{result:#?}");
    }
    assert_eq!(checked.of("redis.memory").status, Status::Ok);
}

#[tokio::test]
async fn a_server_that_freezes_between_two_samples_costs_its_deadline_once() {
    let Some(server) = guarded().await else { return };
    let mut stopped = None;
    let checked = disturbed(&server, || stopped = Some(Stopped::new(&server))).await;
    drop(stopped);
    checked.cut_short();
    let reachable = checked.of("redis.reachable");
    assert_eq!(reachable.status, Status::Critical, "{reachable:#?}");
    assert_eq!(reachable.findings.last().unwrap().code, "redis.reachable.gone");
    nothing_of_ours(&server).await;
}

#[tokio::test]
async fn a_server_that_loads_says_how_far_it_is() {
    let options = local_redis_options().with_password(password()).with_setting("enable-debug-command", "yes");
    let Some(server) = or_skip(RedisServer::start(options).await) else { return };
    let mut connection = server.connect().await.unwrap();
    let mut slowly = redis::pipe();
    slowly.cmd("DEBUG").arg(&["POPULATE", "20000", "k", "100"]);
    slowly.cmd("CONFIG").arg(&["SET", "key-load-delay", "1000"]);
    slowly.cmd("CONFIG").arg(&["SET", "loading-process-events-interval-bytes", "1024"]);
    slowly.exec_async(&mut connection).await.unwrap();
    let reload = tokio::spawn(async move {
        redis::cmd("DEBUG").arg("RELOAD").exec_async(&mut connection).await.ok();
    });
    eventually("it loads", SOON, async || {
        let mut connection = server.connect().await.ok()?;
        let pong = redis::cmd("PING").query_async::<String>(&mut connection).await;
        pong.err().filter(|error| error.code() == Some("LOADING"))
    })
    .await;
    let checked = plain(&url(server.address())).await;
    checked.cannot_look("redis.reachable", &Expected::critical(server.address(), &["LOADING", "% loaded"]));
    reload.abort();
}

#[tokio::test]
async fn a_server_that_takes_no_more_clients_is_critical() {
    let Some(server) = guarded().await else { return };
    let mut admin = server.connect().await.unwrap();
    redis::cmd("CONFIG").arg(&["SET", "maxclients", "1"]).exec_async(&mut admin).await.unwrap();
    let checked = plain(&url(server.address())).await;
    checked.cannot_look("redis.reachable", &Expected::critical(server.address(), &["max number of clients"]));
}

#[tokio::test]
async fn a_certificate_file_that_is_missing_is_named() {
    let options = RedisOptions::default().with_root_certificate(RootCertificate::File("/nowhere.pem".into()));
    let checked = check(&url(DEAD).replace("redis:", "rediss:"), options.clone()).await;
    checked.cannot_look("redis.reachable", &Expected::unknown("/nowhere.pem", &["root certificate"]));
    let plain = Secret::from(url(DEAD));
    refused(RedisTarget::connect_lazily("cache", &plain, options));
}
