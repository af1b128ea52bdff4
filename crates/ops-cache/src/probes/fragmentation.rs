//! `redis.fragmentation`: memory that the allocator holds and the data does not need.

use async_trait::async_trait;
use ops_core::{
    Context, Direction, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy,
    Requirement, Result, Severity, ThresholdSpec, Unit,
};
use serde_json::json;

use crate::info::Info;
use crate::probe::RedisProbe;
use crate::target::RedisTarget;

/// Below this resident size the ratio tells about the allocator's own arenas, not about fragmentation.
const FLOOR: f64 = 200.0 * 1024.0 * 1024.0;

pub(crate) static SPEC: ProbeSpec = ProbeSpec {
    name: "redis.fragmentation",
    group: "memory",
    explanation: Explanation {
        why: "Memory that the process holds and the data does not need counts against the machine and not against \
              maxmemory: the kernel can end a server that believes itself within its limit.",
        measures: "mem_fragmentation_ratio (used_memory_rss / used_memory), judged from 200 MiB resident upwards: \
                   below that it mostly shows the allocator's own arenas. After a large deletion it stays high until \
                   memory is used again.",
        queries: &[("mem_fragmentation_ratio, used_memory_rss", "INFO")],
        codes: &[("redis.memory.fragmented", "the process holds much more memory than its data needs")],
        versions: "Redis 6.2 and later, Valkey 8 and later",
        cost: "none beyond the INFO that all probes share",
        remedy: "MEMORY PURGE returns what is free at once; CONFIG SET activedefrag yes tidies up while it runs, at \
                 the price of some CPU; a restart from a fresh snapshot does both.",
    },
    thresholds: &[ThresholdSpec {
        name: "ratio",
        meaning: "resident memory, over memory used by data",
        unit: Unit::Ratio,
        direction: Direction::Above,
        warning: Some(1.5),
        critical: None,
        source: "the server's own MEMORY DOCTOR speaks up above 1.4; 1.5 is the usual alert",
    }],
    requires: &[Requirement::Command("info")],
};

/// See [`SPEC`].
#[derive(Debug)]
pub(crate) struct Fragmentation;

#[async_trait]
impl RedisProbe for Fragmentation {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    async fn probe(&self, cx: &Context, redis: &RedisTarget, limits: &Limits) -> Result<ProbeReport> {
        judge(&redis.info(cx).await?.info, limits)
    }
}

fn judge(info: &Info, limits: &Limits) -> Result<ProbeReport> {
    let resident: f64 = info.need("used_memory_rss")?;
    let ratio = Measurement::new("ratio", info.need("mem_fragmentation_ratio")?, Unit::Ratio);
    let size = Measurement::new("resident", resident, Unit::Bytes);
    if resident < FLOOR {
        let summary = format!("{} resident: too little to judge", size.format());
        return Ok(ProbeReport::new(summary).measure(ratio).measure(size));
    }
    let ratio = ratio.judged_by(limits.get("ratio"));
    let summary = format!("{} resident, {} times what its data needs", size.format(), ratio.format());
    let finding = Severity::of(ratio.status()).map(|severity| {
        Finding::new(severity, "redis.memory.fragmented", summary.clone())
            .object("memory")
            .evidence(json!({"resident": resident as u64, "ratio": ratio.value}))
            .remedy(
                Remedy::statement("MEMORY PURGE")
                    .because("Returns free pages at once; harmless, briefly busy."),
            )
    });
    Ok(ProbeReport::new(summary).measure(ratio).measure(size).findings(finding))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{REDIS_7, with};
    use ops_core::Status;

    #[test]
    fn a_small_server_is_not_judged() {
        for (resident, ratio, status) in [
            ("6762496", "7.72", Status::Ok),
            ("300000000", "1.49", Status::Ok),
            ("300000000", "1.50", Status::Warning),
        ] {
            let reply = with(&with(REDIS_7, "used_memory_rss", resident), "mem_fragmentation_ratio", ratio);
            let report = judge(&Info::parse(&reply), &Limits::defaults(&SPEC)).unwrap();
            assert_eq!(report.status(), status, "{resident} {ratio}");
        }
    }
}
