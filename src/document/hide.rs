//! What a document says that is for no eyes: what was encrypted in it, and what its schema marks as secret.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use serde_json::Value;

use super::{Document, Format, ParseError, locate, parse, written};

/// Stands where a secret was.
pub const HIDDEN: &str = "[hidden]";

/// Shorter than this, a secret is found in a text only where it stands by itself: half of all words hold an `a`.
const SHORT: usize = 4;

/// To find the secrets of a document takes no more than reading so many bytes; where it would, none of it is shown.
const MOST_READ: usize = 64 << 20;

/// What is hidden of a document. The default hides nothing.
#[derive(Clone, Default)]
pub(super) struct Secrets {
    /// What the tokens of the text say.
    pub(super) plain: HashMap<String, String>,
    /// Where the secrets are, keys and indexes from the top level down; all that is below them is one too.
    paths: Vec<Vec<String>>,
    /// The scalars that are there, as texts, the longest first.
    texts: Vec<String>,
}

impl Document {
    pub(super) fn secrets(&self) -> &Secrets {
        static NONE: LazyLock<Secrets> = LazyLock::new(Secrets::default);
        self.secrets.as_deref().unwrap_or(&NONE)
    }

    /// This document with its tokens read: `plain` says what each of them stands for, `paths` where they are.
    pub(crate) fn opened(self, plain: HashMap<String, String>, paths: Vec<Vec<String>>) -> Document {
        let mut said = self.said().clone();
        open(&mut said.value, &plain);
        let secrets = Secrets { plain, ..Secrets::default() };
        Document { said: Arc::new(said.into()), secrets: Some(Arc::new(secrets)), ..self }.marked(paths)
    }

    /// This document, where also what is at `paths`, or below, is secret ([`crate::schema::Schema::marks`]).
    pub fn marked(mut self, paths: Vec<Vec<String>>) -> Document {
        if paths.is_empty() {
            return self;
        }
        let mut texts = Vec::new();
        for at in paths.iter().filter_map(|path| at(self.value(), path)) {
            each_scalar(at, &mut |_, scalar| texts.extend(text_of(scalar)));
        }
        let secrets = Arc::make_mut(self.secrets.get_or_insert_default());
        secrets.texts.extend(texts);
        secrets.paths.extend(paths);
        secrets.texts.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        secrets.texts.dedup();
        self
    }

    /// Whether something in it is secret.
    pub fn has_secrets(&self) -> bool {
        !self.secrets().paths.is_empty()
    }

    /// Where its secrets are, as [`crate::diff::Change::path`] writes it: each scalar.
    pub fn secret_places(&self) -> BTreeSet<String> {
        let mut places = BTreeSet::new();
        for path in &self.secrets().paths {
            if let Some(at) = at(self.value(), path) {
                each_scalar(at, &mut |below, _| {
                    places.insert(written(self.value(), &[&path[..], below].concat()));
                });
            }
        }
        places
    }

    /// What it says, with [`HIDDEN`] in the place of each secret, and of its text in every other string, number and key.
    pub fn shown(&self) -> Value {
        let mut value = self.value().clone();
        for path in &self.secrets().paths {
            if let Some(at) = at_mut(&mut value, path) {
                cover(at);
            }
        }
        Sought::of(&[self]).hide_in(&mut value);
        value
    }

    /// Its bytes as text, with [`HIDDEN`] in the place of each secret. It has the same lines, so that a line here is that
    /// line there. What was encrypted is as it is: nobody can read it.
    pub fn shown_text(&self) -> String {
        let whole = String::from_utf8_lossy(&self.bytes).into_owned();
        let Ok(text) = parse::text(&self.bytes) else { return whole };
        let mut leaves = Vec::new();
        for path in &self.secrets().paths {
            if let Some(at) = at(self.value(), path) {
                each_scalar(at, &mut |below, _| leaves.push([&path[..], below].concat()));
            }
        }
        // The text is read again for each of them; and where nobody knows where one is, nothing is shown.
        let spans = match leaves.len() * text.len() > MOST_READ {
            true => None,
            false => leaves.iter().map(|leaf| locate::span(text, self.format, leaf)).collect::<Option<Vec<_>>>(),
        };
        let Some(spans) = spans else { return covered_lines(&whole) };
        let shown = cover_spans(text, spans);
        // It may stand in a comment as well.
        self.hide(&shown)
    }

