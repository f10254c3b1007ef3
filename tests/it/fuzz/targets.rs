//! What must hold whatever comes in from outside: a function for each parser, which panics where it does not.
//!
//! Run on inputs that libFuzzer makes (`fuzz/`, `just fuzz`), and on its seeds and all inputs that once broke something
//! (`fuzz.rs`). What takes two things takes them from one input, with the byte 0xff between them, which no text has.

use std::collections::BTreeSet;
use std::path::Path;
use std::str;
use std::sync::LazyLock;

use bytes::Bytes;
use confhot::diff;
use confhot::document::{Document, Format, HIDDEN, Role};
use confhot::kv::{ChangeSet, Connect, Key, Pattern, Provenance, Revision, Writer, token, wire};
use confhot::live::StateDir;
use confhot::schema::Schema;
use confhot::secret::{self, Identities, Recipient};
use confhot::signature::{Claim, Signer, Statement, Trust};
use serde_json::Value;

// Parts of the binary, and one of the library, that stand by themselves.
#[allow(dead_code)]
#[path = "../../../src/checkout/text.rs"]
mod checkout_text;
#[allow(dead_code)]
#[path = "../../../src/cli/context/text.rs"]
mod context_text;
#[allow(dead_code)]
#[path = "../../../src/output/hidden.rs"]
mod hidden;
#[allow(dead_code)]
#[path = "../../../src/output/plain.rs"]
mod plain;
#[allow(dead_code)]
#[path = "../../../src/cli/typed.rs"]
mod typed;

/// What must hold of an input: panics where it does not.
type Target = fn(&[u8]);

/// Every target by its name, which is that of its binary and of its directory of seeds.
pub(crate) const TARGETS: [(&str, Target); 14] = [
    ("checkout", checkout),
    ("context", context),
    ("diff", changes),
    ("document", document),
    ("headers", headers),
    ("key", key),
    ("redaction", redaction),
    ("schema", schema),
    ("secret", secrets),
    ("signature", signature),
    ("state", state),
    ("status", status),
    ("terminal", terminal),
    ("words", words),
];

/// What is between two parts of an input.
const BETWEEN: u8 = 0xff;

/// The two parts of an input.
fn both(input: &[u8]) -> (&[u8], &[u8]) {
    let at = input.iter().position(|byte| *byte == BETWEEN);
    at.map_or((input, &[]), |at| (&input[..at], &input[at + 1..]))
}

/// A document, its format told by the first byte: `t`, `j`, `y`, and anything else for one that is to be found out.
fn parsed(input: &[u8]) -> Option<Document> {
    let (first, text) = input.split_first()?;
    let bytes = Bytes::copy_from_slice(text);
    match first {
        b't' => Document::parse(bytes, Format::Toml),
        b'j' => Document::parse(bytes, Format::Json),
        b'y' => Document::parse(bytes, Format::Yaml),
        _ => Document::detect(bytes),
    }
    .map_err(|error| assert_one_line(&error.reason))
    .ok()
}

/// What is told of an error goes into one line of a log, a header, an event.
#[track_caller]
fn assert_one_line(text: &str) {
    assert!(!text.contains(char::is_control), "{text:?}");
    // A place of a schema or a document may be named before a reason that is cut off at 200.
    assert!(text.chars().count() <= 1_000, "{} characters", text.chars().count());
}

/// Where each scalar is, and all the keys on the way.
fn scalars(value: &Value) -> Vec<(Vec<String>, &Value)> {
    let below = |step: String, value| {
        scalars(value)
            .into_iter()
            .map(move |(path, scalar)| ([std::slice::from_ref(&step), &path[..]].concat(), scalar))
    };
    match value {
        Value::Array(items) => items.iter().enumerate().flat_map(|(n, item)| below(n.to_string(), item)).collect(),
        Value::Object(fields) => fields.iter().flat_map(|(name, field)| below(name.clone(), field)).collect(),
        scalar => vec![(Vec::new(), scalar)],
    }
}

