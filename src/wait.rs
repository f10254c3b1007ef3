//! Waiting until every instance runs what was published: who was live when it was stored, and what became of each.
//!
//! A yes is only said when every one of them said so itself, and when none of them can be missing among those that are
//! known, as some may be shortly after a restart of the server. What is heard live makes it quick; the records that the
//! server keeps ([`Bucket::statuses`]) are read again at a slow pace, so that nothing hangs on a message that was lost.
//!
//! Whom the server forgot in a restart, and who died before it was back, was live and cannot be known of.

mod tally;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, OptionFuture, join};
use tokio::time::{Instant, sleep_until, timeout_at};

use self::tally::Tally;
use crate::document::Digest;
use crate::kv::{
    Bucket, BucketError, FORGOTTEN, Heard, Key, MOST_RECORDS, RETURN, Recall, Revision, Roll, Room, Status, Statuses,
    settling,
};

/// An instance that was not heard for this long, while a server was connected, is gone.
const GONE: Duration = Duration::from_secs(15);

/// When the records are read again: once soon, and then at this pace.
const FIRST_LOOK: Duration = Duration::from_millis(250);
const PACE: Duration = Duration::from_secs(1);

/// One that is there, and one that says nothing, is asked again after this.
const AGAIN: Duration = Duration::from_secs(4);

/// Longer than anybody waits.
const NEVER: Duration = Duration::from_secs(u32::MAX as u64);

/// A read that takes longer tells of a server that hung.
const SLOW: Duration = Duration::from_secs(1);

/// How wrong the start of a process may be, which is told from when it was heard.
const UNSURE: Duration = Duration::from_secs(1);

/// What is to be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The key.
    pub key: Key,
    /// Exactly this revision.
    pub revision: Revision,
    /// Its digest: a bucket that was made anew counts its revisions from 1 again.
    pub digest: Digest,
}

/// What became of one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// Nothing yet.
    Waiting,
    /// It serves the revision, or did.
    Applied,
    /// It refused the revision, and why.
    Rejected(String),
    /// It said goodbye first.
    Left,
    /// It was not heard any more, or not in time.
    Missing,
}

/// One instance that is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The key.
    pub key: Key,
    /// The instance's id.
    pub instance: String,
    /// What became of it.
    pub fate: Fate,
}

/// What it came to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// Every instance that was waited for applied its revision, and there were enough of them.
    Applied,
    /// An instance refused it.
    Rejected,
    /// An instance that had not applied it runs, or refused, a newer one.
    Superseded(Key, Revision),
    /// Not all of them said in time that they did.
    NotInTime,
    /// No instance is known.
    Nobody,
}

/// Who was waited for, what became of each, and what that comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// What it comes to.
    pub verdict: Verdict,
    /// Each instance, ordered by key and id.
    pub members: Vec<Member>,
    /// Keys that no instance follows.
    pub unread: Vec<Key>,
    /// Whether all instances that were live are among them for sure. Where not, the server was restarted, or the bucket
    /// made, so short a time ago that some may not have told yet; it is no yes then.
    pub complete: bool,
    /// Whether so many told that not all of them were listened to; it is not complete then.
    pub crowded: bool,
}

/// A wait that has taken note of who is live.
#[derive(Debug)]
pub struct Wait {
    bucket: Bucket,
    roll: Roll,
    statuses: Statuses,
    known: HashMap<Name, (Status, Instant)>,
    room: Room,
    /// Whether there was not enough of it.
    crowded: bool,
    /// Processes that said goodbye: what is read of them later is old.
    gone: HashSet<(Name, String)>,
    /// From when on all live instances are among the known.
    complete: Instant,
    /// Whether nobody can have been forgotten since the bucket was made: whoever is not known yet when the time is over was
    /// not when it was stored.
    unbroken: bool,
    /// Until when the server may have forgotten some: where it has not, and none is known, there hardly is one.
    forgotten: Instant,
    until: Instant,
}

/// A key, and an instance's id as one token.
type Name = (Key, String);

