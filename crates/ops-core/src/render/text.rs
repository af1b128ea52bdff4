//! Text from elsewhere, made safe to print; commands, quoted for a shell.

use serde_json::{Map, Value};

/// One line: breaks and tabs become a space, what could act on a terminal becomes a visible escape.
pub(super) fn line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut broken = false;
    for c in text.trim().chars() {
        match c {
            _ if is_break(c) => broken = true,
            // A break takes the blanks around it along: what was laid out in lines reads as one sentence.
            ' ' if broken => {}
            _ => {
                if std::mem::take(&mut broken) {
                    out.truncate(out.trim_end_matches(' ').len());
                    out.push(' ');
                }
                if acts(c) { out.extend(c.escape_unicode()) } else { out.push(c) }
            }
        }
    }
    out
}

/// Several lines, for statements: breaks stay, tabs become a space, what could act becomes a visible escape.
pub(super) fn lines(text: &str) -> Vec<String> {
    let indented = |part: &str| {
        let indent = part.len() - part.trim_start_matches(' ').len();
        format!("{}{}", " ".repeat(indent), line(part)).trim_end().to_owned()
    };
    text.trim().lines().map(indented).collect()
}

/// A statement to be typed as it stands; `None` where what can be shown is another than what is meant: a name with a
/// tab in it would become another name.
pub(super) fn exact(text: &str) -> Option<Vec<String>> {
    let shown = lines(text);
    (shown.join("\n") == text.trim()).then_some(shown)
}

fn is_break(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\t' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// Control characters, and the invisible ones that reorder or hide what stands beside them.
pub(super) fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// `ops maintain TASK --key value …`, ready for a shell.
pub(super) fn maintain(task: &str, args: &Map<String, Value>) -> String {
    let mut command = format!("ops maintain {}", shell(task));
    for (key, value) in args {
        let flag = format!(" --{}", shell(&key.replace('_', "-")));
        let values = match value {
            Value::Array(items) => items.as_slice(),
            single => std::slice::from_ref(single),
        };
        for value in values {
            match value {
                Value::Null | Value::Bool(false) => {}
                Value::Bool(true) => command.push_str(&flag),
                Value::String(text) => command.push_str(&format!("{flag} {}", shell(text))),
                other => command.push_str(&format!("{flag} {}", shell(&other.to_string()))),
            }
        }
    }
    command
}

/// One shell word. What could act on a terminal is spelled out in `$'…'`, which names the same bytes.
fn shell(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    if !word.chars().any(|c| acts(c) || is_break(c)) {
        return format!("'{}'", word.replace('\'', r"'\''"));
    }
    let spelled: String = word
        .chars()
        .map(|c| match c {
            '\'' => r"\'".to_owned(),
            '\\' => r"\\".to_owned(),
            _ if acts(c) || is_break(c) => format!("\\U{:08x}", u32::from(c)),
            _ => c.to_string(),
        })
        .collect();
    format!("$'{spelled}'")
}

/// A share as whole percent, never rounded up to all.
pub(super) fn share(part: f64) -> String {
    format!("{:.0} %", (part * 100.0).floor())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nothing_that_acts_on_a_terminal_passes() {
        for (text, expected) in [
            ("a\nb \r\n\t  c", "a b c"),
            ("\u{1b}[2Jgone", "\\u{1b}[2Jgone"),
            ("bell\u{7} del\u{7f} c1\u{9b}31m", "bell\\u{7} del\\u{7f} c1\\u{9b}31m"),
            ("gpj.\u{202e}exe", "gpj.\\u{202e}exe"),
            ("zażółć 数据库 🦀", "zażółć 数据库 🦀"),
        ] {
            assert_eq!(line(text), expected);
        }
        assert_eq!(lines("SELECT 1\n  FROM\tt;\u{1b}\n"), ["SELECT 1", "  FROM t;\\u{1b}"]);
    }

    #[test]
    fn a_statement_is_shown_as_it_is_or_not_at_all() {
        let two = "SELECT 1\n  FROM t;";
        assert_eq!(exact(two).unwrap().join("\n"), two);
        for other in ["DROP INDEX \"idx\ta\";", "DROP INDEX \"a \nb\";", "DROP INDEX \"a\u{1b}\";"] {
            assert_eq!(exact(other), None, "{other:?}");
        }
    }

    #[test]
    fn commands_survive_a_shell() {
        for (args, expected) in [
            (json!({"pid": 4711}), "ops maintain t --pid 4711"),
            (json!({"drop_after": true, "b": false, "c": null}), "ops maintain t --drop-after"),
            (
                json!({"index": ["public.a", "public.\"B c\""]}),
                r#"ops maintain t --index public.a --index 'public."B c"'"#,
            ),
            (json!({"name": "it's; rm -rf /"}), r"ops maintain t --name 'it'\''s; rm -rf /'"),
            (json!({"name": "a\n\u{1b}'b"}), r"ops maintain t --name $'a\U0000000a\U0000001b\'b'"),
            (json!({"name": ""}), "ops maintain t --name ''"),
        ] {
            assert_eq!(maintain("t", args.as_object().unwrap()), expected);
        }
    }
}
