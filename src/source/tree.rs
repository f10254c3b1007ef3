//! What is known of the directory: its documents, its directories, and every name that decides where a path leads.

mod ready;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ffi::{OsStr, OsString},
    fs,
    ops::{Bound, ControlFlow},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use tokio::time::Instant;

use super::{
    Ahead, Cause, DOUBT,
    disk::{self, Fingerprint, Hop, Id, Read, Visit, is_absent, is_hidden},
    events::{ArmError, Events, Seen},
    pending::{Pending, STILL, Wait},
    sweep::{Found, Sweep},
    trouble::{Trouble, Troubles},
};

/// How a path came to be looked at, which decides when it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// Listed at the start; the caller reads it.
    Initial,
    /// Renamed into place: read at once.
    Placed,
    /// Closed after writing, or back after it was away: read at once, if no other write has begun.
    Closed,
    /// Its attributes changed: as closed, unless it is being written.
    Touched,
    /// Written and not closed: held until it is still.
    Writing,
    /// A symlink leads elsewhere, or a whole directory was moved: read at once what has another fingerprint.
    Swapped,
    /// Met in a listing: what has another fingerprint is read when it is still.
    Listed,
    /// Held still for long enough: read at once, if no other write has begun.
    Settled,
    /// Was away for long enough.
    Gone,
}

/// How, when and by whom a path was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) how: How,
    pub(super) seen: SystemTime,
    pub(super) cause: Cause,
}

impl Told {
    pub(super) fn now(how: How, cause: Cause) -> Self {
        Told { how, seen: SystemTime::now(), cause }
    }

    fn with(self, how: How) -> Self {
        Told { how, ..self }
    }

    /// What an event on a regular file means.
    fn by(seen: Seen) -> Self {
        let how = match seen {
            Seen { open: true, .. } => How::Writing,
            Seen { placed: true, .. } => How::Placed,
            Seen { touched: true, closed: false, made: false, left: false, .. } => How::Touched,
            _ => How::Closed,
        };
        Told { how, seen: seen.at, cause: Cause::Event }
    }
}

/// One document: no bytes and no digest, since there may be 100,000 of them.
#[derive(Debug, Default)]
struct Record {
    /// At its last reading; `None` before the first, and where it could not be had.
    print: Option<Fingerprint>,
    /// The listing that met it last.
    stamp: u32,
    /// It may have changed since without another fingerprint.
    racy: bool,
    /// Its last reading failed.
    unreadable: bool,
}

#[derive(Debug)]
struct Dir {
    real: PathBuf,
    id: Id,
    stamp: u32,
}

/// Who depends on one real directory.
#[derive(Debug, Default)]
struct Watch {
    armed: bool,
    /// Kept even if nothing depends on it: the lock file's.
    pinned: bool,
    /// The directories of the source that lead here.
    dirs: BTreeSet<Arc<Path>>,
    /// By name in this directory, the paths of the source that pass through it.
    names: HashMap<OsString, BTreeSet<Arc<Path>>>,
}

/// A document that is to be told, and what reading it gave.
#[derive(Debug)]
struct Ready {
    told: Told,
    read: Option<Read>,
    /// No write had begun when it was read.
    proven: bool,
}

/// The state of a source, moved on by events, listings and deadlines; it never waits.
///
/// All keys are paths relative to the source's directory; the empty path is the directory itself.
#[derive(Debug)]
pub(super) struct Tree {
    root: PathBuf,
    wanted: fn(&str) -> bool,
    /// Whether symlinks may lead out of the directory.
    outside: bool,
    pub(super) events: Events,
    pub(super) troubles: Troubles,
    pub(super) pending: Pending,
    files: BTreeMap<Arc<Path>, Record>,
    dirs: BTreeMap<Arc<Path>, Dir>,
    links: BTreeMap<Arc<Path>, Vec<Hop>>,
    watches: BTreeMap<PathBuf, Watch>,
    ready: BTreeMap<Arc<Path>, Ready>,
    stamp: u32,
    /// When a sweep last found what the kernel had not told.
    missed: Option<Instant>,
}

