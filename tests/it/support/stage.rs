//! A directory of documents and its bucket, for the tests of the verbs that work on them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use serde_json::Value;
use tempfile::TempDir;

use super::{DEADLINE, Daemon, VERSIONS, bucket, confhot, eventually, shared};

/// A directory, a bucket of its own, and a server.
pub(crate) struct Stage {
    pub(crate) root: TempDir,
    pub(crate) bucket: String,
    pub(crate) url: String,
}

impl Stage {
    pub(crate) fn new() -> Stage {
        Stage::at(&shared(VERSIONS[2]).url())
    }

    pub(crate) fn at(url: &str) -> Stage {
        let root = TempDir::new().unwrap();
        fs::create_dir(root.path().join("configs")).unwrap();
        Stage { root, bucket: bucket(), url: url.to_owned() }
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.root.path().join("configs")
    }

    pub(crate) fn save(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.dir().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// As most editors save: a new file renamed over the old one.
    pub(crate) fn place(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.dir().join(path);
        let temporary = path.with_file_name(".saving");
        fs::write(&temporary, content).unwrap();
        fs::rename(temporary, path).unwrap();
    }

    /// Swaps all files for others at once, as a Kubernetes volume does; `n` is a new number.
    pub(crate) fn swap(&self, n: u32, files: &[(&str, &str)]) {
        let dir = self.dir().join(format!("..{n}"));
        fs::create_dir(&dir).unwrap();
        for (name, text) in files {
            fs::write(dir.join(name), text).unwrap();
            let link = self.dir().join(name);
            if !link.is_symlink() {
                symlink(format!("..data/{name}"), link).unwrap();
            }
        }
        symlink(format!("..{n}"), self.dir().join("..data_tmp")).unwrap();
        fs::rename(self.dir().join("..data_tmp"), self.dir().join("..data")).unwrap();
    }

    pub(crate) fn args(&self, more: &[&str]) -> Vec<String> {
        let dir = self.dir().display().to_string();
        let all = ["loader", "--dir", &dir, "--server", &self.url, "--bucket", &self.bucket, "--format", "json"];
        all.iter().chain(more).map(ToString::to_string).collect()
    }

    /// A loader that is ready.
    pub(crate) fn loader(&self, more: &[&str]) -> Daemon {
        let mut loader = Daemon::start(self.args(more));
        loader.event("ready");
        loader
    }

    /// Exit code and events of a loader that runs once.
    pub(crate) fn once(&self, more: &[&str]) -> (i32, Vec<Value>) {
        let output = confhot().args(self.args(&[&["--once"], more].concat())).timeout(DEADLINE).output().unwrap();
        let events = String::from_utf8(output.stdout).unwrap();
        (output.status.code().unwrap(), events.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    pub(crate) fn confhot(&self, args: &[&str]) -> (i32, String) {
        let output =
            confhot().args(["--server", &self.url, "--bucket", &self.bucket]).args(args).timeout(DEADLINE).output();
        let output = output.unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stdout).into_owned())
    }

    pub(crate) fn put(&self, key: &str, text: &str) {
        let put =
            confhot().args(["--server", &self.url, "--bucket", &self.bucket, "put", key]).write_stdin(text).output();
        assert!(put.unwrap().status.success());
    }

    pub(crate) fn value(&self, key: &str) -> Option<String> {
        let (code, text) = self.confhot(&["get", key]);
        (code == 0).then_some(text)
    }

    pub(crate) fn history(&self, key: &str) -> Vec<Value> {
        let (_, lines) = self.confhot(&["history", key, "--format", "json"]);
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[track_caller]
    pub(crate) fn holds(&self, key: &str, text: &str) {
        eventually(&format!("{key} holds {text:?}"), DEADLINE, || (self.value(key)? == text).then_some(()));
    }
}

pub(crate) fn named<'a>(events: &'a [Value], name: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["event"] == name).collect()
}

/// The next event of that name about that key or file.
#[track_caller]
pub(crate) fn about(daemon: &mut Daemon, name: &str, subject: &str) -> Value {
    daemon.wait_event(DEADLINE, |told| told["event"] == name && (told["key"] == subject || told["path"] == subject))
}
