//! What is typed: the verbs, the flags that all of them take, and where a setting comes from.
//!
//! A setting's flag wins over the environment, that over the context of the `nats` CLI, that over the default; a context
//! that is named by a flag is below the other flags and above the environment. This is the only place that merges them
//! ([`Global::target`]) and the only one that reads the environment.

mod context;
pub(crate) mod typed;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, Parser, Subcommand, ValueEnum};
use confhot::kv::{Connect, Credentials};

use crate::commands::{
    acl, completions, delete, demo_edit, dev, diff, doctor, export, get, history, journal, keys, loader, man, put,
    rollback, secret, serve, status, validate, watch,
};
use context::Context;
pub(crate) use typed::duration;

/// The server that is asked where nothing names one.
const DEFAULT_SERVER: &str = "nats://127.0.0.1:4222";

/// Gets a changed configuration file into every running service, safely, and knows that it arrived.
///
/// A directory of documents (TOML, JSON, YAML) is the source, a NATS JetStream Key-Value bucket carries them, and
/// services swap to each new value without a restart. `configs/service1.toml` is the key `service1`.
#[derive(Debug, Parser)]
#[command(
    name = "confhot",
    version,
    styles = STYLES,
    arg_required_else_help = true,
    subcommand_required = true,
    disable_help_subcommand = true,
    after_help = "\
Exit codes:
  0  yes, done
  1  the answer is no: differs, absent, invalid, refused, lost the race
  2  trouble: usage, server unreachable, I/O

Answers go to stdout, everything else to stderr. With --format json an answer is one object, or one a line."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// The verbs, in the order in which help lists them.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Dev(dev::Args),
    Loader(loader::Args),
    Serve(serve::Args),
    Get(get::Args),
    Put(put::Args),
    Diff(diff::Args),
    Export(export::Args),
    History(history::Args),
    Journal(journal::Args),
    Keys(keys::Args),
    Delete(delete::Args),
    Rollback(rollback::Args),
    Watch(watch::Args),
    Status(status::Args),
    Validate(validate::Args),
    Secret(secret::Args),
    DemoEdit(demo_edit::Args),
    Acl(acl::Args),
    Doctor(doctor::Args),
    Completions(completions::Args),
    Man(man::Args),
}

impl Verb {
    /// Whether it runs until it is told to stop, and then drains.
    pub(crate) fn is_daemon(&self) -> bool {
        match self {
            Verb::Dev(_) | Verb::Loader(_) | Verb::Serve(_) | Verb::Watch(_) | Verb::DemoEdit(_) => true,
            Verb::Status(args) => args.watch,
            _ => false,
        }
    }
}

/// What every verb takes.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// NATS servers, separated by commas [env: CONFHOT_SERVER, else NATS_URL] [default: nats://127.0.0.1:4222]
    #[arg(long, global = true, value_name = "URL[,URL]")]
    pub(crate) server: Option<String>,
    /// A context of the `nats` CLI [env: NATS_CONTEXT] [default: the selected one, where no server is named otherwise]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// File with a user JWT and its seed [env: NATS_CREDS]
    #[arg(long, global = true, value_name = "FILE", conflicts_with_all = ["nkey", "user", "token_file"])]
    pub(crate) creds: Option<PathBuf>,
    /// File with an nkey seed [env: NATS_NKEY]
    #[arg(long, global = true, value_name = "FILE", conflicts_with_all = ["user", "token_file"])]
    pub(crate) nkey: Option<PathBuf>,
    /// Who to connect as, by password [env: NATS_USER]
    #[arg(long, global = true, value_name = "NAME", conflicts_with = "token_file")]
    pub(crate) user: Option<String>,
    /// File with the password [env: NATS_PASSWORD_FILE; NATS_PASSWORD is the password itself]
    #[arg(long, global = true, value_name = "FILE", conflicts_with_all = ["creds", "nkey", "token_file"])]
    pub(crate) password_file: Option<PathBuf>,
    /// File with a token [env: NATS_TOKEN_FILE; NATS_TOKEN is the token itself]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Certificates of a private CA, as PEM [env: NATS_CA]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// Client certificate, as PEM [env: NATS_CERT]
    #[arg(long, global = true, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Key of the client certificate, as PEM [env: NATS_KEY]
    #[arg(long, global = true, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Speak TLS before the server greets, as a server with `handshake_first` wants it
    #[arg(long, global = true)]
    pub(crate) tls_first: bool,
    /// JetStream domain, where the bucket is beyond a leaf node [default: that of the context]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) js_domain: Option<String>,
    /// What the subjects of answers begin with [default: that of the context, else _INBOX_ and the name of the user]
    #[arg(long, global = true, value_name = "PREFIX")]
    pub(crate) inbox_prefix: Option<String>,
    /// The bucket [env: CONFHOT_BUCKET] [default: configs]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) bucket: Option<String>,
    /// Deadline of a connect and of each request: 5s, 500ms, 1m30s [default: 5s]
    #[arg(long, global = true, value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    /// How answers are written
    #[arg(long, global = true, value_enum, default_value_t)]
    pub(crate) format: OutputFormat,
    /// Colours; `auto` means on a terminal and without NO_COLOR
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t)]
    pub(crate) color: Color,
    /// Say errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Say more; twice for all that the libraries log
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// How the log on stderr is written, messages and errors included
    #[arg(long, global = true, value_enum, default_value_t)]
    pub(crate) log_format: OutputFormat,
}

