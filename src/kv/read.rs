//! Reading the bucket: heads, revisions, histories, listings.

use std::ops::ControlFlow;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use bytes::Bytes;
use futures_util::StreamExt;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::entry::attempt_id;
use super::tail::{Broken, Tail};
use super::{Bucket, BucketError, ChangeSet, Entry, InvalidKey, Key, Operation, Revision, by_last, code};

/// Which keys: a key, or one with `*` for a token and `>` for the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// Every key.
    pub fn all() -> Pattern {
        Pattern(">".into())
    }

    /// The pattern that `text` says; `billing.*`, `billing.>` and plain keys are patterns.
    ///
    /// # Errors
    /// [`InvalidKey`] where a token is neither a wildcard nor could stand in a key.
    pub fn parse(text: &str) -> Result<Pattern, InvalidKey> {
        if text != ">" {
            let body = text.strip_suffix(".>").unwrap_or(text);
            let stand_in = body.split('.').map(|token| if token == "*" { "x" } else { token });
            Key::parse(&stand_in.collect::<Vec<_>>().join("."))
                .map_err(|error| InvalidKey { text: text.escape_debug().to_string(), ..error })?;
        }
        Ok(Pattern(text.to_owned()))
    }

    /// The pattern `text`, which is one.
    pub(super) fn raw(text: String) -> Pattern {
        Pattern(text)
    }

    /// Whether `key`, which matches, is in a list of what matches: confhot's own keys are where the pattern asks for them.
    pub fn lists(&self, key: &Key) -> bool {
        !key.is_own() || self.0.starts_with('_')
    }

    /// The pattern as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a consumer is to read.
pub(super) struct Reading {
    /// Which keys; several must not overlap.
    pub(super) patterns: Vec<Pattern>,
    pub(super) start: DeliverPolicy,
    /// Whether the bytes come too.
    pub(super) values: bool,
    /// A revision that matches: reads on until it, or a later one, was delivered. A consumer may live on a server that
    /// lags behind the leader, and would leave out what that has not got yet.
    pub(super) through: Option<Revision>,
}

impl Reading {
    pub(super) fn of(patterns: Vec<Pattern>, start: DeliverPolicy) -> Reading {
        Reading { patterns, start, values: true, through: None }
    }
}

/// Reads to the end.
fn always(mut each: impl FnMut(Entry)) -> impl FnMut(Entry) -> ControlFlow<()> {
    move |entry| {
        each(entry);
        ControlFlow::Continue(())
    }
}

impl From<&Key> for Pattern {
    fn from(key: &Key) -> Pattern {
        Pattern(key.as_str().to_owned())
    }
}

impl Bucket {
    /// The newest revision of `key`, a tombstone included, as the leader has it; `None` where the key was never written.
    ///
    /// # Errors
    /// [`BucketError`], [`BucketError::Missing`] among it.
    pub async fn head(&self, key: &Key) -> Result<Option<Entry>, BucketError> {
        self.leader_get(by_last(&self.subject(key.as_str()))).await
    }

    /// The revision `revision` of `key` as the leader has it; `None` where that revision is not retained, or is
    /// another key's.
    ///
    /// # Errors
    /// [`BucketError`].
    pub async fn revision(&self, key: &Key, revision: Revision) -> Result<Option<Entry>, BucketError> {
        if revision.0 == 0 {
            return Ok(None);
        }
        let entry = self.leader_get(json!({ "seq": revision.0 }).to_string().into_bytes()).await?;
        Ok(entry.filter(|entry| entry.key == *key))
    }

