//! `ops check`.

use std::process::ExitCode;
use std::time::Duration;

use ops_core::{Context, Error, ErrorKind, HealthReport, ProbeSetOptions, Secret, exit};
use ops_runbook::config::Config;
use ops_runbook::system::{Selection, System};

use super::{Failure, block_on, config_path, read_config};
use crate::cli::{CheckArgs, Global, Output};
use crate::{output, signals};

/// Exits as monitoring plugins do. A check that could not be made is 3 under `--output nagios`, where 64 and 78
/// would be no status at all.
pub(super) fn run(global: &Global, args: &CheckArgs) -> ExitCode {
    match check(global, args) {
        Ok(report) => match output::print(&output::render(&report, global)) {
            Ok(()) => ExitCode::from(exit::of_status(report.status)),
            Err(error) => {
                output::complain(&error);
                ExitCode::from(exit::UNKNOWN)
            }
        },
        Err(failure) => {
            if global.output == Output::Nagios {
                // Whether or not this can be written, the exit code says the same.
                let _ = output::print("OPS UNKNOWN: the check could not be made, see stderr");
            }
            failure.print();
            ExitCode::from(if global.output == Output::Nagios { exit::UNKNOWN } else { failure.check_code() })
        }
    }
}

impl Failure {
    /// A check that was interrupted is unknown; what is wrong with the command or its configuration keeps its code.
    fn check_code(&self) -> u8 {
        match self {
            Failure::Error(error) if error.kind() == ErrorKind::Cancelled => exit::UNKNOWN,
            _ => self.code(),
        }
    }
}

fn check(global: &Global, args: &CheckArgs) -> Result<HealthReport, Failure> {
    let mut options = ProbeSetOptions::default();
    let urls = urls(global, args);
    let mut config = None;
    let mut system = match &urls {
        (None, None) => {
            let config = config.insert(read_config(global)?);
            options = options
                .with_run_deadline(config.check.timeout)
                .with_probe_deadline(config.check.probe_timeout);
            system_of(config, args)?
        }
        (postgres, redis) => System::of_urls(postgres.as_ref(), redis.as_ref())?,
    };
    if let Some(timeout) = args.timeout {
        // A probe's own deadline comes first, so that a server that does not answer is told from a check that was
        // cut short; but under a second says nothing about a server.
        let probe = (timeout * 9 / 10).max(Duration::from_secs(1)).min(options.probe_deadline);
        options = options.with_run_deadline(timeout).with_probe_deadline(probe);
    }
    let selection = Selection::new(&args.targets, &args.only)?;
    block_on(async {
        let cx = Context::new();
        signals::cancel_on_signal(&cx, "ops: stopping; Ctrl-C again ends at once")
            .map_err(|error| Error::new(ErrorKind::Bug, "listen for signals").because(error.to_string()))?;
        if let Some(config) = &config {
            system.discover(&cx.with_deadline(options.probe_deadline), config).await;
        }
        let report = system.probes(&selection, options)?.run(&cx).await;
        for probe in &report.probes {
            tracing::debug!(of = %probe.target, status = %probe.status, took_ms = probe.took_ms, "{}", probe.probe);
        }
        match cx.is_cancelled() {
            true => Err(Error::new(ErrorKind::Cancelled, "finish the check").because("interrupted").into()),
            false => Ok(report),
        }
    })?
}

/// The URLs to check without a configuration, each typed or else exported. With a configuration at hand and nothing
/// typed there are none: an exported URL must not stand in for a file that was asked for.
fn urls(global: &Global, args: &CheckArgs) -> (Option<Secret>, Option<Secret>) {
    let typed = args.postgres.is_some() || args.redis.is_some();
    if !typed && (global.config.is_some() || config_path(global).exists()) {
        return (None, None);
    }
    let exported = |name| std::env::var(name).ok().filter(|url| !url.is_empty());
    let url = |typed: &Option<String>, name| typed.clone().or_else(|| exported(name)).map(Secret::from);
    (url(&args.postgres, "OPS_POSTGRES_URL"), url(&args.redis, "OPS_REDIS_URL"))
}

fn system_of(config: &Config, args: &CheckArgs) -> Result<System, Failure> {
    let system = System::of_config(config)?;
    if system.is_empty() && args.targets.is_empty() {
        return Err(Error::new(ErrorKind::Configuration, "check")
            .because("the configuration names no target")
            .with_fix("add a [postgres.NAME] or [redis.NAME] section, or run `ops init`")
            .into());
    }
    Ok(system)
}
