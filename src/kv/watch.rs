//! One key, followed: its current value first, then each newer one, for as long as anybody listens.
//!
//! The tail ([`Tail`]) is fast and may miss something; a read of the key is slow and may be stale. Together they are
//! right: the tail is opened before the first read, the read is repeated shortly after (in a cluster, interest reaches
//! the leader's server after the read was answered), after every reconnect and gap, and at a slow jittered pace; and
//! nothing that does not supersede what was seen goes further.
#![warn(clippy::large_futures)]

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Fuse, FusedFuture, OptionFuture};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::tail::{AGAIN, Broken, DENIED, Tail};
use super::{Bucket, BucketError, Description, Entry, Key, Link, Pattern, Position, Revision, random_below};

/// What a watch of one key tells, in the order in which it became known.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Seen {
    /// A revision that supersedes all that was seen before, a tombstone included.
    Entry {
        /// The revision. Boxed, as it is handed on many times.
        entry: Box<Entry>,
        /// Whether it was stored while the watch was subscribed.
        live: bool,
    },
    /// Which bucket it is ([`Description::identity`]), where the server lets us know; again when it was made anew.
    Bucket(Arc<str>),
    /// The key has no value and no tombstone: never written, or all of it is gone.
    Absent,
    /// The server was asked, and what was seen last is the newest.
    Confirmed,
    /// A server is connected.
    Connected,
    /// No server is connected; the last word of why.
    Disconnected(Option<String>),
    /// Reading does not work although a server is connected. Said once until it works again.
    Trouble(String),
}

/// Below which a watch does not go: what a process knew before it started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Floor {
    /// Which bucket that was ([`Description::identity`]). For another one the floor does not count.
    pub bucket: String,
    /// The newest entry seen.
    pub position: Position,
}

/// One key, followed. Dropped, it ends.
pub struct Watch {
    seen: Queue,
    /// Polled by whoever waits for the next: from one task to another is a part of the way to the swap.
    follower: Fuse<BoxFuture<'static, ()>>,
}

/// What was told and not taken. Never long: nothing is followed before all of it is taken.
#[derive(Clone, Default)]
struct Queue(Arc<Mutex<VecDeque<Seen>>>);

impl Queue {
    fn push(&self, seen: Seen) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(seen);
    }

    fn pop(&self) -> Option<Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

impl Watch {
    /// Follows `key` from its current value on, or from above `floor`. Never fails: it waits for a server, for the
    /// bucket, and for the key.
    ///
    /// Must be called within a tokio runtime.
    pub fn start(bucket: &Bucket, key: &Key, floor: Option<Floor>) -> Watch {
        let seen = Queue::default();
        let mut follower = Follower {
            pattern: Pattern::from(key),
            bucket: bucket.clone(),
            key: key.clone(),
            out: seen.clone(),
            floor,
            cursor: None,
            cursor_in: None,
            asked_at: None,
            told_absent: false,
            absences: 0,
            trouble: None,
            unheard: None,
            known: Known::Unasked,
            known_in: 0,
            missed: false,
            tail: Tail::None,
            followed: None,
            due: Instant::now(),
            stage: 0,
            failures: 0,
            old: false,
            without_jetstream: false,
        };
        Watch { seen, follower: async move { follower.follow().await }.boxed().fuse() }
    }

    /// What happened next; `None` never comes before the runtime ends. Cancel-safe. Nothing is followed while nobody waits
    /// for it.
    pub async fn next(&mut self) -> Option<Seen> {
        poll_fn(|context| {
            if let Some(seen) = self.seen.pop() {
                return Poll::Ready(Some(seen));
            }
            let _ = self.follower.poll_unpin(context);
            match self.seen.pop() {
                None if !self.follower.is_terminated() => Poll::Pending,
                seen => Poll::Ready(seen),
            }
        })
        .await
    }
}

/// What is known of the bucket behind the key.
enum Known {
    Unasked,
    /// This connection may not ask.
    Denied,
    Told(Description),
}

impl Known {
    fn told(&self) -> Option<&Description> {
        match self {
            Known::Told(told) => Some(told),
            Known::Unasked | Known::Denied => None,
        }
    }
}

/// Waits until something else is known of the connection, and gives what knows it then; `None` where that is over.
fn changed(mut link: watch::Receiver<Link>) -> BoxFuture<'static, Option<watch::Receiver<Link>>> {
    Box::pin(async move { link.changed().await.ok().map(|()| link) })
}

