//! From a path that was told of to the content that is told: waiting until it is still, reading it, proving that no
//! other write has begun.

use std::{fs, io, path::Path, sync::Arc};

use tokio::time::Instant;

use super::{
    super::{
        Cause, Change, Content,
        disk::{self, Fingerprint, LARGEST, Read, is_absent},
        pending::{EMPTY, STILL, Wait},
    },
    How, Ready, Told, Tree,
};

impl Tree {
    pub(super) fn make_ready(&mut self, key: Arc<Path>, told: Told) {
        self.pending.remove(&key);
        self.ready.insert(key, Ready { told, read: None, proven: false });
    }

    /// Starts to wait whether a document stays away.
    pub(super) fn away(&mut self, key: Arc<Path>, told: Told) {
        self.ready.remove(&key);
        if self.files.contains_key(&key) && self.pending.get(&key) != Some(Wait::Gone) {
            self.pending.insert(key, Wait::Gone, told);
        }
    }

    /// Moves on what has waited for long enough.
    pub(in crate::source) fn ripen(&mut self, now: Instant) {
        let mut root_seen = false;
        while let Some((key, wait, told)) = self.pending.pop_due(now) {
            let about = self.real(&key).map(|real| fs::metadata(&real).map(|about| Fingerprint::of(&about)));
            match wait {
                Wait::Still(print, _) => match about {
                    Some(Ok(now)) if print != Some(now) => {
                        self.pending.insert(key, Wait::Still(Some(now), STILL), told);
                    }
                    Some(Err(error)) if is_absent(&error) => self.away(key, told),
                    Some(_) => self.make_ready(key, told.with(How::Settled)),
                    None => {}
                },
                Wait::Gone => {
                    // Nothing is gone because the directory itself is.
                    if !root_seen {
                        root_seen = true;
                        self.look_root(told.with(How::Swapped));
                    }
                    match about {
                        _ if self.real_root().is_none() => {}
                        Some(Ok(_)) => self.look(&key, told.with(How::Closed), None),
                        Some(Err(error)) if !is_absent(&error) => {}
                        _ => self.make_ready(key, told.with(How::Gone)),
                    }
                }
            }
        }
    }

    /// Makes ready what was listed while it may have been written: the one that wrote it is done.
    pub(in crate::source) fn settle_listed(&mut self) {
        for (key, told) in self.pending.settle_listed() {
            self.make_ready(key, told.with(How::Closed));
        }
    }

    /// Whether anything is to be read or told.
    pub(in crate::source) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Up to `most` documents that are ready and not read.
    pub(in crate::source) fn unread(&self, most: usize) -> Vec<Arc<Path>> {
        self.ready.iter().filter(|(_, it)| it.read.is_none()).take(most).map(|(key, _)| Arc::clone(key)).collect()
    }

    /// Whether something was read that another write may have torn, or several things, of which more may be queued.
    pub(in crate::source) fn needs_barrier(&self) -> bool {
        self.ready.len() > 1 || self.ready.values().any(|ready| !ready.proven)
    }

    /// Reads one document that is ready, and puts it back where the reading shows that it is not.
    pub(in crate::source) fn read_ready(&mut self, key: &Arc<Path>) {
        let Some(told) = self.ready.get(key).map(|ready| ready.told) else { return };
        let read = match self.real(key) {
            Some(real) => self.events.early(&real).unwrap_or_else(|| read_whole(&real, self.within())),
            None if told.how == How::Gone => Read::Absent(io::ErrorKind::NotFound.into()),
            // Its directory went away meanwhile, and took care of it.
            None => {
                self.ready.remove(key);
                return;
            }
        };
        match read {
            Read::Absent(_) if told.how != How::Gone => self.away(Arc::clone(key), told),
            Read::Torn => self.wait_still(key, None, STILL, told.with(How::Writing)),
            // A file that was truncated a moment ago looks like this too, and the event may be a moment late.
            Read::Bytes(bytes, print)
                if bytes.is_empty() && !matches!(told.how, How::Settled) && self.print(key) != Some(print) =>
            {
                self.wait_still(key, Some(print), EMPTY, told.with(How::Writing));
            }
            read => {
                if let Some(ready) = self.ready.get_mut(key) {
                    ready.proven = matches!(told.how, How::Placed | How::Swapped | How::Gone);
                    ready.read = Some(read);
                }
            }
        }
    }

