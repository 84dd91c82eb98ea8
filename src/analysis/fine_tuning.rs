//! Fine-tuning over a grid of learning rates, and the measures of the selected run.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tch::{Kind, Tensor};

use super::examples::StudyExamples;
use super::kernels::train_kernel;
use super::parts::Parts;
use super::plan::{Measures, Plan};
use super::side_by_side::side_by_side;
use super::study::{SplitName, Study};
use super::{Start, output_derivative};
use crate::error::{Error, Result};
use crate::evidence::{Candidate, Evaluation, FineTuningResult, Linearization, Movement, StepResidual};
use crate::jacobian::{Examples, Parameters, outputs};
use crate::kernel::Formula;
use crate::lm::{OutputMode, save_adapter};
use crate::measure::{gradient_drift, kernel_drift, relative_residual, taylor};
use crate::progress::Monitor;
use crate::task::Prompt;
use crate::train::{FineTuning, LabelledExamples, OptimizerKind, Step, TrainedModel, accuracy, f1, fine_tune};

/// Test examples whose movement is kept for the scatter plot.
const MOVEMENTS: usize = 400;

/// A run of the grid: its candidate and its evaluations.
type Run = (Candidate, Vec<Evaluation>);

/// Runs the grids of all optimizers and measures the best run of each; every run and its measures are stored parts.
pub(super) fn fine_tuning(
    study: &Study,
    plan: &Plan,
    start: &Start<'_>,
    parts: &Parts,
    monitor: &dyn Monitor,
) -> Result<Vec<FineTuningResult>> {
    let data = TrainingData::of(study)?;
    let (grids, kept) = grids(study, plan, &data, parts, monitor)?;
    let mut chosen = Vec::new();
    for (optimizer, runs) in plan.optimizers.iter().zip(grids) {
        let best = best_rate(runs.iter().map(|(c, _)| c)).ok_or_else(|| {
            Error::Numeric(format!(
                "{} diverged at every learning rate ({}); give smaller ones: {}",
                optimizer.kind.name(),
                optimizer.learning_rates.iter().map(|r| format!("{r:e}")).collect::<Vec<_>>().join(", "),
                optimizer.rates_field()
            ))
        })?;
        let settings = settings(plan, optimizer.kind, optimizer.learning_rates[best]);
        chosen.push(Chosen { settings, runs, best });
    }
    let depends = |c: &Chosen| {
        let candidates: Vec<Candidate> = c.runs.iter().map(|(c, _)| c.clone()).collect();
        serde_json::json!(("measures", &c.settings, &plan.formulas, candidates, plan.measures))
    };
    let name = |c: &Chosen| format!("{}-measures", c.settings.optimizer.name());
    let stored: Vec<Option<FineTuningResult>> =
        chosen.iter().map(|c| parts.stored(&name(c), &depends(c), monitor)).collect();
    let missing: Vec<usize> = (0..chosen.len()).filter(|i| stored[*i].is_none()).collect();
    let ends = ends(study, plan, &data, &missing.iter().map(|i| &chosen[*i]).collect::<Vec<_>>(), kept, monitor)?;
    let mut ends = ends.into_iter();
    let mut results = Vec::new();
    for (chosen, stored) in chosen.iter().zip(stored) {
        if let Some(result) = stored {
            results.push(result);
            continue;
        }
        let (run, residuals) = ends.next().expect("an end for each result that is not stored");
        if let Some(lora) = study.adapters() {
            let (facts, optimizer) = (&study.model_facts, chosen.settings.optimizer.name());
            let path = parts.adapter_path(optimizer);
            save_adapter(&path, &facts.architecture, &facts.name, lora, &run.parameters)?;
        }
        let result = measure(study, plan, chosen, (&run, residuals), start, monitor)?;
        parts.store(&name(chosen), &depends(chosen), &result)?;
        results.push(result);
    }
    Ok(results)
}

/// The selected run of an optimizer.
struct Chosen {
    settings: FineTuning,
    runs: Vec<Run>,
    best: usize,
}

