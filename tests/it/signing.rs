//! The binary's own signatures: `--sign` and `--trust`, and what the verbs say of what is not trusted.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::signatures::pair;
use crate::support::{DEADLINE, Daemon, Stage, confhot, eventually, named};

/// A file with `text` that only its owner can read.
fn file(dir: &Path, name: &str, text: &str) -> String {
    let path: PathBuf = dir.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path.display().to_string()
}

/// A stage, a seed's file, its public key, and the same of another one.
fn keys(stage: &Stage) -> [(String, String); 2] {
    ["ours.nk", "theirs.nk"].map(|name| {
        let (seed, public) = pair();
        (file(stage.root.path(), name, &format!("{seed}\n")), public)
    })
}

fn serve(stage: &Stage, more: &[&str]) -> Daemon {
    let args = ["serve", "--name", "service1", "--server", &stage.url, "--bucket", &stage.bucket, "--format", "json"];
    Daemon::start(args.iter().chain(more))
}

#[test]
fn loader_put_and_rollback_sign_and_a_service_that_trusts_them_takes_nothing_else() {
    let stage = Stage::new();
    let [(ours, public), (theirs, their_public)] = keys(&stage);
    stage.save("service1.toml", "n = 1\n");
    let mut loader = stage.loader(&["--sign", &ours]);
    let mut service = serve(&stage, &["--trust", &public]);
    let mut applied = |revision: u64| {
        service.wait_event(DEADLINE, |event| event["event"] == "applied" && event["revision"] == revision);
    };
    applied(1);
    stage.place("service1.toml", "n = 2\n");
    applied(2);
    let document = |text: &str| file(stage.root.path(), "document.toml", text);
    let (code, told) = stage.confhot(&["put", "service1", &document("n = 3\n"), "--sign", &ours]);
    assert_eq!(code, 0, "{told}");
    applied(3);
    let (code, told) = stage.confhot(&["rollback", "service1", "--sign", &ours, "--yes"]);
    assert_eq!(code, 0, "{told}");
    applied(4);

    let (code, _) = stage.confhot(&["put", "service1", &document("n = 5\n")]);
    assert_eq!(code, 0);
    let rejected = service.event("rejected");
    let expected = json!([5, "invalid", "not trusted: it is not signed", 4]);
    assert_eq!(json!([rejected["revision"], rejected["kind"], rejected["reason"], rejected["serving"]]), expected);
    // What nobody signed who counts does not come back by itself, and is not taken for unchanged.
    stage.confhot(&["put", "service1", &document("n = 6\n"), "--sign", &theirs]);
    let (code, told) = stage.confhot(&["put", "service1", &document("n = 6\n"), "--sign", &ours]);
    assert_eq!((code, told.contains("published at revision 7")), (0, true), "{told}");
    let (code, told) = stage.confhot(&["rollback", "service1", "--sign", &ours, "--yes"]);
    assert_eq!((code, told.contains("rolled back to revision 4")), (0, true), "{told}");

    let history = stage.history("service1");
    let signers: Vec<_> = history.iter().rev().map(|line| line["signer"].clone()).collect();
    let by = |public: &str| Value::from(public);
    let expected: Vec<_> = [&public, &public, &public, &public, "", &their_public, &public, &public]
        .map(|signer| if signer.is_empty() { Value::Null } else { by(signer) })
        .into();
    assert_eq!(signers, expected);
    let (_, lines) = stage.confhot(&["history", "service1", "--format", "json", "--trust", &public]);
    let judged: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let trusted: Vec<_> = judged.iter().rev().map(|line| line["trusted"].as_bool().unwrap()).collect();
    assert_eq!(trusted, [true, true, true, true, false, false, true, true]);
    assert_eq!(judged[3]["distrust"], "it is not signed");
    let (_, table) = stage.confhot(&["history", "service1", "--trust", &format!("{public},{their_public}")]);
    assert!(table.lines().next().unwrap().contains("SIGNER") && table.contains(&public), "{table}");
    assert_eq!(table.matches(" trusted ").count() + table.matches(" trusted\n").count(), 7, "{table}");
    loader.sigterm();
    assert_eq!(loader.wait_exit(), 0);
}

