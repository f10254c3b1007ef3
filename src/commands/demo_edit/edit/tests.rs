use std::collections::BTreeMap;

use confhot::document::Format;
use confhot::schema::Schema;

use super::*;

/// The documents that the demo edits.
fn demo() -> Vec<Document> {
    let document = |bytes: &'static [u8], format| Document::parse(Bytes::from_static(bytes), format).unwrap();
    vec![
        document(include_bytes!("../../../../configs/service1.toml"), Format::Toml),
        document(include_bytes!("../../../../configs/service2.yaml"), Format::Yaml),
        document(include_bytes!("../../../../configs/service3.json"), Format::Json),
    ]
}

/// What each of them must look like.
fn schemas() -> [Schema; 3] {
    let texts: [&'static [u8]; 3] = [
        include_bytes!("../../../../configs/service1.schema.json"),
        include_bytes!("../../../../configs/service2.schema.json"),
        include_bytes!("../../../../configs/service3.schema.json"),
    ];
    texts.map(|text| Schema::parse(Bytes::from_static(text)).unwrap())
}

/// Carries out `count` edits, and shows each with what stood before it: the file, and its last content without a mistake.
fn edit_many(seed: u64, count: usize, faults: bool, mut see: impl FnMut(&Edit, &Bytes, &Document)) {
    let mut good = demo();
    let databases: BTreeSet<String> = good.iter().filter_map(database_of).map(str::to_owned).collect();
    assert_eq!(databases.len(), 3);
    let mut files: Vec<Bytes> = good.iter().map(|document| document.bytes().clone()).collect();
    let mut at_fault = [false; 3];
    let mut rng = Rng::with_seed(seed);
    for _ in 0..count {
        let pages: Vec<_> = good.iter().zip(at_fault).map(|(good, at_fault)| Page { good, at_fault }).collect();
        let edit = choose(&mut rng, &pages, &databases, faults).unwrap();
        see(&edit, &files[edit.which], &good[edit.which]);
        at_fault[edit.which] = matches!(edit.what, What::Fault(_));
        if let What::Set { .. } = edit.what {
            good[edit.which] = Document::parse(edit.bytes.clone(), good[edit.which].format()).unwrap();
        }
        files[edit.which] = edit.bytes;
    }
}

fn edits(seed: u64, count: usize, faults: bool) -> Vec<Bytes> {
    let mut all = Vec::new();
    edit_many(seed, count, faults, |edit, _, _| all.push(edit.bytes.clone()));
    all
}

#[test]
fn a_seed_decides_all_edits_and_another_one_decides_differently() {
    assert_eq!(edits(7, 100, true), edits(7, 100, true));
    assert_ne!(edits(7, 100, true), edits(8, 100, true));
}

#[test]
fn without_faults_every_edit_is_a_valid_document_that_differs_in_the_one_value_it_names() {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let schemas = schemas();
    edit_many(1, 1000, false, |edit, before, good| {
        let What::Set { at, before: old, after } = &edit.what else { panic!("{edit:?}") };
        let edited = Document::parse(edit.bytes.clone(), good.format()).unwrap();
        let pointer = format!("/{}", at.replace('.', "/"));
        assert_ne!(edit.bytes, before);
        assert_ne!(old, after);
        assert_eq!(good.value().pointer(&pointer), Some(old));
        let mut wanted = good.value().clone();
        *wanted.pointer_mut(&pointer).unwrap() = after.clone();
        assert_eq!(*edited.value(), wanted);
        let violations = schemas[edit.which].check(&edited);
        assert!(violations.is_empty(), "{violations:?}");

        // All but one line is as it was: comments, blank lines, order.
        let lines = |bytes: &Bytes| std::str::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect::<Vec<_>>();
        let (before, after) = (lines(before), lines(&edit.bytes));
        assert_eq!(before.len(), after.len());
        assert_eq!(before.iter().zip(&after).filter(|(a, b)| a != b).count(), 1, "{edit:?}");
        *seen.entry(format!("{}:{at}", edit.which)).or_default() += 1;
    });

    for which in 0..3 {
        for at in ["logging.level", "database.url"] {
            assert!(seen.get(&format!("{which}:{at}")).is_some_and(|count| *count > 50), "{which} {at}: {seen:?}");
        }
    }
    for at in
        ["0:features.checkout_v2", "0:features.max_cart_items", "1:features.dunning", "2:features.index_batch_size"]
    {
        assert!(seen.contains_key(at), "{at}: {seen:?}");
    }
}

