//! Makes the bucket hold what a directory holds: once at start, then with each finished save.
//!
//! What is to be done about a file is decided in [`decide`]; the loop here carries it out, waits for a server that is
//! away, and tells what happened.

mod ahead;
mod checks;
mod plan;
mod run;
mod schemas;
mod sync;

use std::collections::hash_map::Entry::{Occupied, Vacant};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use jiff::Timestamp;
use tokio::task::JoinSet;

use crate::checkout::Checkout;
use crate::document::guard::{self, Extent, Suspicion};
use crate::document::{Digest, Document, ParseError, Role};
use crate::kv::{
    Bucket, BucketError, Change, ChangeSet, Entry, Expect, Key, Operation, Provenance, Revision, Settings, Write,
    Writer,
};
use crate::source::{Source, SourceError};

use ahead::Ahead;
use checks::Checks;
use schemas::Schemas;

pub use checks::Check;
pub use plan::{Base, Foreign, Published, Step, decide, may_prune};

/// How a loader is to work.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// The directory.
    pub dir: PathBuf,
    /// How the bucket is made where there is none.
    pub settings: Settings,
    /// Delete the key of a file that is gone.
    pub prune: bool,
    /// Prune as many as there are.
    pub prune_any: bool,
    /// The directory wins over what others wrote.
    pub enforce: bool,
    /// Take an empty file for an empty document, and an empty directory for one that lost all its files.
    pub allow_empty: bool,
    /// Read what symlinks lead to outside of the directory too.
    pub follow_outside: bool,
    /// Publish what looks like an accident too ([`guard`]).
    pub force: bool,
    /// The operator's own say before a document is published.
    pub check: Option<Check>,
    /// Only say what would be done.
    pub dry_run: bool,
    /// Period of the sweep.
    pub poll: Duration,
    /// The author of what git knows no author of.
    pub author: Option<String>,
    /// This machine's name: part of the directory's identity where it is not a git checkout with a remote.
    pub host: String,
}

impl Options {
    /// The defaults, for `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Options {
        Options {
            dir: dir.into(),
            settings: Settings::default(),
            prune: false,
            prune_any: false,
            enforce: false,
            allow_empty: false,
            follow_outside: false,
            force: false,
            check: None,
            dry_run: false,
            poll: Duration::from_secs(30),
            author: None,
            host: String::new(),
        }
    }
}

/// What happened, in order.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The first sync begins, over so many files.
    Syncing {
        /// Documents in the directory.
        files: usize,
    },
    /// The watches are armed and the first sync is stored.
    Ready {
        /// Documents in the directory.
        files: usize,
    },
    /// A file was stored.
    Published {
        /// Its key.
        key: Key,
        /// What it became.
        revision: Revision,
        /// Digest of its bytes.
        digest: Digest,
        /// The file, relative to the directory.
        path: PathBuf,
        /// The change set it belongs to.
        set: Option<ChangeSet>,
        /// From the first word of the change to the server's acknowledgement.
        took: Duration,
    },
    /// A file holds what the bucket holds.
    Unchanged {
        /// Its key.
        key: Key,
        /// The head.
        revision: Revision,
        /// Digest of its bytes.
        digest: Digest,
        /// The file.
        path: PathBuf,
    },
    /// A file, or a step, was refused; what was published last stays.
    Refused {
        /// The key, where there is one.
        key: Option<Key>,
        /// The file, where it is about one.
        path: Option<PathBuf>,
        /// What is wrong, and where.
        refusal: Refusal,
    },
    /// A file is gone; its key is left alone.
    Removed {
        /// Its key.
        key: Key,
    },
    /// A file is gone, and its key was deleted.
    Deleted {
        /// Its key.
        key: Key,
        /// The tombstone.
        revision: Revision,
    },
    /// Somebody else changed the key; the file is not put over it.
    Drift {
        /// The key.
        key: Key,
        /// The head.
        revision: Revision,
        /// Who wrote it.
        by: Option<Writer>,
    },
    /// A dry run would publish the file.
    WouldPublish {
        /// Its key.
        key: Key,
        /// The head that it would replace.
        over: Option<Revision>,
        /// Digest of its bytes.
        digest: Digest,
        /// The file.
        path: PathBuf,
    },
    /// A dry run would delete the key.
    WouldDelete {
        /// The key.
        key: Key,
    },
    /// A server is connected.
    Connected,
    /// No server is connected; why, where anybody said.
    Disconnected(Option<String>),
    /// Something needs a person's eye, and the loader goes on.
    Trouble(String),
}

