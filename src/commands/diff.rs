//! `confhot diff`

use std::path::{Path, PathBuf};

use anstyle::Style;
use bytes::Bytes;
use confhot::diff::{self, Change, Tag};
use confhot::document::{Document, Format, ParseError};
use confhot::kv::{Bucket, Entry, Key, Operation, Revision};
use serde_json::{Value, json};

use super::revision::Which;
use super::{No, Outcome, Session, absent, document_of, format_of, read, shown};
use crate::output::{ADDED, FAINT, Output, PLACE, REMOVED, STRONG, plain};

/// Compare two revisions of a key, or its head with a file
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
  confhot diff service1 --structural                  # by meaning: changed paths, before and after

With --structural, format, comments, spaces and the order of keys do not count, not for the exit code either.

With --format json: {\"key\",\"from\",\"to\",\"changes\":[{\"path\",\"before\",\"after\"}],\"text\"}.
`from` and `to` are revisions, or null for a file and for nothing; `changes` is null where one of \
the two does not parse; `text` is the unified diff.

Exit codes:
  0  they are the same
  1  they differ; no such key or revision; --structural, and one of them does not parse
  2  trouble")]
pub(crate) struct Args {
    /// The key: `service1`, `billing.api`
    key: Key,
    /// From this revision: `43`, or `@~1` for the one before the head of this key
    from: Option<Which>,
    /// To this revision [default: the head]
    to: Option<Which>,
    /// Compare the head with a file (`-` for stdin)
    #[arg(long, value_name = "PATH", conflicts_with = "from")]
    file: Option<PathBuf>,
    /// By meaning instead of by line
    #[arg(long)]
    structural: bool,
}

/// One of the two that are compared.
struct Side {
    label: String,
    revision: Option<Revision>,
    bytes: Bytes,
    parsed: Result<Value, ParseError>,
    format: Option<Format>,
}

impl Side {
    fn nothing() -> Side {
        let parsed = Ok(Value::Object(Default::default()));
        Side { label: "/dev/null".into(), revision: None, bytes: Bytes::new(), parsed, format: None }
    }

    async fn of(bucket: &Bucket, entry: Entry) -> anyhow::Result<Side> {
        let revision = Some(entry.revision);
        if entry.operation == Operation::Delete {
            return Ok(Side { revision, ..Side::nothing() });
        }
        let document = document_of(bucket, &entry).await?;
        let label = format!("{}@{}", entry.key, entry.revision);
        let format = document.as_ref().ok().map(Document::format).or(entry.provenance.format);
        Ok(Side { label, revision, bytes: entry.value, parsed: document.map(Document::into_value), format })
    }

    /// An empty file is the empty document here: it is shown for what it is, whether or not it would be refused.
    fn of_file(path: &Path, format: Option<Format>) -> anyhow::Result<Side> {
        let bytes = read(path)?;
        let document = match format_of(path).or(format) {
            Some(format) => Document::parse_or_empty(bytes.clone(), format),
            None => Document::detect(bytes.clone()),
        };
        let label = shown(path);
        Ok(Side { label, revision: None, bytes, parsed: document.map(Document::into_value), format })
    }
}

pub(crate) async fn run(session: &Session, args: Args) -> anyhow::Result<Outcome> {
    let Args { key, from, to, file, structural } = args;
    let bucket = session.bucket().await?;
    let (before, after) = match (file, from) {
        (Some(file), _) => {
            let before = match bucket.head(&key).await? {
                Some(head) => Side::of(&bucket, head).await?,
                None => Side::nothing(),
            };
            let after = Side::of_file(&file, before.format)?;
            (before, after)
        }
        (None, Some(from)) => {
            let before = Side::of(&bucket, from.resolve(&bucket, &key).await?).await?;
            let to = to.unwrap_or(Which::HEAD).resolve(&bucket, &key).await?;
            (before, Side::of(&bucket, to).await?)
        }
        (None, None) => {
            let mut history = bucket.history(&key).await?.into_iter();
            let Some(head) = history.next() else { return Err(absent(&bucket, &key).await) };
            let before = match history.next() {
                Some(entry) => Side::of(&bucket, entry).await?,
                None => Side::nothing(),
            };
            (before, Side::of(&bucket, head).await?)
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
        json_line(out, key, before, after, changes.map(|(before, after)| diff::changes(before, after)))?;
        return Ok(before.bytes != after.bytes);
    }
    let lines = diff::lines(&before.bytes, &after.bytes, &plain(&before.label), &plain(&after.label));
    for line in &lines {
        out.line(&out.paint(style(line.tag), &out.quoted(&line.text)))?;
    }
    Ok(before.bytes != after.bytes)
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
    let value = |side: &Side| match &side.parsed {
        Ok(value) => Ok(value.clone()),
        Err(error) => Err(No::Invalid { document: side.label.clone(), error: error.clone() }),
    };
    let changes = diff::changes(&value(before)?, &value(after)?);
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
    let text = diff::unified(&before.bytes, &after.bytes, &before.label, &after.label);
    out.json(&json!({
        "key": key, "from": before.revision, "to": after.revision, "changes": changes, "text": text,
    }))
}
