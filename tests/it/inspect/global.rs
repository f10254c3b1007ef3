//! What holds for every verb: which server is asked, how long, in which colours, and what an error looks like.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use super::Here;
use crate::support::{self, Server};

/// Every verb that asks a server once, as it is typed.
const ONE_SHOT: [&str; 7] = [
    "get service1",
    "put service1 a.toml",
    "diff service1",
    "history service1",
    "keys",
    "delete service1 --yes",
    "watch",
];

/// Where nobody listens: a port that was free a moment ago, and is kept from others as long as the listener lives.
fn nowhere() -> (TcpListener, String) {
    // A listener that accepts nothing would let a client connect; one that is bound, but to another address, does not.
    let listener = TcpListener::bind("127.0.0.2:0").unwrap();
    let url = format!("nats://127.0.0.3:{}", listener.local_addr().unwrap().port());
    (listener, url)
}

#[test]
fn an_unreachable_server_is_trouble_that_names_the_url_and_the_way_to_one() {
    let (_kept, url) = nowhere();
    let here = Here { url, ..Here::offline_only() };
    here.file("a.toml", "n = 1\n");

    for line in ONE_SHOT {
        let told = here.run(line);
        let lines: Vec<_> = told.lines().collect();
        assert_eq!(lines.first(), Some(&"! error: cannot reach a NATS server at URL"), "{line}: {told}");
        assert!(lines[1].starts_with("! caused by: "), "{line}: {told}");
        assert_eq!(
            lines[lines.len() - 2..],
            ["! hint: `confhot dev` starts a private server; --server, NATS_URL or --context names another one", "= 2"],
            "{line}: {told}"
        );
    }
}

#[test]
fn a_password_in_the_url_is_not_in_the_error() {
    let (_kept, url) = nowhere();
    let here = Here { url: url.replace("//", "//me:secret@"), ..Here::offline_only() };

    let told = here.run("keys");

    assert!(told.contains("//me:***@127.0.0.3") && !told.contains("secret"), "{told}");
}

#[test]
fn a_frozen_server_is_given_up_at_the_deadline() {
    let mut server = Server::start();
    let here = Here { url: server.url(), ..Here::offline_only() };
    here.put("service1", "n = 1\n");
    here.file("a.toml", "n = 2\n");
    server.freeze();

    for line in ONE_SHOT {
        let started = Instant::now();
        let told = here.run(&format!("{line} --timeout 300ms"));
        assert!(started.elapsed() < Duration::from_secs(4), "{line}: {:?}", started.elapsed());
        assert!(told.starts_with("! error: ") && told.contains("URL") && told.ends_with("\n= 2"), "{line}: {told}");
    }
}

#[test]
fn a_server_that_accepts_and_says_nothing_is_given_up_at_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let here = Here { url: format!("nats://{}", listener.local_addr().unwrap()), ..Here::offline_only() };

    let started = Instant::now();
    let told = here.run("keys --timeout 300ms");

    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    assert!(told.starts_with("! error: cannot reach a NATS server at URL\n") && told.ends_with("= 2"), "{told}");
}

/// A server that says it is `version` and answers pings, for one client.
fn pretender(version: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let info =
        format!("INFO {{\"version\":\"{version}\",\"headers\":true,\"max_payload\":1048576,\"jetstream\":true}}\r\n");
    std::thread::spawn(move || {
        let (mut client, _) = listener.accept()?;
        client.write_all(info.as_bytes())?;
        for line in BufReader::new(client.try_clone()?).lines() {
            if line? == "PING" {
                client.write_all(b"PONG\r\n")?;
            }
        }
        std::io::Result::Ok(())
    });
    format!("nats://127.0.0.1:{port}")
}