#[test]
fn a_loader_that_begins_to_sign_signs_what_stands_and_one_that_trusts_it_leaves_it() {
    let stage = Stage::new();
    let [(ours, public), (theirs, _)] = keys(&stage);
    for name in ["a.toml", "b.toml"] {
        stage.save(name, "n = 1\n");
    }
    assert_eq!(stage.once(&[]).0, 0);

    let (code, events) = stage.once(&["--sign", &ours]);
    assert_eq!((code, named(&events, "published").len()), (0, 2), "{events:?}");
    let (code, events) = stage.once(&["--sign", &ours]);
    assert_eq!((code, named(&events, "published").len()), (0, 0), "{events:?}");
    let (code, events) = stage.once(&["--sign", &theirs, "--trust", &public]);
    assert_eq!((code, named(&events, "published").len()), (0, 0), "{events:?}");
    // A tombstone of a loader that signs is signed as well, and what comes after it.
    fs::remove_file(stage.dir().join("a.toml")).unwrap();
    assert_eq!(stage.once(&["--sign", &ours, "--prune"]).0, 0);
    stage.save("a.toml", "n = 2\n");
    assert_eq!(stage.once(&["--sign", &ours]).0, 0);
    let (_, lines) = stage.confhot(&["history", "a", "--format", "json", "--trust", &public]);
    let trusted: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["trusted"].take()).collect();
    assert_eq!(trusted, [json!(true), json!(true), json!(true), json!(false)]);
}

#[test]
fn writers_that_race_each_other_all_sign_for_where_they_end_up() {
    let stage = Stage::new();
    let [(ours, public), _] = keys(&stage);
    std::thread::scope(|threads| {
        for n in 0..4 {
            let (stage, ours) = (&stage, &ours);
            threads.spawn(move || {
                let document = file(stage.root.path(), &format!("{n}.toml"), &format!("n = {n}\n"));
                assert_eq!(stage.confhot(&["put", "a", &document, "--sign", ours]).0, 0);
            });
        }
    });
    // As one, too.
    let set = stage.root.path().join("set");
    fs::create_dir(&set).unwrap();
    for name in ["a.toml", "b.toml"] {
        fs::write(set.join(name), "n = 9\n").unwrap();
    }
    let (code, told) = stage.confhot(&["put", "--set", set.to_str().unwrap(), "--sign", &ours]);
    assert_eq!(code, 0, "{told}");

    for (key, revisions) in [("a", 5), ("b", 1)] {
        let (_, lines) = stage.confhot(&["history", key, "--format", "json", "--trust", &public]);
        let judged: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(judged.len(), revisions, "{lines}");
        assert!(judged.iter().all(|line| line["trusted"] == true), "{lines}");
    }
    assert_eq!(stage.confhot(&["rollback", "b", "--set", "--sign", &ours, "--yes"]).0, 0);
    let (_, lines) = stage.confhot(&["history", "a", "--limit", "1", "--format", "json", "--trust", &public]);
    assert!(lines.contains("\"trusted\":true"), "{lines}");
}

