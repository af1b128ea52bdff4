//! The operator's command line: health, diagnosis and care of PostgreSQL and Redis.

mod cli;
mod commands;
mod output;
mod signals;
mod surroundings;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::parse() {
        Ok(cli) => commands::run(cli),
        Err(code) => code,
    }
}
