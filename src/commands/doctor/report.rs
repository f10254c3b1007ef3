//! What is told of each check.

use confhot::kv::{BucketError, Role};
use serde_json::json;

use crate::commands::hint;
use crate::output::{ADDED, FAINT, Output, REMOVED, STRONG, plain};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Ok,
    Warn,
    Fail,
}

/// Tells each check as it is made.
pub(super) struct Report<'a> {
    out: &'a Output,
    failed: bool,
}

impl<'a> Report<'a> {
    pub(super) fn to(out: &'a Output) -> Report<'a> {
        Report { out, failed: false }
    }

    /// Whether some check failed.
    pub(super) fn failed(&self) -> bool {
        self.failed
    }

    fn tell(&mut self, check: &str, level: Level, text: &str, remedy: Option<&str>) -> anyhow::Result<()> {
        self.failed |= level == Level::Fail;
        let (name, style) = match level {
            Level::Ok => ("ok", ADDED),
            Level::Warn => ("warn", STRONG),
            Level::Fail => ("fail", REMOVED),
        };
        if self.out.is_json() {
            return self.out.event(&json!({ "check": check, "level": name, "text": text, "remedy": remedy }));
        }
        let name = self.out.paint(style, &format!("{name:4}"));
        self.out.line(&format!("{name}  {check:11}  {}", plain(text)))?;
        if let Some(remedy) = remedy {
            self.out.line(&self.out.paint(FAINT, &format!("      {:11}  {}", "", plain(remedy))))?;
        }
        self.out.flush()
    }

    pub(super) fn ok(&mut self, check: &str, text: &str) -> anyhow::Result<()> {
        self.tell(check, Level::Ok, text, None)
    }

    pub(super) fn warn(&mut self, check: &str, text: &str, remedy: &str) -> anyhow::Result<()> {
        self.tell(check, Level::Warn, text, Some(remedy))
    }

    pub(super) fn fail(&mut self, check: &str, text: &str, remedy: Option<&str>) -> anyhow::Result<()> {
        self.tell(check, Level::Fail, text, remedy)
    }

    /// An answer that is none. What a role need not ask is tried with its permissions, if it needs it.
    pub(super) fn unanswered(&mut self, check: &str, error: BucketError, role: Option<&Role>) -> anyhow::Result<()> {
        match (&error, role) {
            (BucketError::Denied(_), Some(_)) => self.ok(check, "this user may not ask; what its role needs is below"),
            (BucketError::Denied(words), None) => {
                self.warn(check, &format!("this user may not ask: {words}"), "--role says what it is for")
            }
            _ => {
                let error = anyhow::Error::from(error);
                self.fail(check, &format!("{error:#}"), hint(&error).as_deref())
            }
        }
    }
}
