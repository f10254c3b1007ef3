//! `confhot export`

mod tree;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use confhot::document::{Format, Role};
use confhot::kv::{Entry, Key, Operation, Pattern};
use confhot::live;
use serde_json::json;

use self::tree::{Tree, WriteError};
use super::revision::Moment;
use super::{No, Outcome, Session, told_lost};
use crate::output::plain;

/// Write every document of the bucket to a directory, as the bucket was at one point in time
///
/// The files are as `confhot loader` reads them back: billing.api is billing/api.yaml, _schema.service1 is
/// service1.schema.json, each where it was when it was published if that is the same key. Nothing is written outside of
/// the directory, and no symlink in it is followed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  confhot export backup
  confhot export before --at 41                # as the bucket was at revision 41
  confhot export before --at 41 --format json > manifest
  confhot loader --dir before --once --enforce # back to it; keys that came later stay

A revision inside of a change set is refused: no reader of the set was ever there. A key of which nothing so old is \
retained (a bucket keeps 64 revisions of each key) is named, and the others are written all the same.

With --format json, a line a document: {\"key\",\"path\",\"revision\",\"at\",\"format\",\"digest\",\"size\",\"reason\"}. \
`at` is the revision of the whole; `path` is null where nothing was written, and `reason` says why.

Exit codes:
  0  the directory holds what the bucket held
  1  not all of it: a key is not retained or can be no file; never at that revision; DIR is not empty
  2  trouble")]
pub(crate) struct Args {
    /// The directory; made if it is not there
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// As the bucket was at this revision: `43`, or `@` for now
    #[arg(long, value_name = "REVISION", default_value = "@", hide_default_value = true)]
    at: Moment,
    /// Write to a directory that is not empty: replaces files of the same name, and leaves the others
    #[arg(long)]
    force: bool,
}

pub(crate) async fn run(session: &Session, args: Args) -> anyhow::Result<Outcome> {
    let Args { dir, at, force } = args;
    if !force && std::fs::read_dir(&dir).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(No::NotEmpty { dir }.into());
    }
    let bucket = session.bucket().await?;
    let past = bucket.past(&Pattern::all(), at.0).await?;
    let unwritable = || format!("cannot write to {}", dir.display());
    let tree = Tree::open(&dir).with_context(unwritable)?;

    let documents: Vec<_> = past.heads.values().filter(|entry| is_document(entry)).collect();
    let mut taken = Taken::default();
    let mut rows = Vec::new();
    let mut complete = told_lost(session, &past);
    if session.out.is_json() {
        for key in &past.lost {
            session.out.json(&json!({
                "key": key, "path": null, "revision": null, "at": past.at, "format": null, "digest": null,
                "size": null, "reason": "not retained",
            }))?;
        }
    }
    for entry in &documents {
        let format = entry.provenance.format.or_else(|| live::document_of(entry, None).ok().map(|it| it.format()));
        let path = match format.map(|format| taken.path(entry, format)) {
            Some(Some(path)) => Ok(path),
            Some(None) => Err("no file can have this key".to_owned()),
            None => Err("it is neither TOML nor JSON nor YAML".to_owned()),
        };
        let path = match path.map(|path| tree.write(&path, &entry.value).map(|()| path)) {
            Ok(Ok(path)) => Ok(path),
            Ok(Err(error @ WriteError::InTheWay(_))) => Err(error.to_string()),
            Ok(Err(WriteError::Io(error))) => return Err(error).with_context(unwritable),
            Err(reason) => Err(reason),
        };
        if let Err(reason) = &path {
            complete = false;
            session.out.note(&format!("{}@{} is not written: {reason}", entry.key, entry.revision));
        }
        if session.out.is_json() {
            session.out.json(&json!({
                "key": entry.key, "path": path.as_ref().ok(), "revision": entry.revision, "at": past.at,
                "format": format, "digest": entry.digest(), "size": entry.size, "reason": path.as_ref().err(),
            }))?;
        } else if let Ok(path) = path {
            let path = plain(&path.display().to_string()).into_owned();
            rows.push([entry.key.to_string(), entry.revision.to_string(), entry.size.to_string(), path]);
        }
    }
    if !session.out.is_json() {
        session.out.table(&["KEY", "REVISION", "SIZE", "PATH"], &rows)?;
        session.out.note(&format!("{} is in {} as it was at revision {}", bucket.name(), dir.display(), past.at));
    }
    Ok(if complete { Outcome::Yes } else { Outcome::No })
}

/// Whether a loader would publish it: documents and schemas, and nothing that confhot keeps for itself.
pub(super) fn is_document(entry: &Entry) -> bool {
    entry.operation == Operation::Put && (!entry.key.is_own() || entry.key.described().is_some())
}

/// The files and directories that are spoken for.
#[derive(Default)]
struct Taken {
    files: BTreeSet<PathBuf>,
    directories: BTreeSet<PathBuf>,
}

impl Taken {
    /// Where the loader would read `entry` from: where it came from, else a directory for each token, else one name.
    fn path(&mut self, entry: &Entry, format: Format) -> Option<PathBuf> {
        let (name, extension) = match entry.key.described() {
            Some(described) => (described.to_string(), "schema.json".to_owned()),
            None => (entry.key.to_string(), format.to_string()),
        };
        let came_from = entry.provenance.path.clone();
        let deep = format!("{}.{extension}", name.replace('.', "/"));
        let flat = format!("{name}.{extension}");
        let path = came_from
            .into_iter()
            .chain([deep, flat])
            .map(PathBuf::from)
            .find(|path| leads_back(path, &entry.key, format) && self.is_free(path))?;
        self.directories.extend(path.ancestors().skip(1).map(Path::to_owned));
        self.files.insert(path.clone());
        Some(path)
    }

    /// Whether neither it nor a directory on the way to it has the name of a file, nor it that of a directory.
    fn is_free(&self, path: &Path) -> bool {
        !self.directories.contains(path) && path.ancestors().all(|above| !self.files.contains(above))
    }
}

/// Whether a loader finds `key` in that `format` in a file at `path`.
fn leads_back(path: &Path, key: &Key, format: Format) -> bool {
    let role = path.file_name().and_then(|name| name.to_str()).map(Role::of);
    let told = match role {
        Some(Role::Document(told)) => told == format && key.described().is_none(),
        Some(Role::Schema) => key.described().is_some(),
        _ => false,
    };
    // The longest name that Linux's file systems take, 255 bytes.
    let fits = path.iter().all(|name| name.len() <= 255);
    told && fits && Key::from_path(path).is_ok_and(|found| found == *key)
}
