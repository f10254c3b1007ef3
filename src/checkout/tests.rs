use std::process::Command as Process;

use super::text::author;
use super::*;

/// A repository of its own, out of reach of this machine's configuration.
struct Repository(tempfile::TempDir);

impl Repository {
    fn new() -> Repository {
        Repository::with(&["init", "--quiet", "--initial-branch=main"])
    }

    fn with(init: &[&str]) -> Repository {
        let repository = Repository(tempfile::tempdir().unwrap());
        repository.git(init);
        repository.git(&["config", "user.name", "Ada Lovelace"]);
        repository.git(&["config", "user.email", "ada@example.org"]);
        repository
    }

    fn git(&self, arguments: &[&str]) -> String {
        git(self.0.path(), arguments)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    /// Writes and commits one file, and tells the commit's id.
    fn commit(&self, name: &str, text: &str) -> String {
        self.write(name, text);
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", name]);
        self.git(&["rev-parse", "HEAD"])
    }

    fn checkout(&self, dir: &str) -> Checkout {
        Checkout::discover(&self.path(dir)).unwrap()
    }
}

fn git(dir: &Path, arguments: &[&str]) -> String {
    let mut command = Process::new("git");
    command.arg("-C").arg(dir).args(arguments).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    for variable in REDIRECTS {
        command.env_remove(variable);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn a_file_as_committed_has_the_commit_and_an_edited_one_has_none() {
    let repository = Repository::new();
    repository.commit("configs/a.toml", "a = 1\n");
    repository.commit("a.toml", "a = 2\n");
    let commit = repository.commit("configs/billing/ünï code.toml", "b = 1\n");
    let checkout = repository.checkout("configs");
    assert_eq!(checkout.commit_of(Path::new("a.toml"), b"a = 1\n"), None, "nothing is known before the first refresh");

    checkout.refresh().await.unwrap();

    assert_eq!(checkout.commit_of(Path::new("a.toml"), b"a = 1\n"), Some(commit.clone()));
    assert_eq!(checkout.commit_of(Path::new("billing/ünï code.toml"), b"b = 1\n"), Some(commit.clone()));
    assert_eq!(checkout.commit_of(Path::new("a.toml"), b"a = 3\n"), None);
    assert_eq!(checkout.commit_of(Path::new("a.toml"), b"b = 1\n"), None, "another file's bytes");
    assert_eq!(checkout.commit_of(Path::new("new.toml"), b"a = 1\n"), None);
    assert_eq!(checkout.head_now(), Some(commit));
    assert_eq!(checkout.author().as_deref(), Some("Ada Lovelace <ada@example.org>"));
}

#[tokio::test]
async fn a_moved_head_tells_nothing_until_the_next_refresh() {
    let repository = Repository::new();
    repository.commit("a.toml", "a = 1\n");
    let checkout = repository.checkout(".");
    checkout.refresh().await.unwrap();

    let second = repository.commit("b.toml", "b = 1\n");

    assert!(!checkout.is_current());
    assert_eq!(checkout.commit_of(Path::new("a.toml"), b"a = 1\n"), None);
    checkout.refresh().await.unwrap();
    assert!(checkout.is_current());
    assert_eq!(checkout.commit_of(Path::new("a.toml"), b"a = 1\n"), Some(second));
}

#[tokio::test]
async fn packed_refs_and_a_detached_head_are_followed() {
    let repository = Repository::new();
    let first = repository.commit("a.toml", "a = 1\n");
    repository.git(&["branch", "not-main"]);
    let second = repository.commit("a.toml", "a = 2\n");
    repository.git(&["pack-refs", "--all", "--prune"]);
    assert!(!repository.path(".git/refs/heads/main").exists());
    let checkout = repository.checkout(".");

    assert_eq!(checkout.head_now(), Some(second.clone()));
    checkout.refresh().await.unwrap();
    assert_eq!(checkout.commit_of(Path::new("a.toml"), b"a = 2\n"), Some(second));

    repository.git(&["checkout", "--quiet", "--detach", "HEAD~1"]);
    assert_eq!(checkout.head_now(), Some(first.clone()));
    checkout.refresh().await.unwrap();
    assert_eq!(checkout.commit_of(Path::new("a.toml"), b"a = 1\n"), Some(first));
}

#[tokio::test]
async fn a_worktree_has_a_head_and_a_lock_of_its_own() {
    let repository = Repository::new();
    let first = repository.commit("configs/a.toml", "a = 1\n");
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    repository.git(&["worktree", "add", "--quiet", "-b", "other", tree.to_str().unwrap()]);
    repository.commit("configs/a.toml", "a = 2\n");
    let checkout = Checkout::discover(&tree.join("configs")).unwrap();

    checkout.refresh().await.unwrap();

    assert_eq!(checkout.head_now(), Some(first.clone()));
    assert_eq!(checkout.commit_of(Path::new("a.toml"), b"a = 1\n"), Some(first));
    let lock = fs::canonicalize(repository.0.path()).unwrap().join(".git/worktrees/tree/index.lock");
    assert_eq!(checkout.index_lock(), lock);
    repository.git(&["pack-refs", "--all", "--prune"]);
    assert!(checkout.is_current(), "refs are packed for all worktrees in one place");
}

#[tokio::test]
async fn a_repository_with_sha256_ids_works_alike() {
    let repository = Repository::with(&["init", "--quiet", "--object-format=sha256"]);
    let commit = repository.commit("a.toml", "a = 1\n");
    let checkout = repository.checkout(".");

    checkout.refresh().await.unwrap();

    assert_eq!(commit.len(), 64);
    assert_eq!(checkout.commit_of(Path::new("a.toml"), b"a = 1\n"), Some(commit));
}

#[tokio::test]
async fn a_repository_without_a_commit_tells_the_author() {
    let repository = Repository::new();
    let checkout = repository.checkout(".");

    checkout.refresh().await.unwrap();

    assert_eq!((checkout.head_now(), checkout.commit_of(Path::new("a.toml"), b"")), (None, None));
    assert!(checkout.author().is_some());
    repository.commit("a.toml", "");
    assert!(!checkout.is_current());
}

#[tokio::test]
async fn a_file_that_git_converts_has_no_commit() {
    let repository = Repository::new();
    repository.write(".gitattributes", "*.toml text eol=crlf\n");
    repository.commit("a.toml", "a = 1\r\n");
    let checkout = repository.checkout(".");

    checkout.refresh().await.unwrap();

    assert_eq!(checkout.commit_of(Path::new("a.toml"), b"a = 1\r\n"), None);
}

#[test]
fn a_directory_outside_of_any_checkout_has_none() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Checkout::discover(dir.path()).is_none());
    assert!(Checkout::discover(&dir.path().join("missing")).is_none());
    // Neither is a repository.
    fs::create_dir(dir.path().join(".git")).unwrap();
    assert!(Checkout::discover(dir.path()).is_none());
    fs::remove_dir(dir.path().join(".git")).unwrap();
    fs::write(dir.path().join(".git"), "gitdir: /nowhere\n").unwrap();
    assert!(Checkout::discover(dir.path()).is_none());
}

#[tokio::test]
async fn settling_waits_for_head_and_no_longer() {
    let repository = Repository::new();
    repository.commit("a.toml", "a = 1\n");
    let checkout = repository.checkout(".");
    checkout.refresh().await.unwrap();

    let started = Instant::now();
    checkout.settle(Duration::from_millis(50)).await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(50), "HEAD did not move");

