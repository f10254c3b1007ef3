//! What is on the disk right now: listing, following symlinks, reading. Blocking, without state.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Read as _},
    ops::ControlFlow,
    path::{Component, Path, PathBuf},
    rc::Rc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;

/// The largest file that is read: NATS carries at most 64 MiB in a message, whatever its settings.
pub(super) const LARGEST: u64 = 64 << 20;

/// A file changed within this time may change again without a new ctime, which comes from a clock that ticks (4 to 10
/// ms on Linux before 6.13). The same trap is git's "racily clean" index entry.
const RACY: Duration = Duration::from_millis(100);

/// What changes whenever the content may have: inode, size, ctime. Not mtime, which anybody may set back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint {
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds since 1970, by the clock of the file system.
    ctime: (i64, u32),
}

/// Why a symlink is not followed that may have led to a directory: what was in it is out of sight, not gone.
pub(super) fn leads_nowhere() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "it is a symlink that leads nowhere")
}

/// Which directory it is, whatever its path: device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Id(u64, u64);

impl Fingerprint {
    #[cfg(unix)]
    pub(super) fn of(about: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt as _;
        let nanoseconds = u32::try_from(about.ctime_nsec()).unwrap_or_default();
        Fingerprint { inode: about.ino(), size: about.len(), ctime: (about.ctime(), nanoseconds) }
    }

    #[cfg(not(unix))]
    pub(super) fn of(about: &Metadata) -> Self {
        let modified = about.modified().ok().and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
        let modified = modified.unwrap_or_default();
        let seconds = i64::try_from(modified.as_secs()).unwrap_or_default();
        Fingerprint { inode: 0, size: about.len(), ctime: (seconds, modified.subsec_nanos()) }
    }

    /// Whether the last change is at least `age` ago by the local clock; a change in the future is not.
    pub(super) fn is_older_than(&self, age: Duration) -> bool {
        let since_1970 = Duration::new(u64::try_from(self.ctime.0).unwrap_or_default(), self.ctime.1);
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH + since_1970).is_ok_and(|passed| passed >= age)
    }

    /// Whether a later change could carry this same fingerprint.
    pub(super) fn is_racy(&self) -> bool {
        !self.is_older_than(RACY)
    }
}

impl Id {
    #[cfg(unix)]
    pub(super) fn of(about: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt as _;
        Id(about.dev(), about.ino())
    }

    #[cfg(not(unix))]
    pub(super) fn of(_: &Metadata) -> Self {
        Id(0, 0)
    }
}

/// Whether an error says that nothing is at the path, as opposed to that nobody may look.
pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Whether changes to what is at `path` are made by this machine, so that its kernel knows of them. On network file
/// systems, and in a virtual machine's shared folders, others make them.
#[cfg(target_os = "linux")]
pub(super) fn is_local(path: &Path) -> bool {
    // statfs(2): ext, XFS, Btrfs, F2FS, ZFS, bcachefs, overlayfs, tmpfs, ramfs.
    const LOCAL: [u64; 9] = [
        0xef53,
        0x5846_5342,
        0x9123_683e,
        0xf2f5_2010,
        0x2fc1_2fc1,
        0xca45_1a4e,
        0x794c_7630,
        0x0102_1994,
        0x8584_58f6,
    ];
    rustix::fs::statfs(path).is_ok_and(|about| LOCAL.contains(&u64::from(about.f_type as u32)))
}

/// Elsewhere nothing is known of that.
#[cfg(not(target_os = "linux"))]
pub(super) fn is_local(_: &Path) -> bool {
    false
}

/// Dot files and dot directories, `..data` of Kubernetes among them.
pub(super) fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().first() == Some(&b'.')
}

/// One place that decides where a path leads: a name in a real directory.
pub(super) type Hop = (PathBuf, OsString);

