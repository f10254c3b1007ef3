//! Every way in that NATS has, each on a server that is set up so: with one-shot verbs and a daemon; and what is said
//! where the server does not let us in, or lets us do less.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::serve::{address, get};
use crate::support::{DEADLINE, Daemon, Server, VERSIONS, confhot, eventually};

const NEWEST: &str = VERSIONS[VERSIONS.len() - 1];

/// How a client of a test comes in.
#[derive(Clone, Default)]
pub(crate) struct Way {
    args: Vec<OsString>,
    env: Vec<(&'static str, OsString)>,
}

impl Way {
    pub(crate) fn to(url: &str) -> Way {
        Way::default().arg("--server").arg(url)
    }

    pub(crate) fn arg(mut self, arg: impl Into<OsString>) -> Way {
        self.args.push(arg.into());
        self
    }

    pub(crate) fn env(mut self, name: &'static str, value: impl Into<OsString>) -> Way {
        self.env.push((name, value.into()));
        self
    }

    pub(crate) fn run(&self, args: &[&str], stdin: &str) -> (i32, String, String) {
        let mut command = confhot();
        command.args(args).args(&self.args).envs(self.env.iter().cloned()).write_stdin(stdin.to_owned());
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    #[track_caller]
    pub(crate) fn ok(&self, args: &[&str], stdin: &str) -> String {
        let (code, stdout, stderr) = self.run(args, stdin);
        assert_eq!(code, 0, "{args:?}: {stderr}");
        stdout
    }

    pub(crate) fn daemon(&self, args: &[&str]) -> Daemon {
        let args = args.iter().map(OsString::from).chain(["--format".into(), "json".into()]);
        Daemon::with(args.chain(self.args.iter().cloned()), |command| {
            command.envs(self.env.iter().cloned());
        })
    }

    fn serve(&self) -> Daemon {
        self.daemon(&["serve", "--name", "service1", "--http", "127.0.0.1:0"])
    }

    /// Writes, reads by request, by consumer and live, as this client.
    #[track_caller]
    fn is_open(&self) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("service1.toml"), "port = 1\n").unwrap();
        self.ok(&["loader", "--once", "--dir", dir.path().to_str().unwrap()], "");
        assert_eq!(self.ok(&["get", "service1"], ""), "port = 1\n");
        let mut service = self.serve();
        service.event("applied");
        self.ok(&["put", "service1"], "port = 2\n");
        let applied = service.event("applied");
        assert!(applied["ms"].is_number(), "told live: {applied}");
        assert!(self.ok(&["keys"], "").contains("service1"));
        assert_eq!(self.ok(&["history", "service1", "--format", "json"], "").lines().count(), 2);
    }

    /// Is refused at once, for a reason that holds `why`; a daemon says it once, is not ready, and goes on trying.
    #[track_caller]
    fn is_shut(&self, error: &str, why: &str) {
        for verb in [&["get", "service1"][..], &["put", "service1"], &["watch"], &["status"]] {
            let since = Instant::now();
            let (code, _, stderr) = self.run(verb, "port = 3\n");
            assert_eq!(code, 2, "{stderr}");
            assert!(stderr.starts_with(&format!("error: {error}")) && stderr.contains(why), "{verb:?}: {stderr}");
            assert!(since.elapsed() < Duration::from_secs(4), "{verb:?}: not a timeout");
        }
        let mut service = self.serve();
        service.event("disconnected");
        assert_eq!(get(&service, "readyz").0, 503);
        assert_eq!(service.events().iter().filter(|event| event["event"] == "disconnected").count(), 1);
    }
}

const REFUSED: &str = "the server at nats://127.0.0.1:";
const VIOLATION: &str = "authorization violation";

fn server(extra: &str) -> Server {
    Server::with(NEWEST, |settings| settings.extra = extra.to_owned())
}

