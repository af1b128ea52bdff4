//! A state for as long as the process lives.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::{
    Baselines, Bucket, Entry, Event, Heartbeat, Heartbeats, History, Journal, Lease, Leases, Point,
    Resolution, Retention, RunFilter, RunOutcome, RunSummary, Sample, Series, WindowKey,
};
use crate::context::{Context, RunId};
use crate::error::Result;

/// Everything that ops remembers, in memory: for tests, and for services that embed one procedure.
///
/// ```
/// use ops_core::state::{Heartbeats, MemoryState};
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let state = MemoryState::default();
/// state.beat("nightly", chrono::Utc::now(), true).await?;
/// assert!(state.heartbeat("nightly").await?.unwrap().succeeded.is_some());
/// # Ok::<(), ops_core::Error>(()) }).unwrap();
/// ```
#[derive(Debug, Default)]
pub struct MemoryState(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    baselines: HashMap<WindowKey, Sample>,
    raw: BTreeMap<Series, BTreeMap<DateTime<Utc>, f64>>,
    hourly: BTreeMap<Series, BTreeMap<DateTime<Utc>, Bucket>>,
    heartbeats: BTreeMap<String, Heartbeat>,
    runs: BTreeMap<RunId, Vec<Entry>>,
    leases: HashMap<String, Held>,
}

/// A name's last lease; without a holder, the memory of its token.
#[derive(Debug)]
struct Held {
    lease: Lease,
    released: bool,
}

impl MemoryState {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Baselines for MemoryState {
    async fn latest(&self, key: &WindowKey) -> Result<Option<Sample>> {
        Ok(self.kept().baselines.get(key).cloned())
    }

    async fn store(&self, key: &WindowKey, sample: &Sample) -> Result<()> {
        self.kept().baselines.insert(key.clone(), sample.clone());
        Ok(())
    }
}

#[async_trait]
impl History for MemoryState {
    async fn record(&self, points: &[Point]) -> Result<()> {
        let mut kept = self.kept();
        for point in points {
            let raw = kept.raw.entry(point.series.clone()).or_default();
            if raw.contains_key(&point.at) {
                continue;
            }
            raw.insert(point.at, point.value);
            let hour = Bucket::hour_of(point.at);
            kept.hourly
                .entry(point.series.clone())
                .or_default()
                .entry(hour)
                .and_modify(|bucket| *bucket = bucket.and(point.value))
                .or_insert_with(|| Bucket::of_point(hour, point.value));
        }
        Ok(())
    }

    async fn buckets(
        &self,
        series: &Series,
        resolution: Resolution,
        since: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Result<Vec<Bucket>> {
        let kept = self.kept();
        let within = since..until.max(since);
        Ok(match resolution {
            Resolution::Raw => kept.raw.get(series).map_or_else(Vec::new, |points| {
                points.range(within).map(|(at, value)| Bucket::of_point(*at, *value)).collect()
            }),
            Resolution::Hourly => kept
                .hourly
                .get(series)
                .map_or_else(Vec::new, |hours| hours.range(within).map(|(_, bucket)| *bucket).collect()),
        })
    }

    async fn series(&self) -> Result<Vec<Series>> {
        Ok(self.kept().hourly.keys().cloned().collect())
    }

    async fn prune(&self, retention: &Retention, now: DateTime<Utc>) -> Result<()> {
        let mut kept = self.kept();
        let (raw, hourly, runs) = (now - retention.raw, now - retention.hourly, now - retention.runs);
        kept.baselines.retain(|_, sample| sample.at >= raw);
        for points in kept.raw.values_mut() {
            points.retain(|at, _| *at >= raw);
        }
        for hours in kept.hourly.values_mut() {
            hours.retain(|at, _| *at >= hourly);
        }
        kept.raw.retain(|_, points| !points.is_empty());
        kept.hourly.retain(|_, hours| !hours.is_empty());
        kept.runs.retain(|_, entries| {
            entries.last().is_none_or(|last| last.at >= runs || !matches!(last.event, Event::Ended { .. }))
        });
        Ok(())
    }
}

#[async_trait]
impl Heartbeats for MemoryState {
    async fn beat(&self, job: &str, at: DateTime<Utc>, succeeded: bool) -> Result<()> {
        let mut kept = self.kept();
        let beat = kept.heartbeats.entry(job.to_owned()).or_insert_with(|| Heartbeat {
            job: job.to_owned(),
            succeeded: None,
            failed: None,
        });
        let known = if succeeded { &mut beat.succeeded } else { &mut beat.failed };
        *known = (*known).max(Some(at));
        Ok(())
    }

    async fn heartbeat(&self, job: &str) -> Result<Option<Heartbeat>> {
        Ok(self.kept().heartbeats.get(job).cloned())
    }
}

#[async_trait]
impl Journal for MemoryState {
    async fn append(&self, run: RunId, entry: &Entry) -> Result<()> {
        let mut kept = self.kept();
        let next = kept.runs.get(&run).map_or(0, Vec::len) as u64;
        entry.follows(run, next)?;
        kept.runs.entry(run).or_default().push(entry.clone());
        Ok(())
    }

    async fn entries(&self, run: RunId) -> Result<Vec<Entry>> {
        self.kept().runs.get(&run).cloned().ok_or_else(|| super::journal::no_such_run(run))
    }

    async fn runs(&self, filter: &RunFilter) -> Result<Vec<RunSummary>> {
        let kept = self.kept();
        let summaries = kept.runs.values().rev().filter_map(|entries| summary(entries));
        Ok(summaries.filter(|run| filter.takes(run)).take(filter.limit.unwrap_or(usize::MAX)).collect())
    }
}

fn summary(entries: &[Entry]) -> Option<RunSummary> {
    let (first, last) = (entries.first()?, entries.last()?);
    let Event::Started { head, .. } = &first.event else { return None };
    let outcome: Option<RunOutcome> = match &last.event {
        Event::Ended { outcome } => Some(*outcome),
        _ => None,
    };
    Some(RunSummary {
        run: head.run,
        procedure: head.procedure.clone(),
        target: head.target.clone(),
        started: first.at,
        latest: last.at,
        outcome,
    })
}

#[async_trait]
impl Leases for MemoryState {
    async fn acquire(&self, cx: &Context, name: &str, holder: &str, ttl: Duration) -> Result<Lease> {
        let mut kept = self.kept();
        let now = cx.now();
        let last = kept.leases.get(name);
        if let Some(held) = last.filter(|held| !held.released && held.lease.expires > now) {
            return Err(held.lease.is_held());
        }
        let lease = Lease {
            name: name.to_owned(),
            holder: holder.to_owned(),
            token: last.map_or(0, |held| held.lease.token) + 1,
            expires: now + ttl,
        };
        kept.leases.insert(name.to_owned(), Held { lease: lease.clone(), released: false });
        Ok(lease)
    }

    async fn renew(&self, cx: &Context, lease: &Lease, ttl: Duration) -> Result<Lease> {
        let mut kept = self.kept();
        match kept.leases.get_mut(&lease.name) {
            Some(held) if held.lease.token == lease.token && !held.released => {
                held.lease.expires = cx.now() + ttl;
                Ok(held.lease.clone())
            }
            _ => Err(lease.is_lost()),
        }
    }

    async fn release(&self, lease: &Lease) -> Result<()> {
        if let Some(held) = self.kept().leases.get_mut(&lease.name)
            && held.lease.token == lease.token
        {
            held.released = true;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn memory_keeps_the_rules_of_a_state() {
        crate::testing::state(&MemoryState::default()).await;
    }
}
