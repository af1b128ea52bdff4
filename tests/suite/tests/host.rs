//! Every probe of the machine and of HTTP endpoints, on a real file system and a real server.

#[path = "host/disk.rs"]
mod disk;
#[path = "host/endpoint.rs"]
mod endpoint;
#[path = "redis/explains.rs"]
mod explains;
#[path = "host/machine.rs"]
mod machine;
#[path = "host/rows.rs"]
mod rows;
#[path = "host/service.rs"]
mod service;
