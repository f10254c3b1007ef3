//! `confhot loader`, the real binary: what stands in the directory is what stands in the bucket, or a line says why not.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{self, Cluster, DEADLINE, Daemon, Server, Stage, VERSIONS, confhot, eventually, named};

#[test]
fn at_start_every_document_that_differs_is_published_with_its_provenance() {
    let stage = Stage::new();
    stage.save("service1.toml", "port = 1\n");
    stage.save("billing/api.yaml", "port: 2\n");
    stage.save("billing/deep/web.json", "{\"port\": 3}");
    for ignored in [".hidden.toml", "a.toml~", ".a.toml.swp", "4913", "#a.toml#", "a.tmp", "notes.md"] {
        stage.save(ignored, "x = 1");
    }
    stage.save(".git/config.toml", "x = 1");

    let mut loader = stage.loader(&[]);

    let (_, keys) = stage.confhot(&["keys", "--format", "json"]);
    let mut keys: Vec<Value> = keys.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    keys.sort_by_key(|key| key["key"].to_string());
    let told: Vec<_> = keys.iter().map(|key| (key["key"].as_str().unwrap(), key["format"].as_str().unwrap())).collect();
    assert_eq!(told, [("billing.api", "yaml"), ("billing.deep.web", "json"), ("service1", "toml")]);
    let head = &stage.history("billing.api")[0];
    assert_eq!((&head["writer"], &head["operation"], &head["set"]), (&"loader".into(), &"put".into(), &Value::Null));
    let ready = named(loader.events(), "ready")[0].clone();
    assert_eq!(ready["files"], 3);
    assert_eq!(stage.once(&[]).0, 0);
    loader.sigterm();
    assert_eq!(loader.wait_exit(), 0);
}

#[test]
fn a_save_is_published_and_a_touch_or_equal_bytes_make_no_revision() {
    let stage = Stage::new();
    stage.save("a.toml", "v = 1\n");
    let mut loader = stage.loader(&[]);

    stage.place("a.toml", "v = 2\n");
    let told = loader.event("published");
    assert_eq!((told["key"].as_str(), told["path"].as_str(), &told["set"]), (Some("a"), Some("a.toml"), &Value::Null));
    assert!(told["ms"].as_f64().unwrap() >= 0.0);
    assert!(told["digest"].as_str().unwrap().starts_with("sha256:"));

    stage.place("a.toml", "v = 2\n");
    Command::new("touch").arg(stage.dir().join("a.toml")).status().unwrap();
    // A later save tells that what was before it is through.
    stage.save("z.toml", "v = 1\n");
    loader.wait_event(DEADLINE, |event| event["event"] == "published" && event["key"] == "z");
    assert_eq!(stage.history("a").len(), 2);
}

#[test]
fn a_refusal_names_file_line_column_and_reason_and_the_last_published_value_stays() {
    let stage = Stage::new();
    let good = [("a.toml", "v = 1\n"), ("b.json", "{\"v\": 1}"), ("c.yaml", "v: 1\n")];
    for (path, text) in good {
        stage.save(path, text);
    }
    let mut loader = stage.loader(&[]);
    let deep = format!("v = {}{}\n", "[".repeat(50_000), "]".repeat(50_000));
    let cases: [(&str, &[u8], Option<u64>); 10] = [
        ("a.toml", b"v = 1\nw = \n", Some(2)),
        ("a.toml", b"v = 1\nv = 2\n", Some(2)),
        ("b.json", b"{\"v\": 1,\n \"v\": 2}", Some(2)),
        ("c.yaml", b"v: 1\nv: 2\n", Some(2)),
        ("a.toml", b"v = '\xff'\n", Some(1)),
        ("b.json", b"[1, 2]", None),
        ("c.yaml", b"just words\n", None),
        ("a.toml", b"", None),
        ("c.yaml", b"# nothing\n", None),
        ("a.toml", deep.as_bytes(), Some(1)),
    ];

    for (path, bytes, line) in cases {
        stage.place(path, bytes);
        let told = loader.event("refused");
        assert_eq!(told["path"], path);
        assert!(!told["reason"].as_str().unwrap().is_empty() && told["reason"].as_str().unwrap().len() < 400);
        if line.is_some() {
            assert_eq!(told["line"].as_u64(), line, "{told}");
            assert!(told["column"].is_u64(), "{told}");
        }
    }

    for (path, text) in good {
        assert_eq!(stage.value(&path[..1]).as_deref(), Some(text));
    }
    assert_eq!(stage.once(&[]).0, 1);
    // Mended with what was published last: nothing to publish, and no refusal is left.
    for (path, text) in good {
        stage.place(path, text);
    }
    eventually("all is well again", DEADLINE, || (stage.once(&[]).0 == 0).then_some(()));
    assert!(["a", "b", "c"].iter().all(|key| stage.history(key).len() == 1));
}

