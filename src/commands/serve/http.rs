//! The sample service's HTTP side.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use confhot::kv::{Key, Revision};
use confhot::live::{Reader, Serving};
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::metrics::Metrics;
use super::{Current, DRAIN};
use crate::output::without_passwords;

/// What the pages show.
pub(super) struct Page {
    pub(super) key: Key,
    pub(super) instance: String,
    pub(super) value: Reader<Current>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) with_database: bool,
}

impl Page {
    /// What serves, and at which revision: the same bytes may have been stored again since the swap.
    fn current(&self) -> Result<(Arc<Serving<Current>>, Revision), Refusal> {
        match self.value.load().clone() {
            Some(serving) => {
                let revision = self.value.state().revision.unwrap_or(serving.revision);
                Ok((serving, revision))
            }
            None => Err(self.refuse(StatusCode::SERVICE_UNAVAILABLE, "no good value yet", None)),
        }
    }

    fn refuse(&self, status: StatusCode, error: &str, revision: Option<Revision>) -> Refusal {
        (status, Json(json!({ "error": without_passwords(error), "key": self.key, "revision": revision })))
    }
}

/// An answer that is a no.
type Refusal = (StatusCode, Json<Value>);

pub(super) async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

/// Serves until `shutdown`, then gives requests under way a moment to end.
pub(super) async fn serve(listener: TcpListener, page: Page, shutdown: CancellationToken) -> anyhow::Result<()> {
    let page = Arc::new(page);
    let router = Router::new()
        .route("/config", get(config))
        .route("/db", get(db))
        .route("/features/{name}", get(feature))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .layer(middleware::from_fn_with_state(page.clone(), in_time))
        .with_state(page);
    let mut connections = JoinSet::new();
    // The oldest first.
    let mut seats: Vec<Seat> = Vec::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Of one connection that is gone again, or that no file is left: that does not get better at once.
                tracing::debug!(%error, "no connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        seats.retain(|seat| !seat.connection.is_finished());
        if seats.len() >= CONNECTIONS {
            let idle = seats.iter().position(|seat| !seat.answering.load(Ordering::Relaxed));
            seats.remove(idle.unwrap_or_default()).connection.abort();
        }
        let answering = Arc::new(AtomicBool::new(false));
        let connection = connections.spawn(answer(stream, router.clone(), answering.clone(), shutdown.clone()));
        seats.push(Seat { answering, connection });
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if timeout(DRAIN, drained).await.is_err() {
        tracing::warn!("requests that did not end within {DRAIN:?} were abandoned");
    }
    Ok(())
}

/// Connections at a time. One more takes the place of the oldest to which no answer is being made, or else of the oldest: who
/// is slow, or only sits there, keeps nobody out.
const CONNECTIONS: usize = 64;

/// One of them.
struct Seat {
    /// Whether a request is being answered, which ends by itself.
    answering: Arc<AtomicBool>,
    connection: AbortHandle,
}

/// How long a request's head may take to come, a connection may wait for the next one, and an answer for being read on.
const SLOW: Duration = Duration::from_secs(10);

/// How long a connection is kept, whatever comes.
const KEPT: Duration = Duration::from_secs(60);

/// The most that is kept of a request's head.
const HEAD: usize = 16 << 10;

/// Answers the requests of one connection.
async fn answer(stream: TcpStream, router: Router, answering: Arc<AtomicBool>, shutdown: CancellationToken) {
    // tcp(7): what was sent and is not taken, because nobody reads, ends the connection.
    #[cfg(target_os = "linux")]
    let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, SLOW.as_millis() as u32);
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |request| {
        answering.store(true, Ordering::Relaxed);
        let (answer, answering) = (router.call(request), answering.clone());
        async move {
            let answer = answer.await;
            answering.store(false, Ordering::Relaxed);
            answer
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(SLOW).max_buf_size(HEAD);
    let connection = http.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        () = tokio::time::sleep(KEPT) => {}
        () = shutdown.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(SLOW, connection).await;
}

/// Ends a request after `server.request_timeout`, and logs it.
async fn in_time(State(page): State<Arc<Page>>, request: Request, next: Next) -> Response {
    let (start, path) = (Instant::now(), request.uri().path().to_owned());
    let limit = page.value.load().as_ref().map(|serving| serving.settings.request_timeout);
    let response = match limit {
        None => next.run(request).await,
        Some(limit) => timeout(limit, next.run(request)).await.unwrap_or_else(|_| {
            let late = format!("no answer within {limit:?}");
            page.refuse(StatusCode::SERVICE_UNAVAILABLE, &late, None).into_response()
        }),
    };
    tracing::debug!(path, status = response.status().as_u16(), took = ?start.elapsed(), "request");
    response
}

async fn config(State(page): State<Arc<Page>>) -> Result<Response, Refusal> {
    let (serving, revision) = page.current()?;
    let state = page.value.state();
    let rejected = state.rejected.map(|(revision, rejection)| {
        json!({ "revision": revision, "kind": rejection.kind, "reason": without_passwords(&rejection.reason) })
    });
    Ok(Json(json!({
        "key": page.key,
        "instance": page.instance,
        "revision": revision,
        "digest": serving.digest,
        "format": serving.document.format(),
        "applied_at": serving.applied_at.to_string(),
        "from": if state.from_state { "state" } else { "server" },
        "newest": state.newest,
        "rejected": rejected,
        "value": serving.settings.shown,
    }))
    .into_response())
}

async fn db(State(page): State<Arc<Page>>) -> Result<Response, Refusal> {
    let (serving, revision) = page.current()?;
    // The value and its lease are let go at once: a lease that is held keeps the pool's time from running out.
    let pool = serving.lease.as_ref().map(|lease| lease.pool());
    drop(serving);
    let refuse = |error: &str| page.refuse(StatusCode::SERVICE_UNAVAILABLE, error, Some(revision));
    if !page.with_database {
        return Err(refuse("runs without its database (--without-database)"));
    }
    let pool = pool.ok_or_else(|| refuse("no database is configured: database.url"))?;
    let answer = pool.ask().await.map_err(|why| refuse(&why))?;
    Ok(Json(json!({
        "database": answer.database,
        "user": answer.user,
        "server_version": answer.server_version,
        "pool": pool.figures(),
        "revision": revision,
    }))
    .into_response())
}

async fn feature(State(page): State<Arc<Page>>, Path(name): Path<String>) -> Result<Response, Refusal> {
    let (serving, revision) = page.current()?;
    match serving.settings.feature(&name) {
        Some(value) => Ok(Json(json!({ "feature": name, "value": value, "revision": revision })).into_response()),
        None => Err(page.refuse(StatusCode::NOT_FOUND, &format!("the feature {name} is not on"), Some(revision))),
    }
}

async fn ready(State(page): State<Arc<Page>>) -> Response {
    let state = page.value.state();
    let ready = page.value.load().is_some();
    let mut degraded = Vec::new();
    if !state.connected {
        degraded.push("no server is connected".to_owned());
    }
    if state.from_state {
        degraded.push("the value is from the state directory".to_owned());
    }
    if let Some((revision, rejection)) = state.rejected {
        degraded.push(format!("revision {revision} was rejected: {}", without_passwords(&rejection.reason)));
    }
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "ready": ready, "revision": state.revision, "degraded": degraded }))).into_response()
}

async fn metrics(State(page): State<Arc<Page>>) -> Response {
    let pool =
        page.value.load().as_ref().and_then(|serving| serving.lease.as_ref().map(|lease| lease.pool().figures()));
    match page.metrics.text(&page.value.state(), &pool.unwrap_or_default()) {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