    /// `text` with [`HIDDEN`] in the place of each secret of this document that is in it, also quoted, or cut off where
    /// `text` ends with `…`.
    pub fn hide(&self, text: &str) -> String {
        without(text, self.secrets().texts.iter().flat_map(|secret| forms(secret)))
    }

    /// Whether `word`, which has no white space, may be in one of its strings: it has it, or an escape.
    pub(crate) fn may_hold(&self, word: &str) -> bool {
        self.bytes.contains(&b'\\') || self.bytes.windows(word.len()).any(|bytes| bytes == word.as_bytes())
    }

    /// Refuses a document in which [`HIDDEN`] stands in a text, or in a comment: it was copied from where a secret was hidden.
    ///
    /// # Errors
    /// Where the first one is.
    pub fn refuse_hidden(&self) -> Result<(), ParseError> {
        match self.find_hidden() {
            None => Ok(()),
            Some((Some(at), error)) => {
                let place = error.line.zip(error.column);
                Err(ParseError::located(place, format!("{at}: {}", error.reason)))
            }
            Some((None, error)) => Err(error),
        }
    }

    /// As [`Document::refuse_hidden`], with the path to the first one apart, as [`crate::diff::Change::path`] writes it;
    /// none leads to a comment.
    pub fn find_hidden(&self) -> Option<(Option<String>, ParseError)> {
        if !self.may_hold(HIDDEN) {
            return None;
        }
        let reason = format!("`{HIDDEN}` stands where a secret was when this was shown; put the secret back");
        if !any_text(self.value(), &|text| text.contains(HIDDEN)) {
            let place = self.hidden_in_comment()?;
            return Some((None, ParseError::located(Some(place), reason)));
        }
        let mut found = None;
        each_scalar(self.value(), &mut |path, scalar| {
            if found.is_none() && scalar.as_str().is_some_and(|text| text.contains(HIDDEN)) {
                found = Some(path.to_vec());
            }
        });
        let path = found?;
        let error = ParseError::located(self.locate(&path), reason);
        Some((Some(written(self.value(), &path)), error))
    }
}

impl Document {
    /// Where the mark stands in a comment: the same letters are a TOML table or a YAML list elsewhere.
    fn hidden_in_comment(&self) -> Option<(u32, u32)> {
        if self.format() == Format::Json {
            return None;
        }
        let text = str::from_utf8(self.bytes()).ok()?;
        text.lines().enumerate().find_map(|(n, line)| {
            let comment = line.find('#')?;
            let at = comment + line[comment..].find(HIDDEN)?;
            Some((n as u32 + 1, line[..at].chars().count() as u32 + 1))
        })
    }
}

/// `text` with a mark in the place of each line that says something, for what cannot be told apart.
fn covered_lines(text: &str) -> String {
    let line = |line: &str| match line.strip_suffix('\n') {
        Some(line) if line.trim().is_empty() => "\n".to_owned(),
        Some(_) => format!("{HIDDEN}\n"),
        None => HIDDEN.to_owned(),
    };
    text.split_inclusive('\n').map(line).collect()
}

/// `text` with a mark for what is in `spans`, line by line.
fn cover_spans(text: &str, mut spans: Vec<Range<usize>>) -> String {
    spans.sort_by_key(|span| span.start);
    let mut shown = String::with_capacity(text.len());
    let mut from = 0;
    for span in spans {
        if span.end <= from {
            continue;
        }
        let start = span.start.max(from);
        shown.push_str(&text[from..start]);
        for (n, line) in text[start..span.end].split('\n').enumerate() {
            match n {
                // In quotes it is a string in each of the formats, which [`Document::refuse_hidden`] finds.
                0 => shown.push_str(&format!("\"{HIDDEN}\"")),
                _ if line.trim().is_empty() => shown.push('\n'),
                _ => shown.push_str(&format!("\n{HIDDEN}")),
            }
        }
        from = span.end;
    }
    shown.push_str(&text[from..]);
    shown
}

/// Puts what the tokens stand for in their place.
fn open(value: &mut Value, plain: &HashMap<String, String>) {
    match value {
        Value::String(text) => {
            if let Some(plain) = plain.get(text) {
                text.clone_from(plain);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| open(item, plain)),
        Value::Object(fields) => fields.values_mut().for_each(|field| open(field, plain)),
        _ => {}
    }
}

/// Hides each scalar; what is there is still seen.
fn cover(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(cover),
        Value::Object(fields) => fields.values_mut().for_each(cover),
        Value::Null => {}
        scalar => *scalar = HIDDEN.into(),
    }
}

