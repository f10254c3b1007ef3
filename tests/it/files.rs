//! What confhot leaves on disk is its owner's alone where it holds values, whatever the umask says.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::support::{CONFHOT, DEADLINE, Daemon, Stage, eventually};

/// Every file and directory in `dir`, itself included, with its mode.
fn modes(dir: &Path) -> Vec<(String, u32)> {
    let mut found = Vec::new();
    let mut left = vec![dir.to_owned()];
    while let Some(path) = left.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        if meta.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        found.push((path.display().to_string(), meta.permissions().mode() & 0o777));
    }
    found
}

#[track_caller]
fn assert_own(dir: &Path, files: usize) {
    let modes = modes(dir);
    assert!(
        modes.iter().all(|(path, mode)| *mode == if Path::new(path).is_dir() { 0o700 } else { 0o600 }),
        "{modes:#?}"
    );
    let count = modes.iter().filter(|(path, _)| Path::new(path).is_file()).count();
    assert_eq!(count, files, "{modes:#?}");
}

/// `confhot` as it is started by somebody who lets everybody write everything.
fn careless(stage: &Stage, args: &[&str]) -> Daemon {
    let script = "umask 000; exec \"$0\" \"$@\"";
    let global = ["--server", &stage.url, "--bucket", &stage.bucket, "--format", "json"];
    Daemon::program("sh", ["-c", script, CONFHOT].iter().chain(args).chain(&global), |_| {})
}

#[test]
fn the_state_of_a_service_and_an_export_are_their_owners_alone_under_any_umask() {
    let stage = Stage::new();
    stage.save("service1.toml", "n = 1\n");
    stage.save("billing/api.yaml", "n: 1\n");
    assert_eq!(stage.once(&[]).0, 0);

    let (state, exported) = (stage.root.path().join("var/state"), stage.root.path().join("exported"));
    let mut service = careless(&stage, &["serve", "--name", "service1", "--state-dir", state.to_str().unwrap()]);
    service.event("applied");
    assert_own(&state, 2);
    let inode = || std::os::unix::fs::MetadataExt::ino(&fs::metadata(state.join("service1.state")).unwrap());
    let before = inode();
    stage.put("service1", "n = 2\n");
    service.wait_event(DEADLINE, |event| event["event"] == "applied" && event["revision"] != 1);
    eventually("it is replaced as a whole", DEADLINE, || (inode() != before).then_some(()));
    assert_own(&state, 2);

    for more in [&[][..], &["--force"]] {
        let args = [&["export", exported.to_str().unwrap()], more].concat();
        assert_eq!(careless(&stage, &args).wait_exit(), 0);
        assert_own(&exported, 2);
    }
}