/// What is parsed is a table, prints as JSON that says the same, and each of its values is found in the text.
pub(crate) fn document(input: &[u8]) {
    let Some(document) = parsed(input) else { return };
    let value = document.value();
    assert!(value.is_object());
    let json = Bytes::from(serde_json::to_vec(value).expect("a value prints"));
    let again = Document::parse(json, Format::Json).expect("what was printed parses");
    assert_eq!(again.value(), value);
    // A type of JSON holds no integer beyond 64 bits; others do.
    match document.decode::<Value>() {
        Ok(decoded) => assert!(decoded.is_object()),
        Err(error) => assert_eq!((document.format(), &*error.reason), (Format::Toml, "JSON number out of range")),
    }
    let or_empty = Document::parse_or_empty(document.bytes().clone(), document.format());
    assert_eq!(or_empty.expect("a document that is not empty").value(), value);

    // YAML ends a line at a carriage return too.
    let lines = document.bytes().split(|byte| matches!(byte, b'\n' | b'\r')).count();
    for (path, _) in scalars(value).iter().take(8) {
        if let Some((line, column)) = document.locate(path) {
            assert!(line >= 1 && column >= 1 && line as usize <= lines, "{path:?} at {line}:{column} of {lines}");
        }
    }
    // Hidden, nothing that is a secret is left, and a line is where it was.
    assert_eq!(document.shown(), *value);
    assert!(!document.has_secrets());
}

/// A secret that stands somewhere in a document, written in whatever way, is in nothing that is shown of it.
pub(crate) fn redaction(input: &[u8]) {
    const PLANTED: &str = "pl4nted";
    let Some(document) = parsed(input) else { return };
    let is_secret = |scalar: &Value| scalar.as_str() == Some(PLANTED);
    let secrets: Vec<_> = scalars(document.value()).into_iter().filter(|(_, scalar)| is_secret(scalar)).collect();
    let secrets: Vec<_> = secrets.into_iter().map(|(path, _)| path).collect();
    if secrets.is_empty() || secrets.iter().flatten().any(|step| step.contains(PLANTED)) {
        return;
    }
    let format = document.format();
    let marked = document.marked(secrets.clone());
    assert_eq!(marked.secret_places().len(), secrets.iter().collect::<BTreeSet<_>>().len());
    let shown = marked.shown().to_string();
    assert!(!shown.contains(PLANTED), "{shown}");
    let nothing = serde_json::json!({});
    let mut changes = diff::changes(&nothing, marked.value());
    diff::hide(&mut changes, &[&marked]);
    let changes = serde_json::to_string(&changes).expect("changes print");
    assert!(!changes.contains(PLANTED), "{changes}");
    let text = marked.shown_text();
    assert!(!text.contains(PLANTED), "{text}");
    // A line of a diff shows the line that stands there.
    let whole = String::from_utf8_lossy(marked.bytes());
    assert_eq!(text.split('\n').count(), whole.split('\n').count(), "{text}");
    if let Ok(again) = Document::parse(text.clone().into(), format) {
        assert!(!scalars(again.value()).into_iter().any(|(_, scalar)| is_secret(scalar)), "{text}");
    }
}

