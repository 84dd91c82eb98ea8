//! Fits `c/√k` to distances over ranks, to find the rank needed for a distance. Numbers only.

use serde::{Deserialize, Serialize};

use crate::stats::{Estimate, Exponent, Scaling, exponent, prediction_bound, student_mean};

/// The law `c/√k` of the root mean square distance over draws at rank k, and the rank needed for a given distance.
///
/// The kernel of rank k is a mean of k independent ones of rank one, so that the mean of the squared distance is exactly
/// `c²/k` at every rank. The mean distance is not `c/√k` for any c: it is below the root mean square.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RankFit {
    /// The constant c: root of the mean of `k·distance²` over ranks and draws, with an interval over draws.
    pub constant: Estimate,
    /// The fitted exponent of the rank; the law predicts -1/2. `None` for fewer than two ranks or draws.
    pub exponent: Option<Exponent>,
    /// The rank at which the root mean square distance equals the given one, `(c/ε)²`, with its interval.
    pub rank: Estimate,
    /// The rank at which a single draw is within the given distance with the given probability; `None` for fewer than two
    /// distances.
    pub rank_for_a_draw: Option<f64>,
}

/// Fits distances\[draw\]\[rank\], which are positive.
pub fn fit(ranks: &[i64], distances: &[Vec<f64>], asked: f64, confidence: f64) -> RankFit {
    let widths: Vec<f64> = ranks.iter().map(|k| *k as f64).collect();
    let scaled = |row: &Vec<f64>| row.iter().zip(&widths).map(|(distance, k)| k * distance.powi(2)).collect();
    let squares: Vec<Vec<f64>> = distances.iter().map(scaled).collect();
    let by_draw: Vec<f64> = squares.iter().map(|row| row.iter().sum::<f64>() / row.len() as f64).collect();
    let square = student_mean(&by_draw, confidence);
    // Intervals transform under increasing functions, except below zero; standard errors do not.
    let through = |f: &dyn Fn(f64) -> f64| Estimate {
        value: f(square.value),
        low: f(square.low.max(0.0)),
        high: f(square.high),
        standard_error: None,
        ..square.clone()
    };
    let rank_of = |square: f64| square / (asked * asked);
    // Single distances vary by factors.
    let logs: Vec<f64> = squares.iter().flatten().map(|square| square.ln()).collect();
    let bound = prediction_bound(&logs, confidence);
    RankFit {
        constant: through(&f64::sqrt),
        exponent: exponent(&Scaling { widths: &widths, values: distances }, None, confidence).ok(),
        rank: through(&rank_of),
        rank_for_a_draw: bound.is_finite().then(|| rank_of(bound.exp()).max(1.0).ceil()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// A law without scatter is found as it is, and so is the rank that it needs.
        #[test]
        fn the_law_is_found(constant in 0.01f64..10.0, asked in 0.01f64..0.9) {
            let ranks = [1, 2, 4, 32];
            let row: Vec<f64> = ranks.iter().map(|k: &i64| constant / (*k as f64).sqrt()).collect();
            let found = fit(&ranks, &[row.clone(), row], asked, 0.95);
            let close = |a: f64, b: f64| (a / b - 1.0).abs() < 1e-9;
            prop_assert!(close(found.constant.value, constant) && close(found.constant.high, constant));
            prop_assert!(close(found.rank.value, (constant / asked).powi(2)));
            let slope = found.exponent.expect("two draws").slope;
            prop_assert!((slope.value + 0.5).abs() < 1e-9);
            prop_assert!(found.rank_for_a_draw.expect("eight distances") >= found.rank.value * (1.0 - 1e-9));
        }
    }

    /// At the rank that is said to be needed, the root mean square distance is the asked one, however much draws scatter: the
    /// geometric mean is smaller.
    #[test]
    fn the_rank_is_that_of_the_root_mean_square() {
        let ranks = [1, 4, 16];
        let at = |constant: f64, rank: f64| constant / rank.sqrt();
        let constants = [0.5, 1.0, 3.0];
        let draws: Vec<Vec<f64>> =
            constants.iter().map(|c| ranks.iter().map(|k: &i64| at(*c, *k as f64)).collect()).collect();
        let found = fit(&ranks, &draws, 0.2, 0.95);
        let mean_square = constants.iter().map(|c| at(*c, found.rank.value).powi(2)).sum::<f64>() / 3.0;
        assert!((mean_square.sqrt() - 0.2).abs() < 1e-12, "{mean_square}");
        assert!((found.constant.value - (10.25f64 / 3.0).sqrt()).abs() < 1e-12);
        // Three draws that differ so much leave the lower end open.
        assert_eq!(found.rank.low, 0.0);
    }

    /// Means of k independent errors that are as skewed as one draw's: the law of the root mean square holds from the first rank
    /// on, and what is found from few ranks is right at a large one. (The mean distance at rank 1 would mislead by a quarter.)
    #[test]
    fn the_law_holds_at_every_rank() {
        use rand::SeedableRng;
        use rand_distr::{Distribution, StandardNormal};
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(7);
        let mut error = |rank: i64| -> f64 {
            let mut one = || -> f64 {
                let z: f64 = StandardNormal.sample(&mut rng);
                z * z - 1.0
            };
            ((0..rank).map(|_| one()).sum::<f64>() / rank as f64).abs()
        };
        let ranks = [1, 2, 4];
        let draws: Vec<Vec<f64>> = (0..8000).map(|_| ranks.iter().map(|k| error(*k)).collect()).collect();
        let found = fit(&ranks, &draws, 0.2, 0.99);
        // The variance of z² is 2.
        assert!(found.rank.low < 50.0 && 50.0 < found.rank.high, "{:?}", found.rank);
        assert!(found.rank.high / found.rank.low < 1.2, "{:?}", found.rank);
    }

    #[test]
    fn one_draw_gives_no_interval() {
        let found = fit(&[4], &[vec![0.5]], 0.1, 0.95);
        assert_eq!((found.rank.value, found.rank.high), (1.0 / (0.1 * 0.1), f64::INFINITY));
        assert!(found.exponent.is_none() && found.rank_for_a_draw.is_none());
    }
}
