//! How many threads and jobs a machine is given, whatever number was asked for.

use std::thread::available_parallelism;

use super::output::errln;
use crate::device::set_threads;
use crate::error::Result;

/// Threads for each core at most. More only wait for each other: libtorch's by the thousand do not even come to their first
/// product.
const EACH_CORE: usize = 4;

/// Sets the number of libtorch's threads, or what the machine can use of it.
///
/// # Errors
/// As [`set_threads`].
pub(super) fn use_threads(asked: Option<usize>) -> Result<()> {
    set_threads(asked.map(|threads| usable("--threads", threads)))
}

/// What the machine can use of a number of threads; a note says where that is less.
pub(super) fn usable(flag: &str, asked: usize) -> usize {
    let cores = available_parallelism().map_or(1, usize::from);
    let most = EACH_CORE * cores;
    if asked > most {
        errln!("note: {flag} {asked}: {most} are used, {EACH_CORE} for each of {cores} core(s)");
    }
    asked.min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_threads_than_a_small_multiple_of_the_cores() {
        let cores = available_parallelism().map_or(1, usize::from);
        for (asked, used) in [(0, 0), (1, 1), (4 * cores, 4 * cores), (4 * cores + 1, 4 * cores), (100_000, 4 * cores)]
        {
            assert_eq!(usable("--threads", asked), used);
        }
    }
}
