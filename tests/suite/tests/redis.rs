//! Every Redis probe on real servers: finds its plant, keeps quiet without it, never says ok unseen.

#[path = "redis/cluster.rs"]
mod cluster;
#[path = "redis/conformance.rs"]
mod conformance;
#[path = "redis/explains.rs"]
mod explains;
#[path = "redis/full.rs"]
mod full;
#[path = "redis/grants.rs"]
mod grants;
#[path = "redis/plants.rs"]
mod plants;
#[path = "redis/probes.rs"]
mod probes;
#[path = "redis/replica.rs"]
mod replica;
#[path = "redis/roles.rs"]
mod roles;
#[path = "redis/rows.rs"]
mod rows;
#[path = "redis/sentinel.rs"]
mod sentinel;
#[path = "redis/silent.rs"]
mod silent;
#[path = "redis/unseen.rs"]
mod unseen;
