//! What ops remembers between runs.
//!
//! | trait | what it keeps |
//! |---|---|
//! | [`Baselines`] | the last sample of each probe's counters, so that a rate needs no second sample |
//! | [`History`] | what was measured when, for trends and attainment |
//! | [`Heartbeats`] | when a named job last succeeded |
//! | [`Journal`] | what a procedure was about to do, and how it went |
//! | [`Leases`] | who may run something now |
//!
//! [`MemoryState`] keeps them as long as the process lives. What is lost with a state is history only: nothing that
//! a restore needs lives here alone.
//!
//! All implementations hold to one suite, `ops_core::testing::state`.

mod heartbeat;
mod history;
mod journal;
mod lease;
mod memory;

pub use crate::baseline::{Baselines, Sample, WindowKey};
pub use heartbeat::{Heartbeat, Heartbeats};
pub use history::{Bucket, History, Point, Resolution, Retention, Series};
pub use journal::{Act, Entry, Event, Journal, RunFilter, RunHead, RunOutcome, RunSummary};
pub use lease::{Lease, Leases};
pub use memory::MemoryState;

/// All that ops remembers, in one place.
pub trait State: Baselines + History + Heartbeats + Journal + Leases {}

impl<S: Baselines + History + Heartbeats + Journal + Leases> State for S {}
