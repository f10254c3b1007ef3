//! `confhot diff --all`: the whole bucket at two points in time.

use std::collections::BTreeSet;

use confhot::kv::{Entry, Key, Past, Pattern};
use confhot::live;
use serde_json::json;

use super::super::export::is_document;
use super::super::revision::Moment;
use super::super::{Marks, Outcome, Session, told_lost};
use super::{Side, by_line};

/// Tells every document that differs.
pub(super) async fn run(session: &Session, from: Moment, to: Moment) -> anyhow::Result<Outcome> {
    let bucket = session.bucket().await?;
    let after = bucket.past(&Pattern::all(), to.0).await?;
    let before = bucket.past(&Pattern::all(), from.0).await?;
    let mut same = true;
    for past in [&before, &after] {
        same &= told_lost(session, past);
        for key in past.lost.iter().filter(|_| session.out.is_json()) {
            session.out.json(&json!({
                "key": key, "from": null, "to": null, "changes": null, "text": null, "lost": past.at,
            }))?;
        }
    }
    let keys: BTreeSet<&Key> = before.heads.keys().chain(after.heads.keys()).collect();
    for key in keys.into_iter().filter(|key| !before.lost.contains(key) && !after.lost.contains(key)) {
        let [old, new] = [document(&before, key), document(&after, key)];
        // The same revision, or neither is there.
        if old.map(|entry| entry.revision) == new.map(|entry| entry.revision) {
            continue;
        }
        let marks = Marks::read(session, &bucket, key).await;
        if by_line(&session.out, key, &side(old, &marks), &side(new, &marks))? {
            same = false;
        }
    }
    Ok(if same { Outcome::Yes } else { Outcome::No })
}

fn document<'a>(past: &'a Past, key: &Key) -> Option<&'a Entry> {
    past.heads.get(key).filter(|entry| is_document(entry))
}

fn side(entry: Option<&Entry>, marks: &Marks) -> Side {
    entry.map_or_else(Side::nothing, |entry| Side::parsed(entry.clone(), live::document_of(entry, None), marks))
}
