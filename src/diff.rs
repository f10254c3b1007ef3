//! What changed between two documents: by meaning ([`changes`]) and by line ([`lines`]).

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Map, Number, Value};
use similar::{Algorithm, ChangeTag, DiffOp};

use crate::document::{Document, HIDDEN, Sought, push_key, with_keys};

/// One difference in meaning, at one place.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// Where: `server.port`, `servers[1].port`, `"a.b".c`. A key that is not of ASCII letters, digits, `_` and `-` alone
    /// is written as a JSON string.
    pub path: String,
    /// What stood there; `None` where nothing did. Both are `null` in JSON.
    pub before: Option<Value>,
    /// What stands there now; `None` where nothing does.
    pub after: Option<Value>,
}

/// What changed from `before` to `after`, in the order of `before`'s keys, then of `after`'s new ones.
///
/// - Formats do not matter, nor does the order of keys. Numbers are compared by their value: `1` is `1.0`, because JSON
///   has one kind of number and a document may change its format.
/// - A table that was added or removed is told by what is in it, key by key. An array that was added or removed is one
///   value, as is one that became something else; two arrays are compared item by item, by their position.
/// - A table that stays but lost all that was in it is one change to `{}`, which tells it from a table that went.
pub fn changes(before: &Value, after: &Value) -> Vec<Change> {
    let mut changes = Vec::new();
    match (before, after) {
        // The top level cannot go, so losing everything is told key by key.
        (Value::Object(before), Value::Object(after)) => {
            compare_tables(&mut String::new(), before, after, &mut changes)
        }
        _ => compare(&mut String::new(), before, after, &mut changes),
    }
    changes
}

/// Hides in `changes` what is secret in one of `documents`, of which they are: where it is, and wherever else its text
/// stands, as [`Document::shown`] does.
pub fn hide(changes: &mut [Change], documents: &[&Document]) {
    fn cover(path: &mut String, value: &mut Value, places: &BTreeSet<String>) {
        let length = path.len();
        match value {
            Value::Object(fields) => {
                for (name, field) in fields {
                    push_key(path, name);
                    cover(path, field, places);
                    path.truncate(length);
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    path.push_str(&format!("[{index}]"));
                    cover(path, item, places);
                    path.truncate(length);
                }
            }
            Value::Null => {}
            scalar if places.contains(path) => *scalar = HIDDEN.into(),
            _ => {}
        }
    }
    let places: BTreeSet<String> = documents.iter().flat_map(|document| document.secret_places()).collect();
    if places.is_empty() {
        return;
    }
    let mut sought = Sought::of(documents);
    for change in changes {
        for value in [&mut change.before, &mut change.after].into_iter().flatten() {
            cover(&mut change.path.clone(), value, &places);
            sought.hide_in(value);
        }
        change.path = with_keys(&change.path, |key| sought.hide(key));
    }
}

fn compare(path: &mut String, before: &Value, after: &Value, changes: &mut Vec<Change>) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) if before.is_empty() || !after.is_empty() => {
            compare_tables(path, before, after, changes);
        }
        (Value::Array(before), Value::Array(after)) => {
            for index in 0..before.len().max(after.len()) {
                let step = |path: &mut String| path.push_str(&format!("[{index}]"));
                compare_at(path, step, before.get(index), after.get(index), changes);
            }
        }
        _ if same(before, after) => {}
        _ => changes.push(Change { path: path.clone(), before: Some(before.clone()), after: Some(after.clone()) }),
    }
}

fn compare_tables(
    path: &mut String,
    before: &Map<String, Value>,
    after: &Map<String, Value>,
    changes: &mut Vec<Change>,
) {
    for (key, value) in before {
        compare_at(path, |path| push_key(path, key), Some(value), after.get(key), changes);
    }
    for (key, value) in after.iter().filter(|(key, _)| !before.contains_key(*key)) {
        compare_at(path, |path| push_key(path, key), None, Some(value), changes);
    }
}

/// Compares one step further down, and leaves `path` as it was.
fn compare_at(
    path: &mut String,
    step: impl FnOnce(&mut String),
    before: Option<&Value>,
    after: Option<&Value>,
    changes: &mut Vec<Change>,
) {
    let length = path.len();
    step(path);
    match (before, after) {
        (Some(before), Some(after)) => compare(path, before, after, changes),
        // A table with something in it, against nothing.
        (Some(Value::Object(table)), None) if !table.is_empty() => compare_tables(path, table, &Map::new(), changes),
        (None, Some(Value::Object(table))) if !table.is_empty() => compare_tables(path, &Map::new(), table, changes),
        (before, after) => {
            changes.push(Change { path: path.clone(), before: before.cloned(), after: after.cloned() });
        }
    }
    path.truncate(length);
}

/// Whether two scalars, or an empty table and an empty table, say the same.
fn same(before: &Value, after: &Value) -> bool {
    match (before, after) {
        (Value::Number(before), Value::Number(after)) => same_number(before, after),
        _ => before == after,
    }
}

fn same_number(before: &Number, after: &Number) -> bool {
    // 128 bits hold every integer of either kind. A float that is one (and is not so large that several are the same
    // float) converts exactly.
    let integer = |number: &Number| {
        number.as_i128().or_else(|| {
            number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < 1e38).map(|float| float as i128)
        })
    };
    match (integer(before), integer(after)) {
        (Some(before), Some(after)) => before == after,
        _ => before.as_f64() == after.as_f64(),
    }
}

