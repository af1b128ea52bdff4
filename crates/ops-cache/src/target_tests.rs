//! How a target behaves towards a server that is played by a socket: what it sends, and how often.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ops_core::{Context, ErrorKind, HealthReport, Limits, ProbeSet, ProbeSetOptions, Secret, Status};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::fixtures::REDIS_7;
use crate::{RedisOptions, RedisTarget, registry};

/// What the played server has seen.
#[derive(Debug, Default)]
struct Seen {
    connections: AtomicUsize,
    commands: std::sync::Mutex<Vec<String>>,
}

impl Seen {
    fn count(&self, command: &str) -> usize {
        self.commands.lock().unwrap().iter().filter(|seen| seen.as_str() == command).count()
    }
}

/// Plays a server: `answer` gives the reply to a command; without one it stays silent.
async fn play(answer: impl Fn(&str) -> Option<String> + Clone + Send + 'static) -> (u16, Arc<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::new(Seen::default());
    let shared = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            shared.connections.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(serve(socket, Arc::clone(&shared), answer.clone()));
        }
    });
    (port, seen)
}

async fn serve(socket: TcpStream, seen: Arc<Seen>, answer: impl Fn(&str) -> Option<String>) {
    let mut socket = BufReader::new(socket);
    while let Some(command) = command(&mut socket).await {
        let name = command[0].to_ascii_uppercase();
        seen.commands.lock().unwrap().push(name.clone());
        if let Some(reply) = answer(&name) {
            socket.write_all(reply.as_bytes()).await.unwrap();
        }
    }
}

/// Reads one command: `*2\r\n$4\r\nAUTH\r\n…`.
async fn command(socket: &mut BufReader<TcpStream>) -> Option<Vec<String>> {
    let mut line = String::new();
    socket.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
    let mut words = Vec::new();
    for _ in 0..line.trim()[1..].parse::<usize>().unwrap() {
        let mut length = String::new();
        socket.read_line(&mut length).await.ok()?;
        let mut word = vec![0; length.trim()[1..].parse::<usize>().unwrap() + 2];
        socket.read_exact(&mut word).await.ok()?;
        words.push(String::from_utf8_lossy(&word[..word.len() - 2]).into_owned());
    }
    Some(words)
}

fn healthy(command: &str) -> Option<String> {
    Some(match command {
        "PING" => "+PONG\r\n".to_owned(),
        "INFO" => format!("${}\r\n{REDIS_7}\r\n", REDIS_7.len()),
        // No events, no entries, and a log that is kept.
        "LATENCY" | "SLOWLOG" => "*0\r\n".to_owned(),
        "CONFIG" => {
            ["slowlog-log-slower-than", "10000", "slowlog-max-len", "128", "latency-monitor-threshold", "0"]
                .iter()
                .fold("*6\r\n".to_owned(), |reply, word| reply + &format!("${}\r\n{word}\r\n", word.len()))
        }
        _ => "+OK\r\n".to_owned(),
    })
}

fn target(port: u16, credentials: &str) -> RedisTarget {
    target_in(port, credentials, "/0")
}

fn target_in(port: u16, credentials: &str, database: &str) -> RedisTarget {
    let url = Secret::from(format!("redis://{credentials}127.0.0.1:{port}{database}"));
    RedisTarget::connect_lazily("cache", &url, RedisOptions::default()).unwrap()
}

async fn check(target: &RedisTarget, cx: &Context) -> HealthReport {
    let options = ProbeSetOptions::default().with_probe_deadline(Duration::from_millis(300));
    let mut probes = ProbeSet::new("t").with_options(options);
    for probe in registry() {
        let spec = probe.spec();
        probes.add_grouped("cache", None, spec.group, target.bind(*probe, Limits::defaults(spec)));
    }
    probes.run(cx).await
}

fn context() -> Context {
    Context::new().with_window_gap(Duration::from_millis(20))
}