    let deadline = Duration::from_secs(60);
    let started = Instant::now();
    let ((), (repository, commit)) = tokio::join!(async { checkout.settle(deadline).await.unwrap() }, async {
        let commit = || {
            let commit = repository.commit("a.toml", "a = 2\n");
            (repository, commit)
        };
        tokio::task::spawn_blocking(commit).await.unwrap()
    });
    assert!(started.elapsed() < deadline / 2);
    assert_eq!(checkout.commit_of(Path::new("a.toml"), b"a = 2\n"), Some(commit));
    drop(repository);
}

/// A program in the place of git. Written by another process: one that this process has open for writing cannot be run,
/// and a child which another test starts at this moment would have it open.
fn program(dir: &Path, script: &str) -> PathBuf {
    let path = dir.join("fake-git");
    let write = r#"printf '#!/bin/sh\n%s\n' "$2" > "$1" && chmod +x "$1""#;
    let status = Process::new("sh").args(["-c", write, "sh"]).arg(&path).arg(script).status().unwrap();
    assert!(status.success());
    path
}

#[tokio::test]
async fn a_missing_git_is_an_error_and_no_provenance() {
    let repository = Repository::new();
    repository.commit("a.toml", "a = 1\n");
    let checkout = repository.checkout(".").with_program(repository.path("no-such-git"));

    let error = checkout.refresh().await.unwrap_err();

    assert!(matches!(error, CheckoutError::Spawn { .. }), "{error:?}");
    assert_eq!((checkout.author(), checkout.commit_of(Path::new("a.toml"), b"a = 1\n")), (None, None));
    assert!(checkout.is_current(), "it is not asked again before HEAD moves");
}

#[tokio::test]
async fn a_refusal_keeps_its_reason() {
    let repository = Repository::new();
    let script = "echo \"fatal: detected dubious ownership in repository at '/srv'\" >&2; echo more >&2; exit 128";
    let checkout = repository.checkout(".").with_program(program(repository.0.path(), script));

    let error = checkout.refresh().await.unwrap_err();

    assert_eq!(error.to_string(), "git says: fatal: detected dubious ownership in repository at '/srv'");
    assert_eq!(checkout.author(), None);
}

#[tokio::test(start_paused = true)]
async fn a_git_that_hangs_is_given_up() {
    let repository = Repository::new();
    let checkout = repository.checkout(".").with_program(program(repository.0.path(), "exec sleep 600"));
    let started = Instant::now();

    let error = checkout.refresh().await.unwrap_err();

    assert!(matches!(error, CheckoutError::TimedOut), "{error:?}");
    assert_eq!(started.elapsed().as_secs(), DEADLINE.as_secs());
}

#[test]
fn git_is_not_sent_elsewhere_and_takes_no_locks() {
    let repository = Repository::new();
    let command = repository.checkout(".").command(&[]);

    let environment: Vec<_> = command.as_std().get_envs().collect();

    assert!(environment.contains(&("GIT_DIR".as_ref(), None)), "{environment:?}");
    assert!(environment.contains(&("GIT_OPTIONAL_LOCKS".as_ref(), Some("0".as_ref()))), "{environment:?}");
}

#[test]
fn an_author_is_one_line_of_what_is_set() {
    assert_eq!(author("user.name\nA\0user.email\na@b\0"), Some("A <a@b>".into()));
    assert_eq!(author("user.name\nA\0user.name\n B\nC \0"), Some("B C".into()));
    assert_eq!(author("user.email\na@b\0"), Some("a@b".into()));
    assert_eq!(author("user.name\n\0"), None);
    assert_eq!(author(""), None);
}
