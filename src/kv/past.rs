//! The bucket as it was: every key at one revision of the bucket.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use async_nats::jetstream::consumer::DeliverPolicy;
use serde_json::json;

use super::read::{Pattern, Reading};
use super::{Bucket, BucketError, Entry, Key, Operation, Revision, StreamInfo, by_last};

/// What stood in the bucket when it was at one revision.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Past {
    /// The revision that the bucket was at.
    pub at: Revision,
    /// The newest revision up to then of each key that matches, tombstones included.
    pub heads: BTreeMap<Key, Entry>,
    /// Keys that may have had a value then, of which nothing so old is retained.
    pub lost: BTreeSet<Key>,
    /// Whether the bucket has limits of age or size, by which a key can go without a trace: then [`Past::lost`] may not
    /// name them all.
    pub limited: bool,
}

/// Why the bucket cannot be shown as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PastError {
    /// The revision is yet to come.
    #[error("the bucket is at revision {last}, and was never at {at}")]
    Future {
        /// The revision asked for.
        at: Revision,
        /// The bucket's newest.
        last: Revision,
    },
    /// Of documents that were changed together, some were stored by then and others not.
    #[error("revision {at} is in the middle of a change set, which is revisions {first} to {end}")]
    Torn {
        /// The revision asked for.
        at: Revision,
        /// The set's first revision.
        first: Revision,
        /// The set's last revision.
        end: Revision,
    },
    /// The key may have had a value then, but nothing so old of it is retained.
    #[error("what {key} was at revision {at} is not retained")]
    Lost {
        /// The key.
        key: Key,
        /// The revision asked for.
        at: Revision,
    },
    /// The bucket as a whole.
    #[error(transparent)]
    Bucket(#[from] BucketError),
}

impl Bucket {
    /// Every key that matches, as it was when the bucket was at revision `at`; without `at`, as it is now.
    ///
    /// One point in time, whatever is written meanwhile. The heads of all keys are read once, and once more every
    /// revision of the keys that were written since; no key is asked for by itself.
    ///
    /// # Errors
    /// [`PastError::Future`], [`PastError::Torn`], [`PastError::Bucket`].
    pub async fn past(&self, pattern: &Pattern, at: Option<Revision>) -> Result<Past, PastError> {
        let info = self.info().await?;
        let at = self.moment(at, &info).await?;
        let limited = is_limited(&info);
        let mut past = Past { at, heads: BTreeMap::new(), lost: BTreeSet::new(), limited };
        let newest = self.leader_get(by_last(&self.subject(pattern.as_str()))).await?;
        let Some(newest) = newest else { return Ok(past) };

        let mut reading = Reading::of(vec![pattern.clone()], DeliverPolicy::LastPerSubject);
        reading.through = Some(newest.revision);
        let mut moved = BTreeMap::new();
        self.each_message(reading, |entry| {
            let heads = if entry.revision <= at { &mut past.heads } else { &mut moved };
            heads.insert(entry.key.clone(), entry);
            ControlFlow::Continue(())
        })
        .await?;
        // A head that was replaced while it was read was delivered for nothing, unless it was of then.
        moved.retain(|key, _| !past.heads.contains_key(key));
        if moved.is_empty() {
            return Ok(past);
        }

        let of_then = self.newest_until(at, &moved, pattern, true).await?;
        let now = self.info().await?;
        if removed(&now) != removed(&info) {
            // Somebody wrote so much meanwhile that older revisions went: one that should have been the answer may have
            // gone after an older one was read. What is still there is not such a one.
            let still = self.newest_until(at, &moved, pattern, false).await?;
            let gone = |(key, entry): &(&Key, &Entry)| still.get(*key).is_none_or(|it| it.revision != entry.revision);
            past.lost.extend(of_then.iter().filter(gone).map(|(key, _)| key.clone()));
        }
        moved.retain(|key, _| !of_then.contains_key(key));
        past.heads.extend(of_then.into_iter().filter(|(key, _)| !past.lost.contains(key)));
        let Some(through) = moved.values().map(|head| head.revision).max() else { return Ok(past) };

        // What stands first of each of these tells whether something stood before it.
        let start = DeliverPolicy::ByStartSequence { start_sequence: at.0 + 1 };
        let mut reading = Reading::of(patterns(moved.keys(), pattern), start);
        reading.through = Some(through);
        reading.values = false;
        let mut retained: BTreeMap<Key, (Entry, usize)> = BTreeMap::new();
        self.each_message(reading, |entry| {
            if moved.contains_key(&entry.key) {
                retained.entry(entry.key.clone()).or_insert_with(|| (entry, 0)).1 += 1;
            }
            ControlFlow::Continue(())
        })
        .await?;
        let lost = retained.into_iter().filter(|(_, (oldest, count))| had_older(oldest, *count, &info));
        past.lost.extend(lost.map(|(key, _)| key));
        Ok(past)
    }

