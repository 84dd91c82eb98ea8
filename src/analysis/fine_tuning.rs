//! Fine-tuning over a grid of learning rates, and the measures of the selected run.

use tch::{Kind, Tensor};

use super::examples::StudyExamples;
use super::kernels::train_kernel;
use super::parts::Parts;
use super::plan::{Measures, OptimizerPlan, Plan};
use super::study::{SplitName, Study};
use super::{Start, output_derivative};
use crate::error::{Error, Result};
use crate::evidence::{Candidate, Evaluation, FineTuningResult, Linearization, Movement, StepResidual};
use crate::jacobian::{Examples, Parameters, outputs};
use crate::kernel::Formula;
use crate::lm::{OutputMode, save_adapter};
use crate::measure::{gradient_drift, kernel_drift, relative_residual, taylor};
use crate::progress::Monitor;
use crate::train::{FineTuning, LabelledExamples, OptimizerKind, Step, TrainedModel, accuracy, f1, fine_tune};

/// Test examples whose movement is kept for the scatter plot.
const MOVEMENTS: usize = 400;

/// Runs the grid of one optimizer and measures the best run; every run and the measures are stored parts.
pub(super) fn fine_tuning(
    study: &Study,
    plan: &Plan,
    optimizer: &OptimizerPlan,
    start: &Start<'_>,
    parts: &Parts,
    monitor: &dyn Monitor,
) -> Result<FineTuningResult> {
    let name = optimizer.kind.name();
    let data = TrainingData::of(study)?;
    let mut runs: Vec<(Candidate, Vec<Evaluation>)> = Vec::new();
    let mut kept: Option<(usize, TrainedModel)> = None;
    for rate in &optimizer.learning_rates {
        let settings = settings(plan, optimizer.kind, *rate);
        let mut trained = None;
        runs.push(parts.json(&format!("{name}-{rate:e}"), &("candidate", &settings), monitor, || {
            monitor.begin(&format!("{name}, learning rate {rate:e}"), plan.steps as u64);
            let run = data.run(study, &settings, monitor, |_| Ok(()));
            monitor.end();
            match run {
                Ok(run) => {
                    let found =
                        Candidate { learning_rate: *rate, selected: Some(run.selected), diverged: run.diverged };
                    let history = run.history.clone();
                    trained = Some(run);
                    Ok((found, history))
                }
                Err(Error::Numeric(_)) => {
                    Ok((Candidate { learning_rate: *rate, selected: None, diverged: true }, Vec::new()))
                }
                Err(e) => Err(e),
            }
        })?);
        // Where nothing is watched along the run, it need not be repeated: the best network so far is kept.
        let best = best_rate(runs.iter().map(|(c, _)| c));
        if let Some(run) = trained.filter(|_| plan.measures == Measures::End && best == Some(runs.len() - 1)) {
            kept = Some((runs.len() - 1, run));
        }
    }
    let candidates: Vec<Candidate> = runs.iter().map(|(c, _)| c.clone()).collect();
    let Some(best) = best_rate(&candidates) else {
        return Err(Error::Numeric(format!(
            "{name} diverged at every learning rate ({}); give smaller ones with --lr-{name}",
            optimizer.learning_rates.iter().map(|r| format!("{r:e}")).collect::<Vec<_>>().join(", ")
        )));
    };
    let settings = settings(plan, optimizer.kind, candidates[best].learning_rate);
    let kept = kept.filter(|(i, _)| *i == best).map(|(_, run)| run);
    let depends = ("measures", &settings, &plan.formulas, &candidates, plan.measures);
    parts.json(&format!("{name}-measures"), &depends, monitor, || {
        let (run, steps) = match kept {
            Some(run) => (run, Vec::new()),
            None => repeat(study, plan, &settings, &runs[best].0, monitor)?,
        };
        if let Some(lora) = study.adapters() {
            let facts = &study.model_facts;
            save_adapter(&parts.adapter_path(name), &facts.architecture, &facts.name, lora, &run.parameters)?;
        }
        measure(study, plan, &settings, (&runs, best), (&run, steps), start, monitor)
    })
}

fn settings(plan: &Plan, kind: OptimizerKind, rate: f64) -> FineTuning {
    FineTuning {
        optimizer: kind,
        learning_rate: rate,
        batch_size: plan.batch_size,
        steps: plan.steps,
        eval_every: plan.eval_every,
        seed: plan.seed,
    }
}

