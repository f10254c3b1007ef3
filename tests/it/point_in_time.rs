//! The whole bucket at one revision: `get --at`, `export`, `diff --all`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use async_nats::jetstream;
use confhot::kv::{Bucket, ChangeSet, Expect, Key, PastError, Pattern, Revision, Settings};
use serde_json::{Value, json};

use crate::feed::{connect, key, put, write};
use crate::support::{self, Cluster, DEADLINE, Stage, VERSIONS, confhot};

impl Stage {
    /// All that a command says: stdout, stderr, exit code.
    fn says(&self, args: &[&str]) -> (String, String, i32) {
        let global = ["--server", &self.url, "--bucket", &self.bucket];
        let output = confhot().args(args).args(global).timeout(DEADLINE).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(output.stdout), text(output.stderr), output.status.code().unwrap())
    }

    fn export(&self, more: &[&str]) -> (Vec<Value>, String, i32) {
        let dir = self.exported().display().to_string();
        let (stdout, stderr, code) = self.says(&[&["export", &dir, "--format", "json"], more].concat());
        (stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), stderr, code)
    }

    fn exported(&self) -> std::path::PathBuf {
        self.root.path().join("exported")
    }

    async fn opened(&self) -> Bucket {
        let bucket = connect(&self.url).await.bucket(&self.bucket).unwrap();
        bucket.ensure(&Settings::default()).await.unwrap();
        bucket
    }
}

/// Every file below `dir` with its bytes.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(at) = todo.pop() {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => todo.push(path),
                false => {
                    let name = path.strip_prefix(dir).unwrap().display().to_string();
                    found.insert(name, fs::read(&path).unwrap());
                }
            }
        }
    }
    found
}

/// The values at a point in time, by key.
async fn values(bucket: &Bucket, at: u64) -> BTreeMap<String, String> {
    let past = bucket.past(&Pattern::all(), Some(Revision(at))).await.unwrap();
    assert!(past.lost.is_empty(), "{:?}", past.lost);
    let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
    past.heads.values().map(|entry| (entry.key.to_string(), text(&entry.value))).collect()
}

/// Stores a value as another client does, without a header.
async fn store(stage: &Stage, key: &str, value: &'static [u8]) {
    let jetstream = jetstream::new(async_nats::connect(&stage.url).await.unwrap());
    let config = jetstream::kv::Config { bucket: stage.bucket.clone(), history: 4, ..Default::default() };
    let bucket = match jetstream.get_key_value(&stage.bucket).await {
        Ok(bucket) => bucket,
        Err(_) => jetstream.create_key_value(config).await.unwrap(),
    };
    bucket.put(key, value.into()).await.unwrap();
}

#[test]
fn what_is_exported_is_byte_for_byte_what_a_loader_published_and_would_read_back() {
    let stage = Stage::new();
    stage.save("service1.toml", "port = 1\r\n# no newline at the end");
    stage.save("service1.schema.json", "{\"type\":\"object\"}");
    stage.save("billing/api.yml", "\u{feff}a: 1\n");
    stage.save("billing.worker.json", "{\"n\":  1}\n");
    assert_eq!(stage.once(&[]).0, 0);

    let (lines, stderr, code) = stage.export(&[]);

    assert_eq!((code, stderr.as_str(), lines.len()), (0, "", 4));
    assert_eq!(files(&stage.exported()), files(&stage.dir()));
    let worker = lines.iter().find(|line| line["key"] == "billing.worker").unwrap();
    assert_eq!(
        (&worker["path"], &worker["at"], &worker["size"]),
        (&json!("billing.worker.json"), &json!(4), &json!(10))
    );
    // Another loader, of the exported directory, finds nothing to do.
    let dir = stage.exported().display().to_string();
    assert_eq!(stage.says(&["loader", "--dir", &dir, "--dry-run", "-q"]).2, 0);
}

