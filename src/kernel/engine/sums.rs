//! The running sums of a Gram matrix: products of two panels, and their positions in the matrix.

use tch::{Device, Kind, Tensor};

use super::options::GramOptions;
use super::panel::Panel;
use crate::jacobian::{Examples, ParameterSpec, Parameters};
use crate::kernel::{FormulaSet, Gram, GramMatrix, ParameterShare};

/// Products of two panels, \[rows, columns\] in double precision, summed over all or some parameters.
#[derive(Debug, Default)]
pub(super) struct Products {
    pub sgd: Option<Tensor>,
    /// Plain gradients of the first panel, signs of the second.
    pub asymmetric: Option<Tensor>,
    /// Signs of the first panel, plain gradients of the second.
    pub reversed: Option<Tensor>,
    pub signgd: Option<Tensor>,
    /// Traces of the SGD and SignGD kernels by parameter, if both panels are the same.
    pub traces: Vec<(f64, f64)>,
    /// Shares of the SGD kernel by parameter.
    pub shares: Vec<Option<Tensor>>,
}

impl Products {
    /// Zeros for the formulas; with a single panel, only one orientation of the asymmetric kernel, which determines the
    /// other.
    pub fn zeros(rows: (i64, i64), formulas: FormulaSet, same: bool, parameters: usize, device: Device) -> Self {
        let matrix = |wanted: bool| wanted.then(|| Tensor::zeros([rows.0, rows.1], (Kind::Double, device)));
        Self {
            sgd: matrix(formulas.sgd),
            asymmetric: matrix(formulas.asymmetric),
            reversed: matrix(formulas.asymmetric && !same),
            signgd: matrix(formulas.signgd),
            traces: vec![(0.0, 0.0); if same { parameters } else { 0 }],
            shares: (0..parameters).map(|_| None).collect(),
        }
    }

    /// Adds another worker's products.
    pub fn merge(&mut self, other: Self) {
        let sums = [&mut self.sgd, &mut self.asymmetric, &mut self.reversed, &mut self.signgd];
        let parts = [other.sgd, other.asymmetric, other.reversed, other.signgd];
        for (sum, part) in sums.into_iter().zip(parts).chain(self.shares.iter_mut().zip(other.shares)) {
            match (sum, part) {
                (Some(sum), Some(part)) => *sum += part,
                (sum, Some(part)) => *sum = Some(part),
                (_, None) => {}
            }
        }
        for (sum, part) in self.traces.iter_mut().zip(other.traces) {
            *sum = (sum.0 + part.0, sum.1 + part.1);
        }
    }

    /// Adds to a parameter's share of the SGD kernel.
    pub fn add_share(&mut self, parameter: usize, product: &Tensor) {
        let product = product.to_kind(Kind::Double);
        let share = &mut self.shares[parameter];
        *share = Some(match share.take() {
            None => product,
            Some(sum) => sum + product,
        });
    }
}

/// The whole matrix so far.
pub(super) struct Sums {
    /// Whether every gradient of a parameter is zero in exact arithmetic.
    pub structural: Vec<bool>,
    pub symmetric: bool,
    /// Whether held panels are the matrix's columns.
    exchange: bool,
    sgd: Option<Tensor>,
    asymmetric: Option<Tensor>,
    reversed: Option<Tensor>,
    signgd: Option<Tensor>,
    left_outputs: Tensor,
    right_outputs: Tensor,
    shares: Vec<ParameterShare>,
}

