//! The connection to NATS: how it is made, and what becomes of it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::{AuthError, ClientError, ConnectOptions, Event, ServerError};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::denied::{Denied, listen_again};
use super::{Bucket, BucketError, Credentials};

/// The oldest server that has all that confhot needs: direct-get batches and per-message TTL.
pub const OLDEST_SERVER: (i64, i64, i64) = (2, 11, 0);

/// How to reach NATS. Every path and secret is handed in; nothing is read from the environment.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Connect {
    /// Server URLs; any one that answers will do.
    pub servers: Vec<String>,
    /// Name that the server shows for this connection.
    pub name: String,
    /// Who we are.
    pub credentials: Credentials,
    /// A private CA to trust beside the system's.
    pub tls_ca: Option<PathBuf>,
    /// Client certificate and its key, for mutual TLS.
    pub tls_client: Option<(PathBuf, PathBuf)>,
    /// Speak TLS before the server's greeting.
    pub tls_first: bool,
    /// JetStream domain.
    pub domain: Option<String>,
    /// Prefix of the subjects that answers come to; by default `_INBOX_` and the name of the user
    /// ([`super::inbox_prefix`]).
    pub inbox_prefix: Option<String>,
    /// Deadline of a connect and of each request.
    pub timeout: Duration,
    /// How often the server is asked for a sign of life. One that vanished without a word is noticed after two or three of
    /// these; by an instance that announces itself, as soon as it does not answer what that tells ([`super::Announcer`]).
    /// With very many instances this is most of what an idle one costs the server.
    pub ping: Duration,
    /// Wait for a server that is not there yet, for ever, instead of failing: what a daemon wants.
    pub wait: bool,
}

impl Connect {
    /// Reaches the servers at `urls` anonymously, with a deadline of 5 s and a ping every minute.
    pub fn to<S: Into<String>>(urls: impl IntoIterator<Item = S>) -> Connect {
        Connect {
            servers: urls.into_iter().map(Into::into).collect(),
            name: "confhot".into(),
            credentials: Credentials::None,
            tls_ca: None,
            tls_client: None,
            tls_first: false,
            domain: None,
            inbox_prefix: None,
            timeout: Duration::from_secs(5),
            ping: Duration::from_secs(60),
            wait: false,
        }
    }

    /// The server URLs without the passwords that they may carry.
    pub fn shown(&self) -> String {
        self.servers.iter().map(|url| redact(url)).collect::<Vec<_>>().join(", ")
    }
}

/// A URL without its password.
fn redact(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let Some((user, host)) = rest.rsplit_once('@') else { return url.into() };
    let user = user.split_once(':').map_or("***".to_owned(), |(user, _)| format!("{user}:***"));
    if scheme.is_empty() { format!("{user}@{host}") } else { format!("{scheme}://{user}@{host}") }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Nobody answers at any of the URLs.
    #[error("cannot reach a NATS server at {servers}")]
    Unreachable {
        /// The URLs tried, passwords hidden.
        servers: String,
        /// What the last of them said.
        #[source]
        source: async_nats::ConnectError,
    },
    /// The server does not let us in.
    #[error("the server at {servers} refuses these credentials")]
    Refused {
        /// The URLs tried, passwords hidden.
        servers: String,
        /// What the server said.
        #[source]
        source: async_nats::ConnectError,
    },
    /// There is no trust: in the server's certificate or in ours, or one side speaks no TLS.
    #[error("cannot speak TLS with the server at {servers}")]
    Tls {
        /// The URLs tried, passwords hidden.
        servers: String,
        /// What was said last.
        #[source]
        source: async_nats::ConnectError,
    },
    /// The server is too old.
    #[error("nats-server {version} at {servers} is too old: confhot needs 2.11 or later")]
    Old {
        /// The version that it tells.
        version: String,
        /// The URLs tried, passwords hidden.
        servers: String,
    },
    /// A file with credentials cannot be used.
    #[error("cannot use {}", path.display())]
    Credentials {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: std::io::Error,
    },
}