#[test]
fn an_export_of_then_has_what_was_there_then() {
    let stage = Stage::new();
    stage.put("a", "n = 1\n");
    stage.put("billing.api", "n = 2\n");
    stage.put("a", "n = 3\n");
    stage.says(&["delete", "billing.api", "--yes"]);
    stage.put("late", "n = 5\n");

    assert_eq!(stage.export(&["--at", "2"]).2, 0);
    let then = files(&stage.exported());
    assert_eq!(
        then.into_iter().collect::<Vec<_>>(),
        [("a.toml".to_owned(), b"n = 1\n".to_vec()), ("billing/api.toml".to_owned(), b"n = 2\n".to_vec()),]
    );
    let dir = stage.root.path().join("text").display().to_string();
    let (stdout, stderr, code) = stage.says(&["export", &dir, "--at", "2"]);
    let table = "KEY          REVISION  SIZE  PATH\n\
        a            1         6     a.toml\n\
        billing.api  2         6     billing/api.toml\n";
    assert_eq!((stdout.as_str(), code), (table, 0));
    assert_eq!(stderr, format!("{} is in {dir} as it was at revision 2\n", stage.bucket));
    // Over what is there: only when told to, and without removing anything.
    let (lines, stderr, code) = stage.export(&[]);
    assert_eq!((lines.len(), code), (0, 1));
    assert!(stderr.contains("exported is not empty\nhint: --force"), "{stderr}");
    assert_eq!(stage.export(&["--force"]).2, 0);
    let now = files(&stage.exported());
    assert_eq!(now.keys().collect::<Vec<_>>(), ["a.toml", "billing/api.toml", "late.toml"]);
    assert_eq!(now["a.toml"], b"n = 3\n");
    // And back to what was there then.
    assert_eq!(stage.says(&["loader", "--dir", &dir, "--once", "--enforce", "-q"]).2, 0);
    assert_eq!(
        (stage.value("a").as_deref(), stage.value("billing.api").as_deref()),
        (Some("n = 1\n"), Some("n = 2\n"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_outside_of_the_directory() {
    let stage = Stage::new();
    let bucket = stage.opened().await;
    for (name, path) in [
        ("a", "../../a.toml"),
        ("b", "/tmp/b.toml"),
        ("c", "x/../c.toml"),
        ("d", ".git/d.toml"),
        ("x.toml.y", "x.toml/y.toml"),
    ] {
        let mut write = write(&key(name), "n = 1\n", Expect::Never);
        write.provenance.path = Some(path.into());
        bucket.publish(&write).await.unwrap();
    }
    for name in ["link.x", "linked", "e/f", "x", "z"] {
        put(&bucket, &key(name), "n = 2\n").await;
    }
    store(&stage, "neither", b"{ neither").await;
    let outside = stage.root.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "mine").unwrap();
    fs::create_dir_all(stage.exported().join("z.toml")).unwrap();
    symlink(&outside, stage.exported().join("link")).unwrap();
    symlink(outside.join("file"), stage.exported().join("linked.toml")).unwrap();

    let (lines, stderr, code) = stage.export(&["--force"]);

    assert_eq!((lines.len(), code), (11, 1));
    let refused: BTreeMap<_, _> =
        lines.iter().filter(|line| line["path"].is_null()).map(|line| (line["key"].as_str().unwrap(), line)).collect();
    assert_eq!(refused.keys().collect::<Vec<_>>(), [&"e/f", &"link.x", &"neither", &"z"], "{stderr}");
    assert_eq!(refused["link.x"]["reason"], "link is in the way: it is no directory, and a symlink is not followed");
    assert_eq!(stderr.matches("is not written: ").count(), 4, "{stderr}");
    assert_eq!(files(&outside), BTreeMap::from([("file".to_owned(), b"mine".to_vec())]));
    assert_eq!(fs::read_dir(stage.root.path()).unwrap().count(), 3, "configs, exported, outside");
    fs::remove_file(stage.exported().join("link")).unwrap();
    let written = files(&stage.exported());
    // Where `x.toml.y` came from, a file is a directory now.
    let names = ["a.toml", "b.toml", "c.toml", "d.toml", "linked.toml", "x.toml", "x/toml/y.toml"];
    assert_eq!(written.keys().map(String::as_str).collect::<Vec<_>>(), names);
    assert!(!fs::symlink_metadata(stage.exported().join("linked.toml")).unwrap().is_symlink());
}

#[test]
fn one_key_is_told_as_it_was_when_the_bucket_was_at_a_revision() {
    let stage = Stage::new();
    stage.put("a", "n = 1\n");
    stage.put("b", "n = 2\n");
    stage.put("a", "n = 3\n");
    stage.says(&["delete", "a", "--yes"]);

    let at = |key: &str, at: &str| {
        let (stdout, stderr, code) = stage.says(&["get", key, "--at", at]);
        (stdout, stderr.lines().next().unwrap_or_default().to_owned(), code)
    };
    assert_eq!(at("a", "1"), ("n = 1\n".into(), String::new(), 0));
    assert_eq!(at("a", "2"), ("n = 1\n".into(), String::new(), 0));
    assert_eq!(at("a", "3"), ("n = 3\n".into(), String::new(), 0));
    assert_eq!(at("a", "4"), (String::new(), "error: a was deleted at revision 4".into(), 1));
    assert_eq!(at("b", "@"), ("n = 2\n".into(), String::new(), 0));
    assert_eq!(at("b", "1"), (String::new(), "error: b was written only after revision 1".into(), 1));
    assert_eq!(at("b", "5"), (String::new(), "error: the bucket is at revision 4, and was never at 5".into(), 1));
    assert_eq!(at("nothing", "1").2, 1);
    assert_eq!(at("b", "@~1").2, 2);
}

#[test]
fn all_that_differs_between_two_points_in_time_is_told_key_by_key() {
    let stage = Stage::new();
    stage.put("a", "n = 1\n");
    stage.put("gone", "n = 2\n");
    stage.put("same", "n = 3\n");
    stage.put("a", "n = 4\n");
    stage.says(&["delete", "gone", "--yes"]);
    stage.put("new", "n = 6\n");

    let text = "--- a@1\n+++ a@4\n@@ -1 +1 @@\n-n = 1\n+n = 4\n\
        --- gone@2\n+++ /dev/null\n@@ -1 +0,0 @@\n-n = 2\n\
        --- /dev/null\n+++ new@6\n@@ -0,0 +1 @@\n+n = 6\n";
    assert_eq!(stage.says(&["diff", "--all", "3"]), (text.into(), String::new(), 1));
    let (stdout, _, code) = stage.says(&["diff", "--all", "3", "5", "--format", "json"]);
    let lines: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(code, 1);
    assert_eq!(
        lines.iter().map(|line| (&line["key"], &line["from"], &line["to"])).collect::<Vec<_>>(),
        [(&json!("a"), &json!(1), &json!(4)), (&json!("gone"), &json!(2), &json!(null)),]
    );
    assert_eq!(lines[0]["changes"], json!([{ "path": "n", "before": 1, "after": 4 }]));
    assert_eq!(stage.says(&["diff", "--all", "6"]), (String::new(), String::new(), 0));
    assert_eq!(stage.says(&["diff", "--all", "3", "3"]), (String::new(), String::new(), 0));
    assert_eq!(stage.says(&["diff"]).2, 2);
    assert_eq!(stage.says(&["diff", "a", "--all", "3"]).2, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_inside_of_a_change_set_is_refused_on_every_server() {
    for version in VERSIONS {
        let stage = Stage::at(&support::shared(version).url());
        let bucket = stage.opened().await;
        let atomic = bucket.describe().await.unwrap().atomic;
        put(&bucket, &key("a"), "n = 1\n").await;
        let set = ChangeSet::new(3);
        let writes =
            [("a", Expect::At(Revision(1))), ("b", Expect::Never), ("c", Expect::Never)].map(|(name, expect)| {
                let mut write = write(&key(name), "n = 2\n", expect);
                write.provenance.set = Some(set.clone());
                write
            });
        for outcome in bucket.publish_set(&writes, atomic).await {
            outcome.unwrap();
        }
        put(&bucket, &key("d"), "n = 5\n").await;

        assert_eq!(values(&bucket, 1).await.len(), 1, "{version}");
        for at in [2, 3] {
            let torn = bucket.past(&Pattern::all(), Some(Revision(at))).await;
            assert!(
                matches!(torn, Err(PastError::Torn { first: Revision(2), end: Revision(4), .. })),
                "{version}: {torn:?}"
            );
        }
        assert_eq!(values(&bucket, 4).await.len(), 3, "{version}");
        assert_eq!(values(&bucket, 5).await.len(), 4, "{version}");
        let (stdout, stderr, code) = stage.says(&["get", "a", "--at", "3"]);
        let told = "error: revision 3 is in the middle of a change set, which is revisions 2 to 4\n\
            hint: 1 is before the set, 4 after it\n";
        assert_eq!((stdout.as_str(), stderr.as_str(), code), ("", told, 1), "{version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_older_than_the_history_is_named_and_what_came_later_is_not() {
    for version in VERSIONS {
        let stage = Stage::at(&support::shared(version).url());
        let bucket = stage.opened().await;
        put(&bucket, &key("kept"), "n = 1\n").await;
        for n in 0..70 {
            put(&bucket, &key("busy"), &format!("n = {n}\n")).await;
        }
        put(&bucket, &key("late"), "n = 1\n").await;

        let past = bucket.past(&Pattern::all(), Some(Revision(4))).await.unwrap();
        assert_eq!(past.heads.keys().map(Key::as_str).collect::<Vec<_>>(), ["kept"], "{version}");
        assert_eq!(past.lost.iter().map(Key::as_str).collect::<Vec<_>>(), ["busy"], "{version}");
        // The oldest that is retained: revisions 2 to 71 are busy's.
        assert_eq!(values(&bucket, 8).await["busy"], "n = 6\n", "{version}");
        let lost = bucket.entry_at(&key("busy"), Revision(4)).await;
        assert!(matches!(lost, Err(PastError::Lost { .. })), "{version}: {lost:?}");

        let (lines, stderr, code) = stage.export(&["--at", "4"]);
        assert_eq!((lines.len(), stderr.as_str(), code), (2, "what busy was at revision 4 is not retained\n", 1));
        assert_eq!((&lines[0]["key"], &lines[0]["reason"]), (&json!("busy"), &json!("not retained")));
        assert_eq!(files(&stage.exported()).into_keys().collect::<Vec<_>>(), ["kept.toml"], "{version}");
        let (stdout, _, code) = stage.says(&["diff", "--all", "4", "--format", "json"]);
        assert_eq!(code, 1);
        assert!(stdout.starts_with("{\"key\":\"busy\",") && stdout.contains("\"lost\":4"), "{stdout}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_other_clients_keys_one_with_a_full_history_may_have_been_there() {
    let stage = Stage::new();
    store(&stage, "first", b"n = 1").await;
    for _ in 0..4 {
        store(&stage, "full", b"n = 2").await;
    }
    for _ in 0..3 {
        store(&stage, "young", b"n = 3").await;
    }
    let bucket = connect(&stage.url).await.bucket(&stage.bucket).unwrap();

    let past = bucket.past(&Pattern::all(), Some(Revision(1))).await.unwrap();

    assert_eq!(past.heads.keys().map(Key::as_str).collect::<Vec<_>>(), ["first"]);
    assert_eq!(past.lost.iter().map(Key::as_str).collect::<Vec<_>>(), ["full"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_during_the_read_do_not_change_the_answer() {
    for version in VERSIONS {
        let stage = Stage::at(&support::shared(version).url());
        let bucket = stage.opened().await;
        let mut heads = Vec::new();
        for n in 0..200 {
            heads.push(put(&bucket, &key(&format!("k{n}")), "n = 0\n").await);
        }
        let writing = {
            let bucket = bucket.clone();
            tokio::spawn(async move {
                for n in 0.. {
                    let at = n % heads.len();
                    let write = write(&key(&format!("k{at}")), &format!("n = {n}\n"), Expect::At(heads[at]));
                    heads[at] = bucket.publish(&write).await.unwrap().revision;
                }
            })
        };

        for _ in 0..20 {
            let then = values(&bucket, 200).await;
            assert!(then.len() == 200 && then.values().all(|value| value == "n = 0\n"), "{version}: {then:?}");
            // Now is one point in time as well: it can be asked for again.
            let now = bucket.past(&Pattern::all(), None).await.unwrap();
            let again = bucket.past(&Pattern::all(), Some(now.at)).await.unwrap();
            assert_eq!((now.heads, now.lost), (again.heads, again.lost), "{version}");
        }
        assert!(bucket.describe().await.unwrap().last.0 > 200, "{version}: nothing was written meanwhile");
        writing.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_cluster_what_was_just_stored_is_there_whichever_server_reads() {
    let mut cluster = Cluster::three();
    let urls: Vec<_> = (0..3).map(|n| cluster.server(n).url()).collect();
    let bucket = connect(&urls[0]).await.bucket("configs").unwrap();
    bucket.ensure(&Settings { replicas: 3 }).await.unwrap();
    put(&bucket, &key("first"), "n = 0\n").await;
    for round in 0..60 {
        let mut last = Revision(0);
        for n in 0..5 {
            last = put(&bucket, &key(&format!("k{n}")), &format!("n = {round}\n")).await;
        }
        let elsewhere = connect(&urls[round % 3]).await.bucket("configs").unwrap();

        let then = values(&elsewhere, last.0).await;

        let stale: Vec<_> =
            then.iter().filter(|(key, value)| *key != "first" && **value != format!("n = {round}\n")).collect();
        assert!(then.len() == 6 && stale.is_empty(), "{round}: {stale:?} of {}", then.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_keys_are_read_with_a_few_requests() {
    let server = support::Server::start();
    let bucket = connect(&server.url()).await.bucket("configs").unwrap();
    bucket.ensure(&Settings::default()).await.unwrap();
    let mut expected = vec![Expect::Never; 10_000];
    for round in 0..2 {
        let mut bulk = bucket.bulk(true);
        for (n, expect) in expected.iter().enumerate() {
            bulk.push(write(&key(&format!("k{n}")), &format!("n = {round}\n"), *expect)).await;
        }
        bulk.finish().await;
        for (write, outcome) in bulk.outcomes() {
            expected[write.key.as_str()[1..].parse::<usize>().unwrap()] = Expect::At(outcome.unwrap().revision);
        }
    }
    let before = server.monitoring("varz").unwrap()["in_msgs"].as_u64().unwrap();

    let then = values(&bucket, 10_000).await;

    let requests = server.monitoring("varz").unwrap()["in_msgs"].as_u64().unwrap() - before;
    assert!(then.len() == 10_000 && then.values().all(|value| value == "n = 0\n"));
    // Twice 10,000 messages in requests for 512, and what is around them.
    assert!(requests < 100, "{requests}");
}
