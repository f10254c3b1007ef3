//! Child processes that do not outlive this one: spawn, signal, stop with a deadline.
//!
//! A parent that is killed with SIGKILL cannot clean up, so the kernel does it: a *guard*, this same binary under the
//! hidden verb `confhot guard PID -- PROGRAM ARGS…`, asks for a SIGKILL at the death of its parent and then becomes
//! the program ([`exec_guarded`]). The usual place for that request, between fork and exec, needs unsafe code; the
//! request survives `execve`, so a guard does as well and keeps the process id.
//!
//! `PR_SET_PDEATHSIG` fires when the *thread* that forked ends, not only its process (`prctl(2)`). Every guarded spawn
//! therefore goes through one thread that lives as long as the process: use [`spawn`] or [`spawn_async`], and call them
//! from wherever.
//!
//! Only Linux has the death signal. On other systems a guarded child lives on if this process is killed by SIGKILL.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Seek};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getppid, kill_process};

/// Becomes `program`, which will be killed when this process's parent ends; returns only if it could not.
///
/// This is the whole of the hidden verb `guard`, and runs before anything else in that process (no runtime, no threads).
/// `parent` is the process that asked for it.
pub fn exec_guarded(parent: u32, program: &OsStr, args: &[OsString]) -> io::Error {
    // SIGKILL, because nothing of value is lost by it and nothing can be left behind: a frozen or draining child would
    // sit out a SIGTERM, and the server that a goodbye could go to is dying as well.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(Signal::KILL)) {
        return error.into();
    }
    // Asked after the request, since a parent that died before it sends no signal.
    if getppid().map(Pid::as_raw_pid) != i32::try_from(parent).ok() {
        return io::Error::other(format!("the parent {parent} is gone"));
    }
    Command::new(program).args(args).exec()
}

/// A command for `program` that [`spawn`] ties to this process.
///
/// `guard` is the confhot binary (in it, `std::env::current_exe()`); without one the child is not tied. The child has a
/// process group of its own, so that a Ctrl-C reaches this process alone, which then stops its children in order.
pub fn guarded(guard: Option<&Path>, program: impl AsRef<OsStr>) -> Command {
    let mut command = match guard {
        Some(guard) => {
            let mut command = Command::new(guard);
            command.arg("guard").arg(std::process::id().to_string()).arg("--").arg(program);
            command
        }
        None => Command::new(program),
    };
    command.process_group(0);
    command
}

/// Spawns from the thread that lives as long as this process.
///
/// # Errors
/// As [`Command::spawn`].
pub fn spawn(mut command: Command) -> io::Result<Child> {
    on_spawner(move || retry_busy(|| command.spawn()))?
}

/// As [`spawn`], for a child whose pipes and end are awaited. It is killed when it is dropped.
///
/// # Errors
/// As [`Command::spawn`].
///
/// # Panics
/// Outside of a tokio runtime that has its I/O enabled.
pub fn spawn_async(command: Command) -> io::Result<tokio::process::Child> {
    let runtime = tokio::runtime::Handle::current();
    on_spawner(move || {
        let _entered = runtime.enter();
        let mut command = tokio::process::Command::from(command);
        retry_busy(|| command.kill_on_drop(true).spawn())
    })?
}

/// Sends SIGTERM, waits for at most `grace`, then sends SIGKILL; gives how it ended.
///
/// # Errors
/// As [`Child::wait`].
pub fn stop(child: &mut Child, grace: Duration) -> io::Result<ExitStatus> {
    signal(child, Signal::TERM)?;
    match wait(child, grace)? {
        Some(status) => Ok(status),
        None => {
            child.kill()?;
            child.wait()
        }
    }
}

/// As [`stop`], for a child of [`spawn_async`].
///
/// # Errors
/// As [`tokio::process::Child::wait`].
pub async fn stop_async(child: &mut tokio::process::Child, grace: Duration) -> io::Result<ExitStatus> {
    // A child that was waited for has no id any more, and `wait` then gives its status again.
    if let Some(pid) = child.id().and_then(pid) {
        kill_process(pid, Signal::TERM)?;
    }
    match tokio::time::timeout(grace, child.wait()).await {
        Ok(ended) => ended,
        Err(_) => {
            child.start_kill()?;
            child.wait().await
        }
    }
}

/// Sends `signal` to a child that may have ended; one that was waited for is left alone.
///
/// # Errors
/// As `kill(2)`.
pub fn signal(child: &mut Child, signal: Signal) -> io::Result<()> {
    // Until it is waited for, a process id is not given to another process.
    if child.try_wait()?.is_none()
        && let Some(pid) = pid(child.id())
    {
        kill_process(pid, signal)?;
    }
    Ok(())
}

/// Waits for the child's end for at most `deadline`; `None` if it still runs then.
///
/// # Errors
/// As [`Child::try_wait`].
pub fn wait(child: &mut Child, deadline: Duration) -> io::Result<Option<ExitStatus>> {
    let until = Instant::now() + deadline;
    let mut pause = Duration::from_millis(1);
    loop {
        let ended = child.try_wait()?;
        if ended.is_some() || Instant::now() >= until {
            return Ok(ended);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Runs a command to its end and gives what it wrote; after `deadline` it is killed.
///
/// # Errors
/// [`io::ErrorKind::TimedOut`] after the deadline, else as [`Command::spawn`].
pub fn output(mut command: Command, deadline: Duration) -> io::Result<Output> {
    // Files, unlike pipes, never fill up and cannot be held open by a grandchild.
    let (mut stdout, mut stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
    command.stdin(Stdio::null()).stdout(stdout.try_clone()?).stderr(stderr.try_clone()?);
    let mut child = retry_busy(|| command.spawn())?;
    let Some(status) = wait(&mut child, deadline)? else {
        child.kill()?;
        child.wait()?;
        return Err(io::Error::new(io::ErrorKind::TimedOut, format!("still running after {deadline:?}")));
    };
    let read = |file: &mut std::fs::File| {
        let mut bytes = Vec::new();
        file.rewind().and_then(|()| file.read_to_end(&mut bytes)).map(|_| bytes)
    };
    Ok(Output { status, stdout: read(&mut stdout)?, stderr: read(&mut stderr)? })
}

fn pid(raw: u32) -> Option<Pid> {
    i32::try_from(raw).ok().and_then(Pid::from_raw)
}

/// A program that was written a moment ago is busy while some fork of this process still holds the writing end.
fn retry_busy<T>(mut spawn: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let until = Instant::now() + Duration::from_secs(2);
    loop {
        match spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && Instant::now() < until => {
                thread::sleep(Duration::from_millis(2));
            }
            result => return result,
        }
    }
}

type Job = Box<dyn FnOnce() + Send>;

fn on_spawner<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    static SPAWNER: OnceLock<mpsc::Sender<Job>> = OnceLock::new();
    let spawner = match SPAWNER.get() {
        Some(spawner) => spawner,
        None => {
            let (jobs, queue) = mpsc::channel::<Job>();
            thread::Builder::new().name("spawner".into()).spawn(move || queue.into_iter().for_each(|job| job()))?;
            // The thread of a caller that lost this race ends here, its queue closed, without having spawned anything.
            SPAWNER.get_or_init(|| jobs)
        }
    };
    let gone = || io::Error::other("the spawning thread is gone");
    let (done, result) = mpsc::channel();
    spawner.send(Box::new(move || drop(done.send(job())))).map_err(|_| gone())?;
    result.recv().map_err(|_| gone())
}