/// Whether one of the texts is one that `is` says; without a word of where, it costs next to nothing.
pub(crate) fn any_text(value: &Value, is: &impl Fn(&str) -> bool) -> bool {
    match value {
        Value::String(text) => is(text),
        Value::Array(items) => items.iter().any(|item| any_text(item, is)),
        Value::Object(fields) => fields.values().any(|field| any_text(field, is)),
        _ => false,
    }
}

/// Calls `act` with each scalar, and where it is below `value`.
pub(crate) fn each_scalar<'a>(value: &'a Value, act: &mut impl FnMut(&[String], &'a Value)) {
    fn walk<'a>(path: &mut Vec<String>, value: &'a Value, act: &mut impl FnMut(&[String], &'a Value)) {
        let steps: Vec<(String, &'a Value)> = match value {
            Value::Array(items) => items.iter().enumerate().map(|(index, item)| (index.to_string(), item)).collect(),
            Value::Object(fields) => fields.iter().map(|(name, field)| (name.clone(), field)).collect(),
            scalar => return act(path, scalar),
        };
        for (step, value) in steps {
            path.push(step);
            walk(path, value, act);
            path.pop();
        }
    }
    walk(&mut Vec::new(), value, act);
}

/// What `path` leads to.
fn at<'a>(value: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, step| match value {
        Value::Array(items) => items.get(step.parse::<usize>().ok()?),
        Value::Object(fields) => fields.get(step),
        _ => None,
    })
}

/// As [`at`], to change it.
pub(crate) fn at_mut<'a>(value: &'a mut Value, path: &[String]) -> Option<&'a mut Value> {
    path.iter().try_fold(value, |value, step| match value {
        Value::Array(items) => items.get_mut(step.parse::<usize>().ok()?),
        Value::Object(fields) => fields.get_mut(step),
        _ => None,
    })
}

