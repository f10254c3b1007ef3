//! A private nats-server: found, fetched and run, for `confhot dev` and for the tests.
//!
//! It listens on loopback alone, keeps its JetStream data and its config file in a directory that no second one may
//! use, and ends with this process however that ends (see [`child`]). Everything here blocks, for
//! milliseconds except where a server is fetched; async callers go through `spawn_blocking`.

mod find;

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde::Deserialize;

pub use self::find::{
    FetchError, FindError, Found, PINNED, Passed, Pin, Search, Unusable, Version, Wheel, fetch, find, pips,
};
use crate::child;

/// A start takes some 10 ms; this is for a machine that is very busy, or for much data to recover.
const START_DEADLINE: Duration = Duration::from_secs(30);
/// A stop takes 1 ms when idle.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// The lock of a process that was just killed is freed when the kernel is done with its server.
const LOCK_DEADLINE: Duration = Duration::from_secs(2);

/// How a private server runs.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Settings {
    /// Keeps the config file, the lock, and the JetStream data (in `jetstream/`). Made if missing.
    pub data_dir: PathBuf,
    /// On loopback; `None` takes a free one.
    pub port: Option<u16>,
    /// Whether each write is on disk before it is acknowledged. Else the server syncs every two minutes, and a crash of
    /// the machine may lose what was acknowledged.
    pub sync_always: bool,
    /// Gets the server's output, appended; by default `nats-server.log` in `data_dir`.
    pub log: Option<PathBuf>,
    /// Appended to the config file, in nats-server's own format.
    pub extra: String,
    /// The confhot binary, which ties the server to this process; see [`child::guarded`].
    pub guard: Option<PathBuf>,
}

impl Settings {
    /// With the data in `data_dir`, a free port, no guard, and each write synced.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        let data_dir = data_dir.into();
        Self { data_dir, port: None, sync_always: true, log: None, extra: String::new(), guard: None }
    }
}

/// Why a server did not start. None is then running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Another server, of this or another process, uses the directory.
    #[error("{} is in use by another server", data_dir.display())]
    InUse {
        /// The directory of both.
        data_dir: PathBuf,
    },
    /// Something else listens on the port.
    #[error("port {port} of 127.0.0.1 is in use")]
    PortTaken {
        /// The port that was asked for.
        port: u16,
    },
    /// A file or directory that the server needs.
    #[error("cannot use {}", path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The program, or the guard before it, does not run at all.
    #[error("cannot run {}", program.display())]
    Spawn {
        /// What was to run.
        program: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It ended before it was ready: its log says why.
    #[error("nats-server ended with {status}: {log}")]
    Ended {
        /// How.
        status: ExitStatus,
        /// The last lines of its log.
        log: String,
    },
    /// It runs, but was not ready in time, and was killed.
    #[error("nats-server was not ready after {after:?}: {log}")]
    Deadline {
        /// How long it was waited for.
        after: Duration,
        /// The last lines of its log.
        log: String,
    },
}

/// A running server of our own. Dropping it kills it; [`stop`](Self::stop) is the clean way.
#[derive(Debug)]
pub struct Private {
    program: PathBuf,
    settings: Settings,
    /// Also the server's standard input: the lock is on what both share, so it is held for as long as either lives, and
    /// a server that was left behind where nothing ties it to its parent cannot meet a second one on its data.
    lock: File,
    child: Child,
    ports: Ports,
    port: u16,
}

/// The file that the server writes once it listens: `{"nats":["nats://127.0.0.1:41353"],"monitoring":[…]}`; with TLS,
/// `tls://…`.
#[derive(Debug, Deserialize)]
struct Ports {
    nats: Vec<String>,
    #[serde(default)]
    monitoring: Vec<String>,
}

