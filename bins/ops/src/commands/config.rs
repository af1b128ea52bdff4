//! `ops config check|show|schema`.

use ops_core::words::count;
use ops_runbook::config::{self, Config, Override};

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
                "{}: {}, {}, no mistakes",
                path.display(),
                count(targets as f64, "target", "targets"),
                count(config.metrics.len() as f64, "metric", "metrics")
            ))?;
        }
        ConfigCommand::Show => output::print(&effective(read_config(global)?))?,
        ConfigCommand::Schema => output::print(&format!("{:#}", config::schema()))?,
    }
    Ok(0)
}

/// The file's values, but for what the environment sets over them.
fn effective(mut config: Config) -> String {
    let timeout = std::env::var("OPS_TIMEOUT").ok().and_then(|text| config::parse_duration(&text));
    let Some(timeout) = timeout else { return config.show(&[]) };
    config.check.timeout = timeout;
    config.show(&[Override::new("check.timeout", "OPS_TIMEOUT")])
}
