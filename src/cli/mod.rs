//! The command line: raw arguments → checked settings → run. Everything a terminal sees is printed from here.

#![deny(clippy::print_stdout, clippy::print_stderr)]

mod analyze;
mod arguments;
mod board;
mod choices;
mod claims;
mod cloze;
mod command;
mod estimate;
mod fields;
mod gate;
mod idle;
mod kernel;
mod lora;
mod natural;
mod numbers;
mod output;
mod places;
mod pretrain;
mod reproduce;
mod select;
mod shards;
mod sketch;
mod slurm;
mod small;
mod solve;
mod stage;
mod submit;
mod tasks;
mod terminal;
mod threads;
mod verify;

use std::io::{self, Write};
use std::panic;
use std::sync::Mutex;

use clap::{ArgMatches, FromArgMatches};
use kernelview_loops::instructions::{self, Instructions};

use crate::error::{Error, Result, is_shortage, panic_text, shortage_text};
use crate::kernel::Precision;
use crate::progress::Cancellation;
use command::{Cli, Command};
use output::errln;

pub use fields::spoken;

/// [`crate::error::SHORTAGE_ADVICE`] with flags, as a constant: formatting it would need memory.
pub const SHORTAGE_ADVICE: &str = "finished parts are kept; raise the limit (ulimit -v, the job's or the \
                                   container's), or use less: fewer threads (--threads), smaller batches (--batch), \
                                   less memory (--memory) if the command has them";

/// Exit status of an internal error, after the BSD convention for software failures.
const INTERNAL: u8 = 70;

/// Parses the arguments, runs the command and returns its exit status: 0 done, 1 the computation or a claim failed, 2
/// bad input or settings, 130 interrupted, 70 an internal error.
pub fn main() -> u8 {
    crate::device::prepare_process();
    die_with_closed_pipes();
    let matches = match command::commands().try_get_matches() {
        Ok(matches) => matches,
        Err(e) => return help_or_refusal(&e),
    };
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|e| e.exit());
    if shares_operations(&cli.command) {
        crate::device::bound_waiting();
    }
    if small::has_small_networks(&cli.command) {
        crate::device::separate_memory();
    }
    if asks_for_tf32(&matches) {
        crate::device::allow_tf32();
    }
    let keeps_parts = matches!(
        cli.command,
        Command::Analyze(_)
            | Command::Lora(_)
            | Command::Pretrain(_)
            | Command::Reproduce(_)
            | Command::Sketch(_)
            | Command::Verify(_)
    );
    let panic_text = catch_panics();
    let cancellation = Cancellation::new();
    if let Err(e) = watch_interrupts(cancellation.clone()) {
        errln!("warning: Ctrl-C will not be graceful: {e}");
    }
    let outcome = panic::catch_unwind(panic::AssertUnwindSafe(|| {
        idle::tell(&matches)?;
        cancellation.scope(|| run(cli.command))
    }));
    match outcome {
        Ok(Ok(true)) => 0,
        Ok(Ok(false)) => 1,
        Ok(Err(e)) => {
            errln!("error: {e}");
            if matches!(e, Error::Interrupted) {
                errln!(
                    "{}",
                    if keeps_parts {
                        "finished parts are kept; the same command continues from them"
                    } else {
                        "nothing was written"
                    }
                );
            }
            exit_code(&e)
        }
        Err(panic) if is_shortage(panic.as_ref()) => {
            errln!("error: {}", shortage_text(panic.as_ref()));
            1
        }
        Err(_) => {
            let text = panic_text.lock().map(|t| t.clone()).unwrap_or_default();
            errln!(
                "internal error: {text}\nThis is a bug in kernelview. Please report it with the command that caused it."
            );
            INTERNAL
        }
    }
}

/// Whether several libtorch threads may share an operation in this command, and so wait for one another.
fn shares_operations(command: &Command) -> bool {
    let threads = match command {
        Command::Analyze(a) => a.model.engine.processor.threads,
        Command::Kernel(k) => k.model.engine.processor.threads,
        Command::Lora(l) => l.model.engine.processor.threads,
        Command::Natural(n) => n.processor.threads,
        Command::Pretrain(p) => p.processor.threads,
        Command::Reproduce(r) => r.engine.processor.threads,
        Command::Sketch(s) => s.model.engine.processor.threads,
        _ => Some(1),
    };
    threads != Some(1)
}