#[test]
fn a_value_over_the_servers_limit_is_refused_and_nothing_else_suffers() {
    let stage = Stage::new();
    stage.save("big.toml", format!("v = \"{}\"\n", "x".repeat(2 << 20)));
    stage.save("small.toml", "v = 1\n");

    let (code, events) = stage.once(&[]);

    let refused = named(&events, "refused");
    assert_eq!((code, refused.len()), (1, 1));
    let reason = refused[0]["reason"].as_str().unwrap();
    assert!(reason.contains("limit") && reason.len() < 200, "{reason}");
    assert_eq!(stage.value("small").as_deref(), Some("v = 1\n"));
}

#[test]
fn names_that_cannot_be_keys_and_two_files_of_one_key_are_refused_by_name() {
    let stage = Stage::new();
    stage.save("with space.toml", "v = 1\n");
    stage.save("_own.toml", "v = 1\n");
    stage.save("twice.toml", "v = 1\n");
    stage.save("twice.yaml", "v: 1\n");
    stage.save("fine.toml", "v = 1\n");
    let mut loader = stage.loader(&[]);

    let refused = named(loader.events(), "refused").into_iter().cloned().collect::<Vec<_>>();
    let reason = |path: &str| {
        let found = refused.iter().find(|event| event["path"] == path);
        found.unwrap_or_else(|| panic!("{path} is not refused")).get("reason").unwrap().as_str().unwrap().to_owned()
    };
    assert!(reason("with space.toml").contains("` `"), "{}", reason("with space.toml"));
    assert!(reason("_own.toml").contains('_'));
    for path in ["twice.toml", "twice.yaml"] {
        assert!(reason(path).contains("twice.toml") && reason(path).contains("twice.yaml"));
    }
    assert_eq!((stage.value("twice"), stage.value("fine").is_some()), (None, true));

    // One of the two goes: the other has the key for itself.
    fs::remove_file(stage.dir().join("twice.toml")).unwrap();
    stage.holds("twice", "v: 1\n");
}

#[test]
fn drift_is_reported_with_its_writer_and_left_alone_until_the_file_changes() {
    let stage = Stage::new();
    for key in ["a", "b", "c"] {
        stage.save(&format!("{key}.toml"), "v = 1\n");
    }
    let mut loader = stage.loader(&[]);

    stage.put("a", "v = 'put'\n");
    let told = loader.event("drift");
    assert_eq!((told["key"].as_str(), told["by"].as_str()), (Some("a"), Some("put")));
    stage.confhot(&["delete", "b", "--yes"]);
    assert_eq!(loader.event("drift")["by"], "delete");

    // A restarted and a single loader agree.
    assert_eq!(stage.once(&[]).0, 1);
    loader.sigterm();
    assert_eq!(loader.wait_exit(), 0);
    let mut loader = stage.loader(&[]);
    assert_eq!(named(loader.events(), "drift").len(), 2);
    assert_eq!(stage.value("a").as_deref(), Some("v = 'put'\n"));
    assert_eq!(stage.value("b"), None);

    stage.place("a.toml", "v = 2\n");
    loader.event("published");
    assert_eq!(stage.value("a").as_deref(), Some("v = 2\n"));
    assert_eq!(stage.once(&["--enforce"]).0, 0);
    assert_eq!(stage.value("b").as_deref(), Some("v = 1\n"));
}

#[test]
fn an_enforcing_loader_puts_the_directory_back_over_a_put() {
    let stage = Stage::new();
    stage.save("a.toml", "v = 1\n");
    let _loader = stage.loader(&["--enforce"]);

    stage.put("a", "v = 'put'\n");

    stage.holds("a", "v = 1\n");
    assert_eq!(stage.history("a").len(), 3);
}

#[test]
fn a_dry_run_writes_nothing_not_even_the_bucket() {
    let stage = Stage::new();
    stage.save("a.toml", "v = 1\n");

    let (code, events) = stage.once(&["--dry-run"]);

    assert_eq!((code, named(&events, "would_publish").len()), (1, 1));
    assert_eq!(stage.confhot(&["keys"]).0, 1, "there is a bucket");
    assert_eq!(stage.once(&[]).0, 0);
    assert_eq!(stage.once(&["--dry-run"]).0, 0);
    fs::remove_file(stage.dir().join("a.toml")).unwrap();
    stage.save("b.toml", "v = 1\n");
    let (code, events) = stage.once(&["--dry-run", "--prune"]);
    assert_eq!((code, named(&events, "would_delete")[0]["key"].as_str()), (1, Some("a")));
    assert!(stage.value("a").is_some());
}

