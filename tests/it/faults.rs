//! `put --wait` among faults: servers that are killed, connections that drop, instances that die, leave, join and refuse,
//! at random. Whatever happens, a yes is true, and no answer is late.
//!
//! `CONFHOT_SEED=N` runs one seed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use confhot::kv::{Bucket, Revision};
use confhot::live::{Event, Live};
use jiff::Timestamp;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::feed::{connect, key, put};
use crate::status::{Settings, document, following, fresh_on, wait_applied};
use crate::support::{Server, confhot};

const PATIENCE: Duration = Duration::from_secs(16);
/// Of each request, so that what is not the waiting is short.
const TIMEOUT: &str = "2s";
/// For the process to start, to find out what became of a store whose server died, and to end.
const SLACK: Duration = Duration::from_secs(5);

/// xorshift64: the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn ms(&mut self, limit: u64) -> Duration {
        Duration::from_millis(self.below(limit))
    }
}

/// The way from one instance to the server, which can be cut.
pub(crate) struct Way {
    pub(crate) url: String,
    /// Whether it is open.
    pub(crate) open: watch::Sender<bool>,
    _task: JoinSet<()>,
}

impl Way {
    pub(crate) async fn to(server: u16) -> Way {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("nats://{}", listener.local_addr().unwrap());
        let (open, is_open) = watch::channel(true);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut from, _)) = listener.accept().await {
                let mut is_open = is_open.clone();
                if !*is_open.borrow_and_update() {
                    continue;
                }
                connections.spawn(async move {
                    let Ok(mut to) = TcpStream::connect(("127.0.0.1", server)).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut from, &mut to) => {}
                        _ = is_open.wait_for(|open| !open) => {}
                    }
                });
            }
        });
        Way { url, open, _task: task }
    }
}

/// One instance, and what it has done.
struct Runs {
    live: Live<Settings>,
    way: Way,
    applied: Arc<Mutex<Vec<(Revision, Instant)>>>,
}

/// What the oracle needs to know of one instance.
struct Known {
    applied: Arc<Mutex<Vec<(Revision, Instant)>>>,
    /// When it died, by the clock that the server has too.
    died: Option<Timestamp>,
    /// Whether nobody could know of it any more: it said goodbye, or died before it was back after a restart of the server.
    forgotten: bool,
}

#[derive(Debug, Clone)]
enum Fault {
    /// The server is killed, and back after so long.
    Kill(Duration),
    /// An instance's connection drops, and cannot be made for so long.
    Cut(usize, Duration),
    Die(usize),
    Leave(usize),
    Join,
}

/// What happens in one run.
#[derive(Debug)]
struct Plan {
    instances: usize,
    /// Before the put, and after its start.
    before: Vec<(Duration, Fault)>,
    after: Vec<(Duration, Fault)>,
    /// Who refuses the document, and for whom its check takes how long.
    refuses: Option<usize>,
    slow: Option<(usize, u64)>,
}

impl Plan {
    fn of(random: &mut Random) -> Plan {
        let instances = 3 + random.below(4) as usize;
        let mut faults = |count: u64, spread: u64| {
            let mut faults: Vec<_> = (0..count)
                .map(|_| {
                    // The first one stays, so that there is somebody to wait for.
                    let who = 1 + random.below(instances as u64 - 1) as usize;
                    let fault = match random.below(8) {
                        0..3 => Fault::Kill(random.ms(3_000)),
                        3..5 => Fault::Cut(who, random.ms(3_000)),
                        5 => Fault::Die(who),
                        6 => Fault::Leave(who),
                        _ => Fault::Join,
                    };
                    (random.ms(spread), fault)
                })
                .collect();
            faults.sort_by_key(|(at, _)| *at);
            faults
        };
        let (before, after) = (faults(2, 1_500), faults(3, 2_500));
        let refuses = (random.below(5) == 0).then(|| random.below(instances as u64) as usize);
        let slow = (random.below(3) == 0).then(|| (random.below(instances as u64) as usize, random.below(2_000)));
        Plan { instances, before, after, refuses, slow }
    }

