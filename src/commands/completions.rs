//! `confhot completions`

use clap::CommandFactory as _;
use clap_complete::Shell;
use serde_json::json;

use super::{Outcome, Session};
use crate::cli::Cli;

/// Write the completions of a shell to stdout
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  confhot completions bash > ~/.local/share/bash-completion/completions/confhot
  confhot completions zsh > ~/.zfunc/_confhot
  confhot completions fish > ~/.config/fish/completions/confhot.fish
  confhot completions powershell >> $PROFILE

Exit codes:
  0  done
  2  trouble")]
pub(crate) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn run(session: &Session, args: &Args) -> anyhow::Result<Outcome> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "confhot", &mut script);
    if session.out.is_json() {
        let script = String::from_utf8_lossy(&script);
        session.out.exact_json(&json!({ "shell": args.shell.to_string(), "script": script }))?;
    } else {
        session.out.bytes(&script)?;
    }
    Ok(Outcome::Yes)
}
