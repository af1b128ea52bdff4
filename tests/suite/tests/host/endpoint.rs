use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, TimeZone, Utc};
use ops_core::{Bounds, Clock, Context, Limits, ProbeResult, ProbeSet, ProbeSetOptions, Status, Unseen};
use ops_host::{HttpConfig, HttpProbe, HttpTarget, SubscriptionConfig, http_registry};
use ops_testkit::{Authority, Behaviour, End, Proxy};
use serde_json::json;

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
    let cut = Behaviour::Cut { after: 20, end: End::Reset };
    let late = Duration::from_millis(300);
    let socket = [
        ("ws.subscription.unreachable", Critical, Plant::Network(Behaviour::Refuse)),
        ("ws.subscription.unreachable", Critical, Plant::Network(cut)),
        ("ws.subscription.timeout", Critical, Plant::Network(Behaviour::Stall)),
        ("ws.subscription.server_error", Critical, Plant::Mood(Mood::Status(500))),
        ("ws.subscription.status", Critical, Plant::Mood(Mood::Status(404))),
        ("ws.subscription.refused", Critical, Plant::Mood(Mood::Unhealthy)),
        ("ws.subscription.closed", Critical, Plant::Mood(Mood::Failing)),
        ("ws.subscription.slow", Warning, Plant::Mood(Mood::Slow(late))),
        ("ws.subscription.certificate_expired", Critical, Plant::Expired),
        ("ws.subscription.certificate", Warning, Plant::ExpiresSoon),
    ];
    let both = [
        (
            "http.endpoint.unreachable",
            "http.graphql.unreachable",
            Critical,
            Plant::Network(Behaviour::Refuse),
        ),
        ("http.endpoint.unreachable", "http.graphql.unreachable", Critical, Plant::Network(cut)),
        ("http.endpoint.timeout", "http.graphql.timeout", Critical, Plant::Network(Behaviour::Stall)),
        ("http.endpoint.server_error", "http.graphql.server_error", Critical, Plant::Mood(Mood::Status(500))),
        ("http.endpoint.status", "http.graphql.status", Critical, Plant::Mood(Mood::Status(404))),
        ("http.endpoint.body", "http.graphql.body", Critical, Plant::Mood(Mood::Unhealthy)),
        ("http.endpoint.slow", "http.graphql.slow", Warning, Plant::Mood(Mood::Slow(late))),
        ("http.endpoint.certificate_expired", "http.graphql.certificate_expired", Critical, Plant::Expired),
        ("http.endpoint.certificate", "http.graphql.certificate", Warning, Plant::ExpiresSoon),
    ];
    let mut rows = vec![Row {
        probe: "http.graphql",
        expected: Critical,
        code: "http.graphql.errors",
        plant: Plant::Mood(Mood::Failing),
    }];
    rows.extend(socket.map(|(code, expected, plant)| Row {
        probe: "ws.subscription",
        expected,
        code,
        plant,
    }));
    for (endpoint, graphql, expected, plant) in both {
        rows.push(Row { probe: "http.endpoint", expected, code: endpoint, plant });
        rows.push(Row { probe: "http.graphql", expected, code: graphql, plant });
    }
    rows
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

    /// As the probe asks of it.
    fn config_of(&self, probe: &str) -> HttpConfig {
        match probe {
            "http.graphql" => HttpConfig::new(self.url.replace("/health", "/graphql"))
                .with_graphql("{ status }")
                .with_json("/data/status", "healthy")
                .with_root_certificate(self.authority.file.path()),
            "ws.subscription" => self.socket("?vsn=2.0.0"),
            _ => self.config(),
        }
    }

    fn socket(&self, query: &str) -> HttpConfig {
        let url = self.url.replace("https:", "wss:").replace("/health", "/socket/websocket");
        HttpConfig::new(format!("{url}{query}"))
            .with_subscription(SubscriptionConfig::to("room:lobby").with_payload(json!({"token": "hunter2"})))
            .with_root_certificate(self.authority.file.path())
    }
}

