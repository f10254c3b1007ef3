//! The bars of the main job, as ratios to a floor that is measured side by side in the same run.
//!
//! `cargo bench --bench e2e` runs all parts; `-- latency`, `growth`, `signed`, `sync`, `memory` or `large` picks some,
//! `--saves N` sets how many saves a percentile stands on. Prints tables, and writes the figures to `target/bench/e2e.json`.
//!
//! The floor is the same job with nothing of confhot in it: a bare inotify loop, one publish with async-nats, a bare
//! subscription on the republished subject. Both sides use a thread, a runtime and a connection of their own for each end,
//! as two processes would, and take turns save by save.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use bytes::Bytes;
use confhot::document::{Digest, Document, Format};
use confhot::kv::{Bucket, Connect, Connection, Key, Settings};
use confhot::live::{Event, Live};
use confhot::loader::{Event as LoaderEvent, Loader, Options};
use confhot::server::{self, Private, Search};
use confhot::signature::{Signer, Trust};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rustix::fs::inotify;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::unix::AsyncFd;
use tokio_util::sync::CancellationToken;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let saves = args.iter().position(|arg| arg == "--saves").map_or(1_000, |at| args[at + 1].parse().unwrap());
    let parts: Vec<&str> = args
        .iter()
        .map(String::as_str)
        .filter(|arg| ["latency", "growth", "signed", "sync", "memory", "large"].contains(arg))
        .collect();
    let wanted = |part: &str| parts.is_empty() || parts.contains(&part);
    let mut figures = BTreeMap::new();
    if wanted("latency") {
        figures.insert("latency", latency(saves));
    }
    if wanted("growth") {
        figures.insert("growth", growth(saves));
    }
    if wanted("signed") {
        figures.insert("signed", signed(saves));
    }
    if wanted("sync") {
        figures.insert("sync", sync());
    }
    if wanted("memory") {
        figures.insert("memory", memory());
    }
    if wanted("large") {
        figures.insert("large", large(saves));
    }
    support::write_json("e2e", &figures);
}

/// A private server, and the directory that goes with it.
struct Stage {
    server: Private,
    root: TempDir,
}

impl Stage {
    fn new(sync_always: bool) -> Stage {
        let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let search = Search {
            explicit: std::env::var_os("CONFHOT_NATS_SERVER").map(PathBuf::from),
            path: std::env::var_os("PATH"),
            cache: Some(Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("nats-server")),
            pip: server::pips(),
        };
        let found = server::find(&search).unwrap();
        let mut settings = server::Settings::new(root.path().join("nats"));
        settings.sync_always = sync_always;
        settings.guard = Some(env!("CARGO_BIN_EXE_confhot").into());
        Stage { server: Private::start(found.program, settings).unwrap(), root }
    }

    /// A directory with `files` documents in a git checkout.
    fn directory(&self, name: &str, files: usize) -> PathBuf {
        let dir = self.root.path().join(name);
        fs::create_dir(&dir).unwrap();
        for n in 0..files {
            fs::write(dir.join(format!("f{n}.toml")), document(n, 0)).unwrap();
        }
        commit(&dir);
        dir
    }

    /// The same with some 200 bytes in each document, in up to 100 directories `d0`, `d1`…
    fn tree(&self, name: &str, files: usize) -> PathBuf {
        let dir = self.root.path().join(name);
        for n in 0..files {
            let below = dir.join(format!("d{}", n / 1_000));
            fs::create_dir_all(&below).unwrap();
            fs::write(below.join(format!("f{}.toml", n % 1_000)), small_document(n, 0)).unwrap();
        }
        commit(&dir);
        dir
    }

    /// Saves as editors do, and gives the time of the rename.
    fn save(&self, dir: &Path, n: usize, version: usize) -> Instant {
        self.save_bytes(dir, n, &document(n, version))
    }

    fn save_bytes(&self, dir: &Path, n: usize, bytes: &str) -> Instant {
        let temporary = self.root.path().join("saving");
        fs::write(&temporary, bytes).unwrap();
        let at = Instant::now();
        fs::rename(temporary, dir.join(format!("f{n}.toml"))).unwrap();
        at
    }

    async fn bucket(&self, name: &str) -> Bucket {
        Connection::open(&Connect::to([self.server.url()])).await.unwrap().bucket(name).unwrap()
    }
}

