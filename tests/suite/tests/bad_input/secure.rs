//! Three drivers, one TLS provider, one process.

use ops_cache::server::Server;
use ops_cache::{RedisOptions, RedisTarget, RootCertificate, registry};
use ops_core::{Bounds, Context, Direction, ErrorKind, Limits, ProbeSpec, Secret, Status, Unit};
use ops_host::{HttpConfig, HttpTarget, http_registry};
use ops_pg::PgConfig;
use ops_pg::cluster::Cluster;
use ops_testkit::{Authority, MAJORS, Missing, local_options, local_redis_options, or_skip};

use crate::check::{SENTINEL, pg_target, run, set};
use crate::service::Service;

async fn redis(authority: &Authority) -> Option<Server> {
    let identity = &authority.server;
    let options = local_redis_options()
        .with_password(Secret::from(SENTINEL.to_owned()))
        .with_tls(&identity.certificate, Secret::from(identity.key.clone()));
    match Server::start(&Context::new(), &options).await {
        Err(error) if error.kind() == ErrorKind::NotFound => or_skip(Err(Missing::new(error.report()))),
        other => Some(other.unwrap()),
    }
}

/// nextest gives it a process of its own: none of the three may count on another having installed a provider.
#[tokio::test]
async fn postgres_redis_and_https_speak_tls_at_once() {
    let authority = Authority::new();
    let Some(cache) = redis(&authority).await else { return };
    let api = Service::start_tls(&authority.server).await;
    let mut spoken = 0;
    for major in MAJORS {
        let Ok(options) = local_options(major).await else { continue };
        let options = options
            .with_password(Secret::from(SENTINEL.to_owned()))
            .with_tls(&authority.server.certificate, Secret::from(authority.server.key.clone()));
        let started = Cluster::start(&Context::new(), &options).await;
        let cluster = match started {
            Err(error) if error.report().contains("SSL is not supported by this build") => {
                // The wheel of 18 comes without OpenSSL.
                continue;
            }
            other => other.unwrap(),
        };
        let file = authority.file.path().display();
        let url = format!("{}?sslmode=verify-full&sslrootcert={file}", cluster.tcp_url("postgres").unwrap());
        let mut all = set();
        let main = pg_target(&url, PgConfig::default());
        let probe = *ops_pg::registry().iter().find(|probe| probe.spec().name == "pg.reachable").unwrap();
        main.add_to(&mut all, probe, patient(probe.spec()));
        let root = RootCertificate::Pem(authority.certificate.clone().into_bytes());
        let url = Secret::from(cache.tls_url().unwrap());
        let options = RedisOptions::default().with_root_certificate(root);
        let target = RedisTarget::connect_lazily("cache", &url, options).unwrap();
        let spec = registry()[0].spec();
        all.add_grouped("cache", None, spec.group, target.bind(registry()[0], patient(spec)));
        let config = HttpConfig::new(api.url()).with_root_certificate(authority.file.path());
        let endpoint = HttpTarget::new("api", config, Vec::new()).unwrap();
        let spec = http_registry()[0].spec();
        all.add_grouped("api", None, spec.group, endpoint.bind(http_registry()[0], patient(spec)));

        let checked = run(all, &(main, target, endpoint)).await;
        let seen: Vec<_> =
            checked.report.probes.iter().map(|result| (result.probe.as_str(), result.status)).collect();
        let ok = ["pg.reachable", "redis.reachable", "http.endpoint"].map(|probe| (probe, Status::Ok));
        assert_eq!(seen, ok, "{:#?}", checked.report);
        spoken += 1;
    }
    if spoken == 0 {
        or_skip::<()>(Err(Missing::new("a PostgreSQL with OpenSSL on this machine")));
    }
}

/// The defaults, but for time: what is asked here is whether it speaks, not how fast on a busy machine.
fn patient(spec: &'static ProbeSpec) -> Limits {
    let times = spec.thresholds.iter().filter(|threshold| {
        threshold.direction == Direction::Above
            && matches!(threshold.unit, Unit::Seconds | Unit::Milliseconds)
    });
    let never = Bounds { warning: Some(1e9), critical: Some(1e9) };
    times.fold(Limits::defaults(spec), |limits, threshold| limits.with(threshold.name, never).unwrap())
}
