//! Update rules: SGD, SignGD and Adam (with bias correction, as in PyTorch).

use tch::Tensor;

use super::fused;
use crate::jacobian::Parameters;

/// An update rule without its learning rate.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase", tag = "name")]
pub enum OptimizerKind {
    /// θ ← θ - η g
    Sgd,
    /// θ ← θ - η sign(g): Adam's first step, and its limit while gradients stay constant.
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

/// The state of an optimizer after some steps.
pub struct OptimizerState {
    /// Number of steps.
    pub steps: i32,
    /// First and second moment of each parameter; `None` before its first gradient, and for other rules than Adam.
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

    /// A copy of the state after the steps so far.
    pub fn state(&self) -> OptimizerState {
        let copy = |m: &Option<(Tensor, Tensor)>| m.as_ref().map(|(a, b)| (a.copy(), b.copy()));
        OptimizerState { steps: self.steps, moments: self.moments.iter().map(copy).collect() }
    }

    /// Continues from a state.
    ///
    /// # Panics
    /// If the state is for another number of parameters.
    pub fn restore(&mut self, state: OptimizerState) {
        assert_eq!(state.moments.len(), self.moments.len(), "moments of other parameters");
        (self.steps, self.moments) = (state.steps, state.moments);
    }

    /// The change of each parameter for these gradients, with all learning rates multiplied by `factor`; parameters without a
    /// gradient do not move. Gradients that are zero in exact arithmetic (see
    /// [`crate::jacobian::ParameterSpec::structural_zeros`]) have sign zero under SignGD.
    pub fn updates(
        &mut self,
        parameters: &Parameters,
        gradients: &[Option<Tensor>],
        factor: f64,
    ) -> Vec<Option<Tensor>> {
        self.steps += 1;
        let update = |(i, g): (usize, &Option<Tensor>)| Some(self.update(parameters, i, g.as_ref()?, factor));
        gradients.iter().enumerate().map(update).collect()
    }

    /// The change of one parameter in the current step.
    fn update(&mut self, parameters: &Parameters, i: usize, g: &Tensor, factor: f64) -> Tensor {
        let eta = self.rates[i] * factor;
        match self.kind {
            OptimizerKind::Sgd => g * -eta,
            OptimizerKind::Signgd => {
                let update = g.sign() * -eta;
                for zeros in &parameters.specs()[i].structural_zeros {
                    let _ = update.narrow(0, zeros.start, zeros.end - zeros.start).zero_();
                }
                update
            }
            OptimizerKind::Adam { beta1, beta2, epsilon } => {
                // The moments are new tensors, so that a state saved before this step does not change.
                let (m, v) = match &self.moments[i] {
                    Some((m, v)) => (m * beta1, v * beta2),
                    None => (g.zeros_like(), g.zeros_like()),
                };
                let m = m + g * (1.0 - beta1);
                let v = v + g * g * (1.0 - beta2);
                let (root, rate) = self.corrections(beta1, beta2, eta);
                let mut denominator = v.sqrt();
                denominator *= root;
                denominator += epsilon;
                let mut update = &m / &denominator;
                if epsilon == 0.0 {
                    // An entry that never had a gradient gives 0/0: it does not move.
                    update = update.masked_fill(&denominator.eq(0.0), 0.0);
                }
                update *= rate;
                self.moments[i] = Some((m, v));
                update
            }
        }
    }

    /// Adam's factors in the current step: of the second moment's root, and of the quotient.
    fn corrections(&self, beta1: f64, beta2: f64, eta: f64) -> (f64, f64) {
        let (first, second) = (1.0 - beta1.powi(self.steps), 1.0 - beta2.powi(self.steps));
        (1.0 / second.sqrt(), -eta / first)
    }

    /// Moves one parameter, in its memory, by the current step.
    fn advance(&mut self, parameters: &Parameters, i: usize, g: &Tensor, factor: f64) {
        let value = &parameters.values()[i];
        let eta = self.rates[i] * factor;
        if self.kind == OptimizerKind::Signgd || !fused::takes(&[value, g]) {
            let _ = value.shallow_clone().g_add_(&self.update(parameters, i, g, factor));
        } else if let OptimizerKind::Adam { beta1, beta2, epsilon } = self.kind {
            let (root, rate) = self.corrections(beta1, beta2, eta);
            let (m, v) = self.moments[i].get_or_insert_with(|| (g.zeros_like(), g.zeros_like()));
            fused::adam((value, m, v), g, fused::Adam { beta1, beta2, epsilon, root, rate });
        } else {
            fused::descend(value, g, eta);
        }
    }

    /// Applies one step and returns the new parameters.
    pub fn step(&mut self, parameters: &Parameters, gradients: &[Option<Tensor>]) -> Parameters {
        self.scaled_step(parameters, gradients, 1.0)
    }

    /// The same, with all learning rates multiplied by a factor in this step.
    pub fn scaled_step(&mut self, parameters: &Parameters, gradients: &[Option<Tensor>], factor: f64) -> Parameters {
        let moves: Vec<bool> = gradients.iter().map(Option::is_some).collect();
        let mut after = parameters.copied(&moves);
        self.step_in_place(&mut after, gradients, factor);
        after
    }

