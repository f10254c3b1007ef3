//! A process's own current value of one key: offered, decoded, checked, and only then swapped in.
//!
//! ```no_run
//! use std::time::Duration;
//! use confhot::kv::{Connect, Connection, Key};
//! use confhot::live::{Live, Rejection};
//!
//! #[derive(serde::Deserialize)]
//! struct Settings {
//!     greeting: String,
//! }
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let mut to = Connect::to(["nats://127.0.0.1:4222"]);
//! to.wait = true; // a service outlives every outage of the server
//! let connection = Connection::open(&to).await?;
//! let mut live = Live::<Settings>::builder(&connection.bucket("configs")?, &Key::parse("service1")?)
//!     .check(|_serving, new| async move {
//!         if new.greeting.is_empty() { Err(Rejection::invalid("`greeting` is empty")) } else { Ok(()) }
//!     })
//!     .start();
//!
//! live.ready().await;
//! loop {
//!     if let Some(current) = &*live.load() {
//!         println!("{} (revision {:?})", current.greeting, current.revision);
//!     }
//!     live.changed().await;
//! }
//! # }
//! ```
#![warn(clippy::large_futures)]

mod engine;
pub mod group;
mod state;
mod trusted;

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwapOption, Guard};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::document::{Digest, Document, Format, ParseError};
use crate::kv::{Announcer, Bucket, Instance, Key, Revision};
use crate::secret::{Identities, Sealed};
use crate::signature::Trust;

pub use engine::document_of;
use engine::{Engine, backoff, report};
pub use state::{StateDir, StateError};

/// One key's value in this process, always the last good one. Dropped, it stops following the key.
///
/// On a server that limits what its users may do, it needs to subscribe `confhot.live.<bucket>.<key>` and its inboxes
/// ([`Connect::inbox_prefix`](crate::kv::Connect)), and to publish `$JS.API.DIRECT.GET.KV_<bucket>.$KV.<bucket>.<key>`. To
/// start on an older revision where the newest is rejected takes `$JS.API.CONSUMER.CREATE.KV_<bucket>.*.$KV.<bucket>.<key>`
/// as well. None of them reads another key.
pub struct Live<T> {
    shared: Arc<Shared<T>>,
    swapped: watch::Receiver<u64>,
    stop: CancellationToken,
    task: JoinSet<()>,
}

struct Shared<T> {
    serving: ArcSwapOption<Serving<T>>,
    state: Mutex<State>,
}

/// A value that was proven, and the revision that it came from. Dereferences to the value.
#[derive(Debug)]
pub struct Serving<T> {
    /// The value.
    pub value: T,
    /// Where it came from.
    pub revision: Revision,
    /// Digest of the document's bytes.
    pub digest: Digest,
    /// The document that `value` was made from. Its bytes are as they were published; what it says is read, where it was
    /// encrypted.
    pub document: Document,
    /// When it was swapped in, by this process's clock.
    pub applied_at: Timestamp,
}

impl<T> Shared<T> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Deref for Serving<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// Why a revision was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Rejection {
    /// Whether trying again can help.
    pub kind: RejectionKind,
    /// What is wrong, in one line.
    pub reason: String,
}

/// Whether trying a rejected revision again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RejectionKind {
    /// The document is wrong: never tried again.
    Invalid,
    /// Something that it names cannot be reached now: tried again with backoff while it is the newest revision.
    Unavailable,
}

impl fmt::Display for RejectionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RejectionKind::Invalid => "invalid",
            RejectionKind::Unavailable => "unavailable",
        })
    }
}

impl Rejection {
    /// The document is wrong.
    pub fn invalid(reason: impl Into<String>) -> Rejection {
        Rejection { kind: RejectionKind::Invalid, reason: reason.into() }
    }

    /// Something that the document names cannot be reached now.
    pub fn unavailable(reason: impl Into<String>) -> Rejection {
        Rejection { kind: RejectionKind::Unavailable, reason: reason.into() }
    }
}

impl From<ParseError> for Rejection {
    fn from(error: ParseError) -> Rejection {
        Rejection::invalid(error.to_string())
    }
}

impl From<Sealed> for Rejection {
    fn from(error: Sealed) -> Rejection {
        Rejection::invalid(error.to_string())
    }
}

/// Where an applied value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The bucket.
    Server,
    /// The state directory, while no server answered.
    State,
}

/// What is known beside the value.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct State {
    /// The revision that serves.
    pub revision: Option<Revision>,
    /// Its digest.
    pub digest: Option<Digest>,
    /// Whether it is from the state directory and not yet confirmed by a server.
    pub from_state: bool,
    /// The newest revision that is known, applied or not, a tombstone included.
    pub newest: Option<Revision>,
    /// Why the newest revision is not the one that serves.
    pub rejected: Option<(Revision, Rejection)>,
    /// Whether a server is connected.
    pub connected: bool,
    /// When the server last confirmed that `newest` is the newest, by this process's clock.
    pub confirmed_at: Option<Timestamp>,
}

