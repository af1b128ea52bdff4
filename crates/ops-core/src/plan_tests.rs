use super::*;

fn draft() -> Draft<Value> {
    let estimate = Estimate { duration: Some(Duration::from_millis(1500)), rows: Some(3), bytes: None };
    Draft::new("7312/app", json!({"b": [1, 2.5], "a": {"z": 1.1e-7, "y": "é\n"}}))
        .action(
            Action::new("DROP INDEX t_a2", Effect::Reversible).undone_by("CREATE INDEX").estimate(estimate),
        )
        .check(Check::new("no long transaction", CheckOutcome::Passed, "the oldest is 2 s old"))
}

fn read(document: &Value) -> Plan {
    serde_json::from_value(document.clone()).unwrap()
}

#[test]
fn a_plan_survives_its_journey_through_text() {
    let plan = draft().seal("t.drop").unwrap();
    let back: Plan = serde_json::from_str(&serde_json::to_string_pretty(&plan).unwrap()).unwrap();
    assert_eq!(back, plan);
    back.intact().unwrap();
}

#[test]
fn floats_of_a_payload_come_back_bit_by_bit() {
    // Without serde_json's `float_roundtrip` some of these come back one unit in the last place away, and the
    // plan would be refused as changed.
    let mut bits = 1_u64;
    let numbers: Vec<f64> = (0..2000)
        .map(|_| {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            f64::from_bits(bits)
        })
        .filter(|number| number.is_finite())
        .collect();
    let plan = Draft::new("x", numbers).seal("t.floats").unwrap();
    let back: Plan = serde_json::from_str(&serde_json::to_string(&plan).unwrap()).unwrap();
    back.intact().unwrap();
}

#[test]
fn the_hash_covers_what_is_done_and_not_what_was_seen() {
    let document = serde_json::to_value(draft().seal("t.drop").unwrap()).unwrap();
    for (pointer, value, covered) in [
        ("/schema", json!("ops.plan/2"), true),
        ("/task", json!("t.other"), true),
        ("/target", json!("7313/app"), true),
        ("/actions/0/statement", json!("DROP TABLE t"), true),
        ("/actions/0/effect", json!("irreversible"), true),
        ("/actions/0/undo", json!("nothing"), true),
        ("/actions", json!([]), true),
        ("/preflight/0/outcome", json!("warned"), true),
        ("/preflight", json!([]), true),
        ("/payload/a/y", json!("e"), true),
        ("/payload/b/0", json!(2), true),
        ("/hash", json!("0".repeat(64)), true),
        ("/actions/0/estimate/rows", json!(9_000), false),
        ("/preflight/0/seen", json!("the oldest is 3 s old"), false),
    ] {
        let mut changed = document.clone();
        *changed.pointer_mut(pointer).unwrap() = value;
        let refused = read(&changed).intact().err().map(|error| error.kind());
        assert_eq!(refused, covered.then_some(ErrorKind::Refused), "{pointer}");
    }
}

#[test]
fn a_field_that_the_hash_would_not_cover_is_refused() {
    let mut document = serde_json::to_value(draft().seal("t.drop").unwrap()).unwrap();
    document["note"] = json!("x");
    assert!(serde_json::from_value::<Plan>(document).is_err());
}

#[test]
fn the_hash_stays_what_it_is() {
    // Stored plans and confirmations in scripts depend on it: a change here needs a new schema number.
    let plan = draft().seal("t.drop").unwrap();
    assert_eq!(plan.hash().short(), "9b4e5a2e47bc");
}

#[test]
fn canonical_json_sorts_keys_at_every_depth() {
    let mut text = String::new();
    write_canonical(&json!({"b": {"d": 1, "c": [{"z": null, "y": "\""}]}, "a": true}), &mut text);
    assert_eq!(text, r#"{"a":true,"b":{"c":[{"y":"\"","z":null}],"d":1}}"#);
}

#[test]
fn a_hash_is_named_by_twelve_digits_at_least() {
    let hash: PlanHash = format!("0123456789ab{}", "c".repeat(52)).parse().unwrap();
    for (given, named) in [
        ("0123456789ab", true),
        ("0123456789AB", true),
        (hash.as_str(), true),
        ("0123456789a", false),
        ("", false),
        ("0123456789ac", false),
    ] {
        assert_eq!(hash.is_named_by(given), named, "{given:?}");
    }
    assert!("0123".parse::<PlanHash>().is_err());
    assert!("é".repeat(32).parse::<PlanHash>().is_err());
}

#[test]
fn a_plan_is_as_hard_to_undo_as_its_hardest_action() {
    let plan = draft().action(Action::new("DROP TABLE", Effect::Irreversible)).seal("t.drop").unwrap();
    assert_eq!(plan.effect(), Effect::Irreversible);
    assert_eq!(Draft::new("x", ()).seal("t.none").unwrap().effect(), Effect::ReadOnly);
}
