//! How real tools save, and what a source tells of it.

use std::{
    collections::HashMap,
    fs,
    io::Write as _,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use proptest::prelude::*;
use tempfile::TempDir;
use tokio::time::timeout;

use super::{Batch, Content, Options, Source, Trouble, pause};

fn wanted(name: &str) -> bool {
    name.ends_with(".toml")
}

/// A source and what it has told last of each path.
struct Watched {
    dir: TempDir,
    source: Source,
    told: HashMap<PathBuf, Result<String, &'static str>>,
    /// Every content that was told.
    all: Vec<(PathBuf, String)>,
    troubles: Vec<Trouble>,
}

impl Watched {
    fn new(prepare: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path());
        // No sweep comes to help.
        let options = Options { poll: Duration::from_secs(3600), ..Options::new(wanted) };
        let mut source = Source::open(dir.path(), options).unwrap();
        let mut told = HashMap::new();
        for path in source.paths() {
            if let Some(content) = source.read(&path) {
                told.insert(path.to_path_buf(), plain(content));
            }
        }
        Watched { dir, source, told, all: Vec::new(), troubles: Vec::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn note(&mut self, batch: Batch) {
        self.troubles.extend(batch.troubles);
        for change in batch.changes {
            let content = plain(change.content);
            if let Ok(text) = &content {
                self.all.push((change.path.clone(), text.clone()));
            }
            self.told.insert(change.path, content);
        }
    }

    /// Takes what is told until `done`.
    async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let work = async {
            while !done(self) {
                let batch = self.source.next().await;
                self.note(batch);
            }
        };
        let ended = timeout(Duration::from_secs(15), work).await;
        assert!(ended.is_ok(), "not told: {what}; told: {:?} {:?}", self.told, self.troubles);
    }

    async fn holds(&mut self, name: &str, text: &str) {
        self.until(&format!("{name} holds {text:?}"), |it| it.told.get(Path::new(name)) == Some(&Ok(text.into())))
            .await;
    }

    async fn is(&mut self, name: &str, state: &'static str) {
        self.until(&format!("{name} is {state}"), |it| it.told.get(Path::new(name)) == Some(&Err(state))).await;
    }
}

fn plain(content: Content) -> Result<String, &'static str> {
    match content {
        Content::Bytes(bytes) => Ok(String::from_utf8(bytes.to_vec()).unwrap()),
        Content::Gone => Err("gone"),
        Content::Unreadable(_) => Err("unreadable"),
    }
}

fn run(program: &str, args: &[&str], dir: &Path) {
    let status = Command::new(program).args(args).current_dir(dir).status().unwrap();
    assert!(status.success(), "{program} {args:?}: {status}");
}

#[tokio::test]
async fn sed_in_place_is_told_the_second_time_too() {
    let mut it = Watched::new(|dir| fs::write(dir.join("a.toml"), "n = 1\n").unwrap());
    for n in 1..4 {
        let edit = format!("s/{n}/{}/", n + 1);
        run("sed", &["-i", &edit, "a.toml"], it.dir.path());
        it.holds("a.toml", &format!("n = {}\n", n + 1)).await;
    }
}

#[tokio::test]
async fn vim_is_told_as_one_save_and_leaves_nothing_else() {
    let mut it = Watched::new(|dir| fs::write(dir.join("a.toml"), "n = 1\n").unwrap());
    for n in 2..4 {
        let text = format!("n = {n}\n");
        // Its system calls, with `backupcopy=no`: a probe, the backup by rename, a new file, and the backup goes.
        it.write("4913", "");
        fs::remove_file(it.path("4913")).unwrap();
        fs::rename(it.path("a.toml"), it.path("a.toml~")).unwrap();
        let mut file = fs::File::create_new(it.path("a.toml")).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.sync_all().unwrap();
        drop(file);
        fs::remove_file(it.path("a.toml~")).unwrap();
        it.holds("a.toml", &text).await;
    }
    assert_eq!(it.told.len(), 1, "{:?}", it.told);
    assert!(it.all.iter().all(|(_, text)| !text.is_empty()), "{:?}", it.all);
}

