//! `confhot acl`: servers that are configured with exactly what it prints. For each role its job works, also after the
//! server was killed, with every subject that it is given and no other; all other subjects are denied.

use std::collections::BTreeSet;
use std::fs;
use std::sync::{Arc, Mutex};

use async_nats::{ConnectOptions, Event, HeaderMap, ServerError};
use confhot::kv::{Bucket, Connect, Connection, Credentials};
use futures_util::StreamExt as _;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::feed::key;
use crate::support::{DEADLINE, Server, VERSIONS, confhot, eventually};
use crate::ways_in::{Operator, Way, hub_and_edge};

const NEWEST: &str = VERSIONS[VERSIONS.len() - 1];

/// The users of these tests, and what `confhot acl` is asked for them.
pub(crate) const USERS: [(&str, &[&str]); 5] = [
    ("loader", &["--role", "loader"]),
    ("operator", &["--role", "operator"]),
    ("inspector", &["--role", "inspector"]),
    ("status", &["--role", "status"]),
    ("service1", &["--role", "service", "--name", "service1"]),
];

fn acl(args: &[&str]) -> String {
    let output = confhot().arg("acl").args(args).output().unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn as_json(args: &[&str]) -> Value {
    serde_json::from_str(&acl(&[args, &["--format", "json"]].concat())).unwrap()
}

/// A user's password is its name; that of the administrator, who may do everything, is in `admin`.
fn configuration(users: &[(&str, &[&str])], more: &[&str]) -> String {
    let password = |name: &str| format!("CONFHOT_{}_PASSWORD: \"{name}\"\n", name.to_uppercase());
    let passwords: String = users.iter().map(|(name, _)| password(name)).collect();
    let entries: String = users.iter().map(|(_, args)| acl(&[*args, more].concat())).collect();
    format!("{passwords}\nauthorization {{ users: [\n  {{ user: admin, password: admin }}\n{entries}] }}")
}

pub(crate) fn locked() -> Server {
    Server::with(NEWEST, |settings| settings.extra = configuration(&USERS, &[]))
}

pub(crate) fn user(server: &Server, name: &str) -> Way {
    Way::to(&server.url()).env("NATS_USER", name).env("NATS_PASSWORD", name)
}

async fn bucket(server: &Server, name: &str) -> Bucket {
    let mut to = Connect::to([server.url()]);
    to.credentials = Credentials::User(name.into(), name.into());
    Connection::open(&to).await.unwrap().bucket("configs").unwrap()
}

/// Subjects to publish to, and the first letters of the users who may (`1` is service1).
const PUBLISH: [(&str, &str); 76] = [
    // Documents.
    ("$KV.configs.service1", "lo"),
    ("$KV.configs.other", "lo"),
    ("$KV.configs._schema.service1", "lo"),
    ("$KV.configs2.service1", ""),
    ("$KV.secrets.service1", ""),
    // What an instance tells of itself, and only of itself.
    ("$KV.configs_status.service1.a", "1"),
    ("$KV.configs_status.service1.a.b", ""),
    ("$KV.configs_status.service1", ""),
    ("$KV.configs_status.other.a", ""),
    ("$KV.configs_status._since", "lo"),
    // Whether it is there, that it has come, and that all are to tell again.
    ("confhot.here.configs.probe.a.service1", "lois"),
    ("confhot.here.configs.probe.a.other", "lois"),
    ("confhot.here.configs.hello.a.service1", "1"),
    ("confhot.here.configs.hello.a.service1.sub", ""),
    ("confhot.here.configs.hello.a.other", ""),
    ("confhot.here.configs.tell.a.service1", "lo"),
    ("confhot.here.configs", "lo"),
    ("confhot.here.configs2.probe.a.service1", ""),
    // What the stream tells.
    ("confhot.live.configs.service1", ""),
    ("confhot.live.configs.other", ""),
    ("confhot.live.configs2.service1", ""),
    // One key's value.
    ("$JS.API.DIRECT.GET.KV_configs.$KV.configs.service1", "1"),
    ("$JS.API.DIRECT.GET.KV_configs.$KV.configs._schema.service1", "1"),
    ("$JS.API.DIRECT.GET.KV_configs.$KV.configs.other", ""),
    ("$JS.API.DIRECT.GET.KV_configs.$KV.configs._schema.other", ""),
    ("$JS.API.DIRECT.GET.KV_configs.$KV.configs.service1.sub", ""),
    ("$JS.API.DIRECT.GET.KV_configs_status.$KV.configs_status.service1.a", ""),
    ("$JS.API.DIRECT.GET.KV_configs_status.$KV.configs_status.other.a", ""),
    // Any value.
    ("$JS.API.DIRECT.GET.KV_configs", "loi"),
    ("$JS.API.DIRECT.GET.KV_configs_status", ""),
    ("$JS.API.DIRECT.GET.KV_secrets", ""),
    ("$JS.API.STREAM.MSG.GET.KV_configs", "loi"),
    ("$JS.API.STREAM.MSG.GET.KV_configs_status", "lo"),
    ("$JS.API.STREAM.MSG.GET.KV_secrets", ""),
    // Consumers: without a name, of one key, of all, of other streams.
    ("$JS.API.CONSUMER.CREATE.KV_configs", ""),
    ("$JS.API.CONSUMER.CREATE.KV_configs.n", "loi"),
    ("$JS.API.CONSUMER.CREATE.KV_configs.n.$KV.configs.service1", "loi1"),
    ("$JS.API.CONSUMER.CREATE.KV_configs.n.$KV.configs.other", "loi"),
    ("$JS.API.CONSUMER.CREATE.KV_configs.n.$KV.configs.>", "loi"),
    ("$JS.API.CONSUMER.CREATE.KV_configs.n.$KV.configs._schema.service1", "loi"),
    ("$JS.API.CONSUMER.CREATE.KV_configs_status.n.$KV.configs_status.>", "lois"),
    ("$JS.API.CONSUMER.CREATE.KV_configs_status.n.$KV.configs_status.service1.a", "lois"),
    ("$JS.API.CONSUMER.CREATE.KV_secrets.n", ""),
    ("$JS.API.CONSUMER.DURABLE.CREATE.KV_configs.n", ""),
    ("$JS.API.CONSUMER.MSG.NEXT.KV_configs.n", "loi"),
    ("$JS.API.CONSUMER.MSG.NEXT.KV_configs_status.n", "lois"),
    ("$JS.API.CONSUMER.MSG.NEXT.KV_secrets.n", ""),
    ("$JS.API.CONSUMER.DELETE.KV_configs.n", "loi"),
    ("$JS.API.CONSUMER.DELETE.KV_configs_status.n", "lois"),
    ("$JS.API.CONSUMER.INFO.KV_configs.n", ""),
    ("$JS.API.CONSUMER.NAMES.KV_configs", ""),
    ("$JS.API.CONSUMER.LIST.KV_configs", ""),
    ("$JS.API.CONSUMER.PAUSE.KV_configs.n", ""),
    ("$JS.API.CONSUMER.LEADER.STEPDOWN.KV_configs.n", ""),
    ("$JS.ACK.KV_configs.n.1.1.1.1.0", ""),
    ("$JS.FC.KV_configs.n.x", ""),
    // Streams.
    ("$JS.API.STREAM.INFO.KV_configs", "loi"),
    ("$JS.API.STREAM.INFO.KV_configs_status", "lois"),
    ("$JS.API.STREAM.INFO.KV_secrets", ""),
    ("$JS.API.STREAM.CREATE.KV_configs", "l"),
    ("$JS.API.STREAM.CREATE.KV_configs_status", "lo"),
    ("$JS.API.STREAM.CREATE.KV_secrets", ""),
    ("$JS.API.STREAM.UPDATE.KV_configs", ""),
    ("$JS.API.STREAM.UPDATE.KV_configs_status", ""),
    ("$JS.API.STREAM.DELETE.KV_configs", ""),
    ("$JS.API.STREAM.PURGE.KV_configs", ""),
    ("$JS.API.STREAM.MSG.DELETE.KV_configs", ""),
    ("$JS.API.STREAM.SNAPSHOT.KV_configs", ""),
    ("$JS.API.STREAM.NAMES", ""),
    ("$JS.API.STREAM.LIST", ""),
    ("$JS.API.INFO", "l"),
    // Answers to others, and the rest of the world.
    ("_INBOX_service1.x", ""),
    ("_INBOX_loader.x.y", ""),
    ("_INBOX.x", ""),
    ("$SYS.REQ.SERVER.PING", ""),
    ("orders", ""),
];

/// Subjects to subscribe.
const SUBSCRIBE: [(&str, &str); 36] = [
    (">", ""),
    ("_INBOX.>", ""),
    ("_INBOX.x", ""),
    ("_INBOX_loader.>", "l"),
    ("_INBOX_operator.>", "o"),
    ("_INBOX_inspector.>", "i"),
    ("_INBOX_status.x.y", "s"),
    ("_INBOX_service1.x.*", "1"),
    ("_INBOX_service2.>", ""),
    ("_INBOX_admin.>", ""),
    ("*.x", ""),
    // What is asked of the stream, and what it may yet refuse.
    ("$KV.configs.>", ""),
    ("$KV.configs.service1", ""),
    ("$JS.API.>", ""),
    ("$JS.API.DIRECT.GET.KV_configs.>", ""),
    ("$JS.ACK.>", ""),
    // What it stored.
    ("confhot.live.configs.service1", "loi1"),
    ("confhot.live.configs.other", "loi"),
    ("confhot.live.configs._schema.service1", "loi1"),
    ("confhot.live.configs._schema.other", "loi"),
    ("confhot.live.configs.>", "loi"),
    ("confhot.live.configs2.service1", ""),
    ("confhot.live.>", ""),
    // What instances tell.
    ("$KV.configs_status.>", "lois"),
    ("$KV.configs_status.other.*", "lois"),
    ("$KV.secrets_status.>", ""),
    // Where an instance is asked for.
    ("confhot.here.configs", "1"),
    ("confhot.here.configs.*.a.service1", "1"),
    ("confhot.here.configs.*.a.service1.sub", ""),
    ("confhot.here.configs.*.a.other", ""),
    ("confhot.here.configs.>", ""),
    ("confhot.here.>", ""),
    // Events.
    ("$JS.EVENT.ADVISORY.STREAM.DELETED.KV_configs", "loi"),
    ("$JS.EVENT.ADVISORY.STREAM.DELETED.KV_secrets", ""),
    ("$JS.EVENT.ADVISORY.>", ""),
    ("$SYS.>", ""),
];

/// What the server denies to a user of all that the matrix asks for.
async fn denials(server: &Server, name: &str) -> BTreeSet<String> {
    let said = Arc::new(Mutex::new(Vec::new()));
    let heard = said.clone();
    let options = ConnectOptions::with_user_and_password(name.into(), name.into()).event_callback(move |event| {
        if let Event::ServerError(ServerError::Other(text)) = event {
            heard.lock().unwrap().push(text);
        }
        async {}
    });
    let client = options.connect(server.url()).await.unwrap();
    let mut kept = Vec::new();
    for (subject, _) in SUBSCRIBE {
        kept.push(client.subscribe(subject).await.unwrap());
    }
    for (subject, _) in PUBLISH {
        // Refused by whatever stream takes it, and no request to any API.
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Expected-Stream", "none");
        client.publish_with_headers(subject, headers, "?".into()).await.unwrap();
        // One by one: the client drops what the server says while it cannot keep up.
        client.flush().await.unwrap();
    }
    client.publish("the.end", "".into()).await.unwrap();
    eventually("the last denial", DEADLINE, || {
        said.lock().unwrap().iter().any(|text| text.contains("the.end")).then_some(())
    });
    let said = said.lock().unwrap();
    let subject = |text: &String| {
        let of = text.strip_prefix("Permissions Violation for ").unwrap_or_else(|| panic!("{text}"));
        of.replace('"', "")
    };
    said.iter().map(subject).filter(|of| !of.contains("the.end")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_is_allowed_its_own_subjects_and_denied_all_others() {
    let server = locked();
    let letter = |name: &str| if name == "service1" { '1' } else { name.chars().next().unwrap() };
    for (name, _) in USERS {
        let denied = |(subject, who): &(&str, &str), what: &str| {
            (!who.contains(letter(name))).then(|| format!("{what} to {subject}"))
        };
        let publish = PUBLISH.iter().filter_map(|row| denied(row, "Publish"));
        let expected: BTreeSet<_> =
            publish.chain(SUBSCRIBE.iter().filter_map(|row| denied(row, "Subscription"))).collect();

        let found = denials(&server, name).await;

        let surprises: Vec<_> = expected.symmetric_difference(&found).collect();
        assert!(surprises.is_empty(), "{name}: {surprises:#?}");
    }
}

/// What was published, as the administrator hears it: the prefix of the inbox that the answer goes to, and the subject.
struct Recorder(Arc<Mutex<BTreeSet<(String, String)>>>);

impl Recorder {
    async fn start(server: &Server) -> Recorder {
        let client = ConnectOptions::with_user_and_password("admin".into(), "admin".into());
        let client = client.connect(server.url()).await.unwrap();
        let heard = Arc::new(Mutex::new(BTreeSet::new()));
        for subject in [
            "$JS.API.>",
            "$KV.>",
            "confhot.here.configs",
            "confhot.here.configs.hello.>",
            "confhot.here.configs.tell.>",
        ] {
            let mut messages = client.subscribe(subject).await.unwrap();
            let heard = heard.clone();
            tokio::spawn(async move {
                while let Some(message) = messages.next().await {
                    let inbox = message.reply.as_deref().unwrap_or_default().split('.').next().unwrap_or_default();
                    heard.lock().unwrap().insert((inbox.to_owned(), message.subject.to_string()));
                }
            });
        }
        client.flush().await.unwrap();
        Recorder(heard)
    }

    /// Of what a user may publish to, what it did not.
    fn unused(&self, name: &str, args: &[&str]) -> Vec<String> {
        let heard = self.0.lock().unwrap();
        let inbox = format!("_INBOX_{name}");
        let used = |pattern: &str| {
            heard.iter().any(|(reply, subject)| (reply.is_empty() || *reply == inbox) && matches(pattern, subject))
        };
        let patterns = as_json(args)["publish"].as_array().unwrap().clone();
        let patterns = patterns.iter().map(|pattern| pattern.as_str().unwrap().to_owned());
        // Whoever hears a probe has answered it.
        patterns.filter(|pattern| !pattern.contains(".probe.") && !used(pattern)).collect()
    }
}

fn matches(pattern: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    for wanted in pattern.split('.') {
        match (wanted, tokens.next()) {
            (">", rest) => return rest.is_some(),
            ("*", Some(_)) => {}
            (wanted, token) if token == Some(wanted) => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

/// What the server has logged of permissions that were missing: user and subject.
fn violations(server: &Server) -> BTreeSet<(String, String)> {
    let log = fs::read_to_string(server.data_dir().join("nats-server.log")).unwrap();
    let between = |line: &str, start: &str| {
        let rest = line.split_once(start).unwrap_or_else(|| panic!("{line}")).1;
        rest.split('"').next().unwrap().to_owned()
    };
    let lines = log.lines().filter(|line| line.contains("Violation"));
    lines.map(|line| (between(line, "/user:"), between(line, "Subject \""))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_does_its_job_before_and_after_the_server_is_killed_and_uses_all_that_it_may() {
    let mut server = locked();
    let recorder = Recorder::start(&server).await;
    let dir = tempfile::tempdir().unwrap();
    let (configs, state) = (dir.path().join("configs"), dir.path().join("state"));
    fs::create_dir(&configs).unwrap();
    let save = |file: &str, text: &str| fs::write(configs.join(file), text).unwrap();
    save("service1.toml", "port = 1\n");
    save("service1.schema.json", r#"{"properties": {"port": {"type": "integer"}}}"#);
    save("other.toml", "secret = 1\n");
    let [loader, operator, inspector, status, service1] =
        ["loader", "operator", "inspector", "status", "service1"].map(|name| user(&server, name));

    // Nothing is there yet: the loader makes both buckets.
    let configs = configs.to_str().unwrap();
    let mut loading = loader.daemon(&["loader", "--dir", configs]);
    loading.event("ready");
    let serve = ["serve", "--name", "service1", "--http", "127.0.0.1:0", "--state-dir", state.to_str().unwrap()];
    let mut serving = service1.daemon(&serve);
    serving.event("applied");
    let mut watching = inspector.daemon(&["watch"]);
    eventually("it watches", DEADLINE, || watching.stderr().contains("watching").then_some(()));

    for round in 1..=2 {
        save("service1.toml", &format!("port = {round}0\n"));
        let published =
            loading.wait_event(DEADLINE, |event| event["event"] == "published" && event["key"] == "service1");
        let applied = serving.wait_event(DEADLINE, |event| event["revision"] == published["revision"]);
        assert!(applied["event"] == "applied" && applied["ms"].is_number(), "told live: {applied}");
        watching.wait_event(DEADLINE, |change| change["revision"] == published["revision"]);
        loader.ok(&["loader", "--once", "--dir", configs, "--wait", "20s"], "");

        let json = |way: &Way, args: &[&str], stdin: &str| -> Value {
            let text = way.ok(&[args, &["--format", "json"]].concat(), stdin);
            serde_json::from_str(text.lines().next().unwrap_or("null")).unwrap()
        };
        let text = format!("port = {round}1\n");
        let put = json(&operator, &["put", "service1", "--wait", "20s"], &text);
        assert_eq!(put["applied"].as_array().unwrap().len(), 1, "{put}");
        operator.ok(&["rollback", "service1", "--yes", "--wait", "20s"], "");
        operator.ok(&["put", "short"], "x = 1\n");
        operator.ok(&["delete", "short", "--yes"], "");

        for reader in [&inspector, &operator] {
            assert_eq!(reader.ok(&["get", "service1"], ""), format!("port = {round}0\n"));
            assert_eq!(reader.ok(&["get", "service1", "--revision", "@~1"], ""), text);
            assert_eq!(json(reader, &["history", "service1"], "")["applied"], 1);
            assert_eq!(reader.run(&["diff", "service1"], "").0, 1);
            assert!(reader.ok(&["keys"], "").contains("other"));
            let out = dir.path().join(format!("export{round}"));
            reader.ok(&["export", out.to_str().unwrap(), "--force"], "");
            assert_eq!(fs::read_to_string(out.join("other.toml")).unwrap(), "secret = 1\n");
        }
        for seer in [&status, &inspector, &operator, &loader] {
            for args in [&["status"][..], &["status", "service1"]] {
                let line = json(seer, args, "");
                assert_eq!((&line["state"], &line["revision"]), (&json!("applied"), &line["head"]), "{line}");
            }
        }

        // A new instance where the newest revision is refused: it starts on the one before.
        operator.ok(&["put", "service1", "--force"], &format!("[logging]\nlevel = \"loud{round}\"\n"));
        serving.event("rejected");
        let mut second = service1.daemon(&["serve", "--name", "service1", "--instance", &format!("second{round}")]);
        second.event("rejected");
        second.event("applied");
        second.sigterm();
        assert_eq!(second.wait_exit(), 0);
        let line = json(&inspector, &["history", "service1"], "");
        assert_eq!((&line["applied"], &line["rejected"]), (&json!(0), &json!(1)), "{line}");
        operator.ok(&["rollback", "service1", "--yes"], "");
        let schema = bucket(&server, "service1").await.snapshot(&key("_schema.service1")).await.unwrap();
        assert!(schema.is_some());

        if round == 1 {
            // What the records need is forgotten with it.
            server.kill9();
            server.restart();
            serving.event("connected");
        }
    }
    // With no loader about, whoever waits makes the place of the records again.
    loading.sigterm();
    assert_eq!(loading.wait_exit(), 0);
    server.kill9();
    server.restart();
    serving.event("connected");
    operator.ok(&["put", "service1", "--wait", "20s"], "port = 9\n");
    // Where its record is not young any more, the instance is asked for.
    let age = || {
        let line: Value = serde_json::from_str(&status.ok(&["status", "--format", "json"], "")).unwrap();
        let seen: jiff::Timestamp = line["seen"].as_str().unwrap().parse().unwrap();
        jiff::Timestamp::now().duration_since(seen)
    };
    eventually("its record is old", 2 * DEADLINE, || (age() > jiff::SignedDuration::from_secs(15)).then_some(()));
    for seer in [&status, &inspector, &operator, &loader] {
        assert!(seer.ok(&["status"], "").contains("applied"));
    }
    // And where it says nothing while it is waited for, it is asked to.
    serving.signal(Signal::STOP);
    assert_eq!(operator.run(&["put", "service1", "--wait", "2s"], "port = 10\n").0, 1);
    serving.signal(Signal::CONT);
    for daemon in [&loading, &serving, &watching] {
        assert!(!daemon.stderr().contains("denies"), "{}", daemon.stderr());
    }

    for (name, args) in USERS {
        assert_eq!(recorder.unused(name, args), Vec::<String>::new(), "{name}");
    }
    // Asked once whether they may know of the bucket itself, they do without.
    let expected = ["service1", "status"].map(|name| (name.to_owned(), "$JS.API.STREAM.INFO.KV_configs".to_owned()));
    assert_eq!(violations(&server), expected.into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_cannot_make_the_server_read_or_write_for_it() {
    let server = locked();
    let (loader, operator) = (user(&server, "loader"), user(&server, "operator"));
    let dir = tempfile::tempdir().unwrap();
    for name in ["service1", "other"] {
        fs::write(dir.path().join(format!("{name}.toml")), format!("name = \"{name}\"\n")).unwrap();
    }
    loader.ok(&["loader", "--once", "--dir", dir.path().to_str().unwrap()], "");
    let options = ConnectOptions::with_user_and_password("service1".into(), "service1".into());
    let options = options.custom_inbox_prefix("_INBOX_service1");
    let client = options.connect(server.url()).await.unwrap();
    let make = async |config: Value| -> Value {
        let body = json!({ "stream_name": "KV_configs", "config": config, "action": "create" }).to_string();
        let subject = "$JS.API.CONSUMER.CREATE.KV_configs.n.$KV.configs.service1";
        serde_json::from_slice(&client.request(subject, body.into()).await.unwrap().payload).unwrap()
    };
    let consumer = |filter: Value, deliver: &str| {
        let mut config =
            json!({ "name": "n", "deliver_policy": "all", "ack_policy": "none", "deliver_subject": deliver });
        config.as_object_mut().unwrap().extend(filter.as_object().unwrap().clone());
        config
    };
    let own = || json!({ "filter_subject": "$KV.configs.service1" });

    // Other keys than the one that the subject names.
    for filter in [
        json!({}),
        json!({ "filter_subject": "$KV.configs.other" }),
        json!({ "filter_subject": "$KV.configs.>" }),
        json!({ "filter_subjects": ["$KV.configs.service1", "$KV.configs.other"] }),
    ] {
        let answer = make(consumer(filter.clone(), "_INBOX_service1.x")).await;
        assert!(answer["error"]["code"].is_number(), "{filter}: {answer}");
    }
    // Its own document as another's.
    let answer = make(consumer(own(), "$KV.configs.other")).await;
    assert!(answer["error"]["code"].is_number(), "{answer}");
    // Told as if the bucket had stored it for another, it is not believed.
    let mut other = operator.daemon(&["watch"]);
    eventually("it watches", DEADLINE, || other.stderr().contains("watching").then_some(()));
    let answer = make(consumer(own(), "confhot.live.configs.other")).await;
    assert!(answer["error"].is_null(), "{answer}");
    operator.ok(&["put", "other", "--message", "marker"], "name = 2\n");
    other.wait_event(DEADLINE, |change| change["message"] == "marker");
    assert_eq!(other.events().len(), 1, "{:?}", other.events());
    assert_eq!(operator.ok(&["history", "other", "--format", "json"], "").lines().count(), 2);
}

#[test]
fn the_forms_say_the_same() {
    for (name, args) in USERS {
        let whole = as_json(args);
        let (nats, nsc) = (acl(args), acl(&[args, &["--as", "nsc"]].concat()));
        assert_eq!((&whole["user"], &whole["inbox_prefix"]), (&json!(name), &json!(format!("_INBOX_{name}"))));
        let subjects = |which: &str| whole[which].as_array().unwrap().iter().map(|it| it.as_str().unwrap().to_owned());
        let all: BTreeSet<_> = subjects("publish").chain(subjects("subscribe")).collect();

        let lines = nats.lines().filter_map(|line| line.trim().strip_prefix('"')?.strip_suffix('"'));
        assert_eq!(lines.map(str::to_owned).collect::<BTreeSet<_>>(), all, "{name}");
        let flags: Vec<_> = nsc.lines().skip(1).map(|line| line.trim_end_matches('\\').trim().to_owned()).collect();
        let publish = subjects("publish").map(|subject| format!("--allow-pub '{subject}'"));
        let subscribe = subjects("subscribe").map(|subject| format!("--allow-sub '{subject}'"));
        assert_eq!(flags, publish.chain(subscribe).collect::<Vec<_>>(), "{name}");
    }
    insta::assert_snapshot!("service", acl(&["--role", "service", "--name", "service1"]));
    insta::assert_snapshot!("service_nsc", acl(&["--role", "service", "--name", "service1", "--as", "nsc"]));
}

#[test]
fn a_user_of_a_jwt_has_the_inboxes_of_its_name() {
    let operator = Operator::new();
    let server = Server::with(NEWEST, |settings| settings.extra.clone_from(&operator.extra));
    let dir = tempfile::tempdir().unwrap();
    let creds = |args: &[&str]| {
        let acl = as_json(args);
        let name = acl["user"].as_str().unwrap();
        let allow = |which: &str| json!({ "allow": acl[which] });
        let text = Operator::creds_with(&operator.account, name, &allow("publish"), &allow("subscribe"), None);
        let path = dir.path().join(format!("{name}.creds"));
        fs::write(&path, text).unwrap();
        Way::to(&server.url()).arg("--creds").arg(path)
    };
    fs::write(dir.path().join("service1.toml"), "port = 1\n").unwrap();
    creds(&["--role", "loader"]).ok(&["loader", "--once", "--dir", dir.path().to_str().unwrap()], "");
    // A name that would be several tokens stays one.
    let mut service = creds(&["--role", "service", "--name", "service1", "--user", "team.a"])
        .daemon(&["serve", "--name", "service1"]);
    assert_eq!(service.event("applied")["revision"], 1);
}

#[test]
fn an_nkey_is_named_by_its_public_key() {
    let pair = nkeys::KeyPair::new_user();
    let public = pair.public_key();
    let printed = acl(&["--role", "operator", "--user", &public]);
    let server = Server::with(NEWEST, |settings| {
        settings.extra = format!("authorization {{ users: [ {{ user: admin, password: admin }}\n{printed} ] }}");
    });
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("seed"), pair.seed().unwrap()).unwrap();
    user(&server, "admin").ok(&["put", "service1"], "port = 1\n");

    Way::to(&server.url()).arg("--nkey").arg(dir.path().join("seed")).ok(&["put", "service1"], "port = 2\n");
}

#[test]
fn through_a_leaf_node_each_role_works_by_the_domain() {
    let domain = ["--js-domain", "hub"];
    let (hub, edge) = hub_and_edge(&configuration(&USERS, &domain));
    let [loader, operator, inspector, status, service1] =
        USERS.map(|(name, _)| user(&edge, name).arg(domain[0]).arg(domain[1]));
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("service1.toml"), "port = 1\n").unwrap();

    loader.ok(&["loader", "--once", "--dir", dir.path().to_str().unwrap()], "");
    let mut service = service1.daemon(&["serve", "--name", "service1"]);
    service.event("applied");
    operator.ok(&["put", "service1", "--wait", "20s"], "port = 2\n");
    assert!(service.event("applied")["ms"].is_number());
    assert_eq!(inspector.ok(&["get", "service1"], ""), "port = 2\n");
    assert!(status.ok(&["status"], "").contains("applied"));
    assert_eq!(violations(&hub), BTreeSet::new());
    let expected =
        ["service1", "status"].map(|name| (name.to_owned(), "$JS.hub.API.STREAM.INFO.KV_configs".to_owned()));
    assert_eq!(violations(&edge), expected.into());
}

#[test]
fn a_journal_is_read_by_whom_it_is_named_for() {
    let admin = "authorization { users: [{ user: admin, password: admin }] }";
    let mut server = Server::with(NEWEST, |settings| {
        fs::create_dir_all(&settings.data_dir).unwrap();
        fs::write(settings.data_dir.join("users.conf"), admin).unwrap();
        settings.extra = "include \"users.conf\"".into();
    });
    user(&server, "admin").ok(&["put", "service1"], "port = 1\n");
    let told = user(&server, "admin").ok(&["journal", "enable", "--format", "json"], "");
    let stream = serde_json::from_str::<Value>(&told).unwrap()["stream"].as_str().unwrap().to_owned();
    for n in 2..=66 {
        user(&server, "admin").ok(&["put", "service1"], &format!("port = {n}\n"));
    }
    let with: &[&str] = &["--role", "inspector", "--user", "with", "--journal", &stream];
    let users = configuration(&[("with", with), USERS[2]], &[]);
    fs::write(server.data_dir().join("users.conf"), users).unwrap();
    server.restart();

    let older = user(&server, "with").ok(&["history", "service1", "--journal", "--format", "json"], "");
    assert_eq!(older.lines().count(), 66);
    let (code, _, stderr) = user(&server, "inspector").run(&["history", "service1", "--journal"], "");
    assert!(code == 2 && stderr.contains(&format!("Publish to \"$JS.API.STREAM.INFO.{stream}\"")), "{stderr}");
    assert_eq!(user(&server, "with").ok(&["get", "service1", "--revision", "1"], ""), "port = 1\n");
    assert_eq!(user(&server, "inspector").run(&["get", "service1", "--revision", "1"], "").0, 1);
}

#[test]
fn what_cannot_be_a_subject_is_refused_where_it_is_typed() {
    let refused = |args: &[&str], why: &str| {
        let output = confhot().arg("acl").args(args).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && stderr.contains(why), "{args:?}: {stderr}");
    };
    refused(&["--role", "service"], "--name");
    refused(&["--role", "loader", "--name", "service1"], "--name goes with --role service");
    refused(&["--role", "service", "--name", ">"], "key");
    refused(&["--role", "loader", "--bucket", ">"], "cannot be a bucket's name");
    refused(&["--role", "loader", "--user", "a\"b"], "cannot be the name of a user");
    refused(&["--role", "loader", "--inbox-prefix", ">"], "cannot be a part of a subject");
    refused(&["--role", "inspector", "--journal", "*"], "cannot be a part of a subject");
}
