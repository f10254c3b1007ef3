//! Who a connection says it is, and how it proves it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use async_nats::Auth;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use serde::Deserialize;

use super::ConnectError;
use super::status::token;

/// Who a connection says it is. Files are read again at each connect, so that what was rotated is used.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum Credentials {
    /// Nobody, or whom the client certificate names.
    #[default]
    None,
    /// A `.creds` file with a user JWT and its seed.
    File(PathBuf),
    /// A file with an nkey seed.
    Nkey(PathBuf),
    /// User and password.
    User(String, String),
    /// A user, and a file with the password.
    PasswordFile(String, PathBuf),
    /// A token.
    Token(String),
    /// A file with a token.
    TokenFile(PathBuf),
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Credentials::None => "None",
            Credentials::File(_) => "File(..)",
            Credentials::Nkey(_) => "Nkey(..)",
            Credentials::User(..) => "User(..)",
            Credentials::PasswordFile(..) => "PasswordFile(..)",
            Credentials::Token(_) => "Token(..)",
            Credentials::TokenFile(_) => "TokenFile(..)",
        })
    }
}

impl Credentials {
    /// The answer to a server that greets with `nonce`.
    pub(super) fn answer(&self, nonce: &[u8]) -> Result<Auth, ConnectError> {
        let mut auth = Auth::new();
        match self {
            Credentials::None => {}
            Credentials::File(path) => {
                let (jwt, pair) = read(path, |text| {
                    let (jwt, seed) =
                        jwt_and_seed(text).ok_or_else(|| invalid("it holds no user JWT with its seed"))?;
                    Ok((jwt.to_owned(), KeyPair::from_seed(seed).map_err(invalid)?))
                })?;
                auth.jwt = Some(jwt);
                auth.signature = Some(signed(&pair, nonce, path)?);
            }
            Credentials::Nkey(path) => {
                let pair = read(path, pair)?;
                auth.nkey = Some(pair.public_key());
                auth.signature = Some(signed(&pair, nonce, path)?);
            }
            Credentials::User(user, password) => {
                (auth.username, auth.password) = (Some(user.clone()), Some(password.clone()));
            }
            Credentials::PasswordFile(user, path) => {
                (auth.username, auth.password) = (Some(user.clone()), Some(read(path, line)?));
            }
            Credentials::Token(token) => auth.token = Some(token.clone()),
            Credentials::TokenFile(path) => auth.token = Some(read(path, line)?),
        }
        Ok(auth)
    }

    /// The prefix that the inboxes of this user have, so that the right to hear answers can be given to each user alone:
    /// `_INBOX_` and the user's name, which of an nkey is the public key; `_INBOX_confhot` for one without a name.
    pub(super) fn inbox_prefix(&self) -> Result<String, ConnectError> {
        Ok(match self {
            Credentials::User(user, _) | Credentials::PasswordFile(user, _) => inbox_prefix(user),
            Credentials::Nkey(path) => inbox_prefix(&read(path, pair)?.public_key()),
            Credentials::File(path) => inbox_prefix(&read(path, |text| {
                let name = jwt_and_seed(text).and_then(|(jwt, _)| name_in(jwt));
                name.ok_or_else(|| invalid("its user JWT names no user"))
            })?),
            Credentials::None | Credentials::Token(_) | Credentials::TokenFile(_) => inbox_prefix("confhot"),
        })
    }
}

/// The prefix that the inboxes of `user` have where nothing else is said: `_INBOX_` and the name, as [`token`] writes it.
pub fn inbox_prefix(user: &str) -> String {
    format!("_INBOX_{}", token(user))
}

fn invalid(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn read<T>(path: &Path, parse: impl FnOnce(&str) -> io::Result<T>) -> Result<T, ConnectError> {
    let text = fs::read_to_string(path).and_then(|text| parse(&text));
    text.map_err(|source| ConnectError::Credentials { path: path.to_owned(), source })
}

fn signed(pair: &KeyPair, nonce: &[u8], path: &Path) -> Result<Vec<u8>, ConnectError> {
    let unusable = |error| ConnectError::Credentials { path: path.to_owned(), source: invalid(error) };
    pair.sign(nonce).map_err(unusable)
}

/// The only line of a file.
fn line(text: &str) -> io::Result<String> {
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(invalid("it is empty")),
        line => Ok(line.to_owned()),
    }
}

/// The key pair of a file with a seed, on a line of its own.
fn pair(text: &str) -> io::Result<KeyPair> {
    let seed = text.lines().map(str::trim).find(|line| line.starts_with('S'));
    KeyPair::from_seed(seed.ok_or_else(|| invalid("it holds no nkey seed"))?).map_err(invalid)
}

/// What a `.creds` file holds: two blocks between lines of dashes.
pub(super) fn jwt_and_seed(text: &str) -> Option<(&str, &str)> {
    let mut lines = text.lines().map(str::trim);
    let mut block = || {
        lines.find(|line| line.starts_with("---"))?;
        let body = lines.find(|line| !line.is_empty())?;
        lines.find(|line| line.starts_with("---"))?;
        Some(body)
    };
    Some((block()?, block()?))
}

/// The user's name in a JWT, else its public key.
pub(super) fn name_in(jwt: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Claims {
        #[serde(default)]
        name: String,
        sub: String,
    }
    let claims = URL_SAFE_NO_PAD.decode(jwt.split('.').nth(1)?).ok()?;
    let claims: Claims = serde_json::from_slice(&claims).ok()?;
    Some(if claims.name.is_empty() { claims.sub } else { claims.name })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_user_is_called_cannot_reach_into_the_inboxes_of_another() {
        assert_eq!(inbox_prefix("service1"), "_INBOX_service1");
        for name in ["a.b", "*", ">", "a b", ""] {
            let prefix = inbox_prefix(name);
            assert!(!prefix.contains(['.', '*', '>', ' ']) && prefix.len() > "_INBOX_".len(), "{prefix}");
        }
        assert_ne!(inbox_prefix("a.b"), inbox_prefix("a=2Eb"));
    }

    #[test]
    fn a_file_that_holds_no_secret_is_unusable_and_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        for text in ["", "\n", "-----BEGIN NATS USER JWT-----\nx\n------END NATS USER JWT------\n", "SUAXXX"] {
            fs::write(&path, text).unwrap();
            for credentials in [Credentials::File(path.clone()), Credentials::Nkey(path.clone())] {
                let error = credentials.answer(b"nonce").err();
                assert!(
                    matches!(&error, Some(ConnectError::Credentials { path: told, .. }) if *told == path),
                    "{text}"
                );
                assert!(credentials.inbox_prefix().is_err(), "{text}");
            }
        }
        fs::write(&path, "\n").unwrap();
        assert!(Credentials::TokenFile(path.clone()).answer(b"").is_err());
        fs::write(&path, "a secret \r\n").unwrap();
        assert_eq!(Credentials::TokenFile(path).answer(b"").unwrap().token.as_deref(), Some("a secret "));
    }
}
