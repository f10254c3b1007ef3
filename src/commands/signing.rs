//! `--sign` and `--trust`: who signs what is published, and whose signatures count.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use confhot::kv::{Bucket, Entry, Key, Operation, Pattern, Revision, trusted};
use confhot::signature::{Distrust, InvalidKey, Signer, Trust};

use super::{No, Session};

/// What a verb takes that publishes.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(crate) struct SignWith {
    /// Sign what is published, with the nkey seed in this file
    #[arg(long, value_name = "FILE")]
    sign: Option<PathBuf>,
    /// With --sign: whose signatures count beside its own; public nkeys or files of them, separated by commas
    #[arg(long, value_name = "PUBLIC|FILE", requires = "sign", value_delimiter = ',')]
    trust: Vec<String>,
}

/// What a verb takes that reads, or serves.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(crate) struct Trusting {
    /// Whose signatures count: public nkeys or files of them, separated by commas
    #[arg(long, value_name = "PUBLIC|FILE", value_delimiter = ',')]
    trust: Vec<String>,
}

impl SignWith {
    /// What signs, if that was asked for. To be read before a server is looked for.
    pub(crate) fn read(&self, session: &Session) -> anyhow::Result<Signing> {
        let Some(path) = &self.sign else { return Ok(Signing(None)) };
        let (text, shared) = secret(path).with_context(|| format!("cannot read {}", path.display()))?;
        if shared {
            session.out.note(&format!("{} can be read by others: make it its owner's alone", path.display()));
        }
        let signer = Signer::parse(&text).with_context(|| format!("cannot sign with {}", path.display()))?;
        Ok(Signing(Some((signer, trust(&self.trust)?.unwrap_or_default()))))
    }
}

/// What signs.
pub(crate) struct Signing(Option<(Signer, Trust)>);

impl Signing {
    /// `bucket`, written with signatures if that was asked for.
    pub(crate) fn on(self, bucket: Bucket) -> Bucket {
        match self.0 {
            Some((signer, trust)) => bucket.signed_by(signer, trust),
            None => bucket,
        }
    }
}

impl Trusting {
    /// Whose signatures count; none where nothing was said, and then nothing need be signed.
    pub(crate) fn read(&self) -> anyhow::Result<Option<Trust>> {
        trust(&self.trust)
    }
}

fn trust(named: &[String]) -> anyhow::Result<Option<Trust>> {
    let mut all = None::<Trust>;
    for text in named {
        let trust = match Trust::parse(text) {
            Ok(trust) => trust,
            // A file of that name may be there, but nobody means it.
            Err(secret @ InvalidKey::Secret) => return Err(secret).context("--trust"),
            Err(error) => match std::fs::read_to_string(text) {
                Ok(keys) => Trust::parse(&keys).with_context(|| format!("cannot trust what is in {text}"))?,
                Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("--trust {text}: there is no such file, and as a key"));
                }
                Err(unreadable) => return Err(unreadable).with_context(|| format!("cannot read {text}")),
            },
        };
        all = Some(all.unwrap_or_default().and(trust));
    }
    Ok(all)
}

/// The text of a file that holds a secret, and whether others than its owner can read it.
fn secret(path: &Path) -> io::Result<(String, bool)> {
    use std::os::unix::fs::PermissionsExt as _;
    let mut file = std::fs::File::open(path)?;
    let shared = file.metadata()?.permissions().mode() & 0o077 != 0;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok((text, shared))
}

/// `history` without what must not come back by itself: where what is published is signed, a document that nobody signed
/// who counts would be signed with it. The head stays.
pub(super) fn may_come_back(bucket: &Bucket, history: Vec<Entry>) -> Vec<Entry> {
    let may =
        |index: usize| index == 0 || history[index].operation == Operation::Delete || bucket.vouches(&history, index);
    let keep: Vec<bool> = (0..history.len()).map(may).collect();
    history.into_iter().zip(keep).filter_map(|(entry, keep)| keep.then_some(entry)).collect()
}

/// Why `entry` is not trusted, if it is not.
pub(super) async fn distrust(bucket: &Bucket, trust: &Trust, entry: &Entry) -> anyhow::Result<Option<Distrust>> {
    let history = bucket.history(&entry.key).await?;
    let index = history.iter().position(|other| other.position() == entry.position());
    let judged = trusted::vouched(bucket.name(), trust, &history, index.unwrap_or(usize::MAX));
    Ok(judged.err())
}

/// The head of a key, and which of its retained documents are not trusted, and why.
pub(super) struct Distrusted {
    pub(super) head: Revision,
    pub(super) why: BTreeMap<Revision, Distrust>,
}

/// Judges every retained document of `key`, or of all keys.
pub(super) async fn distrusted(
    bucket: &Bucket,
    trust: &Trust,
    key: Option<&Key>,
) -> anyhow::Result<BTreeMap<Key, Distrusted>> {
    let mut keys: Vec<_> = key.cloned().into_iter().collect();
    if key.is_none() {
        bucket.each_head(&Pattern::all(), false, |entry| keys.push(entry.key)).await?;
    }
    let mut all = BTreeMap::new();
    for key in keys {
        let history = bucket.history(&key).await?;
        let Some(head) = history.first().map(|head| head.revision) else { continue };
        let judged = |(index, entry): (usize, &Entry)| {
            let why = trusted::vouched(bucket.name(), trust, &history, index).err()?;
            (entry.operation == Operation::Put).then_some((entry.revision, why))
        };
        let why = history.iter().enumerate().filter_map(judged).collect();
        all.insert(key, Distrusted { head, why });
    }
    Ok(all)
}

/// The answer of a verb that was to give what is trusted only.
pub(super) async fn require(bucket: &Bucket, trust: Option<&Trust>, entry: &Entry) -> anyhow::Result<()> {
    let Some(trust) = trust else { return Ok(()) };
    match distrust(bucket, trust, entry).await? {
        Some(distrust) => Err(No::Untrusted { key: entry.key.clone(), revision: entry.revision, distrust }.into()),
        None => Ok(()),
    }
}
