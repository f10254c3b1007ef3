//! What is stored from now on, as the server tells it: republished messages, or an ordered consumer where a bucket does
//! not republish.
#![warn(clippy::large_futures)]

use std::time::Duration;

use async_nats::{Message, Subscriber};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use serde_json::json;
use tokio::time::{Instant, sleep_until};

use super::entry::attempt_id;
use super::read::{reply_position, stored};
use super::{Bucket, BucketError, Entry, Key, Pattern};

/// Entries as they are stored. Dropped, it ends; a consumer that it held is forgotten by the server within 30 s.
pub(super) enum Tail {
    /// One core subscription on the republished subject, and nothing on the server's side. Where it is of one key: that
    /// key, and the subject that it is stored under.
    Republished {
        bucket: Bucket,
        own: Option<(Key, String)>,
        subscriber: Subscriber,
        refused: BoxFuture<'static, String>,
    },
    /// A push consumer that is watched for gaps and for its heartbeat, and made anew by whoever reads it. One without a
    /// name is not deleted, as the server forgets it soon.
    Consumer { bucket: Bucket, subscriber: Subscriber, name: Option<String>, delivered: u64, deadline: Instant },
    /// None at the moment.
    None,
}

/// How long the server keeps a consumer that is only read through, once nobody listens.
const BRIEF: Duration = Duration::from_secs(2);

/// How often the server says that a consumer has nothing to say.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// The tail broke: something may be missing, and it must be opened again.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// At once.
    Gap,
    /// The server does not allow to hear it, in its own words: not before some time.
    Denied(String),
}

/// A tail that the server does not allow is tried again after this; until then the bucket is read as often.
pub(super) const DENIED: Duration = Duration::from_secs(5);

/// When to read again after the first, second… read: interest needs that long to get from one server to another. Then at
/// [`Bucket::pace`].
pub(super) const AGAIN: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(1)];

impl Tail {
    /// Follows `pattern` below `prefix`, where the stream republishes.
    ///
    /// The subscription survives reconnects. What is stored while there is no connection is not told.
    pub(super) async fn republished(bucket: &Bucket, prefix: &str, pattern: &Pattern) -> Result<Tail, BucketError> {
        let subject = format!("{prefix}.{}", pattern.as_str());
        let connection = &bucket.0.connection;
        let mut interest = connection.interest(&subject);
        let subscriber = connection.client.subscribe(subject).await.map_err(BucketError::transport)?;
        // Made once: to wait anew after each message is a part of what a message costs.
        let refused = Box::pin(async move { interest.refused().await });
        let own = Key::parse(pattern.as_str()).ok().map(|key| (key, bucket.subject(pattern.as_str())));
        Ok(Tail::Republished { bucket: bucket.clone(), own, subscriber, refused })
    }

    /// Follows `pattern` by a consumer that starts with what comes next.
    pub(super) async fn consumer(bucket: &Bucket, pattern: &Pattern) -> Result<Tail, BucketError> {
        Tail::pushed(bucket, pattern, false).await
    }

    /// All retained revisions of one key, oldest first, and then what comes.
    pub(super) async fn whole(bucket: &Bucket, key: &Key) -> Result<Tail, BucketError> {
        Tail::pushed(bucket, &Pattern::from(key), true).await
    }

    async fn pushed(bucket: &Bucket, pattern: &Pattern, whole: bool) -> Result<Tail, BucketError> {
        let client = &bucket.0.connection.client;
        let inbox = client.new_inbox();
        let subscriber = client.subscribe(inbox.clone()).await.map_err(BucketError::transport)?;
        let name = format!("confhot-watch-{}", attempt_id());
        let subject = bucket.subject(pattern.as_str());
        let config = json!({
            "name": name,
            "deliver_subject": inbox,
            "filter_subject": subject,
            "deliver_policy": if whole { "all" } else { "new" },
            "ack_policy": "none",
            "max_deliver": 1,
            "mem_storage": true,
            "num_replicas": 1,
            // One key's few revisions fit in the subscription; to be asked to go on takes one right more to answer.
            "flow_control": !whole,
            "idle_heartbeat": HEARTBEAT.as_nanos() as u64,
            "inactive_threshold": if whole { BRIEF } else { Duration::from_secs(30) }.as_nanos() as u64,
        });
        let body = json!({ "stream_name": bucket.0.stream, "config": config, "action": "create" });
        // Named, and with its filter in the subject, so that the right to make it can be limited to one key.
        let create = format!("CONSUMER.CREATE.{}.{name}.{subject}", bucket.0.stream);
        let _: serde_json::Value = bucket.api(create, body.to_string().into_bytes()).await?;
        let (bucket, deadline) = (bucket.clone(), Self::deadline());
        // Whoever may delete consumers may delete anybody's: a service does without that right.
        let name = Some(name).filter(|_| !whole);
        Ok(Tail::Consumer { bucket, subscriber, name, delivered: 0, deadline })
    }

