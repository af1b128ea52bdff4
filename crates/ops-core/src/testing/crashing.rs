//! A state whose client ends in the middle of a run.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio::sync::Notify;

use crate::context::{Context, RunId};
use crate::error::Result;
use crate::state::{
    Baselines, Bucket, Entry, Heartbeat, Heartbeats, History, Journal, Lease, Leases, Point, Resolution,
    Retention, RunFilter, RunSummary, Sample, Series, State, WindowKey,
};

/// Never returns from the journal's record number `at`, written or not, and says so: whoever waits drops the run, as
/// the end of its process would.
#[derive(Debug)]
pub(super) struct Crashing {
    state: Arc<dyn State>,
    at: usize,
    written: bool,
    seen: AtomicUsize,
    crash: Arc<Notify>,
}

impl Crashing {
    pub(super) fn new(state: Arc<dyn State>, at: usize, written: bool, crash: Arc<Notify>) -> Self {
        Self { state, at, written, seen: AtomicUsize::new(0), crash }
    }
}

#[async_trait]
impl Journal for Crashing {
    async fn append(&self, run: RunId, entry: &Entry) -> Result<()> {
        if self.seen.fetch_add(1, Ordering::Relaxed) != self.at {
            return self.state.append(run, entry).await;
        }
        if self.written {
            self.state.append(run, entry).await?;
        }
        self.crash.notify_one();
        std::future::pending().await
    }
    async fn entries(&self, run: RunId) -> Result<Vec<Entry>> {
        self.state.entries(run).await
    }
    async fn runs(&self, filter: &RunFilter) -> Result<Vec<RunSummary>> {
        self.state.runs(filter).await
    }
}

#[async_trait]
impl Leases for Crashing {
    async fn acquire(&self, cx: &Context, name: &str, holder: &str, ttl: Duration) -> Result<Lease> {
        self.state.acquire(cx, name, holder, ttl).await
    }
    async fn renew(&self, cx: &Context, lease: &Lease, ttl: Duration) -> Result<Lease> {
        self.state.renew(cx, lease, ttl).await
    }
    async fn release(&self, lease: &Lease) -> Result<()> {
        self.state.release(lease).await
    }
}

#[async_trait]
impl Baselines for Crashing {
    async fn latest(&self, key: &WindowKey) -> Result<Option<Sample>> {
        self.state.latest(key).await
    }
    async fn store(&self, key: &WindowKey, sample: &Sample) -> Result<()> {
        self.state.store(key, sample).await
    }
}

#[async_trait]
impl Heartbeats for Crashing {
    async fn beat(&self, job: &str, at: DateTime<Utc>, succeeded: bool) -> Result<()> {
        self.state.beat(job, at, succeeded).await
    }
    async fn heartbeat(&self, job: &str) -> Result<Option<Heartbeat>> {
        self.state.heartbeat(job).await
    }
}

#[async_trait]
impl History for Crashing {
    async fn record(&self, points: &[Point]) -> Result<()> {
        self.state.record(points).await
    }
    async fn buckets(
        &self,
        series: &Series,
        resolution: Resolution,
        since: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Result<Vec<Bucket>> {
        self.state.buckets(series, resolution, since, until).await
    }
    async fn series(&self) -> Result<Vec<Series>> {
        self.state.series().await
    }
    async fn prune(&self, retention: &Retention, now: DateTime<Utc>) -> Result<()> {
        self.state.prune(retention, now).await
    }
}
