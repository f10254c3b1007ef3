//! A document: the bytes of one configuration file, what they say, and their digest.
//!
//! Everything that needs the meaning of a file goes through [`Document::parse`], so the three formats refuse the same
//! things: a top level that is not a table, duplicate keys, NUL bytes, more than [`MAX_DEPTH`] levels, text that grows
//! out of proportion when its aliases are expanded.

pub mod guard;
mod hide;
mod locate;
mod parse;
mod path;
mod reading;

use std::{
    fmt,
    path::Path,
    str::FromStr,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use hide::Secrets;
#[cfg(feature = "secrets")]
pub(crate) use hide::at_mut;
pub use hide::{HIDDEN, shown_unparsed};
pub(crate) use hide::{Sought, any_text, each_scalar};
pub use parse::{MAX_DEPTH, ParseError};
pub(crate) use path::{push_key, with_keys, written};

/// How a document is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// TOML 1.1.
    Toml,
    /// JSON, RFC 8259.
    Json,
    /// YAML 1.2 with its core schema (`yes`, `0755` and `1_000` are strings), and with merge keys (`<<`).
    Yaml,
}

impl Format {
    /// The format that a file's extension (without its dot, case-sensitive) stands for; `None` for all others.
    pub fn from_extension(extension: &str) -> Option<Format> {
        match extension {
            "toml" => Some(Format::Toml),
            "json" => Some(Format::Json),
            "yaml" | "yml" => Some(Format::Yaml),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Format::Toml => "toml",
            Format::Json => "json",
            Format::Yaml => "yaml",
        }
    }
}