impl Wait {
    /// Takes note of the live instances of `key`, or of all keys. To be called before anything is stored.
    ///
    /// All of the waiting, that of [`Wait::until_applied`] included, ends `patience` from now.
    ///
    /// # Errors
    /// [`BucketError`] where they cannot be read.
    pub async fn begin(bucket: &Bucket, key: Option<&Key>, patience: Duration) -> Result<Wait, BucketError> {
        let until = Instant::now() + patience;
        // First, so that nobody is missed between.
        let statuses = bucket.follow_statuses(key).await?;
        let Recall { within, forgot } = match bucket.complete_in().await {
            Err(BucketError::Refused { .. } | BucketError::Denied(_)) => Recall::ALL,
            recall => recall?,
        };
        let mut wait = Wait {
            bucket: bucket.clone(),
            roll: Roll::new(bucket, key, AGAIN),
            statuses,
            known: HashMap::new(),
            room: Room::default(),
            crowded: false,
            gone: HashSet::new(),
            complete: Instant::now(),
            unbroken: false,
            forgotten: Instant::now(),
            until,
        };
        let Looked { read, settle, absent, fleeting, more, .. } =
            look(bucket.clone(), wait.roll.clone(), Vec::new()).await?;
        wait.crowded = more;
        if fleeting && !bucket.may_ask_all().await {
            // Who does not happen to stand there is not known.
            wait.complete += NEVER;
        }
        wait.forgotten += within.max(settle.unwrap_or_default());
        wait.unbroken = !(forgot || settle.is_some() || absent || fleeting);
        let settle = match settle {
            Some(settle) => settle,
            // All of them may have been cut off for so long that none is known; one that was there a while ago may be on
            // its way back; and whoever was asked tells within that.
            None if read.is_empty() || absent || fleeting => RETURN,
            None => Duration::ZERO,
        };
        wait.complete += within.max(settle);
        for (status, heard) in read {
            wait.note(status, heard);
        }
        Ok(wait)
    }

    /// The live instances that are known.
    pub fn known(&self) -> impl Iterator<Item = &Status> {
        self.known.values().map(|(status, _)| status)
    }

    /// Gives it at least `patience` from now.
    pub fn extend(&mut self, patience: Duration) {
        self.until = self.until.max(Instant::now() + patience);
    }

    /// Takes note of what an instance told; whether it is news.
    fn note(&mut self, status: Status, heard: Instant) -> bool {
        let process = ((status.key.clone(), status.token()), status.process.clone());
        if self.gone.contains(&process) {
            return false;
        }
        match self.known.get_mut(&process.0) {
            Some((_, at)) if *at > heard => false,
            Some((before, at)) => {
                self.room.leave(before);
                if self.room.take(&status) {
                    *before = status;
                } else {
                    // What it says is listened to all the same.
                    self.room.take(before);
                    self.crowded = true;
                }
                *at = heard;
                true
            }
            None if self.room.take(&status) => {
                self.known.insert(process.0, (status, heard));
                true
            }
            // Whoever may tell may tell under any number of names.
            None => {
                self.crowded = true;
                false
            }
        }
    }

    /// Waits until every instance that was live applied exactly the revision of `targets` that its key has there, or one
    /// refused it, or something newer came, or the time is over; never longer. With `instances`, at least so many must
    /// have applied it, those that started meanwhile included. `observe` is called with how many have applied it, and of
    /// how many.
    ///
    /// Never fails: a server that is away is waited for like everybody else.
    pub async fn until_applied(
        &mut self,
        targets: &[Target],
        instances: Option<usize>,
        mut observe: impl FnMut(usize, usize),
    ) -> Outcome {
        let began = Instant::now();
        let mut tally = Tally::new(targets, instances);
        for (name, (status, heard)) in &self.known {
            tally.join(name, &status.instance.id, *heard);
            tally.hear(name, status, *heard);
            if status.here {
                tally.find(name, began);
            }
        }
        let mut link = self.bucket.connection().link();
        let mut was = link.borrow_and_update().clone();
        let mut up_since = was.up.then(Instant::now);
        let mut complete = began >= self.complete;
        let (mut due, mut asked) = (began + FIRST_LOOK, began);
        let mut looking: OptionFuture<BoxFuture<'static, Result<Looked, BucketError>>> = None.into();
        let (mut idle, mut may_ask) = (true, true);
        loop {
            // What has arrived already counts before anything is decided.
            while let Some(Some(heard)) = self.statuses.next().now_or_never() {
                self.heard(&mut tally, heard, began);
            }
            observe(tally.count(&Fate::Applied), tally.len());
            let now = Instant::now();
            if up_since.is_some_and(|since| now - since > GONE) {
                tally.give_up_on_the_silent(now, GONE);
            }
            let over = now >= self.until;
            let all = (complete || over && self.unbroken) && !self.crowded;
            if let Some(verdict) = tally.verdict(over, all, now >= self.forgotten) {
                if let Verdict::Superseded(key, newer) = &verdict
                    && !self.is_superseded(targets, key).await
                {
                    tally.disbelieve(key, *newer);
                    continue;
                }
                return Outcome { crowded: self.crowded, ..tally.outcome(verdict, all) };
            }
            tokio::select! {
                biased;
                heard = self.statuses.next() => match heard {
                    Some(heard) => self.heard(&mut tally, heard, began),
                    // The connection was closed under us: nobody will be heard any more.
                    None => sleep_until(self.until).await,
                },
                changed = link.changed() => {
                    if changed.is_err() { sleep_until(self.until).await; }
                    let now = link.borrow_and_update().clone();
                    up_since = now.up.then(|| up_since.unwrap_or_else(Instant::now));
                    if now.up && now.generation != was.generation {
                        // The server may have been restarted again before all of them were back.
                        if !complete {
                            self.unbroken = false;
                            self.complete = Instant::now() + FORGOTTEN;
                            self.forgotten = self.complete;
                        }
                        // What was asked before is not answered any more.
                        (looking, idle, due) = (None.into(), true, Instant::now());
                    }
                    was = now;
                }
                looked = &mut looking, if !idle => {
                    let now = Instant::now();
                    (looking, idle, due) = (None.into(), true, now + PACE);
                    // A server that does not answer, or late, lets nobody come back either.
                    let mut left = Some(FORGOTTEN).filter(|_| now - asked > SLOW);
                    match looked {
                        Some(Ok(Looked { read, settle, told, .. })) => {
                            may_ask &= told;
                            for (status, heard) in read {
                                // Whoever could be asked, and says nothing, is not there, whatever its connection.
                                let found = (status.here && !may_ask).then(|| (status.key.clone(), status.token()));
                                self.tell(&mut tally, status, heard, began);
                                if let Some(name) = found {
                                    tally.find(&name, asked);
                                }
                            }
                            left = left.or(settle);
                        }
                        _ => left = Some(FORGOTTEN),
                    }
                    if !complete {
                        if let Some(left) = left {
                            self.unbroken = false;
                            self.complete = self.complete.max(now + left);
                        }
                        // Only what was read after that time has all of them.
                        complete = asked >= self.complete;
                        due = due.min(self.complete);
                    }
                }
                () = sleep_until(due), if idle => {
                    (idle, asked) = (false, Instant::now());
                    let silent = if may_ask { tally.ask_silent(asked) } else { Vec::new() };
                    looking = Some(look(self.bucket.clone(), self.roll.clone(), silent).boxed()).into();
                }
                () = sleep_until(self.until) => {}
            }
        }
    }

