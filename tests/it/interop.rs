//! Another client in another language, which knows nothing of confhot, reads and writes the same keys.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::feed::{Feed, connect, key, make, put};
use crate::support::{self, VERSIONS, confhot};

/// Puts, reads, lists and watches with nats-py; prints what it saw as one line of JSON.
const PROGRAM: &str = r#"
import asyncio, json, sys
import nats

async def main(url, bucket):
    nc = await nats.connect(url)
    kv = await nc.jetstream().key_value(bucket)
    seen = {}
    entry = await kv.get("service1")
    seen["got"] = [entry.value.decode(), entry.revision]
    watcher = await kv.watch("service1")
    first = await watcher.updates(timeout=10)
    seen["watched_first"] = [first.value.decode(), first.revision]
    seen["revision"] = await kv.put("service1", b'{"port": 2}')
    while True:
        entry = await watcher.updates(timeout=10)
        if entry is not None:
            break
    seen["watched"] = [entry.value.decode(), entry.revision]
    seen["history"] = [entry.revision for entry in await kv.history("service1")]
    # nats-py takes its own watcher's early end of history for an empty bucket now and then; a bucket that is empty stays so.
    for _ in range(50):
        try:
            seen["keys"] = sorted(await kv.keys())
            break
        except nats.js.errors.NoKeysError:
            await asyncio.sleep(0.1)
    try:
        await kv.update("service1", b"late", last=seen["got"][1])
        seen["late"] = "stored"
    except nats.js.errors.KeyWrongLastSequenceError:
        seen["late"] = "refused"
    statuses = await nc.jetstream().key_value(bucket + "_status")
    for _ in range(100):
        status = json.loads((await statuses.get("service1.theirs")).value)
        if status["revision"] == seen["revision"]:
            break
        await asyncio.sleep(0.05)
    seen["status"] = [status["instance"], status["key"], status["revision"], status["state"]]
    await nc.close()
    print(json.dumps(seen))

asyncio.run(main(*sys.argv[1:]))
"#;

/// Where nats-py is, installed once.
fn nats_py() -> PathBuf {
    let packages = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("interop");
    if !packages.join("nats").is_dir() {
        // Beside it first, so that an install that was cut short is not taken for one.
        let fresh = packages.with_file_name(format!("interop-{}", std::process::id()));
        let install = Command::new("python3")
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--target"])
            .arg(&fresh)
            .arg("nats-py>=2.9")
            .output()
            .unwrap_or_else(|error| {
                panic!("python3: {error}\nInstall Python 3 with pip: this test speaks to nats-py.")
            });
        assert!(
            install.status.success(),
            "pip cannot install nats-py:\n{}\nGive pip its index, or install it: python3 -m pip install --target {} nats-py",
            String::from_utf8_lossy(&install.stderr),
            packages.display()
        );
        let _ = std::fs::remove_dir_all(&packages);
        std::fs::rename(&fresh, &packages).unwrap();
    }
    packages
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_in_another_language_reads_writes_lists_and_watches_the_same_keys() {
    let packages = nats_py();
    for version in VERSIONS {
        let server = support::shared(version);
        let bucket = connect(&server.url()).await.bucket(&support::bucket()).unwrap();
        make(&bucket, Feed::Republished, &server.url(), 1).await;
        let revision = put(&bucket, &key("service1"), r#"{"port": 1}"#).await.0;
        put(&bucket, &key("billing.api"), "a = 1").await;
        let mut service = crate::serve::serve(&server.url(), bucket.name(), &["--instance", "theirs"]);
        service.event("applied");

        let output = Command::new("python3")
            .env("PYTHONPATH", &packages)
            .args(["-c", PROGRAM, &server.url(), bucket.name()])
            .output()
            .unwrap();
        assert!(output.status.success(), "{version}: {}", String::from_utf8_lossy(&output.stderr));
        let seen: Value = serde_json::from_slice(&output.stdout).unwrap();
        let theirs = seen["revision"].as_u64().unwrap();
        assert_eq!(
            seen,
            json!({
                "got": [r#"{"port": 1}"#, revision],
                "watched_first": [r#"{"port": 1}"#, revision],
                "revision": theirs,
                "watched": [r#"{"port": 2}"#, theirs],
                "history": [revision, theirs],
                "keys": ["billing.api", "service1"],
                "late": "refused",
                "status": ["theirs", "service1", theirs, "applied"],
            }),
            "{version}"
        );

        let applied = service.event("applied");
        assert_eq!((&applied["revision"], &applied["ms"]), (&json!(theirs), &Value::Null), "{version}");
        let history = confhot()
            .args(["history", "service1", "--format", "json", "--server", &server.url(), "--bucket", bucket.name()])
            .output()
            .unwrap();
        let newest = String::from_utf8(history.stdout).unwrap();
        let newest: Value = serde_json::from_str(newest.lines().next().unwrap()).unwrap();
        assert_eq!((&newest["revision"], &newest["operation"]), (&json!(theirs), &json!("put")), "{newest}");
        for unknown in ["writer", "author", "commit", "message", "set"] {
            assert_eq!(newest[unknown], Value::Null, "{newest}");
        }
    }
}
