use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, TimeZone, Utc};
use ops_core::{Bounds, Clock, Context, Limits, ProbeResult, ProbeSet, ProbeSetOptions, Status, Unseen};
use ops_host::{HttpConfig, HttpTarget, http_registry};
use ops_testkit::{Authority, Behaviour, End, Proxy};

use crate::explains;
use crate::service::{Mood, Service};

/// What is done to a service that was well.
#[derive(Clone, Copy, Debug)]
enum Plant {
    Mood(Mood),
    /// By the network in front of it.
    Network(Behaviour),
    Expired,
    /// The day is shortly before the certificate's end.
    ExpiresSoon,
}

struct Row {
    probe: &'static str,
    expected: Status,
    code: &'static str,
    plant: Plant,
}

/// The object of each is the endpoint's address.
fn rows() -> Vec<Row> {
    use Status::{Critical, Warning};
    let row = |expected, code, plant| Row { probe: "http.endpoint", expected, code, plant };
    let cut = Behaviour::Cut { after: 20, end: End::Reset };
    let late = Duration::from_millis(300);
    vec![
        row(Critical, "http.endpoint.unreachable", Plant::Network(Behaviour::Refuse)),
        row(Critical, "http.endpoint.unreachable", Plant::Network(cut)),
        row(Critical, "http.endpoint.timeout", Plant::Network(Behaviour::Stall)),
        row(Critical, "http.endpoint.server_error", Plant::Mood(Mood::Status(500))),
        row(Critical, "http.endpoint.status", Plant::Mood(Mood::Status(404))),
        row(Critical, "http.endpoint.body", Plant::Mood(Mood::Unhealthy)),
        row(Warning, "http.endpoint.slow", Plant::Mood(Mood::Slow(late))),
        row(Critical, "http.endpoint.certificate_expired", Plant::Expired),
        row(Warning, "http.endpoint.certificate", Plant::ExpiresSoon),
    ]
}

/// Another day.
#[derive(Debug)]
struct Day(DateTime<Utc>);

impl Clock for Day {
    fn now(&self) -> DateTime<Utc> {
        self.0
    }
}

/// A service behind a proxy, and what to ask of it.
struct Stand {
    authority: Authority,
    service: Service,
    proxy: Proxy,
    url: String,
}

impl Stand {
    async fn new() -> Self {
        let authority = Authority::new();
        let service = Service::start_tls(&authority.server).await;
        let proxy = Proxy::to(service.address()).await.unwrap();
        let url = format!("https://{}/health", proxy.address());
        Self { authority, service, proxy, url }
    }

    async fn plant(&self, plant: Plant) {
        match plant {
            Plant::Mood(mood) => self.service.set(mood),
            Plant::Network(behaviour) => self.proxy.set(behaviour).await,
            Plant::Expired => self.service.show(&self.authority.expired),
            Plant::ExpiresSoon => {}
        }
    }

    fn config(&self) -> HttpConfig {
        HttpConfig::new(&self.url)
            .with_json("/status", "healthy")
            .with_root_certificate(self.authority.file.path())
    }
}

async fn look(cx: &Context, config: HttpConfig) -> ProbeResult {
    let probe = http_registry()[0];
    let slow = Bounds { warning: Some(250.0), critical: None };
    let limits = Limits::defaults(probe.spec()).with("latency", slow).unwrap();
    let options = ProbeSetOptions::default().with_probe_deadline(Duration::from_secs(1));
    let mut set = ProbeSet::new("test").with_options(options);
    let target = HttpTarget::new("api", config, Vec::new()).unwrap();
    set.add_grouped("api", None, probe.spec().group, target.bind(probe, limits));
    set.run(cx).await.probes.remove(0)
}

#[test]
fn every_registered_probe_and_code_has_a_row() {
    let specs = || http_registry().iter().map(|probe| probe.spec());
    let registered: BTreeSet<_> = specs().map(|spec| spec.name).collect();
    assert_eq!(registered, rows().iter().map(|row| row.probe).collect());
    let codes: BTreeSet<_> = specs().flat_map(|spec| spec.explanation.codes).map(|(code, _)| *code).collect();
    assert_eq!(codes, rows().iter().map(|row| row.code).collect());
    specs().for_each(explains::itself);
}

#[tokio::test]
async fn each_probe_finds_its_plant() {
    for row in rows() {
        let stand = Stand::new().await;
        let before = look(&Context::new(), stand.config()).await;
        assert_eq!((before.status, before.findings.len()), (Status::Ok, 0), "{before:#?}");

        stand.plant(row.plant).await;
        let cx = match row.plant {
            Plant::ExpiresSoon => {
                Context::new().with_clock(Day(Utc.with_ymd_and_hms(2098, 12, 20, 0, 0, 0).unwrap()))
            }
            _ => Context::new(),
        };
        let result = look(&cx, stand.config()).await;
        assert_eq!(result.status, row.expected, "{:?}: {result:#?}", row.plant);
        let found: Vec<_> = result.findings.iter().map(|f| (f.code.as_ref(), f.object.as_deref())).collect();
        assert_eq!(found, [(row.code, Some(stand.url.as_str()))], "{:?}: {result:#?}", row.plant);
        explains::findings_of(http_registry()[0].spec(), &result);
    }
}

/// What may be our own mistake says what it is, and what would help.
#[tokio::test]
async fn what_is_about_this_check_is_unknown() {
    let stand = Stand::new().await;
    let (good, plain) = (stand.config(), Service::start().await);
    let without_authority = HttpConfig::new(&stand.url);
    let at = |url: String| {
        let mut config = good.clone();
        config.url = url;
        config
    };
    let without_tls = at(plain.url().replace("http:", "https:"));
    let elsewhere = Service::start_tls(&stand.authority.elsewhere).await;
    let another_name = at(elsewhere.url());
    for (config, words, fix) in [
        (without_authority, "not trusted here", Some("root_certificate")),
        (without_tls, "does not speak TLS", Some("http://")),
        (another_name, "another host name", None),
    ] {
        let address = HttpTarget::new("api", config.clone(), Vec::new()).unwrap().display();
        let result = look(&Context::new(), config).await;
        assert_eq!(result.status, Status::Unknown, "{words}: {result:#?}");
        let Unseen { what, fix: given, .. } = &result.unseen[0];
        assert!(what.contains(words) && what.contains(&address), "{what}");
        assert!(given.as_deref().unwrap_or_default().contains(fix.unwrap_or_default()), "{given:?}");
    }
    for status in [401, 403, 429] {
        stand.service.set(Mood::Status(status));
        let result = look(&Context::new(), stand.config()).await;
        assert_eq!(result.status, Status::Unknown, "{result:#?}");
        assert!(result.unseen[0].what.contains(&status.to_string()), "{result:#?}");
    }
}