fn commit(dir: &Path) {
    for args in
        [&["init", "-q"][..], &["add", "-A"], &["-c", "user.name=b", "-c", "user.email=b@b", "commit", "-q", "-m", "b"]]
    {
        assert!(Command::new("git").current_dir(dir).args(args).status().unwrap().success());
    }
}

/// About 200 bytes of TOML.
fn small_document(n: usize, version: usize) -> String {
    format!(
        "# service {n}\nversion = {version}\n\n[server]\nhost = \"0.0.0.0\"\nport = {}\n\n[database]\nurl = \
         \"postgres://service{n}@db.internal:5432/service{n}\"\npool = 8\ntimeout = \"30s\"\n",
        8000 + n % 1000
    )
}

/// About 1 KB of TOML.
fn document(n: usize, version: usize) -> String {
    let mut text =
        format!("# service {n}\nversion = {version}\n\n[server]\nhost = \"0.0.0.0\"\nport = {}\n", 8000 + n % 1000);
    for section in 0..6 {
        text.push_str(&format!(
            "\n[section{section}]\nenabled = true\nname = \"section {section} of service {n}\"\nratio = 0.{section}5\nlimits = [{n}, {section}, 3]\ntimeout = \"30s\"\n"
        ));
    }
    text
}

fn on_a_thread<T: Send + 'static>(work: impl AsyncFnOnce() -> T + Send + 'static) -> thread::JoinHandle<T> {
    thread::spawn(move || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work()))
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// Times of arrival, told by whoever receives.
struct Arrivals(Receiver<(u64, Instant)>);

impl Arrivals {
    fn next(&self) -> Instant {
        self.0.recv_timeout(Duration::from_secs(20)).expect("it never arrived").1
    }
}

/// The loader and a service on `f0`, each on its own thread; arrivals are its swaps.
fn confhot(stage: &Stage, name: &str, dir: &Path, stop: &CancellationToken) -> Arrivals {
    confhot_signed(stage, name, dir, None, stop)
}

/// The same; with a seed, the loader signs and the service trusts it.
fn confhot_signed(stage: &Stage, name: &str, dir: &Path, seed: Option<&str>, stop: &CancellationToken) -> Arrivals {
    let signer = || seed.map(|seed| Signer::parse(seed).unwrap());
    let (signer, trust) = (signer(), signer().map(|signer| signer.trust()));
    let (url, name, options) = (stage.server.url(), name.to_owned(), Options::new(dir));
    let (ready, is_ready) = channel();
    let token = stop.clone();
    let (loader_url, loader_name) = (url.clone(), name.clone());
    on_a_thread(async move || {
        let mut bucket = Connection::open(&Connect::to([loader_url])).await.unwrap().bucket(&loader_name).unwrap();
        if let Some(signer) = signer {
            bucket = bucket.signed_by(signer, Trust::default());
        }
        let observe = move |event: &LoaderEvent| {
            if matches!(event, LoaderEvent::Ready { .. }) {
                let _ = ready.send(());
            }
        };
        Loader::open(bucket, options, observe).await.unwrap().run(token).await.unwrap();
    });
    is_ready.recv_timeout(Duration::from_secs(60)).expect("the loader was never ready");
    service(url, name, "f0", trust, stop)
}

/// A service on its own thread; arrivals are its swaps after the first.
fn service(url: String, bucket: String, key: &'static str, trust: Option<Trust>, stop: &CancellationToken) -> Arrivals {
    let (told, arrivals) = channel();
    let token = stop.clone();
    on_a_thread(async move || {
        let bucket = Connection::open(&Connect::to([url])).await.unwrap().bucket(&bucket).unwrap();
        // The value is swapped in when the event is told.
        let mut live = Live::<Value>::builder(&bucket, &Key::parse(key).unwrap()).observe(move |event| {
            if let Event::Applied { revision, .. } = event {
                let _ = told.send((revision.0, Instant::now()));
            }
        });
        if let Some(trust) = trust {
            live = live.trust(trust);
        }
        let _live = live.start();
        token.cancelled().await;
    });
    let arrivals = Arrivals(arrivals);
    // The value that it starts on.
    arrivals.next();
    arrivals
}

