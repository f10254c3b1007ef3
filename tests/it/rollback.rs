//! `confhot rollback`: the way back, and a loader that does not undo it.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::feed;
use crate::support::{CONFHOT, DEADLINE, Stage, confhot, named};

impl Stage {
    /// A stage whose key `a` was published as each of `texts`, oldest first, by a loader.
    fn published(texts: &[&str]) -> Stage {
        let stage = Stage::new();
        for text in texts {
            stage.save("a.toml", text);
            assert_eq!(stage.once(&[]).0, 0);
        }
        stage
    }

    /// `confhot rollback a …`: exit code, stdout, stderr.
    fn rollback(&self, more: &[&str]) -> (i32, String, String) {
        let global = ["--server", &self.url, "--bucket", &self.bucket];
        let output = confhot().args(["rollback", "a"]).args(more).args(global).timeout(DEADLINE).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    #[track_caller]
    fn rolls_back(&self, more: &[&str]) {
        let (code, _, stderr) = self.rollback(&[&["--yes", "-q"], more].concat());
        assert_eq!((code, stderr.as_str()), (0, ""));
    }

    /// Stores a value as another client does, without a header.
    fn store(&self, value: &'static str) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let jetstream = async_nats::jetstream::new(async_nats::connect(&self.url).await.unwrap());
            let bucket = jetstream.get_key_value(&self.bucket).await.unwrap();
            bucket.put("a", value.into()).await.unwrap();
        });
    }
}

#[test]
fn it_shows_the_diff_and_off_a_terminal_wants_yes() {
    let stage = Stage::published(&["n = 1\n", "n = 2\n"]);

    let diff = "--- a@2\n+++ a@1\n@@ -1 +1 @@\n-n = 2\n+n = 1\n";
    let unconfirmed = "error: rollback needs --yes where there is no terminal to ask on\n\
        hint: look at what it would do, then add --yes\n";
    assert_eq!(stage.rollback(&[]), (2, String::new(), format!("{diff}{unconfirmed}")));
    assert_eq!(stage.value("a").as_deref(), Some("n = 2\n"));

    let (code, stdout, stderr) = stage.rollback(&["--yes"]);
    assert_eq!((code, stdout.as_str()), (0, "a is rolled back to revision 1, as revision 3\n"));
    assert_eq!(stderr, diff);
    assert_eq!(stage.value("a").as_deref(), Some("n = 1\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_new_revision_tells_who_why_and_what_came_back() {
    let stage = Stage::published(&["n = 1\n", "n = 2\n"]);

    let (code, stdout, _) = stage.rollback(&["--yes", "--message", "it fails", "--format", "json"]);

    let answer: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, answer), (0, json!({ "key": "a", "revision": 3, "unchanged": false })));
    let bucket = feed::connect(&stage.url).await.bucket(&stage.bucket).unwrap();
    let head = bucket.head(&feed::key("a")).await.unwrap().unwrap();
    let from = head.provenance;
    assert_eq!(from.writer.as_ref().map(|writer| writer.as_str()), Some("rollback"));
    assert_eq!(from.rollback_of.map(|revision| revision.0), Some(1));
    assert_eq!(from.message.as_deref(), Some("it fails"));
    assert_eq!(from.format.map(|format| format.to_string()).as_deref(), Some("toml"));
    // It is not of that loader's directory, and at no path in it.
    assert_eq!((from.path, from.source, from.commit), (None, None, None));
    assert!(from.read_at.is_some(), "how long it takes to arrive is told from there");
}

#[test]
fn a_second_rollback_goes_further_back_until_nothing_is_older() {
    let stage = Stage::published(&["n = 1\n", "n = 2\n", "n = 3\n"]);

    stage.rolls_back(&[]);
    assert_eq!(stage.value("a").as_deref(), Some("n = 2\n"));
    stage.rolls_back(&[]);
    assert_eq!(stage.value("a").as_deref(), Some("n = 1\n"));
    let (code, stdout, stderr) = stage.rollback(&["--yes"]);

    assert_eq!((code, stdout.as_str()), (1, ""));
    assert_eq!(
        stderr,
        "error: a has no document before revision 1 to go back to\n\
         hint: `confhot history a` lists the revisions that are retained\n"
    );
    assert_eq!(stage.history("a").len(), 5);
}

#[test]
fn a_revision_is_taken_by_number_and_by_distance_and_one_that_is_none_is_a_no() {
    let stage = Stage::published(&["n = 1\n", "n = 2\n", "n = 3\n"]);

    stage.rolls_back(&["1"]);
    assert_eq!(stage.value("a").as_deref(), Some("n = 1\n"));
    // From the head at 4: 3, then 2.
    stage.rolls_back(&["@~2"]);
    assert_eq!(stage.value("a").as_deref(), Some("n = 2\n"));

    let (code, stdout, _) = stage.rollback(&["2", "--format", "json"]);
    let answer: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, answer), (0, json!({ "key": "a", "revision": 5, "unchanged": true })));
    for (revision, said) in [("77", "a has no revision 77"), ("@~9", "a has no @~9: 5 of its revisions are retained")] {
        let (code, _, stderr) = stage.rollback(&[revision, "--yes"]);
        assert_eq!(code, 1);
        assert!(stderr.contains(said), "{stderr}");
    }
    let absent = confhot().args(["rollback", "b", "--yes", "--server", &stage.url, "--bucket", &stage.bucket]).output();
    assert_eq!(absent.unwrap().status.code(), Some(1));
    assert_eq!(stage.history("a").len(), 5);
}

