//! What is never shown, whoever asks: the passwords of URLs, and the tokens of those of NATS. All that [`super::Output`] and
//! the log write goes through here, but for what a verb gives out exactly. Other secrets are known by their document
//! ([`Document::hide`]).
//!
//! [`Document::hide`]: confhot::document::Document::hide

use std::borrow::Cow;

use confhot::document::HIDDEN as MARK;
use serde::de::IgnoredAny;
use serde_json::Value;

/// A password that is a parameter of a URL, or of what databases take instead of one.
const PARAMETER: &str = "password=";

/// `text` without the passwords of the URLs in it, also where they are a parameter (`?password=`).
///
/// Hides too much rather than too little: a password may hold any character but white space, and what stands before the
/// last `@` may be part of it. One that is hidden already is left as it is.
pub(crate) fn without_passwords(text: &str) -> Cow<'_, str> {
    let text = debugged(text);
    let shown: Vec<Cow<'_, str>> = text.split_inclusive('\n').map(of_line).collect();
    if shown.iter().all(|line| matches!(line, Cow::Borrowed(_))) {
        drop(shown);
        return text;
    }
    shown.concat().into()
}

/// One line, which may be painted, and be of a diff. Where it is JSON as a whole, it is certain where each string ends.
fn of_line(line: &str) -> Cow<'_, str> {
    if !line.contains("://") && !line.to_ascii_lowercase().contains(PARAMETER) {
        return line.into();
    }
    let (paint, rest) = line.split_at(painted(line));
    let said = rest.trim_end_matches(['\r', '\n']);
    let said = said.strip_suffix(RESET).unwrap_or(said);
    let end = &rest[said.len()..];
    let (mark, json) = said.split_at(said.len() - said.trim_start_matches(['+', '-', ' ', '\t']).len());
    let shown = match json.starts_with(['{', '[']) && serde_json::from_str::<IgnoredAny>(json).is_ok() {
        true => of_json(json),
        false => of_words(json),
    };
    match shown {
        Cow::Borrowed(_) => line.into(),
        Cow::Owned(shown) => format!("{paint}{mark}{shown}{end}").into(),
    }
}

/// What ends a painted line.
const RESET: &str = "\u{1b}[0m";

/// How long the escapes are that a painted line begins with.
fn painted(line: &str) -> usize {
    let mut length = 0;
    while let Some(escape) = line[length..].strip_prefix("\u{1b}[") {
        let Some(end) = escape.find(|c: char| !c.is_ascii_digit() && c != ';') else { break };
        if !escape[end..].starts_with('m') {
            break;
        }
        length = line.len() - escape.len() + end + 1;
    }
    length
}

/// What is JSON, string by string, as they are written.
fn of_json(json: &str) -> Cow<'_, str> {
    let mut shown = Vec::new();
    let mut rest = json;
    while let Some(open) = rest.find('"') {
        let (before, text) = rest.split_at(open + 1);
        let mut escaped = false;
        let closes = |c: char| {
            let closes = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            closes
        };
        let (text, after) = text.split_at(text.find(closes).unwrap_or(text.len()));
        let (quote, after) = after.split_at(after.len().min(1));
        shown.extend([before.into(), of_words(text), quote.into()]);
        rest = after;
    }
    shown.push(rest.into());
    if shown.iter().all(|part| matches!(part, Cow::Borrowed(_))) { json.into() } else { shown.concat().into() }
}

fn of_words(text: &str) -> Cow<'_, str> {
    let shown: Vec<Cow<'_, str>> = text.split_inclusive(char::is_whitespace).map(word).collect();
    if shown.iter().all(|word| matches!(word, Cow::Borrowed(_))) { text.into() } else { shown.concat().into() }
}

/// A URL as Rust's `Debug` writes it, which is how libraries log one.
fn debugged(text: &str) -> Cow<'_, str> {
    let text = without_field(text.into(), "password: Some(\"", |_| true);
    // Without a password it is a token, where the URL is of NATS.
    without_field(text, "username: \"", |rest| rest.starts_with("\", password: None"))
}

/// `text` without what stands between `field` and the next quote, where `hides` is true of what follows. In it a quote is
/// `%22`.
fn without_field<'a>(text: Cow<'a, str>, field: &str, hides: fn(&str) -> bool) -> Cow<'a, str> {
    if !text.contains(field) {
        return text;
    }
    let mut parts = text.split(field);
    let first = parts.next().unwrap_or_default();
    let shown = parts.fold(first.to_owned(), |shown, part| {
        let (kept, rest) = part.split_at(part.find('"').unwrap_or(part.len()));
        let kept = if hides(rest) && !kept.is_empty() { MARK } else { kept };
        format!("{shown}{field}{kept}{rest}")
    });
    shown.into()
}

