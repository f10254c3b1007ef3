//! `confhot put --set`: several documents, published as one.

use std::path::{Path, PathBuf};

use confhot::document::Document;
use confhot::kv::{Bucket, ChangeSet, Entry, Expect, Key, Operation, Provenance, PublishError, Settings, Write};
use serde_json::{Value, json};

use super::{Args, Checkouts, TRIES, head, note_differences, provenance, suspicion};
use crate::commands::wait::{self, Stood};
use crate::commands::{No, Outcome, Session, judge, validate};

/// A document that is to be published, and where it comes from.
struct Member {
    path: PathBuf,
    key: Key,
    document: Document,
    commit: Option<String>,
}

pub(super) async fn run(session: &Session, args: Args) -> anyhow::Result<Outcome> {
    let signing = args.signing.read(session)?;
    let members = read(session, &args.set, args.follow_outside, args.validate.check()?.as_ref()).await?;
    let bucket = signing.on(session.bucket().await?);
    for member in &members {
        // What lies beside it was asked already; this is what the bucket carries.
        let known = |other: &Member| Some(&other.key) == member.key.schema().as_ref();
        if !members.iter().any(known) {
            let invalid = |error| No::Invalid { document: shown(&member.path), error };
            judge(&bucket, &member.key, &member.document).await?.map_err(invalid)?;
        }
    }
    let found = bucket.ensure(&Settings::default()).await?;
    if !found.atomic {
        return Err(No::NotAsOne { bucket: bucket.name().to_owned() }.into());
    }
    note_differences(session, &bucket, Some(&found));
    let waiting = args.waiting.begin(&bucket, None).await?;
    let from = provenance(session, args.message);
    let mut tries = 0;
    loop {
        tries += 1;
        let (writes, mut stood) = plan(&bucket, &members, &from, args.force).await?;
        let set = writes.first().and_then(|write| write.provenance.set.clone());
        let outcomes = bucket.publish_set(&writes, true).await;
        match outcomes.into_iter().collect::<Result<Vec<_>, _>>() {
            Ok(stored) => {
                let stored = writes.iter().zip(stored);
                stood.extend(stored.map(|(write, it)| Stood::new(write.key.clone(), it.revision, write.digest, true)));
                stood.sort_by(|a, b| a.target.key.cmp(&b.target.key));
                return tell(session, &bucket, set, &stood, waiting, args.rollback_on_reject).await;
            }
            // One that lost its race takes all of them with it.
            Err(PublishError::Conflict { .. } | PublishError::Unconfirmed { .. }) if tries < TRIES => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The documents and schemas at `paths`, schemas first; or all that is wrong with them.
async fn read(
    session: &Session,
    paths: &[PathBuf],
    outside: bool,
    check: Option<&crate::commands::check::Check>,
) -> anyhow::Result<Vec<Member>> {
    let (files, unreadable) = validate::check(paths, outside, check).await;
    let mut problems: Vec<String> = files.iter().flat_map(|(file, _)| file.problems().collect::<Vec<_>>()).collect();
    if let Some(missed) = unreadable.into_iter().next() {
        return Err(validate::cannot_read(missed));
    }
    if let Some(last) = problems.pop() {
        problems.iter().for_each(|problem| session.out.error(&anyhow::anyhow!("{problem}"), None));
        return Err(No::Problem(last).into());
    }
    let (mut members, mut checkouts) = (Vec::new(), Checkouts::default());
    for (file, document) in files {
        if let (Some(key), Some(document)) = (file.key, document) {
            let commit = checkouts.commit_of(&file.root, &file.path, document.bytes()).await;
            members.push(Member { path: file.path, key, document, commit });
        }
    }
    let mut keys = std::collections::BTreeSet::new();
    if let Some(twice) = members.iter().find(|member| !keys.insert(member.key.clone())) {
        return Err(No::Problem(format!("{} is a second document of {}", shown(&twice.path), twice.key)).into());
    }
    anyhow::ensure!(!members.is_empty(), "there is no document to publish");
    members.sort_by_key(|member| !member.key.is_own());
    Ok(members)
}

/// What is to be written, and what stands already.
async fn plan(
    bucket: &Bucket,
    members: &[Member],
    from: &Provenance,
    force: bool,
) -> anyhow::Result<(Vec<Write>, Vec<Stood>)> {
    let (mut writes, mut stood) = (Vec::new(), Vec::new());
    for Member { path, key, document, commit } in members {
        let head: Option<Entry> = head(bucket, key).await?;
        let same = |head: &&Entry| {
            head.operation == Operation::Put && head.value == document.bytes() && bucket.is_signed(head)
        };
        if let Some(head) = head.as_ref().filter(same) {
            stood.push(Stood::new(key.clone(), head.revision, document.digest(), false));
            continue;
        }
        if !force && let Some(suspicion) = suspicion(bucket, head.as_ref(), document).await? {
            return Err(No::Suspicious { document: shown(path), suspicion }.into());
        }
        let mut provenance = from.clone();
        provenance.format = Some(document.format());
        provenance.path = Some(shown(path));
        provenance.commit.clone_from(commit);
        let expect = head.map_or(Expect::Never, |head| Expect::At(head.revision));
        writes.push(Write::put(key.clone(), document.bytes().clone(), document.digest(), provenance, expect));
    }
    let set = (writes.len() > 1).then(|| ChangeSet::new(writes.len()));
    for write in &mut writes {
        write.provenance.set.clone_from(&set);
    }
    Ok((writes, stood))
}

async fn tell(
    session: &Session,
    bucket: &Bucket,
    set: Option<ChangeSet>,
    stood: &[Stood],
    waiting: Option<wait::Waiting>,
    roll_back: bool,
) -> anyhow::Result<Outcome> {
    let out = &session.out;
    if !out.is_json() {
        for Stood { target, new } in stood {
            let what = if *new { "published" } else { "unchanged" };
            out.line(&format!("{} is {what} at revision {}", target.key, target.revision))?;
        }
        out.flush()?;
    }
    let documents: Vec<Value> = stood
        .iter()
        .map(|it| json!({ "key": it.target.key, "revision": it.target.revision, "unchanged": !it.new }))
        .collect();
    let mut answer = json!({ "set": set, "documents": documents });
    let mut outcome = Outcome::Yes;
    if let Some(mut waiting) = waiting {
        let (of_wait, lists) = waiting.settle(session, bucket, stood, roll_back).await?;
        outcome = of_wait;
        if let Value::Object(answer) = &mut answer {
            answer.extend(lists);
        }
    }
    if out.is_json() {
        out.json(&answer)?;
    }
    Ok(outcome)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