/// What is known of the connection now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// Whether a server is connected.
    pub up: bool,
    /// Counts the connections made, from 1: what was sent under an earlier one may be lost.
    pub generation: u64,
    /// What the server, or the attempt to reach one, said last.
    pub problem: Option<String>,
    /// Whether that is that the server does not let us in, or that there is nothing to show it.
    pub refused: bool,
    /// Counts messages dropped because this process did not keep up.
    pub dropped: u64,
}

impl Link {
    /// Why no server lets us in, where that is why there is no connection.
    pub(super) fn refusal(&self) -> Option<String> {
        let problem = self.problem.as_ref().filter(|_| self.refused && !self.up)?;
        Some(format!("no server lets us in: {problem}"))
    }
}

/// A connection to NATS. Cheap to clone; closes with the last clone.
#[derive(Clone, Debug)]
pub struct Connection {
    pub(super) client: async_nats::Client,
    pub(super) link: watch::Receiver<Link>,
    pub(super) denied: watch::Receiver<Denied>,
    pub(super) domain: Option<String>,
    pub(super) timeout: Duration,
    servers: Arc<str>,
    inbox_prefix: Arc<str>,
    /// Of which connection the server's age is known: one more than its generation, and in the last bit whether it is old.
    aged: Arc<AtomicU64>,
    _listens: Arc<JoinSet<()>>,
}

impl Connection {
    /// Connects as `to` says.
    ///
    /// With [`Connect::wait`] this returns at once, and the connection is made, and made again, in the background.
    ///
    /// # Errors
    /// [`ConnectError`]; with `wait` only for a file that cannot be read.
    pub async fn open(to: &Connect) -> Result<Connection, ConnectError> {
        let (link, watched) = watch::channel(Link::default());
        let (denials, denied) = watch::channel(Denied::default());
        // Told now where nothing can come of it; later on it may be put right.
        to.credentials.answer(b"")?;
        let inbox_prefix: Arc<str> = match &to.inbox_prefix {
            Some(prefix) => prefix.as_str().into(),
            None => to.credentials.inbox_prefix()?.into(),
        };
        // The client only says that there is no answer, not why.
        let unusable = Arc::new(Mutex::new(None));
        let mut options = ConnectOptions::with_auth_callback({
            let (credentials, unusable) = (to.credentials.clone(), unusable.clone());
            move |nonce| {
                let (credentials, unusable) = (credentials.clone(), unusable.clone());
                async move {
                    let answer = tokio::task::spawn_blocking(move || credentials.answer(&nonce));
                    let answer = answer.await.map_err(AuthError::new)?;
                    answer.map_err(|error| {
                        let why = std::error::Error::source(&error).map_or_else(String::new, |why| format!(": {why}"));
                        *unusable.lock().unwrap_or_else(PoisonError::into_inner) = Some(format!("{error}{why}"));
                        AuthError::new(error)
                    })
                }
            }
        });
        options = options
            .name(&to.name)
            .custom_inbox_prefix(&inbox_prefix)
            .connection_timeout(to.timeout)
            .request_timeout(Some(to.timeout))
            // A peer that vanished without a word is noticed after two unanswered ones.
            .ping_interval(to.ping)
            // One key's updates, or one answer: the 65,536 of the default would only hide a stuck reader.
            .subscription_capacity(8 * 1024)
            .reconnect_delay_callback(reconnect_delay)
            .event_callback({
                let (link, denials, inbox_prefix) = (Arc::new(link), Arc::new(denials), inbox_prefix.clone());
                move |event| {
                    let (link, denials) = (link.clone(), denials.clone());
                    let (inbox_prefix, unusable) = (inbox_prefix.clone(), unusable.clone());
                    async move {
                        let said = match &event {
                            Event::ServerError(ServerError::Other(text)) => Denied::note(&denials, text, &inbox_prefix),
                            _ => false,
                        };
                        if event == Event::Connected {
                            Denied::forget(&denials);
                        }
                        if !said {
                            let why = unusable.lock().unwrap_or_else(PoisonError::into_inner).take();
                            note(&link, &event, why);
                        }
                    }
                }
            });
        if to.wait {
            options = options.retry_on_initial_connect();
        }
        if let Some(ca) = &to.tls_ca {
            options = options.add_root_certificates(ca.clone()).require_tls(true);
        }
        if let Some((certificate, key)) = &to.tls_client {
            options = options.add_client_certificate(certificate.clone(), key.clone()).require_tls(true);
        }
        if to.tls_first {
            options = options.tls_first();
        }
        let servers = to.shown();
        let client = async_nats::connect_with_options(to.servers.as_slice(), options)
            .await
            .map_err(|source| unconnected(servers.clone(), source))?;
        let mut listens = JoinSet::new();
        listens.spawn(listen_again(client.clone(), denied.clone()));
        let connection = Connection {
            client,
            link: watched,
            denied,
            domain: to.domain.clone(),
            timeout: to.timeout,
            servers: servers.into(),
            inbox_prefix,
            aged: Arc::default(),
            _listens: Arc::new(listens),
        };
        match connection.too_old() {
            Some(version) if !to.wait => Err(ConnectError::Old { version, servers: connection.servers.to_string() }),
            _ => Ok(connection),
        }
    }

