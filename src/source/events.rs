//! What the kernel tells, coalesced: the only place that touches `notify`.
//!
//! `notify` calls back on a thread of its own, one event at a time. The callback only marks what an event means in a map
//! of paths, so a burst costs memory by the number of paths and not by the number of events, and nothing is dropped for
//! want of a slot (fsnotify and watchman keep sets for the same reason).
//!
//! A save that comes alone is read on that thread too, while the one that was woken for it is still waking up: between two
//! saves all of them sleep, and from one thread to the next it takes as long as to read and parse a document.
//!
//! Watches are one directory each and never recursive. `notify` keeps one path for one watch descriptor, and the kernel
//! gives one descriptor for one inode, so callers arm real (canonical) paths only: two paths to one directory would
//! steal each other's events.

use std::{
    collections::{HashMap, HashSet},
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use notify::{
    Config, ErrorKind, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode, EventKindMask, ModifyKind, RenameMode},
};
use tempfile::TempDir;

use super::{
    Ahead,
    disk::{self, Fingerprint, Read},
    lock_soon,
};

/// Distinct paths kept before the set is given up for a sweep; real trees stay far below, a runaway tool does not.
const MOST_PATHS: usize = 1 << 16;

/// What happened to one path since it was last taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    /// When the last of its events was taken from the kernel's queue.
    pub(super) at: SystemTime,
    /// Renamed into place, and nothing after.
    pub(super) placed: bool,
    /// Made here (`IN_CREATE`): a new file, directory or symlink.
    pub(super) made: bool,
    /// Written or made, and not closed since.
    pub(super) open: bool,
    /// Closed after writing.
    pub(super) closed: bool,
    /// Its attributes changed.
    pub(super) touched: bool,
    /// Removed or renamed away at some point; it may be back.
    pub(super) left: bool,
}

/// What was drained from the queue in one go.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// By path, sorted, so that a directory comes before what is in it.
    pub(super) seen: Vec<(PathBuf, Seen)>,
    /// Events were lost: look at everything.
    pub(super) rescan: bool,
    /// The lock file came or went since the last take.
    pub(super) lock_told: bool,
}

/// Why a directory could not be watched.
#[derive(Debug)]
pub(super) enum ArmError {
    /// The directory is not there (any more).
    Absent,
    /// `fs.inotify.max_user_watches` is used up.
    Limit,
    /// Anything else, in the system's words.
    Other(String),
}

/// Which names of a watched directory matter.
#[derive(Debug, Default)]
struct Interest {
    /// All documents and directories in it.
    content: bool,
    /// And these, whatever they are: hops of symlinks.
    names: HashSet<OsString>,
}

#[derive(Debug)]
struct Queue {
    wanted: fn(&str) -> bool,
    seen: HashMap<PathBuf, Seen>,
    rescan: bool,
    interests: HashMap<PathBuf, Interest>,
    lock: Option<PathBuf>,
    /// Whether the lock file exists, by the last event on it.
    locked: bool,
    lock_told: bool,
    /// The file whose event a barrier waits for.
    cookie: Option<PathBuf>,
}

/// The largest file that is read ahead: other events wait that long.
const SMALL: u64 = 64 << 10;

/// What a finished save held when its event was taken.
#[derive(Debug)]
struct Early {
    real: PathBuf,
    bytes: Bytes,
    print: Fingerprint,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    /// Held while it is read.
    early: Mutex<Option<Early>>,
    ahead: Option<Ahead>,
    /// The cookie was met.
    met: Condvar,
    wake: tokio::sync::Notify,
}

/// The kernel's events for a set of directories.
#[derive(Debug)]
pub(super) struct Events {
    watcher: Result<RecommendedWatcher, String>,
    shared: Arc<Shared>,
    /// A watched directory of our own, for barriers, and how many there have been.
    cookies: Option<(TempDir, u64)>,
}

/// Not what only reads: to read a file of ours, or for anybody to look through all of them, would wake us up each time, and
/// fill the kernel's queue.
fn config() -> Config {
    Config::default().with_event_kinds(EventKindMask::CORE | EventKindMask::ACCESS_CLOSE)
}

