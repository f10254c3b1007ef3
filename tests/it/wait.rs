//! `--wait`: a yes is one that every live instance said itself, a no comes with who and why, and neither comes late.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use confhot::kv::{Bucket, Instance, Key};
use confhot::live::{Live, Rejection};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::feed::{connect, key, put};
use crate::status::{
    Settings, aged, document, fresh_on, instance, own_key, run, wait_applied, wait_complete, wait_status,
};
use crate::support::{self, DEADLINE, Daemon, Server, Stage, VERSIONS, confhot, eventually, named};

/// What a process takes that has nothing to wait for, on a busy machine.
const SLACK: Duration = Duration::from_secs(3);

/// Exit code, answer and stderr of `confhot put KEY … --wait PATIENCE`, and how long it took.
fn put_wait(bucket: &Bucket, key: &Key, text: &str, more: &[&str]) -> (i32, Value, String, Duration) {
    let (since, file) = (Instant::now(), document(text));
    let (code, lines, stderr) = run(bucket, &[&["put", key.as_str(), &file, "--wait"], more].concat());
    (code, lines.into_iter().next().unwrap_or_default(), stderr, since.elapsed())
}

/// `put --wait` that goes on meanwhile; its answer is its one event.
fn putting(bucket: &Bucket, key: &Key, text: &str, more: &[&str]) -> Daemon {
    let file = document(text);
    let args = ["put", key.as_str(), &file, "--format", "json", "--server", bucket.connection().servers()];
    Daemon::start(args.iter().chain(&["--bucket", bucket.name(), "--wait"]).chain(more))
}

/// Instances on `key` that serve its head.
async fn instances(bucket: &Bucket, key: &Key, ids: &[&str]) -> Vec<Live<Settings>> {
    let head = match bucket.head(key).await.unwrap() {
        Some(head) => head.revision,
        None => put(bucket, key, "n = 0").await,
    };
    let mut lives = Vec::new();
    for id in ids {
        lives.push(instance(bucket, key, id).await);
    }
    for id in ids {
        wait_applied(bucket, key, id, head).await;
    }
    lives
}

fn n(live: &Live<Settings>) -> i64 {
    live.get().unwrap().n
}

