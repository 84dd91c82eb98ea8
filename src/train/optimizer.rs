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

/// An update rule with its learning rates and state.
pub struct Optimizer {
    kind: OptimizerKind,
    rates: Vec<f64>,
    steps: i32,
    moments: Vec<Option<(Tensor, Tensor)>>,
}

/// What an optimizer remembers of the steps it took.
pub struct OptimizerState {
    /// Number of steps.
    pub steps: i32,
    /// First and second moment of each parameter; none before its first gradient, and none but under Adam.
    pub moments: Vec<Option<(Tensor, Tensor)>>,
}

impl Optimizer {
    /// A fresh state for `parameters` tensors with one learning rate.
    pub fn new(kind: OptimizerKind, learning_rate: f64, parameters: usize) -> Self {
        Self::with_rates(kind, vec![learning_rate; parameters])
    }

    /// A fresh state with a learning rate per parameter tensor.
    pub fn with_rates(kind: OptimizerKind, rates: Vec<f64>) -> Self {
        let moments = rates.iter().map(|_| None).collect();
        Self { kind, rates, steps: 0, moments }
    }

    /// The state after the steps so far.
    pub fn state(&self) -> OptimizerState {
        let copy = |m: &Option<(Tensor, Tensor)>| m.as_ref().map(|(a, b)| (a.shallow_clone(), b.shallow_clone()));
        OptimizerState { steps: self.steps, moments: self.moments.iter().map(copy).collect() }
    }

    /// Goes on from a state.
    ///
    /// # Panics
    /// If the state is one of another number of parameters.
    pub fn restore(&mut self, state: OptimizerState) {
        assert_eq!(state.moments.len(), self.moments.len(), "moments of other parameters");
        (self.steps, self.moments) = (state.steps, state.moments);
    }

    /// The change of each parameter for these gradients, with all learning rates multiplied by `factor`; parameters
    /// without a gradient do not move. Gradients that are zero in exact arithmetic (see
    /// [`crate::jacobian::ParameterSpec::structural_zeros`]) have sign zero under SignGD.
    pub fn updates(
        &mut self,
        parameters: &Parameters,
        gradients: &[Option<Tensor>],
        factor: f64,
    ) -> Vec<Option<Tensor>> {
        self.steps += 1;
        gradients
            .iter()
            .enumerate()
            .map(|(i, g)| {
                let g = g.as_ref()?;
                let eta = self.rates[i] * factor;
                match self.kind {
                    OptimizerKind::Sgd => Some(g * -eta),
                    OptimizerKind::Signgd => {
                        let update = g.sign() * -eta;
                        for zeros in &parameters.specs()[i].structural_zeros {
                            let _ = update.narrow(0, zeros.start, zeros.end - zeros.start).zero_();
                        }
                        Some(update)
                    }
                    OptimizerKind::Adam { beta1, beta2, epsilon } => {
                        // The moments are new tensors, so that a state taken before this step stays as it was.
                        let (m, v) = match &self.moments[i] {
                            Some((m, v)) => (m * beta1, v * beta2),
                            None => (g.zeros_like(), g.zeros_like()),
                        };
                        let m = m + g * (1.0 - beta1);
                        let v = v + g * g * (1.0 - beta2);
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
        self.scaled_step(parameters, gradients, 1.0)
    }

    /// The same with all learning rates multiplied by a factor in this step.
    pub fn scaled_step(&mut self, parameters: &Parameters, gradients: &[Option<Tensor>], factor: f64) -> Parameters {
        let _guard = tch::no_grad_guard();
        let mut updates = self.updates(parameters, gradients, factor).into_iter();
        parameters.map(|value| match updates.next().flatten() {
            Some(update) => value + update,
            None => value.shallow_clone(),
        })
    }
}
