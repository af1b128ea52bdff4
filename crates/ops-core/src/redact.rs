//! Secrets stay secret: a wrapper that never prints, and a filter for text from elsewhere.

use std::ops::Range;

/// A secret value. It prints as `[REDACTED]`, is wiped when dropped, and is read by
/// [`ExposeSecret`] only.
///
/// ```
/// use ops_core::Secret;
/// let password = Secret::from("hunter2".to_owned());
/// assert!(!format!("{password:?}").contains("hunter2"));
/// ```
pub type Secret = secrecy::SecretString;

pub use secrecy::ExposeSecret;

pub(crate) const MASK: &str = "***";

/// Replaces what looks like a secret in text that came from elsewhere: the password in anything that looks like
/// a URL (also one that does not parse), and the value after `password=`, `pwd=`, `secret=`, `token=` and the
/// like. A filter, not a guarantee: ops keeps secrets out of its own messages by type.
///
/// ```
/// use ops_core::redact::redact;
/// assert_eq!(redact("postgres://app:s3cret@db/shop"), "postgres://app:***@db/shop");
/// assert_eq!(redact("host=db password=s3cret"), "host=db password=***");
/// ```
pub fn redact(text: &str) -> String {
    redact_assignments(&redact_urls(text))
}

/// Masks `user:password@` after `://`. Passwords are often pasted without percent-encoding, so one may hold anything:
/// it ends at the last `@` that can still be the URL's.
fn redact_urls(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (head, tail) = rest.split_at(at + 3);
        out.push_str(head);
        rest = tail;
        if let Some(password) = password(tail) {
            out.push_str(&tail[..password.start]);
            out.push_str(MASK);
            rest = &tail[password.end..];
        }
    }
    out.push_str(rest);
    out
}

/// Where the password stands in `tail`, the text after `://`.
fn password(tail: &str) -> Option<Range<usize>> {
    let word = &tail[..tail.find(char::is_whitespace).unwrap_or(tail.len())];
    let start = colon(word)? + 1;
    let value = &word[start..];
    if value.is_empty() {
        return None;
    }
    let line = &tail[..tail.find(['\n', '\r']).unwrap_or(tail.len())];
    let behind_digits = value.trim_start_matches(|c: char| c.is_ascii_digit());
    let port = behind_digits.len() < value.len() && !behind_digits.starts_with(char::is_alphanumeric);
    let in_authority = !word[..start].contains(['/', '?', '#']);
    // What cannot be a port is a password, wherever its `@` is; a host and port may stand before somebody else's.
    let certain = in_authority && !port;
    let settled = if certain { line.find('@').unwrap_or(line.len()) } else { 0 };
    let at = line[..end_of_url(line, settled)].rfind('@').filter(|at| *at >= start);
    match at {
        Some(at) if at < word.len() || certain || in_authority && behind_digits.is_empty() => Some(start..at),
        // Cut short before its `@`.
        None if certain => Some(start..word.len()),
        _ => None,
    }
}

/// The colon before a password or a port, and none of those in an IPv6 address.
fn colon(word: &str) -> Option<usize> {
    let bracket = if word.starts_with('[') { Some(0) } else { word.find("@[") };
    let after = match (bracket, word.find(':')?) {
        (Some(open), first) if open < first => open + word[open..].find(']')?,
        _ => 0,
    };
    word[after..].find(':').map(|at| after + at)
}

/// The nearest place from `from` on where another URL begins in `line`, or a quote closes: one before a blank or
/// before what separates values. A password may hold any other.
fn end_of_url(line: &str, from: usize) -> usize {
    let closes = |at: &usize| {
        let next = line[at + 1..].chars().next();
        next.is_none_or(|c| c.is_whitespace() || ",;:)]}".contains(c))
    };
    let quote = line[from..].match_indices(['"', '\'']).map(|(at, _)| from + at).find(closes);
    let scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    let next = line[from..].find("://").map(|at| line[..from + at].trim_end_matches(scheme).len());
    quote.into_iter().chain(next).min().unwrap_or(line.len())
}

/// Endings of the names under which secrets go.
const KEYS: &[&str] = &[
    "password",
    "passwd",
    "pass",
    "pwd",
    "passphrase",
    "secret",
    "token",
    "api_key",
    "api-key",
    "apikey",
    AUTHORIZATION,
];

/// Its value has several words: `Bearer abc`, `Digest username="u", response="abc"`.
const AUTHORIZATION: &str = "authorization";

/// Whether `key` names a secret: `password`, `PGPASSWORD`, `x-api-key`.
pub(crate) fn names_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    KEYS.iter().any(|secret| key.ends_with(secret))
}

