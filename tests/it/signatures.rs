//! Signatures: what an attacker may do who writes to the bucket as he likes and has no key that is trusted, against a
//! process that runs and one that starts; and that what is meant to be signed is.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use async_nats::HeaderMap;
use confhot::kv::{
    Bucket, ChangeSet, Connect, Connection, Credentials, Expect, Key, Pattern, Revision, Settings, Write,
};
use confhot::live::group::Group;
use confhot::live::{Event, Live, StateDir};
use confhot::signature::{Signer, Trust};

use crate::feed::{Feed, connect, key, make, put, write};
use crate::support::{self, DEADLINE, VERSIONS, eventually};

#[derive(Debug, serde::Deserialize)]
struct Numbered {
    n: u64,
}

/// A seed, and the public key that belongs to it.
pub(crate) fn pair() -> (String, String) {
    let pair = nkeys::KeyPair::new_user();
    (pair.seed().unwrap(), pair.public_key())
}

/// A bucket as everybody writes it, the same written with signatures, and trust in these.
struct Signed {
    plain: Bucket,
    signed: Bucket,
    trust: Trust,
    server: String,
}

impl Signed {
    async fn on(version: &str) -> Signed {
        let url = support::shared(version).url();
        let plain = connect(&url).await.bucket(&support::bucket()).unwrap();
        plain.ensure(&Settings::default()).await.unwrap();
        let (signed, trust) = signing(&plain);
        Signed { plain, signed, trust, server: url }
    }

    async fn new() -> Signed {
        Signed::on(VERSIONS[VERSIONS.len() - 1]).await
    }

    /// A process that takes what is trusted only, and what it told.
    fn live(&self, key: &Key) -> (Live<Numbered>, Told) {
        self.live_with(key, |builder| builder)
    }

    fn live_with(
        &self,
        key: &Key,
        change: impl FnOnce(confhot::live::Builder<Numbered>) -> confhot::live::Builder<Numbered>,
    ) -> (Live<Numbered>, Told) {
        let told = Told::default();
        let builder = Live::builder(&self.plain, key).trust(self.trust.clone()).observe(told.observer());
        (change(builder).start(), told)
    }

    /// The message that is stored as `revision`.
    async fn stored(&self, revision: Revision) -> (HeaderMap, Vec<u8>) {
        let js = async_nats::jetstream::new(async_nats::connect(&self.server).await.unwrap());
        let stream = js.get_stream(format!("KV_{}", self.plain.name())).await.unwrap();
        let message = stream.get_raw_message(revision.0).await.unwrap();
        (message.headers, message.payload.to_vec())
    }

    /// Stores bytes and headers as an attacker does: as he likes.
    async fn store(&self, key: &str, headers: HeaderMap, bytes: &[u8]) -> Revision {
        self.try_store(key, headers, bytes).await.expect("stored")
    }

    async fn try_store(&self, key: &str, headers: HeaderMap, bytes: &[u8]) -> Option<Revision> {
        let js = async_nats::jetstream::new(async_nats::connect(&self.server).await.unwrap());
        let subject = format!("$KV.{}.{key}", self.plain.name());
        let stored = js.publish_with_headers(subject, headers, bytes.to_vec().into()).await.unwrap().await;
        stored.ok().map(|stored| Revision(stored.sequence))
    }
}

/// `bucket` with signatures, and trust in them.
fn signing(bucket: &Bucket) -> (Bucket, Trust) {
    let signer = Signer::parse(&pair().0).unwrap();
    let trust = signer.trust();
    (bucket.signed_by(signer, Trust::default()), trust)
}

#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<Event>>>);

impl Told {
    fn observer(&self) -> impl Fn(&Event) + Send + Sync + 'static {
        let told = self.0.clone();
        move |event| told.lock().unwrap().push(event.clone())
    }

    /// Why `revision` was rejected, once it was.
    #[track_caller]
    fn rejection(&self, revision: Revision) -> String {
        eventually(&format!("the rejection of {revision}"), DEADLINE, || {
            self.0.lock().unwrap().iter().find_map(|event| match event {
                Event::Rejected { revision: rejected, rejection, .. } if *rejected == revision => {
                    Some(rejection.to_string())
                }
                _ => None,
            })
        })
    }

    fn trouble(&self, text: &str) -> bool {
        self.0.lock().unwrap().iter().any(|event| matches!(event, Event::Trouble(what) if what.contains(text)))
    }
}