#[tokio::test]
async fn a_run_costs_one_connection_and_one_info() {
    let (port, seen) = play(healthy).await;
    let (cx, redis) = (context(), target(port, "ops:hunter2@"));
    let first = check(&redis, &cx).await;
    assert_eq!(first.count(Status::Unknown), 0, "{first:?}");
    // No baseline is stored yet, so the windowed probes share a second sample.
    assert_eq!((seen.count("PING"), seen.count("INFO")), (1, 2));
    tokio::time::sleep(Duration::from_millis(30)).await;
    check(&redis, &cx).await;
    assert_eq!((seen.count("PING"), seen.count("INFO"), seen.count("AUTH")), (2, 3, 1));
    assert_eq!(seen.connections.load(Ordering::SeqCst), 1);
    // What both logs are set to keep is asked for once a run.
    for (command, times) in [("LATENCY", 2), ("SLOWLOG", 2), ("CONFIG", 2)] {
        assert_eq!(seen.count(command), times, "{command}");
    }
    // A locked-down user may send nothing else.
    assert_eq!(seen.commands.lock().unwrap().len(), 12);
}

#[tokio::test]
async fn a_silent_server_costs_one_deadline() {
    let (port, seen) = play(|_| None).await;
    let redis = target(port, "");
    let started = std::time::Instant::now();
    let report = check(&redis, &context()).await;
    assert!(started.elapsed() < Duration::from_millis(900), "{:?}", started.elapsed());
    assert_eq!((report.status, report.count(Status::Unknown)), (Status::Critical, registry().len() - 1));
    assert_eq!(report.probes[0].findings[0].code, "redis.server.timeout");
    assert_eq!(seen.commands.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_refused_login_is_tried_once_and_tells_no_secret() {
    let refuse = |command: &str| match command {
        "AUTH" => Some("-WRONGPASS invalid username-password pair or user is disabled.\r\n".to_owned()),
        _ => healthy(command),
    };
    let (port, seen) = play(refuse).await;
    let report = check(&target(port, "ops:hunter2@"), &context()).await;
    assert_eq!((report.status, report.coverage), (Status::Unknown, 0.0));
    assert_eq!(seen.count("AUTH"), 1);
    let document = serde_json::to_string(&report).unwrap();
    assert!(document.contains("WRONGPASS") && !document.contains("hunter2"), "{document}");
}

#[tokio::test]
async fn a_database_is_selected_once_behind_the_login() {
    for (database, commands) in [("", 8), ("/0", 8), ("/5", 9)] {
        let (port, seen) = play(healthy).await;
        let report = check(&target_in(port, "ops:hunter2@", database), &context()).await;
        assert_eq!(report.count(Status::Unknown), 0, "{report:?}");
        let sent = seen.commands.lock().unwrap().clone();
        let select = sent.iter().position(|command| command == "SELECT");
        assert_eq!(select, (database == "/5").then_some(1), "{sent:?}");
        // The connection counts as one.
        assert_eq!((sent.len() + 1, report.cost.round_trips), (commands, commands as u64), "{sent:?}");
    }
}

#[tokio::test]
async fn a_database_that_is_refused_is_tried_once_and_named() {
    for (reply, fix) in [
        ("ERR DB index is out of range", "its setting databases"),
        ("ERR SELECT is not allowed in cluster mode", "leave the database out"),
        ("NOPERM this user has no permissions to run the 'select' command", "ACL SETUSER ops +select"),
    ] {
        let refuse = move |command: &str| match command {
            "SELECT" => Some(format!("-{reply}\r\n")),
            _ => healthy(command),
        };
        let (port, seen) = play(refuse).await;
        let report = check(&target_in(port, "ops:x@", "/99"), &context()).await;
        assert_eq!((report.status, report.coverage), (Status::Unknown, 0.0), "{report:?}");
        assert_eq!(seen.count("SELECT"), 1, "{reply}");
        for result in &report.probes {
            assert!(result.summary.contains("failed to select database 99 on 127.0.0.1"), "{result:?}");
            assert!(result.unseen[0].fix.as_ref().unwrap().contains(fix), "{result:?}");
        }
    }
}

#[tokio::test]
async fn a_refused_info_is_asked_for_once_and_names_the_grant() {
    let refuse = |command: &str| match command {
        "INFO" => Some("-NOPERM this user has no permissions to run the 'info' command\r\n".to_owned()),
        _ => healthy(command),
    };
    let (port, seen) = play(refuse).await;
    let report = check(&target(port, "ops:x@"), &context()).await;
    assert_eq!((report.probes[0].status, report.count(Status::Unknown)), (Status::Ok, registry().len() - 1));
    assert_eq!(report.probes[1].unseen[0].fix.as_deref(), Some("ACL SETUSER ops +info"));
    assert_eq!(seen.count("INFO"), 1);
}

#[tokio::test]
async fn settings_that_are_hidden_are_asked_for_once_and_leave_both_logs_unknown() {
    for (refusal, fix) in [
        (
            "NOPERM this user has no permissions to run the 'config|get' command",
            Some("ACL SETUSER ops +config|get"),
        ),
        ("ERR unknown command 'CONFIG', with args beginning with: 'GET'", None),
    ] {
        let refuse = move |command: &str| match command {
            "CONFIG" => Some(format!("-{refusal}\r\n")),
            _ => healthy(command),
        };
        let (port, seen) = play(refuse).await;
        let report = check(&target(port, "ops:x@"), &context()).await;
        let unknown: Vec<_> = report.probes.iter().filter(|p| p.status == Status::Unknown).collect();
        let names: Vec<_> = unknown.iter().map(|result| result.probe.as_str()).collect();
        assert_eq!(names, ["redis.latency", "redis.slowlog"], "{report:?}");
        for result in unknown {
            assert_eq!(result.unseen[0].fix.as_deref(), fix, "{result:?}");
        }
        assert_eq!(seen.count("CONFIG"), 1);
    }
}

#[tokio::test]
async fn a_loading_server_is_critical_and_tells_how_far_it_is() {
    const INFO: &str = "loading:1\r\nloading_loaded_perc:40.00\r\n";
    let loading = |command: &str| match command {
        "PING" => Some("-LOADING Redis is loading the dataset in memory\r\n".to_owned()),
        "INFO" => Some(format!("${}\r\n{INFO}\r\n", INFO.len())),
        _ => healthy(command),
    };
    let (port, _) = play(loading).await;
    let report = check(&target(port, ""), &context()).await;
    let finding = &report.probes[0].findings[0];
    assert_eq!(finding.code, "redis.server.loading");
    assert!(finding.message.contains("40.0 % loaded"), "{}", finding.message);
    assert_eq!(report.count(Status::Unknown), registry().len() - 1, "what it counts is partial");
}

#[tokio::test]
async fn the_next_run_tries_anew() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let (cx, redis) = (context(), target(port, ""));
    let error = redis.info(&cx).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.target()),
        (ErrorKind::Unreachable, Some(format!("127.0.0.1:{port}").as_str()))
    );
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(serve(socket, Arc::default(), healthy));
        }
    });
    assert!(redis.info(&cx).await.is_err(), "the failure holds for the run");
    assert!(redis.info(&cx.new_run()).await.is_ok());
}

#[tokio::test]
async fn a_connection_cut_between_runs_is_made_anew() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        // The first client is served one command, then cut.
        let (socket, _) = listener.accept().await.unwrap();
        let mut first = BufReader::new(socket);
        command(&mut first).await;
        first.write_all(healthy("INFO").unwrap().as_bytes()).await.unwrap();
        drop(first);
        let (socket, _) = listener.accept().await.unwrap();
        serve(socket, Arc::default(), healthy).await;
    });
    let (cx, redis) = (context(), target(port, ""));
    redis.info(&cx).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(redis.info(&cx.new_run()).await.is_ok());
}
