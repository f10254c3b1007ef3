//! A history without an end: a second stream, which the server itself fills from the bucket's.
//!
//! It sources the bucket's stream, so that no client stands in the way, and keeps every revision that it was in time for:
//! a bucket keeps 64 of each key, and when more than that are stored while the server does not copy, they are missed
//! ([`JournalState::missed`] counts them). Of a message it keeps subject, bytes and confhot's headers; the revision stands
//! in `Nats-Stream-Source`, and the time is that of the copy.
//!
//! Not a mirror, which would keep revision and time as they are: when a mirrored bucket is deleted and made anew, the
//! server (2.11 to 2.15, measured) cannot read what the mirror held before, and that is when it is needed.
//!
//! What is purged in the bucket (`nats kv purge`, or an expiry) is purged here as well. Servers before 2.15 do not go past
//! such a message in a stream that does not allow it.
//!
//! A bucket that is made anew starts over with revision 1, and its server goes on to copy. Therefore a journal has the
//! time at which its bucket was made in its name, and is never read for another one.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::stream;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use super::read::{Pattern, Reading};
use super::{Bucket, BucketError, Entry, Inner, Key, Revision, StreamInfo, by_last, code};

/// How long a journal keeps revisions; for ever where nothing is said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JournalLimits {
    /// Revisions that were copied longer ago go.
    pub max_age: Option<Duration>,
    /// The oldest revisions go when all of them together are more bytes.
    pub max_bytes: Option<u64>,
}

/// The journal of a bucket.
#[derive(Debug, Clone)]
pub struct Journal {
    /// The journal's stream, read as the bucket's is: the subjects are the same.
    copy: Bucket,
}

/// What the server tells of a journal.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct JournalState {
    /// The stream's name.
    pub stream: String,
    /// When it was made. What the bucket retained at that time is in it.
    pub since: Timestamp,
    /// Revisions in it.
    pub revisions: u64,
    /// What they take on disk.
    pub bytes: u64,
    /// The oldest revision in it.
    pub oldest: Option<Revision>,
    /// The newest revision in it.
    pub newest: Option<Revision>,
    /// Revisions that were stored since it was made and were gone from the bucket before they were copied.
    pub missed: u64,
    /// How long it keeps revisions.
    pub limits: JournalLimits,
}

/// Metadata: the bucket's newest revision when the journal was made.
const FROM: &str = "confhot-from";

