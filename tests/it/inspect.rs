//! The verbs that look into a bucket and change one document: what each says, where, and with which exit code.

mod global;
mod offline;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use async_nats::jetstream;
use confhot::document::Digest;
use jiff::Timestamp;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{self, DEADLINE, Daemon, VERSIONS};

/// A bucket that nobody made yet, and a directory to run in.
struct Here {
    url: String,
    bucket: String,
    dir: TempDir,
}

impl Here {
    fn new() -> Here {
        let url = support::shared(VERSIONS[VERSIONS.len() - 1]).url();
        Here { url, bucket: support::bucket(), dir: tempfile::tempdir().unwrap() }
    }

    /// For what asks no server, or one that is not there.
    fn offline_only() -> Here {
        Here { url: "nats://127.0.0.1:1".into(), bucket: support::bucket(), dir: tempfile::tempdir().unwrap() }
    }

    /// As [`Here::new`], with these documents of `service1`, oldest first.
    fn with(documents: &[&str]) -> Here {
        let here = Here::new();
        for document in documents {
            here.put("service1", document);
        }
        here
    }

    fn file(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// `line` is what is typed after `confhot`; a space always parts two arguments.
    fn command(&self, line: &str) -> assert_cmd::Command {
        let mut command = support::confhot();
        command.args(line.split(' ')).args(["--server", &self.url, "--bucket", &self.bucket]);
        command.env("LOGNAME", "jo").current_dir(self.dir.path()).timeout(DEADLINE);
        command
    }

    /// All that a command says: stdout, then stderr with `!` before each line, then the exit code.
    fn told(&self, command: &mut assert_cmd::Command) -> String {
        let output = command.output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        let stderr: String = stderr.lines().map(|line| format!("! {line}\n")).collect();
        let all = format!("{}{stderr}= {}", String::from_utf8(output.stdout).unwrap(), output.status.code().unwrap());
        let all = all.replace(&self.url, "URL").replace(&self.bucket, "BUCKET");
        let word = |token: &str| {
            let word = token.trim_end_matches([' ', ',', '"', '\n']);
            let masked = match word {
                time if time.ends_with('Z') && time.parse::<Timestamp>().is_ok() => "TIME",
                digest if digest.parse::<Digest>().is_ok() => "DIGEST",
                _ => return token.to_owned(),
            };
            token.replacen(word, masked, 1)
        };
        all.split_inclusive([' ', ',', '"', '\n']).map(word).collect()
    }

    fn run(&self, line: &str) -> String {
        self.told(&mut self.command(line))
    }

    fn run_with(&self, line: &str, stdin: impl Into<Vec<u8>>) -> String {
        self.told(self.command(line).write_stdin(stdin))
    }

    #[track_caller]
    fn put(&self, key: &str, document: &str) {
        self.command(&format!("put {key} --as toml")).write_stdin(document).assert().success();
    }

    /// Stores a value as another client does, without a header.
    fn store(&self, key: &str, value: &'static [u8]) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let jetstream = jetstream::new(async_nats::connect(&self.url).await.unwrap());
            let config = jetstream::kv::Config { bucket: self.bucket.clone(), history: 9, ..Default::default() };
            let bucket = match jetstream.get_key_value(&self.bucket).await {
                Ok(bucket) => bucket,
                Err(_) => jetstream.create_key_value(config).await.unwrap(),
            };
            bucket.put(key, value.into()).await.unwrap();
        });
    }
}

// ---- all of them

#[test]
fn with_a_log_of_objects_every_word_on_stderr_is_one() {
    let here = Here::with(&["n = 1"]);
    here.file("configs/service1.toml", "n = 2\n");
    here.file("configs/broken.toml", "n = \u{202e}\n");
    here.file("configs/none.toml", "");
    for (line, code, words) in [
        ("get service2", 1, ["ERROR: there is no key service2 in the bucket", "hint: did you mean"]),
        ("loader --dir configs --once", 1, ["INFO: 0 published, 0 unchanged, 2 refused, 1 drifted", "INFO"]),
        ("put service1 configs/service1.toml --expect 7", 1, ["ERROR: service1 is at revision", "hint"]),
        ("status", 0, ["INFO: no live instance is known", "INFO"]),
    ] {
        let output = here.command(line).args(["--log-format", "json", "--color", "always"]).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        let said = stderr.lines().map(|line| {
            let said: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{stderr}"));
            assert!(said["timestamp"].as_str().unwrap().parse::<Timestamp>().is_ok(), "{line}");
            let hint = said["hint"].as_str().map_or(String::new(), |hint| format!(" hint: {hint}"));
            format!("{}: {}{hint}", said["level"].as_str().unwrap(), said["message"].as_str().unwrap())
        });
        let said: Vec<_> = said.collect();
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert!(words.iter().all(|word| said.iter().any(|said| said.contains(word))), "{said:#?}");
        assert!(!stderr.contains(['\u{1b}', '\u{202e}']) && !stderr.contains("u001b"), "{stderr}");
    }
}

