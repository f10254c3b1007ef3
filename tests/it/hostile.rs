//! Documents that are meant to do harm, by every way in and out.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use confhot::kv::Bucket;

use crate::serve::fresh;
use crate::support::{self, CONFHOT};

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

/// What whoever may write to the bucket can put there.
async fn store(bucket: &Bucket, url: &str, name: &str, value: Vec<u8>) -> String {
    let key = name.replace('.', "-");
    let client = async_nats::connect(url).await.unwrap();
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Confhot-Format", name.rsplit('.').next().unwrap());
    for header in ["Confhot-Author", "Confhot-Message", "Confhot-Path", "Confhot-Commit", "Confhot-Source"] {
        headers.insert(header, "ev\u{1b}[31mil\u{9b}2J\u{7}");
    }
    let subject = format!("$KV.{}.{key}", bucket.name());
    let jetstream = async_nats::jetstream::new(client);
    jetstream.publish_with_headers(subject, headers, Bytes::from(value)).await.unwrap().await.unwrap();
    key
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_bucket_holds_of_them_never_reaches_a_terminal_raw() {
    let (server, bucket) = fresh().await;
    for (name, bytes, _) in documents() {
        let key = store(&bucket, &server.url(), name, bytes.clone()).await;
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

fn on_a_terminal(line: &str) -> String {
    let mut script = std::process::Command::new("script");
    script.args(["-qec", &format!("{CONFHOT} {line}"), "/dev/null"]).env("TERM", "xterm-256color");
    String::from_utf8_lossy(&script.output().unwrap().stdout).into_owned()
}
