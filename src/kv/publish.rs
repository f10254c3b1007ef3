//! Writing the bucket: every write is compare-and-set, and a lost answer is looked for before it is called a failure.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use async_nats::{HeaderMap, Message, RequestErrorKind};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use serde::Deserialize;

use super::entry::{attempt_id, header};
use super::{ApiError, Bucket, BucketError, Entry, Key, Operation, Provenance, Revision, code};
use crate::document::Digest;
use crate::signature::{Claim, Statement};

/// What the key must look like for a write to take effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// It was never written, or nothing of it is retained.
    Never,
    /// Its newest revision, tombstones included, is this one.
    At(Revision),
}

impl Expect {
    pub(crate) fn sequence(self) -> u64 {
        match self {
            Expect::Never => 0,
            Expect::At(revision) => revision.0,
        }
    }
}

/// One write that is not sent yet.
#[derive(Debug, Clone)]
pub struct Write {
    /// The key.
    pub key: Key,
    /// What becomes of it.
    pub operation: Operation,
    /// The bytes; none for a delete.
    pub value: Bytes,
    /// The digest of `value`.
    pub digest: Digest,
    /// Where it comes from.
    pub provenance: Provenance,
    /// What it builds on.
    pub expect: Expect,
}

impl Write {
    /// Stores `value`.
    pub fn put(key: Key, value: Bytes, digest: Digest, provenance: Provenance, expect: Expect) -> Write {
        Write { key, operation: Operation::Put, value, digest, provenance, expect }
    }

    /// Leaves a tombstone.
    pub fn delete(key: Key, provenance: Provenance, expect: Expect) -> Write {
        let value = Bytes::new();
        Write { key, operation: Operation::Delete, digest: Digest::of(&value), value, provenance, expect }
    }

    fn headers(&self, bucket: &Bucket, attempt: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(claim) = bucket.sign(self) {
            headers.insert(header("Confhot-Signature"), claim.signature);
            headers.insert(header("Confhot-Signer"), claim.signer);
        }
        headers.insert(header("Nats-Expected-Last-Subject-Sequence"), self.expect.sequence().to_string());
        headers.insert(header("Confhot-Attempt"), attempt);
        match self.operation {
            Operation::Put => headers.insert(header("Confhot-Digest"), self.digest.to_string()),
            Operation::Delete => headers.insert(header("KV-Operation"), "DEL"),
        }
        self.provenance.to_headers(&mut headers);
        headers
    }
}

/// A write that the server stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// The revision it became.
    pub revision: Revision,
}

/// Why a write did not take effect, or may not have.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// Another writer got there first; re-read and decide again.
    #[error("{key} is at revision {actual}, not {expected}")]
    Conflict {
        /// The key.
        key: Key,
        /// The revision the write built on, 0 for none.
        expected: u64,
        /// The revision it is at, 0 for none.
        actual: u64,
    },
    /// The value with its headers is more than the server takes.
    #[error("{key} is {size} bytes, over the server's limit of {limit}")]
    TooLarge {
        /// The key.
        key: Key,
        /// Bytes of the value.
        size: usize,
        /// The limit in bytes, for value and headers together.
        limit: usize,
    },
    /// No answer came, and the write is not in the bucket; it may still be stored later, unless another one is first.
    #[error("{key} was sent, but nobody confirmed it: it may still be stored")]
    Unconfirmed {
        /// The key.
        key: Key,
    },
    /// The bucket as a whole.
    #[error(transparent)]
    Bucket(#[from] BucketError),
}

#[derive(Debug, Deserialize)]
struct Ack {
    #[serde(default)]
    seq: u64,
    error: Option<ApiError>,
}

/// What came of sending one message, before anything is known of the store.
enum Sent {
    Answer(Message),
    /// The connection went, or the deadline passed.
    Lost,
    Failed(PublishError),
}

impl Bucket {
    /// Stores one write if the key is as it expects.
    ///
    /// Cancelling may leave the write stored or not.
    ///
    /// # Errors
    /// [`PublishError::Conflict`] where it is not; [`PublishError::Unconfirmed`] where no answer came and the leader
    /// does not have it.
    pub async fn publish(&self, write: &Write) -> Result<Published, PublishError> {
        let attempt = attempt_id();
        let sent = self.send(write, write.headers(self, &attempt)).await;
        self.settle(write, &attempt, sent).await
    }

