//! What stands in the bucket: keys, revisions, entries, and where each of them came from.

use std::fmt;
use std::path::{Component, Path};
use std::str::FromStr;
use std::sync::Arc;

use async_nats::{HeaderMap, HeaderName};
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::document::{Digest, Format, Role};
use crate::signature::{Claim, Statement};

/// Name of one document in the bucket: dot-separated tokens of letters, digits, `-`, `_`, `/` and `=` (ADR-8).
///
/// Always valid: it is made by [`Key::parse`] or [`Key::from_path`] only. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Key(Arc<str>);

/// A text that cannot be a key, and what stands in the way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` cannot be a key: {reason}")]
pub struct InvalidKey {
    /// The text as it was given, control characters escaped.
    pub text: String,
    /// What stands in the way.
    pub reason: String,
}

impl Key {
    /// Longest key in bytes. The server has no limit of its own, but a subject that fills the protocol line is cut off.
    pub const MAX_LEN: usize = 512;

    /// The key that `text` names.
    ///
    /// # Errors
    /// [`InvalidKey`] names the first character that stands in the way.
    pub fn parse(text: &str) -> Result<Key, InvalidKey> {
        Key::of_at_most(Self::MAX_LEN, text)
    }

    /// The key of a record of `Self::MAX_LEN` and the token that names an instance.
    pub(super) fn of_record(text: &str) -> Result<Key, InvalidKey> {
        Key::of_at_most(Self::MAX_LEN + 1 + super::status::LONGEST_TOKEN, text)
    }

    fn of_at_most(limit: usize, text: &str) -> Result<Key, InvalidKey> {
        let invalid = |reason: String| InvalidKey { text: text.escape_debug().to_string(), reason };
        if text.is_empty() {
            return Err(invalid("it is empty".into()));
        }
        if text.len() > limit {
            return Err(invalid(format!("it is {} bytes long, the limit is {limit}", text.len())));
        }
        if let Some(c) = text.chars().find(|&c| !is_key_char(c)) {
            return Err(invalid(format!("`{}` is not a letter, a digit or one of - _ = / .", c.escape_debug())));
        }
        if text.split('.').any(str::is_empty) {
            return Err(invalid("a `.` stands at an end of it, or two stand side by side".into()));
        }
        Ok(Key(text.into()))
    }

    /// The key of a file at `path` below the source directory: `billing/api.yaml` is `billing.api`, and
    /// `billing/api.schema.json` is `_schema.billing.api`.
    ///
    /// Any other key that begins with `_` is kept for confhot's own use and is refused here.
    ///
    /// # Errors
    /// [`InvalidKey`] names the first character that stands in the way.
    pub fn from_path(path: &Path) -> Result<Key, InvalidKey> {
        let shown = || path.display().to_string().escape_debug().to_string();
        let mut text = String::new();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let schema = Role::of(name) == Role::Schema;
        // Of a schema's name both extensions go.
        let stem = path.with_extension("");
        let stem = if schema { stem.with_extension("") } else { stem };
        for part in stem.components() {
            let invalid = |reason: String| InvalidKey { text: shown(), reason };
            let Component::Normal(part) = part else {
                return Err(invalid("it is not below the source directory".into()));
            };
            let part = part.to_str().ok_or_else(|| invalid("its name is not UTF-8".into()))?;
            if let Some(c) = part.chars().find(|&c| !is_key_char(c)) {
                return Err(invalid(format!(
                    "`{}` in `{}` is not a letter, a digit or one of - _ = .",
                    c.escape_debug(),
                    part.escape_debug()
                )));
            }
            if !text.is_empty() {
                text.push('.');
            }
            text.push_str(part);
        }
        if text.starts_with('_') {
            return Err(InvalidKey { text: shown(), reason: "keys that begin with `_` are confhot's own".into() });
        }
        let text = if schema { format!("{}{text}", Self::SCHEMA) } else { text };
        Key::parse(&text).map_err(|error| InvalidKey { text: shown(), ..error })
    }

    /// What the key of a schema begins with.
    const SCHEMA: &str = "_schema.";