// ---- get

#[test]
fn get_writes_the_stored_bytes_and_nothing_else() {
    let here = Here::new();
    let bytes: &[u8] = b"\xef\xbb\xbfport = 1\r\n\xff\xfe\x00 no newline at the end";
    here.store("service1", bytes);

    here.command("get service1").assert().code(0).stdout(bytes).stderr("");
}

#[test]
fn get_takes_a_revision_by_number_and_by_distance() {
    let here = Here::with(&["n = 1\n"]);
    here.put("other", "x = 1\n");
    here.put("service1", "n = 3\n");

    for (line, told) in [
        ("get service1", "n = 3\n= 0"),
        ("get service1 --revision @", "n = 3\n= 0"),
        ("get service1 --revision 3", "n = 3\n= 0"),
        ("get service1 --revision 1", "n = 1\n= 0"),
        ("get service1 --revision @~1", "n = 1\n= 0"),
        ("get service1 --revision ~1", "n = 1\n= 0"),
        (
            "get service1 --revision @~2",
            "! error: service1 has no @~2: 2 of its revisions are retained\n\
             ! hint: `confhot history service1` lists the revisions that are retained\n= 1",
        ),
        // Another key's.
        (
            "get service1 --revision 2",
            "! error: service1 has no revision 2\n\
             ! hint: `confhot history service1` lists the revisions that are retained\n= 1",
        ),
        (
            "get service1 --revision 99",
            "! error: service1 has no revision 99\n\
             ! hint: `confhot history service1` lists the revisions that are retained\n= 1",
        ),
    ] {
        assert_eq!(here.run(line), told, "{line}");
    }
}

#[test]
fn get_of_a_deleted_key_is_a_no_and_its_history_is_still_there() {
    let here = Here::with(&["n = 1\n"]);
    here.command("delete service1 --yes").assert().success();

    assert_eq!(
        here.run("get service1"),
        "! error: service1 was deleted at revision 2\n\
         ! hint: its history stays: `confhot history service1`, `confhot get service1 --revision @~1`\n= 1"
    );
    assert_eq!(here.run("get service1 --revision @~1"), "n = 1\n= 0");
}

#[test]
fn get_of_a_tombstone_by_its_revision_does_not_name_that_revision_again() {
    let here = Here::with(&["n = 1\n"]);
    here.command("delete service1 --yes").assert().success();
    here.put("service1", "n = 3\n");

    for line in [
        "get service1 --revision @~1",
        "get service1 --revision 2",
        "get service1 --at 2",
        "rollback service1 @~1 --yes",
    ] {
        let told = "! error: service1 was deleted at revision 2\n\
                    ! hint: `confhot history service1` lists the revisions that are retained\n= 1";
        assert_eq!(here.run(line), told, "{line}");
    }
}

#[test]
fn an_unknown_key_names_the_nearest_one() {
    let here = Here::with(&["n = 1\n"]);

    let nearest = "! error: there is no key servce1 in the bucket BUCKET\n! hint: did you mean `service1`?\n= 1";
    for verb in ["get servce1", "get servce1 --revision 7", "diff servce1", "history servce1", "delete servce1 --yes"] {
        assert_eq!(here.run(verb), nearest, "{verb}");
    }
    assert_eq!(
        here.run("get web"),
        "! error: there is no key web in the bucket BUCKET\n! hint: the nearest key is `service1`\n= 1"
    );
    here.command("delete service1 --yes").assert().success();
    assert_eq!(
        here.run("get web"),
        "! error: there is no key web in the bucket BUCKET\n! hint: `confhot keys` lists what is there\n= 1"
    );
}