    async fn settle(&self, write: &Write, attempt: &str, sent: Sent) -> Result<Published, PublishError> {
        match sent {
            Sent::Failed(error) => Err(error),
            Sent::Answer(answer) => match self.acknowledged(&answer)? {
                Ok(ack) => Ok(Published { revision: Revision(ack.seq) }),
                Err(error) if is_conflict(&error) => self.look_for(write, attempt).await,
                Err(error) => Err(self.refusal(write, error).await),
            },
            Sent::Lost => self.look_for_lost(write, attempt).await,
        }
    }

    /// Stores all of `writes` as one, or none of them. With one write, or where the bucket cannot do that (`atomic`
    /// false), each is stored on its own, and the answer tells of each.
    ///
    /// # Errors
    /// In the list, one for each write in its order. As one: the same outcome for all.
    pub async fn publish_set(&self, writes: &[Write], atomic: bool) -> Vec<Result<Published, PublishError>> {
        if atomic && (2..=Self::LARGEST_BATCH).contains(&writes.len()) {
            let attempt = attempt_id();
            match self.send_batch(writes, &attempt).await {
                Ok(sent) => return self.settle_batch(writes, &attempt, sent).await,
                Err(error) => return writes.iter().map(|write| Err(same(&error, write))).collect(),
            }
        }
        let mut outcomes = Vec::with_capacity(writes.len());
        for write in writes {
            outcomes.push(self.publish(write).await);
        }
        outcomes
    }

    /// The most messages in one atomic batch (`max_batch_size`, server/stream.go).
    const LARGEST_BATCH: usize = 1_000;

