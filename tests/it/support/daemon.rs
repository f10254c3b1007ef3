//! A confhot that runs on: its events, its messages, its end.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use confhot::child;
use rustix::process::Signal;
use serde_json::Value;

use super::{CONFHOT, DEADLINE, clean};

/// A running `confhot …`; killed when dropped, and by the kernel if the tests are killed.
pub(crate) struct Daemon {
    child: Child,
    lines: Receiver<Value>,
    /// What [`wait_event`](Self::wait_event) has gone past, the event that it returned included.
    seen: Vec<Value>,
    stderr: Arc<Mutex<String>>,
    stderr_reader: Option<JoinHandle<()>>,
}

impl Daemon {
    /// `confhot ARGS…` in the clean environment of [`super::confhot`]. For events, `--format json` is among them.
    pub(crate) fn start(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        Self::with(args, |_| {})
    }

    /// As [`start`](Self::start), with a change of the command: its environment, its directory.
    pub(crate) fn with(args: impl IntoIterator<Item = impl AsRef<OsStr>>, change: impl FnOnce(&mut Command)) -> Self {
        Self::program(CONFHOT, args, change)
    }

    /// As [`with`](Self::with), by way of another program that becomes confhot.
    pub(crate) fn program(
        program: &str,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
        change: impl FnOnce(&mut Command),
    ) -> Self {
        let mut command = child::guarded(Some(Path::new(CONFHOT)), program);
        clean(&mut command);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        change(&mut command);
        let mut child = child::spawn(command).unwrap();

        let (sender, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
                if sender.send(value).is_err() {
                    break;
                }
            }
        });
        let stderr = Arc::new(Mutex::new(String::new()));
        let mut pipe = child.stderr.take().unwrap();
        let said = Arc::clone(&stderr);
        let stderr_reader = thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = pipe.read(&mut bytes) {
                said.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..n]));
            }
        });
        Self { child, lines, seen: Vec::new(), stderr, stderr_reader: Some(stderr_reader) }
    }

    /// The next line on stdout for which `wanted` is true, as JSON (a line of text is a JSON string). Panics with all
    /// that was said if there is none within `deadline`.
    #[track_caller]
    pub(crate) fn wait_event(&mut self, deadline: Duration, wanted: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + deadline;
        loop {
            let why = match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(event) => {
                    self.seen.push(event.clone());
                    if wanted(&event) {
                        return event;
                    }
                    continue;
                }
                Err(RecvTimeoutError::Timeout) => format!("not within {deadline:?}"),
                Err(RecvTimeoutError::Disconnected) => "stdout has ended".to_owned(),
            };
            panic!("no such event: {why}\nevents: {:#?}\nstderr:\n{}", self.seen, self.stderr());
        }
    }

    /// The next event of that name, within [`DEADLINE`].
    #[track_caller]
    pub(crate) fn event(&mut self, name: &str) -> Value {
        self.wait_event(DEADLINE, |event| event["event"] == name)
    }

    /// Every line on stdout until now, those that were waited for included.
    pub(crate) fn events(&mut self) -> &[Value] {
        self.seen.extend(self.lines.try_iter());
        &self.seen
    }

    /// What it wrote to stderr until now.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&mut self, signal: Signal) {
        child::signal(&mut self.child, signal).unwrap();
    }

    pub(crate) fn sigterm(&mut self) {
        self.signal(Signal::TERM);
    }

    /// Kills it, and returns when it is gone.
    pub(crate) fn kill9(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Its exit code, once it has ended of its own accord and said all; panics after [`DEADLINE`], or if a signal ended it.
    #[track_caller]
    pub(crate) fn wait_exit(&mut self) -> i32 {
        let ended = child::wait(&mut self.child, DEADLINE).unwrap();
        let status = ended.unwrap_or_else(|| panic!("still running after {DEADLINE:?}\nstderr:\n{}", self.stderr()));
        // Whoever asks for stderr next gets all of it.
        if let Some(reader) = self.stderr_reader.take() {
            reader.join().unwrap();
        }
        status.code().unwrap_or_else(|| panic!("{status}\nstderr:\n{}", self.stderr()))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Both fail only for one that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
