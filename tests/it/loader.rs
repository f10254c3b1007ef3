//! `confhot loader` as a script sees it: real files, a real server, events as JSON, exit codes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::feed;
use crate::support::{CONFHOT, Cluster, DEADLINE, Daemon, Server, VERSIONS, bucket, confhot, eventually, shared};

/// A directory and the bucket that is to hold what it holds.
struct Scene {
    dir: TempDir,
    url: String,
    bucket: String,
}

impl Scene {
    fn at(url: String) -> Self {
        Scene { dir: tempfile::tempdir().unwrap(), url, bucket: bucket() }
    }

    fn new() -> Self {
        Self::at(shared(VERSIONS[VERSIONS.len() - 1]).url())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Saves a file at once, as most editors do.
    fn save(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let temporary = path.with_file_name(".save.tmp");
        fs::write(&temporary, text).unwrap();
        fs::rename(temporary, path).unwrap();
    }

    fn args(&self, more: &[&str]) -> Vec<String> {
        let dir = self.dir.path().to_str().unwrap();
        let common = ["--server", &self.url, "--bucket", &self.bucket, "--format", "json"];
        ["loader", "--dir", dir].iter().chain(&common).chain(more).map(|arg| (*arg).to_owned()).collect()
    }

    /// A running loader, once it is ready.
    fn run(&self, more: &[&str]) -> Daemon {
        let mut loader = Daemon::start(self.args(more));
        loader.event("ready");
        loader
    }

    /// Events and exit code of one sync.
    fn once(&self, more: &[&str]) -> (Vec<Value>, i32) {
        let output = confhot().args(self.args(&[&["--once"], more].concat())).output().unwrap();
        let events = String::from_utf8(output.stdout).unwrap();
        let events = events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (events, output.status.code().unwrap_or_else(|| panic!("{:?}", output.status)))
    }

    fn confhot(&self, args: &[&str]) -> std::process::Output {
        let global = ["--server", &self.url, "--bucket", &self.bucket, "--format", "json"];
        confhot().args(args).args(global).output().unwrap()
    }

    /// The bytes that the bucket holds, if it holds any.
    fn value(&self, key: &str) -> Option<String> {
        let args = ["get", key, "--server", &self.url, "--bucket", &self.bucket];
        let output = confhot().args(args).output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    }

    fn history(&self, key: &str) -> Vec<Value> {
        let output = self.confhot(&["history", key]);
        String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Publishes as `confhot put` does.
    fn put(&self, key: &str, text: &str) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let bucket = feed::connect(&self.url).await.bucket(&self.bucket).unwrap();
            feed::put(&bucket, &feed::key(key), text).await;
        });
    }

    #[track_caller]
    fn holds(&self, key: &str, text: &str) {
        eventually(&format!("{key} holds {text:?}"), DEADLINE, || (self.value(key)? == text).then_some(()));
    }
}

fn published(key: &str) -> impl Fn(&Value) -> bool {
    move |event| event["event"] == "published" && event["key"] == key
}

fn names(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["event"].as_str().unwrap()).collect()
}

fn count(events: &[Value], name: &str) -> usize {
    events.iter().filter(|event| event["event"] == name).count()
}

/// The newest event about a key, of that name.
fn refused(loader: &mut Daemon, path: &str) -> Value {
    loader.wait_event(DEADLINE, |event| event["event"] == "refused" && event["path"] == path)
}

#[test]
fn a_start_publishes_what_differs_and_each_save_follows_until_sigterm() {
    for version in VERSIONS {
        let scene = Scene::at(shared(version).url());
        scene.save("service1.toml", "port = 1\n");
        scene.save("billing/api.yaml", "port: 1\n");
        scene.save("billing/web.json", "{\"port\":1}");
        for ignored in [".hidden.toml", "a.toml~", "a.swp", "4913", "#x.toml#", "x.tmp", "notes.txt"] {
            fs::write(scene.path(ignored), "x = 1").unwrap();
        }
        let mut loader = Daemon::start(scene.args(&[]));
        assert_eq!(loader.event("ready")["files"], 3);
        assert_eq!(count(loader.events(), "published"), 3);
        assert_eq!(scene.value("billing.api").as_deref(), Some("port: 1\n"));

        scene.save("service1.toml", "port = 2\n");
        let event = loader.wait_event(DEADLINE, published("service1"));
        assert_eq!(
            (&event["revision"], &event["path"], &event["set"]),
            (&4.into(), &"service1.toml".into(), &Value::Null)
        );
        assert_eq!(scene.value("service1").as_deref(), Some("port = 2\n"));

        loader.sigterm();
        assert_eq!(loader.wait_exit(), 0);
        assert_eq!(count(loader.events(), "refused"), 0, "{:#?}", loader.events());
    }
}

