//! Changes that are valid and still look like an accident: half a save, a template that came to nothing, a dump that was
//! redirected into the wrong file.

use super::Document;

/// How much a document holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Bytes of its text.
    pub bytes: usize,
    /// Keys of its top level.
    pub keys: usize,
}

/// What makes a change look like an accident. It is published only where somebody insists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Suspicion {
    /// No keys are left.
    #[error("it has no keys any more, where {} published", are(*.keys))]
    Emptied {
        /// How many there were.
        keys: usize,
    },
    /// It is ten times as large, and not small.
    #[error("it grew to {to} bytes from the {from} that are published")]
    Grew {
        /// Bytes of what is published.
        from: usize,
        /// Bytes of what would be.
        to: usize,
    },
}

fn are(keys: usize) -> String {
    if keys == 1 { "one is".into() } else { format!("{keys} are") }
}

/// A document up to this size may grow as it likes.
pub const SMALL: usize = 64 << 10;

/// Whether the change from `before`, what is published, to `after` looks like an accident.
pub fn suspicion(before: Extent, after: Extent) -> Option<Suspicion> {
    if after.keys == 0 && before.keys > 0 {
        Some(Suspicion::Emptied { keys: before.keys })
    } else if after.bytes > SMALL && after.bytes / 10 >= before.bytes {
        Some(Suspicion::Grew { from: before.bytes, to: after.bytes })
    } else {
        None
    }
}

impl Document {
    /// How much it holds.
    pub fn extent(&self) -> Extent {
        Extent { bytes: self.bytes.len(), keys: self.keys }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(before: (usize, usize), after: (usize, usize)) -> Option<Suspicion> {
        let extent = |(bytes, keys)| Extent { bytes, keys };
        suspicion(extent(before), extent(after))
    }

    #[test]
    fn what_lost_all_its_keys_is_suspicious_and_what_had_none_is_not() {
        assert_eq!(of((100, 3), (2, 0)), Some(Suspicion::Emptied { keys: 3 }));
        assert_eq!(of((100, 0), (2, 0)), None);
        assert_eq!(of((100, 3), (8, 1)), None);
        assert_eq!(Suspicion::Emptied { keys: 1 }.to_string(), "it has no keys any more, where one is published");
        assert_eq!(Suspicion::Emptied { keys: 3 }.to_string(), "it has no keys any more, where 3 are published");
    }

    #[test]
    fn what_grew_tenfold_is_suspicious_beyond_64_kib() {
        let grew = |from, to| Some(Suspicion::Grew { from, to });
        assert_eq!(of((10, 1), (SMALL, 1)), None);
        assert_eq!(of((10, 1), (SMALL + 1, 1)), grew(10, SMALL + 1));
        assert_eq!(of((10_000, 1), (99_999, 1)), None);
        assert_eq!(of((10_000, 1), (100_000, 1)), grew(10_000, 100_000));
        assert_eq!(of((100_000, 1), (10, 1)), None);
    }
}
