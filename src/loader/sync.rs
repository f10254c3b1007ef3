//! Carrying out what is decided: one file, a change set, a whole directory.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::{Candidate, Event, Loader, Published, Step, after_schemas, may_prune};
use crate::kv::{
    BucketError, Bulk, ChangeSet, Changes, Entry, Expect, Key, Pattern, Provenance, PublishError, Write, Writer,
};
use crate::source::Content;

impl Loader {
    /// How often a lost race is planned again before the file is left for later.
    const RACES: usize = 5;
    /// Keys deleted within this time count as deleted at once.
    const AT_ONCE: Duration = Duration::from_secs(10);

    /// Makes the bucket hold what the directory holds, as far as the options allow.
    ///
    /// # Errors
    /// [`BucketError`] where the bucket cannot be read; nothing was written then. Single writes that fail are left in
    /// `dirty`.
    pub(super) async fn sync(&mut self, mut changes: Option<&mut Changes>) -> Result<(), BucketError> {
        let mut paths = self.source.paths();
        self.read_bucket(paths.len()).await?;
        paths.sort_by_key(|path| after_schemas(path));
        self.tell(Event::Syncing { files: paths.len() });
        // All claims first: of two files with one key neither may be published because it came first.
        // At once: a table that grows leaves what it grew out of behind.
        self.files.reserve(paths.len().saturating_sub(self.files.len()));
        self.claims.reserve(paths.len().saturating_sub(self.claims.len()));
        for path in &paths {
            if !self.files.contains_key(path) {
                self.note(path.clone());
            }
        }
        let mut bulk = self.bucket.bulk(self.atomic);
        let mut raced = Vec::new();
        for path in &paths {
            // A save that no server was there for counts as observed.
            let observed = self.dirty.get(&**path).copied().unwrap_or(false);
            if let Some(candidate) = self.read_candidate(path, observed) {
                self.sync_one(candidate, &mut bulk, &mut raced).await?;
            }
            if let Some(changes) = &mut changes {
                self.hear(changes).await;
            }
            while self.checks.is_full() {
                self.sync_checked(&mut bulk, &mut raced).await?;
            }
        }
        while !self.checks.is_idle() {
            self.sync_checked(&mut bulk, &mut raced).await?;
        }
        bulk.finish().await;
        for (write, outcome) in bulk.outcomes() {
            raced.extend(self.outcome(&write, outcome, false));
        }
        for path in raced {
            self.dirty.entry(path).or_insert(false);
        }
        self.retry().await;
        self.prune().await;
        Ok(())
    }

    async fn sync_one(
        &mut self,
        candidate: Candidate,
        bulk: &mut Bulk,
        raced: &mut Vec<PathBuf>,
    ) -> Result<(), BucketError> {
        match self.step(&candidate).await? {
            Some(Step::Publish(_)) if self.checks.wants(&candidate) => self.check(vec![candidate], false),
            Some(Step::Publish(expect)) if self.options.dry_run => self.would_publish(&candidate, expect),
            Some(Step::Publish(expect)) => {
                bulk.push(self.write(&candidate, expect, None)).await;
                for (write, outcome) in bulk.outcomes() {
                    raced.extend(self.outcome(&write, outcome, false));
                }
            }
            Some(step) => self.leave(&candidate, &step),
            None => {}
        }
        Ok(())
    }

    async fn sync_checked(&mut self, bulk: &mut Bulk, raced: &mut Vec<PathBuf>) -> Result<(), BucketError> {
        let Some(checked) = self.checks.next().await else { return Ok(()) };
        let (passed, _) = self.passed(checked);
        for candidate in passed {
            self.sync_one(candidate, bulk, raced).await?;
        }
        Ok(())
    }

    /// Reads what the bucket holds, which is about as much as there are `files`.
    async fn read_bucket(&mut self, files: usize) -> Result<(), BucketError> {
        let (id, mut published) = (self.id.clone(), HashMap::with_capacity(files));
        let mut schemas = Vec::new();
        let pattern = Pattern::all();
        let read = self.bucket.each_head(&pattern, true, |entry: Entry| {
            let signed = self.bucket.is_signed(&entry);
            published.insert(entry.key.clone(), Published { signed, ..Published::of_head(&entry, &id) });
            schemas.extend(entry.key.described().map(|key| (key, entry)));
        });
        match read.await {
            Err(BucketError::Missing(_)) if self.options.dry_run => {}
            read => read?,
        }
        self.published = published;
        self.schemas.forget_bucket();
        for (key, entry) in schemas {
            self.carried(key, &entry);
        }
        Ok(())
    }

