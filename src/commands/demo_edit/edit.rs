//! Which edit comes next: a pure function of a random generator and the documents.

use std::collections::BTreeSet;

use bytes::Bytes;
use confhot::document::Document;
use fastrand::Rng;
use serde::Serialize;
use serde_json::Value;

const LEVELS: [&str; 3] = ["debug", "info", "warn"];
/// What a feature that is a number becomes: of no service too much, and easy to tell apart.
const SIZES: [u64; 5] = [10, 25, 50, 100, 250];
/// One edit of so many is a mistake, where mistakes are wanted.
const FAULT_OF: u8 = 4;
/// Places in a text that are tried for a value.
const TRIES: usize = 200;

/// A document that may be edited.
#[derive(Clone, Copy)]
pub(super) struct Page<'a> {
    /// Its last content without a mistake.
    pub(super) good: &'a Document,
    /// Whether a mistake stands in the file now.
    pub(super) at_fault: bool,
}

/// One save.
#[derive(Debug, PartialEq)]
pub(super) struct Edit {
    /// Which of the pages.
    pub(super) which: usize,
    /// The file from now on.
    pub(super) bytes: Bytes,
    pub(super) what: What,
}

#[derive(Debug, PartialEq)]
pub(super) enum What {
    /// One value is another one; all else is as it was.
    Set {
        at: String,
        before: Value,
        after: Value,
    },
    Fault(Fault),
    /// The last content without a mistake is back.
    Mended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Fault {
    /// The text does not parse.
    Syntax,
    /// Nothing is left of it, as between an editor's truncate and its write.
    Empty,
    /// A valid document that names a database where nothing answers.
    Unreachable,
}

impl Fault {
    pub(super) fn text(self) -> &'static str {
        match self {
            Fault::Syntax => "broken, a character is missing",
            Fault::Empty => "broken, the file is empty",
            Fault::Unreachable => "broken, nothing answers where its database is said to be",
        }
    }
}

/// The next edit; `None` where no page has anything to edit.
pub(super) fn choose(rng: &mut Rng, pages: &[Page], databases: &BTreeSet<String>, faults: bool) -> Option<Edit> {
    let mut order: Vec<usize> = (0..pages.len()).collect();
    rng.shuffle(&mut order);
    order.into_iter().find_map(|which| {
        let Page { good, at_fault } = pages[which];
        let (bytes, what) = if at_fault {
            (good.bytes().clone(), What::Mended)
        } else if faults && rng.u8(..FAULT_OF) == 0 {
            mistake(rng, good)?
        } else {
            change(rng, good, databases)?
        };
        Some(Edit { which, bytes, what })
    })
}

fn change(rng: &mut Rng, document: &Document, databases: &BTreeSet<String>) -> Option<(Bytes, What)> {
    let mut changes = [level, feature, |rng: &mut Rng, document: &Document, databases: &BTreeSet<String>| {
        let before = database_of(document)?;
        let others: Vec<_> = databases.iter().filter(|url| *url != before).collect();
        Some((vec!["database".to_owned(), "url".to_owned()], Value::from(rng.choice(others)?.as_str())))
    }];
    rng.shuffle(&mut changes);
    changes.into_iter().find_map(|change| {
        let (path, after) = change(rng, document, databases)?;
        let before = document.value().pointer(&pointer(&path))?.clone();
        let bytes = with(document, &path, &after)?;
        Some((bytes, What::Set { at: path.join("."), before, after }))
    })
}

fn level(rng: &mut Rng, document: &Document, _: &BTreeSet<String>) -> Option<(Vec<String>, Value)> {
    let before = document.value().pointer("/logging/level")?;
    let after = rng.choice(LEVELS.into_iter().filter(|level| before != *level).collect::<Vec<_>>())?;
    Some((vec!["logging".into(), "level".into()], after.into()))
}

fn feature(rng: &mut Rng, document: &Document, _: &BTreeSet<String>) -> Option<(Vec<String>, Value)> {
    let features = document.value().get("features")?.as_object()?;
    let mut named: Vec<_> = features.iter().filter(|(_, value)| value.is_boolean() || value.is_u64()).collect();
    named.sort_by_key(|(name, _)| *name);
    let (name, before) = rng.choice(named)?;
    let after = match before {
        Value::Bool(on) => (!on).into(),
        _ => rng.choice(SIZES.into_iter().filter(|size| before != size).collect::<Vec<_>>())?.into(),
    };
    Some((vec!["features".into(), name.clone()], after))
}

fn mistake(rng: &mut Rng, document: &Document) -> Option<(Bytes, What)> {
    let mut faults = [Fault::Syntax, Fault::Empty, Fault::Unreachable];
    rng.shuffle(&mut faults);
    faults.into_iter().find_map(|fault| {
        let bytes = match fault {
            Fault::Syntax => slip(rng, document)?,
            Fault::Empty => Bytes::new(),
            Fault::Unreachable => {
                let url = nobody_at(database_of(document)?)?;
                with(document, &["database".into(), "url".into()], &url.into())?
            }
        };
        Some((bytes, What::Fault(fault)))
    })
}

/// `document` with a value in place of another, its text the same elsewhere.
///
/// No format needs to be understood for that: of all places where the old value's text stands, the right one is that
/// whose change makes the parsed document what it is to be.
fn with(document: &Document, path: &[String], after: &Value) -> Option<Bytes> {
    let mut wanted = document.value().clone();
    let place = wanted.pointer_mut(&pointer(path))?;
    let (old, new) = (text(place), text(after));
    *place = after.clone();
    let source = std::str::from_utf8(document.bytes()).ok()?;
    source.match_indices(&old).take(TRIES).find_map(|(at, _)| {
        let edited = Bytes::from([&source[..at], &new, &source[at + old.len()..]].concat());
        let parsed = Document::parse(edited.clone(), document.format()).ok()?;
        (*parsed.value() == wanted).then_some(edited)
    })
}

/// `document` without one character, such that it does not parse any more.
fn slip(rng: &mut Rng, document: &Document) -> Option<Bytes> {
    let bytes = document.bytes();
    let mut places: Vec<usize> = (0..bytes.len()).filter(|at| b"\"'=:,{}[]".contains(&bytes[*at])).collect();
    rng.shuffle(&mut places);
    places.into_iter().take(TRIES).find_map(|at| {
        let edited = Bytes::from([&bytes[..at], &bytes[at + 1..]].concat());
        Document::parse(edited.clone(), document.format()).is_err().then_some(edited)
    })
}

fn pointer(path: &[String]) -> String {
    path.iter().map(|token| format!("/{}", token.replace('~', "~0").replace('/', "~1"))).collect()
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The database that a document names.
pub(super) fn database_of(document: &Document) -> Option<&str> {
    document.value().pointer("/database/url")?.as_str()
}

/// The same database at a port where no server listens: reserved, so that nobody ever will.
fn nobody_at(url: &str) -> Option<String> {
    let start = url.find("://")? + 3;
    // Whatever stands before the last `@` may be part of a password.
    let start = url[start..].rfind('@').map_or(start, |at| start + at + 1);
    let end = url[start..].find(['/', '?', '#']).map_or(url.len(), |end| start + end);
    let host = match url[start..end].rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => host,
        _ => &url[start..end],
    };
    Some(format!("{}{host}:1{}", &url[..start], &url[end..]))
}

#[cfg(test)]
mod tests;
