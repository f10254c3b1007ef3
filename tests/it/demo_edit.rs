//! `confhot demo-edit` on real files: what it saves, what it leaves alone, and what it leaves behind.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::json;
use tempfile::TempDir;

use crate::support::{DEADLINE, Daemon, VERSIONS, bucket, confhot, eventually, shared};

/// A copy of the documents of the demo.
fn configs() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("configs")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), dir.path().join(file.file_name())).unwrap();
    }
    dir
}

/// Every file in `dir`, hidden ones included.
fn content(dir: &Path) -> BTreeMap<PathBuf, String> {
    let files = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    files.map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

fn start(dir: &Path, more: &[&str]) -> Daemon {
    let args = ["demo-edit", "--format", "json", "--every", "10ms", "--dir", dir.to_str().unwrap()];
    Daemon::start(args.iter().chain(more))
}

#[test]
fn it_makes_each_kind_of_edit_and_puts_everything_back_when_it_is_stopped() {
    let dir = configs();
    let mode = |name: &str| std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
    std::fs::set_permissions(dir.path().join("service1.toml"), std::fs::Permissions::from_mode(0o640)).unwrap();
    let before = content(dir.path());
    let mut editor = start(dir.path(), &["--seed", "3", "--faults"]);

    let ready = editor.event("ready");
    // The schemas beside them are nobody's to play with.
    assert_eq!(ready, json!({"event": "ready", "documents": 3, "databases": 3, "seed": 3}));
    for fault in ["syntax", "empty", "unreachable"] {
        editor.wait_event(DEADLINE, |event| event["event"] == "broken" && event["fault"] == fault);
    }
    for at in ["logging.level", "database.url"] {
        editor.wait_event(DEADLINE, |event| event["event"] == "edited" && event["at"] == at);
    }
    editor.event("mended");
    editor.sigterm();
    assert_eq!(editor.wait_exit(), 0, "{}", editor.stderr());

    assert_eq!(content(dir.path()), before);
    assert_eq!(mode("service1.toml"), 0o640);
    let events = editor.events();
    let told: BTreeSet<_> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(told, BTreeSet::from(["ready", "edited", "broken", "mended", "restored"]));
    let all = serde_json::to_string(events).unwrap();
    for secret in ["storefront:storefront", "billing:billing", "search:search"] {
        assert!(!all.contains(secret), "{secret}");
    }
}

#[test]
fn what_somebody_else_saves_meanwhile_is_edited_on_and_is_what_stays() {
    let dir = configs();
    std::fs::remove_file(dir.path().join("service2.yaml")).unwrap();
    std::fs::remove_file(dir.path().join("service3.json")).unwrap();
    let path = dir.path().join("service1.toml");
    let mut editor = start(dir.path(), &[]);
    editor.event("edited");

    let mine = "# mine\n[logging]\nlevel = \"info\"\n";
    let draft = dir.path().join("draft");
    std::fs::write(&draft, mine).unwrap();
    std::fs::rename(draft, &path).unwrap();
    eventually("mine is edited", DEADLINE, || {
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# mine\n"), "{text}");
        (text != mine).then_some(())
    });

    // A mistake of somebody else's is theirs to mend. Saved again as long as one of its own saves may have come after it.
    eventually("it is left alone", DEADLINE, || {
        std::fs::write(&path, "level = \"inf\n").unwrap();
        editor.stderr().contains("is left alone").then_some(())
    });
    editor.sigterm();
    assert_eq!(editor.wait_exit(), 0);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "level = \"inf\n");
}

#[test]
fn a_directory_that_cannot_be_read_is_a_wrong_start() {
    confhot().args(["demo-edit", "--dir", "/nonexistent"]).assert().code(2).stdout("");
}

#[test]
fn every_edit_arrives_as_what_it_is_an_apply_or_a_refusal() {
    let (dir, bucket, server) = (configs(), bucket(), shared(VERSIONS[2]).url());
    let global = ["--server", server.as_str(), "--bucket", bucket.as_str()];
    let mut loader =
        Daemon::start(["loader", "--format", "json", "--dir", dir.path().to_str().unwrap()].iter().chain(&global));
    loader.event("ready");
    let mut editor = start(dir.path(), &["--seed", "5", "--faults"]);
    editor.wait_event(DEADLINE, |event| event["fault"] == "syntax");
    editor.wait_event(DEADLINE, |event| event["event"] == "edited");
    let refused = loader.event("refused");
    assert!(
        refused["line"].is_u64() || refused["reason"].as_str().is_some_and(|why| why.contains("empty")),
        "{refused}"
    );
    loader.event("published");
    editor.sigterm();
    assert_eq!(editor.wait_exit(), 0);

    for (path, text) in content(dir.path()) {
        let key = path.file_stem().unwrap().to_str().unwrap();
        if key.ends_with(".schema") {
            continue;
        }
        eventually(&format!("{key} holds what stands in its file"), DEADLINE, || {
            let got = confhot().args(["get", key]).args(global).output().unwrap();
            (got.stdout == text.as_bytes()).then_some(())
        });
    }
}
