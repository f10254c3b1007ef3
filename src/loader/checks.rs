//! The operator's own check of a document before it is published, beside the loop: it may take its time, and only what
//! belongs to it waits.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::{BoxFuture, join_all};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{Candidate, Loader};
use crate::document::{Digest, Document};
use crate::kv::Key;

/// A check of the operator's own: given a document's key, its file relative to the directory, and the document. An error
/// refuses it, and is the reason.
///
/// It is asked once for each content of a file that would be published, several at a time. It has to end: until then the
/// file, and what changed together with it, is not published.
#[derive(Clone)]
pub struct Check(Arc<Asked>);

type Asked = dyn Fn(Key, PathBuf, Document) -> BoxFuture<'static, Result<(), String>> + Send + Sync;

impl Check {
    /// The check that `ask` makes.
    pub fn new<F, Answered>(ask: F) -> Check
    where
        F: Fn(Key, PathBuf, Document) -> Answered + Send + Sync + 'static,
        Answered: Future<Output = Result<(), String>> + Send + 'static,
    {
        Check(Arc::new(move |key, path, document| Box::pin(ask(key, path, document))))
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Check")
    }
}

/// Candidates that were checked, with what was said against each, and whether they changed together.
pub(super) struct Checked {
    candidates: Vec<(Candidate, Result<(), String>)>,
    together: bool,
}

/// The checks that are under way, and what passed.
#[derive(Debug)]
pub(super) struct Checks {
    check: Option<Check>,
    running: JoinSet<Checked>,
    /// How many may run at the same time.
    room: Arc<Semaphore>,
    /// By file: the content that is being checked, or that passed.
    known: HashMap<PathBuf, (Digest, bool)>,
}

impl fmt::Debug for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checked").field("together", &self.together).finish_non_exhaustive()
    }
}

impl Checks {
    /// Checks that run at the same time.
    const AT_ONCE: usize = 4;

    pub(super) fn new(check: Option<Check>) -> Checks {
        let room = Arc::new(Semaphore::new(Self::AT_ONCE));
        Checks { check, running: JoinSet::new(), room, known: HashMap::new() }
    }

    /// Whether a candidate may not be published before it was checked.
    pub(super) fn wants(&self, candidate: &Candidate) -> bool {
        self.check.is_some() && !candidate.key.is_own() && self.known(candidate) != Some(true)
    }

    fn known(&self, candidate: &Candidate) -> Option<bool> {
        let (digest, passed) = self.known.get(&candidate.path)?;
        (*digest == candidate.document.digest()).then_some(*passed)
    }

    /// Begins to check those of `candidates` that need it; all of them come back together. Those that are being checked
    /// already come back with theirs.
    fn start(&mut self, mut candidates: Vec<Candidate>, together: bool) {
        let Some(check) = self.check.clone() else { return };
        candidates.retain(|candidate| self.known(candidate) != Some(false));
        let mut answers = Vec::new();
        for candidate in candidates {
            let wanted = self.wants(&candidate);
            if wanted {
                self.known.insert(candidate.path.clone(), (candidate.document.digest(), false));
            }
            let (check, room) = (check.clone(), self.room.clone());
            answers.push(async move {
                if !wanted {
                    return (candidate, Ok(()));
                }
                // The semaphore is never closed.
                let _room = room.acquire().await;
                let answer = check.0(candidate.key.clone(), candidate.path.clone(), candidate.document.clone()).await;
                (candidate, answer)
            });
        }
        if !answers.is_empty() {
            self.running.spawn(async move { Checked { candidates: join_all(answers).await, together } });
        }
    }

    /// What was checked next; none where nothing is under way. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Checked> {
        match self.running.join_next().await? {
            Ok(checked) => Some(checked),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.running.len() >= Self::AT_ONCE
    }

    pub(super) fn forget(&mut self, path: &Path) {
        self.known.remove(path);
    }
}

impl Loader {
    /// Has `candidates` checked, beside the loop. They are published, those that pass, when all of them are.
    pub(super) fn check(&mut self, candidates: Vec<Candidate>, together: bool) {
        for candidate in &candidates {
            self.dirty.remove(&candidate.path);
        }
        self.checks.start(candidates, together);
    }

    /// Takes note of what was checked: refuses what did not pass, and gives the rest, as far as it is still what the
    /// files hold, and whether it changed together. It is in `dirty`, so that whoever ends early loses nothing.
    pub(super) fn passed(&mut self, checked: Checked) -> (Vec<Candidate>, bool) {
        let mut passed = Vec::new();
        let paths = checked.candidates.iter().map(|(candidate, _)| candidate.path.clone()).collect();
        self.join_set(paths, checked.together);
        for (candidate, answer) in checked.candidates {
            let digest = candidate.document.digest();
            let (key, path) = (candidate.key.clone(), candidate.path.clone());
            // Saved again since, or gone: what it holds now has its own check.
            if self.files.get(path.as_path()).is_none_or(|file| file.digest != Some(digest)) {
                continue;
            }
            match answer {
                Ok(()) => {
                    self.checks.known.insert(path.clone(), (digest, true));
                    self.dirty.insert(path, candidate.observed);
                    passed.push(candidate);
                }
                Err(reason) => {
                    self.checks.known.remove(&path);
                    // What the check says may quote what the schema marks as secret.
                    let marked = self.schemas.marked(&key, candidate.document);
                    self.refuse_because(Some(key), Some(&path), marked.hide(&reason));
                }
            }
        }
        (passed, checked.together)
    }
}
