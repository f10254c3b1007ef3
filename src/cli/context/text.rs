//! What a context says. Pure.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::bail;
use confhot::kv::Credentials;
use serde::Deserialize;

/// What confhot follows of a context.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Context {
    pub(crate) url: Option<String>,
    user: Option<String>,
    password: Option<String>,
    token: Option<String>,
    creds: Option<PathBuf>,
    nkey: Option<PathBuf>,
    pub(crate) cert: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) inbox_prefix: Option<String>,
    pub(crate) jetstream_domain: Option<String>,
    pub(crate) tls_first: bool,
    #[serde(flatten)]
    others: HashMap<String, serde_json::Value>,
}

/// What a context may say beside that and what would lead elsewhere, or nowhere, if it was passed over.
const NOT_FOLLOWED: [&str; 5] = ["nsc", "user_jwt", "user_seed", "jetstream_api_prefix", "socks_proxy"];

impl Context {
    /// The context that `text` says, without what is empty, and with paths that begin with `~/` made absolute.
    pub(crate) fn parse(text: &str, home: Option<&Path>) -> anyhow::Result<Context> {
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
                let below = path.strip_prefix('~').filter(|rest| rest.is_empty() || rest.starts_with('/'));
                *file = match (below, home) {
                    (Some(rest), Some(home)) => Some(home.join(rest.trim_start_matches('/'))),
                    _ => Some(path).filter(|path| !path.is_empty()).map(PathBuf::from),
                };
            }
        }
        Ok(context)
    }

    /// Who the context says we are, if it does.
    pub(crate) fn credentials(&self) -> Option<Credentials> {
        Some(match self {
            Context { creds: Some(file), .. } => Credentials::File(file.clone()),
            Context { nkey: Some(file), .. } => Credentials::Nkey(file.clone()),
            Context { token: Some(token), .. } => Credentials::Token(token.clone()),
            Context { user: Some(user), password, .. } => {
                Credentials::User(user.clone(), password.clone().unwrap_or_default())
            }
            _ => return None,
        })
    }
}