#[test]
fn each_kind_of_mistake_is_what_it_says_and_is_mended_by_the_next_edit_of_its_document() {
    let mut seen: BTreeMap<(usize, Fault), usize> = BTreeMap::new();
    let mut owed: BTreeMap<usize, Bytes> = BTreeMap::new();
    edit_many(2, 1000, true, |edit, _, good| {
        if let Some(mended) = owed.remove(&edit.which) {
            assert_eq!((&edit.what, &edit.bytes), (&What::Mended, &mended));
            return;
        }
        let parsed = Document::parse(edit.bytes.clone(), good.format());
        match edit.what {
            What::Fault(Fault::Syntax) => assert!(!parsed.unwrap_err().is_empty()),
            What::Fault(Fault::Empty) => assert!(edit.bytes.is_empty()),
            What::Fault(Fault::Unreachable) => assert!(database_of(&parsed.unwrap()).unwrap().contains(":1/")),
            What::Set { .. } => drop(parsed.unwrap()),
            What::Mended => panic!("nothing is broken: {edit:?}"),
        }
        if let What::Fault(fault) = edit.what {
            owed.insert(edit.which, good.bytes().clone());
            *seen.entry((edit.which, fault)).or_default() += 1;
        }
    });

    for which in 0..3 {
        for fault in [Fault::Syntax, Fault::Empty, Fault::Unreachable] {
            assert!(seen.get(&(which, fault)).is_some_and(|count| *count > 3), "{which} {fault:?}: {seen:?}");
        }
    }
}

#[test]
fn a_value_is_changed_where_it_stands_and_not_where_it_is_only_mentioned() {
    let text = "# level = \"info\"\n[logging]\nlevel=\"info\" # info, always\n[x]\nlevel = \"info\"\n";
    let document = Document::parse(text.into(), Format::Toml).unwrap();
    let path = ["logging".to_owned(), "level".to_owned()];

    let edited = with(&document, &path, &"warn".into()).unwrap();
    assert_eq!(edited, text.replacen("\nlevel=\"info\"", "\nlevel=\"warn\"", 1));
    // A text that no plain replacement can make is not made at all.
    assert_eq!(with(&document, &path, &"a\"b".into()), None);
}

#[test]
fn where_there_is_nothing_to_edit_nothing_is_edited() {
    let document = Document::parse("a = 1\n".into(), Format::Toml).unwrap();
    let page = Page { good: &document, at_fault: false };
    let mut rng = Rng::with_seed(1);

    assert_eq!(choose(&mut rng, &[], &BTreeSet::new(), false), None);
    assert_eq!(choose(&mut rng, &[page; 5], &BTreeSet::new(), false), None);
}

#[test]
fn a_database_that_does_not_answer_is_the_same_one_at_another_port() {
    let moved = |url| nobody_at(url).unwrap();
    assert_eq!(moved("postgres://u:p@db:5432/shop"), "postgres://u:p@db:1/shop");
    assert_eq!(moved("postgres://u:p@db/shop?sslmode=disable"), "postgres://u:p@db:1/shop?sslmode=disable");
    assert_eq!(moved("postgres://[::1]:5432/shop"), "postgres://[::1]:1/shop");
    assert_eq!(moved("postgres://[::1]"), "postgres://[::1]:1");
    assert_eq!(nobody_at("db"), None);
}