#[test]
fn status_get_and_watch_say_what_is_not_trusted_and_why() {
    let stage = Stage::new();
    let [(ours, public), _] = keys(&stage);
    let trusted = file(stage.root.path(), "trusted", &format!("# the loader\n{public}\n"));
    let document = |text: &str| file(stage.root.path(), "document.toml", text);
    stage.confhot(&["put", "service1", &document("n = 1\n"), "--sign", &ours]);
    let mut service = serve(&stage, &["--instance", "credulous"]);
    service.event("applied");
    let status = |more: &[&str]| {
        let (code, lines) = stage.confhot(&[&["status", "--format", "json"], more].concat());
        (code, lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>())
    };
    eventually("it is applied", DEADLINE, || (status(&[]).1.first()?["state"] == "applied").then_some(()));
    assert_eq!(status(&["--trust", &trusted]).0, 0);
    assert_eq!(stage.confhot(&["get", "service1", "--trust", &trusted]), (0, "n = 1\n".into()));

    let args = ["watch", "--server", &stage.url, "--bucket", &stage.bucket, "--format", "json", "--trust", &trusted];
    let mut watch = Daemon::start(args);
    eventually("it watches", DEADLINE, || watch.stderr().contains("watching").then_some(()));
    stage.confhot(&["put", "service1", &document("n = 2\n")]);
    let told = watch.wait_event(DEADLINE, |event| event["revision"] == 2);
    assert_eq!(json!([told["signer"], told["trusted"], told["distrust"]]), json!([null, false, "it is not signed"]));

    service.wait_event(DEADLINE, |event| event["event"] == "applied" && event["revision"] == 2);
    let (code, lines) = eventually("it is told", DEADLINE, || {
        let told = status(&["--trust", &trusted]);
        (told.1.first()?["revision"] == 2).then_some(told)
    });
    assert_eq!((code, &lines[0]["distrust"]), (1, &json!("the head, revision 2, is not trusted: it is not signed")));
    assert_eq!(status(&[]).0, 0);
    let output = confhot()
        .args(["--server", &stage.url, "--bucket", &stage.bucket, "get", "service1", "--trust", &trusted])
        .output()
        .unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), b"".as_slice()));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.starts_with("error: service1@2 is not trusted: it is not signed\n"), "{stderr}");
    // Nobody follows it, and it is said all the same.
    service.sigterm();
    service.wait_exit();
    assert_eq!(status(&["service1", "--trust", &trusted]).0, 1);
}

#[test]
fn what_instances_reject_is_rolled_back_with_a_signature_and_never_to_what_nobody_signed() {
    let stage = Stage::new();
    let [(ours, public), _] = keys(&stage);
    let document = |text: &str| file(stage.root.path(), "document.toml", text);
    stage.confhot(&["put", "service1", &document("n = 1\n"), "--sign", &ours]);
    // A service that trusts everybody, so that it has rejected nothing yet.
    let mut service = serve(&stage, &[]);
    service.event("applied");
    stage.confhot(&["put", "service1", &document("n = 2\n")]);
    service.event("applied");
    eventually("it is known", DEADLINE, || (stage.confhot(&["status"]).1.contains("applied")).then_some(()));

    let bad = document("[logging]\nlevel = 'loud'\n");
    let (code, told) = stage.confhot(&[
        "put",
        "service1",
        &bad,
        "--sign",
        &ours,
        "--wait",
        "20s",
        "--rollback-on-reject",
        "--format",
        "json",
    ]);

    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((code, &told["rolled_back_to"]), (1, &json!(1)), "{told}");
    let (_, head) = stage.confhot(&["history", "service1", "--limit", "1", "--format", "json", "--trust", &public]);
    assert!(head.contains("\"trusted\":true"), "{head}");
}

#[test]
fn a_seed_that_cannot_sign_a_key_that_is_none_and_a_file_that_others_read_are_said() {
    let stage = Stage::new();
    let (seed, public) = pair();
    let good = file(stage.root.path(), "good.nk", &seed);
    let document = file(stage.root.path(), "document.toml", "n = 1\n");
    let stderr = |args: &[&str]| {
        let output = confhot().args(["--server", &stage.url, "--bucket", &stage.bucket]).args(args).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let put = |sign: &str| stderr(&["put", "a", &document, "--sign", sign]);

    let public_only = file(stage.root.path(), "public", &public);
    for (path, why) in [("/nowhere/seed", "cannot read /nowhere/seed"), (&public_only, "it holds no nkey seed")] {
        let (code, said) = put(path);
        assert!(code == 2 && said.contains(why), "{said}");
    }
    assert!(stage.value("a").is_none());
    fs::set_permissions(&good, fs::Permissions::from_mode(0o644)).unwrap();
    let (code, said) = put(&good);
    assert!(code == 0 && said.contains("good.nk can be read by others"), "{said}");
    fs::set_permissions(&good, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(put(&good), (0, String::new()));

    let (code, said) = stderr(&["get", "a", "--trust", &seed]);
    assert!(code == 2 && said.contains("it is a seed, which is a secret") && !said.contains(&seed), "{said}");
    let (code, said) = stderr(&["serve", "--name", "a", "--trust", "Unothing"]);
    assert!(code == 2 && said.contains("no such file") && said.contains("no public nkey"), "{said}");
    assert_eq!(stage.confhot(&["get", "a", "--trust", &public]), (0, "n = 1\n".into()));
}
