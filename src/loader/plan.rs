//! What a loader decides, without a clock, a bucket or a directory at hand (`command-line.md`, Drift and Prune).

use crate::document::Digest;
use crate::kv::{Entry, Expect, Operation, Revision, Writer};

/// What the bucket holds of one key, as far as a loader's decisions need it. There may be 100,000 of them, and nearly all
/// were written by a loader: 64 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The newest revision.
    pub head: Revision,
    /// Digest of its bytes; none for a tombstone.
    pub digest: Option<Digest>,
    /// How many they are.
    pub size: usize,
    /// Whether a loader wrote it from this same directory.
    pub ours: bool,
    /// Whether it has the signature that a loader which signs wants of it; true where none does.
    pub signed: bool,
    /// What there is to know where no loader wrote it.
    pub foreign: Option<Box<Foreign>>,
}

/// A head that no loader wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    /// Who wrote it.
    pub writer: Option<Writer>,
    /// What a loader wrote last among the retained revisions.
    pub base: Base,
    /// Digests that the rollback at the head took back.
    pub withdrawn: Vec<Digest>,
}

/// The newest retained revision of a key that a loader wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// There is none: all of it was written by others.
    None,
    /// A document with this digest; a tombstone has none.
    Loader(Option<Digest>),
    /// The head was written by somebody else, and what is before it was not read yet.
    Unread,
}

impl Published {
    /// What the head alone tells. The base is [`Base::Unread`] unless a loader wrote the head.
    pub fn of_head(head: &Entry, source: &str) -> Published {
        let by_loader = head.provenance.writer == Some(Writer::Loader);
        let digest = (head.operation == Operation::Put).then(|| head.digest());
        let foreign = (!by_loader).then(|| {
            Foreign { writer: head.provenance.writer.clone(), base: Base::Unread, withdrawn: Vec::new() }.into()
        });
        let ours = by_loader && head.provenance.source.as_deref() == Some(source);
        Published { head: head.revision, digest, size: head.size, ours, signed: true, foreign }
    }

    /// What a loader wrote last among the retained revisions.
    pub fn base(&self) -> Base {
        self.foreign.as_ref().map_or(Base::Loader(self.digest), |foreign| foreign.base)
    }

    /// Who wrote it.
    pub fn writer(&self) -> Option<Writer> {
        self.foreign.as_ref().map_or(Some(Writer::Loader), |foreign| foreign.writer.clone())
    }

    /// What all retained revisions tell, newest first; none where there are none.
    pub fn of_history(history: &[Entry], source: &str) -> Option<Published> {
        let head = history.first()?;
        let mut published = Published::of_head(head, source);
        if let Some(foreign) = &mut published.foreign {
            let base = history.iter().find(|entry| entry.provenance.writer == Some(Writer::Loader));
            foreign.base = base
                .map_or(Base::None, |entry| Base::Loader((entry.operation == Operation::Put).then(|| entry.digest())));
            // A rollback takes back what stands between itself and the revision whose bytes it brought back.
            foreign.withdrawn = head.provenance.rollback_of.map_or_else(Vec::new, |origin| {
                let between = history.iter().skip(1).take_while(|entry| entry.revision > origin);
                between.filter(|entry| entry.operation == Operation::Put).map(Entry::digest).collect()
            });
        }
        Some(published)
    }

    /// Whether it is what a loader wrote from this same directory, with this digest.
    pub(super) fn is_ours(&self, digest: Digest) -> bool {
        self.ours && self.digest == Some(digest)
    }

    /// The key as it is after this loader wrote `size` bytes with `digest`, or a tombstone, as revision `head`.
    pub fn by_us(head: Revision, digest: Option<Digest>, size: usize) -> Published {
        Published { head, digest, size, ours: true, signed: true, foreign: None }
    }
}

/// What is to be done about one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The head holds the file's bytes.
    Unchanged,
    /// The file is to be published.
    Publish(Expect),
    /// Somebody else changed the key since a loader wrote what the file holds.
    Drift,
    /// Nothing can be said before the key's history is read.
    Read,
}

/// Decides about a file with the digest `file`.
///
/// `observed`: this process saw its content change. `enforce`: the directory wins over drift.
pub fn decide(published: Option<&Published>, file: Digest, observed: bool, enforce: bool) -> Step {
    let Some(key) = published else { return Step::Publish(Expect::Never) };
    let publish = Step::Publish(Expect::At(key.head));
    if key.digest == Some(file) {
        return if key.signed { Step::Unchanged } else { publish };
    }
    let withdrawn = key.foreign.as_ref().is_some_and(|foreign| foreign.withdrawn.contains(&file));
    match key.base() {
        _ if observed => publish,
        Base::Unread => Step::Read,
        Base::Loader(base) if base != Some(file) && !withdrawn => publish,
        Base::Loader(_) | Base::None if enforce && !withdrawn => publish,
        Base::Loader(_) | Base::None => Step::Drift,
    }
}

