//! The configuration in effect, and where it came from.

use std::time::Duration;

use super::super::Override;
use super::{EXAMPLE, read};

#[test]
fn what_is_in_effect_says_where_it_came_from() {
    let mut config = read(EXAMPLE).unwrap_or_else(|errors| panic!("{errors}"));
    config.check.timeout = Duration::from_secs(10);
    // Thresholds and prose of probes belong to their crates: the two that the file sets suffice.
    let shown = config.show(&[Override::new("check.timeout", "--timeout")]);
    let sections: Vec<_> = shown
        .split("\n\n")
        .filter(|section| !section.starts_with("[thresholds.") || section.contains("pg.connections"))
        .collect();
    insta::assert_snapshot!(sections.join("\n\n"));
}

#[test]
fn what_is_shown_is_toml_of_the_same_meaning() {
    let config = read(EXAMPLE).unwrap_or_else(|errors| panic!("{errors}"));
    let shown: toml::Table = toml::from_str(&config.show(&[])).unwrap();
    assert_eq!(shown["postgres"]["main"]["url"].as_str(), Some("***"));
    assert_eq!(shown["metric"][0]["sql"].as_str(), Some(config.metrics[0].sql.as_str()));
    // With its secrets put back it reads as before.
    let again = config
        .show(&[])
        .replace("headers.authorization = \"***\"", "headers.authorization = \"x\"")
        .replace("url = \"***\"  # from the file\n", "url = \"redis://cache\"\n")
        .replace("url = \"***\"", "url = \"postgres:///d\"");
    let again = read(&again).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(again.metrics, config.metrics);
    assert_eq!(again.postgres["main"].config, config.postgres["main"].config);
    for (probe, thresholds) in &config.thresholds {
        for (name, bounds) in thresholds {
            let shown = again.thresholds[probe][name];
            assert_eq!(bounds.warning, shown.warning);
            assert_eq!(bounds.critical.or(shown.critical), shown.critical);
        }
    }
}
