use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde::Deserialize;
use serde_json::json;

use super::*;

const FORMATS: [Format; 3] = [Format::Toml, Format::Json, Format::Yaml];

/// What without its limit would take minutes or for ever ends within this, even on a machine that is busy with others.
const BOUND: Duration = Duration::from_secs(30);

fn parse(format: Format, text: impl AsRef<[u8]>) -> Result<Value, ParseError> {
    Document::parse(Bytes::copy_from_slice(text.as_ref()), format).map(Document::into_value)
}

/// What a person sees of the refusal.
fn refusal(format: Format, text: impl AsRef<[u8]>) -> String {
    parse(format, text).unwrap_err().to_string()
}

use Format::{Json, Toml, Yaml};

#[test]
fn a_digest_is_of_the_bytes_and_reads_back() {
    let digest = Digest::of(b"abc");

    let text = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(digest.to_string(), text);
    assert_eq!(text.parse(), Ok(digest));
    assert_eq!(json!(digest), json!(text));
    for wrong in ["", "sha256:", &text[..70], &text.to_uppercase(), &text.replace("ba78", "BA78"), &text[7..]] {
        assert_eq!(wrong.parse::<Digest>(), Err(InvalidDigest), "{wrong}");
    }
}

#[test]
fn formats_are_written_as_they_are_read() {
    for format in FORMATS {
        assert_eq!(format.to_string().parse(), Ok(format));
        assert_eq!(json!(format), json!(format.to_string()));
    }
    assert_eq!("ini".parse::<Format>(), Err(UnknownFormat("ini".into())));
}

#[test]
fn a_file_is_known_by_its_name() {
    for (name, role) in [
        ("service1.toml", Role::Document(Toml)),
        ("api.v2.json", Role::Document(Json)),
        ("a.yaml", Role::Document(Yaml)),
        ("a.yml", Role::Document(Yaml)),
        ("service1.schema.json", Role::Schema),
        ("service1.schema.toml", Role::Document(Toml)),
    ] {
        assert_eq!(Role::of(name), role, "{name}");
    }
    for name in [
        ".toml",
        ".hidden.toml",
        ".#a.toml",
        "#a.toml#",
        "a.toml~",
        "a.toml.swp",
        ".a.toml.swp",
        "a.swo",
        "a.swx",
        "4913",
        "a.toml.tmp",
        ".tmp",
        "a.TOML",
        "toml",
        "README.md",
        "",
        "a.toml.",
        ".schema.json",
        "a.toml.bak",
    ] {
        assert_eq!(Role::of(name), Role::Ignored, "{name}");
    }
}

#[test]
fn a_refusal_names_line_column_and_reason() {
    for (format, text, expected) in [
        (Toml, "a = 1\nport 8080\n", "line 2, column 6: key with no value, expected `=`"),
        (Toml, "a = \"é\" é", "line 1, column 9: unexpected key or value, expected newline, `#`"),
        (Json, "{\"a\": 1,}", "line 1, column 9: trailing comma"),
        (Json, "{\"é\": 1\n \"b\": 2}", "line 2, column 2: expected `,` or `}`"),
        (Json, "{\"é\": ü}", "line 1, column 7: expected value"),
        (Json, "{\"a\": 1} {}", "line 1, column 10: trailing characters"),
        (Yaml, "é: b: c", "line 1, column 5: mapping values are not allowed in this context"),
        (Yaml, "a: 1\n---\nb: 2\n", "line 3, column 1: more than one document"),
        (Yaml, "a: *b\n", "line 1, column 4: reference to unknown value"),
        (Yaml, "a: &a [*a]\n", "line 1, column 8: an alias inside of its own anchor"),
    ] {
        assert_eq!(refusal(format, text), expected, "{format} {text:?}");
    }
}

