//! What the sample service counts and measures.

use super::database::Figures;
use confhot::kv::{Key, Revision};
use confhot::live::{Event, RejectionKind, State};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

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
    /// Pools of database connections, alive and being proven.
    pub(super) pools: Gauge,
    connections: Family<Use, Gauge>,
    max_connections: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Use {
    state: &'static str,
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
            pools: Gauge::default(),
            connections: Family::default(),
            max_connections: Gauge::default(),
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
        let help = "Pools of database connections: the one that serves, old ones that drain, a new one that is proven";
        registry.register("database_pools", help, metrics.pools.clone());
        let help = "Connections of the pool that serves";
        registry.register("database_connections", help, metrics.connections.clone());
        let help = "The most connections that the pool that serves may have, 0 without one";
        registry.register("database_connections_max", help, metrics.max_connections.clone());
        Metrics { registry, ..metrics }
    }

    /// All of it as Prometheus text.
    pub(super) fn text(&self, state: &State, pool: &Figures) -> Result<String, std::fmt::Error> {
        let number = |revision: Option<Revision>| revision.map_or(0, |r| i64::try_from(r.0).unwrap_or(i64::MAX));
        self.revision.set(number(state.revision));
        self.newest.set(number(state.newest));
        self.connected.set(state.connected.into());
        self.confirmed.set(state.confirmed_at.map_or(0, |at| at.as_second()));
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.connections.get_or_create(&Use { state: "idle" }).set(count(pool.idle));
        self.connections.get_or_create(&Use { state: "in_use" }).set(count(pool.in_use));
        self.max_connections.set(count(pool.max));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
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
