//! The protocol: one bucket of a NATS JetStream Key-Value store (ADR-8), its keys, bytes, revisions and headers.
//!
//! The only importer of `async_nats`. It knows nothing of what a document says: a broken one must still be fetched,
//! shown, compared and rolled back.
//!
//! Reads that decide something ask the stream's leader; a service's snapshot asks any replica and never goes back.

mod announce;
mod changes;
mod connection;
mod credentials;
mod denied;
mod entry;
mod journal;
mod past;
mod permissions;
mod presence;
mod publish;
mod read;
mod records;
pub mod rollback;
mod status;
mod tail;
pub mod trusted;
mod watch;
#[doc(hidden)]
pub mod wire;

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::stream;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::signature::{Signer, Trust};

pub use announce::Announcer;
pub use changes::{Change, Changes};
pub use connection::{Connect, ConnectError, Connection, Link, OLDEST_SERVER};
pub use credentials::{Credentials, inbox_prefix};
pub use entry::{ChangeSet, Entry, InvalidKey, Key, Operation, Position, Provenance, Revision, Writer};
pub use journal::{Journal, JournalLimits, JournalState};
pub use past::{Past, PastError};
pub use permissions::{Permissions, Role};
pub use presence::{Called, Roll};
pub use publish::{Bulk, Expect, PublishError, Published, Write};
pub use read::Pattern;
pub use records::{Recall, Statuses};
pub(crate) use status::{FORGOTTEN, MOST_RECORDS, RETURN, Room};
pub use status::{Heard, Instance, Refused, Report, Standing, Status, settling, token};
pub use watch::{Floor, Seen, Watch};

/// Revisions of each key that a bucket made by confhot keeps: the most that the server allows (ADR-8).
pub const HISTORY: i64 = 64;

/// A bucket, which need not exist. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Bucket(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    connection: Connection,
    name: String,
    /// The stream behind it.
    stream: String,
    /// What JetStream's API subjects begin with, the dot included.
    api: String,
    /// Who signs what is written.
    signing: Option<Arc<Signing>>,
}

/// Who signs what is written, and whose signatures count beside its own.
#[derive(Debug)]
struct Signing {
    signer: Signer,
    trust: Trust,
}

/// Why the bucket as a whole cannot be used, or did not answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BucketError {
    /// No bucket can be called so.
    #[error("`{0}` cannot be a bucket's name: it takes letters, digits, `-` and `_`")]
    InvalidName(String),
    /// There is no such bucket, or nobody in a cluster leads it just now.
    #[error("there is no bucket `{0}`")]
    Missing(String),
    /// The server runs without JetStream, or this account has none.
    #[error("the server at {0} has no JetStream")]
    NoJetStream(String),
    /// The server is older than confhot needs.
    #[error("nats-server {version} at {servers} is too old: confhot needs 2.11 or later")]
    Old {
        /// Its version.
        version: String,
        /// The URLs, passwords hidden.
        servers: String,
    },
    /// The server does not allow a subject that this needs.
    #[error("the server denies it: {0}")]
    Denied(String),
    /// The server answered with an error of its own.
    #[error("the server refuses: {description} ({code})")]
    Refused {
        /// JetStream's error code.
        code: u64,
        /// The server's words.
        description: String,
    },
    /// Nobody answered within the deadline.
    #[error("the server at {servers} did not answer within {after:?}")]
    TimedOut {
        /// The URLs, passwords hidden.
        servers: String,
        /// The deadline.
        after: Duration,
    },
    /// The connection was lost before the answer came, and is back: ask again.
    #[error("the connection was lost before the answer came")]
    Interrupted,
    /// The request was not sent, or the answer is not one.
    #[error("cannot speak with the server")]
    Transport(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl BucketError {
    fn transport(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> BucketError {
        BucketError::Transport(source.into())
    }
}

/// What confhot wants of a bucket that it makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Servers that keep a copy: 1, 3 or 5.
    pub replicas: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { replicas: 1 }
    }
}

