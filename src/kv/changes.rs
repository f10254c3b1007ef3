//! Every revision of many keys, in the order of the bucket, from now on: what the loader and `confhot watch` follow.

use std::ops::ControlFlow;
use std::time::Duration;

use async_nats::jetstream::consumer::DeliverPolicy;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use futures_util::StreamExt;

use super::read::Reading;
use super::tail::{AGAIN, Broken, DENIED, Tail};
use super::{Bucket, BucketError, Description, Entry, Link, Pattern};

/// What is told of many keys.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// A revision that was stored, later in the bucket than all that were told.
    Entry(Box<Entry>),
    /// The bucket is another one than before, or there was none: what was known of it does not hold any more.
    Reset,
    /// There is no bucket. Said once.
    Missing,
    /// A server is connected, and all that was missed has been told.
    Connected,
    /// No server is connected; the last word of why.
    Disconnected(Option<String>),
    /// Reading does not work although a server is connected. Said once until it works again.
    Trouble(String),
}

/// Many keys, followed. Dropped, it ends.
#[derive(Debug)]
pub struct Changes {
    changes: mpsc::Receiver<Change>,
    _task: JoinSet<()>,
}

impl Changes {
    /// Follows what matches `pattern` from now on. Never fails: it waits for a server and for the bucket.
    ///
    /// Missed while disconnected, a revision is told after the reconnect if it is still retained. The first thing told
    /// is [`Change::Connected`], [`Change::Missing`] or [`Change::Disconnected`].
    ///
    /// Must be called within a tokio runtime.
    pub fn start(bucket: &Bucket, pattern: &Pattern) -> Changes {
        Changes::paced(bucket, pattern, true)
    }

    /// As [`Changes::start`], for very many at once, each of which reads by itself what the bucket holds: that the bucket
    /// was made anew without a word is noticed as late as that.
    pub(crate) fn quiet(bucket: &Bucket, pattern: &Pattern) -> Changes {
        Changes::paced(bucket, pattern, false)
    }

    fn paced(bucket: &Bucket, pattern: &Pattern, steady: bool) -> Changes {
        let (out, changes) = mpsc::channel(1024);
        let mut task = JoinSet::new();
        let follower = Follower {
            bucket: bucket.clone(),
            pattern: pattern.clone(),
            out,
            cursor: None,
            steady,
            missed: false,
            tail: Tail::None,
            caught_up: false,
            stage: 0,
            told_missing: false,
            trouble: None,
            unheard: None,
            failures: 0,
        };
        task.spawn(async move {
            let Over = follower.run().await;
        });
        Changes { changes, _task: task }
    }

    /// What happened next; `None` never comes before the runtime ends. Cancel-safe.
    pub async fn next(&mut self) -> Option<Change> {
        self.changes.recv().await
    }

    /// What has happened already and was not taken yet. Never waits.
    pub fn take(&mut self) -> Option<Change> {
        self.changes.try_recv().ok()
    }
}

struct Follower {
    bucket: Bucket,
    pattern: Pattern,
    out: mpsc::Sender<Change>,
    /// The bucket that is followed, and the newest revision in it that was told or passed over.
    cursor: Option<(String, u64)>,
    /// Whether the bucket is asked at [`Follower::PACE`], not at [`Bucket::pace`].
    steady: bool,
    /// Whether something was found then that the tail had not told.
    missed: bool,
    tail: Tail,
    caught_up: bool,
    /// How often it was caught up with since something may have been missed.
    stage: usize,
    told_missing: bool,
    trouble: Option<String>,
    /// What was told of a tail that the server does not allow.
    unheard: Option<String>,
    failures: u32,
}

/// The listener is gone.
struct Over;

impl Follower {
    /// How often the bucket is asked whether something was missed.
    const PACE: Duration = Duration::from_secs(30);
    /// Missed revisions that are read before they are told.
    const PART: usize = 1_024;

    async fn run(mut self) -> Over {
        let mut link = self.bucket.connection().link();
        let mut was = link.borrow_and_update().clone();
        // A stream that is deleted says so; without the right to hear it the slow pace finds out.
        let stream = &self.bucket.0.stream;
        let advisory = format!("$JS.EVENT.ADVISORY.STREAM.DELETED.{stream}");
        let mut deleted = self.bucket.connection().client.subscribe(advisory).await.ok();
        let mut due = Instant::now();
        let (mut told_down, mut told_refusal) = (false, false);
        loop {
            let now = link.borrow_and_update().clone();
            if now.generation != was.generation || now.dropped != was.dropped {
                self.caught_up = false;
                due = Instant::now();
            }
            let down = !now.up && (was.up || now.problem.is_some());
            let refusal = now.refusal();
            if down && !told_down {
                told_refusal = refusal.is_some();
                if self.tell(Change::Disconnected(now.problem.clone())).await.is_err() {
                    return Over;
                }
            } else if let Some(refusal) = refusal.filter(|_| !told_refusal) {
                // It went for another reason, but this is why it does not come back.
                told_refusal = true;
                if self.tell(Change::Trouble(refusal)).await.is_err() {
                    return Over;
                }
            }
            (told_down, told_refusal) = (down || told_down && !now.up, told_refusal && !now.up);
            was = now;
            let gone = async {
                match &mut deleted {
                    Some(deleted) => deleted.next().await,
                    None => std::future::pending().await,
                }
            };
            let step = tokio::select! {
                biased;
                // Not before what was missed: the cursor would pass it by.
                told = self.tail.next(), if self.caught_up => match told {
                    Ok(entry) => self.offer(entry).await,
                    Err(Broken::Gap) => { self.caught_up = false; due = Instant::now(); Ok(()) }
                    Err(Broken::Denied(what)) => { due = Instant::now() + DENIED; self.unheard(what).await }
                },
                changed = link.changed() => if changed.is_ok() { Ok(()) } else { Err(Over) },
                // The bucket that an advisory speaks of may exist again already; ask.
                _ = gone => { self.caught_up = false; due = Instant::now(); Ok(()) }
                () = sleep_until(due), if was.up => match self.catch_up(&was).await {
                    Ok(pause) => { due = Instant::now() + pause; Ok(()) }
                    Err(over) => Err(over),
                },
                () = self.out.closed() => Err(Over),
            };
            if let Err(over) = step {
                self.tail.close().await;
                return over;
            }
        }
    }