#[test]
fn a_duplicate_key_is_refused_where_it_stands() {
    for (format, text, expected) in [
        (Toml, "a = 1\n[b]\nc = 1\n c = 2\n", "line 4, column 2: duplicate key `c`"),
        (Toml, "[a]\n[a]\n", "line 2, column 2: duplicate key `a`"),
        (Toml, "a = { b = 1, b = 2 }\n", "line 1, column 14: duplicate key `b`"),
        (Json, r#"{"a": 1, "a": 1}"#, "line 1, column 10: duplicate key `a`"),
        (Json, "{\"é\": [{\"b\": 1,\n  \"b\" \n : 2}]}", "line 2, column 3: duplicate key `b`"),
        (Json, r#"{"é": {"x\"y": 1, "x\"y" : 2}}"#, "line 1, column 19: duplicate key `x\"y`"),
        (Json, r#"{"a\\": 1, "a\\": 2}"#, r"line 1, column 12: duplicate key `a\`"),
        (Json, r#"{"a": 1, "\u0061": 2}"#, "line 1, column 10: duplicate key `a`"),
        (Yaml, "a: 1\nb:\n  c: 1\n  c: 2\n", "line 4, column 3: duplicate key `c`"),
        (Yaml, "{é: 1, é: 2}", "line 1, column 8: duplicate key `é`"),
        // Two keys to YAML, but one to everybody who reads the document as a table.
        (Yaml, "1: a\n\"1\": b\n", "duplicate key `1`"),
    ] {
        assert_eq!(refusal(format, text), expected, "{format} {text:?}");
    }
}

#[test]
fn the_top_level_is_a_table() {
    for (format, text) in
        [(Json, "[1]"), (Json, "1"), (Json, "null"), (Yaml, "- 1"), (Yaml, "hello"), (Yaml, "null"), (Yaml, "~")]
    {
        let error = refusal(format, text);
        assert!(error.starts_with("line 1, column 1: the top level is "), "{format} {text:?}: {error}");
    }
}

#[test]
fn an_empty_document_is_told_from_a_broken_one() {
    for (format, text) in [
        (Toml, ""),
        (Toml, " \n# nothing\n"),
        (Json, ""),
        (Json, " \n\t"),
        (Json, "\u{feff}"),
        (Yaml, ""),
        (Yaml, "# nothing\n"),
        (Yaml, "---\n...\n"),
        (Yaml, "--- # nothing\n"),
    ] {
        let bytes = Bytes::copy_from_slice(text.as_bytes());

        assert!(Document::parse(bytes.clone(), format).unwrap_err().is_empty(), "{format} {text:?}");

        let document = Document::parse_or_empty(bytes.clone(), format).unwrap();
        assert_eq!((document.value(), document.bytes(), document.digest()), (&json!({}), &bytes, Digest::of(&bytes)));
        assert_eq!(document.decode::<Value>().unwrap(), json!({}), "{format} {text:?}");
    }
    for (format, text) in [(Toml, "a"), (Json, "#"), (Yaml, "null"), (Yaml, "a: 1\n---\n"), (Yaml, "x"), (Json, "{")] {
        assert!(!parse(format, text).unwrap_err().is_empty(), "{format} {text:?}");
        assert!(Document::parse_or_empty(Bytes::from(text), format).is_err(), "{format} {text:?}");
    }
    assert_eq!(parse(Json, "{}"), Ok(json!({})));
    assert_eq!(parse(Yaml, "{}"), Ok(json!({})));
}

#[test]
fn what_is_not_text_is_refused_at_its_first_byte() {
    for format in FORMATS {
        assert_eq!(refusal(format, b"a: 1\n\xc3\xa9\xff"), "line 2, column 2: not UTF-8");
        assert_eq!(refusal(format, "a: 1\n\u{e9}\0"), "line 2, column 2: a NUL byte");
        assert_eq!(refusal(format, [0; 4096]), "line 1, column 1: a NUL byte");
        assert_eq!(refusal(format, b"\xff\xfea\0"), "line 1, column 1: not UTF-8");
    }
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_text() {
    for (format, text) in [(Toml, "a = 1"), (Json, r#"{"a": 1}"#), (Yaml, "a: 1")] {
        let marked = Bytes::from(format!("\u{feff}{text}"));
        let document = Document::parse(marked.clone(), format).unwrap();
        assert_eq!(document.value(), &json!({"a": 1}));
        assert_eq!(document.decode::<Value>().unwrap(), json!({"a": 1}));
        assert_eq!(document.digest(), Digest::of(&marked));
    }
    assert_eq!(refusal(Json, "\u{feff}x"), "line 1, column 1: expected value");
}

#[test]
fn the_reason_is_one_short_line_whatever_the_text() {
    let long = "x".repeat(2_000_000);
    for (format, text) in [
        (Toml, format!("a = {long}")),
        (Toml, format!("{long} {long}")),
        (Toml, format!("{long}=1\n{long}=1")),
        (Json, format!("{{\"a\": {long}")),
        (Json, format!("{{\"{long}\": 1, \"{long}\": 1}}")),
        (Yaml, format!("a: b: {long}")),
        (Yaml, format!("a: !!int {long}")),
        (Yaml, format!("a: *{long}")),
        (Yaml, long.clone()),
        (Yaml, format!("{long}: 1\n{long}: 1")),
        (Yaml, format!("a: !!binary {long}")),
    ] {
        let error = parse(format, &text).unwrap_err();
        assert!(
            error.reason.chars().count() <= 201 && !error.reason.contains('\n'),
            "{format}: {}",
            error.reason.len()
        );
    }

    let document = Document::parse(Bytes::from(format!("port = \"{long}\\n\"")), Toml).unwrap();
    #[derive(Debug, Deserialize)]
    struct Config {
        #[expect(dead_code)]
        port: u16,
    }
    let error = document.decode::<Config>().unwrap_err();
    assert_eq!((error.line, error.column, error.reason.chars().count()), (Some(1), Some(8), 201));
}

#[test]
fn values_are_the_same_in_every_format() {
    let expected = json!({"server": {"port": 8080, "tls": true, "ratio": 0.5}, "names": ["a", "b"]});

    assert_eq!(
        parse(Toml, "[server]\nport = 8080\ntls = true\nratio = 0.5\n[x]").unwrap()["server"],
        expected["server"]
    );
    assert_eq!(parse(Json, expected.to_string()), Ok(expected.clone()));
    assert_eq!(parse(Yaml, "server: {port: 8080, tls: true, ratio: 0.5}\nnames:\n- a\n- b\n"), Ok(expected));
    for (format, text) in [(Toml, "z=1\na=1\nm=1"), (Json, r#"{"z":1,"a":1,"m":1}"#), (Yaml, "z: 1\na: 1\nm: 1")] {
        let value = parse(format, text).unwrap();
        assert_eq!(value.as_object().unwrap().keys().collect::<Vec<_>>(), ["z", "a", "m"], "{format}");
    }
}

#[test]
fn what_json_has_no_word_for_is_written_as_text_or_the_nearest_number() {
    assert_eq!(
        parse(
            Toml,
            "d = 1979-05-27T07:32:00.5Z\nt = 07:32:00\nx = [inf, -inf, nan]\nu = 18446744073709551615\nb = 18446744073709551616"
        ),
        Ok(
            json!({"d": "1979-05-27T07:32:00.5Z", "t": "07:32:00", "x": ["inf", "-inf", "nan"], "u": u64::MAX, "b": 18446744073709551616.0})
        )
    );
    assert_eq!(
        parse(Yaml, "x: [.inf, -.inf, .nan]\nu: 18446744073709551615\nm: -9223372036854775808\nd: 1979-05-27"),
        Ok(json!({"x": ["inf", "-inf", "nan"], "u": u64::MAX, "m": i64::MIN, "d": "1979-05-27"}))
    );
    // Only toml hands over its dates in this disguise.
    let disguised = json!({"$__toml_private_datetime": "x"});
    assert_eq!(parse(Json, disguised.to_string()), Ok(disguised));
}

#[test]
fn yaml_is_read_by_its_core_schema() {
    assert_eq!(
        parse(Yaml, "8080: a\ntrue: b\n1.5: c\nno: yes\nmode: 0755\nk: 1_000\nh: 0x1F\ne: ~\ns: !!str 12\n"),
        Ok(
            json!({"8080": "a", "true": "b", "1.5": "c", "no": "yes", "mode": "0755", "k": "1_000", "h": 31, "e": null, "s": "12"})
        )
    );
    for text in ["null: 1", "? [a]\n: 1", "? {a: 1}\n: 1"] {
        let error = parse(Yaml, text).unwrap_err();
        assert_eq!(error.line, Some(1), "{error}");
    }
}

#[test]
fn yaml_anchors_and_merge_keys_work() {
    let text = "base: &base {a: 1, b: 2}\none:\n  <<: *base\n  b: 3\nlist: [*base, *base]\n";
    assert_eq!(
        parse(Yaml, text),
        Ok(json!({"base": {"a": 1, "b": 2}, "one": {"b": 3, "a": 1}, "list": [{"a": 1, "b": 2}, {"a": 1, "b": 2}]}))
    );
    let mut many = String::from("base: &base {retries: 3, timeout: 5s}\n");
    (0..1000).for_each(|n| many += &format!("s{n}: {{<<: *base, port: {n}}}\n"));
    assert_eq!(parse(Yaml, many).unwrap()["s999"], json!({"port": 999, "retries": 3, "timeout": "5s"}));
}

#[test]
fn an_alias_bomb_is_refused_quickly() {
    let mut laughs = String::from("a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    (1..12).for_each(|n| laughs += &format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(", ")));
    let mut nested = String::from("a0: &a0 {x: 1}\n");
    (1..20).for_each(|n| nested += &format!("a{n}: &a{n} {{l: *a{p}, r: *a{p}}}\n", p = n - 1));
    let mut merged = String::from("a0: &a0 {x: 1}\n");
    (1..25).for_each(|n| merged += &format!("a{n}: &a{n} {{<<: [*a{p}, *a{p}], x{n}: 1}}\n", p = n - 1));
    let repeated = format!("a: &a \"{}\"\nb: [{}]\n", "x".repeat(1 << 20), vec!["*a"; 40_000].join(","));
    let keys = format!("a: &a {{{}: 1}}\nb: [{}]\n", "k".repeat(1000), vec!["*a"; 40_000].join(","));
    for (name, text) in
        [("laughs", laughs), ("nested", nested), ("merged", merged), ("repeated", repeated), ("keys", keys)]
    {
        let started = Instant::now();
        let outcome = parse(Yaml, text);
        assert!(outcome.unwrap_err().reason.ends_with("its aliases make it too large"), "{name}");
        assert!(started.elapsed() < BOUND, "{name}: {:?}", started.elapsed());
    }
}

#[test]
fn extreme_depth_is_an_error_in_every_format() {
    const DEEP: usize = 100_000;
    let cases = [
        (Toml, format!("a = {}{}", "[".repeat(DEEP), "]".repeat(DEEP))),
        (Toml, format!("a = {}1{}", "{a=".repeat(DEEP), "}".repeat(DEEP))),
        (Toml, format!("a{} = 1", ".a".repeat(DEEP))),
        (Toml, format!("[a{}]", ".a".repeat(DEEP))),
        // The parser limits brackets and dots each on their own; together they go to 80 times 80.
        (Toml, format!("a = {}1{}", format!("{{a{}=", ".a".repeat(78)).repeat(78), "}".repeat(78))),
        (Json, format!("{{\"a\":{}{}}}", "[".repeat(DEEP), "]".repeat(DEEP))),
        (Json, format!("{}1{}", "{\"a\":".repeat(DEEP), "}".repeat(DEEP))),
        (Json, "{\"a\":".repeat(DEEP)),
        (Yaml, format!("a: {}{}", "[".repeat(DEEP), "]".repeat(DEEP))),
        (Yaml, format!("{}1{}", "{a: ".repeat(DEEP), "}".repeat(DEEP))),
        (Yaml, "- ".repeat(DEEP)),
        (Yaml, format!("a:\n{}1", "- ".repeat(DEEP))),
        (Yaml, "? ".repeat(DEEP)),
        (Yaml, (0..2000).map(|n| format!("{}a:\n", " ".repeat(n))).collect()),
    ];
    for (format, text) in cases {
        let started = Instant::now();
        let error = parse(format, &text).unwrap_err();
        assert_eq!(error.reason, "nested more than 80 levels deep", "{format} {}…", &text[..8]);
        assert!(started.elapsed() < BOUND, "{format} {}…: {:?}", &text[..8], started.elapsed());
    }
}

#[test]
fn the_depth_limit_is_the_same_in_every_format() {
    let nested = |format: Format, tables: usize| match format {
        // The outermost table is the document itself.
        Toml => format!("a{} = {{}}", ".a".repeat(tables - 2)),
        Json => format!("{}{{}}{}", "{\"a\":".repeat(tables - 1), "}".repeat(tables - 1)),
        Yaml => format!("{}{{}}{}", "{a: ".repeat(tables - 1), "}".repeat(tables - 1)),
    };
    for format in FORMATS {
        let deepest = Document::parse(nested(format, MAX_DEPTH).into(), format).unwrap();
        assert!(deepest.decode::<Value>().is_ok());
        let error = refusal(format, nested(format, MAX_DEPTH + 1));
        assert!(error.ends_with("nested more than 80 levels deep"), "{format}: {error}");
    }
}

#[test]
fn a_megabyte_takes_a_time_that_is_linear_in_its_length() {
    let tables = |format: Format, count: usize| -> String {
        let line = |n: usize| match format {
            Toml => format!("[s{n}]\nport = {n}\nname = \"n{n}\"\n"),
            Json => format!("\"s{n}\": {{\"port\": {n}, \"name\": \"n{n}\"}},\n"),
            Yaml => format!("s{n}:\n  port: {n}\n  name: n{n}\n"),
        };
        let body: String = (0..count).map(line).collect();
        if format == Json { format!("{{{}}}", body.trim_end().trim_end_matches(',')) } else { body }
    };
    for format in FORMATS {
        let time = |count: usize| {
            let text = Bytes::from(tables(format, count));
            let started = Instant::now();
            let document = Document::parse(text, format).unwrap();
            assert_eq!(document.value().as_object().unwrap().len(), count);
            started.elapsed()
        };
        // Quadratic would be a hundred times as long for ten times the text. Another process may get in between, so
        // it has a few tries.
        let linear = (0..10).any(|_| {
            let (small, large) = (time(4_000), time(40_000));
            large < small * 40
        });
        assert!(linear, "{format}");
    }
}

#[test]
fn detection_takes_the_first_format_that_fits() {
    let format = |text: &'static str| Document::detect(Bytes::from(text)).map(|document| document.format());
    assert_eq!(format("{\"a\": 1}"), Ok(Json));
    assert_eq!(format("a = 1\n"), Ok(Toml));
    assert_eq!(format("a: 1\n"), Ok(Yaml));
    assert_eq!(format("{a: 1}"), Ok(Yaml));
    assert!(format("").unwrap_err().is_empty());
    assert_eq!(
        format("a = 1\nport 8080\n").unwrap_err().to_string(),
        "line 2, column 6: key with no value, expected `=`"
    );
    assert_eq!(format("a: 1\nb: c: d\n").unwrap_err().line, Some(2));
    assert_eq!(format("{\"a\": 1,\n\"a\": 2}").unwrap_err().to_string(), "line 2, column 1: duplicate key `a`");
    assert!(format("hello").is_err());
}

#[test]
fn decoding_keeps_what_a_value_cannot_hold() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Config {
        at: toml::value::Datetime,
        big: u64,
        ratio: f64,
    }
    let document = Document::parse(
        Bytes::from_static(b"at = 1979-05-27T07:32:00Z\nbig = 18446744073709551615\nratio = inf\n"),
        Toml,
    )
    .unwrap();

    let config: Config = document.decode().unwrap();

    assert_eq!(
        (config.at.to_string().as_str(), config.big, config.ratio),
        ("1979-05-27T07:32:00Z", u64::MAX, f64::INFINITY)
    );
}

#[test]
fn decoding_says_where_a_type_does_not_fit() {
    #[derive(Debug, Deserialize)]
    struct Config {
        #[expect(dead_code)]
        port: u16,
    }
    for (format, text, expected) in [
        (Toml, "# é\nport = \"x\"\n", "line 2, column 8: invalid type: string \"x\", expected u16"),
        (Json, "{\n\"port\": \"x\"}", "line 2, column 11: invalid type: string \"x\", expected u16"),
        (Yaml, "# é\nport: x\n", "line 2, column 7: invalid u16"),
        (Toml, "a = 1\n", "line 1, column 1: missing field `port`"),
    ] {
        let document = Document::parse(Bytes::from(text), format).unwrap();
        assert_eq!(document.decode::<Config>().unwrap_err().to_string(), expected, "{format}");
    }
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-1e15..1e15f64).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((any::<String>(), inner), 0..6)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

fn table() -> impl Strategy<Value = Value> {
    prop::collection::vec((any::<String>(), json_value()), 0..6)
        .prop_map(|entries| Value::Object(entries.into_iter().collect()))
}

/// What TOML has no word for, and the numbers that it has none for, taken out.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        Value::Object(entries) => {
            Value::Object(entries.into_iter().map(|(key, value)| (key, without_nulls(value))).collect())
        }
        Value::Null => "null".into(),
        Value::Number(number) if number.is_u64() && !number.is_i64() => 0.into(),
        other => other,
    }
}

fn text_like() -> impl Strategy<Value = String> {
    prop::collection::vec(
        prop::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            ":",
            ": ",
            ",",
            "\"",
            "'",
            "\n",
            "\n  ",
            "- ",
            "a",
            "b",
            "1",
            "1.5",
            "=",
            " ",
            "#",
            "&a ",
            "*a",
            "<<: ",
            "---\n",
            "...\n",
            "|\n",
            ">\n",
            "? ",
            "!!int ",
            "\\",
            "\\u00",
            "é",
            "\u{feff}",
            "\r\n",
            "\t",
            "true",
            "null",
            ".inf",
            "2020-01-01",
            "\"\"\"",
            "%",
            "@",
            "`",
            "!",
        ]),
        0..40,
    )
    .prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn json_reads_what_it_prints(value in table()) {
        prop_assert_eq!(parse(Json, value.to_string()).unwrap(), value);
    }

    #[test]
    fn yaml_reads_what_json_prints(value in table()) {
        prop_assert_eq!(parse(Yaml, value.to_string()).unwrap(), value);
    }

    #[test]
    fn toml_reads_what_it_prints(value in table().prop_map(without_nulls)) {
        let text = toml::to_string(&value).unwrap();
        prop_assert_eq!(Document::parse_or_empty(Bytes::from(text), Toml).unwrap().into_value(), value);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Document::detect(Bytes::from(bytes));
    }

    #[test]
    fn no_text_makes_it_panic_or_point_outside(text in text_like()) {
        for format in FORMATS {
            if let Err(error) = parse(format, &text) {
                let lines = text.split('\n').count() as u32;
                prop_assert!(error.line.is_none_or(|line| (1..=lines + 1).contains(&line)), "{} {}", format, error);
                prop_assert!(error.column.is_none_or(|column| column >= 1), "{} {}", format, error);
            }
        }
    }
}

#[test]
fn what_is_only_checked_is_refused_for_the_same_reason_as_what_is_read() {
    let deep = |levels: usize| format!("{}1{}", "a = [".to_owned() + &"[".repeat(levels - 1), "]".repeat(levels));
    let texts = [
        "",
        "# nothing\n",
        "a = 1\nb = [2, { c = 1979-05-27T07:32:00Z }]\nd.e.f = inf\n",
        "a = 1\na = 2",
        "a.b = 1\n[a.b]",
        "a = ",
        "a = 99999999999999999999999999999999999999999",
        "a = 0x1_0000_0000_0000_0000",
        "a = 1e999",
        "a = '''",
        "a = \"\\ud800\"",
        &deep(78),
        &deep(79),
        &deep(80),
        &deep(200),
        &format!("{} = 1", ["a"; 79].join(".")),
        &format!("{} = 1", ["a"; 81].join(".")),
    ];
    for text in texts {
        for or_empty in [false, true] {
            let bytes = Bytes::copy_from_slice(text.as_bytes());
            let read = Document::parse_hashed(bytes.clone(), Digest::of(&bytes), Format::Toml, or_empty);
            let checked = Document::check_hashed(bytes.clone(), Digest::of(&bytes), Format::Toml, or_empty);
            match (read, checked) {
                (Ok(read), Ok(checked)) => {
                    assert_eq!(read.extent(), checked.extent(), "{text}");
                    assert_eq!(read.value(), checked.value(), "{text}");
                }
                (read, checked) => assert_eq!(read.map(|_| ()), checked.map(|_| ()), "{text}"),
            }
        }
    }
}
