//! Which schema stands for a key: the directory's, else the one that the bucket carries. One that is broken changes
//! nothing: the former one stands, or none.

use std::collections::HashMap;

use crate::document::{Digest, Document, ParseError};
use crate::kv::{Entry, Key, Operation};
use crate::schema::Schema;

/// The schemas that stand, by the keys of the documents that they are for.
#[derive(Debug, Default)]
pub(super) struct Schemas(HashMap<Key, Standing>);

#[derive(Debug)]
struct Standing {
    schema: Schema,
    digest: Digest,
    of_file: bool,
}

impl Schemas {
    /// Takes what a file of the directory holds. Tells whether another schema stands now than before.
    ///
    /// # Errors
    /// It is no schema.
    pub(super) fn of_file(&mut self, key: Key, document: &Document) -> Result<bool, ParseError> {
        let digest = document.digest();
        if let Some(standing) = self.0.get_mut(&key).filter(|standing| standing.digest == digest) {
            standing.of_file = true;
            return Ok(false);
        }
        let schema = Schema::of(document)?;
        self.0.insert(key, Standing { schema, digest, of_file: true });
        Ok(true)
    }

    /// Takes what the bucket carries, which counts where the directory has none. Tells whether another schema stands
    /// now than before.
    ///
    /// # Errors
    /// It is no schema.
    pub(super) fn of_bucket(&mut self, key: Key, entry: &Entry) -> Result<bool, ParseError> {
        let standing = self.0.get(&key);
        if standing.is_some_and(|standing| standing.of_file) {
            return Ok(false);
        }
        if entry.operation == Operation::Delete {
            return Ok(self.0.remove(&key).is_some());
        }
        let digest = entry.digest();
        if standing.is_some_and(|standing| standing.digest == digest) {
            return Ok(false);
        }
        let schema = Schema::parse(entry.value.clone())?;
        self.0.insert(key, Standing { schema, digest, of_file: false });
        Ok(true)
    }

    /// Forgets what a bucket carried that is another one now.
    pub(super) fn forget_bucket(&mut self) {
        self.0.retain(|_, standing| standing.of_file);
    }

    /// The directory has no schema for `key` any more. What it was is in the bucket still, so it stands.
    pub(super) fn file_gone(&mut self, key: &Key) {
        if let Some(standing) = self.0.get_mut(key) {
            standing.of_file = false;
        }
    }

    /// Whether the schema that stands for `key`, if any does, takes the document.
    ///
    /// # Errors
    /// The schema's first objection.
    pub(super) fn judge(&self, key: &Key, document: &Document) -> Result<(), ParseError> {
        self.0.get(key).map_or(Ok(()), |standing| standing.schema.judge(document))
    }

    /// `document`, where what the schema that stands for `key` marks is secret.
    pub(super) fn marked(&self, key: &Key, document: Document) -> Document {
        match self.0.get(key) {
            Some(standing) => {
                let marks = standing.schema.marks(&document);
                document.marked(marks)
            }
            None => document,
        }
    }
}
