//! Inner products of the rows of two blocks in single precision, summed in double precision: a few long rows, all pairs. Rows
//! may be rounded to bf16, which inner products of vectors (AVX512-BF16) read and multiply twice as fast.
//!
//! Matrix libraries are made for blocks that are large both ways; with 32 rows and thousands of entries they reach about
//! half of their speed, and compute both halves of a symmetric result. Here six rows meet four rows in registers, entries
//! are cut so that rows stay in the cache, and only the upper triangle is computed where both blocks are one.

use crate::Lanes;
use crate::instructions::has_avx512;
use crate::parts::{Bf16, Parts, multiplies_rounded};
#[cfg(target_arch = "x86_64")]
use crate::parts::{Wanted, add_signed_products as add_by_units, multiplies_rows};

/// Left rows of a register tile, which stay in the first cache while right rows pass by: 24 accumulators and 5 operands of 32
/// registers.
const HEIGHT: usize = 6;

/// Right rows of a register tile.
const WIDTH: usize = 4;

/// Bytes of a row that are taken at a time: 6 + 4 rows of them fit into a first-level cache of 32 KB.
const CHUNK: usize = 3072;

/// Adds `<a_i, b_j>` to `sums` \[rows of a, rows of b\] for all rows of `entries` numbers; with `upper`, where a is b, for
/// i ≤ j (and some below the diagonal). Matrix units, if there are any, multiply as many bf16 parts of every number as are asked for, of
/// which three are exact, where that is faster: in two and three parts, of many rows. Otherwise products are those of single precision.
///
/// # Panics
/// If [`has_avx512`] does not hold, or lengths do not fit.
pub fn add_products(parts: Parts, a: &[f32], b: &[f32], entries: usize, upper: bool, sums: &mut [f64]) {
    assert!(has_avx512(), "AVX-512");
    #[cfg(target_arch = "x86_64")]
    {
        let wanted = if upper { Wanted::Half } else { Wanted::Plain };
        if multiplies_rows(parts, wanted, a.len() / entries, b.len() / entries) {
            let sums = SignedSums { plain: Some(sums), ..SignedSums::default() };
            return add_by_units(parts, a, (!upper).then_some(b), entries, sums);
        }
    }
    #[cfg(target_arch = "x86_64")]
    // SAFETY: AVX-512 is available, as asserted.
    in_chunks((a, b), entries, upper, sums, |left, right| unsafe { x86::single::tile(left, right) });
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (parts, a, b, entries, upper, sums);
}

/// The same for rows that are rounded to bf16; products are exact, and sums in single precision as there.
///
/// # Panics
/// If [`multiplies_rounded`] does not hold, or lengths do not fit.
pub fn add_rounded_products(a: &[Bf16], b: &[Bf16], entries: usize, upper: bool, sums: &mut [f64]) {
    assert!(multiplies_rounded(), "inner products of bf16");
    #[cfg(target_arch = "x86_64")]
    // SAFETY: AVX-512 with bf16 is available, as asserted.
    in_chunks((a, b), entries, upper, sums, |left, right| unsafe { x86::rounded::tile(left, right) });
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (a, b, entries, upper, sums);
}

/// What [`add_signed_products`] adds to, each \[rows of a, rows of b\] if asked for.
#[derive(Default)]
pub struct SignedSums<'s> {
    /// `<a_i, b_j>`.
    pub plain: Option<&'s mut [f64]>,
    /// `<a_i, sign b_j>`.
    pub right_signs: Option<&'s mut [f64]>,
    /// `<sign a_i, b_j>`.
    pub left_signs: Option<&'s mut [f64]>,
}

