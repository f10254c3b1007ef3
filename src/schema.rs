//! What a document must look like beyond being valid: a JSON Schema (2020-12), as `service1.schema.json` says it of
//! `service1`.
//!
//! Nothing is ever fetched: a `$ref` leads to another place of the same schema, or the schema is broken.

mod repeats;

use std::collections::HashSet;
use std::fmt;

use bytes::Bytes;
use jsonschema::error::{ValidationError, ValidationErrorKind};
use jsonschema::paths::Location;
use serde_json::{Map, Value};

use self::repeats::Repeats;
use crate::document::{Document, Format, ParseError, written};
use crate::secret;

/// A schema, ready to check with.
#[derive(Debug)]
pub struct Schema {
    validator: jsonschema::Validator,
    /// What it is made of, if it marks anything.
    marks: Option<Value>,
    repeats: Option<Box<Repeats>>,
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
            Ok(validator) => Ok(Schema {
                validator,
                marks: named_true(document.value()).then(|| document.value().clone()),
                repeats: Repeats::of(document.value()).map(Box::new),
            }),
            Err(error) => {
                let wrong = violation(document, &steps(error.instance_path()), reason(&error));
                Err(ParseError::located(wrong.line.zip(wrong.column), format_args!("not a schema: {wrong}")))
            }
        }
    }

    /// What in `document` violates the schema, in the order of the text where that is known; at most 20.
    ///
    /// A token ([`crate::secret`]) is a string, and more cannot be said of it: it violates no pattern, format, length,
    /// `enum` or `const`.
    pub fn check(&self, document: &Document) -> Vec<Violation> {
        let whole = |reason: &str| vec![violation(document, &[], reason.into())];
        if self.repeats.as_ref().is_some_and(|repeats| repeats.are_endless(document.value())) {
            return whole("the schema refers to the same places so often that to check it would take too long");
        }
        // Most documents are good, and that is known sooner than what is wrong.
        if self.validator.is_valid(document.value()) {
            return Vec::new();
        }
        if self.repeats.as_ref().is_some_and(|repeats| repeats.are_too_many_to_tell(document.value())) {
            return whole("the schema does not allow it, in more ways than can be told");
        }
        let mut violations = Vec::new();
        for error in self.validator.iter_errors(document.value()) {
            if is_of_token(&error, document.value()) {
                continue;
            }
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

    /// Where `document` has what the schema marks as secret (`"writeOnly": true`), keys and indexes from the top level
    /// down; what is below is marked too. Whether the document is valid does not matter.
    pub fn marks(&self, document: &Document) -> Vec<Vec<String>> {
        let mut found = Vec::new();
        if let Some(source) = &self.marks {
            marked(source, vec![source], document.value(), &mut Vec::new(), &mut found);
        }
        found
    }

    /// Whether it marks anything at all, in whatever document.
    pub fn has_marks(&self) -> bool {
        self.marks.is_some()
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

/// Collects where `value` is marked by one of `schemas`, places in `root`. Of several that may count, all do.
///
/// Each place of the schema is asked once of each value, however they refer to each other.
fn marked<'s>(
    root: &'s Value,
    mut schemas: Vec<&'s Value>,
    value: &Value,
    path: &mut Vec<String>,
    found: &mut Vec<Vec<String>>,
) {
    let mut seen: HashSet<*const Value> = schemas.iter().map(|schema| std::ptr::from_ref(*schema)).collect();
    let mut at = 0;
    while let Some(schema) = schemas.get(at).copied() {
        at += 1;
        let Some(schema) = schema.as_object() else { continue };
        if schema.get("writeOnly") == Some(&Value::Bool(true)) {
            // What is below it is marked with it.
            return found.push(path.clone());
        }
        let refer = ["$ref", "$dynamicRef"].into_iter().filter_map(|word| referred(root, schema.get(word)?.as_str()?));
        let lists = ["allOf", "anyOf", "oneOf"].into_iter().filter_map(|word| schema.get(word)?.as_array()).flatten();
        let ifs = ["if", "then", "else"].into_iter().filter_map(|word| schema.get(word));
        let dependent = schema.get("dependentSchemas").and_then(Value::as_object).into_iter().flat_map(Map::values);
        schemas
            .extend(refer.chain(lists).chain(ifs).chain(dependent).filter(|it| seen.insert(std::ptr::from_ref(*it))));
    }
    let mut deeper = |step: &str, below: Vec<&'s Value>, value: &Value| {
        if !below.is_empty() {
            path.push(step.to_owned());
            marked(root, below, value, path, found);
            path.pop();
        }
    };
    let schemas = schemas.into_iter().filter_map(Value::as_object);
    let schemas: Vec<&Map<String, Value>> = schemas.collect();
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let mut below = Vec::new();
                for schema in &schemas {
                    let table = |word: &str| schema.get(word).and_then(Value::as_object);
                    match table("properties").and_then(|known| known.get(name)) {
                        Some(known) => below.push(known),
                        None => below.extend(
                            ["additionalProperties", "unevaluatedProperties"]
                                .map(|it| schema.get(it))
                                .into_iter()
                                .flatten(),
                        ),
                    }
                    // Which of the patterns match is not asked: too much is hidden rather than too little.
                    below.extend(table("patternProperties").into_iter().flat_map(Map::values));
                }
                deeper(name, below, field);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                let mut below = Vec::new();
                for schema in &schemas {
                    below.extend(schema.get("prefixItems").and_then(|first| first.get(index)));
                    let rest = ["items", "contains", "unevaluatedItems"].into_iter();
                    below.extend(rest.filter_map(|word| schema.get(word)));
                }
                deeper(&index.to_string(), below, item);
            }
        }
        _ => {}
    }
}

