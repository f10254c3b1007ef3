//! The loop: first sync, then what the directory and the bucket tell, until it is told to stop.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::watch::Receiver;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::checks::Checked;
use super::{Event, Loader, LoaderError, Published, Step, Summary, after_schemas, decide};
use crate::kv::{BucketError, Change, Changes, Entry, Key, Link, Pattern, Writer};
use crate::source::{Batch, Cause, Content, FOLLOW, Trouble};

impl Loader {
    /// How long HEAD may take to move after a git operation let go of its lock.
    const SETTLE: Duration = Duration::from_millis(100);
    /// The longest pause before what failed is tried again.
    const PATIENCE: Duration = Duration::from_secs(5);

    /// Syncs once.
    ///
    /// # Errors
    /// [`LoaderError`] where the bucket cannot be read or made, or a document was neither stored nor refused.
    pub async fn once(mut self) -> Result<Summary, LoaderError> {
        if self.options.dry_run {
            match self.bucket.describe().await {
                Ok(_) | Err(BucketError::Missing(_)) => {}
                Err(error) => return Err(error.into()),
            }
        } else {
            self.ensure().await?;
        }
        for trouble in self.source.troubles() {
            self.trouble_with_source(trouble);
        }
        self.sync(None).await?;
        // A file that was being written, or is away, is dealt with when the source has told how that ends.
        let until = Instant::now() + Self::PATIENCE;
        loop {
            // Each check has a deadline of its own.
            while let Some(checked) = self.checks.next().await {
                let (passed, together) = self.passed(checked);
                self.publish(passed, together).await;
            }
            if self.dirty.is_empty() {
                break;
            }
            let Ok(batch) = timeout_at(until, self.source.next()).await else { break };
            self.batch(batch, true).await;
            if !self.options.dry_run {
                self.retry().await;
            }
        }
        match self.dirty.len() {
            0 => {
                if !self.options.dry_run {
                    let files = self.documents();
                    self.tell(Event::Ready { files });
                }
                Ok(self.summary)
            }
            left => Err(LoaderError::Unfinished(left)),
        }
    }

    async fn ensure(&mut self) -> Result<(), BucketError> {
        let told = self.bucket.ensure(&self.options.settings).await?;
        self.atomic = told.atomic;
        if !told.differences.is_empty() && !std::mem::replace(&mut self.told_differences, true) {
            let name = self.bucket.name();
            let text = format!("bucket `{name}` is used as it is, though {}", told.differences.join("; "));
            self.tell(Event::Trouble(text));
        }
        Ok(())
    }

