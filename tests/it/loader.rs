//! `confhot loader` as a script sees it: what stands in the directory is what stands in the bucket, or a line says why not.
//! What goes wrong around it is in `outages`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use crate::support::{self, DEADLINE, Daemon, Stage, VERSIONS, about, confhot, named};

#[test]
fn at_start_every_document_that_differs_is_published_with_its_provenance_and_each_save_follows_until_sigterm() {
    for version in VERSIONS {
        let stage = Stage::at(&support::shared(version).url());
        stage.save("service1.toml", "port = 1\n");
        stage.save("billing/api.yaml", "port: 2\n");
        stage.save("billing/deep/web.json", "{\"port\": 3}");
        for ignored in [".hidden.toml", "a.toml~", "a.swp", ".a.toml.swp", "4913", "#a.toml#", "a.tmp", "notes.md"] {
            stage.save(ignored, "x = 1");
        }
        stage.save("notes.txt", "x = 1");
        stage.save(".git/config.toml", "x = 1");

        let mut loader = Daemon::start(stage.args(&[]));

        assert_eq!(loader.event("ready")["files"], 3, "{version}");
        assert_eq!(named(loader.events(), "published").len(), 3, "{version}");
        let (_, keys) = stage.confhot(&["keys", "--format", "json"]);
        let mut keys: Vec<Value> = keys.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        keys.sort_by_key(|key| key["key"].to_string());
        let told: Vec<_> =
            keys.iter().map(|key| (key["key"].as_str().unwrap(), key["format"].as_str().unwrap())).collect();
        assert_eq!(told, [("billing.api", "yaml"), ("billing.deep.web", "json"), ("service1", "toml")], "{version}");
        assert_eq!(stage.value("billing.api").as_deref(), Some("port: 2\n"));
        let head = &stage.history("billing.api")[0];
        assert_eq!(
            (&head["writer"], &head["operation"], &head["set"]),
            (&"loader".into(), &"put".into(), &Value::Null)
        );
        assert_eq!(stage.once(&[]).0, 0, "{version}");

        stage.place("service1.toml", "port = 2\n");
        let told = about(&mut loader, "published", "service1");
        assert_eq!(
            (&told["revision"], &told["path"], &told["set"]),
            (&4.into(), &"service1.toml".into(), &Value::Null),
            "{version}"
        );
        assert_eq!(stage.value("service1").as_deref(), Some("port = 2\n"));

        loader.sigterm();
        assert_eq!(loader.wait_exit(), 0);
        assert!(named(loader.events(), "refused").is_empty(), "{version}: {:#?}", loader.events());
    }
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
    stage.save("a.toml", "v = 2\n");
    let file = fs::File::open(stage.dir().join("a.toml")).unwrap();
    for time in [SystemTime::now(), SystemTime::UNIX_EPOCH] {
        file.set_modified(time).unwrap();
    }
    // A later save tells that what was before it is through.
    stage.save("z.toml", "v = 1\n");
    about(&mut loader, "published", "z");
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
    let refused = |loader: &mut Daemon, path: &str, bytes: &[u8]| {
        stage.place(path, bytes);
        let told = loader.event("refused");
        assert_eq!(told["path"], path);
        let reason = told["reason"].as_str().unwrap();
        assert!(!reason.is_empty() && reason.len() < 400, "{told}");
        told
    };
    let deep = format!("v = {}{}\n", "[".repeat(50_000), "]".repeat(50_000));
    let deep_json = format!("{{\"v\":{}1{}}}", "[".repeat(5000), "]".repeat(5000));
    let huge = format!("v = \"{}\"\n", "x".repeat(2 << 20));
    let placed: [(&str, &[u8], u64); 7] = [
        ("a.toml", b"v = 1\nw = \n", 2),
        ("a.toml", b"v = 1\nv = 2\n", 2),
        ("b.json", b"{\"v\": 1,\n \"v\": 2}", 2),
        ("c.yaml", b"v: 1\nv: 2\n", 2),
        ("a.toml", b"v = '\xff'\n", 1),
        ("a.toml", deep.as_bytes(), 1),
        ("latin.toml", b"v = \"\xe9\"\n", 1),
    ];
    let whole: [(&str, &[u8]); 7] = [
        ("a.toml", b""),
        ("b.json", b"[1, 2]"),
        ("c.yaml", b"just words\n"),
        ("c.yaml", b"# nothing\n"),
        ("deep.json", deep_json.as_bytes()),
        ("empty.toml", b""),
        ("huge.toml", huge.as_bytes()),
    ];

    for (path, bytes, line) in placed {
        let told = refused(&mut loader, path, bytes);
        assert_eq!(told["line"].as_u64(), Some(line), "{told}");
        assert!(told["column"].is_u64(), "{told}");
    }
    let told = refused(&mut loader, "a.toml", b"ok = 1\nport 8080\n");
    assert_eq!((told["line"].as_u64(), told["column"].as_u64()), (Some(2), Some(6)), "{told}");
    for (path, bytes) in whole {
        refused(&mut loader, path, bytes);
    }

    for (path, text) in good {
        assert_eq!(stage.value(&path[..1]).as_deref(), Some(text));
    }
    for new in ["latin", "deep", "empty", "huge"] {
        assert_eq!(stage.value(new), None);
    }
    assert_eq!(stage.once(&[]).0, 1);
    // Mended with what was published last: nothing to publish, and no refusal is left.
    for (path, text) in good {
        stage.place(path, text);
        about(&mut loader, "unchanged", &path[..1]);
    }
    for new in ["latin.toml", "deep.json", "empty.toml", "huge.toml"] {
        fs::remove_file(stage.dir().join(new)).unwrap();
    }
    assert_eq!(stage.once(&[]).0, 0);
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
fn a_member_that_is_too_large_does_not_take_the_others_with_it() {
    let stage = Stage::new();
    stage.swap(1, &[("a.toml", "n = 1\n"), ("b.toml", "n = 1\n"), ("c.toml", "n = 1\n")]);
    let mut loader = stage.loader(&[]);

    let huge = format!("x = \"{}\"\n", "y".repeat(2 << 20));
    stage.swap(2, &[("a.toml", "n = 2\n"), ("b.toml", &huge), ("c.toml", "n = 2\n")]);

    about(&mut loader, "refused", "b.toml");
    stage.holds("a", "n = 2\n");
    stage.holds("c", "n = 2\n");
    assert_eq!(stage.value("b").as_deref(), Some("n = 1\n"));
    assert_eq!(named(loader.events(), "refused").len(), 1, "{:#?}", loader.events());
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
    assert_eq!(refused.len(), 4, "{refused:#?}");
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
    about(&mut loader, "published", "twice");
    assert_eq!(stage.value("twice").as_deref(), Some("v: 1\n"));

    for (path, named) in [("_x.toml", '_'), ("sp ace.toml", ' ')] {
        stage.place(path, "v = 1\n");
        let told = about(&mut loader, "refused", path);
        assert!(told["reason"].as_str().unwrap().contains(named) && told["key"].is_null(), "{told}");
    }
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
    assert_eq!(stage.confhot(&["delete", "b", "--yes"]).0, 0);
    let told = loader.event("drift");
    assert_eq!((told["key"].as_str(), told["by"].as_str()), (Some("b"), Some("delete")));

    // One that syncs once, one beside it and one after it see the same.
    let (code, events) = stage.once(&[]);
    let (drift, published) = (named(&events, "drift").len(), named(&events, "published").len());
    assert_eq!((code, drift, published), (1, 2, 0), "{events:#?}");
    let mut beside = stage.loader(&[]);
    loader.sigterm();
    assert_eq!(loader.wait_exit(), 0);
    let mut loader = stage.loader(&[]);
    for events in [beside.events(), loader.events()] {
        assert_eq!((named(events, "drift").len(), named(events, "published").len()), (2, 0), "{events:#?}");
    }
    drop(beside);
    assert_eq!(stage.value("a").as_deref(), Some("v = 'put'\n"));
    assert_eq!(stage.value("b"), None);

    stage.place("a.toml", "v = 2\n");
    about(&mut loader, "published", "a");
    assert_eq!(stage.value("a").as_deref(), Some("v = 2\n"));
    drop(loader);
    let (code, events) = stage.once(&["--enforce"]);
    assert_eq!((code, named(&events, "published").len()), (0, 1), "{events:#?}");
    assert_eq!(stage.value("b").as_deref(), Some("v = 1\n"));
}

#[test]
fn an_enforcing_loader_puts_the_directory_back_over_a_put() {
    let stage = Stage::new();
    stage.save("a.toml", "v = 1\n");
    let mut loader = stage.loader(&["--enforce"]);

    stage.put("a", "v = 'put'\n");

    about(&mut loader, "published", "a");
    assert_eq!(stage.value("a").as_deref(), Some("v = 1\n"));
    assert_eq!(stage.history("a").len(), 3);
}

#[test]
fn a_dry_run_writes_nothing_not_even_the_bucket() {
    let stage = Stage::new();
    stage.save("a.toml", "v = 1\n");

    let (code, events) = stage.once(&["--dry-run"]);

    assert_eq!((code, events.len(), named(&events, "would_publish").len()), (1, 1, 1), "{events:#?}");
    assert_eq!(stage.confhot(&["keys"]).0, 1, "there is a bucket");
    let (code, events) = stage.once(&[]);
    assert_eq!((code, named(&events, "published").len()), (0, 1), "{events:#?}");
    let (code, events) = stage.once(&["--dry-run"]);
    assert_eq!((code, named(&events, "unchanged").len()), (0, 1), "{events:#?}");
    fs::remove_file(stage.dir().join("a.toml")).unwrap();
    stage.save("b.toml", "v = 1\n");
    let (code, events) = stage.once(&["--dry-run", "--prune"]);
    assert_eq!((code, named(&events, "would_delete")[0]["key"].as_str()), (1, Some("a")));
    assert!(stage.value("a").is_some());
}

#[test]
fn once_says_no_while_a_file_is_refused_and_trouble_without_a_server() {
    let stage = Stage::new();
    stage.save("a.toml", "v = 1\n");
    stage.save("bad.toml", "=");
    assert_eq!(stage.once(&[]).0, 1);
    fs::remove_file(stage.dir().join("bad.toml")).unwrap();
    assert_eq!(stage.once(&[]).0, 0);

    let nowhere = Stage::at("nats://127.0.0.1:1");
    for more in [&[][..], &["--timeout", "1s"]] {
        assert_eq!(nowhere.once(more).0, 2, "{more:?}");
    }
}

#[test]
fn an_unreadable_directory_is_trouble_at_once() {
    let code = |dir: &str| confhot().args(["loader", "--dir", dir]).timeout(DEADLINE).output().unwrap().status.code();
    assert_eq!(code("/no/such/directory"), Some(2));
    assert_eq!(code("/etc/hostname"), Some(2));

    // Also where there is a server.
    let stage = Stage::new();
    fs::remove_dir(stage.dir()).unwrap();
    assert_eq!(stage.once(&[]).0, 2);
    assert_eq!(Daemon::start(stage.args(&[])).wait_exit(), 2);
}

#[test]
fn what_no_loader_wrote_is_no_base_for_one_that_runs_either() {
    let stage = Stage::new();
    stage.save("a.toml", "v = 1\n");
    let mut loader = stage.loader(&[]);
    stage.put("a", "v = 2\n");
    loader.event("drift");
    stage.place("a.toml", "v = 2\n");
    loader.event("unchanged");

    // The file differs from what a loader wrote last, so that one which starts publishes it.
    stage.put("a", "v = 3\n");

    assert_eq!(loader.event("published")["revision"], 4);
    stage.holds("a", "v = 2\n");
    stage.put("a", "v = 5\n");
    assert_eq!(loader.event("drift")["revision"], 5);
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
    assert_eq!((code, named(&events, "deleted").len(), named(&events, "refused").len()), (1, 0, 1), "{events:#?}");
    let (code, events) = stage.once(&["--prune", "--yes", "--dry-run"]);
    assert_eq!((code, named(&events, "would_delete").len()), (1, 4), "{events:#?}");
    let (code, events) = stage.once(&["--prune", "--yes"]);
    assert_eq!((code, named(&events, "deleted").len()), (0, 4), "{events:#?}");
    for n in 6..10 {
        fs::remove_file(stage.dir().join(format!("k{n}.toml"))).unwrap();
    }
    let (code, events) = stage.once(&["--prune", "--yes"]);
    assert_eq!((code, named(&events, "deleted").len()), (1, 0), "an empty directory is not a wish: {events:#?}");
    let (code, events) = stage.once(&["--prune", "--yes", "--allow-empty"]);
    assert_eq!((code, named(&events, "deleted").len()), (0, 4), "{events:#?}");
    assert!(stage.value("foreign").is_some());
}

#[test]
fn a_key_that_is_one_too_many_at_once_is_pruned_a_little_later() {
    let stage = Stage::new();
    for n in 0..14 {
        stage.save(&format!("k{n}.toml"), "v = 1\n");
    }
    let mut loader = stage.loader(&["--prune"]);
    for n in 0..3 {
        fs::remove_file(stage.dir().join(format!("k{n}.toml"))).unwrap();
        if n < 2 {
            loader.event("deleted");
        }
    }

    let since = Instant::now();
    assert_eq!(loader.wait_event(2 * DEADLINE, |event| event["event"] == "deleted")["key"], "k2");
    assert!(since.elapsed() > Duration::from_secs(5), "a fifth of 14 are 2");
    assert!(named(loader.events(), "refused").is_empty(), "{:#?}", loader.events());
}

#[test]
fn a_document_that_gets_another_extension_is_no_rival_of_itself() {
    let stage = Stage::new();
    stage.save("k.yaml", "n: 1\n");
    stage.save("b.api.yaml", "n: 1\n");
    let mut loader = stage.loader(&["--prune"]);

    fs::rename(stage.dir().join("k.yaml"), stage.dir().join("k.yml")).unwrap();
    assert_eq!(about(&mut loader, "unchanged", "k.yml")["key"], "k");
    fs::create_dir(stage.dir().join("b")).unwrap();
    fs::rename(stage.dir().join("b.api.yaml"), stage.dir().join("b/api.yaml")).unwrap();
    assert_eq!(about(&mut loader, "unchanged", "b/api.yaml")["key"], "b.api");
    fs::remove_file(stage.dir().join("k.yml")).unwrap();
    stage.place("k.json", "{\"n\": 2}");
    assert_eq!(about(&mut loader, "published", "k.json")["key"], "k");

    // Longer than it takes to be sure that a file is gone.
    std::thread::sleep(Duration::from_secs(4));
    stage.place("k.yaml", "n: 3\n");
    let told = about(&mut loader, "refused", "k.yaml");
    assert!(told["reason"].as_str().unwrap().contains("k.json and k.yaml"), "{told}");
    assert_eq!(named(loader.events(), "deleted").len(), 0);
    assert_eq!(stage.value("k").as_deref(), Some("{\"n\": 2}"));
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
    let output =
        Command::new("git").current_dir(dir).args(args).env("GIT_CONFIG_GLOBAL", "/dev/null").output().unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn files_that_a_checkout_changed_are_one_set_with_the_commit_that_they_came_with() {
    // The directory is the whole repository, or a part of it.
    for (version, whole) in VERSIONS.into_iter().zip([true, false, true]) {
        let stage = Stage::at(&support::shared(version).url());
        let root = if whole { stage.dir() } else { stage.root.path().to_owned() };
        git(&root, &["init", "-q", "-b", "one"]);
        git(&root, &["config", "user.name", "Jo"]);
        git(&root, &["config", "user.email", "jo@example.org"]);
        let keys: Vec<String> = (0..8).map(|n| format!("k{n}")).collect();
        let commit = |text: &str| {
            keys.iter().for_each(|key| stage.save(&format!("{key}.toml"), text));
            git(&root, &["add", "-A"]);
            git(&root, &["commit", "-q", "-m", text]);
            git(&root, &["rev-parse", "HEAD"])
        };
        let one = commit("v = 1\n");
        git(&root, &["checkout", "-q", "-b", "two"]);
        let two = commit("v = 2\n");
        git(&root, &["checkout", "-q", "one"]);
        let mut loader = stage.loader(&[]);
        let head = stage.history("k0").remove(0);
        assert_eq!((&head["writer"], &head["commit"]), (&"loader".into(), &one.as_str().into()), "{version}");
        assert_eq!((&head["author"], &head["format"]), (&"Jo <jo@example.org>".into(), &"toml".into()), "{version}");
        assert!(head["set"].is_null(), "{version}: {head}");

        git(&root, &["checkout", "-q", "two"]);
        let told: Vec<_> = keys.iter().map(|_| loader.event("published")).collect();

        let set = &told[0]["set"];
        assert_eq!(set["members"], 8, "{version}");
        assert!(told.iter().all(|event| event["set"]["id"] == set["id"]), "{version}: {told:#?}");
        let heads: Vec<_> = keys.iter().map(|key| stage.history(key).remove(0)).collect();
        for (key, head) in keys.iter().zip(&heads) {
            assert_eq!(stage.value(key).as_deref(), Some("v = 2\n"), "{version}");
            assert_eq!(
                (&head["commit"], &head["author"]),
                (&two.as_str().into(), &"Jo <jo@example.org>".into()),
                "{version}: {head}"
            );
            assert!(!head["set"].is_null() && head["set"] == heads[0]["set"], "{version}: {head}");
        }
        // An edit is no commit's.
        stage.place("k0.toml", "v = 3\n");
        assert_eq!(loader.event("published")["revision"], 17, "{version}");
        assert!(stage.history("k0")[0]["commit"].is_null(), "the file differs from its blob at HEAD");
    }
}

#[test]
fn a_kubernetes_volume_is_followed_through_every_swap_and_each_is_one_set() {
    let stage = Stage::new();
    let publish = |n: u32| {
        let text = format!("v = {n}\n");
        stage.swap(n, &[("a.toml", &text), ("b.toml", &text)]);
        if n > 0 {
            fs::remove_dir_all(stage.dir().join(format!("..{}", n - 1))).unwrap();
        }
    };
    publish(0);
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
fn a_symlink_to_the_directory_is_followed_when_it_and_what_it_leads_to_are_replaced() {
    let stage = Stage::new();
    let root = stage.root.path();
    for (name, n) in [("one", 1), ("two", 2)] {
        fs::create_dir(root.join(name)).unwrap();
        fs::write(root.join(name).join("a.toml"), format!("n = {n}\n")).unwrap();
    }
    symlink("one", root.join("current")).unwrap();
    let mut args = stage.args(&[]);
    args[2] = root.join("current").to_str().unwrap().to_owned();
    let mut loader = Daemon::start(args);
    loader.event("ready");

    symlink("two", root.join("next")).unwrap();
    fs::rename(root.join("next"), root.join("current")).unwrap();
    stage.holds("a", "n = 2\n");
    fs::rename(root.join("two"), root.join("away")).unwrap();
    fs::rename(root.join("away"), root.join("two")).unwrap();
    fs::write(root.join("two/a.toml"), "n = 3\n").unwrap();
    stage.holds("a", "n = 3\n");
    fs::remove_dir_all(root.join("two")).unwrap();
    fs::create_dir(root.join("two")).unwrap();
    fs::write(root.join("two/a.toml"), "n = 4\n").unwrap();
    stage.holds("a", "n = 4\n");
    assert!(named(loader.events(), "removed").is_empty(), "{:#?}", loader.events());
}

/// Saves `$2` documents in place, each in two writes; what `$3` ends is a valid document by itself.
const BURST: &str = r#"
n=0
while [ $n -lt $2 ]; do
  n=$((n + 1))
  {
    printf 'first = %s\n%s' $n "$3"
    if [ $((n % 7)) -eq 0 ]; then sleep 0.002; elif [ $((n % 10)) -eq 0 ]; then (:); fi
    printf '%slast = %s\n' "$4" $n
  } > "$1"
done"#;

#[test]
fn a_burst_of_saves_in_place_never_publishes_half_of_one_and_ends_on_the_last() {
    let stage = Stage::new();
    let padding = "# padding\n".repeat(200);
    let text = |n: u32| format!("first = {n}\n{padding}last = {n}\n");
    stage.save("a.toml", text(0));
    let _loader = stage.loader(&[]);

    let saves = if std::env::var_os("CONFHOT_SOAK").is_some() { 5_000 } else { 200 };
    // Not by this process: what other tests fork has its open files too for a moment, and that moment later a save is closed,
    // in the midst of the next one.
    let (half, rest) = padding.split_at(padding.len() / 2 + 3);
    let mut shell = Command::new("sh");
    shell.args(["-c", BURST, "sh"]).arg(stage.dir().join("a.toml")).args([&saves.to_string(), half, rest]);
    assert!(shell.status().unwrap().success());

    stage.holds("a", &text(saves));
    for entry in stage.history("a") {
        let (_, stored) = stage.confhot(&["get", "a", "--revision", &entry["revision"].to_string()]);
        let n: u32 = stored.strip_prefix("first = ").and_then(|rest| rest.split('\n').next()).unwrap().parse().unwrap();
        assert_eq!(stored, text(n), "half a save was published");
    }
}

#[test]
fn once_waits_for_a_save_that_is_under_way() {
    use std::io::Write as _;
    let stage = Stage::new();
    stage.save("a.toml", "n = 1\n");
    let path = stage.dir().join("a.toml");
    let stop = Arc::new(AtomicBool::new(false));
    let writer = std::thread::spawn({
        let stop = stop.clone();
        move || {
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                n += 1;
                let mut file = fs::File::create(&path).unwrap();
                file.write_all(b"n = 1\n").unwrap();
                file.write_all(format!("end = {n}\n").as_bytes()).unwrap();
                drop(file);
                std::thread::sleep(Duration::from_millis(3));
            }
        }
    });
    let (code, events) = stage.once(&[]);
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    assert_eq!(code, 0, "{events:#?}");
    let value = stage.value("a").expect("published");
    assert!(value.contains("end = "), "{value:?}");
}
