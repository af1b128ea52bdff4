//! What an operation *is*: the five traits of ops, the words they speak, and the one report they fill.
//!
//! This crate knows no driver. PostgreSQL lives in `ops-pg`, Redis in `ops-cache`, the host and HTTP in
//! `ops-host`; `ops-runbook` wires them from one `ops.toml`.
//!
//! | trait | what it is for |
//! |---|---|
//! | [`HealthProbe`] | looks at one thing and reports; unhealthy is data, `Err` means "could not tell" |
//! | [`MaintenanceTask`] | plans a change, then executes exactly that plan |
//! | [`BackupStore`] | keeps named bytes with atomic visibility |
//! | [`Notifier`] | makes one attempt to tell somebody |
//! | [`Step`] | one journalled step of a procedure, with verification and undo |
//!
//! # A health report in a few lines
//!
//! ```
//! use ops_core::{Context, HealthProbe, ProbeReport, ProbeSet, Result, Status};
//!
//! #[derive(Debug)]
//! struct Queue;
//!
//! #[async_trait::async_trait]
//! impl HealthProbe for Queue {
//!     fn name(&self) -> &str {
//!         "app.queue"
//!     }
//!     async fn probe(&self, _cx: &Context) -> Result<ProbeReport> {
//!         Ok(ProbeReport::new("3 jobs wait"))
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let mut probes = ProbeSet::new("shop");
//! probes.add("worker", Queue);
//! let report = probes.run(&Context::new()).await;
//! assert_eq!(report.status, Status::Ok);
//! # });
//! ```

mod baseline;
pub mod context;
pub mod endpoint;
pub mod error;
pub mod exit;
pub mod finding;
mod gone;
pub mod health;
pub mod limits;
pub mod measurement;
mod millis;
pub mod notifier;
pub mod permit;
pub mod plan;
pub mod probe;
pub mod probe_set;
pub mod procedure;
pub mod quantity;
pub mod redact;
pub mod remedy;
pub mod render;
pub mod report;
pub mod result;
pub mod score;
mod shared_run;
pub mod state;
pub mod status;
pub mod step;
pub mod store;
pub mod task;
#[cfg(feature = "telemetry")]
pub mod telemetry;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod threshold;
#[cfg(feature = "throwaway")]
pub mod throwaway;
pub mod trend;
pub mod unit;
pub mod window;
pub mod words;

pub use context::{Clock, Context, Progress, RunId, SystemClock};
pub use error::{Error, ErrorKind, Result, Retry};
pub use finding::{Finding, Severity};
pub use health::HealthReport;
pub use limits::Limits;
pub use measurement::Measurement;
pub use notifier::{Delivery, IdempotencyKey, NoticeKind, Notification, Notifier};
pub use permit::{Confirmation, WritePermit};
pub use plan::{Action, Check, CheckOutcome, Draft, Estimate, Plan, PlanHash};
pub use probe::{Explanation, HealthProbe, ProbeSpec, Requirement};
pub use probe_set::{ProbeSet, ProbeSetOptions};
pub use redact::Secret;
pub use remedy::Remedy;
pub use report::{ProbeReport, Unseen};
pub use result::ProbeResult;
pub use state::{MemoryState, State};
pub use status::Status;
pub use step::{Effect, Step, Verification};
pub use store::{
    BackupStore, BackupStoreExt, ByteRange, ByteStream, Capabilities, Capability, Object, ObjectKey,
    ObjectMeta, PutMode,
};
pub use task::{MaintenanceTask, TaskReport, TypedTask, Verdict};
pub use threshold::{Bounds, Direction, Threshold, ThresholdSpec};
pub use unit::Unit;
