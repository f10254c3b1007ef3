//! `confhot history`

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use confhot::document::{Digest, Format};
use confhot::kv::{Bucket, ChangeSet, Entry, Key, Operation, Report, Revision, Writer, trusted};
use confhot::signature::Distrust;
use jiff::Timestamp;
use serde::Serialize;

use super::signing::Trusting;
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
\"digest\",\"size\",\"format\",\"set\",\"signer\"}, and for the head \"applied\" and \"rejected\", counts of live instances.
`size` is in bytes; `digest` is null for a delete; `set` is null, or {\"id\",\"members\"} where documents were \
changed together: `confhot rollback KEY --set` takes them back together. What another client wrote has no provenance: null.
`signer` is the public nkey of which the document has a signature, null for none. With --trust
also \"trusted\", and where that is false \"distrust\", the reason; what only the journal has is not judged.

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
    #[command(flatten)]
    trusting: Trusting,
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
    signer: Option<&'a str>,
    #[serde(flatten)]
    judged: Option<Judged>,
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

/// What is thought of a revision where it was said whose signatures count.
#[derive(Debug, Serialize)]
pub(super) struct Judged {
    trusted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    distrust: Option<String>,
}

impl From<Option<&Distrust>> for Judged {
    fn from(distrust: Option<&Distrust>) -> Judged {
        Judged { trusted: distrust.is_none(), distrust: distrust.map(Distrust::to_string) }
    }
}

/// Who signed a revision of `bucket`.
pub(super) fn signer<'a>(bucket: &Bucket, entry: &'a Entry) -> Option<&'a str> {
    entry.claim()?.signer_of(&entry.statement(bucket.name(), entry.digest()))
}

impl<'a> Line<'a> {
    pub(super) fn of(bucket: &Bucket, entry: &'a Entry, judged: Option<Judged>) -> Line<'a> {
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
            signer: signer(bucket, entry),
            judged,
            instances: None,
        }
    }
}

pub(crate) async fn run(session: &Session, args: Args) -> anyhow::Result<Outcome> {
    let trust = args.trusting.read()?;
    let bucket = session.bucket().await?;
    let mut history = bucket.history(&args.key).await?;
    let judged: HashMap<Revision, Option<Distrust>> = trust.map_or_else(HashMap::new, |trust| {
        let judge = |index| trusted::vouched(bucket.name(), &trust, &history, index).err();
        history.iter().enumerate().map(|(index, entry)| (entry.revision, judge(index))).collect()
    });
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
            let judged = judged.get(&entry.revision).map(|distrust| Judged::from(distrust.as_ref()));
            session.out.json(&Line { instances, ..Line::of(&bucket, entry, judged) })?;
        }
        return Ok(Outcome::Yes);
    }
    // Columns for the few keys that have use of them.
    let mut extra: Vec<(&str, Vec<String>)> = Vec::new();
    if history.iter().any(|entry| entry.provenance.set.is_some()) {
        let set = |set: &ChangeSet| format!("{} of {}", set.id.get(..8).unwrap_or(&set.id), set.members);
        let set = |entry: &Entry| entry.provenance.set.as_ref().map_or("-".into(), set);
        extra.push(("SET", history.iter().map(set).collect()));
    }
    let signers: Vec<_> = history.iter().map(|entry| signer(&bucket, entry).unwrap_or("-").to_owned()).collect();
    if signers.iter().any(|signer| signer != "-") {
        extra.push(("SIGNER", signers));
    }
    if !judged.is_empty() {
        let trust = |entry: &Entry| match judged.get(&entry.revision) {
            Some(Some(distrust)) => distrust.to_string(),
            Some(None) => "trusted".into(),
            None => "-".into(),
        };
        extra.push(("TRUST", history.iter().map(trust).collect()));
    }
    let mut head = HEAD.to_vec();
    let mut rows: Vec<_> = history.iter().map(|entry| cells(entry).to_vec()).collect();
    for (name, column) in extra {
        // Before the message, which may be of any length.
        head.insert(head.len() - 1, name);
        rows.iter_mut().zip(column).for_each(|(row, cell)| row.insert(row.len() - 1, cell));
    }
    session.out.table(&head, &rows)?;
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
