//! What is held back although it is valid: changes that look like an accident, and what the operator's own check refuses.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::process::{Pid, test_kill_process};
use serde_json::{Value, json};

use crate::support::{DEADLINE, Daemon, Server, Stage, confhot, eventually, named};

impl Stage {
    /// An executable script, beside the documents.
    fn script(&self, name: &str, text: &str) -> String {
        let path = self.root.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.display().to_string()
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Exit code and stderr of `confhot put a …`.
    fn puts(&self, more: &[&str], text: impl Into<Vec<u8>>) -> (i32, String) {
        let global = ["--server", &self.url, "--bucket", &self.bucket];
        let output = confhot().args(["put", "a"]).args(more).args(global).write_stdin(text).timeout(DEADLINE).output();
        let output = output.unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    }
}

fn about(loader: &mut Daemon, event: &str, key: &str) -> Value {
    loader.wait_event(DEADLINE, |told| told["event"] == event && told["key"] == key)
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// A document of `size` bytes.
fn large(size: usize) -> String {
    let text = "text = ''\n";
    text.replace("''", &format!("'{}'", "x".repeat(size - text.len())))
}

#[test]
fn put_refuses_what_lost_its_keys_or_grew_tenfold_until_forced() {
    let stage = Stage::new();
    // Nothing to compare with: a beginning is no accident.
    assert_eq!(stage.puts(&["--as", "json"], "{}").0, 0);
    assert_eq!(stage.puts(&["--as", "toml"], "n = 1\nm = 2\n").0, 0);

    let (code, stderr) = stage.puts(&["--as", "json"], "{}");
    assert_eq!(code, 1);
    let hint = "hint: --force publishes it all the same\n";
    assert_eq!(stderr, format!("error: stdin: it has no keys any more, where 2 are published\n{hint}"));
    assert_eq!(stage.puts(&["--as", "yaml"], "{} # nothing\n").0, 1);
    let (code, stderr) = stage.puts(&[], large(65_537));
    assert_eq!(code, 1);
    assert_eq!(stderr, format!("error: stdin: it grew to 65537 bytes from the 12 that are published\n{hint}"));
    assert_eq!(stage.value("a").as_deref(), Some("n = 1\nm = 2\n"));

    assert_eq!(stage.puts(&[], large(65_536)).0, 0);
    assert_eq!(stage.puts(&[], large(600_000)).0, 0);
    assert_eq!(stage.puts(&["--as", "json", "--force"], "{}").0, 0);
    assert_eq!(stage.puts(&["--as", "toml", "--force"], large(100_000)).0, 0);
    assert_eq!(stage.confhot(&["delete", "a", "--yes"]).0, 0);
    assert_eq!(stage.puts(&["--as", "json"], "{}").0, 0);
}

#[test]
fn the_loader_refuses_what_lost_its_keys_or_grew_tenfold_until_forced() {
    let stage = Stage::new();
    stage.save("a.json", r#"{"n": 1}"#);
    stage.save("b.toml", "n = 1\n");
    let mut loader = stage.loader(&[]);

    stage.place("a.json", "{}");
    let told = about(&mut loader, "refused", "a");
    let reason = "it has no keys any more, where one is published: not published without --force";
    assert_eq!((&told["path"], &told["reason"]), (&json!("a.json"), &json!(reason)));
    stage.place("b.toml", large(70_000));
    let told = about(&mut loader, "refused", "b");
    let reason = "it grew to 70000 bytes from the 6 that are published: not published without --force";
    assert_eq!(told["reason"], reason);
    assert_eq!((stage.value("a").as_deref(), stage.value("b").as_deref()), (Some(r#"{"n": 1}"#), Some("n = 1\n")));

    // A single run and a dry one agree.
    drop(loader);
    for more in [&[][..], &["--dry-run"], &["--enforce"]] {
        let (code, events) = stage.once(more);
        assert_eq!((code, named(&events, "refused").len()), (1, 2), "{more:?}: {events:?}");
    }
    let (code, events) = stage.once(&["--force"]);
    assert_eq!((code, named(&events, "published").len()), (0, 2), "{events:?}");
    assert_eq!(stage.value("a").as_deref(), Some("{}"));

    // Ten times as much is compared with what is published now.
    let mut loader = stage.loader(&[]);
    stage.place("b.toml", large(690_000));
    about(&mut loader, "published", "b");
}

#[test]
fn what_a_loader_published_before_is_put_back_whatever_its_size() {
    let stage = Stage::new();
    stage.save("a.toml", large(70_000));
    assert_eq!(stage.once(&[]).0, 0);
    stage.put("a", "n = 1\n");

    let (code, events) = stage.once(&["--enforce"]);

    assert_eq!((code, named(&events, "published").len()), (0, 1), "{events:?}");
}

#[test]
fn an_empty_file_that_is_allowed_is_no_accident() {
    let stage = Stage::new();
    stage.save("a.toml", "n = 1\n");
    assert_eq!(stage.once(&[]).0, 0);
    stage.save("a.toml", "# nothing\n");

    assert_eq!(stage.once(&["--force"]).0, 1, "an empty file is not a document, forced or not");
    assert_eq!(stage.once(&["--allow-empty"]).0, 0);
    assert_eq!(stage.value("a").as_deref(), Some("# nothing\n"));
}

#[test]
fn a_check_is_asked_about_what_would_be_published_and_its_words_are_the_reason() {
    let stage = Stage::new();
    let asked = stage.beside("asked");
    let script = stage.script(
        "check",
        &format!(
            "echo \"$CONFHOT_KEY $CONFHOT_PATH $(cat)\" >> {}\n\
             case $CONFHOT_KEY in a) echo 'n must be' >&2; echo '  even' >&2; echo unheard; exit 3;; esac\n",
            asked.display()
        ),
    );
    stage.save("a.toml", "n = 1\n");
    stage.save("deep/b.toml", "n = 2\n");
    stage.save("b.schema.json", "{}");

    let (code, events) = stage.once(&["--validate-with", &script]);
    let refused = named(&events, "refused");
    assert_eq!((code, refused.len(), named(&events, "published").len()), (1, 1, 2), "{events:?}");
    assert_eq!(refused[0]["reason"], "--validate-with refuses it: n must be; even");
    assert_eq!((stage.value("a"), stage.value("deep.b").as_deref()), (None, Some("n = 2\n")));
    let path = |name: &str| stage.dir().join(name).display().to_string();
    let mut lines = lines(&asked);
    lines.sort();
    assert_eq!(lines, [format!("a {} n = 1", path("a.toml")), format!("deep.b {} n = 2", path("deep/b.toml"))]);

    // Not about what is published, nor twice about the same content, nor about what is invalid anyway.
    fs::remove_file(&asked).unwrap();
    let mut loader = stage.loader(&["--validate-with", &script]);
    assert_eq!(self::lines(&asked).len(), 1, "`a` only");
    stage.place("deep/b.toml", "n = 2\n");
    stage.place("deep/b.toml", "n =\n");
    about(&mut loader, "refused", "deep.b");
    stage.place("deep/b.toml", "n = 4\n");
    about(&mut loader, "published", "deep.b");
    stage.place("a.toml", "n = 3\n");
    about(&mut loader, "refused", "a");
    assert_eq!(self::lines(&asked).len(), 3, "{:?}", self::lines(&asked));
}

#[test]
fn a_slow_check_holds_up_its_own_file_alone_and_a_newer_save_overtakes_it() {
    let stage = Stage::new();
    let gate = stage.beside("gate");
    let text = "read first\ncase $first in *slow*) touch GATE.seen; until [ -e GATE ]; do sleep 0.02; done;; esac\n";
    let script = stage.script("check", &text.replace("GATE", &gate.display().to_string()));
    stage.save("a.toml", "v = 'first'\n");
    stage.save("b.toml", "v = 1\n");
    let mut loader = stage.loader(&["--validate-with", &script, "--validate-timeout", "60s"]);

    stage.place("a.toml", "v = 'slow'\n");
    // Saved later: else they are one change set.
    eventually("the check runs", DEADLINE, || stage.beside("gate.seen").exists().then_some(()));
    stage.place("b.toml", "v = 2\n");
    about(&mut loader, "published", "b");
    assert_eq!(stage.value("a").as_deref(), Some("v = 'first'\n"));
    // The answer about what is not in the file any more publishes nothing.
    stage.place("a.toml", "v = 'quick'\n");
    about(&mut loader, "published", "a");
    fs::write(&gate, "").unwrap();
    stage.place("b.toml", "v = 'slow too'\n");
    about(&mut loader, "published", "b");

    let values: Vec<_> = stage.history("a").iter().map(|entry| entry["size"].clone()).collect();
    assert_eq!(values, ["v = 'quick'\n".len(), "v = 'first'\n".len()]);
}

#[test]
fn files_that_changed_together_wait_for_each_other_s_check_and_a_refused_one_is_left_out() {
    let stage = Stage::new();
    let script =
        stage.script("check", "read first\ncase $first in *slow*) sleep 0.3;; *bad*) echo bad >&2; exit 1;; esac\n");
    let swap = |n: u32, texts: [&str; 3]| {
        let dir = stage.dir().join(format!("..{n}"));
        fs::create_dir(&dir).unwrap();
        for (name, text) in ["a.toml", "b.toml", "c.toml"].into_iter().zip(texts) {
            fs::write(dir.join(name), text).unwrap();
            if n == 1 {
                std::os::unix::fs::symlink(format!("..data/{name}"), stage.dir().join(name)).unwrap();
            }
        }
        std::os::unix::fs::symlink(format!("..{n}"), stage.dir().join("..new")).unwrap();
        fs::rename(stage.dir().join("..new"), stage.dir().join("..data")).unwrap();
    };
    swap(1, ["v = 1\n"; 3]);
    let mut loader = stage.loader(&["--validate-with", &script]);

    swap(2, ["v = 'slow'\n", "v = 2\n", "v = 'bad'\n"]);

    let a = about(&mut loader, "published", "a");
    stage.holds("b", "v = 2\n");
    assert_eq!(a["set"]["members"], 2);
    assert_eq!(stage.history("b")[0]["set"], a["set"]);
    assert_eq!(stage.value("c").as_deref(), Some("v = 1\n"));
    assert_eq!(named(loader.events(), "refused").len(), 1);
}

/// Whether a process with this id runs.
fn runs(pid: i32) -> bool {
    test_kill_process(Pid::from_raw(pid).unwrap()).is_ok()
}

#[test]
fn a_check_that_does_not_end_is_killed_with_all_that_it_started() {
    let stage = Stage::new();
    let pids = stage.beside("pids");
    let script = stage.script("check", &format!("sleep 300 &\necho $! $$ > {}\nwait\n", pids.display()));
    stage.save("a.toml", "n = 1\n");
    let before = Instant::now();

    let (code, events) = stage.once(&["--validate-with", &script, "--validate-timeout", "300ms"]);

    assert_eq!(code, 1);
    assert_eq!(named(&events, "refused")[0]["reason"], "--validate-with did not end within 300ms");
    assert!(before.elapsed() < DEADLINE);
    let pids: Vec<i32> = lines(&pids)[0].split(' ').map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(pids.len(), 2);
    eventually("both are gone", DEADLINE, || (!pids.iter().any(|pid| runs(*pid))).then_some(()));

    // A loader that is stopped meanwhile leaves none behind either.
    fs::remove_file(stage.beside("pids")).unwrap();
    let mut loader = Daemon::start(stage.args(&["--validate-with", &script, "--validate-timeout", "300s"]));
    let pids = eventually("it runs", DEADLINE, || lines(&stage.beside("pids")).first().cloned());
    loader.sigterm();
    assert_eq!(loader.wait_exit(), 0);
    let pids: Vec<i32> = pids.split(' ').map(|pid| pid.parse().unwrap()).collect();
    eventually("both are gone", DEADLINE, || (!pids.iter().any(|pid| runs(*pid))).then_some(()));
}

#[test]
fn whatever_a_check_does_with_its_pipes_it_ends() {
    let stage = Stage::new();
    let document = large(900_000);
    stage.save("a.toml", &document);
    // Reads nothing; says more than pipes hold; leaves a process behind that holds them; is not there; is killed.
    let noisy = "while [ \"$((n += 1))\" -lt 20000 ]; do echo 'nonsense over nonsense'; done; exit 1";
    for (check, code, reason) in [
        ("exit 0", 0, ""),
        (noisy, 1, "--validate-with refuses it: nonsense over nonsense; nonsense"),
        ("sleep 300 & echo no; exit 1", 1, "--validate-with refuses it: no"),
        ("/no/such/program", 1, "--validate-with refuses it: sh: "),
        ("exit 7", 1, "--validate-with refuses it: exit status: 7"),
        ("kill -9 $$", 1, "--validate-with refuses it: signal: 9"),
    ] {
        let (told, events) = stage.once(&["--dry-run", "--validate-with", check]);
        let refused = named(&events, "refused").first().map(|event| event["reason"].as_str().unwrap().to_owned());
        // What a dry run would publish is a 1 as well.
        assert_eq!((told, refused.is_some()), (1, code == 1), "{check}: {events:?}");
        assert!(
            refused.as_deref().is_none_or(|told| told.starts_with(reason) && told.len() < 500),
            "{check}: {refused:?}"
        );
    }
    assert_eq!(stage.once(&["--validate-with", "cmp -s - \"$CONFHOT_PATH\""]).0, 0);
    assert_eq!(stage.value("a"), Some(document));
}

#[test]
fn put_and_validate_ask_the_same_check() {
    let stage = Stage::new();
    let asked = stage.beside("asked");
    let text = "cat >/dev/null; echo \"$CONFHOT_KEY ${CONFHOT_PATH-none}\" >> ASKED; [ \"$CONFHOT_KEY\" = b ] || { echo no; exit 1; }";
    let check = text.replace("ASKED", &asked.display().to_string());
    let with = ["--validate-with", &check];

    let (code, stderr) = stage.puts(&with, "n = 1\n");
    assert_eq!((code, stderr.as_str()), (1, "error: stdin: --validate-with refuses it: no\n"));
    assert_eq!(stage.puts(&[], "n = 1\n").0, 0);
    // Nothing is published, so nothing is asked.
    assert_eq!(stage.puts(&with, "n = 1\n").0, 0);
    assert_eq!(lines(&asked), ["a none"]);

    fs::remove_file(&asked).unwrap();
    for (name, text) in [("a.toml", "n = 1\n"), ("b.toml", "n = 1\n"), ("c.toml", "n =\n"), ("b.schema.json", "{}")] {
        stage.save(name, text);
    }
    let validate = confhot().args(["validate", "configs"]).args(with).current_dir(stage.root.path()).output().unwrap();
    let told = String::from_utf8(validate.stdout).unwrap();
    let told: Vec<_> = told.lines().collect();
    assert_eq!(validate.status.code(), Some(1));
    assert_eq!((told.len(), told[0]), (2, "configs/a.toml: --validate-with refuses it: no"));
    assert_eq!(lines(&asked), ["a configs/a.toml", "b configs/b.toml"]);
}

#[test]
fn a_document_that_passed_while_the_server_was_away_is_published_when_it_is_back() {
    let mut server = Server::start();
    let stage = Stage::at(&server.url());
    let [asked, gate, passed] = ["asked", "gate", "passed"].map(|name| stage.beside(name));
    let text = "echo >> ASKED; until [ -e GATE ]; do sleep 0.02; done; echo >> PASSED\n";
    let text = text.replace("ASKED", &asked.display().to_string()).replace("GATE", &gate.display().to_string());
    let script = stage.script("check", &text.replace("PASSED", &passed.display().to_string()));
    fs::write(&gate, "").unwrap();
    stage.save("a.toml", "n = 1\n");
    let mut loader = stage.loader(&["--validate-with", &script]);

    fs::remove_file(&gate).unwrap();
    stage.place("a.toml", "n = 2\n");
    eventually("the check runs", DEADLINE, || (lines(&asked).len() == 2).then_some(()));
    server.kill9();
    loader.event("disconnected");
    fs::write(&gate, "").unwrap();
    eventually("it passed", DEADLINE, || (lines(&passed).len() == 2).then_some(()));
    server.restart();

    about(&mut loader, "published", "a");
    assert_eq!(stage.value("a").as_deref(), Some("n = 2\n"));
    assert_eq!(lines(&asked).len(), 2, "what passed is not asked about again");
}
