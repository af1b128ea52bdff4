//! Files of a real machine: two virtual processors, one disk, Linux 6.18.

use std::time::Duration;

use chrono::{DateTime, Utc};
use ops_core::window::{Sample, SampleOutcome, Window};

pub(crate) const STAT: &str = include_str!("fixtures/stat.txt");
pub(crate) const MEMINFO: &str = include_str!("fixtures/meminfo.txt");
pub(crate) const VMSTAT: &str = include_str!("fixtures/vmstat.txt");
pub(crate) const DISKSTATS: &str = include_str!("fixtures/diskstats.txt");
pub(crate) const NET_DEV: &str = include_str!("fixtures/net-dev.txt");

/// A window in which these counters rose so much.
pub(crate) fn window(seconds: u64, rise: &[(&str, f64)]) -> Window {
    let start: DateTime<Utc> = DateTime::from_timestamp(1_790_000_000, 0).expect("a time");
    let sample = |at, factor: f64| Sample {
        at,
        epoch: "boot".into(),
        counters: rise.iter().map(|(name, by)| ((*name).to_owned(), 1e6 + by * factor)).collect(),
    };
    let end = start + Duration::from_secs(seconds);
    match Window::between(&sample(start, 0.0), &sample(end, 1.0)) {
        SampleOutcome::Window(window) => window,
        SampleOutcome::NewBaseline { reason } => panic!("{reason}"),
    }
}
