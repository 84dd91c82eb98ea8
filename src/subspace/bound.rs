//! Bounds on the rank at which a kernel of random factors approximates the one that it compresses. They hold for every
//! network and depend only on the kernel's entries.
//!
//! Both are for kernels `Σ_r z_rᵀ M z_r` with factors rescaled to variance 1/k. Normal entries: see the claims
//! `intrinsic-dimension` and `lora`. Uniform entries (PEFT's initial distribution) obey both as well. Upward, because `E
//! exp(t z) ≤ exp(t² E z²/2)` for them, which bounds the moment generating function of `zᵀ M z`, M positive semi-definite,
//! by that of normal entries; downward, because the bound uses only `E (zᵀMz)² ≤ 3 (E zᵀMz)²`, and their fourth moment is
//! smaller.

/// `4R² exp(-(ε² - ε³) k / 4)`: a bound on the probability that any entry of a kernel of R rows is off by at least ε times
/// the largest diagonal entry.
pub fn union_bound(rows: usize, epsilon: f64, rank: f64) -> f64 {
    let rows = rows as f64;
    4.0 * rows * rows * (-(epsilon.powi(2) - epsilon.powi(3)) * rank / 4.0).exp()
}

/// The smallest rank at which [`union_bound`] is at most `1 - confidence`.
pub fn union_rank(rows: usize, epsilon: f64, confidence: f64) -> f64 {
    let rows = rows as f64;
    let needed = 4.0 * (4.0 * rows * rows / (1.0 - confidence)).ln() / (epsilon.powi(2) - epsilon.powi(3));
    needed.max(1.0).ceil()
}

/// The rank at which the relative distance in the Frobenius norm is below ε with probability `confidence`: Markov's
/// inequality for its square, whose mean is at most `2 (tr K)² / (k |K|²)`, because the variance of an entry is at most `2
/// K(ξ,ξ) K(ξ',ξ') / k`. `trace` and `norm` are `tr K` and `|K|`.
pub fn markov_rank(trace: f64, norm: f64, epsilon: f64, confidence: f64) -> f64 {
    let ratio = trace / norm;
    (2.0 * ratio * ratio / (epsilon * epsilon * (1.0 - confidence))).max(1.0).ceil()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_rank_is_the_smallest_that_the_bound_allows(
            rows in 1usize..500, epsilon in 0.05f64..0.6, confidence in 0.5f64..0.999,
        ) {
            let rank = union_rank(rows, epsilon, confidence);
            let allowed = 1.0 - confidence;
            prop_assert!(union_bound(rows, epsilon, rank) <= allowed * (1.0 + 1e-9));
            prop_assert!(rank == 1.0 || union_bound(rows, epsilon, rank - 1.0) > allowed);
            prop_assert!(union_rank(rows, epsilon, 0.5 * (1.0 + confidence)) >= rank);
        }
    }

    #[test]
    fn markovs_rank_for_the_smallest_ratio() {
        // A kernel of rank one: (tr K)² = |K|².
        assert_eq!(markov_rank(3.0, 3.0, 0.1, 0.95), 4000.0);
    }
}
