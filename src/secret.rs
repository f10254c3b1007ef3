//! Strings of a document that are encrypted for [age](https://age-encryption.org) recipients.
//!
//! A *token* is a string that is wholly `ENC[age,<base64>]`: an age file (version 1) in standard base64. The repository,
//! the bucket and the state directory hold the token; who has an identity reads the string ([`open`]) in memory. To make
//! and to read tokens takes the feature `secrets`; to find them does not, so that none is ever taken for a password.

use std::collections::HashMap;

use serde_json::Value;

use crate::document::{Document, written};

const BEGIN: &str = "ENC[age,";
const END: &str = "]";

/// Whether a string is, or was meant to be, a token: one that lost its end is not a password either.
pub fn is_token(text: &str) -> bool {
    text.starts_with(BEGIN)
}

/// The base64 of a token that is whole.
fn sealed(token: &str) -> Option<&str> {
    token.strip_prefix(BEGIN)?.strip_suffix(END)
}

/// The tokens among a document's values: where each stands, its keys and indexes from the top level down, and the token.
pub fn tokens(value: &Value) -> Vec<(Vec<String>, &str)> {
    let mut found = Vec::new();
    if !crate::document::any_text(value, &is_token) {
        return found;
    }
    crate::document::each_scalar(value, &mut |path, scalar| {
        if let Some(text) = scalar.as_str().filter(|text| is_token(text)) {
            found.push((path.to_vec(), text));
        }
    });
    found
}

/// A document cannot be read, because this string in it cannot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {why}")]
pub struct Sealed {
    /// Where, as [`crate::diff::Change::path`] writes it.
    pub path: String,
    /// Why.
    pub why: Unopened,
}

/// Why a token cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unopened {
    /// Nobody gave an identity.
    #[error("it is encrypted, and there is no identity to read it with; name the file that holds one (--identity)")]
    NoIdentity,
    /// It is encrypted for others.
    #[error("it is encrypted for others than this identity; encrypt it for this one too (`confhot secret rotate`)")]
    Others,
    /// It is not what [`encrypt`] gives, or its bytes were changed.
    #[error("it is encrypted and damaged; encrypt it again (`confhot secret encrypt`)")]
    Damaged,
}

/// `document` with its tokens read: its bytes, its digest and its format stay what they are, its value and what it
/// decodes into have the strings. They are hidden in [`Document::shown`], and [`Document::hide`] finds them in texts.
///
/// # Errors
/// The first token that cannot be read. A document without tokens needs no identity.
pub fn open(document: Document, identities: Option<&Identities>) -> Result<Document, Sealed> {
    if !document.may_hold(BEGIN) {
        return Ok(document);
    }
    let mut plain: HashMap<String, String> = HashMap::new();
    let mut paths = Vec::new();
    for (path, token) in tokens(document.value()) {
        // What an alias repeats is read once.
        if !plain.contains_key(token) {
            let text = match identities {
                Some(identities) => identities.open(token),
                None => Err(Unopened::NoIdentity),
            };
            let sealed = |why| Sealed { path: written(document.value(), &path), why };
            plain.insert(token.to_owned(), text.map_err(sealed)?);
        }
        paths.push(path);
    }
    Ok(if paths.is_empty() { document } else { document.opened(plain, paths) })
}

#[cfg(feature = "secrets")]
pub use self::age::{
    EncryptError, InvalidIdentities, InvalidRecipient, Recipient, RotateError, encrypt, generate, rotate,
};

/// Keys that read what was encrypted for them.
pub struct Identities(imp::Keys);

impl std::fmt::Debug for Identities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identities")
    }
}

impl Identities {
    /// The string that was encrypted.
    ///
    /// # Errors
    /// It is for others, or damaged.
    pub fn open(&self, token: &str) -> Result<String, Unopened> {
        self.0.open(sealed(token).ok_or(Unopened::Damaged)?)
    }
}

/// Without the feature there is no way to have an identity.
#[cfg(not(feature = "secrets"))]
mod imp {
    pub(super) enum Keys {}

    impl Keys {
        pub(super) fn open(&self, _: &str) -> Result<String, super::Unopened> {
            match *self {}
        }
    }
}

#[cfg(feature = "secrets")]
use self::age as imp;

#[cfg(feature = "secrets")]
mod age {
    use std::fmt;
    use std::io::{Read as _, Write as _};
    use std::str::FromStr;

    use age::secrecy::ExposeSecret as _;
    use age::x25519;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::{BEGIN, END, Identities, Unopened, sealed, tokens};
    use crate::document::{Document, ParseError, written};

    pub(super) struct Keys(Vec<x25519::Identity>);

    impl Keys {
        pub(super) fn open(&self, base64: &str) -> Result<String, Unopened> {
            let damaged = |_| Unopened::Damaged;
            let bytes = STANDARD.decode(base64).map_err(|_| Unopened::Damaged)?;
            let file = age::Decryptor::new(&bytes[..]).map_err(|_| Unopened::Damaged)?;
            // For a passphrase: nobody is there to type it.
            if file.is_scrypt() {
                return Err(Unopened::Others);
            }
            let keys = self.0.iter().map(|key| key as &dyn age::Identity);
            let mut plain = Vec::new();
            match file.decrypt(keys) {
                Ok(mut text) => text.read_to_end(&mut plain).map_err(|_| Unopened::Damaged)?,
                Err(age::DecryptError::NoMatchingKeys) => return Err(Unopened::Others),
                Err(_) => return Err(Unopened::Damaged),
            };
            String::from_utf8(plain).map_err(|_| ()).map_err(damaged)
        }
    }

