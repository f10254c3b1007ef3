//! One change to very many subscribers, each on a connection of its own, as confhot does it and as it would be done
//! otherwise.
//!
//! `cargo bench --bench scale` measures with 1,000 subscribers, `-- --subscribers 10000` with more; `--only live,bare` picks
//! ways, `keys` and `cluster` among them; `--ping 5` sets the seconds between pings on all connections, 60 as services have
//! by default; `--settle 240` waits that long before idle memory is measured, 4 by default: the server collects its garbage
//! every two minutes, and what answering a start took is garbage. Prints tables, and writes the figures to
//! `target/bench/scale.json`.
//!
//! The subscribers are in a few processes (this program again, with `--be`), which share the cores with the server: what a
//! subscriber does with a message slows down the server that sends to the next one. So only ratios mean anything, and the
//! ways differ in how far they go: `bare` and `delivery` only receive, all others decode the document and swap it in.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../support/mod.rs"]
mod support;
mod ways;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use async_nats::jetstream::{self, kv};
use bytes::Bytes;
use confhot::document::{Digest, Format};
use confhot::kv::{Bucket, Connect, Connection, Expect, Key, PublishError, Settings, Write, Writer};
use confhot::server::{self, Private};
use futures_util::StreamExt;
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use serde_json::{Value, json};

use self::support::{median, percentile};
use self::ways::{Way, be, connect, now};

const PROCESSES: usize = 4;
const BUCKET: &str = "configs";
/// What the bare subscribers listen to.
const PLAIN: &str = "plain.subject";
/// How long a change, or a restart, may take before what is missing counts as lost.
const PATIENCE: Duration = Duration::from_secs(60);

/// Seconds between pings, on every connection alike, so that they cost the same.
static PING: OnceLock<usize> = OnceLock::new();

/// Seconds from the start of the last subscriber to the measuring of idle memory. confhot's second repetition of its first
/// reads comes after one.
static SETTLE: OnceLock<usize> = OnceLock::new();

fn ping() -> Duration {
    Duration::from_secs(*PING.get().unwrap() as u64)
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let value = |name: &str| args.iter().position(|arg| arg == name).map(|at| args[at + 1].as_str());
    let number = |name: &str, default: usize| value(name).map_or(default, |text| text.parse().unwrap());
    let subscribers = number("--subscribers", 1_000);
    PING.set(number("--ping", 60)).unwrap();
    SETTLE.set(number("--settle", 4)).unwrap();
    if let Some(way) = value("--be") {
        let way = Way::ALL.into_iter().find(|it| it.name() == way).unwrap();
        return be(way, value("--at").unwrap(), number("--first", 0), subscribers, number("--keys", 1));
    }
    let wanted = |name: &str| value("--only").is_none_or(|only| only.split(',').any(|it| it == name));
    let mut figures = serde_json::Map::from_iter([("subscribers".to_owned(), json!(subscribers))]);
    let ways: Vec<Way> = Way::ALL.into_iter().filter(|way| wanted(way.name())).collect();
    if !ways.is_empty() {
        figures.insert("one_server".into(), one_server(&ways, subscribers, number("--rounds", 11)));
    }
    if wanted("keys") {
        figures.insert("keys".into(), keys(subscribers, number("--keys", 100)));
    }
    if wanted("cluster") {
        figures.insert("cluster".into(), cluster(subscribers.min(1_000), number("--rounds", 11)));
    }
    support::write_json("scale", &figures);
}

/// The processes of all subscribers.
struct Fleet {
    processes: Vec<Child>,
    taken: Receiver<Vec<(u64, i128)>>,
}

impl Fleet {
    fn start(way: Way, url: &str, subscribers: usize, keys: usize) -> Fleet {
        let (told, taken) = channel();
        let (ready, is_ready) = channel();
        let processes = (0..PROCESSES).map(|n| {
            let (first, end) = (subscribers * n / PROCESSES, subscribers * (n + 1) / PROCESSES);
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--be", way.name(), "--at", url, "--first", &first.to_string()]);
            command.args(["--subscribers", &(end - first).to_string(), "--keys", &keys.to_string()]);
            command.args(["--ping", &ping().as_secs().to_string()]);
            let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
            let lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let (told, ready) = (told.clone(), ready.clone());
            thread::spawn(move || {
                for line in lines.map_while(Result::ok) {
                    if line == "ready" {
                        let _ = ready.send(());
                        continue;
                    }
                    let numbers: Vec<i128> = line.split(' ').map(|number| number.parse().unwrap()).collect();
                    let _ = told.send(numbers.chunks(2).map(|pair| (pair[0] as u64, pair[1])).collect());
                }
            });
            child
        });
        let processes = processes.collect();
        for _ in 0..PROCESSES {
            is_ready.recv_timeout(2 * PATIENCE).expect("the subscribers never start");
        }
        Fleet { processes, taken }
    }