/// `value` with each string in it as [`without_passwords`] gives it.
pub(crate) fn value_without_passwords(value: &Value) -> Value {
    match value {
        Value::String(text) => without_passwords(text).into(),
        Value::Array(items) => items.iter().map(value_without_passwords).collect(),
        Value::Object(fields) => {
            let shown = |(name, value): (&String, &Value)| {
                (without_passwords(name).into_owned(), value_without_passwords(value))
            };
            fields.iter().map(shown).collect()
        }
        other => other.clone(),
    }
}

/// A line of a log, or of a stream of objects: as [`without_passwords`], and an object stays one.
pub(super) fn line_without_passwords(line: &str) -> Cow<'_, str> {
    match serde_json::from_str::<Value>(line) {
        Ok(value @ Value::Object(_)) => {
            let shown = value_without_passwords(&value);
            if shown == value { line.into() } else { format!("{shown}\n").into() }
        }
        _ => without_passwords(line),
    }
}

/// Whether the URL whose scheme ends this text is one that NATS clients take, in which a name without a password is a token.
fn is_of_nats(scheme: &str) -> bool {
    let scheme = scheme.rsplit(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
    ["nats", "tls", "ws", "wss"].iter().any(|nats| scheme.eq_ignore_ascii_case(nats))
}

fn word(word: &str) -> Cow<'_, str> {
    let mut shown = Cow::Borrowed(word);
    // Cut off, it may have lost what it ends with.
    let cut = || word.trim_end().strip_suffix('…').map(|kept| kept.len());
    if let Some((scheme, rest)) = word.split_once("://")
        && is_of_nats(scheme)
        && let (Some(first), Some(last)) = (rest.find('@'), rest.rfind('@'))
        && !rest[..first].contains([':', '/'])
        && !matches!(&rest[..last], "***" | MARK)
    {
        shown = format!("{scheme}://{MARK}{}", &rest[last..]).into();
    } else if let Some((_, rest)) = word.split_once("://")
        && let Some(colon) = rest.find(':')
        && let Some(at) = rest.rfind('@').or_else(|| Some(cut()? - (word.len() - rest.len())))
        && colon < at
        && !matches!(&rest[colon + 1..at], "***" | MARK)
    {
        let before = word.len() - rest.len() + colon + 1;
        shown = format!("{}{MARK}{}", &word[..before], &rest[at..]).into();
    }
    let mut from = 0;
    while let Some(found) = shown[from..].to_ascii_lowercase().find(PARAMETER) {
        let start = from + found + PARAMETER.len();
        let end = shown[start..].find(|c: char| c == '&' || c.is_whitespace()).map_or(shown.len(), |end| start + end);
        let end = closing_quote(&shown, start, end).unwrap_or(end);
        shown = format!("{}{MARK}{}", &shown[..start], &shown[end..]).into();
        from = start + MARK.len();
    }
    shown
}

