//! Whoever may write where instances tell what they run can lie, and can do so very often: who reads it stays within its time
//! and its memory, and no terminal takes orders.

use std::time::{Duration, Instant};

use async_nats::jetstream;
use confhot::document::Digest;
use confhot::kv::{Bucket, Revision};
use confhot::wait::{Target, Verdict, Wait};
use serde_json::json;

use crate::feed::{key, put};
use crate::status::{document, fresh_on, instance, run, wait_applied, wait_complete};
use crate::support::{Daemon, Server, eventually};

/// A record of `instance` of some 15 KB, as long in each of its texts as one may be, which says what cannot be.
fn forged(instance: &str, newest: u64) -> bytes::Bytes {
    let long = |text: &str, len| format!("\u{1b}]0;owned\u{7}\u{1b}[31m{}", text.repeat(len));
    let record = json!({
        "service": long("s", 1_900), "instance": instance, "host": long("h", 1_900), "version": long("v", 1_900),
        "key": "service1", "revision": 1, "digest": null, "newest": newest, "state": "behind",
        "rejected": { "revision": 1, "kind": long("k", 1_900), "reason": long("r", 5_000) },
        "for_ms": u64::MAX, "up_ms": u64::MAX, "connected_ms": u64::MAX, "process": long("p", 1_900), "beat_ms": u64::MAX,
    });
    let record = serde_json::to_vec(&record).unwrap();
    assert!((14_000..16_384).contains(&record.len()), "{}", record.len());
    record.into()
}

fn subject(bucket: &Bucket, instance: &str) -> String {
    format!("$KV.{}_status.service1.{instance}", bucket.name())
}

struct Ran {
    code: i32,
    took: Duration,
    /// The most memory that it had, in MB.
    peak: u64,
    stderr: String,
}