/// For people, or for programs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    #[default]
    Text,
    Json,
}

/// When to colour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    #[default]
    Auto,
    Always,
    Never,
}

/// The environment variables that confhot knows. An empty one counts as unset.
#[derive(Debug, Default)]
pub(crate) struct Environment {
    /// `CONFHOT_SERVER`, else `NATS_URL`.
    pub(crate) server: Option<String>,
    pub(crate) context: Option<String>,
    pub(crate) bucket: Option<String>,
    pub(crate) creds: Option<PathBuf>,
    pub(crate) nkey: Option<PathBuf>,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) password_file: Option<PathBuf>,
    pub(crate) token: Option<String>,
    pub(crate) token_file: Option<PathBuf>,
    pub(crate) tls_ca: Option<PathBuf>,
    pub(crate) tls_cert: Option<PathBuf>,
    pub(crate) tls_key: Option<PathBuf>,
    pub(crate) home: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`, else `~/.config`.
    pub(crate) config_home: Option<PathBuf>,
    /// Who is logged in, by name.
    pub(crate) login: Option<String>,
    /// This machine's name.
    pub(crate) host: String,
    /// `XDG_CACHE_HOME`, else `~/.cache`.
    pub(crate) cache_home: Option<PathBuf>,
    /// `XDG_STATE_HOME`, else `~/.local/state`.
    pub(crate) state_home: Option<PathBuf>,
    /// `PATH`.
    pub(crate) search_path: Option<OsString>,
    /// `CONFHOT_NATS_SERVER`.
    pub(crate) nats_server: Option<PathBuf>,
}

impl Environment {
    pub(crate) fn read() -> Environment {
        let path = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let home = path("HOME");
        // The XDG base directory specification says to ignore a relative path.
        let absolute = |name: &str| path(name).filter(|path| path.is_absolute());
        let config_home = absolute("XDG_CONFIG_HOME");
        Environment {
            server: text("CONFHOT_SERVER").or_else(|| text("NATS_URL")),
            context: text("NATS_CONTEXT"),
            bucket: text("CONFHOT_BUCKET"),
            creds: path("NATS_CREDS"),
            nkey: path("NATS_NKEY"),
            user: text("NATS_USER"),
            password: text("NATS_PASSWORD"),
            password_file: path("NATS_PASSWORD_FILE"),
            token: text("NATS_TOKEN"),
            token_file: path("NATS_TOKEN_FILE"),
            tls_ca: path("NATS_CA"),
            tls_cert: path("NATS_CERT"),
            tls_key: path("NATS_KEY"),
            config_home: config_home.or_else(|| home.as_ref().map(|home| home.join(".config"))),
            login: text("LOGNAME").or_else(|| text("USER")).or_else(login_by_id),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            cache_home: absolute("XDG_CACHE_HOME").or_else(|| home.as_ref().map(|home| home.join(".cache"))),
            state_home: absolute("XDG_STATE_HOME").or_else(|| home.as_ref().map(|home| home.join(".local/state"))),
            search_path: std::env::var_os("PATH"),
            nats_server: path("CONFHOT_NATS_SERVER"),
            home,
        }
    }
}

/// Which bucket, and how to reach it.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) connect: Connect,
    pub(crate) bucket: String,
}

impl Global {
    /// Merges flags, environment and the context of the `nats` CLI, which is read here.
    ///
    /// A context that nobody asked for by name goes with its own server: its secrets are not sent to the server of a
    /// flag or of the environment.
    ///
    /// # Errors
    /// The context cannot be read, or is one that confhot cannot follow.
    pub(crate) fn target(&self, environment: &Environment) -> anyhow::Result<Target> {
        let named = self.context.as_deref().or(environment.context.as_deref());
        let elsewhere = self.server.is_some() || environment.server.is_some();
        let context = match (&environment.config_home, named) {
            (Some(config), Some(name)) => Some(Context::load(config, name, environment.home.as_deref())?),
            (Some(config), None) if !elsewhere => Context::selected(config, environment.home.as_deref())?,
            (None, Some(name)) => bail!("cannot find the context `{name}`: neither XDG_CONFIG_HOME nor HOME is set"),
            _ => None,
        };
        self.merge(environment, context.unwrap_or_default())
    }

    fn merge(&self, environment: &Environment, context: Context) -> anyhow::Result<Target> {
        // What a flag names is above the environment, also where it is named as a whole.
        let (typed, context) =
            if self.context.is_some() { (context, Context::default()) } else { (Context::default(), context) };
        let by_flags = self.server.as_ref().or(typed.url.as_ref());
        let url = by_flags.or(environment.server.as_ref()).or(context.url.as_ref());
        let mut servers: Vec<String> =
            url.map_or(DEFAULT_SERVER, String::as_str).split(',').map(|url| url.trim().to_owned()).collect();
        servers.retain(|url| !url.is_empty());
        if servers.is_empty() {
            bail!("no server is named");
        }
        // The client does not send what a URL says about the user.
        let in_url = servers.iter().find_map(|url| credentials_in(url));
        let with_password = |user: &String, file: Option<&PathBuf>| match file {
            Some(file) => Credentials::PasswordFile(user.clone(), file.clone()),
            None => Credentials::User(user.clone(), environment.password.clone().unwrap_or_default()),
        };
        let by_flag = match self {
            Global { creds: Some(file), .. } => Some(Credentials::File(file.clone())),
            Global { nkey: Some(file), .. } => Some(Credentials::Nkey(file.clone())),
            Global { token_file: Some(file), .. } => Some(Credentials::TokenFile(file.clone())),
            Global { user: None, password_file: None, .. } => None,
            Global { user, password_file, .. } => {
                let user = user.as_ref().or(environment.user.as_ref()).context("--password-file goes with --user")?;
                Some(with_password(user, password_file.as_ref().or(environment.password_file.as_ref())))
            }
        };
        let by_environment = match environment {
            Environment { creds: Some(file), .. } => Some(Credentials::File(file.clone())),
            Environment { nkey: Some(file), .. } => Some(Credentials::Nkey(file.clone())),
            Environment { token: Some(token), .. } => Some(Credentials::Token(token.clone())),
            Environment { token_file: Some(file), .. } => Some(Credentials::TokenFile(file.clone())),
            Environment { user: Some(user), password_file, .. } => Some(with_password(user, password_file.as_ref())),
            _ => None,
        };
        // A certificate and its key come from one source.
        let pair = |cert: &Option<PathBuf>, key: &Option<PathBuf>| Some((cert.clone()?, key.clone()?));
        let mut connect = Connect::to(servers);
        let (in_flags_url, in_other_url) = if by_flags.is_some() { (in_url, None) } else { (None, in_url) };
        let by_flag = by_flag.or(in_flags_url).or_else(|| typed.credentials());
        let credentials = by_flag.or(in_other_url).or(by_environment).or_else(|| context.credentials());
        connect.credentials = credentials.unwrap_or(Credentials::None);
        let authorities = [&self.tls_ca, &typed.ca, &environment.tls_ca, &context.ca];
        connect.tls_ca = authorities.into_iter().flatten().next().cloned();
        connect.tls_client = pair(&self.tls_cert, &self.tls_key)
            .or_else(|| pair(&typed.cert, &typed.key))
            .or_else(|| pair(&environment.tls_cert, &environment.tls_key))
            .or_else(|| pair(&context.cert, &context.key));
        connect.tls_first = self.tls_first || typed.tls_first || context.tls_first;
        let domains = [&self.js_domain, &typed.jetstream_domain, &context.jetstream_domain];
        connect.domain = domains.into_iter().flatten().next().cloned();
        let prefixes = [&self.inbox_prefix, &typed.inbox_prefix, &context.inbox_prefix];
        connect.inbox_prefix = prefixes.into_iter().flatten().next().cloned();
        for part in [&connect.domain, &connect.inbox_prefix].into_iter().flatten() {
            if !is_subject(part) {
                bail!("`{}` cannot be a part of a subject", part.escape_debug());
            }
        }
        connect.timeout = self.timeout.unwrap_or(connect.timeout);
        let bucket = self.bucket.as_ref().or(environment.bucket.as_ref());
        Ok(Target { connect, bucket: bucket.map_or("configs", String::as_str).to_owned() })
    }
}

/// Whether `text` can begin subjects.
pub(crate) fn is_subject(text: &str) -> bool {
    let token = |token: &str| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    text.split('.').all(token) && !text.contains(['*', '>'])
}

/// User and password, or the token, that a server's URL carries.
fn credentials_in(url: &str) -> Option<Credentials> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (user, _) = rest.split(['/', '?']).next()?.rsplit_once('@')?;
    Some(match user.split_once(':') {
        Some((user, password)) => Credentials::User(percent_decoded(user), percent_decoded(password)),
        None => Credentials::Token(percent_decoded(user)),
    })
}

fn percent_decoded(text: &str) -> String {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        let decoded = match rest {
            [b'%', high, low, ..] => digit(*high).zip(digit(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        bytes.push(decoded.unwrap_or(*byte));
        rest = if decoded.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The login name that the user's number has, for where no login set a variable: services, containers.
fn login_by_id() -> Option<String> {
    let id = rustix::process::getuid().as_raw().to_string();
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    let mut lines = users.lines().map(|line| line.split(':'));
    lines.find_map(|mut user| {
        let name = user.next()?;
        (user.nth(1)? == id).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests;
