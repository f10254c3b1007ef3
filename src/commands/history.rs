//! `confhot history`

use std::cmp::Reverse;
use std::collections::HashSet;

use confhot::document::{Digest, Format};
use confhot::kv::{Bucket, ChangeSet, Entry, Key, Operation, Report, Revision, Writer};
use jiff::Timestamp;
use serde::Serialize;

use super::{No, Outcome, Session, absent};

/// List a key's revisions, newest first, deletes included
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  confhot history service1
  confhot history service1 --limit 5
  confhot history service1 --journal
  confhot history service1 --format json | jq -r .author

With --format json, a line a revision:
{\"key\",\"revision\",\"operation\":\"put\"|\"delete\",\"created\",\"writer\",\"author\",\"commit\",\"message\",
\"digest\",\"size\",\"format\",\"set\"}, and for the head \"applied\" and \"rejected\", counts of live instances.
`size` is in bytes; `digest` is null for a delete; `set` is null, or {\"id\",\"members\"} where documents were \
changed together: `confhot rollback KEY --set` takes them back together. What another client wrote has no provenance: null.

Exit codes:
  0  here it is
  1  the key was never written; --journal, and the bucket has none
  2  trouble")]
pub(crate) struct Args {
    /// The key: `service1`, `billing.api`
    key: Key,
    /// At most so many revisions
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// With all that `confhot journal enable` keeps beyond what the bucket does
    #[arg(long)]
    journal: bool,
}

/// One revision, as JSON tells it. `confhot watch` tells the same.
#[derive(Serialize)]
pub(super) struct Line<'a> {
    key: &'a Key,
    revision: Revision,
    operation: Operation,
    created: Timestamp,
    writer: Option<&'a Writer>,
    author: Option<&'a str>,
    commit: Option<&'a str>,
    message: Option<&'a str>,
    digest: Option<Digest>,
    size: usize,
    format: Option<Format>,
    set: Option<&'a ChangeSet>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    instances: Option<Instances>,
}

/// How many live instances serve the head, and how many rejected it; unknown where nobody lets us know.
#[derive(Debug, Clone, Copy, Serialize)]
struct Instances {
    applied: Option<usize>,
    rejected: Option<usize>,
}

impl Instances {
    async fn of(bucket: &Bucket, head: &Entry) -> Instances {
        let Ok((statuses, _)) = bucket.statuses(Some(&head.key)).await else {
            return Instances { applied: None, rejected: None };
        };
        let rejected = |report: &Report| report.rejected.as_ref().is_some_and(|it| it.revision == head.revision);
        let count = |counts: &dyn Fn(&Report) -> bool| Some(statuses.iter().filter(|it| counts(&it.report)).count());
        Instances {
            applied: count(&|report| report.revision == Some(head.revision) && !rejected(report)),
            rejected: count(&rejected),
        }
    }
}

impl<'a> From<&'a Entry> for Line<'a> {
    fn from(entry: &'a Entry) -> Line<'a> {
        let from = &entry.provenance;
        Line {
            key: &entry.key,
            revision: entry.revision,
            operation: entry.operation,
            created: entry.created,
            writer: from.writer.as_ref(),
            author: from.author.as_deref(),
            commit: from.commit.as_deref(),
            message: from.message.as_deref(),
            digest: (entry.operation == Operation::Put).then(|| entry.digest()),
            size: entry.size,
            format: from.format,
            set: from.set.as_ref(),
            instances: None,
        }
    }
}

pub(crate) async fn run(session: &Session, args: Args) -> anyhow::Result<Outcome> {
    let bucket = session.bucket().await?;
    let mut history = bucket.history(&args.key).await?;
    if args.journal {
        let Some(journal) = bucket.journal().await? else {
            return Err(No::Unjournaled { bucket: bucket.name().to_owned() }.into());
        };
        // The bucket says when a revision was stored, the journal only when it was copied.
        let retained: HashSet<_> = history.iter().map(|entry| entry.revision).collect();
        let older = journal.history(&args.key).await?;
        history.extend(older.into_iter().filter(|entry| !retained.contains(&entry.revision)));
        history.sort_by_key(|entry| Reverse(entry.revision));
    }
    if history.is_empty() {
        return Err(absent(&bucket, &args.key).await);
    }
    let newest = history[0].revision;
    let instances = Instances::of(&bucket, &history[0]).await;
    history.truncate(args.limit.unwrap_or(usize::MAX));
    if session.out.is_json() {
        for entry in &history {
            let instances = (entry.revision == newest).then_some(instances);
            session.out.json(&Line { instances, ..Line::from(entry) })?;
        }
        return Ok(Outcome::Yes);
    }
    // A column for the few keys that have use of it.
    if history.iter().any(|entry| entry.provenance.set.is_some()) {
        let rows: Vec<_> = history
            .iter()
            .map(|entry| {
                let [revision, created, writer, size, format, author, commit, message] = cells(entry);
                let set = entry.provenance.set.as_ref();
                let set = set.map(|set| format!("{} of {}", set.id.get(..8).unwrap_or(&set.id), set.members));
                [revision, created, writer, size, format, author, commit, set.unwrap_or("-".into()), message]
            })
            .collect();
        let [revision, created, writer, size, format, author, commit, message] = HEAD;
        session.out.table([revision, created, writer, size, format, author, commit, "SET", message], &rows)?;
    } else {
        session.out.table(HEAD, &history.iter().map(cells).collect::<Vec<_>>())?;
    }
    if let Instances { applied: Some(applied), rejected: Some(rejected) } = instances
        && applied + rejected > 0
    {
        let plural = if applied == 1 { "" } else { "s" };
        let also = if rejected > 0 { format!(", rejected by {rejected}") } else { String::new() };
        session.out.line(&format!("revision {newest} is applied by {applied} instance{plural}{also}"))?;
    }
    Ok(Outcome::Yes)
}

const HEAD: [&str; 8] = ["REVISION", "CREATED", "WRITER", "SIZE", "FORMAT", "AUTHOR", "COMMIT", "MESSAGE"];

/// A row of the table.
fn cells(entry: &Entry) -> [String; 8] {
    let from = &entry.provenance;
    let known = |text: Option<&str>| text.unwrap_or("-").to_owned();
    let (size, format) = match entry.operation {
        Operation::Put => (entry.size.to_string(), from.format.map_or("-".into(), |format| format.to_string())),
        Operation::Delete => ("deleted".into(), "-".into()),
    };
    [
        entry.revision.to_string(),
        format!("{:.0}", entry.created),
        known(from.writer.as_ref().map(Writer::as_str)),
        size,
        format,
        known(from.author.as_deref()),
        known(from.commit.as_deref().map(|commit| commit.get(..10).unwrap_or(commit))),
        from.message.clone().unwrap_or_default(),
    ]
}
