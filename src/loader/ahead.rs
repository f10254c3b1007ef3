//! Parsing a save before the loop has woken up for it.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::role;
use crate::document::{Digest, Document, Format, ParseError, Role};
use crate::source;

/// What a file's bytes are, by its name: a document, which with `allow_empty` may be empty, or a schema.
pub(super) fn parse(role: Role, bytes: Bytes, digest: Digest, allow_empty: bool) -> Result<Document, ParseError> {
    let (format, or_empty) = match role {
        Role::Document(format) => (format, allow_empty),
        _ => (Format::Json, false),
    };
    Document::check_hashed(bytes, digest, format, or_empty)
}

/// What was parsed ahead.
#[derive(Debug)]
pub(super) struct Parsed {
    role: Role,
    bytes: Bytes,
    pub(super) digest: Digest,
    pub(super) document: Result<Document, ParseError>,
}

/// The last save that was parsed ahead.
#[derive(Debug, Default)]
pub(super) struct Ahead(Arc<Mutex<Option<Parsed>>>);

impl Ahead {
    /// What parses ahead.
    pub(super) fn work(&self, allow_empty: bool) -> source::Ahead {
        let last = self.0.clone();
        source::Ahead::new(move |path, bytes| {
            // Locked meanwhile: whoever wants it had better wait than begin the same.
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            let (role, digest) = (role(path), Digest::of(&bytes));
            let document = parse(role, bytes.clone(), digest, allow_empty);
            *last = Some(Parsed { role, bytes, digest, document });
        })
    }

    /// What `bytes`, read from the file at `path`, came to, if they were parsed ahead.
    pub(super) fn take(&self, path: &Path, bytes: &Bytes) -> Option<Parsed> {
        let last = source::lock_soon(&self.0).take()?;
        (last.role == role(path) && last.bytes == bytes).then_some(last)
    }
}
