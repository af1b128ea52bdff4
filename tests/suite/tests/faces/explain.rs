use ops_runbook::catalogue;
use serde_json::Value;

use crate::ops;

#[test]
fn the_index_names_every_probe() {
    let said = ops(&["explain"]);
    assert_eq!((said.code, &*said.stderr), (Some(0), ""));
    for spec in catalogue::all() {
        assert!(said.stdout.contains(&format!("  {} ", spec.name)), "{}", spec.name);
    }
    insta::assert_snapshot!("index", said.stdout);
}

#[test]
fn a_page_is_found_by_probe_and_by_code() {
    let by_probe = ops(&["explain", "pg.blocking"]);
    assert_eq!((by_probe.code, &*by_probe.stderr), (Some(0), ""));
    assert_eq!(ops(&["explain", "pg.blocking.root"]), by_probe);
    insta::assert_snapshot!("pg_blocking", by_probe.stdout);
    insta::assert_snapshot!("redis_no_ttl", ops(&["explain", "redis.no_ttl"]).stdout);
}

#[test]
fn a_name_that_does_not_exist_suggests_the_nearest() {
    for (name, nearest) in [
        ("pg.blokcing", "try: ops explain pg.blocking\n"),
        ("redis.keys.nottl", "try: ops explain redis.keys.no_ttl\n"),
        ("zzz", "try: ops explain\n"),
    ] {
        let said = ops(&["explain", name]);
        assert_eq!((said.code, &*said.stdout), (Some(64), ""));
        assert!(said.stderr.contains(name) && said.stderr.ends_with(nearest), "{}", said.stderr);
    }
}

#[test]
fn json_has_every_probe() {
    let said = ops(&["explain", "--output", "json"]);
    let document: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!((said.code, &document["schema"]), (Some(0), &Value::from("ops.explain/1")));
    let probes = document["probes"].as_array().unwrap();
    let names: Vec<_> = probes.iter().map(|probe| probe["probe"].as_str().unwrap()).collect();
    assert_eq!(names, catalogue::all().iter().map(|spec| spec.name).collect::<Vec<_>>());
    for probe in probes {
        for key in ["group", "why", "measures", "versions", "cost", "remedy"] {
            assert!(probe[key].as_str().is_some_and(|text| text.len() > 2), "{key} of {}", probe["probe"]);
        }
        assert!(probe["codes"].as_array().is_some_and(|codes| !codes.is_empty()), "{}", probe["probe"]);
    }
    let one: Value = serde_json::from_str(&ops(&["explain", "pg.rls", "-o", "json"]).stdout).unwrap();
    assert_eq!(one["probes"].as_array().unwrap().len(), 1);
}