    /// All retained revisions of `key`, newest first, tombstones included; empty where it was never written.
    ///
    /// One request where any replica may answer, and one more to the leader, so that a replica that lags leaves
    /// nothing out at the new end.
    ///
    /// # Errors
    /// [`BucketError`].
    pub async fn history(&self, key: &Key) -> Result<Vec<Entry>, BucketError> {
        let Some(head) = self.head(key).await? else { return Ok(Vec::new()) };
        let mut entries = Vec::new();
        let mut next = 1;
        // The batch may be cut short by its size in bytes; ask on from where it ended.
        while next < head.revision.0 {
            let batch = match self.direct_batch(key, next).await {
                Ok(batch) => batch,
                // No replica answers directly in this bucket: ask the leader one by one.
                Err(BucketError::Missing(_)) => {
                    let ask = json!({ "seq": next, "next_by_subj": self.subject(key.as_str()) });
                    self.leader_get(ask.to_string().into_bytes()).await?.into_iter().collect()
                }
                Err(error) => return Err(error),
            };
            let Some(last) = batch.last().map(|entry| entry.revision.0) else { break };
            next = last + 1;
            entries.extend(batch.into_iter().filter(|entry| entry.revision < head.revision));
        }
        entries.push(head);
        entries.reverse();
        Ok(entries)
    }

    /// The retained documents of `key` below revision `before`, newest first, tombstones left out.
    ///
    /// By a consumer that the right to can be limited to this one key, so that a service may read it.
    ///
    /// # Errors
    /// [`BucketError`].
    pub async fn older(&self, key: &Key, before: Revision) -> Result<Vec<Entry>, BucketError> {
        let mut entries = self.retained(key, before).await?;
        entries.retain(|entry| entry.operation == Operation::Put && entry.revision < before);
        Ok(entries)
    }

    /// All retained revisions of `key` up to `through`, newest first, tombstones included. By the same means as
    /// [`Bucket::older`].
    ///
    /// # Errors
    /// [`BucketError`].
    pub async fn retained(&self, key: &Key, through: Revision) -> Result<Vec<Entry>, BucketError> {
        let connection = &self.0.connection;
        let mut tail = Tail::whole(self, key).await?;
        let mut entries = Vec::new();
        // It ends with `through` itself, or with what replaced it.
        let read = tokio::time::timeout(connection.timeout, async {
            loop {
                let entry = *tail.next().await?;
                let end = entry.revision >= through;
                if entry.revision <= through {
                    entries.push(entry);
                }
                if end {
                    return Ok(());
                }
            }
        })
        .await;
        tail.close().await;
        match read {
            Ok(Ok(())) => {}
            Ok(Err(Broken::Gap)) => return Err(BucketError::Interrupted),
            Ok(Err(Broken::Denied(what))) => return Err(BucketError::Denied(what)),
            Err(_) => {
                let (servers, after) = (connection.servers().to_owned(), connection.timeout);
                return Err(BucketError::TimedOut { servers, after });
            }
        }
        entries.reverse();
        Ok(entries)
    }

    /// Calls `each` with the newest revision of every key that matches, tombstones included, oldest write first.
    ///
    /// Without `values` the entries come without their bytes ([`Entry::size`] still tells how many there are). What is
    /// written meanwhile may or may not be among them.
    ///
    /// # Errors
    /// [`BucketError`].
    pub async fn each_head(&self, pattern: &Pattern, values: bool, each: impl FnMut(Entry)) -> Result<(), BucketError> {
        let through = self.newest_of(pattern, self.describe().await?.replicas).await?;
        Box::pin(self.each_head_through(pattern, values, through, each)).await
    }

    /// As [`Bucket::each_head`], as any replica has them.
    pub(super) async fn each_head_through(
        &self,
        pattern: &Pattern,
        values: bool,
        through: Option<Revision>,
        each: impl FnMut(Entry),
    ) -> Result<(), BucketError> {
        let reading = Reading { values, through, ..Reading::of(vec![pattern.clone()], DeliverPolicy::LastPerSubject) };
        self.each_message(reading, always(each)).await
    }