/// Adds products of rows and of their signs; without b, of a with itself, plain ones for i ≤ j (and some below the diagonal). Of up to
/// some hundred rows a chunk and its signs stay in the second cache, so that rows are read from beyond it once.
///
/// They are those of [`add_products`] in its order, or, of many rows, those of matrix units, if there are any: two to three times
/// as fast with three parts.
///
/// # Panics
/// If [`has_avx512`] does not hold, or lengths do not fit.
pub fn add_signed_products(
    parts: Parts,
    a: &[f32],
    b: Option<&[f32]>,
    entries: usize,
    sums: SignedSums<'_>,
    lanes: Lanes,
) {
    assert!(has_avx512(), "AVX-512");
    #[cfg(target_arch = "x86_64")]
    if multiplies_rows(parts, Wanted::Signed, a.len() / entries, b.unwrap_or(a).len() / entries) {
        return add_by_units(parts, a, b, entries, sums);
    }
    #[cfg(target_arch = "x86_64")]
    // SAFETY: AVX-512 is available, as asserted.
    signed_in_chunks(a, b, entries, sums, lanes, |left, right| unsafe { x86::single::tile(left, right) });
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (parts, a, b, entries, sums, lanes);
}

/// Some rows of a block, or all of them, and of their entries those of a chunk.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
struct Rows<'a, T> {
    /// The block from the first of the entries on.
    values: &'a [T],
    /// Numbers from one row to the next.
    stride: usize,
    count: usize,
    length: usize,
}

#[cfg(target_arch = "x86_64")]
impl<'a, T: Copy> Rows<'a, T> {
    /// A chunk of the rows of a block.
    fn chunk(block: &'a [T], entries: usize, (start, length): (usize, usize)) -> Self {
        let count = block.len() / entries;
        Self { values: &block[start.min(block.len())..], stride: entries, count, length }
    }

    /// Some of them.
    fn some(self, first: usize, most: usize) -> Self {
        Self { values: &self.values[first * self.stride..], count: most.min(self.count - first), ..self }
    }

    /// A row of them.
    fn get(&self, row: usize) -> &'a [T] {
        &self.values[row * self.stride..][..self.length]
    }
}

/// The chunks of so many entries: first entry and length.
#[cfg(target_arch = "x86_64")]
fn chunks<T>(entries: usize) -> impl Iterator<Item = (usize, usize)> {
    let chunk = CHUNK / size_of::<T>();
    (0..entries).step_by(chunk).map(move |start| (start, chunk.min(entries - start)))
}

/// Adds the inner products of register tiles of rows, chunk by chunk of their entries.
#[cfg(target_arch = "x86_64")]
fn in_chunks<'a, T: Copy>(
    (a, b): (&'a [T], &'a [T]),
    entries: usize,
    upper: bool,
    sums: &mut [f64],
    tile: impl Fn(Rows<'a, T>, Rows<'a, T>) -> [[f32; WIDTH]; HEIGHT],
) {
    let (rows, columns) = (a.len() / entries, b.len() / entries);
    assert_eq!((a.len(), b.len(), sums.len()), (rows * entries, columns * entries, rows * columns));
    for chunk in chunks::<T>(entries) {
        add_chunk((Rows::chunk(a, entries, chunk), Rows::chunk(b, entries, chunk)), upper, sums, &tile);
    }
}

/// Adds the inner products of a chunk.
#[cfg(target_arch = "x86_64")]
fn add_chunk<'a, T: Copy>(
    (a, b): (Rows<'a, T>, Rows<'a, T>),
    upper: bool,
    sums: &mut [f64],
    tile: &impl Fn(Rows<'a, T>, Rows<'a, T>) -> [[f32; WIDTH]; HEIGHT],
) {
    for i in (0..a.count).step_by(HEIGHT) {
        let left = a.some(i, HEIGHT);
        for j in (if upper { i } else { 0 }..b.count).step_by(WIDTH) {
            let right = b.some(j, WIDTH);
            for (r, row) in tile(left, right).iter().enumerate().take(left.count) {
                for (c, value) in row.iter().enumerate().take(right.count) {
                    sums[(i + r) * b.count + j + c] += f64::from(*value);
                }
            }
        }
    }
}

