//! `confhot serve`: the sample service. It follows its key, swaps live, and tells what it did.

mod database;
mod http;
mod metrics;
mod settings;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use confhot::document::Document;
use confhot::kv::{Instance, Key};
use confhot::live::{Event, Live, Rejection, Serving, StateDir};
use prometheus_client::metrics::gauge::Gauge;
use serde_json::json;

use self::database::Lease;
use self::metrics::Metrics;
use self::settings::Settings;
use super::secret::identities;
use super::signing::Trusting;
use super::{Outcome, Session};
use crate::output::{Output, milliseconds, without_passwords};

/// What serves: what the document says, and the pool of the database that it names.
struct Current {
    settings: Settings,
    /// None where no database is configured or wanted. One pool goes from value to value while the section is the same.
    lease: Option<Arc<Lease>>,
}

/// Makes the next value out of a document and what serves.
struct Maker {
    /// What the database lists the connections as.
    application: String,
    /// Without, what is configured is shown only.
    with_database: bool,
    pools: Gauge,
}

impl Maker {
    async fn make(&self, serving: Option<Arc<Serving<Current>>>, document: Document) -> Result<Current, Rejection> {
        let settings = Settings::of(&document)?;
        let lease = match &settings.database {
            Some(wanted) if self.with_database => {
                let same = serving.filter(|serving| serving.settings.database.as_ref() == Some(wanted));
                match same.and_then(|serving| serving.lease.clone()) {
                    Some(same) => Some(same),
                    None => Some(Arc::new(Lease::open(wanted, &self.application, &self.pools).await?)),
                }
            }
            _ => None,
        };
        Ok(Current { settings, lease })
    }
}

/// Subscribe to a key and swap to each new value live
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Events on stdout: applied, rejected, absent, removed, disconnected, connected.
A value that cannot be used is rejected with the reason, and the last good one serves on. With --trust, that is also one
that none of these signed for this key, or that was put again over what came after it.

What it does with a document; all of it is optional, and what it does not know is shown only:
  [server] request_timeout           deadline of each request [default: 30s]
  [logging] level, format            of the log on stderr, in place of -v, -q and --log-format
  [features]                         each is on unless it is false, \"off\" or null
  [database] url                     postgres://user:password@host:5432/name, ?sslmode=require for TLS
  [database] max_connections         of the pool, 1 to 1000 [default: 10]
  [database] connect_timeout         how long it may take to connect, retries included, at most 1m [default: 3s]

A changed [database] gets a new pool, which is connected and asked before the value is swapped in. If that fails, the
revision is rejected as unavailable and tried again, and the old pool serves on. Requests under way end on the pool on
which they began, within 5 s.

Never shown are strings that were encrypted (`confhot secret`, --identity), what the key's schema marks (\"writeOnly\": true),
and passwords of URLs. A document that the schema refuses is rejected, whoever published it, as is one with a string that
cannot be decrypted.

HTTP, with --http:
  /config          the live value and its revision
  /db              a query: database, user, server_version, and the figures of the pool; 503 without a database
  /features/NAME   200 while the feature is on, else 404
  /healthz         200 while the process runs
  /readyz          200 once a good value serves; what is degraded is a detail
  /metrics         Prometheus text

Examples:
  confhot serve --name service1
  confhot serve --name service2 --http 127.0.0.1:8082 --state-dir /var/lib/service2
  confhot serve --name service1 --trust /etc/confhot/trusted
  confhot serve --name service3 --identity /run/secrets/age.key

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
    #[command(flatten)]
    trusting: Trusting,
    /// Read what is encrypted in the document with the age identities in this file, in memory
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// Connect to no database: [database] is checked and shown only
    #[arg(long)]
    without_database: bool,
    /// Name of this instance [default: host name and process id; with a state directory, the one kept there]
    #[arg(long, value_name = "ID")]
    instance: Option<String>,
}

pub(crate) async fn run(session: &Session, args: Args) -> anyhow::Result<Outcome> {
    let (output, shutdown) = (&session.out, session.shutdown.clone());
    let trust = args.trusting.read()?;
    let identities = args.identity.as_deref().map(identities).transpose()?;
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
    let bucket = session.bucket_in_time(PING).await?;

    let metrics = Arc::new(Metrics::new(&args.name, &instance));
    let with_database = !args.without_database;
    if !with_database {
        output.note(&format!("{} connects to no database: [database] is shown only", args.name));
    }
    let application = format!("confhot/{}", args.name);
    let maker = Arc::new(Maker { application, with_database, pools: metrics.pools.clone() });
    let (counted, told, key) = (metrics.clone(), output.clone(), args.name.clone());
    let awaits = session.awaits(bucket.connection());
    let make = move |serving, document| {
        let maker = maker.clone();
        async move {
            // Told to whoever asks for the status.
            let hidden = |Rejection { kind, reason }| Rejection { kind, reason: without_passwords(&reason).into() };
            maker.make(serving, document).await.map_err(hidden)
        }
    };
    let mut builder = Live::made(&bucket, &args.name, make).observe(move |event| {
        counted.count(event);
        tell(&told, &key, event);
        if let Event::Disconnected(_) = event {
            awaits();
        }
    });
    // What it marks is hidden.
    builder = builder.schema();
    if let Some(identities) = identities {
        builder = builder.identities(Arc::new(identities));
    }
    if let Some(state) = state_dir {
        builder = builder.state_dir(state);
    }
    if let Some(trust) = trust {
        builder = builder.trust(trust);
    }
    let mut live = builder.announce(Instance::new(args.name.as_str(), &instance, &session.environment.host)).start();

    let value = live.reader();
    let follow = async {
        loop {
            live.changed().await;
            if let Some(current) = live.get() {
                session.log.change(current.settings.level, current.settings.format);
            }
        }
    };
    let serve = async {
        let Some(listener) = listener else {
            shutdown.cancelled().await;
            return Ok(());
        };
        output.note(&format!("{} listens on http://{}", args.name, listener.local_addr()?));
        let page = http::Page { key: args.name, instance, value, metrics, with_database };
        http::serve(listener, page, shutdown).await
    };
    tokio::select! {
        served = serve => served?,
        () = follow => {}
    }
    live.close().await;
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
        // Of two that have one name, each is counted as the other: -q is no reason to be silent about that.
        Event::Twin(what) => return tracing::error!("{key}: {what}"),
        Event::Trouble(what) => return tracing::warn!("{key}: {what}"),
        _ => return,
    };
    output.tell(&json, &text);
}

/// An error and what caused it, in one line.
fn error_chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Each record that an instance writes is a sign of life of the server: it need not be asked for one often.
const PING: Duration = Duration::from_secs(60);

/// How long requests may take to end when the service stops.
const DRAIN: Duration = Duration::from_secs(5);
