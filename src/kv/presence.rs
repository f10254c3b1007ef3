//! Who is there: the server is asked whether anybody listens where an instance does.
//!
//! An instance subscribes to `confhot.here.<bucket>.*.<instance>.<key>`. A reader publishes a probe there, and asks for an
//! answer that nobody gives: where no connection has that subscription, the server says so at once (status 503). That
//! costs nothing while nobody asks, and tells of a dead process as soon as the server has noticed that its connection ended,
//! which for a killed one is at once. Whoever listens to everything there hides the dead: until their records are too old they
//! seem to be there, as do those that are frozen, and those whose machine vanished until the server drops their connection.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::StatusCode;
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use jiff::Timestamp;
use tokio::time::{Instant, sleep};

use super::permissions::MOMENT;
use super::records::Records;
use super::status::{FRESH, GRACE, Status};
use super::{Bucket, BucketError, Key};

/// Where an instance is asked whether it is there.
const PROBE: &str = "probe";

/// Where it is asked to tell again.
pub(super) const TELL: &str = "tell";

/// Where an instance says to its like that it has come.
pub(super) const HELLO: &str = "hello";

/// No instance is called so ([`super::token`]).
const NOBODY: &str = "==";

/// Probes that are under way at once: as many answers may come.
const AT_ONCE: usize = 1_000;

impl Bucket {
    /// Where all instances are asked to tell again.
    pub(super) fn tell_subject(&self) -> String {
        format!("confhot.here.{}", self.0.name)
    }

    /// Where `what`, which may be `*`, is said to the instance of `key` whose id is `token`. The key, which may be of several
    /// tokens, comes last, so that a right to it is one to no key below it.
    pub(super) fn here_subject(&self, what: &str, key: &str, token: &str) -> String {
        format!("confhot.here.{}.{what}.{token}.{key}", self.0.name)
    }

    /// Asks all instances to tell again what they run, each of them within two seconds or so.
    pub(super) async fn ask_all(&self) {
        // Whoever may not ask waits as long for them all the same.
        let _ = self.0.connection.client.publish(self.tell_subject(), Bytes::new()).await;
    }

    /// As [`Bucket::ask_all`]; whether that is allowed.
    pub(crate) async fn may_ask_all(&self) -> bool {
        let asking = Box::pin(async {
            self.ask_all().await;
            sleep(MOMENT).await;
        });
        self.0.connection.unless_denied(&self.tell_subject(), asking).await.is_ok()
    }

    /// Asks each of `instances`, the key and the id as [`super::token`] writes it, to tell again what it runs, at once;
    /// whether that is allowed.
    pub(crate) async fn may_ask(&self, instances: &[(Key, String)]) -> bool {
        let client = &self.0.connection.client;
        let asking = Box::pin(async {
            for (key, token) in instances {
                let subject = self.here_subject(TELL, key.as_str(), token);
                if client.publish(subject, Bytes::new()).await.is_err() {
                    return;
                }
            }
            sleep(MOMENT).await;
        });
        let asks = format!("confhot.here.{}.{TELL}.", self.0.name);
        self.0.connection.unless_any_denied(|subject| subject.starts_with(&asks), asking).await.is_ok()
    }

    /// To be called where the server left a request about `key` unanswered: unless it answers at all, the connection is
    /// ended, to be made anew.
    ///
    /// Nobody listens where it is asked, so that it need not wait for a stream to say so: one whose streams are slow under
    /// load is not burdened with reconnects as well.
    pub(super) async fn make_sure_of_server(&self, key: &Key) {
        let connection = &self.0.connection;
        let heard = || connection.client.statistics().in_bytes.load(Ordering::Relaxed);
        let (before, link) = (heard(), connection.link.borrow().clone());
        let answer = self.request(self.here_subject(HELLO, key.as_str(), NOBODY), None, Bytes::new()).await;
        let still = || connection.link.borrow().up && connection.link.borrow().generation == link.generation;
        if matches!(answer, Err(BucketError::TimedOut { .. })) && heard() == before && still() {
            let _ = connection.client.force_reconnect().await;
        }
    }

