//! Who runs what: each instance keeps one short record of each key that it follows, beside the bucket.
//!
//! The records are in a bucket of their own, `<bucket>_status`, under `<key>.<instance>`, so that any client reads them
//! (`nats kv ls configs_status`). It is kept in memory with one record a subject and an age limit: an instance writes its
//! record anew every few seconds, without asking for an answer, and one that died is gone when its last record is too
//! old. No consumer, no disk, and liveness by the server's clock alone. What a restart of the server forgets, the
//! instances tell again as they reconnect; each record says for how long its connection has stood, so that a reader knows
//! when too little time has passed for all of them ([`settling`]).

use std::time::Duration;

use async_nats::Subscriber;
use async_nats::jetstream::stream;
use bytes::Bytes;
use futures_util::StreamExt;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::entry::attempt_id;
use super::{
    Bucket, BucketError, Description, Entry, Key, Operation, Pattern, Revision, StreamInfo, code, random_below,
};
use crate::document::Digest;

/// An instance tells again what it told before, at the latest after this.
const BEAT: Duration = Duration::from_secs(3);

/// A record is gone when its instance has not written it anew for this long: longer than ten seconds and a beat, so that
/// a process which was frozen for ten counts as live, and short enough for a dead one to be gone within fifteen.
const AGE: Duration = Duration::from_millis(13_500);

/// After a restart of the server its instances are back within this: what [`super::Connection`]'s reconnects take at
/// most, and a moment.
const RETURN: Duration = Duration::from_secs(6);

/// Longest reason that a record carries, in bytes.
const LONGEST_REASON: usize = 1_000;

/// Longest record that the server takes, in bytes.
const LONGEST: i32 = 8_192;

/// One process that follows keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Instance {
    /// What it is an instance of.
    pub service: String,
    /// Tells it from the other instances of the service.
    #[serde(rename = "instance")]
    pub id: String,
    /// The machine that it runs on.
    pub host: String,
    /// The version of confhot that it is built with.
    pub version: String,
}

impl Instance {
    /// Instance `id` of `service` on `host`, built with this version of confhot.
    pub fn new(service: impl Into<String>, id: impl Into<String>, host: impl Into<String>) -> Instance {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Instance { service: service.into(), id: id.into(), host: host.into(), version }
    }
}

/// How an instance stands to the newest revision that it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// It serves it.
    Applied,
    /// It refused it, and serves what it served before, if anything.
    Rejected,
    /// It serves an older one, or none yet.
    #[default]
    Behind,
}

/// A revision that an instance refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The revision.
    pub revision: Revision,
    /// `invalid`, or `unavailable` for one that is tried again.
    pub kind: String,
    /// One line.
    pub reason: String,
}

/// What an instance says of one key.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Report {
    /// The revision that serves.
    pub revision: Option<Revision>,
    /// Its digest.
    pub digest: Option<Digest>,
    /// The newest revision that the instance knows, a tombstone included.
    pub newest: Option<Revision>,
    /// How it stands to that.
    pub state: Standing,
    /// The newest revision that it refused, as long as it has not applied a newer one.
    pub rejected: Option<Refused>,
}

/// What stands in the status bucket. Durations, not times: readers count back from when the server stored it, so that no
/// two machines' clocks are compared.
#[derive(Serialize, Deserialize)]
struct Record {
    #[serde(flatten)]
    instance: Instance,
    key: String,
    #[serde(flatten)]
    report: Report,
    /// Since the report last changed.
    for_ms: u64,
    /// Since the process began to follow the key.
    up_ms: u64,
    /// Since its connection was made.
    connected_ms: u64,
    /// Tells two processes with one instance id apart.
    process: String,
}

/// What an instance said last of one key, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Who.
    pub instance: Instance,
    /// Of which key.
    pub key: Key,
    /// What.
    pub report: Report,
    /// When the server heard it last, by its own clock; in a [`Heard`], when this process heard it.
    pub seen: Timestamp,
    /// When the report last changed, by the same clock.
    pub since: Timestamp,
    /// How long the process had followed the key by then.
    pub up: Duration,
    /// How long its connection had stood.
    pub connected: Duration,
    /// Tells two processes with one instance id apart.
    pub process: String,
}

/// What came over the wire just now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// An instance told what it runs.
    Status(Box<Status>),
    /// An instance said goodbye.
    Goodbye {
        /// The key that it followed.
        key: Key,
        /// Its id, as [`token`] writes it.
        token: String,
    },
}

