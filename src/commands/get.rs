//! `confhot get`

use confhot::document::Document;
use confhot::kv::{Entry, Key, Operation};
use confhot::live;
use serde_json::json;

use super::revision::{Moment, Which};
use super::signing::{Trusting, require};
use super::{Marks, No, Outcome, Session, absent, document_of, format_known};

/// Write a key's value, exactly the bytes that are stored
///
/// A revision that the bucket does not keep any more is read from its journal, if it has one. On a terminal, and only
/// there, secrets are hidden: what the key's schema marks ("writeOnly": true), and passwords of URLs. What is encrypted
/// stays so.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  confhot get service1
  confhot get service1 --revision @~1 > service1.toml    # the one before the head
  confhot get service1 --reveal                          # with its secrets, on a terminal too
  confhot get service1 --at 41                           # as it was when the bucket was at revision 41
  confhot get service1 --format json | jq .value.server.port

With --format json:
{\"key\",\"revision\",\"format\",\"digest\",\"created\",\"writer\",\"author\",\"commit\",\"message\",\"value\"}.
`value` is the parsed document, or a string where it does not parse.

Exit codes:
  0  here it is
  1  no such key or revision, or deleted; with --at, not there or deleted by then, or not retained;
     with --trust, none of these signed it for where it stands
  2  trouble")]
pub(crate) struct Args {
    /// The key: `service1`, `billing.api`
    key: Key,
    /// A revision: `43`, or `@~1` for the one before the head of this key
    #[arg(long, value_name = "R", default_value = "@", hide_default_value = true)]
    revision: Which,
    /// As it was when the bucket was at this revision, which may be another key's: `43`, or `@` for now
    #[arg(long, value_name = "R", conflicts_with = "revision")]
    at: Option<Moment>,
    #[command(flatten)]
    trusting: Trusting,
    /// On a terminal, show secrets too: passwords of URLs, and what the schema marks
    #[arg(long)]
    reveal: bool,
}

pub(crate) async fn run(session: &Session, args: Args) -> anyhow::Result<Outcome> {
    let trust = args.trusting.read()?;
    let bucket = session.bucket().await?;
    let entry = match args.at {
        Some(Moment(Some(at))) => match bucket.entry_at(&args.key, at).await? {
            Some(entry) => entry,
            None if bucket.head(&args.key).await?.is_some() => return Err(No::Later { key: args.key, at }.into()),
            None => return Err(absent(&bucket, &args.key).await),
        },
        Some(Moment(None)) | None => args.revision.resolve(&bucket, &args.key).await?,
    };
    if entry.operation == Operation::Delete {
        let (key, at) = (args.key, entry.revision);
        let head = matches!(args.at, None | Some(Moment(None))) && args.revision == Which::HEAD;
        return Err(if head { No::Deleted { key, at } } else { No::Tombstone { key, at } }.into());
    }
    require(&bucket, trust.as_ref(), &entry).await?;
    if !session.out.is_json() && (args.reveal || !session.out.is_terminal()) {
        session.out.bytes(&entry.value)?;
        return Ok(Outcome::Yes);
    }
    if !session.out.is_json() {
        let marks = Marks::read(session, &bucket, &args.key).await;
        let document = document_of(&bucket, &entry).await?.ok().map(|document| marks.mark(document));
        for line in marks.text(&entry.value, document.as_ref()).lines() {
            session.out.line(&session.out.quoted(line))?;
        }
        return Ok(Outcome::Yes);
    }
    let known = format_known(&bucket, &entry).await?;
    let document = live::document_of(&entry, known).ok();
    let format = document.as_ref().map(Document::format).or(known);
    let digest = entry.digest();
    let Entry { key, revision, created, provenance: from, value, .. } = entry;
    let value = match document {
        Some(document) => document.into_value(),
        None => String::from_utf8_lossy(&value).into(),
    };
    session.out.exact_json(&json!({
        "key": key, "revision": revision, "format": format, "digest": digest, "created": created,
        "writer": from.writer, "author": from.author, "commit": from.commit, "message": from.message, "value": value,
    }))?;
    Ok(Outcome::Yes)
}