/// All runs, optimizer by optimizer; and where nothing is watched along the run, so that the selected one need not be repeated,
/// the best network of each optimizer that was trained now.
fn grids(
    study: &Study,
    plan: &Plan,
    data: &TrainingData<'_>,
    parts: &Parts,
    monitor: &dyn Monitor,
) -> Result<(Vec<Vec<Run>>, Best)> {
    let all: Vec<FineTuning> = plan
        .optimizers
        .iter()
        .flat_map(|o| o.learning_rates.iter().map(|rate| settings(plan, o.kind, *rate)))
        .collect();
    let name = |s: &FineTuning| format!("{}-{:e}", s.optimizer.name(), s.learning_rate);
    let depends = |s: &FineTuning| serde_json::json!(("candidate", s));
    let mut found: Vec<Option<Run>> = all.iter().map(|s| parts.stored(&name(s), &depends(s), monitor)).collect();
    let missing: Vec<usize> = (0..all.len()).filter(|i| found[*i].is_none()).collect();
    let kept = Mutex::new(Best::new());
    let titles: Vec<(String, u64)> = missing.iter().map(|i| (title(&all[*i]), all[*i].steps as u64)).collect();
    let include = &study.include;
    let trained = side_by_side(&study.parameters, &titles, monitor, |(parameters, index, monitor)| {
        let settings = &all[missing[index]];
        let run = match data.run(parameters, include, settings, monitor, |_| Ok(())) {
            Ok(run) => {
                let selected = Some(run.selected);
                let candidate = Candidate { learning_rate: settings.learning_rate, selected, diverged: run.diverged };
                let found = (candidate, run.history.clone());
                if plan.measures == Measures::End {
                    keep(&mut kept.lock().unwrap_or_else(PoisonError::into_inner), settings, run);
                }
                found
            }
            Err(Error::Numeric(_)) => {
                (Candidate { learning_rate: settings.learning_rate, selected: None, diverged: true }, Vec::new())
            }
            Err(e) => return Err(e),
        };
        parts.store(&name(settings), &depends(settings), &run)?;
        Ok(run)
    })?;
    for (i, run) in missing.into_iter().zip(trained) {
        found[i] = Some(run);
    }
    let mut found = found.into_iter().flatten();
    let grids = plan.optimizers.iter().map(|o| found.by_ref().take(o.learning_rates.len()).collect()).collect();
    Ok((grids, kept.into_inner().unwrap_or_else(PoisonError::into_inner)))
}

/// The best trained network of each optimizer, by name, with its settings.
type Best = HashMap<&'static str, (FineTuning, TrainedModel)>;

fn keep(best: &mut Best, settings: &FineTuning, run: TrainedModel) {
    let key = |rate: f64, run: &TrainedModel| (run.selected.dev_accuracy, -run.selected.dev_loss, -rate);
    let new = key(settings.learning_rate, &run);
    let name = settings.optimizer.name();
    if best.get(name).is_none_or(|(known, old)| new > key(known.learning_rate, old)) {
        best.insert(name, (settings.clone(), run));
    }
}

/// Where the selected runs ended, with what was watched along them: kept, or repeated up to the selected step.
fn ends(
    study: &Study,
    plan: &Plan,
    data: &TrainingData<'_>,
    chosen: &[&Chosen],
    mut kept: Best,
    monitor: &dyn Monitor,
) -> Result<Vec<(TrainedModel, Vec<StepResidual>)>> {
    let kept: Vec<Option<TrainedModel>> = chosen
        .iter()
        .map(|c| {
            let (settings, run) = kept.remove(c.settings.optimizer.name())?;
            (settings == c.settings).then_some(run)
        })
        .collect();
    let again: Vec<&Chosen> = chosen.iter().zip(&kept).filter(|(_, run)| run.is_none()).map(|(c, _)| *c).collect();
    let titles: Vec<(String, u64)> = again
        .iter()
        .map(|c| (format!("{}, measures along the run", c.settings.optimizer.name()), c.last_step() as u64))
        .collect();
    let include = &study.include;
    let repeated = side_by_side(&study.parameters, &titles, monitor, |(parameters, index, monitor)| {
        repeat(parameters, include, plan, again[index], data, monitor)
    })?;
    let mut repeated = repeated.into_iter();
    Ok(kept.into_iter().filter_map(|run| run.map(|run| (run, Vec::new())).or_else(|| repeated.next())).collect())
}