/// A document differs from another where that differs from it, and from itself nowhere.
pub(crate) fn changes(input: &[u8]) {
    let (before, after) = both(input);
    let of_lines = diff::lines(before, after, "a", "b");
    assert_eq!(of_lines.is_empty(), before == after);
    assert!(diff::lines(before, before, "a", "b").is_empty());
    let marks = |tag| of_lines.iter().filter(|line| line.tag == tag).count();
    let count = |text: &[u8]| text.split_inclusive(|byte| *byte == b'\n').count();
    // Each line is in one of the texts only, or in both: by as many as one has more than the other they differ.
    let (removed, added) = (marks(diff::Tag::Removed), marks(diff::Tag::Added));
    assert_eq!(added + count(before), removed + count(after));

    let (Some(before_document), Some(after_document)) = (parsed(before), parsed(after)) else { return };
    let (before, after) = (before_document.value(), after_document.value());
    assert_eq!(diff::changes(before, before), []);
    let mut there = diff::changes(before, after);
    let back = diff::changes(after, before);
    assert_eq!(there.is_empty(), back.is_empty());
    assert!(there.iter().all(|change| change.before != change.after));
    let places: BTreeSet<_> = there.iter().map(|change| change.path.clone()).collect();
    assert_eq!(places.len(), there.len(), "each place is told once");
    // All that they say is secret.
    let marked = [&before_document, &after_document].map(|document| document.clone().marked(vec![Vec::new()]));
    diff::hide(&mut there, &[&marked[0], &marked[1]]);
    for value in there.iter().flat_map(|change| [&change.before, &change.after]).flatten() {
        assert!(value.is_object() || value.is_array() || value.is_null() || value == HIDDEN, "{value}");
    }
}

/// A document violates a schema or not, and all that is said of it is short, and has a place in it.
pub(crate) fn schema(input: &[u8]) {
    let (schema, text) = both(input);
    let schema = match Schema::parse(Bytes::copy_from_slice(schema)) {
        Ok(schema) => schema,
        Err(error) => return assert_one_line(&error.reason),
    };
    let Some(document) = parsed(text) else { return };
    let violations = schema.check(&document);
    assert!(violations.len() <= 20);
    let judged = schema.judge(&document);
    assert_eq!(judged.is_ok(), violations.is_empty());
    if let Err(error) = judged {
        assert_one_line(&error.reason);
    }
    let marks = schema.marks(&document);
    assert!(marks.is_empty() || schema.has_marks());
    let places: BTreeSet<_> = scalars(document.value()).into_iter().map(|(path, _)| path).collect();
    let marked = document.marked(marks.clone());
    let hidden = marked.shown();
    for (path, scalar) in scalars(&hidden) {
        let is_marked = marks.iter().any(|mark| path.starts_with(mark));
        assert!(!is_marked || scalar.is_null() || scalar == HIDDEN || scalar.is_object() || scalar.is_array());
        assert!(places.contains(&path) || path.iter().any(|key| key.contains(HIDDEN)));
    }
}

/// Any string may be taken for a token, an identity or a recipient; what is encrypted is what is read again.
pub(crate) fn secrets(input: &[u8]) {
    static IDENTITIES: LazyLock<Identities> = LazyLock::new(|| {
        let (identity, _) = &*PAIR;
        Identities::parse(identity).expect("an identity")
    });
    // Made just now, so that nobody else can have made a token for it.
    static PAIR: LazyLock<(String, Recipient)> = LazyLock::new(secret::generate);
    let Ok(text) = str::from_utf8(input) else { return };
    for wrapped in [text.to_owned(), format!("ENC[age,{text}]")] {
        assert!(IDENTITIES.open(&wrapped).is_err(), "{wrapped}");
    }
    if let Err(error) = Identities::parse(text) {
        assert_one_line(&error.to_string());
    }
    if let Ok(recipient) = text.parse::<Recipient>() {
        assert_eq!(recipient.to_string(), text.to_lowercase());
    }
    if text.len() < 64 {
        let token = secret::encrypt(text, std::slice::from_ref(&PAIR.1)).expect("encrypted");
        assert!(secret::is_token(&token));
        assert_eq!(IDENTITIES.open(&token).as_deref(), Ok(text));
    }
    let Some(document) = parsed(input) else { return };
    let found = secret::tokens(document.value()).len();
    match secret::open(document, None) {
        Ok(document) => assert_eq!((found, document.has_secrets()), (0, false)),
        Err(sealed) => assert!(found > 0, "{sealed}"),
    }
}

