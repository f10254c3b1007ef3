//! `confhot loader`: makes the bucket hold what a directory holds.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use confhot::kv::{Bucket, Settings};
use confhot::loader::{Check, Event, Loader, Options};
use indicatif::{ProgressBar, ProgressDrawTarget};
use serde_json::{Value, json};

use super::check::ValidateWith;
use super::signing::SignWith;
use super::wait::{self, Stood};
use super::{Outcome, Session};
use crate::cli::duration;
use crate::output::{Output, milliseconds};

/// Publish what a directory holds, then each change of it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
configs/service1.toml is key service1, configs/billing/api.yaml is billing.api. TOML, JSON and YAML.
A document that is not valid is refused with file, line and column; what was published last stays.
configs/service1.schema.json is the JSON Schema (2020-12) of service1, published as _schema.service1: a document that it
does not allow is refused as well. A removed schema stays in force until `confhot delete _schema.service1`.

Events on stdout: ready, published, unchanged, refused, removed, deleted, drift, disconnected, connected;
would_publish and would_delete with --dry-run.

Examples:
  confhot loader --dir configs
  confhot loader --dir configs --once              publish what differs and exit
  confhot loader --dir configs --dry-run           say what would be published
  confhot loader --dir configs --once --format json
  confhot loader --dir configs --once --wait 60s --rollback-on-reject
  confhot loader --dir configs --sign loader.nk    # `serve --trust` takes nothing else

With --sign, a file that equals the head is published all the same if that has no signature that counts.

With --wait, last on stdout: {\"event\":\"waited\"} with the lists applied, rejected, missing and left of
{\"key\",\"instance\"} (rejected ones with their reason), and unread and rolled_back of keys. It waits for every document
of the directory, also for those that this run found in their place. Keys that nobody reads fail nothing.

Exit codes:
  0    --once: the bucket holds what the directory holds; without it, stopped by SIGTERM or SIGINT
  1    --once: a file was refused or drift remains; with --wait, not every instance applied it;
       --dry-run: something would change, is refused or has drifted
  2    could not start, or with --once the server could not be reached
  130  stopped by a second Ctrl-C")]
pub(crate) struct Args {
    /// Directory of the documents
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Publish what differs, and exit
    #[arg(long)]
    once: bool,
    /// Write nothing, say what would be written; implies --once
    #[arg(long)]
    dry_run: bool,
    /// Delete the key of a file that is removed
    #[arg(long)]
    prune: bool,
    /// Prune more than a fifth of the keys at once
    #[arg(long)]
    yes: bool,
    /// Put the directory's content over what others wrote to its keys
    #[arg(long)]
    enforce: bool,
    /// Period of the sweep that finds what the kernel did not tell
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    poll: Duration,
    /// Copies that a new bucket has in a cluster
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=5))]
    replicas: u8,
    /// Take an empty file for an empty document, and with --prune an empty directory for a wish
    #[arg(long)]
    allow_empty: bool,
    /// Read what symlinks lead to outside of DIR too
    #[arg(long)]
    follow_outside: bool,
    /// Past a guard: publish a document that lost all its keys, or that grew tenfold and past 64 KiB
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    validate: ValidateWith,
    #[command(flatten)]
    signing: SignWith,
    #[command(flatten)]
    waiting: wait::Args,
    /// With --wait: where an instance rejects it, take back all that was published in this run
    #[arg(long, requires = "wait")]
    rollback_on_reject: bool,
}

/// A server that vanished without a word is noticed within 15 s.
const PING: Duration = Duration::from_secs(5);

pub(crate) async fn run(session: &Session, args: Args) -> anyhow::Result<Outcome> {
    let output = &session.out;
    let once = args.once || args.dry_run;
    anyhow::ensure!(args.waiting.wait.is_none() || args.once && !args.dry_run, "--wait goes with --once");
    let mut options = Options::new(&args.dir);
    options.settings = Settings { replicas: args.replicas.into() };
    options.prune = args.prune;
    options.prune_any = args.yes;
    options.enforce = args.enforce;
    options.allow_empty = args.allow_empty;
    options.follow_outside = args.follow_outside;
    options.force = args.force;
    options.check = args.validate.check()?.map(|check| {
        let dir = args.dir.clone();
        Check::new(move |key, path, document| {
            let (check, path) = (check.clone(), dir.join(path));
            async move { check.ask(&key, Some(&path), document.bytes().clone()).await }
        })
    });
    options.dry_run = args.dry_run;
    options.poll = args.poll;
    options.author = session.author();
    options.host.clone_from(&session.environment.host);
    // A wrong directory is said before a server is looked for.
    std::fs::read_dir(&args.dir).with_context(|| format!("cannot read {}", args.dir.display()))?;
    let signing = args.signing.read(session)?;
    let bucket = signing.on(if once { session.bucket().await? } else { session.bucket_in_time(PING).await? });
    let connection = bucket.connection().clone();
    let outcome = if once {
        let mut waiting = args.waiting.begin(&bucket, None).await?;
        let (mut tell, stood) = (teller(output), Left::default());
        let noted = stood.clone();
        let loader = Loader::open(bucket.clone(), options, move |event| {
            noted.note(event);
            tell(event);
        });
        let summary = loader.await?.once().await?;
        let changed = args.dry_run && summary.published + summary.deleted > 0;
        output.note(&format!(
            "{} {}, {} unchanged, {} refused, {} drifted",
            summary.published,
            if args.dry_run { "to publish" } else { "published" },
            summary.unchanged,
            summary.refused,
            summary.drifted
        ));
        let applied = match &mut waiting {
            Some(waiting) => stood.wait(session, &bucket, waiting, args.rollback_on_reject).await?,
            None => Outcome::Yes,
        };
        if changed || summary.refused + summary.drifted > 0 { Outcome::No } else { applied }
    } else {
        let (mut tell, awaits) = (teller(output), session.awaits(&connection));
        let observe = move |event: &Event| {
            tell(event);
            if let Event::Disconnected(_) = event {
                awaits();
            }
        };
        Loader::open(bucket, options, observe).await?.run(session.shutdown.clone()).await?;
        Outcome::Yes
    };
    connection.close().await;
    Ok(outcome)
}