    /// Which of `statuses` are of instances that no connection listens for.
    ///
    /// # Errors
    /// [`BucketError::Denied`] where that may not be asked; [`BucketError`].
    async fn absent(&self, statuses: &[&Status]) -> Result<HashSet<usize>, BucketError> {
        let client = &self.0.connection.client;
        let records = self.status_bucket();
        let mut absent = HashSet::new();
        for (chunk, some) in statuses.chunks(AT_ONCE).enumerate() {
            let inbox = client.new_inbox();
            let mut answers = client.subscribe(format!("{inbox}.*")).await.map_err(BucketError::transport)?;
            let asking = Box::pin(async {
                for (n, status) in some.iter().enumerate() {
                    let subject = self.here_subject(PROBE, status.key.as_str(), &status.token());
                    let reply = format!("{inbox}.{n}");
                    client.publish_with_reply(subject, reply, Bytes::new()).await.map_err(BucketError::transport)?;
                }
                // The server says of one after the other that nobody is there, and only then takes the next request.
                records.server_time().await.map(drop)
            });
            let probes = format!("confhot.here.{}.{PROBE}.", self.0.name);
            self.0.connection.unless_any_denied(|subject| subject.starts_with(&probes), asking).await??;
            // All of them are here: one that is not taken because the task is to yield would count as there.
            tokio::task::unconstrained(async {
                while let Some(Some(answer)) = answers.next().now_or_never() {
                    if answer.status == Some(StatusCode::NO_RESPONDERS)
                        && let Some(n) = answer.subject.rsplit('.').next().and_then(|n| n.parse::<usize>().ok())
                    {
                        absent.insert(chunk * AT_ONCE + n);
                    }
                }
            })
            .await;
        }
        Ok(absent)
    }
}

/// Reads again and again who is live. Cheap to clone; clones share what they know.
#[derive(Debug, Clone)]
pub struct Roll {
    bucket: Bucket,
    key: Option<Key>,
    /// For how long an instance that was there is not asked for again.
    pace: Duration,
    here: Arc<Mutex<HashMap<(Key, String), Instant>>>,
}

/// Who is live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Called {
    /// What each said last, in no particular order.
    pub statuses: Vec<Status>,
    /// The time by the server's clock.
    pub now: Timestamp,
    /// When the bucket of records was made; none where there is none.
    pub made: Option<Timestamp>,
    /// How many were there not long ago and may be about to return: their records stand, and nobody listens.
    pub absent: usize,
    /// Whether the bucket of records forgets them before their instances tell again, so that some may be missing.
    pub fleeting: bool,
    /// How many records there are that were not looked at, because nobody has so many instances.
    pub more: usize,
}

impl Roll {
    /// Of the instances of `key`, or of all keys. One that was there is asked for again after `pace`.
    pub fn new(bucket: &Bucket, key: Option<&Key>, pace: Duration) -> Roll {
        Roll { bucket: bucket.clone(), key: key.cloned(), pace, here: Arc::default() }
    }

    /// Reads who is live now. No instance, no bucket of records: an empty list.
    ///
    /// # Errors
    /// [`BucketError`].
    pub async fn call(&self) -> Result<Called, BucketError> {
        let Records { mut statuses, now, made, fleeting, more } = self.bucket.records(self.key.as_ref()).await?;
        let age = |status: &Status| Duration::try_from(now.duration_since(status.seen)).unwrap_or_default();
        statuses.retain(|status| age(status) <= status.beat + GRACE);
        let at = Instant::now();
        let name = |status: &Status| (status.key.clone(), status.token());
        let mut unsure = Vec::new();
        {
            let mut here = self.here.lock().unwrap_or_else(PoisonError::into_inner);
            here.retain(|_, asked| at - *asked < self.pace);
            for (index, status) in statuses.iter_mut().enumerate().filter(|(_, status)| age(status) > FRESH) {
                status.here = here.contains_key(&name(status));
                if !status.here {
                    unsure.push(index);
                }
            }
        }
        let asked: Vec<&Status> = unsure.iter().map(|index| &statuses[*index]).collect();
        let absent = match self.bucket.absent(&asked).await {
            Ok(absent) => absent,
            // Who may not ask goes by the records alone.
            Err(BucketError::Denied(_)) => HashSet::new(),
            Err(error) => return Err(error),
        };
        let gone: HashSet<usize> = absent.iter().map(|n| unsure[*n]).collect();
        let mut here = self.here.lock().unwrap_or_else(PoisonError::into_inner);
        for index in unsure.into_iter().filter(|index| !gone.contains(index)) {
            statuses[index].here = true;
            here.insert(name(&statuses[index]), at);
        }
        let mut index = 0..;
        statuses.retain(|_| index.next().is_none_or(|index| !gone.contains(&index)));
        Ok(Called { statuses, now, made, absent: gone.len(), fleeting, more })
    }
}
