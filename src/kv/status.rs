//! Who runs what: each instance keeps one short record of each key that it follows, beside the bucket.
//!
//! The records are in a bucket of their own, `<bucket>_status`, under `<key>.<instance>`, so that any client reads them
//! (`nats kv ls configs_status`). It is kept in memory with one record a subject, and each record has an age limit of its
//! own: an instance writes it anew at each change, and every 30 s or, where they are many, less often ([`super::announce`]).
//! No consumer, no disk, and ages by the server's clock alone.
//!
//! Such slow records cannot tell who died a moment ago, and quicker ones cost the server more than all else that idle
//! instances ask of it. So each instance also listens on a subject of its own, and a reader of a record that is not young asks
//! the server whether anybody does ([`super::presence`]): a process that died does not.
//!
//! What a restart of the server forgets, the instances tell again as they reconnect. A reader can know when too little time
//! has passed for all of them: a mark stands among the records that is forgotten with them and does not age
//! ([`super::Bucket::complete_in`]), and each record says for how long its connection has stood ([`settling`]).

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Key, Revision};
use crate::document::Digest;

/// A record so young is of a live instance: longer than ten seconds and [`QUICK`], so that a process which was frozen for
/// ten counts as live however often it tells, and short enough for a dead one to be gone within fifteen.
pub(super) const FRESH: Duration = Duration::from_millis(14_250);

/// An instance tells again so soon where what it told was not stored, or where nobody could ask whether it is there.
pub(super) const QUICK: Duration = Duration::from_secs(4);

/// A record stands for so long after its instance was to tell again: one that was frozen for ten seconds is listed.
pub(super) const GRACE: Duration = FRESH.saturating_sub(QUICK);

/// The longest that an instance waits until it tells again.
pub(super) const LONGEST_BEAT: Duration = Duration::from_secs(300);

/// Instances that were cut off have told again within this where nothing else is in their way: what
/// [`super::Connection`]'s reconnects take at most, or [`QUICK`], and a moment.
pub(crate) const RETURN: Duration = Duration::from_secs(6);

/// Who has not told again so long after the server forgot it is not live any more, no less than where it forgot nothing.
pub(crate) const FORGOTTEN: Duration = GRACE;

/// Longest texts that a record carries, in bytes.
pub(super) const LONGEST_REASON: usize = 1_000;
pub(super) const LONGEST_ID: usize = 512;
pub(super) const LONGEST_NAME: usize = 256;

/// Longest record that the server takes, in bytes: all of these if JSON has to escape each byte of them.
pub(super) const LONGEST: i32 = 16_384;

/// So many records are kept: more than a server has connections for. Whoever may write records may write any number.
pub(crate) const MOST_RECORDS: usize = 65_536;
const MOST: Taken = Taken { records: MOST_RECORDS, text: 32 << 20 };

/// So many of one key, and so much text in them as if all refuse it and say why at length: whoever may write those of one
/// key only cannot crowd out the others.
const MOST_OF_A_KEY: Taken = Taken { records: 16_384, text: 16 << 20 };

/// Longest token that names an instance, in bytes.
pub(super) const LONGEST_TOKEN: usize = 128;

/// One process that follows keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Instance {
    /// What it is an instance of.
    pub service: String,
    /// Tells it from the other instances of the service.
    #[serde(rename = "instance")]
    pub id: String,
    /// The machine that it runs on.
    pub host: String,
    /// The version of confhot that it is built with.
    pub version: String,
}

impl Instance {
    /// Instance `id` of `service` on `host`, built with this version of confhot.
    pub fn new(service: impl Into<String>, id: impl Into<String>, host: impl Into<String>) -> Instance {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Instance { service: service.into(), id: id.into(), host: host.into(), version }
    }
}

/// How an instance stands to the newest revision that it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// It serves it.
    Applied,
    /// It refused it, and serves what it served before, if anything.
    Rejected,
    /// It serves an older one, or none yet.
    #[default]
    Behind,
}

/// A revision that an instance refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The revision.
    pub revision: Revision,
    /// `invalid`, or `unavailable` for one that is tried again.
    pub kind: String,
    /// One line.
    pub reason: String,
}

