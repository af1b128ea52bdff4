//! The configuration in effect, as TOML with where each value came from.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};

use ops_core::redact::redact;
use ops_core::{Limits, ProbeSpec, ThresholdSpec};
use serde::Serialize;
use serde_json::Value;

use crate::catalogue;

use super::document::{child, keys, quoted, toml_string};
use super::interpolate::Interpolated;
use super::semantics::{KINDS, Resolved};
use super::{Config, quantity};

const MASK: &str = "***";

/// A value that something stronger than the file has set.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Override {
    /// The value, such as `check.timeout`.
    pub key: String,
    /// What set it, such as `--timeout`.
    pub source: String,
}

impl Override {
    /// `key`, set by `source`.
    pub fn new(key: impl Into<String>, source: impl Into<String>) -> Self {
        Self { key: key.into(), source: source.into() }
    }
}

/// What a file gives, by pointer, and where secrets come from.
#[derive(Clone, Default)]
pub(super) struct Sources {
    given: BTreeSet<String>,
    interpolated: BTreeMap<String, Interpolated>,
    origins: BTreeMap<String, String>,
}

/// Prints nothing: a string as the file has it may be a secret.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}

impl Sources {
    pub(super) fn new(
        root: &Value,
        interpolated: BTreeMap<String, Interpolated>,
        resolved: &Resolved,
    ) -> Self {
        let mut given = BTreeSet::new();
        collect(root, String::new(), &mut given);
        Self { given, interpolated, origins: resolved.origins.clone() }
    }
}

fn collect(value: &Value, pointer: String, given: &mut BTreeSet<String>) {
    match value {
        Value::Object(table) => {
            for (key, value) in table {
                collect(value, child(&pointer, key), given);
            }
        }
        Value::Array(elements) => {
            for (index, element) in elements.iter().enumerate() {
                collect(element, format!("{pointer}/{index}"), given);
            }
        }
        _ => {}
    }
    given.insert(pointer);
}

impl Config {
    /// The configuration in effect, as TOML: secrets masked, with where each came from; defaults marked. What
    /// `overrides` names is shown with the value it has now, and with what set it.
    ///
    /// ```
    /// use std::path::Path;
    /// use std::time::Duration;
    /// use ops_runbook::config::{Config, GivenSurroundings, Override};
    /// let around = GivenSurroundings::default();
    /// let mut config = Config::read("service = \"shop\"", Path::new("ops.toml"), &around)?;
    /// config.check.timeout = Duration::from_secs(10);
    /// let shown = config.show(&[Override::new("check.timeout", "--timeout")]);
    /// assert!(shown.contains("timeout = \"10s\"  # from --timeout"));
    /// assert!(shown.contains("probe_timeout = \"5s\"  # default"));
    /// # Ok::<(), ops_runbook::config::ConfigErrors>(())
    /// ```
    pub fn show(&self, overrides: &[Override]) -> String {
        let mut show = Show { config: self, overrides, out: String::new() };
        show.out.push_str(
            "# In effect. A flag overrides the environment, that the file, and that the default.\n",
        );
        show.leaf("/service", "service", &self.service.clone().into());
        show.out.push_str("\n[check]\n");
        for (key, duration) in [("timeout", self.check.timeout), ("probe_timeout", self.check.probe_timeout)]
        {
            show.leaf(&child("/check", key), key, &quantity::duration_text(duration).into());
        }
        let mut state = json(&self.state.config);
        if self.state.url.is_some() {
            state = with(state, "url", MASK);
        }
        show.section("/state", "[state]", &state);
        show.targets();
        for (index, metric) in self.metrics.iter().enumerate() {
            show.section(&format!("/metric/{index}"), "[[metric]]", &json(metric));
        }
        show.thresholds();
        show.out
    }
}

struct Show<'c> {
    config: &'c Config,
    overrides: &'c [Override],
    out: String,
}

