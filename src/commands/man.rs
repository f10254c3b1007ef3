//! `confhot man`

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_mangen::Man;
use serde_json::json;

use super::{Outcome, Session};
use crate::cli::Cli;

/// Write the manual: the main page to stdout, or a page for each verb into a directory
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  confhot man | man -l -
  confhot man --dir ~/.local/share/man/man1

Exit codes:
  0  done
  2  trouble")]
pub(crate) struct Args {
    /// Write confhot.1 and a page for each verb (confhot-get.1, …) into this directory, which is made if missing
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(crate) fn run(session: &Session, args: &Args) -> anyhow::Result<Outcome> {
    match &args.dir {
        Some(dir) => {
            let written = fs::create_dir_all(dir).and_then(|()| clap_mangen::generate_to(Cli::command(), dir));
            written.with_context(|| format!("cannot write the manual into {}", dir.display()))?;
            if session.out.is_json() {
                session.out.json(&json!({ "dir": dir }))?;
            }
        }
        None => {
            let mut page = Vec::new();
            Man::new(Cli::command()).render(&mut page)?;
            if session.out.is_json() {
                session.out.exact_json(&json!({ "page": "confhot.1", "text": String::from_utf8_lossy(&page) }))?;
            } else {
                session.out.bytes(&page)?;
            }
        }
    }
    Ok(Outcome::Yes)
}
