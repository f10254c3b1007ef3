//! Text that others wrote, for a terminal, which obeys what stands in it.

use std::borrow::Cow;
use std::io;

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// Whether a terminal, or a reader's eye, is led astray by it.
fn is_hidden(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether `text` has any of that.
pub(crate) fn is_hostile(text: &str) -> bool {
    text.contains(is_hidden)
}

/// `text` with its control characters written out: what others wrote must not move the cursor, forge a line, or reorder
/// what is read.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    if !is_hostile(text) {
        return text.into();
    }
    text.chars()
        .fold(String::with_capacity(text.len() + 8), |mut out, c| {
            if is_hidden(c) {
                out.extend(c.escape_default())
            } else {
                out.push(c)
            }
            out
        })
        .into()
}

/// As [`plain`], for lines in which a tab is a tab.
pub(crate) fn plain_but_tabs(text: &str) -> String {
    text.split('\t').map(plain).collect::<Vec<_>>().join("\t")
}

/// `value` as JSON, with what [`plain`] writes out escaped: JSON itself asks for that only below U+0020, and a terminal obeys
/// some of the others.
pub(super) fn plain_json(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut json = Vec::with_capacity(128);
    value.serialize(&mut Serializer::with_formatter(&mut json, PlainJson))?;
    Ok(json)
}

struct PlainJson;

impl Formatter for PlainJson {
    fn write_string_fragment<W: io::Write + ?Sized>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(is_hidden) {
            let (before, from) = rest.split_at(at);
            let mut chars = from.chars();
            let hidden = chars.next().map_or(0, u32::from);
            write!(out, "{before}\\u{hidden:04x}")?;
            rest = chars.as_str();
        }
        out.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_cannot_move_the_cursor_or_forge_a_line() {
        assert_eq!(plain("Jo\u{1b}[2J\n\u{9b}x\r"), "Jo\\u{1b}[2J\\n\\u{9b}x\\r");
        assert_eq!(plain("a\u{202e}b"), "a\\u{202e}b");
        assert_eq!(plain("Jó <jo@x>"), "Jó <jo@x>");
    }

    #[test]
    fn json_says_the_same_and_cannot_either() {
        let value = serde_json::json!({"k\u{9b}2J": "Jó\u{1b}[2J\u{7f}\u{202e}b\n\"", "n": 1.5});
        let json = String::from_utf8(plain_json(&value).unwrap()).unwrap();

        assert_eq!(json, r#"{"k\u009b2J":"Jó\u001b[2J\u007f\u202eb\n\"","n":1.5}"#);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap(), value);
    }
}
