//! `--wait`: what put, rollback and loader share.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use confhot::document::Digest;
use confhot::kv::{Bucket, ChangeSet, Entry, Key, Operation, Revision, Status, Write, rollback};
use confhot::wait::{Fate, Member, Outcome as Waited, Target, Verdict, Wait};
use indicatif::ProgressDrawTarget;
use serde_json::{Value, json};

use super::signing::may_come_back;
use super::{Outcome, Session, rollback as verb};
use crate::cli::duration;
use crate::output::without_passwords;

/// What is given back at least to wait for a rollback, where a rejection came at the last moment.
const TIME_TO_GO_BACK: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    /// Wait until every live instance applied it, at most so long
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(super) wait: Option<Duration>,
    /// With --wait: so many instances at least; 0 is content with none
    #[arg(long, value_name = "N", requires = "wait")]
    pub(super) instances: Option<usize>,
}

/// Where a key stands after a run, and whether the run put it there.
#[derive(Debug, Clone)]
pub(crate) struct Stood {
    pub(crate) target: Target,
    pub(crate) new: bool,
}

impl Stood {
    pub(crate) fn new(key: Key, revision: Revision, digest: Digest, new: bool) -> Stood {
        Stood { target: Target { key, revision, digest }, new }
    }
}

/// A wait that has taken note of who is live, before anything was stored.
pub(crate) struct Waiting {
    wait: Wait,
    instances: Option<usize>,
    /// Revisions that live instances had rejected by then.
    rejected: HashSet<(Key, Revision)>,
}

impl Args {
    /// Takes note of the live instances of `key`, or of all keys, if it is to be waited for them.
    pub(crate) async fn begin(&self, bucket: &Bucket, key: Option<&Key>) -> anyhow::Result<Option<Waiting>> {
        let Some(patience) = self.wait else { return Ok(None) };
        let wait = Wait::begin(bucket, key, patience).await?;
        let refused =
            |status: &Status| status.report.rejected.as_ref().map(|refused| (status.key.clone(), refused.revision));
        let rejected = wait.known().filter_map(refused).collect();
        Ok(Some(Waiting { wait, instances: self.instances, rejected }))
    }
}

impl Waiting {
    /// Waits until the instances run all that `stood`, and tells a person; takes back what is new of it, all of it, where
    /// an instance rejected some of it and that was asked for. Gives the outcome and the lists of JSON: who, and of which
    /// key. A key that nobody reads fails nothing.
    pub(crate) async fn settle(
        &mut self,
        session: &Session,
        bucket: &Bucket,
        stood: &[Stood],
        roll_back: bool,
    ) -> anyhow::Result<(Outcome, serde_json::Map<String, Value>)> {
        // Schemas are read by whoever checks, and applied by nobody.
        let targets = stood.iter().map(|stood| &stood.target).filter(|target| !target.key.is_own());
        let waited = self.applied(session, &targets.cloned().collect::<Vec<_>>()).await;
        let nobody = waited.verdict == Verdict::Nobody && waited.members.is_empty();
        if !waited.unread.is_empty() {
            let keys: Vec<_> = waited.unread.iter().map(Key::to_string).collect();
            session.out.note(&format!("no live instance follows {}", keys.join(", ")));
        }
        if !nobody {
            tell(session, &waited)?;
        }
        let mut back = Vec::new();
        if roll_back && waited.verdict == Verdict::Rejected {
            let new = stood.iter().filter(|stood| stood.new);
            let new: Vec<_> = new.map(|stood| stood.target.clone()).collect();
            back = self.roll_back(session, bucket, &new, &why(&waited)).await;
        }
        let mut lists = lists(&waited, |member| match &member.fate {
            Fate::Rejected(reason) => json!({"key": member.key, "instance": member.instance, "reason": reason}),
            _ => json!({"key": member.key, "instance": member.instance}),
        });
        lists.insert("unread".into(), json!(waited.unread));
        lists.insert("rolled_back".into(), back.iter().map(|(key, _)| json!(key)).collect());
        let content = nobody && self.instances.is_none_or(|instances| instances == 0);
        Ok((if content { Outcome::Yes } else { outcome(&waited) }, lists))
    }