    /// Syncs, and publishes each change from then on, until `shutdown`; waits for a server that is not there.
    ///
    /// # Errors
    /// None at present.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), LoaderError> {
        let mut changes: Option<Changes> = None;
        let mut link = self.bucket.connection().link();
        // Whether the bucket is to be made or read as a whole before anything is published.
        let mut unsynced = true;
        let mut connected = false;
        let mut ready = false;
        // Whether the last word on the connection was that there is one.
        let mut said: Option<bool> = None;
        let mut failures = 0_u32;
        let mut due: Option<Instant> = None;
        loop {
            if changes.is_none() && !link.borrow().up && said != Some(false) {
                // The first word is that a server answers or why none does, whichever comes first.
                let problem = link.borrow().problem.clone();
                if problem.is_some() {
                    said = Some(false);
                    self.tell(Event::Disconnected(problem));
                }
            }
            if changes.is_none() && link.borrow().up && due.is_none() {
                match self.ensure().await {
                    Ok(()) => changes = Some(Changes::start(&self.bucket, &Pattern::all())),
                    Err(error) => {
                        self.say_trouble(error.to_string());
                        due = Some(Instant::now() + backoff(&mut failures));
                    }
                }
            }
            if connected && unsynced && due.is_none() {
                match while_up(&link, &shutdown, self.sync(changes.as_mut())).await {
                    None => {}
                    Some(Ok(())) => {
                        (unsynced, failures) = (false, 0);
                        if !std::mem::replace(&mut ready, true) {
                            let files = self.documents();
                            self.tell(Event::Ready { files });
                        }
                    }
                    // What was lost on the way is told by the connection's own events.
                    Some(Err(BucketError::Interrupted)) => due = Some(Instant::now()),
                    Some(Err(error)) => {
                        self.say_trouble(error.to_string());
                        due = Some(Instant::now() + backoff(&mut failures));
                    }
                }
            }
            if connected && !unsynced && !self.dirty.is_empty() && due.is_none() {
                due = Some(Instant::now() + backoff(&mut failures));
            }
            // Handled below, where the bucket's changes may be followed anew.
            let told = async {
                match (self.heard.pop_front(), &mut changes) {
                    (Some(heard), _) => Some(heard),
                    (None, Some(changes)) => changes.next().await,
                    (None, None) => std::future::pending().await,
                }
            };
            let happened = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                // First, so that nothing is sent to a server that is known to be away.
                change = told => Happened::Bucket(change),
                Some(checked) = self.checks.next() => Happened::Checked(checked),
                batch = self.source.next() => Happened::Directory(batch),
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => Happened::Due,
                () = async { sleep_until(self.prune_due.unwrap_or_else(std::time::Instant::now).into()).await },
                    if self.prune_due.is_some() && connected && !unsynced => Happened::PruneDue,
                changed = link.changed() => if changed.is_ok() { Happened::Link } else { break },
            };
            match happened {
                Happened::Link => {}
                Happened::Directory(batch) => {
                    let connected = connected && !unsynced && self.is_connected();
                    // Cut short, it has left in `dirty` what is not done.
                    while_up(&link, &shutdown, self.batch(batch, connected)).await;
                }
                Happened::Checked(checked) => {
                    let (passed, together) = self.passed(checked);
                    if connected && !unsynced && self.is_connected() {
                        while_up(&link, &shutdown, self.publish(passed, together)).await;
                    }
                }
                Happened::Bucket(change) => match change {
                    Some(Change::Entry(entry)) => self.foreign(entry).await,
                    Some(Change::Connected) => {
                        (connected, due) = (true, None);
                        // Told after each catching up, also where the connection held.
                        if said.replace(true) != Some(true) {
                            self.tell(Event::Connected);
                        }
                        if !unsynced {
                            while_up(&link, &shutdown, async {
                                self.retry().await;
                                self.prune().await;
                            })
                            .await;
                        }
                    }
                    Some(Change::Disconnected(why)) => {
                        connected = false;
                        if said.replace(false) != Some(false) {
                            self.tell(Event::Disconnected(why));
                        }
                    }
                    Some(Change::Reset) => unsynced = true,
                    Some(Change::Missing) => {
                        (unsynced, connected) = (true, false);
                        self.say_trouble(BucketError::Missing(self.bucket.name().to_owned()).to_string());
                        if let Err(error) = self.ensure().await {
                            self.say_trouble(error.to_string());
                            changes = None;
                            due = Some(Instant::now() + backoff(&mut failures));
                        }
                    }
                    Some(Change::Trouble(text)) => self.say_trouble(text),
                    None => break,
                },
                Happened::PruneDue => {
                    self.prune_due = None;
                    while_up(&link, &shutdown, self.prune()).await;
                }
                Happened::Due => {
                    due = None;
                    if connected && !unsynced {
                        let before = self.dirty.len();
                        while_up(&link, &shutdown, self.retry()).await;
                        if self.dirty.len() < before || self.dirty.is_empty() {
                            failures = 0;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Tells what the directory does not let us see. What leads out of it is refused as a file that does is.
    fn trouble_with_source(&mut self, trouble: Trouble) {
        match &trouble {
            Trouble::Outside { path, to } => {
                let root = std::path::absolute(&self.options.dir).unwrap_or_default();
                let reason = format!("it leads out of the directory, to {}: {FOLLOW}", to.display());
                self.refuse_because(None, Some(path.strip_prefix(root).unwrap_or(path)), reason);
            }
            _ => self.tell(Event::Trouble(trouble.to_string())),
        }
    }

    /// Publishes what the directory tells, or keeps it for when a server is there.
    async fn batch(&mut self, batch: Batch, connected: bool) {
        for trouble in batch.troubles {
            self.trouble_with_source(trouble);
        }
        for over in batch.over {
            tracing::info!("over: {over}");
        }
        let mut candidates = Vec::new();
        // Without those that are to be published still, and were told of again.
        let mut changed = BTreeSet::new();
        let mut gone = Vec::new();
        let mut changes = batch.changes;
        changes.sort_by_key(|change| after_schemas(&change.path));
        for change in changes {
            match change.content {
                Content::Bytes(bytes) => {
                    let before = self.files.get(change.path.as_path()).and_then(|file| file.digest);
                    let Some(candidate) = self.candidate(&change.path, bytes, change.seen, true) else { continue };
                    if before != Some(candidate.document.digest()) {
                        changed.insert(candidate.path.clone());
                    }
                    candidates.push(candidate);
                }
                Content::Gone => gone.push(change.path),
                Content::Unreadable(reason) => self.unreadable(&change.path, &reason.to_string()),
            }
        }
        // What another schema allows, or does not allow any more, goes with it.
        for (path, observed) in self.look_again() {
            changed.insert(path.clone());
            candidates.extend(self.read_candidate(&path, observed));
        }
        // Noted before anything is waited for: whoever ends this early loses nothing.
        let set = self.join_set(changed, batch.cause == Cause::Event);
        // The rest of another set is not published without it.
        let waits = |path: &Path| !set.contains(path) && self.sets.iter().any(|set| set.contains(path));
        candidates.retain(|candidate| !waits(&candidate.path));
        for candidate in &candidates {
            self.dirty.insert(candidate.path.clone(), candidate.observed);
        }
        let some_gone = !gone.is_empty();
        let removed = self.gone(gone);
        // `git checkout` and `git pull` move HEAD just after they let go of the index.
        if batch.held
            && let Some(checkout) = &self.checkout
            && !candidates.iter().all(|it| self.commit(it).is_some())
        {
            let _ = checkout.settle(Self::SETTLE).await;
            candidates.iter_mut().for_each(|it| it.commit = None);
        }
        if connected {
            // What could not be published so far and belongs to it goes with it.
            for path in set.iter().filter(|path| !candidates.iter().any(|it| it.path == **path)).collect::<Vec<_>>() {
                let observed = self.dirty.get(path).copied().unwrap_or(false);
                candidates.extend(self.read_candidate(path, observed));
            }
            let (together, alone) = candidates.into_iter().partition(|it| set.contains(&it.path));
            self.publish(together, true).await;
            self.publish(alone, false).await;
            if some_gone {
                self.retry().await;
                self.prune().await;
            }
        }
        self.tell_removed(removed);
        self.look_at_head();
    }

    /// Reads a commit that was made since, in the background: no save waits for git.
    fn look_at_head(&mut self) {
        while self.background.try_join_next().is_some() {}
        if let Some(checkout) = self.checkout.clone().filter(|checkout| !checkout.is_current()) {
            self.background.spawn(async move {
                let _ = checkout.refresh().await;
            });
        }
    }

    /// Forgets files that are gone, and gives the keys of which it is to be told: those that a prune may still delete.
    fn gone(&mut self, paths: Vec<PathBuf>) -> Vec<Key> {
        let mut removed = Vec::new();
        for path in paths {
            let (key, freed) = self.forget(&path);
            removed.extend(key);
            // The file that it shared its key with has it for itself now; its content is what it was.
            if let Some(freed) = freed {
                self.dirty.entry(freed).or_insert(false);
            }
        }
        if self.options.prune {
            return removed;
        }
        self.tell_removed(removed);
        Vec::new()
    }

    fn tell_removed(&mut self, removed: Vec<Key>) {
        for key in removed {
            // A key that was pruned was told as deleted.
            if !self.claims.contains_key(&key) && self.published.get(&key).is_some_and(|key| key.digest.is_some()) {
                self.tell(Event::Removed { key });
            }
        }
    }

    /// Takes in what the bucket has told, without waiting: in a long sync that is an echo of each write, and what is
    /// left with the connection takes its memory. What is about more than one key is kept for after the sync, and so is
    /// all that comes later.
    pub(super) async fn hear(&mut self, changes: &mut Changes) {
        while self.heard.is_empty() {
            match changes.take() {
                Some(Change::Entry(entry)) => self.foreign(entry).await,
                Some(other) => self.heard.push_back(other),
                None => return,
            }
        }
    }

    /// Takes note of what was stored in the bucket, and says where it is not what the directory holds.
    async fn foreign(&mut self, entry: Box<Entry>) {
        let key = entry.key.clone();
        let known = self.published.get(&key);
        if known.is_some_and(|known| known.head >= entry.revision) {
            return;
        }
        let mut published = Published::of_head(&entry, &self.id);
        published.signed = self.bucket.is_signed(&entry);
        // What a loader wrote last is still that, unless a rollback asks for more of the history.
        if let (Some(known), Some(foreign)) = (known, &mut published.foreign)
            && entry.provenance.rollback_of.is_none()
        {
            foreign.base = known.base();
        }
        self.published.insert(key.clone(), published);
        if let Some(described) = key.described()
            && self.carried(described.clone(), &entry)
        {
            self.unjudged.extend(self.only_file(&described));
            self.look_again();
        }
        let Some(path) = self.only_file(&key) else { return };
        let Some(digest) = self.files.get(path.as_path()).filter(|file| !file.refused).and_then(|file| file.digest)
        else {
            return;
        };
        let mut step = decide(self.published.get(&key), digest, false, self.options.enforce);
        if step == Step::Read {
            if let Err(error) = self.read_key(&key).await {
                // Looked at again, and told then.
                self.dirty.entry(path).or_insert(false);
                return self.say_trouble(error.to_string());
            }
            step = decide(self.published.get(&key), digest, false, self.options.enforce);
        }
        match step {
            // Looked at again after a pause: two loaders that both enforce must not race each other. And where no loader
            // wrote what the file holds, it is published as it is at the start of one.
            Step::Publish(_) if self.options.enforce || entry.provenance.writer != Some(Writer::Loader) => {
                self.dirty.insert(path, false);
            }
            // Another loader's write is left to it: else two directories would overwrite each other without end.
            Step::Publish(_) | Step::Drift => {
                let Some((revision, by)) = self.published.get(&key).map(|key| (key.head, key.writer())) else {
                    return;
                };
                if self.drift.insert(key.clone(), revision) != Some(revision) {
                    self.tell(Event::Drift { key, revision, by });
                }
            }
            Step::Unchanged | Step::Read => {
                self.drift.remove(&key);
            }
        }
    }
}

/// What the loop was woken by.
enum Happened {
    Directory(Batch),
    Checked(Checked),
    Bucket(Option<Change>),
    Due,
    PruneDue,
    Link,
}

/// Carries `work` out for as long as a server is connected and nobody asks to stop; at least its first part, up to where
/// it waits. Its requests would each wait for their deadline, and nothing else would be told meanwhile.
async fn while_up<T>(link: &Receiver<Link>, shutdown: &CancellationToken, work: impl Future<Output = T>) -> Option<T> {
    let mut link = link.clone();
    tokio::select! {
        biased;
        done = work => Some(done),
        () = shutdown.cancelled() => None,
        _ = link.wait_for(|link| !link.up) => None,
    }
}

/// 100 ms, doubled up to [`Loader::PATIENCE`].
fn backoff(failures: &mut u32) -> Duration {
    let pause = Duration::from_millis(100 << (*failures).min(6)).min(Loader::PATIENCE);
    *failures += 1;
    pause
}
