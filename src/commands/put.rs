//! `confhot put`

mod set;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use confhot::checkout::Checkout;
use confhot::document::guard::{self, Extent, Suspicion};
use confhot::document::{Document, Format, ParseError};
use confhot::kv::{
    Bucket, BucketError, Description, Entry, Expect, Key, Operation, Provenance, PublishError, Revision, Settings,
    Write, Writer,
};
use confhot::wait::{Target, Verdict};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::check::ValidateWith;
use super::revision::Which;
use super::signing::SignWith;
use super::{Marks, No, Outcome, Session, document_of, format_of, judge, previous_format, read, shown, wait};
use wait::Waiting;

/// Publish one document
///
/// It is parsed first, in the format that --as names, else the file's extension, else that of the key's previous
/// document, else the first of JSON, TOML, YAML in which it is valid. A document that is invalid, or that the schema
/// refuses which the bucket carries for it, is not published. Bytes equal to the head's make no revision. The bucket is
/// made if there is none.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  confhot put service1 service1.toml --message 'more connections'
  confhot get service1 | sed s/8080/9090/ | confhot put service1
  confhot put service1 service1.toml --expect 42    # only if nobody changed it since
  confhot put service1 service1.toml --expect 0     # only if it has no value
  confhot put service1 service1.toml --wait 30s --rollback-on-reject
  confhot put --set service1.toml billing/    # all of them as one change set, or none
  confhot put service1 service1.toml --sign ops.nk

Without --expect the last writer wins. With --sign, equal bytes without a signature that
counts are published again.

With --wait, it returns when every instance that was live when the document was stored has applied exactly that
revision; with 1 on the first rejection, when something newer came, or when the time is over.

