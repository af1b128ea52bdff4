//! Other people's statements, as evidence: short, on one line, and without the data in them.

/// Characters of a statement that are shown.
const LENGTH: usize = 200;

/// Digits from which a number is masked: what is shorter is a LIMIT, a year or a small key, and tells nobody's card,
/// account or telephone.
const DIGITS: usize = 6;

/// A statement on one line, its string literals and long numbers masked (they are rows, and sometimes passwords), its
/// comments left out, cut to 200 characters.
pub(crate) fn digest(statement: &str) -> String {
    let mut out = String::with_capacity(statement.len().min(LENGTH + 8));
    let mut rest = statement.trim();
    while let Some(c) = rest.chars().next() {
        if out.chars().count() >= LENGTH {
            out.push('…');
            break;
        }
        // E is a prefix where it stands alone, and a dollar begins a quote where no name goes on with it.
        let alone = out.strip_suffix(['E', 'e']).is_some_and(|before| !before.ends_with(in_name));
        let quoted = literal(rest, alone).filter(|_| c != '$' || !out.ends_with(in_name));
        rest = if let Some(end) = quoted {
            out.push_str("'…'");
            &rest[end..]
        } else if let Some(end) = comment(rest) {
            // As to the server, a comment is a blank.
            if !out.is_empty() && !out.ends_with(' ') {
                out.push(' ');
            }
            rest[end..].trim_start()
        } else if let Some(end) = quoted_name(rest) {
            out.push_str(&rest[..end]);
            &rest[end..]
        } else if let Some(end) = number(rest).filter(|_| !out.ends_with(in_name)) {
            let digits = rest[..end].chars().filter(char::is_ascii_hexdigit).count();
            out.push_str(if digits < DIGITS { &rest[..end] } else { "…" });
            &rest[end..]
        } else if c.is_whitespace() {
            out.push(' ');
            rest.trim_start()
        } else {
            out.push(c);
            &rest[c.len_utf8()..]
        };
    }
    out
}

/// Where the string literal that `text` begins with ends; one that was cut off ends with the text. So does one with
/// a backslash before a quote: whether that quote closes it is a setting of the session
/// (`standard_conforming_strings`), and a wrong guess would take data for SQL.
fn literal(text: &str, escapes: bool) -> Option<usize> {
    if text.starts_with('\'') {
        let end = closing(text, b'\'', escapes);
        let ambiguous = !escapes && text[..end].contains("\\'");
        return Some(if ambiguous { text.len() } else { end });
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

/// Behind the quote that closes the one at the start. A doubled quote is one inside; with `escapes`, so is one
/// behind a backslash.
fn closing(text: &str, quote: u8, escapes: bool) -> usize {
    let bytes = text.as_bytes();
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if escapes => at += 2,
            byte if byte == quote && bytes.get(at + 1) == Some(&quote) => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

/// Where the number that `text` begins with ends: `4711`, `1_000`, `12.5e3`, `0xBEEF`.
fn number(text: &str) -> Option<usize> {
    let begins = text.starts_with(|c: char| c.is_ascii_digit());
    let goes_on = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_');
    begins.then(|| text.find(|c| !goes_on(c)).unwrap_or(text.len()))
}

/// Whether a digit behind it is part of a name, or of a parameter.
fn in_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '$')
}

fn quoted_name(text: &str) -> Option<usize> {
    text.starts_with('"').then(|| closing(text, b'"', false))
}

/// Where the comment that `text` begins with ends. Block comments nest.
fn comment(text: &str) -> Option<usize> {
    if text.starts_with("--") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    let bytes = text.as_bytes();
    let (mut depth, mut at) = (0_usize, 0);
    while at < bytes.len() {
        match (bytes[at], bytes.get(at + 1)) {
            (b'/', Some(b'*')) => (depth, at) = (depth + 1, at + 2),
            (b'*', Some(b'/')) if depth > 0 => (depth, at) = (depth - 1, at + 2),
            _ if depth == 0 => return None,
            _ => at += 1,
        }
        if depth == 0 {
            return Some(at);
        }
    }
    (depth > 0).then_some(text.len())
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
            (r"SELECT E'a\\', 'hunter2'", "SELECT E'…', '…'"),
            (r"SELECT name'C:\' , 'hunter2' , 'z'", "SELECT name'…'"),
            ("SELECT 1 a$q$, 'q' = $q$ hunter2 $q$", "SELECT 1 a$q$, '…' = '…'"),
            (r"SELECT e/**/'C:\' , 'hunter2' , 'z'", "SELECT e '…'"),
            (r"SELECT 1 WHERE p = 'C:\' AND t = 'hunter2'", "SELECT 1 WHERE p = '…'"),
            (r"SELECT 'it\'s hunter2' AND t = 3", "SELECT '…'"),
            (r"SELECT 'C:\dir' AND t = 3", "SELECT '…' AND t = 3"),
            ("/* it's due */ ALTER ROLE app PASSWORD 'hunter2'", "ALTER ROLE app PASSWORD '…'"),
            ("/* a /* b' */ c */ SELECT 'x' -- it's\n, 'y'", "SELECT '…' , '…'"),
            ("SELECT \"o'clock\" FROM t WHERE mail = 'a@b.c'", "SELECT \"o'clock\" FROM t WHERE mail = '…'"),
            ("SELECT 8 / 2 - -1 * 3", "SELECT 8 / 2 - -1 * 3"),
            ("SELECT 'ü' || \"ü", "SELECT '…' || \"ü"),
            ("UPDATE t SET card = 4111111111111111 WHERE id=12345", "UPDATE t SET card = … WHERE id=12345"),
            ("SELECT -1234567.89, 0xDEADBEEF, 1_000_000", "SELECT -…, …, …"),
            ("SELECT t_20240131.c1234567, $1234567", "SELECT t_20240131.c1234567, $1234567"),
            ("SELECT 12.5, 1e10, a[3:4] LIMIT 10000", "SELECT 12.5, 1e10, a[3:4] LIMIT 10000"),
        ] {
            assert_eq!(digest(statement), expected);
        }
        assert_eq!(digest(&"x".repeat(500)).chars().count(), LENGTH + 1);
    }
}
