//! What systemd says about its units.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use ops_core::{Context, Error, ErrorKind, ProbeReport, Result};
use tokio::process::Command;

use crate::host::HostTarget;
use crate::machine::Machine;

/// The properties of one unit. Each is optional: systemd leaves out what a unit of that type has not.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Unit {
    pub(super) name: String,
    properties: BTreeMap<String, String>,
}

impl Unit {
    pub(super) fn get(&self, property: &str) -> &str {
        self.properties.get(property).map(String::as_str).unwrap_or_default()
    }

    pub(super) fn is_loaded(&self) -> bool {
        self.get("LoadState") != "not-found"
    }

    #[cfg(test)]
    pub(super) fn of(name: &str, text: &str) -> Self {
        let properties = properties(text).into_iter().next().unwrap_or_default();
        Self { name: name.to_owned(), properties }
    }
}

/// What to report where systemd does not run.
pub(super) fn absent(host: &HostTarget) -> Option<ProbeReport> {
    let what = "systemd does not run this machine (or this container sees nothing of it)";
    (!host.machine().has_systemd()).then(|| ProbeReport::unknown(what, None))
}

/// Several units by one `systemctl show`, in the order asked for.
pub(super) async fn show(
    cx: &Context,
    host: &HostTarget,
    wanted: &str,
    names: &[String],
) -> Result<Vec<Unit>> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let wanted = format!("--property={wanted}");
    let mut arguments = vec!["show", "--no-pager", &wanted, "--"];
    arguments.extend(names.iter().map(String::as_str));
    let machine = host.machine();
    let text = machine.ask(cx, &machine.systemctl, &arguments).await?;
    let blocks = properties(&text);
    if blocks.len() != names.len() {
        return Err(Error::new(ErrorKind::Unsupported, "ask systemd")
            .on(machine.systemctl.display().to_string())
            .because(format!("it was asked about {} units, and told of {}", names.len(), blocks.len())));
    }
    let named = names.iter().zip(blocks);
    Ok(named.map(|(name, properties)| Unit { name: full(name), properties }).collect())
}

/// systemd takes a name without a suffix for a service.
fn full(name: &str) -> String {
    if name.contains('.') { name.to_owned() } else { format!("{name}.service") }
}

impl Machine {
    /// Whether systemd runs this machine, by the rule of sd_booted(3).
    fn has_systemd(&self) -> bool {
        self.run.join("systemd/system").is_dir()
    }

    /// Runs a program that reads, in the C locale and in UTC, and returns what it printed.
    pub(super) async fn ask(&self, cx: &Context, program: &Path, arguments: &[&str]) -> Result<String> {
        let failed = |kind, why: String| {
            Error::new(kind, "ask the system").on(program.display().to_string()).because(why)
        };
        let work = async {
            Command::new(program)
                .args(arguments)
                .env("LC_ALL", "C")
                .env("TZ", "UTC")
                .env("SYSTEMD_COLORS", "0")
                .stdin(Stdio::null())
                .kill_on_drop(true)
                .output()
                .await
                .map_err(|error| failed(ErrorKind::NotFound, error.to_string()))
        };
        let output = cx.run("ask the system", work).await?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let line = said.lines().next().unwrap_or("it fails and says nothing");
            return Err(failed(ErrorKind::Failed, line.to_owned()));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// `KEY=VALUE` lines, as systemd's programs print them; blocks are separated by an empty line. A property that comes
/// more than once, as a timer's times do, has all of its values, each on a line.
pub(super) fn properties(text: &str) -> Vec<BTreeMap<String, String>> {
    text.split("\n\n")
        .map(|block| {
            let mut properties = BTreeMap::<String, String>::new();
            for (key, value) in block.lines().filter_map(|line| line.split_once('=')) {
                let values = properties.entry(key.to_owned()).or_default();
                if !values.is_empty() {
                    values.push('\n');
                }
                values.push_str(value);
            }
            properties
        })
        .filter(|block: &BTreeMap<_, _>| !block.is_empty())
        .collect()
}
