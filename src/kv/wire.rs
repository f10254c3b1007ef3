//! Readers of what comes over the wire, for nobody but the fuzz targets (`fuzz/`) and the test that runs their seeds: they
//! are no part of the interface and may change at any time.

use async_nats::HeaderMap;
use bytes::Bytes;
use jiff::Timestamp;

use super::{Bucket, Entry, Key, Provenance, Status, credentials, denied, read};

/// The entry that a stored message is, by its header block (`NATS/1.0`, then a line a header).
pub fn entry(key: Key, headers: &[u8], value: Bytes) -> Entry {
    Entry::from_message(key, 1, Timestamp::UNIX_EPOCH, Some(&read::parse_headers(headers)), value)
}

/// Subject, sequence and time that a republished message tells.
pub fn position(headers: &[u8]) -> Option<(String, u64, Timestamp)> {
    let headers = read::parse_headers(headers);
    read::stored(&headers).map(|stored| (stored.subject.to_owned(), stored.sequence, stored.created))
}

/// What the header block of a write of `key` with this provenance says again.
pub fn written(key: Key, provenance: &Provenance) -> Provenance {
    let mut headers = HeaderMap::new();
    provenance.to_headers(&mut headers);
    let lines = headers.iter().flat_map(|(name, values)| values.iter().map(move |value| (name, value)));
    let block = lines.fold("NATS/1.0\r\n".to_owned(), |block, (name, value)| format!("{block}{name}: {value}\r\n"));
    entry(key, block.as_bytes(), Bytes::new()).provenance
}

/// Sequence, delivery and pending of a delivered message, by its reply subject.
pub fn place(reply: &str) -> Option<(u64, u64, u64)> {
    read::reply_position(reply).map(|place| (place.sequence, place.delivery, place.pending))
}

/// The key that a subject of the bucket names.
pub fn key(bucket: &str, subject: &str) -> Option<Key> {
    Bucket::key_in(bucket, subject)
}

/// What an instance said, by the key of its record.
pub fn status(key: &Key, record: &[u8]) -> Option<Status> {
    Status::read(key, record, Timestamp::UNIX_EPOCH)
}

/// The key of a record.
pub fn record(text: &str) -> Option<Key> {
    Key::of_record(text).ok()
}

/// Whether a server's words are about publishing.
pub fn is_of_publishing(words: &str) -> bool {
    denied::is_of_publishing(words)
}

/// Whom a `.creds` file is of.
pub fn user_of(creds: &str) -> Option<String> {
    credentials::name_in(credentials::jwt_and_seed(creds)?.0)
}
