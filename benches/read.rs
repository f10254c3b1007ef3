//! What a read of the current value costs: `Live::load` beside what a service would write by hand.
//!
//! `cargo bench --profile embedded --bench read` measures one to eight threads that read at once, prints the ratio to
//! arc-swap's bare load and what was allocated, and writes the figures to `target/bench/read.json`. A load is measured
//! together with the read of a field of what it gave, and with its release.
//!
//! The profile is what a service's own build gives to a library. Without it the bench is built as the binary is, for size,
//! which costs our load more than the bare one.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::cell::RefCell;
use std::hint::black_box;
use std::sync::{Arc, Barrier, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use confhot::document::Digest;
use confhot::kv::{Connect, Connection, Expect, Key, Provenance, Settings, Write, Writer};
use confhot::live::Live;
use criterion::{Criterion, Throughput};
use serde_json::json;

/// So often each is measured.
const ROUNDS: usize = 5;

#[derive(serde::Deserialize)]
struct Service {
    port: u16,
}

fn main() {
    let root = support::scratch();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let server = support::start_server(root.path(), "");
    let live = runtime.block_on(serving(&server.url()));
    let reader = live.reader();
    let bare = ArcSwap::from_pointee(Service { port: 8080 });
    let lock = RwLock::new(Arc::new(Service { port: 8080 }));

    let load = || reader.load().as_ref().unwrap().port;
    let bare_load = || bare.load().port;
    let lock_read = || lock.read().unwrap().port;
    // The first load of a thread sets up what arc-swap keeps for it.
    black_box(load());
    let allocated = allocation_counter::measure(|| {
        for _ in 0..1_000_000 {
            black_box(load());
        }
    });

    let mut criterion = Criterion::default().configure_from_args();
    let mut figures = Vec::new();
    let mut lines = Vec::new();
    for threads in [1, 2, 4, 8] {
        let mut group = criterion.benchmark_group(format!("read by {threads}"));
        group.throughput(Throughput::Elements(threads)).warm_up_time(Duration::from_millis(300));
        group.measurement_time(Duration::from_millis(500));
        let mut measure = |name: &str, read: &(dyn Fn(u64) + Sync)| {
            let samples = RefCell::new(Vec::new());
            group.bench_function(name, |bencher| {
                bencher.iter_custom(|loads| {
                    let took = at_once(threads, loads, read);
                    samples.borrow_mut().push(took.as_secs_f64() * 1e9 / loads as f64);
                    took
                });
            });
            let samples = samples.into_inner();
            (!samples.is_empty()).then(|| support::median(samples))
        };
        // In turns, so that a machine that changes its pace, or is needed elsewhere for a while, does so to both.
        let mut rounds = Vec::new();
        for round in 1..=ROUNDS {
            let bare = measure(&format!("arc-swap, {round}"), &|loads| repeat(loads, &bare_load));
            let ours = measure(&format!("Live, {round}"), &|loads| repeat(loads, &load));
            rounds.extend(ours.zip(bare));
        }
        let locked = measure("RwLock", &|loads| repeat(loads, &lock_read));
        group.finish();
        // Something was left out by a filter.
        let Some(locked) = locked.filter(|_| rounds.len() == ROUNDS) else { continue };
        let ours = support::median(rounds.iter().map(|(ours, _)| *ours).collect());
        let bare = support::median(rounds.iter().map(|(_, bare)| *bare).collect());
        let ratio = support::median(rounds.iter().map(|(ours, bare)| ours / bare).collect());
        lines.push(format!("{threads:>8}{ours:>14.2}{bare:>14.2}{locked:>14.2}{ratio:>10.2}   (bar 1.1)"));
        figures.push(json!({
            "threads": threads, "live_ns": ours, "bare_ns": bare, "rwlock_ns": locked, "ratio": ratio,
        }));
    }
    println!("\n{:>8}{:>14}{:>14}{:>14}{:>10}", "threads", "Live, ns", "arc-swap, ns", "RwLock, ns", "ratio");
    for line in lines {
        println!("{line}");
    }
    println!("{} allocations in 1,000,000 loads   (bar 0)", allocated.count_total);
    support::write_json("read", &json!({"reads": figures, "allocations": allocated.count_total}));
}

fn repeat(loads: u64, read: &impl Fn() -> u16) {
    for _ in 0..loads {
        black_box(read());
    }
}

/// The time that `threads` take which each read so often, from when all of them are there.
fn at_once(threads: u64, loads: u64, read: &(dyn Fn(u64) + Sync)) -> Duration {
    let start = Barrier::new(threads as usize + 1);
    let mut since = Instant::now();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                start.wait();
                read(loads);
            });
        }
        start.wait();
        since = Instant::now();
    });
    since.elapsed()
}

/// A value that came the way that every value comes.
async fn serving(url: &str) -> Live<Service> {
    let bucket = Connection::open(&Connect::to([url])).await.unwrap().bucket("configs").unwrap();
    bucket.ensure(&Settings::default()).await.unwrap();
    let (key, value) = (Key::parse("service1").unwrap(), bytes::Bytes::from_static(b"port = 8080\n"));
    let (digest, about) = (Digest::of(&value), Provenance::by(Writer::Put));
    bucket.publish(&Write::put(key.clone(), value, digest, about, Expect::Never)).await.unwrap();
    let live = Live::builder(&bucket, &key).start();
    live.ready().await;
    live
}
