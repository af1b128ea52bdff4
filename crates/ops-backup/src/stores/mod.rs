//! One store a file. A new one implements [`BackupStore`](ops_core::BackupStore) and passes
//! `ops_core::testing::backup_store`.

pub mod local;