#[test]
fn a_removed_file_deletes_its_key_only_with_prune_and_never_in_masses() {
    let stage = Stage::new();
    for n in 0..10 {
        stage.save(&format!("k{n}.toml"), "v = 1\n");
    }
    stage.put("foreign", "v = 1\n");
    let mut loader = stage.loader(&[]);
    fs::remove_file(stage.dir().join("k0.toml")).unwrap();
    assert_eq!(loader.event("removed")["key"], "k0");
    assert!(stage.value("k0").is_some());
    drop(loader);

    let mut loader = stage.loader(&["--prune"]);
    assert_eq!(named(loader.events(), "deleted").len(), 1);
    fs::remove_file(stage.dir().join("k1.toml")).unwrap();
    assert_eq!(loader.event("deleted")["key"], "k1");
    assert_eq!(stage.value("k1"), None);
    drop(loader);

    for n in 2..6 {
        fs::remove_file(stage.dir().join(format!("k{n}.toml"))).unwrap();
    }
    let (code, events) = stage.once(&["--prune"]);
    assert_eq!((code, named(&events, "deleted").len(), named(&events, "refused").len()), (1, 0, 1));
    let (code, events) = stage.once(&["--prune", "--yes"]);
    assert_eq!((code, named(&events, "deleted").len()), (0, 4));
    for n in 6..10 {
        fs::remove_file(stage.dir().join(format!("k{n}.toml"))).unwrap();
    }
    assert_eq!(stage.once(&["--prune", "--yes"]).0, 1, "an empty directory is not a wish");
    assert_eq!(stage.once(&["--prune", "--yes", "--allow-empty"]).0, 0);
    assert!(stage.value("foreign").is_some());
}

#[test]
fn an_empty_file_is_taken_only_when_it_is_allowed() {
    let stage = Stage::new();
    stage.save("a.toml", "");

    assert_eq!(stage.once(&[]).0, 1);
    assert_eq!(stage.once(&["--allow-empty"]).0, 0);
    assert_eq!(stage.value("a").as_deref(), Some(""));
}