/// What a `$ref` within the same schema leads to: a pointer, an anchor, or an `$id`.
fn referred<'s>(root: &'s Value, to: &str) -> Option<&'s Value> {
    match to.strip_prefix('#') {
        Some(pointer) if pointer.is_empty() || pointer.starts_with('/') => root.pointer(&percent_decoded(pointer)),
        Some(anchor) => named(root, &|it, name| (it == "$anchor" || it == "$dynamicAnchor") && name == anchor),
        None => {
            let (id, pointer) = to.split_once('#').unwrap_or((to, ""));
            let at = named(root, &|it, name| it == "$id" && (name == id || name.ends_with(&format!("/{id}"))))?;
            at.pointer(&percent_decoded(pointer))
        }
    }
}

/// The first place in a schema that names itself so.
fn named<'s>(schema: &'s Value, is: &impl Fn(&str, &str) -> bool) -> Option<&'s Value> {
    match schema {
        Value::Object(words) => {
            if words.iter().any(|(word, name)| name.as_str().is_some_and(|name| is(word, name))) {
                return Some(schema);
            }
            words.values().find_map(|below| named(below, is))
        }
        Value::Array(items) => items.iter().find_map(|below| named(below, is)),
        _ => None,
    }
}

/// Whether `writeOnly` is true anywhere.
fn named_true(schema: &Value) -> bool {
    match schema {
        Value::Object(words) => words.iter().any(|(word, it)| word == "writeOnly" && it == true || named_true(it)),
        Value::Array(items) => items.iter().any(named_true),
        _ => false,
    }
}

