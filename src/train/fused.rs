//! Updates of large networks on the CPU in one pass over their entries. libtorch takes a dozen passes for them, each limited by
//! memory bandwidth. The operations and their order are the same, and so are the results.

use std::thread;

use tch::{Device, Kind, Tensor};

use crate::device::threads;

/// Entries from which on a tensor is divided among threads.
const LARGE: usize = 1 << 18;

/// Factors of Adam's step.
#[derive(Clone, Copy)]
pub(super) struct Adam {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Factor of the root of the second moment.
    pub root: f64,
    /// Factor of the quotient: minus the learning rate, over the first moment's bias correction.
    pub rate: f64,
}

/// Whether this module updates tensors of this kind.
pub(super) fn takes(tensors: &[&Tensor]) -> bool {
    let first = tensors[0];
    tensors.iter().all(|t| {
        t.device() == Device::Cpu && t.kind() == Kind::Float && t.is_contiguous() && t.numel() == first.numel()
    })
}

/// Replaces a value by `value - rate·g`.
pub(super) fn descend(value: &Tensor, g: &Tensor, rate: f64) {
    let rate = -rate as f32;
    let one = |[value]: [&mut [f32]; 1], [g]: [&[f32]; 1]| {
        for (value, g) in value.iter_mut().zip(g) {
            *value += *g * rate;
        }
    };
    each([value], [g], &one);
}

/// Replaces a value and its moments by those after the step.
pub(super) fn adam((value, m, v): (&Tensor, &Tensor, &Tensor), g: &Tensor, with: Adam) {
    let (b1, b2, epsilon) = (with.beta1 as f32, with.beta2 as f32, with.epsilon as f32);
    let (c1, c2) = ((1.0 - with.beta1) as f32, (1.0 - with.beta2) as f32);
    let (root, rate) = (with.root as f32, with.rate as f32);
    let one = |[value, m, v]: [&mut [f32]; 3], [g]: [&[f32]; 1]| {
        for (((value, m), v), g) in value.iter_mut().zip(m).zip(v).zip(g) {
            *m = *m * b1 + *g * c1;
            *v = *v * b2 + *g * *g * c2;
            let denominator = v.sqrt() * root + epsilon;
            // An entry that never had a gradient gives 0/0 if ε is 0: it does not move.
            let quotient = if denominator == 0.0 { 0.0 } else { *m / denominator };
            *value += quotient * rate;
        }
    };
    each([value, m, v], [g], &one);
}

/// Calls `work` with matching parts of all tensors; in threads if they are large.
fn each<const W: usize, const R: usize>(
    written: [&Tensor; W],
    read: [&Tensor; R],
    work: &(impl Fn([&mut [f32]; W], [&[f32]; R]) + Sync),
) {
    let count = written[0].numel();
    for t in written.iter().chain(&read) {
        assert!(takes(&[*t, written[0]]), "as many contiguous numbers of single precision");
    }
    // SAFETY: contiguous CPU tensors of single precision and equal size, as asserted, which outlive the slices; the caller owns
    // those that are written and shares them with nobody.
    let (mut written, mut read) = unsafe {
        (
            written.map(|t| std::slice::from_raw_parts_mut(t.data_ptr().cast::<f32>(), count)),
            read.map(|t| std::slice::from_raw_parts(t.data_ptr().cast::<f32>().cast_const(), count)),
        )
    };
    let parts = if count < LARGE { 1 } else { threads() };
    if parts == 1 {
        return work(written, read);
    }
    let size = count.div_ceil(parts);
    thread::scope(|scope| {
        for part in 0..parts {
            let size = size.min(written[0].len());
            if size == 0 {
                return;
            }
            let heads = written.each_mut().map(|slice| {
                let (head, tail) = std::mem::take(slice).split_at_mut(size);
                *slice = tail;
                head
            });
            let sources = read.each_mut().map(|slice| {
                let (head, tail) = slice.split_at(size);
                *slice = tail;
                head
            });
            if part + 1 == parts {
                work(heads, sources);
            } else {
                scope.spawn(move || work(heads, sources));
            }
        }
    });
}