#[test]
fn get_as_json_parses_the_value_and_tells_where_it_came_from() {
    let here = Here::new();
    here.file("service1.toml", "[server]\nport = 8080\n");
    here.command("put service1 service1.toml --message ports").assert().success();
    here.store("raw", b"server:\n  port: 1\n");
    here.store("broken", b"port 8080\n");

    let output = here.command("get service1 --format json").output().unwrap();
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    let created: Timestamp = value["created"].as_str().unwrap().parse().unwrap();

    assert!(Timestamp::now().duration_since(created).abs().as_secs() < 60, "{created}");
    assert_eq!(value["digest"], json!(Digest::of(b"[server]\nport = 8080\n")));
    assert_eq!(
        here.run("get service1 --format json"),
        r#"{"key":"service1","revision":1,"format":"toml","digest":"DIGEST","created":"TIME","writer":"put","author":"jo","commit":null,"message":"ports","value":{"server":{"port":8080}}}
= 0"#
    );
    assert_eq!(
        here.run("get raw --format json"),
        r#"{"key":"raw","revision":2,"format":"yaml","digest":"DIGEST","created":"TIME","writer":null,"author":null,"commit":null,"message":null,"value":{"server":{"port":1}}}
= 0"#
    );
    assert_eq!(
        here.run("get broken --format json"),
        r#"{"key":"broken","revision":3,"format":null,"digest":"DIGEST","created":"TIME","writer":null,"author":null,"commit":null,"message":null,"value":"port 8080\n"}
= 0"#
    );
}

