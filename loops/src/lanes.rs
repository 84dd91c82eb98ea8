//! The instruction sets for packing and counting signs, chosen at run time, and their element types. Every function here is
//! a loop over one row, independent of its meaning.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    _CMP_LT_OQ, _CMP_NEQ_UQ, _CMP_UNORD_Q, _mm256_cmp_ps, _mm256_loadu_ps, _mm256_movemask_ps, _mm256_or_ps,
    _mm256_setzero_ps, _mm512_add_epi64, _mm512_and_si512, _mm512_cmp_ps_mask, _mm512_loadu_ps, _mm512_loadu_si512,
    _mm512_popcnt_epi64, _mm512_reduce_add_epi64, _mm512_setzero_ps, _mm512_setzero_si512, _mm512_xor_si512,
};

use crate::instructions::{Instructions, has_avx512};

/// An instruction set of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lanes {
    /// AVX-512 with population counts of 64-bit lanes.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// AVX2 for packing, the POPCNT instruction for counting.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// Ordinary code.
    Portable,
}

impl Lanes {
    /// The sets available on this machine, fastest first.
    pub fn available() -> Vec<Self> {
        let mut found = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if has_avx512() && is_x86_feature_detected!("avx512vpopcntdq") {
                found.push(Self::Avx512);
            }
            if Instructions::Avx2.allowed() && is_x86_feature_detected!("avx2") && is_x86_feature_detected!("popcnt") {
                found.push(Self::Avx2);
            }
        }
        found.push(Self::Portable);
        found
    }

    /// The fastest set of this machine.
    pub fn best() -> Self {
        Self::available()[0]
    }

    /// Number of bits in which two rows differ.
    pub fn differing(self, a: &[u64], b: &[u64]) -> u64 {
        match self {
            // SAFETY: the variants exist only where `available` found the features.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { differing_avx512(a, b) },
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { differing_popcnt(a, b) },
            Self::Portable => differing(a, b),
        }
    }

    /// `|m| - 2 |(a ⊕ b) ∧ m|` with `m` the common bits of both masks.
    pub fn masked(self, a: &[u64], b: &[u64], mask_a: &[u64], mask_b: &[u64]) -> i64 {
        match self {
            // SAFETY: the variants exist only where `available` found the features.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { masked_avx512(a, b, mask_a, mask_b) },
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { masked_popcnt(a, b, mask_a, mask_b) },
            Self::Portable => masked(a, b, mask_a, mask_b),
        }
    }
}

/// Element types of gradients.
pub trait Real: Copy + PartialOrd {
    /// Sets the bits of negative and of non-zero entries, clears all others, and says whether an entry is NaN. The bit
    /// strings are at least as long as the row.
    fn pack(values: &[Self], negative: &mut [u64], nonzero: &mut [u64], lanes: Lanes) -> bool;

    /// Writes -1, 0 or 1 for every entry.
    fn signs(values: &[Self], signs: &mut [Self], lanes: Lanes);
}

impl Real for f32 {
    fn pack(values: &[Self], negative: &mut [u64], nonzero: &mut [u64], lanes: Lanes) -> bool {
        match lanes {
            // SAFETY: the variants exist only where `available` found the features.
            #[cfg(target_arch = "x86_64")]
            Lanes::Avx512 => unsafe { pack_avx512(values, negative, nonzero) },
            #[cfg(target_arch = "x86_64")]
            Lanes::Avx2 => unsafe { pack_avx2(values, negative, nonzero) },
            Lanes::Portable => pack(values, 0.0, negative, nonzero),
        }
    }

    fn signs(values: &[Self], signs: &mut [Self], lanes: Lanes) {
        match lanes {
            // SAFETY: the variants exist only where `available` found the features.
            #[cfg(target_arch = "x86_64")]
            Lanes::Avx512 => unsafe { signs_avx512(values, signs) },
            #[cfg(target_arch = "x86_64")]
            Lanes::Avx2 => unsafe { signs_avx2(values, signs) },
            Lanes::Portable => signs_f32(values, signs),
        }
    }
}

impl Real for f64 {
    fn pack(values: &[Self], negative: &mut [u64], nonzero: &mut [u64], _lanes: Lanes) -> bool {
        pack(values, 0.0, negative, nonzero)
    }

    fn signs(values: &[Self], signs: &mut [Self], _lanes: Lanes) {
        for (sign, v) in signs.iter_mut().zip(values) {
            *sign = f64::from(i8::from(*v > 0.0) - i8::from(*v < 0.0));
        }
    }
}

fn pack<T: Copy + PartialOrd>(values: &[T], zero: T, negative: &mut [u64], nonzero: &mut [u64]) -> bool {
    let mut nan = false;
    let chunks = values.chunks(64).map(Some).chain(std::iter::repeat(None));
    for ((negative, nonzero), chunk) in negative.iter_mut().zip(nonzero.iter_mut()).zip(chunks) {
        let (mut less, mut other) = (0u64, 0u64);
        for (bit, v) in chunk.unwrap_or_default().iter().enumerate() {
            let (below, above) = (*v < zero, *v > zero);
            less |= u64::from(below) << bit;
            other |= u64::from(below | above) << bit;
            nan |= !(below || above || *v == zero);
        }
        (*negative, *nonzero) = (less, other);
    }
    nan
}

#[inline]
fn signs_f32(values: &[f32], signs: &mut [f32]) {
    for (sign, v) in signs.iter_mut().zip(values) {
        *sign = if *v == 0.0 { 0.0 } else { 1f32.copysign(*v) };
    }
}