#[tokio::test]
async fn emacs_and_rsync_and_a_copy_with_an_older_time_are_told() {
    let mut it = Watched::new(|dir| fs::write(dir.join("a.toml"), "n = 1\n").unwrap());
    // emacs: a lock that is a symlink to nowhere, the backup by rename, a new file.
    symlink("me@host.1", it.path(".#a.toml")).unwrap();
    fs::rename(it.path("a.toml"), it.path("a.toml~")).unwrap();
    it.write("a.toml", "n = 2\n");
    fs::remove_file(it.path(".#a.toml")).unwrap();
    it.holds("a.toml", "n = 2\n").await;
    // rsync: a hidden file beside it, its times set, renamed.
    it.write(".a.toml.X1", "n = 3\n");
    fs::File::open(it.path(".a.toml.X1")).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    fs::rename(it.path(".a.toml.X1"), it.path("a.toml")).unwrap();
    it.holds("a.toml", "n = 3\n").await;

    let old = tempfile::tempdir().unwrap();
    fs::write(old.path().join("o"), "n = 4\n").unwrap();
    fs::File::open(old.path().join("o")).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    let (from, to) = (old.path().join("o"), it.path("a.toml"));
    run("cp", &["-p", from.to_str().unwrap(), to.to_str().unwrap()], it.dir.path());
    it.holds("a.toml", "n = 4\n").await;
}

#[tokio::test]
async fn a_symlink_that_is_replaced_is_told_each_time() {
    let mut it = Watched::new(|dir| {
        fs::write(dir.join("one"), "n = 0\n").unwrap();
        symlink("one", dir.join("a.toml")).unwrap();
    });
    for n in 1..4 {
        it.write(&format!("v{n}"), &format!("n = {n}\n"));
        run("ln", &["-sfn", &format!("v{n}"), "a.toml"], it.dir.path());
        it.holds("a.toml", &format!("n = {n}\n")).await;
    }
}

#[tokio::test]
async fn a_kubernetes_swap_is_one_batch_three_times() {
    let names: Vec<String> = (0..5).map(|n| format!("k{n}.toml")).collect();
    let fill = |dir: &Path, n: usize| {
        fs::create_dir(dir).unwrap();
        names.iter().for_each(|name| fs::write(dir.join(name), format!("n = {n}\n")).unwrap());
    };
    let mut it = Watched::new(|dir| {
        fill(&dir.join("..0"), 0);
        symlink("..0", dir.join("..data")).unwrap();
        names.iter().for_each(|name| symlink(format!("..data/{name}"), dir.join(name)).unwrap());
    });
    assert_eq!(it.told.len(), 5);
    for n in 1..4 {
        fill(&it.path(&format!("..{n}")), n);
        symlink(format!("..{n}"), it.path("..data_tmp")).unwrap();
        fs::rename(it.path("..data_tmp"), it.path("..data")).unwrap();
        fs::remove_dir_all(it.path(&format!("..{}", n - 1))).unwrap();
        let batch = timeout(Duration::from_secs(10), it.source.next()).await.unwrap();
        assert_eq!(batch.changes.len(), 5, "{batch:?}");
        it.note(batch);
        assert!(it.told.values().all(|told| *told == Ok(format!("n = {n}\n"))), "{:?}", it.told);
    }
}

#[tokio::test]
async fn a_burst_of_saves_in_place_is_never_told_torn() {
    let mut it = Watched::new(|dir| fs::write(dir.join("a.toml"), "0 0").unwrap());
    // In a process of its own: a child that another test starts here would keep the file open beyond its close, and the
    // kernel would tell of that when the next save has begun.
    let script = "n=0; while [ $n -lt 200 ]; do n=$((n + 1)); { printf %s $n; printf ' %s' $n; } >a.toml; done";
    let mut writer = Command::new("sh").args(["-c", script]).current_dir(it.dir.path()).spawn().unwrap();
    it.holds("a.toml", "200 200").await;
    assert!(writer.wait().unwrap().success());
    for (_, text) in &it.all {
        let halves = text.split_once(' ');
        assert!(halves.is_some_and(|(a, b)| a == b), "torn: {text:?}");
    }
}

