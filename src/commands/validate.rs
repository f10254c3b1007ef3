//! `confhot validate`

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use confhot::document::{Document, Format, ParseError, Role};
use confhot::kv::Key;
use confhot::schema::{Schema, Violation};
use serde::Serialize;
use serde_json::json;

use super::check::{Check, ValidateWith};
use super::{Outcome, Session, located};
use crate::output::plain;

/// Check documents without a server: what the loader would refuse
///
/// Directories are searched as the loader does: recursively, without dot directories, and only .toml, .json, .yaml and
/// .yml files that are not hidden. service1.schema.json is the JSON Schema (2020-12) of service1: it is checked as well,
/// and the document against it. Two files for one key are both invalid, as is an empty document.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  confhot validate configs
  confhot validate configs/service1.toml configs/service2.yaml

In text, a line an error: `path:line:column: reason`. A file that is named directly is checked as if its directory were \
the source: its key is its name, and the \
schema beside it is checked with it.

With --format json, a line a document: {\"path\",\"key\",\"valid\",\"errors\":[{\"line\",\"column\",\"at\",\"reason\"}]}.
`key` is null where the name gives none; `at` is the path in the document where it is known, else null.

Exit codes:
  0  all is valid, also where there is nothing to check
  1  something is invalid
  2  trouble: a path that is missing or cannot be read")]
pub(crate) struct Args {
    /// Files and directories
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Read what symlinks lead to outside of a directory too, as the loader does with this flag
    #[arg(long)]
    follow_outside: bool,
    #[command(flatten)]
    validate: ValidateWith,
}

/// A file to check, and the directory that its key is counted from.
pub(super) struct File {
    pub(super) path: PathBuf,
    pub(super) root: PathBuf,
    pub(super) key: Option<Key>,
    format: Option<Format>,
    errors: Vec<Problem>,
}

/// What is wrong with a file.
#[derive(Clone, Serialize)]
struct Problem {
    line: Option<u32>,
    column: Option<u32>,
    /// The path in the document.
    at: Option<String>,
    reason: String,
}

impl Problem {
    fn whole(reason: impl Into<String>) -> Problem {
        Problem { line: None, column: None, at: None, reason: reason.into() }
    }
}

impl From<Violation> for Problem {
    fn from(Violation { path, line, column, reason }: Violation) -> Problem {
        Problem { line, column, at: Some(path).filter(|path| !path.is_empty()), reason }
    }
}

impl From<ParseError> for Problem {
    fn from(ParseError { line, column, reason, .. }: ParseError) -> Problem {
        Problem { line, column, at: None, reason }
    }
}

pub(crate) async fn run(session: &Session, args: Args) -> anyhow::Result<Outcome> {
    let (files, unreadable) = check(&args.paths, args.follow_outside, args.validate.check()?.as_ref()).await;
    let checked = files.len() + unreadable.iter().filter(|(.., found)| *found).count();
    let mut invalid = 0;
    for (file, _) in &files {
        invalid += usize::from(!file.errors.is_empty());
        tell(session, file)?;
    }
    session.out.flush()?;
    let documents = if checked == 1 { "1 document".into() } else { format!("{checked} documents") };
    match (checked, invalid) {
        (0, _) if unreadable.is_empty() => session.out.note("there is no document to check"),
        (_, 0) => session.out.note(&format!("{documents}, none invalid")),
        _ => session.out.note(&format!("{documents}, {invalid} invalid")),
    }
    let mut trouble = unreadable.into_iter().map(cannot_read);
    let last = trouble.next_back();
    trouble.for_each(|error| session.out.error(&error, None));
    match last {
        Some(error) => Err(error),
        None if invalid > 0 => Ok(Outcome::No),
        None => Ok(Outcome::Yes),
    }
}

/// A path that could not be read, why, and whether it was found to be a document.
pub(super) type Unreadable = (PathBuf, io::Error, bool);

/// The error that a path is which could not be read.
pub(super) fn cannot_read((path, error, _): Unreadable) -> anyhow::Error {
    anyhow::Error::new(error).context(format!("cannot read {}", path.display()))
}

/// The documents and schemas at `paths`, what each holds, and what is wrong with it by all that can be said here: its
/// name, its syntax, the schema that lies with it, the operator's own check.
pub(super) async fn check(
    paths: &[PathBuf],
    outside: bool,
    check: Option<&Check>,
) -> (Vec<(File, Option<Document>)>, Vec<Unreadable>) {
    let mut files = Vec::new();
    let mut missed = Vec::new();
    for path in paths {
        search(path, outside, &mut files, &mut missed);
    }
    let mut unreadable: Vec<_> = missed.into_iter().map(|(path, error)| (path, error, false)).collect();
    claim(&mut files);
    let schemas = schemas(&mut files);
    let mut checked = Vec::new();
    for mut file in files {
        let document = match file.parsed() {
            Ok(document) => document,
            Err(error) => {
                unreadable.push((file.path, error, true));
                continue;
            }
        };
        if let Some(document) = &document {
            let schema = file.key.as_ref().and_then(|key| schemas.get(&(file.root.clone(), key.schema()?)));
            if file.key.as_ref().is_none_or(|key| !key.is_own()) {
                let hidden = document.find_hidden();
                file.errors.extend(hidden.map(|(at, error)| Problem { at, ..error.into() }));
            }
            file.errors.extend(schema.into_iter().flat_map(|schema| schema.check(document)).map(Problem::from));
            if let (Some(check), Some(key), []) = (check, &file.key, &file.errors[..])
                && !key.is_own()
            {
                let answer = check.ask(key, Some(&file.path), document.bytes().clone()).await;
                file.errors.extend(answer.err().map(|reason| {
                    // It may quote what the schema marks.
                    let marks = schema.map(|schema| schema.marks(document)).unwrap_or_default();
                    Problem::whole(document.clone().marked(marks).hide(&reason))
                }));
            }
        }
        checked.push((file, document));
    }
    (checked, unreadable)
}

impl File {
    /// What is wrong with it, a line each.
    pub(super) fn problems(&self) -> impl Iterator<Item = String> + '_ {
        self.errors.iter().map(|Problem { line, column, at, reason }| {
            let at = at.as_ref().map_or(String::new(), |at| format!("{at}: "));
            located(&self.path.display().to_string(), *line, *column, &format!("{at}{reason}"))
        })
    }

    /// What it holds, if that can be said; what is wrong with it is noted.
    fn parsed(&mut self) -> io::Result<Option<Document>> {
        let Some(format) = self.format else { return Ok(None) };
        // Nobody may ever write into a pipe.
        if !fs::metadata(&self.path)?.is_file() {
            self.errors.push(Problem::whole("cannot be read: not a regular file"));
            return Ok(None);
        }
        let parsed = Document::parse(fs::read(&self.path)?.into(), format);
        Ok(parsed.map_err(|error| self.errors.push(error.into())).ok())
    }
}

