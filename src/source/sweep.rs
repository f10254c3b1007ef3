//! The slow safety net: everything is listed again, on a thread of its own, and handed over in small portions, so that
//! neither memory nor the time between two saves grows with the directory.

use std::{
    fs,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use tokio::sync::mpsc;

use super::{
    disk::{Fingerprint, Id, Visit, walk},
    trouble::Trouble,
};

/// Findings handed over at a time: to compare that many takes some 100 us.
const PORTION: usize = 256;

/// One finding; paths are relative to the source's directory where they are not said to be real.
#[derive(Debug)]
pub(super) enum Found {
    Dir {
        path: PathBuf,
        real: PathBuf,
        id: Id,
    },
    /// A document; no fingerprint where it leads nowhere or nobody may look.
    File {
        path: PathBuf,
        print: Option<Fingerprint>,
    },
    Trouble(Trouble),
}

/// A sweep under way. Dropping it ends its thread at the next portion.
#[derive(Debug)]
pub(super) struct Sweep {
    portions: mpsc::Receiver<Vec<Found>>,
}

impl Sweep {
    /// Starts to list `real`, the directory that `root` leads to, and with `outside` also what is elsewhere.
    pub(super) fn start(root: &Path, real: &Path, outside: bool, wanted: fn(&str) -> bool) -> Self {
        let (sender, portions) = mpsc::channel(2);
        let (root, real) = (root.to_owned(), real.to_owned());
        tokio::task::spawn_blocking(move || {
            let mut portion = Vec::with_capacity(PORTION);
            let within = (!outside).then_some(&*real);
            let full = walk(Path::new(""), &real, [], within, wanted, &mut |visit| {
                portion.push(match visit {
                    Visit::Dir { rel, real, id } => Found::Dir { path: rel.to_owned(), real: real.to_owned(), id },
                    Visit::File { rel, real } => {
                        let print = fs::metadata(real).ok().map(|about| Fingerprint::of(&about));
                        Found::File { path: rel.to_owned(), print }
                    }
                    // Where a symlink leads shows in the fingerprint, or in the real path of the directory.
                    Visit::Link { .. } => return ControlFlow::Continue(()),
                    Visit::Unlisted { rel, error } => {
                        Found::Trouble(Trouble::Unlisted { path: root.join(rel), reason: error.to_string() })
                    }
                    Visit::Cycle { rel } => Found::Trouble(Trouble::Cycle { path: root.join(rel) }),
                    Visit::Outside { rel, to } => {
                        Found::Trouble(Trouble::Outside { path: root.join(rel), to: to.to_owned() })
                    }
                });
                if portion.len() < PORTION {
                    return ControlFlow::Continue(());
                }
                let full = std::mem::replace(&mut portion, Vec::with_capacity(PORTION));
                // Nobody listens any more: the source was dropped.
                if sender.blocking_send(full).is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            if full.is_continue() {
                let _ = sender.blocking_send(portion);
            }
        });
        Sweep { portions }
    }

    /// The next portion, `None` when all was listed. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Vec<Found>> {
        self.portions.recv().await
    }
}