    /// Tells what was missed, if anything was, and how long to wait before asking again.
    async fn catch_up(&mut self, link: &Link) -> Result<Duration, Over> {
        match self.try_catch_up().await {
            Ok(told) => {
                self.failures = 0;
                self.trouble = None;
                self.told_missing = false;
                if !self.caught_up {
                    (self.caught_up, self.stage) = (true, 0);
                    self.tell(Change::Connected).await?;
                }
                // Interest needs that long to get from one server to another.
                if let Some(soon) = AGAIN.get(self.stage).filter(|_| !self.bucket.is_direct(&told)) {
                    self.stage += 1;
                    return Ok(*soon);
                }
                return Ok(if self.steady { Self::PACE } else { self.bucket.pace(Some(&told), self.missed) });
            }
            Err(Stop::Over) => return Err(Over),
            Err(Stop::Error(BucketError::Missing(_))) => {
                if !self.told_missing {
                    self.told_missing = true;
                    // Whatever is there next is another bucket.
                    self.cursor = Some((String::new(), 0));
                    self.tell(Change::Missing).await?;
                }
            }
            Err(Stop::Error(BucketError::Interrupted)) => {}
            Err(Stop::Error(error)) => {
                let text = error.to_string();
                if self.bucket.connection().link().borrow().generation == link.generation
                    && self.trouble.as_ref() != Some(&text)
                {
                    self.trouble = Some(text.clone());
                    self.tell(Change::Trouble(text)).await?;
                }
            }
        }
        self.failures += 1;
        Ok(Duration::from_millis(50 << self.failures.min(6)))
    }

    /// The tail is not allowed: from now on the bucket is read every few seconds.
    async fn unheard(&mut self, what: String) -> Result<(), Over> {
        if self.unheard.as_ref() == Some(&what) {
            return Ok(());
        }
        self.unheard = Some(what.clone());
        self.tell(Change::Trouble(BucketError::Denied(what).to_string())).await
    }

    async fn try_catch_up(&mut self) -> Result<Description, Stop> {
        let mut told = self.bucket.describe().await?;
        if matches!(self.tail, Tail::None) || !self.caught_up && matches!(self.tail, Tail::Consumer { .. }) {
            self.tail.close().await;
            let pattern = self.pattern.clone();
            self.tail = match &told.republished {
                Some(prefix) => Tail::republished(&self.bucket, prefix, &pattern).await?,
                None => Tail::consumer(&self.bucket, &pattern).await?,
            };
            // Asked again now that the tail is open: what was stored before this answer is read, the rest is told.
            told = self.bucket.describe().await?;
        }
        let (identity, last) = (told.identity.clone(), told.last.0);
        let mut from = match &self.cursor {
            // The beginning: only what comes from now on counts.
            None => last,
            Some((bucket, cursor)) if *bucket == identity && *cursor <= last => *cursor,
            Some(_) => {
                self.cursor = Some((identity.clone(), 0));
                self.tail.close().await;
                self.out.send(Change::Reset).await.map_err(|_| Stop::Over)?;
                // The new bucket may tell of writes in another way: start over with it.
                return Box::pin(self.try_catch_up()).await;
            }
        };
        self.cursor.get_or_insert_with(|| (identity.clone(), from));
        let through = if from < last { self.bucket.newest_of(&self.pattern, told.replicas).await? } else { None };
        while from < last {
            // A part at a time: what was missed may be a whole bucket.
            let mut missed = Vec::with_capacity(Self::PART);
            let start = DeliverPolicy::ByStartSequence { start_sequence: from + 1 };
            // What a consumer that lags leaves out would be passed by, though the tail has told it.
            let through = through.filter(|through| through.0 > from);
            let reading = Reading { through, ..Reading::of(vec![self.pattern.clone()], start) };
            let part = |entry| {
                missed.push(entry);
                if missed.len() < Self::PART { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            };
            self.bucket.each_message(reading, part).await?;
            self.missed |= self.caught_up && self.stage == AGAIN.len() && !missed.is_empty();
            from = missed.get(Self::PART - 1).map_or(last, |entry| entry.revision.0);
            for entry in missed {
                self.offer(Box::new(entry)).await.map_err(|Over| Stop::Over)?;
            }
        }
        // What the tail has told since the description may be newer.
        let newest = self.cursor.as_ref().map_or(0, |(_, cursor)| *cursor);
        self.cursor = Some((identity, newest.max(last)));
        Ok(told)
    }

    async fn offer(&mut self, entry: Box<Entry>) -> Result<(), Over> {
        // Before the first description there is nothing to compare with, and the caller has read nothing yet.
        let Some((_, cursor)) = &mut self.cursor else { return Ok(()) };
        if entry.revision.0 <= *cursor {
            return Ok(());
        }
        *cursor = entry.revision.0;
        self.tell(Change::Entry(entry)).await
    }

    async fn tell(&mut self, change: Change) -> Result<(), Over> {
        self.out.send(change).await.map_err(|_| Over)
    }
}

enum Stop {
    Error(BucketError),
    Over,
}

impl From<BucketError> for Stop {
    fn from(error: BucketError) -> Stop {
        Stop::Error(error)
    }
}
