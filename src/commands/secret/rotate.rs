//! `confhot secret rotate`: the tokens of a whole directory, encrypted anew.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use confhot::document::Document;
use confhot::secret::{self, Identities, Recipient};
use serde_json::json;

use super::super::{No, Outcome, Session, located, validate};

/// A file, and what it is to hold.
struct Draft {
    path: PathBuf,
    /// The file itself, where the path is a link.
    file: PathBuf,
    before: Vec<u8>,
    after: Vec<u8>,
    tokens: usize,
}

/// Reads and encrypts all of it first, so that what cannot be done is known before anything is written.
pub(super) fn run(session: &Session, dir: &Path, from: &Identities, to: &[Recipient]) -> anyhow::Result<Outcome> {
    let unreadable = |path: &Path| format!("cannot read {}", path.display());
    let (documents, missed) = validate::found(dir, true);
    if let Some((path, error)) = missed.into_iter().next() {
        return Err(error).with_context(|| unreadable(&path));
    }
    let root = fs::canonicalize(dir).with_context(|| unreadable(dir))?;
    let mut drafts: Vec<Draft> = Vec::new();
    let mut problems = Vec::new();
    for (path, format) in documents {
        let file = fs::canonicalize(&path).with_context(|| unreadable(&path))?;
        let before = fs::read(&file).with_context(|| unreadable(&path))?;
        let named = path.display().to_string();
        // What has no token need not be a document; two names of one file are one.
        if !before.windows(4).any(|window| window == b"ENC[") || drafts.iter().any(|draft| draft.file == file) {
            continue;
        }
        let document = match Document::parse_or_empty(before.clone().into(), format) {
            Ok(document) => document,
            Err(error) => {
                problems.push(located(&named, error.line, error.column, &error.reason));
                continue;
            }
        };
        match secret::rotate(&document, from, to) {
            Ok((_, 0)) => {}
            Ok(_) if !file.starts_with(&root) => problems.push(format!("{named}: leads out of {}", dir.display())),
            Ok((after, tokens)) => drafts.push(Draft { path, file, before, after, tokens }),
            Err(error) => problems.push(format!("{named}: {error}")),
        }
    }
    if let Some(last) = problems.pop() {
        problems.iter().for_each(|problem| session.out.error(&anyhow::anyhow!("{problem}"), None));
        return Err(No::Problem(last).into());
    }
    for (at, draft) in drafts.iter().enumerate() {
        if let Err(error) = replace(&draft.file, &draft.before, &draft.after) {
            let error = anyhow::Error::new(error).context(format!("cannot write {}", draft.path.display()));
            return Err(undo(&drafts[..at], error));
        }
    }
    for Draft { path, tokens, .. } in &drafts {
        let path = path.display().to_string();
        if session.out.is_json() {
            session.out.json(&json!({ "path": path, "tokens": tokens }))?;
        } else {
            let tokens = if *tokens == 1 { "1 token".into() } else { format!("{tokens} tokens") };
            session.out.line(&crate::output::plain(&format!("{path}: {tokens} encrypted anew")))?;
        }
    }
    if drafts.is_empty() {
        session.out.note("there is no token to encrypt anew");
    }
    Ok(Outcome::Yes)
}

/// Puts back what was replaced already.
fn undo(done: &[Draft], error: anyhow::Error) -> anyhow::Error {
    let failed = done.iter().filter(|draft| replace(&draft.file, &draft.after, &draft.before).is_err());
    let failed: Vec<_> = failed.map(|draft| draft.path.display().to_string()).collect();
    if failed.is_empty() {
        return error.context("no file was changed");
    }
    error.context(format!("encrypted anew all the same, and not put back: {}", failed.join(", ")))
}

/// Replaces a file as a whole, with its mode, if it holds what it held.
fn replace(file: &Path, before: &[u8], after: &[u8]) -> io::Result<()> {
    let parent = file.parent().unwrap_or(Path::new("."));
    let mut draft = tempfile::Builder::new().prefix(".confhot-").tempfile_in(parent)?;
    draft.write_all(after)?;
    draft.as_file().set_permissions(fs::metadata(file)?.permissions())?;
    draft.as_file().sync_all()?;
    if fs::read(file)? != before {
        return Err(io::Error::other("somebody changed it meanwhile"));
    }
    draft.persist(file)?;
    Ok(())
}