    /// The key under which the schema of this key's documents is carried, `_schema.service1` of `service1`. Keys of
    /// confhot's own have none.
    pub fn schema(&self) -> Option<Key> {
        if self.is_own() { None } else { Key::parse(&format!("{}{self}", Self::SCHEMA)).ok() }
    }

    /// The key whose documents this one holds the schema of, if it is a schema's key.
    pub fn described(&self) -> Option<Key> {
        Key::parse(self.0.strip_prefix(Self::SCHEMA)?).ok()
    }

    /// Whether it is kept for confhot's own use: such keys are read by name, and are in no list.
    pub fn is_own(&self) -> bool {
        self.0.starts_with('_')
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_key_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '=' | '/' | '.')
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.0)
    }
}

impl FromStr for Key {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Key, InvalidKey> {
        Key::parse(text)
    }
}

/// Position of one write in the bucket's history.
///
/// Counts writes to the *bucket*, not to one key: the revisions of a key increase but have gaps. Assigned by the server
/// (the stream sequence, ADR-8), from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a revision did to its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// Stored a value.
    Put,
    /// Left a tombstone: a delete, a purge, or a marker that the server wrote when a value expired.
    Delete,
}

impl Operation {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Put => "put",
            Operation::Delete => "delete",
        }
    }
}

/// Which verb wrote a revision (`Confhot-Writer`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Writer {
    /// `confhot loader`, from a file.
    Loader,
    /// `confhot put`.
    Put,
    /// `confhot rollback`.
    Rollback,
    /// `confhot delete`.
    Delete,
    /// A word that this version does not know.
    Other(String),
}

impl Writer {
    /// The word that stands in the header.
    pub fn as_str(&self) -> &str {
        match self {
            Writer::Loader => "loader",
            Writer::Put => "put",
            Writer::Rollback => "rollback",
            Writer::Delete => "delete",
            Writer::Other(word) => word,
        }
    }

    fn from_word(word: &str) -> Writer {
        match word {
            "loader" => Writer::Loader,
            "put" => Writer::Put,
            "rollback" => Writer::Rollback,
            "delete" => Writer::Delete,
            other => Writer::Other(other.into()),
        }
    }
}

impl Serialize for Writer {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// A change set: documents that changed together (`Confhot-Set`: `<id> <members>`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChangeSet {
    /// Tells this set from every other.
    pub id: String,
    /// How many documents belong to it.
    pub members: usize,
}

impl ChangeSet {
    /// A new set of `members` documents.
    pub fn new(members: usize) -> ChangeSet {
        ChangeSet { id: attempt_id(), members }
    }
}

/// Where a revision came from, as its headers say. A value that another client wrote has none of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Provenance {
    /// The document's format.
    pub format: Option<Format>,
    /// Which verb wrote it.
    pub writer: Option<Writer>,
    /// Who: git's `user.name <user.email>`, else the login name.
    pub author: Option<String>,
    /// The commit at whose tree the file stood unchanged, full hexadecimal id.
    pub commit: Option<String>,
    /// Why, in the author's words.
    pub message: Option<String>,
    /// The file, relative to the source directory.
    pub path: Option<String>,
    /// Which source directory: an id that survives restarts of the loader.
    pub source: Option<String>,
    /// When the publisher saw the change, by its own clock.
    pub read_at: Option<Timestamp>,
    /// The change set it belongs to.
    pub set: Option<ChangeSet>,
    /// The revision whose bytes a rollback brought back.
    pub rollback_of: Option<Revision>,
}

impl Provenance {
    /// The provenance of a write by `writer`, all else unknown.
    pub fn by(writer: Writer) -> Provenance {
        Provenance { writer: Some(writer), ..Provenance::default() }
    }

    pub(super) fn to_headers(&self, headers: &mut HeaderMap) {
        let mut set = |name: &'static str, value: &str| headers.insert(header(name), header_text(value).as_ref());
        if let Some(format) = self.format {
            set("Confhot-Format", &format.to_string());
        }
        if let Some(writer) = &self.writer {
            set("Confhot-Writer", writer.as_str());
        }
        for (name, value) in [
            ("Confhot-Author", &self.author),
            ("Confhot-Commit", &self.commit),
            ("Confhot-Message", &self.message),
            ("Confhot-Path", &self.path),
            ("Confhot-Source", &self.source),
        ] {
            if let Some(value) = value {
                set(name, value);
            }
        }
        if let Some(at) = self.read_at {
            set("Confhot-Read-At", &at.to_string());
        }
        if let Some(change_set) = &self.set {
            set("Confhot-Set", &format!("{} {}", change_set.id, change_set.members));
        }
        if let Some(revision) = self.rollback_of {
            set("Confhot-Rollback-Of", &revision.to_string());
        }
    }

