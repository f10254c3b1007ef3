//! What it costs to know who runs what, with 1,000 instances, each on a connection of its own, in two processes.
//!
//! `cargo bench --bench status` compares the ways to know it (the server's CPU and traffic in steady state, the time to
//! list all, its memory), and measures `confhot put --wait` against the time at which the last instance had applied the
//! document. `-- --instances N` and `--seconds N` change the counts. Prints tables, and writes the figures to
//! `target/bench/status.json`.
//!
//! The candidates: the bucket of records in memory that confhot has; a request to one subject that each instance answers;
//! the service API of NATS (ADR-32), nine subscriptions an instance. Each is measured over the same connections without
//! it, and those twice, since the difference is small. Beats that nobody hears or stores are the floor of all beating.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use confhot::kv::{Bucket, Connect, Connection, Instance, Key, Settings};
use confhot::live::{Event, Live};
use confhot::server::{self, Private, Search};
use futures_util::StreamExt;
use jiff::Timestamp;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};

const PROCESSES: usize = 2;
const BUCKET: &str = "configs";
const KEY: &str = "service1";

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let number = |name: &str, default: usize| {
        args.iter().position(|arg| arg == name).map_or(default, |at| args[at + 1].parse().unwrap())
    };
    let instances = number("--instances", 1_000);
    if let Some(at) = args.iter().position(|arg| arg == "--be") {
        return be(&args[at + 1], &args[at + 2], number("--first", 0), instances);
    }
    let figures = json!({
        "instances": instances,
        "candidates": candidates(instances, Duration::from_secs(number("--seconds", 20) as u64)),
        "wait": wait(instances),
    });
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("bench");
    fs::create_dir_all(&out).unwrap();
    fs::write(out.join("status.json"), serde_json::to_vec_pretty(&figures).unwrap()).unwrap();
}

fn start_server() -> (Private, tempfile::TempDir) {
    let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let search = Search {
        explicit: std::env::var_os("CONFHOT_NATS_SERVER").map(PathBuf::from),
        path: std::env::var_os("PATH"),
        cache: Some(Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("nats-server")),
        pip: server::pips(),
    };
    let mut settings = server::Settings::new(root.path().join("nats"));
    settings.guard = Some(env!("CARGO_BIN_EXE_confhot").into());
    settings.extra = "http: \"127.0.0.1:-1\"".into();
    (Private::start(server::find(&search).unwrap().program, settings).unwrap(), root)
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

async fn bucket(url: &str) -> Bucket {
    let mut to = Connect::to([url]);
    to.wait = true;
    Connection::open(&to).await.unwrap().bucket(BUCKET).unwrap()
}

/// What a record is like, for those who answer when they are asked.
fn record(n: usize) -> String {
    json!({
        "service": KEY, "instance": format!("host-{n}"), "host": "host", "version": "0.1.0", "key": KEY, "revision": 7,
        "digest": format!("sha256:{}", "0".repeat(64)), "newest": 7, "state": "applied", "rejected": null, "for_ms": 1_000_000,
        "up_ms": 1_000_000, "connected_ms": 1_000_000, "process": "0123456789abcdef01234567", "twin": false,
    })
    .to_string()
}

/// The process of some of the instances: says `ready`, then each revision that one of them applied, and when.
fn be(what: &str, url: &str, first: usize, instances: usize) {
    block_on(async {
        let (mut lives, mut clients) = (Vec::new(), Vec::new());
        for n in first..first + instances {
            match what {
                "silent" | "records" => {
                    let mut live =
                        Live::<Value>::builder(&bucket(url).await, &Key::parse(KEY).unwrap()).observe(|event| {
                            if let Event::Applied { revision, at, .. } = event {
                                println!("{revision} {}", at.as_nanosecond());
                            }
                        });
                    if what == "records" {
                        live = live.announce(Instance::new(KEY, format!("host-{n}"), "host"));
                    }
                    lives.push(live.start());
                }
                _ => clients.push(raw(what, url, n).await),
            }
        }
        for live in &lives {
            live.ready().await;
        }
        println!("ready");
        std::future::pending::<()>().await;
    });
}

async fn raw(what: &str, url: &str, n: usize) -> async_nats::Client {
    let client = async_nats::ConnectOptions::new().ping_interval(Duration::from_secs(5)).connect(url).await.unwrap();
    if what == "beat" {
        let client = client.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(3_500 + n as u64 % 500)).await;
                client.publish("confhot.nobody", record(n).into()).await.unwrap();
            }
        });
    }
    let subjects = match what {
        "idle" | "beat" => vec![],
        "asked" => vec!["confhot.ask".to_owned()],
        "service" => ["PING", "INFO", "STATS"]
            .iter()
            .flat_map(|verb| {
                [format!("$SRV.{verb}"), format!("$SRV.{verb}.{KEY}"), format!("$SRV.{verb}.{KEY}.host-{n}")]
            })
            .collect(),
        _ => panic!("{what}"),
    };
    for subject in subjects {
        let mut asked = client.subscribe(subject).await.unwrap();
        let client = client.clone();
        tokio::spawn(async move {
            while let Some(message) = asked.next().await {
                client.publish(message.reply.unwrap(), record(n).into()).await.unwrap();
            }
        });
    }
    client.flush().await.unwrap();
    client
}

