//! Change sets by hand: `put --set`, `history`, `rollback --set`.

use serde_json::{Value, json};

use crate::support::{self, Daemon, Stage, VERSIONS};

fn json_of(text: &str) -> Value {
    serde_json::from_str(text.lines().last().unwrap_or_default()).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Runs a verb with JSON answers; gives its exit code and its last line.
fn run(stage: &Stage, args: &[&str]) -> (i32, Value) {
    let (code, text) = stage.confhot(&[args, &["--format", "json"]].concat());
    (code, json_of(&text))
}

/// Exit code, stdout and stderr.
fn all_of(stage: &Stage, args: &[&str]) -> (i32, String) {
    let output =
        support::confhot().args(["--server", &stage.url, "--bucket", &stage.bucket]).args(args).output().unwrap();
    let said = [output.stderr, output.stdout].concat();
    (output.status.code().unwrap(), String::from_utf8_lossy(&said).into_owned())
}

fn paths(stage: &Stage, names: &[&str]) -> Vec<String> {
    names.iter().map(|name| stage.dir().join(name).display().to_string()).collect()
}

fn put_set(stage: &Stage, names: &[&str], more: &[&str]) -> (i32, String) {
    let paths = paths(stage, names);
    let args: Vec<&str> = ["put", "--set"].into_iter().chain(paths.iter().map(String::as_str)).collect();
    all_of(stage, &[&args, more].concat())
}

#[test]
fn several_documents_are_published_as_one_and_what_is_unchanged_is_left_out() {
    let stage = Stage::new();
    stage.save("a.toml", "n = 1\n");
    stage.save("billing/api.yaml", "n: 1\n");
    stage.save("c.json", "{\"n\": 1}\n");

    let dir = stage.dir().display().to_string();
    let (code, told) = run(&stage, &["put", "--set", &dir, "--message", "first"]);
    assert_eq!((code, &told["set"]["members"]), (0, &json!(3)), "{told}");
    let documents = told["documents"].as_array().unwrap();
    let keys: Vec<_> = documents.iter().map(|it| it["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["a", "billing.api", "c"]);
    for key in &keys {
        assert_eq!(stage.history(key)[0]["set"], told["set"], "{key}");
        assert_eq!(stage.history(key)[0]["message"], "first");
    }

    stage.save("a.toml", "n = 2\n");
    let (code, told) = run(&stage, &["put", "--set", &dir]);
    assert_eq!((code, &told["set"]), (0, &Value::Null), "one alone is no set: {told}");
    let unchanged: Vec<_> = told["documents"].as_array().unwrap().iter().map(|it| &it["unchanged"]).collect();
    assert_eq!(unchanged, [&json!(false), &json!(true), &json!(true)]);
    let table = stage.confhot(&["history", "a"]).1;
    let id = stage.history("c")[0]["set"]["id"].as_str().unwrap()[..8].to_owned();
    assert!(table.contains("SET") && table.contains(&format!("{id} of 3")), "{table}");
}

#[test]
fn one_that_is_invalid_holds_all_of_them_back_and_is_named() {
    let stage = Stage::new();
    stage.save("a.toml", "n = 1\n");
    stage.save("b.toml", "n 1\n");

    let (code, told) = put_set(&stage, &["a.toml", "b.toml"], &[]);

    assert_eq!(code, 1, "{told}");
    assert!(told.contains("b.toml:1:3: "), "{told}");
    assert_eq!(stage.value("a"), None);
}

#[test]
fn a_schema_in_the_set_goes_first_and_judges_its_document() {
    let stage = Stage::new();
    stage.save("a.toml", "n = 1\n");
    stage.save("b.toml", "n = 1\n");
    stage.save("a.schema.json", r#"{"properties": {"n": {"type": "string"}}}"#);
    let dir = stage.dir().display().to_string();

    let (code, told) = all_of(&stage, &["put", "--set", &dir]);
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("a.toml:1:"), "{told}");

    stage.save("a.toml", "n = 'one'\n");
    let (code, told) = run(&stage, &["put", "--set", &dir]);
    assert_eq!(code, 0, "{told}");
    let revision = |key: &str| stage.history(key)[0]["revision"].as_u64().unwrap();
    assert!(revision("_schema.a") < revision("a"));
}

#[test]
fn rollback_of_a_set_takes_all_of_it_back_as_one_and_a_second_one_goes_further() {
    let stage = Stage::new();
    stage.save("a.toml", "n = 1\n");
    put_set(&stage, &["a.toml"], &[]);
    for n in 2..=3 {
        stage.save("a.toml", format!("n = {n}\n"));
        stage.save("b.toml", format!("n = {n}\n"));
        assert_eq!(put_set(&stage, &["a.toml", "b.toml"], &[]).0, 0);
    }

    assert_eq!(stage.confhot(&["rollback", "a", "--set"]).0, 2, "off a terminal it needs --yes");
    let (code, told) = run(&stage, &["rollback", "a", "--set", "--yes", "--message", "no good"]);
    assert_eq!(code, 0, "{told}");
    assert_eq!((stage.value("a").unwrap(), stage.value("b").unwrap()), ("n = 2\n".into(), "n = 2\n".into()));
    for key in ["a", "b"] {
        let head = &stage.history(key)[0];
        assert_eq!(
            (&head["set"], &head["writer"], &head["message"]),
            (&told["set"], &json!("rollback"), &json!("no good"))
        );
    }

    // The set had made `b`: before it there was none.
    let (code, told) = run(&stage, &["rollback", "b", "--set", "--yes"]);
    assert_eq!(code, 0, "{told}");
    assert_eq!((stage.value("a").unwrap(), stage.value("b")), ("n = 1\n".into(), None));
    assert_eq!(told["documents"][1]["rolled_back_to"], Value::Null);
}

#[test]
fn a_set_of_which_somebody_changed_a_member_is_not_taken_back() {
    let stage = Stage::new();
    for n in 1..=2 {
        stage.save("a.toml", format!("n = {n}\n"));
        stage.save("b.toml", format!("n = {n}\n"));
        put_set(&stage, &["a.toml", "b.toml"], &[]);
    }
    stage.put("b", "n = 9\n");

    let (code, told) = all_of(&stage, &["rollback", "a", "--set", "--yes"]);
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("b was published in the same change set"), "{told}");
    assert_eq!(stage.value("a").unwrap(), "n = 2\n");

    let (code, told) = all_of(&stage, &["rollback", "b", "--set", "--yes"]);
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("is of no change set"), "{told}");
}

#[test]
fn a_server_that_cannot_store_them_as_one_is_told_so_and_nothing_is_stored() {
    let stage = Stage::at(&support::shared("2.11.11").url());
    stage.save("a.toml", "n = 1\n");
    stage.save("b.toml", "n = 1\n");

    let (code, told) = put_set(&stage, &["a.toml", "b.toml"], &[]);

    assert_eq!(code, 1, "{told}");
    assert!(told.contains("cannot store several documents as one") && told.contains("2.12"), "{told}");
    assert_eq!(stage.value("a"), None);
}

#[test]
fn a_set_is_waited_for_and_taken_back_as_a_whole_where_one_of_it_is_rejected() {
    let stage = Stage::at(&support::shared(VERSIONS[2]).url());
    for name in ["a", "b"] {
        stage.save(&format!("{name}.toml"), "[server]\nrequest_timeout = '1s'\n");
    }
    assert_eq!(put_set(&stage, &["a.toml", "b.toml"], &[]).0, 0);
    let service = |name: &str| {
        let mut service = Daemon::start([
            "serve",
            "--name",
            name,
            "--instance",
            name,
            "--server",
            &stage.url,
            "--bucket",
            &stage.bucket,
            "--format",
            "json",
        ]);
        service.event("applied");
        service
    };
    let mut services = [service("a"), service("b")];

    stage.save("a.toml", "[server]\nrequest_timeout = '2s'\n");
    stage.save("b.toml", "[server]\nrequest_timeout = '2s'\n");
    let (code, told) = put_set(&stage, &["a.toml", "b.toml"], &["--wait", "20s", "--format", "json"]);
    assert_eq!(code, 0, "{told}");
    assert_eq!(json_of(&told)["applied"].as_array().unwrap().len(), 2, "{told}");

    stage.save("a.toml", "[server]\nrequest_timeout = '3s'\n");
    stage.save("b.toml", "[server]\nrequest_timeout = 'never'\n");
    let more = ["--wait", "20s", "--rollback-on-reject", "--format", "json"];
    let (code, told) = put_set(&stage, &["a.toml", "b.toml"], &more);
    assert_eq!(code, 1, "{told}");
    let told = json_of(&told);
    assert_eq!(told["rolled_back"], json!(["a", "b"]), "{told}");
    assert_eq!(told["rejected"][0]["key"], "b", "{told}");
    for (service, key) in services.iter_mut().zip(["a", "b"]) {
        assert_eq!(stage.value(key).unwrap(), "[server]\nrequest_timeout = '2s'\n");
        service.sigterm();
        assert_eq!(service.wait_exit(), 0);
    }
}
