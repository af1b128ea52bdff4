//! Names and strings from a configuration, as SQL writes them. What comes from a server is quoted by the server.

/// A name: quoted where it is not plain lower case, or a keyword that a role or a database is likely to be called.
pub(crate) fn ident(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && !matches!(
            name,
            "user" | "public" | "all" | "none" | "session_user" | "current_user" | "current_role"
        );
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
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
        for (name, expected) in [("app", "app"), ("user", "\"user\""), ("My\"Role", "\"My\"\"Role\"")] {
            assert_eq!(ident(name), expected);
        }
    }

    #[test]
    fn a_string_ends_where_it_ends() {
        for (text, expected) in [("a", "'a'"), ("it's", "'it''s'"), (r"\'; --", r"E'\\''; --'")] {
            assert_eq!(literal(text), expected);
        }
    }
}
