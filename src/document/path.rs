//! Places in a document, as a person reads them.

use serde_json::Value;

/// Adds a key to a path, as [`crate::diff::Change::path`] writes it.
pub(crate) fn push_key(path: &mut String, key: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    if !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-') {
        path.push_str(key);
    } else {
        path.push_str(&Value::from(key).to_string());
    }
}

/// A path, keys and indexes in `value`, as [`crate::diff::Change::path`] writes it.
pub(crate) fn written(mut value: &Value, path: &[String]) -> String {
    let mut text = String::new();
    for step in path {
        let index = step.parse::<usize>().ok();
        match (value, index) {
            (Value::Array(items), Some(index)) => {
                text.push_str(&format!("[{index}]"));
                value = items.get(index).unwrap_or(&Value::Null);
            }
            _ => {
                push_key(&mut text, step);
                value = value.get(step).unwrap_or(&Value::Null);
            }
        }
    }
    text
}

/// `path`, as [`push_key`] writes it, with the keys that `anew` gives for some of its own.
pub(crate) fn with_keys(path: &str, mut anew: impl FnMut(&str) -> Option<String>) -> String {
    let mut text = String::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('.') {
            rest = after;
            continue;
        }
        if rest.starts_with('[') {
            let (index, after) = rest.split_at(rest.find(']').map_or(rest.len(), |end| end + 1));
            text.push_str(index);
            rest = after;
            continue;
        }
        let mut quoted = serde_json::Deserializer::from_str(rest).into_iter::<String>();
        let (key, end) = match quoted.next() {
            Some(Ok(key)) if rest.starts_with('"') => (key, quoted.byte_offset()),
            _ => {
                let end = rest.find(['.', '[']).unwrap_or(rest.len());
                (rest[..end].to_owned(), end)
            }
        };
        push_key(&mut text, anew(&key).as_ref().unwrap_or(&key));
        rest = &rest[end..];
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_written_anew_key_by_key() {
        let path = r#"a[1].b-c."x.y[2] \"q\""[0][3].""."[hidden]""#;
        assert_eq!(with_keys(path, |_| None), path);

        let anew = |key: &str| (key.len() == 1 || key.contains("x.y")).then(|| format!("{key}1 "));
        assert_eq!(with_keys(path, anew), r#""a1 "[1].b-c."x.y[2] \"q\"1 "[0][3].""."[hidden]""#);
    }
}