impl Private {
    /// Starts the server and waits until it serves clients with JetStream on.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(program: impl Into<PathBuf>, settings: Settings) -> Result<Self, StartError> {
        let data_dir = &settings.data_dir;
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| StartError::File { path, source }
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(failed(data_dir))?;
        // The server changes no directory, but its config should mean the same wherever it is read.
        let settings = Settings { data_dir: fs::canonicalize(data_dir).map_err(failed(data_dir))?, ..settings };
        let lock = lock(&settings.data_dir)?;
        let program = program.into();
        let mut tries = 0;
        loop {
            tries += 1;
            let port = match settings.port {
                Some(port) => port,
                None => free_port().map_err(failed(Path::new("127.0.0.1")))?,
            };
            match launch(&program, &settings, port, &lock) {
                Ok((child, ports)) => return Ok(Self { program, settings, lock, child, ports, port }),
                // Somebody else took the free one in between; there are others.
                Err(StartError::PortTaken { .. }) if settings.port.is_none() && tries < 5 => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Starts it again, on the same port and data, after it has ended; one that still runs is stopped first.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn restart(&mut self) -> Result<(), StartError> {
        self.stop().map_err(|source| StartError::Spawn { program: self.program.clone(), source })?;
        (self.child, self.ports) = launch(&self.program, &self.settings, self.port, &self.lock)?;
        Ok(())
    }

    /// For clients: `nats://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The address of the HTTP monitoring, if the extra lines of its config turn that on.
    pub fn monitoring_url(&self) -> Option<&str> {
        self.ports.monitoring.first().map(String::as_str)
    }

    /// On loopback; it stays the same over a restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's process, which is not there any more once it has ended.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where its data is, as an absolute path without symlinks.
    pub fn data_dir(&self) -> &Path {
        &self.settings.data_dir
    }

    /// Where its output goes.
    pub fn log(&self) -> PathBuf {
        log(&self.settings)
    }

    /// How it ended, if it did. A caller that wants to be told asks on each SIGCHLD.
    ///
    /// # Errors
    /// As [`Child::try_wait`].
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Stops it, cleanly if it can within 10 s; the data stays, and [`restart`](Self::restart) brings it back.
    ///
    /// # Errors
    /// As [`child::stop`].
    pub fn stop(&mut self) -> io::Result<ExitStatus> {
        child::stop(&mut self.child, STOP_GRACE)
    }

    /// Sends a signal: SIGKILL for a crash, SIGSTOP and SIGCONT for one that hangs, SIGHUP to read its config again.
    ///
    /// Returns at once except for SIGKILL, after which the process is gone.
    ///
    /// # Errors
    /// As `kill(2)`.
    pub fn signal(&mut self, signal: Signal) -> io::Result<()> {
        child::signal(&mut self.child, signal)?;
        if signal == Signal::KILL {
            self.child.wait()?;
        }
        Ok(())
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        // Both fail only for one that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A free port on loopback that no outgoing connection is ever given.
///
/// Systems take the ports of those from above 32768. A server there could find its port taken when it comes back, in
/// the worst case by a client that tries to reach it and so connects to itself.
///
/// # Errors
/// As [`TcpListener::bind`], where none of a hundred is free.
pub fn free_port() -> io::Result<u16> {
    let mut result = Err(io::ErrorKind::AddrInUse.into());
    for _ in 0..100 {
        let random = getrandom::u32().map_err(|error| io::Error::other(error.to_string()))?;
        let port = 10_240 + (random % (32_768 - 10_240)) as u16;
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => return Ok(port),
            Err(error) => result = Err(error),
        }
    }
    result
}

/// Takes the directory for one server.
fn lock(data_dir: &Path) -> Result<File, StartError> {
    let path = data_dir.join("lock");
    let failed = |source| StartError::File { path: path.clone(), source };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    let until = Instant::now() + LOCK_DEADLINE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(fs::TryLockError::Error(source)) => return Err(failed(source)),
            Err(fs::TryLockError::WouldBlock) if Instant::now() >= until => {
                return Err(StartError::InUse { data_dir: data_dir.to_owned() });
            }
            Err(fs::TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(10)),
        }
    }
}

fn log(settings: &Settings) -> PathBuf {
    settings.log.clone().unwrap_or_else(|| settings.data_dir.join("nats-server.log"))
}

/// Spawns the server and waits for it.
fn launch(program: &Path, settings: &Settings, port: u16, lock: &File) -> Result<(Child, Ports), StartError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| StartError::File { path, source }
    };
    // Says it more clearly than the server's log would, and only a race is left to that.
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(StartError::PortTaken { port }),
        _ => {}
    }
    // A server that was killed leaves its ports file, and process ids come around again.
    for file in fs::read_dir(&settings.data_dir).map_err(failed(&settings.data_dir))?.flatten() {
        if file.path().extension().is_some_and(|extension| extension == "ports") {
            fs::remove_file(file.path()).map_err(failed(&file.path()))?;
        }
    }
    let owner_only = |path: &Path, append: bool| {
        let mut options = OpenOptions::new();
        options.read(append).create(true).append(append).write(!append).truncate(!append).mode(0o600);
        options.open(path).map_err(failed(path))
    };
    let config = settings.data_dir.join("nats-server.conf");
    let text = config_text(settings, port).map_err(failed(&settings.data_dir))?;
    owner_only(&config, false)?.write_all(text.as_bytes()).map_err(failed(&config))?;
    let log_path = log(settings);
    let mut log = owner_only(&log_path, true)?;
    let log_start = log.seek(SeekFrom::End(0)).map_err(failed(&log_path))?;

    let unspawned = |source| StartError::Spawn { program: program.to_owned(), source };
    let mut command = child::guarded(settings.guard.as_deref(), program);
    command.arg("--config").arg(&config);
    command.stdin(lock.try_clone().map_err(unspawned)?);
    command.stdout(log.try_clone().map_err(unspawned)?).stderr(log.try_clone().map_err(unspawned)?);
    let mut child = child::spawn(command).map_err(unspawned)?;

    let until = Instant::now() + START_DEADLINE;
    let ended = loop {
        if let Some(ports) = ready(&settings.data_dir, child.id(), until) {
            return Ok((child, ports));
        }
        match child::wait(&mut child, Duration::from_millis(2)) {
            Ok(None) if Instant::now() < until => {}
            ended => break ended,
        }
    };
    let tail = tail(&mut log, log_start).unwrap_or_default();
    match ended.map_err(unspawned)? {
        // Somebody took the port between our look at it and the server's.
        Some(_) if tail.contains("address already in use") => Err(StartError::PortTaken { port }),
        Some(status) => Err(StartError::Ended { status, log: tail }),
        None => {
            child.kill().and_then(|()| child.wait()).map_err(unspawned)?;
            Err(StartError::Deadline { after: START_DEADLINE, log: tail })
        }
    }
}