    /// Takes note of the schema that the bucket carries for `key`. Tells whether another one stands now.
    pub(super) fn carried(&mut self, key: Key, entry: &Entry) -> bool {
        self.schemas.of_bucket(key, entry).unwrap_or_else(|error| {
            let text = format!("{}@{} in the bucket is passed over: {}", entry.key, entry.revision, error.reason);
            self.tell(Event::Trouble(text));
            false
        })
    }

    /// Reads a file now; a candidate if it is to be published.
    pub(super) fn read_candidate(&mut self, path: &Path, observed: bool) -> Option<Candidate> {
        // Being written, or on its way out: the source tells how that ends, and until then the file is not dealt with.
        let Some(content) = self.source.read(path) else {
            self.dirty.entry(path.to_owned()).or_insert(observed);
            return None;
        };
        match content {
            Content::Bytes(bytes) => self.candidate(path, bytes, SystemTime::now(), observed),
            // Its removal is told by the source, when it is sure.
            Content::Gone => None,
            Content::Unreadable(reason) => {
                self.unreadable(path, &reason.to_string());
                None
            }
        }
    }

    pub(super) fn unreadable(&mut self, path: &Path, reason: &str) {
        self.claim(path);
        let file = self.files.get_mut(path);
        let key = file.and_then(|file| {
            file.unread = true;
            file.key.clone()
        });
        self.refuse_because(key, Some(path), format!("cannot be read: {reason}"));
    }

    fn would_publish(&mut self, candidate: &Candidate, expect: Expect) {
        self.dirty.remove(&candidate.path);
        let over = match expect {
            Expect::Never => None,
            Expect::At(revision) => Some(revision),
        };
        let (key, digest, path) = (candidate.key.clone(), candidate.document.digest(), candidate.path.clone());
        self.tell(Event::WouldPublish { key, over, digest, path });
    }

    /// Publishes what is to be published: as one change set where `together`, else each by itself.
    pub(super) async fn publish(&mut self, mut candidates: Vec<Candidate>, together: bool) {
        for _ in 0..Self::RACES {
            if candidates.is_empty() {
                return;
            }
            let mut writes = Vec::new();
            let mut rest = Vec::new();
            let mut unchecked = false;
            let mut left = candidates.into_iter();
            while let Some(candidate) = left.next() {
                match self.step(&candidate).await {
                    Ok(Some(Step::Publish(_))) if self.checks.wants(&candidate) => {
                        unchecked = true;
                        rest.push(candidate);
                    }
                    Ok(Some(Step::Publish(expect))) if self.options.dry_run => self.would_publish(&candidate, expect),
                    Ok(Some(Step::Publish(expect))) => {
                        writes.push(self.write(&candidate, expect, None));
                        rest.push(candidate);
                    }
                    Ok(Some(step)) => self.leave(&candidate, &step),
                    Ok(None) => {}
                    Err(error) => {
                        self.postpone(&candidate.path, candidate.observed, &error);
                        // All of them, or none.
                        if together {
                            let kept =
                                rest.into_iter().chain(left).map(|candidate| (candidate.path, candidate.observed));
                            return self.dirty.extend(kept);
                        }
                    }
                }
            }
            if unchecked {
                return self.check(rest, together);
            }
            let set = (together && writes.len() > 1).then(|| ChangeSet::new(writes.len()));
            for write in &mut writes {
                write.provenance.set = set.clone();
            }
            for write in &writes {
                self.sent.insert(write.key.clone(), (write.expect.sequence(), write.digest));
            }
            let mut link = self.bucket.connection().link();
            let outcomes = tokio::select! {
                outcomes = self.bucket.publish_set(&writes, self.atomic && set.is_some()) => outcomes,
                // What was stored all the same is found unchanged when a server is back.
                _ = link.wait_for(|link| !link.up) => {
                    self.dirty.extend(rest.into_iter().map(|candidate| (candidate.path, candidate.observed)));
                    return;
                }
            };
            let lost = outcomes.iter().any(|outcome| matches!(outcome, Err(PublishError::Conflict { .. })));
            candidates = Vec::new();
            for ((mut candidate, write), outcome) in rest.into_iter().zip(&writes).zip(outcomes) {
                // Where one member lost its race, the whole set was refused and is planned again.
                let again = match &outcome {
                    Err(PublishError::Unconfirmed { .. }) => lost && set.is_some(),
                    // Another member is too large: that one is refused, and the rest goes without it.
                    Err(PublishError::TooLarge { key, .. }) => *key != candidate.key,
                    _ => false,
                };
                if again || self.outcome(write, outcome, candidate.observed).is_some() {
                    self.dirty.insert(candidate.path.clone(), candidate.observed);
                    match self.read_key(&candidate.key).await {
                        Ok(()) => {
                            candidate.observed = self.dirty.get(&candidate.path).copied().unwrap_or(false);
                            candidates.push(candidate);
                        }
                        Err(error) => self.postpone(&candidate.path, candidate.observed, &error),
                    }
                }
            }
        }
    }

