//! `ops explain`.

use ops_core::{Error, ErrorKind, ProbeSpec, Requirement, ThresholdSpec};
use ops_runbook::catalogue;
use serde_json::{Value, json};

use super::Failure;
use crate::cli::{ExplainArgs, Global, Output};
use crate::output;

pub(super) fn run(global: &Global, args: &ExplainArgs) -> Result<u8, Failure> {
    let specs = match &args.name {
        None => catalogue::all(),
        Some(name) => vec![catalogue::find(name).ok_or_else(|| unknown(name))?],
    };
    let text = match (global.output, &args.name) {
        (Output::Json, _) => format!(
            "{:#}",
            json!({ "schema": "ops.explain/1", "probes": specs.iter().map(|s| document(s)).collect::<Vec<_>>() })
        ),
        (_, None) => index(&specs),
        (_, Some(_)) => specs.iter().map(|spec| page(spec)).collect(),
    };
    output::print(&text)?;
    Ok(0)
}

fn unknown(name: &str) -> Failure {
    let error = Error::new(ErrorKind::InvalidInput, "explain")
        .because(format!("there is no probe and no code {name:?}"));
    match catalogue::nearest(name) {
        Some(nearest) => error.with_fix(format!("ops explain {nearest}")).into(),
        None => error.with_fix("ops explain").into(),
    }
}

/// One line a probe, by group.
fn index(specs: &[&ProbeSpec]) -> String {
    let column = specs.iter().map(|spec| spec.name.len()).max().unwrap_or_default() + 4;
    let mut lines = String::new();
    for group in catalogue::groups(specs) {
        lines.push_str(&format!("{group}\n"));
        for spec in specs.iter().filter(|spec| spec.group == group) {
            let why = spec.explanation.why.split_inclusive(['.', ':']).next().unwrap_or_default();
            let head = format!("  {}", spec.name);
            lines.push_str(&output::beside(&head, column, why.trim_end_matches([':', '.'])));
        }
    }
    lines.push_str("\nNext: ops explain PROBE\n");
    lines
}

fn page(spec: &ProbeSpec) -> String {
    let explanation = &spec.explanation;
    let mut page = format!("{} ({})\n\n", spec.name, spec.group);
    for (heading, text) in
        [("Why", explanation.why), ("What to do", explanation.remedy), ("Measures", explanation.measures)]
    {
        page.push_str(&section(heading, &wrap(text)));
    }
    let codes: Vec<_> =
        explanation.codes.iter().map(|(code, meaning)| format!("{code}: {meaning}")).collect();
    page.push_str(&section("Findings", &codes.iter().map(|line| wrap(line)).collect::<String>()));
    let thresholds: String = spec.thresholds.iter().map(|threshold| wrap(&describe(threshold))).collect();
    page.push_str(&section("Thresholds", if thresholds.is_empty() { "  none\n" } else { &thresholds }));
    let needs: String = spec.requires.iter().map(|requirement| wrap(&need(requirement))).collect();
    page.push_str(&section("Needs", if needs.is_empty() { "  nothing beyond a log-in\n" } else { &needs }));
    page.push_str(&section("Versions", &wrap(explanation.versions)));
    page.push_str(&section("Cost", &wrap(explanation.cost)));
    let (statements, commands): (Vec<_>, Vec<_>) =
        explanation.queries.iter().partition(|(_, query)| query.contains('\n'));
    let asked: String = commands.iter().map(|(what, command)| wrap(&format!("{command}: {what}"))).collect();
    if !asked.is_empty() {
        page.push_str(&section("Asks", &asked));
    }
    for (purpose, query) in statements {
        page.push_str(&section(&format!("Sends: {purpose}"), &indent(query)));
    }
    page
}

fn section(heading: &str, body: &str) -> String {
    format!("{heading}\n{}\n", body.trim_end_matches('\n').to_owned() + "\n")
}

fn wrap(text: &str) -> String {
    output::wrap("  ", "  ", text, output::style().width.clamp(40, 100))
}

fn indent(query: &str) -> String {
    query.trim_matches('\n').lines().map(|line| format!("  {line}\n")).collect()
}

fn describe(threshold: &ThresholdSpec) -> String {
    let format = |value| threshold.unit.format(value);
    let bounds = match (threshold.warning, threshold.critical) {
        (None, None) => "Judged only where ops.toml gives a bound".to_owned(),
        (Some(warning), None) => format!("Warning at {}, never critical", format(warning)),
        (None, Some(critical)) => format!("Critical at {}", format(critical)),
        (Some(warning), Some(critical)) => {
            format!("Warning at {}, critical at {}", format(warning), format(critical))
        }
    };
    format!("{}: {}. {bounds}. Source: {}.", threshold.name, threshold.meaning, threshold.source)
}

fn need(requirement: &Requirement) -> String {
    match requirement {
        Requirement::Role(role) => format!("the rights of {role}: GRANT {role} TO ROLE;"),
        Requirement::Grant { what, statement } => format!("{what}: {}", statement.replace("{role}", "ROLE")),
        Requirement::Extension(name) => format!("the extension {name}: CREATE EXTENSION {name};"),
        Requirement::ServerVersion(version) => format!("a server of version {version} or later"),
        Requirement::Command(command) => {
            format!("the right to run {}", command.to_uppercase().replace('|', " "))
        }
        _ => String::new(),
    }
}

fn document(spec: &ProbeSpec) -> Value {
    let pairs = |pairs: &[(&str, &str)], key: &str, value: &str| -> Vec<Value> {
        pairs.iter().map(|(a, b)| json!({ key: a, value: b })).collect()
    };
    let explanation = &spec.explanation;
    json!({
        "probe": spec.name, "group": spec.group, "why": explanation.why, "measures": explanation.measures,
        "codes": pairs(explanation.codes, "code", "meaning"),
        "queries": pairs(explanation.queries, "purpose", "text"),
        "thresholds": spec.thresholds.iter().map(|t| json!({
            "name": t.name, "meaning": t.meaning, "unit": t.unit, "direction": t.direction,
            "warning": t.warning, "critical": t.critical, "source": t.source,
        })).collect::<Vec<_>>(),
        "needs": spec.requires.iter().map(need).collect::<Vec<_>>(),
        "versions": explanation.versions, "cost": explanation.cost, "remedy": explanation.remedy,
    })
}
