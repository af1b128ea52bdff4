//! What a PostgreSQL server says when it is damaged.

use ops_core::Result;

use super::tally::Patterns;
use crate::config::PatternConfig;

/// Where a record begins in a file, which dates it: as the server writes it, or as syslog does, with the first of a
/// record's lines only (`[7-1]`; a further one is `[7-2]`, or begins with a tab that syslog writes as #011). A comma
/// behind the zone is csvlog's.
const IN_FILE: &str = concat!(
    r"^(?:[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:.]+ (?:[A-Za-z]+[^,A-Za-z0-9]|[+-][0-9:]+[^,0-9:])",
    r"|(?:[A-Z][a-z]{2} [ 0-9][0-9] [0-9:]+|[0-9]{4}-[0-9]{2}-[0-9]{2}T\S+) \S+ \S+: (?:\[[0-9]+-1\] |[^\[#]))"
);
/// And in a journal, which need not repeat the date.
const IN_JOURNAL: &str = r"^(?:[^\s\[]|\[(?:[^0-9]|[0-9]+(?:[^-0-9]|-1\])))";
/// The prefix that log_line_prefix describes: up to the first colon that two blanks follow. It ends the severity;
/// behind it stands what users may have written.
const PREFIX: &str = r"(?:[^:]|:[^ ]|: [^ ])*(?:: ?|(?-u:\b))";
/// A record of csvlog up to its severity: text is quoted, and only text can hold what users have written.
const CSV: &str = concat!(
    r#"^[^,"]+,(?:"(?:[^"]|"")*")?,(?:"(?:[^"]|"")*")?,[0-9]*,(?:"[^"]*")?,[0-9a-f.]*,[0-9]*,"#,
    r#"(?:"(?:[^"]|"")*")?,[^,"]*,[^,"]*,[0-9]*,"#
);
/// One of jsonlog: within text each quote has a backslash before it.
const JSON: &str = r#"^\{"timestamp":.*"#;