    /// Takes note of what became of a write. Gives the file back that lost its race.
    fn outcome(
        &mut self,
        write: &Write,
        outcome: Result<crate::kv::Published, PublishError>,
        observed: bool,
    ) -> Option<PathBuf> {
        let path = write.provenance.path.as_ref().map(PathBuf::from);
        if matches!(outcome, Ok(_) | Err(PublishError::Conflict { .. } | PublishError::TooLarge { .. })) {
            self.sent.remove(&write.key);
        }
        match outcome {
            Ok(published) => {
                self.trouble = None;
                self.stored(write, published.revision);
            }
            Err(PublishError::Conflict { key, .. }) => {
                self.published.remove(&key);
                return path;
            }
            Err(error @ PublishError::TooLarge { .. }) => {
                self.refuse_because(Some(write.key.clone()), path.as_deref(), error.to_string());
            }
            Err(error) => match path {
                Some(path) => {
                    let observed = observed || self.dirty.get(&path).copied().unwrap_or(false);
                    self.postpone(&path, observed, &error);
                }
                None => self.say_trouble(error.to_string()),
            },
        }
        None
    }

    fn postpone(&mut self, path: &Path, observed: bool, error: &dyn std::error::Error) {
        self.dirty.insert(path.to_owned(), observed);
        let cause = error.source().map_or_else(String::new, |source| format!(": {source}"));
        self.say_trouble(format!("{error}{cause}"));
    }

