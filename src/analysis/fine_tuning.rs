//! Fine-tuning over a grid of learning rates, and the measures of the selected run.
//!
//! Every run is trained once: residuals along it are measured during training, and each optimizer's best network is kept in a
//! file ([`Kept`]) until the whole grid is finished.

use tch::{Kind, Tensor};

use super::along::{Along, Probes};
use super::examples::StudyExamples;
use super::kept::{Kept, rank};
use super::kernels::train_kernel;
use super::plan::{Measures, Plan};
use super::side_by_side::side_by_side;
use super::splits::SplitName;
use super::store::ResultStore;
use super::study::Study;
use super::{Start, output_derivative};
use crate::error::{Error, Result};
use crate::evidence::{Candidate, Evaluation, FineTuningResult, Linearization, Movement, OwnPrecision, StepResidual};
use crate::jacobian::{Examples, Line, Parameters};
use crate::kernel::{Formula, Gram};
use crate::lm::{OutputMode, save_adapter};
use crate::measure::{Expansion, Known, Rounding, kernel_drift, sufficient_gradient_drift};
use crate::progress::Monitor;
use crate::task::Prompt;
use crate::train::{FineTuning, LabelledExamples, OptimizerKind, Step, TrainedModel, accuracy, answers, f1, fine_tune};

/// Number of test examples in the scatter plot of movements.
const MOVEMENTS: usize = 400;

/// Number of examples on which precisions are compared.
const COMPARED: usize = 4;

/// A run of the grid.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct Run {
    candidate: Candidate,
    history: Vec<Evaluation>,
    residuals: Vec<StepResidual>,
}

/// Runs the grids of all optimizers and measures each optimizer's best run; stores every run and its measures.
pub(super) fn fine_tuning(
    study: &Study,
    plan: &Plan,
    start: &Start<'_>,
    store: &ResultStore,
    monitor: &dyn Monitor,
) -> Result<Vec<FineTuningResult>> {
    let data = TrainingData::of(study)?;
    let grid = Grid::of(study, plan, &data, store, monitor)?;
    let depends = |c: &Chosen| {
        let candidates: Vec<Candidate> = c.runs.iter().map(|r| r.candidate.clone()).collect();
        serde_json::json!(("measures of a run", &c.settings, &plan.settings.formulas, candidates, grid.watched()))
    };
    let name = |c: &Chosen| format!("{}-measures", c.settings.optimizer.name());
    let stored: Vec<Option<FineTuningResult>> =
        grid.chosen.iter().map(|c| store.get(&name(c), &depends(c), monitor)).collect();
    let missing: Vec<&Chosen> = grid.chosen.iter().zip(&stored).filter(|(_, s)| s.is_none()).map(|(c, _)| c).collect();
    grid.repeat(&missing, monitor)?;
    let mut measured = Measured::default();
    let mut results = Vec::new();
    for (chosen, stored) in grid.chosen.iter().zip(stored) {
        let optimizer = chosen.settings.optimizer.name();
        let result = if let Some(result) = stored {
            result
        } else {
            let network = grid.kept.read(&chosen.settings, &study.parameters).ok_or_else(|| {
                Error::format(grid.kept.path(optimizer), "was removed while the analysis ran; start it again")
            })?;
            if let Some(lora) = study.adapters() {
                let facts = &study.model_facts;
                save_adapter(&store.adapter_path(optimizer), &facts.architecture, &facts.name, lora, &network)?;
            }
            let mut result = measured.end_of(study, plan, chosen, &network, (start, &data), monitor)?;
            if let Some(parts) = chosen.settings.parts {
                let own = chosen.in_own_precision();
                let network = grid.train(&own, monitor)?;
                let own = measured.end_of(study, plan, &own, &network, (start, &data), monitor)?;
                result.own_precision = Some(OwnPrecision::of(parts.name(), &result, &own));
            }
            store.put(&name(chosen), &depends(chosen), &result)?;
            result
        };
        grid.kept.remove(optimizer);
        results.push(result);
    }
    Ok(results)
}

/// An optimizer's selected run, with all of its runs.
struct Chosen {
    settings: FineTuning,
    runs: Vec<Run>,
    best: usize,
    /// Number of dev examples measured along the runs.
    probes: usize,
}

impl Chosen {
    /// The same run, up to its selected step, with products in the network's own precision.
    fn in_own_precision(&self) -> Self {
        let steps = self.run().candidate.selected.map_or(self.settings.steps, |s| s.step);
        let settings = FineTuning { parts: None, steps, eval_every: steps, ..self.settings.clone() };
        Self { settings, runs: vec![self.run().clone()], best: 0, probes: self.probes }
    }

    fn run(&self) -> &Run {
        &self.runs[self.best]
    }
}

/// The runs of all optimizers.
struct Grid<'a> {
    study: &'a Study,
    data: &'a TrainingData<'a>,
    probes: Probes<'a>,
    kept: Kept<'a>,
    /// One per optimizer.
    chosen: Vec<Chosen>,
}

