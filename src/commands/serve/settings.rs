//! What a document means to the sample service. Pure: nothing is connected here.

use std::collections::BTreeSet;
use std::time::Duration;

use confhot::document::Document;
use confhot::live::Rejection;
use serde_json::{Map, Value};
use tokio_postgres::Config;
use tracing_subscriber::filter::LevelFilter;

use super::error_chain;
use crate::cli::{self, OutputFormat};
use crate::output::value_without_passwords;

/// How long a request may take where the document does not say.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connection may take to be made, retries included, where the document does not say.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A newer revision, one that mends this one say, waits for as long.
const LONGEST: Duration = Duration::from_secs(60);
const MAX_CONNECTIONS: usize = 10;

const LEVELS: [(&str, LevelFilter); 5] = [
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
];

/// The sections that the sample service knows. All are optional, and what else a document says is only shown.
#[derive(Debug)]
pub(super) struct Settings {
    /// All that the document says, without its secrets and the passwords of its URLs.
    pub(super) shown: Value,
    /// The features that are off.
    off: BTreeSet<String>,
    /// `server.request_timeout`. Where it listens is `--http`'s to say, and is shown only.
    pub(super) request_timeout: Duration,
    /// `logging.level`
    pub(super) level: Option<LevelFilter>,
    /// `logging.format`
    pub(super) format: Option<OutputFormat>,
    /// `[database]`, where it has a `url`.
    pub(super) database: Option<Database>,
}

/// Which database, and how it is connected to. Equal where nothing is to be connected anew.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Database {
    /// `database.url`
    pub(super) config: Config,
    /// `database.max_connections`
    pub(super) max_connections: usize,
    /// `database.connect_timeout`
    pub(super) connect_timeout: Duration,
}

impl Settings {
    /// Reads the known sections.
    ///
    /// # Errors
    /// An invalid [`Rejection`] that names the first known field with a wrong type or value.
    pub(super) fn of(document: &Document) -> Result<Settings, Rejection> {
        let value = document.value();
        let server = Section::of(value, "server")?;
        server.field("host", "a host", Value::as_str)?;
        server.field("port", "a port between 0 and 65535", |port| port.as_u64().filter(|port| *port <= 65_535))?;
        Section::of(value, "features")?;
        let logging = Section::of(value, "logging")?;
        Ok(Settings {
            shown: value_without_passwords(&document.shown()),
            off: off(value),
            request_timeout: server
                .field("request_timeout", "a duration such as \"30s\", above zero", duration)?
                .unwrap_or(REQUEST_TIMEOUT),
            level: logging.field("level", "one of error, warn, info, debug, trace", |level| {
                LEVELS.iter().find(|(name, _)| level == name).map(|(_, level)| *level)
            })?,
            format: logging.field("format", "one of text, json", |format| match format.as_str()? {
                "text" => Some(OutputFormat::Text),
                "json" => Some(OutputFormat::Json),
                _ => None,
            })?,
            database: database(&Section::of(value, "database")?)?,
        })
    }

    /// The value, as shown, of a feature that is on: neither absent nor `false`, `"off"` or null.
    pub(super) fn feature(&self, name: &str) -> Option<&Value> {
        self.shown.get("features")?.get(name).filter(|_| !self.off.contains(name))
    }
}

/// The features that are off, which may not be seen where it is a secret.
fn off(document: &Value) -> BTreeSet<String> {
    let features = document.get("features").and_then(Value::as_object).into_iter().flatten();
    let off = features.filter(|(_, value)| value.is_null() || **value == false || **value == "off");
    off.map(|(name, _)| name.clone()).collect()
}

fn database(section: &Section<'_>) -> Result<Option<Database>, Rejection> {
    let many = section.field("max_connections", "a number between 1 and 1000", |many| {
        many.as_u64().filter(|many| (1..=1000).contains(many)).and_then(|many| usize::try_from(many).ok())
    })?;
    let connect_timeout = section.field("connect_timeout", "a duration such as \"3s\", at most 1m", |timeout| {
        duration(timeout).filter(|timeout| *timeout <= LONGEST)
    })?;
    let Some(url) = section.value("url") else { return Ok(None) };
    Ok(Some(Database {
        // What is wrong is said without the URL: where it is malformed, nobody can tell what in it is the password.
        config: config(url).map_err(|why| Rejection::invalid(format!("{}.url: {why}", section.name)))?,
        max_connections: many.unwrap_or(MAX_CONNECTIONS),
        connect_timeout: connect_timeout.unwrap_or(CONNECT_TIMEOUT),
    }))
}

fn config(url: &Value) -> Result<Config, String> {
    let url = url.as_str().unwrap_or_default();
    if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
        return Err("not a URL such as postgres://user:password@host:5432/name".into());
    }
    if url.contains(char::is_whitespace) {
        return Err("white space in a URL is written %20".into());
    }
    // The first one ends the password for whoever connects, and errors would name what follows it as a host.
    if url.matches('@').count() > 1 {
        return Err("an `@` in the user's name or the password is written %40".into());
    }
    let config: Config = url.parse().map_err(|error| error_chain(&error))?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err("names no host".into());
    }
    Ok(config)
}

/// A table at the top level of the document; absent, and null, is as good as empty.
struct Section<'a> {
    name: &'static str,
    fields: Option<&'a Map<String, Value>>,
}

