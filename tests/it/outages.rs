//! `confhot loader` while things fail: a server that is away, crashes or forgets, a loader that is killed, files that cannot
//! be read, a kernel that tells nothing. What is published in the end is what the directory holds.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::Signal;

use crate::feed;
use crate::support::{CONFHOT, Cluster, DEADLINE, Daemon, Server, Stage, about, eventually, named};

#[test]
fn a_server_that_crashes_while_files_are_saved_ends_on_their_last_content() {
    let mut server = Server::start();
    let stage = Stage::at(&server.url());
    for key in ["a", "b", "c", "d"] {
        stage.save(&format!("{key}.toml"), "v = 0\n");
    }
    let mut loader = stage.loader(&[]);

    for round in 1..=3 {
        stage.place("a.toml", format!("v = {round}\n"));
        server.kill9();
        for n in 0..20 {
            for key in ["a", "b", "c", "d"] {
                stage.place(&format!("{key}.toml"), format!("v = {round}{n}\n"));
            }
        }
        loader.event("disconnected");
        stage.place("a.toml", format!("last = {round}\n"));
        stage.save("new.toml", format!("last = {round}\n"));
        server.restart();
        // Also what is saved in the moment of the return.
        stage.place("d.toml", format!("last = {round}\n"));
        loader.event("connected");
        for key in ["b", "c"] {
            stage.holds(key, &format!("v = {round}19\n"));
        }
        for key in ["a", "d", "new"] {
            stage.holds(key, &format!("last = {round}\n"));
        }
    }
    let events = loader.events();
    assert_eq!((named(events, "disconnected").len(), named(events, "connected").len()), (3, 4), "{events:#?}");
}

#[test]
fn what_changed_together_while_the_server_was_away_is_stored_as_one() {
    let mut server = Server::start();
    let stage = Stage::at(&server.url());
    stage.swap(1, &[("a.toml", "v = 1\n"), ("b.toml", "v = 1\n"), ("c.toml", "v = 1\n"), ("d.toml", "v = 1\n")]);
    let mut loader = stage.loader(&[]);
    let sets = |keys: &[&str]| keys.iter().map(|key| stage.history(key)[0]["set"].clone()).collect::<Vec<_>>();
    assert!(sets(&["a", "b", "c", "d"]).iter().all(serde_json::Value::is_null), "a first sync is no set");

    // Two changes, one file in both of them: `b` cannot be in two sets, so that all three files are in one.
    server.stop();
    loader.event("disconnected");
    stage.swap(2, &[("a.toml", "v = 2\n"), ("b.toml", "v = 2\n"), ("c.toml", "v = 1\n"), ("d.toml", "v = 1\n")]);
    std::thread::sleep(Duration::from_millis(500));
    stage.swap(3, &[("a.toml", "v = 2\n"), ("b.toml", "v = 3\n"), ("c.toml", "v = 3\n"), ("d.toml", "v = 1\n")]);
    std::thread::sleep(Duration::from_millis(500));
    // And one by itself.
    stage.swap(4, &[("a.toml", "v = 2\n"), ("b.toml", "v = 3\n"), ("c.toml", "v = 3\n"), ("d.toml", "v = 4\n")]);
    std::thread::sleep(Duration::from_millis(500));
    server.restart();
    loader.event("connected");
    for (key, text) in [("a", "v = 2\n"), ("b", "v = 3\n"), ("c", "v = 3\n"), ("d", "v = 4\n")] {
        stage.holds(key, text);
    }

    let told = sets(&["a", "b", "c", "d"]);
    assert_eq!(told[0]["members"], 3, "{told:?}");
    assert!(told[1] == told[0] && told[2] == told[0] && told[3].is_null(), "{told:?}");
    assert_eq!(stage.history("b").len(), 2);
}

