//! What one process of subscribers does, in each of the ways.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use async_nats::jetstream::{self, kv};
use bytes::Bytes;
use confhot::kv::{Bucket, Instance, Key, Seen, Watch};
use confhot::live::{Event, Live};
use futures_util::StreamExt;
use serde_json::Value;

use super::{BUCKET, PLAIN, bucket, key, ping};

/// A way to get a change to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Bare,
    Delivery,
    Live,
    Announced,
    Watch,
    Raw,
}

impl Way {
    pub(crate) const ALL: [Way; 6] = [Way::Bare, Way::Delivery, Way::Live, Way::Announced, Way::Watch, Way::Raw];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Way::Bare => "bare",
            Way::Delivery => "delivery",
            Way::Live => "live",
            Way::Announced => "announced",
            Way::Watch => "watch",
            Way::Raw => "raw",
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Way::Bare => "core subscription, bare",
            Way::Delivery => "confhot, delivery alone",
            Way::Live => "confhot, Live",
            Way::Announced => "confhot, Live, announced",
            Way::Watch => "kv.watch() in each",
            Way::Raw => "raw subject, then get",
        }
    }

    /// Whether it follows a bucket that confhot makes.
    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Way::Delivery | Way::Live | Way::Announced)
    }
}

/// What happened in one process: which revision was taken, and when.
#[derive(Clone, Default)]
struct Tally(Arc<Mutex<Vec<(u64, i128)>>>);

impl Tally {
    fn add(&self, revision: u64) {
        self.add_at(revision, now());
    }

    fn add_at(&self, revision: u64, at: i128) {
        self.0.lock().unwrap().push((revision, at));
    }

    /// Tells it in one line whenever nothing was added for a moment, so that telling costs nothing while it is measured.
    async fn tell(self) {
        let mut before = 0;
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let mut all = self.0.lock().unwrap();
            if !all.is_empty() && all.len() == before {
                let line: Vec<String> = all.drain(..).map(|(revision, at)| format!("{revision} {at}")).collect();
                println!("{}", line.join(" "));
            }
            before = all.len();
        }
    }
}

/// Nanoseconds since 1970.
pub(crate) fn now() -> i128 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as i128
}

/// The process of some of the subscribers, over `keys` keys: says `ready`, and then what each of them took.
pub(crate) fn be(way: Way, url: &str, first: usize, subscribers: usize, keys: usize) {
    // As in a service: what a connection has read is dealt with before the next one is read.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let tally = Tally::default();
        tokio::spawn(tally.clone().tell());
        let (mut lives, mut waiting) = (Vec::new(), Vec::new());
        for n in first..first + subscribers {
            // Spread over the servers of a cluster.
            let urls: Vec<&str> = url.split(',').collect();
            let (url, key) = (urls[n % urls.len()], key(n % keys));
            let (up, is_up) = tokio::sync::oneshot::channel();
            match way {
                Way::Live | Way::Announced => lives.push(live(way, url, &key, n, &tally).await),
                Way::Delivery => _ = tokio::spawn(follow(bucket(url).await, key, tally.clone(), up)),
                Way::Bare => _ = tokio::spawn(bare(connect(url).await, tally.clone(), up)),
                Way::Watch => _ = tokio::spawn(watch(connect(url).await, key, tally.clone(), up)),
                Way::Raw => _ = tokio::spawn(raw(connect(url).await, key, tally.clone(), up)),
            }
            if lives.is_empty() {
                waiting.push(is_up);
            }
        }
        for live in &lives {
            live.ready().await;
        }
        for is_up in waiting {
            is_up.await.unwrap();
        }
        println!("ready");
        std::future::pending::<()>().await;
    });
}

async fn live(way: Way, url: &str, key: &Key, n: usize, tally: &Tally) -> Live<Value> {
    let tally = tally.clone();
    let mut live = Live::<Value>::builder(&bucket(url).await, key).observe(move |event| {
        if let Event::Applied { revision, at, .. } = event {
            tally.add_at(revision.0, at.as_nanosecond());
        }
    });
    if way == Way::Announced {
        live = live.announce(Instance::new(key.as_str(), format!("host-{n}"), "host"));
    }
    live.start()
}

async fn follow(bucket: Bucket, key: Key, tally: Tally, up: tokio::sync::oneshot::Sender<()>) {
    let (mut watch, mut up) = (Watch::start(&bucket, &key, None), Some(up));
    while let Some(seen) = watch.next().await {
        if let Seen::Entry { entry, .. } = seen {
            tally.add(entry.revision.0);
            _ = up.take().map(|up| up.send(()));
        }
    }
}

pub(crate) async fn connect(url: &str) -> async_nats::Client {
    let options = async_nats::ConnectOptions::new().ping_interval(ping()).retry_on_initial_connect();
    options.connect(url.split(',').collect::<Vec<_>>().as_slice()).await.unwrap()
}

async fn bare(client: async_nats::Client, tally: Tally, up: tokio::sync::oneshot::Sender<()>) {
    let mut messages = client.subscribe(PLAIN).await.unwrap();
    client.flush().await.unwrap();
    up.send(()).unwrap();
    while let Some(message) = messages.next().await {
        let sequence = message.headers.as_ref().and_then(|headers| headers.get("Nats-Sequence")).unwrap();
        tally.add(sequence.as_str().parse().unwrap());
    }
}

/// What a service does with a value, written by hand.
#[derive(Default)]
struct ByHand(ArcSwapOption<Value>);

impl ByHand {
    fn apply(&self, bytes: Bytes) {
        let value = toml::from_str(str::from_utf8(&bytes).unwrap()).unwrap();
        self.0.store(Some(Arc::new(value)));
    }
}

async fn watch(client: async_nats::Client, key: Key, tally: Tally, up: tokio::sync::oneshot::Sender<()>) {
    let (store, value, mut up) = (store(&client).await, ByHand::default(), Some(up));
    let mut watch = store.watch_with_history(key.as_str()).await.unwrap();
    while let Some(entry) = watch.next().await {
        let Ok(entry) = entry else { continue };
        value.apply(entry.value);
        tally.add(entry.revision);
        _ = up.take().map(|up| up.send(()));
    }
}

async fn raw(client: async_nats::Client, key: Key, tally: Tally, up: tokio::sync::oneshot::Sender<()>) {
    let (store, value, mut up) = (store(&client).await, ByHand::default(), Some(up));
    let mut messages = client.subscribe(format!("$KV.{BUCKET}.{key}")).await.unwrap();
    loop {
        if let Ok(Some(entry)) = store.entry(key.as_str()).await {
            value.apply(entry.value);
            tally.add(entry.revision);
            _ = up.take().map(|up| up.send(()));
        }
        messages.next().await.unwrap();
    }
}

async fn store(client: &async_nats::Client) -> kv::Store {
    loop {
        // Very many ask at once, and some are not answered.
        if let Ok(store) = jetstream::new(client.clone()).get_key_value(BUCKET).await {
            return store;
        }
    }
}
