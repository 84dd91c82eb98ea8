//! Update rules: SGD, SignGD and Adam (with bias correction, as in PyTorch).

use std::ops::Range;

use tch::Tensor;

use super::fused;
use super::rows::Gradient;
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
        let update = |(i, g): (usize, &Option<Tensor>)| Some(self.update(of(parameters, i).1, i, g.as_ref()?, factor));
        gradients.iter().enumerate().map(update).collect()
    }

    /// The change of one parameter, with the rows whose gradient is zero in exact arithmetic, in the current step.
    fn update(&mut self, zeros: &[Range<i64>], i: usize, g: &Tensor, factor: f64) -> Tensor {
        let eta = self.rates[i] * factor;
        match self.kind {
            OptimizerKind::Sgd => g * -eta,
            OptimizerKind::Signgd => {
                let update = g.sign() * -eta;
                for zeros in zeros {
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
    fn advance(&mut self, (value, zeros): (&Tensor, &[Range<i64>]), i: usize, g: &Tensor, factor: f64) {
        let eta = self.rates[i] * factor;
        if self.kind == OptimizerKind::Signgd || !fused::takes(&[value, g]) {
            let _ = value.shallow_clone().g_add_(&self.update(zeros, i, g, factor));
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
                self.advance(of(parameters, i), i, g, factor);
            }
        }
    }

    /// The same with gradients of tables by rows: moments are those of the rows that ever had a gradient, and the others do not
    /// move. Gradients of a parameter must be whole in all steps or in none.
    pub(super) fn step_by_rows(&mut self, parameters: &mut Parameters, gradients: &[Option<Gradient>]) {
        let _guard = tch::no_grad_guard();
        self.steps += 1;
        for (i, g) in gradients.iter().enumerate() {
            match g {
                None => {}
                Some(Gradient::Whole(g)) => self.advance(of(parameters, i), i, g, 1.0),
                Some(Gradient::Rows { ids, values }) => {
                    let (table, zeros) = of(parameters, i);
                    assert!(zeros.is_empty(), "biases alone have gradients that are zero in exact arithmetic");
                    self.advance_rows(table, i, (ids, values));
                }
            }
        }
    }

    fn advance_rows(&mut self, table: &Tensor, i: usize, (ids, values): (&Tensor, &Tensor)) {
        if let Some((m, v)) = &mut self.moments[i] {
            // New rows follow those that were read before.
            let new = values.size()[0] - m.size()[0];
            assert!(new >= 0, "moments of fewer rows");
            if new > 0 {
                for moment in [m, v] {
                    *moment = moment.constant_pad_nd([0, 0, 0, new]);
                }
            }
        }
        let rows = table.index_select(0, ids);
        self.advance((&rows, &[]), i, values, 1.0);
        let _ = table.shallow_clone().index_copy_(0, ids, &rows);
    }
}

/// A parameter's value, and the rows whose gradient is zero in exact arithmetic.
fn of(parameters: &Parameters, i: usize) -> (&Tensor, &[Range<i64>]) {
    (&parameters.values()[i], &parameters.specs()[i].structural_zeros)
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

    /// Steps by the rows of a table that are read, some of them from the second step on, against steps with its whole gradient, bit for
    /// bit. Fails for: rows in another place than their moments, a row that is no longer read and does not go on, rows that were never
    /// read and move.
    #[test]
    fn steps_by_rows_are_those_with_whole_gradients() {
        tch::manual_seed(8);
        let exact = OptimizerKind::Adam { beta1: 0.9, beta2: 0.999, epsilon: 0.0 };
        for kind in [Kind::Float, Kind::Double] {
            let start = parameters(&[Tensor::randn([9, 5], (kind, Device::Cpu))]);
            for rule in [OptimizerKind::Sgd, OptimizerKind::Signgd, OptimizerKind::ADAM, exact] {
                let (mut whole, mut by_rows) = (Optimizer::new(rule, 1e-2, 1), Optimizer::new(rule, 1e-2, 1));
                let (mut a, mut b) = (start.detached_copy(), start.detached_copy());
                for ids in [&[7i64, 2][..], &[7, 2, 0, 4], &[7, 2, 0, 4]] {
                    let values = Tensor::randn([ids.len() as i64, 5], (kind, Device::Cpu));
                    // Read in the first step alone.
                    let _ = if ids.len() > 2 { values.get(1).zero_() } else { values.shallow_clone() };
                    let gradient = || Gradient::Rows { ids: Tensor::from_slice(ids), values: values.shallow_clone() };
                    whole.step_in_place(&mut a, &[Some(gradient().whole(&start.values()[0]))], 1.0);
                    by_rows.step_by_rows(&mut b, &[Some(gradient())]);
                    assert!(a.values()[0].equal(&b.values()[0]), "{kind:?}, {}", rule.name());
                }
                let still = Tensor::from_slice(&[1i64, 3, 5, 6, 8]);
                let rows = |p: &Parameters| p.values()[0].index_select(0, &still);
                assert!(rows(&b).equal(&rows(&start)), "rows that are not read");
            }
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
