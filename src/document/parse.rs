//! From text to values, and where and why a text is refused.

use std::{cell::Cell, collections::HashMap, fmt, str};

use serde::de::{DeserializeOwned, DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use serde_saphyr::{MessageFormatter as _, UserMessageFormatter, budget::BudgetBreach};

use super::reading::Reading;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Format, Said};

/// The deepest that tables and arrays may nest, the top level included.
///
/// The least of what the three parsers take, so that a document has the same limit in each of them.
pub const MAX_DEPTH: usize = 80;

/// The longest reason, in characters. Reasons go into one line of a log, a header and an event.
const MAX_REASON: usize = 200;

/// A YAML document may grow this much by its aliases: a fixed part for small ones, and a multiple of its own size.
const GROWTH_BASE: usize = 1 << 20;
const GROWTH_FACTOR: usize = 4;

/// Why a text is not a valid document, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ParseError {
    /// The line, counted from 1, where it is known.
    pub line: Option<u32>,
    /// The column in that line, in characters, counted from 1.
    pub column: Option<u32>,
    /// One line of at most about 200 characters. Names keys and unexpected values, never quotes the line.
    pub reason: String,
    empty: bool,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.column) {
            (Some(line), Some(column)) => write!(f, "line {line}, column {column}: {}", self.reason),
            (Some(line), None) => write!(f, "line {line}: {}", self.reason),
            _ => f.write_str(&self.reason),
        }
    }
}

impl ParseError {
    /// An error of the whole document.
    pub(crate) fn new(reason: impl fmt::Display) -> ParseError {
        ParseError { line: None, column: None, reason: one_line(&reason.to_string()), empty: false }
    }

    /// An error at a byte of `text`. Columns count characters, so the offset is not enough for the caller.
    fn at(text: &[u8], offset: usize, reason: impl fmt::Display) -> ParseError {
        ParseError::located(place(text, offset), reason)
    }

    /// An error at `place`, line and column, where that is known.
    pub(crate) fn located(place: Option<(u32, u32)>, reason: impl fmt::Display) -> ParseError {
        let (line, column) = place.unzip();
        ParseError { line, column, ..ParseError::new(reason) }
    }

    /// True where there is nothing in the document: no bytes, or only white space and comments.
    ///
    /// It is an error because half a save looks the same; [`super::Document::parse_or_empty`] is for those who mean it.
    pub fn is_empty(&self) -> bool {
        self.empty
    }
}

/// Line and column of a byte of `text`.
pub(super) fn place(text: &[u8], offset: usize) -> Option<(u32, u32)> {
    let before = &text[..offset.min(text.len())];
    let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    let line = before[..start].iter().filter(|byte| **byte == b'\n').count() + 1;
    // A character is counted by its first byte, so a column is right even where the text ends inside of one.
    let column = before[start..].iter().filter(|byte| **byte & 0xc0 != 0x80).count() + 1;
    Some((u32::try_from(line).ok()?, u32::try_from(column).ok()?))
}

fn one_line(reason: &str) -> String {
    let mut line: String =
        reason.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_REASON).collect();
    if reason.trim().chars().nth(MAX_REASON).is_some() {
        line.push('…');
    }
    line
}

/// The text of `bytes`, without a byte order mark: some editors write one, and none of the formats gives it a meaning.
pub(super) fn text(bytes: &[u8]) -> Result<&str, ParseError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = str::from_utf8(bytes).map_err(|error| ParseError::at(bytes, error.valid_up_to(), "not UTF-8"))?;
    // What a crash leaves of a file that was being written. No format allows it, and each would say so differently.
    match text.find('\0') {
        Some(offset) => Err(ParseError::at(bytes, offset, "a NUL byte")),
        None => Ok(text),
    }
}