impl<'a> Grid<'a> {
    /// Trains the runs that are not stored.
    fn of(
        study: &'a Study,
        plan: &Plan,
        data: &'a TrainingData<'a>,
        store: &'a ResultStore,
        monitor: &dyn Monitor,
    ) -> Result<Self> {
        let count = plan.settings.probes(data.dev.len());
        let probes = Probes {
            examples: data.dev.select(&evenly(count, data.dev.len())).exact(),
            steps: plan.settings.measured_steps(),
            batch: plan.batch,
        };
        let all: Vec<FineTuning> = plan
            .settings
            .optimizers
            .iter()
            .flat_map(|o| o.learning_rates.iter().map(|rate| settings(plan, o.kind, *rate)))
            .collect();
        let name = |s: &FineTuning| format!("{}-{:e}", s.optimizer.name(), s.learning_rate);
        let depends = |s: &FineTuning| serde_json::json!(("run", s, &probes.steps, count));
        let mut found: Vec<Option<Run>> = all.iter().map(|s| store.get(&name(s), &depends(s), monitor)).collect();
        let missing: Vec<usize> = (0..all.len()).filter(|i| found[*i].is_none()).collect();
        let known = all.iter().zip(&found).filter_map(|(s, run)| Some((s.optimizer.name(), &run.as_ref()?.candidate)));
        let kept = Kept::new(store, &study.include, known);
        let titles: Vec<(String, u64)> = missing.iter().map(|i| (title(&all[*i]), all[*i].steps as u64)).collect();
        let include = &study.include;
        let trained = side_by_side(&study.parameters, &titles, monitor, |(parameters, index, monitor)| {
            let settings = &all[missing[index]];
            let mut along = Along::new(&probes, parameters);
            let trained = data.run(parameters, include, settings, monitor, |step| along.see(step));
            let residuals = along.residuals;
            let rate = settings.learning_rate;
            let run = match trained {
                Ok(TrainedModel { parameters, selected, history, diverged }) => {
                    let candidate = Candidate { learning_rate: rate, selected: Some(selected), diverged };
                    kept.offer(settings, &candidate, &parameters)?;
                    Run { candidate, history, residuals }
                }
                Err(e) if e.is_numeric() => {
                    let candidate = Candidate { learning_rate: rate, selected: None, diverged: true };
                    Run { candidate, history: Vec::new(), residuals }
                }
                Err(e) => return Err(e),
            };
            store.put(&name(settings), &depends(settings), &run)?;
            Ok(run)
        })?;
        for (i, run) in missing.into_iter().zip(trained) {
            found[i] = Some(run);
        }
        let mut found = found.into_iter().flatten();
        let mut chosen = Vec::new();
        for optimizer in &plan.settings.optimizers {
            let runs: Vec<Run> = found.by_ref().take(optimizer.learning_rates.len()).collect();
            let best = best_rate(runs.iter().map(|r| &r.candidate)).ok_or_else(|| Error::Diverged {
                optimizer: optimizer.kind.name().into(),
                learning_rates: optimizer.learning_rates.clone(),
                when: "each time".into(),
                field: Some(optimizer.rates_field()),
            })?;
            let settings = settings(plan, optimizer.kind, optimizer.learning_rates[best]);
            let probes = if probes.steps.is_empty() { 0 } else { count };
            chosen.push(Chosen { settings, runs, best, probes });
        }
        Ok(Self { study, data, probes, kept, chosen })
    }

    /// Trains a run outside the grid and returns its final network.
    fn train(&self, chosen: &Chosen, monitor: &dyn Monitor) -> Result<Parameters> {
        let settings = &chosen.settings;
        monitor.begin(&format!("{}, in the network's own precision", title(settings)), settings.steps as u64);
        let run = self.data.run(&self.study.parameters, &self.study.include, settings, monitor, |_| Ok(()));
        monitor.end();
        Ok(run?.parameters)
    }

    /// What the residuals along the runs depend on: steps and number of probes.
    fn watched(&self) -> (&[usize], usize) {
        (&self.probes.steps, self.probes.examples.len())
    }

    /// Repeats selected runs whose networks were not kept, up to their selected steps: those of an interrupted analysis whose
    /// files were removed.
    fn repeat(&self, chosen: &[&Chosen], monitor: &dyn Monitor) -> Result<()> {
        let kept = |c: &Chosen| self.kept.read(&c.settings, &self.study.parameters).is_some();
        let again: Vec<&Chosen> = chosen.iter().copied().filter(|c| !kept(c)).collect();
        // Later steps were already found to be no better on dev.
        let until = |c: &Chosen| c.run().candidate.selected.map_or(c.settings.steps, |s| s.step);
        let titles: Vec<(String, u64)> =
            again.iter().map(|c| (format!("{}, again", title(&c.settings)), until(c) as u64)).collect();
        let (data, include, kept) = (self.data, &self.study.include, &self.kept);
        side_by_side(&self.study.parameters, &titles, monitor, |(parameters, index, monitor)| {
            let chosen = again[index];
            let settings = FineTuning { steps: until(chosen), ..chosen.settings.clone() };
            let run = data.run(parameters, include, &settings, monitor, |_| Ok(()))?;
            if Some(run.selected) != chosen.run().candidate.selected {
                monitor.note(&format!(
                    "{}: repeating the selected run gave other figures (dev loss {:.6} at step {}); the device computes \
                     in varying order, and the repeated run is measured",
                    settings.optimizer.name(),
                    run.selected.dev_loss,
                    run.selected.step
                ));
            }
            kept.write(&chosen.settings, &run.parameters)
        })?;
        Ok(())
    }
}

