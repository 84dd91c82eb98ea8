//! Update rules: SGD, SignGD and Adam (with bias correction, as PyTorch's).

use tch::Tensor;

use crate::jacobian::Parameters;

/// An update rule without its learning rate.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase", tag = "name")]
pub enum OptimizerKind {
    /// θ ← θ - η g
    Sgd,
    /// θ ← θ - η sign(g): Adam's first step, and its limit while gradients stay put.
    Signgd,
    /// Adam with first and second moment decay and ε.
    Adam {
        /// Decay of the first moment.
        beta1: f64,
        /// Decay of the second moment.
        beta2: f64,
        /// Added to the root of the second moment.
        epsilon: f64,
    },
}

impl OptimizerKind {
    /// Adam with PyTorch's defaults: 0.9, 0.999, 1e-8.
    pub const ADAM: Self = Self::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };

    /// Name in reports and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sgd => "sgd",
            Self::Signgd => "signgd",
            Self::Adam { .. } => "adam",
        }
    }
}

/// An update rule with its learning rate and state.
pub struct Optimizer {
    kind: OptimizerKind,
    learning_rate: f64,
    steps: i32,
    moments: Vec<Option<(Tensor, Tensor)>>,
}

impl Optimizer {
    /// A fresh state for `parameters` tensors.
    pub fn new(kind: OptimizerKind, learning_rate: f64, parameters: usize) -> Self {
        Self { kind, learning_rate, steps: 0, moments: (0..parameters).map(|_| None).collect() }
    }

    /// The change of each parameter for these gradients; parameters without a gradient do not move. Gradients that are
    /// zero in exact arithmetic (see [`crate::jacobian::ParameterSpec::structural_zero`]) have sign zero under SignGD.
    pub fn updates(&mut self, parameters: &Parameters, gradients: &[Option<Tensor>]) -> Vec<Option<Tensor>> {
        self.steps += 1;
        let eta = self.learning_rate;
        gradients
            .iter()
            .enumerate()
            .map(|(i, g)| {
                let g = g.as_ref()?;
                match self.kind {
                    OptimizerKind::Sgd => Some(g * -eta),
                    OptimizerKind::Signgd => (!parameters.specs()[i].structural_zero).then(|| g.sign() * -eta),
                    OptimizerKind::Adam { beta1, beta2, epsilon } => {
                        let (mut m, mut v) = self.moments[i].take().unwrap_or_else(|| (g.zeros_like(), g.zeros_like()));
                        m *= beta1;
                        m += g * (1.0 - beta1);
                        v *= beta2;
                        v += g * g * (1.0 - beta2);
                        let first = 1.0 - beta1.powi(self.steps);
                        let second = 1.0 - beta2.powi(self.steps);
                        let mut denominator = v.sqrt();
                        denominator *= 1.0 / second.sqrt();
                        denominator += epsilon;
                        let mut update = &m / &denominator;
                        if epsilon == 0.0 {
                            // An entry that never had a gradient is 0/0: it does not move.
                            update = update.masked_fill(&denominator.eq(0.0), 0.0);
                        }
                        update *= -eta / first;
                        self.moments[i] = Some((m, v));
                        Some(update)
                    }
                }
            })
            .collect()
    }

    /// Applies one step and returns the new parameters.
    pub fn step(&mut self, parameters: &Parameters, gradients: &[Option<Tensor>]) -> Parameters {
        let _guard = tch::no_grad_guard();
        let mut updates = self.updates(parameters, gradients).into_iter();
        parameters.map(|value| match updates.next().flatten() {
            Some(update) => value + update,
            None => value.shallow_clone(),
        })
    }
}