    /// Sends an atomic batch (ADR-50): the messages but the last unanswered, the last one commits.
    async fn send_batch(&self, writes: &[Write], attempt: &str) -> Result<Sent, PublishError> {
        let subjects: HashSet<_> = writes.iter().map(|write| self.publish_subject(write.key.as_str())).collect();
        let sent = Box::pin(async {
            let sent = self.send_each(writes, attempt).await?;
            // One that was denied is missing, and the server may say so first.
            if let Sent::Answer(answer) = &sent
                && self.acknowledged(answer)?.is_err_and(|error| error.err_code == code::BATCH_INCOMPLETE)
            {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Ok(sent)
        });
        let sent = self.0.connection.unless_any_denied(|subject| subjects.contains(subject), sent).await;
        sent.unwrap_or_else(|denied| Ok(Sent::Failed(denied.into())))
    }

    async fn send_each(&self, writes: &[Write], attempt: &str) -> Result<Sent, PublishError> {
        let client = &self.0.connection.client;
        let last = writes.len() - 1;
        for (index, write) in writes.iter().enumerate() {
            let mut headers = write.headers(self, attempt);
            headers.insert(header("Nats-Batch-Id"), attempt);
            headers.insert(header("Nats-Batch-Sequence"), (index + 1).to_string());
            // A server from before atomic batches would store each message by itself; this makes it refuse.
            headers.insert(header("Nats-Required-Api-Level"), "2");
            if index == last {
                headers.insert(header("Nats-Batch-Commit"), "1");
                return Ok(self.send(write, headers).await);
            }
            self.fits(write, &headers)?;
            client
                .publish_with_headers(self.publish_subject(write.key.as_str()), headers, write.value.clone())
                .await
                .map_err(BucketError::transport)?;
        }
        Err(PublishError::Bucket(BucketError::transport("an empty batch")))
    }

    async fn settle_batch(&self, writes: &[Write], attempt: &str, sent: Sent) -> Vec<Result<Published, PublishError>> {
        let error = match sent {
            Sent::Failed(error) => error,
            Sent::Answer(answer) => match self.acknowledged(&answer) {
                Ok(Ok(ack)) => {
                    // The members' sequences are consecutive, and the answer tells the last.
                    let first = (ack.seq + 1).saturating_sub(writes.len() as u64);
                    return (first..).take(writes.len()).map(|seq| Ok(Published { revision: Revision(seq) })).collect();
                }
                Ok(Err(error)) if is_conflict(&error) => return self.find_all(writes, attempt).await,
                // The answer does not say which member it is about; of one that is too large it is this.
                Ok(Err(error)) => {
                    self.refusal(writes.iter().max_by_key(|write| write.value.len()).unwrap_or(&writes[0]), error).await
                }
                Err(error) => error.into(),
            },
            Sent::Lost => {
                // All of them are stored or none is, so that one is enough to wait for.
                let _ = self.look_for_lost(&writes[0], attempt).await;
                return self.find_all(writes, attempt).await;
            }
        };
        writes.iter().map(|write| Err(same(&error, write))).collect()
    }

    async fn find_all(&self, writes: &[Write], attempt: &str) -> Vec<Result<Published, PublishError>> {
        let mut outcomes = Vec::with_capacity(writes.len());
        for write in writes {
            match self.look_for(write, attempt).await {
                // Nobody can be asked: no need to wait for that with each member.
                Err(PublishError::Bucket(error)) if is_silence(&error) => {
                    let rest = writes[outcomes.len()..].iter().map(|write| write.key.clone());
                    outcomes.extend(rest.map(|key| Err(PublishError::Unconfirmed { key })));
                    return outcomes;
                }
                known => outcomes.push(known),
            }
        }
        outcomes
    }

    /// As [`Self::look_for`] after silence: the server may answer a question before it has stored what came earlier.
    async fn look_for_lost(&self, write: &Write, attempt: &str) -> Result<Published, PublishError> {
        for pause in [0, 50, 200, 500] {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            match self.look_for(write, attempt).await {
                Err(PublishError::Unconfirmed { .. }) => {}
                Err(PublishError::Bucket(error)) if is_silence(&error) => break,
                known => return known,
            }
        }
        Err(PublishError::Unconfirmed { key: write.key.clone() })
    }

    /// A timeout is not a no, and a conflict may be with ourselves: asks the leader whether this attempt is stored.
    async fn look_for(&self, write: &Write, attempt: &str) -> Result<Published, PublishError> {
        self.connected().await?;
        let head = self.head(&write.key).await?;
        let actual = head.as_ref().map_or(0, |head| head.revision.0);
        let expected = write.expect.sequence();
        let ours = |entry: &Entry| entry.attempt.as_deref() == Some(attempt);
        if let Some(head) = head.filter(ours) {
            return Ok(Published { revision: head.revision });
        }
        if actual == expected {
            return Err(PublishError::Unconfirmed { key: write.key.clone() });
        }
        // Somebody may have built on our write already.
        if let Some(entry) = self.history(&write.key).await?.into_iter().find(ours) {
            return Ok(Published { revision: entry.revision });
        }
        Err(PublishError::Conflict { key: write.key.clone(), expected, actual })
    }

    /// The signature of a write that is about to be sent. Made that late, it is of what is expected now: a write that lost
    /// its race and was planned again is signed again.
    fn sign(&self, write: &Write) -> Option<Claim> {
        let signing = self.0.signing.as_ref()?;
        let (key, operation, digest) = (write.key.as_str(), write.operation.as_str(), write.digest);
        let format = write.provenance.format;
        let statement = Statement { bucket: self.name(), key, operation, format, digest };
        Some(signing.signer.sign(&statement, write.expect.sequence()))
    }

    /// Waits, within the connection's deadline, until a server is connected.
    async fn connected(&self) -> Result<(), BucketError> {
        let connection = &self.0.connection;
        let mut link = connection.link();
        let up = tokio::time::timeout(connection.timeout, link.wait_for(|link| link.up)).await;
        match up {
            Ok(Ok(_)) => Ok(()),
            _ => Err(BucketError::TimedOut { servers: connection.servers().to_owned(), after: connection.timeout }),
        }
    }

    fn acknowledged(&self, answer: &Message) -> Result<Result<Ack, ApiError>, BucketError> {
        let mut ack: Ack = serde_json::from_slice(&answer.payload).map_err(BucketError::transport)?;
        Ok(match ack.error.take() {
            Some(error) => Err(error),
            None => Ok(ack),
        })
    }

    async fn refusal(&self, write: &Write, error: ApiError) -> PublishError {
        match error.err_code {
            // The bucket's own limit, which is below that of the server.
            code::MESSAGE_TOO_LARGE => {
                match (self.describe().await.ok().and_then(|told| told.max_value), self.too_large(write)) {
                    (Some(limit), PublishError::TooLarge { key, size, .. }) => {
                        PublishError::TooLarge { key, size, limit }
                    }
                    (_, error) => error,
                }
            }
            _ => PublishError::Bucket(self.api_error(error)),
        }
    }

    fn too_large(&self, write: &Write) -> PublishError {
        let limit = self.0.connection.client.max_payload();
        PublishError::TooLarge { key: write.key.clone(), size: write.value.len(), limit }
    }

    fn fits(&self, write: &Write, headers: &HeaderMap) -> Result<(), PublishError> {
        // What a header block takes on the wire: its first line, `name: value` lines, an empty line.
        let block = headers.iter().fold(14, |sum, (name, values)| {
            let name: &str = name.as_ref();
            values.iter().fold(sum, |sum, value| sum + name.len() + value.as_str().len() + 4)
        });
        let limit = self.0.connection.client.max_payload();
        if limit > 0 && block + write.value.len() > limit { Err(self.too_large(write)) } else { Ok(()) }
    }

    async fn send(&self, write: &Write, headers: HeaderMap) -> Sent {
        let connection = &self.0.connection;
        let mut link = connection.link();
        let sent_under = Some(link.borrow().generation).filter(|_| link.borrow().up);
        let subject = self.publish_subject(write.key.as_str());
        let request =
            async_nats::Request::new().headers(headers).payload(write.value.clone()).timeout(Some(connection.timeout));
        let sent = Box::pin(connection.client.send_request(subject.clone(), request));
        let answer = tokio::select! {
            biased;
            answer = connection.unless_denied(&subject, sent) => answer,
            // What was sent on a connection that is gone is not answered any more; no need to wait for the deadline.
            _ = link.wait_for(|link| sent_under.is_some_and(|sent| link.up && link.generation > sent)) => {
                return Sent::Lost;
            }
        };
        match answer {
            Err(denied) => Sent::Failed(denied.into()),
            Ok(Ok(answer)) => Sent::Answer(answer),
            Ok(Err(error)) => match error.kind() {
                RequestErrorKind::TimedOut => Sent::Lost,
                RequestErrorKind::MaxPayloadExceeded => Sent::Failed(self.too_large(write)),
                RequestErrorKind::NoResponders => Sent::Failed(BucketError::Missing(self.name().to_owned()).into()),
                _ => Sent::Failed(BucketError::transport(error).into()),
            },
        }
    }

    /// Many writes at once, for a first sync.
    pub fn bulk(&self, atomic: bool) -> Bulk {
        Bulk {
            bucket: self.clone(),
            atomic,
            pace: Pace::Timing { since: Instant::now(), sent: 0 },
            batch: Vec::new(),
            batch_bytes: 0,
            flying: FuturesUnordered::new(),
            done: VecDeque::new(),
            in_flight: 0,
        }
    }
}

/// Whether nothing was learned: all that is known of a write that was sent is that it was.
fn is_silence(error: &BucketError) -> bool {
    matches!(error, BucketError::TimedOut { .. } | BucketError::Interrupted | BucketError::Transport(_))
}

fn is_conflict(error: &ApiError) -> bool {
    matches!(error.err_code, code::WRONG_LAST_SEQUENCE | code::WRONG_LAST_SEQUENCE_UNKNOWN)
}

/// The outcome of a batch, as it is for one of its members.
fn same(error: &PublishError, write: &Write) -> PublishError {
    match error {
        PublishError::TooLarge { key, size, limit } => {
            PublishError::TooLarge { key: key.clone(), size: *size, limit: *limit }
        }
        PublishError::Bucket(BucketError::Missing(bucket)) => BucketError::Missing(bucket.clone()).into(),
        PublishError::Bucket(BucketError::Denied(what)) => BucketError::Denied(what.clone()).into(),
        PublishError::Bucket(BucketError::Refused { code, description }) => {
            BucketError::Refused { code: *code, description: description.clone() }.into()
        }
        _ => PublishError::Unconfirmed { key: write.key.clone() },
    }
}

type Outcome = (Write, Result<Published, PublishError>);

/// Many writes under way at once, bounded in number and bytes.
///
/// Whether single writes or atomic batches are faster depends on a setting that a client cannot see (`sync_interval`),
/// by a factor of fifteen either way: the first writes go singly and are timed, the rest goes as that tells.
pub struct Bulk {
    bucket: Bucket,
    atomic: bool,
    pace: Pace,
    batch: Vec<Write>,
    batch_bytes: usize,
    flying: FuturesUnordered<BoxFuture<'static, Vec<Outcome>>>,
    done: VecDeque<Outcome>,
    in_flight: usize,
}

enum Pace {
    /// So many single writes were sent, the first of them then.
    Timing {
        since: Instant,
        sent: u32,
    },
    Single,
    Batches,
}

impl Bulk {
    /// Writes that are timed before the rest is sent.
    const SAMPLE: u32 = 16;
    /// Single writes under way at once.
    const WINDOW: usize = 128;
    /// Writes in one batch.
    const BATCH: usize = 1_000;
    /// Batches under way at once.
    const BATCHES: usize = 4;
    /// A batch goes out when it holds as many bytes.
    const BATCH_BYTES: usize = 4 << 20;
    /// A server that needs longer for a write, on the mean, waits for its disk.
    const SLOW: Duration = Duration::from_micros(120);