    /// Whether the bucket has a newer revision of `key` than the target: an instance may speak of one that it had before
    /// it was made anew, or lost its newest.
    async fn is_superseded(&self, targets: &[Target], key: &Key) -> bool {
        let target = targets.iter().find(|target| target.key == *key).map(|target| target.revision);
        match timeout_at(self.until, self.bucket.head(key)).await {
            Ok(Ok(head)) => head.map(|head| head.revision) > target,
            // Nobody can say, and an instance did.
            Ok(Err(_)) | Err(_) => true,
        }
    }

    fn heard(&mut self, tally: &mut Tally, heard: Heard, began: Instant) {
        match heard {
            Heard::Status(status) => self.tell(tally, *status, Instant::now(), began),
            Heard::Goodbye { key, token } => {
                let name = (key, token);
                tally.goodbye(&name);
                if let Some((status, _)) = self.known.remove(&name) {
                    self.room.leave(&status);
                    if self.gone.len() < MOST_RECORDS {
                        // By its name too: whoever forges another's process cannot say goodbye for it.
                        self.gone.insert((name, status.process));
                    }
                }
            }
        }
    }

    fn tell(&mut self, tally: &mut Tally, status: Status, heard: Instant, began: Instant) {
        let name = (status.key.clone(), status.token());
        if self.note(status.clone(), heard) {
            // It was away when the records were read, and live all the same.
            if tally.wanted.is_some() || was_live(&status, heard, began) {
                // A name that said goodbye made room for another, and is still one that was waited for.
                self.crowded |= tally.len() >= MOST_RECORDS;
                tally.join(&name, &status.instance.id, heard);
            }
            tally.hear(&name, &status, heard);
        }
    }
}

struct Looked {
    /// The records, and when each of them was told.
    read: Vec<(Status, Instant)>,
    /// How long some may be missing yet.
    settle: Option<Duration>,
    /// Whether some were there a while ago, and are not.
    absent: bool,
    /// Whether some may be missing at any time.
    fleeting: bool,
    /// Whether there are more than were read.
    more: bool,
    /// Whether it was allowed to ask the silent.
    told: bool,
}

/// Asks the `silent` to tell again, and reads the records.
async fn look(bucket: Bucket, roll: Roll, silent: Vec<Name>) -> Result<Looked, BucketError> {
    let asking = async { silent.is_empty() || bucket.may_ask(&silent).await };
    let (called, told) = join(roll.call(), asking).await;
    let called = called?;
    let here = Instant::now();
    let settle = settling(&called.statuses, called.now);
    let heard = |status: &Status| {
        let age = Duration::try_from(called.now.duration_since(status.seen)).unwrap_or_default();
        here.checked_sub(age).unwrap_or(here)
    };
    let (absent, fleeting, more) = (called.absent > 0, called.fleeting, called.more > 0);
    let read = called.statuses.into_iter().map(|status| (heard(&status), status)).map(|(at, status)| (status, at));
    Ok(Looked { read: read.collect(), settle, absent, fleeting, more, told })
}

/// Whether the process that told `status`, heard at `heard`, was there at `began`, or may have been.
fn was_live(status: &Status, heard: Instant, began: Instant) -> bool {
    heard.checked_sub(status.up).is_none_or(|start| start <= began + UNSURE)
}
