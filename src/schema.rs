//! What a document must look like beyond being valid: a JSON Schema (2020-12), as `service1.schema.json` says it of
//! `service1`.
//!
//! Nothing is ever fetched: a `$ref` leads to another place of the same schema, or the schema is broken.

use std::fmt;

use bytes::Bytes;
use jsonschema::error::{ValidationError, ValidationErrorKind};
use jsonschema::paths::Location;
use serde_json::Value;

use crate::diff::push_key;
use crate::document::{Document, Format, ParseError};

/// A schema, ready to check with.
#[derive(Debug)]
pub struct Schema {
    validator: jsonschema::Validator,
}

/// One thing that a document has and its schema does not allow, or the other way round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Where in the document, as [`crate::diff::Change::path`] writes it; empty for the top level.
    pub path: String,
    /// The line, counted from 1, where it is known.
    pub line: Option<u32>,
    /// The column in that line, in characters, counted from 1.
    pub column: Option<u32>,
    /// What is wrong. Names keys and what the schema wants; never the value, which may be a secret.
    pub reason: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => f.write_str(&self.reason),
            path => write!(f, "{path}: {}", self.reason),
        }
    }
}

/// More of one document are not told: one mistake may violate the schema in a thousand places.
const MOST: usize = 20;

impl Schema {
    /// Parses `bytes`, which are JSON.
    ///
    /// # Errors
    /// They are no JSON object, or that is no schema: by its meta-schema, or because a `$ref` leads nowhere.
    pub fn parse(bytes: Bytes) -> Result<Schema, ParseError> {
        Schema::of(&Document::parse(bytes, Format::Json)?)
    }

    /// The schema that `document` is.
    ///
    /// # Errors
    /// As [`Schema::parse`].
    pub fn of(document: &Document) -> Result<Schema, ParseError> {
        if document.format() != Format::Json {
            return Err(ParseError::new("a schema is written in JSON"));
        }
        match jsonschema::options().offline().build(document.value()) {
            Ok(validator) => Ok(Schema { validator }),
            Err(error) => {
                let wrong = violation(document, &steps(error.instance_path()), reason(&error));
                Err(ParseError::located(wrong.line.zip(wrong.column), format_args!("not a schema: {wrong}")))
            }
        }
    }

    /// What in `document` violates the schema, in the order of the text where that is known; at most 20.
    pub fn check(&self, document: &Document) -> Vec<Violation> {
        // Most documents are good, and that is known sooner than what is wrong.
        if self.validator.is_valid(document.value()) {
            return Vec::new();
        }
        let mut violations = Vec::new();
        for error in self.validator.iter_errors(document.value()) {
            let path = steps(error.instance_path());
            match error.kind() {
                ValidationErrorKind::AdditionalProperties { unexpected }
                | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
                    for key in unexpected {
                        let path = [&path[..], std::slice::from_ref(key)].concat();
                        violations.push(violation(document, &path, "the schema knows no such key".into()));
                    }
                }
                _ => violations.push(violation(document, &path, reason(&error))),
            }
            if violations.len() >= MOST {
                break;
            }
        }
        violations.truncate(MOST);
        violations.sort_by_key(|it| (it.line.is_none(), it.line, it.column));
        violations
    }

    /// As [`Schema::check`], as one error: the first violation, and how many there are beside it.
    ///
    /// # Errors
    /// The document violates the schema.
    pub fn judge(&self, document: &Document) -> Result<(), ParseError> {
        let violations = self.check(document);
        let Some(first) = violations.first() else { return Ok(()) };
        let more = match violations.len() - 1 {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        let place = first.line.zip(first.column);
        Err(ParseError::located(place, format_args!("the schema refuses it: {first}{more}")))
    }
}

fn violation(document: &Document, path: &[String], reason: String) -> Violation {
    let (line, column) = document.locate(path).unzip();
    Violation { path: written(document.value(), path), line, column, reason }
}

/// Stands for the value in what is told.
const VALUE: &str = "the value";

/// The library's words, without the value that they are about.
fn reason(error: &ValidationError<'_>) -> String {
    match error.kind() {
        ValidationErrorKind::Required { property } => format!("{property} is missing"),
        ValidationErrorKind::FalseSchema => "the schema allows nothing here".into(),
        // In full, where the library's words are "or 3 other candidates".
        ValidationErrorKind::Enum { options } if options.as_array().is_some_and(|options| options.len() <= 12) => {
            format!("{VALUE} is none of {}", options.to_string().trim_matches(['[', ']']).replace(',', ", "))
        }
        ValidationErrorKind::PropertyNames { error } => format!("a key of it: {}", error.masked_with(VALUE)),
        _ => error.masked_with(VALUE).to_string(),
    }
}

fn steps(path: &Location) -> Vec<String> {
    path.iter().map(|step| step.to_string()).collect()
}

