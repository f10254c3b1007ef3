//! `--validate-with CMD`: the operator's own check of a document, before it is published.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use confhot::child;
use confhot::kv::Key;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::cli::duration;

/// What a verb takes that publishes or checks documents.
#[derive(Debug, clap::Args)]
pub(crate) struct ValidateWith {
    /// Your own check before a document is published: a shell command with the document on stdin, and CONFHOT_KEY and
    /// CONFHOT_PATH in its environment; it refuses by an exit code that is not 0, and what it says is the reason
    #[arg(long, value_name = "CMD")]
    validate_with: Option<String>,
    /// How long it may take; then it is killed, with its process group, and the document is refused
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    validate_timeout: Duration,
}

impl ValidateWith {
    /// The check, if one was asked for.
    pub(crate) fn check(self) -> anyhow::Result<Option<Check>> {
        let Some(command) = self.validate_with else { return Ok(None) };
        let guard = std::env::current_exe().context("cannot find this program")?;
        Ok(Some(Check { command, deadline: self.validate_timeout, guard }))
    }
}

/// A check of the operator's own.
#[derive(Debug, Clone)]
pub(crate) struct Check {
    command: String,
    deadline: Duration,
    /// This program, which ties what it starts to its own life.
    guard: PathBuf,
}

impl Check {
    /// How much of what it says is read, and how much of that is told, in bytes and characters.
    const READ: usize = 4 << 10;
    const TOLD: usize = 400;
    /// How long what was said last may take to arrive; a process that it left behind may hold the pipe for ever.
    const GRACE: Duration = Duration::from_millis(100);

    /// Asks about a document; an error is the reason to refuse it, in one line.
    pub(crate) async fn ask(&self, key: &Key, path: Option<&Path>, document: Bytes) -> Result<(), String> {
        let (status, said) = match timeout(self.deadline, self.run(key, path, document)).await {
            Ok(Ok((status, _))) if status.success() => return Ok(()),
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(format!("--validate-with cannot be run: {error}")),
            Err(_) => return Err(format!("--validate-with did not end within {:?}", self.deadline)),
        };
        Err(format!("--validate-with refuses it: {}", if said.is_empty() { status.to_string() } else { said }))
    }

    async fn run(&self, key: &Key, path: Option<&Path>, document: Bytes) -> io::Result<(ExitStatus, String)> {
        let mut command = child::guarded(Some(&self.guard), "sh");
        command.arg("-c").arg(&self.command).env("CONFHOT_KEY", key.as_str()).env("NO_COLOR", "1");
        match path {
            Some(path) => command.env("CONFHOT_PATH", path),
            None => command.env_remove("CONFHOT_PATH"),
        };
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = child::spawn_async(command)?;
        let mut group = Group(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)));
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (mut answer, mut complaint) = (Vec::new(), Vec::new());
        let status = {
            let feed = async {
                // Whoever does not read all of it may know enough.
                if let Some(mut stdin) = stdin {
                    let _ = stdin.write_all(&document).await;
                }
            };
            let talk = async { tokio::join!(feed, hear(stdout, &mut answer), hear(stderr, &mut complaint)) };
            tokio::pin!(talk);
            tokio::select! {
                biased;
                _ = &mut talk => child.wait().await,
                status = child.wait() => {
                    let _ = timeout(Self::GRACE, talk).await;
                    status
                }
            }
        }?;
        // Its process id may be another's from here on.
        group.0 = None;
        let said = [complaint, answer].into_iter().map(|said| in_one_line(&said)).find(|said| !said.is_empty());
        Ok((status, said.unwrap_or_default()))
    }
}

/// Reads to the end, and keeps the beginning.
async fn hear(pipe: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut pipe) = pipe else { return };
    let mut bytes = [0; 4 << 10];
    while let Ok(read @ 1..) = pipe.read(&mut bytes).await {
        kept.extend_from_slice(&bytes[..read.min(Check::READ - kept.len())]);
    }
}

fn in_one_line(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    let lines = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
    let mut line: String = lines.chars().map(|c| if c.is_control() { ' ' } else { c }).take(Check::TOLD).collect();
    if lines.chars().nth(Check::TOLD).is_some() {
        line.push('…');
    }
    line
}

/// Kills the process group unless it is told that its leader was waited for.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_check_says_is_one_line_of_bounded_length() {
        assert_eq!(in_one_line(b"  first\n\n\tsecond\x1b[0m \xff\r\n"), "first; second [0m \u{fffd}");
        assert_eq!(in_one_line(b"\n \n"), "");
        let long = in_one_line("é".repeat(1000).as_bytes());
        assert!(long.chars().count() == 401 && long.ends_with('…'), "{long}");
    }
}