    /// Says what does not work, once for as long as it stays the same.
    pub(super) fn say_trouble(&mut self, text: String) {
        if self.trouble.as_ref() != Some(&text) {
            self.trouble = Some(text.clone());
            self.tell(Event::Trouble(text));
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.bucket.connection().link().borrow().up
    }

    /// Looks again at the files that could not be published, for as long as a server is connected; as one at those that
    /// changed together.
    pub(super) async fn retry(&mut self) {
        self.join_set(BTreeSet::new(), false);
        let sets = self.sets.clone();
        let alone = self.dirty.keys().filter(|path| !sets.iter().any(|set| set.contains(*path)));
        let (after, schemas): (Vec<_>, Vec<_>) = alone.cloned().partition(|path| after_schemas(path));
        let alone = |path| BTreeSet::from([path]);
        for unit in schemas.into_iter().map(alone).chain(sets).chain(after.into_iter().map(alone)) {
            let mut unit: Vec<_> = unit.into_iter().collect();
            unit.sort_by_key(|path| after_schemas(path));
            let mut candidates = Vec::new();
            for path in unit {
                if !self.is_connected() {
                    return;
                }
                let Some(&observed) = self.dirty.get(&path) else { continue };
                let key = self.files.get(path.as_path()).and_then(|file| file.key.clone());
                // What was known of the key led to the failure, or is old by now.
                if let Some(key) = key
                    && let Err(error) = self.read_key(&key).await
                {
                    return self.postpone(&path, observed, &error);
                }
                let observed = self.dirty.get(&path).copied().unwrap_or(observed);
                candidates.extend(self.read_candidate(&path, observed));
            }
            self.publish(candidates, true).await;
        }
        self.look_again();
    }

    /// Takes note of what changed, and gives what is to be published with it, if anything is: what changed `together`, and
    /// what changed together with one of them before and could not be published so far.
    pub(super) fn join_set(&mut self, changed: BTreeSet<PathBuf>, together: bool) -> BTreeSet<PathBuf> {
        self.sets.retain_mut(|set| {
            set.retain(|path| self.dirty.contains_key(path));
            set.len() > 1
        });
        let before = self.sets.extract_if(.., |set| !set.is_disjoint(&changed));
        let mut set = BTreeSet::from_iter(before.flatten());
        if together {
            set.extend(changed);
        }
        if set.len() < 2 {
            return BTreeSet::new();
        }
        self.sets.push(set.clone());
        set
    }

    /// Has the files looked at again whose schema is another one than when they were. Gives them, and whether they are
    /// an observed change.
    pub(super) fn look_again(&mut self) -> Vec<(PathBuf, bool)> {
        let mut again = Vec::new();
        for path in std::mem::take(&mut self.unjudged) {
            let observed = self.files.get(path.as_path()).is_some_and(|file| file.refused && file.refused_change);
            again.push((path.clone(), *self.dirty.entry(path).or_insert(observed)));
        }
        again
    }

    /// Deletes the keys of files that are gone, where that was asked for and is no mass effect.
    pub(super) async fn prune(&mut self) {
        if !self.options.prune {
            return;
        }
        let ours = |(key, published): &(&Key, &Published)| {
            // A schema is taken away by name only: a file that was moved must not allow what it forbids.
            !key.is_own() && published.ours && published.digest.is_some()
        };
        let total = self.published.iter().filter(ours).count();
        let mut gone: Vec<(Key, Expect)> = (self.published.iter())
            .filter(|entry| ours(entry) && !self.claims.contains_key(entry.0))
            .map(|(key, published)| (key.clone(), Expect::At(published.head)))
            .collect();
        gone.sort_by(|(a, _), (b, _)| a.cmp(b));
        if gone.is_empty() {
            return;
        }
        self.pruned.retain(|at| at.elapsed() < Self::AT_ONCE);
        self.prune_due = None;
        let recent = self.pruned.len();
        let reason = if !self.source.complete() {
            Some("a part of the directory cannot be read: nothing is deleted".to_owned())
        } else if self.documents() == 0 && !self.options.allow_empty {
            Some("the directory is empty: nothing is deleted without --allow-empty".to_owned())
        } else if !self.options.prune_any && !may_prune(gone.len() + recent, total + recent) {
            if may_prune(gone.len(), total) {
                // Only with those that were deleted a moment ago, which do not count for long.
                self.prune_due = self.pruned.first().map(|first| *first + Self::AT_ONCE);
                return;
            }
            let span = if recent == 0 { "at once" } else { "within 10 s" };
            let (gone, all) = (gone.len() + recent, total + recent);
            Some(format!(
                "{gone} of {all} keys would be deleted {span}, more than a fifth: nothing is deleted without --yes"
            ))
        } else {
            None
        };
        if let Some(reason) = reason {
            let told = format!("{reason} {gone:?}");
            if self.told_prune.as_ref() != Some(&told) {
                self.told_prune = Some(told);
                self.refuse_because(None, None, reason);
            }
            return;
        }
        self.told_prune = None;
        for (key, expect) in gone {
            if self.options.dry_run {
                self.tell(Event::WouldDelete { key });
                continue;
            }
            let mut provenance = Provenance::by(Writer::Loader);
            provenance.author.clone_from(&self.options.author);
            provenance.source = Some(self.id.clone());
            let write = Write::delete(key.clone(), provenance, expect);
            let outcome = self.bucket.publish(&write).await;
            if outcome.is_ok() {
                self.pruned.push(Instant::now());
            }
            self.outcome(&write, outcome, false);
            // Lost the race: somebody else's value is not deleted unseen.
            if !self.published.contains_key(&key)
                && let Err(error) = self.read_key(&key).await
            {
                self.say_trouble(error.to_string());
            }
        }
    }
}
