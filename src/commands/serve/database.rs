//! A pool of connections to the configured database: proven before it serves, and gone when nobody uses it any more.

use std::sync::Arc;
use std::time::Duration;

use confhot::live::Rejection;
use deadpool_postgres::{Manager, ManagerConfig, Object, PoolError, RecyclingMethod, Runtime, Timeouts};
use prometheus_client::metrics::gauge::Gauge;
use serde::Serialize;
use tokio::time::{sleep, timeout};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::sync::CancellationToken;

use super::error_chain;
use super::settings::Database;

/// How long requests in flight may go on with a pool that serves no more.
const DRAIN: Duration = Duration::from_secs(5);
/// The first pause between two attempts to connect; doubled up to a second.
const PAUSE: Duration = Duration::from_millis(50);

const WHO: &str = "select current_database()::text, current_user::text, current_setting('server_version')";

/// A pool that works, or did when it was made.
///
/// A request holds it for as long as it needs it, and the last one that does closes it.
#[derive(Debug)]
pub(super) struct Pool {
    connections: deadpool_postgres::Pool,
    connect_timeout: Duration,
    /// Cancelled when it serves no more.
    retired: CancellationToken,
    _counted: Counted,
}

/// A value's hold on its pool. Dropped, which is when no value that serves has it any more, it leaves the requests that
/// hold the pool [`DRAIN`] to end.
#[derive(Debug)]
pub(super) struct Lease(Arc<Pool>);

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.retired.cancel();
    }
}

/// What a database says about itself.
pub(super) struct Answer {
    pub(super) database: String,
    pub(super) user: String,
    pub(super) server_version: String,
}

/// How many connections there are.
#[derive(Debug, Default, Serialize)]
pub(super) struct Figures {
    pub(super) size: usize,
    pub(super) idle: usize,
    pub(super) in_use: usize,
    pub(super) max: usize,
}

impl Lease {
    /// The pool, for a request to hold.
    pub(super) fn pool(&self) -> Arc<Pool> {
        self.0.clone()
    }

    /// Builds a pool and proves it: connects and asks, again and again until `connect_timeout` is over.
    ///
    /// `application` is what the database lists its connections as, unless the URL says otherwise. `alive` counts the
    /// pools that there are.
    ///
    /// # Errors
    /// Unavailable, with the reason; also where the database does not know the user or itself, since both may be made
    /// a moment later.
    pub(super) async fn open(wanted: &Database, application: &str, alive: &Gauge) -> Result<Lease, Rejection> {
        let mut config = wanted.config.clone();
        if config.get_application_name().is_none() {
            config.application_name(application);
        }
        let place = place(&config);
        let unavailable = |why: String| Rejection::unavailable(format!("database.url: no connection to {place}{why}"));
        // A connection that died, or that a cancelled request left busy, is not to be the next request's.
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Verified };
        let manager = match config.get_ssl_mode() {
            SslMode::Require => {
                let certificates = MakeRustlsConnect::with_native_certs();
                let (tls, _) =
                    certificates.map_err(|_| unavailable(": this system has no certificates to trust".into()))?;
                Manager::from_config(config, tls, recycling)
            }
            _ => Manager::from_config(config, NoTls, recycling),
        };
        let connections = deadpool_postgres::Pool::builder(manager)
            .max_size(wanted.max_connections)
            .runtime(Runtime::Tokio1)
            // What is left of the time is for a fresh connection in its place.
            .recycle_timeout(Some(wanted.connect_timeout / 2))
            .build()
            .map_err(|error| unavailable(format!(": {error}")))?;
        let pool = Pool {
            connections,
            connect_timeout: wanted.connect_timeout,
            retired: CancellationToken::new(),
            _counted: Counted::new(alive),
        };
        let mut last = None;
        match timeout(wanted.connect_timeout, pool.prove(&mut last)).await {
            Ok(Ok(())) => Ok(Lease(Arc::new(pool))),
            Ok(Err(error)) => Err(unavailable(format!(": {}", reason(&error)))),
            Err(_) => {
                let last = last.map_or_else(String::new, |error| format!(": {}", reason(&error)));
                Err(unavailable(format!(" within {:?}{last}", wanted.connect_timeout)))
            }
        }
    }
}

impl Pool {
    /// Returns when a connection answers, or when trying again at once cannot help.
    async fn prove(&self, last: &mut Option<PoolError>) -> Result<(), PoolError> {
        let mut pause = PAUSE;
        loop {
            let answered = match self.connections.timeout_get(&Timeouts::default()).await {
                Ok(connection) => connection.simple_query("select 1").await.map_err(PoolError::Backend),
                Err(error) => Err(error),
            };
            match answered {
                Ok(_) => return Ok(()),
                Err(error) if is_final(&error) => return Err(error),
                Err(error) => *last = Some(error),
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    /// Asks the database who it is.
    ///
    /// # Errors
    /// Why there is no answer, in one line.
    pub(super) async fn ask(&self) -> Result<Answer, String> {
        tokio::select! {
            answer = self.answer() => answer,
            () = async { self.retired.cancelled().await; sleep(DRAIN).await } => {
                Err(format!("no answer within {DRAIN:?} after another configuration took over"))
            }
        }
    }

    async fn answer(&self) -> Result<Answer, String> {
        let connection = timeout(self.connect_timeout, self.connections.get()).await;
        let connection: Object = connection
            .map_err(|_| format!("no connection within {:?}", self.connect_timeout))?
            .map_err(|error| reason(&error))?;
        // Not prepared: nothing that is kept on the server, and one round trip.
        let rows = connection.query_typed(WHO, &[]).await;
        let rows = rows.map_err(|error| reason(&PoolError::Backend(error)))?;
        let row = rows.first().ok_or("the database answered with nothing")?;
        let text = |column| row.try_get(column).map_err(|error| error_chain(&error));
        Ok(Answer { database: text(0)?, user: text(1)?, server_version: text(2)? })
    }

    pub(super) fn figures(&self) -> Figures {
        let status = self.connections.status();
        Figures {
            size: status.size,
            idle: status.available,
            in_use: status.size - status.available,
            max: status.max_size,
        }
    }
}

/// One of the pools that a gauge counts.
#[derive(Debug)]
struct Counted(Gauge);

impl Counted {
    fn new(gauge: &Gauge) -> Counted {
        gauge.inc();
        Counted(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Whether the database itself said no, and is not merely starting or full.
fn is_final(error: &PoolError) -> bool {
    let PoolError::Backend(error) = error else { return false };
    error.code().is_some_and(|code| *code != SqlState::CANNOT_CONNECT_NOW && *code != SqlState::TOO_MANY_CONNECTIONS)
}

fn reason(error: &PoolError) -> String {
    match error {
        PoolError::Backend(error) => match error.as_db_error() {
            Some(said) => format!("{}: {}", said.severity(), said.message()),
            None => error_chain(error),
        },
        PoolError::Timeout(_) => "no answer in time".into(),
        other => other.to_string(),
    }
}

/// Database and hosts, as errors name them.
fn place(config: &Config) -> String {
    let ports = config.get_ports();
    let hosts = config.get_hosts().iter().enumerate().map(|(n, host)| {
        let port = ports.get(n).or(ports.first()).copied().unwrap_or(5432);
        match host {
            Host::Tcp(host) => format!("{host}:{port}"),
            Host::Unix(path) => format!("{}:{port}", path.display()),
        }
    });
    let hosts = hosts.collect::<Vec<_>>().join(",");
    match config.get_dbname().or(config.get_user()) {
        Some(name) => format!("{name} at {hosts}"),
        None => hosts,
    }
}
