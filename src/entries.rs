//! Loops over the entries of large tensors on the CPU: one pass, in threads, where libtorch takes a pass and new memory for each
//! operation. Knows neither networks nor training.

use std::panic::resume_unwind;
use std::thread;

use tch::kind::Element;
use tch::{Device, Tensor};

use crate::device::threads;

/// Entries that are handed to a loop at a time: so many whatever the number of threads, so that sums over pieces do not depend on
/// it.
const PIECE: usize = 1 << 16;

/// Entries from which on pieces are divided among threads.
const LARGE: usize = 1 << 18;

/// Whether entries are numbers of this type, side by side, on the CPU.
pub(crate) fn are<T: Element>(t: &Tensor) -> bool {
    t.device() == Device::Cpu && t.kind() == T::KIND && t.is_contiguous()
}

/// Matching pieces of tensors that are written and of those that are read.
type Piece<'a, T, S, const W: usize, const R: usize> = ([&'a mut [T]; W], [&'a [S]; R]);

/// Calls `work` with matching pieces of all tensors, and returns its results in order.
///
/// # Panics
/// If the tensors have other entries than these types ([`are`]), or not equally many, or if one that is written is given twice.
pub(crate) fn each<T, S, Out: Send, const W: usize, const R: usize>(
    written: [&Tensor; W],
    read: [&Tensor; R],
    work: &(impl Fn([&mut [T]; W], [&[S]; R]) -> Out + Sync),
) -> Vec<Out>
where
    T: Element + Send,
    S: Element + Sync,
{
    let count = written.iter().chain(&read).next().map_or(0, |t| t.numel());
    assert!(written.iter().all(|t| are::<T>(t)) && read.iter().all(|t| are::<S>(t)), "numbers of these types");
    assert!(written.iter().chain(&read).all(|t| t.numel() == count), "equally many entries");
    if count == 0 {
        // The pointer of an empty tensor may be null.
        return Vec::new();
    }
    let places = || written.iter().chain(&read).map(|t| t.data_ptr());
    for (i, t) in written.iter().enumerate() {
        assert!(places().enumerate().all(|(j, place)| i == j || place != t.data_ptr()), "a written tensor given once");
    }
    // SAFETY: contiguous CPU tensors of these types and sizes, as asserted, which outlive the slices; those that are written are
    // the caller's own, and none of the others.
    let (mut written, mut read) = unsafe {
        (
            written.map(|t| std::slice::from_raw_parts_mut(t.data_ptr().cast::<T>(), count).chunks_mut(PIECE)),
            read.map(|t| std::slice::from_raw_parts(t.data_ptr().cast::<S>().cast_const(), count).chunks(PIECE)),
        )
    };
    let mut pieces: Vec<Piece<'_, T, S, W, R>> = (0..count.div_ceil(PIECE))
        .map(|_| {
            let piece = "a piece of every tensor";
            (written.each_mut().map(|t| t.next().expect(piece)), read.each_mut().map(|t| t.next().expect(piece)))
        })
        .collect();
    let all = |pieces: Vec<Piece<'_, T, S, W, R>>| -> Vec<Out> {
        pieces.into_iter().map(|(written, read)| work(written, read)).collect()
    };
    let parts = if count < LARGE { 1 } else { threads() };
    if parts == 1 {
        return all(pieces);
    }
    let share = pieces.len().div_ceil(parts);
    thread::scope(|scope| {
        let mut others = Vec::new();
        while pieces.len() > share {
            let last = pieces.split_off(pieces.len() - share);
            others.push(scope.spawn(|| all(last)));
        }
        let mut results = all(pieces);
        for other in others.into_iter().rev() {
            results.extend(other.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        results
    })
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;

    /// Sizes around those of pieces and of what is worth threads, and any number of threads. Fails for: an entry that is left
    /// out or visited twice, pieces that do not match, results out of order.
    #[test]
    fn every_entry_is_visited_once_and_results_are_in_order() {
        let before = crate::threads::KeepThreads::new();
        for count in [0, 1, 7, PIECE, PIECE + 1, LARGE - 1, LARGE, 5 * PIECE + 3, 9 * PIECE] {
            let read = Tensor::arange(count as i64, (Kind::Float, Device::Cpu));
            for threads in [1, 2, 3, 8] {
                tch::set_num_threads(threads);
                let written = Tensor::ones([count as i64], (Kind::Double, Device::Cpu));
                let firsts = each([&written], [&read], &|[to]: [&mut [f64]; 1], [from]: [&[f32]; 1]| {
                    for (to, from) in to.iter_mut().zip(from) {
                        *to += f64::from(*from);
                    }
                    (from[0] as usize, from.len())
                });
                assert!(written.equal(&(read.to_kind(Kind::Double) + 1.0)), "{count}, {threads}");
                let starts: Vec<usize> = firsts.iter().map(|(first, _)| *first).collect();
                assert_eq!(starts, (0..count).step_by(PIECE).collect::<Vec<_>>(), "{threads}");
                assert_eq!(firsts.iter().map(|(_, length)| length).sum::<usize>(), count);
            }
        }
        drop(before);
    }

    #[test]
    #[should_panic(expected = "equally many entries")]
    fn tensors_of_other_sizes_are_refused() {
        let of = |n: i64| Tensor::zeros([n], (Kind::Float, Device::Cpu));
        each([&of(3)], [&of(4)], &|_: [&mut [f32]; 1], _: [&[f32]; 1]| ());
    }
}