/// Whatever stands in the headers, it is no signature by one who is trusted unless that one made it.
pub(crate) fn signature(input: &[u8]) {
    static TRUSTED: LazyLock<Signer> = LazyLock::new(|| {
        let seed = nkeys::KeyPair::new_user().seed().expect("a seed");
        Signer::parse(&seed).expect("a signer")
    });
    let (signature, signer) = both(input);
    let (Ok(signature), Ok(signer)) = (str::from_utf8(signature), str::from_utf8(signer)) else { return };
    let digest = confhot::document::Digest::of(input);
    let statement = Statement { bucket: "b", key: "k", operation: "put", format: None, digest };
    let trust = TRUSTED.trust();
    for signer in [signer, TRUSTED.public()] {
        let claim = Claim { signature: signature.to_owned(), signer: signer.to_owned() };
        let distrust = trust.verify(&statement, Some(&claim)).expect_err("nobody signed it");
        assert_one_line(&distrust.to_string());
        assert_eq!(claim.signer_of(&statement), None);
    }
    for text in [signature, signer] {
        if let Err(error) = Trust::parse(text) {
            assert_one_line(&error.to_string());
        }
        if let Ok(signer) = Signer::parse(text) {
            let claim = signer.sign(&statement, 7);
            assert_eq!(signer.trust().verify(&statement, Some(&claim)), Ok(7));
        }
    }
}

/// A key is one whichever way it came in, and nothing else is.
pub(crate) fn key(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let is_key = |key: &Key| {
        let text = key.as_str();
        assert!(!text.is_empty() && text.len() <= Key::MAX_LEN);
        assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_=/.".contains(&byte)), "{text}");
        assert!(text.split('.').all(|token| !token.is_empty()), "{text}");
        assert_eq!(Key::parse(text).as_ref(), Ok(key));
    };
    match Key::parse(&text) {
        Ok(key) => {
            is_key(&key);
            assert_eq!(key.as_str(), text);
            assert_eq!(wire::key("configs", &format!("$KV.configs.{key}")), Some(key.clone()));
            if let Some(schema) = key.schema() {
                is_key(&schema);
                assert_eq!(schema.described(), Some(key));
            }
        }
        Err(error) => assert!(!error.to_string().contains(char::is_control), "{error}"),
    }
    let role = Role::of(&text);
    for path in [format!("{text}.toml"), text.clone().into_owned(), format!("{text}/x.schema.json")] {
        match Key::from_path(Path::new(&path)) {
            Ok(key) => {
                is_key(&key);
                assert!(key.described().is_some() || !key.is_own());
            }
            Err(error) => assert!(!error.to_string().contains(char::is_control), "{error}"),
        }
    }
    if role != Role::Ignored {
        assert!(!text.starts_with('.'));
    }
    for bucket in ["configs", "configs_status"] {
        if let Some(key) = wire::key(bucket, &text) {
            assert_eq!(format!("$KV.{bucket}.{key}"), text);
        }
    }
    if let Ok(pattern) = Pattern::parse(&text) {
        assert_eq!(pattern.as_str(), text);
        assert!(!text.contains(|c: char| c.is_whitespace() || c.is_control()));
    }
    let token = token(&text);
    assert!(wire::record(&format!("k.{token}")).is_some() && !token.contains(['.', '/']), "{token}");
}

/// A record is read only under the name that it gives itself, and nothing in it overflows.
pub(crate) fn status(input: &[u8]) {
    let (key, record) = both(input);
    let named = str::from_utf8(key).ok().and_then(wire::record);
    // The name that it gives itself, so that not all depends on guessing it.
    let said: Option<Value> = serde_json::from_slice(record).ok();
    let own = said.as_ref().and_then(|said| {
        let (key, id) = (said.get("key")?.as_str()?, said.get("instance")?.as_str()?);
        wire::record(&format!("{key}.{}", token(id)))
    });
    for key in named.iter().chain(&own) {
        if let Some(status) = wire::status(key, record) {
            assert_eq!(format!("{}.{}", status.key, status.token()), key.as_str());
            assert!(status.since <= status.seen);
            let _ = confhot::kv::settling(std::slice::from_ref(&status), status.seen);
        }
    }
}