impl Sums {
    pub fn new(
        parameters: &Parameters,
        left: &dyn Examples,
        right: Option<&dyn Examples>,
        options: &GramOptions,
        exchange: bool,
    ) -> Self {
        let count = left.outputs() as i64;
        let (n, m) = (left.len() as i64, right.map_or(left.len(), Examples::len) as i64);
        let cpu = (Kind::Double, Device::Cpu);
        let matrix = |wanted: bool| wanted.then(|| Tensor::zeros([n * count, m * count], cpu));
        let shares = (0..parameters.len())
            .filter(|_| right.is_none())
            .map(|i| ParameterShare {
                parameter: i,
                trace_sgd: 0.0,
                trace_signgd: (options.formulas.asymmetric || options.formulas.signgd).then_some(0.0),
                sgd: options.share_matrices.then(|| Tensor::zeros([n * count, n * count], cpu)),
            })
            .collect();
        let f = options.formulas;
        Self {
            structural: parameters.specs().iter().map(ParameterSpec::is_structural_zero).collect(),
            symmetric: right.is_none(),
            exchange,
            sgd: matrix(f.sgd),
            asymmetric: matrix(f.asymmetric),
            reversed: matrix(f.asymmetric),
            signgd: matrix(f.signgd),
            left_outputs: Tensor::zeros([n, count], cpu),
            right_outputs: Tensor::zeros([m, count], cpu),
            shares,
        }
    }

    /// Stores a panel's outputs; `held` says on which side it is.
    pub fn put_outputs(&mut self, panel: &Panel, held: bool) {
        panel.put_outputs(if held == self.exchange { &mut self.right_outputs } else { &mut self.left_outputs });
    }

    /// Adds the products of a held panel with a streamed one, or with itself.
    pub fn add(&mut self, products: Products, held: &Panel, passing: Option<&Panel>) {
        let (rows, columns) = (held.places(), passing.unwrap_or(held).places());
        let mirror = self.symmetric && passing.is_some();
        let turned = |t: &Option<Tensor>| t.as_ref().map(Tensor::tr);
        // With a single panel the reversed kernel is the transposed asymmetric one.
        let reversed = if passing.is_some() { products.reversed } else { turned(&products.asymmetric) };
        let sums = [&mut self.sgd, &mut self.asymmetric, &mut self.reversed, &mut self.signgd];
        let parts = [&products.sgd, &products.asymmetric, &reversed, &products.signgd];
        let turned = [&products.sgd, &reversed, &products.asymmetric, &products.signgd].map(turned);
        for ((sum, part), turned) in sums.into_iter().zip(parts).zip(&turned) {
            let (Some(sum), Some(part), Some(turned)) = (sum, part, turned) else { continue };
            if self.exchange {
                put(sum, &columns, &rows, turned);
            } else {
                put(sum, &rows, &columns, part);
            }
            if mirror {
                put(sum, &columns, &rows, turned);
            }
        }
        for (share, part) in self.shares.iter_mut().zip(&products.shares) {
            if let (Some(matrix), Some(part)) = (&mut share.sgd, part) {
                put(matrix, &rows, &columns, part);
                if mirror {
                    put(matrix, &columns, &rows, &part.tr());
                }
            }
        }
        for (share, (sgd, signgd)) in self.shares.iter_mut().zip(products.traces) {
            share.trace_sgd += sgd;
            if let Some(sum) = &mut share.trace_signgd {
                *sum += signgd;
            }
        }
    }

    pub fn finish(self) -> Gram {
        let right_outputs = (!self.symmetric).then_some(self.right_outputs);
        let Self { mut sgd, mut asymmetric, mut reversed, mut signgd, .. } = self;
        let matrix = |which| match which {
            GramMatrix::Sgd => sgd.take(),
            GramMatrix::Asymmetric => asymmetric.take(),
            GramMatrix::AsymmetricReversed => reversed.take(),
            GramMatrix::Signgd => signgd.take(),
        };
        Gram::new(self.left_outputs, right_outputs, matrix, self.shares)
    }
}

fn put(total: &mut Tensor, rows: &Tensor, columns: &Tensor, part: &Tensor) {
    let index = [Some(rows.unsqueeze(1)), Some(columns.unsqueeze(0))];
    let _ = total.index_put_(&index, &part.to_device(total.device()), true);
}