/// An instance's id as one token of a key: what cannot stand there is written `=` and two hex digits.
pub fn token(id: &str) -> String {
    let mut token = String::with_capacity(id.len());
    for byte in id.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => token.push(byte.into()),
            byte => token.push_str(&format!("={byte:02X}")),
        }
    }
    // A token of an empty id would be none.
    if token.is_empty() { "=".into() } else { token }
}

/// Whether `statuses`, read at `now` by the server's clock, may lack instances that are live: the longest standing
/// connection is so young that the server was restarted a moment ago, and some instance is older than its connection, so
/// that it was a restart and not the beginning. Gives how long to wait until all of them are back.
pub fn settling(statuses: &[Status], now: Timestamp) -> Option<Duration> {
    let stood = |status: &Status| {
        let age = Duration::try_from(now.duration_since(status.seen)).unwrap_or_default();
        status.connected + age
    };
    let longest = statuses.iter().map(stood).max()?;
    let restarted = statuses.iter().any(|status| status.up > status.connected + Duration::from_secs(1));
    (restarted && longest < RETURN).then(|| RETURN - longest)
}

impl Status {
    fn read(key: &Key, value: &[u8], seen: Timestamp) -> Option<Status> {
        let record: Record = serde_json::from_slice(value).ok()?;
        // Whoever may write under one name only cannot speak for another.
        let named = format!("{}.{}", record.key, token(&record.instance.id));
        let ago = |ms: u64| Duration::from_millis(ms.min(i32::MAX as u64 * 1_000));
        (named == key.as_str()).then_some(())?;
        Some(Status {
            key: Key::parse(&record.key).ok()?,
            instance: record.instance,
            report: record.report,
            seen,
            since: seen.checked_sub(jiff::SignedDuration::try_from(ago(record.for_ms)).ok()?).unwrap_or(seen),
            up: ago(record.up_ms),
            connected: ago(record.connected_ms),
            process: record.process,
        })
    }

    /// Its id, as [`token`] writes it.
    pub fn token(&self) -> String {
        token(&self.instance.id)
    }
}

/// What instances tell, as they tell it. Dropped, it ends.
#[derive(Debug)]
pub struct Statuses {
    bucket: Bucket,
    subscriber: Subscriber,
}

impl Statuses {
    /// What was told next; `None` when the connection is closed. Cancel-safe.
    ///
    /// Told without the server's store between, so that a lost one is possible: read [`Bucket::statuses`] now and then.
    pub async fn next(&mut self) -> Option<Heard> {
        loop {
            let message = self.subscriber.next().await?;
            let Some(key) = self.bucket.key_of(&message.subject) else { continue };
            let entry = Entry::from_message(key, 0, Timestamp::now(), message.headers.as_ref(), message.payload);
            let heard = match entry.operation {
                Operation::Put => {
                    Status::read(&entry.key, &entry.value, entry.created).map(|it| Heard::Status(it.into()))
                }
                Operation::Delete => entry.key.as_str().rsplit_once('.').and_then(|(key, token)| {
                    Some(Heard::Goodbye { key: Key::parse(key).ok()?, token: token.to_owned() })
                }),
            };
            if heard.is_some() {
                return heard;
            }
        }
    }
}

fn pattern(key: Option<&Key>) -> Pattern {
    key.map_or_else(Pattern::all, |key| Pattern::raw(format!("{key}.*")))
}

impl Bucket {
    /// The bucket that the records stand in.
    fn status_bucket(&self) -> Bucket {
        Bucket::named(self.0.connection.clone(), format!("{}_status", self.0.name))
    }

    /// What the live instances said last, of `key` or of all keys, and the time by the server's clock; in no particular
    /// order. No instance, no bucket of records: an empty list.
    ///
    /// # Errors
    /// [`BucketError`].
    pub async fn statuses(&self, key: Option<&Key>) -> Result<(Vec<Status>, Timestamp), BucketError> {
        let bucket = self.status_bucket();
        let mut statuses = Vec::new();
        let read = async {
            bucket
                .each_head(&pattern(key), true, |entry| {
                    if entry.operation == Operation::Put {
                        statuses.extend(Status::read(&entry.key, &entry.value, entry.created));
                    }
                })
                .await?;
            bucket.server_time().await
        };
        match read.await {
            Ok(now) => Ok((statuses, now)),
            Err(BucketError::Missing(_)) => Ok((Vec::new(), Timestamp::now())),
            Err(error) => Err(error),
        }
    }

