//! A git checkout as the provenance of its files: which commit they are from, and who works in it.
//!
//! `git` is spawned by [`Checkout::refresh`] only. What a save needs is answered from what that kept and from git's own
//! small files (`HEAD`, refs), which are read as gitrepository-layout(5) describes them.

mod text;

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use arc_swap::ArcSwap;
use sha1::Digest as _;
use tokio::{
    process::Command,
    time::{Instant, sleep, timeout, timeout_at},
};

/// How long one refresh may take. A directory of 100,000 files takes about a tenth of a second.
const DEADLINE: Duration = Duration::from_secs(10);

/// Between two looks at HEAD while waiting for it to move.
const LOOK: Duration = Duration::from_millis(1);

/// What would point git at another repository than the one that was found. Set where confhot is started by a git hook.
const REDIRECTS: [&str; 6] =
    ["GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE"];

/// Why git told nothing. Then no file has a commit, and nobody is the author.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckoutError {
    /// There is no `git`, or it does not start.
    #[error("cannot run `{program}`")]
    Spawn {
        /// What was to be run.
        program: String,
        /// Why it was not.
        #[source]
        source: io::Error,
    },
    /// It ran and refused, most often because the checkout belongs to another user.
    #[error("git says: {reason}")]
    Refused {
        /// The first line of what it said.
        reason: String,
    },
    /// It did not end in time, and was killed.
    #[error("git did not answer within {} s", DEADLINE.as_secs())]
    TimedOut,
}

/// The git checkout around a directory.
#[derive(Debug)]
pub struct Checkout {
    dir: PathBuf,
    /// Of this worktree: holds HEAD and the index.
    git_dir: PathBuf,
    /// Of all worktrees of the repository: holds the refs.
    common_dir: PathBuf,
    /// The directory's path in the worktree.
    prefix: PathBuf,
    program: OsString,
    known: ArcSwap<Known>,
}

/// What the last refresh found.
#[derive(Debug, Default)]
struct Known {
    /// HEAD as [`Checkout::head_now`] told it before git was asked.
    seen: Option<String>,
    head: Option<Head>,
    author: Option<String>,
    remote: Option<String>,
}

#[derive(Debug)]
struct Head {
    commit: String,
    /// A mark for each file in the directory, sorted. Sixteen bytes instead of a path and an id: they are only ever
    /// compared, and there may be 100,000 of them.
    files: Vec<[u8; 16]>,
}

impl Checkout {
    /// The checkout around `dir`; `None` where there is none, or where it cannot be read.
    ///
    /// Knows no commit and no author until the first [`Checkout::refresh`].
    pub fn discover(dir: &Path) -> Option<Checkout> {
        let dir = fs::canonicalize(dir).ok()?;
        let (top, git_dir) = dir.ancestors().find_map(|parent| Some((parent, git_dir(&parent.join(".git"))?)))?;
        let prefix = dir.strip_prefix(top).ok()?.to_owned();
        let common_dir = match fs::read_to_string(git_dir.join("commondir")) {
            Ok(path) => git_dir.join(path.trim_end()),
            Err(_) => git_dir.clone(),
        };
        Some(Checkout { dir, git_dir, common_dir, prefix, program: "git".into(), known: ArcSwap::default() })
    }

    /// Runs `program` instead of the `git` on the path.
    #[must_use]
    pub fn with_program(self, program: impl Into<OsString>) -> Checkout {
        Checkout { program: program.into(), ..self }
    }

    /// The file that exists while a git operation changes the files of this checkout.
    pub fn index_lock(&self) -> PathBuf {
        self.git_dir.join("index.lock")
    }

    /// Asks git for the commit at HEAD, the files under the directory in it, and the configured author.
    ///
    /// Takes ten seconds at most, no locks, and never prompts. Cancelled, it kills git and keeps what was known.
    ///
    /// # Errors
    /// Git is missing, refuses, or does not answer; see [`CheckoutError`]. A repository without a commit is none.
    pub async fn refresh(&self) -> Result<(), CheckoutError> {
        // Read first: should HEAD move while git is asked, then the next look finds it moved.
        let seen = self.head_now();
        let ((head, config), outcome) = match timeout(DEADLINE, self.ask()).await {
            Ok(Ok(answer)) => (answer, Ok(())),
            Ok(Err(error)) => (Default::default(), Err(error)),
            Err(_) => (Default::default(), Err(CheckoutError::TimedOut)),
        };
        let (author, remote) = (text::author(&config), text::setting(&config, "remote.origin.url"));
        self.known.store(Known { seen, head, author, remote }.into());
        outcome
    }

