//! Host and HTTP health probes for ops.
