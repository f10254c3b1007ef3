//! Schemas: who enforces them, when they count, and what they do not stand in the way of.

use std::fs;

use serde_json::{Value, json};

use crate::support::{DEADLINE, Daemon, Stage, about, confhot, eventually, named};

const PORT: &str = r#"{"properties": {"port": {"type": "integer", "maximum": 9000}}, "additionalProperties": false}"#;
const LARGE_PORT: &str = r#"{"properties": {"port": {"type": "integer", "minimum": 9000}}}"#;

impl Stage {
    /// Exit code, stdout and stderr of a verb, `stdin` handed to it.
    pub(crate) fn said(&self, args: &[&str], stdin: &str) -> (i32, String, String) {
        let global = ["--server", &self.url, "--bucket", &self.bucket];
        let output = confhot().args(args).args(global).write_stdin(stdin).timeout(DEADLINE).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }
}

#[test]
fn the_loader_refuses_what_the_schema_refuses_with_its_place_and_the_last_value_stays() {
    let stage = Stage::new();
    stage.save("a.schema.json", PORT);
    stage.save("a.toml", "port = 1\n");
    stage.save("free.toml", "port = 'any'\n");
    let mut loader = stage.loader(&[]);
    assert_eq!(named(loader.events(), "ready")[0]["files"], 2);
    assert_eq!(stage.history("_schema.a")[0]["format"], "json");

    stage.place("a.toml", "# two mistakes\nport = 9001\nhost = 'x'\n");
    let told = about(&mut loader, "refused", "a");
    assert_eq!((&told["path"], &told["line"], &told["column"]), (&json!("a.toml"), &json!(2), &json!(8)));
    let reason = "the schema refuses it: port: the value is greater than the maximum of 9000 (and 1 more)";
    assert_eq!(told["reason"], reason);
    assert_eq!(stage.value("a").as_deref(), Some("port = 1\n"));
    assert_eq!(stage.once(&[]).0, 1);

    stage.place("a.toml", "port = 2\n");
    about(&mut loader, "published", "a");
    assert_eq!(stage.once(&[]).0, 0);
}