/// What an instance says of one key.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Report {
    /// The revision that serves.
    pub revision: Option<Revision>,
    /// Its digest.
    pub digest: Option<Digest>,
    /// The newest revision that the instance knows, a tombstone included.
    pub newest: Option<Revision>,
    /// How it stands to that.
    pub state: Standing,
    /// The newest revision that it refused, as long as it has not applied a newer one.
    pub rejected: Option<Refused>,
}

/// What stands in the status bucket. Durations, not times: readers count back from when the server stored it, so that no
/// two machines' clocks are compared.
#[derive(Serialize, Deserialize)]
pub(super) struct Record {
    #[serde(flatten)]
    pub(super) instance: Instance,
    pub(super) key: String,
    #[serde(flatten)]
    pub(super) report: Report,
    /// Since the report last changed.
    pub(super) for_ms: u64,
    /// Since the process began to follow the key.
    pub(super) up_ms: u64,
    /// Since its connection was made.
    pub(super) connected_ms: u64,
    /// Until it tells again, at the latest.
    #[serde(default)]
    pub(super) beat_ms: u64,
    /// Tells two processes with one instance id apart.
    pub(super) process: String,
    /// Whether the process has met another one with its instance id.
    #[serde(default)]
    pub(super) twin: bool,
}

/// What an instance said last of one key, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Who.
    pub instance: Instance,
    /// Of which key.
    pub key: Key,
    /// What.
    pub report: Report,
    /// When the server heard it last, by its own clock; in a [`Heard`], when this process heard it.
    pub seen: Timestamp,
    /// When the report last changed, by the same clock.
    pub since: Timestamp,
    /// How long the process had followed the key by then.
    pub up: Duration,
    /// How long its connection had stood.
    pub connected: Duration,
    /// How long it had until it was to tell again.
    pub beat: Duration,
    /// Whether the server was asked, and knows a connection on which it listens.
    pub here: bool,
    /// Tells two processes with one instance id apart.
    pub process: String,
    /// Whether it has met another process with its instance id.
    pub twin: bool,
}

/// What came over the wire just now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// An instance told what it runs.
    Status(Box<Status>),
    /// An instance said goodbye.
    Goodbye {
        /// The key that it followed.
        key: Key,
        /// Its id, as [`token`] writes it.
        token: String,
    },
}

/// An instance's id as one token of a key: what cannot stand there is written `=` and two hex digits, and what is too long
/// ends with a digest of the whole.
pub fn token(id: &str) -> String {
    let mut token = String::with_capacity(id.len());
    for byte in id.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => token.push(byte.into()),
            byte => token.push_str(&format!("={byte:02X}")),
        }
    }
    if token.len() > LONGEST_TOKEN {
        let digest = Digest::of(id.as_bytes()).to_string();
        let end = &digest[digest.len() - 32..];
        token.truncate(LONGEST_TOKEN - 1 - end.len());
        token.push('=');
        token.push_str(end);
    }
    // A token of an empty id would be none.
    if token.is_empty() { "=".into() } else { token }
}

