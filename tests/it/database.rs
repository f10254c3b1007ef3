//! `confhot serve` and the PostgreSQL that its document names: each section applied, and a pool that is swapped under
//! load.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use confhot::kv::{Bucket, Revision};
use jiff::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};

use crate::feed::{key, put};
use crate::serve::{address, fresh, get, serve};
use crate::support::{DEADLINE, Daemon, Database, Postgres, eventually, http_get};

/// What a pool's requests have to end in, and a bit for a busy machine.
const DRAINED: Duration = Duration::from_secs(6);

/// A service on a bucket of its own.
struct Service {
    bucket: Bucket,
    daemon: Daemon,
}

impl Service {
    async fn start(extra: &[&str]) -> Service {
        let (server, bucket) = fresh().await;
        let flags = ["--http", "127.0.0.1:0"].iter().chain(extra).copied().collect::<Vec<_>>();
        Service { daemon: serve(&server.url(), bucket.name(), &flags), bucket }
    }

    /// One that trusts the certificates in a file.
    async fn trusting(file: &Path) -> Service {
        let (server, bucket) = fresh().await;
        let url = server.url();
        let args = ["serve", "--name", "service1", "--format", "json", "--http", "127.0.0.1:0", "--server", &url];
        let daemon = Daemon::with(args.iter().chain(&["--bucket", bucket.name()]), |command| {
            command.env("SSL_CERT_FILE", file);
        });
        Service { daemon, bucket }
    }

    async fn put(&self, text: &str) -> Revision {
        put(&self.bucket, &key("service1"), text).await
    }

    /// Publishes, and gives what the service says of it.
    async fn offer(&mut self, text: &str) -> Value {
        let revision = self.put(text).await;
        self.daemon.wait_event(DEADLINE, |event| event["revision"] == revision.0)
    }

    async fn apply(&mut self, text: &str) -> u64 {
        let event = self.offer(text).await;
        assert_eq!(event["event"], "applied", "{event}\n{}", self.daemon.stderr());
        event["revision"].as_u64().unwrap()
    }

    fn get(&self, page: &str) -> (u16, Value) {
        get(&self.daemon, page)
    }

    #[track_caller]
    fn db(&self) -> Value {
        let (status, db) = self.get("db");
        assert_eq!(status, 200, "{db}");
        db
    }

    fn metric(&self, name: &str) -> i64 {
        let (_, text) = self.get("metrics");
        let line = text.as_str().unwrap().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
    }
}

fn document(url: &str) -> String {
    format!("[database]\nurl = \"{url}\"\nmax_connections = 4\n")
}

/// A database that is down, and soon known to be.
fn down() -> String {
    let port = confhot::server::free_port().unwrap();
    format!("[database]\nurl = \"postgres://me:secret@127.0.0.1:{port}/shop\"\nconnect_timeout = \"100ms\"\n")
}

