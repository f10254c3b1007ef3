//! The demo of `docker-compose.yml` in Docker, through the recipes of the justfile. Ignored unless asked for, because it
//! needs Docker: `just demo-test`. CI asks for it wherever Docker answers.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use confhot::child;
use confhot::document::{Document, Format};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{eventually, http_get};

/// An image is built in minutes where nothing is cached.
const BUILD: Duration = Duration::from_secs(20 * 60);
/// From the built image to a stack in which all is healthy.
const HEALTHY: Duration = Duration::from_secs(60);
/// For what takes milliseconds, and once a database is back as long as a service's pause between two attempts.
const SOON: Duration = Duration::from_secs(45);
/// What the image may weigh over its base, in bytes.
const IMAGE: u64 = 60_000_000;

const CONTAINERS: [&str; 9] =
    ["nats", "postgres1", "postgres2", "postgres3", "loader", "modifier", "service1", "service2", "service3"];
/// What has no health check: nobody can ask them anything.
const UNASKED: [&str; 2] = ["loader", "modifier"];
/// Each service with its own database, and the user of it.
const OWN: [(&str, &str); 3] = [("service1", "storefront"), ("service2", "billing"), ("service3", "search")];

/// A stack of its own: its own project, directory of documents and ports.
struct Stack {
    project: String,
    /// Holds `configs`, which belongs to an ordinary user where these tests are run by root.
    place: TempDir,
}

