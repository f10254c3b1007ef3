//! Who runs what: the records that instances keep, and what `confhot status` and `history` tell of them.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use confhot::kv::{Bucket, Connect, Connection, Credentials, Instance, Key, Standing, Status};
use confhot::live::{Event, Live, Rejection};
use confhot::wait::{Target, Verdict, Wait};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::feed::{Feed, connect, key, make, put};
use crate::support::{self, DEADLINE, Daemon, Server, VERSIONS, confhot, eventually};

const NEWEST: &str = VERSIONS[VERSIONS.len() - 1];

/// A document says who is to refuse it, and how.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(crate) struct Settings {
    pub(crate) n: i64,
    invalid_for: Vec<String>,
    unavailable_for: Vec<String>,
    /// For whom the check never ends.
    stuck_for: Vec<String>,
    /// For whom it takes how long.
    slow_for: String,
    slow_ms: u64,
}

/// A service that does as its document says; it tells that it is `id`.
pub(crate) fn following(bucket: &Bucket, key: &Key, id: &str) -> confhot::live::Builder<Settings> {
    let me = id.to_owned();
    Live::<Settings>::builder(bucket, key)
        .check(move |_, new| {
            let me = me.clone();
            async move {
                let reason = format!("{me} does not like {}", new.n);
                if new.slow_for == me {
                    tokio::time::sleep(Duration::from_millis(new.slow_ms)).await;
                }
                if new.stuck_for.contains(&me) {
                    std::future::pending::<()>().await;
                }
                if new.invalid_for.contains(&me) {
                    return Err(Rejection::invalid(reason));
                }
                if new.unavailable_for.contains(&me) { Err(Rejection::unavailable(reason)) } else { Ok(()) }
            }
        })
        .announce(Instance::new("sample", id, "here"))
}

/// An instance on a connection of its own.
pub(crate) async fn instance(bucket: &Bucket, key: &Key, id: &str) -> Live<Settings> {
    let own = connect(bucket.connection().servers()).await.bucket(bucket.name()).unwrap();
    following(&own, key, id).start()
}

/// A bucket on the shared server that has been there for so long that all live instances are known. Tests that use it
/// have keys of their own.
pub(crate) fn aged() -> String {
    static AGED: OnceLock<String> = OnceLock::new();
    AGED.get_or_init(|| {
        let (url, name) = (support::shared(NEWEST).url(), support::bucket());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let made = name.clone();
        std::thread::spawn(move || {
            runtime.block_on(async {
                let bucket = connect(&url).await.bucket(&made).unwrap();
                make(&bucket, Feed::Republished, &url, 1).await;
                wait_complete(&bucket).await;
            });
        })
        .join()
        .unwrap();
        name
    })
    .clone()
}

