//! One notifier a file. A new one implements [`Notifier`](ops_core::Notifier) and passes
//! `ops_core::testing::notifier`.

pub mod file;
