//! Which subjects each role needs: what `confhot acl` prints, and what `confhot doctor` asks a server.
//!
//! The subjects are those that [`Bucket`] publishes and subscribes; `tests/it/acl.rs` proves that they are enough, that
//! each of them is used, and that all others are denied. They hold for a bucket that confhot made: one that does not republish is followed by
//! consumers, which cannot be limited so far.

use std::time::Duration;

use futures_util::future::join_all;
use serde::Serialize;
use tokio::time::timeout;

use super::denied::{Interest, is_of_publishing};
use super::{Bucket, BucketError, Key, is_bucket};

/// How long a denial may be on its way beside answers that have come.
pub(super) const MOMENT: Duration = Duration::from_millis(200);

/// What somebody does with a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// Makes the bucket, and publishes to it what a directory holds; waits for instances.
    Loader,
    /// Follows these keys, and tells what it runs.
    Service(Vec<Key>),
    /// Reads and writes every key of a bucket that is there; waits for instances.
    Operator,
    /// Reads everything.
    Inspector,
    /// Sees which instance runs which revision, and reads no document.
    Status,
}

/// The subjects that a user may publish to and subscribe; all others are denied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Permissions {
    /// Allowed to publish to.
    pub publish: Vec<String>,
    /// Allowed to subscribe.
    pub subscribe: Vec<String>,
}

impl Permissions {
    /// The least that `role` needs of the bucket called `bucket`, which is in the JetStream domain `domain`, where answers
    /// come to subjects that begin with `inbox_prefix`. Of the streams in `journals` it may read what it may read of the
    /// bucket.
    ///
    /// # Errors
    /// [`BucketError::InvalidName`] where no bucket can be called so.
    pub fn of(
        role: &Role,
        bucket: &str,
        domain: Option<&str>,
        inbox_prefix: &str,
        journals: &[String],
    ) -> Result<Permissions, BucketError> {
        if !is_bucket(bucket) {
            return Err(BucketError::InvalidName(bucket.escape_debug().to_string()));
        }
        let api = domain.map_or("$JS.API".to_owned(), |domain| format!("$JS.{domain}.API"));
        let (stream, records) = (format!("KV_{bucket}"), format!("{bucket}_status"));
        let stored = |bucket: &str, key: &str| format!("$KV.{bucket}.{key}");
        // In another domain a value is published by way of the API.
        let written = |bucket: &str, key: &str| match domain {
            Some(_) => format!("{api}.{}", stored(bucket, key)),
            None => stored(bucket, key),
        };
        let direct = |bucket: &str, key: &str| format!("{api}.DIRECT.GET.KV_{bucket}.{}", stored(bucket, key));
        let one = |stream: &str| format!("{api}.STREAM.MSG.GET.{stream}");
        let all = |stream: &str| {
            [
                format!("{api}.STREAM.INFO.{stream}"),
                format!("{api}.CONSUMER.CREATE.{stream}.>"),
                format!("{api}.CONSUMER.MSG.NEXT.{stream}.*"),
                format!("{api}.CONSUMER.DELETE.{stream}.*"),
            ]
        };
        let (mut publish, mut subscribe) = (Vec::new(), vec![format!("{inbox_prefix}.>")]);
        let reads = matches!(role, Role::Loader | Role::Operator | Role::Inspector);
        let writes = matches!(role, Role::Loader | Role::Operator);
        if reads {
            for stream in std::iter::once(&stream).chain(journals) {
                publish.push(one(stream));
                publish.extend(all(stream));
            }
            publish.push(format!("{api}.DIRECT.GET.{stream}"));
            subscribe.push(format!("confhot.live.{bucket}.>"));
            subscribe.push(format!("$JS.EVENT.ADVISORY.STREAM.DELETED.{stream}"));
        }
        if reads || *role == Role::Status {
            publish.extend(all(&format!("KV_{records}")));
            subscribe.push(stored(&records, ">"));
            // Whether those are there whose records are not young.
            publish.push(format!("confhot.here.{bucket}.probe.>"));
        }
        if writes {
            publish.push(written(bucket, ">"));
            // The server forgets the records when it restarts; whoever waits for instances makes their place again.
            publish.push(one(&format!("KV_{records}")));
            publish.push(format!("{api}.STREAM.CREATE.KV_{records}"));
            publish.push(written(&records, "_since"));
            publish.push(format!("confhot.here.{bucket}"));
            publish.push(format!("confhot.here.{bucket}.tell.>"));
        }
        if *role == Role::Loader {
            publish.push(format!("{api}.INFO"));
            publish.push(format!("{api}.STREAM.CREATE.{stream}"));
        }
        if let Role::Service(keys) = role {
            subscribe.push(format!("confhot.here.{bucket}"));
            for key in keys {
                publish.push(direct(bucket, key.as_str()));
                if let Some(schema) = key.schema() {
                    publish.push(direct(bucket, schema.as_str()));
                    subscribe.push(format!("confhot.live.{bucket}.{schema}"));
                }
                // Older revisions, to start on the last good one where the newest is refused.
                publish.push(format!("{api}.CONSUMER.CREATE.{stream}.*.{}", stored(bucket, key.as_str())));
                publish.push(written(&records, &format!("{key}.*")));
                publish.push(format!("confhot.here.{bucket}.hello.*.{key}"));
                subscribe.push(format!("confhot.here.{bucket}.*.*.{key}"));
                subscribe.push(format!("confhot.live.{bucket}.{key}"));
            }
        }
        Ok(Permissions { publish, subscribe })
    }
}