#[test]
fn equal_bytes_and_a_touch_make_no_revision() {
    let scene = Scene::new();
    scene.save("a.toml", "n = 1\n");
    let mut loader = scene.run(&[]);

    scene.save("a.toml", "n = 1\n");
    fs::write(scene.path("a.toml"), "n = 1\n").unwrap();
    fs::File::open(scene.path("a.toml")).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    // What follows is told after it.
    scene.save("b.toml", "n = 1\n");
    loader.wait_event(DEADLINE, published("b"));

    assert_eq!(scene.history("a").len(), 1);
}

#[test]
fn what_is_not_a_document_is_refused_with_its_place_and_the_last_value_stays() {
    let scene = Scene::new();
    scene.save("a.toml", "port = 1\n");
    let mut loader = scene.run(&[]);
    let huge = format!("x = \"{}\"\n", "y".repeat(2 << 20));
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(5000), "]".repeat(5000));
    let cases: [(&str, &[u8], Option<u32>); 11] = [
        ("a.toml", b"ok = 1\nport 8080\n", Some(2)),
        ("dup.toml", b"a = 1\na = 2\n", Some(2)),
        ("dup1.json", b"{\"a\": 1,\n \"a\": 2}", Some(2)),
        ("dup2.yaml", b"a: 1\na: 2\n", Some(2)),
        ("latin.toml", b"a = \"\xe9\"\n", Some(1)),
        ("deep.json", deep.as_bytes(), None),
        ("huge.toml", huge.as_bytes(), None),
        ("empty.toml", b"", None),
        ("scalar.yaml", b"just text\n", None),
        ("_x.toml", b"a = 1\n", None),
        ("sp ace.toml", b"a = 1\n", None),
    ];
    for (path, bytes, line) in cases {
        scene.save(path, bytes);
        let event = refused(&mut loader, path);
        if line.is_some() {
            assert_eq!(event["line"].as_u64(), line.map(u64::from), "{path}: {event}");
        }
        assert!(!event["reason"].as_str().unwrap().is_empty(), "{path}: {event}");
        if path == "a.toml" {
            assert_eq!(event["column"], 6, "{event}");
        }
        if path == "sp ace.toml" {
            assert!(event["reason"].as_str().unwrap().contains(' ') && event["key"].is_null(), "{event}");
        }
    }
    assert_eq!(scene.value("a").as_deref(), Some("port = 1\n"));
    assert_eq!(scene.value("huge"), None);

    scene.save("a.toml", "port = 1\n");
    loader.wait_event(DEADLINE, |event| event["event"] == "unchanged" && event["key"] == "a");
    assert_eq!(scene.history("a").len(), 1);
}

#[test]
fn a_member_that_is_too_large_does_not_take_the_others_with_it() {
    let scene = Scene::new();
    fs::create_dir(scene.path("..1")).unwrap();
    for key in ["a", "b", "c"] {
        fs::write(scene.path("..1").join(format!("{key}.toml")), "n = 1\n").unwrap();
        std::os::unix::fs::symlink(format!("..data/{key}.toml"), scene.path(&format!("{key}.toml"))).unwrap();
    }
    std::os::unix::fs::symlink("..1", scene.path("..data")).unwrap();
    let mut loader = scene.run(&[]);

    fs::create_dir(scene.path("..2")).unwrap();
    let huge = format!("x = \"{}\"\n", "y".repeat(2 << 20));
    for (key, text) in [("a", "n = 2\n"), ("b", &huge), ("c", "n = 2\n")] {
        fs::write(scene.path("..2").join(format!("{key}.toml")), text).unwrap();
    }
    std::os::unix::fs::symlink("..2", scene.path("..tmp")).unwrap();
    fs::rename(scene.path("..tmp"), scene.path("..data")).unwrap();

    refused(&mut loader, "b.toml");
    scene.holds("a", "n = 2\n");
    scene.holds("c", "n = 2\n");
    assert_eq!(scene.value("b").as_deref(), Some("n = 1\n"));
    assert_eq!(count(loader.events(), "refused"), 1, "{:#?}", loader.events());
}

