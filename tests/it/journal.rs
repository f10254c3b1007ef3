//! `confhot journal`: every revision, beyond what a bucket keeps.

use async_nats::jetstream;
use async_nats::jetstream::kv;
use confhot::kv::{Bucket, ChangeSet, Expect, JournalLimits, JournalState, Revision, Settings};
use serde_json::{Value, json};

use crate::feed::{connect, key, put, write};
use crate::support::{self, DEADLINE, Server, Stage, VERSIONS, eventually};

async fn opened(url: &str, name: &str) -> Bucket {
    let bucket = connect(url).await.bucket(name).unwrap();
    bucket.ensure(&Settings::default()).await.unwrap();
    bucket
}

async fn state(bucket: &Bucket) -> JournalState {
    bucket.journal().await.unwrap().unwrap().state().await.unwrap()
}

/// Waits until everything that the bucket has is in its journal.
fn caught_up(bucket: &Bucket) -> JournalState {
    let ask = async || {
        let last = bucket.describe().await.ok()?.last;
        let state = bucket.journal().await.ok()??.state().await.ok()?;
        (state.newest == Some(last)).then_some(state)
    };
    let ask = || tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(ask()));
    eventually("the journal has the newest revision", DEADLINE, ask)
}

fn revisions(lines: &[Value]) -> Vec<u64> {
    lines.iter().map(|line| line["revision"].as_u64().unwrap()).collect()
}

