//! A real PostgreSQL: one that all tests share, each with databases of its own, and one for a test that stops it.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use confhot::{child, server};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use tokio_postgres::{Client, NoTls};

use super::{DEADLINE, eventually, own_dir};

/// A running server on loopback; stopped when dropped, and by the kernel when the tests end.
pub(crate) struct Postgres {
    child: Child,
    dir: PathBuf,
    port: u16,
}

/// The super user that the tests ask and order with. Its password is checked like everybody's.
const ADMIN: &str = "user=admin password=admin dbname=postgres host=127.0.0.1";

/// A backend, stopped where it is until it is dropped.
pub(crate) struct Frozen(Pid);

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::CONT);
    }
}

/// A database with an owner of the same name.
pub(crate) struct Database {
    pub(crate) name: String,
    pub(crate) url: String,
}

impl Postgres {
    pub(crate) fn shared() -> &'static Postgres {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(|| Postgres::start())
    }

    /// A server of one test.
    #[track_caller]
    pub(crate) fn start() -> Postgres {
        Postgres::with("", &[])
    }

    /// With further lines of its configuration, and files beside it.
    #[track_caller]
    pub(crate) fn with(settings: &str, files: &[(&str, String)]) -> Postgres {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        static PLACE: OnceLock<PathBuf> = OnceLock::new();
        // Not below `target`, which may be closed to the user that it runs as; and a socket's path must be short.
        let place = PLACE.get_or_init(|| own_dir(&std::env::temp_dir(), "confhot-postgres-"));
        let dir = place.join(COUNT.fetch_add(1, Ordering::Relaxed).to_string());
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("password"), "admin").unwrap();
        give(&dir);
        give(&dir.join("password"));
        let mut init = command(&dir, "initdb");
        init.args(["-D", "data", "-U", "admin", "--pwfile=password", "--auth=scram-sha-256", "--no-sync"]);
        init.args(["--encoding=UTF8", "--locale=C"]);
        let done = child::output(init, 3 * DEADLINE).unwrap();
        assert!(done.status.success(), "initdb: {}", String::from_utf8_lossy(&done.stderr));
        let config = format!(
            "listen_addresses = '127.0.0.1'\nunix_socket_directories = '{}'\nfsync = off\nsynchronous_commit = off\n\
             full_page_writes = off\nautovacuum = off\nshared_buffers = 16MB\nmax_connections = 100\n{settings}\n",
            dir.display(),
        );
        std::fs::write(dir.join("data/postgresql.conf"), config).unwrap();
        for (name, text) in files {
            let file = dir.join("data").join(name);
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
            give(&file);
        }
        let port = server::free_port().unwrap();
        Postgres { child: start(&dir, port), dir, port }
    }

    /// A fresh database, and a fresh user who owns it.
    pub(crate) async fn database(&self, password: &str) -> Database {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let name = format!("d{}", COUNT.fetch_add(1, Ordering::Relaxed));
        self.create(&name, password).await;
        Database { url: self.url(&name, password), name }
    }

    pub(crate) async fn create(&self, name: &str, password: &str) {
        let admin = self.admin().await;
        admin.batch_execute(&format!("create role {name} login password '{password}'")).await.unwrap();
        admin.batch_execute(&format!("create database {name} owner {name}")).await.unwrap();
    }

    pub(crate) fn url(&self, name: &str, password: &str) -> String {
        format!("postgres://{name}:{password}@127.0.0.1:{}/{name}", self.port)
    }

    pub(crate) async fn admin(&self) -> Client {
        let (client, connection) =
            tokio_postgres::connect(&format!("{ADMIN} port={}", self.port), NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// Process ids of the backends that serve a database, in order.
    pub(crate) async fn backends(&self, database: &str) -> Vec<i32> {
        let wanted = "select pid from pg_stat_activity where datname = $1 order by pid";
        let rows = self.admin().await.query(wanted, &[&database]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Stops the only backend of a database where it is.
    pub(crate) async fn freeze_backend(&self, database: &str) -> Frozen {
        let backends = self.backends(database).await;
        assert_eq!(backends.len(), 1, "{backends:?}");
        let pid = Pid::from_raw(backends[0]).unwrap();
        kill_process(pid, Signal::STOP).unwrap();
        let state = format!("/proc/{}/stat", backends[0]);
        eventually("the backend is stopped", DEADLINE, || {
            std::fs::read_to_string(&state).unwrap().rsplit_once(") ").unwrap().1.starts_with('T').then_some(())
        });
        Frozen(pid)
    }

    /// A fast shutdown: connections are ended, not waited for.
    pub(crate) fn stop(&mut self) {
        child::signal(&mut self.child, Signal::INT).unwrap();
        child::wait(&mut self.child, DEADLINE).unwrap().expect("PostgreSQL stops");
    }

    /// Back, on the same port and data.
    pub(crate) fn restart(&mut self) {
        self.child = start(&self.dir, self.port);
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // An immediate shutdown; it fails only for one that has ended.
        let _ = child::signal(&mut self.child, Signal::QUIT);
        if !matches!(child::wait(&mut self.child, DEADLINE), Ok(Some(_))) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

#[track_caller]
fn start(dir: &Path, port: u16) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(dir.join("log")).unwrap();
    let mut command = command(dir, "postgres");
    command.args(["-D", "data", "-p", &port.to_string()]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let mut child = child::spawn(command).unwrap();
    let log = || std::fs::read_to_string(dir.join("log")).unwrap_or_default();
    eventually("PostgreSQL is ready", 2 * DEADLINE, || {
        assert!(child.try_wait().unwrap().is_none(), "PostgreSQL ended:\n{}", log());
        // The eighth line of its lock file is its state (`miscadmin.h`).
        let state = std::fs::read_to_string(dir.join("data/postmaster.pid")).ok()?;
        (state.lines().nth(7)?.trim() == "ready").then_some(())
    });
    child
}

/// One of its programs, run in `dir` by a user that it agrees to: not root.
fn command(dir: &Path, program: &str) -> Command {
    let program = programs().join(program);
    let mut command = Command::new(&program);
    if cfg!(target_os = "linux") {
        command = Command::new("setpriv");
        // Not by confhot's guard: a change of user takes the death signal back (`prctl(2)`), and the guard's binary may
        // lie where that user may not go. An immediate shutdown, since a kill leaves its shared memory behind.
        command.args(["--pdeathsig", "QUIT"]);
        if let Some((uid, gid)) = user() {
            command.args([format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".into()]);
        }
        command.arg("--").arg(program);
    }
    command.current_dir(dir).env_remove("PGDATA").env_remove("PGPORT");
    command
}

/// Makes a file the server's own.
fn give(path: &Path) {
    if let Some((uid, gid)) = user() {
        chown(path, Some(uid), Some(gid)).unwrap();
    }
}

/// User and group that it runs as; none where the tests do not run as root.
fn user() -> Option<(u32, u32)> {
    if !geteuid().is_root() {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let user = |wanted: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(wanted))?;
        let mut numbers = line.split(':').skip(2).map_while(|number| number.parse().ok());
        Some((numbers.next()?, numbers.next()?))
    };
    Some(
        user("postgres")
            .or_else(|| user("nobody"))
            .expect("a user `postgres` or `nobody`, since it refuses to run as root"),
    )
}

/// Where its programs are. A test without them fails: it never passes by being skipped.
fn programs() -> PathBuf {
    let whole = |dir: &PathBuf| dir.join("initdb").is_file() && dir.join("postgres").is_file();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).find(whole).or_else(|| {
        // Debian keeps each major version in a directory of its own, off the PATH.
        let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
        let version = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
        let newest = versions.map(|entry| entry.path()).filter(|path| whole(&path.join("bin"))).max_by_key(version)?;
        Some(newest.join("bin"))
    });
    found.expect(
        "no PostgreSQL for the tests, neither on the PATH nor in /usr/lib/postgresql: install it \
         (apt-get install postgresql, dnf install postgresql-server, brew install postgresql)",
    )
}
