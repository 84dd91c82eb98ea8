//! A program at a finite width: real matrices, real vectors. Knows no limit.

use nalgebra::DMatrix;
use tch::{Device, Kind, Tensor};

use super::expression::{Matrix, Scalar, Value, Vector};
use super::lines::{Line, Program};
use crate::error::{Error, Result};
use crate::files::named_seed;
use crate::network::normal_tensor;

/// A program's values at one width.
pub struct FiniteRun<'a> {
    program: &'a Program,
    vectors: Vec<Tensor>,
    scalars: Vec<f64>,
    matrices: Vec<Tensor>,
}

impl Program {
    /// Runs the program with vectors of n = `width` entries and n × n matrices, in double precision on a device. Every
    /// initial vector and matrix is a separate draw identified by its name: two programs with the same names and seed share
    /// their draws.
    ///
    /// # Errors
    /// [`Error::Value`] for a width below 1, [`Error::NotFinite`] if a scalar is not finite.
    pub fn run(&self, width: usize, seed: u64, device: Device) -> Result<FiniteRun<'_>> {
        if width == 0 {
            return Err(Error::value("the width of a program", width, "1 or more"));
        }
        let n = width as i64;
        let normals = |shape: &[i64], deviation: f64, name: &str| {
            normal_tensor(shape, deviation, named_seed(seed, name), 0, Kind::Double, device)
        };
        let mut run = FiniteRun { program: self, vectors: Vec::new(), scalars: Vec::new(), matrices: Vec::new() };
        for line in &self.lines {
            match line {
                Line::Gaussians { vectors, covariance } => {
                    let standard: Vec<Tensor> = vectors.iter().map(|v| normals(&[n], 1.0, &self.vectors[*v])).collect();
                    run.vectors.extend(mixed(covariance, &standard));
                }
                Line::Matrix { matrix, sigma } => {
                    run.matrices.push(normals(&[n, n], sigma / (n as f64).sqrt(), &self.matrices[*matrix]));
                }
                Line::Product { matrix, transposed, vector, .. } => {
                    let w = &run.matrices[*matrix];
                    let w = if *transposed { w.tr() } else { w.shallow_clone() };
                    run.vectors.push(w.mv(&run.vectors[*vector]));
                }
                Line::WidthPower { exponent, .. } => run.scalars.push((n as f64).powf(*exponent)),
                Line::Map { .. } | Line::Average { .. } | Line::Compute { .. } => {
                    evaluate(self, line, &mut run.vectors, &mut run.scalars)?;
                }
            }
        }
        Ok(run)
    }
}

/// Appends the result of a line with a formula; common to both interpreters.
pub(super) fn evaluate(
    program: &Program,
    line: &Line,
    vectors: &mut Vec<Tensor>,
    scalars: &mut Vec<f64>,
) -> Result<()> {
    let (slot, value) = match line {
        Line::Map { formula, .. } => {
            if let Value::Entries(t) = formula.evaluate(vectors, scalars) {
                vectors.push(t);
                return Ok(());
            }
            unreachable!("a map has a vector in it")
        }
        Line::Average { output, formula } => match formula.evaluate(vectors, scalars) {
            Value::Entries(t) => (*output, t.mean(Kind::Double).double_value(&[])),
            Value::Number(_) => unreachable!("an average has a vector in it"),
        },
        Line::Compute { output, formula } => match formula.evaluate(vectors, scalars) {
            Value::Number(x) => (*output, x),
            Value::Entries(_) => unreachable!("a scalar has no vector in it"),
        },
        Line::Gaussians { .. } | Line::Matrix { .. } | Line::Product { .. } | Line::WidthPower { .. } => {
            unreachable!("a line without formula")
        }
    };
    if !value.is_finite() {
        return Err(Error::NotFinite {
            what: format!("a program's scalar `{}`", program.scalars[slot]),
            place: value.to_string(),
            advice: String::new(),
        });
    }
    scalars.push(value);
    Ok(())
}

/// Jointly Gaussian vectors from independent standard ones by the symmetric root of the covariance, which exists for
/// singular covariances too and does not depend on the order.
pub(super) fn mixed(covariance: &DMatrix<f64>, standard: &[Tensor]) -> Vec<Tensor> {
    let eigen = covariance.clone().symmetric_eigen();
    let roots = DMatrix::from_diagonal(&eigen.eigenvalues.map(|e| e.max(0.0).sqrt()));
    let root = &eigen.eigenvectors * roots * eigen.eigenvectors.transpose();
    let row = |i: usize| standard.iter().zip(root.row(i).iter()).map(|(z, c)| z * *c).reduce(|a, b| a + b);
    (0..standard.len()).map(|i| row(i).expect("as many vectors as rows")).collect()
}

impl FiniteRun<'_> {
    /// A scalar's value.
    ///
    /// # Panics
    /// Like the methods below, if the handle belongs to another program.
    pub fn scalar(&self, scalar: Scalar) -> f64 {
        self.scalars[self.program.scalar_slot(scalar)]
    }

    /// A vector's entries \[n\].
    pub fn vector(&self, vector: Vector) -> &Tensor {
        &self.vectors[self.program.vector_slot(vector)]
    }

    /// A matrix \[n, n\].
    pub fn matrix(&self, matrix: Matrix) -> &Tensor {
        &self.matrices[self.program.matrix_slot(matrix)]
    }
}