/// What the text says, as an object, and whether that is all that it says: dates, `inf` and `nan`, and integers beyond
/// 64 bits are less exact there.
pub(super) fn said(bytes: &[u8], format: Format) -> Result<Said, ParseError> {
    let text = text(bytes)?;
    if is_empty(text, format) {
        return Err(empty());
    }
    let room = Cell::new(GROWTH_BASE + GROWTH_FACTOR * text.len());
    let exact = Cell::new(true);
    let top = Node { room: &room, exact: &exact, depth: 0, datetimes: format == Format::Toml };
    let value = match format {
        Format::Toml => toml::Deserializer::parse(text)
            .and_then(|document| top.deserialize(document))
            .map_err(|error| of_toml(text, &error))?,
        Format::Json => {
            let mut document = serde_json::Deserializer::from_str(text);
            top.deserialize(&mut document)
                .and_then(|value| document.end().map(|()| value))
                .map_err(|error| of_json(text, &error))?
        }
        Format::Yaml => serde_saphyr::with_deserializer_from_str_with_options(text, yaml_options(), |document| {
            top.deserialize(document)
        })
        .map_err(|error| of_yaml(&error))?,
    };
    let kind = match value {
        Value::Object(_) => return Ok(Said { value, exact: exact.get() }),
        Value::Array(_) => "an array",
        Value::String(_) => "a string",
        Value::Number(_) => "a number",
        Value::Bool(_) => "a boolean",
        Value::Null => "null",
    };
    Err(ParseError::at(text.as_bytes(), 0, format_args!("the top level is {kind}, not a table")))
}

/// Reads TOML and refuses what [`said`] refuses of it, in less time: nothing is built. An empty text is the empty table if
/// `or_empty`.
fn toml_table(text: &str, or_empty: bool) -> Result<Spanned<DeTable<'_>>, ParseError> {
    if !or_empty && is_empty(text, Format::Toml) {
        return Err(empty());
    }
    let table = DeTable::parse(text).map_err(|error| of_toml(text, &error))?;
    fits_table(table.get_ref(), 1).map_err(|(at, reason)| ParseError::at(text.as_bytes(), at, reason))?;
    Ok(table)
}

/// Refuses what [`said`] refuses of TOML. Gives how many keys the top level has.
pub(super) fn check_toml(bytes: &[u8], or_empty: bool) -> Result<usize, ParseError> {
    toml_table(text(bytes)?, or_empty).map(|table| table.get_ref().len())
}

/// The same, and decodes it into `T`.
pub(super) fn decode_toml<T: DeserializeOwned>(bytes: &[u8], or_empty: bool) -> Result<(usize, T), ParseError> {
    let text = text(bytes)?;
    let table = toml_table(text, or_empty)?;
    let keys = table.get_ref().len();
    let decoded = T::deserialize(toml::Deserializer::from(table)).map_err(|error| of_toml(text, &error))?;
    Ok((keys, decoded))
}