fn probe_named(name: &str) -> &'static dyn HttpProbe {
    *http_registry().iter().find(|probe| probe.spec().name == name).expect("a registered probe")
}

async fn look(cx: &Context, config: HttpConfig) -> ProbeResult {
    look_by(cx, "http.endpoint", config).await
}

async fn look_by(cx: &Context, probe: &str, config: HttpConfig) -> ProbeResult {
    let probe = probe_named(probe);
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
        let config = stand.config_of(row.probe);
        let before = look_by(&Context::new(), row.probe, config.clone()).await;
        assert_eq!((before.status, before.findings.len()), (Status::Ok, 0), "{before:#?}");

        stand.plant(row.plant).await;
        let cx = match row.plant {
            Plant::ExpiresSoon => {
                Context::new().with_clock(Day(Utc.with_ymd_and_hms(2098, 12, 20, 0, 0, 0).unwrap()))
            }
            _ => Context::new(),
        };
        let result = look_by(&cx, row.probe, config.clone()).await;
        assert_eq!(result.status, row.expected, "{:?}: {result:#?}", row.plant);
        let found: Vec<_> = result.findings.iter().map(|f| (f.code.as_ref(), f.object.as_deref())).collect();
        let address = config.url.split('?').next();
        assert_eq!(found, [(row.code, address)], "{:?}: {result:#?}", row.plant);
        assert!(!format!("{result:?}").contains("hunter2"), "{result:#?}");
        explains::findings_of(probe_named(row.probe).spec(), &result);
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

/// Either serializer, and a socket without channels, which only answers pings.
#[tokio::test]
async fn a_channel_is_joined_by_any_of_its_protocols() {
    let stand = Stand::new().await;
    for query in ["", "?vsn=1.0.0", "?apikey=k&vsn=2.0.0"] {
        let result = look_by(&Context::new(), "ws.subscription", stand.socket(query)).await;
        assert_eq!(result.status, Status::Ok, "{query}: {result:#?}");
        let names: Vec<_> = result.measurements.iter().map(|measured| measured.name.as_ref()).collect();
        assert_eq!(names, ["latency", "round_trip", "certificate_days"], "{result:#?}");
    }
    let pinged = stand.socket("").with_subscription(SubscriptionConfig::default());
    let result = look_by(&Context::new(), "ws.subscription", pinged).await;
    assert_eq!(result.status, Status::Ok, "{result:#?}");
}

/// A token that is not taken, and a topic that there is not.
#[tokio::test]
async fn a_refusal_that_is_about_this_check_is_unknown() {
    let stand = Stand::new().await;
    let join = |topic: &str, token: &str| {
        let subscription = SubscriptionConfig::to(topic).with_payload(json!({"token": token}));
        look_subscription(stand.socket("?vsn=2.0.0").with_subscription(subscription))
    };
    let stranger = join("room:lobby", "somebody else's").await;
    assert_eq!(stranger.status, Status::Unknown, "{stranger:#?}");
    assert!(stranger.unseen[0].what.contains("unauthorized"), "{stranger:#?}");
    let nowhere = join("room:nowhere", "hunter2").await;
    assert_eq!(nowhere.findings[0].code, "ws.subscription.refused", "{nowhere:#?}");
    stand.service.set(Mood::Status(403));
    let closed = join("room:lobby", "hunter2").await;
    assert_eq!(closed.status, Status::Unknown, "{closed:#?}");
}

async fn look_subscription(config: HttpConfig) -> ProbeResult {
    look_by(&Context::new(), "ws.subscription", config).await
}

/// Each endpoint is looked at by one of the three.
#[tokio::test]
async fn a_query_decides_which_probe_applies() {
    let stand = Stand::new().await;
    for (config, probe) in [
        ("http.graphql", "http.endpoint"),
        ("ws.subscription", "http.endpoint"),
        ("http.endpoint", "http.graphql"),
        ("http.endpoint", "ws.subscription"),
    ] {
        let result = look_by(&Context::new(), probe, stand.config_of(config)).await;
        assert_eq!(result.status, Status::NotApplicable, "{result:#?}");
    }
}
