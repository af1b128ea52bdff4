use std::collections::{HashMap, HashSet};

use super::fixture::{all_ok, down, nothing_seen, rich};
use super::*;
use crate::status::Status;

fn at(width: usize) -> Style {
    Style::default().with_width(width)
}

#[test]
fn human_at_three_widths_and_in_colour() {
    insta::assert_snapshot!("human_100", human(&rich(), &at(100)));
    insta::assert_snapshot!("human_60", human(&rich(), &at(60)));
    insta::assert_snapshot!("human_140", human(&rich(), &at(140)));
    let colored = human(&rich(), &at(100).with_color(true));
    insta::assert_snapshot!("human_color", colored.replace('\u{1b}', "␛"));
    assert_eq!(anstyle_free(&colored), human(&rich(), &at(100)), "colour changes nothing else");
}

#[test]
fn human_in_full() {
    let mut report = rich();
    report.probes.iter_mut().for_each(|probe| probe.findings.truncate(7));
    insta::assert_snapshot!("human_full", human(&report, &at(100).with_detail(Detail::Full)));
}

#[test]
fn other_reports() {
    insta::assert_snapshot!("human_all_ok", human(&all_ok(), &at(100)));
    insta::assert_snapshot!("human_nothing_seen", human(&nothing_seen(), &at(100)));
    insta::assert_snapshot!("human_down", human(&down(), &at(100)));
    insta::assert_snapshot!("markdown_all_ok", markdown(&all_ok()));
    insta::assert_snapshot!("markdown_nothing_seen", markdown(&nothing_seen()));
    insta::assert_snapshot!("nagios_all_ok", nagios(&all_ok()));
    insta::assert_snapshot!("nagios_nothing_seen", nagios(&nothing_seen()));
}

#[test]
fn formats_for_programs_and_tickets() {
    let mut report = rich();
    insta::assert_snapshot!("markdown", markdown(&report));
    insta::assert_snapshot!("nagios", nagios(&report));
    insta::assert_snapshot!("openmetrics", openmetrics(&report));
    report.probes.iter_mut().for_each(|probe| probe.findings.truncate(1));
    insta::assert_snapshot!("json", json(&report));
}

#[test]
fn json_read_back_is_the_same_report() {
    for report in [rich(), all_ok(), nothing_seen(), down()] {
        let back: HealthReport = serde_json::from_str(&json(&report)).unwrap();
        assert_eq!(back, report);
    }
}

#[test]
fn a_value_that_is_not_a_number_is_null_in_json_and_unknown_everywhere() {
    let mut report = all_ok();
    report.probes[1].measurements[0].value = f64::NAN;
    report.probes[1].status = Status::Unknown;
    let back: HealthReport = serde_json::from_str(&json(&report)).unwrap();
    assert!(back.probes[1].measurements[0].value.is_nan());
    assert!(human(&report, &at(100)).contains("used could not be measured"));
    let schema = serde_json::to_value(schemars::schema_for!(crate::Measurement)).unwrap();
    assert_eq!(schema["properties"]["value"]["type"], serde_json::json!(["number", "null"]));
    assert!(schema["required"].as_array().unwrap().contains(&"value".into()));
    assert!(nagios(&report).contains("'main.pg.connections.used'=U"));
    assert!(openmetrics(&report).contains("unit=\"percent\"} NaN\n"));
}

#[test]
fn no_control_character_reaches_a_reader() {
    let harmless = |c: char| c == '\n' || !c.is_control();
    for (name, text) in [
        ("human", human(&rich(), &at(100))),
        ("full", human(&rich(), &at(80).with_detail(Detail::Full))),
        ("markdown", markdown(&rich())),
        ("nagios", nagios(&rich())),
    ] {
        assert!(text.chars().all(harmless), "{name}");
    }
}

#[test]
fn statements_stay_whole_and_prose_fits() {
    let report = rich();
    let statement = "ALTER TABLE public.orders ALTER COLUMN id TYPE bigint, ALTER COLUMN parent_id TYPE bigint, \
                     ALTER COLUMN replaced_by_order_id TYPE bigint;";
    for width in [20, 40, 60, 80, 100, 140, 160, 200] {
        let text = human(&report, &at(width));
        assert!(text.lines().any(|line| line.trim().trim_start_matches("next: ") == statement), "{width}");
        if width < 60 {
            continue;
        }
        for line in text.lines().filter(|line| !line.contains(statement)) {
            assert!(textwrap::core::display_width(line) <= width, "{width}: {line}");
        }
    }
}

#[test]
fn each_object_and_each_status_shows() {
    let report = rich();
    let text = human(&report, &at(100).with_detail(Detail::Full));
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for result in &report.probes {
        assert!(flat.contains(&result.probe), "{}", result.probe);
        for object in result.findings.iter().filter_map(|finding| finding.object.as_deref()) {
            let object = super::text::line(object).split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(flat.contains(&object), "{object}");
        }
    }
}

#[test]
fn a_status_that_nothing_explains_still_shows() {
    let mut report = all_ok();
    report.probes[2].status = Status::Critical;
    assert!(human(&report, &at(100)).contains("CRITICAL  pg.blocking"));
    assert!(nagios(&report).contains("CRITICAL pg.blocking main: nobody waits"));
}