/// What the server tells of a bucket.
#[derive(Debug, Clone)]
pub struct Description {
    /// Tells this bucket from one of the same name that was made at another time.
    pub identity: String,
    /// Revision of the newest write, 0 where there was none.
    pub last: Revision,
    /// Retained revisions, tombstones included.
    pub revisions: u64,
    /// Whether several writes can be stored as one ([`Bucket::publish_set`]).
    pub atomic: bool,
    /// Whether any replica may answer a read.
    pub direct: bool,
    /// The largest value in bytes, where the bucket sets a limit of its own.
    pub max_value: Option<usize>,
    /// What the subjects begin with under which stored writes are told again, without the last dot.
    pub(crate) republished: Option<String>,
    /// The name of the server that stores it, or leads those that do.
    pub(crate) leader: Option<String>,
    /// Servers that keep a copy.
    pub replicas: usize,
    /// In which settings the bucket differs from one that confhot makes, one line each.
    pub differences: Vec<String>,
}

impl Description {
    /// When it was made, by the server's clock.
    fn made(&self) -> Option<jiff::Timestamp> {
        self.identity.rsplit('@').next()?.parse().ok()
    }
}

/// What every answer may be instead of what was asked for.
#[derive(Deserialize)]
struct Answer {
    error: Option<ApiError>,
}

#[derive(Debug, Deserialize)]
struct ApiError {
    #[serde(default)]
    code: u64,
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

#[derive(Deserialize)]
struct StreamInfo {
    config: stream::Config,
    created: String,
    state: StreamState,
    /// The server's time; it tells one since 2.10.
    ts: Option<jiff::Timestamp>,
    cluster: Option<Placement>,
}

#[derive(Deserialize)]
struct Placement {
    leader: Option<String>,
}

#[derive(Deserialize)]
struct StreamState {
    messages: u64,
    bytes: u64,
    last_seq: u64,
}

/// JetStream's error codes that mean something to us (server/errors.json).
mod code {
    pub(super) const STREAM_NOT_FOUND: u64 = 10059;
    pub(super) const STREAM_NAME_IN_USE: u64 = 10058;
    pub(super) const MESSAGE_NOT_FOUND: u64 = 10037;
    pub(super) const WRONG_LAST_SEQUENCE: u64 = 10071;
    pub(super) const WRONG_LAST_SEQUENCE_UNKNOWN: u64 = 10164;
    pub(super) const MESSAGE_TOO_LARGE: u64 = 10054;
    pub(super) const BATCH_INCOMPLETE: u64 = 10176;
    pub(super) const TTL_DISABLED: u64 = 10166;
    pub(super) const NOT_ENABLED: u64 = 10076;
    pub(super) const NOT_ENABLED_FOR_ACCOUNT: u64 = 10039;
}

impl Bucket {
    fn new(connection: Connection, name: &str) -> Result<Bucket, BucketError> {
        if !is_bucket(name) {
            return Err(BucketError::InvalidName(name.escape_debug().to_string()));
        }
        Ok(Bucket::named(connection, name.to_owned()))
    }

    /// The bucket called `name`, which can be a bucket's name.
    fn named(connection: Connection, name: String) -> Bucket {
        let api = connection.domain.as_ref().map_or("$JS.API.".to_owned(), |domain| format!("$JS.{domain}.API."));
        Bucket(Arc::new(Inner { stream: format!("KV_{name}"), name, api, connection, signing: None }))
    }

    /// The bucket's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The same bucket, written with signatures by `signer`: every write through what this gives carries one. What is there
    /// counts as signed if it is by `signer` or one of `trust`.
    pub fn signed_by(&self, signer: Signer, trust: Trust) -> Bucket {
        let Inner { connection, name, stream, api, .. } = &*self.0;
        let (connection, name, stream, api) = (connection.clone(), name.clone(), stream.clone(), api.clone());
        let signing = Signing { trust: signer.trust().and(trust), signer };
        Bucket(Arc::new(Inner { connection, name, stream, api, signing: Some(Arc::new(signing)) }))
    }

    /// Whether `entry` need not be written again for the sake of a signature: it has one that counts, or nothing is signed
    /// here.
    pub fn is_signed(&self, entry: &Entry) -> bool {
        let Some(signing) = &self.0.signing else { return true };
        let statement = entry.statement(self.name(), entry.digest());
        signing.trust.verify(&statement, entry.claim()).is_ok_and(|follows| entry.condition() == Some(follows))
    }