/// Headers are read as far as they can be, and none that confhot writes forges another.
pub(crate) fn headers(input: &[u8]) {
    let (block, value) = both(input);
    let key = Key::parse("k").expect("a key");
    let block = [b"NATS/1.0\r\n", block].concat();
    let entry = wire::entry(key.clone(), &block, Bytes::copy_from_slice(value));
    assert_eq!(entry.value, value);
    // What was read is written, and read again.
    let expected = trimmed(&entry.provenance);
    let mut about = entry.provenance;
    (about.set, about.writer) = (expected.set.clone(), expected.writer.clone());
    assert_eq!(wire::written(key.clone(), &about), expected);

    if let Some((subject, _, _)) = wire::position(&block) {
        let _ = wire::key("configs", &subject);
    }
    let text = String::from_utf8_lossy(input);
    let _ = (wire::place(&text), wire::is_of_publishing(&text));

    // Whatever somebody types or a file is called, it stays in its own header.
    let typed = || Some(text.clone().into_owned());
    let mut about = Provenance::by(Writer::Other(text.clone().into_owned()));
    (about.author, about.message, about.path, about.source, about.commit) =
        (typed(), typed(), typed(), typed(), typed());
    about.rollback_of = Some(Revision(7));
    about.set = Some(ChangeSet { id: "x".into(), members: 2 });
    let read = wire::written(key, &about);
    assert_eq!((read.rollback_of, &read.set, read.format, read.read_at), (about.rollback_of, &about.set, None, None));
    for text in [&read.author, &read.message, &read.path, &read.source, &read.commit].into_iter().flatten() {
        assert!(!text.contains(['\r', '\n', '\0', '\u{1b}']), "{text:?}");
    }
}

/// As a header keeps it: without the white space that it begins with, and on one line.
fn trimmed(about: &Provenance) -> Provenance {
    let line = |text: &String| {
        let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        plain.trim_start().to_owned()
    };
    let mut trimmed = about.clone();
    for text in [&mut trimmed.author, &mut trimmed.message, &mut trimmed.path, &mut trimmed.source, &mut trimmed.commit]
    {
        *text = text.as_ref().map(line);
    }
    // An id or a word in which white space comes to stand is another one, or none any more.
    trimmed.writer = trimmed.writer.filter(|writer| !writer.as_str().contains(char::is_control));
    trimmed.set = trimmed.set.filter(|set| !set.id.contains(|c: char| c.is_control() || c.is_whitespace()));
    trimmed
}

/// Git's files may hold anything.
pub(crate) fn checkout(input: &[u8]) {
    let (first, second) = both(input);
    for (path, id) in checkout_text::files(input) {
        assert!(!path.contains(&0) && !id.contains(&b' '));
    }
    let (Ok(first), Ok(second)) = (str::from_utf8(first), str::from_utf8(second)) else { return };
    for text in [first, second] {
        if let Some(id) = checkout_text::id(text) {
            assert!(id.bytes().all(|byte| byte.is_ascii_hexdigit()) && matches!(id.len(), 40 | 64));
        }
        let _ = checkout_text::pointed(text);
        if let Some(author) = checkout_text::author(text) {
            assert!(!author.is_empty() && !author.contains(char::is_control), "{author:?}");
        }
    }
    if let Some(name) = checkout_text::referred(first)
        && let Some(id) = checkout_text::packed(second, name)
    {
        assert!(second.lines().any(|line| line == format!("{id} {name}")));
    }
}

