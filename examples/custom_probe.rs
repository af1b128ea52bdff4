//! A probe of one's own beside the built-in ones, in the same report: how many files wait in a spool directory.
use std::{env, error::Error, path::PathBuf};

use ops_core::{
    Context, ErrorKind, Finding, HealthProbe, Measurement, ProbeReport, ProbeSet, Secret, Threshold, Unit,
};

#[derive(Debug)]
struct Spool(PathBuf);

#[async_trait::async_trait]
impl HealthProbe for Spool {
    fn name(&self) -> &str {
        "app.spool"
    }

    async fn probe(&self, _cx: &Context) -> ops_core::Result<ProbeReport> {
        // A directory that cannot be read says nothing about the backlog: an error, and so `unknown`.
        let files = std::fs::read_dir(&self.0)
            .map_err(|error| ops_core::Error::new(ErrorKind::NotFound, "read the spool").caused_by(error))?;
        let waiting = Measurement::new("waiting", files.count() as f64, Unit::Count)
            .judged_by(Threshold::above(3.0, 100.0));
        let severity = ops_core::Severity::of(waiting.status());
        let finding = severity
            .map(|severity| Finding::new(severity, "app.spool.backlog", "files pile up").object("spool"));
        Ok(ProbeReport::new(format!("{} files wait", waiting.format())).measure(waiting).findings(finding))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut probes = ProbeSet::new("shop");
    probes.add("worker", Spool(env::var("SPOOL")?.into()));
    let url = Secret::from(env::var("DATABASE_URL")?);
    ops_pg::PgTarget::connect_lazily("main", &url, Default::default())?.add_all_to(&mut probes);
    println!("{}", ops_core::render::json(&probes.run(&Context::new()).await));
    Ok(())
}
