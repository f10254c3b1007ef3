//! Which entry is meant by a revision as it is typed.

use confhot::kv::{Bucket, BucketError, Entry, Key, Revision};

use super::{No, absent};
pub(crate) use crate::cli::typed::{Moment, Which};

impl Which {
    /// The entry of `key` that is meant, tombstones included.
    ///
    /// # Errors
    /// [`No`] where the key was never written, or that revision is past the end, not retained, or another key's.
    pub(crate) async fn resolve(self, bucket: &Bucket, key: &Key) -> anyhow::Result<Entry> {
        let found = match self {
            Which::HEAD => bucket.head(key).await?,
            Which::Number(number) => match bucket.revision(key, number).await? {
                None => journaled(bucket, key, number).await?,
                known => known,
            },
            Which::Back(back) => {
                let mut history = bucket.history(key).await?;
                let retained = history.len();
                if retained > 0 && back >= retained {
                    return Err(No::PastTheEnd { key: key.clone(), back, retained }.into());
                }
                (back < retained).then(|| history.swap_remove(back))
            }
        };
        match (found, self) {
            (Some(entry), _) => Ok(entry),
            (None, Which::Number(revision)) if bucket.head(key).await?.is_some() => {
                Err(No::NotRetained { key: key.clone(), revision }.into())
            }
            (None, _) => Err(absent(bucket, key).await),
        }
    }
}

/// A revision that the bucket does not retain, from its journal.
async fn journaled(bucket: &Bucket, key: &Key, revision: Revision) -> Result<Option<Entry>, BucketError> {
    let found = match bucket.journal().await {
        Ok(Some(journal)) => journal.revision(key, revision).await,
        other => other.map(|_| None),
    };
    match found {
        // Whoever may read one key may not be allowed to read the journal, which is of all.
        Err(BucketError::Denied(_)) => Ok(None),
        known => known,
    }
}
