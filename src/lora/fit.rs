//! From distances over ranks to the rank that a distance needs: the fit of `c/√k`. Numbers only.

use serde::{Deserialize, Serialize};

use crate::stats::{Estimate, Exponent, Method, Scaling, exponent, prediction_bound, student_mean};

/// The law `c/√k` of a distance over ranks k, and the rank that an asked distance needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RankFit {
    /// The constant c: geometric mean over ranks and draws, with an interval over draws.
    pub constant: Estimate,
    /// The exponent of the rank, fitted freely; the law says -1/2. `None` for fewer than two ranks or draws.
    pub exponent: Option<Exponent>,
    /// The rank at which the mean distance is the asked one, `(c/ε)²`, with its interval.
    pub rank: Estimate,
    /// The rank at which a single draw comes so near with the asked probability; `None` for fewer than two distances.
    pub rank_for_a_draw: Option<f64>,
}

/// Fits distances\[draw\]\[rank\], which are positive.
pub fn fit(ranks: &[i64], distances: &[Vec<f64>], asked: f64, confidence: f64) -> RankFit {
    let widths: Vec<f64> = ranks.iter().map(|k| *k as f64).collect();
    let log_constant = |row: &Vec<f64>| -> Vec<f64> {
        row.iter().zip(&widths).map(|(distance, k)| distance.ln() + 0.5 * k.ln()).collect()
    };
    let logs: Vec<Vec<f64>> = distances.iter().map(log_constant).collect();
    let by_draw: Vec<f64> = logs.iter().map(|row| row.iter().sum::<f64>() / row.len() as f64).collect();
    let log = student_mean(&by_draw, confidence);
    // Intervals go through increasing functions; standard errors do not.
    let through = |f: &dyn Fn(f64) -> f64| Estimate {
        value: f(log.value),
        low: f(log.low),
        high: f(log.high),
        standard_error: None,
        method: Method::Student,
        ..log.clone()
    };
    let rank_of = |log_constant: f64| (log_constant.exp() / asked).powi(2);
    let all: Vec<f64> = logs.iter().flatten().copied().collect();
    let bound = prediction_bound(&all, confidence);
    RankFit {
        constant: through(&f64::exp),
        exponent: exponent(&Scaling { widths: &widths, values: distances }, None, confidence).ok(),
        rank: through(&rank_of),
        rank_for_a_draw: bound.is_finite().then(|| rank_of(bound).max(1.0).ceil()),
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

    #[test]
    fn one_draw_gives_no_interval() {
        let found = fit(&[4], &[vec![0.5]], 0.1, 0.95);
        assert_eq!((found.rank.value, found.rank.high), ((1f64.ln().exp() / 0.1).powi(2), f64::INFINITY));
        assert!(found.exponent.is_none() && found.rank_for_a_draw.is_none());
    }
}