    /// Follows what instances tell from now on, of `key` or of all keys.
    ///
    /// # Errors
    /// [`BucketError::Transport`] where the connection is closed.
    pub async fn follow_statuses(&self, key: Option<&Key>) -> Result<Statuses, BucketError> {
        let bucket = self.status_bucket();
        let subject = bucket.subject(pattern(key).as_str());
        let subscriber = bucket.0.connection.client.subscribe(subject).await.map_err(BucketError::transport)?;
        Ok(Statuses { bucket, subscriber })
    }

    /// Makes the bucket of records if there is none.
    pub(super) async fn ensure_status(&self, replicas: usize) -> Result<(), BucketError> {
        let bucket = self.status_bucket();
        match bucket.describe().await {
            Err(BucketError::Missing(_)) => {}
            known => return known.map(|_: Description| ()),
        }
        let mut config = stream::Config {
            name: bucket.0.stream.clone(),
            description: Some(format!("what each instance runs of the configuration in `{}`", self.0.name)),
            subjects: vec![bucket.subject(">")],
            max_messages: -1,
            max_bytes: -1,
            max_messages_per_subject: 1,
            max_message_size: LONGEST,
            max_age: AGE,
            discard: stream::DiscardPolicy::New,
            storage: stream::StorageType::Memory,
            num_replicas: replicas,
            max_consumers: 100_000,
            duplicate_window: Duration::from_secs(10),
            allow_rollup: true,
            deny_delete: true,
            allow_direct: true,
            ..stream::Config::default()
        };
        loop {
            let body = serde_json::to_vec(&config).map_err(BucketError::transport)?;
            match bucket.api::<StreamInfo>(format!("STREAM.CREATE.{}", bucket.0.stream), body).await {
                Ok(_) | Err(BucketError::Refused { code: code::STREAM_NAME_IN_USE, .. }) => return Ok(()),
                // An account that may store nothing in memory.
                Err(BucketError::Refused { .. }) if config.storage == stream::StorageType::Memory => {
                    config.storage = stream::StorageType::File;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Tells for one instance what it runs of one key, for as long as it lives. Dropped without a [`Announcer::goodbye`], it
/// looks like a process that died.
#[derive(Debug)]
pub struct Announcer {
    report: watch::Sender<(Report, Instant)>,
    twins: mpsc::Receiver<String>,
    subject: String,
    bucket: Bucket,
    _task: JoinSet<()>,
}

impl Announcer {
    /// Tells from now on, a report without a value first.
    ///
    /// Must be called within a tokio runtime.
    pub fn start(bucket: &Bucket, key: &Key, instance: Instance) -> Announcer {
        let bucket = bucket.status_bucket();
        let key_of_record = format!("{key}.{}", token(&instance.id));
        let subject = bucket.publish_subject(&key_of_record);
        let (report, reported) = watch::channel((Report::default(), Instant::now()));
        let (found, twins) = mpsc::channel(1);
        let teller = Teller {
            bucket: bucket.clone(),
            key: key.clone(),
            record: Key::parse(&key_of_record).ok(),
            subject: subject.clone(),
            instance,
            reported,
            process: attempt_id(),
            began: Instant::now(),
            found,
        };
        let mut task = JoinSet::new();
        task.spawn(teller.run());
        Announcer { report, twins, subject, bucket, _task: task }
    }

    /// Tells `report` at once, if it says anything new.
    pub fn tell(&self, report: Report) {
        self.report.send_if_modified(|(told, since)| {
            let new = *told != report;
            if new {
                (*told, *since) = (report, Instant::now());
            }
            new
        });
    }

    /// Waits until another process turns out to call itself the same; the text says so. Cancel-safe.
    pub async fn twin(&mut self) -> String {
        match self.twins.recv().await {
            Some(text) => text,
            None => std::future::pending().await,
        }
    }

    /// Says that the instance stops: nobody waits for it any more.
    pub async fn goodbye(self) {
        let client = &self.bucket.0.connection.client;
        if self.bucket.0.connection.link.borrow().up {
            let mut headers = async_nats::HeaderMap::new();
            headers.insert("KV-Operation", "DEL");
            let _ = client.publish_with_headers(self.subject.clone(), headers, Bytes::new()).await;
        }
    }
}

struct Teller {
    bucket: Bucket,
    key: Key,
    /// The record's own key; none where the instance's id makes it too long to be one.
    record: Option<Key>,
    subject: String,
    instance: Instance,
    reported: watch::Receiver<(Report, Instant)>,
    process: String,
    began: Instant,
    found: mpsc::Sender<String>,
}

impl Teller {
    /// In these beats, and then in every fifth, an instance reads its record before it writes it: what another process
    /// wrote there since the last beat was written by a twin.
    const LOOK: [u32; 2] = [1, 2];

    async fn run(mut self) {
        let mut link = self.bucket.connection().link();
        let mut connected = Instant::now();
        let mut generation = 0;
        let mut beats = 0_u32;
        let mut due = Instant::now();
        loop {
            let now = link.borrow_and_update().clone();
            if now.up && generation != now.generation {
                (generation, connected, due) = (now.generation, Instant::now(), Instant::now());
            }
            // Nothing is queued for a server that is away: it would hear old news first.
            let changed = tokio::select! {
                biased;
                changed = link.changed() => match changed { Ok(()) => continue, Err(_) => return },
                changed = self.reported.changed(), if now.up => match changed { Ok(()) => true, Err(_) => return },
                () = sleep_until(due), if now.up => false,
            };
            if !changed {
                if Self::LOOK.contains(&beats) || beats % 5 == 4 {
                    self.look_for_twin().await;
                }
                beats = beats.saturating_add(1);
            }
            self.publish(connected).await;
            due = Instant::now() + BEAT - Duration::from_millis(random_below(BEAT.as_millis() as u64 / 6));
        }
    }

    async fn publish(&mut self, connected: Instant) {
        let (mut report, since) = self.reported.borrow_and_update().clone();
        if let Some(refused) = &mut report.rejected
            && refused.reason.len() > LONGEST_REASON
        {
            let end = (0..=LONGEST_REASON).rev().find(|end| refused.reason.is_char_boundary(*end)).unwrap_or(0);
            refused.reason.truncate(end);
            refused.reason.push('…');
        }
        let ms = |since: Instant| u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
        let record = Record {
            instance: self.instance.clone(),
            key: self.key.to_string(),
            report,
            for_ms: ms(since),
            up_ms: ms(self.began),
            connected_ms: ms(connected),
            process: self.process.clone(),
        };
        // Without a reply subject the server sends no acknowledgement: the next beat makes up for a lost one.
        if let Ok(body) = serde_json::to_vec(&record) {
            let _ = self.bucket.0.connection.client.publish(self.subject.clone(), body.into()).await;
        }
    }

    async fn look_for_twin(&self) {
        let Some(record) = &self.record else { return };
        // Without the right to read its own record an instance cannot know; its readers still can.
        let Ok(Some(entry)) = self.bucket.direct_head(record).await else { return };
        if let Some(status) = Status::read(record, &entry.value, entry.created)
            && status.process != self.process
        {
            let _ = self.found.try_send(format!(
                "another process, on {}, calls itself instance `{}` of {} too: give each one its own --instance or state directory",
                status.instance.host, self.instance.id, self.instance.service
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(up: u64, connected: u64) -> Status {
        Status {
            instance: Instance::new("s", "i", "h"),
            key: Key::parse("s").unwrap(),
            report: Report::default(),
            seen: Timestamp::UNIX_EPOCH,
            since: Timestamp::UNIX_EPOCH,
            up: Duration::from_secs(up),
            connected: Duration::from_secs(connected),
            process: String::new(),
        }
    }

    #[test]
    fn an_instance_id_of_any_text_is_one_token_of_a_key() {
        assert_eq!(token("web-1"), "web-1");
        assert_eq!(token("web.1/x y"), "web=2E1=2Fx=20y");
        assert_eq!(token(""), "=");
        assert!(Key::parse(&format!("k.{}", token("ü*>"))).is_ok());
    }

    #[test]
    fn only_young_connections_of_older_processes_tell_of_a_restart() {
        let now = Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(1);

        assert_eq!(settling(&[], now), None);
        assert_eq!(settling(&[status(2, 2)], now), None, "a first start");
        assert_eq!(settling(&[status(60, 2), status(60, 60)], now), None, "one that reconnected by itself");
        assert_eq!(settling(&[status(60, 2), status(1, 1)], now), Some(Duration::from_secs(3)));
    }

    #[test]
    fn a_record_under_another_name_than_its_own_is_nobodys() {
        let record = serde_json::json!({
            "service": "s", "instance": "i", "host": "h", "version": "1", "key": "s", "revision": 3, "digest": null,
            "newest": 3, "state": "applied", "rejected": null, "for_ms": 5, "up_ms": u64::MAX, "connected_ms": 7,
            "process": "p",
        });
        let bytes = serde_json::to_vec(&record).unwrap();
        let read = |key: &str| Status::read(&Key::parse(key).unwrap(), &bytes, Timestamp::UNIX_EPOCH);

        assert_eq!(read("s.i").unwrap().report.revision, Some(Revision(3)));
        assert_eq!(read("s.j"), None);
        assert_eq!(read("t.i"), None);
    }
}