fn config_text(settings: &Settings, port: u16) -> io::Result<String> {
    let Some(data_dir) = settings.data_dir.to_str() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "its name is not UTF-8"));
    };
    let data_dir = data_dir.replace('\\', r"\\").replace('"', "\\\"");
    let sync = if settings.sync_always { "\n  sync_interval: always" } else { "" };
    Ok(format!(
        "# Written by confhot at each start.\n\
         listen: \"127.0.0.1:{port}\"\n\
         ports_file_dir: \"{data_dir}\"\n\
         jetstream {{\n  store_dir: \"{data_dir}\"{sync}\n}}\n\
         {}\n",
        settings.extra
    ))
}

/// The ports of process `pid`, once it has written them and answers a client with JetStream on.
fn ready(data_dir: &Path, pid: u32, until: Instant) -> Option<Ports> {
    #[derive(Deserialize)]
    struct Info {
        #[serde(default)]
        jetstream: bool,
    }
    // The name begins with the program's own, which need not be "nats-server".
    let suffix = format!("_{pid}.ports");
    let file =
        fs::read_dir(data_dir).ok()?.flatten().find(|file| file.file_name().to_string_lossy().ends_with(&suffix))?;
    // It is not written at once (`WriteFile`), so what does not parse is looked at again.
    let ports: Ports = serde_json::from_slice(&fs::read(file.path()).ok()?).ok()?;
    let address: SocketAddr = ports.nats.first()?.split_once("://")?.1.parse().ok()?;
    let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    let client = TcpStream::connect_timeout(&address, left).ok()?;
    client.set_read_timeout(Some(left)).ok()?;
    let mut line = String::new();
    BufReader::new(client.take(64 * 1024)).read_line(&mut line).ok()?;
    let info: Info = serde_json::from_str(line.strip_prefix("INFO ")?).ok()?;
    info.jetstream.then_some(ports)
}

/// The last lines that were logged after `start`: those of errors, if there are any.
fn tail(log: &mut File, start: u64) -> io::Result<String> {
    log.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    log.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let errors: Vec<&str> = lines.iter().copied().filter(|l| l.contains("[ERR]") || l.contains("[FTL]")).collect();
    let said = if errors.is_empty() { lines } else { errors };
    Ok(said[said.len().saturating_sub(5)..].join(" | "))
}
