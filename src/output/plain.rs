//! Text that others wrote, for a terminal, which obeys what stands in it.

use std::borrow::Cow;

/// `text` with its control characters written out: what others wrote must not move the cursor, forge a line, or reorder
/// what is read.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    let hidden = |c: char| {
        c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(hidden) {
        return text.into();
    }
    text.chars()
        .fold(String::with_capacity(text.len() + 8), |mut out, c| {
            if hidden(c) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_cannot_move_the_cursor_or_forge_a_line() {
        assert_eq!(plain("Jo\u{1b}[2J\n\u{9b}x\r"), "Jo\\u{1b}[2J\\n\\u{9b}x\\r");
        assert_eq!(plain("a\u{202e}b"), "a\\u{202e}b");
        assert_eq!(plain("Jó <jo@x>"), "Jó <jo@x>");
    }
}
