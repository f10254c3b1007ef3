//! Whether a revision is what somebody who is trusted signed, and stands where it was signed to: decided from what the
//! bucket retains of its key.

use super::{Entry, HISTORY, Position};
use crate::signature::{Distrust, Trust};

/// Whether the revision at `index` of `history` is trusted in the bucket `bucket`. `history` is newest first, tombstones
/// included, as [`super::Bucket::history`] and [`super::Bucket::retained`] give it.
///
/// What comes before a revision there was told by the server, and no writer can forge it. Where nothing does, nothing may
/// ever have: then only a document that was signed to be the key's first is trusted, and not one that took the place of
/// all before it, or stands at the end of a history so full that what came before may have gone.
///
/// # Errors
/// [`Distrust`].
pub fn vouched(bucket: &str, trust: &Trust, history: &[Entry], index: usize) -> Result<(), Distrust> {
    let entry = history.get(index).ok_or(Distrust::NotStored)?;
    let follows = trust.verify(&entry.statement(bucket, entry.digest()), entry.claim())?;
    follows_in(history, index, follows)
}

/// Whether the revision at `index` of `history`, which was signed to follow `follows`, does that.
///
/// # Errors
/// [`Distrust`].
fn follows_in(history: &[Entry], index: usize, follows: u64) -> Result<(), Distrust> {
    if history[index].condition() != Some(follows) {
        return Err(Distrust::Unconditional { follows });
    }
    let full = i64::try_from(history.len()).is_ok_and(|retained| retained >= HISTORY);
    match history.get(index + 1).map(|before| before.revision.0) {
        Some(after) if after != follows => Err(Distrust::Replayed { follows, after }),
        Some(_) => Ok(()),
        None if follows > 0 || full || history[index].alone => Err(Distrust::Unproven { follows }),
        None => Ok(()),
    }
}

