use crate::ops;

#[test]
fn every_command_describes_itself() {
    for (name, command) in [
        ("ops", &[][..]),
        ("init", &["init"]),
        ("check", &["check"]),
        ("explain", &["explain"]),
        ("config", &["config"]),
        ("config_check", &["config", "check"]),
        ("config_show", &["config", "show"]),
        ("config_schema", &["config", "schema"]),
        ("demo", &["demo"]),
    ] {
        let said = ops(&[command, &["--help"]].concat());
        assert_eq!((said.code, &*said.stderr), (Some(0), ""), "{name}");
        let text: Vec<_> = said.stdout.lines().map(str::trim_end).collect();
        insta::assert_snapshot!(name, text.join("\n"));
    }
    let short = ops(&["check", "-h"]);
    insta::assert_snapshot!("check_short", short.stdout);
}

#[test]
fn the_version_is_the_packages() {
    assert_eq!(ops(&["--version"]).stdout, concat!("ops ", env!("CARGO_PKG_VERSION"), "\n"));
}
