//! One layer of softmax attention, whose scores are averages over the width (muP's 1/n).

use nalgebra::DMatrix;

use crate::error::Result;
use crate::program::{Builder, Expression, Program, Scalar, Term, Vector};

/// A layer of attention as a program.
pub struct Attention {
    /// The program.
    pub program: Program,
    /// Attention weights: row i is the attention of token i to each token.
    pub weights: Vec<Vec<Scalar>>,
    /// Averages of products of the outputs of two tokens: the layer's kernel.
    pub kernel: Vec<Vec<Scalar>>,
}

/// Tokens are vectors x_i of this covariance; query and key share a matrix A, so that scores `s_ij = β Ax_i·Ax_j/n` do not vanish
/// with the width; outputs are `x_i + Σ_j softmax_j(s_ij) V x_j`, with entries of A and V from N(0, 1/n).
pub fn attention(covariance: &DMatrix<f64>, beta: f64) -> Result<Attention> {
    let count = covariance.nrows();
    let mut p = Builder::new();
    let names: Vec<String> = (1..=count).map(|i| format!("x{i}")).collect();
    let tokens = p.gaussians(&names.iter().map(String::as_str).collect::<Vec<_>>(), covariance);
    let (query, value) = (p.matrix("A", 1.0), p.matrix("V", 1.0));
    let mut every = |matrix, name: &str| -> Vec<Vector> {
        tokens.iter().zip(&names).map(|(x, token)| p.multiply(format!("{name} {token}"), matrix, *x)).collect()
    };
    let (keys, values) = (every(query, "A"), every(value, "V"));
    let mut weights: Vec<Vec<Scalar>> = Vec::new();
    for i in 0..count {
        let scores: Vec<Scalar> =
            (0..count).map(|j| p.average(format!("s({}, {})", i + 1, j + 1), keys[i] * keys[j] * beta)).collect();
        let total = p.scalar(format!("total({})", i + 1), scores.iter().map(|s| s.exp()).sum::<Expression>());
        weights
            .push((0..count).map(|j| p.scalar(format!("a({}, {})", i + 1, j + 1), scores[j].exp() / total)).collect());
    }
    let outputs: Vec<Vector> = (0..count)
        .map(|i| {
            let attended = (0..count).map(|j| weights[i][j] * values[j]).sum::<Expression>();
            p.map(format!("y{}", i + 1), tokens[i] + attended)
        })
        .collect();
    let kernel = (0..count)
        .map(|i| (0..count).map(|j| p.average(format!("K({}, {})", i + 1, j + 1), outputs[i] * outputs[j])).collect())
        .collect();
    Ok(Attention { program: p.build()?, weights, kernel })
}