impl Bucket {
    /// The bucket's journal, if it has one.
    ///
    /// # Errors
    /// [`BucketError::Missing`] where there is no bucket.
    pub async fn journal(&self) -> Result<Option<Journal>, BucketError> {
        let copy = self.copy(&self.info().await?)?;
        match copy.info().await {
            Ok(_) => Ok(Some(Journal { copy })),
            Err(BucketError::Missing(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes the bucket's journal if it has none; one that is there keeps its limits. Waits, within the connection's
    /// deadline, until what the bucket retains is in it.
    ///
    /// Journals of former buckets of this name stay, and are not added to any more.
    ///
    /// # Errors
    /// [`BucketError::Missing`] where there is no bucket.
    pub async fn enable_journal(&self, limits: JournalLimits) -> Result<Journal, BucketError> {
        let bucket = self.info().await?;
        let copy = self.copy(&bucket)?;
        let config = stream::Config {
            name: copy.0.stream.clone(),
            description: Some(format!("every revision of the configuration in `{}`, kept by confhot", self.0.name)),
            sources: Some(vec![stream::Source { name: self.0.stream.clone(), ..stream::Source::default() }]),
            max_messages: -1,
            max_messages_per_subject: -1,
            max_message_size: -1,
            max_bytes: limits.max_bytes.and_then(|bytes| i64::try_from(bytes).ok()).unwrap_or(-1),
            max_age: limits.max_age.unwrap_or_default(),
            discard: stream::DiscardPolicy::Old,
            storage: stream::StorageType::File,
            num_replicas: bucket.config.num_replicas,
            allow_rollup: true,
            deny_delete: true,
            allow_direct: true,
            metadata: [(FROM.to_owned(), bucket.state.last_seq.to_string())].into(),
            ..stream::Config::default()
        };
        for former in self.former_journals().await? {
            self.seal(&former).await?;
        }
        let body = serde_json::to_vec(&config).map_err(BucketError::transport)?;
        match copy.api::<StreamInfo>(format!("STREAM.CREATE.{}", copy.0.stream), body).await {
            Ok(_) | Err(BucketError::Refused { code: code::STREAM_NAME_IN_USE, .. }) => {}
            Err(error) => return Err(error),
        }
        let journal = Journal { copy };
        let last = self.newest().await?.map(|entry| entry.revision.0);
        // The server begins a moment later. Where it takes long, the journal is there all the same.
        let begun = async {
            while journal.copy.newest().await?.and_then(|entry| entry.origin) < last {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok::<_, BucketError>(())
        };
        tokio::time::timeout(self.0.connection.timeout, begun).await.unwrap_or(Ok(()))?;
        Ok(journal)
    }

    /// The newest message that is retained, whatever its key.
    async fn newest(&self) -> Result<Option<Entry>, BucketError> {
        self.leader_get(by_last(&self.subject(">"))).await
    }

    /// The streams that are journals of former buckets of this name.
    ///
    /// # Errors
    /// [`BucketError`].
    pub async fn former_journals(&self) -> Result<Vec<String>, BucketError> {
        #[derive(Deserialize)]
        struct Names {
            total: usize,
            streams: Option<Vec<String>>,
        }
        let current = self.copy(&self.info().await?)?;
        let prefix = self.journal_prefix();
        let (mut former, mut seen) = (Vec::new(), 0);
        loop {
            let ask = json!({ "offset": seen }).to_string().into_bytes();
            let page: Names = self.api("STREAM.NAMES".into(), ask).await?;
            let names = page.streams.unwrap_or_default();
            seen += names.len();
            let more = seen < page.total && !names.is_empty();
            former.extend(names.into_iter().filter(|name| {
                let made = name.strip_prefix(&prefix).unwrap_or_default();
                *name != current.0.stream && !made.is_empty() && made.bytes().all(|byte| byte.is_ascii_digit())
            }));
            if !more {
                return Ok(former);
            }
        }
    }

    /// Ends the copying to a journal. What is in it stays.
    async fn seal(&self, journal: &str) -> Result<(), BucketError> {
        let mut info: StreamInfo = self.api(format!("STREAM.INFO.{journal}"), Vec::new()).await?;
        if info.config.sources.take().is_some_and(|sources| !sources.is_empty()) {
            let body = serde_json::to_vec(&info.config).map_err(BucketError::transport)?;
            let _: StreamInfo = self.api(format!("STREAM.UPDATE.{journal}"), body).await?;
        }
        Ok(())
    }

    fn journal_prefix(&self) -> String {
        // Not `KV_`: it is no bucket, and no client is to list it as one.
        format!("confhot_journal_{}_", self.0.name)
    }

    /// The journal's stream of the bucket that `info` is of, there or not.
    fn copy(&self, info: &StreamInfo) -> Result<Bucket, BucketError> {
        let made: Timestamp = info.created.parse().map_err(BucketError::transport)?;
        let Inner { connection, name, api, .. } = &*self.0;
        let (connection, name, api) = (connection.clone(), name.clone(), api.clone());
        let stream = format!("{}{}", self.journal_prefix(), made.as_nanosecond());
        Ok(Bucket(Arc::new(Inner { connection, name, stream, api, signing: None })))
    }
}

impl Journal {
    /// What the server tells of it.
    ///
    /// # Errors
    /// [`BucketError`].
    pub async fn state(&self) -> Result<JournalState, BucketError> {
        let newest = self.copy.newest().await?;
        let oldest = self.first_from(1).await?;
        let StreamInfo { config, state, created, .. } = self.copy.info().await?;
        let from = config.metadata.get(FROM).and_then(|from| from.parse().ok());
        let origin = |entry: &Option<Entry>| entry.as_ref().and_then(|entry| entry.origin).map(Revision);
        Ok(JournalState {
            stream: config.name.clone(),
            since: created.parse().map_err(BucketError::transport)?,
            revisions: state.messages,
            bytes: state.bytes,
            oldest: origin(&oldest),
            newest: origin(&newest),
            missed: match (&oldest, &newest, from) {
                (Some(oldest), Some(newest), Some(from)) => self.missed(from, oldest, newest).await?,
                _ => 0,
            },
            limits: JournalLimits {
                max_age: Some(config.max_age).filter(|age| !age.is_zero()),
                max_bytes: u64::try_from(config.max_bytes).ok().filter(|bytes| *bytes > 0),
            },
        })
    }

    /// All revisions of `key` in it, newest first, tombstones included. Their [`Entry::created`] is when they were copied.
    ///
    /// # Errors
    /// [`BucketError`].
    pub async fn history(&self, key: &Key) -> Result<Vec<Entry>, BucketError> {
        // By revision: after a loss the server may copy what it copied before.
        let mut entries = BTreeMap::new();
        self.each(key, |entry| {
            entries.insert(entry.revision, entry);
            ControlFlow::Continue(())
        })
        .await?;
        Ok(entries.into_values().rev().collect())
    }

    /// The revision `revision` of `key`, if it is there.
    ///
    /// # Errors
    /// [`BucketError`].
    pub async fn revision(&self, key: &Key, revision: Revision) -> Result<Option<Entry>, BucketError> {
        let mut found = None;
        self.each(key, |entry| {
            if entry.revision != revision {
                return ControlFlow::Continue(());
            }
            found = Some(entry);
            ControlFlow::Break(())
        })
        .await?;
        Ok(found)
    }

    /// Deletes it with all that is in it.
    ///
    /// # Errors
    /// [`BucketError`].
    pub async fn destroy(self) -> Result<(), BucketError> {
        self.copy.destroy().await
    }

    /// Calls `each` with the revisions of `key`, oldest first, until it breaks off.
    async fn each(&self, key: &Key, mut each: impl FnMut(Entry) -> ControlFlow<()>) -> Result<(), BucketError> {
        let Some(newest) = self.copy.head(key).await? else { return Ok(()) };
        let mut reading = Reading::of(vec![Pattern::from(key)], DeliverPolicy::All);
        reading.through = Some(newest.revision);
        self.copy
            .each_message(reading, |entry| match entry.origin {
                Some(origin) => each(Entry { revision: Revision(origin), ..entry }),
                None => ControlFlow::Continue(()),
            })
            .await
    }

    /// The first message in the journal whose place there is `place` or later.
    async fn first_from(&self, place: u64) -> Result<Option<Entry>, BucketError> {
        let ask = json!({ "seq": place, "next_by_subj": self.copy.subject(">") });
        self.copy.leader_get(ask.to_string().into_bytes()).await
    }

    /// How many revisions after `from` and between those two were never there: places in it have no gaps.
    async fn missed(&self, from: u64, oldest: &Entry, newest: &Entry) -> Result<u64, BucketError> {
        let is_later = |entry: &Entry| entry.origin.is_some_and(|origin| origin > from);
        if !is_later(newest) {
            return Ok(0);
        }
        // What was there before it was made has gaps of its own: looks for the first revision after that.
        let (mut low, mut high, mut later) = (oldest.revision.0, newest.revision.0, newest.clone());
        if is_later(oldest) {
            (high, later) = (low, oldest.clone());
        }
        while high > low + 1 {
            let middle = low + (high - low) / 2;
            match self.first_from(middle).await? {
                Some(entry) if is_later(&entry) => (high, later) = (middle, entry),
                Some(entry) => low = entry.revision.0,
                None => break,
            }
        }
        let (Some(first), Some(last)) = (later.origin, newest.origin) else { return Ok(0) };
        // Of what went by its age or size it is not known.
        let before = if is_later(oldest) && oldest.revision.0 > 1 { 0 } else { first - from - 1 };
        let between = last.saturating_sub(first).saturating_sub(newest.revision.0 - later.revision.0);
        Ok(before + between)
    }
}