/// A directory for secrets, and where it keeps the one called `name`.
fn secret(dir: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn a_user_comes_in_by_a_password_of_the_environment_or_of_a_file() {
    let server = server("authorization { users: [{ user: jo, password: secret }] }");
    let dir = tempfile::tempdir().unwrap();
    let (good, bad) = (secret(&dir, "good", "secret\n"), secret(&dir, "bad", "guess"));
    let jo = || Way::to(&server.url()).env("NATS_USER", "jo");

    jo().env("NATS_PASSWORD", "secret").is_open();
    jo().env("NATS_PASSWORD_FILE", &good).ok(&["get", "service1"], "");
    Way::to(&server.url()).arg("--user").arg("jo").arg("--password-file").arg(&good).ok(&["get", "service1"], "");
    jo().env("NATS_PASSWORD", "guess").is_shut(REFUSED, VIOLATION);
    Way::to(&server.url()).arg("--user").arg("jo").arg("--password-file").arg(&bad).is_shut(REFUSED, VIOLATION);
    Way::to(&server.url()).is_shut(REFUSED, VIOLATION);
}

#[test]
fn a_token_of_the_environment_or_of_a_file_lets_in() {
    let server = server("authorization { token: secret }");
    let dir = tempfile::tempdir().unwrap();
    let file = secret(&dir, "token", "secret\n");

    Way::to(&server.url()).env("NATS_TOKEN", "secret").is_open();
    Way::to(&server.url()).arg("--token-file").arg(&file).ok(&["get", "service1"], "");
    Way::to(&server.url()).env("NATS_TOKEN_FILE", &file).ok(&["get", "service1"], "");
    Way::to(&server.url()).env("NATS_TOKEN", "guess").is_shut(REFUSED, VIOLATION);
}

#[test]
fn a_token_or_password_in_the_servers_url_lets_in_and_is_in_no_log() {
    for (authorization, user) in
        [("token: t0kent0ken", "t0kent0ken"), ("users: [{ user: jo, password: t0kent0ken }]", "jo:t0kent0ken")]
    {
        let server = server(&format!("authorization {{ {authorization} }}"));
        let url = server.url().replace("nats://", &format!("nats://{user}@"));
        let closed = format!("nats://{user}@127.0.0.1:{}", confhot::server::free_port().unwrap());
        Way::to(&url).ok(&["put", "service1"], "port = 1\n");
        for (url, wanted) in [(&url, 0), (&closed, 2), (&format!("{closed},{url}"), 0)] {
            for format in ["text", "json"] {
                let (code, _, stderr) = Way::to(url).run(&["get", "service1", "-vv", "--log-format", format], "");
                assert!(code == wanted && stderr.contains("[hidden]"), "{stderr}");
                assert!(!stderr.contains("t0kent0ken"), "{stderr}");
            }
        }
    }
}

#[test]
fn a_daemon_without_a_server_says_once_which_one_it_tries_and_how_to_get_one() {
    let port = confhot::server::free_port().unwrap();
    let (dir, url) = (tempfile::tempdir().unwrap(), format!("nats://jo:s3cret@127.0.0.1:{port}"));
    let loader = ["loader", "--dir", dir.path().to_str().unwrap()];
    let way = Way::to(&url);
    let (code, _, one_shot) = way.run(&["get", "service1"], "");
    let hint = one_shot.lines().find(|line| line.starts_with("hint: ")).unwrap();
    assert_eq!(code, 2);
    let mut daemons = [way.daemon(&loader), way.serve()];
    for daemon in &mut daemons {
        daemon.event("disconnected");
        eventually("the hint", DEADLINE, || daemon.stderr().contains(hint).then_some(()));
    }
    let mut server = Server::with(NEWEST, |settings| {
        settings.port = Some(port);
        settings.extra = "authorization { users: [{ user: jo, password: s3cret }] }".into();
    });
    for daemon in &mut daemons {
        daemon.event("connected");
    }
    server.stop();
    for daemon in &mut daemons {
        daemon.event("disconnected");
        let (said, shown) = (daemon.stderr(), format!("cannot reach a NATS server at nats://jo:***@127.0.0.1:{port}"));
        assert_eq!((said.matches(&shown).count(), said.matches(hint).count()), (1, 1), "{said}");
        assert!(!said.contains("s3cret"), "{said}");
    }
}

#[test]
fn no_secret_is_taken_as_a_flag() {
    for flag in ["--password", "--token"] {
        let (code, _, stderr) = Way::default().arg(flag).arg("secret").run(&["get", "service1"], "");
        assert!(code == 2 && stderr.contains("unexpected argument"), "{stderr}");
    }
}

#[test]
fn an_nkey_signs_what_the_server_greets_with() {
    let (user, other) = (KeyPair::new_user(), KeyPair::new_user());
    let server = server(&format!("authorization {{ users: [{{ nkey: {} }}] }}", user.public_key()));
    let dir = tempfile::tempdir().unwrap();
    let good = secret(&dir, "good.nk", &format!("{}\n", user.seed().unwrap()));
    let bad = secret(&dir, "bad.nk", &other.seed().unwrap());

    Way::to(&server.url()).arg("--nkey").arg(good).is_open();
    Way::to(&server.url()).env("NATS_NKEY", bad).is_shut(REFUSED, VIOLATION);
    let missing = Way::to(&server.url()).arg("--nkey").arg(dir.path().join("none.nk")).run(&["get", "service1"], "");
    assert!(missing.0 == 2 && missing.2.contains("none.nk") && missing.2.contains("No such file"), "{}", missing.2);
}

/// A JWT in which `issuer` says `claims` of `subject` (ADR-14).
fn jwt(issuer: &KeyPair, subject: &KeyPair, name: &str, nats: Value, expires: Option<i64>) -> String {
    let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let mut claims = json!({ "jti": name, "iat": 1_700_000_000, "iss": issuer.public_key(), "name": name,
                             "sub": subject.public_key(), "nats": nats });
    if let Some(expires) = expires {
        claims["exp"] = expires.into();
    }
    let signed = format!("{}.{}", encode(json!({ "typ": "JWT", "alg": "ed25519-nkey" })), encode(claims));
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(issuer.sign(signed.as_bytes()).unwrap()))
}

