//! `confhot serve`, the binary: what it says, what it serves, and what it does when the server does not.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use confhot::kv::{Bucket, Expect, Key, Provenance, Revision, Write, Writer};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::feed::{Feed, connect, key, make, put, write};
use crate::support::{self, DEADLINE, Daemon, Server, VERSIONS, eventually, http_get};

const NEWEST: &str = VERSIONS[VERSIONS.len() - 1];

pub(crate) fn serve(url: &str, bucket: &str, extra: &[&str]) -> Daemon {
    let common = ["serve", "--name", "service1", "--format", "json", "--server", url, "--bucket", bucket];
    Daemon::start(common.iter().chain(extra))
}

/// A fresh bucket on the shared server.
pub(crate) async fn fresh() -> (&'static Server, Bucket) {
    let server = support::shared(NEWEST);
    (server, fresh_on(server).await)
}

async fn fresh_on(server: &Server) -> Bucket {
    let bucket = connect(&server.url()).await.bucket(&support::bucket()).unwrap();
    make(&bucket, Feed::Republished, &server.url(), 1).await;
    bucket
}

/// As any other client writes: no headers, no expectation.
async fn raw_put(url: &str, bucket: &Bucket, bytes: &'static [u8]) -> u64 {
    let client = async_nats::connect(url).await.unwrap();
    let store = async_nats::jetstream::new(client).get_key_value(bucket.name()).await.unwrap();
    store.put("service1", Bytes::from_static(bytes)).await.unwrap()
}

async fn delete(bucket: &Bucket, key: &Key) -> Revision {
    let head = bucket.head(key).await.unwrap().unwrap().revision;
    let write = Write::delete(key.clone(), Provenance::by(Writer::Delete), Expect::At(head));
    bucket.publish(&write).await.unwrap().revision
}

/// Where the service serves HTTP, once it said so.
pub(crate) fn address(service: &Daemon) -> String {
    eventually("an address on stderr", DEADLINE, || {
        let said = service.stderr();
        let at = said.find("http://")?;
        // The log may be one of objects.
        said[at..].split_once(['\n', '"']).map(|(url, _)| url.to_owned())
    })
}