#[test]
fn a_server_that_is_absent_at_the_start_is_said_once_and_waited_for() {
    let mut server = Server::start();
    let stage = Stage::at(&server.url());
    stage.save("a.toml", "v = 1\n");
    server.stop();
    let mut loader = Daemon::start(stage.args(&[]));
    loader.event("disconnected");
    // Longer than several attempts.
    std::thread::sleep(Duration::from_secs(1));
    stage.place("a.toml", "v = 2\n");

    server.restart();

    loader.event("ready");
    stage.holds("a", "v = 2\n");
    assert_eq!(named(loader.events(), "disconnected").len(), 1, "{:#?}", loader.events());
    // The first outage must not have used up the word for the next.
    server.kill9();
    loader.event("disconnected");
}

#[test]
fn a_loader_without_a_server_stops_when_it_is_told_to() {
    let mut server = Server::start();
    let stage = Stage::at(&server.url());
    for n in 0..8 {
        stage.save(&format!("k{n}.toml"), "n = 1\n");
    }
    let mut loader = stage.loader(&[]);
    // It takes the saves for publishable, and gets no answer.
    server.freeze();
    for n in 0..8 {
        stage.place(&format!("k{n}.toml"), "n = 2\n");
    }
    std::thread::sleep(Duration::from_millis(100));
    let asked = Instant::now();
    loader.sigterm();
    assert_eq!(loader.wait_exit(), 0);
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
    server.thaw();
}

