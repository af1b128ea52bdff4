//! Backup stores and repositories for ops.
