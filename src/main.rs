//! The binary of confhot: parses what was typed, starts what it needs (log, runtime, signals), and turns the outcome
//! into an exit code.

mod cli;
mod commands;
mod output;

use std::process::ExitCode;
use std::thread;

use anyhow::Context as _;
use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use cli::{Cli, Environment};
use commands::{Outcome, Session};
use output::{Log, Output};

/// What a shell reports for a process that a Ctrl-C ended.
const INTERRUPTED: i32 = 130;

fn main() -> ExitCode {
    // First of all: it is to become another program, which inherits whatever was started before.
    if let Some(guard) = commands::guard::Guard::asked_for(std::env::args_os()) {
        return guard.run();
    }
    let Cli { global, verb } = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Usage errors go to stderr and help goes to stdout; neither can be told anywhere else. What was typed is quoted
            // in them, and may be what others called a file.
            let mut typed = std::env::args_os();
            if error.use_stderr() && typed.any(|it| output::is_hostile(&it.to_string_lossy())) {
                output::complain_of_usage(&error.render().to_string());
            } else {
                let _ = error.print();
            }
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let log = Log::to_stderr(&global);
    let out = Output::new(&global, &log);
    let session = Session { global, environment: Environment::read(), out, log, shutdown: CancellationToken::new() };
    let outcome = run(&session, verb).and_then(|outcome| session.out.flush().map(|()| outcome));
    ExitCode::from(match outcome {
        Ok(Outcome::Yes) => 0,
        Ok(Outcome::No) => 1,
        Err(error) => {
            // What was answered until now is part of the answer, and comes before the error where both are one stream.
            let _ = session.out.flush();
            session.out.error(&error, commands::hint(&error).as_deref());
            commands::exit_code(&error)
        }
    })
}

fn run(session: &Session, verb: cli::Verb) -> anyhow::Result<Outcome> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    if verb.is_daemon() {
        // Before anything is started that would have to be ended in good order.
        cancel_on_signal(&session.shutdown).context("cannot listen for signals")?;
    }
    let outcome = runtime.block_on(commands::run(session, verb));
    // A read of stdin cannot be cancelled; nothing else is left that is worth waiting for.
    runtime.shutdown_background();
    outcome
}

/// From the return on, the first SIGINT or SIGTERM cancels `shutdown`, and the second ends the process at once.
///
/// On a thread and a runtime of its own, so that "at once" holds while the other one hangs in a read of a dead mount.
fn cancel_on_signal(shutdown: &CancellationToken) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (mut interrupt, mut terminate) = {
        let _entered = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    let shutdown = shutdown.clone();
    let listen = async move {
        for said in 0.. {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if said > 0 {
                std::process::exit(INTERRUPTED);
            }
            shutdown.cancel();
        }
    };
    thread::Builder::new().name("signals".into()).spawn(move || runtime.block_on(listen))?;
    Ok(())
}
