//! A fine-tuning run: mini-batches from a named seed, evaluations on dev, and the best checkpoint.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor};

use super::loss::{cross_entropy, loss_gradient_in};
use super::optimizer::{Optimizer, OptimizerKind};
use super::rows::TableGradients;
use crate::error::{Error, Result};
use crate::evidence::{Answers, Evaluation};
use crate::jacobian::{Examples, FORWARD_BATCH, Parameters, all_outputs};
use crate::products::Parts;
use crate::progress::{Monitor, check_cancelled};

/// Examples with their classes.
pub struct LabelledExamples<'a> {
    /// The examples; outputs are the C label words' logits.
    pub examples: &'a dyn Examples,
    /// Class index of each example.
    pub labels: &'a [usize],
}

impl LabelledExamples<'_> {
    /// Class indices as a tensor \[N\].
    pub fn label_tensor(&self) -> Tensor {
        Tensor::from_slice(&self.labels.iter().map(|l| *l as i64).collect::<Vec<_>>())
    }
}

/// Settings of one run.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct FineTuning {
    /// Update rule.
    pub optimizer: OptimizerKind,
    /// Learning rate η.
    pub learning_rate: f64,
    /// Examples per step.
    pub batch_size: usize,
    /// Number of steps.
    pub steps: usize,
    /// Steps between evaluations on dev (the last step is always evaluated).
    pub eval_every: usize,
    /// Seed of the order of examples.
    pub seed: u64,
    /// Number of bf16 parts into which factors of linear maps are split in training and evaluation, forward and backward, for
    /// networks in single precision; `None` for no splitting. Parameters and optimizer keep their precision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parts: Option<Parts>,
}

/// A step, as passed to an observer.
pub struct Step<'a> {
    /// Number of the step, from 1.
    pub number: usize,
    /// Parameters before it.
    pub before: &'a Parameters,
    /// Parameters after it.
    pub after: &'a Parameters,
}

/// Steps of a run that are observed. At these the parameters before the step are copied.
pub struct Watch<'a> {
    /// Numbers of the steps; `None` for all.
    steps: Option<&'a [usize]>,
    see: &'a mut dyn FnMut(&Step<'_>) -> Result<()>,
}

impl<'a> Watch<'a> {
    /// `see` is called after every step; its error stops the run.
    pub fn every(see: &'a mut dyn FnMut(&Step<'_>) -> Result<()>) -> Self {
        Self { steps: None, see }
    }

    /// The same after the steps with these numbers, which count from 1.
    pub fn at(steps: &'a [usize], see: &'a mut dyn FnMut(&Step<'_>) -> Result<()>) -> Self {
        Self { steps: Some(steps), see }
    }
}

/// Result of a run.
pub struct TrainedModel {
    /// Parameters at the selected step.
    pub parameters: Parameters,
    /// The evaluation that selected them: best dev accuracy, ties by lower dev loss, then by the earlier step.
    pub selected: Evaluation,
    /// All evaluations.
    pub history: Vec<Evaluation>,
    /// Whether the run stopped early because the loss was no longer finite.
    pub diverged: bool,
}

