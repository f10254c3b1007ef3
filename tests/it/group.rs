//! `Group<T>`: several keys in one process, and change sets that land as one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use confhot::kv::{Bucket, ChangeSet, Expect, Instance, Key, Pattern, Provenance, Revision, Settings, Write, Writer};
use confhot::live::group::{Group, Members};
use confhot::live::{Event, Rejection};
use tokio::time::timeout;

use crate::feed::{connect, key, put, write};
use crate::support::{self, DEADLINE, Server, VERSIONS, eventually};

#[derive(Debug, serde::Deserialize)]
struct Numbered {
    n: u64,
}

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap()
}

async fn fresh(version: &str) -> Bucket {
    let bucket = connect(&support::shared(version).url()).await.bucket(&support::bucket()).unwrap();
    bucket.ensure(&Settings::default()).await.unwrap();
    bucket
}

fn newest_server() -> &'static str {
    VERSIONS[VERSIONS.len() - 1]
}

/// Stores `texts` as one change set; gives their revisions. An outage is waited for.
async fn put_set(bucket: &Bucket, texts: &[(&Key, &str)]) -> Vec<Revision> {
    loop {
        let set = ChangeSet::new(texts.len());
        let mut writes = Vec::new();
        for (key, text) in texts {
            let Ok(head) = bucket.head(key).await else { break };
            let mut write = write(key, text, head.map_or(Expect::Never, |head| Expect::At(head.revision)));
            write.provenance = Provenance::by(Writer::Put);
            write.provenance.set = Some(set.clone());
            writes.push(write);
        }
        if writes.len() == texts.len() {
            let outcomes = bucket.publish_set(&writes, true).await;
            if let Ok(stored) = outcomes.into_iter().collect::<Result<Vec<_>, _>>() {
                return stored.into_iter().map(|published| published.revision).collect();
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn n_of(members: &Members<Numbered>, key: &Key) -> Option<u64> {
    members.get(key).map(|serving| serving.n)
}

/// Reads as fast as it can until it is told to stop; gives what was ever read of the two keys.
fn reader(group: &Arc<Group<Numbered>>, a: &Key, b: &Key) -> (Arc<AtomicBool>, std::thread::JoinHandle<usize>) {
    let (stop, group, a, b) = (Arc::new(AtomicBool::new(false)), group.clone(), a.clone(), b.clone());
    let told = stop.clone();
    let reading = std::thread::spawn(move || {
        let mut reads = 0;
        while !told.load(Ordering::Relaxed) {
            let members = group.load();
            assert_eq!(n_of(&members, &a), n_of(&members, &b), "one half of a set");
            reads += 1;
        }
        reads
    });
    (stop, reading)
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_ever_reads_one_half_of_a_set_not_even_across_outages() {
    let sets = if std::env::var_os("CONFHOT_SOAK").is_some() { 2_000 } else { 120 };
    for version in ["2.12.8", "2.15.1"] {
        let mut server = Server::version(version);
        let bucket = connect(&server.url()).await.bucket("configs").unwrap();
        bucket.ensure(&Settings::default()).await.unwrap();
        let (a, b) = (key("shop.a"), key("shop.b"));
        let group = Arc::new(Group::<Numbered>::builder(&bucket, &pattern("shop.>")).start());
        let (stop, reading) = reader(&group, &a, &b);
        for n in 1..=sets {
            let text = format!("n = {n}");
            put_set(&bucket, &[(&a, &text), (&b, &text)]).await;
            if n % (sets / 3) == 0 {
                server.kill9();
                server.restart();
            }
        }
        eventually("the last set", DEADLINE, || (n_of(&group.load(), &a) == Some(sets)).then_some(()));
        stop.store(true, Ordering::Relaxed);
        assert!(reading.join().unwrap() > 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_with_one_bad_member_is_rejected_as_a_whole_and_says_which() {
    let bucket = fresh(newest_server()).await;
    let (a, b) = (key("a"), key("b"));
    let told: Arc<Mutex<Vec<(Key, Event)>>> = Arc::default();
    let sink = told.clone();
    let group = Group::<Numbered>::builder(&bucket, &Pattern::all())
        .observe(move |key, event| {
            if let Some(key) = key {
                sink.lock().unwrap().push((key.clone(), event.clone()));
            }
        })
        .start();
    put_set(&bucket, &[(&a, "n = 1"), (&b, "n = 1")]).await;
    eventually("the first set", DEADLINE, || (n_of(&group.load(), &b) == Some(1)).then_some(()));

    let bad = put_set(&bucket, &[(&a, "n = 2"), (&b, "n = 'two'")]).await;

    let states = eventually("the rejections", DEADLINE, || {
        let states = group.states();
        (states[&a].rejected.is_some() && states[&b].rejected.is_some()).then_some(states)
    });
    assert_eq!((n_of(&group.load(), &a), n_of(&group.load(), &b)), (Some(1), Some(1)));
    let (revision, rejection) = states[&a].rejected.clone().unwrap();
    assert_eq!(revision, bad[0]);
    assert!(rejection.reason.starts_with("published as one with b, of which: line 1"), "{rejection}");
    let rejected = told.lock().unwrap().iter().filter(|(_, event)| matches!(event, Event::Rejected { .. })).count();
    assert_eq!(rejected, 2, "each is told once");

    // The mended one of them, alone, is a change of its own.
    put(&bucket, &b, "n = 3").await;
    eventually("the mended one", DEADLINE, || (n_of(&group.load(), &b) == Some(3)).then_some(()));
    assert_eq!(n_of(&group.load(), &a), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn members_outside_of_what_a_process_reads_are_not_waited_for() {
    let bucket = fresh(newest_server()).await;
    let (mine, too, other) = (key("mine.a"), key("mine.b"), key("other"));
    let group = Group::<Numbered>::builder(&bucket, &pattern("mine.*")).start();
    put(&bucket, &mine, "n = 0").await;
    eventually("the first value", DEADLINE, || (n_of(&group.load(), &mine) == Some(0)).then_some(()));

    put_set(&bucket, &[(&mine, "n = 1"), (&other, "n = 1"), (&too, "n = 1")]).await;

    eventually("both of mine", DEADLINE, || (n_of(&group.load(), &too) == Some(1)).then_some(()));
    assert_eq!(n_of(&group.load(), &mine), Some(1));
    assert_eq!(n_of(&group.load(), &other), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_check_sees_all_that_would_serve_once_for_a_set_and_its_no_is_for_all() {
    let bucket = fresh(newest_server()).await;
    let (a, b) = (key("a"), key("b"));
    // Both are there before it starts: the check is to see them together then, too.
    put(&bucket, &a, "n = 1").await;
    put(&bucket, &b, "n = 1").await;
    type Pair = (Option<u64>, Option<u64>);
    let seen: Arc<Mutex<Vec<Pair>>> = Arc::default();
    let (sink, first, second) = (seen.clone(), a.clone(), b.clone());
    let group = Group::<Numbered>::builder(&bucket, &Pattern::all())
        .check(move |_, new: Arc<Members<Numbered>>| {
            let pair = (n_of(&new, &first), n_of(&new, &second));
            sink.lock().unwrap().push(pair);
            async move { if pair.0 == pair.1 { Ok(()) } else { Err(Rejection::invalid("they must agree")) } }
        })
        .start();
    eventually("the start", DEADLINE, || (n_of(&group.load(), &b) == Some(1)).then_some(()));

    put_set(&bucket, &[(&a, "n = 2"), (&b, "n = 2")]).await;
    eventually("the set", DEADLINE, || (n_of(&group.load(), &b) == Some(2)).then_some(()));
    put(&bucket, &a, "n = 3").await;
    eventually("the no", DEADLINE, || group.states()[&a].rejected.clone());

    assert_eq!(*seen.lock().unwrap(), [(Some(1), Some(1)), (Some(2), Some(2)), (Some(3), Some(2))]);
    assert_eq!(n_of(&group.load(), &a), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_on_a_rejected_revision_steps_back_and_a_delete_keeps_the_value() {
    let bucket = fresh(newest_server()).await;
    let (a, b) = (key("a"), key("b"));
    put(&bucket, &a, "n = 1").await;
    let bad = put(&bucket, &a, "n = 'one'").await;
    put(&bucket, &b, "n = 5").await;
    let group =
        Group::<Numbered>::builder(&bucket, &Pattern::all()).announce(Instance::new("group", "g1", "here")).start();

    eventually("the older one", DEADLINE, || (n_of(&group.load(), &a) == Some(1)).then_some(()));
    assert_eq!(group.states()[&a].rejected.as_ref().map(|(revision, _)| *revision), Some(bad));

    let head = bucket.head(&b).await.unwrap().unwrap().revision;
    let gone = Write::delete(b.clone(), Provenance::by(Writer::Delete), Expect::At(head));
    let tombstone = bucket.publish(&gone).await.unwrap().revision;
    eventually("the tombstone", DEADLINE, || (group.states()[&b].newest == Some(tombstone)).then_some(()));
    assert_eq!(n_of(&group.load(), &b), Some(5));

    // Each key is told of by itself, for `status` and `--wait`.
    let mut told = bucket.statuses(None).await.unwrap().0;
    for _ in 0..100 {
        if told.len() == 2 && told.iter().all(|status| status.report.newest.is_some()) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        told = bucket.statuses(None).await.unwrap().0;
    }
    told.sort_by(|x, y| x.key.cmp(&y.key));
    let states: Vec<_> = told.iter().map(|status| (status.key.as_str(), status.report.state)).collect();
    use confhot::kv::Standing::{Applied, Behind};
    assert_eq!(states, [("a", Behind), ("b", Applied)]);
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_made_anew_is_followed_with_its_lower_revisions() {
    let bucket = fresh(newest_server()).await;
    let a = key("a");
    for n in 1..=5 {
        put(&bucket, &a, &format!("n = {n}")).await;
    }
    let group = Group::<Numbered>::builder(&bucket, &Pattern::all()).start();
    eventually("the value", DEADLINE, || (n_of(&group.load(), &a) == Some(5)).then_some(()));

    bucket.destroy().await.unwrap();
    bucket.ensure(&Settings::default()).await.unwrap();
    put(&bucket, &a, "n = 77").await;

    eventually("the new bucket's value", DEADLINE, || (n_of(&group.load(), &a) == Some(77)).then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_go_without_a_tombstone_are_told_once_and_their_values_kept() {
    let mut server = Server::start();
    let bucket = connect(&server.url()).await.bucket("configs").unwrap();
    bucket.ensure(&Settings::default()).await.unwrap();
    let (a, b, c) = (key("a"), key("b"), key("c"));
    for key in [&a, &b, &c] {
        put(&bucket, key, "n = 1").await;
    }
    let removed = Arc::new(Mutex::new(Vec::new()));
    let told = removed.clone();
    let group = Group::<Numbered>::builder(&bucket, &Pattern::all()).observe(move |key, event| {
        if let Event::Removed { revision: None } = event {
            told.lock().unwrap().push(key.cloned().unwrap());
        }
    });
    let group = group.start();
    eventually("the values", DEADLINE, || (group.load().iter().count() == 3).then_some(()));

    let client = async_nats::connect(server.url()).await.unwrap();
    let stream = async_nats::jetstream::new(client).get_stream("KV_configs").await.unwrap();
    stream.purge().filter("$KV.configs.b").await.unwrap();
    server.stop();
    server.restart();
    eventually("b", DEADLINE, || (*removed.lock().unwrap() == [b.clone()]).then_some(()));

    bucket.destroy().await.unwrap();
    bucket.ensure(&Settings::default()).await.unwrap();
    put(&bucket, &a, "n = 2").await;
    eventually("the new bucket's value", DEADLINE, || (n_of(&group.load(), &a) == Some(2)).then_some(()));
    eventually("c", DEADLINE, || removed.lock().unwrap().contains(&c).then_some(()));
    assert!(removed.lock().unwrap().iter().filter(|key| **key == b).count() == 1, "{removed:?}");
    assert_eq!((n_of(&group.load(), &b), n_of(&group.load(), &c)), (Some(1), Some(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_server_stores_no_set_as_one_its_members_are_changes_of_their_own() {
    let bucket = fresh("2.11.11").await;
    let (a, b) = (key("a"), key("b"));
    let mut group = Group::<Numbered>::builder(&bucket, &Pattern::all()).start();
    let set = ChangeSet::new(2);
    for key in [&a, &b] {
        let mut write = write(key, "n = 1", Expect::Never);
        write.provenance.set = Some(set.clone());
        bucket.publish(&write).await.unwrap();
        timeout(DEADLINE, async {
            while n_of(&group.load(), key).is_none() {
                group.changed().await;
            }
        })
        .await
        .expect("applied without the other");
    }
}