/// An operator with an account in which JetStream is on.
pub(crate) struct Operator {
    pub(crate) account: KeyPair,
    pub(crate) extra: String,
}

impl Operator {
    pub(crate) fn new() -> Operator {
        let (operator, account, system) = (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_account());
        let limits = |jetstream: i64| {
            json!({ "type": "account", "version": 2, "limits": {
                "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1,
                "leaf": -1, "mem_storage": jetstream, "disk_storage": jetstream, "streams": jetstream,
                "consumer": jetstream } })
        };
        let of = |account: &KeyPair, name, nats| jwt(&operator, account, name, nats, None);
        let extra = format!(
            "operator: {}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload {{\n  {}: {}\n  {}: {}\n}}",
            jwt(&operator, &operator, "o", json!({ "type": "operator", "version": 2 }), None),
            system.public_key(),
            system.public_key(),
            of(&system, "SYS", limits(0)),
            account.public_key(),
            of(&account, "A", limits(-1)),
        );
        Operator { account, extra }
    }

    /// A `.creds` file of a user of the account that `by` speaks for, who may subscribe its own inboxes.
    fn creds(by: &KeyPair, name: &str, expires: Option<i64>) -> String {
        let subscribe = json!({ "allow": [format!("_INBOX_{name}.>"), "confhot.live.>"] });
        Operator::creds_with(by, name, &json!({}), &subscribe, expires)
    }

    pub(crate) fn creds_with(
        by: &KeyPair,
        name: &str,
        publish: &Value,
        subscribe: &Value,
        expires: Option<i64>,
    ) -> String {
        let user = KeyPair::new_user();
        let nats = json!({ "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1, "pub": publish,
                           "sub": subscribe });
        format!(
            "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\n\
             ************************* IMPORTANT *************************\n\
             -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
            jwt(by, &user, name, nats, expires),
            user.seed().unwrap()
        )
    }
}

#[test]
fn a_creds_file_lets_in_with_answers_to_inboxes_of_the_users_name() {
    let operator = Operator::new();
    let server = server(&operator.extra);
    let dir = tempfile::tempdir().unwrap();
    let good = secret(&dir, "good.creds", &Operator::creds(&operator.account, "jo", None));
    let other = secret(&dir, "other.creds", &Operator::creds(&KeyPair::new_account(), "jo", None));
    let expired = secret(&dir, "expired.creds", &Operator::creds(&operator.account, "jo", Some(1_700_000_001)));

    Way::to(&server.url()).arg("--creds").arg(good).is_open();
    Way::to(&server.url()).env("NATS_CREDS", other).is_shut(REFUSED, VIOLATION);
    Way::to(&server.url()).arg("--creds").arg(expired).is_shut(REFUSED, "");
}

/// A private CA, a server's certificate for 127.0.0.1, and a client's, as files.
struct Certificates(TempDir);

