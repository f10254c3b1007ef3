//! Real servers: one for all tests of a version, one for a test that stops it, three in a cluster.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use confhot::server::{self, Found, PINNED, Pin, Private, Search, Settings, Version, Wheel};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, waitid};
use serde_json::Value;
use tempfile::TempDir;

use super::{CONFHOT, DEADLINE, eventually, http_get, scratch};

/// The releases that confhot promises to work with, oldest first; the last is the one that it fetches itself.
pub(crate) const VERSIONS: [&str; 3] = ["2.11.11", "2.12.8", "2.15.1"];

const OLDER: [Pin<'static>; 2] = [
    Pin {
        version: Version(2, 11, 11),
        wheels: &[
            Wheel {
                os: "linux",
                arch: "x86_64",
                tag: "manylinux_2_28_x86_64",
                sha256: "3fe621759c175bc29347ea636077d8ff1ca6408829db5906e4e5784bb17408d3",
            },
            Wheel {
                os: "linux",
                arch: "aarch64",
                tag: "manylinux_2_28_aarch64",
                sha256: "ef387da8fe367f6890c4e709f0f7efa916902136d4e7402b9eb73abf4e2ee38e",
            },
            Wheel {
                os: "macos",
                arch: "aarch64",
                tag: "macosx_12_0_arm64",
                sha256: "52c7fcf2c48480711800c3ba314106e6e10900056e673ae1d47e2bcaeb0cb282",
            },
        ],
    },
    Pin {
        version: Version(2, 12, 8),
        wheels: &[
            Wheel {
                os: "linux",
                arch: "x86_64",
                tag: "manylinux_2_28_x86_64",
                sha256: "a44100c5cff85f2eca9fe6ef18bb54bbe86ef12bf9a0c1cca9419fa41e75752d",
            },
            Wheel {
                os: "linux",
                arch: "aarch64",
                tag: "manylinux_2_28_aarch64",
                sha256: "3906e109710b9096b2c5ef6a9dc5a0872e7f941be8dc3c2a484129219525cf09",
            },
            Wheel {
                os: "macos",
                arch: "aarch64",
                tag: "macosx_12_0_arm64",
                sha256: "629c6f168d1d92d97e83fbd6f989fd8b8f743945fb76fa64118250d6d8729f4c",
            },
        ],
    },
];

/// Where the tests keep the servers that they fetch: `CONFHOT_TEST_CACHE`, else beside what cargo builds.
pub(crate) fn cache() -> PathBuf {
    std::env::var_os("CONFHOT_TEST_CACHE")
        .map_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("nats-server"), PathBuf::from)
}

/// The program of a version, fetched if need be. A test without its server fails: it never passes by being skipped.
#[track_caller]
pub(crate) fn binary(version: &str) -> PathBuf {
    static FOUND: Mutex<Option<HashMap<Version, PathBuf>>> = Mutex::new(None);
    let wanted = Version::parse(version).unwrap();
    // Held while it is fetched, so that the tests of this process fetch it once. A panic below leaves it as it was.
    let mut found = FOUND.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let found = found.get_or_insert_default();
    if let Some(program) = found.get(&wanted) {
        return program.clone();
    }
    let explicit = std::env::var_os("CONFHOT_NATS_SERVER").map(PathBuf::from);
    if let Some(path) = explicit {
        let search = Search { explicit: Some(path), ..Search::default() };
        match server::find(&search) {
            Ok(Found { program, version }) if version == wanted => {
                found.insert(wanted, program.clone());
                return program;
            }
            Ok(_) => {}
            Err(error) => panic!("CONFHOT_NATS_SERVER: {error}"),
        }
    }
    let pin = OLDER.iter().chain([&PINNED]).find(|pin| pin.version == wanted);
    let pin = pin.unwrap_or_else(|| panic!("nats-server {version} has no pin: add it to {}", file!()));
    let program = match server::fetch(pin, &cache(), &server::pips()) {
        Ok(found) => found.program,
        Err(error) => panic!(
            "no nats-server {version} for the tests: {error}\n\
             Give pip its index, or put the server at {}, or (for {} only) set CONFHOT_NATS_SERVER to it.",
            cache().join(format!("nats-server-{version}/nats-server")).display(),
            PINNED.version,
        ),
    };
    found.insert(wanted, program.clone());
    program
}

/// The server that all tests of a version share, each in a [`super::bucket`] of its own. It runs until this process ends.
#[track_caller]
pub(crate) fn shared(version: &str) -> &'static Server {
    static SHARED: [OnceLock<Server>; VERSIONS.len()] = [const { OnceLock::new() }; VERSIONS.len()];
    let index = VERSIONS.iter().position(|known| *known == version).expect("one of VERSIONS");
    SHARED[index].get_or_init(|| {
        let dir = tempfile::Builder::new().prefix(version).tempdir_in(scratch()).unwrap();
        Server::start_in(dir, version, |_| {})
    })
}

/// A server of one test; killed when dropped, and by the kernel if the tests are killed.
pub(crate) struct Server {
    private: Private,
    /// Removed after the server is gone: fields are dropped in order.
    _dir: TempDir,
}

impl Server {
    /// The release that confhot fetches itself.
    #[track_caller]
    pub(crate) fn start() -> Self {
        Self::version(VERSIONS[VERSIONS.len() - 1])
    }

    /// One of [`VERSIONS`].
    #[track_caller]
    pub(crate) fn version(version: &str) -> Self {
        Self::with(version, |_| {})
    }