    /// Whether every fault is one that heals in time, so that it has to come to a yes: nobody refuses, nobody dies, or
    /// leaves where it may have no server to say so to; and the server is not away for too much of the time.
    fn heals(&self) -> bool {
        let any = |which: fn(&Fault) -> bool| self.before.iter().chain(&self.after).any(|(_, fault)| which(fault));
        let cut = any(|fault| matches!(fault, Fault::Cut(..) | Fault::Kill(_)));
        let gone = any(|fault| matches!(fault, Fault::Die(_))) || cut && any(|fault| matches!(fault, Fault::Leave(_)));
        let away = self.after.iter().any(|(_, fault)| matches!(fault, Fault::Kill(_)));
        !gone && !away && self.refuses.is_none()
    }
}

struct World {
    server: Server,
    bucket: Bucket,
    runs: HashMap<usize, Runs>,
    known: HashMap<usize, Known>,
    next: usize,
}

impl World {
    async fn join(&mut self) -> usize {
        let (n, k) = (self.next, key("service1"));
        self.next += 1;
        let way = Way::to(self.server.port()).await;
        let own = connect(&way.url).await.bucket(self.bucket.name()).unwrap();
        let applied = Arc::new(Mutex::new(Vec::new()));
        let list = applied.clone();
        let observe = move |event: &Event| {
            if let Event::Applied { revision, .. } = event {
                list.lock().unwrap().push((*revision, Instant::now()));
            }
        };
        let live = following(&own, &k, &format!("i{n}")).observe(observe).start();
        self.runs.insert(n, Runs { live, way, applied });
        n
    }

    async fn strike(&mut self, fault: Fault) {
        match fault {
            Fault::Kill(down) => {
                self.server.kill9();
                tokio::time::sleep(down).await;
                self.server.restart();
            }
            Fault::Cut(n, down) => {
                if let Some(runs) = self.runs.get(&n) {
                    let open = runs.way.open.clone();
                    open.send_replace(false);
                    tokio::spawn(async move {
                        tokio::time::sleep(down).await;
                        open.send_replace(true);
                    });
                }
            }
            Fault::Die(n) => {
                if let Some(Runs { live, .. }) = self.runs.remove(&n) {
                    let read = tokio::time::timeout(Duration::from_secs(1), self.bucket.statuses(None)).await;
                    let statuses = read.map_or(Vec::new(), |read| read.map_or(Vec::new(), |(statuses, _)| statuses));
                    drop(live);
                    let known = self.known.get_mut(&n).unwrap();
                    known.forgotten = !statuses.iter().any(|status| status.instance.id == format!("i{n}"));
                    // After it is dead: what was stored later never met it.
                    known.died = Some(Timestamp::now());
                }
            }
            Fault::Leave(n) => {
                if let Some(Runs { live, .. }) = self.runs.remove(&n) {
                    self.known.get_mut(&n).unwrap().forgotten = true;
                    live.close().await;
                }
            }
            Fault::Join => {
                self.join().await;
            }
        }
    }

    async fn strike_all(&mut self, faults: &[(Duration, Fault)]) {
        let since = Instant::now();
        for (at, fault) in faults {
            tokio::time::sleep(at.saturating_sub(since.elapsed())).await;
            self.strike(fault.clone()).await;
        }
    }
}