#[test]
fn two_files_for_one_key_are_both_refused_until_one_goes() {
    let scene = Scene::new();
    scene.save("a.toml", "n = 1\n");
    scene.save("a.json", "{\"n\":2}");
    let mut loader = scene.run(&[]);
    let events = loader.events().to_vec();
    let told: Vec<_> = events.iter().filter(|event| event["event"] == "refused").collect();
    assert_eq!(told.len(), 2, "{events:#?}");
    for event in told {
        let reason = event["reason"].as_str().unwrap();
        assert!(reason.contains("a.toml") && reason.contains("a.json"), "{reason}");
    }
    assert_eq!(scene.value("a"), None);

    fs::remove_file(scene.path("a.json")).unwrap();
    loader.wait_event(DEADLINE, published("a"));
    assert_eq!(scene.value("a").as_deref(), Some("n = 1\n"));
}

#[test]
fn once_and_dry_run_answer_by_their_exit_codes() {
    let scene = Scene::new();
    scene.save("a.toml", "n = 1\n");
    let (events, code) = scene.once(&["--dry-run"]);
    assert_eq!((names(&events), code), (vec!["would_publish"], 1));
    assert_eq!(scene.confhot(&["keys"]).status.code(), Some(1), "a dry run made the bucket");

    let (events, code) = scene.once(&[]);
    assert_eq!((count(&events, "published"), code), (1, 0));
    let (events, code) = scene.once(&["--dry-run"]);
    assert_eq!((count(&events, "unchanged"), code), (1, 0));

    scene.save("bad.toml", "=");
    assert_eq!(scene.once(&[]).1, 1);
    fs::remove_file(scene.path("bad.toml")).unwrap();
    assert_eq!(scene.once(&[]).1, 0);

    fs::remove_dir_all(scene.dir.path()).unwrap();
    assert_eq!(scene.once(&[]).1, 2);
    assert_eq!(confhot().args(scene.args(&[])).output().unwrap().status.code(), Some(2), "unreadable --dir");
    let nowhere = Scene::at("nats://127.0.0.1:1".into());
    assert_eq!(nowhere.once(&["--timeout", "1s"]).1, 2);
}

#[test]
fn drift_is_told_left_alone_and_ended_by_a_change_of_the_file_or_by_enforce() {
    let scene = Scene::new();
    scene.save("a.toml", "n = 1\n");
    scene.save("b.toml", "n = 1\n");
    let mut loader = scene.run(&[]);

    scene.put("a", "n = 9\n");
    let event = loader.event("drift");
    assert_eq!((&event["key"], &event["by"]), (&"a".into(), &"put".into()));
    assert!(scene.confhot(&["delete", "b", "--yes"]).status.success());
    let event = loader.event("drift");
    assert_eq!((&event["key"], &event["by"]), (&"b".into(), &"delete".into()));
    assert_eq!(scene.value("a").as_deref(), Some("n = 9\n"));

    // One that starts now and one that syncs once see the same.
    let (events, code) = scene.once(&[]);
    assert_eq!((count(&events, "drift"), count(&events, "published"), code), (2, 0, 1), "{events:#?}");
    let mut other = scene.run(&[]);
    assert_eq!((count(other.events(), "drift"), count(other.events(), "published")), (2, 0));
    drop(other);

    scene.save("a.toml", "n = 2\n");
    loader.wait_event(DEADLINE, published("a"));
    drop(loader);
    let (events, code) = scene.once(&["--enforce"]);
    assert_eq!((count(&events, "published"), code), (1, 0), "{events:#?}");
    assert_eq!(scene.value("b").as_deref(), Some("n = 1\n"));

    let mut loader = scene.run(&["--enforce"]);
    scene.put("a", "n = 9\n");
    loader.wait_event(DEADLINE, published("a"));
    assert_eq!(scene.value("a").as_deref(), Some("n = 2\n"));
}

