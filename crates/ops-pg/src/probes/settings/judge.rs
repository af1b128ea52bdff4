//! What each setting means, and why it is told.

use std::collections::BTreeMap;

use ops_core::{Finding, Limits, ProbeReport, Remedy, Severity};
use serde_json::json;

use super::advice;
use crate::provider::Managed;

/// A setting in force.
#[derive(Clone, Debug, Default)]
pub(super) struct Setting {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) unit: String,
    pub(super) source: String,
    pub(super) pending_restart: bool,
}

impl Setting {
    /// The value in bytes or seconds, by its unit; as it is without one.
    pub(super) fn number(&self) -> Option<f64> {
        let value: f64 = self.value.parse().ok()?;
        let digits = self.unit.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let times: f64 = if digits.is_empty() { 1.0 } else { digits.parse().ok()? };
        let scale = match &self.unit[digits.len()..] {
            "" => 1.0,
            "B" => 1.0,
            "kB" => 1024.0,
            "MB" => 1024.0 * 1024.0,
            "ms" => 0.001,
            "s" => 1.0,
            "min" => 60.0,
            _ => return None,
        };
        Some(value * times * scale)
    }

    fn evidence(&self) -> serde_json::Value {
        json!({ "name": self.name, "setting": self.value, "unit": self.unit, "source": self.source })
    }
}

/// Settings by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings(BTreeMap<String, Setting>);

impl Settings {
    pub(super) fn insert(&mut self, setting: Setting) {
        self.0.insert(setting.name.clone(), setting);
    }

    pub(super) fn number(&self, name: &str) -> Option<f64> {
        self.0.get(name)?.number()
    }
}

/// A setting that must have one value.
struct Rule {
    name: &'static str,
    safe: &'static str,
    code: &'static str,
    because: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        name: "fsync",
        safe: "on",
        code: "pg.settings.unsafe",
        because: "after a crash of the machine the database can be corrupt beyond repair",
    },
    Rule {
        name: "full_page_writes",
        safe: "on",
        code: "pg.settings.unsafe",
        because: "a page half written when the machine crashes stays broken, unless the file system prevents that",
    },
    Rule {
        name: "zero_damaged_pages",
        safe: "off",
        code: "pg.settings.unsafe",
        because: "a damaged page is emptied without an error, and its rows are gone",
    },
    Rule {
        name: "ignore_checksum_failure",
        safe: "off",
        code: "pg.settings.unsafe",
        because: "a page whose checksum is wrong is used all the same, and damage spreads",
    },
    Rule {
        name: "autovacuum",
        safe: "on",
        code: "pg.settings.maintenance_off",
        because: "tables bloat, statistics go stale, and only the emergency freeze is left against wraparound",
    },
    Rule {
        name: "track_counts",
        safe: "on",
        code: "pg.settings.maintenance_off",
        because: "autovacuum does not learn where rows change, and does nothing but the emergency freeze",
    },
];

pub(super) fn judge(
    settings: &Settings,
    memory_gib: Option<f64>,
    managed: Option<&Managed>,
    limits: &Limits,
) -> ProbeReport {
    let applies = |rule: &&Rule| !managed.is_some_and(|managed| managed.makes_harmless(rule.name));
    let wrong = RULES.iter().filter(applies).filter_map(|rule| rule.finding(settings));
    let pending = settings.0.values().filter(|setting| setting.pending_restart);
    let pending = pending.map(|setting| waits(setting, managed));
    let mut findings: Vec<Finding> = wrong.chain(pending).collect();
    findings.extend(advice::checkpoints(settings, limits));
    findings.extend(memory_gib.into_iter().flat_map(|memory| advice::memory(settings, memory, limits)));
    let summary = match findings.len() {
        0 => "no setting risks data or waits for a restart".to_owned(),
        1 => "1 setting is worth a look".to_owned(),
        n => format!("{n} settings are worth a look"),
    };
    let report = ProbeReport::new(summary).findings(findings);
    advice::measurements(settings, memory_gib, limits).into_iter().fold(report, ProbeReport::measure)
}

impl Rule {
    fn finding(&self, settings: &Settings) -> Option<Finding> {
        let setting = settings.0.get(self.name).filter(|setting| setting.value != self.safe)?;
        let message = format!("{} is {}: {}", self.name, setting.value, self.because);
        Some(
            Finding::critical(self.code, message)
                .object(self.name)
                .evidence(setting.evidence())
                .remedy(self.remedy(setting)),
        )
    }

    /// What one database or role was given stays in force whatever the server's own value is.
    fn remedy(&self, setting: &Setting) -> Remedy {
        let (name, safe) = (self.name, self.safe);
        match setting.source.as_str() {
            "database" | "user" | "database user" => {
                Remedy::statement("SELECT setdatabase, setrole::regrole, setconfig FROM pg_db_role_setting;")
                    .because(format!(
                        "it says where {name} is set: ALTER DATABASE or ALTER ROLE … RESET {name}"
                    ))
            }
            _ => Remedy::statement(format!("ALTER SYSTEM SET {name} = {safe}; SELECT pg_reload_conf();"))
                .because("it takes effect at once, without a restart"),
        }
    }
}

