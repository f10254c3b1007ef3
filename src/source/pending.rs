//! What must hold still, or stay away, before it is told.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::{
    disk::Fingerprint,
    tree::{How, Told},
};

/// How long size and ctime must not move where nothing says that a save is finished, and how long a file must be away
/// before it counts as gone (`command-line.md`, Keys and files).
pub(super) const STILL: Duration = Duration::from_secs(2);

/// How long an empty file is given to get its content; a truncated one looks the same.
pub(super) const EMPTY: Duration = Duration::from_millis(100);

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// The file keeps this fingerprint (`None`: it could not be had) for that long.
    Still(Option<Fingerprint>, Duration),
    /// The file stays away.
    Gone,
}

/// Paths with a deadline each.
#[derive(Debug, Default)]
pub(super) struct Pending {
    paths: BTreeMap<Arc<Path>, (Instant, Wait, Told)>,
    queue: BTreeSet<(Instant, Arc<Path>)>,
}

impl Pending {
    /// Starts to wait, instead of whatever was waited for on this path.
    pub(super) fn insert(&mut self, path: Arc<Path>, wait: Wait, told: Told) {
        self.remove(&path);
        let length = match wait {
            Wait::Still(_, length) => length,
            Wait::Gone => STILL,
        };
        let due = Instant::now() + length;
        self.queue.insert((due, Arc::clone(&path)));
        self.paths.insert(path, (due, wait, told));
    }

    pub(super) fn remove(&mut self, path: &Path) {
        if let Some((path, (due, ..))) = self.paths.remove_entry(path) {
            self.queue.remove(&(due, path));
        }
    }

    pub(super) fn get(&self, path: &Path) -> Option<Wait> {
        self.paths.get(path).map(|(_, wait, _)| *wait)
    }

    /// The next deadline.
    pub(super) fn due(&self) -> Option<Instant> {
        self.queue.first().map(|(due, _)| *due)
    }

    /// One path whose deadline has passed.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<(Arc<Path>, Wait, Told)> {
        self.queue.first().filter(|(due, _)| *due <= now)?;
        let (_, path) = self.queue.pop_first()?;
        let (_, wait, told) = self.paths.remove(&path)?;
        Some((path, wait, told))
    }

    /// Ends the wait of all that was listed while it may still have been written: its writer is known to be done.
    pub(super) fn settle_listed(&mut self) -> Vec<(Arc<Path>, Told)> {
        let listed = |(_, wait, told): &(Instant, Wait, Told)| *wait != Wait::Gone && told.how == How::Listed;
        let settled: Vec<_> = self
            .paths
            .iter()
            .filter(|(_, entry)| listed(entry))
            .map(|(path, entry)| (Arc::clone(path), entry.2))
            .collect();
        for (path, _) in &settled {
            self.remove(path);
        }
        settled
    }

    /// Gives up waiting for absences: nothing can be said to be gone now.
    pub(super) fn forget_absences(&mut self) {
        let gone = |(_, wait, _): &(Instant, Wait, Told)| *wait == Wait::Gone;
        let paths: Vec<_> = self.paths.iter().filter(|(_, e)| gone(e)).map(|(path, _)| Arc::clone(path)).collect();
        for path in paths {
            self.remove(&path);
        }
    }
}