/// What happened, told in order and before anything that follows from it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A value serves.
    Applied {
        /// Its revision.
        revision: Revision,
        /// Its digest.
        digest: Digest,
        /// Where it came from.
        from: Origin,
        /// From the publisher's read of the change to the swap; only for what was stored while this process was
        /// subscribed.
        latency: Option<Duration>,
        /// When it was swapped in.
        at: Timestamp,
    },
    /// A revision was not taken; what served before serves on.
    Rejected {
        /// The revision.
        revision: Revision,
        /// Digest of its bytes.
        digest: Digest,
        /// Why.
        rejection: Rejection,
        /// What serves.
        serving: Option<Revision>,
    },
    /// The key has no value yet.
    Absent,
    /// The key was deleted; the value is kept. The tombstone's revision where there is one.
    Removed {
        /// The tombstone.
        revision: Option<Revision>,
    },
    /// A server is connected.
    Connected,
    /// No server is connected; why, where anybody said.
    Disconnected(Option<String>),
    /// Something does not work that the value does not depend on: reading the bucket, writing the state.
    Trouble(String),
    /// Another process calls itself the same instance, so that each is counted as the other; both tell it.
    Twin(String),
}

type Make<T> = Arc<dyn Fn(Option<Arc<Serving<T>>>, Document) -> BoxFuture<'static, Result<T, Rejection>> + Send + Sync>;
type Decode<T> = fn(Bytes, Digest, Format, bool) -> Result<(Document, T), ParseError>;
type Check<T> =
    Arc<dyn Fn(Option<Arc<Serving<T>>>, Arc<Serving<T>>) -> BoxFuture<'static, Result<(), Rejection>> + Send + Sync>;
type Observe = Arc<dyn Fn(&Event) + Send + Sync>;

/// How a [`Live`] is to be.
pub struct Builder<T> {
    bucket: Bucket,
    key: Key,
    make: Make<T>,
    /// What `make` does where it only decodes, which takes less while nobody has asked what the document says.
    decode: Option<Decode<T>>,
    schema: bool,
    trust: Option<Trust>,
    identities: Option<Arc<Identities>>,
    check: Option<Check<T>>,
    observe: Observe,
    state: Option<StateDir>,
    instance: Option<Instance>,
}

impl<T: DeserializeOwned + Send + Sync + 'static> Live<T> {
    /// A value that is decoded from the document of `key`.
    pub fn builder(bucket: &Bucket, key: &Key) -> Builder<T> {
        let made = Live::made(bucket, key, |_, document| async move { Ok(document.decode()?) });
        Builder { decode: Some(Document::decode_hashed), ..made }
    }
}

impl<T: Send + Sync + 'static> Live<T> {
    /// A value that `make` builds from the document of `key` and what served before: for values that hold more than the
    /// document says, a database pool say. It is called once for each revision, and again for an unavailable one; as a
    /// check it is dropped unfinished where a newer one comes.
    pub fn made<F, Made>(bucket: &Bucket, key: &Key, make: F) -> Builder<T>
    where
        F: Fn(Option<Arc<Serving<T>>>, Document) -> Made + Send + Sync + 'static,
        Made: Future<Output = Result<T, Rejection>> + Send + 'static,
    {
        Builder {
            bucket: bucket.clone(),
            key: key.clone(),
            make: Arc::new(move |serving, document| Box::pin(make(serving, document))),
            decode: None,
            schema: false,
            trust: None,
            identities: None,
            check: None,
            observe: Arc::new(|_| {}),
            state: None,
            instance: None,
        }
    }

    /// What serves now; none before the first good value. Lock-free, allocates nothing, never waits.
    ///
    /// Hold it briefly: a guard that is kept long makes later loads dearer. [`Live::get`] is for keeping.
    pub fn load(&self) -> Guard<Option<Arc<Serving<T>>>> {
        self.shared.serving.load()
    }

    /// What serves now, to keep.
    pub fn get(&self) -> Option<Arc<Serving<T>>> {
        self.shared.serving.load_full()
    }

    /// What is known beside the value.
    pub fn state(&self) -> State {
        self.shared.state().clone()
    }

    /// Waits until a value serves.
    pub async fn ready(&self) {
        let mut swapped = self.swapped.clone();
        // An error says that the task ended, which is when the runtime does.
        let _ = swapped.wait_for(|swaps| *swaps > 0).await;
    }

    /// Waits for the next swap after the last one that this call, or none, told of. Several may be told as one.
    pub async fn changed(&mut self) {
        if self.swapped.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Stops following the key, and tells those who wait for this instance that it left. Dropped without this, it looks
    /// like one that died.
    pub async fn close(mut self) {
        self.stop.cancel();
        while self.task.join_next().await.is_some() {}
    }

    /// A reader of the same value, for another task or thread.
    pub fn reader(&self) -> Reader<T> {
        Reader(self.shared.clone())
    }
}