#[test]
fn a_schema_and_its_document_that_change_together_are_one_set_with_the_schema_first() {
    let stage = Stage::new();
    // By name the document comes before its schema, and `b` after that of `a`.
    stage.swap(1, &[("a.json", r#"{"port": 1}"#), ("a.schema.json", PORT), ("b.toml", "n = 1\n")]);
    let mut loader = stage.loader(&[]);
    let first = |key: &str| stage.history(key)[0]["revision"].as_u64().unwrap();
    assert!(first("_schema.a") < first("a"), "a first sync stores the schema first");

    // Each of them alone would be refused, or would refuse the other.
    stage.swap(2, &[("a.json", r#"{"port": 9001}"#), ("a.schema.json", LARGE_PORT), ("b.toml", "n = 2\n")]);

    about(&mut loader, "published", "b");
    stage.holds("a", r#"{"port": 9001}"#);
    let heads = ["_schema.a", "a", "b"].map(|key| stage.history(key)[0].clone());
    let revisions = heads.each_ref().map(|head| head["revision"].as_u64().unwrap());
    assert!(revisions.is_sorted(), "{revisions:?}");
    assert!(heads.iter().all(|head| head["set"]["members"] == 3 && head["set"] == heads[0]["set"]), "{heads:?}");
    assert_eq!(named(loader.events(), "refused"), Vec::<&Value>::new());
}

#[test]
fn another_schema_has_its_file_looked_at_again() {
    let stage = Stage::new();
    stage.save("a.toml", "port = 9001\n");
    stage.save("b.toml", "port = 1\n");
    stage.put("b", "port = 1\n");
    let mut loader = stage.loader(&[]);

    // What is published and not allowed any more is told, and stays.
    stage.place("a.schema.json", PORT);
    let told = about(&mut loader, "refused", "a");
    assert_eq!((&told["line"], &told["column"]), (&json!(1), &json!(8)));
    assert_eq!((stage.value("a").as_deref(), stage.history("a").len()), (Some("port = 9001\n"), 1));

    // A change that was refused is published when it is allowed.
    stage.place("a.toml", "port = 9002\n");
    about(&mut loader, "refused", "a");
    stage.place("a.schema.json", LARGE_PORT);
    about(&mut loader, "published", "a");
    assert_eq!(stage.value("a").as_deref(), Some("port = 9002\n"));
    assert_eq!(stage.once(&[]).0, 0);

    // Also where no loader ever wrote, and a file that was not seen to change would be drift.
    stage.place("b.schema.json", PORT);
    about(&mut loader, "unchanged", "b");
    stage.place("b.toml", "port = 9003\n");
    about(&mut loader, "refused", "b");
    stage.place("b.schema.json", LARGE_PORT);
    stage.holds("b", "port = 9003\n");
}

#[test]
fn a_broken_schema_is_refused_the_former_one_stands_and_nothing_else_waits_for_it() {
    let stage = Stage::new();
    stage.save("a.schema.json", PORT);
    stage.save("a.toml", "port = 1\n");
    stage.save("new.schema.json", r#"{"type": "integre"}"#);
    stage.save("new.toml", "n = 1\n");
    let mut loader = stage.loader(&[]);
    let refused = named(loader.events(), "refused").into_iter().cloned().collect::<Vec<_>>();
    assert_eq!((refused.len(), &refused[0]["key"], &refused[0]["column"]), (1, &json!("_schema.new"), &json!(10)));
    // It never had a good one: none stands.
    assert_eq!((stage.value("new").as_deref(), stage.value("_schema.new")), (Some("n = 1\n"), None));

    stage.place("a.schema.json", r#"{"$ref": "http://127.0.0.1:1/elsewhere.json"}"#);
    let told = about(&mut loader, "refused", "_schema.a");
    assert!(told["reason"].as_str().unwrap().starts_with("not a schema: "), "{told}");
    stage.place("a.toml", "port = 2\n");
    about(&mut loader, "published", "a");
    stage.place("a.toml", "port = 9001\n");
    about(&mut loader, "refused", "a");
    assert_eq!(stage.value("_schema.a").as_deref(), Some(PORT));

    // One that starts now takes the former one from the bucket.
    drop(loader);
    let (code, events) = stage.once(&[]);
    let refused: Vec<_> = named(&events, "refused").iter().map(|event| event["key"].clone()).collect();
    assert_eq!((code, refused), (1, vec![json!("_schema.a"), json!("_schema.new"), json!("a")]));
    assert_eq!(stage.value("a").as_deref(), Some("port = 2\n"));
}

#[test]
fn put_enforces_the_schema_that_the_bucket_carries() {
    let stage = Stage::new();
    let broken = stage.said(&["put", "_schema.a"], r#"{"required": 1}"#);
    assert!(broken.0 == 1 && broken.2.starts_with("error: stdin:1:14: not a schema: required: "), "{broken:?}");
    assert_eq!(stage.said(&["put", "_schema.a", "--as", "yaml"], "type: object\n").0, 1);
    stage.put("a", "port = 'before there was one'\n");
    stage.put("_schema.a", PORT);

    let (code, stdout, stderr) = stage.said(&["put", "a", "--as", "toml"], "\nport = 9001\n");
    assert_eq!((code, stdout.as_str()), (1, ""));
    let reason = "the schema refuses it: port: the value is greater than the maximum of 9000";
    assert_eq!(stderr, format!("error: stdin:2:8: {reason}\n"));
    // It is no guard.
    assert_eq!(stage.said(&["put", "a", "--force"], "port = 9001\n").0, 1);
    assert_eq!(stage.said(&["put", "a"], "port = 9000\n").0, 0);
    assert_eq!(stage.said(&["put", "b"], "port = 9001\n").0, 0);

    // What another client made of it stands in nobody's way.
    store(&stage, "_schema.a", "no schema");
    let (code, _, stderr) = stage.said(&["put", "a"], "port = 9001\n");
    assert!(code == 0 && stderr.contains("_schema.a@5 checks nothing: "), "{stderr}");
    assert_eq!(stage.confhot(&["delete", "_schema.a", "--yes"]).0, 0);
    let (code, _, stderr) = stage.said(&["put", "a"], "port = 9002\n");
    assert_eq!((code, stderr.as_str()), (0, ""));
}

/// Stores a value as another client does.
pub(crate) fn store(stage: &Stage, key: &str, value: &'static str) {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let jetstream = async_nats::jetstream::new(async_nats::connect(&stage.url).await.unwrap());
        jetstream.get_key_value(&stage.bucket).await.unwrap().put(key, value.into()).await.unwrap();
    });
}

#[test]
fn where_the_directory_has_no_schema_the_loader_enforces_that_of_the_bucket() {
    let stage = Stage::new();
    stage.save("a.toml", "port = 1\n");
    let mut loader = stage.loader(&[]);

    stage.put("_schema.a", LARGE_PORT);
    about(&mut loader, "refused", "a");
    stage.place("a.toml", "port = 2\n");
    about(&mut loader, "refused", "a");
    assert_eq!(stage.once(&[]).0, 1);
    assert_eq!(stage.confhot(&["delete", "_schema.a", "--yes"]).0, 0);
    about(&mut loader, "published", "a");
    assert_eq!(stage.value("a").as_deref(), Some("port = 2\n"));

    // The directory's own goes before it; that it differs is drift.
    stage.place("a.schema.json", PORT);
    about(&mut loader, "published", "_schema.a");
    stage.put("_schema.a", LARGE_PORT);
    about(&mut loader, "drift", "_schema.a");
    stage.place("a.toml", "port = 3\n");
    about(&mut loader, "published", "a");
}

#[test]
fn a_schema_is_in_no_list_and_is_never_pruned_and_is_read_by_its_name() {
    let stage = Stage::new();
    stage.save("a.schema.json", PORT);
    stage.save("a.toml", "port = 1\n");
    stage.save("b.toml", "n = 1\n");
    let mut loader = stage.loader(&["--prune", "--yes"]);

    let keys = |pattern: &[&str]| {
        let (code, lines) = stage.confhot(&[&["keys", "--format", "json"], pattern].concat());
        assert_eq!(code, 0);
        let keys = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["key"].clone());
        keys.collect::<Vec<_>>()
    };
    assert_eq!(keys(&[]), ["a", "b"]);
    assert_eq!(keys(&["_schema.>"]), ["_schema.a"]);
    assert_eq!(keys(&["_schema.a"]), ["_schema.a"]);
    assert_eq!(stage.value("_schema.a").as_deref(), Some(PORT));
    assert_eq!(stage.history("_schema.a").len(), 1);

    let follow = |pattern: &str| {
        let global = ["--format", "json", "--server", &stage.url, "--bucket", &stage.bucket];
        Daemon::start(["watch", pattern].iter().chain(&global))
    };
    let (mut watch, mut schemas) = (follow(">"), follow("_schema.>"));
    for daemon in [&watch, &schemas] {
        eventually("watching", DEADLINE, || daemon.stderr().contains("watching ").then_some(()));
    }
    stage.place("a.schema.json", LARGE_PORT);
    about(&mut loader, "refused", "a");
    stage.place("b.toml", "n = 2\n");
    assert_eq!(watch.wait_event(DEADLINE, |_| true)["key"], "b");
    assert_eq!(schemas.wait_event(DEADLINE, |_| true)["key"], "_schema.a");
    assert_eq!(stage.confhot(&["diff", "_schema.a"]).0, 1);

    fs::remove_file(stage.dir().join("a.schema.json")).unwrap();
    assert_eq!(about(&mut loader, "removed", "_schema.a")["key"], "_schema.a");
    // What it forbade is still forbidden: to put and to services it is there.
    stage.place("a.toml", "port = 2\n");
    about(&mut loader, "refused", "a");
    assert_eq!(stage.value("_schema.a").as_deref(), Some(LARGE_PORT));
    fs::remove_file(stage.dir().join("b.toml")).unwrap();
    assert_eq!(loader.event("deleted")["key"], "b");
}

#[test]
fn a_rollback_to_what_is_not_allowed_today_is_refused_until_the_schema_is_rolled_back() {
    let stage = Stage::new();
    stage.save("a.schema.json", PORT);
    stage.save("a.toml", "port = 1\n");
    assert_eq!(stage.once(&[]).0, 0);
    stage.save("a.schema.json", LARGE_PORT);
    stage.save("a.toml", "port = 9001\n");
    assert_eq!(stage.once(&[]).0, 0);

    let (code, stdout, stderr) = stage.said(&["rollback", "a", "--yes"], "");
    assert_eq!((code, stdout.as_str()), (1, ""));
    let no = "error: a@2 is not what is allowed today: line 1, column 8: the schema refuses it: port: \
        the value is less than the minimum of 9000\n\
        hint: `confhot rollback _schema.a` brings the schema of before back; then try again\n";
    assert_eq!(stderr, no);

    assert_eq!(stage.said(&["rollback", "_schema.a", "--yes"], "").0, 0);
    assert_eq!(stage.said(&["rollback", "a", "--yes"], "").0, 0);
    assert_eq!(stage.value("a").as_deref(), Some("port = 1\n"));
}

#[test]
fn validate_tells_every_violation_and_a_broken_schema_and_blocks_nothing_for_it() {
    let stage = Stage::new();
    stage.save("a.schema.json", PORT);
    stage.save("a.toml", "port = 9001\nhost = 'x'\n");
    stage.save("deep/b.yaml", "port: 9001\n");
    // Where a schema lies does not matter, its key does.
    stage.save("deep.b.schema.json", PORT);
    stage.save("c.json", "{}");
    stage.save("c.schema.json", "{\n  \"type\": 1}");
    let validate = |path: &str, more: &[&str]| {
        let output = confhot().args(["validate", path]).args(more).current_dir(stage.root.path()).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };

    let (code, told) = validate("configs", &[]);
    let lines: Vec<_> = told.lines().collect();
    assert_eq!((code, lines.len()), (1, 4), "{told}");
    assert_eq!(lines[0], "configs/a.toml:1:8: port: the value is greater than the maximum of 9000");
    assert_eq!(lines[1], "configs/a.toml:2:8: host: the schema knows no such key");
    assert!(lines[2].starts_with("configs/c.schema.json:2:11: not a schema: type: "), "{}", lines[2]);
    assert_eq!(lines[3], "configs/deep/b.yaml:1:7: port: the value is greater than the maximum of 9000");

    let (code, told) = validate("configs/a.toml", &["--format", "json"]);
    let told: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((code, &told[0]["key"], &told[0]["valid"]), (1, &json!("a"), &json!(false)));
    let error = json!({ "line": 2, "column": 8, "at": "host", "reason": "the schema knows no such key" });
    assert_eq!(told[0]["errors"][1], error);
    assert_eq!((&told[1]["key"], &told[1]["valid"]), (&json!("_schema.a"), &json!(true)));
    assert_eq!(validate("configs/c.json", &[]).0, 1, "the schema beside it is broken");
}

#[test]
fn the_demo_s_documents_are_what_their_schemas_say() {
    let root = env!("CARGO_MANIFEST_DIR");
    let validate = confhot().args(["validate", "configs", "--format", "json"]).current_dir(root).output().unwrap();

    assert_eq!(validate.status.code(), Some(0));
    let keys = String::from_utf8(validate.stdout).unwrap();
    for key in ["service1", "service2", "service3"] {
        assert!(keys.contains(&format!("\"_schema.{key}\"")), "{key} has no schema");
    }
}