fn percent_decoded(pointer: &str) -> String {
    let mut bytes = Vec::with_capacity(pointer.len());
    let mut rest = pointer.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match hex.filter(|_| first == b'%') {
            Some(byte) => (bytes.push(byte), rest = &after[2..]).0,
            None => (bytes.push(first), rest = after).0,
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether an error is about what cannot be known of a token: what the text that it stands for is like.
fn is_of_token(error: &ValidationError<'_>, value: &Value) -> bool {
    let branch = |errors: &Vec<ValidationError<'_>>| errors.iter().all(|error| is_of_token(error, value));
    match error.kind() {
        ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } => {
            context.iter().any(branch)
        }
        ValidationErrorKind::Pattern { .. }
        | ValidationErrorKind::Format { .. }
        | ValidationErrorKind::MinLength { .. }
        | ValidationErrorKind::MaxLength { .. }
        | ValidationErrorKind::Enum { .. }
        | ValidationErrorKind::Constant { .. }
        | ValidationErrorKind::ContentEncoding { .. }
        | ValidationErrorKind::ContentMediaType { .. }
        | ValidationErrorKind::FromUtf8 { .. } => {
            let at = value.pointer(error.instance_path().as_str());
            at.and_then(Value::as_str).is_some_and(secret::is_token)
        }
        _ => false,
    }
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

    fn marks(schema: &'static str, text: &str) -> Vec<String> {
        let document = document(text, Format::Json);
        let schema = Schema::parse(Bytes::from_static(schema.as_bytes())).unwrap();
        schema.marks(&document).iter().map(|path| path.join("/")).collect()
    }

    #[test]
    fn what_a_schema_marks_is_found_wherever_the_schema_says_it() {
        let text = r#"{"a": 1, "b": {"c": 2}, "l": [{"p": 3}, {"q": 4}], "x-1": 5, "z": 6}"#;
        for (schema, found) in [
            (r#"{"properties": {"a": {"writeOnly": true}, "z": {"writeOnly": false}}}"#, &["a"][..]),
            (r#"{"properties": {"b": {"writeOnly": true}, "gone": {"writeOnly": true}}}"#, &["b"]),
            (r##"{"properties": {"a": {"$ref": "#/$defs/s%20x"}}, "$defs": {"s x": {"writeOnly": true}}}"##, &["a"]),
            (r##"{"properties": {"a": {"$ref": "#s"}}, "$defs": {"n": {"$anchor": "s", "writeOnly": true}}}"##, &["a"]),
            (r#"{"properties": {"l": {"items": {"properties": {"p": {"writeOnly": true}}}}}}"#, &["l/0/p"]),
            (r#"{"properties": {"l": {"prefixItems": [true, {"writeOnly": true}]}}}"#, &["l/1"]),
            (
                r#"{"patternProperties": {"^x": {"writeOnly": true}}, "properties": {"a": {}}}"#,
                &["a", "b", "l", "x-1", "z"],
            ),
            (
                r#"{"additionalProperties": {"writeOnly": true}, "properties": {"a": {}, "b": {}, "l": {}}}"#,
                &["x-1", "z"],
            ),
            (r#"{"anyOf": [{"properties": {"a": {"writeOnly": true}}, "required": ["gone"]}]}"#, &["a"]),
            (r#"{"if": {"required": ["gone"]}, "then": {"properties": {"z": {"writeOnly": true}}}}"#, &["z"]),
            (r##"{"allOf": [{"$ref": "#/$defs/r"}], "$defs": {"r": {"$ref": "#/$defs/r"}}}"##, &[]),
            (r##"{"properties": {"b": {"$ref": "#"}, "c": {"writeOnly": true}}}"##, &["b/c"]),
            (r#"{"writeOnly": true}"#, &[""]),
        ] {
            assert_eq!(marks(schema, text), found, "{schema}");
        }
    }

    #[test]
    fn references_that_multiply_are_followed_in_no_time() {
        let twice =
            r##"{"allOf": [{"$ref": "#/$defs/b"}, {"$ref": "#/$defs/b"}], "properties": {"x": {"$ref": "#"}}}"##;
        let more = r##"{"allOf": [{"$ref": "#/$defs/a"}, {"$ref": "#"}], "properties": {"x": {"$ref": "#/$defs/a"}}}"##;
        let schema = format!(
            r##"{{"$defs": {{"a": {twice}, "b": {more}}}, "anyOf": [{twice}, {more}], "properties": {{"pin": {{"writeOnly": true}}}}}}"##
        );
        let schema = Schema::parse(schema.into()).unwrap();
        let text = (0..60).fold(r#"{"pin": 1}"#.to_owned(), |text, _| format!("{{\"x\": {text}}}"));

        let began = std::time::Instant::now();
        assert_eq!(schema.marks(&document(&text, Format::Json)).len(), 1);
        assert!(began.elapsed() < std::time::Duration::from_secs(1), "{:?}", began.elapsed());
    }

    #[test]
    fn a_token_is_a_string_and_violates_nothing_that_cannot_be_known_of_it() {
        let token = "ENC[age,YWdl]";
        for (schema, taken) in [
            (
                r#"{"type": "string", "pattern": "^postgres://", "minLength": 1000, "maxLength": 3, "format": "uri"}"#,
                true,
            ),
            (r#"{"enum": ["a", "b"]}"#, true),
            (r#"{"const": "a"}"#, true),
            (r#"{"anyOf": [{"type": "null"}, {"type": "string", "pattern": "^x$"}]}"#, true),
            (r#"{"oneOf": [{"type": "null"}, {"type": "string", "maxLength": 2}]}"#, true),
            (r#"{"type": "integer"}"#, false),
            (r#"{"anyOf": [{"type": "null"}, {"type": "integer"}]}"#, false),
            (r#"false"#, false),
        ] {
            let schema = format!("{{\"properties\": {{\"pass\": {schema}}}}}");
            let schema = Schema::parse(schema.into()).unwrap();
            let clear = schema.check(&document("pass = 'clear'\n", Format::Toml));
            assert!(!clear.is_empty());
            let violations = schema.check(&document(&format!("pass = '{token}'\n"), Format::Toml));
            assert_eq!(violations.is_empty(), taken, "{violations:?}");
        }
    }
}
