//! Secrets stay secret: a wrapper that never prints, and a filter for text from elsewhere.

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

/// Masks `user:password@` after `://`. The password ends at the last `@` before the authority does, since
/// passwords are often pasted without percent-encoding.
fn redact_urls(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (head, tail) = rest.split_at(at + 3);
        out.push_str(head);
        let word = url_word(tail, quoted(&head[..at]));
        // A pasted password may hold '/', '?' or '#': everything up to the word's last '@' is the user part.
        let userinfo = word.rfind('@').map(|end| &word[..end]);
        match userinfo.and_then(|info| info.split_once(':').map(|(user, _)| (user, info.len()))) {
            Some((user, len)) => {
                out.push_str(user);
                out.push(':');
                out.push_str(MASK);
                rest = &tail[len..];
            }
            None => rest = tail,
        }
    }
    out.push_str(rest);
    out
}

/// The part of `tail`, the text after `://`, that may belong to the URL. A password may hold `'`: it ends the word
/// only where it closes a quote that `opened` says was there, behind the host, before more text without a blank.
fn url_word(tail: &str, opened: bool) -> &str {
    let word = &tail[..tail.find(char::is_whitespace).unwrap_or(tail.len())];
    // A `"` before the host may be a character of the password; what it then masks too much is no loss.
    let end = word.match_indices('"').map(|(at, _)| at).find(|at| word[..*at].contains('@'));
    let word = &word[..end.unwrap_or(word.len())];
    let closes = |at: &usize| {
        let next = word[at + 1..].chars().next();
        word[..*at].contains('@') && next.is_none_or(|c| ",;:)]}".contains(c))
    };
    let close = word.match_indices('\'').map(|(at, _)| at).find(closes).filter(|_| opened);
    &word[..close.unwrap_or(word.len())]
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

/// The bytes of `=`, `: ` or `": "` after a key, of the blanks before a quoted word (`PASSWORD 'x'`, as SQL has
/// it), or `None` where no value follows.
fn assignment(after: &str) -> Option<usize> {
    let blanks = after.len() - after.trim_start().len();
    if blanks > 0 && after[blanks..].starts_with('\'') {
        return Some(blanks);
    }
    let trimmed = after.trim_start_matches(['"', '\'', ' ', '\\']);
    let sign = trimmed.strip_prefix(['=', ':'])?;
    let value = sign.trim_start_matches(' ');
    if value.is_empty() { None } else { Some(after.len() - value.len()) }
}

/// Whether a quote `'` stands before the word that ends `before`, a URL's scheme.
fn quoted(before: &str) -> bool {
    before.trim_end_matches(|c: char| c.is_ascii_alphanumeric() || "+-.".contains(c)).ends_with('\'')
}

/// As [`value_end`], for a value of several words: it ends at its own closing quote, at that of the whole header
/// (`-H 'Authorization: Bearer abc'`), or with the line.
fn line_end(before: &str, value: &str) -> (usize, usize) {
    if value.starts_with(['"', '\'']) {
        return value_end(value);
    }
    let line = value.find(['\r', '\n']).unwrap_or(value.len());
    let outer = before.trim_end_matches(|c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    let quote = outer.chars().next_back().filter(|c| *c == '"' || *c == '\'');
    (0, quote.and_then(|quote| value[..line].find(quote)).unwrap_or(line))
}

/// Where a value starts behind its opening quote, and where it ends.
fn value_end(value: &str) -> (usize, usize) {
    // JSON inside a string: `{\"token\": \"abc\"}`.
    if value.starts_with("\\\"") {
        return (2, value[2..].find("\\\"").map_or(value.len(), |at| at + 2));
    }
    if let Some(quote) = value.chars().next().filter(|c| *c == '"' || *c == '\'') {
        let end = value[1..].find(quote).map_or(value.len(), |at| at + 1);
        return (1, end);
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
            ("a://u:a\"b@h/d", "a://u:***@h/d"),
            (r#"{"url": "a://u:a"b@h/d", "n": 1}"#, r#"{"url": "a://u:***@h/d", "n": 1}"#),
        ] {
            assert_eq!(redact(text), expected);
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
            (r#"body {\"token\": \"abc\", \"n\": 1}"#, r#"body {\"token\": \"***\", \"n\": 1}"#),
            (r#"{\"password\":\"abc"#, r#"{\"password\":\"***"#),
            ("x-api-key: abc", "x-api-key: ***"),
            ("password authentication failed", "password authentication failed"),
            ("the secret is out", "the secret is out"),
            ("ALTER ROLE x PASSWORD 'abc' VALID", "ALTER ROLE x PASSWORD '***' VALID"),
        ] {
            assert_eq!(redact(text), expected);
        }
    }
}
