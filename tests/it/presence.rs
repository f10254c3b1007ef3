//! Who is there, told by the server: records are slow, and whoever died is gone all the same.

use std::time::{Duration, Instant};

use async_nats::jetstream::{self, stream};
use confhot::kv::{Bucket, Connect, Connection, Settings};
use confhot::live::Live;
use futures_util::future::join_all;

use crate::faults::Way;
use crate::feed::{Feed, connect, key, make, put};
use crate::status::{
    as_user, document, following, fresh_on, ids, locked_down, rights, run, wait_applied, wait_complete, wait_status,
};
use crate::support::{self, Cluster, DEADLINE, Server, VERSIONS, eventually};

/// An instance at `url` is listed when its record is not young any more, by whoever asks at `bucket`, and gone as soon as it
/// is dead.
async fn is_listed_and_gone(bucket: &Bucket, url: &str) {
    let (own, k) = (connect(url).await.bucket(bucket.name()).unwrap(), key("service1"));
    let live = following(&own, &k, "dies").start();
    let stays = following(&connect(url).await.bucket(bucket.name()).unwrap(), &k, "stays").start();
    let old = wait_status(bucket, &k, "dies", |status| status.here).await;
    assert!(old.beat > Duration::from_secs(15), "{old:?}");
    assert_eq!(ids(bucket, &k).await, ["dies", "stays"]);

    drop((live, own));
    let died = Instant::now();
    while ids(bucket, &k).await.contains(&"dies".to_owned()) {
        assert!(died.elapsed() < Duration::from_secs(15), "it is still there");
    }
    assert_eq!(ids(bucket, &k).await, ["stays"]);
    drop(stays);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_with_an_old_record_is_there_until_it_dies_on_every_server() {
    let on = VERSIONS.map(async |version| {
        let url = support::shared(version).url();
        let bucket = connect(&url).await.bucket(&support::bucket()).unwrap();
        bucket.ensure(&Settings::default()).await.unwrap();
        is_listed_and_gone(&bucket, &url).await;
    });
    join_all(on).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn however_many_died_at_once_all_of_them_are_gone() {
    const MANY: usize = 700;
    let server = Server::start();
    let (bucket, k) = (fresh_on(&server).await, key("service1"));
    let client = async_nats::connect(server.url()).await.unwrap();
    for n in 0..MANY {
        let id = format!("dead{n}");
        let record = serde_json::json!({
            "service": "service1", "instance": id, "host": "host", "version": "1", "key": k, "revision": 1,
            "digest": null, "newest": 1, "state": "applied", "rejected": null, "for_ms": 0, "up_ms": 60_000,
            "connected_ms": 60_000, "beat_ms": 300_000, "process": id,
        });
        let subject = format!("$KV.{}_status.{k}.{id}", bucket.name());
        client.publish(subject, record.to_string().into()).await.unwrap();
    }
    let js = jetstream::new(client);
    let records = js.get_stream(format!("KV_{}_status", bucket.name())).await.unwrap();
    let (until, stored) = (Instant::now() + DEADLINE, async || records.get_info().await.unwrap().state.messages);
    while stored().await < MANY as u64 {
        assert!(Instant::now() < until, "some were not stored");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(Duration::from_secs(15)).await;

    assert_eq!(ids(&bucket, &k).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_cluster_any_server_knows_who_is_there() {
    let mut cluster = Cluster::three();
    let (here, there) = (cluster.server(0).url(), cluster.server(1).url());
    let bucket = connect(&here).await.bucket("configs").unwrap();
    let until = Instant::now() + 2 * DEADLINE;
    // The metadata leader takes a stream with three replicas once it has heard of three servers.
    while let Err(error) = bucket.ensure(&Settings { replicas: 3 }).await {
        assert!(Instant::now() < until, "{error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    is_listed_and_gone(&bucket, &there).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_may_not_listen_where_it_is_asked_for_tells_often() {
    let (publish, mut subscribe) = rights("configs", "service1", "a");
    subscribe.retain(|subject| !subject.starts_with("confhot.here"));
    let server = locked_down(&publish, &subscribe);
    let admin = as_user(&server, "admin", "a").await.bucket("configs").unwrap();
    admin.ensure(&Settings::default()).await.unwrap();
    let own = as_user(&server, "svc", "s").await.bucket("configs").unwrap();
    let _live = following(&own, &key("service1"), "a").start();

    let first = wait_status(&admin, &key("service1"), "a", |status| status.beat < Duration::from_secs(5)).await;
    wait_status(&admin, &key("service1"), "a", |status| status.seen > first.seen).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_cut_off_for_a_moment_is_waited_for_however_old_its_record_is() {
    let server = Server::start();
    let (bucket, k) = (fresh_on(&server).await, key("service1"));
    let way = Way::to(server.port()).await;
    let at = async |url: &str| connect(url).await.bucket(bucket.name()).unwrap();
    let _steady = following(&at(&server.url()).await, &k, "steady").start();
    let _blips = following(&at(&way.url).await, &k, "blips").start();
    let first = put(&bucket, &k, "n = 0").await;
    for id in ["steady", "blips"] {
        wait_applied(&bucket, &k, id, first).await;
    }
    wait_status(&bucket, &k, "blips", |status| status.here).await;

    way.open.send_replace(false);
    let cut = Instant::now();
    while ids(&bucket, &k).await.contains(&"blips".to_owned()) {
        assert!(cut.elapsed() < Duration::from_secs(15), "it is still there");
    }
    let open = way.open.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(2)).await;
        open.send_replace(true);
    });
    let file = document("n = 1\ninvalid_for = ['blips']\n");
    let (code, lines, stderr) = run(&bucket, &["put", "service1", &file, "--wait", "20s"]);

    assert_eq!((code, &lines[0]["rejected"][0]["instance"]), (1, &"blips".into()), "{lines:?} {stderr}");
}

/// A fresh bucket beside which somebody else made the one of the records.
async fn beside_records(url: &str, change: impl FnOnce(&mut stream::Config)) -> Bucket {
    let bucket = connect(url).await.bucket(&support::bucket()).unwrap();
    let records = format!("{}_status", bucket.name());
    let mut config = stream::Config {
        name: format!("KV_{records}"),
        subjects: vec![format!("$KV.{records}.>")],
        max_messages_per_subject: 1,
        storage: stream::StorageType::Memory,
        allow_message_ttl: true,
        allow_rollup: true,
        allow_direct: true,
        deny_delete: true,
        ..stream::Config::default()
    };
    change(&mut config);
    jetstream::new(async_nats::connect(url).await.unwrap()).create_stream(config).await.unwrap();
    bucket.ensure(&Settings::default()).await.unwrap();
    bucket
}

#[tokio::test(flavor = "multi_thread")]
async fn where_records_do_not_stand_long_enough_nobody_is_forgotten_for_it_on_every_server() {
    let on = VERSIONS.map(async |version| {
        let url = support::shared(version).url();
        let bucket = beside_records(&url, |config| config.max_age = Duration::from_secs(3)).await;
        let (own, k) = (connect(&url).await.bucket(bucket.name()).unwrap(), key("service1"));
        let first = put(&bucket, &k, "n = 0").await;
        let _live = following(&own, &k, "a").start();
        wait_applied(&bucket, &k, "a", first).await;
        wait_complete(&bucket).await;
        let until = Instant::now() + DEADLINE;
        while !ids(&bucket, &k).await.is_empty() {
            assert!(Instant::now() < until, "{version}: its record stands");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }

        // One that is known is no excuse.
        let _known = following(&own, &k, "b").start();
        wait_applied(&bucket, &k, "b", first).await;
        let file = document("n = 1\ninvalid_for = ['a']\nslow_for = 'a'\nslow_ms = 2000");
        let (code, lines, stderr) = run(&bucket, &["put", "service1", &file, "--wait", "20s"]);
        assert_eq!((code, &lines[0]["rejected"][0]["instance"]), (1, &"a".into()), "{version}: {lines:?} {stderr}");
        let (_, _, stderr) = run(&bucket, &["status"]);
        assert!(stderr.contains("forgets instances before they tell again"), "{version}: {stderr}");
    });
    join_all(on).await;
}

/// On a connection that gives a request no longer than a second.
async fn hasty(url: &str, bucket: &Bucket) -> Bucket {
    let mut to = Connect::to([url]);
    to.timeout = Duration::from_secs(1);
    Connection::open(&to).await.unwrap().bucket(bucket.name()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_only_leaves_records_unanswered_keeps_its_connections() {
    let server = Server::start();
    let bucket = beside_records(&server.url(), |config| config.no_ack = true).await;
    let own = hasty(&server.url(), &bucket).await;
    let _live = following(&own, &key("service1"), "a").start();

    let first = wait_status(&bucket, &key("service1"), "a", |_| true).await;
    // It tells as often as one that is not stored.
    wait_status(&bucket, &key("service1"), "a", |status| status.up > first.up + Duration::from_secs(8)).await;
    assert_eq!(own.connection().link().borrow().generation, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_is_noticed_by_one_that_reads_and_announces_nothing_before_any_ping() {
    let mut server = Server::start();
    let bucket = connect(&server.url()).await.bucket("configs").unwrap();
    // Where the server tells of its own bucket nothing is read, and the pings have to tell.
    make(&bucket, Feed::Consumer, &server.url(), 1).await;
    put(&bucket, &key("service1"), "n = 1").await;
    let own = hasty(&server.url(), &bucket).await;
    let live = Live::<crate::status::Settings>::builder(&own, &key("service1")).start();
    live.ready().await;

    server.freeze();
    eventually("the connection is ended", DEADLINE, || (!own.connection().link().borrow().up).then_some(()));
    server.thaw();
    eventually("it is back", DEADLINE, || own.connection().link().borrow().up.then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_tries_whether_all_may_be_asked_asks_nobody() {
    let server = Server::start();
    let (bucket, k) = (fresh_on(&server).await, key("service1"));
    let own = connect(&server.url()).await.bucket(bucket.name()).unwrap();
    let first = put(&bucket, &k, "n = 0").await;
    let _live = following(&own, &k, "a").start();
    let told = wait_applied(&bucket, &k, "a", first).await;
    let mut heard = bucket.follow_statuses(Some(&k)).await.unwrap();

    let (code, lines, stderr) = run(&bucket, &["doctor", "--role", "operator"]);
    assert_eq!(code, 0, "{lines:?} {stderr}");
    // Whoever is asked tells within two seconds.
    let said = tokio::time::timeout(Duration::from_secs(3), heard.next()).await;
    assert!(said.is_err(), "{told:?} {said:?}");
}
