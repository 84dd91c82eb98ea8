//! Products of parts against double precision. Where the processor has no matrix units, what needs them skips.

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
    /// In every form of both factors, written and added. A product is off by `Parts::error` of itself, a sum in single precision by
    /// 2⁻²⁴ of its absolute products for each of `along` + 3·32 additions. Fails for: a part that is left out, factors that are
    /// packed in different orders, edges of blocks, a second run of columns that overwrites the first.
    #[test]
    fn products_equal_double_precision(
        rows in 1usize..50, columns in 1usize..40, along in 1usize..300, forms in 0usize..4, add in any::<bool>(), seed in any::<u64>(),
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
                let mut out = vec![if add { 0.5f32 } else { f32::NAN }; rows * columns];
                let place = Out { values: out.as_mut_ptr(), stride: columns };
                // SAFETY: a matrix of this size, this test's own; there are units.
                unsafe { multiply(parts, factors, (rows, columns, along), place, add) };
                for i in 0..rows {
                    for j in 0..columns {
                        let products = (0..along).map(|k| f64::from(a[i * along + k]) * f64::from(b[j * along + k]));
                        let size: f64 = products.clone().map(f64::abs).sum::<f64>() + 0.5;
                        let exact = products.sum::<f64>() + if add { 0.5 } else { 0.0 };
                        let bound = (parts.error() + (along + 96) as f64 * 2f64.powi(-24)) * size;
                        let error = (f64::from(out[i * columns + j]) - exact).abs();
                        prop_assert!(error <= bound, "{parts:?} at {i}, {j}: {error:e} > {bound:e}");
                    }
                }
            }
        }
    }

    /// Inner products of long rows, between two blocks and within one. A product is off by `Parts::error` of itself, a sum of 512
    /// products in single precision as above. Fails for: a run of entries that overwrites the one before, blocks below the
    /// diagonal in place of those above, columns that are not those of the rows.
    #[test]
    fn inner_products_equal_double_precision(
        rows in 1usize..70, columns in 1usize..40, entries in 1usize..1500, seed in any::<u64>(),
    ) {
        if has_units() {
            let (a, b) = (draw(seed, rows * entries), draw(seed ^ 1, columns * entries));
            let products = |x: &[f32], y: &[f32]| -> (f64, f64) {
                let each = || x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y));
                (each().sum(), each().map(f64::abs).sum())
            };
            for parts in Parts::ALL {
                let mut sums = vec![1.0; rows * columns];
                add_products(parts, &a, &b, entries, false, &mut sums);
                let mut own = vec![0.0; rows * rows];
                add_products(parts, &a, &a, entries, true, &mut own);
                let bound = parts.error() + f64::from(512 + 96) * 2f64.powi(-24);
                for (i, row) in a.chunks_exact(entries).enumerate() {
                    for (j, column) in b.chunks_exact(entries).enumerate() {
                        let (exact, size) = products(row, column);
                        prop_assert!((sums[i * columns + j] - 1.0 - exact).abs() <= bound * size + 1e-15);
                    }
                    for (j, column) in a.chunks_exact(entries).enumerate().skip(i) {
                        let (exact, size) = products(row, column);
                        prop_assert!((own[i * rows + j] - exact).abs() <= bound * size + 1e-15);
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
