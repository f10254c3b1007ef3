//! The one door to whoever is at the other end: answers to stdout, messages and the log to stderr.
//!
//! Whether to colour, how JSON is written, and what a closed pipe means is decided here, once.

mod hidden;
mod log;
mod plain;

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, BufWriter, ErrorKind, IsTerminal, Stdout, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::cli::{Color, Global, OutputFormat};

use self::hidden::line_without_passwords;
pub(crate) use self::hidden::{value_without_passwords, without_passwords};
pub(crate) use self::log::Log;
pub(crate) use self::plain::{is_hostile, plain};
use self::plain::{plain_but_tabs, plain_json};

pub(crate) const ADDED: Style = AnsiColor::Green.on_default();
pub(crate) const REMOVED: Style = AnsiColor::Red.on_default();
pub(crate) const PLACE: Style = AnsiColor::Cyan.on_default();
pub(crate) const STRONG: Style = Style::new().bold();
pub(crate) const FAINT: Style = Style::new().dimmed();
const ERROR: Style = AnsiColor::Red.on_default().bold();
const HINT: Style = AnsiColor::Green.on_default();

/// Where answers and messages go. Cheap to clone; usable from every task.
///
/// Answers are buffered until [`Output::flush`]: whoever streams calls [`Output::event`] instead, or flushes.
#[derive(Debug, Clone)]
pub(crate) struct Output(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    stdout: Mutex<Answers>,
    json: bool,
    quiet: bool,
    /// Whether stdout is one.
    terminal: bool,
    coloured: bool,
    coloured_messages: bool,
    /// Whether messages are events of the log, which is written as objects at the moment.
    logged: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Answers {
    pipe: BufWriter<Stdout>,
    /// Nobody reads any more (`| head -1`): the rest is dropped, and is no error.
    closed: bool,
}

impl Answers {
    fn attempt(&mut self, write: impl FnOnce(&mut BufWriter<Stdout>) -> io::Result<()>) -> anyhow::Result<()> {
        if self.closed {
            return Ok(());
        }
        match write(&mut self.pipe) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => self.closed = true,
            result => result.context("cannot write to stdout")?,
        }
        Ok(())
    }
}

impl Output {
    /// With a log that is already there.
    pub(crate) fn new(global: &Global, log: &Log) -> Output {
        Output(Arc::new(Inner {
            stdout: Mutex::new(Answers { pipe: BufWriter::new(io::stdout()), closed: false }),
            json: global.format == OutputFormat::Json,
            quiet: global.quiet,
            terminal: io::stdout().is_terminal(),
            coloured: coloured(global.color, &io::stdout()),
            coloured_messages: coloured(global.color, &io::stderr()),
            logged: log.json(),
        }))
    }