    /// Waits until the instances run `targets`; shows on a terminal how far it is.
    pub(crate) async fn applied(&mut self, session: &Session, targets: &[Target]) -> Waited {
        let bar = session.out.progress(self.wait.known().count());
        let since = Instant::now();
        let waited = self.wait.until_applied(targets, self.instances, |applied, of| {
            let Some(bar) = &bar else { return };
            bar.set_length(of as u64);
            bar.set_position(applied as u64);
            if bar.is_hidden() && since.elapsed() > Duration::from_secs(1) {
                bar.set_draw_target(ProgressDrawTarget::stderr());
            }
        });
        let waited = waited.await;
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
        waited
    }

    /// The revision to go back to after `history`'s head was rejected: the one before it, unless a live instance had
    /// rejected that too, and then where a rollback of that one goes. `history` is newest first.
    fn last_good<'a>(&self, history: &'a [Entry]) -> Option<&'a Entry> {
        let (head, before) = (history.first()?, history.get(1)?);
        let good = before.operation == Operation::Put
            && before.value != head.value
            && !self.rejected.contains(&(before.key.clone(), before.revision));
        if good { Some(before) } else { rollback::target(&history[1..]) }
    }

    /// Publishes the last good revisions of what was stored as `targets`, as one where the bucket can, each only where
    /// nobody changed it since; waits until they are applied. Gives each key and the revision that it went back to, and
    /// says of the others why they did not: the answer that this is part of is still owed.
    pub(crate) async fn roll_back(
        &mut self,
        session: &Session,
        bucket: &Bucket,
        targets: &[Target],
        why: &str,
    ) -> Vec<(Key, Revision)> {
        let (out, author) = (&session.out, session.author());
        let mut writes = Vec::new();
        // A schema before what it describes, where they cannot go as one.
        let mut targets: Vec<_> = targets.iter().collect();
        targets.sort_by_key(|target| !target.key.is_own());
        for Target { key, revision, .. } in &targets {
            // What is in force now goes with it.
            let judged = key.schema().is_none_or(|schema| !targets.iter().any(|target| target.key == schema));
            match self.way_back(bucket, key, *revision, judged).await {
                Ok(mut write) => {
                    write.provenance.author.clone_from(&author);
                    write.provenance.message = Some(why.to_owned());
                    writes.push(write);
                }
                Err(error) => out.note(&format!("{key} is not rolled back: {error:#}")),
            }
        }
        let set = (writes.len() > 1).then(|| ChangeSet::new(writes.len()));
        for write in &mut writes {
            write.provenance.set.clone_from(&set);
        }
        let atomic = bucket.describe().await.is_ok_and(|told| told.atomic);
        let outcomes = bucket.publish_set(&writes, atomic).await;
        let (mut back, mut published) = (Vec::new(), Vec::new());
        for (write, outcome) in writes.into_iter().zip(outcomes) {
            match outcome {
                Ok(stored) => {
                    back.extend(write.provenance.rollback_of.map(|to| (write.key.clone(), to)));
                    let digest = Digest::of(&write.value);
                    published.push(Target { key: write.key, revision: stored.revision, digest });
                }
                Err(error) => out.note(&format!("{} is not rolled back: {error}", write.key)),
            }
        }
        // Schemas are read by whoever checks, and applied by nobody.
        published.retain(|target| !target.key.is_own());
        let mut waited = None;
        if !published.is_empty() {
            self.wait.extend(TIME_TO_GO_BACK);
            waited = Some(self.applied(session, &published).await);
        }
        for (key, to) in &back {
            out.note(&format!("{key} is rolled back to revision {to}"));
        }
        if let Some(waited) = waited.filter(|waited| waited.verdict != Verdict::Applied) {
            out.note(&format!("not every instance has gone back: {}", summary(&waited)));
        }
        back
    }

    async fn way_back(&self, bucket: &Bucket, key: &Key, revision: Revision, judged: bool) -> anyhow::Result<Write> {
        let history = may_come_back(bucket, bucket.history(key).await?);
        anyhow::ensure!(
            history.first().is_some_and(|head| head.revision == revision),
            "somebody else changed it since"
        );
        let target = self.last_good(&history).context("it has no good revision to go back to")?;
        verb::write(bucket, &history[0], target, judged).await
    }
}

