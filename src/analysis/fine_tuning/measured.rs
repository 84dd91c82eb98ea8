//! The measures of a selected run, from the network at its end.

use tch::{Kind, Tensor};

use super::super::along::Probes;
use super::super::examples::StudyExamples;
use super::super::kernels::train_kernel;
use super::super::plan::{Measures, Plan};
use super::super::splits::SplitName;
use super::super::study::Study;
use super::super::{Start, class_logits, output_derivative};
use super::grid::{Chosen, Run, TrainingData, evenly};
use crate::entries::{are, each};
use crate::error::Result;
use crate::evidence::{FineTuningResult, Linearization, Movement};
use crate::jacobian::{Examples, Line, Parameters};
use crate::kernel::Formula;
use crate::lm::OutputMode;
use crate::measure::{Expansion, Few, Known, kernel_drift, sufficient_gradient_drift};
use crate::progress::Monitor;
use crate::task::Prompt;
use crate::train::{OptimizerKind, accuracy, answers, f1};

/// Number of test examples in the scatter plot of movements.
const MOVEMENTS: usize = 400;

/// Largest number of examples whose gradients at both ends of a run are in memory at once.
const TOGETHER: usize = 4;

/// The measures of several runs, with what they share.
pub(super) struct Measured<'a> {
    study: &'a Study,
    plan: &'a Plan,
    start: &'a Start<'a>,
    data: &'a TrainingData<'a>,
    /// On which precisions are compared.
    probes: &'a Probes<'a>,
    /// Outputs on test before training, in double precision, once needed.
    at_start: Option<Tensor>,
}

impl<'a> Measured<'a> {
    /// Nothing is measured yet.
    pub fn new(
        study: &'a Study,
        plan: &'a Plan,
        (start, data, probes): (&'a Start<'a>, &'a TrainingData<'a>, &'a Probes<'a>),
    ) -> Self {
        Self { study, plan, start, data, probes, at_start: None }
    }

    /// Measures the final network of the selected run.
    pub fn end_of(&mut self, chosen: &Chosen, network: &Parameters, monitor: &dyn Monitor) -> Result<FineTuningResult> {
        let Self { study, plan, start, data, .. } = *self;
        let Chosen { settings, runs, probes, .. } = chosen;
        let Run { candidate, history, residuals } = chosen.run();
        let name = settings.optimizer.name();
        let test = study.examples(SplitName::Test, OutputMode::Logits)?.exact();
        monitor.begin(&format!("{name}, linearization and drift"), 3);
        let expansion = self.expansion(network, &test, chosen.expansion.as_ref())?;
        monitor.advance(1);
        study.check_finite(&expansion.end, SplitName::Test)?;
        let labels = study.labels(SplitName::Test);
        let (before, after) = (accuracy(&start.logits.test, labels), accuracy(&expansion.end, labels));
        let linearized = expansion.linearized();
        let linear_accuracy = accuracy(&linearized, labels);
        let gradients = if plan.settings.measures == Measures::Full {
            let all = study.examples(SplitName::Train, study.mode)?.exact();
            let features = all.select(&evenly(plan.settings.features(all.len()), all.len()));
            let ends = (&study.parameters, network);
            sufficient_gradient_drift(ends, &features, 0, &study.include, plan.batch.min(TOGETHER))?
        } else {
            None
        };
        monitor.advance(1);
        let direction = Direction::of(&study.parameters, network);
        monitor.advance(1);
        monitor.end();
        let moved = train_kernel(study, network, plan, &format!("kernel of train after {name}"), monitor)?;
        let drifts = plan
            .settings
            .formulas
            .iter()
            .filter_map(|f| {
                Some((
                    f.name().to_owned(),
                    kernel_drift(start.kernel.matrix(*f)?, moved.matrix(*f)?, start.kernel.outputs)?,
                ))
            })
            .collect();
        Ok(FineTuningResult {
            optimizer: name.into(),
            analog: match settings.optimizer {
                OptimizerKind::Sgd => Formula::Sgd.name().into(),
                OptimizerKind::Signgd | OptimizerKind::Adam { .. } => Formula::Asymmetric.name().into(),
            },
            batch_size: settings.batch_size.min(data.train.len()),
            steps: settings.steps,
            candidates: runs.iter().map(|r| r.candidate.clone()).collect(),
            learning_rate: settings.learning_rate,
            selected: candidate.selected.expect("a run that was selected"),
            history: history.clone(),
            test_accuracy: after,
            test_answers: answers(&expansion.end, labels),
            test_f1: f1(&expansion.end, labels),
            parameter_change: direction.relative(),
            linearization: Linearization {
                test_accuracy: linear_accuracy,
                test_answers: answers(&linearized, labels),
                recovered_share: (after > before).then(|| (linear_accuracy - before) / (after - before)),
                cumulative_residual: expansion.residual(),
                computed: Some(expansion.computed),
                probes: *probes,
                steps: residuals.clone(),
                movements: movements(&expansion.end, &linearized, study.prompts(SplitName::Test)),
            },
            gradient_drift: gradients,
            kernel_drift: drifts,
            output_derivative: output_derivative(study, &class_logits(&moved.left_outputs), &expansion.end)?,
            own_precision: None,
        })
    }