    /// Takes in the header `Confhot-<name>`.
    fn take(&mut self, name: &str, text: &str) {
        match name {
            "Format" => self.format = text.parse().ok(),
            "Writer" => self.writer = Some(Writer::from_word(text)),
            "Author" => self.author = Some(text.into()),
            "Commit" => self.commit = Some(text.into()),
            "Message" => self.message = Some(text.into()),
            "Path" => self.path = Some(text.into()),
            "Source" => self.source = Some(text.into()),
            "Read-At" => self.read_at = text.parse().ok(),
            "Set" => {
                self.set = text
                    .split_once(' ')
                    .and_then(|(id, members)| Some(ChangeSet { id: id.into(), members: members.parse().ok()? }));
            }
            "Rollback-Of" => self.rollback_of = text.parse().ok().map(Revision),
            _ => {}
        }
    }
}

/// The name of a header. As a plain `&str` it would be copied for each question and each message.
pub(super) const fn header(name: &'static str) -> HeaderName {
    HeaderName::from_static(name)
}

/// A header's value ends at a line break, so a control character in it would forge the next header.
fn header_text(value: &str) -> std::borrow::Cow<'_, str> {
    if value.contains(char::is_control) {
        value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().into()
    } else {
        value.into()
    }
}

/// A word that no other process picks: 96 random bits.
pub(super) fn attempt_id() -> String {
    let mut bits = [0_u8; 16];
    // Without randomness the words still differ from each other, which is all that one process needs.
    if getrandom::fill(&mut bits[4..]).is_err() {
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
        let next = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        bits[4..8].copy_from_slice(&std::process::id().to_be_bytes());
        bits[8..].copy_from_slice(&next.to_be_bytes());
    }
    format!("{:024x}", u128::from_be_bytes(bits))
}

/// One revision of one key: its bytes, when the server stored it, and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Key,
    /// Its place in the bucket's history.
    pub revision: Revision,
    /// Whether it stored a value or removed one.
    pub operation: Operation,
    /// The stored bytes; empty for a delete.
    pub value: Bytes,
    /// How many bytes were stored. Differs from `value.len()` only where the value was not asked for ([`super::Bucket::keys`]).
    pub size: usize,
    /// When the server stored it, by the server's clock.
    pub created: Timestamp,
    /// Where it came from.
    pub provenance: Provenance,
    /// Which attempt of which publisher this is (`Confhot-Attempt`).
    pub(super) attempt: Option<String>,
    /// The key's revision before this one as the republished message tells it; 0 for none, `None` where nothing tells.
    pub(super) previous: Option<u64>,
    /// Whether the server stored it in an atomic batch (ADR-50).
    pub(super) batched: bool,
    /// The key's revision before this one as its writer knew it and the server checked; 0 for none, `None` where it was
    /// not said.
    pub(super) expected: Option<u64>,
    /// Its revision in the bucket from which the server copied it.
    pub(super) origin: Option<u64>,
    /// Whether the server removed all that was before it when it stored it (`Nats-Rollup`).
    pub(super) alone: bool,
    /// The signature that it came with, which may be anything.
    pub(super) claim: Option<Box<Claim>>,
}

