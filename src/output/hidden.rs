//! What is never shown: the passwords of URLs.

use std::borrow::Cow;

use serde_json::Value;

/// Stands where a password was.
const MARK: &str = "[hidden]";

/// `text` without the passwords of the URLs in it, also where they are a parameter (`?password=`).
///
/// Hides too much rather than too little: a password may hold any character but white space, and what stands before the
/// last `@` may be part of it.
pub(crate) fn without_passwords(text: &str) -> Cow<'_, str> {
    let shown: Vec<Cow<'_, str>> = text.split_inclusive(char::is_whitespace).map(word).collect();
    if shown.iter().all(|word| matches!(word, Cow::Borrowed(_))) { text.into() } else { shown.concat().into() }
}

/// `value` with each string in it as [`without_passwords`] gives it.
pub(crate) fn value_without_passwords(value: &Value) -> Value {
    match value {
        Value::String(text) => without_passwords(text).into(),
        Value::Array(items) => items.iter().map(value_without_passwords).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (name.clone(), value_without_passwords(value))).collect()
        }
        other => other.clone(),
    }
}

fn word(word: &str) -> Cow<'_, str> {
    let mut shown = Cow::Borrowed(word);
    if let Some((_, rest)) = word.split_once("://")
        && let Some((colon, at)) = rest.find(':').zip(rest.rfind('@'))
        && colon < at
    {
        let before = word.len() - rest.len() + colon + 1;
        shown = format!("{}{MARK}{}", &word[..before], &rest[at..]).into();
    }
    let mut from = 0;
    while let Some(found) = shown[from..].to_ascii_lowercase().find("password=") {
        let start = from + found + "password=".len();
        let end = shown[start..].find(|c: char| c == '&' || c.is_whitespace()).map_or(shown.len(), |end| start + end);
        shown = format!("{}{MARK}{}", &shown[..start], &shown[end..]).into();
        from = start + MARK.len();
    }
    shown
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
        assert_eq!(without_passwords("host=h PassWord=s3cret user=me"), "host=h PassWord=[hidden] user=me");
    }

    #[test]
    fn what_has_no_password_is_shown_as_it_is() {
        for text in ["", "postgres://db1:5432/shop", "postgres://me@db1/shop", "a: b@c", "http://h:80/x, mail a:b@c"] {
            assert!(matches!(without_passwords(text), Cow::Borrowed(shown) if shown == text), "{text}");
        }
        let value = json!({"a": [1, null, {"url": "x://u:p@h"}], "password": "kept: a name is not a URL"});
        assert_eq!(
            value_without_passwords(&value),
            json!({"a": [1, null, {"url": "x://u:[hidden]@h"}], "password": "kept: a name is not a URL"})
        );
    }
}