/// `count` evenly spaced indices below `all`.
fn evenly(count: usize, all: usize) -> Vec<usize> {
    (0..count).map(|i| i * all / count).collect()
}

fn title(settings: &FineTuning) -> String {
    format!("{}, learning rate {:e}", settings.optimizer.name(), settings.learning_rate)
}

fn settings(plan: &Plan, kind: OptimizerKind, rate: f64) -> FineTuning {
    FineTuning {
        optimizer: kind,
        learning_rate: rate,
        batch_size: plan.settings.batch_size,
        steps: plan.settings.steps,
        eval_every: plan.settings.eval_every,
        seed: plan.seed,
        parts: plan.settings.train_precision,
    }
}

/// Index of the best dev accuracy; ties by lower dev loss, then by smaller rate.
fn best_rate<'a>(candidates: impl IntoIterator<Item = &'a Candidate>) -> Option<usize> {
    let ranks: Vec<_> = candidates.into_iter().map(rank).collect();
    (0..ranks.len()).filter(|i| ranks[*i].is_some()).reduce(|best, i| if ranks[i] > ranks[best] { i } else { best })
}

/// Train and dev as label-word logits.
struct TrainingData<'a> {
    train: StudyExamples<'a>,
    dev: StudyExamples<'a>,
    /// Labels of train and of dev.
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

/// What the measures of several runs share.
#[derive(Default)]
struct Measured {
    rounding: Option<Rounding>,
    /// Outputs on test before training, in double precision, once needed.
    at_start: Option<Tensor>,
}

impl Measured {
    /// Measures the final network of the selected run.
    fn end_of(
        &mut self,
        study: &Study,
        plan: &Plan,
        chosen: &Chosen,
        network: &Parameters,
        (start, data): (&Start<'_>, &TrainingData<'_>),
        monitor: &dyn Monitor,
    ) -> Result<FineTuningResult> {
        let Chosen { settings, runs, probes, .. } = chosen;
        let Run { candidate, history, residuals } = chosen.run();
        let name = settings.optimizer.name();
        let test = study.examples(SplitName::Test, OutputMode::Logits)?.exact();
        monitor.begin(&format!("{name}, linearization and drift"), 3);
        let expansion = self.expansion(study, plan, network, &test, start)?;
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
            // The factors of both networks are in memory at once.
            sufficient_gradient_drift(ends, &features, 0, &study.include, plan.batch.min(COMPARED))?
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
            output_derivative: output_derivative(study, &class_logits(&moved), &expansion.end)?,
            own_precision: None,
        })
    }

    /// The expansion from the start to a trained network, on test.
    fn expansion(
        &mut self,
        study: &Study,
        plan: &Plan,
        network: &Parameters,
        test: &StudyExamples<'_>,
        start: &Start<'_>,
    ) -> Result<Expansion> {
        let few = test.select(&evenly(test.len().min(COMPARED), test.len()));
        let rounding = match self.rounding {
            Some(rounding) => rounding,
            None => *self.rounding.insert(Rounding::of(&study.parameters, &few, plan.batch, None)?),
        };
        let line = Line::new(&study.parameters, network);
        let start = &start.logits.test;
        if study.parameters.kind() == Kind::Double {
            // The start's logits may be rounded as in transformers; differences need exact ones.
            let known = Known { start: None, end: None };
            return Expansion::double(line, test, plan.batch, rounding, known);
        }
        Expansion::sufficient(line, (test, &few), plan.batch, rounding, Some(start), &mut self.at_start)
    }
}

/// Label-word logits \[N, C\] of a kernel's left examples, up to a constant per example, which does not change the output
/// derivative.
fn class_logits(kernel: &Gram) -> Tensor {
    let outputs = &kernel.left_outputs;
    if kernel.outputs > 1 { outputs.shallow_clone() } else { Tensor::cat(&[&outputs.zeros_like(), outputs], 1) }
}

/// Size of a movement of the parameters.
struct Direction {
    moved: f64,
    from: f64,
}

impl Direction {
    /// Computed tensor by tensor, in double precision.
    fn of(start: &Parameters, end: &Parameters) -> Self {
        let square = |t: Tensor| t.square().sum(Kind::Double).double_value(&[]);
        let wide = |t: &Tensor| t.detach().to_kind(Kind::Double);
        let (mut moved, mut from) = (0.0, 0.0);
        for (a, b) in start.values().iter().zip(end.values()) {
            let a = wide(a);
            moved += square(wide(b) - &a);
            from += square(a);
        }
        Self { moved: moved.sqrt(), from: from.sqrt() }
    }

    fn relative(&self) -> f64 {
        self.moved / self.from
    }
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
