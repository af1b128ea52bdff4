//! For a person at a terminal, in the order of the questions: how bad, what is worst, what do I type next, what
//! could not be seen, what is fine.

use super::layout::{Page, Tone};
use super::view::{self, Cluster, Entry, Hidden, Next};
use super::{Detail, Style, text};
use crate::health::HealthReport;
use crate::score::is_out_of_reach;
use crate::status::Status;
use crate::words::count;

/// Things worth knowing that are listed, unless all are asked for.
const INFOS: usize = 5;
/// Names listed for one cause, unless all are asked for.
const NAMES: usize = 12;

/// For a person at a terminal, in the order of the questions: how bad (status, score, coverage), what is worst,
/// what to type next, what could not be seen and why, what is worth knowing, what is fine, what the check cost.
///
/// ```
/// use ops_core::render::{Style, human};
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let report = ops_core::ProbeSet::new("shop").run(&ops_core::Context::new()).await;
/// assert!(human(&report, &Style::default()).contains("no probe ran"));
/// # });
/// ```
pub fn human(report: &HealthReport, style: &Style) -> String {
    let full = style.detail == Detail::Full;
    let cap = if full { usize::MAX } else { view::SAME_CODE };
    let problems = view::problems(report, cap);
    let hidden: Vec<Unseeing> = view::hidden(report).into_iter().map(|h| Unseeing::new(h, full)).collect();
    let infos = view::infos(report, if full { usize::MAX } else { 1 });
    let shown_infos = if full { infos.len() } else { infos.len().min(INFOS) };

    let entries = problems.iter().chain(&infos[..shown_infos]).flat_map(|cluster| &cluster.entries);
    let mut rows: Vec<_> = entries.map(|entry| (text::line(&entry.result.probe), entry.place())).collect();
    rows.extend(hidden.iter().map(|hidden| (hidden.subject.clone(), hidden.cause.place.clone())));
    if full {
        rows.extend(report.probes.iter().map(|result| (text::line(&result.probe), view::place_of(result))));
    }
    let mut page = Page::new(style, &rows);

    head(&mut page, report);
    verdict(&mut page, report);
    section(&mut page, &problems, |page, cluster| problem(page, cluster, full));
    section(&mut page, &hidden, unknown);
    section(&mut page, &infos[..shown_infos], |page, cluster| info(page, cluster, full));
    if !full && !infos.is_empty() {
        let rest = match infos.len() - shown_infos {
            0 => String::new(),
            rest => format!("… and {rest} more to know. "),
        };
        page.text(&format!("{rest}Why: ops explain PROBE. All: ops check -v"));
    }
    if full {
        checked(&mut page, report);
    }
    page.blank();
    foot(&mut page, report);
    page.finish()
}

/// Writes items below a blank line, and nothing for none.
fn section<T>(page: &mut Page, items: &[T], mut write: impl FnMut(&mut Page, &T)) {
    if !items.is_empty() {
        page.blank();
    }
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            page.gap();
        }
        write(page, item);
    }
}

fn head(page: &mut Page, report: &HealthReport) {
    let service = page.paint(Tone::Heading, &text::line(&report.service));
    let size = format!(
        "{}, {}, {:.2} s",
        count(view::targets(report).len() as f64, "target", "targets"),
        count(report.probes.len() as f64, "probe", "probes"),
        report.cost.wall_ms / 1000.0
    );
    page.flow("", 2, " · ", &[service, view::time(report), size]);
    page.blank();
}

fn verdict(page: &mut Page, report: &HealthReport) {
    let mut parts = vec![
        page.paint(Tone::Status(report.status), view::word(report.status)),
        view::score(report),
        format!("coverage {}", text::share(report.coverage)),
    ];
    let tally = view::tally(report);
    if page.fits(&parts, "   ", &tally.join(", ")) {
        parts.push(tally.join(", "));
        page.list("", "   ", &parts);
    } else {
        page.list("", "   ", &parts);
        page.list("", ", ", &tally);
    }
}

fn problem(page: &mut Page, cluster: &Cluster<'_>, full: bool) {
    let word = view::word(cluster.status);
    let mut before: Option<&Entry<'_>> = None;
    for entry in &cluster.entries {
        page.entry(
            word,
            Tone::Status(cluster.status),
            &entry.result.probe,
            &entry.place(),
            &entry.sentence(),
        );
        if full {
            rows(page, entry);
        }
        // What the entry above said already is not said again.
        if let Some(advice) = &entry.advice
            && before.and_then(|b| b.advice.as_ref()) != Some(advice)
        {
            page.text(advice);
        }
        if before.map(|b| &b.next) != Some(&entry.next) {
            next(page, &entry.next);
        }
        before = Some(entry);
    }
    if cluster.more > 0 {
        let code = text::line(cluster.entries[0].code);
        // All that the report holds is told in full; the rest it has only counted.
        let how = if full { "" } else { ": ops check -v" };
        page.text(&format!("… and {} more {code}{how}", cluster.more));
    }
}