/// What is counted in a PostgreSQL server's log, in each of its three formats.
pub(super) fn patterns(in_journal: bool) -> Result<Patterns> {
    let own = match in_journal {
        true => format!("(?:^|{IN_JOURNAL}{PREFIX})"),
        false => format!("{IN_FILE}{PREFIX}"),
    };
    let severity = format!(r#"{own}PANIC:  |{CSV}PANIC,|{JSON}"error_severity":"PANIC""#);
    let state =
        |code: &str| format!(r#"{own}{code}(?-u:\b)|{CSV}[^,"]*,{code},|{JSON}"state_code":"{code}""#);
    let patterns = [
        ("PANIC", severity),
        ("data corrupted (XX001)", state("XX001")),
        ("index corrupted (XX002)", state("XX002")),
    ]
    .map(|(name, regex)| PatternConfig { critical: Some(1.0), ..PatternConfig::new(name, regex) });
    Ok(Patterns::compile(&patterns)?.with_words(["PANIC", "XX001", "XX002"]))
}

#[cfg(test)]
mod tests {
    use super::super::tally::Tally;
    use super::*;
    use std::sync::LazyLock;

    fn counts(in_journal: bool, line: &str) -> [u64; 3] {
        static BOTH: LazyLock<[Patterns; 2]> =
            LazyLock::new(|| [false, true].map(|journal| patterns(journal).unwrap()));
        let mut tally = Tally::default();
        tally.add(&BOTH[usize::from(in_journal)], line);
        [tally.count(0), tally.count(1), tally.count(2)]
    }

    /// Of the default, of pgBadger's two, of Debian, of RDS, with the state, over syslog.
    const PREFIXES: [&str; 10] = [
        "2026-01-05 07:50:00.123 UTC [42] ",
        "2026-01-05 07:50:00 UTC [42]: user=app,db=shop,app=psql,client=10.0.0.1 ",
        "2026-01-05 07:50:00 UTC [42]: [7-1] user=app,db=shop,app=Zürich,client=::1 ",
        "2026-01-05 07:50:00.123 UTC [42] app@shop ",
        "2026-01-05 07:50:00 UTC:10.0.0.1(5432):app@shop:[42]:",
        "2026-01-05 07:50:00 +02: [42-7] 00000: ",
        "2026-01-05 07:50:00 UTC [42]: [7] ",
        "Jan  5 07:50:00 db1 postgres[42]: [7-1] 2026-01-05 07:50:00 UTC [42] ",
        "2026-01-05T07:50:00.123+01:00 db1 postgres[42]: [7-1] ",
        "Jan 15 07:50:00 db1 postgres[42]: 2026-01-05 07:50:00 UTC: [42-7] ",
    ];

    #[test]
    fn the_severity_is_found_behind_every_prefix() {
        for prefix in PREFIXES {
            for in_journal in [false, true] {
                let panic = format!("{prefix}PANIC:  could not write to file \"pg_wal/xlogtemp.1\"");
                assert_eq!(counts(in_journal, &panic), [1, 0, 0], "{panic}");
                for text in ["LOG:  statement: SELECT 'PANIC:  XX001'", "STATEMENT:  SELECT ',PANIC,XX002,'"]
                {
                    assert_eq!(counts(in_journal, &format!("{prefix}{text}")), [0; 3], "{prefix}{text}");
                }
                let damaged = format!("{prefix}XX001: ERROR:  invalid page in block 7");
                assert_eq!(counts(in_journal, &damaged), [0, 1, 0], "{damaged}");
            }
        }
        assert_eq!(counts(true, "PANIC:  could not locate a valid checkpoint record"), [1, 0, 0]);
        assert_eq!(counts(true, "[42] PANIC:  could not locate a valid checkpoint record"), [1, 0, 0]);
    }

    #[test]
    fn what_continues_a_statement_is_no_record() {
        for line in [
            "\t'XX001, PANIC:  only text'",
            "Jan  5 07:50:00 db1 postgres[42]: [7-2] #011'PANIC:  XX001'",
            "Jan  5 07:50:00 db1 postgres[42]: #011'PANIC:  XX001'",
            "2026-01-05T07:50:00.123+01:00 db1 postgres[42]: [17-12] PANIC:  only text",
            // As csvlog has it, which does not indent.
            "PANIC:  at the disco",
        ] {
            assert_eq!(counts(false, line), [0; 3], "{line}");
        }
        for line in ["\t'XX001, PANIC:  only text'", "[7-2] \t'PANIC:  XX001'"] {
            assert_eq!(counts(true, line), [0; 3], "{line}");
        }
    }

    #[test]
    fn csv_and_json_are_read_field_by_field() {
        let csv = |severity: &str, state: &str, message: &str| {
            format!(
                "2026-01-05 07:50:00.1 UTC,\"a\"\"b,c\",\"shop\",1,\"[local]\",6.1,1,\"SELECT\",2026-01-05 07:00:00 \
                 UTC,3/7,0,{severity},{state},\"{message}\",,,,,,,,,\"psql\",\"client backend\",,0"
            )
        };
        let bare =
            "2026-01-05 07:50:00.1 UTC,,,1,,6.1,1,,2026-01-05 07:00:00 UTC,,0,PANIC,XX000,\"x\",,,,,,,,,\"\"";
        let json = |severity: &str, state: &str, message: &str| {
            format!(
                "{{\"timestamp\":\"2026-01-05 07:50:00.1 UTC\",\"pid\":1,\"error_severity\":\"{severity}\",\
                 \"state_code\":\"{state}\",\"message\":\"{message}\"}}"
            )
        };
        for (line, expected) in [
            (bare.to_owned(), [1, 0, 0]),
            (csv("PANIC", "XX000", "x"), [1, 0, 0]),
            (csv("ERROR", "XX001", "x"), [0, 1, 0]),
            (csv("ERROR", "XX002", "x"), [0, 0, 1]),
            (csv("LOG", "00000", "SELECT ',0,PANIC,XX001,', 'PANIC:  '"), [0; 3]),
            (json("PANIC", "XX000", "x"), [1, 0, 0]),
            (json("ERROR", "XX002", "x"), [0, 0, 1]),
            (
                json(
                    "LOG",
                    "00000",
                    "{\\\"error_severity\\\":\\\"PANIC\\\",\\\"state_code\\\":\\\"XX001\\\"}",
                ),
                [0; 3],
            ),
        ] {
            assert_eq!(counts(false, &line), expected, "{line}");
        }
    }
}