/// A scalar as a text may hold it; none where everything holds it.
fn text_of(scalar: &Value) -> Option<String> {
    match scalar {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// How a text may write a secret: as it is, in quotes of Rust or JSON, in a URL, and each line of it.
fn forms(secret: &str) -> Vec<String> {
    let json = Value::from(secret).to_string();
    let url: String = secret
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect();
    let mut forms = vec![secret.to_owned(), json[1..json.len() - 1].to_owned(), secret.escape_debug().to_string(), url];
    forms.extend(secret.lines().map(str::trim).filter(|line| line.len() >= SHORT).map(str::to_owned));
    forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
    forms.dedup();
    forms
}

/// `text` with a mark in the place of each of `forms`, also where it ends with a part of one and `…`.
fn without(text: &str, forms: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let mut shown = text.to_owned();
    for form in forms {
        let form = form.as_ref();
        if shown.contains(form) {
            shown = replace(&shown, form);
        }
        if let Some(kept) = shown.strip_suffix('…') {
            let cut = form.char_indices().map(|(at, _)| at).filter(|at| *at >= SHORT).rev();
            let cut = cut.map(|at| &form[..at]).find(|begin| kept.ends_with(begin));
            if let Some(begin) = cut {
                shown = format!("{}{HIDDEN}…", &kept[..kept.len() - begin.len()]);
            }
        }
    }
    shown
}

fn replace(text: &str, secret: &str) -> String {
    if secret.len() >= SHORT {
        return text.replace(secret, HIDDEN);
    }
    let mut shown = String::new();
    let mut from = 0;
    for (at, _) in text.match_indices(secret) {
        let beside = [text[..at].chars().next_back(), text[at + secret.len()..].chars().next()];
        if at >= from && !beside.into_iter().flatten().any(char::is_alphanumeric) {
            shown.push_str(&text[from..at]);
            shown.push_str(HIDDEN);
            from = at + secret.len();
        }
    }
    shown.push_str(&text[from..]);
    shown
}

/// The secrets of documents as texts, to be found in very many others: all that a document says.
pub(crate) struct Sought {
    /// As they may be written, in the order in which they are hidden.
    forms: Vec<String>,
    /// What these begin with, at most [`SHORT`] bytes.
    starts: HashSet<Vec<u8>>,
    /// So many bytes may still be read for them.
    left: usize,
}

impl Sought {
    pub(crate) fn of(documents: &[&Document]) -> Sought {
        let mut secrets: Vec<&String> = documents.iter().flat_map(|document| &document.secrets().texts).collect();
        secrets.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        secrets.dedup();
        let forms: Vec<_> = secrets.into_iter().flat_map(|secret| forms(secret)).collect();
        let starts = forms.iter().map(|form| form.as_bytes()[..form.len().min(SHORT)].to_vec()).collect();
        Sought { forms, starts, left: MOST_READ }
    }

    /// `text` as [`Document::hide`] gives it, where that is another; as a whole, where to find them takes too long.
    pub(crate) fn hide(&mut self, text: &str) -> Option<String> {
        // What it takes to look into the shortest one.
        const EACH: usize = 32;
        let shortest = self.starts.iter().map(Vec::len).min()?;
        let begins =
            |rest: &[u8]| (shortest..=SHORT.min(rest.len())).any(|length| self.starts.contains(&rest[..length]));
        if text == HIDDEN || !(0..text.len()).any(|at| begins(&text.as_bytes()[at..])) {
            return None;
        }
        let Some(left) = self.left.checked_sub(self.forms.len() * (text.len() + EACH)) else {
            return Some(HIDDEN.to_owned());
        };
        self.left = left;
        let shown = without(text, &self.forms);
        (shown != text).then_some(shown)
    }

    /// Hides them in the strings and keys of `value`, and numbers that hold one.
    pub(crate) fn hide_in(&mut self, value: &mut Value) {
        if self.forms.is_empty() {
            return;
        }
        match value {
            Value::String(text) => *text = self.hide(text).unwrap_or_else(|| std::mem::take(text)),
            Value::Number(number) => {
                if self.hide(&number.to_string()).is_some() {
                    *value = HIDDEN.into();
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.hide_in(item)),
            Value::Object(fields) => {
                for (name, mut field) in std::mem::take(fields) {
                    self.hide_in(&mut field);
                    fields.insert(self.hide(&name).unwrap_or(name), field);
                }
            }
            Value::Null | Value::Bool(_) => {}
        }
    }
}

/// The text that `bytes` are shown as where they are no document but their kind has secrets: nobody can tell them apart.
pub fn shown_unparsed(bytes: &[u8], has_secrets: bool) -> String {
    let text = String::from_utf8_lossy(bytes);
    if has_secrets { covered_lines(&text) } else { text.into_owned() }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::Format;
    use super::*;

    fn document(text: &str, format: Format) -> Document {
        Document::parse(Bytes::copy_from_slice(text.as_bytes()), format).unwrap()
    }

    fn path(text: &str) -> Vec<String> {
        text.split('.').map(str::to_owned).collect()
    }

    #[test]
    fn a_secret_is_hidden_in_every_way_that_the_formats_write_it_and_the_lines_stay() {
        for (text, format, shown) in [
            ("a = 1\npass = \"hunter2\" # x\n", Format::Toml, "a = 1\npass = \"[hidden]\" # x\n"),
            (
                "pass = \"\"\"\nhunter2\n\nhunter3\"\"\"\nb = 1\n",
                Format::Toml,
                "pass = \"[hidden]\"\n[hidden]\n\n[hidden]\nb = 1\n",
            ),
            ("x = {pass = 'hunter2', b = 2}\n", Format::Toml, "x = {pass = \"[hidden]\", b = 2}\n"),
            ("{\"pass\": \"hun\\u0074er2\", \"b\": 1}", Format::Json, "{\"pass\": \"[hidden]\", \"b\": 1}"),
            ("pass: hunter2\nb: 1\n", Format::Yaml, "pass: \"[hidden]\"\nb: 1\n"),
            (
                "x:\n  pass: |\n    hunter2\n\n     more\n  b: 1\n",
                Format::Yaml,
                "x:\n  pass: |\n    \"[hidden]\"\n\n[hidden]\n  b: 1\n",
            ),
            (
                "pass:\n  - hunter2\n  - hunter3\nb: 1\n",
                Format::Yaml,
                "pass:\n  - \"[hidden]\"\n  - \"[hidden]\"\nb: 1\n",
            ),
            ("pass:\n  hunter2\n  hunter3\nb: 1\n", Format::Yaml, "pass:\n  \"[hidden]\"\n[hidden]\nb: 1\n"),
            (
                "pass: 'hunter2\n  hunter3'\nb: 1 # hunter2 hunter3\n",
                Format::Yaml,
                "pass: \"[hidden]\"\n[hidden]\nb: 1 # [hidden]\n",
            ),
        ] {
            let at = if text.starts_with('x') { "x.pass" } else { "pass" };
            let marked = document(text, format).marked(vec![path(at)]);
            assert_eq!(marked.shown_text(), shown, "{text}");
            assert_eq!(marked.shown_text().lines().count(), text.lines().count());
            assert!(!marked.shown().to_string().contains("hunter"), "{}", marked.shown());
            assert!(!format!("{marked:?}").contains("hunter"));
        }
    }

    #[test]
    fn a_secret_is_hidden_in_all_that_is_said_wherever_else_its_text_stands() {
        let text = "\
            pass: &a hunter2\nother: *a\nin: x hunter2 y\nlist: [hun, hunter22]\nhunter2: 1\n\
            pin: 77\nport: 77\nfar: 1774\nof 77: true\nurl: x://h?p=hunter2\n";
        let marked = document(text, Format::Yaml).marked(vec![path("pass"), path("pin")]);
        let shown = serde_json::json!({
            "pass": HIDDEN, "other": HIDDEN, "in": "x [hidden] y", "list": ["hun", "[hidden]2"], HIDDEN: 1,
            "pin": HIDDEN, "port": HIDDEN, "far": 1774, "of [hidden]": true, "url": "x://h?p=[hidden]",
        });
        assert_eq!(marked.shown(), shown);
    }

    #[test]
    fn where_it_takes_too_long_to_find_the_secrets_what_may_hold_one_is_hidden_as_a_whole() {
        let secrets: Vec<String> = (0..3000).map(|n| format!("secret-{n:04}")).collect();
        let others: Vec<String> = (0..3000).map(|n| format!("a secret-no {n:04}")).collect();
        let json = serde_json::json!({ "pass": secrets, "others": others, "plain": "nothing of it" });
        let shown = document(&json.to_string(), Format::Json).marked(vec![path("pass")]).shown();

        assert_eq!((&shown["others"][0], &shown["others"][2999]), (&others[0].as_str().into(), &HIDDEN.into()));
        assert_eq!(shown["plain"], "nothing of it");
    }

    #[test]
    fn an_aliased_secret_is_hidden_where_it_is_written() {
        let text = "base: &b\n  pass: hunter2\nx: *b\ny:\n  <<: *b\n";
        for at in ["x.pass", "y.pass"] {
            let shown = document(text, Format::Yaml).marked(vec![path(at)]).shown_text();
            assert!(!shown.contains("hunter2"), "{at}: {shown}");
        }
    }

    #[test]
    fn a_secret_is_hidden_where_a_line_ends_as_only_yaml_ends_one() {
        let text = "a: 1\rpass: \"hun\\x74er2\"\nb: 2\nc: 3\n";
        let shown = document(text, Format::Yaml).marked(vec![path("pass")]).shown_text();
        assert!(!shown.contains("er2"), "{shown}");
    }

    #[test]
    fn a_secret_in_a_text_is_hidden_quoted_escaped_or_cut_off() {
        let secret = "hun\"ter 2\\x";
        let json = serde_json::json!({ "pass": secret, "pin": "77" }).to_string();
        let marked = document(&json, Format::Json).marked(vec![path("pass"), path("pin")]);
        for text in [
            format!("no {secret}!"),
            format!("no {secret:?}!"),
            format!("no {}!", Value::from(secret)),
            "no hun%22ter%202%5Cx!".to_owned(),
        ] {
            assert!(!marked.hide(&text).contains("ter"), "{}", marked.hide(&text));
        }
        assert_eq!(marked.hide("wants a number, not hun\"ter…"), "wants a number, not [hidden]…");
        assert_eq!(marked.hide("77 of 1774, \"77\""), "[hidden] of 1774, \"[hidden]\"");
    }

    #[test]
    fn the_mark_is_refused_with_its_place_and_a_list_of_that_name_is_not() {
        let error = document("a = 1\nb.c = \"x://u:[hidden]@h\"\n", Format::Toml).refuse_hidden().unwrap_err();
        assert_eq!((error.line, error.column), (Some(2), Some(7)), "{error}");
        assert!(error.reason.starts_with("b.c: `[hidden]` "), "{error}");
        assert_eq!(document("tags: [hidden]\n", Format::Yaml).refuse_hidden(), Ok(()));
        assert_eq!(document("# a table\n[hidden]\na = 1\n", Format::Toml).refuse_hidden(), Ok(()));

        for (text, format) in
            [("a = 1\n# x://u:[hidden]@h\n", Format::Toml), ("a: 1\n# x://u:[hidden]@h\n", Format::Yaml)]
        {
            let error = document(text, format).refuse_hidden().unwrap_err();
            assert_eq!((error.line, error.column), (Some(2), Some(9)), "{format}: {error}");
        }
    }
}
