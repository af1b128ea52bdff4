//! What a schema cannot say: whether secrets have values, URLs parse, names are told apart, and bounds stand
//! the right way round. Each check looks at what is sound and leaves the rest.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ops_cache::{RedisConfig, RedisOptions};
use ops_core::redact::ExposeSecret;
use ops_core::{Bounds, Direction, Error, Limits, ProbeSpec, Secret, ThresholdSpec, Unit};
use ops_host::{HostConfig, HttpConfig, HttpTarget};
use ops_pg::{PgConfig, PgTarget};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::catalogue;
use crate::state::StateConfig;

use super::document::child;
use super::nearest::did_you_mean;
use super::quantity;
use super::report::Report;
use super::secret::SecretRef;
use super::surroundings::Surroundings;

/// The sections whose entries are targets, in the order of the report.
pub(super) const KINDS: [&str; 4] = ["postgres", "redis", "http", "host"];

/// What checking found out on its way.
#[derive(Debug, Default)]
pub(super) struct Resolved {
    /// The values of secrets, by pointer.
    pub(super) secrets: BTreeMap<String, Secret>,
    /// Where the values of secrets come from, where they do not stand in the file.
    pub(super) origins: BTreeMap<String, String>,
    /// Bounds by probe and threshold.
    pub(super) bounds: BTreeMap<String, BTreeMap<String, Bounds>>,
    /// Files with secrets that everybody may read, with the pointers that name them.
    pub(super) open: Vec<(String, PathBuf)>,
}

/// Reports what is wrong with the meaning of `root`. Relative paths start at `directory`.
pub(super) fn check(
    root: &Value,
    directory: &Path,
    surroundings: &dyn Surroundings,
    report: &mut Report<'_>,
) -> Resolved {
    let mut check = Check { root, directory, surroundings, report, resolved: Resolved::default() };
    check.names();
    check.postgres();
    check.redis();
    check.http();
    check.hosts();
    check.metrics();
    check.thresholds();
    check.timeouts();
    check.state();
    check.resolved
}

struct Check<'c, 'm> {
    root: &'c Value,
    directory: &'c Path,
    surroundings: &'c dyn Surroundings,
    report: &'c mut Report<'m>,
    resolved: Resolved,
}