/// Where a single sync left each key that has a file here: also what was there before this run is waited for.
#[derive(Clone, Default)]
struct Left(Arc<Mutex<Vec<Stood>>>);

impl Left {
    fn note(&self, event: &Event) {
        let stood = match event {
            Event::Published { key, revision, digest, .. } => Stood::new(key.clone(), *revision, *digest, true),
            Event::Unchanged { key, revision, digest, .. } => Stood::new(key.clone(), *revision, *digest, false),
            _ => return,
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(stood);
    }

    async fn wait(
        &self,
        session: &Session,
        bucket: &Bucket,
        waiting: &mut wait::Waiting,
        roll_back: bool,
    ) -> anyhow::Result<Outcome> {
        let stood = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (outcome, mut lists) = waiting.settle(session, bucket, &stood, roll_back).await?;
        if session.out.is_json() {
            lists.insert("event".into(), "waited".into());
            session.out.json(&lists)?;
        }
        Ok(outcome)
    }
}

/// Tells a loader's events, and shows the progress of a long first sync.
pub(crate) fn teller(output: &Output) -> impl FnMut(&Event) + Send + 'static {
    let output = output.clone();
    let mut progress: Option<(ProgressBar, Instant)> = None;
    let mut synced = false;
    move |event| {
        match event {
            Event::Syncing { files } => progress = output.progress(*files).map(|bar| (bar, Instant::now())),
            Event::Published { .. } | Event::Unchanged { .. } | Event::Refused { .. } | Event::Drift { .. } => {
                if let Some((bar, since)) = &progress {
                    bar.inc(1);
                    if bar.is_hidden() && since.elapsed() > Duration::from_secs(1) {
                        bar.set_draw_target(ProgressDrawTarget::stderr());
                    }
                }
            }
            Event::Ready { .. } => {
                synced = true;
                if let Some((bar, _)) = progress.take() {
                    bar.finish_and_clear();
                }
            }
            _ => {}
        }
        match told(event) {
            // What a start finds in its place is the rule: text tells the exceptions.
            Some(_) if matches!(event, Event::Unchanged { .. }) && !synced && !output.is_json() => {}
            // A line in the middle of a bar is lost in it.
            Some((json, text)) => match &progress {
                Some((bar, _)) => bar.suspend(|| output.tell(&json, &text)),
                None => output.tell(&json, &text),
            },
            None => {
                if let Event::Trouble(what) = event {
                    tracing::warn!("{what}");
                }
            }
        }
    }
}

/// An event as JSON and as a line of text.
fn told(event: &Event) -> Option<(Value, String)> {
    // JSON is UTF-8, which a path need not be.
    let shown = |path: &Path| path.display().to_string();
    Some(match event {
        Event::Ready { files } => (json!({"event": "ready", "files": files}), format!("ready, {files} documents")),
        Event::Published { key, revision, digest, path, set, took } => {
            let (ms, path) = (milliseconds(*took), shown(path));
            (
                json!({"event": "published", "key": key, "revision": revision, "digest": digest,
                       "path": path, "set": set, "ms": ms}),
                format!("{key} published as revision {revision} in {ms} ms ({path})"),
            )
        }
        Event::Unchanged { key, revision, digest, path } => (
            json!({"event": "unchanged", "key": key, "revision": revision, "digest": digest, "path": shown(path)}),
            format!("{key} is unchanged at revision {revision}"),
        ),
        Event::Refused { key, path, refusal } => {
            let path = path.as_deref().map(shown);
            let place = match (&path, refusal.line, refusal.column) {
                (Some(path), Some(line), Some(column)) => format!("{path}:{line}:{column}: "),
                (Some(path), Some(line), None) => format!("{path}:{line}: "),
                (Some(path), ..) => format!("{path}: "),
                (None, ..) => String::new(),
            };
            (
                json!({"event": "refused", "key": key, "path": path, "line": refusal.line,
                       "column": refusal.column, "reason": refusal.reason}),
                format!("refused: {place}{}", refusal.reason),
            )
        }
        Event::Removed { key } => {
            (json!({"event": "removed", "key": key}), format!("{key} has no file any more; its value is kept"))
        }
        Event::Deleted { key, revision } => (
            json!({"event": "deleted", "key": key, "revision": revision}),
            format!("{key} deleted at revision {revision}"),
        ),
        Event::Drift { key, revision, by } => {
            let who = by.as_ref().map_or("another client", |by| by.as_str());
            (
                json!({"event": "drift", "key": key, "revision": revision, "by": by}),
                format!("{key} drifted: revision {revision} was written by {who}; the file is not put over it"),
            )
        }
        Event::WouldPublish { key, over, digest, path } => (
            json!({"event": "would_publish", "key": key, "revision": over, "digest": digest, "path": shown(path)}),
            format!("{key} would be published ({})", shown(path)),
        ),
        Event::WouldDelete { key } => (json!({"event": "would_delete", "key": key}), format!("{key} would be deleted")),
        Event::Connected => (json!({"event": "connected"}), "connected".into()),
        Event::Disconnected(why) => (
            json!({"event": "disconnected", "reason": why}),
            format!("disconnected{}", why.as_ref().map_or_else(String::new, |why| format!(": {why}"))),
        ),
        _ => return None,
    })
}
