//! A directory that files are written below, and never beside: no symlink in it is followed. What is made is its owner's
//! alone, as documents may hold what is not for everybody.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

/// The directory, held open: whoever moves it, or puts a symlink in its place, does not move what is written.
pub(super) struct Tree {
    root: OwnedFd,
    temporary: String,
}

/// Why a file was not written.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    /// A directory cannot be entered without leaving the tree, or without removing something.
    #[error("{0} is in the way: it is no directory, and a symlink is not followed")]
    InTheWay(PathBuf),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Tree {
    /// The directory at `path`, made if it is not there.
    pub(super) fn open(path: &Path) -> io::Result<Tree> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let root = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        // A dot file, which a loader that watches the directory passes over.
        Ok(Tree { root, temporary: format!(".confhot-{}.tmp", std::process::id()) })
    }

    /// Writes the file at `path`, relative to the directory, as a whole: whoever looks finds the old one or the new one.
    pub(super) fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
        let mut at = self.root.try_clone()?;
        let mut way = PathBuf::new();
        for part in path.parent().into_iter().flat_map(Path::components) {
            way.push(part);
            at = enter(&at, part.as_os_str().as_ref())
                .map_err(|error| if is_in_the_way(error) { WriteError::InTheWay(way.clone()) } else { io(error) })?;
        }
        let name = Path::new(path.file_name().unwrap_or_default());
        let written = self.replace(&at, name, bytes);
        if written.is_err() {
            let _ = rustix::fs::unlinkat(&at, &self.temporary, AtFlags::empty());
        }
        written.map_err(|error| match Errno::from_io_error(&error) {
            Some(Errno::ISDIR) => WriteError::InTheWay(path.to_owned()),
            _ => error.into(),
        })
    }

    fn replace(&self, at: &OwnedFd, name: &Path, bytes: &[u8]) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let make = || rustix::fs::openat(at, &self.temporary, flags, Mode::from_raw_mode(0o600));
        let mut file = File::from(match make() {
            // Left behind by a process that had this id and was killed.
            Err(Errno::EXIST) => {
                rustix::fs::unlinkat(at, &self.temporary, AtFlags::empty())?;
                make()?
            }
            made => made?,
        });
        file.write_all(bytes)?;
        if rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            // After a crash it must not be that the old one is gone and the new one has no bytes yet.
            file.sync_data()?;
        }
        Ok(rustix::fs::renameat(at, &self.temporary, at, name)?)
    }
}

/// The directory `name` in `at`, made if it is not there.
fn enter(at: &impl AsFd, name: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(at, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => {
            match rustix::fs::mkdirat(at, name, Mode::from_raw_mode(0o700)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
            rustix::fs::openat(at, name, flags, Mode::empty())
        }
        entered => entered,
    }
}

fn is_in_the_way(error: Errno) -> bool {
    matches!(error, Errno::NOTDIR | Errno::LOOP)
}

fn io(error: Errno) -> WriteError {
    WriteError::Io(error.into())
}
