//! For tickets: GitHub-flavoured Markdown.

use super::text;
use super::view::{self, Cluster, Entry};
use crate::health::HealthReport;
use crate::status::Status;
use crate::words::count;

/// Rows of evidence in a ticket.
const EVIDENCE: usize = 10;

/// For a ticket: a table of what is wrong, what to do about each, what could not be seen, the groups.
pub fn markdown(report: &HealthReport) -> String {
    let problems = view::problems(report, view::SAME_CODE);
    let mut out = format!(
        "# {}: {}, {}\n\n{}, {} ({}), coverage {}: {}.\n",
        view::word(report.status),
        plain(&report.service),
        view::score(report),
        view::time(report),
        count(view::targets(report).len() as f64, "target", "targets"),
        view::targets(report).into_iter().map(code).collect::<Vec<_>>().join(", "),
        text::share(report.coverage),
        view::tally(report).join(", "),
    );
    overview(&mut out, &problems);
    actions(&mut out, &problems);
    unseen(&mut out, report);
    infos(&mut out, report);
    groups(&mut out, report);
    out.push_str(&format!("\nCost: {}.\n", view::cost(report)));
    out
}

fn overview(out: &mut String, problems: &[Cluster<'_>]) {
    if problems.is_empty() {
        return;
    }
    out.push_str("\n## Findings\n\n");
    row(out, &["", "Severity", "Probe", "Where", "Object", "What"].map(str::to_owned));
    rule(out, 6);
    let mut number = 0;
    for cluster in problems {
        let severity = view::word(cluster.status);
        for entry in &cluster.entries {
            number += 1;
            let object = entry.object.as_deref().map(code).unwrap_or_default();
            let cells = [
                number.to_string(),
                severity.to_owned(),
                code(&entry.result.probe),
                code(&entry.place()),
                object,
                plain(&entry.message),
            ];
            row(out, &cells);
        }
        if cluster.more > 0 {
            let rest = format!("… and {} more {}", cluster.more, code(cluster.entries[0].code));
            row(out, &[String::new(), severity.into(), String::new(), String::new(), String::new(), rest]);
        }
    }
}

fn actions(out: &mut String, problems: &[Cluster<'_>]) {
    if problems.is_empty() {
        return;
    }
    out.push_str("\n## What to do\n");
    let mut number = 1;
    for cluster in problems {
        action(out, number, &cluster.entries);
        number += cluster.entries.len();
    }
}

/// What to do about findings of one code: what is the same for several is said once.
fn action(out: &mut String, number: usize, entries: &[Entry<'_>]) {
    let (numbers, about) = match entries {
        [entry] => (number.to_string(), format!(": {}", about(entry))),
        several => (format!("{number} to {}", number + several.len() - 1), String::new()),
    };
    out.push_str(&format!("\n### {numbers}. {}{about}\n", code(entries[0].code)));
    let mut advice: Vec<&str> = entries.iter().filter_map(|entry| entry.advice.as_deref()).collect();
    advice.dedup();
    for advice in advice {
        out.push_str(&format!("\n{}\n", plain(advice)));
    }
    let mut commands: Vec<&[String]> = entries.iter().map(|entry| entry.next.command.as_slice()).collect();
    commands.dedup();
    out.push('\n');
    fence(out, &commands.concat());
    let by_hand: Vec<&[String]> = entries.iter().filter_map(|entry| entry.next.by_hand.as_deref()).collect();
    if !by_hand.is_empty() {
        out.push_str("\nBy hand:\n\n");
        fence(out, &by_hand.concat());
    }
    for entry in entries.iter().filter(|entry| !entry.evidence.is_empty()) {
        evidence(out, entry);
    }
}

/// `object on place`, or the place.
fn about(entry: &Entry<'_>) -> String {
    let place = code(&entry.place());
    match &entry.object {
        Some(object) => format!("{} on {place}", code(object)),
        None => place,
    }
}

fn evidence(out: &mut String, entry: &Entry<'_>) {
    out.push_str(&format!("\nEvidence for {}:\n\n", about(entry)));
    let shown = entry.evidence.len().min(EVIDENCE);
    for row in &entry.evidence[..shown] {
        out.push_str(&format!("- {}\n", code(&view::evidence(row))));
    }
    if entry.evidence.len() > shown {
        out.push_str(&format!(
            "- … and {}\n",
            count((entry.evidence.len() - shown) as f64, "more row", "more rows")
        ));
    }
}

fn unseen(out: &mut String, report: &HealthReport) {
    let hidden = view::hidden(report);
    if hidden.is_empty() {
        return;
    }
    out.push_str("\n## Not seen\n\n");
    row(out, &["Where", "Probes", "Why"].map(str::to_owned));
    rule(out, 3);
    for cause in &hidden {
        let probes: Vec<String> = cause.probes.iter().map(|probe| code(probe)).collect();
        row(out, &[code(&cause.place), probes.join(", "), plain(&cause.cause)]);
    }
    for cause in &hidden {
        if let Some(fix) = &cause.fix {
            out.push_str(&format!("\nOn {}:\n\n", code(&cause.place)));
            fence(out, fix);
        }
    }
}

fn infos(out: &mut String, report: &HealthReport) {
    let infos = view::infos(report, 1);
    if infos.is_empty() {
        return;
    }
    out.push_str("\n## To know\n\n");
    for cluster in &infos {
        let entry = &cluster.entries[0];
        let more = if cluster.more > 0 { format!(" (and {} more)", cluster.more) } else { String::new() };
        let unnamed = entry.object.as_deref().filter(|object| !entry.message.contains(object));
        let object = unnamed.map(|object| format!(" {}", code(object))).unwrap_or_default();
        let (probe, place) = (code(&entry.result.probe), code(&entry.place()));
        out.push_str(&format!("- {probe} on {place}:{object} {}{more}\n", plain(&entry.message)));
    }
}

fn groups(out: &mut String, report: &HealthReport) {
    let groups = view::groups(report);
    if groups.is_empty() {
        return;
    }
    out.push_str("\n## Groups\n\n");
    row(out, &["Group", "OK", "Points lost"].map(str::to_owned));
    rule(out, 3);
    for group in groups {
        let lost = report.points_lost.iter().find(|lost| lost.group == group.name);
        let lost = lost.map_or_else(String::new, |lost| lost.points.to_string());
        row(out, &[plain(group.name), format!("{} of {}", group.ok, group.of), lost]);
    }
    let aside = report.count(Status::NotApplicable);
    if aside > 0 {
        out.push_str(&format!("\nNot applicable: {}.\n", count(aside as f64, "probe", "probes")));
    }
}

/// A row. A pipe ends a cell wherever it stands, also in a code span.
fn row(out: &mut String, cells: &[String]) {
    for cell in cells {
        out.push_str("| ");
        out.push_str(&cell.replace('|', "\\|"));
        if !cell.is_empty() {
            out.push(' ');
        }
    }
    out.push_str("|\n");
}

fn rule(out: &mut String, columns: usize) {
    out.push_str(&"|---".repeat(columns));
    out.push_str("|\n");
}

/// Prose that stays prose: nothing in it is markup, a link or an HTML tag.
fn plain(text: &str) -> String {
    let text = text::line(text);
    let mut out = String::with_capacity(text.len());
    let mut before = ' ';
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let inside = before.is_alphanumeric() && chars.peek().is_some_and(|next| next.is_alphanumeric());
        match c {
            '\\' | '`' | '*' | '[' | ']' | '<' | '>' | '~' => out.extend(['\\', c]),
            // At its start a line can be a heading, an item or a rule.
            '#' | '-' | '+' | '=' if out.is_empty() => out.extend(['\\', c]),
            '&' => out.push_str("&amp;"),
            // An underscore inside a word is one.
            '_' if !inside => out.extend(['\\', c]),
            _ => out.push(c),
        }
        before = c;
    }
    out
}

/// A code span, with as many backticks as its text needs.
fn code(text: &str) -> String {
    let text = text::line(text);
    if text.is_empty() {
        return String::new();
    }
    let ticks = "`".repeat(longest_run(&text) + 1);
    let pad = if text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    format!("{ticks}{pad}{text}{pad}{ticks}")
}

fn fence(out: &mut String, lines: &[String]) {
    let longest = lines.iter().map(|line| longest_run(line)).max().unwrap_or_default();
    let ticks = "`".repeat((longest + 1).max(3));
    let first = lines.first().and_then(|line| line.split_whitespace().next()).unwrap_or_default();
    let language = match first {
        "ops" => "sh",
        keyword if !keyword.is_empty() && keyword.chars().all(|c| c.is_ascii_uppercase()) => "sql",
        _ => "",
    };
    out.push_str(&format!("{ticks}{language}\n{}\n{ticks}\n", lines.join("\n")));
}

fn longest_run(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or_default()
}
