//! An instance's side of [`super::status`]: it tells what it runs, listens where it is asked for, and notices a process that
//! calls itself the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::{HeaderMap, Message, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::{BoxFuture, OptionFuture};
use serde::Deserialize;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::denied::Interest;
use super::entry::attempt_id;
use super::presence::{HELLO, TELL};
use super::status::{
    GRACE, Instance, LONGEST_BEAT, LONGEST_ID, LONGEST_NAME, LONGEST_REASON, QUICK, Record, Report, clip, token,
};
use super::{ApiError, Bucket, BucketError, Key, code, random_below};

/// An instance tells again what it told before, at the latest after this; where they are many, less often.
const BEAT: Duration = Duration::from_secs(30);

/// All instances of a bucket together tell so often in a second, on the mean, while nothing changes.
const RATE: f64 = 30.0;

/// Where all were asked to tell again, each does within this.
const SPREAD: Duration = Duration::from_secs(2);

/// Whoever is asked often does not tell more often than that.
const AT_MOST: Duration = Duration::from_secs(1);

/// A process that has met its twin says so every [`QUICK`], until it has not heard of it for so many of these.
const TWIN_GONE: u32 = 3;

/// How long to wait before telling again, where `told` records were told by all within `over`, and each waits for `beat` now.
fn next_beat(beat: Duration, told: u64, over: Duration) -> Duration {
    // As many instances as that come to share the rate.
    let instances = told as f64 * beat.as_secs_f64() / over.as_secs_f64().max(1e-3);
    Duration::from_secs_f64((instances / RATE).clamp(BEAT.as_secs_f64(), LONGEST_BEAT.as_secs_f64()))
}

/// The least time to let go by before telling again, `pause` being the most: what very many did `at_once` spreads over all of
/// it, and stays so.
fn least_pause(pause: Duration, at_once: bool) -> Duration {
    (if at_once { pause.min(BEAT) } else { pause }) * 7 / 8
}

/// Tells for one instance what it runs of one key, for as long as it lives. Dropped without a [`Announcer::goodbye`], it
/// looks like a process that died.
#[derive(Debug)]
pub struct Announcer {
    report: watch::Sender<(Report, Instant)>,
    twins: mpsc::Receiver<String>,
    subject: String,
    bucket: Bucket,
    task: JoinSet<()>,
}

impl Announcer {
    /// Tells from now on, a report without a value first.
    ///
    /// Must be called within a tokio runtime.
    pub fn start(bucket: &Bucket, key: &Key, mut instance: Instance) -> Announcer {
        clip(&mut instance.id, LONGEST_ID);
        for name in [&mut instance.service, &mut instance.host, &mut instance.version] {
            clip(name, LONGEST_NAME);
        }
        let records = bucket.status_bucket();
        let subject = records.publish_subject(&format!("{key}.{}", token(&instance.id)));
        let (report, reported) = watch::channel((Report::default(), Instant::now()));
        let (found, twins) = mpsc::channel(1);
        let teller = Teller {
            bucket: bucket.clone(),
            records: records.clone(),
            key: key.clone(),
            subject: subject.clone(),
            instance,
            reported,
            process: attempt_id(),
            began: Instant::now(),
            found,
            beat: BEAT,
            ages: true,
            deaf: false,
            twin: 0,
            stored: None,
            at_once: true,
            may_make: Arc::default(),
            told: Instant::now(),
            due: Instant::now(),
        };
        let mut task = JoinSet::new();
        task.spawn(teller.run());
        Announcer { report, twins, subject, bucket: records, task }
    }

