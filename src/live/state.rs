//! The last good document of each key, kept on disk: what a service starts on while no server answers.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::document::{Digest, Format};
use crate::kv::{Entry, Floor, Key, Position, Revision};
use crate::signature::Claim;

/// A directory that keeps the last good document of each key, and the name of this instance.
///
/// One process at a time. Files are readable by their owner only and are replaced as a whole.
#[derive(Debug, Clone)]
pub struct StateDir(PathBuf);

/// The state directory cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("the state in {path}: {reason}")]
pub struct StateError {
    /// The file or directory.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

impl StateError {
    fn of(path: &Path) -> impl FnOnce(io::Error) -> StateError {
        let path = path.to_owned();
        move |error| StateError { path, reason: error.to_string() }
    }
}

/// The first line of a state file; the document's bytes follow it.
#[derive(Serialize, Deserialize)]
struct Head {
    /// [`crate::kv::Description::identity`]; none where the server did not let us know.
    bucket: Option<String>,
    key: String,
    revision: u64,
    created: Timestamp,
    digest: String,
    format: Option<String>,
    /// The signature that the document came with, and who says to have made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signed: Option<(String, String)>,
}

/// What was kept of a key.
pub(super) struct Kept {
    pub(super) bucket: Option<String>,
    pub(super) entry: Entry,
}

impl Kept {
    fn parse(key: &Key, bytes: &Bytes) -> Option<Kept> {
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let head: Head = serde_json::from_slice(&bytes[..end]).ok()?;
        let value = bytes.slice(end + 1..);
        if head.digest != Digest::of(&value).to_string() || head.key != key.as_str() {
            return None;
        }
        let format = head.format.and_then(|word| word.parse::<Format>().ok());
        let claim = head.signed.map(|(signature, signer)| Claim { signature, signer });
        let entry = Entry::kept(key.clone(), Revision(head.revision), head.created, format, claim, value);
        Some(Kept { bucket: head.bucket, entry })
    }

    pub(super) fn floor(&self) -> Option<Floor> {
        let Position { revision, created } = self.entry.position();
        self.bucket.clone().map(|bucket| Floor { bucket, position: Position { revision, created } })
    }
}

impl StateDir {
    /// The directory at `path`, made if it is not there.
    ///
    /// # Errors
    /// [`StateError`] where it cannot be made.
    pub fn open(path: &Path) -> Result<StateDir, StateError> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(path).map_err(StateError::of(path))?;
        Ok(StateDir(path.to_owned()))
    }

    /// The instance's name that is kept here; `fresh` where there is none yet, and it is kept from now on.
    ///
    /// # Errors
    /// [`StateError`] where it can be neither read nor kept.
    pub fn instance(&self, fresh: &str) -> Result<String, StateError> {
        let path = self.0.join("instance");
        match fs::read_to_string(&path) {
            Ok(kept) if !kept.trim().is_empty() => return Ok(kept.trim().to_owned()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(StateError::of(&path)(error)),
        }
        self.replace(&path, &[fresh.as_bytes(), b"\n"])?;
        Ok(fresh.to_owned())
    }

    fn path(&self, key: &Key) -> PathBuf {
        // A key may hold slashes, a file's name may not; `=` in a key keeps its own escape apart.
        self.0.join(format!("{}.state", key.as_str().replace('=', "=3D").replace('/', "=2F")))
    }

    /// What is kept of `key`; none where nothing is.
    ///
    /// # Errors
    /// [`StateError`] where the file is damaged or cannot be read. A damaged one is never taken for a document.
    pub(super) fn read(&self, key: &Key) -> Result<Option<Kept>, StateError> {
        let path = self.path(key);
        let bytes = match fs::read(&path) {
            Ok(bytes) => Bytes::from(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StateError::of(&path)(error)),
        };
        let damaged = || StateError { path, reason: "it is damaged and is not used".into() };
        Kept::parse(key, &bytes).map(Some).ok_or_else(damaged)
    }

    /// What a file of `key` with these bytes keeps, for nobody but the fuzz targets.
    #[doc(hidden)]
    pub fn kept(key: &Key, bytes: &Bytes) -> Option<Entry> {
        Kept::parse(key, bytes).map(|kept| kept.entry)
    }

    /// Keeps `entry` of the bucket `bucket`; its signature only if it was `vetted`, so that nobody takes it for that later.
    ///
    /// # Errors
    /// [`StateError`] where it cannot be written; what was kept before is kept.
    pub(super) fn write(&self, entry: &Entry, bucket: Option<&str>, vetted: bool) -> Result<(), StateError> {
        let head = Head {
            bucket: bucket.map(str::to_owned),
            key: entry.key.to_string(),
            revision: entry.revision.0,
            created: entry.created,
            digest: entry.digest().to_string(),
            format: entry.provenance.format.map(|format| format.to_string()),
            signed: entry.claim().filter(|_| vetted).map(|claim| (claim.signature.clone(), claim.signer.clone())),
        };
        let path = self.path(&entry.key);
        let head =
            serde_json::to_vec(&head).map_err(|error| StateError { path: path.clone(), reason: error.to_string() })?;
        self.replace(&path, &[&head, b"\n", &entry.value])
    }

    /// Notes that what is kept of `key` is from `bucket`, if it is of `revision`.
    pub(super) fn confirm(
        &self,
        key: &Key,
        bucket: Option<&str>,
        revision: Option<Revision>,
    ) -> Result<(), StateError> {
        match self.read(key)? {
            Some(kept) if kept.bucket.as_deref() != bucket && Some(kept.entry.revision) == revision => {
                self.write(&kept.entry, bucket, true)
            }
            _ => Ok(()),
        }
    }

    /// Replaces the file at `path` as a whole: after a crash it is the old one or the new one.
    fn replace(&self, path: &Path, parts: &[&[u8]]) -> Result<(), StateError> {
        let write = || {
            let mut file = tempfile::NamedTempFile::new_in(&self.0)?;
            for part in parts {
                file.write_all(part)?;
            }
            file.as_file().sync_data()?;
            file.persist(path)?;
            Ok(())
        };
        write().map_err(StateError::of(path))
    }
}