/// Where and why a value that is at `depth` is no part of a document, though the parser takes it.
type Misfit = (usize, &'static str);

fn fits_table(table: &DeTable<'_>, depth: usize) -> Result<(), Misfit> {
    table.values().try_for_each(|value| fits(value, depth))
}

fn fits(value: &Spanned<DeValue<'_>>, depth: usize) -> Result<(), Misfit> {
    let misfit = |reason| Err((value.span().start, reason));
    match value.get_ref() {
        DeValue::Table(_) | DeValue::Array(_) if depth >= MAX_DEPTH => misfit(TOO_DEEP),
        DeValue::Table(table) => fits_table(table, depth + 1),
        DeValue::Array(array) => array.iter().try_for_each(|value| fits(value, depth + 1)),
        DeValue::Integer(number) => {
            let (digits, radix) = (number.as_str(), number.radix());
            let known = i128::from_str_radix(digits, radix).is_ok() || u128::from_str_radix(digits, radix).is_ok();
            if known { Ok(()) } else { misfit("integer number overflowed") }
        }
        DeValue::Float(number) => {
            let digits = number.as_str();
            let known =
                digits.parse::<f64>().is_ok_and(|number| number.is_finite() || !digits.contains(char::is_numeric));
            if known { Ok(()) } else { misfit("floating-point number overflowed") }
        }
        DeValue::String(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => Ok(()),
    }
}

fn empty() -> ParseError {
    ParseError { empty: true, ..ParseError::new("the document is empty") }
}

/// Decodes into `T`; an empty text is the empty table. `plain` says what tokens in it stand for.
pub(super) fn decode<T: DeserializeOwned>(
    bytes: &[u8],
    format: Format,
    plain: &HashMap<String, String>,
) -> Result<T, ParseError> {
    let text = text(bytes)?;
    let text = if format != Format::Toml && is_empty(text, format) { "{}" } else { text };
    match format {
        Format::Toml => toml::Deserializer::parse(text)
            .and_then(|document| T::deserialize(Reading(document, plain)))
            .map_err(|error| of_toml(text, &error)),
        Format::Json => {
            let mut document = serde_json::Deserializer::from_str(text);
            T::deserialize(Reading(&mut document, plain))
                .and_then(|value| document.end().map(|()| value))
                .map_err(|error| of_json(text, &error))
        }
        Format::Yaml => serde_saphyr::with_deserializer_from_str_with_options(text, yaml_options(), |document| {
            T::deserialize(Reading(document, plain))
        })
        .map_err(|error| of_yaml(&error)),
    }
}

fn is_empty(text: &str, format: Format) -> bool {
    text.lines().map(str::trim).all(|line| match format {
        Format::Json => line.is_empty(),
        Format::Toml => line.is_empty() || line.starts_with('#'),
        Format::Yaml => {
            let line = line.strip_prefix("---").map_or(line, str::trim_start);
            line.is_empty() || line.starts_with('#') || line == "..."
        }
    })
}

pub(super) fn yaml_options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        // Linear in the text, and so bounded by the size of the text, are all but what aliases repeat.
        budget: serde_saphyr::budget! {
            // One level more than `Node` takes, so that it is the one to refuse.
            max_depth: MAX_DEPTH + 1,
            flow_nesting_limit: MAX_DEPTH + 1,
            max_events: usize::MAX,
            max_nodes: usize::MAX,
            max_total_scalar_bytes: usize::MAX,
            max_recorded_anchor_events: 200_000,
            // One set of defaults merged into hundreds of services is ordinary.
            enforce_alias_anchor_ratio: false,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 200_000 },
        // YAML 1.2, as what reads these files elsewhere does: `country: no` is not a boolean, `mode: 0755` not 755.
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        non_finite_float_policy: serde_saphyr::NonFiniteFloatPolicy::PassThrough,
        // Snippets quote the document.
        with_snippet: false,
    }
}

fn of_toml(text: &str, error: &toml::de::Error) -> ParseError {
    let span = error.span().unwrap_or(0..0);
    match (error.message(), text.get(span.clone())) {
        ("duplicate key", Some(key)) => {
            ParseError::at(text.as_bytes(), span.start, duplicate(key.trim_matches(['"', '\''])))
        }
        (message, _) if message.contains("recurs") => ParseError::at(text.as_bytes(), span.start, TOO_DEEP),
        (message, _) => ParseError::at(text.as_bytes(), span.start, message),
    }
}

fn of_json(text: &str, error: &serde_json::Error) -> ParseError {
    let message = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    let reason = message.strip_suffix(&position).unwrap_or(&message);
    if error.line() == 0 {
        return ParseError::new(reason);
    }
    // serde_json counts bytes, and stands on the last one that it has read.
    let start = match error.line() {
        1 => 0,
        line => text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').nth(line - 2).map_or(0, |(at, _)| at + 1),
    };
    let mut offset = (start + error.column().saturating_sub(1)).min(text.len());
    if reason.starts_with(DUPLICATE) {
        offset = start_of_key(text.as_bytes(), offset);
    }
    ParseError::at(text.as_bytes(), offset, reason)
}

/// Where the last JSON string that ends at or before `offset` starts.
fn start_of_key(text: &[u8], offset: usize) -> usize {
    let quotes = |before: usize| text[..before].iter().rposition(|byte| *byte == b'"');
    let Some(close) = quotes((offset + 1).min(text.len())) else { return offset };
    let mut from = close;
    while let Some(open) = quotes(from) {
        let escapes = text[..open].iter().rev().take_while(|byte| **byte == b'\\').count();
        if escapes % 2 == 0 {
            return open;
        }
        from = open;
    }
    offset
}