/// The floor: arrivals are messages on a bare subscription. With `acknowledged` the publisher learns that its message was
/// stored, as whoever publishes to a bucket does; without, it sends and forgets.
fn floor(stage: &Stage, name: &str, dir: &Path, acknowledged: bool, stop: &CancellationToken) -> Arrivals {
    let (url, name) = (stage.server.url(), name.to_owned());
    block_on(async { stage.bucket(&name).await.ensure(&Settings::default()).await.unwrap() });
    let (told, arrivals) = channel();
    let (ready, is_ready) = channel();
    let (token, subscriber_url, subject) = (stop.clone(), url.clone(), format!("confhot.live.{name}.f0"));
    let subscribed = ready.clone();
    on_a_thread(async move || {
        let client = async_nats::connect(subscriber_url).await.unwrap();
        let mut subscription = client.subscribe(subject).await.unwrap();
        client.flush().await.unwrap();
        let _ = subscribed.send(());
        loop {
            tokio::select! {
                Some(_) = subscription.next() => { let _ = told.send((0, Instant::now())); }
                () = token.cancelled() => return,
            }
        }
    });
    let (token, dir) = (stop.clone(), dir.to_owned());
    on_a_thread(async move || {
        let client = async_nats::connect(url).await.unwrap();
        let jetstream = async_nats::jetstream::new(client.clone());
        let fd = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC).unwrap();
        inotify::add_watch(&fd, &dir, inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::CLOSE_WRITE).unwrap();
        #[expect(
            deprecated,
            reason = "its successor is unsafe; an owned descriptor keeps the promise that it asks for"
        )]
        let fd = AsyncFd::new(fd).unwrap();
        let _ = ready.send(());
        loop {
            let mut readable = tokio::select! {
                readable = fd.readable() => readable.unwrap(),
                () = token.cancelled() => return,
            };
            let mut buffer = [MaybeUninit::uninit(); 4096];
            let mut events = inotify::Reader::new(fd.get_ref(), &mut buffer);
            while let Ok(event) = events.next() {
                let Some(file) = event.file_name() else { continue };
                let file = file.to_str().unwrap().to_owned();
                let bytes = Bytes::from(fs::read(dir.join(&file)).unwrap());
                let mut headers = HeaderMap::new();
                headers.insert("Confhot-Format", "toml");
                let subject = format!("$KV.{name}.{}", file.strip_suffix(".toml").unwrap());
                if acknowledged {
                    jetstream.publish_with_headers(subject, headers, bytes).await.unwrap().await.unwrap();
                } else {
                    client.publish_with_headers(subject, headers, bytes).await.unwrap();
                }
                if events.is_buffer_empty() {
                    break;
                }
            }
            readable.clear_ready();
        }
    });
    for _ in 0..2 {
        is_ready.recv_timeout(Duration::from_secs(20)).unwrap();
    }
    thread::sleep(Duration::from_millis(100));
    Arrivals(arrivals)
}

/// Percentiles of durations, in microseconds.
fn percentiles(mut times: Vec<Duration>) -> [f64; 2] {
    times.sort_unstable();
    [50, 99].map(|p| times[times.len() * p / 100].as_secs_f64() * 1e6)
}

fn compare(
    title: &str,
    bars: [f64; 2],
    (a_name, a): (&str, Vec<Duration>),
    (b_name, b): (&str, Vec<Duration>),
) -> Value {
    let (saves, a, b) = (a.len(), percentiles(a), percentiles(b));
    println!("\n{title}: {saves} interleaved saves\n{:28}{:>10}{:>10}", "", "p50 us", "p99 us");
    println!("{a_name:28}{:>10.0}{:>10.0}\n{b_name:28}{:>10.0}{:>10.0}", a[0], a[1], b[0], b[1]);
    println!("{:28}{:>10.2}{:>10.2}   (bars {} and {})", "ratio", b[0] / a[0], b[1] / a[1], bars[0], bars[1]);
    json!({"saves": saves, a_name: a, b_name: b, "ratio": [b[0] / a[0], b[1] / a[1]], "bars": bars})
}