fn git(dir: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(dir)
        .args(["-c", "user.name=Jo", "-c", "user.email=jo@example.org"])
        .args(args)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn files_that_a_checkout_changed_are_one_set_with_the_commit_that_they_came_with() {
    for version in VERSIONS {
        let stage = Stage::at(&support::shared(version).url());
        let root = stage.root.path();
        git(root, &["init", "-q", "-b", "one"]);
        git(root, &["config", "user.name", "Jo"]);
        git(root, &["config", "user.email", "jo@example.org"]);
        for key in ["a", "b", "c"] {
            stage.save(&format!("{key}.toml"), "v = 1\n");
        }
        git(root, &["add", "-A"]);
        git(root, &["commit", "-q", "-m", "one"]);
        git(root, &["checkout", "-q", "-b", "two"]);
        for key in ["a", "b", "c"] {
            stage.save(&format!("{key}.toml"), "v = 2\n");
        }
        git(root, &["commit", "-q", "-a", "-m", "two"]);
        let two = git(root, &["rev-parse", "HEAD"]);
        git(root, &["checkout", "-q", "one"]);
        let mut loader = stage.loader(&[]);

        git(root, &["checkout", "-q", "two"]);
        let told: Vec<_> = (0..3).map(|_| loader.event("published")).collect();

        assert_eq!(told[0]["set"]["members"], 3, "{version}");
        assert!(told.iter().all(|event| event["set"]["id"] == told[0]["set"]["id"]), "{version}");
        let head = &stage.history("b")[0];
        assert_eq!(
            (&head["commit"], &head["author"]),
            (&two.clone().into(), &"Jo <jo@example.org>".into()),
            "{version}"
        );
        // An edit is no commit's.
        stage.place("b.toml", "v = 3\n");
        loader.event("published");
        assert_eq!(stage.history("b")[0]["commit"], Value::Null);
    }
}

#[test]
fn a_kubernetes_volume_is_followed_through_every_swap_and_each_is_one_set() {
    let stage = Stage::new();
    let dir = stage.dir();
    let publish = |n: u32| {
        let version = format!("..2026_{n}");
        fs::create_dir(dir.join(&version)).unwrap();
        for key in ["a", "b"] {
            fs::write(dir.join(&version).join(format!("{key}.toml")), format!("v = {n}\n")).unwrap();
        }
        symlink(&version, dir.join("..data_tmp")).unwrap();
        fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
        if n > 0 {
            fs::remove_dir_all(dir.join(format!("..2026_{}", n - 1))).unwrap();
        }
    };
    publish(0);
    for key in ["a", "b"] {
        symlink(format!("..data/{key}.toml"), dir.join(format!("{key}.toml"))).unwrap();
    }
    let mut loader = stage.loader(&[]);

    for n in 1..5 {
        publish(n);
        let (first, second) = (loader.event("published"), loader.event("published"));
        assert_eq!((&first["set"]["id"], &first["set"]["members"]), (&second["set"]["id"], &2.into()));
        stage.holds("a", &format!("v = {n}\n"));
        stage.holds("b", &format!("v = {n}\n"));
    }
}

#[test]
fn a_directory_that_is_replaced_while_it_is_watched_is_followed() {
    let stage = Stage::new();
    stage.save("a.toml", "v = 0\n");
    let _loader = stage.loader(&[]);
    let (dir, other) = (stage.dir(), stage.root.path().join("other"));

    for n in 1..4 {
        fs::create_dir(&other).unwrap();
        fs::write(other.join("a.toml"), format!("v = {n}\n")).unwrap();
        fs::rename(&dir, stage.root.path().join(format!("old{n}"))).unwrap();
        fs::rename(&other, &dir).unwrap();
        stage.holds("a", &format!("v = {n}\n"));
    }
    fs::remove_dir_all(&dir).unwrap();
    stage.save("a.toml", "v = 'made anew'\n");
    stage.holds("a", "v = 'made anew'\n");
    stage.save("new/deep/b.toml", "v = 1\n");
    stage.holds("new.deep.b", "v = 1\n");
}

#[test]
fn a_symlink_that_leads_to_itself_is_said_and_hurts_nobody() {
    let stage = Stage::new();
    symlink("loop.toml", stage.dir().join("loop.toml")).unwrap();
    symlink("..", stage.dir().join("up")).unwrap();
    stage.save("a.toml", "v = 1\n");

    let mut loader = stage.loader(&[]);

    stage.place("a.toml", "v = 2\n");
    loader.wait_event(DEADLINE, |event| event["event"] == "published" && event["key"] == "a");
    assert_eq!(stage.confhot(&["keys"]).1.lines().filter(|line| line.contains("loop")).count(), 0);
}

#[test]
fn a_file_that_may_not_be_read_is_refused_and_published_when_it_may() {
    let stage = Stage::new();
    stage.save("a.toml", "v = 1\n");
    let path = stage.dir().join("a.toml");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read(&path).is_ok() {
        // To root every file is open: a directory in the file's place cannot be read by anybody.
        fs::remove_file(&path).unwrap();
        symlink("/nowhere/at/all.toml", &path).unwrap();
    }

    let mut loader = Daemon::start(stage.args(&[]));
    assert_eq!(loader.event("refused")["path"], "a.toml");
    assert_eq!(stage.once(&[]).0, 1);
    let _ = fs::remove_file(&path);
    stage.save("a.toml", "v = 2\n");

    stage.holds("a", "v = 2\n");
}

#[test]
fn a_burst_of_saves_in_place_never_publishes_half_of_one_and_ends_on_the_last() {
    use std::io::Write as _;
    let stage = Stage::new();
    let text = |n: u32| format!("first = {n}\n{}last = {n}\n", "# padding\n".repeat(200));
    stage.save("a.toml", text(0));
    let _loader = stage.loader(&[]);

    let saves = if std::env::var_os("CONFHOT_SOAK").is_some() { 3_000 } else { 200 };
    for n in 1..=saves {
        let text = text(n);
        let mut file = fs::File::create(stage.dir().join("a.toml")).unwrap();
        file.write_all(&text.as_bytes()[..text.len() / 2]).unwrap();
        if n % 10 == 0 {
            std::thread::yield_now();
        }
        file.write_all(&text.as_bytes()[text.len() / 2..]).unwrap();
    }

    stage.holds("a", &text(saves));
    for entry in stage.history("a") {
        let (_, stored) = stage.confhot(&["get", "a", "--revision", &entry["revision"].to_string()]);
        let n: u32 = stored.strip_prefix("first = ").and_then(|rest| rest.split('\n').next()).unwrap().parse().unwrap();
        assert_eq!(stored, text(n), "half a save was published");
    }
}

#[test]
fn a_server_that_crashes_while_files_are_saved_ends_on_their_last_content() {
    let mut server = Server::start();
    let stage = Stage::at(&server.url());
    stage.save("a.toml", "v = 0\n");
    let mut loader = stage.loader(&[]);

    for round in 1..=3 {
        stage.place("a.toml", format!("v = {round}0\n"));
        server.kill9();
        stage.place("a.toml", format!("v = {round}1\n"));
        loader.event("disconnected");
        stage.place("a.toml", format!("v = {round}2\n"));
        stage.save("b.toml", format!("v = {round}\n"));
        server.restart();
        loader.event("connected");
        stage.holds("a", &format!("v = {round}2\n"));
        stage.holds("b", &format!("v = {round}\n"));
    }
    assert_eq!(named(loader.events(), "disconnected").len(), 3);
}

#[test]
fn a_loader_without_a_server_says_so_once_and_waits() {
    let mut server = Server::start();
    let stage = Stage::at(&server.url());
    server.stop();
    stage.save("a.toml", "v = 1\n");
    let mut loader = Daemon::start(stage.args(&[]));
    loader.event("disconnected");
    // Longer than several attempts.
    std::thread::sleep(Duration::from_secs(1));
    stage.place("a.toml", "v = 2\n");

    server.restart();

    loader.event("ready");
    stage.holds("a", "v = 2\n");
    assert_eq!(named(loader.events(), "disconnected").len(), 1);
    assert_eq!(
        confhot()
            .args(["loader", "--dir"])
            .arg(stage.dir())
            .args(["--once", "--server", "nats://127.0.0.1:9"])
            .output()
            .unwrap()
            .status
            .code(),
        Some(2)
    );
}

#[test]
fn a_bucket_that_is_deleted_under_the_loader_is_made_again_and_filled() {
    let stage = Stage::new();
    stage.save("a.toml", "v = 1\n");
    stage.save("b.toml", "v = 1\n");
    let mut loader = stage.loader(&[]);

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let bucket = crate::feed::connect(&stage.url).await.bucket(&stage.bucket).unwrap();
        bucket.destroy().await.unwrap();
    });

    stage.holds("a", "v = 1\n");
    stage.holds("b", "v = 1\n");
    stage.place("a.toml", "v = 2\n");
    stage.holds("a", "v = 2\n");
    assert!(!loader.events().is_empty());
}

