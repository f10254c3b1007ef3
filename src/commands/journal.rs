//! `confhot journal`

use std::time::Duration;

use anyhow::bail;
use clap::ValueEnum;
use confhot::kv::{Bucket, Journal, JournalLimits};
use serde_json::json;

use super::{No, Outcome, Session, Unconfirmed};
use crate::cli::duration;

/// Keep every revision, beyond the 64 of each key that a bucket keeps
///
/// The journal is a stream beside the bucket, which the server fills by itself. `history --journal`, and `get`, `diff`
/// and `rollback` with a revision that the bucket does not keep any more, read it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  confhot journal enable                        # with what the bucket retains now
  confhot journal enable --max-age 8760h --max-bytes 1000000000
  confhot journal status
  confhot journal disable --yes                 # delete it with all that is in it

Revisions are the bucket's; `created` of one that only the journal has is when the server copied it, which is a moment \
after it was stored, or when the journal was enabled. More than 64 revisions of one key while the server does not copy \
(in a burst, or while the stream has no leader) are missed, and counted. What other clients purge goes from the journal \
as well. A bucket that is deleted and made anew has no journal until it is enabled: that of the former one stays, is \
never mixed with it, and is named by `status`.

With --format json: {\"journal\":\"on\"|\"off\",\"stream\",\"since\",\"revisions\",\"bytes\",\"oldest\",\"newest\",\"missed\",\
\"max_age\",\"max_bytes\",\"former\"}. `max_age` is in seconds; `former` is a list of streams.

Exit codes:
  0  it is on; with disable, it is off
  1  it is off; it has other limits than those that are asked for; there is no such bucket; or you said no
  2  trouble, or nobody to ask and no --yes")]
pub(crate) struct Args {
    /// What to do
    action: Action,
    /// With enable: revisions that were copied longer ago go: 8760h is a year
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    max_age: Option<Duration>,
    /// With enable: the oldest revisions go when all of them are more bytes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_bytes: Option<u64>,
    /// With disable: do not ask
    #[arg(short, long)]
    yes: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Action {
    /// Make it, if there is none
    Enable,
    /// Delete it
    Disable,
    /// What is in it
    Status,
}

pub(crate) async fn run(session: &Session, args: Args) -> anyhow::Result<Outcome> {
    let Args { action, max_age, max_bytes, yes } = args;
    let limits = JournalLimits { max_age, max_bytes };
    if limits != JournalLimits::default() && action != Action::Enable {
        bail!("--max-age and --max-bytes go with `journal enable`");
    }
    let bucket = session.bucket().await?;
    match action {
        Action::Enable => {
            let journal = bucket.enable_journal(limits).await?;
            let state = journal.state().await?;
            let has = state.limits;
            if has != (JournalLimits { max_age: max_age.or(has.max_age), max_bytes: max_bytes.or(has.max_bytes) }) {
                return Err(No::OtherLimits { stream: state.stream }.into());
            }
            told(session, &bucket, Some(&journal)).await
        }
        Action::Status => told(session, &bucket, bucket.journal().await?.as_ref()).await,
        Action::Disable => {
            if let Some(journal) = bucket.journal().await? {
                let state = journal.state().await?;
                session.out.note(&format!("deletes {}: {} revisions", state.stream, state.revisions));
                if !yes {
                    match session.out.confirm(&format!("Delete the journal of {}?", bucket.name())) {
                        Some(true) => {}
                        Some(false) => return Ok(Outcome::No),
                        None => return Err(Unconfirmed { verb: "journal disable" }.into()),
                    }
                }
                journal.destroy().await?;
            }
            told(session, &bucket, None).await.map(|_| Outcome::Yes)
        }
    }
}

/// Tells what is in the journal; whether there is one.
async fn told(session: &Session, bucket: &Bucket, journal: Option<&Journal>) -> anyhow::Result<Outcome> {
    let state = match journal {
        Some(journal) => Some(journal.state().await?),
        None => None,
    };
    let former = bucket.former_journals().await?;
    let out = &session.out;
    if out.is_json() {
        let it = state.as_ref();
        out.json(&json!({
            "journal": if it.is_some() { "on" } else { "off" }, "stream": it.map(|it| &it.stream),
            "since": it.map(|it| it.since), "revisions": it.map(|it| it.revisions), "bytes": it.map(|it| it.bytes),
            "oldest": it.map(|it| it.oldest), "newest": it.map(|it| it.newest), "missed": it.map(|it| it.missed),
            "max_age": it.and_then(|it| it.limits.max_age).map(|age| age.as_secs()),
            "max_bytes": it.and_then(|it| it.limits.max_bytes), "former": former,
        }))?;
        return Ok(if state.is_some() { Outcome::Yes } else { Outcome::No });
    }
    match &state {
        None => out.line(&format!("the journal of {} is off", bucket.name()))?,
        Some(it) => {
            let (stream, since) = (&it.stream, it.since);
            out.line(&format!("the journal of {} is on: {stream}, since {since:.0}", bucket.name()))?;
            let span = match (it.oldest, it.newest) {
                (Some(oldest), Some(newest)) => format!(", from {oldest} to {newest}"),
                _ => String::new(),
            };
            out.line(&format!("{} revisions{span}, {} bytes", it.revisions, it.bytes))?;
            if it.missed > 0 {
                out.line(&format!("{} revisions were gone before they were copied", it.missed))?;
            }
        }
    }
    for stream in former {
        out.line(&format!("{stream} is the journal of a former bucket {}", bucket.name()))?;
    }
    Ok(if state.is_some() { Outcome::Yes } else { Outcome::No })
}
