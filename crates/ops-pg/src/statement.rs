//! Other people's statements, as evidence: short, on one line, and without the data in them.

/// Characters of a statement that are shown.
const LENGTH: usize = 200;

/// A statement on one line, its string literals masked (they are rows, and sometimes passwords), cut to
/// 200 characters.
pub(crate) fn digest(statement: &str) -> String {
    let mut out = String::with_capacity(statement.len().min(LENGTH + 8));
    let mut rest = statement.trim();
    while let Some(c) = rest.chars().next() {
        if out.chars().count() >= LENGTH {
            out.push('…');
            break;
        }
        rest = match literal(rest) {
            Some(end) => {
                out.push_str("'…'");
                &rest[end..]
            }
            None if c.is_whitespace() => {
                out.push(' ');
                rest.trim_start()
            }
            None => {
                out.push(c);
                &rest[c.len_utf8()..]
            }
        };
    }
    out
}

/// Where the string literal that `text` begins with ends; one that was cut off ends with the text.
fn literal(text: &str) -> Option<usize> {
    if let Some(body) = text.strip_prefix('\'') {
        let mut from = 0;
        while let Some(quote) = body[from..].find('\'') {
            let after = from + quote + 1;
            let escaped = body[after..].starts_with('\'') || body[..after - 1].ends_with('\\');
            if !escaped {
                return Some(after + 1);
            }
            from = if body[after..].starts_with('\'') { after + 1 } else { after };
        }
        return Some(text.len());
    }
    let tag_end = text.strip_prefix('$')?.find('$')? + 2;
    let tag = &text[..tag_end];
    let named = tag[1..tag_end - 1].chars().all(|c| c.is_alphanumeric() || c == '_');
    let parameter = tag[1..].starts_with(|c: char| c.is_ascii_digit());
    if !named || parameter {
        return None;
    }
    Some(text[tag_end..].find(tag).map_or(text.len(), |at| tag_end + at + tag_end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_masked_and_lines_joined() {
        for (statement, expected) in [
            (
                "SELECT *\n  FROM t\n WHERE name = 'O''Brien' AND n = 3",
                "SELECT * FROM t WHERE name = '…' AND n = 3",
            ),
            ("ALTER ROLE x PASSWORD 'hunter2", "ALTER ROLE x PASSWORD '…'"),
            ("DO $x$ secret $x$ LANGUAGE sql", "DO '…' LANGUAGE sql"),
            ("SELECT $1, $2", "SELECT $1, $2"),
            (r"SELECT E'a\'b', c", "SELECT E'…', c"),
        ] {
            assert_eq!(digest(statement), expected);
        }
        assert_eq!(digest(&"x".repeat(500)).chars().count(), LENGTH + 1);
    }
}