    async fn ask(&self) -> Result<(Option<Head>, String), CheckoutError> {
        // Quiet and exit code 1 is how it says that there is no commit yet.
        let commit = match self.git(&["rev-parse", "--quiet", "--verify", "HEAD^{commit}"]).await? {
            output if output.status.success() => Some(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
            output if output.status.code() == Some(1) => None,
            output => return Err(refusal(&output)),
        };
        let head = match commit {
            None => None,
            Some(commit) => {
                // By id, so that the files are those of this commit even when HEAD moves between the two questions.
                let output = self.git(&["ls-tree", "-r", "-z", &commit]).await?;
                if !output.status.success() {
                    return Err(refusal(&output));
                }
                let mut files: Vec<_> = text::files(&output.stdout).map(|(path, id)| mark(path, id)).collect();
                files.sort_unstable();
                Some(Head { commit, files })
            }
        };
        // Exit code 1 says that none is set, and it is no reason to do without the commit.
        let config = self.git(&["config", "-z", "--get-regexp", r"^(user\.(name|email)|remote\.origin\.url)$"]).await?;
        Ok((head, String::from_utf8_lossy(&config.stdout).into_owned()))
    }

    async fn git(&self, arguments: &[&str]) -> Result<Output, CheckoutError> {
        let program = || self.program.to_string_lossy().into_owned();
        self.command(arguments).output().await.map_err(|source| CheckoutError::Spawn { program: program(), source })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("-C").arg(&self.dir).args(arguments).stdin(Stdio::null()).kill_on_drop(true);
        command.env("GIT_OPTIONAL_LOCKS", "0").env("GIT_TERMINAL_PROMPT", "0").env("GIT_NO_LAZY_FETCH", "1");
        for variable in REDIRECTS {
            command.env_remove(variable);
        }
        command
    }

    /// Waits for HEAD to move away from where the last refresh saw it, then refreshes; returns at the latest after
    /// `deadline`.
    ///
    /// `git checkout` and `git pull` move HEAD just after they let go of `index.lock`, so the files of a commit appear
    /// before the commit. A refresh that the deadline cut short is made up for by the next one.
    ///
    /// # Errors
    /// As [`Checkout::refresh`].
    pub async fn settle(&self, deadline: Duration) -> Result<(), CheckoutError> {
        let deadline = Instant::now() + deadline;
        while self.is_current() {
            if Instant::now() >= deadline {
                return Ok(());
            }
            sleep(LOOK).await;
        }
        timeout_at(deadline, self.refresh()).await.unwrap_or(Ok(()))
    }

    /// Whether HEAD is where the last refresh saw it.
    pub fn is_current(&self) -> bool {
        self.head_now() == self.known.load().seen
    }

    /// Which directory of which repository this is: the same in every clone of `origin`. `None` where there is no such
    /// remote. May hold what the remote's URL holds, a password among it.
    pub fn identity(&self) -> Option<String> {
        let remote = self.known.load().remote.clone()?;
        Some(format!("{remote}:{}", self.prefix.display()))
    }

    /// `user.name <user.email>` as git is configured for this checkout, or the one of both that is set.
    pub fn author(&self) -> Option<String> {
        self.known.load().author.clone()
    }

    /// The id of the commit at HEAD, if the file at `path` (relative to the directory) has exactly these bytes in it.
    ///
    /// `None` also where HEAD has moved since the last refresh, and where git converts the file on checkout (line ends,
    /// filters). Spawns nothing; reads two small files, and only once the bytes have turned out to be the same.
    pub fn commit_of(&self, path: &Path, bytes: &[u8]) -> Option<String> {
        let known = self.known.load();
        let head = known.head.as_ref()?;
        // The ids of a repository are of one kind: SHA-1, or SHA-256.
        let id = if head.commit.len() == 40 {
            blob_id(sha1::Sha1::new(), bytes)
        } else {
            blob_id(sha2::Sha256::new(), bytes)
        };
        head.files.binary_search(&mark(path.as_os_str().as_encoded_bytes(), id.as_bytes())).ok()?;
        (self.head_now().as_ref() == Some(&head.commit)).then(|| head.commit.clone())
    }

    /// The id of the commit at HEAD as git's own files have it at this moment; `None` where there is no commit, and where
    /// the refs are not kept in files (reftable).
    pub fn head_now(&self) -> Option<String> {
        let mut content = fs::read_to_string(self.git_dir.join("HEAD")).ok()?;
        // Git itself follows five.
        for _ in 0..5 {
            let Some(name) = text::referred(&content).map(str::to_owned) else { break };
            content = match fs::read_to_string(self.common_dir.join(&name)) {
                Ok(content) => content,
                Err(_) => self.packed(&name)?,
            };
        }
        text::id(&content).map(str::to_owned)
    }

    fn packed(&self, name: &str) -> Option<String> {
        let refs = fs::read_to_string(self.common_dir.join("packed-refs")).ok()?;
        text::packed(&refs, name).map(str::to_owned)
    }
}

/// The repository that a `.git` stands for: itself, or where it points (worktrees and submodules).
fn git_dir(dot_git: &Path) -> Option<PathBuf> {
    let git_dir = match fs::read_to_string(dot_git) {
        Ok(pointer) => dot_git.parent()?.join(text::pointed(&pointer)?),
        Err(_) => dot_git.to_owned(),
    };
    git_dir.join("HEAD").is_file().then_some(git_dir)
}

fn refusal(output: &Output) -> CheckoutError {
    let said = String::from_utf8_lossy(&output.stderr);
    let reason = said.lines().map(str::trim).find(|line| !line.is_empty());
    CheckoutError::Refused { reason: reason.map_or_else(|| output.status.to_string(), str::to_owned) }
}

/// What git calls a file of these bytes: the hash of a header and the bytes, in lower-case hex.
fn blob_id(mut hash: impl sha1::Digest, bytes: &[u8]) -> String {
    hash.update(format!("blob {}\0", bytes.len()));
    hash.update(bytes);
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble & 15)]);
    hash.finalize().iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

fn mark(path: &[u8], id: &[u8]) -> [u8; 16] {
    let hash = sha2::Sha256::new().chain_update(id).chain_update(path).finalize();
    std::array::from_fn(|at| hash[at])
}

#[cfg(test)]
mod tests;
