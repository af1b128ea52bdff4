use ops_core::{Limits, Secret};
use ops_host::{HttpConfig, HttpTarget, http_registry};
use ops_testkit::{Authority, Behaviour, End, Proxy};

use crate::check::{Checked, DEAD, Expected, SENTINEL, refused, run, set};
use crate::service::{Mood, Service};

fn target(config: HttpConfig) -> ops_core::Result<HttpTarget> {
    let token = Secret::from(format!("Bearer {SENTINEL}"));
    HttpTarget::new("api", config, vec![("authorization".to_owned(), token)])
}

async fn check(config: HttpConfig) -> Checked {
    let target = target(config).unwrap();
    let mut all = set();
    for probe in http_registry() {
        let spec = probe.spec();
        all.add_grouped("api", None, spec.group, target.bind(*probe, Limits::defaults(spec)));
    }
    run(all, &target).await
}

#[test]
fn a_url_that_is_none_is_told_without_repeating_it() {
    for url in [
        format!("ftp://u:{SENTINEL}@api"),
        format!("https://u:{SENTINEL}@api/health"),
        format!("https://api:port/?token={SENTINEL}"),
        SENTINEL.to_owned(),
        String::new(),
    ] {
        let error = target(HttpConfig::new(url)).unwrap_err();
        let said = format!("{error} {error:?} {}", error.report());
        assert!(!said.contains(SENTINEL) && error.message().is_some(), "{said}");
    }
    refused(target(HttpConfig::new(format!("https://u:{SENTINEL}@api/health"))));
}

#[tokio::test]
async fn what_cannot_be_reached_says_what_and_where() {
    let authority = Authority::new();
    let (plain, expired) = (Service::start().await, Service::start_tls(&authority.expired).await);
    let proxies = [
        Proxy::to(plain.address()).await.unwrap(),
        Proxy::to(plain.address()).await.unwrap(),
        Proxy::to(plain.address()).await.unwrap(),
    ];
    let [silent, closing, resetting] = &proxies;
    silent.set(Behaviour::Stall).await;
    closing.set(Behaviour::Cut { after: 30, end: End::Close }).await;
    resetting.set(Behaviour::Cut { after: 30, end: End::Reset }).await;
    let refusing = Service::start().await;
    refusing.set(Mood::Status(401));
    let asked = |scheme: &str, address: &dyn ToString| {
        HttpConfig::new(format!("{scheme}://{}/health?token={SENTINEL}", address.to_string()))
    };
    let trusting = |config: HttpConfig| config.with_root_certificate(authority.file.path());
    for (config, expected) in [
        (asked("http", &DEAD), Expected::critical(DEAD, &["connection refused"])),
        (
            asked("http", &"no.such.host.invalid"),
            Expected::critical("no.such.host.invalid", &["does not resolve"]),
        ),
        (asked("http", &silent.address()), Expected::critical(silent.address(), &["no answer within"])),
        (asked("http", &closing.address()), Expected::critical(closing.address(), &[])),
        (asked("http", &resetting.address()), Expected::critical(resetting.address(), &[])),
        (asked("http", &refusing.address()), Expected::unknown(refusing.address(), &["401"])),
        (
            trusting(asked("https", &expired.address())),
            Expected::critical(expired.address(), &["expired on 2021-01-01"]),
        ),
        (
            trusting(asked("https", &plain.address())),
            Expected::unknown(plain.address(), &["does not speak TLS", "http://"]),
        ),
        (
            asked("https", &expired.address()).with_root_certificate("/nowhere.pem"),
            Expected::unknown("/nowhere.pem", &["root certificate"]),
        ),
    ] {
        check(config).await.cannot_look("http.endpoint", &expected);
    }
}