/// The first rejection, as a reason for the history.
pub(crate) fn why(waited: &Waited) -> String {
    let rejection = waited.members.iter().find_map(|member| match &member.fate {
        Fate::Rejected(reason) => Some(format!("rejected by {}: {reason}", member.instance)),
        _ => None,
    });
    // It is stored.
    without_passwords(&rejection.unwrap_or_default()).into_owned()
}

/// Yes if all of them applied it.
pub(crate) fn outcome(waited: &Waited) -> Outcome {
    if waited.verdict == Verdict::Applied { Outcome::Yes } else { Outcome::No }
}

/// The four lists of JSON, `shown` saying what a member is in them.
pub(crate) fn lists(waited: &Waited, shown: impl Fn(&Member) -> Value) -> serde_json::Map<String, Value> {
    let list = |wanted: fn(&Fate) -> bool| -> Value {
        waited.members.iter().filter(|member| wanted(&member.fate)).map(&shown).collect()
    };
    let mut lists = serde_json::Map::new();
    lists.insert("applied".into(), list(|fate| *fate == Fate::Applied));
    lists.insert("rejected".into(), list(|fate| matches!(fate, Fate::Rejected(_))));
    lists.insert("missing".into(), list(|fate| *fate == Fate::Missing));
    lists.insert("left".into(), list(|fate| *fate == Fate::Left));
    if !waited.complete && waited.verdict == Verdict::NotInTime {
        lists.insert("complete".into(), json!(false));
    }
    if let Verdict::Superseded(_, revision) = &waited.verdict {
        lists.insert("superseded_by".into(), json!(revision));
    }
    lists
}

/// A member of [`lists`] where there is one key: its name, and why it rejected.
pub(crate) fn named(member: &Member) -> Value {
    match &member.fate {
        Fate::Rejected(reason) => json!({ "instance": member.instance, "reason": reason }),
        _ => json!(member.instance),
    }
}

fn summary(waited: &Waited) -> String {
    let count = |wanted: fn(&Fate) -> bool| waited.members.iter().filter(|member| wanted(&member.fate)).count();
    let mut text = format!("applied by {} of {}", count(|fate| *fate == Fate::Applied), waited.members.len());
    for (count, what) in [
        (count(|fate| matches!(fate, Fate::Rejected(_))), "rejected it"),
        (count(|fate| *fate == Fate::Missing), "had not said so"),
        (count(|fate| *fate == Fate::Left), "left"),
    ] {
        if count > 0 {
            text.push_str(&format!(", {count} {what}"));
        }
    }
    text
}

/// What came of it, for a person: a line, a line for each instance that is not as it should be, and what to do; only the
/// last of these where answers are JSON.
pub(crate) fn tell(session: &Session, waited: &Waited) -> anyhow::Result<()> {
    let out = &session.out;
    if waited.crowded {
        out.note("more instances tell than are listened to: find out who writes so many records");
    }
    match &waited.verdict {
        Verdict::Nobody if waited.members.is_empty() => {
            out.note("no live instance is known that could apply it");
            out.note("hint: start one, or say --instances 0 where that is right");
            return Ok(());
        }
        Verdict::NotInTime if !waited.complete && !waited.crowded => {
            out.note("not all live instances may be known yet: the server was restarted, or the bucket made, just now")
        }
        Verdict::Superseded(key, revision) if !out.is_json() => {
            out.line(&format!("superseded: {key} is at revision {revision}"))?
        }
        _ => {}
    }
    if out.is_json() {
        return Ok(());
    }
    out.line(&summary(waited))?;
    for member in &waited.members {
        let (key, instance) = (&member.key, crate::output::plain(&member.instance));
        match &member.fate {
            Fate::Rejected(reason) => {
                out.line(&format!("  {key} rejected by {instance}: {}", crate::output::plain(reason)))?
            }
            // On a rejection nobody was given the time to say anything else.
            Fate::Missing if waited.verdict != Verdict::Rejected => {
                out.line(&format!("  {key} missing: {instance}"))?
            }
            _ => {}
        }
    }
    out.flush()
}