    /// Whether the revision at `index` of `history`, newest first, may be signed here without a person's word: it was
    /// signed for where it stands by one who counts ([`trusted::vouched`]), or nothing is signed here.
    pub fn vouches(&self, history: &[Entry], index: usize) -> bool {
        let Some(signing) = &self.0.signing else { return true };
        trusted::vouched(self.name(), &signing.trust, history, index).is_ok()
    }

    /// The connection that it is reached by.
    pub fn connection(&self) -> &Connection {
        &self.0.connection
    }

    /// What the server knows of the bucket; asks the leader.
    ///
    /// # Errors
    /// [`BucketError::Missing`] where there is none.
    pub async fn describe(&self) -> Result<Description, BucketError> {
        Ok(self.description(&self.info().await?))
    }

    async fn info(&self) -> Result<StreamInfo, BucketError> {
        self.api(format!("STREAM.INFO.{}", self.0.stream), Vec::new()).await
    }

    /// The time by the clock of the stream's leader.
    ///
    /// # Errors
    /// [`BucketError::Missing`] where there is no bucket.
    pub async fn server_time(&self) -> Result<jiff::Timestamp, BucketError> {
        Ok(self.info().await?.ts.unwrap_or_else(jiff::Timestamp::now))
    }

    /// Makes the bucket if there is none, and the one that instances tell in what they run ([`Bucket::statuses`]), and
    /// tells of what is there then. An existing one is used as it is.
    ///
    /// # Errors
    /// [`BucketError::Refused`] where the server cannot make it, say with as many replicas.
    pub async fn ensure(&self, settings: &Settings) -> Result<Description, BucketError> {
        let mut told = self.ensure_values(settings).await?;
        // Configuration arrives without it; only that it did is not known then.
        match self.ensure_status(told.replicas).await {
            Ok(()) => {}
            Err(error @ (BucketError::Refused { .. } | BucketError::Denied(_))) => {
                told.differences.push(format!("no instance can tell what it runs: {error}"));
            }
            Err(error) => return Err(error),
        }
        Ok(told)
    }

    async fn ensure_values(&self, settings: &Settings) -> Result<Description, BucketError> {
        match self.describe().await {
            Err(BucketError::Missing(_)) => {}
            known => return known,
        }
        // An account that may not ask for the level may still make a bucket: then without the newer features.
        let level = self.api_level().await.unwrap_or(0);
        let config = self.wanted(settings, level >= 2);
        let body = serde_json::to_vec(&config).map_err(BucketError::transport)?;
        match self.api::<StreamInfo>(format!("STREAM.CREATE.{}", self.0.stream), body).await {
            Ok(info) => Ok(self.description(&info)),
            // Somebody else was faster, with other settings.
            Err(BucketError::Refused { code: code::STREAM_NAME_IN_USE, .. }) => self.describe().await,
            Err(error) => Err(error),
        }
    }

    /// The bucket that confhot makes: file storage, nothing expires, any replica answers, each stored write is told
    /// again under `confhot.live.<bucket>.<key>`.
    fn wanted(&self, settings: &Settings, atomic: bool) -> stream::Config {
        stream::Config {
            name: self.0.stream.clone(),
            description: Some("configuration, published by confhot".into()),
            subjects: vec![format!("$KV.{}.>", self.0.name)],
            max_messages: -1,
            max_bytes: -1,
            max_messages_per_subject: HISTORY,
            max_message_size: -1,
            discard: stream::DiscardPolicy::New,
            storage: stream::StorageType::File,
            num_replicas: settings.replicas,
            // 2.15 allows 1,000 by default, which other clients' watchers use up; confhot's own services hold none.
            max_consumers: 100_000,
            duplicate_window: Duration::from_secs(120),
            allow_rollup: true,
            deny_delete: true,
            allow_direct: true,
            allow_atomic_publish: atomic,
            republish: Some(stream::Republish {
                source: format!("$KV.{}.>", self.0.name),
                destination: format!("{}.>", self.live_prefix()),
                headers_only: false,
            }),
            ..stream::Config::default()
        }
    }