#[tokio::test]
async fn what_an_overflow_lost_is_found_at_once() {
    let mut it = Watched::new(|dir| fs::write(dir.join("a.toml"), "n = 1\n").unwrap());
    // The kernel's word for a queue that ran over, with the real event withheld.
    let dir = it.dir.path().to_owned();
    it.source.tree.events.unwatch(&dir.canonicalize().unwrap());
    it.write("a.toml", "n = 2\n");
    it.write("b.toml", "n = 1\n");
    let lost = notify::Event::new(notify::EventKind::Other).set_flag(notify::event::Flag::Rescan);
    it.source.tree.events.tell(Ok(lost));
    it.holds("a.toml", "n = 2\n").await;
    it.holds("b.toml", "n = 1\n").await;
    // And the watches work again.
    it.write("a.toml", "n = 3\n");
    it.holds("a.toml", "n = 3\n").await;
}

#[tokio::test]
async fn a_stalled_reader_of_the_queue_misses_nothing() {
    let mut it = Watched::new(|dir| fs::write(dir.join("a.toml"), "0").unwrap());
    let path = it.path("a.toml");
    it.source.tree.events.stalled(|| (1..20_000).for_each(|n| fs::write(&path, n.to_string()).unwrap()));
    it.holds("a.toml", "19999").await;
}

#[test]
fn where_the_kernel_tells_of_everything_a_sweep_rests_for_six_hundred_times_its_length() {
    let [poll, second] = [30, 1].map(Duration::from_secs);

    assert_eq!(pause(poll, second / 100, true), poll);
    assert_eq!(pause(poll, second / 2, true), second * 300);
    assert_eq!(pause(poll, second, false), poll);
    assert_eq!(pause(poll, second * 3600, true), second * 600);
    assert_eq!(pause(second * 3600, second, true), second * 3600);
}

#[tokio::test]
async fn the_kernel_is_relied_on_until_a_sweep_finds_what_it_did_not_tell() {
    let mut watched = Watched::new(|dir| fs::write(dir.join("a.toml"), "1").unwrap());
    watched.source.poll = Duration::from_millis(50);
    watched.write("a.toml", "2");
    watched.holds("a.toml", "2").await;
    assert!(watched.source.tree.is_told_of());

    let real = watched.dir.path().canonicalize().unwrap();
    watched.source.tree.events.unwatch(&real);
    watched.source.start_sweep(tokio::time::Instant::now());
    watched.write("a.toml", "3");
    watched.holds("a.toml", "3").await;

    assert!(!watched.source.tree.is_told_of());
}

#[tokio::test]
async fn new_directories_are_followed_and_a_removed_one_is_told_gone() {
    let mut it = Watched::new(|_| {});
    fs::create_dir_all(it.path("x/y/z")).unwrap();
    it.write("x/y/z/a.toml", "n = 1\n");
    it.holds("x/y/z/a.toml", "n = 1\n").await;
    it.write("x/y/z/a.toml", "n = 2\n");
    it.holds("x/y/z/a.toml", "n = 2\n").await;
    fs::rename(it.path("x"), it.path("w")).unwrap();
    it.holds("w/y/z/a.toml", "n = 2\n").await;
    it.is("x/y/z/a.toml", "gone").await;
    it.write("w/y/z/a.toml", "n = 3\n");
    it.holds("w/y/z/a.toml", "n = 3\n").await;
}

#[tokio::test]
async fn what_cannot_be_read_is_told_and_so_is_its_end() {
    let mut it = Watched::new(|dir| fs::write(dir.join("a.toml"), "n = 1\n").unwrap());
    fs::remove_file(it.path("a.toml")).unwrap();
    symlink("a.toml", it.path("a.toml")).unwrap();
    it.is("a.toml", "unreadable").await;
    fs::remove_file(it.path("a.toml")).unwrap();
    it.write("a.toml", "n = 1\n");
    it.holds("a.toml", "n = 1\n").await;

    fs::create_dir(it.path("sub")).unwrap();
    symlink("..", it.path("sub/up")).unwrap();
    it.until("a cycle", |it| it.troubles.iter().any(|trouble| matches!(trouble, Trouble::Cycle { .. }))).await;
    assert!(it.source.complete());
}

