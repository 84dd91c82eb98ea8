//! Builds a program line by line, and checks that it is well-formed.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};

use nalgebra::DMatrix;

use super::expression::{Expression, Leaf, Matrix, Scalar, Vector};
use super::lines::{Line, Program};
use crate::error::{Error, Result};

/// Tolerance for rounding in a covariance's asymmetry and negative eigenvalues, relative to its largest entry.
const ROUNDING: f64 = 1e-10;

/// Builds a program. Every method adds a line and returns a handle to its result; errors are reported by [`Self::build`], so
/// that programs do not need a `?` on every line.
///
/// Names must be unique: random draws are identified by them.
pub struct Builder {
    id: u64,
    lines: Vec<Line>,
    vectors: Vec<String>,
    scalars: Vec<String>,
    matrices: Vec<String>,
    names: HashSet<String>,
    /// The first error.
    fault: Option<String>,
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    /// A program without lines.
    pub fn new() -> Self {
        // Distinguishes the handles of different programs; draws do not depend on it.
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            lines: Vec::new(),
            vectors: Vec::new(),
            scalars: Vec::new(),
            matrices: Vec::new(),
            names: HashSet::new(),
            fault: None,
        }
    }

    /// Initial vectors whose entries are jointly Gaussian with mean zero and this covariance, independent across entries.
    /// The covariance may be singular.
    pub fn gaussians(&mut self, names: &[&str], covariance: &DMatrix<f64>) -> Vec<Vector> {
        if let Some(fault) = covariance_fault(names.len(), covariance) {
            self.fail(format!("{}: {fault}", names.join(", ")));
        }
        let vectors: Vec<Vector> = names.iter().map(|n| self.new_vector((*n).to_owned())).collect();
        let slots = vectors.iter().map(|v| v.slot).collect();
        self.lines.push(Line::Gaussians { vectors: slots, covariance: covariance.clone() });
        vectors
    }

    /// An initial vector with independent entries N(0, `variance`).
    pub fn gaussian(&mut self, name: impl AsRef<str>, variance: f64) -> Vector {
        self.gaussians(&[name.as_ref()], &DMatrix::from_element(1, 1, variance))[0]
    }

    /// An n × n matrix with independent entries N(0, `sigma`²/n).
    pub fn matrix(&mut self, name: impl Into<String>, sigma: f64) -> Matrix {
        let name = self.named(name.into());
        if !(sigma.is_finite() && sigma > 0.0) {
            self.fail(format!("{name}: σ is {sigma}; it must be positive"));
        }
        let slot = self.matrices.len();
        self.matrices.push(name);
        self.lines.push(Line::Matrix { matrix: slot, sigma });
        Matrix { program: self.id, slot }
    }

    /// The vector W x.
    pub fn multiply(&mut self, name: impl Into<String>, matrix: Matrix, vector: Vector) -> Vector {
        self.product(name.into(), matrix, vector, false)
    }

    /// The vector Wᵀ x.
    pub fn multiply_transposed(&mut self, name: impl Into<String>, matrix: Matrix, vector: Vector) -> Vector {
        self.product(name.into(), matrix, vector, true)
    }

    fn product(&mut self, name: String, matrix: Matrix, vector: Vector, transposed: bool) -> Vector {
        self.own(&name, "matrix", matrix.program);
        self.own(&name, "vector", vector.program);
        let output = self.new_vector(name);
        self.lines.push(Line::Product { output: output.slot, matrix: matrix.slot, transposed, vector: vector.slot });
        output
    }

    /// A vector whose every entry is the same function of the entries of other vectors, and of scalars.
    pub fn map(&mut self, name: impl Into<String>, formula: impl Into<Expression>) -> Vector {
        let (name, formula) = (name.into(), formula.into());
        self.check_formula(&name, &formula, true);
        let output = self.new_vector(name);
        self.lines.push(Line::Map { output: output.slot, formula });
        output
    }

    /// The mean over the entries of a function of vectors and scalars.
    pub fn average(&mut self, name: impl Into<String>, formula: impl Into<Expression>) -> Scalar {
        let (name, formula) = (name.into(), formula.into());
        self.check_formula(&name, &formula, true);
        let output = self.new_scalar(name);
        self.lines.push(Line::Average { output: output.slot, formula });
        output
    }

    /// A function of scalars.
    pub fn scalar(&mut self, name: impl Into<String>, formula: impl Into<Expression>) -> Scalar {
        let (name, formula) = (name.into(), formula.into());
        self.check_formula(&name, &formula, false);
        let output = self.new_scalar(name);
        self.lines.push(Line::Compute { output: output.slot, formula });
        output
    }

    /// The scalar n^`exponent`, for a negative exponent: 0 in the limit.
    pub fn width_power(&mut self, name: impl Into<String>, exponent: f64) -> Scalar {
        let name = name.into();
        if !(exponent.is_finite() && exponent < 0.0) {
            self.fail(format!("{name}: n^{exponent} does not vanish in the limit; the exponent must be negative"));
        }
        let output = self.new_scalar(name);
        self.lines.push(Line::WidthPower { output: output.slot, exponent });
        output
    }

    /// The finished program.
    ///
    /// # Errors
    /// [`Error::Program`] with the first error: an empty or repeated name, a handle of another program, an invalid
    /// covariance or one of the wrong size, a σ that is not positive, a map or average without vectors, a scalar with
    /// vectors, a power of the width that does not vanish.
    pub fn build(self) -> Result<Program> {
        match self.fault {
            Some(fault) => Err(Error::Program(fault)),
            None => Ok(Program {
                id: self.id,
                lines: self.lines,
                vectors: self.vectors,
                scalars: self.scalars,
                matrices: self.matrices,
            }),
        }
    }

    fn new_vector(&mut self, name: String) -> Vector {
        let name = self.named(name);
        self.vectors.push(name);
        Vector { program: self.id, slot: self.vectors.len() - 1 }
    }

    fn new_scalar(&mut self, name: String) -> Scalar {
        let name = self.named(name);
        self.scalars.push(name);
        Scalar { program: self.id, slot: self.scalars.len() - 1 }
    }

    fn named(&mut self, name: String) -> String {
        if name.trim().is_empty() {
            self.fail(format!("line {} has an empty name", self.lines.len() + 1));
        } else if !self.names.insert(name.clone()) {
            self.fail(format!("the name `{name}` is used twice"));
        }
        name
    }

    fn own(&mut self, name: &str, what: &str, program: u64) {
        if program != self.id {
            self.fail(format!("{name}: uses a {what} of another program"));
        }
    }

    fn check_formula(&mut self, name: &str, formula: &Expression, entries: bool) {
        let (mut first, mut theta) = (None, false);
        let mut foreign = None;
        formula.visit(&mut |leaf| match leaf {
            Leaf::Vector(v) if v.program != self.id => foreign = Some("vector"),
            Leaf::Scalar(s) if s.program != self.id => foreign = Some("scalar"),
            Leaf::Vector(v) => first = first.or(Some(v.slot)),
            Leaf::Scalar(_) => {}
            Leaf::VectorInTheta => theta = true,
        });
        if let Some(what) = foreign {
            self.fail(format!("{name}: uses a {what} of another program"));
        } else if theta {
            self.fail(format!("{name}: the θ of a change must consist of scalars, but this one contains a vector"));
        } else if entries && first.is_none() {
            self.fail(format!("{name}: contains no vector; use `scalar` for functions of scalars"));
        } else if let Some(slot) = first.filter(|_| !entries) {
            let vector = self.vectors[slot].clone();
            self.fail(format!("{name}: a scalar cannot be made from the vector `{vector}`; use an `average` of it"));
        }
    }

    fn fail(&mut self, fault: String) {
        self.fault.get_or_insert(fault);
    }
}

/// Why a matrix is not a covariance of this many vectors.
fn covariance_fault(count: usize, covariance: &DMatrix<f64>) -> Option<String> {
    let (rows, columns) = covariance.shape();
    if count == 0 {
        return Some("no names, hence no vectors".into());
    }
    if (rows, columns) != (count, count) {
        return Some(format!("{count} vectors need a covariance of {count} x {count}, not {rows} x {columns}"));
    }
    if let Some(x) = covariance.iter().find(|x| !x.is_finite()) {
        return Some(format!("the covariance has an entry {x}"));
    }
    let largest = covariance.amax();
    if (covariance - covariance.transpose()).amax() > ROUNDING * largest {
        return Some("the covariance is not symmetric".into());
    }
    let lowest = covariance.clone().symmetric_eigen().eigenvalues.min();
    (lowest < -ROUNDING * largest).then(|| format!("the covariance has the negative eigenvalue {lowest}"))
}
