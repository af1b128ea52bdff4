//! The ops daemon.

fn main() {}
