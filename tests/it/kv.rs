//! Writing and reading a bucket, on every server that confhot promises to work with.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::time::Duration;

use async_nats::jetstream::{self, kv};
use confhot::document::Digest;
use confhot::kv::{
    Bucket, BucketError, Connect, ConnectError, Connection, Expect, Operation, Pattern, Provenance, PublishError,
    Revision, Settings, Write, Writer,
};

use crate::feed::{connect, key, put, write};
use crate::support::{self, DEADLINE, Daemon, Server, Stage, VERSIONS};

/// Runs `test` with a fresh bucket on every version.
async fn everywhere(test: impl AsyncFn(Bucket, &'static str, &str)) {
    for version in VERSIONS {
        let server = support::shared(version);
        let bucket = connect(&server.url()).await.bucket(&support::bucket()).unwrap();
        bucket.ensure(&Settings::default()).await.unwrap();
        test(bucket, version, &server.url()).await;
    }
}

/// A bucket on `server`, over a connection that does not wait long.
async fn impatient(server: &Server, timeout: Duration) -> Bucket {
    let mut to = Connect::to([server.url()]);
    to.timeout = timeout;
    let bucket = Connection::open(&to).await.unwrap().bucket("configs").unwrap();
    bucket.ensure(&Settings::default()).await.unwrap();
    bucket
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_comes_too_late_is_found_by_reading_back() {
    for version in VERSIONS {
        let mut server = Server::version(version);
        let bucket = impatient(&server, Duration::from_millis(800)).await;
        let k = key("service1");
        let first = bucket.publish(&write(&k, "a = 1", Expect::Never)).await.unwrap().revision;

        server.freeze();
        let publishing = {
            let (bucket, k) = (bucket.clone(), k.clone());
            tokio::spawn(async move { bucket.publish(&write(&k, "a = 2", Expect::At(first))).await })
        };
        // Past the deadline of the write, within that of the question.
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        server.thaw();
        let second = publishing.await.unwrap().unwrap().revision;
        assert_eq!(bucket.head(&k).await.unwrap().unwrap().revision, second, "{version}");
        assert_eq!(bucket.history(&k).await.unwrap().len(), 2, "{version}: stored once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_nobody_confirms_is_told_as_unconfirmed_and_not_as_unsent() {
    let mut server = Server::start();
    let bucket = impatient(&server, Duration::from_millis(400)).await;
    let (a, b) = (key("a"), key("b"));

    server.freeze();
    let one = bucket.publish(&write(&a, "x = 1", Expect::Never)).await;
    assert!(matches!(&one, Err(PublishError::Unconfirmed { key }) if *key == a), "{one:?}");
    let set = bucket.publish_set(&[write(&a, "x = 2", Expect::Never), write(&b, "x = 2", Expect::Never)], true).await;
    assert!(set.iter().all(|one| matches!(one, Err(PublishError::Unconfirmed { .. }))), "{set:?}");
    let read = bucket.head(&a).await;
    assert!(matches!(read, Err(BucketError::TimedOut { .. })), "{read:?}");
    server.thaw();

    support::eventually("it was stored all the same", support::DEADLINE, || {
        let head = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(bucket.head(&a)));
        head.ok().flatten().filter(|head| head.value == "x = 1")
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_over_the_limit_is_refused_with_the_limit() {
    for version in VERSIONS {
        let server = Server::with(version, |settings| settings.extra = "max_payload: 4096".into());
        let bucket = impatient(&server, Duration::from_secs(5)).await;
        let (k, other) = (key("big"), key("small"));
        let big = "#".repeat(4_100);
        for atomic in [false, true] {
            let writes = [write(&k, &big, Expect::Never), write(&other, "a = 1", Expect::Never)];
            let outcomes = bucket.publish_set(&writes, atomic && bucket.describe().await.unwrap().atomic).await;
            assert!(
                matches!(&outcomes[0], Err(PublishError::TooLarge { key, size: 4_100, limit: 4_096 }) if *key == k),
                "{version}: {outcomes:?}"
            );
        }

        // A bucket's own limit is another one than the server's.
        let store = kv::Config { bucket: "narrow".into(), max_value_size: 64, ..kv::Config::default() };
        jetstream::new(async_nats::connect(server.url()).await.unwrap()).create_key_value(store).await.unwrap();
        let narrow = bucket.connection().bucket("narrow").unwrap();
        let limit = narrow.describe().await.unwrap().max_value;
        let refused = narrow.publish(&write(&k, &"#".repeat(600), Expect::Never)).await;
        assert!(
            matches!(&refused, Err(PublishError::TooLarge { size: 600, limit: told, .. }) if Some(*told) == limit),
            "{version}: {refused:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_race_tells_both_revisions() {
    everywhere(async |bucket, version, _| {
        let (k, fresh) = (key("service1"), key("fresh"));
        let first = put(&bucket, &k, "a = 1").await;
        let second = put(&bucket, &k, "a = 2").await;
        for (key, expect, numbers) in [
            (&k, Expect::At(first), (first.0, second.0)),
            (&k, Expect::Never, (0, second.0)),
            (&fresh, Expect::At(Revision(77)), (77, 0)),
        ] {
            match bucket.publish(&write(key, "a = 3", expect)).await {
                Err(PublishError::Conflict { key: told, expected, actual }) => {
                    assert_eq!((&told, (expected, actual)), (key, numbers), "{version}");
                }
                other => panic!("{version}: {other:?}"),
            }
        }
        assert_eq!(bucket.head(&k).await.unwrap().unwrap().revision, second);
        assert_eq!(bucket.head(&fresh).await.unwrap(), None);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_is_stored_whole_or_not_at_all_where_the_server_can_and_singly_where_it_cannot() {
    everywhere(async |bucket, version, _| {
        let (a, b, c) = (key("a"), key("b"), key("c"));
        let atomic = bucket.describe().await.unwrap().atomic;
        assert_eq!(atomic, version != VERSIONS[0], "{version}");
        let good = [write(&a, "x = 1", Expect::Never), write(&b, "x = 1", Expect::Never)];
        let outcomes = bucket.publish_set(&good, atomic).await;
        let stored: Vec<_> = outcomes.iter().map(|outcome| outcome.as_ref().unwrap().revision).collect();
        assert_eq!(stored, [Revision(1), Revision(2)], "{version}");
        for (key, revision) in [(&a, stored[0]), (&b, stored[1])] {
            assert_eq!(bucket.head(key).await.unwrap().unwrap().revision, revision, "{version}");
        }

        // The second is late.
        let set = [
            write(&a, "x = 2", Expect::At(stored[0])),
            write(&b, "x = 2", Expect::Never),
            write(&c, "x = 2", Expect::Never),
        ];
        let outcomes = bucket.publish_set(&set, atomic).await;
        assert!(matches!(&outcomes[1], Err(PublishError::Conflict { expected: 0, actual: 2, .. })), "{outcomes:?}");
        let values = async |key| bucket.head(key).await.unwrap().map(|head| head.value);
        if atomic {
            assert!(outcomes.iter().all(Result::is_err), "{version}: {outcomes:?}");
            assert_eq!((values(&a).await, values(&c).await), (Some("x = 1".into()), None), "{version}");
        } else {
            assert!(outcomes[0].is_ok() && outcomes[2].is_ok(), "{version}: {outcomes:?}");
            assert_eq!((values(&a).await, values(&c).await), (Some("x = 2".into()), Some("x = 2".into())));
        }
        assert_eq!(values(&b).await, Some("x = 1".into()), "{version}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_is_newest_first_with_tombstones_and_as_long_as_what_is_retained() {
    everywhere(async |bucket, version, _| {
        let (k, other) = (key("service1"), key("service11"));
        assert!(bucket.history(&k).await.unwrap().is_empty());
        let mut expected = Vec::new();
        for n in 0..70 {
            put(&bucket, &other, "noise = 1").await;
            let revision = if n % 10 == 9 {
                let head = bucket.head(&k).await.unwrap().unwrap().revision;
                let tombstone = Write::delete(k.clone(), Provenance::by(Writer::Delete), Expect::At(head));
                bucket.publish(&tombstone).await.unwrap().revision
            } else {
                put(&bucket, &k, &format!("n = {n}")).await
            };
            expected.push(revision);
        }
        expected.reverse();
        expected.truncate(64);

        let history = bucket.history(&k).await.unwrap();
        let revisions: Vec<_> = history.iter().map(|entry| entry.revision).collect();
        assert_eq!(revisions, expected, "{version}");
        assert_eq!((history[0].operation, history[0].value.len()), (Operation::Delete, 0));
        assert_eq!((history[1].operation, &history[1].value[..]), (Operation::Put, &b"n = 68"[..]));
        assert_eq!(history.iter().filter(|entry| entry.operation == Operation::Delete).count(), 7, "{version}");

        let third = bucket.revision(&k, expected[3]).await.unwrap().unwrap();
        assert_eq!((third.revision, &third.value), (history[3].revision, &history[3].value));
        assert_eq!(bucket.revision(&other, expected[3]).await.unwrap(), None, "another key's");
        assert_eq!(bucket.revision(&k, Revision(2)).await.unwrap(), None, "not retained any more");
        assert_eq!(bucket.revision(&k, Revision(0)).await.unwrap(), None);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_picks_keys_and_deleted_ones_are_none() {
    everywhere(async |bucket, version, _| {
        for name in ["service1", "billing.api", "billing.api.eu", "gone"] {
            put(&bucket, &key(name), "a = 1").await;
        }
        let head = bucket.head(&key("gone")).await.unwrap().unwrap().revision;
        let gone = Write::delete(key("gone"), Provenance::by(Writer::Delete), Expect::At(head));
        bucket.publish(&gone).await.unwrap();

        for (pattern, expected) in [
            (">", &["service1", "billing.api", "billing.api.eu"][..]),
            ("*", &["service1"]),
            ("billing.*", &["billing.api"]),
            ("billing.>", &["billing.api", "billing.api.eu"]),
            ("nothing.*", &[]),
        ] {
            let keys = bucket.keys(&Pattern::parse(pattern).unwrap()).await.unwrap();
            let names: Vec<_> = keys.iter().map(|entry| entry.key.as_str()).collect();
            assert_eq!(names, expected, "{version} {pattern}");
            assert!(keys.iter().all(|entry| entry.size == 5 && entry.value.is_empty()), "{version}");
        }
    })
    .await;
}

/// Writes `count` keys of which every 100th expects the wrong revision, and checks what became of each.
async fn bulk(bucket: &Bucket, count: usize, atomic: bool, label: &str) {
    let late = |n: usize| n % 100 == 7;
    let mut bulk = bucket.bulk(atomic);
    let mut outcomes = HashMap::new();
    for n in 0..count {
        let expect = if late(n) { Expect::At(Revision(999_999)) } else { Expect::Never };
        bulk.push(write(&key(&format!("k{n}")), &format!("n = {n}"), expect)).await;
        outcomes.extend(bulk.outcomes().map(|(write, outcome)| (write.key, outcome)));
    }
    bulk.finish().await;
    outcomes.extend(bulk.outcomes().map(|(write, outcome)| (write.key, outcome)));
    assert_eq!(outcomes.len(), count, "{label}");

    let mut stored = HashMap::new();
    let all = |entry: confhot::kv::Entry| {
        stored.insert(entry.key.clone(), entry);
    };
    bucket.each_head(&Pattern::all(), true, all).await.unwrap();
    for n in 0..count {
        let k = key(&format!("k{n}"));
        match &outcomes[&k] {
            Ok(published) => {
                assert!(!late(n), "{label}: {k}");
                assert_eq!(stored[&k].revision, published.revision, "{label}: {k}");
                assert_eq!(stored[&k].digest(), Digest::of(format!("n = {n}").as_bytes()), "{label}: {k}");
            }
            Err(PublishError::Conflict { expected: 999_999, actual: 0, .. }) => {
                assert!(late(n) && !stored.contains_key(&k), "{label}: {k}");
            }
            Err(error) => panic!("{label}: {k}: {error:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_writes_at_once_each_have_their_outcome_and_thousands_of_heads_are_read() {
    everywhere(async |bucket, version, _| {
        for atomic in [false, true] {
            if atomic && !bucket.describe().await.unwrap().atomic {
                continue;
            }
            let bucket = bucket.connection().bucket(&support::bucket()).unwrap();
            bucket.ensure(&Settings::default()).await.unwrap();
            bulk(&bucket, 3_000, atomic, &format!("{version} atomic {atomic}")).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_existing_bucket_of_others_is_used_as_it_is_and_its_differences_are_told() {
    everywhere(async |bucket, version, url| {
        let name = support::bucket();
        let config = kv::Config {
            bucket: name.clone(),
            history: 3,
            max_age: Duration::from_secs(3_600),
            storage: jetstream::stream::StorageType::Memory,
            ..kv::Config::default()
        };
        let context = jetstream::new(async_nats::connect(url).await.unwrap());
        context.create_key_value(config).await.unwrap();
        let as_made = context.get_stream(format!("KV_{name}")).await.unwrap().cached_info().config.clone();

        let foreign = bucket.connection().bucket(&name).unwrap();
        let told = foreign.ensure(&Settings { replicas: 3 }).await.unwrap();

        let said = told.differences.join("\n");
        for what in ["history is 3", "age limit in seconds is 3600", "memory storage is true", "republish is off"] {
            assert!(said.contains(what), "{version}: {said}");
        }
        let now = context.get_stream(format!("KV_{name}")).await.unwrap().cached_info().config.clone();
        assert_eq!(now, as_made, "{version}");
        assert!(bucket.describe().await.unwrap().differences.is_empty(), "{version}: its own differs from itself");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_too_old_is_refused_by_name() {
    let old = support::greeter("2.10.26");

    let refused = Connection::open(&Connect::to([format!("nats://{old}")])).await;
    match refused {
        Err(ConnectError::Old { version, .. }) => assert_eq!(version, "2.10.26"),
        other => panic!("{other:?}"),
    }
    let keys = support::confhot().args(["keys", "--server", &format!("nats://{old}")]).output().unwrap();
    let said = String::from_utf8(keys.stderr).unwrap();
    assert_eq!(keys.status.code(), Some(2));
    assert!(said.contains("nats-server 2.10.26 at") && said.contains("needs 2.11 or later"), "{said}");
    // A daemon waits for a better one, and says so once.
    let mut service = crate::serve::serve(&format!("nats://{old}"), "configs", &[]);
    service.event("connected");
    support::eventually("a word about the version", support::DEADLINE, || {
        service.stderr().contains("is too old: confhot needs 2.11").then_some(())
    });
    assert!(service.stderr().contains("nats-server 2.10.26 at"), "{}", service.stderr());
}

/// The way to a server that says there that it is one of 2.10.
fn as_of_2_10(server: &Server, version: &'static str) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (url, port) = (format!("nats://{}", listener.local_addr().unwrap()), server.port());
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let server = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
            let (mut to, mut from) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
            let (mut from, mut to) = (server, client);
            std::thread::spawn(move || {
                let mut bytes = [0; 65_536];
                while let Ok(n @ 1..) = from.read(&mut bytes) {
                    let told = bytes[..n].to_vec();
                    let told = match String::from_utf8(told) {
                        Ok(text) => text.replace(version, "2.10.22").into_bytes(),
                        Err(other) => other.into_bytes(),
                    };
                    if to.write_all(&told).is_err() {
                        return;
                    }
                }
            });
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_takes_nothing_from_a_server_that_is_too_old_and_gives_it_nothing() {
    let version = VERSIONS[0];
    let server = Server::version(version);
    let old = as_of_2_10(&server, version);
    let stage = Stage::at(&old);
    stage.save("service1.toml", "n = 1\n");

    let mut loader = Daemon::start(stage.args(&[]));
    let mut service = crate::serve::serve(&old, &stage.bucket, &[]);
    for daemon in [&loader, &service] {
        support::eventually("a word about the version", DEADLINE, || {
            daemon.stderr().contains("nats-server 2.10.22 at nats://").then_some(())
        });
    }
    let bucket = connect(&server.url()).await.bucket(&stage.bucket).unwrap();
    assert!(matches!(bucket.describe().await, Err(BucketError::Missing(_))), "the loader made it");
    bucket.ensure(&Settings::default()).await.unwrap();
    crate::feed::put(&bucket, &key("service1"), "n = 2").await;
    tokio::time::sleep(Duration::from_secs(2)).await;

    for daemon in [&mut loader, &mut service] {
        let said = daemon.stderr().matches("is too old").count();
        assert_eq!(said, 1, "{}", daemon.stderr());
        let told = daemon.events();
        assert!(!told.iter().any(|event| event["event"] == "applied" || event["event"] == "published"), "{told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_says_that_a_server_has_no_jetstream_and_nothing_of_a_value() {
    let mut nats = std::process::Command::new(support::binary(VERSIONS[2]));
    let port = confhot::server::free_port().unwrap();
    let mut nats =
        nats.args(["-a", "127.0.0.1", "-p", &port.to_string()]).stderr(std::process::Stdio::null()).spawn().unwrap();
    let mut service = crate::serve::serve(&format!("nats://127.0.0.1:{port}"), "configs", &[]);

    support::eventually("a word about JetStream", DEADLINE, || {
        service.stderr().contains("has no JetStream").then_some(())
    });

    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(service.stderr().matches("has no JetStream").count(), 1, "{}", service.stderr());
    assert!(!service.events().iter().any(|event| event["event"] == "absent"), "{:?}", service.events());
    nats.kill().unwrap();
    nats.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_bucket_is_told_as_missing_by_every_question() {
    everywhere(async |bucket, version, _| {
        let missing = bucket.connection().bucket(&support::bucket()).unwrap();
        let k = key("service1");
        let is = |error: BucketError| assert!(matches!(error, BucketError::Missing(_)), "{version}: {error:?}");
        is(missing.describe().await.unwrap_err());
        is(missing.head(&k).await.unwrap_err());
        is(missing.history(&k).await.unwrap_err());
        is(missing.keys(&Pattern::all()).await.unwrap_err());
        is(missing.destroy().await.unwrap_err());
        let refused = missing.publish(&write(&k, "a = 1", Expect::Never)).await;
        assert!(matches!(refused, Err(PublishError::Bucket(BucketError::Missing(_)))), "{version}: {refused:?}");
    })
    .await;
}