    fn wait_still(&mut self, key: &Arc<Path>, print: Option<Fingerprint>, length: std::time::Duration, told: Told) {
        self.ready.remove(key);
        self.pending.insert(Arc::clone(key), Wait::Still(print, length), told);
    }

    fn print(&self, path: &Path) -> Option<Fingerprint> {
        self.files.get(path)?.print
    }

    /// Ends one look at the queue: what was read before it and is still ready was not written meanwhile.
    pub(in crate::source) fn prove(&mut self) {
        for ready in self.ready.values_mut() {
            ready.proven |= ready.read.is_some();
        }
    }

    /// Takes what was read and proven, of one cause, events first; at most `most` of what a sweep found.
    pub(in crate::source) fn tell(&mut self, most: usize) -> (Cause, Vec<Change>) {
        let done = |ready: &Ready| ready.read.is_some() && ready.proven;
        let by_event = self.ready.values().any(|ready| done(ready) && ready.told.cause == Cause::Event);
        let (cause, most) = if by_event { (Cause::Event, usize::MAX) } else { (Cause::Sweep, most) };
        let keys: Vec<_> = self
            .ready
            .iter()
            .filter(|(_, ready)| done(ready) && ready.told.cause == cause)
            .take(most)
            .map(|(key, _)| Arc::clone(key))
            .collect();
        let mut changes = Vec::with_capacity(keys.len());
        for key in keys {
            let Some(Ready { told, read: Some(read), .. }) = self.ready.remove(&key) else { continue };
            let known = self.print(&key);
            if cause == Cause::Sweep && !matches!(&read, Read::Bytes(_, print) if known == Some(*print)) {
                self.missed = Some(Instant::now());
            }
            if let Some(content) = self.remember(&key, read) {
                changes.push(Change { path: key.to_path_buf(), content, seen: told.seen });
            }
        }
        (cause, changes)
    }

    /// Keeps the fingerprint of what is told; `None` where the same failure was told before.
    fn remember(&mut self, path: &Path, read: Read) -> Option<Content> {
        let real = self.real(path);
        let record = self.files.get_mut(path)?;
        match read {
            Read::Bytes(bytes, print) => {
                (record.print, record.racy, record.unreadable) = (Some(print), print.is_racy(), false);
                Some(Content::Bytes(bytes))
            }
            Read::Unreadable(error, print) => {
                let again = record.unreadable && record.print == print;
                (record.print, record.racy, record.unreadable) = (print, false, true);
                (!again).then_some(Content::Unreadable(error))
            }
            // A symlink that leads nowhere is there all the same.
            Read::Absent(error) if real.is_some_and(|real| fs::symlink_metadata(real).is_ok()) => {
                let again = record.unreadable && record.print.is_none();
                (record.print, record.racy, record.unreadable) = (None, false, true);
                (!again).then_some(Content::Unreadable(error))
            }
            Read::Absent(_) => {
                self.files.remove(path);
                self.unlink(path);
                Some(Content::Gone)
            }
            Read::Torn => None,
        }
    }

    /// Reads a document now, for the caller's own first look.
    pub(in crate::source) fn read_now(&mut self, path: &Path) -> Read {
        match self.real(path) {
            Some(real) => read_whole(&real, self.within()),
            None => Read::Absent(io::ErrorKind::NotFound.into()),
        }
    }

    /// Whether `next` will tell of this document anyway.
    pub(in crate::source) fn will_tell(&self, path: &Path) -> bool {
        self.ready.contains_key(path) || self.pending.get(path).is_some()
    }

    /// Hands the caller's own reading over: what could be read is remembered, the rest is left to `next`.
    pub(in crate::source) fn first(&mut self, path: &Path, read: Read) -> Option<Content> {
        let key = self.key(path);
        match read {
            Read::Torn => {
                self.wait_still(&key, None, STILL, Told::now(How::Writing, Cause::Event));
                None
            }
            Read::Absent(_) => {
                self.away(key, Told::now(How::Closed, Cause::Event));
                None
            }
            read => self.remember(path, read),
        }
    }
}

/// Reads until it was not written meanwhile, a few times.
fn read_whole(real: &Path, within: Option<&Path>) -> Read {
    for _ in 0..2 {
        match disk::read(real, within, LARGEST) {
            Read::Torn => {}
            read => return read,
        }
    }
    disk::read(real, within, LARGEST)
}