/// Waits until no connection of a service is left in a database.
async fn wait_left(postgres: &Postgres, database: &Database) {
    let until = Instant::now() + DRAINED;
    while !postgres.backends(&database.name).await.is_empty() {
        assert!(Instant::now() < until, "connections to {} are left", database.name);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_section_is_applied_to_the_running_service() {
    let mut service = Service::start(&[]).await;
    let logged = |service: &Service, page: &str| {
        let before = service.daemon.stderr().len();
        service.get(page);
        move |service: &Service| service.daemon.stderr().split_off(before)
    };
    service.apply("[logging]\nlevel = \"info\"\n[features]\ncheckout = true\nsearch = false\nitems = 7\n").await;
    let quiet = logged(&service, "config");
    let (status, feature) = service.get("features/checkout");
    assert_eq!((status, &feature["value"]), (200, &json!(true)), "{feature}");
    assert_eq!(service.get("features/items").1["value"], 7);
    for off in ["search", "unknown"] {
        let (status, refusal) = service.get(&format!("features/{off}"));
        assert_eq!((status, refusal["error"].is_string()), (404, true), "{refusal}");
    }

    service.apply("[logging]\nlevel = \"debug\"\nformat = \"json\"\n[features]\nsearch = \"on\"\n").await;
    assert_eq!(service.get("features/search").0, 200);
    assert_eq!(service.get("features/checkout").0, 404);
    let objects = logged(&service, "healthz");
    let object = eventually("a request in the log, as JSON", DEADLINE, || {
        let log = objects(&service);
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).find(|line: &Value| line["path"] == "/healthz")
    });
    assert_eq!((&object["level"], &object["status"]), (&json!("DEBUG"), &json!(200)), "{object}");

    service.apply("[logging]\nlevel = \"debug\"\nformat = \"text\"\n").await;
    let text = logged(&service, "readyz");
    eventually("a request in the log, as text", DEADLINE, || text(&service).contains("path=\"/readyz\"").then_some(()));

    // Without the section it is as the flags say; the level is at work before the next request's answer.
    service.apply("other = 1\n").await;
    let none = logged(&service, "features/x");
    service.apply("[logging]\nlevel = \"debug\"\n").await;
    let some = logged(&service, "features/y");
    eventually("a request in the log", DEADLINE, || some(&service).contains("/features/y").then_some(()));
    assert!(!none(&service).contains("/features/x"), "{}", service.daemon.stderr());
    assert!(!quiet(&service).contains("\"/config\""), "{}", service.daemon.stderr());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_field_with_a_wrong_value_is_invalid_and_changes_nothing() {
    let mut service = Service::start(&[]).await;
    let good = service.apply("[features]\na = true\n").await;
    for (text, reason) in [
        ("[logging]\nlevel = \"loud\"\n", "logging.level: \"loud\" is not one of error, warn, info, debug, trace"),
        ("[database]\nurl = \"postgres://me:s3cret@h:x/d\"\n", "database.url: "),
        ("features = 1\n", "features: 1 is not a table"),
    ] {
        let event = service.offer(text).await;
        assert_eq!(
            (&event["event"], &event["kind"], &event["serving"]),
            (&json!("rejected"), &json!("invalid"), &json!(good)),
            "{event}"
        );
        assert!(event["reason"].as_str().unwrap().starts_with(reason), "{event}");
    }
    assert_eq!(service.get("features/a").0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_url_moves_the_service_to_the_other_database_and_leaves_no_connection_behind() {
    let postgres = Postgres::shared();
    let (one, two) = (postgres.database("secret").await, postgres.database("secret").await);
    let mut service = Service::start(&[]).await;
    let first = service.apply(&document(&one.url)).await;
    let version = postgres.admin().await.query_one("show server_version", &[]).await.unwrap().get::<_, String>(0);
    assert_eq!(
        service.db(),
        json!({"database": one.name, "user": one.name, "server_version": version, "revision": first,
               "pool": {"size": 1, "idle": 1, "in_use": 0, "max": 4}})
    );

    let second = service.apply(&document(&two.url)).await;
    let db = service.db();
    assert_eq!((&db["database"], &db["user"], &db["revision"]), (&json!(two.name), &json!(two.name), &json!(second)));
    wait_left(postgres, &one).await;
    assert_eq!(service.metric("confhot_database_pools"), 1);
    assert_eq!(service.metric("confhot_database_connections_max"), 4);
    assert_eq!(service.metric("confhot_database_connections{state=\"idle\"}"), 1);

    // The same bytes again are a newer revision of the same value.
    let third = service.apply(&document(&two.url)).await;
    assert_eq!(service.db()["revision"], third);

    service.apply("other = 1\n").await;
    let (status, refusal) = service.get("db");
    assert_eq!((status, &refusal["error"]), (503, &json!("no database is configured: database.url")), "{refusal}");
    wait_left(postgres, &two).await;
    assert_eq!(service.metric("confhot_database_pools"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_section_that_did_not_change_keeps_its_connections() {
    let postgres = Postgres::shared();
    let database = postgres.database("secret").await;
    let mut service = Service::start(&[]).await;
    service.apply(&document(&database.url)).await;
    let before = postgres.backends(&database.name).await;
    assert_eq!(before.len(), 1);

    for text in ["[features]\na = true\n", "[logging]\nlevel = \"warn\"\n", "[database.labels]\nteam = \"shop\"\n"] {
        let revision = service.apply(&format!("{}{text}", document(&database.url))).await;
        assert_eq!(service.db()["revision"], revision);
        assert_eq!(postgres.backends(&database.name).await, before);
    }

    service.apply(&document(&database.url).replace("= 4", "= 5")).await;
    assert_eq!(service.db()["pool"]["max"], 5);
    assert!(!postgres.backends(&database.name).await.iter().all(|pid| before.contains(pid)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_database_is_rejected_the_old_pool_serves_on_and_it_heals_by_itself() {
    let shared = Postgres::shared();
    let old = shared.database("secret").await;
    let mut other = Postgres::start();
    let new = other.database("secret").await;
    other.stop();
    let mut service = Service::start(&[]).await;
    let serving = service.apply(&document(&old.url)).await;
    let backends = shared.backends(&old.name).await;

    let wanted = format!("{}connect_timeout = \"500ms\"\n", document(&new.url));
    let rejected = service.offer(&wanted).await;
    assert_eq!(
        (&rejected["event"], &rejected["kind"], &rejected["serving"]),
        (&json!("rejected"), &json!("unavailable"), &json!(serving)),
        "{rejected}"
    );
    let reason = rejected["reason"].as_str().unwrap();
    let place = new.url.rsplit_once('@').unwrap().1.split_once('/').unwrap().0.to_owned();
    let start = format!("database.url: no connection to {} at {place} within 500ms: ", new.name);
    assert!(reason.starts_with(&start) && reason.contains("Connection refused"), "{reason}");
    assert_eq!(service.db()["revision"], serving);
    assert_eq!(shared.backends(&old.name).await, backends, "the old pool is not touched");
    let (status, ready) = service.get("readyz");
    assert_eq!((status, ready["degraded"].as_array().unwrap().len()), (200, 1), "{ready}");

    other.restart();
    let applied = service.daemon.event("applied");
    assert_eq!(applied["revision"], rejected["revision"]);
    assert_eq!(service.db()["database"], new.name);
    let rejections = service.daemon.events().iter().filter(|event| event["event"] == "rejected").count();
    assert_eq!(rejections, 1, "one event for as long as it was unavailable");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_starts_while_its_database_is_down_is_not_ready_until_it_is_up() {
    let mut postgres = Postgres::start();
    let database = postgres.database("secret").await;
    postgres.stop();
    let mut service = Service::start(&[]).await;
    let rejected = service.offer(&format!("{}connect_timeout = \"200ms\"\n", document(&database.url))).await;
    assert_eq!((&rejected["kind"], &rejected["serving"]), (&json!("unavailable"), &Value::Null), "{rejected}");
    assert_eq!((service.get("readyz").0, service.get("db").0), (503, 503));

    postgres.restart();
    service.daemon.event("applied");
    assert_eq!((service.get("readyz").0, service.get("db").0), (200, 200));

    // Another outage, of a database that serves: no answers meanwhile, and no restart of the service.
    postgres.stop();
    let (status, refusal) = service.get("db");
    assert_eq!((status, refusal["error"].is_string()), (503, true), "{refusal}");
    assert_eq!(service.get("readyz").0, 200);
    postgres.restart();
    eventually("the database answers again", DEADLINE, || (service.get("db").0 == 200).then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_and_a_database_that_are_made_a_moment_later_are_waited_for() {
    let postgres = Postgres::shared();
    let known = postgres.database("secret").await;
    let mut service = Service::start(&[]).await;
    let wrong = known.url.replace(":secret@", ":wr0ng@");
    let rejected = service.offer(&document(&wrong)).await;
    assert_eq!(rejected["kind"], "unavailable", "{rejected}");
    assert!(rejected["reason"].as_str().unwrap().contains("password authentication failed"), "{rejected}");

    let name = format!("{}_later", known.name);
    let rejected = service.offer(&document(&postgres.url(&name, "secret"))).await;
    assert_eq!(rejected["kind"], "unavailable", "{rejected}");
    postgres.create(&name, "secret").await;
    service.daemon.event("applied");
    assert_eq!(service.db()["database"], name);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_under_way_ends_on_the_pool_where_it_began() {
    let postgres = Postgres::shared();
    let (one, two) = (postgres.database("secret").await, postgres.database("secret").await);
    let mut service = Service::start(&[]).await;
    let patient = |url: &str| format!("{}connect_timeout = \"60s\"\n", document(url));
    let first = service.apply(&patient(&one.url)).await;
    let frozen = postgres.freeze_backend(&one.name).await;
    let url = format!("{}/db", address(&service.daemon));
    let under_way = thread::spawn(move || http_get(&url));
    eventually("the request waits for its answer", DEADLINE, || {
        (service.metric("confhot_database_connections{state=\"in_use\"}") == 1).then_some(())
    });

    service.apply(&patient(&two.url)).await;
    assert_eq!(service.db()["database"], two.name);
    assert_eq!(service.metric("confhot_database_pools"), 2);
    drop(frozen);
    let (status, body) = under_way.join().unwrap().unwrap();
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &body["database"], &body["revision"]), (200, &json!(one.name), &json!(first)), "{body}");
    wait_left(postgres, &one).await;
    assert_eq!(service.metric("confhot_database_pools"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_does_not_end_is_cut_off_and_no_old_pool_is_alive_6_s_after_its_swap() {
    let postgres = Postgres::shared();
    let (one, two) = (postgres.database("secret").await, postgres.database("secret").await);
    let mut service = Service::start(&[]).await;
    service.apply(&format!("{}connect_timeout = \"60s\"\n", document(&one.url))).await;
    let frozen = postgres.freeze_backend(&one.name).await;
    let url = format!("{}/db", address(&service.daemon));
    let under_way = thread::spawn(move || http_get(&url));
    eventually("the request waits for its answer", DEADLINE, || {
        (service.metric("confhot_database_connections{state=\"in_use\"}") == 1).then_some(())
    });

    service.apply(&document(&two.url)).await;
    let swapped = Instant::now();
    let (status, body) = under_way.join().unwrap().unwrap();
    assert!((4.5..6.0).contains(&swapped.elapsed().as_secs_f64()), "{:?}", swapped.elapsed());
    assert!(status == 503 && body.contains("no answer within 5s after another configuration took over"), "{body}");
    assert_eq!(service.metric("confhot_database_pools"), 1);
    drop(frozen);
    wait_left(postgres, &one).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_ends_at_its_deadline_and_the_next_one_does_not_get_its_connection() {
    let postgres = Postgres::shared();
    let database = postgres.database("secret").await;
    let mut service = Service::start(&[]).await;
    let timeouts = "connect_timeout = \"2s\"\n[server]\nrequest_timeout = \"300ms\"\n";
    service.apply(&format!("{}{timeouts}", document(&database.url))).await;
    service.db();
    let _frozen = postgres.freeze_backend(&database.name).await;
    let (status, refusal) = service.get("db");
    assert_eq!((status, &refusal["error"]), (503, &json!("no answer within 300ms")), "{refusal}");

    // With a longer deadline, and the backend still stopped, another connection takes its place.
    let longer = timeouts.replace("300ms", "10s");
    service.apply(&format!("{}{longer}", document(&database.url))).await;
    assert_eq!(service.db()["database"], database.name);
}

/// One answer of `/db`: asked when, answered when, and with what.
struct Asked {
    at: Timestamp,
    until: Timestamp,
    status: u16,
    body: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn under_load_no_request_fails_while_the_url_flips_a_hundred_times() {
    let postgres = Postgres::shared();
    let (one, two) = (postgres.database("secret").await, postgres.database("secret").await);
    let mut service = Service::start(&[]).await;
    let first = service.offer(&document(&one.url)).await;
    let at = |event: &Value| event["at"].as_str().unwrap().parse::<Timestamp>().unwrap();
    // Which database was configured from when on, by revision.
    let mut configured = BTreeMap::from([(first["revision"].as_u64().unwrap(), (at(&first), one.name.clone()))]);
    let (stop, asked) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let url = format!("{}/db", address(&service.daemon));

    let rejected = thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let at = Timestamp::now();
                    let (status, body) = http_get(&url).unwrap_or((0, "no answer".into()));
                    asked.lock().unwrap().push(Asked { at, until: Timestamp::now(), status, body });
                }
            });
        }
        let mut rejected = 0;
        for flip in 0..100 {
            let database = if flip % 2 == 0 { &two } else { &one };
            let text = if flip % 10 == 7 { down() } else { document(&database.url) };
            let event =
                tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(service.offer(&text)));
            match event["event"].as_str().unwrap() {
                "applied" => {
                    configured.insert(event["revision"].as_u64().unwrap(), (at(&event), database.name.clone()));
                }
                _ => {
                    assert_eq!(event["kind"], "unavailable", "{event}");
                    rejected += 1;
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
        rejected
    });
    let swapped = Instant::now();
    assert_eq!((configured.len(), rejected), (91, 10));

    let asked = asked.into_inner().unwrap();
    let failed: Vec<_> = asked.iter().filter(|asked| asked.status != 200).map(|asked| &asked.body).collect();
    assert!(failed.is_empty(), "{} of {} failed: {:?}", failed.len(), asked.len(), failed[0]);
    let mut served = BTreeMap::new();
    for answer in &asked {
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        let revision = body["revision"].as_u64().unwrap();
        let (from, name) = &configured[&revision];
        assert_eq!(body["database"], *name, "{body}");
        let next = configured.range(revision + 1..).next().map(|(_, (at, _))| *at);
        // It was the value at some moment between the question and the answer.
        assert!(*from <= answer.until && next.is_none_or(|next| answer.at <= next), "{body} at {}", answer.at);
        *served.entry(name.clone()).or_insert(0) += 1;
    }
    eprintln!("{} requests, 0 failed, by database: {served:?}", asked.len());
    assert!(served.len() == 2 && asked.len() > 200, "{served:?}");

    let (last, other) = (
        &configured.last_key_value().unwrap().1.1,
        if configured.last_key_value().unwrap().1.1 == one.name { &two } else { &one },
    );
    wait_left(postgres, other).await;
    assert_eq!(service.metric("confhot_database_pools"), 1);
    assert!(swapped.elapsed() < DRAINED, "{:?}", swapped.elapsed());
    let live = service.db()["pool"]["size"].as_u64().unwrap() as usize;
    assert!(postgres.backends(last).await.len() <= live);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_connection_is_leaked_however_often_the_pool_is_swapped() {
    let swaps = if std::env::var_os("CONFHOT_SOAK").is_some() { 1_000 } else { 60 };
    let postgres = Postgres::shared();
    let (one, two) = (postgres.database("secret").await, postgres.database("secret").await);
    let mut service = Service::start(&[]).await;
    for swap in 0..swaps {
        let database = if swap % 2 == 0 { &one } else { &two };
        let down_between = swap % 20 == 3;
        if down_between {
            let event = service.offer(&down()).await;
            assert_eq!(event["kind"], "unavailable", "{event}");
        }
        service.apply(&document(&database.url)).await;
        assert_eq!(service.db()["database"], database.name);
    }
    wait_left(postgres, &one).await;
    let live = service.db()["pool"]["size"].as_u64().unwrap() as usize;
    assert_eq!(postgres.backends(&two.name).await.len(), live);
    assert_eq!(service.metric("confhot_database_pools"), 1);

    service.daemon.sigterm();
    assert_eq!(service.daemon.wait_exit(), 0);
    wait_left(postgres, &two).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_password_of_a_url_is_ever_shown() {
    const SECRET: &str = "pl4nted";
    let postgres = Postgres::shared();
    let database = postgres.database(SECRET).await;
    let mut service = Service::start(&["-vv"]).await;
    let mut shown = Vec::new();
    let look = |service: &Service, shown: &mut Vec<String>| {
        for page in ["config", "metrics", "readyz", "db", "features/mirror"] {
            shown.push(service.get(page).1.to_string());
        }
    };
    let rest = format!(
        "[logging]\nlevel = \"trace\"\n[features]\nmirror = \"https://me:{SECRET}@mirror/x\"\n\
         [[other]]\nurls = [\"nats://h:4222?password={SECRET}\", \"see amqp://me:{SECRET}/{SECRET}@h/x too\"]\n"
    );
    service.apply(&format!("{}{rest}", document(&database.url))).await;
    look(&service, &mut shown);
    let config = service.get("config").1["value"].to_string();
    assert_eq!(config.matches("[hidden]").count(), 4, "{config}");

    let port = confhot::server::free_port().unwrap();
    let urls = [
        (format!("postgres://me:{SECRET}@127.0.0.1:{port}/shop"), "unavailable"),
        (format!("postgres://{}:{SECRET}x@{}", database.name, database.url.rsplit_once('@').unwrap().1), "unavailable"),
        (format!("postgres://127.0.0.1:{port}/shop?user=me&password={SECRET}"), "unavailable"),
        (database.url.clone() + "?sslmode=require", "unavailable"),
        (format!("postgres://me:{SECRET}@h:port/d"), "invalid"),
        (format!("postgres://me:{SECRET}@{SECRET}@h/d"), "invalid"),
        (format!("postgres://me:{SECRET} {SECRET}@h/d"), "invalid"),
        (format!("host=h password={SECRET}"), "invalid"),
        (format!("postgres://me:{SECRET}@h/d?nosuch=1"), "invalid"),
    ];
    for (url, kind) in urls {
        let event = service.offer(&format!("{}connect_timeout = \"100ms\"\n{rest}", document(&url))).await;
        assert_eq!(event["kind"], kind, "{event}");
        look(&service, &mut shown);
    }
    let broken = format!("[database]\nurl = \"{}\nmax = 1\n", database.url);
    assert_eq!(service.offer(&broken).await["kind"], "invalid");
    look(&service, &mut shown);

    shown.extend(service.daemon.events().iter().map(Value::to_string));
    service.daemon.sigterm();
    service.daemon.wait_exit();
    shown.push(service.daemon.stderr());
    assert!(service.daemon.stderr().contains("request"), "nothing was logged");
    for text in shown {
        assert!(!text.contains(SECRET), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_that_is_required_is_used_and_trusts_only_whom_this_system_trusts() {
    let authority = || {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params.self_signed(&key).unwrap().pem(), Issuer::new(params, key))
    };
    let (trusted, issuer) = authority();
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let files = [("server.crt", server.pem()), ("server.key", key.serialize_pem())];
    let postgres = Postgres::with("ssl = on", &files);
    let database = postgres.database("secret").await;
    let required = document(&format!("{}?sslmode=require", database.url));
    let dir = tempfile::tempdir().unwrap();

    std::fs::write(dir.path().join("trusted.pem"), trusted).unwrap();
    let mut service = Service::trusting(&dir.path().join("trusted.pem")).await;
    service.apply(&required).await;
    assert_eq!(service.db()["database"], database.name);
    let encrypted = "select ssl from pg_stat_ssl join pg_stat_activity using (pid) where datname = $1";
    assert!(postgres.admin().await.query_one(encrypted, &[&database.name]).await.unwrap().get::<_, bool>(0));

    std::fs::write(dir.path().join("other.pem"), authority().0).unwrap();
    let mut service = Service::trusting(&dir.path().join("other.pem")).await;
    let rejected = service.offer(&format!("{required}connect_timeout = \"300ms\"\n")).await;
    assert_eq!(rejected["kind"], "unavailable", "{rejected}");
    assert!(rejected["reason"].as_str().unwrap().contains("invalid peer certificate"), "{rejected}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_database_the_section_is_checked_and_shown_and_nothing_is_connected() {
    let postgres = Postgres::shared();
    let database = postgres.database("secret").await;
    let mut service = Service::start(&["--without-database"]).await;
    let said = "service1 connects to no database: [database] is shown only";
    eventually("it says so", DEADLINE, || service.daemon.stderr().contains(said).then_some(()));

    service.apply(&document(&database.url)).await;
    service.apply(&document("postgres://me:secret@postgres.invalid/shop")).await;
    assert_eq!(service.get("config").1["value"]["database"]["url"], "postgres://me:[hidden]@postgres.invalid/shop");
    let (status, refusal) = service.get("db");
    assert_eq!(status, 503);
    assert!(refusal["error"].as_str().unwrap().contains("--without-database"), "{refusal}");
    assert!(postgres.backends(&database.name).await.is_empty());
    assert_eq!(service.metric("confhot_database_pools"), 0);
    assert_eq!(service.offer(&document("mysql://h/d")).await["kind"], "invalid");
    assert_eq!(service.daemon.stderr().matches("connects to no database").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_only_connects_takes_nobody_the_answer_that_is_being_made() {
    let postgres = Postgres::shared();
    let database = postgres.database("secret").await;
    let mut service = Service::start(&[]).await;
    let patient = "connect_timeout = \"60s\"\n[server]\nrequest_timeout = \"60s\"\n";
    service.apply(&format!("{}{patient}", document(&database.url))).await;
    service.db();
    let frozen = postgres.freeze_backend(&database.name).await;
    let url = address(&service.daemon);
    let under_way = thread::spawn({
        let url = format!("{url}/db");
        move || http_get(&url)
    });
    eventually("the request waits for its answer", DEADLINE, || {
        (service.metric("confhot_database_connections{state=\"in_use\"}") == 1).then_some(())
    });

    let to = url.strip_prefix("http://").unwrap();
    let idle: Vec<_> = (0..300).map(|_| TcpStream::connect(to).unwrap()).collect();
    assert_eq!(service.get("healthz").0, 200, "after all of them");
    drop(frozen);

    let (status, body) = under_way.join().unwrap().expect("an answer, and not an end");
    assert!(status == 200 && body.contains(&database.name), "{status} {body}");
    drop(idle);
}