#[track_caller]
fn wait_n(live: &Live<Numbered>, n: u64, revision: Revision) {
    eventually(&format!("{n} at revision {revision}"), DEADLINE, || {
        live.get().filter(|serving| serving.n == n && live.state().revision == Some(revision)).map(drop)
    });
}

fn header(headers: &mut HeaderMap, name: &str, value: &str) {
    headers.insert(name, value);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_unsigned_a_strangers_altered_or_of_another_key_or_bucket_is_rejected_and_the_last_good_serves_on() {
    let (at, k) = (Signed::new().await, key("service1"));
    let first = put(&at.signed, &k, "n = 1").await;
    let (live, told) = at.live(&k);
    wait_n(&live, 1, first);

    let unsigned = put(&at.plain, &k, "n = 2").await;
    assert_eq!(told.rejection(unsigned), "not trusted: it is not signed");
    // The very bytes that serve: not even the revision moves on to what nobody signed.
    let same = put(&at.plain, &k, "n = 1").await;
    assert_eq!(told.rejection(same), "not trusted: it is not signed");

    let (stranger, theirs) = pair();
    let stranger = at.plain.signed_by(Signer::parse(&stranger).unwrap(), Trust::default());
    let strange = put(&stranger, &k, "n = 3").await;
    assert_eq!(told.rejection(strange), format!("not trusted: it is signed by {theirs}, who is not trusted"));

    let unfit =
        "not trusted: its signature does not fit: its bytes, its format, its key or its bucket is not what was signed";
    let second = put(&at.signed, &k, "n = 4").await;
    wait_n(&live, 4, second);
    let (mut headers, bytes) = at.stored(second).await;
    header(&mut headers, "Nats-Expected-Last-Subject-Sequence", &second.to_string());
    let altered = at.store("service1", headers.clone(), b"n = 5").await;
    assert_eq!(told.rejection(altered), unfit);
    header(&mut headers, "Nats-Expected-Last-Subject-Sequence", &altered.to_string());
    header(&mut headers, "Confhot-Format", "yaml");
    let reformed = at.store("service1", headers.clone(), &bytes).await;
    assert_eq!(told.rejection(reformed), unfit);
    header(&mut headers, "Nats-Expected-Last-Subject-Sequence", &reformed.to_string());
    header(&mut headers, "Confhot-Signature", "1 18446744073709551616 AAAA");
    let garbled = at.store("service1", headers, &bytes).await;
    assert_eq!(told.rejection(garbled), "not trusted: its signature cannot be read");

    // Signed as the first of one key, stored as the first of another, and in another bucket.
    let other = key("service2");
    let (mut headers, bytes) = at.stored(first).await;
    header(&mut headers, "Nats-Expected-Last-Subject-Sequence", "0");
    let moved = at.store("service2", headers.clone(), &bytes).await;
    let (_elsewhere, told_elsewhere) = at.live(&other);
    assert_eq!(told_elsewhere.rejection(moved), unfit);
    let away = Signed { trust: at.trust.clone(), ..Signed::new().await };
    let moved = away.store("service1", headers, &bytes).await;
    assert_eq!(away.live(&k).1.rejection(moved), unfit);

    assert_eq!((live.get().unwrap().n, live.state().revision), (4, Some(second)));
    let third = put(&at.signed, &k, "n = 6").await;
    wait_n(&live, 6, third);
}

/// What the client library refuses to send: a header block as it is.
fn store_raw(url: &str, subject: &str, headers: &str, bytes: &str) {
    let mut stream = TcpStream::connect(url.strip_prefix("nats://").unwrap()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let total = headers.len() + bytes.len();
    write!(
        stream,
        "CONNECT {{\"verbose\":false,\"headers\":true,\"no_responders\":true,\"protocol\":1}}\r\nSUB raw.answer 1\r\n\
         HPUB {subject} raw.answer {} {total}\r\n{headers}{bytes}\r\n",
        headers.len()
    )
    .unwrap();
    let stored = BufReader::new(stream).lines().map_while(Result::ok).find(|line| line.contains("\"stream\""));
    assert!(stored.is_some_and(|ack| ack.contains("\"seq\"") && !ack.contains("error")));
}

/// Ways to make the server take an old document again, and why it is not trusted then.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_document_put_again_is_rejected_by_who_runs_and_by_who_starts_however_it_is_dressed() {
    const CONDITION: &str = "Nats-Expected-Last-Subject-Sequence";
    for version in VERSIONS {
        let (at, k) = (Signed::on(version).await, key("service1"));
        let first = put(&at.signed, &k, "n = 1").await;
        let second = put(&at.signed, &k, "n = 2").await;
        let third = put(&at.signed, &k, "n = 3").await;
        let (live, told) = at.live(&k);
        wait_n(&live, 3, third);
        let (headers, bytes) = at.stored(second).await;
        let subject = format!("$KV.{}.service1", at.plain.name());
        let unconditional = format!("not trusted: it was not stored on condition that it follows revision {first}");
        let replayed =
            format!("not trusted: it is an old document, put again: it was signed to follow revision {first}");

        for way in ["no condition", "its own", "of another subject", "twice", "hidden", "deleted first"] {
            let mut headers = headers.clone();
            let head = at.plain.head(&k).await.unwrap().unwrap().revision;
            let mut without = HeaderMap::new();
            for (name, values) in headers.iter().filter(|(name, _)| name.to_string() != CONDITION) {
                values.iter().for_each(|value| without.append(name.clone(), value.clone()));
            }
            let block: String = without
                .iter()
                .flat_map(|(name, values)| values.iter().map(move |value| format!("{name}: {value}\r\n")))
                .collect();
            // The server looks for lines, the client library splits at line feeds: this one is in nobody's way.
            let hidden = format!("NATS/1.0\r\n{block}X: y\n{CONDITION}: {first}\r\n\r\n");
            let why = match way {
                "no condition" => {
                    at.store("service1", without, &bytes).await;
                    &unconditional
                }
                "its own" => {
                    header(&mut headers, CONDITION, &head.to_string());
                    at.store("service1", headers, &bytes).await;
                    &unconditional
                }
                "of another subject" => {
                    // Nothing is there. A server that does not know this asks for the key itself.
                    let none = format!("$KV.{}.none", at.plain.name());
                    header(&mut headers, "Nats-Expected-Last-Subject-Sequence-Subject", &none);
                    header(&mut headers, CONDITION, "0");
                    if at.try_store("service1", headers.clone(), &bytes).await.is_none() {
                        header(&mut headers, CONDITION, &head.to_string());
                        at.store("service1", headers, &bytes).await;
                    }
                    &unconditional
                }
                "twice" => {
                    header(&mut headers, CONDITION, &head.to_string());
                    headers.append(CONDITION, first.to_string());
                    at.store("service1", headers, &bytes).await;
                    &unconditional
                }
                "hidden" => {
                    let text = String::from_utf8(bytes.clone()).unwrap();
                    store_raw(&at.server, &subject, &hidden, &text);
                    &replayed
                }
                _ => {
                    let mut gone = HeaderMap::new();
                    header(&mut gone, "KV-Operation", "DEL");
                    at.store("service1", gone, b"").await;
                    let lie =
                        format!("NATS/1.0\r\n{block}Nats-Last-Sequence: {first}\r\nX: y\n{CONDITION}: {first}\r\n\r\n");
                    store_raw(&at.server, &subject, &lie, std::str::from_utf8(&bytes).unwrap());
                    &replayed
                }
            };
            let newest = at.plain.head(&k).await.unwrap().unwrap();
            assert_eq!(newest.value, bytes, "{version}, {way}");
            let rejection = told.rejection(newest.revision);
            assert!(rejection.starts_with(why.as_str()), "{version}, {way}: {rejection}");
            assert_eq!(live.get().unwrap().n, 3, "{version}, {way}");

            // Who starts now goes back to the newest that is trusted.
            let (started, told) = at.live(&k);
            let rejection = told.rejection(newest.revision);
            assert!(rejection.starts_with(why.as_str()), "{version}, {way}, at the start: {rejection}");
            wait_n(&started, 3, third);
        }
        let last = put(&at.signed, &k, "n = 4").await;
        wait_n(&live, 4, last);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_everything_was_purged_only_who_knew_something_refuses_the_first_document_put_again() {
    for (rollup, itself) in [("sub", false), ("sub", true), ("all", false)] {
        let (at, k, dir) = (Signed::new().await, key("service1"), tempfile::tempdir().unwrap());
        let first = put(&at.signed, &k, "n = 1").await;
        let second = put(&at.signed, &k, "n = 2").await;
        let (live, told) = at.live(&k);
        wait_n(&live, 2, second);
        let state = || StateDir::open(dir.path()).unwrap();
        let (kept, _) = at.live_with(&k, |builder| builder.state_dir(state()));
        wait_n(&kept, 2, second);
        eventually("the kept value", DEADLINE, || dir.path().join("service1.state").exists().then_some(()));
        kept.close().await;

        let (headers, bytes) = at.stored(first).await;
        let mut gone = HeaderMap::new();
        header(&mut gone, "Nats-Rollup", rollup);
        match (rollup, itself) {
            // What is put again takes the place of all before it.
            (_, true) => {}
            ("all", _) => drop(at.store("elsewhere", gone, b"n = 0").await),
            _ => {
                // The marker stays, and stands before what comes.
                header(&mut gone, "KV-Operation", "PURGE");
                at.store("service1", gone, b"").await;
            }
        }
        let text = String::from_utf8(bytes.clone()).unwrap();
        let mut block: String = headers
            .iter()
            .filter(|(name, _)| rollup == "all" || name.to_string() != "Nats-Expected-Last-Subject-Sequence")
            .flat_map(|(name, values)| values.iter().map(move |value| format!("{name}: {value}\r\n")))
            .collect();
        if rollup == "sub" {
            // The condition is told to whoever reads it and not to the server, which would hold it against the head.
            block.push_str("X: y\nNats-Expected-Last-Subject-Sequence: 0\r\n");
        }
        if itself {
            block.push_str("Nats-Rollup: sub\r\n");
        }
        store_raw(&at.server, &format!("$KV.{}.service1", at.plain.name()), &format!("NATS/1.0\r\n{block}\r\n"), &text);
        let replay = at.plain.head(&k).await.unwrap().unwrap().revision;

        told.rejection(replay);
        assert_eq!(live.get().unwrap().n, 2);
        let (again, told) = at.live_with(&k, |builder| builder.state_dir(state()));
        told.rejection(replay);
        wait_n(&again, 2, second);
        let (fresh, told) = at.live(&k);
        if rollup == "sub" {
            told.rejection(replay);
            assert!(fresh.get().is_none());
        } else {
            // Nothing is there to tell it from the beginning: `SECURITY.md` says so.
            wait_n(&fresh, 1, replay);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_starts_on_an_untrusted_head_goes_back_to_the_newest_trusted_one_past_a_tombstone() {
    let (at, k) = (Signed::new().await, key("service1"));
    put(&at.signed, &k, "n = 1").await;
    let good = put(&at.signed, &k, "n = 2").await;
    at.signed.publish(&Write::delete(k.clone(), Default::default(), Expect::At(good))).await.unwrap();
    let last = put(&at.signed, &k, "n = 3").await;
    put(&at.plain, &k, "n = 4").await;
    let head = put(&at.plain, &k, "n = 5").await;

    let (live, told) = at.live(&k);

    wait_n(&live, 3, last);
    assert_eq!(told.rejection(head), "not trusted: it is not signed");
    let state = live.state();
    assert_eq!((state.revision, state.newest), (Some(last), Some(head)));
    let next = put(&at.signed, &k, "n = 6").await;
    wait_n(&live, 6, next);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_is_used_only_if_it_is_signed_by_one_who_is_trusted_now() {
    let (at, k, dir) = (Signed::new().await, key("service1"), tempfile::tempdir().unwrap());
    let state = StateDir::open(dir.path()).unwrap();
    let offline = Signed {
        plain: connect("nats://127.0.0.1:1").await.bucket(at.plain.name()).unwrap(),
        signed: at.signed.clone(),
        trust: at.trust.clone(),
        server: String::new(),
    };
    let started = |offline: &Signed| offline.live_with(&k, |builder| builder.state_dir(state.clone()));
    let keep = async |n: u64, bucket: &Bucket, trusting: bool| {
        let revision = put(bucket, &k, &format!("n = {n}")).await;
        let mut builder = Live::<Numbered>::builder(&at.plain, &k).state_dir(state.clone());
        if trusting {
            builder = builder.trust(at.trust.clone());
        }
        let live = builder.start();
        wait_n(&live, n, revision);
        live.close().await;
        revision
    };

    // What a process kept that trusts everybody was not looked at, signed or not.
    for (n, bucket) in [(1, &at.plain), (2, &at.signed)] {
        let kept = keep(n, bucket, false).await;
        let (live, told) = started(&offline);
        assert_eq!(told.rejection(kept), "not trusted: it is not signed");
        assert!(live.get().is_none());
        live.close().await;
    }

    let signed = keep(3, &at.signed, true).await;
    let (live, _) = started(&offline);
    wait_n(&live, 3, signed);
    assert!(live.state().from_state);
    live.close().await;

    let (_, other) = signing(&at.plain);
    let (live, told) = started(&Signed { trust: other, ..offline });
    assert!(told.rejection(signed).contains("who is not trusted"));
    assert!(live.get().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_of_another_clients_making_is_trusted_by_the_same_rules() {
    let url = support::shared(VERSIONS[VERSIONS.len() - 1]).url();
    let plain = connect(&url).await.bucket(&support::bucket()).unwrap();
    make(&plain, Feed::Consumer, &url, 1).await;
    let (signed, trust) = signing(&plain);
    let (at, k) = (Signed { plain, signed, trust, server: url }, key("service1"));
    let first = put(&at.signed, &k, "n = 1").await;
    let (live, told) = at.live(&k);
    wait_n(&live, 1, first);
    let second = put(&at.signed, &k, "n = 2").await;
    wait_n(&live, 2, second);

    let unsigned = put(&at.plain, &k, "n = 3").await;
    assert_eq!(told.rejection(unsigned), "not trusted: it is not signed");
    let (mut headers, bytes) = at.stored(first).await;
    header(&mut headers, "Nats-Expected-Last-Subject-Sequence", &unsigned.to_string());
    let replay = at.store("service1", headers, &bytes).await;
    told.rejection(replay);
    // Its history is 8 long: the oldest that is left follows what is not.
    for n in 4..16 {
        let revision = put(&at.signed, &k, &format!("n = {n}")).await;
        wait_n(&live, n, revision);
    }
    let head = put(&at.plain, &k, "n = 0").await;
    let (started, told) = at.live(&k);
    told.rejection(head);
    wait_n(&started, 15, Revision(head.0 - 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_bucket_that_was_made_anew_who_runs_and_who_starts_from_its_state_go_on_with_what_is_signed() {
    let (at, k, dir) = (Signed::new().await, key("service1"), tempfile::tempdir().unwrap());
    let state = || StateDir::open(dir.path()).unwrap();
    put(&at.signed, &k, "n = 1").await;
    let second = put(&at.signed, &k, "n = 2").await;
    let (live, _) = at.live(&k);
    wait_n(&live, 2, second);
    let (kept, _) = at.live_with(&k, |builder| builder.state_dir(state()));
    wait_n(&kept, 2, second);
    kept.close().await;

    at.plain.destroy().await.unwrap();
    at.plain.ensure(&Settings::default()).await.unwrap();
    let first = put(&at.signed, &k, "n = 3").await;
    assert!(first < second);
    wait_n(&live, 3, first);
    // Past the revision that is kept, after revisions of the new bucket that are below it.
    put(&at.plain, &key("other"), "n = 0").await;
    let third = put(&at.signed, &k, "n = 4").await;
    assert!(third > second);
    wait_n(&live, 4, third);
    let (again, _) = at.live_with(&k, |builder| builder.state_dir(state()));
    wait_n(&again, 4, third);
    put(&at.plain, &k, "n = 5").await;
    let last = put(&at.signed, &k, "n = 6").await;
    wait_n(&live, 6, last);
    wait_n(&again, 6, last);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_only_looks_stored_is_not_applied() {
    let (at, k) = (Signed::new().await, key("service1"));
    let first = put(&at.signed, &k, "n = 1").await;
    let second = put(&at.signed, &k, "n = 2").await;
    let (live, told) = at.live(&k);
    wait_n(&live, 2, second);

    // The first one again, as the server would tell it if the bucket had been made anew, or were further on.
    let client = async_nats::connect(&at.server).await.unwrap();
    for forged in [Revision(1), Revision(second.0 + 1)] {
        let (mut headers, bytes) = at.stored(first).await;
        for (name, value) in [
            ("Nats-Stream", format!("KV_{}", at.plain.name())),
            ("Nats-Subject", format!("$KV.{}.service1", at.plain.name())),
            ("Nats-Sequence", forged.to_string()),
            ("Nats-Time-Stamp", jiff::Timestamp::now().to_string()),
            ("Nats-Last-Sequence", "0".into()),
        ] {
            headers.append(name, value);
        }
        let subject = format!("confhot.live.{}.service1", at.plain.name());
        client.publish_with_headers(subject, headers, bytes.into()).await.unwrap();
        client.flush().await.unwrap();
        if forged > second {
            told.rejection(forged);
        }
    }
    assert_eq!(live.get().unwrap().n, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_is_not_trusted_is_told_and_rejects_nothing() {
    let (at, k, schema) = (Signed::new().await, key("service1"), key("_schema.service1"));
    let most = |most: u64| format!("{{\"properties\":{{\"n\":{{\"maximum\":{most}}}}}}}");
    put(&at.plain, &schema, &most(0)).await;
    let first = put(&at.signed, &k, "n = 1").await;
    let (live, told) = at.live_with(&k, |builder| builder.schema());
    wait_n(&live, 1, first);
    assert!(told.trouble("rejects nothing: not trusted: it is not signed"));

    put(&at.signed, &schema, &most(5)).await;
    let second = put(&at.signed, &k, "n = 9").await;
    let rejection = told.rejection(second);
    assert!(rejection.contains('5') && !rejection.contains("trusted"), "{rejection}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_group_a_set_with_one_untrusted_member_stays_out_and_a_signed_one_lands_as_one() {
    let at = Signed::new().await;
    let (a, b) = (key("g.a"), key("g.b"));
    let told = Arc::new(Mutex::new(Vec::new()));
    let note = told.clone();
    let group = Group::<Numbered>::builder(&at.plain, &Pattern::parse("g.>").unwrap())
        .trust(at.trust.clone())
        .observe(move |key, event| note.lock().unwrap().push((key.cloned(), event.clone())))
        .start();
    let set = async |bucket: &Bucket, n: u64| {
        let set = ChangeSet::new(2);
        let mut writes = Vec::new();
        for key in [&a, &b] {
            let head = at.plain.head(key).await.unwrap();
            let mut write =
                write(key, &format!("n = {n}"), head.map_or(Expect::Never, |head| Expect::At(head.revision)));
            write.provenance.set = Some(set.clone());
            writes.push(write);
        }
        let outcomes = bucket.publish_set(&writes, true).await;
        outcomes.into_iter().map(|outcome| outcome.unwrap().revision).collect::<Vec<_>>()
    };
    let serve = |n: u64| {
        eventually(&format!("both are {n}"), DEADLINE, || {
            let members = group.load();
            [&a, &b].iter().all(|key| members.get(key).is_some_and(|it| it.n == n)).then_some(())
        });
    };
    set(&at.signed, 1).await;
    serve(1);

    let bad = set(&at.plain, 2).await;
    eventually("the rejection", DEADLINE, || {
        let rejected = |(_, event): &(Option<Key>, Event)| {
            matches!(event, Event::Rejected { revision, rejection, .. }
                if *revision == bad[0] && rejection.reason.contains("it is not signed"))
        };
        told.lock().unwrap().iter().any(rejected).then_some(())
    });
    serve(1);
    set(&at.signed, 3).await;
    serve(3);

    // A process that starts reads what each of them follows.
    set(&at.plain, 4).await;
    let late = Group::<Numbered>::builder(&at.plain, &Pattern::parse("g.>").unwrap()).trust(at.trust.clone()).start();
    eventually("the newest trusted ones", DEADLINE, || {
        let members = late.load();
        [&a, &b].iter().all(|key| members.get(key).is_some_and(|it| it.n == 3)).then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn the_least_permissions_of_a_service_are_enough_to_trust() {
    let server = crate::acl::locked();
    let as_user = async |name: &str| {
        let mut to = Connect::to([server.url()]);
        to.credentials = Credentials::User(name.into(), name.into());
        Connection::open(&to).await.unwrap().bucket("configs").unwrap()
    };
    let (loader, service, k) = (as_user("loader").await, as_user("service1").await, key("service1"));
    loader.ensure(&Settings::default()).await.unwrap();
    let (signed, trust) = signing(&loader);
    put(&signed, &k, "n = 1").await;
    let good = put(&signed, &k, "n = 2").await;
    put(&loader, &k, "n = 3").await;

    let live = Live::<Numbered>::builder(&service, &k).trust(trust).start();

    wait_n(&live, 2, good);
    let next = put(&signed, &k, "n = 4").await;
    wait_n(&live, 4, next);
}
