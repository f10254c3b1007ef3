//! `confhot serve`: the sample service. It follows its key, swaps live, and tells what it did.

mod http;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use confhot::document::Document;
use confhot::kv::Key;
use confhot::live::{Event, Live, Rejection, StateDir};
use serde_json::{Value, json};

use super::{Outcome, Session};
use crate::output::{Output, milliseconds};

/// What a document means to the sample service: any document is good.
pub(crate) struct Settings {
    /// All of it, as `/config` shows it.
    pub(crate) shown: Value,
}

impl Settings {
    fn from_document(document: &Document) -> Result<Settings, Rejection> {
        Ok(Settings { shown: document.value().clone() })
    }
}

/// Subscribe to a key and swap to each new value live
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Events on stdout: applied, rejected, absent, removed, disconnected, connected.
A value that cannot be used is rejected with the reason, and the last good one serves on.

HTTP, with --http:
  /config   the live value and its revision
  /healthz  200 while the process runs
  /readyz   200 once a good value serves; what is degraded is a detail
  /metrics  Prometheus text

Examples:
  confhot serve --name service1
  confhot serve --name service2 --http 127.0.0.1:8082 --state-dir /var/lib/service2

Exit codes:
  0    stopped by SIGTERM or SIGINT
  2    could not start: usage, address in use, unusable state directory
  130  stopped by a second Ctrl-C")]
pub(crate) struct Args {
    /// Key to follow: the service's name
    #[arg(long, value_name = "NAME")]
    name: Key,
    /// Serve HTTP here; port 0 takes a free one
    #[arg(long, value_name = "ADDR")]
    http: Option<SocketAddr>,
    /// Keep the last good value here, and start on it while no server answers
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Name of this instance [default: host name and process id; with a state directory, the one kept there]
    #[arg(long, value_name = "ID")]
    instance: Option<String>,
}

pub(crate) async fn run(session: &Session, args: Args) -> anyhow::Result<Outcome> {
    let (output, shutdown) = (&session.out, session.shutdown.clone());
    let state_dir = args.state_dir.as_deref().map(StateDir::open).transpose()?;
    let fresh = || format!("{}-{}", session.environment.host, std::process::id());
    let instance = match (args.instance, &state_dir) {
        (Some(instance), _) => instance,
        (None, Some(state)) => state.instance(&fresh())?,
        (None, None) => fresh(),
    };
    // Before anything else: an address in use is a wrong start, not something to wait for.
    let listener = match args.http {
        Some(address) => Some(http::bind(address).await?),
        None => None,
    };
    let bucket = session.bucket_in_time().await?;

    let metrics = Arc::new(http::Metrics::new(&args.name, &instance));
    let (counted, told, key) = (metrics.clone(), output.clone(), args.name.clone());
    let mut builder = Live::made(&bucket, &args.name, |_, document| async move { Settings::from_document(&document) })
        .observe(move |event| {
            counted.count(event);
            tell(&told, &key, event);
        });
    if let Some(state) = state_dir {
        builder = builder.state_dir(state);
    }
    let live = builder.start();

    match listener {
        Some(listener) => {
            output.note(&format!("{} listens on http://{}", args.name, listener.local_addr()?));
            let page = http::Page { key: args.name, instance, value: live.reader(), metrics };
            http::serve(listener, page, shutdown).await?;
        }
        None => shutdown.cancelled().await,
    }
    drop(live);
    bucket.connection().clone().close().await;
    Ok(Outcome::Yes)
}

fn tell(output: &Output, key: &Key, event: &Event) {
    let (json, text) = match event {
        Event::Applied { revision, digest, from, latency, at } => {
            let ms = latency.map(milliseconds);
            let took = ms.map_or_else(String::new, |ms| format!(" in {ms} ms"));
            let from_text = if *from == confhot::live::Origin::State { " from the state directory" } else { "" };
            (
                json!({"event": "applied", "key": key, "revision": revision, "digest": digest, "from": from,
                       "ms": ms, "at": at.to_string()}),
                format!("{key} applied revision {revision}{from_text}{took}"),
            )
        }
        Event::Rejected { revision, digest, rejection, serving } => {
            let kept = serving.map_or("nothing serves".to_owned(), |serving| format!("revision {serving} serves on"));
            (
                json!({"event": "rejected", "key": key, "revision": revision, "digest": digest,
                       "kind": rejection.kind, "reason": rejection.reason, "serving": serving}),
                format!("{key} rejected revision {revision}: {}; {kept}", rejection.reason),
            )
        }
        Event::Absent => (json!({"event": "absent", "key": key}), format!("{key} has no value yet; waiting for one")),
        Event::Removed { revision } => (
            json!({"event": "removed", "key": key, "revision": revision}),
            format!("{key} was removed; the last value is kept"),
        ),
        Event::Connected => (json!({"event": "connected"}), format!("{key} connected")),
        Event::Disconnected(why) => (
            json!({"event": "disconnected", "reason": why}),
            format!("{key} disconnected{}", why.as_ref().map_or_else(String::new, |why| format!(": {why}"))),
        ),
        Event::Trouble(what) => return tracing::warn!("{key}: {what}"),
        _ => return,
    };
    output.tell(&json, &text);
}

/// How long requests may take to end when the service stops.
const DRAIN: Duration = Duration::from_secs(5);