/// Whether `gone` keys of the `ours` that this directory wrote may be deleted at once: a fifth, and always one.
pub fn may_prune(gone: usize, ours: usize) -> bool {
    gone <= (ours / 5).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(text: &str) -> Digest {
        Digest::of(text.as_bytes())
    }

    /// A key whose head is `head`, written by `writer`, and whose newest revision by a loader is `base`.
    fn key(head: Option<&str>, writer: Option<Writer>, base: Base) -> Published {
        let foreign = Foreign { writer, base, withdrawn: Vec::new() };
        let foreign = Some(foreign.into());
        Published { head: Revision(7), digest: head.map(digest), size: 0, ours: false, signed: true, foreign }
    }

    #[test]
    fn a_key_that_was_never_written_is_published() {
        assert_eq!(decide(None, digest("a"), false, false), Step::Publish(Expect::Never));
    }

    #[test]
    fn a_file_that_equals_the_head_is_left_alone_whoever_wrote_it() {
        for base in [Base::None, Base::Unread, Base::Loader(Some(digest("b")))] {
            let key = key(Some("a"), Some(Writer::Put), base);

            assert_eq!(decide(Some(&key), digest("a"), true, true), Step::Unchanged);
        }
    }

    #[test]
    fn a_file_that_equals_a_head_without_the_wanted_signature_is_published() {
        let key = Published { signed: false, ..key(Some("a"), Some(Writer::Loader), Base::Loader(Some(digest("a")))) };

        assert_eq!(decide(Some(&key), digest("a"), false, false), Step::Publish(Expect::At(Revision(7))));
    }

    #[test]
    fn a_file_that_changed_since_a_loader_wrote_is_published_over_a_put() {
        let key = key(Some("put"), Some(Writer::Put), Base::Loader(Some(digest("old"))));

        assert_eq!(decide(Some(&key), digest("new"), false, false), Step::Publish(Expect::At(Revision(7))));
    }

    #[test]
    fn a_put_or_a_tombstone_over_an_unchanged_file_is_drift_until_enforced_or_observed() {
        let base = Base::Loader(Some(digest("file")));
        for (head, base) in [(Some("put"), base), (None, base), (Some("put"), Base::None), (None, Base::None)] {
            let key = key(head, None, base);

            assert_eq!(decide(Some(&key), digest("file"), false, false), Step::Drift);
            assert_eq!(decide(Some(&key), digest("file"), false, true), Step::Publish(Expect::At(Revision(7))));
            assert_eq!(decide(Some(&key), digest("file"), true, false), Step::Publish(Expect::At(Revision(7))));
        }
    }

    #[test]
    fn a_file_that_came_back_after_a_loader_deleted_its_key_is_published() {
        let key = key(None, Some(Writer::Loader), Base::Loader(None));

        assert_eq!(decide(Some(&key), digest("a"), false, false), Step::Publish(Expect::At(Revision(7))));
    }

    #[test]
    fn what_a_rollback_took_back_is_not_put_back_even_when_enforced() {
        let bad = digest("bad");
        let mut key = key(Some("good"), Some(Writer::Rollback), Base::Loader(Some(bad)));
        key.foreign.as_mut().unwrap().withdrawn = vec![bad];

        assert_eq!(decide(Some(&key), bad, false, true), Step::Drift);
        assert_eq!(decide(Some(&key), digest("mended"), false, true), Step::Publish(Expect::At(Revision(7))));

        // Nor where somebody else had put it, and the file followed.
        key.foreign.as_mut().unwrap().base = Base::Loader(Some(digest("first")));
        assert_eq!(decide(Some(&key), bad, false, false), Step::Drift);
        assert_eq!(decide(Some(&key), digest("mended"), false, false), Step::Publish(Expect::At(Revision(7))));
    }

    #[test]
    fn a_foreign_head_is_looked_into_before_anything_is_said() {
        let key = key(Some("put"), None, Base::Unread);

        assert_eq!(decide(Some(&key), digest("a"), false, false), Step::Read);
    }

    #[test]
    fn one_key_may_always_be_pruned_and_otherwise_a_fifth() {
        assert!(may_prune(1, 1) && may_prune(2, 10) && may_prune(0, 0));
        assert!(!may_prune(2, 9) && !may_prune(2, 2));
    }
}
