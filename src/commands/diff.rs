//! `confhot diff`

mod all;

use std::path::{Path, PathBuf};

use anstyle::Style;
use bytes::Bytes;
use confhot::diff::{self, Change, Tag};
use confhot::document::{Document, Format, ParseError};
use confhot::kv::{Bucket, Entry, Key, Operation, Revision};
use serde_json::{Value, json};

use super::revision::{Moment, Which};
use super::{Marks, No, Outcome, Session, absent, document_of, format_of, read, shown};
use crate::output::{ADDED, FAINT, Output, PLACE, REMOVED, STRONG, plain};

/// Compare two revisions of a key, its head with a file, or the whole bucket at two points in time
///
/// Without revisions, the one before the head is compared with the head; with one, that one with the head. A revision
/// that has nothing before it, a deleted one, and an absent key with --file, are compared as the empty document.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  confhot diff service1                               # what the last change did
  confhot diff service1 42                            # what changed since revision 42
  confhot diff service1 @~3 @~2
  confhot diff service1 --file configs/service1.toml  # what publishing the file would change
  confhot diff --all 40                               # all that changed since revision 40
  confhot diff --all 40 44 --format json              # a line a key
  confhot diff service1 --structural                  # by meaning: changed paths, before and after

With --structural, format, comments, spaces and the order of keys do not count, not for the exit code either.

