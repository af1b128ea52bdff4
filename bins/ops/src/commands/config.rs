//! `ops config check|show|schema`.

use ops_runbook::config;

use super::{Failure, config_path, read_config};
use crate::cli::{ConfigCommand, Global};
use crate::output;

pub(super) fn run(global: &Global, command: &ConfigCommand) -> Result<u8, Failure> {
    match command {
        ConfigCommand::Check => {
            let config = read_config(global)?;
            let targets = config.postgres.len() + config.redis.len() + config.http.len() + config.host.len();
            let path = config_path(global);
            output::print(&format!(
                "{}: {targets} targets, {} metrics, no mistakes",
                path.display(),
                config.metrics.len()
            ));
        }
        ConfigCommand::Show => output::print(&read_config(global)?.show(&[])),
        ConfigCommand::Schema => output::print(&format!("{:#}", config::schema())),
    }
    Ok(0)
}
