//! Words of the command line that have a form of our own: revisions (`43`, `@` for the head, `@~1` for the one before it),
//! points in time, durations. Pure.

use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use confhot::kv::Revision;
use jiff::SignedDuration;

/// A duration above zero, as `5s`, `500ms`, `1m30s`.
pub(crate) fn duration(text: &str) -> anyhow::Result<Duration> {
    let duration: SignedDuration = text.parse().context("expected a duration such as 5s, 500ms or 1m30s")?;
    match Duration::try_from(duration) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => bail!("a duration above zero is needed"),
    }
}

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
