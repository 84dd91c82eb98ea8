//! A recurrent network, forward and backward through time: one matrix, used at every step in both directions.

use crate::error::Result;
use crate::network::Activation;
use crate::program::{Builder, Program, Scalar, Term, Vector};

/// A recurrent network as a program.
pub struct Recurrent {
    /// The program.
    pub program: Program,
    /// Mean squares of the states x_1, …, x_T.
    pub states: Vec<Scalar>,
    /// Mean squares of the gradients b_1, …, b_T of the loss in the pre-activations.
    pub gradients: Vec<Scalar>,
    /// The squared length of the loss's gradient in W, times n.
    pub weight_gradient: Scalar,
}

/// `h_1 = u`, `h_{t+1} = W x_t + u`, `x_t = φ(h_t)` over T steps, with a Gaussian input u of this `variance`, the same at
/// every step, and entries of W from N(0, σ²/n). The loss is half the sum of the squared entries of the last state, so that
/// the gradient which goes back through Wᵀ, `b_T = φ'(h_T) x_T`, `b_t = φ'(h_t) Wᵀb_{t+1}`, depends on the vectors produced
/// by W: `Wᵀ b` is not Gaussian, and the assumption that W and Wᵀ are independent is wrong.
///
/// If `shared` is false, every step has a separate matrix, used by that step in both directions.
///
/// # Panics
/// If there are fewer than two steps.
pub fn recurrent(steps: usize, activation: Activation, sigma: f64, variance: f64, shared: bool) -> Result<Recurrent> {
    assert!(steps >= 2, "a recurrence takes two steps at least");
    let mut p = Builder::new();
    let input = p.gaussian("u", variance);
    let matrices: Vec<_> = if shared {
        vec![p.matrix("W", sigma); steps - 1]
    } else {
        (1..steps).map(|t| p.matrix(format!("W{t}"), sigma)).collect()
    };
    let mut hidden = vec![input];
    let mut states = vec![p.map("x1", hidden[0].activation(activation))];
    for t in 1..steps {
        let moved = p.multiply(format!("Wx{t}"), matrices[t - 1], states[t - 1]);
        hidden.push(p.map(format!("h{}", t + 1), moved + input));
        states.push(p.map(format!("x{}", t + 1), hidden[t].activation(activation)));
    }
    let mut gradients = vec![p.map(format!("b{steps}"), hidden[steps - 1].derivative(activation) * states[steps - 1])];
    for t in (0..steps - 1).rev() {
        let back = p.multiply_transposed(format!("Wᵀb{}", t + 2), matrices[t], gradients[0]);
        gradients.insert(0, p.map(format!("b{}", t + 1), hidden[t].derivative(activation) * back));
    }
    let squares = |p: &mut Builder, name: &str, vectors: &[Vector]| -> Vec<Scalar> {
        vectors.iter().enumerate().map(|(t, v)| p.average(format!("{name}{}²", t + 1), *v * *v)).collect()
    };
    let state_squares = squares(&mut p, "x", &states);
    let gradient_squares = squares(&mut p, "b", &gradients);
    // ∂/∂W = Σ_t b_{t+1} x_tᵀ, whose square is a sum over pairs of steps.
    let mut pairs = Vec::new();
    for t in 1..steps {
        for s in 1..steps {
            let back = p.average(format!("b{}·b{}", t + 1, s + 1), gradients[t] * gradients[s]);
            let front = p.average(format!("x{t}·x{s}"), states[t - 1] * states[s - 1]);
            pairs.push(back * front);
        }
    }
    let weight_gradient = p.scalar("|∂W|²", pairs.into_iter().sum::<crate::program::Expression>());
    Ok(Recurrent { program: p.build()?, states: state_squares, gradients: gradient_squares, weight_gradient })
}
