//! The sample service's HTTP side.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use confhot::kv::Key;
use confhot::live::{Event, Reader, RejectionKind};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{DRAIN, Settings};

/// What the pages show.
pub(super) struct Page {
    pub(super) key: Key,
    pub(super) instance: String,
    pub(super) value: Reader<Settings>,
    pub(super) metrics: Arc<Metrics>,
}

pub(super) async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

/// Serves until `shutdown`, then gives requests under way a moment to end.
pub(super) async fn serve(listener: TcpListener, page: Page, shutdown: CancellationToken) -> anyhow::Result<()> {
    let router = Router::new()
        .route("/config", get(config))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(Arc::new(page));
    let stopped = shutdown.clone();
    let server = axum::serve(listener, router).with_graceful_shutdown(async move { stopped.cancelled().await });
    tokio::select! {
        served = server.into_future() => served.context("the HTTP server ended"),
        () = async { shutdown.cancelled().await; tokio::time::sleep(DRAIN).await } => {
            tracing::warn!("requests that did not end within {DRAIN:?} were abandoned");
            Ok(())
        }
    }
}

async fn config(State(page): State<Arc<Page>>) -> Response {
    let Some(serving) = page.value.load().clone() else {
        let error = json!({ "error": "no good value yet", "key": page.key });
        return (StatusCode::SERVICE_UNAVAILABLE, Json(error)).into_response();
    };
    let state = page.value.state();
    let rejected = state.rejected.map(
        |(revision, rejection)| json!({ "revision": revision, "kind": rejection.kind, "reason": rejection.reason }),
    );
    Json(json!({
        "key": page.key,
        "instance": page.instance,
        // The same bytes may have been stored again since the swap.
        "revision": state.revision.unwrap_or(serving.revision),
        "digest": serving.digest,
        "format": serving.document.format(),
        "applied_at": serving.applied_at.to_string(),
        "from": if state.from_state { "state" } else { "server" },
        "newest": state.newest,
        "rejected": rejected,
        "value": serving.shown,
    }))
    .into_response()
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
        degraded.push(format!("revision {revision} was rejected: {}", rejection.reason));
    }
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "ready": ready, "revision": state.revision, "degraded": degraded }))).into_response()
}

async fn metrics(State(page): State<Arc<Page>>) -> Response {
    let state = page.value.state();
    let metrics = &page.metrics;
    let number =
        |revision: Option<confhot::kv::Revision>| revision.map_or(0, |r| i64::try_from(r.0).unwrap_or(i64::MAX));
    metrics.revision.set(number(state.revision));
    metrics.newest.set(number(state.newest));
    metrics.connected.set(state.connected.into());
    metrics.confirmed.set(state.confirmed_at.map_or(0, |at| at.as_second()));
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &metrics.registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// What is counted and measured.
pub(super) struct Metrics {
    registry: Registry,
    applied: Counter,
    rejected: Family<Kind, Counter>,
    latency: Histogram,
    revision: Gauge,
    newest: Gauge,
    connected: Gauge,
    confirmed: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

impl Metrics {
    pub(super) fn new(key: &Key, instance: &str) -> Metrics {
        let mut registry = Registry::with_prefix("confhot");
        let labels = vec![("key", key.to_string()), ("instance", instance.to_owned())];
        registry.register("service", "Which key this process follows", Info::new(labels));
        let metrics = Metrics {
            applied: Counter::default(),
            rejected: Family::default(),
            // From a tenth of a millisecond to a bit over three seconds.
            latency: Histogram::new((0..16).map(|step| 0.0001 * f64::powi(2.0, step))),
            revision: Gauge::default(),
            newest: Gauge::default(),
            connected: Gauge::default(),
            confirmed: Gauge::default(),
            registry: Registry::default(),
        };
        registry.register("applied", "Revisions applied", metrics.applied.clone());
        registry.register("rejected", "Revisions rejected", metrics.rejected.clone());
        let help = "From the publisher's read of a change to the swap";
        registry.register_with_unit("latency", help, Unit::Seconds, metrics.latency.clone());
        registry.register("revision", "Revision that serves, 0 for none", metrics.revision.clone());
        registry.register("newest_revision", "Newest known revision, 0 for none", metrics.newest.clone());
        registry.register("connected", "Whether a server is connected", metrics.connected.clone());
        let help = "When the server last confirmed that the newest known revision is the newest";
        registry.register_with_unit("confirmed_time", help, Unit::Seconds, metrics.confirmed.clone());
        Metrics { registry, ..metrics }
    }

    pub(super) fn count(&self, event: &Event) {
        match event {
            Event::Applied { latency, .. } => {
                self.applied.inc();
                if let Some(latency) = latency {
                    self.latency.observe(latency.as_secs_f64());
                }
            }
            Event::Rejected { rejection, .. } => {
                let kind = match rejection.kind {
                    RejectionKind::Invalid => "invalid",
                    RejectionKind::Unavailable => "unavailable",
                };
                self.rejected.get_or_create(&Kind { kind }).inc();
            }
            _ => {}
        }
    }
}
