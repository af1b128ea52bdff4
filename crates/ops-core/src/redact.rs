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

const MASK: &str = "***";

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
        let word =
            &tail[..tail.find(|c: char| c.is_whitespace() || c == '"' || c == '\'').unwrap_or(tail.len())];
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

/// Masks `key=value` and `key: value` for keys that name a secret.
fn redact_assignments(text: &str) -> String {
    const KEYS: &[&str] = &[
        "password",
        "passwd",
        "pass",
        "pwd",
        "passphrase",
        "secret",
        "token",
        "api_key",
        "apikey",
        "authorization",
    ];
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
        let (open, end) = value_end(&text[start..]);
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
    let trimmed = after.trim_start_matches(['"', '\'', ' ']);
    let sign = trimmed.strip_prefix(['=', ':'])?;
    let value = sign.trim_start_matches(' ');
    if value.is_empty() { None } else { Some(after.len() - value.len()) }
}

/// Where a value starts behind its opening quote, and where it ends.
fn value_end(value: &str) -> (usize, usize) {
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
            ("password authentication failed", "password authentication failed"),
            ("the secret is out", "the secret is out"),
            ("ALTER ROLE x PASSWORD 'abc' VALID", "ALTER ROLE x PASSWORD '***' VALID"),
        ] {
            assert_eq!(redact(text), expected);
        }
    }
}