    /// The next entry. Cancel-safe. Waits for ever where there is no tail.
    ///
    /// # Errors
    /// [`Broken`] once; the tail is then [`Tail::None`].
    pub(super) async fn next(&mut self) -> Result<Box<Entry>, Broken> {
        loop {
            let told = match self {
                Tail::None => std::future::pending().await,
                Tail::Republished { bucket, own, subscriber, refused } => tokio::select! {
                    biased;
                    message = subscriber.next() => match message {
                        // Anybody who may publish there can say anything: what does not look stored is passed over.
                        Some(message) => republished(bucket, own.as_ref(), message).map(Ok),
                        None => Some(Err(Broken::Gap)),
                    },
                    denied = refused => Some(Err(Broken::Denied(denied))),
                },
                Tail::Consumer { bucket, subscriber, delivered, deadline, .. } => {
                    let message = tokio::select! {
                        message = subscriber.next() => message,
                        () = sleep_until(*deadline) => None,
                    };
                    *deadline = Self::deadline();
                    match message {
                        None => Some(Err(Broken::Gap)),
                        Some(message) => Box::pin(consumed(bucket, message, delivered)).await.transpose(),
                    }
                }
            };
            match told {
                Some(Ok(entry)) => return Ok(entry),
                Some(Err(broken)) => {
                    Box::pin(self.close()).await;
                    return Err(broken);
                }
                None => {}
            }
        }
    }

    /// Lets the server forget the consumer now.
    pub(super) async fn close(&mut self) {
        if let Tail::Consumer { bucket, name: Some(name), .. } = std::mem::replace(self, Tail::None) {
            let gone = format!("{}CONSUMER.DELETE.{}.{name}", bucket.0.api, bucket.0.stream);
            // Not asked for an answer: the consumer may be gone already, and goes by itself if this is lost.
            let _ = bucket.0.connection.client.publish(gone, bytes::Bytes::new()).await;
        }
    }

    fn deadline() -> Instant {
        Instant::now() + HEARTBEAT * 2 + HEARTBEAT / 2
    }
}

fn republished(bucket: &Bucket, own: Option<&(Key, String)>, message: Message) -> Option<Box<Entry>> {
    let stored = stored(message.headers.as_ref()?)?;
    if stored.stream? != bucket.0.stream {
        return None;
    }
    let key = match own {
        Some((key, subject)) if subject == stored.subject => key.clone(),
        _ => bucket.key_of(stored.subject)?,
    };
    let (sequence, created, previous) = (stored.sequence, stored.created, stored.previous);
    let mut entry = Entry::from_message(key, sequence, created, message.headers.as_ref(), message.payload);
    entry.previous = previous;
    Some(Box::new(entry))
}

async fn consumed(bucket: &Bucket, message: Message, delivered: &mut u64) -> Result<Option<Box<Entry>>, Broken> {
    if message.status.is_some_and(|status| status.as_u16() == 100) {
        let last = message.headers.as_ref().and_then(|headers| headers.get_last("Nats-Last-Consumer"));
        if last.and_then(|last| last.as_str().parse::<u64>().ok()).is_some_and(|last| last > *delivered) {
            return Err(Broken::Gap);
        }
        // A flow-control request: the server goes on when it is answered.
        if let Some(reply) = message.reply {
            let _ = bucket.0.connection.client.publish(reply, bytes::Bytes::new()).await;
        }
        return Ok(None);
    }
    let place = message.reply.as_deref().and_then(reply_position).ok_or(Broken::Gap)?;
    *delivered += 1;
    if place.delivery != *delivered {
        return Err(Broken::Gap);
    }
    Ok(bucket.delivered(message).map(Box::new))
}
