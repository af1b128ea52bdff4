//! What systemd says about its units.

use std::collections::BTreeMap;

use ops_core::{Context, ErrorKind, ProbeReport, Result};

use crate::host::HostTarget;
use crate::machine;

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
        let properties = machine::properties(text).into_iter().next().unwrap_or_default();
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
    properties: &str,
    names: &[String],
) -> Result<Vec<Unit>> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let wanted = format!("--property={properties}");
    let mut arguments = vec!["show", "--no-pager", &wanted, "--"];
    arguments.extend(names.iter().map(String::as_str));
    let machine = host.machine();
    let text = machine.ask(cx, &machine.systemctl, &arguments).await?;
    let blocks = machine::properties(&text);
    if blocks.len() != names.len() {
        return Err(ops_core::Error::new(ErrorKind::Unsupported, "ask systemd")
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
