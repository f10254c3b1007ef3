//! Whoever may write where instances tell what they run can lie, and can do so very often: who reads it stays within its time
//! and its memory, and no terminal takes orders.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::feed::{connect, key, put};
use crate::status::{document, fresh_on, run};
use crate::support::{Daemon, Server, eventually};

/// A record of `instance` of some 14 KB, which says what cannot be.
fn forged(instance: &str, newest: u64) -> Vec<u8> {
    let reason = format!("\u{1b}]0;owned\u{7}\u{1b}[31m{}", "x".repeat(13_000));
    let record = json!({
        "service": "\u{1b}[2Jservice1", "instance": instance, "host": "\u{1b}[31mhost", "version": "0.1.0", "key": "service1",
        "revision": 1, "digest": null, "newest": newest, "state": "behind",
        "rejected": { "revision": newest, "kind": "invalid", "reason": reason },
        "for_ms": u64::MAX, "up_ms": u64::MAX, "connected_ms": 0, "process": instance, "beat_ms": u64::MAX,
    });
    serde_json::to_vec(&record).unwrap()
}

/// Some 40 MB of records.
const NAMES: u64 = 3_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_forged_records_ends_no_wait_late_and_fills_no_memory() {
    let server = Server::start();
    let (bucket, k) = (fresh_on(&server).await, key("service1"));
    let revision = put(&bucket, &k, "n = 0").await;
    let client = async_nats::connect(server.url()).await.unwrap();
    let subject = |n: u64| format!("$KV.{}_status.service1.forged{n}", bucket.name());
    let flood = tokio::spawn({
        let (client, subjects) = (client.clone(), (0..NAMES).map(subject).collect::<Vec<_>>());
        let records: Vec<_> =
            (0..NAMES).map(|n| bytes::Bytes::from(forged(&format!("forged{n}"), revision.0))).collect();
        async move {
            loop {
                for (subject, record) in subjects.iter().zip(&records) {
                    client.publish(subject.clone(), record.clone()).await.unwrap();
                }
                client.flush().await.unwrap();
                tokio::task::yield_now().await;
            }
        }
    });
    eventually("they stand", Duration::from_secs(20), || {
        (run(&bucket, &["status"]).1.len() >= NAMES as usize).then_some(())
    });

    let since = Instant::now();
    let file = document("n = 1");
    let global = ["--server", &server.url(), "--bucket", bucket.name()];
    let args = [&["put", "service1", &file, "--wait", "5s"][..], &global].concat();
    let mut waits = Daemon::start(args.iter().copied());
    let mut peak = 0;
    while let Ok(status) = std::fs::read_to_string(format!("/proc/{}/status", waits.pid())) {
        let Some(line) = status.lines().find(|line| line.starts_with("VmHWM:")) else { break };
        peak = peak.max(line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(waits.wait_exit(), 1, "those who say nothing true have not applied it");
    assert!(since.elapsed() < Duration::from_secs(15), "it took {:?}", since.elapsed());
    assert!(peak < 200, "{peak} MB");
    let shown = tokio::task::block_in_place(|| {
        let status = crate::support::confhot().args(["status"]).args(global).output().unwrap();
        [status.stdout, status.stderr].concat()
    });
    assert!(!shown.contains(&0x1b) && !shown.contains(&7), "{}", String::from_utf8_lossy(&shown[..500]));
    assert!(!waits.stderr().contains(['\u{1b}', '\u{7}']), "{}", waits.stderr());
    flood.abort();
    drop(connect(&server.url()).await);
}
