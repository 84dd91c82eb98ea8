//! A finished program: its lines, their names, and their text.

use std::fmt;

use nalgebra::DMatrix;

use super::expression::{Expression, Leaf, Matrix, Scalar, Vector, digits};

/// One line of a program; vectors, scalars and matrices are numbered by slots in order of appearance.
#[derive(Clone, Debug)]
pub(super) enum Line {
    Gaussians { vectors: Vec<usize>, covariance: DMatrix<f64> },
    Matrix { matrix: usize, sigma: f64 },
    Product { output: usize, matrix: usize, transposed: bool, vector: usize },
    Map { output: usize, formula: Expression },
    Average { output: usize, formula: Expression },
    Compute { output: usize, formula: Expression },
    WidthPower { output: usize, exponent: f64 },
}

/// A well-formed program, made by [`Builder::build`](super::Builder::build). Displays as text, one line per line.
#[derive(Clone, Debug)]
pub struct Program {
    pub(super) id: u64,
    pub(super) lines: Vec<Line>,
    /// Names by slot.
    pub(super) vectors: Vec<String>,
    pub(super) scalars: Vec<String>,
    pub(super) matrices: Vec<String>,
}

impl Program {
    /// All averages, in program order: the subject of the Master Theorem.
    pub fn averages(&self) -> Vec<Scalar> {
        let slots = self.lines.iter().filter_map(|line| match line {
            Line::Average { output, .. } => Some(*output),
            _ => None,
        });
        slots.map(|slot| Scalar { program: self.id, slot }).collect()
    }

    /// A scalar's name.
    ///
    /// # Panics
    /// If it belongs to another program.
    pub fn name(&self, scalar: Scalar) -> &str {
        &self.scalars[self.scalar_slot(scalar)]
    }

    pub(super) fn scalar_slot(&self, scalar: Scalar) -> usize {
        assert_eq!(scalar.program, self.id, "a scalar of another program");
        scalar.slot
    }

    pub(super) fn vector_slot(&self, vector: Vector) -> usize {
        assert_eq!(vector.program, self.id, "a vector of another program");
        vector.slot
    }

    pub(super) fn matrix_slot(&self, matrix: Matrix) -> usize {
        assert_eq!(matrix.program, self.id, "a matrix of another program");
        matrix.slot
    }

    /// The number of products with each matrix and with its transpose.
    pub(super) fn uses(&self) -> Vec<[usize; 2]> {
        let mut uses = vec![[0, 0]; self.matrices.len()];
        for line in &self.lines {
            if let Line::Product { matrix, transposed, .. } = line {
                uses[*matrix][usize::from(*transposed)] += 1;
            }
        }
        uses
    }

    /// Number of initial vectors.
    pub(super) fn initial(&self) -> usize {
        let counts = self.lines.iter().map(|line| match line {
            Line::Gaussians { vectors, .. } => vectors.len(),
            _ => 0,
        });
        counts.sum()
    }

    fn line(&self, line: &Line) -> String {
        let formula = |e: &Expression| {
            e.text(&|leaf| match leaf {
                Leaf::Vector(v) => self.vectors[v.slot].clone(),
                Leaf::Scalar(s) => self.scalars[s.slot].clone(),
                Leaf::VectorInTheta => unreachable!("a checked program has no vector in θ"),
            })
        };
        match line {
            Line::Gaussians { vectors, covariance } => {
                let names: Vec<&str> = vectors.iter().map(|v| self.vectors[*v].as_str()).collect();
                format!("{} ~ N(0, {})", names.join(", "), numbers(covariance))
            }
            Line::Matrix { matrix, sigma } => {
                let square = if *sigma == 1.0 { "1".into() } else { format!("{}²", digits(*sigma)) };
                format!("{} ~ N(0, {square}/n), n × n", self.matrices[*matrix])
            }
            Line::Product { output, matrix, transposed, vector } => {
                let transpose = if *transposed { "ᵀ" } else { "" };
                format!("{} = {}{transpose} {}", self.vectors[*output], self.matrices[*matrix], self.vectors[*vector])
            }
            Line::Map { output, formula: e } => format!("{} = {}", self.vectors[*output], formula(e)),
            Line::Average { output, formula: e } => format!("{} = average of {}", self.scalars[*output], formula(e)),
            Line::Compute { output, formula: e } => format!("{} = {}", self.scalars[*output], formula(e)),
            Line::WidthPower { output, exponent } => format!("{} = n^{exponent}", self.scalars[*output]),
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{}", self.line(line)))
    }
}

/// A covariance as text: a number for one vector, rows in brackets for several.
fn numbers(covariance: &DMatrix<f64>) -> String {
    if covariance.nrows() == 1 {
        return digits(covariance[(0, 0)]);
    }
    let row = |i: usize| covariance.row(i).iter().map(|x| digits(*x)).collect::<Vec<_>>().join(", ");
    let rows: Vec<String> = (0..covariance.nrows()).map(|i| format!("[{}]", row(i))).collect();
    format!("[{}]", rows.join(", "))
}