/// The schemas among the files, by directory and key.
fn schemas(files: &mut [File]) -> BTreeMap<(PathBuf, Key), Schema> {
    let mut schemas = BTreeMap::new();
    for file in files {
        let Some(key) = file.key.clone().filter(|key| key.described().is_some()) else { continue };
        // What cannot be read or parsed is told when its turn comes.
        let bytes = if file.path.is_file() { fs::read(&file.path).ok() } else { None };
        let Some(document) = bytes.and_then(|bytes| Document::parse(bytes.into(), Format::Json).ok()) else { continue };
        match Schema::of(&document) {
            Ok(schema) => drop(schemas.insert((file.root.clone(), key), schema)),
            Err(error) => file.errors.push(error.into()),
        }
    }
    schemas
}

fn tell(session: &Session, file: &File) -> anyhow::Result<()> {
    if session.out.is_json() {
        let path = file.path.display().to_string();
        let valid = file.errors.is_empty();
        return session.out.json(&json!({ "path": path, "key": file.key, "valid": valid, "errors": file.errors }));
    }
    file.problems().try_for_each(|problem| session.out.line(&plain(&problem)))
}

/// A path that could not be looked at, and why.
pub(super) type Missed = (PathBuf, io::Error);

/// The documents below `dir` that can be looked at, without the schemas, in the order of their names.
pub(super) fn documents(dir: &Path) -> Vec<(PathBuf, Format)> {
    found(dir, false).0
}

/// As [`documents`], with `outside` also where symlinks lead out of it; and what could not be looked at.
pub(super) fn found(dir: &Path, outside: bool) -> (Vec<(PathBuf, Format)>, Vec<Missed>) {
    let (mut files, mut unreadable) = (Vec::new(), Vec::new());
    search(dir, outside, &mut files, &mut unreadable);
    let document = |path: PathBuf| match Role::of(&path.file_name()?.to_string_lossy()) {
        Role::Document(format) => Some((path, format)),
        Role::Schema | Role::Ignored => None,
    };
    (files.into_iter().filter_map(|file| document(file.path)).collect(), unreadable)
}

