//! Whole files in, a configuration or every mistake out.

mod init;
mod mistakes;
mod reading;
mod schema;
mod secrets;
mod show;

use std::path::Path;

use super::{Config, ConfigErrors, GivenSurroundings};

/// The file of the README.
const EXAMPLE: &str = include_str!("example.toml");

fn surroundings() -> GivenSurroundings {
    GivenSurroundings::default()
        .with_env("DATABASE_URL", "postgres://ops:hunter2@db/shop")
        .with_env("PGPASSWORD", "hunter2")
        .with_env("HOME", "/home/ops")
        .with_file("/run/secrets/token", "Bearer hunter2\n")
}

fn read(text: &str) -> Result<Config, ConfigErrors> {
    Config::read(text, Path::new("ops.toml"), &surroundings())
}

fn mistakes(text: &str) -> String {
    match read(text) {
        Ok(_) => "no mistake".to_owned(),
        Err(errors) => errors.to_string(),
    }
}
