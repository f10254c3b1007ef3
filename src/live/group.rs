//! Several keys in one process, over one connection and one subscription. What was published as one change set is checked
//! as one and swapped in as one: all of it, or none.
//!
//! A set is taken for one where the server stored it as one (an atomic batch, ADR-50); where it could not, its documents
//! are changes of their own, as they are in the bucket.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{Event, Origin, Rejection, RejectionKind, Serving, State, backoff, document_of, report, trusted};
use crate::document::Document;
use crate::kv::{
    Announcer, Bucket, BucketError, Change, Changes, Entry, Instance, Key, Operation, Pattern, Position, Revision,
};
use crate::secret::{self, Identities};
use crate::signature::Trust;

/// The keys of this process and their values, always the last good ones. Dropped, it stops following them.
pub struct Group<T> {
    shared: Arc<Shared<T>>,
    swapped: watch::Receiver<u64>,
    stop: CancellationToken,
    task: JoinSet<()>,
}

struct Shared<T> {
    serving: ArcSwap<Members<T>>,
    states: watch::Sender<BTreeMap<Key, State>>,
}

/// What serves of each key at one moment: never one half of a change set.
#[derive(Debug)]
pub struct Members<T>(BTreeMap<Key, Arc<Serving<T>>>);

impl<T> Members<T> {
    /// What serves of `key`.
    pub fn get(&self, key: &Key) -> Option<&Arc<Serving<T>>> {
        self.0.get(key)
    }

    /// Each key that has a value, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Arc<Serving<T>>)> {
        self.0.iter()
    }
}

type Made<T> = BoxFuture<'static, Result<T, Rejection>>;
type Make<T> = Arc<dyn Fn(Key, Option<Arc<Serving<T>>>, Document) -> Made<T> + Send + Sync>;
type Check<T> =
    Arc<dyn Fn(Arc<Members<T>>, Arc<Members<T>>) -> BoxFuture<'static, Result<(), Rejection>> + Send + Sync>;
type Observe = Arc<dyn Fn(Option<&Key>, &Event) + Send + Sync>;

/// How a [`Group`] is to be.
pub struct Builder<T> {
    bucket: Bucket,
    pattern: Pattern,
    make: Make<T>,
    trust: Option<Trust>,
    identities: Option<Arc<Identities>>,
    check: Option<Check<T>>,
    observe: Observe,
    instance: Option<Instance>,
}

impl<T: DeserializeOwned + Send + Sync + 'static> Group<T> {
    /// Values that are decoded from the documents of the keys that match `pattern`: `billing.>`, `*`.
    pub fn builder(bucket: &Bucket, pattern: &Pattern) -> Builder<T> {
        Group::made(bucket, pattern, |_, _, document| async move { Ok(document.decode()?) })
    }
}

impl<T: Send + Sync + 'static> Group<T> {
    /// Values that `make` builds from a key, what served of it before, and its new document.
    pub fn made<F, Built>(bucket: &Bucket, pattern: &Pattern, make: F) -> Builder<T>
    where
        F: Fn(Key, Option<Arc<Serving<T>>>, Document) -> Built + Send + Sync + 'static,
        Built: Future<Output = Result<T, Rejection>> + Send + 'static,
    {
        Builder {
            bucket: bucket.clone(),
            pattern: pattern.clone(),
            make: Arc::new(move |key, serving, document| Box::pin(make(key, serving, document))),
            trust: None,
            identities: None,
            check: None,
            observe: Arc::new(|_, _| {}),
            instance: None,
        }
    }

    /// What serves now. Lock-free, allocates nothing, never waits. Hold it briefly.
    pub fn load(&self) -> Guard<Arc<Members<T>>> {
        self.shared.serving.load()
    }

    /// What serves now, to keep.
    pub fn get(&self) -> Arc<Members<T>> {
        self.shared.serving.load_full()
    }

    /// What is known of each key that was ever seen, beside its value.
    pub fn states(&self) -> BTreeMap<Key, State> {
        self.shared.states.borrow().clone()
    }

    /// Waits for the next swap after the last one that this call told of. Several may be told as one.
    pub async fn changed(&mut self) {
        if self.swapped.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Stops following the keys, and tells those who wait for this instance that it left.
    pub async fn close(mut self) {
        self.stop.cancel();
        while self.task.join_next().await.is_some() {}
    }
}

