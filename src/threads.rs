//! Threads that share a computation, each with a given number of libtorch threads. Knows no network.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use crate::progress::Tokens;

/// Interval of progress updates.
const POLL: Duration = Duration::from_millis(100);

/// Runs `work` on each share in a separate thread with `each` libtorch threads, under the caller's cancellation tokens, and
/// returns the results in order. Calls `watch` periodically until all have ended. A panic in a thread is resumed in the
/// caller's. Restores the caller's libtorch thread count.
pub(crate) fn in_threads<I: Send, T: Send>(
    shares: Vec<I>,
    each: usize,
    work: impl Fn(I) -> T + Sync,
    mut watch: impl FnMut(),
) -> Vec<T> {
    let _as_before = KeepThreads::new();
    let finished = AtomicUsize::new(0);
    thread::scope(|scope| {
        let (work, finished) = (&work, &finished);
        let start = |share: I| {
            let (caller, tokens) = (thread::current(), Tokens::in_force());
            scope.spawn(move || {
                let _count = OnDrop(finished, caller);
                tch::set_num_threads(i32::try_from(each).unwrap_or(i32::MAX));
                tokens.scope(|| work(share))
            })
        };
        let handles: Vec<_> = shares.into_iter().map(start).collect();
        while finished.load(Ordering::Acquire) < handles.len() {
            thread::park_timeout(POLL);
            watch();
        }
        handles.into_iter().map(|h| h.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    })
}

/// Signals a thread's end, even by a panic, to the waiting thread.
struct OnDrop<'a>(&'a AtomicUsize, Thread);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Release);
        self.1.unpark();
    }
}

/// Restores libtorch's thread count, for this thread and those started later, on drop.
pub(crate) struct KeepThreads(i32);

impl KeepThreads {
    /// Remembers this thread's count.
    pub fn new() -> Self {
        Self(tch::get_num_threads())
    }
}

impl Drop for KeepThreads {
    fn drop(&mut self) {
        tch::set_num_threads(self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::{Cancellation, check_cancelled};

    #[test]
    fn threads_have_the_tokens_of_who_started_them() {
        let token = Cancellation::new();
        token.cancel();
        let checked = token.scope(|| in_threads(vec![(); 2], 1, |()| check_cancelled().is_err(), || {}));
        assert_eq!(checked, [true, true]);
        assert_eq!(in_threads(vec![()], 1, |()| check_cancelled().is_err(), || {}), [false]);
    }
}