/// Why a file, or a step, was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The line, counted from 1, where there is one.
    pub line: Option<u32>,
    /// The column in characters, counted from 1, where there is one.
    pub column: Option<u32>,
    /// One line.
    pub reason: String,
}

impl From<ParseError> for Refusal {
    fn from(error: ParseError) -> Refusal {
        Refusal { line: error.line, column: error.column, reason: error.reason }
    }
}

/// Why a loader cannot start, or a single sync did not finish.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoaderError {
    /// The directory.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The bucket.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// Writes that are neither stored nor refused.
    #[error("{0} of the documents were not stored")]
    Unfinished(usize),
}

/// What a single sync came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Files stored, or that would be.
    pub published: usize,
    /// Keys deleted, or that would be.
    pub deleted: usize,
    /// Files that hold what the bucket holds.
    pub unchanged: usize,
    /// Files and steps refused.
    pub refused: usize,
    /// Keys that others changed.
    pub drifted: usize,
}

type Observe = Box<dyn FnMut(&Event) + Send>;

/// A directory and the bucket that is to hold what it holds.
pub struct Loader {
    bucket: Bucket,
    options: Options,
    source: Source,
    checkout: Option<Arc<Checkout>>,
    /// Which directory this is, whoever runs the loader and whenever (`Confhot-Source`).
    id: String,
    observe: Observe,
    /// By path, which is the source's own: there may be 100,000 of them.
    files: HashMap<Arc<Path>, File>,
    /// Which file claims a key.
    claims: HashMap<Key, Arc<Path>>,
    /// All that do, where they are more than one: they are refused.
    rivals: HashMap<Key, BTreeSet<Arc<Path>>>,
    published: HashMap<Key, Published>,
    /// Files to look at again when a server is there, and whether a change of theirs was observed.
    dirty: BTreeMap<PathBuf, bool>,
    /// Those of them that changed together, and go as one.
    sets: Vec<BTreeSet<PathBuf>>,
    /// Writes of which nobody knows whether they were stored: the revision that each built on, and its digest.
    sent: HashMap<Key, (u64, Digest)>,
    /// Drift that was told: the head's revision.
    drift: HashMap<Key, Revision>,
    schemas: Schemas,
    ahead: Ahead,
    checks: Checks,
    /// Files whose schema is another one since they were looked at.
    unjudged: BTreeSet<PathBuf>,
    /// When keys were pruned, for as long as it counts as at once.
    pruned: Vec<Instant>,
    /// When a key may be pruned that was one too many at once.
    prune_due: Option<Instant>,
    /// The last refusal to prune that was told.
    told_prune: Option<String>,
    /// Whether it was told how the bucket differs from one that confhot makes.
    told_differences: bool,
    /// What a person was told last that does not work.
    trouble: Option<String>,
    /// Whether the bucket stores several writes as one.
    atomic: bool,
    /// What the bucket told during a sync, for after it.
    heard: VecDeque<Change>,
    /// Reads of git that no save waits for.
    background: JoinSet<()>,
    summary: Summary,
}

/// What is known of a file.
#[derive(Debug, Clone, Default)]
struct File {
    key: Option<Key>,
    /// Digest of the bytes that were read last, good or not.
    digest: Option<Digest>,
    /// Whether the last bytes were refused.
    refused: bool,
    /// Whether they were an observed change, which they still are when the schema that refused them is another one.
    refused_change: bool,
    /// Whether it could not be read the last time, so that nobody knows what it held then.
    unread: bool,
}