impl Stack {
    fn new() -> Stack {
        let place = tempfile::tempdir().unwrap();
        // A temporary directory is its owner's alone.
        std::fs::set_permissions(place.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let stack = Stack { project: format!("confhot-test-{}", std::process::id()), place };
        std::fs::create_dir(stack.configs()).unwrap();
        for file in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("configs")).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), stack.configs().join(file.file_name())).unwrap();
        }
        if rustix::process::getuid().is_root() {
            for path in stack.files().into_iter().chain([stack.configs()]) {
                std::os::unix::fs::chown(path, Some(4321), Some(4321)).unwrap();
            }
        }
        stack
    }

    fn configs(&self) -> PathBuf {
        self.place.path().join("configs")
    }

    fn files(&self) -> BTreeSet<PathBuf> {
        std::fs::read_dir(self.configs()).unwrap().map(|file| file.unwrap().path()).collect()
    }

    fn texts(&self) -> Vec<(PathBuf, String)> {
        self.files().into_iter().map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
    }

    /// Saves a document with `old` replaced, as an editor of its owner does.
    fn edit(&self, name: &str, old: &str, new: &str) {
        let path = self.configs().join(name);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.matches(old).count(), 1, "{old} in {text}");
        let draft = self.place.path().join("draft");
        std::fs::write(&draft, text.replace(old, new)).unwrap();
        if rustix::process::getuid().is_root() {
            std::os::unix::fs::chown(&draft, Some(4321), Some(4321)).unwrap();
        }
        std::fs::rename(draft, path).unwrap();
    }

    fn run(&self, program: &str, args: &[&str], deadline: Duration) -> Result<String, String> {
        let mut command = Command::new(program);
        command.args(args).current_dir(env!("CARGO_MANIFEST_DIR"));
        command.env("COMPOSE_PROJECT_NAME", &self.project);
        command.env("CONFHOT_CONFIGS", self.configs()).env("CONFHOT_EVERY", "2s");
        for port in ["CONFHOT_NATS_PORT", "CONFHOT_PORT1", "CONFHOT_PORT2", "CONFHOT_PORT3"] {
            command.env(port, "");
        }
        let said = child::output(command, deadline).map_err(|error| format!("{program} {args:?}: {error}"))?;
        let (stdout, stderr) = (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
        if said.status.success() {
            Ok(stdout.trim().to_owned())
        } else {
            Err(format!("{program} {args:?}: {}\n{stdout}{stderr}", said.status))
        }
    }

    #[track_caller]
    fn just(&self, args: &[&str], deadline: Duration) -> String {
        self.run("just", args, deadline).unwrap_or_else(|error| panic!("{error}"))
    }

    #[track_caller]
    fn docker(&self, args: &[&str]) -> String {
        self.run("docker", args, SOON).unwrap_or_else(|error| panic!("{error}"))
    }

    /// What Docker has of this project: containers, networks, volumes.
    fn left(&self) -> String {
        let label = format!("label=com.docker.compose.project={}", self.project);
        let of = |what: &str, format: &str| self.docker(&[what, "ls", "--quiet", "--filter", &label, format]);
        [of("container", "--all"), of("network", "--no-trunc"), of("volume", "--quiet")].concat()
    }

    /// The ID of a service's container.
    fn container(&self, service: &str) -> Option<String> {
        let project = format!("label=com.docker.compose.project={}", self.project);
        let service = format!("label=com.docker.compose.service={service}");
        let id = self.docker(&["container", "ls", "--all", "--quiet", "--filter", &project, "--filter", &service]);
        (!id.is_empty()).then_some(id)
    }

    /// `Ok` once the container runs and is healthy, else how it is.
    fn health(&self, service: &str) -> Result<(), String> {
        let Some(id) = self.container(service) else { return Err("there is none".into()) };
        let state = "{{.State.Status}} {{if .State.Health}}{{.State.Health.Status}}{{else}}unasked{{end}}";
        let state = self.docker(&["container", "inspect", "--format", state, &id]);
        let wanted = if UNASKED.contains(&service) { "running unasked" } else { "running healthy" };
        if state == wanted { Ok(()) } else { Err(state) }
    }

    /// Status and body of a page of a service.
    fn page(&self, service: &str, page: &str) -> Option<(u16, Value)> {
        let address = self.run("just", &["compose", "port", service, "8080"], SOON).ok()?;
        assert!(address.starts_with("127.0.0.1:"), "published beyond this machine: {address}");
        let (status, body) = http_get(&format!("http://{address}/{page}"))?;
        Some((status, serde_json::from_str(&body).unwrap_or(Value::String(body))))
    }

    /// The page, once it is answered with 200 and `wanted` is true of it.
    #[track_caller]
    fn wait(&self, what: &str, service: &str, page: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = None;
        let until = Instant::now() + SOON;
        loop {
            match self.page(service, page) {
                Some((200, body)) if wanted(&body) => return body,
                other => last = other.or(last),
            }
            assert!(Instant::now() < until, "not within {SOON:?}: {what}; {service}/{page} is {last:#?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until a service's database is `database`, with the same name as its user.
    #[track_caller]
    fn wait_database(&self, what: &str, service: &str, database: &str) {
        self.wait(what, service, "db", |db| db["database"] == database && db["user"] == database);
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let logs = self.run("just", &["compose", "logs", "--no-color", "--tail", "60"], SOON);
            eprintln!("{}", logs.unwrap_or_else(|error| error));
        }
        let down = self.run("just", &["compose", "down", "--volumes", "--remove-orphans"], 2 * HEALTHY);
        if let Err(error) = down {
            eprintln!("{error}");
        }
    }
}

/// What the schemas of Docker Compose 2 and of docker-compose 1.29 both have, as far as it is used.
#[test]
fn the_compose_file_has_only_what_both_generations_of_compose_read() {
    let text = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("docker-compose.yml")).unwrap();
    let file = Document::parse(text.into(), Format::Yaml).unwrap().into_value();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let strays = |value: &Value, known: &str| -> Vec<String> {
        let known: Vec<_> = known.split(' ').collect();
        keys(value).into_iter().filter(|key| !key.starts_with("x-") && !known.contains(&key.as_str())).collect()
    };

    assert_eq!(strays(&file, "services volumes"), [""; 0]);
    assert_eq!(keys(&file["services"]), CONTAINERS.map(str::to_owned).into());
    for (name, service) in file["services"].as_object().unwrap() {
        let known = "build cap_add cap_drop command depends_on entrypoint environment healthcheck hostname image logging ports \
                     read_only restart security_opt stop_grace_period stop_signal tmpfs user volumes";
        assert_eq!(strays(service, known), [""; 0], "{name}");
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(service["restart"], "unless-stopped", "{name}");
        if let Some(probe) = service.get("healthcheck") {
            // `start_interval` is of the newer one alone.
            assert_eq!(strays(probe, "interval retries test timeout"), [""; 0], "{name}");
        }
        for (needed, how) in service.get("depends_on").and_then(Value::as_object).into_iter().flatten() {
            assert!(file["services"].get(needed).is_some(), "{name} needs {needed}");
            let asked = if UNASKED.contains(&needed.as_str()) { "service_started" } else { "service_healthy" };
            assert_eq!(*how, json!({"condition": asked}), "{name} needs {needed}");
        }
        for port in service.get("ports").and_then(Value::as_array).into_iter().flatten() {
            assert!(port.as_str().unwrap().starts_with("127.0.0.1:"), "{name}: {port}");
        }
    }
}

#[test]
#[ignore = "needs Docker: just demo-test"]
fn the_demo_applies_edits_rejects_what_it_cannot_use_outlives_its_servers_and_leaves_nothing() {
    let stack = Stack::new();
    let before = stack.texts();
    stack.just(&["build"], BUILD);
    let size =
        |image: &str| -> u64 { stack.docker(&["image", "inspect", "--format", "{{.Size}}", image]).parse().unwrap() };
    let over = size("confhot:local") - size("debian:bookworm-slim");
    eprintln!("the image is {over} bytes over its base");
    assert!(over < IMAGE, "{over}");

    // Up, within a minute.
    let started = Instant::now();
    stack.just(&["up"], HEALTHY);
    for service in CONTAINERS {
        let mut last = String::new();
        while let Err(state) = stack.health(service) {
            assert!(started.elapsed() < HEALTHY, "{service} is {state}");
            last = state;
            std::thread::sleep(Duration::from_millis(200));
        }
        drop(last);
    }
    eprintln!("all healthy after {:?}", started.elapsed());

    // The modifier's edits arrive, and are gone when it stops.
    eventually("the modifier has edited", SOON, || {
        let logs = stack.run("just", &["compose", "logs", "--no-color", "modifier"], SOON).ok()?;
        (logs.contains(" is ") && logs.contains(", was ")).then_some(())
    });
    let edited =
        |service: &str| stack.page(service, "config").is_some_and(|(_, config)| config["revision"].as_u64() > Some(3));
    eventually("an edit is applied", SOON, || OWN.iter().any(|(service, _)| edited(service)).then_some(()));
    stack.just(&["compose", "stop", "modifier"], SOON);
    assert_eq!(stack.texts(), before, "the modifier puts back what it changed");

    // Each service runs what stands in its file, on its own database.
    for (service, own) in OWN {
        stack.wait_database("its own database", service, own);
        stack.wait("the newest", service, "config", |config| {
            config["revision"] == config["newest"] && config["rejected"].is_null()
        });
    }

    // An edit on the host is swapped in.
    stack.edit("service1.toml", "level = \"info\"", "level = \"debug\"");
    let config = stack.wait("the level", "service1", "config", |config| config["value"]["logging"]["level"] == "debug");
    let good = config["revision"].clone();

    // A document that does not parse is refused, and nothing happens to the service.
    stack.edit("service1.toml", "level = \"debug\"", "level = debug");
    eventually("it is refused", SOON, || {
        let logs = stack.run("just", &["compose", "logs", "--no-color", "loader"], SOON).ok()?;
        logs.contains("refused: service1.toml:").then_some(())
    });
    assert_eq!(stack.page("service1", "config").unwrap().1["revision"], good);
    stack.edit("service1.toml", "level = debug", "level = \"debug\"");

    // Without its database, what is new is rejected and what was good serves on, until the database is back.
    stack.just(&["compose", "stop", "postgres2"], SOON);
    stack.edit(
        "service1.toml",
        "storefront:storefront@postgres1:5432/storefront",
        "billing:billing@postgres2:5432/billing",
    );
    stack.edit("service2.yaml", "max_connections: 20", "max_connections: 21");
    for service in ["service1", "service2"] {
        let config = stack.wait("a rejection", service, "config", |config| config["rejected"]["kind"] == "unavailable");
        assert_ne!(config["revision"], config["newest"]);
        assert!(!config.to_string().contains("billing:billing"), "a password is shown: {config}");
        assert_eq!(stack.page(service, "readyz").unwrap().0, 200);
    }
    stack.wait_database("the old database", "service1", "storefront");
    stack.just(&["compose", "start", "postgres2"], SOON);
    stack.wait_database("the new database", "service1", "billing");
    let healed = |config: &Value| config["rejected"].is_null() && config["value"]["database"]["max_connections"] == 21;
    stack.wait("the new revision", "service2", "config", healed);

    // Without a server all serve on; what is saved meanwhile arrives when it is back, and no history is lost.
    let before = stack.page("service3", "config").unwrap().1["revision"].as_u64().unwrap();
    stack.just(&["compose", "kill", "nats"], SOON);
    stack.edit("service3.json", "\"index_batch_size\": 500", "\"index_batch_size\": 501");
    for (service, own) in [("service1", "billing"), ("service2", "billing"), ("service3", "search")] {
        stack.wait_database("it serves without a server", service, own);
    }
    stack.just(&["compose", "start", "nats"], SOON);
    let batch = |config: &Value| config["value"]["features"]["index_batch_size"] == json!(501);
    let after = stack.wait("what was saved meanwhile", "service3", "config", batch)["revision"].as_u64().unwrap();
    assert!(after > before, "{after} after {before}");

    // Down, and nothing left.
    let stopping = Instant::now();
    stack.just(&["down"], HEALTHY);
    eprintln!("down after {:?}", stopping.elapsed());
    assert!(stopping.elapsed() < Duration::from_secs(30), "{:?}", stopping.elapsed());
    stack.just(&["compose", "down", "--volumes"], HEALTHY);
    assert_eq!(stack.left(), "");
}