struct Follower {
    bucket: Bucket,
    key: Key,
    pattern: Pattern,
    out: Queue,
    floor: Option<Floor>,
    cursor: Option<Position>,
    /// The bucket that the cursor is of, where that is known.
    cursor_in: Option<String>,
    /// What it was when the key was asked for last.
    asked_at: Option<Position>,
    told_absent: bool,
    absences: u32,
    trouble: Option<String>,
    /// What was told of a tail that the server does not allow.
    unheard: Option<String>,
    known: Known,
    /// On which connection that was asked.
    known_in: u64,
    /// Whether a write was found that the tail should have told.
    missed: bool,
    tail: Tail,
    /// The prefix below which the tail listens; `None` for a consumer.
    followed: Option<String>,
    /// When to read the key next.
    due: Instant,
    /// How many reads in a row confirmed what was seen.
    stage: usize,
    failures: u32,
    /// Whether the connected server is too old, so that nothing of it is taken.
    old: bool,
    /// Whether it has no JetStream, where it could be asked.
    without_jetstream: bool,
}

/// What was read, and what the bucket said of itself where it was asked too.
type Read = (Result<Option<Entry>, BucketError>, Option<Result<Description, BucketError>>);

impl Follower {
    /// The longest pause after a read that failed.
    const PATIENCE: Duration = Duration::from_secs(5);

