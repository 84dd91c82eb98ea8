//! The runs of a grid of learning rates: each trained once and stored, and the best of each optimizer.

use super::super::along::{Along, Probes};
use super::super::examples::StudyExamples;
use super::super::kept::{Kept, rank};
use super::super::plan::Plan;
use super::super::side_by_side::{in_turn, side_by_side};
use super::super::splits::SplitName;
use super::super::store::ResultStore;
use super::super::study::Study;
use crate::error::{Error, Result};
use crate::evidence::{Candidate, Evaluation, StepResidual};
use crate::jacobian::{Examples, Parameters};
use crate::lm::OutputMode;
use crate::measure::Expansion;
use crate::progress::Monitor;
use crate::train::{FineTuning, LabelledExamples, OptimizerKind, Step, TrainedModel, Watch, fine_tune};

/// A run of the grid.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
pub(super) struct Run {
    pub candidate: Candidate,
    pub history: Vec<Evaluation>,
    pub residuals: Vec<StepResidual>,
}

/// An optimizer's selected run, with all of its runs.
pub(super) struct Chosen {
    pub settings: FineTuning,
    pub runs: Vec<Run>,
    best: usize,
    /// Number of dev examples measured along the runs.
    pub probes: usize,
    /// The expansion of the probes' outputs to the selected run's network, if this process measured it.
    pub expansion: Option<Expansion>,
}

impl Chosen {
    /// The same run, up to its selected step, with products in the network's own precision.
    pub fn in_own_precision(&self) -> Self {
        let steps = self.steps();
        let settings = FineTuning { parts: None, steps, eval_every: steps, ..self.settings.clone() };
        Self { settings, runs: vec![self.run().clone()], best: 0, probes: self.probes, expansion: None }
    }

    /// Steps up to the selected one: later ones were found to be no better on dev.
    fn steps(&self) -> usize {
        self.run().candidate.selected.map_or(self.settings.steps, |s| s.step)
    }

    pub fn run(&self) -> &Run {
        &self.runs[self.best]
    }
}

/// The runs of all optimizers.
pub(super) struct Grid<'a> {
    study: &'a Study,
    data: &'a TrainingData<'a>,
    pub probes: Probes<'a>,
    pub kept: Kept<'a>,
    /// One per optimizer.
    pub chosen: Vec<Chosen>,
}

impl<'a> Grid<'a> {
    /// Trains the runs that are not stored.
    pub fn of(
        study: &'a Study,
        plan: &Plan,
        data: &'a TrainingData<'a>,
        store: &'a ResultStore,
        monitor: &dyn Monitor,
    ) -> Result<Self> {
        let count = plan.settings.probes(data.dev.len());
        let examples = data.dev.select(&evenly(count, data.dev.len())).exact();
        let probes = Probes::new(examples, plan.settings.measured_steps());
        let all: Vec<FineTuning> = plan
            .settings
            .optimizers
            .iter()
            .flat_map(|o| o.learning_rates.iter().map(|rate| settings(plan, o.kind, *rate)))
            .collect();
        let name = |s: &FineTuning| format!("{}-{:e}", s.optimizer.name(), s.learning_rate);
        let depends = |s: &FineTuning| serde_json::json!(("run", s, &probes.steps, count));
        let mut found: Vec<Option<(Run, Option<Expansion>)>> =
            all.iter().map(|s| Some((store.get(&name(s), &depends(s), monitor)?, None))).collect();
        let missing: Vec<usize> = (0..all.len()).filter(|i| found[*i].is_none()).collect();
        let known =
            all.iter().zip(&found).filter_map(|(s, run)| Some((s.optimizer.name(), &run.as_ref()?.0.candidate)));
        let kept = Kept::new(store, &study.include, known);
        let titles: Vec<(String, u64)> = missing.iter().map(|i| (title(&all[*i]), all[*i].steps as u64)).collect();
        let include = &study.include;
        let shares = in_turn(&study.parameters, all.len());
        let trained = side_by_side(&study.parameters, all.len(), &titles, monitor, |(parameters, index, monitor)| {
            let settings = &all[missing[index]];
            kept.settle()?;
            let mut along = Along::new(&probes, parameters, shares);
            let mut see = |step: &Step<'_>| along.see(step);
            let watch = Watch::at(&probes.steps, &mut see);
            let trained = data.run(parameters, include, settings, monitor, Some(watch));
            let residuals = std::mem::take(&mut along.residuals);
            let rate = settings.learning_rate;
            let mut expansion = None;
            let run = match trained {
                Ok(TrainedModel { parameters, selected, history, diverged }) => {
                    let candidate = Candidate { learning_rate: rate, selected: Some(selected), diverged };
                    kept.offer(settings, &candidate, &parameters)?;
                    expansion = along.expansion(selected.step);
                    Run { candidate, history, residuals }
                }
                Err(e) if e.is_numeric() => {
                    let candidate = Candidate { learning_rate: rate, selected: None, diverged: true };
                    Run { candidate, history: Vec::new(), residuals }
                }
                Err(e) => return Err(e),
            };
            store.put(&name(settings), &depends(settings), &run)?;
            Ok((run, expansion))
        })?;
        for (i, run) in missing.into_iter().zip(trained) {
            found[i] = Some(run);
        }
        let mut found = found.into_iter().flatten();
        let mut chosen = Vec::new();
        for optimizer in &plan.settings.optimizers {
            let (runs, mut expansions): (Vec<Run>, Vec<_>) =
                found.by_ref().take(optimizer.learning_rates.len()).unzip();
            let best = best_rate(runs.iter().map(|r| &r.candidate)).ok_or_else(|| Error::Diverged {
                optimizer: optimizer.kind.name().into(),
                learning_rates: optimizer.learning_rates.clone(),
                when: "each time".into(),
                field: Some(optimizer.rates_field()),
            })?;
            let settings = settings(plan, optimizer.kind, optimizer.learning_rates[best]);
            let probes = if probes.steps.is_empty() { 0 } else { count };
            let expansion = expansions.swap_remove(best);
            chosen.push(Chosen { settings, runs, best, probes, expansion });
        }
        Ok(Self { study, data, probes, kept, chosen })
    }

