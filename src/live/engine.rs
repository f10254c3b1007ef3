//! The loop behind a [`Live`]: what is told of the key is decoded, checked, swapped in, and told on.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{Builder, Event, Origin, Rejection, RejectionKind, Serving, Shared, State, trusted};
use crate::document::{Digest, Document, Format, ParseError};
use crate::kv::{
    Announcer, Bucket, BucketError, Entry, Floor, Key, Operation, Position, Refused, Report, Revision, Seen, Standing,
    Watch,
};
use crate::schema::Schema;
use crate::secret;

/// An unavailable revision, to be tried again.
struct Pending {
    entry: Box<Entry>,
    from: Origin,
    attempts: u32,
    due: Instant,
}

/// What the watch tells.
#[derive(Default)]
struct Inbox {
    /// None before it is known what the state directory holds.
    watch: Option<Watch>,
    /// What was told while a revision was being proven, and is to be dealt with after it.
    later: VecDeque<Seen>,
}

impl Inbox {
    /// What is to be dealt with next. Cancel-safe.
    async fn next(&mut self) -> Option<Seen> {
        match self.later.pop_front() {
            Some(seen) => Some(seen),
            None => self.told().await,
        }
    }

    /// What is told from now on. Cancel-safe.
    async fn told(&mut self) -> Option<Seen> {
        match &mut self.watch {
            Some(watch) => watch.next().await,
            None => std::future::pending().await,
        }
    }
}

/// A schema, none for one that is broken or not trusted, and the revision from which on it judges.
type Judge = (Option<Arc<Schema>>, Option<Revision>);

/// The schema of the key, followed: to ask for it at each change would take longer than all else.
struct Feed {
    watch: Watch,
    entry: Option<Box<Entry>>,
    /// Whether the server has confirmed it on this connection.
    fresh: bool,
    /// Whether it may not be heard, on this connection, so that it is read now and then.
    deaf: bool,
    /// What it came to.
    judge: Option<(Box<Entry>, Judge)>,
}

impl Feed {
    fn start(bucket: &Bucket, schema: &Key) -> Feed {
        Feed { watch: Watch::start(bucket, schema, None), entry: None, fresh: false, deaf: false, judge: None }
    }

    /// Takes in what is told next. Cancel-safe.
    async fn turn(&mut self) {
        match self.watch.next().await {
            Some(Seen::Entry { entry, .. }) => (self.entry, self.fresh) = (Some(entry), true),
            Some(Seen::Absent) => (self.entry, self.fresh) = (None, true),
            Some(Seen::Confirmed) => self.fresh = true,
            Some(Seen::Connected) => self.deaf = false,
            Some(Seen::Disconnected(_)) | None => self.fresh = false,
            Some(Seen::Trouble(_)) => self.deaf = true,
            Some(Seen::Bucket(_)) => {}
        }
    }

    /// The newest that was told, where that is known to be the newest.
    fn current(&mut self) -> Option<Option<Box<Entry>>> {
        while self.turn().now_or_never().is_some() {}
        (self.fresh && !self.deaf).then(|| self.entry.clone())
    }
}

pub(super) struct Engine<T> {
    shared: Arc<Shared<T>>,
    swaps: watch::Sender<u64>,
    builder: Builder<T>,
    /// The key of the schema that is to hold, if one is.
    schema: Option<Key>,
    announcer: Option<Announcer>,
    /// The bucket that entries come from now.
    identity: Option<Arc<str>>,
    pending: Option<Pending>,
    /// Older revisions to start on, newest first, while the newest one was refused and nothing serves.
    older: VecDeque<Entry>,
    /// Whether what serves is one of them.
    stepped_back: bool,
    /// Whether the newest revision is a tombstone.
    removed: bool,
    /// The last revision that was trusted, and the bucket that it was of, where that is known.
    trusted: Option<(Position, Option<Arc<str>>)>,
}

/// How much longer a revision may take to prove when a newer one has come: where they follow each other closely for ever,
/// one that takes less is applied all the same.
const PATIENCE: Duration = Duration::from_millis(500);

