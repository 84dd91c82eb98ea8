//! How the network's last hidden state is read: by its own head in a prompt, or by a new linear head without a prompt (the
//! paper's no-prompt baseline), random or first fitted to the features (a linear probe).

use nalgebra::{DMatrix, DVector};
use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::files::named_seed;
use crate::jacobian::{ParameterSpec, Parameters, Role};
use crate::network::normal_tensor;
use crate::regression::{Logistic, LogisticSettings, operator_norm, score};

/// How f is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Head {
    /// By the label words' logits at the template's mask.
    #[default]
    Prompt,
    /// By a new linear head with random weights, at the first token of the texts alone (the last token of a causal model).
    Random,
    /// The same, but with the weights of a logistic regression on the training examples' features.
    LinearProbe,
}

impl Head {
    /// Text in reports.
    pub fn title(self) -> &'static str {
        match self {
            Self::Prompt => "prompt",
            Self::Random => "no prompt, random head",
            Self::LinearProbe => "no prompt, linear probe",
        }
    }
}

/// Standard deviation of a random head's weights: the `initializer_range` of BERT, RoBERTa and GPT-2.
const DEVIATION: f64 = 0.02;

/// A random head: weight \[C, width\] and a zero bias \[C\].
pub(super) fn random(classes: usize, width: i64, seed: u64) -> (Tensor, Tensor) {
    let weight =
        normal_tensor(&[classes as i64, width], DEVIATION, named_seed(seed, "head"), 0, Kind::Double, Device::Cpu);
    (weight, Tensor::zeros([classes as i64], (Kind::Double, Device::Cpu)))
}

/// Regularization strengths of the probe, chosen on dev, in units of the norm of the features' Gram matrix.
const STRENGTHS: [f64; 6] = [1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5];

/// Features \[N, width\] with their labels.
pub(super) struct Probed<'a> {
    pub features: Tensor,
    /// Their classes.
    pub labels: &'a [usize],
}

/// Multinomial logistic regression with an L2 penalty: weight \[C, width\] and bias \[C\] for the strength that is best on dev;
/// ties by the stronger. Solved in the span of the training examples, through their Gram matrix.
///
/// # Errors
/// [`Error::NotFinite`] if a feature is not finite; [`Error::NoSolution`] if the solver does not converge.
pub(super) fn linear_probe(train: &Probed<'_>, dev: &Probed<'_>, classes: usize) -> Result<(Tensor, Tensor)> {
    let with_ones = |x: &Tensor| {
        let ones = Tensor::ones([x.size()[0], 1], (Kind::Double, Device::Cpu));
        Tensor::cat(&[x.to_kind(Kind::Double).to_device(Device::Cpu), ones], 1)
    };
    let (x, y) = (with_ones(&train.features), with_ones(&dev.features));
    let n = train.labels.len();
    let gram = matrix(&x.matmul(&x.tr()));
    // Every class has the same features, and the classes do not interact.
    let solver = Logistic::each_output(&gram, classes, train.labels)?;
    let norm = operator_norm(&gram)?;
    let mut best: Option<(f64, Tensor)> = None;
    let mut start: Option<DVector<f64>> = None;
    for strength in STRENGTHS {
        let settings = LogisticSettings { lambda: strength * norm, ..LogisticSettings::default() };
        let alpha = solver.fit(&settings, start.as_ref())?.alpha;
        let coefficients = Tensor::from_slice(alpha.as_slice()).view([n as i64, classes as i64]);
        let head = coefficients.tr().matmul(&x);
        let found = flat(&y.matmul(&head.tr()));
        let accuracy = score(&DVector::from_vec(found), dev.labels, classes)?.accuracy;
        if best.as_ref().is_none_or(|(a, _)| accuracy > *a) {
            best = Some((accuracy, head));
        }
        start = Some(alpha);
    }
    let (_, head) = best.ok_or_else(|| Error::no_solution("linear probe", "no regularization of its grid has one"))?;
    let width = head.size()[1] - 1;
    Ok((head.narrow(1, 0, width), head.narrow(1, width, 1).squeeze_dim(1)))
}

fn flat(t: &Tensor) -> Vec<f64> {
    Vec::try_from(t.to_kind(Kind::Double).contiguous().view(-1)).expect("a flat f64 tensor")
}

fn matrix(t: &Tensor) -> DMatrix<f64> {
    let (rows, columns) = t.size2().expect("a matrix");
    DMatrix::from_row_slice(rows as usize, columns as usize, &flat(t))
}

/// Flags of parameters that f depends on: without a prompt the model's own head is not read; the last `new` parameters are the
/// new head.
pub(super) fn read(parameters: &Parameters, new: usize) -> Vec<bool> {
    let own = parameters.len() - new;
    let role = |(i, spec): (usize, &ParameterSpec)| i >= own || spec.role != Role::Head;
    parameters.specs().iter().enumerate().map(role).collect()
}
