//! The subcommands, one file each.

mod check;
mod config;
mod demo;
mod explain;
mod grants;
mod init;
mod memory;

use std::future::Future;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::ExitCode;

use ops_core::{Context, Error, Secret, exit};
use ops_runbook::config::{Config, ConfigErrors};

use crate::cli::{Cli, Command, Global};
use crate::surroundings::{self, Real};
use crate::{output, signals};

/// Why a command ends without a result.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The configuration has mistakes.
    Config(Box<ConfigErrors>),
    /// A signal came; it has this exit code.
    Interrupted(Error, u8),
    /// Anything else.
    Error(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Error(error)
    }
}

impl From<ConfigErrors> for Failure {
    fn from(errors: ConfigErrors) -> Self {
        Failure::Config(Box::new(errors))
    }
}

impl Failure {
    fn print(&self) {
        match self {
            Failure::Config(errors) => output::say(&errors.to_string()),
            Failure::Interrupted(error, _) | Failure::Error(error) => output::complain(error),
        }
    }

    fn code(&self) -> u8 {
        match self {
            Failure::Config(_) => exit::CONFIG,
            Failure::Interrupted(_, code) => *code,
            Failure::Error(error) => exit::of_error(error.kind()),
        }
    }
}

/// Runs the command, and makes its outcome an exit code.
pub(crate) fn run(cli: Cli) -> ExitCode {
    output::start_logging(&cli.global);
    let outcome = match &cli.command {
        Command::Init(args) => init::run(args),
        Command::Check(args) => return check::run(&cli.global, args),
        Command::Explain(args) => explain::run(&cli.global, args),
        Command::Grants(args) => grants::run(&cli.global, args),
        Command::Config(command) => config::run(&cli.global, command),
        Command::Demo(args) => demo::run(&cli.global, args),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            failure.print();
            ExitCode::from(failure.code())
        }
    }
}

/// Bytes of a configuration: more than anybody writes.
const LARGEST: u64 = 16 << 20;

/// The file that `--config` names, else ops.toml here.
fn config_path(global: &Global) -> PathBuf {
    global.config.clone().unwrap_or_else(|| PathBuf::from("ops.toml"))
}

/// Reads the configuration, or says how to get one.
fn read_config(global: &Global) -> Result<Config, Failure> {
    let path = config_path(global);
    let text = surroundings::read(&path, LARGEST).map_err(|error| match error.kind() {
        ErrorKind::NotFound if global.config.is_none() => {
            Error::new(ops_core::ErrorKind::Configuration, "find a configuration")
                .because("there is no ops.toml in this directory")
                .with_fix("`ops init` writes one; `ops check --postgres URL --redis URL` needs none")
        }
        _ => Error::new(ops_core::ErrorKind::Configuration, "read the configuration")
            .on(path.display().to_string())
            .because(error.to_string()),
    })?;
    let config = Config::read(&text, &path, &Real)?;
    for remark in &config.remarks {
        output::say(&format!("{}:{remark}", path.display()));
    }
    Ok(config)
}

/// The URLs to use without a configuration, each typed or else exported. With a configuration at hand and nothing
/// typed there are none: an exported URL must not stand in for a file that was asked for.
fn urls(
    global: &Global,
    postgres: &Option<String>,
    redis: &Option<String>,
) -> (Option<Secret>, Option<Secret>) {
    let typed = postgres.is_some() || redis.is_some();
    if !typed && (global.config.is_some() || config_path(global).exists()) {
        return (None, None);
    }
    let exported = |name| std::env::var(name).ok().filter(|url| !url.is_empty());
    let url = |typed: &Option<String>, name| typed.clone().or_else(|| exported(name)).map(Secret::from);
    (url(postgres, "OPS_POSTGRES_URL"), url(redis, "OPS_REDIS_URL"))
}

/// Runs work that Ctrl-C and SIGTERM cancel, saying `farewell`. What they ended is told from what failed.
fn interruptible<T>(
    cx: &Context,
    farewell: &'static str,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let interruption = signals::cancel_on_signal(cx, farewell).map_err(|error| {
        Error::new(ops_core::ErrorKind::Bug, "listen for signals").because(error.to_string())
    })?;
    block_on(work)?.map_err(|failure| match (failure, interruption.code()) {
        (Failure::Error(error), Some(code)) if error.kind() == ops_core::ErrorKind::Cancelled => {
            Failure::Interrupted(error, code)
        }
        (failure, _) => failure,
    })
}

/// Runs a future on a runtime of its own. One thread suffices: a check waits, it does not compute.
fn block_on<T>(future: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        Error::new(ops_core::ErrorKind::Bug, "start the runtime").because(error.to_string())
    })?;
    let result = runtime.block_on(future);
    // A probe that was abandoned on a blocking thread (a dead NFS mount) must not keep the process.
    runtime.shutdown_background();
    Ok(result)
}
