//! The sample services of `confhot dev`: child processes, and what they say.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use confhot::child;
use confhot::kv::Key;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::GRACE;
use crate::commands::Session;
use crate::output::{Output, plain};

/// Told apart at a glance, and none of them red.
const COLOURS: [AnsiColor; 5] =
    [AnsiColor::Cyan, AnsiColor::Green, AnsiColor::Magenta, AnsiColor::Yellow, AnsiColor::Blue];

/// A service that ended by itself is started again after this.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Services {
    out: Output,
    program: PathBuf,
    url: String,
    bucket: String,
    most: usize,
    running: BTreeMap<Key, Child>,
    told_most: bool,
    lines: mpsc::Sender<Said>,
    said: mpsc::Receiver<Said>,
    readers: JoinSet<()>,
}

enum Said {
    Line {
        key: Key,
        line: String,
        answer: bool,
    },
    /// It said its last.
    Ended(Key),
    Again(Key),
}

impl Services {
    pub(super) fn new(session: &Session, program: PathBuf, url: String, bucket: String, most: usize) -> Services {
        let (lines, said) = mpsc::channel(256);
        Services {
            out: session.out.clone(),
            program,
            url,
            bucket,
            most,
            running: BTreeMap::new(),
            told_most: false,
            lines,
            said,
            readers: JoinSet::new(),
        }
    }

    /// Starts the service of `key` unless it runs.
    pub(super) fn want(&mut self, key: Key) {
        if self.running.contains_key(&key) {
            return;
        }
        if self.running.len() >= self.most {
            if !std::mem::replace(&mut self.told_most, true) {
                tracing::warn!("{} sample services run; the other documents get none (--services)", self.most);
            }
            return;
        }
        match self.start(&key) {
            Ok(child) => {
                self.running.insert(key, child);
            }
            Err(error) => tracing::warn!("cannot start a service for {key}: {error}"),
        }
    }

    fn start(&mut self, key: &Key) -> std::io::Result<Child> {
        let mut command = child::guarded(Some(&self.program), &self.program);
        command.args(["serve", "--name", key.as_str(), "--server", &self.url, "--bucket", &self.bucket]);
        // Documents name databases that are elsewhere, if anywhere.
        command.args(["--http", "127.0.0.1:0", "--without-database", "--color", "never"]);
        command.args(["--format", if self.out.is_json() { "json" } else { "text" }]);
        // Credentials for somebody else's server are none of this one's.
        let who = ["NATS_CONTEXT", "NATS_CREDS", "NATS_NKEY", "NATS_USER", "NATS_PASSWORD", "NATS_TOKEN"];
        for name in who.into_iter().chain(["NATS_CA", "NATS_CERT", "NATS_KEY"]) {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = child::spawn_async(command)?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (key, lines) = (key.clone(), self.lines.clone());
        self.readers.spawn(async move {
            tokio::join!(forward(&key, stdout, true, &lines), forward(&key, stderr, false, &lines));
            let _ = lines.send(Said::Ended(key)).await;
        });
        Ok(child)
    }

    /// Passes on the next thing that a service says. Cancel-safe.
    pub(super) async fn next(&mut self) {
        match self.said.recv().await {
            Some(Said::Line { key, line, answer }) => self.pass_on(&key, &line, answer),
            Some(Said::Ended(key)) => {
                if let Some(mut child) = self.running.remove(&key) {
                    let status = child::stop_async(&mut child, GRACE).await;
                    let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
                    tracing::warn!("{key} ended ({status}); starting it again");
                }
                let lines = self.lines.clone();
                self.readers.spawn(async move {
                    tokio::time::sleep(PAUSE).await;
                    let _ = lines.send(Said::Again(key)).await;
                });
            }
            Some(Said::Again(key)) => self.want(key),
            // The sender is held here.
            None => {}
        }
    }

    fn pass_on(&self, key: &Key, line: &str, answer: bool) {
        if self.out.is_json() && answer {
            let _ = self.out.bytes(format!("{line}\n").as_bytes()).and_then(|()| self.out.flush());
            return;
        }
        let position = self.running.keys().position(|running| running == key).unwrap_or(0);
        let style: Style = COLOURS[position % COLOURS.len()].on_default();
        let width = self.running.keys().map(|key| key.as_str().len()).max().unwrap_or(0);
        let name = self.out.paint(style, &format!("{:width$} |", key.as_str()));
        let text = line.strip_prefix(key.as_str()).map_or(line, str::trim_start);
        let text = format!("{name} {}", plain(text));
        if answer {
            let _ = self.out.line(&text).and_then(|()| self.out.flush());
        } else {
            self.out.painted_note(&text);
        }
    }

    /// Stops them all.
    pub(super) async fn stop(mut self) {
        self.readers.abort_all();
        let mut stopping = JoinSet::new();
        for (key, mut child) in std::mem::take(&mut self.running) {
            stopping.spawn(async move { (key, child::stop_async(&mut child, GRACE).await) });
        }
        while let Some(stopped) = stopping.join_next().await {
            if let Ok((key, Err(error))) = stopped {
                tracing::warn!("cannot stop {key}: {error}");
            }
        }
    }
}

async fn forward(key: &Key, pipe: Option<impl AsyncRead + Unpin>, answer: bool, lines: &mpsc::Sender<Said>) {
    let Some(pipe) = pipe else { return };
    let mut read = BufReader::new(pipe).lines();
    while let Ok(Some(line)) = read.next_line().await {
        if lines.send(Said::Line { key: key.clone(), line, answer }).await.is_err() {
            return;
        }
    }
}
