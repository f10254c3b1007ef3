//! A directory as a stream of content changes: "this path now has these bytes", "this path is gone".
//!
//! The kernel's events say *where* to look and whether a save is finished; what is told is always what is on disk. A
//! rename into place and a close after writing are read at once, a bare write when it has held still for two seconds.
//! Lost events, and mounts that tell nothing, are covered by a sweep that compares fingerprints (inode, size, ctime).
//!
//! - `events`: the kernel's events, coalesced (the only user of `notify`)
//! - `disk`: listing, following symlinks and reading, without state
//! - `tree`: what is known, and what an event means for it
//! - `pending`: what must hold still, or stay away, before it is told
//! - `sweep`: the listing of everything, in portions
//!
//! Tested on Linux. Elsewhere `notify`'s other back ends tell less, and the stillness and the sweep do the rest.

mod disk;
mod events;
mod pending;
mod sweep;
#[cfg(test)]
mod tests;
mod tree;
mod trouble;

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use tokio::time::Instant;

pub(crate) use self::disk::FOLLOW;
pub use self::trouble::Trouble;
use self::{
    disk::Read,
    pending::STILL,
    sweep::Sweep,
    tree::{How, Told, Tree},
};

/// Times that a batch looks at the queue again before it is told: enough for a burst that goes on, and an end to it.
const ROUNDS: usize = 4;

/// Documents read before other tasks get a turn, and told at once when nothing says that they belong together.
const PORTION: usize = 64;

/// For so long after a sweep found what the kernel had not told, the kernel is not relied on.
const DOUBT: Duration = Duration::from_secs(3_600);

/// The longest wait for a lock without going to sleep.
const SOON: Duration = Duration::from_micros(100);

/// How a directory is watched.
#[derive(Debug, Clone)]
pub struct Options {
    /// Time from the end of one sweep to the start of the next. Longer in a large directory for as long as the kernel is
    /// seen to tell of it: a sweep then takes at most a third of a percent of a core on the mean.
    pub poll: Duration,
    /// Whether a file of this name is a document. Names that start with a dot are never asked for.
    pub wanted: fn(&str) -> bool,
    /// While this file exists, and at most 2 s, changes are held, and then told together: git's `index.lock`. Its
    /// directory must exist when the source is opened.
    pub hold_while: Option<PathBuf>,
    /// What can be done with a save before it is told.
    pub ahead: Option<Ahead>,
    /// Whether symlinks may lead out of the directory. Where not, what is there is not read.
    pub outside: bool,
}

/// What is done with a finished save ahead of the batch that tells of it, on the thread that takes the kernel's events:
/// called with the real path and the bytes of a small file, where it is the only one. It must be quick, and what it is called
/// with may never be told, or not as it was then.
#[derive(Clone)]
pub struct Ahead(Arc<Work>);

type Work = dyn Fn(&Path, Bytes) + Send + Sync;

impl Ahead {
    /// Has `work` done.
    pub fn new(work: impl Fn(&Path, Bytes) + Send + Sync + 'static) -> Ahead {
        Ahead(Arc::new(work))
    }
}

impl fmt::Debug for Ahead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ahead")
    }
}

impl Options {
    /// Sweeps every 30 s, holds nothing, does nothing ahead, and stays in the directory.
    pub fn new(wanted: fn(&str) -> bool) -> Self {
        Options { poll: Duration::from_secs(30), wanted, hold_while: None, ahead: None, outside: false }
    }
}

/// Why a directory cannot be a source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// It is not there, is not a directory, or may not be listed.
    #[error("`{}` cannot be read", path.display())]
    Unreadable {
        /// The directory as it was given.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// What changed together.
#[derive(Debug)]
pub struct Batch {
    /// Each path once, sorted. Empty where only troubles are told.
    pub changes: Vec<Change>,
    /// What brought them up.
    pub cause: Cause,
    /// Whether they were made while [`Options::hold_while`] existed, by what is probably one operation.
    pub held: bool,
    /// What cannot be seen from now on; each is said once.
    pub troubles: Vec<Trouble>,
    /// Troubles that were told and are over.
    pub over: Vec<Trouble>,
}

/// Whether changes that were told together were made together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The kernel told, in one go: one change set.
    Event,
    /// A sweep found them, whenever they were made.
    Sweep,
}

/// A path whose content may have changed.
#[derive(Debug)]
pub struct Change {
    /// Relative to the source's directory.
    pub path: PathBuf,
    /// What is there now.
    pub content: Content,
    /// When the kernel's event was taken, or a sweep met it.
    pub seen: SystemTime,
}

/// What is at a path.
#[derive(Debug)]
pub enum Content {
    /// A file, whole.
    Bytes(Bytes),
    /// Nothing, for at least two seconds, in a directory that could be looked at.
    Gone,
    /// Something that cannot be read: no permission, a symlink that leads nowhere or back to itself, not a regular file,
    /// larger than any message (64 MiB). Told again only when the file or the reason changes.
    Unreadable(io::Error),
}

