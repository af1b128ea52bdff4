//! `ops demo`.

use ops_core::words::count;
use ops_core::{Context, Error, ErrorKind, HealthReport, ProbeSetOptions};
use ops_runbook::config::Config;
use ops_runbook::demo::{self, Demo, DemoOptions, Plant};
use ops_runbook::system::{Selection, System};

use super::{Failure, interruptible};
use crate::cli::{DemoArgs, Global, Output};
use crate::output;
use crate::surroundings::Real;

pub(super) fn run(global: &Global, args: &DemoArgs) -> Result<u8, Failure> {
    if args.list {
        output::print(&stories(demo::plants()))?;
        return Ok(0);
    }
    let cx = Context::new().with_progress(output::Watched);
    interruptible(&cx, "ops: stopping both servers; Ctrl-C again does not wait for them", async {
        let demo = Demo::start(&cx, &options(args)).await?;
        let toured = tour(&cx, &demo, global, args.keep).await;
        let stopped = demo.stop().await;
        let code = toured?;
        stopped?;
        Ok(code)
    })
}

fn options(args: &DemoArgs) -> DemoOptions {
    let env = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let mut options = DemoOptions::default().without(args.without.iter().cloned());
    if let Some(path) = env("PATH") {
        options = options.with_path(path);
    }
    if let Some(bin) = env("OPS_PG_BIN") {
        options = options.with_postgres_bin(bin);
    }
    if let Some(program) = env("OPS_REDIS_SERVER") {
        options = options.with_redis_program(program);
    }
    match &args.dir {
        Some(dir) => options.with_parent(dir),
        None => options,
    }
}

/// Checks the demo and shows what was found. The exit code says whether every planted fault was.
async fn tour(cx: &Context, demo: &Demo, global: &Global, keep: bool) -> Result<u8, Failure> {
    let config = demo.config();
    let system = System::of_config(&Config::read(&config, "the demo's ops.toml".as_ref(), &Real)?)?;
    let probes = system.probes(&Selection::new(&[], &[])?, ProbeSetOptions::default())?;
    let report = probes.run(cx).await;
    if cx.is_cancelled() {
        return Err(Error::new(ErrorKind::Cancelled, "finish the demo").because("interrupted").into());
    }
    let rendered = output::render(&report, global);
    output::print(&if global.output == Output::Human { guide(demo, &rendered, &report) } else { rendered })?;
    if keep {
        output::say(&invitation(demo, &config)?);
        cx.cancelled().await;
    }
    let missed = demo.missed(&report);
    if missed.is_empty() {
        return Ok(0);
    }
    let missed: Vec<_> = missed.iter().map(|plant| plant.name()).collect();
    let failed = Error::new(ErrorKind::VerificationFailed, "find every planted fault");
    Err(failed.because(format!("missed {}", missed.join(", "))).into())
}

fn guide(demo: &Demo, rendered: &str, report: &HealthReport) -> String {
    let (planted, missed) = (demo.planted(), demo.missed(report).len());
    let servers = format!(
        "PostgreSQL {} and {} run in throwaway directories, and end with this command.",
        demo.postgres_version(),
        demo.redis_version()
    );
    let found = match planted.len() {
        0 => "Nothing was planted.".to_owned(),
        all => format!("Found {} of {}.", all - missed, count(all as f64, "planted fault", "planted faults")),
    };
    let mut page = output::beside("", 0, &servers);
    if !planted.is_empty() {
        page.push_str(&format!("\nPlanted:\n{}", stories(planted)));
    }
    page.push_str(&format!("\nWhat `ops check` says:\n\n{}\n\n{found}\nNext:\n", rendered.trim_end()));
    for (command, why) in NEXT {
        page.push_str(&output::beside(&format!("  {command}"), 41, why));
    }
    page
}

const NEXT: [(&str, &str); 3] = [
    ("ops explain pg.blocking", "why it matters, what was asked, what to do"),
    ("ops demo --keep", "leaves both servers running, to look around in"),
    ("ops check --postgres URL --redis URL", "checks your own"),
];

fn stories(plants: &[&dyn Plant]) -> String {
    plants.iter().map(|plant| output::beside(&format!("  {}", plant.name()), 22, plant.story())).collect()
}

/// How to get in. The configuration goes with the directory that it is in.
fn invitation(demo: &Demo, config: &str) -> Result<String, Failure> {
    let [postgres, redis] = demo.dirs();
    let path = postgres.join("ops.toml");
    std::fs::write(&path, config).map_err(|error| {
        let failed = Error::new(ErrorKind::Failed, "write the demo's configuration");
        failed.on(path.display().to_string()).because(error.to_string())
    })?;
    Ok(format!(
        "\nRunning until Ctrl-C. In another terminal:\n  ops check --config {}\n  psql '{}'\n  redis-cli -s {}",
        path.display(),
        demo.postgres_url(),
        redis.join("redis.sock").display()
    ))
}