    /// The expansion from the start to a trained network, on test.
    fn expansion(
        &mut self,
        network: &Parameters,
        test: &StudyExamples<'_>,
        double: Option<&Expansion>,
    ) -> Result<Expansion> {
        let start = &self.study.parameters;
        let sample = self.probes.at_start(start)?;
        let line = Line::new(start, network);
        if start.kind() == Kind::Double {
            // The start's logits may be rounded as in transformers; differences need exact ones.
            let known = Known { start: None, end: None };
            return Expansion::double(line, test, sample.rounding, known);
        }
        let few = Few { examples: &self.probes.examples, start: &sample, double };
        Expansion::sufficient(line, test, &few, Some(&self.start.logits.test), &mut self.at_start)
    }
}

/// Size of a movement of the parameters.
struct Direction {
    moved: f64,
    from: f64,
}

impl Direction {
    /// Computed tensor by tensor, in double precision.
    fn of(start: &Parameters, end: &Parameters) -> Self {
        let (mut moved, mut from) = (0.0, 0.0);
        for (a, b) in start.values().iter().zip(end.values()) {
            let (distance, size) = squares(a, b);
            moved += distance;
            from += size;
        }
        Self { moved: moved.sqrt(), from: from.sqrt() }
    }

    fn relative(&self) -> f64 {
        self.moved / self.from
    }
}

/// Squared distance of two tensors, and squared size of the first.
fn squares(a: &Tensor, b: &Tensor) -> (f64, f64) {
    if are::<f32>(a) && are::<f32>(b) {
        let pieces = each([], [a, b], &|_: [&mut [f32]; 0], [a, b]: [&[f32]; 2]| {
            a.iter().zip(b).fold((0.0, 0.0), |(distance, size), (a, b)| {
                let (a, b) = (f64::from(*a), f64::from(*b));
                (distance + (b - a) * (b - a), size + a * a)
            })
        });
        return pieces.into_iter().fold((0.0, 0.0), |sum, piece| (sum.0 + piece.0, sum.1 + piece.1));
    }
    let square = |t: &Tensor| t.square().sum(Kind::Double).double_value(&[]);
    let (a, b) = (a.detach().to_kind(Kind::Double), b.detach().to_kind(Kind::Double));
    (square(&(b - &a)), square(&a))
}

/// Margins of the right class over the best other class, for the first [`MOVEMENTS`] examples.
fn movements(trained: &Tensor, linearized: &Tensor, prompts: &[Prompt]) -> Vec<Movement> {
    let margins = |logits: &Tensor| -> Vec<f64> {
        let count = logits.size()[1] as usize;
        let flat = Vec::<f64>::try_from(logits.contiguous().view(-1)).expect("a flat f64 tensor");
        prompts
            .iter()
            .enumerate()
            .map(|(i, prompt)| {
                let row = &flat[i * count..(i + 1) * count];
                let others = row.iter().enumerate().filter(|(c, _)| *c != prompt.label).map(|(_, f)| *f);
                row[prompt.label] - others.fold(f64::NEG_INFINITY, f64::max)
            })
            .collect()
    };
    let (a, b) = (margins(trained), margins(linearized));
    let movement = |(prompt, (trained, linearized)): (&Prompt, (f64, f64))| Movement {
        trained,
        linearized,
        class: prompt.label,
        row: Some(prompt.row),
    };
    prompts.iter().zip(a.into_iter().zip(b)).take(MOVEMENTS).map(movement).collect()
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    /// In single precision, in one pass, against double precision left to libtorch; of several pieces. Fails for: a piece that is
    /// left out, a distance from the wrong side's size.
    #[test]
    fn sizes_of_movements_are_those_in_double_precision() {
        tch::manual_seed(1);
        for count in [1, 70_000, 300_001] {
            let draw = || Tensor::randn([count], (Kind::Float, Device::Cpu));
            let (a, b) = (draw(), draw() * 3.0);
            let wide = |t: &Tensor| t.to_kind(Kind::Double);
            let (found, expected) = (squares(&a, &b), squares(&wide(&a), &wide(&b)));
            for (found, expected) in [(found.0, expected.0), (found.1, expected.1)] {
                assert!((found / expected - 1.0).abs() < 1e-12, "{count}: {found} for {expected}");
            }
        }
    }
}
