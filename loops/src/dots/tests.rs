//! Inner products of rows against double precision, and against one another.

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