    /// The same in the memory of the parameters, which must share that of parameters with a gradient with nobody.
    pub fn step_in_place(&mut self, parameters: &mut Parameters, gradients: &[Option<Tensor>], factor: f64) {
        let _guard = tch::no_grad_guard();
        self.steps += 1;
        for (i, g) in gradients.iter().enumerate() {
            if let Some(g) = g {
                self.advance(parameters, i, g, factor);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;
    use crate::jacobian::{ParameterSpec, Role};

    fn parameters(values: &[Tensor]) -> Parameters {
        let spec = |value: &Tensor| ParameterSpec {
            name: "w".into(),
            shape: value.size(),
            role: Role::Body,
            layer: "all".into(),
            structural_zeros: Vec::new(),
        };
        Parameters::new(values.iter().map(spec).collect::<Vec<_>>().into(), values.iter().map(Tensor::copy).collect())
    }

    /// Steps in one pass against the same steps by libtorch's operations, for tensors updated by one thread and by several.
    /// Fails for: a moment that is not kept, another step's bias correction, entries without a gradient that move, an omitted
    /// part. Both round alike, except for a product that a library may fuse with a sum: hence two units in the last place.
    #[test]
    fn steps_in_one_pass_are_those_of_tensors() {
        tch::manual_seed(5);
        let draw = |n: i64| Tensor::randn([n], (Kind::Float, Device::Cpu));
        let start = parameters(&[draw(1000), draw((1 << 18) + 7)]);
        let exact = OptimizerKind::Adam { beta1: 0.9, beta2: 0.999, epsilon: 0.0 };
        for kind in [OptimizerKind::Sgd, OptimizerKind::Signgd, OptimizerKind::ADAM, exact] {
            let (mut own, mut plain) = (Optimizer::new(kind, 1e-2, 2), Optimizer::new(kind, 1e-2, 2));
            let (mut a, mut b) = (start.detached_copy(), start.detached_copy());
            for _ in 0..3 {
                let mut gradient = draw(1000);
                let _ = gradient.narrow(0, 0, 10).zero_();
                gradient *= 1e-3;
                let gradients = [Some(gradient), Some(draw((1 << 18) + 7))];
                a = own.scaled_step(&a, &gradients, 0.7);
                let mut updates = plain.updates(&b, &gradients, 0.7).into_iter();
                b = b.map(|value| value + updates.next().flatten().expect("an update"));
            }
            for (x, y) in a.values().iter().zip(b.values()) {
                let off = ((x - y).abs() / y.abs().clamp_min(0.1)).max().double_value(&[]);
                assert!(off <= 3.0 * f64::from(f32::EPSILON), "{}: {off:.1e}", kind.name());
            }
            let still = (&a.values()[0] - &start.values()[0]).narrow(0, 0, 10).abs().max().double_value(&[]);
            assert_eq!(still, 0.0, "{}", kind.name());
        }
    }

    /// Fails for: a gradient or a parameter without one that is written to, a state that goes on after it was copied, a step
    /// that writes into the parameters from which it starts.
    #[test]
    fn steps_in_place_are_those_to_new_parameters() {
        tch::manual_seed(6);
        let draw = |n: i64| Tensor::randn([n], (Kind::Float, Device::Cpu));
        let start = parameters(&[draw(300), draw((1 << 18) + 3), draw(40).to_kind(Kind::Double), draw(7)]);
        for kind in [OptimizerKind::Sgd, OptimizerKind::Signgd, OptimizerKind::ADAM] {
            let (mut new, mut own) = (Optimizer::new(kind, 1e-2, 4), Optimizer::new(kind, 1e-2, 4));
            let (mut a, mut b) = (start.detached_copy(), start.copied(&[true, true, true, false]));
            for _ in 0..3 {
                let gradients =
                    [Some(draw(300)), Some(draw((1 << 18) + 3)), Some(draw(40).to_kind(Kind::Double)), None];
                let copies: Vec<_> = gradients.iter().flatten().map(Tensor::copy).collect();
                let (state, before) = (own.state(), a.detached_copy());
                let kept: Vec<_> = state.moments.iter().flatten().map(|(m, v)| (m.copy(), v.copy())).collect();
                let next = new.step(&a, &gradients);
                assert!(a.values().iter().zip(before.values()).all(|(a, before)| a.equal(before)), "{kind:?}");
                own.step_in_place(&mut b, &gradients, 1.0);
                assert!(gradients.iter().flatten().zip(&copies).all(|(g, copy)| g.equal(copy)), "{kind:?}");
                let unchanged = |((m, v), (first, second)): (&(Tensor, Tensor), &(Tensor, Tensor))| {
                    m.equal(first) && v.equal(second)
                };
                assert!(state.moments.iter().flatten().zip(&kept).all(unchanged), "{kind:?}");
                a = next;
                assert!(a.values().iter().zip(b.values()).all(|(a, b)| a.equal(b)), "{kind:?}");
            }
            assert_eq!(b.values()[3].data_ptr(), start.values()[3].data_ptr(), "without a gradient");
        }
    }
}
