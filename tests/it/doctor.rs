//! `confhot doctor`: each check is fine where it is, and says what to do where it is not.

use std::fs;

use async_nats::jetstream::{self, kv};
use serde_json::Value;

use crate::acl::{USERS, locked, user};
use crate::support::{Server, VERSIONS};
use crate::ways_in::Way;

/// The exit code, and the checks.
fn doctor(way: &Way, args: &[&str]) -> (i32, Vec<Value>) {
    let (code, stdout, _) = way.run(&[&["doctor", "--format", "json"], args].concat(), "");
    (code, stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

fn of<'a>(checks: &'a [Value], check: &str) -> Vec<(&'a str, &'a str)> {
    let lines = checks.iter().filter(|line| line["check"] == check);
    lines.map(|line| (line["level"].as_str().unwrap(), line["text"].as_str().unwrap())).collect()
}

#[test]
fn where_all_is_well_only_durability_is_not_known() {
    let server = Server::start();
    let way = Way::to(&server.url());
    way.ok(&["put", "service1"], "port = 1\n");

    let (code, checks) = doctor(&way, &[]);
    assert_eq!(code, 0, "{checks:#?}");
    let named: Vec<_> = checks.iter().map(|line| line["check"].as_str().unwrap()).collect();
    assert_eq!(named, ["connection", "server", "jetstream", "bucket", "durability", "records", "clock", "inotify"]);
    for line in checks.iter().filter(|line| line["check"] != "inotify") {
        assert_eq!(line["level"], if line["check"] == "durability" { "warn" } else { "ok" }, "{line}");
        assert_eq!(line["remedy"].is_null(), line["level"] == "ok", "{line}");
    }
    let text = way.ok(&["doctor"], "");
    assert!(text.contains("\nok    server       nats-server 2.15.1\n"), "{text}");
    assert!(text.contains("\nwarn  durability   kept by one server"), "{text}");
}

#[test]
fn without_a_connection_it_says_why_and_what_to_do() {
    let dead = format!("nats://127.0.0.1:{}", confhot::server::free_port().unwrap());
    let server = locked();
    for (way, why) in [
        (Way::to(&dead), "Connection refused"),
        (Way::to(&server.url()).env("NATS_USER", "loader").env("NATS_PASSWORD", "guess"), "authorization violation"),
    ] {
        let (code, checks) = doctor(&way, &[]);
        assert_eq!((code, checks.len()), (2, 1), "{checks:?}");
        let line = &checks[0];
        assert_eq!((&line["check"], &line["level"]), (&"connection".into(), &"fail".into()));
        assert!(line["text"].as_str().unwrap().contains(why) && line["remedy"].is_string(), "{line}");
    }
}

#[test]
fn a_bucket_that_is_missing_is_the_loaders_to_make_and_a_failure_for_others() {
    let server = Server::start();
    let way = Way::to(&server.url());

    let (code, checks) = doctor(&way, &[]);
    assert_eq!((code, &of(&checks, "bucket")[..]), (1, &[("fail", "there is no bucket `configs`")][..]));
    let (code, checks) = doctor(&way, &["--role", "loader"]);
    assert_eq!((code, of(&checks, "bucket")[0].0), (0, "ok"), "{checks:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_settings_of_a_bucket_that_others_made_are_compared() {
    let server = Server::start();
    let client = async_nats::connect(server.url()).await.unwrap();
    let jetstream = jetstream::new(client);
    for name in ["configs", "configs_status"] {
        let config = kv::Config { bucket: name.into(), history: 8, ..kv::Config::default() };
        jetstream.create_key_value(config).await.unwrap();
    }

    let (code, checks) = doctor(&Way::to(&server.url()), &[]);
    assert_eq!(code, 0, "warnings are none: {checks:#?}");
    let bucket = of(&checks, "bucket");
    assert!(bucket.contains(&("warn", "history is 8, confhot makes it 64")), "{bucket:?}");
    assert!(bucket.contains(&("warn", "republish is off, confhot makes it confhot.live.configs")), "{bucket:?}");
    let records = of(&checks, "records");
    assert!(records.contains(&("warn", "the age limit in ms is 0, confhot makes it 310250")), "{records:?}");
    assert!(
        records.contains(&("warn", "the most that it stores, in bytes, is -1, confhot makes it 67108864")),
        "{records:?}"
    );
}

#[test]
fn an_older_server_is_told_by_what_it_cannot_do() {
    let server = Server::version(VERSIONS[0]);
    let way = Way::to(&server.url());
    way.ok(&["put", "service1"], "port = 1\n");

    let (code, checks) = doctor(&way, &[]);
    assert_eq!((code, of(&checks, "server")[0].1), (0, "nats-server 2.11.11"));
    assert_eq!((of(&checks, "jetstream")[0].0, of(&checks, "bucket")[1].0), ("warn", "warn"), "{checks:#?}");
}

#[test]
fn each_role_has_what_it_needs_and_no_more_and_nothing_is_left_behind() {
    let server = locked();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("service1.toml"), "port = 1\n").unwrap();
    user(&server, "loader").ok(&["loader", "--once", "--dir", dir.path().to_str().unwrap()], "");
    let admin = user(&server, "admin");
    let mut watch = admin.daemon(&["watch"]);
    crate::support::eventually("it watches", crate::support::DEADLINE, || {
        watch.stderr().contains("watching").then_some(())
    });

    for (name, args) in USERS {
        let (code, checks) = doctor(&user(&server, name), args);
        assert_eq!(code, 0, "{name}: {checks:#?}");
        let permissions = of(&checks, "permissions");
        assert!(permissions.len() == 1 && permissions[0].1.starts_with("all "), "{name}: {permissions:?}");
    }
    // A service that is to be an operator lacks what that needs, each of it.
    let (code, checks) = doctor(&user(&server, "service1"), &["--role", "operator"]);
    let permissions = of(&checks, "permissions");
    assert_eq!(code, 1);
    for said in [
        "Publish to \"$KV.configs.doctor\", for $KV.configs.>",
        "Publish to \"$JS.API.STREAM.MSG.GET.KV_configs\"",
        "Publish to \"$JS.API.CONSUMER.DELETE.KV_configs.doctor\", for $JS.API.CONSUMER.DELETE.KV_configs.*",
        "Subscription to \"confhot.live.configs.doctor\", for confhot.live.configs.>",
    ] {
        let said = format!("Permissions Violation for {said}");
        assert!(permissions.contains(&("fail", &said)), "{said}: {permissions:?}");
    }
    // Who may do everything is no service.
    for (name, args) in USERS {
        let (code, checks) = doctor(&admin, args);
        let permissions = of(&checks, "permissions");
        assert_eq!((code, permissions.len(), permissions[1].0), (0, 2, "warn"), "{name}: {permissions:?}");
    }
    // One that hears no answers is told that, and not that it may do nothing.
    let (code, checks) = doctor(&user(&server, "loader").arg("--inbox-prefix").arg("_INBOX"), &["--role", "loader"]);
    assert_eq!(code, 1);
    let said = "Permissions Violation for Subscription to \"_INBOX.doctor\", for _INBOX.>";
    assert_eq!(of(&checks, "permissions"), [("fail", said)]);

    admin.ok(&["put", "service1"], "port = 2\n");
    let change = watch.wait_event(crate::support::DEADLINE, |_| true);
    assert_eq!(change["revision"], 2, "nothing was stored: {change}");
    assert_eq!(admin.ok(&["keys", "--format", "json"], "").lines().count(), 1);
}

#[test]
fn a_directory_that_cannot_be_watched_is_told() {
    let server = Server::start();
    let way = Way::to(&server.url());
    way.ok(&["put", "service1"], "port = 1\n");

    let (code, checks) = doctor(&way, &["--dir", "/no/such/directory"]);
    assert_eq!((code, &of(&checks, "inotify")[..]), (1, &[("fail", "cannot read /no/such/directory")][..]));
    assert_eq!(doctor(&way, &["--dir", "/etc"]).0, 0);
}
