//! Who wrote a document and which commit it is from, as the history tells it.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{DEADLINE, Daemon, Stage, confhot};

/// A home in which git is configured, in a stage's own directory.
fn configured(stage: &Stage) -> String {
    let home = stage.root.path().join("home");
    fs::create_dir(&home).unwrap();
    fs::write(home.join(".gitconfig"), "[user]\n\tname = Jo Doe\n\temail = jo@example.org\n").unwrap();
    home.to_str().unwrap().to_owned()
}

#[test]
fn a_loader_outside_of_a_checkout_writes_as_whom_git_knows_its_user() {
    let stage = Stage::new();
    let home = configured(&stage);
    let environment = [("HOME", home.as_str()), ("XDG_CONFIG_HOME", &home), ("LOGNAME", "login")];
    stage.save("a.toml", "v = 1\n");

    let once = confhot().args(stage.args(&["--once"])).envs(environment).current_dir(stage.root.path()).output();
    assert!(once.unwrap().status.success());
    assert_eq!(stage.history("a")[0]["author"], "Jo Doe <jo@example.org>");

    let mut loader = Daemon::with(stage.args(&[]), |command| {
        command.envs(environment).current_dir(stage.root.path());
    });
    loader.event("ready");
    stage.place("a.toml", "v = 2\n");
    loader.event("published");
    assert_eq!(stage.history("a")[0]["author"], "Jo Doe <jo@example.org>");

    drop(loader);

    // Who is not known to git is known by login.
    stage.save("b.toml", "v = 1\n");
    let once = confhot().args(stage.args(&["--once"])).env("LOGNAME", "login").current_dir(stage.root.path()).output();
    assert!(once.unwrap().status.success());
    assert_eq!(stage.history("b")[0]["author"], "login");
}

fn git(dir: &Path, home: &str, args: &[&str]) -> String {
    let mut git = Command::new("git");
    let output = git.args(args).current_dir(dir).env("HOME", home).env("GIT_CONFIG_NOSYSTEM", "1").output().unwrap();
    assert!(output.status.success(), "git {args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn what_is_put_has_the_commit_of_its_file_only_where_the_file_equals_it() {
    let stage = Stage::new();
    let home = configured(&stage);
    let dir = stage.dir();
    let git = |args: &[&str]| git(&dir, &home, args);
    let commit = |key: &str| stage.history(key)[0]["commit"].clone();
    for path in ["a.toml", "b/c.toml", "b/d.toml"] {
        stage.save(path, "v = 1\n");
    }
    git(&["init", "-q"]);
    git(&["add", "."]);
    git(&["commit", "-q", "-m", "one"]);
    let one = json!(git(&["rev-parse", "HEAD"]));
    stage.save("b/d.toml", "v = 2\n");
    stage.save("new.toml", "v = 1\n");
    let at = |path: &str| dir.join(path).to_str().unwrap().to_owned();

    assert_eq!(stage.confhot(&["put", "a", &at("a.toml")]).0, 0);
    assert_eq!(commit("a"), one);
    // From the directory itself, too.
    let here = ["put", "here", "c.toml", "--server", &stage.url, "--bucket", &stage.bucket];
    confhot().args(here).current_dir(dir.join("b")).timeout(DEADLINE).assert().success();
    assert_eq!(commit("here"), one);
    for (key, path) in [("d", "b/d.toml"), ("new", "new.toml")] {
        assert_eq!(stage.confhot(&["put", key, &at(path)]).0, 0);
        assert_eq!(commit(key), Value::Null, "{key}");
    }
    stage.put("a", "v = 3\n");
    assert_eq!(commit("a"), Value::Null, "stdin is no file");

    // By a directory, and by a file.
    assert_eq!(stage.confhot(&["put", "--set", &at("b"), &at("a.toml")]).0, 0);
    assert_eq!([commit("a"), commit("c"), commit("d")], [one.clone(), one, Value::Null], "a member each");

    stage.save("a.toml", "v = 4\n");
    assert_eq!(stage.confhot(&["put", "a", &at("a.toml")]).0, 0);
    assert_eq!(commit("a"), Value::Null);
}