fn title(settings: &FineTuning) -> String {
    format!("{}, learning rate {:e}", settings.optimizer.name(), settings.learning_rate)
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
    /// Of train and dev.
    labels: [&'a [usize]; 2],
}

impl<'a> TrainingData<'a> {
    fn of(study: &'a Study) -> Result<Self> {
        Ok(Self {
            train: study.examples(SplitName::Train, OutputMode::Logits)?,
            dev: study.examples(SplitName::Dev, OutputMode::Logits)?,
            labels: [study.labels(SplitName::Train), study.labels(SplitName::Dev)],
        })
    }

    fn run(
        &self,
        parameters: &Parameters,
        include: &[bool],
        settings: &FineTuning,
        monitor: &dyn Monitor,
        observe: impl FnMut(&Step<'_>) -> Result<()>,
    ) -> Result<TrainedModel> {
        let train = LabelledExamples { examples: &self.train, labels: self.labels[0] };
        let dev = LabelledExamples { examples: &self.dev, labels: self.labels[1] };
        fine_tune(parameters, &train, &dev, include, settings, monitor, observe)
    }
}

impl Chosen {
    fn candidate(&self) -> &Candidate {
        &self.runs[self.best].0
    }

    /// Later steps were already found to be no better on dev.
    fn last_step(&self) -> usize {
        self.candidate().selected.map_or(self.settings.steps, |s| s.step)
    }
}

/// Repeats the selected run up to its selected step, watching the linearization where the plan says so.
fn repeat(
    start: &Parameters,
    include: &[bool],
    plan: &Plan,
    chosen: &Chosen,
    data: &TrainingData<'_>,
    monitor: &dyn Monitor,
) -> Result<(TrainedModel, Vec<StepResidual>)> {
    let settings = &chosen.settings;
    let until = FineTuning { steps: chosen.last_step(), ..settings.clone() };
    let mut residuals = Vec::new();
    let run = data.run(start, include, &until, monitor, |step| {
        if plan.measures == Measures::Full && (step.number <= 5 || step.number % settings.eval_every == 0) {
            residuals.push(step_residual(start, include, plan, step, &data.dev)?);
        }
        Ok(())
    })?;
    if Some(run.selected) != chosen.candidate().selected {
        monitor.note(&format!(
            "{}: repeating the selected run gave other figures (dev loss {:.6} at step {}); the device computes in \
             varying order, and the repeated run is reported",
            settings.optimizer.name(),
            run.selected.dev_loss,
            run.selected.step
        ));
    }
    Ok((run, residuals))
}

/// Measures where the selected run ended.
fn measure(
    study: &Study,
    plan: &Plan,
    chosen: &Chosen,
    (run, residuals): (&TrainedModel, Vec<StepResidual>),
    start: &Start<'_>,
    monitor: &dyn Monitor,
) -> Result<FineTuningResult> {
    let Chosen { settings, runs, best } = chosen;
    let name = settings.optimizer.name();
    let data = TrainingData::of(study)?;
    let history = &runs[*best].1;
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
            movements: movements(&at_test, &linearized, study.prompts(SplitName::Test)),
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
fn step_residual(
    start: &Parameters,
    include: &[bool],
    plan: &Plan,
    step: &Step<'_>,
    dev: &StudyExamples<'_>,
) -> Result<StepResidual> {
    let (first, before, after) = (precise(start), precise(step.before), precise(step.after));
    let local = taylor(&before, &after.minus(&before), dev, include, plan.batch)?;
    let whole = taylor(&first, &after.minus(&first), dev, include, plan.batch)?;
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
