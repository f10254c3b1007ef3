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
