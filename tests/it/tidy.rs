//! The rules of the code map (`src/lib.rs`), where the compiler does not hold them. A simple scan of the text.

use std::path::{Path, PathBuf};

/// Modules of the binary: the only ones that talk to a person, read the environment, or end the process.
const BINARY: [&str; 4] = ["main", "cli", "commands", "output"];
const ADAPTERS: [&str; 5] = ["kv", "source", "checkout", "server", "child"];
const ENGINES: [&str; 3] = ["loader", "live", "wait"];
const PURE: [&str; 5] = ["document", "diff", "schema", "secret", "signature"];

/// A file in `src/`, without its tests.
struct Source {
    path: PathBuf,
    /// `kv` for `kv.rs` and all below `kv/`.
    module: String,
    lines: usize,
    /// The code alone, up to the unit tests.
    code: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut directories = vec![root.clone()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let inside = path.strip_prefix(&root).unwrap().to_owned();
            let text = std::fs::read_to_string(&path).unwrap();
            let tests = inside.file_stem().unwrap() == "tests";
            let top = inside.components().next().unwrap().as_os_str().to_str().unwrap();
            let code = text.split("\n#[cfg(test)]\n").next().unwrap().lines();
            let code = code.filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
            found.push(Source {
                module: top.trim_end_matches(".rs").to_owned(),
                lines: text.lines().count(),
                code: if tests { String::new() } else { code },
                path: inside,
            });
        }
    }
    assert!(found.len() > 20, "the scan found next to nothing: {}", found.len());
    found
}

/// Lines of code for which `wrong` is true, as `path: line`.
fn offences(wrong: impl Fn(&Source, &str) -> bool) -> Vec<String> {
    let mut offences = Vec::new();
    for source in sources() {
        let lines = source.code.lines().filter(|line| wrong(&source, line));
        offences.extend(lines.map(|line| format!("{}: {}", source.path.display(), line.trim())));
    }
    offences
}

#[track_caller]
fn assert_none(rule: &str, offences: &[String]) {
    assert!(offences.is_empty(), "{rule}:\n{}", offences.join("\n"));
}

/// Whether `line` names the crate or module `name` in a path: `name::` that no longer word ends in.
fn names(line: &str, name: &str) -> bool {
    let path = format!("{name}::");
    let imported = line.trim() == format!("use {name};");
    imported
        || line.match_indices(&path).any(|(at, _)| {
            !line[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | ':'))
                || line[..at].ends_with("crate::")
        })
}

/// Modules of this crate that `line` imports or names: `crate::kv::Key`, `use crate::{child, kv};`.
fn used(line: &str) -> Vec<&str> {
    let mut used = Vec::new();
    for prefix in ["crate::", "confhot::"] {
        for (at, _) in line.match_indices(prefix) {
            let rest = &line[at + prefix.len()..];
            let list = rest.strip_prefix('{').map_or(rest, |list| list.split('}').next().unwrap_or(list));
            let many = rest.starts_with('{');
            for item in list.split(',').take(if many { usize::MAX } else { 1 }) {
                used.extend(item.trim().split(|c: char| !c.is_alphanumeric() && c != '_').next());
            }
        }
    }
    used
}

#[test]
fn the_scan_sees_what_it_is_to_see() {
    assert!(names("let x = async_nats::connect();", "async_nats") && names("use notify;", "notify"));
    assert!(names("use notify::Watcher;", "notify") && !names("self.tx.notify_one(); my_notify::x", "notify"));
    assert_eq!(used("use crate::{child, kv::Key};"), ["child", "kv"]);
    assert_eq!(used("fn x(a: crate::source::Options, b: crate::live::T) {"), ["source", "live"]);
    assert!(used("use super::Bucket;").is_empty());
}

#[test]
fn kv_alone_speaks_nats_and_source_alone_is_told_by_the_kernel() {
    for (name, owner) in [("async_nats", "kv"), ("notify", "source")] {
        let strays = offences(|source, line| source.module != owner && names(line, name));
        assert_none(&format!("{name} outside {owner}"), &strays);
        let uses = offences(|source, line| source.module == owner && names(line, name));
        assert!(!uses.is_empty(), "the scan misses {name} where it is used");
    }
}

#[test]
fn the_library_never_prints_reads_the_environment_or_exits() {
    let forbidden = [
        "println!",
        "eprintln!",
        "print!(",
        "eprint!(",
        "dbg!(",
        "env::var",
        "env::args",
        "env::vars",
        "process::exit",
    ];
    let strays = offences(|source, line| {
        !BINARY.contains(&source.module.as_str()) && forbidden.iter().any(|what| line.contains(what))
    });
    assert_none("only the binary talks to a person", &strays);
}

#[test]
fn arrows_point_down_and_modules_of_one_layer_do_not_know_each_other() {
    // `server` stands on `child`: a private server is a process that must not outlive this one.
    let allowed = |module: &str, used: &str| {
        module == used
            || PURE.contains(&used) && module != "document"
            || (module, used) == ("server", "child")
            || ENGINES.contains(&module) && ADAPTERS.contains(&used)
    };
    let strays = offences(|source, line| {
        let module = source.module.as_str();
        let layered = PURE.contains(&module) || ADAPTERS.contains(&module) || ENGINES.contains(&module);
        layered && used(line).into_iter().any(|used| !allowed(module, used))
    });
    assert_none("an import that goes up or sideways", &strays);
}

#[test]
fn every_module_has_its_place_and_a_name_that_says_something() {
    let mut strays = Vec::new();
    for source in sources() {
        let known = [&BINARY[..], &ADAPTERS, &ENGINES, &PURE, &["lib"]].concat();
        if !known.contains(&source.module.as_str()) {
            strays.push(format!("{}: in no layer", source.path.display()));
        }
        let name = source.path.file_stem().unwrap().to_str().unwrap();
        if ["utils", "util", "common", "types", "helpers", "misc"].contains(&name) {
            strays.push(format!("{}: says nothing", source.path.display()));
        }
        if source.lines > 830 {
            strays.push(format!("{}: {} lines; split it", source.path.display(), source.lines));
        }
    }
    assert_none("modules", &strays);
}