#[tokio::test]
async fn a_missing_directory_removes_nothing_and_comes_back() {
    let outer = tempfile::tempdir().unwrap();
    let dir = outer.path().join("dir");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("a.toml"), "n = 1\n").unwrap();
    let mut source = Source::open(&dir, Options::new(wanted)).unwrap();
    source.read(Path::new("a.toml")).unwrap();
    fs::remove_dir_all(&dir).unwrap();
    let deadline = Duration::from_secs(10);
    let batch = timeout(deadline, source.next()).await.unwrap();
    assert!(batch.changes.is_empty() && matches!(batch.troubles[..], [Trouble::Missing { .. }]), "{batch:?}");
    assert!(!source.complete());
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("a.toml"), "n = 2\n").unwrap();
    let work = async {
        loop {
            let batch = source.next().await;
            let content = batch.changes.into_iter().next().map(|change| plain(change.content));
            if let Some(content) = content {
                return content;
            }
        }
    };
    assert_eq!(timeout(deadline, work).await.unwrap(), Ok("n = 2\n".into()));
    assert!(source.complete());
}

/// What may happen to a directory; the names are few, so that they meet.
#[derive(Debug, Clone)]
enum Act {
    Write(usize, u16),
    Replace(usize, u16),
    Remove(usize),
    Move(usize, usize),
    Link(usize, usize),
    RemoveDir,
}

const NAMES: [&str; 4] = ["a.toml", "b.toml", "d/a.toml", "d/e/b.toml"];

fn act() -> impl Strategy<Value = Act> {
    let name = 0..NAMES.len();
    prop_oneof![
        4 => (name.clone(), any::<u16>()).prop_map(|(at, n)| Act::Write(at, n)),
        4 => (name.clone(), any::<u16>()).prop_map(|(at, n)| Act::Replace(at, n)),
        2 => name.clone().prop_map(Act::Remove),
        2 => (name.clone(), name.clone()).prop_map(|(a, b)| Act::Move(a, b)),
        1 => (name.clone(), name).prop_map(|(a, b)| Act::Link(a, b)),
        1 => Just(Act::RemoveDir),
    ]
}

/// Carries one out; what is not possible just now does not happen.
fn carry_out(root: &Path, act: &Act) {
    let path = |at: usize| {
        let path = root.join(NAMES[at]);
        let _ = fs::create_dir_all(path.parent().unwrap());
        path
    };
    let _ = match *act {
        Act::Write(at, n) => fs::write(path(at), n.to_string()),
        Act::Replace(at, n) => {
            fs::write(root.join(".t"), n.to_string()).unwrap();
            fs::rename(root.join(".t"), path(at))
        }
        Act::Remove(at) => fs::remove_file(path(at)),
        Act::Move(a, b) => fs::rename(path(a), path(b)),
        Act::Link(a, b) => {
            let _ = fs::remove_file(root.join(".l"));
            symlink(path(a), root.join(".l")).unwrap();
            fs::rename(root.join(".l"), path(b))
        }
        Act::RemoveDir => fs::remove_dir_all(root.join("d")),
    };
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if std::env::var_os("CONFHOT_SOAK").is_some() { 500 } else { 6 },
        max_shrink_iters: 20,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn after_any_sequence_the_last_content_told_is_what_is_on_disk(
        acts in prop::collection::vec((act(), any::<bool>()), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut it = Watched::new(|dir| fs::write(dir.join("a.toml"), "start").unwrap());
            for (act, listen) in &acts {
                carry_out(it.dir.path(), act);
                if *listen && let Ok(batch) = timeout(Duration::from_millis(3), it.source.next()).await {
                    it.note(batch);
                }
            }
            it.until("what is on disk", |it| NAMES.iter().all(|name| {
                let told = it.told.get(Path::new(name));
                match fs::read_to_string(it.path(name)) {
                    Ok(text) => told == Some(&Ok(text)),
                    Err(_) => !matches!(told, Some(Ok(_))),
                }
            })).await;
        });
    }
}