    /// Trains a run outside the grid and returns its final network.
    pub fn train(&self, chosen: &Chosen, monitor: &dyn Monitor) -> Result<Parameters> {
        let settings = &chosen.settings;
        monitor.begin(&format!("{}, in the network's own precision", title(settings)), settings.steps as u64);
        let run = self.data.run(&self.study.parameters, &self.study.include, settings, monitor, None);
        monitor.end();
        Ok(run?.parameters)
    }

    /// What the residuals along the runs depend on: steps and number of probes.
    pub fn watched(&self) -> (&[usize], usize) {
        (&self.probes.steps, self.probes.examples.len())
    }

    /// Repeats selected runs whose networks were not kept, up to their selected steps: those of an interrupted analysis whose
    /// files were removed.
    pub fn repeat(&self, chosen: &[&Chosen], monitor: &dyn Monitor) -> Result<()> {
        let mut again = Vec::new();
        for chosen in chosen {
            if self.kept.read(&chosen.settings, &self.study.parameters)?.is_none() {
                again.push((&chosen.settings, chosen.run().candidate.selected, chosen.steps()));
            }
        }
        let titles: Vec<(String, u64)> =
            again.iter().map(|(settings, _, steps)| (format!("{}, again", title(settings)), *steps as u64)).collect();
        let planned = self.chosen.iter().map(|c| c.runs.len()).sum();
        let (data, include, kept) = (self.data, &self.study.include, &self.kept);
        side_by_side(&self.study.parameters, planned, &titles, monitor, |(parameters, index, monitor)| {
            let (whole, selected, steps) = again[index];
            let settings = FineTuning { steps, ..whole.clone() };
            kept.settle()?;
            let run = data.run(parameters, include, &settings, monitor, None)?;
            if Some(run.selected) != selected {
                monitor.note(&format!(
                    "{}: repeating the selected run gave other figures (dev loss {:.6} at step {}); the device computes \
                     in varying order, and the repeated run is measured",
                    settings.optimizer.name(),
                    run.selected.dev_loss,
                    run.selected.step
                ));
            }
            kept.write(whole, &run.parameters)
        })?;
        Ok(())
    }
}

/// `count` evenly spaced indices below `all`.
pub(super) fn evenly(count: usize, all: usize) -> Vec<usize> {
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
pub(super) struct TrainingData<'a> {
    pub train: StudyExamples<'a>,
    dev: StudyExamples<'a>,
    /// Labels of train and of dev.
    labels: [&'a [usize]; 2],
}

impl<'a> TrainingData<'a> {
    pub fn of(study: &'a Study) -> Result<Self> {
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
        watch: Option<Watch<'_>>,
    ) -> Result<TrainedModel> {
        let train = LabelledExamples { examples: &self.train, labels: self.labels[0] };
        let dev = LabelledExamples { examples: &self.dev, labels: self.labels[1] };
        fine_tune(parameters, &train, &dev, include, settings, monitor, watch)
    }
}
