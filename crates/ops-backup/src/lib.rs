//! Backup for ops: where backups are kept, what is kept there, and the proof that it comes back.
//!
//! Everything that is kept is named bytes in a [`BackupStore`](ops_core::BackupStore), the trait of `ops-core`. The
//! first store is [`LocalStore`], a directory. The repository on top of it (chunks, packs, snapshots), its sources,
//! restores and drills come with their own modules.
//!
//! This crate needs no database connection: `ops-wal`, which Postgres calls once a segment, builds on it and starts
//! quickly. What does need one stays behind a feature.

pub mod stores;

pub use stores::local::LocalStore;