    /// Whether answers are JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.0.json
    }

    /// Whether a reader went away, so that there is nobody left to stream to.
    pub(crate) fn is_closed(&self) -> bool {
        self.stdout(|answers| answers.closed)
    }

    fn stdout<T>(&self, act: impl FnOnce(&mut Answers) -> T) -> T {
        // A panic while it was held leaves a half line at worst.
        act(&mut self.0.stdout.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// One object on a line of its own.
    pub(crate) fn json(&self, value: &impl Serialize) -> anyhow::Result<()> {
        self.exact_json(&value_without_passwords(&serde_json::to_value(value)?))
    }

    /// As [`Output::json`], for what is given out exactly, passwords included.
    pub(crate) fn exact_json(&self, value: &impl Serialize) -> anyhow::Result<()> {
        let mut line = plain_json(value)?;
        line.push(b'\n');
        self.bytes(&line)
    }

    /// One line of text. What comes from elsewhere has been through [`plain`].
    pub(crate) fn line(&self, text: &str) -> anyhow::Result<()> {
        let text = without_passwords(text);
        self.stdout(|answers| answers.attempt(|pipe| writeln!(pipe, "{text}")))
    }

    /// Exactly these bytes.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> anyhow::Result<()> {
        self.stdout(|answers| answers.attempt(|pipe| pipe.write_all(bytes)))
    }

    /// One object on a line of its own, told at once: for what goes on.
    pub(crate) fn event(&self, value: &impl Serialize) -> anyhow::Result<()> {
        self.json(value)?;
        self.flush()
    }

    /// Something that happened, told at once: an object where answers are JSON, else a line of text, which may hold what
    /// comes from elsewhere.
    pub(crate) fn tell(&self, value: &impl Serialize, text: &str) {
        // A daemon goes on when nobody listens any more, and there is no better place to say that stdout is broken.
        let told = if self.is_json() { self.event(value) } else { self.line(&plain(text)).and_then(|()| self.flush()) };
        if let Err(error) = told {
            tracing::debug!(%error, "not told");
        }
    }

    /// A bar on a terminal's stderr for work of `length` steps, shown once it has lasted a second; none elsewhere.
    pub(crate) fn progress(&self, length: usize) -> Option<ProgressBar> {
        if self.0.quiet || !io::stderr().is_terminal() {
            return None;
        }
        let bar = ProgressBar::with_draw_target(Some(length as u64), ProgressDrawTarget::hidden());
        bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} {per_sec}").ok()?);
        Some(bar)
    }

    /// Hands on what was written until now.
    pub(crate) fn flush(&self) -> anyhow::Result<()> {
        self.stdout(|answers| answers.attempt(Write::flush))
    }

    /// Whether answers go to a terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        self.0.terminal
    }

    /// Rows in columns under a head; of cells that come from elsewhere, control characters are escaped.
    pub(crate) fn table<Row: AsRef<[String]>>(&self, head: &[&str], rows: &[Row]) -> anyhow::Result<()> {
        self.styled_table(head, rows.iter().map(|row| (Style::new(), row)))
    }

    /// As [`Output::table`], each row in a style of its own where answers are coloured. They are asked for twice, and none is
    /// kept: there may be very many.
    pub(crate) fn styled_table<Row: AsRef<[String]>>(
        &self,
        head: &[&str],
        rows: impl Iterator<Item = (Style, Row)> + Clone,
    ) -> anyhow::Result<()> {
        let mut widths: Vec<_> = head.iter().map(|cell| cell.chars().count()).collect();
        for (_, row) in rows.clone() {
            for (width, cell) in widths.iter_mut().zip(row.as_ref()) {
                *width = plain(cell).chars().count().max(*width);
            }
        }
        let line = |cells: &mut dyn Iterator<Item = Cow<'_, str>>| {
            let mut line = String::new();
            for (cell, width) in cells.zip(&widths) {
                let _ = write!(line, "{cell:width$}  ");
            }
            line.trim_end().to_owned()
        };
        self.line(&self.paint(STRONG, &line(&mut head.iter().map(|cell| Cow::from(*cell)))))?;
        for (style, row) in rows {
            self.line(&self.paint(style, &line(&mut row.as_ref().iter().map(|cell| plain(cell)))))?;
        }
        Ok(())
    }

    /// `text` in a style, where answers are coloured.
    pub(crate) fn paint(&self, style: Style, text: &str) -> String {
        paint(self.0.coloured, style, text)
    }

    /// A line of a document, as it is, except on a terminal, which would obey what stands in it.
    pub(crate) fn quoted<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.0.terminal { plain_but_tabs(text).into() } else { text.into() }
    }

    /// A word to the person on stderr, unless they want errors only. Not part of the answer.
    pub(crate) fn note(&self, text: &str) {
        self.message(&plain(text));
    }

    /// As [`Output::note`], for text that was made safe and painted already.
    pub(crate) fn painted_note(&self, text: &str) {
        self.message(text);
    }

    /// A line of a document, or of a diff, as a word to the person.
    pub(crate) fn quoted_note(&self, style: Style, text: &str) {
        self.message(&paint(self.0.coloured_messages, style, &plain_but_tabs(text)));
    }

    fn message(&self, text: &str) {
        match (self.0.quiet, self.is_logged()) {
            (true, _) => {}
            (false, true) => tracing::info!("{}", anstream::adapter::strip_str(text)),
            (false, false) => say(text),
        }
    }

    fn is_logged(&self) -> bool {
        self.0.logged.load(Ordering::Relaxed)
    }

    /// Asks for a yes on the terminal; `None` where there is nobody to ask.
    pub(crate) fn confirm(&self, question: &str) -> Option<bool> {
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return None;
        }
        let mut answer = String::new();
        let _ = write!(io::stderr(), "{} [y/N] ", plain(question));
        io::stdin().read_line(&mut answer).ok()?;
        Some(matches!(answer.trim(), "y" | "Y" | "yes"))
    }

    /// An error with its causes, and what to do about it.
    pub(crate) fn error(&self, error: &anyhow::Error, hint: Option<&str>) {
        if self.is_logged() {
            let (text, hint) = (plain(&format!("{error:#}")).into_owned(), hint.map(plain));
            return tracing::error!(hint = hint.as_deref(), "{text}");
        }
        let colour = self.0.coloured_messages;
        say(&format!("{} {}", paint(colour, ERROR, "error:"), plain(&error.to_string())));
        for cause in error.chain().skip(1) {
            say(&format!("{} {}", paint(colour, ERROR, "caused by:"), plain(&cause.to_string())));
        }
        if let Some(hint) = hint {
            say(&format!("{} {}", paint(colour, HINT, "hint:"), plain(hint)));
        }
        if error.backtrace().status() == std::backtrace::BacktraceStatus::Captured {
            say(&error.backtrace().to_string());
        }
    }
}

/// An error of a process that has not got as far as an [`Output`].
pub(crate) fn complain(text: &str) {
    say(&format!("error: {}", plain(text)));
}

/// As [`complain`], of what was typed, in words that are several lines and quote it.
pub(crate) fn complain_of_usage(text: &str) {
    text.trim_end().lines().for_each(|line| say(&plain(line)));
}

/// A line on stderr; where nobody reads that there is no better place to say so.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{}", without_passwords(text));
}

/// Whether to colour what goes to `stream`. `auto` also heeds NO_COLOR, CLICOLOR, CLICOLOR_FORCE and TERM=dumb.
fn coloured(color: Color, stream: &impl anstream::stream::RawStream) -> bool {
    match color {
        Color::Auto => anstream::AutoStream::choice(stream) != anstream::ColorChoice::Never,
        Color::Always => true,
        Color::Never => false,
    }
}

fn paint(coloured: bool, style: Style, text: &str) -> String {
    if coloured { format!("{style}{text}{style:#}") } else { text.to_owned() }
}

/// A duration in milliseconds, to the microsecond.
pub(crate) fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
