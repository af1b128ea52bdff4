//! Alert rules, incidents and notifiers for ops.
