//! `ops demo`.

use ops_core::{Context, Error, ErrorKind, HealthReport, ProbeSetOptions, exit};
use ops_runbook::config::Config;
use ops_runbook::demo::{self, Demo, DemoOptions};
use ops_runbook::system::{Selection, System};

use super::{Failure, block_on};
use crate::cli::{DemoArgs, Global, Output};
use crate::surroundings::Real;
use crate::{output, signals};

pub(super) fn run(global: &Global, args: &DemoArgs) -> Result<u8, Failure> {
    if args.list {
        let lines = demo::plants().iter().map(|plant| format!("{:<20} {}\n", plant.name(), plant.story()));
        output::print(&lines.collect::<String>());
        return Ok(0);
    }
    block_on(async {
        let cx = Context::new();
        signals::cancel_on_signal(&cx)
            .map_err(|error| Error::new(ErrorKind::Bug, "listen for signals").because(error.to_string()))?;
        let demo = Demo::start(&cx, &options(args)).await?;
        let toured = tour(&cx, &demo, global.output, args.keep).await;
        let stopped = demo.stop().await;
        let code = toured?;
        stopped?;
        Ok(code)
    })?
}

fn options(args: &DemoArgs) -> DemoOptions {
    let mut options = DemoOptions::default().without(args.without.iter().cloned());
    if let Some(path) = std::env::var_os("PATH") {
        options = options.with_path(path);
    }
    if let Some(bin) = std::env::var_os("OPS_PG_BIN") {
        options = options.with_postgres_bin(bin);
    }
    options
}

/// Checks the demo and shows what was found. The exit code says whether every planted fault was.
async fn tour(cx: &Context, demo: &Demo, format: Output, keep: bool) -> Result<u8, Failure> {
    let config = demo.config();
    let system = System::of_config(&Config::read(&config, "the demo's ops.toml".as_ref(), &Real)?)?;
    let probes = system.probes(&Selection::new(&[], &[])?, ProbeSetOptions::default())?;
    let report = probes.run(cx).await;
    if cx.is_cancelled() {
        return Err(Error::new(ErrorKind::Cancelled, "finish the demo").because("interrupted").into());
    }
    match format {
        Output::Human => output::print(&guide(demo, &output::render(&report, format), &report)),
        _ => output::print(&output::render(&report, format)),
    }
    if keep {
        output::say(&invitation(demo, &config));
        cx.cancelled().await;
    }
    Ok(if demo.missed(&report).is_empty() { 0 } else { exit::of_error(ErrorKind::VerificationFailed) })
}

fn guide(demo: &Demo, rendered: &str, report: &HealthReport) -> String {
    let mut page = format!(
        "PostgreSQL {} and {} run in throwaway directories, and end with this command.\n\nPlanted:\n",
        demo.postgres_version(),
        demo.redis_version()
    );
    for plant in demo.planted() {
        page.push_str(&format!("  {:<20} {}\n", plant.name(), plant.story()));
    }
    page.push_str("\nWhat `ops check` says:\n\n");
    page.push_str(rendered.trim_end());
    page.push_str("\n\n");
    let missed = demo.missed(report);
    let found = demo.planted().len() - missed.len();
    page.push_str(&format!("Found {found} of {} planted faults.\n", demo.planted().len()));
    for plant in missed {
        page.push_str(&format!("Missed: {} ({})\n", plant.name(), plant.finding().0));
    }
    page.push_str(
        "Next: ops explain pg.blocking          why it matters, what was asked, what to do\n\
         \x20     ops demo --keep                  look around in both servers yourself\n\
         \x20     ops check --postgres URL --redis URL    check your own\n",
    );
    page
}

fn invitation(demo: &Demo, config: &str) -> String {
    format!(
        "\nRunning until Ctrl-C:\n  psql '{}'\n  redis-cli -s {}\n\
         In another terminal, save this as ops.toml and run `ops check`:\n\n{config}",
        demo.postgres_url(),
        demo.dirs()[1].join("redis.sock").display()
    )
}
