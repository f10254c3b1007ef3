//! What help says, and that the README and the generated files say the same.

use std::collections::BTreeSet;
use std::path::Path;

use crate::support;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn stdout(args: &[&str]) -> String {
    // With no stream a terminal, help is 100 columns wide wherever the tests run.
    let output = support::confhot().args(args).write_stdin("").output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), b"".as_slice()), "{args:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The verbs that `confhot --help` lists, in its order.
fn verbs() -> Vec<String> {
    let help = stdout(&["--help"]);
    let (_, list) = help.split_once("Commands:\n").unwrap();
    let list = list.lines().take_while(|line| !line.is_empty());
    // What an entry goes on with in a further line is indented further.
    list.filter_map(|line| Some(line.strip_prefix("  ")?.split(' ').next()?.to_owned()))
        .filter(|v| !v.is_empty())
        .collect()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(ROOT).join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn help_says_what_it_said() {
    insta::assert_snapshot!("confhot", stdout(&["--help"]));
    for verb in verbs() {
        let help = stdout(&[&verb, "--help"]);
        // Every verb takes the global options; one snapshot of them is enough.
        let (own, global) = help.split_once("Global options:\n").unwrap();
        let after = global.split_once("Examples:\n").map_or("", |(_, after)| after);
        insta::assert_snapshot!(verb, format!("{own}…\n\nExamples:\n{after}"));
    }
}

#[test]
fn every_verb_has_examples_and_exit_codes() {
    for verb in verbs() {
        let help = stdout(&[&verb, "--help"]);
        assert!(help.contains("Examples:\n  confhot") && help.contains("Exit codes:\n  0  "), "{verb}");
        assert!(help.lines().all(|line| line.chars().count() <= 120), "{verb}");
    }
}

#[test]
fn the_readme_lists_the_verbs_that_there_are() {
    let readme = read("README.md");
    let (_, table) = readme.split_once("| verb | what it does |\n|---|---|\n").unwrap();
    let cells = table.lines().take_while(|line| line.starts_with('|')).map(|line| line.split(" |").next().unwrap());
    // A cell is `get KEY …`, or two of them after each other.
    let listed: BTreeSet<_> = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    let listed: BTreeSet<_> = listed.iter().map(|verb| verb.split(' ').next().unwrap().to_owned()).collect();

    assert_eq!(listed, verbs().into_iter().collect());
}

#[test]
fn the_readme_names_options_that_there_are() {
    let readme = read("README.md");
    let (_, table) = readme.split_once("| verb | what it does |\n|---|---|\n").unwrap();
    for row in table.lines().take_while(|line| line.starts_with('|')) {
        let verb = row.trim_start_matches("| `").split([' ', '`']).next().unwrap();
        let help = stdout(&[verb, "--help"]);
        for option in row.split(['`', ' ', '[', ']']).filter(|word| word.starts_with("--")) {
            let option = option.trim_end_matches([',', '.']);
            assert!(help.contains(option), "{verb} {option}");
        }
    }
}

#[test]
fn what_is_generated_is_an_object_where_that_is_asked_for() {
    for (args, key) in [(&["completions", "bash"][..], "script"), (&["man"], "text")] {
        let object = stdout(&[args, &["--format", "json"]].concat());
        let object: serde_json::Value = serde_json::from_str(&object).unwrap();
        assert_eq!(object[key], stdout(args));
    }
}

#[test]
fn the_generated_files_are_what_the_binary_generates() {
    for (shell, file) in
        [("bash", "confhot.bash"), ("zsh", "_confhot"), ("fish", "confhot.fish"), ("powershell", "_confhot.ps1")]
    {
        let same = stdout(&["completions", shell]) == read(&format!("completions/{file}"));
        assert!(same, "completions/{file} is out of date: run `just generate`");
    }

    let dir = tempfile::tempdir().unwrap();
    stdout(&["man", "--dir", dir.path().to_str().unwrap()]);
    let pages = |dir: &Path| -> BTreeSet<_> {
        std::fs::read_dir(dir).unwrap().map(|page| page.unwrap().file_name().into_string().unwrap()).collect()
    };
    let generated = pages(dir.path());
    assert_eq!(pages(&Path::new(ROOT).join("completions/man")), generated, "run `just generate`");
    for page in generated {
        let same = std::fs::read_to_string(dir.path().join(&page)).unwrap() == read(&format!("completions/man/{page}"));
        assert!(same, "completions/man/{page} is out of date: run `just generate`");
    }
}
