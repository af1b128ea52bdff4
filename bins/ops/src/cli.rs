//! What can be typed.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ops_core::exit;

/// Health, diagnosis and care of PostgreSQL and Redis.
#[derive(Debug, Parser)]
#[command(name = "ops", version, propagate_version = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// The configuration; by default ops.toml in the current directory
    #[arg(long, global = true, value_name = "FILE", env = "OPS_CONFIG", hide_env_values = true)]
    pub(crate) config: Option<PathBuf>,
    /// How results are printed
    #[arg(
        long,
        short,
        global = true,
        value_enum,
        default_value_t,
        env = "OPS_OUTPUT",
        hide_env_values = true
    )]
    pub(crate) output: Output,
    /// Tell more: all findings and evidence in a report, and log lines on stderr; -vv for more of those
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// How log lines are printed
    #[arg(long, global = true, value_name = "FORMAT", value_enum, default_value_t)]
    pub(crate) log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For a person at a terminal
    #[default]
    Human,
    /// For programs: one document that names its schema
    Json,
    /// For tickets
    Markdown,
    /// For Nagios, Icinga and their like: one line with perfdata
    Nagios,
    /// For Prometheus and other scrapers
    Openmetrics,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// One line an event
    #[default]
    Text,
    /// One JSON object a line
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write an ops.toml from what the environment shows
    Init(InitArgs),
    /// Check health: exits 0 when ok, 1 on warning, 2 on critical, 3 on unknown
    Check(CheckArgs),
    /// Say why a probe matters, what it measures, its thresholds, its SQL and its grants
    Explain(ExplainArgs),
    /// Print the rights that let a role see everything that is checked, and no row of a user's
    Grants(GrantsArgs),
    /// Check, show or describe the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Start a throwaway PostgreSQL and Redis with real faults, and show what a check finds
    Demo(DemoArgs),
}

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Where to write it; "-" for stdout
    #[arg(default_value = "ops.toml", value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Replace a file that is there
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Only these targets of the configuration
    #[arg(value_name = "TARGET")]
    pub(crate) targets: Vec<String>,
    /// Only probes whose name matches, such as 'pg.*'; may be given several times
    #[arg(long, value_name = "GLOB")]
    pub(crate) only: Vec<String>,
    /// Check this PostgreSQL, without a configuration. Others on this machine can read a command line: a URL with
    /// a password is better exported as OPS_POSTGRES_URL, which counts where there is no configuration
    #[arg(long, value_name = "URL")]
    pub(crate) postgres: Option<String>,
    /// Check this Redis or Valkey, without a configuration; or export OPS_REDIS_URL
    #[arg(long, value_name = "URL")]
    pub(crate) redis: Option<String>,
    /// What the whole check may take, such as 10s or 500ms; what it cuts short is unknown
    #[arg(long, value_name = "TIME", value_parser = duration, env = "OPS_TIMEOUT", hide_env_values = true)]
    pub(crate) timeout: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// A probe such as pg.blocking, or the code of a finding; all probes when left out
    pub(crate) name: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct GrantsArgs {
    /// Only for these targets of the configuration
    #[arg(value_name = "TARGET", conflicts_with_all = ["postgres", "redis"])]
    pub(crate) targets: Vec<String>,
    /// For a check of this PostgreSQL, without a configuration; or export OPS_POSTGRES_URL
    #[arg(long, value_name = "URL")]
    pub(crate) postgres: Option<String>,
    /// For a check of this Redis or Valkey, without a configuration; or export OPS_REDIS_URL
    #[arg(long, value_name = "URL")]
    pub(crate) redis: Option<String>,
    /// The role to give them to; by default the one that the target's URL names
    #[arg(long, value_name = "NAME")]
    pub(crate) role: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Report every mistake in the configuration, with its line
    Check,
    /// Print the configuration in effect, without secrets, with where each value came from
    Show,
    /// Print the configuration's JSON Schema, for editors
    Schema,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Leave a fault out; may be given several times
    #[arg(long, value_name = "FAULT")]
    pub(crate) without: Vec<String>,
    /// Go on running, and print the URLs, until Ctrl-C
    #[arg(long)]
    pub(crate) keep: bool,
    /// Make the throwaway directories in here instead of in /tmp
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Name the faults, and start nothing
    #[arg(long)]
    pub(crate) list: bool,
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration = ops_runbook::config::parse_duration(text).filter(|duration| !duration.is_zero());
    duration.ok_or_else(|| "expected a duration such as 10s, 500ms or 2min".to_owned())
}

/// Reads the command line. Help and version are printed here; a mistake is usage (64), never clap's own 2, which
/// a monitoring system would read as critical.
pub(crate) fn parse() -> Result<Cli, ExitCode> {
    Cli::try_parse().map_err(|error| {
        // A closed stdout leaves nobody to tell.
        let _ = error.print();
        if error.use_stderr() { ExitCode::from(exit::USAGE) } else { ExitCode::SUCCESS }
    })
}