/// Reads a [`Live`]'s value from anywhere. Cheap to clone; keeps the last value after the `Live` is gone.
pub struct Reader<T>(Arc<Shared<T>>);

impl<T> Clone for Reader<T> {
    fn clone(&self) -> Reader<T> {
        Reader(self.0.clone())
    }
}

impl<T> Reader<T> {
    /// As [`Live::load`].
    pub fn load(&self) -> Guard<Option<Arc<Serving<T>>>> {
        self.0.serving.load()
    }

    /// As [`Live::state`].
    pub fn state(&self) -> State {
        self.0.state().clone()
    }
}

impl<T: fmt::Debug> fmt::Debug for Live<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").field("serving", &*self.shared.serving.load()).finish_non_exhaustive()
    }
}

impl<T: Send + Sync + 'static> Builder<T> {
    /// Rejects what the schema refuses that the bucket carries for the key (`_schema.<key>`), whoever published it.
    ///
    /// Costs one read with each revision, and the right to it. A document is judged by a schema that is older than
    /// itself: what was published before a stricter one is still what a restarted service starts on. A schema that is
    /// broken is told as trouble and rejects nothing.
    ///
    /// What the schema marks as secret is hidden in [`Document::shown`] and in reasons; where it is broken, everything.
    pub fn schema(mut self) -> Builder<T> {
        self.schema = true;
        self
    }

    /// Rejects as invalid what nobody of `trust` signed for this key of this bucket, and what was put again over what came
    /// after it. What the state directory keeps must be signed as well, and so must a schema: one that is not is told as
    /// trouble and rejects nothing.
    ///
    /// What comes in while this process follows the key costs the check of a signature, where the bucket tells of writes as
    /// one does that confhot made. Where it starts, or missed something, it reads the retained
    /// revisions of its key, with the right that the start on an older revision takes.
    /// `SECURITY.md` says what is proven by that and what is not.
    pub fn trust(mut self, trust: Trust) -> Builder<T> {
        self.trust = Some(trust);
        self
    }

    /// Reads what is encrypted in a document, in memory: what is decoded, checked and served is the strings; what is kept
    /// in the state directory is the document as it was published. In reasons, and in [`Document::shown`], they are
    /// hidden.
    ///
    /// Without it, or with others than the document is encrypted for, a document with a token is rejected as invalid.
    pub fn identities(mut self, identities: Arc<Identities>) -> Builder<T> {
        self.identities = Some(identities);
        self
    }

    /// Lets the service have its say before a value is swapped in: what serves, and what would. May take its time, may
    /// probe what the value names. A newer revision does not wait for it: it is dropped, half a second after that came.
    pub fn check<F, Checked>(mut self, check: F) -> Builder<T>
    where
        F: Fn(Option<Arc<Serving<T>>>, Arc<Serving<T>>) -> Checked + Send + Sync + 'static,
        Checked: Future<Output = Result<(), Rejection>> + Send + 'static,
    {
        self.check = Some(Arc::new(move |serving, new| Box::pin(check(serving, new))));
        self
    }

    /// Calls `observe` with each event, in order, on the task that follows the key: it must not block.
    pub fn observe(mut self, observe: impl Fn(&Event) + Send + Sync + 'static) -> Builder<T> {
        self.observe = Arc::new(observe);
        self
    }

    /// Keeps the last good document in `state`, and starts from there while no server answers.
    pub fn state_dir(mut self, state: StateDir) -> Builder<T> {
        self.state = Some(state);
        self
    }

    /// Tells as `instance` which revision serves here, and which was rejected and why: what `confhot status` and
    /// `--wait` read. It needs the right to publish `$KV.<bucket>_status.<key>.<instance>`, the instance's id as
    /// [`token`](crate::kv::token) writes it, and to notice that another process has the same id, to publish
    /// `$JS.API.DIRECT.GET.KV_<bucket>_status.` and that subject.
    pub fn announce(mut self, instance: Instance) -> Builder<T> {
        self.instance = Some(instance);
        self
    }

    /// Starts to follow the key. Must be called within a tokio runtime.
    pub fn start(self) -> Live<T> {
        let (swaps, swapped) = watch::channel(0);
        let shared = Arc::new(Shared { serving: ArcSwapOption::empty(), state: Mutex::default() });
        let announcer = self.instance.clone().map(|instance| Announcer::start(&self.bucket, &self.key, instance));
        let mut engine = Engine::new(shared.clone(), swaps, self, announcer);
        let stop = CancellationToken::new();
        let mut task = JoinSet::new();
        let stopped = stop.clone();
        task.spawn(async move { engine.run(stopped).await });
        Live { shared, swapped, stop, task }
    }
}
