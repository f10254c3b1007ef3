//! `confhot demo-edit`: somebody who keeps saving, for a demo that runs by itself.

mod edit;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use confhot::document::Document;
use fastrand::Rng;
use serde_json::json;

use self::edit::{Edit, Page, What, database_of};
use super::{Outcome, Session, validate};
use crate::cli::duration;
use crate::output::{Output, value_without_passwords};

/// Edit a random document again and again, as a person would, to show what happens then
///
/// Each save changes one value and keeps comments and layout: the log level, a feature, or the database, which becomes one
/// that another of the documents names. The documents need `logging.level`, `features` and `database.url` for that, as
/// those in `configs` have them. When it is stopped, it puts back what it changed, except where somebody else has saved
/// since.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
With --faults every fourth save, or so, is a mistake: text that does not parse, an empty file, a database that does not
answer. The next save of that document mends it.

Events on stdout: ready, edited, broken (\"fault\": syntax, empty or unreachable), mended, restored.

Examples:
  confhot demo-edit --dir configs
  confhot demo-edit --dir configs --every 2s --faults
  confhot demo-edit --dir configs --seed 7           the same edits each time

Exit codes:
  0    stopped by SIGTERM or SIGINT
  2    could not start: unreadable directory
  130  stopped by a second Ctrl-C")]
pub(crate) struct Args {
    /// Directory of the documents
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Time between two edits
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = duration)]
    every: Duration,
    /// Edit as the run that said this seed did [default: a random one]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Make mistakes as well
    #[arg(long)]
    faults: bool,
}

pub(crate) async fn run(session: &Session, args: Args) -> anyhow::Result<Outcome> {
    let out = &session.out;
    fs::read_dir(&args.dir).with_context(|| format!("cannot read {}", args.dir.display()))?;
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let mut rng = Rng::with_seed(seed);
    let mut desk = Desk { dir: args.dir, drafts: BTreeMap::new(), databases: BTreeSet::new(), left: BTreeMap::new() };
    desk.look();
    let found = desk.drafts.len();
    out.tell(
        &json!({"event": "ready", "documents": found, "databases": desk.databases.len(), "seed": seed}),
        &format!("ready, {found} documents, {} databases, seed {seed}", desk.databases.len()),
    );
    loop {
        tokio::select! {
            biased;
            () = session.shutdown.cancelled() => break,
            () = tokio::time::sleep(args.every) => {}
        }
        desk.look();
        let pages: Vec<_> =
            desk.drafts.values().map(|draft| Page { good: &draft.good, at_fault: draft.at_fault }).collect();
        match edit::choose(&mut rng, &pages, &desk.databases, args.faults) {
            Some(edit) => {
                if let Err(error) = desk.carry_out(edit, out) {
                    tracing::warn!("{error:#}");
                }
            }
            None => tracing::debug!("there is nothing to edit in {}", desk.dir.display()),
        }
    }
    desk.restore(out);
    Ok(Outcome::Yes)
}

/// The documents that are being edited.
struct Desk {
    dir: PathBuf,
    drafts: BTreeMap<PathBuf, Draft>,
    /// Every database that was configured while this runs.
    databases: BTreeSet<String>,
    /// What was said of files that are left alone, so that it is said once.
    left: BTreeMap<PathBuf, String>,
}

/// One document, as it was and as it is.
struct Draft {
    /// As somebody else saved it last.
    original: Bytes,
    /// Its last content without a mistake of ours.
    good: Document,
    /// What was written here last; whatever else stands in the file is somebody else's.
    written: Option<Bytes>,
    /// Whether `written` is a mistake.
    at_fault: bool,
}

impl Desk {
    /// Takes note of what others saved, made and removed.
    fn look(&mut self) {
        let mut before = std::mem::take(&mut self.drafts);
        for (path, format) in validate::documents(&self.dir) {
            let read = fs::read(&path).map(Bytes::from).map_err(|error| error.to_string());
            if let (Ok(bytes), Some(draft)) = (&read, before.remove(&path))
                && draft.written.as_ref().unwrap_or(&draft.original) == bytes
            {
                self.drafts.insert(path, draft);
                continue;
            }
            let parsed = read.and_then(|bytes| Document::parse(bytes, format).map_err(|error| error.to_string()));
            match parsed {
                Ok(good) => {
                    self.databases.extend(database_of(&good).map(str::to_owned));
                    self.left.remove(&path);
                    let draft = Draft { original: good.bytes().clone(), good, written: None, at_fault: false };
                    self.drafts.insert(path, draft);
                }
                Err(why) if self.left.get(&path) != Some(&why) => {
                    tracing::warn!("{} is left alone: {why}", path.display());
                    self.left.insert(path, why);
                }
                Err(_) => {}
            }
        }
    }

    fn carry_out(&mut self, edit: Edit, out: &Output) -> anyhow::Result<()> {
        let Edit { which, bytes, what } = edit;
        let Some((path, draft)) = self.drafts.iter_mut().nth(which) else { return Ok(()) };
        save(path, &bytes)?;
        draft.written = Some(bytes.clone());
        draft.at_fault = matches!(what, What::Fault(_));
        if let What::Set { .. } = what {
            draft.good = Document::parse(bytes, draft.good.format())?;
        }
        let name = name(&self.dir, path);
        let (json, text) = match what {
            What::Set { at, before, after } => {
                let (before, after) = (value_without_passwords(&before), value_without_passwords(&after));
                let text = format!("{name}: {at} is {after}, was {before}");
                (json!({"event": "edited", "path": name, "at": at, "before": before, "after": after}), text)
            }
            What::Fault(fault) => {
                (json!({"event": "broken", "path": name, "fault": fault}), format!("{name}: {}", fault.text()))
            }
            What::Mended => (json!({"event": "mended", "path": name}), format!("{name}: mended")),
        };
        out.tell(&json, &text);
        Ok(())
    }

    /// Puts back what is still as it was written here.
    fn restore(self, out: &Output) {
        for (path, draft) in &self.drafts {
            let Some(written) = draft.written.as_ref().filter(|written| **written != draft.original) else { continue };
            // It may have been removed meanwhile, and then stays so.
            if !fs::read(path).is_ok_and(|bytes| bytes == *written) {
                continue;
            }
            let name = name(&self.dir, path);
            match save(path, &draft.original) {
                Ok(()) => out.tell(&json!({"event": "restored", "path": name}), &format!("{name}: put back as it was")),
                Err(error) => tracing::warn!("{error:#}"),
            }
        }
    }
}

fn name(dir: &Path, path: &Path) -> String {
    path.strip_prefix(dir).unwrap_or(path).display().to_string()
}

/// Saves as most editors do: a new file that is renamed over the old one, whose mode it keeps.
fn save(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let save = || -> io::Result<()> {
        let mut draft = tempfile::Builder::new().prefix(".demo-edit-").tempfile_in(path.parent().unwrap_or(path))?;
        draft.write_all(bytes)?;
        fs::set_permissions(draft.path(), fs::metadata(path)?.permissions())?;
        draft.persist(path)?;
        Ok(())
    };
    save().with_context(|| format!("cannot write {}", path.display()))
}
