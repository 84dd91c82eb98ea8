//! Gram matrices: kernel values between two sets of Jacobian rows, in double precision.

use tch::Tensor;

use super::formula::Formula;
use crate::error::{Error, Result};

/// The error for a kernel without examples on a side.
pub(super) fn no_examples() -> Error {
    Error::Missing { what: "examples".into(), needed: "a kernel needs at least one on each side".into() }
}

/// The cause of values that are not finite, and what to do.
pub(crate) const OVERFLOW: &str = "the weights contain NaN or infinity, or the network overflows in this precision \
                                   (f64 has a larger range)";

/// One parameter's share of the kernels of a symmetric Gram matrix.
#[derive(Debug)]
pub struct ParameterShare {
    /// Index of the parameter.
    pub parameter: usize,
    /// Its share of the trace of the SGD kernel: `Σ_i |∇_p f_i|²`.
    pub trace_sgd: f64,
    /// Its share of the trace of the SignGD kernel: the number of nonzero gradient entries over all rows. `None` if no sign
    /// kernel was requested: then no signs are taken.
    pub trace_signgd: Option<f64>,
    /// Its share of the SGD kernel \[NC, NC\], if requested.
    pub sgd: Option<Tensor>,
}

/// One of the four matrices of a [`Gram`], by which sides have signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GramMatrix {
    /// `<∇f_i, ∇f_j>`
    Sgd,
    /// `<∇f_i, sign ∇f_j>`
    Asymmetric,
    /// `<sign ∇f_i, ∇f_j>`
    AsymmetricReversed,
    /// `<sign ∇f_i, sign ∇f_j>`
    Signgd,
}

impl GramMatrix {
    /// The matrix that becomes this one, transposed, when left and right examples are exchanged.
    #[must_use]
    pub fn exchanged(self) -> Self {
        match self {
            Self::Asymmetric => Self::AsymmetricReversed,
            Self::AsymmetricReversed => Self::Asymmetric,
            same => same,
        }
    }
}

/// Kernel values between N left and M right examples with C outputs each, as matrices \[N·C, M·C\] whose row `i·C + c`
/// belongs to output c of left example i. Double precision, on the CPU.
#[derive(Debug)]
pub struct Gram {
    /// Left examples N.
    pub left: i64,
    /// Right examples M.
    pub right: i64,
    /// Outputs C per example.
    pub outputs: i64,
    /// Whether left and right are the same examples.
    pub symmetric: bool,
    /// `<∇f_i, ∇f_j>`
    pub sgd: Option<Tensor>,
    /// `<∇f_i, sign ∇f_j>`: plain gradients on the left.
    pub asymmetric: Option<Tensor>,
    /// `<sign ∇f_i, ∇f_j>`: plain gradients on the right.
    pub asymmetric_reversed: Option<Tensor>,
    /// `<sign ∇f_i, sign ∇f_j>`
    pub signgd: Option<Tensor>,
    /// Left outputs f \[N, C\].
    pub left_outputs: Tensor,
    /// Right outputs f \[M, C\].
    pub right_outputs: Tensor,
    /// Shares per parameter (symmetric Gram matrices only, otherwise empty).
    pub shares: Vec<ParameterShare>,
}

impl Gram {
    /// A Gram matrix from outputs \[N, C\] and \[M, C\] (only the left ones if it is symmetric) and the available matrices
    /// \[N·C, M·C\].
    pub fn new(
        left_outputs: Tensor,
        right_outputs: Option<Tensor>,
        mut matrix: impl FnMut(GramMatrix) -> Option<Tensor>,
        shares: Vec<ParameterShare>,
    ) -> Self {
        let symmetric = right_outputs.is_none();
        let right_outputs = right_outputs.unwrap_or_else(|| left_outputs.shallow_clone());
        let (sgd, signgd) = (matrix(GramMatrix::Sgd), matrix(GramMatrix::Signgd));
        let asymmetric = matrix(GramMatrix::Asymmetric);
        let asymmetric_reversed = match &asymmetric {
            Some(plain_left) if symmetric => Some(plain_left.tr().contiguous()),
            _ => matrix(GramMatrix::AsymmetricReversed),
        };
        Self {
            left: left_outputs.size()[0],
            right: right_outputs.size()[0],
            outputs: left_outputs.size()[1],
            symmetric,
            sgd,
            asymmetric,
            asymmetric_reversed,
            signgd,
            left_outputs,
            right_outputs,
            shares,
        }
    }

    /// One of the four matrices \[N·C, M·C\], if it was computed.
    pub fn get(&self, matrix: GramMatrix) -> Option<&Tensor> {
        match matrix {
            GramMatrix::Sgd => self.sgd.as_ref(),
            GramMatrix::Asymmetric => self.asymmetric.as_ref(),
            GramMatrix::AsymmetricReversed => self.asymmetric_reversed.as_ref(),
            GramMatrix::Signgd => self.signgd.as_ref(),
        }
    }

    /// The matrix \[N·C, M·C\] of one formula, if it was computed.
    pub fn matrix(&self, formula: Formula) -> Option<&Tensor> {
        match formula {
            Formula::Sgd => self.sgd.as_ref(),
            Formula::Asymmetric => self.asymmetric.as_ref(),
            Formula::Signgd => self.signgd.as_ref(),
        }
    }

    /// The matrix as \[N, C, M, C\].
    pub fn tensor(&self, formula: Formula) -> Option<Tensor> {
        let shape = [self.left, self.outputs, self.right, self.outputs];
        self.matrix(formula).map(|m| m.view(shape))
    }

    /// Fails if an output or kernel value is not finite, naming the first example concerned.
    pub fn check_finite(&self) -> Result<()> {
        let named = [
            ("output", Some(&self.left_outputs)),
            ("output", Some(&self.right_outputs)),
            ("SGD kernel", self.sgd.as_ref()),
            ("asymmetric kernel", self.asymmetric.as_ref()),
            ("asymmetric kernel with signs on its rows", self.asymmetric_reversed.as_ref()),
            ("SignGD kernel", self.signgd.as_ref()),
        ];
        for (what, tensor) in named {
            let Some(t) = tensor else { continue };
            let bad = t.isfinite().logical_not().nonzero();
            if bad.size()[0] > 0 {
                let row = bad.int64_value(&[0, 0]);
                let example = if what == "output" { row } else { row / self.outputs };
                return Err(Error::NotFinite {
                    what: format!("the {what}"),
                    place: format!("example {example}, counted from 0"),
                    advice: OVERFLOW.into(),
                });
            }
        }
        Ok(())
    }
}