impl Certificates {
    fn new() -> Certificates {
        let dir = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        fs::write(dir.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        let issuer = Issuer::new(params, key);
        for (name, usage) in
            [("server", ExtendedKeyUsagePurpose::ServerAuth), ("client", ExtendedKeyUsagePurpose::ClientAuth)]
        {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
            params.extended_key_usages = vec![usage];
            fs::write(dir.path().join(format!("{name}.pem")), params.signed_by(&key, &issuer).unwrap().pem()).unwrap();
            fs::write(dir.path().join(format!("{name}.key")), key.serialize_pem()).unwrap();
        }
        Certificates(dir)
    }

    fn path(&self, file: &str) -> String {
        self.0.path().join(file).to_str().unwrap().to_owned()
    }

    fn tls(&self, more: &str) -> String {
        let [cert, key] = ["server.pem", "server.key"].map(|file| self.path(file));
        format!("tls {{ cert_file: \"{cert}\", key_file: \"{key}\", timeout: 5, {more} }}")
    }
}

const NO_TLS: &str = "cannot speak TLS with the server at";

#[test]
fn a_private_authority_is_trusted_where_it_is_named_and_no_other_is() {
    let (certificates, others) = (Certificates::new(), Certificates::new());
    let server = server(&certificates.tls(""));

    Way::to(&server.url()).arg("--tls-ca").arg(certificates.path("ca.pem")).is_open();
    Way::to(&server.url()).env("NATS_CA", certificates.path("ca.pem")).ok(&["get", "service1"], "");
    Way::to(&server.url()).arg("--tls-ca").arg(others.path("ca.pem")).is_shut(NO_TLS, "invalid peer certificate");
}

#[test]
fn a_client_certificate_is_shown_to_a_server_that_wants_one() {
    let certificates = Certificates::new();
    let ca = certificates.path("ca.pem");
    let server = server(&certificates.tls(&format!("ca_file: \"{ca}\", verify: true")));
    let way = || Way::to(&server.url()).arg("--tls-ca").arg(&ca);
    let [cert, key] = ["client.pem", "client.key"].map(|file| certificates.path(file));

    way().arg("--tls-cert").arg(&cert).arg("--tls-key").arg(&key).is_open();
    way().env("NATS_CERT", &cert).env("NATS_KEY", &key).ok(&["get", "service1"], "");
    way().is_shut(NO_TLS, "");
}

#[test]
fn tls_comes_first_where_it_is_asked_for() {
    let certificates = Certificates::new();
    // It greets those who are silent after 2 s, so that it can be seen to be ready.
    let server = server(&certificates.tls("handshake_first: 2s"));
    let way = || Way::to(&server.url()).arg("--tls-ca").arg(certificates.path("ca.pem")).arg("--timeout").arg("1s");

    way().arg("--tls-first").is_open();
    let (code, _, stderr) = way().run(&["get", "service1"], "");
    assert_eq!(code, 2, "{stderr}");
}

#[test]
fn any_one_of_several_servers_will_do_and_the_next_one_takes_over() {
    let mut servers = [server(""), server("")];
    let dead = confhot::server::free_port().unwrap();
    let [first, second] = [&servers[0], &servers[1]].map(Server::url);
    Way::to(&format!("nats://127.0.0.1:{dead},{first}")).is_open();
    Way::to(&second).ok(&["put", "service1"], "port = 7\n");

    let both = Way::to(&format!("{first},{second}"));
    let mut service = both.serve();
    let (value, other) = (service.event("applied"), |value: &Value| if value["revision"] == 1 { 1 } else { 0 });
    let (serving, spare) = if other(&value) == 1 { (1, &first) } else { (0, &second) };
    servers[serving].stop();
    service.event("disconnected");
    service.event("connected");
    Way::to(spare).ok(&["put", "service1"], "port = 8\n");
    assert_eq!(
        eventually("the other server's value", DEADLINE, || {
            let (_, config) = get(&service, "config");
            (config["value"]["port"] == 8).then_some(8)
        }),
        8
    );
}

/// A home of contexts of the `nats` CLI.
fn contexts(contexts: &[(&str, Value)], selected: Option<&str>) -> TempDir {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("nats/context");
    fs::create_dir_all(&dir).unwrap();
    for (name, context) in contexts {
        fs::write(dir.join(format!("{name}.json")), context.to_string()).unwrap();
    }
    if let Some(selected) = selected {
        fs::write(home.path().join("nats/context.txt"), selected).unwrap();
    }
    home
}

#[test]
fn contexts_of_the_nats_cli_are_followed_the_selected_one_too() {
    let certificates = Certificates::new();
    let [ca, cert, key] = ["ca.pem", "client.pem", "client.key"].map(|file| certificates.path(file));
    // The user may hear answers under its own prefix only.
    let server = server(&format!(
        "{}\nauthorization {{ users: [{{ user: jo, password: secret,
           permissions: {{ subscribe: [\"_MINE.jo.>\", \"confhot.live.>\"] }} }}] }}",
        certificates.tls(&format!("ca_file: \"{ca}\", verify: true")),
    ));
    let whole = json!({ "description": "", "url": server.url(), "user": "jo", "password": "secret", "token": "",
                        "creds": "", "nkey": "", "cert": cert, "key": key, "ca": ca, "nsc": "", "jetstream_domain": "",
                        "jetstream_api_prefix": "", "jetstream_event_prefix": "", "inbox_prefix": "_MINE.jo",
                        "user_jwt": "", "tls_first": false, "color_scheme": "" });
    let mut deaf = whole.clone();
    deaf["inbox_prefix"] = "".into();
    let home = contexts(&[("whole", whole), ("deaf", deaf)], Some("whole\n"));
    let way = || Way::default().env("XDG_CONFIG_HOME", home.path());

    way().is_open();
    way().env("NATS_CONTEXT", "whole").ok(&["get", "service1"], "");
    way().arg("--context").arg("whole").ok(&["get", "service1"], "");
    way().arg("--context").arg("deaf").arg("--inbox-prefix").arg("_MINE.jo").ok(&["get", "service1"], "");
    let (code, _, stderr) = way().arg("--context").arg("deaf").run(&["get", "service1"], "");
    assert!(code == 2 && stderr.contains("Permissions Violation for Subscription to \"_INBOX_jo."), "{stderr}");
    let (code, _, stderr) = way().arg("--context").arg("whale").run(&["get", "service1"], "");
    assert!(code == 2 && stderr.contains("`whole`"), "{stderr}");
}

#[test]
fn a_context_that_is_typed_wins_over_a_server_of_the_environment_and_another_one_does_not() {
    let servers = [server(""), server("authorization { user: jo, password: secret }")];
    let [of_environment, of_context] = [&servers[0], &servers[1]].map(Server::url);
    let prod = json!({ "url": of_context, "user": "jo", "password": "secret" });
    let home = contexts(&[("prod", prod)], Some("prod"));
    Way::to(&of_environment).ok(&["put", "service1"], "port = 1\n");
    let way = |name| Way::default().env("XDG_CONFIG_HOME", home.path()).env(name, &of_environment);

    for name in ["CONFHOT_SERVER", "NATS_URL"] {
        way(name).arg("--context").arg("prod").env("NATS_USER", "al").ok(&["put", "service1"], "port = 2\n");
        for below in [way(name), way(name).env("NATS_CONTEXT", "prod")] {
            assert_eq!(below.ok(&["get", "service1"], ""), "port = 1\n", "{name}");
        }
        let flag = way(name).arg("--context").arg("prod").arg("--server").arg(&of_environment);
        assert_eq!(flag.ok(&["get", "service1"], ""), "port = 1\n", "{name}");
    }
}

/// A server in the domain `hub`, and a leaf node of it in the domain `edge`, with more in its configuration.
pub(crate) fn hub_and_edge(more: &str) -> (Server, Server) {
    let port = confhot::server::free_port().unwrap();
    let with_domain = |domain: &str, leafnodes: String| {
        Server::with(NEWEST, |settings| {
            let store = settings.data_dir.display();
            settings.extra =
                format!("server_name: {domain}\njetstream {{ store_dir: \"{store}\", domain: {domain} }}\n{leafnodes}");
        })
    };
    let hub = with_domain("hub", format!("leafnodes {{ listen: \"127.0.0.1:{port}\" }}"));
    let remote = format!("leafnodes {{ remotes: [{{ url: \"nats://127.0.0.1:{port}\" }}] }}\n{more}");
    let edge = with_domain("edge", remote);
    eventually("the leaf node", DEADLINE, || (hub.monitoring("leafz")?["leafnodes"] == 1).then_some(()));
    (hub, edge)
}

#[test]
fn a_bucket_beyond_a_leaf_node_is_reached_by_its_domain() {
    let (hub, edge) = hub_and_edge("");
    let home = contexts(&[("edge", json!({ "url": edge.url(), "jetstream_domain": "hub" }))], Some("edge"));

    Way::default().env("XDG_CONFIG_HOME", home.path()).is_open();
    assert_eq!(Way::to(&hub.url()).ok(&["get", "service1"], ""), "port = 2\n");
    assert_eq!(Way::to(&edge.url()).arg("--js-domain").arg("hub").ok(&["get", "service1"], ""), "port = 2\n");
    let (code, _, stderr) = Way::to(&edge.url()).run(&["get", "service1"], "");
    assert_eq!(code, 1, "the edge has a JetStream of its own: {stderr}");
}

/// Rewrites what the server includes, and lets it read that.
fn rotate(server: &mut Server, users: &str) {
    fs::write(server.data_dir().join("users.conf"), users).unwrap();
    server.restart();
}

#[test]
fn what_was_rotated_is_read_again_at_a_reconnect() {
    let (old, new) = (KeyPair::new_user(), KeyPair::new_user());
    let users = |key: &KeyPair, password: &str| {
        format!(
            "authorization {{ users: [{{ user: jo, password: {password} }}, {{ user: admin, password: admin }},
             {{ nkey: {} }}] }}",
            key.public_key()
        )
    };
    let first = users(&old, "first");
    let mut server = Server::with(NEWEST, |settings| {
        fs::create_dir_all(&settings.data_dir).unwrap();
        fs::write(settings.data_dir.join("users.conf"), &first).unwrap();
        settings.extra = "include \"users.conf\"".into();
    });
    let dir = tempfile::tempdir().unwrap();
    let (password, seed) = (secret(&dir, "password", "first"), secret(&dir, "user.nk", &old.seed().unwrap()));
    let admin = Way::to(&server.url()).env("NATS_USER", "admin").env("NATS_PASSWORD", "admin");
    admin.ok(&["put", "service1"], "port = 1\n");
    let jo = Way::to(&server.url()).arg("--user").arg("jo").arg("--password-file").arg(&password);
    // Its inboxes keep the name of the first key, which only matters where rights are given by it.
    let by_key = Way::to(&server.url()).arg("--nkey").arg(&seed);
    let mut services = [jo.serve(), by_key.serve()];
    for service in &mut services {
        service.event("applied");
    }

    rotate(&mut server, &users(&new, "second"));
    for service in &mut services {
        service.event("disconnected");
        let why = "no server lets us in: authorization violation";
        eventually("why it does not come back", DEADLINE, || service.stderr().contains(why).then_some(()));
    }
    admin.ok(&["put", "service1"], "port = 2\n");
    fs::write(&password, "second").unwrap();
    fs::write(&seed, new.seed().unwrap()).unwrap();

    for service in &mut services {
        assert_eq!(service.event("applied")["revision"], 2);
        let told = service.events().iter().filter(|event| event["event"] == "disconnected").count();
        assert_eq!(told, 1, "the refusals in between are one outage");
        assert_eq!(service.stderr().matches("lets us in").count(), 1, "{}", service.stderr());
    }
}

#[test]
fn a_daemon_serves_its_last_good_value_while_it_is_locked_out_and_says_why() {
    let mut server = server("authorization { users: [{ user: jo, password: secret }] }");
    let dir = tempfile::tempdir().unwrap();
    let (password, state) = (secret(&dir, "password", "secret"), dir.path().join("state"));
    let jo = Way::to(&server.url()).arg("--user").arg("jo").arg("--password-file").arg(&password);
    jo.ok(&["put", "service1"], "port = 1\n");
    let args = ["serve", "--name", "service1", "--http", "127.0.0.1:0", "--state-dir", state.to_str().unwrap()];
    let mut service = jo.daemon(&args);
    service.event("applied");
    service.sigterm();
    assert_eq!(service.wait_exit(), 0);

    fs::write(&password, "guess").unwrap();
    let mut service = jo.daemon(&args);
    assert_eq!(service.event("applied")["from"], "state");
    let mut loader = jo.daemon(&["loader", "--dir", dir.path().to_str().unwrap()]);
    for daemon in [&mut service, &mut loader] {
        assert_eq!(daemon.event("disconnected")["reason"], VIOLATION);
    }
    address(&service);
    assert_eq!(get(&service, "config").1["value"]["port"], 1);

    fs::write(&password, "secret").unwrap();
    service.event("connected");
    loader.event("connected");
    fs::remove_file(&password).unwrap();
    server.restart();
    for daemon in [&service, &loader] {
        let why = format!("no server lets us in: cannot use {}: No such file", password.display());
        eventually("what a reconnect lacks", DEADLINE, || daemon.stderr().contains(&why).then_some(()));
        assert!(!daemon.stderr().contains("secret"), "{}", daemon.stderr());
    }
}

#[test]
fn a_denied_subject_is_named_at_once_whatever_is_asked() {
    let server = server(
        r#"authorization { users: [
             { user: admin, password: x }
             { user: nobody, password: x, permissions: { publish: "nothing", subscribe: "_INBOX_nobody.>" } }
             { user: reader, password: x, permissions: { publish: { deny: "$KV.>" } } }
             { user: half, password: x, permissions: { publish: { deny: "$KV.configs.b" } } }
             { user: deaf, password: x, permissions: { subscribe: "_INBOX_other.>" } }
             { user: unheard, password: x, permissions: { subscribe: "_INBOX_unheard.>" } }
             { user: puller, password: x, permissions: { publish: { deny: "$JS.API.CONSUMER.MSG.NEXT.>" } } }
             { user: batch, password: x, permissions: { publish: { deny: "$JS.API.DIRECT.GET.KV_configs" } } }
           ] }"#,
    );
    let user = |name: &str| Way::to(&server.url()).env("NATS_USER", name).env("NATS_PASSWORD", "x");
    user("admin").ok(&["put", "a"], "x = 1\n");
    user("admin").ok(&["put", "a"], "x = 2\n");
    let dir = tempfile::tempdir().unwrap();
    let set = ["a", "b", "c"].map(|key| secret(&dir, &format!("{key}.toml"), "x = 3\n").display().to_string());
    let set: Vec<&str> = ["put", "--set"].into_iter().chain(set.iter().map(String::as_str)).collect();

    let denied = |name: &str, args: &[&str], subject: &str| {
        let since = Instant::now();
        let (code, _, stderr) = user(name).run(args, "x = 4\n");
        let took = since.elapsed();
        assert_eq!(code, 2, "{name} {args:?}: {stderr}");
        assert!(
            stderr.contains("error: the server denies it: Permissions Violation for "),
            "{name} {args:?}: {stderr}"
        );
        assert!(stderr.contains(subject), "{name} {args:?}: {stderr}");
        assert!(took < Duration::from_secs(4), "{name} {args:?}: a timeout");
    };
    let one = dir.path().to_str().unwrap();
    let nowhere = format!("{one}/nowhere");
    for args in [
        &["get", "a"][..],
        &["get", "a", "--revision", "1"],
        &["put", "a"],
        &["delete", "a", "--yes"],
        &["rollback", "a", "--yes"],
        &["diff", "a"],
        &["history", "a"],
        &["keys"],
        &["watch"],
        &["export", &nowhere],
        &["loader", "--once", "--dir", one],
    ] {
        denied("nobody", args, "to \"$JS.API.");
    }
    for args in [&["put", "a"][..], &["delete", "a", "--yes"], &["rollback", "a", "--yes"]] {
        denied("reader", args, "Publish to \"$KV.configs.a\"");
    }
    denied("reader", &set, "Publish to \"$KV.configs.");
    denied("half", &set, "Publish to \"$KV.configs.b\"");
    denied("deaf", &["get", "a"], "Subscription to \"_INBOX_deaf.");
    denied("puller", &["keys"], "Publish to \"$JS.API.CONSUMER.MSG.NEXT.KV_configs.confhot-read-");
    denied("batch", &["history", "a"], "Publish to \"$JS.API.DIRECT.GET.KV_configs\"");
    assert_eq!(user("admin").ok(&["get", "a"], ""), "x = 2\n", "nothing was written");

    // What cannot be heard live is read, and said once.
    let mut watch = user("unheard").daemon(&["watch"]);
    let mut service = user("unheard").daemon(&["serve", "--name", "a"]);
    service.event("applied");
    for (daemon, subject) in [(&watch, "confhot.live.configs.>"), (&service, "confhot.live.configs.a")] {
        let said = format!("Permissions Violation for Subscription to \"{subject}\"");
        eventually("the subject that is denied", DEADLINE, || daemon.stderr().contains(&said).then_some(()));
    }
    user("admin").ok(&["put", "a"], "x = 5\n");
    assert_eq!(service.event("applied")["revision"], 3);
    watch.wait_event(DEADLINE, |change| change["revision"] == 3);
    assert_eq!(service.stderr().matches("Permissions Violation").count(), 1, "{}", service.stderr());
    service.signal(Signal::TERM);
}