/// Finds the documents at `path`, in the order of their names; with `outside` also where symlinks lead out of it.
fn search(path: &Path, outside: bool, files: &mut Vec<File>, unreadable: &mut Vec<(PathBuf, io::Error)>) {
    let within = if outside { None } else { fs::canonicalize(path).ok() };
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => descend(path, path, within.as_deref(), &mut Vec::new(), files, unreadable),
        Ok(_) => named(path, files),
        Err(error) => unreadable.push((path.to_owned(), error)),
    }
}

/// `above` are the directories that led here, as they really are: a symlink into one of them is a loop.
fn descend(
    root: &Path,
    dir: &Path,
    within: Option<&Path>,
    above: &mut Vec<PathBuf>,
    files: &mut Vec<File>,
    unreadable: &mut Vec<(PathBuf, io::Error)>,
) {
    let listed = fs::canonicalize(dir).and_then(|real| {
        let entries = fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
        Ok((real, entries))
    });
    let (real, mut entries) = match listed {
        Ok(listed) => listed,
        Err(error) => return unreadable.push((dir.to_owned(), error)),
    };
    if above.contains(&real) {
        return;
    }
    above.push(real);
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let role = Role::of(&name);
        match fs::metadata(&path) {
            Ok(found) if found.is_dir() && name.starts_with('.') => {}
            Ok(found) if (found.is_dir() || role != Role::Ignored) && leads_out(&path, within) => {
                let reason = "it leads out of the directory: --follow-outside follows such links";
                unreadable.push((path, io::Error::new(io::ErrorKind::PermissionDenied, reason)));
            }
            Ok(found) if found.is_dir() => descend(root, &path, within, above, files, unreadable),
            // One that is no regular file is refused when its turn comes.
            Ok(_) => files.extend(format(role).map(|format| document(root, path, format))),
            // What is no document may be a symlink to nowhere: editors lock files so.
            Err(error) if role != Role::Ignored => unreadable.push((path, error)),
            _ => {}
        }
    }
    above.pop();
}

fn leads_out(path: &Path, within: Option<&Path>) -> bool {
    let within = within.filter(|_| path.is_symlink());
    within.is_some_and(|within| !fs::canonicalize(path).is_ok_and(|to| to.starts_with(within)))
}

fn document(root: &Path, path: PathBuf, format: Format) -> File {
    let key = Key::from_path(path.strip_prefix(root).unwrap_or(&path));
    let errors = key.as_ref().err().map(|error| Problem::whole(error.to_string()));
    File { root: root.to_owned(), key: key.ok(), format: Some(format), errors: errors.into_iter().collect(), path }
}

/// How a file of this role is written, if it is one to check.
fn format(role: Role) -> Option<Format> {
    match role {
        Role::Document(format) => Some(format),
        Role::Schema => Some(Format::Json),
        Role::Ignored => None,
    }
}

/// A file that was named directly: a document whatever stands around it, with its schema; or a schema, or an error.
fn named(path: &Path, files: &mut Vec<File>) {
    let root = path.parent().unwrap_or(Path::new(""));
    let role = Role::of(&path.file_name().unwrap_or_default().to_string_lossy());
    let Some(format) = format(role) else {
        let errors = vec![Problem::whole("its name is not a document's: .toml, .json, .yaml, .yml, not hidden")];
        return files.push(File { root: root.to_owned(), path: path.to_owned(), key: None, format: None, errors });
    };
    files.push(document(root, path.to_owned(), format));
    let schema = path.with_extension("schema.json");
    if role != Role::Schema && schema.is_file() {
        files.push(document(root, schema, Format::Json));
    }
}

/// Files below one directory that have the same key are errors, and each names the others. One that was found twice,
/// by two PATHs, is one file.
fn claim(files: &mut Vec<File>) {
    let mut seen = BTreeSet::new();
    files.retain(|file| seen.insert((file.root.clone(), file.path.clone())));
    let mut claims: BTreeMap<(PathBuf, Key), Vec<usize>> = BTreeMap::new();
    for (index, file) in files.iter().enumerate() {
        if let Some(key) = &file.key {
            claims.entry((file.root.clone(), key.clone())).or_default().push(index);
        }
    }
    for ((_, key), rivals) in claims {
        for &index in &rivals {
            for &other in rivals.iter().filter(|other| **other != index) {
                let reason = format!("{} has the key {key} as well", files[other].path.display());
                files[index].errors.push(Problem::whole(reason));
            }
        }
    }
}