#[test]
fn what_changed_while_the_loader_was_dead_is_published_at_its_start() {
    let stage = Stage::new();
    stage.save("a.toml", "v = 1\n");
    let mut loader = stage.loader(&[]);
    loader.kill9();
    stage.save("a.toml", "v = 2\n");
    // As `cp -p` and `git checkout` do: newer content with an older time.
    let old = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    fs::File::options().write(true).open(stage.dir().join("a.toml")).unwrap().set_modified(old).unwrap();

    let _loader = stage.loader(&[]);

    assert_eq!(stage.value("a").as_deref(), Some("v = 2\n"));
}

#[test]
fn an_unreadable_directory_is_trouble_at_once() {
    let code = |dir: &str| confhot().args(["loader", "--dir", dir]).timeout(DEADLINE).output().unwrap().status.code();

    assert_eq!(code("/no/such/directory"), Some(2));
    assert_eq!(code("/etc/hostname"), Some(2));
}

#[test]
fn a_mount_that_tells_nothing_is_found_by_the_sweep() {
    let stage = Stage::new();
    stage.save("a.toml", "v = 1\n");
    let _loader = stage.loader(&["--poll", "200ms"]);
    // A write through a hard link outside of the directory: the kernel tells it of the other name.
    let outside = stage.root.path().join("outside.toml");
    fs::hard_link(stage.dir().join("a.toml"), &outside).unwrap();
    let before = Instant::now();

    fs::write(&outside, "v = 2\n").unwrap();

    stage.holds("a", "v = 2\n");
    assert!(before.elapsed() < DEADLINE);
}

#[test]
fn a_cluster_keeps_three_copies_where_that_is_asked_for() {
    let cluster = Cluster::three();
    let stage = Stage::at(&cluster.urls());
    stage.save("a.toml", "v = 1\n");
    let mut cluster = cluster;

    eventually("the cluster takes the bucket", 2 * DEADLINE, || {
        (stage.once(&["--replicas", "3"]).0 == 0).then_some(())
    });
    let leader = cluster.leader_of(&format!("KV_{}", stage.bucket));
    cluster.server(leader).kill9();

    stage.holds("a", "v = 1\n");
}