impl Bucket {
    /// Asks the server for each of `permissions` whether it allows it to this connection: of those that it denies, the
    /// subject and its words. Nothing is stored, read or deleted by that.
    ///
    /// A subject with wildcards is tried with one subject that matches.
    ///
    /// # Errors
    /// [`BucketError`] where it does not answer.
    pub async fn denied(&self, permissions: &Permissions) -> Result<Vec<(String, String)>, BucketError> {
        let connection = self.connection();
        let mut listening: Vec<(&String, Interest, async_nats::Subscriber)> = Vec::new();
        for subject in &permissions.subscribe {
            let tried = subject.replace('>', "doctor");
            let interest = connection.interest(&tried);
            let subscriber = connection.client.subscribe(tried).await.map_err(BucketError::transport)?;
            listening.push((subject, interest, subscriber));
        }
        let asked = permissions.publish.iter().map(async |subject| {
            let tried = subject.replace(['>', '*'], "doctor");
            // No stream takes a message that is for a stream of another name, and no request is of such a form.
            let mut headers = async_nats::HeaderMap::new();
            headers.insert("Nats-Expected-Stream", "confhot-doctor");
            let answer = self.request(tried, Some(headers), "?".into());
            match subject.starts_with('$') {
                true => (subject, answer.await.map(drop)),
                // Of an API or of a stream; whoever listens elsewhere does not answer, but the server may deny it.
                false => (subject, timeout(MOMENT, answer).await.map_or(Ok(()), |answer| answer.map(drop))),
            }
        });
        let mut denied = Vec::new();
        for (subject, answer) in join_all(asked).await {
            match answer {
                Ok(_) | Err(BucketError::Missing(_) | BucketError::NoJetStream(_)) => {}
                // Where answers cannot be heard, that is all that is learned.
                Err(BucketError::Denied(words)) if is_of_publishing(&words) => denied.push((subject.clone(), words)),
                Err(BucketError::Denied(_)) => {}
                Err(error) => return Err(error),
            }
        }
        // The server answered what was sent later, so that all it has to say of these is on its way at most.
        let refused = listening.iter_mut().map(async |(subject, interest, _)| {
            let words = timeout(MOMENT, interest.refused()).await.ok()?;
            Some((subject.to_string(), words))
        });
        denied.extend(join_all(refused).await.into_iter().flatten());
        Ok(denied)
    }
}