fn waits(setting: &Setting, managed: Option<&Managed>) -> Finding {
    let message = format!(
        "{} was changed{} and waits for a restart: {}{} is in force",
        setting.name,
        if managed.is_some() { "" } else { " in a file" },
        setting.value,
        setting.unit
    );
    let back = managed.map_or("into the file".to_owned(), |managed| format!("in {}", managed.settings));
    Finding::new(Severity::Warning, "pg.settings.pending_restart", message)
        .object(setting.name.clone())
        .evidence(setting.evidence())
        .remedy(Remedy::advice(format!(
            "plan a restart, or put the old value back {back}: a crash would apply it unplanned"
        )))
}

/// An entry of a configuration file that the server could not apply.
pub(super) struct FileError {
    pub(super) file: String,
    pub(super) line: i32,
    pub(super) name: Option<String>,
    pub(super) error: String,
}

impl FileError {
    pub(super) fn finding(&self) -> Finding {
        let what = self.name.as_deref().unwrap_or("a line");
        let message = format!(
            "{what} in {}:{} is wrong ({}): a reload changes nothing, and the server may not start again",
            self.file, self.line, self.error
        );
        Finding::critical("pg.settings.file_error", message)
            .object(self.name.clone().unwrap_or_else(|| format!("{}:{}", self.file, self.line)))
            .evidence(json!({ "file": self.file, "line": self.line, "name": self.name, "error": self.error }))
            .remedy(Remedy::advice(
                "correct the line, then read pg_file_settings again before the next restart",
            ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::Provider;
    use ops_core::Status;

    fn settings(given: &[(&str, &str, &str)]) -> Settings {
        let mut settings = Settings::default();
        for (name, value, unit) in given {
            let (name, value, unit) = ((*name).to_owned(), (*value).to_owned(), (*unit).to_owned());
            settings.insert(Setting { name, value, unit, ..Setting::default() });
        }
        settings
    }

    fn codes(settings: &Settings, memory: Option<f64>) -> Vec<String> {
        let limits = Limits::defaults(&super::super::SPEC);
        let report = judge(settings, memory, None, &limits);
        report.found().iter().filter_map(|f| Some(format!("{} {}", f.code, f.object.as_deref()?))).collect()
    }

    #[test]
    fn units_are_the_servers() {
        for (value, unit, expected) in [
            ("16384", "8kB", Some(134_217_728.0)),
            ("4096", "kB", Some(4_194_304.0)),
            ("300", "s", Some(300.0)),
            ("0.9", "", Some(0.9)),
            ("on", "", None),
            ("1", "furlong", None),
        ] {
            let setting = Setting { value: value.into(), unit: unit.into(), ..Setting::default() };
            assert_eq!(setting.number(), expected, "{value} {unit}");
        }
    }

    #[test]
    fn defaults_are_no_finding_whatever_the_machine() {
        let defaults = settings(&[
            ("fsync", "on", ""),
            ("zero_damaged_pages", "off", ""),
            ("checkpoint_timeout", "300", "s"),
            ("checkpoint_completion_target", "0.9", ""),
            ("shared_buffers", "16384", "8kB"),
            ("work_mem", "4096", "kB"),
            ("max_connections", "100", ""),
        ]);
        assert!(codes(&defaults, None).is_empty());
        assert!(codes(&defaults, Some(1.0)).is_empty());
        assert_eq!(codes(&defaults, Some(64.0)), ["pg.settings.memory shared_buffers"]);
    }

    #[test]
    fn memory_is_judged_only_where_it_is_known() {
        let greedy = settings(&[
            ("shared_buffers", "1048576", "8kB"),
            ("work_mem", "262144", "kB"),
            ("max_connections", "200", ""),
        ]);
        assert!(codes(&greedy, None).is_empty());
        assert_eq!(
            codes(&greedy, Some(16.0)),
            ["pg.settings.memory shared_buffers", "pg.settings.memory work_mem"]
        );
    }

    #[test]
    fn what_loses_data_is_critical() {
        let unsafe_ones = settings(&[
            ("fsync", "off", ""),
            ("ignore_checksum_failure", "on", ""),
            ("autovacuum", "off", ""),
        ]);
        let report = judge(&unsafe_ones, None, None, &Limits::defaults(&super::super::SPEC));
        assert_eq!((report.status(), report.found().len()), (Status::Critical, 3));
    }

    #[test]
    fn what_a_provider_makes_durable_elsewhere_is_no_risk_there() {
        let compute =
            [("fsync", "off", ""), ("full_page_writes", "off", ""), ("zero_damaged_pages", "on", "")];
        for (provider, expected) in [(Provider::Neon, 1), (Provider::Rds, 3), (Provider::Own, 3)] {
            let limits = Limits::defaults(&super::super::SPEC);
            let report = judge(&settings(&compute), None, provider.managed(), &limits);
            assert_eq!((report.status(), report.found().len()), (Status::Critical, expected), "{provider:?}");
        }
    }
}
