//! Contexts of the `nats` CLI: `nats/context/<name>.json` below the user's configuration directory, and the name of the
//! selected one in `nats/context.txt` (natscontext of jsm.go).

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use confhot::kv::Credentials;
use serde::Deserialize;

use crate::commands::nearest;

/// What confhot follows of a context.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Context {
    pub(super) url: Option<String>,
    user: Option<String>,
    password: Option<String>,
    token: Option<String>,
    creds: Option<PathBuf>,
    nkey: Option<PathBuf>,
    pub(super) cert: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    pub(super) ca: Option<PathBuf>,
    pub(super) inbox_prefix: Option<String>,
    pub(super) jetstream_domain: Option<String>,
    pub(super) tls_first: bool,
    #[serde(flatten)]
    others: HashMap<String, serde_json::Value>,
}

/// What a context may say beside that and what would lead elsewhere, or nowhere, if it was passed over.
const NOT_FOLLOWED: [&str; 5] = ["nsc", "user_jwt", "user_seed", "jetstream_api_prefix", "socks_proxy"];

impl Context {
    /// The context called `name`.
    pub(super) fn load(config_home: &Path, name: &str, home: Option<&Path>) -> anyhow::Result<Context> {
        let dir = config_home.join("nats/context");
        if name.contains(['/', '\\']) || name.contains("..") {
            bail!("`{}` cannot be the name of a context", name.escape_debug());
        }
        let file = dir.join(format!("{name}.json"));
        let text = match fs::read_to_string(&file) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let names = fs::read_dir(&dir).into_iter().flatten().flatten();
                let names = names.filter_map(|file| Some(file.file_name().to_str()?.strip_suffix(".json")?.to_owned()));
                match nearest(name, names) {
                    Some(near) => bail!("there is no context `{name}`, but `{near}`"),
                    None => bail!("there is no context `{name}` in {}", dir.display()),
                }
            }
            text => text.with_context(|| format!("cannot read {}", file.display()))?,
        };
        Context::parse(&text, home).with_context(|| format!("cannot follow the context in {}", file.display()))
    }

    /// The selected context, if one is.
    pub(super) fn selected(config_home: &Path, home: Option<&Path>) -> anyhow::Result<Option<Context>> {
        let file = config_home.join("nats/context.txt");
        match fs::read_to_string(&file) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            text => match text.with_context(|| format!("cannot read {}", file.display()))?.trim() {
                "" => Ok(None),
                name => Context::load(config_home, name, home).map(Some),
            },
        }
    }

    /// The context that `text` says, without what is empty, and with paths that begin with `~/` made absolute.
    pub(super) fn parse(text: &str, home: Option<&Path>) -> anyhow::Result<Context> {
        let mut context: Context = serde_json::from_str(text)?;
        if let Some(key) = NOT_FOLLOWED.iter().find(|key| {
            context.others.get(**key).and_then(serde_json::Value::as_str).is_some_and(|value| !value.is_empty())
        }) {
            bail!("it says `{key}`, which confhot does not support");
        }
        let Context { url, user, password, token, inbox_prefix, jetstream_domain, .. } = &mut context;
        for text in [url, user, password, token, inbox_prefix, jetstream_domain] {
            text.take_if(|text| text.is_empty());
        }
        let Context { creds, nkey, cert, key, ca, .. } = &mut context;
        for file in [creds, nkey, cert, key, ca] {
            file.take_if(|file| file.as_os_str().is_empty());
            if let Some(text) = file.as_ref().and_then(|file| file.to_str()) {
                let path = text.strip_prefix("file://").unwrap_or(text);
                if path.contains("://") {
                    bail!("it keeps a secret at `{text}`, where confhot does not look: only files are supported");
                }
                *file = Some(match (path.strip_prefix("~/"), home) {
                    (Some(rest), Some(home)) => home.join(rest),
                    _ => PathBuf::from(path),
                });
            }
        }
        Ok(context)
    }

    /// Who the context says we are.
    pub(super) fn credentials(&self) -> Credentials {
        match self {
            Context { creds: Some(file), .. } => Credentials::File(file.clone()),
            Context { nkey: Some(file), .. } => Credentials::Nkey(file.clone()),
            Context { token: Some(token), .. } => Credentials::Token(token.clone()),
            Context { user: Some(user), password, .. } => {
                Credentials::User(user.clone(), password.clone().unwrap_or_default())
            }
            _ => Credentials::None,
        }
    }
}
