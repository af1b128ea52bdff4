//! Names and strings from a configuration, as SQL writes them. What comes from a server is quoted by the server.

/// What SQL takes for a word of its own where a name is expected: PostgreSQL 18's reserved keywords, those reserved
/// except as names of functions or types included (documentation, appendix C), and the names that roles cannot have.
const KEYWORDS: &str = " all analyse analyze and any array as asc asymmetric authorization binary both case cast check \
     collate collation column concurrently constraint create cross current_catalog current_date current_role \
     current_schema current_time current_timestamp current_user default deferrable desc distinct do else end except \
     false fetch for foreign freeze from full grant group having ilike in initially inner intersect into is isnull join \
     lateral leading left like limit localtime localtimestamp natural none not notnull null offset on only or order \
     outer overlaps placing primary public references returning right select session_user similar some symmetric \
     system_user table tablesample then to trailing true union unique user using variadic verbose when where window \
     with ";

/// A name: quoted where it is not plain lower case, or a keyword.
pub(crate) fn ident(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && !KEYWORDS.contains(&format!(" {name} "));
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// The body of a `DO`, between dollars that nothing in it can end.
pub(crate) fn dollar(body: &str) -> String {
    let mut tag = "$ops$".to_owned();
    let mut number = 0;
    while body.contains(&tag) {
        number += 1;
        tag = format!("$ops{number}$");
    }
    format!("{tag} {body} {tag}")
}

/// A string. With a backslash in it, the escape syntax means the same whatever `standard_conforming_strings` says.
pub(crate) fn literal(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    match text.contains('\\') {
        true => format!("E'{}'", doubled.replace('\\', "\\\\")),
        false => format!("'{doubled}'"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_are_quoted() {
        for (name, expected) in [
            ("app", "app"),
            ("user", "\"user\""),
            ("order", "\"order\""),
            ("orders", "orders"),
            ("My\"Role", "\"My\"\"Role\""),
        ] {
            assert_eq!(ident(name), expected);
        }
    }

    #[test]
    fn a_body_ends_where_it_ends() {
        assert_eq!(dollar("BEGIN END"), "$ops$ BEGIN END $ops$");
        assert_eq!(dollar("'$ops$; $ops1$'"), "$ops2$ '$ops$; $ops1$' $ops2$");
    }

    #[test]
    fn a_string_ends_where_it_ends() {
        for (text, expected) in [("a", "'a'"), ("it's", "'it''s'"), (r"\'; --", r"E'\\''; --'")] {
            assert_eq!(literal(text), expected);
        }
    }
}