    /// Tells `report` at once, if it says anything new. Other words for the same refusal, as each attempt at what is
    /// unavailable may find, are no change; the next beat has them.
    pub fn tell(&self, report: Report) {
        self.report.send_if_modified(|(told, since)| {
            if let (Some(refused), Some(again)) = (&mut told.rejected, &report.rejected)
                && (refused.revision, &refused.kind) == (again.revision, &again.kind)
                && refused.reason != again.reason
            {
                refused.reason.clone_from(&again.reason);
            }
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

    /// Says that the instance stops: nobody waits for it any more. It is sent when this returns, which takes a second at
    /// most.
    pub async fn goodbye(mut self) {
        // Nothing is told after it.
        self.task.shutdown().await;
        let connection = &self.bucket.0.connection;
        if !connection.link.borrow().up {
            return;
        }
        let mut headers = HeaderMap::new();
        headers.insert("KV-Operation", "DEL");
        let said = async {
            let _ = connection.client.publish_with_headers(self.subject.clone(), headers, Bytes::new()).await;
            let _ = connection.client.flush().await;
        };
        let _ = tokio::time::timeout(Duration::from_secs(1), said).await;
    }
}

struct Teller {
    bucket: Bucket,
    records: Bucket,
    key: Key,
    subject: String,
    instance: Instance,
    reported: watch::Receiver<(Report, Instant)>,
    process: String,
    began: Instant,
    found: mpsc::Sender<String>,
    /// How long to wait before telling again, while nothing changes.
    beat: Duration,
    /// Whether a record there may have an age limit of its own.
    ages: bool,
    /// Whether the instance may not listen where it is asked for: it shows that it is there by telling often.
    deaf: bool,
    /// Beats until a twin that was met is taken for gone; 0 where none was met.
    twin: u32,
    /// The sequence of its last record, and when that was stored.
    stored: Option<(u64, Instant)>,
    /// Whether others tell now too, as after a change.
    at_once: bool,
    /// Whether this connection may make the place of the records, as far as is known.
    may_make: Arc<AtomicBool>,
    /// When it told last.
    told: Instant,
    /// When to tell again.
    due: Instant,
}

/// The acknowledgement of a record.
#[derive(Debug, Deserialize)]
struct Stored {
    #[serde(default)]
    seq: u64,
    error: Option<ApiError>,
}

type Telling = OptionFuture<BoxFuture<'static, Result<Message, BucketError>>>;

/// Where an instance listens.
struct Ears {
    asked: Subscriber,
    here: Subscriber,
    interest: Interest,
}

impl Teller {
    async fn run(mut self) {
        let mut link = self.bucket.connection().link();
        let mut connected = Instant::now();
        let mut generation = 0;
        let Ok(mut ears) = self.listen().await else { return };
        let mut telling: Telling = None.into();
        let mut waits = false;
        loop {
            let now = link.borrow_and_update().clone();
            if now.up && generation != now.generation {
                (generation, connected, self.due) = (now.generation, Instant::now(), Instant::now());
                (telling, waits, self.stored, self.at_once) = (None.into(), false, None, true);
                self.may_make = Arc::new(true.into());
                self.hello().await;
            }
            let due = self.due;
            // Nothing is queued for a server that is away: it would hear old news first.
            let tells = tokio::select! {
                biased;
                changed = link.changed() => match changed { Ok(()) => false, Err(_) => return },
                changed = self.reported.changed(), if now.up => {
                    if changed.is_err() {
                        return;
                    }
                    self.at_once = true;
                    true
                }
                answer = &mut telling, if waits => {
                    (telling, waits) = (None.into(), false);
                    if let Some(answer) = answer {
                        self.answered(answer);
                    }
                    false
                }
                Some(message) = ears.here.next() => {
                    self.heard(&message).await;
                    false
                }
                Some(message) = ears.asked.next() => {
                    // `confhot doctor` only tries whether it may ask.
                    if message.payload.is_empty() {
                        let soon = Duration::from_millis(random_below(SPREAD.as_millis() as u64));
                        (self.due, self.at_once) = (self.due.min(Instant::now() + soon), true);
                    }
                    false
                }
                _ = ears.interest.refused(), if !self.deaf => {
                    self.deaf = true;
                    self.due = self.due.min(Instant::now() + QUICK);
                    false
                }
                () = sleep_until(due), if now.up => {
                    self.miss_twin().await;
                    true
                }
            };
            if tells {
                (telling, waits) = (Some(self.tell(connected)).into(), true);
                // Until it is answered, or was not.
                self.due = Instant::now() + LONGEST_BEAT;
            }
        }
    }

    async fn listen(&self) -> Result<Ears, async_nats::SubscribeError> {
        let connection = self.bucket.connection();
        let here = self.bucket.here_subject("*", self.key.as_str(), &token(&self.instance.id));
        let interest = connection.interest(&here);
        let here = connection.client.subscribe(here).await?;
        Ok(Ears { asked: connection.client.subscribe(self.bucket.tell_subject()).await?, here, interest })
    }

    /// Writes its record.
    fn tell(&mut self, connected: Instant) -> BoxFuture<'static, Result<Message, BucketError>> {
        let (mut report, since) = self.reported.borrow_and_update().clone();
        if let Some(refused) = &mut report.rejected {
            clip(&mut refused.reason, LONGEST_REASON);
        }
        self.told = Instant::now();
        let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let record = Record {
            instance: self.instance.clone(),
            key: self.key.to_string(),
            report,
            for_ms: ms(since.elapsed()),
            up_ms: ms(self.began.elapsed()),
            connected_ms: ms(connected.elapsed()),
            beat_ms: ms(self.pause()),
            process: self.process.clone(),
            twin: self.twin > 0,
        };
        let headers = self.ages.then(|| {
            let mut headers = HeaderMap::new();
            // Whole seconds are all that the server takes.
            headers.insert("Nats-TTL", (self.pause() + GRACE).as_secs().saturating_add(1).to_string());
            headers
        });
        let (bucket, key, records, subject) =
            (self.bucket.clone(), self.key.clone(), self.records.clone(), self.subject.clone());
        let may_make = self.may_make.clone();
        let body = serde_json::to_vec(&record).map_err(BucketError::transport);
        Box::pin(async move {
            let body = Bytes::from(body?);
            let mut answer = records.request(subject.clone(), headers.clone(), body.clone()).await;
            // A restart of the server forgot the place as well, and it may be long until somebody publishes.
            if matches!(answer, Err(BucketError::Missing(_))) && may_make.load(Ordering::Relaxed) {
                match bucket.remake_status().await {
                    Ok(()) => answer = records.request(subject, headers, body).await,
                    Err(BucketError::Denied(_) | BucketError::Refused { .. }) => {
                        may_make.store(false, Ordering::Relaxed)
                    }
                    Err(_) => {}
                }
            }
            if matches!(answer, Err(BucketError::TimedOut { .. })) {
                bucket.make_sure_of_server(&key).await;
            }
            answer
        })
    }

    /// How long to wait before telling again, while nothing changes.
    fn pause(&self) -> Duration {
        if self.deaf || self.twin > 0 || !self.ages { QUICK } else { self.beat }
    }

    /// Takes note of what became of a record. One that is not stored is told again soon, say because its place was not made
    /// yet, or was forgotten.
    fn answered(&mut self, answer: Result<Message, BucketError>) {
        let now = Instant::now();
        let stored = match answer {
            Ok(answer) => serde_json::from_slice(&answer.payload).unwrap_or(Stored { seq: 0, error: None }),
            // What may not be told is not told the sooner for being tried often.
            Err(BucketError::Denied(_)) => return self.due = now + self.beat,
            Err(_) => return self.due = now + QUICK,
        };
        match stored {
            Stored { error: Some(error), .. } if error.err_code == code::TTL_DISABLED && self.ages => {
                self.ages = false;
                self.due = now;
            }
            Stored { error: Some(_), .. } => self.due = now + QUICK,
            Stored { seq, error: None } => {
                // What was told between two beats tells how many there are; a restart of the server begins anew.
                match self.stored {
                    Some((before, at)) if seq > before && now - at >= BEAT / 2 => {
                        let beat = next_beat(self.beat, seq - before, now - at);
                        // All of them learn it now.
                        self.at_once |= beat > 2 * self.beat;
                        (self.beat, self.stored) = (beat, Some((seq, now)));
                    }
                    Some((before, _)) if seq > before => {}
                    _ => self.stored = Some((seq, now)),
                }
                let pause = self.pause();
                let least = least_pause(pause, std::mem::take(&mut self.at_once));
                self.due = now + least + Duration::from_millis(random_below((pause - least).as_millis() as u64));
            }
        }
    }

    /// Says to its like that it is here. Without the right to do so an instance cannot know; its readers still can.
    async fn hello(&self) {
        let subject = self.bucket.here_subject(HELLO, self.key.as_str(), &token(&self.instance.id));
        let who = format!("{} {}", self.process, self.instance.host);
        let _ = self.bucket.0.connection.client.publish(subject, who.into()).await;
    }

    /// What was said where it listens: a probe wants nothing of it, and a hello may be by a process of the same name.
    async fn heard(&mut self, message: &Message) {
        if message.subject.split('.').nth(3) == Some(TELL) {
            self.due = self.due.min((self.told + AT_MOST).max(Instant::now()));
        }
        let who = str::from_utf8(&message.payload).ok().and_then(|who| who.split_once(' '));
        let Some((process, host)) = who.filter(|_| message.subject.split('.').nth(3) == Some(HELLO)) else { return };
        if process == self.process {
            return;
        }
        if self.twin == 0 {
            let Instance { id, service, .. } = &self.instance;
            let host: String = host.chars().filter(|c| !c.is_control()).take(LONGEST_NAME).collect();
            let _ = self.found.try_send(format!(
                "another process, on {host}, calls itself instance `{id}` of {service} too: give each one its own id, by --instance or a state directory",
            ));
            // It said so to everybody, and may have met nobody yet.
            self.hello().await;
            self.due = Instant::now();
        }
        self.twin = TWIN_GONE;
    }

    /// One beat more without a word of a twin.
    async fn miss_twin(&mut self) {
        if self.twin > 0 {
            self.twin -= 1;
            self.hello().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_instances_tell_less_often_and_together_no_more_than_the_rate() {
        let seconds = Duration::from_secs;

        // What one of them sees told between two of its own.
        assert_eq!(next_beat(BEAT, 1, BEAT), BEAT);
        assert_eq!(next_beat(BEAT, 900, BEAT), BEAT);
        assert_eq!(next_beat(BEAT, 1_500, BEAT), seconds(50));
        assert_eq!(next_beat(BEAT, 7_500, BEAT), seconds(250));
        assert_eq!(next_beat(BEAT, 1_000_000, BEAT), LONGEST_BEAT);
        // It holds once it is reached, and comes back when they are fewer.
        assert_eq!(next_beat(seconds(250), 7_500, seconds(250)), seconds(250));
        assert_eq!(next_beat(seconds(250), 100, seconds(250)), BEAT);
        assert_eq!(next_beat(BEAT, 5, Duration::ZERO), seconds(300));
    }

    #[test]
    fn what_all_told_at_once_is_told_again_over_the_whole_of_a_beat() {
        let (beat, least) = (Duration::from_secs(250), BEAT * 7 / 8);

        assert_eq!([true, false].map(|at_once| least_pause(BEAT, at_once)), [least; 2]);
        assert_eq!(least_pause(beat, true), least);
        assert_eq!(least_pause(beat, false), beat * 7 / 8);
        assert_eq!([true, false].map(|at_once| least_pause(QUICK, at_once)), [QUICK * 7 / 8; 2]);
    }
}
