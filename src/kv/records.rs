//! The bucket that the records of [`super::status`] stand in: made, read, followed, and known to be whole.

use std::time::Duration;

use async_nats::jetstream::stream;
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::status::{FORGOTTEN, GRACE, LONGEST, LONGEST_BEAT, QUICK, RETURN, Room, settling};
use super::{
    Answer, Bucket, BucketError, Called, Description, Entry, Heard, Key, Operation, Pattern, Roll, Status, StreamInfo,
    code,
};

/// No record is to stand longer. Where the bucket of records forgets sooner, the server goes by that.
const LONGEST_AGE: Duration = LONGEST_BEAT.saturating_add(GRACE);

/// Instances that were there when the bucket was made have told within this: [`QUICK`], and a moment. There was nothing
/// that could have been forgotten.
const FIRST: Duration = QUICK.saturating_add(Duration::from_millis(500));

/// A bucket of records that was made so soon after the bucket itself was made with it, and holds all since.
const WITH_IT: Duration = Duration::from_secs(2);

/// So many that were told wait to be taken, as in the queue of the client; what comes then is lost, and read later.
const MOST_TOLD: usize = 8_192;

/// The most that the server keeps of records, in bytes: twice as many instances as are looked at of a key, all with the
/// longest reasons.
const MOST_STORED: i64 = 64 << 20;

/// What the name of a bucket of records ends with.
pub(super) const SUFFIX: &str = "_status";

/// Key of the mark that was made when the bucket of records held nothing.
const MARK: &str = "_since";

/// Until when all live instances are known again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recall {
    /// So long from now.
    pub within: Duration,
    /// Whether the server may have forgotten some, as after a restart. Else the bucket is new, and those that waited for it
    /// are about to tell.
    pub forgot: bool,
}

impl Recall {
    /// It may have forgotten all of them just now.
    pub const ALL: Recall = Recall { within: FORGOTTEN, forgot: true };
}

/// What stands in the bucket of records.
pub(super) struct Records {
    pub(super) statuses: Vec<Status>,
    /// The time by the server's clock.
    pub(super) now: Timestamp,
    /// When the bucket of records was made; none where there is none.
    pub(super) made: Option<Timestamp>,
    /// Whether they are gone before their instances tell again, as in a bucket that was not made for such slow ones.
    pub(super) fleeting: bool,
    /// How many there are for which there was no [`Room`].
    pub(super) more: usize,
}

/// What instances tell, as they tell it. Dropped, it ends.
#[derive(Debug)]
pub struct Statuses {
    told: mpsc::Receiver<Heard>,
    _listens: JoinSet<()>,
}

impl Statuses {
    /// What was told next; `None` when the connection is closed. Cancel-safe.
    ///
    /// Told without the server's store between, so that a lost one is possible: read [`Bucket::statuses`] now and then.
    pub async fn next(&mut self) -> Option<Heard> {
        self.told.recv().await
    }
}

/// What `message` tells.
fn heard(bucket: &Bucket, message: async_nats::Message) -> Option<Heard> {
    let key = bucket.key_of(&message.subject)?;
    let entry = Entry::from_message(key, 0, Timestamp::now(), message.headers.as_ref(), message.payload);
    match entry.operation {
        Operation::Put => Status::read(&entry.key, &entry.value, entry.created).map(|it| Heard::Status(it.into())),
        Operation::Delete => {
            let (key, token) = entry.key.as_str().rsplit_once('.')?;
            Some(Heard::Goodbye { key: Key::parse(key).ok()?, token: token.to_owned() })
        }
    }
}

fn pattern(key: Option<&Key>) -> Pattern {
    key.map_or_else(Pattern::all, |key| Pattern::raw(format!("{key}.*")))
}

impl Bucket {
    /// The bucket that the records stand in.
    pub(super) fn status_bucket(&self) -> Bucket {
        Bucket::named(self.0.connection.clone(), format!("{}{SUFFIX}", self.0.name))
    }

    /// What the live instances said last, of `key` or of all keys, and the time by the server's clock; in no particular
    /// order. No instance, no bucket of records: an empty list. For whoever reads more than once, [`Roll`] asks for less.
    ///
    /// # Errors
    /// [`BucketError`].
    pub async fn statuses(&self, key: Option<&Key>) -> Result<(Vec<Status>, Timestamp), BucketError> {
        let called = Roll::new(self, key, Duration::ZERO).call().await?;
        Ok((called.statuses, called.now))
    }