/// A directory for barriers, where there is a place for one.
fn cookies(watcher: &mut Result<RecommendedWatcher, String>) -> Option<(TempDir, u64)> {
    let dir = tempfile::Builder::new().prefix("confhot-").tempdir().ok()?;
    let real = dir.path().canonicalize().ok()?;
    watcher.as_mut().ok()?.watch(&real, RecursiveMode::NonRecursive).ok()?;
    Some((dir, 0))
}

impl Events {
    /// Sets up `notify`; where that fails (no inotify instance left) nothing is ever told and [`Events::refusal`] says
    /// why.
    pub(super) fn new(wanted: fn(&str) -> bool, ahead: Option<Ahead>) -> Self {
        let queue = Queue {
            wanted,
            seen: HashMap::new(),
            rescan: false,
            interests: HashMap::new(),
            lock: None,
            locked: false,
            lock_told: false,
            cookie: None,
        };
        let shared = Arc::new(Shared {
            queue: Mutex::new(queue),
            early: Mutex::new(None),
            ahead,
            met: Condvar::new(),
            wake: tokio::sync::Notify::new(),
        });
        let callback = {
            let shared = Arc::clone(&shared);
            move |event| shared.mark(event)
        };
        let mut watcher = RecommendedWatcher::new(callback, config()).map_err(|error| error.to_string());
        let cookies = cookies(&mut watcher);
        Events { watcher, shared, cookies }
    }

    /// Why there are no events at all, if there are none.
    pub(super) fn refusal(&self) -> Option<&str> {
        self.watcher.as_ref().err().map(String::as_str)
    }

    /// Watches one directory, by its real path. To repeat it is harmless, and moves the watch when another directory has
    /// taken the path.
    pub(super) fn arm(&mut self, dir: &Path) -> Result<(), ArmError> {
        let Ok(watcher) = &mut self.watcher else {
            return Err(ArmError::Other("no file events on this system".into()));
        };
        watcher.watch(dir, RecursiveMode::NonRecursive).map_err(|error| match error.kind {
            ErrorKind::PathNotFound => ArmError::Absent,
            ErrorKind::MaxFilesWatch => ArmError::Limit,
            ErrorKind::Io(error) if super::disk::is_absent(&error) => ArmError::Absent,
            kind => ArmError::Other(notify::Error::new(kind).to_string()),
        })
    }

    /// Ends the watch on a directory and forgets which of its names mattered.
    pub(super) fn disarm(&mut self, dir: &Path) {
        self.shared.queue().interests.remove(dir);
        self.unwatch(dir);
    }

    /// Ends the watch on a directory that is not what it was; its names matter as before.
    pub(super) fn unwatch(&mut self, dir: &Path) {
        if let Ok(watcher) = &mut self.watcher {
            // It fails where the directory is gone, and then so is the watch.
            let _ = watcher.unwatch(dir);
        }
    }

    /// Sets whether everything in a directory matters.
    pub(super) fn content(&self, dir: &Path, all: bool) {
        self.shared.queue().interests.entry(dir.to_owned()).or_default().content = all;
    }

    /// Makes one name in a directory matter, or no longer.
    pub(super) fn name(&self, dir: &Path, name: &OsStr, matters: bool) {
        let mut queue = self.shared.queue();
        let names = &mut queue.interests.entry(dir.to_owned()).or_default().names;
        if matters {
            names.insert(name.to_owned());
        } else {
            names.remove(name);
        }
    }

    /// Follows a lock file, whose directory the caller arms; `now` is whether it exists at this moment.
    pub(super) fn lock(&self, path: PathBuf, now: bool) {
        let mut queue = self.shared.queue();
        queue.lock = Some(path);
        queue.locked = now;
    }

    /// Whether the lock file exists, as far as events have told.
    pub(super) fn locked(&self) -> bool {
        self.shared.queue().locked
    }