    fn description(&self, info: &StreamInfo) -> Description {
        let is = &info.config;
        let want = self.wanted(&Settings { replicas: is.num_replicas }, is.allow_atomic_publish);
        let mut differences = Vec::new();
        let mut differs = |what: &str, is: &dyn Display, want: &dyn Display| {
            let (is, want) = (is.to_string(), want.to_string());
            if is != want {
                differences.push(format!("{what} is {is}, confhot makes it {want}"));
            }
        };
        differs("history", &is.max_messages_per_subject, &want.max_messages_per_subject);
        differs("the age limit in seconds", &is.max_age.as_secs(), &0);
        differs("direct get", &is.allow_direct, &true);
        differs("memory storage", &(is.storage == stream::StorageType::Memory), &false);
        let republished = is.republish.as_ref().filter(|republish| !republish.headers_only).and_then(|republish| {
            let covers = republish.source == want.subjects[0] || republish.source == ">" || republish.source.is_empty();
            let kept = republish.destination.strip_suffix(".>")?;
            // A source of `>` keeps the whole subject behind the new prefix.
            let kept = if republish.source == want.subjects[0] {
                kept.to_owned()
            } else {
                format!("{kept}.$KV.{}", self.0.name)
            };
            covers.then_some(kept)
        });
        differs("republish", &republished.as_deref().unwrap_or("off"), &self.live_prefix());
        Description {
            identity: format!("{}@{}", self.0.name, info.created),
            last: Revision(info.state.last_seq),
            revisions: info.state.messages,
            atomic: is.allow_atomic_publish,
            direct: is.allow_direct,
            max_value: usize::try_from(is.max_message_size).ok().filter(|limit| *limit > 0),
            republished,
            leader: info.cluster.as_ref().and_then(|cluster| cluster.leader.clone()),
            replicas: is.num_replicas,
            differences,
        }
    }

    /// The server's JetStream API level (ADR-44): 0 before 2.11, 1 with 2.11, 2 and more with atomic batches.
    ///
    /// # Errors
    /// [`BucketError::NoJetStream`] where there is none.
    pub async fn api_level(&self) -> Result<u64, BucketError> {
        #[derive(Deserialize, Default)]
        struct Api {
            #[serde(default)]
            level: u64,
        }
        #[derive(Deserialize)]
        struct Account {
            #[serde(default)]
            api: Api,
        }
        Ok(self.api::<Account>("INFO".into(), Vec::new()).await?.api.level)
    }

    fn live_prefix(&self) -> String {
        format!("confhot.live.{}", self.0.name)
    }

    /// The subject that a stored value of `key` has.
    fn subject(&self, key: &str) -> String {
        format!("$KV.{}.{key}", self.0.name)
    }

    /// The subject to publish a value of `key` to: another one where JetStream is in another domain.
    fn publish_subject(&self, key: &str) -> String {
        match self.0.connection.domain {
            Some(_) => format!("{}$KV.{}.{key}", self.0.api, self.0.name),
            None => self.subject(key),
        }
    }

    /// Whether the connected server stores the bucket and tells of its writes itself. Nothing is lost then between a
    /// subscription and a read that was asked for after it, or as long as the connection holds; unless another account is
    /// asked that keeps to itself what it tells, which only shows in that a write is not told.
    pub(crate) fn is_direct(&self, told: &Description) -> bool {
        told.republished.is_some() && told.leader.as_ref().is_some_and(|leader| self.0.connection.is_alone(leader))
    }

    /// When to read again what is followed although nothing is known to be missing, jittered: between servers, a message may
    /// be lost without a trace. Where none can be ([`Bucket::is_direct`]), nor `missed` one was, what is left is a bucket that
    /// was set up anew under those who follow it.
    pub(crate) fn pace(&self, told: Option<&Description>, missed: bool) -> Duration {
        const PACE: Duration = Duration::from_secs(60);
        const LONG_PACE: Duration = Duration::from_secs(20 * 60);
        let pace = if !missed && told.is_some_and(|told| self.is_direct(told)) { LONG_PACE } else { PACE };
        pace / 2 + Duration::from_millis(random_below(pace.as_millis() as u64 / 2))
    }