#[test]
fn prune_deletes_its_own_keys_only_and_never_many_at_once_or_all() {
    let scene = Scene::new();
    for n in 0..6 {
        scene.save(&format!("k{n}.toml"), format!("n = {n}\n"));
    }
    assert_eq!(scene.once(&[]).1, 0);
    scene.put("theirs", "n = 1\n");

    for n in 0..3 {
        fs::remove_file(scene.path(&format!("k{n}.toml"))).unwrap();
    }
    let (events, code) = scene.once(&["--prune"]);
    assert_eq!((count(&events, "deleted"), count(&events, "refused"), code), (0, 1, 1), "{events:#?}");
    let (events, code) = scene.once(&["--prune", "--yes", "--dry-run"]);
    assert_eq!((count(&events, "would_delete"), code), (3, 1), "{events:#?}");
    let (events, code) = scene.once(&["--prune", "--yes"]);
    assert_eq!((count(&events, "deleted"), code), (3, 0), "{events:#?}");
    assert!(scene.value("theirs").is_some());

    let mut loader = scene.run(&["--prune"]);
    fs::remove_file(scene.path("k3.toml")).unwrap();
    assert_eq!(loader.event("deleted")["key"], "k3");
    drop(loader);

    let mut loader = scene.run(&[]);
    fs::remove_file(scene.path("k4.toml")).unwrap();
    assert_eq!(loader.event("removed")["key"], "k4");
    assert!(scene.value("k4").is_some());
    drop(loader);

    fs::remove_file(scene.path("k5.toml")).unwrap();
    let (events, code) = scene.once(&["--prune", "--yes"]);
    assert_eq!((count(&events, "deleted"), code), (0, 1), "{events:#?}");
    let (events, code) = scene.once(&["--prune", "--yes", "--allow-empty"]);
    assert_eq!((count(&events, "deleted"), code), (2, 0), "{events:#?}");
}

