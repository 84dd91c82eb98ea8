//! Products of parts against double precision. Where the processor has no matrix units, what needs them skips.

use std::ops::Range;

use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

fn draw(seed: u64, count: usize) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| random.random_range(-1.0..1.0)).collect()
}

/// The nearest number of bf16, of two the even one.
#[cfg(target_arch = "x86_64")]
fn to_even(x: f32) -> Bf16 {
    let bits = x.to_bits();
    Bf16(((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16)
}

#[cfg(target_arch = "x86_64")]
proptest! {
    /// In every form of both factors, written, added to what is there and to a row. A product is off by `Parts::error` of itself, a
    /// sum in single precision by 2⁻²⁴ of its absolute products for each of `along` + 3·32 additions. Fails for: a part that is left
    /// out, factors that are packed in different orders, edges of blocks, a second run of columns that overwrites the first.
    #[test]
    fn products_equal_double_precision(
        rows in 1usize..50, columns in 1usize..40, along in 1usize..300, forms in 0usize..4, start in 0usize..3,
        seed in any::<u64>(),
    ) {
        if has_units() {
            let (a, b) = (draw(seed, rows * along), draw(seed ^ 1, columns * along));
            let turned = |values: &[f32], rows: usize| -> Vec<f32> {
                (0..rows * along).map(|i| values[i % rows * along + i / rows]).collect()
            };
            let (c, d) = (turned(&a, rows), turned(&b, columns));
            let factor = |plain, turned, rows, contiguous_along| {
                let (values, stride) = if contiguous_along { (plain, along) } else { (turned, rows) };
                Factor { values, stride, contiguous_along }
            };
            let factors = (factor(&a[..], &c[..], rows, forms & 1 == 0), factor(&b[..], &d[..], columns, forms & 2 == 0));
            for parts in Parts::ALL {
                let mut out = vec![if start == 1 { 0.5f32 } else { f32::NAN }; rows * columns];
                let row: Vec<f32> = (0..columns).map(|j| j as f32 / 64.0).collect();
                let place = Out { values: out.as_mut_ptr(), stride: columns };
                let begin = [Start::Zero, Start::Result, Start::Row(row.as_ptr())][start];
                // SAFETY: a matrix of this size, this test's own; there are units.
                unsafe { multiply(parts, factors, (rows, columns, along), place, begin) };
                for i in 0..rows {
                    for j in 0..columns {
                        let products = (0..along).map(|k| f64::from(a[i * along + k]) * f64::from(b[j * along + k]));
                        let size: f64 = products.clone().map(f64::abs).sum::<f64>() + 0.5;
                        let exact = products.sum::<f64>() + [0.0, 0.5, f64::from(row[j])][start];
                        let bound = (parts.error() + (along + 96) as f64 * 2f64.powi(-24)) * size;
                        let error = (f64::from(out[i * columns + j]) - exact).abs();
                        prop_assert!(error <= bound, "{parts:?} at {i}, {j}: {error:e} > {bound:e}");
                    }
                }
            }
        }
    }

    /// Numbers of bf16 are packed as the same numbers in single precision are.
    #[test]
    fn numbers_of_bf16_are_packed_as_they_are(tokens in 1usize..50, height in 1usize..40, width in 1usize..40, seed in any::<u64>()) {
        if has_units() {
            let halves = |seed, count| -> Vec<Bf16> {
                draw(seed, count).into_iter().map(|x| Bf16((x.to_bits() >> 16) as u16)).collect()
            };
            let (g, x) = (halves(seed, tokens * height), halves(seed ^ 1, tokens * width));
            let single = |of: &[Bf16]| -> Vec<f32> { of.iter().map(|x| f32::from_bits(u32::from(x.0) << 16)).collect() };
            let (wide_g, wide_x) = (single(&g), single(&x));
            let product = |g: Values<'_>, x: Values<'_>| {
                let (mut packs, mut out) = (Packs::default(), vec![f32::NAN; height * width]);
                let packed = (packs.rows(Parts::One, g, height), packs.columns(Parts::One, x, width));
                packs.add_outer((packed.0, 0..height), (packed.1, 0..width), false, &mut out);
                out
            };
            let own = product(Values::Bf16(&g), Values::Bf16(&x));
            prop_assert_eq!(own, product(Values::Single(&wide_g), Values::Single(&wide_x)));
        }
    }

    /// The tile of a weight's gradient from columns within both factors; rounded, the same numbers to the nearest of bf16. Fails for:
    /// columns that are shifted, tokens of the next example, digits that are cut off.
    #[test]
    fn outer_products_equal_double_precision(
        tokens in 1usize..80, heights in (0usize..3, 1usize..70), widths in (0usize..3, 1usize..70), add in any::<bool>(), seed in any::<u64>(),
    ) {
        if has_units() {
            let (first, start) = (ALIGNMENT * heights.0, ALIGNMENT * widths.0);
            let (height, width) = (first + heights.1 + 3, start + widths.1 + 5);
            let (g, x) = (draw(seed, tokens * height), draw(seed ^ 1, tokens * width));
            let (rows, columns) = (first..first + heights.1, start..start + widths.1);
            for parts in Parts::ALL {
                let mut out = vec![if add { 0.5 } else { f32::NAN }; heights.1 * widths.1];
                let mut packs = Packs::default();
                // Memory of others before them.
                let (values_g, values_x) = (Values::Single(&g), Values::Single(&x));
                packs.rows(parts, values_x, width);
                packs.clear();
                let packed = (packs.rows(parts, values_g, height), packs.columns(parts, values_x, width));
                packs.add_outer((packed.0, rows.clone()), (packed.1, columns.clone()), add, &mut out);
                if parts == Parts::One && !add {
                    let mut rounded = vec![Bf16(0); out.len()];
                    packs.write_rounded((packed.0, rows.clone()), (packed.1, columns.clone()), &mut rounded);
                    let expected: Vec<Bf16> = out.iter().map(|x| to_even(*x)).collect();
                    prop_assert_eq!(rounded, expected);
                }
                for (i, row) in rows.clone().enumerate() {
                    for (j, column) in columns.clone().enumerate() {
                        let products =
                            (0..tokens).map(|t| f64::from(g[t * height + row]) * f64::from(x[t * width + column]));
                        let size: f64 = products.clone().map(f64::abs).sum::<f64>() + 0.5;
                        let exact = products.sum::<f64>() + if add { 0.5 } else { 0.0 };
                        let error = (f64::from(out[i * widths.1 + j]) - exact).abs();
                        prop_assert!(error <= (parts.error() + (tokens + 96) as f64 * 2f64.powi(-24)) * size);
                    }
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Inner products of gradients `Σ_t g_t x_tᵀ` that are gathered tile by tile, and through their factors, between two sides and
    /// within one, against gradients in double precision. A product is off by four roundings of factors at most, and by those of sums
    /// in single precision. Fails for: entries of another row, of a block, or beyond a tile's edge, a factor that is not added, tokens
    /// of the next example, outputs or batches exchanged, half of a block on the diagonal.
    #[test]
    fn inner_products_of_gradients_equal_double_precision(
        batches in prop::collection::vec((1usize..5, 1usize..70), 1..3), other in (1usize..40, 1usize..40), outputs in 1usize..3,
        (height, width) in (1usize..70, 1usize..70), cut in (1usize..70, 1usize..70), factors in 1usize..3, seed in any::<u64>(),
    ) {
        if multiplies_gradients(Parts::One) {
            let side = |batches: &[(usize, usize)], seed: u64| -> Vec<Sample> {
                let of = |(at, (examples, tokens)): (usize, &(usize, usize))| {
                    Sample::new((*examples, *tokens), outputs, (height, width), seed ^ (at as u64) << 32)
                };
                batches.iter().enumerate().map(of).collect()
            };
            let (own, others) = (side(&batches, seed), side(&[other], !seed));
            for parts in Parts::ALL {
                for right in [None, Some(&others)] {
                    let bound = 2.0 * parts.error() + 1500.0 * 2f64.powi(-24);
                    let check = |sums: &[f64], uses: f64, part: (usize, usize)| {
                        let inside = |values: &[f64]| -> Vec<f64> {
                            let rows = values.chunks_exact(width).take(part.0);
                            rows.flat_map(|row| &row[..part.1]).copied().collect()
                        };
                        let of = |side| -> Vec<_> {
                            dense(side).iter().map(|(values, sizes)| (inside(values), inside(sizes))).collect()
                        };
                        let (rows, columns) = (of(&own), of(right.unwrap_or(&own)));
                        for (i, (a, a_size)) in rows.iter().enumerate() {
                            for (j, (b, b_size)) in columns.iter().enumerate().filter(|(j, _)| right.is_some() || i <= *j) {
                                let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>() * uses * uses;
                                let error = (sums[i * columns.len() + j] - dot(a, b)).abs();
                                assert!(error <= bound * dot(a_size, b_size), "{parts:?}, {i}, {j}: {error:e}");
                            }
                        }
                    };
                    let packed = |side: &[Sample]| {
                        let mut tokens = Tokens::default();
                        tokens.begin(parts, (width, height), outputs);
                        for s in side {
                            tokens.push(Values::Single(&s.x), Values::Single(&s.g), s.tokens);
                        }
                        tokens
                    };
                    let (left, columns) = (packed(&own), right.map(|side| packed(side)));
                    let mut sums = vec![0.0; count(&own) * count(right.unwrap_or(&own))];
                    left.add_products(columns.as_ref(), &mut sums);
                    check(&sums, 1.0, (height, width));

                    let tile = |rows: Range<usize>, columns: Range<usize>, sums: &mut [f64]| {
                        let gathered = |side: &[Sample]| {
                            let (mut packs, mut out) = (Packs::default(), Gathered::default());
                            let rows_of: Vec<_> = side.iter().flat_map(|s| s.packed(parts, factors, &mut packs)).collect();
                            // A tile that had other entries before.
                            out.begin(parts, rows_of.len(), (ALIGNMENT, 3 * ALIGNMENT));
                            out.begin(parts, rows_of.len(), (rows.len(), columns.len()));
                            packs.gather(&rows_of, (&rows, &columns), 0, &mut out);
                            out
                        };
                        let (left, right) = (gathered(&own), right.map(|side| gathered(side)));
                        left.add_products(right.as_ref(), sums);
                    };
                    let mut sums = vec![0.0; sums.len()];
                    for i in (0..height).step_by(ALIGNMENT) {
                        for j in (0..width).step_by(2 * ALIGNMENT) {
                            tile(i..height.min(i + ALIGNMENT), j..width.min(j + 2 * ALIGNMENT), &mut sums);
                        }
                    }
                    check(&sums, factors as f64, (height, width));
                    // A tile that ends within the factors.
                    let part = (height.min(cut.0), width.min(cut.1));
                    let mut sums = vec![0.0; sums.len()];
                    tile(0..part.0, 0..part.1, &mut sums);
                    check(&sums, factors as f64, part);
                }
            }
        }
    }
}

/// A batch's factors: x \[examples, tokens, width\], g \[outputs, examples, tokens, height\].
#[cfg(target_arch = "x86_64")]
struct Sample {
    examples: usize,
    tokens: usize,
    outputs: usize,
    size: (usize, usize),
    x: Vec<f32>,
    g: Vec<f32>,
}

#[cfg(target_arch = "x86_64")]
impl Sample {
    fn new((examples, tokens): (usize, usize), outputs: usize, size: (usize, usize), seed: u64) -> Self {
        let (x, g) = (draw(seed, examples * tokens * size.1), draw(seed ^ 1, outputs * examples * tokens * size.0));
        Self { examples, tokens, outputs, size, x, g }
    }

    /// The factors x and g of every gradient, output by output.
    fn rows(&self) -> impl Iterator<Item = (&[f32], &[f32])> {
        let (x, g) = (self.tokens * self.size.1, self.tokens * self.size.0);
        (0..self.outputs * self.examples)
            .map(move |row| (&self.x[row % self.examples * x..][..x], &self.g[row * g..][..g]))
    }

    /// The factors of every gradient, packed, and so many times the same: a sum of as many outer products.
    fn packed(&self, parts: Parts, times: usize, packs: &mut Packs) -> Vec<Vec<(Rows, Columns)>> {
        let mut pack = |(x, g): (&[f32], &[f32])| {
            let packed = (
                packs.rows(parts, Values::Single(g), self.size.0),
                packs.columns(parts, Values::Single(x), self.size.1),
            );
            vec![packed; times]
        };
        self.rows().map(&mut pack).collect()
    }
}

/// Number of gradients.
#[cfg(target_arch = "x86_64")]
fn count(side: &[Sample]) -> usize {
    side.iter().map(|sample| sample.outputs * sample.examples).sum()
}

/// Every gradient's entries, and the sums of their products' absolute values.
#[cfg(target_arch = "x86_64")]
fn dense(side: &[Sample]) -> Vec<(Vec<f64>, Vec<f64>)> {
    let entries = |sample: &Sample, (x, g): (&[f32], &[f32]), value: fn(f64) -> f64| -> Vec<f64> {
        let (height, width) = sample.size;
        let entry = |i: usize, j: usize| {
            (0..sample.tokens).map(|t| value(f64::from(g[t * height + i]) * f64::from(x[t * width + j]))).sum()
        };
        (0..height).flat_map(|i| (0..width).map(move |j| (i, j))).map(|(i, j)| entry(i, j)).collect()
    };
    let both = |sample: &'_ Sample| -> Vec<_> {
        sample.rows().map(|row| (entries(sample, row, |x| x), entries(sample, row, f64::abs))).collect()
    };
    side.iter().flat_map(both).collect()
}

/// Sizes that are cut in every direction: rows, columns, sums in several goes and in spans, factors in both forms, added to a row and to
/// what is there. Fails for: rows that are packed for another go, a span that begins anew.
#[cfg(target_arch = "x86_64")]
#[test]
fn large_products_equal_double_precision() {
    if !has_units() {
        return;
    }
    for (rows, columns, along) in [(530, 270, 40), (70, 290, 1700), (40, 260, 5000)] {
        let (a, b) = (draw(1, rows * along), draw(2, columns * along));
        let turned: Vec<f32> = (0..columns * along).map(|i| b[i % columns * along + i / columns]).collect();
        let row: Vec<f32> = (0..columns).map(|j| j as f32 / 64.0).collect();
        let sums = |absolute: bool| -> Vec<f64> {
            let product = |x: &f32, y: &f32| f64::from(*x) * f64::from(*y);
            let of = |x: &[f32], y: &[f32]| -> f64 {
                x.iter().zip(y).map(|(x, y)| if absolute { product(x, y).abs() } else { product(x, y) }).sum()
            };
            a.chunks_exact(along).flat_map(|x| b.chunks_exact(along).map(move |y| of(x, y))).collect()
        };
        let (exact, sizes) = (sums(false), sums(true));
        for (parts, contiguous_along) in Parts::ALL.into_iter().flat_map(|parts| [(parts, true), (parts, false)]) {
            let first = Factor { values: &a[..], stride: along, contiguous_along: true };
            let (values, stride) = if contiguous_along { (&b[..], along) } else { (&turned[..], columns) };
            let factors = (first, Factor { values, stride, contiguous_along });
            let mut out = vec![if contiguous_along { f32::NAN } else { 0.5 }; rows * columns];
            let place = Out { values: out.as_mut_ptr(), stride: columns };
            let start = if contiguous_along { Start::Row(row.as_ptr()) } else { Start::Result };
            // SAFETY: matrices of these sizes, this test's own; there are units.
            unsafe { multiply(parts, factors, (rows, columns, along), place, start) };
            for (at, found) in out.iter().enumerate() {
                let begin = if contiguous_along { f64::from(row[at % columns]) } else { 0.5 };
                let error = (f64::from(*found) - exact[at] - begin).abs();
                let bound = (parts.error() + (along + 96) as f64 * 2f64.powi(-24)) * (sizes[at] + begin);
                assert!(error <= bound, "{parts:?} at {at}: {error:e} > {bound:e}");
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
proptest! {
    /// Products with rows and with their signs on matrix units, each alone and all together, of two blocks and of one with itself,
    /// against double precision; the tiniest numbers have signs, too. A product is off by `Parts::error` of itself, a sum by 2⁻²⁴ for
    /// each product of parts that is added, so that rows of a single entry show every part. Fails for: a part that is left out, signs
    /// of another strip, of parts, or of the other side, a chunk that is skipped, plain products below the diagonal.
    #[test]
    fn signed_products_equal_double_precision(
        rows in 1usize..70, columns in 1usize..70, entries in prop_oneof![1usize..4, 1usize..1700], wanted in 1usize..8,
        seed in any::<u64>(),
    ) {
        if multiplies_gradients(Parts::One) {
            let numbers = |seed: u64, count: usize| -> Vec<f32> {
                let mut random = ChaCha8Rng::seed_from_u64(seed);
                let mut number = || match random.random_range(0..10) {
                    0 => 0.0,
                    1 => random.random_range(-1e-39..1e-39),
                    _ => random.random_range(-1.0..1.0),
                };
                (0..count).map(|_| number()).collect()
            };
            let sign = |x: f32| f64::from(i8::from(x > 0.0) - i8::from(x < 0.0));
            let (a, b) = (numbers(seed, rows * entries), numbers(seed ^ 1, columns * entries));
            for (parts, other) in Parts::ALL.into_iter().flat_map(|parts| [(parts, Some(&b)), (parts, None)]) {
                let right = other.unwrap_or(&a);
                let count = right.len() / entries;
                let mut found = [(); 3].map(|()| vec![0.5; rows * count]);
                let [plain, right_signs, left_signs] = &mut found;
                let asked = |k: usize, sums| (wanted >> k & 1 == 1).then_some(sums);
                let sums = crate::dots::SignedSums {
                    plain: asked(0, &mut plain[..]),
                    right_signs: asked(1, &mut right_signs[..]),
                    left_signs: asked(2, &mut left_signs[..]),
                };
                add_signed_products(parts, &a, other.map(Vec::as_slice), entries, sums);
                for (at, (i, j)) in (0..rows).flat_map(|i| (0..count).map(move |j| (i, j))).enumerate() {
                    let pairs = || a[i * entries..][..entries].iter().zip(&right[j * entries..][..entries]);
                    for k in (0..3).filter(|k| wanted >> k & 1 == 1 && (*k > 0 || other.is_some() || i <= j)) {
                        let product = |(x, y): (&f32, &f32)| match k {
                            0 => f64::from(*x) * f64::from(*y),
                            1 => f64::from(*x) * sign(*y),
                            _ => sign(*x) * f64::from(*y),
                        };
                        let (exact, size) = pairs().map(product).fold((0.5, 0.0), |(sum, size), p| (sum + p, size + p.abs()));
                        // Those of three parts are as exact as their sums.
                        let rounding = if parts == Parts::Three { 0.0 } else { parts.error() };
                        let products = [[1, 1], [3, 2], [6, 3]][parts as usize][usize::from(k > 0)];
                        let additions = f64::from(entries.min(512) as u32 * products + 4);
                        let bound = (rounding + additions * 2f64.powi(-24)) * size + 1e-37;
                        let error = (found[k][at] - exact).abs();
                        prop_assert!(error <= bound, "{parts:?}, {k}, {i}, {j} of {entries}: {error:e} > {bound:e}");
                    }
                }
            }
        }
    }
}