/// Follows `path` (from the real directory `base`) and returns each symlink on the way, and last where it ends: at
/// something that is not a symlink, or at the first name that is missing. With a replacement of any of these names the
/// path leads elsewhere.
///
/// # Errors
/// Where it ends in a loop (more than 40 symlinks, as in path_resolution(7)) or is not allowed, beside the hops so far.
pub(super) fn route(base: &Path, path: &Path) -> (Vec<Hop>, io::Result<PathBuf>) {
    let mut hops: Vec<Hop> = Vec::new();
    let mut at = base.to_owned();
    let mut todo: Vec<PathBuf> = vec![path.to_owned()];
    let mut symlinks = 0;
    while let Some(rest) = todo.pop() {
        let mut parts = rest.components();
        let Some(part) = parts.next() else { continue };
        let after = parts.as_path();
        if !after.as_os_str().is_empty() {
            todo.push(after.to_owned());
        }
        let name = match part {
            Component::Prefix(_) | Component::RootDir => {
                at.push(part);
                continue;
            }
            Component::CurDir => continue,
            Component::ParentDir => {
                at.pop();
                continue;
            }
            Component::Normal(name) => name,
        };
        let next = at.join(name);
        let about = match fs::symlink_metadata(&next) {
            Ok(about) => about,
            Err(error) => {
                hops.push((at, name.to_owned()));
                return (hops, Err(error));
            }
        };
        if about.is_symlink() {
            hops.push((at.clone(), name.to_owned()));
            symlinks += 1;
            if symlinks > 40 {
                return (hops, Err(io::Error::new(io::ErrorKind::InvalidInput, "the symlink leads back to itself")));
            }
            match fs::read_link(&next) {
                Ok(to) => todo.push(to),
                Err(error) => return (hops, Err(error)),
            }
        } else {
            if todo.is_empty() {
                hops.push((at, name.to_owned()));
            }
            at = next;
        }
    }
    (hops, Ok(at))
}