/// Where the string ends whose URL has a parameter from `start` on, if it is certain: a quote is right before the URL, and
/// the last one like it has nothing behind it, up to `end`, but what closes a list. Any other may be of the password.
fn closing_quote(word: &str, start: usize, end: usize) -> Option<usize> {
    let (before, _) = word[..start].rsplit_once("://")?;
    let scheme = before.trim_end_matches(|c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    let quote = scheme.chars().next_back().filter(|c| matches!(c, '"' | '\''))?;
    let is_escaped = |text: &str| (text.len() - text.trim_end_matches('\\').len()) % 2 == 1;
    let opened = &scheme[..scheme.len() - 1];
    let at = start + word[start..end].rfind(quote)?;
    let closes = |c: char| matches!(c, ',' | ';' | ')' | ']' | '}');
    let ends = end == word.trim_end().len() && word[at + 1..end].trim_start_matches(closes).is_empty();
    let within = word[scheme.len()..start].contains(quote);
    (ends && !within && !is_escaped(opened) && !is_escaped(&word[..at])).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn no_password_of_a_url_is_left_whatever_it_is_made_of() {
        for password in ["s3cret", "a/b", "a?b", "a#b", "a:b", "a@b", "a://b", "a&b", "p%40ss", "12/x", "é\"'", "[x]"]
        {
            for url in [
                format!("postgres://me:{password}@db1:5432/shop?sslmode=require"),
                format!("cannot reach nats://:{password}@h,\nsaid somebody"),
                format!("kafka://a:{password}@h1:9092,b:{password}@h2:9092"),
            ] {
                let shown = without_passwords(&url);
                assert!(!shown.contains(password), "{shown}");
                assert!(shown.contains(":[hidden]@h") || shown.contains(":[hidden]@db1:5432/shop?sslmode"), "{shown}");
            }
        }
        assert_eq!(
            without_passwords("postgres://h/d?user=me&password=s3cret&sslpassword=other&x=1\n"),
            "postgres://h/d?user=me&password=[hidden]&sslpassword=[hidden]&x=1\n"
        );
        assert_eq!(
            without_passwords("Url { password: Some(\"s3cret\"), x: 1 }"),
            "Url { password: Some(\"[hidden]\"), x: 1 }"
        );
        assert_eq!(without_passwords("x://u:s3cr…\n"), "x://u:[hidden]…\n");
        assert_eq!(without_passwords("host=h PassWord=s3cret user=me"), "host=h PassWord=[hidden] user=me");
    }

    #[test]
    fn a_string_that_ends_with_a_password_stays_one_where_its_end_is_certain() {
        for (text, shown) in [
            (
                r#"{"a":"postgres://u:p@x/y?password=z", "b":1}"#,
                r#"{"a":"postgres://u:[hidden]@x/y?password=[hidden]", "b":1}"#,
            ),
            (
                r#"{"a":"x://u:p@h?password=z","b":["x://u:\"p@h?password=z\",","c"]}"#,
                r#"{"a":"x://u:[hidden]@h?password=[hidden]","b":["x://u:[hidden]@h?password=[hidden]","c"]}"#,
            ),
            // Of a diff, and painted.
            (r#"+["x://h?password=z","b"]"#, r#"+["x://h?password=[hidden]","b"]"#),
            ("\u{1b}[32m-[\"x://h?password=z\"]\u{1b}[0m", "\u{1b}[32m-[\"x://h?password=[hidden]\"]\u{1b}[0m"),
            ("\u{1b}[1m\u{1b}[31mpassword=z\u{1b}[0m\n", "\u{1b}[1m\u{1b}[31mpassword=[hidden]\u{1b}[0m\n"),
            // No JSON, or not all of it.
            (r#"  "a": "x://h?password=z","#, r#"  "a": "x://h?password=[hidden]","#),
            ("a = 'x://h?password=z' # why", "a = 'x://h?password=[hidden]' # why"),
            (r#"{a: "x://h?password=z", b: 1}"#, r#"{a: "x://h?password=[hidden]", b: 1}"#),
            // Where that may be the password too.
            (r#"a: x://h?password=z","#, "a: x://h?password=[hidden]"),
            (r#"["x://h?password=z","b","#, r#"["x://h?password=[hidden]","#),
            (r#"'x://h?password=z", 1"#, "'x://h?password=[hidden] 1"),
            (r#""x://h?password=z"y"#, r#""x://h?password=[hidden]"#),
            (r#""x://h?password=z\", 1"#, r#""x://h?password=[hidden] 1"#),
            (r#"\"x://h?password=z", 1"#, r#"\"x://h?password=[hidden] 1"#),
            (r#""x://h","password=z", 1"#, r#""x://h","password=[hidden] 1"#),
            (r#""x://h?a="&password=z", 1"#, r#""x://h?a="&password=[hidden] 1"#),
        ] {
            assert_eq!(without_passwords(text), shown);
            assert_eq!(without_passwords(shown), shown, "it is hidden already");
        }
    }

    #[test]
    fn no_token_of_a_server_is_left_however_its_url_is_written() {
        for (text, shown) in [
            ("cannot reach nats://t0ken@h:4222, then", "cannot reach nats://[hidden]@h:4222, then"),
            ("[\"tls://t0ken@h1:4222,tls://0ther@h2\"]", "[\"tls://[hidden]@h2\"]"),
            (
                "ServerAddr(Url { username: \"t0ken\", password: None, host: 1 }) Url { username: \"\", password: None }",
                "ServerAddr(Url { username: \"[hidden]\", password: None, host: 1 }) Url { username: \"\", password: None }",
            ),
            (
                "Url { username: \"me\", password: Some(\"s3cret\") }",
                "Url { username: \"me\", password: Some(\"[hidden]\") }",
            ),
        ] {
            assert_eq!(without_passwords(text), shown);
        }
    }

    #[test]
    fn what_has_no_password_is_shown_as_it_is() {
        for text in [
            "",
            "postgres://db1:5432/shop",
            "postgres://me@db1/shop",
            "a: b@c",
            "http://h:80/x, mail a:b@c",
            "x://u:[hidden]@h",
            "x://u:***@h",
            "nats://***@h:4222",
            "nats://[hidden]@h",
        ] {
            assert!(matches!(without_passwords(text), Cow::Borrowed(shown) if shown == text), "{text}");
        }
        let value = json!({"a": [1, null, {"url": "x://u:p@h"}], "password": "kept: a name is not a URL"});
        assert_eq!(
            value_without_passwords(&value),
            json!({"a": [1, null, {"url": "x://u:[hidden]@h"}], "password": "kept: a name is not a URL"})
        );
    }
}
