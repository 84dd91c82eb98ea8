//! Progress and cancellation of long computations. Knows no terminal and no signal: `cli` draws the bars and connects a
//! token to Ctrl-C.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use crate::error::{Error, Result};

thread_local! {
    /// The tokens active on this thread, outermost first.
    static IN_FORCE: RefCell<Vec<Cancellation>> = const { RefCell::new(Vec::new()) };
}

/// A token that cancels the computations that run [under](Self::scope) it. Clones are the same token; give one to whatever
/// may cancel, such as a signal handler or a button.
///
/// A computation checks its thread's tokens at safe points, and fails with [`Error::Interrupted`] at the first one after a
/// cancellation; threads that it starts inherit its tokens. Computations under other tokens continue.
///
/// ```
/// use kernelview::error::Error;
/// use kernelview::progress::{Cancellation, check_cancelled};
///
/// let (first, second) = (Cancellation::new(), Cancellation::new());
/// first.cancel();
/// assert!(matches!(first.scope(check_cancelled), Err(Error::Interrupted)));
/// assert!(second.scope(check_cancelled).is_ok());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Cancellation(Arc<AtomicBool>);

impl Cancellation {
    /// A new token, not cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancels everything that runs under the token, now and later; takes no lock, so a signal handler may call it.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether [`Self::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// Runs `work` under this token and those already active.
    pub fn scope<T>(&self, work: impl FnOnce() -> T) -> T {
        let mut tokens = Tokens::in_force();
        tokens.0.push(self.clone());
        tokens.scope(work)
    }
}

/// A thread's active tokens, to be inherited by one that it starts.
#[derive(Clone)]
pub(crate) struct Tokens(Vec<Cancellation>);

impl Tokens {
    /// Those of this thread.
    pub fn in_force() -> Self {
        Self(IN_FORCE.with_borrow(Clone::clone))
    }

    /// Runs `work` under only these tokens.
    pub fn scope<T>(self, work: impl FnOnce() -> T) -> T {
        let _before = Restore(IN_FORCE.replace(self.0));
        work()
    }
}

/// Restores a thread's tokens on drop, whether the work returned or panicked.
struct Restore(Vec<Cancellation>);

impl Drop for Restore {
    fn drop(&mut self) {
        IN_FORCE.set(std::mem::take(&mut self.0));
    }
}

/// Fails with [`Error::Interrupted`] if a token active on this thread is cancelled.
pub fn check_cancelled() -> Result<()> {
    let cancelled = IN_FORCE.with_borrow(|tokens| tokens.iter().any(Cancellation::is_cancelled));
    if cancelled { Err(Error::Interrupted) } else { Ok(()) }
}

/// Interval of checking for cancellation during one call.
const PATIENCE: Duration = Duration::from_millis(50);

/// Runs a long call that cannot check for cancellation itself, such as into a library, in a separate thread, and returns
/// early if it is cancelled. An abandoned call runs on until it ends or the process does.
///
/// # Errors
/// [`Error::Interrupted`].
pub fn interruptible<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    check_cancelled()?;
    let tokens = Tokens::in_force();
    let (sender, receiver) = sync_channel(1);
    thread::spawn(move || {
        // Nobody receives the result of an abandoned call.
        let _ = sender.send(catch_unwind(AssertUnwindSafe(|| tokens.scope(work))));
    });
    loop {
        match receiver.recv_timeout(PATIENCE) {
            Ok(Ok(result)) => return Ok(result),
            Ok(Err(panic)) => resume_unwind(panic),
            Err(RecvTimeoutError::Timeout) => check_cancelled()?,
            Err(RecvTimeoutError::Disconnected) => unreachable!("the thread sends its result or its panic"),
        }
    }
}

/// Receives progress. Computations call it between units of work, where stopping loses nothing finished.
pub trait Monitor {
    /// A stage of `total` units begins.
    fn begin(&self, stage: &str, total: u64);
    /// `units` more are done.
    fn advance(&self, units: u64);
    /// The stage is over.
    fn end(&self);
    /// A note for the user.
    fn note(&self, message: &str);
}

/// Reports to nobody.
pub struct Silent;

impl Monitor for Silent {
    fn begin(&self, _: &str, _: u64) {}
    fn advance(&self, _: u64) {}
    fn end(&self) {}
    fn note(&self, _: &str) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_in_force_in_its_scope_alone_even_where_that_panics() {
        let token = Cancellation::new();
        token.cancel();
        assert!(catch_unwind(|| token.scope(|| panic!("at work"))).is_err());
        assert!(check_cancelled().is_ok());
    }

    #[test]
    fn an_outer_token_cancels_what_runs_under_an_inner_one() {
        let (outer, inner) = (Cancellation::new(), Cancellation::new());
        outer.cancel();
        assert!(outer.scope(|| inner.scope(check_cancelled)).is_err());
        assert!(inner.scope(check_cancelled).is_ok());
    }

    #[test]
    fn a_call_in_a_thread_of_its_own_has_the_tokens_of_its_caller() {
        let found = Cancellation::new().scope(|| interruptible(|| Tokens::in_force().0.len()));
        assert_eq!(found.expect("not cancelled"), 1);
    }

    #[test]
    fn a_long_call_is_given_up_when_it_is_cancelled() {
        let token = Cancellation::new();
        let (sender, receiver) = sync_channel::<()>(0);
        let canceller = token.clone();
        let cancelled = token.scope(|| {
            interruptible(move || {
                canceller.cancel();
                // Ends when this test does.
                let _ = receiver.recv();
            })
        });
        assert!(matches!(cancelled, Err(Error::Interrupted)));
        drop(sender);
    }
}