    /// Takes what has come in since the last time, without waiting.
    pub(super) fn take(&self) -> Taken {
        let mut queue = self.shared.queue();
        let mut taken = Taken {
            seen: queue.seen.drain().collect(),
            rescan: std::mem::take(&mut queue.rescan),
            lock_told: std::mem::take(&mut queue.lock_told),
        };
        // A burst leaves a large table behind, and this one is idle most of its life.
        if queue.seen.capacity() > 1024 {
            queue.seen = HashMap::new();
        }
        drop(queue);
        taken.seen.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        taken
    }

    /// What the file at a real path held when the last event on it was taken, where it was read then and still has the same
    /// fingerprint. Waits for a reading that is under way.
    pub(super) fn early(&self, real: &Path) -> Option<Read> {
        let Early { bytes, print, .. } = lock_soon(&self.shared.early).take_if(|early| early.real == real)?;
        let now = std::fs::metadata(real).ok()?;
        (Fingerprint::of(&now) == print).then_some(Read::Bytes(bytes, print))
    }

    /// Whether the file at a real path was read, and is no symlink then.
    pub(super) fn is_early(&self, real: &Path) -> bool {
        lock_soon(&self.shared.early).as_ref().is_some_and(|early| early.real == real)
    }

    /// Returns once every event that the kernel had queued before the call is in the set.
    ///
    /// The kernel's queue is first in, first out, so they are in once the event of a file is that is made now, in a
    /// directory of our own (watchman's cookie). An answer by `notify`'s thread alone would not do: it takes all requests
    /// that have come in before it looks at the kernel's queue again. Blocks for two thread switches, at most a second.
    pub(super) fn barrier(&mut self) {
        // Whatever cleans up temporary files may take the directory away, after days without a change.
        if self.cookies.as_ref().is_some_and(|(dir, _)| !dir.path().is_dir()) {
            self.cookies = cookies(&mut self.watcher);
        }
        let Some((dir, count)) = &mut self.cookies else {
            // Nowhere to put one: what its thread has taken so far is better than nothing.
            if let Ok(watcher) = &mut self.watcher {
                let _ = watcher.configure(config());
            }
            return;
        };
        *count += 1;
        let Ok(cookie) = dir.path().canonicalize().map(|dir| dir.join(count.to_string())) else { return };
        self.shared.queue().cookie = Some(cookie.clone());
        if std::fs::File::create(&cookie).is_ok() {
            let queue = self.shared.queue();
            // Longer than any stall that is worth waiting for.
            let _ = self.shared.met.wait_timeout_while(queue, Duration::from_secs(1), |queue| queue.cookie.is_some());
            let _ = std::fs::remove_file(&cookie);
        }
    }

    /// Waits until there is something to take. Cancel-safe: a wake-up that was not consumed is kept.
    pub(super) async fn woken(&self) {
        self.shared.wake.notified().await;
    }

    /// What the callback does with an event, for tests: inotify cannot be made to fail on request.
    #[cfg(test)]
    pub(super) fn tell(&self, event: notify::Result<Event>) {
        self.shared.mark(event);
    }

    /// Where barriers are.
    #[cfg(test)]
    pub(super) fn cookies(&self) -> &Path {
        self.cookies.as_ref().unwrap().0.path()
    }

