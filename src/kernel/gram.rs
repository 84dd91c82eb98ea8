//! Gram matrices: kernel values between two sets of Jacobian rows, in double precision.

use tch::Tensor;

use super::formula::Formula;
use crate::error::{Error, Result};

/// One parameter's part in the kernels of a symmetric Gram matrix.
#[derive(Debug)]
pub struct ParameterShare {
    /// Index of the parameter.
    pub parameter: usize,
    /// Its share of the trace of the SGD kernel: `Σ_i |∇_p f_i|²`.
    pub trace_sgd: f64,
    /// Its share of the trace of the SignGD kernel: the number of non-zero gradient entries over all rows. `None` where no
    /// sign kernel was asked for: then no signs are taken.
    pub trace_signgd: Option<f64>,
    /// Its share of the SGD kernel \[NC, NC\], when asked for.
    pub sgd: Option<Tensor>,
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

    /// Fails when an output or kernel value is not finite, naming the first example concerned.
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
                return Err(Error::Numeric(format!(
                    "the {what} of example {example} (counted from 0) is not finite: the weights hold NaN or infinity, or the \
                     network overflows in this precision (f64 reaches further)"
                )));
            }
        }
        Ok(())
    }
}
