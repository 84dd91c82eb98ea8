//! Inner products in double precision of long vectors, four with four: each number loaded is used in four products, whose
//! sums stay in registers.

use crate::instructions::{Instructions, has_avx512};

/// Vectors on each side.
pub const SIDE: usize = 4;

/// Numbers summed in parallel.
const LANES: usize = 8;

/// Inner products of four vectors of one length with four others.
///
/// # Panics
/// If one is shorter than the first.
pub fn dots(a: [&[f64]; SIDE], b: [&[f64]; SIDE]) -> [[f64; SIDE]; SIDE] {
    #[cfg(target_arch = "x86_64")]
    {
        if has_avx512() {
            // SAFETY: the processor has the instructions.
            return unsafe { x86::dots_512(a, b) };
        }
        if Instructions::Avx2.allowed() && is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the processor has the instructions.
            return unsafe { x86::dots_256(a, b) };
        }
    }
    sums(a, b, |sum, a, b| sum + a * b)
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{SIDE, sums};

    #[target_feature(enable = "avx512f,fma")]
    pub(super) fn dots_512(a: [&[f64]; SIDE], b: [&[f64]; SIDE]) -> [[f64; SIDE]; SIDE] {
        sums(a, b, |sum, a, b| a.mul_add(b, sum))
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn dots_256(a: [&[f64]; SIDE], b: [&[f64]; SIDE]) -> [[f64; SIDE]; SIDE] {
        sums(a, b, |sum, a, b| a.mul_add(b, sum))
    }
}

// Within each caller, so that it is compiled with the caller's instructions.
#[allow(clippy::inline_always)]
#[inline(always)]
fn sums(a: [&[f64]; SIDE], b: [&[f64]; SIDE], add: impl Fn(f64, f64, f64) -> f64) -> [[f64; SIDE]; SIDE] {
    let n = a[0].len();
    let (a, b) = (a.map(|column| &column[..n]), b.map(|column| &column[..n]));
    let mut lanes = [[[0.0; LANES]; SIDE]; SIDE];
    let whole = n - n % LANES;
    let mut at = 0;
    while at < whole {
        let part = |column: &[f64]| -> [f64; LANES] { std::array::from_fn(|l| column[at + l]) };
        let (a, b) = (a.map(part), b.map(part));
        for (lanes, a) in lanes.iter_mut().zip(&a) {
            for (lanes, b) in lanes.iter_mut().zip(&b) {
                for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
                    *lane = add(*lane, *a, *b);
                }
            }
        }
        at += LANES;
    }
    std::array::from_fn(|i| {
        std::array::from_fn(|j| {
            let rest: f64 = (whole..n).map(|k| a[i][k] * b[j][k]).sum();
            lanes[i][j].iter().sum::<f64>() + rest
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against plain sums of integers, which are exact, at lengths around the lanes. Fails for: a lane or a rest left out.
    #[test]
    fn they_are_inner_products() {
        for n in [0, 1, 7, 8, 9, 100] {
            let vectors: Vec<Vec<f64>> =
                (0..8).map(|v| (0..n).map(|k| f64::from((k * 7 + v * 5) % 11) - 5.0).collect()).collect();
            let found = dots(std::array::from_fn(|i| &vectors[i][..]), std::array::from_fn(|j| &vectors[4 + j][..]));
            for (i, row) in found.iter().enumerate() {
                for (j, value) in row.iter().enumerate() {
                    let wanted: f64 = vectors[i].iter().zip(&vectors[4 + j]).map(|(a, b)| a * b).sum();
                    assert_eq!(*value, wanted, "{n}: {i}, {j}");
                }
            }
        }
    }
}
