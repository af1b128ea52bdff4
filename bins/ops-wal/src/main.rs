//! archive_command and restore_command for PostgreSQL.

fn main() {}