    /// The connection's state, and each change of it.
    pub fn link(&self) -> watch::Receiver<Link> {
        self.link.clone()
    }

    /// The URLs that were asked for, passwords hidden.
    pub fn servers(&self) -> &str {
        &self.servers
    }

    /// What the subjects of answers begin with.
    pub fn inbox_prefix(&self) -> &str {
        &self.inbox_prefix
    }

    /// The JetStream domain that is asked, where one is named.
    pub fn domain(&self) -> Option<&str> {
        self.domain.as_deref()
    }

    /// The connected server's version.
    pub fn version(&self) -> Option<String> {
        Some(self.client.try_server_info()?.version)
    }

    /// Whether the connected server is the one called `name`, belongs to no cluster, and has itself the JetStream that is
    /// asked: what it publishes goes through no other on its way here.
    pub(super) fn is_alone(&self, name: &str) -> bool {
        self.client.try_server_info().is_some_and(|server| {
            let asked = self.domain.is_none() || self.domain == server.domain;
            server.server_name == name && server.cluster.is_none() && server.jetstream && asked
        })
    }

    /// The connected server's version where it is older than [`OLDEST_SERVER`].
    pub fn too_old(&self) -> Option<String> {
        let (major, minor, patch) = OLDEST_SERVER;
        let version = self.client.try_server_info()?.version;
        (!version.is_empty() && !self.client.is_server_compatible(major, minor, patch)).then_some(version)
    }

    /// # Errors
    /// [`BucketError::Old`] where the connected server is older than [`OLDEST_SERVER`].
    pub(super) fn refuse_old(&self) -> Result<(), BucketError> {
        let generation = self.link.borrow().generation + 1;
        let mut aged = self.aged.load(Ordering::Relaxed);
        // To compare versions takes longer than all else that a request costs here.
        if aged >> 1 != generation && self.link.borrow().up {
            aged = generation << 1 | u64::from(self.too_old().is_some());
            self.aged.store(aged, Ordering::Relaxed);
        }
        if aged != generation << 1 | 1 {
            return Ok(());
        }
        let version = self.version().unwrap_or_default();
        Err(BucketError::Old { version, servers: self.servers.to_string() })
    }

    /// The bucket called `name`, which need not exist.
    ///
    /// # Errors
    /// [`BucketError::InvalidName`] where no bucket can be called so.
    pub fn bucket(&self, name: &str) -> Result<Bucket, BucketError> {
        Bucket::new(self.clone(), name)
    }