/// Adds the inner products of rows and of their signs, chunk by chunk.
#[cfg(target_arch = "x86_64")]
fn signed_in_chunks(
    a: &[f32],
    b: Option<&[f32]>,
    entries: usize,
    mut sums: SignedSums<'_>,
    lanes: Lanes,
    tile: impl for<'a> Fn(Rows<'a, f32>, Rows<'a, f32>) -> [[f32; WIDTH]; HEIGHT],
) {
    thread_local! {
        /// The signs of a chunk of a, and of b.
        static SIGNS: std::cell::RefCell<[Vec<f32>; 2]> = const { std::cell::RefCell::new([Vec::new(), Vec::new()]) };
    }
    let of = |block: &[f32]| block.len() / entries;
    let (rows, columns) = (of(a), of(b.unwrap_or(a)));
    assert_eq!((a.len(), b.unwrap_or(a).len()), (rows * entries, columns * entries));
    for sums in [&sums.plain, &sums.right_signs, &sums.left_signs].into_iter().flatten() {
        assert_eq!(sums.len(), rows * columns);
    }
    SIGNS.with_borrow_mut(|[of_a, of_b]| {
        for chunk in chunks::<f32>(entries) {
            let left = Rows::chunk(a, entries, chunk);
            let right = Rows::chunk(b.unwrap_or(a), entries, chunk);
            if let Some(sums) = &mut sums.plain {
                add_chunk((left, right), b.is_none(), sums, &tile);
            }
            if let Some(sums) = &mut sums.right_signs {
                add_chunk((left, signs(right, of_b, lanes)), false, sums, &tile);
            }
            if let Some(sums) = &mut sums.left_signs {
                add_chunk((signs(left, of_a, lanes), right), false, sums, &tile);
            }
        }
    });
}