#[test]
fn a_server_that_is_too_old_is_named_and_refused() {
    let here = Here { url: pretender("2.10.26"), ..Here::offline_only() };

    assert_eq!(
        here.run("keys"),
        "! error: nats-server 2.10.26 at URL is too old: confhot needs 2.11 or later\n\
         ! hint: upgrade it, or let `confhot dev` start a private one that is new enough\n\
         = 2"
    );
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_context_of_the_nats_cli() {
    let here = Here::with(&["n = 1\n"]);
    let (_kept, nowhere) = nowhere();
    let context = |name: &str, url: &str| {
        here.file(&format!("config/nats/context/{name}.json"), format!("{{\"url\": \"{url}\"}}"));
    };
    context("good", &here.url);
    context("bad", &nowhere);
    let code = |selected: &str, flags: &[&str], environment: &[(&str, &str)]| {
        here.file("config/nats/context.txt", selected);
        let mut command = support::confhot();
        command.arg("keys").args(flags).envs(environment.iter().copied()).env("CONFHOT_BUCKET", &here.bucket);
        command.env("XDG_CONFIG_HOME", here.dir.path().join("config")).timeout(support::DEADLINE);
        command.output().unwrap().status.code().unwrap()
    };
    let (good, bad): (&str, &str) = (&here.url, &nowhere);

    assert_eq!(code("bad", &["--server", good], &[("CONFHOT_SERVER", bad), ("NATS_URL", bad)]), 0);
    assert_eq!(code("good", &["--server", bad], &[("CONFHOT_SERVER", good), ("NATS_URL", good)]), 2);
    assert_eq!(code("bad", &[], &[("CONFHOT_SERVER", good), ("NATS_URL", bad)]), 0);
    assert_eq!(code("bad", &[], &[("CONFHOT_SERVER", ""), ("NATS_URL", good)]), 0);
    assert_eq!(code("good", &[], &[("NATS_URL", bad)]), 2);
    assert_eq!(code("good", &[], &[]), 0);
    assert_eq!(code("bad", &[], &[]), 2);
    assert_eq!(code("bad", &[], &[("NATS_CONTEXT", "good")]), 0);
    assert_eq!(code("bad", &["--context", "good"], &[("NATS_CONTEXT", "bad")]), 0);
    assert_eq!(code("good", &["--context", "bad"], &[("NATS_CONTEXT", "good")]), 2);
    // One of several servers is enough.
    assert_eq!(code("", &["--server", &format!("{bad},{good}")], &[]), 0);
    // And the bucket: a flag over the environment.
    assert_eq!(code("good", &["--bucket", "none"], &[]), 1);
}

#[test]
fn the_default_server_is_the_one_of_every_nats_client() {
    let mut command = support::confhot();
    let output = command.args(["keys", "--timeout", "2s"]).output().unwrap();

    // Whether or not somebody runs one here.
    let stderr = String::from_utf8(output.stderr).unwrap();
    let asked = stderr.contains("nats://127.0.0.1:4222") || output.status.code() != Some(2);
    assert!(asked, "{stderr}");
}

#[test]
fn a_context_that_is_not_there_is_trouble_that_names_the_nearest() {
    let here = Here::offline_only();
    here.file("config/nats/context/production.json", "{}");
    let mut command = support::confhot();
    command.args(["keys", "--context", "prodution"]).env("XDG_CONFIG_HOME", here.dir.path().join("config"));

    assert_eq!(here.told(&mut command), "! error: there is no context `prodution`, but `production`\n= 2");
}

#[test]
fn colour_is_asked_for_or_not_there_and_never_in_json() {
    let here = Here::with(&["n = 1\n", "n = 2\n"]);
    let mut piped = here.command("diff service1");
    piped.env_remove("NO_COLOR").env("TERM", "xterm-256color");

    assert!(!here.told(&mut piped).contains('\u{1b}'));
    assert!(!here.run("diff service1 --color never").contains('\u{1b}'));
    // A flag wins over NO_COLOR, which the environment of these tests sets.
    assert_eq!(
        here.run("diff service1 --color always"),
        "\u{1b}[1m--- service1@1\u{1b}[0m\n\u{1b}[1m+++ service1@2\u{1b}[0m\n\u{1b}[36m@@ -1 +1 @@\u{1b}[0m\n\
         \u{1b}[31m-n = 1\u{1b}[0m\n\u{1b}[32m+n = 2\u{1b}[0m\n= 1"
    );
    for line in ["diff service1", "history service1", "keys", "get service1"] {
        let told = here.run(&format!("{line} --color always --format json"));
        assert!(!told.contains('\u{1b}'), "{line}: {told}");
    }
    assert!(here.run("keys --color always").starts_with("\u{1b}[1mKEY"));
    assert!(here.run("get absent --color always").starts_with("! \u{1b}[1m\u{1b}[31merror:\u{1b}[0m "));
}

#[test]
fn colour_of_auto_heeds_the_terminal_and_no_color() {
    let here = Here::with(&["n = 1\n", "n = 2\n"]);
    let on_a_terminal = |no_color: &str| {
        let line = format!("{} diff service1 --server {} --bucket {}", support::CONFHOT, here.url, here.bucket);
        let mut script = std::process::Command::new("script");
        script.args(["-qec", &line, "/dev/null"]).env("TERM", "xterm-256color").env("NO_COLOR", no_color);
        String::from_utf8(script.output().unwrap().stdout).unwrap()
    };

    assert!(on_a_terminal("").contains("\u{1b}[32m+n = 2"), "{}", on_a_terminal(""));
    assert!(!on_a_terminal("1").contains('\u{1b}'));
}

#[test]
fn what_others_wrote_reaches_text_without_its_control_characters() {
    let here = Here::new();
    let put = here
        .command("put service1 --as toml")
        .args(["--message", "evil\u{9b}2J \u{1b}]0;title\u{7}"])
        .env("LOGNAME", "jo\u{1b}[31m")
        .write_stdin("n = 1\n")
        .output()
        .unwrap();
    assert_eq!(put.status.code(), Some(0));

    for line in ["history service1", "delete service1", "diff service1", "get absent\u{1b}"] {
        let told = here.run(line);
        assert!(!told.chars().any(|c| c.is_control() && c != '\n'), "{line}: {told:?}");
    }
}

#[test]
fn quiet_leaves_the_answer_and_the_error() {
    let here = Here::with(&["n = 1\n"]);

    assert_eq!(here.run("get service1 -q"), "n = 1\n= 0");
    assert_eq!(
        here.run("get absent -q"),
        "! error: there is no key absent in the bucket BUCKET\n! hint: the nearest key is `service1`\n= 1"
    );
}

#[test]
fn what_cannot_be_meant_is_a_usage_error() {
    let here = Here::offline_only();
    for line in [
        "frobnicate",
        "get",
        "get two words",
        "get a..b",
        "get .a",
        "get service1 --revision latest",
        "get service1 --timeout 0s",
        "get service1 --timeout soon",
        "get service1 --format yaml",
        "put service1 --as ini",
        "put service1 --expect -1",
        "history service1 --limit few",
        "keys -q -v",
        "keys --creds a --nkey b",
        "keys --tls-cert a",
        "completions",
    ] {
        let told = here.run(line);
        assert!(told.starts_with("! error: ") && told.ends_with("\n= 2"), "{line}: {told}");
    }
    // No verb at all shows what there is.
    let told = here.told(&mut support::confhot());
    assert!(told.contains("Usage: confhot") && told.ends_with("\n= 2"), "{told}");
    // A bucket that cannot be called so is said before any key is.
    let here = Here::new();
    let mut command = support::confhot();
    command.args(["keys", "--server", &here.url, "--bucket", "a.b"]);
    assert_eq!(
        here.told(&mut command),
        "! error: `a.b` cannot be a bucket's name: it takes letters, digits, `-` and `_`\n= 2"
    );
}

#[test]
fn an_error_of_reading_is_trouble_and_not_an_answer() {
    let here = Here::with(&["n = 1\n"]);
    here.file("nats.creds", "no seed in here");
    here.file("service1.toml", [0xff]);

    let told = here.run("keys --creds missing.creds");
    assert!(told.starts_with("! error: cannot use missing.creds\n! caused by: ") && told.ends_with("= 2"), "{told}");
    let told = here.run("keys --creds nats.creds");
    assert!(told.starts_with("! error: cannot use nats.creds\n! caused by: ") && told.ends_with("= 2"), "{told}");
    // A document that is no text is invalid, which is an answer.
    let told = here.run("put service1 service1.toml");
    assert!(told.starts_with("! error: service1.toml:1:1: ") && told.ends_with("= 1"), "{told}");
    let told = here.run("put service1 .");
    assert!(told.starts_with("! error: cannot read .\n! caused by: ") && told.ends_with("= 2"), "{told}");
}
