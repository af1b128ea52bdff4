//! A sound file as a [`Config`].

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use ops_core::Secret;
use ops_core::redact::ExposeSecret;
use serde::Deserialize;
use serde_json::Value;

use super::document::child;
use super::file::{Endpoint, File, TargetName};
use super::interpolate::Interpolated;
use super::report::Report;
use super::semantics::Resolved;
use super::show::Sources;
use super::{Check, Config, ConfigErrors, HttpTarget, PostgresTarget, RedisTarget, StateTarget};

/// Builds the configuration, unless mistakes were reported.
pub(super) fn build(
    root: Value,
    mut resolved: Resolved,
    interpolated: BTreeMap<String, Interpolated>,
    mut report: Report<'_>,
    path: &Path,
) -> Result<Config, ConfigErrors> {
    let remarks = remarks(&resolved, &report);
    let sources = Sources::new(&root, interpolated, &resolved);
    match File::deserialize(root) {
        Ok(file) if report.is_empty() => Ok(Config { remarks, sources, ..assemble(file, &mut resolved) }),
        // The schema is made of the same types: if it ever takes what they refuse, the file is still refused.
        // What serde says may repeat a value.
        Err(_) if report.is_empty() => {
            report.value(
                "",
                "the file is not valid; this message should say where: please report it".to_owned(),
                None,
            );
            Err(report.finish(path))
        }
        _ => Err(report.finish(path)),
    }
}

fn assemble(file: File, resolved: &mut Resolved) -> Config {
    let mut take = |pointer: String| resolved.secrets.remove(&pointer);
    let at = |kind: &str, name: &str, key: &str| child(&child(&format!("/{kind}"), name), key);
    let postgres = file
        .postgres
        .into_iter()
        .map(|(TargetName(name), target)| {
            let url = take(at("postgres", &name, "url")).unwrap_or_default();
            let pgbouncer = take(at("postgres", &name, "pgbouncer"));
            (name, PostgresTarget { url, pgbouncer, config: target.config })
        })
        .collect();
    let redis = file
        .redis
        .into_iter()
        .map(|(TargetName(name), target)| {
            let url = take(at("redis", &name, "url")).unwrap_or_default();
            (name, RedisTarget { url, config: target.config })
        })
        .collect();
    let state = StateTarget { url: take("/state/url".to_owned()), config: file.state.config };
    let http = file
        .http
        .into_iter()
        .map(|(TargetName(name), endpoint)| {
            let section = child("/http", &name);
            (name, http(endpoint, &section, &mut take))
        })
        .collect();
    let duration = |text: Option<String>, default: Duration| {
        text.and_then(|text| ops_core::quantity::parse_duration(&text)).unwrap_or(default)
    };
    let defaults = Check::default();
    Config {
        service: file.service.unwrap_or_else(|| Config::default().service),
        check: Check {
            timeout: duration(file.check.timeout, defaults.timeout),
            probe_timeout: duration(file.check.probe_timeout, defaults.probe_timeout),
        },
        state,
        postgres,
        redis,
        http,
        host: file.host.into_iter().map(|(TargetName(name), config)| (name, config)).collect(),
        metrics: file.metric,
        thresholds: std::mem::take(&mut resolved.bounds),
        ..Config::default()
    }
}

fn http(endpoint: Endpoint, section: &str, take: &mut impl FnMut(String) -> Option<Secret>) -> HttpTarget {
    let mut config = endpoint.config;
    config.url = take(child(section, "url")).unwrap_or_default().expose_secret().to_owned();
    let section = child(section, "headers");
    let headers = endpoint
        .headers
        .into_keys()
        .map(|name| (name.clone(), take(child(&section, &name)).unwrap_or_default()))
        .collect();
    HttpTarget { config, headers }
}

fn remarks(resolved: &Resolved, report: &Report<'_>) -> Vec<super::Mistake> {
    let mut remarks = Report::new(report.map);
    for (pointer, path) in &resolved.open {
        let message =
            format!("{}: everybody on this machine may read {}", report.map.name(pointer), path.display());
        remarks.value(pointer, message, Some(format!("chmod 600 {}", path.display())));
    }
    remarks.into_mistakes()
}
