//! Every PostgreSQL probe on real servers: finds its plant, keeps quiet without it, never says ok unseen.

#[path = "postgres/blocking.rs"]
mod blocking;
#[path = "postgres/conformance.rs"]
mod conformance;
#[path = "postgres/harm.rs"]
mod harm;
#[path = "postgres/judgement.rs"]
mod judgement;
#[path = "postgres/judgement_bloat.rs"]
mod judgement_bloat;
#[path = "postgres/judgement_indexes.rs"]
mod judgement_indexes;
#[path = "postgres/judgement_objects.rs"]
mod judgement_objects;
#[path = "postgres/judgement_security.rs"]
mod judgement_security;
#[path = "postgres/judgement_tables.rs"]
mod judgement_tables;
#[path = "postgres/metric.rs"]
mod metric;
#[path = "postgres/plants.rs"]
mod plants;
#[path = "postgres/rows/mod.rs"]
mod rows;
