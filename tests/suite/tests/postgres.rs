//! Every PostgreSQL probe on real servers: finds its plant, keeps quiet without it, never says ok unseen.

#[path = "postgres/blocking.rs"]
mod blocking;
#[path = "postgres/conformance.rs"]
mod conformance;
#[path = "postgres/harm.rs"]
mod harm;
#[path = "postgres/judgement.rs"]
mod judgement;
#[path = "postgres/judgement_availability.rs"]
mod judgement_availability;
#[path = "postgres/judgement_replication.rs"]
mod judgement_replication;
#[path = "postgres/judgement_wal.rs"]
mod judgement_wal;
#[path = "postgres/metric.rs"]
mod metric;
#[path = "postgres/plants.rs"]
mod plants;
#[path = "postgres/rows/mod.rs"]
mod rows;