#[test]
fn a_deleted_key_comes_back_and_a_tombstone_is_no_target() {
    let stage = Stage::published(&["n = 1\n"]);
    assert_eq!(stage.confhot(&["delete", "a", "--yes"]).0, 0);

    let (code, _, stderr) = stage.rollback(&["--yes"]);
    assert_eq!((code, stderr.as_str()), (0, "--- /dev/null\n+++ a@1\n@@ -0,0 +1 @@\n+n = 1\n"));
    assert_eq!(stage.value("a").as_deref(), Some("n = 1\n"));

    let (code, _, stderr) = stage.rollback(&["2", "--yes"]);
    assert!(code == 1 && stderr.contains("a was deleted at revision 2"), "{stderr}");
    assert_eq!(stage.history("a").len(), 3);
}

#[test]
fn a_broken_head_is_rolled_back_and_a_broken_revision_is_not_gone_back_to() {
    let stage = Stage::published(&["n = 1\n"]);
    stage.store("n =");

    stage.rolls_back(&[]);
    assert_eq!(stage.value("a").as_deref(), Some("n = 1\n"));

    let (code, stdout, stderr) = stage.rollback(&["2", "--yes"]);
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(stderr.starts_with("error: a@2 is not a valid document: line 1, column"), "{stderr}");
    assert!(stderr.ends_with("hint: `confhot rollback a REVISION` goes to another one\n"), "{stderr}");
    assert_eq!(stage.history("a").len(), 3);
}

#[test]
fn whoever_is_faster_is_not_overwritten() {
    let stage = Stage::published(&["n = 1\n", "n = 2\n"]);
    let line = format!("{CONFHOT} rollback a --server {} --bucket {}", stage.url, stage.bucket);
    let mut script = Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut terminal = script.stdout.take().unwrap();
    let mut said = String::new();
    let mut read = |said: &mut String| {
        let mut bytes = [0; 1024];
        let read = terminal.read(&mut bytes).unwrap();
        said.push_str(&String::from_utf8_lossy(&bytes[..read]));
        read > 0
    };
    while !said.contains("Roll a back to revision 1? [y/N]") {
        assert!(read(&mut said), "{said}");
    }
    assert!(said.contains("-n = 2") && said.contains("+n = 1"), "{said}");

    stage.put("a", "n = 3\n");
    script.stdin.take().unwrap().write_all(b"y\n").unwrap();

    while read(&mut said) {}
    assert_eq!(script.wait().unwrap().code(), Some(1));
    assert!(said.contains("a is at revision 3, not 2"), "{said}");
    assert_eq!(stage.value("a").as_deref(), Some("n = 3\n"));
}

#[test]
fn a_running_loader_reports_drift_and_puts_the_withdrawn_content_back_only_when_the_file_changes() {
    for enforce in [&["--enforce"][..], &[]] {
        let stage = Stage::published(&["n = 1\n", "n = 2\n"]);
        let mut loader = stage.loader(enforce);

        stage.rolls_back(&[]);
        let drift = loader.event("drift");
        assert_eq!((&drift["key"], &drift["revision"], &drift["by"]), (&json!("a"), &json!(3), &json!("rollback")));
        // A touch is no change.
        stage.place("a.toml", "n = 2\n");
        // What is published next tells that the touch is through.
        stage.place("b.toml", "n = 1\n");
        loader.event("published");
        assert_eq!(stage.value("a").as_deref(), Some("n = 1\n"), "{enforce:?}");

        stage.place("a.toml", "n = 3\n");
        assert_eq!(loader.event("published")["key"], "a");
        stage.place("a.toml", "n = 2\n");
        assert_eq!(loader.event("published")["key"], "a");
        assert_eq!(stage.value("a").as_deref(), Some("n = 2\n"));
    }
}

#[test]
fn a_loader_that_starts_after_a_rollback_sees_drift_and_enforce_does_not_publish_what_was_withdrawn() {
    let stage = Stage::published(&["n = 1\n", "n = 2\n", "n = 3\n"]);
    stage.rolls_back(&[]);
    stage.rolls_back(&[]);

    for more in [&[][..], &["--enforce"], &["--dry-run"], &["--enforce", "--dry-run"]] {
        let (code, events) = stage.once(more);
        let drift = named(&events, "drift");
        assert_eq!((code, drift.len(), &drift[0]["by"]), (1, 1, &json!("rollback")), "{more:?}: {events:?}");
    }
    let mut loader = stage.loader(&["--enforce"]);
    assert_eq!(named(loader.events(), "drift").len(), 1);
    drop(loader);
    assert_eq!(stage.value("a").as_deref(), Some("n = 1\n"));

    // Changed while no loader ran.
    stage.save("a.toml", "n = 4\n");
    assert_eq!(stage.once(&[]).0, 0);
    assert_eq!(stage.value("a").as_deref(), Some("n = 4\n"));
    // And back to what the bucket holds: nothing is left to say.
    stage.rolls_back(&[]);
    stage.save("a.toml", "n = 1\n");
    assert_eq!(stage.once(&[]).0, 0);
}
