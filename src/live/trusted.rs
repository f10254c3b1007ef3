//! Whether a revision may be used where only signed ones are.

use super::Rejection;
use crate::document::Digest;
use crate::kv::{Bucket, BucketError, Entry, Operation, Position, trusted};
use crate::signature::{Distrust, Trust};

/// Refuses what is not trusted.
///
/// What was told `live`, in the server's words after the one that is `known` as the last trusted one, and was signed to
/// follow that one, costs one signature's check. For all else the history of the key is read, which the server tells and
/// no writer can forge: a message that was told live may be anybody's, and one that was read does not tell what it
/// follows.
pub(super) async fn vet(
    bucket: &Bucket,
    trust: &Trust,
    entry: &Entry,
    digest: Digest,
    live: bool,
    known: Option<Position>,
) -> Result<(), Rejection> {
    if known == Some(entry.position()) {
        return Ok(());
    }
    let follows = trust.verify(&entry.statement(bucket.name(), digest), entry.claim()).map_err(untrusted)?;
    let next = |known: Position| {
        known.revision.0 == follows
            && entry.revision > known.revision
            && entry.condition() == Some(follows)
            && entry.previous_revision() == Some(Some(known.revision))
    };
    if live && known.is_some_and(next) {
        return Ok(());
    }
    let retained = bucket.retained(&entry.key, entry.revision).await;
    let retained =
        retained.map_err(|error| Rejection::unavailable(format!("what it follows cannot be read: {error}")))?;
    trusted::stands(entry, follows, &retained, known).map_err(untrusted)
}

/// Why a revision was not trusted, as a rejection.
pub(super) fn untrusted(distrust: Distrust) -> Rejection {
    Rejection::invalid(format!("not trusted: {distrust}"))
}

/// What a process may start on where `refused` was refused: documents that are older and differ from it, newest first,
/// trusted ones only if `trust` says whose.
pub(super) async fn older(bucket: &Bucket, trust: Option<&Trust>, refused: &Entry) -> Result<Vec<Entry>, BucketError> {
    let digest = refused.digest();
    let mut older = match trust {
        None => bucket.older(&refused.key, refused.revision).await?,
        Some(trust) => {
            let retained = bucket.retained(&refused.key, refused.revision).await?;
            let usable = |index: &usize| {
                let entry = &retained[*index];
                entry.operation == Operation::Put
                    && entry.revision < refused.revision
                    && trusted::vouched(bucket.name(), trust, &retained, *index).is_ok()
            };
            (0..retained.len()).filter(usable).map(|index| retained[index].clone()).collect()
        }
    };
    // An untrusted one may hold the very bytes of a trusted one.
    older.retain(|entry| trust.is_some() || entry.digest() != digest);
    Ok(older)
}
