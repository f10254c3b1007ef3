//! Who wrote a document and which commit it is from, as the history tells it.

use std::fs;

use crate::support::{Daemon, Stage, confhot};

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