/// A source on one document that is read ahead, and what it was read ahead with.
fn read_ahead(dir: &Path) -> (Source, std::sync::mpsc::Receiver<(PathBuf, String)>) {
    fs::write(dir.join("a.toml"), "n = 0\n").unwrap();
    let (told, ahead) = std::sync::mpsc::channel();
    let work = super::Ahead::new(move |path, bytes| {
        told.send((path.to_owned(), String::from_utf8(bytes.to_vec()).unwrap())).unwrap();
    });
    let options = Options { poll: Duration::from_secs(3600), ahead: Some(work), ..Options::new(wanted) };
    let mut source = Source::open(dir, options).unwrap();
    source.read(Path::new("a.toml")).unwrap();
    (source, ahead)
}

/// Saves by a rename.
fn place(dir: &Path, text: &str) {
    fs::write(dir.join(".saving"), text).unwrap();
    fs::rename(dir.join(".saving"), dir.join("a.toml")).unwrap();
}

async fn next(source: &mut Source) -> String {
    let batch = timeout(Duration::from_secs(15), source.next()).await.expect("nothing was told");
    plain(batch.changes.into_iter().next().unwrap().content).unwrap()
}

#[tokio::test]
async fn a_save_that_comes_alone_is_read_before_anybody_asks_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let real = dir.path().canonicalize().unwrap();
    let (mut source, ahead) = read_ahead(dir.path());

    place(dir.path(), "n = 1\n");
    let read = ahead.recv_timeout(Duration::from_secs(15)).unwrap();
    assert_eq!(read, (real.join("a.toml"), "n = 1\n".to_owned()));
    assert_eq!(next(&mut source).await, "n = 1\n");

    fs::write(dir.path().join("a.toml"), "n = 2\n").unwrap();
    assert_eq!(ahead.recv_timeout(Duration::from_secs(15)).unwrap().1, "n = 2\n");
    assert_eq!(next(&mut source).await, "n = 2\n");
}

#[tokio::test]
async fn what_was_read_ahead_is_not_told_when_it_is_not_there_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir_in(dir.path().parent().unwrap()).unwrap();
    let (mut source, ahead) = read_ahead(dir.path());

    // Of what is written by another name nothing is told.
    place(dir.path(), "n = 1\n");
    ahead.recv_timeout(Duration::from_secs(15)).unwrap();
    fs::hard_link(dir.path().join("a.toml"), other.path().join("link")).unwrap();
    fs::write(other.path().join("link"), "n = 2, but longer\n").unwrap();
    assert_eq!(next(&mut source).await, "n = 2, but longer\n");

    // Nor is what a later save has replaced.
    place(dir.path(), "n = 3\n");
    ahead.recv_timeout(Duration::from_secs(15)).unwrap();
    place(dir.path(), "n = 4\n");
    source.tree.events.barrier();
    assert_eq!(next(&mut source).await, "n = 4\n");
}

#[tokio::test]
async fn what_is_large_or_comes_with_others_is_not_read_ahead() {
    let dir = tempfile::tempdir().unwrap();
    let (mut source, ahead) = read_ahead(dir.path());

    let large = format!("n = \"{}\"\n", "x".repeat(64 << 10));
    place(dir.path(), &large);
    assert_eq!(next(&mut source).await, large);
    fs::write(dir.path().join("b.toml"), "").unwrap();
    source.tree.events.barrier();
    place(dir.path(), "n = 1\n");
    source.tree.events.barrier();
    let read: Vec<_> = ahead.try_iter().map(|(_, text)| text).collect();
    assert_eq!(read, [""], "b.toml came alone, and a.toml after it");
}

#[tokio::test]
async fn a_barrier_holds_after_its_directory_was_cleaned_up() {
    let it = Watched::new(|_| {});
    let mut events = it.source.tree.events;
    for n in 0..100 {
        if n % 10 == 0 {
            fs::remove_dir_all(events.cookies()).unwrap();
        }
        fs::write(it.dir.path().join("a.toml"), n.to_string()).unwrap();
        events.barrier();
        let seen = events.take().seen;
        assert!(seen.iter().any(|(path, _)| path.ends_with("a.toml")), "{n}: {seen:?}");
    }
}
