//! Waiting until every instance runs what was published: who was live when it was stored, and what became of each.
//!
//! A yes is only said when every one of them said so itself, and when none of them can be missing among those that are
//! known, as some may be shortly after a restart of the server. What is heard live makes it quick; the records that the
//! server keeps ([`Bucket::statuses`]) are read again at a slow pace, so that nothing hangs on a message that was lost.
//!
//! Whom the server forgot in a restart, and who died before it was back, was live and cannot be known of.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, OptionFuture, join};
use tokio::time::{Instant, sleep_until};

use crate::document::Digest;
use crate::kv::{
    Bucket, BucketError, FORGOTTEN, Heard, Key, MOST_RECORDS, RETURN, Revision, Roll, Room, Status, Statuses, settling,
};

/// An instance that was not heard for this long, while a server was connected, is gone.
const GONE: Duration = Duration::from_secs(15);

/// When the records are read again: once soon, and then at this pace.
const FIRST_LOOK: Duration = Duration::from_millis(250);
const PACE: Duration = Duration::from_secs(1);

/// One that is there, and one that says nothing, is asked again after this.
const AGAIN: Duration = Duration::from_secs(4);

/// So many are asked at once, each time that the records are read: all of them long before they count as gone.
const AT_ONCE: usize = 2_000;

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
        let complete_in = match bucket.complete_in().await {
            Err(BucketError::Refused { .. } | BucketError::Denied(_)) => FORGOTTEN,
            complete_in => complete_in?,
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
        wait.forgotten += complete_in.max(settle.unwrap_or_default());
        let settle = match settle {
            Some(settle) => settle,
            // All of them may have been cut off for so long that none is known; one that was there a while ago may be on
            // its way back; and whoever was asked tells within that.
            None if read.is_empty() || absent || fleeting => RETURN,
            None => Duration::ZERO,
        };
        wait.complete += complete_in.max(settle);
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
            observe(tally.count(&Fate::Applied), tally.members.len());
            let now = Instant::now();
            if up_since.is_some_and(|since| now - since > GONE) {
                tally.give_up_on_the_silent(now, GONE);
            }
            let all = complete && !self.crowded;
            if let Some(verdict) = tally.verdict(now >= self.until, all, now >= self.forgotten) {
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
                self.crowded |= tally.members.len() >= MOST_RECORDS;
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

/// Who is waited for and what is known of each. Pure: time is handed in.
#[derive(Debug)]
struct Tally {
    targets: HashMap<Key, (Revision, Digest)>,
    wanted: Option<usize>,
    members: BTreeMap<Name, Counted>,
    /// What was told of that is newer, by key.
    superseded: BTreeMap<Key, Revision>,
}

#[derive(Debug)]
struct Counted {
    instance: String,
    fate: Fate,
    heard: Instant,
    /// When its connection was last found.
    found: Option<Instant>,
    /// When it was last asked to tell.
    asked: Option<Instant>,
    /// The process that speaks under this name, and the one before it.
    processes: [Option<String>; 2],
}

impl Tally {
    fn new(targets: &[Target], wanted: Option<usize>) -> Tally {
        let targets = targets.iter().map(|target| (target.key.clone(), (target.revision, target.digest)));
        Tally { targets: targets.collect(), wanted, members: BTreeMap::new(), superseded: BTreeMap::new() }
    }

    /// Waits for an instance too.
    fn join(&mut self, name: &Name, instance: &str, heard: Instant) {
        if self.targets.contains_key(&name.0) && self.members.len() < MOST_RECORDS {
            let new = || Counted {
                instance: instance.to_owned(),
                fate: Fate::Waiting,
                heard,
                found: None,
                asked: None,
                processes: [None, None],
            };
            self.members.entry(name.clone()).or_insert_with(new);
        }
    }

    fn hear(&mut self, name: &Name, status: &Status, heard: Instant) {
        let Some((target, digest)) = self.targets.get(&name.0).copied() else { return };
        let Some(member) = self.members.get_mut(name) else { return };
        let mut twins = status.twin;
        if member.processes[0].as_ref() != Some(&status.process) {
            // A new process under an old name was started again, unless the old one spoke on when it was there, or does.
            let began = heard.checked_sub(status.up);
            twins |= member.processes[1].as_ref() == Some(&status.process)
                || member.processes[0].is_some() && began.is_some_and(|began| began + UNSURE < member.heard);
            member.processes = [Some(status.process.clone()), member.processes[0].take()];
        }
        member.heard = member.heard.max(heard);
        if twins {
            member.fate = Fate::Rejected(format!("two processes call themselves `{}`", member.instance));
        }
        let report = &status.report;
        // Of whoever tells, one that is done included.
        if let Some(newer) = report.newest.filter(|newest| *newest > target) {
            self.superseded.entry(name.0.clone()).or_insert(newer);
        }
        if matches!(member.fate, Fate::Applied | Fate::Rejected(_)) {
            return;
        }
        if let Some(refused) = report.rejected.as_ref().filter(|refused| refused.revision == target) {
            member.fate = Fate::Rejected(refused.reason.clone());
        } else if report.revision == Some(target) && report.digest == Some(digest) {
            member.fate = Fate::Applied;
        } else {
            // It is there again, if it was given up.
            member.fate = Fate::Waiting;
        }
    }

    /// The server knows the instance's connection, whatever it said last, and when.
    fn find(&mut self, name: &Name, at: Instant) {
        if let Some(member) = self.members.get_mut(name) {
            member.found = member.found.max(Some(at));
        }
    }

    /// Some that are waited for and were neither heard nor asked just now; they count as asked at `now`.
    fn ask_silent(&mut self, now: Instant) -> Vec<Name> {
        let silent = |member: &Counted| {
            let last = member.asked.map_or(member.heard, |asked| asked.max(member.heard));
            member.fate == Fate::Waiting && now.saturating_duration_since(last) >= AGAIN
        };
        let asked = self.members.iter_mut().filter(|(_, member)| silent(member)).take(AT_ONCE);
        let asked = asked.map(|(name, member)| {
            member.asked = Some(now);
            name.clone()
        });
        asked.collect()
    }

    fn goodbye(&mut self, name: &Name) {
        if let Some(member) = self.members.get_mut(name)
            && matches!(member.fate, Fate::Waiting | Fate::Missing)
        {
            member.fate = Fate::Left;
        }
    }

    fn give_up_on_the_silent(&mut self, now: Instant, after: Duration) {
        for member in self.members.values_mut() {
            let last = member.found.map_or(member.heard, |found| found.max(member.heard));
            if member.fate == Fate::Waiting && now.saturating_duration_since(last) > after {
                member.fate = Fate::Missing;
            }
        }
    }

    fn count(&self, fate: &Fate) -> usize {
        self.members.values().filter(|member| member.fate == *fate).count()
    }

    /// What it comes to, if that is certain, or if the time is `over`. Nobody says yes before the members are `complete`; but
    /// that there is nobody is said when the time is over, if all of them had the time to be `remembered`.
    fn verdict(&self, over: bool, complete: bool, remembered: bool) -> Option<Verdict> {
        let applied = self.count(&Fate::Applied);
        if self.members.values().any(|member| matches!(member.fate, Fate::Rejected(_))) {
            return Some(Verdict::Rejected);
        }
        if self.count(&Fate::Waiting) > 0 {
            let waits = |key: &Key| self.members.iter().any(|(of, it)| of.0 == *key && it.fate == Fate::Waiting);
            if let Some((key, newer)) = self.superseded.iter().find(|(key, _)| waits(key)) {
                return Some(Verdict::Superseded(key.clone(), *newer));
            }
            return over.then_some(Verdict::NotInTime);
        }
        if self.count(&Fate::Missing) > 0 {
            return Some(Verdict::NotInTime);
        }
        if !complete || self.wanted.is_some_and(|wanted| applied < wanted) {
            return over.then_some(match self.wanted {
                Some(0) if self.members.is_empty() && remembered => Verdict::Applied,
                None if self.members.is_empty() && remembered => Verdict::Nobody,
                _ => Verdict::NotInTime,
            });
        }
        // Nobody is left who could say yes.
        if applied == 0 && self.wanted != Some(0) {
            return Some(Verdict::Nobody);
        }
        Some(Verdict::Applied)
    }

    fn members(&self) -> Vec<Member> {
        let member = |((key, _), counted): (&Name, &Counted)| Member {
            key: key.clone(),
            instance: counted.instance.clone(),
            fate: counted.fate.clone(),
        };
        self.members.iter().map(member).collect()
    }

    fn outcome(mut self, verdict: Verdict, complete: bool) -> Outcome {
        for member in self.members.values_mut() {
            if member.fate == Fate::Waiting {
                member.fate = Fate::Missing;
            }
        }
        let mut unread: Vec<_> =
            self.targets.keys().filter(|key| !self.members.keys().any(|(of, _)| of == *key)).cloned().collect();
        unread.sort();
        Outcome { verdict, members: self.members(), unread, complete, crowded: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{Instance, Refused, Report, Standing};
    use jiff::Timestamp;

    fn key() -> Key {
        Key::parse("service1").unwrap()
    }

    fn name(id: &str) -> Name {
        (key(), id.to_owned())
    }

    /// Each revision has a text of its own.
    fn target(revision: u64) -> Target {
        Target { key: key(), revision: Revision(revision), digest: Digest::of(&revision.to_be_bytes()) }
    }

    fn at(process: &str, revision: u64, newest: u64) -> Status {
        Status {
            instance: Instance::new("service1", process, "host"),
            key: key(),
            report: Report {
                revision: Some(Revision(revision)),
                digest: Some(target(revision).digest),
                newest: Some(Revision(newest)),
                state: Standing::Applied,
                rejected: None,
            },
            seen: Timestamp::UNIX_EPOCH,
            since: Timestamp::UNIX_EPOCH,
            up: Duration::from_secs(60),
            connected: Duration::from_secs(60),
            beat: Duration::from_secs(20),
            here: false,
            process: process.to_owned(),
            twin: false,
        }
    }

    fn rejecting(process: &str, revision: u64) -> Status {
        let mut status = at(process, revision - 1, revision);
        let (kind, reason) = ("invalid".to_owned(), "no".to_owned());
        status.report.rejected = Some(Refused { revision: Revision(revision), kind, reason });
        status
    }

    /// A tally that waits for revision 7, of instances that serve revision 6.
    fn tally(wanted: Option<usize>, ids: &[&str]) -> Tally {
        let mut tally = Tally::new(&[target(7)], wanted);
        for id in ids {
            tally.join(&name(id), id, Instant::now());
            tally.hear(&name(id), &at(id, 6, 6), Instant::now());
        }
        tally
    }

    #[test]
    fn a_yes_takes_every_instance_that_was_live() {
        let mut tally = tally(None, &["a", "b"]);

        assert_eq!(tally.verdict(false, true, true), None);
        tally.hear(&name("a"), &at("a", 7, 7), Instant::now());
        assert_eq!(tally.verdict(false, true, true), None);
        assert_eq!(tally.verdict(true, true, true), Some(Verdict::NotInTime));
        tally.hear(&name("b"), &at("b", 7, 7), Instant::now());
        assert_eq!(tally.verdict(false, true, true), Some(Verdict::Applied));
    }

    #[test]
    fn the_first_rejection_ends_it() {
        let mut tally = tally(None, &["a", "b"]);

        tally.hear(&name("b"), &rejecting("b", 7), Instant::now());

        assert_eq!(tally.verdict(false, true, true), Some(Verdict::Rejected));
        let outcome = tally.outcome(Verdict::Rejected, true);
        assert_eq!(outcome.members[0].fate, Fate::Missing);
        assert_eq!(outcome.members[1].fate, Fate::Rejected("no".into()));
    }

    #[test]
    fn a_rejection_of_an_earlier_revision_says_nothing_of_this_one() {
        let mut tally = tally(None, &["a"]);

        tally.hear(&name("a"), &rejecting("a", 6), Instant::now());

        assert_eq!(tally.verdict(false, true, true), None);
    }

    #[test]
    fn one_that_left_is_not_waited_for_but_the_last_one_leaves_nobody() {
        let mut tally = tally(None, &["a", "b"]);

        tally.goodbye(&name("a"));
        tally.hear(&name("b"), &at("b", 7, 7), Instant::now());
        assert_eq!(tally.verdict(false, true, true), Some(Verdict::Applied));

        let mut tally = self::tally(None, &["a"]);
        tally.goodbye(&name("a"));
        assert_eq!(tally.verdict(false, true, true), Some(Verdict::Nobody));
    }

    #[test]
    fn a_newer_revision_that_passed_an_instance_by_supersedes() {
        let mut tally = tally(None, &["a", "b"]);
        tally.hear(&name("a"), &at("a", 7, 7), Instant::now());

        tally.hear(&name("b"), &at("b", 8, 8), Instant::now());
        assert_eq!(tally.verdict(false, true, true), Some(Verdict::Superseded(key(), Revision(8))));

        // One that applied this one before the newer one has done what was asked.
        let mut tally = self::tally(None, &["a"]);
        tally.hear(&name("a"), &at("a", 7, 7), Instant::now());
        tally.hear(&name("a"), &at("a", 8, 8), Instant::now());
        assert_eq!(tally.verdict(false, true, true), Some(Verdict::Applied));

        // Of another key nothing follows.
        let other = (Key::parse("service2").unwrap(), "b".to_owned());
        let mut tally = Tally::new(&[target(7), Target { key: other.0.clone(), ..target(7) }], None);
        tally.join(&name("a"), "a", Instant::now());
        tally.join(&other, "b", Instant::now());
        tally.hear(&name("a"), &at("a", 7, 7), Instant::now());
        tally.hear(&name("a"), &at("a", 8, 8), Instant::now());
        assert_eq!(tally.verdict(false, true, true), None);

        // And what it tells of the newer one counts for those who say nothing.
        let mut tally = self::tally(None, &["a", "b"]);
        tally.hear(&name("a"), &at("a", 7, 7), Instant::now());
        tally.hear(&name("a"), &at("a", 8, 8), Instant::now());
        assert_eq!(tally.verdict(false, true, true), Some(Verdict::Superseded(key(), Revision(8))));
    }

    #[test]
    fn that_there_is_nobody_is_said_when_the_time_is_over_unless_somebody_may_be_forgotten() {
        assert_eq!(tally(None, &[]).verdict(false, false, true), None);
        assert_eq!(tally(None, &[]).verdict(true, false, true), Some(Verdict::Nobody));
        assert_eq!(tally(None, &[]).verdict(true, false, false), Some(Verdict::NotInTime));
        assert_eq!(tally(Some(0), &[]).verdict(true, false, true), Some(Verdict::Applied));
        assert_eq!(tally(Some(1), &[]).verdict(true, false, true), Some(Verdict::NotInTime));
        // Somebody is there, and others may be.
        let mut tally = tally(None, &["a"]);
        tally.hear(&name("a"), &at("a", 7, 7), Instant::now());
        assert_eq!(tally.verdict(true, false, true), Some(Verdict::NotInTime));
    }

    #[test]
    fn a_silent_instance_is_missing_and_one_that_is_heard_again_is_not() {
        let mut tally = tally(None, &["a"]);
        let later = Instant::now() + Duration::from_secs(16);

        tally.give_up_on_the_silent(later, GONE);
        assert_eq!(tally.verdict(false, true, true), Some(Verdict::NotInTime));
        tally.hear(&name("a"), &at("a", 6, 6), later);
        assert_eq!(tally.verdict(false, true, true), None);
    }

    #[test]
    fn so_many_instances_as_were_asked_for_and_none_if_none_were() {
        assert_eq!(tally(None, &[]).verdict(false, true, true), Some(Verdict::Nobody));
        assert_eq!(tally(Some(0), &[]).verdict(false, true, true), Some(Verdict::Applied));

        let mut tally = tally(Some(2), &["a"]);
        tally.hear(&name("a"), &at("a", 7, 7), Instant::now());
        assert_eq!(tally.verdict(false, true, true), None);
        assert_eq!(tally.verdict(true, true, true), Some(Verdict::NotInTime));
    }

    #[test]
    fn two_processes_under_one_name_are_told_apart_from_one_that_was_started_again() {
        let later = Instant::now() + Duration::from_secs(60);
        let young = Status { up: Duration::from_secs(5), ..at("a2", 7, 7) };
        let mut again = tally(None, &["a"]);
        again.hear(&name("a"), &young, later);
        assert_eq!(again.verdict(false, true, true), Some(Verdict::Applied), "started again");

        // The first one speaks on after the second one began: before it said anything, after, or by its own account.
        let mut before = tally(None, &["a"]);
        before.hear(&name("a"), &at("a", 6, 6), later);
        before.hear(&name("a"), &young, later);
        let mut after = tally(None, &["a"]);
        after.hear(&name("a"), &Status { up: Duration::ZERO, ..at("a2", 6, 6) }, later);
        assert_eq!(after.verdict(false, true, true), None);
        after.hear(&name("a"), &at("a", 7, 7), later);
        let mut told = tally(None, &["a"]);
        told.hear(&name("a"), &Status { twin: true, ..at("a", 7, 7) }, later);
        for tally in [before, after, told] {
            assert_eq!(tally.verdict(false, true, true), Some(Verdict::Rejected));
        }
    }

    #[test]
    fn no_yes_is_said_before_all_that_were_live_are_known() {
        let mut tally = tally(None, &["a"]);
        tally.hear(&name("a"), &at("a", 7, 7), Instant::now());

        assert_eq!(tally.verdict(false, false, true), None);
        assert_eq!(tally.verdict(true, false, true), Some(Verdict::NotInTime));
        assert_eq!(tally.verdict(false, true, true), Some(Verdict::Applied));
        let none = self::tally(Some(0), &[]);
        assert_eq!(
            (none.verdict(false, false, false), none.verdict(true, false, false)),
            (None, Some(Verdict::NotInTime))
        );
        let mut no = self::tally(None, &["a"]);
        no.hear(&name("a"), &rejecting("a", 7), Instant::now());
        assert_eq!(no.verdict(false, false, true), Some(Verdict::Rejected));
    }

    #[test]
    fn the_same_revision_of_another_bucket_is_not_the_one() {
        let mut tally = tally(None, &["a"]);
        let mut other = at("a", 7, 7);
        other.report.digest = Some(target(8).digest);

        tally.hear(&name("a"), &other, Instant::now());

        assert_eq!(tally.verdict(false, true, true), None);
    }

    #[test]
    fn an_instance_of_another_key_is_not_waited_for() {
        let mut tally = tally(Some(0), &[]);
        let other = (Key::parse("other").unwrap(), "a".to_owned());

        tally.join(&other, "a", Instant::now());

        assert_eq!(tally.verdict(false, true, true), Some(Verdict::Applied));
        assert_eq!(tally.outcome(Verdict::Applied, true).unread, [key()]);
    }
}
