//! `confhot rollback`

mod set;

use confhot::kv::{Bucket, Entry, Key, Operation, Write, rollback};
use confhot::wait::Target;

use super::revision::Which;
use super::signing::{SignWith, may_come_back};
use super::{No, Outcome, Session, Unconfirmed, absent, diff, document_of, judge, put, wait};

/// Publish an older revision's bytes again, as a new revision
///
/// Without REVISION, the newest document before the head that differs from it. After a rollback that is counted from the
/// revision that came back: a second one goes further back. A revision that the bucket does not keep any more comes from
/// its journal, if it has one. Shows the diff first. Asks on a terminal; elsewhere --yes is needed.
///
/// A loader whose file still holds what was withdrawn reports drift, and puts it back only when the file changes.
///
/// With --sign, a revision without a signature that counts comes back only where it is named.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  confhot rollback service1
  confhot rollback service1 42 --message 'orders fail since 43'
  confhot rollback service1 @~2 --yes
  confhot rollback service1 --set                  all that was published as one with it

The diff goes to stderr. With --format json: {\"key\",\"revision\",\"unchanged\"}, and with --wait as `put --wait`.
`revision` is the new one, or the head's where it holds those bytes already.
With --set: {\"set\":{\"id\",\"members\"},\"documents\":[{\"key\",\"revision\",\"rolled_back_to\"}]}. A key that the change set
had made is deleted. Where somebody has changed one of them since, none is taken back.

Exit codes:
  0  rolled back, or unchanged
  1  nothing older, no such revision, invalid, refused by today's schema, changed meanwhile, or you said no;
     with --wait, not every instance applied it
  2  trouble, or nobody to ask and no --yes")]
pub(crate) struct Args {
    /// The key: `service1`, `billing.api`
    key: Key,
    /// To this revision: `43`, or `@~1` for the one before the head of this key
    revision: Option<Which>,
    /// Why, for the history
    #[arg(long, value_name = "TEXT")]
    message: Option<String>,
    /// Take back all that was published as one with the key's head, as one
    #[arg(long, conflicts_with = "revision")]
    set: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    signing: SignWith,
    #[command(flatten)]
    waiting: wait::Args,
}

pub(crate) async fn run(session: &Session, args: Args) -> anyhow::Result<Outcome> {
    if args.set {
        return set::run(session, args).await;
    }
    let Args { key, revision, message, yes, signing, waiting, .. } = args;
    let signing = signing.read(session)?;
    let bucket = signing.on(session.bucket().await?);
    let history = bucket.history(&key).await?;
    let Some(head) = history.first() else { return Err(absent(&bucket, &key).await) };
    let target = match revision {
        Some(which) => which.resolve(&bucket, &key).await?,
        None => match rollback::target(&may_come_back(&bucket, history.clone())) {
            Some(target) => target.clone(),
            None => {
                if let Some(revision) = rollback::target(&history).map(|target| target.revision) {
                    return Err(No::Unsigned { key, revision }.into());
                }
                let origin = head.provenance.rollback_of.unwrap_or(head.revision);
                return Err(No::NothingOlder { key, origin }.into());
            }
        },
    };
    if target.operation == Operation::Delete {
        return Err(No::Tombstone { key, at: target.revision }.into());
    }
    if head.operation == Operation::Put && head.value == target.value && bucket.is_signed(head) {
        let waiting = waiting.begin(&bucket, Some(&key)).await?;
        let target = Target { key, revision: head.revision, digest: head.digest() };
        return put::told(session, &bucket, target, None, waiting.map(|waiting| (waiting, false))).await;
    }
    let mut write = write(&bucket, head, &target, true).await?;
    write.provenance.author = session.author();
    write.provenance.message = message;

    show(session, &bucket, head, &target).await?;
    if !yes {
        match session.out.confirm(&format!("Roll {key} back to revision {}?", target.revision)) {
            Some(true) => {}
            Some(false) => return Ok(Outcome::No),
            None => return Err(Unconfirmed { verb: "rollback" }.into()),
        }
    }
    let waiting = waiting.begin(&bucket, Some(&key)).await?;
    let published = bucket.publish(&write).await?;
    let text = format!("{key} is rolled back to revision {}, as revision {}", target.revision, published.revision);
    let waiting = waiting.map(|waiting| (waiting, false));
    let target = Target { key, revision: published.revision, digest: target.digest() };
    put::told(session, &bucket, target, Some(&text), waiting).await
}

/// The write that brings `target` back, if it holds what services can use: to publish again what is known to be broken,
/// or is not allowed any more, would withdraw nothing. Not `judged` where the schema goes back with it.
pub(super) async fn write(bucket: &Bucket, head: &Entry, target: &Entry, judged: bool) -> anyhow::Result<Write> {
    let (key, revision) = (target.key.clone(), target.revision);
    let document = match document_of(bucket, target).await? {
        Ok(document) => document,
        Err(error) => return Err(No::Unusable { key, revision, error }.into()),
    };
    if judged && let Err(error) = judge(bucket, &key, &document).await? {
        return Err(No::Outlawed { key, revision, error }.into());
    }
    let mut write = Write::rollback(head, target);
    // Told by the header, so that it does not depend on what stands before it.
    write.provenance.format = Some(document.format());
    Ok(write)
}

/// What the rollback changes, on stderr: it is no part of the answer.
async fn show(session: &Session, bucket: &Bucket, head: &Entry, target: &Entry) -> anyhow::Result<()> {
    for line in diff::lines(session, bucket, head, target).await? {
        session.out.quoted_note(diff::style(line.tag), &line.text);
    }
    Ok(())
}