impl<T: fmt::Debug> fmt::Debug for Group<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("serving", &*self.shared.serving.load()).finish_non_exhaustive()
    }
}

impl<T: Send + Sync + 'static> Builder<T> {
    /// As [`super::Builder::identities`], for each of the keys.
    pub fn identities(mut self, identities: Arc<Identities>) -> Builder<T> {
        self.identities = Some(identities);
        self
    }

    /// Lets the service have its say before anything is swapped in: all that serves, and all that would. Called once for
    /// each change set, and once for all that is there at the start.
    pub fn check<F, Checked>(mut self, check: F) -> Builder<T>
    where
        F: Fn(Arc<Members<T>>, Arc<Members<T>>) -> Checked + Send + Sync + 'static,
        Checked: Future<Output = Result<(), Rejection>> + Send + 'static,
    {
        self.check = Some(Arc::new(move |serving, new| Box::pin(check(serving, new))));
        self
    }

    /// As [`super::Builder::trust`], for each of the keys: of one that is not trusted, all that was published as one with it
    /// stays out. At the start it reads the history of each key, one after the other.
    pub fn trust(mut self, trust: Trust) -> Builder<T> {
        self.trust = Some(trust);
        self
    }

    /// Calls `observe` with each event and the key that it is about, if it is about one, in order, on the task that
    /// follows the keys: it must not block.
    pub fn observe(mut self, observe: impl Fn(Option<&Key>, &Event) + Send + Sync + 'static) -> Builder<T> {
        self.observe = Arc::new(observe);
        self
    }

    /// As [`super::Builder::announce`], for each of the keys.
    pub fn announce(mut self, instance: Instance) -> Builder<T> {
        self.instance = Some(instance);
        self
    }

    /// Starts to follow the keys. Must be called within a tokio runtime.
    pub fn start(self) -> Group<T> {
        let (swaps, swapped) = watch::channel(0);
        let shared = Arc::new(Shared {
            serving: ArcSwap::from_pointee(Members(BTreeMap::new())),
            states: watch::Sender::new(BTreeMap::new()),
        });
        let engine = Engine {
            shared: shared.clone(),
            swaps,
            builder: self,
            notes: BTreeMap::new(),
            held: Vec::new(),
            hold: Instant::now(),
            retries: Vec::new(),
            look: None,
            paced: false,
            missed: false,
            former: HashSet::new(),
        };
        let stop = CancellationToken::new();
        let mut task = JoinSet::new();
        task.spawn(engine.run(stop.clone()));
        Group { shared, swapped, stop, task }
    }
}

/// What is not for others to read of a key.
#[derive(Default)]
struct Note {
    announcer: Option<Announcer>,
    removed: bool,
    stepped_back: bool,
    /// The last revision that was applied.
    applied: Option<Position>,
}

/// Entries that are applied together or not at all: one, or the members of a change set that match.
type Unit = Vec<Entry>;

struct Retry {
    unit: Unit,
    attempts: u32,
    due: Instant,
}

struct Engine<T> {
    shared: Arc<Shared<T>>,
    swaps: watch::Sender<u64>,
    builder: Builder<T>,
    notes: BTreeMap<Key, Note>,
    /// Members of one change set that have come, while others may follow.
    held: Unit,
    /// Until when they are waited for.
    hold: Instant,
    /// Units that cannot be used at the moment.
    retries: Vec<Retry>,
    /// When to read all heads again, while a server is connected.
    look: Option<Instant>,
    /// Whether that is only because some time will have passed.
    paced: bool,
    /// Whether something was found then.
    missed: bool,
    /// Keys of the bucket that was there before this one, until it is known which of them are in this one.
    former: HashSet<Key>,
}

