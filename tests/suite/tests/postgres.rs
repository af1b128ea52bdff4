//! Every PostgreSQL probe on real servers: finds its plant, keeps quiet without it, never says ok unseen.

#[path = "postgres/blocking.rs"]
mod blocking;
#[path = "postgres/conformance.rs"]
mod conformance;
#[path = "postgres/fleet.rs"]
mod fleet;
#[path = "postgres/grants.rs"]
mod grants;
#[path = "postgres/harm.rs"]
mod harm;
#[path = "postgres/isolation.rs"]
mod isolation;
#[path = "postgres/judgement.rs"]
mod judgement;
#[path = "postgres/judgement_activity.rs"]
mod judgement_activity;
#[path = "postgres/judgement_availability.rs"]
mod judgement_availability;
#[path = "postgres/judgement_bloat.rs"]
mod judgement_bloat;
#[path = "postgres/judgement_indexes.rs"]
mod judgement_indexes;
#[path = "postgres/judgement_notify.rs"]
mod judgement_notify;
#[path = "postgres/judgement_objects.rs"]
mod judgement_objects;
#[path = "postgres/judgement_replication.rs"]
mod judgement_replication;
#[path = "postgres/judgement_security.rs"]
mod judgement_security;
#[path = "postgres/judgement_sessions.rs"]
mod judgement_sessions;
#[path = "postgres/judgement_settings.rs"]
mod judgement_settings;
#[path = "postgres/judgement_tables.rs"]
mod judgement_tables;
#[path = "postgres/judgement_wal.rs"]
mod judgement_wal;
#[path = "postgres/metric.rs"]
mod metric;
#[path = "postgres/periods.rs"]
mod periods;
#[path = "postgres/plants.rs"]
mod plants;
#[path = "postgres/pooler.rs"]
mod pooler;
#[path = "postgres/rows/mod.rs"]
mod rows;
#[path = "postgres/state.rs"]
mod state;