pub(crate) fn get(service: &Daemon, page: &str) -> (u16, Value) {
    let (status, body) = http_get(&format!("{}/{page}", address(service))).unwrap();
    (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
}

fn names(events: &[Value]) -> Vec<String> {
    events.iter().map(|event| event["event"].as_str().unwrap_or("?").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_starts_on_the_current_value_and_tells_how_long_an_update_took() {
    let (server, bucket) = fresh().await;
    let k = key("service1");
    put(&bucket, &k, "port = 0").await;
    let first = put(&bucket, &k, "port = 1").await;

    let mut service = serve(&server.url(), bucket.name(), &[]);
    let applied = service.event("applied");
    let digest = confhot::document::Digest::of(b"port = 1").to_string();
    let mut expected = json!({"event": "applied", "key": "service1", "revision": first, "digest": digest,
                              "from": "server", "ms": null});
    expected["at"] = applied["at"].clone();
    assert_eq!(applied, expected);
    assert!(applied["at"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{applied}");

    let mut update = write(&k, "port = 2", Expect::At(first));
    update.provenance.read_at = Some(jiff::Timestamp::now());
    let second = bucket.publish(&update).await.unwrap().revision;
    let applied = service.event("applied");
    assert_eq!(applied["revision"], second.0);
    assert!(applied["ms"].as_f64().is_some_and(|ms| (0.0..5_000.0).contains(&ms)), "{applied}");

    // A publisher whose clock runs ahead: never negative.
    let mut update = write(&k, "port = 3", Expect::At(second));
    update.provenance.read_at = Some(jiff::Timestamp::now() + jiff::SignedDuration::from_secs(60));
    bucket.publish(&update).await.unwrap();
    assert_eq!(service.event("applied")["ms"], 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_value_is_rejected_the_good_one_serves_on_and_is_accepted_again() {
    let (server, bucket) = fresh().await;
    let k = key("service1");
    let good = put(&bucket, &k, "port = 1").await;
    let mut service = serve(&server.url(), bucket.name(), &["--http", "127.0.0.1:0"]);
    service.event("applied");

    let bad = raw_put(&server.url(), &bucket, b"port = = 1").await;
    let rejected = service.event("rejected");
    assert_eq!(
        (&rejected["revision"], &rejected["kind"], &rejected["serving"]),
        (&json!(bad), &json!("invalid"), &json!(good)),
        "{rejected}"
    );
    assert!(rejected["reason"].as_str().is_some_and(|reason| !reason.is_empty()));
    let (status, config) = get(&service, "config");
    assert_eq!((status, &config["value"], &config["revision"]), (200, &json!({"port": 1}), &json!(good)), "{config}");
    assert_eq!((&config["newest"], &config["rejected"]["revision"]), (&json!(bad), &json!(bad)), "{config}");
    let (status, ready) = get(&service, "readyz");
    assert_eq!((status, &ready["ready"]), (200, &json!(true)));
    assert!(ready["degraded"][0].as_str().unwrap().contains(&format!("revision {bad} was rejected")), "{ready}");

    let again = raw_put(&server.url(), &bucket, b"port = 1").await;
    assert_eq!(service.event("applied")["revision"], again);
    let (_, config) = get(&service, "config");
    assert_eq!((&config["revision"], &config["rejected"]), (&json!(again), &Value::Null), "{config}");
    assert_eq!(get(&service, "readyz").1["degraded"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_and_a_bucket_that_do_not_exist_yet_are_waited_for() {
    let (server, bucket) = fresh().await;
    let missing = bucket.connection().bucket(&support::bucket()).unwrap();
    for bucket in [bucket, missing] {
        let mut service = serve(&server.url(), bucket.name(), &["--http", "127.0.0.1:0"]);
        service.event("absent");
        let (status, ready) = get(&service, "readyz");
        assert_eq!((status, &ready["ready"]), (503, &json!(false)));
        assert_eq!(get(&service, "config").0, 503);
        assert_eq!(get(&service, "healthz").0, 200);

        make(&bucket, Feed::Republished, &server.url(), 1).await;
        put(&bucket, &key("service1"), "port = 1").await;
        service.event("applied");
        assert_eq!(get(&service, "readyz").0, 200);
        assert_eq!(names(service.events()), ["connected", "absent", "applied"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_is_told_and_the_value_is_kept() {
    let (server, bucket) = fresh().await;
    let k = key("service1");
    put(&bucket, &k, "port = 1").await;
    let mut service = serve(&server.url(), bucket.name(), &["--http", "127.0.0.1:0"]);
    service.event("applied");
    raw_put(&server.url(), &bucket, b"= broken").await;
    service.event("rejected");

    let tombstone = delete(&bucket, &k).await;
    assert_eq!(service.event("removed")["revision"], tombstone.0);
    let (status, config) = get(&service, "config");
    assert_eq!((status, &config["value"]), (200, &json!({"port": 1})));
    // What was rejected is not the newest any more.
    assert_eq!((&config["newest"], &config["rejected"]), (&json!(tombstone), &Value::Null), "{config}");

    put(&bucket, &k, "port = 2").await;
    service.event("applied");
    assert_eq!(get(&service, "config").1["value"], json!({"port": 2}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_was_made_anew_is_followed_although_its_revisions_are_lower() {
    let (server, bucket) = fresh().await;
    let k = key("service1");
    for port in 1..=5 {
        put(&bucket, &k, &format!("port = {port}")).await;
    }
    let mut service = serve(&server.url(), bucket.name(), &["--http", "127.0.0.1:0"]);
    assert_eq!(service.event("applied")["revision"], 5);

    bucket.destroy().await.unwrap();
    assert_eq!(get(&service, "config").1["value"], json!({"port": 5}), "kept while there is none");
    make(&bucket, Feed::Republished, &server.url(), 1).await;
    put(&bucket, &k, "port = 9").await;
    assert_eq!(service.event("applied")["revision"], 1);
    put(&bucket, &k, "port = 10").await;
    assert_eq!(service.event("applied")["revision"], 2);
    assert_eq!(get(&service, "config").1["newest"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn any_document_is_accepted_whatever_the_shape_of_what_it_does_not_know() {
    let (server, bucket) = fresh().await;
    let mut service = serve(&server.url(), bucket.name(), &["--http", "127.0.0.1:0"]);
    service.event("absent");
    let shapes: [(&'static [u8], Value); 5] = [
        (b"{}", json!({})),
        (
            b"{\"servers\": 8080, \"server\": {\"x\": [1, {\"y\": null}]}}",
            json!({"servers": 8080, "server": {"x": [1, {"y": null}]}}),
        ),
        (b"{\"\": {\"\": []}}", json!({"": {"": []}})),
        (b"{\"n\": 18446744073709551615}", json!({"n": u64::MAX})),
        ("{\"caf\u{e9}\": \"\\u0000\"}".as_bytes(), json!({"caf\u{e9}": "\0"})),
    ];
    for (bytes, shown) in shapes {
        let revision = raw_put(&server.url(), &bucket, bytes).await;
        assert_eq!(service.wait_event(DEADLINE, |e| e["revision"] == revision)["event"], "applied", "{shown}");
        assert_eq!(get(&service, "config").1["value"], shown);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_prometheus_text() {
    let (server, bucket) = fresh().await;
    let k = key("service1");
    put(&bucket, &k, "port = 1").await;
    let mut service = serve(&server.url(), bucket.name(), &["--http", "127.0.0.1:0", "--instance", "one"]);
    let first = service.event("applied")["revision"].as_u64().unwrap();
    raw_put(&server.url(), &bucket, b"= broken").await;
    service.event("rejected");

    let (status, text) = get(&service, "metrics");
    let text = text.as_str().unwrap();
    assert_eq!(status, 200);
    let mut samples = std::collections::HashMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        assert!(name.starts_with("confhot_"), "{line}");
        samples.insert(name.to_owned(), value.parse::<f64>().unwrap_or_else(|_| panic!("{line}")));
    }
    assert_eq!(samples["confhot_applied_total"], 1.0, "{text}");
    assert_eq!(samples["confhot_rejected_total{kind=\"invalid\"}"], 1.0, "{text}");
    assert_eq!(samples["confhot_revision"], first as f64);
    assert_eq!(samples["confhot_newest_revision"], first as f64 + 1.0);
    assert_eq!(samples["confhot_connected"], 1.0);
    assert!(samples["confhot_confirmed_time_seconds"] > 1.7e9);
    assert!(samples.contains_key("confhot_service_info{key=\"service1\",instance=\"one\"}"), "{text}");
    assert!(samples.contains_key("confhot_latency_seconds_count"), "{text}");
    assert!(text.ends_with("# EOF\n"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_state_directory_it_starts_while_no_server_answers_and_goes_on_from_there() {
    let mut server = Server::start();
    let bucket = fresh_on(&server).await;
    let k = key("service1");
    let revision = put(&bucket, &k, "port = 1").await;
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let flags = ["--http", "127.0.0.1:0", "--state-dir", state.to_str().unwrap()];
    let mut service = serve(&server.url(), bucket.name(), &flags);
    service.event("applied");
    let instance = get(&service, "config").1["instance"].clone();
    service.sigterm();
    assert_eq!(service.wait_exit(), 0);
    assert_owner_only(&state);

    server.stop();
    let mut service = serve(&server.url(), bucket.name(), &flags);
    let applied = service.event("applied");
    assert_eq!(
        (&applied["from"], &applied["revision"], &applied["ms"]),
        (&json!("state"), &json!(revision), &Value::Null)
    );
    let (_, config) = get(&service, "config");
    assert_eq!((&config["value"], &config["from"]), (&json!({"port": 1}), &json!("state")), "{config}");
    assert_eq!(config["instance"], instance, "the instance's name is kept");
    let (status, ready) = get(&service, "readyz");
    assert_eq!((status, ready["degraded"].as_array().unwrap().len()), (200, 2), "{ready}");

    server.restart();
    service.event("connected");
    eventually("the server confirms the value", DEADLINE, || {
        (get(&service, "readyz").1["degraded"] == json!([])).then_some(())
    });
    assert_eq!(get(&service, "config").1["from"], "server");
    let bucket = connect(&server.url()).await.bucket(bucket.name()).unwrap();
    let newer = put(&bucket, &k, "port = 2").await;
    assert_eq!(service.event("applied")["revision"], newer.0);
    service.kill9();

    // Told after it was kept: a crash right after the event finds it.
    server.stop();
    let mut service = serve(&server.url(), bucket.name(), &flags);
    assert_eq!(service.event("applied")["revision"], newer.0);
}

fn assert_owner_only(dir: &Path) {
    assert_eq!(std::fs::metadata(dir).unwrap().permissions().mode() & 0o777, 0o700);
    let files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(files.len(), 2, "{files:?}");
    for file in files {
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_of_another_bucket_is_a_value_but_never_a_floor() {
    let (server, bucket) = fresh().await;
    let k = key("service1");
    for port in 1..=5 {
        put(&bucket, &k, &format!("port = {port}")).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let flags = ["--state-dir", dir.path().to_str().unwrap()];
    let mut service = serve(&server.url(), bucket.name(), &flags);
    assert_eq!(service.event("applied")["revision"], 5);
    service.sigterm();
    service.wait_exit();

    let other = fresh_on(server).await;
    put(&other, &k, "port = 9").await;
    let mut service = serve(&server.url(), other.name(), &flags);
    assert_eq!(service.event("applied")["from"], "state");
    let applied = service.event("applied");
    assert_eq!((&applied["from"], &applied["revision"]), (&json!("server"), &json!(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_state_file_is_said_and_not_used() {
    let (server, bucket) = fresh().await;
    put(&bucket, &key("service1"), "port = 1").await;
    let dir = tempfile::tempdir().unwrap();
    let flags = ["--state-dir", dir.path().to_str().unwrap()];
    let mut service = serve(&server.url(), bucket.name(), &flags);
    service.event("applied");
    service.sigterm();
    service.wait_exit();

    let file = dir.path().join("service1.state");
    let whole = std::fs::read(&file).unwrap();
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for damaged in [&whole[..whole.len() - 1], &whole[..3], &[], &flipped] {
        std::fs::write(&file, damaged).unwrap();
        let mut service = serve(&server.url(), bucket.name(), &flags);
        assert_eq!(service.event("applied")["from"], "server");
        assert!(service.stderr().contains("service1.state: it is damaged"), "{}", service.stderr());
    }
}

#[test]
fn an_address_in_use_is_a_wrong_start() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();

    let mut service = serve("nats://127.0.0.1:1", "configs", &["--http", &address]);
    assert_eq!(service.wait_exit(), 2);
    assert!(service.stderr().contains(&format!("cannot listen on {address}")), "{}", service.stderr());
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_it_with_0_and_a_second_ctrl_c_with_130() {
    let (server, bucket) = fresh().await;
    for signal in [Signal::TERM, Signal::INT] {
        let mut service = serve(&server.url(), bucket.name(), &["--http", "127.0.0.1:0"]);
        service.event("absent");
        service.signal(signal);
        assert_eq!(service.wait_exit(), 0);
        assert!(!service.stderr().contains("abandoned"), "{}", service.stderr());
    }

    let mut service = serve(&server.url(), bucket.name(), &["--http", "127.0.0.1:0"]);
    service.event("absent");
    // A request that does not end, which a first Ctrl-C gives some seconds.
    let url = address(&service);
    let mut open = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    open.write_all(b"GET /config HTTP/1.1\r\nHost: x\r\n").unwrap();
    let asked = Instant::now();
    assert!(get(&service, "healthz").0 == 200, "the open request was taken");
    service.signal(Signal::INT);
    std::thread::sleep(Duration::from_millis(200));
    service.signal(Signal::INT);
    assert_eq!(service.wait_exit(), 130);
    assert!(asked.elapsed() < Duration::from_secs(4), "at once: {:?}", asked.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_is_said_once_and_waited_for() {
    let mut server = Server::start();
    let bucket = fresh_on(&server).await;
    put(&bucket, &key("service1"), "port = 1").await;
    server.stop();

    let mut service = serve(&server.url(), bucket.name(), &["--http", "127.0.0.1:0"]);
    assert!(service.event("disconnected")["reason"].is_string());
    assert_eq!(get(&service, "readyz").0, 503);
    // Many attempts to connect later.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(names(service.events()), ["disconnected"]);
    server.restart();
    service.event("applied");
    assert_eq!(names(service.events()), ["disconnected", "connected", "applied"]);

    server.stop();
    service.event("disconnected");
    std::thread::sleep(Duration::from_secs(2));
    server.restart();
    service.event("connected");
    assert_eq!(
        names(service.events()),
        ["disconnected", "connected", "applied", "disconnected", "connected"],
        "stderr: {}",
        service.stderr()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server_is_noticed_and_what_comes_after_it_is_applied() {
    let mut server = Server::start();
    let bucket = fresh_on(&server).await;
    let k = key("service1");
    put(&bucket, &k, "port = 1").await;
    let mut service = serve(&server.url(), bucket.name(), &["--http", "127.0.0.1:0"]);
    service.event("applied");

    server.freeze();
    // Nothing says that it is gone but its silence: two records that it does not answer in 5 s, after 30 s at most.
    service.wait_event(Duration::from_secs(45), |event| event["event"] == "disconnected");
    assert_eq!(get(&service, "config").1["value"], json!({"port": 1}));
    server.thaw();
    service.event("connected");
    let revision = put(&bucket, &k, "port = 2").await;
    assert_eq!(service.event("applied")["revision"], revision.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_any_sequence_of_outages_the_last_value_serves_and_none_went_back() {
    let outages = if std::env::var_os("CONFHOT_SOAK").is_some() { 50 } else { 6 };
    let mut server = Server::start();
    let bucket = fresh_on(&server).await;
    let k = key("service1");
    put(&bucket, &k, "n = 0").await;
    let dir = tempfile::tempdir().unwrap();
    let flags = ["--state-dir", dir.path().to_str().unwrap()];
    let mut service = serve(&server.url(), bucket.name(), &flags);
    service.event("applied");

    let mut applied: Vec<u64> = Vec::new();
    let seed = jiff::Timestamp::now().as_nanosecond() as u64 | 1;
    let mut random = seed;
    let mut next = |limit: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % limit
    };
    let mut last = Revision(0);
    for n in 1..=outages {
        let kind = next(4);
        let writer = {
            let (bucket, k) = (bucket.clone(), k.clone());
            tokio::spawn(async move {
                let mut last = Revision(0);
                for m in 0..10 {
                    last = put(&bucket, &k, &format!("n = {n}\nm = {m}")).await;
                }
                last
            })
        };
        tokio::time::sleep(Duration::from_millis(next(30))).await;
        match kind {
            0 => {
                server.freeze();
                tokio::time::sleep(Duration::from_millis(next(300))).await;
                server.thaw();
            }
            1 => {
                server.stop();
                server.restart();
            }
            2 => {
                server.kill9();
                server.restart();
            }
            _ => {
                service.kill9();
                applied.extend(revisions(&mut service));
                service = serve(&server.url(), bucket.name(), &flags);
            }
        }
        last = writer.await.unwrap();
    }
    if !revisions(&mut service).contains(&last.0) {
        service.wait_event(Duration::from_secs(60), |event| event["revision"] == last.0);
    }
    applied.extend(revisions(&mut service));
    // A restart begins with what was kept, which it may tell a second time.
    assert!(applied.is_sorted(), "seed {seed}: {applied:?}");
    assert_eq!(applied.last(), Some(&last.0), "seed {seed}");
    assert!(!names(service.events()).contains(&"rejected".to_owned()));
}

fn revisions(service: &mut Daemon) -> Vec<u64> {
    let applied = service.events().iter().filter(|event| event["event"] == "applied");
    applied.map(|event| event["revision"].as_u64().unwrap()).collect()
}