    /// Sends `write`, or keeps it for the next batch; waits while too many are under way.
    pub async fn push(&mut self, write: Write) {
        match &mut self.pace {
            Pace::Timing { sent: 0, since } => *since = Instant::now(),
            Pace::Timing { sent: Self::SAMPLE, since } => {
                // Not waited for any longer: that they take so long is the answer.
                let until = *since + Self::SLOW * Self::SAMPLE;
                let landed = tokio::time::timeout_at(until.into(), self.land(0)).await;
                self.pace = if self.atomic && landed.is_err() { Pace::Batches } else { Pace::Single };
            }
            Pace::Timing { .. } | Pace::Single | Pace::Batches => {}
        }
        if let Pace::Timing { sent, .. } = &mut self.pace {
            *sent += 1;
        }
        if matches!(self.pace, Pace::Batches) {
            self.batch_bytes += write.value.len();
            self.batch.push(write);
            if self.batch.len() >= Self::BATCH || self.batch_bytes >= Self::BATCH_BYTES {
                self.send_batch().await;
            }
            return;
        }
        let bucket = self.bucket.clone();
        self.fly(1, async move {
            let outcome = bucket.publish(&write).await;
            vec![(write, outcome)]
        });
        // Lets the connection's task write what was queued while the next file is read.
        if self.in_flight.is_multiple_of(16) {
            self.poll_once().await;
        }
        if self.in_flight >= Self::WINDOW {
            self.land(Self::WINDOW * 3 / 4).await;
        }
    }

