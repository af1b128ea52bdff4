//! What a probe found: a stable code, the object, the evidence.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::redact::{MASK, names_secret, redact};
use crate::remedy::Remedy;
use crate::status::Status;

/// Rows of evidence kept per finding; more would drown the reader, and a report must not grow with a table.
pub const MAX_EVIDENCE: usize = 20;

/// How bad a finding is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Shown, and never counted.
    Info,
    /// Needs attention soon.
    Warning,
    /// Needs attention now.
    Critical,
}

impl Severity {
    /// The status that a finding of this severity gives its probe.
    pub fn status(self) -> Status {
        match self {
            Severity::Info => Status::Ok,
            Severity::Warning => Status::Warning,
            Severity::Critical => Status::Critical,
        }
    }

    /// The severity of a judged value, or `None` where there is nothing to say.
    pub fn of(status: Status) -> Option<Severity> {
        match status {
            Status::Warning => Some(Severity::Warning),
            Status::Critical => Some(Severity::Critical),
            Status::Ok | Status::Unknown | Status::NotApplicable => None,
        }
    }

    /// The word used in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }
}

/// One thing worth telling, about one object.
///
/// ```
/// use ops_core::{Finding, Remedy};
/// let finding = Finding::warning("pg.index.duplicate", "public.t_a2 repeats public.t_a")
///     .object("public.t_a2")
///     .remedy(Remedy::statement("DROP INDEX CONCURRENTLY public.t_a2"));
/// assert_eq!(finding.object.as_deref(), Some("public.t_a2"));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Finding {
    /// A stable code such as `pg.index.duplicate`: what alerts, tests and tickets refer to.
    pub code: Cow<'static, str>,
    /// How bad it is.
    pub severity: Severity,
    /// The object it is about, as the server names it.
    pub object: Option<String>,
    /// One sentence.
    pub message: String,
    /// What was seen: at most [`MAX_EVIDENCE`] rows, redacted.
    pub evidence: Vec<Value>,
    /// What to do about it.
    pub remedy: Option<Remedy>,
}

impl Finding {
    /// A finding of any severity.
    pub fn new(severity: Severity, code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            severity,
            object: None,
            message: redact(&message.into()),
            evidence: Vec::new(),
            remedy: None,
        }
    }

    /// Something to know that is not counted.
    pub fn info(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(Severity::Info, code, message)
    }

    /// Something to attend to soon.
    pub fn warning(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, message)
    }

    /// Something to attend to now.
    pub fn critical(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(Severity::Critical, code, message)
    }

    /// Names the object.
    #[must_use]
    pub fn object(mut self, object: impl Into<String>) -> Self {
        self.object = Some(object.into());
        self
    }

    /// Adds a row of evidence; rows beyond [`MAX_EVIDENCE`] are dropped.
    #[must_use]
    pub fn evidence(mut self, row: Value) -> Self {
        if self.evidence.len() < MAX_EVIDENCE {
            self.evidence.push(redact_value(row));
        }
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn remedy(mut self, remedy: Remedy) -> Self {
        self.remedy = Some(remedy);
        self
    }
}

fn redact_value(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(redact(&text)),
        Value::Array(items) => Value::Array(items.into_iter().map(redact_value).collect()),
        Value::Object(map) => Value::Object(
            map.into_iter()
                .map(|(key, value)| {
                    let value = if names_secret(&key) { mask(value) } else { redact_value(value) };
                    (key, value)
                })
                .collect(),
        ),
        other => other,
    }
}

/// Masks every text in what stands under a secret's name.
fn mask(value: Value) -> Value {
    match value {
        Value::String(_) => Value::String(MASK.to_owned()),
        Value::Array(items) => Value::Array(items.into_iter().map(mask).collect()),
        Value::Object(map) => Value::Object(map.into_iter().map(|(key, value)| (key, mask(value))).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn evidence_is_capped_and_redacted() {
        let mut finding = Finding::info("t.code", "m");
        for n in 0..50 {
            finding = finding.evidence(json!({"n": n, "query": "connect postgres://u:hunter2@h/db"}));
        }
        assert_eq!(finding.evidence.len(), MAX_EVIDENCE);
        assert!(!serde_json::to_string(&finding).unwrap().contains("hunter2"));
    }

    #[test]
    fn text_under_a_secrets_name_is_masked() {
        let row =
            json!({"db": {"Password": "a b", "n": 1}, "x-api-key": ["c"], "tokens_used": 3, "user": "u"});
        assert_eq!(
            Finding::info("t.code", "m").evidence(row).evidence,
            [json!({"db": {"Password": "***", "n": 1}, "x-api-key": ["***"], "tokens_used": 3, "user": "u"})]
        );
    }
}
