//! The way back: which revision a rollback returns to, and the write that does it.

use jiff::Timestamp;

use super::{Entry, Expect, Operation, Provenance, Write, Writer};

/// The revision that a rollback returns to where none is named; `history` is newest first, as
/// [`super::Bucket::history`] gives it.
///
/// The newest document that is older than the head's origin and differs from the head. The *origin* of a rollback is the
/// revision whose bytes it brought back, that of any other revision is itself: so a second rollback goes further back,
/// not forth again.
pub fn target(history: &[Entry]) -> Option<&Entry> {
    let head = history.first()?;
    // A bucket that was copied from another one has new revisions, and the old ones in its headers.
    let origin = head.provenance.rollback_of.map_or(head.revision, |origin| origin.min(head.revision));
    let current = (head.operation == Operation::Put).then(|| head.digest());
    history
        .iter()
        .filter(|entry| entry.revision < origin && entry.operation == Operation::Put)
        .find(|entry| Some(entry.digest()) != current)
}

impl Write {
    /// Stores the bytes of `target` again, over `head` and nothing newer. The provenance is the rollback's own: who and
    /// why may be added, a commit or a path of then would be wrong now.
    pub fn rollback(head: &Entry, target: &Entry) -> Write {
        let mut provenance = Provenance::by(Writer::Rollback);
        provenance.format = target.provenance.format;
        provenance.read_at = Some(Timestamp::now());
        provenance.rollback_of = Some(target.revision);
        let value = target.value.clone();
        Write::put(head.key.clone(), value, target.digest(), provenance, Expect::At(head.revision))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::{Key, Revision};
    use super::*;

    /// A history from what is told oldest first: a revision's number, its text (none: a tombstone), and the revision
    /// that it brought back.
    fn history(told: &[(u64, Option<&'static str>, Option<u64>)]) -> Vec<Entry> {
        let entry = |&(revision, text, origin): &(u64, Option<&'static str>, Option<u64>)| {
            let key = Key::parse("service1").unwrap();
            let value = Bytes::from_static(text.unwrap_or("").as_bytes());
            let mut entry = Entry::from_message(key, revision, Timestamp::UNIX_EPOCH, None, value);
            entry.operation = if text.is_some() { Operation::Put } else { Operation::Delete };
            entry.provenance.rollback_of = origin.map(Revision);
            entry
        };
        told.iter().rev().map(entry).collect()
    }

    fn goes_to(told: &[(u64, Option<&'static str>, Option<u64>)]) -> Option<u64> {
        target(&history(told)).map(|entry| entry.revision.0)
    }

    #[test]
    fn it_goes_to_the_newest_older_document_that_differs() {
        assert_eq!(goes_to(&[(1, Some("a"), None), (4, Some("b"), None)]), Some(1));
        assert_eq!(goes_to(&[(1, Some("a"), None), (2, Some("b"), None), (3, Some("b"), None)]), Some(1));
        assert_eq!(goes_to(&[(1, Some("a"), None)]), None);
        assert_eq!(goes_to(&[(1, Some("a"), None), (2, Some("a"), None)]), None);
        assert_eq!(goes_to(&[]), None);
    }

    #[test]
    fn a_second_rollback_goes_further_back_and_ends() {
        let mut told = vec![(1, Some("a"), None), (2, Some("b"), None), (3, Some("c"), None)];
        assert_eq!(goes_to(&told), Some(2));
        told.push((4, Some("b"), Some(2)));
        assert_eq!(goes_to(&told), Some(1));
        told.push((5, Some("a"), Some(1)));
        assert_eq!(goes_to(&told), None);
        // What is published next is a beginning of its own.
        told.push((6, Some("d"), None));
        assert_eq!(goes_to(&told), Some(5));
    }

    #[test]
    fn tombstones_are_skipped_and_a_deleted_key_comes_back() {
        let told = [(1, Some("a"), None), (2, None, None), (3, Some("b"), None), (4, None, None)];

        assert_eq!(goes_to(&told), Some(3));
        assert_eq!(goes_to(&told[..3]), Some(1));
        assert_eq!(goes_to(&[(1, None, None), (2, None, None)]), None);
    }

    #[test]
    fn what_came_back_is_not_left_for_its_own_bytes() {
        // Back from `b` at 3 to `a` at 2, before which `a` stood already.
        let told = [(1, Some("a"), None), (2, Some("a"), None), (3, Some("b"), None), (4, Some("a"), Some(2))];

        assert_eq!(goes_to(&told), None);
    }

    #[test]
    fn an_origin_that_is_not_retained_or_not_of_this_bucket_hides_nothing_newer_than_the_head() {
        assert_eq!(goes_to(&[(7, Some("a"), None), (8, Some("b"), None), (9, Some("c"), Some(3))]), None);
        assert_eq!(goes_to(&[(1, Some("a"), None), (2, Some("b"), Some(900))]), Some(1));
    }
}
