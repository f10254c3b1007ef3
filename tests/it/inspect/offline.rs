//! The verbs that need no server: `validate`, `completions`, `man`.

use std::fs;

use super::Here;
use crate::support;

impl Here {
    /// Runs in the directory, with no server to be had.
    fn offline(&self, line: &str) -> String {
        let mut command = support::confhot();
        command.args(line.split(' ')).current_dir(self.dir.path()).env("CONFHOT_SERVER", "nats://127.0.0.1:1");
        self.told(&mut command)
    }
}

#[test]
fn validate_is_quiet_on_stdout_where_all_is_valid() {
    let here = Here::offline_only();
    here.file("configs/service1.toml", "n = 1\n");
    here.file("configs/billing/api.yaml", "n: 1\n");
    // None of these is a document.
    here.file("configs/.hidden.toml", "n =");
    here.file("configs/.git/config.toml", "n =");
    here.file("configs/service1.toml~", "n =");
    here.file("configs/README.md", "#");

    assert_eq!(here.offline("validate configs"), "! 2 documents, none invalid\n= 0");
    assert_eq!(here.offline("validate configs -q"), "= 0");
    // One file is one document, however often it is named.
    assert_eq!(here.offline("validate configs configs/service1.toml"), "! 2 documents, none invalid\n= 0");
    assert_eq!(
        here.offline("validate configs --format json -q"),
        "{\"path\":\"configs/billing/api.yaml\",\"key\":\"billing.api\",\"valid\":true,\"errors\":[]}\n\
         {\"path\":\"configs/service1.toml\",\"key\":\"service1\",\"valid\":true,\"errors\":[]}\n= 0"
    );
}

#[test]
fn validate_tells_where_each_document_is_wrong() {
    let here = Here::offline_only();
    here.file("configs/a.toml", "n = 1\nport 8080\n");
    here.file("configs/b.json", "[1]");
    here.file("configs/c.yaml", "just a text\n");
    here.file("configs/d.toml", "");

    let told = here.offline("validate configs");
    let lines: Vec<_> = told.lines().collect();
    assert_eq!(lines.len(), 6, "{told}");
    for (line, start) in
        lines.iter().zip(["configs/a.toml:2:6: ", "configs/b.json", "configs/c.yaml", "configs/d.toml"])
    {
        assert!(line.starts_with(start), "{line}");
    }
    assert_eq!(lines[4..], ["! 4 documents, 4 invalid", "= 1"]);

    let told = here.offline("validate configs/a.toml --format json -q");
    let (line, code) = told.split_once('\n').unwrap();
    let value: serde_json::Value = serde_json::from_str(line).unwrap();
    let error = &value["errors"][0];
    assert_eq!(code, "= 1");
    assert_eq!((&value["key"], &value["valid"]), (&"a".into(), &false.into()));
    assert_eq!((&error["line"], &error["column"], error["at"].is_null()), (&2.into(), &6.into(), true));
    assert!(error["reason"].is_string(), "{line}");
}

#[test]
fn two_files_for_one_key_are_both_invalid_and_name_each_other() {
    let here = Here::offline_only();
    here.file("configs/a.toml", "n = 1\n");
    here.file("configs/a.yaml", "n: 1\n");

    assert_eq!(
        here.offline("validate configs"),
        "configs/a.toml: configs/a.yaml has the key a as well\n\
         configs/a.yaml: configs/a.toml has the key a as well\n\
         ! 2 documents, 2 invalid\n= 1"
    );
    // Two sources may have the same key.
    here.file("other/a.toml", "n = 1\n");
    assert_eq!(here.offline("validate configs/a.toml other"), "! 2 documents, none invalid\n= 0");
}

#[test]
fn a_name_that_cannot_be_a_key_says_which_character_is_in_the_way() {
    let here = Here::offline_only();
    here.file("configs/two words.toml", "n = 1\n");
    here.file("configs/_schema/a.json", "{}");
    here.file("notes.txt", "");

    let told = here.offline("validate configs");
    assert!(told.contains("configs/two words.toml: ") && told.contains("` `"), "{told}");
    assert!(told.contains("configs/_schema/a.json: ") && told.contains("`_`"), "{told}");
    assert!(told.ends_with("! 2 documents, 2 invalid\n= 1"), "{told}");
    let told = here.offline("validate notes.txt");
    assert!(told.starts_with("notes.txt: its name is not a document's") && told.ends_with("= 1"), "{told}");
}

#[test]
fn validate_of_a_path_that_is_missing_is_trouble_after_all_else_was_checked() {
    let here = Here::offline_only();
    here.file("configs/a.toml", "n =\n");
    fs::create_dir(here.dir.path().join("empty")).unwrap();

    let told = here.offline("validate missing configs");
    assert!(told.starts_with("configs/a.toml:1:"), "{told}");
    assert!(told.contains("\n! 1 document, 1 invalid\n! error: cannot read missing\n! caused by: "), "{told}");
    assert!(told.ends_with("\n= 2"), "{told}");
    assert_eq!(here.offline("validate empty"), "! there is no document to check\n= 0");
    assert!(here.offline("validate").ends_with("\n= 2"));
}

#[test]
fn what_a_file_is_called_reaches_a_terminal_as_text() {
    let here = Here::offline_only();
    here.file("configs/a\u{1b}[2J.toml", "n = 1\n");

    let told = here.offline("validate configs");

    assert!(told.starts_with("configs/a\\u{1b}[2J.toml: ") && !told.contains('\u{1b}'), "{told}");
}

#[test]
fn completions_and_the_manual_need_no_server() {
    let here = Here::offline_only();

    for shell in ["bash", "zsh", "fish", "powershell"] {
        let told = here.offline(&format!("completions {shell}"));
        assert!(told.contains("confhot") && told.ends_with("\n= 0") && !told.contains("\n! "), "{told}");
    }
    assert!(here.offline("completions tcsh").ends_with("= 2"));
    assert!(here.offline("man").contains(".TH confhot 1"));
    assert_eq!(here.offline("man --dir man/man1"), "= 0");
    assert!(here.dir.path().join("man/man1/confhot-get.1").exists());
    here.file("file", "");
    let told = here.offline("man --dir file");
    assert!(told.starts_with("! error: cannot write the manual into file\n") && told.ends_with("= 2"), "{told}");
}