    /// Sends what is queued and closes, within the connection's deadline.
    pub async fn close(self) {
        let closed = async {
            let _ = self.client.flush().await;
            let _ = self.client.drain().await;
        };
        let _ = tokio::time::timeout(self.timeout, closed).await;
    }
}

/// Full jitter below a ceiling that doubles to 4 s, so that what was cut off together does not come back together; the
/// first attempt is made at once.
fn reconnect_delay(attempts: usize) -> Duration {
    if attempts <= 1 {
        return Duration::ZERO;
    }
    let ceiling = 4_u64.saturating_mul(1 << attempts.min(10)).min(4_000);
    Duration::from_millis(super::random_below(ceiling))
}

/// What a first attempt to connect came to.
fn unconnected(servers: String, source: async_nats::ConnectError) -> ConnectError {
    use async_nats::ConnectErrorKind::{Authentication, AuthorizationViolation, Tls};
    let causes = || std::iter::successors(std::error::Error::source(&source), |cause| cause.source());
    // A user or an account that expired, or was revoked, is refused in words of its own (server/errors.go).
    let refused = |cause: &(dyn std::error::Error + 'static)| matches!(cause.downcast_ref(), Some(ServerError::Other(text)) if text.contains("Authentication"));
    // What is wrong with certificates comes as this kind of error, from below rustls.
    let untrusted = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref().is_some_and(|error: &std::io::Error| error.kind() == std::io::ErrorKind::InvalidData)
    };
    match source.kind() {
        Authentication | AuthorizationViolation => ConnectError::Refused { servers, source },
        _ if causes().any(refused) => ConnectError::Refused { servers, source },
        Tls => ConnectError::Tls { servers, source },
        _ if causes().any(untrusted) => ConnectError::Tls { servers, source },
        _ => ConnectError::Unreachable { servers, source },
    }
}

/// Takes note of `event`; `why` is what the client does not tell of it.
fn note(link: &watch::Sender<Link>, event: &Event, why: Option<String>) {
    use async_nats::ConnectErrorKind::{Authentication, AuthorizationViolation};
    let refusal = |text: &String| [Authentication, AuthorizationViolation].iter().any(|kind| *text == kind.to_string());
    let (problem, refused) = match event {
        Event::ServerError(ServerError::AuthorizationViolation) => (AuthorizationViolation.to_string(), true),
        Event::ServerError(ServerError::Other(text)) => (text.clone(), text.contains("Authentication")),
        Event::ClientError(ClientError::Other(text)) => (why.unwrap_or_else(|| text.clone()), refusal(text)),
        Event::ClientError(error) => (error.to_string(), false),
        Event::Connected => {
            return link.send_modify(|link| {
                let (generation, dropped) = (link.generation + 1, link.dropped);
                *link = Link { up: true, generation, problem: None, refused: false, dropped };
            });
        }
        Event::Disconnected | Event::Closed => return link.send_modify(|link| link.up = false),
        Event::SlowConsumer(_) | Event::ServerError(ServerError::SlowConsumer(_)) => {
            return link.send_modify(|link| link.dropped += 1);
        }
        // The server asks us to leave; async-nats follows when it closes the connection.
        Event::LameDuckMode | Event::Draining => return,
    };
    link.send_modify(|link| (link.problem, link.refused) = (Some(problem), refused));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_a_url_is_not_shown() {
        let to = Connect::to(["nats://me:secret@host:4222", "tls://token@host", "me:secret@host", "nats://host:1"]);

        assert_eq!(to.shown(), "nats://me:***@host:4222, tls://***@host, me:***@host, nats://host:1");
    }

    #[test]
    fn reconnects_spread_and_are_never_further_apart_than_four_seconds() {
        let delays: Vec<_> = (0..200).map(reconnect_delay).collect();

        assert_eq!(delays[1], Duration::ZERO);
        assert!(delays.iter().all(|delay| *delay < Duration::from_secs(4)));
        assert!(delays[100..].iter().collect::<std::collections::HashSet<_>>().len() > 50, "{delays:?}");
    }
}
