//! Symlinks that lead out of the directory: who may write there must not make the loader publish what only it may read.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{self, Daemon, VERSIONS, confhot};

const NEWEST: &str = VERSIONS[VERSIONS.len() - 1];

/// Runs `confhot` with what all of it has here: exit code, JSON lines, stderr.
fn run(url: &str, bucket: &str, args: &[&str]) -> (i32, Vec<Value>, String) {
    let global = ["--server", url, "--bucket", bucket, "--format", "json"];
    let output = confhot().args(args).args(global).output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    let lines = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (output.status.code().unwrap(), lines, String::from_utf8(output.stderr).unwrap())
}

/// A directory with a document of its own, and symlinks: to a document inside, and to a file and a directory elsewhere.
fn lay_out(root: &Path) -> String {
    let (dir, elsewhere) = (root.join("configs"), root.join("elsewhere"));
    fs::create_dir_all(&dir).unwrap();
    fs::create_dir_all(elsewhere.join("deep")).unwrap();
    fs::write(dir.join("own.toml"), "n = 1\n").unwrap();
    symlink(dir.join("own.toml"), dir.join("inside.toml")).unwrap();
    fs::write(elsewhere.join("secret.toml"), "password = 'hunter2'\n").unwrap();
    fs::write(elsewhere.join("deep/key.toml"), "password = 'hunter2'\n").unwrap();
    symlink("../elsewhere/secret.toml", dir.join("file.toml")).unwrap();
    symlink(elsewhere.join("deep"), dir.join("tree")).unwrap();
    symlink("/", dir.join("all")).unwrap();
    dir.to_str().unwrap().to_owned()
}

fn keys(url: &str, bucket: &str) -> Vec<String> {
    let (_, lines, _) = run(url, bucket, &["keys"]);
    lines.iter().map(|line| line["key"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_leads_out_of_the_directory_is_refused_and_published_only_where_that_is_asked_for() {
    let root = tempfile::tempdir().unwrap();
    let dir = lay_out(root.path());
    let (url, bucket) = (support::shared(NEWEST).url(), support::bucket());

    let (code, events, stderr) = run(&url, &bucket, &["loader", "--once", "--dir", &dir]);
    assert_eq!(code, 1, "{stderr}");
    let mut refused: Vec<_> = events.iter().filter(|event| event["event"] == "refused").collect();
    refused.sort_by_key(|event| event["path"].to_string());
    assert_eq!(refused.iter().map(|event| &event["path"]).collect::<Vec<_>>(), ["file.toml", "tree"], "{events:?}");
    for event in refused {
        assert!(event["reason"].as_str().unwrap().contains("leads out of the directory, to /"), "{event}");
    }
    assert!(stderr.contains("all` is a symlink to a directory that contains it"), "{stderr}");
    assert_eq!(keys(&url, &bucket), ["inside", "own"]);
    let (code, lines, stderr) = run(&url, &bucket, &["validate", &dir]);
    assert_eq!((code, lines.iter().filter(|line| line["valid"] == true).count()), (2, 2), "{lines:?}");
    assert!(stderr.contains("--follow-outside") && !stderr.contains("hunter2"), "{stderr}");

    fs::remove_file(Path::new(&dir).join("all")).unwrap();
    let (code, _, stderr) = run(&url, &bucket, &["loader", "--once", "--dir", &dir, "--follow-outside"]);
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(keys(&url, &bucket), ["file", "inside", "own", "tree.key"]);
    assert_eq!(run(&url, &bucket, &["validate", &dir, "--follow-outside"]).0, 0);

    // What was published is not gone because nobody looks any more.
    let pruned = ["loader", "--once", "--dir", &dir, "--prune", "--yes"];
    let (_, events, _) = run(&url, &bucket, &pruned);
    assert!(!events.iter().any(|event| event["event"] == "deleted"), "{events:?}");
    assert_eq!(keys(&url, &bucket).len(), 4);
}

#[test]
fn a_symlink_that_comes_to_lead_out_is_refused_when_it_does() {
    let root = tempfile::tempdir().unwrap();
    let dir = lay_out(root.path());
    let (url, bucket) = (support::shared(NEWEST).url(), support::bucket());
    let mut loader =
        Daemon::start(["loader", "--dir", &dir, "--server", &url, "--bucket", &bucket, "--format", "json"]);
    loader.event("ready");

    let at = |name: &str| Path::new(&dir).join(name);
    // As editors and deployments do it: a new link is renamed over the old one.
    symlink("../elsewhere/secret.toml", at(".new")).unwrap();
    fs::rename(at(".new"), at("inside.toml")).unwrap();
    let event = loader.wait_event(support::DEADLINE, |event| event["path"] == "inside.toml");
    assert_eq!(event["event"], "refused", "{event}");
    // And a document that becomes one, and is itself again.
    symlink("../elsewhere/secret.toml", at(".new")).unwrap();
    fs::rename(at(".new"), at("own.toml")).unwrap();
    let event = loader.wait_event(support::DEADLINE, |event| event["path"] == "own.toml");
    assert_eq!(event["event"], "refused", "{event}");
    fs::write(at(".new"), "n = 2\n").unwrap();
    fs::rename(at(".new"), at("own.toml")).unwrap();
    let event = loader.wait_event(support::DEADLINE, |event| event["path"] == "own.toml");
    assert_eq!(event["event"], "published", "{event}");
    // A directory that was inside.
    fs::create_dir(at("sub")).unwrap();
    fs::write(at("sub/a.toml"), "n = 1\n").unwrap();
    loader.wait_event(support::DEADLINE, |event| event["event"] == "published" && event["key"] == "sub.a");
    fs::rename(at("sub"), at(".gone")).unwrap();
    symlink(root.path().join("elsewhere/deep"), at("sub")).unwrap();
    let event = loader.wait_event(support::DEADLINE, |event| event["path"] == "sub");
    assert_eq!(event["event"], "refused", "{event}");
    fs::write(root.path().join("elsewhere/deep/key.toml"), "password = 'changed'\n").unwrap();

    loader.sigterm();
    assert_eq!(loader.wait_exit(), 0);
    assert_eq!(keys(&url, &bucket), ["inside", "own", "sub.a"]);
    let (_, lines, _) = run(&url, &bucket, &["get", "inside"]);
    assert_eq!(lines[0]["value"], json!({"n": 1}));
}

#[test]
fn what_has_the_name_of_a_document_and_is_no_file_is_refused_by_validate_as_by_the_loader() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("service1.toml");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());

    for path in [dir.path(), &pipe] {
        let output = support::confhot().arg("validate").arg(path).timeout(support::DEADLINE).output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(told.contains("service1.toml: cannot be read: not a regular file"), "{told}");
        assert_eq!(output.status.code(), Some(1));
    }
}
