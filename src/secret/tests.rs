use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::*;
use crate::document::Format;

fn pair() -> (Identities, Recipient) {
    let (line, recipient) = generate();
    (Identities::parse(&line).unwrap(), recipient)
}

fn document(text: &str, format: Format) -> Document {
    Document::parse(Bytes::copy_from_slice(text.as_bytes()), format).unwrap()
}

#[test]
fn what_is_encrypted_is_read_by_each_recipient_and_by_nobody_else() {
    let ((one, to_one), (two, to_two), (other, _)) = (pair(), pair(), pair());
    for plain in ["hunter2", "", "ключ\n\"x\"", &"x".repeat(70_000)] {
        let token = encrypt(plain, &[to_one.clone(), to_two.clone()]).unwrap();

        assert!(is_token(&token) && !token.contains(char::is_whitespace), "{token}");
        for identities in [&one, &two] {
            assert_eq!(identities.open(&token).as_deref(), Ok(plain));
        }
        assert_eq!(other.open(&token), Err(Unopened::Others));
        assert_ne!(token, encrypt(plain, &[to_one.clone(), to_two.clone()]).unwrap());
    }
    assert_eq!(encrypt("x", &[]), Err(EncryptError::NoRecipient));
}

#[test]
fn a_token_of_which_any_byte_was_changed_is_damaged_or_for_others_and_never_a_string() {
    let (one, to_one) = pair();
    let token = encrypt("hunter2", &[to_one]).unwrap();
    for at in 0..token.len() {
        let mut bytes = token.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        assert!(one.open(std::str::from_utf8(&bytes).unwrap()).is_err(), "{at}");
    }
    for cut in ["ENC[age,", "ENC[age,]", "ENC[age,!]", &token[..token.len() - 1], &token[..token.len() / 2]] {
        assert!(is_token(cut));
        assert_eq!(one.open(cut), Err(Unopened::Damaged), "{cut}");
    }
}

#[test]
fn an_identities_file_is_read_as_age_keygen_writes_it_and_its_lines_are_never_repeated() {
    let ((first, to_first), (second, to_second)) = (generate(), generate());
    let file = format!("# created: today\n# public key: {to_first}\n{first}\n\n  {second}\r\n");
    let identities = Identities::parse(&file).unwrap();
    for to in [to_first, to_second] {
        assert_eq!(identities.open(&encrypt("x", &[to]).unwrap()).as_deref(), Ok("x"));
    }
    assert_eq!(Identities::parse("# none\n").unwrap_err(), InvalidIdentities::None);
    let broken = Identities::parse(&format!("# one\n{}\n", &first[..40])).unwrap_err();
    assert_eq!(broken, InvalidIdentities::Line(2));
    assert!(!broken.to_string().contains("AGE-SECRET"), "{broken}");
    assert!(!format!("{identities:?}").contains("AGE-SECRET"));
}

#[test]
fn a_recipient_is_an_age1_key_and_nothing_else() {
    let (secret, to) = generate();
    assert_eq!(to.to_string().parse::<Recipient>().unwrap().to_string(), to.to_string());
    for text in ["", "age1", &secret, "ssh-ed25519 AAAA", &to.to_string()[..40]] {
        assert!(text.parse::<Recipient>().is_err(), "{text}");
    }
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Fast,
    Of(String),
}

