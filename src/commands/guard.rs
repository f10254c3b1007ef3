//! `confhot guard PID -- PROGRAM ARGS…`, hidden: becomes a program that ends with the process that asked for it.
//!
//! Not one of clap's verbs: nothing may run before it, and neither help nor completions show it.

use std::ffi::OsString;
use std::process::ExitCode;

use confhot::child;

/// What it was asked to become.
pub(crate) struct Guard {
    parent: u32,
    program: OsString,
    args: Vec<OsString>,
}

impl Guard {
    /// The guard that a command line asks for, if it does.
    pub(crate) fn asked_for(mut line: impl Iterator<Item = OsString>) -> Option<Guard> {
        let parent = line.nth(1).filter(|verb| verb == "guard").and_then(|_| line.next()?.to_str()?.parse().ok())?;
        let program = line.next().filter(|dashes| dashes == "--").and_then(|_| line.next())?;
        Some(Guard { parent, program, args: line.collect() })
    }

    /// Becomes the program; returns only if it could not.
    pub(crate) fn run(&self) -> ExitCode {
        let error = child::exec_guarded(self.parent, &self.program, &self.args);
        crate::output::complain(&format!("cannot run {}: {error}", self.program.display()));
        ExitCode::from(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_exact_form_asks_for_a_guard() {
        let ask = |line: &str| Guard::asked_for(line.split(' ').map(OsString::from));

        let guard = ask("confhot guard 7 -- sleep -- 1").unwrap();
        assert_eq!((guard.parent, guard.program), (7, "sleep".into()));
        assert_eq!(guard.args, ["--", "1"]);
        for line in
            ["confhot", "confhot get guard 7 -- x", "confhot guard x -- y", "confhot guard 7 y z", "confhot guard 7 --"]
        {
            assert!(ask(line).is_none(), "{line}");
        }
    }
}