fn latency(saves: usize) -> Value {
    let stage = Stage::new(false);
    let stop = CancellationToken::new();
    let dirs = ["bare", "stored", "ours"].map(|name| stage.directory(name, 3));
    let arrivals = [
        floor(&stage, "bare", &dirs[0], false, &stop),
        floor(&stage, "stored", &dirs[1], true, &stop),
        confhot(&stage, "ours", &dirs[2], &stop),
    ];
    let mut times = [const { Vec::new() }; 3];
    for version in 1..=saves + 50 {
        for ((dir, arrivals), times) in dirs.iter().zip(&arrivals).zip(&mut times) {
            // Saves come alone: what the last one left to do is done.
            thread::sleep(Duration::from_millis(2));
            let at = stage.save(dir, 0, version);
            let took = arrivals.next() - at;
            // The first ones warm all sides up.
            if version > 50 {
                times.push(took);
            }
        }
    }
    stop.cancel();
    let [bare, stored, ours] = times;
    let title = "from the rename of a file to the swap";
    json!([
        compare(title, [1.5, 3.0], ("floor", stored), ("confhot", ours.clone())),
        compare(title, [1.5, 3.0], ("floor, unacknowledged", bare), ("confhot", ours)),
    ])
}

fn growth(saves: usize) -> Value {
    let stage = Stage::new(false);
    let stop = CancellationToken::new();
    let (few, many) = (stage.directory("few", 3), stage.directory("many", 10_000));
    let (few_swaps, many_swaps) = (confhot(&stage, "few", &few, &stop), confhot(&stage, "many", &many, &stop));
    let (mut with_few, mut with_many) = (Vec::new(), Vec::new());
    for version in 1..=saves + 50 {
        let at = stage.save(&few, 0, version);
        let few_took = few_swaps.next() - at;
        let at = stage.save(&many, 0, version);
        let many_took = many_swaps.next() - at;
        if version > 50 {
            with_few.push(few_took);
            with_many.push(many_took);
        }
    }
    stop.cancel();
    compare(
        "the same with 10,000 files in the directory",
        [1.5, 1.5],
        ("3 files", with_few),
        ("10,000 files", with_many),
    )
}

/// What it costs that the loader signs and the service checks.
fn signed(saves: usize) -> Value {
    let stage = Stage::new(false);
    let stop = CancellationToken::new();
    let seed = nkeys::KeyPair::new_user().seed().unwrap();
    let (bare, signed) = (stage.directory("bare", 3), stage.directory("signed", 3));
    let bare_swaps = confhot(&stage, "bare", &bare, &stop);
    let signed_swaps = confhot_signed(&stage, "signed", &signed, Some(&seed), &stop);
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for version in 1..=saves + 50 {
        let at = stage.save(&bare, 0, version);
        let bare_took = bare_swaps.next() - at;
        let at = stage.save(&signed, 0, version);
        let signed_took = signed_swaps.next() - at;
        if version > 50 {
            without.push(bare_took);
            with.push(signed_took);
        }
    }
    stop.cancel();
    compare("the same with signatures", [1.05, 1.5], ("unsigned", without), ("signed", with))
}

/// How the floor of a first sync publishes.
#[derive(Debug, Clone, Copy)]
enum Bare {
    Pipelined,
    Batches,
}

async fn bare_sync(stage: &Stage, bucket: &str, dir: &Path, how: Bare) -> Duration {
    stage.bucket(bucket).await.ensure(&Settings::default()).await.unwrap();
    let client = async_nats::connect(stage.server.url()).await.unwrap();
    let since = Instant::now();
    let mut flying = FuturesUnordered::new();
    let mut entries: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect();
    entries.sort();
    let last = entries.len() - 1;
    let read_at = "2026-01-01T00:00:00.123456789Z";
    for (n, path) in entries.iter().enumerate() {
        let bytes = Bytes::from(fs::read(path).unwrap());
        let digest = Digest::of(&bytes);
        Document::parse(bytes.clone(), Format::Toml).unwrap();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Expected-Last-Subject-Sequence", "0");
        headers.insert("Confhot-Attempt", format!("{n:024x}"));
        headers.insert("Confhot-Digest", digest.to_string());
        headers.insert("Confhot-Format", "toml");
        headers.insert("Confhot-Writer", "loader");
        headers.insert("Confhot-Author", "root");
        headers.insert("Confhot-Path", format!("{stem}.toml"));
        headers.insert("Confhot-Source", "0123456789abcdef");
        headers.insert("Confhot-Read-At", read_at);
        let subject = format!("$KV.{bucket}.{stem}");
        let answered = match how {
            Bare::Pipelined => true,
            Bare::Batches => {
                headers.insert("Nats-Batch-Id", format!("{bucket}{}", n / 1000));
                headers.insert("Nats-Batch-Sequence", (n % 1000 + 1).to_string());
                let commits = n % 1000 == 999 || n == last;
                if commits {
                    headers.insert("Nats-Batch-Commit", "1");
                }
                commits
            }
        };
        if answered {
            let client = client.clone();
            flying.push(async move { client.request_with_headers(subject, headers, bytes).await.unwrap() });
        } else {
            client.publish_with_headers(subject, headers, bytes).await.unwrap();
        }
        let window = if matches!(how, Bare::Pipelined) { 512 } else { 4 };
        while flying.len() >= window {
            flying.next().await.unwrap();
        }
        if n % 16 == 0 {
            // Sends what was queued, on this one thread.
            tokio::task::yield_now().await;
            while let Some(Some(_)) = futures_util::FutureExt::now_or_never(flying.next()) {}
        }
    }
    while let Some(answer) = flying.next().await {
        assert!(!String::from_utf8_lossy(&answer.payload).contains("error"), "{:?}", answer.payload);
    }
    since.elapsed()
}