/// Runs a verb on the bucket to its end.
async fn measured(server: &Server, bucket: &Bucket, args: &[&str]) -> Ran {
    let since = Instant::now();
    let global = ["--server", &server.url(), "--bucket", bucket.name()];
    let mut verb = Daemon::start([args, &global].concat());
    let mut peak = 0;
    while let Ok(status) = std::fs::read_to_string(format!("/proc/{}/status", verb.pid())) {
        let Some(line) = status.lines().find(|line| line.starts_with("VmHWM:")) else { break };
        peak = peak.max(line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let code = verb.wait_exit();
    let ran = Ran { code, took: since.elapsed(), peak, stderr: verb.stderr() };
    eprintln!("{args:?}: {} MB, {:?}", ran.peak, ran.took);
    assert!(!ran.stderr.contains(['\u{1b}', '\u{7}']), "{:?}", ran.stderr);
    ran
}

/// More than are looked at, of 1.5 GB in all.
const STANDING: u64 = 100_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_forged_records_fill_no_memory_and_hide_no_other_key() {
    let server = Server::start();
    let (bucket, other) = (fresh_on(&server).await, key("service2"));
    let client = async_nats::connect(server.url()).await.unwrap();
    let jetstream = jetstream::new(client.clone());
    let records = format!("KV_{}_status", bucket.name());
    let revision = put(&bucket, &key("service1"), "n = 0").await;
    let flood = async || {
        for n in 0..STANDING {
            let name = format!("forged{n}");
            client.publish(subject(&bucket, &name), forged(&name, revision.0)).await.unwrap();
        }
        // One that is answered, after all of them, whatever the answer is.
        let last = jetstream.publish(subject(&bucket, "forged0"), forged("forged0", revision.0)).await.unwrap();
        let _ = last.await;
        jetstream.get_stream(&records).await.unwrap().cached_info().clone()
    };

    let as_made = flood().await;
    assert!(as_made.state.bytes <= 64 << 20 && as_made.state.messages > 1_000, "{:?}", as_made.state);

    // As one that an older confhot, or somebody else, has made.
    jetstream.update_stream(jetstream::stream::Config { max_bytes: -1, ..as_made.config }).await.unwrap();
    let unlimited = flood().await;
    assert!(unlimited.state.messages >= STANDING, "{:?}", unlimited.state);
    let revision = put(&bucket, &other, "n = 0").await;
    let honest = instance(&bucket, &other, "honest").await;
    wait_applied(&bucket, &other, "honest", revision).await;

    let file = document("n = 1");
    let verbs: [&[&str]; 3] =
        [&["status"], &["status", "service1", "--format", "json"], &["put", "service1", &file, "--wait", "5s"]];
    for verb in verbs {
        let ran = measured(&server, &bucket, verb).await;
        // Those whose records are not young any more are asked for, and nobody is there.
        assert!(ran.code == 1 || ran.code == 0 && verb[0] == "status", "{verb:?}: {}: {}", ran.code, ran.stderr);
        assert!(ran.peak < 95, "{verb:?}: {} MB", ran.peak);
        assert!(ran.took < Duration::from_secs(30), "{verb:?}: it took {:?}", ran.took);
        assert!(ran.stderr.contains("find out who writes so many"), "{verb:?}: {}", ran.stderr);
    }
    let (_, lines, _) = run(&bucket, &["status"]);
    assert!(lines.iter().any(|line| line["instance"] == "honest"), "of another key, and not among {}", lines.len());
    let ran = measured(&server, &bucket, &["put", "service2", &file, "--wait", "20s"]).await;
    assert_eq!(ran.code, 0, "whoever waits for another key has nothing to do with it: {}", ran.stderr);
    drop(honest);
}

/// Some 45 MB of records.
const NAMES: u64 = 3_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_forged_records_ends_no_wait_late_and_fills_no_memory() {
    let server = Server::start();
    let (bucket, k) = (fresh_on(&server).await, key("service1"));
    let revision = put(&bucket, &k, "n = 0").await;
    let client = async_nats::connect(server.url()).await.unwrap();
    let flood = tokio::spawn({
        let (client, bucket) = (client.clone(), bucket.clone());
        let names: Vec<_> = (0..NAMES).map(|n| format!("forged{n}")).collect();
        let records: Vec<_> = names.iter().map(|name| (subject(&bucket, name), forged(name, revision.0))).collect();
        // No stream takes it, and whoever listens gets it all the same.
        let huge = bytes::Bytes::from(vec![b'x'; 1 << 20]);
        async move {
            loop {
                for (n, (subject, record)) in records.iter().enumerate() {
                    client.publish(subject.clone(), record.clone()).await.unwrap();
                    if n % 100 == 0 {
                        client.publish(subject.clone(), huge.clone()).await.unwrap();
                    }
                }
                client.flush().await.unwrap();
                tokio::task::yield_now().await;
            }
        }
    });
    eventually("they stand", Duration::from_secs(20), || {
        (run(&bucket, &["status"]).1.len() >= NAMES as usize).then_some(())
    });

    let file = document("n = 1");
    let ran = measured(&server, &bucket, &["put", "service1", &file, "--wait", "5s"]).await;
    assert_eq!(ran.code, 1, "those who say nothing true have not applied it");
    assert!(ran.took < Duration::from_secs(15), "it took {:?}", ran.took);
    assert!(ran.peak < 95, "{} MB", ran.peak);
    let shown = tokio::task::block_in_place(|| {
        let global = ["--server", &server.url(), "--bucket", bucket.name()];
        let status = crate::support::confhot().args(["status"]).args(global).output().unwrap();
        [status.stdout, status.stderr].concat()
    });
    assert!(!shown.contains(&0x1b) && !shown.contains(&7), "{}", String::from_utf8_lossy(&shown[..500]));
    flood.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_limited_where_the_account_may_set_that_aside_and_kept_all_the_same_where_not() {
    use jetstream::stream::StorageType::{File, Memory};
    for (allowed, storage, limit) in [("128M", Memory, 64 << 20), ("32M", Memory, -1), ("0", File, -1)] {
        let server = Server::with("2.15.1", |settings| {
            settings.extra = format!(
                "accounts {{ A {{ jetstream {{ max_mem: {allowed}, max_file: 1G }}, users: [{{user: a, password: a}}] }} }}\n\
                 no_auth_user: a\n"
            );
        });
        let bucket = fresh_on(&server).await;
        let jetstream = jetstream::new(async_nats::connect(server.url()).await.unwrap());
        let made = jetstream.get_stream(format!("KV_{}_status", bucket.name())).await.unwrap();
        let config = &made.cached_info().config;
        assert_eq!((config.storage, config.max_bytes), (storage, limit), "with {allowed} of memory");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn twelve_thousand_instances_of_a_key_are_all_listed_and_waited_for() {
    const INSTANCES: usize = 12_000;
    let server = Server::start();
    let (bucket, k) = (fresh_on(&server).await, key("service1"));
    let before = put(&bucket, &k, "n = 0").await;
    wait_complete(&bucket).await;
    let client = async_nats::connect(server.url()).await.unwrap();
    let tell = async |revision: Revision, newest: Revision, text: &str, rejected: Option<&str>| {
        for n in 0..INSTANCES {
            let instance = format!("service1-7d9f8b6c5d-{n}");
            let record = json!({
                "service": "service1", "instance": instance, "host": format!("node-{}.example.com", n % 100),
                "version": "0.1.0", "key": "service1", "revision": revision, "digest": Digest::of(text.as_bytes()),
                "newest": newest, "state": if rejected.is_some() { "rejected" } else { "applied" },
                "rejected": rejected.map(|reason| json!({ "revision": newest, "kind": "invalid", "reason": reason })),
                "for_ms": 10, "up_ms": 60_000, "connected_ms": 60_000, "process": format!("process{n}"), "beat_ms": 300_000,
            });
            client.publish(subject(&bucket, &instance), serde_json::to_vec(&record).unwrap().into()).await.unwrap();
        }
        client.flush().await.unwrap();
    };
    let listed = || {
        let (_, lines, stderr) = run(&bucket, &["status", "service1"]);
        assert!(!stderr.contains("find out who writes so many"), "{stderr}");
        lines
    };

    tell(before, before, "n = 0", None).await;
    eventually("all are listed", Duration::from_secs(20), || (listed().len() == INSTANCES).then_some(()));
    let mut wait = Wait::begin(&bucket, Some(&k), Duration::from_secs(20)).await.unwrap();
    let revision = put(&bucket, &k, "n = 1").await;
    tell(revision, revision, "n = 1", None).await;
    let target = Target { key: k.clone(), revision, digest: Digest::of(b"n = 1") };
    let waited = wait.until_applied(&[target], None, |_, _| {}).await;
    assert_eq!((waited.verdict, waited.members.len(), waited.crowded), (Verdict::Applied, INSTANCES, false));

    // All of them refuse the next, and say why at length.
    let reason = "r".repeat(1_000);
    let next = put(&bucket, &k, "n = 2").await;
    tell(revision, next, "n = 1", Some(&reason)).await;
    eventually("all of them say why", Duration::from_secs(20), || {
        let lines = listed();
        let whole = lines.iter().filter(|line| line["reason"] == reason.as_str()).count();
        (whole == INSTANCES).then_some(())
    });
}