/// Number of set bits. Not inlined, because generic callers are compiled in other crates.
#[inline(never)]
pub(crate) fn ones(words: &[u64]) -> u64 {
    words.iter().map(|w| u64::from(w.count_ones())).sum()
}

#[inline]
fn differing(a: &[u64], b: &[u64]) -> u64 {
    a.iter().zip(b).map(|(a, b)| u64::from((a ^ b).count_ones())).sum()
}

#[inline]
fn masked(a: &[u64], b: &[u64], mask_a: &[u64], mask_b: &[u64]) -> i64 {
    let words = a.iter().zip(b).zip(mask_a.iter().zip(mask_b));
    words
        .map(|((a, b), (m, n))| {
            let mask = m & n;
            i64::from(mask.count_ones()) - 2 * i64::from(((a ^ b) & mask).count_ones())
        })
        .sum()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "popcnt")]
fn differing_popcnt(a: &[u64], b: &[u64]) -> u64 {
    differing(a, b)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "popcnt")]
fn masked_popcnt(a: &[u64], b: &[u64], mask_a: &[u64], mask_b: &[u64]) -> i64 {
    masked(a, b, mask_a, mask_b)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn signs_avx2(values: &[f32], signs: &mut [f32]) {
    signs_f32(values, signs);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn signs_avx512(values: &[f32], signs: &mut [f32]) {
    signs_f32(values, signs);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn pack_avx2(values: &[f32], negative: &mut [u64], nonzero: &mut [u64]) -> bool {
    let zero = _mm256_setzero_ps();
    let mut unordered = _mm256_setzero_ps();
    let whole = values.len() / 64;
    for (word, chunk) in values.chunks_exact(64).enumerate() {
        let (mut less, mut other) = (0u64, 0u64);
        for (part, eight) in chunk.chunks_exact(8).enumerate() {
            // SAFETY: `eight` is eight floats long; the load needs no alignment.
            let x = unsafe { _mm256_loadu_ps(eight.as_ptr()) };
            let below = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(x, zero));
            let differs = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_NEQ_UQ>(x, zero));
            unordered = _mm256_or_ps(unordered, _mm256_cmp_ps::<_CMP_UNORD_Q>(x, x));
            less |= u64::from(below as u8) << (8 * part);
            other |= u64::from(differs as u8) << (8 * part);
        }
        (negative[word], nonzero[word]) = (less, other);
    }
    let rest = pack(&values[64 * whole..], 0.0, &mut negative[whole..], &mut nonzero[whole..]);
    rest || _mm256_movemask_ps(unordered) != 0
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn pack_avx512(values: &[f32], negative: &mut [u64], nonzero: &mut [u64]) -> bool {
    let zero = _mm512_setzero_ps();
    let mut unordered = 0u16;
    let whole = values.len() / 64;
    for (word, chunk) in values.chunks_exact(64).enumerate() {
        let (mut less, mut other) = (0u64, 0u64);
        for (part, sixteen) in chunk.chunks_exact(16).enumerate() {
            // SAFETY: `sixteen` is sixteen floats long; the load needs no alignment.
            let x = unsafe { _mm512_loadu_ps(sixteen.as_ptr()) };
            less |= u64::from(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(x, zero)) << (16 * part);
            other |= u64::from(_mm512_cmp_ps_mask::<_CMP_NEQ_UQ>(x, zero)) << (16 * part);
            unordered |= _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
        }
        (negative[word], nonzero[word]) = (less, other);
    }
    let rest = pack(&values[64 * whole..], 0.0, &mut negative[whole..], &mut nonzero[whole..]);
    rest || unordered != 0
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vpopcntdq")]
fn differing_avx512(a: &[u64], b: &[u64]) -> u64 {
    let mut sums = [_mm512_setzero_si512(); 2];
    for (k, (a, b)) in a.chunks_exact(8).zip(b.chunks_exact(8)).enumerate() {
        // SAFETY: both chunks are eight words long; the loads need no alignment.
        let (a, b) = unsafe { (_mm512_loadu_si512(a.as_ptr().cast()), _mm512_loadu_si512(b.as_ptr().cast())) };
        sums[k % 2] = _mm512_add_epi64(sums[k % 2], _mm512_popcnt_epi64(_mm512_xor_si512(a, b)));
    }
    _mm512_reduce_add_epi64(_mm512_add_epi64(sums[0], sums[1])) as u64
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vpopcntdq")]
fn masked_avx512(a: &[u64], b: &[u64], mask_a: &[u64], mask_b: &[u64]) -> i64 {
    let (mut common, mut opposite) = (_mm512_setzero_si512(), _mm512_setzero_si512());
    let words = a.chunks_exact(8).zip(b.chunks_exact(8)).zip(mask_a.chunks_exact(8).zip(mask_b.chunks_exact(8)));
    for ((a, b), (m, n)) in words {
        // SAFETY: all four chunks are eight words long; the loads need no alignment.
        let [a, b, m, n] = unsafe { [a, b, m, n].map(|w| _mm512_loadu_si512(w.as_ptr().cast())) };
        let mask = _mm512_and_si512(m, n);
        common = _mm512_add_epi64(common, _mm512_popcnt_epi64(mask));
        let differing = _mm512_and_si512(_mm512_xor_si512(a, b), mask);
        opposite = _mm512_add_epi64(opposite, _mm512_popcnt_epi64(differing));
    }
    _mm512_reduce_add_epi64(common) - 2 * _mm512_reduce_add_epi64(opposite)
}
