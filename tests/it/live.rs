//! `Live<T>`, the library that a service embeds.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use confhot::kv::{Bucket, Connect, Connection, Credentials, Revision, Settings as BucketSettings};
use confhot::live::{Event, Live, Rejection, RejectionKind};
use tokio::time::timeout;

use crate::feed::{Feed, connect, key, make, put};
use crate::status::{allow, as_user, locked_down, rights};
use crate::support::{self, DEADLINE, Server, VERSIONS, eventually};

#[derive(Debug, serde::Deserialize)]
struct Settings {
    greeting: String,
    #[serde(default)]
    workers: u8,
}

async fn fresh() -> Bucket {
    let server = support::shared(VERSIONS[VERSIONS.len() - 1]);
    let bucket = connect(&server.url()).await.bucket(&support::bucket()).unwrap();
    make(&bucket, Feed::Republished, &server.url(), 1).await;
    bucket
}

/// Every event, as it came.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<Event>>>);

impl Told {
    fn observer(&self) -> impl Fn(&Event) + Send + Sync + 'static {
        let told = self.0.clone();
        move |event| told.lock().unwrap().push(event.clone())
    }

    fn all(&self) -> Vec<Event> {
        self.0.lock().unwrap().clone()
    }

    fn rejections(&self) -> Vec<(Revision, RejectionKind)> {
        let rejection = |event| match event {
            Event::Rejected { revision, rejection, .. } => Some((revision, rejection.kind)),
            _ => None,
        };
        self.all().into_iter().filter_map(rejection).collect()
    }
}

fn wait_rejected(told: &Told, revision: Revision) {
    eventually("the rejection", DEADLINE, || {
        told.rejections().iter().any(|(rejected, _)| *rejected == revision).then_some(())
    });
}