/// The beginning of `text`, as long as it may be.
pub(super) fn clip(text: &mut String, longest: usize) {
    if text.len() > longest {
        let end = (0..=longest).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
}

/// Whether `statuses`, read at `now` by the server's clock, may lack instances that are live: the longest standing
/// connection is so young that the server was restarted a moment ago, and some instance is older than its connection, so
/// that it was a restart and not the beginning. Gives how long to wait until all of them are back.
pub fn settling(statuses: &[Status], now: Timestamp) -> Option<Duration> {
    let stood = |status: &Status| {
        let age = Duration::try_from(now.duration_since(status.seen)).unwrap_or_default();
        status.connected + age
    };
    let longest = statuses.iter().map(stood).max()?;
    let restarted = statuses.iter().any(|status| status.up > status.connected + Duration::from_secs(1));
    (restarted && longest < RETURN).then(|| RETURN - longest)
}

impl Status {
    pub(super) fn read(key: &Key, value: &[u8], seen: Timestamp) -> Option<Status> {
        if value.len() > LONGEST as usize {
            return None;
        }
        let mut record: Record = serde_json::from_slice(value).ok()?;
        // No instance writes longer ones.
        let Instance { service, id, host, version } = &mut record.instance;
        let names = [service, host, version, &mut record.process].map(|name| (name, LONGEST_NAME));
        let rejected = record.report.rejected.iter_mut();
        let reasons = rejected.flat_map(|it| [(&mut it.kind, LONGEST_NAME), (&mut it.reason, LONGEST_REASON)]);
        for (text, longest) in names.into_iter().chain(reasons).chain([(id, LONGEST_ID)]) {
            clip(text, longest + '…'.len_utf8());
        }
        // Whoever may write under one name only cannot speak for another.
        let named = format!("{}.{}", record.key, token(&record.instance.id));
        let ago = |ms: u64| Duration::from_millis(ms.min(i32::MAX as u64 * 1_000));
        (named == key.as_str()).then_some(())?;
        // Copies are as large as what they hold; what was parsed goes as a whole, and leaves no gaps between them.
        Some(Status {
            key: Key::parse(&record.key).ok()?,
            instance: record.instance.clone(),
            report: record.report.clone(),
            seen,
            since: seen.checked_sub(jiff::SignedDuration::try_from(ago(record.for_ms)).ok()?).unwrap_or(seen),
            up: ago(record.up_ms),
            connected: ago(record.connected_ms),
            beat: Duration::from_millis(record.beat_ms).clamp(QUICK, LONGEST_BEAT),
            here: false,
            process: record.process.clone(),
            twin: record.twin,
        })
    }

    /// How many bytes of text it holds.
    fn text(&self) -> usize {
        let Instance { service, id, host, version } = &self.instance;
        let refused = self.report.rejected.as_ref().map_or(0, |refused| refused.kind.len() + refused.reason.len());
        [service, id, host, version, &self.process].map(String::len).iter().sum::<usize>() + refused
    }

    /// Its id, as [`token`] writes it.
    pub fn token(&self) -> String {
        token(&self.instance.id)
    }
}

/// What a reader has room for, however many there are.
#[derive(Debug, Default)]
pub(crate) struct Room {
    of: HashMap<Key, Taken>,
    all: Taken,
}

#[derive(Debug, Default, Clone, Copy)]
struct Taken {
    records: usize,
    /// In bytes.
    text: usize,
}

impl Taken {
    fn and(self, text: usize, most: Taken) -> Option<Taken> {
        let taken = Taken { records: self.records + 1, text: self.text + text };
        (taken.records <= most.records && taken.text <= most.text).then_some(taken)
    }

    fn without(self, text: usize) -> Taken {
        Taken { records: self.records - 1, text: self.text - text }
    }
}

impl Room {
    /// Whether there is room for `status`; it is taken then.
    pub(crate) fn take(&mut self, status: &Status) -> bool {
        let of = self.of.get(&status.key).copied().unwrap_or_default().and(status.text(), MOST_OF_A_KEY);
        let (Some(of), Some(all)) = (of, self.all.and(status.text(), MOST)) else { return false };
        self.of.insert(status.key.clone(), of);
        self.all = all;
        true
    }

    /// `status`, which has taken its room, goes.
    pub(crate) fn leave(&mut self, status: &Status) {
        if let Some(of) = self.of.get_mut(&status.key) {
            (*of, self.all) = (of.without(status.text()), self.all.without(status.text()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(up: u64, connected: u64) -> Status {
        Status {
            instance: Instance::new("s", "i", "h"),
            key: Key::parse("s").unwrap(),
            report: Report::default(),
            seen: Timestamp::UNIX_EPOCH,
            since: Timestamp::UNIX_EPOCH,
            up: Duration::from_secs(up),
            connected: Duration::from_secs(connected),
            beat: QUICK,
            here: false,
            process: String::new(),
            twin: false,
        }
    }

    #[test]
    fn an_instance_id_of_any_text_is_one_token_of_a_key() {
        assert_eq!(token("web-1"), "web-1");
        assert_eq!(token("web.1/x y"), "web=2E1=2Fx=20y");
        assert_eq!(token(""), "=");
        assert!(Key::parse(&format!("k.{}", token("ü*>"))).is_ok());
        let long = [token(&".".repeat(600)), token(&".".repeat(601))];
        assert!(long.iter().all(|token| token.len() == LONGEST_TOKEN) && long[0] != long[1], "{long:?}");
        let longest = format!("{}.{}", "k".repeat(Key::MAX_LEN), long[0]);
        assert!(Key::of_record(&longest).is_ok() && Key::parse(&longest).is_err());
    }

    #[test]
    fn only_young_connections_of_older_processes_tell_of_a_restart() {
        let now = Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(1);

        assert_eq!(settling(&[], now), None);
        assert_eq!(settling(&[status(2, 2)], now), None, "a first start");
        assert_eq!(settling(&[status(60, 2), status(60, 60)], now), None, "one that reconnected by itself");
        assert_eq!(settling(&[status(60, 2), status(1, 1)], now), Some(Duration::from_secs(3)));
    }

    #[test]
    fn a_record_under_another_name_than_its_own_is_nobodys() {
        let record = serde_json::json!({
            "service": "s", "instance": "i", "host": "h", "version": "1", "key": "s", "revision": 3, "digest": null,
            "newest": 3, "state": "applied", "rejected": null, "for_ms": 5, "up_ms": u64::MAX, "connected_ms": 7,
            "process": "p",
        });
        let bytes = serde_json::to_vec(&record).unwrap();
        let read = |key: &str| Status::read(&Key::parse(key).unwrap(), &bytes, Timestamp::UNIX_EPOCH);

        assert_eq!(read("s.i").unwrap().report.revision, Some(Revision(3)));
        assert_eq!(read("s.j"), None);
        assert_eq!(read("t.i"), None);
    }

    #[test]
    fn a_record_is_no_longer_than_instances_write_it() {
        let read = |reason: usize| {
            let record = serde_json::json!({
                "service": "s".repeat(300), "instance": "i", "host": "h", "version": "1", "key": "s", "revision": 3,
                "digest": null, "newest": 4, "state": "rejected", "for_ms": 5, "up_ms": 6, "connected_ms": 7, "process": "p",
                "rejected": { "revision": 4, "kind": "invalid", "reason": "r".repeat(reason) },
            });
            Status::read(&Key::parse("s.i").unwrap(), &serde_json::to_vec(&record).unwrap(), Timestamp::UNIX_EPOCH)
        };

        let clipped = read(12_000).unwrap();
        assert!(clipped.instance.service.len() < 270 && clipped.report.rejected.unwrap().reason.len() < 1_010);
        let (mut written, once) = ("r".repeat(2_000), read(1_000).unwrap());
        assert_eq!(once.report.rejected.unwrap().reason.len(), 1_000);
        clip(&mut written, LONGEST_REASON);
        let again = written.clone();
        clip(&mut written, LONGEST_REASON + '…'.len_utf8());
        assert_eq!(written, again, "what an instance clipped is not clipped again");
        assert_eq!(read(20_000), None);
    }

    #[test]
    fn whoever_fills_the_room_of_one_key_leaves_the_others_theirs() {
        let named = |key: &str, reason: usize| {
            let mut status = status(1, 1);
            status.key = Key::parse(key).unwrap();
            let reason = "r".repeat(reason);
            status.report.rejected = Some(Refused { revision: Revision(1), kind: "invalid".into(), reason });
            status
        };
        let mut room = Room::default();
        let honest = named("a", LONGEST_REASON);
        assert!((0..12_000).all(|_| room.take(&honest)), "so many instances of a key may all say why at length");

        let taken = (0..).take_while(|_| room.take(&named("b", 3))).count();
        assert_eq!(taken, MOST_OF_A_KEY.records);
        assert!(!room.take(&named("b", 0)) && room.take(&named("c", LONGEST_REASON)));
        room.leave(&named("b", 3));
        assert!(room.take(&named("b", 3)) && !room.take(&named("b", 3)));

        let keys = (0..).take_while(|n| room.take(&named(&format!("k{n}"), 3))).count();
        assert_eq!(keys + 12_000 + taken + 1, MOST.records);
    }
}