/// One finding of [`walk`]. Paths named `rel` are relative to the source's directory, `real` ones are canonical.
pub(super) enum Visit<'a> {
    /// A directory, before it is listed: the moment to arm its watch.
    Dir { rel: &'a Path, real: &'a Path, id: Id },
    /// A symlink, before what it leads to.
    Link { rel: &'a Path, dir: &'a Path, name: &'a OsStr },
    /// A document, by its name alone; it has not been looked at.
    File { rel: &'a Path, real: &'a Path },
    /// A directory of which nothing, or not everything, could be listed.
    Unlisted { rel: &'a Path, error: io::Error },
    /// A symlink to a directory that contains it.
    Cycle { rel: &'a Path },
    /// A symlink to a directory elsewhere, which is not followed.
    Outside { rel: &'a Path, to: &'a Path },
}

/// The directories on the way to one, to know a cycle by.
struct Above {
    real: PathBuf,
    up: Option<Rc<Above>>,
}

/// Lists everything at and under the directory `rel`, parents first. Symlinks to directories are followed, unless they
/// lead to a directory that contains them, or out of the directory `within`. A directory that vanishes meanwhile is passed
/// over.
///
/// `above` are the real paths of the directories on the way to `rel`.
pub(super) fn walk(
    rel: &Path,
    real: &Path,
    above: impl IntoIterator<Item = PathBuf>,
    within: Option<&Path>,
    wanted: fn(&str) -> bool,
    visit: &mut dyn FnMut(Visit<'_>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let above = above.into_iter().fold(None, |up, real| Some(Rc::new(Above { real, up })));
    let mut todo = vec![(rel.to_owned(), real.to_owned(), above)];
    while let Some((rel, real, up)) = todo.pop() {
        let id = match fs::metadata(&real) {
            Ok(about) => Id::of(&about),
            Err(error) if is_absent(&error) => continue,
            Err(error) => {
                visit(Visit::Unlisted { rel: &rel, error })?;
                continue;
            }
        };
        visit(Visit::Dir { rel: &rel, real: &real, id })?;
        let entries = match fs::read_dir(&real) {
            Ok(entries) => entries,
            Err(error) if is_absent(&error) => continue,
            Err(error) => {
                visit(Visit::Unlisted { rel: &rel, error })?;
                continue;
            }
        };
        let here = Rc::new(Above { real: real.clone(), up });
        for entry in entries {
            let (entry, kind) = match entry.and_then(|entry| entry.file_type().map(|kind| (entry, kind))) {
                Ok(found) => found,
                Err(error) if is_absent(&error) => continue,
                Err(error) => {
                    visit(Visit::Unlisted { rel: &rel, error })?;
                    continue;
                }
            };
            let name = entry.file_name();
            if is_hidden(&name) {
                continue;
            }
            let (rel, path) = (rel.join(&name), real.join(&name));
            if kind.is_dir() {
                todo.push((rel, path, Some(Rc::clone(&here))));
                continue;
            }
            if kind.is_symlink() {
                visit(Visit::Link { rel: &rel, dir: &real, name: &name })?;
                let leads = fs::metadata(&path);
                if leads.as_ref().is_err_and(is_absent) && !wanted(&name.to_string_lossy()) {
                    visit(Visit::Unlisted { rel: &rel, error: leads_nowhere() })?;
                    continue;
                }
                if leads.is_ok_and(|about| about.is_dir()) {
                    let Ok(to) = path.canonicalize() else { continue };
                    let mut chain = std::iter::successors(Some(&here), |above| above.up.as_ref());
                    if chain.any(|above| above.real.starts_with(&to)) {
                        visit(Visit::Cycle { rel: &rel })?;
                    } else if within.is_some_and(|within| !to.starts_with(within)) {
                        visit(Visit::Outside { rel: &rel, to: &to })?;
                    } else {
                        todo.push((rel, to, Some(Rc::clone(&here))));
                    }
                    continue;
                }
            }
            if wanted(&name.to_string_lossy()) {
                visit(Visit::File { rel: &rel, real: &path })?;
            }
        }
    }
    ControlFlow::Continue(())
}

/// What reading one file gave.
#[derive(Debug)]
pub(super) enum Read {
    Bytes(Bytes, Fingerprint),
    /// Nothing is there, or a symlink leads nowhere.
    Absent(io::Error),
    /// It is there and cannot be read; the fingerprint where at least that could be had.
    Unreadable(io::Error, Option<Fingerprint>),
    /// It changed while it was read.
    Torn,
}

/// Reads a whole file of at most `most` bytes, if it is in the directory `within`, wherever symlinks lead, and makes sure by
/// its fingerprint that it was one file.
pub(super) fn read(path: &Path, within: Option<&Path>, most: u64) -> Read {
    let unreadable = |error: io::Error, print| match is_absent(&error) {
        true => Read::Absent(error),
        false => Read::Unreadable(error, print),
    };
    let mut file = match open(path) {
        Ok(file) => file,
        Err(error) => return unreadable(error, fs::metadata(path).ok().map(|about| Fingerprint::of(&about))),
    };
    let about = match file.metadata() {
        Ok(about) => about,
        Err(error) => return unreadable(error, None),
    };
    let before = Fingerprint::of(&about);
    if let Some(within) = within {
        // Of what was opened: the path may lead elsewhere by now.
        match opened(&file, path) {
            Ok(at) if at.starts_with(within) => {}
            Ok(at) => {
                let reason = format!("it leads out of the directory, to {}: {FOLLOW}", at.display());
                return Read::Unreadable(io::Error::new(io::ErrorKind::PermissionDenied, reason), Some(before));
            }
            Err(error) => return unreadable(error, Some(before)),
        }
    }
    if !about.is_file() {
        return Read::Unreadable(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"), Some(before));
    }
    if before.size > most {
        let reason = format!("{} bytes, more than any message can carry ({most})", before.size);
        return Read::Unreadable(io::Error::new(io::ErrorKind::FileTooLarge, reason), Some(before));
    }
    // One more than its size, so that the end is found without growing; never more than the limit, if it grows.
    let mut bytes = Vec::with_capacity(usize::try_from(before.size).unwrap_or_default() + 1);
    if let Err(error) = (&mut file).take(most + 1).read_to_end(&mut bytes) {
        return unreadable(error, Some(before));
    }
    match file.metadata().map(|about| Fingerprint::of(&about)) {
        Ok(after) if after == before && after.size == bytes.len() as u64 => Read::Bytes(bytes.into(), after),
        Ok(_) => Read::Torn,
        Err(error) => unreadable(error, Some(before)),
    }
}

/// What to do about a symlink that leads out of the directory.
pub(crate) const FOLLOW: &str = "--follow-outside follows such links";

/// The real path of a file that was opened at `path`.
#[cfg(target_os = "linux")]
fn opened(file: &File, path: &Path) -> io::Result<PathBuf> {
    use std::os::fd::AsRawFd as _;
    fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).or_else(|_| path.canonicalize())
}

#[cfg(not(target_os = "linux"))]
fn opened(_: &File, path: &Path) -> io::Result<PathBuf> {
    path.canonicalize()
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        // To open a named pipe would wait for a writer, for ever.
        options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32);
    }
    options.open(path)
}