async fn changed<T: Send + Sync + 'static>(live: &mut Live<T>) {
    timeout(DEADLINE, live.changed()).await.expect("a swap");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decoded_value_is_swapped_in_and_a_document_of_another_shape_is_rejected() {
    let (bucket, k, told) = (fresh().await, key("service1"), Told::default());
    let mut live = Live::<Settings>::builder(&bucket, &k).observe(told.observer()).start();
    assert!(live.load().is_none());
    assert!(timeout(Duration::from_millis(100), live.ready()).await.is_err(), "ready without a value");

    let first = put(&bucket, &k, "greeting = 'hello'\nworkers = 3").await;
    timeout(DEADLINE, live.ready()).await.unwrap();
    changed(&mut live).await;
    let held = live.get().unwrap();
    assert_eq!((held.greeting.as_str(), held.workers, held.revision), ("hello", 3, first));

    let bad = put(&bucket, &k, "greeting = 'hello'\nworkers = 'three'").await;
    wait_rejected(&told, bad);
    let state = live.state();
    assert_eq!((state.revision, state.newest), (Some(first), Some(bad)));
    let (revision, rejection) = state.rejected.unwrap();
    assert_eq!((revision, rejection.kind), (bad, RejectionKind::Invalid));
    assert!(rejection.reason.contains("line 2, column 11"), "{}", rejection.reason);

    let second = put(&bucket, &k, "greeting = 'bye'").await;
    changed(&mut live).await;
    assert_eq!((live.get().unwrap().greeting.as_str(), live.state().rejected), ("bye", None));
    assert_eq!(live.state().revision, Some(second));
    assert_eq!(held.greeting, "hello", "who holds the old value keeps it");
    assert!(timeout(Duration::from_millis(200), live.changed()).await.is_err(), "told twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_bytes_again_move_the_revision_on_and_swap_nothing() {
    let (bucket, k, told) = (fresh().await, key("service1"), Told::default());
    put(&bucket, &k, "greeting = 'a'").await;
    let mut live = Live::<Settings>::builder(&bucket, &k).observe(told.observer()).start();
    changed(&mut live).await;
    let held = live.get().unwrap();

    let again = put(&bucket, &k, "greeting = 'a'").await;
    eventually("the newer revision", DEADLINE, || (live.state().revision == Some(again)).then_some(()));
    assert!(Arc::ptr_eq(&held, &live.get().unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_sees_what_serves_and_what_would_and_its_no_is_final() {
    let (bucket, k, told) = (fresh().await, key("service1"), Told::default());
    let asked = Arc::new(AtomicU32::new(0));
    let count = asked.clone();
    let mut live = Live::<Settings>::builder(&bucket, &k)
        .observe(told.observer())
        .check(move |serving, new| {
            count.fetch_add(1, Ordering::Relaxed);
            async move {
                match serving {
                    Some(serving) if new.workers < serving.workers => Err(Rejection::invalid("fewer workers")),
                    _ => Ok(()),
                }
            }
        })
        .start();
    put(&bucket, &k, "greeting = 'a'\nworkers = 2").await;
    changed(&mut live).await;
    let fewer = put(&bucket, &k, "greeting = 'a'\nworkers = 1").await;
    wait_rejected(&told, fewer);
    // Longer than the first pause before an unavailable one would be tried again.
    tokio::time::sleep(Duration::from_millis(1_200)).await;

    assert_eq!(told.rejections(), [(fewer, RejectionKind::Invalid)]);
    assert_eq!((asked.load(Ordering::Relaxed), live.get().unwrap().workers), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_schema_refuses_that_is_older_than_itself_is_rejected_whoever_published_it() {
    let (bucket, k, schema, told) = (fresh().await, key("service1"), key("_schema.service1"), Told::default());
    let most = |workers: u8| format!("{{\"properties\":{{\"workers\":{{\"maximum\":{workers}}}}}}}");
    // Published before there was a schema: what serves is not taken away by one.
    put(&bucket, &k, "greeting = 'a'\nworkers = 9").await;
    put(&bucket, &schema, &most(8)).await;
    let mut live = Live::<Settings>::builder(&bucket, &k).schema().observe(told.observer()).start();
    changed(&mut live).await;

    let nine = put(&bucket, &k, "greeting = 'b'\nworkers = 9").await;
    wait_rejected(&told, nine);
    let rejection = live.state().rejected.unwrap().1;
    let reason = "line 2, column 11: the schema refuses it: workers: the value is greater than the maximum of 8";
    assert_eq!(rejection, Rejection::invalid(reason));
    assert_eq!(live.get().unwrap().greeting, "a");

    put(&bucket, &k, "greeting = 'c'\nworkers = 8").await;
    changed(&mut live).await;
    put(&bucket, &schema, &most(200)).await;
    put(&bucket, &k, "greeting = 'd'\nworkers = 200").await;
    changed(&mut live).await;
    let broken = put(&bucket, &schema, "{\"properties\": 1}").await;
    put(&bucket, &k, "greeting = 'e'\nworkers = 201").await;
    changed(&mut live).await;
    assert_eq!(live.get().unwrap().greeting, "e");
    let said = format!("_schema.service1@{broken} rejects nothing: ");
    assert!(told.all().iter().any(|event| matches!(event, Event::Trouble(what) if what.starts_with(&said))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_is_enforced_with_no_right_but_to_the_key_and_to_its_schema() {
    let name = support::bucket();
    let server = Server::with(VERSIONS[VERSIONS.len() - 1], |settings| {
        let keys =
            ["service1", "_schema.service1"].map(|key| format!("\"$JS.API.DIRECT.GET.KV_{name}.$KV.{name}.{key}\""));
        settings.extra = format!(
            "authorization {{ users: [
               {{ user: admin, password: admin }},
               {{ user: service, password: service, permissions: {{
                  publish: {{ allow: [\"$JS.API.STREAM.INFO.KV_{name}\", {}] }},
                  subscribe: {{ allow: [\"_INBOX_service.>\", \"confhot.live.{name}.service1\"] }} }} }}
             ] }}",
            keys.join(", ")
        );
    });
    let bucket = async |user: &str| {
        let mut to = Connect::to([server.url()]);
        to.credentials = Credentials::User(user.into(), user.into());
        Connection::open(&to).await.unwrap().bucket(&name).unwrap()
    };
    let admin = bucket("admin").await;
    admin.ensure(&BucketSettings::default()).await.unwrap();
    let (k, told) = (key("service1"), Told::default());
    put(&admin, &key("_schema.service1"), r#"{"properties":{"workers":{"maximum":8}}}"#).await;
    put(&admin, &k, "greeting = 'a'\nworkers = 8").await;

    let live = Live::<Settings>::builder(&bucket("service").await, &k).schema().observe(told.observer()).start();
    timeout(DEADLINE, live.ready()).await.unwrap();
    let nine = put(&admin, &k, "greeting = 'b'\nworkers = 9").await;

    wait_rejected(&told, nine);
    assert_eq!(told.rejections(), [(nine, RejectionKind::Invalid)]);
    // It may not hear of another schema, and goes by it all the same.
    put(&admin, &key("_schema.service1"), r#"{"properties":{"workers":{"maximum":7}}}"#).await;
    let eight = put(&admin, &k, "greeting = 'c'\nworkers = 8").await;
    wait_rejected(&told, eight);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unavailable_revision_is_told_once_and_applied_when_its_check_passes() {
    let (bucket, k, told) = (fresh().await, key("service1"), Told::default());
    let asked = Arc::new(AtomicU32::new(0));
    let count = asked.clone();
    let mut live = Live::<Settings>::builder(&bucket, &k)
        .observe(told.observer())
        .check(move |_, _| {
            let nth = count.fetch_add(1, Ordering::Relaxed);
            async move { if nth < 2 { Err(Rejection::unavailable("database is down")) } else { Ok(()) } }
        })
        .start();
    let revision = put(&bucket, &k, "greeting = 'a'").await;
    wait_rejected(&told, revision);
    assert!(live.load().is_none());
    changed(&mut live).await;

    assert_eq!((asked.load(Ordering::Relaxed), live.get().unwrap().revision), (3, revision));
    assert_eq!(told.rejections(), [(revision, RejectionKind::Unavailable)]);
    assert_eq!(live.state().rejected, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_revision_ends_the_attempts_at_an_unavailable_one() {
    let (bucket, k, told) = (fresh().await, key("service1"), Told::default());
    let tried = Arc::new(Mutex::new(Vec::new()));
    let list = tried.clone();
    let mut live = Live::<Settings>::builder(&bucket, &k)
        .observe(told.observer())
        .check(move |_, new| {
            list.lock().unwrap().push(new.revision);
            async move { if new.greeting == "down" { Err(Rejection::unavailable("down")) } else { Ok(()) } }
        })
        .start();
    let down = put(&bucket, &k, "greeting = 'down'").await;
    wait_rejected(&told, down);
    let good = put(&bucket, &k, "greeting = 'up'").await;
    changed(&mut live).await;
    let before = tried.lock().unwrap().len();
    tokio::time::sleep(Duration::from_millis(1_500)).await;

    assert_eq!(live.get().unwrap().revision, good);
    assert_eq!(tried.lock().unwrap().len(), before, "tried on: {tried:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_revision_does_not_wait_for_a_check_that_hangs() {
    /// Says when it is dropped.
    struct Probe(Arc<AtomicU32>);
    impl Drop for Probe {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let (bucket, k, told) = (fresh().await, key("service1"), Told::default());
    let dropped = Arc::new(AtomicU32::new(0));
    let (count, hung) = (dropped.clone(), Arc::new(Mutex::new(Vec::new())));
    let list = hung.clone();
    let mut live = Live::<Settings>::builder(&bucket, &k)
        .observe(told.observer())
        .check(move |_, new| {
            let (count, list) = (count.clone(), list.clone());
            async move {
                if new.greeting == "hangs" {
                    let _probe = Probe(count);
                    list.lock().unwrap().push(new.revision);
                    std::future::pending::<()>().await;
                }
                Ok(())
            }
        })
        .start();
    let hangs = put(&bucket, &k, "greeting = 'hangs'").await;
    eventually("the check hangs", DEADLINE, || (hung.lock().unwrap()[..] == [hangs]).then_some(()));
    let good = put(&bucket, &k, "greeting = 'good'").await;
    timeout(Duration::from_secs(5), live.changed()).await.expect("the fix waits for what it fixes");
    assert_eq!((live.get().unwrap().revision, dropped.load(Ordering::Relaxed)), (good, 1));

    // Neither does one that came while the one before was still waited for.
    let again = put(&bucket, &k, "greeting = 'hangs'\nworkers = 1").await;
    eventually("the check hangs", DEADLINE, || (hung.lock().unwrap().last() == Some(&again)).then_some(()));
    put(&bucket, &k, "greeting = 'hangs'\nworkers = 2").await;
    let good = put(&bucket, &k, "greeting = 'good'\nworkers = 3").await;
    timeout(Duration::from_secs(5), live.changed()).await.expect("the newest one waits behind one that hangs");
    assert_eq!((live.get().unwrap().revision, dropped.load(Ordering::Relaxed)), (good, 3));

    // A tombstone does not wait either; and nothing was told of what was not decided.
    let again = put(&bucket, &k, "greeting = 'hangs'\nworkers = 1").await;
    eventually("the check hangs", DEADLINE, || (hung.lock().unwrap().last() == Some(&again)).then_some(()));
    let delete = confhot::kv::Write::delete(
        k.clone(),
        confhot::kv::Provenance::by(confhot::kv::Writer::Delete),
        confhot::kv::Expect::At(again),
    );
    bucket.publish(&delete).await.unwrap();
    let removed = |event: &Event| matches!(event, Event::Removed { .. });
    eventually("the delete", DEADLINE, || told.all().iter().any(removed).then_some(()));
    assert_eq!((dropped.load(Ordering::Relaxed), told.rejections().len()), (4, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn revisions_that_follow_each_other_faster_than_a_check_are_applied_all_the_same() {
    let (bucket, k) = (fresh().await, key("service1"));
    let live = Live::<Settings>::builder(&bucket, &k)
        .check(|_, _| async {
            tokio::time::sleep(Duration::from_millis(150)).await;
            Ok(())
        })
        .start();
    let until = std::time::Instant::now() + DEADLINE;
    let mut n = 0;
    while live.load().is_none() {
        n += 1;
        put(&bucket, &k, &format!("greeting = '{n}'")).await;
        assert!(std::time::Instant::now() < until, "nothing was applied while {n} revisions came");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unavailable_revision_that_turns_out_invalid_is_told_as_such_and_given_up() {
    let (bucket, k, told) = (fresh().await, key("service1"), Told::default());
    let asked = Arc::new(AtomicU32::new(0));
    let count = asked.clone();
    let live = Live::<Settings>::builder(&bucket, &k)
        .observe(told.observer())
        .check(move |_, _| {
            let nth = count.fetch_add(1, Ordering::Relaxed);
            async move {
                Err(if nth == 0 { Rejection::unavailable("database is down") } else { Rejection::invalid("no table") })
            }
        })
        .start();
    let revision = put(&bucket, &k, "greeting = 'a'").await;
    eventually("both", DEADLINE, || (told.rejections().len() == 2).then_some(()));
    tokio::time::sleep(Duration::from_millis(1_500)).await;

    use RejectionKind::{Invalid, Unavailable};
    assert_eq!(told.rejections(), [(revision, Unavailable), (revision, Invalid)]);
    assert_eq!((asked.load(Ordering::Relaxed), live.state().rejected.unwrap().1.kind), (2, Invalid));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_value_that_was_unavailable_at_first_is_told_as_from_the_state() {
    let (bucket, k) = (fresh().await, key("service1"));
    let dir = tempfile::tempdir().unwrap();
    let state = confhot::live::StateDir::open(dir.path()).unwrap();
    let revision = put(&bucket, &k, "greeting = 'kept'").await;
    let told = Told::default();
    let first = Live::<Settings>::builder(&bucket, &k).state_dir(state.clone()).observe(told.observer()).start();
    let applied = |event: &Event| matches!(event, Event::Applied { .. });
    eventually("an event, before which the value is kept", DEADLINE, || told.all().iter().any(applied).then_some(()));
    drop(first);

    let told = Told::default();
    let asked = Arc::new(AtomicU32::new(0));
    let nobody = connect("nats://127.0.0.1:1").await.bucket("configs").unwrap();
    let mut live = Live::<Settings>::builder(&nobody, &k)
        .state_dir(state)
        .observe(told.observer())
        .check(move |_, _| {
            let nth = asked.fetch_add(1, Ordering::Relaxed);
            async move { if nth == 0 { Err(Rejection::unavailable("not yet")) } else { Ok(()) } }
        })
        .start();
    changed(&mut live).await;

    assert_eq!((live.get().unwrap().revision, live.state().from_state), (revision, true));
    let from_state = |event: &Event| matches!(event, Event::Applied { from: confhot::live::Origin::State, .. });
    eventually("the event", DEADLINE, || told.all().iter().any(from_state).then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_in_another_thread_sees_each_swap_and_keeps_the_last_value() {
    let (bucket, k) = (fresh().await, key("service1"));
    put(&bucket, &k, "greeting = 'a'").await;
    let mut live = Live::<Settings>::builder(&bucket, &k).start();
    changed(&mut live).await;
    let reader = live.reader();
    let thread = std::thread::spawn(move || {
        eventually("the newer value", DEADLINE, || {
            reader.load().as_ref().filter(|serving| serving.greeting == "b").map(|_| ())
        });
        reader
    });
    put(&bucket, &k, "greeting = 'b'").await;
    let reader = tokio::task::spawn_blocking(move || thread.join().unwrap()).await.unwrap();

    drop(live);
    assert_eq!(reader.load().as_ref().unwrap().greeting, "b");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_allocates_nothing() {
    let (bucket, k) = (fresh().await, key("service1"));
    put(&bucket, &k, "greeting = 'a'").await;
    let live = Live::<Settings>::builder(&bucket, &k).start();
    timeout(DEADLINE, live.ready()).await.unwrap();
    let reader = live.reader();
    // A thread's first load registers the thread.
    drop(live.load());

    let loads = allocation_counter::measure(|| {
        for _ in 0..1_000 {
            let serving = live.load();
            let read = reader.load();
            assert_eq!(serving.as_ref().unwrap().workers, read.as_ref().unwrap().workers);
        }
    });
    assert_eq!(loads.count_total, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_is_one_subscription_beside_its_inbox_and_no_consumer() {
    let server = Server::start();
    let (bucket, k) = (connect(&server.url()).await.bucket("configs").unwrap(), key("service1"));
    make(&bucket, Feed::Republished, &server.url(), 1).await;
    put(&bucket, &k, "greeting = 'a'").await;
    let mut to = Connect::to([server.url()]);
    to.name = "the service".into();
    let ours = Connection::open(&to).await.unwrap().bucket("configs").unwrap();
    let mut live = Live::<Settings>::builder(&ours, &k).start();
    changed(&mut live).await;
    put(&bucket, &k, "greeting = 'b'").await;
    changed(&mut live).await;

    let connections = server.monitoring("connz?subs=true").unwrap()["connections"].take();
    let ours = connections.as_array().unwrap().iter().find(|it| it["name"] == "the service").unwrap();
    let mut subjects: Vec<_> = ours["subscriptions_list"].as_array().unwrap().iter().map(|it| it.as_str()).collect();
    subjects.retain(|subject| !subject.unwrap().starts_with("_INBOX"));
    assert_eq!(subjects, [Some("confhot.live.configs.service1")], "{ours:#}");
    let jetstream = server.monitoring("jsz").unwrap();
    assert_eq!(jetstream["consumers"], 0, "{jetstream:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_revision_is_told_once_also_across_a_restart_of_the_server() {
    let mut server = Server::start();
    let (bucket, k, told) = (connect(&server.url()).await.bucket("configs").unwrap(), key("service1"), Told::default());
    make(&bucket, Feed::Republished, &server.url(), 1).await;
    put(&bucket, &k, "greeting = 'a'").await;
    let mut live = Live::<Settings>::builder(&bucket, &k).observe(told.observer()).start();
    changed(&mut live).await;
    let bad = put(&bucket, &k, "greeting = 1").await;
    wait_rejected(&told, bad);
    server.kill9();
    server.restart();
    let connected = || told.all().iter().filter(|event| **event == Event::Connected).count();
    eventually("the reconnect", DEADLINE, || (connected() == 2).then_some(()));
    // What it reads after it is what it knows.
    let next = put(&bucket, &k, "greeting = 'b'").await;
    changed(&mut live).await;

    assert_eq!((live.state().revision, told.rejections()), (Some(next), vec![(bad, RejectionKind::Invalid)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn permissions_that_come_while_the_connection_stands_are_used_without_a_restart() {
    let (publish, subscribe) = rights("configs", "service1", "a");
    let deaf: Vec<_> = subscribe.iter().filter(|subject| !subject.starts_with("_INBOX")).cloned().collect();
    let server = locked_down(&publish, &deaf);
    let admin = as_user(&server, "admin", "a").await.bucket("configs").unwrap();
    admin.ensure(&BucketSettings::default()).await.unwrap();
    let (k, told) = (key("service1"), Told::default());
    put(&admin, &k, "greeting = 'one'").await;
    let own = as_user(&server, "svc", "s").await.bucket("configs").unwrap();
    let mut live = Live::<Settings>::builder(&own, &k).observe(told.observer()).start();
    let trouble = |event: &Event| matches!(event, Event::Trouble(what) if what.contains("_INBOX_svc"));
    eventually("that it cannot hear answers", DEADLINE, || told.all().iter().any(trouble).then_some(()));

    allow(&server, &publish, &subscribe);
    timeout(2 * DEADLINE, live.ready()).await.expect("it stays deaf");

    // Taken away and given back, and it was written between.
    while timeout(Duration::from_millis(100), live.changed()).await.is_ok() {}
    allow(&server, &publish, &["nothing".to_owned()]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let missed = put(&admin, &k, "greeting = 'two'").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_ne!(live.get().unwrap().revision, missed, "it may hear nothing");
    allow(&server, &publish, &subscribe);
    timeout(2 * DEADLINE, live.changed()).await.expect("what it missed is never read");
    assert_eq!(live.get().unwrap().revision, missed);
}