impl<'c> Check<'c, '_> {
    fn entries(&self, pointer: &str) -> impl Iterator<Item = (&'c String, &'c Value)> + use<'c> {
        self.root.pointer(pointer).and_then(Value::as_object).into_iter().flatten()
    }

    fn value(&mut self, pointer: &str, message: &str, help: Option<String>) {
        let origin = match self.resolved.origins.get(pointer) {
            Some(origin) => format!(" (from {origin})"),
            None => String::new(),
        };
        let name = self.report.map.name(pointer);
        self.report.value(pointer, format!("{name}{origin}: {message}"), help);
    }

    /// What an adapter makes of its settings; its messages hold no secret by its own contract.
    fn refused(&mut self, pointer: &str, error: &Error) {
        let message = error.message().unwrap_or("it makes no sense").to_owned();
        self.value(pointer, &message, error.fix().map(str::to_owned));
    }

    /// A target's name stands for it on the command line, whatever its kind.
    fn names(&mut self) {
        let mut named: Vec<(usize, String, &str)> = Vec::new();
        for kind in KINDS {
            for (name, _) in self.entries(&format!("/{kind}")) {
                let pointer = child(&format!("/{kind}"), name);
                named.push((self.report.map.key_span(&pointer).start, pointer, name));
            }
        }
        named.sort();
        let mut taken = BTreeMap::new();
        for (at, pointer, name) in &named {
            let (first_at, first) = *taken.entry(*name).or_insert((*at, pointer));
            if first == pointer {
                continue;
            }
            let (line, _) = self.report.map.position(first_at);
            let taken =
                format!("the name `{name}` is taken by {} on line {line}", self.report.map.name(first));
            self.report.key(pointer, taken, Some("a target's name is unique among all kinds".to_owned()));
        }
    }

    fn secret(&mut self, pointer: &str) -> Option<Secret> {
        let value = self.root.pointer(pointer)?;
        let reference = SecretRef::deserialize(value).ok()?;
        match reference.resolve(self.directory, self.surroundings) {
            Ok(secret) => {
                if let Some(origin) = reference.source() {
                    self.resolved.origins.insert(pointer.to_owned(), origin);
                }
                if let Some(path) = reference.open_to_all(self.directory, self.surroundings) {
                    self.resolved.open.push((pointer.to_owned(), path));
                }
                self.resolved.secrets.insert(pointer.to_owned(), secret.clone());
                Some(secret)
            }
            Err(unresolved) => {
                self.value(pointer, &unresolved.message, unresolved.help);
                None
            }
        }
    }

    fn postgres(&mut self) {
        for (name, _) in self.entries("/postgres") {
            // The console of a PgBouncer has a URL of the same kind.
            for key in ["url", "pgbouncer"] {
                let pointer = child(&child("/postgres", name), key);
                let Some(url) = self.secret(&pointer) else { continue };
                if let Err(error) = PgTarget::connect_lazily(name, &url, PgConfig::default()) {
                    self.refused(&pointer, &error);
                }
            }
        }
    }

    fn redis(&mut self) {
        for (name, entry) in self.entries("/redis") {
            let pointer = child(&child("/redis", name), "url");
            let Some(url) = self.secret(&pointer) else { continue };
            let config = rest::<RedisConfig>(entry, &["url"]).unwrap_or_default();
            if let Err(error) =
                ops_cache::RedisTarget::connect_lazily(name, &url, RedisOptions::from(&config))
            {
                self.refused(&pointer, &error);
            }
        }
    }

    fn http(&mut self) {
        for (name, entry) in self.entries("/http") {
            let section = child("/http", name);
            let headers = child(&section, "headers");
            let mut config = rest::<HttpConfig>(entry, &["headers"]).unwrap_or_else(|| HttpConfig::new(""));
            let url = self.secret(&child(&section, "url"));
            config.url = url.as_ref().map(|url| url.expose_secret().to_owned()).unwrap_or_default();
            for (at, mistake) in config.mistakes() {
                // Without a value, all is said about the URL.
                if at != "/url" || url.is_some() {
                    self.refused(&format!("{section}{at}"), &mistake);
                }
            }
            for (header, _) in self.entries(&headers) {
                let pointer = child(&headers, header);
                let Some(value) = self.secret(&pointer) else { continue };
                let alone = HttpConfig::new("http://localhost/");
                if let Err(error) = HttpTarget::new(name, alone, vec![(header.clone(), value)]) {
                    self.refused(&pointer, &error);
                }
            }
        }
    }

    fn hosts(&mut self) {
        for (name, entry) in self.entries("/host") {
            let Ok(config) = HostConfig::deserialize(entry) else { continue };
            for (at, mistake) in config.mistakes() {
                self.refused(&format!("{}{at}", child("/host", name)), &mistake);
            }
        }
    }

    fn metrics(&mut self) {
        let metrics = self.root.get("metric").and_then(Value::as_array);
        let mut seen = BTreeMap::new();
        for (index, metric) in metrics.into_iter().flatten().enumerate() {
            let section = format!("/metric/{index}");
            let text = |key: &str| metric.get(key).and_then(Value::as_str);
            if let Some(name) = text("name") {
                self.metric_name(&section, name, &mut seen);
            }
            if let Some(target) = text("target") {
                self.metric_target(&child(&section, "target"), target);
            }
            if text("sql").is_some_and(|sql| sql.trim().is_empty()) {
                self.value(&child(&section, "sql"), "must not be empty", None);
            }
            let bound = |key: &str| metric.get(key).and_then(Value::as_f64);
            let direction = match text("direction") {
                Some("below") => Direction::Below,
                _ => Direction::Above,
            };
            if let (Some(warning), Some(critical)) = (bound("warning"), bound("critical"))
                && !in_order(direction, warning, critical)
            {
                let message = format!("the warning, {warning}, lies beyond critical, {critical}");
                self.value(&child(&section, "warning"), &message, Some(order_help(direction)));
            }
        }
    }

    fn metric_name<'n>(&mut self, section: &str, name: &'n str, seen: &mut BTreeMap<&'n str, usize>) {
        let pointer = child(section, "name");
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if name.is_empty() || !name.chars().all(plain) {
            return self.value(&pointer, "a name has letters, digits, `_` and `-`", None);
        }
        let (line, _) = self.report.map.position(self.report.map.value_span(&pointer).start);
        if let Some(first) = seen.get(name) {
            return self.value(&pointer, &format!("the name is taken by the metric on line {first}"), None);
        }
        seen.insert(name, line);
    }

    fn metric_target(&mut self, pointer: &str, target: &str) {
        let known: Vec<&str> = self.entries("/postgres").map(|(name, _)| name.as_str()).collect();
        if known.contains(&target) {
            return;
        }
        let other =
            KINDS.iter().find(|kind| self.entries(&format!("/{kind}")).any(|(name, _)| name == target));
        let (message, help) = match other {
            Some(kind) => (format!("[{kind}.{target}] is no PostgreSQL"), None),
            None => {
                ("there is no such [postgres.NAME]".to_owned(), did_you_mean(target, known.iter().copied()))
            }
        };
        let listed = known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let help = help.or_else(|| (!known.is_empty()).then(|| format!("there is {listed}")));
        let name = self.report.map.name(pointer);
        self.report.missing(pointer, format!("{name}: {message}"), help);
    }

    fn thresholds(&mut self) {
        for (probe, table) in self.entries("/thresholds") {
            let Some(spec) = catalogue::all().into_iter().find(|spec| spec.name == probe) else { continue };
            for (name, value) in table.as_object().into_iter().flatten() {
                let pointer = child(&child("/thresholds", probe), name);
                let Some(threshold) = spec.thresholds.iter().find(|threshold| threshold.name == name) else {
                    continue;
                };
                if let Some(bounds) = self.bounds(&pointer, value, spec, threshold) {
                    self.resolved.bounds.entry(probe.clone()).or_default().insert(name.clone(), bounds);
                }
            }
        }
    }

    fn bounds(
        &mut self,
        pointer: &str,
        value: &Value,
        spec: &'static ProbeSpec,
        threshold: &ThresholdSpec,
    ) -> Option<Bounds> {
        let read = |value: Option<&Value>| value.and_then(|value| quantity::bound(threshold.unit, value));
        let bounds = match value {
            Value::Object(table) => {
                Bounds { warning: read(table.get("warning")), critical: read(table.get("critical")) }
            }
            alone => Bounds { warning: read(Some(alone)), critical: None },
        };
        if Limits::defaults(spec).with(threshold.name, bounds).is_ok() {
            return Some(bounds);
        }
        let shown = |given: Option<f64>, default: Option<f64>| match (given, default) {
            (Some(bound), _) => shown(threshold.unit, bound),
            (None, Some(bound)) => format!("{} by default", shown(threshold.unit, bound)),
            (None, None) => "none".to_owned(),
        };
        let message = format!(
            "the warning, {}, lies beyond critical, {}",
            shown(bounds.warning, threshold.warning),
            shown(bounds.critical, threshold.critical)
        );
        self.value(pointer, &message, Some(order_help(threshold.direction)));
        None
    }

    fn state(&mut self) {
        let Some(entry) = self.root.get("state") else { return };
        if let Some(url) = self.secret("/state/url")
            && let Err(error) = PgTarget::connect_lazily("state", &url, PgConfig::default())
        {
            self.refused("/state/url", &error);
        }
        if entry.get("url").is_some() && entry.get("file").is_some() {
            self.value("/state/file", "there is a url beside it: the state is in one place", None);
        }
        for (key, message) in rest::<StateConfig>(entry, &["url"]).iter().flat_map(StateConfig::mistakes) {
            self.value(&child("/state", key), &message, None);
        }
    }

    fn timeouts(&mut self) {
        let read = |key: &str| {
            let text = self.root.pointer(&format!("/check/{key}"))?.as_str()?;
            Some((format!("/check/{key}"), ops_core::quantity::parse_duration(text)?))
        };
        let given = [read("timeout"), read("probe_timeout")];
        for (pointer, duration) in given.iter().flatten() {
            if duration.is_zero() {
                self.value(pointer, "must be more than nothing", None);
            }
        }
        if let [Some((_, run)), Some((pointer, probe))] = &given
            && probe > run
        {
            self.value(pointer, "one probe may take longer than the whole run, by `timeout`", None);
        }
    }
}

/// The settings of a target without those that are read apart.
fn rest<C: serde::de::DeserializeOwned>(entry: &Value, apart: &[&str]) -> Option<C> {
    let mut table: Map<String, Value> = entry.as_object()?.clone();
    table.retain(|key, _| !apart.contains(&key.as_str()));
    if apart == ["headers"] {
        table.insert("url".to_owned(), "".into());
    }
    C::deserialize(Value::Object(table)).ok()
}

fn shown(unit: Unit, bound: f64) -> String {
    let text = quantity::bound_value(unit, bound);
    let text = text.as_str().map_or_else(|| text.to_string(), str::to_owned);
    if unit == Unit::Percent { format!("{text} %") } else { text }
}

fn in_order(direction: Direction, warning: f64, critical: f64) -> bool {
    match direction {
        Direction::Above => warning <= critical,
        Direction::Below => warning >= critical,
    }
}

fn order_help(direction: Direction) -> String {
    match direction {
        Direction::Above => "high values are trouble here: warning must not be above critical".to_owned(),
        Direction::Below => "low values are trouble here: warning must not be below critical".to_owned(),
    }
}
