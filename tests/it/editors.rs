//! The programs that people really save with. What they do to a file is theirs to change; the sequences of system calls
//! that were seen are in `source`'s own tests.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::{DEADLINE, Daemon, Stage};

/// The first of `names` that is installed. Elsewhere than in CI, where it must be there, a missing one is passed over.
fn installed(names: &[&'static str]) -> Option<&'static str> {
    let runs = |name: &&&str| {
        let version = Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        version.is_ok()
    };
    let found = names.iter().find(runs).copied();
    assert!(found.is_some() || std::env::var_os("CI").is_none(), "none of {names:?} is installed");
    if found.is_none() {
        eprintln!("none of {names:?} is installed: passed over");
    }
    found
}

/// Runs `program` in the directory of the file, and waits until what it saved is published.
fn saved_by(loader: &mut Daemon, dir: &Path, program: &str, args: &[&str]) -> Value {
    let output = Command::new(program).args(args).current_dir(dir).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
    loader.wait_event(DEADLINE, |event| event["event"] == "published" && event["key"] == "service")
}

fn stage() -> (Stage, Daemon) {
    let stage = Stage::new();
    stage.save("service.toml", "n = 0\ntext = 'a'\n");
    let loader = stage.loader(&[]);
    (stage, loader)
}

#[test]
fn each_save_of_vim_is_published_whether_it_renames_or_writes_in_place() {
    let Some(vim) = installed(&["vim", "vim.tiny", "vim.basic", "vi"]) else { return };
    let (stage, mut loader) = stage();
    for (n, settings) in [
        "backupcopy=no writebackup",
        "backupcopy=yes writebackup",
        "nowritebackup nobackup",
        "backup backupcopy=auto",
        "backupcopy=no nofsync",
    ]
    .iter()
    .enumerate()
    {
        let (set, edit) = (format!("set {settings}"), format!("1s/.*/n = {}/", n + 1));
        let told = saved_by(
            &mut loader,
            &stage.dir(),
            vim,
            &["-u", "NONE", "-N", "-es", "-c", &set, "-c", &edit, "-c", "wq", "service.toml"],
        );
        assert!(told["revision"].is_u64(), "{told}");
        stage.holds("service", &format!("n = {}\ntext = 'a'\n", n + 1));
    }
    let refused = loader.events().iter().filter(|event| event["event"] == "refused").count();
    assert_eq!(refused, 0, "what vim leaves beside the file is no document");
}

#[test]
fn sed_twice_in_a_row_is_seen_twice() {
    let Some(sed) = installed(&["sed"]) else { return };
    let (stage, mut loader) = stage();
    for n in 1..=3 {
        saved_by(&mut loader, &stage.dir(), sed, &["-i", &format!("s/^n = .*/n = {n}/"), "service.toml"]);
        stage.holds("service", &format!("n = {n}\ntext = 'a'\n"));
    }
}

#[test]
fn rsync_from_an_older_tree_is_published_by_rename_and_in_place() {
    let Some(rsync) = installed(&["rsync"]) else { return };
    let (stage, mut loader) = stage();
    let other = tempfile::tempdir().unwrap();
    let from = other.path().join("service.toml");
    for (n, how) in [&["-a"][..], &["-a", "--inplace"], &["-a", "--delay-updates"], &["-rc"]].iter().enumerate() {
        fs::write(&from, format!("n = {}\ntext = 'a'\n", n + 1)).unwrap();
        // Older than what it replaces, as a restore's files are.
        let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000 + n as u64);
        fs::File::options().write(true).open(&from).unwrap().set_modified(old).unwrap();
        let (source, to) = (format!("{}/", other.path().display()), format!("{}/", stage.dir().display()));
        saved_by(&mut loader, &stage.dir(), rsync, &[how, &[&*source, &*to][..]].concat());
        stage.holds("service", &format!("n = {}\ntext = 'a'\n", n + 1));
    }
}

#[test]
fn a_symlink_that_is_swapped_twice_is_followed_twice() {
    let (stage, mut loader) = stage();
    for n in 1..=2 {
        stage.save(&format!("v{n}/service.toml"), format!("n = {n}\ntext = 'linked'\n"));
    }
    for n in 1..=2 {
        saved_by(&mut loader, &stage.dir(), "ln", &["-sfn", &format!("v{n}/service.toml"), "service.toml"]);
        stage.holds("service", &format!("n = {n}\ntext = 'linked'\n"));
    }
}
