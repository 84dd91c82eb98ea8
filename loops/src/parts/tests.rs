//! Products of parts against double precision. Where the processor has no matrix units, what needs them skips.

use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

fn draw(seed: u64, count: usize) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| random.random_range(-1.0..1.0)).collect()
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
                unsafe { multiply(parts, 2, factors, (rows, columns, along), place, add) };
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

    /// The tile of a weight's gradient from columns within both factors. Fails for: columns that are shifted, tokens of the next
    /// example.
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
                packs.rows(parts, &x, width);
                packs.clear();
                let packed = (packs.rows(parts, &g, height), packs.columns(parts, &x, width));
                packs.add_outer((packed.0, rows.clone()), (packed.1, columns.clone()), add, &mut out);
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