/// A file that is to be stored, and what it would replace.
struct Candidate {
    path: PathBuf,
    key: Key,
    document: Document,
    seen: SystemTime,
    observed: bool,
    /// The commit that holds it, where that was looked for already.
    commit: Option<Option<String>>,
}

/// Whether a loader reads a file of this name: documents and their schemas.
fn is_wanted(name: &str) -> bool {
    Role::of(name) != Role::Ignored
}

/// What a file is, by its name.
fn role(path: &Path) -> Role {
    path.file_name().and_then(|name| name.to_str()).map_or(Role::Ignored, Role::of)
}

/// Whether a file comes after the schemas, which may decide about it.
fn after_schemas(path: &Path) -> bool {
    role(path) != Role::Schema
}

impl Loader {
    /// Opens the directory and arms its watches. `observe` is called with each event, in order.
    ///
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`LoaderError::Source`] where the directory cannot be read.
    pub async fn open(
        bucket: Bucket,
        options: Options,
        observe: impl FnMut(&Event) + Send + 'static,
    ) -> Result<Loader, LoaderError> {
        let checkout = Checkout::discover(&options.dir).map(Arc::new);
        let ahead = Ahead::default();
        let source = Source::open(
            &options.dir,
            crate::source::Options {
                poll: options.poll,
                wanted: is_wanted,
                hold_while: checkout.as_ref().map(|checkout| checkout.index_lock()),
                ahead: Some(ahead.work(options.allow_empty)),
                outside: options.follow_outside,
            },
        )?;
        if let Some(checkout) = &checkout
            && let Err(error) = checkout.refresh().await
        {
            tracing::debug!(%error, "no provenance from git");
        }
        let id = directory_id(&options, checkout.as_deref());
        let checks = Checks::new(options.check.clone());
        Ok(Loader {
            bucket,
            options,
            source,
            checkout,
            id,
            observe: Box::new(observe),
            files: HashMap::new(),
            claims: HashMap::new(),
            rivals: HashMap::new(),
            published: HashMap::new(),
            dirty: BTreeMap::new(),
            sets: Vec::new(),
            sent: HashMap::new(),
            drift: HashMap::new(),
            schemas: Schemas::default(),
            ahead,
            checks,
            unjudged: BTreeSet::new(),
            pruned: Vec::new(),
            prune_due: None,
            told_prune: None,
            told_differences: false,
            trouble: None,
            atomic: false,
            heard: VecDeque::new(),
            background: JoinSet::new(),
            summary: Summary::default(),
        })
    }

    fn tell(&mut self, event: Event) {
        match &event {
            Event::Published { .. } | Event::WouldPublish { .. } => self.summary.published += 1,
            Event::Deleted { .. } | Event::WouldDelete { .. } => self.summary.deleted += 1,
            Event::Unchanged { .. } => self.summary.unchanged += 1,
            Event::Refused { .. } => self.summary.refused += 1,
            Event::Drift { .. } => self.summary.drifted += 1,
            _ => {}
        }
        (self.observe)(&event);
    }

    fn refuse(&mut self, key: Option<Key>, path: Option<&Path>, refusal: Refusal) {
        if let Some(path) = path {
            self.dirty.remove(path);
            if let Some(file) = self.files.get_mut(path) {
                file.refused = true;
            }
        }
        self.tell(Event::Refused { key, path: path.map(Path::to_owned), refusal });
    }

    fn refuse_because(&mut self, key: Option<Key>, path: Option<&Path>, reason: impl Into<String>) {
        self.refuse(key, path, Refusal { line: None, column: None, reason: reason.into() });
    }

    /// Whether a file is alone with its key.
    fn claim(&mut self, path: &Path) -> bool {
        if !self.files.contains_key(path) {
            self.note(path.into());
        }
        let key = self.files.get(path).and_then(|file| file.key.as_ref());
        key.is_some_and(|key| !self.rivals.contains_key(key))
    }

    /// Takes note of a new file: gives it its key, or says why it has none.
    fn note(&mut self, path: Arc<Path>) {
        let mut key = Key::from_path(&path);
        // Renamed, as far as one can tell: the one that had the key before is no rival, and its end is told later.
        if let Ok(key) = &key
            && let Some(before) = self.only_file(key)
            && self.source.is_absent(&before)
        {
            self.forget(&before);
        }
        if let Ok(key) = &mut key
            && let Some((known, _)) = self.published.get_key_value(key)
        {
            // The same text, kept once.
            key.clone_from(known);
        }
        self.files.insert(path.clone(), File { key: key.as_ref().ok().cloned(), ..File::default() });
        match key {
            Ok(key) => match self.claims.entry(key) {
                Vacant(free) => {
                    free.insert(path);
                }
                Occupied(taken) => {
                    let rivals = self.rivals.entry(taken.key().clone()).or_default();
                    rivals.extend([taken.get().clone(), path]);
                }
            },
            Err(error) => self.refuse_because(None, Some(&path), error.reason),
        }
    }

    /// Refuses the files that claim one key, naming them all.
    fn refuse_rivals(&mut self, key: &Key) {
        let Some(paths) = self.rivals.get(key).cloned() else { return };
        let named: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
        let reason = format!("{} are all of the key `{key}`: keep one", named.join(" and "));
        for path in &paths {
            if !self.files.get(path).is_some_and(|file| file.refused) {
                self.refuse_because(Some(key.clone()), Some(path), reason.clone());
            }
        }
    }

    /// Forgets a file that is gone, and gives the file that it shared its key with, if one is left alone with it.
    fn forget(&mut self, path: &Path) -> (Option<Key>, Option<PathBuf>) {
        self.dirty.remove(path);
        self.unjudged.remove(path);
        self.checks.forget(path);
        let Some(key) = self.files.remove(path).and_then(|file| file.key) else { return (None, None) };
        if let Some(described) = key.described() {
            self.schemas.file_gone(&described);
        }
        let Some(paths) = self.rivals.get_mut(&key) else {
            self.claims.remove(&key);
            return (Some(key), None);
        };
        paths.remove(path);
        let Some(first) = paths.first().cloned() else { return (Some(key), None) };
        let alone = (paths.len() == 1).then(|| first.to_path_buf());
        if alone.is_some() {
            self.rivals.remove(&key);
        }
        self.claims.insert(key, first);
        (None, alone)
    }

    /// Takes a file's bytes: a candidate for publishing, or nothing where it is refused or, if `observed`, holds what it
    /// held: a touch is no change, and what was refused was said.
    fn candidate(&mut self, path: &Path, bytes: Bytes, seen: SystemTime, observed: bool) -> Option<Candidate> {
        let alone = self.claim(path);
        // Before what is parsed elsewhere is waited for.
        let commit = observed.then(|| self.commit_of(path, &bytes));
        let ahead = self.ahead.take(path, &bytes);
        let digest = ahead.as_ref().map_or_else(|| Digest::of(&bytes), |ahead| ahead.digest);
        let file = self.files.get_mut(path)?;
        let before = file.digest.replace(digest);
        let same = before == Some(digest);
        let unread = std::mem::take(&mut file.unread);
        let Some(key) = file.key.clone() else {
            self.dirty.remove(path);
            return None;
        };
        if !alone {
            self.dirty.remove(path);
            self.refuse_rivals(&key);
            return None;
        }
        let kept = self.dirty.get(path).copied();
        if observed && same && !unread && kept.is_none() {
            return None;
        }
        // What can be read again did not change for that, unless it did before anybody could be told.
        let changed = !(same || unread && before.is_none());
        let observed = observed && (changed || kept.unwrap_or(false));
        file.refused = false;
        file.refused_change = observed;
        self.unjudged.remove(path);
        let parsed = match ahead {
            Some(ahead) => ahead.document,
            None => ahead::parse(role(path), bytes, digest, self.options.allow_empty),
        };
        match parsed.and_then(|document| self.judged(&key, document)) {
            Ok(document) => Some(Candidate { path: path.to_owned(), key, document, seen, observed, commit }),
            Err(error) => {
                self.refuse(Some(key), Some(path), error.into());
                None
            }
        }
    }

    /// The document, or the schema, that a file holds, if it may be published. A schema stands from then on.
    fn judged(&mut self, key: &Key, document: Document) -> Result<Document, ParseError> {
        match key.described() {
            Some(described) => {
                if self.schemas.of_file(described.clone(), &document)? {
                    self.unjudged.extend(self.only_file(&described));
                }
            }
            None => {
                document.refuse_hidden()?;
                self.schemas.judge(key, &document)?;
            }
        }
        Ok(document)
    }

    /// The file that has `key` for itself.
    fn only_file(&self, key: &Key) -> Option<PathBuf> {
        self.claims.get(key).filter(|_| !self.rivals.contains_key(key)).map(|path| path.to_path_buf())
    }

    /// Documents in the directory; schemas and files without a key are none.
    fn documents(&self) -> usize {
        self.files.keys().filter(|path| role(path) != Role::Schema).count()
    }

    fn commit_of(&self, path: &Path, bytes: &[u8]) -> Option<String> {
        self.checkout.as_ref()?.commit_of(path, bytes)
    }

    /// The commit that holds a candidate.
    fn commit(&self, candidate: &Candidate) -> Option<String> {
        let looked_for = candidate.commit.clone();
        looked_for.unwrap_or_else(|| self.commit_of(&candidate.path, candidate.document.bytes()))
    }

    fn write(&self, candidate: &Candidate, expect: Expect, set: Option<&ChangeSet>) -> Write {
        let document = &candidate.document;
        let checkout = self.checkout.as_deref();
        let mut provenance = Provenance::by(Writer::Loader);
        provenance.format = Some(document.format());
        provenance.author = checkout.and_then(Checkout::author).or_else(|| self.options.author.clone());
        provenance.commit = self.commit(candidate);
        provenance.path = Some(candidate.path.display().to_string());
        provenance.source = Some(self.id.clone());
        provenance.read_at = Timestamp::try_from(candidate.seen).ok();
        provenance.set = set.cloned();
        Write::put(candidate.key.clone(), document.bytes().clone(), document.digest(), provenance, expect)
    }

    /// What is to be done about a file whose key's history is read where that is needed; none where the change looks like
    /// an accident and was refused for that.
    async fn step(&mut self, candidate: &Candidate) -> Result<Option<Step>, BucketError> {
        let digest = candidate.document.digest();
        let enforce = self.options.enforce;
        let mut step = decide(self.published.get(&candidate.key), digest, candidate.observed, enforce);
        if step == Step::Read {
            self.read_key(&candidate.key).await?;
            step = decide(self.published.get(&candidate.key), digest, candidate.observed, enforce);
        }
        if matches!(step, Step::Publish(_))
            && let Some(suspicion) = self.suspicion(candidate).await?
        {
            let reason = format!("{suspicion}: not published without --force");
            self.refuse_because(Some(candidate.key.clone()), Some(&candidate.path), reason);
            return Ok(None);
        }
        Ok(Some(step))
    }

    /// What makes a candidate look like an accident beside what is published.
    async fn suspicion(&mut self, candidate: &Candidate) -> Result<Option<Suspicion>, BucketError> {
        let Some(published) = self.published.get(&candidate.key) else { return Ok(None) };
        let after = candidate.document.extent();
        // What a loader published before is no accident now.
        let before = Base::Loader(Some(candidate.document.digest()));
        let (empty, large) = (after.keys == 0 && !self.options.allow_empty, after.bytes > guard::SMALL);
        if self.options.force || published.digest.is_none() || published.base() == before || !(empty || large) {
            return Ok(None);
        }
        // How many keys it has is not known of what is published, and is seldom asked.
        let keys = match empty {
            true => self.bucket.head(&candidate.key).await?.map_or(0, |head| keys_of(&head)),
            false => 0,
        };
        Ok(guard::suspicion(Extent { bytes: published.size, keys }, after))
    }

    /// Reads all that the bucket retains of a key, from the leader.
    async fn read_key(&mut self, key: &Key) -> Result<(), BucketError> {
        let history = self.bucket.history(key).await?;
        if let Some(&(after, digest)) = self.sent.get(key)
            && let mut since = history.iter().take_while(|entry| entry.revision.0 > after)
            && since.any(|entry| Published::of_head(entry, &self.id).is_ours(digest))
        {
            self.sent.remove(key);
            // The change was stored, only its acknowledgement was lost: what came after it was meant to.
            if let Some(path) = self.only_file(key)
                && self.files.get(path.as_path()).is_some_and(|file| file.digest == Some(digest))
                && let Some(observed) = self.dirty.get_mut(&path)
            {
                *observed = false;
            }
        }
        match Published::of_history(&history, &self.id) {
            Some(published) => {
                let signed = self.bucket.is_signed(&history[0]);
                self.published.insert(key.clone(), Published { signed, ..published })
            }
            None => self.published.remove(key),
        };
        Ok(())
    }

    /// Tells that a file needs no writing, and why.
    fn leave(&mut self, candidate: &Candidate, step: &Step) {
        let key = candidate.key.clone();
        self.dirty.remove(&candidate.path);
        let Some(published) = self.published.get(&key) else { return };
        let (revision, by) = (published.head, published.writer());
        match step {
            Step::Unchanged => {
                self.drift.remove(&key);
                let (digest, path) = (candidate.document.digest(), candidate.path.clone());
                self.tell(Event::Unchanged { key, revision, digest, path });
            }
            Step::Drift if self.drift.insert(key.clone(), revision) != Some(revision) => {
                self.tell(Event::Drift { key, revision, by });
            }
            _ => {}
        }
    }

    /// Takes note of a write that the server stored.
    fn stored(&mut self, write: &Write, revision: Revision) {
        let key = write.key.clone();
        self.drift.remove(&key);
        let digest = (write.operation == Operation::Put).then_some(write.digest);
        // Its own echo, or a later write by somebody else, may have come first.
        if self.published.get(&key).is_none_or(|known| known.head < revision) {
            self.published.insert(key.clone(), Published::by_us(revision, digest, write.value.len()));
        }
        let Provenance { path, read_at, set, .. } = &write.provenance;
        match (digest, path) {
            (Some(digest), Some(path)) => {
                let path = PathBuf::from(path);
                self.dirty.remove(&path);
                let took = read_at.map_or(Duration::ZERO, |at| Timestamp::now().duration_since(at).unsigned_abs());
                self.tell(Event::Published { key, revision, digest, path, set: set.clone(), took });
            }
            _ => self.tell(Event::Deleted { key, revision }),
        }
    }
}

/// How many keys a stored document has, as far as it can be read.
fn keys_of(entry: &Entry) -> usize {
    let document = match entry.provenance.format {
        Some(format) => Document::parse_or_empty(entry.value.clone(), format),
        None => Document::detect(entry.value.clone()),
    };
    document.map_or(0, |document| document.extent().keys)
}

/// Which directory this is: the repository and the place in it, where it has a remote; else the machine and the path.
fn directory_id(options: &Options, checkout: Option<&Checkout>) -> String {
    let named = checkout.and_then(Checkout::identity).unwrap_or_else(|| {
        let path = std::fs::canonicalize(&options.dir).unwrap_or_else(|_| options.dir.clone());
        format!("{}:{}", options.host, path.display())
    });
    // Sixteen digits tell directories apart; the remote's URL may hold a password.
    Digest::of(named.as_bytes()).to_string()["sha256:".len()..][..16].to_owned()
}
