//! Limits the number of threads and jobs to what the machine can use.

use std::thread::available_parallelism;

use super::output::errln;
use crate::device::set_threads;
use crate::error::Result;

/// Maximum threads per core. More only wait for each other: with thousands, libtorch does not even finish its first product.
const EACH_CORE: usize = 4;

/// Sets the number of libtorch's threads, within the limit.
///
/// # Errors
/// As [`set_threads`].
pub(super) fn use_threads(asked: Option<usize>) -> Result<()> {
    set_threads(asked.map(|threads| usable("--threads", threads)))
}

/// The number of threads asked for, within the limit; a note is printed if that is less.
pub(super) fn usable(flag: &str, asked: usize) -> usize {
    let cores = available_parallelism().map_or(1, usize::from);
    let most = EACH_CORE * cores;
    if asked > most {
        errln!("note: {flag} {asked}: using {most}, {EACH_CORE} per core");
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
