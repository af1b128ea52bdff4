//! `http.endpoint` against real servers on the loopback interface.
#![cfg(feature = "http")]
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Redirect;
use axum::routing::get;
use ops_core::{Bounds, Context, ErrorKind, HealthProbe, Limits, ProbeReport, Result, Secret, Status};
use ops_host::{HttpConfig, HttpTarget, http_registry};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A service whose paths answer well or badly.
async fn service() -> String {
    let router = Router::new()
        .route("/healthy", get(|| async { r#"{"status": "healthy", "checks": {"db": true}, "n": 1.0}"# }))
        .route("/unhealthy", get(|| async { r#"{"status": "unhealthy"}"# }))
        .route("/text", get(|| async { "healthy" }))
        .route("/broken", get(|| async { (StatusCode::INTERNAL_SERVER_ERROR, "oh") }))
        .route("/closed", get(|| async { StatusCode::FORBIDDEN }))
        .route("/moved", get(|| async { Redirect::temporary("/healthy") }))
        .route("/long", get(|| async { format!("\"{}\"", "x".repeat(100_000)) }))
        .route("/slow", get(|| async { tokio::time::sleep(Duration::from_millis(120)).await }))
        .route("/never", get(std::future::pending::<()>))
        .route(
            "/token",
            get(|headers: HeaderMap| async move {
                let known = headers.get("authorization").is_some_and(|value| value == "Bearer hunter2");
                if known { StatusCode::OK } else { StatusCode::UNAUTHORIZED }
            }),
        );
    let (listener, address) = listen().await;
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

async fn probe(config: HttpConfig) -> Result<ProbeReport> {
    probe_within(config, Duration::from_secs(5)).await
}

async fn probe_within(config: HttpConfig, time: Duration) -> Result<ProbeReport> {
    let probe = http_registry()[0];
    let target = HttpTarget::new("api", config, Vec::new()).unwrap();
    let cx = Context::new().with_deadline(time);
    target.bind(probe, Limits::defaults(probe.spec())).probe(&cx).await
}

fn codes(report: &ProbeReport) -> Vec<&str> {
    report.found().iter().map(|finding| finding.code.as_ref()).collect()
}

#[tokio::test]
async fn an_answer_is_judged_as_a_whole() {
    let base = service().await;
    let at = |path: &str| HttpConfig::new(format!("{base}{path}"));
    for (config, status, code) in [
        (at("/healthy"), Status::Ok, None),
        (
            at("/healthy").with_json("/status", "healthy").with_json("/checks/db", true).with_json("/n", 1),
            Status::Ok,
            None,
        ),
        (at("/unhealthy").with_json("/status", "healthy"), Status::Critical, Some("http.endpoint.body")),
        (at("/healthy").with_json("/missing", "x"), Status::Critical, Some("http.endpoint.body")),
        (at("/text").with_json("", "healthy"), Status::Critical, Some("http.endpoint.body")),
        (at("/broken"), Status::Critical, Some("http.endpoint.server_error")),
        (at("/broken").with_status(500), Status::Ok, None),
        (at("/nowhere"), Status::Critical, Some("http.endpoint.status")),
        (at("/moved"), Status::Critical, Some("http.endpoint.status")),
        (at("/moved").with_redirects(1).with_json("/status", "healthy"), Status::Ok, None),
        (at("/long"), Status::Ok, None),
        (at("/long").with_json("", "x"), Status::Unknown, None),
    ] {
        let shown = format!("{config:?}");
        let report = probe(config).await.unwrap();
        assert_eq!((report.status(), codes(&report).first().copied()), (status, code), "{shown}");
    }
}

#[tokio::test]
async fn what_is_about_us_is_unknown() {
    let base = service().await;
    for path in ["/closed", "/token"] {
        let report = probe(HttpConfig::new(format!("{base}{path}"))).await.unwrap();
        assert_eq!((report.status(), codes(&report)), (Status::Unknown, vec![]), "{path}");
    }
    let no_file = HttpConfig::new(format!("{base}/healthy")).with_root_certificate("/no/such/ca.pem");
    let error = probe(no_file).await.unwrap_err();
    assert!(
        error.kind() == ErrorKind::Configuration && error.to_string().contains("/no/such/ca.pem"),
        "{error}"
    );
}

#[tokio::test]
async fn headers_are_sent() {
    let base = service().await;
    let token = vec![("authorization".to_owned(), Secret::from("Bearer hunter2".to_owned()))];
    let target = HttpTarget::new("api", HttpConfig::new(format!("{base}/token")), token).unwrap();
    let probe = http_registry()[0];
    let report = target.bind(probe, Limits::defaults(probe.spec())).probe(&Context::new()).await.unwrap();
    assert_eq!(report.status(), Status::Ok);
}

#[tokio::test]
async fn headers_do_not_leave_their_origin() {
    let elsewhere = service().await;
    let target = format!("{elsewhere}/healthy");
    let away = get(move || std::future::ready(Redirect::temporary(&target)));
    let router = Router::new()
        .route("/away", away)
        .route("/here", get(|| async { Redirect::temporary("/end") }))
        .route("/twice", get(|| async { Redirect::temporary("/here") }))
        .route("/end", get(|| async { "ok" }));
    let (listener, address) = listen().await;
    tokio::spawn(async move { axum::serve(listener, router).await });
    let probe = http_registry()[0];
    for (path, headers, words) in [
        ("/away", false, None),
        ("/away", true, Some("where the configured headers do not go")),
        ("/here", true, None),
        ("/twice", true, Some("more redirects than configured")),
    ] {
        let headers = headers
            .then(|| ("x-api-key".to_owned(), Secret::from("hunter2".to_owned())))
            .into_iter()
            .collect();
        let config = HttpConfig::new(format!("http://{address}{path}")).with_redirects(1);
        let target = HttpTarget::new("api", config, headers).unwrap();
        let outcome = target.bind(probe, Limits::defaults(probe.spec())).probe(&Context::new()).await;
        match (outcome, words) {
            (Ok(report), None) => assert_eq!(report.status(), Status::Ok, "{path}"),
            (Err(error), Some(words)) => assert!(error.to_string().contains(words), "{error}"),
            (outcome, words) => panic!("{path}: {outcome:?}, not {words:?}"),
        }
    }
}

#[tokio::test]
async fn a_slow_answer_is_judged_by_its_thresholds() {
    let base = service().await;
    let target = HttpTarget::new("api", HttpConfig::new(format!("{base}/slow")), Vec::new()).unwrap();
    let probe = http_registry()[0];
    let limits = Limits::defaults(probe.spec())
        .with("latency", Bounds { warning: Some(100.0), critical: None })
        .unwrap();
    let report = target.bind(probe, limits).probe(&Context::new()).await.unwrap();
    assert_eq!((report.status(), codes(&report)), (Status::Warning, vec!["http.endpoint.slow"]));
}

#[tokio::test]
async fn what_does_not_answer_is_critical_in_bounded_time() {
    let base = service().await;
    let short = Duration::from_millis(300);
    let report = probe_within(HttpConfig::new(format!("{base}/never?token=hunter2")), short).await.unwrap();
    assert_eq!((report.status(), codes(&report)), (Status::Critical, vec!["http.endpoint.timeout"]));
    assert!(!format!("{report:?}").contains("hunter2"));

    let (listener, address) = listen().await;
    drop(listener);
    let report = probe(HttpConfig::new(format!("http://{address}/?token=hunter2"))).await.unwrap();
    assert_eq!((report.status(), codes(&report)), (Status::Critical, vec!["http.endpoint.unreachable"]));
    assert!(report.found()[0].message.contains("connection refused"), "{:?}", report.found());
    assert!(!format!("{report:?}").contains("hunter2"));

    let (listener, address) = listen().await;
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            drop(socket);
        }
    });
    let report = probe(HttpConfig::new(format!("http://{address}/"))).await.unwrap();
    assert_eq!((report.status(), codes(&report)), (Status::Critical, vec!["http.endpoint.unreachable"]));

    let report = probe(HttpConfig::new("http://no-such-host.invalid/")).await.unwrap();
    assert!(report.found()[0].message.contains("does not resolve"), "{:?}", report.found());
}

/// An HTTPS server whose certificate lasts from `days.0` to `days.1` from now, and the file with its authority.
async fn https(name: &str, days: (i64, i64), dir: &std::path::Path) -> (String, PathBuf) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_pem = authority.self_signed(&key).unwrap().pem();
    let issuer = rcgen::Issuer::new(authority, key);

    let now = std::time::SystemTime::now();
    let day = |days: i64| {
        let span = Duration::from_secs(days.unsigned_abs() * 86_400);
        if days < 0 { now - span } else { now + span }
    };
    let mut leaf = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    leaf.not_before = day(days.0).into();
    leaf.not_after = day(days.1).into();
    let leaf_key = rcgen::KeyPair::generate().unwrap();
    let leaf = leaf.signed_by(&leaf_key, &issuer).unwrap();
    let chain = vec![CertificateDer::from(leaf.der().to_vec())];
    let key = PrivateKeyDer::try_from(leaf_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let Ok(mut tls) = acceptor.accept(socket).await else { continue };
            let _ = tls.read(&mut [0; 4096]).await;
            let _ =
                tls.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok").await;
            let _ = tls.shutdown().await;
        }
    });
    let file = dir.join(format!("{}.pem", address.port()));
    std::fs::write(&file, authority_pem).unwrap();
    (format!("https://localhost:{}", address.port()), file)
}

#[tokio::test]
async fn certificates_are_judged_by_their_end() {
    let dir = tempfile::tempdir().unwrap();
    for (days, status, code) in [
        ((-1, 90), Status::Ok, None),
        ((-1, 20), Status::Warning, Some("http.endpoint.certificate")),
        ((-1, 6), Status::Critical, Some("http.endpoint.certificate")),
        ((-90, -2), Status::Critical, Some("http.endpoint.certificate_expired")),
    ] {
        let (url, authority) = https("localhost", days, dir.path()).await;
        let report = probe(HttpConfig::new(url).with_root_certificate(authority)).await.unwrap();
        assert_eq!((report.status(), codes(&report).first().copied()), (status, code), "{days:?}");
        if days.1 < 0 {
            let since = chrono::Utc::now() - chrono::Duration::days(-days.1);
            let message = &report.found()[0].message;
            assert!(message.contains(&since.format("expired on %Y-%m-%d").to_string()), "{message}");
        }
    }
}

#[tokio::test]
async fn a_certificate_not_trusted_here_is_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let (url, _) = https("localhost", (-1, 90), dir.path()).await;
    let error = probe(HttpConfig::new(url)).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Tls && error.to_string().contains("not trusted here"), "{error}");

    let (url, authority) = https("elsewhere", (-1, 90), dir.path()).await;
    let error = probe(HttpConfig::new(url).with_root_certificate(authority)).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Tls && error.to_string().contains("another host name"), "{error}");

    let plain = service().await.replace("http://127.0.0.1", "https://localhost");
    let error = probe(HttpConfig::new(plain)).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Tls && error.to_string().contains("does not speak TLS"), "{error}");
}