/// The text is not `toml`, `json` or `yaml`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is none of toml, json, yaml")]
pub struct UnknownFormat(pub String);

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Format, UnknownFormat> {
        [Format::Toml, Format::Json, Format::Yaml]
            .into_iter()
            .find(|format| format.name() == text)
            .ok_or_else(|| UnknownFormat(text.to_owned()))
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Serialize for Format {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// SHA-256 of a document's bytes: what decides whether two are the same.
///
/// Written `sha256:` and 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not a `write!` for each byte: a digest is written for each document that is published.
        let mut hex = [0; 64];
        for (pair, byte) in hex.chunks_exact_mut(2).zip(self.0) {
            pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
            pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
        }
        f.write_str("sha256:")?;
        f.write_str(str::from_utf8(&hex).unwrap_or_default())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not `sha256:` and 64 lower-case hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a digest is `sha256:` and 64 lower-case hex digits")]
pub struct InvalidDigest;

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Digest, InvalidDigest> {
        let nibble = |digit: u8| match digit {
            b'0'..=b'9' => Ok(digit - b'0'),
            b'a'..=b'f' => Ok(digit - b'a' + 10),
            _ => Err(InvalidDigest),
        };
        let hex: &[u8; 64] =
            text.strip_prefix("sha256:").and_then(|hex| hex.as_bytes().try_into().ok()).ok_or(InvalidDigest)?;
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Ok(Digest(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What a file is to confhot, by its name alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A document, in the format that its extension says.
    Document(Format),
    /// A JSON Schema for the document of the same name (`service1.schema.json`).
    Schema,
    /// Everything else.
    Ignored,
}

impl Role {
    /// The role of a file called `file_name` (no directory in it).
    pub fn of(file_name: &str) -> Role {
        // Most of what editors leave behind (`x.toml~`, `.x.toml.swp`, `4913`, `#x.toml#`, `x.toml.tmp`) has no
        // document's extension, and the rest (`.#x.toml`) is a dot file.
        let extension = Path::new(file_name).extension().and_then(|extension| extension.to_str());
        if file_name.starts_with('.') {
            Role::Ignored
        } else if file_name.ends_with(".schema.json") {
            Role::Schema
        } else {
            extension.and_then(Format::from_extension).map_or(Role::Ignored, Role::Document)
        }
    }
}

/// A valid document: its bytes as they were stored, their format and digest, and what they say.
///
/// Its `Debug` shows nothing of what it says.
#[derive(Clone)]
pub struct Document {
    bytes: Bytes,
    format: Format,
    digest: Digest,
    /// How many its top level has.
    keys: usize,
    /// Read from the bytes when it is first asked for.
    said: Arc<OnceLock<Said>>,
    /// None where nothing is secret.
    secrets: Option<Arc<Secrets>>,
}

/// What the bytes say.
#[derive(Clone)]
struct Said {
    value: Value,
    /// Whether that is all that they say.
    exact: bool,
}

impl Said {
    fn nothing() -> Said {
        Said { value: Value::Object(Default::default()), exact: true }
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Document { format, digest, .. } = self;
        f.debug_struct("Document").field("format", format).field("digest", digest).finish_non_exhaustive()
    }
}

impl Document {
    /// Parses `bytes`.
    ///
    /// # Errors
    /// Whatever makes the text invalid. [`ParseError::is_empty`] tells an empty document from a broken one.
    pub fn parse(bytes: Bytes, format: Format) -> Result<Document, ParseError> {
        let digest = Digest::of(&bytes);
        Document::parse_hashed(bytes, digest, format, false)
    }

    /// As [`Document::parse`], but an empty text (nothing, or only white space and comments) is the empty table in
    /// every format, JSON included.
    ///
    /// # Errors
    /// Whatever else makes the text invalid.
    pub fn parse_or_empty(bytes: Bytes, format: Format) -> Result<Document, ParseError> {
        let digest = Digest::of(&bytes);
        Document::parse_hashed(bytes, digest, format, true)
    }

    /// As [`Document::parse`], or with `or_empty` as [`Document::parse_or_empty`], for a caller that has the digest of
    /// `bytes` already: over a whole directory it costs as much as the parsing.
    pub(crate) fn parse_hashed(
        bytes: Bytes,
        digest: Digest,
        format: Format,
        or_empty: bool,
    ) -> Result<Document, ParseError> {
        let said = match parse::said(&bytes, format) {
            Err(error) if or_empty && error.is_empty() => Said::nothing(),
            said => said?,
        };
        let keys = said.value.as_object().map_or(0, serde_json::Map::len);
        Ok(Document { bytes, format, digest, keys, said: Arc::new(said.into()), secrets: None })
    }

    /// As [`Document::parse_hashed`], for a caller that may not ask what it says: where that is quicker, the bytes are
    /// only proven to be valid.
    pub(crate) fn check_hashed(
        bytes: Bytes,
        digest: Digest,
        format: Format,
        or_empty: bool,
    ) -> Result<Document, ParseError> {
        if format != Format::Toml {
            return Document::parse_hashed(bytes, digest, format, or_empty);
        }
        let keys = parse::check_toml(&bytes, or_empty)?;
        Ok(Document { bytes, format, digest, keys, said: Arc::default(), secrets: None })
    }

    /// As [`Document::parse_hashed`] and [`Document::decode`] in one, which takes less than both.
    pub(crate) fn decode_hashed<T: DeserializeOwned>(
        bytes: Bytes,
        digest: Digest,
        format: Format,
        or_empty: bool,
    ) -> Result<(Document, T), ParseError> {
        if format != Format::Toml {
            let document = Document::parse_hashed(bytes, digest, format, or_empty)?;
            return document.decode().map(|decoded| (document, decoded));
        }
        let (keys, decoded) = parse::decode_toml(&bytes, or_empty)?;
        Ok((Document { bytes, format, digest, keys, said: Arc::default(), secrets: None }, decoded))
    }

    fn said(&self) -> &Said {
        // It is valid: only an empty one gives none.
        self.said.get_or_init(|| parse::said(&self.bytes, self.format).unwrap_or_else(|_| Said::nothing()))
    }

    /// Parses `bytes` as the first of JSON, TOML, YAML that takes them.
    ///
    /// # Errors
    /// That of the format which got furthest into the text, as the one most likely meant.
    pub fn detect(bytes: Bytes) -> Result<Document, ParseError> {
        let mut furthest: Option<ParseError> = None;
        for format in [Format::Json, Format::Toml, Format::Yaml] {
            match Document::parse(bytes.clone(), format) {
                Ok(document) => return Ok(document),
                Err(error) => match &furthest {
                    Some(other) if (other.line, other.column) >= (error.line, error.column) => {}
                    _ => furthest = Some(error),
                },
            }
        }
        Err(furthest.unwrap_or_else(|| ParseError::new("no format takes this text")))
    }

    /// The bytes, exactly as they were given.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// How they are written.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Their digest.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// What they say: always an object, its keys in the order of the text.
    ///
    /// For reading, comparing and schemas. A TOML date is a string here, as are `inf`, `-inf` and `nan`; an integer
    /// beyond 64 bits is the nearest float; a YAML key that is a number or a boolean is its text. For the exact values,
    /// [`Document::decode`].
    pub fn value(&self) -> &Value {
        &self.said().value
    }

    /// As [`Document::value`], giving up the rest.
    pub fn into_value(self) -> Value {
        self.said();
        Arc::unwrap_or_clone(self.said).into_inner().map_or(Value::Null, |said| said.value)
    }

    /// Line and column (in characters, from 1) of the value that `path`, keys and indexes from the top level down, leads
    /// to; `None` for the top level, and where the format does not tell.
    pub fn locate(&self, path: &[String]) -> Option<(u32, u32)> {
        locate::locate(parse::text(&self.bytes).ok()?, self.format, path)
    }

    /// Decodes into the caller's own type, exactly: as the format's own deserializer does from the text.
    ///
    /// # Errors
    /// The text does not fit `T`; line and column where the format tells them.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, ParseError> {
        // Where the text was read already, to read it again takes five times as long. YAML's scalars mean what the
        // type wants of them, so that only its text tells.
        if self.format != Format::Yaml
            && let Some(Said { value, exact: true }) = self.said.get()
            && let Ok(decoded) = T::deserialize(value)
        {
            return Ok(decoded);
        }
        parse::decode(&self.bytes, self.format, &self.secrets().plain)
    }
}

#[cfg(test)]
mod tests;