/// Runs one seed; gives the exit code, or what is wrong.
async fn run(seed: u64) -> Result<i32, String> {
    let plan = Plan::of(&mut Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1));
    let server = tokio::task::spawn_blocking(Server::start).await.unwrap();
    let (bucket, k) = (fresh_on(&server).await, key("service1"));
    let first = put(&bucket, &k, "n = 0").await;
    let url = server.url();
    let mut world = World { server, bucket, runs: HashMap::new(), known: HashMap::new(), next: 0 };
    for _ in 0..plan.instances {
        let n = world.join().await;
        let applied = world.runs[&n].applied.clone();
        world.known.insert(n, Known { applied, died: None, forgotten: false });
    }
    for n in 0..plan.instances {
        wait_applied(&world.bucket, &k, &format!("i{n}"), first).await;
    }
    // Only those count that were known to the server; those that join are asked for nothing.
    world.strike_all(&plan.before).await;

    let mut text = format!("n = {seed}\n");
    if let Some(who) = plan.refuses {
        text.push_str(&format!("invalid_for = ['i{who}']\n"));
    }
    if let Some((who, ms)) = plan.slow {
        text.push_str(&format!("slow_for = 'i{who}'\nslow_ms = {ms}\n"));
    }
    let (file, name, since) = (document(&text), world.bucket.name().to_owned(), Instant::now());
    let waits = tokio::task::spawn_blocking(move || {
        let wait = format!("{}s", PATIENCE.as_secs());
        let args = ["put", "service1", &file, "--wait", &wait, "--timeout", TIMEOUT, "--format", "json"];
        let output = confhot().args(args).args(["--server", &url, "--bucket", &name]).output().unwrap();
        (output, Instant::now())
    });
    world.strike_all(&plan.after).await;
    let (output, answered) = waits.await.unwrap();
    let code = output.status.code().ok_or("killed by a signal")?;
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let told = format!("{plan:#?}\nexit code {code} after {:?}\n{stdout}{stderr}", answered - since);
    if answered - since > PATIENCE + SLACK {
        return Err(format!("late: {told}"));
    }
    match code {
        0 => {
            let answer: Value = serde_json::from_str(&stdout).map_err(|error| format!("{error}: {told}"))?;
            let revision = Revision(answer["revision"].as_u64().ok_or(format!("no revision: {told}"))?);
            let stored = world.bucket.revision(&k, revision).await.map_err(|error| format!("{error}: {told}"))?;
            let stored = stored.ok_or(format!("it is not stored: {told}"))?.created;
            for (n, known) in &world.known {
                let was_live = !known.forgotten && known.died.is_none_or(|died| died > stored);
                let applied = known.applied.lock().unwrap();
                if was_live && !applied.iter().any(|(it, at)| *it == revision && *at <= answered) {
                    return Err(format!("a wrong yes: i{n} had not applied it, but {applied:?}: {told}"));
                }
            }
        }
        1 if plan.heals() => return Err(format!("a wrong no: {told}")),
        1 => {}
        // The server was away when it was to be stored.
        2 if plan.before.iter().chain(&plan.after).any(|(_, fault)| matches!(fault, Fault::Kill(_))) => {}
        _ => return Err(format!("trouble: {told}")),
    }
    Ok(code)
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_a_yes_is_true_and_no_answer_is_late() {
    let count = if std::env::var_os("CONFHOT_SOAK").is_some() { 200 } else { 20 };
    let seeds = match std::env::var("CONFHOT_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (1..=count).collect::<Vec<u64>>(),
    };
    let (mut running, at_once) = (JoinSet::new(), Arc::new(Semaphore::new(10)));
    let wanted = seeds.len();
    for seed in seeds {
        let at_once = at_once.clone();
        running.spawn(async move {
            let _permit = at_once.acquire_owned().await.unwrap();
            (seed, run(seed).await)
        });
    }
    let (mut codes, mut wrong) = ([0; 3], Vec::new());
    while let Some(ran) = running.join_next().await {
        match ran.unwrap() {
            (_, Ok(code)) => codes[usize::try_from(code).unwrap()] += 1,
            (seed, Err(why)) => wrong.push(format!("seed {seed}: {why}")),
        }
    }
    println!("{wanted} runs: {} yes, {} no, {} trouble, {} wrong", codes[0], codes[1], codes[2], wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    // A yes that is never said is never wrong.
    assert!(wanted == 1 || codes[0] * 4 > wanted, "only {} of {wanted} said yes", codes[0]);
}
