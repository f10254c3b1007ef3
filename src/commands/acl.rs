//! `confhot acl`

use anyhow::{bail, ensure};
use clap::ValueEnum;
use confhot::kv::{Key, Permissions, Role, inbox_prefix};
use serde_json::json;

use super::{Outcome, Session};

/// Print the least permissions that a role needs
///
/// Asks no server. A user with these permissions does its job, and nothing else: a service reads its own key and that
/// key's schema, and tells what it runs of it, but reads no other key, speaks for no other service, and hears no
/// other's answers.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Roles:
  loader     `loader`, with --wait: makes the bucket, reads and writes every key
  service    `serve`, `Live`, `Group`: follows its keys, needs --name
  operator   put, delete, rollback, with --wait, and all that an inspector does; makes no bucket
  inspector  get, diff, export, history, keys, watch, status: reads everything, writes nothing
  status     `status`, which then goes by the newest revision that an instance knows: reads no document
`journal enable` and `disable` make and delete streams, which is not for a role.

The user is called as --user says, else as the key, else as the role. Its inboxes begin with _INBOX_ and that name, which is
what confhot asks for by itself; --inbox-prefix says otherwise. With an nkey, its public key is the user's name.
--bucket and --js-domain are those that the user will be given; no context of the `nats` CLI is read.

Examples:
  confhot acl --role service --name service1        an entry of `users` in nats-server.conf
  confhot acl --role loader --as nsc | sh           a user of the current account of nsc
  confhot acl --role inspector --user jo --bucket prod
  confhot acl --role service --name a --name b --user pair --format json

With --format json: {\"role\",\"user\",\"bucket\",\"inbox_prefix\",\"publish\":[subject],\"subscribe\":[subject]}. Every other subject is
to be denied.

Exit codes:
  0  printed
  2  usage")]
pub(crate) struct Args {
    /// What the user does
    #[arg(long, value_enum)]
    role: RoleName,
    /// A key that the service follows; may be given several times
    #[arg(long, value_name = "KEY", required_if_eq("role", "service"))]
    name: Vec<Key>,
    /// A journal that may be read as well, as `confhot journal status` names it
    #[arg(long, value_name = "STREAM")]
    journal: Vec<String>,
    /// What to print
    #[arg(long = "as", value_enum, default_value_t)]
    form: Form,
}

/// A role, as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoleName {
    Loader,
    Service,
    Operator,
    Inspector,
    Status,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Form {
    /// An entry of `users` in the configuration of nats-server
    #[default]
    Nats,
    /// Commands for nsc
    Nsc,
}

impl RoleName {
    /// The role, with the keys of a service.
    pub(crate) fn of(self, keys: &[Key]) -> anyhow::Result<Role> {
        ensure!(keys.is_empty() || self == RoleName::Service, "--name goes with --role service");
        Ok(match self {
            RoleName::Loader => Role::Loader,
            RoleName::Service => Role::Service(keys.to_vec()),
            RoleName::Operator => Role::Operator,
            RoleName::Inspector => Role::Inspector,
            RoleName::Status => Role::Status,
        })
    }

    fn as_str(self) -> &'static str {
        match self {
            RoleName::Loader => "loader",
            RoleName::Service => "service",
            RoleName::Operator => "operator",
            RoleName::Inspector => "inspector",
            RoleName::Status => "status",
        }
    }
}

pub(crate) fn run(session: &Session, args: &Args) -> anyhow::Result<Outcome> {
    let role = args.role.of(&args.name)?;
    let flags = &session.global;
    let user = match (&flags.user, args.name.first()) {
        (Some(user), _) => user.clone(),
        (None, Some(key)) => key.to_string(),
        (None, None) => args.role.as_str().to_owned(),
    };
    // It stands in quotes in a configuration, and in a shell's.
    if user.is_empty() || !user.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"'\\`$".contains(&byte)) {
        bail!("`{}` cannot be the name of a user here", user.escape_debug());
    }
    for part in flags.js_domain.iter().chain(&flags.inbox_prefix).chain(&args.journal) {
        ensure!(crate::cli::is_subject(part), "`{}` cannot be a part of a subject", part.escape_debug());
    }
    let bucket = flags.bucket.as_ref().or(session.environment.bucket.as_ref()).map_or("configs", String::as_str);
    let inbox_prefix = flags.inbox_prefix.clone().unwrap_or_else(|| inbox_prefix(&user));
    let permissions = Permissions::of(&role, bucket, flags.js_domain.as_deref(), &inbox_prefix, &args.journal)?;
    let Permissions { publish, subscribe } = &permissions;
    let out = &session.out;
    if out.is_json() {
        out.json(&json!({
            "role": args.role.as_str(), "user": user, "bucket": bucket, "inbox_prefix": inbox_prefix,
            "publish": publish, "subscribe": subscribe,
        }))?;
    } else {
        out.line(&match args.form {
            Form::Nats => nats(args.role, bucket, &user, &permissions),
            Form::Nsc => nsc(&user, &permissions),
        })?;
    }
    Ok(Outcome::Yes)
}

/// An entry of `users`, in `authorization` or in an account.
fn nats(role: RoleName, bucket: &str, user: &str, permissions: &Permissions) -> String {
    let allow = |subjects: &[String]| {
        let subjects: String = subjects.iter().map(|subject| format!("      \"{subject}\"\n")).collect();
        format!("{{ allow: [\n{subjects}    ] }}")
    };
    let who = if is_public_key(user) {
        format!("nkey: {user}")
    } else {
        let variable = user.to_ascii_uppercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_");
        format!("user: \"{user}\"\n  password: $CONFHOT_{variable}_PASSWORD  # from the server's environment")
    };
    format!(
        "# {} of the bucket {bucket}; an entry of `users`, in `authorization` or in an account\n\
         {{\n  {who}\n  permissions: {{\n    publish: {}\n    subscribe: {}\n  }}\n}}",
        role.as_str(),
        allow(&permissions.publish),
        allow(&permissions.subscribe),
    )
}

/// A command that makes the user in nsc's current account.
fn nsc(user: &str, permissions: &Permissions) -> String {
    let mut lines = vec![format!("nsc add user --name '{user}'")];
    lines.extend(permissions.publish.iter().map(|subject| format!("--allow-pub '{subject}'")));
    lines.extend(permissions.subscribe.iter().map(|subject| format!("--allow-sub '{subject}'")));
    lines.join(" \\\n  ")
}

/// Whether a user is called by the public key of an nkey.
fn is_public_key(user: &str) -> bool {
    user.len() == 56 && user.starts_with('U') && user.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'2'..=b'7'))
}
