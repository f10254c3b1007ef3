//! The fuzz targets (`fuzz/`), run on their seeds and on every input that once broke something.

mod targets;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use self::targets::TARGETS;

/// The inputs in a directory.
fn inputs(directory: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(directory).into_iter().flatten().map(|file| file.unwrap().path());
    files.filter(|file| file.is_file()).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn every_seed_and_every_input_that_once_broke_something_holds() {
    for (name, target) in TARGETS {
        let seeds = inputs(&root().join("fuzz/seeds").join(name));
        assert!(seeds.len() >= 3, "{name} has next to no seeds");
        for file in seeds.into_iter().chain(inputs(&root().join("tests/cases/fuzz").join(name))) {
            let input = std::fs::read(&file).unwrap();
            let began = Instant::now();
            if std::panic::catch_unwind(|| target(&input)).is_err() {
                panic!("{name} fails on {}", file.display());
            }
            // The bar is a second, of an optimized build.
            assert!(began.elapsed() < Duration::from_secs(5), "{} takes {:?}", file.display(), began.elapsed());
        }
    }
}

#[test]
fn every_target_has_its_binary_and_no_case_is_of_none() {
    let named = |directory: &str| {
        let entries = std::fs::read_dir(root().join(directory)).into_iter().flatten();
        let names = entries.map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    };
    let targets = TARGETS.map(|(name, _)| name.to_owned());
    assert_eq!(named("fuzz/fuzz_targets"), targets);
    assert_eq!(named("fuzz/seeds"), targets);
    for case in named("tests/cases/fuzz") {
        assert!(targets.contains(&case), "{case} is no target");
    }
}