#[test]
fn perfdata_keeps_to_the_guidelines() {
    let text = nagios(&rich());
    let first = text.lines().next().unwrap();
    let (_, data) = first.split_once('|').unwrap();
    assert_eq!(text.matches('|').count(), 1, "one sign starts the only performance data");
    let mut labels = HashSet::new();
    let mut rest = data;
    while let Some(quoted) = rest.trim_start().strip_prefix('\'') {
        let (label, tail) = quoted.split_once("'=").unwrap();
        assert!(!label.contains(['\'', '=']) && labels.insert(label), "{label}");
        let (point, more) = tail.split_once(' ').unwrap_or((tail, ""));
        let fields: Vec<&str> = point.split(';').collect();
        let number = fields[0].trim_end_matches(['s', '%', 'B', 'c']);
        assert!(number.parse::<f64>().is_ok() || number == "U", "{point}");
        assert!(
            fields.len() <= 5 && fields[1..].iter().all(|f| f.chars().all(|c| "0123456789.:~@-".contains(c)))
        );
        rest = more;
    }
    assert_eq!(rest, "");
    assert!(data.contains("'db1.host.disk.free{mount:/}'=54%;20:;10:;0;100"));
    assert!(data.contains("'main.pg.reachable.latency'=0.0024s;0.25;1 "));
}

/// Reads OpenMetrics as strictly as the format is written: every sample behind its family's metadata, no family
/// twice, no label set twice, well-formed names, labels and numbers, one end.
fn parse_openmetrics(text: &str) -> HashMap<String, usize> {
    let body = text.strip_suffix("# EOF\n").expect("ends with # EOF");
    let mut families: HashMap<String, usize> = HashMap::new();
    let mut current = String::new();
    let mut samples = HashSet::new();
    for line in body.lines() {
        if let Some(metadata) = line.strip_prefix("# ") {
            let mut words = metadata.splitn(3, ' ');
            let (kind, name, value) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
            match kind {
                "TYPE" => {
                    assert_eq!(value, "gauge");
                    assert!(families.insert(name.to_owned(), 0).is_none(), "{name} comes twice");
                    current = name.to_owned();
                }
                "UNIT" => assert!(name.ends_with(&format!("_{value}")), "{name} does not end in its unit"),
                "HELP" => assert!(!value.is_empty()),
                other => panic!("{other} is no metadata"),
            }
            assert_eq!(name, current);
            assert_eq!(families[name], 0, "metadata behind a sample");
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        assert!(["NaN", "+Inf", "-Inf"].contains(&value) || value.parse::<f64>().is_ok(), "{line}");
        let (name, labels) = series.split_once('{').unwrap();
        assert_eq!(name, current, "a sample of another family");
        assert!(samples.insert(series.to_owned()), "{series} comes twice");
        parse_labels(labels);
        *families.get_mut(name).unwrap() += 1;
    }
    families
}

fn parse_labels(text: &str) {
    let mut names = HashSet::new();
    let mut rest = text;
    loop {
        let (name, tail) = rest.split_once("=\"").unwrap();
        assert!(names.insert(name), "{name} comes twice in {text}");
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !name.starts_with("__"));
        assert!(!name.starts_with(|c: char| c.is_ascii_digit()));
        let mut escaped = false;
        let end = tail
            .find(|c| {
                let ends = c == '"' && !escaped;
                assert!(!escaped || ['\\', 'n', '"'].contains(&c), "{text}");
                escaped = c == '\\' && !escaped;
                ends
            })
            .unwrap();
        match &tail[end + 1..] {
            "}" => return,
            more => rest = more.strip_prefix(',').unwrap(),
        }
    }
}

#[test]
fn openmetrics_is_well_formed() {
    let mut report = rich();
    report.service = "quo\"te\\back\nline".to_owned();
    let odd = &mut report.probes[1].measurements[1];
    for key in ["target", "service", "1st key", "__name__", "dir-ection", "direction", "ünit", ""] {
        odd.labels.insert(key.to_owned(), format!("{key}\n\"\\"));
    }
    let twin = report.probes[0].clone();
    report.probes.push(twin);
    let families = parse_openmetrics(&openmetrics(&report));
    assert_eq!(families["ops_health_score"], 1);
    assert_eq!(families["ops_probe_status"], (report.probes.len() - 1) * 5, "the twin is left out");
    assert_eq!(families["ops_findings"], 6);
    for report in [all_ok(), nothing_seen(), down()] {
        parse_openmetrics(&openmetrics(&report));
    }
    assert!(!openmetrics(&nothing_seen()).contains("ops_health_score"));
}

#[test]
fn no_probe_that_applied_is_no_good_news() {
    let mut report = all_ok();
    report.probes.retain(|probe| probe.status == Status::NotApplicable);
    let report = HealthReport::new(report.service, report.at, report.probes, report.cost);
    assert_eq!(report.status, Status::Unknown);
    assert!(human(&report, &at(100)).contains("UNKNOWN   score: cannot be told"));
    assert!(nagios(&report).starts_with("UNKNOWN: "));
}

/// `text` without its colours.
fn anstyle_free(text: &str) -> String {
    let mut parts = text.split('\u{1b}');
    let mut out = parts.next().unwrap().to_owned();
    for part in parts {
        out.push_str(part.split_once('m').unwrap().1);
    }
    out
}