fn rows(page: &mut Page, entry: &Entry<'_>) {
    for row in entry.evidence {
        page.item(&view::evidence(row));
    }
}

fn next(page: &mut Page, next: &Next) {
    page.command("next:", &next.command);
    if let Some(by_hand) = &next.by_hand {
        page.command("by hand:", by_hand);
    }
}

/// A cause of not seeing, with what stands in the probe's column for it.
struct Unseeing {
    subject: String,
    names: Vec<String>,
    cause: Hidden,
}

impl Unseeing {
    fn new(cause: Hidden, full: bool) -> Self {
        let (subject, mut names) = match cause.probes.as_slice() {
            [single] => (single.clone(), Vec::new()),
            several => (count(several.len() as f64, "probe", "probes"), several.to_vec()),
        };
        if !full && names.len() > NAMES {
            let rest = names.len() - NAMES;
            names.truncate(NAMES);
            names.push(format!("… and {rest} more"));
        }
        Self { subject, names, cause }
    }
}

fn unknown(page: &mut Page, hidden: &Unseeing) {
    let cause = &hidden.cause;
    page.entry(
        view::word(Status::Unknown),
        Tone::Status(Status::Unknown),
        &hidden.subject,
        &cause.place,
        &cause.cause,
    );
    if !hidden.names.is_empty() {
        page.text(&hidden.names.join(", "));
    }
    if let Some(fix) = &cause.fix {
        page.command("next:", fix);
    }
}

fn info(page: &mut Page, cluster: &Cluster<'_>, full: bool) {
    for entry in &cluster.entries {
        let more = match cluster.more {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        let sentence = format!("{}{more}", entry.sentence());
        page.entry("info", Tone::Quiet, &text::line(&entry.result.probe), &entry.place(), &sentence);
        if full {
            rows(page, entry);
            if let Some(advice) = &entry.advice {
                page.text(advice);
            }
        }
    }
}

/// Every probe that is fine or does not apply, with its summary.
fn checked(page: &mut Page, report: &HealthReport) {
    for status in [Status::Ok, Status::NotApplicable] {
        let of: Vec<_> = report.probes.iter().filter(|result| result.status == status).collect();
        let word = if status == Status::Ok { "ok" } else { "n/a" };
        section(page, &of, |page, result| {
            let place = view::place_of(result);
            let summary = text::line(&result.summary);
            page.entry(word, Tone::Status(status), &text::line(&result.probe), &place, &summary);
        });
    }
}

fn foot(page: &mut Page, report: &HealthReport) {
    let mut lost: Vec<String> = report
        .points_lost
        .iter()
        .map(|lost| format!("{} {}", text::line(&lost.group), lost.points))
        .collect();
    if report.score == Some(0) && report.probes.iter().any(is_out_of_reach) {
        lost.push("and all the rest, since a target cannot be reached".to_owned());
    }
    if !lost.is_empty() {
        page.list("Points lost:", ", ", &lost);
    }
    let groups = view::groups(report);
    let fine: Vec<String> = groups
        .iter()
        .filter(|group| group.ok > 0)
        .map(|group| format!("{} {}/{}", text::line(group.name), group.ok, group.of))
        .collect();
    match groups.iter().map(|group| group.of).sum() {
        0 => page.list("Fine:", ", ", &["nothing was judged".to_owned()]),
        _ if !fine.is_empty() => page.list("Fine:", ", ", &fine),
        of => page.list("Fine:", ", ", &[format!("none of {}", count(of as f64, "probe", "probes"))]),
    }
    let aside = not_applicable(report);
    if !aside.is_empty() {
        let label = format!("Not applicable ({}):", report.count(Status::NotApplicable));
        page.list(&label, ", ", &aside);
    }
    if report.status == Status::Ok {
        let targets: Vec<String> = view::targets(report).into_iter().map(text::line).collect();
        page.list("Checked:", ", ", &targets);
    }
    page.list("Cost:", ", ", &view::cost(report).split(", ").map(str::to_owned).collect::<Vec<_>>());
}

/// The names of probes that do not apply, each with how often.
fn not_applicable(report: &HealthReport) -> Vec<String> {
    let mut names: Vec<(&str, usize)> = Vec::new();
    for result in report.probes.iter().filter(|result| result.status == Status::NotApplicable) {
        match names.iter_mut().find(|(name, _)| *name == result.probe) {
            Some((_, times)) => *times += 1,
            None => names.push((&result.probe, 1)),
        }
    }
    let name = |(name, times): (&str, usize)| match times {
        1 => text::line(name),
        _ => format!("{} ×{times}", text::line(name)),
    };
    names.into_iter().map(name).collect()
}
