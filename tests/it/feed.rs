//! One key followed (`kv::Watch`) must tell the same whether the bucket republishes or an ordered consumer stands in.
//! Each test runs for both, on every server that confhot promises to work with.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use async_nats::jetstream::{self, kv};
use bytes::Bytes;
use confhot::document::Digest;
use confhot::kv::{
    Bucket, Connect, Connection, Entry, Expect, Key, Operation, Pattern, Provenance, PublishError, Revision, Seen,
    Settings, Watch, Write, Writer,
};
use confhot::live::group::Group;
use futures_util::StreamExt;
use tokio::time::timeout;

use crate::support::{self, Cluster, DEADLINE, Server, VERSIONS};

/// How a bucket tells of its writes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Feed {
    /// Made by confhot: it republishes.
    Republished,
    /// Made by another client, with that client's defaults.
    Consumer,
}

pub(crate) const FEEDS: [Feed; 2] = [Feed::Republished, Feed::Consumer];

pub(crate) fn key(text: &str) -> Key {
    Key::parse(text).unwrap()
}

pub(crate) async fn connect(url: &str) -> Connection {
    let mut to = Connect::to([url]);
    to.wait = true;
    Connection::open(&to).await.unwrap()
}

pub(crate) async fn make(bucket: &Bucket, feed: Feed, url: &str, replicas: usize) {
    try_make(bucket, feed, url, replicas).await.unwrap();
}

async fn try_make(
    bucket: &Bucket,
    feed: Feed,
    url: &str,
    replicas: usize,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    match feed {
        Feed::Republished => {
            bucket.ensure(&Settings { replicas }).await?;
        }
        Feed::Consumer => {
            let client = async_nats::connect(url).await?;
            let config = kv::Config {
                bucket: bucket.name().to_owned(),
                history: 8,
                num_replicas: replicas,
                ..kv::Config::default()
            };
            jetstream::new(client).create_key_value(config).await?;
        }
    }
    Ok(())
}

pub(crate) fn write(key: &Key, text: &str, expect: Expect) -> Write {
    let value = Bytes::copy_from_slice(text.as_bytes());
    let digest = Digest::of(&value);
    Write::put(key.clone(), value, digest, Provenance::by(Writer::Put), expect)
}

