//! `ops check`.

use std::process::ExitCode;

use ops_core::{Context, Error, ErrorKind, HealthReport, ProbeSetOptions, exit};
use ops_runbook::config::Config;
use ops_runbook::system::{Selection, System};

use super::{Failure, interruptible, memory, read_config, urls};
use crate::cli::{CheckArgs, Global, Output};
use crate::output;

/// Exits as monitoring plugins do. A check that could not be made is 3 under `--output nagios`, where 64, 78 and 130
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
            ExitCode::from(if global.output == Output::Nagios { exit::UNKNOWN } else { failure.code() })
        }
    }
}

fn check(global: &Global, args: &CheckArgs) -> Result<HealthReport, Failure> {
    let mut options = ProbeSetOptions::default();
    let urls = urls(global, &args.postgres, &args.redis);
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
        options = options.with_run_deadline(timeout);
    }
    let selection = Selection::new(&args.targets, &args.only)?;
    let cx = Context::new();
    interruptible(&cx.clone(), "ops: stopping; Ctrl-C again ends at once", async {
        let (mut cx, mut state) = (cx, None);
        if let Some(config) = &config {
            (cx, state) = memory::recalling(cx, global, config).await;
            let time = options.probe_deadline.min(options.run_deadline);
            system.discover(&cx.with_deadline(time), config, &selection).await;
        }
        let report = system.probes(&selection, options)?.run(&cx).await;
        for probe in &report.probes {
            tracing::debug!(of = %probe.target, status = %probe.status, took_ms = probe.took_ms, "{}", probe.probe);
        }
        match cx.is_cancelled() {
            true => Err(Error::new(ErrorKind::Cancelled, "finish the check").because("interrupted").into()),
            false => {
                if let (Some(state), Some(config)) = (&state, &config) {
                    memory::remember(&cx, state, config, &report).await;
                }
                Ok(report)
            }
        }
    })
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