/// A directory, watched.
///
/// Holds no content; a document costs about 150 bytes.
#[derive(Debug)]
pub struct Source {
    tree: Tree,
    poll: Duration,
    sweep: Option<Running>,
    sweep_at: Instant,
    hold: Hold,
    /// A write to the lock file was told since the last batch: what is ready belongs to its operation.
    under_lock: bool,
}

/// A sweep under way, when it began and with which stamp, and the troubles it has met.
#[derive(Debug)]
struct Running {
    sweep: Sweep,
    began: Instant,
    stamp: u32,
    found: Vec<Trouble>,
}

/// A lock that is held for some microseconds. To fall asleep for it and to be woken takes longer than that.
pub(crate) fn lock_soon<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    let began = std::time::Instant::now();
    loop {
        match mutex.try_lock() {
            Ok(guard) => return guard,
            Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
            Err(TryLockError::WouldBlock) if began.elapsed() < SOON => std::hint::spin_loop(),
            Err(TryLockError::WouldBlock) => return mutex.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }
}

/// What a lock file makes us do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hold {
    /// Nothing: there is none.
    Free,
    /// It exists, and nothing has changed yet.
    Idle,
    /// Changes are held until it is gone, at the latest then.
    Until(Instant),
    /// It outlived the two seconds; it may have been left behind.
    Stale,
}

/// From the end of a sweep that took so long to the start of the next; `told_of` is whether the kernel can be relied on.
fn pause(poll: Duration, took: Duration, told_of: bool) -> Duration {
    // A sweep works on two threads, so that this is at most a third of a percent of a core.
    let rest = (took * 600).min(Duration::from_secs(600));
    if told_of { poll.max(rest) } else { poll }
}

impl Source {
    /// Arms the watches, then lists. Blocks for the time of one listing. `dir` may be, or pass through, a symlink.
    ///
    /// # Errors
    /// [`SourceError::Unreadable`] if the directory itself cannot be listed; what is wrong deeper is told as a
    /// [`Trouble`].
    ///
    /// # Panics
    /// Outside of a tokio runtime with its clock enabled.
    pub fn open(dir: &Path, options: Options) -> Result<Source, SourceError> {
        let unreadable = |source| SourceError::Unreadable { path: dir.to_owned(), source };
        let root = std::path::absolute(dir).map_err(unreadable)?;
        std::fs::read_dir(&root).map_err(unreadable)?;
        let mut tree = Tree::new(root, options.wanted, options.outside, options.ahead);
        tree.look(Path::new(""), Told::now(How::Initial, Cause::Event), None);
        let locked = options.hold_while.is_some_and(|path| tree.pin_lock(&path)) && tree.events.locked();
        Ok(Source {
            tree,
            poll: options.poll,
            sweep: None,
            sweep_at: Instant::now() + options.poll,
            hold: if locked { Hold::Idle } else { Hold::Free },
            under_lock: locked,
        })
    }

    /// The documents known now, relative to the directory, sorted.
    pub fn paths(&self) -> Vec<Arc<Path>> {
        self.tree.paths()
    }

    /// Whether nothing is at `path` at this moment. That it is gone for good is told later.
    pub fn is_absent(&self, path: &Path) -> bool {
        self.tree.is_absent(path)
    }

    /// Whether all of the directory could be listed. Where not, a document that is missing may only be out of sight.
    pub fn complete(&self) -> bool {
        self.tree.troubles.complete()
    }

    /// What cannot be seen, as far as that was not told yet.
    pub fn troubles(&mut self) -> Vec<Trouble> {
        self.tree.troubles.news().0
    }

    /// Reads one of [`Source::paths`] now. `None` if it is not there, or is being written: then [`Source::next`] tells
    /// how that ends. What is never read here is told by the first sweep.
    pub fn read(&mut self, path: &Path) -> Option<Content> {
        let read = self.tree.read_now(path);
        // A file this fresh may be in the middle of its next save.
        if matches!(&read, Read::Bytes(_, print) if print.is_racy()) {
            self.tree.events.barrier();
            self.absorb();
            if self.tree.will_tell(path) {
                return None;
            }
        }
        self.tree.first(path, read)
    }

    /// The next changes, or troubles. Waits for ever if nothing happens.
    ///
    /// What was drained from the kernel's queue without waiting is one batch. After any batch, the last content told for
    /// a path is what was on disk, or a newer change is on its way. Cancel-safe: what was found so far is kept.
    pub async fn next(&mut self) -> Batch {
        loop {
            self.absorb();
            if let Some(batch) = self.gather().await {
                return batch;
            }
            self.rest().await;
        }
    }