/// Waits until all live instances have had the time to tell.
pub(crate) async fn wait_complete(bucket: &Bucket) {
    let until = Instant::now() + DEADLINE;
    while bucket.complete_in().await.unwrap().within > Duration::ZERO {
        assert!(Instant::now() < until, "it never becomes complete");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// An aged bucket, and a key that nobody else has.
pub(crate) async fn own_key() -> (Bucket, Key) {
    let bucket = connect(&support::shared(NEWEST).url()).await.bucket(&aged()).unwrap();
    let key = key(&format!("k{}", support::bucket()));
    (bucket, key)
}

pub(crate) async fn fresh_on(server: &Server) -> Bucket {
    let bucket = connect(&server.url()).await.bucket(&support::bucket()).unwrap();
    make(&bucket, Feed::Republished, &server.url(), 1).await;
    bucket
}

/// Runs `confhot` on the bucket: exit code, what stdout holds as JSON lines, stderr.
pub(crate) fn run(bucket: &Bucket, args: &[&str]) -> (i32, Vec<Value>, String) {
    let global = ["--server", bucket.connection().servers(), "--bucket", bucket.name(), "--format", "json"];
    // The instances go on meanwhile.
    let output = tokio::task::block_in_place(|| {
        confhot().args(args).args(global).timeout(Duration::from_secs(60)).output().unwrap()
    });
    let stdout = String::from_utf8(output.stdout).unwrap();
    let lines = stdout.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{stdout}")));
    (output.status.code().unwrap(), lines.collect(), String::from_utf8(output.stderr).unwrap())
}

/// Waits until the server has heard that of instance `id`.
pub(crate) async fn wait_status(bucket: &Bucket, key: &Key, id: &str, wanted: impl Fn(&Status) -> bool) -> Status {
    let until = Instant::now() + DEADLINE;
    loop {
        let (statuses, _) = bucket.statuses(Some(key)).await.unwrap();
        if let Some(status) = statuses.iter().find(|status| status.instance.id == id && wanted(status)) {
            return status.clone();
        }
        assert!(Instant::now() < until, "{id} never said so: {statuses:#?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) async fn wait_applied(bucket: &Bucket, key: &Key, id: &str, revision: confhot::kv::Revision) -> Status {
    wait_status(bucket, key, id, |status| status.report.revision == Some(revision)).await
}

pub(crate) async fn ids(bucket: &Bucket, key: &Key) -> Vec<String> {
    let (statuses, _) = bucket.statuses(Some(key)).await.unwrap();
    let mut ids: Vec<_> = statuses.into_iter().map(|status| status.instance.id).collect();
    ids.sort();
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_tells_all_of_what_it_runs_and_one_line_of_it_is_a_status() {
    let (bucket, k) = own_key().await;
    let _live = instance(&bucket, &k, "web.1/ü").await;
    let revision = put(&bucket, &k, "n = 1").await;
    let status = wait_applied(&bucket, &k, "web.1/ü", revision).await;

    assert_eq!((status.report.newest, status.report.state), (Some(revision), Standing::Applied));
    let (code, lines, _) = run(&bucket, &["status", k.as_str()]);
    let digest = confhot::document::Digest::of(b"n = 1");
    let mut expected = json!({
        "service": "sample", "instance": "web.1/ü", "host": "here", "key": k, "revision": revision, "head": revision,
        "state": "applied", "reason": null, "digest": digest, "version": env!("CARGO_PKG_VERSION"),
    });
    for at in ["since", "seen"] {
        assert!(lines[0][at].as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{lines:?}");
        expected[at] = lines[0][at].clone();
    }
    assert_eq!((code, lines), (0, vec![expected]));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_lags_or_rejected_makes_it_a_no_and_the_newest_problem_comes_first() {
    let (bucket, k) = own_key().await;
    let ids = ["a", "b", "c", "d"];
    let mut lives = Vec::new();
    for id in ids {
        lives.push(instance(&bucket, &k, id).await);
    }
    let first = put(&bucket, &k, "n = 1").await;
    for id in ids {
        wait_applied(&bucket, &k, id, first).await;
    }
    let second = put(&bucket, &k, "n = 2\ninvalid_for = ['b']\nstuck_for = ['c']\nunavailable_for = ['d']").await;
    for id in ["b", "d"] {
        wait_status(&bucket, &k, id, |status| status.report.state == Standing::Rejected).await;
    }
    wait_applied(&bucket, &k, "a", second).await;

    let (code, lines, _) = run(&bucket, &["status", k.as_str()]);
    let told: Vec<_> = lines.iter().map(|line| (line["instance"].as_str().unwrap(), &line["state"])).collect();
    assert_eq!(code, 1);
    // `b` and `d` within moments of each other; what `c` runs has not changed since the first.
    let mut newest = [told[0], told[1]];
    newest.sort_by_key(|(id, _)| *id);
    assert_eq!(newest, [("b", &json!("rejected")), ("d", &json!("rejected"))]);
    assert_eq!(told[2..], [("c", &json!("behind")), ("a", &json!("applied"))]);
    let since: Vec<_> = lines[..3].iter().map(|line| line["since"].as_str().unwrap()).collect();
    assert!(since.is_sorted_by(|a, b| a >= b), "{since:?}");
    let b = lines.iter().find(|line| line["instance"] == "b").unwrap();
    assert_eq!(
        (&b["reason"], &b["revision"], &b["head"]),
        (&json!("b does not like 2"), &json!(first), &json!(second))
    );

    let (_, history, _) = run(&bucket, &["history", k.as_str()]);
    assert_eq!((&history[0]["applied"], &history[0]["rejected"]), (&json!(1), &json!(2)));
    assert_eq!((history[1].get("applied"), history[1].get("rejected")), (None, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_instances_there_is_no_row_and_no_problem() {
    let (bucket, k) = own_key().await;
    put(&bucket, &k, "n = 1").await;

    let (code, lines, stderr) = run(&bucket, &["status", k.as_str()]);
    assert_eq!((code, lines.len()), (0, 0));
    assert_eq!(stderr, format!("no live instance of {k} is known in the bucket {}\n", bucket.name()));
    let missing = bucket.connection().bucket(&support::bucket()).unwrap();
    assert_eq!(run(&missing, &["status"]).0, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_says_goodbye_is_gone_at_once_and_one_that_dies_within_15_s() {
    let (bucket, k) = own_key().await;
    let (goes, dies, stays) = (
        instance(&bucket, &k, "goes").await,
        instance(&bucket, &k, "dies").await,
        instance(&bucket, &k, "stays").await,
    );
    for id in ["goes", "dies", "stays"] {
        wait_status(&bucket, &k, id, |_| true).await;
    }
    goes.close().await;
    let left = Instant::now();
    while ids(&bucket, &k).await.contains(&"goes".to_owned()) {
        assert!(left.elapsed() < Duration::from_secs(2), "it is still there");
    }

    drop(dies);
    let died = Instant::now();
    while ids(&bucket, &k).await.contains(&"dies".to_owned()) {
        assert!(died.elapsed() < Duration::from_secs(15), "it is still there");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(died.elapsed() > Duration::from_secs(10), "gone after {:?}", died.elapsed());
    assert_eq!(ids(&bucket, &k).await, ["stays"]);
    drop(stays);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_instance_is_listed_for_ten_seconds() {
    let (bucket, _) = own_key().await;
    let k = key("service1");
    let url = bucket.connection().servers().to_owned();
    let mut service = crate::serve::serve(&url, bucket.name(), &["--instance", "frozen"]);
    wait_status(&bucket, &k, "frozen", |_| true).await;

    service.signal(Signal::STOP);
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(10) {
        assert!(ids(&bucket, &k).await.contains(&"frozen".to_owned()), "gone after {:?}", since.elapsed());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    service.signal(Signal::CONT);
    service.sigterm();
    assert_eq!(service.wait_exit(), 0);
    assert!(!ids(&bucket, &k).await.contains(&"frozen".to_owned()), "a service that ends says goodbye");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revision_that_is_unavailable_is_one_event_and_one_change_until_it_heals() {
    let (bucket, k) = own_key().await;
    let own = connect(bucket.connection().servers()).await.bucket(bucket.name()).unwrap();
    let down = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let (is_down, events) = (down.clone(), std::sync::Arc::new(std::sync::Mutex::new(Vec::new())));
    let told = events.clone();
    let tried = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let count = tried.clone();
    let _live = Live::<Settings>::builder(&own, &k)
        .check(move |_, _| {
            let nth = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let down = is_down.load(std::sync::atomic::Ordering::Relaxed);
            // What it says of it changes.
            async move { if down { Err(Rejection::unavailable(format!("attempt {nth}"))) } else { Ok(()) } }
        })
        .observe(move |event| {
            if matches!(event, Event::Applied { .. } | Event::Rejected { .. }) {
                told.lock().unwrap().push(event.clone());
            }
        })
        .announce(Instance::new("sample", "a", "here"))
        .start();
    let revision = put(&bucket, &k, "n = 1").await;
    let refused = wait_status(&bucket, &k, "a", |status| status.report.rejected.is_some()).await;
    eventually("the third attempt", DEADLINE, || (tried.load(std::sync::atomic::Ordering::Relaxed) >= 3).then_some(()));
    // Asked to, all tell again.
    let client = async_nats::connect(bucket.connection().servers()).await.unwrap();
    client.publish(format!("confhot.here.{}", bucket.name()), "".into()).await.unwrap();
    let still = wait_status(&bucket, &k, "a", |status| status.seen > refused.seen).await;
    let apart = still.since.duration_since(refused.since).abs();
    assert!(apart < jiff::SignedDuration::from_millis(100), "it changed: {refused:?} {still:?}");
    let reason = |status: Status| status.report.rejected.unwrap().reason;
    assert_ne!(reason(still), reason(refused), "and yet it tells what the last attempt found");

    down.store(false, std::sync::atomic::Ordering::Relaxed);
    let healed = wait_applied(&bucket, &k, "a", revision).await;
    assert_eq!((healed.report.state, healed.report.rejected), (Standing::Applied, None));
    let events = events.lock().unwrap();
    assert!(matches!(&events[..], [Event::Rejected { .. }, Event::Applied { .. }]), "{events:?}");
}

/// What a service needs, for a server's configuration: to read its own key and to follow it, to read older revisions of
/// it, to tell what it runs, to be asked for, and to meet another process of its name.
pub(crate) fn rights(bucket: &str, key: &str, instance: &str) -> (Vec<String>, Vec<String>) {
    let publish = vec![
        format!("$JS.API.DIRECT.GET.KV_{bucket}.$KV.{bucket}.{key}"),
        format!("$JS.API.CONSUMER.CREATE.KV_{bucket}.*.$KV.{bucket}.{key}"),
        format!("$KV.{bucket}_status.{key}.{instance}"),
        format!("confhot.here.{bucket}.hello.{instance}.{key}"),
    ];
    let subscribe = vec![
        format!("confhot.live.{bucket}.{key}"),
        format!("confhot.here.{bucket}"),
        format!("confhot.here.{bucket}.*.{instance}.{key}"),
        "_INBOX_svc.>".to_owned(),
    ];
    (publish, subscribe)
}

pub(crate) fn locked_down(publish: &[String], subscribe: &[String]) -> Server {
    Server::with(NEWEST, |settings| {
        settings.extra = format!(
            "authorization {{ users = [\n\
               {{user: admin, password: a}}\n\
               {{user: svc, password: s, permissions: {{publish: {publish:?}, subscribe: {subscribe:?}}}}}\n\
             ] }}"
        );
    })
}

/// Gives the user of [`locked_down`] other permissions while everybody stays connected.
pub(crate) fn allow(server: &Server, publish: &[String], subscribe: &[String]) {
    let path = server.data_dir().join("nats-server.conf");
    let config = std::fs::read_to_string(&path).unwrap();
    let (before, after) = config.split_once("permissions: {").unwrap();
    let (_, after) = after.split_once("}}").unwrap();
    let config = format!("{before}permissions: {{publish: {publish:?}, subscribe: {subscribe:?}}}}}{after}");
    std::fs::write(path, config).unwrap();
    let pid = rustix::process::Pid::from_raw(server.pid().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
}

pub(crate) async fn as_user(server: &Server, user: &str, password: &str) -> Connection {
    let mut to = Connect::to([server.url()]);
    to.credentials = Credentials::User(user.into(), password.into());
    to.inbox_prefix = (user == "svc").then(|| "_INBOX_svc".to_owned());
    to.timeout = Duration::from_secs(2);
    Connection::open(&to).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_instance_walks_back_to_what_it_accepts_with_rights_to_its_own_key_only() {
    let (publish, subscribe) = rights("configs", "service1", "a");
    let server = locked_down(&publish, &subscribe);
    let admin = as_user(&server, "admin", "a").await.bucket("configs").unwrap();
    admin.ensure(&confhot::kv::Settings::default()).await.unwrap();
    let k = key("service1");
    put(&admin, &k, "n = 1").await;
    let good = put(&admin, &k, "n = 2").await;
    put(&admin, &key("other"), "n = 9").await;
    // More than a consumer delivers before it wants to hear that it was received.
    for n in 10..40 {
        put(&admin, &k, &format!("n = {n}\ninvalid_for = ['a']\n#{}", "x".repeat(500_000))).await;
    }
    put(&admin, &k, "n = 'four'").await;
    let head = put(&admin, &k, "n = 5\ninvalid_for = ['a']").await;

    let own = as_user(&server, "svc", "s").await.bucket("configs").unwrap();
    let events = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let told = events.clone();
    let live = following(&own, &k, "a").observe(move |event| told.lock().unwrap().push(event.clone())).start();
    let status = wait_applied(&admin, &k, "a", good).await;

    assert_eq!((live.get().unwrap().n, live.get().unwrap().revision), (2, good));
    assert_eq!(status.report.state, Standing::Behind);
    let refused = status.report.rejected.unwrap();
    assert_eq!((refused.revision, refused.reason.as_str()), (head, "a does not like 5"));
    let told = || events.lock().unwrap().clone();
    let trouble = |event: &Event| matches!(event, Event::Trouble(_));
    assert!(!told().iter().any(trouble), "{:?}", told());
    let decided = |event: &Event| match event {
        Event::Applied { revision, .. } | Event::Rejected { revision, .. } => Some(*revision),
        _ => None,
    };
    assert_eq!(told().iter().filter_map(decided).collect::<Vec<_>>(), [head, good]);
    // And the newest revision still comes.
    let fixed = put(&admin, &k, "n = 6").await;
    wait_status(&admin, &k, "a", |s| s.report.revision == Some(fixed) && s.report.state == Standing::Applied).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_rights_that_an_instance_needs_none_is_too_much() {
    let (publish, subscribe) = rights("configs", "service1", "a");
    let k = key("service1");
    // Without the right to tell it is not known; without the one to read older revisions it does not start.
    for without in ["$KV.configs_status.service1.a", "$JS.API.CONSUMER.CREATE"] {
        let publish: Vec<_> = publish.iter().filter(|right| !right.starts_with(without)).cloned().collect();
        let server = locked_down(&publish, &subscribe);
        let admin = as_user(&server, "admin", "a").await.bucket("configs").unwrap();
        admin.ensure(&confhot::kv::Settings::default()).await.unwrap();
        put(&admin, &k, "n = 1").await;
        put(&admin, &k, "n = 2\ninvalid_for = ['a']").await;
        let own = as_user(&server, "svc", "s").await.bucket("configs").unwrap();
        let live = following(&own, &k, "a").start();
        eventually("it has looked at the head", DEADLINE, || live.state().rejected);
        if without.starts_with("$KV") {
            tokio::time::timeout(DEADLINE, live.ready()).await.unwrap();
            assert!(ids(&admin, &k).await.is_empty());
        } else {
            wait_status(&admin, &k, "a", |status| status.report.state == Standing::Rejected).await;
            assert!(live.load().is_none());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reason_an_id_a_name_and_a_key_of_any_length_are_told() {
    let (bucket, _) = own_key().await;
    let long_key = key(&format!("{}{}", support::bucket(), "k".repeat(512))[..512]);
    let long_id = ".\u{1b}[31mü".repeat(500);
    let own = connect(bucket.connection().servers()).await.bucket(bucket.name()).unwrap();
    let reason = "\u{1}".repeat(1 << 20);
    let _live = Live::<Settings>::builder(&own, &long_key)
        .check(move |_, _| {
            let reason = reason.clone();
            async move { Err(Rejection::invalid(reason)) }
        })
        .announce(Instance::new("\u{1}".repeat(9_000), &long_id, "\u{1}".repeat(9_000)))
        .start();
    put(&bucket, &long_key, "n = 1").await;

    let (code, lines) = eventually("its line", DEADLINE, || {
        let (code, lines, _) = run(&bucket, &["status", long_key.as_str()]);
        (lines.len() == 1 && lines[0]["state"] == "rejected").then_some((code, lines))
    });
    assert_eq!((code, &lines[0]["key"]), (1, &json!(long_key)));
    assert!(long_id.starts_with(lines[0]["instance"].as_str().unwrap().trim_end_matches('…')));
    assert!(lines[0]["reason"].as_str().unwrap().len() > 900);
    // On a terminal's side of things nothing of it is obeyed.
    let global = ["--server", bucket.connection().servers(), "--bucket", bucket.name()];
    let text = confhot().args(["status", long_key.as_str()]).args(global).output().unwrap().stdout;
    assert!(!text.contains(&0x1b) && !text.contains(&1), "control characters");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_password_stands_in_a_record() {
    let (bucket, _) = own_key().await;
    let k = key(&format!("secret{}", support::bucket()));
    let url = bucket.connection().servers();
    let _service =
        Daemon::start(["serve", "--name", k.as_str(), "--server", url, "--bucket", bucket.name(), "--instance", "s"]);
    put(&bucket, &k, "[logging]\nlevel = 'postgres://me:s3cret@db/shop'").await;

    let refused = wait_status(&bucket, &k, "s", |status| status.report.rejected.is_some()).await.report.rejected;
    let reason = refused.unwrap().reason;
    assert!(reason.contains("postgres://me:[hidden]@db/shop") && !reason.contains("s3cret"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_record_or_stands_under_another_name_is_passed_over() {
    let (bucket, k) = own_key().await;
    let _live = instance(&bucket, &k, "real").await;
    let revision = put(&bucket, &k, "n = 1").await;
    wait_applied(&bucket, &k, "real", revision).await;
    let client = async_nats::connect(bucket.connection().servers()).await.unwrap();
    let store = async_nats::jetstream::new(client).get_key_value(format!("{}_status", bucket.name())).await.unwrap();
    let record = store.get(format!("{k}.real")).await.unwrap().unwrap();
    let mut forged: Value = serde_json::from_slice(&record).unwrap();
    for (under, text) in [
        ("forged", record.clone().to_vec()),
        ("empty", Vec::new()),
        ("text", b"not JSON".to_vec()),
        ("number", b"7".to_vec()),
        ("missing", b"{}".to_vec()),
        ("wide", {
            forged["up_ms"] = json!(-1);
            forged.to_string().into_bytes()
        }),
    ] {
        store.put(format!("{k}.{under}"), text.into()).await.unwrap();
    }

    assert_eq!(ids(&bucket, &k).await, ["real"]);
    let (code, lines, stderr) = run(&bucket, &["status", k.as_str()]);
    assert_eq!((code, lines.len(), stderr.as_str()), (0, 1, ""));
    let (code, answer, _) = run(&bucket, &["put", k.as_str(), "--wait", "10s", &document("n = 2")]);
    assert_eq!((code, &answer[0]["applied"]), (0, &json!(["real"])));
}

/// A file that holds `text`, kept until the tests end.
pub(crate) fn document(text: &str) -> String {
    let file = tempfile::Builder::new().suffix(".toml").tempfile_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    std::fs::write(file.path(), text).unwrap();
    let path = file.into_temp_path();
    let shown = path.display().to_string();
    // Read by one command, a moment later; the directory is this build's own.
    path.keep().unwrap();
    shown
}

#[tokio::test(flavor = "multi_thread")]
async fn watched_off_a_terminal_it_tells_each_change_and_who_is_gone() {
    let (bucket, k) = own_key().await;
    let first = put(&bucket, &k, "n = 1").await;
    let a = instance(&bucket, &k, "a").await;
    wait_applied(&bucket, &k, "a", first).await;
    let url = bucket.connection().servers().to_owned();
    let mut watch = Daemon::start([
        "status",
        k.as_str(),
        "--watch",
        "--server",
        &url,
        "--bucket",
        bucket.name(),
        "--format",
        "json",
    ]);
    let line =
        |id: &'static str, state: &'static str| move |line: &Value| line["instance"] == id && line["state"] == state;
    watch.wait_event(DEADLINE, line("a", "applied"));

    let b = instance(&bucket, &k, "b").await;
    watch.wait_event(DEADLINE, line("b", "applied"));
    put(&bucket, &k, "n = 2\ninvalid_for = ['b']").await;
    let told = watch.wait_event(DEADLINE, line("b", "rejected"));
    assert_eq!(told["reason"], "b does not like 2");
    b.close().await;
    watch.wait_event(DEADLINE, line("b", "gone"));
    let quiet = watch.events().len();
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(watch.events().len(), quiet, "a beat is no news: {:#?}", watch.events());
    watch.sigterm();
    assert_eq!(watch.wait_exit(), 0);
    drop(a);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_of_records_that_others_made_serves_and_without_one_only_the_records_are_missing() {
    let server = support::shared(NEWEST);
    let k = key("service1");
    // Made before by another client: on disk, with a history, and nothing ages.
    let bucket = connect(&server.url()).await.bucket(&support::bucket()).unwrap();
    let client = async_nats::connect(server.url()).await.unwrap();
    let config = async_nats::jetstream::kv::Config {
        bucket: format!("{}_status", bucket.name()),
        history: 5,
        ..Default::default()
    };
    async_nats::jetstream::new(client.clone()).create_key_value(config).await.unwrap();
    make(&bucket, Feed::Republished, &server.url(), 1).await;
    let a = instance(&bucket, &k, "a").await;
    let b = instance(&bucket, &k, "b").await;
    let revision = put(&bucket, &k, "n = 1").await;
    for id in ["a", "b"] {
        wait_applied(&bucket, &k, id, revision).await;
    }
    let (code, answer, stderr) = run(&bucket, &["put", "service1", "--wait", "20s", &document("n = 2")]);
    assert_eq!((code, &answer[0]["applied"]), (0, &json!(["a", "b"])), "{stderr}");
    drop(b);
    let died = Instant::now();
    while ids(&bucket, &k).await.len() > 1 {
        assert!(died.elapsed() < Duration::from_secs(15), "the dead one is still there");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    // Deleted under them: put makes it again, and waits until they have told again.
    async_nats::jetstream::new(client).delete_stream(format!("KV_{}_status", bucket.name())).await.unwrap();
    assert_eq!(run(&bucket, &["status"]).0, 0);
    let (code, answer, stderr) = run(&bucket, &["put", "service1", "--wait", "20s", &document("n = 3")]);
    assert_eq!((code, &answer[0]["applied"]), (0, &json!(["a"])), "{stderr}");
    drop(a);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_of_the_server_whoever_publishes_makes_the_records_again() {
    let mut server = Server::start();
    let (bucket, k) = (fresh_on(&server).await, key("service1"));
    let _live = instance(&bucket, &k, "a").await;
    let revision = put(&bucket, &k, "n = 1").await;
    wait_applied(&bucket, &k, "a", revision).await;
    server.kill9();
    server.restart();

    let (code, lines, _) = run(&bucket, &["put", "service1", &document("n = 2")]);

    assert_eq!(code, 0);
    let revision = confhot::kv::Revision(lines[0]["revision"].as_u64().unwrap());
    wait_applied(&bucket, &k, "a", revision).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_server_forgets_nobody_though_nobody_publishes() {
    let mut server = Server::start();
    let (bucket, k) = (fresh_on(&server).await, key("service1"));
    let _lives = (instance(&bucket, &k, "a").await, instance(&bucket, &k, "b").await);
    // Else it might be the bucket that is new.
    tokio::time::sleep(Duration::from_secs(2)).await;
    for outage in [Duration::ZERO, Duration::from_secs(3)] {
        server.kill9();
        tokio::time::sleep(outage).await;
        server.restart();

        let (code, lines, stderr) = run(&bucket, &["status"]);

        let ids: Vec<_> = lines.iter().map(|line| &line["instance"]).collect();
        assert_eq!((code, json!(ids)), (0, json!(["a", "b"])), "{stderr}");
    }
    // It waits for those who were cut off, and not where there is nobody.
    let (nobody, began) = (fresh_on(&server).await, Instant::now());
    assert_eq!(run(&nobody, &["status"]).1, Vec::<Value>::new());
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_domain_instances_are_known_too() {
    let server = Server::with(NEWEST, |settings| {
        let dir = settings.data_dir.display();
        settings.extra = format!("jetstream {{ domain: hub, store_dir: \"{dir}\" }}");
    });
    let bucket = async || {
        let mut to = Connect::to([server.url()]);
        to.domain = Some("hub".into());
        Connection::open(&to).await.unwrap().bucket("configs").unwrap()
    };
    let (ours, k) = (bucket().await, key("service1"));
    ours.ensure(&confhot::kv::Settings::default()).await.unwrap();
    let _live = following(&bucket().await, &k, "a").start();
    wait_status(&ours, &k, "a", |_| true).await;

    let mut wait = Wait::begin(&ours, Some(&k), DEADLINE).await.unwrap();
    let revision = put(&ours, &k, "n = 1").await;
    let target = Target { key: k, revision, digest: confhot::document::Digest::of(b"n = 1") };
    let waited = wait.until_applied(&[target], None, |_, _| {}).await;
    assert_eq!(waited.verdict, Verdict::Applied);
    assert_eq!(waited.members.iter().map(|it| it.instance.as_str()).collect::<Vec<_>>(), ["a"]);
}