#[test]
fn a_daemon_that_is_told_to_stop_in_its_first_moments_ends_in_good_order() {
    let closed = format!("nats://127.0.0.1:{}", confhot::server::free_port().unwrap());
    let stage = Stage::at(&closed);
    stage.save("a.toml", "v = 1\n");
    let serve: Vec<String> = ["serve", "--name", "a", "--server", &closed].map(str::to_owned).into();
    for args in [stage.args(&[]), serve] {
        let mut daemon = Daemon::start(args);
        // As soon as it is not simply killed by that.
        eventually("signals are caught", DEADLINE, || {
            let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).ok()?;
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:\t"))?;
            (u64::from_str_radix(caught, 16).ok()? >> (15 - 1) & 1 == 1).then_some(())
        });
        daemon.sigterm();
        assert_eq!(daemon.wait_exit(), 0, "{}", daemon.stderr());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_save_whose_acknowledgement_was_lost_is_not_put_back_over_a_rollback() {
    let mut server = Server::start();
    let stage = Stage::at(&server.url());
    stage.save("a.toml", "n = 1\n");
    let mut loader = stage.loader(&["--timeout", "300ms"]);
    let store = feed::connect(&server.url()).await.bucket(&stage.bucket).unwrap();
    let key = feed::key("a");
    let first = store.head(&key).await.unwrap().unwrap();

    server.freeze();
    stage.place("a.toml", "n = 2\n");
    eventually("it has given up on an answer", DEADLINE, || loader.stderr().contains("did not answer").then_some(()));
    // It is to wake up to a save that was stored, and rolled back, while it heard nothing.
    loader.signal(Signal::STOP);
    server.thaw();
    let stored = loop {
        match store.head(&key).await.unwrap() {
            Some(head) if head.revision > first.revision => break head,
            _ => tokio::time::sleep(Duration::from_millis(2)).await,
        }
    };
    let back = store.publish(&confhot::kv::Write::rollback(&stored, &first)).await.unwrap().revision;
    loader.signal(Signal::CONT);

    let drift = loader.event("drift");
    assert_eq!((drift["key"].as_str(), drift["revision"].as_u64()), (Some("a"), Some(back.0)));
    // It tries again what it takes for unfinished as soon as it is connected anew, and only then what is saved.
    server.kill9();
    server.restart();
    loader.event("connected");
    stage.place("b.toml", "n = 1\n");
    about(&mut loader, "published", "b");
    assert_eq!(store.head(&key).await.unwrap().unwrap().revision, back);
    stage.place("a.toml", "n = 3\n");
    about(&mut loader, "published", "a");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_deleted_under_the_loader_is_made_again_with_everything() {
    let stage = Stage::new();
    stage.save("a.toml", "v = 1\n");
    stage.save("b.toml", "v = 1\n");
    let mut loader = stage.loader(&[]);
    let client = async_nats::connect(&stage.url).await.unwrap();
    let jetstream = async_nats::jetstream::new(client);
    jetstream.delete_key_value(&stage.bucket).await.unwrap();

    about(&mut loader, "published", "a");
    about(&mut loader, "published", "b");
    stage.holds("a", "v = 1\n");
    stage.holds("b", "v = 1\n");
    stage.place("a.toml", "v = 2\n");
    stage.holds("a", "v = 2\n");

    // A client without headers: drift by nobody that is known.
    let store = jetstream.get_key_value(&stage.bucket).await.unwrap();
    store.put("a", "v = 7".into()).await.unwrap();
    let told = loader.event("drift");
    assert!(told["by"].is_null() && told["key"] == "a", "{told}");
}

#[test]
fn a_cluster_keeps_three_copies_where_that_is_asked_for() {
    let mut cluster = Cluster::three();
    let stage = Stage::at(&cluster.urls());
    stage.save("a.toml", "v = 1\n");

    let (code, events) = stage.once(&["--replicas", "3"]);

    assert_eq!((code, named(&events, "published").len()), (0, 1), "{events:#?}");
    let name = format!("KV_{}", stage.bucket);
    let leader = cluster.leader_of(&name);
    let page = cluster.server(leader).monitoring("jsz?accounts=true&streams=true&config=true").unwrap();
    let streams = page["account_details"][0]["stream_detail"].as_array().unwrap();
    let stream = streams.iter().find(|stream| stream["name"] == name.as_str()).unwrap();
    assert_eq!(stream["config"]["num_replicas"], 3);
    cluster.server(leader).kill9();
    stage.holds("a", "v = 1\n");
}

#[test]
fn what_changed_while_the_loader_was_dead_is_published_at_its_start() {
    let stage = Stage::new();
    stage.save("a.toml", "v = 1\n");
    let mut loader = stage.loader(&[]);
    loader.kill9();
    stage.save("a.toml", "v = 2\n");
    // As `cp -p` and `git checkout` do: newer content with an older time.
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    fs::File::options().write(true).open(stage.dir().join("a.toml")).unwrap().set_modified(old).unwrap();

    let mut loader = stage.loader(&[]);

    assert_eq!(stage.value("a").as_deref(), Some("v = 2\n"));
    loader.signal(Signal::INT);
    assert_eq!(loader.wait_exit(), 0);
}

#[test]
fn a_symlink_that_leads_to_itself_or_nowhere_is_refused_until_a_file_takes_its_place_and_hurts_nobody() {
    let stage = Stage::new();
    let dir = stage.dir();
    symlink("loop.toml", dir.join("loop.toml")).unwrap();
    symlink("/nowhere/at/all.toml", dir.join("gone.toml")).unwrap();
    symlink("..", dir.join("up")).unwrap();
    stage.save("a.toml", "v = 1\n");

    let mut loader = stage.loader(&[]);

    // One that leads nowhere might be half of a swap: it is refused some time later.
    eventually("both are refused", DEADLINE, || (named(loader.events(), "refused").len() >= 2).then_some(()));
    let refused: Vec<_> = named(loader.events(), "refused").iter().map(|event| event["path"].clone()).collect();
    assert_eq!(refused, ["loop.toml", "gone.toml"]);
    let (code, events) = stage.once(&[]);
    assert_eq!((code, named(&events, "refused").len()), (1, 2), "{events:#?}");
    stage.place("a.toml", "v = 2\n");
    about(&mut loader, "published", "a");
    assert_eq!(stage.confhot(&["keys"]).1.lines().filter(|line| line.contains("loop")).count(), 0);

    for key in ["loop", "gone"] {
        fs::remove_file(dir.join(format!("{key}.toml"))).unwrap();
    }
    stage.place("loop.toml", "v = 1\n");
    about(&mut loader, "published", "loop");
    stage.save("gone.toml", "v = 1\n");
    stage.holds("gone", "v = 1\n");
}

#[test]
fn what_is_below_a_symlink_that_leads_nowhere_is_out_of_sight_and_not_gone() {
    let stage = Stage::new();
    stage.save(".data/x.toml", "v = 1\n");
    symlink(".data", stage.dir().join("sub")).unwrap();
    (0..6).for_each(|n| stage.save(&format!("k{n}.toml"), "v = 1\n"));
    let mut loader = stage.loader(&["--prune"]);

    fs::rename(stage.dir().join(".data"), stage.dir().join(".away")).unwrap();
    eventually("a word about it", DEADLINE, || loader.stderr().contains("a symlink that leads nowhere").then_some(()));
    // Longer than it takes to be sure that a file is gone.
    std::thread::sleep(Duration::from_secs(4));
    let (code, events) = stage.once(&["--prune"]);
    assert_eq!((code, named(&events, "deleted").len()), (1, 0), "{events:#?}");
    assert!(named(loader.events(), "deleted").is_empty() && named(loader.events(), "removed").is_empty());
    assert!(stage.value("sub.x").is_some());

    stage.save(".away/x.toml", "v = 2\n");
    fs::rename(stage.dir().join(".away"), stage.dir().join(".data")).unwrap();
    stage.holds("sub.x", "v = 2\n");
    fs::remove_file(stage.dir().join("sub")).unwrap();
    assert_eq!(loader.event("deleted")["key"], "sub.x");
}

#[test]
fn what_is_no_regular_file_is_refused_until_it_is_one() {
    let stage = Stage::new();
    let dir = stage.dir();
    stage.save("a.toml", "v = 1\n");
    let mut loader = stage.loader(&[]);

    // A symlink that leads to another kind of thing: a character device.
    fs::rename(dir.join("a.toml"), dir.join("a.keep")).unwrap();
    symlink("/dev/null", dir.join("a.toml")).unwrap();
    about(&mut loader, "refused", "a.toml");
    fs::rename(dir.join("a.keep"), dir.join("a.toml")).unwrap();
    about(&mut loader, "unchanged", "a");

    symlink("/dev/null", dir.join("new.toml")).unwrap();
    about(&mut loader, "refused", "new.toml");
    stage.place("new.toml", "v = 1\n");
    about(&mut loader, "published", "new");
}

/// The loader as somebody who may not read everything: root may, so it becomes `nobody`.
fn as_nobody(command: &mut Command) {
    use std::os::unix::process::CommandExt as _;
    if rustix::process::geteuid().is_root() {
        command.uid(65534).gid(65534);
    }
}

#[test]
fn what_may_not_be_read_keeps_its_value_and_nothing_is_pruned_meanwhile() {
    let chmod = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let stage = Stage::new();
    let dir = stage.dir();
    stage.save("sub/a.toml", "n = 1\n");
    stage.save("b.toml", "n = 1\n");
    stage.save("c.toml", "n = 1\n");
    chmod(stage.root.path(), 0o755);
    chmod(&dir.join("c.toml"), 0o000);
    if fs::File::open(dir.join("c.toml")).is_ok() && !can_become_nobody(&dir) {
        panic!("neither is this user refused anything, nor can the binary be run by another one");
    }
    let mut loader = Daemon::with(stage.args(&["--prune", "--poll", "500ms"]), as_nobody);
    assert_eq!(loader.event("refused")["path"], "c.toml");
    loader.event("ready");
    assert_eq!(Daemon::with(stage.args(&["--once"]), as_nobody).wait_exit(), 1);

    // Not a change of content: published because it never was.
    chmod(&dir.join("c.toml"), 0o644);
    about(&mut loader, "published", "c");
    // What is readable again as it was did not change, so it is not put over what another one wrote meanwhile.
    chmod(&dir.join("b.toml"), 0o000);
    about(&mut loader, "refused", "b.toml");
    stage.put("b", "n = 9\n");
    chmod(&dir.join("b.toml"), 0o644);
    about(&mut loader, "drift", "b");

    chmod(&dir.join("sub"), 0o000);
    eventually("the directory cannot be listed", DEADLINE, || {
        loader.stderr().contains("cannot be listed").then_some(())
    });
    fs::remove_file(dir.join("c.toml")).unwrap();
    loader.wait_event(DEADLINE, |event| {
        event["event"] == "refused" && event["reason"].as_str().unwrap().contains("nothing is deleted")
    });
    assert!(stage.value("c").is_some() && stage.value("sub.a").is_some());
    chmod(&dir.join("sub"), 0o755);
    assert_eq!(stage.value("b").as_deref(), Some("n = 9\n"), "what did not change went over drift");
    assert!(named(loader.events(), "deleted").is_empty(), "{:#?}", loader.events());
}

fn can_become_nobody(dir: &Path) -> bool {
    let mut command = Command::new("ls");
    as_nobody(&mut command);
    command.arg(dir).output().is_ok_and(|output| output.status.success())
}

#[test]
fn a_mount_that_tells_nothing_is_found_by_the_sweep() {
    let stage = Stage::new();
    stage.save("a.toml", "v = 1\n");
    let _loader = stage.loader(&["--poll", "200ms"]);
    // A write through a hard link outside of the directory: the kernel tells it of the other name.
    let outside = stage.root.path().join("outside.toml");
    fs::hard_link(stage.dir().join("a.toml"), &outside).unwrap();
    let before = Instant::now();

    fs::write(&outside, "v = 2\n").unwrap();

    stage.holds("a", "v = 2\n");
    assert!(before.elapsed() < DEADLINE);
}

/// A loader where the kernel allows only so much of inotify: the limits of a user namespace of its own. None where this
/// machine lets nobody make one (user_namespaces(7)).
fn limited(stage: &Stage, limit: &str, most: u32) -> Option<Daemon> {
    let mut probe = Command::new("unshare");
    if !probe.args(["--user", "--map-root-user", "true"]).status().is_ok_and(|status| status.success()) {
        eprintln!("NOT tested: there are no user namespaces here");
        return None;
    }
    let lower = format!("echo {most} > /proc/sys/user/{limit} && exec \"$@\"");
    let wrap = ["--user", "--map-root-user", "sh", "-c", &lower, "sh", CONFHOT].map(str::to_owned);
    let mut loader = Daemon::program("unshare", wrap.into_iter().chain(stage.args(&["--poll", "300ms"])), |_| {});
    loader.event("ready");
    Some(loader)
}

#[test]
fn without_inotify_watches_one_line_names_the_remedy_and_the_sweep_finds_what_changes() {
    let stage = Stage::new();
    for n in 0..10 {
        stage.save(&format!("d{n}/a.toml"), "x = 1");
    }
    let Some(loader) = limited(&stage, "max_inotify_watches", 5) else { return };

    for n in 0..10 {
        stage.place(&format!("d{n}/a.toml"), "x = 2");
        stage.place(&format!("d{n}/b.toml"), "x = 3");
    }
    for n in 0..10 {
        stage.holds(&format!("d{n}.a"), "x = 2");
        stage.holds(&format!("d{n}.b"), "x = 3");
    }

    let stderr = loader.stderr();
    assert_eq!(stderr.lines().filter(|line| line.contains("inotify")).count(), 1, "{stderr}");
    assert!(stderr.contains("`sysctl fs.inotify.max_user_watches="), "{stderr}");
}

#[test]
fn without_an_inotify_instance_one_line_names_the_remedy_and_the_sweep_finds_what_changes() {
    let stage = Stage::new();
    stage.save("a.toml", "x = 1");
    let Some(loader) = limited(&stage, "max_inotify_instances", 0) else { return };

    stage.place("a.toml", "x = 2");
    stage.holds("a", "x = 2");

    let stderr = loader.stderr();
    assert_eq!(stderr.lines().filter(|line| line.contains("inotify")).count(), 1, "{stderr}");
    assert!(stderr.contains("`sysctl fs.inotify.max_user_instances="), "{stderr}");
}
