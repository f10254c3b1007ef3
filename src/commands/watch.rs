//! `confhot watch`

use confhot::kv::{Change, Changes, Entry, Operation, Pattern, Writer};

use super::history::{Judged, Line, signer};
use super::signing::{Trusting, distrust};
use super::{Outcome, Session};
use crate::output::{ADDED, REMOVED, plain};

/// Follow the changes of a bucket as they come
///
/// Tells every revision that is stored from now on, until SIGINT or SIGTERM. A server that goes away is waited for, and
/// what was missed meanwhile is told when it is back, as far as it is retained.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  confhot watch
  confhot watch 'billing.>'
  confhot watch '_schema.>'    # the schemas, which are told only when they are asked for
  confhot watch --format json | while read -r change; do …; done

With --format json, a line a revision, as `confhot history` writes it.

Exit codes:
  0  ended by SIGINT or SIGTERM, or because nobody reads any more
  1  there is no such bucket
  2  trouble at the start")]
pub(crate) struct Args {
    /// Which keys: a key, or one with `*` for a token and `>` for the rest
    #[arg(default_value = ">", hide_default_value = true, value_parser = Pattern::parse)]
    pattern: Pattern,
    #[command(flatten)]
    trusting: Trusting,
}

pub(crate) async fn run(session: &Session, args: Args) -> anyhow::Result<Outcome> {
    let trust = args.trusting.read()?;
    let bucket = session.bucket().await?;
    // Whoever mistypes the name wants to hear of it; later on a bucket that is gone is waited for.
    bucket.describe().await?;
    let out = &session.out;
    let mut changes = Changes::start(&bucket, &args.pattern);
    let mut started = false;
    while !out.is_closed() {
        let change = tokio::select! {
            biased;
            () = session.shutdown.cancelled() => break,
            change = changes.next() => change,
        };
        match change {
            Some(Change::Entry(entry)) if !args.pattern.lists(&entry.key) => {}
            Some(Change::Entry(entry)) => {
                let distrust = match &trust {
                    None => None,
                    Some(trust) => match distrust(&bucket, trust, &entry).await {
                        Ok(distrust) => Some(distrust),
                        // It goes on all the same: a server that is away is waited for.
                        Err(error) => {
                            out.note(&format!(
                                "whether {}@{} is trusted is not known: {error:#}",
                                entry.key, entry.revision
                            ));
                            None
                        }
                    },
                };
                if out.is_json() {
                    let judged = distrust.as_ref().map(|distrust| Judged::from(distrust.as_ref()));
                    out.event(&Line::of(&bucket, &entry, judged))?;
                    continue;
                }
                let mut line = text(session, &entry);
                if let Some(signer) = signer(&bucket, &entry) {
                    line.push_str(&format!("  signed by {signer}"));
                }
                match distrust {
                    Some(Some(why)) => line.push_str(&plain(&format!("  not trusted: {why}"))),
                    Some(None) => line.push_str("  trusted"),
                    None => {}
                }
                out.line(&line)?;
                out.flush()?;
            }
            Some(Change::Connected) if !started => {
                started = true;
                out.note(&format!("watching {} in the bucket {}", args.pattern.as_str(), bucket.name()));
            }
            Some(Change::Connected) => out.note("connected again"),
            Some(Change::Disconnected(why)) => {
                let why = why.map_or(String::new(), |why| format!(": {why}"));
                out.note(&format!("disconnected from {}{why}; waiting for it", bucket.connection().servers()));
            }
            Some(Change::Missing) => out.note(&format!("the bucket {} is gone; waiting for it", bucket.name())),
            Some(Change::Reset) => out.note(&format!("the bucket {} was made anew", bucket.name())),
            Some(Change::Trouble(what)) => out.note(&format!("cannot read the bucket {}: {what}", bucket.name())),
            Some(_) => {}
            None => break,
        }
    }
    Ok(Outcome::Yes)
}

fn text(session: &Session, entry: &Entry) -> String {
    let from = &entry.provenance;
    let what = match entry.operation {
        Operation::Put => session.out.paint(ADDED, "put   "),
        Operation::Delete => session.out.paint(REMOVED, "delete"),
    };
    let mut line = format!("{:.3}  {what}  {}@{}", entry.created, entry.key, entry.revision);
    if entry.operation == Operation::Put {
        line.push_str(&format!("  {} bytes", entry.size));
    }
    if let Some(writer) = from.writer.as_ref().map(Writer::as_str) {
        line.push_str(&format!("  by {}", plain(writer)));
    }
    for more in [&from.author, &from.message].into_iter().flatten() {
        line.push_str(&format!("  {}", plain(more)));
    }
    line
}
