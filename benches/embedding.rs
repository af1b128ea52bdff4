//! What a service pays for embedding ops: an answer from the cache, and an observation.

use std::hint::black_box;
use std::time::Duration;

use async_trait::async_trait;
use criterion::{Criterion, criterion_group, criterion_main};
use ops_core::endpoint::Endpoint;
use ops_core::telemetry::Recorder;
use ops_core::{
    Context, HealthProbe, Measurement, ProbeReport, ProbeSet, ProbeSetOptions, Result, Threshold, Unit,
};
use tokio::runtime::Builder;

/// As many as a PostgreSQL and a Redis have together.
const PROBES: usize = 72;

#[derive(Debug)]
struct Fixed(String);

#[async_trait]
impl HealthProbe for Fixed {
    fn name(&self) -> &str {
        &self.0
    }

    async fn probe(&self, _cx: &Context) -> Result<ProbeReport> {
        let used = Measurement::new("used", 12.0, Unit::Percent).judged_by(Threshold::above(80.0, 90.0));
        Ok(ProbeReport::new("12 % used").measure(used))
    }
}

fn endpoint() -> Endpoint {
    let options = ProbeSetOptions::default().with_cache_for(Duration::from_secs(3600));
    let mut probes = ProbeSet::new("shop").with_options(options);
    for n in 0..PROBES {
        probes.add("main", Fixed(format!("fixed.probe_{n}")));
    }
    Endpoint::new(probes)
}

fn embedding(criterion: &mut Criterion) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let endpoint = endpoint();
    runtime.block_on(endpoint.health());
    criterion.bench_function("cached health", |bencher| {
        bencher.iter(|| runtime.block_on(endpoint.health()));
    });
    criterion.bench_function("cached readiness", |bencher| {
        bencher.iter(|| runtime.block_on(endpoint.ready()));
    });

    let recorder = Recorder::new("shop", chrono::Utc::now());
    criterion.bench_function("observe", |bencher| {
        bencher.iter(|| recorder.observe(black_box("checkout"), black_box(Duration::from_micros(1234))));
    });
}

criterion_group!(benches, embedding);
criterion_main!(benches);