#[test]
fn get_as_json_tells_the_format_of_the_keys_previous_document_also_where_the_value_is_not_in_it() {
    let here = Here::with(&["x = 1\n"]);
    here.store("service1", b"x: 1\n");

    let told = here.run("get service1 --format json");

    assert!(told.contains(r#""format":"toml""#) && told.contains(r#""value":"x: 1\n"}"#), "{told}");
}

// ---- put

#[test]
fn put_makes_the_bucket_and_stores_a_file_or_stdin() {
    let here = Here::new();
    here.file("service1.toml", "n = 1\n");

    assert_eq!(here.run("put service1 service1.toml"), "service1 is published at revision 1\n= 0");
    assert_eq!(here.run_with("put service1 -", "n = 2\n"), "service1 is published at revision 2\n= 0");
    assert_eq!(here.run_with("put service1", "n = 3\r\n"), "service1 is published at revision 3\n= 0");
    here.command("get service1").assert().stdout("n = 3\r\n");
    assert_eq!(
        here.run_with("put service1 --format json", "n = 4\n"),
        "{\"key\":\"service1\",\"revision\":4,\"unchanged\":false}\n= 0"
    );
}

#[test]
fn put_says_where_a_bucket_is_not_as_confhot_makes_it_and_uses_it_as_it_is() {
    let here = Here::new();
    here.store("other", b"n = 1\n");
    here.file("a.toml", "n = 1\n");
    here.file("b.toml", "n = 1\n");

    let note = "! bucket `BUCKET` is used as it is, though history is 9, confhot makes it 64; ";
    for line in ["put a a.toml", "put b a.toml --wait 5s --instances 0", "put other a.toml"] {
        let told = here.run(line);
        let unchanged = line == "put other a.toml";
        assert_eq!(told.matches(note).count(), usize::from(!unchanged), "{told}");
        assert!(told.ends_with("= 0"), "{told}");
    }
    here.file("a.toml", "n = 2\n");
    for line in ["put a a.toml", "put other a.toml --wait 5s --instances 0"] {
        let told = here.run(line);
        assert_eq!((told.matches(note).count(), told.ends_with("= 0")), (1, true), "{told}");
    }
    here.file("a.toml", "n = 3\n");
    assert!(!here.run("put a a.toml -q").contains('!'));
    // It cannot store several as one.
    assert!(here.run("put --set a.toml b.toml").ends_with("= 1"));
}

#[test]
fn put_of_the_heads_bytes_makes_no_revision() {
    let here = Here::with(&["n = 1\n"]);

    assert_eq!(here.run_with("put service1", "n = 1\n"), "service1 is unchanged at revision 1\n= 0");
    assert_eq!(
        here.run_with("put service1 --format json", "n = 1\n"),
        "{\"key\":\"service1\",\"revision\":1,\"unchanged\":true}\n= 0"
    );
    // After a delete the same bytes are news.
    here.command("delete service1 --yes").assert().success();
    assert_eq!(here.run_with("put service1", "n = 1\n"), "service1 is published at revision 3\n= 0");
}

#[test]
fn put_takes_the_format_from_as_then_the_extension_then_the_key_then_the_look() {
    let here = Here::new();
    here.file("a.yaml", "a: 1\n");
    here.file("json.yaml", "{\"a\": 2}\n");
    here.file("no-extension", "a: 3\n");
    let format = |key: &str| {
        let output = here.command(&format!("get {key} --format json")).output().unwrap();
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["format"].take()
    };

    here.command("put a a.yaml").assert().success();
    assert_eq!(format("a"), "yaml");
    // JSON is YAML too, and this key is a YAML one.
    here.command("put a").write_stdin("{\"a\": 1}").assert().success();
    assert_eq!(format("a"), "yaml");
    here.command("put a --as json json.yaml").assert().success();
    assert_eq!(format("a"), "json");
    // The key's last document is remembered across a delete.
    here.command("delete a --yes").assert().success();
    here.command("put a").write_stdin("a: 1\n").assert().code(1);
    for (key, text, looks) in [("j", "{\"a\": 1}", "json"), ("t", "a = 1", "toml"), ("y", "a: 1", "yaml")] {
        here.command(&format!("put {key}")).write_stdin(text).assert().success();
        assert_eq!(format(key), looks);
    }
    here.command("put n no-extension").assert().success();
    assert_eq!(format("n"), "yaml");
}

#[test]
fn put_of_an_invalid_document_says_where_and_publishes_nothing() {
    let here = Here::with(&["n = 1\n"]);
    here.file("broken.toml", "n = 2\nport 8080\n");

    let told = here.run("put service1 broken.toml");
    assert!(told.starts_with("! error: broken.toml:2:6: "), "{told}");
    assert!(told.ends_with("\n= 1") && told.lines().count() == 2, "{told}");
    let told = here.run_with("put service1", "n = [\n");
    assert!(told.starts_with("! error: stdin:") && told.ends_with("\n= 1"), "{told}");
    assert_eq!(here.run("get service1"), "n = 1\n= 0");

    let told = here.run("put service1 missing.toml");
    assert!(told.starts_with("! error: cannot read missing.toml\n! caused by: ") && told.ends_with("= 2"), "{told}");
}

#[test]
fn put_of_an_invalid_document_does_not_make_the_bucket() {
    let here = Here::new();

    here.command("put service1 --as toml").write_stdin("port 8080").assert().code(1);

    assert_eq!(
        here.run("keys"),
        "! error: there is no bucket `BUCKET`\n\
         ! hint: `confhot loader` and `confhot put` make it; --bucket names another one\n= 1"
    );
}

#[test]
fn an_empty_document_needs_force() {
    let here = Here::with(&["n = 1\n"]);

    assert_eq!(
        here.run_with("put service1", "\n"),
        "! error: stdin: the document is empty\n! hint: --force publishes an empty document\n= 1"
    );
    assert_eq!(here.run_with("put service1 --force", "\n"), "service1 is published at revision 2\n= 0");
    // Once it is stored, it is a document as any other.
    assert_eq!(here.run("diff service1 --structural"), "- n: 1\n= 1");
    assert!(
        here.run("get service1 --format json").contains("\"value\":{}"),
        "{}",
        here.run("get service1 --format json")
    );
}

#[test]
fn put_with_expect_compares_and_sets() {
    let here = Here::with(&["n = 1\n", "n = 2\n"]);

    assert_eq!(
        here.run_with("put service1 --expect 1", "n = 9\n"),
        "! error: service1 is at revision 2, not 1\n\
         ! hint: `confhot diff service1 1` shows what changed since\n= 1"
    );
    assert_eq!(
        here.run_with("put service1 --expect 0", "n = 9\n"),
        "! error: service1 is at revision 2, not 0\n! hint: service1 has a value: `confhot get service1`\n= 1"
    );
    // The race is lost even where the winner wrote the same.
    here.command("put service1 --expect 1").write_stdin("n = 2\n").assert().code(1);
    assert_eq!(here.run_with("put service1 --expect 2", "n = 3\n"), "service1 is published at revision 3\n= 0");
}

#[test]
fn expect_0_means_no_live_value_so_a_tombstone_is_one() {
    let here = Here::new();

    assert_eq!(
        here.run_with("put service1 --expect 7", "n = 1\n"),
        "! error: service1 is at revision 0, not 7\n! hint: service1 has no value: --expect 0\n= 1"
    );
    assert_eq!(here.run_with("put service1 --expect 0", "n = 1\n"), "service1 is published at revision 1\n= 0");
    here.command("delete service1 --yes").assert().success();
    assert_eq!(
        here.run_with("put service1 --expect 1", "n = 2\n"),
        "! error: service1 is at revision 0, not 1\n! hint: service1 has no value: --expect 0\n= 1"
    );
    assert_eq!(here.run_with("put service1 --expect 0", "n = 2\n"), "service1 is published at revision 3\n= 0");
}

#[test]
fn expect_takes_a_distance_from_the_head_as_other_verbs_do() {
    let here = Here::with(&["n = 1\n", "n = 2\n"]);

    for back in ["@~1", "~1"] {
        assert_eq!(
            here.run_with(&format!("put service1 --expect {back}"), "n = 3\n"),
            "! error: service1 is at revision 2, not 1\n! hint: `confhot diff service1 1` shows what changed since\n= 1"
        );
    }
    assert_eq!(
        here.run_with("put service1 --expect @~2", "n = 3\n"),
        "! error: service1 has no @~2: 2 of its revisions are retained\n\
         ! hint: `confhot history service1` lists the revisions that are retained\n= 1"
    );
    here.command("put service2 --expect @").write_stdin("n = 3\n").assert().code(1);
    assert_eq!(here.run_with("put service1 --expect @", "n = 3\n"), "service1 is published at revision 3\n= 0");
    // A tombstone counts as a revision of the key.
    here.command("delete service1 --yes").assert().success();
    here.command("put service1 --expect @~1").write_stdin("n = 4\n").assert().code(1);
    assert_eq!(here.run_with("put service1 --expect @", "n = 4\n"), "service1 is published at revision 5\n= 0");
}

#[test]
fn put_tells_the_history_who_and_why() {
    let here = Here::new();
    let git = |args: &[&str]| {
        let mut git = std::process::Command::new("git");
        git.args(args).current_dir(here.dir.path()).env("HOME", here.dir.path()).env("GIT_CONFIG_NOSYSTEM", "1");
        assert!(git.output().unwrap().status.success());
    };
    git(&["init", "-q"]);
    git(&["config", "user.name", "Jo Doe"]);
    git(&["config", "user.email", "jo@example.org"]);

    here.command("put service1 --message more").write_stdin("n = 1\n").assert().success();

    assert_eq!(
        here.run("history service1"),
        "REVISION  CREATED               WRITER  SIZE  FORMAT  AUTHOR                   COMMIT  MESSAGE\n\
         1         TIME  put     6     toml    Jo Doe <jo@example.org>  -       more\n= 0"
    );
}

// ---- diff

#[test]
fn diff_compares_the_last_two_revisions_unless_told_otherwise() {
    let here = Here::with(&["n = 1\n", "n = 2\n", "n = 3\n"]);
    let changed =
        |from: u8, to: u8| format!("--- service1@{from}\n+++ service1@{to}\n@@ -1 +1 @@\n-n = {from}\n+n = {to}\n= 1");

    assert_eq!(here.run("diff service1"), changed(2, 3));
    assert_eq!(here.run("diff service1 1"), changed(1, 3));
    assert_eq!(here.run("diff service1 @~2 2"), changed(1, 2));
    assert_eq!(here.run("diff service1 3 1"), changed(3, 1));
    assert_eq!(here.run("diff service1 @"), "= 0");
    assert_eq!(
        here.run("diff service1 @~3"),
        "! error: service1 has no @~3: 3 of its revisions are retained\n\
         ! hint: `confhot history service1` lists the revisions that are retained\n= 1"
    );
}

#[test]
fn diff_of_a_first_revision_and_of_a_delete_is_against_the_empty_document() {
    let here = Here::with(&["n = 1\n"]);
    here.file("other.toml", "n = 1\n");

    let first = here.run("diff service1");
    here.command("delete service1 --yes").assert().success();

    assert_eq!(first, "--- /dev/null\n+++ service1@1\n@@ -0,0 +1 @@\n+n = 1\n= 1");
    assert_eq!(here.run("diff service1"), "--- service1@1\n+++ /dev/null\n@@ -1 +0,0 @@\n-n = 1\n= 1");
    assert_eq!(
        here.run("diff service1 --file other.toml"),
        "--- /dev/null\n+++ other.toml\n@@ -0,0 +1 @@\n+n = 1\n= 1"
    );
    assert_eq!(
        here.run("diff absent --file other.toml --format json"),
        "{\"key\":\"absent\",\"from\":null,\"to\":null,\"changes\":[{\"path\":\"n\",\"before\":null,\"after\":1}],\
         \"text\":\"--- /dev/null\\n+++ other.toml\\n@@ -0,0 +1 @@\\n+n = 1\\n\"}\n= 1"
    );
}

#[test]
fn diff_compares_the_head_with_a_file_or_stdin() {
    let here = Here::with(&["n = 1\n"]);
    here.file("configs/service1.toml", "n = 2\n");
    here.file("same.toml", "n = 1\n");

    assert_eq!(
        here.run("diff service1 --file configs/service1.toml"),
        "--- service1@1\n+++ configs/service1.toml\n@@ -1 +1 @@\n-n = 1\n+n = 2\n= 1"
    );
    assert_eq!(here.run("diff service1 --file same.toml"), "= 0");
    assert_eq!(
        here.run_with("diff service1 --file -", "n = 3\n"),
        "--- service1@1\n+++ stdin\n@@ -1 +1 @@\n-n = 1\n+n = 3\n= 1"
    );
    let told = here.run("diff service1 --file missing.toml");
    assert!(told.starts_with("! error: cannot read missing.toml\n") && told.ends_with("= 2"), "{told}");
    here.command("diff service1 @~1 --file same.toml").assert().code(2).stdout("");
}

#[test]
fn diff_compares_an_empty_value_of_another_client_as_the_empty_document() {
    for empty in [&b""[..], b" \n"] {
        let here = Here::new();
        here.store("service1", empty);
        here.put("service1", "n = 1\n");

        assert_eq!(here.run("diff service1 --structural"), "+ n: 1\n= 1");
        for line in ["diff service1 --format json", "diff service1 --structural --format json"] {
            let told = here.run(line);
            assert!(told.contains(r#""changes":[{"path":"n","before":null,"after":1}]"#), "{told}");
        }
        here.file("empty", empty);
        assert_eq!(here.run("diff absent --structural --file empty"), "= 0");
    }
}

#[test]
fn diff_by_meaning_sees_through_the_format() {
    let here = Here::with(&["# ports\n[server]\nport = 8080\nold = true\n"]);
    here.file("same.yaml", "server: {old: true, port: 8080}\n");
    here.file("changed.json", "{\"server\": {\"port\": 9090, \"new\": [1]}}");
    here.file("broken.json", "{");

    assert_eq!(here.run("diff service1 --structural --file same.yaml"), "= 0");
    here.command("diff service1 --file same.yaml").assert().code(1);
    assert_eq!(
        here.run("diff service1 --structural --file changed.json"),
        "~ server.port: 8080 -> 9090\n- server.old: true\n+ server.new: [1]\n= 1"
    );
    let told = here.run("diff service1 --structural --file broken.json");
    assert!(told.starts_with("! error: broken.json:1:") && told.ends_with("= 1"), "{told}");

    let output = here.command("diff service1 --structural --file changed.json --format json").assert().code(1);
    let value: Value = serde_json::from_slice(&output.get_output().stdout).unwrap();
    assert_eq!((&value["from"], &value["to"]), (&json!(1), &Value::Null));
    assert_eq!(value["changes"][0], json!({ "path": "server.port", "before": 8080, "after": 9090 }));
    assert!(value["text"].as_str().unwrap().starts_with("--- service1@1\n+++ changed.json\n@@ "), "{value}");

    // By line, what does not parse has no changes by path, and differs all the same.
    let output = here.command("diff service1 --file broken.json --format json").assert().code(1);
    assert_eq!(serde_json::from_slice::<Value>(&output.get_output().stdout).unwrap()["changes"], Value::Null);
}

// ---- history, keys, delete

#[test]
fn history_is_newest_first_with_deletes_and_with_null_for_what_another_client_wrote() {
    let here = Here::new();
    here.store("service1", b"n = 0\n");
    here.command("put service1 --as toml --message why").write_stdin("n = 10\n").assert().success();
    here.command("delete service1 --yes").assert().success();

    assert_eq!(
        here.run("history service1"),
        "REVISION  CREATED               WRITER  SIZE     FORMAT  AUTHOR  COMMIT  MESSAGE\n\
         3         TIME  delete  deleted  -       jo      -\n\
         2         TIME  put     7        toml    jo      -       why\n\
         1         TIME  -       6        -       -       -\n= 0"
    );
    let delete = r#"{"key":"service1","revision":3,"operation":"delete","created":"TIME","writer":"delete","author":"jo","commit":null,"message":null,"digest":null,"size":0,"format":null,"set":null,"signer":null,"applied":0,"rejected":0}"#;
    let put = r#"{"key":"service1","revision":2,"operation":"put","created":"TIME","writer":"put","author":"jo","commit":null,"message":"why","digest":"DIGEST","size":7,"format":"toml","set":null,"signer":null}"#;
    let stored = r#"{"key":"service1","revision":1,"operation":"put","created":"TIME","writer":null,"author":null,"commit":null,"message":null,"digest":"DIGEST","size":6,"format":null,"set":null,"signer":null}"#;
    assert_eq!(here.run("history service1 --format json"), format!("{delete}\n{put}\n{stored}\n= 0"));
    assert_eq!(here.run("history service1 --format json --limit 1"), format!("{delete}\n= 0"));
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let here = Here::with(&["n = 1\n"]);
    // More than a pipe holds.
    here.file("big.toml", format!("text = \"{}\"\n", "x".repeat(900_000)));
    here.command("put big big.toml").assert().success();

    let mut child = std::process::Command::new(support::CONFHOT)
        .args(["get", "big", "--server", &here.url, "--bucket", &here.bucket])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 4];
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut first).unwrap();
    drop(stdout);
    let output = child.wait_with_output().unwrap();

    assert_eq!((&first, String::from_utf8(output.stderr).unwrap().as_str()), (b"text", ""));
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn keys_lists_what_is_live_and_matches_in_order() {
    let here = Here::new();
    here.put("web", "n = 1\n");
    here.put("billing.api", "n = 1\n");
    here.put("billing.db.replica", "n = 10\n");
    here.put("gone", "n = 1\n");
    here.command("delete gone --yes").assert().success();
    here.store("raw", b"\xff");

    assert_eq!(
        here.run("keys"),
        "KEY                 REVISION  FORMAT  SIZE  CREATED\n\
         billing.api         2         toml    6     TIME\n\
         billing.db.replica  3         toml    7     TIME\n\
         raw                 6         -       1     TIME\n\
         web                 1         toml    6     TIME\n= 0"
    );
    assert_eq!(
        here.run("keys billing.* --format json"),
        "{\"key\":\"billing.api\",\"revision\":2,\"format\":\"toml\",\"size\":6,\"created\":\"TIME\"}\n= 0"
    );
    assert_eq!(here.run("keys billing.> --format json").lines().count(), 3);
    assert_eq!(here.run("keys gone"), "! no key in BUCKET matches gone\n= 0");
    assert_eq!(here.run("keys gone -q"), "= 0");
    assert_eq!(here.run("keys gone --format json"), "= 0");
    here.command("keys bil>").assert().code(2).stdout("");
}

#[test]
fn delete_off_a_terminal_shows_what_it_would_do_and_wants_yes() {
    let here = Here::with(&["n = 1\n"]);

    let unconfirmed = "! deletes service1: revision 1, 6 bytes, of TIME, by jo\n\
         ! error: delete needs --yes where there is no terminal to ask on\n\
         ! hint: look at what it would do, then add --yes\n= 2";
    assert_eq!(here.run("delete service1"), unconfirmed);
    assert_eq!(here.run("get service1"), "n = 1\n= 0");

    assert_eq!(here.run("delete service1 --yes"), "service1 is deleted at revision 2\n= 0");
    assert_eq!(
        here.run("delete service1 --yes"),
        "! error: service1 was deleted at revision 2\n\
         ! hint: its history stays: `confhot history service1`, `confhot get service1 --revision @~1`\n= 1"
    );
    here.put("service1", "n = 2\n");
    assert_eq!(
        here.run("delete service1 --yes --format json"),
        "{\"key\":\"service1\",\"revision\":4,\"operation\":\"delete\"}\n= 0"
    );
}

#[test]
fn delete_asks_on_a_terminal() {
    let here = Here::with(&["n = 1\n"]);
    let answer = |answer: &str| {
        let line = format!("{} delete service1 --server {} --bucket {}", support::CONFHOT, here.url, here.bucket);
        let mut script = assert_cmd::Command::new("script");
        script.args(["-qec", &line, "/dev/null"]).write_stdin(answer).timeout(DEADLINE);
        let output = script.output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };

    let (code, said) = answer("n\n");
    assert!(code == 1 && said.contains(&format!("Delete service1 from the bucket {}? [y/N]", here.bucket)), "{said}");
    assert_eq!(here.run("get service1"), "n = 1\n= 0");
    let (code, said) = answer("y\n");
    assert!(code == 0 && said.contains("service1 is deleted at revision 2"), "{said}");
}

#[test]
fn without_expect_the_last_writer_wins_and_nobody_loses() {
    let here = Here::with(&["n = 0\n"]);

    std::thread::scope(|scope| {
        for n in 1..=4 {
            let mut put = here.command("put service1");
            scope.spawn(move || put.write_stdin(format!("n = {n}\n")).assert().success());
        }
    });

    assert_eq!(here.run("history service1 --format json").lines().count(), 6);
}

// ---- watch

#[test]
fn watch_tells_each_change_as_it_comes_and_ends_with_sigterm() {
    let here = Here::with(&["n = 1\n"]);
    let line = ["watch", "service1", "--format", "json", "--server", &here.url, "--bucket", &here.bucket];
    let mut watch = Daemon::start(line);
    support::eventually("watching", DEADLINE, || watch.stderr().contains("watching service1").then_some(()));

    here.put("other", "n = 1\n");
    here.put("service1", "n = 2\n");
    let put = watch.wait_event(DEADLINE, |_| true);
    here.command("delete service1 --yes").assert().success();
    let deleted = watch.wait_event(DEADLINE, |_| true);

    let history = here.command("history service1 --format json").output().unwrap().stdout;
    let mut history = history.lines().map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    // The history of a head also counts who runs it.
    let mut head = history.next().unwrap();
    for count in ["applied", "rejected"] {
        assert_eq!(head.as_object_mut().unwrap().remove(count), Some(json!(0)));
    }
    assert_eq!((deleted, Some(put)), (head, history.next()));
    watch.sigterm();
    assert_eq!(watch.wait_exit(), 0);
}

#[test]
fn watch_in_text_is_a_line_a_change_and_ctrl_c_is_no_failure() {
    let here = Here::with(&["n = 1\n"]);
    let mut watch = Daemon::start(["watch", "--server", &here.url, "--bucket", &here.bucket]);
    support::eventually("watching", DEADLINE, || watch.stderr().contains("watching >").then_some(()));

    here.command("put service1 --message why").write_stdin("n = 2\n").assert().success();
    let line = watch.wait_event(DEADLINE, |_| true);

    let (created, rest) = line.as_str().unwrap().split_once(' ').unwrap();
    assert!(created.parse::<Timestamp>().is_ok(), "{created}");
    assert_eq!(rest, " put     service1@2  6 bytes  by put  jo  why");
    watch.signal(Signal::INT);
    assert_eq!(watch.wait_exit(), 0);
}

#[test]
fn watch_of_a_bucket_that_is_not_there_is_a_no() {
    assert_eq!(
        Here::new().run("watch"),
        "! error: there is no bucket `BUCKET`\n\
         ! hint: `confhot loader` and `confhot put` make it; --bucket names another one\n= 1"
    );
}

#[test]
fn watch_ends_when_nobody_reads_any_more() {
    let here = Here::with(&["n = 1\n"]);
    let mut child = std::process::Command::new(support::CONFHOT)
        .args(["watch", "--server", &here.url, "--bucket", &here.bucket])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    stderr.read_line(&mut String::new()).unwrap();

    drop(child.stdout.take());
    here.put("service1", "n = 2\n");

    assert_eq!(confhot::child::wait(&mut child, DEADLINE).unwrap().and_then(|status| status.code()), Some(0));
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
}
