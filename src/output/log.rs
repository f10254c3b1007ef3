//! The log on stderr: how much of it, and how it is written, both of which a running process may change.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing_subscriber::filter::{LevelFilter, Targets, dynamic_filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, Registry, reload};

use super::{coloured, line_without_passwords};
use crate::cli::{Global, OutputFormat};

/// The running log.
#[derive(Debug)]
pub(crate) struct Log {
    levels: reload::Handle<Targets, Registry>,
    json: Arc<AtomicBool>,
    /// What the flags say.
    start: (LevelFilter, OutputFormat),
}

impl Log {
    /// Sends the log to stderr, as the flags say.
    pub(crate) fn to_stderr(global: &Global) -> Log {
        let level = match (global.quiet, global.verbose) {
            (true, _) => LevelFilter::ERROR,
            (false, 0) => LevelFilter::INFO,
            (false, 1) => LevelFilter::DEBUG,
            (false, _) => LevelFilter::TRACE,
        };
        let (levels, handle) = reload::Layer::new(targets(level));
        let json = Arc::new(AtomicBool::new(global.log_format == OutputFormat::Json));
        // Both are there from the start, and one of them is asked: a layer that takes another's place finds spans that
        // it has not seen begin, and the JSON one panics at them.
        let (in_text, in_json) = (json.clone(), json.clone());
        let text = tracing_subscriber::fmt::layer()
            .with_writer(|| Shown)
            .with_target(false)
            .with_ansi(coloured(global.color, &io::stderr()))
            .with_filter(dynamic_filter_fn(move |_, _| !in_text.load(Ordering::Relaxed)));
        let objects = tracing_subscriber::fmt::layer()
            .with_writer(|| Shown)
            .with_target(false)
            .json()
            .flatten_event(true)
            .with_filter(dynamic_filter_fn(move |_, _| in_json.load(Ordering::Relaxed)));
        // A second logger in one process is a mistake of ours, and no reason to stop.
        let _ = tracing_subscriber::registry().with(levels).with(text).with(objects).try_init();
        Log { levels: handle, json, start: (level, global.log_format) }
    }

    /// Whether it is written as objects, one a line; changes with it.
    pub(super) fn json(&self) -> Arc<AtomicBool> {
        self.json.clone()
    }

    /// Changes level and form from now on; what is `None` is as the flags say.
    pub(crate) fn change(&self, level: Option<LevelFilter>, format: Option<OutputFormat>) {
        let (first_level, first_format) = self.start;
        // It fails only where the log is gone.
        let _ = self.levels.reload(targets(level.unwrap_or(first_level)));
        self.json.store(format.unwrap_or(first_format) == OutputFormat::Json, Ordering::Relaxed);
    }
}

/// Stderr, without the passwords of URLs. An event is written at once.
struct Shown;

impl Write for Shown {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        io::stderr().write_all(line_without_passwords(&String::from_utf8_lossy(event)).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Our own level, and what is heard of the dependencies then.
fn targets(level: LevelFilter) -> Targets {
    // What goes wrong in a dependency is said once by whoever uses it; by itself, a client that tries again every second
    // says so every second.
    let others = match level {
        LevelFilter::DEBUG => LevelFilter::INFO,
        LevelFilter::TRACE => LevelFilter::DEBUG,
        _ => LevelFilter::OFF,
    };
    Targets::new().with_target("confhot", level).with_default(others)
}