    fn key_of(&self, subject: &str) -> Option<Key> {
        Bucket::key_in(&self.0.name, subject)
    }

    fn key_in(bucket: &str, subject: &str) -> Option<Key> {
        let text = subject.strip_prefix("$KV.")?.strip_prefix(bucket)?.strip_prefix('.')?;
        if bucket.ends_with(records::SUFFIX) { Key::of_record(text).ok() } else { Key::parse(text).ok() }
    }

    /// One request to JetStream's API, `subject` without the API's prefix.
    async fn api<T: DeserializeOwned>(&self, subject: String, body: Vec<u8>) -> Result<T, BucketError> {
        let answer = self.request(format!("{}{subject}", self.0.api), None, body.into()).await?;
        let Answer { error } = serde_json::from_slice(&answer.payload).map_err(BucketError::transport)?;
        match error {
            Some(error) => Err(self.api_error(error)),
            None => serde_json::from_slice(&answer.payload).map_err(BucketError::transport),
        }
    }

    fn api_error(&self, error: ApiError) -> BucketError {
        match error.err_code {
            code::STREAM_NOT_FOUND => BucketError::Missing(self.0.name.clone()),
            code::NOT_ENABLED | code::NOT_ENABLED_FOR_ACCOUNT => {
                BucketError::NoJetStream(self.0.connection.servers().to_owned())
            }
            0 => BucketError::Refused { code: error.code, description: error.description },
            code => BucketError::Refused { code, description: error.description },
        }
    }

    /// One request, answered or failed within the connection's deadline. A denied subject is told as soon as the server
    /// says so, not as a timeout.
    async fn request(
        &self,
        subject: String,
        headers: Option<async_nats::HeaderMap>,
        payload: bytes::Bytes,
    ) -> Result<async_nats::Message, BucketError> {
        let connection = &self.0.connection;
        connection.refuse_old()?;
        let mut gone = connection.link.clone();
        let sent_under = Some(gone.borrow().generation).filter(|_| gone.borrow().up);
        let mut request = async_nats::Request::new().payload(payload).timeout(Some(connection.timeout));
        if let Some(headers) = headers {
            request = request.headers(headers);
        }
        let sent = Box::pin(connection.client.send_request(subject.clone(), request));
        let answer = tokio::select! {
            biased;
            answer = connection.unless_denied(&subject, sent) => answer?,
            // An answer to what was sent on a connection that is gone does not come any more.
            _ = gone.wait_for(|link| sent_under.is_some_and(|sent| link.up && link.generation > sent)) => {
                return Err(BucketError::Interrupted);
            }
        };
        answer.map_err(|error| match error.kind() {
            async_nats::RequestErrorKind::TimedOut => {
                BucketError::TimedOut { servers: connection.servers().to_owned(), after: connection.timeout }
            }
            async_nats::RequestErrorKind::NoResponders if subject.contains("STREAM.") || subject.ends_with(".INFO") => {
                BucketError::NoJetStream(connection.servers().to_owned())
            }
            async_nats::RequestErrorKind::NoResponders => BucketError::Missing(self.0.name.clone()),
            _ => BucketError::transport(error),
        })
    }

    /// Deletes the bucket with all that is in it.
    ///
    /// # Errors
    /// [`BucketError::Missing`] where there is none.
    pub async fn destroy(&self) -> Result<(), BucketError> {
        let _: serde_json::Value = self.api(format!("STREAM.DELETE.{}", self.0.stream), Vec::new()).await?;
        Ok(())
    }
}

/// Whether a bucket can be called `name`.
fn is_bucket(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
}

/// A random number from 0 to `limit`, `limit` not included; 0 where the system gives no randomness.
pub(crate) fn random_below(limit: u64) -> u64 {
    let mut bits = [0_u8; 8];
    let _ = getrandom::fill(&mut bits);
    u64::from_le_bytes(bits) % limit.max(1)
}

/// The body of a request for one message.
fn by_last(subject: &str) -> Vec<u8> {
    json!({ "last_by_subj": subject }).to_string().into_bytes()
}