impl<'a> Section<'a> {
    fn of(document: &'a Value, name: &'static str) -> Result<Section<'a>, Rejection> {
        match document.get(name) {
            None | Some(Value::Null) => Ok(Section { name, fields: None }),
            Some(Value::Object(fields)) => Ok(Section { name, fields: Some(fields) }),
            Some(other) => Err(Rejection::invalid(format!("{name}: {} is not a table", named(other)))),
        }
    }

    fn value(&self, field: &str) -> Option<&'a Value> {
        self.fields?.get(field).filter(|value| !value.is_null())
    }

    fn field<T>(
        &self,
        field: &str,
        wanted: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Rejection> {
        let Some(value) = self.value(field) else { return Ok(None) };
        let wrong = || Rejection::invalid(format!("{}.{field}: {} is not {wanted}", self.name, named(value)));
        read(value).map(Some).ok_or_else(wrong)
    }
}

fn duration(value: &Value) -> Option<Duration> {
    cli::duration(value.as_str()?).ok()
}

/// A value, as an error names it.
fn named(value: &Value) -> String {
    match value {
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "a table".into(),
        Value::String(text) if text.chars().nth(40).is_some() => "a text that long".into(),
        scalar => scalar.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use confhot::document::Format;
    use confhot::live::RejectionKind;

    use super::*;

    fn read(text: &'static str) -> Result<Settings, String> {
        let document = Document::parse_or_empty(text.into(), Format::Toml).unwrap();
        Settings::of(&document).map_err(|rejection| {
            assert_eq!(rejection.kind, RejectionKind::Invalid);
            rejection.reason
        })
    }

    #[test]
    fn what_a_document_does_not_say_has_a_default() {
        for text in ["", "other = 1", "[server]\n[logging]\n[features]\n[database]\nmax_connections = 3"] {
            let settings = read(text).unwrap();
            assert_eq!(settings.request_timeout, Duration::from_secs(30));
            assert_eq!((settings.level, settings.format, settings.database), (None, None, None));
        }
        let database = read("database.url = 'postgres://me@db1/shop'").unwrap().database.unwrap();
        assert_eq!((database.max_connections, database.connect_timeout), (10, Duration::from_secs(3)));
    }

    #[test]
    fn a_wrong_field_is_named_by_its_path_with_what_it_should_be() {
        for (text, reason) in [
            ("server = 8080", "server: 8080 is not a table"),
            ("features = [1]", "features: a list is not a table"),
            ("[server]\nport = '80'", "server.port: \"80\" is not a port between 0 and 65535"),
            ("[server]\nport = 65536", "server.port: 65536 is not a port between 0 and 65535"),
            ("[server]\nhost = {}", "server.host: a table is not a host"),
            (
                "[server]\nrequest_timeout = 3",
                "server.request_timeout: 3 is not a duration such as \"30s\", above zero",
            ),
            ("[logging]\nlevel = 'loud'", "logging.level: \"loud\" is not one of error, warn, info, debug, trace"),
            ("[logging]\nformat = true", "logging.format: true is not one of text, json"),
            ("[database]\nmax_connections = 0", "database.max_connections: 0 is not a number between 1 and 1000"),
            (
                "[database]\nconnect_timeout = '0s'",
                "database.connect_timeout: \"0s\" is not a duration such as \"3s\", at most 1m",
            ),
            (
                "[database]\nconnect_timeout = '61s'",
                "database.connect_timeout: \"61s\" is not a duration such as \"3s\", at most 1m",
            ),
        ] {
            assert_eq!(read(text).unwrap_err(), reason);
        }
    }

    #[test]
    fn a_malformed_url_is_refused_without_being_repeated() {
        for (text, reason) in [
            ("database.url = 5432", "not a URL such as postgres://user:password@host:5432/name"),
            ("database.url = 'host=h password=s3cret'", "not a URL such as postgres://user:password@host:5432/name"),
            ("database.url = 'mysql://me:s3cret@h/d'", "not a URL such as postgres://user:password@host:5432/name"),
            ("database.url = 'postgres://me:s3 cret@h/d'", "white space in a URL is written %20"),
            (
                "database.url = 'postgres://me:s3cret@h:port/d'",
                "invalid connection string: invalid value for option `port`",
            ),
            ("database.url = 'postgres://me:s3cret@/d'", "names no host"),
            ("database.url = 'postgres://me:x@s3cret@h/d'", "an `@` in the user's name or the password is written %40"),
            (
                "database.url = 'postgres://me:s3cret@h/d?sslmode=x'",
                "invalid connection string: invalid value for option `sslmode`",
            ),
        ] {
            assert_eq!(read(text).unwrap_err(), format!("database.url: {reason}"));
        }
        assert!(read("database.url = 'postgresql://me:s3cret@[::1]:5432,db2/d'").is_ok());
    }

    #[test]
    fn a_feature_is_on_unless_it_says_off() {
        let settings = read("[features]\na = true\nb = false\nc = 'on'\nd = 'off'\ne = 0\nf = []").unwrap();
        let on: Vec<_> =
            ["a", "b", "c", "d", "e", "f", "g"].into_iter().filter(|f| settings.feature(f).is_some()).collect();
        assert_eq!(on, ["a", "c", "e", "f"]);
    }

    #[test]
    fn databases_differ_only_where_a_connection_would() {
        let of = |text| read(text).unwrap().database.unwrap();
        let one = of("[database]\nurl = 'postgres://me:a@h/d'\nmax_connections = 10\nowner = 'team-a'");
        assert_eq!(one, of("[database]\nconnect_timeout = '3000ms'\nurl = 'postgres://me:a@h/d'\nowner = 'team-b'"));
        assert_ne!(one, of("[database]\nurl = 'postgres://me:b@h/d'"));
        assert_ne!(one, of("[database]\nurl = 'postgres://me:a@h/d'\nmax_connections = 11"));
    }
}
