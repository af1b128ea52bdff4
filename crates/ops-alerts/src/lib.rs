//! Alerts for ops: who is told what, and what is remembered about it.
//!
//! Whatever tells somebody is a [`Notifier`](ops_core::Notifier), the trait of `ops-core`. The first one is
//! [`FileNotifier`]. Rules, alert states, the outbox and incidents come with their own modules.

pub mod notifiers;

pub use notifiers::file::FileNotifier;