impl Show<'_> {
    fn targets(&mut self) {
        let config = self.config;
        for (name, target) in &config.postgres {
            let mut table = with(json(&target.config), "url", MASK);
            if target.pgbouncer.is_some() {
                table = with(table, "pgbouncer", MASK);
            }
            self.target("postgres", name, table);
        }
        for (name, target) in &config.redis {
            self.target("redis", name, with(json(&target.config), "url", MASK));
        }
        for (name, target) in &config.http {
            let mut table = with(json(&target.config), "url", &self.endpoint(name));
            let headers = target.headers.iter().map(|(header, _)| (header.clone(), MASK.into())).collect();
            if let Value::Object(table) = &mut table {
                table.insert("headers".to_owned(), Value::Object(headers));
            }
            self.target("http", name, table);
        }
        for (name, host) in &config.host {
            self.target("host", name, json(host));
        }
    }

    /// An endpoint's address is worth seeing, where the file has it in the open; its query may hold a token.
    fn endpoint(&self, name: &str) -> String {
        let pointer = child(&child("/http", name), "url");
        let sources = &self.config.sources;
        let hidden = sources.origins.contains_key(&pointer) || sources.interpolated.contains_key(&pointer);
        let config = self.config.http.get(name).map(|target| target.config.clone()).filter(|_| !hidden);
        let Some(config) = config else { return MASK.to_owned() };
        let query = if config.url.contains(['?', '#']) { format!("?{MASK}") } else { String::new() };
        ops_host::HttpTarget::new(name, config, Vec::new())
            .map_or_else(|_| MASK.to_owned(), |target| target.display() + &query)
    }

    fn target(&mut self, kind: &str, name: &str, table: Value) {
        self.section(&child(&format!("/{kind}"), name), &format!("[{kind}.{}]", quoted(name)), &table);
    }

    fn section(&mut self, pointer: &str, header: &str, table: &Value) {
        let _ = writeln!(self.out, "\n{header}");
        self.table(pointer, "", table);
    }

    fn table(&mut self, pointer: &str, prefix: &str, table: &Value) {
        let Some(table) = table.as_object() else { return };
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| (!matches!(key.as_str(), "url" | "name"), key.as_str()));
        for (key, value) in entries {
            let pointer = child(pointer, key);
            let key = format!("{prefix}{}", quoted(key));
            match value {
                Value::Object(_) => self.table(&pointer, &format!("{key}."), value),
                Value::Null => {}
                _ => self.leaf(&pointer, &key, value),
            }
        }
    }

    fn leaf(&mut self, pointer: &str, key: &str, value: &Value) {
        let sources = &self.config.sources;
        let path = keys(pointer).collect::<Vec<_>>().join(".");
        let overridden = self.overrides.iter().find(|over| over.key == path);
        let variables = self.variables(pointer);
        let secret = is_secret(pointer);
        let comment = if let Some(over) = overridden {
            format!("from {}", over.source)
        } else if let Some(origin) = sources.origins.get(pointer) {
            format!("from {origin}")
        } else if !variables.is_empty() {
            format!("from the file, with env {}", variables.join(", "))
        } else if secret {
            "from the file".to_owned()
        } else if self.is_given(pointer) {
            String::new()
        } else {
            "default".to_owned()
        };
        let value =
            if secret || overridden.is_some() { value.clone() } else { self.as_written(pointer, value) };
        let gap = if comment.is_empty() { "" } else { "  # " };
        let _ = writeln!(self.out, "{key} = {}{gap}{comment}", toml(&value));
    }

    fn is_given(&self, pointer: &str) -> bool {
        let given = &self.config.sources.given;
        // `used = 70` is short for `used.warning = 70`.
        let short = pointer.strip_suffix("/warning").filter(|_| pointer.starts_with("/thresholds/"));
        given.contains(pointer)
            || short
                .is_some_and(|short| given.contains(short) && !given.contains(&format!("{short}/critical")))
    }

    /// The variables in a string, or in the strings of an array.
    fn variables(&self, pointer: &str) -> Vec<&str> {
        let inside = format!("{pointer}/");
        let strings = self.config.sources.interpolated.iter();
        strings
            .filter(|(at, _)| *at == pointer || at.starts_with(&inside))
            .flat_map(|(_, text)| text.names.iter().map(String::as_str))
            .collect()
    }

    /// A string with variables is shown with their names: their values may be secrets.
    fn as_written(&self, pointer: &str, value: &Value) -> Value {
        if let Some(text) = self.config.sources.interpolated.get(pointer) {
            return without_password(&text.raw).into();
        }
        match value {
            Value::String(text) => without_password(text).into(),
            Value::Array(elements) => {
                let written = elements
                    .iter()
                    .enumerate()
                    .map(|(index, element)| self.as_written(&format!("{pointer}/{index}"), element));
                written.collect()
            }
            other => other.clone(),
        }
    }

    fn thresholds(&mut self) {
        for spec in catalogue::all() {
            let table = format!("/thresholds/{}", spec.name);
            if spec.thresholds.is_empty() || !(self.is_watched(spec) || self.is_given(&table)) {
                continue;
            }
            let limits = self.config.limits_for(spec);
            let _ = writeln!(self.out, "\n[thresholds.{}]", quoted(spec.name));
            for threshold in spec.thresholds {
                self.threshold(&child(&table, threshold.name), threshold, &limits);
            }
        }
    }

    fn threshold(&mut self, pointer: &str, spec: &ThresholdSpec, limits: &Limits) {
        let threshold = limits.get(spec.name);
        for (name, bound) in [("warning", threshold.warning), ("critical", threshold.critical)] {
            let Some(bound) = bound else { continue };
            let key = format!("{}.{name}", quoted(spec.name));
            self.leaf(&child(pointer, name), &key, &quantity::bound_value(spec.unit, bound));
        }
    }

    fn is_watched(&self, spec: &ProbeSpec) -> bool {
        let config = self.config;
        match spec.name.split('.').next() {
            Some("pg") => !config.postgres.is_empty(),
            Some("redis") => !config.redis.is_empty(),
            Some("http") => !config.http.is_empty(),
            Some("host") => !config.host.is_empty(),
            _ => true,
        }
    }
}