/// How long a server may be away while a schema is read, and the pause until it is asked again.
const OUTAGE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(100);

/// What is to be done with an offered value.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// The same bytes as what serves: only the revision moves on, what depends on the value is not touched.
    Same,
    /// To be decoded and checked.
    New,
}

fn judge(serving: Option<Digest>, offered: Digest) -> Verdict {
    if serving == Some(offered) { Verdict::Same } else { Verdict::New }
}

/// The document that an entry holds: as its header says, else as what serves is written, else as it looks.
///
/// # Errors
/// [`ParseError`] of the format that was to be expected.
pub fn document_of(entry: &Entry, before: Option<Format>) -> Result<Document, ParseError> {
    match entry.provenance.format.or(before) {
        // An empty document was published on purpose: the loader refuses it otherwise.
        Some(format) => Document::parse_or_empty(entry.value.clone(), format),
        None => Document::detect(entry.value.clone()),
    }
}

impl<T: Send + Sync + 'static> Engine<T> {
    pub(super) fn new(
        shared: Arc<Shared<T>>,
        swaps: watch::Sender<u64>,
        builder: Builder<T>,
        announcer: Option<Announcer>,
    ) -> Engine<T> {
        Engine {
            schema: builder.key.schema().filter(|_| builder.schema),
            shared,
            swaps,
            builder,
            announcer,
            identity: None,
            pending: None,
            older: VecDeque::new(),
            stepped_back: false,
            removed: false,
            trusted: None,
        }
    }

    pub(super) async fn run(&mut self, stop: CancellationToken) {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = self.follow() => {}
        }
        if let Some(announcer) = self.announcer.take() {
            announcer.goodbye().await;
        }
    }

    async fn follow(&mut self) {
        let mut inbox = Inbox::default();
        let mut feed = self.schema.as_ref().map(|key| Feed::start(&self.builder.bucket, key));
        let floor = Box::pin(self.start_from_state(&mut inbox, &mut feed)).await;
        inbox.watch = Some(Watch::start(&self.builder.bucket, &self.builder.key, floor));
        loop {
            self.announce();
            let due = self.pending.as_ref().map(|pending| pending.due);
            let twin = async {
                match &mut self.announcer {
                    Some(announcer) => announcer.twin().await,
                    None => std::future::pending().await,
                }
            };
            let schema = async {
                match &mut feed {
                    Some(feed) => feed.turn().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                seen = inbox.next() => match seen {
                    Some(seen) => self.seen(seen, &mut inbox, &mut feed).await,
                    None => return,
                },
                // Made when it is polled: a timer that nobody needs is a part of what a message costs.
                () = async { sleep_until(due.unwrap_or_else(Instant::now)).await }, if due.is_some() => {
                    if let Some(pending) = self.pending.take() {
                        self.offer(pending.entry, pending.from, false, pending.attempts + 1, &mut inbox, &mut feed).await;
                    }
                }
                text = twin => self.tell(&Event::Twin(text)),
                () = schema => {}
                // One older revision at a time, so that a newer one need not wait for all of them.
                () = std::future::ready(()), if !self.older.is_empty() => {
                    Box::pin(self.step_back(&mut inbox, &mut feed)).await;
                }
            }
        }
    }

    async fn start_from_state(&mut self, inbox: &mut Inbox, feed: &mut Option<Feed>) -> Option<Floor> {
        let state = self.builder.state.as_ref()?;
        match state.read(&self.builder.key) {
            Ok(Some(kept)) => {
                let floor = kept.floor();
                let of = kept.bucket.as_deref().map(Arc::from);
                self.offer(Box::new(kept.entry), Origin::State, false, 0, inbox, feed).await;
                if let Some((_, bucket)) = &mut self.trusted {
                    *bucket = of;
                }
                // A document that this process refuses is no reason to refuse what the server has.
                self.shared.serving.load().is_some().then_some(floor).flatten()
            }
            Ok(None) => None,
            Err(error) => {
                self.tell(&Event::Trouble(error.to_string()));
                None
            }
        }
    }

    async fn seen(&mut self, seen: Seen, inbox: &mut Inbox, feed: &mut Option<Feed>) {
        match seen {
            Seen::Entry { entry, live } => {
                self.update(|state| {
                    state.newest = Some(entry.revision);
                    state.confirmed_at = Some(Timestamp::now());
                });
                self.pending = None;
                self.older.clear();
                self.removed = entry.operation == Operation::Delete;
                match entry.operation {
                    Operation::Put => self.offer(entry, Origin::Server, live, 0, inbox, feed).await,
                    Operation::Delete => {
                        // What was rejected is not the newest any more.
                        self.update(|state| state.rejected = None);
                        self.tell(&Event::Removed { revision: Some(entry.revision) });
                    }
                }
            }
            Seen::Absent => {
                self.update(|state| state.confirmed_at = Some(Timestamp::now()));
                let served = self.shared.state().newest.is_some();
                self.tell(&if served { Event::Removed { revision: None } } else { Event::Absent });
            }
            Seen::Bucket(identity) => {
                if let Some((_, of)) = &mut self.trusted
                    && of.replace(identity.clone()).is_some_and(|of| of != identity)
                {
                    self.trusted = None;
                }
                self.identity = Some(identity);
                self.keep();
            }
            aside => self.aside(aside),
        }
    }

    /// What may be told while a revision is being proven.
    fn aside(&self, seen: Seen) {
        match seen {
            Seen::Confirmed => self.update(|state| {
                state.confirmed_at = Some(Timestamp::now());
                state.from_state = false;
            }),
            Seen::Connected => {
                self.update(|state| state.connected = true);
                self.tell(&Event::Connected);
            }
            Seen::Disconnected(why) => {
                self.update(|state| state.connected = false);
                self.tell(&Event::Disconnected(why));
            }
            Seen::Trouble(what) => self.tell(&Event::Trouble(what)),
            Seen::Entry { .. } | Seen::Absent | Seen::Bucket(_) => {}
        }
    }

    /// Decode, check, swap; or tell why not.
    async fn offer(
        &mut self,
        entry: Box<Entry>,
        from: Origin,
        live: bool,
        attempts: u32,
        inbox: &mut Inbox,
        feed: &mut Option<Feed>,
    ) {
        let digest = entry.digest();
        if self.builder.trust.is_some() {
            let vetted = Box::pin(self.vet(&entry, digest, from, live));
            match self.unless_newer(vetted, inbox).await {
                None => return,
                Some(Ok(())) => self.trusted = Some((entry.position(), self.identity.clone())),
                Some(Err(rejection)) => return self.reject(entry, digest, rejection, from, attempts).await,
            }
        }
        let serving = self.shared.serving.load_full();
        let proven = match judge(serving.as_ref().map(|serving| serving.digest), digest) {
            Verdict::Same => {
                self.move_on(&entry, digest, from);
                return self.applied(&entry, digest, from, live, Timestamp::now());
            }
            Verdict::New => {
                let proof = pin!(self.prove(&entry, digest, serving, feed));
                match self.unless_newer(proof, inbox).await {
                    Some(proven) => proven,
                    None => return,
                }
            }
        };
        match proven {
            Ok(new) => {
                let at = new.applied_at;
                self.shared.serving.store(Some(new));
                self.move_on(&entry, digest, from);
                // Last, so that who is woken by it finds the state of this value.
                self.swaps.send_modify(|swaps| *swaps += 1);
                self.applied(&entry, digest, from, live, at);
            }
            Err(rejection) => self.reject(entry, digest, rejection, from, attempts).await,
        }
    }

    /// Whether those who are trusted signed it, for where it stands. What the state directory kept stood there once.
    async fn vet(&self, entry: &Entry, digest: Digest, from: Origin, live: bool) -> Result<(), Rejection> {
        let (Some(trust), bucket) = (&self.builder.trust, &self.builder.bucket) else { return Ok(()) };
        if from == Origin::State {
            let signed = trust.verify(&entry.statement(bucket.name(), digest), entry.claim());
            return signed.map(drop).map_err(trusted::untrusted);
        }
        let known = self.trusted.as_ref().map(|(position, _)| *position);
        trusted::vet(bucket, trust, entry, digest, live, known).await
    }

    /// Keeps a revision out: what served before serves on.
    async fn reject(&mut self, entry: Box<Entry>, digest: Digest, rejection: Rejection, from: Origin, attempts: u32) {
        let serving = self.shared.state().revision;
        let (revision, kind) = (entry.revision, rejection.kind);
        self.update(|state| state.rejected = Some((revision, rejection.clone())));
        // One event for as long as it is unavailable; that it turned out invalid is another one.
        if attempts == 0 || kind == RejectionKind::Invalid {
            self.tell(&Event::Rejected { revision, digest, rejection, serving });
        }
        if attempts == 0 && from == Origin::Server && serving.is_none() {
            Box::pin(self.look_back(&entry)).await;
        }
        if kind == RejectionKind::Unavailable {
            let due = Instant::now() + backoff(attempts);
            self.pending = Some(Pending { entry, from, attempts, due });
        }
    }

    /// Finds what was stored before a revision that was refused while nothing serves: a process that starts must not be
    /// worse off than one that was running.
    async fn look_back(&mut self, refused: &Entry) {
        match trusted::older(&self.builder.bucket, self.builder.trust.as_ref(), refused).await {
            Ok(older) => self.older = older.into(),
            Err(error) => self.tell(&Event::Trouble(format!("cannot read older revisions to start on: {error}"))),
        }
    }

    /// Serves the next older revision if it can be used. The newest one stays rejected, and an unavailable one is still
    /// tried again.
    async fn step_back(&mut self, inbox: &mut Inbox, feed: &mut Option<Feed>) {
        let Some(entry) = self.older.pop_front() else { return };
        let digest = entry.digest();
        let proof = Box::pin(self.prove(&entry, digest, None, feed));
        if let Some(Ok(new)) = self.unless_newer(proof, inbox).await {
            self.older.clear();
            self.stepped_back = true;
            // One that is trusted and cannot be used is the last trusted one all the same.
            if self.builder.trust.is_some() && self.trusted.is_none() {
                self.trusted = Some((entry.position(), self.identity.clone()));
            }
            let at = new.applied_at;
            self.shared.serving.store(Some(new));
            self.update(|state| (state.revision, state.digest) = (Some(entry.revision), Some(digest)));
            self.swaps.send_modify(|swaps| *swaps += 1);
            self.applied(&entry, digest, Origin::Server, false, at);
        }
    }

    /// Tells who asks what this process runs.
    fn announce(&self) {
        if let Some(announcer) = &self.announcer {
            announcer.tell(report(&self.shared.state(), self.removed, self.stepped_back));
        }
    }

    /// What `proof` of a revision comes to. None where a newer one came before that was done: a probe of a dead database is
    /// not to hold up the way out.
    async fn unless_newer<P>(&self, mut proof: impl Future<Output = P> + Unpin, inbox: &mut Inbox) -> Option<P> {
        // One may have come while the one before was being proven.
        let newer = |seen: &Seen| matches!(seen, Seen::Entry { .. } | Seen::Absent);
        let mut cut = inbox.later.iter().any(newer).then(|| Instant::now() + PATIENCE);
        loop {
            tokio::select! {
                biased;
                proven = &mut proof => return Some(proven),
                () = async { sleep_until(cut.unwrap_or_else(Instant::now)).await }, if cut.is_some() => return None,
                seen = inbox.told() => match seen? {
                    seen @ Seen::Bucket(_) => inbox.later.push_back(seen),
                    seen if newer(&seen) => {
                        cut = cut.or(Some(Instant::now() + PATIENCE));
                        inbox.later.push_back(seen);
                    }
                    aside => self.aside(aside),
                },
            }
        }
    }

    async fn prove(
        &self,
        entry: &Entry,
        digest: Digest,
        serving: Option<Arc<Serving<T>>>,
        feed: &mut Option<Feed>,
    ) -> Result<Arc<Serving<T>>, Rejection> {
        let before = serving.as_ref().map(|serving| serving.document.format());
        let Builder { decode, identities, .. } = &self.builder;
        let decode = decode.filter(|_| !self.builder.schema && identities.is_none());
        let (document, decoded) = match (decode, entry.provenance.format.or(before)) {
            (Some(decode), Some(format)) => {
                // An empty document was published on purpose: the loader refuses it otherwise.
                let (document, decoded) = decode(entry.value.clone(), digest, format, true)?;
                (document, Some(decoded))
            }
            _ => (document_of(entry, before)?, None),
        };
        let schema = self.schema(feed).await?;
        let mut document = secret::open(document, identities.as_deref())?;
        if let Some((schema, _)) = &schema {
            // Where nobody can say what is secret, everything is: the top level.
            let marks = schema.as_ref().map_or(vec![Vec::new()], |schema| schema.marks(&document));
            document = document.marked(marks);
        }
        let secrets = document.has_secrets().then(|| document.clone());
        let made = async {
            match schema {
                Some((Some(schema), Some(revision))) if revision < entry.revision => schema.judge(&document)?,
                _ => {}
            }
            let value = match decoded {
                Some(decoded) => decoded,
                None => (self.builder.make)(serving.clone(), document.clone()).await?,
            };
            let revision = entry.revision;
            let mut new = Arc::new(Serving { value, revision, digest, document, applied_at: Timestamp::now() });
            if let Some(check) = &self.builder.check {
                check(serving, new.clone()).await?;
                // The check may have taken its time; one that kept the value has the time of its start.
                if let Some(new) = Arc::get_mut(&mut new) {
                    new.applied_at = Timestamp::now();
                }
            }
            Ok(new)
        };
        // A reason goes to whoever asks for the status.
        made.await.map_err(|Rejection { kind, reason }| Rejection {
            kind,
            reason: secrets.map_or(reason.clone(), |document| document.hide(&reason)),
        })
    }

    /// The schema that the bucket carries for the key, none for a broken one, and its revision; none where there is none, or
    /// it is not asked for.
    ///
    /// Without a server to ask it is the one that the state directory keeps, and has no revision: what is kept beside it
    /// was judged before, and only what is secret in it has to be known.
    async fn schema(&self, feed: &mut Option<Feed>) -> Result<Option<Judge>, Rejection> {
        let Some(key) = self.schema.clone() else { return Ok(None) };
        if self.shared.state().newest.is_none() {
            let kept = self.builder.state.as_ref().and_then(|state| state.read(&key).ok().flatten());
            return Ok(kept.map(|kept| (self.compiled(&key, &kept.entry), None)));
        }
        // Told before what was stored after it, on the same connection; else it is asked for.
        let told = feed.as_mut().and_then(Feed::current);
        let entry = match told {
            Some(entry) => entry,
            None => Box::pin(self.read_schema(&key)).await?.map(Box::new),
        };
        let Some(entry) = entry.filter(|entry| entry.operation == Operation::Put) else { return Ok(None) };
        if let Some((of, judge)) = feed.as_ref().and_then(|feed| feed.judge.as_ref())
            && *of == entry
        {
            return Ok(Some(judge.clone()));
        }
        let judge = self.judge(&key, &entry);
        if let Some(feed) = feed {
            feed.judge = Some((entry, judge.clone()));
        }
        Ok(Some(judge))
    }

    /// What a schema that the bucket carries comes to, which is kept beside the state.
    fn judge(&self, key: &Key, entry: &Entry) -> Judge {
        // Where it stands cannot be shown: a service has no right to the history of a schema.
        let statement = entry.statement(self.builder.bucket.name(), entry.digest());
        if let Some(trust) = &self.builder.trust
            && let Err(distrust) = trust.verify(&statement, entry.claim())
        {
            let text = format!("{key}@{} rejects nothing: not trusted: {distrust}", entry.revision);
            self.tell(&Event::Trouble(text));
            return (None, None);
        }
        if let Some(state) = &self.builder.state
            && state.read(key).ok().flatten().is_none_or(|kept| kept.entry.value != entry.value)
            && let Err(error) = state.write(entry, self.identity.as_deref(), self.builder.trust.is_some())
        {
            self.tell(&Event::Trouble(error.to_string()));
        }
        (self.compiled(key, entry), Some(entry.revision))
    }

    fn compiled(&self, key: &Key, entry: &Entry) -> Option<Arc<Schema>> {
        let schema = Schema::parse(entry.value.clone()).map_err(|error| {
            let reason = error.reason;
            self.tell(&Event::Trouble(format!("{key}@{} rejects nothing: {reason}", entry.revision)));
        });
        schema.ok().map(Arc::new)
    }

    /// Reads the schema, and asks again while the server is away: what it told of before is not rejected for that.
    async fn read_schema(&self, key: &Key) -> Result<Option<Entry>, Rejection> {
        let until = Instant::now() + OUTAGE;
        loop {
            match self.builder.bucket.snapshot(key).await {
                Ok(entry) => return Ok(entry),
                Err(error) if matches!(error, BucketError::Denied(_)) || Instant::now() > until => {
                    return Err(Rejection::unavailable(format!("its schema cannot be read: {error}")));
                }
                Err(_) => sleep(PAUSE).await,
            }
        }
    }

    fn move_on(&mut self, entry: &Entry, digest: Digest, from: Origin) {
        self.stepped_back = false;
        let revision = entry.revision;
        self.update(|state| {
            state.revision = Some(revision);
            state.digest = Some(digest);
            state.from_state = from == Origin::State;
            state.newest = state.newest.max(Some(revision));
            state.rejected = None;
        });
    }

    fn applied(&self, entry: &Entry, digest: Digest, from: Origin, live: bool, at: Timestamp) {
        if from == Origin::Server
            && let Some(state) = &self.builder.state
            && let Err(error) = state.write(entry, self.identity.as_deref(), self.builder.trust.is_some())
        {
            self.tell(&Event::Trouble(error.to_string()));
        }
        let latency = entry.provenance.read_at.filter(|_| live).map(|read_at| {
            // The publisher's clock may run ahead of ours.
            Duration::try_from(at.duration_since(read_at)).unwrap_or_default()
        });
        self.tell(&Event::Applied { revision: entry.revision, digest, from, latency, at });
    }

    /// Writes the state again when only the bucket's identity became known.
    fn keep(&self) {
        let serving = self.shared.state().clone();
        if let Some(state) = &self.builder.state
            && !serving.from_state
            && let Err(error) = state.confirm(&self.builder.key, self.identity.as_deref(), serving.revision)
        {
            self.tell(&Event::Trouble(error.to_string()));
        }
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.shared.state());
    }

    fn tell(&self, event: &Event) {
        (self.builder.observe)(event);
    }
}

/// What is told of a key to whoever asks what this process runs.
pub(super) fn report(state: &State, removed: bool, stepped_back: bool) -> Report {
    let standing = match (&state.rejected, state.revision) {
        (Some(_), _) if !stepped_back => Standing::Rejected,
        (None, Some(revision)) if removed || state.newest == Some(revision) => Standing::Applied,
        _ => Standing::Behind,
    };
    let rejected = state.rejected.as_ref().map(|(revision, rejection)| Refused {
        revision: *revision,
        kind: rejection.kind.to_string(),
        reason: rejection.reason.clone(),
    });
    Report { revision: state.revision, digest: state.digest, newest: state.newest, state: standing, rejected }
}

/// 0.5 s, doubled up to 30 s.
pub(super) fn backoff(attempts: u32) -> Duration {
    Duration::from_millis(500 << attempts.min(6)).min(Duration::from_secs(30))
}
