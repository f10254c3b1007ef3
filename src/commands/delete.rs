//! `confhot delete`

use confhot::kv::{Expect, Key, Operation, Provenance, Write, Writer};
use serde_json::json;

use super::{No, Outcome, Session, Unconfirmed, absent};

/// Delete a key: a tombstone is stored, and the history stays
///
/// Services that run keep their last value. Asks on a terminal; elsewhere --yes is needed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  confhot delete service1
  confhot delete service1 --yes
  confhot rollback service1    # and back

With --format json: {\"key\",\"revision\",\"operation\":\"delete\"}, where `revision` is the tombstone's.

Exit codes:
  0  deleted
  1  no such key, deleted already, changed meanwhile, or you said no
  2  trouble, or nobody to ask and no --yes")]
pub(crate) struct Args {
    /// The key: `service1`, `billing.api`
    key: Key,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

pub(crate) async fn run(session: &Session, args: Args) -> anyhow::Result<Outcome> {
    let key = args.key;
    let bucket = session.bucket().await?;
    let head = match bucket.head(&key).await? {
        None => return Err(absent(&bucket, &key).await),
        Some(head) if head.operation == Operation::Delete => {
            return Err(No::Deleted { key, at: head.revision }.into());
        }
        Some(head) => head,
    };
    if !args.yes {
        let by = head.provenance.author.as_deref().map_or(String::new(), |author| format!(", by {author}"));
        let (revision, size, created) = (head.revision, head.size, head.created);
        session.out.note(&format!("deletes {key}: revision {revision}, {size} bytes, of {created:.0}{by}"));
        match session.out.confirm(&format!("Delete {key} from the bucket {}?", bucket.name())) {
            Some(true) => {}
            Some(false) => return Ok(Outcome::No),
            None => return Err(Unconfirmed { verb: "delete" }.into()),
        }
    }
    let mut provenance = Provenance::by(Writer::Delete);
    provenance.author = session.author();
    // What is deleted is what was shown.
    let write = Write::delete(key.clone(), provenance, Expect::At(head.revision));
    let revision = bucket.publish(&write).await?.revision;
    if session.out.is_json() {
        session.out.json(&json!({ "key": key, "revision": revision, "operation": Operation::Delete }))?;
    } else {
        session.out.line(&format!("{key} is deleted at revision {revision}"))?;
    }
    Ok(Outcome::Yes)
}