    /// With other settings: `|settings| settings.extra = "max_payload: 4096".into()`. HTTP monitoring is on, and writes
    /// are synced.
    #[track_caller]
    pub(crate) fn with(version: &str, change: impl FnOnce(&mut Settings)) -> Self {
        Self::start_in(tempfile::tempdir_in(scratch()).unwrap(), version, change)
    }

    #[track_caller]
    fn start_in(dir: TempDir, version: &str, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::new(dir.path());
        settings.guard = Some(CONFHOT.into());
        change(&mut settings);
        settings.extra = format!("http: \"127.0.0.1:-1\"\n{}", settings.extra);
        let private = Private::start(binary(version), settings).unwrap_or_else(|error| panic!("{error}"));
        Self { private, _dir: dir }
    }

    pub(crate) fn url(&self) -> String {
        self.private.url()
    }

    pub(crate) fn port(&self) -> u16 {
        self.private.port()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.private.pid()
    }

    pub(crate) fn data_dir(&self) -> &Path {
        self.private.data_dir()
    }

    /// A page of its monitoring, such as `jsz?streams=true`; `None` while it is down.
    pub(crate) fn monitoring(&self, page: &str) -> Option<Value> {
        let (_, body) = http_get(&format!("{}/{page}", self.private.monitoring_url()?))?;
        serde_json::from_str(&body).ok()
    }

    /// A crash; returns when it is gone.
    pub(crate) fn kill9(&mut self) {
        self.private.signal(Signal::KILL).unwrap();
    }

    /// A clean stop.
    pub(crate) fn stop(&mut self) {
        let status = self.private.stop().unwrap();
        assert!(status.success(), "{status}");
    }

    /// Back, on the same port and data.
    #[track_caller]
    pub(crate) fn restart(&mut self) {
        self.private.restart().unwrap_or_else(|error| panic!("{error}"));
    }

    /// Connected, but silent, until [`thaw`](Self::thaw).
    pub(crate) fn freeze(&mut self) {
        self.private.signal(Signal::STOP).unwrap();
        // The signal is on its way when `kill` returns, and a busy server answers a client or two until it arrives.
        let pid = Pid::from_raw(self.pid().cast_signed()).unwrap();
        waitid(WaitId::Pid(pid), WaitIdOptions::STOPPED).unwrap();
    }

    pub(crate) fn thaw(&mut self) {
        self.private.signal(Signal::CONT).unwrap();
    }
}

/// Three servers on loopback that replicate streams among them.
pub(crate) struct Cluster {
    servers: Vec<Server>,
}

impl Cluster {
    /// Of the release that confhot fetches itself; ready for streams with three replicas.
    #[track_caller]
    pub(crate) fn three() -> Self {
        Self::version(VERSIONS[VERSIONS.len() - 1])
    }

    /// Of one of [`VERSIONS`].
    #[track_caller]
    pub(crate) fn version(version: &str) -> Self {
        let ports: Vec<u16> = (0..3).map(|_| server::free_port().unwrap()).collect();
        let routes: Vec<String> = ports.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
        let start = |(n, port): (usize, &u16)| {
            Server::with(version, |settings| {
                settings.extra = format!(
                    "server_name: n{n}\n\
                     cluster {{ name: c, listen: \"127.0.0.1:{port}\", routes: {routes:?}, no_advertise: true }}"
                );
            })
        };
        let cluster = Self { servers: ports.iter().enumerate().map(start).collect() };
        cluster.wait_ready(3);
        cluster
    }

    /// Waits until the metadata has a leader that `members` servers, itself included, are up to date with.
    #[track_caller]
    pub(crate) fn wait_ready(&self, members: usize) {
        eventually(&format!("a metadata leader with {members} members"), 2 * DEADLINE, || {
            self.servers.iter().enumerate().find(|(n, server)| {
                let meta = server.monitoring("jsz").unwrap_or_default()["meta_cluster"].take();
                let current = |peer: &&Value| peer["current"] == true && peer["offline"] != true;
                let followers = meta["replicas"].as_array().map_or(0, |peers| peers.iter().filter(current).count());
                meta["leader"] == format!("n{n}") && followers + 1 >= members
            })
        });
    }

    /// For clients: all three, separated by commas.
    pub(crate) fn urls(&self) -> String {
        self.servers.iter().map(Server::url).collect::<Vec<_>>().join(",")
    }

    /// One of the three, to ask, kill, freeze or restart.
    pub(crate) fn server(&mut self, n: usize) -> &mut Server {
        &mut self.servers[n]
    }

    /// Which of the three leads a stream (of a bucket: `KV_<bucket>`), once one does.
    #[track_caller]
    pub(crate) fn leader_of(&self, stream: &str) -> usize {
        eventually(&format!("a leader of {stream}"), 2 * DEADLINE, || {
            (0..self.servers.len()).find(|n| {
                // Each tells its own view; only the leader itself is believed.
                let jsz = self.servers[*n].monitoring("jsz?accounts=true&streams=true").unwrap_or_default();
                let accounts = jsz["account_details"].as_array().cloned().unwrap_or_default();
                let mut streams = accounts.iter().flat_map(|a| a["stream_detail"].as_array().into_iter().flatten());
                streams.any(|detail| detail["name"] == stream && detail["cluster"]["leader"] == format!("n{n}"))
            })
        })
    }
}