/// Prints help, the version or the error of a command line that could not be parsed.
fn help_or_refusal(found: &clap::Error) -> u8 {
    let printed = found.print().and_then(|()| io::stdout().flush());
    match printed.map_err(Error::io("write", "standard output")) {
        Err(e) if !found.use_stderr() => {
            errln!("error: {e}");
            exit_code(&e)
        }
        _ => u8::try_from(found.exit_code()).unwrap_or(2),
    }
}

fn exit_code(error: &Error) -> u8 {
    u8::try_from(error.exit_code()).unwrap_or(1)
}

/// Whether the command asks for TF32, which must be set before libtorch is used.
fn asks_for_tf32(matches: &ArgMatches) -> bool {
    let precision = |command: &ArgMatches| command.try_get_one::<Precision>("precision").ok().flatten().copied();
    matches.subcommand().and_then(|(_, command)| precision(command)) == Some(Precision::Tf32)
}

/// Runs the command. Returns false if a claim is violated, a cell failed or a metric moved.
fn run(command: Command) -> Result<bool> {
    // A wrong value would otherwise be ignored.
    Instructions::most().map_err(|value| Error::Environment {
        variable: instructions::VARIABLE,
        value: value.to_owned(),
        expected: "portable, avx2, avx512, avx512bf16 or amx",
    })?;
    match command {
        Command::Analyze(a) => return analyze::run(&a),
        Command::Claims(c) => claims::run(&c)?,
        Command::Cloze(c) => cloze::run(&c)?,
        Command::Compare(c) => return gate::run(&c),
        Command::Kernel(k) => kernel::run(&k)?,
        Command::Sketch(s) => sketch::run(&s)?,
        Command::SketchKernel(s) => sketch::run_kernel(&s)?,
        Command::Solve(s) => solve::run(&s)?,
        Command::Convert(c) => solve::convert(&c)?,
        Command::Merge(m) => shards::run_merge(&m)?,
        Command::Submit(s) => submit::run(&s)?,
        Command::Tasks => tasks::run()?,
        Command::Lora(l) => lora::run(&l)?,
        Command::Natural(n) => natural::run(&n)?,
        Command::Pretrain(p) => return pretrain::run(&p),
        Command::Reproduce(r) => return reproduce::run(&r),
        Command::Verify(v) => return verify::run(&v),
    }
    Ok(true)
}

/// Rust ignores SIGPIPE, so that printing into `| head -1` would fail. With the default action the program ends quietly when
/// its reader does, like any other.
fn die_with_closed_pipes() {
    #[cfg(unix)]
    {
        // SAFETY: restores the default action of a signal; no handler of ours runs in signal context.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    }
}

/// Keeps a panic's first line. The backtrace is printed only if `RUST_BACKTRACE` asks for it, because libtorch's failures
/// arrive as panics with pages of C++ stack.
fn catch_panics() -> &'static Mutex<String> {
    static TEXT: Mutex<String> = Mutex::new(String::new());
    let default = panic::take_hook();
    let wanted = std::env::var_os("RUST_BACKTRACE").is_some_and(|v| v != "0");
    {
        panic::set_hook(Box::new(move |info| {
            // A backtrace takes memory and a lock: without memory it would deadlock.
            if wanted && !is_shortage(info.payload()) {
                default(info);
            }
            let first = panic_text(info.payload());
            let place = info.location().map(|l| format!(" ({}:{})", l.file(), l.line())).unwrap_or_default();
            if let Ok(mut text) = TEXT.lock() {
                *text = format!("{first}{place}");
            }
        }));
    }
    &TEXT
}

/// The first Ctrl-C cancels the command, which stops at its next safe point; the second ends the process.
fn watch_interrupts(cancellation: Cancellation) -> std::result::Result<(), ctrlc::Error> {
    ctrlc::set_handler(move || {
        if cancellation.is_cancelled() {
            std::process::exit(130);
        }
        errln!("\nstopping at the next safe point (Ctrl-C again to stop at once)");
        cancellation.cancel();
    })
}