/// URLs and headers of targets.
fn is_secret(pointer: &str) -> bool {
    match keys(pointer).collect::<Vec<_>>().as_slice() {
        [kind, last] => kind == "state" && last == "url",
        [kind, _, last] if last == "pgbouncer" => kind == "postgres",
        [kind, _, last] => KINDS.contains(&kind.as_str()) && last == "url",
        [kind, _, table, _] => kind == "http" && table == "headers",
        _ => false,
    }
}

/// No place for a secret, and yet somebody may have put a URL with a password there.
fn without_password(text: &str) -> String {
    if text.contains("://") { redact(text) } else { text.to_owned() }
}

fn json(settings: &impl Serialize) -> Value {
    // Settings are plain data with text for keys: they always serialise.
    serde_json::to_value(settings).unwrap_or_default()
}

fn with(mut table: Value, key: &str, value: &str) -> Value {
    if let Value::Object(table) = &mut table {
        table.insert(key.to_owned(), value.into());
    }
    table
}

/// A value on one line.
fn toml(value: &Value) -> String {
    match value {
        Value::String(text) => toml_string(text),
        Value::Array(elements) => {
            let elements: Vec<_> = elements.iter().map(toml).collect();
            format!("[{}]", elements.join(", "))
        }
        Value::Object(table) => {
            let entries: Vec<_> =
                table.iter().map(|(key, value)| format!("{} = {}", quoted(key), toml(value))).collect();
            format!("{{ {} }}", entries.join(", "))
        }
        other => other.to_string(),
    }
}