    /// The newest revision that matches, as the leader has it, for [`Reading::through`]; `None` where there is none, where
    /// nobody can lag, or where we may not ask.
    pub(super) async fn newest_of(&self, pattern: &Pattern, replicas: usize) -> Result<Option<Revision>, BucketError> {
        if replicas < 2 {
            return Ok(None);
        }
        match self.leader_get(by_last(&self.subject(pattern.as_str()))).await {
            Ok(newest) => Ok(newest.map(|entry| entry.revision)),
            Err(BucketError::Denied(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The members of `set` that match `pattern`, in their order; `near` is the revision of one of them.
    ///
    /// # Errors
    /// [`BucketError`].
    pub async fn members(&self, pattern: &Pattern, set: &ChangeSet, near: Revision) -> Result<Vec<Entry>, BucketError> {
        // Members of a set that was stored as one stand side by side.
        let first = Revision(near.0.saturating_sub(set.members.saturating_sub(1) as u64));
        let mut members = Vec::new();
        let start = DeliverPolicy::ByStartSequence { start_sequence: first.0.max(1) };
        let member = |entry: Entry| {
            if entry.provenance.set.as_ref() == Some(set) {
                members.push(entry);
            }
        };
        self.each_message(Reading::of(vec![pattern.clone()], start), always(member)).await?;
        Ok(members)
    }

    /// The live keys that match, oldest write first, without their bytes. confhot's own are among them only if the
    /// pattern begins with `_`.
    ///
    /// # Errors
    /// [`BucketError`].
    pub async fn keys(&self, pattern: &Pattern) -> Result<Vec<Entry>, BucketError> {
        let mut keys = Vec::new();
        self.each_head(pattern, false, |entry| {
            if entry.operation == Operation::Put && pattern.lists(&entry.key) {
                keys.push(entry);
            }
        })
        .await?;
        Ok(keys)
    }

    /// Calls `each` with what `reading` says, in the order of the bucket, until it breaks off.
    pub(super) async fn each_message(
        &self,
        reading: Reading,
        mut each: impl FnMut(Entry) -> ControlFlow<()>,
    ) -> Result<(), BucketError> {
        // A name of our own, so that the right to make it can be limited to the subjects it reads.
        let name = format!("confhot-read-{}", attempt_id());
        let mut subjects: Vec<_> = reading.patterns.iter().map(|pattern| self.subject(pattern.as_str())).collect();
        let mut create = format!("CONSUMER.CREATE.{}.{name}", self.0.stream);
        let mut config = pull::Config {
            name: Some(name.clone()),
            deliver_policy: reading.start,
            ack_policy: AckPolicy::None,
            headers_only: !reading.values,
            memory_storage: true,
            num_replicas: 1,
            inactive_threshold: Duration::from_secs(30),
            ..pull::Config::default()
        };
        if subjects.len() == 1 {
            config.filter_subject = subjects.remove(0);
            create = format!("{create}.{}", config.filter_subject);
        } else {
            config.filter_subjects = subjects;
        }
        #[derive(Deserialize)]
        struct Consumer {
            num_pending: u64,
        }
        use async_nats::jetstream::consumer::IntoConsumerConfig;
        let body = json!({ "stream_name": self.0.stream, "config": config.into_consumer_config(), "action": "create" });
        let consumer: Consumer = self.api(create, body.to_string().into_bytes()).await?;
        let next = format!("{}CONSUMER.MSG.NEXT.{}.{name}", self.0.api, self.0.stream);
        let drained = Box::pin(self.drain(&next, consumer.num_pending, reading.through, &mut each));
        let read = self.0.connection.unless_denied(&next, drained).await.flatten();
        // The server forgets it by itself in 30 s; until then it counts against the stream's limit.
        let gone = format!("CONSUMER.DELETE.{}.{name}", self.0.stream);
        let _ = self.api::<serde_json::Value>(gone, Vec::new()).await;
        read
    }

    async fn drain(
        &self,
        next: &str,
        mut pending: u64,
        through: Option<Revision>,
        each: &mut impl FnMut(Entry) -> ControlFlow<()>,
    ) -> Result<(), BucketError> {
        const BATCH: u64 = 512;
        let connection = &self.0.connection;
        let timed_out =
            || BucketError::TimedOut { servers: connection.servers().to_owned(), after: connection.timeout };
        let mut newest = Revision(0);
        let mut until = Instant::now() + connection.timeout;
        while pending > 0 || through.is_some_and(|through| newest < through) {
            let inbox = connection.client.new_inbox();
            let mut answers = connection.client.subscribe(inbox.clone()).await.map_err(BucketError::transport)?;
            let (asked, ask) = match pending {
                // It lags behind the leader: what is missing is on its way.
                0 => (1, json!({ "batch": 1, "expires": (connection.timeout * 9 / 10).as_nanos() as u64 })),
                _ => (pending.min(BATCH), json!({ "batch": pending.min(BATCH), "no_wait": true })),
            };
            connection
                .client
                .publish_with_reply(next.to_owned(), inbox, ask.to_string().into())
                .await
                .map_err(BucketError::transport)?;
            for _ in 0..asked {
                let message = tokio::time::timeout(connection.timeout, answers.next()).await.ok().flatten();
                let Some(message) = message else { return Err(timed_out()) };
                match message.status.map_or(200, |status| status.as_u16()) {
                    200 => {}
                    // Fewer than promised: the rest was overwritten since.
                    404 | 408 if through.is_none() => return Ok(()),
                    404 | 408 if pending > 0 => {
                        pending = 0;
                        break;
                    }
                    // This server has not heard of the consumer yet, which lives on another one.
                    503 if Instant::now() < until => {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                        break;
                    }
                    404 | 408 | 503 => return Err(timed_out()),
                    code => {
                        let description = message.description.unwrap_or_default();
                        return Err(BucketError::Refused { code: code.into(), description });
                    }
                }
                until = Instant::now() + connection.timeout;
                pending = pending.saturating_sub(1);
                if let Some(place) = message.reply.as_deref().and_then(reply_position) {
                    newest = Revision(place.sequence);
                    if through.is_some() {
                        // What was overwritten while it was read comes again, later than all that was promised.
                        pending = place.pending;
                    }
                }
                if let Some(entry) = self.delivered(message)
                    && each(entry).is_break()
                {
                    return Ok(());
                }
                if pending == 0 {
                    break;
                }
            }
        }
        Ok(())
    }

    /// What a consumer delivered: its place in the stream stands in the reply subject (ADR-15).
    pub(super) fn delivered(&self, message: async_nats::Message) -> Option<Entry> {
        let key = self.key_of(&message.subject)?;
        let place = reply_position(message.reply.as_deref()?)?;
        Some(Entry::from_message(key, place.sequence, place.created, message.headers.as_ref(), message.payload))
    }

    /// The newest revision of `key`, for whoever may read that key alone: as any replica has it, which may lag behind the
    /// leader; from the leader where no replica answers directly in this bucket.
    ///
    /// # Errors
    /// [`BucketError`].
    pub async fn snapshot(&self, key: &Key) -> Result<Option<Entry>, BucketError> {
        match self.direct_head(key).await {
            Err(BucketError::Missing(_)) => self.head(key).await,
            known => known,
        }
    }

    /// The newest revision of `key` as any replica has it, which may lag behind the leader.
    pub(super) async fn direct_head(&self, key: &Key) -> Result<Option<Entry>, BucketError> {
        let subject = self.subject(key.as_str());
        // The subject stands in the request's own subject, so that the right to it can be limited to one key.
        let ask = format!("{}DIRECT.GET.{}.{subject}", self.0.api, self.0.stream);
        let answer = self.request(ask, None, Bytes::new()).await?;
        self.direct_answer(answer)
    }

    /// Revisions of `key` from `first` on, oldest first, as many as one answer holds.
    async fn direct_batch(&self, key: &Key, first: u64) -> Result<Vec<Entry>, BucketError> {
        let subject = format!("{}DIRECT.GET.{}", self.0.api, self.0.stream);
        let asked = Box::pin(self.ask_for_batch(&subject, key, first));
        self.0.connection.unless_denied(&subject, asked).await.flatten()
    }

    async fn ask_for_batch(&self, subject: &str, key: &Key, first: u64) -> Result<Vec<Entry>, BucketError> {
        let connection = &self.0.connection;
        let inbox = connection.client.new_inbox();
        let mut answers = connection.client.subscribe(inbox.clone()).await.map_err(BucketError::transport)?;
        let ask = json!({ "batch": super::HISTORY, "seq": first, "next_by_subj": self.subject(key.as_str()) });
        connection
            .client
            .publish_with_reply(subject.to_owned(), inbox, ask.to_string().into())
            .await
            .map_err(BucketError::transport)?;
        let mut entries = Vec::new();
        loop {
            let message = tokio::time::timeout(connection.timeout, answers.next()).await.ok().flatten();
            let Some(message) = message else {
                return Err(BucketError::TimedOut {
                    servers: connection.servers().to_owned(),
                    after: connection.timeout,
                });
            };
            match message.status.map(|status| status.as_u16()) {
                // The end of the batch (ADR-31).
                Some(204) => return Ok(entries),
                _ => match self.direct_answer(message)? {
                    Some(entry) => entries.push(entry),
                    None => return Ok(entries),
                },
            }
        }
    }

    fn direct_answer(&self, answer: async_nats::Message) -> Result<Option<Entry>, BucketError> {
        match answer.status.map(|status| status.as_u16()) {
            None | Some(200) => {}
            Some(404) => return Ok(None),
            Some(503) => return Err(BucketError::Missing(self.0.name.clone())),
            Some(code) => {
                let description = answer.description.unwrap_or_default();
                return Err(BucketError::Refused { code: code.into(), description });
            }
        }
        let stored = answer.headers.as_ref().and_then(|headers| {
            let stored = stored(headers)?;
            Some((self.key_of(stored.subject)?, stored.sequence, stored.created))
        });
        let Some((key, sequence, created)) = stored else {
            return Err(BucketError::transport("an answer without the stored message's place"));
        };
        Ok(Some(Entry::from_message(key, sequence, created, answer.headers.as_ref(), answer.payload)))
    }

    pub(super) async fn leader_get(&self, ask: Vec<u8>) -> Result<Option<Entry>, BucketError> {
        let stream = self.0.stream.as_str();
        match self.api::<Got>(format!("STREAM.MSG.GET.{stream}"), ask).await {
            Ok(got) => Ok(self.got(got.message)),
            Err(BucketError::Refused { code: code::MESSAGE_NOT_FOUND, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn got(&self, message: GotMessage) -> Option<Entry> {
        let key = self.key_of(&message.subject)?;
        let headers = message.hdrs.map(|text| parse_headers(&text));
        Some(Entry::from_message(key, message.seq, message.time, headers.as_ref(), message.data.into()))
    }
}

/// The answer of `STREAM.MSG.GET`.
#[derive(Deserialize)]
struct Got {
    message: GotMessage,
}

#[derive(Deserialize)]
struct GotMessage {
    subject: String,
    seq: u64,
    time: Timestamp,
    #[serde(default, deserialize_with = "base64_bytes")]
    data: Vec<u8>,
    #[serde(default, deserialize_with = "base64_maybe")]
    hdrs: Option<Vec<u8>>,
}

fn base64_bytes<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    use base64::Engine;
    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
    base64::engine::general_purpose::STANDARD.decode(text.as_bytes()).map_err(serde::de::Error::custom)
}

fn base64_maybe<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<u8>>, D::Error> {
    base64_bytes(deserializer).map(Some)
}

/// The header block of a stored message: `NATS/1.0`, then a line a header.
pub(super) fn parse_headers(block: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in String::from_utf8_lossy(block).split("\r\n").skip(1) {
        if let Some((name, value)) = line.split_once(':')
            && let (Ok(name), Ok(value)) =
                (name.parse::<async_nats::HeaderName>(), value.trim_start().parse::<async_nats::HeaderValue>())
        {
            headers.append(name, value);
        }
    }
    headers
}

/// What the server adds to a stored message, as direct get and republish tell it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Stored<'h> {
    pub(super) subject: &'h str,
    pub(super) sequence: u64,
    pub(super) created: Timestamp,
    /// The stream, where that is told.
    pub(super) stream: Option<&'h str>,
    /// The subject's sequence before this one, 0 for none, where that is told.
    pub(super) previous: Option<u64>,
}

/// What the server added to a message; `None` where it is none that was stored.
pub(super) fn stored(headers: &HeaderMap) -> Option<Stored<'_>> {
    let (mut subject, mut sequence, mut created, mut stream, mut previous) = (None, None, None, None, None);
    // Once through all of them, on the way to every swap: to look up each name would be to hash it.
    for (name, values) in headers.iter() {
        // The server's own word comes last: a header of that name may be in the message as well.
        let text = || values.last().map(|value| value.as_str());
        match name.as_ref() {
            "Nats-Subject" => subject = text(),
            "Nats-Sequence" => sequence = text().and_then(|text| text.parse().ok()),
            "Nats-Time-Stamp" => created = text().and_then(|text| text.parse().ok()),
            "Nats-Stream" => stream = text(),
            "Nats-Last-Sequence" => previous = text().and_then(|text| text.parse().ok()),
            _ => {}
        }
    }
    Some(Stored { subject: subject?, sequence: sequence?, created: created?, stream, previous })
}

/// Where a delivered message stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Its sequence in the stream.
    pub(super) sequence: u64,
    /// Counts what the consumer delivered, from 1.
    pub(super) delivery: u64,
    /// When it was stored.
    pub(super) created: Timestamp,
    /// How many more match, as the server knew it then.
    pub(super) pending: u64,
}

/// What the reply subject of a delivered message tells: `$JS.ACK.[<domain>.<account>.]<stream>.<consumer>.<delivered>.
/// <stream sequence>.<consumer sequence>.<nanoseconds>.<pending>[.<random>]`.
pub(super) fn reply_position(reply: &str) -> Option<Place> {
    let tokens: Vec<&str> = reply.strip_prefix("$JS.ACK.")?.split('.').collect();
    let at = match tokens.len() {
        7 => 3,
        9.. => 5,
        _ => return None,
    };
    let created = Timestamp::from_nanosecond(tokens[at + 2].parse().ok()?).ok()?;
    let number = |token: &str| token.parse().ok();
    let (sequence, delivery, pending) = (number(tokens[at])?, number(tokens[at + 1])?, number(tokens[at + 3])?);
    Some(Place { sequence, delivery, created, pending })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_subject_of_either_form_tells_sequence_and_time() {
        let old = "$JS.ACK.KV_configs.c.1.42.7.1700000000123456789.3";
        let new = "$JS.ACK._.acc.KV_configs.c.1.42.7.1700000000123456789.3.rnd";

        assert_eq!(reply_position(old).map(|place| (place.sequence, place.delivery)), Some((42, 7)));
        assert_eq!(reply_position(old), reply_position(new));
        assert_eq!(reply_position("$JS.ACK.1.2"), None);
    }

    #[test]
    fn headers_of_a_stored_message_are_read_and_broken_lines_passed_over() {
        let headers = parse_headers(b"NATS/1.0\r\nConfhot-Author: Jo <jo@x>\r\nno colon\r\nA:b:c\r\n\r\n");

        assert_eq!(headers.get("Confhot-Author").map(|value| value.as_str()), Some("Jo <jo@x>"));
        assert_eq!(headers.get("A").map(|value| value.as_str()), Some("b:c"));
    }

    #[test]
    fn a_pattern_takes_wildcards_where_tokens_stand() {
        for good in [">", "*", "billing.*", "billing.>", "*.api", "service1"] {
            assert!(Pattern::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "a..b", "a.", ".>", "a>"] {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
    }
}