    /// Keeps the callback out until `work` is done, as a stalled machine would, so that the kernel's queue fills.
    #[cfg(test)]
    pub(super) fn stalled<T>(&self, work: impl FnOnce() -> T) -> T {
        let _queue = self.shared.queue();
        work()
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        // The map is whole after any panic: each event is one insertion.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn early(&self) -> MutexGuard<'_, Option<Early>> {
        self.early.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mark(&self, event: notify::Result<Event>) {
        let event = match event {
            // Reading a file raises Access events, so counting them would make every sweep cause the next.
            Ok(Event { kind: EventKind::Access(kind), .. }) if kind != AccessKind::Close(AccessMode::Write) => return,
            // Its two halves were told before it, each with its own path.
            #[cfg(any(target_os = "linux", target_os = "android"))]
            Ok(Event { kind: EventKind::Modify(ModifyKind::Name(RenameMode::Both)), .. }) => return,
            Ok(event) if !event.need_rescan() => event,
            Ok(_) | Err(_) => {
                self.queue().rescan = true;
                return self.wake.notify_one();
            }
        };
        let at = SystemTime::now();
        let mut queue = self.queue();
        let mut news = false;
        for path in event.paths {
            if queue.cookie.as_ref() == Some(&path) {
                queue.cookie = None;
                self.met.notify_all();
                continue;
            }
            if queue.matters(&path, &event.kind) {
                if !news {
                    // To wake up takes longer than the rest of this; who is up already waits for the lock.
                    self.wake.notify_one();
                }
                news = true;
                queue.mark(path, &event.kind, at);
            }
        }
        if !news {
            return;
        }
        let alone = queue.saved_alone();
        // Locked before the queue is let go of, so that whoever takes from it waits for what is read now; what was read
        // before is old.
        let mut early = self.early();
        *early = None;
        drop(queue);
        let Some(real) = alone else { return };
        // Where it is a symlink, only the one who asks for it knows how far that may lead.
        let Read::Bytes(bytes, print) = disk::read(&real, Some(&real), SMALL) else { return };
        *early = Some(Early { bytes: bytes.clone(), print, real });
        let real = early.as_ref().map(|early| early.real.clone());
        drop(early);
        if let (Some(ahead), Some(real)) = (&self.ahead, real) {
            (ahead.0)(&real, bytes);
        }
    }
}

fn has_left(kind: &EventKind) -> bool {
    matches!(kind, EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From)))
}

impl Queue {
    /// Notes one event that matters.
    fn mark(&mut self, path: PathBuf, kind: &EventKind, at: SystemTime) {
        if self.lock.as_ref() == Some(&path) {
            self.locked = !has_left(kind);
            self.lock_told = true;
            return;
        }
        if self.seen.len() >= MOST_PATHS {
            self.seen = HashMap::new();
            self.rescan = true;
            return;
        }
        let new = Seen { at, placed: false, made: false, open: false, closed: false, touched: false, left: false };
        let seen = self.seen.entry(path).or_insert(new);
        seen.at = at;
        match kind {
            // After a rename into place this is another save, in place.
            EventKind::Access(_) => {
                seen.open = false;
                seen.placed = false;
                seen.closed = true;
            }
            EventKind::Modify(ModifyKind::Name(RenameMode::From)) | EventKind::Remove(_) => {
                *seen = Seen { left: true, ..new };
            }
            EventKind::Modify(ModifyKind::Name(RenameMode::To)) => {
                *seen = Seen { placed: true, left: seen.left, ..new };
            }
            // Other kernels cannot tell the halves of a rename apart.
            EventKind::Modify(ModifyKind::Name(_) | ModifyKind::Metadata(_)) => seen.touched = true,
            EventKind::Create(_) => *seen = Seen { made: true, open: true, left: seen.left, ..new },
            EventKind::Modify(_) | EventKind::Any | EventKind::Other => {
                seen.open = true;
                seen.placed = false;
            }
        }
    }

    /// The document that was saved, if that is all that has happened since the last take.
    fn saved_alone(&self) -> Option<PathBuf> {
        let mut all = self.seen.iter();
        let ((path, seen), None) = (all.next()?, all.next()) else { return None };
        let saved = (seen.placed || seen.closed) && !seen.open;
        let named = path.file_name().is_some_and(|name| (self.wanted)(&name.to_string_lossy()));
        (saved && named).then(|| path.clone())
    }

    /// Whether an event is worth waking up for.
    fn matters(&self, path: &Path, kind: &EventKind) -> bool {
        if self.lock.as_deref() == Some(path) || has_left(kind) && self.interests.contains_key(path) {
            return true;
        }
        let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return false };
        let Some(interest) = self.interests.get(dir) else { return false };
        if interest.names.contains(name) {
            return true;
        }
        if !interest.content || super::disk::is_hidden(name) {
            return false;
        }
        // Other names matter while they may be directories, or symlinks to one.
        let written = matches!(kind, EventKind::Access(_) | EventKind::Modify(ModifyKind::Data(_)));
        !written || (self.wanted)(&name.to_string_lossy())
    }
}
