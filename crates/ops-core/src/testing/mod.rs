//! One conformance suite for each of the five traits, and in-memory stand-ins (feature `testing`).
//!
//! Each suite takes any implementation, also a wrapper, and panics with a message that names the broken rule. It
//! runs inside a Tokio runtime, in real or paused time.
//!
//! | suite | for |
//! |---|---|
//! | [`health_probe`] | [`HealthProbe`](crate::HealthProbe) |
//! | [`maintenance_task`] | [`MaintenanceTask`](crate::MaintenanceTask), [`TypedTask`](crate::TypedTask) |
//! | [`backup_store`] | [`BackupStore`](crate::BackupStore) |
//! | [`notifier`], [`failing_notifier`] | [`Notifier`](crate::Notifier) |
//! | [`step`] | [`Step`](crate::Step) |
//! | [`procedure`] | a [`Procedure`](crate::procedure::Procedure), with a [`Trial`] of yours |
//! | [`state`] | [`State`](crate::State): what ops remembers |
//!
//! ```
//! # #[cfg(feature = "testing")] {
//! # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(async {
//! use ops_core::testing::{self, MemoryStore};
//!
//! testing::backup_store(&MemoryStore::new()).await;
//! # }); }
//! ```

mod backup_store;
mod crashing;
mod fail_nth;
mod health_probe;
mod maintenance_task;
mod manual_clock;
mod memory_store;
mod notifier;
mod procedure;
mod rule;
mod state;
mod step;

pub use backup_store::backup_store;
pub use fail_nth::FailNth;
pub use health_probe::health_probe;
pub use maintenance_task::maintenance_task;
pub use manual_clock::ManualClock;
pub use memory_store::MemoryStore;
pub use notifier::{failing_notifier, notifier};
pub use procedure::{Trial, procedure};
pub use state::state;
pub use step::step;