/// Whether `entry`, which was signed to follow `follows`, is what the bucket holds and stands where it was signed to, and
/// is no older than `known`, the last one that was trusted. `retained` is what the bucket retains of its key up to it,
/// newest first.
///
/// # Errors
/// [`Distrust`].
pub fn stands(entry: &Entry, follows: u64, retained: &[Entry], known: Option<Position>) -> Result<(), Distrust> {
    let same = |stored: &&Entry| stored.position() == entry.position() && stored.value == entry.value;
    let stored = retained.first().filter(same).ok_or(Distrust::NotStored)?;
    if stored.claim() != entry.claim() || stored.condition() != entry.condition() {
        return Err(Distrust::NotStored);
    }
    follows_in(retained, 0, follows)?;
    match known {
        // Its signer had not seen what is trusted since; all that came between may have been purged. In a bucket that was
        // made anew, what it follows was stored later.
        Some(known) if entry.revision > known.revision && follows < known.revision.0 => {
            let anew = retained.get(1).is_some_and(|before| before.created > known.created);
            if anew { Ok(()) } else { Err(Distrust::Replayed { follows, after: known.revision.0 }) }
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use async_nats::HeaderMap;
    use bytes::Bytes;
    use jiff::Timestamp;

    use super::super::{Key, Revision};
    use super::*;
    use crate::signature::Signer;

    fn signer() -> Signer {
        Signer::parse(&nkeys::KeyPair::new_user().seed().unwrap()).unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// What `signer` signed to follow `follows`, stored as `revision` a second later for each revision before it.
    fn entry(signer: Option<&Signer>, revision: u64, follows: u64, text: &'static str) -> Entry {
        let key = Key::parse("service1").unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Expected-Last-Subject-Sequence", follows.to_string());
        let value = Bytes::from_static(text.as_bytes());
        let plain = Entry::from_message(key, revision, at(revision as i64), Some(&headers), value);
        let claim = signer.map(|signer| signer.sign(&plain.statement("configs", plain.digest()), follows).into());
        Entry { claim, ..plain }
    }

    #[test]
    fn a_revision_is_trusted_after_what_it_was_signed_to_follow_and_nowhere_else() {
        let ours = signer();
        let trust = ours.trust();
        let (a, b) = (entry(Some(&ours), 2, 0, "a"), entry(Some(&ours), 5, 2, "b"));
        // The first one again, at another place.
        let replay = |revision, condition| Entry { revision: Revision(revision), expected: condition, ..a.clone() };
        let judged = |history: &[Entry]| vouched("configs", &trust, history, 0);

        assert_eq!(judged(&[b.clone(), a.clone()]), Ok(()));
        assert_eq!(judged(std::slice::from_ref(&a)), Ok(()));
        assert_eq!(judged(&[replay(9, Some(0)), b.clone()]), Err(Distrust::Replayed { follows: 0, after: 5 }));
        assert_eq!(judged(&[replay(9, Some(5)), b.clone()]), Err(Distrust::Unconditional { follows: 0 }));
        assert_eq!(judged(&[replay(9, None)]), Err(Distrust::Unconditional { follows: 0 }));
        assert_eq!(judged(std::slice::from_ref(&b)), Err(Distrust::Unproven { follows: 2 }));
        assert_eq!(judged(&[Entry { alone: true, ..a.clone() }]), Err(Distrust::Unproven { follows: 0 }));
        assert_eq!(judged(&[entry(None, 3, 2, "c"), a.clone()]), Err(Distrust::Unsigned));
        assert_eq!(vouched("other", &trust, std::slice::from_ref(&a), 0), Err(Distrust::Altered));

        let mut full: Vec<_> = (2..=64).rev().map(|revision| entry(None, revision, revision - 1, "junk")).collect();
        full.push(Entry { revision: Revision(1), ..a });
        assert_eq!(vouched("configs", &trust, &full, 63), Err(Distrust::Unproven { follows: 0 }));
    }

    #[test]
    fn what_is_older_than_the_last_trusted_is_refused_unless_the_bucket_was_made_anew() {
        let ours = signer();
        let known = Position { revision: Revision(5), created: at(5) };
        let judged = |entry: &Entry, retained: &[Entry]| {
            let follows = ours.trust().verify(&entry.statement("configs", entry.digest()), entry.claim()).unwrap();
            stands(entry, follows, retained, Some(known))
        };
        let next = entry(Some(&ours), 7, 5, "next");
        let first = entry(Some(&ours), 9, 0, "first");

        assert_eq!(judged(&next, &[next.clone(), entry(None, 5, 0, "b")]), Ok(()));
        // All that was there was purged.
        let refused = Err(Distrust::Replayed { follows: 0, after: 5 });
        assert_eq!(judged(&first, std::slice::from_ref(&first)), refused);
        // A bucket made anew counts from 1 again: what is lower is of it, and what is higher follows what is younger.
        let lower = entry(Some(&ours), 1, 0, "first");
        assert_eq!(judged(&lower, std::slice::from_ref(&lower)), Ok(()));
        let higher = entry(Some(&ours), 9, 3, "c");
        let before = |second| Entry { created: at(second), ..entry(None, 3, 0, "b") };
        assert_eq!(judged(&higher, &[higher.clone(), before(6)]), Ok(()));
        assert_eq!(judged(&higher, &[higher.clone(), before(3)]), Err(Distrust::Replayed { follows: 3, after: 5 }));
    }

    #[test]
    fn what_was_only_told_and_is_not_stored_so_is_refused() {
        let ours = signer();
        let (a, b) = (entry(Some(&ours), 2, 0, "a"), entry(Some(&ours), 5, 2, "b"));
        let forged = Entry { created: at(9), ..a.clone() };

        for retained in [vec![], vec![b.clone(), a.clone()], vec![a.clone()]] {
            assert_eq!(stands(&forged, 0, &retained, None), Err(Distrust::NotStored));
        }
        assert_eq!(stands(&a, 0, std::slice::from_ref(&a), None), Ok(()));
    }
}