With --format json: {\"key\",\"from\",\"to\",\"changes\":[{\"path\",\"before\",\"after\"}],\"text\"}.
`from` and `to` are revisions, or null for a file and for nothing; `changes` is null where one of \
the two does not parse; `text` is the unified diff.

With --all, a revision inside of a change set is refused, and a key of which nothing so old is retained (a bucket keeps \
64 revisions of each key) is named; as JSON it has `lost`, the revision that it is not known at.

Secrets are hidden, as `confhot get` does on a terminal; that one changed is told.

Exit codes:
  0  they are the same
  1  they differ; no such key or revision; --structural, and one of them does not parse; --all, and a key is not known
  2  trouble")]
pub(crate) struct Args {
    /// The key: `service1`, `billing.api`
    #[arg(required_unless_present = "all")]
    key: Option<Key>,
    /// From this revision: `43`, or `@~1` for the one before the head of this key
    from: Option<Which>,
    /// To this revision [default: the head]
    to: Option<Which>,
    /// Compare the head with a file (`-` for stdin)
    #[arg(long, value_name = "PATH", conflicts_with = "from")]
    file: Option<PathBuf>,
    /// Every document that differs between two points in time, revisions of the bucket: `40 44`; `40` for since then
    #[arg(long, value_names = ["FROM", "TO"], num_args = 1..=2, conflicts_with_all = ["key", "file", "structural"])]
    all: Option<Vec<Moment>>,
    /// By meaning instead of by line
    #[arg(long)]
    structural: bool,
}

/// One of the two that are compared.
struct Side {
    label: String,
    revision: Option<Revision>,
    bytes: Bytes,
    parsed: Result<Document, ParseError>,
    format: Option<Format>,
    /// The bytes, without what the schema marks.
    shown: String,
}

impl Side {
    fn nothing() -> Side {
        let parsed = Document::parse_or_empty(Bytes::new(), Format::Json);
        let shown = String::new();
        Side { label: "/dev/null".into(), revision: None, bytes: Bytes::new(), parsed, format: None, shown }
    }

    async fn of(bucket: &Bucket, entry: Entry, marks: &Marks) -> anyhow::Result<Side> {
        let revision = Some(entry.revision);
        if entry.operation == Operation::Delete {
            return Ok(Side { revision, ..Side::nothing() });
        }
        let document = document_of(bucket, &entry).await?;
        Ok(Side::parsed(entry, document, marks))
    }

    fn parsed(entry: Entry, document: Result<Document, ParseError>, marks: &Marks) -> Side {
        let label = format!("{}@{}", entry.key, entry.revision);
        let format = document.as_ref().ok().map(Document::format).or(entry.provenance.format);
        let parsed = or_empty(document, &entry.value).map(|document| marks.mark(document));
        let shown = marks.text(&entry.value, parsed.as_ref().ok());
        Side { label, revision: Some(entry.revision), bytes: entry.value, parsed, format, shown }
    }

    fn text<'a>(&'a self, label: &'a str) -> diff::Text<'a> {
        diff::Text { bytes: &self.bytes, shown: self.shown.as_bytes(), label }
    }

    /// An empty file is the empty document here: it is shown for what it is, whether or not it would be refused.
    fn of_file(path: &Path, format: Option<Format>, marks: &Marks) -> anyhow::Result<Side> {
        let bytes = read(path)?;
        let document = match format_of(path).or(format) {
            Some(format) => Document::parse_or_empty(bytes.clone(), format),
            None => or_empty(Document::detect(bytes.clone()), &bytes),
        };
        let (label, parsed) = (shown(path), document.map(|document| marks.mark(document)));
        let shown = marks.text(&bytes, parsed.as_ref().ok());
        Ok(Side { label, revision: None, bytes, parsed, format, shown })
    }
}

/// The empty document for bytes that hold none, whose format nothing tells; TOML is the one in which they are valid.
fn or_empty(document: Result<Document, ParseError>, bytes: &Bytes) -> Result<Document, ParseError> {
    document.or_else(|error| match error.is_empty() {
        true => Document::parse_or_empty(bytes.clone(), Format::Toml),
        false => Err(error),
    })
}

pub(crate) async fn run(session: &Session, args: Args) -> anyhow::Result<Outcome> {
    let Args { key, from, to, file, all, structural } = args;
    let key = match (key, all.as_deref()) {
        (Some(key), _) => key,
        (None, Some([from, to @ ..])) => return all::run(session, *from, *to.first().unwrap_or(&Moment(None))).await,
        // Refused when it was parsed.
        (None, _) => anyhow::bail!("no key is named"),
    };
    let bucket = session.bucket().await?;
    let marks = Marks::read(session, &bucket, &key).await;
    let (before, after) = match (file, from) {
        (Some(file), _) => {
            let before = match bucket.head(&key).await? {
                Some(head) => Side::of(&bucket, head, &marks).await?,
                None => Side::nothing(),
            };
            let after = Side::of_file(&file, before.format, &marks)?;
            (before, after)
        }
        (None, Some(from)) => {
            let before = Side::of(&bucket, from.resolve(&bucket, &key).await?, &marks).await?;
            let to = to.unwrap_or(Which::HEAD).resolve(&bucket, &key).await?;
            (before, Side::of(&bucket, to, &marks).await?)
        }
        (None, None) => {
            let mut history = bucket.history(&key).await?.into_iter();
            let Some(head) = history.next() else { return Err(absent(&bucket, &key).await) };
            let before = match history.next() {
                Some(entry) => Side::of(&bucket, entry, &marks).await?,
                None => Side::nothing(),
            };
            (before, Side::of(&bucket, head, &marks).await?)
        }
    };
    let out = &session.out;
    let differ =
        if structural { by_meaning(out, &key, &before, &after)? } else { by_line(out, &key, &before, &after)? };
    Ok(if differ { Outcome::No } else { Outcome::Yes })
}

/// Tells the changed lines; whether there are any.
fn by_line(out: &Output, key: &Key, before: &Side, after: &Side) -> anyhow::Result<bool> {
    if out.is_json() {
        let changes = before.parsed.as_ref().ok().zip(after.parsed.as_ref().ok());
        json_line(out, key, before, after, changes.map(|(before, after)| changes_shown(before, after)))?;
        return Ok(before.bytes != after.bytes);
    }
    let labels = [plain(&before.label), plain(&after.label)];
    let lines = diff::lines_shown(&before.text(&labels[0]), &after.text(&labels[1]));
    for line in &lines {
        out.line(&out.paint(style(line.tag), &out.quoted(&line.text)))?;
    }
    Ok(before.bytes != after.bytes)
}

/// What changed; a secret that did is told, and is hidden.
fn changes_shown(before: &Document, after: &Document) -> Vec<Change> {
    let mut changes = diff::changes(before.value(), after.value());
    diff::hide(&mut changes, &[before, after]);
    changes
}

/// The lines of what changes from one entry of a key to another, without secrets.
pub(super) async fn lines(
    session: &Session,
    bucket: &Bucket,
    before: &Entry,
    after: &Entry,
) -> anyhow::Result<Vec<diff::Line>> {
    let marks = Marks::read(session, bucket, &before.key).await;
    let [before, after] =
        [Side::of(bucket, before.clone(), &marks).await?, Side::of(bucket, after.clone(), &marks).await?];
    Ok(diff::lines_shown(&before.text(&plain(&before.label)), &after.text(&plain(&after.label))))
}

/// How a line of a diff looks.
pub(super) fn style(tag: Tag) -> Style {
    match tag {
        Tag::Header => STRONG,
        Tag::Hunk => PLACE,
        Tag::Context => Style::new(),
        Tag::Removed => REMOVED,
        Tag::Added => ADDED,
        Tag::Note => FAINT,
    }
}

/// Tells the changed paths; whether there are any.
fn by_meaning(out: &Output, key: &Key, before: &Side, after: &Side) -> anyhow::Result<bool> {
    let document = |side: &Side| match &side.parsed {
        Ok(document) => Ok(document.clone()),
        Err(error) => Err(No::Invalid { document: side.label.clone(), error: error.clone() }),
    };
    let changes = changes_shown(&document(before)?, &document(after)?);
    let differ = !changes.is_empty();
    if out.is_json() {
        json_line(out, key, before, after, Some(changes))?;
        return Ok(differ);
    }
    for Change { path, before, after } in &changes {
        let path = plain(path);
        let (style, text) = match (before, after) {
            (None, Some(after)) => (ADDED, format!("+ {path}: {}", plain(&after.to_string()))),
            (Some(before), None) => (REMOVED, format!("- {path}: {}", plain(&before.to_string()))),
            (before, after) => {
                let shown = |value: &Option<Value>| value.as_ref().map_or("-".into(), Value::to_string);
                (PLACE, format!("~ {path}: {} -> {}", plain(&shown(before)), plain(&shown(after))))
            }
        };
        out.line(&out.paint(style, &text))?;
    }
    Ok(differ)
}

fn json_line(out: &Output, key: &Key, before: &Side, after: &Side, changes: Option<Vec<Change>>) -> anyhow::Result<()> {
    let text = diff::unified_shown(&before.text(&before.label), &after.text(&after.label));
    out.json(&json!({
        "key": key, "from": before.revision, "to": after.revision, "changes": changes, "text": text,
    }))
}