async fn confhot_sync(stage: &Stage, bucket: &str, dir: &Path) -> Duration {
    let bucket = stage.bucket(bucket).await;
    // The floor starts on a bucket that is there.
    bucket.ensure(&Settings::default()).await.unwrap();
    let since = Instant::now();
    let summary = Loader::open(bucket, Options::new(dir), |_| {}).await.unwrap().once().await.unwrap();
    assert_eq!(summary.published, 10_000);
    since.elapsed()
}

fn sync() -> Value {
    let mut figures = serde_json::Map::new();
    println!("\nfirst sync of 10,000 files of 1 KB, the better of the floor's two ways, median of 5 rounds");
    for always in [false, true] {
        let stage = Stage::new(always);
        let dir = stage.root.path().join("many");
        fs::create_dir(&dir).unwrap();
        for n in 0..10_000 {
            fs::write(dir.join(format!("f{n}.toml")), document(n, 0)).unwrap();
        }
        let (mut bare, mut ours) = ([Vec::new(), Vec::new()], Vec::new());
        for round in 0..5 {
            for (way, how) in [Bare::Pipelined, Bare::Batches].into_iter().enumerate() {
                bare[way].push(block_on(bare_sync(&stage, &format!("bare{way}{round}"), &dir, how)));
            }
            ours.push(block_on(confhot_sync(&stage, &format!("ours{round}"), &dir)));
        }
        let rate = |mut times: Vec<Duration>| {
            times.sort_unstable();
            10_000.0 / times[times.len() / 2].as_secs_f64()
        };
        let [pipelined, batches] = bare.map(rate);
        let (floor, ours) = (pipelined.max(batches), rate(ours));
        let name = if always { "sync_interval always" } else { "default sync" };
        println!(
            "{name:22} floor {floor:>8.0}/s (pipelined {pipelined:.0}, batches {batches:.0})  confhot {ours:>8.0}/s  ratio {:.2} (bar 0.7)",
            ours / floor
        );
        figures.insert(
            name.into(),
            json!({"pipelined": pipelined, "batches": batches, "confhot": ours, "ratio": ours / floor}),
        );
    }
    figures.into()
}