/// What is kept is used only where it is whole, and of the key that is asked for.
pub(crate) fn state(input: &[u8]) {
    let key = Key::parse("service1").expect("a key");
    let bytes = Bytes::copy_from_slice(input);
    if let Some(entry) = StateDir::kept(&key, &bytes) {
        assert_eq!(entry.key, key);
        assert!(input.ends_with(&entry.value));
    }
    // The digest, which nobody guesses, put right.
    let Some(end) = input.iter().position(|byte| *byte == b'\n') else { return };
    let Ok(Value::Object(mut head)) = serde_json::from_slice::<Value>(&input[..end]) else { return };
    let digest = confhot::document::Digest::of(&input[end + 1..]).to_string();
    head.insert("digest".into(), digest.into());
    let whole = [Value::Object(head).to_string().as_bytes(), &input[end..]].concat();
    if let Some(entry) = StateDir::kept(&key, &Bytes::from(whole)) {
        assert_eq!(entry.value, input[end + 1..]);
    }
}

/// Nothing that others wrote reaches a terminal as it is, and no password of a URL reaches anybody.
pub(crate) fn terminal(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let obeyed = |c: char| {
        c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let plain = plain::plain(&text);
    assert!(!plain.contains(obeyed), "{plain:?}");
    assert_eq!(plain::plain(&plain), plain);
    let line = plain::plain_but_tabs(&text);
    assert!(!line.replace('\t', "").contains(obeyed));
    assert_eq!(line.matches('\t').count(), text.matches('\t').count());

    let once = hidden::without_passwords(&text);
    assert_eq!(hidden::without_passwords(&once), once, "it is hidden already");
    // Any text without white space may be a password, or be in a URL before it.
    let word: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    for url in [format!("nats://me{word}:pl4nted@h:4222/{word}"), format!("postgres://h/d?password=pl4nted&{word}")] {
        if word.contains("pl4nted") || word.contains(['@', ':']) {
            continue;
        }
        let shown = hidden::without_passwords(&url);
        assert!(!shown.contains("pl4nted"), "{shown}");
        let shown = Connect::to(vec![url]).shown();
        assert!(!shown.contains("me:pl4nted"), "{shown}");
    }
    // A line of a log that is an object stays one.
    if let Ok(value @ Value::Object(_)) = serde_json::from_str::<Value>(&text) {
        let shown = hidden::line_without_passwords(&text);
        let again: Value = serde_json::from_str(&shown).expect("an object");
        assert_eq!(again, hidden::value_without_passwords(&value));
    }
}

/// Words of the command line.
pub(crate) fn words(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    match text.parse::<typed::Which>() {
        Ok(typed::Which::Number(revision)) => assert_eq!(text.parse(), Ok(revision.0)),
        Ok(typed::Which::Back(back)) => assert!(back == 0 && text == "@" || text.contains('~')),
        Err(_) => {}
    }
    if let Ok(typed::Moment(moment)) = text.parse() {
        assert_eq!(moment.is_none(), matches!(text.parse(), Ok(typed::Which::HEAD)));
    }
    if let Ok(duration) = typed::duration(&text) {
        assert!(!duration.is_zero());
    }
    if let Ok(format) = text.parse::<Format>() {
        assert_eq!(format.to_string(), text);
    }
    if let Ok(digest) = text.parse::<confhot::document::Digest>() {
        assert_eq!(digest.to_string(), text);
    }
}

/// Contexts of the `nats` CLI, and files with credentials.
pub(crate) fn context(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    for home in [None, Some(Path::new("/home/me"))] {
        if let Ok(context) = context_text::Context::parse(&text, home) {
            let _ = context.credentials();
            assert!(context.url.as_ref().is_none_or(|url| !url.is_empty()));
            for file in [&context.ca, &context.cert, &context.key].into_iter().flatten() {
                assert!(!file.as_os_str().is_empty() && (home.is_none() || !file.starts_with("~")), "{file:?}");
            }
        }
    }
    let _ = wire::user_of(&text);
    let prefix = confhot::kv::inbox_prefix(&text);
    assert!(!prefix.contains(['.', '*', '>', ' ']) && !prefix.contains(char::is_control), "{prefix:?}");
}