/// A path as a person reads it: `servers[1].port`.
fn written(mut value: &Value, path: &[String]) -> String {
    let mut text = String::new();
    for step in path {
        let index = step.parse::<usize>().ok();
        match (value, index) {
            (Value::Array(items), Some(index)) => {
                text.push_str(&format!("[{index}]"));
                value = items.get(index).unwrap_or(&Value::Null);
            }
            _ => {
                push_key(&mut text, step);
                value = value.get(step).unwrap_or(&Value::Null);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &str = r##"{
        "type": "object",
        "required": ["server"],
        "additionalProperties": false,
        "properties": {
            "server": {
                "type": "object",
                "required": ["host"],
                "properties": {
                    "host": { "type": "string" },
                    "port": { "type": "integer", "minimum": 1, "maximum": 65535 }
                }
            },
            "level": { "enum": ["info", "warn"] },
            "peers": { "type": "array", "items": { "$ref": "#/$defs/peer" } }
        },
        "$defs": { "peer": { "type": "object", "properties": { "port": { "type": "integer" } } } }
    }"##;

    fn schema(text: &'static str) -> Result<Schema, ParseError> {
        Schema::parse(Bytes::from_static(text.as_bytes()))
    }

    fn document(text: &str, format: Format) -> Document {
        Document::parse(Bytes::copy_from_slice(text.as_bytes()), format).unwrap()
    }

    /// `path line:column` of each violation.
    fn places(text: &str, format: Format) -> Vec<String> {
        let shown = |number: Option<u32>| number.map_or("-".to_owned(), |number| number.to_string());
        let violations = schema(SCHEMA).unwrap().check(&document(text, format));
        violations.iter().map(|it| format!("{} {}:{}", it.path, shown(it.line), shown(it.column))).collect()
    }

    #[test]
    fn a_document_that_says_what_the_schema_wants_violates_nothing() {
        for (text, format) in [
            ("level = 'info'\n[server]\nhost = 'x'\nport = 1\n[[peers]]\nport = 2\n", Format::Toml),
            (r#"{"level": "warn", "server": {"host": "x", "port": 65535}, "peers": []}"#, Format::Json),
            ("server: { host: x }\nlevel: info\n", Format::Yaml),
        ] {
            assert_eq!(schema(SCHEMA).unwrap().check(&document(text, format)), [], "{text}");
        }
    }

    #[test]
    fn a_violation_tells_path_line_and_column_in_every_format() {
        let toml = "level = 'über'\nextra = 1\n[server]\nport = 70000\n[[peers]]\nport = 1\n[[peers]]\nport = '2'\n";
        let json = "{\n  \"level\": \"über\",  \"extra\": 1,\n  \"server\": {\n    \"port\": 70000\n  },\n  \
            \"peers\": [{\"port\": 1},\n    {\"port\": \"2\"}]\n}\n";
        let yaml = "level: über\nextra: 1\nserver:\n  port: 70000\npeers:\n  - port: 1\n  - port: '2'\n";

        let found = ["level 1:9", "extra 2:9", "server 3:2", "server.port 4:8", "peers[1].port 8:8"];
        assert_eq!(places(toml, Format::Toml), found);
        let found = ["level 2:12", "extra 2:30", "server 3:13", "server.port 4:13", "peers[1].port 7:14"];
        assert_eq!(places(json, Format::Json), found);
        let found = ["level 1:8", "extra 2:8", "server 4:3", "server.port 4:9", "peers[1].port 7:11"];
        assert_eq!(places(yaml, Format::Yaml), found);
        // What is missing at the top level is missing everywhere.
        assert_eq!(places("level = 'info'\n", Format::Toml), [" -:-"]);
    }

    #[test]
    fn a_place_is_found_through_dotted_keys_aliases_byte_order_marks_and_keys_that_look_like_indexes() {
        assert_eq!(places("server.host = 'x'\nserver.port = 0\n", Format::Toml), ["server.port 2:15"]);
        assert_eq!(places("server = { host = 'x', port = 0 }\n", Format::Toml), ["server.port 1:31"]);
        assert_eq!(places("\u{feff}server = { host = 'x', port = 0 }\n", Format::Toml), ["server.port 1:31"]);
        assert_eq!(places("x: &x { host: 1 }\nserver: *x\n", Format::Yaml), ["x 1:7", "server.host 1:15"]);
        assert_eq!(
            places("{\"server\":{\"host\":\"x\"},\"0\":[],\"a.b\":1}", Format::Json),
            ["0 1:28", "\"a.b\" 1:37"]
        );
    }

    #[test]
    fn what_is_told_is_one_error_that_says_how_many_more_and_never_the_value() {
        let document = document("level = 'hunter2'\n[server]\nhost = 7\nport = 'hunter2'\n", Format::Toml);

        let error = schema(SCHEMA).unwrap().judge(&document).unwrap_err();

        assert_eq!((error.line, error.column), (Some(1), Some(9)));
        assert_eq!(error.reason, r#"the schema refuses it: level: the value is none of "info", "warn" (and 2 more)"#);
        for violation in schema(SCHEMA).unwrap().check(&document) {
            assert!(!violation.reason.contains("hunter2"), "{violation}");
        }
    }

    #[test]
    fn a_schema_that_is_none_is_told_with_its_place() {
        let error = schema("{\n  \"properties\": {\n    \"a\": { \"type\": \"integre\" }\n  }\n}").unwrap_err();
        assert_eq!((error.line, error.column), (Some(3), Some(20)), "{error}");
        assert!(error.reason.starts_with("not a schema: properties.a.type: "), "{error}");

        for broken in ["[]", "{", "{\"type\": 1}", "{\"$ref\": \"#/nowhere\"}", "{\"pattern\": \"(\"}"] {
            assert!(schema(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn nothing_is_fetched() {
        for elsewhere in ["http://127.0.0.1:9/x.json", "https://example.com/x.json", "file:///etc/hostname", "x.json"] {
            let text = format!("{{\"$ref\": \"{elsewhere}\"}}");
            let error = Schema::parse(text.into()).unwrap_err();

            assert!(error.reason.starts_with("not a schema: ") && error.reason.contains(elsewhere), "{error}");
        }
    }
}