    /// Takes in what has happened, without waiting. Says whether the kernel had anything new.
    fn absorb(&mut self) -> bool {
        let taken = self.tree.events.take();
        let now = Instant::now();
        let news = !taken.seen.is_empty() || taken.lock_told || taken.rescan;
        for (path, seen) in taken.seen {
            self.tree.apply(&path, seen);
        }
        self.tree.ripen(now);
        if taken.lock_told {
            self.under_lock = true;
            let locked = self.tree.events.locked();
            if !locked {
                self.tree.settle_listed();
            }
            self.hold = match self.hold {
                _ if !locked => Hold::Free,
                Hold::Until(end) => Hold::Until(end),
                _ => Hold::Idle,
            };
        }
        if taken.rescan {
            self.tree.arm_all(true);
            // One that is under way may have passed by what was lost.
            self.sweep = None;
            self.sweep_at = now;
        }
        if self.sweep.is_none() && now >= self.sweep_at {
            self.start_sweep(now);
        }
        news
    }

    fn start_sweep(&mut self, now: Instant) {
        self.sweep_at = now + self.poll;
        self.tree.look(Path::new(""), Told::now(How::Listed, Cause::Sweep), None);
        let running = |(sweep, stamp)| Running { sweep, began: now, stamp, found: Vec::new() };
        self.sweep = self.tree.start_sweep().map(running);
    }

    fn swept(&mut self, portion: Option<Vec<sweep::Found>>) {
        match portion {
            Some(portion) => {
                for found in portion {
                    let trouble = self.tree.swept(found);
                    if let Some(running) = &mut self.sweep {
                        running.found.extend(trouble);
                    }
                }
            }
            None => {
                let mut took = Duration::ZERO;
                if let Some(Running { began, stamp, found, .. }) = self.sweep.take() {
                    self.tree.listed(Path::new(""), stamp, found, Told::now(How::Listed, Cause::Sweep));
                    self.tree.arm_all(false);
                    took = began.elapsed();
                }
                self.sweep_at = Instant::now() + pause(self.poll, took, self.tree.is_told_of());
            }
        }
    }

    /// Whether what is ready must wait for a lock file to go away.
    fn holds(&mut self) -> bool {
        let now = Instant::now();
        match self.hold {
            Hold::Idle if self.tree.is_ready() => {
                self.hold = Hold::Until(now + STILL);
                true
            }
            Hold::Until(end) if now >= end => {
                self.hold = Hold::Stale;
                false
            }
            Hold::Until(_) => true,
            Hold::Free | Hold::Idle | Hold::Stale => false,
        }
    }

    /// Reads what is ready, together with what else the kernel has queued until then.
    async fn gather(&mut self) -> Option<Batch> {
        for _ in 0..ROUNDS {
            if self.holds() {
                return None;
            }
            // A first file is read before anything else is done: most saves are one file.
            loop {
                let unread = self.tree.unread(PORTION);
                if unread.is_empty() {
                    break;
                }
                for key in &unread {
                    self.tree.read_ready(key);
                }
                if unread.len() == PORTION {
                    tokio::task::yield_now().await;
                }
            }
            if !self.tree.is_ready() {
                break;
            }
            if self.tree.needs_barrier() {
                self.tree.events.barrier();
            }
            let news = self.absorb();
            self.tree.prove();
            if !news {
                break;
            }
        }
        if self.holds() {
            return None;
        }
        let (cause, changes) = self.tree.tell(PORTION * 16);
        if changes.is_empty() && !self.tree.troubles.is_news() {
            self.under_lock &= self.hold != Hold::Free || self.tree.is_ready();
            return None;
        }
        let (troubles, over) = self.tree.troubles.news();
        let held = self.under_lock && cause == Cause::Event && !changes.is_empty();
        self.under_lock &= self.hold != Hold::Free;
        Some(Batch { changes, cause, held, troubles, over })
    }

    /// Waits until there is something to do.
    async fn rest(&mut self) {
        let mut until = self.tree.pending.due();
        if let Hold::Until(end) = self.hold {
            until = Some(until.map_or(end, |due| due.min(end)));
        } else if self.tree.is_ready() {
            // A burst goes on: others get a turn, then its next part is read.
            return tokio::task::yield_now().await;
        }
        let end = match &self.sweep {
            Some(_) => until,
            None => Some(until.map_or(self.sweep_at, |due| due.min(self.sweep_at))),
        };
        let portion = {
            let (events, sweep) = (&self.tree.events, &mut self.sweep);
            tokio::select! {
                () = events.woken() => None,
                portion = async { match sweep {
                    Some(running) => running.sweep.next().await,
                    None => std::future::pending().await,
                }} => Some(portion),
                () = async { match end {
                    Some(end) => tokio::time::sleep_until(end).await,
                    None => std::future::pending().await,
                }} => None,
            }
        };
        if let Some(portion) = portion {
            self.swept(portion);
        }
    }
}