/// Stores `text` over whatever is there.
pub(crate) async fn put(bucket: &Bucket, key: &Key, text: &str) -> Revision {
    let until = std::time::Instant::now() + 3 * DEADLINE;
    loop {
        assert!(std::time::Instant::now() < until, "{key} could not be put");
        let head = match bucket.head(key).await {
            Ok(head) => head,
            Err(error) => {
                eprintln!("{error:?}");
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        let expect = head.map_or(Expect::Never, |head| Expect::At(head.revision));
        match bucket.publish(&write(key, text, expect)).await {
            Ok(published) => return published.revision,
            // A cluster between two leaders answers in many ways.
            Err(error) => {
                eprintln!("{error:?}");
                tokio::time::sleep(Duration::from_millis(20)).await
            }
        }
    }
}

/// The next entry, or absence; whatever else is told is passed over.
async fn next(watch: &mut Watch) -> Option<Entry> {
    timeout(DEADLINE, async {
        loop {
            match watch.next().await.expect("a watch never ends") {
                Seen::Entry { entry, .. } => return Some(*entry),
                Seen::Absent => return None,
                _ => {}
            }
        }
    })
    .await
    .expect("nothing was told")
}

async fn next_text(watch: &mut Watch) -> String {
    String::from_utf8(next(watch).await.expect("a value").value.to_vec()).unwrap()
}

/// Runs `test` on a fresh bucket for every server and feed.
async fn everywhere(test: impl AsyncFn(Bucket, Feed, &'static str, &str)) {
    for version in VERSIONS {
        let server = support::shared(version);
        for feed in FEEDS {
            let connection = connect(&server.url()).await;
            let bucket = connection.bucket(&support::bucket()).unwrap();
            make(&bucket, feed, &server.url(), 1).await;
            test(bucket, feed, version, &server.url()).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_current_value_comes_first_and_then_each_newer_one() {
    everywhere(async |bucket, feed, version, _| {
        let k = key("service1");
        put(&bucket, &k, "old").await;
        put(&bucket, &k, "current").await;

        let mut watch = Watch::start(&bucket, &k, None);
        assert_eq!(next_text(&mut watch).await, "current", "{feed:?} {version}");
        for n in 0..20 {
            let revision = put(&bucket, &k, &format!("newer {n}")).await;
            let entry = next(&mut watch).await.unwrap();
            assert_eq!(
                (entry.revision, entry.value.to_vec()),
                (revision, format!("newer {n}").into_bytes()),
                "{feed:?} {version}"
            );
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_key_and_a_missing_bucket_are_said_at_once_and_waited_for() {
    everywhere(async |bucket, feed, version, url| {
        let mut watch = Watch::start(&bucket, &key("nobody"), None);
        assert_eq!(
            timeout(Duration::from_secs(3), next(&mut watch)).await.expect("at once"),
            None,
            "{feed:?} {version}"
        );
        put(&bucket, &key("nobody"), "now").await;
        assert_eq!(next_text(&mut watch).await, "now", "{feed:?} {version}");

        let missing = bucket.connection().bucket(&support::bucket()).unwrap();
        let mut watch = Watch::start(&missing, &key("nobody"), None);
        assert_eq!(
            timeout(Duration::from_secs(3), next(&mut watch)).await.expect("at once"),
            None,
            "{feed:?} {version}"
        );
        make(&missing, feed, url, 1).await;
        put(&missing, &key("nobody"), "now").await;
        assert_eq!(next_text(&mut watch).await, "now", "{feed:?} {version}");
        put(&missing, &key("nobody"), "then").await;
        assert_eq!(next_text(&mut watch).await, "then", "{feed:?} {version}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_while_the_server_was_away_is_told_after_a_crash_of_it() {
    for version in VERSIONS {
        for feed in FEEDS {
            let mut server = Server::version(version);
            let bucket = connect(&server.url()).await.bucket("configs").unwrap();
            make(&bucket, feed, &server.url(), 1).await;
            let k = key("service1");
            put(&bucket, &k, "before").await;
            let mut watch = Watch::start(&bucket, &k, None);
            assert_eq!(next_text(&mut watch).await, "before");

            server.kill9();
            server.restart();
            let other = connect(&server.url()).await.bucket("configs").unwrap();
            put(&other, &k, "after").await;

            // Nothing older in between: the history must not be told again.
            assert_eq!(next_text(&mut watch).await, "after", "{feed:?} {version}");
            put(&other, &k, "later").await;
            assert_eq!(next_text(&mut watch).await, "later", "{feed:?} {version}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_was_deleted_and_made_anew_is_followed_from_its_lower_revisions_on() {
    everywhere(async |bucket, feed, version, url| {
        let k = key("service1");
        for n in 0..5 {
            put(&bucket, &k, &format!("first life {n}")).await;
        }
        let mut watch = Watch::start(&bucket, &k, None);
        assert_eq!(next_text(&mut watch).await, "first life 4");

        bucket.destroy().await.unwrap();
        make(&bucket, feed, url, 1).await;
        assert_eq!(put(&bucket, &k, "second life").await, Revision(1));

        assert_eq!(next_text(&mut watch).await, "second life", "{feed:?} {version}");
        assert_eq!(put(&bucket, &k, "goes on").await, Revision(2));
        assert_eq!(next_text(&mut watch).await, "goes on", "{feed:?} {version}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_races_the_subscription_is_never_missed() {
    everywhere(async |bucket, feed, version, _| {
        // All thousand where confhot's own buckets run today; a share of them elsewhere.
        let tries = if version == VERSIONS[2] && feed == Feed::Republished { 1_000 } else { 100 };
        let k = key("raced");
        let mut revision = put(&bucket, &k, "0").await;
        for n in 1..=tries {
            let pause = Duration::from_micros(n * 7919 % 1_500);
            let value = n.to_string();
            let racer = {
                let (bucket, k, value) = (bucket.clone(), k.clone(), value.clone());
                tokio::spawn(async move {
                    tokio::time::sleep(pause).await;
                    bucket.publish(&write(&k, &value, Expect::At(revision))).await
                })
            };
            let mut watch = Watch::start(&bucket, &k, None);
            while next_text(&mut watch).await != value {}
            revision = racer.await.unwrap().unwrap().revision;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_written_while_it_is_read_for_the_first_time_is_not_said_to_be_gone() {
    everywhere(async |bucket, feed, version, url| {
        let ours = connect(url).await.bucket(bucket.name()).unwrap();
        for n in 0..120_u32 {
            let k = key(&format!("k{n}"));
            let following = async {
                let mut watch = Watch::start(&ours, &k, None);
                while !matches!(watch.next().await, Some(Seen::Entry { .. })) {}
                let more = async {
                    while let Some(seen) = watch.next().await {
                        assert_ne!(seen, Seen::Absent, "{feed:?} on {version}, {n}");
                    }
                };
                _ = timeout(Duration::from_millis(5), more).await;
            };
            let writing = async {
                tokio::time::sleep(Duration::from_micros(u64::from(n) * 8)).await;
                bucket.publish(&write(&k, "n = 1", Expect::Never)).await.unwrap();
            };
            timeout(DEADLINE, async { tokio::join!(following, writing) }).await.expect("nothing was told");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_the_stream_refuses_is_never_seen() {
    everywhere(async |bucket, feed, version, _| {
        let (a, b) = (key("a"), key("b"));
        let first = put(&bucket, &a, "good").await;
        put(&bucket, &b, "good").await;
        let mut watch = Watch::start(&bucket, &a, None);
        assert_eq!(next_text(&mut watch).await, "good");

        let late = bucket.publish(&write(&a, "refused", Expect::Never)).await;
        assert!(matches!(late, Err(PublishError::Conflict { .. })), "{late:?}");
        if bucket.describe().await.unwrap().atomic {
            // One member is late, so that neither is stored.
            let set = [write(&a, "refused too", Expect::At(first)), write(&b, "late", Expect::Never)];
            let outcomes = bucket.publish_set(&set, true).await;
            assert!(outcomes.iter().all(Result::is_err), "{outcomes:?}");
        }
        bucket.publish(&write(&a, "stored", Expect::At(first))).await.unwrap();

        assert_eq!(next_text(&mut watch).await, "stored", "{feed:?} {version}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deletes_and_purges_are_told_as_such_and_never_as_an_empty_value() {
    everywhere(async |bucket, feed, version, url| {
        let k = key("service1");
        let first = put(&bucket, &k, "value").await;
        let mut watch = Watch::start(&bucket, &k, None);
        assert_eq!(next_text(&mut watch).await, "value");

        bucket.publish(&Write::delete(k.clone(), Provenance::by(Writer::Delete), Expect::At(first))).await.unwrap();
        assert_eq!(next(&mut watch).await.unwrap().operation, Operation::Delete, "{feed:?} {version}");
        put(&bucket, &k, "again").await;
        assert_eq!(next_text(&mut watch).await, "again");

        let client = async_nats::connect(url).await.unwrap();
        let store = jetstream::new(client).get_key_value(bucket.name()).await.unwrap();
        store.purge("service1").await.unwrap();
        assert_eq!(next(&mut watch).await.unwrap().operation, Operation::Delete, "{feed:?} {version}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_cluster_every_write_that_was_acknowledged_arrives_through_step_down_and_crash_of_the_leader() {
    for version in VERSIONS {
        let mut cluster = Cluster::version(version);
        let urls = cluster.urls();
        let k = key("service1");
        let mut followed = Vec::new();
        for feed in FEEDS {
            let bucket = connect_all(&urls).await.bucket(&format!("{feed:?}")).unwrap();
            // The metadata leader takes a stream with three replicas once it has heard of three servers.
            timeout(2 * DEADLINE, async {
                while try_make(&bucket, feed, urls.split(',').next().unwrap(), 3).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            })
            .await
            .expect("the cluster takes no bucket");
            put(&bucket, &k, "0").await;
            let follower = connect_all(&urls).await.bucket(bucket.name()).unwrap();
            let mut watch = Watch::start(&follower, &k, None);
            assert_eq!(next_text(&mut watch).await, "0");
            followed.push((feed, bucket, watch));
        }

        let client = async_nats::connect(urls.split(',').collect::<Vec<_>>()).await.unwrap();
        let mut last = [Revision(0); FEEDS.len()];
        for n in 1..=90 {
            for (i, (_, bucket, _)) in followed.iter().enumerate() {
                if n == 30 {
                    let step_down = format!("$JS.API.STREAM.LEADER.STEPDOWN.KV_{}", bucket.name());
                    let _ = client.request(step_down, Bytes::new()).await;
                }
                if n == 60 && i == 0 {
                    let leader = cluster.leader_of(&format!("KV_{}", bucket.name()));
                    cluster.server(leader).kill9();
                }
                last[i] = put(bucket, &k, &n.to_string()).await;
            }
        }
        for ((feed, _, watch), last) in followed.iter_mut().zip(last) {
            let mut seen = Revision(0);
            while seen < last {
                let entry = next(watch).await.unwrap();
                assert!(entry.revision > seen, "{feed:?} {version}: went back from {seen} to {}", entry.revision);
                seen = entry.revision;
            }
        }
    }
}

/// Runs `test` on a server of its own for each version, in a bucket for each feed.
async fn everywhere_alone(test: impl AsyncFn(&mut Server, Bucket, Feed, &'static str)) {
    for version in VERSIONS {
        for feed in FEEDS {
            let mut server = Server::version(version);
            let bucket = connect(&server.url()).await.bucket("configs").unwrap();
            make(&bucket, feed, &server.url(), 1).await;
            test(&mut server, bucket, feed, version).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_after_a_stream_lost_its_newest_revisions_is_followed() {
    everywhere_alone(async |server, bucket, feed, version| {
        let k = key("service1");
        put(&bucket, &k, "kept").await;
        server.stop();
        let copy = tempfile::tempdir().unwrap();
        let copied = |from: &Path, to: &Path| {
            let from = format!("{}/.", from.display());
            assert!(Command::new("cp").args(["-a", &from]).arg(to).status().unwrap().success());
        };
        copied(server.data_dir(), copy.path());
        server.restart();
        put(&bucket, &k, "lost too").await;
        let lost = put(&bucket, &k, "lost").await;
        let mut watch = Watch::start(&bucket, &k, None);
        assert_eq!(next_text(&mut watch).await, "lost", "{feed:?} {version}");

        // As after a loss of power, or with the snapshot of a volume put back.
        server.kill9();
        std::fs::remove_dir_all(server.data_dir()).unwrap();
        std::fs::create_dir(server.data_dir()).unwrap();
        copied(copy.path(), server.data_dir());
        server.restart();
        let first = put(&bucket, &k, "first").await;
        assert!(first < lost, "{first} {lost}");
        assert_eq!(next_text(&mut watch).await, "first", "{feed:?} {version}");
        assert_eq!(put(&bucket, &k, "second").await, lost);
        assert_eq!(next_text(&mut watch).await, "second", "{feed:?} {version}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_goes_without_a_tombstone_is_said_to_be_gone_at_the_next_connection() {
    everywhere_alone(async |server, bucket, feed, version| {
        let k = key("service1");
        put(&bucket, &k, "here").await;
        let mut watch = Watch::start(&bucket, &k, None);
        assert_eq!(next_text(&mut watch).await, "here");

        let client = async_nats::connect(server.url()).await.unwrap();
        let stream = jetstream::new(client).get_stream("KV_configs").await.unwrap();
        stream.purge().filter("$KV.configs.service1").await.unwrap();
        server.stop();
        server.restart();
        assert_eq!(next(&mut watch).await, None, "{feed:?} {version}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_tells_of_its_own_bucket_is_not_asked_again_for_a_minute_and_a_cluster_is() {
    let (alone, cluster) = (Server::start(), Cluster::three());
    let (single, several) = tokio::join!(asked_in_a_minute(alone.url()), asked_in_a_minute(cluster.urls()));

    assert_eq!(single, Vec::<String>::new());
    let read = |subject: &String| subject.starts_with("$JS.API.DIRECT.GET.KV_configs.");
    assert!(several.iter().any(read), "{several:?}");
}

/// What a watch and a group ask the servers in a minute, some seconds after their start.
async fn asked_in_a_minute(urls: String) -> Vec<String> {
    let connection = connect_all(&urls).await;
    let bucket = connection.bucket("configs").unwrap();
    timeout(2 * DEADLINE, async {
        while bucket.ensure(&Settings::default()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await
    .expect("the servers take no bucket");
    put(&bucket, &key("service1"), "a = 1").await;
    let mut watch = Watch::start(&bucket, &key("service1"), None);
    assert_eq!(next_text(&mut watch).await, "a = 1");
    let mut group = Group::<toml::Table>::builder(&bucket, &Pattern::parse(">").unwrap()).start();
    timeout(DEADLINE, group.changed()).await.unwrap();
    let client = async_nats::connect(urls.split(',').collect::<Vec<_>>()).await.unwrap();
    let mut requests = client.subscribe("$JS.API.>").await.unwrap();

    // The first reads are repeated after a second.
    let began = tokio::time::Instant::now() + Duration::from_secs(4);
    let end = began + Duration::from_secs(61);
    let mut asked = Vec::new();
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(end) => return asked,
            // It works when it is polled.
            seen = watch.next() => assert!(seen.is_some()),
            request = requests.next() => {
                let subject = request.unwrap().subject.to_string();
                if tokio::time::Instant::now() > began {
                    asked.push(subject);
                }
            }
        }
    }
}

async fn connect_all(urls: &str) -> Connection {
    let mut to = Connect::to(urls.split(','));
    to.wait = true;
    // What is asked while nobody leads is not answered; to ask again soon is all that helps.
    to.timeout = Duration::from_secs(1);
    Connection::open(&to).await.unwrap()
}
