//! ops.toml wired into a system: targets, probes, thresholds, metrics and the demo.