/// Index of the best dev accuracy, ties by lower dev loss, then by the smaller rate.
fn best_rate<'a>(candidates: impl IntoIterator<Item = &'a Candidate>) -> Option<usize> {
    let candidates: Vec<&Candidate> = candidates.into_iter().collect();
    let key = |i: usize| candidates[i].selected.map(|s| (s.dev_accuracy, -s.dev_loss, -candidates[i].learning_rate));
    (0..candidates.len()).filter(|i| key(*i).is_some()).reduce(|best, i| if key(i) > key(best) { i } else { best })
}

/// Train and dev with label-word logits.
struct TrainingData<'a> {
    train: StudyExamples<'a>,
    dev: StudyExamples<'a>,
}

impl<'a> TrainingData<'a> {
    fn of(study: &'a Study) -> Result<Self> {
        Ok(Self {
            train: study.examples(SplitName::Train, OutputMode::Logits)?,
            dev: study.examples(SplitName::Dev, OutputMode::Logits)?,
        })
    }

    fn run(
        &self,
        study: &Study,
        settings: &FineTuning,
        monitor: &dyn Monitor,
        observe: impl FnMut(&Step<'_>) -> Result<()>,
    ) -> Result<TrainedModel> {
        let train = LabelledExamples { examples: &self.train, labels: study.labels(SplitName::Train) };
        let dev = LabelledExamples { examples: &self.dev, labels: study.labels(SplitName::Dev) };
        fine_tune(&study.parameters, &train, &dev, &study.include, settings, monitor, observe)
    }
}

/// Repeats the selected run up to its selected step, watching the linearization where the plan says so.
fn repeat(
    study: &Study,
    plan: &Plan,
    settings: &FineTuning,
    chosen: &Candidate,
    monitor: &dyn Monitor,
) -> Result<(TrainedModel, Vec<StepResidual>)> {
    let name = settings.optimizer.name();
    let data = TrainingData::of(study)?;
    // Later steps were already found to be no better on dev.
    let last = chosen.selected.map_or(settings.steps, |s| s.step);
    let until = FineTuning { steps: last, ..settings.clone() };
    let mut residuals = Vec::new();
    monitor.begin(&format!("{name}, measures along the run"), last as u64);
    let run = data.run(study, &until, monitor, |step| {
        if plan.measures == Measures::Full && (step.number <= 5 || step.number % settings.eval_every == 0) {
            residuals.push(step_residual(study, plan, step, &data.dev)?);
        }
        Ok(())
    });
    monitor.end();
    let run = run?;
    if Some(run.selected) != chosen.selected {
        monitor.note(&format!(
            "{name}: repeating the selected run gave other figures (dev loss {:.6} at step {}); the device computes in \
             varying order, and the repeated run is reported",
            run.selected.dev_loss, run.selected.step
        ));
    }
    Ok((run, residuals))
}

/// Measures where the selected run ended.
fn measure(
    study: &Study,
    plan: &Plan,
    settings: &FineTuning,
    (runs, best): (&[(Candidate, Vec<Evaluation>)], usize),
    (run, residuals): (&TrainedModel, Vec<StepResidual>),
    start: &Start<'_>,
    monitor: &dyn Monitor,
) -> Result<FineTuningResult> {
    let name = settings.optimizer.name();
    let data = TrainingData::of(study)?;
    let history = &runs[best].1;
    let full = plan.measures == Measures::Full;

    // Differences of nearly equal outputs: double precision, or round-off would pass for curvature. Parameters of
    // single precision are exact in double.
    let exact = |p: &Parameters| if full { precise(p) } else { p.map(Tensor::detach) };
    let (first, last) = (exact(&study.parameters), exact(&run.parameters));
    let direction = last.minus(&first);
    let test = study.examples(SplitName::Test, OutputMode::Logits)?;
    monitor.begin(&format!("{name}, linearization and drift"), 3);
    let expansion = taylor(&first, &direction, &test, &study.include, plan.batch)?;
    monitor.advance(1);
    let (at_test, at_train) = (outputs(&last, &test, plan.batch), outputs(&last, &data.train, plan.batch));
    study.check_finite(&at_test, SplitName::Test)?;
    let labels = study.labels(SplitName::Test);
    let (before, after) = (accuracy(&start.logits.test, labels), accuracy(&at_test, labels));
    let linearized = expansion.linearized();
    let linear_accuracy = accuracy(&linearized, labels);
    let features = study.examples(SplitName::Train, study.mode)?;
    let gradients = if full {
        gradient_drift(&study.parameters, &run.parameters, &features, &study.include, plan.batch)?
    } else {
        None
    };
    monitor.advance(1);
    monitor.end();
    let moved = train_kernel(study, &run.parameters, plan, &format!("kernel of train after {name}"), monitor)?;
    let drifts = plan
        .formulas
        .iter()
        .filter_map(|f| Some((f.name().to_owned(), kernel_drift(start.kernel.matrix(*f)?, moved.matrix(*f)?)?)))
        .collect();
    Ok(FineTuningResult {
        optimizer: name.into(),
        analog: match settings.optimizer {
            OptimizerKind::Sgd => Formula::Sgd.name().into(),
            OptimizerKind::Signgd | OptimizerKind::Adam { .. } => Formula::Asymmetric.name().into(),
        },
        batch_size: settings.batch_size.min(data.train.len()),
        steps: settings.steps,
        candidates: runs.iter().map(|(c, _)| c.clone()).collect(),
        learning_rate: settings.learning_rate,
        selected: run.selected,
        history: history.clone(),
        test_accuracy: after,
        test_f1: f1(&at_test, labels),
        parameter_change: norm(&direction) / norm(&study.parameters),
        linearization: Linearization {
            test_accuracy: linear_accuracy,
            recovered_share: (after > before).then(|| (linear_accuracy - before) / (after - before)),
            cumulative_residual: relative_residual(&(&at_test - &expansion.value), &expansion.slope),
            steps: residuals,
            movements: movements(&at_test, &linearized, labels),
        },
        gradient_drift: gradients,
        kernel_drift: drifts,
        output_derivative: output_derivative(study, &at_train, &at_test)?,
    })
}

/// The same values in double precision.
fn precise(parameters: &Parameters) -> Parameters {
    parameters.map(|v| v.detach().to_kind(Kind::Double))
}

/// Per-step and cumulative residual on dev, in double precision.
fn step_residual(study: &Study, plan: &Plan, step: &Step<'_>, dev: &StudyExamples<'_>) -> Result<StepResidual> {
    let (first, before, after) = (precise(&study.parameters), precise(step.before), precise(step.after));
    let local = taylor(&before, &after.minus(&before), dev, &study.include, plan.batch)?;
    let whole = taylor(&first, &after.minus(&first), dev, &study.include, plan.batch)?;
    let after = outputs(&after, dev, plan.batch);
    Ok(StepResidual {
        step: step.number,
        residual: relative_residual(&(&after - &local.value), &local.slope),
        cumulative: relative_residual(&(&after - &whole.value), &whole.slope),
    })
}

fn norm(parameters: &Parameters) -> f64 {
    let squares: f64 =
        parameters.values().iter().map(|v| v.to_kind(Kind::Double).square().sum(Kind::Double).double_value(&[])).sum();
    squares.sqrt()
}

/// Margins of the right class over the best other one, of the first [`MOVEMENTS`] examples.
fn movements(trained: &Tensor, linearized: &Tensor, labels: &[usize]) -> Vec<Movement> {
    let margins = |logits: &Tensor| -> Vec<f64> {
        let count = logits.size()[1] as usize;
        let flat = Vec::<f64>::try_from(logits.contiguous().view(-1)).expect("a flat f64 tensor");
        labels
            .iter()
            .enumerate()
            .map(|(i, label)| {
                let row = &flat[i * count..(i + 1) * count];
                let others = row.iter().enumerate().filter(|(c, _)| c != label).map(|(_, f)| *f);
                row[*label] - others.fold(f64::NEG_INFINITY, f64::max)
            })
            .collect()
    };
    let (a, b) = (margins(trained), margins(linearized));
    labels
        .iter()
        .zip(a.into_iter().zip(b))
        .take(MOVEMENTS)
        .map(|(class, (trained, linearized))| Movement { trained, linearized, class: *class })
        .collect()
}