#[tokio::test(flavor = "multi_thread")]
async fn applied_by_all_is_a_yes_and_all_of_them_have() {
    let (bucket, k) = own_key().await;
    let lives = instances(&bucket, &k, &["a", "b", "c"]).await;

    let (code, answer, stderr, took) = put_wait(&bucket, &k, "n = 1", &["30s"]);

    let revision = bucket.head(&k).await.unwrap().unwrap().revision;
    let expected = json!({
        "key": k, "revision": revision, "unchanged": false, "applied": ["a", "b", "c"], "rejected": [], "missing": [],
        "left": [], "rolled_back_to": null,
    });
    assert_eq!((code, answer, stderr.as_str()), (0, expected, ""));
    assert!(lives.iter().all(|live| n(live) == 1));
    assert!(took < SLACK, "it took {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_rejection_is_a_no_with_who_and_why_long_before_the_deadline() {
    let (bucket, k) = own_key().await;
    let _lives = instances(&bucket, &k, &["a", "b", "c"]).await;

    let (code, answer, _, took) = put_wait(&bucket, &k, "n = 1\ninvalid_for = ['b']\nstuck_for = ['c']", &["30s"]);

    assert_eq!(code, 1);
    // It ends at once: whether the answer of `a` came first is chance.
    let missing = &answer["missing"];
    assert!(*missing == json!(["c"]) || *missing == json!(["a", "c"]), "{answer}");
    assert_eq!(answer["rejected"], json!([{"instance": "b", "reason": "b does not like 1"}]));
    assert_eq!(answer["rolled_back_to"], Value::Null, "not asked for");
    assert!(took < SLACK, "it took {took:?}");
    let global = ["--server", bucket.connection().servers(), "--bucket", bucket.name()];
    let again = document("n = 2\nunavailable_for = ['b']");
    let text = confhot().args(["put", k.as_str(), &again, "--wait", "30s"]).args(global).output().unwrap();
    let stdout = String::from_utf8(text.stdout).unwrap();
    assert!(stdout.contains(&format!("  {k} rejected by b: b does not like 2\n")), "{stdout}");
    assert_eq!(text.status.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_deadline_it_is_a_no_with_who_is_missing_and_no_later() {
    let (bucket, k) = own_key().await;
    let _lives = instances(&bucket, &k, &["a", "b"]).await;

    let (code, answer, _, took) = put_wait(&bucket, &k, "n = 1\nstuck_for = ['b']", &["2s"]);

    assert_eq!((code, &answer["applied"], &answer["missing"]), (1, &json!(["a"]), &json!(["b"])));
    assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(2) + SLACK, "it took {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn higher_revisions_of_a_bucket_that_was_made_anew_under_the_instances_supersede_nothing() {
    let (bucket, k) = own_key().await;
    let lives = instances(&bucket, &k, &["a", "b"]).await;
    for n in 1..=3 {
        put(&bucket, &k, &format!("n = {n}")).await;
    }
    for live in &lives {
        eventually("the last one", DEADLINE, || (n(live) == 3).then_some(()));
    }
    let head = bucket.head(&k).await.unwrap().unwrap().revision;
    for id in ["a", "b"] {
        wait_applied(&bucket, &k, id, head).await;
    }
    wait_complete(&bucket).await;
    let js = async_nats::jetstream::new(async_nats::connect(bucket.connection().servers()).await.unwrap());
    js.delete_stream(format!("KV_{}", bucket.name())).await.unwrap();

    let (code, answer, stderr, _) = put_wait(&bucket, &k, "n = 9", &["20s"]);

    assert_eq!(
        (code, &answer["revision"], &answer["applied"]),
        (0, &json!(1), &json!(["a", "b"])),
        "{answer} {stderr}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_revision_meanwhile_is_a_no_that_names_it() {
    let (bucket, k) = own_key().await;
    let _lives = instances(&bucket, &k, &["a", "b"]).await;
    let mut first = putting(&bucket, &k, "n = 1\nstuck_for = ['b']", &["30s"]);
    let stuck = eventually("the first is stored", DEADLINE, || {
        let (_, lines, _) = run(&bucket, &["history", k.as_str()]);
        (lines.len() == 2).then(|| lines[0]["revision"].clone())
    });
    let second = put(&bucket, &k, "n = 2").await;

    let answer = first.wait_event(DEADLINE, |_| true);
    assert_eq!(first.wait_exit(), 1);
    assert_eq!((&answer["revision"], &answer["superseded_by"]), (&stuck, &json!(second)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_revision_meanwhile_is_a_no_while_the_one_that_lags_is_frozen() {
    let (bucket, _) = own_key().await;
    let k = key(&format!("newer{}", support::bucket()));
    let lives = instances(&bucket, &k, &["a"]).await;
    let url = bucket.connection().servers();
    let mut service =
        Daemon::start(["serve", "--name", k.as_str(), "--server", url, "--bucket", bucket.name(), "--instance", "f"]);
    wait_status(&bucket, &k, "f", |status| status.report.revision.is_some()).await;
    service.signal(Signal::STOP);
    let mut first = putting(&bucket, &k, "n = 1", &["30s"]);
    eventually("the first is applied", DEADLINE, || (n(&lives[0]) == 1).then_some(()));
    let since = Instant::now();
    let second = put(&bucket, &k, "n = 2").await;

    let answer = first.wait_event(DEADLINE, |_| true);

    assert_eq!((first.wait_exit(), &answer["superseded_by"]), (1, &json!(second)), "{answer}");
    assert!(since.elapsed() < 2 * SLACK, "{:?}", since.elapsed());
    service.signal(Signal::CONT);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_says_goodbye_is_not_waited_for_and_one_that_dies_is_missing() {
    let (bucket, k) = own_key().await;
    let mut lives = instances(&bucket, &k, &["a", "goes", "stays"]).await;
    let mut waits = putting(&bucket, &k, "n = 1\nstuck_for = ['goes', 'stays']", &["40s"]);
    let revision =
        eventually("it is stored", DEADLINE, || lives[0].load().as_ref().filter(|s| s.n == 1)?.revision.into());
    let stays = lives.pop().unwrap();
    lives.pop().unwrap().close().await;
    drop(stays);
    let died = Instant::now();

    let answer = waits.wait_event(2 * DEADLINE, |_| true);
    assert_eq!(waits.wait_exit(), 1);
    assert_eq!(
        (&answer["applied"], &answer["left"], &answer["missing"]),
        (&json!(["a"]), &json!(["goes"]), &json!(["stays"]))
    );
    assert!(died.elapsed() < Duration::from_secs(15) + SLACK, "it took {:?}", died.elapsed());

    // Unchanged, it waits for who is there.
    let (code, answer, _, _) = put_wait(&bucket, &k, "n = 1\nstuck_for = ['goes', 'stays']", &["30s"]);
    let expected = json!({
        "key": k, "revision": revision, "unchanged": true, "applied": ["a"], "rejected": [], "missing": [],
        "left": [], "rolled_back_to": null,
    });
    assert_eq!((code, answer), (0, expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_goes_while_another_applies_leaves_a_yes() {
    let (bucket, k) = own_key().await;
    let mut lives = instances(&bucket, &k, &["a", "goes"]).await;
    let mut waits = putting(&bucket, &k, "n = 1\nstuck_for = ['goes']", &["30s"]);
    eventually("it is stored", DEADLINE, || (n(&lives[0]) == 1).then_some(()));
    lives.pop().unwrap().close().await;

    let answer = waits.wait_event(DEADLINE, |_| true);
    assert_eq!((waits.wait_exit(), &answer["applied"], &answer["left"]), (0, &json!(["a"]), &json!(["goes"])));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_instance_is_waited_for_and_a_thawed_one_applies() {
    let (bucket, _) = own_key().await;
    let k = key(&format!("frozen{}", support::bucket()));
    put(&bucket, &k, "n = 0").await;
    let url = bucket.connection().servers();
    let mut service =
        Daemon::start(["serve", "--name", k.as_str(), "--server", url, "--bucket", bucket.name(), "--instance", "f"]);
    wait_status(&bucket, &k, "f", |status| status.report.revision.is_some()).await;
    service.signal(Signal::STOP);

    let (code, answer, _, _) = put_wait(&bucket, &k, "n = 1", &["2s"]);
    assert_eq!((code, &answer["missing"]), (1, &json!(["f"])));
    let mut waits = putting(&bucket, &k, "n = 2", &["30s"]);
    let (_, lines, _) = run(&bucket, &["status", k.as_str()]);
    assert_eq!(lines[0]["state"], "behind");
    service.signal(Signal::CONT);
    let answer = waits.wait_event(DEADLINE, |_| true);
    assert_eq!((waits.wait_exit(), &answer["applied"]), (0, &json!(["f"])));

    // One that is busy with it says so when it is asked; one that says nothing for 15 s is not waited for any longer.
    let slow = instance(&bucket, &k, "slow").await;
    wait_status(&bucket, &k, "slow", |status| status.report.revision.is_some()).await;
    service.signal(Signal::STOP);
    let (code, answer, _, took) = put_wait(&bucket, &k, "n = 3\nslow_for = 'slow'\nslow_ms = 20_000", &["60s"]);
    assert_eq!((code, &answer["applied"], &answer["missing"]), (1, &json!(["slow"]), &json!(["f"])));
    assert!(took < Duration::from_secs(30), "{took:?}");
    service.signal(Signal::CONT);
    slow.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_nobody_it_is_a_no_with_a_hint_unless_that_is_right() {
    let (bucket, k) = own_key().await;

    let (code, answer, stderr, _) = put_wait(&bucket, &k, "n = 1", &["30s"]);
    assert_eq!((code, &answer["unchanged"], &answer["applied"]), (1, &json!(false), &json!([])));
    assert!(stderr.contains("no live instance is known") && stderr.contains("hint: "), "{stderr}");
    assert_eq!(put_wait(&bucket, &k, "n = 2", &["30s", "--instances", "0"]).0, 0);
    // However short the wait: the bucket was not made just now.
    let (code, _, stderr, took) = put_wait(&bucket, &k, "n = 3", &["1s", "--instances", "0"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(took < Duration::from_secs(1) + SLACK);
    let (code, _, stderr, _) = put_wait(&bucket, &k, "n = 4", &["1s"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("no live instance is known") && stderr.contains("hint: "), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_instances_as_are_asked_for_are_waited_for_those_that_start_later_included() {
    let (bucket, k) = own_key().await;
    let lives = instances(&bucket, &k, &["a"]).await;
    let mut waits = putting(&bucket, &k, "n = 1", &["30s", "--instances", "2"]);
    eventually("it is stored", DEADLINE, || (n(&lives[0]) == 1).then_some(()));

    let _later = instance(&bucket, &k, "later").await;

    let answer = waits.wait_event(DEADLINE, |_| true);
    assert_eq!((waits.wait_exit(), &answer["applied"]), (0, &json!(["a", "later"])));
    let (code, answer, _, _) = put_wait(&bucket, &k, "n = 2", &["2s", "--instances", "3"]);
    assert_eq!((code, &answer["applied"]), (1, &json!(["a", "later"])));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_under_one_name_both_say_so_and_are_no_yes() {
    let (bucket, _) = own_key().await;
    let k = key(&format!("twins{}", support::bucket()));
    put(&bucket, &k, "n = 0").await;
    let url = bucket.connection().servers();
    // Also to whoever wants to hear of errors only.
    let line = format!("serve -q --name {k} --server {url} --bucket {} --instance x", bucket.name());
    let mut twins = [(); 2].map(|()| Daemon::start(line.split(' ')));
    for twin in &twins {
        eventually("both say so", DEADLINE, || twin.stderr().contains("calls itself instance `x`").then_some(()));
    }
    // Each says so in its next record too.
    wait_status(&bucket, &k, "x", |status| status.twin).await;
    eventually("it is no yes", DEADLINE, || {
        let (code, answer, _, _) = put_wait(&bucket, &k, "n = 1", &["20s"]);
        let reason = answer["rejected"][0]["reason"].as_str()?;
        (code == 1 && reason == "two processes call themselves `x`").then_some(())
    });

    // When one has gone, the other one is itself again.
    twins[0].kill9();
    wait_status(&bucket, &k, "x", |status| !status.twin).await;
    let (code, answer, _, _) = put_wait(&bucket, &k, "n = 2", &["20s"]);
    assert_eq!((code, &answer["applied"]), (0, &json!(["x"])));
    let said = twins[1].stderr().matches("calls itself instance").count();
    assert_eq!(said, 1, "{}", twins[1].stderr());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_started_again_under_its_name_is_not_two() {
    let (bucket, k) = own_key().await;
    let lives = instances(&bucket, &k, &["a"]).await;
    // The record of the first is still there.
    drop(lives);
    let again = instance(&bucket, &k, "a").await;
    wait_status(&bucket, &k, "a", |status| status.up < Duration::from_secs(2)).await;

    let (code, answer, _, _) = put_wait(&bucket, &k, "n = 1", &["20s"]);
    assert_eq!((code, &answer["applied"], n(&again)), (0, &json!(["a"]), 1), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn right_after_a_restart_of_the_server_all_are_waited_for_and_not_those_who_are_back() {
    let mut server = Server::start();
    let bucket = fresh_on(&server).await;
    let k = key("service1");
    let ids: Vec<String> = (0..12).map(|n| format!("i{n:02}")).collect();
    let names: Vec<_> = ids.iter().map(String::as_str).collect();
    let lives = instances(&bucket, &k, &names).await;
    wait_complete(&bucket).await;

    for (round, outage) in [Duration::from_millis(20), Duration::from_secs(5)].into_iter().enumerate() {
        server.kill9();
        tokio::time::sleep(outage).await;
        server.restart();
        let text = format!("n = {}", round + 1);
        let (code, answer, stderr, _) = put_wait(&bucket, &k, &text, &["30s"]);
        // Before anything else: what runs at the moment of the answer.
        let run: Vec<_> = lives.iter().map(n).collect();
        assert_eq!((code, &answer["applied"]), (0, &json!(ids)), "{stderr}");
        assert_eq!(run, vec![i64::try_from(round).unwrap() + 1; 12]);
    }

    // And a rejection by the last one that comes back is not missed.
    server.kill9();
    server.restart();
    let (code, answer, _, _) = put_wait(&bucket, &k, "n = 3\ninvalid_for = ['i11']", &["30s"]);
    assert_eq!((code, &answer["rejected"][0]["instance"]), (1, &json!("i11")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_gone_after_the_store_is_a_no_at_the_deadline() {
    let mut server = Server::start();
    let bucket = fresh_on(&server).await;
    let k = key("service1");
    let lives = instances(&bucket, &k, &["a", "b"]).await;
    let since = Instant::now();
    let mut waits = putting(&bucket, &k, "n = 1\nstuck_for = ['b']", &["6s"]);
    eventually("it is stored", DEADLINE, || (n(&lives[0]) == 1).then_some(()));
    // And told: the one that waits is to have heard of it before nobody hears anything.
    let stored = bucket.head(&k).await.unwrap().map(|head| head.revision);
    while !bucket.statuses(Some(&k)).await.unwrap().0.iter().any(|status| status.report.revision == stored) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    server.kill9();

    let answer = waits.wait_event(DEADLINE, |_| true);
    let took = since.elapsed();
    assert_eq!((waits.wait_exit(), &answer["missing"]), (1, &json!(["b"])));
    assert!(took >= Duration::from_secs(6) && took < Duration::from_secs(6) + SLACK, "it took {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_after_the_store_is_a_no_at_the_deadline() {
    let mut server = Server::start();
    let bucket = fresh_on(&server).await;
    let k = key("service1");
    let lives = instances(&bucket, &k, &["a", "b"]).await;
    let since = Instant::now();
    let mut waits = putting(&bucket, &k, "n = 1\nstuck_for = ['b']", &["4s"]);
    eventually("it is stored", DEADLINE, || (n(&lives[0]) == 1).then_some(()));
    server.freeze();

    waits.wait_event(DEADLINE, |_| true);
    let took = since.elapsed();
    assert_eq!(waits.wait_exit(), 1);
    assert!(took >= Duration::from_secs(4) && took < Duration::from_secs(4) + SLACK, "it took {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_rejection_it_goes_back_to_what_was_there_and_waits_for_that() {
    let (bucket, k) = own_key().await;
    let first = put(&bucket, &k, "n = 1").await;
    let good = put(&bucket, &k, "n = 2").await;
    let lives = instances(&bucket, &k, &["a", "b"]).await;

    let (code, answer, stderr, _) =
        put_wait(&bucket, &k, "n = 3\ninvalid_for = ['b']", &["30s", "--rollback-on-reject"]);

    assert_eq!((code, &answer["rolled_back_to"]), (1, &json!(good)), "{stderr}");
    assert!(stderr.contains(&format!("{k} is rolled back to revision {good}")), "{stderr}");
    assert!(!stderr.contains("not every instance"), "{stderr}");
    let head = bucket.head(&k).await.unwrap().unwrap();
    assert_eq!((head.value.as_ref(), head.provenance.rollback_of), (&b"n = 2"[..], Some(good)));
    assert_eq!(head.provenance.message.as_deref(), Some("rejected by b: b does not like 3"));
    assert!(lives.iter().all(|live| n(live) == 2 && live.get().unwrap().revision != first));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_one_before_was_rejected_as_well_it_goes_further() {
    let (bucket, k) = own_key().await;
    let good = put(&bucket, &k, "n = 1").await;
    let lives = instances(&bucket, &k, &["a"]).await;
    put(&bucket, &k, "n = 2\ninvalid_for = ['a']").await;
    wait_status(&bucket, &k, "a", |status| status.report.rejected.is_some()).await;

    let (code, answer, _, _) = put_wait(&bucket, &k, "n = 3\ninvalid_for = ['a']", &["30s", "--rollback-on-reject"]);

    assert_eq!((code, &answer["rolled_back_to"]), (1, &json!(good)));
    assert_eq!((bucket.head(&k).await.unwrap().unwrap().value.as_ref(), n(&lives[0])), (&b"n = 1"[..], 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_has_nothing_to_go_back_to() {
    let (bucket, k) = own_key().await;
    let _live = instance(&bucket, &k, "a").await;
    wait_status(&bucket, &k, "a", |_| true).await;

    let (code, answer, stderr, _) =
        put_wait(&bucket, &k, "n = 1\ninvalid_for = ['a']", &["30s", "--rollback-on-reject"]);

    assert_eq!((code, &answer["rolled_back_to"]), (1, &Value::Null));
    assert!(stderr.contains("it has no good revision to go back to"), "{stderr}");
    assert_eq!(run(&bucket, &["history", k.as_str()]).1.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_published_meanwhile_is_not_rolled_back() {
    let (bucket, k) = own_key().await;
    put(&bucket, &k, "n = 1").await;
    let own = connect(bucket.connection().servers()).await.bucket(bucket.name()).unwrap();
    let (other, key) = (own.clone(), k.clone());
    // Somebody publishes between the store and the rejection.
    let _live = Live::<Settings>::builder(&own, &k)
        .check(move |_, new| {
            let (other, key, n) = (other.clone(), key.clone(), new.n);
            async move {
                if n == 2 {
                    put(&other, &key, "n = 3").await;
                    return Err(Rejection::invalid("no"));
                }
                Ok(())
            }
        })
        .announce(Instance::new("sample", "a", "here"))
        .start();
    wait_status(&bucket, &k, "a", |status| status.report.revision.is_some()).await;

    let (code, answer, stderr, _) = put_wait(&bucket, &k, "n = 2", &["30s", "--rollback-on-reject"]);

    assert_eq!((code, &answer["rolled_back_to"]), (1, &Value::Null), "{stderr}");
    assert_eq!(bucket.head(&k).await.unwrap().unwrap().value.as_ref(), b"n = 3");
    // Whether the newer one or the rejection is heard first, nothing was taken back.
    assert!(stderr.contains("somebody else changed it since") || answer["superseded_by"].is_u64(), "{answer} {stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_waits_too() {
    let (bucket, k) = own_key().await;
    put(&bucket, &k, "n = 1\ninvalid_for = ['b']").await;
    put(&bucket, &k, "n = 2").await;
    let lives = instances(&bucket, &k, &["a"]).await;

    let (code, lines, _) = run(&bucket, &["rollback", k.as_str(), "--yes", "--wait", "30s"]);
    assert_eq!((code, &lines[0]["applied"], n(&lives[0])), (0, &json!(["a"]), 1));
    put(&bucket, &k, "n = 3").await;
    let _b = instances(&bucket, &k, &["b"]).await;
    let (code, lines, _) = run(&bucket, &["rollback", k.as_str(), "--yes", "--wait", "30s"]);
    assert_eq!((code, &lines[0]["rejected"][0]["instance"]), (1, &json!("b")));
}

fn on_aged() -> Stage {
    let mut stage = Stage::new();
    stage.bucket = aged();
    stage
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loader_that_runs_once_waits_for_all_that_its_directory_holds_and_lists_what_nobody_reads() {
    let (bucket, _) = own_key().await;
    let stage = on_aged();
    let [a, b, c] = ["a", "b", "c"].map(|name| format!("{name}{}", support::bucket()));
    for name in [&a, &b, &c] {
        stage.save(&format!("{name}.toml"), "n = 0");
    }
    assert_eq!(stage.once(&[]).0, 0);
    let lives =
        [instances(&bucket, &key(&a), &["x"]).await, instances(&bucket, &key(&b), &["y", "z"]).await].concat_all();
    stage.save(&format!("{a}.toml"), "n = 1");

    let (code, events) = stage.once(&["--wait", "30s"]);
    let expected = json!({
        "event": "waited", "rejected": [], "missing": [], "left": [], "unread": [c], "rolled_back": [],
        "applied": [{"key": a, "instance": "x"}, {"key": b, "instance": "y"}, {"key": b, "instance": "z"}],
    });
    assert_eq!((code, events.last()), (0, Some(&expected)));
    assert_eq!(lives.iter().map(n).collect::<Vec<_>>(), [1, 0, 0]);

    // Nobody at all fails nothing either.
    let alone = on_aged();
    alone.save(&format!("{}.toml", support::bucket()), "n = 1");
    assert_eq!(alone.once(&["--wait", "30s"]).0, 0);
}

/// Of two lists one.
trait ConcatAll<T> {
    fn concat_all(self) -> Vec<T>;
}

impl<T, const N: usize> ConcatAll<T> for [Vec<T>; N] {
    fn concat_all(self) -> Vec<T> {
        self.into_iter().flatten().collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_run_of_the_loader_published_is_taken_back_as_one() {
    let (bucket, _) = own_key().await;
    let stage = on_aged();
    let [a, b, c] = ["a", "b", "c"].map(|name| format!("{name}{}", support::bucket()));
    for name in [&a, &b, &c] {
        stage.save(&format!("{name}.toml"), "n = 0");
    }
    assert_eq!(stage.once(&[]).0, 0);
    let lives = [instances(&bucket, &key(&a), &["x"]).await, instances(&bucket, &key(&b), &["y"]).await].concat_all();
    stage.save(&format!("{a}.toml"), "n = 1");
    stage.save(&format!("{b}.toml"), "n = 2\ninvalid_for = ['y']");

    let (code, events) = stage.once(&["--wait", "30s", "--rollback-on-reject"]);

    let waited = named(&events, "waited")[0];
    assert_eq!((code, &waited["rejected"]), (1, &json!([{"key": b, "instance": "y", "reason": "y does not like 2"}])));
    let back: BTreeSet<_> = waited["rolled_back"].as_array().unwrap().iter().map(|key| key.as_str().unwrap()).collect();
    assert_eq!(back, BTreeSet::from([a.as_str(), b.as_str()]), "{waited}");
    let head = |key: &str| stage.history(key)[0].clone();
    assert_eq!((&head(&a)["writer"], &head(&b)["writer"]), (&json!("rollback"), &json!("rollback")));
    assert!(head(&a)["set"]["id"].is_string() && head(&a)["set"] == head(&b)["set"], "{}", head(&a));
    assert_eq!(stage.value(&a).as_deref(), Some("n = 0"));
    assert_eq!(head(&c)["writer"], "loader");
    assert_eq!(lives.iter().map(n).collect::<Vec<_>>(), [0, 0]);
    // The file still holds what was withdrawn: it is not put back.
    let (code, events) = stage.once(&[]);
    assert_eq!((code, named(&events, "drift").len(), named(&events, "published").len()), (1, 2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_goes_back_with_the_document_that_it_would_not_allow() {
    let (bucket, _) = own_key().await;
    let stage = on_aged();
    let a = format!("a{}", support::bucket());
    let schema = |least: i64| format!("{{\"properties\": {{\"n\": {{\"minimum\": {least}}}}}}}");
    stage.save(&format!("{a}.schema.json"), schema(0));
    stage.save(&format!("{a}.toml"), "n = 1");
    assert_eq!(stage.once(&[]).0, 0);
    let lives = instances(&bucket, &key(&a), &["x"]).await;
    stage.save(&format!("{a}.schema.json"), schema(5));
    stage.save(&format!("{a}.toml"), "n = 7\ninvalid_for = ['x']");

    let (code, events) = stage.once(&["--wait", "30s", "--rollback-on-reject"]);

    let waited = named(&events, "waited")[0];
    assert_eq!((code, &waited["rolled_back"]), (1, &json!([format!("_schema.{a}"), a])));
    assert_eq!((stage.value(&a).as_deref(), n(&lives[0])), (Some("n = 1"), 1));
    let back = bucket.head(&key(&format!("_schema.{a}"))).await.unwrap().unwrap();
    assert_eq!(back.value, schema(0).as_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn it_waits_on_every_server_that_confhot_works_with() {
    let versions = VERSIONS.map(|version| tokio::spawn(waits_on(version)));
    for version in versions {
        version.await.unwrap();
    }
}

async fn waits_on(version: &'static str) {
    let bucket = fresh_on(support::shared(version)).await;
    let k = key("service1");
    let lives = instances(&bucket, &k, &["a", "b"]).await;
    // Too young for a quick yes.
    let (code, answer, stderr, _) = put_wait(&bucket, &k, "n = 1", &["20s"]);
    assert_eq!((code, &answer["applied"]), (0, &json!(["a", "b"])), "{version}: {stderr}");
    assert_eq!(bucket.complete_in().await.unwrap().within, Duration::ZERO, "{version}");
    let (code, _, _, took) = put_wait(&bucket, &k, "n = 2", &["20s"]);
    assert!(code == 0 && took < SLACK, "{version}: {took:?}");
    assert!(lives.iter().all(|live| n(live) == 2));
    // The mark of its age outlives the records' age limit.
    drop(lives);
    let died = Instant::now();
    while !bucket.statuses(Some(&k)).await.unwrap().0.is_empty() {
        assert!(died.elapsed() < Duration::from_secs(15), "{version}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(bucket.complete_in().await.unwrap().within, Duration::ZERO, "{version}");
}

#[test]
fn where_the_bucket_is_new_a_short_wait_counts_whoever_is_known_by_its_end() {
    let server = Server::start();
    let stage = Stage::at(&server.url());
    stage.save("service1.toml", "n = 1\n");

    // Nobody reads it, and nobody can have been forgotten.
    let (code, events) = stage.once(&["--wait", "500ms"]);
    let waited = events.last().unwrap();
    assert_eq!((code, &waited["unread"], &waited["complete"]), (0, &json!(["service1"]), &Value::Null), "{events:?}");
    let put = |text: &str, more: &[&str]| {
        let file = document(text);
        let (code, answer) =
            stage.confhot(&[&["put", "service1", &file, "--wait", "500ms", "--format", "json"], more].concat());
        (code, serde_json::from_str::<Value>(&answer).unwrap())
    };
    assert_eq!(put("n = 2", &["--instances", "0"]).0, 0);
    assert_eq!(put("n = 3", &[]).0, 1, "none is known");

    let mut service = crate::serve::serve(&server.url(), &stage.bucket, &["--instance", "a"]);
    service.event("applied");
    let (code, answer) = put("n = 4", &[]);
    assert_eq!((code, &answer["applied"]), (0, &json!(["a"])), "{answer}");
}