    async fn send_batch(&mut self) {
        let writes = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        if writes.is_empty() {
            return;
        }
        let bucket = self.bucket.clone();
        self.fly(writes.len(), async move {
            let mut outcomes = bucket.publish_set(&writes, true).await;
            // One member that lost its race takes the whole batch with it: the others go again by themselves.
            if outcomes.iter().any(|outcome| matches!(outcome, Err(PublishError::Conflict { .. }))) {
                for (write, outcome) in writes.iter().zip(&mut outcomes) {
                    if !matches!(outcome, Ok(_) | Err(PublishError::Conflict { .. })) {
                        *outcome = bucket.publish(write).await;
                    }
                }
            }
            writes.into_iter().zip(outcomes).collect()
        });
        self.poll_once().await;
        while self.flying.len() >= Self::BATCHES {
            self.land_one().await;
        }
    }

    fn fly(&mut self, writes: usize, flight: impl Future<Output = Vec<Outcome>> + Send + 'static) {
        self.in_flight += writes;
        self.flying.push(Box::pin(flight));
    }

    async fn land_one(&mut self) {
        if let Some(outcomes) = self.flying.next().await {
            self.in_flight -= outcomes.len();
            self.done.extend(outcomes);
        }
    }

    async fn land(&mut self, left: usize) {
        while self.in_flight > left {
            self.land_one().await;
        }
    }

    /// Starts what was pushed and takes what has come back, without waiting.
    async fn poll_once(&mut self) {
        tokio::task::yield_now().await;
        while let Some(Some(outcomes)) = futures_util::FutureExt::now_or_never(self.flying.next()) {
            self.in_flight -= outcomes.len();
            self.done.extend(outcomes);
        }
        tokio::task::yield_now().await;
    }

    /// What became of the writes that are through, in no particular order.
    pub fn outcomes(&mut self) -> impl Iterator<Item = (Write, Result<Published, PublishError>)> + '_ {
        self.done.drain(..)
    }

    /// Sends what is left and waits for all of it.
    pub async fn finish(&mut self) {
        self.send_batch().await;
        self.land(0).await;
    }
}