impl Entry {
    /// The digest of the stored bytes, computed here: a header may claim anything.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.value)
    }

    /// What a signature of it in the bucket `bucket` is about; `digest` is its digest.
    pub fn statement<'a>(&'a self, bucket: &'a str, digest: Digest) -> Statement<'a> {
        let (key, operation, format) = (self.key.as_str(), self.operation.as_str(), self.provenance.format);
        Statement { bucket, key, operation, format, digest }
    }

    /// The signature that it came with, which may be anything.
    pub fn claim(&self) -> Option<&Claim> {
        self.claim.as_deref()
    }

    /// The key's revision before this one, 0 for none, on condition of which the server was asked to store it; `None`
    /// where it was not, or where that is not told beyond doubt.
    ///
    /// A header, which a hostile writer can make look so without having asked the server: no proof by itself.
    pub fn condition(&self) -> Option<u64> {
        self.expected
    }

    /// The change set that it was stored in as one with others; `None` also for a set that the server could not store as
    /// one.
    pub fn set_id(&self) -> Option<&str> {
        self.provenance.set.as_ref().filter(|set| self.batched && set.members > 1).map(|set| set.id.as_str())
    }

    /// The key's revision before this one, `Some(None)` where there was none; `None` where nothing tells.
    pub fn previous_revision(&self) -> Option<Option<Revision>> {
        self.previous.map(|previous| Some(Revision(previous)).filter(|previous| previous.0 > 0))
    }

    /// Whether this entry replaces `other`, another entry of the same key, for somebody who reads the newest.
    ///
    /// A higher revision does. A lower one does only where the server stored it later: then the bucket was made anew,
    /// which a stale replica cannot show.
    pub fn supersedes(&self, other: &Position) -> bool {
        self.revision > other.revision || self.created > other.created
    }

    /// Where this entry stands.
    pub fn position(&self) -> Position {
        Position { revision: self.revision, created: self.created }
    }

    /// An entry that was kept outside the bucket.
    pub(crate) fn kept(
        key: Key,
        revision: Revision,
        created: Timestamp,
        format: Option<Format>,
        claim: Option<Claim>,
        value: Bytes,
    ) -> Entry {
        Entry {
            claim: claim.map(Box::new),
            provenance: Provenance { format, ..Provenance::default() },
            ..Entry::from_message(key, revision.0, created, None, value)
        }
    }

    pub(super) fn from_message(
        key: Key,
        sequence: u64,
        created: Timestamp,
        headers: Option<&HeaderMap>,
        value: Bytes,
    ) -> Entry {
        let mut entry = Entry {
            key,
            revision: Revision(sequence),
            operation: Operation::Put,
            size: value.len(),
            value,
            created,
            provenance: Provenance::default(),
            attempt: None,
            previous: None,
            batched: false,
            origin: None,
            expected: None,
            alone: false,
            claim: None,
        };
        let (mut signature, mut signer, mut elsewhere) = (None, None, false);
        // Once through all of them, on the way to every swap: to look up each name would be to hash twenty.
        for (name, values) in headers.into_iter().flat_map(HeaderMap::iter) {
            let (name, Some(text)) = (name.as_ref(), values.first().map(|value| value.as_str())) else { continue };
            match name {
                // A marker that the server wrote has a reason instead of an operation (ADR-43).
                "KV-Operation" if matches!(text, "DEL" | "PURGE") => entry.operation = Operation::Delete,
                "Nats-Marker-Reason" => entry.operation = Operation::Delete,
                "Nats-Msg-Size" => entry.size = text.parse().unwrap_or(entry.size),
                "Nats-Batch-Id" => entry.batched = true,
                "Nats-Stream-Source" => entry.origin = text.split(' ').nth(1).and_then(|from| from.parse().ok()),
                "Nats-Rollup" => entry.alone = true,
                // Where there are two of them, or it is said to be of another subject, the server checked something else
                // than what one would read.
                "Nats-Expected-Last-Subject-Sequence" if values.len() == 1 => entry.expected = text.parse().ok(),
                "Nats-Expected-Last-Subject-Sequence-Subject" => elsewhere = true,
                "Confhot-Attempt" => entry.attempt = Some(text.into()),
                "Confhot-Signature" => signature = Some(text.to_owned()),
                "Confhot-Signer" => signer = Some(text.to_owned()),
                _ => {
                    if let Some(name) = name.strip_prefix("Confhot-") {
                        entry.provenance.take(name, text);
                    }
                }
            }
        }
        entry.expected = entry.expected.filter(|_| !elsewhere);
        entry.claim = signature.zip(signer).map(|(signature, signer)| Claim { signature, signer }.into());
        entry
    }
}

/// Where an entry stands in time: enough to tell a newer one from an older one, also across a bucket made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The entry's revision.
    pub revision: Revision,
    /// When the server stored it.
    pub created: Timestamp,
}