    /// When `revisions` were taken, until that happened `most` times or did not go on: what is missing is lost.
    fn times(&self, revisions: std::ops::RangeInclusive<u64>, most: usize) -> Vec<i128> {
        let (until, mut times) = (Instant::now() + PATIENCE, Vec::new());
        while times.len() < most {
            match self.taken.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(taken) => times.extend(taken.iter().filter(|it| revisions.contains(&it.0)).map(|it| it.1)),
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => panic!("the subscribers ended"),
            }
        }
        times.sort_unstable();
        times
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for process in &mut self.processes {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }
}

// --- the publisher ---

fn key(n: usize) -> Key {
    Key::parse(&format!("service{n}")).unwrap()
}

async fn bucket(url: &str) -> Bucket {
    let mut to = Connect::to(url.split(','));
    (to.wait, to.ping) = (true, ping());
    Connection::open(&to).await.unwrap().bucket(BUCKET).unwrap()
}

/// About 1 KB of TOML.
fn document(version: u64) -> Bytes {
    let mut text = format!("version = {version}\n");
    for section in 0..6 {
        text.push_str(&format!(
            "\n[section{section}]\nenabled = true\nname = \"section {section} of the service\"\nratio = 0.{section}5\nlimits = [1, {section}, 3]\ntimeout = \"30s\"\n"
        ));
    }
    text.into()
}

/// Publishes as the way's own writer does.
struct Publisher {
    way: Way,
    bucket: Bucket,
    client: async_nats::Client,
    /// The newest revision of the first key.
    head: u64,
    /// The newest message that a server told again, for the bare subscribers: the same bytes and headers.
    copied: Option<async_nats::Message>,
}

impl Publisher {
    async fn new(way: Way, url: &str, keys: usize, replicas: usize) -> Publisher {
        let (bucket, client) = (bucket(url).await, connect(url).await);
        let mut publisher = Publisher { way, bucket, client, head: 0, copied: None };
        if way.is_ours() || way == Way::Bare {
            publisher.bucket.ensure(&Settings { replicas }).await.unwrap();
        } else {
            let config =
                kv::Config { bucket: BUCKET.into(), history: 64, num_replicas: replicas, ..Default::default() };
            let jetstream = jetstream::new(publisher.client.clone());
            let mut stream = jetstream.create_key_value(config).await.unwrap().stream;
            // 2.15 allows 1,000 otherwise.
            let mut config = stream.info().await.unwrap().config.clone();
            config.max_consumers = 100_000;
            jetstream.update_stream(config).await.unwrap();
        }
        if way == Way::Bare {
            let mut told = publisher.client.subscribe("confhot.live.>").await.unwrap();
            publisher.client.flush().await.unwrap();
            publisher.put(0).await.unwrap();
            publisher.copied = told.next().await;
        } else {
            for n in (0..keys).rev() {
                publisher.head = 0;
                publisher.put(n).await.unwrap();
            }
        }
        publisher
    }

    fn write(&self, n: usize, head: u64) -> Write {
        let expect = if head == 0 { Expect::Never } else { Expect::At(confhot::kv::Revision(head)) };
        let value = document(head + 1);
        let mut about = confhot::kv::Provenance::by(Writer::Loader);
        about.format = Some(Format::Toml);
        about.author = Some("somebody <somebody@example.com>".into());
        about.path = Some("service0.toml".into());
        about.read_at = Some(jiff::Timestamp::now());
        Write::put(key(n), value.clone(), Digest::of(&value), about, expect)
    }

    async fn put(&mut self, n: usize) -> Result<u64, PublishError> {
        self.head = self.bucket.publish(&self.write(n, self.head)).await?.revision.0;
        Ok(self.head)
    }

