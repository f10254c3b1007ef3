//! Revisions as they are typed: `43`, `@` (the head), `@~1` (the one before it).

use std::str::FromStr;

use confhot::kv::{Bucket, BucketError, Entry, Key, Revision};

use super::{No, absent};

/// One revision of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// By its number.
    Number(Revision),
    /// So many before the head, counting the key's retained revisions, tombstones included; 0 is the head.
    Back(usize),
}

impl Which {
    pub(crate) const HEAD: Which = Which::Back(0);
}

/// The text is none of `43`, `@`, `@~1`, `~1`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a revision such as 43 or @~1 (the one before the head)")]
pub(crate) struct InvalidRevision;

impl FromStr for Which {
    type Err = InvalidRevision;

    fn from_str(text: &str) -> Result<Which, InvalidRevision> {
        // `+1` is a number to Rust.
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let which = match text.strip_prefix("@~").or_else(|| text.strip_prefix('~')) {
            Some(back) if digits(back) => back.parse().ok().map(Which::Back),
            None if text == "@" => Some(Which::HEAD),
            None if digits(text) => text.parse().ok().map(|number| Which::Number(Revision(number))),
            _ => None,
        };
        which.ok_or(InvalidRevision)
    }
}

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

/// One point in time: a revision of the bucket, none for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment(pub(crate) Option<Revision>);

/// The text is neither `43` nor `@`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a revision of the bucket such as 43, or @ for now")]
pub(crate) struct InvalidMoment;

impl FromStr for Moment {
    type Err = InvalidMoment;

    fn from_str(text: &str) -> Result<Moment, InvalidMoment> {
        match text.parse() {
            Ok(Which::HEAD) => Ok(Moment(None)),
            Ok(Which::Number(number)) => Ok(Moment(Some(number))),
            // A distance from the head counts one key's revisions.
            Ok(Which::Back(_)) | Err(InvalidRevision) => Err(InvalidMoment),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_is_a_number_or_a_distance_from_the_head() {
        for (text, which) in [
            ("43", Which::Number(Revision(43))),
            ("0", Which::Number(Revision(0))),
            ("@", Which::HEAD),
            ("@~0", Which::HEAD),
            ("@~1", Which::Back(1)),
            ("~2", Which::Back(2)),
        ] {
            assert_eq!(text.parse(), Ok(which), "{text}");
        }
        for text in ["", "~", "@~", "@~-1", "-1", "+1", "@~+1", "@1", "v43", "43 ", "99999999999999999999"] {
            assert_eq!(text.parse::<Which>(), Err(InvalidRevision), "{text}");
        }
    }

    #[test]
    fn a_moment_is_a_number_or_now() {
        assert_eq!("43".parse(), Ok(Moment(Some(Revision(43)))));
        assert_eq!("@".parse(), Ok(Moment(None)));
        for text in ["@~1", "", "x"] {
            assert_eq!(text.parse::<Moment>(), Err(InvalidMoment), "{text}");
        }
    }
}
