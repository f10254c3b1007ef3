//! What is known of each instance that is waited for, and what it comes to. Pure: time is handed in.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use super::{AGAIN, Fate, Member, Name, Outcome, Target, UNSURE, Verdict};
use crate::document::Digest;
use crate::kv::{Key, MOST_RECORDS, Revision, Status};

/// So many are asked at once, each time that the records are read: all of them long before they count as gone.
const AT_ONCE: usize = 2_000;

/// Who is waited for and what is known of each.
#[derive(Debug)]
pub(super) struct Tally {
    targets: HashMap<Key, (Revision, Digest)>,
    pub(super) wanted: Option<usize>,
    members: BTreeMap<Name, Counted>,
    /// What was told of that is newer, by key.
    superseded: BTreeMap<Key, Revision>,
    /// What was told of that the bucket does not have.
    disbelieved: HashSet<(Key, Revision)>,
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
    pub(super) fn new(targets: &[Target], wanted: Option<usize>) -> Tally {
        let targets = targets.iter().map(|target| (target.key.clone(), (target.revision, target.digest)));
        Tally {
            targets: targets.collect(),
            wanted,
            members: BTreeMap::new(),
            superseded: BTreeMap::new(),
            disbelieved: HashSet::new(),
        }
    }

    /// Waits for an instance too.
    pub(super) fn join(&mut self, name: &Name, instance: &str, heard: Instant) {
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

    pub(super) fn hear(&mut self, name: &Name, status: &Status, heard: Instant) {
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
        if let Some(newer) = report.newest.filter(|newest| *newest > target)
            && !self.disbelieved.contains(&(name.0.clone(), newer))
        {
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

    /// That `key` came to be at `newer` is not so, whoever says it.
    pub(super) fn disbelieve(&mut self, key: &Key, newer: Revision) {
        self.superseded.remove(key);
        self.disbelieved.insert((key.clone(), newer));
    }

    /// The server knows the instance's connection, whatever it said last, and when.
    pub(super) fn find(&mut self, name: &Name, at: Instant) {
        if let Some(member) = self.members.get_mut(name) {
            member.found = member.found.max(Some(at));
        }
    }

    /// Some that are waited for and were neither heard nor asked just now; they count as asked at `now`.
    pub(super) fn ask_silent(&mut self, now: Instant) -> Vec<Name> {
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

    pub(super) fn goodbye(&mut self, name: &Name) {
        if let Some(member) = self.members.get_mut(name)
            && matches!(member.fate, Fate::Waiting | Fate::Missing)
        {
            member.fate = Fate::Left;
        }
    }

    pub(super) fn give_up_on_the_silent(&mut self, now: Instant, after: Duration) {
        for member in self.members.values_mut() {
            let last = member.found.map_or(member.heard, |found| found.max(member.heard));
            if member.fate == Fate::Waiting && now.saturating_duration_since(last) > after {
                member.fate = Fate::Missing;
            }
        }
    }

    /// How many are waited for, whatever became of them.
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    pub(super) fn count(&self, fate: &Fate) -> usize {
        self.members.values().filter(|member| member.fate == *fate).count()
    }

    /// What it comes to, if that is certain, or if the time is `over`. Nobody says yes before the members are `complete`; but
    /// that there is nobody is said when the time is over, if all of them had the time to be `remembered`.
    pub(super) fn verdict(&self, over: bool, complete: bool, remembered: bool) -> Option<Verdict> {
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

    pub(super) fn outcome(mut self, verdict: Verdict, complete: bool) -> Outcome {
        for member in self.members.values_mut() {
            if member.fate == Fate::Waiting {
                member.fate = Fate::Missing;
            }
        }
        let read: HashSet<_> = self.members.keys().map(|(key, _)| key).collect();
        let mut unread: Vec<_> = self.targets.keys().filter(|key| !read.contains(key)).cloned().collect();
        unread.sort();
        Outcome { verdict, members: self.members(), unread, complete, crowded: false }
    }
}

#[cfg(test)]
mod tests {
    use super::super::GONE;
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

        // One that the bucket does not have is nobody's to be waited for.
        let mut tally = self::tally(None, &["a", "b"]);
        tally.hear(&name("a"), &at("a", 6, 50), Instant::now());
        assert_eq!(tally.verdict(false, true, true), Some(Verdict::Superseded(key(), Revision(50))));
        tally.disbelieve(&key(), Revision(50));
        tally.hear(&name("b"), &at("b", 6, 50), Instant::now());
        assert_eq!(tally.verdict(false, true, true), None);
        tally.hear(&name("a"), &at("a", 7, 7), Instant::now());
        tally.hear(&name("b"), &at("b", 7, 7), Instant::now());
        assert_eq!(tally.verdict(false, true, true), Some(Verdict::Applied));

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
