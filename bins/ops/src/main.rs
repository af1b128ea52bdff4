//! The operator's command line: health, diagnosis and care of PostgreSQL and Redis.

fn main() {}