    async fn follow(&mut self) {
        let mut link = self.bucket.connection().link();
        let mut was = link.borrow_and_update().clone();
        // Subscribed before anything is asked, so that nothing falls between.
        Box::pin(self.open_tail()).await;
        let mut reading: OptionFuture<BoxFuture<'static, Read>> = None.into();
        let mut idle = true;
        // Kept from one turn to the next: to wait anew for all of it takes some of the way to the swap.
        let mut timer = std::pin::pin!(sleep_until(self.due));
        let mut linked = changed(link.clone());
        let (mut told_down, mut told_refusal) = (false, false);
        if was.up {
            self.connected();
        }
        loop {
            let now = link.borrow().clone();
            if was.up != now.up || was.generation != now.generation || was.dropped != now.dropped {
                Box::pin(self.link_changed(&was, &now)).await;
                (reading, idle) = (None.into(), true);
                // That it went was told just now; what the attempts to reconnect say is not another outage.
                told_down |= was.up;
                was = now.clone();
            }
            let refusal = now.refusal();
            if !now.up && !told_down && now.problem.is_some() {
                (told_down, told_refusal) = (true, refusal.is_some());
                self.tell(Seen::Disconnected(now.problem.clone()));
            } else if let Some(refusal) = refusal.filter(|_| !told_refusal) {
                // It went for another reason, but this is why it does not come back.
                told_refusal = true;
                self.tell(Seen::Trouble(refusal));
            }
            (told_down, told_refusal) = (told_down && !now.up, told_refusal && !now.up);
            if now.up && idle && matches!(self.known, Known::Unasked) {
                Box::pin(self.ask_about_bucket()).await;
            }
            if timer.deadline() != self.due {
                timer.as_mut().reset(self.due);
            }
            tokio::select! {
                biased;
                told = self.tail.next(), if !self.old => match told {
                    Ok(entry) => self.offer(entry, true).await,
                    Err(Broken::Gap) => self.soon(),
                    Err(Broken::Denied(what)) => self.unheard(what),
                },
                answer = &mut reading, if !idle => {
                    (reading, idle) = (None.into(), true);
                    if let Some((answer, told)) = answer {
                        // What is done now and then is boxed, so that what is done with each message stays small.
                        Box::pin(self.answered(answer)).await;
                        if let Some(told) = told {
                            Box::pin(self.described(told)).await;
                        }
                    }
                }
                () = &mut timer, if now.up && idle => {
                    if matches!(self.tail, Tail::None) {
                        Box::pin(self.open_tail()).await;
                    }
                    self.asked_at = self.cursor;
                    let (bucket, key) = (self.bucket.clone(), self.key.clone());
                    let direct = !matches!(&self.known, Known::Told(told) if !told.direct);
                    // A server that came back may have another name, and be no less the one that stores the bucket.
                    let ask = self.stage > AGAIN.len() && self.known_in != now.generation;
                    self.known_in = if ask { now.generation } else { self.known_in };
                    let read: BoxFuture<'static, Read> = Box::pin(async move {
                        let read = if direct { bucket.direct_head(&key).await } else { bucket.head(&key).await };
                        // These reads are more frequent than pings.
                        if matches!(read, Err(BucketError::TimedOut { .. })) {
                            bucket.make_sure_of_server(&key).await;
                        }
                        let told = if ask { Some(bucket.describe().await) } else { None };
                        (read, told)
                    });
                    (reading, idle) = (Some(read).into(), false);
                }
                told = &mut linked => match told {
                    Some(link) => linked = changed(link),
                    None => return,
                },
            }
        }
    }

    async fn link_changed(&mut self, was: &Link, now: &Link) {
        if now.generation != was.generation || now.dropped != was.dropped {
            // A consumer does not survive the server's restart; a core subscription does, with a gap.
            if matches!(self.tail, Tail::Consumer { .. }) {
                self.tail.close().await;
            }
            self.soon();
        }
        match (was.up, now.up) {
            (true, false) => self.tell(Seen::Disconnected(now.problem.clone())),
            (false, true) => self.connected(),
            // Away and back between two looks.
            (true, true) if now.generation != was.generation => {
                self.tell(Seen::Disconnected(None));
                self.connected();
            }
            _ => {}
        }
    }

    fn connected(&mut self) {
        let refused = self.bucket.connection().refuse_old();
        self.old = refused.is_err();
        if let Err(old) = refused {
            self.trouble(old.to_string());
        }
        self.tell(Seen::Connected);
    }

    /// Reads the key at once, and again shortly after.
    fn soon(&mut self) {
        self.stage = 0;
        self.due = Instant::now();
    }

    /// Once on a connection, and when the bucket turns out to be another one: how it tells of writes, and its identity.
    async fn ask_about_bucket(&mut self) {
        self.known_in = self.bucket.connection().link().borrow().generation;
        let told = self.bucket.describe().await;
        self.described(told).await;
    }

    async fn described(&mut self, told: Result<Description, BucketError>) {
        self.without_jetstream = matches!(told, Err(BucketError::NoJetStream(_)));
        match told {
            Ok(told) => {
                if let Some(floor) = self.floor.take()
                    && floor.bucket == told.identity
                {
                    self.cursor = self.cursor.or(Some(floor.position));
                }
                if self.cursor.is_some() && self.cursor_in.is_none() {
                    self.cursor_in = Some(told.identity.clone());
                }
                let identity = told.identity.as_str().into();
                self.known = Known::Told(told);
                if self.prefix() != self.followed {
                    self.tail.close().await;
                    self.open_tail().await;
                    // What was stored between the answer and that is not told.
                    self.soon();
                }
                self.tell(Seen::Bucket(identity));
            }
            // What is known already is not forgotten for that.
            Err(BucketError::Denied(_) | BucketError::TimedOut { .. }) if !matches!(self.known, Known::Told(_)) => {
                self.known = Known::Denied;
            }
            Err(error @ BucketError::NoJetStream(_)) => self.trouble(error.to_string()),
            // No bucket yet: asked again before the next read.
            Err(_) => {}
        }
    }

    /// Where writes are told again; a bucket that we may not ask about is taken for one that confhot made.
    fn prefix(&self) -> Option<String> {
        match &self.known {
            Known::Told(told) => told.republished.clone(),
            Known::Unasked | Known::Denied => Some(self.bucket.live_prefix()),
        }
    }

    async fn open_tail(&mut self) {
        self.followed = self.prefix();
        let opened = match &self.followed {
            Some(prefix) => Tail::republished(&self.bucket, prefix, &self.pattern).await,
            None => Tail::consumer(&self.bucket, &self.pattern).await,
        };
        // Without a tail the reads go on, at the pace of failed ones, and each of them tries again.
        self.tail = opened.unwrap_or(Tail::None);
    }

    async fn answered(&mut self, answer: Result<Option<Entry>, BucketError>) {
        let was_steady = self.stage > AGAIN.len();
        match answer {
            Ok(Some(entry)) => {
                self.recovered();
                self.absences = 0;
                let newer = self.cursor.is_none_or(|cursor| entry.supersedes(&cursor));
                if newer && was_steady {
                    self.missed = true;
                    if matches!(self.known, Known::Told(_)) {
                        // The tail should have told it: ask whether it is still the bucket that it was.
                        self.known = Known::Unasked;
                    }
                }
                if newer {
                    self.offer(Box::new(entry), false).await;
                } else {
                    self.tell(Seen::Confirmed);
                }
            }
            // It was written since it was asked for, which says nothing of what is there now.
            Ok(None) if self.cursor != self.asked_at => self.soon(),
            Ok(None) => {
                self.recovered();
                self.absent();
            }
            // Nobody answers, which says nothing of a bucket.
            Err(BucketError::Missing(_)) if self.without_jetstream => self.failed(),
            Err(BucketError::Missing(_)) if self.cursor.is_none() => {
                self.absent();
                self.failed();
            }
            // The connection's own events tell the rest.
            Err(BucketError::Interrupted) => self.soon(),
            Err(error) => {
                if self.bucket.connection().link().borrow().up {
                    self.trouble(error.to_string());
                }
                self.failed();
            }
        }
    }

    fn absent(&mut self) {
        self.absences += 1;
        // One answer may be a replica's that lags; a value that was seen is called gone by two in a row, or by the only one.
        let sure = self.cursor.is_none() || self.absences >= 2 || self.is_direct();
        if sure && !self.told_absent {
            self.told_absent = true;
            self.tell(Seen::Absent);
        }
    }

    fn recovered(&mut self) {
        self.failures = 0;
        self.trouble = None;
        if self.is_direct() {
            self.stage = self.stage.max(AGAIN.len());
        }
        let pause = AGAIN.get(self.stage).copied();
        let pause = pause.unwrap_or_else(|| self.bucket.pace(self.known.told(), self.missed));
        let pause = if matches!(self.tail, Tail::None) { pause.min(Self::PATIENCE) } else { pause };
        self.stage += 1;
        self.due = Instant::now() + pause;
    }

    fn is_direct(&self) -> bool {
        self.known.told().is_some_and(|told| self.bucket.is_direct(told))
    }

    fn failed(&mut self) {
        self.stage = 0;
        let ceiling = Duration::from_millis(100 << self.failures.min(6)).min(Self::PATIENCE);
        self.failures += 1;
        self.due = Instant::now() + ceiling / 2 + Duration::from_millis(random_below(ceiling.as_millis() as u64 / 2));
    }

    /// The tail is not allowed: from now on the key is read every few seconds.
    fn unheard(&mut self, what: String) {
        self.due = self.due.min(Instant::now() + DENIED);
        if self.unheard.as_ref() == Some(&what) {
            return;
        }
        self.unheard = Some(what.clone());
        self.tell(Seen::Trouble(BucketError::Denied(what).to_string()));
    }

    fn trouble(&mut self, text: String) {
        if self.trouble.as_ref() == Some(&text) {
            return;
        }
        self.trouble = Some(text.clone());
        self.tell(Seen::Trouble(text));
    }

    /// Tells `entry` if it supersedes what was seen.
    async fn offer(&mut self, entry: Box<Entry>, live: bool) {
        if let Some(cursor) = self.cursor {
            if !entry.supersedes(&cursor) {
                return;
            }
            // A gap: something was stored that the tail did not tell. What came is newer all the same.
            if live && entry.previous.is_some_and(|previous| previous != cursor.revision.0) {
                self.soon();
            }
            if entry.revision <= cursor.revision && Box::pin(self.may_lag(entry.revision, cursor)).await {
                return Box::pin(self.ask_leader(cursor)).await;
            }
        }
        self.take(entry, live).await;
    }

    /// Whether a revision that is later than the `cursor` and not above it may be a lagging replica's, in a cluster whose
    /// clocks disagree. Else the bucket was made anew, and may tell of writes in another way; or it lost its newest. The
    /// bucket tells which, where we may ask for it.
    async fn may_lag(&mut self, revision: Revision, cursor: Position) -> bool {
        let was = self.cursor_in.clone();
        self.known = Known::Unasked;
        self.ask_about_bucket().await;
        let told = self.known.told().filter(|told| was.as_ref() == Some(&told.identity));
        revision < cursor.revision && told.is_some_and(|told| told.replicas > 1 && told.last >= cursor.revision)
    }

    /// Takes the leader's word for what may be a lagging replica's.
    async fn ask_leader(&mut self, cursor: Position) {
        if let Ok(Some(entry)) = self.bucket.head(&self.key).await
            && entry.supersedes(&cursor)
        {
            self.take(Box::new(entry), false).await;
        }
    }

    async fn take(&mut self, entry: Box<Entry>, live: bool) {
        self.cursor = Some(entry.position());
        self.cursor_in = match &self.known {
            Known::Told(told) => Some(told.identity.clone()),
            Known::Unasked | Known::Denied => None,
        };
        self.told_absent = false;
        self.tell(Seen::Entry { entry, live });
        // It is dealt with before anything else is looked at. Nobody has to be woken: whoever took it asks for the next.
        let mut told = false;
        poll_fn(|_| if std::mem::replace(&mut told, true) { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    fn tell(&self, seen: Seen) {
        self.out.push(seen);
    }
}