/// Masks `key=value` and `key: value` for keys that name a secret.
fn redact_assignments(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    while from < text.len() {
        let next = KEYS
            .iter()
            .filter_map(|key| lower[from..].find(key).map(|at| (from + at, key.len())))
            .min_by_key(|(at, len)| (*at, std::cmp::Reverse(*len)));
        let Some((at, len)) = next else { break };
        let after = at + len;
        let value_at = assignment(&lower[after..]).map(|skip| after + skip);
        let Some(start) = value_at else {
            out.push_str(&text[from..after]);
            from = after;
            continue;
        };
        let (open, end) = match &lower[at..after] {
            AUTHORIZATION => line_end(&text[..at], &text[start..]),
            _ => value_end(&text[start..]),
        };
        out.push_str(&text[from..start + open]);
        out.push_str(MASK);
        from = start + end;
    }
    out.push_str(&text[from.min(text.len())..]);
    out
}

/// The bytes of `=`, ` => `, `: `, `": "` or `\": ` after a key, of the blanks before a quoted word (`PASSWORD 'x'`, as
/// SQL has it), or `None` where no value follows.
fn assignment(after: &str) -> Option<usize> {
    let blanks = after.len() - after.trim_start().len();
    if blanks > 0 && after[blanks..].starts_with('\'') {
        return Some(blanks);
    }
    let trimmed = after.trim_start_matches(['\\', '"', '\'', ' ', '\t']);
    let sign = trimmed.strip_prefix(['=', ':'])?;
    let value = sign.trim_start_matches(['=', '>', ' ', '\t']);
    if value.is_empty() { None } else { Some(after.len() - value.len()) }
}

/// A quote that opens a string, and the backslashes before it: JSON within a string has one, and within that three.
#[derive(Clone, Copy)]
struct Quote {
    mark: char,
    escapes: usize,
}

impl Quote {
    /// The one that `text` begins with.
    fn opening(text: &str) -> Option<Self> {
        let bare = text.trim_start_matches('\\');
        let mark = bare.chars().next().filter(|c| *c == '"' || *c == '\'')?;
        Some(Self { mark, escapes: text.len() - bare.len() })
    }

    /// The one that `text` ends with.
    fn last(text: &str) -> Option<Self> {
        let mark = text.chars().next_back().filter(|c| *c == '"' || *c == '\'')?;
        Some(Self { mark, escapes: escapes(&text[..text.len() - 1]) })
    }

    /// Where `text`, what follows the quote, leaves the string: at the same quote with the same backslashes, or at
    /// one with fewer, which ends the string around it. More of them are the string's own, unless they are pairs; so
    /// is a quote given twice, as SQL and CSV have it.
    fn closing(self, text: &str) -> Option<usize> {
        let mut twice = None;
        for (at, _) in text.match_indices(self.mark) {
            if twice == Some(at) {
                continue;
            }
            let before = escapes(&text[..at]);
            if before < self.escapes {
                return Some(at - before);
            }
            if !(before - self.escapes).is_multiple_of(2 * (self.escapes + 1)) {
                continue;
            }
            if self.escapes > 0 || !text[at + 1..].starts_with(self.mark) {
                return Some(at - self.escapes);
            }
            twice = Some(at + 1);
        }
        None
    }
}

/// The backslashes at the end of `text`.
fn escapes(text: &str) -> usize {
    text.len() - text.trim_end_matches('\\').len()
}

