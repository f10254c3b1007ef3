//! What the tests stand on: servers ([`Server`], [`Cluster`], [`Postgres`]), the binary ([`confhot`], [`Daemon`]), a directory
//! with its bucket ([`Stage`]), and waiting.
//!
//! Everything here blocks. An async test that uses a client while it waits needs
//! `#[tokio::test(flavor = "multi_thread")]`.

mod daemon;
mod nats;
mod postgres;
mod stage;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub(crate) use self::daemon::Daemon;
pub(crate) use self::nats::{Cluster, Server, VERSIONS, binary, shared};
pub(crate) use self::postgres::{Database, Postgres};
pub(crate) use self::stage::{Stage, about, named};

/// The binary under test; also the guard of every child of these tests.
pub(crate) const CONFHOT: &str = env!("CARGO_BIN_EXE_confhot");

/// For waits that end at once on a good day; long enough for a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// The binary, to run to its end, in an environment that has nothing of this machine's but `PATH`.
pub(crate) fn confhot() -> assert_cmd::Command {
    let mut command = Command::new(CONFHOT);
    clean(&mut command);
    assert_cmd::Command::from_std(command)
}

/// A bucket's name that no other test has.
pub(crate) fn bucket() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(1);
    format!("t{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Asks until there is an answer; panics, saying what was waited for, after `deadline`.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, deadline: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + deadline;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < until, "not after {deadline:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Status and body of a GET; `None` where nobody answers.
pub(crate) fn http_get(url: &str) -> Option<(u16, String)> {
    let (host, path) = url.strip_prefix("http://")?.split_once('/')?;
    let mut stream = TcpStream::connect(host).ok()?;
    stream.set_read_timeout(Some(DEADLINE)).ok()?;
    write!(stream, "GET /{path} HTTP/1.0\r\nHost: {host}\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// A directory of this test process, with a home in it.
fn scratch() -> &'static Path {
    static SCRATCH: OnceLock<PathBuf> = OnceLock::new();
    SCRATCH.get_or_init(|| {
        let scratch = own_dir(Path::new(env!("CARGO_TARGET_TMPDIR")), "it-");
        std::fs::create_dir(scratch.join("home")).unwrap();
        scratch
    })
}

/// A directory of this test process, which is removed by a later one: what is in it may be in use to the very end.
fn own_dir(parent: &Path, prefix: &str) -> PathBuf {
    for old in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = old.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(prefix)?.parse().ok());
        let pid = pid.and_then(rustix::process::Pid::from_raw);
        if pid.is_some_and(|pid| rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH)) {
            let _ = std::fs::remove_dir_all(old.path());
        }
    }
    let own = parent.join(format!("{prefix}{}", std::process::id()));
    // A former process with this id had its own.
    let _ = std::fs::remove_dir_all(&own);
    std::fs::create_dir(&own).unwrap();
    own
}

fn clean(command: &mut Command) {
    let home = scratch().join("home");
    command.env_clear().env("HOME", &home).env("NO_COLOR", "1").env("TERM", "dumb");
    for (name, directory) in [("CONFIG", ".config"), ("CACHE", ".cache"), ("DATA", ".data"), ("STATE", ".state")] {
        command.env(format!("XDG_{name}_HOME"), home.join(directory));
    }
    for kept in ["PATH", "LLVM_PROFILE_FILE"] {
        if let Some(value) = std::env::var_os(kept) {
            command.env(kept, value);
        }
    }
}

/// The address of something that greets like a nats-server of `version`, answers pings, and says nothing else.
pub(crate) fn greeter(version: &str) -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let greeting = format!(
        "INFO {{\"server_id\":\"old\",\"server_name\":\"old\",\"version\":\"{version}\",\"go\":\"go1\",\"host\":\"127.0.0.1\",\
         \"port\":{},\"headers\":true,\"max_payload\":1048576,\"proto\":1,\"jetstream\":true}}\r\n",
        address.port()
    );
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let greeting = greeting.clone();
            std::thread::spawn(move || {
                let _ = stream.write_all(greeting.as_bytes());
                let mut bytes = [0; 1024];
                while let Ok(n @ 1..) = stream.read(&mut bytes) {
                    if bytes[..n].windows(4).any(|word| word == b"PING") && stream.write_all(b"PONG\r\n").is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}