fn memory() -> Value {
    let stage = Stage::new(false);
    let dir = stage.directory("three", 3);
    let binary = env!("CARGO_BIN_EXE_confhot");
    let url = stage.server.url();
    let start = |args: &[&str]| {
        let mut command = Command::new(binary);
        command.args(args).args(["--server", &url]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let mut loader = start(&["loader", "--dir", dir.to_str().unwrap()]);
    let mut service = start(&["serve", "--name", "f0", "--http", "127.0.0.1:0"]);
    thread::sleep(Duration::from_secs(2));
    for version in 0..200 {
        stage.save(&dir, version % 3, version);
        thread::sleep(Duration::from_millis(5));
    }
    thread::sleep(Duration::from_millis(500));
    let figures = [
        ("loader", support::memory(loader.id(), "VmRSS"), 12.0),
        ("service", support::memory(service.id(), "VmRSS"), 12.0),
        ("binary", fs::metadata(binary).unwrap().len() as f64 / 1048576.0, 15.0),
    ];
    println!("\nMB resident after 200 saves, and of the binary");
    for (name, megabytes, bar) in figures {
        println!("{name:10}{megabytes:>8.1}   (bar {bar})");
    }
    for child in [&mut loader, &mut service] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    figures
        .iter()
        .map(|(name, megabytes, _)| ((*name).to_owned(), json!(megabytes)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// `confhot loader` itself, killed at the end.
struct LoaderProcess {
    child: Child,
    /// From its start until it was ready.
    took: Duration,
}

impl LoaderProcess {
    fn start(stage: &Stage, bucket: &str, dir: &Path) -> LoaderProcess {
        let since = Instant::now();
        let mut command = Command::new(env!("CARGO_BIN_EXE_confhot"));
        command.args(["loader", "--format", "json", "--server", &stage.server.url(), "--bucket", bucket, "--dir"]);
        let mut child = command.arg(dir).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (ready, is_ready) = channel();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if line.starts_with("{\"event\":\"ready\"") {
                    let _ = ready.send(());
                }
            }
        });
        is_ready.recv_timeout(Duration::from_secs(120)).expect("the loader was never ready");
        LoaderProcess { child, took: since.elapsed() }
    }
}

impl Drop for LoaderProcess {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn large(saves: usize) -> Value {
    const FILES: usize = 100_000;
    /// Long enough for a whole pause between two sweeps.
    const IDLE: Duration = Duration::from_secs(120);
    let stage = Stage::new(false);
    let (few, many) = (stage.tree("few", 3), stage.tree("many", FILES));
    println!("\n{FILES} files of 200 bytes in 100 directories");
    let first = LoaderProcess::start(&stage, "many", &many);
    let memory = |loader: &LoaderProcess| ["VmRSS", "VmHWM"].map(|what| support::memory(loader.child.id(), what));
    let (sync, after_sync) = (first.took, memory(&first));
    drop(first);
    let loader = LoaderProcess::start(&stage, "many", &many);
    let (start, after_start) = (loader.took, memory(&loader));
    println!(
        "{:44}{:>10.2}{:>10.2}",
        "ready after a first sync, a start again, s",
        sync.as_secs_f64(),
        start.as_secs_f64()
    );

    let pid = loader.child.id();
    let (since, mut used, mut busiest) = (support::cpu(pid), support::cpu(pid), 0.0_f64);
    for _ in 0..4 {
        thread::sleep(IDLE / 4);
        let now = support::cpu(pid);
        (busiest, used) = (busiest.max(now - used), now);
    }
    let percent = |used: f64, over: Duration| used / over.as_secs_f64() * 100.0;
    let idle = [percent(used - since, IDLE), percent(busiest, IDLE / 4)];
    println!("{:44}{:>10.2}   (bar 0.5; its busiest quarter {:.2})", "idle over 2 min, % of a core", idle[0], idle[1]);

    let few_loader = LoaderProcess::start(&stage, "few", &few);
    let stop = CancellationToken::new();
    let service = |bucket: &str| service(stage.server.url(), bucket.to_owned(), "d0.f0", None, &stop);
    let (few_swaps, many_swaps) = (service("few"), service("many"));
    let (mut with_few, mut with_many) = (Vec::new(), Vec::new());
    for version in 1..=saves + 50 {
        let bytes = small_document(0, version);
        let at = stage.save_bytes(&few.join("d0"), 0, &bytes);
        let few_took = few_swaps.next() - at;
        let at = stage.save_bytes(&many.join("d0"), 0, &bytes);
        let many_took = many_swaps.next() - at;
        if version > 50 {
            with_few.push(few_took);
            with_many.push(many_took);
        }
    }
    stop.cancel();
    let latency = compare("one change", [1.5, 1.5], ("3 files", with_few), ("100,000 files", with_many));
    let at_end = memory(&loader);
    println!("\n{:44}{:>10}{:>10}", "memory of the loader, MB", "resident", "most");
    for (when, [now, most]) in
        [("after a first sync", after_sync), ("after a start", after_start), ("after it all", at_end)]
    {
        println!("{when:44}{now:>10.1}{most:>10.1}   (bar 60)");
    }
    println!("{:44}{:>10.1}", "of the one with 3 files", memory(&few_loader)[0]);
    json!({
        "sync_s": sync.as_secs_f64(), "start_s": start.as_secs_f64(), "idle_percent": idle[0], "busiest_percent": idle[1],
        "mb_after_sync": after_sync, "mb_after_start": after_start, "mb_at_end": at_end, "latency": latency,
    })
}