    /// The records of `key` or of all keys, whoever told them and is gone by now.
    pub(super) async fn records(&self, key: Option<&Key>) -> Result<Records, BucketError> {
        let bucket = self.status_bucket();
        let (mut statuses, mut room, mut more) = (Vec::new(), Room::default(), 0);
        let read = async {
            bucket
                .each_head_through(&pattern(key), true, None, |entry| {
                    if entry.operation == Operation::Delete {
                        return;
                    }
                    match Status::read(&entry.key, &entry.value, entry.created) {
                        Some(status) if room.take(&status) => statuses.push(status),
                        Some(_) => more += 1,
                        None => {}
                    }
                })
                .await?;
            bucket.info().await
        };
        match read.await {
            Ok(StreamInfo { ts, config, created, .. }) => {
                let fleeting = !config.max_age.is_zero() && config.max_age < LONGEST_AGE;
                let (now, made) = (ts.unwrap_or_else(Timestamp::now), created.parse().ok());
                Ok(Records { statuses, now, made, fleeting, more })
            }
            Err(BucketError::Missing(_)) => {
                Ok(Records { statuses: Vec::new(), now: Timestamp::now(), made: None, fleeting: false, more: 0 })
            }
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
        let mut subscriber = bucket.0.connection.client.subscribe(subject).await.map_err(BucketError::transport)?;
        let (tell, told) = mpsc::channel(MOST_TOLD);
        let mut listens = JoinSet::new();
        // The client's own queue holds so many of any length, also of what the stream refuses: all that stands there is taken
        // at once, though not for ever, and what finds no room is not even parsed.
        listens.spawn(async move {
            let tell = |message| {
                if let Ok(place) = tell.try_reserve()
                    && let Some(heard) = heard(&bucket, message)
                {
                    place.send(heard);
                }
            };
            while let Some(message) = subscriber.next().await {
                tell(message);
                let rest = async {
                    for _ in 0..MOST_TOLD {
                        let Some(Some(message)) = subscriber.next().now_or_never() else { return };
                        tell(message);
                    }
                };
                tokio::task::unconstrained(rest).await;
            }
        });
        Ok(Statuses { told, _listens: listens })
    }

    /// How long it takes until all live instances have told what they run since the server forgot it; zero where that is
    /// long ago. Makes the bucket of records if there is none, as after a restart of a server alone.
    ///
    /// # Errors
    /// [`BucketError::Denied`], [`BucketError::Refused`] for whoever may not make it, and so cannot know; [`BucketError`].
    pub async fn complete_in(&self) -> Result<Recall, BucketError> {
        let first = Recall { within: FIRST, forgot: false };
        let bucket = self.status_bucket();
        let mark = Key::parse(MARK).map_err(BucketError::transport)?;
        let made = match bucket.head(&mark).await {
            Err(BucketError::Missing(_)) => match self.info().await {
                Ok(info) => {
                    let made = self.ensure_status(info.config.num_replicas).await;
                    let age = info.ts.zip(info.created.parse::<Timestamp>().ok());
                    let age =
                        age.map(|(now, created)| Duration::try_from(now.duration_since(created)).unwrap_or_default());
                    if made.is_ok() && age.is_some_and(|age| age < WITH_IT) {
                        return Ok(first);
                    }
                    made
                }
                // Made with the bucket itself.
                Err(BucketError::Missing(_)) => return Ok(first),
                Err(error) => Err(error),
            },
            Ok(None) => self.mark().await,
            Ok(Some(mark)) => {
                let age = bucket.server_time().await?.duration_since(mark.created);
                let age = Duration::try_from(age).unwrap_or_default();
                // A restart of the server forgets the mark as well: one that is as old as the bucket forgot nothing.
                let of_old = age >= FORGOTTEN
                    || match self.info().await {
                        Ok(info) => {
                            let made: Timestamp = info.created.parse().map_err(BucketError::transport)?;
                            Duration::try_from(mark.created.duration_since(made)).unwrap_or_default() < WITH_IT
                        }
                        // About to be made anew under its instances.
                        Err(BucketError::Missing(_)) => false,
                        Err(error) => return Err(error),
                    };
                let within = if of_old { FIRST } else { FORGOTTEN }.saturating_sub(age);
                return Ok(Recall { within, forgot: !of_old });
            }
            Err(error) => Err(error),
        };
        made.map(|()| Recall::ALL)
    }

    /// Leaves the mark in a bucket of records that has none. Where the bucket is somebody else's and takes no message
    /// that does not age, it never has one, and whoever asks [`Bucket::complete_in`] is told to wait.
    async fn mark(&self) -> Result<(), BucketError> {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Nats-TTL", "never");
        headers.insert("Nats-Expected-Last-Subject-Sequence", "0");
        let records = self.status_bucket();
        let answer = records.request(records.publish_subject(MARK), Some(headers), Bytes::new()).await?;
        let stored = serde_json::from_slice::<Answer>(&answer.payload).is_ok_and(|answer| answer.error.is_none());
        // Those whose own server was not away do not know that anything was forgotten.
        if stored {
            self.ask_all().await;
        }
        Ok(())
    }

    /// How long it takes until those are back whom a restart of the server cut off and who are not among the `called`; zero
    /// where that is long ago, and for whoever cannot know. `of` is what this bucket is.
    ///
    /// The restart lost the records as well. Where there are none, this makes their bucket as [`Bucket::complete_in`] does.
    pub async fn back_in(&self, of: Option<&Description>, called: &Called) -> Duration {
        let Some(made) = called.made.filter(|_| !called.statuses.is_empty()) else {
            let within = self.complete_in().await.map_or(Duration::ZERO, |recall| recall.within);
            return within.saturating_sub(FORGOTTEN - RETURN);
        };
        let span = |from, to: Timestamp| Duration::try_from(to.duration_since(from)).unwrap_or_default();
        let with_it = of.and_then(Description::made).is_some_and(|of| span(of, made) < WITH_IT);
        let remade = if with_it { Duration::ZERO } else { RETURN.saturating_sub(span(made, called.now)) };
        remade.max(settling(&called.statuses, called.now).unwrap_or_default())
    }

    /// In which settings the bucket of records differs from one that confhot makes, one line each.
    ///
    /// # Errors
    /// [`BucketError::Missing`] where there is none.
    pub async fn record_differences(&self) -> Result<Vec<String>, BucketError> {
        let is = self.status_bucket().info().await?.config;
        let want = self.wanted_records(is.num_replicas);
        let settings = |config: &stream::Config| {
            [
                ("history", config.max_messages_per_subject.to_string()),
                ("the age limit in ms", config.max_age.as_millis().to_string()),
                ("the largest record", config.max_message_size.to_string()),
                ("the most that it stores, in bytes,", config.max_bytes.to_string()),
                ("direct get", config.allow_direct.to_string()),
                ("an age of its own for a record", config.allow_message_ttl.to_string()),
            ]
        };
        let both = settings(&is).into_iter().zip(settings(&want)).filter(|(is, want)| is != want);
        Ok(both.map(|((what, is), (_, want))| format!("{what} is {is}, confhot makes it {want}")).collect())
    }

    /// The bucket of records that confhot makes: in memory, one record a subject, and none that is old.
    fn wanted_records(&self, replicas: usize) -> stream::Config {
        let bucket = self.status_bucket();
        stream::Config {
            name: bucket.0.stream.clone(),
            description: Some(format!("what each instance runs of the configuration in `{}`", self.0.name)),
            subjects: vec![bucket.subject(">")],
            max_messages: -1,
            max_bytes: MOST_STORED,
            max_messages_per_subject: 1,
            max_message_size: LONGEST,
            max_age: LONGEST_AGE,
            discard: stream::DiscardPolicy::New,
            storage: stream::StorageType::Memory,
            num_replicas: replicas,
            max_consumers: 100_000,
            duplicate_window: Duration::from_secs(10),
            allow_message_ttl: true,
            allow_rollup: true,
            deny_delete: true,
            allow_direct: true,
            ..stream::Config::default()
        }
    }

    /// Makes the bucket of records again, of as many replicas as this bucket has.
    pub(super) async fn remake_status(&self) -> Result<(), BucketError> {
        self.ensure_status(self.info().await?.config.num_replicas).await
    }

    /// Makes the bucket of records if there is none.
    pub(super) async fn ensure_status(&self, replicas: usize) -> Result<(), BucketError> {
        let bucket = self.status_bucket();
        match bucket.describe().await {
            Err(BucketError::Missing(_)) => {}
            known => return known.map(|_: Description| ()),
        }
        let mut config = self.wanted_records(replicas);
        loop {
            let body = serde_json::to_vec(&config).map_err(BucketError::transport)?;
            match bucket.api::<StreamInfo>(format!("STREAM.CREATE.{}", bucket.0.stream), body).await {
                Ok(_) => return self.mark().await,
                Err(BucketError::Refused { code: code::STREAM_NAME_IN_USE, .. }) => return Ok(()),
                // The server sets aside what it may come to, and has not got, or may not give, as much.
                Err(BucketError::Refused { .. }) if config.max_bytes > 0 => config.max_bytes = -1,
                // An account that may store nothing in memory.
                Err(BucketError::Refused { .. }) if config.storage == stream::StorageType::Memory => {
                    config.storage = stream::StorageType::File;
                }
                Err(error) => return Err(error),
            }
        }
    }
}