/// All entries at and under a path; component-wise order keeps them together.
fn under<'a, V>(map: &'a BTreeMap<Arc<Path>, V>, path: &'a Path) -> impl Iterator<Item = (&'a Arc<Path>, &'a V)> {
    let from = (Bound::Included(path), Bound::Unbounded);
    map.range::<Path, _>(from).take_while(move |(key, _)| key.starts_with(path))
}

impl Tree {
    /// Knows nothing yet; [`Tree::look`] at the empty path lists everything.
    pub(super) fn new(root: PathBuf, wanted: fn(&str) -> bool, outside: bool, ahead: Option<Ahead>) -> Self {
        let events = Events::new(wanted, ahead);
        let mut troubles = Troubles::default();
        if let Some(reason) = events.refusal() {
            let reason = format!("{reason} (raise the limit with `sysctl fs.inotify.max_user_instances=1024`)");
            troubles.raise(Trouble::Unwatched { path: root.clone(), reason });
        }
        Tree {
            root,
            wanted,
            outside,
            events,
            troubles,
            pending: Pending::default(),
            files: BTreeMap::new(),
            dirs: BTreeMap::new(),
            links: BTreeMap::new(),
            watches: BTreeMap::new(),
            ready: BTreeMap::new(),
            stamp: 0,
            missed: None,
        }
    }

    /// Whether nothing is at `path`, not even a symlink.
    pub(super) fn is_absent(&self, path: &Path) -> bool {
        std::fs::symlink_metadata(self.root.join(path)).is_err_and(|error| disk::is_absent(&error))
    }

    /// The documents known now, sorted.
    pub(super) fn paths(&self) -> Vec<Arc<Path>> {
        self.files.keys().cloned().collect()
    }

    /// The real directory that the source's directory leads to; none while it is missing.
    pub(super) fn real_root(&self) -> Option<&Path> {
        self.dirs.get(Path::new("")).map(|dir| dir.real.as_path())
    }

    /// The directory that nothing may lead out of; none where that is allowed.
    fn within(&self) -> Option<&Path> {
        self.real_root().filter(|_| !self.outside)
    }

    /// Where a path of the source is read.
    fn real(&self, path: &Path) -> Option<PathBuf> {
        Some(self.dirs.get(path.parent()?)?.real.join(path.file_name()?))
    }

    /// The stored key equal to a path, or a new one.
    fn key(&self, path: &Path) -> Arc<Path> {
        self.files.get_key_value(path).map_or_else(|| Arc::from(path), |(key, _)| Arc::clone(key))
    }

    // --- watches ---

    /// Arms the watch on a real directory, if it is not.
    fn arm(&mut self, real: &Path) {
        let Some(watch) = self.watches.get_mut(real).filter(|watch| !watch.armed) else { return };
        if self.events.refusal().is_some() {
            return;
        }
        match self.events.arm(real) {
            Ok(()) => {
                watch.armed = true;
                self.troubles.clear(|trouble| matches!(trouble, Trouble::Unwatched { path, .. } if path == real));
            }
            // What made it vanish is told by its parent.
            Err(ArmError::Absent) => {}
            Err(ArmError::Limit) => self.troubles.raise(Trouble::WatchLimit),
            Err(ArmError::Other(reason)) => self.troubles.raise(Trouble::Unwatched { path: real.to_owned(), reason }),
        }
    }

    /// Ends the watch on a real directory if nothing depends on it any more.
    fn release(&mut self, real: &Path) {
        if self.watches.get(real).is_some_and(|it| !it.pinned && it.dirs.is_empty() && it.names.is_empty()) {
            self.watches.remove(real);
            self.events.disarm(real);
            self.troubles.clear(|trouble| matches!(trouble, Trouble::Unwatched { path, .. } if path == real));
        }
    }

    /// Arms again what is not armed, or everything after events were lost.
    pub(super) fn arm_all(&mut self, again: bool) {
        let unarmed = |watch: &Watch| again || !watch.armed;
        let dirs: Vec<PathBuf> =
            self.watches.iter().filter(|(_, watch)| unarmed(watch)).map(|(dir, _)| dir.clone()).collect();
        for dir in dirs {
            self.rearm(&dir);
        }
        if self.watches.values().all(|watch| watch.armed) {
            self.troubles.clear(|trouble| *trouble == Trouble::WatchLimit);
        }
    }