    /// Text that is no identities file.
    #[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
    #[non_exhaustive]
    pub enum InvalidIdentities {
        /// A line that is none. It is not repeated here: it may be a secret.
        #[error("line {0} is no X25519 identity such as `age-keygen` writes")]
        Line(usize),
        /// Only comments.
        #[error("it holds no identity")]
        None,
    }

    impl Identities {
        /// Reads what `age-keygen` writes: an identity a line, empty lines, and comments after `#`.
        ///
        /// # Errors
        /// A line is no X25519 identity, or there is none.
        pub fn parse(text: &str) -> Result<Identities, InvalidIdentities> {
            let lines = text.lines().map(str::trim).enumerate();
            let keys = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
            let keys = keys.map(|(at, line)| line.parse().map_err(|_| InvalidIdentities::Line(at + 1)));
            let keys = keys.collect::<Result<Vec<x25519::Identity>, _>>()?;
            if keys.is_empty() { Err(InvalidIdentities::None) } else { Ok(Identities(Keys(keys))) }
        }
    }

    /// Whom a string is encrypted for: `age1…`.
    #[derive(Clone)]
    pub struct Recipient(x25519::Recipient);

    /// The text is no X25519 recipient.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
    #[error("expected an X25519 recipient of age: `age1` and 58 characters")]
    pub struct InvalidRecipient;

    impl FromStr for Recipient {
        type Err = InvalidRecipient;

        fn from_str(text: &str) -> Result<Recipient, InvalidRecipient> {
            text.parse().map(Recipient).map_err(|_| InvalidRecipient)
        }
    }

    impl fmt::Display for Recipient {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.fmt(f)
        }
    }

    impl fmt::Debug for Recipient {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.fmt(f)
        }
    }

    /// A string that was not encrypted.
    #[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
    #[non_exhaustive]
    pub enum EncryptError {
        /// Nobody could read it.
        #[error("no recipient is named")]
        NoRecipient,
        /// Why age refuses.
        #[error("cannot be encrypted: {0}")]
        Refused(String),
    }

    /// A token that each of the recipients can read.
    ///
    /// # Errors
    /// There is no recipient.
    pub fn encrypt(plain: &str, to: &[Recipient]) -> Result<String, EncryptError> {
        let refused = |error: &dyn fmt::Display| EncryptError::Refused(error.to_string());
        let recipients = to.iter().map(|recipient| &recipient.0 as &dyn age::Recipient);
        let file = age::Encryptor::with_recipients(recipients).map_err(|error| match error {
            age::EncryptError::MissingRecipients => EncryptError::NoRecipient,
            other => refused(&other),
        })?;
        let mut bytes = Vec::new();
        let mut writer = file.wrap_output(&mut bytes).map_err(|error| refused(&error))?;
        writer.write_all(plain.as_bytes()).map_err(|error| refused(&error))?;
        writer.finish().map_err(|error| refused(&error))?;
        Ok(format!("{BEGIN}{}{END}", STANDARD.encode(bytes)))
    }

    /// A new identity, as one line of an identities file, and whom to encrypt for so that it can be read with it.
    pub fn generate() -> (String, Recipient) {
        let key = x25519::Identity::generate();
        (key.to_string().expose_secret().to_owned(), Recipient(key.to_public()))
    }

    /// Why a document was not encrypted anew.
    #[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
    #[non_exhaustive]
    pub enum RotateError {
        /// One of its tokens cannot be read.
        #[error(transparent)]
        Sealed(#[from] super::Sealed),
        /// See there.
        #[error(transparent)]
        Encrypt(#[from] EncryptError),
        /// Its text does not hold a token as it is: escaped, or over several lines.
        #[error("{path}: it is not written in one piece; write it on one line, without escapes")]
        Pieces {
            /// Where.
            path: String,
        },
        /// See there.
        #[error(transparent)]
        Parse(#[from] ParseError),
    }

    /// The text of `document` with each of its tokens encrypted anew for `to`, and all else as it stands there: comments,
    /// order, white space. Gives how many they were too; a string that stands in several places is one.
    ///
    /// # Errors
    /// A token cannot be read, or not be replaced. Nothing is half done.
    pub fn rotate(
        document: &Document,
        identities: &Identities,
        to: &[Recipient],
    ) -> Result<(Vec<u8>, usize), RotateError> {
        let mut text = String::from_utf8_lossy(document.bytes()).into_owned();
        let mut after = document.value().clone();
        let mut fresh: std::collections::HashMap<&str, String> = std::collections::HashMap::new();
        for (path, token) in tokens(document.value()) {
            let at = || written(document.value(), &path);
            if !fresh.contains_key(token) {
                let plain = identities.open(token).map_err(|why| super::Sealed { path: at(), why })?;
                let new = encrypt(&plain, to)?;
                if sealed(token).is_none() || !text.contains(token) {
                    return Err(RotateError::Pieces { path: at() });
                }
                text = text.replace(token, &new);
                fresh.insert(token, new);
            }
            if let Some(place) = crate::document::at_mut(&mut after, &path) {
                *place = fresh[token].clone().into();
            }
        }
        let count = fresh.len();
        // The text has to say what it said, but for the tokens: one that stood there in pieces as well is still the old one.
        let parsed = Document::parse_or_empty(text.clone().into_bytes().into(), document.format())?;
        let difference = crate::diff::changes(&after, parsed.value()).into_iter().next();
        match difference {
            Some(change) => Err(RotateError::Pieces { path: change.path }),
            None => Ok((text.into_bytes(), count)),
        }
    }
}

#[cfg(test)]
#[cfg(feature = "secrets")]
mod tests;