impl Stage {
    fn journaled(&self, key: &str) -> Vec<Value> {
        let (code, lines) = self.confhot(&["history", key, "--journal", "--format", "json"]);
        assert_eq!(code, 0, "{lines}");
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_revision_is_read_back_with_its_headers_beyond_what_the_bucket_keeps() {
    for version in VERSIONS {
        let mut server = Server::version(version);
        let stage = Stage::at(&server.url());
        let bucket = opened(&stage.url, &stage.bucket).await;
        stage.put("a", "n = 1\n");
        let set = ChangeSet::new(2);
        let writes = [("a", Expect::At(Revision(1))), ("b", Expect::Never)].map(|(name, expect)| {
            let mut write = write(&key(name), "n = 2\n", expect);
            write.provenance.set = Some(set.clone());
            write.provenance.author = Some("Jo <jo@x>".into());
            write
        });
        let atomic = bucket.describe().await.unwrap().atomic;
        assert!(bucket.publish_set(&writes, atomic).await.iter().all(Result::is_ok));

        let (code, told) = stage.confhot(&["journal", "enable"]);
        assert!(code == 0 && told.contains(" is on: confhot_journal_"), "{version}: {told}");
        assert!(told.contains("\n3 revisions, from 1 to 3, "), "{version}: {told}");
        server.stop();
        server.restart();
        let bucket = opened(&stage.url, &stage.bucket).await;
        put(&bucket, &key("a"), "n = 4\n").await;
        caught_up(&bucket);
        for n in 5..=80 {
            assert_eq!(put(&bucket, &key("a"), &format!("n = {n}\n")).await, Revision(n));
        }
        let state = caught_up(&bucket);

        assert_eq!((state.revisions, state.missed, state.oldest), (80, 0, Some(Revision(1))), "{version}");
        assert_eq!(revisions(&stage.history("a")), (17..=80).rev().collect::<Vec<_>>(), "{version}");
        let all = stage.journaled("a");
        assert_eq!(revisions(&all), (1..=80).rev().filter(|n| *n != 3).collect::<Vec<_>>(), "{version}");
        let of_set = &all[all.len() - 2];
        assert_eq!((&of_set["author"], &of_set["writer"]), (&json!("Jo <jo@x>"), &json!("put")), "{version}");
        assert_eq!(of_set["set"], json!({ "id": set.id, "members": 2 }), "{version}");
        assert_eq!(stage.confhot(&["get", "a", "--revision", "2"]), (0, "n = 2\n".into()), "{version}");
        assert_eq!(stage.confhot(&["get", "b", "--revision", "2"]).0, 1, "{version}: another key's");
        let (code, diff) = stage.confhot(&["diff", "a", "1", "4"]);
        assert_eq!((code, diff.ends_with("-n = 1\n+n = 4\n")), (1, true), "{version}: {diff}");
        assert_eq!(stage.confhot(&["rollback", "a", "1", "--yes", "-q"]).0, 0, "{version}");
        assert_eq!(stage.value("a").as_deref(), Some("n = 1\n"), "{version}");
        // Services and other clients see nothing of it.
        assert_eq!(stage.confhot(&["keys"]).1.lines().count(), 3, "{version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_made_anew_is_not_mixed_with_the_former_ones_journal() {
    for version in VERSIONS {
        let stage = Stage::at(&support::shared(version).url());
        let bucket = opened(&stage.url, &stage.bucket).await;
        bucket.enable_journal(JournalLimits::default()).await.unwrap();
        for n in 1..=5 {
            put(&bucket, &key("a"), &format!("former = {n}\n")).await;
        }
        let former = caught_up(&bucket).stream;
        bucket.destroy().await.unwrap();

        bucket.ensure(&Settings::default()).await.unwrap();
        put(&bucket, &key("a"), "n = 1\n").await;
        let (code, told) = stage.confhot(&["journal", "status"]);
        assert_eq!(code, 1, "{version}");
        assert_eq!(
            told,
            format!("the journal of {0} is off\n{former} is the journal of a former bucket {0}\n", stage.bucket)
        );
        assert_eq!(stage.confhot(&["get", "a", "--revision", "5"]).0, 1, "{version}");

        assert_eq!(stage.confhot(&["journal", "enable"]).0, 0, "{version}");
        for n in 2..=70 {
            put(&bucket, &key("a"), &format!("n = {n}\n")).await;
        }
        let state = caught_up(&bucket);
        assert_ne!(state.stream, former, "{version}");
        assert_eq!((state.revisions, state.missed), (70, 0), "{version}");
        assert_eq!(stage.confhot(&["get", "a", "--revision", "1"]), (0, "n = 1\n".into()), "{version}");
        assert_eq!(stage.confhot(&["get", "a", "--revision", "5"]), (0, "n = 5\n".into()), "{version}");
        assert_eq!(stage.journaled("a").len(), 70, "{version}");

        // What the former one had is there still, and nothing was added since the new one was made.
        let jetstream = jetstream::new(async_nats::connect(&stage.url).await.unwrap());
        let kept = jetstream.get_stream(&former).await.unwrap();
        let first = kept.get_raw_message(1).await.unwrap();
        assert_eq!(first.payload, "former = 1\n", "{version}");
        assert!(kept.cached_info().state.messages <= 6, "{version}");
        assert_eq!(kept.cached_info().config.sources, None, "{version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_client_purges_does_not_stop_the_journal() {
    for version in VERSIONS {
        let stage = Stage::at(&support::shared(version).url());
        let bucket = opened(&stage.url, &stage.bucket).await;
        bucket.enable_journal(JournalLimits::default()).await.unwrap();
        put(&bucket, &key("a"), "secret = 1\n").await;
        put(&bucket, &key("b"), "n = 2\n").await;
        caught_up(&bucket);

        let jetstream = jetstream::new(async_nats::connect(&stage.url).await.unwrap());
        jetstream.get_key_value(&stage.bucket).await.unwrap().purge("a").await.unwrap();
        put(&bucket, &key("b"), "n = 4\n").await;

        let state = caught_up(&bucket);
        assert_eq!(state.missed, 0, "{version}");
        assert_eq!(revisions(&stage.journaled("a")), [3], "{version}: what was purged is gone here too");
        assert_eq!(revisions(&stage.journaled("b")), [4, 2], "{version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_went_before_it_was_copied_is_counted() {
    for version in VERSIONS {
        let stage = Stage::at(&support::shared(version).url());
        let client = async_nats::connect(&stage.url).await.unwrap();
        let config = kv::Config { bucket: stage.bucket.clone(), history: 1, ..kv::Config::default() };
        let store = jetstream::new(client.clone()).create_key_value(config).await.unwrap();
        for n in 0..10 {
            store.put("a", n.to_string().into()).await.unwrap();
        }
        let bucket = connect(&stage.url).await.bucket(&stage.bucket).unwrap();
        bucket.enable_journal(JournalLimits::default()).await.unwrap();
        assert_eq!(caught_up(&bucket).missed, 0, "{version}: what was gone when it was made is not missed");

        for n in 0..1_000 {
            client.publish(format!("$KV.{}.a", stage.bucket), n.to_string().into()).await.unwrap();
        }
        client.flush().await.unwrap();
        put(&bucket, &key("b"), "after = \"the burst\"\n").await;

        let missed = caught_up(&bucket).missed;
        let journal = bucket.journal().await.unwrap().unwrap();
        let copied = journal.history(&key("a")).await.unwrap().iter().filter(|entry| entry.revision.0 > 10).count();
        assert_eq!(missed + copied as u64, 1_000, "{version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_on_once_with_the_limits_that_it_was_made_with_and_off_only_when_that_is_meant() {
    let stage = Stage::new();
    let says = |args: &[&str]| stage.confhot(args);
    assert_eq!(says(&["journal", "status"]).0, 1, "there is no bucket");
    let bucket = opened(&stage.url, &stage.bucket).await;
    put(&bucket, &key("a"), "n = 1\n").await;

    assert_eq!(says(&["history", "a", "--journal"]), (1, String::new()));
    assert_eq!(says(&["journal", "status"]), (1, format!("the journal of {} is off\n", stage.bucket)));
    assert_eq!(says(&["journal", "status", "--max-age", "1h"]).0, 2);
    assert_eq!(says(&["journal", "enable", "--max-age", "1h"]).0, 0);
    caught_up(&bucket);
    let (code, told) = says(&["journal", "enable", "--format", "json"]);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(
        (code, &told["journal"], &told["max_age"], &told["max_bytes"]),
        (0, &json!("on"), &json!(3600), &json!(null))
    );
    assert_eq!((&told["oldest"], &told["newest"], &told["missed"]), (&json!(1), &json!(1), &json!(0)));
    assert_eq!(says(&["journal", "enable", "--max-age", "2h"]).0, 1);
    assert_eq!(state(&bucket).await.limits.max_age, Some(std::time::Duration::from_secs(3600)));
    assert_eq!(says(&["journal", "disable"]).0, 2);
    assert!(bucket.journal().await.unwrap().is_some());
    assert_eq!(says(&["journal", "disable", "--yes"]), (0, format!("the journal of {} is off\n", stage.bucket)));
    assert_eq!(says(&["journal", "disable", "--yes"]).0, 0);
    assert!(bucket.journal().await.unwrap().is_none());
    assert_eq!(stage.value("a").as_deref(), Some("n = 1\n"));
}
