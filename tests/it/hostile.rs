//! Documents that are meant to do harm, by every way in and out.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use confhot::document::Digest;
use confhot::kv::{Bucket, token};
use serde_json::json;

use crate::feed::{key, put};
use crate::serve::{address, fresh, serve};
use crate::support::{self, CONFHOT, DEADLINE, Daemon, eventually, http_get};

/// Name, bytes, and whether it is a document at all.
fn documents() -> Vec<(&'static str, Vec<u8>, bool)> {
    let mut laughs = String::from("a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    (1..12).for_each(|n| laughs += &format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(", ")));
    let key = "k".repeat(500_000);
    vec![
        ("laughs.yaml", laughs.into_bytes(), false),
        ("brackets.json", "[".repeat(100_000).into_bytes(), false),
        ("braces.json", format!("{}1{}", "{\"a\":".repeat(50_000), "}".repeat(50_000)).into_bytes(), false),
        ("flow.yaml", format!("a: {}", "[".repeat(100_000)).into_bytes(), false),
        ("dots.toml", format!("{} = 1\n", vec!["a"; 100_000].join(".")).into_bytes(), false),
        ("inline.toml", format!("a = {}", "{a=".repeat(50_000)).into_bytes(), false),
        ("key.toml", format!("{key} = 1\n").into_bytes(), true),
        ("key.json", format!("{{\"{key}\":1}}").into_bytes(), true),
        ("key.yaml", format!("? {key}\n: 1\n").into_bytes(), true),
        ("infinite.json", b"{\"a\":1e999}".to_vec(), false),
        ("digits.json", format!("{{\"a\":{}}}", "9".repeat(5_000)).into_bytes(), false),
        ("digits.toml", format!("a = {}\n", "9".repeat(40)).into_bytes(), false),
        ("infinite.toml", b"a = 1e999\n".to_vec(), false),
        ("bytes.json", b"{\"a\":\"\xff\"}".to_vec(), false),
        ("bytes.toml", b"a = \"\xff\"\n".to_vec(), false),
        ("bytes.yaml", b"a: \"\xff\"\n".to_vec(), false),
        ("wide.yaml", b"\xff\xfea\0:\0 \x001\0\n\0".to_vec(), false),
        ("nul.json", b"{\"a\":\"\0\"}".to_vec(), false),
        ("nul.toml", b"a = \"\0\"\n".to_vec(), false),
        ("nul.yaml", b"a: \"\0\"\n".to_vec(), false),
        ("raw.json", b"{\"a\":\"\x1b[31m\"}".to_vec(), false),
        ("raw.toml", b"a = \"\x1b[31m\"\n".to_vec(), false),
        ("raw.yaml", b"a: \"\x1b[31m\"\n".to_vec(), false),
        ("return.toml", b"a = 1\rb = 2\n".to_vec(), false),
        ("escaped.json", br#"{"a\u001b[2J":"\u001b]0;x\u0007\u009b31m\u202e"}"#.to_vec(), true),
        ("escaped.toml", b"\"k\\u001b[2J\" = \"\\u001b[31m\\u009b2J\\u0007\"\n".to_vec(), true),
        ("escaped.yaml", b"\"a\\e[2J\": \"\\e]0;x\\a\\x9b31m\"\n".to_vec(), true),
        ("c1.yaml", "a: \"\u{9b}31m\u{85}\"\n".into(), false),
    ]
}

fn is_raw(c: char) -> bool {
    c.is_control() && !matches!(c, '\n' | '\r' | '\t')
}

/// Runs a verb; its exit code, and all that it said.
fn run(args: &[&str]) -> (i32, String) {
    let since = Instant::now();
    let output = support::confhot().args(args).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(since.elapsed() < Duration::from_secs(5), "{args:?} took {:?}", since.elapsed());
    assert!(!said.contains("panicked"), "{args:?}: {said}");
    (output.status.code().unwrap(), said)
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_documents_are_refused_alike_by_every_way_in() {
    tokio::task::block_in_place(|| {
        let dir = tempfile::tempdir().unwrap();
        let server = support::shared("2.15.1");
        let good = dir.path().join("good.toml");
        fs::write(&good, "a = 1\n").unwrap();
        for (name, bytes, is_one) in documents() {
            // A directory of its own: beside another one, a good document would be published.
            let alone = dir.path().join(name.replace('.', "-"));
            fs::create_dir(&alone).unwrap();
            let file = alone.join(name);
            fs::write(&file, bytes).unwrap();
            let (file, alone) = (file.to_str().unwrap(), alone.to_str().unwrap());
            let global = ["--server", &server.url(), "--bucket", &support::bucket()];
            let code = i32::from(!is_one);

            let ways: [&[&str]; 4] = [
                &["put", "service1", file],
                &["put", "--set", good.to_str().unwrap(), file],
                &["loader", "--once", "--dir", alone],
                &["validate", file],
            ];
            for way in ways {
                let args = if way[0] == "validate" { way.to_vec() } else { [way, &global[..]].concat() };
                let (is, said) = run(&args);
                assert_eq!(is, code, "{args:?}: {}", &said[..said.len().min(300)]);
                assert!(!said.contains(is_raw), "{args:?}: {said:?}");
            }
            let stored = run(&[&["keys"], &global[..]].concat()).1;
            assert_eq!(stored.contains("service1"), is_one, "{name}: {stored}");
            assert_eq!(stored.contains("good"), is_one, "{name}: of a set that holds it nothing is stored: {stored}");
        }
    });
}

/// What whoever may write to the bucket can put there; its revision.
async fn store(bucket: &Bucket, url: &str, key: &str, name: &str, value: Vec<u8>) -> u64 {
    let client = async_nats::connect(url).await.unwrap();
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Confhot-Format", name.rsplit('.').next().unwrap());
    for header in HEADERS {
        headers.insert(format!("Confhot-{header}"), EVIL);
    }
    let subject = format!("$KV.{}.{key}", bucket.name());
    let jetstream = async_nats::jetstream::new(client);
    let stored = jetstream.publish_with_headers(subject, headers, Bytes::from(value)).await.unwrap();
    stored.await.unwrap().sequence
}

/// What a terminal would obey, and what would deceive a reader.
const EVIL: &str = "ev\u{1b}[31mil\u{9b}2J\u{1b}]0;x\u{7}\u{202e}";

const HEADERS: [&str; 12] = [
    "Author",
    "Message",
    "Path",
    "Commit",
    "Source",
    "Writer",
    "Digest",
    "Set",
    "Attempt",
    "Rollback-Of",
    "Signer",
    "Signature",
];

#[tokio::test(flavor = "multi_thread")]
async fn what_a_bucket_holds_of_them_never_reaches_a_terminal_raw() {
    let (server, bucket) = fresh().await;
    for (name, bytes, _) in documents() {
        let key = name.replace('.', "-");
        store(&bucket, &server.url(), &key, name, bytes.clone()).await;
        tokio::task::block_in_place(|| {
            let global = ["--server", &server.url(), "--bucket", bucket.name()];
            let got = support::confhot().args(["get", &key]).args(global).output().unwrap().stdout;
            assert!(got == bytes, "{key}: a pipe gets the bytes");
            for verb in ["history", "get", "diff"] {
                let (code, said) = run(&[&[verb, &key, "--format", "json"], &global[..]].concat());
                assert!(code < 2 || verb != "history", "{verb} {key}: {said}");
                assert!(!said.contains(is_raw), "{verb} {key}: {:?}", &said[..said.len().min(300)]);
            }
            for verb in ["get", "diff", "diff --structural", "history"] {
                let shown = on_a_terminal(&format!("{verb} {key} --color never {}", global.join(" ")));
                assert!(!shown.contains(is_raw), "{verb} {key}: {:?}", &shown[..shown.len().min(300)]);
            }
        });
    }
    tokio::task::block_in_place(|| {
        let out = tempfile::tempdir().unwrap();
        let to = out.path().join("exported");
        let args = ["export", to.to_str().unwrap(), "--server", &server.url(), "--bucket", bucket.name()];
        let (code, said) = run(&args);
        assert_eq!(code, 0, "{said}");
        assert!(!said.contains(is_raw) && Path::new(&to).join("c1-yaml.yaml").exists(), "{said:?}");
    });
}

/// A verb on a terminal; what the terminal got, when it has ended.
fn on_a_terminal(line: &str) -> String {
    let mut terminal = Terminal::start(line);
    terminal.script.wait_exit();
    terminal.screen()
}

/// A running verb on a terminal.
struct Terminal {
    script: Daemon,
    got: tempfile::NamedTempFile,
}

impl Terminal {
    /// `line` as a shell reads it.
    fn start(line: &str) -> Terminal {
        let got = tempfile::NamedTempFile::new().unwrap();
        let command = format!("exec {CONFHOT} {line}");
        let path = got.path().to_str().unwrap();
        let script = Daemon::program("script", ["-qefc", &command, path], |command| {
            command.env("TERM", "xterm-256color").env_remove("NO_COLOR");
        });
        Terminal { script, got }
    }

    /// All that the terminal got, without what `script` says itself, with ends of lines as they were written.
    fn screen(&self) -> String {
        let got = String::from_utf8_lossy(&fs::read(self.got.path()).unwrap()).replace("\r\n", "\n");
        let lines =
            got.lines().filter(|line| !line.starts_with("Script started on") && !line.starts_with("Script done on"));
        lines.collect::<Vec<_>>().join("\n")
    }

    fn shows(&self, text: &str) {
        eventually(&format!("{text:?} on the terminal"), DEADLINE, || self.screen().contains(text).then_some(()));
    }
}

/// Whether a terminal would obey it, or a reader be deceived.
fn is_obeyed(c: char) -> bool {
    c.is_control() && !matches!(c, '\n' | '\t')
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[track_caller]
fn assert_plain(what: &str, said: &str) {
    if let Some(at) = said.find(is_obeyed) {
        let around: String = said[..at].chars().rev().take(100).collect::<Vec<_>>().into_iter().rev().collect();
        panic!("{what}: {around:?} and then {:?}", said[at..].chars().take(20).collect::<String>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_follows_a_key_passes_over_hostile_values_and_gives_a_terminal_no_orders() {
    let (server, bucket) = fresh().await;
    let global = format!("--server {} --bucket {} --color never", server.url(), bucket.name());
    let verbs = [
        "watch".to_owned(),
        "watch --format json".to_owned(),
        "serve --name service1 --http 127.0.0.1:0".to_owned(),
        "serve --name service1 --format json --log-format json -v".to_owned(),
    ];
    let terminals: Vec<_> = verbs.iter().map(|verb| Terminal::start(&format!("{verb} {global}"))).collect();
    let mut service = serve(&server.url(), bucket.name(), &["--http", "127.0.0.1:0"]);
    // Until all of them are there.
    let until = Instant::now() + DEADLINE;
    for n in 0.. {
        let there = put(&bucket, &key("service1"), &format!("n = {n}")).await;
        service.wait_event(DEADLINE, |event| event["revision"] == there.0);
        if terminals.iter().all(|terminal| terminal.screen().contains("service1")) {
            break;
        }
        let screens: Vec<_> = terminals.iter().map(Terminal::screen).collect();
        assert!(Instant::now() < until, "{screens:#?}");
    }
    for (name, bytes, is_one) in documents() {
        let revision = store(&bucket, &server.url(), "service1", name, bytes).await;
        let event = service.wait_event(DEADLINE, |event| event["revision"] == revision);
        assert_eq!(event["event"], if is_one { "applied" } else { "rejected" }, "{name}: {event}");
        for page in ["config", "readyz", "metrics", "healthz"] {
            let (_, body) = http_get(&format!("{}/{page}", address(&service))).unwrap();
            assert!(!body.contains(['\u{1b}', '\u{7}']), "{page} of {name}");
        }
    }
    let last = store(&bucket, &server.url(), "service1", "last.toml", b"n = 2".to_vec()).await;
    assert_eq!(service.wait_event(DEADLINE, |event| event["revision"] == last)["event"], "applied");
    for (verb, mut terminal) in verbs.iter().zip(terminals) {
        terminal.shows(&last.to_string());
        assert_plain(verb, &terminal.screen());
        terminal.script.kill9();
    }
    assert_plain("serve", &service.stderr());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_revision_is_gone_back_to_only_where_it_is_a_document_and_is_shown_without_orders() {
    let (server, bucket) = fresh().await;
    let global = ["--server", &server.url(), "--bucket", bucket.name()];
    for (name, bytes, is_one) in documents() {
        let k = name.replace('.', "-");
        let good = store(&bucket, &server.url(), &k, "good.toml", b"n = 1\n".to_vec()).await;
        let revision = store(&bucket, &server.url(), &k, name, bytes).await.to_string();
        // The question is asked after the diff, and nobody answers it.
        let line = format!("rollback {k} {good} --color never --message 'a\u{1b}[2Jb' {}", global.join(" "));
        let shown = tokio::task::block_in_place(|| on_a_terminal(&line));
        assert_plain(&line, &shown);
        assert!(shown.contains("+n = 1") && shown.contains("[y/N]"), "{name}: {shown}");
        store(&bucket, &server.url(), &k, "good.toml", b"n = 1\n".to_vec()).await;
        let back = [&["rollback", &k, &revision, "--yes"], &global[..]].concat();
        let (code, said) = tokio::task::block_in_place(|| run(&back));
        assert_eq!(code, i32::from(!is_one), "{name}: {}", &said[..said.len().min(300)]);
        assert!(!said.contains(is_raw), "{name}: {said:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_instances_tell_gives_a_terminal_no_orders() {
    let (server, bucket) = fresh().await;
    let revision = put(&bucket, &key("service1"), "n = 1").await;
    let client = async_nats::connect(server.url()).await.unwrap();
    let id = format!("web{EVIL}");
    let record = json!({
        "service": EVIL, "instance": id, "host": EVIL, "version": EVIL, "key": "service1", "revision": null, "digest": null,
        "newest": revision, "state": "rejected",
        "rejected": { "revision": revision, "kind": EVIL, "reason": format!("{EVIL}\r\n\u{85}") },
        "for_ms": 1, "up_ms": 60_000, "connected_ms": 60_000, "process": EVIL, "beat_ms": 300_000,
    });
    let subject = format!("$KV.{}_status.service1.{}", bucket.name(), token(&id));
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Confhot-Author", EVIL);
    let jetstream = async_nats::jetstream::new(client);
    let told =
        jetstream.publish_with_headers(subject, headers, serde_json::to_vec(&record).unwrap().into()).await.unwrap();
    told.await.unwrap();
    tokio::task::block_in_place(|| {
        let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
        fs::write(file.path(), "n = 1\n").unwrap();
        let put = format!("put service1 {} --wait 1s", file.path().display());
        for verb in ["status", "status service1", "history service1", &put] {
            for format in ["text", "json"] {
                let line = format!(
                    "{verb} --format {format} --color never --server {} --bucket {}",
                    server.url(),
                    bucket.name()
                );
                let shown = on_a_terminal(&line);
                assert_plain(&line, &shown);
                assert!(verb.starts_with("history") || shown.contains("web"), "{line}: {shown}");
            }
        }
        let watch = format!("status --watch --color never --server {} --bucket {}", server.url(), bucket.name());
        let mut terminal = Terminal::start(&watch);
        terminal.shows("web");
        assert_plain(&watch, &terminal.screen().replace("\u{1b}[H\u{1b}[2J", ""));
        terminal.script.kill9();
    });
}

/// A schema of 60 places, each of which asks the next one twice.
fn twice(last: &str, asks: impl Fn(&str) -> String) -> String {
    let place = |n: usize| match n {
        0 => format!("\"d0\":{last}"),
        n => format!("\"d{n}\":{}", asks(&format!("{{\"$ref\":\"#/$defs/d{}\"}}", n - 1))),
    };
    let places: Vec<_> = (0..60).map(place).collect();
    format!("{{\"$defs\":{{{}}},\"$ref\":\"#/$defs/d59\"}}", places.join(","))
}

/// Schemas that are meant to do harm, and whether they are schemas.
fn schemas() -> Vec<(&'static str, String, bool)> {
    let deep = format!("{}{{}}{}", "{\"not\":".repeat(50_000), "}".repeat(50_000));
    let tree = r##"{"type":"object","properties":{"x":{"oneOf":[{"$ref":"#"},{"allOf":[{"$ref":"#"}]},false]}}}"##;
    let keys = format!("{{\"properties\":{{\"{}\":{{\"type\":\"string\"}}}}}}", "k".repeat(200_000));
    vec![
        ("deep", deep, false),
        ("keys", keys, true),
        ("itself", r##"{"$ref":"#"}"##.into(), true),
        ("remote", r#"{"$ref":"http://127.0.0.1:1/x.json"}"#.into(), false),
        ("file", r#"{"$ref":"file:///etc/passwd"}"#.into(), false),
        ("zero", r#"{"properties":{"n":{"multipleOf":0}}}"#.into(), false),
        ("infinite", r#"{"properties":{"n":{"maximum":1e999}}}"#.into(), false),
        ("repeats", r#"{"properties":{"s":{"pattern":"((((a{1,1000}){1,1000}){1,1000}){1,1000})$"}}}"#.into(), false),
        ("backtracks", r#"{"properties":{"s":{"pattern":"^(a|a?)+$"}}}"#.into(), true),
        ("looks", r#"{"properties":{"s":{"pattern":"^(?=(a+)+$)b"}}}"#.into(), true),
        ("escapes", r#"{"title":"\u001b[2J","properties":{"\u001b]0;x\u0007":{"type":"\u001b[31m"}}}"#.into(), false),
        ("laughs", twice("{\"type\":\"object\"}", |next| format!("{{\"allOf\":[{next},{next}]}}")), true),
        ("cries", twice("false", |next| format!("{{\"anyOf\":[{next},{next}]}}")), true),
        ("looks-again", twice("{}", |next| format!("{{\"unevaluatedProperties\":{{}},\"allOf\":[{next}]}}")), true),
        ("deeper", twice("{}", |next| format!("{{\"properties\":{{\"x\":{{\"allOf\":[{next},{next}]}}}}}}")), true),
        ("tree", tree.into(), true),
        (
            "wants",
            r#"{"properties":{"n":{"enum":["\u001b[31m\u009b2J\u202e"]}},"required":["\u001b[2J"]}"#.into(),
            true,
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_schemas_hold_nobody_up_and_are_told_without_orders() {
    let (server, bucket) = fresh().await;
    let deep = format!("{}1{}", "{ x = ".repeat(70), " }".repeat(70));
    let document = format!("n = 1\ns = \"{}!\"\nx = {deep}\n", "a".repeat(60));
    let all = schemas().into_iter().map(|(name, text, is_one)| (name.to_owned(), text.into_bytes(), is_one));
    let none = documents()
        .into_iter()
        .map(|(name, bytes, is_one)| (name.replace('.', "-"), bytes, is_one && name.ends_with(".json")));
    for (name, schema, is_one) in all.chain(none) {
        let dir = tempfile::tempdir().unwrap();
        let (file, beside) = (dir.path().join(format!("{name}.toml")), dir.path().join(format!("{name}.schema.json")));
        fs::write(&file, &document).unwrap();
        fs::write(&beside, &schema).unwrap();
        // Straight into the bucket, beside a document that is there already.
        let there = format!("there-{name}");
        put(&bucket, &key(&there), "n = 1").await;
        store(&bucket, &server.url(), &format!("_schema.{there}"), "x.json", schema).await;
        tokio::task::block_in_place(|| {
            let global = ["--server", &server.url(), "--bucket", bucket.name()];
            let (dir, file, beside) = (dir.path().to_str().unwrap(), file.to_str().unwrap(), beside.to_str().unwrap());
            let schema_key = format!("_schema.{name}");
            let ways: [(&[&str], bool); 6] = [
                (&["validate", dir], false),
                (&["put", &schema_key, beside], true),
                (&["loader", "--once", "--dir", dir], true),
                (&["put", &there, file], true),
                (&["get", &there], true),
                (&["diff", &there, "--file", file], true),
            ];
            for (way, online) in ways {
                let args = if online { [way, &global[..]].concat() } else { way.to_vec() };
                let (code, said) = run(&args);
                assert_plain(&format!("{args:?}"), &said);
                assert!(code < 2, "{args:?}: {said}");
                if way[0] == "put" && way[1] == schema_key {
                    assert!(is_one == (code == 0), "{name}: {code} {}", &said[..said.len().min(300)]);
                }
                let shown = on_a_terminal(&format!("{} --color never", args.join(" ")));
                assert_plain(&format!("{args:?}"), &shown);
            }
        });
        // A service of the document goes on, whatever its schema is.
        let mut service = Daemon::start([
            "serve",
            "--name",
            &there,
            "--format",
            "json",
            "--server",
            &server.url(),
            "--bucket",
            bucket.name(),
        ]);
        service.wait_event(DEADLINE, |event| event["event"] == "applied" || event["event"] == "rejected");
        assert_plain(&name, &service.stderr());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_state_is_not_used_and_a_hostile_context_is_refused() {
    let (server, bucket) = fresh().await;
    let revision = put(&bucket, &key("service1"), "n = 1").await;
    let dir = tempfile::tempdir().unwrap();
    let config = tempfile::tempdir().unwrap();
    fs::create_dir_all(config.path().join("nats/context")).unwrap();
    let text = |head: serde_json::Value| [serde_json::to_vec(&head).unwrap(), b"\nn = 1".to_vec()].concat();
    let head = |bucket: &str, revision: u64| {
        json!({ "bucket": bucket, "key": "service1", "revision": revision, "created": "2026-01-01T00:00:00Z",
                "digest": Digest::of(b"n = 1"), "format": EVIL, "signed": [EVIL, EVIL] })
    };
    let mut states: Vec<_> = documents().into_iter().map(|(name, bytes, _)| (name.to_owned(), bytes)).collect();
    states.push(("of another bucket".into(), text(head(EVIL, u64::MAX))));
    states.push(("of a bucket of old".into(), text(head("", 0))));
    for (name, state) in states {
        fs::write(dir.path().join("service1.state"), &state).unwrap();
        fs::write(dir.path().join("instance"), format!("web{EVIL}")).unwrap();
        let mut service = serve(&server.url(), bucket.name(), &["--state-dir", dir.path().to_str().unwrap()]);
        let applied = service.wait_event(DEADLINE, |event| event["event"] == "applied" && event["from"] == "server");
        assert_eq!(applied["revision"], revision.0, "{name}");
        assert_plain(&name, &service.stderr());
        service.kill9();

        // As a context.
        fs::write(config.path().join("nats/context/evil.json"), &state).unwrap();
        for (args, selected) in [
            (&["keys", "--context", "evil"][..], ""),
            (&["keys"], "evil"),
            (&["keys"], EVIL),
            (&["keys", "--context", EVIL], ""),
        ] {
            fs::write(config.path().join("nats/context.txt"), selected).unwrap();
            let mut command = support::confhot();
            let output =
                command.args(args).args(["--timeout", "1s"]).env("XDG_CONFIG_HOME", config.path()).output().unwrap();
            let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            assert_eq!(output.status.code(), Some(2), "{name} {args:?} {selected:?}: {said}");
            assert_plain(&name, &said);
        }
    }
    let fields = [
        "url",
        "user",
        "password",
        "token",
        "creds",
        "nkey",
        "cert",
        "key",
        "ca",
        "nsc",
        "jetstream_domain",
        "jetstream_api_prefix",
        "inbox_prefix",
        "user_jwt",
        "socks_proxy",
        "description",
    ];
    for field in fields {
        fs::write(config.path().join("nats/context/evil.json"), json!({ field: EVIL, "tls_first": false }).to_string())
            .unwrap();
        let mut command = support::confhot();
        let output = command
            .args(["keys", "--context", "evil", "--timeout", "1s"])
            .env("XDG_CONFIG_HOME", config.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(!said.contains("panicked"), "{field}: {said}");
        assert_plain(field, &said);
    }
}

#[test]
fn names_of_files_and_arguments_give_a_terminal_no_orders() {
    let dir = tempfile::tempdir().unwrap();
    let server = support::shared("2.15.1");
    let global = format!("--color never --server {} --bucket {}", server.url(), support::bucket());
    let name = EVIL.replace('/', "");
    for file in
        [format!("{name}.toml"), format!("{name}.schema.json"), format!("{name}.yaml/x.toml"), format!("ok.{name}")]
    {
        let path = dir.path().join(&file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "n =\n").unwrap();
    }
    fs::write(dir.path().join("good.toml"), "n = 1\n").unwrap();
    let (all, one) = (dir.path().display(), dir.path().join(format!("{name}.toml")));
    let one = one.display();
    let lines = [
        format!("loader --once --dir {all}"),
        format!("loader --once --dry-run --format json --dir {all}"),
        format!("loader --once --dir '{one}'"),
        format!("validate {all}"),
        format!("validate '{one}'"),
        format!("put --set {all}/*.toml"),
        format!("put good '{one}'"),
        format!("put good {all}/good.toml --message '{name}'"),
        "history good".into(),
        "watch '{name}'".replace("{name}", &name),
        format!("get '{name}'"),
        format!("get good --revision '{name}'"),
        format!("get good '{name}'"),
        format!("get good --{name}"),
        format!("get good --format '{name}'"),
        format!("get good --timeout '{name}'"),
        format!("diff good --file '{one}'"),
        format!("diff good --file '{one}.absent'"),
        format!("export '{all}/{name}'"),
        format!("status --context '{name}'"),
        format!("keys --creds '{one}'"),
        format!("keys --tls-ca '{one}'"),
        format!("serve --name '{name}'"),
        format!("'{name}'"),
        format!("acl --role service --name '{name}'"),
        format!("doctor --dir '{all}/{name}.yaml'"),
    ];
    for line in lines {
        // Global flags last, so that those of the line come first.
        let shown = on_a_terminal(&format!("{line} {global}"));
        assert_plain(&line, &shown);
    }
    for server in [format!("nats://{name}:4222"), name.clone(), format!("nats://u:{name}@127.0.0.1:1")] {
        assert_plain(&server, &on_a_terminal(&format!("keys --color never --timeout 1s --server '{server}'")));
    }
    assert_plain("bucket", &on_a_terminal(&format!("keys --color never --server {} --bucket '{name}'", server.url())));
}

#[test]
fn a_name_that_is_not_utf_8_is_shown_and_refused_and_the_rest_is_published() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &[u8]| dir.path().join(OsStr::from_bytes(name));
    for name in [&b"caf\xe9.toml"[..], b"caf\xe9.schema.json", b"d\xe9/x.toml", b"good.toml"] {
        fs::create_dir_all(at(name).parent().unwrap()).unwrap();
        fs::write(at(name), "n = 1\n").unwrap();
    }
    let shown = ["caf\u{fffd}.toml", "caf\u{fffd}.schema.json", "d\u{fffd}/x.toml"];
    let server = support::shared("2.15.1");
    let (url, bucket) = (server.url(), support::bucket());
    let all = dir.path().to_str().unwrap();
    let global = ["--server", &url, "--bucket", &bucket];
    let loader = |more: &[&str]| run(&[&["loader", "--dir", all], more, &global].concat());

    for more in [&["--dry-run"][..], &["--dry-run", "--format", "json"], &["--once"], &["--once", "--format", "json"]] {
        let (code, said) = loader(more);
        assert_eq!(code, 1, "{more:?}: {said}");
        assert!(said.contains("3 refused"), "{more:?}: {said}");
        for name in shown {
            assert!(said.contains(name), "{more:?}: {said}");
        }
    }
    assert!(run(&[&["get", "good"], &global[..]].concat()).1.contains("n = 1"));

    let mut running = Daemon::start([&["loader", "--dir", all, "--format", "json"], &global[..]].concat());
    running.event("ready");
    fs::write(at(b"caf\xe8.toml"), "n = 1\n").unwrap();
    let refused = running.event("refused");
    assert_eq!(refused["path"], "caf\u{fffd}.toml", "{refused}");
    assert!(refused["reason"].as_str().unwrap().contains("not UTF-8"), "{refused}");
    fs::write(at(b"late.toml"), "n = 2\n").unwrap();
    assert_eq!(running.event("published")["key"], "late");
}