/// The processes of all instances.
struct Fleet {
    processes: Vec<Child>,
    /// Revisions applied, and when, in nanoseconds since 1970.
    applied: Receiver<(u64, i128)>,
}

impl Fleet {
    fn start(what: &str, url: &str, instances: usize) -> Fleet {
        let (told, applied) = channel();
        let (ready, is_ready) = channel();
        let each = instances / PROCESSES;
        let processes = (0..PROCESSES).map(|n| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--be", what, url, "--first", &(n * each).to_string(), "--instances", &each.to_string()]);
            let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
            let lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let (told, ready) = (told.clone(), ready.clone());
            thread::spawn(move || {
                for line in lines.map_while(Result::ok) {
                    match line.split_once(' ') {
                        Some((revision, at)) => {
                            let _ = told.send((revision.parse().unwrap(), at.parse().unwrap()));
                        }
                        None => ready.send(()).unwrap(),
                    }
                }
            });
            child
        });
        let processes = processes.collect();
        for _ in 0..PROCESSES {
            is_ready.recv_timeout(Duration::from_secs(120)).expect("the instances never start");
        }
        Fleet { processes, applied }
    }

    /// When the last of them had applied `revision`, in nanoseconds since 1970.
    fn last_applied(&self, revision: u64, instances: usize) -> i128 {
        let mut last = 0;
        for _ in 0..instances / PROCESSES * PROCESSES {
            loop {
                let (applied, at) = self.applied.recv_timeout(Duration::from_secs(30)).expect("not applied by all");
                if applied == revision {
                    last = at.max(last);
                    break;
                }
            }
        }
        last
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

/// User and system time of a process, in seconds.
fn cpu(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    // Ticks of 10 ms (USER_HZ), proc(5).
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn resident(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1024.0
}

/// Messages in and out until now, as the server counts them.
fn messages(server: &Private) -> [f64; 2] {
    let host = server.monitoring_url().unwrap().strip_prefix("http://").unwrap().to_owned();
    let mut stream = TcpStream::connect(&host).unwrap();
    write!(stream, "GET /varz HTTP/1.0\r\nHost: {host}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let varz: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    ["in_msgs", "out_msgs"].map(|name| varz[name].as_f64().unwrap())
}

/// Asks all at once until all have answered.
async fn ask(url: &str, subject: &str, instances: usize) -> Duration {
    let client = async_nats::connect(url).await.unwrap();
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await.unwrap();
    client.flush().await.unwrap();
    let since = Instant::now();
    client.publish_with_reply(subject.to_owned(), inbox, "".into()).await.unwrap();
    for _ in 0..instances {
        let answer = tokio::time::timeout(Duration::from_secs(10), answers.next()).await.unwrap().unwrap();
        serde_json::from_slice::<Value>(&answer.payload).unwrap();
    }
    since.elapsed()
}

async fn list(url: &str, instances: usize) -> Duration {
    let bucket = bucket(url).await;
    // Connected.
    bucket.describe().await.unwrap();
    let since = Instant::now();
    let (statuses, _) = bucket.statuses(None).await.unwrap();
    assert_eq!(statuses.len(), instances);
    since.elapsed()
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e3
}

fn candidates(instances: usize, seconds: Duration) -> Value {
    println!("\n{instances} instances in steady state, over {seconds:?} each");
    println!("{:34}{:>12}{:>10}{:>10}{:>12}{:>10}", "", "% of a core", "in msg/s", "out msg/s", "list, ms", "RSS, MB");
    let mut figures = serde_json::Map::new();
    for (what, title) in [
        ("silent", "Live, telling nothing"),
        ("records", "Live, records in memory (built)"),
        ("silent", "Live, telling nothing, again"),
        ("idle", "bare connections"),
        ("beat", "the same, and beats to nobody"),
        ("asked", "request to a subject"),
        ("service", "service API, $SRV"),
    ] {
        let (server, _root) = start_server();
        let url = server.url();
        block_on(async {
            let bucket = bucket(&url).await;
            bucket.ensure(&Settings::default()).await.unwrap();
            put(&bucket, 0).await;
        });
        let _fleet = Fleet::start(what, &url, instances);
        // The reads of a start are over, and the records of all are there.
        thread::sleep(Duration::from_secs(8));
        let (before, since, counted) = (cpu(server.pid()), Instant::now(), messages(&server));
        thread::sleep(seconds);
        let (after, took, now) = (cpu(server.pid()), since.elapsed().as_secs_f64(), messages(&server));
        let percent = (after - before) / took * 100.0;
        let rates = [0, 1].map(|n| (now[n] - counted[n]) / took);
        let listed = (0..9).filter_map(|_| match what {
            "records" => Some(block_on(list(&url, instances))),
            "asked" => Some(block_on(ask(&url, "confhot.ask", instances))),
            "service" => Some(block_on(ask(&url, "$SRV.STATS", instances))),
            _ => None,
        });
        let listed: Vec<_> = listed.collect();
        let listed = (!listed.is_empty()).then(|| median(listed));
        let memory = resident(server.pid());
        println!(
            "{title:34}{percent:>12.2}{:>10.0}{:>10.0}{:>12}{memory:>10.0}",
            rates[0],
            rates[1],
            listed.map_or("-".into(), |ms| format!("{ms:.1}")),
        );
        figures.insert(
            title.into(),
            json!({"percent_of_a_core": percent, "in_per_s": rates[0], "out_per_s": rates[1], "list_ms": listed, "rss_mb": memory}),
        );
    }
    let percent = |title: &str| figures[title]["percent_of_a_core"].as_f64().unwrap();
    let without = f64::midpoint(percent("Live, telling nothing"), percent("Live, telling nothing, again"));
    let cost = percent("Live, records in memory (built)") - without;
    println!("records cost {cost:.2} % of a core (bar 1)");
    figures.insert("records_cost_percent".into(), json!(cost));
    figures.into()
}

async fn put(bucket: &Bucket, n: usize) {
    let key = Key::parse(KEY).unwrap();
    let head = bucket.head(&key).await.unwrap();
    let expect = head.map_or(confhot::kv::Expect::Never, |head| confhot::kv::Expect::At(head.revision));
    let value = bytes::Bytes::from(document(n));
    let digest = confhot::document::Digest::of(&value);
    let about = confhot::kv::Provenance::by(confhot::kv::Writer::Put);
    bucket.publish(&confhot::kv::Write::put(key, value, digest, about, expect)).await.unwrap();
}

fn document(n: usize) -> String {
    format!("n = {n}\n{}", "[a]\nb = 'c'\n".replace('a', "section"))
}

/// `confhot put --wait`, the binary, against what the instances say themselves.
fn wait(instances: usize) -> Value {
    const ROUNDS: usize = 21;
    let (server, root) = start_server();
    let url = server.url();
    block_on(async {
        let bucket = bucket(&url).await;
        bucket.ensure(&Settings::default()).await.unwrap();
        put(&bucket, 0).await;
    });
    let fleet = Fleet::start("records", &url, instances);
    block_on(async {
        let bucket = bucket(&url).await;
        // Before, a yes would wait for whoever the server may have forgotten.
        while bucket.complete_in().await.unwrap().within > Duration::ZERO {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let (mut returned, mut last, mut whole) = (Vec::new(), Vec::new(), Vec::new());
    let mut each = Vec::new();
    let mut ratios = Vec::new();
    for n in 1..=ROUNDS {
        let file = root.path().join("document.toml");
        fs::write(&file, document(n)).unwrap();
        let since = Instant::now();
        let mut command = Command::new(env!("CARGO_BIN_EXE_confhot"));
        command.args(["put", KEY]).arg(&file).args(["--wait", "30s", "--format", "json", "--server", &url]);
        let output = command.output().unwrap();
        let ended = Timestamp::now().as_nanosecond();
        whole.push(since.elapsed());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(answer["applied"].as_array().unwrap().len(), instances);
        let revision = answer["revision"].as_u64().unwrap();
        let stored = block_on(async {
            bucket(&url).await.head(&Key::parse(KEY).unwrap()).await.unwrap().unwrap().created.as_nanosecond()
        });
        let since_stored = |at: i128| Duration::from_nanos(u64::try_from(at - stored).unwrap());
        let (to_last, to_end) = (since_stored(fleet.last_applied(revision, instances)), since_stored(ended));
        each.push([to_last, to_end].map(|took| (took.as_secs_f64() * 1e3).round()));
        ratios.push(to_end.as_secs_f64() / to_last.as_secs_f64());
        last.push(to_last);
        returned.push(to_end);
    }
    ratios.sort_unstable_by(f64::total_cmp);
    let (ratio, worst) = (ratios[ROUNDS / 2], ratios[ROUNDS - 1]);
    let (last, returned, whole) = (median(last), median(returned), median(whole));
    println!("\n`put --wait` with {instances} instances, median of {ROUNDS}, ms");
    println!("{:34}{last:>10.1}", "stored until applied by the last");
    println!("{:34}{returned:>10.1}", "stored until the process ended");
    println!("{:34}{ratio:>10.2}   (bar 2; worst {worst:.2})", "ratio");
    println!("{:34}{whole:>10.1}", "the whole command");
    json!({"last_applied_ms": last, "returned_ms": returned, "ratio": ratio, "worst_ratio": worst, "command_ms": whole, "rounds": each})
}