#[derive(Debug, Deserialize, PartialEq)]
struct Wanted {
    name: String,
    version: String,
    inner: Inner,
    list: Vec<Option<String>>,
    kinds: Vec<Kind>,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Inner {
    pass: Box<str>,
}

#[test]
fn a_document_decodes_into_what_its_tokens_stand_for_whatever_its_format_and_types() {
    let (identities, to) = pair();
    let token = |plain: &str| encrypt(plain, std::slice::from_ref(&to)).unwrap();
    let (a, b, c, d) = (token("hunter2"), token("of a list"), token("x: [y]"), token("fast"));
    let toml = format!(
        "name = 'n'\nversion = '1.10'\nwhen = 2026-01-01\nlist = ['{b}', 'clear']\nkinds = ['{d}', {{ of = '{c}' }}]\n[inner]\npass = \"{a}\"\n"
    );
    let json =
        json!({"name": "n", "version": "1.10", "list": [b, "clear"], "kinds": [d, {"of": c}], "inner": {"pass": a}});
    // Its version is a text to the type, and a number to anybody else.
    let yaml = format!(
        "name: n\nversion: 1.10\nlist:\n  - {b}\n  - clear\nkinds: ['{d}', {{of: '{c}'}}]\ninner: {{pass: \"{a}\"}}\n"
    );
    for (text, format) in [(toml, Format::Toml), (json.to_string(), Format::Json), (yaml, Format::Yaml)] {
        let sealed = document(&text, format);
        let opened = open(sealed.clone(), Some(&identities)).unwrap();

        let wanted = Wanted {
            name: "n".into(),
            version: "1.10".into(),
            inner: Inner { pass: "hunter2".into() },
            list: vec![Some("of a list".into()), Some("clear".into())],
            kinds: vec![Kind::Fast, Kind::Of("x: [y]".into())],
        };
        assert_eq!(opened.decode::<Wanted>(), Ok(wanted), "{format}");
        assert_eq!(opened.value()["inner"]["pass"], "hunter2");
        assert_eq!((opened.digest(), opened.bytes()), (sealed.digest(), sealed.bytes()));
        assert_eq!(opened.shown()["inner"]["pass"], "[hidden]");
        assert_eq!(opened.shown()["list"], json!(["[hidden]", "clear"]));
        assert!(!format!("{opened:?}").contains("hunter2"));
    }
}

#[test]
fn what_does_not_fit_the_type_is_told_without_the_secret() {
    #[derive(Debug, Deserialize)]
    struct Port {
        #[allow(dead_code)]
        port: u16,
    }
    let (identities, to) = pair();
    for plain in ["hunter2-hunter2".to_owned(), "hunter2".repeat(60)] {
        let token = encrypt(&plain, std::slice::from_ref(&to)).unwrap();
        for (text, format) in [
            (format!("port = '{token}'"), Format::Toml),
            (format!("{{\"port\": \"{token}\"}}"), Format::Json),
            (format!("port: '{token}'"), Format::Yaml),
        ] {
            let opened = open(document(&text, format), Some(&identities)).unwrap();
            let error = opened.decode::<Port>().unwrap_err().to_string();
            let told = opened.hide(&error);
            assert!(!told.contains("hunter2"), "{format}: {told}");
        }
    }
}

#[test]
fn a_token_that_cannot_be_read_is_named_by_its_place_and_what_to_do() {
    let ((one, _), (_, to_other)) = (pair(), pair());
    let token = encrypt("x", &[to_other]).unwrap();
    let sealed = document(&format!("a = 1\n[db]\nurls = ['clear', '{token}']\n"), Format::Toml);
    for (identities, why, hint) in
        [(None, Unopened::NoIdentity, "--identity"), (Some(&one), Unopened::Others, "confhot secret rotate")]
    {
        let error = open(sealed.clone(), identities).unwrap_err();
        assert_eq!((error.path.as_str(), error.why), ("db.urls[1]", why));
        assert!(error.to_string().contains(hint), "{error}");
    }
    let cut = document("pass = 'ENC[age,YWdl'\n", Format::Toml);
    assert_eq!(open(cut, Some(&one)).unwrap_err().why, Unopened::Damaged);
    assert!(open(document("a = 'clear'\n", Format::Toml), None).is_ok());
}

#[test]
fn rotating_changes_the_tokens_and_nothing_else_of_the_text() {
    let ((old, to_old), (new, to_new)) = (pair(), pair());
    let token = encrypt("hunter2", &[to_old]).unwrap();
    for (text, format) in [
        (format!("# why\npass='{token}'   # {token}\n\n[b]\nlist = [ \"{token}\", 1 ]\n"), Format::Toml),
        (format!("{{\"pass\":\n  \"{token}\" , \"b\": [1, \"{token}\"]}}\n"), Format::Json),
        (format!("# why\npass: {token} # kept\nb: &x\n  - '{token}'\nc: *x\nd: |-\n  {token}\n"), Format::Yaml),
    ] {
        let before = document(&text, format);
        let (bytes, count) = rotate(&before, &old, std::slice::from_ref(&to_new)).unwrap();
        let after = document(std::str::from_utf8(&bytes).unwrap(), format);

        assert_eq!(count, 1);
        let fresh = tokens(after.value())[0].1.to_owned();
        assert_ne!(fresh, token);
        assert_eq!(std::str::from_utf8(&bytes).unwrap(), text.replace(&token, &fresh));
        assert_eq!(open(after.clone(), Some(&new)).unwrap().value()["pass"], "hunter2");
        assert_eq!(open(after, Some(&old)).unwrap_err().why, Unopened::Others);
        assert!(matches!(rotate(&before, &new, std::slice::from_ref(&to_new)), Err(RotateError::Sealed(_))));
    }
    let escaped = format!("{{\"a\": {{\"b\": \"{}\"}}}}", token.replacen('Y', "\\u0059", 1));
    let error = rotate(&document(&escaped, Format::Json), &old, &[to_new]).unwrap_err();
    assert_eq!(error, RotateError::Pieces { path: "a.b".into() });
}
