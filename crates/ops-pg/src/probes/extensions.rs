//! `pg.extensions`: are the required extensions there, and do all have the version of their files?

use async_trait::async_trait;
use ops_core::{
    Context, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy, Result, Unit,
};
use serde_json::json;

use super::words::counted;
use crate::probe::{PgProbe, Scope};
use crate::row::Row;
use crate::target::PgTarget;

/// Serves PostgreSQL 14 and later. Versions are names without an order: one is outdated when its files know a way
/// from it to their default version.
const SQL: &str = "
SELECT coalesce(e.extname, a.name)::text AS plain_name, quote_ident(coalesce(e.extname, a.name)) AS name,
       e.extversion AS installed, a.default_version AS offered,
       e.extversion <> a.default_version AND EXISTS (
         SELECT FROM pg_extension_update_paths(e.extname) p
          WHERE p.source = e.extversion AND p.target = a.default_version AND p.path IS NOT NULL) AS outdated
  FROM pg_extension e
  FULL JOIN pg_available_extensions a ON a.name = e.extname
 ORDER BY 1";

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.extensions",
    group: "objects",
    explanation: Explanation {
        why: "New packages bring new files, and the database goes on with the old SQL until somebody updates the \
              extension: fixes, security ones among them, do not arrive. One whose files are gone fails at its next \
              call, and in every dump's restore.",
        measures: "Installed extensions against the versions that the server's files offer, and against those that \
                   the configuration requires (required.extensions).",
        queries: &[("installed and available extensions", SQL)],
        codes: &[
            ("pg.extension.missing", "a required extension is not installed"),
            ("pg.extension.outdated", "the server's files offer an update of an extension"),
            ("pg.extension.no_files", "the files of an installed extension are not on the server"),
        ],
        versions: "PostgreSQL 14 and later",
        cost: "the server reads its directory of extensions",
        remedy: "ALTER EXTENSION … UPDATE, after its release notes: some need a restart or a reindex.",
    },
    thresholds: &[],
    requires: &[],
};

#[derive(Debug)]
pub(super) struct Extensions;

#[async_trait]
impl PgProbe for Extensions {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Database
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, _limits: &Limits) -> Result<ProbeReport> {
        let rows = pg.read(cx, SQL).await?;
        let extensions = rows.iter().map(Extension::read).collect::<Result<Vec<_>>>()?;
        let installed = extensions.iter().filter(|extension| extension.installed.is_some()).count();
        let required = &pg.config().required.extensions;
        let missing = required.iter().filter_map(|name| missing(name, &extensions));
        let findings: Vec<_> = missing.chain(extensions.iter().filter_map(Extension::finding)).collect();
        let summary = match findings.len() {
            0 => format!("{} up to date", counted(installed, "extension is", "extensions are")),
            n => format!("{n} of {} to be seen to", counted(installed, "extension", "extensions")),
        };
        Ok(ProbeReport::new(summary)
            .measure(Measurement::new("installed", installed as f64, Unit::Count))
            .findings(findings))
    }
}

fn missing(name: &str, extensions: &[Extension]) -> Option<Finding> {
    let known = extensions.iter().find(|extension| extension.plain_name == name);
    if known.is_some_and(|extension| extension.installed.is_some()) {
        return None;
    }
    let message = format!("extension {name} is required and not installed");
    let remedy = match known {
        Some(extension) => Remedy::statement(format!("CREATE EXTENSION {};", extension.name)),
        None => Remedy::advice("install its package on the server first: its files are not there"),
    };
    Some(Finding::critical("pg.extension.missing", message).object(name).remedy(remedy))
}

#[derive(Debug)]
struct Extension {
    plain_name: String,
    name: String,
    installed: Option<String>,
    offered: Option<String>,
    outdated: bool,
}

impl Extension {
    fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            plain_name: row.get("plain_name")?,
            name: row.get("name")?,
            installed: row.get("installed")?,
            offered: row.get("offered")?,
            outdated: row.get::<Option<bool>>("outdated")?.unwrap_or(false),
        })
    }

    fn finding(&self) -> Option<Finding> {
        let (name, installed) = (&self.name, self.installed.as_ref()?);
        let evidence = json!({ "extension": name, "installed": installed, "offered": self.offered });
        let finding = match &self.offered {
            Some(offered) if self.outdated => {
                let message = format!("extension {name} is {installed}, the server's files offer {offered}");
                Finding::warning("pg.extension.outdated", message)
                    .remedy(Remedy::statement(format!("ALTER EXTENSION {name} UPDATE;")))
            }
            Some(_) => return None,
            None => {
                let message =
                    format!("extension {name} {installed} is installed, and its files are not on the server");
                Finding::warning("pg.extension.no_files", message)
                    .remedy(Remedy::advice("install its package for this major version"))
            }
        };
        Some(finding.object(name).evidence(evidence))
    }
}