fn git(dir: &Path, args: &[&str]) -> String {
    let output = Command::new("git").arg("-C").arg(dir).args(args).output().unwrap();
    assert!(output.status.success(), "git {args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_git_checkout_is_one_change_set_with_the_new_commit_on_each_member() {
    for version in [VERSIONS[0], VERSIONS[2]] {
        let scene = Scene::at(shared(version).url());
        let dir = scene.dir.path();
        git(dir, &["init", "-q", "-b", "main"]);
        git(dir, &["config", "user.name", "Jo"]);
        git(dir, &["config", "user.email", "jo@example.org"]);
        let keys: Vec<String> = (0..8).map(|n| format!("k{n}")).collect();
        let commit = |text: &str| {
            keys.iter().for_each(|key| fs::write(scene.path(&format!("{key}.toml")), text).unwrap());
            git(dir, &["add", "."]);
            git(dir, &["commit", "-q", "-m", text]);
            git(dir, &["rev-parse", "HEAD"])
        };
        let first = commit("n = 1\n");
        git(dir, &["checkout", "-q", "-b", "other"]);
        let second = commit("n = 2\n");
        git(dir, &["checkout", "-q", "main"]);
        let mut loader = scene.run(&[]);
        let head = scene.history("k0").remove(0);
        assert_eq!((&head["writer"], &head["commit"]), (&"loader".into(), &first.as_str().into()));
        assert_eq!((&head["author"], &head["format"]), (&"Jo <jo@example.org>".into(), &"toml".into()));
        assert!(head["set"].is_null(), "{head}");

        git(dir, &["checkout", "-q", "other"]);
        let sets: Vec<Value> = (keys.iter())
            .map(|key| {
                scene.holds(key, "n = 2\n");
                let head = scene.history(key).remove(0);
                assert_eq!(head["commit"], second.as_str(), "{version}: {head}");
                head["set"].clone()
            })
            .collect();
        assert!(!sets[0].is_null() && sets.iter().all(|set| *set == sets[0]), "{version}: {sets:?}");

        scene.save("k0.toml", "n = 3\n");
        loader.wait_event(DEADLINE, |event| published("k0")(event) && event["revision"].as_u64() > Some(16));
        assert!(scene.history("k0")[0]["commit"].is_null(), "the file differs from its blob at HEAD");
    }
}

#[test]
fn saves_while_the_server_is_dead_end_in_the_bucket() {
    let mut server = Server::start();
    let scene = Scene::at(server.url());
    for key in ["a", "b", "c", "d"] {
        scene.save(&format!("{key}.toml"), "n = 0\n");
    }
    let mut loader = scene.run(&[]);

    for round in 1..=2 {
        server.kill9();
        for n in 0..20 {
            for key in ["a", "b", "c", "d"] {
                scene.save(&format!("{key}.toml"), format!("n = {round}{n}\n"));
            }
        }
        loader.event("disconnected");
        server.restart();
        // Also what is saved in the moment of the return.
        scene.save("d.toml", format!("last = {round}\n"));
        loader.event("connected");
        for key in ["a", "b", "c"] {
            scene.holds(key, &format!("n = {round}19\n"));
        }
        scene.holds("d", &format!("last = {round}\n"));
    }
    let events = loader.events();
    assert_eq!((count(events, "disconnected"), count(events, "connected")), (2, 3), "{events:#?}");
}

#[test]
fn a_server_that_is_absent_at_the_start_is_said_once_and_waited_for() {
    let mut server = Server::start();
    let scene = Scene::at(server.url());
    scene.save("a.toml", "n = 1\n");
    server.kill9();
    let mut loader = Daemon::start(scene.args(&[]));
    loader.event("disconnected");
    scene.save("a.toml", "n = 2\n");
    server.restart();
    loader.event("ready");
    scene.holds("a", "n = 2\n");
    assert_eq!(count(loader.events(), "disconnected"), 1, "{:#?}", loader.events());

    // The first outage must not have used up the word for the next.
    server.kill9();
    loader.event("disconnected");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_deleted_is_made_again_with_everything() {
    let scene = Scene::new();
    scene.save("a.toml", "n = 1\n");
    scene.save("b.toml", "n = 1\n");
    let mut loader = scene.run(&[]);
    let client = async_nats::connect(&scene.url).await.unwrap();
    let jetstream = async_nats::jetstream::new(client);
    jetstream.delete_key_value(&scene.bucket).await.unwrap();

    loader.wait_event(DEADLINE, published("a"));
    loader.wait_event(DEADLINE, published("b"));
    scene.save("a.toml", "n = 2\n");
    scene.holds("a", "n = 2\n");

    // A client without headers: drift by nobody that is known.
    let store = jetstream.get_key_value(&scene.bucket).await.unwrap();
    store.put("a", "n = 7".into()).await.unwrap();
    let event = loader.event("drift");
    assert!(event["by"].is_null() && event["key"] == "a", "{event}");
}

#[test]
fn what_cannot_be_read_is_refused_and_published_when_it_can() {
    let scene = Scene::new();
    scene.save("a.toml", "n = 1\n");
    fs::create_dir(scene.path("pipes")).unwrap();
    std::os::unix::fs::symlink("loop.toml", scene.path("loop.toml")).unwrap();
    let mut loader = scene.run(&[]);
    assert_eq!(count(loader.events(), "refused"), 1, "{:#?}", loader.events());

    // A symlink that leads to a directory of another kind of thing: a character device.
    fs::rename(scene.path("a.toml"), scene.path("a.keep")).unwrap();
    std::os::unix::fs::symlink("/dev/null", scene.path("a.toml")).unwrap();
    refused(&mut loader, "a.toml");
    fs::rename(scene.path("a.keep"), scene.path("a.toml")).unwrap();
    loader.wait_event(DEADLINE, |event| event["event"] == "unchanged" && event["key"] == "a");

    std::os::unix::fs::symlink("/dev/null", scene.path("new.toml")).unwrap();
    refused(&mut loader, "new.toml");
    scene.save("new.toml", "n = 1\n");
    loader.wait_event(DEADLINE, published("new"));
    fs::remove_file(scene.path("loop.toml")).unwrap();
    scene.save("loop.toml", "n = 1\n");
    loader.wait_event(DEADLINE, published("loop"));
}

#[test]
fn a_directory_that_is_replaced_is_followed() {
    let scene = Scene::new();
    let root = scene.dir.path().to_owned();
    for (name, n) in [("one", 1), ("two", 2)] {
        fs::create_dir(root.join(name)).unwrap();
        fs::write(root.join(name).join("a.toml"), format!("n = {n}\n")).unwrap();
    }
    std::os::unix::fs::symlink("one", root.join("current")).unwrap();
    let mut args = scene.args(&[]);
    args[2] = root.join("current").to_str().unwrap().to_owned();
    let mut loader = Daemon::start(args);
    loader.event("ready");

    std::os::unix::fs::symlink("two", root.join("next")).unwrap();
    fs::rename(root.join("next"), root.join("current")).unwrap();
    scene.holds("a", "n = 2\n");
    fs::rename(root.join("two"), root.join("away")).unwrap();
    fs::rename(root.join("away"), root.join("two")).unwrap();
    fs::write(root.join("two/a.toml"), "n = 3\n").unwrap();
    scene.holds("a", "n = 3\n");
    fs::remove_dir_all(root.join("two")).unwrap();
    fs::create_dir(root.join("two")).unwrap();
    fs::write(root.join("two/a.toml"), "n = 4\n").unwrap();
    scene.holds("a", "n = 4\n");
    assert_eq!(count(loader.events(), "removed"), 0, "{:#?}", loader.events());
}

#[test]
fn a_burst_of_saves_in_place_never_publishes_a_torn_one() {
    use std::io::Write as _;
    let scene = Scene::new();
    let body = |n: usize| format!("n = {n}\nend = {n}\n");
    scene.save("a.toml", body(0));
    let _loader = scene.run(&[]);
    let saves = if std::env::var_os("CONFHOT_SOAK").is_some() { 5000 } else { 200 };
    for n in 1..=saves {
        let text = body(n);
        // The first half is a valid document by itself.
        let half = text.find("end").unwrap();
        let mut file = fs::File::create(scene.path("a.toml")).unwrap();
        file.write_all(&text.as_bytes()[..half]).unwrap();
        if n % 7 == 0 {
            std::thread::sleep(Duration::from_millis(2));
        }
        file.write_all(&text.as_bytes()[half..]).unwrap();
    }
    scene.holds("a", &body(saves));
    for entry in scene.history("a") {
        let value = scene.confhot(&["get", "a", "--revision", &entry["revision"].to_string()]);
        let value: Value = serde_json::from_slice(&value.stdout).unwrap();
        assert_eq!(value["value"]["n"], value["value"]["end"], "{value}");
    }
}

#[test]
fn what_changed_while_no_loader_ran_is_published_by_the_next() {
    let scene = Scene::new();
    scene.save("a.toml", "n = 1\n");
    let mut loader = scene.run(&[]);
    loader.kill9();
    scene.save("a.toml", "n = 2\n");
    let mut loader = scene.run(&[]);
    assert_eq!(scene.value("a").as_deref(), Some("n = 2\n"));
    loader.signal(Signal::INT);
    assert_eq!(loader.wait_exit(), 0);
}

#[test]
fn a_new_bucket_in_a_cluster_has_the_replicas_that_were_asked_for() {
    let mut cluster = Cluster::three();
    let scene = Scene::at(cluster.urls());
    scene.save("a.toml", "n = 1\n");
    let (events, code) = scene.once(&["--replicas", "3"]);
    assert_eq!((count(&events, "published"), code), (1, 0), "{events:#?}");
    let leader = cluster.leader_of(&format!("KV_{}", scene.bucket));
    let page = cluster.server(leader).monitoring("jsz?accounts=true&streams=true&config=true").unwrap();
    let streams = page["account_details"][0]["stream_detail"].as_array().unwrap().clone();
    let name = format!("KV_{}", scene.bucket);
    let stream = streams.iter().find(|stream| stream["name"] == name.as_str()).unwrap();
    assert_eq!(stream["config"]["num_replicas"], 3);
}

#[test]
fn a_loader_without_a_server_stops_when_it_is_told_to() {
    let mut server = Server::start();
    let scene = Scene::at(server.url());
    for n in 0..8 {
        scene.save(&format!("k{n}.toml"), "n = 1\n");
    }
    let mut loader = scene.run(&[]);
    // It takes the saves for publishable, and gets no answer.
    server.freeze();
    for n in 0..8 {
        scene.save(&format!("k{n}.toml"), "n = 2\n");
    }
    std::thread::sleep(Duration::from_millis(100));
    let asked = std::time::Instant::now();
    loader.sigterm();
    assert_eq!(loader.wait_exit(), 0);
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
    server.thaw();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_save_whose_acknowledgement_was_lost_is_not_put_back_over_a_rollback() {
    let mut server = Server::start();
    let scene = Scene::at(server.url());
    scene.save("a.toml", "n = 1\n");
    let mut loader = scene.run(&["--timeout", "300ms"]);
    let store = feed::connect(&server.url()).await.bucket(&scene.bucket).unwrap();
    let key = feed::key("a");
    let first = store.head(&key).await.unwrap().unwrap();

    server.freeze();
    scene.save("a.toml", "n = 2\n");
    eventually("it has given up on an answer", DEADLINE, || loader.stderr().contains("did not answer").then_some(()));
    // It is to wake up to a save that was stored, and rolled back, while it heard nothing.
    loader.signal(Signal::STOP);
    server.thaw();
    let stored = loop {
        match store.head(&key).await.unwrap() {
            Some(head) if head.revision > first.revision => break head,
            _ => tokio::time::sleep(Duration::from_millis(2)).await,
        }
    };
    let back = store.publish(&confhot::kv::Write::rollback(&stored, &first)).await.unwrap().revision;
    loader.signal(Signal::CONT);

    let drift = loader.event("drift");
    assert_eq!((drift["key"].as_str(), drift["revision"].as_u64()), (Some("a"), Some(back.0)));
    // It tries again what it takes for unfinished as soon as it is connected anew, and only then what is saved.
    server.kill9();
    server.restart();
    loader.event("connected");
    scene.save("b.toml", "n = 1\n");
    loader.wait_event(DEADLINE, published("b"));
    assert_eq!(store.head(&key).await.unwrap().unwrap().revision, back);
    scene.save("a.toml", "n = 3\n");
    loader.wait_event(DEADLINE, published("a"));
}

/// The loader as somebody who may not read everything: root may, so it becomes `nobody`.
fn as_nobody(command: &mut Command) {
    use std::os::unix::process::CommandExt as _;
    if rustix::process::geteuid().is_root() {
        command.uid(65534).gid(65534);
    }
}

#[test]
fn what_may_not_be_read_keeps_its_value_and_nothing_is_pruned_meanwhile() {
    use std::os::unix::fs::PermissionsExt as _;
    let chmod = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let scene = Scene::new();
    scene.save("sub/a.toml", "n = 1\n");
    scene.save("b.toml", "n = 1\n");
    scene.save("c.toml", "n = 1\n");
    chmod(scene.dir.path(), 0o755);
    chmod(&scene.path("c.toml"), 0o000);
    if fs::File::open(scene.path("c.toml")).is_ok() && !can_become_nobody(scene.dir.path()) {
        panic!("neither is this user refused anything, nor can the binary be run by another one");
    }
    let mut loader = Daemon::with(scene.args(&["--prune", "--poll", "500ms"]), as_nobody);
    assert_eq!(loader.event("refused")["path"], "c.toml");
    loader.event("ready");

    // Not a change of content: published because it never was.
    chmod(&scene.path("c.toml"), 0o644);
    loader.wait_event(DEADLINE, published("c"));
    // What is readable again as it was did not change, so it is not put over what another one wrote meanwhile.
    chmod(&scene.path("b.toml"), 0o000);
    refused(&mut loader, "b.toml");
    scene.put("b", "n = 9\n");
    chmod(&scene.path("b.toml"), 0o644);
    loader.wait_event(DEADLINE, |event| event["event"] == "drift" && event["key"] == "b");

    chmod(&scene.path("sub"), 0o000);
    eventually("the directory cannot be listed", DEADLINE, || {
        loader.stderr().contains("cannot be listed").then_some(())
    });
    fs::remove_file(scene.path("c.toml")).unwrap();
    loader.wait_event(DEADLINE, |event| {
        event["event"] == "refused" && event["reason"].as_str().unwrap().contains("nothing is deleted")
    });
    assert!(scene.value("c").is_some() && scene.value("sub.a").is_some());
    chmod(&scene.path("sub"), 0o755);
    assert_eq!(scene.value("b").as_deref(), Some("n = 9\n"), "what did not change went over drift");
    assert_eq!(count(loader.events(), "deleted"), 0, "{:#?}", loader.events());
}

fn can_become_nobody(dir: &Path) -> bool {
    let mut command = Command::new("ls");
    as_nobody(&mut command);
    command.arg(dir).output().is_ok_and(|output| output.status.success())
}

#[test]
fn once_waits_for_a_save_that_is_under_way() {
    use std::io::Write as _;
    let scene = Scene::new();
    scene.save("a.toml", "n = 1\n");
    let path = scene.path("a.toml");
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writer = std::thread::spawn({
        let stop = stop.clone();
        move || {
            let mut n = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                n += 1;
                let mut file = fs::File::create(&path).unwrap();
                file.write_all(b"n = 1\n").unwrap();
                file.write_all(format!("end = {n}\n").as_bytes()).unwrap();
                drop(file);
                std::thread::sleep(Duration::from_millis(3));
            }
        }
    });
    let (events, code) = scene.once(&[]);
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    writer.join().unwrap();
    assert_eq!(code, 0, "{events:#?}");
    let value = scene.value("a").expect("published");
    assert!(value.contains("end = "), "{value:?}");
}

/// A loader where the kernel allows only so much of inotify: the limits of a user namespace of its own. None where this
/// machine lets nobody make one (user_namespaces(7)).
fn limited(scene: &Scene, limit: &str, most: u32) -> Option<Daemon> {
    let mut probe = Command::new("unshare");
    if !probe.args(["--user", "--map-root-user", "true"]).status().is_ok_and(|status| status.success()) {
        eprintln!("NOT tested: there are no user namespaces here");
        return None;
    }
    let lower = format!("echo {most} > /proc/sys/user/{limit} && exec \"$@\"");
    let wrap = ["--user", "--map-root-user", "sh", "-c", &lower, "sh", CONFHOT].map(str::to_owned);
    let mut loader = Daemon::program("unshare", wrap.into_iter().chain(scene.args(&["--poll", "300ms"])), |_| {});
    loader.event("ready");
    Some(loader)
}

#[test]
fn without_inotify_watches_one_line_names_the_remedy_and_the_sweep_finds_what_changes() {
    let scene = Scene::new();
    for n in 0..10 {
        scene.save(&format!("d{n}/a.toml"), "x = 1");
    }
    let Some(loader) = limited(&scene, "max_inotify_watches", 5) else { return };

    for n in 0..10 {
        scene.save(&format!("d{n}/a.toml"), "x = 2");
        scene.save(&format!("d{n}/b.toml"), "x = 3");
    }
    for n in 0..10 {
        scene.holds(&format!("d{n}.a"), "x = 2");
        scene.holds(&format!("d{n}.b"), "x = 3");
    }

    let stderr = loader.stderr();
    assert_eq!(stderr.lines().filter(|line| line.contains("inotify")).count(), 1, "{stderr}");
    assert!(stderr.contains("`sysctl fs.inotify.max_user_watches="), "{stderr}");
}

#[test]
fn without_an_inotify_instance_one_line_names_the_remedy_and_the_sweep_finds_what_changes() {
    let scene = Scene::new();
    scene.save("a.toml", "x = 1");
    let Some(loader) = limited(&scene, "max_inotify_instances", 0) else { return };

    scene.save("a.toml", "x = 2");
    scene.holds("a", "x = 2");

    let stderr = loader.stderr();
    assert_eq!(stderr.lines().filter(|line| line.contains("inotify")).count(), 1, "{stderr}");
    assert!(stderr.contains("`sysctl fs.inotify.max_user_instances="), "{stderr}");
}
