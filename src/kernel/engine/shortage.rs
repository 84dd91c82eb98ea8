//! Catches shortages of memory in a computation, so that the caller can try a smaller one.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::error::is_shortage;

/// Runs a computation; returns `None` if libtorch could not allocate memory. Other panics are resumed.
///
/// libtorch reports a failed allocation like any other failure, which `tch` turns into a panic; unwinding frees what the
/// computation had allocated.
pub(super) fn attempt<T>(computation: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(computation)) {
        Ok(value) => Some(value),
        Err(panic) if is_shortage(panic.as_ref()) => None,
        Err(panic) => resume_unwind(panic),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_shortages_are_caught() {
        assert_eq!(attempt(|| 7), Some(7));
        // The texts of libtorch's CUDA and CPU allocators.
        assert_eq!(attempt::<()>(|| panic!("CUDA out of memory. Tried to allocate 2.00 GiB.")), None);
        assert_eq!(attempt::<()>(|| panic!("DefaultCPUAllocator: can't allocate memory: you tried {}", 1)), None);
        assert!(catch_unwind(|| attempt::<()>(|| panic!("shapes do not fit"))).is_err());
    }
}
