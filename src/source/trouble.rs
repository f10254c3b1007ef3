//! What keeps a source from seeing everything, said once when it begins and once when it is over.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// A part of the directory that cannot be seen, or not at once. Nothing in it is taken for removed meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[non_exhaustive]
pub enum Trouble {
    /// The source's own directory is not there.
    #[error("`{}` is missing; nothing in it counts as removed", path.display())]
    Missing {
        /// The directory as it was given, made absolute.
        path: PathBuf,
    },
    /// A directory of which nothing, or not everything, could be listed.
    #[error("`{}` cannot be listed: {reason}", path.display())]
    Unlisted {
        /// The directory, under the path that was given.
        path: PathBuf,
        /// The system's words.
        reason: String,
    },
    /// A symlink to a directory that contains it; it is passed over.
    #[error("`{}` is a symlink to a directory that contains it", path.display())]
    Cycle {
        /// The symlink, under the path that was given.
        path: PathBuf,
    },
    /// A symlink to a directory elsewhere, which is not followed.
    #[error("`{}` leads out of the directory, to {}: {}", path.display(), to.display(), super::disk::FOLLOW)]
    Outside {
        /// The symlink, under the path that was given.
        path: PathBuf,
        /// Where it leads.
        to: PathBuf,
    },
    /// The kernel's limit on watched directories is reached; the sweep finds what changes in the others.
    #[error(
        "no inotify watch left, so some changes are only found by the sweep; raise the limit with \
         `sysctl fs.inotify.max_user_watches=1048576`"
    )]
    WatchLimit,
    /// A directory that the kernel does not watch; the sweep finds what changes in it.
    #[error("`{}` cannot be watched, so changes are only found by the sweep: {reason}", path.display())]
    Unwatched {
        /// The directory, by its real path.
        path: PathBuf,
        /// The system's words.
        reason: String,
    },
}

impl Trouble {
    /// Whether listing the directory at `prefix` again decides about it.
    fn is_of_listing(&self, prefix: &Path) -> bool {
        match self {
            Trouble::Unlisted { path, .. } | Trouble::Cycle { path } | Trouble::Outside { path, .. } => {
                path.starts_with(prefix)
            }
            _ => false,
        }
    }
}

/// The troubles that last, and what of them is still to be said.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    now: BTreeSet<Trouble>,
    said: BTreeSet<Trouble>,
}

impl Troubles {
    pub(super) fn raise(&mut self, trouble: Trouble) {
        self.now.insert(trouble);
    }

    pub(super) fn clear(&mut self, is_over: impl Fn(&Trouble) -> bool) {
        self.now.retain(|trouble| !is_over(trouble));
    }

    /// Takes what a complete listing of the directory at `prefix` found instead of what was known about it.
    pub(super) fn relisted(&mut self, prefix: &Path, found: Vec<Trouble>) {
        self.clear(|trouble| trouble.is_of_listing(prefix));
        self.now.extend(found);
    }

    /// Whether the listing of exactly this directory failed.
    pub(super) fn unlisted(&self, dir: &Path) -> bool {
        self.now.iter().any(|trouble| matches!(trouble, Trouble::Unlisted { path, .. } if path == dir))
    }

    /// Whether everything could be listed.
    pub(super) fn complete(&self) -> bool {
        !self.now.iter().any(|trouble| {
            matches!(trouble, Trouble::Missing { .. } | Trouble::Unlisted { .. } | Trouble::Outside { .. })
        })
    }

    /// What began and what ended since the last call.
    pub(super) fn news(&mut self) -> (Vec<Trouble>, Vec<Trouble>) {
        if self.now == self.said {
            return (Vec::new(), Vec::new());
        }
        let begun = self.now.difference(&self.said).cloned().collect();
        let over = self.said.difference(&self.now).cloned().collect();
        self.said = self.now.clone();
        (begun, over)
    }

    pub(super) fn is_news(&self) -> bool {
        self.now != self.said
    }
}
