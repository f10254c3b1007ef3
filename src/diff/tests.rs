use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// What without its limit would take minutes or for ever ends within this, even on a machine that is busy with others.
const BOUND: Duration = Duration::from_secs(30);

/// `path: before -> after` for each change; `-` where there is nothing.
fn told(before: Value, after: Value) -> Vec<String> {
    let text = |value: &Option<Value>| value.as_ref().map_or("-".to_owned(), Value::to_string);
    changes(&before, &after)
        .iter()
        .map(|change| format!("{}: {} -> {}", change.path, text(&change.before), text(&change.after)))
        .collect()
}

#[test]
fn a_changed_value_is_told_by_its_path() {
    assert_eq!(
        told(
            json!({"server": {"port": 8080, "host": "a"}, "servers": [{"port": 1}, {"port": 2}], "old": 1}),
            json!({"new": null, "servers": [{"port": 1}, {"port": 3}, {"port": 4}], "server": {"host": "a", "port": 9090}}),
        ),
        [
            "server.port: 8080 -> 9090",
            "servers[1].port: 2 -> 3",
            "servers[2].port: - -> 4",
            "old: 1 -> -",
            "new: - -> null"
        ]
    );
}

#[test]
fn keys_that_are_not_bare_words_are_quoted() {
    assert_eq!(
        told(json!({}), json!({"a.b": {"c": 1}, "": 2, "é": 3, "x": {"y\"z": 4}, "A_b-1": 5, "[0]": 6})),
        [
            r#""a.b".c: - -> 1"#,
            r#""": - -> 2"#,
            r#""é": - -> 3"#,
            r#"x."y\"z": - -> 4"#,
            "A_b-1: - -> 5",
            r#""[0]": - -> 6"#,
        ]
    );
}