/// What a line of a unified diff is, for whoever colours it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// `--- a` and `+++ b`.
    Header,
    /// `@@ -1,3 +1,4 @@`.
    Hunk,
    /// In both.
    Context,
    /// Only in the one before.
    Removed,
    /// Only in the one after.
    Added,
    /// `\ No newline at end of file`.
    Note,
}

/// One line of a unified diff.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What it is.
    pub tag: Tag,
    /// The whole line with its leading mark, without a line feed.
    pub text: String,
}

/// Lines around a change, as diff(1) -u.
const CONTEXT: usize = 3;

/// From this many lines on (of both texts, without what they start and end with in common) they are told as replaced:
/// right, but not the shortest. The search recurses, and at sixteen times this it has overflowed a stack of 2 MB.
const MOST_LINES: usize = 50_000;

/// The unified diff of two texts, three lines of context around each change; nothing where they are the same bytes.
///
/// Compares bytes, and shows what is not UTF-8 as U+FFFD. Its time is bounded: two texts of a great many lines that have
/// little in common are told as replaced.
pub fn lines(before: &[u8], after: &[u8], from: &str, to: &str) -> Vec<Line> {
    lines_shown(&Text { bytes: before, shown: before, label: from }, &Text { bytes: after, shown: after, label: to })
}

/// A text, and how it is shown: as another one with the same lines, in which something is hidden.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a> {
    /// What is compared.
    pub bytes: &'a [u8],
    /// What is shown of it.
    pub shown: &'a [u8],
    /// What it is called.
    pub label: &'a str,
}

/// As [`lines`], showing of each line what is to be shown: two that differ in what is hidden are told as two that look
/// the same.
pub fn lines_shown(before: &Text<'_>, after: &Text<'_>) -> Vec<Line> {
    if before.bytes == after.bytes {
        return Vec::new();
    }
    let (from, to) = (before.label, after.label);
    let split = |text| <[u8]>::split_inclusive(text, |byte| *byte == b'\n').collect::<Vec<_>>();
    let (shown_before, shown_after) = (split(before.shown), split(after.shown));
    let (before, after) = (split(before.bytes), split(after.bytes));

    let mut lines = vec![
        Line { tag: Tag::Header, text: format!("--- {from}") },
        Line { tag: Tag::Header, text: format!("+++ {to}") },
    ];
    for hunk in similar::group_diff_ops(operations(&before, &after), CONTEXT) {
        lines.push(Line { tag: Tag::Hunk, text: similar::udiff::UnifiedHunkHeader::new(&hunk).to_string() });
        for change in hunk.iter().flat_map(|op: &DiffOp| op.iter_changes(&before, &after)) {
            let (tag, mark) = match change.tag() {
                ChangeTag::Equal => (Tag::Context, ' '),
                ChangeTag::Delete => (Tag::Removed, '-'),
                ChangeTag::Insert => (Tag::Added, '+'),
            };
            let line = change.value();
            let old = change.old_index().and_then(|at| shown_before.get(at));
            let new = change.new_index().and_then(|at| shown_after.get(at));
            let shown = old.or(new).copied().unwrap_or(HIDDEN.as_bytes());
            let text = String::from_utf8_lossy(shown.strip_suffix(b"\n").unwrap_or(shown));
            lines.push(Line { tag, text: format!("{mark}{text}") });
            if !line.ends_with(b"\n") {
                lines.push(Line { tag: Tag::Note, text: r"\ No newline at end of file".into() });
            }
        }
    }
    lines
}

/// What turns one sequence of lines into the other.
fn operations(before: &[&[u8]], after: &[&[u8]]) -> Vec<DiffOp> {
    let shorter = before.len().min(after.len());
    let start = before.iter().zip(after).take_while(|(before, after)| before == after).count();
    let ends = before.iter().rev().zip(after.iter().rev());
    let end = ends.take(shorter - start).take_while(|(before, after)| before == after).count();
    let (old_len, new_len) = (before.len() - start - end, after.len() - start - end);
    if old_len + new_len <= MOST_LINES {
        return similar::capture_diff_slices(Algorithm::Myers, before, after);
    }
    let mut operations = vec![
        DiffOp::Equal { old_index: 0, new_index: 0, len: start },
        DiffOp::Replace { old_index: start, old_len, new_index: start, new_len },
        DiffOp::Equal { old_index: start + old_len, new_index: start + new_len, len: end },
    ];
    operations.retain(|operation| !operation.old_range().is_empty() || !operation.new_range().is_empty());
    operations
}

/// [`lines`] as one text, each line ended by a line feed.
pub fn unified(before: &[u8], after: &[u8], from: &str, to: &str) -> String {
    text(lines(before, after, from, to))
}

/// [`lines_shown`] as one text.
pub fn unified_shown(before: &Text<'_>, after: &Text<'_>) -> String {
    text(lines_shown(before, after))
}

fn text(lines: Vec<Line>) -> String {
    lines.into_iter().fold(String::new(), |mut text, line| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{}", line.text);
        text
    })
}

#[cfg(test)]
mod tests;