fn of_yaml(error: &serde_saphyr::Error) -> ParseError {
    let mut cause = error;
    while let serde_saphyr::Error::AliasError { error, .. } = cause {
        cause = error;
    }
    let reason = match cause {
        serde_saphyr::Error::DuplicateMappingKey { key: Some(key), .. } => duplicate(key).into(),
        serde_saphyr::Error::MultipleDocuments { .. } => "more than one document".into(),
        serde_saphyr::Error::RecursiveReferencesRequireWeakTypes { .. } => "an alias inside of its own anchor".into(),
        serde_saphyr::Error::Budget { breach: BudgetBreach::Depth { .. }, .. } => TOO_DEEP.into(),
        serde_saphyr::Error::Budget { .. } | serde_saphyr::Error::AliasReplayLimitExceeded { .. } => TOO_LARGE.into(),
        cause => match UserMessageFormatter.format_message(cause) {
            message if message.contains("recursion limit") => TOO_DEEP.into(),
            message => message,
        },
    };
    let known = |number: u64| u32::try_from(number).ok().filter(|number| *number > 0);
    let place = error.location();
    ParseError {
        line: place.and_then(|place| known(place.line())),
        column: place.and_then(|place| known(place.column())),
        ..ParseError::new(reason)
    }
}

const DUPLICATE: &str = "duplicate key";
const TOO_DEEP: &str = "nested more than 80 levels deep";
const TOO_LARGE: &str = "its aliases make it too large";

fn duplicate(key: &str) -> String {
    format!("{DUPLICATE} `{key}`")
}

/// Builds a [`Value`] from any of the formats, refusing what `Value`'s own implementation lets pass: a duplicate key
/// silently wins there.
#[derive(Clone, Copy)]
struct Node<'a> {
    /// How many more bytes of keys and strings the document may come to.
    room: &'a Cell<usize>,
    /// Cleared by what a [`Value`] cannot hold as it is.
    exact: &'a Cell<bool>,
    depth: usize,
    /// Whether a table may be a TOML date in disguise.
    datetimes: bool,
}

/// What toml hands a date over as: a table with this one key.
const DATETIME: &str = "$__toml_private_datetime";

impl Node<'_> {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth >= MAX_DEPTH {
            return Err(E::custom(TOO_DEEP));
        }
        Ok(Node { depth: self.depth + 1, ..self })
    }

    fn take<E: serde::de::Error>(self, bytes: usize) -> Result<(), E> {
        let left = self.room.get().checked_sub(bytes).ok_or_else(|| E::custom(TOO_LARGE))?;
        self.room.set(left);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i128<E: serde::de::Error>(self, value: i128) -> Result<Value, E> {
        self.exact.set(false);
        self.visit_f64(value as f64)
    }

    fn visit_u128<E: serde::de::Error>(self, value: u128) -> Result<Value, E> {
        self.exact.set(false);
        self.visit_f64(value as f64)
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        if let Some(number) = serde_json::Number::from_f64(value) {
            return Ok(Value::Number(number));
        }
        self.exact.set(false);
        Ok(if value.is_nan() {
            "nan"
        } else if value > 0.0 {
            "inf"
        } else {
            "-inf"
        }
        .into())
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.visit_string(value.to_owned())
    }

    fn visit_string<E: serde::de::Error>(self, value: String) -> Result<Value, E> {
        self.take(value.len())?;
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut array = Vec::with_capacity(items.size_hint().unwrap_or(0).min(64));
        while let Some(item) = items.next_element_seed(inner)? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut table = Map::with_capacity(entries.size_hint().unwrap_or(0).min(64));
        while let Some(key) = entries.next_key::<String>()? {
            self.take(key.len())?;
            if self.datetimes && key == DATETIME {
                self.exact.set(false);
                return entries.next_value::<String>().map(Value::String);
            }
            match table.entry(key) {
                serde_json::map::Entry::Occupied(entry) => return Err(A::Error::custom(duplicate(entry.key()))),
                serde_json::map::Entry::Vacant(entry) => entry.insert(entries.next_value_seed(inner)?),
            };
        }
        Ok(Value::Object(table))
    }
}