#[test]
fn tables_that_come_and_go_are_told_by_what_is_in_them() {
    let table = json!({"a": {"b": 1, "c": {"d": 2}, "e": {}, "f": [1, {"g": 2}]}});
    assert_eq!(
        told(json!({}), table.clone()),
        ["a.b: - -> 1", "a.c.d: - -> 2", "a.e: - -> {}", r#"a.f: - -> [1,{"g":2}]"#]
    );
    assert_eq!(told(table, json!({})), ["a.b: 1 -> -", "a.c.d: 2 -> -", "a.e: {} -> -", r#"a.f: [1,{"g":2}] -> -"#]);
}

#[test]
fn a_table_that_was_emptied_is_told_from_one_that_went() {
    assert_eq!(told(json!({"a": {"b": 1}}), json!({"a": {}})), [r#"a: {"b":1} -> {}"#]);
    assert_eq!(told(json!({"a": {"b": 1}}), json!({})), ["a.b: 1 -> -"]);
    assert_eq!(told(json!({"a": {}}), json!({"a": {"b": 1}})), ["a.b: - -> 1"]);
    assert_eq!(told(json!({"a": {}}), json!({"a": {}})), [""; 0]);
}

#[test]
fn a_value_of_another_kind_is_one_change() {
    assert_eq!(told(json!({"a": {"b": 1}}), json!({"a": [1]})), [r#"a: {"b":1} -> [1]"#]);
    assert_eq!(told(json!({"a": "1"}), json!({"a": 1})), [r#"a: "1" -> 1"#]);
    assert_eq!(told(json!({"a": null}), json!({"a": false})), ["a: null -> false"]);
}

#[test]
fn numbers_are_compared_by_value() {
    for (before, after) in [
        (json!(1), json!(1.0)),
        (json!(0), json!(-0.0)),
        (json!(u64::MAX), json!(u64::MAX)),
        (json!(0.5), json!(0.5)),
        (json!(1e300), json!(1e300)),
    ] {
        assert_eq!(told(json!({"a": before}), json!({"a": after})), [""; 0]);
    }
    // The nearest float of the first is the second's, so comparing as floats would find them the same.
    for (before, after) in [
        (json!(9007199254740993u64), json!(9007199254740992.0)),
        (json!(u64::MAX), json!(u64::MAX - 1)),
        (json!(i64::MIN), json!(i64::MIN + 1)),
        (json!(u64::MAX), json!(u64::MAX as f64)),
        (json!(1), json!(1.5)),
        (json!(-1), json!(u64::MAX)),
    ] {
        assert_eq!(told(json!({"a": before}), json!({"a": after})).len(), 1, "{before} {after}");
    }
}

#[test]
fn formats_do_not_matter() {
    use crate::document::{Document, Format};
    let value = |text: &'static str, format| Document::parse(text.into(), format).unwrap().into_value();
    let toml = value("name = 'a'\n[server]\nport = 8080\n", Format::Toml);
    let json = value(r#"{"server": {"port": 8080.0}, "name": "a"}"#, Format::Json);
    let yaml = value("server: {port: 9090}\nname: a\n", Format::Yaml);

    assert_eq!(changes(&toml, &json), []);
    assert_eq!(told(toml, yaml), ["server.port: 8080 -> 9090"]);
}

#[test]
fn an_absent_side_is_null_in_json() {
    let changes = changes(&json!({}), &json!({"a": 1}));
    assert_eq!(json!(changes), json!([{"path": "a", "before": null, "after": 1}]));
}

/// A step of a path: a key, or an index.
type Step = Result<String, usize>;

fn steps(mut path: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    while !path.is_empty() {
        path = path.strip_prefix('.').unwrap_or(path);
        let length = if path.starts_with('[') {
            let end = path.find(']').unwrap();
            steps.push(Err(path[1..end].parse().unwrap()));
            end + 1
        } else if path.starts_with('"') {
            let mut strings = serde_json::Deserializer::from_str(path).into_iter::<String>();
            steps.push(Ok(strings.next().unwrap().unwrap()));
            strings.byte_offset()
        } else {
            let end = path.find(['.', '[']).unwrap_or(path.len());
            steps.push(Ok(path[..end].to_owned()));
            end
        };
        path = &path[length..];
    }
    steps
}

/// Puts `new` at the place, or takes away what is there, and with it each table that is empty then.
fn set(value: &mut Value, steps: &[Step], new: Option<Value>) {
    let [step, rest @ ..] = steps else {
        *value = new.unwrap();
        return;
    };
    let vacant = || if rest.is_empty() { Value::Null } else { json!({}) };
    let inner = match step {
        Ok(key) => value.as_object_mut().unwrap().entry(key.as_str()).or_insert_with(vacant),
        Err(index) => {
            let array = value.as_array_mut().unwrap();
            if *index == array.len() {
                array.push(vacant());
            }
            &mut array[*index]
        }
    };
    let gone = match new {
        None if rest.is_empty() => true,
        new => {
            let removing = new.is_none();
            set(inner, rest, new);
            removing && inner.as_object().is_some_and(Map::is_empty)
        }
    };
    match step {
        Ok(key) if gone => drop(value.as_object_mut().unwrap().shift_remove(key)),
        Err(index) if gone => drop(value.as_array_mut().unwrap().remove(*index)),
        _ => {}
    }
}

fn apply(before: &Value, changes: &[Change]) -> Value {
    let mut value = before.clone();
    // What was added comes first, so that a table which lost one key and got another is never empty in between. What
    // went goes from the end, so that nothing that is still to go moves.
    for change in changes.iter().filter(|change| change.after.is_some()) {
        set(&mut value, &steps(&change.path), change.after.clone());
    }
    for change in changes.iter().rev().filter(|change| change.after.is_none()) {
        set(&mut value, &steps(&change.path), None);
    }
    value
}

/// Few keys and few values, so that two documents have much in common.
fn document() -> impl Strategy<Value = Value> {
    let leaf = prop::sample::select(vec![
        json!(null),
        json!(1),
        json!(1.0),
        json!(2),
        json!(0.5),
        json!("x"),
        json!({}),
        json!([]),
    ]);
    let value = leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from), table(inner)]
    });
    table(value)
}

fn table(inner: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    let key = prop::sample::select(vec!["a", "b", "c", "a.b", "", "[0]", "\"", "é\\"]);
    prop::collection::vec((key.prop_map(str::to_owned), inner), 0..4)
        .prop_map(|entries| Value::Object(entries.into_iter().collect()))
}

proptest! {
    #[test]
    fn applying_the_changes_gives_the_other_document(before in document(), after in document()) {
        let changes = changes(&before, &after);
        let applied = apply(&before, &changes);
        // `1` and `1.0` are the same, so the result is compared with the same eyes.
        prop_assert_eq!(super::changes(&applied, &after), vec![], "{:?} gave {}", changes, applied);
    }

    #[test]
    fn a_document_does_not_differ_from_itself(document in document()) {
        prop_assert_eq!(changes(&document, &document), vec![]);
    }

    #[test]
    fn the_lines_hold_both_texts(before in "([ab]\r?\n?){0,12}", after in "([ab]\r?\n?){0,12}") {
        // All of both is in the hunks when every line is within three of a change; else a part of each.
        let lines = lines(before.as_bytes(), after.as_bytes(), "a", "b");
        prop_assert_eq!(lines.is_empty(), before == after);
        for (text, own) in [(&before, Tag::Removed), (&after, Tag::Added)] {
            let mut shown: Vec<String> = Vec::new();
            let mut last = Tag::Header;
            for line in &lines {
                match line.tag {
                    tag if tag == own || tag == Tag::Context => shown.push(format!("{}\n", &line.text[1..])),
                    Tag::Note if last == own || last == Tag::Context => drop(shown.last_mut().unwrap().pop()),
                    _ => {}
                }
                last = line.tag;
            }
            let mut rest = text.split_inclusive('\n');
            prop_assert!(shown.iter().all(|line| rest.any(|own| own == line)), "{:?} {:?}", shown, text);
        }
    }
}

#[test]
fn a_unified_diff_is_what_diff_prints() {
    let before = "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\nk\nl\n";
    let after = "a\nB\nc\nd\ne\nf\ng\nh\ni\nj\nk\nl\nm\n";

    let text = unified(before.as_bytes(), after.as_bytes(), "service1@41", "service1@43");

    assert_eq!(
        text,
        "--- service1@41\n+++ service1@43\n@@ -1,5 +1,5 @@\n a\n-b\n+B\n c\n d\n e\n@@ -10,3 +10,4 @@\n j\n k\n l\n+m\n"
    );
    assert_eq!(unified(b"a\n", b"a\n", "x", "y"), "");
    assert_eq!(unified(b"", b"a\n", "x", "y"), "--- x\n+++ y\n@@ -0,0 +1 @@\n+a\n");
}

#[test]
fn a_missing_last_newline_is_noted() {
    let note = "\\ No newline at end of file\n";
    assert_eq!(unified(b"a", b"a\n", "x", "y"), format!("--- x\n+++ y\n@@ -1 +1 @@\n-a\n{note}+a\n"));
    assert_eq!(unified(b"a\nb", b"A\nb", "x", "y"), format!("--- x\n+++ y\n@@ -1,2 +1,2 @@\n-a\n+A\n b\n{note}"));
}

#[test]
fn line_ends_and_bytes_that_are_not_text_are_differences() {
    assert_eq!(unified(b"a\r\n", b"a\n", "x", "y"), "--- x\n+++ y\n@@ -1 +1 @@\n-a\r\n+a\n");
    assert_eq!(unified(b"\xff\n", b"\xfe\n", "x", "y"), "--- x\n+++ y\n@@ -1 +1 @@\n-\u{fffd}\n+\u{fffd}\n");
}

#[test]
fn huge_texts_with_little_in_common_take_a_bounded_time() {
    let random = |count: usize, words: u64, seed: u64| -> Vec<String> {
        let next = |random: &u64| Some(random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(seed));
        std::iter::successors(Some(seed), next)
            .take(count)
            .map(|random| format!("{}\n", (random >> 33) % words))
            .collect()
    };
    let numbers = |count: usize, step: usize| (0..count).map(|n| format!("{}\n", n * step)).collect::<Vec<_>>();
    let half = MOST_LINES / 2;
    let cases = [
        (random(half, 5_000, 1), random(half, 5_000, 3)),
        (random(half, 2, 1), random(half, 2, 3)),
        (random(half, 100, 1), random(half, 100, 3)),
        (numbers(half, 1), numbers(half, 1).into_iter().rev().collect()),
        (numbers(half, 1), numbers(half, 2)),
        (numbers(half, 2), numbers(half, 3)),
        (random(400_000, 5_000, 1), random(400_000, 5_000, 3)),
    ];
    for (before, after) in cases {
        let started = Instant::now();

        let lines = lines(before.concat().as_bytes(), after.concat().as_bytes(), "a", "b");

        assert!(!lines.is_empty());
        assert!(started.elapsed() < BOUND, "{:?}", started.elapsed());
    }
}

#[test]
fn a_text_of_too_many_lines_is_told_as_replaced_between_what_stays() {
    let text = |from: usize| -> String {
        let middle: String = (from..from + MOST_LINES).map(|n| format!("{n}\n")).collect();
        format!("first\n{middle}last\n")
    };

    let lines = lines(text(0).as_bytes(), text(1).as_bytes(), "a", "b");

    assert_eq!(lines.iter().filter(|line| line.tag == Tag::Removed).count(), MOST_LINES);
    assert_eq!(lines.iter().filter(|line| line.tag == Tag::Added).count(), MOST_LINES);
    assert_eq!((lines[3].text.as_str(), lines[lines.len() - 1].text.as_str()), (" first", " last"));
}