    /// The newest retained revision up to `at` of each of `moved`, keys that were written since.
    async fn newest_until(
        &self,
        at: Revision,
        moved: &BTreeMap<Key, Entry>,
        all: &Pattern,
        values: bool,
    ) -> Result<BTreeMap<Key, Entry>, BucketError> {
        let mut found = BTreeMap::new();
        let mut reading = Reading { values, ..Reading::of(patterns(moved.keys(), all), DeliverPolicy::All) };
        // The newest of a key that was written since is later than `at`, and stays.
        reading.through = Some(Revision(at.0 + 1));
        self.each_message(reading, |entry| {
            if entry.revision > at {
                return ControlFlow::Break(());
            }
            if moved.contains_key(&entry.key) {
                found.insert(entry.key.clone(), entry);
            }
            ControlFlow::Continue(())
        })
        .await?;
        Ok(found)
    }

    /// The newest revision of `key` when the bucket was at revision `at`, a tombstone included; `None` where the key was
    /// not written before that.
    ///
    /// # Errors
    /// [`PastError`], [`PastError::Lost`] among it.
    pub async fn entry_at(&self, key: &Key, at: Revision) -> Result<Option<Entry>, PastError> {
        let info = self.info().await?;
        let at = self.moment(Some(at), &info).await?;
        let mut history = self.history(key).await?;
        let lost = || PastError::Lost { key: key.clone(), at };
        if let Some(index) = history.iter().position(|entry| entry.revision <= at) {
            // What came next tells what it replaced, which may have gone while the rest was read.
            let replaced = index.checked_sub(1).and_then(|next| history[next].expected);
            return match replaced.is_some_and(|replaced| replaced != history[index].revision.0) {
                true => Err(lost()),
                false => Ok(Some(history.swap_remove(index))),
            };
        }
        match history.last() {
            Some(oldest) if had_older(oldest, history.len(), &info) => Err(lost()),
            _ => Ok(None),
        }
    }

    /// The revision `at`, or the newest, if the bucket was ever at it for somebody who reads change sets as one.
    async fn moment(&self, at: Option<Revision>, info: &StreamInfo) -> Result<Revision, PastError> {
        let last = Revision(info.state.last_seq);
        let at = match at {
            None => return Ok(last),
            Some(at) if at > last => return Err(PastError::Future { at, last }),
            Some(Revision(0)) => return Ok(Revision(0)),
            Some(at) => at,
        };
        // The members of a set are stored one after the other. Where one of these two is not retained any more, then
        // neither is what stood before it, and its key is told as lost.
        let Some(set) = self.set_at(at.0).await? else { return Ok(at) };
        let (mut first, mut end) = (at.0, at.0);
        while end < last.0 && self.set_at(end + 1).await?.as_ref() == Some(&set) {
            end += 1;
        }
        if end == at.0 {
            return Ok(at);
        }
        while first > 1 && self.set_at(first - 1).await?.as_ref() == Some(&set) {
            first -= 1;
        }
        Err(PastError::Torn { at, first: Revision(first), end: Revision(end) })
    }

    /// The change set that a retained revision belongs to.
    async fn set_at(&self, revision: u64) -> Result<Option<String>, BucketError> {
        let entry = self.leader_get(json!({ "seq": revision }).to_string().into_bytes()).await?;
        Ok(entry.and_then(|entry| entry.provenance.set).map(|set| set.id))
    }
}

/// Patterns for `keys`: each by itself, or, where the server would have too many to compare with, what they all match.
fn patterns<'a>(keys: impl ExactSizeIterator<Item = &'a Key>, all: &Pattern) -> Vec<Pattern> {
    const MOST: usize = 64;
    if keys.len() > MOST { vec![all.clone()] } else { keys.map(Pattern::from).collect() }
}

/// How many revisions are not retained.
fn removed(info: &StreamInfo) -> u64 {
    info.state.last_seq.saturating_sub(info.state.messages)
}

/// Whether the bucket lets revisions go by more than their number.
fn is_limited(info: &StreamInfo) -> bool {
    let config = &info.config;
    !config.max_age.is_zero() || config.max_bytes > 0 || config.max_messages > 0
}

/// Whether a key may have had a revision before `oldest`, the oldest of the `count` that are retained.
fn had_older(oldest: &Entry, count: usize, info: &StreamInfo) -> bool {
    match oldest.expected {
        Some(expected) => expected > 0,
        // Another client's write, which does not say what it found. Nobody deletes what is not there.
        None if oldest.operation == Operation::Delete => true,
        None => {
            let history = usize::try_from(info.config.max_messages_per_subject).unwrap_or(usize::MAX);
            count >= history || is_limited(info)
        }
    }
}