/// The signs of rows, in memory of their own.
#[cfg(target_arch = "x86_64")]
fn signs<'a>(rows: Rows<'_, f32>, kept: &'a mut Vec<f32>, lanes: Lanes) -> Rows<'a, f32> {
    use crate::Real;
    // Whole vectors, an odd number of them: a power of two would put all rows into the same few sets of a cache.
    let stride = 16 * (rows.length.div_ceil(16) | 1);
    if kept.len() < rows.count * stride {
        kept.resize(rows.count * stride, 0.0);
    }
    for (row, signs) in kept.chunks_exact_mut(stride).take(rows.count).enumerate() {
        f32::signs(rows.get(row), &mut signs[..rows.length], lanes);
    }
    Rows { values: kept, stride, ..rows }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m512, _mm_add_ps, _mm_storeu_ps, _mm512_add_ps, _mm512_castpd_ps, _mm512_castps_pd, _mm512_extractf32x4_ps,
        _mm512_unpackhi_pd, _mm512_unpackhi_ps, _mm512_unpacklo_pd, _mm512_unpacklo_ps,
    };

    use super::WIDTH;

    /// The sums of four vectors' lanes.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn lane_sums(of: [__m512; WIDTH]) -> [f32; WIDTH] {
        // Two lanes of each of two vectors, then one of each of four, in every quarter.
        let two = |a, b| _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
        let (ab, cd) = (_mm512_castps_pd(two(of[0], of[1])), _mm512_castps_pd(two(of[2], of[3])));
        let (low, high) = (_mm512_unpacklo_pd(ab, cd), _mm512_unpackhi_pd(ab, cd));
        let quarters = _mm512_add_ps(_mm512_castpd_ps(low), _mm512_castpd_ps(high));
        let (a, b) = (_mm512_extractf32x4_ps::<0>(quarters), _mm512_extractf32x4_ps::<1>(quarters));
        let (c, d) = (_mm512_extractf32x4_ps::<2>(quarters), _mm512_extractf32x4_ps::<3>(quarters));
        let sums = _mm_add_ps(_mm_add_ps(a, c), _mm_add_ps(b, d));
        let mut result = [0.0; WIDTH];
        // SAFETY: four numbers.
        unsafe { _mm_storeu_ps(result.as_mut_ptr(), sums) };
        result
    }

    /// Inner products of up to six rows with up to four rows, by vectors of one type of number.
    macro_rules! inner_products {
        ($name:ident: $features:literal, $number:ty, $lanes:literal, $mask:ty, $vector:ty, $load:expr, $multiply:expr) => {
            pub(in super::super) mod $name {
                use std::arch::x86_64::*;

                use super::super::{HEIGHT, Rows, WIDTH};
                use super::lane_sums;

                /// All pairs of rows; what is beyond the rows has no meaning.
                #[target_feature(enable = $features)]
                pub fn tile(left: Rows<'_, $number>, right: Rows<'_, $number>) -> [[f32; WIDTH]; HEIGHT] {
                    match left.count {
                        1 => exact::<1>(left, right),
                        2 => exact::<2>(left, right),
                        3 => exact::<3>(left, right),
                        4 => exact::<4>(left, right),
                        5 => exact::<5>(left, right),
                        _ => exact::<HEIGHT>(left, right),
                    }
                }

                #[inline]
                #[target_feature(enable = $features)]
                fn exact<const H: usize>(left: Rows<'_, $number>, right: Rows<'_, $number>) -> [[f32; WIDTH]; HEIGHT] {
                    let length = left.length;
                    assert_eq!(length, right.length, "entries of a row");
                    let left: [&[$number]; H] = std::array::from_fn(|row| left.get(row));
                    // The last row in place of rows that are missing.
                    let right: [&[$number]; WIDTH] = std::array::from_fn(|row| right.get(row.min(right.count - 1)));
                    let mut sums = [[_mm512_setzero_ps(); WIDTH]; H];
                    let mut step = |at: usize, mask: $mask| {
                        // SAFETY: entries from `at` on that the mask marks lie within every row.
                        let load = |row: &[$number]| -> $vector { unsafe { $load(mask, row.as_ptr().add(at)) } };
                        let b: [$vector; WIDTH] = right.map(load);
                        for (row, sums) in left.iter().zip(&mut sums) {
                            let a = load(row);
                            for (b, sum) in b.iter().zip(sums) {
                                *sum = $multiply(*sum, a, *b);
                            }
                        }
                    };
                    let whole = length / $lanes * $lanes;
                    for at in (0..whole).step_by($lanes) {
                        step(at, <$mask>::MAX);
                    }
                    if whole < length {
                        step(whole, (1 << (length - whole)) - 1);
                    }
                    let mut result = [[0.0; WIDTH]; HEIGHT];
                    for (row, sums) in result.iter_mut().zip(sums) {
                        *row = lane_sums(sums);
                    }
                    result
                }
            }
        };
    }

    inner_products!(single: "avx512f", f32, 16, u16, __m512,
        |mask, place| _mm512_maskz_loadu_ps(mask, place),
        |sum, a, b| _mm512_fmadd_ps(a, b, sum));

    inner_products!(rounded: "avx512f,avx512bw,avx512bf16", crate::parts::Bf16, 32, u32, __m512bh,
        |mask, place: *const crate::parts::Bf16| std::mem::transmute::<__m512i, __m512bh>(_mm512_maskz_loadu_epi16(mask, place.cast())),
        |sum, a, b| _mm512_dpbf16_ps(sum, a, b));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against double precision. A lane sums a chunk's 768/16 products and 16 lanes are added in four steps, so that the
        /// error is below (48 + 5)·2⁻²⁴ of the sum of absolute products; chunks are summed in double precision. Of numbers
        /// of bf16 a lane sums 48 pairs, each of two roundings. Fails for: entries of a chunk or a row that are left out,
        /// rows below the diagonal in place of those above.
        #[test]
        fn products_equal_double_precision(
            rows in 1usize..14, columns in 1usize..10, entries in 1usize..2500, seed in any::<u64>(),
        ) {
            use rand::{Rng, SeedableRng};
            let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
            // Numbers of bf16, which both have exactly.
            let mut draw = |n: usize| -> Vec<Bf16> {
                (0..n * entries).map(|_| Bf16((random.random_range(-1f32..1.0).to_bits() >> 16) as u16)).collect()
            };
            let single = |of: &[Bf16]| -> Vec<f32> { of.iter().map(|x| f32::from_bits(u32::from(x.0) << 16)).collect() };
            let (short_a, short_b) = (draw(rows), draw(columns));
            let (a, b) = (single(&short_a), single(&short_b));
            for rounded in [false, true] {
                if !(if rounded { multiplies_rounded() } else { has_avx512() }) {
                    continue;
                }
                let (mut sums, mut own) = (vec![1.0; rows * columns], vec![0.0; rows * rows]);
                if rounded {
                    add_rounded_products(&short_a, &short_b, entries, false, &mut sums);
                    add_rounded_products(&short_a, &short_a, entries, true, &mut own);
                } else {
                    add_products(Parts::Three, &a, &b, entries, false, &mut sums);
                    add_products(Parts::Three, &a, &a, entries, true, &mut own);
                }
                let exact = |x: &[f32], y: &[f32]| -> (f64, f64) {
                    let products = || x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y));
                    (products().sum(), products().map(f64::abs).sum())
                };
                let bound = if rounded { 2 * 48 + 5 } else { 48 + 5 };
                let bound = f64::from(bound) * 2f64.powi(-24);
                for i in 0..rows {
                    let row = &a[i * entries..][..entries];
                    for j in 0..columns {
                        let (value, size) = exact(row, &b[j * entries..][..entries]);
                        prop_assert!((sums[i * columns + j] - 1.0 - value).abs() <= bound * size + 1e-15);
                    }
                    for j in i..rows {
                        let (value, size) = exact(row, &a[j * entries..][..entries]);
                        prop_assert!((own[i * rows + j] - value).abs() <= bound * size + 1e-15);
                    }
                }
            }
        }

        /// Of so many rows that matrix units multiply them, if there are any, against double precision; of one block with itself on
        /// and above the diagonal. Units add six products of parts per entry, each with an error of 2⁻²⁴ of what is added, for 512
        /// entries at a time. Fails for: another block in place of itself, and the reverse.
        #[test]
        fn products_of_many_rows_equal_double_precision(seed in any::<u64>(), entries in 500usize..700) {
            use rand::{Rng, SeedableRng};
            if has_avx512() {
                let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
                let mut draw = |n: usize| -> Vec<f32> { (0..n * entries).map(|_| random.random_range(-1.0..1.0)).collect() };
                let (a, b) = (draw(96), draw(64));
                let (mut sums, mut own) = (vec![0.0; 96 * 64], vec![0.0; 96 * 96]);
                add_products(Parts::Three, &a, &b, entries, false, &mut sums);
                add_products(Parts::Three, &a, &a, entries, true, &mut own);
                let off = |found: f64, x: &[f32], y: &[f32]| {
                    let products = || x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y));
                    let size: f64 = products().map(f64::abs).sum();
                    (found - products().sum::<f64>()).abs() / size
                };
                let bound = f64::from(6 * 512 + 4) * 2f64.powi(-24);
                for (i, row) in a.chunks_exact(entries).enumerate() {
                    for (j, other) in b.chunks_exact(entries).enumerate() {
                        prop_assert!(off(sums[i * 64 + j], row, other) < bound, "{i}, {j}");
                    }
                    for (j, other) in a.chunks_exact(entries).enumerate().skip(i) {
                        prop_assert!(off(own[i * 96 + j], row, other) < bound, "{i}, {j} of one");
                    }
                }
            }
        }

        /// Fewer parts where these are asked for, if there are matrix units: products of numbers of bf16 are the same in any number of parts,
        /// those of others are off by what is left out. Fails for: another number of parts than asked for.
        #[test]
        fn products_have_the_parts_that_are_asked_for(seed in any::<u64>(), rows in (2usize..4).prop_map(|strips| 32 * strips), entries in 1usize..40) {
            use rand::{Rng, SeedableRng};
            if has_avx512() {
                let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
                let a: Vec<f32> = (0..rows * entries).map(|_| random.random_range(0.5..1.0)).collect();
                let error = |parts: Parts, signed: bool| {
                    let mut found = vec![0.0; rows * rows];
                    if signed {
                        let sums = SignedSums { right_signs: Some(&mut found), ..SignedSums::default() };
                        add_signed_products(parts, &a, None, entries, sums, Lanes::best());
                    } else {
                        add_products(parts, &a, &a, entries, false, &mut found);
                    }
                    let row = |i: usize| a[i * entries..][..entries].iter().map(|x| f64::from(*x));
                    let exact = |i: usize, j: usize| row(i).zip(row(j)).map(|(x, y)| if signed { x } else { x * y }).sum::<f64>();
                    let off = |at: usize| (found[at] / exact(at / rows, at % rows) - 1.0).abs();
                    (0..rows * rows).map(off).fold(0.0, f64::max)
                };
                for signed in [false, true] {
                    let [one, two, three] = Parts::ALL.map(|parts| error(parts, signed));
                    prop_assert!(three < 1e-6, "{signed}: {three:e}");
                    if crate::parts::multiplies_gradients(Parts::One) {
                        prop_assert!(one > 1e-4 && one < 1e-2, "{signed}: {one:e}");
                        // Exactly those of single precision only by chance.
                        prop_assert!(two < 5e-5 && (two > three || entries < 3), "{signed}: {two:e}, {three:e}");
                    } else {
                        prop_assert!(one < 1e-6 && two < 1e-6);
                    }
                }
            }
        }

        /// Bit for bit the products with written signs (so few rows are not for matrix units), each alone and all together, of two
        /// blocks and of one with itself. Fails for: sums exchanged, signs of another chunk or of the last rows before.
        #[test]
        fn products_with_signs_are_those_of_written_signs(
            rows in 1usize..14, columns in 1usize..10, entries in 1usize..2500, seed in any::<u64>(), wanted in 0usize..8,
        ) {
            use rand::{Rng, SeedableRng};
            if has_avx512() {
                let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
                let mut draw = |n: usize| -> Vec<f32> {
                    (0..n * entries).map(|_| if random.random_bool(0.1) { 0.0 } else { random.random_range(-1.0..1.0) }).collect()
                };
                let (a, b) = (draw(rows), draw(columns));
                let signs = |of: &[f32]| -> Vec<f32> {
                    of.iter().map(|x| if *x == 0.0 { 0.0 } else { x.signum() }).collect()
                };
                for other in [Some(&b), None] {
                    let (right, size) = (other.unwrap_or(&a), rows * other.map_or(rows, |_| columns));
                    let mut expected = [(); 3].map(|()| vec![0.5; size]);
                    let mut found = expected.clone();
                    let factors = [(&a, right.clone()), (&a, signs(right)), (&signs(&a), right.clone())];
                    for (k, (left, right)) in factors.into_iter().enumerate().filter(|(k, _)| wanted >> k & 1 == 1) {
                        add_products(Parts::Three, left, &right, entries, k == 0 && other.is_none(), &mut expected[k]);
                    }
                    let [plain, right_signs, left_signs] = &mut found;
                    let asked = |k: usize, sums| (wanted >> k & 1 == 1).then_some(sums);
                    let sums = SignedSums {
                        plain: asked(0, &mut plain[..]),
                        right_signs: asked(1, &mut right_signs[..]),
                        left_signs: asked(2, &mut left_signs[..]),
                    };
                    add_signed_products(Parts::Three, &a, other.map(Vec::as_slice), entries, sums, Lanes::best());
                    prop_assert_eq!(&found, &expected);
                }
            }
        }
    }
}