    fn rearm(&mut self, real: &Path) {
        if let Some(watch) = self.watches.get_mut(real) {
            watch.armed = false;
            self.arm(real);
        }
    }

    /// Follows a lock file from its real directory; false where that cannot be watched.
    pub(super) fn pin_lock(&mut self, path: &Path) -> bool {
        let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return false };
        let Ok(real) = dir.canonicalize() else { return false };
        self.watches.entry(real.clone()).or_default().pinned = true;
        self.arm(&real);
        let lock = real.join(name);
        let now = fs::symlink_metadata(&lock).is_ok();
        self.events.lock(lock, now);
        self.watches.get(&real).is_some_and(|watch| watch.armed)
    }

    /// Takes the names that a path passes through instead of those it passed through before. New watches are armed before
    /// the caller looks at what the path leads to.
    fn link(&mut self, path: &Path, hops: Vec<Hop>) {
        let key = self.key(path);
        let old = self.links.remove(path).unwrap_or_default();
        for (dir, name) in &hops {
            self.watches
                .entry(dir.clone())
                .or_default()
                .names
                .entry(name.clone())
                .or_default()
                .insert(Arc::clone(&key));
            self.events.name(dir, name, true);
            self.arm(dir);
        }
        for hop in old {
            if !hops.contains(&hop) {
                self.unhop(&hop, path);
            }
        }
        if !hops.is_empty() {
            self.links.insert(key, hops);
        }
    }

    fn unhop(&mut self, (dir, name): &Hop, path: &Path) {
        let Some(watch) = self.watches.get_mut(dir) else { return };
        if let Some(paths) = watch.names.get_mut(name) {
            paths.remove(path);
            if paths.is_empty() {
                watch.names.remove(name);
                self.events.name(dir, name, false);
            }
        }
        self.release(dir);
    }

    fn unlink(&mut self, path: &Path) {
        if self.links.contains_key(path) {
            self.link(path, Vec::new());
        }
    }

    // --- directories ---

    /// Notes a directory that is about to be listed, and arms its watch.
    fn add_dir(&mut self, path: &Path, real: &Path, id: Id) {
        let stamp = self.stamp;
        if let Some(dir) = self.dirs.get_mut(path).filter(|dir| dir.real == real) {
            dir.stamp = stamp;
            if dir.id != id {
                dir.id = id;
                self.rearm(real);
            }
        } else {
            self.drop_dir(path);
            let key: Arc<Path> = Arc::from(path);
            self.watches.entry(real.to_owned()).or_default().dirs.insert(Arc::clone(&key));
            self.events.content(real, true);
            self.dirs.insert(key, Dir { real: real.to_owned(), id, stamp });
        }
        self.arm(real);
    }

    fn drop_dir(&mut self, path: &Path) {
        let Some(Dir { real, .. }) = self.dirs.remove(path) else { return };
        if let Some(watch) = self.watches.get_mut(&real) {
            watch.dirs.remove(path);
            if watch.dirs.is_empty() {
                self.events.content(&real, false);
            }
        }
        self.release(&real);
    }

    /// Forgets all directories at and under a path, and if `gone` says so, starts to take its documents for removed.
    fn forget(&mut self, path: &Path, gone: Option<Told>) {
        let dirs: Vec<_> = under(&self.dirs, path).map(|(key, _)| Arc::clone(key)).collect();
        if !dirs.is_empty() {
            // The hop to the directory itself still leads there when it comes back.
            let links: Vec<_> = under(&self.links, path).map(|(key, _)| Arc::clone(key)).collect();
            for key in links.iter().filter(|key| ***key != *path) {
                self.unlink(key);
            }
            for key in &dirs {
                self.drop_dir(key);
            }
        }
        self.troubles.relisted(&self.root.join(path), Vec::new());
        if let Some(told) = gone {
            let files: Vec<_> = under(&self.files, path).map(|(key, _)| Arc::clone(key)).collect();
            for key in files {
                self.away(key, told);
            }
        }
    }

    /// Lists a directory and all in it. Watches are armed before each listing, so that what appears meanwhile is either
    /// listed or told.
    fn enter(&mut self, path: &Path, real: &Path, told: Told) {
        self.stamp += 1;
        let (stamp, wanted) = (self.stamp, self.wanted);
        let mut found = Vec::new();
        let above: Vec<PathBuf> =
            path.ancestors().skip(1).filter_map(|path| self.dirs.get(path)).map(|dir| dir.real.clone()).collect();
        let within = self.within().map(Path::to_owned).or_else(|| {
            // The directory itself is being listed.
            (!self.outside && path.as_os_str().is_empty()).then(|| real.to_owned())
        });
        let _ = disk::walk(path, real, above, within.as_deref(), wanted, &mut |visit| {
            match visit {
                Visit::Dir { rel, real, id } => self.add_dir(rel, real, id),
                Visit::Link { rel, dir, name } => {
                    let (hops, _) = disk::route(dir, Path::new(name));
                    self.link(rel, hops);
                }
                Visit::File { rel, real } => self.document(rel, real, told),
                Visit::Unlisted { rel, error } => {
                    found.push(Trouble::Unlisted { path: self.root.join(rel), reason: error.to_string() });
                }
                Visit::Cycle { rel } => found.push(Trouble::Cycle { path: self.root.join(rel) }),
                Visit::Outside { rel, to } => {
                    found.push(Trouble::Outside { path: self.root.join(rel), to: to.to_owned() });
                }
            }
            ControlFlow::Continue(())
        });
        self.listed(path, stamp, found, told);
    }

    /// Ends a listing of everything at and under a path: what it did not meet is away, except where it could not look.
    pub(super) fn listed(&mut self, path: &Path, stamp: u32, found: Vec<Trouble>, told: Told) {
        let hidden: Vec<&Path> = found
            .iter()
            .filter_map(|trouble| match trouble {
                Trouble::Unlisted { path, .. } | Trouble::Outside { path, .. } => path.strip_prefix(&self.root).ok(),
                _ => None,
            })
            .collect();
        let unmet = |key: &Path, met: u32| met < stamp && !hidden.iter().any(|dir| key.starts_with(dir));
        let dirs: Vec<_> = under(&self.dirs, path)
            .filter(|(key, dir)| unmet(key, dir.stamp))
            .map(|(key, _)| Arc::clone(key))
            .collect();
        let files: Vec<_> =
            under(&self.files, path).filter(|(key, it)| unmet(key, it.stamp)).map(|(key, _)| Arc::clone(key)).collect();
        self.troubles.relisted(&self.root.join(path), found);
        for key in dirs.iter().filter(|key| !key.as_os_str().is_empty()) {
            self.unlink(key);
            self.drop_dir(key);
        }
        for key in files {
            self.away(key, told);
        }
    }

    // --- looking ---

    /// Takes in one event.
    pub(super) fn apply(&mut self, path: &Path, seen: Seen) {
        if seen.left && self.watches.contains_key(path) {
            self.lost(path, seen);
        }
        let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return };
        let Some(watch) = self.watches.get(dir) else { return };
        let inside: Vec<PathBuf> = watch.dirs.iter().map(|dir| dir.join(name)).collect();
        let through: Vec<_> = watch.names.get(name).into_iter().flatten().cloned().collect();
        let told = Told::by(seen);
        for path in inside {
            self.look(&path, told, None);
        }
        for path in through {
            self.look(&path, told, Some((dir, name)));
        }
    }

    /// A watched directory is no longer at its path. `notify` has dropped the watches at and under it, or they still
    /// tell of the directory where it is now; everything that depends on them is looked at again.
    fn lost(&mut self, dir: &Path, seen: Seen) {
        let mut paths = BTreeSet::new();
        let from = (Bound::Included(dir), Bound::Unbounded);
        for (real, watch) in self.watches.range_mut::<Path, _>(from).take_while(|(real, _)| real.starts_with(dir)) {
            watch.armed = false;
            self.events.unwatch(real);
            paths.extend(watch.dirs.iter().cloned());
            paths.extend(watch.names.values().flatten().cloned());
            if watch.pinned && self.events.arm(real).is_ok() {
                watch.armed = true;
            }
        }
        let told = Told { how: How::Swapped, seen: seen.at, cause: Cause::Event };
        for path in paths {
            self.look(&path, told, None);
        }
    }

    /// Looks at what a path leads to now. `hop` is the name that was told, where it is not the path's own.
    pub(super) fn look(&mut self, path: &Path, told: Told, hop: Option<(&Path, &OsStr)>) {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return self.look_root(told) };
        let Some(dir) = self.dirs.get(parent) else { return };
        if is_hidden(name) {
            return;
        }
        let (dir, real) = (dir.real.clone(), dir.real.join(name));
        let wanted = (self.wanted)(&name.to_string_lossy());
        if told.cause == Cause::Event && hop.is_none() && self.events.is_early(&real) {
            return self.file(path, &real, told);
        }
        let about = match fs::symlink_metadata(&real) {
            Ok(about) => about,
            Err(error) if is_absent(&error) => {
                self.unlink(path);
                return self.forget(path, Some(told));
            }
            Err(_) if wanted => return self.document(path, &real, told),
            Err(_) => return,
        };
        if about.is_dir() {
            self.unlink(path);
            self.look_dir(path, &real, &about, told);
        } else if about.is_symlink() {
            let (hops, to) = disk::route(&dir, Path::new(name));
            let written = hops.last().is_some_and(|(dir, name)| hop == Some((dir, name)));
            self.link(path, hops);
            let told = if written || told.how == How::Listed { told } else { told.with(How::Swapped) };
            match to.and_then(|to| fs::metadata(&to).map(|about| (to, about))) {
                Ok((to, about)) if about.is_dir() => self.look_dir(path, &to, &about, told),
                Err(error) if is_absent(&error) && !wanted => {
                    let reason = disk::leads_nowhere().to_string();
                    self.troubles.raise(Trouble::Unlisted { path: self.root.join(path), reason });
                }
                _ => {
                    self.forget_dirs(path, told);
                    if wanted {
                        self.document(path, &real, told);
                    }
                }
            }
        } else if wanted {
            self.file(path, &real, told);
        } else {
            self.unlink(path);
            self.forget_dirs(path, told);
        }
    }

    /// Takes note of a document that is itself at its path.
    fn file(&mut self, path: &Path, real: &Path, told: Told) {
        self.unlink(path);
        self.forget_dirs(path, told);
        self.document(path, real, told);
    }

    /// Forgets the directory that was at a path, if there was one.
    fn forget_dirs(&mut self, path: &Path, told: Told) {
        if self.dirs.contains_key(path) {
            self.forget(path, Some(told));
        }
    }

    fn look_root(&mut self, told: Told) {
        let (hops, to) = disk::route(Path::new(""), &self.root);
        self.link(Path::new(""), hops);
        match to.and_then(|to| fs::metadata(&to).map(|about| (to, about))) {
            Ok((to, about)) if about.is_dir() => {
                self.troubles.clear(|trouble| matches!(trouble, Trouble::Missing { .. }));
                self.look_dir(Path::new(""), &to, &about, told);
            }
            other => {
                // Its documents are kept as they are known: when it is back, they are compared.
                self.forget(Path::new(""), None);
                self.pending.forget_absences();
                self.ready.retain(|_, ready| ready.told.how != How::Gone);
                match other {
                    Err(error) if !is_absent(&error) => {
                        let trouble = Trouble::Unlisted { path: self.root.clone(), reason: error.to_string() };
                        self.troubles.raise(trouble);
                    }
                    _ => self.troubles.raise(Trouble::Missing { path: self.root.clone() }),
                }
            }
        }
    }

    fn look_dir(&mut self, path: &Path, real: &Path, about: &fs::Metadata, told: Told) {
        let id = Id::of(about);
        let armed = self.watches.get(real).is_some_and(|watch| watch.armed);
        let known = self.dirs.get(path).filter(|dir| dir.real == real && dir.id == id);
        if known.is_some() && armed && !self.troubles.unlisted(&self.root.join(path)) {
            return;
        }
        let mut above = path.ancestors().skip(1).filter_map(|path| self.dirs.get(path));
        if above.any(|dir| dir.real.starts_with(real)) {
            self.forget_dirs(path, told);
            return self.troubles.raise(Trouble::Cycle { path: self.root.join(path) });
        }
        if known.is_none() {
            self.forget(path, None);
        }
        if !path.as_os_str().is_empty() && self.within().is_some_and(|within| !real.starts_with(within)) {
            // What it held is not gone: nobody looks.
            return self.troubles.raise(Trouble::Outside { path: self.root.join(path), to: real.to_owned() });
        }
        // Files in a directory that was made here may be half written, those in one that was moved here are as they were.
        let how = match told.how {
            How::Placed | How::Swapped => How::Swapped,
            How::Initial => How::Initial,
            _ => How::Listed,
        };
        self.enter(path, real, told.with(how));
    }

    /// Decides when a document is read.
    fn document(&mut self, path: &Path, real: &Path, told: Told) {
        let key = self.key(path);
        let record = self.files.entry(Arc::clone(&key)).or_default();
        record.stamp = self.stamp;
        let waits = matches!(self.pending.get(path), Some(Wait::Still(..)));
        match told.how {
            How::Initial | How::Gone => {}
            How::Touched if waits => {}
            How::Placed | How::Closed | How::Touched | How::Settled => self.make_ready(key, told),
            How::Writing => {
                self.ready.remove(path);
                let print = fs::metadata(real).ok().map(|about| Fingerprint::of(&about));
                self.pending.insert(key, Wait::Still(print, STILL), told);
            }
            How::Listed if waits || self.ready.contains_key(path) => {}
            How::Swapped | How::Listed => match fs::metadata(real).map(|about| Fingerprint::of(&about)) {
                // A symlink that leads nowhere may be half of a swap.
                Err(error) if is_absent(&error) && record.unreadable => {}
                Err(error) if is_absent(&error) => self.away(key, told),
                Err(_) if record.unreadable => {}
                Err(_) => self.make_ready(key, told),
                Ok(print) if record.print == Some(print) && !record.racy => {
                    if self.pending.get(path) == Some(Wait::Gone) {
                        self.pending.remove(path);
                    }
                }
                Ok(print) if told.how == How::Listed && !print.is_older_than(STILL) => {
                    self.pending.insert(key, Wait::Still(Some(print), STILL), told);
                }
                Ok(_) => self.make_ready(key, told),
            },
        }
    }

    // --- the sweep ---

    /// Whether the kernel can be relied on to tell of what changes: all is watched, on a file system of this machine, and
    /// no sweep has found anything lately that was not told.
    pub(super) fn is_told_of(&self) -> bool {
        self.watches.values().all(|watch| watch.armed)
            && self.missed.is_none_or(|at| at.elapsed() >= DOUBT)
            && self.real_root().is_some_and(disk::is_local)
    }

    /// Begins a listing by others, unless the directory is missing. Everything met from now on carries the returned
    /// stamp or a later one.
    pub(super) fn start_sweep(&mut self) -> Option<(Sweep, u32)> {
        self.stamp += 1;
        let real = self.real_root()?;
        Some((Sweep::start(&self.root, real, self.outside, self.wanted), self.stamp))
    }

    /// Compares one finding of a sweep with what is known.
    pub(super) fn swept(&mut self, found: Found) -> Option<Trouble> {
        let told = Told::now(How::Listed, Cause::Sweep);
        match found {
            Found::Trouble(trouble) => return Some(trouble),
            Found::Dir { path, real, id } => match self.dirs.get_mut(path.as_path()) {
                Some(dir) if dir.real == real && dir.id == id => dir.stamp = self.stamp,
                _ => self.look(&path, told, None),
            },
            Found::File { path, print } => match self.files.get_mut(path.as_path()) {
                Some(record) if record.print == print && !record.racy => record.stamp = self.stamp,
                Some(record) => {
                    record.stamp = self.stamp;
                    let missed = record.print.is_some() && record.print != print;
                    // What only a sweep finds, the watch should have told: it may have died.
                    if missed && let Some(dir) = path.parent().and_then(|dir| self.dirs.get(dir)) {
                        let real = dir.real.clone();
                        self.rearm(&real);
                    }
                    self.look(&path, told, None);
                }
                None => self.look(&path, told, None),
            },
        }
        None
    }
}