    /// Publishes the next revision of the first key. Gives it, when that began, and what the acknowledgement took.
    async fn change(&mut self) -> (u64, i128, Duration) {
        let (at, since) = (now(), Instant::now());
        match &self.copied {
            Some(message) => {
                self.head += 1;
                let mut headers = message.headers.clone().unwrap();
                headers.insert("Nats-Sequence", self.head.to_string());
                self.client.publish_with_headers(PLAIN, headers, message.payload.clone()).await.unwrap();
                self.client.flush().await.unwrap();
            }
            None if self.way.is_ours() => _ = self.put(0).await.unwrap(),
            None => {
                let js = jetstream::new(self.client.clone());
                let ack = js.publish(format!("$KV.{BUCKET}.service0"), document(self.head + 1)).await.unwrap();
                self.head = ack.await.unwrap().sequence;
            }
        }
        (self.head, at, since.elapsed())
    }

    /// As [`Publisher::change`], for a server that has only just come back.
    async fn change_after_restart(&mut self) -> (u64, i128, Duration) {
        if self.way.is_ours() {
            let at = (now(), Instant::now());
            while let Err(error) = self.put(0).await {
                eprintln!("publishing after the restart: {error}");
                // What was said to be unconfirmed may be stored.
                self.head = self.bucket.head(&key(0)).await.ok().flatten().map_or(self.head, |head| head.revision.0);
            }
            return (self.head, at.0, at.1.elapsed());
        }
        while self.client.connection_state() != async_nats::connection::State::Connected {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.change().await
    }
}

// --- what is measured ---

/// What the server counts, of `/varz` or `/jsz`.
fn monitoring(server: &Private, what: &str) -> Value {
    let host = server.monitoring_url().unwrap().strip_prefix("http://").unwrap().to_owned();
    serde_json::from_str(&get(&host, what)).unwrap()
}

fn get(host: &str, what: &str) -> String {
    let mut stream = TcpStream::connect(host).unwrap();
    write!(stream, "GET /{what} HTTP/1.0\r\nHost: {host}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// What the server at this profiler holds once its garbage is collected, heap and stacks, in MB. What is resident has the
/// garbage in it of whatever went before, as much again, until some minutes have passed.
fn in_use(profiling: u16) -> f64 {
    let answer = get(&format!("127.0.0.1:{profiling}"), "debug/pprof/heap?gc=1&debug=1");
    // `# HeapInuse = 123`, `# Stack = 123 / 456`, in bytes.
    let of = |name: &str| {
        let line = answer.lines().find_map(|line| line.strip_prefix("# ")?.strip_prefix(name)?.strip_prefix(" = "));
        line.unwrap().split(' ').next().unwrap().parse::<f64>().unwrap()
    };
    (of("HeapInuse") + of("Stack")) / 1024.0 / 1024.0
}

type Figures = BTreeMap<&'static str, f64>;

fn ratio(all: &BTreeMap<&str, Figures>, ours: &str, theirs: &str, figure: &str) -> f64 {
    let of = |way: &str| all.get(way).and_then(|figures| figures.get(figure)).copied().unwrap_or(f64::NAN);
    of(ours) / of(theirs)
}

fn print(title: &str, names: &[(&'static str, &str)], ways: &[Way], all: &BTreeMap<&str, Figures>) {
    println!("\n{title}");
    print!("{:28}", "");
    for (_, name) in names {
        print!("{name:>15}");
    }
    println!();
    for way in ways {
        print!("{:28}", way.title());
        for (figure, _) in names {
            match all[way.name()].get(figure) {
                Some(value) if *value >= 100.0 => print!("{value:>15.0}"),
                Some(value) => print!("{value:>15.2}"),
                None => print!("{:>15}", "-"),
            }
        }
        println!();
    }
}

/// Changes, one after the other: the medians of when they arrived, in ms, and what that cost the servers.
fn changes(publisher: &mut Publisher, fleet: &Fleet, subscribers: usize, rounds: usize, servers: &[u32]) -> Figures {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut series: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut lost = 0;
    let cpu = |pids: &[u32]| pids.iter().map(|pid| support::cpu(*pid)).sum::<f64>();
    let processes: Vec<u32> = fleet.processes.iter().map(Child::id).collect();
    let (before, before_theirs) = (cpu(servers), cpu(&processes));
    for _ in 0..rounds {
        let (revision, at, acknowledged) = runtime.block_on(publisher.change());
        let times = fleet.times(revision..=revision, subscribers);
        lost += subscribers - times.len();
        let since: Vec<f64> = times.iter().map(|time| (time - at) as f64 / 1e6).collect();
        for (name, value) in [
            ("p50_ms", percentile(&since, 50)),
            ("p99_ms", percentile(&since, 99)),
            ("last_ms", percentile(&since, 100)),
            ("ack_ms", acknowledged.as_secs_f64() * 1e3),
        ] {
            series.entry(name).or_default().push(value);
        }
    }
    let (used, theirs) = (cpu(servers) - before, cpu(&processes) - before_theirs);
    let worst = series["ack_ms"].iter().copied().fold(0.0, f64::max);
    let mut figures: Figures = series.into_iter().map(|(name, values)| (name, median(values))).collect();
    if publisher.way == Way::Bare {
        figures.remove("ack_ms");
    } else {
        figures.insert("ack_worst_ms", worst);
    }
    figures.insert("cpu_ms_per_change", used * 1e3 / rounds as f64);
    figures.insert("cpu_us_each", theirs * 1e6 / (rounds * subscribers) as f64);
    figures.insert("lost", lost as f64);
    figures
}

/// Whatever runs on a publisher's connections needs a runtime that lives as long as they do.
struct Stage {
    server: Private,
    /// The port that its profiler listens on.
    profiling: u16,
    runtime: tokio::runtime::Runtime,
    publisher: Publisher,
    _root: tempfile::TempDir,
}

impl Stage {
    fn new(way: Way, keys: usize) -> Stage {
        let root = support::scratch();
        let profiling = server::free_port().unwrap();
        let server = support::start_server(root.path(), &format!("http: \"127.0.0.1:-1\"\nprof_port: {profiling}"));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let publisher = runtime.block_on(Publisher::new(way, &server.url(), keys, 1));
        Stage { server, profiling, runtime, publisher, _root: root }
    }
}

fn one_server(ways: &[Way], subscribers: usize, rounds: usize) -> Value {
    const IDLE: Duration = Duration::from_secs(10);
    let mut all: BTreeMap<&str, Figures> = BTreeMap::new();
    for way in ways {
        let mut stage = Stage::new(*way, 1);
        let pid = stage.server.pid();
        let (alone, alone_in_use) = (support::memory(pid, "VmRSS"), in_use(stage.profiling));
        let since = Instant::now();
        let fleet = Fleet::start(*way, &stage.server.url(), subscribers, 1);
        let setup = since.elapsed();
        thread::sleep(Duration::from_secs(*SETTLE.get().unwrap() as u64));
        let resident = support::memory(pid, "VmRSS");
        let used = support::cpu(pid);
        thread::sleep(IDLE);
        let idle = (support::cpu(pid) - used) / IDLE.as_secs_f64() * 100.0;

        let each = |now: f64, before: f64| (now - before) * 1024.0 / subscribers as f64;
        let idle_in_use = in_use(stage.profiling);

        let mut figures = changes(&mut stage.publisher, &fleet, subscribers, rounds, &[pid]);
        figures.insert("setup_s", setup.as_secs_f64());
        figures.insert("kb_resident", each(resident, alone));
        figures.insert("kb_resident_after", each(support::memory(pid, "VmRSS"), alone));
        figures.insert("kb_in_use", each(idle_in_use, alone_in_use));
        figures.insert("kb_in_use_after", each(in_use(stage.profiling), alone_in_use));
        figures.insert("idle_percent", idle);
        if *way != Way::Bare {
            figures.extend(restart(&mut stage, &fleet, subscribers));
        }
        all.insert(way.name(), figures);
    }
    print(
        &format!("one change to {subscribers} subscribers, medians of {rounds}, ms from the publisher's call"),
        &[
            ("p50_ms", "p50"),
            ("p99_ms", "p99"),
            ("last_ms", "last"),
            ("ack_ms", "acknowledged"),
            ("ack_worst_ms", "at worst"),
            ("cpu_ms_per_change", "server CPU, ms"),
            ("cpu_us_each", "each one's, us"),
            ("lost", "lost"),
        ],
        ways,
        &all,
    );
    print(
        "the server",
        &[
            ("setup_s", "set up, s"),
            ("idle_percent", "idle, % of core"),
            ("kb_in_use", "KB each, idle"),
            ("kb_in_use_after", "after changes"),
            ("kb_resident", "resident, idle"),
            ("kb_resident_after", "after changes"),
        ],
        ways,
        &all,
    );
    print(
        "the server killed and started again, and a change published at once",
        &[
            ("current_p50_s", "p50 current, s"),
            ("current_s", "all current, s"),
            ("restart_lost", "lost"),
            ("restart_ack_s", "acknowledged, s"),
            ("peak_percent", "peak CPU, %"),
            ("requests", "requests each"),
            ("api_requests", "of the API"),
            ("api_errors", "API errors"),
        ],
        ways,
        &all,
    );
    println!("\nratios");
    for (what, ours, theirs, figure, bar) in [
        ("last delivery to bare", "delivery", "bare", "last_ms", "at most 1.3"),
        ("last applied to bare", "live", "bare", "last_ms", "reported"),
        ("memory to bare", "live", "bare", "kb_in_use", "at most 1.3"),
        ("memory to bare, after changes", "live", "bare", "kb_in_use_after", "at most 1.3"),
        ("memory to bare, resident", "live", "bare", "kb_resident_after", "reported"),
        ("idle CPU to bare", "live", "bare", "idle_percent", "at most 2"),
        ("last to kv.watch()", "live", "watch", "last_ms", "at most 1, at 5,000"),
        ("idle CPU of kv.watch()", "watch", "live", "idle_percent", "at least 10, at 5,000"),
    ] {
        println!("{what:34}{:>10.2}   (bar: {bar})", ratio(&all, ours, theirs, figure));
    }
    if let (Some(live), Some(watch), Some(bare)) = (all.get("live"), all.get("watch"), all.get("bare")) {
        for (what, figure) in
            [("memory of kv.watch()", "kb_in_use"), ("memory of kv.watch(), after changes", "kb_in_use_after")]
        {
            // A connection costs all of them the same, and so do the buffers of one that a change came through.
            let beyond = |figures: &Figures| figures[figure] - bare[figure];
            println!(
                "{what:34}{:>10.2}   (bar: at least 2.5, at 5,000; {:.1} KB and {:.1} KB beyond a bare subscriber)",
                beyond(watch) / beyond(live).max(0.0),
                beyond(watch),
                beyond(live)
            );
        }
    }
    if let (Some(live), Some(announced)) = (all.get("live"), all.get("announced")) {
        let cost = announced["idle_percent"] - live["idle_percent"];
        println!("{:34}{cost:>10.2}   (bar: at most 2 % of a core)", "presence");
    }
    json!(all)
}

/// Kills the server and starts it again on the same port and store, with a change at once.
fn restart(stage: &mut Stage, fleet: &Fleet, subscribers: usize) -> Figures {
    stage.server.signal(Signal::KILL).unwrap();
    stage.server.restart().unwrap();
    let (pid, started, over) = (stage.server.pid(), now(), Arc::new(AtomicBool::new(false)));
    let peak = thread::spawn({
        let over = over.clone();
        move || {
            const STEP: Duration = Duration::from_millis(250);
            let mut peak = 0.0_f64;
            while !over.load(Ordering::Relaxed) {
                let (before, since) = (support::cpu(pid), Instant::now());
                thread::sleep(STEP);
                peak = peak.max((support::cpu(pid) - before) / since.elapsed().as_secs_f64() * 100.0);
            }
            peak
        }
    });
    let (revision, _, acknowledged) = stage.runtime.block_on(stage.publisher.change_after_restart());
    let times = fleet.times(revision..=revision, subscribers);
    over.store(true, Ordering::Relaxed);
    let current: Vec<f64> = times.iter().map(|time| (time - started) as f64 / 1e9).collect();
    // Those that follow a reconnect after a while are requests of the restart as well.
    thread::sleep(Duration::from_secs(3));
    let (varz, jsz) = (monitoring(&stage.server, "varz"), monitoring(&stage.server, "jsz"));
    let count = |value: &Value| value.as_f64().unwrap_or_default();
    Figures::from([
        ("current_p50_s", percentile(&current, 50)),
        ("current_s", percentile(&current, 100)),
        ("restart_lost", (subscribers - times.len()) as f64),
        ("restart_ack_s", acknowledged.as_secs_f64()),
        ("peak_percent", peak.join().unwrap()),
        ("requests", count(&varz["in_msgs"]) / subscribers as f64),
        ("api_requests", count(&jsz["api"]["total"]) / subscribers as f64),
        ("api_errors", count(&jsz["api"]["errors"])),
    ])
}

/// A change of each of `keys` keys at once, each to its share of the subscribers.
fn keys(subscribers: usize, keys: usize) -> Value {
    const ROUNDS: usize = 5;
    let stage = Stage::new(Way::Live, keys);
    let fleet = Fleet::start(Way::Live, &stage.server.url(), subscribers, keys);
    thread::sleep(Duration::from_secs(4));
    let (mut last, mut acknowledged, mut lost) = (Vec::new(), Vec::new(), 0);
    // They were written in the order from the last one down.
    let mut heads: Vec<u64> = (1..=keys as u64).rev().collect();
    for _ in 0..ROUNDS {
        let writes: Vec<Write> = heads.iter().enumerate().map(|(n, head)| stage.publisher.write(n, *head)).collect();
        let (at, since) = (now(), Instant::now());
        let stored = stage.runtime.block_on(stage.publisher.bucket.publish_set(&writes, true));
        acknowledged.push(since.elapsed().as_secs_f64() * 1e3);
        heads = stored.into_iter().map(|stored| stored.unwrap().revision.0).collect();
        let times = fleet.times(heads[0]..=heads[keys - 1], subscribers);
        lost += subscribers - times.len();
        last.push(times.last().map_or(f64::NAN, |time| (time - at) as f64 / 1e6));
    }
    let (last, acknowledged) = (median(last), median(acknowledged));
    println!("\n{keys} keys changed at once, {subscribers} subscribers of one each, medians of {ROUNDS}, ms");
    println!("applied by the last {last:.1}, acknowledged {acknowledged:.1}, lost {lost}");
    json!({"keys": keys, "last_ms": last, "ack_ms": acknowledged, "lost": lost})
}

/// A bucket with three replicas, the subscribers spread over three servers.
fn cluster(subscribers: usize, rounds: usize) -> Value {
    let ways = [Way::Bare, Way::Delivery, Way::Live, Way::Watch];
    let mut all: BTreeMap<&str, Figures> = BTreeMap::new();
    for way in ways {
        let roots: Vec<_> = (0..3).map(|_| support::scratch()).collect();
        let ports: Vec<u16> = (0..3).map(|_| server::free_port().unwrap()).collect();
        let routes: Vec<String> = ports.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
        let servers: Vec<Private> = roots
            .iter()
            .zip(&ports)
            .enumerate()
            .map(|(n, (root, port))| {
                let cluster = format!(
                    "cluster {{ name: c, listen: \"127.0.0.1:{port}\", routes: {routes:?}, no_advertise: true }}"
                );
                support::start_server(root.path(), &format!("server_name: n{n}\nhttp: \"127.0.0.1:-1\"\n{cluster}"))
            })
            .collect();
        let until = Instant::now() + PATIENCE;
        // A leader of the metadata that both others are up to date with.
        while !servers.iter().any(|server| {
            let meta = monitoring(server, "jsz")["meta_cluster"].take();
            let current = |peer: &&Value| peer["current"] == true && peer["offline"] != true;
            meta["replicas"].as_array().is_some_and(|peers| peers.iter().filter(current).count() == 2)
        }) {
            assert!(Instant::now() < until, "no cluster");
            thread::sleep(Duration::from_millis(20));
        }
        let (pids, urls): (Vec<u32>, Vec<String>) = servers.iter().map(|server| (server.pid(), server.url())).unzip();
        let resident = || pids.iter().map(|pid| support::memory(*pid, "VmRSS")).sum::<f64>();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let mut publisher = runtime.block_on(Publisher::new(way, &urls.join(","), 1, 3));
        let alone = resident();
        let fleet = Fleet::start(way, &urls.join(","), subscribers, 1);
        thread::sleep(Duration::from_secs(4));
        let mut figures = changes(&mut publisher, &fleet, subscribers, rounds, &pids);
        figures.insert("kb_per_subscriber", (resident() - alone) * 1024.0 / subscribers as f64);
        all.insert(way.name(), figures);
    }
    print(
        &format!("three servers, {subscribers} subscribers, medians of {rounds}, ms"),
        &[
            ("p50_ms", "p50"),
            ("p99_ms", "p99"),
            ("last_ms", "last"),
            ("ack_ms", "acknowledged"),
            ("ack_worst_ms", "at worst"),
            ("cpu_ms_per_change", "servers' CPU, ms"),
            ("cpu_us_each", "each one's, us"),
            ("kb_per_subscriber", "KB each"),
            ("lost", "lost"),
        ],
        &ways,
        &all,
    );
    println!("last delivery to bare {:.2}", ratio(&all, "delivery", "bare", "last_ms"));
    json!(all)
}