/// Fine-tunes from `initial`, which is not changed; parameters that are not marked by `include` share its memory.
///
/// # Errors
/// Those of the observer; [`Error::Missing`] without examples or for a count of zero; [`Error::Interrupted`]; [`Error::Diverged`] if
/// the loss is not finite before the first evaluation.
pub fn fine_tune(
    initial: &Parameters,
    train: &LabelledExamples<'_>,
    dev: &LabelledExamples<'_>,
    include: &[bool],
    settings: &FineTuning,
    monitor: &dyn Monitor,
    mut watch: Option<Watch<'_>>,
) -> Result<TrainedModel> {
    let n = train.examples.len();
    if n == 0 || settings.batch_size == 0 || settings.steps == 0 || settings.eval_every == 0 {
        let needed = "fine-tuning needs examples, steps, a batch size and an evaluation interval";
        return Err(Error::Missing { what: "training".into(), needed: needed.into() });
    }
    let labels = train.label_tensor().to_device(initial.device());
    let batch = settings.batch_size.min(n);
    let mut order = BatchOrder::new(n, settings.seed);
    let mut optimizer = Optimizer::new(settings.optimizer, settings.learning_rate, initial.len());
    let copy = |parameters: &Parameters| parameters.in_parts(None).copied(include);
    let mut parameters = copy(initial).in_parts(settings.parts);
    let mut tables = TableGradients::default();
    let mut best: Option<(Evaluation, Parameters)> = None;
    let mut history = Vec::new();
    let (mut loss_sum, mut loss_count, mut diverged) = (0.0, 0usize, false);
    for number in 1..=settings.steps {
        check_cancelled()?;
        let indices = order.next(batch);
        let (loss, gradients) =
            loss_gradient_in(&mut tables, &parameters, train.examples, (&labels, &indices), include);
        if !loss.is_finite() {
            diverged = true;
            break;
        }
        loss_sum += loss;
        loss_count += 1;
        let watched = watch.as_mut().filter(|watch| watch.steps.is_none_or(|steps| steps.contains(&number)));
        let watched = watched.map(|watch| (watch, copy(&parameters)));
        optimizer.step_by_rows(&mut parameters, &gradients);
        drop(gradients);
        if let Some((watch, before)) = watched {
            // Observers measure in the network's own precision.
            (watch.see)(&Step { number, before: &before, after: &parameters.in_parts(None) })?;
        }
        monitor.advance(1);
        if number % settings.eval_every == 0 || number == settings.steps {
            let (dev_accuracy, dev_loss) = evaluate(&parameters, dev)?;
            if !dev_loss.is_finite() {
                diverged = true;
                break;
            }
            let evaluation =
                Evaluation { step: number, train_loss: loss_sum / loss_count as f64, dev_accuracy, dev_loss };
            (loss_sum, loss_count) = (0.0, 0);
            history.push(evaluation);
            let better = best.as_ref().is_none_or(|(b, _)| {
                (dev_accuracy, -dev_loss).partial_cmp(&(b.dev_accuracy, -b.dev_loss))
                    == Some(std::cmp::Ordering::Greater)
            });
            if better {
                let last = number == settings.steps;
                best = Some((evaluation, if last { parameters.in_parts(None) } else { copy(&parameters) }));
            }
        }
    }
    let Some((selected, parameters)) = best else {
        return Err(Error::Diverged {
            optimizer: settings.optimizer.name().into(),
            learning_rates: vec![settings.learning_rate],
            when: format!("before its first evaluation (step {})", settings.eval_every),
            field: None,
        });
    };
    Ok(TrainedModel { parameters, selected, history, diverged })
}

/// Epochs of shuffled indices, cut into batches; a batch may extend over two epochs.
struct BatchOrder {
    rng: ChaCha8Rng,
    order: Vec<usize>,
    at: usize,
}

impl BatchOrder {
    fn new(n: usize, seed: u64) -> Self {
        Self { rng: ChaCha8Rng::seed_from_u64(seed), order: (0..n).collect(), at: n }
    }

    fn next(&mut self, batch: usize) -> Vec<usize> {
        if batch == self.order.len() {
            // Full batches keep the examples' order, so that sums are the same in every step.
            return (0..batch).collect();
        }
        (0..batch)
            .map(|_| {
                if self.at == self.order.len() {
                    self.order.shuffle(&mut self.rng);
                    self.at = 0;
                }
                self.at += 1;
                self.order[self.at - 1]
            })
            .collect()
    }
}

/// Predicted classes for outputs \[N, C\]: the largest logit, ties by the lower index; for a single output, class 1 if it is
/// positive.
pub fn predictions(outputs: &Tensor) -> Vec<usize> {
    let (n, c) = (outputs.size()[0], outputs.size()[1]);
    let flat = Vec::<f64>::try_from(outputs.to_kind(Kind::Double).contiguous().view(-1)).expect("a flat f64 tensor");
    (0..n as usize)
        .map(|i| {
            let row = &flat[i * c as usize..(i + 1) * c as usize];
            if c == 1 {
                return usize::from(row[0] > 0.0);
            }
            (1..row.len()).fold(0, |best, j| if row[j] > row[best] { j } else { best })
        })
        .collect()
}

/// Share of examples whose prediction is their label.
pub fn accuracy(outputs: &Tensor, labels: &[usize]) -> f64 {
    let correct = predictions(outputs).iter().zip(labels).filter(|(p, l)| p == l).count();
    correct as f64 / labels.len().max(1) as f64
}

/// Which examples are predicted correctly.
pub fn answers(outputs: &Tensor, labels: &[usize]) -> Answers {
    Answers::of(predictions(outputs).into_iter().zip(labels.iter().copied()))
}

/// F1 of the second class, `2 TP / (2 TP + FP + FN)`, for outputs of two classes (\[N, 2\] or \[N, 1\]); 0 without a true
/// positive.
pub fn f1(outputs: &Tensor, labels: &[usize]) -> Option<f64> {
    (outputs.size()[1] <= 2).then(|| crate::stats::f1(predictions(outputs).into_iter().zip(labels.iter().copied())))
}

/// Accuracy and mean cross-entropy of logits on labelled examples.
pub fn evaluate(parameters: &Parameters, data: &LabelledExamples<'_>) -> Result<(f64, f64)> {
    let logits = all_outputs(parameters, data.examples, FORWARD_BATCH)?;
    let loss = cross_entropy(&logits, &data.label_tensor()).double_value(&[]);
    Ok((accuracy(&logits, data.labels), loss))
}
