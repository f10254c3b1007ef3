//! `confhot secret`

mod rotate;

use std::fs::OpenOptions;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use clap::Subcommand;
use confhot::secret::{self, Identities, Recipient};
use serde_json::json;

use super::{No, Outcome, Session};

/// Encrypt strings of documents, so that the repository and the bucket hold only ciphertext
///
/// A string may be a token, `ENC[age,…]`, which whoever has one of the identities reads: `confhot serve --identity`, and
/// services that embed `Live`. Keys are those of age (age1…): `age-keygen` makes them, or `secret keygen`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  confhot secret keygen service1.key                       # prints the recipient
  confhot secret encrypt --to age1…                        # asks for the string, prints the token to paste
  pwgen 32 1 | confhot secret encrypt --recipients-file team.txt
  confhot secret decrypt --identity service1.key < token
  confhot secret rotate configs --identity old.key --to age1… --to age1…

A token says nothing of where it belongs: whoever may change documents may move it to where it is shown. A recipient that
is taken away by `rotate` can still read what it could read before, in the history: change those passwords too.

With --format json: encrypt {\"token\"}, decrypt {\"plain\"}, keygen {\"recipient\",\"path\"}, and rotate, a line a file
that it changed, {\"path\",\"tokens\"}.

Exit codes:
  0  done; for rotate, also where there is no token
  1  a token cannot be read or replaced; no file was changed
  2  trouble, or usage")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print the token for a string, which is typed, or comes on stdin (one line feed at its end is no part of it)
    Encrypt {
        #[command(flatten)]
        to: To,
    },
    /// Print what a token stands for; it is typed, or comes on stdin
    Decrypt {
        /// File with age identities, as age-keygen writes it
        #[arg(long, value_name = "FILE")]
        identity: PathBuf,
    },
    /// Encrypt each token of the documents in a directory anew: all of them, or none
    Rotate {
        /// The directory, or one document
        dir: PathBuf,
        /// File with age identities that read what is there
        #[arg(long, value_name = "FILE")]
        identity: PathBuf,
        #[command(flatten)]
        to: To,
    },
    /// Make an identity, in a new file that only its owner reads, and print its recipient
    Keygen {
        /// The file
        file: PathBuf,
    },
}

/// Whom to encrypt for.
#[derive(Debug, clap::Args)]
struct To {
    /// Who will read it: age1…; several are several
    #[arg(long = "to", value_name = "RECIPIENT", required_unless_present = "recipients_file")]
    recipients: Vec<Recipient>,
    /// File with more of them, one a line; `#` begins a comment
    #[arg(long, value_name = "FILE")]
    recipients_file: Option<PathBuf>,
}

impl To {
    fn all(self) -> anyhow::Result<Vec<Recipient>> {
        let To { mut recipients, recipients_file } = self;
        if let Some(path) = recipients_file {
            let text = read(&path)?;
            let lines = text.lines().map(str::trim).enumerate();
            for (at, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
                recipients.push(line.parse().with_context(|| format!("{}:{}", path.display(), at + 1))?);
            }
        }
        ensure!(!recipients.is_empty(), "no recipient is named");
        Ok(recipients)
    }
}

pub(crate) async fn run(session: &Session, args: Args) -> anyhow::Result<Outcome> {
    let out = &session.out;
    match args.action {
        Action::Encrypt { to } => {
            let to = to.all()?;
            let plain = ask("The string to encrypt: ")?;
            ensure!(!plain.is_empty(), "there is nothing to encrypt");
            let token = secret::encrypt(&plain, &to)?;
            if out.is_json() { out.json(&json!({ "token": token })) } else { out.line(&token) }?;
        }
        Action::Decrypt { identity } => {
            let identities = identities(&identity)?;
            let token = ask("The token: ")?;
            // As it is copied out of a document.
            let token = token.trim().trim_matches(['"', '\'', ',']);
            let plain = identities.open(token).map_err(No::Unopened)?;
            // What was asked for, exactly.
            if out.is_json() {
                out.exact_json(&json!({ "plain": plain }))?;
            } else {
                out.bytes(format!("{plain}\n").as_bytes())?;
            }
        }
        Action::Rotate { dir, identity, to } => {
            return rotate::run(session, &dir, &identities(&identity)?, &to.all()?);
        }
        Action::Keygen { file } => {
            let (identity, recipient) = secret::generate();
            let write = || -> io::Result<()> {
                let mut key = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file)?;
                key.write_all(format!("# public key: {recipient}\n{identity}\n").as_bytes())?;
                key.sync_all()
            };
            write().with_context(|| format!("cannot write {}", file.display()))?;
            let text = recipient.to_string();
            let path = file.display().to_string();
            if out.is_json() { out.json(&json!({ "recipient": text, "path": path })) } else { out.line(&text) }?;
        }
    }
    Ok(Outcome::Yes)
}

/// The identities in a file.
pub(crate) fn identities(path: &Path) -> anyhow::Result<Identities> {
    Identities::parse(&read(path)?).with_context(|| format!("{} is no file of age identities", path.display()))
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// What is typed without being seen, or all of stdin without the line feed at its end.
fn ask(prompt: &str) -> anyhow::Result<String> {
    if io::stdin().is_terminal() {
        return rpassword::prompt_password(prompt).context("cannot read the terminal");
    }
    let mut bytes = Vec::new();
    io::stdin().lock().read_to_end(&mut bytes).context("cannot read stdin")?;
    // The error has the bytes in it, and is not told.
    let Ok(text) = String::from_utf8(bytes) else { bail!("stdin is not UTF-8") };
    let line = text.strip_suffix('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
    Ok(line.unwrap_or(&text).to_owned())
}