impl<T: Send + Sync + 'static> Engine<T> {
    /// The members of a set come in one go; one that is late was lost on the way, and is read.
    const HOLD: Duration = Duration::from_millis(10);
    /// A set is stored within this, its last member after its first.
    const SETTLE: Duration = Duration::from_millis(50);
    /// The pause after a read that failed.
    const PATIENCE: Duration = Duration::from_secs(1);

    async fn run(mut self, stop: CancellationToken) {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = self.follow() => {}
        }
        for (_, note) in std::mem::take(&mut self.notes) {
            if let Some(announcer) = note.announcer {
                announcer.goodbye().await;
            }
        }
    }

    async fn follow(&mut self) {
        let mut changes = Changes::quiet(&self.builder.bucket, &self.builder.pattern);
        loop {
            self.announce();
            let (now, hold, look) = (Instant::now(), self.hold, self.look);
            let retry = self.retries.iter().map(|retry| retry.due).min();
            tokio::select! {
                biased;
                change = changes.next() => match change {
                    Some(change) => self.change(change).await,
                    None => return,
                },
                () = sleep_until(hold), if !self.held.is_empty() => Box::pin(self.complete()).await,
                () = sleep_until(look.unwrap_or(now)), if look.is_some() => Box::pin(self.read_all()).await,
                () = sleep_until(retry.unwrap_or(now)), if retry.is_some() => Box::pin(self.retry()).await,
            }
        }
    }

    async fn change(&mut self, change: Change) {
        match change {
            Change::Entry(entry) => self.collect(*entry).await,
            Change::Connected => {
                (self.look, self.paced) = (Some(Instant::now()), false);
                self.update_all(|state| state.connected = true);
                self.tell(None, &Event::Connected);
            }
            Change::Disconnected(why) => {
                self.look = None;
                self.update_all(|state| state.connected = false);
                self.tell(None, &Event::Disconnected(why));
            }
            // Lower revisions are newer now.
            Change::Reset => {
                self.held.clear();
                self.retries.clear();
                self.notes.values_mut().for_each(|note| note.applied = None);
                self.former.extend(self.newest().into_keys());
                self.update_all(|state| state.newest = None);
            }
            Change::Missing => self.tell(None, &Event::Absent),
            Change::Trouble(what) => self.tell(None, &Event::Trouble(what)),
        }
    }

    /// Takes an entry that was just stored: at once, or with the rest of its set.
    async fn collect(&mut self, entry: Entry) {
        if entry.key.is_own() {
            return;
        }
        let newest = self.shared.states.borrow().get(&entry.key).and_then(|state| state.newest);
        let held = self.held.iter().rfind(|held| held.key == entry.key).map(|held| held.revision);
        if entry.previous_revision().is_some_and(|previous| previous != held.or(newest)) {
            // Something of this key was lost, or nothing was read yet.
            self.look_in(Duration::ZERO);
        }
        if self.held.first().is_some_and(|first| first.set_id() != entry.set_id()) {
            Box::pin(self.complete()).await;
        }
        match entry.provenance.set.as_ref().filter(|_| entry.set_id().is_some()).map(|set| set.members) {
            Some(members) => {
                self.held.push(entry);
                self.hold = Instant::now() + Self::HOLD;
                if self.held.len() >= members {
                    let unit = std::mem::take(&mut self.held);
                    self.offer(vec![unit], true).await;
                }
            }
            None => self.offer(vec![vec![entry]], true).await,
        }
    }

    /// Applies a set whose other members do not come: they do not match, or were lost.
    async fn complete(&mut self) {
        let held = std::mem::take(&mut self.held);
        let (Some(first), Some(set)) = (held.first(), held.first().and_then(|it| it.provenance.set.clone())) else {
            return;
        };
        match self.builder.bucket.members(&self.builder.pattern, &set, first.revision).await {
            Ok(unit) if !unit.is_empty() => self.offer(vec![unit], true).await,
            // Nothing of a set is applied as long as nobody knows the whole of it.
            Ok(_) | Err(_) => self.look_in(Self::PATIENCE),
        }
    }

    /// Reads the heads of all keys, and applies what is newer.
    async fn read_all(&mut self) {
        let bucket = self.builder.bucket.clone();
        let before = self.newest();
        let (units, told) = tokio::join!(self.heads(), bucket.describe());
        let paced = std::mem::take(&mut self.paced);
        match units {
            Ok(units) => {
                // What is found only because some time has passed should have been told.
                self.missed |= paced && self.has_news(&units);
                self.look = Some(Instant::now() + bucket.pace(told.ok().as_ref(), self.missed));
                self.paced = true;
                self.miss(&before, &units);
                self.offer(units, false).await;
            }
            Err(error) => {
                self.look = Some(Instant::now() + Self::PATIENCE);
                // What was lost on the way is told by the connection's own events.
                if !matches!(error, BucketError::Interrupted) {
                    self.tell(None, &Event::Trouble(error.to_string()));
                }
            }
        }
    }

    /// The newest revision of each key that has one.
    fn newest(&self) -> BTreeMap<Key, Revision> {
        let states = self.shared.states.borrow();
        states.iter().filter_map(|(key, state)| Some((key.clone(), state.newest?))).collect()
    }

    /// Tells of keys that have gone without a tombstone: they were known `before` what is there was listed.
    fn miss(&mut self, before: &BTreeMap<Key, Revision>, units: &[Unit]) {
        let there: HashSet<_> = units.iter().flatten().map(|entry| &entry.key).collect();
        let former = std::mem::take(&mut self.former);
        let now = self.newest();
        // What was stored since then need not be in the list.
        let same = before.iter().filter(|(key, revision)| now.get(key) == Some(revision)).map(|(key, _)| key);
        let gone: BTreeSet<_> = same.chain(former.iter().filter(|key| !now.contains_key(key))).collect();
        for key in gone.into_iter().filter(|key| !there.contains(key)) {
            self.update(key, |state| state.newest = None);
            self.tell(Some(key), &Event::Removed { revision: None });
        }
    }

    fn has_news(&self, units: &[Unit]) -> bool {
        let states = self.shared.states.borrow();
        let newest = |key: &Key| states.get(key).and_then(|state| state.newest);
        units.iter().flatten().any(|entry| newest(&entry.key) < Some(entry.revision))
    }

    /// Reads all heads again `pause` from now, where a server is connected.
    fn look_in(&mut self, pause: Duration) {
        self.look = self.look.map(|_| Instant::now() + pause);
        self.paced = false;
    }

    /// The heads of all keys, those of one change set together.
    ///
    /// A listing may run into the middle of a set that is being stored. A set that lacks members is looked at again until
    /// it has been seen so before: then they do not match, or newer revisions stand in their place.
    async fn heads(&self) -> Result<Vec<Unit>, BucketError> {
        let mut seen = HashSet::new();
        loop {
            let mut heads = Vec::new();
            self.builder.bucket.each_head(&self.builder.pattern, true, |entry| heads.push(entry)).await?;
            let mut units: Vec<Unit> = Vec::new();
            for entry in heads.into_iter().filter(|entry| !entry.key.is_own()) {
                match units.last_mut() {
                    // The members of a set stand side by side.
                    Some(unit) if entry.set_id().is_some() && unit[0].set_id() == entry.set_id() => unit.push(entry),
                    _ => units.push(vec![entry]),
                }
            }
            let short = |unit: &&Unit| {
                let set = unit[0].provenance.set.as_ref().filter(|_| unit[0].set_id().is_some());
                set.is_some_and(|set| unit.len() < set.members)
            };
            let short: HashSet<_> = units.iter().filter(short).filter_map(|unit| unit[0].set_id()).collect();
            if short.iter().all(|id| seen.contains(*id)) {
                return Ok(units);
            }
            seen = short.into_iter().map(str::to_owned).collect();
            sleep(Self::SETTLE).await;
        }
    }

    async fn retry(&mut self) {
        let now = Instant::now();
        let due: Vec<_> = self.retries.extract_if(.., |retry| retry.due <= now).collect();
        for retry in due {
            self.prove(vec![retry.unit], false, retry.attempts + 1).await;
        }
    }

    /// Applies the units that are news, in their order.
    async fn offer(&mut self, mut units: Vec<Unit>, live: bool) {
        let states = self.shared.states.borrow().clone();
        let known = |entry: &Entry| states.get(&entry.key).and_then(|state| state.newest) >= Some(entry.revision);
        for unit in &mut units {
            unit.retain(|entry| !known(entry));
        }
        units.retain(|unit| !unit.is_empty());
        let news: Vec<&Entry> = units.iter().flatten().collect();
        if news.is_empty() {
            return;
        }
        // What is not the newest any more is not tried again, and takes its set with it.
        self.retries.retain(|retry| !retry.unit.iter().any(|old| news.iter().any(|new| new.key == old.key)));
        for entry in news {
            let revision = entry.revision;
            self.update(&entry.key, |state| {
                state.newest = Some(revision);
                state.connected = true;
                state.confirmed_at = Some(Timestamp::now());
            });
        }
        self.prove(units, live, 0).await;
    }

    /// Builds and checks; swaps in what is good. Units that cannot be built stay out alone, the others are checked and
    /// swapped in together, and only if that is refused each by itself.
    async fn prove(&mut self, units: Vec<Unit>, live: bool, attempts: u32) {
        let mut good = Vec::new();
        for unit in units {
            let built = match self.vet(&unit, live && attempts == 0).await {
                Ok(()) => self.build(&unit).await,
                Err(untrusted) => Err(untrusted),
            };
            match built {
                Ok(built) => good.push((unit, built)),
                Err((at, rejection)) => self.reject(unit, at, rejection, attempts).await,
            }
        }
        if good.is_empty() {
            return;
        }
        let all = good.iter().flat_map(|(_, built)| built.iter().cloned());
        match self.check(all).await {
            Ok(new) => self.commit(new, good.iter().flat_map(|(unit, _)| unit), live),
            Err(rejection) if good.len() == 1 => {
                for (unit, _) in good {
                    self.reject(unit, None, rejection.clone(), attempts).await;
                }
            }
            Err(_) => {
                for (unit, built) in good {
                    match self.check(built.into_iter()).await {
                        Ok(new) => self.commit(new, unit.iter(), live),
                        Err(rejection) => self.reject(unit, None, rejection, attempts).await,
                    }
                }
            }
        }
    }

    /// Which of a unit's documents is not trusted, and why, if only trusted ones are to be used. None of a set is then.
    async fn vet(&self, unit: &Unit, live: bool) -> Result<(), (Option<Key>, Rejection)> {
        let Some(trust) = &self.builder.trust else { return Ok(()) };
        for entry in unit.iter().filter(|entry| entry.operation == Operation::Put) {
            let known = self.notes.get(&entry.key).and_then(|note| note.applied);
            let vetted = trusted::vet(&self.builder.bucket, trust, entry, entry.digest(), live, known);
            Box::pin(vetted).await.map_err(|rejection| (Some(entry.key.clone()), rejection))?;
        }
        Ok(())
    }

    /// The values of a unit's documents, or which of them cannot be used and why. What holds the bytes that serve is not
    /// built again.
    async fn build(&self, unit: &Unit) -> Result<Vec<(Key, Arc<Serving<T>>)>, (Option<Key>, Rejection)> {
        let mut built = Vec::new();
        for entry in unit.iter().filter(|entry| entry.operation == Operation::Put) {
            let (key, revision, digest) = (&entry.key, entry.revision, entry.digest());
            let serving = self.shared.serving.load().get(key).cloned();
            let at = |rejection| (Some(key.clone()), rejection);
            if let Some(serving) = serving.as_ref().filter(|serving| serving.digest == digest) {
                built.push((key.clone(), serving.clone()));
                continue;
            }
            let before = serving.as_ref().map(|serving| serving.document.format());
            let document = document_of(entry, before).map_err(|error| at(error.into()))?;
            let document = secret::open(document, self.builder.identities.as_deref());
            let document = document.map_err(|error| at(error.into()))?;
            let made = (self.builder.make)(key.clone(), serving, document.clone()).await;
            let value = made.map_err(|rejection| at(hidden(rejection, &document)))?;
            let new = Serving { value, revision, digest, document, applied_at: Timestamp::now() };
            built.push((key.clone(), Arc::new(new)));
        }
        Ok(built)
    }

    /// What would serve with `built` in its place, if the service agrees.
    async fn check(&self, built: impl Iterator<Item = (Key, Arc<Serving<T>>)>) -> Result<Arc<Members<T>>, Rejection> {
        let old = self.shared.serving.load_full();
        let mut new = old.0.clone();
        new.extend(built);
        let new = Arc::new(Members(new));
        if let Some(check) = &self.builder.check {
            // It was asked about all of them, and may name any.
            let documents = || new.iter().chain(old.iter()).map(|(_, serving)| &serving.document);
            check(old.clone(), new.clone()).await.map_err(|rejection| documents().fold(rejection, hidden))?;
        }
        Ok(new)
    }

    fn commit<'a>(&mut self, new: Arc<Members<T>>, entries: impl Iterator<Item = &'a Entry>, live: bool) {
        let at = Timestamp::now();
        self.shared.serving.store(new);
        let mut told: Vec<(&Key, Event)> = Vec::new();
        for entry in entries {
            let (revision, digest) = (entry.revision, entry.digest());
            let note = self.notes.entry(entry.key.clone()).or_default();
            note.removed = entry.operation == Operation::Delete;
            if note.removed {
                // Its last value is kept.
                self.update(&entry.key, |state| state.rejected = None);
                told.push((&entry.key, Event::Removed { revision: Some(revision) }));
                continue;
            }
            note.applied = Some(entry.position());
            // What was refused stays so while something older serves.
            let older = self.shared.states.borrow()[&entry.key].newest > Some(revision);
            note.stepped_back = older;
            self.update(&entry.key, |state| {
                (state.revision, state.digest) = (Some(revision), Some(digest));
                if !older {
                    state.rejected = None;
                }
            });
            let latency = entry.provenance.read_at.filter(|_| live);
            let latency = latency.map(|read_at| Duration::try_from(at.duration_since(read_at)).unwrap_or_default());
            told.push((&entry.key, Event::Applied { revision, digest, from: Origin::Server, latency, at }));
        }
        self.swaps.send_modify(|swaps| *swaps += 1);
        for (key, event) in told {
            self.tell(Some(key), &event);
        }
        self.announce();
    }

    /// Keeps a unit out: none of it is applied.
    async fn reject(&mut self, unit: Unit, at: Option<Key>, rejection: Rejection, attempts: u32) {
        for entry in unit.iter().filter(|entry| entry.operation == Operation::Put) {
            let reason = match &at {
                Some(at) if *at != entry.key => format!("published as one with {at}, of which: {}", rejection.reason),
                _ => rejection.reason.clone(),
            };
            let rejection = Rejection { kind: rejection.kind, reason };
            let (revision, digest) = (entry.revision, entry.digest());
            self.update(&entry.key, |state| state.rejected = Some((revision, rejection.clone())));
            let serving = self.shared.states.borrow().get(&entry.key).and_then(|state| state.revision);
            if attempts == 0 || rejection.kind == RejectionKind::Invalid {
                self.tell(Some(&entry.key), &Event::Rejected { revision, digest, rejection, serving });
            }
            if attempts == 0 && serving.is_none() {
                Box::pin(self.step_back(entry)).await;
            }
        }
        if rejection.kind == RejectionKind::Unavailable {
            self.retries.push(Retry { unit, attempts, due: Instant::now() + backoff(attempts) });
        }
    }

    /// Starts on the newest older revision that can be used, where the newest one was refused and nothing serves.
    async fn step_back(&mut self, refused: &Entry) {
        let key = &refused.key;
        let older = match trusted::older(&self.builder.bucket, self.builder.trust.as_ref(), refused).await {
            Ok(older) => older,
            Err(error) => {
                let text = format!("cannot read older revisions of {key} to start on: {error}");
                return self.tell(Some(key), &Event::Trouble(text));
            }
        };
        for entry in older {
            let unit = vec![entry];
            let Ok(built) = self.build(&unit).await else { continue };
            let Ok(new) = self.check(built.into_iter()).await else { continue };
            return self.commit(new, unit.iter(), false);
        }
    }

    /// Tells who asks what this process runs of each key.
    fn announce(&mut self) {
        let Some(instance) = &self.builder.instance else { return };
        for (key, state) in self.shared.states.borrow().iter() {
            let note = self.notes.entry(key.clone()).or_default();
            let announcer =
                note.announcer.get_or_insert_with(|| Announcer::start(&self.builder.bucket, key, instance.clone()));
            announcer.tell(report(state, note.removed, note.stepped_back));
        }
    }

    fn update(&self, key: &Key, change: impl FnOnce(&mut State)) {
        self.shared.states.send_modify(|states| change(states.entry(key.clone()).or_default()));
    }

    fn update_all(&self, change: impl Fn(&mut State)) {
        self.shared.states.send_modify(|states| states.values_mut().for_each(&change));
    }

    fn tell(&self, key: Option<&Key>, event: &Event) {
        (self.builder.observe)(key, event);
    }
}

/// A rejection without the secrets of `document`.
fn hidden(Rejection { kind, reason }: Rejection, document: &Document) -> Rejection {
    Rejection { kind, reason: document.hide(&reason) }
}