/// As [`value_end`], for a value of several words: it ends at its own closing quote, at that of the whole header
/// (`-H 'Authorization: Bearer abc'`), or with the line.
fn line_end(before: &str, value: &str) -> (usize, usize) {
    if Quote::opening(value).is_some() {
        return value_end(value);
    }
    let line = &value[..value.find(['\r', '\n']).unwrap_or(value.len())];
    let outer = before.trim_end_matches(|c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    (0, Quote::last(outer).and_then(|quote| quote.closing(line)).unwrap_or(line.len()))
}

/// Where a value starts behind its opening quote, and where it ends.
fn value_end(value: &str) -> (usize, usize) {
    if let Some(quote) = Quote::opening(value) {
        let start = quote.escapes + 1;
        return (start, quote.closing(&value[start..]).map_or(value.len(), |at| start + at));
    }
    (0, value.find(|c: char| c.is_whitespace() || c == '&' || c == ',' || c == ';').unwrap_or(value.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_lose_their_password_and_nothing_else() {
        for (text, expected) in [
            ("redis://:s3cret@cache:6379/0", "redis://:***@cache:6379/0"),
            (
                "cannot reach postgres://u:p@ss/w?rd@h:5432/d now",
                "cannot reach postgres://u:***@h:5432/d now",
            ),
            ("https://example.org/path", "https://example.org/path"),
            ("postgres://u@h/d", "postgres://u@h/d"),
            ("a://x:1@h and b://y:2@i", "a://x:***@h and b://y:***@i"),
            ("cannot reach a://u:it's@h/d", "cannot reach a://u:***@h/d"),
            ("url='a://u:it's@h/d' and 'x@y'", "url='a://u:***@h/d' and 'x@y'"),
            ("['a://u:1@h','b://v:it's@i']", "['a://u:***@h','b://v:***@i']"),
            (
                "redis://ops@[::1]:6380/0 and redis://u:1@[::1]",
                "redis://ops@[::1]:6380/0 and redis://u:***@[::1]",
            ),
            ("http://h:80: refused, tell a@b", "http://h:80: refused, tell a@b"),
            ("http://h: refused", "http://h: refused"),
            ("https://h/a:b", "https://h/a:b"),
            (r#"{"url": "http://h:80/", "to": "a@b"}"#, r#"{"url": "http://h:80/", "to": "a@b"}"#),
            (r#"{"url": "a://u:a"b@h/d", "n": 1}"#, r#"{"url": "a://u:***@h/d", "n": 1}"#),
        ] {
            assert_eq!(redact(text), expected, "{text}");
        }
    }

    #[test]
    fn a_password_may_hold_anything() {
        for password in [
            r#"a"b"#, r#"a",b"#, r#""a""#, "a'b", "a', b", "a b", "a b@c", "1 2", r"a", "a#b?c/d", "a://b",
            "a:b", "<a>", "ż🦀", "a%b", "a&b=c;d", "1\"2", "[a]", "a]b", "a`b$c", "(a)", "{a}", "@a", "a@",
        ] {
            for (before, after) in
                [("", ""), ("cannot reach ", ": refused"), ("'", "'"), ("{\"url\": \"", "\"}")]
            {
                let text = format!("{before}postgres://u:{password}@h/d{after}");
                assert_eq!(redact(&text), format!("{before}postgres://u:***@h/d{after}"), "{text}");
            }
        }
    }

    #[test]
    fn what_is_cut_short_is_no_less_secret() {
        for (text, expected) in [
            ("postgres://u:abc", "postgres://u:***"),
            ("postgres://u:abc\nnext@line", "postgres://u:***\nnext@line"),
            ("postgres://u:a b@h/d as c@d", "postgres://u:***@d"),
            (r#"{"token": "abc"#, r#"{"token": "***"#),
            (r#"{\"token\": \"abc"#, r#"{\"token\": \"***"#),
            (r#"{"body": "{\"token\": \"abc"}"#, r#"{"body": "{\"token\": \"***"}"#),
        ] {
            assert_eq!(redact(text), expected, "{text}");
        }
    }

    #[test]
    fn assignments_lose_their_value() {
        for (text, expected) in [
            ("sslpassword=abc&x=1", "sslpassword=***&x=1"),
            ("redis+unix:///run/r.sock?pass=abc&db=1", "redis+unix:///run/r.sock?pass=***&db=1"),
            ("PGPASSWORD='it is' psql", "PGPASSWORD='***' psql"),
            (r#"{"token": "abc", "n": 1}"#, r#"{"token": "***", "n": 1}"#),
            ("authorization: Bearer abc\nhost: h", "authorization: ***\nhost: h"),
            (
                "curl -H 'Proxy-Authorization: Basic abc' http://h",
                "curl -H 'Proxy-Authorization: ***' http://h",
            ),
            (r#"{"authorization": "Bearer abc", "n": 1}"#, r#"{"authorization": "***", "n": 1}"#),
            (r#"Authorization: Digest username="u", response="abc""#, "Authorization: ***"),
            ("x-api-key: abc", "x-api-key: ***"),
            ("password authentication failed", "password authentication failed"),
            ("the secret is out", "the secret is out"),
            ("ALTER ROLE x PASSWORD 'abc' VALID", "ALTER ROLE x PASSWORD '***' VALID"),
            ("ALTER ROLE x PASSWORD 'a''b' VALID", "ALTER ROLE x PASSWORD '***' VALID"),
            (r#"{\"password\": \"abc\", \"n\": 1}"#, r#"{\"password\": \"***\", \"n\": 1}"#),
            (r#""{\"a\":\"{\\\"pwd\\\":\\\"abc\\\"}\"}""#, r#""{\"a\":\"{\\\"pwd\\\":\\\"***\\\"}\"}""#),
            (r#"{"password": "a\"b", "n": 1}"#, r#"{"password": "***", "n": 1}"#),
            (r#"{"password": "a\\", "n": 1}"#, r#"{"password": "***", "n": 1}"#),
            (r#"{\"password\": \"a\\\"b\", \"n\": 1}"#, r#"{\"password\": \"***\", \"n\": 1}"#),
            (r#"body {\"token\": \"abc\", \"n\": 1}"#, r#"body {\"token\": \"***\", \"n\": 1}"#),
            (r#"{\"password\":\"abc"#, r#"{\"password\":\"***"#),
            (r#"{"password": "", "n": 1}"#, r#"{"password": "***", "n": 1}"#),
            (r#"{\"authorization\": \"Bearer abc\"}"#, r#"{\"authorization\": \"***\"}"#),
            (
                r#"{"header": "Authorization: Digest u=\"u\", r=\"abc\"", "n": 1}"#,
                r#"{"header": "Authorization: ***", "n": 1}"#,
            ),
            ("password => 'abc', n => 1", "password => '***', n => 1"),
            ("password:\tabc", "password:\t***"),
        ] {
            assert_eq!(redact(text), expected, "{text}");
        }
    }
}