With --format json: {\"key\",\"revision\",\"unchanged\"}. `revision` is the new one, or the head's where nothing changed.
With --wait also {\"applied\":[instance],\"rejected\":[{\"instance\",\"reason\"}],\"missing\":[instance],\
\"left\":[instance],\"rolled_back_to\"}.
With --set: {\"set\":{\"id\",\"members\"},\"documents\":[{\"key\",\"revision\",\"unchanged\"}]}; `set` is null where fewer than two
changed. With --wait the lists are as those of `loader --once --wait`. It needs a server from 2.12 on.

Exit codes:
  0  stored, or unchanged
  1  invalid, refused by schema or guard, too large, or lost the race; with --wait, not every instance applied it
  2  trouble")]
pub(crate) struct Args {
    /// The key: `service1`, `billing.api`
    #[arg(required_unless_present = "set")]
    key: Option<Key>,
    /// The document; `-`, or none, is stdin
    #[arg(value_name = "FILE|-")]
    file: Option<PathBuf>,
    /// Publish these documents, and those in these directories, as one: all of them or none; their keys are their names
    #[arg(long, value_name = "DIR|FILE", num_args = 1.., conflicts_with_all = ["key", "file", "as", "expect"])]
    set: Vec<PathBuf>,
    /// With --set: read what symlinks lead to outside of these directories too
    #[arg(long, requires = "set")]
    follow_outside: bool,
    /// The document's format: toml, json or yaml
    #[arg(long = "as", value_name = "FORMAT")]
    r#as: Option<Format>,
    /// Compare and set: only if the key is at this revision, `43` or `@~1`; 0 means that it has no live value
    #[arg(long, value_name = "R")]
    expect: Option<Which>,
    /// Why, for the history
    #[arg(long, value_name = "TEXT")]
    message: Option<String>,
    /// Past a guard: publish a document that is empty or lost all its keys, or that grew tenfold and past 64 KiB
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    validate: ValidateWith,
    #[command(flatten)]
    signing: SignWith,
    #[command(flatten)]
    waiting: wait::Args,
    /// With --wait: where an instance rejects it, publish the last good revision again
    #[arg(long, requires = "wait")]
    rollback_on_reject: bool,
}

/// How often a race is run again where the last writer is to win.
const TRIES: usize = 8;

pub(crate) async fn run(session: &Session, mut args: Args) -> anyhow::Result<Outcome> {
    let Some(key) = args.key.take() else { return set::run(session, args).await };
    let file = args.file.unwrap_or_else(|| "-".into());
    let bytes = read(&file)?;
    let mut provenance = provenance(session, args.message);
    if file.as_os_str() != "-" {
        provenance.path = Some(file.display().to_string());
        let dir = file.parent().unwrap_or(Path::new(""));
        provenance.commit = Checkouts::default().commit_of(dir, &file, &bytes).await;
    }

    let signing = args.signing.read(session)?;
    let bucket = signing.on(session.bucket().await?);
    let expected = match args.expect {
        Some(Which::Number(number)) => Some(number.0),
        Some(back) => Some(back.resolve(&bucket, &key).await?.revision.0),
        None => None,
    };
    let mut head = head(&bucket, &key).await?;
    let format = match args.r#as.or_else(|| format_of(&file)) {
        None => before(&bucket, head.as_ref()).await?,
        known => known,
    };
    let invalid = |error| No::Invalid { document: shown(&file), error };
    let document = parse(bytes, format, args.force).map_err(invalid)?;
    if !key.is_own() {
        document.refuse_hidden().map_err(invalid)?;
    }
    judge(&bucket, &key, &document).await?.map_err(invalid)?;
    provenance.format = Some(document.format());

    let waiting = args.waiting.begin(&bucket, Some(&key)).await?.map(|waiting| (waiting, args.rollback_on_reject));
    let mut check = args.validate.check()?;
    let mut tries = 0;
    // The bucket, once it was looked at.
    let mut found = None;
    loop {
        tries += 1;
        let expect = expect(&key, head.as_ref(), expected)?;
        if let Some(head) = &head
            && head.operation == Operation::Put
            && head.value == document.bytes()
            && bucket.is_signed(head)
        {
            let target = Target { key, revision: head.revision, digest: document.digest() };
            return told(session, &bucket, target, None, waiting).await;
        }
        if !args.force
            && let Some(suspicion) = suspicion(&bucket, head.as_ref(), &document).await?
        {
            return Err(No::Suspicious { document: shown(&file), suspicion }.into());
        }
        // Once: what it is asked about stays the same.
        if let Some(check) = check.take() {
            let path = (file.as_os_str() != "-").then_some(file.as_path());
            if let Err(reason) = check.ask(&key, path, document.bytes().clone()).await {
                // It may quote what the schema marks.
                let marked = Marks::read(session, &bucket, &key).await.mark(document);
                return Err(No::Refused { document: shown(&file), reason: marked.hide(&reason) }.into());
            }
        }
        if head.is_none() {
            found = Some(bucket.ensure(&Settings::default()).await?);
        }
        let bytes = document.bytes().clone();
        let write = Write::put(key.clone(), bytes, document.digest(), provenance.clone(), expect);
        match bucket.publish(&write).await {
            Ok(published) => {
                // What instances tell in is lost in a restart of the server, and made by whoever publishes next.
                let asked = match (&waiting, &found) {
                    (None, _) => bucket.ensure(&Settings::default()).await.ok(),
                    (Some(_), None) => bucket.describe().await.ok(),
                    (Some(_), Some(_)) => None,
                };
                note_differences(session, &bucket, asked.or(found).as_ref());
                let text = format!("{key} is published at revision {}", published.revision);
                let target = Target { key, revision: published.revision, digest: document.digest() };
                return told(session, &bucket, target, Some(&text), waiting).await;
            }
            Err(PublishError::Conflict { .. }) if expected.is_none() && tries < TRIES => {}
            Err(error) => return Err(error.into()),
        }
        head = self::head(&bucket, &key).await?;
    }
}

/// Says where a bucket is not as confhot makes it, as the loader does.
fn note_differences(session: &Session, bucket: &Bucket, found: Option<&Description>) {
    let differences = found.map(|found| found.differences.join("; ")).unwrap_or_default();
    if !differences.is_empty() {
        session.out.note(&format!("bucket `{}` is used as it is, though {differences}", bucket.name()));
    }
}

/// Who publishes, when, and why.
fn provenance(session: &Session, message: Option<String>) -> Provenance {
    let mut provenance = Provenance::by(Writer::Put);
    provenance.read_at = Some(Timestamp::now());
    provenance.author = session.author();
    provenance.message = message;
    provenance
}

/// The checkouts that directories are in, each asked once.
#[derive(Default)]
struct Checkouts(BTreeMap<PathBuf, Option<Checkout>>);

impl Checkouts {
    /// The commit at HEAD, if the file at `path`, below `dir`, has exactly these bytes in it.
    async fn commit_of(&mut self, dir: &Path, path: &Path, bytes: &[u8]) -> Option<String> {
        if !self.0.contains_key(dir) {
            // Of a path that is a name alone.
            let here = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
            let checkout = Checkout::discover(here);
            if let Some(checkout) = &checkout
                && let Err(error) = checkout.refresh().await
            {
                tracing::debug!(%error, "no provenance from git");
            }
            self.0.insert(dir.to_owned(), checkout);
        }
        let below = path.strip_prefix(dir).unwrap_or(path);
        self.0.get(dir)?.as_ref()?.commit_of(below, bytes)
    }
}

/// What makes the document look like an accident beside the head; one that cannot be read has no keys.
async fn suspicion(
    bucket: &Bucket,
    head: Option<&Entry>,
    document: &Document,
) -> Result<Option<Suspicion>, BucketError> {
    let Some(head) = head.filter(|head| head.operation == Operation::Put) else { return Ok(None) };
    let keys = document_of(bucket, head).await?.map_or(0, |published| published.extent().keys);
    Ok(guard::suspicion(Extent { bytes: head.size, keys }, document.extent()))
}

/// The head, where a bucket that is yet to be made has none.
async fn head(bucket: &Bucket, key: &Key) -> Result<Option<Entry>, BucketError> {
    match bucket.head(key).await {
        Err(BucketError::Missing(_)) => Ok(None),
        head => head,
    }
}

/// How the key's previous document is written.
async fn before(bucket: &Bucket, head: Option<&Entry>) -> Result<Option<Format>, BucketError> {
    match head {
        None => Ok(None),
        Some(Entry { provenance: Provenance { format: Some(format), .. }, operation: Operation::Put, .. }) => {
            Ok(Some(*format))
        }
        Some(head) => Ok(previous_format(&bucket.history(&head.key).await?, Revision(u64::MAX))),
    }
}

fn parse(bytes: Bytes, format: Option<Format>, force: bool) -> Result<Document, ParseError> {
    match format {
        // Nothing tells an empty document's format; TOML is the one in which it is valid.
        None => Document::detect(bytes.clone()).or_else(|error| {
            if force && error.is_empty() { Document::parse_or_empty(bytes, Format::Toml) } else { Err(error) }
        }),
        Some(format) if force => Document::parse_or_empty(bytes, format),
        Some(format) => Document::parse(bytes, format),
    }
}

/// What the write builds on, if the head is as `--expect` says.
fn expect(key: &Key, head: Option<&Entry>, wanted: Option<u64>) -> Result<Expect, PublishError> {
    let live = head.filter(|head| head.operation == Operation::Put).map_or(0, |head| head.revision.0);
    let actual = head.map_or(0, |head| head.revision.0);
    match wanted {
        Some(expected) if expected != live && expected != actual => {
            Err(PublishError::Conflict { key: key.clone(), expected, actual: live })
        }
        _ => Ok(head.map_or(Expect::Never, |head| Expect::At(head.revision))),
    }
}

/// Tells what came of publishing a document: `stored` says it in text, none is that the head holds those bytes already.
pub(super) async fn told(
    session: &Session,
    bucket: &Bucket,
    target: Target,
    stored: Option<&str>,
    waiting: Option<(Waiting, bool)>,
) -> anyhow::Result<Outcome> {
    let out = &session.out;
    let Target { key, revision, .. } = &target;
    let mut answer = json!({ "key": key, "revision": revision, "unchanged": stored.is_none() });
    if !out.is_json() {
        match stored {
            Some(text) => out.line(text)?,
            None => out.line(&format!("{key} is unchanged at revision {revision}"))?,
        }
        out.flush()?;
    }
    let mut outcome = Outcome::Yes;
    if let Some((mut waiting, roll_back)) = waiting {
        let target = [target];
        let waited = waiting.applied(session, &target).await;
        outcome = wait::outcome(&waited);
        let mut back = None;
        wait::tell(session, &waited)?;
        // What nobody stored just now is nobody's to take back.
        if roll_back && stored.is_some() && waited.verdict == Verdict::Rejected {
            let gone = waiting.roll_back(session, bucket, &target, &wait::why(&waited)).await;
            back = gone.first().map(|(_, revision)| *revision);
        }
        if let Value::Object(answer) = &mut answer {
            answer.extend(wait::lists(&waited, wait::named));
            answer.insert("rolled_back_to".into(), json!(back));
        }
    }
    if out.is_json() {
        out.json(&answer)?;
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_document_needs_force_whatever_it_is_written_in() {
        for format in [None, Some(Format::Toml), Some(Format::Json), Some(Format::Yaml)] {
            assert!(parse(Bytes::from_static(b"\n"), format, false).is_err_and(|error| error.is_empty()), "{format:?}");
            assert!(parse(Bytes::from_static(b"\n"), format, true).is_ok(), "{format:?}");
            assert!(parse(Bytes::from_static(b"{"), format, true).is_err(), "{format:?}");
        }
    }
}
