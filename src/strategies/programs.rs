//! Tensor programs as lists of steps, so that a failing one shrinks to the steps that matter.

use nalgebra::DMatrix;
use proptest::prelude::*;

use crate::network::Activation;
use crate::program::{Builder, Program, Term};

/// One line of a program; indices count backwards from the latest vector.
#[derive(Clone, Copy, Debug)]
enum Step {
    Multiply { matrix: usize, transposed: bool, of: usize },
    Map { kind: usize, first: usize, second: usize },
}

/// A drawn program: two correlated Gaussian vectors, two matrices, and steps that multiply and map in turn.
#[derive(Clone, Debug)]
pub struct ProgramCase {
    steps: Vec<Step>,
    /// Covariance of the two initial vectors, whose variances are 1 and 0.7.
    covariance: f64,
}

/// A program with one to four products, each followed by a nonlinear map. Every vector that is multiplied by a matrix is bounded
/// or Gaussian, so that all moments exist. Shrinks towards fewer steps.
pub fn program() -> impl Strategy<Value = ProgramCase> {
    let multiply = (0..2usize, any::<bool>(), 0..3usize).prop_map(|(matrix, transposed, of)| Step::Multiply {
        matrix,
        transposed,
        of,
    });
    let map = (0..5usize, 0..4usize, 0..4usize).prop_map(|(kind, first, second)| Step::Map { kind, first, second });
    let steps = proptest::collection::vec((multiply, map), 1..5)
        .prop_map(|pairs| pairs.into_iter().flat_map(|(multiply, map)| [multiply, map]).collect());
    (steps, -0.8..0.8f64).prop_map(|(steps, covariance)| ProgramCase { steps, covariance })
}

impl ProgramCase {
    /// The program, with three averages of its last vectors.
    ///
    /// # Panics
    /// Never: every drawn list of steps is a well-formed program.
    pub fn build(&self) -> Program {
        let mut p = Builder::new();
        let covariance = DMatrix::from_row_slice(2, 2, &[1.0, self.covariance, self.covariance, 0.7]);
        let mut vectors = p.gaussians(&["h", "k"], &covariance);
        let matrices = [p.matrix("W", 1.1), p.matrix("V", 0.8)];
        for (i, step) in self.steps.iter().enumerate() {
            let place = |back: usize| vectors[vectors.len() - 1 - back.min(vectors.len() - 1)];
            let vector = match *step {
                Step::Multiply { matrix, transposed: true, of } => {
                    p.multiply_transposed(format!("v{i}"), matrices[matrix], place(of))
                }
                Step::Multiply { matrix, transposed: false, of } => {
                    p.multiply(format!("v{i}"), matrices[matrix], place(of))
                }
                Step::Map { kind, first, second } => {
                    let (a, b) = (place(first), place(second));
                    let formula = match kind {
                        0 => (a + b).activation(Activation::Tanh),
                        1 => (a * b).activation(Activation::Erf),
                        2 => a.derivative(Activation::Tanh) * b.activation(Activation::Tanh),
                        3 => (a - b * 0.5).sign(),
                        _ => {
                            a.activation(Activation::Relu).activation(Activation::Tanh) + b.activation(Activation::Erf)
                        }
                    };
                    p.map(format!("v{i}"), formula)
                }
            };
            vectors.push(vector);
        }
        let last = vectors.len() - 1;
        for (name, other) in [("square", last), ("with the one before", last - 1), ("with the first", 0)] {
            p.average(name, vectors[last].activation(Activation::Tanh) * vectors[other].activation(Activation::Tanh));
        }
        p.build().expect("a well-formed program")
    }
}
